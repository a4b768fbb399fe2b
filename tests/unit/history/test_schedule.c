/* SPDX-License-Identifier: MIT */
/* Schedules without a server: a world that starts runs, answers late, twice or never, and dies at any moment.
 * TENON_SEED=n repeats one random life. */
#include "history/machine/schedule.h"

#include "machine_kit.h"

#define HOUR (3600 * TN_SEC)
#define DAY (24 * HOUR)
enum { SKIP = 1, BUFFER_ONE, BUFFER_ALL, CANCEL_OTHER, TERMINATE_OTHER, ALLOW_ALL };

/* A run that the world has started. */
typedef struct started {
    char *request_id, *workflow_id;
    uint64_t ref, until_ns;
    bool tracked, open, told, fails;
} started;

typedef struct world {
    kit k;
    tn_blob stored; /* the snapshot that was written last */
    started runs[4096];
    size_t n_runs;
    uint64_t run_ns; /* how long a run lasts; 0: until it is ended */
    bool unavailable, chaos, fails;
    size_t overlapping; /* most tracked runs open at once */
} world;

typedef Temporal__Api__Workflowservice__V1__CreateScheduleRequest create_request;

static tn_schedule *schedule_in(const world *w) { return tn_schedule_of(w->k.ms); }

static void commit(world *w)
{
    tn_arena *arena = tn_arena_create(0);
    tn_tx_finish(&w->k.tx);
    if (w->k.tx.extras_dirty || w->k.tx.n_events) {
        free((void *)(uintptr_t)w->stored.p);
        w->stored = kit_dup(tn_msg_pack(arena, tn_ms_snapshot(w->k.ms, arena)));
    }
    tn_tx_done(&w->k.tx);
    tn_arena_destroy(w->k.tx_arena);
    tn_arena_destroy(arena);
}

static tn_tx *begin(world *w) { return kit_begin(&w->k); }

/* The process dies: what was not written is lost. */
static void crash(world *w)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__Snapshot *snapshot;
    tn_error err = {0};

    assert_int_equal(TN_PROTO_UNPACK(tenon__snapshot, w->stored, arena, &snapshot, NULL), TN_OK);
    tn_ms_destroy(w->k.ms);
    w->k.ms = tn_ms_load_snapshot(snapshot, &err);
    assert_non_null(w->k.ms);
    tn_arena_destroy(arena);
}

/* ---- requests ---- */

static Temporal__Api__Schedule__V1__Schedule *every(tn_arena *arena, uint64_t interval_ns,
                                                    int overlap)
{
    Temporal__Api__Schedule__V1__Schedule *s = TN_MSG(arena, temporal__api__schedule__v1__schedule);
    Temporal__Api__Workflow__V1__NewWorkflowExecutionInfo *run =
        TN_MSG(arena, temporal__api__workflow__v1__new_workflow_execution_info);

    s->spec = TN_MSG(arena, temporal__api__schedule__v1__schedule_spec);
    s->spec->interval = TN_NEW_ARRAY(arena, Temporal__Api__Schedule__V1__IntervalSpec *, 1);
    s->spec->interval[s->spec->n_interval++] =
        TN_MSG(arena, temporal__api__schedule__v1__interval_spec);
    s->spec->interval[0]->interval = tn_duration_from_ns(arena, (int64_t)interval_ns);
    s->action = TN_MSG(arena, temporal__api__schedule__v1__schedule_action);
    s->action->action_case = TEMPORAL__API__SCHEDULE__V1__SCHEDULE_ACTION__ACTION_START_WORKFLOW;
    s->action->start_workflow = run;
    run->workflow_id = (char *)(uintptr_t) "run";
    run->workflow_type = TN_MSG(arena, temporal__api__common__v1__workflow_type);
    run->workflow_type->name = (char *)(uintptr_t) "flow";
    run->task_queue = TN_MSG(arena, temporal__api__taskqueue__v1__task_queue);
    run->task_queue->name = (char *)(uintptr_t) "queue";
    s->policies = TN_MSG(arena, temporal__api__schedule__v1__schedule_policies);
    s->policies->overlap_policy = (Temporal__Api__Enums__V1__ScheduleOverlapPolicy)overlap;
    s->state = TN_MSG(arena, temporal__api__schedule__v1__schedule_state);
    return s;
}

