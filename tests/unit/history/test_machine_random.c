/* SPDX-License-Identifier: MIT */
/* Random lives: thousands of runs, each from one seed, in which clients, workers, time and
 * crashes do what they like.  After every step the records must fold to the state, a snapshot
 * must load to it, ids must follow one another and nothing may come after the end.  TENON_SEED=n
 * repeats one run, TENON_SEEDS=n tries that many. */
#include "machine_kit.h"

#define STEPS 60
#define SEEDS 1500

static const char *const names[] = {"a", "b", "c", "d"};

static uint64_t below(kit *k, uint64_t n) { return tn_rng_below(&k->rng, n); }

static const char *any_name(kit *k) { return names[below(k, TN_COUNT_OF(names))]; }

static const char *text(kit *k, const char *prefix)
{
    return tn_arena_printf(k->arena, "%s%llu", prefix, (unsigned long long)below(k, 12));
}

/* ---- matching -------------------------------------------------------------------------------- */

static void dispatch(void *user, tn_want want, void *item)
{
    kit *k = user;

    switch (want) {
    case TN_WANT_WFT:
        k->ms->wft.dispatched = true;
        k->ms->wft.stamp = ++k->ms->next_stamp;
        break;
    case TN_WANT_ACTIVITY:
        ((tn_activity *)item)->dispatched = true;
        ((tn_activity *)item)->stamp = ++k->ms->next_stamp;
        break;
    case TN_WANT_CHILD_START:
    case TN_WANT_SETTLE_CHILD:
        ((tn_child *)item)->dispatched = true;
        break;
    case TN_WANT_SIGNAL:
    case TN_WANT_CANCEL:
        ((tn_external *)item)->dispatched = true;
        break;
    case TN_WANT_TELL_PARENT_STARTED:
    case TN_WANT_TELL_PARENT_CLOSED:
        k->ms->parent_dispatched = true;
        break;
    case TN_WANT_NEXUS_START:
    case TN_WANT_NEXUS_CANCEL:
    case TN_WANT_CALLBACK:
        k->trouble = "nobody here asked for operations or callbacks";
        break;
    case TN_WANT_OBJECT:
        k->trouble = "a workflow wants what only objects want";
        break;
    }
}

static void check_wants(kit *k)
{
    uint64_t wake = tn_ms_wake_ns(k->ms);

    if (tn_ms_running(k->ms) && wake > tn_ms_deadline_ns(k->ms))
        k->trouble = "would wake after its deadline";
    tn_ms_wants(k->ms, k->now_ns, dispatch, k);
    if (tn_ms_running(k->ms) && tn_ms_has_buffered(k->ms) && !tn_ms_wft_started(k->ms))
        k->trouble = "events wait in the buffer for nothing";
    if (!tn_ms_running(k->ms) && tn_ms_deadline_ns(k->ms) != UINT64_MAX)
        k->trouble = "a closed run has a deadline";
}

/* ---- what a worker says ---------------------------------------------------------------------- */

static kit_command *any_command(kit *k)
{
    switch (below(k, 14)) {
    case 0:
    case 1:
    case 2:
        return kit_cmd_activity(k, text(k, "act"), 1 + (double)below(k, 20));
    case 3:
        return kit_cmd_cancel_activity(k, 5 + (int64_t)below(k, 20));
    case 4:
    case 5:
        return kit_cmd_timer(k, text(k, "t"), (double)below(k, 30));
    case 6:
        return kit_cmd_cancel_timer(k, text(k, "t"));
    case 7:
        return kit_cmd_child(k, text(k, "child"));
    case 8:
        return kit_cmd_signal_external(k, any_name(k));
    case 9:
        return kit_cmd_cancel_external(k, any_name(k));
    case 10:
        return kit_cmd_marker(k);
    case 11:
        return kit_cmd_memo(k, any_name(k), below(k, 3) ? "1" : "null");
    case 12:
        switch (below(k, 6)) {
        case 0:
            return kit_cmd_complete(k);
        case 1:
            return kit_cmd_fail(k, below(k, 2) ? "T" : "");
        case 2:
            return kit_cmd_cancel(k);
        case 3:
            return kit_cmd_continue(k);
        default:
            return kit_cmd_marker(k);
        }
    default:
        return kit_cmd_marker(k);
    }
}

