/* SPDX-License-Identifier: MIT */
/* The state machine of a run: pure functions from (state, input, now, random) to events.  No I/O,
 * no clock, no global state, no memory but the state's own and the transition's arena: the same
 * inputs give the same bytes, live, in a test and when replayed.
 *
 * One transition: the caller makes a tn_tx on a state, calls one or more functions, and commits
 *   - tx->events: the packed new events (History body), first id tx->first_event_id,
 *   - the extras, when tx->extras_dirty,
 *   - tx->next_run, when set: the first transition of the run that follows (continue-as-new,
 *     retry, cron),
 * in one atomic write; what the state then wants (tn_ms_wants) is done after the write is durable.
 *
 * Every function returns NULL or the fault for the caller.  A fault with tx->n_events == 0 and
 * !tx->extras_dirty has changed nothing.  A fault may come with events (a workflow task that failed
 * because of a bad command is recorded, and its sender is told): commit, then answer the fault. */
#ifndef TN_HISTORY_MACHINE_MACHINE_H
#define TN_HISTORY_MACHINE_MACHINE_H

#include "history/machine/state.h"
#include "base/dver.h"
#include "proto/fault.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

typedef struct tn_machine_limits { /* behaviour.md 2.35; from dynamic config */
    int64_t blob_bytes_max, blob_bytes_warn, memo_bytes_max;
    int64_t history_bytes_max, history_count_max, history_bytes_suggest, history_count_suggest;
    int64_t pending_activities_max, pending_children_max, pending_signals_max, pending_cancels_max;
    int64_t signals_max, buffered_events_max, buffered_bytes_max;
    int64_t id_bytes_max, failure_bytes_max, transaction_bytes_max, mutable_state_bytes_max;
    uint64_t wft_heartbeat_max_ns, wft_timeout_default_ns, wft_timeout_max_ns;
    /* 5 s, 10 min: added to the timeout past attempt 3 */
    uint64_t wft_backoff_initial_ns, wft_backoff_max_ns;
    /* between the first workflow tasks of a run and of the one that follows it */
    uint64_t reuse_interval_min_ns;
    int64_t updates_in_flight_max, updates_in_flight_bytes_max, updates_max, updates_suggest;
    int64_t discarded_events_max; /* that a discarded workflow task may have shown to its worker */
    int64_t callbacks_max;
    int64_t nexus_operations_max, nexus_service_bytes_max, nexus_operation_bytes_max;
    int64_t nexus_token_bytes_max, nexus_header_bytes_max;
    uint64_t nexus_timeout_max_ns; /* 0: none */
    uint64_t nexus_backoff_initial_ns, nexus_backoff_max_ns;
    uint64_t callback_backoff_initial_ns, callback_backoff_max_ns;
} tn_machine_limits;
void tn_machine_limits_default(tn_machine_limits *limits);

/* What a transition needs to know of the world, read-only. */
typedef struct tn_machine_env {
    tn_str ns_name, ns_id;
    uint64_t retention_ns;
    const tn_machine_limits *limits;
    /* Is this namespace known?  Its id, or empty.  (children, external signals) */
    tn_str (*namespace_id)(void *user, tn_str name);
    bool cross_namespace; /* commands may act on others than the run's own */
    /* The id of a Nexus endpoint by its name, or empty. */
    tn_str (*nexus_endpoint)(void *user, tn_str name);
    bool (*nexus_header_allowed)(void *user, tn_str lower_name);
    /* Does that version of a worker deployment serve that workflow queue? */
    bool (*queue_in_version)(void *user, tn_str ns_id, tn_str queue, tn_dver version);
    /* NULL: the search attributes may be set in that namespace (their sizes are the machine's to
     * check); their payloads then say their type. */
    const tn_fault *(*check_search_attributes)(void *user, tn_str ns_id, tn_arena *arena,
                                               Temporal__Api__Common__V1__SearchAttributes *attrs);
    void *user;
} tn_machine_env;

/* An update that ends without an event. */
typedef struct tn_update_end {
    tn_str id;
    /* why it was rejected; NULL: the workflow task that carried it has failed */
    const Temporal__Api__Failure__V1__Failure *rejection;
} tn_update_end;

