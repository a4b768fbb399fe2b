/* SPDX-License-Identifier: MIT */
/* Groups of commits [the loop that owns the connection].  One group is under way at a time: what comes
 * meanwhile makes the next one, so that groups grow with the load and one alone waits for nobody.
 *
 * When the connection breaks under a group, the ledger (tn_session) is asked over the next one: its row says
 * whether the group was committed, and is closed by the same transaction, after which the old connection, should it
 * live on somewhere, cannot commit it any more.  So a member ends as TN_EUNCERTAIN only when no server
 * answered that question by its deadline. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGAIN_LEAST_NS (300 * TN_PG_MS) /* with less time left, a member isn't sent again */
#define ATTEMPTS_MAX 5u

static void start(pp_state *state);

/* ---- members ------------------------------------------------------------------------------------ */

static void finish(const pp_state *state, pp_member *member, tn_status status, const tn_error *err)
{
    tn_error copy = {0};
    if (err)
        copy = *err;
    copy.code = status;
    state->inst->host->op_finish(member->req->op, status, err ? &copy : NULL);
}

static void append(pp_state *state, pp_member *first, pp_member *last)
{
    last->next = NULL;
    if (state->head)
        state->tail->next = first;
    else
        state->head = first;
    state->tail = last;
}

/* The members of the group that are still there go before those that wait, in their order. */
static void put_back(pp_state *state, pp_member *const *members, uint32_t n)
{
    for (uint32_t i = n; i-- > 0;) {
        members[i]->next = state->head;
        state->head = members[i];
        if (!members[i]->next)
            state->tail = members[i];
    }
}

static void finish_all(pp_state *state, tn_status status, const tn_error *err)
{
    uint32_t n = state->n_members;
    state->n_members = 0;
    for (uint32_t i = 0; i < n; i++)
        finish(state, state->members[i], status, err);
}

/* Surely not applied: sent again while there is time, else said so. */
static void try_again(pp_state *state, const tn_error *err, bool alone)
{
    uint64_t now = state->inst->host->mono_ns();
    uint32_t n = state->n_members, kept = 0;
    pp_member *again[PP_GROUP_MAX];
    state->n_members = 0;
    for (uint32_t i = 0; i < n; i++) {
        pp_member *member = state->members[i];
        member->alone = alone || member->alone;
        if (++member->attempts > ATTEMPTS_MAX || member->deadline_ns < now + AGAIN_LEAST_NS)
            finish(state, member, TN_EUNAVAILABLE, err);
        else
            again[kept++] = member;
    }
    put_back(state, again, kept);
    pp_count(state->inst, state->inst->m_repeated, kept);
}

/* ---- the answer to a group ---------------------------------------------------------------------- */

static void take_failed(pp_state *state, const PGresult *result, int row)
{
    int64_t index = tn_pg_result_int(result, row, 0), test = tn_pg_result_int(result, row, 2);
    if (index < 0 || index >= state->n_members)
        return;
    pp_member *member = state->members[index];
    tn_commit_req *req = member->req;
    member->status = test == TN_COND_FENCE ? TN_EFENCED : TN_ECONFLICT;
    req->out->failed_cond = (uint32_t)tn_pg_result_int(result, row, 1);
    if (test == TN_COND_FENCE || req->out->failed_cond >= req->batch->n_conds)
        return;
    tn_row *current = &req->out->current;
    *current = (tn_row){.key = req->batch->conds[req->out->failed_cond].key};
    if (PQgetisnull(result, row, 3))
        return;
    tn_blob value = tn_pg_result_blob(result, row, 4);
    uint8_t *copy = state->inst->host->op_alloc(req->op, value.n ? value.n : 1, 1);
    if (!copy) {
        member->status = TN_ETOOLARGE;
        return;
    }
    if (value.n)
        memcpy(copy, value.p, value.n);
    current->value = (tn_blob){copy, value.n};
    current->version = (uint64_t)tn_pg_result_int(result, row, 3);
}

