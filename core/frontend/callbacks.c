/* SPDX-License-Identifier: MIT */
/* Completion callbacks as a caller sends them: how many, where they may go, what they carry. */
#include <ctype.h>

#include "frontend/priv.h"

#define INVALID(arena, ...) tn_fault_make((arena), TN_GRPC_INVALID_ARGUMENT, __VA_ARGS__)

typedef Temporal__Api__Common__V1__Callback callback_msg;
typedef Temporal__Api__Common__V1__Link link_msg;
typedef Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest start_request;

/* ---- addresses ------------------------------------------------------------------------------- */

/* "*" stands for any characters, the rest for itself. */
static bool matches(tn_str pattern, tn_str host)
{
    size_t p = 0, h = 0, star = SIZE_MAX, from = 0;
    while (h < host.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = p++;
            from = h;
        } else if (p < pattern.n && pattern.p[p] == host.p[h]) {
            p++, h++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            h = ++from;
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*')
        p++;
    return p == pattern.n;
}

/* The rules stand between commas, "!" before those that allow http. */
static const tn_fault *check_rules(tn_fcall *f, const char *url, tn_str host, bool secure)
{
    tn_arena *arena = f->call->arena;
    tn_str rules = tn_dyn_text_in(TN_DYN_CALLBACK_ADDRESSES, f->ns->name);
    while (rules.n) {
        const char *end = memchr(rules.p, ',', rules.n);
        tn_str rule = {rules.p, end ? (size_t)(end - rules.p) : rules.n};
        size_t taken = rule.n + (end ? 1 : 0);
        rules = (tn_str){rules.p + taken, rules.n - taken};
        bool insecure = rule.n && *rule.p == '!';
        if (insecure)
            rule = (tn_str){rule.p + 1, rule.n - 1};
        if (!rule.n || !matches(rule, host))
            continue;
        if (insecure || secure)
            return NULL;
        return INVALID(
            arena, "invalid url: callback address does not allow insecure connections: %s", url);
    }
    return INVALID(arena, "invalid url: url does not match any configured callback address: %s",
                   url);
}

static const tn_fault *check_url(tn_fcall *f, const char *url)
{
    tn_arena *arena = f->call->arena;
    int64_t max = tn_front_limit(f, TN_DYN_FRONTEND_CALLBACK_URL);
    if ((int64_t)strlen(url) > max)
        return INVALID(arena, "invalid url: url length longer than max length allowed of %lld",
                       (long long)max);
    if (strcmp(url, "temporal://system") == 0 || strcmp(url, "temporal://internal") == 0)
        return NULL;
    bool secure = strncasecmp(url, "https:", 6) == 0;
    if (!secure && strncasecmp(url, "http:", 5) != 0)
        return INVALID(arena, "invalid url: unknown scheme: %s", url);
    const char *rest = strchr(url, ':') + 1, *host = strncmp(rest, "//", 2) == 0 ? rest + 2 : "";
    size_t n = strcspn(host, "/?#");
    const char *at = memchr(host, '@', n);
    if (at) {
        n -= (size_t)(at + 1 - host);
        host = at + 1;
    }
    if (!n)
        return INVALID(arena, "invalid url: missing host");
    return check_rules(f, url, (tn_str){host, n}, secure);
}

static const tn_fault *check_header(tn_fcall *f, Temporal__Api__Common__V1__Callback__Nexus *nexus)
{
    int64_t max = tn_front_limit(f, TN_DYN_FRONTEND_CALLBACK_HEADER);
    size_t bytes = 0;
    for (size_t i = 0; i < nexus->n_header; i++) {
        bytes += strlen(nexus->header[i]->key) + strlen(nexus->header[i]->value);
        for (char *p = nexus->header[i]->key; *p; p++)
            *p = (char)tolower((unsigned char)*p);
    }
    if ((int64_t)bytes > max)
        return INVALID(f->call->arena,
                       "invalid header: header size longer than max allowed size of %lld",
                       (long long)max);
    return NULL;
}

const tn_fault *tn_front_check_callbacks(tn_fcall *f, size_t n, callback_msg *const *callbacks)
{
    tn_arena *arena = f->call->arena;
    int64_t max = tn_front_limit(f, TN_DYN_CALLBACK_MAX);
    if ((int64_t)n > max)
        return INVALID(arena, "cannot attach more than %lld callbacks to an execution",
                       (long long)max);
    for (size_t i = 0; i < n; i++) {
        const tn_fault *fault = NULL;
        switch ((int)callbacks[i]->variant_case) {
        case TEMPORAL__API__COMMON__V1__CALLBACK__VARIANT_NEXUS:
            fault = check_url(f, callbacks[i]->nexus->url);
            if (!fault)
                fault = check_header(f, callbacks[i]->nexus);
            break;
        case TEMPORAL__API__COMMON__V1__CALLBACK__VARIANT_INTERNAL:
            fault = INVALID(arena, "unsupported callback variant: *common.Callback_Internal_");
            break;
        default:
            fault = tn_fault_make(arena, TN_GRPC_UNIMPLEMENTED, "unknown callback variant: <nil>");
            break;
        }
        if (fault)
            return fault;
    }
    return NULL;
}

/* ---- links ----------------------------------------------------------------------------------- */

static bool carried(const start_request *r, const link_msg *link)
{
    for (size_t i = 0; i < r->n_completion_callbacks; i++) {
        const callback_msg *callback = r->completion_callbacks[i];
        for (size_t j = 0; j < callback->n_links; j++)
            if (tn_proto_equal(&link->base, &callback->links[j]->base))
                return true;
    }
    return false;
}

const tn_fault *tn_front_check_all_links(tn_fcall *f, start_request *r)
{
    size_t kept = 0, n = r->n_links;
    for (size_t i = 0; i < r->n_links; i++)
        if (!carried(r, r->links[i]))
            r->links[kept++] = r->links[i];
    r->n_links = kept;
    for (size_t i = 0; i < r->n_completion_callbacks; i++)
        n += r->completion_callbacks[i]->n_links;
    link_msg **all = TN_NEW_ARRAY(f->call->arena, link_msg *, n + 1);
    n = 0;
    for (size_t i = 0; i < r->n_links; i++)
        all[n++] = r->links[i];
    for (size_t i = 0; i < r->n_completion_callbacks; i++)
        for (size_t j = 0; j < r->completion_callbacks[i]->n_links; j++)
            all[n++] = r->completion_callbacks[i]->links[j];
    return tn_front_check_links(f, n, all);
}
