/* SPDX-License-Identifier: MIT */
/* Private to the machine: how its files make events and share the workflow task.
 *
 * Files: state.c (create, destroy, small look-ups), apply.c + apply_*.c (the fold), persist.c
 * (records, snapshots), wants.c, tx.c (events, buffer), wft.c + wft_complete.c (workflow task),
 * lifecycle.c (start, signal, cancel, terminate, close, next run), describe.c; command.c +
 * command_*.c (one handler a command), activity.c + activity_*.c, timers.c (user timers and
 * fire), child.c, external.c, retry.c, cron.c. */
#ifndef TN_HISTORY_MACHINE_PRIV_H
#define TN_HISTORY_MACHINE_PRIV_H

#include "history/machine/machine.h"
#include "history/machine/versioning.h"

/* ---- tx.c ---- */
/* A fresh event in the transition's arena: type and time set (never before the last event's),
 * all else empty. */
tn_event *tn_tx_event(tn_tx *tx, int32_t event_type);
/* Adds it: while a workflow task is started (or its commands are being done), an event that
 * comes from outside waits in the buffer (returns TN_ID_BUFFERED, extras_dirty is set): it is
 * not applied, but what it closes is marked `closing`, which tn_ms_activity & co. and every walk
 * over the lists must skip.  Everything else gets the next id, is packed into tx->events and
 * applied. */
int64_t tn_tx_add(tn_tx *tx, tn_event *event);
/* Same, but never buffered: for events that a workflow task's own completion, failure or close
 * writes. */
int64_t tn_tx_add_now(tn_tx *tx, tn_event *event);
bool tn_tx_buffers(const tn_tx *tx, int32_t event_type); /* would tn_tx_add buffer it? */
/* A waiting event does at once to activities, timers, children and externals what it will do:
 * tn_tx_add (and the load of extras) passes it to tn_apply_activity/timer/child/external with
 * event_id 0, and once more when it gets its id.  Those folds do nothing the second time; so the
 * pending ones never hold what has ended already. */
/* After a workflow task has ended: the buffered events get ids and enter the history, results
 * after their started events.  Returns how many. */
size_t tn_tx_flush_buffered(tn_tx *tx);
/* Drops a buffered TIMER_FIRED of that timer (CancelTimer), the timer is as before; true when
 * there was one. */
bool tn_tx_unbuffer_timer(tn_tx *tx, tn_str timer_id);
bool tn_tx_has_buffered_signal(const tn_tx *tx, tn_str request_id);
bool tn_ms_has_buffered(const tn_ms *ms);
uint64_t tn_tx_event_time(const tn_tx *tx); /* now, never before the last event */
/* Buffered events: those of the state, without a transition. */
void tn_ms_buffer(tn_ms *ms, const tn_event *event, tn_blob packed);
void tn_buffered_destroy(tn_ms *ms, tn_buffered *buffered);
void tn_ms_mark_closing(tn_ms *ms, const tn_event *event, bool closing);

/* Memory and messages of a transition: never NULL (its arena has no cap). */
void *tn_tx_alloc(tn_tx *tx, size_t n); /* zeroed */
char *tn_tx_text(tn_tx *tx, tn_str s);  /* NUL-terminated copy */
void *tn_msg_new(tn_arena *arena, const ProtobufCMessageDescriptor *descriptor);
tn_blob tn_msg_pack(tn_arena *arena, const void *msg);
/* A fresh message by its C name: TN_MSG(tx->arena, temporal__api__common__v1__payloads). */
#define TN_MSG(arena, c_name) tn_msg_new((arena), &c_name##__descriptor)
/* Gives an event its (fresh, empty) attributes and names them:
 *   Temporal__Api__History__V1__TimerFiredEventAttributes *attrs =
 *       TN_EVENT_ATTRS(tx, event, TIMER_FIRED, timer_fired); */
