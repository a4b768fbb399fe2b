/* SPDX-License-Identifier: MIT */
/* Completion callbacks of a run, and the Nexus operations that it waits for, as parts of its state.
 *
 * Which there are follows from the events (1 and 55; 48 to 54, 56, 57); how often they were tried, and
 * when next, are extras.  A time of the next attempt that has come needs no record: what waits for it
 * simply wants to be done from then on. */
#ifndef TN_HISTORY_MACHINE_NEXUS_H
#define TN_HISTORY_MACHINE_NEXUS_H

#include "history/machine/machine.h"
#include "temporal/api/nexus/v1/message.pb-c.h"
#include "tenon/internal.pb-c.h"

/* temporal.api.enums.v1.CallbackState */
#define TN_CALLBACK_STANDBY 1
#define TN_CALLBACK_SCHEDULED 2
#define TN_CALLBACK_BACKING_OFF 3
#define TN_CALLBACK_FAILED 4
#define TN_CALLBACK_SUCCEEDED 5

typedef struct tn_attempts { /* extras */
    int32_t count;
    uint64_t last_ns, next_ns; /* 0: never, at once */
    tn_blob last_failure;      /* owned, packed temporal.api.failure.v1.Failure */
} tn_attempts;

typedef struct tn_callback {
    tn_list link;     /* nexus->callbacks, as attached */
    tn_blob callback; /* owned, packed temporal.api.common.v1.Callback */
    char *request_id; /* of the call that attached it */
    bool at_start;    /* by the first event */
    uint64_t registered_ns;
    int32_t state; /* TN_CALLBACK_*, never BACKING_OFF: that is SCHEDULED and attempts.next_ns */
    tn_attempts attempts;
    bool dispatched; /* memory only */
} tn_callback;

typedef struct tn_nexus_op {
    tn_list link; /* nexus->ops, by scheduled id */
    int64_t scheduled_id;
    uint64_t scheduled_ns;
    tn_blob attrs; /* owned, packed NexusOperationScheduledEventAttributes */
    char *endpoint, *endpoint_id, *service, *operation, *request_id, *token;
    uint64_t schedule_to_close_ns, schedule_to_start_ns, start_to_close_ns; /* 0: none */
    uint64_t started_ns;                                                    /* 0: not started */
    int64_t cancel_requested_id;                                            /* 0: not asked */
    uint64_t cancel_requested_ns;
    bool cancel_done, cancel_failed; /* the request has been answered, for good */
    uint64_t cancel_done_ns;
    tn_blob cancel_failure; /* owned, packed */
    tn_attempts attempts, cancel_attempts;
    /* memory only */
    bool closing;          /* its last event waits in the buffer */
    bool started_buffered; /* ... its started event (started_ns and token are set) */
    bool cancel_buffered;  /* ... the answer to its cancel request */
    bool dispatched, cancel_dispatched;
} tn_nexus_op;

typedef struct tn_nexus {
    tn_list callbacks, ops;
    size_t n_callbacks, n_ops;
} tn_nexus;

/* ---- memory, fold, store ---- */
void tn_nexus_destroy(tn_ms *ms);
void tn_nexus_drop_operations(tn_ms *ms); /* the run has closed: nobody waits for them */
void tn_callbacks_attach(tn_ms *ms, size_t n, Temporal__Api__Common__V1__Callback *const *callbacks,
                         const char *request_id, uint64_t at_ns, bool at_start);
void tn_callbacks_trigger(tn_ms *ms); /* the last run of the chain has closed */
tn_nexus_op *tn_ms_nexus_op_any(const tn_ms *ms, int64_t scheduled_id);
tn_nexus_op *tn_ms_nexus_op(const tn_ms *ms, int64_t scheduled_id); /* not if it is closing */
/* of the operation that it is about; 0: none */
int64_t tn_nexus_scheduled_id(const tn_event *event);
tn_status tn_apply_nexus(tn_ms *ms, const tn_event *event, tn_error *err);
/* An event enters or leaves the buffer: true when it was of an operation. */
bool tn_nexus_mark_closing(tn_ms *ms, const tn_event *event, bool closing);
void tn_nexus_save(const tn_ms *ms, tn_arena *arena, Tenon__Snapshot *to);
tn_status tn_nexus_load(tn_ms *ms, const Tenon__Snapshot *from, tn_error *err);
void tn_nexus_save_extras(const tn_ms *ms, tn_arena *arena, Tenon__Extras *to);
void tn_nexus_load_extras(tn_ms *ms, const Tenon__Extras *from);

/* ---- what is wanted, and when ---- */
void tn_nexus_wants(tn_ms *ms, uint64_t now_ns, void (*each)(void *user, tn_want want, void *item),
                    void *user);
