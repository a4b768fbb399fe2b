/* SPDX-License-Identifier: MIT */
/* One connection on the loop that owns it: requests in a pipeline, answers in order, a watch over their
 * time, and a way back after a loss.  Nothing here blocks.
 *
 * Whatever finds the connection broken only notes it; it is dropped when the outermost function of ours returns,
 * so that no callback pulls it from under another. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKOFF_FIRST_NS (100 * TN_PG_MS)
#define BACKOFF_WAITED_NS TN_PG_SEC /* while requests wait */
#define BACKOFF_MOST_NS (5 * TN_PG_SEC)
#define SAY_EVERY_NS (30 * TN_PG_SEC)
#define WAIT_MOST_NS (2 * TN_PG_SEC) /* for a connection, of a request that was not sent yet */
#define CANCEL_GRACE_NS (2 * TN_PG_SEC)
#define LOOK_NS (50 * TN_PG_MS)

static void leave(tn_pg_conn *conn);
static void arm_limit(tn_pg_conn *conn);

/* ---- queues ------------------------------------------------------------------------------------- */

static void push(tn_pg_queue *q, tn_pg_req *req)
{
    req->next = NULL;
    if (q->first)
        q->last->next = req;
    else
        q->first = req;
    q->last = req;
}

static void push_front(tn_pg_queue *q, tn_pg_req *req)
{
    req->next = q->first;
    q->first = req;
    if (!req->next)
        q->last = req;
}

static tn_pg_req *pop(tn_pg_queue *q)
{
    tn_pg_req *req = q->first;
    if (req)
        q->first = req->next;
    return req;
}

static uint64_t now(const tn_pg_conn *conn) { return conn->host->mono_ns(); }

static void end(tn_pg_req *req, tn_pg_end how, const tn_error *err)
{
    char sqlstate[6];
    tn_error copy = err ? *err : (tn_error){0};
    memcpy(sqlstate, req->sqlstate, sizeof sqlstate); /* done may free the request */
    req->done(req, how, how == TN_PG_DONE ? NULL : &copy, sqlstate);
}

static void end_unsent(tn_pg_conn *conn, tn_pg_req *req, const char *what)
{
    tn_error err = {0};
    tn_pg_error(&err, TN_EUNAVAILABLE, "%s%s%s", what, conn->why.text[0] ? ": " : "",
                conn->why.text);
    end(req, TN_PG_UNSENT, &err);
}

/* ---- broken ------------------------------------------------------------------------------------- */

static void mark_broken(tn_pg_conn *conn, const char *why)
{
    if (conn->broken || !conn->db)
        return;
    conn->broken = true;
    why = why && why[0] ? why : "the connection broke";
    tn_pg_error(&conn->why, TN_EUNAVAILABLE, "%.*s", (int)strcspn(why, "\n"),
                why); /* then come guesses */
}

void tn_pg_give_up(tn_pg_conn *conn, const char *why)
{
    conn->depth++;
    mark_broken(conn, why);
    leave(conn);
}

static void reconnect(void *arg)
{
    tn_pg_conn *conn = arg;
    if (conn->retry) {
        conn->host->timer_stop(conn->retry);
        conn->retry = NULL;
    }
    if (conn->closed || conn->connecting || conn->db)
        return;
    conn->tried_ns = now(conn);
    conn->connecting = tn_pg_enqueue(conn->pool, conn, NULL, false);
    if (!conn->connecting)
        conn->retry = conn->host->timer_start(conn->loop, TN_PG_SEC, reconnect, conn);
}

static void reconnect_later(tn_pg_conn *conn)
{
    if (conn->closed || conn->retry || conn->connecting)
        return;
    uint64_t delay = 0;
    if (conn->failures) {
        uint32_t doubled = conn->failures > 7 ? 7 : conn->failures - 1;
        delay = BACKOFF_FIRST_NS << doubled;
        uint64_t most = conn->waiting.first ? BACKOFF_WAITED_NS : BACKOFF_MOST_NS;
        delay = delay > most ? most : delay;
        conn->random = conn->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        delay -= (conn->random >> 33) % (delay / 2 + 1);
    }
    if (delay == 0)
        reconnect(conn);
    else
        conn->retry = conn->host->timer_start(conn->loop, delay, reconnect, conn);
}

