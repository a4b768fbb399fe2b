/* SPDX-License-Identifier: MIT */
/* claimmapper/jwt: who calls, by a signed token.  This file holds the configuration, the life of an instance, the
 * plugin's table, and the way of one call: a token that was good a moment ago is known by its digest; another one is
 * checked; one whose key is not known waits for the next document, if there may be one. */
#include "private.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char CONFIG_KEYS[] =
    "keySourceURIs list - - where the keys (JWKS) are: https:, http: or file: addresses\n"
    "refreshInterval duration 1m - how often they are read; 0: once, at the start\n"
    "keyMaxAge duration 1h - keys that could not be read again for so long are not used; 0: for "
    "ever\n"
    "fetchTimeout duration 10s - of one document\n"
    "caFile string - - authorities for https, instead of the system's\n"
    "algorithms list - - allowed ones; default: RS*, PS*, ES*, EdDSA (HS* only when named here)\n"
    "permissionsClaimName string permissions - the claim that holds the permissions\n"
    "permissionsRegex string - - takes a permission apart, by groups named namespace and role\n"
    "audience list - - a token must be for one of these\n"
    "issuer list - - a token must come from one of these\n"
    "leeway duration 60s - between this clock and the issuer's\n"
    "requireExpiration bool true - refuse tokens without exp\n"
    "cacheTokens int 4096 - good tokens that each loop remembers; 0: none\n";

/* ---- the cache ---------------------------------------------------------------------------------- */

typedef struct jw_slot {
    uint8_t digest[32];
    uint64_t generation; /* of the keys that it was checked with; 0: empty */
    jw_claims *claims;
} jw_slot;

static jw_slot *slot_of(jw_ctx *ctx, tn_str token, tn_str audience, uint8_t digest[32])
{
    unsigned n = 0;
    if (!ctx->slots || EVP_DigestInit_ex2(ctx->md, EVP_sha256(), NULL) != 1 ||
        EVP_DigestUpdate(ctx->md, token.p, token.n) != 1 ||
        EVP_DigestUpdate(ctx->md, ".", 1) != 1 || /* no token ends like that */
        EVP_DigestUpdate(ctx->md, audience.p, audience.n) != 1 ||
        EVP_DigestFinal_ex(ctx->md, digest, &n) != 1)
        return NULL;
    uint64_t at;
    memcpy(&at, digest, sizeof at);
    return &ctx->slots[at % (uint64_t)ctx->inst->options.cache_size];
}

static void slot_clear(jw_slot *slot)
{
    free(slot->claims);
    *slot = (jw_slot){0};
}

/* ---- one call ----------------------------------------------------------------------------------- */

static tn_status refuse(jw_ctx *ctx, tn_op *op, const char *why)
{
    const jw_inst *inst = ctx->inst;
    jw_error(&ctx->why, TN_EDENIED, "%s", why);
    inst->host->op_explain(op, &ctx->why);
    inst->host->metric_add(inst->m_refused, 1);
    return TN_EDENIED;
}

/* The bearer's token; NULL: the header is something else. */
static const char *bearer(tn_str header, tn_str *out)
{
    if (header.n > JW_HEADER_MAX)
        return "authorization header refused: more than 16 KiB";
    if (memchr(header.p, ',', header.n))
        return "authorization header refused: more than one";
    if (header.n < 8 || strncasecmp(header.p, "bearer ", 7) != 0)
        return "authorization header refused: not \"Bearer <token>\"";
    *out = (tn_str){header.p + 7, header.n - 7};
    return NULL;
}

