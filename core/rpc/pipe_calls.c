/* SPDX-License-Identifier: MIT */
/* Calls on a pipe, both ways: a request frame becomes a tn_call, its answer a frame; a tn_outcall becomes a request
 * frame.  A call that came on a pipe has no HTTP/2 stream: by_pipe says so for good, pipe is NULL when nobody waits. */
#include "rpc/pipe.h"

#include <stdlib.h>
#include <string.h>

#define REQUEST_FIXED 10u /* ns left, and the counts */
#define FAULT_TEXT_MAX 4000u

/* ---- what the other side asks ---- */

typedef struct reader {
    tn_blob rest;
    bool damaged;
} reader;

static const uint8_t *take(reader *r, size_t n)
{
    const uint8_t *p = r->rest.p;
    if (r->damaged || n > r->rest.n) {
        r->damaged = true;
        return NULL;
    }
    r->rest = tn_blob_from(p + n, r->rest.n - n);
    return p;
}

/* A length of one or two bytes, and so many. */
static tn_str take_text(reader *r, size_t length_bytes)
{
    const uint8_t *p = take(r, length_bytes);
    size_t n = !p ? 0 : length_bytes == 1 ? p[0] : (size_t)(p[0] << 8 | p[1]);
    p = take(r, n);
    return p ? (tn_str){(const char *)p, n} : (tn_str){0};
}

static uint8_t *put_text(uint8_t *at, tn_str s, size_t length_bytes)
{
    if (length_bytes == 2)
        *at++ = (uint8_t)(s.n >> 8);
    *at++ = (uint8_t)s.n;
    memcpy(at, s.n ? s.p : "", s.n);
    return at + s.n;
}

static void too_late(tn_loop_timer *timer);

static rpc_call *call_create(rpc_pipe *p, uint32_t id)
{
    rpc_worker *worker = p->worker;
    tn_arena *arena = tn_arena_create(worker->server->options.arena_bytes_max);
    rpc_call *call = tn_arena_zalloc(arena, sizeof(*call));
    TN_ASSERT(call);
    call->pub.arena = arena;
    call->pub.home = worker->loop;
    call->pub.received_mono_ns = tn_now_mono_ns();
    tn_loop_timer_init(&call->deadline, too_late);
    call->pipe = p;
    call->by_pipe = true;
    memcpy(call->pub.from_host, p->host_id, sizeof(call->pub.from_host));
    call->worker = worker;
    call->stream_id = (int32_t)id;
    call->peer = p->peer;
    call->peer->refs++;
    call->pieces_end = &call->pieces;
    call->phase = RPC_HANDED;
    tn_list_push_back(&p->handed_calls, &call->link);
    p->calls[id & RPC_PIPE_ID_SLOT] = call;
    worker->call_count++;
    rpc_count(RPC_COUNT_REQUESTS, 1);
    return call;
}

/* False: the other side has asked twice under one id. */
static bool place(rpc_pipe *p, uint32_t id)
{
    uint32_t slot = id & RPC_PIPE_ID_SLOT, n = p->n_calls ? p->n_calls : 64;
    if (slot < p->n_calls)
        return !p->calls[slot];
    while (n <= slot)
        n *= 2;
    p->calls = tn_xrealloc(p->calls, n * sizeof(rpc_call *));
    memset(p->calls + p->n_calls, 0, (n - p->n_calls) * sizeof(rpc_call *));
    p->n_calls = n;
    return true;
}

static void refuse(rpc_call *call, tn_grpc_code code, const char *why)
{
    rpc_count(RPC_COUNT_REFUSED, 1);
    tn_call_fail(&call->pub, tn_fault_make(call->pub.arena, code, "%s", why));
}

/* A host without roles but the frontend's has no port of its own for other hosts: it serves what any host does. */
static bool offered(const tn_rpc_method *method, bool internal)
{
    return rpc_method_offered(method, true) && (internal || (method->flags & TN_RPC_ANY_PORT));
}

