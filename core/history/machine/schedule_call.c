/* SPDX-License-Identifier: MIT */
/* Requests to a schedule, and what is shown of it. */
#include "history/machine/priv.h"
#include "history/machine/schedule.h"
#include "proto/proto.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

#define WORKFLOW_TYPE "temporal-sys-scheduler-workflow"
#define TASK_QUEUE "temporal-sys-per-ns-tq"
#define FUTURE 10
#define FUTURE_LISTED 5
#define LISTED_SPEC_PARTS 10
#define MATCHING_MAX 1000
#define TERMINATED 5

#define IS(request, lower) \
    ((request)->descriptor == &temporal__api__workflowservice__v1__##lower##_request__descriptor)
#define AS(request, Type) \
    ((const Temporal__Api__Workflowservice__V1__##Type##Request *)(const void *)(request))
#define RESPONSE(reply, lower) \
    TN_MSG((reply)->arena, temporal__api__workflowservice__v1__##lower##_response)

typedef Temporal__Api__Schedule__V1__ScheduleActionResult action_result;

/* ---- times shown ---- */

static tn_pb_timestamp *time_of(tn_arena *arena, int64_t ns)
{
    return ns ? tn_ts_from_ns(arena, ns) : NULL;
}

static tn_pb_timestamp **future_times(const tn_ms *ms, tn_arena *arena, size_t most, size_t *out_n)
{
    tn_schedule *s = tn_schedule_of(ms);
    const Temporal__Api__Schedule__V1__ScheduleState *state = s->schedule->state;
    int64_t at = s->processed_ns, nominal;
    tn_pb_timestamp **out;

    if (state->limited_actions && state->remaining_actions < (int64_t)most)
        most = state->remaining_actions > 0 ? (size_t)state->remaining_actions : 0;
    out = TN_NEW_ARRAY(arena, tn_pb_timestamp *, most + 1);
    for (*out_n = 0; *out_n < most && tn_schedule_next_after(s, at, &nominal, &at);)
        if (at >= s->updated_ns)
            out[(*out_n)++] = tn_ts_from_ns(arena, at);
    return out;
}

static bool was_started(const tn_schedule_action *action)
{
    return action->stage == TN_ACTION_RUNNING || action->stage == TN_ACTION_CLOSED;
}

static Temporal__Api__Common__V1__WorkflowExecution *execution_of(const tn_schedule_action *action,
                                                                  tn_arena *arena)
{
    Temporal__Api__Common__V1__WorkflowExecution *out =
        TN_MSG(arena, temporal__api__common__v1__workflow_execution);

    out->workflow_id = action->workflow_id;
    out->run_id = action->run_id ? action->run_id : out->run_id;
    return out;
}

static action_result **recent_actions(const tn_ms *ms, tn_arena *arena, size_t most, size_t *out_n)
{
    const tn_schedule *s = tn_schedule_of(ms);
    action_result **out = TN_NEW_ARRAY(arena, action_result *, most + 1);
    size_t n = 0, started = 0;

    TN_LIST_FOREACH (link, &s->actions)
        started += was_started(TN_CONTAINER_OF(link, tn_schedule_action, link));
    TN_LIST_FOREACH (link, &s->actions) {
        const tn_schedule_action *action = TN_CONTAINER_OF(link, tn_schedule_action, link);
        action_result *one;

        if (!was_started(action) || started-- > most)
            continue;
        one = TN_MSG(arena, temporal__api__schedule__v1__schedule_action_result);
        one->schedule_time = tn_ts_from_ns(arena, action->at_ns);
        one->actual_time = tn_ts_from_ns(arena, action->started_ns);
        one->start_workflow_result = execution_of(action, arena);
        one->start_workflow_status =
            (Temporal__Api__Enums__V1__WorkflowExecutionStatus)action->status;
        out[n++] = one;
    }
    *out_n = n;
    return out;
}

/* ---- describe ---- */

static ProtobufCBinaryData token_of(const tn_schedule *s, tn_arena *arena)
{
    uint8_t *token = tn_arena_alloc(arena, 8);

    tn_put_u64be(token, (uint64_t)s->conflict_token);
    return (ProtobufCBinaryData){8, token};
}

static Temporal__Api__Schedule__V1__ScheduleInfo *info_of(const tn_ms *ms, tn_arena *arena)
{
    tn_schedule *s = tn_schedule_of(ms);
    Temporal__Api__Schedule__V1__ScheduleInfo *out =
        TN_MSG(arena, temporal__api__schedule__v1__schedule_info);

    out->action_count = s->action_count;
    out->missed_catchup_window = s->missed;
    out->overlap_skipped = s->skipped;
    out->buffer_dropped = s->dropped;
    out->buffer_size = (int64_t)s->n_buffered;
    out->create_time = time_of(arena, s->created_ns);
    out->update_time = time_of(arena, s->updated_ns);
    out->running_workflows =
        TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__WorkflowExecution *, s->n_actions + 1);
    TN_LIST_FOREACH (link, &s->actions) {
        const tn_schedule_action *action = TN_CONTAINER_OF(link, tn_schedule_action, link);

        if (action->tracked && action->stage == TN_ACTION_RUNNING)
            out->running_workflows[out->n_running_workflows++] = execution_of(action, arena);
    }
    out->recent_actions = recent_actions(ms, arena, TN_SCHEDULE_RECENT, &out->n_recent_actions);
    out->future_action_times = future_times(ms, arena, FUTURE, &out->n_future_action_times);
    if (!tn_schedule_times_of(s))
        out->invalid_schedule_error =
            (char *)(uintptr_t) "the time zone of the schedule is not known here";
    return out;
}

static void describe(const tn_ms *ms, tn_object_reply *reply)
{
    tn_schedule *s = tn_schedule_of(ms);
    Temporal__Api__Workflowservice__V1__DescribeScheduleResponse *out =
        RESPONSE(reply, describe_schedule);
    tn_arena *arena = reply->arena;

    out->schedule = (void *)tn_proto_copy(&s->schedule->base, arena);
    tn_schedule_spec_show(out->schedule->spec);
    out->info = info_of(ms, arena);
    if (ms->memo.count)
        out->memo = tn_machine_memo(ms, arena);
    if (ms->search_attributes.count)
        out->search_attributes = tn_machine_search_attributes(ms, arena);
    out->conflict_token = token_of(s, arena);
    reply->response = &out->base;
}

static const tn_fault *matching_times(
    const tn_ms *ms,
    const Temporal__Api__Workflowservice__V1__ListScheduleMatchingTimesRequest *request,
    tn_object_reply *reply)
{
    tn_schedule *s = tn_schedule_of(ms);
    const tn_schedule_times *times = tn_schedule_times_of(s);
    Temporal__Api__Workflowservice__V1__ListScheduleMatchingTimesResponse *out =
        RESPONSE(reply, list_schedule_matching_times);
    int64_t at = 0, to = 0, nominal;

    if (!request->start_time || !request->end_time || !tn_ns_from_ts(request->start_time, &at) ||
        !tn_ns_from_ts(request->end_time, &to))
        return tn_fault_make(reply->arena, TN_GRPC_INVALID_ARGUMENT, "missing or invalid query");
    out->start_time = TN_NEW_ARRAY(reply->arena, tn_pb_timestamp *, MATCHING_MAX);
    while (times && out->n_start_time < MATCHING_MAX) {
        tn_schedule_next next =
            tn_schedule_times_next(times, tn_str_from(s->seed), at, &nominal, &at);

        if (next == TN_SCHEDULE_TOO_SPARSE)
            return tn_fault_make(
                reply->arena, TN_GRPC_INVALID_ARGUMENT,
                "the schedule calendar specification has too many exclusions. Please "
                "modify the specification.");
        if (next != TN_SCHEDULE_AT || at > to)
            break;
        out->start_time[out->n_start_time++] = tn_ts_from_ns(reply->arena, at);
    }
    reply->response = &out->base;
    return NULL;
}

/* ---- changes ---- */

static void put_all(tn_ms *ms, tn_payload_map *map, const char *name,
                    const Temporal__Api__Common__V1__Payload *payload, tn_arena *arena)
{
    tn_payload_map_put(ms, map, tn_str_from(name), tn_msg_pack(arena, payload));
}

static void clear_map(tn_ms *ms, tn_payload_map *map)
{
    while (map->count)
        tn_payload_map_put(ms, map, tn_str_from(map->items[map->count - 1].name),
                           (tn_blob){NULL, 0});
}

/* Given ones replace all there are; an empty payload is none. */
static void replace_maps(tn_tx *tx,
                         const Temporal__Api__Workflowservice__V1__UpdateScheduleRequest *request)
{
    tn_ms *ms = tx->ms;

    if (request->search_attributes) {
        clear_map(ms, &ms->search_attributes);
        for (size_t i = 0; i < request->search_attributes->n_indexed_fields; i++) {
            const Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry *entry =
                request->search_attributes->indexed_fields[i];

            if (entry->value && !tn_payload_is_nil(entry->value))
                put_all(ms, &ms->search_attributes, entry->key, entry->value, tx->arena);
        }
    }
    if (request->memo) {
        clear_map(ms, &ms->memo);
        for (size_t i = 0; i < request->memo->n_fields; i++)
            if (request->memo->fields[i]->value &&
                !tn_payload_is_nil(request->memo->fields[i]->value))
                put_all(ms, &ms->memo, request->memo->fields[i]->key,
                        request->memo->fields[i]->value, tx->arena);
    }
}

static void changed(tn_tx *tx)
{
    tn_schedule_of(tx->ms)->next_known = false;
    tn_schedule_proceed(tx);
    tx->extras_dirty = tx->visibility_dirty = true;
}

static const tn_fault *update(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__UpdateScheduleRequest *request,
    tn_object_reply *reply)
{
    tn_schedule *s = tn_schedule_of(tx->ms);

    reply->response = (void *)RESPONSE(reply, update_schedule);
    if (tn_schedule_knows_request(s, request->request_id))
        return NULL;
    if (request->conflict_token.len >= 8 &&
        (int64_t)tn_get_u64be(request->conflict_token.data) != s->conflict_token)
        return tn_fault_make(reply->arena, TN_GRPC_FAILED_PRECONDITION,
                             "mismatched conflict token");
    tn_schedule_take_time(tx);
    tn_schedule_note_request(tx->ms, request->request_id);
    tn_schedule_set(tx->ms, request->schedule);
    replace_maps(tx, request);
    s->updated_ns = (int64_t)tx->now_ns;
    s->conflict_token++;
    changed(tx);
    return NULL;
}

static void set_paused(tn_tx *tx, bool paused, const char *notes)
{
    tn_schedule *s = tn_schedule_of(tx->ms);

    s->schedule->state->paused = paused;
    tn_schedule_set_notes(tx->ms, notes);
    s->conflict_token++;
}

static void apply_patch(tn_tx *tx, const Temporal__Api__Schedule__V1__SchedulePatch *patch)
{
    tn_schedule *s = tn_schedule_of(tx->ms);
    int64_t now = (int64_t)tx->now_ns;

    if (patch->trigger_immediately) {
        int64_t at = 0;

        if (!tn_ns_from_ts(patch->trigger_immediately->scheduled_time, &at) || at == 0)
            at = now;
        tn_schedule_add_start(tx->ms, at, at, (int32_t)patch->trigger_immediately->overlap_policy,
                              true);
    }
    for (size_t i = 0; i < patch->n_backfill_request; i++) {
        const Temporal__Api__Schedule__V1__BackfillRequest *one = patch->backfill_request[i];
        int64_t from = 0, to = 0;

        (void)tn_ns_from_ts(one->start_time, &from);
        (void)tn_ns_from_ts(one->end_time, &to);
        if (s->n_backfills >= TN_SCHEDULE_BUFFER_MAX)
            s->dropped++;
        else /* its start is meant, too */
            tn_schedule_add_backfill(tx->ms, from - 1000000, to, (int32_t)one->overlap_policy);
    }
    if (*patch->pause)
        set_paused(tx, true, patch->pause);
    if (*patch->unpause)
        set_paused(tx, false, patch->unpause);
}

static const tn_fault *patch(
    tn_tx *tx, const Temporal__Api__Workflowservice__V1__PatchScheduleRequest *request,
    tn_object_reply *reply)
{
    reply->response = (void *)RESPONSE(reply, patch_schedule);
    if (tn_schedule_knows_request(tn_schedule_of(tx->ms), request->request_id))
        return NULL;
    tn_schedule_take_time(tx);
    tn_schedule_note_request(tx->ms, request->request_id);
    if (request->patch)
        apply_patch(tx, request->patch);
    changed(tx);
    return NULL;
}

const tn_fault *tn_schedule_not_found(tn_arena *arena, tn_str id, tn_str run_id)
{
    Temporal__Api__Errordetails__V1__NotFoundFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__NOT_FOUND_FAILURE__INIT;

    (void)run_id;
    return tn_fault_detailed(arena, TN_GRPC_NOT_FOUND, &detail.base,
                             "workflow not found for ID: " TN_SCHEDULE_LISTED_AS TN_STR_FMT,
                             TN_STR_ARG(id));
}

static const tn_fault *is_gone(tn_arena *arena, bool described)
{
    Temporal__Api__Errordetails__V1__NotFoundFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__NOT_FOUND_FAILURE__INIT;

    return tn_fault_detailed(arena, TN_GRPC_NOT_FOUND, &detail.base,
                             described ? "schedule not found"
                                       : "workflow execution already completed");
}

const tn_fault *tn_schedule_call(tn_tx *tx, const ProtobufCMessage *request, tn_object_reply *reply)
{
    bool reads = IS(request, describe_schedule) || IS(request, list_schedule_matching_times);

    if (!tn_ms_running(tx->ms))
        return is_gone(reply->arena, reads);
    if (IS(request, describe_schedule)) {
        describe(tx->ms, reply);
        return NULL;
    }
    if (IS(request, list_schedule_matching_times))
        return matching_times(tx->ms, AS(request, ListScheduleMatchingTimes), reply);
    if (IS(request, update_schedule))
        return update(tx, AS(request, UpdateSchedule), reply);
    if (IS(request, patch_schedule))
        return patch(tx, AS(request, PatchSchedule), reply);
    if (IS(request, delete_schedule)) {
        reply->response = (void *)RESPONSE(reply, delete_schedule);
        tn_object_close(tx, TERMINATED, 0);
        return NULL;
    }
    return tn_fault_make(reply->arena, TN_GRPC_UNIMPLEMENTED, "a schedule has no such call");
}

/* ---- creation ---- */

bool tn_schedule_creates(const ProtobufCMessage *request) { return IS(request, create_schedule); }

static void reply_created(tn_object_reply *reply)
{
    Temporal__Api__Workflowservice__V1__CreateScheduleResponse *out =
        RESPONSE(reply, create_schedule);
    uint8_t *token = tn_arena_alloc(reply->arena, 8);

    tn_put_u64be(token, 1);
    out->conflict_token = (ProtobufCBinaryData){8, token};
    reply->response = &out->base;
}

tn_object_meet tn_schedule_meets(const tn_ms *there, const ProtobufCMessage *request,
                                 tn_object_reply *reply, const tn_fault **out_fault)
{
    const Temporal__Api__Workflowservice__V1__CreateScheduleRequest *r =
        AS(request, CreateSchedule);
    Temporal__Api__Errordetails__V1__WorkflowExecutionAlreadyStartedFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__WORKFLOW_EXECUTION_ALREADY_STARTED_FAILURE__INIT;

    if (!tn_ms_running(there))
        return TN_OBJECT_CREATE;
    if (there->create_request_id && strcmp(there->create_request_id, r->request_id) == 0)
        reply_created(reply);
    else
        *out_fault = tn_fault_detailed(reply->arena, TN_GRPC_ALREADY_EXISTS, &detail.base,
                                       "schedule \"%s\" is already registered", r->schedule_id);
    return TN_OBJECT_ANSWER;
}

const tn_fault *tn_schedule_create(tn_tx *tx, const ProtobufCMessage *request,
                                   tn_object_reply *reply)
{
    const Temporal__Api__Workflowservice__V1__CreateScheduleRequest *r =
        AS(request, CreateSchedule);
    tn_schedule *s;

    tn_object_begin(tx, &tn_schedule_kind,
                    &(tn_object_start){.type = WORKFLOW_TYPE,
                                       .task_queue = TASK_QUEUE,
                                       .identity = r->identity,
                                       .request_id = r->request_id,
                                       .memo = r->memo,
                                       .attributes = r->search_attributes});
    s = tn_schedule_new(tx->ms);
    tn_schedule_set(tx->ms, r->schedule);
    s->created_ns = s->processed_ns = (int64_t)tx->now_ns;
    if (r->initial_patch)
        apply_patch(tx, r->initial_patch);
    changed(tx);
    reply_created(reply);
    return NULL;
}

/* ---- listing ---- */

static Temporal__Api__Common__V1__Payload *payload_of(tn_arena *arena, const char *encoding,
                                                      const char *type, tn_blob data)
{
    Temporal__Api__Common__V1__Payload *out = TN_MSG(arena, temporal__api__common__v1__payload);
    const char *const entries[][2] = {{"encoding", encoding}, {"type", type}};

    out->metadata = TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__Payload__MetadataEntry *, 2);
    for (size_t i = 0; i < 2 && entries[i][1]; i++) {
        Temporal__Api__Common__V1__Payload__MetadataEntry *meta =
            TN_MSG(arena, temporal__api__common__v1__payload__metadata_entry);

        meta->key = (char *)(uintptr_t)entries[i][0];
        meta->value =
            (ProtobufCBinaryData){strlen(entries[i][1]), (uint8_t *)(uintptr_t)entries[i][1]};
        out->metadata[out->n_metadata++] = meta;
    }
    out->data = (ProtobufCBinaryData){data.n, (uint8_t *)(uintptr_t)data.p};
    return out;
}

static size_t at_most(size_t n, size_t most) { return n < most ? n : most; }

static tn_blob list_info(const tn_ms *ms, tn_arena *arena)
{
    const tn_schedule *s = tn_schedule_of(ms);
    Temporal__Api__Schedule__V1__ScheduleListInfo out =
        TEMPORAL__API__SCHEDULE__V1__SCHEDULE_LIST_INFO__INIT;
    Temporal__Api__Schedule__V1__ScheduleSpec spec = *s->schedule->spec;
    const Temporal__Api__Schedule__V1__ScheduleAction *action = s->schedule->action;

    spec.timezone_data = (ProtobufCBinaryData){0, NULL};
    spec.n_structured_calendar = at_most(spec.n_structured_calendar, LISTED_SPEC_PARTS);
    spec.n_exclude_structured_calendar =
        at_most(spec.n_exclude_structured_calendar, LISTED_SPEC_PARTS);
    spec.n_interval = at_most(spec.n_interval, LISTED_SPEC_PARTS);
    out.spec = &spec;
    if (action->action_case == TEMPORAL__API__SCHEDULE__V1__SCHEDULE_ACTION__ACTION_START_WORKFLOW)
        out.workflow_type = action->start_workflow->workflow_type;
    out.notes = s->schedule->state->notes;
    out.paused = s->schedule->state->paused;
    out.recent_actions =
        recent_actions(ms, arena, TN_SCHEDULE_RECENT_LISTED, &out.n_recent_actions);
    out.future_action_times = future_times(ms, arena, FUTURE_LISTED, &out.n_future_action_times);
    return tn_msg_pack(arena, &out);
}

void tn_schedule_listing(const tn_ms *ms, tn_arena *arena, tn_object_listing *inout)
{
    const tn_schedule *s = tn_schedule_of(ms);
    Temporal__Api__Common__V1__Memo *memo = TN_MSG(arena, temporal__api__common__v1__memo);
    Temporal__Api__Common__V1__SearchAttributes *attributes =
        TN_MSG(arena, temporal__api__common__v1__search_attributes);
    Temporal__Api__Common__V1__Memo__FieldsEntry *field =
        TN_MSG(arena, temporal__api__common__v1__memo__fields_entry);
    Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry *paused =
        TN_MSG(arena, temporal__api__common__v1__search_attributes__indexed_fields_entry);
    const char *said = s->schedule->state->paused ? "true" : "false";

    field->key = (char *)(uintptr_t)TN_SCHEDULE_MEMO;
    field->value = payload_of(arena, "binary/plain", NULL, list_info(ms, arena));
    memo->fields = TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__Memo__FieldsEntry *, 1);
    memo->fields[memo->n_fields++] = field;
    paused->key = (char *)(uintptr_t) "TemporalSchedulePaused";
    paused->value = payload_of(arena, "json/plain", "Bool", tn_blob_of_str(tn_str_from(said)));
    attributes->indexed_fields =
        TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry *, 1);
    attributes->indexed_fields[attributes->n_indexed_fields++] = paused;
    inout->memo = memo;
    inout->attributes = attributes;
}
