/* SPDX-License-Identifier: MIT */
/* authorizer/rules: patterns and their time, what a policy may say and how a bad one is refused, which rule decides, and
 * that the sets of rules agree with the rules taken one by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../../plugins/authorizer/rules/private.h"
#include "base/base.h"

static tn_str str(const char *s) { return (tn_str){s, strlen(s)}; }

/* ---- patterns ---- */

static bool glob(const char *pattern, const char *text)
{
    const char *why;
    az_glob *g = az_glob_compile(pattern, strlen(pattern), &why);
    assert_non_null(g);
    bool yes = az_glob_match(g, text, strlen(text));
    free(g);
    return yes;
}

static void stars(void **state)
{
    (void)state;
    assert_true(glob("", "") && !glob("", "a") && glob("a", "a") && !glob("a", "ab") &&
                !glob("ab", "a"));
    assert_true(glob("*", "") && glob("*", "abc") && glob("**", "x") && glob("a*", "a") &&
                glob("*a", "a"));
    assert_true(glob("a*a", "aa") && !glob("a*a", "a") && glob("a*b*c", "abc") &&
                glob("a*b*c", "a-b-b-c"));
    assert_false(glob("a*b*c", "acb") || glob("*ab*ab", "ab") || glob("ab*ba", "aba"));
    assert_true(glob("*ab*ab", "abab") && glob("\\*", "*") && !glob("\\*", "x") &&
                glob("a\\?\\[\\\\", "a?[\\"));
    assert_false(glob("A", "a"));
    static const char *const bad[] = {"a?", "[a]", "\\", "\\a", "x\\"};
    for (size_t i = 0; i < TN_COUNT_OF(bad); i++) {
        const char *why = NULL;
        assert_null(az_glob_compile(bad[i], strlen(bad[i]), &why));
        assert_non_null(why);
    }
}

/* Twice the text, twice the work, whatever the pattern: counted against itself, by far more than a clock's noise. */
static void no_pattern_is_slow(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    const char *why;
    char *pattern = malloc(1024), *text = malloc(N);
    for (size_t i = 0; i < 1024; i++)
        pattern[i] = i % 2 ? 'a' : '*';
    memset(text, 'a', N);
    az_glob *g = az_glob_compile(pattern, 1024, &why);
    assert_non_null(g);
    assert_true(az_glob_match(g, text, N));
    text[N - 1] = 'b';
    assert_false(az_glob_match(g, text, N));
    free(g);
    memcpy(pattern, "*aaaaaaaaaaaaaaaaaaaaaaaaaaaaaab*", 33);
    g = az_glob_compile(pattern, 33, &why);
    assert_true(az_glob_match(
        g, text, N)); /* a backtracking matcher would need 2^40 steps for what follows */
    text[N - 1] = 'a';
    assert_false(az_glob_match(g, text, N));
    free(g);
    free(pattern);
    free(text);
}

static bool path(const char *pattern, const char *text)
{
    const char *why;
    az_path *p = az_path_compile(pattern, strlen(pattern), '/', false, &why);
    assert_non_null(p);
    bool yes = az_path_match(p, text, strlen(text));
    az_path_free(p);
    return yes;
}

static void parts(void **state)
{
    (void)state;
    assert_true(path("spiffe://a/ns/*/sa/web", "spiffe://a/ns/x/sa/web"));
    assert_false(path("spiffe://a/ns/*/sa/web", "spiffe://a/ns/x/sa/y/sa/web"));
    assert_false(path("spiffe://a/*", "spiffe://a/b/c") || path("spiffe://a/*", "spiffe://a"));
    assert_true(path("spiffe://a/**", "spiffe://a/b/c") && path("spiffe://a/**", "spiffe://a/b"));
    assert_false(path("spiffe://a/**", "spiffe://a") || path("spiffe://a/**", "spiffe://b/c"));
    assert_true(path("**", "a/b") && path("a", "a") && !path("a", "a/") && !path("a/", "a") &&
                path("a/*", "a/"));
    const char *why = NULL;
    assert_null(az_path_compile("a/**/b", 6, '/', false, &why));
    assert_non_null(why);
}

/* ---- policies ---- */