static void open_message(rpc_call *call, tn_str path, tn_blob message)
{
    const tn_rpc_options *o = &call->worker->server->options;
    const tn_rpc_method *method = tn_rpc_find(path);
    ProtobufCMessage *request = NULL;
    tn_error err = {0};
    if (!method || !offered(method, o->internal) ||
        (method->flags & (TN_RPC_STREAM_IN | TN_RPC_STREAM_OUT))) {
        refuse(call, TN_GRPC_UNIMPLEMENTED, "this release does not know that call between hosts");
        return;
    }
    call->pub.method = method;
    call->pub.message = tn_arena_blob(call->pub.arena, message);
    size_t max = o->internal ? o->message_bytes_max : RPC_WRAPPED_MAX(o->message_bytes_max);
    if (message.n > max || (message.n && !call->pub.message.p)) {
        refuse(call, TN_GRPC_RESOURCE_EXHAUSTED, "the request takes too much memory");
        return;
    }
    tn_status status =
        tn_proto_unpack_peer(method->input, call->pub.message, call->pub.arena, &request, &err);
    if (status != TN_OK) {
        refuse(call, status == TN_ETOOLARGE ? TN_GRPC_RESOURCE_EXHAUSTED : TN_GRPC_INTERNAL,
               err.text);
        return;
    }
    call->pub.request = request;
    if (o->dispatch)
        o->dispatch(&call->pub);
    else
        method->handle(&call->pub);
}

/* Nobody serves here: the asker may ask elsewhere. */
static void turn_away(rpc_pipe *p, uint32_t id)
{
    *rpc_pipe_frame(p, RPC_PIPE_ANSWER, id, 1) = RPC_PIPE_UNSERVED;
}

