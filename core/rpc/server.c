/* SPDX-License-Identifier: MIT */
/* A server: one worker a loop, each with a listener on the same address. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rpc/health.h"
#include "rpc/pipe.h"

tn_counter *rpc_counts[RPC_COUNT_COUNT];

/* In the order of rpc_count_id. */
static const struct {
    const char *name, *help, *kind; /* kind: the value of a label of that name, NULL: none */
} counters[RPC_COUNT_COUNT] = {
    {"tenon_rpc_connections", "Connections accepted", NULL},
    {"tenon_rpc_requests", "Streams opened by clients", NULL},
    {"tenon_rpc_refused", "Requests refused before they reached a handler", NULL},
    {"tenon_rpc_resets_sent", "Streams reset by the server", NULL},
    {"tenon_rpc_resets_received", "Streams reset by clients", NULL},
    {"tenon_rpc_deadlines", "Calls whose deadline passed before their answer had left", NULL},
    {"tenon_rpc_undelivered", "Answers whose stream had gone", NULL},
    {"tenon_rpc_goaways", "Connections told to end", "calm"},
    {"tenon_rpc_goaways", "Connections told to end", "error"},
    {"tenon_rpc_goaways", "Connections told to end", "drain"},
    {"tenon_rpc_bytes_in", "Bytes received", NULL},
    {"tenon_rpc_bytes_out", "Bytes made to be sent", NULL},
    {"tenon_rpc_writes", "Groups of frames handed to sockets", NULL},
};

static void make_counters(void)
{
    for (size_t i = 0; i < RPC_COUNT_COUNT; i++) {
        tn_label kind = TN_LABEL_Z("kind", counters[i].kind);
        rpc_counts[i] =
            tn_metrics_counter(counters[i].name, counters[i].help, &kind, counters[i].kind ? 1 : 0);
    }
}

void tn_rpc_options_default(tn_rpc_options *o)
{
    *o = (tn_rpc_options){
        .bind_ip = "127.0.0.1",
        .port = 7233,
        .message_bytes_max = 4u << 20,
        .streams_max = 1000,
        .idle_timeout_ns = 120 * TN_SEC,
        .keepalive_ping_ns = 60 * TN_SEC,
        .keepalive_timeout_ns = 10 * TN_SEC,
        .keepalive_min_ns = 10 * TN_SEC,
        .age_max_ns = 300 * TN_SEC,
        .age_grace_ns = 70 * TN_SEC,
        .slow_ns = 10 * TN_SEC,
        .arena_bytes_max = 64u << 20,
    };
}

typedef struct worker_job {
    rpc_worker *worker;
    uint16_t port;
    tn_error *err;
    tn_status status;
} worker_job;

static void worker_listen(void *arg)
{
    worker_job *job = arg;
    rpc_worker *worker = job->worker;

    job->status = tn_listener_open(worker->server->bind_ip, job->port, rpc_conn_accept, worker,
                                   &worker->listener, job->err);
    if (job->status == TN_OK)
        job->port = tn_listener_port(worker->listener);
    if (job->status == TN_OK &&
        (worker->server->options.internal || worker->server->options.on_pipes))
        rpc_pipe_worker_starts(worker);
    if (job->status == TN_OK && worker->server->options.internal)
        rpc_pipe_local_listen(worker, job->port);
}

static rpc_worker *worker_create(tn_rpc_server *server, tn_loop *loop)
{
    rpc_worker *worker = tn_xcalloc(1, sizeof(*worker));

    worker->server = server;
    worker->loop = loop;
    tn_list_init(&worker->conns);
    return worker;
}

tn_status tn_rpc_server_start(const tn_rpc_options *options, tn_rpc_server **out, tn_error *err)
{
    tn_rpc_server *server = tn_xcalloc(1, sizeof(*server));
    worker_job job = {.port = options->port, .err = err};

    make_counters();
    rpc_session_callbacks();
    server->options = *options;
    server->bind_ip = tn_xstrdup(options->bind_ip ? options->bind_ip : "127.0.0.1");
    server->options.bind_ip = server->bind_ip;
    server->worker_count = tn_loops_count();
    server->workers = tn_xcalloc(server->worker_count, sizeof(server->workers[0]));
    atomic_init(&server->alive, server->worker_count + 1);
    TN_ASSERT(sem_init(&server->drained, 0, 0) == 0 && sem_init(&server->ended, 0, 0) == 0);
    for (uint32_t i = 0; i < server->worker_count; i++)
        server->workers[i] = worker_create(server, tn_loops_get(i));
    for (uint32_t i = 0; i < server->worker_count; i++) {
        job.worker = server->workers[i];
        tn_loop_call(server->workers[i]->loop, worker_listen, &job);
        if (job.status != TN_OK) {
            tn_rpc_server_destroy(server);
            return job.status;
        }
    }
    server->port = job.port;
    *out = server;
    return TN_OK;
}

uint16_t tn_rpc_server_port(const tn_rpc_server *server) { return server->port; }

