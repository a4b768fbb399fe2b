/* SPDX-License-Identifier: MIT */
/* What a reset leaves in the states of the runs that it was about.  The new run's history begins with that of its base
 * run, whose times it keeps; but it counts its time-outs, and those of activities that it found waiting, from the
 * reset on.  No event says so: it is an extra. */
#include "history/machine/machine.h"

#include "history/machine/priv.h"

static char *out_text(char *s)
{
    static char none[1];

    return s ? s : none;
}

void tn_reset_save(const tn_ms *ms, tn_arena *arena, Tenon__Extras *to)
{
    to->reset_run_id = out_text(ms->reset_run_id);
    to->n_ended_updates = ms->n_ended_updates;
    to->ended_updates = ms->ended_updates;
    if (!ms->reset.base_run_id)
        return;
    to->reset = TN_MSG(arena, tenon__reset_origin);
    to->reset->base_run_id = ms->reset.base_run_id;
    to->reset->base_event_id = ms->reset.base_event_id;
    to->reset->at_ns = ms->reset.at_ns;
    to->reset->request_id = out_text(ms->reset.request_id);
}

void tn_reset_load(tn_ms *ms, const Tenon__Extras *from)
{
    tn_ms_replace_str(ms, &ms->reset_run_id, tn_str_from(from->reset_run_id));
    for (size_t i = 0; i < from->n_ended_updates; i++)
        tn_update_note_ended(ms, tn_str_from(from->ended_updates[i]));
    if (!from->reset)
        return;
    tn_ms_replace_str(ms, &ms->reset.base_run_id, tn_str_from(from->reset->base_run_id));
    tn_ms_replace_str(ms, &ms->reset.request_id, tn_str_from(from->reset->request_id));
    ms->reset.base_event_id = from->reset->base_event_id;
    ms->reset.at_ns = from->reset->at_ns;
    tn_reset_rebase(ms);
}

void tn_reset_rebase(tn_ms *ms)
{
    if (!ms->reset.base_run_id)
        return;
    if (ms->execution_timeout_ns)
        ms->execution_expire_ns = ms->reset.at_ns + ms->execution_timeout_ns;
    if (ms->run_timeout_ns)
        ms->run_expire_ns = ms->reset.at_ns + ms->run_timeout_ns;
    if (ms->run_timeout_ns && ms->execution_expire_ns &&
        ms->run_expire_ns > ms->execution_expire_ns)
        ms->run_expire_ns = ms->execution_expire_ns;
}

void tn_reset_reschedule(const tn_ms *ms, tn_activity *activity)
{
    if (!ms->reset.base_run_id || activity->scheduled_id > ms->reset.base_event_id ||
        activity->started_id > 0)
        return;
    activity->attempt_scheduled_ns = activity->first_scheduled_ns = ms->reset.at_ns;
    if (activity->expire_ns)
        activity->expire_ns = ms->reset.at_ns + activity->schedule_to_close_ns;
}

uint64_t tn_ms_shown_start_ns(const tn_ms *ms)
{
    return ms->reset.base_run_id ? ms->reset.at_ns : ms->start_ns;
}
