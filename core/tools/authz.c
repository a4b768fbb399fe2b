/* SPDX-License-Identifier: MIT */
/* tenonctl authz explain: asks an authorizer about one call, as the server would, and lets it say how it decides (the
 * extension TN_EXPLAIN_ID).  It is the plugin itself that decides, not a second opinion of it. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "auth/auth.h"
#include "proto/proto.h"
#include "tools/tools.h"

#define TIMEOUT_NS (10 * TN_SEC)
#define GRANTS_MAX 64u

typedef struct question {
    const char *policy, *config, *subject, *roles, *ns, *method, *task_queue, *workflow_type,
        *workflow_id;
    tn_claims claims;
    tn_role_grant grants[GRANTS_MAX];
    tn_call_target target;
    /* the answer */
    tn_plugin_instance *inst;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool answered;
    tn_status status;
    tn_error err;
    uint32_t verdict;
    tn_buf rule, reason;
    const tn_decision *decision;
} question;

/* ---- what is asked ---- */

static bool role_bit(tn_str word, uint32_t *out)
{
    static const char *const names[] = {"worker", "reader", "writer", "admin", "read", "write"};
    static const uint32_t bits[] = {TN_ROLE_WORKER, TN_ROLE_READER, TN_ROLE_WRITER,
                                    TN_ROLE_ADMIN,  TN_ROLE_READER, TN_ROLE_WRITER};
    for (size_t i = 0; i < TN_COUNT_OF(names); i++)
        if (tn_str_is(word, names[i])) {
            *out = bits[i];
            return true;
        }
    return false;
}

/* "reader,system:admin,orders:writer" */
static bool read_roles(question *q, tn_str *out_bad)
{
    const char *p = q->roles ? q->roles : "";
    while (*p) {
        size_t n = strcspn(p, ",");
        tn_str word = {p, n}, role = word, where = tn_str_from(q->ns);
        const char *colon = memrchr(p, ':', n);
        uint32_t bit;
        *out_bad = word;
        if (colon) {
            where.p = p;
            where.n = (size_t)(colon - p);
            role = (tn_str){colon + 1, n - where.n - 1};
        }
        if (!role_bit(role, &bit) || q->claims.n_grants == GRANTS_MAX)
            return false;
        if (colon && tn_str_is(where, "system"))
            q->claims.system_roles |= bit;
        else
            q->grants[q->claims.n_grants++] = (tn_role_grant){.ns = where, .roles = bit};
        p += n + (p[n] == ',');
    }
    return true;
}

static bool find_method(question *q, const char **out_near)
{
    static const char *names[1024];
    size_t n = 0;
    *out_near = NULL;
    if (q->method[0] == '/') {
        q->target.api_name = tn_str_from(q->method);
        return true;
    }
    for (size_t i = 0; i < tn_method_count; i++) {
        if (strcmp(tn_method_table[i].name, q->method) == 0) {
            q->target.api_name = tn_str_from(tn_method_table[i].path);
            return true;
        }
        if (n < TN_COUNT_OF(names))
            names[n++] = tn_method_table[i].name;
    }
    *out_near = tn_config_nearest(tn_str_from(q->method), names, n);
    return false;
}

static int fill(const tn_tool *tool, question *q)
{
    tn_str bad = {0};
    const char *near;
    q->claims = (tn_claims){.struct_size = sizeof q->claims,
                            .subject = tn_str_from(q->subject),
                            .auth_type = TN_STR("explain"),
                            .grants = q->grants,
                            .present = q->subject || q->roles};
    if (!read_roles(q, &bad))
        return tn_tool_misused(tool,
                               "--role has \"" TN_STR_FMT
                               "\", wants worker, reader, writer or admin, with "
                               "system: or a namespace and a colon before it, 64 at most",
                               TN_STR_ARG(bad));
    q->target = (tn_call_target){.struct_size = sizeof q->target,
                                 .ns = tn_str_from(q->ns),
                                 .workflow_id = tn_str_from(q->workflow_id),
                                 .workflow_type = tn_str_from(q->workflow_type),
                                 .task_queue = tn_str_from(q->task_queue)};
    if (!find_method(q, &near))
        return tn_tool_misused(tool, "there is no method \"%s\"%s%s%s", q->method,
                               near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    tn_auth_methods_init();
    tn_auth_rule(q->target.api_name, &q->target.access, &q->target.scope);
    return TN_TOOL_GO_ON;
}

/* ---- asking ---- */

static void hear(tn_op *op, const char *text, size_t n)
{
    (void)op;
    printf("  %.*s\n", (int)n, text);
}

static const tn_explain EXPLAIN = {.struct_size = sizeof EXPLAIN, .line = hear};

static void answered(tn_plugin_call *call)
{
    question *q = call->user;
    pthread_mutex_lock(&q->lock);
    q->status = call->status;
    q->err = call->err;
    if (call->status == TN_OK) {
        q->verdict = q->decision->verdict;
        tn_buf_put(&q->rule, q->decision->rule.p, q->decision->rule.n);
        tn_buf_put(&q->reason, q->decision->reason.p, q->decision->reason.n);
    }
    q->answered = true;
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->lock);
    tn_plugin_call_end(call);
}

