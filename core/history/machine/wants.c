/* SPDX-License-Identifier: MIT */
/* What a run wants next: work for matching and other runs, and the time at which it wants to be
 * woken. Nothing of this is stored; it follows from the state. */
#include "history/machine/machine.h"

#include "history/machine/nexus.h"
#include "history/machine/object.h"
#include "history/machine/priv.h"

#define POLICY_ABANDON 2
/* Nobody has taken a speculative task: an ordinary one follows it. */
#define SPECULATIVE_TO_START_NS (5 * TN_SEC)

/* ---- children of a closed run ---------------------------------------------------------------- */

static bool wants_settling(const tn_child *child)
{
    return !child->settled && child->parent_close_policy != POLICY_ABANDON &&
           (child->started_id || child->run_id);
}

/* A child that its parent has not started before it closed is never born, whatever its parent
 * close policy. */
static bool wants_start(const tn_ms *ms, const tn_child *child)
{
    return tn_ms_running(ms) && !child->started_id && !child->run_id && !child->closing &&
           !child->started_buffered;
}

static bool wants_to_tell_parent_closed(const tn_ms *ms)
{
    return (ms->parent.workflow_id || ms->owner) && !ms->parent_told && !ms->new_run_id &&
           !ms->skip_close_policy;
}

/* ---- wants ----------------------------------------------------------------------------------- */

typedef void want_fn(void *user, tn_want want, void *item);

static void wants_of_closed(tn_ms *ms, uint64_t now_ns, want_fn *each, void *user)
{
    tn_callback_wants(ms, now_ns, each, user);
    if (wants_to_tell_parent_closed(ms) && !ms->parent_dispatched)
        each(user, TN_WANT_TELL_PARENT_CLOSED, NULL);
    if (ms->children_settled || ms->skip_close_policy)
        return;
    TN_LIST_FOREACH_SAFE (link, &ms->children) {
        tn_child *child = TN_CONTAINER_OF(link, tn_child, link);

        if (child->dispatched)
            continue;
        if (wants_settling(child))
            each(user, TN_WANT_SETTLE_CHILD, child);
        else if (wants_start(ms, child))
            each(user, TN_WANT_CHILD_START, child);
    }
}

void tn_ms_wants(tn_ms *ms, uint64_t now_ns, want_fn *each, void *user)
{
    if (!ms->started.n)
        return;
    if (!tn_ms_running(ms)) {
        wants_of_closed(ms, now_ns, each, user);
        return;
    }
    if (ms->kind && ms->kind->wants)
        ms->kind->wants(ms, now_ns, each, user);
    if (ms->held && ms->parent.workflow_id && !ms->parent_dispatched)
        each(user, TN_WANT_TELL_PARENT_STARTED, NULL);
    if (tn_ms_wft_pending(ms) && !tn_ms_wft_started(ms) && !ms->wft.dispatched)
        each(user, TN_WANT_WFT, NULL);
    TN_LIST_FOREACH_SAFE (link, &ms->activities) {
        tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);

        if (!activity->closing && !activity->started_ns && !activity->dispatched &&
            !tn_activity_held(ms, activity) && activity->attempt_scheduled_ns <= now_ns)
            each(user, TN_WANT_ACTIVITY, activity);
    }
    TN_LIST_FOREACH_SAFE (link, &ms->children) {
        tn_child *child = TN_CONTAINER_OF(link, tn_child, link);

        if (!child->dispatched && wants_start(ms, child))
            each(user, TN_WANT_CHILD_START, child);
    }
    TN_LIST_FOREACH_SAFE (link, &ms->externals) {
        tn_external *external = TN_CONTAINER_OF(link, tn_external, link);

        if (!external->closing && !external->dispatched)
            each(user, external->is_signal ? TN_WANT_SIGNAL : TN_WANT_CANCEL, external);
    }
    tn_nexus_wants(ms, now_ns, each, user);
}

/* ---- time ------------------------------------------------------------------------------------ */

