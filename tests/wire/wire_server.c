/* SPDX-License-Identifier: MIT */
/* A gRPC server over core/rpc for the wire tests: health, reflection, and methods that make each kind
 * of answer.  Requests and responses are messages of the API, so that nothing has to be generated:
 * Payload for most (data carries the argument), poll and system info as they are.
 *
 *   wire_server [port=N] [loops=N] [streams=N] [age=MS] [grace=MS] [idle=MS] [ping=MS]
 *               [pingtimeout=MS] [pingmin=MS] [slow=MS]
 *
 * Prints "port N" when it listens; SIGTERM drains it; its counters are printed at the end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/proto.h"
#include "rpc/rpc.h"
#include "temporal/api/common/v1/message.pb-c.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"
#include "wire/test_service.h"

typedef Temporal__Api__Common__V1__Payload payload;

static tn_str argument(const tn_call *call)
{
    const payload *p = (const void *)call->request;
    return (tn_str){(const char *)p->data.data, p->data.len};
}

static uint64_t argument_u64(const tn_call *call)
{
    uint64_t v = 0;
    return tn_parse_u64(argument(call), &v) ? v : 0;
}

static void reply_text(tn_call *call, tn_str text)
{
    payload p = TEMPORAL__API__COMMON__V1__PAYLOAD__INIT;

    p.data.data = (uint8_t *)(uintptr_t)text.p;
    p.data.len = text.n;
    tn_call_reply(call, &p.base);
}

static void echo(tn_call *call) { tn_call_reply(call, call->request); }

static void empty(tn_call *call) { tn_call_reply(call, NULL); }

/* "CODE text": fails so, with a typed detail. */
static void fail(tn_call *call)
{
    Temporal__Api__Errordetails__V1__QueryFailedFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__QUERY_FAILED_FAILURE__INIT;
    tn_str s = argument(call);
    const char *space = memchr(s.p, ' ', s.n);
    uint64_t code = 2;

    if (space && tn_parse_u64((tn_str){s.p, (size_t)(space - s.p)}, &code)) {
        s.n -= (size_t)(space + 1 - s.p);
        s.p = space + 1;
    }
    tn_call_add_header(call, "x-cause", TN_STR("asked"));
    tn_call_fail(call, tn_fault_detailed(call->arena, (tn_grpc_code)code, &detail.base, TN_STR_FMT,
                                         TN_STR_ARG(s)));
}

/* The value of the header that is named. */
static void header(tn_call *call)
{
    char *name = tn_arena_memdup(call->arena, argument(call).p, argument(call).n);

    tn_call_add_header(call, "x-answer-bin", TN_STR("\1\2\3"));
    tn_call_add_header(call, "x-peer", tn_call_peer(call));
    reply_text(call, tn_call_header(call, name));
}

/* N bytes: half packed, half spliced in as the fields of many metadata entries would be. */
static void sized(tn_call *call)
{
    payload p = TEMPORAL__API__COMMON__V1__PAYLOAD__INIT;
    size_t n = argument_u64(call);
    uint8_t *bytes = tn_arena_zalloc(call->arena, n + 16), *q;
    tn_blob parts[2];

    if (!bytes) {
        tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_RESOURCE_EXHAUSTED, "too many"));
        return;
    }
    for (size_t i = 0; i < n; i++)
        bytes[16 + i] = (uint8_t)(i * 2654435761u >> 13);
    q = bytes;
    *q++ = 2 << 3 | TN_WIRE_BYTES; /* data */
    q = tn_wire_write_varint(q, n);
    parts[0] = tn_blob_from(bytes, (size_t)(q - bytes));
    parts[1] = tn_blob_from(bytes + 16, n);
    tn_call_reply_spliced(call, &p.base, parts, 2, NULL, NULL);
}

/* ---- waiting ---- */

typedef struct waiter {
    tn_list link;
    tn_loop_timer timer;
    tn_call *call;
} waiter;

static tn_list parked[64]; /* by loop */

static void wait_over(tn_loop_timer *timer)
{
    waiter *w = TN_CONTAINER_OF(timer, waiter, timer);
    w->call->on_cancel = NULL;
    reply_text(w->call, TN_STR("slept"));
}

