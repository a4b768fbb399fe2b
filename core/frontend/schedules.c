/* SPDX-License-Identifier: MIT */
/* Schedules: requests are checked and brought to one form here; what they do is history's (machine/schedule.h). */
#include "frontend/priv.h"
#include "history/machine/schedule.h"
#include "visibility/visibility.h"

#define REQUEST(f, type) ((Temporal__Api__Workflowservice__V1__##type *)(void *)(f)->call->request)
#define NOTES_MAX 1000
/* What an action's workflow id grows by: "-2009-11-10T23:00:00Z". */
#define SUFFIX "-2009-11-10T23:00:00Z"
#define ALLOW_DUPLICATE 1
#define LISTED \
    "TemporalNamespaceDivision = '" TN_SCHEDULE_DIVISION "' AND ExecutionStatus = 'Running'"

typedef Temporal__Api__Schedule__V1__Schedule schedule;
typedef Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest start_request;
typedef Temporal__Api__Common__V1__SearchAttributes search_attributes;

static void to_schedule(tn_fcall *f, const char *id)
{
    tn_str workflow_id = tn_object_workflow_id(f->call->arena, &tn_schedule_kind, tn_str_from(id));
    tn_front_history(f, TN_HOP_OBJECT, workflow_id.p, NULL, f->call->request);
}

/* ---- checks ---- */

static const tn_fault *invalid(tn_fcall *f, const char *text)
{
    return tn_fault_make(f->call->arena, TN_GRPC_INVALID_ARGUMENT, "%s", text);
}

/* An id that is kept has the prefix under which it is listed elsewhere. */
static const tn_fault *check_id(tn_fcall *f, const char *id)
{
    size_t n = strlen(TN_SCHEDULE_LISTED_AS) + strlen(id), most = tn_front_id_max();
    if (n > most)
        return tn_fault_make(f->call->arena, TN_GRPC_INVALID_ARGUMENT,
                             "WorkflowId exceeds maximum allowed length (%zu/%zu)", n, most);
    return NULL;
}

static const tn_fault *check_request_id(tn_fcall *f, const char *request_id)
{
    return strlen(request_id) > tn_front_id_max() ? invalid(f, "RequestId length exceeds limit.")
                                                  : NULL;
}

static const tn_fault *settle_spec(tn_fcall *f, schedule *of)
{
    tn_arena *arena = f->call->arena;
    if (!of->spec) {
        of->spec = tn_arena_alloc(arena, sizeof(*of->spec));
        if (!of->spec)
            return tn_fault_make(arena, TN_GRPC_RESOURCE_EXHAUSTED,
                                 "request takes too much memory");
        temporal__api__schedule__v1__schedule_spec__init(of->spec);
    }
    const char *error = tn_schedule_spec_settle(arena, of->spec);
    return error
               ? tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "Invalid schedule spec: %s", error)
               : NULL;
}

/* As if it were started now, with the longer id; a copy, since that fills things in. */
static const tn_fault *check_workflow(
    tn_fcall *f, const Temporal__Api__Workflow__V1__NewWorkflowExecutionInfo *given)
{
    tn_arena *arena = f->call->arena;
    start_request r = TEMPORAL__API__WORKFLOWSERVICE__V1__START_WORKFLOW_EXECUTION_REQUEST__INIT;
    const Temporal__Api__Workflow__V1__NewWorkflowExecutionInfo *w =
        (const void *)tn_proto_copy(&given->base, arena);
    if (!w)
        return tn_fault_make(arena, TN_GRPC_RESOURCE_EXHAUSTED, "request takes too much memory");
    r.workflow_id = tn_arena_printf(arena, "%s" SUFFIX, w->workflow_id);
    r.workflow_type = w->workflow_type;
    r.task_queue = w->task_queue;
    r.input = w->input;
    r.workflow_execution_timeout = w->workflow_execution_timeout;
    r.workflow_run_timeout = w->workflow_run_timeout;
    r.workflow_task_timeout = w->workflow_task_timeout;
    r.retry_policy = w->retry_policy;
    r.memo = w->memo;
    r.search_attributes = w->search_attributes;
    r.user_metadata = w->user_metadata;
    r.priority = w->priority;
    const tn_fault *fault = tn_front_check_start(f, &r);
    if (fault)
        return fault;
    if (*w->cron_schedule)
        return invalid(f, "Scheduled workflow must not contain CronSchedule");
    given->task_queue->kind = w->task_queue->kind; /* the one thing that is shown filled in */
    if ((int)w->workflow_id_reuse_policy != 0 &&
        (int)w->workflow_id_reuse_policy != ALLOW_DUPLICATE)
        return invalid(f, "Scheduled workflow must not contain WorkflowIDReusePolicy");
    return NULL;
}