static void group_result(tn_pg_req *req, uint32_t index, PGresult *result)
{
    (void)index;
    pp_state *state = (pp_state *)((char *)req - offsetof(pp_state, group));
    for (int row = 0; row < PQntuples(result); row++) {
        if (tn_pg_result_int(result, row, 0) == -1)
            state->base = tn_pg_result_int(result, row, 3);
        else
            take_failed(state, result, row);
    }
}

static void finish_decided(pp_state *state)
{
    uint32_t n = state->n_members;
    tn_error err;
    state->n_members = 0;
    for (uint32_t i = 0; i < n; i++) {
        pp_member *member = state->members[i];
        switch (member->status) {
        case TN_OK:
            member->req->out->version = (uint64_t)state->base + i;
            finish(state, member, TN_OK, NULL);
            break;
        case TN_ETOOLARGE:
            tn_pg_error(&err, TN_ETOOLARGE,
                        "the conflicting row does not fit the operation's memory");
            finish(state, member, TN_ETOOLARGE, &err);
            break;
        default:
            tn_pg_error(&err, member->status,
                        member->status == TN_EFENCED ? "condition %u: the fence has moved"
                                                     : "condition %u failed",
                        member->req->out->failed_cond);
            finish(state, member, member->status, &err);
        }
    }
}

/* ---- a lost group ------------------------------------------------------------------------------- */

static bool resolve_send(tn_pg_req *req, PGconn *db)
{
    pp_state *state = (pp_state *)((char *)req - offsetof(pp_state, resolve));
    tn_pg_params params = {0};
    state->resolved = false;
    state->n_bad = 0;
    tn_pg_put_i64(&params, state->session_id);
    bool sent = tn_pg_params_send(&params, db, "end_backend") &&
                tn_pg_params_send(&params, db, "close_session");
    tn_pg_params_done(&params);
    return sent;
}

static void resolve_result(tn_pg_req *req, uint32_t index, PGresult *result)
{
    pp_state *state = (pp_state *)((char *)req - offsetof(pp_state, resolve));
    if (index == 0 || PQntuples(result) < 1)
        return;
    state->resolved = true;
    state->applied = tn_pg_result_int(result, 0, 0) == state->seq;
    state->base = tn_pg_result_int(result, 0, 1);
    /* the members that failed: rows of one number each */
    free(state->bad);
    state->bad = calloc((size_t)PQntuples(result), sizeof *state->bad);
    state->n_bad = 0;
    if (!state->bad) {
        state->resolved = false;
        return;
    }
    for (int row = 0; row < PQntuples(result); row++)
        if (!PQgetisnull(result, row, 2))
            state->bad[state->n_bad++] = (uint32_t)tn_pg_result_int(result, row, 2);
}

/* What members were told is lost with the answer; that they failed is known. */
static void finish_applied(pp_state *state, const tn_error *why)
{
    uint32_t n = state->n_members;
    state->n_members = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool failed = false;
        for (size_t b = 0; b < state->n_bad; b++)
            failed = failed || state->bad[b] == i;
        if (failed) {
            finish(state, state->members[i], TN_EUNAVAILABLE, why);
        } else {
            state->members[i]->req->out->version = (uint64_t)state->base + i;
            finish(state, state->members[i], TN_OK, NULL);
        }
    }
}

