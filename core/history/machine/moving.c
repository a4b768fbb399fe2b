/* SPDX-License-Identifier: MIT */
/* A run moves from one version of its workers to another: what waits is offered anew, and an activity may be what says
 * that it is time. */
#include "history/machine/machine.h"

#include "history/machine/priv.h"

void tn_ms_offer_again(tn_ms *ms, bool workflow_task)
{
    TN_LIST_FOREACH (link, &ms->activities) {
        tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);

        if (!activity->started_ns)
            activity->dispatched = false;
    }
    if (workflow_task && ms->wft.scheduled_id && !ms->wft.started_id) {
        ms->wft.dispatched = false;
        ms->wft.sticky = false;
    }
}

/* The run's workflow tasks go to that worker's version by now, or the worker's queue has heard of the change before theirs. */
static bool leads_the_way(const tn_poller *poller)
{
    return tn_dver_eq(poller->version, poller->target) ||
           (tn_str_eq(poller->version.deployment, poller->target.deployment) &&
            poller->version_revision > poller->target_revision);
}

bool tn_tx_activity_may_start(tn_tx *tx, const tn_poller *poller)
{
    tn_ms *ms = tx->ms;

    if (!ms->versioning && !tn_dver_is(poller->version))
        return true;
    if (tn_ms_in_transition(ms))
        return false;
    if (tn_dver_eq(poller->version, tn_ms_version(ms)) ||
        tn_ms_behavior(ms) == TN_BEHAVIOR_PINNED || !leads_the_way(poller))
        return true;
    if (!tn_versioning_transit(ms, poller->version, poller->version_revision))
        return true;
    tn_ms_offer_again(ms, true);
    tx->extras_dirty = true;
    tn_tx_schedule_wft(tx);
    return false;
}