bool rpc_pipe_take_request(rpc_pipe *p, uint32_t id, tn_blob body)
{
    reader r = {.rest = body};
    const uint8_t *left = take(&r, 8);
    tn_str path = take_text(&r, 1);
    const uint8_t *count = take(&r, 1);
    if (r.damaged || !place(p, id))
        return false;
    if (!p->worker) {
        turn_away(p, id);
        return true;
    }
    rpc_call *call = call_create(p, id);
    uint64_t ns = tn_get_u64be(left);
    if (__builtin_add_overflow(call->pub.received_mono_ns, ns, &call->pub.deadline_mono_ns))
        call->pub.deadline_mono_ns = UINT64_MAX;
    for (uint8_t i = 0; i < *count; i++) {
        tn_str name = take_text(&r, 1), value = take_text(&r, 2);
        if (!r.damaged)
            rpc_head_keep(call, name, value);
    }
    rpc_head_end(call);
    if (r.damaged)
        return false; /* the pipe's end takes the call along */
    if (ns == 0) {
        /* nobody waits: nothing is begun */
        refuse(call, TN_GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
        return true;
    }
    if (call->pub.deadline_mono_ns != UINT64_MAX)
        tn_loop_timer_start(&call->deadline, call->pub.deadline_mono_ns);
    open_message(call, path, r.rest);
    return true;
}

/* The asker is told in the moment in which it stops waiting, and whoever works on the call that it is for nobody. */
static void too_late(tn_loop_timer *timer)
{
    static const char late[] = "context deadline exceeded";
    rpc_call *call = TN_CONTAINER_OF(timer, rpc_call, deadline);
    uint8_t *body = rpc_pipe_frame(call->pipe, RPC_PIPE_ANSWER, (uint32_t)call->stream_id,
                                   5 + sizeof(late) - 1);
    body[0] = TN_GRPC_DEADLINE_EXCEEDED;
    body = put_text(body + 1, TN_STR(late), 2);
    body[0] = body[1] = 0; /* no detail */
    rpc_count(RPC_COUNT_DEADLINES, 1);
    rpc_pipe_detach(call);
}

void rpc_pipe_detach(rpc_call *call)
{
    rpc_pipe *p = call->pipe;
    uint32_t slot = (uint32_t)call->stream_id & RPC_PIPE_ID_SLOT;
    tn_list_remove(&call->link);
    tn_loop_timer_stop(&call->deadline);
    if (p->calls[slot] == call)
        p->calls[slot] = NULL;
    call->pipe = NULL;
    if (call->phase == RPC_HANDED && !call->pub.method) { /* nobody has it yet */
        rpc_call_done(call);
    } else if (call->phase == RPC_HANDED) {
        atomic_store_explicit(&call->cancelled, true, memory_order_relaxed);
        if (call->pub.on_cancel)
            call->pub.on_cancel(&call->pub); /* may answer, which frees the call */
    } else {
        rpc_count(RPC_COUNT_UNDELIVERED, 1);
        if (call->pub.on_undelivered)
            call->pub.on_undelivered(&call->pub);
        rpc_call_done(call);
    }
}

void rpc_pipe_take_cancel(rpc_pipe *p, uint32_t id)
{
    uint32_t slot = id & RPC_PIPE_ID_SLOT;
    if (slot < p->n_calls && p->calls[slot] && p->calls[slot]->stream_id == (int32_t)id)
        rpc_pipe_detach(p->calls[slot]);
}

/* ---- our answers ---- */

void rpc_pipe_encode_fault(rpc_call *call, const tn_fault *fault)
{
    size_t text = fault->message.n < FAULT_TEXT_MAX ? fault->message.n : FAULT_TEXT_MAX;
    size_t type = fault->detail_type.n < UINT16_MAX ? fault->detail_type.n : 0,
           detail = type ? fault->detail.n : 0;
    rpc_piece *piece = TN_NEW(call->pub.arena, rpc_piece);
    uint8_t *bytes = tn_arena_alloc(call->pub.arena, RPC_FRAME_HEAD + 4 + text + type + detail),
            *at = bytes;
    call->code = fault->code > 0 && fault->code <= 16 ? (int)fault->code : TN_GRPC_UNKNOWN;
    if (!piece || !bytes)
        return;
    at += RPC_FRAME_HEAD;
    at[0] = (uint8_t)(text >> 8), at[1] = (uint8_t)text;
    memcpy(at + 2, text ? fault->message.p : "", text);
    at += 2 + text;
    at[0] = (uint8_t)(type >> 8), at[1] = (uint8_t)type;
    memcpy(at + 2, type ? fault->detail_type.p : "", type);
    memcpy(at + 2 + type, detail ? fault->detail.p : (const uint8_t *)"", detail);
    *piece = (rpc_piece){.p = bytes, .n = RPC_FRAME_HEAD + 4 + text + type + detail};
    call->pieces = piece;
    call->pieces_end = &piece->next;
    call->piece_bytes = piece->n;
}

void rpc_pipe_answer(rpc_call *call)
{
    rpc_pipe *p = call->pipe;
    uint32_t slot = (uint32_t)call->stream_id & RPC_PIPE_ID_SLOT;
    size_t skip = RPC_FRAME_HEAD, n = call->piece_bytes > skip ? call->piece_bytes - skip : 0;
    tn_loop_timer_stop(&call->deadline);
    uint8_t *body = (call->pub.unhurried ? rpc_pipe_frame_unhurried : rpc_pipe_frame)(
        p, RPC_PIPE_ANSWER, (uint32_t)call->stream_id, 1 + n);
    *body++ = (uint8_t)call->code;
    for (const rpc_piece *piece = call->pieces; piece; piece = piece->next, skip = 0) {
        if (piece->n > skip) {
            memcpy(body, piece->p + skip, piece->n - skip);
            body += piece->n - skip;
        }
    }
    p->calls[slot] = NULL;
    call->phase = RPC_ANSWERED;
    call->answer_end = p->appended;
    tn_list_remove(&call->link);
    tn_list_push_back(&p->answered, &call->link);
}

/* ---- what we ask ---- */

static uint32_t slot_take(rpc_pipe *p, tn_outcall *call)
{
    if (p->free_slot == UINT32_MAX) {
        uint32_t n = p->n_slots ? 2 * p->n_slots : 64;
        p->slots = tn_xrealloc(p->slots, n * sizeof(*p->slots));
        for (uint32_t i = n; i > p->n_slots; i--) {
            p->slots[i - 1] = (rpc_pipe_slot){.next_free = p->free_slot};
            p->free_slot = i - 1;
        }
        p->n_slots = n;
    }
    uint32_t slot = p->free_slot;
    p->free_slot = p->slots[slot].next_free;
    p->slots[slot].call = call;
    p->slots[slot].turn++;
    return slot | p->slots[slot].turn * RPC_PIPE_CALLS_MAX;
}

static size_t headers_size(tn_outcall *call)
{
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < call->n_headers; i++) {
        const tn_outcall_header h = call->headers[i];
        if (h.name.n > UINT8_MAX || h.value.n > UINT16_MAX)
            continue;
        call->headers[kept++] = h;
        n += 3 + h.name.n + h.value.n;
    }
    call->n_headers = kept;
    return n;
}

