/* SPDX-License-Identifier: MIT */
/* A task that met a poll when matching took it in: its start is recorded as for any poll, and the answer goes from here to
 * the frontend's host (core/matching/direct.c, core/client/direct.c).  A task that is not to be had any more leaves the
 * poll to ask again. */
#include "history/priv.h"

#include "proto/proto.h"
#include "temporal/api/taskqueue/v1/message.pb-c.h"

typedef Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse wft_answer;
typedef Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse activity_answer;

typedef struct direct {
    tn_hreq req;
    const tn_poll_match *match;
    uint32_t type;
} direct;

/* What matching adds to answers that go through it. */
static void add_advice(const direct *d, ProtobufCMessage *response)
{
    Temporal__Api__Taskqueue__V1__PollerScalingDecision *advice = NULL;
    if (d->match->advice) {
        advice = TN_NEW(d->req.arena, Temporal__Api__Taskqueue__V1__PollerScalingDecision);
        temporal__api__taskqueue__v1__poller_scaling_decision__init(advice);
        advice->poll_request_delta_suggestion = d->match->advice;
    }
    if (d->type == TN_TASK_WORKFLOW) {
        wft_answer *out = (wft_answer *)(void *)response;
        out->poller_scaling_decision = advice;
        out->backlog_count_hint = d->match->backlog;
    } else {
        ((activity_answer *)(void *)response)->poller_scaling_decision = advice;
    }
}

static void served(tn_hreq *req)
{
    direct *d = TN_CONTAINER_OF(req, direct, req);
    ProtobufCMessage *response = req->fault ? NULL : req->response;
    tn_namespace_unref(req->ns);
    tn_arena_set_limit(req->arena, 0);
    if (response)
        add_advice(d, response);
    tn_client_answer_poll(&d->match->to, req->arena, d->type, response);
}

/* Of matching in this very process it is still packed. */
static const ProtobufCMessage *request_of(const tn_poll_match *match, tn_arena *arena)
{
    tn_blob packed;
    ProtobufCMessage *request = match->request;
    if (tn_proto_is_opaque(match->request, &packed)) {
        tn_status status =
            tn_proto_unpack(match->request->descriptor, packed, arena, &request, NULL);
        TN_ASSERT(status == TN_OK); /* it was unpacked when it came in */
    }
    return request;
}

void tn_direct_serve(tn_mreq *offered)
{
    tn_arena *arena = offered->arena;
    tn_arena_set_limit(arena, 0);
    direct *d = TN_NEW(arena, direct);
    d->match = offered->match;
    d->type = offered->type;
    d->req = (tn_hreq){
        .arena = arena,
        .home = offered->home,
        .op = offered->type == TN_TASK_WORKFLOW ? TN_HOP_WFT_POLLED : TN_HOP_ACT_POLLED,
        .ns = offered->ns,
        .workflow_id = offered->workflow_id,
        .run_id = offered->run_id,
        .request = request_of(offered->match, arena),
        .deadline_mono_ns = UINT64_MAX,
        .final = true, /* who has the shard by now offers what waits */
        .done = served,
    };
    d->req.u.task.ref = offered->task;
    d->req.u.task.sticky = offered->sticky;
    d->req.u.task.poll_id = offered->match->to.poll_id;
    tn_history_submit(&d->req);
}
