/* SPDX-License-Identifier: MIT */
/* A whole server connection without threads, sockets or clocks: the loop room's functions are played
 * here, so that an input always does the same.  It is the peer's bytes; its first two bytes choose how
 * they are cut, whether the socket takes our bytes, and when time passes and waiting calls are answered.
 *
 * At the end the peer goes; then every call must have been freed and every lent memory released, and
 * what we wrote must be whole frames. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/proto.h"
#include "rpc/rpc.h"
#include "rpc/wire.h"
#include "temporal/api/common/v1/message.pb-c.h"
#include "played.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- methods ---- */

typedef struct waiting {
    tn_list link;
    tn_call *call;
} waiting;

static tn_list parked = {&parked, &parked};
static size_t lent;

static void give_back(void *user)
{
    (void)user;
    check(lent > 0);
    lent--;
}

static void echo(tn_call *call)
{
    tn_str peer = tn_call_peer(call), header = tn_call_header(call, "x-fuzz-bin");

    tn_call_add_header(call, "x-fuzz-bin", header);
    check(peer.n > 0);
    lent++;
    tn_call_reply_spliced(call, call->request, &call->message, 1, give_back, NULL);
}

static void fail(tn_call *call)
{
    const Temporal__Api__Common__V1__Payload *p = (const void *)call->request;

    tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_NOT_FOUND, "%.*s", (int)p->data.len,
                                     (const char *)p->data.data));
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
    /* Some hear of their end, the others are answered late. */
    if (call->message.n % 2)
        call->on_cancel = park_cancelled;
    tn_list_push_back(&parked, &w->link);
}

#define METHOD(name, function) \
    { \
        .path = "/f.F/" name, .input = &temporal__api__common__v1__payload__descriptor, \
        .output = &temporal__api__common__v1__payload__descriptor, .handle = (function) \
    }
static const tn_rpc_method methods[] = {
    METHOD("Echo", echo),
    METHOD("Fail", fail),
    METHOD("Park", park),
};

/* ---- the codecs, by themselves ---- */

static void codecs(const uint8_t *data, size_t size)
{
    tn_str s = {(const char *)data, size};
    uint8_t *plain = malloc(RPC_BASE64_DECODED_MAX(size));
    char *text = malloc(size * 3 + 1),
         *again = malloc(RPC_BASE64_SIZE(RPC_BASE64_DECODED_MAX(size)));
    uint64_t ns;
    size_t n;

    check(plain && text && again);
    rpc_timeout_parse(s, &ns);
    rpc_content_type_ok(s);
    rpc_list_has(s, TN_STR("gzip"));
    n = rpc_percent_encode(s, text, size * 3);
    for (size_t i = 0; i < n; i++)
        check(text[i] >= 0x20 && text[i] <= 0x7e);
    if (rpc_base64_decode(s, plain, &n)) {
        size_t m = rpc_base64_encode(tn_blob_from(plain, n), again);
        check(m <= size && memcmp(again, data, m) == 0);
    }
    free(plain);
    free(text);
    free(again);
}

/* ---- a connection ---- */

static tn_rpc_server *server;

static void set_up(void)
{
    tn_rpc_options options;
    tn_error err;

    if (server)
        return;
    tn_log_configure(TN_LOG_NEVER, false);
    tn_clock_override(fake_now, fake_now);
    tn_heap_init(&timers);
    tn_rpc_register(methods, TN_COUNT_OF(methods));
    tn_rpc_register_builtin();
    tn_rpc_set_health("", TN_HEALTH_SERVING);
    tn_rpc_options_default(&options);
    options.streams_max = 20;
    check(tn_rpc_server_start(&options, &server, &err) == TN_OK);
}

static void let_go(tn_stream *s, uint32_t dice)
{
    tn_list *link;

    if (s->closing)
        return;
    if (dice % 3 == 0 && (link = tn_list_first(&parked)) != NULL)
        unpark(TN_CONTAINER_OF(link, waiting, link));
    if (s->blocked && dice % 5 == 0) {
        s->pending = 0;
        s->events->drained(s);
    }
    run_deferred();
    if (dice % 7 == 0)
        pass_time(dice % 2 ? 20 * TN_MS : 4 * TN_SEC);
}

static void frames_whole(const tn_buf *written)
{
    size_t at = 0;

    while (at < written->n) {
        const uint8_t *p = written->p + at;
        size_t n;
        check(written->n - at >= 9);
        n = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
        check(n <= 16384 && n <= written->n - at - 9);
        at += 9 + n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tn_stream s = {0};
    uint32_t dice;
    tn_list *link;

    set_up();
    codecs(data, size);
    if (size < 2)
        return 0;
    now_ns = 1000 * TN_SEC;
    dice = data[0] * 2654435761u + data[1];
    s.blocked = data[1] & 1;
    accept_fn(accept_user, &s);
    for (size_t at = 2; at < size && !s.closing;) {
        size_t n = data[0] & 1 ? size - at : 1 + (dice >> 16) % (data[0] + 1u);
        if (n > size - at)
            n = size - at;
        s.events->read(&s, data + at, n);
        at += n;
        run_deferred();
        dice = dice * 1664525u + 1013904223u;
        if (!(data[1] & 2))
            let_go(&s, dice >> 8);
    }
    if (!s.closing)
        s.events->end(&s, 0);
    run_deferred();
    while ((link = tn_list_first(&parked)) != NULL)
        unpark(TN_CONTAINER_OF(link, waiting, link));
    check(s.closing);
    s.events->closed(&s);
    run_deferred();
    check(tn_heap_min(&timers) == NULL && lent == 0);
    frames_whole(&s.written);
    tn_buf_done(&s.written);
    return 0;
}
