/* SPDX-License-Identifier: MIT */
/* What a schedule decides: which moments have passed, which actions are started, wait or are skipped, what an
 * answer or the end of a run changes, and when it must look again. */
#include "history/machine/priv.h"
#include "history/machine/schedule.h"
#include "proto/proto.h"

#define SECOND_NS INT64_C(1000000000)
#define MOMENTS_MAX 10000 /* looked at in one transition */
#define BACKFILLED_MAX 10 /* actions of backfills in one transition; the next part a second later */
#define STARTING_MAX 10   /* starts on their way at a time */
#define UNTRACKED_MAX 100 /* runs that may overlap and are still remembered */
#define MANUAL_TRY_NS (60 * SECOND_NS)
#define TRY_MIN_NS (5 * SECOND_NS)
#define TRY_MAX_NS (3600 * SECOND_NS)
#define IDLE_NS (INT64_C(7) * 86400 * SECOND_NS) /* after which a schedule that is done goes */
#define BLOB_MAX ((size_t)2 * 1024 * 1024 - 1024)

enum { SKIP = 1, BUFFER_ONE, BUFFER_ALL, CANCEL_OTHER, TERMINATE_OTHER, ALLOW_ALL };
enum { RUNNING = 1, COMPLETED, FAILED, CANCELED, TERMINATED, CONTINUED, TIMED_OUT };

typedef tn_schedule_action action;

static int64_t now_of(const tn_tx *tx) { return (int64_t)tx->now_ns; }

static const Temporal__Api__Workflow__V1__NewWorkflowExecutionInfo *workflow_of(
    const tn_schedule *s)
{
    const Temporal__Api__Schedule__V1__ScheduleAction *a = s->schedule->action;

    return a->action_case == TEMPORAL__API__SCHEDULE__V1__SCHEDULE_ACTION__ACTION_START_WORKFLOW
               ? a->start_workflow
               : NULL;
}

bool tn_schedule_may_act(const tn_schedule *s, bool manual)
{
    const Temporal__Api__Schedule__V1__ScheduleState *state = s->schedule->state;

    return manual || (!state->paused && (!state->limited_actions || state->remaining_actions > 0));
}

/* The same, and it is counted. */
static bool spend_action(tn_schedule *s, bool manual)
{
    Temporal__Api__Schedule__V1__ScheduleState *state = s->schedule->state;

    if (!tn_schedule_may_act(s, manual))
        return false;
    if (!manual && state->limited_actions) {
        state->remaining_actions--;
        s->conflict_token++;
        s->next_known = false;
    }
    return true;
}

/* ---- moments ---- */

void tn_schedule_add_start(tn_ms *ms, int64_t nominal_ns, int64_t at_ns, int32_t overlap,
                           bool manual)
{
    tn_schedule *s = ms->object;
    action *one;

    if (s->n_buffered >= TN_SCHEDULE_BUFFER_MAX) {
        s->dropped++;
        return;
    }
    one = tn_schedule_add_action(ms);
    one->id = ++s->last_id;
    one->stage = TN_ACTION_BUFFERED;
    one->nominal_ns = nominal_ns;
    one->at_ns = at_ns;
    one->overlap = overlap;
    one->manual = manual;
    s->n_buffered++;
}

static void processed(tn_schedule *s, int64_t at_ns)
{
    s->processed_ns = at_ns;
    s->next_known = false;
}

void tn_schedule_take_time(tn_tx *tx)
{
    tn_schedule *s = tn_schedule_of(tx->ms);
    int64_t now = now_of(tx), nominal, at;

    if (now <= s->processed_ns)
        return; /* clocks may go back: what was done stays done */
    if (!tn_schedule_may_act(s, false)) {
        processed(s, now);
        return;
    }
    for (int n = 0; n < MOMENTS_MAX; n++) {
        if (!tn_schedule_next_after(s, s->processed_ns, &nominal, &at) || at > now)
            return;
        processed(s, at);
        tx->extras_dirty = true;
        if (at < s->updated_ns)
            continue; /* of a specification that has just been replaced */
        if (now - at > tn_schedule_catchup_ns(s))
            s->missed++;
        else
            tn_schedule_add_start(tx->ms, nominal, at, 0, false);
    }
}

