/* SPDX-License-Identifier: MIT */
/* The mutable state of one run: what the server must know of it to take the next decision.
 *
 * It is a fold of the run's history.  Every event goes through tn_ms_apply, in live operation and
 * when a run is loaded again; what no event carries (attempts, heartbeats, buffered events,
 * stickiness ...: the "extras") is written beside the events of the transition that changed it.
 * Two parts of one rule:
 *   - apply is the only writer of event-derived state;
 *   - whoever changes an extra outside apply sets tx->extras_dirty.
 * A test folds every history it makes and compares.
 *
 * Memory: objects on the heap, accounted in ms->bytes, freed with the state.  One owner: the
 * shard's loop. */
#ifndef TN_HISTORY_MACHINE_STATE_H
#define TN_HISTORY_MACHINE_STATE_H

#include <protobuf-c/protobuf-c.h>

#include "base/base.h"
#include "temporal/api/history/v1/message.pb-c.h"
#include "tenon/store.pb-c.h"

typedef Temporal__Api__History__V1__HistoryEvent tn_event;
typedef Temporal__Api__History__V1__WorkflowExecutionStartedEventAttributes tn_started_attrs;

/* A retry policy with defaults filled in; attempts 0: unlimited. */
typedef struct tn_retry {
    bool present;
    uint64_t initial_ns, max_ns; /* max 0: none */
    double coefficient;
    int32_t max_attempts;
    char **non_retryable; /* NULL-terminated heap array, may be NULL */
} tn_retry;

typedef struct tn_wft {
    int64_t scheduled_id; /* 0: none pending.  Transient: the id it would have (next_event_id) */
    int64_t started_id;   /* 0: waits */
    int32_t attempt;      /* from 1 */
    bool transient;       /* attempt > 1: its events are written only when it completes */
    /* Memory only, and then `transient` is set too: a first attempt that carries updates.  It is
     * written before anything else of the run is; one whose updates are all rejected leaves no
     * trace (update.c). */
    bool speculative;
    bool sticky;          /* is to be offered on the sticky queue */
    bool started_durable; /* memory only: the start has been part of a commit (or was loaded) */
    bool dispatched;      /* memory only: matching has been told */
    uint64_t stamp;       /* memory only: of the last dispatch; rises */
    uint64_t scheduled_ns, original_scheduled_ns, started_ns, timeout_ns;
    /* which of two hand-outs a token belongs to: the start's time, which its event keeps */
    uint64_t nonce;
    char *request_id, *identity;
    bool suggest_continue_as_new;
    int32_t suggest_reasons[4];
    size_t n_suggest_reasons;
    int64_t history_size_bytes; /* as told in the started event */
    bool target_changed;        /* memory only: likewise */
    bool scheduled_sticky; /* scheduled for the sticky queue (`sticky`: is offered there still) */
    size_t started_event_bytes;    /* memory only: size of a started event that can be taken back */
    uint64_t last_event_before_ns; /* memory only: last_event_ns without it */
} tn_wft;

/* Who has paused a run or an activity. */
typedef struct tn_pause {
    uint64_t since_ns;
    char *identity, *reason, *request_id;
} tn_pause;

typedef struct tn_activity {
    tn_list link; /* ms->activities, by scheduled id */
    int64_t scheduled_id;
    uint64_t scheduled_ns;
    tn_blob attrs; /* owned: packed ActivityTaskScheduledEventAttributes */
    char *activity_id, *type, *task_queue;
    /* 0: none */
    uint64_t schedule_to_close_ns, schedule_to_start_ns, start_to_close_ns, heartbeat_ns;
    tn_retry retry;
    int64_t cancel_requested_id; /* event id, 0: not asked */
    /* event id when the started event is in the history (no retry policy), else 0 or
     * TN_ID_TRANSIENT */
    int64_t started_id;
    /* extras */
    int32_t attempt;               /* from 1 */
    uint64_t attempt_scheduled_ns; /* this attempt may go out from here */
    uint64_t started_ns;           /* 0: waits for a worker */
    uint64_t nonce;
    char *identity, *request_id, *last_worker_identity;
    tn_blob last_failure, heartbeat_details, worker_version; /* owned, packed */
    bool has_heartbeat;
    uint64_t heartbeat_at_ns; /* last one, wall */
    uint64_t last_attempt_complete_ns, retry_interval_ns, expire_ns, first_scheduled_ns;
    tn_pause *pause;       /* NULL: not paused */
    bool reset;            /* by an operator, while this attempt was running */
    bool reset_heartbeats; /* the next attempt begins without heartbeat details */
    tn_blob options;       /* owned, packed ActivityOptions, when they are others than scheduled */
    /* memory only */
    bool closing; /* its closing event waits in the buffer: gone for everybody but the fold */
    bool started_durable, dispatched;
    uint64_t stamp;
    uint64_t heartbeat_durable_ns; /* when a heartbeat last asked for a commit */
    uint64_t owned_since_ns; /* heartbeats before this may have been lost with the last owner */
} tn_activity;