static void refused(const char *text, const char *where, const char *what)
{
    rl_policy *policy = NULL;
    tn_error err = {0};
    assert_int_not_equal(rl_policy_parse("/etc/p.yaml", text, strlen(text), &policy, &err), TN_OK);
    if (strncmp(err.text, where, strlen(where)) != 0 || !strstr(err.text, what) ||
        !strstr(err.text, "\n    fix: "))
        fail_msg("%s\ngives: %s", text, err.text);
}

static void bad_policies_name_their_place(void **state)
{
    (void)state;
    refused("", "/etc/p.yaml:1: ", "no rules");
    refused("{}", "/etc/p.yaml:1: ", "no rules");
    refused("rules: []", "/etc/p.yaml:1: ", "no rules");
    refused("rules:\n- verdict: allow\n- {}\n", "/etc/p.yaml:3: ", "no verdict");
    refused("rules:\n- verdict: maybe\n", "/etc/p.yaml:2: ", "neither");
    refused("rules:\n- verdict: allow\n  nmaespace: a\n",
            "/etc/p.yaml:3: ", "unknown key \"nmaespace\"");
    refused("rules:\n- verdict: allow\n  role: [reader, boss]\n", "/etc/p.yaml:3: ", "role");
    refused("rules:\n- verdict: allow\n  access: all\n", "/etc/p.yaml:3: ", "access");
    refused("rules:\n- verdict: allow\n  scope: all\n", "/etc/p.yaml:3: ", "scope");
    refused("rules:\n- verdict: allow\n  method: St?rt\n", "/etc/p.yaml:3: ", "wildcard");
    refused("rules:\n- verdict: allow\n  namespace: []\n", "/etc/p.yaml:3: ", "empty list");
    refused("rules:\n- verdict: allow\n  namespace: {a: b}\n",
            "/etc/p.yaml:3: ", "namespace wants");
    refused("rules:\n- verdict: allow\n  namespace: [[a]]\n", "/etc/p.yaml:3: ", "namespace wants");
    refused("rules:\n- verdict: allow\n  verdict: deny\n", "/etc/p.yaml:3: ", "twice");
    refused("rules:\n- verdict: allow\n  anonymous: yes\n", "/etc/p.yaml:3: ", "anonymous");
    refused("rules:\n- &a {verdict: allow}\n", "/etc/p.yaml:2: ", "anchor");
    refused("rules:\n- verdict: !!str allow\n", "/etc/p.yaml:2: ", "tag");
    refused("rules:\n- [verdict\n", "/etc/p.yaml:2: ", "a rule is a map");
    refused("rules:\n- {verdict: allow\n", "/etc/p.yaml:", "YAML");
    refused("other: 1\n", "/etc/p.yaml:1: ", "unknown key");
    refused("rules:\n- verdict: allow\n---\nrules:\n- verdict: deny\n",
            "/etc/p.yaml:3: ", "second document");
    refused("rules:\n- verdict: allow\nrules:\n- verdict: deny\n", "/etc/p.yaml:3: ", "twice");
    refused("\tx", "/etc/p.yaml:1: ", "YAML");
}

static rl_policy *policy_of(const char *text)
{
    rl_policy *policy = NULL;
    tn_error err = {0};
    if (rl_policy_parse("/etc/p.yaml", text, strlen(text), &policy, &err) != TN_OK)
        fail_msg("%s", err.text);
    return policy;
}

/* ---- decisions ---- */

typedef struct call {
    const char *subject, *ns, *method, *queue, *type;
    uint32_t system, here, access, scope;
} call;

static char told[4096]; /* the last line */
static unsigned noes;
static void hear(void *user, const char *text, size_t n)
{
    (void)user;
    snprintf(told, sizeof told, "%.*s", (int)n, text);
    noes += strstr(told, ": no: ") != NULL;
}