typedef struct tn_tx {
    tn_ms *ms;
    const tn_machine_env *env;
    /* of the transition, without a cap: events are built here, out blobs live here */
    tn_arena *arena;
    uint64_t now_ns; /* wall */
    tn_rng *rng;
    /* out */
    tn_buf events; /* packed: field 1 of temporal.api.history.v1.History, repeated */
    int64_t first_event_id;
    size_t n_events;
    bool extras_dirty;
    struct tn_tx *next_run;     /* in the arena; its ms belongs to the caller after the call */
    bool visibility_dirty;      /* search attributes, memo, status: write a document */
    tn_update_end *update_ends; /* in the arena */
    size_t n_update_ends, cap_update_ends;
    /* the machine's own */
    /* a completed workflow task's commands are being done: outside events wait */
    bool in_commands;
    bool rides_along; /* only a start: need not be committed by itself */
    int64_t history_bytes_before;
} tn_tx;
void tn_tx_init(tn_tx *tx, tn_ms *ms, const tn_machine_env *env, tn_arena *arena, uint64_t now_ns,
                tn_rng *rng);
/* After the last call and before the commit: holds the limits of buffer, history and state (may
 * fail the workflow task or terminate the run).  Nothing to do for a transition without events
 * and extras. */
void tn_tx_finish(tn_tx *tx);
void tn_tx_done(tn_tx *tx); /* frees events buffers, of next_run too; not the states */

/* ---- start ---- */
typedef struct tn_start {
    /* defaults filled in */
    const Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *request;
    /* from a parent's command */
    tn_str parent_ns_id, parent_ns_name, parent_workflow_id, parent_run_id, root_workflow_id,
        root_run_id;
    int64_t parent_initiated_id;
    /* what a parent's version gives a child without an override of its own */
    tn_dver parent_pinned, parent_upgrade;
    int64_t parent_upgrade_revision;
    /* signal-with-start: the signal follows in the same transition (request may be NULL) */
    const Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionRequest *signal;
    bool hold; /* a child: no workflow task until tn_machine_release */
    /* the event says that the first workflow task goes out with the answer; the caller starts it */
    bool eager;
} tn_start;
/* On a fresh state. */
const tn_fault *tn_machine_start(tn_tx *tx, const tn_start *start);
const tn_fault *tn_machine_release(tn_tx *tx); /* held child: first workflow task; idempotent */

/* ---- from outside ---- */
typedef struct tn_external_source { /* a signal or cancel that another run sends */
    tn_str ns_name, ns_id, workflow_id, run_id;
    int64_t initiated_id;
} tn_external_source;
const tn_fault *tn_machine_signal(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__SignalWorkflowExecutionRequest *request,
    const tn_external_source *source);
/* Signal-with-start on a run that is there already: ends a start delay, too. */
const tn_fault *tn_machine_signal_with_start(
    tn_tx *tx,
    const Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionRequest *request);
const tn_fault *tn_machine_request_cancel(
    tn_tx *tx,
    const Temporal__Api__Workflowservice__V1__RequestCancelWorkflowExecutionRequest *request,
    const tn_external_source *source);
/* links/identity as given; also used for TERMINATE_EXISTING and parent close policy. */
const tn_fault *tn_machine_terminate(tn_tx *tx, tn_str reason,
                                     const Temporal__Api__Common__V1__Payloads *details,
                                     tn_str identity);
/* The run is to be deleted: terminated if it is open, its retention ends now.  Extras, for a closed one. */
void tn_machine_delete(tn_tx *tx);
/* conflict policy USE_EXISTING with options: writes OPTIONS_UPDATED */
const tn_fault *tn_machine_attach(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *request);
bool tn_ms_has_request_id(const tn_ms *ms, tn_str id); /* of a start that has used this run */
const tn_fault *tn_machine_reset_sticky(tn_tx *tx);
/* The sticky worker does not answer: nothing is offered to it any more.  Memory only; false: there was none. */
bool tn_machine_forget_sticky(tn_ms *ms);