static void complete(kit *k)
{
    kit_command *commands[4];
    size_t n = below(k, 5);
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *r;
    Tenon__TaskToken *token = kit_token(k);

    for (size_t i = 0; i < n; i++)
        commands[i] = any_command(k);
    r = kit_complete_request(k, n, commands);
    r->force_create_new_workflow_task = below(k, 6) == 0;
    r->return_new_workflow_task = below(k, 2) == 0;
    if (below(k, 2)) {
        r->sticky_attributes =
            TN_MSG(k->arena, temporal__api__taskqueue__v1__sticky_execution_attributes);
        r->sticky_attributes->worker_task_queue = kit_queue(k, "sticky", 2);
        r->sticky_attributes->schedule_to_start_timeout = kit_seconds(k, 5);
    }
    switch (below(k, 12)) {
    case 0:
        kit_crash(k); /* between the hand-out and the answer */
        break;
    case 1:
        token->nonce ^= 4;
        break;
    default:
        break;
    }
    kit_complete_with(k, token, r, NULL);
}

/* ---- activities ------------------------------------------------------------------------------ */

static tn_activity *any_activity(kit *k)
{
    size_t at = k->ms->n_activities ? below(k, k->ms->n_activities) : 0;

    TN_LIST_FOREACH (link, &k->ms->activities)
        if (at-- == 0)
            return TN_CONTAINER_OF(link, tn_activity, link);
    return NULL;
}

static void start_activity(kit *k, tn_activity *a)
{
    bool durable;
    tn_tx *tx = kit_begin(k);

    kit_end(k, tn_machine_activity_start(tx, a->scheduled_id, a->stamp,
                                         &(tn_poller){.identity = TN_STR("w")}, &durable));
}

static void fail_activity(kit *k, const Tenon__TaskToken *token)
{
    Temporal__Api__Workflowservice__V1__RespondActivityTaskFailedRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__respond_activity_task_failed_request);
    tn_tx *tx;

    r->failure = kit_cmd_fail(k, "T")->fail_workflow_execution_command_attributes->failure;
    r->failure->application_failure_info->non_retryable = below(k, 3) == 0;
    r->identity = (char *)"w";
    tx = kit_begin(k);
    kit_end(k, tn_machine_activity_failed(tx, token, (tn_str){NULL, 0}, r));
}

static void heartbeat_activity(kit *k, const Tenon__TaskToken *token)
{
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatRequest *r = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__record_activity_task_heartbeat_request);
    Temporal__Api__Workflowservice__V1__RecordActivityTaskHeartbeatResponse out =
        TEMPORAL__API__WORKFLOWSERVICE__V1__RECORD_ACTIVITY_TASK_HEARTBEAT_RESPONSE__INIT;
    tn_tx *tx = kit_begin(k);

    r->details = kit_payloads(k, "beat");
    kit_end(k, tn_machine_activity_heartbeat(tx, token, (tn_str){NULL, 0}, r, &out));
}

