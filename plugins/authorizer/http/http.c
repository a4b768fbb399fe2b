/* SPDX-License-Identifier: MIT */
/* authorizer/http: who may, by asking a decision point over HTTP, in the form of Open Policy Agent's data API.  No answer
 * is a denial.  This file has the configuration, the life of an instance, and the plugin's table. */
#include "private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char CONFIG_KEYS[] =
    "url string - - of the decision: http://127.0.0.1:8181/v1/data/temporal/authz/allow\n"
    "timeout duration 1s - of a question, its time in the queue included; no answer is a denial\n"
    "cacheTTL duration 5s - how long an answer, either way, is good for the same question; 0: not "
    "at all\n"
    "cacheEntries int 4096 - answers that each loop remembers at most\n"
    "maxConcurrent int 32 - questions under way at most, of each loop\n"
    "maxWaiting int 4096 - calls that wait for answers at most, of each loop; more are denied at "
    "once\n"
    "workflowId bool false - tell the workflow's id too: answers are then remembered for each "
    "workflow by itself\n"
    "tokenFile string - - a file with a token, sent as Authorization: Bearer; read again when it "
    "changes\n"
    "tls.caFile string - - authorities for https, instead of the system's\n"
    "tls.certFile string - - a certificate to show\n"
    "tls.keyFile string - - its key\n";

tn_status ht_error(tn_error *err, tn_status code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    err->code = code;
    err->vendor_code = 0;
    return code;
}

/* ---- configuration ---- */

typedef struct source {
    const tn_host *host;
    const tn_config *cfg;
    tn_error *err;
} source;

static tn_status complain(const source *s, const char *path, const char *text)
{
    s->host->cfg_complain(s->cfg, path, text, s->err);
    return TN_EINVALID;
}

static tn_status unless_set(tn_status status) { return status == TN_ENOTFOUND ? TN_OK : status; }

static tn_status get_text(const source *s, const char *path, char **out)
{
    tn_str text = {0};
    tn_status status = s->host->cfg_str(s->cfg, path, &text, s->err);
    if (status != TN_OK)
        return unless_set(status);
    if (text.n == 0 || text.n > 4000)
        return complain(s, path,
                        "is empty, or too long\n    fix: leave it out, or write a shorter one");
    *out = strndup(text.p, text.n);
    return *out ? TN_OK : ht_error(s->err, TN_EUNAVAILABLE, "out of memory");
}

static tn_status get_file(const source *s, const char *path, char **out)
{
    tn_status status = get_text(s, path, out);
    if (status == TN_OK && *out && access(*out, R_OK) != 0)
        return complain(
            s, path, "names a file that cannot be read\n    fix: a file that the server may read");
    return status;
}

static tn_status get_url(const source *s, ht_options *o)
{
    static const char fix[] =
        "must be an http: or https: address without user and password\n    fix: url: "
        "http://127.0.0.1:8181/v1/data/temporal/authz/allow";
    tn_status status = get_text(s, "url", &o->url);
    if (status != TN_OK)
        return status;
    CURLU *url = curl_url();
    char *scheme = NULL, *user = NULL, *host = NULL;
    bool good = url && o->url && curl_url_set(url, CURLUPART_URL, o->url, 0) == CURLUE_OK &&
                curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
                curl_url_get(url, CURLUPART_USER, &user, 0) == CURLUE_NO_USER;
    if (good && strcmp(scheme, "http") == 0 && strcmp(host, "localhost") != 0 &&
        strncmp(host, "127.", 4) != 0 && strcmp(host, "[::1]") != 0) {
        static const char plain[] =
            "url: verdicts that come by http: may be anybody's; use https: but on this machine";
        s->host->log(NULL, TN_LEVEL_WARN, plain, sizeof plain - 1);
    }
    curl_free(scheme);
    curl_free(user);
    curl_free(host);
    curl_url_cleanup(url);
    return good ? TN_OK : complain(s, "url", fix);
}

static tn_status get_number(const source *s, const char *path, int64_t least, int64_t most,
                            int64_t *out)
{
    char told[120];
    tn_status status = unless_set(s->host->cfg_i64(s->cfg, path, out, s->err));
    if (status != TN_OK || (*out >= least && *out <= most))
        return status;
    snprintf(told, sizeof told, "is not within %lld and %lld\n    fix: write such a number",
             (long long)least, (long long)most);
    return complain(s, path, told);
}

static tn_status get_times(const source *s, ht_options *o)
{
    tn_status status = unless_set(s->host->cfg_dur_ns(s->cfg, "timeout", &o->timeout_ns, s->err));
    if (status == TN_OK)
        status = unless_set(s->host->cfg_dur_ns(s->cfg, "cacheTTL", &o->cache_ns, s->err));
    if (status != TN_OK)
        return status;
    if (o->timeout_ns < 10 * HT_MS || o->timeout_ns > 60 * HT_SEC)
        return complain(
            s, "timeout",
            "is not within 10ms and 60s\n    fix: 1s; limits.authTimeout holds besides");
    if (o->cache_ns > 3600 * HT_SEC)
        return complain(s, "cacheTTL",
                        "is longer than an hour\n    fix: as long as a withdrawn right may last");
    return TN_OK;
}

