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

#endif