/* What was in flight waits again when it may happen twice; the rest is told that it is lost. */
static void end_flight(tn_pg_conn *conn)
{
    tn_pg_queue again = {0}, gone = {0};
    uint64_t at = now(conn);
    for (tn_pg_req *req; (req = pop(&conn->flight));) {
        bool repeat = (req->flags & TN_PG_REPEAT) && req->deadline_ns > at && !conn->closed;
        req->wait_by_ns = req->deadline_ns;
        push(repeat ? &again : &gone, req);
    }
    if (again.first) {
        again.last->next = conn->waiting.first;
        if (!conn->waiting.first)
            conn->waiting.last = again.last;
        conn->waiting.first = again.first;
    }
    for (tn_pg_req *req; (req = pop(&gone));) {
        tn_error err = {0};
        tn_pg_error(&err, req->flags & TN_PG_REPEAT ? TN_EUNAVAILABLE : TN_EUNCERTAIN,
                    "the connection to %s was lost: %s",
                    conn->closed ? "the server" : conn->pool->options.place, conn->why.text);
        end(req, TN_PG_LOST, &err);
    }
}

static void drop(tn_pg_conn *conn)
{
    const tn_host *host = conn->host;
    conn->broken = false;
    /* One that breaks as soon as it stands counts as one that could not be made. */
    conn->short_lives = now(conn) - conn->stood_ns < TN_PG_SEC ? conn->short_lives + 1 : 0;
    conn->failures = conn->short_lives;
    if (conn->watch)
        host->watch_free(conn->watch);
    conn->watch = NULL;
    if (conn->db && !conn->closed) {
        if (conn->pool->m_connections)
            host->metric_add(conn->pool->m_connections, -1);
        if (conn->pool->m_losses)
            host->metric_add(conn->pool->m_losses, 1);
        tn_pg_log(conn->pool, TN_LEVEL_WARN, "connection to %s given up: %s",
                  conn->pool->options.place, conn->why.text);
        conn->said_ns = now(conn);
    }
    if (conn->driver->lost)
        conn->driver->lost(conn, conn->state);
    PQfreeCancel(conn->cancel);
    conn->cancel = NULL;
    PQfinish(conn->db);
    conn->db = NULL;
    free(conn->session);
    conn->session = NULL;
    end_flight(conn);
    reconnect_later(conn);
}

/* The end of each function that the outside calls. */
static void leave(tn_pg_conn *conn)
{
    if (conn->depth > 1) {
        conn->depth--;
        return;
    }
    while (conn->broken && conn->db)
        drop(conn);
    arm_limit(conn);
    conn->depth--;
}

/* ---- sending ------------------------------------------------------------------------------------ */

static void watch_for(tn_pg_conn *conn, bool write)
{
    if (conn->watch && conn->watch_write == write)
        return;
    conn->watch_write = write;
    if (conn->watch)
        conn->host->watch_set(conn->watch, TN_FD_READ | (write ? TN_FD_WRITE : 0));
}

static void flush(tn_pg_conn *conn)
{
    if (!conn->db || conn->broken)
        return;
    int left = PQflush(conn->db);
    if (left < 0)
        mark_broken(conn, PQerrorMessage(conn->db));
    else
        watch_for(conn, left > 0);
}

static void send_one(tn_pg_conn *conn, tn_pg_req *req)
{
    req->index = 0;
    req->failed = req->doubtful = false;
    req->sqlstate[0] = '\0';
    req->sent_ns = now(conn);
    if (!req->send(req, conn->db)) {
        /* A part may be in the pipeline already: without a sync the server takes it back. */
        tn_error err = {0};
        bool dead = PQstatus(conn->db) == CONNECTION_BAD;
        tn_pg_error(&err, dead ? TN_EUNAVAILABLE : TN_ETOOLARGE, "libpq refused the request: %s",
                    PQerrorMessage(conn->db));
        mark_broken(conn, err.text);
        end(req, TN_PG_FAILED, &err);
        return;
    }
    push(&conn->flight, req);
    if (conn->pool->m_requests)
        conn->host->metric_add(conn->pool->m_requests, 1);
    if (!PQpipelineSync(conn->db))
        mark_broken(conn, PQerrorMessage(conn->db));
}

