/* SPDX-License-Identifier: MIT */
/* Visibility calls: list, scan, count, the two old list calls, and search attributes. */
#include "frontend/priv.h"
#include "visibility/visibility.h"

#define REQUEST(f, type) ((Temporal__Api__Workflowservice__V1__##type *)(void *)(f)->call->request)

typedef Temporal__Api__Workflow__V1__WorkflowExecutionInfo execution_info;

typedef struct listing {
    tn_fcall *f;
    tn_vis_op op;
    const ProtobufCMessageDescriptor
        *output; /* the list responses have executions = 1, next_page_token = 2 */
} listing;

static void listed(tn_vis_op *op)
{
    listing *l = op->user;
    tn_fcall *f = l->f;
    tn_arena *arena = f->call->arena;
    if (op->status != TN_OK) {
        tn_front_fail(f, tn_fault_from_status(arena, op->status, &op->error));
        return;
    }
    const tn_vis_page *page = &op->u.list.page;
    Temporal__Api__Workflowservice__V1__ListWorkflowExecutionsResponse *out =
        tn_arena_alloc(arena, sizeof(*out));
    temporal__api__workflowservice__v1__list_workflow_executions_response__init(out);
    /* The four responses are alike in everything but their name. */
    out->base.descriptor = l->output;
    out->executions = TN_NEW_ARRAY(arena, execution_info *, page->n_docs + 1);
    for (size_t i = 0; i < page->n_docs; i++)
        out->executions[out->n_executions++] = tn_vis_doc_to_info(arena, &page->docs[i]);
    tn_blob token = tn_vis_page_seal(arena, &op->u.list.query, page->next);
    out->next_page_token = (ProtobufCBinaryData){token.n, (uint8_t *)(uintptr_t)token.p};
    tn_front_reply(f, &out->base);
}

static void list(tn_fcall *f, const char *query, int32_t page_size, ProtobufCBinaryData token)
{
    tn_arena *arena = f->call->arena;
    listing *l = TN_NEW(arena, listing);
    int64_t page_max = tn_front_limit(f, TN_DYN_FRONTEND_VISIBILITY_PAGE);
    page_max = page_max > 0 && page_max <= UINT32_MAX ? page_max : 1;
    if (page_size > page_max) {
        tn_front_invalid(f, "PageSize is larger than allowed %lld.", (long long)page_max);
        return;
    }
    l->f = f;
    l->output = f->call->method->output;
    l->op.arena = arena;
    l->op.user = l;
    l->op.done = listed;
    tn_vis_query *q = &l->op.u.list.query;
    const tn_fault *fault =
        tn_vis_query_parse(arena, f->ns, tn_str_from(query), TN_VIS_FOR_LIST, q);
    if (!fault)
        fault = tn_vis_page_open(arena, tn_blob_from(token.data, token.len), q);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    q->limit = page_size > 0 ? (uint32_t)page_size : (uint32_t)page_max;
    tn_arena_set_limit(arena, 0);
    tn_vis_list(&l->op);
}

void tn_do_list(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__ListWorkflowExecutionsRequest *r =
        REQUEST(f, ListWorkflowExecutionsRequest);
    list(f, r->query, r->page_size, r->next_page_token);
}

void tn_do_scan(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__ScanWorkflowExecutionsRequest *r =
        REQUEST(f, ScanWorkflowExecutionsRequest);
    list(f, r->query, r->page_size, r->next_page_token);
}

/* ---- the old calls, said in the filter language ---- */

static void put_quoted(tn_buf *out, const char *s)
{
    tn_buf_put_u8(out, '\'');
    for (; *s; s++) {
        if (*s == '\'' || *s == '\\')
            tn_buf_put_u8(out, '\\');
        tn_buf_put_u8(out, (uint8_t)*s);
    }
    tn_buf_put_u8(out, '\'');
}

