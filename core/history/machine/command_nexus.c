/* SPDX-License-Identifier: MIT */
/* The commands about Nexus operations: schedule one, ask for its cancellation. */
#include <ctype.h>
#include <string.h>

#include "history/machine/command.h"
#include "history/machine/nexus.h"
#include "proto/proto.h"

typedef Temporal__Api__Command__V1__ScheduleNexusOperationCommandAttributes schedule_attrs;
typedef Temporal__Api__Command__V1__RequestCancelNexusOperationCommandAttributes cancel_attrs;
typedef Temporal__Api__Command__V1__ScheduleNexusOperationCommandAttributes__NexusHeaderEntry
    header_entry;
typedef Temporal__Api__History__V1__NexusOperationScheduledEventAttributes__NexusHeaderEntry
    event_header_entry;

#define NAME "ScheduleNexusOperationCommandAttributes"

/* ---- schedule: the check --------------------------------------------------------------------- */

static bool too_long(const char *s, int64_t max) { return max > 0 && (int64_t)strlen(s) > max; }

static bool check_names(tn_check *check, const schedule_attrs *a)
{
    const tn_machine_limits *limits = check->limits;

    if (!check->tx->env->nexus_endpoint ||
        !check->tx->env->nexus_endpoint(check->tx->env->user, tn_str_from(a->endpoint)).n)
        return tn_check_bad(check, TN_CAUSE_SCHEDULE_NEXUS, "endpoint \"%s\" not found",
                            a->endpoint);
    if (too_long(a->service, limits->nexus_service_bytes_max))
        return tn_check_bad(check, TN_CAUSE_SCHEDULE_NEXUS,
                            NAME ".Service exceeds length limit of %lld",
                            (long long)limits->nexus_service_bytes_max);
    if (too_long(a->operation, limits->nexus_operation_bytes_max))
        return tn_check_bad(check, TN_CAUSE_SCHEDULE_NEXUS,
                            NAME ".Operation exceeds length limit of %lld",
                            (long long)limits->nexus_operation_bytes_max);
    return true;
}

static bool check_timeouts(tn_check *check, const schedule_attrs *a)
{
    const struct {
        Google__Protobuf__Duration *value;
        const char *name;
    } timeouts[] = {{a->schedule_to_close_timeout, "ScheduleToCloseTimeout"},
                    {a->schedule_to_start_timeout, "ScheduleToStartTimeout"},
                    {a->start_to_close_timeout, "StartToCloseTimeout"}};

    for (size_t i = 0; i < TN_COUNT_OF(timeouts); i++) {
        const char *why = tn_duration_settle(timeouts[i].value);

        if (why)
            return tn_check_bad(check, TN_CAUSE_SCHEDULE_NEXUS, NAME ".%s is invalid: %s",
                                timeouts[i].name, why);
    }
    return true;
}

/* Keys are in lower case from here on. */
static bool check_header(tn_check *check, const schedule_attrs *a)
{
    const tn_machine_env *env = check->tx->env;
    size_t bytes = 0;

    for (size_t i = 0; i < a->n_nexus_header; i++) {
        header_entry *entry = a->nexus_header[i];
        char *lower = tn_arena_strdup(check->arena, entry->key);

        for (char *p = lower; *p; p++)
            *p = (char)tolower((unsigned char)*p);
        bytes += strlen(lower) + strlen(entry->value);
        if (env->nexus_header_allowed && !env->nexus_header_allowed(env->user, tn_str_from(lower)))
            return tn_check_bad(check, TN_CAUSE_SCHEDULE_NEXUS,
                                NAME ".NexusHeader contains a disallowed header key: \"%s\"",
                                entry->key);
        entry->key = lower;
    }
    if (check->limits->nexus_header_bytes_max > 0 &&
        (int64_t)bytes > check->limits->nexus_header_bytes_max)
        return tn_check_bad(check, TN_CAUSE_SCHEDULE_NEXUS, NAME ".NexusHeader exceeds size limit");
    return true;
}

/* No time-out is longer than the run's, and none of the parts longer than the whole. */
static void settle_timeouts(tn_check *check, schedule_attrs *a)
{
    uint64_t whole_ns = tn_duration_ns(a->schedule_to_close_timeout);
    uint64_t run_ns = check->ms->run_timeout_ns, max_ns = check->limits->nexus_timeout_max_ns;

    if (run_ns && (!whole_ns || whole_ns > run_ns)) {
        whole_ns = run_ns;
        a->schedule_to_close_timeout = tn_duration_from_ns(check->arena, (int64_t)whole_ns);
    }
    /* As the reference: an operation without an end is not cut by the limit. */
    if (max_ns && whole_ns > max_ns) {
        whole_ns = max_ns;
        a->schedule_to_close_timeout = tn_duration_from_ns(check->arena, (int64_t)whole_ns);
    }
    if (!whole_ns)
        return;
    if (tn_duration_ns(a->schedule_to_start_timeout) > whole_ns)
        a->schedule_to_start_timeout = a->schedule_to_close_timeout;
    if (tn_duration_ns(a->start_to_close_timeout) > whole_ns)
        a->start_to_close_timeout = a->schedule_to_close_timeout;
}

static void remember(tn_check *check, int64_t **list, size_t *count, int64_t id)
{
    if (!*list) /* as many as there are commands, at most */
        *list = tn_arena_array(check->arena, check->run->request->n_commands, sizeof(**list));
    TN_ASSERT(*list && *count < check->run->request->n_commands);
    (*list)[(*count)++] = id;
}

static bool is_in(const int64_t *list, size_t count, int64_t id)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == id)
            return true;
    return false;
}

