/* SPDX-License-Identifier: MIT */
/* Workers' answers.  A task token is ours (its MAC says so) and must belong to the namespace of the request. */
#include "frontend/priv.h"
#include "history/machine/solo.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

#define REQUEST(f, type) ((Temporal__Api__Workflowservice__V1__##type *)(void *)(f)->call->request)

Tenon__TaskToken *tn_front_token(const tn_fcall *f, ProtobufCBinaryData bytes)
{
    return (Tenon__TaskToken *)(void *)tn_token_open(
        f->call->arena, tn_blob_from(bytes.data, bytes.len), &tenon__task_token__descriptor);
}

/* A token of ours for a task of another kind: there is no such task. */
static void refuse_kind(tn_fcall *f, uint32_t kind)
{
    Temporal__Api__Errordetails__V1__NotFoundFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__NOT_FOUND_FAILURE__INIT;
    if (kind == TN_TOKEN_QUERY)
        tn_front_invalid(f, "Error deserializing task token.");
    else if (kind == TN_TOKEN_WORKFLOW)
        tn_front_fail(f, tn_fault_detailed(f->call->arena, TN_GRPC_NOT_FOUND, &detail.base,
                                           "Workflow task not found."));
    else
        tn_front_fail(f,
                      tn_fault_detailed(
                          f->call->arena, TN_GRPC_NOT_FOUND, &detail.base,
                          "invalid activityID or activity already timed out or invoking workflow "
                          "is completed"));
}

/* NULL: the call has been answered. */
static Tenon__TaskToken *open_token(tn_fcall *f, ProtobufCBinaryData bytes, uint32_t kind)
{
    if (!bytes.len) {
        tn_front_invalid(f, "Task token not set on request.");
        return NULL;
    }
    Tenon__TaskToken *token = tn_front_token(f, bytes);
    if (!token) {
        tn_front_invalid(f, "Error deserializing task token.");
        return NULL;
    }
    if (!tn_str_is(f->ns->id, token->ns_id)) {
        tn_front_invalid(f, "Operation requested with a token from a different namespace.");
        return NULL;
    }
    if (token->kind != kind) {
        refuse_kind(f, kind);
        return NULL;
    }
    f->token.msg = token;
    f->hreq.token = &f->token;
    return token;
}

/* The call's own answer is ready in f->user: history's is of another type. */
static void answered_otherwise(tn_hreq *req)
{
    tn_fcall *f = req->user;
    if (req->fault)
        tn_front_fail(f, req->fault);
    else
        tn_front_reply(f, f->user);
}

static void with_token(tn_fcall *f, tn_hop op, ProtobufCBinaryData bytes, uint32_t kind,
                       const ProtobufCMessage *request, const char *identity)
{
    Tenon__TaskToken *token = open_token(f, bytes, kind);
    const tn_fault *fault = token ? tn_front_check_identity(f->call->arena, identity) : NULL;
    if (fault) {
        tn_front_fail(f, fault);
    } else if (token) {
        if (request == f->call->request &&
            (op == TN_HOP_WFT_COMPLETED || op == TN_HOP_ACT_COMPLETED ||
             op == TN_HOP_ACT_HEARTBEAT))
            f->hreq.packed = (tn_packed){request, f->call->message}; /* nothing was changed in it */
        tn_front_history(f, op, token->workflow_id, token->run_id, request);
        if (f->user)
            f->hreq.done = answered_otherwise;
    }
}

/* ---- what is too large ---- */

#define COMPLETE_TOO_LARGE "Complete result exceeds size limit."
#define FAILURE_TOO_LARGE "Failure exceeds size limit."
#define CANCEL_TOO_LARGE "Cancel details exceed size limit."
#define HEARTBEAT_TOO_LARGE "Heartbeat details exceed size limit."

static Temporal__Api__Failure__V1__Failure *server_failure(tn_arena *arena, const char *message)
{
    Temporal__Api__Failure__V1__Failure *failure =
        TN_NEW(arena, Temporal__Api__Failure__V1__Failure);
    temporal__api__failure__v1__failure__init(failure);
    failure->message = (char *)(uintptr_t)message;
    failure->failure_info_case =
        TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_SERVER_FAILURE_INFO;
    failure->server_failure_info = TN_NEW(arena, Temporal__Api__Failure__V1__ServerFailureInfo);
    temporal__api__failure__v1__server_failure_info__init(failure->server_failure_info);
    failure->server_failure_info->non_retryable = true;
    return failure;
}