static tn_status give(jw_ctx *ctx, tn_op *op, const jw_claims *from, tn_claims *out)
{
    size_t bytes = from->subject.n;
    for (size_t i = 0; i < from->n_grants; i++)
        bytes += from->grants[i].ns.n;
    size_t table = from->n_grants * sizeof(tn_role_grant);
    char *p = ctx->inst->host->op_alloc(op, table + bytes + 1, _Alignof(tn_role_grant));
    if (!p)
        return refuse(ctx, op, "token refused: its claims do not fit the operation's memory");
    tn_role_grant *grants = (tn_role_grant *)(void *)p;
    p += table;
    memcpy(p, from->subject.p, from->subject.n);
    out->subject = (tn_str){p, from->subject.n};
    p += from->subject.n;
    for (size_t i = 0; i < from->n_grants; i++) {
        memcpy(p, from->grants[i].ns.p, from->grants[i].ns.n);
        grants[i] =
            (tn_role_grant){.ns = {p, from->grants[i].ns.n}, .roles = from->grants[i].roles};
        p += grants[i].ns.n;
    }
    out->grants = grants;
    out->n_grants = from->n_grants;
    out->system_roles = from->system_roles;
    out->auth_type = (tn_str){"jwt", 3};
    out->present = 1;
    return TN_OK;
}

static bool too_old(const jw_inst *inst)
{
    uint64_t until = atomic_load_explicit(&inst->fresh_until_ns, memory_order_relaxed);
    return until && inst->host->mono_ns() >= until;
}

static tn_status wait_for_keys(jw_ctx *ctx, tn_op *op, const tn_auth_info *info, tn_claims *out)
{
    jw_waiter *waiter = ctx->inst->host->op_alloc(op, sizeof *waiter, _Alignof(jw_waiter));
    if (!waiter)
        return refuse(ctx, op, "token refused: out of memory");
    *waiter = (jw_waiter){.ctx = ctx, .op = op, .info = info, .out = out};
    if (jw_fetch_ask(ctx->inst, waiter))
        return TN_PENDING;
    return refuse(ctx, op, "token refused: no key of that name");
}

/* waited: the keys are as new as they get. */
static tn_status map_token(jw_ctx *ctx, tn_op *op, const tn_auth_info *info, tn_str token,
                           tn_claims *out, bool waited)
{
    jw_inst *inst = ctx->inst;
    uint64_t now_s = inst->host->now_ns() / JW_SEC;
    uint8_t digest[32];
    tn_error err = {0};
    jw_claims *claims = NULL;
    if (too_old(inst))
        return refuse(ctx, op, "token refused: the keys are too old (keyMaxAge)");
    jw_slot *slot = slot_of(ctx, token, info->audience, digest);
    if (slot && slot->generation &&
        slot->generation == atomic_load_explicit(&inst->generation, memory_order_acquire) &&
        now_s < slot->claims->until_s && memcmp(slot->digest, digest, sizeof digest) == 0) {
        inst->host->metric_add(inst->m_hits, 1);
        return give(ctx, op, slot->claims, out);
    }
    jw_keys *keys = jw_keys_now(inst);
    jw_result result =
        keys ? jw_token_check(&inst->options, keys, token, info->audience, now_s, &claims, &err)
             : JW_NO_KEY;
    uint64_t generation = keys ? keys->generation : 0;
    jw_keys_unref(keys);
    inst->host->metric_add(inst->m_tokens, 1);
    if (result == JW_NO_KEY && !waited)
        return wait_for_keys(ctx, op, info, out);
    if (result != JW_GOOD)
        return refuse(ctx, op, result == JW_BAD ? err.text : "token refused: no key of that name");
    tn_status status = give(ctx, op, claims, out);
    if (!slot) {
        free(claims);
        return status;
    }
    slot_clear(slot);
    memcpy(slot->digest, digest, sizeof digest);
    slot->generation = generation;
    slot->claims = claims;
    return status;
}

static tn_status map_call(jw_ctx *ctx, tn_op *op, const tn_auth_info *info, tn_claims *out,
                          bool waited)
{
    tn_str token;
    if (info->authorization.n == 0) { /* a certificate only: known, with no rights */
        out->auth_type = (tn_str){"jwt", 3};
        out->present = 1;
        return TN_OK;
    }
    const char *why = bearer(info->authorization, &token);
    return why ? refuse(ctx, op, why) : map_token(ctx, op, info, token, out, waited);
}

static tn_status map(void *ctx, tn_op *op, const tn_auth_info *info, tn_claims *out)
{
    return map_call(ctx, op, info, out, false);
}

