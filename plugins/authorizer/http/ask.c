/* SPDX-License-Identifier: MIT */
/* One call's way: an answer that is still good, or the question of another call that asks the same, or a question of its
 * own, at once or when its turn comes.  Whatever goes wrong is an error, and so a denial. */
#include "private.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

/* ---- answers ---- */

static tn_str keep(const ht_inst *inst, tn_op *op, const char *p, size_t n)
{
    char *copy = n ? inst->host->op_alloc(op, n, 1) : NULL;
    if (!copy)
        return (tn_str){0};
    memcpy(copy, p, n);
    return (tn_str){copy, n};
}

static void decide(const ht_inst *inst, tn_op *op, const ht_verdict *v, tn_str principal,
                   tn_decision *out)
{
    inst->host->metric_add(v->allow ? inst->m_allowed : inst->m_denied, 1);
    out->verdict = v->allow ? TN_ALLOW : TN_DENY;
    if (v->allow)
        out->principal = principal;
    else
        out->reason = keep(inst, op, v->text, v->reason_n);
    if (out->struct_size >= offsetof(tn_decision, rule) + sizeof out->rule) /* since 0.2 */
        out->rule = keep(inst, op, v->text + v->reason_n, v->rule_n);
}

static void say_how_it_goes(ht_ctx *ctx, const tn_error *err)
{
    const tn_host *host = ctx->inst->host;
    static const char good[] = "the decision point answers again";
    if (err && !ctx->failing)
        host->log(ctx->inst, TN_LEVEL_ERROR, err->text, strlen(err->text));
    else if (!err && ctx->failing)
        host->log(ctx->inst, TN_LEVEL_INFO, good, sizeof good - 1);
    ctx->failing = err != NULL;
}

/* ---- what is remembered ---- */

static ht_slot *slot_of(ht_ctx *ctx, const uint8_t *digest)
{
    uint64_t at;
    memcpy(&at, digest, sizeof at);
    return ctx->slots ? &ctx->slots[at % (uint64_t)ctx->inst->options.cache_size] : NULL;
}

/* Takes the verdict, or frees it. */
static void remember(ht_ctx *ctx, const uint8_t *digest, ht_verdict *verdict)
{
    ht_slot *slot = slot_of(ctx, digest);
    if (!slot || !ctx->inst->options.cache_ns) {
        free(verdict);
        return;
    }
    free(slot->verdict);
    memcpy(slot->digest, digest, HT_DIGEST);
    slot->until_ns = ctx->inst->host->mono_ns() + ctx->inst->options.cache_ns;
    slot->verdict = verdict;
}

/* ---- questions ---- */

static ht_question **bucket_of(ht_ctx *ctx, const uint8_t *digest)
{
    return &ctx->buckets[digest[HT_DIGEST - 1] % HT_BUCKETS];
}

static ht_question *find(ht_ctx *ctx, const uint8_t *digest)
{
    ht_question *q = *bucket_of(ctx, digest);
    while (q && memcmp(q->digest, digest, HT_DIGEST) != 0)
        q = q->bucket_next;
    return q;
}

static void unlist(ht_question *q)
{
    ht_question **at = bucket_of(q->ctx, q->digest);
    while (*at != q)
        at = &(*at)->bucket_next;
    *at = q->bucket_next;
}

void ht_end(ht_question *q, ht_verdict *verdict, const tn_error *err)
{
    ht_ctx *ctx = q->ctx;
    const ht_inst *inst = ctx->inst;
    unlist(q);
    if (!verdict)
        inst->host->metric_add(inst->m_errors, 1);
    say_how_it_goes(ctx, verdict ? NULL : err);
    for (ht_waiter *w = q->waiters, *next; w; w = next) {
        next = w->next; /* its memory ends with its operation */
        ctx->n_waiting--;
        if (verdict)
            decide(inst, w->op, verdict, w->principal, w->out);
        inst->host->op_finish(w->op, verdict ? TN_OK : err->code, verdict ? NULL : err);
    }
    if (verdict)
        remember(ctx, q->digest, verdict);
    free(q->body.p);
    free(q->answer);
    free(q);
}

