/* SPDX-License-Identifier: MIT */
/* A pipe between two hosts, of which one is the input: what it sends before it has shown the secret, and what one gone mad
 * sends after.  The first byte chooses the side that is ours (even: the port that was called; odd: the channel that calls)
 * and how the bytes are cut, the second whether the socket takes ours, and when time passes and calls are made,
 * cancelled and answered.
 *
 * At the end the peer goes; then every call of either side has ended, exactly once, and nothing is left over. */
#include "proto/proto.h"
#include "rpc/client.h"
#include "rpc/pipe.h"
#include "rpc/rpc.h"
#include "temporal/api/common/v1/message.pb-c.h"
#include "played.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OUT_MAX 12

/* ---- what it may ask of us ---- */

typedef struct waiting {
    tn_list link;
    tn_call *call;
} waiting;

static tn_list parked = {&parked, &parked};

static void echo(tn_call *call) { tn_call_reply(call, call->request); }
static void fail(tn_call *call)
{
    tn_call_fail(call, tn_fault_detailed(call->arena, TN_GRPC_NOT_FOUND, call->request, "gone"));
}

static void easy(tn_call *call)
{
    call->unhurried = true;
    tn_call_reply(call, call->request);
}

static void unpark(waiting *w)
{
    tn_list_remove(&w->link);
    w->call->on_cancel = NULL;
    tn_call_reply(w->call, NULL);
}

static void park_cancelled(tn_call *call) { unpark(call->user); }

static void park(tn_call *call)
{
    waiting *w = TN_NEW(call->arena, waiting);
    check(w != NULL);
    w->call = call;
    call->user = w;
    if (call->message.n % 2)
        call->on_cancel = park_cancelled;
    tn_list_push_back(&parked, &w->link);
}

#define METHOD(name, function) \
    { \
        .path = "/f.F/" name, .input = &temporal__api__common__v1__payload__descriptor, \
        .flags = TN_RPC_INTERNAL, .output = &temporal__api__common__v1__payload__descriptor, \
        .handle = (function) \
    }
static const tn_rpc_method methods[] = {METHOD("Echo", echo), METHOD("Fail", fail),
                                        METHOD("Easy", easy), METHOD("Park", park)};

/* ---- what we ask of it ---- */

typedef struct attempt {
    tn_outcall out; /* first */
    bool ended;
} attempt;

static attempt attempts[OUT_MAX];
static size_t n_attempts;
static tn_channel *channel;

static void attempt_done(tn_outcall *out)
{
    attempt *a = (attempt *)out;
    check(!a->ended);
    check(!out->unsent || out->fault);
    check(!out->fault || out->fault->code != TN_GRPC_OK);
    a->ended = true;
    tn_arena_destroy(out->arena);
}

static void ask(uint32_t dice)
{
    if (!channel || n_attempts == OUT_MAX)
        return;
    attempt *a = &attempts[n_attempts++];
    *a = (attempt){.out = {.path = dice % 2 ? "/f.F/Echo" : "/f.F/Park", .done = attempt_done}};
    a->out.arena = tn_arena_create(0);
    a->out.message = tn_arena_blob(a->out.arena, tn_blob_from("\x12\x01x", 3));
    a->out.deadline_mono_ns = dice % 3 ? now_ns + 5 * TN_SEC : UINT64_MAX;
    tn_outcall_send(channel, &a->out);
}

static void let_go(attempt *a, uint32_t dice)
{
    if (a->ended)
        return;
    if (dice % 2)
        tn_outcall_cancel(&a->out);
    else
        (void)tn_outcall_settle(&a->out);
}

/* ---- the connections: the first is the input's, the others never come about ---- */

static tn_stream first, others[OUT_MAX + 1];
static size_t n_others;
static bool first_taken;

static tn_stream *stream_next(void)
{
    if (!first_taken) {
        first_taken = true;
        return &first;
    }
    check(n_others < TN_COUNT_OF(others));
    return &others[n_others++];
}

static tn_rpc_server *server;
static const uint8_t us[16] = "us-us-us-us-us-", them[16] = "them-them-them-";
static const uint8_t provers[16] = "prover\x80prover-"; /* an id of version 8 */

