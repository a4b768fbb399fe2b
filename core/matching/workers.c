/* SPDX-License-Identifier: MIT */
/* The registry of workers: see workers.h.  Heartbeats are kept packed.  A worker that says that it has shut down goes at once,
 * one that says nothing more after `matching.workerRegistryEntryTTL`; when there are too many, the one that has been silent
 * longest makes room, unless that has been a short time only. */
#include "matching/workers.h"

#include <stdlib.h>

#include "matching/priv.h"
#include "proto/proto.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

#define SHUTDOWN 3 /* WorkerStatus */
#define TOKEN_PREFIX "l:"

typedef Temporal__Api__Worker__V1__WorkerHeartbeat heartbeat;
typedef Temporal__Api__Worker__V1__WorkerInfo worker_info;
typedef Temporal__Api__Worker__V1__WorkerListInfo worker_list_info;
typedef Temporal__Api__Workflowservice__V1__ListWorkersRequest list_request;
typedef Temporal__Api__Workflowservice__V1__ListWorkersResponse list_response;

typedef struct worker {
    tn_map_link link;
    tn_list recent;
    uint64_t seen_ns;
    size_t ns_n, packed_n;
    uint8_t *packed;
    bool system; /* the server's own */
    char key[];  /* namespace id, instance key, NUL */
} worker;

static size_t size_of(const worker *w) { return sizeof(*w) + w->link.key.n + 1 + w->packed_n; }

static void forget(tn_workers *workers, worker *w)
{
    workers->bytes -= size_of(w);
    tn_list_remove(&w->recent);
    tn_map_remove(&workers->by_key, &w->link);
    free(w->packed);
    free(w);
}

static worker *oldest(const tn_workers *workers)
{
    tn_list *first = tn_list_first(&workers->recent);
    return first ? TN_CONTAINER_OF(first, worker, recent) : NULL;
}

static uint64_t dyn(tn_dyn_key key)
{
    int64_t value = tn_dyn_i64(key, TN_STR(""), TN_STR(""));
    return value > 0 ? (uint64_t)value : 0;
}

static void expire(tn_loop_timer *timer)
{
    tn_workers *workers = TN_CONTAINER_OF(timer, tn_workers, timer);
    uint64_t now = tn_now_mono_ns(), ttl = dyn(TN_DYN_MATCHING_WORKERS_TTL);
    worker *w;
    while ((w = oldest(workers)) && now - w->seen_ns >= ttl)
        forget(workers, w);
    if (w) /* not for each of them: the others that are due by then go with it */
        tn_loop_timer_start(&workers->timer, w->seen_ns + ttl + TN_SEC);
}

void tn_workers_init(tn_workers *workers)
{
    *workers = (tn_workers){0};
    tn_map_init(&workers->by_key);
    tn_list_init(&workers->recent);
    tn_loop_timer_init(&workers->timer, expire);
}

void tn_workers_done(tn_workers *workers)
{
    for (worker *w; (w = oldest(workers));)
        forget(workers, w);
    tn_map_done(&workers->by_key);
    tn_map_init(&workers->by_key); /* what is asked later finds nobody */
    tn_loop_timer_stop(&workers->timer);
}

/* ---- heartbeats ---- */

static worker *find(const tn_workers *workers, const tn_namespace *ns, const char *instance)
{
    tn_buf key = {0};
    tn_buf_put(&key, ns->id.p, ns->id.n);
    tn_buf_put(&key, instance, strlen(instance));
    tn_map_link *found = tn_map_find(&workers->by_key, tn_buf_blob(&key));
    tn_buf_done(&key);
    return found ? TN_CONTAINER_OF(found, worker, link) : NULL;
}

static bool make_room(tn_workers *workers, size_t bytes)
{
    uint64_t now = tn_now_mono_ns(), min_age = dyn(TN_DYN_MATCHING_WORKERS_MIN_AGE);
    size_t most = (size_t)dyn(TN_DYN_MATCHING_WORKERS_MAX) / tn_loops_count() + 1;
    while (workers->by_key.count >= most || workers->bytes + bytes > TN_WORKERS_BYTES_MAX) {
        worker *w = oldest(workers);
        if (!w || now - w->seen_ns < min_age)
            return false;
        forget(workers, w);
    }
    return true;
}

