/* SPDX-License-Identifier: MIT */
/* Activities of their own: started, looked at, waited for, listed, ended and operated without a workflow.  The calls of
 * operators name either such an activity or one of a workflow. */
#include "frontend/priv.h"
#include "history/machine/solo.h"
#include "visibility/visibility.h"

#define REQUEST(f, type) ((Temporal__Api__Workflowservice__V1__##type *)(void *)(f)->call->request)

typedef Temporal__Api__Workflowservice__V1__StartActivityExecutionRequest start_request;
typedef Temporal__Api__Common__V1__WorkflowExecution execution_msg;

static bool enabled(tn_fcall *f)
{
    if (tn_dyn_bool(TN_DYN_ACTIVITY_STANDALONE, f->ns->name, TN_STR("")))
        return true;
    tn_front_fail(
        f, tn_fault_make(f->call->arena, TN_GRPC_UNIMPLEMENTED, "Standalone activity is disabled"));
    return false;
}

static void to_object(tn_fcall *f, tn_hop op, const char *activity_id, const char *run_id)
{
    tn_str id = tn_object_workflow_id(f->call->arena, &tn_solo_kind, tn_str_from(activity_id));
    tn_front_history(f, op, id.p, run_id, f->call->request);
}

/* ---- checks ---- */

static const char *too_long(tn_fcall *f, const char *what, const char *value)
{
    size_t max = tn_front_id_max();
    if (strlen(value) <= max)
        return NULL;
    return tn_arena_printf(f->call->arena, "%s exceeds length limit. Length=%zu Limit=%zu", what,
                           strlen(value), max);
}

/* The activity that a call names; NULL: go on. */
static const char *wrong_name(tn_fcall *f, const char *activity_id, const char *run_id)
{
    uint8_t id[16];
    const char *text;
    if (!*activity_id)
        return "activity ID is required";
    if ((text = too_long(f, "activity ID", activity_id)))
        return text;
    if (*run_id && !tn_uuid_parse(tn_str_from(run_id), id))
        return "invalid run id: must be a valid UUID";
    return NULL;
}

typedef struct changing { /* what the calls that change one have in common */
    const char *activity_id, *run_id, *identity, *reason;
    char **request_id;
} changing;

static const char *wrong_change(tn_fcall *f, const changing *c)
{
    const char *text;
    if (!**c->request_id)
        *c->request_id = tn_fresh_uuid(f->call->arena);
    if ((text = too_long(f, "request ID", *c->request_id)) ||
        (text = wrong_name(f, c->activity_id, c->run_id)) ||
        (text = too_long(f, "identity", c->identity)))
        return text;
    int64_t max = tn_front_limit(f, TN_DYN_LIMIT_BLOB_SIZE_ERROR);
    return max > 0 && strlen(c->reason) > (size_t)max ? "reason exceeds length limit" : NULL;
}

static void change(tn_fcall *f, const changing *c)
{
    if (!enabled(f))
        return;
    const char *text = wrong_change(f, c);
    if (text)
        tn_front_invalid(f, "%s", text);
    else
        to_object(f, TN_HOP_OBJECT, c->activity_id, c->run_id);
}

/* ---- start ---- */

static const char *wrong_metadata(tn_fcall *f, const Temporal__Api__Sdk__V1__UserMetadata *meta)
{
    const struct {
        const char *name;
        const Temporal__Api__Common__V1__Payload *payload;
        int64_t max;
    } parts[] = {
        {"summary", meta ? meta->summary : NULL, tn_front_limit(f, TN_DYN_LIMIT_SUMMARY_SIZE)},
        {"details", meta ? meta->details : NULL, tn_front_limit(f, TN_DYN_LIMIT_DETAILS_SIZE)},
    };
    for (size_t i = 0; i < TN_COUNT_OF(parts); i++) {
        size_t size =
            parts[i].payload ? protobuf_c_message_get_packed_size(&parts[i].payload->base) : 0;
        if (parts[i].max > 0 && size > (size_t)parts[i].max)
            return tn_arena_printf(f->call->arena,
                                   "user_metadata.%s exceeds size limit. Length=%zu Limit=%lld",
                                   parts[i].name, size, (long long)parts[i].max);
    }
    return NULL;
}

