/* SPDX-License-Identifier: MIT */
/* A policy's YAML, event by event:
 *
 *     rules:
 *       - {name: readers, verdict: allow, role: reader, access: read, namespace: [orders, "billing-*"]}
 *
 * Every complaint names file and line and says how it is put right.  What is not understood is refused: a rule with a
 * misspelt condition would match more than it says. */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#define NAME_MAX_BYTES 200u
#define REASON_MAX_BYTES 500u

typedef struct reader {
    yaml_parser_t yaml;
    yaml_event_t event;
    bool has_event;
    rl_policy *policy;
    tn_error *err;
} reader;

typedef struct word { /* a scalar */
    const char *p;
    size_t n;
    size_t line;
} word;

static bool complain(reader *r, size_t line, const char *fix, const char *what)
{
    rl_error(r->err, TN_EINVALID, "%.100s:%zu: %s\n    fix: %s", r->policy->path, line, what, fix);
    return false;
}

static size_t line_of(const reader *r) { return r->event.start_mark.line + 1; }

/* ---- events ---- */

static bool next(reader *r)
{
    if (r->has_event)
        yaml_event_delete(&r->event);
    r->has_event = false;
    if (!yaml_parser_parse(&r->yaml, &r->event)) {
        char what[160];
        const char *problem = r->yaml.problem ? r->yaml.problem : "out of memory";
        snprintf(what, sizeof what, "is no YAML: %.120s", problem);
        size_t line =
            r->yaml.problem_mark.line ? r->yaml.problem_mark.line : r->yaml.context_mark.line;
        return complain(r, line + 1, "mind indentation, quotes and brackets", what);
    }
    r->has_event = true;
    return true;
}

static bool plain(reader *r)
{
    const yaml_event_t *e = &r->event;
    bool marked = e->type == YAML_ALIAS_EVENT;
    if (e->type == YAML_SCALAR_EVENT)
        marked = e->data.scalar.anchor || e->data.scalar.tag;
    else if (e->type == YAML_SEQUENCE_START_EVENT)
        marked = e->data.sequence_start.anchor || e->data.sequence_start.tag;
    else if (e->type == YAML_MAPPING_START_EVENT)
        marked = e->data.mapping_start.anchor || e->data.mapping_start.tag;
    return !marked || complain(r, line_of(r), "write it out", "has an anchor, alias or tag");
}

static bool next_plain(reader *r) { return next(r) && plain(r); }

static word word_of(const reader *r)
{
    return (word){(const char *)r->event.data.scalar.value, r->event.data.scalar.length,
                  line_of(r)};
}

static bool is(word w, const char *text)
{
    return w.n == strlen(text) && memcmp(w.p, text, w.n) == 0;
}

static bool sound_text(reader *r, word w, size_t max)
{
    if (w.n <= max && !memchr(w.p, 0, w.n) && !memchr(w.p, '\n', w.n))
        return true;
    return complain(r, w.line, "shorten it, on one line", "is too long, or has a line end in it");
}

/* ---- conditions ---- */

typedef struct key key;
struct key {
    const char *name;
    bool (*take)(reader *r, const key *as, rl_rule *rule, word value);
    uint32_t id;
    bool list; /* may be one */
};

static bool take_verdict(reader *r, const key *as, rl_rule *rule, word value)
{
    (void)as;
    rule->has_verdict = true;
    rule->allow = is(value, "allow");
    return rule->allow || is(value, "deny") ||
           complain(r, value.line, "write allow or deny", "verdict is neither allow nor deny");
}

static bool take_text(reader *r, const key *as, rl_rule *rule, word value)
{
    char **out = as->id ? &rule->reason : &rule->name;
    if (!sound_text(r, value, as->id ? REASON_MAX_BYTES : NAME_MAX_BYTES))
        return false;
    *out = strndup(value.p, value.n);
    return *out || complain(r, value.line, "free memory", "out of memory");
}

static bool take_bool(reader *r, const key *as, rl_rule *rule, word value)
{
    (void)as;
    rule->anonymous = is(value, "true");
    return rule->anonymous || is(value, "false") ||
           complain(r, value.line, "write true or false", "anonymous is neither true nor false");
}

static bool take_role(reader *r, const key *as, rl_rule *rule, word value)
{
    static const struct {
        const char *name;
        uint32_t bit;
    } roles[] = {{"worker", TN_ROLE_WORKER}, {"reader", TN_ROLE_READER}, {"read", TN_ROLE_READER},
                 {"writer", TN_ROLE_WRITER}, {"write", TN_ROLE_WRITER},  {"admin", TN_ROLE_ADMIN}};
    bool system = value.n > 7 && memcmp(value.p, "system:", 7) == 0;
    (void)as;
    if (system)
        value.p += 7, value.n -= 7;
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        if (!is(value, roles[i].name))
            continue;
        *(system ? &rule->system : &rule->roles) |= roles[i].bit;
        return true;
    }
    return complain(r, value.line,
                    "worker, reader, writer or admin; system:reader for a role in the whole system",
                    "names a role that is not known");
}

