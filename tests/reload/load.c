/* SPDX-License-Identifier: MIT */
/* Calls at a steady rate until standard input ends; then one line of JSON says how they went.
 *
 *     load PORT RATE */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rpc/client.h"

#define CHANNELS 4
#define DEADLINE_NS (60 * TN_SEC)
#define TICK_NS (2 * TN_MS)

typedef struct one {
    tn_outcall call;
    uint64_t began_ns;
} one;

static struct {
    tn_channel *channels[CHANNELS];
    tn_loop_timer tick;
    uint64_t began_ns, rate;
    uint64_t sent, ok, failed, in_flight, in_flight_max, longest_ns;
    bool stopping;
    char first[300];
    int done_fd;
} load;

/* namespace: "default" */
static const uint8_t request[] = {0x0a, 7, 'd', 'e', 'f', 'a', 'u', 'l', 't'};

static void finish_if_over(void)
{
    if (load.stopping && load.in_flight == 0)
        (void)!write(load.done_fd, "x", 1);
}

static void answered(tn_outcall *call)
{
    one *o = call->user;
    uint64_t took = tn_now_mono_ns() - o->began_ns;
    load.in_flight--;
    load.longest_ns = took > load.longest_ns ? took : load.longest_ns;
    if (!call->fault) {
        load.ok++;
    } else if (load.failed++ == 0) {
        snprintf(load.first, sizeof load.first, "%d " TN_STR_FMT, call->fault->code,
                 TN_STR_ARG(call->fault->message));
        for (char *p = load.first; *p; p++)
            *p = *p == '"' || *p == '\\' || (uint8_t)*p < 0x20 ? '\'' : *p;
    }
    tn_arena *arena = call->arena;
    tn_arena_destroy(arena);
    finish_if_over();
}

static void send_one(void)
{
    tn_arena *arena = tn_arena_create(0);
    one *o = TN_NEW(arena, one);
    *o = (one){.began_ns = tn_now_mono_ns()};
    o->call =
        (tn_outcall){.arena = arena,
                     .path = "/temporal.api.workflowservice.v1.WorkflowService/DescribeNamespace",
                     .message = {request, sizeof request},
                     .deadline_mono_ns = o->began_ns + DEADLINE_NS,
                     .done = answered,
                     .user = o};
    load.in_flight++;
    load.in_flight_max = load.in_flight > load.in_flight_max ? load.in_flight : load.in_flight_max;
    tn_outcall_send(load.channels[load.sent++ % CHANNELS], &o->call);
}

static void on_tick(tn_loop_timer *timer)
{
    uint64_t now = tn_now_mono_ns();
    uint64_t due = (now - load.began_ns) / TN_US * load.rate / 1000000;
    if (load.stopping)
        return;
    while (load.sent < due)
        send_one();
    tn_loop_timer_start(timer, now + TICK_NS);
}

static void begin(void *port)
{
    for (int i = 0; i < CHANNELS; i++) {
        load.channels[i] = tn_channel_create("127.0.0.1", *(uint16_t *)port, "", NULL, NULL);
        tn_channel_to_frontend(load.channels[i]);
    }
    load.began_ns = tn_now_mono_ns();
    tn_loop_timer_init(&load.tick, on_tick);
    on_tick(&load.tick);
}

static void stop(void *unused)
{
    (void)unused;
    load.stopping = true;
    finish_if_over();
}

static void end(void *unused)
{
    (void)unused;
    tn_loop_timer_stop(&load.tick);
    for (int i = 0; i < CHANNELS; i++)
        tn_channel_destroy(load.channels[i]);
}

int main(int argc, char **argv)
{
    tn_error err;
    int fds[2];
    char byte;
    uint16_t port = argc == 3 ? (uint16_t)atoi(argv[1]) : 0;
    load.rate = argc == 3 ? (uint64_t)atoi(argv[2]) : 0;
    if (!port || !load.rate || pipe(fds) != 0 || tn_loops_create(1, &err) != TN_OK)
        return 2;
    load.done_fd = fds[1];
    tn_loops_run();
    tn_loop_call(tn_loops_get(0), begin, &port);
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    tn_loop_call(tn_loops_get(0), stop, NULL);
    bool over = read(fds[0], &byte, 1) == 1;
    tn_loop_call(tn_loops_get(0), end, NULL);
    tn_loops_stop();
    printf("{\"ok\": %llu, \"failed\": %llu, \"in_flight_max\": %llu, \"longest_ms\": %llu, "
           "\"seconds\": %.1f, "
           "\"first\": \"%s\"}\n",
           (unsigned long long)load.ok, (unsigned long long)load.failed,
           (unsigned long long)load.in_flight_max, (unsigned long long)(load.longest_ns / TN_MS),
           (double)(tn_now_mono_ns() - load.began_ns) / 1e9, load.first);
    tn_loops_destroy();
    return over ? 0 : 1;
}
