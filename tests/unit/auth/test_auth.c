/* SPDX-License-Identifier: MIT */
/* The way of a call through mapper and authorizer, with the call's own side played by the test: every way
 * not to be allowed is a denial.  And the rules: each public method has a class, each request that names
 * a namespace is asked about with it. */
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "auth/private.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

/* ---- the rpc room, as far as auth asks it ------------------------------------------------------- */

static tn_str header_authorization;
static const tn_fault *fault;
static int passed, failed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;

tn_str tn_call_header(const tn_call *call, const char *name)
{
    (void)call;
    return strcmp(name, "authorization") == 0 ? header_authorization : (tn_str){0};
}
tn_str tn_call_peer(const tn_call *call)
{
    (void)call;
    return TN_STR("127.0.0.1:1");
}
tn_blob tn_call_peer_cert(const tn_call *call)
{
    (void)call;
    return (tn_blob){0};
}
tn_str tn_call_tls_subject(const tn_call *call)
{
    (void)call;
    return (tn_str){0};
}
static void note(int *counter)
{
    pthread_mutex_lock(&lock);
    ++*counter;
    pthread_cond_signal(&wake);
    pthread_mutex_unlock(&lock);
}
void tn_call_fail(tn_call *call, const tn_fault *f)
{
    (void)call;
    fault = f;
    note(&failed);
}
static void pass(tn_call *call)
{
    (void)call;
    note(&passed);
}

/* ---- plugins ------------------------------------------------------------------------------------ */

static char build[1024];
static tn_config_tree *tree;
static tn_plugin_instance *mapper, *authorizer;

static tn_plugin_instance *open_one(tn_kind kind, const char *key)
{
    tn_config_problems *problems = tn_config_problems_create();
    tn_plugin_options options = {.root = tn_config_root(tree), .own_files = true};
    tn_plugin_instance *inst = NULL;
    if (tn_plugin_open(&options, kind, tn_config_get(tn_config_root(tree), key), problems, &inst) !=
        TN_OK)
        tn_config_problems_print(problems);
    tn_config_problems_destroy(problems);
    assert_non_null(inst);
    return inst;
}

static void parse_stanzas(const char *authorizer_path)
{
    tn_buf yaml = {0};
    tn_buf_printf(&yaml,
                  "plugins:\n  dirs: [\"%s\"]\nm:\n  plugin: "
                  "\"%s/plugins/claimmapper/none.so\"\na:\n  plugin: \"%s/%s\"\n",
                  build, build, build, authorizer_path);
    tn_config_problems *problems = tn_config_problems_create();
    assert_int_equal(tn_config_parse("t.yaml", tn_buf_blob(&yaml), problems, &tree), TN_OK);
    tn_config_problems_destroy(problems);
    tn_buf_done(&yaml);
}

static int start(const char *authorizer_path)
{
    tn_error err;
    parse_stanzas(authorizer_path);
    mapper = open_one(TN_KIND_CLAIM_MAPPER, "m");
    authorizer = open_one(TN_KIND_AUTHORIZER, "a");
    return tn_auth_start(mapper, authorizer, 100 * TN_MS, &err);
}

static void stop(void)
{
    tn_auth_stop();
    tn_plugin_close(mapper);
    tn_plugin_close(authorizer);
    tn_config_tree_destroy(tree);
}

static int setup(void **state)
{
    (void)state;
    const char *given = getenv("TN_BUILDDIR");
    char real[PATH_MAX];
    tn_error err;
    tn_log_configure(TN_LOG_NEVER, false);
    if (!realpath(given ? given : ".", real) || strlen(real) >= sizeof build ||
        tn_loops_create(1, &err) != TN_OK)
        return -1;
    memcpy(build, real, strlen(real) + 1);
    tn_loops_run();
    tn_auth_methods_init();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tn_loops_stop();
    tn_loops_destroy();
    return 0;
}

/* ---- calls -------------------------------------------------------------------------------------- */

