/* SPDX-License-Identifier: MIT */
/* The state of a schedule: in memory, to its bytes and back. */
#include "history/machine/schedule.h"

#include <stdio.h>

#include "history/machine/priv.h"
#include "proto/proto.h"

#define CATCHUP_DEFAULT_NS (INT64_C(365) * 86400 * 1000000000)
#define CATCHUP_MIN_NS (INT64_C(10) * 1000000000)
#define POLICY_SKIP 1

tn_str tn_schedule_id(const tn_ms *ms) { return tn_object_id_of(tn_str_from(ms->workflow_id)); }

/* ---- parts ---- */

tn_schedule_action *tn_schedule_add_action(tn_ms *ms)
{
    tn_schedule *s = ms->object;
    tn_schedule_action *action = tn_ms_alloc(ms, sizeof(*action));

    tn_list_push_back(&s->actions, &action->link);
    s->n_actions++;
    return action;
}

void tn_schedule_drop_action(tn_ms *ms, tn_schedule_action *action)
{
    tn_schedule *s = ms->object;

    if (action->stage == TN_ACTION_BUFFERED)
        s->n_buffered--;
    s->n_actions--;
    tn_list_remove(&action->link);
    tn_ms_free(ms, action->workflow_id);
    tn_ms_free(ms, action->run_id);
    tn_ms_free(ms, action);
}

tn_schedule_action *tn_schedule_action_by_id(const tn_schedule *s, uint64_t id)
{
    TN_LIST_FOREACH (link, &s->actions) {
        tn_schedule_action *action = TN_CONTAINER_OF(link, tn_schedule_action, link);

        if (action->id == id)
            return action;
    }
    return NULL;
}

void tn_schedule_add_backfill(tn_ms *ms, int64_t from_ns, int64_t to_ns, int32_t overlap)
{
    tn_schedule *s = ms->object;
    tn_schedule_backfill *backfill = tn_ms_alloc(ms, sizeof(*backfill));

    backfill->from_ns = from_ns;
    backfill->to_ns = to_ns;
    backfill->overlap = overlap;
    tn_list_push_back(&s->backfills, &backfill->link);
    s->n_backfills++;
}

void tn_schedule_drop_backfill(tn_ms *ms, tn_schedule_backfill *backfill)
{
    tn_schedule *s = ms->object;

    s->n_backfills--;
    tn_list_remove(&backfill->link);
    tn_ms_free(ms, backfill);
}

bool tn_schedule_knows_request(const tn_schedule *s, const char *request_id)
{
    for (size_t i = 0; *request_id && i < s->n_request_ids; i++)
        if (strcmp(s->request_ids[i], request_id) == 0)
            return true;
    return false;
}

void tn_schedule_note_request(tn_ms *ms, const char *request_id)
{
    tn_schedule *s = ms->object;

    if (!*request_id)
        return;
    if (s->n_request_ids == TN_SCHEDULE_REQUEST_IDS) {
        tn_ms_free(ms, s->request_ids[0]);
        s->n_request_ids--;
        memmove(s->request_ids, s->request_ids + 1, s->n_request_ids * sizeof(s->request_ids[0]));
    }
    s->request_ids[s->n_request_ids++] = tn_ms_strdup(ms, tn_str_from(request_id));
}

/* ---- the schedule itself ---- */

static void account(tn_ms *ms, tn_schedule *s)
{
    size_t now = s->arena ? tn_arena_used_bytes(s->arena) : 0;

    ms->bytes = ms->bytes - s->arena_bytes + now;
    s->arena_bytes = now;
}

static void fill_in(tn_arena *arena, Temporal__Api__Schedule__V1__Schedule *schedule)
{
    Temporal__Api__Schedule__V1__SchedulePolicies *policies;
    int64_t catchup_ns = CATCHUP_DEFAULT_NS;

    if (!schedule->spec)
        schedule->spec = TN_MSG(arena, temporal__api__schedule__v1__schedule_spec);
    if (!schedule->action)
        schedule->action = TN_MSG(arena, temporal__api__schedule__v1__schedule_action);
    if (!schedule->policies)
        schedule->policies = TN_MSG(arena, temporal__api__schedule__v1__schedule_policies);
    if (!schedule->state)
        schedule->state = TN_MSG(arena, temporal__api__schedule__v1__schedule_state);
    policies = schedule->policies;
    if ((int)policies->overlap_policy == 0)
        policies->overlap_policy = (Temporal__Api__Enums__V1__ScheduleOverlapPolicy)POLICY_SKIP;
    if (policies->catchup_window && tn_ns_from_duration(policies->catchup_window, &catchup_ns) &&
        catchup_ns < CATCHUP_MIN_NS)
        catchup_ns = CATCHUP_MIN_NS;
    policies->catchup_window = tn_duration_from_ns(arena, catchup_ns);
}