void rpc_pipe_send(rpc_pipe *p, tn_outcall *call)
{
    tn_str path = tn_str_from(call->path);
    uint64_t now = call->deadline_mono_ns == UINT64_MAX ? 0 : tn_now_mono_ns();
    uint64_t left = call->deadline_mono_ns > now ? call->deadline_mono_ns - now : 0;
    size_t size = REQUEST_FIXED + path.n + headers_size(call) + call->message.n;
    call->pipe = p;
    call->wire = NULL;
    tn_list_push_back(&p->outcalls, &call->link);
    p->n_out++;
    size_t unread = p->out.n - p->out_at;
    if (path.n > UINT8_MAX || p->n_out >= RPC_PIPE_CALLS_MAX ||
        (unread && unread + size > RPC_UNREAD_BYTES_MAX)) {
        call->stream_id = -1;
        if (path.n > UINT8_MAX)
            rpc_outcall_unreachable(call, "no such call", true);
        else
            rpc_outcall_crowded(call);
        return;
    }
    uint32_t id = slot_take(p, call);
    call->stream_id = (int32_t)id;
    call->frame_at = p->appended;
    call->has_slot = true;
    uint8_t *at = (call->unhurried ? rpc_pipe_frame_unhurried : rpc_pipe_frame)(p, RPC_PIPE_REQUEST,
                                                                                id, size);
    tn_put_u64be(at, call->deadline_mono_ns == UINT64_MAX ? UINT64_MAX : left);
    at = put_text(at + 8, path, 1);
    *at++ = (uint8_t)call->n_headers;
    for (size_t i = 0; i < call->n_headers; i++)
        at = put_text(put_text(at, call->headers[i].name, 1), call->headers[i].value, 2);
    memcpy(at, call->message.n ? call->message.p : (const uint8_t *)"", call->message.n);
}

void rpc_pipe_forget(tn_outcall *call)
{
    rpc_pipe *p = call->pipe;
    if (call->has_slot) {
        uint32_t slot = (uint32_t)call->stream_id & RPC_PIPE_ID_SLOT;
        p->slots[slot].call = NULL;
        p->slots[slot].next_free = p->free_slot;
        p->free_slot = slot;
    }
    call->has_slot = false;
    call->pipe = NULL;
    p->n_out--;
    if (p->link && p->leaving)
        rpc_link_flush_later(p->link); /* it may be the last */
}

void rpc_pipe_cancel(tn_outcall *call)
{
    rpc_pipe_frame(call->pipe, RPC_PIPE_CANCEL, (uint32_t)call->stream_id, 0);
}

void rpc_pipe_cancel_unhurried(tn_outcall *call)
{
    rpc_pipe_frame_unhurried(call->pipe, RPC_PIPE_CANCEL, (uint32_t)call->stream_id, 0);
}

static const tn_fault *fault_of(tn_outcall *call, tn_blob body)
{
    reader r = {.rest = tn_blob_from(body.p + 1, body.n - 1)};
    tn_fault *fault = TN_NEW(call->arena, tn_fault);
    tn_str text = take_text(&r, 2), type = take_text(&r, 2);
    if (!fault || r.damaged)
        return tn_fault_make(call->arena,
                             body.p[0] <= 16 ? (tn_grpc_code)body.p[0] : TN_GRPC_UNKNOWN, "%s", "");
    fault->code = body.p[0] <= 16 ? (tn_grpc_code)body.p[0] : TN_GRPC_UNKNOWN;
    fault->message = tn_arena_str(call->arena, text);
    fault->detail_type = tn_arena_str(call->arena, type);
    fault->detail = tn_arena_blob(call->arena, r.rest);
    return fault;
}

bool rpc_pipe_take_answer(rpc_pipe *p, uint32_t id, tn_blob body)
{
    uint32_t slot = id & RPC_PIPE_ID_SLOT;
    if (!body.n || slot >= p->n_slots)
        return false;
    tn_outcall *call = p->slots[slot].call;
    if (!call || (uint32_t)call->stream_id != id)
        return true; /* nobody waits any more */
    tn_arena_set_limit(call->arena, 0);
    if (body.p[0] == RPC_PIPE_UNSERVED) {
        rpc_outcall_unreachable(call, "it serves no calls now", true);
        return true;
    }
    if (body.p[0]) {
        rpc_outcall_answered(call, fault_of(call, body));
        return true;
    }
    call->response = tn_arena_blob(call->arena, tn_blob_from(body.p + 1, body.n - 1));
    rpc_outcall_answered(call, NULL);
    return true;
}