static void send_waiting(tn_pg_conn *conn)
{
    while (conn->db && !conn->broken && conn->waiting.first) {
        tn_pg_req *req = pop(&conn->waiting);
        if (req->deadline_ns <= now(conn))
            end_unsent(conn, req, "the deadline passed before it was sent");
        else
            send_one(conn, req);
    }
    flush(conn);
}

void tn_pg_submit(tn_pg_conn *conn, tn_pg_req *req)
{
    if (conn->closed) {
        end_unsent(conn, req, "the connection is closed");
        return;
    }
    uint64_t at = now(conn);
    bool patient =
        (req->flags & (TN_PG_FIRST | TN_PG_PATIENT)) || req->deadline_ns <= at + WAIT_MOST_NS;
    req->wait_by_ns = patient ? req->deadline_ns : at + WAIT_MOST_NS;
    conn->depth++;
    if (req->flags & TN_PG_FIRST)
        push_front(&conn->waiting, req);
    else
        push(&conn->waiting, req);
    /* The pause between attempts was chosen when nobody waited. */
    if (!conn->db && conn->retry && at - conn->tried_ns > BACKOFF_WAITED_NS)
        reconnect(conn);
    send_waiting(conn);
    leave(conn);
}

/* ---- answers ------------------------------------------------------------------------------------ */

/* Worth sending again at once: the server rolled back for a reason of the moment. */
static bool is_of_the_moment(const char *s)
{
    return strcmp(s, "40001") == 0 || strcmp(s, "40P01") == 0 || strcmp(s, "55P03") == 0 ||
           strcmp(s, "25006") == 0 || strncmp(s, "57P0", 4) == 0 ||
           strcmp(s, "57014") == 0; /* a cancel that came late and met another */
}

static void take_error(tn_pg_conn *conn, tn_pg_req *req, const PGresult *result)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (!req->failed) {
        req->failed = true;
        snprintf(req->sqlstate, sizeof req->sqlstate, "%s", state ? state : "");
        tn_pg_explain(result, conn->pool->options.place, &req->err);
    }
    /* FATAL ends the session, and may come after a commit: no proof of anything. */
    if (!severity || strcmp(severity, "ERROR") != 0)
        mark_broken(conn, PQresultErrorMessage(result));
    else if (state && strcmp(state, "25006") == 0)
        mark_broken(conn, "the server has become read-only (fail-over)");
}

static void take_sync(tn_pg_conn *conn)
{
    tn_pg_req *req = pop(&conn->flight);
    if (req->doubtful) { /* put back: it goes the way of the lost */
        push_front(&conn->flight, req);
        mark_broken(conn, "the server did not wait for its standby");
        return;
    }
    if (!req->failed)
        end(req, TN_PG_DONE, NULL);
    else if ((req->flags & TN_PG_REPEAT) && is_of_the_moment(req->sqlstate) &&
             req->deadline_ns > now(conn))
        push_front(&conn->waiting, req);
    else
        end(req, TN_PG_FAILED, &req->err);
}

static void take_answers(tn_pg_conn *conn)
{
    int nothing = 0; /* NULLs in a row: one ends a statement's results, more are not lawful */
    while (conn->flight.first && !conn->broken && !PQisBusy(conn->db)) {
        PGresult *result = PQgetResult(conn->db);
        if (!result) {
            if (++nothing > 2)
                mark_broken(conn, PQerrorMessage(conn->db));
            continue;
        }
        nothing = 0;
        tn_pg_req *req = conn->flight.first;
        switch (PQresultStatus(result)) {
        case PGRES_TUPLES_OK:
        case PGRES_COMMAND_OK:
            if (!req->failed && req->result)
                req->result(req, req->index, result);
            req->index++;
            break;
        case PGRES_PIPELINE_SYNC:
            take_sync(conn);
            break;
        case PGRES_PIPELINE_ABORTED:
            break;
        default:
            take_error(conn, req, result);
            break;
        }
        PQclear(result);
    }
}

static void on_ready(void *arg, uint32_t events)
{
    tn_pg_conn *conn = arg;
    if (!conn->db)
        return;
    conn->depth++;
    if (events & TN_FD_WRITE)
        flush(conn);
    if (events & TN_FD_READ) {
        bool alive = PQconsumeInput(conn->db) == 1;
        const char *why = PQerrorMessage(conn->db);
        if (alive)
            take_answers(conn);
        else
            mark_broken(conn, why);
        if (alive && !conn->flight.first && !conn->broken && !PQisBusy(conn->db)) {
            /* Between requests only notices and parameter changes are lawful; a closing server speaks
             * here, and the end of the stream comes with the next read. */
            PQnotifies(conn->db);
            if (PQstatus(conn->db) == CONNECTION_BAD)
                mark_broken(conn, PQerrorMessage(conn->db));
        }
        send_waiting(conn);
    }
    leave(conn);
}

