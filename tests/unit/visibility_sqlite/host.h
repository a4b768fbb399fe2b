/* SPDX-License-Identifier: MIT */
/* A host small enough to test a visibility driver under: operations that the test waits for. */
#ifndef TESTS_VISIBILITY_SQLITE_HOST_H
#define TESTS_VISIBILITY_SQLITE_HOST_H

#include "base/base.h"

typedef struct test_setting {
    const char *key, *value;
} test_setting;

typedef struct test_driver {
    const tn_plugin *plugin;
    const tn_visibility_ops *ops;
    void *inst, *ctx;
} test_driver;

/* settings: ended by a NULL key. */
tn_status test_driver_open(const test_setting *settings, test_driver *out, tn_error *err);
void test_driver_close(test_driver *driver);

/* One operation; begin and wait apart, so that several can be under way. */
typedef struct test_op test_op;
test_op *test_op_create(void);
void test_op_destroy(test_op *op);
tn_op *test_op_handle(test_op *op);
tn_arena *test_op_arena(test_op *op);
/* Takes what the driver's function returned, waits when that is TN_PENDING. */
tn_status test_op_wait(test_op *op, tn_status returned, tn_error *err);
void test_op_deadline(test_op *op, uint64_t at_mono_ns);
const char *test_last_log(void); /* what the driver logged last */

tn_status test_put(test_driver *driver, const tn_vis_doc *doc);
tn_status test_remove(test_driver *driver, const char *ns_id, tn_str run_id);
/* Results live in the op, which the caller destroys. */
tn_status test_list(test_driver *driver, test_op *op, const tn_vis_query *query, tn_vis_page *out);
tn_status test_count(test_driver *driver, test_op *op, const tn_vis_query *query, tn_vis_page *out);

/* ---- documents ---- */
tn_blob test_i64(tn_arena *arena, int64_t v);
tn_blob test_f64(tn_arena *arena, double v);
tn_blob test_list_value(tn_arena *arena, const char *const *items, size_t count);
static inline tn_blob test_text(const char *s) { return tn_blob_from(s, strlen(s)); }
static inline tn_attr test_attr(const char *name, uint32_t type, tn_blob value)
{
    return (tn_attr){.name = tn_str_from(name), .type = type, .value = value};
}
const tn_attr *test_find(const tn_vis_doc *doc, const char *name);

#endif