static Temporal__Api__Workflow__V1__NewWorkflowExecutionInfo *workflow_of(const schedule *of)
{
    return of->action && of->action->action_case ==
                             TEMPORAL__API__SCHEDULE__V1__SCHEDULE_ACTION__ACTION_START_WORKFLOW
               ? of->action->start_workflow
               : NULL;
}

/* The schedule's own memo and search attributes, by the rules of a workflow's. */
static const tn_fault *check_own(tn_fcall *f, search_attributes *attributes,
                                 Temporal__Api__Common__V1__Memo *memo)
{
    start_request r = TEMPORAL__API__WORKFLOWSERVICE__V1__START_WORKFLOW_EXECUTION_REQUEST__INIT;
    Temporal__Api__Common__V1__WorkflowType type = TEMPORAL__API__COMMON__V1__WORKFLOW_TYPE__INIT;
    Temporal__Api__Taskqueue__V1__TaskQueue queue = TEMPORAL__API__TASKQUEUE__V1__TASK_QUEUE__INIT;
    type.name = queue.name = r.workflow_id = (char *)(uintptr_t) "schedule";
    r.workflow_type = &type;
    r.task_queue = &queue;
    r.search_attributes = attributes;
    r.memo = memo;
    return tn_front_check_start(f, &r);
}

static const tn_fault *check_schedule(tn_fcall *f, schedule **slot)
{
    if (!*slot) {
        *slot = tn_arena_alloc(f->call->arena, sizeof(**slot));
        if (!*slot)
            return tn_fault_make(f->call->arena, TN_GRPC_RESOURCE_EXHAUSTED,
                                 "request takes too much memory");
        temporal__api__schedule__v1__schedule__init(*slot);
    }
    const tn_fault *fault = settle_spec(f, *slot);
    if (!fault && workflow_of(*slot))
        fault = check_workflow(f, workflow_of(*slot));
    if (!fault && tn_front_blob_too_large(f, &(*slot)->base))
        fault = invalid(f, "Blob data size exceeds limit.");
    return fault;
}

/* A trigger without a time means now, when it came in. */
static const tn_fault *check_patch(tn_fcall *f, Temporal__Api__Schedule__V1__SchedulePatch *patch)
{
    if (strlen(patch->pause) > NOTES_MAX || strlen(patch->unpause) > NOTES_MAX)
        return invalid(f, "Schedule notes exceeds limit.");
    if (patch->trigger_immediately && !patch->trigger_immediately->scheduled_time)
        patch->trigger_immediately->scheduled_time =
            tn_ts_from_ns(f->call->arena, (int64_t)tn_now_wall_ns());
    return tn_front_blob_too_large(f, &patch->base) ? invalid(f, "Blob data size exceeds limit.")
                                                    : NULL;
}

/* ---- calls ---- */

void tn_do_create_schedule(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__CreateScheduleRequest *r =
        REQUEST(f, CreateScheduleRequest);
    const tn_fault *fault = check_id(f, r->schedule_id);
    tn_arena_set_limit(f->call->arena, 0);
    if (!fault && !*r->request_id)
        fault = invalid(f, "RequestId is not set on request.");
    if (!fault)
        fault = check_request_id(f, r->request_id);
    if (!fault)
        fault = check_schedule(f, &r->schedule);
    if (!fault)
        fault = check_own(f, r->search_attributes, r->memo);
    if (!fault && r->initial_patch)
        fault = check_patch(f, r->initial_patch);
    if (fault)
        tn_front_fail(f, fault);
    else
        to_schedule(f, r->schedule_id);
}

void tn_do_describe_schedule(tn_fcall *f)
{
    to_schedule(f, REQUEST(f, DescribeScheduleRequest)->schedule_id);
}