static const char *wrong_policies(tn_fcall *f, start_request *r)
{
    if (!r->id_reuse_policy)
        r->id_reuse_policy =
            TEMPORAL__API__ENUMS__V1__ACTIVITY_ID_REUSE_POLICY__ACTIVITY_ID_REUSE_POLICY_ALLOW_DUPLICATE;
    if (!r->id_conflict_policy)
        r->id_conflict_policy =
            TEMPORAL__API__ENUMS__V1__ACTIVITY_ID_CONFLICT_POLICY__ACTIVITY_ID_CONFLICT_POLICY_FAIL;
    if ((int)r->id_reuse_policy < 1 || (int)r->id_reuse_policy > 3)
        return tn_arena_printf(f->call->arena, "unsupported ID reuse policy: %d",
                               (int)r->id_reuse_policy);
    if ((int)r->id_conflict_policy < 1 || (int)r->id_conflict_policy > 2)
        return tn_arena_printf(f->call->arena, "unsupported ID conflict policy: %d",
                               (int)r->id_conflict_policy);
    return NULL;
}

static const char *wrong_conflict(const start_request *r)
{
    const Temporal__Api__Common__V1__OnConflictOptions *options = r->on_conflict_options;
    if (!options)
        return NULL;
    if (options->attach_completion_callbacks && !options->attach_request_id)
        return "on_conflict_options: attach_completion_callbacks requires attach_request_id to be "
               "set";
    if (options->attach_request_id && !r->n_completion_callbacks && !r->n_links)
        return "on_conflict_options: attach_request_id requires at least one completion callback "
               "or link";
    return NULL;
}

static const tn_fault *check_start(tn_fcall *f, start_request *r)
{
    tn_arena *arena = f->call->arena;
    const tn_fault *fault;
    const char *text;
    if (!*r->request_id)
        r->request_id = tn_fresh_uuid(arena);
    text = tn_activity_start_settle(arena, (int64_t)tn_front_id_max(), r);
    if (!text && tn_duration_ns(r->start_delay) &&
        !tn_dyn_bool(TN_DYN_ACTIVITY_START_DELAY, f->ns->name, TN_STR("")))
        text = "start_delay is not enabled for this namespace";
    if (!text)
        text = too_long(f, "request ID", r->request_id);
    if (!text)
        text = too_long(f, "identity", r->identity);
    if (!text)
        text = wrong_policies(f, r);
    if (!text && tn_front_blob_too_large(f, r->input ? &r->input->base : NULL))
        text = "input exceeds length limit";
    if (!text)
        text = wrong_metadata(f, r->user_metadata);
    if (text)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "%s", text);
    if ((fault = tn_front_check_search_attributes(f, r->search_attributes)))
        return fault;
    if (r->n_completion_callbacks)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                             "completion callbacks are not enabled for this namespace");
    if ((fault = tn_front_check_links(f, r->n_links, r->links)))
        return fault;
    text = wrong_conflict(r);
    return text ? tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "%s", text) : NULL;
}

void tn_do_start_activity(tn_fcall *f)
{
    start_request *r = REQUEST(f, StartActivityExecutionRequest);
    if (!enabled(f))
        return;
    const tn_fault *fault = check_start(f, r);
    if (fault)
        tn_front_fail(f, fault);
    else
        to_object(f, TN_HOP_OBJECT, r->activity_id, NULL);
}

/* ---- one ---- */