static void resolve_done(tn_pg_req *req, tn_pg_end end, const tn_error *err, const char *sqlstate)
{
    (void)sqlstate;
    pp_state *state = (pp_state *)((char *)req - offsetof(pp_state, resolve));
    pp_inst *inst = state->inst;
    tn_error why = {0};
    tn_pg_error(&why, TN_EUNAVAILABLE,
                "the connection was lost; the commit was surely not applied");
    if (end == TN_PG_DONE && state->resolved) {
        pp_count(inst, inst->m_resolved, 1);
        if (state->applied)
            finish_applied(state, &why);
        else
            try_again(state, &why, false);
    } else if (end == TN_PG_DONE) {
        tn_pg_error(&why, TN_EUNCERTAIN, "the lost connection has no row in tn_session");
        finish_all(state, TN_EUNCERTAIN, &why);
    } else { /* the deadline came; members of a group have much the same */
        tn_pg_error(&why, TN_EUNCERTAIN, "whether it was committed could not be found out: %s",
                    err->text);
        finish_all(state, TN_EUNCERTAIN, &why);
    }
    state->busy = false;
    start(state);
}

static void resolve(pp_state *state)
{
    uint64_t deadline = UINT64_MAX;
    for (uint32_t i = 0; i < state->n_members; i++)
        if (state->members[i]->deadline_ns < deadline)
            deadline = state->members[i]->deadline_ns;
    state->resolve = (tn_pg_req){.flags = TN_PG_REPEAT | TN_PG_FIRST,
                                 .deadline_ns = deadline,
                                 .patience_ns = 3 * TN_PG_SEC,
                                 .send = resolve_send,
                                 .result = resolve_result,
                                 .done = resolve_done};
    tn_pg_submit(state->conn, &state->resolve);
}

/* ---- a group ------------------------------------------------------------------------------------ */

static bool group_send(tn_pg_req *req, PGconn *db)
{
    pp_state *state = (pp_state *)((char *)req - offsetof(pp_state, group));
    pp_session *session = tn_pg_session(state->conn);
    session->seq++;
    state->session_id = session->id;
    state->seq = session->seq;
    for (uint32_t i = 0; i < state->n_members; i++)
        state->members[i]->status = TN_OK;
    pp_count(state->inst, state->inst->m_groups, 1);
    return pp_waves_send(&state->waves, session, state->members, state->n_members, db);
}

static void refused(pp_state *state, const tn_error *err, const char *sqlstate)
{
    bool moment = strncmp(sqlstate, "40", 2) == 0 || strncmp(sqlstate, "57", 2) == 0 ||
                  strcmp(sqlstate, "25006") == 0 || strcmp(sqlstate, "55P03") == 0;
    if (strcmp(sqlstate, "TN001") == 0) { /* somebody closed our session: a new one */
        tn_pg_give_up(state->conn, "its row of tn_session is closed");
        moment = true;
    }
    if (moment)
        try_again(state, err, false);
    else if (state->n_members > 1 && err->code != TN_EUNAVAILABLE)
        try_again(state, err, true); /* one of them is to blame */
    else
        finish_all(state, err->code, err);
}

static void group_done(tn_pg_req *req, tn_pg_end end, const tn_error *err, const char *sqlstate)
{
    pp_state *state = (pp_state *)((char *)req - offsetof(pp_state, group));
    switch (end) {
    case TN_PG_DONE:
        finish_decided(state);
        break;
    case TN_PG_FAILED:
        refused(state, err, sqlstate);
        break;
    case TN_PG_UNSENT:
        finish_all(state, TN_EUNAVAILABLE, err);
        break;
    case TN_PG_LOST:
        pp_count(state->inst, state->inst->m_lost, 1);
        resolve(state);
        return;
    }
    state->busy = false;
    start(state);
}

/* Takes what fits into one group off the queue. */
static void gather(pp_state *state)
{
    uint64_t now = state->inst->host->mono_ns();
    size_t bytes = 0;
    state->n_members = 0;
    while (state->head && state->n_members < PP_GROUP_MAX) {
        pp_member *member = state->head;
        bool first = state->n_members == 0;
        if (!first && (bytes + member->bytes > PP_GROUP_BYTES_MAX || member->alone))
            break;
        state->head = member->next;
        if (member->deadline_ns <= now) {
            tn_error err;
            tn_pg_error(&err, TN_EUNAVAILABLE, "the deadline passed before the commit was sent");
            finish(state, member, TN_EUNAVAILABLE, &err);
            continue;
        }
        bytes += member->bytes;
        state->members[state->n_members++] = member;
        if (member->alone)
            break;
    }
}