typedef struct tn_timer_info {
    tn_list link;
    char *timer_id;
    int64_t started_id;
    uint64_t fire_ns;             /* wall */
    bool closing;                 /* memory only: TIMER_FIRED waits in the buffer */
    struct tn_timer_entry *entry; /* memory only: in the index, when there is one */
} tn_timer_info;

typedef struct tn_child {
    tn_list link;
    int64_t initiated_id;
    tn_blob attrs; /* owned: packed StartChildWorkflowExecutionInitiatedEventAttributes */
    char *workflow_id, *type, *ns_name, *ns_id, *run_id;
    int64_t started_id;
    int32_t parent_close_policy;
    char request_id[64]; /* run id and initiated id: the same after a crash */
    bool asked;          /* memory only: of a reset run: whether it has ended already */
    int lookups;  /* memory only: of a reset run: how many earlier runs have not started it */
    bool closing; /* memory only: its closing event (or START_FAILED) waits in the buffer */
    bool started_buffered; /* memory only: CHILD_STARTED waits in the buffer, run_id is set */
    bool dispatched;       /* memory only */
    bool settled;          /* memory only: parent close policy was applied to it */
} tn_child;

typedef struct tn_external { /* a signal or cancel request on its way to another run */
    tn_list link;
    int64_t initiated_id;
    bool is_signal;
    tn_blob attrs; /* owned, packed initiated attributes */
    char request_id[37];
    bool closing, dispatched; /* memory only */
} tn_external;

/* An update, by its id.  Until it is accepted only memory knows it; its request is then in the
 * history, and later its outcome. */
typedef enum tn_update_stage {
    TN_UPDATE_ADMITTED = 1, /* waits for a workflow task */
    TN_UPDATE_SENT,         /* is with a worker */
    TN_UPDATE_ACCEPTED,
    TN_UPDATE_COMPLETED,
} tn_update_stage;
typedef struct tn_update {
    tn_list link; /* ms->updates->list */
    char *id;
    tn_update_stage stage;
    tn_blob request;     /* owned, packed temporal.api.update.v1.Request; until it is accepted */
    int64_t admitted_id; /* a reset has taken it over: 0: no event says so */
    int64_t accepted_id, completed_id; /* event ids */
} tn_update;
typedef struct tn_updates {
    tn_list list; /* in order of admission */
    size_t count, in_flight, in_flight_bytes;
} tn_updates;

typedef struct tn_buffered {
    tn_list link;
    int32_t event_type;
    tn_blob event;    /* owned, packed, event_id 0 */
    char *request_id; /* of a signal */
} tn_buffered;

typedef struct tn_named_payload {
    char *name;
    tn_blob payload; /* owned, packed temporal.api.common.v1.Payload */
} tn_named_payload;
typedef struct tn_payload_map {
    tn_named_payload *items; /* sorted by name */
    size_t count, cap;
} tn_payload_map;

typedef struct tn_reset_point {
    char *checksum, *build_id, *run_id; /* NULL: empty */
    int64_t wft_completed_id;
    uint64_t created_ns, expire_ns; /* expire 0: none */
    bool resettable;
} tn_reset_point;

#define TN_RESETTER "history-resetter" /* the identity that terminates a run for a reset */
#define TN_RESET_POINTS_MAX 20
#define TN_SIGNAL_REQUEST_IDS_MAX 25
#define TN_ID_BUFFERED (-123)  /* an event that waits in the buffer has no id yet */
#define TN_ID_TRANSIENT (-124) /* an activity start that is not an event */