void tn_do_describe_activity(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__DescribeActivityExecutionRequest *r =
        REQUEST(f, DescribeActivityExecutionRequest);
    const char *text;
    if (!enabled(f))
        return;
    text = wrong_name(f, r->activity_id, "");
    if (!text && r->long_poll_token.len && !*r->run_id)
        text = "run id is required when long poll token is provided";
    if (!text)
        text = wrong_name(f, r->activity_id, r->run_id);
    if (text)
        tn_front_invalid(f, "%s", text);
    else
        to_object(f, TN_HOP_OBJECT, r->activity_id, r->run_id);
}

void tn_do_poll_activity_execution(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__PollActivityExecutionRequest *r =
        REQUEST(f, PollActivityExecutionRequest);
    const char *text;
    if (!enabled(f))
        return;
    if ((text = wrong_name(f, r->activity_id, r->run_id)))
        tn_front_invalid(f, "%s", text);
    else
        to_object(f, TN_HOP_OBJECT, r->activity_id, r->run_id);
}

void tn_do_cancel_activity(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RequestCancelActivityExecutionRequest *r =
        REQUEST(f, RequestCancelActivityExecutionRequest);
    change(f, &(changing){r->activity_id, r->run_id, r->identity, r->reason, &r->request_id});
}

void tn_do_terminate_activity(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__TerminateActivityExecutionRequest *r =
        REQUEST(f, TerminateActivityExecutionRequest);
    change(f, &(changing){r->activity_id, r->run_id, r->identity, r->reason, &r->request_id});
}

void tn_do_delete_activity(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__DeleteActivityExecutionRequest *r =
        REQUEST(f, DeleteActivityExecutionRequest);
    const char *text;
    if (!enabled(f))
        return;
    if ((text = wrong_name(f, r->activity_id, r->run_id)))
        tn_front_invalid(f, "%s", text);
    else
        to_object(f, TN_HOP_DELETE, r->activity_id, r->run_id);
}

/* ---- operators: of such an activity, or of one of a workflow ---- */

static execution_msg *execution_of(tn_fcall *f, const char *workflow_id, const char *run_id)
{
    execution_msg *execution = TN_NEW(f->call->arena, execution_msg);
    temporal__api__common__v1__workflow_execution__init(execution);
    execution->workflow_id = (char *)(uintptr_t)workflow_id;
    execution->run_id = (char *)(uintptr_t)run_id;
    return execution;
}

/* as: what is asked of the workflow's activity, when it is one; done (may be NULL): who answers then. */
static void operate(tn_fcall *f, const changing *c, const char *workflow_id,
                    const Google__Protobuf__Duration *jitter, const ProtobufCMessage *as,
                    void (*done)(tn_hreq *req))
{
    const char *text,
        *bad = jitter ? tn_duration_settle((Google__Protobuf__Duration *)(uintptr_t)jitter) : NULL;
    if (!*workflow_id && !enabled(f))
        return;
    if (!*workflow_id && !tn_dyn_bool(TN_DYN_ACTIVITY_OPERATORS, f->ns->name, TN_STR(""))) {
        tn_front_fail(f, tn_fault_make(f->call->arena, TN_GRPC_UNIMPLEMENTED,
                                       "Standalone activity operator commands are disabled"));
    } else if ((text = wrong_change(f, c))) {
        tn_front_invalid(f, "%s", text);
    } else if (bad) {
        tn_front_invalid(f, "invalid jitter: %s", bad);
    } else if (*workflow_id) {
        tn_front_history(f, TN_HOP_OPERATE, workflow_id, c->run_id, as);
        if (done) {
            f->hreq.done = done;
            f->hreq.pass_on = false;
        }
    } else {
        to_object(f, TN_HOP_OBJECT, c->activity_id, c->run_id);
    }
}

