/* SPDX-License-Identifier: MIT */
/* Visibility: runs as documents that can be listed and counted.  This room parses the list filter,
 * turns runs into documents and documents into answers, checks search attributes, and gives the
 * roles typed access to the visibility plugin.  A driver behind the plugin sees trees and typed
 * values only, never query text or payloads. */
#ifndef TN_VISIBILITY_VISIBILITY_H
#define TN_VISIBILITY_VISIBILITY_H

#include "base/base.h"
#include "loop/loop.h"
#include "namespace/namespace.h"
#include "proto/fault.h"

struct tn_plugin_instance;

/* ---- operations ------------------------------------------------------------------------------- */

typedef struct tn_vis_op tn_vis_op;

/* One request to the plugin.  The caller embeds or allocates it (it must live until `done`), fills in
 * the request part and owns the arena: results live there.  done runs on the submitting loop, maybe
 * before the submitting call returns. */
struct tn_vis_op {
    tn_arena *arena;
    void (*done)(tn_vis_op *op);
    void *user;
    uint64_t timeout_ns; /* 0: the default (10 s, or what tn_vis_set_timeout said) */
    /* result */
    tn_status status;
    tn_error error;
    union {
        struct {
            tn_vis_doc doc; /* put: whole; remove: ns_id, run_id */
        } put;
        struct {
            tn_vis_query query;
            tn_vis_page page; /* out */
        } list;               /* list and count */
        struct {
            const tn_attr *attrs; /* name and type */
            size_t count;
        } define;
    } u;
    /* private to the room */
    void *priv[6];
};

/* [loop] A put has ended with TN_OK when the document (or a newer version of it) is durable; the
 * plugin gathers, so that takes up to its linger.  Retry TN_EUNAVAILABLE and TN_EUNCERTAIN: puts are
 * idempotent, an older or equal version changes nothing. */
void tn_vis_put(tn_vis_op *op);
void tn_vis_remove(tn_vis_op *op);
void tn_vis_list(tn_vis_op *op);
void tn_vis_count(tn_vis_op *op);
void tn_vis_define(tn_vis_op *op); /* a namespace's new custom attributes; idempotent */

/* [main, with loops running] Attaches the opened visibility plugin to every loop.  token_key seals
 * page tokens; it must be the same on every host and over restarts. */
tn_status tn_vis_start(struct tn_plugin_instance *visibility, const uint8_t token_key[16],
                       tn_error *err) TN_WARN_UNUSED;
/* [main, right after tn_vis_start] A second store, for a move from one to another.  The dynamic setting
 * system.secondaryVisibilityWritingMode says who is written: off the first, on the second, dual both (a put has
 * ended when both have it); system.enableReadFromSecondaryVisibility, by namespace, who is read. */
tn_status tn_vis_start_second(struct tn_plugin_instance *visibility, tn_error *err) TN_WARN_UNUSED;
void tn_vis_set_timeout(uint64_t ns); /* [any] of operations that begin from now on */
void tn_vis_stop(void);               /* after all operations have ended */

/* ---- runs and documents ----------------------------------------------------------------------- */

/* What the history role knows of a run.  Empty strings and zeroes are left out of the document. */
typedef struct tn_vis_run {
    tn_str ns_id, workflow_id, run_id;
    tn_str type, task_queue;
    int32_t status; /* temporal.api.enums.v1.WorkflowExecutionStatus */
    int64_t start_ns;
    int64_t execution_ns;   /* 0: start_ns */
    int64_t close_ns;       /* 0: open */
    int64_t history_length; /* these three are shown for closed runs only */
    int64_t history_size_bytes;
    int64_t state_transition_count;
    tn_str parent_workflow_id, parent_run_id; /* empty: no parent */
    tn_str root_workflow_id, root_run_id;     /* empty: the run itself */
    tn_blob memo;                             /* packed temporal.api.common.v1.Memo, or empty */
    tn_blob search_attributes; /* packed temporal.api.common.v1.SearchAttributes, or empty */
    uint64_t version;          /* rises with each change of the run, e.g. its transition number */
} tn_vis_run;

/* Builds the document in the arena; its strings point into run's.  Attributes that the namespace does
 * not know or that do not decode are left out (they were checked when the run took them).  ns may be
 * NULL: then the types that the payloads name count.  TN_ETOOLARGE: the arena is full. */
tn_status tn_vis_doc_from_run(tn_arena *arena, const tn_namespace *ns, const tn_vis_run *run,
                              tn_vis_doc *out) TN_WARN_UNUSED;

/* A document as list shows it; in the arena, NULL when that is full.  The memo is attached packed
 * (tn_proto_attach): pack the answer with tn_proto_pack. */
struct Temporal__Api__Workflow__V1__WorkflowExecutionInfo;
struct Temporal__Api__Workflow__V1__WorkflowExecutionInfo *tn_vis_doc_to_info(
    tn_arena *arena, const tn_vis_doc *doc);
/* A count's groups; *out_groups is an array of *out_count messages in the arena. */
struct Temporal__Api__Workflowservice__V1__CountWorkflowExecutionsResponse__AggregationGroup;
tn_status tn_vis_groups_to_api(
    tn_arena *arena, const tn_vis_page *page,
    struct Temporal__Api__Workflowservice__V1__CountWorkflowExecutionsResponse__AggregationGroup **
        *out_groups,
    size_t *out_count) TN_WARN_UNUSED;