typedef struct tn_ms {
    const struct tn_object_kind *kind; /* NULL: a workflow's run; else an object (object.h) ... */
    void *object;                      /* ... and its state */
    /* who */
    uint8_t run_id[16];
    char run_id_text[37], first_run_id[37];
    char original_run_id[37]; /* of the run that began the history: another one's after a reset */
    char *ns_id, *workflow_id;
    /* from the started event */
    tn_blob started; /* owned, packed WorkflowExecutionStartedEventAttributes */
    /* owned, packed HistoryEvent with the started event's links and user metadata; may be empty */
    tn_blob start_extra;
    char *type, *task_queue, *cron_schedule, *create_request_id, *identity;
    uint64_t start_ns;
    uint64_t wft_timeout_ns, run_timeout_ns, execution_timeout_ns; /* 0: none */
    uint64_t run_expire_ns, execution_expire_ns;                   /* wall, 0: never */
    /* cron, retry, delay: no workflow task before; 0: none or over */
    uint64_t first_wft_backoff_until_ns;
    int32_t attempt;
    tn_retry retry;
    struct {
        char *ns_id, *ns_name, *workflow_id, *run_id; /* NULL: no parent */
        int64_t initiated_id;
        char *root_workflow_id, *root_run_id;
    } parent;
    /* progress */
    int32_t status;        /* temporal.api.enums.v1.WorkflowExecutionStatus */
    int64_t next_event_id; /* of the history as seen in memory (uncommitted start included) */
    uint64_t transition;   /* committed + pending ones; also the visibility version */
    int64_t history_size_bytes;
    uint64_t last_event_ns; /* event_time never decreases */
    tn_wft wft;
    int64_t last_completed_started_id; /* previous_started_event_id of the next poll */
    int64_t last_completed_wft_id;
    int64_t first_wft_scheduled_id;
    tn_list activities, timers, children, externals, buffered;
    struct tn_timer_index *timer_index; /* memory only: NULL while timers are few */
    size_t n_activities, n_timers, n_children, n_signal_externals, n_cancel_externals, n_buffered;
    size_t buffered_bytes;
    tn_updates *updates; /* NULL: never had one */
    struct tn_nexus
        *nexus; /* nexus.h; NULL: never had a completion callback or a Nexus operation */
    tn_payload_map memo, search_attributes;
    tn_reset_point *reset_points; /* oldest first, of earlier runs of the chain too */
    size_t n_reset_points, cap_reset_points;
    int64_t cancel_requested_id; /* 0: no; TN_ID_BUFFERED: asked, the event waits in the buffer */
    char *cancel_request_id;
    tn_pause *pause;  /* status 8: by whom; an event that waits in the buffer counts */
    tn_blob priority; /* owned, packed, when it is another than at the start; likewise */
    int64_t signal_count;
    /* the latest, oldest first; room for TN_SIGNAL_REQUEST_IDS_MAX or NULL */
    char **signal_request_ids;
    size_t n_signal_request_ids;
    /* close */
    uint64_t close_ns;
    int64_t close_event_id, close_batch_first_id;
    tn_blob close_event; /* owned, packed HistoryEvent */
    char *new_run_id;
    uint64_t retention_due_ns;
    bool skip_close_policy; /* terminated by a reset */
    /* extras */
    char *sticky_queue;
    uint64_t sticky_timeout_ns;
    bool held; /* a child not yet recorded by its parent */
    bool parent_told, children_settled;
    /* The object that started this chain: told like a parent, once (object.h); NULL: none. */
    char *owner, *owner_run_id;
    uint64_t owner_ref;
    char **attached_request_ids;
    int64_t *attached_event_ids; /* one each; 0: the event waits in the buffer */
    size_t n_attached_request_ids;
    char *sdk_name, *sdk_version;
    int32_t problem_count; /* workflow tasks that failed or timed out in a row */
    char *problem_cause;
    char *last_build_id; /* of the worker of the last completed workflow task */
    struct {
        char *base_run_id; /* NULL: no reset made this run */
        char *request_id;
        int64_t base_event_id; /* the last one in common */
        uint64_t at_ns;
    } reset;
    char *reset_run_id;   /* that the last reset of this run has made */
    char **ended_updates; /* admitted by an event, ended without one */
    size_t n_ended_updates;
    struct tn_run_versioning *versioning; /* versioning.h; NULL: its workers never were versioned */
    /* memory only */
    bool parent_dispatched; /* CHILD_STARTED or CHILD_CLOSED is on its way */
    bool close_attempted;   /* the last workflow task wanted to close but there were new events */
    /* an extra was changed in memory only: the next record will carry extras */
    bool extras_stale;
    uint64_t next_stamp;
    size_t bytes; /* heap memory, about */
} tn_ms;

tn_ms *tn_ms_create(tn_str ns_id, tn_str workflow_id, const uint8_t run_id[16]);
void tn_ms_destroy(tn_ms *ms); /* NULL allowed */
/* The request id that made this run (kept in the current-run row, not in the history). */
void tn_ms_set_create_request_id(tn_ms *ms, tn_str request_id);

