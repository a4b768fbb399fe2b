/* SPDX-License-Identifier: MIT */
/* A call as JSON: {"input": {...}}, members always there and in this order, so that equal calls have equal bytes. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

static void put(ht_text *out, const char *p, size_t n)
{
    if (out->why || n == 0)
        return;
    if (n > HT_INPUT_MAX - out->n) {
        out->why = "the call's names and grants take more than 256 KiB";
        return;
    }
    if (n > out->cap - out->n) {
        size_t cap = out->cap ? out->cap : 1024;
        while (cap - out->n < n)
            cap *= 2;
        char *grown = realloc(out->p, cap);
        if (!grown) {
            out->why = "out of memory";
            return;
        }
        out->p = grown;
        out->cap = cap;
    }
    memcpy(out->p + out->n, p, n);
    out->n += n;
}

static void word(ht_text *out, const char *text) { put(out, text, strlen(text)); }

static void escaped(ht_text *out, unsigned char c)
{
    char text[8];
    int n = c == '"' || c == '\\' ? snprintf(text, sizeof text, "\\%c", c)
                                  : snprintf(text, sizeof text, "\\u%04x", c);
    put(out, text, (size_t)n);
}

static void quoted(ht_text *out, tn_str s)
{
    size_t from = 0;
    if (!az_utf8(s.p, s.n))
        out->why = "a name is no UTF-8";
    word(out, "\"");
    for (size_t i = 0; i < s.n && !out->why; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= ' ' && c != '"' && c != '\\')
            continue;
        put(out, s.p + from, i - from);
        escaped(out, c);
        from = i + 1;
    }
    if (s.n)
        put(out, s.p + from, s.n - from);
    word(out, "\"");
}

static void member(ht_text *out, const char *before, tn_str value)
{
    word(out, before);
    quoted(out, value);
}

static void roles(ht_text *out, const char *before, uint32_t bits)
{
    static const char *const names[] = {"\"worker\"", "\"reader\"", "\"writer\"", "\"admin\""};
    const char *comma = "";
    word(out, before);
    for (uint32_t i = 0; i < 4; i++) {
        if (!(bits & (1u << i)))
            continue;
        word(out, comma);
        word(out, names[i]);
        comma = ",";
    }
    word(out, "]");
}

static void caller(ht_text *out, const tn_claims *claims, const tn_call_target *target)
{
    static const tn_claims nobody = {.struct_size = sizeof nobody};
    bool known = claims->present != 0;
    const tn_claims *c = known ? claims : &nobody;
    uint32_t here = c->system_roles;
    for (size_t i = 0; target->scope == TN_SCOPE_NAMESPACE && i < c->n_grants; i++)
        if (c->grants[i].ns.n == target->ns.n && target->ns.n &&
            memcmp(c->grants[i].ns.p, target->ns.p, target->ns.n) == 0)
            here |= c->grants[i].roles;
    word(out, known ? ",\"caller\":{\"known\":true" : ",\"caller\":{\"known\":false");
    member(out, ",\"subject\":", c->subject);
    member(out, ",\"authType\":", c->auth_type);
    roles(out, ",\"roles\":[", here);
    roles(out, ",\"systemRoles\":[", c->system_roles);
    word(out, ",\"grants\":[");
    for (size_t i = 0; i < c->n_grants && !out->why; i++) {
        member(out, i ? ",{\"namespace\":" : "{\"namespace\":", c->grants[i].ns);
        roles(out, ",\"roles\":[", c->grants[i].roles);
        word(out, "}");
    }
    word(out, "]}");
}

static tn_str str(const char *s) { return (tn_str){s, strlen(s)}; }

void ht_input(ht_text *out, const ht_options *options, const tn_claims *claims,
              const tn_call_target *target)
{
    static const char *const access[] = {"unknown", "read", "write", "admin"};
    static const char *const scope[] = {"unknown", "namespace", "cluster"};
    const char *slash =
        target->api_name.n ? memrchr(target->api_name.p, '/', target->api_name.n) : NULL;
    tn_str method = target->api_name;
    if (slash) {
        size_t skip = (size_t)(slash - method.p) + 1;
        method = (tn_str){method.p + skip, method.n - skip};
    }
    member(out, "{\"input\":{\"method\":", method);
    member(out, ",\"path\":", target->api_name);
    member(out, ",\"access\":", str(access[target->access < 4 ? target->access : 0]));
    member(out, ",\"scope\":", str(scope[target->scope < 3 ? target->scope : 0]));
    member(out, ",\"namespace\":", target->ns);
    member(out, ",\"taskQueue\":", target->task_queue);
    member(out, ",\"workflowType\":", target->workflow_type);
    member(out, ",\"nexusEndpoint\":", target->nexus_endpoint);
    if (options->workflow_id)
        member(out, ",\"workflowId\":", target->workflow_id);
    caller(out, claims, target);
    word(out, "}}");
}