static void create(world *w, Temporal__Api__Schedule__V1__Schedule *s, uint64_t seed)
{
    tn_object_reply reply;
    create_request *r;
    uint8_t id[16];

    tn_ms_destroy(w->k.ms);
    tn_rng_seed(&w->k.rng, seed);
    tn_uuid_v7(&w->k.rng, w->k.now_ns, id);
    w->k.ms = tn_ms_create(w->k.env.ns_id,
                           TN_STR("\x01s"
                                  "one"),
                           id);
    r = TN_MSG(w->k.arena, temporal__api__workflowservice__v1__create_schedule_request);
    r->schedule_id = (char *)(uintptr_t) "one";
    r->request_id = (char *)(uintptr_t) "r1";
    r->schedule = s;
    reply = (tn_object_reply){.arena = w->k.arena};
    assert_null(tn_schedule_create(begin(w), &r->base, &reply));
    assert_non_null(reply.response);
    commit(w);
}

static void open_world(world *w, uint64_t interval_ns, int overlap)
{
    memset(w, 0, sizeof(*w));
    kit_open(&w->k, 1);
    create(w, every(w->k.arena, interval_ns, overlap), 1);
}

static void close_world(world *w)
{
    for (size_t i = 0; i < w->n_runs; i++) {
        free(w->runs[i].request_id);
        free(w->runs[i].workflow_id);
    }
    free((void *)(uintptr_t)w->stored.p);
    kit_close(&w->k);
}

static const tn_fault *call(world *w, const ProtobufCMessage *request, tn_object_reply *reply)
{
    const tn_fault *fault;

    *reply = (tn_object_reply){.arena = w->k.arena};
    fault = tn_schedule_call(begin(w), request, reply);
    commit(w);
    return fault;
}

static const tn_fault *patch(world *w, Temporal__Api__Schedule__V1__SchedulePatch *what,
                             const char *request_id)
{
    Temporal__Api__Workflowservice__V1__PatchScheduleRequest *r =
        TN_MSG(w->k.arena, temporal__api__workflowservice__v1__patch_schedule_request);
    tn_object_reply reply;

    r->patch = what;
    r->request_id = (char *)(uintptr_t)request_id;
    return call(w, &r->base, &reply);
}

/* ---- the world does what is wanted ---- */

static bool maybe(world *w, unsigned percent)
{
    return w->chaos && tn_rng_below(&w->k.rng, 100) < percent;
}

static started *start(world *w, const tn_schedule_action *action)
{
    const Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r =
        tn_schedule_start_request(w->k.ms, action, w->k.env.ns_name, w->k.arena);
    started *run;
    size_t open = 0;

    for (size_t i = 0; i < w->n_runs; i++)
        if (strcmp(w->runs[i].request_id, r->request_id) == 0)
            return &w->runs[i];
    for (size_t i = 0; i < w->n_runs; i++) /* a moment is taken once */
        assert_string_not_equal(w->runs[i].workflow_id, r->workflow_id);
    assert_true(w->n_runs < TN_COUNT_OF(w->runs));
    run = &w->runs[w->n_runs++];
    *run = (started){.request_id = strdup(r->request_id),
                     .workflow_id = strdup(r->workflow_id),
                     .ref = action->id,
                     .until_ns = w->run_ns ? w->k.now_ns + w->run_ns : UINT64_MAX,
                     .tracked = action->tracked,
                     .open = true,
                     .fails = w->fails};
    for (size_t i = 0; i < w->n_runs; i++)
        open += w->runs[i].open && w->runs[i].tracked;
    w->overlapping = open > w->overlapping ? open : w->overlapping;
    return run;
}

