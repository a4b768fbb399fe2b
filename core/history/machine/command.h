/* SPDX-License-Identifier: MIT */
/* Private to the machine: how the checks of commands share what the commands before them would have
 * done.
 *
 * A check changes nothing but the request (defaults are filled in) and its own picture of the run:
 * which activities, timers and children there would be, which event id comes next. */
#ifndef TN_HISTORY_MACHINE_COMMAND_H
#define TN_HISTORY_MACHINE_COMMAND_H

#include "history/machine/parts.h"

/* temporal.api.enums.v1.WorkflowTaskFailedCause */
#define TN_CAUSE_UNHANDLED_COMMAND 1
#define TN_CAUSE_SCHEDULE_ACTIVITY 2
#define TN_CAUSE_REQUEST_CANCEL_ACTIVITY 3
#define TN_CAUSE_START_TIMER 4
#define TN_CAUSE_CANCEL_TIMER 5
#define TN_CAUSE_RECORD_MARKER 6
#define TN_CAUSE_COMPLETE 7
#define TN_CAUSE_FAIL 8
#define TN_CAUSE_CANCEL 9
#define TN_CAUSE_REQUEST_CANCEL_EXTERNAL 10
#define TN_CAUSE_CONTINUE_AS_NEW 11
#define TN_CAUSE_START_TIMER_DUPLICATE_ID 12
#define TN_CAUSE_SIGNAL_EXTERNAL 15
#define TN_CAUSE_START_CHILD 16
#define TN_CAUSE_SCHEDULE_ACTIVITY_DUPLICATE_ID 22
#define TN_CAUSE_SEARCH_ATTRIBUTES 23
#define TN_CAUSE_MODIFY_PROPERTIES 25
#define TN_CAUSE_PENDING_CHILDREN 26
#define TN_CAUSE_PENDING_ACTIVITIES 27
#define TN_CAUSE_PENDING_SIGNALS 28
#define TN_CAUSE_PENDING_REQUEST_CANCEL 29
#define TN_CAUSE_UPDATE_MESSAGE 30
#define TN_CAUSE_SCHEDULE_NEXUS 32
#define TN_CAUSE_PENDING_NEXUS 33
#define TN_CAUSE_REQUEST_CANCEL_NEXUS 34

typedef Temporal__Api__Command__V1__Command tn_command;

typedef struct tn_check {
    tn_command_run *run;
    tn_tx *tx;
    tn_ms *ms;
    tn_arena *arena;
    const tn_machine_limits *limits;
    int64_t next_id; /* of the event that the command being checked would write */
    size_t n_activities, n_children, n_signals, n_cancels, n_buffered;
    /* Filled from the state when first asked; entries live in the arena. */
    bool know_activities, know_timers, know_memo, know_search_attributes;
    tn_list updates; /* update_message.c */
    tn_map activities, activity_ids, timers, children, memo, search_attributes;
    int64_t memo_bytes, search_attributes_bytes; /* on the wire */
    int64_t *nexus_new, *nexus_gone; /* operations: scheduled, asked to be cancelled by this task */
    size_t n_nexus_new, n_nexus_gone;
} tn_check;

/* Both return false: the task fails (doom: the run is terminated, too) with "<Cause>: <text>". */
bool tn_check_bad(tn_check *check, int32_t cause, const char *fmt, ...) TN_PRINTF(3, 4);
bool tn_check_doom(tn_check *check, int32_t cause, const char *fmt, ...) TN_PRINTF(3, 4);
/* False: new events wait, the run may not close over them. */
bool tn_check_may_close(tn_check *check);
/* False: longer than a blob may be; the run is doomed with that text. */
bool tn_check_blob(tn_check *check, int32_t cause, size_t bytes, const char *text);
bool tn_check_limit(tn_check *check, int32_t cause, size_t pending, int64_t limit,
                    const char *what);
size_t tn_msg_bytes(const void *msg); /* packed size; NULL: 0 */

/* ---- command_attrs.c, command_close.c: for all commands that start runs ---------------------- */
bool tn_check_memo(tn_check *check, int32_t cause, int64_t bytes, const char *text);
/* May they be set in that namespace?  NULL: yes. */
const tn_fault *tn_check_search_attributes(tn_check *check, tn_str ns_id,
                                           Temporal__Api__Common__V1__SearchAttributes *attrs);
