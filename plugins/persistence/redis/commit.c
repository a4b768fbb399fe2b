/* SPDX-License-Identifier: MIT */
/* Groups of commits: one script call for all members that go to one server (in a cluster: to one slot), and
 * what its answer, or the lack of one, means for each of them. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REDIRECTS_MAX 5u

typedef struct member {
    tn_op *op;
    const tn_batch *batch;
    tn_commit *out;
} member;

typedef struct group {
    rd_request request;
    uint16_t slot;
    bool asking; /* a slot on its way: this server takes it only after ASKING */
    bool whole;  /* the server has forgotten the script: send its text */
    uint32_t redirects;
    uint64_t began_ns;
    redisReply *answer; /* the script's, while WAIT's is under way */
    size_t bytes;
    uint32_t n;
    member members[];
} group;

/* ---- checking ----------------------------------------------------------------------------------- */

static bool same(tn_blob a, tn_blob b) { return a.n == b.n && memcmp(a.p, b.p, a.n) == 0; }

static tn_status check_conds(const tn_batch *batch, tn_blob partition, tn_error *err)
{
    for (size_t i = 0; i < batch->n_conds; i++) {
        const tn_cond *cond = &batch->conds[i];
        if (cond->test < TN_COND_VERSION || cond->test > TN_COND_FENCE)
            return rd_error(err, TN_EINVALID, 0, "condition %zu: unknown test %u", i, cond->test);
        if (!rd_key_lawful(&cond->key))
            return rd_error(err, TN_EINVALID, 0, "condition %zu: key out of limits", i);
        if (!same(cond->key.partition, partition))
            return rd_error(err, TN_EINVALID, 0, "condition %zu: another partition", i);
    }
    return TN_OK;
}

static tn_status check_muts(const tn_batch *batch, tn_blob partition, size_t *out_bytes,
                            tn_error *err)
{
    size_t bytes = 0;
    for (size_t i = 0; i < batch->n_muts; i++) {
        const tn_mut *mut = &batch->muts[i];
        if (mut->verb < TN_MUT_PUT || mut->verb > TN_MUT_DELETE_RANGE)
            return rd_error(err, TN_EINVALID, 0, "mutation %zu: unknown verb %u", i, mut->verb);
        if (!rd_key_lawful(&mut->key) ||
            (mut->verb == TN_MUT_DELETE_RANGE && mut->end.row.n > RD_ROW_MAX))
            return rd_error(err, TN_EINVALID, 0, "mutation %zu: key out of limits", i);
        if (!same(mut->key.partition, partition))
            return rd_error(err, TN_EINVALID, 0, "mutation %zu: another partition", i);
        if (mut->ttl_ns)
            return rd_error(err, TN_EINVALID, 0, "mutation %zu: this driver has no TTL", i);
        if (mut->value.n > RD_VALUE_MAX)
            return rd_error(err, TN_ETOOLARGE, 0, "mutation %zu: %zu bytes, the limit is %zu", i,
                            mut->value.n, RD_VALUE_MAX);
        bytes += mut->value.n + mut->key.row.n;
    }
    if (bytes > RD_BATCH_BYTES_MAX)
        return rd_error(err, TN_ETOOLARGE, 0, "a batch of %zu bytes, the limit is %zu", bytes,
                        RD_BATCH_BYTES_MAX);
    *out_bytes = bytes;
    return TN_OK;
}

static tn_status check(const rd_ctx *ctx, const tn_commit_req *req, tn_blob *out_partition,
                       size_t *out_bytes, tn_error *err)
{
    const tn_batch *batch = req->batch;
    const tn_host *host = ctx->inst->host;
    if (batch->flags)
        return rd_error(err, TN_EINVALID, 0, "unknown batch flags %#x", batch->flags);
    if (host->op_deadline_ns(req->op) <= host->mono_ns())
        return rd_error(err, TN_EUNAVAILABLE, 0,
                        "the deadline passed before the commit was looked at");
    if (batch->n_conds + batch->n_muts == 0)
        return rd_error(err, TN_EINVALID, 0, "an empty batch");
    *out_partition = batch->n_conds ? batch->conds[0].key.partition : batch->muts[0].key.partition;
    tn_status status = check_conds(batch, *out_partition, err);
    return status == TN_OK ? check_muts(batch, *out_partition, out_bytes, err) : status;
}

/* ---- writing the call --------------------------------------------------------------------------- */

typedef struct part { /* of one partition: where its keys are among KEYS, 0: not yet */
    tn_blob partition;
    uint32_t counter;
    uint32_t rows[64]; /* by table; the order is the next one */
} part;

typedef struct keys {
    const rd_options *options;
    part *parts;
    uint32_t n_parts, n_keys;
    rd_buf text; /* the keys, as arguments */
} keys;

