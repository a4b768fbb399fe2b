/* SPDX-License-Identifier: MIT */
/* The matching role's entry: requests by operation, start and end. */
#include "matching/matching.h"

#include <stdlib.h>

#include "matching/priv.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

static tn_mloop *mloops;
static char *host_name;

bool tn_matching_is_here(void) { return mloops != NULL; }
tn_mloop *tn_mloop_current(void) { return &mloops[tn_loop_index(tn_loop_current())]; }
const char *tn_matching_host_name(void) { return host_name; }

/* The worker is gone: its sticky queue has no one, its parked polls end. */
static void shutdown_worker(tn_mloop *ml, tn_mreq *req)
{
    tn_tq *tq = tn_tq_find(ml, req->ns, req->queue, TN_TASK_WORKFLOW);
    if (tq) {
        tq->last_poll_mono_ns = 0;
        tn_match_end_polls(tq);
        TN_LIST_FOREACH_SAFE (link, &tq->queries) {
            tn_wquery *query = TN_CONTAINER_OF(link, tn_wquery, link);
            tn_query_refuse(query, tn_fault_make(query->mreq->arena, TN_GRPC_FAILED_PRECONDITION,
                                                 "the worker has shut down"));
        }
    }
    tn_client_matching_done(req);
}

static void submit(tn_mreq *req)
{
    tn_mloop *ml = tn_mloop_current();
    switch (req->op) {
    case TN_MOP_ADD:
        tn_match_add(ml, req);
        break;
    case TN_MOP_POLL:
        tn_match_poll(ml, req);
        break;
    case TN_MOP_CANCEL_POLL:
        tn_match_cancel_poll(ml, req);
        break;
    case TN_MOP_QUERY:
        tn_match_query(ml, req);
        break;
    case TN_MOP_QUERY_DONE:
        tn_match_query_done(ml, req);
        break;
    case TN_MOP_DESCRIBE:
        tn_match_describe(ml, req);
        break;
    case TN_MOP_PARTITIONS:
        tn_match_partitions(ml, req);
        break;
    case TN_MOP_SHUTDOWN_WORKER:
        shutdown_worker(ml, req);
        break;
    case TN_MOP_UPDATE_CONFIG:
        tn_match_update_config(ml, req);
        break;
    case TN_MOP_CONFIG_CHANGED:
        tn_match_config_changed(ml, req);
        break;
    case TN_MOP_CANCEL_WORKER_POLLS:
        tn_match_cancel_worker(ml, req);
        break;
    case TN_MOP_WORKER_HEARTBEAT:
    case TN_MOP_LIST_WORKERS:
    case TN_MOP_COUNT_WORKERS:
    case TN_MOP_DESCRIBE_WORKER:
        tn_workers_serve(&ml->workers, req);
        break;
    case TN_MOP_NEXUS:
        tn_match_nexus(ml, req);
        break;
    case TN_MOP_NEXUS_DONE:
        tn_match_nexus_done(ml, req);
        break;
    case TN_MOP_ADMIN:
        tn_match_admin(ml, req);
        break;
    }
}

static void swept(tn_loop_timer *timer) { tn_tq_sweep(TN_CONTAINER_OF(timer, tn_mloop, sweep)); }

void tn_matching_start(const char *host)
{
    host_name = tn_xstrdup(host ? host : "localhost");
    mloops = tn_xcalloc(tn_loops_count(), sizeof(*mloops));
    tn_deployments_watch(tn_versions_changed);
    for (uint32_t i = 0; i < tn_loops_count(); i++) {
        mloops[i].loop = tn_loops_get(i);
        /* Ids of queries of one loop never meet another loop's, nor those of a process before. */
        tn_random_bytes(&mloops[i].next_query_id, sizeof(mloops[i].next_query_id));
        mloops[i].next_query_id &= UINT64_C(0x7fffffffffffffff);
        tn_map_init(&mloops[i].queues);
        tn_map_init(&mloops[i].queries);
        tn_map_init(&mloops[i].polls);
        tn_workers_init(&mloops[i].workers);
        tn_list_init(&mloops[i].gone);
        tn_list_init(&mloops[i].moved);
        tn_loop_timer_init(&mloops[i].sweep, swept);
    }
}

const tn_matching_role *tn_matching_role_table(void)
{
    static const tn_matching_role role = {.submit = submit, .end_polls = tn_match_end_polls_of};
    return &role;
}

static void stop_queue(void *user, tn_map_link *link)
{
    (void)user;
    tn_tq *tq = TN_CONTAINER_OF(link, tn_tq, link);
    tn_match_end_polls(tq);
    TN_LIST_FOREACH_SAFE (one, &tq->queries) {
        tn_wquery *query = TN_CONTAINER_OF(one, tn_wquery, link);
        tn_query_refuse(query, tn_fault_make(query->mreq->arena, TN_GRPC_UNAVAILABLE,
                                             "the server is stopping"));
    }
    tn_tq_config_stop(tq);
}

static void loop_stop(void *arg)
{
    tn_mloop *ml = arg;
    ml->stopping = true;
    tn_loop_timer_stop(&ml->sweep);
    tn_workers_done(&ml->workers);
    tn_gone_workers_done(ml);
    tn_map_each(&ml->queues, stop_queue, NULL);
    tn_direct_end_all(ml);
    tn_moved_stop(ml);
}

static void let_go(void *user, tn_map_link *link)
{
    bool any;
    tn_tq *tq = TN_CONTAINER_OF(link, tn_tq, link);
    (void)user;
    if (!tn_client_queue_owner(tq->ns->id, tn_str_from(tq->name), &any))
        return;
    tq->lost = true;
    tn_match_end_polls(tq);
    TN_LIST_FOREACH_SAFE (one, &tq->queries)
        tn_query_send_on(TN_CONTAINER_OF(one, tn_wquery, link));
    for (tn_wtask *task; (task = tn_backlog_pop(&tq->backlog));) {
        tn_gauge_add(tq->backlog_series, -1);
        if (!tn_moved_send_on(tq, task))
            tn_backlog_task_free(task);
    }
}

void tn_matching_members_changed(void)
{
    if (!mloops)
        return;
    tn_map_each(&tn_mloop_current()->queues, let_go, NULL);
    tn_queries_send_on_lost(tn_mloop_current());
}

void tn_matching_stop(void)
{
    for (uint32_t i = 0; mloops && i < tn_loops_count(); i++)
        tn_loop_call(mloops[i].loop, loop_stop, &mloops[i]);
}