static void tell_of_activity(kit *k, tn_activity *a)
{
    Tenon__TaskToken *token = TN_MSG(k->arena, tenon__task_token);
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCompletedRequest *done = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__respond_activity_task_completed_request);
    Temporal__Api__Workflowservice__V1__RespondActivityTaskCanceledRequest *cancelled = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__respond_activity_task_canceled_request);
    tn_str by_id = {NULL, 0};
    tn_tx *tx;

    token->scheduled_id = a->scheduled_id;
    token->attempt = a->attempt;
    token->nonce = a->nonce;
    token->started_ns = a->started_ns;
    if (below(k, 10) == 0) { /* by id */
        by_id = tn_arena_str(k->arena, tn_str_from(a->activity_id));
        token = NULL;
    } else if (below(k, 10) == 0) {
        kit_crash(k);
    }
    switch (below(k, 6)) {
    case 0:
    case 1:
        tx = kit_begin(k);
        kit_end(k, tn_machine_activity_completed(tx, token, by_id, done));
        break;
    case 2:
    case 3:
        if (token)
            fail_activity(k, token);
        break;
    case 4:
        tx = kit_begin(k);
        kit_end(k, tn_machine_activity_canceled(tx, token, by_id, cancelled));
        break;
    default:
        if (token)
            heartbeat_activity(k, token);
        break;
    }
}

/* ---- operators ------------------------------------------------------------------------------- */

static void pause_or_go_on(kit *k)
{
    Temporal__Api__Workflowservice__V1__PauseWorkflowExecutionRequest *pause =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__pause_workflow_execution_request);
    Temporal__Api__Workflowservice__V1__UnpauseWorkflowExecutionRequest *unpause =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__unpause_workflow_execution_request);
    tn_tx *tx = kit_begin(k);

    pause->identity = unpause->identity = (char *)"operator";
    pause->reason = (char *)"a \"reason\"";
    pause->request_id = (char *)(uintptr_t)any_name(k);
    kit_end(k, k->ms->status == 8 && below(k, 5) ? tn_machine_unpause(tx, unpause)
                                                 : tn_machine_pause(tx, pause));
}

static void change_activities(kit *k, const tn_activity *a)
{
    Temporal__Api__Workflowservice__V1__UpdateActivityOptionsRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__update_activity_options_request);
    static char *paths[] = {(char *)"task_queue.name", (char *)"startToCloseTimeout",
                            (char *)"retry_policy.maximum_attempts"};
    Temporal__Api__Activity__V1__ActivityOptions *out = NULL;
    tn_tx *tx;

    r->activity_case =
        TEMPORAL__API__WORKFLOWSERVICE__V1__UPDATE_ACTIVITY_OPTIONS_REQUEST__ACTIVITY_ID;
    r->id = tn_arena_strdup(k->arena, a->activity_id);
    r->restore_original = below(k, 3) == 0;
    if (!r->restore_original) {
        r->update_mask = TN_MSG(k->arena, google__protobuf__field_mask);
        r->update_mask->paths = paths;
        r->update_mask->n_paths = 1 + below(k, 3);
        r->activity_options = TN_MSG(k->arena, temporal__api__activity__v1__activity_options);
        r->activity_options->task_queue = kit_queue(k, "other", 1);
        r->activity_options->start_to_close_timeout = kit_seconds(k, 1 + (double)below(k, 9));
        r->activity_options->retry_policy =
            TN_MSG(k->arena, temporal__api__common__v1__retry_policy);
        r->activity_options->retry_policy->maximum_attempts = (int32_t)below(k, 4);
    }
    tx = kit_begin(k);
    kit_end(k, tn_machine_update_activity_options(tx, r, &out));
}