#define AS(f, type, lower) \
    Temporal__Api__Workflowservice__V1__##type *as = \
        TN_NEW((f)->call->arena, Temporal__Api__Workflowservice__V1__##type); \
    temporal__api__workflowservice__v1__##lower##__init(as)

void tn_do_pause_activity_execution(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__PauseActivityExecutionRequest *r =
        REQUEST(f, PauseActivityExecutionRequest);
    AS(f, PauseActivityRequest, pause_activity_request);
    as->execution = execution_of(f, r->workflow_id, r->run_id);
    as->activity_case = TEMPORAL__API__WORKFLOWSERVICE__V1__PAUSE_ACTIVITY_REQUEST__ACTIVITY_ID;
    as->id = r->activity_id;
    as->identity = r->identity;
    as->reason = r->reason;
    if (!*r->request_id)
        r->request_id = tn_fresh_uuid(f->call->arena);
    as->request_id = r->request_id;
    operate(f, &(changing){r->activity_id, r->run_id, r->identity, r->reason, &r->request_id},
            r->workflow_id, NULL, &as->base, NULL);
}

void tn_do_unpause_activity_execution(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__UnpauseActivityExecutionRequest *r =
        REQUEST(f, UnpauseActivityExecutionRequest);
    AS(f, UnpauseActivityRequest, unpause_activity_request);
    as->execution = execution_of(f, r->workflow_id, r->run_id);
    as->activity_case = TEMPORAL__API__WORKFLOWSERVICE__V1__UNPAUSE_ACTIVITY_REQUEST__ACTIVITY_ID;
    as->id = r->activity_id;
    as->identity = r->identity;
    as->jitter = r->jitter;
    operate(f, &(changing){r->activity_id, r->run_id, r->identity, r->reason, &r->request_id},
            r->workflow_id, r->jitter, &as->base, NULL);
}

void tn_do_reset_activity_execution(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__ResetActivityExecutionRequest *r =
        REQUEST(f, ResetActivityExecutionRequest);
    AS(f, ResetActivityRequest, reset_activity_request);
    as->execution = execution_of(f, r->workflow_id, r->run_id);
    as->activity_case = TEMPORAL__API__WORKFLOWSERVICE__V1__RESET_ACTIVITY_REQUEST__ACTIVITY_ID;
    as->id = r->activity_id;
    as->identity = r->identity;
    as->reset_heartbeat = r->reset_heartbeat;
    as->keep_paused = r->keep_paused;
    as->restore_original_options = r->restore_original_options;
    as->jitter = r->jitter;
    operate(f, &(changing){r->activity_id, r->run_id, r->identity, "", &r->request_id},
            r->workflow_id, r->jitter, &as->base, NULL);
}

static const char *wrong_options(
    tn_fcall *f, const Temporal__Api__Workflowservice__V1__UpdateActivityExecutionOptionsRequest *r)
{
    static const char *const known[] = {
        "task_queue.name",
        "schedule_to_close_timeout",
        "schedule_to_start_timeout",
        "start_to_close_timeout",
        "heartbeat_timeout",
        "priority",
        "priority.priority_key",
        "priority.fairness_key",
        "priority.fairness_weight",
        "retry_policy",
        "retry_policy.initial_interval",
        "retry_policy.backoff_coefficient",
        "retry_policy.maximum_interval",
        "retry_policy.maximum_attempts",
        "start_delay",
    };
    if (r->update_mask && r->update_mask->n_paths && r->restore_original)
        return "Both UpdateMask and RestoreOriginal are provided";
    if (r->restore_original)
        return NULL;
    if (!r->activity_options)
        return "ActivityOptions are not provided";
    if (!r->update_mask)
        return "UpdateMask is not provided";
    if (!r->update_mask->n_paths)
        return "UpdateMask must specify at least one path";
    for (size_t i = 0; i < r->update_mask->n_paths; i++) {
        Google__Protobuf__FieldMask one = *r->update_mask;
        bool found = false;
        one.paths = &r->update_mask->paths[i];
        one.n_paths = 1;
        for (size_t k = 0; k < TN_COUNT_OF(known); k++)
            found = found || tn_mask_has(&one, known[k]);
        if (!found)
            return tn_arena_printf(f->call->arena, "unsupported update_mask path: \"%s\"",
                                   one.paths[0]);
    }
    return tn_front_wrong_priority(r->activity_options->priority);
}

/* The answer of the workflow's activity in the words of this call. */
static void options_answered(tn_hreq *req)
{
    tn_fcall *f = req->user;
    Temporal__Api__Workflowservice__V1__UpdateActivityExecutionOptionsResponse out =
        TEMPORAL__API__WORKFLOWSERVICE__V1__UPDATE_ACTIVITY_EXECUTION_OPTIONS_RESPONSE__INIT;
    if (req->fault) {
        tn_front_fail(f, req->fault);
        return;
    }
    out.activity_options =
        ((const Temporal__Api__Workflowservice__V1__UpdateActivityOptionsResponse *)req->response)
            ->activity_options;
    tn_front_reply(f, &out.base);
}

void tn_do_update_activity_execution_options(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__UpdateActivityExecutionOptionsRequest *r =
        REQUEST(f, UpdateActivityExecutionOptionsRequest);
    const char *text = wrong_options(f, r);
    AS(f, UpdateActivityOptionsRequest, update_activity_options_request);
    as->execution = execution_of(f, r->workflow_id, r->run_id);
    as->activity_case =
        TEMPORAL__API__WORKFLOWSERVICE__V1__UPDATE_ACTIVITY_OPTIONS_REQUEST__ACTIVITY_ID;
    as->id = r->activity_id;
    as->identity = r->identity;
    as->activity_options = r->activity_options;
    as->update_mask = r->update_mask;
    as->restore_original = r->restore_original;
    if (text) {
        tn_front_invalid(f, "%s", text);
        return;
    }
    operate(f, &(changing){r->activity_id, r->run_id, r->identity, "", &r->request_id},
            r->workflow_id, NULL, &as->base, options_answered);
}

/* ---- many ---- */

typedef struct listing {
    tn_fcall *f;
    tn_vis_op op;
} listing;

static Temporal__Api__Activity__V1__ActivityExecutionListInfo *as_activity(
    tn_arena *arena, const Temporal__Api__Workflow__V1__WorkflowExecutionInfo *run)
{
    static const int32_t statuses[] = {
        [1] = 1, [2] = 2, [3] = 3, [4] = 4, [5] = 5, [7] = 6, [8] = 7};
    Temporal__Api__Activity__V1__ActivityExecutionListInfo *out =
        TN_NEW(arena, Temporal__Api__Activity__V1__ActivityExecutionListInfo);
    temporal__api__activity__v1__activity_execution_list_info__init(out);
    out->activity_id = run->execution->workflow_id;
    out->run_id = run->execution->run_id;
    out->activity_type = TN_NEW(arena, Temporal__Api__Common__V1__ActivityType);
    temporal__api__common__v1__activity_type__init(out->activity_type);
    out->activity_type->name = run->type->name;
    out->schedule_time = run->start_time;
    out->execution_time = run->execution_time;
    out->close_time = run->close_time;
    if (run->close_time) {
        int64_t begin = 0, end = 0;
        if (tn_ns_from_ts(run->start_time, &begin) && tn_ns_from_ts(run->close_time, &end))
            out->execution_duration = tn_duration_from_ns(arena, end - begin);
    }
    if ((int)run->status > 0 && (size_t)run->status < TN_COUNT_OF(statuses))
        out->status = (Temporal__Api__Enums__V1__ActivityExecutionStatus)statuses[run->status];
    out->search_attributes = run->search_attributes;
    out->task_queue = run->task_queue;
    out->state_transition_count = run->state_transition_count;
    return out;
}

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
    Temporal__Api__Workflowservice__V1__ListActivityExecutionsResponse out =
        TEMPORAL__API__WORKFLOWSERVICE__V1__LIST_ACTIVITY_EXECUTIONS_RESPONSE__INIT;
    out.executions = TN_NEW_ARRAY(arena, Temporal__Api__Activity__V1__ActivityExecutionListInfo *,
                                  page->n_docs + 1);
    for (size_t i = 0; i < page->n_docs; i++)
        out.executions[out.n_executions++] =
            as_activity(arena, tn_vis_doc_to_info(arena, &page->docs[i]));
    tn_blob token = tn_vis_page_seal(arena, &op->u.list.query, page->next);
    out.next_page_token = (ProtobufCBinaryData){token.n, (uint8_t *)(uintptr_t)token.p};
    tn_front_reply(f, &out.base);
}