/* The warning that a commit did not wait for its standby makes the commit doubtful. */
static void on_notice(void *arg, const PGresult *notice)
{
    tn_pg_conn *conn = arg;
    const char *function = PQresultErrorField(notice, PG_DIAG_SOURCE_FUNCTION);
    if (function && strcmp(function, "SyncRepWaitForLSN") == 0 && conn->flight.first)
        conn->flight.first->doubtful = true;
}

/* ---- time --------------------------------------------------------------------------------------- */

static uint64_t flight_limit(const tn_pg_req *req)
{
    uint64_t by_patience = req->patience_ns && req->patience_ns < UINT64_MAX - req->sent_ns
                               ? req->sent_ns + req->patience_ns
                               : UINT64_MAX;
    return by_patience < req->deadline_ns ? by_patience : req->deadline_ns;
}

/* The head of the flight is what the server works on; those behind are measured when they get there.
 * Those that wait have no connection: a look now and then is enough. */
static uint64_t next_limit(const tn_pg_conn *conn)
{
    uint64_t at = conn->flight.first ? flight_limit(conn->flight.first) : UINT64_MAX;
    uint64_t look = conn->waiting.first ? now(conn) + LOOK_NS : UINT64_MAX;
    return look < at ? look : at;
}

static void end_waiting(tn_pg_conn *conn, uint64_t at)
{
    tn_pg_queue all = conn->waiting, late = {0};
    conn->waiting = (tn_pg_queue){0};
    for (tn_pg_req *req; (req = pop(&all));)
        push(req->wait_by_ns <= at ? &late : &conn->waiting, req);
    for (tn_pg_req *req; (req = pop(&late));)
        end_unsent(conn, req, "no connection in time");
}

static void bury(tn_pg_req *req, tn_pg_end how, const tn_error *err, const char *sqlstate)
{
    (void)how, (void)err, (void)sqlstate;
    free(req);
}

/* The time of the first in flight is up: it ends, and the connection lives on if the server stops working on it
 * soon.  What takes its place swallows the answer. */
static bool cancel_head(tn_pg_conn *conn)
{
    tn_pg_req *head = conn->flight.first, *place = calloc(1, sizeof *place);
    if (!place || !conn->cancel || !tn_pg_enqueue(conn->pool, conn, conn->cancel, true)) {
        free(place);
        return false;
    }
    conn->cancel = PQgetCancel(conn->db); /* the other is the job's */
    *place = (tn_pg_req){.deadline_ns = UINT64_MAX,
                         .patience_ns = CANCEL_GRACE_NS,
                         .done = bury,
                         .next = head->next,
                         .sent_ns = now(conn),
                         .index = head->index};
    conn->flight.first = place;
    if (conn->flight.last == head)
        conn->flight.last = place;
    tn_error err = {0};
    tn_pg_error(&err, TN_EUNAVAILABLE, "the server did not answer before the deadline");
    end(head, TN_PG_LOST, &err);
    return true;
}

static void on_limit(void *arg)
{
    tn_pg_conn *conn = arg;
    conn->host->timer_stop(conn->limit);
    conn->limit = NULL;
    conn->depth++;
    uint64_t at = now(conn);
    tn_pg_req *head = conn->flight.first;
    if (head && conn->db && flight_limit(head) <= at) {
        if (!(head->flags & TN_PG_CANCEL) || head->deadline_ns > at || !cancel_head(conn))
            mark_broken(conn, "no answer in time");
    }
    end_waiting(conn, at);
    leave(conn);
}

/* Armed lazily: a timer that fires early finds nothing and is set anew, so that no request moves it. */
static void arm_limit(tn_pg_conn *conn)
{
    if (!conn->flight.first && !conn->waiting.first)
        return;
    uint64_t at = next_limit(conn);
    if (at == UINT64_MAX || (conn->limit && conn->limit_at_ns <= at))
        return;
    if (conn->limit)
        conn->host->timer_stop(conn->limit);
    uint64_t from = now(conn);
    conn->limit_at_ns = at;
    conn->limit = conn->host->timer_start(conn->loop, at > from ? at - from : 0, on_limit, conn);
}

