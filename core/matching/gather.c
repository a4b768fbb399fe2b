/* SPDX-License-Identifier: MIT */
/* What DescribeTaskQueue says of a queue in several partitions: the root asks the others and adds up.  One that does not
 * answer is left out. */
#include "client/partition.h"
#include "matching/priv.h"
#include "proto/proto.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

typedef Temporal__Api__Workflowservice__V1__DescribeTaskQueueResponse describe_response;
typedef Temporal__Api__Workflowservice__V1__DescribeTaskQueueResponse__StatsByPriorityKeyEntry
    priority_entry;
typedef Temporal__Api__Taskqueue__V1__PollerInfo poller_info;
typedef Temporal__Api__Taskqueue__V1__TaskQueueStats stats_info;
typedef Temporal__Api__Taskqueue__V1__TaskQueueVersionInfo version_info;

typedef struct gathering {
    tn_mreq *req; /* the root's, its own answer is in it */
    uint32_t waiting;
} gathering;

static int64_t ns_of(const Google__Protobuf__Timestamp *at)
{
    int64_t ns = 0;
    return tn_ns_from_ts(at, &ns) ? ns : 0;
}

static void add_pollers(tn_arena *arena, size_t *n, poller_info ***list, size_t n_more,
                        poller_info *const *more)
{
    if (!n_more)
        return;
    poller_info **out = TN_NEW_ARRAY(arena, poller_info *, *n + n_more);
    if (*n)
        memcpy(out, *list, *n * sizeof(out[0]));
    *list = out;
    for (size_t i = 0; i < n_more; i++) {
        size_t at = 0;
        while (at < *n && strcmp(out[at]->identity, more[i]->identity) != 0)
            at++;
        if (at < *n && ns_of(out[at]->last_access_time) >= ns_of(more[i]->last_access_time))
            continue;
        out[at] = (poller_info *)(void *)tn_proto_copy(&more[i]->base, arena);
        *n += at == *n;
    }
}

static void add_stats(tn_arena *arena, stats_info *to, const stats_info *more)
{
    int64_t age = 0, other = 0;
    if (!to || !more)
        return;
    to->approximate_backlog_count += more->approximate_backlog_count;
    to->tasks_add_rate += more->tasks_add_rate;
    to->tasks_dispatch_rate += more->tasks_dispatch_rate;
    to->rate_limiting_active |= more->rate_limiting_active;
    if (tn_ns_from_duration(to->approximate_backlog_age, &age) &&
        tn_ns_from_duration(more->approximate_backlog_age, &other))
        to->approximate_backlog_age = tn_duration_from_ns(arena, age > other ? age : other);
}

static void add_priorities(tn_arena *arena, describe_response *to, const describe_response *more)
{
    size_t n = to->n_stats_by_priority_key, n_more = more->n_stats_by_priority_key;
    if (!n_more)
        return;
    priority_entry **out = TN_NEW_ARRAY(arena, priority_entry *, n + n_more);
    if (n)
        memcpy(out, to->stats_by_priority_key, n * sizeof(out[0]));
    for (size_t i = 0; i < n_more; i++) {
        const priority_entry *one = more->stats_by_priority_key[i];
        size_t at = 0;
        while (at < n && out[at]->key != one->key)
            at++;
        if (at < n)
            add_stats(arena, out[at]->value, one->value);
        else
            out[n++] = (priority_entry *)(void *)tn_proto_copy(&one->base, arena);
    }
    to->stats_by_priority_key = out;
    to->n_stats_by_priority_key = n;
}

static void add_types(tn_arena *arena, version_info *to, const version_info *more)
{
    for (size_t i = 0; i < to->n_types_info; i++) {
        for (size_t j = 0; j < more->n_types_info; j++) {
            Temporal__Api__Taskqueue__V1__TaskQueueTypeInfo *a = to->types_info[i]->value,
                                                            *b = more->types_info[j]->value;
            if (to->types_info[i]->key != more->types_info[j]->key || !a || !b)
                continue;
            add_pollers(arena, &a->n_pollers, &a->pollers, b->n_pollers, b->pollers);
            add_stats(arena, a->stats, b->stats);
        }
    }
}

static void add(tn_arena *arena, describe_response *to, const describe_response *more)
{
    add_pollers(arena, &to->n_pollers, &to->pollers, more->n_pollers, more->pollers);
    if (to->task_queue_status && more->task_queue_status) {
        to->task_queue_status->backlog_count_hint += more->task_queue_status->backlog_count_hint;
    }
    add_stats(arena, to->stats, more->stats);
    add_priorities(arena, to, more);
    for (size_t i = 0; i < to->n_versions_info && i < more->n_versions_info;
         i++) /* of one request: in one order */
        if (to->versions_info[i]->value && more->versions_info[i]->value)
            add_types(arena, to->versions_info[i]->value, more->versions_info[i]->value);
}

static void one_less(gathering *g)
{
    if (--g->waiting == 0)
        tn_client_matching_done(g->req);
}

static void part_told(tn_mreq *part)
{
    gathering *g = part->user;
    if (!part->fault && part->response)
        add(g->req->arena, (describe_response *)(void *)g->req->response,
            (const describe_response *)(const void *)part->response);
    tn_namespace_unref(part->ns);
    tn_arena_destroy(part->arena);
    one_less(g);
}

void tn_match_gather(tn_mloop *ml, tn_mreq *req, uint32_t partitions)
{
    gathering *g = TN_NEW(req->arena, gathering);
    *g = (gathering){.req = req, .waiting = 1};
    for (uint32_t i = 1; i < partitions; i++) {
        tn_arena *arena = tn_arena_create(0);
        tn_mreq *part = TN_NEW(arena, tn_mreq);
        *part = (tn_mreq){.arena = arena,
                          .home = ml->loop,
                          .op = TN_MOP_DESCRIBE,
                          .ns = tn_namespace_ref(req->ns),
                          .queue = tn_partition_name(arena, req->queue, i),
                          .type = req->type,
                          .request = tn_proto_copy(req->request, arena), /* read on another loop */
                          .deadline_mono_ns = req->deadline_mono_ns,
                          .forwarded = true,
                          .done = part_told,
                          .user = g};
        g->waiting++;
        tn_client_matching(part);
    }
    one_less(g);
}