typedef struct wanted {
    uint32_t what;
    uint64_t id;
} wanted;
typedef struct wish_list {
    wanted items[64];
    size_t n;
} wish_list;

static void note(void *user, tn_want want, void *item)
{
    wish_list *list = user;
    tn_object_want *one = item;

    assert_int_equal(want, TN_WANT_OBJECT);
    one->dispatched = true;
    assert_true(list->n < TN_COUNT_OF(list->items));
    list->items[list->n++] = (wanted){one->what, one->id};
}

static void end_run(world *w, const char *workflow_id)
{
    for (size_t i = 0; i < w->n_runs; i++)
        if (strcmp(w->runs[i].workflow_id, workflow_id) == 0 && w->runs[i].until_ns > w->k.now_ns)
            w->runs[i].until_ns = w->k.now_ns;
}

/* True: it died before the answer came. */
static bool do_want(world *w, wanted one)
{
    tn_schedule_action *action = tn_schedule_action_by_id(schedule_in(w), one.id);
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionResponse *response =
        TN_MSG(w->k.arena, temporal__api__workflowservice__v1__start_workflow_execution_response);
    tn_object_result result = {.what = one.what, .id = one.id, .response = &response->base};

    if (!action)
        return false;
    if (w->unavailable || maybe(w, 10))
        result.fault = tn_fault_make(w->k.arena, TN_GRPC_UNAVAILABLE, "later");
    else if (one.what == TN_SCHEDULE_START)
        response->run_id = start(w, action)->request_id;
    else
        end_run(w, action->workflow_id);
    if (maybe(w, 15)) {
        crash(w);
        return true;
    }
    tn_schedule_result(begin(w), &result);
    commit(w);
    return false;
}

static void tell_ends(world *w)
{
    for (size_t i = 0; i < w->n_runs; i++) {
        started *run = &w->runs[i];
        tn_event event = TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__INIT;
        Temporal__Api__History__V1__WorkflowExecutionCompletedEventAttributes done =
            TEMPORAL__API__HISTORY__V1__WORKFLOW_EXECUTION_COMPLETED_EVENT_ATTRIBUTES__INIT;
        Temporal__Api__History__V1__WorkflowExecutionFailedEventAttributes failed =
            TEMPORAL__API__HISTORY__V1__WORKFLOW_EXECUTION_FAILED_EVENT_ATTRIBUTES__INIT;
        Temporal__Api__Failure__V1__Failure failure = TEMPORAL__API__FAILURE__V1__FAILURE__INIT;
        Temporal__Api__Common__V1__Payloads result = TEMPORAL__API__COMMON__V1__PAYLOADS__INIT;
        Temporal__Api__Common__V1__Payload one = TEMPORAL__API__COMMON__V1__PAYLOAD__INIT,
                                           *all = &one;

        if (run->told || run->until_ns > w->k.now_ns)
            continue;
        run->open = false;
        event.attributes_case =
            run->fails
                ? TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_FAILED_EVENT_ATTRIBUTES
                : TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_COMPLETED_EVENT_ATTRIBUTES;
        failure.message = (char *)(uintptr_t) "broken";
        failed.failure = &failure;
        result.n_payloads = 1;
        result.payloads = &all;
        done.result = &result;
        if (run->fails)
            event.workflow_execution_failed_event_attributes = &failed;
        else
            event.workflow_execution_completed_event_attributes = &done;
        tn_schedule_owned_closed(begin(w), run->ref, tn_str_from(run->workflow_id),
                                 tn_str_from(run->request_id), &event);
        commit(w);
        run->told = !maybe(w, 20); /* else it tells again */
    }
}