/* Some of the first backfill's moments; true: they are all done. */
static bool backfill_some(tn_tx *tx, tn_schedule_backfill *backfill, int *left)
{
    tn_schedule *s = tn_schedule_of(tx->ms);
    int64_t nominal, at;

    while (*left > 0) {
        if (!tn_schedule_next_after(s, backfill->from_ns, &nominal, &at) || at > backfill->to_ns)
            return true;
        tn_schedule_add_start(tx->ms, nominal, at, backfill->overlap, true);
        backfill->from_ns = at;
        (*left)--;
    }
    return false;
}

static bool backfill_has_room(const tn_schedule *s)
{
    return s->n_buffered < TN_SCHEDULE_BUFFER_MAX / 2;
}

static void backfill(tn_tx *tx)
{
    tn_schedule *s = tn_schedule_of(tx->ms);
    int left = BACKFILLED_MAX;
    tn_list *link;

    if (!s->n_backfills || s->backfill_ns > now_of(tx))
        return;
    while (left > 0 && backfill_has_room(s) && (link = tn_list_first(&s->backfills))) {
        tn_schedule_backfill *first = TN_CONTAINER_OF(link, tn_schedule_backfill, link);

        tx->extras_dirty = true;
        if (backfill_some(tx, first, &left))
            tn_schedule_drop_backfill(tx->ms, first);
    }
    s->backfill_ns = s->n_backfills ? now_of(tx) + SECOND_NS : 0;
}

/* ---- the buffer ---- */

static bool is_open(const action *one)
{
    return one->stage == TN_ACTION_STARTING || one->stage == TN_ACTION_RUNNING;
}

static bool something_runs(const tn_schedule *s)
{
    TN_LIST_FOREACH (link, &s->actions) {
        const action *one = TN_CONTAINER_OF(link, action, link);

        if (one->tracked && is_open(one))
            return true;
    }
    return false;
}

static int32_t policy_of(const tn_schedule *s, const action *one)
{
    return one->overlap ? one->overlap : (int32_t)s->schedule->policies->overlap_policy;
}

/* Runs that may overlap can't have one id. */
static bool keeps_id(const tn_schedule *s, const action *one)
{
    return s->schedule->policies->keep_original_workflow_id && policy_of(s, one) != ALLOW_ALL;
}

static void begin_start(tn_tx *tx, action *one, bool tracked)
{
    tn_schedule *s = tn_schedule_of(tx->ms);
    int64_t left_ns = MANUAL_TRY_NS;

    if (!one->manual) {
        int64_t catchup_ns = tn_schedule_catchup_ns(s), late_ns = now_of(tx) - one->at_ns;

        left_ns = catchup_ns - late_ns;
        left_ns = left_ns < TRY_MIN_NS ? TRY_MIN_NS : left_ns > TRY_MAX_NS ? TRY_MAX_NS : left_ns;
    }
    s->n_buffered--;
    one->stage = TN_ACTION_STARTING;
    one->tracked = tracked;
    one->give_up_ns = now_of(tx) + left_ns;
    tn_ms_replace_str(tx->ms, &one->workflow_id,
                      tn_str_from(keeps_id(s, one) ? workflow_of(s)->workflow_id
                                                   : tn_schedule_workflow_id(
                                                         tx->arena, workflow_of(s)->workflow_id,
                                                         one->nominal_ns)));
}

static void end_others(tn_schedule *s, int32_t how)
{
    TN_LIST_FOREACH (link, &s->actions) {
        action *one = TN_CONTAINER_OF(link, action, link);

        if (one->tracked && is_open(one) && one->ending < how) {
            one->ending = how;
            one->asked = false;
        }
    }
}

/* What becomes of the buffer: one that may start, those that may overlap, and whether what runs must go. */
typedef struct choice {
    action *start;
    size_t n_kept;
    bool cancel, terminate;
} choice;

