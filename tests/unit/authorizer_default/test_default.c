/* SPDX-License-Identifier: MIT */
/* authorizer/default: all classes against all roles, in this namespace, in another, in the system. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <tenon/plugin.h>

static tn_str str(const char *s) { return (tn_str){s, strlen(s)}; }

static const char *configured; /* listNamespaces; NULL: not set */

static tn_status cfg_str(const tn_config *config, const char *key, tn_str *out, tn_error *err)
{
    (void)config, (void)err;
    assert_string_equal(key, "listNamespaces");
    if (!configured)
        return TN_ENOTFOUND;
    *out = str(configured);
    return TN_OK;
}

static void cfg_complain(const tn_config *config, const char *key, const char *text, tn_error *err)
{
    (void)config, (void)key, (void)text, (void)err;
}

static tn_status open_with(const char *word, void **inst)
{
    const tn_host host = {
        .struct_size = sizeof host, .cfg_str = cfg_str, .cfg_complain = cfg_complain};
    tn_error err = {0};
    configured = word;
    return tn_plugin_v0(0)->open(&host, NULL, inst, &err);
}

static uint32_t verdict(const tn_claims *claims, uint32_t access, uint32_t scope, const char *ns,
                        const char *api)
{
    const tn_authorizer_ops *ops = tn_plugin_v0(0)->ops;
    tn_call_target target = {.struct_size = sizeof target,
                             .access = access,
                             .scope = scope,
                             .ns = str(ns),
                             .api_name = str(api)};
    tn_decision out = {.struct_size = sizeof out};
    void *inst;
    assert_int_equal(open_with(NULL, &inst), TN_OK);
    assert_int_equal(ops->authorize(inst, NULL, claims, &target, &out), TN_OK);
    if (out.verdict == TN_ALLOW && claims->present)
        assert_true(out.principal.n == claims->subject.n || !target.scope);
    return out.verdict;
}

static void roles_against_classes(void **state)
{
    (void)state;
    static const uint32_t needs[] = {8, 2, 4, 8,
                                     8}; /* by access: none, read, write, admin, one of tomorrow */
    for (uint32_t system = 0; system < 16; system++)
        for (uint32_t own = 0; own < 16; own++)
            for (uint32_t access = 0; access < 5; access++) {
                tn_role_grant grants[] = {{.ns = str("other"), .roles = 15},
                                          {.ns = str("mine"), .roles = own & 5},
                                          {.ns = str("min"), .roles = 15},
                                          {.ns = str("mine"), .roles = own & 10}};
                tn_claims claims = {.struct_size = sizeof claims,
                                    .system_roles = system,
                                    .subject = str("me"),
                                    .grants = grants,
                                    .n_grants = 4,
                                    .present = 1};
                assert_int_equal(verdict(&claims, access, TN_SCOPE_NAMESPACE, "mine", "/x/Y"),
                                 (system | own) >= needs[access] ? TN_ALLOW : TN_DENY);
                assert_int_equal(verdict(&claims, access, TN_SCOPE_NAMESPACE, "MINE", "/x/Y"),
                                 system >= needs[access] ? TN_ALLOW : TN_DENY);
                assert_int_equal(verdict(&claims, access, TN_SCOPE_CLUSTER, "mine", "/x/Y"),
                                 system >= needs[access] ? TN_ALLOW : TN_DENY);
                assert_int_equal(verdict(&claims, access, 0, "mine", "/x/Y"), TN_DENY);
                assert_int_equal(verdict(&claims, access, 3, "mine", "/x/Y"), TN_DENY);
                claims.present = 0;
                assert_int_equal(verdict(&claims, access, TN_SCOPE_NAMESPACE, "mine", "/x/Y"),
                                 TN_DENY);
            }
}

static void two_calls_are_free(void **state)
{
    (void)state;
    tn_claims nobody = {.struct_size = sizeof nobody};
    assert_int_equal(verdict(&nobody, 0, 0, "", "/grpc.health.v1.Health/Check"), TN_ALLOW);
    assert_int_equal(verdict(&nobody, 0, 0, "",
                             "/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo"),
                     TN_ALLOW);
    static const char *const others[] = {
        "/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/Check2",
        "grpc.health.v1.Health/Check",
        "/temporal.api.workflowservice.v1.WorkflowService/GetClusterInfo", ""};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_int_equal(verdict(&nobody, TN_ACCESS_READ, TN_SCOPE_CLUSTER, "", others[i]),
                         TN_DENY);
}

static void no_namespace_is_a_name_too(void **state)
{
    (void)state;
    tn_role_grant grant = {.ns = {NULL, 0}, .roles = TN_ROLE_READER};
    tn_claims claims = {
        .struct_size = sizeof claims, .grants = &grant, .n_grants = 1, .present = 1};
    assert_int_equal(verdict(&claims, TN_ACCESS_READ, TN_SCOPE_NAMESPACE, "mine", "/x/Y"), TN_DENY);
    assert_int_equal(verdict(&claims, TN_ACCESS_READ, TN_SCOPE_NAMESPACE, "", "/x/Y"), TN_ALLOW);
}

static void who_lists_namespaces(void **state)
{
    (void)state;
    tn_role_grant grant = {.ns = str("mine"), .roles = TN_ROLE_READER};
    const tn_claims claims = {
        .struct_size = sizeof claims, .grants = &grant, .n_grants = 1, .present = 1};
    const tn_call_target target = {
        .struct_size = sizeof target,
        .access = TN_ACCESS_READ,
        .scope = TN_SCOPE_CLUSTER,
        .api_name = str("/temporal.api.workflowservice.v1.WorkflowService/ListNamespaces")};
    static const char *const words[] = {NULL, "system", "own"};
    for (size_t i = 0; i < 3; i++) {
        tn_decision out = {.struct_size = sizeof out};
        void *inst;
        assert_int_equal(open_with(words[i], &inst), TN_OK);
        const tn_authorizer_ops *ops = tn_plugin_v0(0)->ops;
        assert_int_equal(ops->authorize(inst, NULL, &claims, &target, &out), TN_OK);
        assert_int_equal(out.verdict, i == 2 ? TN_ALLOW : TN_DENY);
        tn_plugin_v0(0)->close(inst);
    }
    void *none;
    assert_int_equal(open_with("everybody", &none), TN_EINVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roles_against_classes), cmocka_unit_test(two_calls_are_free),
        cmocka_unit_test(no_namespace_is_a_name_too), cmocka_unit_test(who_lists_namespaces)};
    return cmocka_run_group_tests_name("authorizer/default", tests, NULL, NULL);
}
