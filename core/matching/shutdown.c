/* SPDX-License-Identifier: MIT */
/* A worker shuts down: its polls end empty, in all partitions of its queue, so that it gets no task that it would not do
 * and need not wait for its polls to run out.  A poll of it that arrives late ends at once. */
#include <stdlib.h>

#include "client/partition.h"
#include "matching/priv.h"
#include "proto/proto.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

#define LATE_NS (70 * TN_SEC)
#define TELL_NS (2 * TN_SEC)

typedef Temporal__Api__Workflowservice__V1__ShutdownWorkerRequest shutdown_request;

struct tn_gone_worker {
    tn_list link; /* oldest first */
    uint64_t until_ns;
    char key[];
};

static const char *instance_of(const tn_mreq *req)
{
    if (!req->request)
        return "";
    if (req->type == TN_TASK_WORKFLOW)
        return ((const Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueRequest *)
                    req->request)
            ->worker_instance_key;
    if (req->type == TN_TASK_ACTIVITY)
        return ((const Temporal__Api__Workflowservice__V1__PollActivityTaskQueueRequest *)
                    req->request)
            ->worker_instance_key;
    return "";
}

static void forget_gone(tn_mloop *ml, uint64_t now)
{
    TN_LIST_FOREACH_SAFE (link, &ml->gone) {
        tn_gone_worker *gone = TN_CONTAINER_OF(link, tn_gone_worker, link);
        if (gone->until_ns > now && ml->n_gone <= TN_GONE_WORKERS_MAX)
            return;
        tn_list_remove(link);
        ml->n_gone--;
        free(gone);
    }
}

void tn_gone_workers_done(tn_mloop *ml) { forget_gone(ml, UINT64_MAX); }

bool tn_worker_is_gone(tn_mloop *ml, const tn_mreq *poll)
{
    if (!ml->n_gone)
        return false;
    forget_gone(ml, tn_now_mono_ns());
    const char *key = instance_of(poll);
    TN_LIST_FOREACH (link, &ml->gone)
        if (*key && strcmp(TN_CONTAINER_OF(link, tn_gone_worker, link)->key, key) == 0)
            return true;
    return false;
}

static void remember_gone(tn_mloop *ml, const char *key)
{
    size_t n = strlen(key);
    tn_gone_worker *gone = tn_xcalloc(1, sizeof(*gone) + n + 1);
    memcpy(gone->key, key, n);
    gone->until_ns = tn_now_mono_ns() + LATE_NS;
    tn_list_push_back(&ml->gone, &gone->link);
    ml->n_gone++;
    forget_gone(ml, tn_now_mono_ns());
}

static void end_soon(tn_wpoll *poll)
{
    if (poll->asked && !poll->ending) {
        poll->ending = true;
        tn_forward_cancel(poll);
    } else if (poll->parked) {
        tn_wpoll_finish(poll, NULL);
    } /* else it has a task by now, or will find itself gone */
}

static void end_if_its(void *user, tn_map_link *link)
{
    tn_wpoll *poll = TN_CONTAINER_OF(link, tn_wpoll, by_id);
    if (strcmp(instance_of(poll->mreq), user) == 0)
        end_soon(poll);
}

static void end_if_of(void *host_id, tn_map_link *link)
{
    tn_wpoll *poll = TN_CONTAINER_OF(link, tn_wpoll, by_id);
    if (poll->mreq->call && memcmp(poll->mreq->call->from_host, host_id, 16) == 0)
        end_soon(poll);
}

void tn_match_end_polls_of(const uint8_t host_id[16])
{
    tn_mloop *ml = tn_mloop_current();
    uint8_t host[16];
    memcpy(host, host_id, sizeof(host));
    if (!ml->stopping)
        tn_map_each(&ml->polls, end_if_of, host);
}

typedef struct telling {
    tn_mreq *req;
    unsigned waiting;
} telling;

static void told_one(telling *t)
{
    if (--t->waiting == 0)
        tn_client_matching_done(t->req);
}

static void partition_told(tn_mreq *m)
{
    telling *t = m->user;
    tn_namespace_unref(m->ns);
    tn_arena_destroy(m->arena);
    told_one(t);
}

static void tell_others(tn_mloop *ml, tn_mreq *req)
{
    telling *t = TN_NEW(req->arena, telling);
    *t = (telling){.req = req, .waiting = 1};
    uint32_t n = tn_partitions_read(req->ns->name, req->queue, TN_TASK_WORKFLOW);
    uint32_t activity = tn_partitions_read(req->ns->name, req->queue, TN_TASK_ACTIVITY);
    for (uint32_t i = 1; i < n || i < activity; i++) {
        tn_arena *arena = tn_arena_create(0);
        tn_mreq *m = TN_NEW(arena, tn_mreq);
        *m = (tn_mreq){.arena = arena,
                       .home = ml->loop,
                       .op = TN_MOP_CANCEL_WORKER_POLLS,
                       .ns = tn_namespace_ref(req->ns),
                       .queue = tn_partition_name(arena, req->queue, i),
                       .type = req->type,
                       .request = tn_proto_copy(req->request, arena), /* read on another loop */
                       .deadline_mono_ns = tn_now_mono_ns() + TELL_NS,
                       .forwarded = true,
                       .done = partition_told,
                       .user = t};
        t->waiting++;
        tn_client_matching(m);
    }
    told_one(t);
}

void tn_match_cancel_worker(tn_mloop *ml, tn_mreq *req)
{
    const shutdown_request *request = (const shutdown_request *)req->request;
    tn_arena_set_limit(req->arena, 0);
    if (!ml->stopping) {
        remember_gone(ml, request->worker_instance_key);
        tn_map_each(&ml->polls, end_if_its, request->worker_instance_key);
        for (uint32_t type = TN_TASK_WORKFLOW; type <= TN_TASK_ACTIVITY; type++) {
            tn_tq *tq = tn_tq_find(ml, req->ns, req->queue, type);
            if (!tq)
                continue;
            tn_tq_forget_poller(tq, tn_str_from(request->identity));
            TN_LIST_FOREACH (link, &tq->versions)
                tn_tq_forget_poller(TN_CONTAINER_OF(link, tn_tq, in_versions),
                                    tn_str_from(request->identity));
        }
    }
    if (req->forwarded)
        tn_client_matching_done(req);
    else
        tell_others(ml, req);
}