/* ---- reset (reset.c) ---- */
#define TN_REAPPLY_NO_SIGNALS 1u
#define TN_REAPPLY_NO_UPDATES 2u
#define TN_REAPPLY_NO_NEXUS 4u
#define TN_REAPPLY_NO_CANCELS \
    8u /* they never are; but who leaves out all four wants nothing at all */
#define TN_REAPPLY_NOTHING 15u
typedef struct tn_reset {
    tn_str base_run_id, reason, request_id;
} tn_reset;
/* On the fold, under the new run's id, of the base run's events up to the one before the workflow task's end at
 * which the run is to be reset: that task fails, what is under way is begun anew.  A fault changes nothing. */
const tn_fault *tn_machine_reset(tn_tx *tx, const tn_reset *reset);
/* What came later in the base run or in those that follow it: signals, updates, options, results of children that the new run
 * has.  Others are passed over.  A fault: the reset can't be made. */
const tn_fault *tn_machine_reapply(tn_tx *tx, const tn_event *event, uint32_t excluded);
/* One of the reset's operations on the new run. */
const tn_fault *tn_machine_post_reset(
    tn_tx *tx, const Temporal__Api__Workflow__V1__PostResetOperation *operation, tn_str identity);
/* The last step: a workflow task. */
void tn_machine_reset_end(tn_tx *tx);
/* A closed child that has told its parent tells it once more. */
void tn_machine_tell_again(tn_tx *tx);
/* The base run learns which run the reset has made. */
void tn_machine_was_reset(tn_tx *tx, tn_str new_run_id);

/* ---- workflow task ---- */
typedef struct tn_poller {
    tn_str identity, request_id;
    tn_str build_id;
    bool use_versioning;
    /* worker deployments: its version, and where the run's workflow tasks would go now */
    tn_dver version, target;
    int64_t version_revision, target_revision;
} tn_poller;
/* The task is handed to a poll.  Makes the started event of a first attempt (tx->n_events 1: it
 * need not be committed by itself; the caller keeps it for the next record), or marks a
 * transient one.  NOT_FOUND when it is not waiting any more. */
const tn_fault *tn_machine_wft_start(tn_tx *tx, int64_t scheduled_id, uint64_t stamp,
                                     const tn_poller *poller);
/* The suffix for poll responses and history reads: the scheduled and started events of a started
 * (or pending) transient task, packed as History body; empty else. */
tn_blob tn_machine_wft_transient_events(const tn_ms *ms, tn_arena *arena, bool for_worker);
typedef struct tn_wft_completed_out {
    /* return_new_workflow_task: hand the new one out in the response */
    bool new_wft_wanted_inline;
    /* updates wait: when this is durable, tn_machine_wft_speculate makes the task for the response */
    bool speculate;
    int64_t reset_history_event_id;
    /* scheduled ids of activities that were asked to start eagerly: started already, to be handed
     * out in the response */
    int64_t eager_activities[16];
    size_t n_eager_activities;
} tn_wft_completed_out;
const tn_fault *tn_machine_wft_completed(
    tn_tx *tx, const Tenon__TaskToken *token,
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *request,
    tn_wft_completed_out *out);
const tn_fault *tn_machine_wft_failed(
    tn_tx *tx, const Tenon__TaskToken *token,
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskFailedRequest *request);
/* A sticky task whose worker is gone: back to the normal queue (no event, as the reference when
 * no poller; timeout of schedule-to-start is tn_machine_fire's). */
const tn_fault *tn_machine_wft_unstick(tn_tx *tx);
/* The hand-out never reached the worker and nothing was committed since: takes the start back;
 * false: too late. */
bool tn_machine_wft_unstart(tn_ms *ms, uint64_t nonce);

/* ---- updates (update.c) ---- */
/* Takes the update in, in memory only; one with this id that is there already is left as it is.
 * When nothing else brings a worker to it, it gets a speculative workflow task.  again: it had been
 * taken in before, and was forgotten with the memory: what may be said against a new one (the
 * workflow task fails, the run is paused or closes) makes this one only wait. */
const tn_fault *tn_machine_update_admit(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionRequest *request,
    bool again);
/* What the started workflow task brings its worker: the updates that wait (again: those too that a
 * worker was given before).  Returns how many. */