static void put_key(keys *k, tn_blob partition, uint32_t table, rd_part what)
{
    char name[RD_KEY_MAX];
    size_t n = rd_key_name(k->options, partition, table, what, name);
    rd_put_arg(&k->text, name, n);
    k->n_keys++;
}

static part *part_of(keys *k, tn_blob partition)
{
    for (uint32_t i = k->n_parts; i-- > 0;)
        if (same(k->parts[i].partition, partition))
            return &k->parts[i];
    part *p = &k->parts[k->n_parts++];
    *p = (part){.partition = partition};
    put_key(k, partition, 0, RD_COUNTER);
    p->counter = k->n_keys;
    return p;
}

static uint32_t rows_of(keys *k, part *p, uint32_t table)
{
    if (!p->rows[table]) {
        put_key(k, p->partition, table, RD_ROWS);
        p->rows[table] = k->n_keys;
        put_key(k, p->partition, table, RD_ORDER);
    }
    return p->rows[table];
}

static void put_mut(keys *k, part *p, const tn_mut *mut, rd_buf *out)
{
    static const char *const verbs[] = {"", "p", "d", "r"};
    rd_put_word(out, verbs[mut->verb]);
    rd_put_number(out, rows_of(k, p, mut->key.table));
    rd_put_arg(out, mut->key.row.p, mut->key.row.n);
    if (mut->verb == TN_MUT_DELETE_RANGE)
        rd_put_arg(out, mut->end.row.p, mut->end.row.n);
    if (mut->verb != TN_MUT_PUT)
        return;
    uint32_t sum = rd_row_sum(&mut->key, mut->value);
    uint8_t head[4] = {(uint8_t)(sum >> 24), (uint8_t)(sum >> 16), (uint8_t)(sum >> 8),
                       (uint8_t)sum};
    char length[32];
    int n = snprintf(length, sizeof length, "$%zu\r\n", mut->value.n + sizeof head);
    rd_buf_put(out, length, (size_t)n);
    rd_buf_put(out, head, sizeof head);
    rd_buf_put(out, mut->value.p, mut->value.n);
    rd_buf_put(out, "\r\n", 2);
}

/* Returns the number of arguments written. */
static size_t put_member(keys *k, const tn_batch *batch, rd_buf *out)
{
    static const char *const tests[] = {"", "v", "a", "f"};
    part *p =
        part_of(k, batch->n_conds ? batch->conds[0].key.partition : batch->muts[0].key.partition);
    size_t n = 3 + 4 * batch->n_conds;
    rd_put_number(out, p->counter);
    rd_put_number(out, batch->n_conds);
    rd_put_number(out, batch->n_muts);
    for (size_t i = 0; i < batch->n_conds; i++) {
        const tn_cond *cond = &batch->conds[i];
        uint8_t version[8];
        rd_be64(version, cond->version);
        rd_put_word(out, tests[cond->test]);
        rd_put_number(out, rows_of(k, p, cond->key.table));
        rd_put_arg(out, cond->key.row.p, cond->key.row.n);
        rd_put_arg(out, version, sizeof version);
    }
    for (size_t i = 0; i < batch->n_muts; i++) {
        put_mut(k, p, &batch->muts[i], out);
        n += batch->muts[i].verb == TN_MUT_DELETE ? 3 : 4;
    }
    return n;
}

static void put_wait(const rd_options *o, rd_buf *out)
{
    rd_put_command(out, 3);
    rd_put_word(out, "WAIT");
    rd_put_number(out, o->wait_replicas);
    rd_put_number(out, o->wait_ns / RD_MS);
}

static uint32_t put_group(rd_request *request, rd_buf *out)
{
    group *g = (group *)request;
    const rd_inst *inst = request->ctx->inst;
    keys k = {.options = &inst->options, .parts = malloc(g->n * sizeof *k.parts)};
    rd_buf args = {0};
    size_t n_args = 1;
    if (!k.parts) {
        out->failed = true;
        return 0;
    }
    for (uint32_t i = 0; i < g->n; i++)
        n_args += put_member(&k, g->members[i].batch, &args);
    if (g->asking) {
        rd_put_command(out, 1);
        rd_put_word(out, "ASKING");
    }
    rd_put_command(out, 3 + k.n_keys + n_args);
    rd_put_word(out, g->whole ? "EVAL" : "EVALSHA");
    rd_put_word(out, g->whole ? rd_script_text[RD_SCRIPT_COMMIT] : inst->sha[RD_SCRIPT_COMMIT]);
    rd_put_number(out, k.n_keys);
    rd_buf_put(out, k.text.p, k.text.n);
    rd_put_number(out, g->n);
    rd_buf_put(out, args.p, args.n);
    if (inst->options.wait_replicas)
        put_wait(&inst->options, out);
    out->failed = out->failed || args.failed || k.text.failed;
    rd_buf_done(&args);
    rd_buf_done(&k.text);
    free(k.parts);
    return 1u + g->asking + (inst->options.wait_replicas != 0);
}

