/* SPDX-License-Identifier: MIT */
/* What a run's activities and children make of its priority: whatever they leave open is as the run has it. */
#include "history/machine/parts.h"
#include "proto/proto.h"

/* `own` is filled in. */
static tn_priority *merge(tn_priority *run, tn_priority *own)
{
    if (!run || !own)
        return own ? own : run;
    if (own->priority_key == 0)
        own->priority_key = run->priority_key;
    if (!*own->fairness_key)
        own->fairness_key = run->fairness_key;
    if (own->fairness_weight == 0)
        own->fairness_weight = run->fairness_weight;
    return own;
}

tn_priority *tn_machine_priority(const tn_ms *ms, tn_arena *arena)
{
    return tn_ms_priority(ms, arena);
}

tn_priority *tn_machine_activity_priority(const tn_ms *ms, const tn_activity *activity,
                                          tn_arena *arena)
{
    return merge(tn_ms_priority(ms, arena), tn_activity_priority(activity, arena));
}

tn_priority *tn_machine_child_priority(const tn_ms *ms, tn_arena *arena, tn_priority *own)
{
    return merge(tn_ms_priority(ms, arena), own);
}