/* All that is wanted now, until nothing is. */
static void settle(world *w)
{
    for (int turn = 0; turn < 3000; turn++) {
        wish_list list = {.n = 0};
        size_t open = 0;

        tn_schedule_wants(w->k.ms, w->k.now_ns, note, &list);
        for (size_t i = 0; i < list.n; i++)
            if (do_want(w, list.items[i]))
                break;
        for (size_t i = 0; i < w->n_runs; i++)
            open += w->runs[i].until_ns <= w->k.now_ns && !w->runs[i].told;
        tell_ends(w);
        if (list.n == 0 && open == 0)
            return;
        if (w->unavailable)
            return;
    }
    fail_msg("there is no end to it");
}

static void fire(world *w)
{
    tn_schedule_fire(begin(w));
    commit(w);
}

/* Time goes on to `until`, with a stop whenever the schedule or a run has something to do. */
static void go_on(world *w, uint64_t until_ns)
{
    settle(w);
    while (w->k.now_ns < until_ns) {
        uint64_t next = tn_schedule_deadline_ns(w->k.ms);

        for (size_t i = 0; i < w->n_runs; i++)
            if (!w->runs[i].told && w->runs[i].until_ns < next)
                next = w->runs[i].until_ns;
        if (w->unavailable && next > w->k.now_ns + TN_SEC)
            next = w->k.now_ns + TN_SEC;
        if (next < w->k.now_ns)
            next = w->k.now_ns;
        w->k.now_ns = next < until_ns ? next : until_ns;
        if (maybe(w, 10))
            crash(w);
        if (tn_ms_running(w->k.ms) && tn_schedule_deadline_ns(w->k.ms) <= w->k.now_ns)
            fire(w);
        settle(w);
    }
}

/* ---- tests ---- */

static uint64_t next_minute(const world *w)
{
    return (w->k.now_ns / (60 * TN_SEC) + 1) * 60 * TN_SEC;
}

static void each_moment_is_taken_once(void **state)
{
    world w;
    uint64_t first;

    (void)state;
    open_world(&w, 60 * TN_SEC, ALLOW_ALL);
    first = next_minute(&w);
    assert_int_equal(tn_schedule_deadline_ns(w.k.ms), first);
    go_on(&w, first + HOUR - 1);
    assert_int_equal(w.n_runs, 60);
    assert_int_equal(schedule_in(&w)->action_count, 60);
    assert_true(schedule_in(&w)->n_actions <= 100);
    close_world(&w);
}

static void one_life(uint64_t seed)
{
    static const int policies[] = {SKIP,         BUFFER_ONE,      BUFFER_ALL,
                                   CANCEL_OTHER, TERMINATE_OTHER, ALLOW_ALL};
    int policy = policies[seed % TN_COUNT_OF(policies)];
    world w;
    uint64_t first;

    memset(&w, 0, sizeof(w));
    kit_open(&w.k, seed);
    create(&w, every(w.k.arena, 60 * TN_SEC, policy), seed);
    w.chaos = true;
    w.run_ns = (1 + tn_rng_below(&w.k.rng, 150)) * TN_SEC;
    first = next_minute(&w);
    go_on(&w, first + HOUR - 1);
    w.chaos = false;
    settle(&w);
    if (policy == ALLOW_ALL) {
        assert_int_equal(w.n_runs, 60);
    } else {
        assert_true(w.overlapping <= 1);
        assert_int_equal(
            w.n_runs + (size_t)schedule_in(&w)->skipped + schedule_in(&w)->n_buffered +
                (size_t)(policy >= CANCEL_OTHER ? 60 - w.n_runs - schedule_in(&w)->n_buffered : 0),
            60);
    }
    assert_int_equal((int64_t)w.n_runs, schedule_in(&w)->action_count);
    close_world(&w);
}

static void no_life_loses_or_doubles_an_action(void **state)
{
    const char *one = getenv("TENON_SEED");

    (void)state;
    for (uint64_t seed = one ? strtoull(one, NULL, 10) : 1, last = one ? seed : 300; seed <= last;
         seed++) {
        if (one || seed % 100 == 1)
            print_message("seed %llu\n", (unsigned long long)seed);
        one_life(seed);
    }
}

