/* SPDX-License-Identifier: MIT */
/* The commands of one workflow task: all are checked before any is done, since a bad one must leave
 * no trace of those before it.  One check and one effect a command, in command_*.c. */
#include "history/machine/command.h"

#include <stdarg.h>
#include <string.h>

#include "proto/proto.h"

/* A command whose effects exist: what checks it, what does it, and whether the run ends with it. */
typedef struct handler {
    bool (*check)(tn_check *check, const tn_command *command);
    void (*apply)(tn_command_run *run, const tn_command *command);
    bool closes;
} handler;

static const handler handlers[] = {
    [1] = {tn_check_schedule_activity, tn_do_schedule_activity, false},
    [2] = {tn_check_request_cancel_activity, tn_do_request_cancel_activity, false},
    [3] = {tn_check_start_timer, tn_do_start_timer, false},
    [4] = {tn_check_complete, tn_do_complete, true},
    [5] = {tn_check_fail, tn_do_fail, true},
    [6] = {tn_check_cancel_timer, tn_do_cancel_timer, false},
    [7] = {tn_check_cancel, tn_do_cancel, true},
    [8] = {tn_check_request_cancel_external, tn_do_request_cancel_external, false},
    [9] = {tn_check_record_marker, tn_do_record_marker, false},
    [10] = {tn_check_continue_as_new, tn_do_continue_as_new, true},
    [11] = {tn_check_start_child, tn_do_start_child, false},
    [12] = {tn_check_signal_external, tn_do_signal_external, false},
    [13] = {tn_check_upsert_search_attributes, tn_do_upsert_search_attributes, false},
    [14] = {tn_check_protocol_message, tn_do_protocol_message, false},
    [16] = {tn_check_modify_properties, tn_do_modify_properties, false},
    [17] = {tn_check_schedule_nexus, tn_do_schedule_nexus, false},
    [18] = {tn_check_request_cancel_nexus, tn_do_request_cancel_nexus, false},
};

static const handler *handler_of(const tn_command *command)
{
    size_t type = (size_t)command->command_type;

    return type < TN_COUNT_OF(handlers) && handlers[type].check ? &handlers[type] : NULL;
}

/* ---- saying no ------------------------------------------------------------------------------- */

static bool refuse(tn_check *check, int32_t cause, const char *fmt, va_list args)
{
    const char *text = tn_arena_vprintf(check->arena, fmt, args);

    check->run->cause = cause;
    check->run->message = tn_str_from(
        tn_arena_printf(check->arena, "%s: %s", tn_cause_name(check->arena, cause), text));
    return false;
}

bool tn_check_bad(tn_check *check, int32_t cause, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    refuse(check, cause, fmt, args);
    va_end(args);
    return false;
}

bool tn_check_doom(tn_check *check, int32_t cause, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    refuse(check, cause, fmt, args);
    va_end(args);
    check->run->terminate = true;
    return false;
}

bool tn_check_may_close(tn_check *check)
{
    if (!check->run->had_buffered)
        return true;
    check->run->cause = TN_CAUSE_UNHANDLED_COMMAND;
    check->run->message = tn_str_from(tn_cause_name(check->arena, TN_CAUSE_UNHANDLED_COMMAND));
    return false;
}

size_t tn_msg_bytes(const void *msg) { return msg ? protobuf_c_message_get_packed_size(msg) : 0; }

bool tn_check_blob(tn_check *check, int32_t cause, size_t bytes, const char *text)
{
    return (int64_t)bytes <= check->limits->blob_bytes_max ||
           tn_check_doom(check, cause, "%s", text);
}

bool tn_check_limit(tn_check *check, int32_t cause, size_t pending, int64_t limit, const char *what)
{
    if (limit <= 0 || (int64_t)pending < limit)
        return true;
    return tn_check_bad(check, cause,
                        "the number of %s, %zu, has reached the per-workflow limit of %lld", what,
                        pending, (long long)limit);
}

/* ---- the sequence ---------------------------------------------------------------------------- */

static const char *type_name(tn_arena *arena, const tn_command *command)
{
    return tn_enum_name(arena, &temporal__api__enums__v1__command_type__descriptor,
                        (int32_t)command->command_type);
}

static const tn_fault *misplaced(tn_check *check, const tn_command *closing)
{
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *request =
        check->run->request;
    const tn_fault *fault;
    tn_buf names = {0};

    for (size_t i = 0; i < request->n_commands && names.n < 4096; i++)
        tn_buf_printf(&names, "%s%s", i ? ", " : "", type_name(check->arena, request->commands[i]));
    fault = tn_fault_make(check->arena, TN_GRPC_INVALID_ARGUMENT,
                          "invalid command sequence: [%.*s], command %s must be the last command.",
                          (int)names.n, (const char *)names.p, type_name(check->arena, closing));
    tn_buf_done(&names);
    return fault;
}

