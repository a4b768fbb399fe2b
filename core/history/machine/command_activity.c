/* SPDX-License-Identifier: MIT */
/* Commands about activities, timers and markers. */
#include <string.h>

#include "history/machine/command.h"
#include "proto/proto.h"

typedef Temporal__Api__Command__V1__ScheduleActivityTaskCommandAttributes schedule_attrs;

#define ATTRS_CASE(UPPER) \
    TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_##UPPER##_COMMAND_ATTRIBUTES
#define EAGER_MAX TN_COUNT_OF(((tn_wft_completed_out *)0)->eager_activities)
#define DUPLICATE "invalid history builder state for action: "

/* ---- the picture of pending activities ------------------------------------------------------- */

typedef struct known_activity {
    tn_map_link by_event, by_id;
    uint8_t event_key[8];
    bool pending, started, cancel_requested;
} known_activity;

static known_activity *know_activity(tn_check *check, int64_t scheduled_id, const char *activity_id)
{
    known_activity *known = tn_tx_alloc(check->tx, sizeof(*known));
    tn_blob id = tn_blob_of_str(tn_str_from(activity_id));

    known->pending = true;
    tn_put_u64be(known->event_key, (uint64_t)scheduled_id);
    tn_map_insert(&check->activities, &known->by_event, tn_blob_from(known->event_key, 8));
    if (!tn_map_find(&check->activity_ids, id))
        tn_map_insert(&check->activity_ids, &known->by_id, id);
    return known;
}

/* What waits in the buffer to close is not pending, but has not left the picture: it may still be
 * asked to cancel. */
static void know_activities(tn_check *check)
{
    if (check->know_activities)
        return;
    check->know_activities = true;
    TN_LIST_FOREACH (link, &check->ms->activities) {
        const tn_activity *activity = TN_CONTAINER_OF(link, tn_activity, link);
        known_activity *known = know_activity(check, activity->scheduled_id, activity->activity_id);

        known->started = activity->started_ns != 0;
        known->cancel_requested = activity->cancel_requested_id != 0;
        if (activity->closing) {
            known->pending = false;
            if (known->by_id.key.p)
                tn_map_remove(&check->activity_ids, &known->by_id);
        }
    }
}

/* ---- schedule -------------------------------------------------------------------------------- */

static const char *settle_activity(tn_check *check, schedule_attrs *attrs)
{
    int64_t limit = check->limits->id_bytes_max;
    const char *text =
        tn_task_queue_settle(check->arena, attrs->task_queue, "", check->ms->task_queue, limit);

    if (text)
        return text;
    if (!*attrs->activity_id)
        return "activityId is not set";
    if (!attrs->activity_type || !*attrs->activity_type->name)
        return "activityType is not set";
    if (!attrs->retry_policy)
        attrs->retry_policy = TN_MSG(check->arena, temporal__api__common__v1__retry_policy);
    if ((text = tn_retry_policy_settle(check->arena, attrs->retry_policy)))
        return text;
    if ((int64_t)strlen(attrs->activity_id) > limit)
        return tn_arena_printf(check->arena,
                               "activityId exceeds length limit. Length=%zu Limit=%lld",
                               strlen(attrs->activity_id), (long long)limit);
    if ((int64_t)strlen(attrs->activity_type->name) > limit)
        return tn_arena_printf(check->arena,
                               "activityType exceeds length limit. Length=%zu Limit=%lld",
                               strlen(attrs->activity_type->name), (long long)limit);
    if ((text = tn_priority_check(attrs->priority)))
        return tn_arena_printf(check->arena, "invalid priorities: %s", text);
    return tn_activity_timeouts_settle(check->arena, check->ms->run_timeout_ns, attrs);
}