/* The failure as it may be kept: one that is too large becomes a server failure with what fits as its cause. */
static Temporal__Api__Failure__V1__Failure *fit_failure(
    const tn_fcall *f, Temporal__Api__Failure__V1__Failure *failure)
{
    if (!failure || !tn_front_blob_too_large(f, &failure->base))
        return failure;
    Temporal__Api__Failure__V1__Failure *fitting =
        server_failure(f->call->arena, FAILURE_TOO_LARGE);
    Temporal__Api__Failure__V1__Failure *cause = server_failure(f->call->arena, "");
    int64_t room = tn_front_limit(f, TN_DYN_LIMIT_BLOB_SIZE_WARN);
    size_t n = strlen(failure->message);
    if (room > 1024 && n > (size_t)room - 1024)
        for (n = (size_t)room - 1024; n && ((unsigned char)failure->message[n] & 0xc0) == 0x80;)
            n--; /* not in the middle of a character */
    cause->message =
        (char *)(uintptr_t)tn_arena_str(f->call->arena, (tn_str){failure->message, n}).p;
    cause->source = failure->source;
    fitting->cause = cause;
    return fitting;
}

/* A worker's answer that cannot be kept fails the activity for good. */
static const ProtobufCMessage *failed_instead(tn_fcall *f, ProtobufCBinaryData token,
                                              const char *identity, const char *why)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *r = TN_NEW(
        f->call->arena, Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest);
    temporal__api__workflowservice__v1__respond_activity_task_failed_request__init(r);
    r->task_token = token;
    r->failure = server_failure(f->call->arena, why);
    r->identity = (char *)(uintptr_t)identity;
    return &r->base;
}

/* The answer to a call whose request was turned into a failure: an empty message of the call's own type. */
static void answer_with(tn_fcall *f, const ProtobufCMessageDescriptor *type)
{
    ProtobufCMessage *out = tn_arena_alloc(f->call->arena, type->sizeof_message);
    if (!out)
        return;
    protobuf_c_message_init(type, out);
    f->user = out;
}

/* ---- by token ---- */

void tn_do_wft_completed(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *r =
        REQUEST(f, RespondWorkflowTaskCompletedRequest);
    const tn_fault *fault = tn_front_check_version(
        f, r->worker_version_stamp ? r->worker_version_stamp->build_id : "",
        r->worker_version_stamp && r->worker_version_stamp->use_versioning, r->deployment_options,
        r->sticky_attributes ? r->sticky_attributes->worker_task_queue : NULL);
    if (fault)
        tn_front_fail(f, fault);
    else
        with_token(f, TN_HOP_WFT_COMPLETED, r->task_token, TN_TOKEN_WORKFLOW, &r->base,
                   r->identity);
}

void tn_do_wft_failed(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskFailedRequest *r =
        REQUEST(f, RespondWorkflowTaskFailedRequest);
    r->failure = fit_failure(f, r->failure);
    with_token(f, TN_HOP_WFT_FAILED, r->task_token, TN_TOKEN_WORKFLOW, &r->base, r->identity);
}

static bool too_large(const tn_fcall *f, const Temporal__Api__Common__V1__Payloads *payloads)
{
    return payloads && tn_front_blob_too_large(f, &payloads->base);
}

void tn_do_activity_completed(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedRequest *r =
        REQUEST(f, RespondActivityTaskCompletedRequest);
    const ProtobufCMessage *request = &r->base;
    tn_hop op = TN_HOP_ACT_COMPLETED;
    if (too_large(f, r->result)) {
        op = TN_HOP_ACT_FAILED;
        request = failed_instead(f, r->task_token, r->identity, COMPLETE_TOO_LARGE);
        answer_with(f, f->call->method->output);
    }
    with_token(f, op, r->task_token, TN_TOKEN_ACTIVITY, request, r->identity);
}

static const tn_fault *check_failure(tn_arena *arena,
                                     const Temporal__Api__Failure__V1__Failure *failure)
{
    if (failure && failure->failure_info_case !=
                       TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_APPLICATION_FAILURE_INFO)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                             "Failure must have ApplicationFailureInfo.");
    for (; failure; failure = failure->cause) {
        const Google__Protobuf__Duration *delay =
            failure->failure_info_case ==
                    TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_APPLICATION_FAILURE_INFO
                ? failure->application_failure_info->next_retry_delay
                : NULL;
        int64_t ns;
        if (delay && !tn_ns_from_duration(delay, &ns))
            return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                                 "NextRetryDelay is not a valid duration: it is out of range");
    }
    return NULL;
}

