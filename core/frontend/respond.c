/* SPDX-License-Identifier: MIT */
/* Workers' answers.  A task token is ours (its MAC says so) and must belong to the namespace of the request. */
#include "frontend/priv.h"

#define REQUEST(f, type) ((Temporal__Api__Workflowservice__V1__##type *)(void *)(f)->call->request)

enum { TOKEN_WORKFLOW = 1, TOKEN_ACTIVITY = 2, TOKEN_QUERY = 3 };

/* NULL: the call has been answered. */
static Tenon__TaskToken *open_token(tn_fcall *f, ProtobufCBinaryData bytes, uint32_t kind)
{
    if (!bytes.len) {
        tn_front_invalid(f, "Task token not set on request.");
        return NULL;
    }
    Tenon__TaskToken *token = (Tenon__TaskToken *)(void *)tn_token_open(
        f->call->arena, tn_blob_from(bytes.data, bytes.len), &tenon__task_token__descriptor);
    if (!token || token->kind != kind) {
        tn_front_invalid(f, "Error deserializing task token.");
        return NULL;
    }
    if (!tn_str_is(f->ns->id, token->ns_id)) {
        tn_front_invalid(f, "Operation requested with a token from a different namespace.");
        return NULL;
    }
    f->token.msg = token;
    f->hreq.token = &f->token;
    return token;
}

static void with_token(tn_fcall *f, tn_hop op, ProtobufCBinaryData bytes, uint32_t kind)
{
    Tenon__TaskToken *token = open_token(f, bytes, kind);
    if (token)
        tn_front_history(f, op, token->workflow_id, token->run_id, f->call->request);
}

void tn_do_wft_completed(tn_fcall *f)
{
    with_token(f, TN_HOP_WFT_COMPLETED, REQUEST(f, RespondWorkflowTaskCompletedRequest)->task_token, TOKEN_WORKFLOW);
}

void tn_do_wft_failed(tn_fcall *f)
{
    with_token(f, TN_HOP_WFT_FAILED, REQUEST(f, RespondWorkflowTaskFailedRequest)->task_token, TOKEN_WORKFLOW);
}

void tn_do_activity_completed(tn_fcall *f)
{
    with_token(f, TN_HOP_ACT_COMPLETED, REQUEST(f, RespondActivityTaskCompletedRequest)->task_token, TOKEN_ACTIVITY);
}

void tn_do_activity_failed(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *r =
        REQUEST(f, RespondActivityTaskFailedRequest);
    if (r->failure && r->failure->failure_info_case !=
                          TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_APPLICATION_FAILURE_INFO)
        tn_front_invalid(f, "Failure must have ApplicationFailureInfo.");
    else
        with_token(f, TN_HOP_ACT_FAILED, r->task_token, TOKEN_ACTIVITY);
}

void tn_do_activity_canceled(tn_fcall *f)
{
    with_token(f, TN_HOP_ACT_CANCELED, REQUEST(f, RespondActivityTaskCanceledRequest)->task_token, TOKEN_ACTIVITY);
}

void tn_do_activity_heartbeat(tn_fcall *f)
{
    with_token(f, TN_HOP_ACT_HEARTBEAT, REQUEST(f, RecordActivityTaskHeartbeatRequest)->task_token, TOKEN_ACTIVITY);
}

/* ---- by id: the same answers, found by names instead of a token ---- */

static void heartbeat_by_id_answered(tn_hreq *req)
{
    tn_fcall *f = req->user;
    if (req->fault) {
        tn_front_fail(f, req->fault);
        return;
    }
    const Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatResponse *from =
        (const void *)req->response;
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatByIdResponse out =
        TEMPORAL__API__WORKFLOWSERVICE__V1__RECORD_ACTIVITY_TASK_HEARTBEAT_BY_ID_RESPONSE__INIT;
    out.cancel_requested = from->cancel_requested;
    out.activity_paused = from->activity_paused;
    out.activity_reset = from->activity_reset;
    tn_front_reply(f, &out.base);
}

