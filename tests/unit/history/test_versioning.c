/* SPDX-License-Identifier: MIT */
/* Runs of versioned workers: which version they are on after workflow tasks, moves and overrides, what their children and
 * next runs get of it, and that records and snapshots fold to the same (the kit compares them at every commit). */
#include "machine_kit.h"

#include "history/machine/parts.h"

static kit kit_, *k = &kit_;

/* ---- words ----------------------------------------------------------------------------------- */

static tn_dver build(const char *id)
{
    return *id ? (tn_dver){TN_STR("dep"), tn_str_from(id)} : (tn_dver){0};
}

static bool serves(void *user, tn_str ns_id, tn_str queue, tn_dver version)
{
    (void)user;
    (void)ns_id;
    return !tn_str_is(version.build_id, "9") &&
           (tn_str_is(queue, "tq") || tn_str_is(queue, "near"));
}

static Temporal__Api__Deployment__V1__WorkerDeploymentVersion *message_of(const char *id)
{
    Temporal__Api__Deployment__V1__WorkerDeploymentVersion *v =
        TN_MSG(k->arena, temporal__api__deployment__v1__worker_deployment_version);

    v->deployment_name = (char *)"dep";
    v->build_id = (char *)(uintptr_t)id;
    return v;
}

/* NULL: to auto-upgrade. */
static tn_override *override_to(const char *id, bool one_time)
{
    tn_override *o = TN_MSG(k->arena, temporal__api__workflow__v1__versioning_override);

    if (!id) {
        o->override_case = TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_AUTO_UPGRADE;
        o->auto_upgrade = true;
    } else if (one_time) {
        o->override_case = TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_ONE_TIME;
        o->one_time =
            TN_MSG(k->arena, temporal__api__workflow__v1__versioning_override__one_time_override);
        o->one_time->target_deployment_version = message_of(id);
    } else {
        o->override_case = TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_PINNED;
        o->pinned =
            TN_MSG(k->arena, temporal__api__workflow__v1__versioning_override__pinned_override);
        o->pinned->behavior = 1;
        o->pinned->version = message_of(id);
    }
    return o;
}

/* The worker of that build takes the task, which the routing would send to `target`. */
static bool poll_as(const char *id, int64_t revision, const char *target, int64_t target_revision)
{
    tn_poller poller = {.identity = TN_STR("worker"),
                        .request_id =
                            tn_str_from(tn_arena_printf(k->arena, "poll-%zu", k->n_records)),
                        .version = build(id),
                        .target = build(target),
                        .version_revision = revision,
                        .target_revision = target_revision};
    tn_tx *tx = kit_begin(k);

    k->ms->wft.dispatched = true;
    return kit_end(k, tn_machine_wft_start(tx, k->ms->wft.scheduled_id, k->ms->wft.stamp, &poller));
}

static bool complete_as(const char *id, int behavior, kit_command *command)
{
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *r =
        kit_complete_request(k, command ? 1 : 0, command ? &command : NULL);

    r->versioning_behavior = (Temporal__Api__Enums__V1__VersioningBehavior)behavior;
    r->deployment_options =
        TN_MSG(k->arena, temporal__api__deployment__v1__worker_deployment_options);
    r->deployment_options->deployment_name = (char *)"dep";
    r->deployment_options->build_id = (char *)(uintptr_t)id;
    r->deployment_options->worker_versioning_mode = 2;
    return kit_complete_with(k, kit_token(k), r, NULL);
}

/* A run whose first workflow task that build has done. */
static void run_on(const char *id, int behavior)
{
    assert_true(kit_start(k));
    assert_true(poll_as(id, 1, id, 1));
    assert_true(complete_as(id, behavior, NULL));
}

static void start_overridden(tn_override *o)
{
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r = kit_start_request(k);

    r->versioning_override = o;
    assert_true(kit_start_with(k, r));
}

/* NULL takes the override away. */
static bool set_override(tn_override *o)
{
    Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionOptionsRequest *r = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__update_workflow_execution_options_request);
    Temporal__Api__Workflow__V1__WorkflowExecutionOptions *out;
    static char *paths[] = {(char *)"versioning_override"};
    tn_tx *tx = kit_begin(k);

    r->workflow_execution_options =
        TN_MSG(k->arena, temporal__api__workflow__v1__workflow_execution_options);
    r->workflow_execution_options->versioning_override = o;
    r->update_mask = TN_MSG(k->arena, google__protobuf__field_mask);
    r->update_mask->n_paths = 1;
    r->update_mask->paths = paths;
    r->identity = (char *)"operator";
    return kit_end(k, tn_machine_update_options(tx, r, &out));
}