#define WORKFLOW_SERVICE "/temporal.api.workflowservice.v1.WorkflowService/"

static tn_call call;
static tn_rpc_method rpc_method;

static void check_here(void *arg)
{
    (void)arg;
    tn_auth_check(&call, pass);
}

/* true: the handler was reached. */
static bool ask(const char *odd, const char *path, ProtobufCMessage *request)
{
    setenv("TN_ODD", odd, 1);
    rpc_method = (tn_rpc_method){.path = path, .input = request ? request->descriptor : NULL};
    call = (tn_call){.arena = tn_arena_create(0),
                     .home = tn_loops_get(0),
                     .method = &rpc_method,
                     .request = request,
                     .deadline_mono_ns = UINT64_MAX};
    passed = failed = 0;
    fault = NULL;
    tn_loop_call(tn_loops_get(0), check_here, NULL);
    pthread_mutex_lock(&lock);
    while (passed + failed == 0)
        pthread_cond_wait(&wake, &lock);
    pthread_mutex_unlock(&lock);
    assert_int_equal(passed + failed, 1);
    if (failed) {
        assert_int_equal(fault->code, TN_GRPC_PERMISSION_DENIED);
        assert_true(tn_str_is(fault->message, "Request unauthorized."));
        assert_true(
            tn_str_is(fault->detail_type, "temporal.api.errordetails.v1.PermissionDeniedFailure"));
    }
    bool ok = passed == 1;
    if (ok)
        tn_arena_destroy(call.arena);
    return ok;
}

static void end_denied(void) { tn_arena_destroy(call.arena); }

static Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest start_request(char *ns)
{
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest r =
        TEMPORAL__API__WORKFLOWSERVICE__V1__START_WORKFLOW_EXECUTION_REQUEST__INIT;
    r.namespace_ = ns;
    return r;
}

static void every_way_not_to_be_allowed_is_a_denial(void **state)
{
    (void)state;
    assert_int_equal(start("tests/unit/plugin/odd.so"), TN_OK);
    char ns[] = "mine";
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest r = start_request(ns);
    assert_true(ask("", WORKFLOW_SERVICE "StartWorkflowExecution", &r.base));
    assert_true(ask("later", WORKFLOW_SERVICE "StartWorkflowExecution", &r.base));
    static const char *const ways[] = {"unset",        "error",           "nonsense", "deny",
                                       "finish-error", "finish-nonsense", "too-late"};
    for (size_t i = 0; i < TN_COUNT_OF(ways); i++) {
        assert_false(ask(ways[i], WORKFLOW_SERVICE "StartWorkflowExecution", &r.base));
        if (strcmp(ways[i], "deny") == 0) {
            Temporal__Api__Errordetails__V1__PermissionDeniedFailure *detail;
            tn_error err;
            assert_int_equal(
                TN_PROTO_UNPACK(temporal__api__errordetails__v1__permission_denied_failure,
                                fault->detail, call.arena, &detail, &err),
                TN_OK);
            assert_string_equal(detail->reason, "not on my watch");
        }
        end_denied();
    }
    stop();
}

static void targets_are_read_from_the_request(void **state)
{
    (void)state;
    assert_int_equal(start("tests/unit/plugin/odd.so"), TN_OK);
    char mine[] = "mine", other[] = "other";
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest r = start_request(mine);
    assert_true(ask("target", WORKFLOW_SERVICE "StartWorkflowExecution", &r.base));
    r.namespace_ = other;
    assert_false(ask("target", WORKFLOW_SERVICE "StartWorkflowExecution", &r.base));
    end_denied();
    /* an unknown method has no class */
    r.namespace_ = mine;
    assert_false(ask("target", WORKFLOW_SERVICE "NoSuchMethod", &r.base));
    end_denied();
    /* these two are free, whatever the authorizer thinks */
    assert_true(ask("deny", WORKFLOW_SERVICE "GetSystemInfo", NULL));
    assert_true(ask("deny", "/grpc.health.v1.Health/Check", NULL));
    assert_false(ask("deny", "/grpc.health.v1.Health/Watch", NULL));
    end_denied();
    stop();
}