static size_t count_pending(const tn_check *check)
{
    size_t n = check->n_nexus_new;

    if (check->ms->nexus)
        TN_LIST_FOREACH (link, &check->ms->nexus->ops)
            n += !TN_CONTAINER_OF(link, tn_nexus_op, link)->closing;
    return n;
}

bool tn_check_schedule_nexus(tn_check *check, const tn_command *command)
{
    schedule_attrs *a = command->schedule_nexus_operation_command_attributes;
    int64_t max = check->limits->nexus_operations_max;

    if (command->attributes_case !=
            TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_SCHEDULE_NEXUS_OPERATION_COMMAND_ATTRIBUTES ||
        !a)
        return tn_check_bad(check, TN_CAUSE_SCHEDULE_NEXUS,
                            "empty ScheduleNexusOperationCommandAttributes");
    if (!check_names(check, a) || !check_timeouts(check, a) ||
        !tn_check_blob(check, TN_CAUSE_SCHEDULE_NEXUS, tn_msg_bytes(a->input),
                       NAME ".Input exceeds size limit") ||
        !check_header(check, a))
        return false;
    if (max > 0 && (int64_t)count_pending(check) >= max)
        return tn_check_bad(
            check, TN_CAUSE_PENDING_NEXUS,
            "workflow has reached the pending nexus operation limit of %lld for this namespace",
            (long long)max);
    settle_timeouts(check, a);
    remember(check, &check->nexus_new, &check->n_nexus_new, check->next_id);
    return true;
}

/* ---- cancel: the check ----------------------------------------------------------------------- */

bool tn_check_request_cancel_nexus(tn_check *check, const tn_command *command)
{
    const cancel_attrs *a = command->request_cancel_nexus_operation_command_attributes;
    tn_nexus_op *op;
    int64_t id;

    if (command->attributes_case !=
            TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_REQUEST_CANCEL_NEXUS_OPERATION_COMMAND_ATTRIBUTES ||
        !a)
        return tn_check_bad(check, TN_CAUSE_REQUEST_CANCEL_NEXUS,
                            "empty CancelNexusOperationCommandAttributes");
    id = a->scheduled_event_id;
    /* One whose end waits in the buffer is there: the worker cannot know of that end yet. */
    op = tn_ms_nexus_op_any(check->ms, id);
    if (!op && !is_in(check->nexus_new, check->n_nexus_new, id))
        return tn_check_bad(check, TN_CAUSE_REQUEST_CANCEL_NEXUS,
                            "requested cancelation for a non-existing or already completed "
                            "operation with scheduled event ID of %lld",
                            (long long)id);
    if ((op && op->cancel_requested_id) || is_in(check->nexus_gone, check->n_nexus_gone, id))
        return tn_check_bad(
            check, TN_CAUSE_REQUEST_CANCEL_NEXUS,
            "cancelation was already requested for an operation with scheduled event ID %lld",
            (long long)id);
    remember(check, &check->nexus_gone, &check->n_nexus_gone, id);
    return true;
}

/* ---- the effects ----------------------------------------------------------------------------- */

static void fill_header(tn_tx *tx, const schedule_attrs *from,
                        Temporal__Api__History__V1__NexusOperationScheduledEventAttributes *to)
{
    to->nexus_header = tn_tx_alloc(tx, from->n_nexus_header * sizeof(to->nexus_header[0]));
    for (size_t i = 0; i < from->n_nexus_header; i++) {
        event_header_entry *entry = TN_MSG(
            tx->arena,
            temporal__api__history__v1__nexus_operation_scheduled_event_attributes__nexus_header_entry);

        entry->key = from->nexus_header[i]->key;
        entry->value = from->nexus_header[i]->value;
        to->nexus_header[to->n_nexus_header++] = entry;
    }
}

void tn_do_schedule_nexus(tn_command_run *run, const tn_command *command)
{
    const schedule_attrs *from = command->schedule_nexus_operation_command_attributes;
    tn_tx *tx = run->tx;
    tn_event *event = tn_command_event(run, command, 48);
    Temporal__Api__History__V1__NexusOperationScheduledEventAttributes *a =
        TN_EVENT_ATTRS(tx, event, NEXUS_OPERATION_SCHEDULED, nexus_operation_scheduled);
    uint8_t id[16];
    char text[37];

    tn_uuid_v4(tx->rng, id);
    tn_uuid_format(id, text);
    a->endpoint = from->endpoint;
    a->endpoint_id =
        tn_tx_text(tx, tx->env->nexus_endpoint(tx->env->user, tn_str_from(from->endpoint)));
    a->service = from->service;
    a->operation = from->operation;
    a->input = from->input;
    a->schedule_to_close_timeout = from->schedule_to_close_timeout;
    a->schedule_to_start_timeout = from->schedule_to_start_timeout;
    a->start_to_close_timeout = from->start_to_close_timeout;
    fill_header(tx, from, a);
    a->request_id = tn_tx_text(tx, tn_str_from(text));
    a->workflow_task_completed_event_id = run->wft_completed_id;
    tn_tx_add(tx, event);
}

void tn_do_request_cancel_nexus(tn_command_run *run, const tn_command *command)
{
    tn_event *event = tn_command_event(run, command, 54);
    Temporal__Api__History__V1__NexusOperationCancelRequestedEventAttributes *a = TN_EVENT_ATTRS(
        run->tx, event, NEXUS_OPERATION_CANCEL_REQUESTED, nexus_operation_cancel_requested);

    a->scheduled_event_id =
        command->request_cancel_nexus_operation_command_attributes->scheduled_event_id;
    a->workflow_task_completed_event_id = run->wft_completed_id;
    tn_tx_add(run->tx, event);
}
