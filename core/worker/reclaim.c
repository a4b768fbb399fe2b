/* SPDX-License-Identifier: MIT */
/* Deleted namespaces: first their runs go, shard by shard, then the namespace's record.  The record with its state is
 * all there is to remember, so that any worker can go on after a crash; among several workers the ring says who. */
#include <stdlib.h>

#include "config/dynconfig.h"
#include "deployment/deployment.h"
#include "store/store.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"
#include "worker/worker.h"

#define LOOK_AGAIN_NS \
    (5 * TN_SEC)              /* another worker's, which may die; or what could not be done now */
#define SOON_NS (100 * TN_MS) /* deletions take their time */
#define SWEEP_NS (60 * TN_SEC)

static struct { /* loop 0 */
    tn_loop_timer timer;
    tn_namespace_list_watch watch;
    const tn_namespace *ns; /* +1; NULL: none under way */
    uint32_t shard;         /* that is being swept */
    uint64_t map;           /* whose shards they are */
    bool found, waited, in_flight, stopping;
    tn_arena *arena; /* of the request or write in flight */
    tn_hreq req;
    tn_namespace_write write;
    tn_store_op store;
    tn_deployment_change forget;
} job;

static void set_alarm(uint64_t delay_ns)
{
    if (!job.stopping)
        tn_loop_timer_start(&job.timer, tn_now_mono_ns() + delay_ns);
}

static void let_go(void)
{
    tn_namespace_unref(job.ns);
    job.ns = NULL;
}

/* The first namespace of this worker's to be reclaimed; *out_others: there are others', which may become this one's. */
static const tn_namespace *choose(bool *out_others)
{
    const tn_namespace *mine = NULL;
    const tn_namespace_list *list = tn_namespace_list_acquire();
    *out_others = false;
    for (size_t i = 0; i < list->count && !mine; i++) {
        if (!list->items[i]->reclaim)
            continue;
        if (tn_client_worker_is_here(tn_blob_of_str(list->items[i]->id)))
            mine = tn_namespace_ref(list->items[i]);
        else
            *out_others = true;
    }
    tn_namespace_list_release(list);
    return mine;
}

/* ---- the record ---- */

static void removed(tn_namespace_write *write)
{
    if (write->fault)
        TN_LOG(TN_LOG_WARN, "worker",
               "a deleted namespace's record could not be removed, trying again",
               TN_LOG_S("namespace", job.ns->name), TN_LOG_S("why", write->fault->message));
    else
        TN_LOG(TN_LOG_INFO, "worker", "a deleted namespace is gone",
               TN_LOG_S("namespace", job.ns->name));
    job.in_flight = false;
    tn_arena_destroy(job.arena);
    let_go();
    set_alarm(write->fault ? LOOK_AGAIN_NS : 0);
}

static void remove_record(tn_store_op *op)
{
    if (op->status != TN_OK) {
        TN_LOG(TN_LOG_WARN, "worker",
               "a deleted namespace's settings of task queues could not be removed, trying again",
               TN_LOG_S("namespace", job.ns->name), TN_LOG_Z("why", op->error.text));
        job.in_flight = false;
        tn_arena_destroy(job.arena);
        let_go();
        set_alarm(LOOK_AGAIN_NS);
        return;
    }
    job.write = (tn_namespace_write){.arena = job.arena,
                                     .home = tn_loop_current(),
                                     .verb = TN_NS_REMOVE,
                                     .record = job.ns->record,
                                     .expect_version = job.ns->row_version,
                                     .done = removed};
    tn_namespace_submit(&job.write);
}

/* What operators have set for its task queues goes first: without the record nobody would look for it. */
static void remove_settings(void)
{
    tn_store_batch batch;
    job.arena = tn_arena_create(0);
    job.in_flight = true;
    tn_blob first = tn_store_row_current(job.arena, job.ns->id, TN_STR(""));
    uint8_t *end = tn_arena_alloc(job.arena, first.n);
    memcpy(end, first.p, first.n);
    for (size_t i = first.n;
         i-- && !++end[i];) /* the next id's: all names of this one are before it */
        ;
    tn_store_batch_init(&batch, job.arena);
    tn_store_batch_delete_range(
        &batch, tn_store_key(job.arena, TN_TABLE_TASKQUEUE, TN_PARTITION_CLUSTER, first),
        tn_blob_from(end, first.n));
    job.store = (tn_store_op){.arena = job.arena, .done = remove_record};
    job.store.u.commit.batch = tn_store_batch_finish(&batch);
    tn_store_commit(&job.store);
}

static void forget_deployments(void);

