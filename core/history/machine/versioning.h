/* SPDX-License-Identifier: MIT */
/* Which version of a worker deployment a run is on, and how it came there.  A run of unversioned workers has none of it. */
#ifndef TN_HISTORY_MACHINE_VERSIONING_H
#define TN_HISTORY_MACHINE_VERSIONING_H

#include "base/dver.h"
#include "history/machine/state.h"
#include "temporal/api/workflow/v1/message.pb-c.h"

typedef Temporal__Api__Workflow__V1__VersioningOverride tn_override;

/* ---- what a run is ---- */
int32_t tn_ms_behavior(const tn_ms *ms); /* TN_BEHAVIOR_*, with override and transition */
tn_dver tn_ms_version(const tn_ms *ms);  /* the same; points into the state */
bool tn_ms_in_transition(const tn_ms *ms);
int64_t tn_ms_revision(const tn_ms *ms);
bool tn_ms_uses_ramping(
    const tn_ms *ms); /* its first workflow task, after continue-as-new to the ramping version */
bool tn_ms_target_changed(const tn_ms *ms); /* as the started event of its workflow task says */
const char *tn_ms_deployment_name(const tn_ms *ms);
bool tn_ms_is_shown_versioned(const tn_ms *ms);
Temporal__Api__Workflow__V1__WorkflowExecutionVersioningInfo *tn_ms_versioning_info(
    const tn_ms *ms, tn_arena *arena);
tn_override *tn_ms_override(const tn_ms *ms, tn_arena *arena); /* NULL: none */

/* ---- overrides, in whatever form they come ---- */
tn_override *tn_override_settle(tn_arena *arena,
                                const tn_override *given); /* as events have it; NULL: none */
bool tn_override_is_pinned(const tn_override *given);
tn_dver tn_override_target(const tn_override *settled); /* empty: none */

/* ---- what the next run has of this one ---- */
typedef struct tn_heritage {
    tn_dver pinned, upgrade; /* at most one of them */
    int64_t upgrade_revision;
    int32_t initial_behavior;
    tn_override *override;
    bool declined;
    tn_dver declined_version;
    int64_t declined_revision;
} tn_heritage;
/* Is the queue, a workflow queue of the namespace, served by that version? */
typedef bool tn_queue_in_version(void *user, tn_str ns_id, tn_str queue, tn_dver version);
void tn_ms_heritage_of_continued(const tn_ms *ms, tn_arena *arena, tn_str queue,
                                 int32_t initial_behavior, tn_queue_in_version *in_version,
                                 void *user, tn_heritage *out);
void tn_ms_heritage_of_retried(const tn_ms *ms, tn_arena *arena, bool was_pinned_at_start,
                               bool retry, tn_heritage *out);
void tn_ms_heritage_of_child(const tn_ms *ms, tn_arena *arena, tn_str ns_id, tn_str queue,
                             tn_queue_in_version *in_version, void *user, tn_heritage *out);
/* Into a started event's attributes. */
void tn_heritage_put(tn_arena *arena, const tn_heritage *heritage, tn_started_attrs *a);

/* ---- the fold ---- */
void tn_versioning_started(tn_ms *ms, const tn_started_attrs *a);
void tn_versioning_completed(
    tn_ms *ms, const Temporal__Api__History__V1__WorkflowTaskCompletedEventAttributes *a);
void tn_versioning_override(tn_ms *ms, const tn_override *override, bool unset);
uint64_t tn_ms_version_changes(const tn_ms *ms); /* rises when version or behaviour have changed */

/* ---- beside the events (extras) ---- */
/* The task goes to a worker of that version, of which the run was not; false: it is pinned, so it may not. */
bool tn_versioning_transit(tn_ms *ms, tn_dver to, int64_t revision);
/* Before a workflow task's started event: is there another version that a pinned run should know of? */
bool tn_versioning_note_target(tn_ms *ms, tn_dver target, int64_t revision);

void tn_versioning_destroy(tn_ms *ms);
Tenon__RunVersioning *tn_versioning_save(const tn_ms *ms, tn_arena *arena); /* NULL: none */
void tn_versioning_load(tn_ms *ms, const Tenon__RunVersioning *saved);

#endif