static void start(pp_state *state)
{
    if (state->busy)
        return;
    gather(state);
    if (!state->n_members)
        return;
    state->busy = true;
    uint64_t deadline = UINT64_MAX, now = state->inst->host->mono_ns();
    for (uint32_t i = 0; i < state->n_members; i++)
        if (state->members[i]->deadline_ns < deadline)
            deadline = state->members[i]->deadline_ns;
    /* Half of the time for an answer, the rest to find out what became of it. */
    state->group = (tn_pg_req){.deadline_ns = deadline,
                               .patience_ns = deadline == UINT64_MAX ? 30 * TN_PG_SEC
                                                                     : (deadline - now) / 2 + 1,
                               .send = group_send,
                               .result = group_result,
                               .done = group_done};
    tn_pg_submit(state->conn, &state->group);
}

/* The connection's memory goes: nothing is in flight any more. */
void pp_lost(tn_pg_conn *conn, void *arg)
{
    (void)conn;
    pp_state *state = arg;
    if (state->busy)
        return;
    pp_waves_done(&state->waves);
    free(state->bad);
    state->bad = NULL;
}

/* ---- from the server ---------------------------------------------------------------------------- */

typedef struct chain { /* what one call brought, on its way to the connection's loop */
    tn_pg_link *link;
    pp_inst *inst;
    pp_member *first, *last;
} chain;

static void take_chain(void *arg)
{
    chain c = *(chain *)arg;
    tn_pg_conn *conn = tn_pg_conn_of(c.link);
    pp_state *state = tn_pg_state(conn);
    state->conn = conn;
    state->inst = c.inst;
    append(state, c.first, c.last);
    start(state);
}

static tn_status check_conds(const pp_inst *inst, tn_op *op, const tn_batch *batch)
{
    for (size_t i = 0; i < batch->n_conds; i++) {
        const tn_cond *cond = &batch->conds[i];
        if (!pp_key_lawful(&cond->key))
            return pp_refuse(inst, op, TN_EINVALID, "condition %zu: key out of limits", i);
        if (cond->test < TN_COND_VERSION || cond->test > TN_COND_FENCE)
            return pp_refuse(inst, op, TN_EINVALID, "condition %zu: unknown test %u", i,
                             cond->test);
    }
    return TN_OK;
}

static tn_status check_batch(const pp_inst *inst, tn_op *op, const tn_batch *batch, size_t *bytes)
{
    if (batch->flags)
        return pp_refuse(inst, op, TN_EINVALID, "unknown batch flags %#x", batch->flags);
    if (inst->host->op_deadline_ns(op) <= inst->host->mono_ns())
        return pp_refuse(inst, op, TN_EUNAVAILABLE,
                         "the deadline passed before the commit was looked at");
    tn_status status = check_conds(inst, op, batch);
    for (size_t i = 0; status == TN_OK && i < batch->n_muts; i++) {
        const tn_mut *mut = &batch->muts[i];
        if (mut->verb < TN_MUT_PUT || mut->verb > TN_MUT_DELETE_RANGE)
            return pp_refuse(inst, op, TN_EINVALID, "mutation %zu: unknown verb %u", i, mut->verb);
        if (!pp_key_lawful(&mut->key) ||
            (mut->verb == TN_MUT_DELETE_RANGE && mut->end.row.n > PP_ROW_MAX))
            return pp_refuse(inst, op, TN_EINVALID, "mutation %zu: key out of limits", i);
        if (mut->ttl_ns)
            return pp_refuse(inst, op, TN_EINVALID, "mutation %zu: this driver has no TTL", i);
        if (mut->value.n > PP_VALUE_MAX)
            return pp_refuse(inst, op, TN_ETOOLARGE, "mutation %zu: %zu bytes, the limit is %zu", i,
                             mut->value.n, PP_VALUE_MAX);
        *bytes += mut->value.n + pp_key_size(&mut->key);
    }
    if (status == TN_OK && *bytes > PP_BATCH_BYTES_MAX)
        return pp_refuse(inst, op, TN_ETOOLARGE, "a batch of %zu bytes, the limit is %zu", *bytes,
                         PP_BATCH_BYTES_MAX);
    return status;
}