void jw_wake(void *arg)
{
    jw_waiter *waiter = arg;
    const tn_host *host = waiter->ctx->inst->host;
    tn_op *op = waiter->op;
    jw_ctx *ctx = waiter->ctx;
    tn_status status = map_call(ctx, op, waiter->info, waiter->out, true);
    host->op_finish(op, status, status == TN_OK ? NULL : &ctx->why);
}

/* ---- configuration ------------------------------------------------------------------------------ */

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

/* A list, or one string in its place. */
static tn_status get_list(const source *s, const char *path, tn_str *out, size_t *out_n)
{
    size_t n = s->host->cfg_count(s->cfg, path);
    *out_n = 0;
    if (n > JW_LIST_MAX)
        return complain(s, path, "has more than 32 entries");
    if (n == 0) {
        tn_status status = s->host->cfg_str(s->cfg, path, &out[0], s->err);
        *out_n = status == TN_OK;
        return unless_set(status);
    }
    for (size_t i = 0; i < n; i++) {
        char entry[80];
        snprintf(entry, sizeof entry, "%s.%zu", path, i);
        tn_status status = s->host->cfg_str(s->cfg, entry, &out[i], s->err);
        if (status != TN_OK)
            return status;
    }
    *out_n = n;
    return TN_OK;
}

static tn_status get_algs(const source *s, jw_options *o)
{
    tn_str names[JW_LIST_MAX];
    size_t n;
    tn_status status = get_list(s, "algorithms", names, &n);
    o->algs = n ? 0 : JW_ALGS_DEFAULT;
    for (size_t i = 0; status == TN_OK && i < n; i++) {
        int alg = jw_alg_find(names[i].p, names[i].n);
        if (alg < 0)
            return complain(s, "algorithms",
                            "names one that is not known\n  fix: RS256, RS384, RS512, PS256, "
                            "PS384, PS512, ES256, "
                            "ES384, ES512, EdDSA, HS256, HS384, HS512");
        o->algs |= 1u << alg;
    }
    return status;
}

static tn_status get_regex(const source *s, jw_options *o)
{
    tn_str text = {0};
    int code = 0;
    PCRE2_SIZE at = 0;
    tn_status status = unless_set(s->host->cfg_str(s->cfg, "permissionsRegex", &text, s->err));
    if (status != TN_OK || text.n == 0)
        return status;
    o->regex = pcre2_compile((PCRE2_SPTR)text.p, text.n, PCRE2_UTF, &code, &at, NULL);
    if (!o->regex) {
        char why[160], told[220];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        snprintf(told, sizeof told, "is no regular expression: %s (at %zu)", why, (size_t)at);
        return complain(s, "permissionsRegex", told);
    }
    int ns = pcre2_substring_number_from_name(o->regex, (PCRE2_SPTR) "namespace");
    int role = pcre2_substring_number_from_name(o->regex, (PCRE2_SPTR) "role");
    if (ns <= 0 || role <= 0)
        return complain(
            s, "permissionsRegex",
            "lacks a group named namespace or role\n  fix: (?P<namespace>...) and (?P<role>...)");
    o->ns_group = (uint32_t)ns;
    o->role_group = (uint32_t)role;
    return TN_OK;
}

static tn_status get_durations(const source *s, jw_options *o)
{
    uint64_t leeway = 60 * JW_SEC;
    tn_status status =
        unless_set(s->host->cfg_dur_ns(s->cfg, "refreshInterval", &o->refresh_ns, s->err));
    if (status == TN_OK)
        status = unless_set(s->host->cfg_dur_ns(s->cfg, "keyMaxAge", &o->max_age_ns, s->err));
    if (status == TN_OK)
        status = unless_set(s->host->cfg_dur_ns(s->cfg, "fetchTimeout", &o->timeout_ns, s->err));
    if (status == TN_OK)
        status = unless_set(s->host->cfg_dur_ns(s->cfg, "leeway", &leeway, s->err));
    if (status != TN_OK)
        return status;
    if (o->refresh_ns && o->refresh_ns < JW_SEC)
        return complain(s, "refreshInterval", "is shorter than a second");
    if (o->refresh_ns && o->max_age_ns && o->max_age_ns < o->refresh_ns)
        return complain(s, "keyMaxAge", "is shorter than refreshInterval");
    if (!o->refresh_ns)
        o->max_age_ns = 0; /* they are read once: they cannot get newer */
    if (o->timeout_ns < JW_SEC / 10 || o->timeout_ns > 300 * JW_SEC)
        return complain(s, "fetchTimeout", "is not within 100ms and 5m");
    if (leeway > 3600 * JW_SEC)
        return complain(s, "leeway", "is longer than an hour");
    o->leeway_s = leeway / JW_SEC;
    return TN_OK;
}