static void forgotten(tn_deployment_change *change)
{
    bool failed = change->fault != NULL;
    job.in_flight = false;
    tn_arena_destroy(job.arena);
    if (job.stopping)
        let_go();
    else if (failed)
        set_alarm(LOOK_AGAIN_NS); /* the shards are swept once more, too */
    else
        forget_deployments();
}

/* Its worker deployments, one by one, for the same reason; then the rest. */
static void forget_deployments(void)
{
    const tn_deployment *d;
    if (!tn_deployment_list(job.ns->id, TN_STR(""), 1, &d)) {
        remove_settings();
        return;
    }
    job.arena = tn_arena_create(0);
    job.in_flight = true;
    job.forget = (tn_deployment_change){.arena = job.arena,
                                        .home = tn_loop_current(),
                                        .verb = TN_DEPLOYMENT_FORGET,
                                        .ns_id = job.ns->id,
                                        .name = tn_arena_str(job.arena, tn_str_from(d->name)),
                                        .done = forgotten};
    tn_deployment_submit(&job.forget);
}

/* ---- the runs ---- */

/* All shards have been asked: again if one had something, since only a whole round without a find is proof. */
static void round_over(void)
{
    job.shard = 1;
    if (job.found) {
        job.found = false;
        set_alarm(SOON_NS);
    } else if (!job.waited && job.ns->delete_delay_ns) {
        job.waited = true;
        set_alarm(job.ns->delete_delay_ns);
    } else {
        forget_deployments();
    }
}

static void swept(tn_hreq *req)
{
    const Temporal__Api__Workflowservice__V1__CountWorkflowExecutionsResponse *out =
        (const Temporal__Api__Workflowservice__V1__CountWorkflowExecutionsResponse *)(const void *)
            req->response;
    uint64_t count = !req->fault && out ? (uint64_t)out->count : 0;
    int64_t rate = tn_dyn_i64(TN_DYN_FRONTEND_NS_DELETE_RPS, TN_STR(""), TN_STR(""));
    uint64_t pause = count * TN_SEC / (rate > 0 ? (uint64_t)rate : 1);
    bool failed = req->fault != NULL;
    job.in_flight = false;
    tn_arena_destroy(job.arena);
    if (job.stopping) {
        let_go();
        return;
    }
    if (count || failed) { /* the same shard again */
        job.found = true;
        set_alarm(failed ? TN_SEC : pause > SOON_NS ? pause : SOON_NS);
        return;
    }
    uint64_t map;
    if (++job.shard > tn_client_shard_map(&map) && map == job.map)
        round_over();
    else
        set_alarm(0);
}

static void sweep_shard(void)
{
    uint64_t map;
    (void)tn_client_shard_map(&map);
    if (map !=
        /* another number of shards: from the beginning, and once more before it counts as proof */
        job.map) {
        job.map = map;
        job.shard = 1;
        job.found = true;
    }
    job.arena = tn_arena_create(0);
    job.in_flight = true;
    job.req = (tn_hreq){.arena = job.arena,
                        .home = tn_loop_current(),
                        .op = TN_HOP_SWEEP,
                        .ns = job.ns,
                        .deadline_mono_ns = tn_now_mono_ns() + SWEEP_NS,
                        .done = swept};
    job.req.u.task.ref.shard = job.shard;
    job.req.u.task.ref.stamp = job.map;
    tn_client_history(&job.req);
}

static void go_on(tn_loop_timer *timer)
{
    bool others;
    (void)timer;
    if (job.in_flight || job.stopping)
        return;
    if (job.ns && !tn_client_worker_is_here(tn_blob_of_str(job.ns->id)))
        let_go();
    if (job.ns) {
        sweep_shard();
        return;
    }
    job.ns = choose(&others);
    job.shard = 1;
    job.found = job.waited = false;
    if (job.ns)
        sweep_shard();
    else if (others)
        set_alarm(LOOK_AGAIN_NS);
}

static void namespaces_changed(tn_namespace_list_watch *watch)
{
    (void)watch;
    if (!job.ns)
        set_alarm(0);
}

/* ---- start and stop ---- */

static void start_on_loop(void *arg)
{
    (void)arg;
    tn_loop_timer_init(&job.timer, go_on);
    job.stopping = false;
    job.watch.changed = namespaces_changed;
    tn_namespace_watch(&job.watch);
    set_alarm(0);
}

void tn_reclaim_start(void) { tn_loop_call(tn_loops_get(0), start_on_loop, NULL); }

static void stop_on_loop(void *arg)
{
    (void)arg;
    job.stopping = true;
    tn_namespace_watch(NULL);
    tn_loop_timer_stop(&job.timer);
    if (job.ns && !job.in_flight)
        let_go();
}

void tn_reclaim_stop(void) { tn_loop_call(tn_loops_get(0), stop_on_loop, NULL); }
