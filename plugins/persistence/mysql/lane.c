/* SPDX-License-Identifier: MIT */
/* The threads that write.  Each has a connection and the partitions whose hash falls to it, so that commits
 * of one partition keep their order; what waits when it comes round is its next group.
 *
 * What became of a transaction whose answer was lost is not guessed: the next connection first locks the
 * lane's row, which waits for the transaction's end if it still runs, takes a new epoch, with which a
 * late one fails, and reads whether the transaction's number is there. */
#include "private.h"

#include <stdlib.h>
#include <string.h>

#define PATIENCE_NS (3 * MS_SEC) /* a group waits so long for a connection */
#define GROUP_NS (30 * MS_SEC)   /* and is at work no longer than this */
#define TRIES_MAX 50u

/* ---- connection --------------------------------------------------------------------------------- */

static bool take_epoch(my_lane *lane, uint64_t deadline_ns, tn_error *err)
{
    ms_text sql = {0};
    ms_reply reply;
    lane->epoch++;
    ms_puts(&sql, "BEGIN;SELECT seq FROM tenon_lane WHERE id=");
    ms_put_u64(&sql, lane->id);
    ms_puts(&sql, " FOR UPDATE;INSERT INTO tenon_lane (id,epoch,seq) VALUES (");
    ms_put_u64(&sql, lane->id);
    ms_put(&sql, ",", 1);
    ms_put_u64(&sql, lane->epoch);
    ms_puts(&sql, ",0) ON DUPLICATE KEY UPDATE epoch=VALUES(epoch);COMMIT");
    ms_fault f = ms_run(&lane->conn, &sql, deadline_ns, &reply, err);
    ms_text_done(&sql);
    if (f == MS_FINE) {
        MYSQL_ROW row = mysql_fetch_row(reply.rows[1]);
        lane->marker = row ? ms_u64(row, 0) : 0;
        lane->marked = lane->registered = true;
    } else {
        ms_disconnect(&lane->conn);
    }
    ms_reply_done(&reply);
    return f == MS_FINE;
}

/* A connection with an epoch, before until_ns. */
static bool connect_until(my_lane *lane, uint64_t until_ns, tn_error *err)
{
    const tn_host *host = lane->inst->host;
    ms_conn *c = &lane->conn;
    while (!c->my || !lane->registered) {
        lane->registered = false;
        uint64_t now = host->mono_ns();
        if (now >= until_ns)
            return false;
        if (!c->my && c->retry_at_ns > now) {
            ms_sleep_until(host, c->retry_at_ns < until_ns ? c->retry_at_ns : until_ns);
            continue;
        }
        *err = (tn_error){0};
        if (ms_connect(c, until_ns, err) != TN_OK)
            continue;
        my_metric(lane->inst, lane->inst->m_connects, 1);
        if (take_epoch(lane, until_ns, err))
            return true;
        c->retry_at_ns = host->mono_ns() + 100 * MS_MS;
    }
    return true;
}

/* ---- a group ------------------------------------------------------------------------------------ */

static void finish(my_lane *lane, my_member *m)
{
    if (m->status == TN_OK)
        m->req->out->version = m->version;
    tn_error err = m->err; /* the member's memory goes with its operation */
    lane->inst->host->op_finish(m->req->op, m->status, m->status < 0 && err.code ? &err : NULL);
}

static void finish_all(my_lane *lane)
{
    for (size_t i = 0; i < lane->group.n; i++)
        finish(lane, lane->group.members[i]);
}

static void fail_all(my_lane *lane, tn_status status, const tn_error *err)
{
    for (size_t i = 0; i < lane->group.n; i++) {
        my_member *m = lane->group.members[i];
        m->status = status;
        m->err = *err;
        m->err.code = status;
    }
    finish_all(lane);
}

/* Nobody can say whether the transaction is there.  A member that failed a condition did not happen, but
 * whether its reason stands depends on members before it. */
static void fail_uncertain(my_lane *lane, const tn_error *err)
{
    my_metric(lane->inst, lane->inst->m_uncertain, 1);
    for (size_t i = 0; i < lane->group.n; i++) {
        my_member *m = lane->group.members[i];
        m->status = m->status == TN_OK ? TN_EUNCERTAIN : TN_EUNAVAILABLE;
        m->err = *err;
        m->err.code = m->status;
    }
    finish_all(lane);
}

typedef enum fate { FATE_DONE, FATE_NOT_DONE, FATE_UNKNOWN } fate;