static void expect_on(const char *id, int behavior)
{
    assert_int_equal(tn_ms_behavior(k->ms), behavior);
    if (!tn_dver_eq(tn_ms_version(k->ms), build(id)))
        fail_msg("on " TN_STR_FMT " instead of %s", TN_STR_ARG(tn_ms_version(k->ms).build_id), id);
    if (k->trouble)
        fail_msg("%s", k->trouble);
}

/* The data of a system search attribute; "": none. */
static const char *listed(const char *name)
{
    const tn_named_payload *known =
        tn_payload_map_find(&k->ms->search_attributes, tn_str_from(name));
    tn_wire_field data;

    if (!known || !tn_wire_find(known->payload, 2, &data))
        return "";
    return tn_arena_printf(k->arena, "%.*s", (int)data.bytes.n, (const char *)data.bytes.p);
}

static const tn_started_attrs *started(void)
{
    tn_event *event = kit_event(k, 1);

    assert_non_null(event);
    return event->workflow_execution_started_event_attributes;
}

/* ---- what workers say ------------------------------------------------------------------------ */

static void unversioned(void **state)
{
    (void)state;
    assert_true(kit_start(k));
    assert_true(kit_poll(k));
    assert_true(kit_complete_none(k));
    expect_on("", TN_BEHAVIOR_NONE);
    assert_null(k->ms->versioning);
    assert_null(tn_ms_versioning_info(k->ms, k->arena));
}

static void pinned_stays(void **state)
{
    (void)state;
    run_on("1", TN_BEHAVIOR_PINNED);
    expect_on("1", TN_BEHAVIOR_PINNED);
    assert_string_equal(listed("TemporalWorkerDeploymentVersion"), "\"dep:1\"");
    assert_string_equal(listed("TemporalWorkflowVersioningBehavior"), "\"Pinned\"");
    assert_string_equal(listed("TemporalUsedWorkerDeploymentVersions"), "[\"dep:1\"]");
    assert_true(strstr(listed("BuildIds"), "pinned:dep:1") != NULL);
    assert_true(kit_signal(k, "s", "s1"));
    assert_false(poll_as("2", 2, "2", 2)); /* not its version */
    assert_int_equal(k->fault->code, TN_GRPC_NOT_FOUND);
    assert_true(poll_as("1", 1, "2", 2));
    assert_true(tn_ms_target_changed(k->ms)); /* the worker hears of the other one */
    assert_false(tn_ms_in_transition(k->ms));
    assert_true(complete_as("1", TN_BEHAVIOR_PINNED, NULL));
    expect_on("1", TN_BEHAVIOR_PINNED);
    assert_true(
        kit_event(k, 7)
            ->workflow_task_started_event_attributes->target_worker_deployment_version_changed);
    kit_crash(k);
    expect_on("1", TN_BEHAVIOR_PINNED);
    assert_true(tn_ms_target_changed(k->ms));
}

static void auto_upgrade_moves(void **state)
{
    (void)state;
    run_on("1", TN_BEHAVIOR_AUTO_UPGRADE);
    expect_on("1", TN_BEHAVIOR_AUTO_UPGRADE);
    assert_int_equal(tn_ms_revision(k->ms), 1);
    assert_true(kit_signal(k, "s", "s1"));
    assert_true(poll_as("2", 7, "2", 7));
    assert_true(tn_ms_in_transition(k->ms));
    expect_on("2", TN_BEHAVIOR_AUTO_UPGRADE);
    assert_int_equal(tn_ms_revision(k->ms), 7);
    assert_string_equal(
        tn_ms_versioning_info(k->ms, k->arena)->version_transition->deployment_version->build_id,
        "2");
    assert_true(complete_as("2", TN_BEHAVIOR_AUTO_UPGRADE, NULL));
    assert_false(tn_ms_in_transition(k->ms));
    expect_on("2", TN_BEHAVIOR_AUTO_UPGRADE);
    assert_string_equal(listed("TemporalUsedWorkerDeploymentVersions"), "[\"dep:1\",\"dep:2\"]");
    kit_crash(k);
    expect_on("2", TN_BEHAVIOR_AUTO_UPGRADE);
    assert_int_equal(tn_ms_revision(k->ms), 7);
}

