/* SPDX-License-Identifier: MIT */
/* What the calls do to a deployment's record: registering, routing, tokens and managers, the life of a version,
 * limits, metadata, deletion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "deployment/deployment.h"
#include "proto/proto.h"

static tn_arena *arena;
static tn_deployment *d; /* as it is; NULL: there is none */
static uint64_t now_ns;
static tn_deployment_change change;

static int start(void **state)
{
    (void)state;
    arena = tn_arena_create(0);
    d = NULL;
    now_ns = 1000;
    return 0;
}

static int stop(void **state)
{
    (void)state;
    tn_arena_destroy(arena);
    return 0;
}

static tn_deployment_change *prepare(tn_deployment_verb verb, const char *build_id)
{
    change = (tn_deployment_change){.arena = arena,
                                    .verb = verb,
                                    .ns_id = TN_STR("ns"),
                                    .name = TN_STR("d"),
                                    .build_id = tn_str_from(build_id),
                                    .identity = TN_STR("me"),
                                    .max_deployments = 2,
                                    .max_versions = 3,
                                    .max_queues = 2};
    return &change;
}

/* Done to d; what it says of a refusal. */
static const char *apply(void)
{
    tn_deployment *after = tn_deployment_apply(d, &change, 0, now_ns += 10);
    if (change.fault)
        return tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(change.fault->message));
    d = after;
    return "";
}

static const char *polled(const char *build_id, const char *queue, uint32_t type)
{
    prepare(TN_DEPLOYMENT_REGISTER, build_id)->queue = tn_str_from(queue);
    change.type = type;
    return apply();
}

static const char *set_current(const char *build_id)
{
    prepare(TN_DEPLOYMENT_SET_CURRENT, build_id);
    return apply();
}

static const char *set_ramp(const char *build_id, float percentage)
{
    prepare(TN_DEPLOYMENT_SET_RAMPING, build_id)->percentage = percentage;
    change.unset = !build_id;
    return apply();
}

static int status_of(const char *build_id)
{
    const tn_deployment_version *v = tn_deployment_version_find(d, tn_str_from(build_id));
    return v ? v->status : -1;
}

static void polls_register(void **state)
{
    (void)state;
    assert_string_equal(polled("1", "q", 1), "");
    assert_true(d->auto_created);
    assert_int_equal(status_of("1"), TN_DEPLOYED_INACTIVE);
    assert_string_equal(polled("1", "q", 2), "");
    assert_false(change.unchanged);
    assert_string_equal(polled("1", "q", 2), "");
    assert_true(change.unchanged);
    const tn_deployment_version *v = tn_deployment_version_find(d, TN_STR("1"));
    assert_int_equal(v->n_queues, 1);
    assert_true(tn_deployment_version_has(v, TN_STR("q"), 1) &&
                tn_deployment_version_has(v, TN_STR("q"), 2));
    assert_false(tn_deployment_version_has(v, TN_STR("q"), 3) ||
                 tn_deployment_version_has(v, TN_STR("p"), 1));
    assert_string_equal(polled("1", "q2", 1), "");
    assert_string_equal(
        polled("1", "q3", 1),
        "cannot add task queue q3 since maximum number of task queues (2) have been "
        "registered in deployment");
    assert_string_equal(polled("2", "q", 1), "");
    assert_string_equal(polled("3", "q", 1), "");
    assert_string_equal(polled("4", "q", 1),
                        "cannot add version d.4 since maximum number of versions (3) have been "
                        "registered in the deployment");
    assert_true(change.too_many_versions);
    d = NULL;
    prepare(TN_DEPLOYMENT_REGISTER, "1")->queue = TN_STR("q");
    change.type = 1;
    assert_null(tn_deployment_apply(NULL, &change, 2, now_ns));
    assert_int_equal(change.fault->code, TN_GRPC_RESOURCE_EXHAUSTED);
}