static fate ask_fate(my_lane *lane, uint64_t seq, const tn_error *why)
{
    tn_error err = {0};
    my_metric(lane->inst, lane->inst->m_resolved, 1);
    ms_log(&lane->conn, TN_LEVEL_WARN, "a commit's answer is lost (%s): asking what became of it",
           why->text);
    lane->marked = lane->registered = false;
    if (!connect_until(lane, lane->group.deadline_ns, &err) || !lane->marked)
        return FATE_UNKNOWN;
    return lane->marker == seq ? FATE_DONE : FATE_NOT_DONE;
}

/* One attempt; true: the members know. */
static bool attempt(my_lane *lane, bool *look, tn_error *err)
{
    bool sent = true;
    uint64_t now = lane->inst->host->mono_ns(), left = lane->group.deadline_ns - now;
    /* A connection that has died without a word leaves time to ask on another one. */
    lane->until_ns = now + (left > 2 * MS_SEC ? left / 2 : left);
    lane->seq++;
    my_metric(lane->inst, *look ? lane->inst->m_looked : NULL, 1);
    my_outcome outcome = *look ? my_write_long(lane, &sent, err) : my_write_short(lane, err);
    if (outcome == MY_LOST) {
        lane->registered = false;
        fate f = sent ? ask_fate(lane, lane->seq, err) : FATE_NOT_DONE;
        if (f == FATE_UNKNOWN) {
            my_write_settle(lane, false);
            fail_uncertain(lane, err);
            return true;
        }
        outcome = f == FATE_DONE ? MY_DONE : MY_AGAIN;
    }
    my_write_settle(lane, outcome == MY_DONE && lane->group.writes);
    if (outcome == MY_DONE) {
        finish_all(lane);
        return true;
    }
    if (outcome == MY_REFUSED) {
        fail_all(lane, err->code ? err->code : TN_EUNAVAILABLE, err);
        return true;
    }
    *look = *look || outcome == MY_LOOK;
    return false;
}

static void run_group(my_lane *lane)
{
    const tn_host *host = lane->inst->host;
    my_group *g = &lane->group;
    bool look = false;
    tn_error err = {0};
    uint64_t began = host->mono_ns();
    for (unsigned tries = 0;; tries++) {
        uint64_t now = host->mono_ns();
        uint64_t patient = now + PATIENCE_NS < g->deadline_ns ? now + PATIENCE_NS : g->deadline_ns;
        if (tries >= TRIES_MAX || now >= g->deadline_ns || !connect_until(lane, patient, &err)) {
            if (!err.code)
                ms_error(&err, TN_EUNAVAILABLE, 0, "the database was not reached in time");
            fail_all(lane, TN_EUNAVAILABLE, &err);
            break;
        }
        bool looked = look;
        err = (tn_error){0};
        if (attempt(lane, &look, &err))
            break;
        if (look == looked) {
            my_metric(lane->inst, lane->inst->m_retries, 1);
            ms_sleep_until(host, host->mono_ns() + (1 + lane->id % 5) * (tries + 1) * MS_MS);
        }
    }
    my_metric(lane->inst, lane->inst->m_groups, 1);
    my_metric(lane->inst, lane->inst->m_commits, (double)g->n);
    my_metric(lane->inst, lane->inst->m_seconds, (double)(host->mono_ns() - began) / 1e9);
}

/* ---- the queue ---------------------------------------------------------------------------------- */

static void settle(my_lane *lane, my_member *m, tn_status status)
{
    m->status = status;
    finish(lane, m);
}

/* Takes what can go into one group; the rest stays. */
static void gather(my_lane *lane, my_member *list)
{
    const tn_host *host = lane->inst->host;
    my_group *g = &lane->group;
    uint64_t now = host->mono_ns();
    g->n = g->n_parts = 0;
    g->deadline_ns = 0;
    lane->mark++;
    for (my_member *m = list, *next; m; m = next) {
        next = m->next;
        m->err = (tn_error){0};
        if (m->deadline_ns <= now) {
            settle(lane, m,
                   ms_error(&m->err, TN_EUNAVAILABLE, 0,
                            "the deadline passed before the commit was looked at"));
            continue;
        }
        if (g->n == g->cap_members) {
            size_t cap = g->cap_members ? g->cap_members * 2 : 64;
            my_member **grown = realloc(g->members, cap * sizeof *grown);
            if (!grown) {
                settle(lane, m, ms_error(&m->err, TN_EUNAVAILABLE, 0, "out of memory"));
                continue;
            }
            g->members = grown;
            g->cap_members = cap;
        }
        if (!m->req->batch->n_muts && !m->req->batch->n_conds) {
            settle(lane, m, TN_OK); /* nothing to test, nothing to do */
            continue;
        }
        tn_status status = my_member_check(lane, m, &m->err);
        if (status != TN_OK) {
            settle(lane, m, status);
            continue;
        }
        g->members[g->n++] = m;
        if (m->deadline_ns > g->deadline_ns)
            g->deadline_ns = m->deadline_ns;
    }
    if (g->deadline_ns > now + GROUP_NS)
        g->deadline_ns = now + GROUP_NS;
}