/* The new version's worker fails the task: the move goes on, and becomes durable with it. */
static void a_failed_move_goes_on(void **state)
{
    (void)state;
    run_on("1", TN_BEHAVIOR_AUTO_UPGRADE);
    assert_true(kit_signal(k, "s", "s1"));
    assert_true(poll_as("2", 7, "2", 7));
    assert_true(kit_fail_wft(k));
    assert_true(tn_ms_in_transition(k->ms));
    kit_crash(k);
    assert_true(tn_ms_in_transition(k->ms));
    expect_on("2", TN_BEHAVIOR_AUTO_UPGRADE);
    assert_true(poll_as("2", 7, "2", 7));
    assert_true(complete_as("2", TN_BEHAVIOR_PINNED, NULL));
    assert_false(tn_ms_in_transition(k->ms));
    expect_on("2", TN_BEHAVIOR_PINNED); /* the new code keeps its runs */
}

/* ---- overrides ------------------------------------------------------------------------------- */

static void pinned_at_start(void **state)
{
    (void)state;
    start_overridden(override_to("2", false));
    expect_on("2", TN_BEHAVIOR_PINNED);
    assert_string_equal(listed("TemporalWorkerDeploymentVersion"), "\"dep:2\"");
    assert_false(poll_as("1", 1, "1", 1));
    assert_true(poll_as("2", 0, "1", 1));
    assert_true(complete_as("2", TN_BEHAVIOR_AUTO_UPGRADE, NULL));
    expect_on("2", TN_BEHAVIOR_PINNED); /* whatever the worker says */
    assert_int_equal(tn_ms_versioning_info(k->ms, k->arena)->behavior, TN_BEHAVIOR_AUTO_UPGRADE);
    assert_string_equal(tn_ms_versioning_info(k->ms, k->arena)->versioning_override->pinned_version,
                        "dep.2");
}

static void override_comes_and_goes(void **state)
{
    (void)state;
    k->env.queue_in_version = serves;
    run_on("1", TN_BEHAVIOR_AUTO_UPGRADE);
    assert_true(set_override(override_to("2", false)));
    expect_on("2", TN_BEHAVIOR_PINNED);
    assert_true(set_override(override_to("2", false))); /* no second event */
    assert_true(set_override(override_to(NULL, false)));
    expect_on("1", TN_BEHAVIOR_AUTO_UPGRADE);
    assert_true(set_override(NULL));
    expect_on("1", TN_BEHAVIOR_AUTO_UPGRADE);
    assert_null(tn_ms_override(k->ms, k->arena));
    assert_false(set_override(override_to("9", false)));
    assert_int_equal(k->fault->code, TN_GRPC_FAILED_PRECONDITION);
    assert_non_null(memmem(k->fault->message.p, k->fault->message.n, "'dep:9' is not present", 22));
    KIT_EXPECT(k, "Started WtScheduled WtStarted WtCompleted Options Options Options");
    kit_crash(k);
    expect_on("1", TN_BEHAVIOR_AUTO_UPGRADE);
}

/* It holds until a worker of that version has done a workflow task. */
static void one_time(void **state)
{
    (void)state;
    run_on("1", TN_BEHAVIOR_PINNED);
    assert_true(set_override(override_to("2", true)));
    expect_on("2", TN_BEHAVIOR_PINNED);
    assert_true(kit_signal(k, "s", "s1"));
    assert_false(poll_as("1", 1, "1", 1));
    assert_true(poll_as("2", 0, "1", 1));
    assert_true(complete_as("2", TN_BEHAVIOR_PINNED, NULL));
    expect_on("2", TN_BEHAVIOR_PINNED);
    assert_null(tn_ms_override(k->ms, k->arena));
}

/* ---- the next run and children --------------------------------------------------------------- */

static void next_run(int behavior, int initial, const char *queue)
{
    kit_command *c = kit_cmd_continue(k);

    k->env.queue_in_version = serves;
    k->follow = true;
    c->continue_as_new_workflow_execution_command_attributes->initial_versioning_behavior =
        (Temporal__Api__Enums__V1__ContinueAsNewVersioningBehavior)initial;
    if (queue)
        c->continue_as_new_workflow_execution_command_attributes->task_queue =
            kit_queue(k, queue, 1);
    assert_true(kit_start(k));
    assert_true(poll_as("1", 5, "1", 5));
    assert_true(complete_as("1", behavior, c));
    assert_non_null(k->closed);
}

static void continued_pinned(void **state)
{
    (void)state;
    next_run(TN_BEHAVIOR_PINNED, 0, NULL);
    expect_on("1", TN_BEHAVIOR_PINNED);
    assert_string_equal(started()->inherited_pinned_version->build_id, "1");
    assert_null(started()->inherited_auto_upgrade_info);
    kit_crash(k);
    expect_on("1", TN_BEHAVIOR_PINNED);
}

