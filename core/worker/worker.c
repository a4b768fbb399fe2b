/* SPDX-License-Identifier: MIT */
/* Retention.  Each loop has a queue of runs to retire and works it off at its share of the configured rate, one
 * deletion after another; a run is in the queue once. */
#include "worker/worker.h"

#include <stdlib.h>

#include "config/dynconfig.h"
#include "metrics/metrics.h"

#define WAITING_MAX 4096u /* of one loop; what does not fit is found again by its shard */

typedef struct wloop {
    tn_loop *loop;
    tn_list waiting; /* retirement.link */
    tn_map known;    /* waiting or under way, by run id */
    tn_loop_timer timer;
    uint64_t next_ns; /* the next deletion may leave from here */
    bool stopping;
} wloop;

typedef struct retirement {
    tn_list link;
    tn_map_link by_run;
    wloop *wl;
    tn_hreq req;
} retirement;

static wloop *wloops;
static tn_counter *retired_total, *failed_total;

static void forget(retirement *r)
{
    tn_map_remove(&r->wl->known, &r->by_run);
    tn_namespace_unref(r->req.ns);
    tn_arena_destroy(r->req.arena);
}

static uint64_t step_ns(void)
{
    int64_t rate = tn_dyn_i64(TN_DYN_WORKER_RETENTION_RPS, (tn_str){NULL, 0}, (tn_str){NULL, 0});
    return TN_SEC * tn_loops_count() / (rate > 0 ? (uint64_t)rate : 1);
}

static void pump(wloop *wl);

static void retired(tn_hreq *req)
{
    retirement *r = TN_CONTAINER_OF(req, retirement, req);
    wloop *wl = r->wl;
    bool gone = !req->fault || req->fault->code == TN_GRPC_NOT_FOUND;
    tn_counter_inc(gone ? retired_total : failed_total);
    if (!gone)
        TN_LOG(TN_LOG_WARN, "worker", "a closed run could not be deleted, its shard will ask again",
               TN_LOG_S("workflow_id", req->workflow_id), TN_LOG_S("why", req->fault->message));
    forget(r);
    pump(wl);
}

static void pump(wloop *wl)
{
    uint64_t now = tn_now_mono_ns();
    while (!tn_list_empty(&wl->waiting) && !wl->stopping) {
        if (wl->next_ns > now) {
            tn_loop_timer_start(&wl->timer, wl->next_ns);
            return;
        }
        wl->next_ns = (wl->next_ns + TN_SEC > now ? wl->next_ns : now) + step_ns();
        retirement *r = TN_CONTAINER_OF(tn_list_pop_front(&wl->waiting), retirement, link);
        tn_client_history(&r->req);
    }
}

static void timer_fired(tn_loop_timer *timer) { pump(TN_CONTAINER_OF(timer, wloop, timer)); }

static void retire(const tn_namespace *ns, tn_str workflow_id, tn_str run_id)
{
    wloop *wl = &wloops[tn_loop_index(tn_loop_current())];
    if (wl->stopping || wl->known.count >= WAITING_MAX ||
        tn_map_find(&wl->known, tn_blob_of_str(run_id)))
        return;
    tn_arena *arena = tn_arena_create(0);
    retirement *r = TN_NEW(arena, retirement);
    r->wl = wl;
    r->req = (tn_hreq){.arena = arena,
                       .home = wl->loop,
                       .op = TN_HOP_DELETE_RUN,
                       .ns = tn_namespace_ref(ns),
                       .workflow_id = tn_arena_str(arena, workflow_id),
                       .run_id = tn_arena_str(arena, run_id),
                       .deadline_mono_ns = UINT64_MAX,
                       .done = retired};
    tn_map_insert(&wl->known, &r->by_run, tn_blob_of_str(r->req.run_id));
    tn_list_push_back(&wl->waiting, &r->link);
    pump(wl);
}

void tn_worker_start(void)
{
    retired_total = tn_metrics_counter("tenon_retention_deleted",
                                       "closed runs deleted after their retention", NULL, 0);
    failed_total =
        tn_metrics_counter("tenon_retention_failed", "deletions that will be tried again", NULL, 0);
    wloops = tn_xcalloc(tn_loops_count(), sizeof(*wloops));
    for (uint32_t i = 0; i < tn_loops_count(); i++) {
        wloops[i].loop = tn_loops_get(i);
        tn_list_init(&wloops[i].waiting);
        tn_map_init(&wloops[i].known);
        tn_loop_timer_init(&wloops[i].timer, timer_fired);
    }
}

const tn_worker_role *tn_worker_role_table(void)
{
    static const tn_worker_role role = {.retire = retire};
    return &role;
}

static void loop_stop(void *arg)
{
    wloop *wl = arg;
    wl->stopping = true;
    tn_loop_timer_stop(&wl->timer);
    while (!tn_list_empty(&wl->waiting))
        forget(TN_CONTAINER_OF(tn_list_pop_front(&wl->waiting), retirement, link));
}

void tn_worker_stop(void)
{
    for (uint32_t i = 0; wloops && i < tn_loops_count(); i++)
        tn_loop_call(wloops[i].loop, loop_stop, &wloops[i]);
}