static void operate(kit *k, const tn_activity *a)
{
    Temporal__Api__Workflowservice__V1__PauseActivityRequest *pause =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__pause_activity_request);
    Temporal__Api__Workflowservice__V1__UnpauseActivityRequest *unpause =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__unpause_activity_request);
    Temporal__Api__Workflowservice__V1__ResetActivityRequest *reset =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__reset_activity_request);
    tn_tx *tx;

    switch (below(k, 5)) {
    case 0:
        pause->activity_case =
            TEMPORAL__API__WORKFLOWSERVICE__V1__PAUSE_ACTIVITY_REQUEST__ACTIVITY_ID;
        pause->id = tn_arena_strdup(k->arena, a->activity_id);
        tx = kit_begin(k);
        kit_end(k, tn_machine_pause_activity(tx, pause));
        break;
    case 1:
        unpause->reset_attempts = below(k, 2) != 0;
        unpause->reset_heartbeat = below(k, 2) != 0;
        unpause->jitter = kit_seconds(k, (double)below(k, 3));
        tx = kit_begin(k);
        kit_end(k, tn_machine_unpause_activity(tx, unpause));
        break;
    case 2:
        reset->keep_paused = below(k, 2) != 0;
        reset->reset_heartbeat = below(k, 2) != 0;
        reset->restore_original_options = below(k, 2) != 0;
        tx = kit_begin(k);
        kit_end(k, tn_machine_reset_activity(tx, reset));
        break;
    default:
        change_activities(k, a);
        break;
    }
}

static void change_priority(kit *k)
{
    Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionOptionsRequest *r = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__update_workflow_execution_options_request);
    static char *paths[] = {(char *)"priority"};
    Temporal__Api__Workflow__V1__WorkflowExecutionOptions *out;
    tn_tx *tx = kit_begin(k);

    r->update_mask = TN_MSG(k->arena, google__protobuf__field_mask);
    r->update_mask->paths = paths;
    r->update_mask->n_paths = 1;
    r->workflow_execution_options =
        TN_MSG(k->arena, temporal__api__workflow__v1__workflow_execution_options);
    r->workflow_execution_options->priority = TN_MSG(k->arena, temporal__api__common__v1__priority);
    r->workflow_execution_options->priority->priority_key = (int32_t)below(k, 5);
    kit_end(k, tn_machine_update_options(tx, r, &out));
}

/* ---- other runs ------------------------------------------------------------------------------ */