static bool take_class(reader *r, const key *as, rl_rule *rule, word value)
{
    bool scope = as->id;
    const char *const *names = scope ? rl_scope_names : rl_access_names;
    for (uint32_t i = 1; i < (scope ? 3u : 4u); i++) {
        if (!is(value, names[i]))
            continue;
        *(scope ? &rule->scope : &rule->access) |= 1u << i;
        return true;
    }
    return complain(r, value.line, scope ? "namespace or cluster" : "read, write or admin",
                    scope ? "names a scope that is not known"
                          : "names an access that is not known");
}

static bool take_pattern(reader *r, const key *as, rl_rule *rule, word value)
{
    const char *why;
    if (!sound_text(r, value, RL_PATTERN_BYTES_MAX))
        return false;
    if (as->id == RL_METHOD && value.n == 0)
        return complain(r, value.line,
                        "StartWorkflowExecution, \"Start*\" or /package.Service/Method",
                        "a method has a name");
    rule->fields |= 1u << as->id;
    uint32_t index = (uint32_t)(rule - r->policy->rules);
    return rl_policy_pattern(r->policy, as->id, index, value.p, value.n, &why) ||
           complain(r, value.line, "see tenon-authorizer(7), rules", why);
}

static const key keys[] = {
    {"name", take_text, 0, false},
    {"verdict", take_verdict, 0, false},
    {"reason", take_text, 1, false},
    {"anonymous", take_bool, 0, false},
    {"role", take_role, 0, true},
    {"access", take_class, 0, true},
    {"scope", take_class, 1, true},
    {"subject", take_pattern, RL_SUBJECT, true},
    {"namespace", take_pattern, RL_NAMESPACE, true},
    {"method", take_pattern, RL_METHOD, true},
    {"taskQueue", take_pattern, RL_TASK_QUEUE, true},
    {"workflowType", take_pattern, RL_WORKFLOW_TYPE, true},
};
#define KEYS (sizeof keys / sizeof keys[0])

/* A value, or a list of them. */
static bool read_values(reader *r, const key *as, rl_rule *rule)
{
    char what[100];
    size_t count = 0;
    if (!next_plain(r))
        return false;
    if (r->event.type == YAML_SCALAR_EVENT)
        return as->take(r, as, rule, word_of(r));
    snprintf(what, sizeof what, "%s wants %s", as->name,
             as->list ? "a text or a list of texts" : "a text");
    size_t line = line_of(r);
    if (!as->list || r->event.type != YAML_SEQUENCE_START_EVENT)
        return complain(r, line, "see tenon-authorizer(7), rules", what);
    while (next_plain(r)) {
        if (r->event.type == YAML_SEQUENCE_END_EVENT)
            return count > 0 || complain(r, line, "name one, or leave the key out",
                                         "an empty list would match nothing");
        if (r->event.type != YAML_SCALAR_EVENT)
            return complain(r, line_of(r), "see tenon-authorizer(7), rules", what);
        if (!as->take(r, as, rule, word_of(r)))
            return false;
        count++;
    }
    return false;
}

/* ---- rules ---- */

static const key *find_key(reader *r, rl_rule *rule)
{
    char what[120];
    if (r->event.type != YAML_SCALAR_EVENT) {
        complain(r, line_of(r), "see tenon-authorizer(7), rules", "a key is a plain word");
        return NULL;
    }
    word name = word_of(r);
    for (uint32_t i = 0; i < KEYS; i++) {
        if (!is(name, keys[i].name))
            continue;
        if (rule->keys & (1u << i)) {
            complain(r, name.line, "keep one; several values are a list", "the same key twice");
            return NULL;
        }
        rule->keys |= 1u << i;
        return &keys[i];
    }
    snprintf(what, sizeof what, "unknown key \"%.*s\"", (int)(name.n < 60 ? name.n : 60), name.p);
    complain(r, name.line,
             "name, verdict, reason, anonymous, role, access, scope, subject, namespace, method, "
             "taskQueue, "
             "workflowType",
             what);
    return NULL;
}

static rl_rule *new_rule(reader *r)
{
    rl_policy *policy = r->policy;
    if (policy->n_rules == RL_RULES_MAX) {
        complain(r, line_of(r), "join rules by lists", "more than 4096 rules");
        return NULL;
    }
    if (policy->n_rules == policy->rules_cap) {
        size_t cap = policy->rules_cap ? policy->rules_cap * 2 : 16;
        rl_rule *grown = reallocarray(policy->rules, cap, sizeof *grown);
        if (!grown) {
            complain(r, line_of(r), "free memory", "out of memory");
            return NULL;
        }
        policy->rules = grown;
        policy->rules_cap = cap;
    }
    rl_rule *rule = &policy->rules[policy->n_rules++];
    *rule = (rl_rule){.line = (uint32_t)line_of(r)};
    return rule;
}