#define TN_EVENT_ATTRS(tx, event, UPPER, lower) \
    ((event)->attributes_case = \
         TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_##UPPER##_EVENT_ATTRIBUTES, \
     (event)->lower##_event_attributes = tn_msg_new( \
         (tx)->arena, &temporal__api__history__v1__##lower##_event_attributes__descriptor))

/* ---- wft.c ---- */
/* Schedules one unless one is pending, the run is closed, held, paused or before its first
 * backoff. */
void tn_tx_schedule_wft(tn_tx *tx);
/* The started (or pending) workflow task ends as failed; attempt 1 writes the event, a later one
 * only counts. A new (transient) one is scheduled by the caller.  failure may be NULL. */
int64_t tn_tx_fail_wft(tn_tx *tx, int32_t cause, const Temporal__Api__Failure__V1__Failure *failure,
                       tn_str identity);

/* the same, but the first backoff doesn't hold it up */
void tn_tx_schedule_wft_anyhow(tn_tx *tx);
typedef struct tn_wft_start {
    tn_str identity, request_id;
    uint64_t at_ns;
    Temporal__Api__Common__V1__WorkerVersionStamp *version;
    tn_dver target; /* where the run's workflow tasks go, when target_known */
    bool target_known;
    int64_t target_revision;
} tn_wft_start;
void tn_tx_start_wft(tn_tx *tx, const tn_wft_start *start);
typedef struct tn_wft_failure {
    int32_t cause;
    const Temporal__Api__Failure__V1__Failure *failure; /* may be NULL */
    tn_str identity, checksum;
    tn_str base_run_id, new_run_id; /* of a reset */
} tn_wft_failure;
int64_t tn_tx_fail_wft_full(tn_tx *tx, const tn_wft_failure *failure);
void tn_tx_time_out_wft(tn_tx *tx, bool to_start);
bool tn_tx_accept_wft_token(tn_tx *tx, const Tenon__TaskToken *token);
void tn_tx_write_transient(tn_tx *tx, tn_str identity,
                           Temporal__Api__Common__V1__WorkerVersionStamp *version);

/* A speculative task's scheduled and started events enter the history: it is an ordinary one now. */
void tn_tx_write_speculative(tn_tx *tx, tn_str identity);
uint64_t tn_tx_wft_timeout_ns(const tn_tx *tx, int32_t attempt);

/* ---- update.c ---- */
bool tn_ms_updates_wait(const tn_ms *ms); /* some are admitted and not yet with a worker */
void tn_updates_destroy(tn_ms *ms);
void tn_updates_drop_unaccepted(tn_ms *ms); /* the run has closed */
void tn_tx_schedule_speculative(tn_tx *tx);
/* It ends without an event: rejected, or (NULL) its workflow task has failed. */
void tn_tx_end_update(tn_tx *tx, tn_str id, const Temporal__Api__Failure__V1__Failure *rejection);
const tn_fault *tn_updates_too_many(tn_tx *tx); /* NULL: one more may come */
/* The worker's task failed by what it answered: the updates that it was given end. */
void tn_tx_end_sent_updates(tn_tx *tx);
/* What no message spoke of although the worker was given it. */
void tn_tx_reject_unprocessed(tn_tx *tx);
tn_status tn_apply_update(tn_ms *ms, const tn_event *event, tn_error *err);
tn_status tn_update_load(tn_ms *ms, const Tenon__UpdateState *saved, tn_error *err);
void tn_updates_save(const tn_ms *ms, tn_arena *arena, Tenon__Snapshot *to);

/* An update that an event has admitted ends without another: the extras say so. */
void tn_update_note_ended(tn_ms *ms, tn_str id);

/* ---- reset_state.c: what a reset leaves in the states of both runs ---- */
void tn_reset_save(const tn_ms *ms, tn_arena *arena, Tenon__Extras *to);
void tn_reset_load(tn_ms *ms, const Tenon__Extras *from);
/* The run counts its time-outs from the reset on. */
void tn_reset_rebase(tn_ms *ms);
/* The same for an activity that the reset has found waiting. */
void tn_reset_reschedule(const tn_ms *ms, tn_activity *activity);
/* ---- moving.c: between versions of a worker deployment ---- */
/* False: the run moves to another version first, perhaps because of this worker; the activity is offered again then. */
bool tn_tx_activity_may_start(tn_tx *tx, const tn_poller *poller);
/* The run has another version, or keeps to it otherwise: what waits is for other workers. */
void tn_ms_offer_again(tn_ms *ms, bool workflow_task);

/* ---- wants.c ---- */
bool tn_ms_backoff_pending(const tn_ms *ms);
uint64_t tn_ms_wft_deadline_ns(const tn_ms *ms);

/* ---- persist.c ---- */
/* NULL: none */
Temporal__Api__Workflow__V1__ResetPoints *tn_ms_reset_points(const tn_ms *ms, tn_arena *arena);

/* ---- lifecycle.c ---- */
void tn_tx_time_out_run(tn_tx *tx, int32_t retry_state, const char *new_run_id);
/* whole seconds; UINT64_MAX: none */
uint64_t tn_cron_backoff_ns(const char *cron, uint64_t scheduled_ns, uint64_t now_ns);
Temporal__Api__Common__V1__Memo *tn_memo_without_nil(tn_arena *arena,
                                                     Temporal__Api__Common__V1__Memo *memo);
Temporal__Api__Common__V1__SearchAttributes *tn_attrs_without_nil(
    tn_arena *arena, Temporal__Api__Common__V1__SearchAttributes *attrs);
Temporal__Api__Common__V1__Payloads *tn_payloads_of_text(tn_arena *arena, tn_str text);
void tn_tx_terminate(tn_tx *tx, tn_str reason, const Temporal__Api__Common__V1__Payloads *details,
                     tn_str identity);
/* Closes the run with this event (its attributes are set): writes it, settles state.  */
void tn_tx_close(tn_tx *tx, tn_event *event);
/* After fail/time-out/complete: is there a retry or cron run to follow?  Makes tx->next_run and
 * sets *out_new_run_id (36 bytes + NUL) for the closing event; out_retry_state is set for
 * failures. */
bool tn_tx_next_by_retry_or_cron(tn_tx *tx, int32_t close_status,
                                 const Temporal__Api__Failure__V1__Failure *failure,
                                 const Temporal__Api__Common__V1__Payloads *result,
                                 char out_new_run_id[37], int32_t *out_retry_state);
/* Continue-as-new by command: makes tx->next_run. */
const tn_fault *tn_tx_next_by_command(
    tn_tx *tx,
    const Temporal__Api__Command__V1__ContinueAsNewWorkflowExecutionCommandAttributes *attrs,
    char out_new_run_id[37]);

/* ---- command.c ---- */
/* One workflow task's commands, in two steps, since a bad one must leave no trace of those before:
 *   tn_commands_check  before anything is written: says whether all may be done, and fills in what
 *                      they left to default (in the request, which is the transition's to change);
 *   tn_commands_apply  after the task's completed event was added: does them; cannot fail.
 * On a bad one the check returns false with cause and message (prefix included, e.g.
 * "BadScheduleActivityAttributes: ..."), the caller then fails the task; terminate: the run must be
 * terminated too, with the same message; fault: the call is answered with it and nothing at all is
 * written. */
/* A message of the worker about an update, as the check has understood it (update_message.c). */
typedef enum tn_update_word {
    TN_UPDATE_ACCEPTANCE = 1,
    TN_UPDATE_REJECTION,
    TN_UPDATE_RESPONSE,
    TN_UPDATE_TOO_LATE, /* the run closes before it */
} tn_update_word;
typedef struct tn_update_message {
    tn_update_word word;
    const void *body; /* unpacked */
    bool taken, done; /* by a command's check, by its effect */
    bool resurrects;  /* the update was lost; the message brings its request */
} tn_update_message;

typedef struct tn_command_run {
    tn_tx *tx;
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *request;
    /* id of the completed event (the check comes before it is added: as it will be) */
    int64_t wft_completed_id;
    /* in: new events wait: a closing command is UNHANDLED_COMMAND; out: still so */
    bool had_buffered;
    tn_wft_completed_out *out;
    /* out of the check */
    int32_t cause; /* WorkflowTaskFailedCause */
    tn_str message;
    bool terminate;
    const tn_fault *fault;
    tn_update_message *messages; /* one each of the request's */
    /* out of apply */
    bool wants_wft; /* an activity was cancelled before it started */
} tn_command_run;
bool tn_commands_check(tn_command_run *run) TN_WARN_UNUSED;
void tn_commands_apply(tn_command_run *run);
void tn_do_messages(tn_command_run *run); /* those not done by a command */

/* ---- activities, timers, children: parts of tn_machine_fire and of the fold ---- */
/* Paused, itself or with its run: no attempt of it goes out. */
static inline bool tn_activity_held(const tn_ms *ms, const tn_activity *activity)
{
    return activity->pause || ms->status == 8;
}
/* earliest; UINT64_MAX none */
uint64_t tn_activity_deadline_ns(const tn_activity *activity, int32_t *out_timeout_type);
/* Handles the activities' time-outs and user timers due at tx->now_ns; true when something
 * happened that the workflow must see (a workflow task is wanted). */
bool tn_fire_activities(tn_tx *tx);
bool tn_fire_timers(tn_tx *tx);
tn_status tn_apply_activity(tn_ms *ms, const tn_event *event, tn_blob packed, tn_error *err);
tn_status tn_apply_timer(tn_ms *ms, const tn_event *event, tn_error *err);
tn_status tn_apply_child(tn_ms *ms, const tn_event *event, tn_error *err);
tn_status tn_apply_external(tn_ms *ms, const tn_event *event, tn_error *err);
void tn_activity_destroy(tn_ms *ms, tn_activity *activity); /* unlinks, frees */
void tn_timer_info_destroy(tn_ms *ms, tn_timer_info *timer);
void tn_child_destroy(tn_ms *ms, tn_child *child);
void tn_external_destroy(tn_ms *ms, tn_external *external);
/* Persistence parts. */
Tenon__ActivityState *tn_activity_save(const tn_activity *activity, tn_arena *arena);
/* NULL: as scheduled */
Tenon__ActivityExtras *tn_activity_save_extras(const tn_activity *activity, tn_arena *arena);
tn_status tn_activity_load(tn_ms *ms, const Tenon__ActivityState *saved, tn_error *err);
/* absent ones: as scheduled */
void tn_activity_load_extras(tn_ms *ms, const Tenon__ActivityExtras *const *saved, size_t n);
tn_status tn_child_load(tn_ms *ms, const Tenon__ChildState *saved, tn_error *err);
tn_status tn_external_load(tn_ms *ms, const Tenon__ExternalState *saved, tn_error *err);
tn_status tn_timer_load(tn_ms *ms, const Tenon__TimerState *saved, tn_error *err);
void tn_describe_activities(
    const tn_ms *ms, tn_arena *arena, uint64_t now_ns,
    Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *out);
void tn_describe_children(
    const tn_ms *ms, tn_arena *arena,
    Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *out);

/* ---- memory accounted in ms->bytes ---- */
void *tn_ms_alloc(tn_ms *ms, size_t n); /* zeroed */
char *tn_ms_strdup(tn_ms *ms, tn_str s);
char *tn_ms_cstrdup(tn_ms *ms, const char *s); /* NULL stays NULL */
tn_blob tn_ms_blobdup(tn_ms *ms, tn_blob b);
void tn_ms_free(tn_ms *ms, void *p);
void tn_ms_free_blob(tn_ms *ms, tn_blob *b);
void tn_ms_replace_str(tn_ms *ms, char **slot, tn_str s); /* empty: NULL */
void tn_ms_replace_blob(tn_ms *ms, tn_blob *slot, tn_blob b);
void tn_retry_load(tn_ms *ms, tn_retry *out, const Temporal__Api__Common__V1__RetryPolicy *policy);
void tn_retry_clear(tn_ms *ms, tn_retry *retry);
/* empty payload: removes */
void tn_payload_map_put(tn_ms *ms, tn_payload_map *map, tn_str name, tn_blob payload);
const tn_named_payload *tn_payload_map_find(const tn_payload_map *map, tn_str name);

/* ---- apply.c ---- */
uint64_t tn_event_time_ns(const tn_event *event);
/* as an upsert: remove */
bool tn_payload_is_nil(const Temporal__Api__Common__V1__Payload *payload);
bool tn_event_well_formed(const tn_event *event); /* attributes fit the type */
void tn_ms_load_reset_points(tn_ms *ms, const Temporal__Api__Workflow__V1__ResetPoints *points);
void tn_ms_wft_lost(tn_ms *ms, bool counts); /* failed or timed out: attempt, stickiness */
void tn_ms_note_problem(tn_ms *ms, int32_t wft_failed_cause);
void tn_ms_attach_request_id(tn_ms *ms, tn_str id, int64_t event_id); /* 0: it has none yet */
void tn_put_json_text(tn_buf *out, const char *s);                    /* as between quotes */

/* ---- pause.c, options.c ---- */
#define TN_STATUS_PAUSED 8
#define TN_CAUSE_PAUSED \
    39 /* WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_PAUSE_REQUESTED_BEFORE_TASK_STARTED */
/* What events 58, 59 and 55 say; in force even while they wait in the buffer. */
void tn_ms_note_pause(tn_ms *ms, const tn_event *event);
void tn_ms_note_options(tn_ms *ms, const tn_event *event);
void tn_pause_set(tn_ms *ms, tn_pause **slot, uint64_t since_ns, const char *identity,
                  const char *reason, const char *request_id);
void tn_pause_clear(tn_ms *ms, tn_pause **slot);
Tenon__Pause *tn_pause_save(const tn_pause *pause, tn_arena *arena); /* NULL: none */
/* The list attribute that says what is paused; NULL: nothing is. */
Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry *tn_pause_attribute(
    const tn_ms *ms, tn_arena *arena);
/* A keyword list as a search attribute's payload. */
Temporal__Api__Common__V1__Payload *tn_keyword_list(tn_arena *arena, const tn_buf *json);
Temporal__Api__Common__V1__Priority *tn_ms_priority(const tn_ms *ms,
                                                    tn_arena *arena); /* NULL: none */

/* ---- state.c: for the fold, which alone sees what is `closing` ---- */
tn_activity *tn_ms_activity_any(const tn_ms *ms, int64_t scheduled_id);
tn_timer_info *tn_ms_timer_any(const tn_ms *ms, tn_str timer_id);
tn_child *tn_ms_child_any(const tn_ms *ms, int64_t initiated_id);
tn_external *tn_ms_external_any(const tn_ms *ms, int64_t initiated_id);
void tn_ms_clear_pending(tn_ms *ms);           /* activities, timers, buffered events */
void tn_ms_clear_wft(tn_ms *ms);               /* the attempt stays */
tn_reset_point *tn_reset_point_new(tn_ms *ms); /* at the end, empty */
void tn_ms_note_signal(tn_ms *ms, tn_str request_id);
void tn_reset_point_clear(tn_ms *ms, tn_reset_point *point);

/* ---- object.c -------------------------------------------------------------------------------- */
tn_status tn_object_load(tn_ms *ms, char letter, tn_blob packed, tn_error *err) TN_WARN_UNUSED;
uint64_t tn_object_wake_ns(const tn_ms *ms); /* of an open one */

#endif