void tn_do_update_schedule(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__UpdateScheduleRequest *r =
        REQUEST(f, UpdateScheduleRequest);
    const tn_fault *fault = check_request_id(f, r->request_id);
    tn_arena_set_limit(f->call->arena, 0);
    if (!fault)
        fault = check_schedule(f, &r->schedule);
    if (!fault)
        fault = check_own(f, r->search_attributes, r->memo);
    if (!fault && !workflow_of(r->schedule))
        fault = invalid(f, "Only StartWorkflow action is supported for schedules");
    if (fault)
        tn_front_fail(f, fault);
    else
        to_schedule(f, r->schedule_id);
}

void tn_do_patch_schedule(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__PatchScheduleRequest *r = REQUEST(f, PatchScheduleRequest);
    const tn_fault *fault =
        r->patch ? check_request_id(f, r->request_id) : invalid(f, "Patch is not set on request.");
    if (!fault)
        fault = check_patch(f, r->patch);
    if (fault)
        tn_front_fail(f, fault);
    else
        to_schedule(f, r->schedule_id);
}

void tn_do_schedule_times(tn_fcall *f)
{
    to_schedule(f, REQUEST(f, ListScheduleMatchingTimesRequest)->schedule_id);
}

void tn_do_delete_schedule(tn_fcall *f)
{
    to_schedule(f, REQUEST(f, DeleteScheduleRequest)->schedule_id);
}

/* ---- list and count ---- */

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool is_reserved(tn_str name)
{
    size_t n;
    const tn_attr_type_row *rows = tn_search_attr_system_table(&n);
    if (tn_str_is(name, "TemporalSchedulePaused"))
        return false;
    for (size_t i = 0; i < n; i++)
        if (tn_str_is(name, rows[i].name))
            return true;
    return false;
}

/* Runs have attributes that mean nothing for a schedule. */
static const tn_fault *check_names(tn_fcall *f, const char *query)
{
    for (const char *p = query; *p;) {
        const char *from = p;
        if (*p == '\'' || *p == '"') {
            for (p++; *p && *p != *from; p++)
                if (*p == '\\' && p[1])
                    p++;
            p += *p != '\0';
        } else if (is_name(*p)) {
            while (is_name(*p))
                p++;
            tn_str name = {from, (size_t)(p - from)};
            if (is_reserved(name))
                return tn_fault_make(
                    f->call->arena, TN_GRPC_INVALID_ARGUMENT,
                    "invalid query filter for schedules: cannot filter on \"" TN_STR_FMT "\"",
                    TN_STR_ARG(name));
        } else {
            p++;
        }
    }
    return NULL;
}

static const tn_fault *parse_query(tn_fcall *f, const char *query, uint32_t use, tn_vis_query *out)
{
    tn_arena *arena = f->call->arena;
    const char *p = query;
    while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
        p++;
    const tn_fault *fault = check_names(f, p);
    if (!fault && *p) /* by itself, so that it can't lead out of the brackets */
        fault = tn_vis_query_parse(arena, f->ns, tn_str_from(p), use, out);
    if (fault)
        return fault;
    char *text =
        *p ? tn_arena_printf(arena, LISTED " AND (%s)", p) : tn_arena_strdup(arena, LISTED);
    return tn_vis_query_parse(arena, f->ns, tn_str_from(text), use, out);
}

/* Without what the server put there itself; NULL: nothing is left. */
static search_attributes *own_attributes(search_attributes *all)
{
    size_t n = 0;
    for (size_t i = 0; all && i < all->n_indexed_fields; i++)
        if (strcmp(all->indexed_fields[i]->key, "TemporalSchedulePaused") != 0 &&
            strcmp(all->indexed_fields[i]->key, "TemporalNamespaceDivision") != 0)
            all->indexed_fields[n++] = all->indexed_fields[i];
    if (n == 0)
        return NULL;
    all->n_indexed_fields = n;
    return all;
}

static void fill_memo(tn_arena *arena, tn_blob packed,
                      Temporal__Api__Schedule__V1__ScheduleListEntry *out)
{
    Temporal__Api__Common__V1__Memo *memo = NULL;
    size_t n = 0;
    if (TN_PROTO_UNPACK(temporal__api__common__v1__memo, packed, arena, &memo, NULL) != TN_OK)
        return;
    for (size_t i = 0; i < memo->n_fields; i++) {
        const Temporal__Api__Common__V1__Payload *value = memo->fields[i]->value;
        if (strcmp(memo->fields[i]->key, TN_SCHEDULE_MEMO) != 0) {
            memo->fields[n++] = memo->fields[i];
        } else if (value && TN_PROTO_UNPACK(temporal__api__schedule__v1__schedule_list_info,
                                            tn_blob_from(value->data.data, value->data.len), arena,
                                            &out->info, NULL) == TN_OK) {
            if (out->info->spec)
                tn_schedule_spec_show(out->info->spec);
        }
    }
    memo->n_fields = n;
    out->memo = memo; /* there even when it is empty */
}

