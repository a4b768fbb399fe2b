/* SPDX-License-Identifier: MIT */
/* What the files of authorizer/rules share.
 *
 *   rules.c    configuration, life, the plugin's table; one call's way
 *   parse.c    a policy's YAML
 *   policy.c   a policy in memory: what each pattern means for all rules at once
 *   match.c    a decision, and what a loop remembers of values it has met
 *   explain.c  the same decision told rule by rule
 *   watch.c    reads the file again when it changes
 *
 * A policy is compiled to sets of rules, one bit each: for a value of a field (the namespace, say) the set of the rules
 * whose patterns take it; a call's rule is the first bit of the sets' intersection.  The set of a value is found by trying
 * every pattern once, and is then remembered, so that a known call costs a few ANDs whatever the policy's length. */
#ifndef TN_RULES_PRIVATE_H
#define TN_RULES_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <tenon/plugin.h>

#include "glob.h"

#define RL_BYTES_MAX ((size_t)1 << 20) /* of a policy file */
#define RL_RULES_MAX 4096u
#define RL_PATTERNS_MAX 8192u
#define RL_PATTERN_BYTES_MAX 1024u

typedef enum rl_field_id { /* the fields that have patterns */
                           RL_SUBJECT,
                           RL_NAMESPACE,
                           RL_METHOD,
                           RL_TASK_QUEUE,
                           RL_WORKFLOW_TYPE,
                           RL_FIELDS
} rl_field_id;
extern const char *const rl_field_names[RL_FIELDS]; /* as a policy names them */
extern const char *const rl_access_names[4], *const rl_scope_names[3];

typedef struct rl_pattern {
    az_glob *glob;
    char *text;
    size_t n;
    bool whole;      /* methods: the pattern is of the whole path, not of its last part */
    uint64_t *rules; /* those that it is a pattern of */
} rl_pattern;
typedef struct rl_use { /* while a policy is read */
    uint32_t pattern, rule;
} rl_use;
typedef struct rl_field {
    rl_pattern *patterns;
    rl_use *uses;
    size_t n, cap, n_uses, uses_cap;
    uint64_t *any; /* rules that do not ask for this field */
} rl_field;

typedef struct rl_rule {
    uint32_t line;
    bool allow, anonymous, has_verdict;
    uint32_t access, scope; /* masks, 1 << TN_ACCESS_*, 1 << TN_SCOPE_*; 0: any */
    uint32_t roles,
        system;          /* any of these, where the call is or for the whole system; both 0: any */
    uint32_t fields;     /* 1 << rl_field_id of those that it asks for */
    uint32_t keys;       /* that were read */
    char *name, *reason; /* or NULL */
} rl_rule;

#define RL_ROLE_SETS 256u  /* by (roles << 4 | roles of the system) */
#define RL_CLASS_SETS 24u  /* by present, access, scope */
typedef struct rl_policy { /* never changed once it is in use */
    _Atomic uint32_t refs;
    uint64_t generation;
    char *path;
    const char *base; /* its last part: how rules are named */
    rl_rule *rules;
    size_t n_rules, rules_cap, n_patterns, words; /* words: of a set */
    rl_field fields[RL_FIELDS];
    uint64_t *role_sets, *class_sets;
} rl_policy;

tn_status rl_error(tn_error *err, tn_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* From a file's text; err says "PATH:LINE: what is wrong\n    fix: ...". */
tn_status rl_policy_parse(const char *path, const char *text, size_t n, rl_policy **out,
                          tn_error *err);
tn_status rl_policy_read(const char *path, struct stat *out_seen, rl_policy **out, tn_error *err);
rl_policy *rl_policy_create(const char *path);
/* False: out of memory, or too many (*out_why is static text). */
bool rl_policy_pattern(rl_policy *policy, rl_field_id field, uint32_t rule, const char *text,
                       size_t n, const char **out_why);
bool rl_policy_finish(rl_policy *policy); /* sets are made; false: out of memory */
void rl_policy_unref(rl_policy *policy);
bool rl_roles_fit(const rl_rule *rule, uint32_t here, uint32_t system);
size_t rl_class_index(uint32_t present, uint32_t access, uint32_t scope);
bool rl_pattern_takes(const rl_pattern *pattern, rl_field_id field, tn_str value);

/* ---- decisions ---- */

#define RL_SLOTS 256u
#define RL_KEY_MAX 116u
typedef struct rl_slot {
    uint32_t n; /* of key, plus one; 0: empty */
    char key[RL_KEY_MAX];
} rl_slot;
typedef struct rl_memory { /* what one loop remembers, for one policy */
    rl_policy *policy;
    rl_slot *slots[RL_FIELDS]; /* NULL: no rule asks for the field */
    uint64_t *sets[RL_FIELDS]; /* RL_SLOTS sets, and one for what is not remembered */
} rl_memory;
bool rl_memory_init(rl_memory *memory,
                    rl_policy *policy); /* takes the reference; false: out of memory */
void rl_memory_done(rl_memory *memory);

#define RL_NONE SIZE_MAX
void rl_values_of(const tn_claims *claims, const tn_call_target *target, tn_str out[RL_FIELDS]);
uint32_t rl_roles_here(const tn_claims *claims, const tn_call_target *target);
/* The index of the rule that decides, RL_NONE: none does. */
size_t rl_decide(rl_memory *memory, const tn_claims *claims, const tn_call_target *target);
/* Says it line by line. */
void rl_explain(const rl_policy *policy, const tn_claims *claims, const tn_call_target *target,
                void (*say)(void *user, const char *text, size_t n), void *user);

/* ---- an instance ---- */

typedef struct rl_inst {
    const tn_host *host;
    const tn_explain *explain; /* NULL: nobody listens */
    char *path;
    uint64_t check_ns;
    pthread_mutex_t lock;
    rl_policy *policy; /* under the lock */
    _Atomic uint64_t generation;
    bool watched;           /* under the lock */
    struct rl_watch *watch; /* [the watching loop] */
    struct stat seen;       /* [the watching loop] of the file as it was read */
    tn_metric *m_allowed, *m_denied, *m_reloads, *m_reload_errors, *m_rules;
} rl_inst;
rl_policy *rl_policy_now(rl_inst *inst); /* a reference */

/* One loop watches: the first that asks. */
struct rl_watch *rl_watch_start(rl_inst *inst, tn_loop *loop);
void rl_watch_stop(struct rl_watch *watch);

#endif