static tn_status get_sources(const source *s, jw_options *o)
{
    tn_status status = get_list(s, "keySourceURIs", o->sources, &o->n_sources);
    if (status != TN_OK)
        return status;
    if (o->n_sources == 0)
        return complain(s, "keySourceURIs",
                        "is not set\n  fix: keySourceURIs: [\"https://issuer/keys.json\"]");
    for (size_t i = 0; i < o->n_sources; i++) {
        const char *why;
        if (!jw_source_lawful(o->sources[i], &why))
            return complain(s, "keySourceURIs", why);
    }
    return TN_OK;
}

static tn_status read_options(const source *s, jw_options *o)
{
    int32_t require = 1;
    *o = (jw_options){.refresh_ns = 60 * JW_SEC,
                      .max_age_ns = 3600 * JW_SEC,
                      .timeout_ns = 10 * JW_SEC,
                      .claim = {"permissions", 11},
                      .cache_size = 4096};
    tn_status status = get_sources(s, o);
    if (status == TN_OK)
        status = get_durations(s, o);
    if (status == TN_OK)
        status = get_algs(s, o);
    if (status == TN_OK)
        status = get_list(s, "audience", o->audiences, &o->n_audiences);
    if (status == TN_OK)
        status = get_list(s, "issuer", o->issuers, &o->n_issuers);
    if (status == TN_OK)
        status = unless_set(s->host->cfg_str(s->cfg, "caFile", &o->ca_file, s->err));
    if (status == TN_OK)
        status = unless_set(s->host->cfg_str(s->cfg, "permissionsClaimName", &o->claim, s->err));
    if (status == TN_OK && (o->claim.n == 0 || o->claim.n > 255))
        return complain(s, "permissionsClaimName", "is empty or has more than 255 bytes");
    if (status == TN_OK)
        status = unless_set(s->host->cfg_bool(s->cfg, "requireExpiration", &require, s->err));
    if (status == TN_OK)
        status = unless_set(s->host->cfg_i64(s->cfg, "cacheTokens", &o->cache_size, s->err));
    if (status == TN_OK && (o->cache_size < 0 || o->cache_size > 1000000))
        return complain(s, "cacheTokens", "is not within 0 to 1000000");
    o->require_exp = require != 0;
    return status == TN_OK ? get_regex(s, o) : status;
}

/* ---- life --------------------------------------------------------------------------------------- */

static void destroy(jw_inst *inst)
{
    if (inst->started) {
        pthread_mutex_lock(&inst->lock);
        atomic_store(&inst->stopping, true);
        pthread_cond_signal(&inst->wake);
        pthread_mutex_unlock(&inst->lock);
        pthread_join(inst->thread, NULL);
    }
    jw_keys_unref(inst->keys);
    pcre2_code_free(inst->options.regex);
    pthread_mutex_destroy(&inst->lock);
    pthread_cond_destroy(&inst->wake);
    curl_global_cleanup();
    free(inst);
}

static void make_metrics(jw_inst *inst)
{
    const tn_host *h = inst->host;
    inst->m_tokens = h->metric(inst, "tokens", TN_METRIC_COUNTER, "Tokens checked");
    inst->m_refused =
        h->metric(inst, "refused", TN_METRIC_COUNTER, "Calls refused for their token");
    inst->m_hits = h->metric(inst, "cache_hits", TN_METRIC_COUNTER, "Tokens known from before");
    inst->m_fetches = h->metric(inst, "key_fetches", TN_METRIC_COUNTER, "Times the keys were read");
    inst->m_fetch_errors =
        h->metric(inst, "key_fetch_errors", TN_METRIC_COUNTER, "Times they could not be read");
}

