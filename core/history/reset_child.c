/* SPDX-License-Identifier: MIT */
/* Children of a run that was reset: they go on under the run that the reset has made. */
#include "history/priv.h"

/* A child tells the run that started it; that run is closed, and a reset has made another that has the child now. */
bool tn_reset_redirect(tn_hreq *req, const tn_run *run)
{
    const char *to = run->ms->reset_run_id;
    if (tn_ms_running(run->ms) || !to || !*to)
        return false;
    req->run_id = tn_arena_str(req->arena, tn_str_from(to)); /* always a younger run: there is an end to it */
    return true;
}

/* The run in whose name the child is started: those that may have started it before come first. */
static const char *starter(const tn_ms *ms, const tn_child *child)
{
    const char *runs[2] = {ms->reset.base_run_id, ms->original_run_id};
    int n = ms->reset.base_run_id && child->initiated_id <= ms->reset.base_event_id ? 2 : 0;
    if (n && strcmp(runs[0], runs[1]) == 0)
        n = 1;
    return child->lookups < n ? runs[child->lookups] : NULL;
}

char *tn_reset_child_request(tn_arena *arena, const tn_ms *ms, const tn_child *child)
{
    const char *run_id = starter(ms, child);
    if (!run_id)
        return tn_arena_strdup(arena, child->request_id);
    return tn_arena_printf(arena, "%s:%lld:0", run_id, (long long)child->initiated_id);
}

/* ALREADY_EXISTS may mean: under another of the request ids.  One that has closed has told the base run, in vain. */
bool tn_reset_child_again(const tn_ms *ms, tn_child *child, int32_t cause, int32_t status)
{
    if (!starter(ms, child) || (!cause && status <= 1))
        return false;
    child->lookups++;
    return true;
}
