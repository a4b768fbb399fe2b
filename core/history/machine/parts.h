/* SPDX-License-Identifier: MIT */
/* Private to the machine: what the files of activities, timers, children and commands share. */
#ifndef TN_HISTORY_MACHINE_PARTS_H
#define TN_HISTORY_MACHINE_PARTS_H

#include "history/machine/machine.h"
#include "history/machine/priv.h"

/* temporal.api.enums.v1.TimeoutType */
#define TN_TIMEOUT_START_TO_CLOSE 1
#define TN_TIMEOUT_SCHEDULE_TO_START 2
#define TN_TIMEOUT_SCHEDULE_TO_CLOSE 3
#define TN_TIMEOUT_HEARTBEAT 4

/* temporal.api.enums.v1.RetryState */
#define TN_RETRY_IN_PROGRESS 1
#define TN_RETRY_NON_RETRYABLE_FAILURE 2
#define TN_RETRY_TIMEOUT 3
#define TN_RETRY_MAXIMUM_ATTEMPTS_REACHED 4
#define TN_RETRY_POLICY_NOT_SET 5
#define TN_RETRY_INTERNAL_SERVER_ERROR 6
#define TN_RETRY_CANCEL_REQUESTED 7

/* ---- retry.c ---- */
const char *tn_timeout_type_name(int32_t timeout_type); /* "StartToClose" */
bool tn_retry_allows(const tn_retry *retry, const Temporal__Api__Failure__V1__Failure *failure);
/* As tn_retry_backoff_ns, for an activity: the caller has asked tn_retry_allows. */
uint64_t tn_retry_activity_backoff_ns(const tn_retry *retry, int32_t attempt, uint64_t now_ns,
                                      uint64_t expire_ns,
                                      const Temporal__Api__Failure__V1__Failure *failure,
                                      int32_t *out_state);
Temporal__Api__Failure__V1__Failure *tn_failure_server(tn_arena *arena, const char *message,
                                                       bool non_retryable);
Temporal__Api__Failure__V1__Failure *tn_failure_timeout(tn_arena *arena, const char *message,
                                                        int32_t timeout_type);
/* A copy of about `room` bytes on the wire: messages, sources, stack traces and the chain of causes
 * are cut. */
Temporal__Api__Failure__V1__Failure *tn_failure_cut(
    tn_arena *arena, const Temporal__Api__Failure__V1__Failure *failure, int64_t room);
/* The failure, or a short one that says it was too long. */
const Temporal__Api__Failure__V1__Failure *tn_failure_for_state(
    tn_arena *arena, const Temporal__Api__Failure__V1__Failure *failure, int64_t bytes_max);

/* ---- activity*.c ---- */
/* Takes the attempt as over with this failure: the next attempt is set up (TN_RETRY_IN_PROGRESS,
 * extras_dirty), or nothing is changed and the reason is returned. */
int32_t tn_activity_retry(tn_tx *tx, tn_activity *activity,
                          const Temporal__Api__Failure__V1__Failure *failure);
void tn_activity_mark_started(tn_tx *tx, tn_activity *activity, uint64_t started_ns,
                              tn_str identity, tn_str request_id, uint64_t nonce);
/* The started event of an attempt that had none; returns what closing events say in
 * started_event_id (0: the attempt never started, or the event waits in the buffer and the id comes
 * with it). */
int64_t tn_activity_record_start(tn_tx *tx, tn_activity *activity,
                                 const Temporal__Api__Common__V1__WorkerVersionStamp *stamp);
void tn_activity_clear_extras(tn_ms *ms, tn_activity *activity);
/* No worker has it any more: it waits for the next hand-out; offers of before are stale. */
void tn_activity_wait_again(tn_tx *tx, tn_activity *activity);
void tn_activity_forget_heartbeats(tn_ms *ms, tn_activity *activity);

/* ---- activity_options.c ---- */
typedef Temporal__Api__Activity__V1__ActivityOptions tn_activity_options;
/* The options in force; in the arena. */
tn_activity_options *tn_activity_options_now(const tn_activity *activity, tn_arena *arena);
/* From now on; they are kept whole, with the types of failures that are not tried again. */
void tn_activity_set_options(tn_ms *ms, tn_activity *activity, const tn_activity_options *options);
void tn_activity_load_options(tn_ms *ms, tn_activity *activity, tn_blob packed);
/* As the scheduled event says; nothing to do when they are. */
void tn_activity_restore_options(tn_ms *ms, tn_activity *activity);
tn_activity_options *tn_activity_options_scheduled(const tn_activity *activity, tn_arena *arena);
Temporal__Api__Common__V1__Priority *tn_activity_priority(const tn_activity *activity,
                                                          tn_arena *arena); /* NULL: none */
/* Takes over what the mask names; NULL, or what is wrong. */
const char *tn_activity_options_merge(tn_arena *arena, const Google__Protobuf__FieldMask *mask,
                                      const tn_activity_options *from, tn_activity_options *into);
/* Checks and completes changed options, as those of a command. */
const char *tn_activity_options_settle(tn_arena *arena, const tn_activity *activity,
                                       const char *default_queue, uint64_t run_timeout_ns,
                                       int64_t id_bytes_max, tn_activity_options *options);

#endif