static void by_id(tn_fcall *f, tn_hop op, const char *workflow_id, const char *run_id, const char *activity_id,
                  const ProtobufCMessage *request)
{
    uint8_t id[16];
    if (!*workflow_id) {
        tn_front_invalid(f, "WorkflowId is not set on request.");
    } else if (*run_id && !tn_uuid_parse(tn_str_from(run_id), id)) {
        tn_front_invalid(f, "Invalid RunId.");
    } else if (!*activity_id) {
        tn_front_invalid(f, "ActivityId is not set on request.");
    } else {
        f->hreq.u.activity.activity_id = tn_str_from(activity_id);
        tn_front_history(f, op, workflow_id, run_id, request);
        if (f->user)
            f->hreq.done = heartbeat_by_id_answered;
    }
}

void tn_do_activity_completed_by_id(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedByIdRequest *r =
        REQUEST(f, RespondActivityTaskCompletedByIdRequest);
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedRequest *t =
        TN_NEW(f->call->arena, Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedRequest);
    temporal__api__workflowservice__v1__respond_activity_task_completed_request__init(t);
    t->namespace_ = r->namespace_;
    t->result = r->result;
    t->identity = r->identity;
    by_id(f, TN_HOP_ACT_COMPLETED, r->workflow_id, r->run_id, r->activity_id, &t->base);
}

void tn_do_activity_failed_by_id(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedByIdRequest *r =
        REQUEST(f, RespondActivityTaskFailedByIdRequest);
    Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *t =
        TN_NEW(f->call->arena, Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest);
    temporal__api__workflowservice__v1__respond_activity_task_failed_request__init(t);
    t->namespace_ = r->namespace_;
    t->failure = r->failure;
    t->identity = r->identity;
    t->last_heartbeat_details = r->last_heartbeat_details;
    if (r->failure && r->failure->failure_info_case !=
                          TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_APPLICATION_FAILURE_INFO)
        tn_front_invalid(f, "Failure must have ApplicationFailureInfo.");
    else
        by_id(f, TN_HOP_ACT_FAILED, r->workflow_id, r->run_id, r->activity_id, &t->base);
}

void tn_do_activity_canceled_by_id(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCanceledByIdRequest *r =
        REQUEST(f, RespondActivityTaskCanceledByIdRequest);
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCanceledRequest *t =
        TN_NEW(f->call->arena, Temporal__Api__Workflowservice__V1__RespondActivityTaskCanceledRequest);
    temporal__api__workflowservice__v1__respond_activity_task_canceled_request__init(t);
    t->namespace_ = r->namespace_;
    t->details = r->details;
    t->identity = r->identity;
    by_id(f, TN_HOP_ACT_CANCELED, r->workflow_id, r->run_id, r->activity_id, &t->base);
}

void tn_do_activity_heartbeat_by_id(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatByIdRequest *r =
        REQUEST(f, RecordActivityTaskHeartbeatByIdRequest);
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatRequest *t =
        TN_NEW(f->call->arena, Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatRequest);
    temporal__api__workflowservice__v1__record_activity_task_heartbeat_request__init(t);
    t->namespace_ = r->namespace_;
    t->details = r->details;
    t->identity = r->identity;
    f->user = f; /* its answer is of another type */
    by_id(f, TN_HOP_ACT_HEARTBEAT, r->workflow_id, r->run_id, r->activity_id, &t->base);
}

/* ---- queries ---- */

static void query_taken(tn_mreq *m)
{
    tn_fcall *f = m->user;
    if (m->fault)
        tn_front_fail(f, m->fault);
    else
        tn_front_reply(f, NULL);
}

void tn_do_query_completed(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondQueryTaskCompletedRequest *r =
        REQUEST(f, RespondQueryTaskCompletedRequest);
    Tenon__TaskToken *token = open_token(f, r->task_token, TOKEN_QUERY);
    if (!token)
        return;
    tn_mreq *m = &f->mreq;
    *m = (tn_mreq){0}; /* the token was on its way to history */
    m->arena = f->call->arena;
    m->home = f->call->home;
    m->op = TN_MOP_QUERY_DONE;
    m->ns = f->ns;
    m->queue = tn_str_from(token->task_queue);
    m->type = TN_TASK_WORKFLOW;
    m->query.id = token->query_id;
    m->request = &r->base;
    m->call = f->call;
    m->deadline_mono_ns = f->call->deadline_mono_ns;
    m->done = query_taken;
    m->user = f;
    tn_client_matching(m);
}