/* A typed value (encoded as TN_ATTR_* says) as a JSON payload with metadata "encoding" and "type"; a
 * value with p NULL as binary/null.  NULL: the arena is full, or the bytes are not of the type. */
struct Temporal__Api__Common__V1__Payload;
struct Temporal__Api__Common__V1__Payload *tn_search_attr_to_payload(tn_arena *arena,
                                                                     const tn_attr *attr);

/* ---- the list filter -------------------------------------------------------------------------- */

#define TN_VIS_FOR_LIST 1u
#define TN_VIS_FOR_COUNT 2u /* GROUP BY is allowed */

/* Query text (behaviour.md's grammar) to a tree in the arena: fills ns_id, filter, order and group_by
 * of *out; limit and page are the caller's.  Without a word on TemporalNamespaceDivision the filter
 * asks that it be NULL.  NULL: fine; else an INVALID_ARGUMENT fault with the reference's text.
 * Does not recurse; text longer than TN_VIS_QUERY_MAX bytes, nesting deeper than TN_VIS_DEPTH_MAX
 * and more than TN_VIS_TOKENS_MAX words are refused. */
#define TN_VIS_QUERY_MAX (256u * 1024u)
#define TN_VIS_DEPTH_MAX 100u
#define TN_VIS_TOKENS_MAX 20000u
const tn_fault *tn_vis_query_parse(tn_arena *arena, const tn_namespace *ns, tn_str text,
                                   uint32_t use, tn_vis_query *out);

/* The same for objects of one division: nothing else is found, and their own names are known. */
typedef struct tn_vis_division {
    const char *value;               /* of TemporalNamespaceDivision */
    const char *id_name, *type_name; /* of WorkflowId, WorkflowType; NULL: no other */
} tn_vis_division;
const tn_fault *tn_vis_query_parse_in(tn_arena *arena, const tn_namespace *ns, tn_str text,
                                      uint32_t use, const tn_vis_division *division,
                                      tn_vis_query *out);

/* Page tokens: what the plugin calls `next`, under a MAC over the namespace and the order.  An empty
 * token is the first page.  open: NULL fault and query->page set, or INVALID_ARGUMENT "Invalid
 * NextPageToken."; seal: empty when there is no next page. */
const tn_fault *tn_vis_page_open(tn_arena *arena, tn_blob token, tn_vis_query *query);
tn_blob tn_vis_page_seal(tn_arena *arena, const tn_vis_query *query, tn_blob next);

/* ---- search attributes ------------------------------------------------------------------------ */

#define TN_SEARCH_ATTRS_COUNT_MAX 100u
#define TN_SEARCH_ATTR_BYTES_MAX (2u * 1024u)
#define TN_SEARCH_ATTRS_BYTES_MAX (40u * 1024u)
typedef struct tn_search_attr_limits {
    uint32_t count_max, value_bytes_max, total_bytes_max; /* 0: the defaults above */
} tn_search_attr_limits;

/* Checks what a client or a command wants to set: packed temporal.api.common.v1.SearchAttributes.
 * NULL: fine; else INVALID_ARGUMENT with the reference's text.  limits NULL: the defaults. */
const tn_fault *tn_search_attrs_validate(tn_arena *arena, const tn_namespace *ns, tn_blob packed,
                                         const tn_search_attr_limits *limits);
/* Lays `upsert` over `base` (both packed SearchAttributes): the union, upsert's values win, a nil
 * or empty-list payload deletes.  Also sets metadata "type" where the namespace knows it and the payload
 * has none.  The result is in the arena; TN_EINVALID: damaged input. */
tn_status tn_search_attrs_merge(tn_arena *arena, const tn_namespace *ns, tn_blob base,
                                tn_blob upsert, tn_blob *out) TN_WARN_UNUSED;
/* Sets metadata "type" of the payloads that name none and whose attribute the namespace knows. */
struct Temporal__Api__Common__V1__SearchAttributes;
void tn_search_attrs_add_types(tn_arena *arena, const tn_namespace *ns,
                               struct Temporal__Api__Common__V1__SearchAttributes *attrs);
/* True when a payload (packed) stands for "no value": binary/null, JSON null or []. */
bool tn_search_attr_payload_is_nil(tn_blob packed_payload);
/* Decodes a packed payload as `type`; *out_null when it deletes.  TN_EINVALID: not of that type. */
tn_status tn_search_attr_from_payload(tn_arena *arena, uint32_t type, tn_blob packed_payload,
                                      tn_blob *out_value, bool *out_null) TN_WARN_UNUSED;
/* "Keyword", "KeywordList" ...; and back (also "INDEXED_VALUE_TYPE_KEYWORD"), 0: no such type. */
const char *tn_search_attr_type_name(uint32_t type);
uint32_t tn_search_attr_type_parse(tn_str name);
/* True for names that a namespace may not define: system, predefined, reserved, or "Temporal...". */
bool tn_search_attr_name_reserved(tn_str name);

/* "Running", "Completed" ...: how ExecutionStatus is stored, as a Keyword.  Parsing takes the short
 * and the WORKFLOW_EXECUTION_STATUS_ form; 0: no such status. */
const char *tn_vis_status_name(int32_t status);
int32_t tn_vis_status_parse(tn_str name);

#endif