void ht_next(ht_ctx *ctx)
{
    const ht_inst *inst = ctx->inst;
    while (ctx->first && ctx->n_under_way < (size_t)inst->options.concurrent) {
        ht_question *q = ctx->first;
        tn_error err = {0};
        ctx->first = q->next;
        if (!ctx->first)
            ctx->last = NULL;
        if (inst->host->mono_ns() >= q->deadline_ns)
            ht_error(&err, TN_EUNAVAILABLE,
                     "the decision point is too slow: no answer could be asked for in time");
        else if (ht_client_send(q, &err))
            continue;
        ht_end(q, NULL, &err);
    }
}

static ht_question *new_question(ht_ctx *ctx, const uint8_t *digest, const ht_text *body)
{
    ht_question *q = calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->ctx = ctx;
    q->body = *body;
    memcpy(q->digest, digest, HT_DIGEST);
    q->began_ns = ctx->inst->host->mono_ns();
    q->deadline_ns = q->began_ns + ctx->inst->options.timeout_ns;
    ht_question **bucket = bucket_of(ctx, digest);
    q->bucket_next = *bucket;
    *bucket = q;
    ctx->inst->host->metric_add(ctx->inst->m_questions, 1);
    return q;
}

static tn_status refuse(const ht_ctx *ctx, tn_op *op, const char *why)
{
    const ht_inst *inst = ctx->inst;
    tn_error err = {0};
    ht_error(&err, TN_EUNAVAILABLE, "%s", why);
    inst->host->op_explain(op, &err);
    inst->host->metric_add(inst->m_errors, 1);
    return TN_EUNAVAILABLE;
}

/* The question is under way, in the queue, or (with a status) none: then it is gone. */
static tn_status begin(ht_ctx *ctx, tn_op *op, ht_question *q)
{
    tn_error err = {0};
    if (ctx->n_under_way >= (size_t)ctx->inst->options.concurrent || ctx->first) {
        if (ctx->last)
            ctx->last->next = q;
        else
            ctx->first = q;
        ctx->last = q;
        return TN_PENDING;
    }
    if (ht_client_send(q, &err))
        return TN_PENDING;
    q->waiters = NULL; /* the only one is answered by this return */
    ctx->n_waiting--;
    ht_end(q, NULL, &err);
    ctx->inst->host->op_explain(op, &err);
    return TN_EUNAVAILABLE;
}

static tn_status wait_for(ht_ctx *ctx, tn_op *op, const uint8_t *digest, ht_text *body,
                          const tn_claims *claims, tn_decision *out)
{
    const ht_inst *inst = ctx->inst;
    if (ctx->n_waiting >= (size_t)inst->options.waiting) {
        inst->host->metric_add(inst->m_overflow, 1);
        return refuse(ctx, op,
                      "the decision point is too slow: too many calls wait for it (maxWaiting)");
    }
    ht_waiter *w = inst->host->op_alloc(op, sizeof *w, _Alignof(ht_waiter));
    ht_question *q = w ? find(ctx, digest) : NULL;
    bool joined = q != NULL;
    if (w && !q) {
        q = new_question(ctx, digest, body);
        if (q)
            *body = (ht_text){0};
    }
    if (!q)
        return refuse(ctx, op, "out of memory");
    *w = (ht_waiter){.op = op, .out = out, .next = q->waiters};
    if (claims->present)
        w->principal = claims->subject;
    q->waiters = w;
    ctx->n_waiting++;
    if (!joined)
        return begin(ctx, op, q);
    inst->host->metric_add(inst->m_joined, 1);
    return TN_PENDING;
}

tn_status ht_ask(ht_ctx *ctx, tn_op *op, const tn_claims *claims, const tn_call_target *target,
                 tn_decision *out)
{
    const ht_inst *inst = ctx->inst;
    uint8_t digest[HT_DIGEST];
    ht_text body = {0};
    tn_status status = TN_OK;
    ht_input(&body, &inst->options, claims, target);
    if (body.why) {
        status = refuse(ctx, op, body.why);
    } else if (EVP_Digest(body.p, body.n, digest, NULL, EVP_sha256(), NULL) != 1) {
        status = refuse(ctx, op, "no SHA-256");
    } else {
        const ht_slot *slot = slot_of(ctx, digest);
        if (slot && slot->until_ns > inst->host->mono_ns() &&
            memcmp(slot->digest, digest, HT_DIGEST) == 0) {
            inst->host->metric_add(inst->m_hits, 1);
            decide(inst, op, slot->verdict, claims->present ? claims->subject : (tn_str){0}, out);
        } else {
            status = wait_for(ctx, op, digest, &body, claims, out);
        }
    }
    free(body.p);
    return status;
}