/* ---- answers ------------------------------------------------------------------------------------ */

static void group_free(group *g)
{
    if (g->answer)
        freeReplyObject(g->answer);
    free(g);
}

static void finish_all(group *g, const tn_error *err)
{
    const tn_host *host = g->request.ctx->inst->host;
    for (uint32_t i = 0; i < g->n; i++)
        host->op_finish(g->members[i].op, err->code, err);
    group_free(g);
}

static tn_status tell_conflict(group *g, const member *m, const redisReply *no, tn_error *err)
{
    const tn_host *host = g->request.ctx->inst->host;
    const redisReply *row = no->elements > 2 ? no->element[2] : NULL;
    tn_row *current = &m->out->current;
    const tn_key *key = &m->batch->conds[m->out->failed_cond].key;
    *current = (tn_row){.key = *key};
    if (row && row->type == REDIS_REPLY_STRING) {
        tn_blob value;
        uint64_t version;
        if (!rd_row_open(key, (uint8_t *)row->str, (size_t)row->len, &version, &value))
            return rd_error(err, TN_EDATALOSS, 0, "a stored row is damaged (checksum)");
        uint8_t *copy = host->op_alloc(m->op, value.n ? value.n : 1, 1);
        if (!copy)
            return rd_error(err, TN_ETOOLARGE, 0,
                            "the conflicting row does not fit the operation's memory");
        memcpy(copy, value.p, value.n);
        current->value = (tn_blob){copy, value.n};
        current->version = version;
    }
    return rd_error(err, TN_ECONFLICT, 0, "condition %u failed", m->out->failed_cond);
}

static tn_status member_result(group *g, const member *m, const redisReply *result, tn_error *err)
{
    if (result->type == REDIS_REPLY_STRING && result->len == 8) {
        m->out->version = rd_from_be64((uint8_t *)result->str);
        return TN_OK;
    }
    if (result->type == REDIS_REPLY_STRING && result->len == 0)
        return TN_OK; /* conditions only */
    if (result->type != REDIS_REPLY_ARRAY || result->elements < 2 ||
        result->element[1]->type != REDIS_REPLY_INTEGER ||
        (uint64_t)result->element[1]->integer >= m->batch->n_conds)
        return rd_error(err, TN_EUNCERTAIN, 0, "the script gave an answer that was not expected");
    m->out->failed_cond = (uint32_t)result->element[1]->integer;
    if (result->element[0]->integer == 2)
        return rd_error(err, TN_EFENCED, 0, "condition %u: the fence has moved",
                        m->out->failed_cond);
    return tell_conflict(g, m, result, err);
}

/* The script ran.  replicas: how many have what it wrote. */
static void finish_each(group *g, long long replicas)
{
    const rd_inst *inst = g->request.ctx->inst;
    for (uint32_t i = 0; i < g->n; i++) {
        tn_error err = {0};
        member m = g->members[i];
        tn_status status = member_result(g, &m, g->answer->element[i], &err);
        if (status == TN_OK && m.batch->n_muts && replicas < (long long)inst->options.wait_replicas)
            status = rd_error(&err, TN_EUNCERTAIN, 0,
                              "applied, yet only %lld of %u replicas confirmed it in time",
                              replicas, inst->options.wait_replicas);
        inst->host->op_finish(m.op, status, status == TN_OK ? NULL : &err);
    }
    rd_count(inst, inst->m_seconds, (double)(inst->host->mono_ns() - g->began_ns) / (double)RD_SEC);
    group_free(g);
}

static void submit(group *g, rd_link *link)
{
    if (g->answer)
        freeReplyObject(g->answer);
    g->answer = NULL;
    rd_link_submit(link, &g->request);
}

static void refused(group *g, rd_link *from)
{
    rd_ctx *ctx = g->request.ctx;
    const redisReply *answer = g->answer;
    tn_error err;
    if (rd_begins(answer, "NOSCRIPT") && !g->whole) {
        g->whole = true;
        submit(g, from);
        return;
    }
    if ((rd_begins(answer, "MOVED ") || rd_begins(answer, "ASK ")) &&
        g->redirects++ < REDIRECTS_MAX) {
        rd_link *to = rd_redirect(ctx, answer, from, RD_LANE_WRITE, &g->asking);
        if (to) {
            submit(g, to);
            return;
        }
    }
    if (!rd_reply_surely_not(answer))
        rd_error(&err, TN_EUNCERTAIN, 0, "the script broke off: %.*s",
                 (int)(answer->len > 150 ? 150 : answer->len), answer->str ? answer->str : "?");
    else
        rd_reply_error(answer, "commit", &err);
    if (rd_reply_wrong_server(answer))
        rd_link_doom(from, &err);
    finish_all(g, &err);
}