static pp_member *make_member(const pp_inst *inst, tn_commit_req *req)
{
    size_t bytes = 0;
    req->status = check_batch(inst, req->op, req->batch, &bytes);
    if (req->status != TN_OK)
        return NULL;
    pp_member *member = inst->host->op_alloc(req->op, sizeof *member, _Alignof(pp_member));
    if (!member) {
        req->status = pp_refuse(inst, req->op, TN_ETOOLARGE, "no room in the operation's memory");
        return NULL;
    }
    member->req = req;
    member->bytes = bytes;
    member->deadline_ns = pp_deadline(inst, req->op);
    req->status = TN_PENDING;
    return member;
}

void pp_commit(void *ctx, tn_commit_req *const *reqs, size_t n)
{
    pp_ctx *at = ctx;
    chain *c = NULL;
    for (size_t i = 0; i < n; i++) {
        pp_member *member = make_member(at->inst, reqs[i]);
        if (!member)
            continue;
        if (!c) {
            c = at->inst->host->op_alloc(reqs[i]->op, sizeof *c, _Alignof(chain));
            if (!c) {
                reqs[i]->status = pp_refuse(at->inst, reqs[i]->op, TN_ETOOLARGE,
                                            "no room in the operation's memory");
                continue;
            }
            *c = (chain){.link = at->link, .inst = at->inst, .first = member};
        } else {
            c->last->next = member;
        }
        c->last = member;
        pp_count(at->inst, at->inst->m_commits, 1);
    }
    if (!c)
        return;
    pp_member *member = c->first;
    if (tn_pg_run(at->link, take_chain, c) == TN_OK)
        return;
    for (; member; member = member->next)
        member->req->status =
            pp_refuse(at->inst, member->req->op, TN_EUNAVAILABLE, "the connection's loop is gone");
}

/* ---- a session's row ---------------------------------------------------------------------------- */

/* Rows of processes that ended without closing theirs go after an hour. */
static const char PRUNE[] =
    "DELETE FROM tn_session s WHERE s.began < now() - interval '1 hour' AND NOT EXISTS (SELECT 1 "
    "FROM pg_stat_activity a WHERE a.pid = s.pid AND a.backend_start = s.began)";
static const char REGISTER[] =
    "INSERT INTO tn_session (pid, began) SELECT pid, backend_start FROM pg_stat_activity "
    "WHERE pid = pg_backend_pid() RETURNING id, 'tn_row'::regclass::oid";

tn_status pp_setup(const tn_host *host, PGconn *db, void **session, tn_error *err)
{
    (void)host;
    PGresult *r = tn_pg_exec(db, PRUNE, err);
    if (!r)
        return err->code;
    PQclear(r);
    r = tn_pg_exec(db, REGISTER, err);
    if (!r)
        return err->code;
    pp_session *s = calloc(1, sizeof *s);
    if (s && PQntuples(r) == 1) {
        s->id = strtoll(PQgetvalue(r, 0, 0), NULL, 10);
        /* Whoever writes to these tables takes the same locks, however they are named in its settings. */
        s->lock_seed = pp_hash(0, PQgetvalue(r, 0, 1), (size_t)PQgetlength(r, 0, 1));
    }
    PQclear(r);
    if (!s || !s->id) {
        free(s);
        return tn_pg_error(err, TN_EUNAVAILABLE, "cannot register a session");
    }
    *session = s;
    return TN_OK;
}