size_t tn_machine_update_messages(tn_ms *ms, tn_arena *arena, bool again,
                                  Temporal__Api__Protocol__V1__Message ***out);
/* After tn_machine_wft_completed said so: a speculative task, started at once by the same worker. */
void tn_machine_wft_speculate(
    tn_tx *tx,
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *request);

/* ---- activities ---- */
/* The attempt that was started under this request id goes back: its answer has surely not left the process. */
void tn_machine_activity_unstart(tn_tx *tx, int64_t scheduled_id, tn_str request_id);
/* The attempt is handed to a poll.  out_durable: it must be committed before the worker sees it
 * (max attempts 1). */
const tn_fault *tn_machine_activity_start(tn_tx *tx, int64_t scheduled_id, uint64_t stamp,
                                          const tn_poller *poller, bool *out_durable);
/* token, or by id (activity_id not empty).  Workers' requests by token or ...ById are the same
 * here. */
const tn_fault *tn_machine_activity_completed(
    tn_tx *tx, const Tenon__TaskToken *token, tn_str activity_id,
    const Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedRequest *request);
const tn_fault *tn_machine_activity_failed(
    tn_tx *tx, const Tenon__TaskToken *token, tn_str activity_id,
    const Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *request);
const tn_fault *tn_machine_activity_canceled(
    tn_tx *tx, const Tenon__TaskToken *token, tn_str activity_id,
    const Temporal__Api__Workflowservice__V1__RespondActivityTaskCanceledRequest *request);
/* Memory only unless the details matter for a retry: extras_dirty says so (lazy, see README). */
const tn_fault *tn_machine_activity_heartbeat(
    tn_tx *tx, const Tenon__TaskToken *token, tn_str activity_id,
    const Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatRequest *request,
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatResponse *out);
/* priority.c: of the run, of one of its activities, of a child; NULL: the default. */
typedef Temporal__Api__Common__V1__Priority tn_priority;
tn_priority *tn_machine_priority(const tn_ms *ms, tn_arena *arena);
tn_priority *tn_machine_activity_priority(const tn_ms *ms, const tn_activity *activity,
                                          tn_arena *arena);
tn_priority *tn_machine_child_priority(const tn_ms *ms, tn_arena *arena,
                                       tn_priority *own); /* `own` is filled in */

/* Fills a poll (or eager) response for a started activity, token included by the caller
 * (out->task_token is left). */
void tn_machine_activity_task(
    const tn_ms *ms, const tn_activity *activity, tn_arena *arena, tn_str ns_name,
    Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse *out);

/* ---- operators ---- */
/* Activities by id, type or all; in memory and extras only, no event says so (activity_operate.c). */
const tn_fault *tn_machine_pause_activity(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__PauseActivityRequest *request);
const tn_fault *tn_machine_unpause_activity(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__UnpauseActivityRequest *request);
const tn_fault *tn_machine_reset_activity(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__ResetActivityRequest *request);
/* out: those in force now, of the last one that was changed; in the transition's arena. */
const tn_fault *tn_machine_update_activity_options(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__UpdateActivityOptionsRequest *request,
    Temporal__Api__Activity__V1__ActivityOptions **out);
/* No workflow task and no attempt of an activity goes out until it goes on (pause.c). */
const tn_fault *tn_machine_pause(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__PauseWorkflowExecutionRequest *request);
const tn_fault *tn_machine_unpause(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__UnpauseWorkflowExecutionRequest *request);
/* out: the options in force, in the transition's arena (options.c). */
const tn_fault *tn_machine_update_options(
    tn_tx *tx,
    const Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionOptionsRequest *request,
    Temporal__Api__Workflow__V1__WorkflowExecutionOptions **out);

/* ---- time ---- */
/* Does all that is due at tx->now_ns: workflow task time-outs, activity time-outs and retries,
 * timers (all due ones in one transition), run and execution time-outs, end of the first
 * backoff. */
const tn_fault *tn_machine_fire(tn_tx *tx);