/* A worker of one namespace must not act on another through its commands. */
static void commands_on_other_namespaces_are_asked_about(void **state)
{
    (void)state;
    assert_int_equal(start("tests/unit/plugin/odd.so"), TN_OK);
    char mine[] = "mine", other[] = "other";
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest r =
        TEMPORAL__API__WORKFLOWSERVICE__V1__RESPOND_WORKFLOW_TASK_COMPLETED_REQUEST__INIT;
    Temporal__Api__Command__V1__StartChildWorkflowExecutionCommandAttributes child =
        TEMPORAL__API__COMMAND__V1__START_CHILD_WORKFLOW_EXECUTION_COMMAND_ATTRIBUTES__INIT;
    Temporal__Api__Command__V1__Command command = TEMPORAL__API__COMMAND__V1__COMMAND__INIT;
    Temporal__Api__Command__V1__Command *commands[] = {&command};
    command.attributes_case =
        TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_START_CHILD_WORKFLOW_EXECUTION_COMMAND_ATTRIBUTES;
    command.start_child_workflow_execution_command_attributes = &child;
    r.namespace_ = mine;
    r.n_commands = 1;
    r.commands = commands;
    child.namespace_ = mine;
    assert_true(ask("target", WORKFLOW_SERVICE "RespondWorkflowTaskCompleted", &r.base));
    child.namespace_ = other;
    assert_false(ask("target", WORKFLOW_SERVICE "RespondWorkflowTaskCompleted", &r.base));
    end_denied();
    assert_true(ask("", WORKFLOW_SERVICE "RespondWorkflowTaskCompleted",
                    &r.base)); /* twice asked, twice allowed */
    stop();
}

static void every_public_method_has_a_class(void **state)
{
    (void)state;
    for (size_t i = 0; i < tn_method_count; i++) {
        const tn_method *m = &tn_method_table[i];
        uint32_t access, scope;
        if (!tn_auth_rule(tn_str_from(m->path), &access, &scope))
            fail_msg("%s has no class", m->path);
        /* a request that names a namespace is about that namespace, and the name is found */
        const tn_auth_method *method = tn_auth_method_find(tn_str_from(m->path));
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field_by_name(m->input, "namespace");
        /* else it may be told by its id, too */
        bool names = field && !(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF);
        /* but for operators: what they may do they may in every namespace */
        bool operators =
            strcmp(m->service, "temporal.server.api.adminservice.v1.AdminService") == 0;
        if (operators && (access != TN_ACCESS_ADMIN || scope != TN_SCOPE_CLUSTER))
            fail_msg("%s is for system admins", m->path);
        if (names != (method->ns.outer != NULL) || (scope == TN_SCOPE_NAMESPACE && !names) ||
            (scope == TN_SCOPE_CLUSTER && names && !operators))
            fail_msg("%s: scope %u, names a namespace: %d", m->path, scope, names);
    }
    uint32_t access, scope;
    assert_true(tn_auth_rule(TN_STR(WORKFLOW_SERVICE "RegisterNamespace"), &access, &scope));
    assert_int_equal(access, TN_ACCESS_ADMIN);
    assert_true(tn_auth_rule(TN_STR(WORKFLOW_SERVICE "QueryWorkflow"), &access, &scope));
    assert_int_equal(access, TN_ACCESS_READ);
    assert_true(tn_auth_rule(TN_STR(WORKFLOW_SERVICE "PollWorkflowTaskQueue"), &access, &scope));
    assert_int_equal(access, TN_ACCESS_WRITE);
    assert_false(tn_auth_rule(TN_STR("/a.b/C"), &access, &scope));
    assert_int_equal(access, 0);
}

#define FAST_CALLS 200000
static uint64_t fast_ns;

