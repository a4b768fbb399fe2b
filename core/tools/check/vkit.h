/* SPDX-License-Identifier: MIT */
/* What the conformance cases of visibility plugins share: the plugin opened through the real host, its
 * operations as plain calls that wait, documents and filters built by hand, and a plain walk over
 * documents in memory that says what a driver has to answer. */
#ifndef TN_TOOLS_CHECK_VKIT_H
#define TN_TOOLS_CHECK_VKIT_H

#include "tools/check/kit.h"
#include "visibility/visibility.h"

#define VK_T0 INT64_C(1790000000000000000)

/* ---- the plugin ---- */
void vk_open(void); /* a new namespace for the case; two loops */
void vk_close(void);
const char *vk_ns(void); /* its id; of the case alone, so that a database may be shared */
const char *vk_other_ns(void);

typedef struct vk_doc {
    tn_vis_doc doc;
    tn_attr attrs[40];
} vk_doc;
typedef enum vk_verb { VK_PUT, VK_REMOVE, VK_LIST, VK_COUNT, VK_DEFINE } vk_verb;
typedef struct vk_op {
    tn_vis_op op;
    vk_verb verb;
} vk_op;
/* All of them on one loop, in this order, then waits for all; each has its own status. */
void vk_run(uint32_t loop, vk_op *ops, size_t n);
void vk_run_both(vk_op *ops, size_t n); /* the even ones on one loop, the odd ones on the other */
tn_status vk_put(const tn_vis_doc *doc);
tn_status vk_remove(const char *ns, tn_str run_id);
tn_status vk_list(const tn_vis_query *query, tn_vis_page *out);
tn_status vk_count(const tn_vis_query *query, tn_vis_page *out);
tn_status vk_define(const tn_attr *attrs, size_t n);

/* ---- documents ---- */
tn_blob vk_i64(int64_t v);
tn_blob vk_f64(double v);
tn_blob vk_bool(int v);
tn_blob vk_keywords(const char *const *items, size_t n);
const char *vk_run_id(uint64_t n); /* a UUID; a greater n gives a greater id */
/* Run n of the case's namespace: workflow "wf-N", type "Order"; open when close is 0. */
vk_doc *vk_make(uint64_t n, const char *status, int64_t start, int64_t close, uint64_t version);
void vk_add(vk_doc *doc, const char *name, uint32_t type, tn_blob value);
const tn_attr *vk_find(const tn_vis_doc *doc, tn_str name);

/* ---- queries ---- */
tn_vis_node vk_leaf(uint32_t op, const char *name, uint32_t type, size_t n, const tn_blob *values);
tn_vis_node vk_is(const char *name, const char *keyword);
tn_vis_node vk_logic(uint32_t op, uint32_t arity);
tn_vis_query vk_query(const tn_vis_node *nodes, size_t n);
/* The count, and the same number by lists of 3. */
uint64_t vk_matches(const tn_vis_node *nodes, size_t n);

/* Puts that must succeed. */
void vk_put_ok(const vk_doc *doc);
void vk_put_all(vk_doc **docs, size_t n);
/* How many documents pass one test. */
uint64_t vk_count_is(const char *name, const char *keyword);
uint64_t vk_count_leaf(uint32_t op, const char *name, uint32_t type, tn_blob value);
uint64_t vk_count_list(const char *name, const char *keyword);

/* ---- the plain walk (vmodel.c) ---- */
bool vk_model_matches(const tn_vis_doc *doc, const tn_vis_node *nodes, size_t n);
void vk_model_sort(const tn_vis_query *query, const tn_vis_doc **docs, size_t n);
void vk_case_random(void);

/* ---- cases of vquery.c ---- */
void vk_case_every_operator_on_every_type(void);
void vk_case_unknown_is_no_match(void);
void vk_case_logic_of_any_shape(void);
void vk_case_broad_filters(void);
void vk_case_beginnings(void);
void vk_case_text_is_matched_by_words(void);
void vk_case_wrong_queries_are_refused(void);
void vk_case_pages_that_are_none(void);
void vk_case_default_order(void);
void vk_case_order_by_anything(void);
void vk_case_pages_are_stable_under_writes(void);

#endif