static void a_server_that_was_down_catches_up(void **state)
{
    world w;
    Temporal__Api__Schedule__V1__Schedule *s;

    (void)state;
    memset(&w, 0, sizeof(w));
    kit_open(&w.k, 1);
    s = every(w.k.arena, 60 * TN_SEC, ALLOW_ALL);
    s->policies->catchup_window = tn_duration_from_ns(w.k.arena, (int64_t)(600 * TN_SEC));
    create(&w, s, 1);
    w.k.now_ns = next_minute(&w) - 60 * TN_SEC + HOUR; /* at the sixtieth moment */
    crash(&w);
    fire(&w);
    settle(&w);
    assert_int_equal(w.n_runs, 11);
    assert_int_equal(schedule_in(&w)->missed, 49);
    /* without a window of its own: a year's */
    close_world(&w);
    open_world(&w, 60 * TN_SEC, SKIP);
    w.k.now_ns += HOUR;
    fire(&w);
    settle(&w);
    assert_int_equal(w.n_runs, 1);
    assert_int_equal(schedule_in(&w)->skipped, 59);
    close_world(&w);
}

static void policies_on_overlap(void **state)
{
    static const struct {
        int policy;
        size_t runs, skipped, buffered, after; /* after: runs when the first has ended */
    } table[] = {
        {SKIP, 1, 4, 0, 1},         {BUFFER_ONE, 1, 3, 1, 2},      {BUFFER_ALL, 1, 0, 4, 5},
        {CANCEL_OTHER, 5, 0, 0, 5}, {TERMINATE_OTHER, 5, 0, 0, 5}, {ALLOW_ALL, 5, 0, 0, 5},
    };

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(table); i++) {
        world w;

        open_world(&w, 60 * TN_SEC, table[i].policy);
        go_on(&w, next_minute(&w) + 4 * 60 * TN_SEC + 1);
        assert_int_equal(w.n_runs, table[i].runs);
        assert_int_equal(schedule_in(&w)->skipped, table[i].skipped);
        assert_int_equal(schedule_in(&w)->n_buffered, table[i].buffered);
        for (int n = 0; n < 6; n++) {
            for (size_t k = 0; k < w.n_runs; k++)
                w.runs[k].until_ns = w.k.now_ns;
            settle(&w);
        }
        assert_int_equal(w.n_runs, table[i].after);
        close_world(&w);
    }
}

static void a_start_that_never_works_is_given_up(void **state)
{
    world w;
    Temporal__Api__Schedule__V1__Schedule *s;

    (void)state;
    memset(&w, 0, sizeof(w));
    kit_open(&w.k, 1);
    s = every(w.k.arena, HOUR, SKIP);
    s->policies->catchup_window = tn_duration_from_ns(w.k.arena, (int64_t)(20 * TN_SEC));
    create(&w, s, 1);
    w.unavailable = true;
    w.k.now_ns = (uint64_t)tn_schedule_deadline_ns(w.k.ms);
    fire(&w);
    go_on(&w, w.k.now_ns + 15 * TN_SEC);
    assert_int_equal(schedule_in(&w)->n_actions, 1);
    go_on(&w, w.k.now_ns + 15 * TN_SEC);
    assert_int_equal(schedule_in(&w)->n_actions, 0);
    assert_int_equal(w.n_runs, 0);
    w.unavailable = false;
    go_on(&w, w.k.now_ns + HOUR);
    assert_int_equal(w.n_runs, 1);
    close_world(&w);
}