/* True: it stays in the buffer; else it is the chosen one, or is gone. */
static void consider(tn_tx *tx, action *one, int32_t policy, bool running, choice *c)
{
    tn_schedule *s = tn_schedule_of(tx->ms);
    bool replaces = policy == CANCEL_OTHER || policy == TERMINATE_OTHER;

    if (!running && !c->start) {
        c->start = one;
    } else if (replaces && !running) {
        tn_schedule_drop_action(tx->ms, c->start);
        c->start = one;
    } else if (replaces || policy == BUFFER_ALL || (policy == BUFFER_ONE && c->n_kept == 0)) {
        c->n_kept++;
        c->cancel |= policy == CANCEL_OTHER;
        c->terminate |= policy == TERMINATE_OTHER;
    } else {
        s->skipped++;
        tn_schedule_drop_action(tx->ms, one);
    }
}

static bool start_or_drop(tn_tx *tx, action *one, bool tracked)
{
    if (spend_action(tn_schedule_of(tx->ms), one->manual)) {
        begin_start(tx, one, tracked);
        return true;
    }
    tn_schedule_drop_action(tx->ms, one);
    return false;
}

/* True: something that was to start could not, and another may now. */
static bool settle_buffer(tn_tx *tx)
{
    tn_schedule *s = tn_schedule_of(tx->ms);
    bool running = something_runs(s), again = false;
    choice c = {0};

    TN_LIST_FOREACH_SAFE (link, &s->actions) {
        action *one = TN_CONTAINER_OF(link, action, link);

        if (one->stage != TN_ACTION_BUFFERED)
            continue;
        if (!workflow_of(s))
            tn_schedule_drop_action(tx->ms, one);
        else if (policy_of(s, one) != ALLOW_ALL)
            consider(tx, one, policy_of(s, one), running, &c);
    }
    if (c.cancel || c.terminate)
        end_others(s, c.terminate ? 2 : 1);
    TN_LIST_FOREACH_SAFE (link, &s->actions) {
        action *one = TN_CONTAINER_OF(link, action, link);

        if (one->stage != TN_ACTION_BUFFERED || policy_of(s, one) != ALLOW_ALL || one == c.start)
            continue;
        if (c.cancel || c.terminate) /* it would have to go at once */
            tn_schedule_drop_action(tx->ms, one);
        else
            again |= !start_or_drop(tx, one, false);
    }
    if (c.start)
        again |= !start_or_drop(tx, c.start, true);
    return again;
}

/* Only the last ten that were started are shown; of those that may overlap, some more are remembered. */
static void forget_old(tn_tx *tx)
{
    tn_schedule *s = tn_schedule_of(tx->ms);
    size_t n = 0;

    for (tn_list *link = s->actions.prev, *before; link != &s->actions; link = before) {
        action *one = TN_CONTAINER_OF(link, action, link);

        before = link->prev;
        if (one->stage != TN_ACTION_RUNNING && one->stage != TN_ACTION_CLOSED)
            continue;
        n++;
        if ((one->stage == TN_ACTION_CLOSED && n > TN_SCHEDULE_RECENT) ||
            (!one->tracked && n > UNTRACKED_MAX))
            tn_schedule_drop_action(tx->ms, one);
    }
}

void tn_schedule_proceed(tn_tx *tx)
{
    tn_schedule *s = tn_schedule_of(tx->ms);

    tn_schedule_take_time(tx);
    backfill(tx);
    if (s->n_buffered) {
        tx->extras_dirty = true;
        while (settle_buffer(tx) && s->n_buffered)
            ;
    }
    forget_old(tx);
}

/* ---- time ---- */

static int64_t next_ns(tn_schedule *s)
{
    int64_t nominal, at, after = s->processed_ns;

    if (s->next_known)
        return s->next_ns;
    s->next_ns = INT64_MAX;
    s->next_known = true;
    if (!tn_schedule_may_act(s, false))
        return s->next_ns;
    for (int n = 0; n < MOMENTS_MAX && tn_schedule_next_after(s, after, &nominal, &at); n++) {
        s->next_ns = at;
        if (at >= s->updated_ns)
            break;
        after = at;
    }
    return s->next_ns;
}

static int64_t last_event_ns(const tn_schedule *s)
{
    int64_t last = s->created_ns > s->updated_ns ? s->created_ns : s->updated_ns;

    TN_LIST_FOREACH (link, &s->actions) {
        const action *one = TN_CONTAINER_OF(link, action, link);

        if (one->started_ns > last)
            last = one->started_ns;
    }
    return last;
}