uint64_t tn_nexus_deadline_ns(const tn_ms *ms); /* of the open run's operations; UINT64_MAX: none */
uint64_t tn_nexus_wake_ns(const tn_ms *ms);     /* the same for the wake index */
void tn_callback_wants(tn_ms *ms, uint64_t now_ns,
                       void (*each)(void *user, tn_want want, void *item), void *user);
uint64_t tn_callbacks_wake_ns(const tn_ms *ms, bool not_dispatched);
bool tn_fire_nexus(tn_tx *tx); /* time-outs; true: a workflow task is wanted */

/* ---- transitions ---- */
typedef enum tn_nexus_kind {
    TN_NEXUS_SYNC = 1,  /* done: payload */
    TN_NEXUS_ASYNC,     /* begun: token */
    TN_NEXUS_FAILED,    /* the operation has failed: failure */
    TN_NEXUS_CANCELED,  /* ... was cancelled */
    TN_NEXUS_REFUSED,   /* the request failed for good: failure */
    TN_NEXUS_AGAIN,     /* it failed and is to be repeated: failure */
    TN_NEXUS_TOO_LATE,  /* no time is left for another request: timeout_type */
    TN_NEXUS_CANCEL_OK, /* the cancel request was taken */
} tn_nexus_kind;
typedef struct tn_nexus_result {
    tn_nexus_kind kind;
    Temporal__Api__Common__V1__Payload *payload;
    const char *token;
    Temporal__Api__Failure__V1__Failure *failure;
    int32_t timeout_type;
    size_t n_links;
    Temporal__Api__Common__V1__Link **links;
} tn_nexus_result;
/* The answer to a start or cancel request; NULL also when nobody waits for it any more. */
const tn_fault *tn_machine_nexus_started(tn_tx *tx, int64_t scheduled_id,
                                         const tn_nexus_result *result);
const tn_fault *tn_machine_nexus_cancel_answered(tn_tx *tx, int64_t scheduled_id,
                                                 const tn_nexus_result *result);
/* The operation has ended, says its handler. */
const tn_fault *tn_machine_nexus_completed(tn_tx *tx, const Tenon__NexusCompletion *completion);
/* A callback was delivered (message NULL), or not. */
void tn_machine_callback_answered(tn_tx *tx, size_t index, const char *message, bool again);
void tn_callback_undispatch(tn_ms *ms, size_t index); /* it may be sent again */
/* Its place in the order of attachment. */
size_t tn_callback_index(const tn_ms *ms, const tn_callback *callback);
/* What a closed run tells those who wait for it; in the arena. */
Tenon__NexusCompletion *tn_machine_completion(const tn_ms *ms, const tn_callback *callback,
                                              tn_str ns_name, tn_arena *arena);
/* All callbacks, for the run that follows this one. */
Temporal__Api__Common__V1__Callback **tn_callbacks_list(const tn_ms *ms, tn_arena *arena,
                                                        size_t *out_n);
const tn_fault *tn_callbacks_too_many(const tn_tx *tx, size_t more); /* NULL: there is room */

/* ---- describing ---- */
void tn_describe_callbacks(
    const tn_ms *ms, tn_arena *arena, uint64_t now_ns,
    Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *out);
void tn_describe_nexus(const tn_ms *ms, tn_arena *arena, uint64_t now_ns,
                       Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *out);

/* ---- failures, also for who asks the handlers ---- */
Temporal__Api__Failure__V1__Failure *tn_nexus_handler_failure(tn_arena *arena, const char *type,
                                                              const char *message);
Temporal__Api__Failure__V1__Failure *tn_nexus_call_failure(tn_arena *arena, const char *message,
                                                           bool non_retryable);
/* Makes a failure of one as older SDKs write it; NULL of none. */
typedef Temporal__Api__Failure__V1__Failure *tn_nexus_words(
    tn_arena *arena, const Temporal__Api__Nexus__V1__Failure *from);
/* What a worker, or nobody, answered; points into the outcome's memory and the arena. */
void tn_nexus_answer(tn_arena *arena, const Tenon__NexusOutcome *outcome, bool cancel,
                     tn_nexus_words *words, tn_nexus_result *out);
/* Links as URLs; parse: NULL when it is none that we know. */
char *tn_nexus_link_url(tn_arena *arena,
                        const Temporal__Api__Common__V1__Link__WorkflowEvent *link);
Temporal__Api__Common__V1__Link *tn_nexus_link_parse(tn_arena *arena, const char *url,
                                                     const char *type);
/* Does an answer of this type and behaviour mean: try again? */
bool tn_nexus_retryable(const char *type, int32_t retry_behavior);

#endif