static my_member *take(my_lane *lane)
{
    my_member *first = lane->head, *last = NULL;
    size_t bytes = 0, n = 0;
    for (my_member *m = first; m && n < MY_GROUP_MEMBERS && bytes < MY_GROUP_BYTES; m = m->next) {
        bytes += m->bytes;
        n++;
        last = m;
    }
    lane->head = last->next;
    if (!lane->head)
        lane->tail = NULL;
    last->next = NULL;
    return first;
}

static void retire(my_lane *lane)
{
    ms_text sql = {0};
    ms_reply reply;
    tn_error ignored = {0};
    if (lane->conn.my && lane->registered) {
        ms_puts(&sql, "DELETE FROM tenon_lane WHERE id=");
        ms_put_u64(&sql, lane->id);
        ms_run(&lane->conn, &sql, lane->inst->host->mono_ns() + 2 * MS_SEC, &reply, &ignored);
        ms_reply_done(&reply);
        ms_text_done(&sql);
    }
    ms_disconnect(&lane->conn);
    for (size_t i = 0; i < lane->n_part_buckets; i++)
        for (my_part *part = lane->parts[i], *next; part; part = next) {
            next = part->next;
            free(part);
        }
    free(lane->parts);
    free(lane->group.members);
    free(lane->group.parts);
    ms_pool_done(&lane->group.pool);
    ms_text_done(&lane->sql);
}

void *my_lane_main(void *arg)
{
    my_lane *lane = arg;
    for (;;) {
        pthread_mutex_lock(&lane->lock);
        while (!lane->head && !lane->stopping)
            pthread_cond_wait(&lane->wake, &lane->lock);
        my_member *list = lane->head ? take(lane) : NULL;
        pthread_mutex_unlock(&lane->lock);
        if (!list)
            break;
        gather(lane, list);
        if (lane->group.n)
            run_group(lane);
    }
    retire(lane);
    return NULL;
}

/* ---- [loop] ------------------------------------------------------------------------------------- */

static my_lane *lane_of(my_inst *inst, const tn_batch *batch)
{
    const tn_blob *p = batch->n_muts    ? &batch->muts[0].key.partition
                       : batch->n_conds ? &batch->conds[0].key.partition
                                        : NULL;
    return &inst->lanes[p && p->n ? my_hash(p->p, p->n) % inst->n_lanes : 0];
}

void my_lane_submit(my_inst *inst, tn_commit_req *const *reqs, size_t n)
{
    struct {
        my_member *head, *tail;
    } lists[MY_LANES_MAX] = {0};
    for (size_t i = 0; i < n; i++) {
        tn_commit_req *req = reqs[i];
        my_member *m = inst->host->op_alloc(req->op, sizeof *m, _Alignof(my_member));
        if (!m) {
            req->status = TN_ETOOLARGE;
            continue;
        }
        req->status = TN_PENDING;
        m->req = req;
        m->deadline_ns = inst->host->op_deadline_ns(req->op);
        for (size_t k = 0; k < req->batch->n_muts; k++)
            m->bytes += req->batch->muts[k].value.n + 128;
        size_t at = (size_t)(lane_of(inst, req->batch) - inst->lanes);
        if (lists[at].tail)
            lists[at].tail->next = m;
        else
            lists[at].head = m;
        lists[at].tail = m;
    }
    for (size_t i = 0; i < inst->n_lanes; i++) {
        my_lane *lane = &inst->lanes[i];
        if (!lists[i].head)
            continue;
        pthread_mutex_lock(&lane->lock);
        if (lane->tail)
            lane->tail->next = lists[i].head;
        else
            lane->head = lists[i].head;
        lane->tail = lists[i].tail;
        pthread_cond_signal(&lane->wake);
        pthread_mutex_unlock(&lane->lock);
    }
}
