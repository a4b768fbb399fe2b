/* SPDX-License-Identifier: MIT */
/* Commands about timers, and markers. */
#include <string.h>

#include "history/machine/command.h"
#include "proto/proto.h"

#define ATTRS_CASE(UPPER) \
    TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_##UPPER##_COMMAND_ATTRIBUTES

/* ---- the picture of timers ------------------------------------------------------------------- */

typedef struct known_timer {
    tn_map_link link;
    bool pending;
    bool fired; /* one of that id has fired, and that waits in the buffer */
} known_timer;

static known_timer *find_timer(tn_check *check, const char *timer_id)
{
    tn_map_link *link = tn_map_find(&check->timers, tn_blob_of_str(tn_str_from(timer_id)));

    return link ? TN_CONTAINER_OF(link, known_timer, link) : NULL;
}

static known_timer *know_timer(tn_check *check, const char *timer_id)
{
    known_timer *known = find_timer(check, timer_id);

    if (!known) {
        known = tn_tx_alloc(check->tx, sizeof(*known));
        tn_map_insert(&check->timers, &known->link, tn_blob_of_str(tn_str_from(timer_id)));
    }
    return known;
}

static void know_timers(tn_check *check)
{
    if (check->know_timers)
        return;
    check->know_timers = true;
    TN_LIST_FOREACH (link, &check->ms->timers) {
        const tn_timer_info *timer = TN_CONTAINER_OF(link, tn_timer_info, link);
        known_timer *known = know_timer(check, timer->timer_id);

        *(timer->closing ? &known->fired : &known->pending) = true;
    }
}

static bool check_id(tn_check *check, int32_t cause, const char *what, const char *command,
                     const char *id)
{
    if (!*id)
        return tn_check_bad(check, cause, "%s is not set on %s.", what, command);
    if ((int64_t)strlen(id) > check->limits->id_bytes_max)
        return tn_check_bad(check, cause,
                            "%s on %s exceeds length limit. %s=%s Length=%zu Limit=%lld", what,
                            command, what, id, strlen(id), (long long)check->limits->id_bytes_max);
    return true;
}

/* ---- start ----------------------------------------------------------------------------------- */

bool tn_check_start_timer(tn_check *check, const tn_command *command)
{
    const Temporal__Api__Command__V1__StartTimerCommandAttributes *attrs;
    const known_timer *known;
    const char *text;

    if (command->attributes_case != ATTRS_CASE(START_TIMER))
        return tn_check_bad(check, TN_CAUSE_START_TIMER,
                            "StartTimerCommandAttributes is not set on StartTimerCommand.");
    attrs = command->start_timer_command_attributes;
    if (!check_id(check, TN_CAUSE_START_TIMER, "TimerId", "StartTimerCommand", attrs->timer_id))
        return false;
    if ((text = tn_duration_settle(attrs->start_to_fire_timeout)))
        return tn_check_bad(
            check, TN_CAUSE_START_TIMER,
            "An invalid StartToFireTimeout is set on StartTimerCommand: %s. TimerId=%s", text,
            attrs->timer_id);
    know_timers(check);
    known = find_timer(check, attrs->timer_id);
    if (known && known->pending)
        return tn_check_bad(
            check, TN_CAUSE_START_TIMER_DUPLICATE_ID,
            "invalid history builder state for action: add-timer-started-event, TimerID: %s",
            attrs->timer_id);
    know_timer(check, attrs->timer_id)->pending = true;
    return true;
}

void tn_do_start_timer(tn_command_run *run, const tn_command *command)
{
    const Temporal__Api__Command__V1__StartTimerCommandAttributes *from =
        command->start_timer_command_attributes;
    tn_event *event = tn_command_event(
        run, command, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_TIMER_STARTED);
    Temporal__Api__History__V1__TimerStartedEventAttributes *to =
        TN_EVENT_ATTRS(run->tx, event, TIMER_STARTED, timer_started);

    to->workflow_task_completed_event_id = run->wft_completed_id;
    to->timer_id = from->timer_id;
    to->start_to_fire_timeout = from->start_to_fire_timeout;
    tn_tx_add(run->tx, event);
}

/* ---- cancel ---------------------------------------------------------------------------------- */