void tn_schedule_set(tn_ms *ms, const Temporal__Api__Schedule__V1__Schedule *schedule)
{
    tn_schedule *s = ms->object;
    tn_arena *arena = tn_arena_create(0);

    s->schedule = schedule ? (void *)tn_proto_copy(&schedule->base, arena)
                           : TN_MSG(arena, temporal__api__schedule__v1__schedule);
    fill_in(arena, s->schedule);
    tn_arena_destroy(s->arena); /* the given one may lie there */
    s->arena = arena;
    s->times = NULL;
    s->times_known = s->next_known = false;
    account(ms, s);
}

void tn_schedule_set_notes(tn_ms *ms, const char *notes)
{
    tn_schedule *s = ms->object;

    s->schedule->state->notes = tn_arena_strdup(s->arena, notes);
    tn_schedule_set(ms, s->schedule); /* so that old notes don't stay in its arena */
}

int64_t tn_schedule_catchup_ns(const tn_schedule *s)
{
    int64_t ns = CATCHUP_DEFAULT_NS;

    (void)tn_ns_from_duration(s->schedule->policies->catchup_window, &ns);
    return ns;
}

const tn_schedule_times *tn_schedule_times_of(tn_schedule *s)
{
    const char *error;

    if (!s->times_known) {
        s->times = tn_schedule_times_make(s->arena, s->schedule->spec, &error);
        s->times_known = true;
    }
    return s->times;
}

bool tn_schedule_next_after(tn_schedule *s, int64_t after_ns, int64_t *out_nominal_ns,
                            int64_t *out_ns)
{
    const tn_schedule_times *times = tn_schedule_times_of(s);

    return times && tn_schedule_times_next(times, tn_str_from(s->seed), after_ns, out_nominal_ns,
                                           out_ns) == TN_SCHEDULE_AT;
}

tn_schedule *tn_schedule_new(tn_ms *ms)
{
    tn_schedule *s = tn_ms_alloc(ms, sizeof(*s));
    tn_str id = tn_schedule_id(ms);
    size_t n = strlen(ms->ns_id) + id.n + 2;

    ms->object = s;
    tn_list_init(&s->actions);
    tn_list_init(&s->backfills);
    s->conflict_token = 1;
    s->seed = tn_ms_alloc(ms, n);
    (void)snprintf(s->seed, n, "%s-" TN_STR_FMT, ms->ns_id, TN_STR_ARG(id));
    return s;
}

static void destroy(tn_ms *ms)
{
    tn_schedule *s = ms->object;
    tn_list *link;

    if (!s)
        return;
    while ((link = tn_list_first(&s->actions)))
        tn_schedule_drop_action(ms, TN_CONTAINER_OF(link, tn_schedule_action, link));
    while ((link = tn_list_first(&s->backfills)))
        tn_schedule_drop_backfill(ms, TN_CONTAINER_OF(link, tn_schedule_backfill, link));
    for (size_t i = 0; i < s->n_request_ids; i++)
        tn_ms_free(ms, s->request_ids[i]);
    tn_ms_free_blob(ms, &s->last_result);
    tn_ms_free_blob(ms, &s->last_failure);
    tn_ms_free(ms, s->seed);
    tn_arena_destroy(s->arena);
    s->arena = NULL;
    account(ms, s);
    tn_ms_free(ms, s);
    ms->object = NULL;
}

/* ---- to bytes ---- */

static Tenon__ScheduleAction *save_action(const tn_schedule_action *action, tn_arena *arena)
{
    Tenon__ScheduleAction *to = TN_MSG(arena, tenon__schedule_action);

    to->id = action->id;
    to->stage = (int32_t)action->stage;
    to->nominal_ns = action->nominal_ns;
    to->at_ns = action->at_ns;
    to->overlap = action->overlap;
    to->manual = action->manual;
    to->give_up_ns = action->give_up_ns;
    to->tracked = action->tracked;
    if (action->workflow_id)
        to->workflow_id = action->workflow_id;
    if (action->run_id)
        to->run_id = action->run_id;
    to->started_ns = action->started_ns;
    to->status = action->status;
    to->ending = action->ending;
    to->asked = action->asked;
    return to;
}

static void save_lists(const tn_schedule *s, tn_arena *arena, Tenon__ScheduleState *to)
{
    to->actions = TN_NEW_ARRAY(arena, Tenon__ScheduleAction *, s->n_actions + 1);
    TN_LIST_FOREACH (link, &s->actions)
        to->actions[to->n_actions++] =
            save_action(TN_CONTAINER_OF(link, tn_schedule_action, link), arena);
    to->backfills = TN_NEW_ARRAY(arena, Tenon__ScheduleBackfill *, s->n_backfills + 1);
    TN_LIST_FOREACH (link, &s->backfills) {
        const tn_schedule_backfill *from = TN_CONTAINER_OF(link, tn_schedule_backfill, link);
        Tenon__ScheduleBackfill *backfill = TN_MSG(arena, tenon__schedule_backfill);

        backfill->from_ns = from->from_ns;
        backfill->to_ns = from->to_ns;
        backfill->overlap = from->overlap;
        to->backfills[to->n_backfills++] = backfill;
    }
    to->n_request_ids = s->n_request_ids;
    to->request_ids = (char **)(uintptr_t)s->request_ids;
}

