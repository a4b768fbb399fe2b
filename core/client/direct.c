/* SPDX-License-Identifier: MIT */
/* The answer of a poll on its short way: from history to the frontend's host, when matching has named the poll to the one
 * who brought the task (core/matching/direct.c).  Who waits there is found by the poll's id and turn (remote.c); a task
 * for which nobody waits any more goes back to its run.  When it cannot be known whether the answer arrived, nothing is
 * done: the task's own time-out decides, as for every answer on its way to a worker. */
#include "client/remote.h"
#include "client/wire.h"
#include "metrics/metrics.h"
#include "proto/proto.h"
#include "rpc/client.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

#define ANSWER_NS (10 * TN_SEC)

/* ---- on the wire ---- */

Tenon__PollRef *tn_wire_put_poll(tn_arena *arena, const tn_poll_ref *poll)
{
    Tenon__PollRef *out = poll ? TN_NEW(arena, Tenon__PollRef) : NULL;
    if (!out)
        return NULL;
    tenon__poll_ref__init(out);
    out->host_id =
        (ProtobufCBinaryData){sizeof(poll->host_id), (uint8_t *)(uintptr_t)poll->host_id};
    out->loop = poll->loop;
    out->poll_id = poll->poll_id;
    out->turn = poll->turn;
    return out;
}

bool tn_wire_take_poll(const Tenon__PollRef *in, tn_poll_ref *out)
{
    if (!in || in->host_id.len != sizeof(out->host_id))
        return false;
    *out = (tn_poll_ref){.loop = in->loop, .poll_id = in->poll_id, .turn = in->turn};
    memcpy(out->host_id, in->host_id.data, sizeof(out->host_id));
    return true;
}

bool tn_wire_put_match(tn_arena *arena, const tn_mreq *req, Tenon__MatchingAnswer *out)
{
    const tn_poll_match *match = req->op == TN_MOP_ADD && !req->fault ? req->match : NULL;
    if (!match)
        return true;
    Tenon__PollMatch *m = TN_NEW(arena, Tenon__PollMatch);
    if (!m)
        return false;
    tenon__poll_match__init(m);
    m->to = tn_wire_put_poll(arena, &match->to);
    m->advice = match->advice;
    m->backlog = match->backlog;
    out->match = m;
    return m->to && tn_wire_put_message(arena, match->request, &m->request_type, &m->request);
}

static const ProtobufCMessageDescriptor *poll_of(uint32_t type)
{
    return type == TN_TASK_WORKFLOW
               ? &temporal__api__workflowservice__v1__poll_workflow_task_queue_request__descriptor
               : &temporal__api__workflowservice__v1__poll_activity_task_queue_request__descriptor;
}

static const ProtobufCMessageDescriptor *answer_of(uint32_t type)
{
    return type == TN_TASK_WORKFLOW
               ? &temporal__api__workflowservice__v1__poll_workflow_task_queue_response__descriptor
               : &temporal__api__workflowservice__v1__poll_activity_task_queue_response__descriptor;
}

tn_status tn_wire_take_match(tn_arena *arena, tn_blob packed, uint32_t type,
                             const tn_poll_match **out)
{
    ProtobufCMessage *message = NULL;
    tn_poll_match *match = TN_NEW(arena, tn_poll_match);
    if (!match ||
        tn_proto_unpack(&tenon__poll_match__descriptor, packed, arena, &message, NULL) != TN_OK)
        return TN_EINVALID;
    const Tenon__PollMatch *in = (const Tenon__PollMatch *)message;
    const ProtobufCMessageDescriptor *descriptor = tn_proto_message(tn_str_from(in->request_type));
    if (!tn_wire_take_poll(in->to, &match->to) || descriptor != poll_of(type) ||
        tn_proto_unpack(descriptor, tn_blob_from(in->request.data, in->request.len), arena,
                        &match->request, NULL) != TN_OK)
        return TN_EINVALID;
    match->advice = in->advice;
    match->backlog = in->backlog;
    *out = match;
    return TN_OK;
}

/* ---- at the frontend's host ---- */

typedef struct settling { /* on its way to the loop where the poll waits */
    tn_msg msg;
    tn_poll_ref to;
    uint32_t type;
    bool empty;
    tn_blob packed;
    tn_call *call;   /* of the other host; NULL: it is this one */
    tn_arena *arena; /* ... and then this goes at the end */
} settling;

static void settle(tn_msg *msg)
{
    settling *s = TN_CONTAINER_OF(msg, settling, msg);
    const ProtobufCMessageDescriptor *of = s->empty ? NULL : answer_of(s->type);
    if (!tn_remote_settle_poll(&s->to, of, s->packed) && of) {
        const ProtobufCMessage *answer = tn_proto_opaque(of, s->packed, s->arena);
        if (answer)
            tn_client_give_back(answer, s->type, tn_loop_current());
    }
    if (s->call) {
        Tenon__Done done = TENON__DONE__INIT;
        s->call->unhurried = true; /* it asks for nothing but whether this host was there */
        tn_call_reply(s->call, &done.base);
    } else {
        tn_arena_destroy(s->arena);
    }
}