static listing *begin_listing(tn_fcall *f, void (*done)(tn_vis_op *op))
{
    listing *l = TN_NEW(f->call->arena, listing);
    l->f = f;
    l->op.arena = f->call->arena;
    l->op.user = l;
    l->op.done = done;
    return l;
}

void tn_do_list_activities(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__ListActivityExecutionsRequest *r =
        REQUEST(f, ListActivityExecutionsRequest);
    tn_arena *arena = f->call->arena;
    if (!enabled(f))
        return;
    listing *l = begin_listing(f, listed);
    tn_vis_query *q = &l->op.u.list.query;
    int64_t page_max = tn_front_limit(f, TN_DYN_FRONTEND_VISIBILITY_PAGE);
    page_max = page_max > 0 && page_max <= UINT32_MAX ? page_max : 1;
    const tn_fault *fault = tn_vis_query_parse_in(arena, f->ns, tn_str_from(r->query),
                                                  TN_VIS_FOR_LIST, &tn_solo_division, q);
    if (!fault)
        fault = tn_vis_page_open(arena,
                                 tn_blob_from(r->next_page_token.data, r->next_page_token.len), q);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    q->limit =
        r->page_size > 0 && r->page_size <= page_max ? (uint32_t)r->page_size : (uint32_t)page_max;
    tn_arena_set_limit(arena, 0);
    tn_vis_list(&l->op);
}