/* bytes: of all that the run would have. */
bool tn_check_search_attribute_sizes(tn_check *check, int32_t cause,
                                     const Temporal__Api__Common__V1__SearchAttributes *attrs,
                                     int64_t bytes);
/* A run's time-out within that of its execution; a workflow task's within that of its run. */
Google__Protobuf__Duration *tn_run_timeout_settle(tn_arena *arena, uint64_t run_ns,
                                                  uint64_t execution_ns);
Google__Protobuf__Duration *tn_wft_timeout_settle(tn_arena *arena, const tn_machine_limits *limits,
                                                  uint64_t task_ns, uint64_t run_ns);

/* ---- command_names.c ---- */
/* "BadScheduleActivityAttributes"; the number when the enum has no such value. */
const char *tn_enum_name(tn_arena *arena, const ProtobufCEnumDescriptor *descriptor, int32_t value);
const char *tn_cause_name(tn_arena *arena, int32_t cause);
/* Checks and completes a task queue; NULL, or what is wrong with it. */
const char *tn_task_queue_settle(tn_arena *arena, Temporal__Api__Taskqueue__V1__TaskQueue *queue,
                                 const char *default_name, const char *parent_queue,
                                 int64_t id_bytes_max);
const char *tn_task_queue_text(tn_arena *arena,
                               const Temporal__Api__Taskqueue__V1__TaskQueue *queue);
const char *tn_priority_check(const Temporal__Api__Common__V1__Priority *priority);

/* ---- update_message.c ---- */
bool tn_check_protocol_message(tn_check *check, const tn_command *command);
/* Those that no command has named; closing: a command has closed the run. */
bool tn_check_messages(tn_check *check, bool closing);
void tn_do_protocol_message(tn_command_run *run, const tn_command *command);

/* ---- the checks: one a command ---- */
bool tn_check_schedule_activity(tn_check *check, const tn_command *command);
bool tn_check_request_cancel_activity(tn_check *check, const tn_command *command);
bool tn_check_start_timer(tn_check *check, const tn_command *command);
bool tn_check_cancel_timer(tn_check *check, const tn_command *command);
bool tn_check_record_marker(tn_check *check, const tn_command *command);
bool tn_check_complete(tn_check *check, const tn_command *command);
bool tn_check_fail(tn_check *check, const tn_command *command);
bool tn_check_cancel(tn_check *check, const tn_command *command);
bool tn_check_continue_as_new(tn_check *check, const tn_command *command);
bool tn_check_start_child(tn_check *check, const tn_command *command);
bool tn_check_signal_external(tn_check *check, const tn_command *command);
bool tn_check_request_cancel_external(tn_check *check, const tn_command *command);
bool tn_check_upsert_search_attributes(tn_check *check, const tn_command *command);
bool tn_check_modify_properties(tn_check *check, const tn_command *command);
bool tn_check_schedule_nexus(tn_check *check, const tn_command *command);
bool tn_check_request_cancel_nexus(tn_check *check, const tn_command *command);

/* ---- the effects: after all checks ---- */
void tn_do_schedule_activity(tn_command_run *run, const tn_command *command);
void tn_do_request_cancel_activity(tn_command_run *run, const tn_command *command);
void tn_do_start_timer(tn_command_run *run, const tn_command *command);
void tn_do_cancel_timer(tn_command_run *run, const tn_command *command);
void tn_do_record_marker(tn_command_run *run, const tn_command *command);
void tn_do_complete(tn_command_run *run, const tn_command *command);
void tn_do_fail(tn_command_run *run, const tn_command *command);
void tn_do_cancel(tn_command_run *run, const tn_command *command);
void tn_do_continue_as_new(tn_command_run *run, const tn_command *command);
void tn_do_start_child(tn_command_run *run, const tn_command *command);
void tn_do_signal_external(tn_command_run *run, const tn_command *command);
void tn_do_request_cancel_external(tn_command_run *run, const tn_command *command);
void tn_do_upsert_search_attributes(tn_command_run *run, const tn_command *command);
void tn_do_modify_properties(tn_command_run *run, const tn_command *command);
void tn_do_schedule_nexus(tn_command_run *run, const tn_command *command);
void tn_do_request_cancel_nexus(tn_command_run *run, const tn_command *command);

/* An event of a command: with the command's metadata. */
tn_event *tn_command_event(tn_command_run *run, const tn_command *command, int32_t event_type);

#endif