/* What had to be left out is told in the answer. */
static void fit_activity_failure(
    tn_fcall *f, Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *r,
    Temporal__Api__Failure__V1__Failure *out_told[2], size_t *out_n)
{
    *out_n = 0;
    if (too_large(f, r->last_heartbeat_details)) {
        r->last_heartbeat_details = NULL;
        out_told[(*out_n)++] = server_failure(f->call->arena, HEARTBEAT_TOO_LARGE);
    }
    Temporal__Api__Failure__V1__Failure *fitting = fit_failure(f, r->failure);
    if (fitting != r->failure)
        out_told[(*out_n)++] = fitting;
    r->failure = fitting;
}

void tn_do_activity_failed(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *r =
        REQUEST(f, RespondActivityTaskFailedRequest);
    const tn_fault *fault = check_failure(f->call->arena, r->failure);
    Temporal__Api__Failure__V1__Failure **told =
        TN_NEW_ARRAY(f->call->arena, Temporal__Api__Failure__V1__Failure *, 2);
    size_t n_told = 0;
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    fit_activity_failure(f, r, told, &n_told);
    if (n_told) {
        Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedResponse *out;
        answer_with(f, f->call->method->output);
        if ((out = f->user)) {
            out->failures = told;
            out->n_failures = n_told;
        }
    }
    with_token(f, TN_HOP_ACT_FAILED, r->task_token, TN_TOKEN_ACTIVITY, &r->base, r->identity);
}

void tn_do_activity_canceled(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCanceledRequest *r =
        REQUEST(f, RespondActivityTaskCanceledRequest);
    const ProtobufCMessage *request = &r->base;
    tn_hop op = TN_HOP_ACT_CANCELED;
    if (too_large(f, r->details)) {
        op = TN_HOP_ACT_FAILED;
        request = failed_instead(f, r->task_token, r->identity, CANCEL_TOO_LARGE);
        answer_with(f, f->call->method->output);
    }
    with_token(f, op, r->task_token, TN_TOKEN_ACTIVITY, request, r->identity);
}

