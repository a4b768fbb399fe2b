/* SPDX-License-Identifier: MIT */
/* Nexus tasks: requests that wait for a worker's answer, like direct queries.  Nothing of them is kept: who asked is told
 * in time that nobody has answered, and asks again. */
#include "matching/priv.h"

#include <stdio.h>

#include "client/token.h"
#include "proto/proto.h"
#include "temporal/api/nexus/v1/message.pb-c.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"
#include "tenon/internal.pb-c.h"

#define WAIT_MAX_NS (60 * TN_SEC) /* of who says nothing of a deadline */

typedef Temporal__Api__Workflowservice__V1__RespondNexusTaskCompletedRequest completed_request;
typedef Temporal__Api__Workflowservice__V1__RespondNexusTaskFailedRequest failed_request;
typedef Temporal__Api__Workflowservice__V1__PollNexusTaskQueueResponse poll_response;
typedef Temporal__Api__Nexus__V1__Request nexus_request;
typedef Temporal__Api__Nexus__V1__Request__HeaderEntry header_entry;

static Tenon__NexusOutcome *outcome_of(tn_mreq *asked)
{
    tn_arena_set_limit(asked->arena, 0);
    Tenon__NexusOutcome *out = tn_arena_alloc(asked->arena, sizeof(*out));
    tenon__nexus_outcome__init(out);
    asked->response = &out->base;
    return out;
}

static void waited(tn_loop_timer *timer)
{
    tn_wquery *task = TN_CONTAINER_OF(timer, tn_wquery, timer);
    outcome_of(task->mreq)->timed_out = true;
    tn_query_end(task);
}

/* So long before the caller's own deadline that it hears of it. */
static uint64_t answer_until(const tn_tq *tq, const tn_mreq *req)
{
    uint64_t now = tn_now_mono_ns(), margin = tn_tq_number(tq, TN_DYN_NEXUS_DISPATCH_MIN);
    if (req->deadline_mono_ns == UINT64_MAX)
        return now + WAIT_MAX_NS;
    return req->deadline_mono_ns > now + margin ? req->deadline_mono_ns - margin : now;
}

void tn_match_nexus(tn_mloop *ml, tn_mreq *req)
{
    tn_tq *tq = tn_tq_for_task(ml, req);
    if (tn_forward_query(tq, req))
        return;
    if (ml->stopping) {
        req->fault = tn_fault_make(req->arena, TN_GRPC_UNAVAILABLE, "the server is stopping");
        tn_client_matching_done(req);
        return;
    }
    tn_arena_set_limit(req->arena, 0);
    tn_wquery *task = TN_NEW(req->arena, tn_wquery);
    task->mreq = req;
    task->tq = tq;
    req->query.id = ml->next_query_id++;
    tn_loop_timer_init(&task->timer, waited);
    tn_loop_timer_start(&task->timer, answer_until(tq, req));
    tn_list_push_back(&tq->queries, &task->link);
    tn_match(tq);
}

/* ---- to a worker ---- */

static void add_header(tn_arena *arena, nexus_request *request, const char *key, const char *value)
{
    header_entry *entry = tn_arena_alloc(arena, sizeof(*entry));
    temporal__api__nexus__v1__request__header_entry__init(entry);
    entry->key = tn_arena_strdup(arena, key);
    entry->value = tn_arena_strdup(arena, value);
    request->header[request->n_header++] = entry;
}

/* The request with the time that is left for its answer; older Java SDKs look for the key in capitals. */
static nexus_request *for_worker(tn_arena *arena, const tn_wquery *task)
{
    nexus_request *request = (nexus_request *)(void *)tn_proto_copy(task->mreq->request, arena);
    header_entry **all = TN_NEW_ARRAY(arena, header_entry *, request->n_header + 2);
    uint64_t now = tn_now_mono_ns(), until = task->timer.node.key;
    char left[40];
    for (size_t i = 0; i < request->n_header; i++)
        all[i] = request->header[i];
    request->header = all;
    snprintf(left, sizeof(left), "%llums",
             (unsigned long long)((until > now ? until - now : 0) / TN_MS));
    add_header(arena, request, "request-timeout", left);
    add_header(arena, request, "Request-Timeout", left);
    return request;
}

bool tn_match_hand_out_nexus(tn_tq *tq, tn_wpoll *poll)
{
    tn_list *link = tn_list_pop_front(&tq->queries);
    if (!link)
        return false;
    tn_wquery *task = TN_CONTAINER_OF(link, tn_wquery, link);
    tn_arena *arena = poll->mreq->arena;
    task->handed_out = true;
    tq->n_out++;
    tn_map_insert(&tq->ml->queries, &task->by_id,
                  tn_blob_from(&task->mreq->query.id, sizeof(task->mreq->query.id)));
    tn_arena_set_limit(arena, 0);
    Tenon__TaskToken token = TENON__TASK_TOKEN__INIT;
    token.kind = 4;
    token.ns_id = (char *)(uintptr_t)tn_arena_str(arena, tq->ns->id).p;
    token.task_queue = (char *)(uintptr_t)tq->name;
    token.query_id = task->mreq->query.id;
    tn_blob sealed = tn_token_seal(arena, &token.base);
    poll_response *out = tn_arena_alloc(arena, sizeof(*out));
    temporal__api__workflowservice__v1__poll_nexus_task_queue_response__init(out);
    out->task_token = (ProtobufCBinaryData){sealed.n, (uint8_t *)(uintptr_t)sealed.p};
    out->request = for_worker(arena, task);
    tn_tq_count(tq, TN_PRIORITY_DEFAULT, true);
    tn_counter_inc(tq->polls_won);
    poll->mreq->response = &out->base;
    tn_wpoll_finish(poll, NULL);
    return true;
}

/* ---- from a worker ---- */

static ProtobufCBinaryData packed(tn_arena *arena, const ProtobufCMessage *message)
{
    tn_blob out = {NULL, 0};
    if (message && tn_proto_pack(message, arena, &out) != TN_OK)
        out = (tn_blob){NULL, 0};
    return (ProtobufCBinaryData){out.n, (uint8_t *)(uintptr_t)out.p};
}

void tn_match_nexus_done(tn_mloop *ml, tn_mreq *req)
{
    tn_map_link *found =
        tn_map_find(&ml->queries, tn_blob_from(&req->query.id, sizeof(req->query.id)));
    tn_wquery *task = found ? TN_CONTAINER_OF(found, tn_wquery, by_id) : NULL;
    if (!task || task->tq->type != TN_TASK_NEXUS) {
        req->fault =
            tn_fault_make(req->arena, TN_GRPC_NOT_FOUND, "Nexus task not found or already expired");
        tn_client_matching_done(req);
        return;
    }
    Tenon__NexusOutcome *out = outcome_of(task->mreq);
    tn_arena *arena = task->mreq->arena;
    if (req->request->descriptor ==
        &temporal__api__workflowservice__v1__respond_nexus_task_completed_request__descriptor) {
        const completed_request *answer = (const completed_request *)req->request;
        out->responded = true;
        out->response = packed(arena, answer->response ? &answer->response->base : NULL);
    } else {
        const failed_request *answer = (const failed_request *)req->request;
        if (answer->error)
            out->handler_error = packed(arena, &answer->error->base);
        else
            out->failure = packed(arena, answer->failure ? &answer->failure->base : NULL);
    }
    tn_query_end(task);
    tn_client_matching_done(req);
}
