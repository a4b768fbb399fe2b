/* SPDX-License-Identifier: MIT */
/* Workers that handle Nexus operations: their polls, and their answers. */
#include "frontend/priv.h"

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
        r->response && r->response->variant_case == TEMPORAL__API__NEXUS__V1__RESPONSE__VARIANT_START_OPERATION
            ? r->response->start_operation
            : NULL;
    if (start && start->variant_case == TEMPORAL__API__NEXUS__V1__START_OPERATION_RESPONSE__VARIANT_ASYNC_SUCCESS) {
        const char *token = start->async_success->operation_token;
        int64_t max = tn_front_limit(f, TN_DYN_NEXUS_TOKEN_LENGTH);
        if (!*token)
            token = start->async_success->operation_id;
        if (!*token) {
            tn_front_invalid(f, "missing opration token in response");
            return;
        }
        if ((int64_t)strlen(token) > max) {
            tn_front_invalid(f, "operation token length exceeds allowed limit (%zu/%lld)", strlen(token),
                             (long long)max);
            return;
        }
    }
    to_matching(f, r->task_token);
}

void tn_do_nexus_failed(tn_fcall *f)
{
    Temporal__Api__Workflowservice__V1__RespondNexusTaskFailedRequest *r = REQUEST(f, RespondNexusTaskFailedRequest);
    const Tenon__TaskToken *token = tn_front_token(f, r->task_token);
    if (!token || token->kind != TN_TOKEN_NEXUS)
        tn_front_invalid(f, "Error deserializing task token.");
    else if (!r->error && !r->failure)
        tn_front_invalid(f, "request must contain error or failure");
    else if (r->failure && r->failure->failure_info_case !=
                               TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_NEXUS_HANDLER_FAILURE_INFO)
        tn_front_invalid(f, "request Failure must contain error or failure with NexusHandlerFailureInfo");
    else
        to_matching(f, r->task_token);
}
