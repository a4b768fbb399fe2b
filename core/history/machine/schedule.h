/* SPDX-License-Identifier: MIT */
/* Schedules: objects that start workflows at times that their specification says.
 *
 * An action is written down (with the id of the run it will start and a request id that follows from its number) in
 * the commit that decides it, then done; its start is repeated until its answer is recorded, and an answer that comes
 * twice finds it done.  The run it starts has the schedule as its owner, and tells it when its chain ends. */
#ifndef TN_HISTORY_MACHINE_SCHEDULE_H
#define TN_HISTORY_MACHINE_SCHEDULE_H

#include "history/machine/object.h"
#include "history/machine/schedule_spec.h"

extern const tn_object_kind tn_schedule_kind;

#define TN_SCHEDULE_DIVISION "TemporalScheduler"
#define TN_SCHEDULE_LISTED_AS \
    "temporal-sys-scheduler:" /* in front of its id, in what clients are told and in limits */
#define TN_SCHEDULE_MEMO "ScheduleInfo"

#define TN_SCHEDULE_BUFFER_MAX 1000
#define TN_SCHEDULE_RECENT 10
#define TN_SCHEDULE_RECENT_LISTED 5

typedef enum tn_schedule_stage {
    TN_ACTION_BUFFERED = 1,
    TN_ACTION_STARTING,
    TN_ACTION_RUNNING,
    TN_ACTION_CLOSED,
} tn_schedule_stage;

/* What a schedule wants; the id of the want is the action's. */
typedef enum tn_schedule_want {
    TN_SCHEDULE_START = 1,
    TN_SCHEDULE_CANCEL,
    TN_SCHEDULE_TERMINATE,
} tn_schedule_want;

typedef struct tn_schedule_action {
    tn_list link; /* schedule->actions, in order of their ids */
    uint64_t id;
    tn_schedule_stage stage;
    int64_t nominal_ns, at_ns;
    int32_t overlap;
    bool manual, tracked;
    int64_t give_up_ns;
    char *workflow_id, *run_id; /* NULL: not known yet */
    int64_t started_ns;
    int32_t status, ending;
    bool asked;
    tn_object_want want;
} tn_schedule_action;

typedef struct tn_schedule_backfill {
    tn_list link;
    int64_t from_ns, to_ns;
    int32_t overlap;
} tn_schedule_backfill;

#define TN_SCHEDULE_REQUEST_IDS 25

typedef struct tn_schedule {
    Temporal__Api__Schedule__V1__Schedule *schedule; /* no part of it is NULL */
    tn_arena *arena;                                 /* of ->schedule and ->times */
    size_t arena_bytes;                              /* accounted in ms->bytes */
    const tn_schedule_times *times;                  /* NULL: not made yet (or the zone is gone) */
    bool times_known, next_known;
    int64_t next_ns; /* when next_known: the next moment; INT64_MAX: none */
    int64_t action_count, missed, skipped, dropped;
    int64_t created_ns, updated_ns, processed_ns, backfill_ns;
    int64_t conflict_token;
    uint64_t last_id;
    tn_list actions, backfills;
    size_t n_actions, n_buffered, n_backfills;
    tn_blob last_result, last_failure;
    char *request_ids[TN_SCHEDULE_REQUEST_IDS]; /* of updates and patches, oldest first */
    size_t n_request_ids;
    char *seed; /* of its jitter */
} tn_schedule;

static inline tn_schedule *tn_schedule_of(const tn_ms *ms) { return ms->object; }
tn_schedule_action *tn_schedule_action_by_id(const tn_schedule *s, uint64_t id);
tn_str tn_schedule_id(const tn_ms *ms);

/* ---- schedule.c: the state ---- */
tn_schedule *tn_schedule_new(tn_ms *ms);
/* Takes a copy of a (settled) schedule and fills in what is missing. */
void tn_schedule_set(tn_ms *ms, const Temporal__Api__Schedule__V1__Schedule *schedule);
void tn_schedule_set_notes(tn_ms *ms, const char *notes);
tn_schedule_action *tn_schedule_add_action(tn_ms *ms);
void tn_schedule_drop_action(tn_ms *ms, tn_schedule_action *action);
void tn_schedule_add_backfill(tn_ms *ms, int64_t from_ns, int64_t to_ns, int32_t overlap);
void tn_schedule_drop_backfill(tn_ms *ms, tn_schedule_backfill *backfill);
bool tn_schedule_knows_request(const tn_schedule *s, const char *request_id);
void tn_schedule_note_request(tn_ms *ms, const char *request_id);
const tn_schedule_times *tn_schedule_times_of(tn_schedule *s); /* NULL: none (any more) */
/* Next moment after one; false: none. */
bool tn_schedule_next_after(tn_schedule *s, int64_t after_ns, int64_t *out_nominal_ns,
                            int64_t *out_ns);
int64_t tn_schedule_catchup_ns(const tn_schedule *s);

/* ---- schedule_act.c: decisions ---- */
void tn_schedule_add_start(tn_ms *ms, int64_t nominal_ns, int64_t at_ns, int32_t overlap,
                           bool manual);
/* Takes the moments that have passed; then what is buffered is started as the policies say. */
void tn_schedule_take_time(tn_tx *tx);
void tn_schedule_proceed(tn_tx *tx);
uint64_t tn_schedule_deadline_ns(const tn_ms *ms);
void tn_schedule_fire(tn_tx *tx);
void tn_schedule_wants(tn_ms *ms, uint64_t now_ns,
                       void (*each)(void *user, tn_want want, void *item), void *user);
bool tn_schedule_has_wants(const tn_ms *ms);
void tn_schedule_result(tn_tx *tx, const tn_object_result *result);
void tn_schedule_owned_closed(tn_tx *tx, uint64_t ref, tn_str workflow_id, tn_str first_run_id,
                              const tn_event *event);
bool tn_schedule_may_act(const tn_schedule *s, bool manual);

/* ---- schedule_call.c: requests, and what is shown ---- */
bool tn_schedule_creates(const ProtobufCMessage *request);
tn_object_meet tn_schedule_meets(const tn_ms *there, const ProtobufCMessage *request,
                                 tn_object_reply *reply, const tn_fault **out_fault);
const tn_fault *tn_schedule_create(tn_tx *tx, const ProtobufCMessage *request,
                                   tn_object_reply *reply);
const tn_fault *tn_schedule_call(tn_tx *tx, const ProtobufCMessage *request,
                                 tn_object_reply *reply);
const tn_fault *tn_schedule_not_found(tn_arena *arena, tn_str id, tn_str run_id);
void tn_schedule_listing(const tn_ms *ms, tn_arena *arena, tn_object_listing *inout);

/* ---- schedule_start.c: for the rim ---- */
/* The request that starts an action's run, with a request id that is the same every time. */
Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *tn_schedule_start_request(
    const tn_ms *ms, const tn_schedule_action *action, tn_str ns_name, tn_arena *arena);
char *tn_schedule_identity(const tn_ms *ms, tn_str ns_name, tn_arena *arena);
/* "order-2026-08-21T10:00:00Z" */
char *tn_schedule_workflow_id(tn_arena *arena, const char *base, int64_t nominal_ns);

#endif