static bool all_files(const jw_options *o)
{
    for (size_t i = 0; i < o->n_sources; i++)
        if (memcmp(o->sources[i].p, "file:", 5) != 0)
            return false;
    return true;
}

static void warn_of_plain_http(const jw_inst *inst)
{
    static const char text[] =
        "keySourceURIs: keys that come by http: may be anybody's; use https: but on this machine";
    for (size_t i = 0; i < inst->options.n_sources; i++)
        if (memcmp(inst->options.sources[i].p, "http:", 5) == 0) {
            inst->host->log(inst, TN_LEVEL_WARN, text, sizeof text - 1);
            return;
        }
}

static tn_status open_mapper(const tn_host *host, const tn_config *cfg, void **out, tn_error *err)
{
    jw_inst *inst = calloc(1, sizeof *inst);
    if (!inst)
        return jw_error(err, TN_EUNAVAILABLE, "out of memory");
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&inst->lock, NULL);
    pthread_cond_init(&inst->wake, &clock);
    pthread_condattr_destroy(&clock);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    inst->host = host;
    tn_status status = read_options(&(source){host, cfg, err}, &inst->options);
    if (status == TN_OK) {
        tn_error why = {0};
        make_metrics(inst);
        warn_of_plain_http(inst);
        status = jw_fetch(inst, &why);
        inst->failing = status != TN_OK;
        if (status != TN_OK && all_files(&inst->options)) {
            host->cfg_complain(cfg, "keySourceURIs", why.text, err);
            status = TN_EINVALID;
        } else if (status != TN_OK) { /* an issuer that is down must not keep the server down */
            char text[400];
            int n =
                snprintf(text, sizeof text, "no keys yet, so every token is refused: %s", why.text);
            host->log(inst, TN_LEVEL_ERROR, text, (size_t)n);
            status = TN_OK;
        }
    }
    if (status == TN_OK && pthread_create(&inst->thread, NULL, jw_fetch_main, inst) != 0)
        status = jw_error(err, TN_EUNAVAILABLE, "cannot start a thread");
    else
        inst->started = status == TN_OK;
    if (status != TN_OK) {
        destroy(inst);
        return status;
    }
    *out = inst;
    return TN_OK;
}

static void detach(void *inst, void *arg)
{
    jw_ctx *ctx = arg;
    const jw_inst *of = inst;
    for (int64_t i = 0; ctx->slots && i < of->options.cache_size; i++)
        slot_clear(&ctx->slots[i]);
    free(ctx->slots);
    EVP_MD_CTX_free(ctx->md);
    free(ctx);
}

static tn_status attach(void *arg, tn_loop *loop, void **out, tn_error *err)
{
    jw_inst *inst = arg;
    jw_ctx *ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        return jw_error(err, TN_EUNAVAILABLE, "out of memory");
    ctx->inst = inst;
    ctx->loop = loop;
    ctx->md = EVP_MD_CTX_new();
    if (inst->options.cache_size)
        ctx->slots = calloc((size_t)inst->options.cache_size, sizeof *ctx->slots);
    if (!ctx->md || (inst->options.cache_size && !ctx->slots)) {
        detach(inst, ctx);
        return jw_error(err, TN_EUNAVAILABLE, "out of memory");
    }
    *out = ctx;
    return TN_OK;
}

static void close_mapper(void *inst) { destroy(inst); }

static const tn_claim_mapper_ops OPS = {.map = map};

static const tn_plugin PLUGIN = {
    .magic = TN_PLUGIN_MAGIC,
    .struct_size = sizeof(tn_plugin),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .kind = TN_KIND_CLAIM_MAPPER,
    .ops_size = sizeof(tn_claim_mapper_ops),
    .name = "jwt",
    .version = "0.1.0",
    .vendor = "tenon",
    .config_keys = CONFIG_KEYS,
    .open = open_mapper,
    .attach = attach,
    .detach = detach,
    .close = close_mapper,
    .ops = &OPS,
};

const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