/* Folds one event (unpacked, and its packed bytes).  Total: an event that makes no sense in this
 * state is TN_EDATALOSS with the reason, never a crash. */
tn_status tn_ms_apply(tn_ms *ms, const tn_event *event, tn_blob packed,
                      tn_error *err) TN_WARN_UNUSED;

/* Records and snapshots. */
tn_status tn_ms_load_record(tn_ms *ms, const Tenon__Record *record, tn_error *err) TN_WARN_UNUSED;
tn_ms *tn_ms_load_snapshot(const Tenon__Snapshot *snapshot, tn_error *err);
Tenon__Extras *tn_ms_extras(const tn_ms *ms, tn_arena *arena);
/* Attempts of activities that go on, with their heartbeats, of which the store may not know (empty: there are none);
 * and laying them over the state that was read again.  True: the state knows more than the store now. */
tn_blob tn_ms_unwritten(const tn_ms *ms, tn_arena *arena);
bool tn_ms_recall(tn_ms *ms, tn_blob unwritten) TN_WARN_UNUSED;
Tenon__Snapshot *tn_ms_snapshot(const tn_ms *ms, tn_arena *arena);

static inline bool tn_ms_running(const tn_ms *ms)
{
    return ms->status == 1 || ms->status == 0 || ms->status == 8;
}
static inline bool tn_ms_wft_pending(const tn_ms *ms) { return ms->wft.scheduled_id != 0; }
static inline bool tn_ms_wft_started(const tn_ms *ms) { return ms->wft.started_id != 0; }

/* These don't see what is `closing`. */
tn_activity *tn_ms_activity(const tn_ms *ms, int64_t scheduled_id);
tn_activity *tn_ms_activity_by_id(const tn_ms *ms, tn_str activity_id);
tn_timer_info *tn_ms_timer(const tn_ms *ms, tn_str timer_id);
tn_child *tn_ms_child(const tn_ms *ms, int64_t initiated_id);
tn_external *tn_ms_external(const tn_ms *ms, int64_t initiated_id);
tn_update *tn_ms_update(const tn_ms *ms, tn_str id); /* NULL: unknown, or rejected */

/* When the run is said to have begun: with the reset that made it. */
uint64_t tn_ms_shown_start_ns(const tn_ms *ms);

/* The shard is ours since then: what was only in the last owner's memory (heartbeats) is lost,
 * so that heartbeat time-outs count from here.  After each load; takes the same time every time. */
void tn_ms_set_owned_since(tn_ms *ms, uint64_t since_ns);

/* ---- what the run wants ---- */
typedef enum tn_want {
    TN_WANT_WFT,                 /* hand the workflow task to matching */
    TN_WANT_ACTIVITY,            /* activity attempt to matching */
    TN_WANT_CHILD_START,         /* START of child */
    TN_WANT_SIGNAL,              /* external signal */
    TN_WANT_CANCEL,              /* external cancel request */
    TN_WANT_TELL_PARENT_STARTED, /* held child: CHILD_STARTED to the parent */
    TN_WANT_TELL_PARENT_CLOSED,  /* CHILD_CLOSED to the parent */
    TN_WANT_SETTLE_CHILD,        /* parent close policy on one child */
    TN_WANT_OBJECT,              /* of an object: item is its tn_object_want */
    TN_WANT_NEXUS_START,         /* request to start a Nexus operation: tn_nexus_op */
    TN_WANT_NEXUS_CANCEL,        /* ... to cancel it */
    TN_WANT_CALLBACK,            /* completion callback of a closed run: tn_callback */
} tn_want;
/* Calls `each` for every item that is ready at now and not marked dispatched; item is the
 * tn_activity, tn_child, tn_external or NULL.  The callee marks it dispatched. */
void tn_ms_wants(tn_ms *ms, uint64_t now_ns, void (*each)(void *user, tn_want want, void *item),
                 void *user);
/* Wall time at which tn_machine_fire has something to do (memory deadlines included);
 * UINT64_MAX: never. */
uint64_t tn_ms_deadline_ns(const tn_ms *ms);
/* What the wake index must say: 0 while something would have to be handed out or told after a
 * restart, else the earliest durable deadline, else (closed) when retention ends; UINT64_MAX:
 * nothing. */
uint64_t tn_ms_wake_ns(const tn_ms *ms);

#endif