static tn_status read_options(const source *s, ht_options *o)
{
    int32_t workflow_id = 0;
    *o = (ht_options){.timeout_ns = HT_SEC,
                      .cache_ns = 5 * HT_SEC,
                      .cache_size = 4096,
                      .concurrent = 32,
                      .waiting = 4096};
    tn_status status = get_url(s, o);
    if (status == TN_OK)
        status = get_times(s, o);
    if (status == TN_OK)
        status = get_number(s, "cacheEntries", 0, 1000000, &o->cache_size);
    if (status == TN_OK)
        status = get_number(s, "maxConcurrent", 1, 1000, &o->concurrent);
    if (status == TN_OK)
        status = get_number(s, "maxWaiting", 1, 1000000, &o->waiting);
    if (status == TN_OK)
        status = unless_set(s->host->cfg_bool(s->cfg, "workflowId", &workflow_id, s->err));
    if (status == TN_OK)
        status = get_file(s, "tokenFile", &o->token_file);
    if (status == TN_OK)
        status = get_file(s, "tls.caFile", &o->ca_file);
    if (status == TN_OK)
        status = get_file(s, "tls.certFile", &o->cert_file);
    if (status == TN_OK)
        status = get_file(s, "tls.keyFile", &o->key_file);
    o->workflow_id = workflow_id != 0;
    if (status == TN_OK && !o->cert_file != !o->key_file)
        return complain(s, "tls", "has one of certFile and keyFile\n    fix: both, or neither");
    return status;
}

/* ---- life ---- */

static void destroy(ht_inst *inst)
{
    ht_options *o = &inst->options;
    free(o->url);
    free(o->token_file);
    free(o->ca_file);
    free(o->cert_file);
    free(o->key_file);
    free(inst);
    curl_global_cleanup();
}

static void make_metrics(ht_inst *inst)
{
    const tn_host *h = inst->host;
    inst->m_questions =
        h->metric(inst, "questions", TN_METRIC_COUNTER, "Questions to the decision point");
    inst->m_hits =
        h->metric(inst, "cache_hits", TN_METRIC_COUNTER, "Calls answered from what is remembered");
    inst->m_joined = h->metric(inst, "joined", TN_METRIC_COUNTER,
                               "Calls that waited for another call's question");
    inst->m_allowed = h->metric(inst, "allowed", TN_METRIC_COUNTER, "Calls allowed");
    inst->m_denied = h->metric(inst, "denied", TN_METRIC_COUNTER, "Calls denied by a verdict");
    inst->m_errors = h->metric(inst, "errors", TN_METRIC_COUNTER,
                               "Questions without a verdict: their calls are denied");
    inst->m_overflow = h->metric(inst, "overflow", TN_METRIC_COUNTER,
                                 "Calls denied since too many waited (among the errors)");
    inst->m_seconds = h->metric(inst, "seconds", TN_METRIC_HISTOGRAM,
                                "Time of a question, in the queue included");
}

static tn_status open_authorizer(const tn_host *host, const tn_config *cfg, void **out,
                                 tn_error *err)
{
    ht_inst *inst = calloc(1, sizeof *inst);
    if (!inst)
        return ht_error(err, TN_EUNAVAILABLE, "out of memory");
    curl_global_init(CURL_GLOBAL_DEFAULT);
    inst->host = host;
    tn_status status = read_options(&(source){host, cfg, err}, &inst->options);
    if (status != TN_OK) {
        destroy(inst);
        return status;
    }
    make_metrics(inst);
    *out = inst;
    return TN_OK;
}

static void detach(void *arg, void *ctx_arg)
{
    const ht_inst *inst = arg;
    ht_ctx *ctx = ctx_arg;
    ht_client_done(ctx);
    for (int64_t i = 0; ctx->slots && i < inst->options.cache_size; i++)
        free(ctx->slots[i].verdict);
    free(ctx->slots);
    free(ctx);
}

static tn_status attach(void *arg, tn_loop *loop, void **out, tn_error *err)
{
    ht_inst *inst = arg;
    ht_ctx *ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        return ht_error(err, TN_EUNAVAILABLE, "out of memory");
    ctx->inst = inst;
    ctx->loop = loop;
    if (inst->options.cache_size)
        ctx->slots = calloc((size_t)inst->options.cache_size, sizeof *ctx->slots);
    if ((inst->options.cache_size && !ctx->slots) || !ht_client_init(ctx)) {
        detach(inst, ctx);
        return ht_error(err, TN_EUNAVAILABLE, "out of memory");
    }
    *out = ctx;
    return TN_OK;
}

static void close_authorizer(void *inst) { destroy(inst); }

static tn_status authorize(void *ctx, tn_op *op, const tn_claims *claims,
                           const tn_call_target *target, tn_decision *out)
{
    out->verdict = TN_DENY;
    return ht_ask(ctx, op, claims, target, out);
}

static const tn_authorizer_ops OPS = {.authorize = authorize};

static const tn_plugin PLUGIN = {
    .magic = TN_PLUGIN_MAGIC,
    .struct_size = sizeof(tn_plugin),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .kind = TN_KIND_AUTHORIZER,
    .ops_size = sizeof(tn_authorizer_ops),
    .name = "http",
    .version = "0.1.0",
    .vendor = "tenon",
    .config_keys = CONFIG_KEYS,
    .open = open_authorizer,
    .attach = attach,
    .detach = detach,
    .close = close_authorizer,
    .ops = &OPS,
};

const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