static void counted(tn_vis_op *op)
{
    listing *l = op->user;
    tn_fcall *f = l->f;
    tn_arena *arena = f->call->arena;
    Temporal__Api__Workflowservice__V1__CountWorkflowExecutionsResponse__AggregationGroup **groups =
        NULL;
    Temporal__Api__Workflowservice__V1__CountActivityExecutionsResponse out =
        TEMPORAL__API__WORKFLOWSERVICE__V1__COUNT_ACTIVITY_EXECUTIONS_RESPONSE__INIT;
    size_t n = 0;
    tn_status status = op->status;
    if (status == TN_OK && op->u.list.query.n_group_by)
        status = tn_vis_groups_to_api(arena, &op->u.list.page, &groups, &n);
    if (status != TN_OK) {
        tn_front_fail(f, tn_fault_from_status(arena, status, &op->error));
        return;
    }
    typedef Temporal__Api__Workflowservice__V1__CountActivityExecutionsResponse__AggregationGroup
        group;
    out.groups = TN_NEW_ARRAY(arena, group *, n + 1);
    for (size_t i = 0; i < n; i++) {
        group *g = TN_NEW(arena, group);
        temporal__api__workflowservice__v1__count_activity_executions_response__aggregation_group__init(
            g);
        g->group_values = groups[i]->group_values;
        g->n_group_values = groups[i]->n_group_values;
        g->count = groups[i]->count;
        out.groups[out.n_groups++] = g;
    }
    out.count = (int64_t)op->u.list.page.count;
    tn_front_reply(f, &out.base);
}

void tn_do_count_activities(tn_fcall *f)
{
    const Temporal__Api__Workflowservice__V1__CountActivityExecutionsRequest *r =
        REQUEST(f, CountActivityExecutionsRequest);
    tn_arena *arena = f->call->arena;
    if (!enabled(f))
        return;
    listing *l = begin_listing(f, counted);
    const tn_fault *fault =
        tn_vis_query_parse_in(arena, f->ns, tn_str_from(r->query), TN_VIS_FOR_COUNT,
                              &tn_solo_division, &l->op.u.list.query);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    tn_arena_set_limit(arena, 0);
    tn_vis_count(&l->op);
}
