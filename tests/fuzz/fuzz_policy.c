/* SPDX-License-Identifier: MIT */
/* Policies of authorizer/rules on any bytes: refused with a place and a fix, or decided, and then the sets of rules
 * (match.c) must say what the rules themselves say one by one (explain.c).  Behind a NUL byte in the input stand the call's
 * values, one a line. */
#include <stdio.h>

#include "base/base.h"

#include "../../plugins/authorizer/rules/private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char last[2048];
static void hear(void *user, const char *text, size_t n)
{
    (void)user;
    TN_ASSERT(n < sizeof last);
    memcpy(last, text, n);
    last[n] = 0;
}

static tn_str line_of(const char **p, const char *end)
{
    const char *at = *p, *stop = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    tn_str line = {at, (size_t)((stop ? stop : end) - at)};
    *p = stop ? stop + 1 : end;
    return line;
}

static void decide(rl_policy *policy, const char *p, const char *end)
{
    tn_role_grant grant = {.ns = {"orders", 6}, .roles = TN_ROLE_WRITER};
    tn_claims claims = {.struct_size = sizeof claims, .grants = &grant, .n_grants = 1};
    tn_call_target target = {.struct_size = sizeof target};
    rl_memory memory;
    claims.subject = line_of(&p, end);
    target.ns = line_of(&p, end);
    target.api_name = line_of(&p, end);
    target.task_queue = line_of(&p, end);
    target.workflow_type = line_of(&p, end);
    TN_ASSERT(rl_memory_init(&memory, policy));
    for (uint32_t i = 0; i < 96; i++) {
        claims.present = i & 1;
        claims.system_roles = i >> 1 & 3;
        target.access = i >> 3 & 3;
        target.scope = i >> 5;
        size_t at = rl_decide(&memory, &claims, &target);
        TN_ASSERT(at == RL_NONE || at < policy->n_rules);
        TN_ASSERT(rl_decide(&memory, &claims, &target) == at);
        rl_explain(policy, &claims, &target, hear, NULL);
        char wanted[64];
        if (at == RL_NONE)
            snprintf(wanted, sizeof wanted, "p: no rule");
        else
            snprintf(wanted, sizeof wanted, "p:%u:", policy->rules[at].line);
        TN_ASSERT(strncmp(last, wanted, strlen(wanted)) == 0);
    }
    rl_memory_done(&memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *end = text + size;
    const char *cut = size ? memchr(text, 0, size) : NULL;
    rl_policy *policy = NULL;
    tn_error err = {0};
    if (rl_policy_parse("p", size ? text : "", (size_t)((cut ? cut : end) - text), &policy, &err) ==
        TN_OK)
        decide(policy, cut ? cut + 1 : end, end);
    else
        TN_ASSERT(err.code < 0 && strncmp(err.text, "p:", 2) == 0 && err.text[2] >= '1');
    return 0;
}