static void wait_cancelled(tn_call *call)
{
    waiter *w = call->user;
    tn_loop_timer_stop(&w->timer);
    tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_CANCELLED, "cancelled"));
}

static void sleep_ms(tn_call *call)
{
    waiter *w = TN_NEW(call->arena, waiter);

    w->call = call;
    call->user = w;
    call->on_cancel = wait_cancelled;
    tn_loop_timer_init(&w->timer, wait_over);
    tn_loop_timer_start(&w->timer, tn_now_mono_ns() + argument_u64(call) * TN_MS);
}

static void park_cancelled(tn_call *call)
{
    waiter *w = call->user;
    tn_list_remove(&w->link);
    tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_CANCELLED, "cancelled"));
}

static void park(tn_call *call)
{
    waiter *w = TN_NEW(call->arena, waiter);

    w->call = call;
    call->user = w;
    call->on_cancel = park_cancelled;
    tn_list_push_back(&parked[tn_loop_index(call->home)], &w->link);
}

static void release_here(tn_loop *loop, uint64_t *count)
{
    tn_list *link;

    while ((link = tn_list_pop_front(&parked[tn_loop_index(loop)])) != NULL) {
        waiter *w = TN_CONTAINER_OF(link, waiter, link);
        w->call->on_cancel = NULL;
        tn_call_reply(w->call, NULL);
        ++*count;
    }
}

/* Travels over all loops, lets the parked calls go, and says how many. */
static void release_step(tn_msg *msg)
{
    tn_call *call = TN_CONTAINER_OF(msg, tn_call, msg);
    uint64_t *state = call->user; /* next loop, count */

    release_here(tn_loop_current(), &state[1]);
    if (state[0] == tn_loops_count()) {
        reply_text(call,
                   tn_str_from(tn_arena_printf(call->arena, "%llu", (unsigned long long)state[1])));
        return;
    }
    tn_loop_post(tn_loops_get((uint32_t)state[0]++), &call->msg);
}

static void release(tn_call *call)
{
    call->user = TN_NEW_ARRAY(call->arena, uint64_t, 2);
    call->msg.run = release_step;
    tn_loop_post(tn_loops_get((uint32_t)((uint64_t *)call->user)[0]++), &call->msg);
}

/* ---- travelling ---- */

typedef struct trip {
    uint64_t hops;
    tn_rng rng;
} trip;

static void hop_step(tn_msg *msg)
{
    tn_call *call = TN_CONTAINER_OF(msg, tn_call, msg);
    trip *t = call->user;

    if (!t->hops--) {
        if (tn_rng_below(&t->rng, 4))
            tn_call_reply(call, call->request);
        else
            tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_ABORTED, "unlucky"));
        return;
    }
    tn_loop_post(tn_loops_get((uint32_t)tn_rng_below(&t->rng, tn_loops_count())), &call->msg);
}

static void hop(tn_call *call)
{
    trip *t = TN_NEW(call->arena, trip);

    t->hops = argument_u64(call) % 1000;
    tn_rng_seed(&t->rng, call->received_mono_ns);
    call->user = t;
    call->msg.run = hop_step;
    tn_loop_post(tn_loops_get(0), &call->msg);
}

static void system_info(tn_call *call)
{
    Temporal__Api__Workflowservice__V1__GetSystemInfoResponse response =
        TEMPORAL__API__WORKFLOWSERVICE__V1__GET_SYSTEM_INFO_RESPONSE__INIT;

    response.server_version = (char *)(uintptr_t) "0.0.0";
    tn_call_reply(call, &response.base);
}

#define D(name) temporal__api__##name##__descriptor
#define TEST(name, function) \
    { \
        .path = "/tenon.wire.Test/" name, .input = &D(common__v1__payload), \
        .output = &D(common__v1__payload), .handle = (function) \
    }