void tn_do_activity_heartbeat(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatRequest *r =
        REQUEST(f, RecordActivityTaskHeartbeatRequest);
    const ProtobufCMessage *request = &r->base;
    tn_hop op = TN_HOP_ACT_HEARTBEAT;
    if (too_large(f, r->details)) {
        Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatResponse *out;
        op = TN_HOP_ACT_FAILED;
        request = failed_instead(f, r->task_token, r->identity, HEARTBEAT_TOO_LARGE);
        answer_with(f, f->call->method->output);
        if ((out = f->user))
            out->cancel_requested = true;
    }
    with_token(f, op, r->task_token, TN_TOKEN_ACTIVITY, request, r->identity);
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

typedef struct named { /* an activity as the ...ById calls name it */
    const char *workflow_id, *run_id, *activity_id, *identity;
} named;

static void by_id(tn_fcall *f, tn_hop op, const named *a, const ProtobufCMessage *request,
                  void (*done)(tn_hreq *req))
{
    const tn_fault *fault = NULL;
    const char *workflow_id = a->workflow_id;
    uint8_t id[16];
    if (!*workflow_id) /* one of its own */
        workflow_id =
            tn_object_workflow_id(f->call->arena, &tn_solo_kind, tn_str_from(a->activity_id)).p;
    if (!*a->activity_id) {
        tn_front_invalid(f, "ActivityId is not set on request.");
    } else if ((fault = tn_front_check_identity(f->call->arena, a->identity))) {
        tn_front_fail(f, fault);
    } else if (*a->run_id && !tn_uuid_parse(tn_str_from(a->run_id), id)) {
        tn_front_invalid(f, "Invalid RunId.");
    } else {
        f->hreq.u.activity.activity_id = tn_str_from(a->activity_id);
        tn_front_history(f, op, workflow_id, a->run_id, request);
        if (done) {
            f->hreq.done = done;
            f->hreq.pass_on = false;
        }
    }
}

static const ProtobufCBinaryData no_token;

void tn_do_activity_completed_by_id(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedByIdRequest *r =
        REQUEST(f, RespondActivityTaskCompletedByIdRequest);
    const named name = {r->workflow_id, r->run_id, r->activity_id, r->identity};
    if (too_large(f, r->result)) {
        answer_with(f, f->call->method->output);
        by_id(f, TN_HOP_ACT_FAILED, &name,
              failed_instead(f, no_token, r->identity, COMPLETE_TOO_LARGE), answered_otherwise);
        return;
    }
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedRequest *t = TN_NEW(
        f->call->arena, Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedRequest);
    temporal__api__workflowservice__v1__respond_activity_task_completed_request__init(t);
    t->namespace_ = r->namespace_;
    t->result = r->result;
    t->identity = r->identity;
    by_id(f, TN_HOP_ACT_COMPLETED, &name, &t->base, NULL);
}

void tn_do_activity_failed_by_id(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedByIdRequest *r =
        REQUEST(f, RespondActivityTaskFailedByIdRequest);
    const named name = {r->workflow_id, r->run_id, r->activity_id, r->identity};
    const tn_fault *fault = check_failure(f->call->arena, r->failure);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *t = TN_NEW(
        f->call->arena, Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest);
    Temporal__Api__Failure__V1__Failure **told =
        TN_NEW_ARRAY(f->call->arena, Temporal__Api__Failure__V1__Failure *, 2);
    Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedByIdResponse *out;
    temporal__api__workflowservice__v1__respond_activity_task_failed_request__init(t);
    t->namespace_ = r->namespace_;
    t->failure = r->failure;
    t->identity = r->identity;
    t->last_heartbeat_details = r->last_heartbeat_details;
    answer_with(f, f->call->method->output);
    out = f->user;
    out->failures = told;
    fit_activity_failure(f, t, told, &out->n_failures);
    by_id(f, TN_HOP_ACT_FAILED, &name, &t->base, answered_otherwise);
}

void tn_do_activity_canceled_by_id(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCanceledByIdRequest *r =
        REQUEST(f, RespondActivityTaskCanceledByIdRequest);
    const named name = {r->workflow_id, r->run_id, r->activity_id, r->identity};
    if (too_large(f, r->details)) {
        answer_with(f, f->call->method->output);
        by_id(f, TN_HOP_ACT_FAILED, &name,
              failed_instead(f, no_token, r->identity, CANCEL_TOO_LARGE), answered_otherwise);
        return;
    }
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCanceledRequest *t = TN_NEW(
        f->call->arena, Temporal__Api__Workflowservice__V1__RespondActivityTaskCanceledRequest);
    temporal__api__workflowservice__v1__respond_activity_task_canceled_request__init(t);
    t->namespace_ = r->namespace_;
    t->details = r->details;
    t->identity = r->identity;
    by_id(f, TN_HOP_ACT_CANCELED, &name, &t->base, NULL);
}

void tn_do_activity_heartbeat_by_id(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatByIdRequest *r =
        REQUEST(f, RecordActivityTaskHeartbeatByIdRequest);
    const named name = {r->workflow_id, r->run_id, r->activity_id, r->identity};
    if (too_large(f, r->details)) {
        Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatByIdResponse *out;
        answer_with(f, f->call->method->output);
        if ((out = f->user))
            out->cancel_requested = true;
        by_id(f, TN_HOP_ACT_FAILED, &name,
              failed_instead(f, no_token, r->identity, HEARTBEAT_TOO_LARGE), answered_otherwise);
        return;
    }
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatRequest *t = TN_NEW(
        f->call->arena, Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatRequest);
    temporal__api__workflowservice__v1__record_activity_task_heartbeat_request__init(t);
    t->namespace_ = r->namespace_;
    t->details = r->details;
    t->identity = r->identity;
    by_id(f, TN_HOP_ACT_HEARTBEAT, &name, &t->base, heartbeat_by_id_answered);
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
    Tenon__TaskToken *token = open_token(f, r->task_token, TN_TOKEN_QUERY);
    if (!token)
        return;
    if (too_large(f, r->query_result)) {
        r->completed_type = TEMPORAL__API__ENUMS__V1__QUERY_RESULT_TYPE__QUERY_RESULT_TYPE_FAILED;
        r->query_result = NULL;
        r->error_message = (char *)"Blob data size exceeds limit.";
    }
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
