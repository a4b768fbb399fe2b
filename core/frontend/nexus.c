/* SPDX-License-Identifier: MIT */
/* Workers that handle Nexus operations: their polls, and their answers; what handlers outside report
 * over HTTP, and what callers outside ask for. */
#include "admin/nexus.pb-c.h"
#include "frontend/priv.h"
#include "tenon/internal.pb-c.h"

#define REQUEST(f, type) ((Temporal__Api__Workflowservice__V1__##type *)(void *)(f)->call->request)

/* ---- answers --------------------------------------------------------------------------------- */

static void answered(tn_mreq *m)
{
    tn_fcall *f = m->user;
    if (m->fault)
        tn_front_fail(f, m->fault);
    else
        tn_front_reply(f, NULL);
}

static void to_matching(tn_fcall *f, ProtobufCBinaryData sealed)
{
    Tenon__TaskToken *token = tn_front_token(f, sealed);
    tn_mreq *m = &f->mreq;
    if (!token || token->kind != TN_TOKEN_NEXUS || !*token->task_queue) {
        tn_front_invalid(f, "Error deserializing task token.");
        return;
    }
    *m = (tn_mreq){.arena = f->call->arena,
                   .home = f->call->home,
                   .op = TN_MOP_NEXUS_DONE,
                   .ns = f->ns,
                   .queue = tn_str_from(token->task_queue),
                   .type = TN_TASK_NEXUS,
                   .request = f->call->request,
                   .call = f->call,
                   .deadline_mono_ns = f->call->deadline_mono_ns,
                   .placed = true,
                   .done = answered,
                   .user = f};
    m->query.id = token->query_id;
    tn_client_matching(m);
}

void tn_do_nexus_completed(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondNexusTaskCompletedRequest *r =
        REQUEST(f, RespondNexusTaskCompletedRequest);
    const Temporal__Api__Nexus__V1__StartOperationResponse *start =
        r->response && r->response->variant_case ==
                           TEMPORAL__API__NEXUS__V1__RESPONSE__VARIANT_START_OPERATION
            ? r->response->start_operation
            : NULL;
    if (start && start->variant_case ==
                     TEMPORAL__API__NEXUS__V1__START_OPERATION_RESPONSE__VARIANT_ASYNC_SUCCESS) {
        const char *token = start->async_success->operation_token;
        int64_t max = tn_front_limit(f, TN_DYN_NEXUS_TOKEN_LENGTH);
        if (!*token)
            token = start->async_success->operation_id;
        if (!*token) {
            tn_front_invalid(f, "missing opration token in response");
            return;
        }
        if ((int64_t)strlen(token) > max) {
            tn_front_invalid(f, "operation token length exceeds allowed limit (%zu/%lld)",
                             strlen(token), (long long)max);
            return;
        }
    }
    to_matching(f, r->task_token);
}

void tn_do_nexus_failed(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondNexusTaskFailedRequest *r =
        REQUEST(f, RespondNexusTaskFailedRequest);
    const Tenon__TaskToken *token = tn_front_token(f, r->task_token);
    if (!token || token->kind != TN_TOKEN_NEXUS)
        tn_front_invalid(f, "Error deserializing task token.");
    else if (!r->error && !r->failure)
        tn_front_invalid(f, "request must contain error or failure");
    else if (r->failure &&
             r->failure->failure_info_case !=
                 TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_NEXUS_HANDLER_FAILURE_INFO)
        tn_front_invalid(
            f, "request Failure must contain error or failure with NexusHandlerFailureInfo");
    else
        to_matching(f, r->task_token);
}

/* ---- reports from outside -------------------------------------------------------------------- */

typedef Temporal__Api__Nexusservice__V1__CompleteNexusOperationRequest complete_request;

/* Why history would not have it is told to the operator alone, but for what it does not know. */
static const tn_fault *without_details(tn_arena *arena, const tn_fault *fault)
{
    if (fault->code == TN_GRPC_INVALID_ARGUMENT)
        return tn_fault_make(arena, fault->code, "bad request");
    return fault->code == TN_GRPC_RESOURCE_EXHAUSTED
               ? tn_fault_make(arena, fault->code, "resource exhausted")
               : fault;
}

static void completed(tn_hreq *h)
{
    tn_fcall *f = h->user;
    if (h->fault && h->fault->code == TN_GRPC_NOT_FOUND && h->run_id.n) {
        h->run_id = TN_STR(""); /* the run may have been reset: then the one that followed waits */
        h->fault = NULL;
        h->response = NULL;
        h->tries = 0;
        tn_client_history(h);
        return;
    }
    if (h->fault)
        tn_front_fail(f, without_details(f->call->arena, h->fault));
    else
        tn_front_reply(f, NULL);
}