/* When a schedule that has nothing to do any more goes; INT64_MAX: it has. */
static int64_t idle_until_ns(tn_schedule *s)
{
    if (s->schedule->state->paused || s->n_backfills || s->n_buffered || next_ns(s) != INT64_MAX ||
        something_runs(s))
        return INT64_MAX;
    return last_event_ns(s) + IDLE_NS;
}

uint64_t tn_schedule_deadline_ns(const tn_ms *ms)
{
    tn_schedule *s = tn_schedule_of(ms);
    int64_t at = next_ns(s), idle = idle_until_ns(s);

    if (s->n_backfills && backfill_has_room(s) && s->backfill_ns < at)
        at = s->backfill_ns;
    if (idle < at)
        at = idle;
    return at == INT64_MAX ? UINT64_MAX : at < 0 ? 0 : (uint64_t)at;
}

void tn_schedule_fire(tn_tx *tx)
{
    tn_schedule *s = tn_schedule_of(tx->ms);

    if (tn_schedule_deadline_ns(tx->ms) > tx->now_ns)
        return;
    if (idle_until_ns(s) <= now_of(tx)) {
        tn_object_close(tx, COMPLETED, 0);
        return;
    }
    tn_schedule_proceed(tx);
    tx->extras_dirty = tx->visibility_dirty = true; /* the next moments are shown in lists */
}

/* ---- effects ---- */

static bool wants_end(const action *one)
{
    return one->stage == TN_ACTION_RUNNING && one->ending && !one->asked;
}

void tn_schedule_wants(tn_ms *ms, uint64_t now_ns,
                       void (*each)(void *user, tn_want want, void *item), void *user)
{
    tn_schedule *s = tn_schedule_of(ms);
    size_t starting = 0;

    (void)now_ns;
    TN_LIST_FOREACH_SAFE (link, &s->actions) {
        action *one = TN_CONTAINER_OF(link, action, link);

        if (one->stage == TN_ACTION_STARTING && ++starting <= STARTING_MAX)
            one->want.what = TN_SCHEDULE_START;
        else if (wants_end(one))
            one->want.what = one->ending == 2 ? TN_SCHEDULE_TERMINATE : TN_SCHEDULE_CANCEL;
        else
            continue;
        one->want.id = one->id;
        if (!one->want.dispatched)
            each(user, TN_WANT_OBJECT, &one->want);
    }
}

bool tn_schedule_has_wants(const tn_ms *ms)
{
    const tn_schedule *s = tn_schedule_of(ms);

    TN_LIST_FOREACH (link, &s->actions) {
        const action *one = TN_CONTAINER_OF(link, action, link);

        if (one->stage == TN_ACTION_STARTING || wants_end(one))
            return true;
    }
    return false;
}

static bool may_pass(const tn_fault *fault)
{
    return fault && (fault->code == TN_GRPC_UNAVAILABLE ||
                     fault->code == TN_GRPC_RESOURCE_EXHAUSTED || fault->code == TN_GRPC_ABORTED ||
                     fault->code == TN_GRPC_DEADLINE_EXCEEDED || fault->code == TN_GRPC_INTERNAL);
}

static void note_started(tn_tx *tx, action *one, const char *run_id)
{
    one->stage = TN_ACTION_RUNNING;
    one->status = RUNNING;
    one->started_ns = now_of(tx);
    tn_ms_replace_str(tx->ms, &one->run_id, tn_str_from(run_id));
    tn_schedule_of(tx->ms)->action_count++;
}

static void start_answered(tn_tx *tx, action *one, const tn_object_result *result)
{
    const Temporal__Api__Workflowservice__V1__StartWorkflowExecutionResponse *response =
        (const void *)result->response;

    if (one->stage != TN_ACTION_STARTING)
        return; /* its end came first */
    if (may_pass(result->fault) && now_of(tx) < one->give_up_ns)
        return;
    tx->extras_dirty = tx->visibility_dirty = true;
    if (!result->fault && response)
        note_started(tx, one, response->run_id);
    else
        tn_schedule_drop_action(tx->ms, one);
    tn_schedule_proceed(tx);
}