static tn_event *child_event(kit *k)
{
    tn_event *e = TN_MSG(k->arena, temporal__api__history__v1__history_event);
    static const int types[] = {2, 4, 21, 27};

    e->event_type = types[below(k, TN_COUNT_OF(types))];
    e->event_id = 9;
#define WITH(number, UPPER, lower) \
    if (e->event_type == (number)) { \
        e->attributes_case = \
            TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_##UPPER##_EVENT_ATTRIBUTES; \
        e->lower##_event_attributes = \
            TN_MSG(k->arena, temporal__api__history__v1__##lower##_event_attributes); \
    }
    WITH(2, WORKFLOW_EXECUTION_COMPLETED, workflow_execution_completed)
    WITH(4, WORKFLOW_EXECUTION_TIMED_OUT, workflow_execution_timed_out)
    WITH(21, WORKFLOW_EXECUTION_CANCELED, workflow_execution_canceled)
    WITH(27, WORKFLOW_EXECUTION_TERMINATED, workflow_execution_terminated)
#undef WITH
    return e;
}

static void tell_of_others(kit *k)
{
    static const char run[] = "33333333-3333-4333-8333-333333333333";
    int64_t child = 0, external = 0;
    tn_tx *tx;

    TN_LIST_FOREACH (link, &k->ms->children)
        if (!child || below(k, 2))
            child = TN_CONTAINER_OF(link, tn_child, link)->initiated_id;
    TN_LIST_FOREACH (link, &k->ms->externals)
        if (!external || below(k, 2))
            external = TN_CONTAINER_OF(link, tn_external, link)->initiated_id;
    if (!child)
        child = 5 + (int64_t)below(k, 10);
    switch (below(k, 6)) {
    case 0:
    case 1:
        tx = kit_begin(k);
        kit_end(k, tn_machine_child_started(tx, child, TN_STR(run)));
        break;
    case 2:
        tx = kit_begin(k);
        kit_end(k, tn_machine_child_start_failed(tx, child, 1));
        break;
    case 3:
        tx = kit_begin(k);
        kit_end(k, tn_machine_child_closed(tx, child, TN_STR(run), TN_STR(run), child_event(k)));
        break;
    case 4:
        tx = kit_begin(k);
        kit_end(k, tn_machine_external_done(tx, external));
        break;
    default:
        tx = kit_begin(k);
        kit_end(k, tn_machine_external_failed(tx, external, 1));
        break;
    }
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void begin(kit *k)
{
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r = kit_start_request(k);

    if (below(k, 6) == 0)
        r->workflow_run_timeout = kit_seconds(k, 60 + (double)below(k, 100));
    if (below(k, 6) == 0)
        r->workflow_start_delay = kit_seconds(k, (double)below(k, 30));
    if (below(k, 6) == 0)
        r->cron_schedule = (char *)"@every 7s";
    if (below(k, 4) == 0) {
        r->retry_policy = TN_MSG(k->arena, temporal__api__common__v1__retry_policy);
        r->retry_policy->initial_interval = kit_seconds(k, 2);
        r->retry_policy->backoff_coefficient = 2;
        r->retry_policy->maximum_interval = kit_seconds(k, 20);
    }
    kit_start_with(k, r);
}

/* The run leaves the cache and comes back. */
static void evict(kit *k)
{
    tn_error err = {0};
    tn_ms *loaded;

    if (k->held_back || k->extras_pending || k->ms->extras_stale)
        return;
    loaded = kit_through_snapshot(k->ms, &err);
    assert_non_null(loaded);
    tn_ms_destroy(k->ms);
    k->ms = loaded;
}

static void pass_time(kit *k)
{
    uint64_t at = tn_ms_deadline_ns(k->ms);

    if (at == UINT64_MAX || below(k, 3) == 0) {
        k->now_ns += below(k, 3 * TN_SEC);
        return;
    }
    if (at > k->now_ns)
        k->now_ns = at;
    k->now_ns += below(k, 4) ? 0 : below(k, 5 * TN_SEC);
    kit_fire(k);
    check_wants(k);
    if (tn_ms_running(k->ms) && tn_ms_deadline_ns(k->ms) <= k->now_ns)
        k->trouble = "firing leaves something due";
}

static void unstart(kit *k)
{
    if (!k->held_back || !tn_machine_wft_unstart(k->ms, k->ms->wft.nonce))
        return;
    k->history.n -= k->tail.n;
    k->tail.n = 0;
    k->held_back = false;
    k->extras_pending = true;
    k->last_event_ns = k->ms->last_event_ns;
}

static void step(kit *k)
{
    tn_activity *a = any_activity(k);
    tn_tx *tx;

    k->now_ns += below(k, TN_SEC / 2);
    switch (below(k, 27)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
        if (tn_ms_wft_started(k->ms))
            complete(k);
        else if (tn_ms_wft_pending(k->ms))
            kit_poll(k);
        else
            pass_time(k);
        break;
    case 8:
        if (tn_ms_wft_started(k->ms))
            kit_fail_wft(k);
        break;
    case 9:
    case 10:
        kit_signal(k, any_name(k), below(k, 2) ? any_name(k) : "");
        break;
    case 11:
        if (below(k, 6) == 0)
            kit_cancel(k);
        break;
    case 12:
        if (below(k, 20) == 0)
            kit_terminate(k);
        break;
    case 13:
    case 14:
    case 15:
        if (a && !a->started_ns)
            start_activity(k, a);
        else if (a)
            tell_of_activity(k, a);
        break;
    case 16:
    case 17:
        tell_of_others(k);
        break;
    case 18:
    case 19:
    case 20:
        pass_time(k);
        break;
    case 21:
        if (below(k, 3) == 0)
            kit_crash(k);
        else
            evict(k);
        break;
    case 22:
        tx = kit_begin(k);
        kit_end(k, tn_machine_wft_unstick(tx));
        break;
    case 23:
        if (a && !a->closing)
            operate(k, a);
        break;
    case 24:
        if (k->ms->status == 8 || below(k, 3) == 0)
            pause_or_go_on(k);
        break;
    case 25:
        if (below(k, 4) == 0)
            change_priority(k);
        break;
    default:
        unstart(k);
        break;
    }
    if (k->ms->extras_stale)
        k->extras_pending = true;
    check_wants(k);
}

static void live(uint64_t seed)
{
    kit k;

    kit_open(&k, seed);
    k.follow = seed % 2;
    if (seed % 7 == 0)
        k.limits.buffered_events_max = 2;
    if (seed % 11 == 0)
        k.limits.history_count_max = 40;
    begin(&k);
    for (int i = 0; i < STEPS && !k.trouble && tn_ms_running(k.ms); i++)
        step(&k);
    if (k.trouble) {
        fprintf(stderr, "%s\n", kit_history(&k));
        fail_msg("seed %llu: %s", (unsigned long long)seed, k.trouble);
    }
    kit_close(&k);
}

static void test_random_lives(void **state)
{
    const char *one = getenv("TENON_SEED"), *many = getenv("TENON_SEEDS");
    (void)state;

    if (one) {
        live(strtoull(one, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= (many ? strtoull(many, NULL, 10) : SEEDS); seed++)
        live(seed);
}

/* What the store gives back may be damaged: refused or read, never a crash. */
static void use(kit *k, tn_ms *ms)
{
    Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse out =
        TEMPORAL__API__WORKFLOWSERVICE__V1__DESCRIBE_WORKFLOW_EXECUTION_RESPONSE__INIT;
    tn_error err = {0};
    tn_ms *again;

    if (!ms)
        return;
    (void)tn_ms_deadline_ns(ms);
    (void)tn_ms_wake_ns(ms);
    if (ms->started.n) {
        tn_machine_describe(ms, k->arena, k->now_ns, &out);
        again = kit_through_snapshot(ms, &err);
        tn_ms_destroy(again);
    }
    tn_ms_destroy(ms);
}

static void damage(uint64_t seed)
{
    kit k;
    tn_arena *arena = tn_arena_create(0);
    tn_error err = {0};
    Tenon__Snapshot *snapshot;
    tn_blob packed;
    uint8_t *p;

    kit_open(&k, seed);
    k.check = false;
    begin(&k);
    for (int i = 0; i < STEPS && tn_ms_running(k.ms); i++)
        step(&k);
    packed = tn_msg_pack(arena, tn_ms_snapshot(k.ms, arena));
    for (int i = 0; i < 20; i++) {
        p = tn_arena_memdup(arena, packed.p, packed.n);
        for (uint64_t n = 1 + below(&k, 3); n; n--)
            p[below(&k, packed.n)] ^= (uint8_t)(1u << below(&k, 8));
        if (TN_PROTO_UNPACK(tenon__snapshot, tn_blob_from(p, packed.n), arena, &snapshot, NULL) ==
            TN_OK)
            use(&k, tn_ms_load_snapshot(snapshot, &err));
        tn_blob *record = &k.records[below(&k, k.n_records)];
        Tenon__Record *unpacked;
        size_t at = below(&k, record->n);
        uint8_t bit = (uint8_t)(1u << below(&k, 8));
        uint8_t *bytes = (uint8_t *)(uintptr_t)record->p;

        bytes[at] ^= bit;
        if (TN_PROTO_UNPACK(tenon__record, *record, arena, &unpacked, NULL) == TN_OK)
            use(&k, kit_fold(&k, &err));
        bytes[at] ^= bit;
    }
    tn_arena_destroy(arena);
    kit_close(&k);
}

static void test_damage(void **state)
{
    const char *one = getenv("TENON_SEED"), *many = getenv("TENON_SEEDS");
    (void)state;

    if (one) {
        damage(strtoull(one, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= (many ? strtoull(many, NULL, 10) : SEEDS / 10); seed++)
        damage(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_lives),
                                       cmocka_unit_test(test_damage)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