static void go_settle(settling *s)
{
    tn_loop *loop = tn_loops_get(s->to.loop);
    s->msg.run = settle;
    if (loop == tn_loop_current())
        settle(&s->msg);
    else
        tn_loop_post(loop, &s->msg);
}

void tn_intake_answer_poll(tn_call *call)
{
    const Tenon__PollAnswer *in = (const Tenon__PollAnswer *)call->request;
    settling *s = TN_NEW(call->arena, settling);
    tn_arena_set_limit(call->arena, 0);
    if (!s || !tn_wire_take_poll(in->to, &s->to) || s->to.loop >= tn_loops_count() ||
        (in->type != TN_TASK_WORKFLOW && in->type != TN_TASK_ACTIVITY) ||
        (*in->response_type && strcmp(in->response_type, answer_of(in->type)->name) != 0)) {
        tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_INVALID_ARGUMENT,
                                         "the call is damaged, or of a later release"));
        return;
    }
    s->type = in->type;
    s->empty = !*in->response_type;
    s->packed = tn_blob_from(in->response.data, in->response.len);
    s->call = call;
    s->arena = call->arena;
    go_settle(s);
}

/* ---- at history's ---- */

typedef struct answering {
    tn_outcall out; /* first */
    uint32_t type;
    ProtobufCMessage *response;
} answering;

static bool surely_lost(const tn_outcall *out)
{
    if (!out->fault || out->unsent)
        return out->fault != NULL;
    return out->fault->code != TN_GRPC_UNAVAILABLE &&
           out->fault->code != TN_GRPC_DEADLINE_EXCEEDED && out->fault->code != TN_GRPC_CANCELLED;
}

static tn_counter *sent_by_pipe, *sent_by_http2, *given_back;

void tn_direct_register(void)
{
    tn_label by_pipe = {"way", TN_STR("pipe")}, by_http2 = {"way", TN_STR("http2")};
    const char *help = "answers of polls that history sent to their frontends";
    sent_by_pipe = tn_metrics_counter("tenon_internode_polls_answered", help, &by_pipe, 1);
    sent_by_http2 = tn_metrics_counter("tenon_internode_polls_answered", help, &by_http2, 1);
    given_back = tn_metrics_counter(
        "tenon_internode_polls_answered_in_vain",
        "... whose tasks went back to their runs, since they surely did not arrive", NULL, 0);
}

static void answered(tn_outcall *out)
{
    answering *a = (answering *)out;
    if (a->response && surely_lost(out)) {
        tn_counter_inc(given_back);
        tn_client_give_back(a->response, a->type, tn_loop_current());
    }
    tn_arena_destroy(out->arena);
}

static void send_answer(const tn_member *frontend, answering *a, const tn_poll_ref *to)
{
    tn_arena *arena = a->out.arena;
    Tenon__PollAnswer call = TENON__POLL_ANSWER__INIT;
    call.to = tn_wire_put_poll(arena, to);
    call.type = a->type;
    bool fits = tn_wire_put_message(arena, a->response, &call.response_type, &call.response) &&
                tn_proto_pack(&call.base, arena, &a->out.message) == TN_OK;
    if (frontend && fits) {
        tn_outcall_send(tn_remote_channel(frontend, TN_SERVICE_FRONTEND), &a->out);
        tn_counter_inc(a->out.pipe ? sent_by_pipe : sent_by_http2);
        return;
    }
    a->out.fault = tn_fault_make(arena, TN_GRPC_UNAVAILABLE, "the poll's host has left");
    a->out.unsent = true;
    answered(&a->out);
}

static void answer_here(const tn_poll_ref *to, tn_arena *arena, uint32_t type,
                        const ProtobufCMessage *response)
{
    settling *s = TN_NEW(arena, settling);
    *s = (settling){.to = *to, .type = type, .empty = !response, .arena = arena};
    tn_status status = response ? tn_proto_pack(response, arena, &s->packed) : TN_OK;
    TN_ASSERT(status == TN_OK); /* its arena has no limit */
    go_settle(s);
}

void tn_direct_answer_poll(const tn_poll_ref *to, tn_arena *arena, uint32_t type,
                           ProtobufCMessage *response)
{
    tn_arena_set_limit(arena, 0);
    if (memcmp(to->host_id, tn_members_self_id(), sizeof(to->host_id)) == 0) {
        answer_here(to, arena, type, response);
        return;
    }
    answering *a = TN_NEW(arena, answering);
    a->type = type;
    a->response = response;
    a->out = (tn_outcall){.arena = arena,
                          .path = TN_INTERNAL_ANSWER_POLL,
                          .deadline_mono_ns = tn_now_mono_ns() + ANSWER_NS,
                          .done = answered};
    const tn_member *frontend = tn_members_find(to->host_id);
    send_answer(frontend && frontend->state <= TN_MEMBER_SUSPECT ? frontend : NULL, a, to);
}