static void record(tn_workers *workers, const tn_mreq *req, const heartbeat *beat)
{
    worker *w = find(workers, req->ns, beat->worker_instance_key);
    tn_blob packed;
    if (w)
        forget(workers, w);
    if ((int)beat->status == SHUTDOWN || tn_proto_pack(&beat->base, req->arena, &packed) != TN_OK)
        return;
    size_t key_n = req->ns->id.n + strlen(beat->worker_instance_key);
    if (!make_room(workers, sizeof(*w) + key_n + 1 + packed.n))
        return;
    w = tn_xcalloc(1, sizeof(*w) + key_n + 1);
    memcpy(w->key, req->ns->id.p, req->ns->id.n);
    memcpy(w->key + req->ns->id.n, beat->worker_instance_key, key_n - req->ns->id.n);
    w->ns_n = req->ns->id.n;
    w->packed = tn_xmalloc(packed.n + 1);
    w->packed_n = packed.n;
    if (packed.n)
        memcpy(w->packed, packed.p, packed.n);
    w->system = tn_str_starts(tn_str_from(beat->task_queue), TN_STR("temporal-sys-"));
    w->seen_ns = tn_now_mono_ns();
    tn_map_insert(&workers->by_key, &w->link, tn_blob_from(w->key, key_n));
    tn_list_push_back(&workers->recent, &w->recent);
    workers->bytes += size_of(w);
    if (!tn_loop_timer_active(&workers->timer))
        tn_loop_timer_start(&workers->timer,
                            w->seen_ns + dyn(TN_DYN_MATCHING_WORKERS_TTL) + TN_SEC);
}

/* ---- who they are ---- */

typedef struct gathered {
    const tn_mreq *req;
    const tn_workers_query *query;
    bool with_system;
    uint64_t ttl, now;
    tn_str after; /* instance keys up to it have been told */
    heartbeat **found;
    size_t n, cap;
} gathered;

static heartbeat *unpack(tn_arena *arena, const worker *w)
{
    ProtobufCMessage *message = NULL;
    if (tn_proto_unpack(&temporal__api__worker__v1__worker_heartbeat__descriptor,
                        tn_blob_from(w->packed, w->packed_n), arena, &message, NULL) != TN_OK)
        return NULL;
    return (heartbeat *)message;
}

static void gather_one(void *user, tn_map_link *link)
{
    gathered *g = user;
    const worker *w = TN_CONTAINER_OF(link, worker, link);
    tn_blob instance = tn_blob_from(w->key + w->ns_n, w->link.key.n - w->ns_n);
    if (memcmp(w->key, g->req->ns->id.p, w->ns_n) != 0 || (w->system && !g->with_system) ||
        g->now - w->seen_ns >= g->ttl ||
        (g->after.n && tn_blob_cmp(instance, tn_blob_of_str(g->after)) <= 0))
        return;
    heartbeat *beat = unpack(g->req->arena, w);
    if (!beat || !tn_workers_query_fits(g->query, beat))
        return;
    if (g->n == g->cap) {
        g->cap = g->cap ? 2 * g->cap : 16;
        g->found = tn_xreallocarray(g->found, g->cap, sizeof(g->found[0]));
    }
    g->found[g->n++] = beat;
}

static int by_instance(const void *a, const void *b)
{
    const heartbeat *const *x = a, *const *y = b;
    return strcmp((*x)->worker_instance_key, (*y)->worker_instance_key);
}

static const tn_fault *gather(tn_workers *workers, tn_mreq *req, const char *query,
                              bool with_system, tn_str after, gathered *out)
{
    tn_workers_query *parsed;
    const tn_fault *fault = tn_workers_query_parse(req->arena, tn_str_from(query), &parsed);
    if (fault)
        return fault;
    *out = (gathered){.req = req,
                      .query = parsed,
                      .with_system = with_system,
                      .ttl = dyn(TN_DYN_MATCHING_WORKERS_TTL),
                      .now = tn_now_mono_ns(),
                      .after = after};
    tn_map_each(&workers->by_key, gather_one, out);
    if (out->n)
        qsort(out->found, out->n, sizeof(out->found[0]), by_instance);
    return NULL;
}

static worker_info *info_of(tn_arena *arena, heartbeat *beat)
{
    worker_info *out = TN_NEW(arena, worker_info);
    temporal__api__worker__v1__worker_info__init(out);
    out->worker_heartbeat = beat;
    return out;
}

