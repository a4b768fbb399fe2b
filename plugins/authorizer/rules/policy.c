/* SPDX-License-Identifier: MIT */
/* A policy in memory: its rules, each distinct pattern once, and the sets of rules that stand for patterns, roles and
 * classes. */
#include "private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const rl_field_names[RL_FIELDS] = {"subject", "namespace", "method", "taskQueue",
                                               "workflowType"};
const char *const rl_access_names[4] = {"unknown", "read", "write", "admin"};
const char *const rl_scope_names[3] = {"unknown", "namespace", "cluster"};

tn_status rl_error(tn_error *err, tn_status code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    err->code = code;
    err->vendor_code = 0;
    return code;
}

rl_policy *rl_policy_create(const char *path)
{
    rl_policy *policy = calloc(1, sizeof *policy);
    if (!policy)
        return NULL;
    policy->path = strdup(path);
    policy->refs = 1;
    if (!policy->path) {
        free(policy);
        return NULL;
    }
    const char *slash = strrchr(policy->path, '/');
    policy->base = slash ? slash + 1 : policy->path;
    return policy;
}

void rl_policy_unref(rl_policy *policy)
{
    if (!policy || atomic_fetch_sub(&policy->refs, 1) != 1)
        return;
    for (size_t f = 0; f < RL_FIELDS; f++) {
        rl_field *field = &policy->fields[f];
        for (size_t i = 0; i < field->n; i++) {
            free(field->patterns[i].glob);
            free(field->patterns[i].text);
            free(field->patterns[i].rules);
        }
        free(field->patterns);
        free(field->uses);
        free(field->any);
    }
    for (size_t i = 0; i < policy->n_rules; i++) {
        free(policy->rules[i].name);
        free(policy->rules[i].reason);
    }
    free(policy->rules);
    free(policy->role_sets);
    free(policy->class_sets);
    free(policy->path);
    free(policy);
}

/* ---- patterns ---- */

static bool grow(void *list, size_t *cap, size_t n, size_t size)
{
    if (n < *cap)
        return true;
    size_t more = *cap ? *cap * 2 : 16;
    void *old;
    memcpy(&old, list, sizeof old);
    void *grown = reallocarray(old, more, size);
    if (!grown)
        return false;
    memcpy(list, &grown, sizeof grown);
    *cap = more;
    return true;
}

static size_t find_pattern(const rl_field *field, const char *text, size_t n)
{
    for (size_t i = 0; i < field->n; i++)
        if (field->patterns[i].n == n && memcmp(field->patterns[i].text, text, n) == 0)
            return i;
    return field->n;
}

static bool add_pattern(rl_policy *policy, rl_field *field, const char *text, size_t n,
                        const char **out_why)
{
    *out_why = "the policy has more than 8192 different patterns";
    if (policy->n_patterns >= RL_PATTERNS_MAX)
        return false;
    *out_why = "out of memory";
    if (!grow(&field->patterns, &field->cap, field->n, sizeof field->patterns[0]))
        return false;
    rl_pattern made = {.text = malloc(n + 1), .n = n, .whole = n && text[0] == '/'};
    if (!made.text)
        return false;
    memcpy(made.text, text, n);
    made.text[n] = 0;
    made.glob = az_glob_compile(text, n, out_why);
    if (!made.glob) {
        free(made.text);
        return false;
    }
    field->patterns[field->n++] = made;
    policy->n_patterns++;
    return true;
}

bool rl_policy_pattern(rl_policy *policy, rl_field_id id, uint32_t rule, const char *text, size_t n,
                       const char **out_why)
{
    rl_field *field = &policy->fields[id];
    if (n > RL_PATTERN_BYTES_MAX) {
        *out_why = "a pattern has at most 1024 bytes";
        return false;
    }
    size_t at = find_pattern(field, text, n);
    if (at == field->n && !add_pattern(policy, field, text, n, out_why))
        return false;
    *out_why = "out of memory";
    if (!grow(&field->uses, &field->uses_cap, field->n_uses, sizeof field->uses[0]))
        return false;
    field->uses[field->n_uses++] = (rl_use){(uint32_t)at, rule};
    return true;
}

bool rl_pattern_takes(const rl_pattern *pattern, rl_field_id field, tn_str value)
{
    if (field == RL_METHOD && !pattern->whole) {
        const char *slash = value.n ? memrchr(value.p, '/', value.n) : NULL;
        size_t skip = slash ? (size_t)(slash - value.p) + 1 : 0;
        if (skip)
            value = (tn_str){value.p + skip, value.n - skip};
    }
    return az_glob_match(pattern->glob, value.n ? value.p : "", value.n);
}

/* ---- sets ---- */

static void put(uint64_t *set, size_t rule) { set[rule / 64] |= UINT64_C(1) << (rule % 64); }

static bool finish_field(rl_policy *policy, rl_field_id id)
{
    rl_field *field = &policy->fields[id];
    field->any = calloc(policy->words, sizeof(uint64_t));
    if (!field->any)
        return false;
    for (size_t i = 0; i < policy->n_rules; i++)
        if (!(policy->rules[i].fields & (1u << id)))
            put(field->any, i);
    for (size_t i = 0; i < field->n; i++) {
        field->patterns[i].rules = calloc(policy->words, sizeof(uint64_t));
        if (!field->patterns[i].rules)
            return false;
    }
    for (size_t i = 0; i < field->n_uses; i++)
        put(field->patterns[field->uses[i].pattern].rules, field->uses[i].rule);
    free(field->uses);
    field->uses = NULL;
    return true;
}

bool rl_roles_fit(const rl_rule *rule, uint32_t here, uint32_t system)
{
    return (!rule->roles && !rule->system) || (rule->roles & here) || (rule->system & system);
}

size_t rl_class_index(uint32_t present, uint32_t access, uint32_t scope)
{
    return ((present ? 1u : 0u) * 4 + (access < 4 ? access : 0)) * 3 + (scope < 3 ? scope : 0);
}

static bool class_fits(const rl_rule *rule, uint32_t present, uint32_t access, uint32_t scope)
{
    return (present || rule->anonymous) && (!rule->access || (rule->access & (1u << access))) &&
           (!rule->scope || (rule->scope & (1u << scope)));
}

bool rl_policy_finish(rl_policy *policy)
{
    policy->words = (policy->n_rules + 63) / 64;
    if (policy->words == 0)
        policy->words = 1;
    policy->role_sets = calloc(RL_ROLE_SETS * policy->words, sizeof(uint64_t));
    policy->class_sets = calloc(RL_CLASS_SETS * policy->words, sizeof(uint64_t));
    if (!policy->role_sets || !policy->class_sets)
        return false;
    for (uint32_t f = 0; f < RL_FIELDS; f++)
        if (!finish_field(policy, f))
            return false;
    for (size_t i = 0; i < policy->n_rules; i++) {
        const rl_rule *rule = &policy->rules[i];
        for (uint32_t mask = 0; mask < RL_ROLE_SETS; mask++)
            if (rl_roles_fit(rule, mask >> 4, mask & 15))
                put(policy->role_sets + mask * policy->words, i);
        for (uint32_t c = 0; c < RL_CLASS_SETS; c++)
            if (class_fits(rule, c / 12, c / 3 % 4, c % 3))
                put(policy->class_sets + c * policy->words, i);
    }
    return true;
}
