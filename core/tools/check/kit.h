/* SPDX-License-Identifier: MIT */
/* What conformance programs share: each case in a child process, a plugin opened through the real host,
 * and the store's operations as plain calls that wait. */
#ifndef TN_TOOLS_CHECK_KIT_H
#define TN_TOOLS_CHECK_KIT_H

#include "base/base.h"
#include "plugin/plugin.h"
#include "store/store.h"

/* ---- cases ---- */
typedef struct kit_case {
    const char *name;
    void (*run)(void); /* in a child; a failed KIT_CHECK or a crash fails the case */
} kit_case;
typedef struct kit_totals {
    unsigned passed, failed, skipped;
} kit_totals;
/* Runs all, or those whose name contains one of the filters; one line for each that fails, what it said below. */
void kit_run_cases(const char *what, const kit_case *cases, size_t count, size_t n_filters,
                   const char *const *filters, kit_totals *totals);
void kit_use_tap(
    void); /* a line for each, as the Test Anything Protocol has it; the plan is the caller's */
unsigned kit_tap_count(void);
#define KIT_SKIP_CODE 77
#define KIT_NOTE_CODE 78 /* passed, with something to say */
/* The same, and the count at the end; the exit status of a program of its own. */
int kit_run(const char *what, const kit_case *cases, size_t count, int n_filters, char **filters);
_Noreturn void kit_fail(const char *file, int line, const char *fmt, ...) TN_PRINTF(3, 4);
_Noreturn void kit_skip(const char *why);
_Noreturn void kit_note(const char *what);
#define KIT_CHECK(expr) ((expr) ? (void)0 : kit_fail(__FILE__, __LINE__, "%s", #expr))
#define KIT_EQUAL(a, b) \
    do { \
        long long kit_a = (long long)(a), kit_b = (long long)(b); \
        if (kit_a != kit_b) \
            kit_fail(__FILE__, __LINE__, "%s is %lld, not %lld (%s)", #a, kit_a, kit_b, #b); \
    } while (0)
const char *kit_dir(void); /* a folder of this case's own, removed afterwards */
tn_rng *kit_rng(void); /* seeded by TN_SEED or at random; the seed is printed when the case fails */

/* ---- a visibility plugin: the rest is in vkit.h ---- */
tn_plugin_instance *kit_open_kind(tn_kind kind,
                                  const char **out_why); /* opened only; NULL: why not */
void kit_close_plugin(void);
/* A second instance of what kit_open_kind opened, by the same keys; NULL, or why not. */
const char *kit_open_beside(tn_kind kind, tn_plugin_instance **out);
void kit_close_first(tn_plugin_instance *second); /* which is the kit's from now on */

/* ---- a persistence plugin ---- */
/* so: absolute path; stanza: YAML lines of the plugin's own keys, %D stands for kit_dir(), %N for its last part.
 * A driver that has a schema gets it set up before it is opened. */
void kit_configure(const char *so, const char *stanza);
const char *kit_so(void);
/* Opens it on two loops; NULL: it opened, else what was said. */
const char *kit_try_open(void);
void kit_open(void);
void kit_close(void);
tn_arena *kit_arena(void); /* until kit_close */

tn_key kit_key(uint32_t table, const char *partition, const char *row);
tn_key kit_key_bytes(uint32_t table, const char *partition, const void *row, size_t n);
tn_blob kit_text(const char *s);
tn_status kit_get(tn_key key, tn_row *out);
tn_status kit_scan(const tn_range *range, tn_page *out);
tn_status kit_commit(const tn_store_batch *batch, tn_commit *out);
/* All in one group, in this order. */
void kit_commit_group(tn_store_op *ops, size_t n);
tn_store_batch kit_batch(void);
/* One put without conditions; its version. */
uint64_t kit_put(tn_key key, const char *value);
void kit_delete(tn_key key);
const tn_error *kit_error(void); /* of the last operation */

/* ---- the cases ---- */
void kit_many_fences(void); /* shards.c */
void kit_shards_race(void);
extern const kit_case kit_persistence_cases[], kit_stress_cases[], kit_visibility_cases[],
    kit_mapper_cases[], kit_authorizer_cases[], kit_library_cases[];
extern const size_t kit_persistence_count, kit_stress_count, kit_visibility_count, kit_mapper_count,
    kit_authorizer_count, kit_library_count;
extern uint64_t kit_stress_seconds;

#endif