static worker_list_info *list_info_of(tn_arena *arena, const heartbeat *beat)
{
    worker_list_info *out = TN_NEW(arena, worker_list_info);
    temporal__api__worker__v1__worker_list_info__init(out);
    out->worker_instance_key = beat->worker_instance_key;
    out->worker_identity = beat->worker_identity;
    out->task_queue = beat->task_queue;
    out->deployment_version = beat->deployment_version;
    out->sdk_name = beat->sdk_name;
    out->sdk_version = beat->sdk_version;
    out->status = beat->status;
    out->start_time = beat->start_time;
    if (beat->host_info) {
        out->host_name = beat->host_info->host_name;
        out->worker_grouping_key = beat->host_info->worker_grouping_key;
        out->process_id = beat->host_info->process_id;
    }
    out->n_plugins = beat->n_plugins;
    out->plugins = beat->plugins;
    out->n_drivers = beat->n_drivers;
    out->drivers = beat->drivers;
    return out;
}

static const tn_fault *list(tn_workers *workers, tn_mreq *req)
{
    const list_request *request = (const list_request *)req->request;
    tn_arena *arena = req->arena;
    tn_str token = {(const char *)request->next_page_token.data, request->next_page_token.len},
           after = {0};
    if (token.n && !tn_str_starts(token, TN_STR(TOKEN_PREFIX)))
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "invalid next_page_token");
    if (token.n)
        after = (tn_str){token.p + 2, token.n - 2};
    gathered g;
    const tn_fault *fault =
        gather(workers, req, request->query, request->include_system_workers, after, &g);
    if (fault)
        return fault;
    list_response *out = TN_NEW(arena, list_response);
    temporal__api__workflowservice__v1__list_workers_response__init(out);
    size_t n = request->page_size > 0 && (size_t)request->page_size < g.n
                   ? (size_t)request->page_size
                   : g.n;
    out->workers_info = TN_NEW_ARRAY(arena, worker_info *, n + 1);
    out->workers = TN_NEW_ARRAY(arena, worker_list_info *, n + 1);
    for (size_t i = 0; i < n; i++) {
        out->workers_info[i] = info_of(arena, g.found[i]);
        out->workers[i] = list_info_of(arena, g.found[i]);
    }
    out->n_workers_info = out->n_workers = n;
    if (n < g.n) {
        char *next = tn_arena_printf(arena, TOKEN_PREFIX "%s", g.found[n - 1]->worker_instance_key);
        out->next_page_token = (ProtobufCBinaryData){strlen(next), (uint8_t *)next};
    }
    free(g.found);
    req->response = &out->base;
    return NULL;
}

static const tn_fault *count(tn_workers *workers, tn_mreq *req)
{
    const Temporal__Api__Workflowservice__V1__CountWorkersRequest *request =
        (const void *)req->request;
    gathered g;
    const tn_fault *fault =
        gather(workers, req, request->query, request->include_system_workers, (tn_str){0}, &g);
    if (fault)
        return fault;
    Temporal__Api__Workflowservice__V1__CountWorkersResponse *out =
        TN_NEW(req->arena, Temporal__Api__Workflowservice__V1__CountWorkersResponse);
    temporal__api__workflowservice__v1__count_workers_response__init(out);
    out->count = (int64_t)g.n;
    free(g.found);
    req->response = &out->base;
    return NULL;
}

static const tn_fault *describe(const tn_workers *workers, tn_mreq *req)
{
    const Temporal__Api__Workflowservice__V1__DescribeWorkerRequest *request =
        (const void *)req->request;
    const worker *w = find(workers, req->ns, request->worker_instance_key);
    heartbeat *beat = w ? unpack(req->arena, w) : NULL;
    if (!beat)
        return tn_fault_make(req->arena, TN_GRPC_NOT_FOUND, "Worker %s not found",
                             request->worker_instance_key);
    Temporal__Api__Workflowservice__V1__DescribeWorkerResponse *out =
        TN_NEW(req->arena, Temporal__Api__Workflowservice__V1__DescribeWorkerResponse);
    temporal__api__workflowservice__v1__describe_worker_response__init(out);
    out->worker_info = info_of(req->arena, beat);
    req->response = &out->base;
    return NULL;
}

void tn_workers_serve(tn_workers *workers, tn_mreq *req)
{
    tn_arena_set_limit(req->arena, 0);
    if (req->op == TN_MOP_WORKER_HEARTBEAT) {
        const Temporal__Api__Workflowservice__V1__RecordWorkerHeartbeatRequest *request =
            (const void *)req->request;
        for (size_t i = 0; i < request->n_worker_heartbeat; i++)
            record(workers, req, request->worker_heartbeat[i]);
    } else if (req->op == TN_MOP_LIST_WORKERS) {
        req->fault = list(workers, req);
    } else if (req->op == TN_MOP_COUNT_WORKERS) {
        req->fault = count(workers, req);
    } else {
        req->fault = describe(workers, req);
    }
    tn_client_matching_done(req);
}