static void a_version_lives(void **state)
{
    (void)state;
    polled("1", "q", 1), polled("2", "q", 1);
    assert_string_equal(set_current("1"), "");
    assert_int_equal(change.previous.n, 0);
    assert_int_equal(d->revision, 1);
    assert_int_equal(status_of("1"), TN_DEPLOYED_CURRENT);
    assert_string_equal(set_ramp("2", 20), "");
    assert_int_equal(status_of("2"), TN_DEPLOYED_RAMPING);
    assert_string_equal(set_current("2"), ""); /* promoted: its ramp is over */
    assert_true(tn_str_is(change.previous, "1"));
    assert_false(d->ramps);
    assert_int_equal(status_of("2"), TN_DEPLOYED_CURRENT);
    assert_int_equal(status_of("1"), TN_DEPLOYED_DRAINING);
    assert_int_equal(d->revision, 3);
    prepare(TN_DEPLOYMENT_DRAINAGE, "1");
    assert_string_equal(apply(), "");
    assert_int_equal(status_of("1"), TN_DEPLOYED_DRAINING); /* some are still open */
    prepare(TN_DEPLOYMENT_DRAINAGE, "1")->drained = true;
    assert_string_equal(apply(), "");
    assert_int_equal(status_of("1"), TN_DEPLOYED_DRAINED);
    prepare(TN_DEPLOYMENT_DRAINAGE, "2")->drained =
        true; /* it is current: an answer that came late */
    assert_string_equal(apply(), "");
    assert_true(change.unchanged);
    prepare(TN_DEPLOYMENT_REACTIVATE, "1");
    assert_string_equal(apply(), "");
    assert_int_equal(status_of("1"), TN_DEPLOYED_DRAINING);
    assert_string_equal(set_current(""), "");
    assert_int_equal(status_of("2"), TN_DEPLOYED_DRAINING);
    assert_string_equal(d->current, "");
}

static void routing_is_guarded(void **state)
{
    (void)state;
    assert_string_equal(
        set_current("1"),
        "no Worker Deployment found with name 'd'; does your Worker Deployment have pollers?");
    polled("1", "q", 1);
    assert_string_equal(set_current("9"), "build ID '9' not found in Worker Deployment 'd'");
    assert_string_equal(set_current("1"), "");
    assert_string_equal(set_current("1"), "");
    assert_true(change.unchanged);
    assert_string_equal(set_ramp("1", 5), "requested ramping version d.1 is already current");
    uint8_t old[8];
    tn_put_u64be(old, d->token_ns - 1);
    prepare(TN_DEPLOYMENT_SET_CURRENT, "")->token = tn_blob_from(old, 8);
    assert_string_equal(apply(), "conflict token mismatch");
    tn_put_u64be(old, d->token_ns);
    prepare(TN_DEPLOYMENT_SET_CURRENT, "")->token = tn_blob_from(old, 8);
    assert_string_equal(apply(), "");
    prepare(TN_DEPLOYMENT_SET_MANAGER, "")->manager = TN_STR("boss");
    assert_string_equal(apply(), "");
    assert_memory_equal(set_current("1"),
                        "ManagerIdentity 'boss' is set and does not match user identity 'me'", 67);
    prepare(TN_DEPLOYMENT_SET_CURRENT, "1")->identity = TN_STR("boss");
    assert_string_equal(apply(), "");
    prepare(TN_DEPLOYMENT_SET_CURRENT, "7")->identity = TN_STR("boss");
    change.allow_no_pollers = true;
    assert_string_equal(apply(), "");
    assert_int_equal(status_of("7"), TN_DEPLOYED_CURRENT);
}

static void ramps_come_and_go(void **state)
{
    (void)state;
    polled("1", "q", 1), polled("2", "q", 1);
    set_current("1");
    assert_string_equal(set_ramp("2", 10), "");
    uint64_t since = d->ramping_changed_ns;
    assert_string_equal(set_ramp("2", 60), "");
    assert_int_equal(d->ramping_changed_ns, since); /* the same ramp, another share */
    assert_true(d->percentage_changed_ns > since);
    assert_true(change.previous_percentage > 9 && change.previous_percentage < 11);
    assert_string_equal(set_ramp("2", 60), "");
    assert_true(change.unchanged);
    assert_string_equal(set_ramp("", 30), ""); /* to unversioned workers */
    assert_true(d->ramps);
    assert_int_equal(status_of("2"), TN_DEPLOYED_DRAINING);
    assert_string_equal(set_ramp(NULL, 0), "");
    assert_false(d->ramps);
    assert_true(change.previous_ramped);
}

static const char *delete_version(const char *build_id, bool skip_drainage)
{
    prepare(TN_DEPLOYMENT_DELETE_VERSION, build_id)->skip_drainage = skip_drainage;
    return apply();
}