/* ---- coming and going --------------------------------------------------------------------------- */

static void stand(tn_pg_conn *conn, PGconn *db, void *session)
{
    conn->db = db;
    conn->session = session;
    conn->cancel = PQgetCancel(db);
    conn->watch_write = false;
    PQsetNoticeReceiver(db, on_notice, conn);
    conn->watch = conn->host->watch_fd(conn->loop, PQsocket(db), TN_FD_READ, on_ready, conn);
    if (!conn->watch) {
        mark_broken(conn, "the loop takes no further socket");
        conn->failures++;
        return;
    }
    if (conn->pool->m_connections)
        conn->host->metric_add(conn->pool->m_connections, 1);
    if (conn->said_ns)
        tn_pg_log(conn->pool, TN_LEVEL_INFO, "connection to %s is back", conn->pool->options.place);
    conn->said_ns = 0;
    conn->failures = 0;
    conn->stood_ns = now(conn);
    conn->why.text[0] = '\0';
    if (conn->driver->ready)
        conn->driver->ready(conn, conn->state);
    send_waiting(conn);
}

void tn_pg_connected(void *arg)
{
    tn_pg_job *job = arg;
    tn_pg_conn *conn = job->conn;
    conn->connecting = false;
    if (conn->closed) {
        PQfinish(job->db);
        free(job->session);
    } else {
        conn->depth++;
        if (job->db) {
            stand(conn, job->db, job->session);
        } else {
            conn->failures++;
            conn->why = job->err;
            uint64_t at = now(conn);
            if (conn->failures > 1 && at - conn->said_ns > SAY_EVERY_NS) {
                conn->said_ns = at;
                tn_pg_log(conn->pool, TN_LEVEL_WARN, "cannot connect to %s: %s",
                          conn->pool->options.place, job->err.text);
            }
            reconnect_later(conn);
        }
        leave(conn);
    }
    free(job);
    tn_pg_conn_unref(conn);
}

tn_pg_conn *tn_pg_conn_create(tn_pg_pool *pool, tn_loop *loop)
{
    tn_pg_conn *conn = calloc(1, sizeof *conn + pool->driver->state_size);
    if (!conn)
        return NULL;
    conn->pool = pool;
    conn->host = pool->host;
    conn->driver = pool->driver;
    conn->loop = loop;
    conn->random = pool->host->mono_ns() ^ (uintptr_t)conn;
    atomic_init(&conn->refs, 1);
    return conn;
}

void tn_pg_conn_start(tn_pg_conn *conn, PGconn *db, void *session)
{
    conn->depth++;
    if (db)
        stand(conn, db, session);
    else
        reconnect(conn);
    leave(conn);
}

void tn_pg_conn_close(tn_pg_conn *conn)
{
    if (conn->db && conn->pool->m_connections)
        conn->host->metric_add(conn->pool->m_connections, -1);
    conn->closed = true;
    conn->depth++;
    if (conn->retry)
        conn->host->timer_stop(conn->retry);
    if (conn->limit)
        conn->host->timer_stop(conn->limit);
    conn->retry = conn->limit = NULL;
    tn_pg_error(&conn->why, TN_EUNAVAILABLE, "closing");
    if (conn->db)
        drop(conn);
    else if (conn->driver->lost)
        conn->driver->lost(conn, conn->state);
    for (tn_pg_req *req; (req = pop(&conn->waiting));)
        end_unsent(conn, req, "closing");
    conn->depth--;
}

void tn_pg_conn_unref(tn_pg_conn *conn)
{
    if (atomic_fetch_sub(&conn->refs, 1) == 1)
        free(conn);
}

bool tn_pg_is_ready(const tn_pg_conn *conn) { return conn->db && !conn->broken; }
void *tn_pg_state(tn_pg_conn *conn) { return conn->state; }
void *tn_pg_session(tn_pg_conn *conn) { return conn->session; }
tn_loop *tn_pg_loop(const tn_pg_conn *conn) { return conn->loop; }
tn_pg_pool *tn_pg_pool_of(const tn_pg_conn *conn) { return conn->pool; }
