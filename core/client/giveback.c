/* SPDX-License-Identifier: MIT */
/* A task on its way back: it was found for a poll, but the poll's caller had gone when the answer was to leave. */
#include "client/client.h"
#include "client/token.h"
#include "proto/proto.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

typedef struct returned { /* in an arena of its own */
    tn_hreq hreq;
    tn_task_token token;
} returned;

static void task_returned(tn_hreq *h)
{
    tn_namespace_unref(h->ns);
    tn_arena_destroy(h->arena);
}

static ProtobufCBinaryData token_of(const ProtobufCMessage *answer, uint32_t type)
{
    tn_blob packed;
    if (tn_proto_is_opaque(answer, &packed)) {
        tn_wire_field token = {0};
        (void)tn_wire_find(packed, 1, &token); /* task_token is the first field of both */
        return (ProtobufCBinaryData){token.bytes.n, (uint8_t *)(uintptr_t)token.bytes.p};
    }
    if (type == TN_TASK_WORKFLOW)
        return ((const Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse *)answer)
            ->task_token;
    return ((const Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse *)answer)
        ->task_token;
}

void tn_client_give_back(const ProtobufCMessage *answer, uint32_t type, tn_loop *home)
{
    ProtobufCBinaryData sealed = token_of(answer, type);
    tn_arena *arena = tn_arena_create(0);
    returned *r = TN_NEW(arena, returned);
    Tenon__TaskToken *token = (Tenon__TaskToken *)(void *)tn_token_open(
        arena, tn_blob_from(sealed.data, sealed.len), &tenon__task_token__descriptor);
    tn_hreq *h = &r->hreq;
    h->ns = token && token->kind < 3 ? tn_namespace_by_id(tn_str_from(token->ns_id)) : NULL;
    /* an empty answer, a query or a Nexus task, which are asked again by those who wait for them */
    if (!h->ns) {
        tn_arena_destroy(arena);
        return;
    }
    r->token.msg = token;
    h->arena = arena;
    h->home = home;
    h->op = TN_HOP_UNDELIVERED;
    h->workflow_id = tn_str_from(token->workflow_id);
    h->run_id = tn_str_from(token->run_id);
    h->deadline_mono_ns = UINT64_MAX;
    h->token = &r->token;
    h->done = task_returned;
    tn_client_history(h);
}