static void an_end_that_comes_before_the_answer(void **state)
{
    world w;
    tn_event event = TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__INIT;
    Temporal__Api__History__V1__WorkflowExecutionCompletedEventAttributes done =
        TEMPORAL__API__HISTORY__V1__WORKFLOW_EXECUTION_COMPLETED_EVENT_ATTRIBUTES__INIT;
    wish_list list = {.n = 0};

    (void)state;
    open_world(&w, 60 * TN_SEC, SKIP);
    w.k.now_ns = next_minute(&w);
    fire(&w);
    tn_schedule_wants(w.k.ms, w.k.now_ns, note, &list);
    assert_int_equal(list.n, 1);
    event.attributes_case =
        TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_WORKFLOW_EXECUTION_COMPLETED_EVENT_ATTRIBUTES;
    event.workflow_execution_completed_event_attributes = &done;
    for (int n = 0; n < 2; n++) {
        tn_schedule_owned_closed(begin(&w), list.items[0].id, TN_STR("run"), TN_STR("first"),
                                 &event);
        commit(&w);
        assert_int_equal(schedule_in(&w)->action_count, 1);
    }
    assert_false(do_want(&w, list.items[0]));
    assert_int_equal(schedule_in(&w)->action_count, 1);
    close_world(&w);
}

static void one_that_is_done_stays_for_a_week(void **state)
{
    world w;
    Temporal__Api__Schedule__V1__Schedule *s;
    uint64_t done_ns;

    (void)state;
    memset(&w, 0, sizeof(w));
    kit_open(&w.k, 1);
    s = every(w.k.arena, 60 * TN_SEC, ALLOW_ALL);
    s->state->limited_actions = true;
    s->state->remaining_actions = 3;
    create(&w, s, 1);
    w.run_ns = TN_SEC;
    go_on(&w, next_minute(&w) + HOUR);
    assert_int_equal(w.n_runs, 3);
    assert_int_equal(schedule_in(&w)->conflict_token, 4);
    done_ns = (uint64_t)TN_CONTAINER_OF(schedule_in(&w)->actions.prev, tn_schedule_action, link)
                  ->started_ns;
    assert_int_equal(tn_schedule_deadline_ns(w.k.ms), done_ns + 7 * DAY);
    go_on(&w, done_ns + 7 * DAY - 1);
    assert_true(tn_ms_running(w.k.ms));
    w.k.now_ns = done_ns + 7 * DAY;
    fire(&w);
    assert_false(tn_ms_running(w.k.ms));
    assert_int_equal(w.k.ms->status, 2);
    assert_int_equal(tn_ms_wake_ns(w.k.ms), w.k.ms->close_ns); /* its rows may go */
    close_world(&w);
}

static void pauses_on_failure_and_passes_on_what_was_left(void **state)
{
    world w;
    Temporal__Api__Schedule__V1__Schedule *s;
    const Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r;
    tn_schedule_action next = {.id = 99, .tracked = true, .workflow_id = (char *)(uintptr_t) "x"};

    (void)state;
    memset(&w, 0, sizeof(w));
    kit_open(&w.k, 1);
    s = every(w.k.arena, 60 * TN_SEC, SKIP);
    s->policies->pause_on_failure = true;
    create(&w, s, 1);
    w.run_ns = TN_SEC;
    go_on(&w, next_minute(&w) + 2 * TN_SEC);
    w.fails = true;
    go_on(&w, w.k.now_ns + 10 * 60 * TN_SEC);
    assert_int_equal(w.n_runs, 2);
    assert_true(schedule_in(&w)->schedule->state->paused);
    assert_int_equal(strncmp(schedule_in(&w)->schedule->state->notes,
                             "paused due to workflow failure: run-2023-", 41),
                     0);
    assert_non_null(strstr(schedule_in(&w)->schedule->state->notes, "Z: broken"));
    assert_int_equal(tn_schedule_deadline_ns(w.k.ms), UINT64_MAX);
    r = tn_schedule_start_request(w.k.ms, &next, w.k.env.ns_name, w.k.arena);
    assert_non_null(r->last_completion_result);
    assert_string_equal(r->continued_failure->message, "broken");
    close_world(&w);
}

