/* SPDX-License-Identifier: MIT */
/* An activity of its own: an object (object.h) that keeps one activity in ms->activities, where the machine of a run's
 * activities finds it, and what only such an activity has: its request, its outcome, who asked it to end. */
#ifndef TN_HISTORY_MACHINE_SOLO_H
#define TN_HISTORY_MACHINE_SOLO_H

#include "history/machine/object.h"

#define TN_SOLO_LETTER 'a'
#define TN_SOLO_DIVISION "3332429922" /* as the reference names its kind of execution */
extern const struct tn_vis_division
    tn_solo_division; /* by which lists find them (history/batch.c) */
#define TN_SOLO_SCHEDULED_ID 1

typedef struct tn_solo {
    uint64_t dispatch_ns;
    tn_blob request, outcome; /* owned, packed; see SoloActivity */
    uint64_t changes;
    int64_t heartbeats;
    uint64_t last_started_ns;
    tn_pause *cancel; /* asked for */
    char *terminate_request_id;
    char **attached_request_ids;
    tn_blob *attached_links;
    size_t n_attached_request_ids, n_attached_links;
    bool begun;
} tn_solo;

extern const tn_object_kind tn_solo_kind;

static inline tn_solo *tn_solo_of(const tn_ms *ms) { return ms->object; }
/* Never NULL: it stays when it has ended. */
tn_activity *tn_solo_activity(const tn_ms *ms);

/* ---- for the machine of activities: what a run would say by events ---- */
void tn_solo_started(tn_tx *tx, tn_activity *activity);
void tn_solo_beaten(tn_ms *ms);
void tn_solo_waits_again(tn_tx *tx, const tn_activity *activity);
void tn_solo_completed(tn_tx *tx, tn_activity *activity,
                       const Temporal__Api__Common__V1__Payloads *result, const char *identity);
/* Out of attempts, or not to be tried again. */
void tn_solo_failed(tn_tx *tx, tn_activity *activity,
                    const Temporal__Api__Failure__V1__Failure *failure, int32_t retry_state,
                    const char *identity);
void tn_solo_timed_out(tn_tx *tx, tn_activity *activity,
                       const Temporal__Api__Failure__V1__Failure *failure, int32_t retry_state,
                       bool ends_attempt);
void tn_solo_canceled(tn_tx *tx, const Temporal__Api__Common__V1__Payloads *details);
/* What a report on an activity that is over, or was never there, is told. */
const tn_fault *tn_solo_not_found(tn_arena *arena, tn_str id);

const tn_fault *tn_solo_over(tn_tx *tx); /* it has ended otherwise already */

/* ---- solo_view.c ---- */
ProtobufCMessage *tn_solo_describe(
    const tn_tx *tx,
    const Temporal__Api__Workflowservice__V1__DescribeActivityExecutionRequest *request,
    tn_arena *arena);
Temporal__Api__Activity__V1__ActivityExecutionOutcome *tn_solo_outcome(const tn_ms *ms,
                                                                       tn_arena *arena);
Temporal__Api__Workflowservice__V1__StartActivityExecutionRequest *tn_solo_request(const tn_ms *ms,
                                                                                   tn_arena *arena);

/* ---- solo_call.c ---- */
tn_object_meet tn_solo_meets(const tn_ms *there, const ProtobufCMessage *request,
                             tn_object_reply *reply, const tn_fault **out_fault);
const tn_fault *tn_solo_call(tn_tx *tx, const ProtobufCMessage *request, tn_object_reply *reply);
ProtobufCMessage *tn_solo_started_response(const tn_ms *ms, const char *ns_name, bool started,
                                           tn_arena *arena);
void tn_solo_attach_link(tn_ms *ms, tn_blob packed);

#endif