bool tn_check_schedule_activity(tn_check *check, const tn_command *command)
{
    schedule_attrs *attrs;
    const char *text;
    tn_map_link *link;

    if (command->attributes_case != ATTRS_CASE(SCHEDULE_ACTIVITY_TASK))
        return tn_check_bad(
            check, TN_CAUSE_SCHEDULE_ACTIVITY,
            "ScheduleActivityTaskCommandAttributes is not set on ScheduleActivityTaskCommand.");
    attrs = command->schedule_activity_task_command_attributes;
    if ((text = settle_activity(check, attrs)))
        return tn_check_bad(check, TN_CAUSE_SCHEDULE_ACTIVITY, "%s", text);
    if (attrs->use_workflow_build_id && strcmp(attrs->task_queue->name, check->ms->task_queue) != 0)
        return tn_check_bad(
            check, TN_CAUSE_SCHEDULE_ACTIVITY,
            "Activity with UseCompatibleVersion cannot run on different task queue.");
    if (!tn_check_blob(check, TN_CAUSE_SCHEDULE_ACTIVITY, tn_msg_bytes(attrs->input),
                       "ScheduleActivityTaskCommandAttributes.Input exceeds size limit.") ||
        !tn_check_limit(check, TN_CAUSE_PENDING_ACTIVITIES, check->n_activities,
                        check->limits->pending_activities_max, "pending activities"))
        return false;
    know_activities(check);
    link = tn_map_find(&check->activity_ids, tn_blob_of_str(tn_str_from(attrs->activity_id)));
    if (link)
        return tn_check_bad(check, TN_CAUSE_SCHEDULE_ACTIVITY_DUPLICATE_ID,
                            DUPLICATE "add-activitytask-scheduled-event, ActivityID: %s",
                            attrs->activity_id);
    know_activity(check, check->next_id, attrs->activity_id);
    check->n_activities++;
    return true;
}

void tn_do_schedule_activity(tn_command_run *run, const tn_command *command)
{
    const schedule_attrs *from = command->schedule_activity_task_command_attributes;
    tn_event *event = tn_command_event(
        run, command, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_ACTIVITY_TASK_SCHEDULED);
    Temporal__Api__History__V1__ActivityTaskScheduledEventAttributes *to =
        TN_EVENT_ATTRS(run->tx, event, ACTIVITY_TASK_SCHEDULED, activity_task_scheduled);
    int64_t id;

    to->workflow_task_completed_event_id = run->wft_completed_id;
    to->activity_id = from->activity_id;
    to->activity_type = from->activity_type;
    to->task_queue = from->task_queue;
    to->header = from->header;
    to->input = from->input;
    to->schedule_to_close_timeout = from->schedule_to_close_timeout;
    to->schedule_to_start_timeout = from->schedule_to_start_timeout;
    to->start_to_close_timeout = from->start_to_close_timeout;
    to->heartbeat_timeout = from->heartbeat_timeout;
    to->retry_policy = from->retry_policy;
    to->use_workflow_build_id = from->use_workflow_build_id;
    to->priority = from->priority;
    id = tn_tx_add(run->tx, event);
    if (from->request_eager_execution && !tn_ms_in_transition(run->tx->ms) &&
        run->out->n_eager_activities < EAGER_MAX)
        run->out->eager_activities[run->out->n_eager_activities++] = id;
}

/* ---- request cancel -------------------------------------------------------------------------- */