#define SERVICE(name, lower, function) \
    { \
        .path = "/temporal.api.workflowservice.v1.WorkflowService/" name, \
        .input = &D(workflowservice__v1__##lower##_request), \
        .output = &D(workflowservice__v1__##lower##_response), .handle = (function) \
    }

static const tn_rpc_method methods[] = {
    TEST("Echo", echo),
    TEST("Empty", empty),
    TEST("Fail", fail),
    TEST("Header", header),
    TEST("Sized", sized),
    TEST("Sleep", sleep_ms),
    TEST("Park", park),
    TEST("Release", release),
    TEST("Hop", hop),
    SERVICE("GetSystemInfo", get_system_info, system_info),
    SERVICE("PollWorkflowTaskQueue", poll_workflow_task_queue, park),
    SERVICE("StartWorkflowExecution", start_workflow_execution, empty),
};

static uint32_t read_options(int argc, char **argv, tn_rpc_options *o)
{
    uint32_t loops = 2;

    tn_rpc_options_default(o);
    o->port = 0;
    for (int i = 1; i < argc; i++) {
        char *eq = strchr(argv[i], '=');
        uint64_t v = eq ? strtoull(eq + 1, NULL, 10) : 0;
        tn_str key = {argv[i], eq ? (size_t)(eq - argv[i]) : 0};

        if (tn_str_is(key, "port"))
            o->port = (uint16_t)v;
        else if (tn_str_is(key, "loops"))
            loops = (uint32_t)v;
        else if (tn_str_is(key, "streams"))
            o->streams_max = (uint32_t)v;
        else if (tn_str_is(key, "age"))
            o->age_max_ns = v * TN_MS;
        else if (tn_str_is(key, "grace"))
            o->age_grace_ns = v * TN_MS;
        else if (tn_str_is(key, "idle"))
            o->idle_timeout_ns = v * TN_MS;
        else if (tn_str_is(key, "ping"))
            o->keepalive_ping_ns = v * TN_MS;
        else if (tn_str_is(key, "pingtimeout"))
            o->keepalive_timeout_ns = v * TN_MS;
        else if (tn_str_is(key, "slow"))
            o->slow_ns = v * TN_MS;
        else if (tn_str_is(key, "pingmin"))
            o->keepalive_min_ns = v * TN_MS;
    }
    return loops;
}

int main(int argc, char **argv)
{
    tn_rpc_options options;
    tn_rpc_server *server;
    tn_rpc_stats stats;
    tn_error err = {0};
    uint32_t loops = read_options(argc, argv, &options);

    for (size_t i = 0; i < TN_COUNT_OF(parked); i++)
        tn_list_init(&parked[i]);
    if (tn_loops_create(loops, &err) != TN_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    tn_rpc_register(methods, TN_COUNT_OF(methods));
    wire_test_service_register();
    tn_rpc_register_builtin();
    tn_rpc_set_health("", TN_HEALTH_SERVING);
    tn_rpc_set_health("temporal.api.workflowservice.v1.WorkflowService", TN_HEALTH_SERVING);
    if (tn_rpc_server_start(&options, &server, &err) != TN_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    tn_loops_run();
    printf("port %u\n", tn_rpc_server_port(server));
    fflush(stdout);
    tn_main_wait_signal();
    tn_rpc_server_drain(server, 5 * TN_SEC);
    tn_rpc_server_destroy(server);
    tn_rpc_stats_get(&stats);
    printf("connections %llu requests %llu refused %llu resets_sent %llu resets_received %llu "
           "deadlines %llu undelivered %llu calm %llu error %llu drain %llu in %llu out %llu "
           "writes %llu\n",
           (unsigned long long)stats.connections, (unsigned long long)stats.requests,
           (unsigned long long)stats.refused, (unsigned long long)stats.resets_sent,
           (unsigned long long)stats.resets_received, (unsigned long long)stats.deadlines,
           (unsigned long long)stats.undelivered, (unsigned long long)stats.goaways_calm,
           (unsigned long long)stats.goaways_error, (unsigned long long)stats.goaways_drain,
           (unsigned long long)stats.bytes_in, (unsigned long long)stats.bytes_out,
           (unsigned long long)stats.writes);
    tn_loops_stop();
    tn_loops_destroy();
    return 0;
}
