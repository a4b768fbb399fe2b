/* SPDX-License-Identifier: MIT */
/* What matching counts, under the names that dashboards know, and its numbers from dynamic config.  A queue holds its
 * series from its making on; all sticky queues of a namespace share one set. */
#include "matching/priv.h"

static const char *type_name(uint32_t type)
{
    return type == TN_TASK_ACTIVITY ? "Activity" : "Workflow";
}

void tn_tq_hold_series(tn_tq *tq)
{
    tn_str queue = tq->sticky ? TN_STR("__sticky__") : tq->base;
    const tn_label labels[] = {
        TN_LABEL("namespace", tq->ns->name),
        TN_LABEL_Z("task_type", type_name(tq->type)),
        TN_LABEL_Z("service_name", "matching"),
        TN_LABEL("taskqueue", queue),
    };
    size_t n = TN_COUNT_OF(labels), few = n - 1;
    tq->polls_won = tn_metrics_counter("poll_success", "polls that got a task", labels, n);
    tq->polls_won_sync = tn_metrics_counter("poll_success_sync",
                                            "polls that waited when their task came", labels, n);
    tq->polls_timed_out =
        tn_metrics_counter("poll_timeouts", "polls that got nothing in time", labels, n);
    tq->backlog_series =
        tn_metrics_gauge("approximate_backlog_count", "tasks that wait in memory", labels, n);
    tq->sync_latency =
        tn_metrics_histogram("syncmatch_latency", "seconds a task waited whose poll was there",
                             TN_BUCKETS_SECONDS, labels, few);
    tq->async_latency = tn_metrics_histogram(
        "asyncmatch_latency", "seconds a task waited for a poll", TN_BUCKETS_SECONDS, labels, few);
}

void tn_tq_count_match(tn_tq *tq, const tn_wtask *task, bool sync)
{
    uint64_t now = tn_now_mono_ns(), since = task->ref.created_mono_ns;
    if (since && since <= now)
        tn_histogram_observe_ns(sync ? tq->sync_latency : tq->async_latency, now - since);
}

uint64_t tn_tq_number(const tn_tq *tq, tn_dyn_key key)
{
    int64_t value = tn_dyn_task_i64(key, tq->ns->name, tq->base, (int32_t)tq->type);
    return value > 0 ? (uint64_t)value : 0;
}