bool tn_check_request_cancel_activity(tn_check *check, const tn_command *command)
{
    uint8_t key[8];
    tn_map_link *link;
    known_activity *known;
    int64_t id;

    if (command->attributes_case != ATTRS_CASE(REQUEST_CANCEL_ACTIVITY_TASK))
        return tn_check_bad(check, TN_CAUSE_REQUEST_CANCEL_ACTIVITY,
                            "RequestCancelActivityTaskCommandAttributes is not set on "
                            "RequestCancelActivityTaskCommand.");
    id = command->request_cancel_activity_task_command_attributes->scheduled_event_id;
    if (id <= 0)
        return tn_check_bad(check, TN_CAUSE_REQUEST_CANCEL_ACTIVITY,
                            "ScheduledEventId is not set on RequestCancelActivityTaskCommand.");
    know_activities(check);
    tn_put_u64be(key, (uint64_t)id);
    link = tn_map_find(&check->activities, tn_blob_from(key, 8));
    known = link ? TN_CONTAINER_OF(link, known_activity, by_event) : NULL;
    if (!known || (known->pending && known->cancel_requested))
        return tn_check_bad(check, TN_CAUSE_REQUEST_CANCEL_ACTIVITY,
                            DUPLICATE
                            "add-activitytask-cancel-requested-event, ScheduledEventID: %lld",
                            (long long)id);
    known->cancel_requested = true;
    if (known->pending && !known->started) {
        /* Ends at once: its id is free; its canceled event comes after those of all commands. */
        known->pending = false;
        if (known->by_id.key.p)
            tn_map_remove(&check->activity_ids, &known->by_id);
        known->by_id.key.p = NULL;
        check->n_activities--;
    }
    return true;
}

static Temporal__Api__Common__V1__Payloads *text_payloads(tn_arena *arena, const char *json)
{
    Temporal__Api__Common__V1__Payloads *payloads =
        TN_MSG(arena, temporal__api__common__v1__payloads);
    Temporal__Api__Common__V1__Payload *payload = TN_MSG(arena, temporal__api__common__v1__payload);
    Temporal__Api__Common__V1__Payload__MetadataEntry *entry =
        TN_MSG(arena, temporal__api__common__v1__payload__metadata_entry);
    static const char encoding[] = "json/plain";

    entry->key = tn_arena_strdup(arena, "encoding");
    entry->value =
        (ProtobufCBinaryData){sizeof(encoding) - 1, (uint8_t *)tn_arena_strdup(arena, encoding)};
    payload->n_metadata = 1;
    payload->metadata = TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__Payload__MetadataEntry *, 1);
    payload->metadata[0] = entry;
    payload->data = (ProtobufCBinaryData){strlen(json), (uint8_t *)tn_arena_strdup(arena, json)};
    payloads->n_payloads = 1;
    payloads->payloads = TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__Payload *, 1);
    payloads->payloads[0] = payload;
    return payloads;
}

void tn_do_request_cancel_activity(tn_command_run *run, const tn_command *command)
{
    tn_tx *tx = run->tx;
    int64_t id = command->request_cancel_activity_task_command_attributes->scheduled_event_id,
            requested_id;
    tn_event *event = tn_command_event(
        run, command,
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED);
    Temporal__Api__History__V1__ActivityTaskCancelRequestedEventAttributes *requested =
        TN_EVENT_ATTRS(tx, event, ACTIVITY_TASK_CANCEL_REQUESTED, activity_task_cancel_requested);
    Temporal__Api__History__V1__ActivityTaskCanceledEventAttributes *canceled;
    const tn_activity *activity = tn_ms_activity(tx->ms, id);

    requested->workflow_task_completed_event_id = run->wft_completed_id;
    requested->scheduled_event_id = id;
    requested_id = tn_tx_add(tx, event);
    if (!activity || activity->started_ns)
        return;
    /* No worker has it: it ends here, and the workflow must hear of it. */
    event =
        tn_tx_event(tx, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_ACTIVITY_TASK_CANCELED);
    canceled = TN_EVENT_ATTRS(tx, event, ACTIVITY_TASK_CANCELED, activity_task_canceled);
    canceled->scheduled_event_id = id;
    canceled->latest_cancel_requested_event_id = requested_id;
    canceled->details = text_payloads(tx->arena, "\"ACTIVITY_ID_NOT_STARTED\"");
    canceled->identity = run->request->identity;
    if (activity->pause)
        tx->visibility_dirty = true;
    tn_tx_add(tx, event);
    run->wants_wft = true;
}