static bool check_sequence(tn_check *check)
{
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *request =
        check->run->request;
    const tn_command *closing = NULL;

    for (size_t i = 0; i < request->n_commands; i++) {
        const tn_command *command = request->commands[i];
        const handler *known = handler_of(command);

        if (closing) {
            check->run->fault = misplaced(check, closing);
            return false;
        }
        if (!known) {
            check->run->fault =
                tn_fault_make(check->arena, TN_GRPC_INVALID_ARGUMENT, "unknown command type: %s",
                              type_name(check->arena, command));
            return false;
        }
        if (known->closes)
            closing = command;
    }
    return true;
}

/* ---- both steps ------------------------------------------------------------------------------ */

static size_t count_activities(const tn_ms *ms)
{
    size_t n = 0;

    TN_LIST_FOREACH (link, &ms->activities)
        n += !TN_CONTAINER_OF(link, tn_activity, link)->closing;
    return n;
}

static size_t count_children(const tn_ms *ms)
{
    size_t n = 0;

    TN_LIST_FOREACH (link, &ms->children)
        n += !TN_CONTAINER_OF(link, tn_child, link)->closing;
    return n;
}

static void count_externals(const tn_ms *ms, size_t *out_signals, size_t *out_cancels)
{
    *out_signals = *out_cancels = 0;
    TN_LIST_FOREACH (link, &ms->externals) {
        const tn_external *external = TN_CONTAINER_OF(link, tn_external, link);

        if (!external->closing)
            ++*(external->is_signal ? out_signals : out_cancels);
    }
}

static bool check_all(tn_check *check)
{
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *request =
        check->run->request;
    bool closing = false;

    if (!check_sequence(check))
        return false;
    for (size_t i = 0; i < request->n_commands; i++) {
        const handler *known = handler_of(request->commands[i]);

        closing = closing || known->closes;
        if (!known->check(check, request->commands[i]))
            return false;
        check->next_id++;
    }
    return tn_check_messages(check, closing);
}

bool tn_commands_check(tn_command_run *run)
{
    tn_check check = {
        .run = run,
        .tx = run->tx,
        .ms = run->tx->ms,
        .arena = run->tx->arena,
        .limits = run->tx->env->limits,
        .next_id = run->wft_completed_id + 1,
        .n_buffered = run->tx->ms->n_buffered,
    };
    tn_map *maps[] = {&check.activities, &check.activity_ids, &check.timers,
                      &check.children,   &check.memo,         &check.search_attributes};
    bool ok;

    if (run->request->n_commands == 0 && run->request->n_messages == 0)
        return true;
    tn_list_init(&check.updates);
    run->messages = tn_tx_alloc(run->tx, run->request->n_messages * sizeof(*run->messages));
    check.n_activities = count_activities(check.ms);
    check.n_children = count_children(check.ms);
    count_externals(check.ms, &check.n_signals, &check.n_cancels);
    for (size_t i = 0; i < TN_COUNT_OF(maps); i++)
        tn_map_init(maps[i]);
    ok = check_all(&check);
    for (size_t i = 0; i < TN_COUNT_OF(maps); i++)
        tn_map_done(maps[i]);
    return ok;
}

tn_event *tn_command_event(tn_command_run *run, const tn_command *command, int32_t event_type)
{
    tn_event *event = tn_tx_event(run->tx, event_type);

    event->user_metadata = command->user_metadata;
    event->n_event_group_markers = command->n_event_group_markers;
    event->event_group_markers = command->event_group_markers;
    return event;
}

/* Activities that were asked to start eagerly begin now, unless the run is over or they were
 * cancelled at once. */
static void start_eager(tn_command_run *run)
{
    tn_tx *tx = run->tx;
    uint8_t id[16];
    char request_id[37];
    size_t kept = 0;

    for (size_t i = 0; i < run->out->n_eager_activities; i++) {
        tn_activity *activity =
            tn_ms_running(tx->ms) ? tn_ms_activity(tx->ms, run->out->eager_activities[i]) : NULL;

        if (!activity || tn_activity_held(tx->ms, activity))
            continue;
        tn_uuid_v4(tx->rng, id);
        tn_uuid_format(id, request_id);
        /* An attempt begins after it was scheduled, if only by a moment: of its time-outs the
         * total one comes first. */
        tn_activity_mark_started(tx, activity, tx->now_ns + TN_US,
                                 tn_str_from(run->request->identity), tn_str_from(request_id),
                                 tn_rng_next(tx->rng));
        /* Their start costs no commit of its own: it is in the record that schedules them. */
        activity->dispatched = activity->started_durable = tx->extras_dirty = true;
        run->out->eager_activities[kept++] = activity->scheduled_id;
    }
    run->out->n_eager_activities = kept;
}

void tn_commands_apply(tn_command_run *run)
{
    run->wants_wft = false;
    run->out->n_eager_activities = 0;
    for (size_t i = 0; i < run->request->n_commands; i++)
        handler_of(run->request->commands[i])->apply(run, run->request->commands[i]);
    tn_do_messages(run);
    start_eager(run);
}