static void group_reply(rd_request *request, rd_link *from, uint32_t index, redisReply **reply)
{
    group *g = (group *)request;
    if (index == (g->asking ? 1u : 0u)) {
        g->answer = *reply;
        *reply = NULL;
    }
    if (request->left)
        return;
    if (g->answer->type != REDIS_REPLY_ARRAY) {
        refused(g, from);
        return;
    }
    if (g->answer->elements != g->n) {
        tn_error err;
        rd_error(&err, TN_EUNCERTAIN, 0, "the script gave an answer that was not expected");
        finish_all(g, &err);
        return;
    }
    long long replicas = *reply && (*reply)->type == REDIS_REPLY_INTEGER ? (*reply)->integer : 0;
    finish_each(g, replicas);
}

static void group_failed(rd_request *request, bool sent, const tn_error *err)
{
    group *g = (group *)request;
    tn_error told;
    if (g->answer && g->answer->type == REDIS_REPLY_ARRAY && g->answer->elements == g->n) {
        finish_each(g, 0); /* only WAIT's answer is missing */
        return;
    }
    rd_error(&told, sent ? TN_EUNCERTAIN : TN_EUNAVAILABLE, err->vendor_code, "%.200s%s", err->text,
             sent ? "; it may have been applied" : "");
    finish_all(g, &told);
}

/* ---- grouping ----------------------------------------------------------------------------------- */

static group *group_new(rd_ctx *ctx, uint16_t slot, size_t room)
{
    group *g = calloc(1, sizeof *g + room * sizeof g->members[0]);
    if (!g)
        return NULL;
    g->request =
        (rd_request){.ctx = ctx, .put = put_group, .reply = group_reply, .failed = group_failed};
    g->slot = slot;
    g->began_ns = ctx->inst->host->mono_ns();
    return g;
}

static void send_group(rd_ctx *ctx, group *g)
{
    rd_link *link = rd_route(ctx, g->slot, RD_LANE_WRITE);
    uint64_t latest = 0;
    for (uint32_t i = 0; i < g->n; i++) {
        uint64_t deadline = ctx->inst->host->op_deadline_ns(g->members[i].op);
        latest = deadline > latest ? deadline : latest;
    }
    g->request.deadline_ns = latest;
    rd_count(ctx->inst, ctx->inst->m_groups, 1);
    rd_count(ctx->inst, ctx->inst->m_commits, g->n);
    if (link) {
        rd_link_submit(link, &g->request);
        return;
    }
    tn_error err;
    rd_error(&err, TN_EUNAVAILABLE, 0, "out of memory");
    finish_all(g, &err);
}

void rd_commit(void *arg, tn_commit_req *const *reqs, size_t n)
{
    rd_ctx *ctx = arg;
    bool cluster = ctx->slots != NULL;
    group *open[16] = {0}; /* groups that still grow; a cluster may need one a slot */
    size_t n_open = 0, next = 0;
    for (size_t i = 0; i < n; i++) {
        tn_commit_req *req = reqs[i];
        tn_blob partition = {0};
        size_t bytes = 0, at = 0;
        tn_error err;
        req->status = check(ctx, req, &partition, &bytes, &err);
        if (req->status != TN_OK) {
            ctx->inst->host->op_explain(req->op, &err);
            continue;
        }
        uint16_t slot = cluster ? rd_slot_of(partition.p, partition.n) : 0;
        while (at < n_open && open[at]->slot != slot)
            at++;
        bool full = at < n_open &&
                    (open[at]->n == RD_GROUP_MAX || open[at]->bytes + bytes > RD_GROUP_BYTES_MAX);
        if (full || at == sizeof open / sizeof open[0]) {
            if (!full)
                at = next++ % n_open;
            send_group(ctx, open[at]); /* in order within a slot: this one leaves first */
            open[at] = open[--n_open];
            at = n_open;
        }
        if (at == n_open && !(open[n_open] = group_new(ctx, slot, n - i))) {
            req->status = TN_EUNAVAILABLE;
            continue;
        }
        n_open += at == n_open;
        group *g = open[at];
        g->bytes += bytes;
        g->members[g->n++] = (member){req->op, req->batch, req->out};
        req->status = TN_PENDING;
    }
    for (size_t i = 0; i < n_open; i++)
        send_group(ctx, open[i]);
}