typedef struct listing {
    tn_fcall *f;
    tn_vis_op op;
} listing;

static void listed(tn_vis_op *op)
{
    tn_fcall *f = ((listing *)op->user)->f;
    tn_arena *arena = f->call->arena;
    if (op->status != TN_OK) {
        tn_front_fail(f, tn_fault_from_status(arena, op->status, &op->error));
        return;
    }
    const tn_vis_page *page = &op->u.list.page;
    Temporal__Api__Workflowservice__V1__ListSchedulesResponse *out =
        tn_arena_alloc(arena, sizeof(*out));
    temporal__api__workflowservice__v1__list_schedules_response__init(out);
    out->schedules =
        TN_NEW_ARRAY(arena, Temporal__Api__Schedule__V1__ScheduleListEntry *, page->n_docs + 1);
    for (size_t i = 0; i < page->n_docs; i++) {
        Temporal__Api__Schedule__V1__ScheduleListEntry *entry =
            tn_arena_alloc(arena, sizeof(*entry));
        Temporal__Api__Workflow__V1__WorkflowExecutionInfo *info =
            tn_vis_doc_to_info(arena, &page->docs[i]);
        temporal__api__schedule__v1__schedule_list_entry__init(entry);
        entry->schedule_id = info->execution->workflow_id;
        entry->search_attributes = own_attributes(info->search_attributes);
        fill_memo(arena, page->docs[i].memo, entry);
        out->schedules[out->n_schedules++] = entry;
    }
    tn_blob token = tn_vis_page_seal(arena, &op->u.list.query, page->next);
    out->next_page_token = (ProtobufCBinaryData){token.n, (uint8_t *)(uintptr_t)token.p};
    tn_front_reply(f, &out->base);
}

static listing *begin(tn_fcall *f, void (*done)(tn_vis_op *op))
{
    listing *l = TN_NEW(f->call->arena, listing);
    tn_arena_set_limit(f->call->arena, 0);
    l->f = f;
    l->op.arena = f->call->arena;
    l->op.user = l;
    l->op.done = done;
    return l;
}

void tn_do_list_schedules(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__ListSchedulesRequest *r = REQUEST(f, ListSchedulesRequest);
    int64_t most = tn_front_limit(f, TN_DYN_FRONTEND_VISIBILITY_PAGE),
            wanted = r->maximum_page_size;
    listing *l = begin(f, listed);
    tn_vis_query *q = &l->op.u.list.query;
    const tn_fault *fault = parse_query(f, r->query, TN_VIS_FOR_LIST, q);
    if (!fault)
        fault = tn_vis_page_open(f->call->arena,
                                 tn_blob_from(r->next_page_token.data, r->next_page_token.len), q);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    most = most > 0 && most <= UINT32_MAX ? most : 1;
    q->limit = (uint32_t)(wanted > 0 && wanted < most ? wanted : most);
    tn_vis_list(&l->op);
}

static void counted(tn_vis_op *op)
{
    tn_fcall *f = ((listing *)op->user)->f;
    tn_arena *arena = f->call->arena;
    if (op->status != TN_OK) {
        tn_front_fail(f, tn_fault_from_status(arena, op->status, &op->error));
        return;
    }
    Temporal__Api__Workflowservice__V1__CountSchedulesResponse *out =
        tn_arena_alloc(arena, sizeof(*out));
    temporal__api__workflowservice__v1__count_schedules_response__init(out);
    out->count = (int64_t)op->u.list.page.count;
    tn_front_reply(f, &out->base);
}

void tn_do_count_schedules(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__CountSchedulesRequest *r =
        REQUEST(f, CountSchedulesRequest);
    listing *l = begin(f, counted);
    const tn_fault *fault = parse_query(f, r->query, TN_VIS_FOR_LIST, &l->op.u.list.query);
    if (fault)
        tn_front_fail(f, fault);
    else
        tn_vis_count(&l->op);
}