static void ask_here(void *arg)
{
    question *q = arg;
    const tn_authorizer_ops *ops = tn_plugin_ops(q->inst);
    tn_plugin_call *call = tn_plugin_call_begin(q->inst, 0, TIMEOUT_NS, answered, q);
    tn_decision *decision = TN_NEW(call->arena, tn_decision);
    decision->struct_size = sizeof *decision;
    q->decision = decision;
    uint64_t entered = tn_plugin_enter();
    tn_status status =
        ops->authorize(tn_plugin_ctx(q->inst), call->op, &q->claims, &q->target, decision);
    tn_plugin_left(q->inst, "authorize", entered);
    if (tn_plugin_call_returned(call, status) != TN_PENDING)
        answered(call);
}

static void print_call(const question *q)
{
    static const char *const access[] = {"class unknown", "read", "write", "admin"};
    static const char *const scope[] = {"scope unknown", "namespace", "cluster"};
    const tn_call_target *t = &q->target;
    printf("call: " TN_STR_FMT " (%s, %s)", TN_STR_ARG(t->api_name),
           access[t->access < 4 ? t->access : 0], scope[t->scope < 3 ? t->scope : 0]);
    if (q->claims.present)
        printf(" by \"" TN_STR_FMT "\"%s%s", TN_STR_ARG(q->claims.subject),
               q->roles ? " with " : " without roles", q->roles ? q->roles : "");
    else
        printf(" by nobody known");
    static const char *const words[] = {"namespace", "task queue", "workflow type", "workflow id"};
    const tn_str values[] = {t->ns, t->task_queue, t->workflow_type, t->workflow_id};
    for (size_t i = 0; i < TN_COUNT_OF(words); i++)
        if (values[i].n)
            printf(", %s \"" TN_STR_FMT "\"", words[i], TN_STR_ARG(values[i]));
    printf("\n");
}

static int print_answer(const question *q)
{
    if (q->status != TN_OK) {
        printf("deny: the plugin failed: %s: %s\n", tn_status_name(q->status), q->err.text);
        return TN_TOOL_FAILED;
    }
    bool allow = q->verdict == TN_ALLOW;
    printf("%s", allow                   ? "allow"
                 : q->verdict == TN_DENY ? "deny"
                                         : "deny (the plugin gave no verdict)");
    if (q->rule.n)
        printf(": %.*s", (int)q->rule.n, (const char *)q->rule.p);
    if (!allow && q->reason.n)
        printf(" (the caller is told: %.*s)", (int)q->reason.n, (const char *)q->reason.p);
    printf("\n");
    return allow ? TN_TOOL_OK : TN_TOOL_FAILED;
}

static int ask(question *q, tn_plugin_instance *inst)
{
    q->inst = inst;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->wake, NULL);
    print_call(q);
    tn_loop_call(tn_loops_get(0), ask_here, q);
    pthread_mutex_lock(&q->lock);
    while (!q->answered)
        pthread_cond_wait(&q->wake, &q->lock);
    pthread_mutex_unlock(&q->lock);
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->wake);
    int result = print_answer(q);
    tn_buf_done(&q->rule);
    tn_buf_done(&q->reason);
    return result;
}

/* ---- the authorizer ---- */