/* The line of the rule that decides, negative when it denies, 0: none does. */
static int line_for(rl_memory *memory, call c)
{
    tn_role_grant grants[] = {{.ns = str("elsewhere"), .roles = 15},
                              {.ns = str(c.ns), .roles = c.here}};
    tn_claims claims = {.struct_size = sizeof claims,
                        .system_roles = c.system,
                        .subject = str(c.subject ? c.subject : ""),
                        .present = c.subject != NULL,
                        .grants = grants,
                        .n_grants = 2};
    tn_call_target target = {.struct_size = sizeof target,
                             .access = c.access,
                             .scope = c.scope ? c.scope : TN_SCOPE_NAMESPACE,
                             .ns = str(c.ns),
                             .api_name = str(c.method ? c.method : "/s.S/Start"),
                             .task_queue = str(c.queue ? c.queue : ""),
                             .workflow_type = str(c.type ? c.type : "")};
    size_t at = rl_decide(memory, &claims, &target);
    noes = 0;
    rl_explain(memory->policy, &claims, &target, hear, NULL);
    if (at == RL_NONE) {
        assert_non_null(strstr(told, ": no rule is for this call: deny"));
        assert_int_equal(noes, memory->policy->n_rules);
        return 0;
    }
    assert_int_equal(noes, at);
    const rl_rule *rule = &memory->policy->rules[at];
    char wanted[64];
    snprintf(wanted, sizeof wanted, "/etc/p.yaml:%u: ", rule->line);
    assert_int_equal(strncmp(told, wanted, strlen(wanted)), 0);
    assert_non_null(strstr(told, rule->allow ? "yes: allow" : "yes: deny"));
    return rule->allow ? (int)rule->line : -(int)rule->line;
}

static void the_first_rule_decides(void **state)
{
    (void)state;
    rl_memory m;
    assert_true(rl_memory_init(
        &m,
        policy_of(
            "rules:\n"
            "- {verdict: deny, subject: \"ext-*\", method: [\"Delete*\", Terminate]}\n"
            "- {verdict: allow, role: reader, access: read}\n"
            "- {verdict: allow, role: writer, access: [read, write], taskQueue: [\"\", \"q-*\"]}\n"
            "- {verdict: allow, namespace: [\"team-*\"], subject: svc, workflowType: Order}\n"
            "- {verdict: allow, role: system:admin}\n"
            "- {verdict: allow, anonymous: true, method: /h.H/*}\n"
            "- {verdict: allow, scope: cluster, role: worker}\n")));
    assert_int_equal(line_for(&m, (call){"ext-1", "a", "/s.S/DeleteX", .system = 8, .access = 2}),
                     -2);
    assert_int_equal(line_for(&m, (call){"ext-1", "a", "/s.S/Terminate", .system = 8, .access = 2}),
                     -2);
    assert_int_equal(line_for(&m, (call){"int-1", "a", "/s.S/DeleteX", .system = 8, .access = 1}),
                     3);
    assert_int_equal(line_for(&m, (call){"x", "a", .here = TN_ROLE_READER, .access = 1}), 3);
    assert_int_equal(line_for(&m, (call){"x", "a", .here = TN_ROLE_READER, .access = 2}), 0);
    assert_int_equal(line_for(&m, (call){"x", "a", .here = TN_ROLE_WRITER, .access = 1}), 3);
    assert_int_equal(line_for(&m, (call){"x", "a", .here = TN_ROLE_WRITER, .access = 2}), 4);
    assert_int_equal(
        line_for(&m, (call){"x", "a", .here = TN_ROLE_WRITER, .access = 2, .queue = "q-1"}), 4);
    assert_int_equal(
        line_for(&m, (call){"x", "a", .here = TN_ROLE_WRITER, .access = 2, .queue = "r"}), 0);
    assert_int_equal(
        line_for(&m, (call){"x", "a", .here = TN_ROLE_WORKER | TN_ROLE_READER, .access = 2}), 0);
    assert_int_equal(line_for(&m, (call){"svc", "team-7", .type = "Order", .access = 2}), 5);
    assert_int_equal(line_for(&m, (call){"svc", "team-7", .type = "order", .access = 2}), 0);
    assert_int_equal(line_for(&m, (call){"svc", "steam-7", .type = "Order", .access = 2}), 0);
    assert_int_equal(line_for(&m, (call){"x", "a", .here = TN_ROLE_ADMIN, .access = 3}), 0);
    assert_int_equal(line_for(&m, (call){"x", "a", .system = TN_ROLE_ADMIN, .access = 3}), 6);
    assert_int_equal(line_for(&m, (call){NULL, "a", .system = 15, .here = 15, .access = 1}), 0);
    assert_int_equal(line_for(&m, (call){NULL, "", "/h.H/List", .access = 1}), 7);
    assert_int_equal(line_for(&m, (call){NULL, "", "/x/h.H/List", .access = 1}), 0);
    assert_int_equal(
        line_for(&m, (call){"x", "a", .here = TN_ROLE_WORKER, .scope = TN_SCOPE_CLUSTER}), 0);
    assert_int_equal(
        line_for(&m, (call){"x", "", .system = TN_ROLE_WORKER, .scope = TN_SCOPE_CLUSTER}), 8);
    assert_int_equal(
        line_for(&m, (call){"x", "", .system = TN_ROLE_WORKER, .access = 77, .scope = 77}), 0);
    rl_memory_done(&m);
}