static void put_times(tn_buf *out, const char *attr,
                      const Temporal__Api__Filter__V1__StartTimeFilter *times)
{
    int64_t from = 0, to = 0;
    if (!times)
        return;
    if (times->earliest_time && tn_ns_from_ts(times->earliest_time, &from))
        tn_buf_printf(out, " AND %s >= %lld", attr, (long long)from);
    if (times->latest_time && tn_ns_from_ts(times->latest_time, &to))
        tn_buf_printf(out, " AND %s <= %lld", attr, (long long)to);
}

static void list_built(tn_fcall *f, tn_buf *query, int32_t page_size, ProtobufCBinaryData token)
{
    tn_buf_put_u8(query, 0);
    char *text = tn_arena_strdup(f->call->arena, (const char *)query->p);
    tn_buf_done(query);
    list(f, text, page_size, token);
}

void tn_do_list_open(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__ListOpenWorkflowExecutionsRequest *r =
        REQUEST(f, ListOpenWorkflowExecutionsRequest);
    tn_buf query = {0};
    tn_buf_printf(&query, "ExecutionStatus = 'Running'");
    put_times(&query, "StartTime", r->start_time_filter);
    if (r->execution_filter && *r->execution_filter->workflow_id) {
        tn_buf_printf(&query, " AND WorkflowId = ");
        put_quoted(&query, r->execution_filter->workflow_id);
    }
    if (r->type_filter && *r->type_filter->name) {
        tn_buf_printf(&query, " AND WorkflowType = ");
        put_quoted(&query, r->type_filter->name);
    }
    list_built(f, &query, r->maximum_page_size, r->next_page_token);
}

void tn_do_list_closed(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__ListClosedWorkflowExecutionsRequest *r =
        REQUEST(f, ListClosedWorkflowExecutionsRequest);
    tn_buf query = {0};
    const char *status =
        r->status_filter ? tn_vis_status_name((int32_t)r->status_filter->status) : NULL;
    if (r->status_filter && (!status || (int)r->status_filter->status == 1)) {
        tn_front_invalid(f, "StatusFilter must be specified and must be not Running.");
        return;
    }
    if (status)
        tn_buf_printf(&query, "ExecutionStatus = '%s'", status);
    else
        tn_buf_printf(&query, "ExecutionStatus != 'Running'");
    put_times(&query, "CloseTime", r->start_time_filter);
    if (r->execution_filter && *r->execution_filter->workflow_id) {
        tn_buf_printf(&query, " AND WorkflowId = ");
        put_quoted(&query, r->execution_filter->workflow_id);
    }
    if (r->type_filter && *r->type_filter->name) {
        tn_buf_printf(&query, " AND WorkflowType = ");
        put_quoted(&query, r->type_filter->name);
    }
    list_built(f, &query, r->maximum_page_size, r->next_page_token);
}

/* ---- count ---- */

static void counted(tn_vis_op *op)
{
    listing *l = op->user;
    tn_fcall *f = l->f;
    tn_arena *arena = f->call->arena;
    Temporal__Api__Workflowservice__V1__CountWorkflowExecutionsResponse *out =
        tn_arena_alloc(arena, sizeof(*out));
    temporal__api__workflowservice__v1__count_workflow_executions_response__init(out);
    tn_status status = op->status;
    if (status == TN_OK && op->u.list.query.n_group_by)
        status = tn_vis_groups_to_api(arena, &op->u.list.page, &out->groups, &out->n_groups);
    if (status != TN_OK) {
        tn_front_fail(f, tn_fault_from_status(arena, status, &op->error));
        return;
    }
    out->count = (int64_t)op->u.list.page.count;
    tn_front_reply(f, &out->base);
}

void tn_do_count(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__CountWorkflowExecutionsRequest *r =
        REQUEST(f, CountWorkflowExecutionsRequest);
    tn_arena *arena = f->call->arena;
    listing *l = TN_NEW(arena, listing);
    l->f = f;
    l->op.arena = arena;
    l->op.user = l;
    l->op.done = counted;
    const tn_fault *fault = tn_vis_query_parse(arena, f->ns, tn_str_from(r->query),
                                               TN_VIS_FOR_COUNT, &l->op.u.list.query);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    tn_arena_set_limit(arena, 0);
    tn_vis_count(&l->op);
}