static void versions_are_deleted(void **state)
{
    (void)state;
    polled("1", "q", 1), polled("2", "q", 1);
    set_current("1"), set_current("2");
    assert_string_equal(delete_version("2", true),
                        "version 'd:2' cannot be deleted since it is current or ramping");
    assert_string_equal(delete_version("1", false),
                        "version 'd:1' cannot be deleted since it is draining");
    assert_string_equal(delete_version("1", true), "");
    assert_string_equal(delete_version("1", true), "");
    assert_true(change.unchanged);
    prepare(TN_DEPLOYMENT_DELETE, "");
    assert_string_equal(apply(), "deployment has versions, can't be deleted");
    set_current("");
    assert_string_equal(delete_version("2", true), "");
    prepare(TN_DEPLOYMENT_DELETE, "");
    assert_string_equal(apply(), "");
    assert_null(d);
}

static void made_by_hand(void **state)
{
    (void)state;
    prepare(TN_DEPLOYMENT_CREATE_VERSION, "1");
    assert_memory_equal(apply(), "no Worker Deployment found", 26);
    prepare(TN_DEPLOYMENT_CREATE, "")->request_id = TN_STR("r1");
    assert_string_equal(apply(), "");
    prepare(TN_DEPLOYMENT_CREATE, "")->request_id = TN_STR("r1");
    assert_string_equal(apply(), "");
    assert_true(change.unchanged);
    prepare(TN_DEPLOYMENT_CREATE, "")->request_id = TN_STR("r2");
    assert_string_equal(apply(), "Worker Deployment with name \"d\" already exists");
    prepare(TN_DEPLOYMENT_CREATE_VERSION, "1")->request_id = TN_STR("r3");
    assert_string_equal(apply(), "");
    assert_int_equal(status_of("1"), TN_DEPLOYED_CREATED);
    prepare(TN_DEPLOYMENT_CREATE_VERSION, "1")->request_id = TN_STR("r4");
    assert_string_equal(apply(), "Worker Deployment Version \"d.1\" already exists");
    assert_string_equal(polled("1", "q", 1), "");
    assert_int_equal(status_of("1"), TN_DEPLOYED_INACTIVE);
}

static void metadata_is_merged(void **state)
{
    (void)state;
    Tenon__NamedPayload a = TENON__NAMED_PAYLOAD__INIT, b = TENON__NAMED_PAYLOAD__INIT;
    const Tenon__NamedPayload *both[] = {&a, &b};
    char *gone[] = {(char *)(uintptr_t) "a"};
    a.name = (char *)(uintptr_t) "a";
    b.name = (char *)(uintptr_t) "b";
    polled("1", "q", 1);
    prepare(TN_DEPLOYMENT_SET_METADATA, "1")->upserts = both;
    change.n_upserts = 2;
    assert_string_equal(apply(), "");
    assert_int_equal(d->versions[0]->n_metadata, 2);
    prepare(TN_DEPLOYMENT_SET_METADATA, "1")->removals = gone;
    change.n_removals = 1;
    assert_string_equal(apply(), "");
    assert_int_equal(d->versions[0]->n_metadata, 1);
    assert_string_equal(d->versions[0]->metadata[0]->name, "b");
}

static void versions_as_text(void **state)
{
    (void)state;
    tn_dver v;
    assert_true(tn_dver_parse(TN_STR("a.b.c"), &v) && tn_str_is(v.deployment, "a") &&
                tn_str_is(v.build_id, "b.c"));
    assert_true(tn_dver_parse(TN_STR("a:b"), &v) && tn_str_is(v.build_id, "b"));
    assert_true(tn_dver_parse(TN_STR("__unversioned__"), &v) && !tn_dver_is(v));
    assert_false(tn_dver_parse(TN_STR("a"), &v) || tn_dver_parse(TN_STR("a."), &v) ||
                 tn_dver_parse(TN_STR(".b"), &v));
    assert_string_equal(tn_dver_text_old(arena, (tn_dver){0}), "__unversioned__");
    assert_string_equal(tn_dver_text(arena, (tn_dver){TN_STR("x"), TN_STR("y")}), "x:y");
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest cases[] = {
        CASE(polls_register),     CASE(a_version_lives),      CASE(routing_is_guarded),
        CASE(ramps_come_and_go),  CASE(versions_are_deleted), CASE(made_by_hand),
        CASE(metadata_is_merged), CASE(versions_as_text),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
