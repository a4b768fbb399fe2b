/* SPDX-License-Identifier: MIT */
/* A decision told rule by rule, by trying what each rule asks for in turn: apart from the sets of match.c, with which it
 * must agree (tests/unit/authorizer_rules). */
#include "private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES 1000u

typedef struct line {
    char text[LINE_BYTES];
    size_t n;
} line;

static void add(line *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(line *l, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(l->text + l->n, sizeof l->text - l->n, fmt, args);
    va_end(args);
    l->n += n > 0 ? (size_t)n : 0;
    if (l->n >= sizeof l->text)
        l->n = sizeof l->text - 1;
}

static void add_roles(line *l, uint32_t roles, const char *before)
{
    static const char *const names[] = {"worker", "reader", "writer", "admin"};
    for (uint32_t i = 0; i < 4; i++)
        if (roles & (1u << i))
            add(l, " %s%s", before, names[i]);
}

static void add_classes(line *l, uint32_t mask, const char *const *names, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        if (mask & (1u << i))
            add(l, " %s", names[i]);
}

static bool takes_class(const rl_rule *rule, const tn_call_target *target, line *l)
{
    uint32_t access = target->access < 4 ? target->access : 0,
             scope = target->scope < 3 ? target->scope : 0;
    if (rule->access && !(rule->access & (1u << access))) {
        add(l, "no: access is %s, the rule is for", rl_access_names[access]);
        add_classes(l, rule->access, rl_access_names, 4);
        return false;
    }
    if (rule->scope && !(rule->scope & (1u << scope))) {
        add(l, "no: scope is %s, the rule is for", rl_scope_names[scope]);
        add_classes(l, rule->scope, rl_scope_names, 3);
        return false;
    }
    return true;
}

static bool takes_caller(const rl_rule *rule, const tn_claims *claims, const tn_call_target *target,
                         line *l)
{
    if (!claims->present && !rule->anonymous) {
        add(l, "no: the caller shows nothing, and the rule is not for anonymous ones");
        return false;
    }
    uint32_t here = claims->present ? rl_roles_here(claims, target) : 0;
    uint32_t system = 0;
    if (claims->present) { /* of the system only */
        tn_call_target nowhere = {.struct_size = sizeof nowhere, .scope = TN_SCOPE_CLUSTER};
        system = rl_roles_here(claims, &nowhere);
    }
    if (rl_roles_fit(rule, here, system))
        return true;
    add(l, "no: wants one of the roles");
    add_roles(l, rule->roles, "");
    add_roles(l, rule->system, "system:");
    add(l, "; the caller has%s", here ? "" : " none here");
    add_roles(l, here, "");
    return false;
}

static bool takes_field(const rl_policy *policy, size_t index, rl_field_id id, tn_str value,
                        line *l)
{
    const rl_field *field = &policy->fields[id];
    size_t shown = 0;
    if (!(policy->rules[index].fields & (1u << id)))
        return true;
    for (size_t i = 0; i < field->n; i++)
        if ((field->patterns[i].rules[index / 64] >> (index % 64) & 1) &&
            rl_pattern_takes(&field->patterns[i], id, value))
            return true;
    add(l, "no: %s \"%.*s\" is not", rl_field_names[id], (int)(value.n < 200 ? value.n : 200),
        value.n ? value.p : "");
    for (size_t i = 0; i < field->n && shown < 6; i++)
        if (field->patterns[i].rules[index / 64] >> (index % 64) & 1)
            add(l, "%s \"%.100s\"", shown++ ? "," : "", field->patterns[i].text);
    return false;
}

void rl_explain(const rl_policy *policy, const tn_claims *claims, const tn_call_target *target,
                void (*say)(void *user, const char *text, size_t n), void *user)
{
    tn_str values[RL_FIELDS];
    rl_values_of(claims, target, values);
    for (size_t i = 0; i < policy->n_rules; i++) {
        const rl_rule *rule = &policy->rules[i];
        line l = {.n = 0};
        add(&l, "%s:%u: %s%s%s", policy->path, rule->line, rule->name ? "\"" : "",
            rule->name ? rule->name : "", rule->name ? "\": " : "");
        bool yes = takes_caller(rule, claims, target, &l) && takes_class(rule, target, &l);
        for (uint32_t f = 0; yes && f < RL_FIELDS; f++)
            yes = takes_field(policy, i, f, values[f], &l);
        if (yes)
            add(&l, "yes: %s", rule->allow ? "allow" : "deny");
        say(user, l.text, l.n);
        if (yes)
            return;
    }
    line l = {.n = 0};
    add(&l, "%s: no rule is for this call: deny", policy->path);
    say(user, l.text, l.n);
}