static void set_up(void)
{
    tn_rpc_options options;
    tn_error err;
    if (server)
        return;
    tn_log_configure(TN_LOG_NEVER, false);
    tn_clock_override(fake_now, fake_now);
    tn_heap_init(&timers);
    tn_pipes_use_local(false);
    tn_pipes_identity(us, "word");
    tn_rpc_register(methods, TN_COUNT_OF(methods));
    tn_rpc_options_default(&options);
    options.internal = true;
    check(tn_rpc_server_start(&options, &server, &err) == TN_OK);
}

static void meanwhile(tn_stream *s, uint32_t dice)
{
    tn_list *link;
    if (dice % 3 == 0 && (link = tn_list_first(&parked)) != NULL)
        unpark(TN_CONTAINER_OF(link, waiting, link));
    if (dice % 5 == 0)
        ask(dice >> 4);
    if (dice % 11 == 0 && n_attempts)
        let_go(&attempts[(dice >> 4) % n_attempts], dice >> 8);
    run_deferred();
    if (!s->closing && s->blocked && dice % 7 == 0) {
        s->pending = 0;
        s->events->drained(s);
        run_deferred();
    }
    if (dice % 13 == 0)
        pass_time(dice % 2 ? 20 * TN_MS : 4 * TN_SEC);
}

static void begin(tn_stream *s, bool called, bool proves)
{
    n_attempts = n_others = 0;
    connected_fn = NULL;
    next_stream = stream_next;
    memset(others, 0, sizeof(others));
    first_taken = called;
    if (called) {
        accept_fn(accept_user, s);
        channel = tn_channel_create("198.51.100.1", 1, "word", NULL, NULL);
        tn_channel_to_frontend(channel);
        /* calls go back by the pipe that they have opened, or nowhere */
        tn_channel_share_pipes(channel, them);
        return;
    }
    channel = tn_channel_create("198.51.100.1", 1, "word", NULL, NULL);
    tn_channel_to_host(channel, proves ? provers : them);
    for (uint32_t i = 0; i < 4; i++)
        ask(i);
    connected_fn(s);
    run_deferred();
}

static void end(tn_stream *s)
{
    tn_list *link;
    if (!s->closing)
        s->events->end(s, 0);
    run_deferred();
    tn_channel_destroy(channel);
    channel = NULL;
    run_deferred();
    while ((link = tn_list_first(&parked)) != NULL)
        unpark(TN_CONTAINER_OF(link, waiting, link));
    run_deferred();
    check(s->closing);
    s->events->closed(s);
    for (size_t i = 0; i < n_others; i++) {
        check(others[i].closing);
        others[i].events->closed(&others[i]);
        tn_buf_done(&others[i].written);
    }
    run_deferred();
    for (size_t i = 0; i < n_attempts; i++)
        check(attempts[i].ended);
    check(tn_heap_min(&timers) == NULL);
}

/* What we send is whole frames after the word that begins it. */
static void frames_whole(const tn_buf *written)
{
    size_t at = RPC_PIPE_MAGIC_N;
    if (written->n < at || memcmp(written->p, RPC_PIPE_MAGIC, at) != 0)
        return; /* HTTP/2, to one that is no host of this release */
    while (at < written->n) {
        check(written->n - at >= RPC_PIPE_FRAME_HEAD);
        size_t n = 4 + (size_t)tn_get_u32be(written->p + at);
        check(n >= RPC_PIPE_FRAME_HEAD && n <= written->n - at);
        at += n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tn_stream *s = &first;
    set_up();
    if (size < 2)
        return 0;
    now_ns = 1000 * TN_SEC;
    uint32_t dice = data[0] * 2654435761u + data[1];
    *s = (tn_stream){.blocked = data[1] & 1};
    begin(s, !(data[0] & 1), data[1] & 0x80);
    for (size_t at = 2; at < size && !s->closing;) {
        size_t n = data[0] & 2 ? size - at : 1 + (dice >> 16) % (data[0] + 1u);
        n = n < size - at ? n : size - at;
        s->events->read(s, data + at, n);
        at += n;
        run_deferred();
        dice = dice * 1664525u + 1013904223u;
        if (!(data[1] & 2))
            meanwhile(s, dice >> 8);
    }
    end(s);
    frames_whole(&s->written);
    tn_buf_done(&s->written);
    return 0;
}