/* Many rules, values in and out of what is remembered: always what the rules say one by one (line_for compares). */
static void sets_agree_with_rules(void **state)
{
    (void)state;
    tn_rng rng;
    tn_rng_seed(&rng, 7);
    tn_buf text = {0};
    tn_buf_printf(&text, "rules:\n");
    for (unsigned i = 0; i < 200; i++) {
        tn_buf_printf(&text, "- {verdict: %s", tn_rng_below(&rng, 3) ? "allow" : "deny");
        if (tn_rng_below(&rng, 4))
            tn_buf_printf(&text, ", namespace: [\"n%u\", \"n*%u\"]",
                          (unsigned)tn_rng_below(&rng, 300), (unsigned)tn_rng_below(&rng, 300));
        if (tn_rng_below(&rng, 4))
            tn_buf_printf(&text, ", method: \"M*%u\"", (unsigned)tn_rng_below(&rng, 300));
        if (tn_rng_below(&rng, 2))
            tn_buf_printf(&text, ", taskQueue: \"*%u*\"", (unsigned)tn_rng_below(&rng, 100));
        if (tn_rng_below(&rng, 2))
            tn_buf_printf(&text, ", role: [worker, admin]");
        tn_buf_printf(&text, ", workflowType: \"*%u\"}\n", (unsigned)tn_rng_below(&rng, 10));
    }
    tn_buf_put_u8(&text, 0);
    rl_memory m;
    assert_true(rl_memory_init(&m, policy_of((const char *)text.p)));
    tn_buf_done(&text);
    unsigned decided = 0;
    for (unsigned i = 0; i < 3000; i++) {
        char ns[200], method[80], queue[80], type[80];
        snprintf(ns, sizeof ns, "n%0*u", i % 7 == 0 ? 150 : 1, (unsigned)tn_rng_below(&rng, 300));
        snprintf(method, sizeof method, "/s.S/M%u", (unsigned)tn_rng_below(&rng, 300));
        snprintf(queue, sizeof queue, "%u", (unsigned)tn_rng_below(&rng, 10000));
        snprintf(type, sizeof type, "T%u", (unsigned)tn_rng_below(&rng, 100));
        decided += line_for(&m, (call){"x", ns, method, queue, type, 0, i % 16, i % 4, i % 3}) != 0;
    }
    assert_true(decided > 100);
    rl_memory_done(&m);
}

static void what_a_call_costs(void **state)
{
    (void)state;
    rl_memory m;
    assert_true(rl_memory_init(
        &m, policy_of("rules:\n- {verdict: deny, subject: \"ext-*\", method: \"Delete*\"}\n"
                      "- {verdict: allow, role: writer, namespace: \"team-*\", taskQueue: \"q*\", "
                      "workflowType: \"O*\"}\n")));
    tn_role_grant grant = {.ns = str("team-a"), .roles = TN_ROLE_WRITER};
    tn_claims claims = {.struct_size = sizeof claims,
                        .subject = str("alice@example.com"),
                        .present = 1,
                        .grants = &grant,
                        .n_grants = 1};
    tn_call_target target = {
        .struct_size = sizeof target,
        .access = 2,
        .scope = 1,
        .ns = str("team-a"),
        .api_name = str("/temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution"),
        .task_queue = str("q-orders"),
        .workflow_type = str("OrderWorkflow")};
    size_t sum = 0;
    uint64_t began = tn_now_mono_ns();
    for (unsigned i = 0; i < 1000000; i++)
        sum += rl_decide(&m, &claims, &target);
    printf("a decision that is remembered: %.0f ns\n", (double)(tn_now_mono_ns() - began) / 1e6);
    assert_int_equal(sum, 1000000);
    rl_memory_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stars),
        cmocka_unit_test(no_pattern_is_slow),
        cmocka_unit_test(parts),
        cmocka_unit_test(bad_policies_name_their_place),
        cmocka_unit_test(the_first_rule_decides),
        cmocka_unit_test(sets_agree_with_rules),
        cmocka_unit_test(what_a_call_costs),
    };
    return cmocka_run_group_tests_name("authorizer/rules", tests, NULL, NULL);
}