void tn_schedule_result(tn_tx *tx, const tn_object_result *result)
{
    action *one = tn_schedule_action_by_id(tn_schedule_of(tx->ms), result->id);

    if (!one || !tn_ms_running(tx->ms))
        return;
    one->want.dispatched = false;
    if (result->what == TN_SCHEDULE_START) {
        start_answered(tx, one, result);
    } else if (!may_pass(result->fault) && one->stage == TN_ACTION_RUNNING) {
        /* It has been told, or there is nothing to be told any more: then word of its end is on its way. */
        one->asked = one->ending == 1 || result->what == TN_SCHEDULE_TERMINATE;
        tx->extras_dirty = true;
    }
}

/* ---- the end of a run ---- */

typedef struct ending {
    int32_t status;
    const Temporal__Api__Common__V1__Payloads *result;
    const Temporal__Api__Failure__V1__Failure *failure;
} ending;

static ending ending_of(const tn_event *event)
{
    switch ((int)event->attributes_case) {
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_COMPLETED_EVENT_ATTRIBUTES:
        return (ending){.status = COMPLETED,
                        .result = event->workflow_execution_completed_event_attributes->result};
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_FAILED_EVENT_ATTRIBUTES:
        return (ending){.status = FAILED,
                        .failure = event->workflow_execution_failed_event_attributes->failure};
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_CANCELED_EVENT_ATTRIBUTES:
        return (ending){.status = CANCELED};
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_TIMED_OUT_EVENT_ATTRIBUTES:
        return (ending){.status = TIMED_OUT};
    default:
        return (ending){.status = TERMINATED};
    }
}

static void keep_blob(tn_tx *tx, tn_blob *slot, const void *message)
{
    tn_blob packed = tn_msg_pack(tx->arena, message);

    if (packed.n <= BLOB_MAX)
        tn_ms_replace_blob(tx->ms, slot, packed);
}

/* The next run is given the last result, and the failure unless a result came since. */
static void keep_outcome(tn_tx *tx, const ending *end)
{
    tn_schedule *s = tn_schedule_of(tx->ms);

    if (end->result) {
        keep_blob(tx, &s->last_result, end->result);
        tn_ms_free_blob(tx->ms, &s->last_failure);
    } else if (end->failure) {
        keep_blob(tx, &s->last_failure, end->failure);
    }
}

static void pause_on_failure(tn_tx *tx, const action *one, const ending *end)
{
    tn_schedule *s = tn_schedule_of(tx->ms);
    char *notes;

    if (!s->schedule->policies->pause_on_failure || s->schedule->state->paused ||
        (end->status != FAILED && end->status != TIMED_OUT))
        return;
    notes =
        end->status == FAILED
            ? tn_arena_printf(tx->arena, "paused due to workflow failure: %s: %s", one->workflow_id,
                              end->failure ? end->failure->message : "")
            : tn_arena_printf(tx->arena, "paused due to workflow timeout: %s", one->workflow_id);
    s->schedule->state->paused = true;
    s->conflict_token++;
    tn_schedule_set_notes(tx->ms, notes);
}

void tn_schedule_owned_closed(tn_tx *tx, uint64_t ref, tn_str workflow_id, tn_str first_run_id,
                              const tn_event *event)
{
    action *one = tn_schedule_action_by_id(tn_schedule_of(tx->ms), ref);
    ending end = ending_of(event);

    (void)workflow_id;
    if (!one || !is_open(one) || !tn_ms_running(tx->ms))
        return; /* told before */
    if (one->stage == TN_ACTION_STARTING) {
        char run_id[37] = {0};

        memcpy(run_id, first_run_id.p, first_run_id.n < 36 ? first_run_id.n : 36);
        note_started(tx, one, run_id);
    }
    one->stage = TN_ACTION_CLOSED;
    one->status = end.status;
    tx->extras_dirty = tx->visibility_dirty = true;
    if (one->tracked)
        keep_outcome(tx, &end);
    /* Before the pause: what has passed is taken by the rules that held. */
    tn_schedule_take_time(tx);
    pause_on_failure(tx, one, &end);
    tn_schedule_proceed(tx);
}