/* Of a configuration; it need not be right otherwise, so that one part of it can be looked at by itself. */
static tn_config_tree *tree_of(const question *q, tn_config_problems *problems)
{
    tn_config_tree *tree = NULL;
    if (q->config)
        return tn_config_load(q->config, problems, &tree) == TN_OK ? tree : NULL;
    char *path = realpath(q->policy, NULL);
    tn_buf yaml = {0};
    tn_buf_printf(&yaml,
                  "authorization: {authorizer: {plugin: rules, checkInterval: 0s, policyFile: '");
    for (const char *p = path ? path : q->policy; *p; p++)
        tn_buf_printf(&yaml, *p == '\'' ? "''" : "%c", *p);
    tn_buf_printf(&yaml, "'}}\n");
    free(path);
    if (tn_config_parse("--policy", tn_buf_blob(&yaml), problems, &tree) != TN_OK)
        tree = NULL;
    tn_buf_done(&yaml);
    return tree;
}

static int explain(question *q)
{
    tn_config_problems *problems = tn_config_problems_create();
    tn_config_tree *tree = tree_of(q, problems);
    tn_plugin_instance *inst = NULL;
    tn_error err = {0};
    int result = TN_TOOL_FAILED;
    if (!tree)
        return tn_tool_end(problems);
    const tn_config *root = tn_config_root(tree),
                    *stanza = tn_config_get(root, "authorization.authorizer");
    tn_plugin_options options = {.root = root, .own_files = true};
    tn_log_configure(TN_LOG_WARN, false);
    if (tn_loops_create(1, &err) != TN_OK) {
        tn_config_problems_add(problems, err.text);
    } else {
        tn_loops_run();
        tn_plugin_offer(TN_EXPLAIN_ID, &EXPLAIN);
        if (tn_plugin_open(&options, TN_KIND_AUTHORIZER, stanza, problems, &inst) == TN_OK) {
            if (tn_plugin_attach(inst, &err) == TN_OK)
                result = ask(q, inst);
            else
                tn_config_problems_add(problems, err.text);
            tn_plugin_detach(inst, TN_SEC);
            tn_plugin_close(inst);
        }
        tn_loops_stop();
        tn_loops_destroy();
    }
    tn_config_tree_destroy(tree);
    return tn_tool_end(problems) == TN_TOOL_OK ? result : TN_TOOL_FAILED;
}

static int run(const tn_tool *tool, int argc, char **argv)
{
    static question q;
    const tn_option options[] = {{"--policy", TN_OPTION_TEXT, &q.policy},
                                 {"--config", TN_OPTION_TEXT, &q.config},
                                 {"--subject", TN_OPTION_TEXT, &q.subject},
                                 {"--role", TN_OPTION_TEXT, &q.roles},
                                 {"--namespace", TN_OPTION_TEXT, &q.ns},
                                 {"--method", TN_OPTION_TEXT, &q.method},
                                 {"--task-queue", TN_OPTION_TEXT, &q.task_queue},
                                 {"--workflow-type", TN_OPTION_TEXT, &q.workflow_type},
                                 {"--workflow-id", TN_OPTION_TEXT, &q.workflow_id}};
    int result = tn_tool_options(tool, argc, argv, options, TN_COUNT_OF(options), NULL, 0, 0);
    if (result != TN_TOOL_GO_ON)
        return result;
    if (!q.policy == !q.config)
        return tn_tool_misused(tool, "wants --policy FILE, or --config FILE");
    if (!q.method)
        return tn_tool_misused(tool, "wants --method, such as StartWorkflowExecution");
    const char **texts[] = {&q.ns, &q.task_queue, &q.workflow_type, &q.workflow_id};
    for (size_t i = 0; i < TN_COUNT_OF(texts); i++)
        if (!*texts[i])
            *texts[i] = "";
    result = fill(tool, &q);
    return result == TN_TOOL_GO_ON ? explain(&q) : result;
}

const tn_tool tn_tools_authz[] = {
    {.name = "authz explain",
     .args = "(--policy FILE | --config FILE) --method M [--subject S] [--role R,...] [--namespace "
             "N] [--task-queue Q]\n"
             "        [--workflow-type T] [--workflow-id I]",
     .brief = "which rule decides about a call, and why the ones before it do not",
     .help = "Asks the plugin authorizer/rules with the policy FILE, or the authorizer of the "
             "configuration FILE, about\n"
             "one call.  R: worker, reader, writer, admin in the call's namespace; system:R in the "
             "whole system; N:R in\n"
             "another namespace.  With neither --subject nor --role the caller has shown nothing.\n"
             "Ends with 0 when the call is allowed, with 1 when it is denied.\n",
     .run = run},
    {0},
};