static uint64_t sooner(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t or_never(uint64_t at_ns) { return at_ns ? at_ns : UINT64_MAX; }

bool tn_ms_backoff_pending(const tn_ms *ms)
{
    return ms->first_wft_backoff_until_ns && !tn_ms_wft_pending(ms) &&
           !ms->last_completed_started_id;
}

uint64_t tn_ms_wft_deadline_ns(const tn_ms *ms)
{
    const tn_wft *wft = &ms->wft;

    if (!wft->scheduled_id)
        return UINT64_MAX;
    if (wft->started_id)
        return wft->started_ns + wft->timeout_ns;
    if (wft->scheduled_sticky && ms->sticky_timeout_ns)
        return wft->scheduled_ns + ms->sticky_timeout_ns;
    if (wft->speculative)
        return wft->scheduled_ns + SPECULATIVE_TO_START_NS;
    return UINT64_MAX;
}

/* Deadlines of the run itself: time-outs, backoff, timers. */
static uint64_t own_deadline_ns(const tn_ms *ms)
{
    uint64_t at = sooner(or_never(ms->run_expire_ns), or_never(ms->execution_expire_ns));

    if (tn_ms_backoff_pending(ms) && !ms->held && ms->status != TN_STATUS_PAUSED)
        at = sooner(at, ms->first_wft_backoff_until_ns);
    TN_LIST_FOREACH (link, &ms->timers) {
        const tn_timer_info *timer = TN_CONTAINER_OF(link, tn_timer_info, link);

        if (!timer->closing)
            at = sooner(at, timer->fire_ns);
    }
    return at;
}

uint64_t tn_ms_deadline_ns(const tn_ms *ms)
{
    uint64_t at;
    int32_t type;

    if (!ms->started.n)
        return UINT64_MAX;
    if (!tn_ms_running(ms))
        return tn_callbacks_wake_ns(ms, true);
    at = sooner(own_deadline_ns(ms), tn_ms_wft_deadline_ns(ms));
    if (ms->kind)
        at = sooner(at, ms->kind->deadline_ns(ms));
    at = sooner(at, tn_nexus_deadline_ns(ms));
    TN_LIST_FOREACH (link, &ms->activities) {
        const tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);

        if (activity->closing)
            continue;
        at = sooner(at, tn_activity_deadline_ns(activity, &type));
        if (!activity->started_ns && !activity->dispatched && !tn_activity_held(ms, activity))
            at = sooner(at, activity->attempt_scheduled_ns); /* the retry goes out */
    }
    return at;
}

static uint64_t wake_of_closed(const tn_ms *ms)
{
    if (wants_to_tell_parent_closed(ms))
        return 0;
    if (!ms->children_settled && !ms->skip_close_policy)
        TN_LIST_FOREACH (link, &ms->children) {
            const tn_child *child = TN_CONTAINER_OF(link, tn_child, link);

            if (wants_settling(child) || wants_start(ms, child))
                return 0;
        }
    return sooner(or_never(ms->retention_due_ns), tn_callbacks_wake_ns(ms, false));
}

static bool tells_or_asks_others(const tn_ms *ms)
{
    if (ms->held && ms->parent.workflow_id)
        return true;
    TN_LIST_FOREACH (link, &ms->children)
        if (wants_start(ms, TN_CONTAINER_OF(link, tn_child, link)))
            return true;
    TN_LIST_FOREACH (link, &ms->externals)
        if (!TN_CONTAINER_OF(link, tn_external, link)->closing)
            return true;
    return false;
}

uint64_t tn_ms_wake_ns(const tn_ms *ms)
{
    const tn_wft *wft = &ms->wft;
    uint64_t at;
    int32_t type;

    if (!ms->started.n)
        return UINT64_MAX;
    if (!tn_ms_running(ms))
        return wake_of_closed(ms);
    if (wft->scheduled_id && (!wft->started_id || !wft->started_durable))
        return 0;
    if (tells_or_asks_others(ms))
        return 0;
    at = sooner(own_deadline_ns(ms), tn_ms_wft_deadline_ns(ms));
    if (ms->kind)
        at = sooner(at, tn_object_wake_ns(ms));
    at = sooner(at, tn_nexus_wake_ns(ms));
    TN_LIST_FOREACH (link, &ms->activities) {
        const tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);

        if (activity->closing)
            continue;
        if (activity->started_ns && !activity->started_durable)
            return 0;
        at = sooner(at, tn_activity_deadline_ns(activity, &type));
        if (!activity->started_ns && !tn_activity_held(ms, activity))
            at = sooner(at, activity->attempt_scheduled_ns);
    }
    return at;
}