static void the_buffer_has_an_end(void **state)
{
    world w;
    Temporal__Api__Schedule__V1__SchedulePatch *p;

    (void)state;
    open_world(&w, 60 * TN_SEC, BUFFER_ALL);
    w.k.now_ns += 1200 * 60 * TN_SEC;
    fire(&w);
    settle(&w);
    assert_int_equal(w.n_runs, 1);
    assert_int_equal(schedule_in(&w)->n_buffered, 999);
    assert_int_equal(schedule_in(&w)->dropped, 200);
    p = TN_MSG(w.k.arena, temporal__api__schedule__v1__schedule_patch);
    p->trigger_immediately =
        TN_MSG(w.k.arena, temporal__api__schedule__v1__trigger_immediately_request);
    assert_null(patch(&w, p, "a"));
    assert_null(patch(&w, p, "a")); /* the same one again */
    assert_int_equal(schedule_in(&w)->n_buffered, 1000);
    assert_null(patch(&w, p, "b"));
    assert_int_equal(schedule_in(&w)->dropped, 201);
    close_world(&w);
}

static void a_backfill_goes_on_after_a_crash(void **state)
{
    world w;
    Temporal__Api__Schedule__V1__SchedulePatch *p;
    Temporal__Api__Schedule__V1__BackfillRequest *b;
    int64_t from = INT64_C(1600000020) * (int64_t)TN_SEC;

    (void)state;
    open_world(&w, 60 * TN_SEC, SKIP);
    p = TN_MSG(w.k.arena, temporal__api__schedule__v1__schedule_patch);
    b = TN_MSG(w.k.arena, temporal__api__schedule__v1__backfill_request);
    b->start_time = tn_ts_from_ns(w.k.arena, from);
    b->end_time = tn_ts_from_ns(w.k.arena, from + 34 * 60 * (int64_t)TN_SEC);
    b->overlap_policy = (Temporal__Api__Enums__V1__ScheduleOverlapPolicy)ALLOW_ALL;
    p->backfill_request = &b;
    p->n_backfill_request = 1;
    p->pause = (char *)(uintptr_t) "closed";
    assert_null(patch(&w, p, "a"));
    settle(&w);
    assert_int_equal(w.n_runs, 10);
    crash(&w);
    assert_int_equal(tn_schedule_deadline_ns(w.k.ms), w.k.now_ns + TN_SEC);
    go_on(&w, w.k.now_ns + 5 * TN_SEC);
    assert_int_equal(w.n_runs, 35);
    assert_int_equal(tn_schedule_deadline_ns(w.k.ms), UINT64_MAX);
    close_world(&w);
}

static void bytes_and_back(void **state)
{
    world w;
    tn_blob before, after;

    (void)state;
    open_world(&w, 60 * TN_SEC, BUFFER_ALL);
    go_on(&w, next_minute(&w) + 3 * 60 * TN_SEC);
    assert_true(w.k.ms->bytes > 0);
    before = tn_schedule_kind.save(w.k.ms, w.k.arena);
    crash(&w);
    after = tn_schedule_kind.save(w.k.ms, w.k.arena);
    assert_true(tn_blob_eq(before, after));
    for (size_t n = 0; n < before.n; n++) { /* cut anywhere: refused or read, never a crash */
        tn_error err = {0};
        uint8_t *cut = malloc(n + 1);

        memcpy(cut, before.p, n);
        if (tn_schedule_kind.load(w.k.ms, (tn_blob){cut, n}, &err) == TN_OK)
            (void)tn_schedule_deadline_ns(w.k.ms);
        free(cut);
    }
    close_world(&w);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_moment_is_taken_once),
        cmocka_unit_test(no_life_loses_or_doubles_an_action),
        cmocka_unit_test(a_server_that_was_down_catches_up),
        cmocka_unit_test(policies_on_overlap),
        cmocka_unit_test(a_start_that_never_works_is_given_up),
        cmocka_unit_test(an_end_that_comes_before_the_answer),
        cmocka_unit_test(one_that_is_done_stays_for_a_week),
        cmocka_unit_test(pauses_on_failure_and_passes_on_what_was_left),
        cmocka_unit_test(the_buffer_has_an_end),
        cmocka_unit_test(a_backfill_goes_on_after_a_crash),
        cmocka_unit_test(bytes_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