bool tn_check_cancel_timer(tn_check *check, const tn_command *command)
{
    const Temporal__Api__Command__V1__CancelTimerCommandAttributes *attrs;
    known_timer *known;

    if (command->attributes_case != ATTRS_CASE(CANCEL_TIMER))
        return tn_check_bad(check, TN_CAUSE_CANCEL_TIMER,
                            "CancelTimerCommandAttributes is not set on CancelTimerCommand.");
    attrs = command->cancel_timer_command_attributes;
    if (!check_id(check, TN_CAUSE_CANCEL_TIMER, "TimerId", "CancelTimerCommand", attrs->timer_id))
        return false;
    know_timers(check);
    known = find_timer(check, attrs->timer_id);
    if (!known || (!known->pending && !known->fired))
        return tn_check_bad(
            check, TN_CAUSE_CANCEL_TIMER,
            "invalid history builder state for action: add-timer-canceled-event, TimerID: %s",
            attrs->timer_id);
    if (known->pending) {
        known->pending = false;
    } else {
        /* Its firing leaves the buffer; when nothing else waits there the run may close. */
        known->fired = false;
        check->n_buffered--;
    }
    check->run->had_buffered = check->run->had_buffered && check->n_buffered > 0;
    return true;
}

void tn_do_cancel_timer(tn_command_run *run, const tn_command *command)
{
    tn_tx *tx = run->tx;
    const char *timer_id = command->cancel_timer_command_attributes->timer_id;
    const tn_timer_info *timer = tn_ms_timer(tx->ms, tn_str_from(timer_id));
    tn_event *event = tn_command_event(
        run, command, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_TIMER_CANCELED);
    Temporal__Api__History__V1__TimerCanceledEventAttributes *attrs =
        TN_EVENT_ATTRS(tx, event, TIMER_CANCELED, timer_canceled);

    if (!timer) {
        tn_tx_unbuffer_timer(tx, tn_str_from(timer_id));
        timer = tn_ms_timer(tx->ms, tn_str_from(timer_id));
    }
    TN_ASSERT(timer); /* so said the check */
    attrs->workflow_task_completed_event_id = run->wft_completed_id;
    attrs->timer_id = command->cancel_timer_command_attributes->timer_id;
    attrs->started_event_id = timer->started_id;
    attrs->identity = run->request->identity;
    tn_tx_add(tx, event);
}

/* ---- markers --------------------------------------------------------------------------------- */

bool tn_check_record_marker(tn_check *check, const tn_command *command)
{
    const Temporal__Api__Command__V1__RecordMarkerCommandAttributes *attrs;
    size_t bytes = 0;

    if (command->attributes_case != ATTRS_CASE(RECORD_MARKER))
        return tn_check_bad(check, TN_CAUSE_RECORD_MARKER,
                            "RecordMarkerCommandAttributes is not set on RecordMarkerCommand.");
    attrs = command->record_marker_command_attributes;
    if (!check_id(check, TN_CAUSE_RECORD_MARKER, "MarkerName", "RecordMarkerCommand",
                  attrs->marker_name))
        return false;
    for (size_t i = 0; i < attrs->n_details; i++)
        bytes += strlen(attrs->details[i]->key) + tn_msg_bytes(attrs->details[i]->value);
    return tn_check_blob(check, TN_CAUSE_RECORD_MARKER, bytes,
                         "RecordMarkerCommandAttributes.Details exceeds size limit.");
}

void tn_do_record_marker(tn_command_run *run, const tn_command *command)
{
    const Temporal__Api__Command__V1__RecordMarkerCommandAttributes *from =
        command->record_marker_command_attributes;
    tn_arena *arena = run->tx->arena;
    tn_event *event = tn_command_event(
        run, command, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_MARKER_RECORDED);
    Temporal__Api__History__V1__MarkerRecordedEventAttributes *to =
        TN_EVENT_ATTRS(run->tx, event, MARKER_RECORDED, marker_recorded);

    to->workflow_task_completed_event_id = run->wft_completed_id;
    to->marker_name = from->marker_name;
    to->header = from->header;
    to->failure = from->failure;
    to->n_details = from->n_details;
    to->details = tn_tx_alloc(run->tx, from->n_details * sizeof(*to->details));
    for (size_t i = 0; i < from->n_details; i++) {
        to->details[i] = TN_MSG(
            arena, temporal__api__history__v1__marker_recorded_event_attributes__details_entry);
        to->details[i]->key = from->details[i]->key;
        to->details[i]->value = from->details[i]->value;
    }
    tn_tx_add(run->tx, event);
}