static tn_blob save(const tn_ms *ms, tn_arena *arena)
{
    const tn_schedule *s = ms->object;
    Tenon__ScheduleState to = TENON__SCHEDULE_STATE__INIT;
    tn_blob schedule = tn_msg_pack(arena, s->schedule);

    to.schedule = (ProtobufCBinaryData){schedule.n, (uint8_t *)(uintptr_t)schedule.p};
    to.action_count = s->action_count;
    to.missed = s->missed;
    to.skipped = s->skipped;
    to.dropped = s->dropped;
    to.created_ns = s->created_ns;
    to.updated_ns = s->updated_ns;
    to.processed_ns = s->processed_ns;
    to.conflict_token = s->conflict_token;
    to.last_id = s->last_id;
    to.backfill_ns = s->backfill_ns;
    to.last_result =
        (ProtobufCBinaryData){s->last_result.n, (uint8_t *)(uintptr_t)s->last_result.p};
    to.last_failure =
        (ProtobufCBinaryData){s->last_failure.n, (uint8_t *)(uintptr_t)s->last_failure.p};
    save_lists(s, arena, &to);
    return tn_msg_pack(arena, &to);
}

/* ---- from bytes ---- */

static void load_actions(tn_ms *ms, const Tenon__ScheduleState *from)
{
    tn_schedule *s = ms->object;

    for (size_t i = 0; i < from->n_actions; i++) {
        const Tenon__ScheduleAction *a = from->actions[i];
        tn_schedule_action *action = tn_schedule_add_action(ms);

        action->id = a->id;
        action->stage = a->stage >= TN_ACTION_BUFFERED && a->stage <= TN_ACTION_CLOSED
                            ? (tn_schedule_stage)a->stage
                            : TN_ACTION_CLOSED;
        s->n_buffered += action->stage == TN_ACTION_BUFFERED;
        action->nominal_ns = a->nominal_ns;
        action->at_ns = a->at_ns;
        action->overlap = a->overlap;
        action->manual = a->manual;
        action->give_up_ns = a->give_up_ns;
        action->tracked = a->tracked;
        tn_ms_replace_str(ms, &action->workflow_id, tn_str_from(a->workflow_id));
        tn_ms_replace_str(ms, &action->run_id, tn_str_from(a->run_id));
        action->started_ns = a->started_ns;
        action->status = a->status;
        action->ending = a->ending;
        action->asked = a->asked;
    }
}

static void load_state(tn_ms *ms, const Tenon__ScheduleState *from)
{
    tn_schedule *s = ms->object;

    s->action_count = from->action_count;
    s->missed = from->missed;
    s->skipped = from->skipped;
    s->dropped = from->dropped;
    s->created_ns = from->created_ns;
    s->updated_ns = from->updated_ns;
    s->processed_ns = from->processed_ns;
    s->conflict_token = from->conflict_token;
    s->last_id = from->last_id;
    s->backfill_ns = from->backfill_ns;
    tn_ms_replace_blob(ms, &s->last_result,
                       (tn_blob){from->last_result.data, from->last_result.len});
    tn_ms_replace_blob(ms, &s->last_failure,
                       (tn_blob){from->last_failure.data, from->last_failure.len});
    for (size_t i = 0; i < from->n_backfills; i++)
        tn_schedule_add_backfill(ms, from->backfills[i]->from_ns, from->backfills[i]->to_ns,
                                 from->backfills[i]->overlap);
    for (size_t i = 0; i < from->n_request_ids; i++)
        tn_schedule_note_request(ms, from->request_ids[i]);
    load_actions(ms, from);
}

static tn_status load(tn_ms *ms, tn_blob packed, tn_error *err)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__ScheduleState *from;
    Temporal__Api__Schedule__V1__Schedule *schedule;
    tn_status status = TN_OK;

    if (TN_PROTO_UNPACK(tenon__schedule_state, packed, arena, &from, NULL) != TN_OK ||
        TN_PROTO_UNPACK(temporal__api__schedule__v1__schedule,
                        tn_blob_from(from->schedule.data, from->schedule.len), arena, &schedule,
                        NULL) != TN_OK) {
        status = tn_error_set(err, TN_EDATALOSS, "the state of a schedule can't be read");
        goto out;
    }
    destroy(ms);
    tn_schedule_new(ms);
    tn_schedule_set(ms, schedule);
    load_state(ms, from);
out:
    tn_arena_destroy(arena);
    return status;
}

const tn_object_kind tn_schedule_kind = {
    .letter = 's',
    .division = TN_SCHEDULE_DIVISION,
    .load = load,
    .save = save,
    .destroy = destroy,
    .creates = tn_schedule_creates,
    .meets = tn_schedule_meets,
    .create = tn_schedule_create,
    .call = tn_schedule_call,
    .not_found = tn_schedule_not_found,
    .deadline_ns = tn_schedule_deadline_ns,
    .fire = tn_schedule_fire,
    .wants = tn_schedule_wants,
    .has_wants = tn_schedule_has_wants,
    .result = tn_schedule_result,
    .listing = tn_schedule_listing,
    .owned_closed = tn_schedule_owned_closed,
};