void tn_rpc_stats_get(tn_rpc_stats *out)
{
    uint64_t n[RPC_COUNT_COUNT];

    for (size_t i = 0; i < RPC_COUNT_COUNT; i++)
        n[i] = rpc_counts[i] ? tn_counter_value(rpc_counts[i]) : 0;
    *out = (tn_rpc_stats){
        .connections = n[RPC_COUNT_CONNECTIONS],
        .requests = n[RPC_COUNT_REQUESTS],
        .refused = n[RPC_COUNT_REFUSED],
        .resets_sent = n[RPC_COUNT_RESETS_SENT],
        .resets_received = n[RPC_COUNT_RESETS_RECEIVED],
        .deadlines = n[RPC_COUNT_DEADLINES],
        .undelivered = n[RPC_COUNT_UNDELIVERED],
        .goaways_calm = n[RPC_COUNT_GOAWAYS_CALM],
        .goaways_error = n[RPC_COUNT_GOAWAYS_ERROR],
        .goaways_drain = n[RPC_COUNT_GOAWAYS_DRAIN],
        .bytes_in = n[RPC_COUNT_BYTES_IN],
        .bytes_out = n[RPC_COUNT_BYTES_OUT],
        .writes = n[RPC_COUNT_WRITES],
    };
}

/* ---- drain and the end ---- */

static void server_unref(tn_rpc_server *server)
{
    /* Acquire and release: the last one sees what the others did. */
    if (atomic_fetch_sub_explicit(&server->alive, 1, memory_order_acq_rel) != 1)
        return;
    sem_destroy(&server->drained);
    sem_destroy(&server->ended);
    free(server->workers);
    free(server->bind_ip);
    free(server);
}

void rpc_worker_maybe_done(rpc_worker *worker)
{
    if (worker->conn_count)
        return;
    if (worker->ending) {
        worker->ending = false;
        sem_post(&worker->server->ended);
    }
    if (worker->call_count)
        return;
    if (worker->draining) {
        worker->draining = false;
        sem_post(&worker->server->drained);
    }
    if (worker->orphan) {
        tn_rpc_server *server = worker->server;
        tn_buf_done(&worker->out);
        rpc_gzip_destroy(worker->gzip);
        free(worker);
        server_unref(server);
    }
}

static void worker_close_listener(rpc_worker *worker)
{
    if (worker->listener)
        tn_listener_close(worker->listener);
    if (worker->local)
        tn_listener_close(worker->local);
    worker->listener = worker->local = NULL;
}

static void worker_drain(void *arg)
{
    rpc_worker *worker = arg;

    worker_close_listener(worker);
    worker->draining = true;
    rpc_pipe_worker_drains(worker);
    TN_LIST_FOREACH_SAFE (link, &worker->conns)
        rpc_conn_drain(TN_CONTAINER_OF(link, rpc_conn, link));
    rpc_worker_maybe_done(worker);
}

static void worker_end(void *arg)
{
    rpc_worker *worker = arg;

    worker_close_listener(worker);
    worker->draining = false;
    worker->ending = true;
    rpc_pipe_worker_ends(worker);
    TN_LIST_FOREACH_SAFE (link, &worker->conns)
        rpc_conn_close(TN_CONTAINER_OF(link, rpc_conn, link));
    rpc_worker_maybe_done(worker);
}

static void workers_end(tn_rpc_server *server)
{
    for (uint32_t i = 0; i < server->worker_count; i++)
        tn_loop_call(server->workers[i]->loop, worker_end, server->workers[i]);
    for (uint32_t i = 0; i < server->worker_count; i++) {
        while (sem_wait(&server->ended) != 0)
            ; /* interrupted */
    }
}

static bool wait_until(sem_t *sem, uint64_t at_ns)
{
    struct timespec until = {.tv_sec = (time_t)(at_ns / TN_SEC), .tv_nsec = (long)(at_ns % TN_SEC)};
    while (sem_timedwait(sem, &until) != 0)
        if (errno != EINTR)
            return false;
    return true;
}

#define AGAIN_NS (250 * TN_MS)

void tn_rpc_server_drain_with(tn_rpc_server *server, uint64_t grace_ns, void (*again)(void))
{
    struct timespec now;

    rpc_health_all(TN_HEALTH_NOT_SERVING);
    for (uint32_t i = 0; i < server->worker_count; i++)
        tn_loop_call(server->workers[i]->loop, worker_drain, server->workers[i]);
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t at_ns = (uint64_t)now.tv_sec * TN_SEC + (uint64_t)now.tv_nsec,
             end_ns = at_ns + grace_ns;
    for (uint32_t drained = 0; drained < server->worker_count && at_ns < end_ns;) {
        if (again)
            again();
        at_ns = again && at_ns + AGAIN_NS < end_ns ? at_ns + AGAIN_NS : end_ns;
        while (drained < server->worker_count && wait_until(&server->drained, at_ns))
            drained++;
    }
    workers_end(server);
}

void tn_rpc_server_drain(tn_rpc_server *server, uint64_t grace_ns)
{
    tn_rpc_server_drain_with(server, grace_ns, NULL);
}

static void worker_orphan(void *arg)
{
    rpc_worker *worker = arg;

    /* Calls whose batons are out come home later: the worker waits for them. */
    worker->orphan = true;
    rpc_worker_maybe_done(worker);
}

void tn_rpc_server_destroy(tn_rpc_server *server)
{
    if (!server)
        return;
    workers_end(server);
    for (uint32_t i = 0; i < server->worker_count; i++)
        tn_loop_call(server->workers[i]->loop, worker_orphan, server->workers[i]);
    server_unref(server);
}