/* ---- other runs ---- */
const tn_fault *tn_machine_child_started(tn_tx *tx, int64_t initiated_id, tn_str run_id);
/* StartChildWorkflowExecutionFailedCause */
const tn_fault *tn_machine_child_start_failed(tn_tx *tx, int64_t initiated_id, int32_t cause);
/* close_event: the closing event of the last run of the child's chain (child_run_id; the chain
 * began with first_run_id); writes CHILD_* (and CHILD_STARTED before it if it was not recorded). */
const tn_fault *tn_machine_child_closed(tn_tx *tx, int64_t initiated_id, tn_str child_run_id,
                                        tn_str first_run_id, const tn_event *close_event);
const tn_fault *tn_machine_external_done(tn_tx *tx, int64_t initiated_id);
const tn_fault *tn_machine_external_failed(tn_tx *tx, int64_t initiated_id, int32_t cause);
const tn_fault *tn_machine_parent_told(tn_tx *tx);      /* closed child: extras */
const tn_fault *tn_machine_children_settled(tn_tx *tx); /* closed parent: extras */

/* ---- reading ---- */
/* Fills execution config, info, pending activities/children/workflow task, extended info. */
/* As DescribeMutableState of the admin service shows it; points into the state. */
struct Temporal__Server__Api__Persistence__V1__WorkflowMutableState *tn_machine_operator_view(
    const tn_ms *ms, tn_arena *arena);
void tn_machine_describe(
    const tn_ms *ms, tn_arena *arena, uint64_t now_ns,
    Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *out);

/* Enough workflow tasks have failed in a row to list the run as one with a problem. */
bool tn_ms_has_problem(const tn_ms *ms);
/* The merged memo and search attributes (with the server's own), for visibility too; never NULL. */
Temporal__Api__Common__V1__Memo *tn_machine_memo(const tn_ms *ms, tn_arena *arena);
Temporal__Api__Common__V1__SearchAttributes *tn_machine_search_attributes(const tn_ms *ms,
                                                                          tn_arena *arena);

/* ---- pure helpers, also used by the frontend's validation ---- */
/* Next moment of a cron schedule after `after_ns` (start of run `start_ns`), 0: the schedule
 * never fires. robfig/cron ParseStandard grammar with TZ=, CRON_TZ= and @every.  false with text
 * when malformed. */
bool tn_cron_next(tn_str spec, uint64_t start_ns, uint64_t close_ns, uint64_t *out_ns, char *err,
                  size_t err_size);
/* Fills in what a retry policy leaves to default and checks it; NULL, or what is wrong
 * ("MaximumAttempts cannot be negative on retry policy.").  NULL policy allowed. */
const char *tn_retry_policy_settle(tn_arena *arena, Temporal__Api__Common__V1__RetryPolicy *policy);
/* Checks a duration that a caller sent and cuts it to 100 years; NULL, or what is wrong
 * ("negative duration"). */
const char *tn_duration_settle(Google__Protobuf__Duration *duration);
uint64_t tn_duration_ns(const Google__Protobuf__Duration *duration); /* NULL and negative: 0 */
/* Fills in the time-outs that are missing and cuts them to the run's (0: none); NULL, or what is wrong. */
typedef Temporal__Api__Command__V1__ScheduleActivityTaskCommandAttributes tn_schedule_activity;
const char *tn_activity_timeouts_settle(tn_arena *arena, uint64_t run_timeout_ns,
                                        tn_schedule_activity *attrs);
/* Fills in what the start of an activity of its own leaves to default and checks it; NULL, or what is wrong (solo.c). */
const char *tn_activity_start_settle(
    tn_arena *arena, int64_t id_bytes_max,
    Temporal__Api__Workflowservice__V1__StartActivityExecutionRequest *request);
/* Does the mask name the path ("retry_policy.maximum_attempts")?  Its own may be in camel case, too. */
bool tn_mask_has(const Google__Protobuf__FieldMask *mask, const char *path);
/* Backoff before the next attempt, or UINT64_MAX and the reason
 * (temporal.api.enums.v1.RetryState). */
uint64_t tn_retry_backoff_ns(const tn_retry *retry, int32_t attempt, uint64_t now_ns,
                             uint64_t expire_ns, const Temporal__Api__Failure__V1__Failure *failure,
                             int32_t *out_state);

#endif