static bool read_rule(reader *r)
{
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return complain(r, line_of(r), "- {verdict: allow, role: reader, access: read}",
                        "a rule is a map");
    rl_rule *rule = new_rule(r);
    if (!rule)
        return false;
    while (next_plain(r)) {
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return rule->has_verdict ||
                   complain(r, rule->line, "add verdict: allow, or verdict: deny",
                            "the rule has no verdict");
        const key *as = find_key(r, rule);
        if (!as || !read_values(r, as, rule))
            return false;
    }
    return false;
}

static bool read_rules(reader *r)
{
    if (!next_plain(r))
        return false;
    size_t line = line_of(r);
    if (r->event.type != YAML_SEQUENCE_START_EVENT)
        return complain(r, line, "rules: [{verdict: allow, role: admin}]", "rules wants a list");
    while (next_plain(r)) {
        if (r->event.type == YAML_SEQUENCE_END_EVENT)
            return r->policy->n_rules > 0 ||
                   complain(r, line, "to deny everything, write - {verdict: deny}",
                            "there are no rules");
        if (!read_rule(r))
            return false;
    }
    return false;
}

static bool read_top(reader *r)
{
    static const char none[] = "the policy has no rules";
    static const char fix[] = "rules: [{verdict: allow, role: admin}]";
    bool seen = false;
    if (!next(r) || !next(r)) /* the stream; the document */
        return false;
    if (r->event.type != YAML_DOCUMENT_START_EVENT)
        return complain(r, 1, fix, none);
    if (!next_plain(r))
        return false;
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return complain(r, line_of(r), fix, none);
    while (next_plain(r) && r->event.type != YAML_MAPPING_END_EVENT) {
        if (r->event.type != YAML_SCALAR_EVENT || !is(word_of(r), "rules"))
            return complain(r, line_of(r), "rules is all that a policy has", "unknown key");
        if (seen)
            return complain(r, line_of(r), "join the lists", "rules twice");
        seen = true;
        if (!read_rules(r))
            return false;
    }
    if (!r->has_event)
        return false;
    if (!seen)
        return complain(r, 1, fix, none);
    if (!next(r) || !next(r)) /* the document's end; the stream's */
        return false;
    return r->event.type == YAML_STREAM_END_EVENT ||
           complain(r, line_of(r), "one document is all that is read", "a second document");
}

tn_status rl_policy_parse(const char *path, const char *text, size_t n, rl_policy **out,
                          tn_error *err)
{
    reader r = {.policy = rl_policy_create(path), .err = err};
    if (!r.policy)
        return rl_error(err, TN_EUNAVAILABLE, "out of memory");
    bool good = false;
    if (memchr(text, 0, n)) {
        complain(&r, 1, "a policy is text", "has a NUL byte");
    } else if (!yaml_parser_initialize(&r.yaml)) {
        rl_error(err, TN_EUNAVAILABLE, "out of memory");
    } else {
        yaml_parser_set_encoding(&r.yaml, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&r.yaml, (const unsigned char *)text, n);
        good = read_top(&r);
        if (r.has_event)
            yaml_event_delete(&r.event);
        yaml_parser_delete(&r.yaml);
    }
    if (good && !rl_policy_finish(r.policy))
        good = complain(&r, 1, "free memory", "out of memory");
    if (!good) {
        rl_policy_unref(r.policy);
        return err->code;
    }
    *out = r.policy;
    return TN_OK;
}

/* ---- the file ---- */

static tn_status read_all(int fd, const char *path, char *text, size_t *out_n, tn_error *err)
{
    size_t n = 0;
    for (;;) {
        ssize_t got = read(fd, text + n, RL_BYTES_MAX + 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return rl_error(err, TN_EINVALID, "%.150s: %s", path, strerror(errno));
        if (got == 0)
            break;
        n += (size_t)got;
        if (n > RL_BYTES_MAX)
            return rl_error(err, TN_EINVALID,
                            "%.150s: larger than 1 MiB\n    fix: join rules by lists", path);
    }
    *out_n = n;
    return TN_OK;
}

tn_status rl_policy_read(const char *path, struct stat *out_seen, rl_policy **out, tn_error *err)
{
    size_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, out_seen) != 0) {
        int why = errno;
        if (fd >= 0)
            close(fd);
        return rl_error(err, TN_EINVALID,
                        "%.150s: %s\n    fix: name a file that the server may read", path,
                        strerror(why));
    }
    char *text = malloc(RL_BYTES_MAX + 1);
    tn_status status =
        !S_ISREG(out_seen->st_mode)
            ? rl_error(err, TN_EINVALID, "%.150s: is no file\n    fix: name a file", path)
        : text ? read_all(fd, path, text, &n, err)
               : rl_error(err, TN_EUNAVAILABLE, "out of memory");
    close(fd);
    if (status == TN_OK)
        status = rl_policy_parse(path, text, n, out, err);
    free(text);
    return status;
}