static void continued_pinned_to_upgrade(void **state)
{
    (void)state;
    next_run(TN_BEHAVIOR_PINNED, 1, NULL);
    assert_null(started()->inherited_pinned_version);
    assert_int_equal(
        started()->inherited_auto_upgrade_info->continue_as_new_initial_versioning_behavior, 1);
    expect_on("1", TN_BEHAVIOR_AUTO_UPGRADE);
}

static void continued_auto_upgrade(void **state)
{
    (void)state;
    next_run(TN_BEHAVIOR_AUTO_UPGRADE, 0, "near");
    assert_null(started()->inherited_pinned_version);
    assert_string_equal(started()->inherited_auto_upgrade_info->source_deployment_version->build_id,
                        "1");
    assert_int_equal(started()->inherited_auto_upgrade_info->source_deployment_revision_number, 5);
    expect_on("1", TN_BEHAVIOR_AUTO_UPGRADE);
    assert_int_equal(tn_ms_revision(k->ms), 5);
}

static void continued_elsewhere(void **state)
{
    (void)state;
    next_run(TN_BEHAVIOR_PINNED, 0, "far"); /* a queue that the version does not serve */
    assert_null(started()->inherited_pinned_version);
    expect_on("", TN_BEHAVIOR_NONE);
}

static void children(void **state)
{
    tn_str here = k->env.ns_id, away = TN_STR("33333333-3333-4333-8333-333333333333");
    tn_heritage h;

    (void)state;
    run_on("1", TN_BEHAVIOR_PINNED);
    tn_ms_heritage_of_child(k->ms, k->arena, here, TN_STR("tq"), serves, NULL, &h);
    assert_true(tn_dver_eq(h.pinned, build("1")) && !tn_dver_is(h.upgrade) && !h.override);
    tn_ms_heritage_of_child(k->ms, k->arena, here, TN_STR("near"), serves, NULL, &h);
    assert_true(tn_dver_eq(h.pinned, build("1")));
    tn_ms_heritage_of_child(k->ms, k->arena, here, TN_STR("far"), serves, NULL, &h);
    assert_false(tn_dver_is(h.pinned));
    tn_ms_heritage_of_child(k->ms, k->arena, away, TN_STR("tq"), serves, NULL, &h);
    assert_false(tn_dver_is(h.pinned));
    assert_true(set_override(override_to("2", false)));
    tn_ms_heritage_of_child(k->ms, k->arena, here, TN_STR("tq"), serves, NULL, &h);
    assert_true(tn_dver_eq(h.pinned, build("2")));
    assert_true(tn_dver_eq(tn_override_target(h.override), build("2")));
}

static void children_of_auto_upgrade(void **state)
{
    tn_heritage h;

    (void)state;
    run_on("1", TN_BEHAVIOR_AUTO_UPGRADE);
    tn_ms_heritage_of_child(k->ms, k->arena, k->env.ns_id, TN_STR("tq"), serves, NULL, &h);
    assert_true(!tn_dver_is(h.pinned) && tn_dver_eq(h.upgrade, build("1")));
    assert_int_equal(h.upgrade_revision, 1);
}

/* ---- forms of before ------------------------------------------------------------------------- */

static void old_overrides(void **state)
{
    tn_override *o = TN_MSG(k->arena, temporal__api__workflow__v1__versioning_override), *settled;

    (void)state;
    assert_null(tn_override_settle(k->arena, NULL));
    assert_null(tn_override_settle(k->arena, o));
    o->behavior = TN_BEHAVIOR_PINNED;
    o->pinned_version = (char *)"dep.2";
    settled = tn_override_settle(k->arena, o);
    assert_true(tn_override_is_pinned(settled));
    assert_true(tn_dver_eq(tn_override_target(settled), build("2")));
    o->behavior = TN_BEHAVIOR_AUTO_UPGRADE;
    settled = tn_override_settle(k->arena, o);
    assert_true(settled->auto_upgrade && !tn_override_is_pinned(settled));
}

static int setup(void **state)
{
    (void)state;
    kit_open(k, 11);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kit_close(k);
    return 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(unversioned),
        T(pinned_stays),
        T(auto_upgrade_moves),
        T(a_failed_move_goes_on),
        T(pinned_at_start),
        T(override_comes_and_goes),
        T(one_time),
        T(continued_pinned),
        T(continued_pinned_to_upgrade),
        T(continued_auto_upgrade),
        T(continued_elsewhere),
        T(children),
        T(children_of_auto_upgrade),
        T(old_overrides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