/* The way in (core/history/nexus_callback.c) has opened the operation's token: that it is ours is proven. */
void tn_do_nexus_complete(tn_fcall *f)
{
    const complete_request *r = (const complete_request *)(const void *)f->call->request;
    tn_arena *arena = f->call->arena;
    uint64_t own = tn_now_mono_ns() + 10 * TN_SEC;
    int64_t max = tn_front_limit(f, TN_DYN_NEXUS_TOKEN_LENGTH);
    Tenon__NexusCompletion *completion;
    if (TN_PROTO_UNPACK(tenon__nexus_completion,
                        (tn_blob_from(r->completion.data, r->completion.len)), arena, &completion,
                        NULL) != TN_OK) {
        tn_front_invalid(f, "bad request");
        return;
    }
    if ((int64_t)strlen(completion->token) > max) {
        tn_front_invalid(f, "operation token length exceeds allowed limit (%zu/%lld)",
                         strlen(completion->token), (long long)max);
        return;
    }
    f->hreq = (tn_hreq){.arena = arena,
                        .home = f->call->home,
                        .op = TN_HOP_NEXUS_COMPLETE,
                        .ns = f->ns,
                        .workflow_id = tn_str_from(r->workflow_id),
                        .run_id = tn_str_from(r->run_id),
                        .request = &completion->base,
                        .deadline_mono_ns =
                            f->call->deadline_mono_ns < own ? f->call->deadline_mono_ns : own,
                        .done = completed,
                        .user = f};
    tn_client_history(&f->hreq);
}

/* ---- requests from outside ------------------------------------------------------------------- */

#define ANSWER_WITHIN_NS (60 * TN_SEC)

typedef Temporal__Api__Nexusservice__V1__DispatchNexusTaskRequest dispatch_request;

static void dispatched(tn_mreq *m)
{
    tn_fcall *f = m->user;
    tn_blob packed = {NULL, 0};
    if (m->fault) {
        tn_front_fail(f, without_details(f->call->arena, m->fault));
        return;
    }
    Temporal__Api__Nexusservice__V1__DispatchNexusTaskResponse *out =
        tn_arena_alloc(f->call->arena, sizeof(*out));
    temporal__api__nexusservice__v1__dispatch_nexus_task_response__init(out);
    if (m->response && tn_proto_pack(m->response, f->call->arena, &packed) == TN_OK)
        out->outcome = (ProtobufCBinaryData){packed.n, (uint8_t *)(uintptr_t)packed.p};
    tn_front_reply(f, &out->base);
}

static bool too_large(const tn_fcall *f, const Temporal__Api__Nexus__V1__Request *request)
{
    return request->variant_case == TEMPORAL__API__NEXUS__V1__REQUEST__VARIANT_START_OPERATION &&
           request->start_operation->payload &&
           (int64_t)protobuf_c_message_get_packed_size(&request->start_operation->payload->base) >
               tn_front_limit(f, TN_DYN_LIMIT_BLOB_SIZE_ERROR);
}

/* The way in: core/history/nexus_dispatch.c. */
void tn_do_nexus_dispatch(tn_fcall *f)
{
    const dispatch_request *r = (const dispatch_request *)(const void *)f->call->request;
    uint64_t now = tn_now_mono_ns(), until = now + ANSWER_WITHIN_NS;
    Temporal__Api__Nexus__V1__Request *request;
    tn_mreq *m = &f->mreq;
    if (TN_PROTO_UNPACK(temporal__api__nexus__v1__request,
                        (tn_blob_from(r->request.data, r->request.len)), f->call->arena, &request,
                        NULL) != TN_OK) {
        tn_front_invalid(f, "bad request");
        return;
    }
    if (too_large(f, request)) {
        tn_front_invalid(f, "input exceeds size limit");
        return;
    }
    if (r->timeout_ns > 0 && now + (uint64_t)r->timeout_ns < until)
        until = now + (uint64_t)r->timeout_ns;
    *m = (tn_mreq){.arena = f->call->arena,
                   .home = f->call->home,
                   .op = TN_MOP_NEXUS,
                   .ns = f->ns,
                   .queue = tn_str_from(r->task_queue),
                   .type = TN_TASK_NEXUS,
                   .request = &request->base,
                   .call = f->call,
                   .deadline_mono_ns =
                       f->call->deadline_mono_ns < until ? f->call->deadline_mono_ns : until,
                   .done = dispatched,
                   .user = f};
    tn_client_matching(m);
}