static void fast_here(void *arg)
{
    uint64_t began = tn_now_mono_ns();
    for (int i = 0; i < FAST_CALLS; i++) {
        tn_arena_reset(call.arena);
        tn_auth_check(&call, pass);
    }
    fast_ns = (tn_now_mono_ns() - began) / FAST_CALLS;
    (void)arg;
}

static void the_plain_plugins_let_pass_at_once(void **state)
{
    (void)state;
    assert_int_equal(start("plugins/authorizer/allow_all.so"), TN_OK);
    char ns[] = "mine";
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest r = start_request(ns);
    assert_true(ask("", WORKFLOW_SERVICE "StartWorkflowExecution", &r.base));
    call.arena = tn_arena_create(0);
    static uint8_t message[600];
    call.message = tn_blob_from(message, sizeof message);
    header_authorization = TN_STR("Bearer abc.def.ghi"); /* so that the mapper is asked too */
    passed = failed = 0;
    tn_loop_call(tn_loops_get(0), fast_here, NULL);
    assert_int_equal(passed, FAST_CALLS);
    print_message("%llu ns a call\n", (unsigned long long)fast_ns);
    header_authorization = (tn_str){0};
    tn_arena_destroy(call.arena);
    stop();
}

static void a_pair_is_replaced_and_a_bad_one_is_not(void **state)
{
    (void)state;
    tn_error err;
    tn_auth_pair *idle = NULL;
    char ns[] = "mine";
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest r = start_request(ns);
    assert_int_equal(start("plugins/authorizer/allow_all.so"), TN_OK);
    tn_config_tree *tree_before = tree;
    tn_plugin_instance *mapper_before = mapper, *authorizer_before = authorizer;
    static const char *const bad[] = {"attach-fails", "unset", "error", "nonsense", "too-late"};
    for (size_t i = 0; i < TN_COUNT_OF(bad); i++) {
        setenv("TN_ODD", bad[i], 1);
        parse_stanzas("tests/unit/plugin/odd.so");
        mapper = open_one(TN_KIND_CLAIM_MAPPER, "m");
        authorizer = open_one(TN_KIND_AUTHORIZER, "a");
        idle = NULL;
        assert_true(tn_auth_replace(mapper, authorizer, 50 * TN_MS, &idle, &err) < 0);
        assert_int_equal(idle == NULL, i == 0);
        assert_non_null(strstr(err.text, "odd"));
        for (int tries = 0; idle && !tn_auth_idle(idle) && tries < 10000; tries++)
            usleep(1000); /* too-late: it still writes into its operation */
        assert_true(!idle || tn_auth_idle(idle));
        tn_plugin_close(mapper);
        tn_plugin_close(authorizer);
        tn_auth_forget(idle);
        tn_config_tree_destroy(tree);
        assert_true(
            ask("deny", WORKFLOW_SERVICE "StartWorkflowExecution", &r.base)); /* by allow_all */
    }
    setenv("TN_ODD", "deny", 1);
    parse_stanzas("tests/unit/plugin/odd.so");
    mapper = open_one(TN_KIND_CLAIM_MAPPER, "m");
    authorizer = open_one(TN_KIND_AUTHORIZER, "a");
    assert_int_equal(tn_auth_replace(mapper, authorizer, 100 * TN_MS, &idle, &err), TN_OK);
    assert_true(tn_auth_idle(idle));
    tn_plugin_close(mapper_before);
    tn_plugin_close(authorizer_before);
    tn_auth_forget(idle);
    tn_config_tree_destroy(tree_before);
    assert_false(ask("deny", WORKFLOW_SERVICE "StartWorkflowExecution", &r.base));
    end_denied();
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_public_method_has_a_class),
        cmocka_unit_test(every_way_not_to_be_allowed_is_a_denial),
        cmocka_unit_test(targets_are_read_from_the_request),
        cmocka_unit_test(commands_on_other_namespaces_are_asked_about),
        cmocka_unit_test(the_plain_plugins_let_pass_at_once),
        cmocka_unit_test(a_pair_is_replaced_and_a_bad_one_is_not),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
