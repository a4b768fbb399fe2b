/* SPDX-License-Identifier: MIT */
/* The pool: what all connections share, and the two threads that do what may block for them: connecting
 * with everything a fresh session needs, and sending cancels. */
#include "private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tn_pg_log(const tn_pg_pool *pool, int32_t level, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n > 0)
        pool->host->log(pool->inst, level, text,
                        (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

/* ---- a fresh session ---------------------------------------------------------------------------- */

static void ignore_notice(void *arg, const PGresult *result) { (void)arg, (void)result; }

static tn_status check_schema(PGconn *db, const tn_pg_pool *pool, tn_error *err)
{
    const tn_pg_driver *driver = pool->driver;
    uint32_t stored = 0;
    if (!driver->n_schema)
        return TN_OK;
    tn_status status = tn_pg_schema_version(db, driver->component, &stored, err);
    if (status != TN_OK || stored == driver->n_schema)
        return status;
    if (stored < driver->n_schema && pool->options.auto_setup)
        return tn_pg_schema_update(db, &pool->options, driver, err);
    if (stored > driver->n_schema)
        return tn_pg_error(err, TN_EINVALID,
                           "%s holds the %s schema in version %u, this server wants %u\n"
                           "    fix: run the newer server that made it",
                           pool->options.place, driver->component, stored, driver->n_schema);
    return tn_pg_error(err, TN_EINVALID,
                       "%s holds the %s schema in version %u, this server wants %u\n"
                       "    fix: tenonctl schema %s --config FILE",
                       pool->options.place, driver->component, stored, driver->n_schema,
                       stored ? "update" : "setup");
}

/* NULL: err says why. */
static PGconn *make_session(const tn_pg_pool *pool, void **session, tn_error *err)
{
    const tn_pg_driver *driver = pool->driver;
    PGconn *db = tn_pg_connect(&pool->options, err);
    if (!db)
        return NULL;
    PQsetNoticeReceiver(db, ignore_notice, NULL);
    tn_status status = check_schema(db, pool, err);
    if (status == TN_OK && driver->session_sql) {
        PGresult *r = tn_pg_exec(db, driver->session_sql, err);
        status = r ? TN_OK : err->code;
        PQclear(r);
    }
    for (size_t i = 0; status == TN_OK && i < driver->n_statements; i++) {
        PGresult *r =
            PQsendPrepare(db, driver->statements[i].name, driver->statements[i].sql, 0, NULL)
                ? tn_pg_exec_result(db, err)
                : NULL;
        if (!r)
            status =
                err->code ? err->code : tn_pg_error(err, TN_EUNAVAILABLE, "%s", PQerrorMessage(db));
        PQclear(r);
    }
    if (status == TN_OK && driver->setup)
        status = driver->setup(pool->host, db, session, err);
    if (status == TN_OK && !PQenterPipelineMode(db))
        status = tn_pg_error(err, TN_EUNAVAILABLE, "%s", PQerrorMessage(db));
    if (status == TN_OK)
        return db;
    free(*session);
    *session = NULL;
    PQfinish(db);
    return NULL;
}

/* ---- threads ------------------------------------------------------------------------------------ */

static void do_job(tn_pg_pool *pool, tn_pg_job *job)
{
    tn_pg_conn *conn = job->conn;
    if (job->cancel) {
        char ignored[256];
        PQcancel(job->cancel, ignored, sizeof ignored);
        PQfreeCancel(job->cancel);
        tn_pg_conn_unref(conn);
        free(job);
        return;
    }
    job->db = make_session(pool, &job->session, &job->err);
    if (pool->host->post(conn->loop, tn_pg_connected, job) == TN_OK)
        return;
    PQfinish(job->db);
    free(job->session);
    tn_pg_conn_unref(conn);
    free(job);
}

static void *thread_main(void *arg)
{
    tn_pg_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->head && !pool->stopping)
            pthread_cond_wait(&pool->wake, &pool->lock);
        tn_pg_job *job = pool->head;
        if (!job)
            break;
        pool->head = job->next;
        if (!pool->head)
            pool->tail = NULL;
        bool stopping = pool->stopping;
        pthread_mutex_unlock(&pool->lock);
        if (stopping && !job->cancel) {
            tn_pg_conn_unref(job->conn);
            free(job);
        } else {
            do_job(pool, job);
        }
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

bool tn_pg_enqueue(tn_pg_pool *pool, tn_pg_conn *conn, PGcancel *cancel, bool front)
{
    tn_pg_job *job = calloc(1, sizeof *job);
    if (!job)
        return false;
    job->conn = conn;
    job->cancel = cancel;
    atomic_fetch_add(&conn->refs, 1);
    pthread_mutex_lock(&pool->lock);
    if (front || !pool->head) {
        job->next = pool->head;
        pool->head = job;
        if (!pool->tail)
            pool->tail = job;
    } else {
        pool->tail->next = job;
        pool->tail = job;
    }
    pthread_cond_signal(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    return true;
}

/* ---- life [main] -------------------------------------------------------------------------------- */

static void destroy(tn_pg_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    while (pool->n_threads)
        pthread_join(pool->threads[--pool->n_threads], NULL);
    PQfinish(pool->first);
    free(pool->first_session);
    tn_pg_options_done(&pool->options);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->wake);
    free(pool);
}

tn_status tn_pg_pool_open(const tn_host *host, tn_pg_options *options, const tn_pg_driver *driver,
                          void *inst, tn_pg_pool **out, tn_error *err)
{
    tn_error local = {0};
    err = err ? err : &local;
    if (!PQisthreadsafe())
        return tn_pg_error(err, TN_EINVALID, "this libpq is not built for threads");
    tn_pg_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return tn_pg_error(err, TN_EUNAVAILABLE, "out of memory");
    pool->host = host;
    pool->driver = driver;
    pool->inst = inst;
    pool->options = *options;
    *options = (tn_pg_options){0};
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->m_connections =
        host->metric(inst, "connections", TN_METRIC_GAUGE, "Connections that stand");
    pool->m_losses = host->metric(inst, "connection_losses", TN_METRIC_COUNTER,
                                  "Connections that broke or were given up");
    pool->m_requests =
        host->metric(inst, "requests", TN_METRIC_COUNTER, "Requests sent, each a transaction");
    tn_error why = {0};
    pool->first = make_session(pool, &pool->first_session, &why);
    tn_status status = TN_OK;
    if (!pool->first && why.code == TN_EUNAVAILABLE)
        tn_pg_log(pool, TN_LEVEL_WARN, "cannot connect to %s yet: %s", pool->options.place,
                  why.text);
    else if (!pool->first)
        *err = why, status = why.code;
    while (status == TN_OK && pool->n_threads < TN_PG_THREADS) {
        if (pthread_create(&pool->threads[pool->n_threads], NULL, thread_main, pool) != 0)
            status = tn_pg_error(err, TN_EUNAVAILABLE, "cannot start a thread");
        else
            pool->n_threads++;
    }
    if (status != TN_OK) {
        destroy(pool);
        return status;
    }
    *out = pool;
    return TN_OK;
}

void tn_pg_pool_close(tn_pg_pool *pool)
{
    if (pool)
        destroy(pool);
}

void *tn_pg_pool_inst(const tn_pg_pool *pool) { return pool->inst; }
const tn_pg_options *tn_pg_pool_options(const tn_pg_pool *pool) { return &pool->options; }

/* ---- links [loop] ------------------------------------------------------------------------------- */

tn_status tn_pg_attach(tn_pg_pool *pool, tn_loop *loop, tn_pg_link **out, tn_error *err)
{
    tn_pg_link *link = calloc(1, sizeof *link);
    if (!link)
        return tn_pg_error(err, TN_EUNAVAILABLE, "out of memory");
    link->pool = pool;
    link->loop = loop;
    PGconn *db = NULL;
    void *session = NULL;
    pthread_mutex_lock(&pool->lock);
    uint32_t most =
        pool->options.max_conns < TN_PG_CONNS_MAX ? pool->options.max_conns : TN_PG_CONNS_MAX;
    if (pool->n_conns < most) {
        link->conn = tn_pg_conn_create(pool, loop);
        link->owner = link->conn != NULL;
        if (link->conn)
            pool->conns[pool->n_conns++] = link->conn;
        db = pool->first;
        session = pool->first_session;
        pool->first = NULL;
        pool->first_session = NULL;
    } else {
        link->conn = pool->conns[pool->n_links % pool->n_conns];
        atomic_fetch_add(&link->conn->refs, 1);
    }
    pool->n_links++;
    pthread_mutex_unlock(&pool->lock);
    if (!link->conn) {
        PQfinish(db);
        free(session);
        free(link);
        return tn_pg_error(err, TN_EUNAVAILABLE, "out of memory");
    }
    if (link->owner)
        tn_pg_conn_start(link->conn, db, session);
    *out = link;
    return TN_OK;
}

void tn_pg_detach(tn_pg_link *link)
{
    if (!link)
        return;
    if (link->owner) {
        tn_pg_conn_close(link->conn);
        pthread_mutex_lock(&link->pool->lock);
        for (uint32_t i = 0; i < link->pool->n_conns; i++)
            if (link->pool->conns[i] == link->conn)
                link->pool->conns[i] = link->pool->conns[--link->pool->n_conns];
        pthread_mutex_unlock(&link->pool->lock);
    }
    tn_pg_conn_unref(link->conn);
    free(link);
}

tn_pg_conn *tn_pg_conn_of(const tn_pg_link *link) { return link->conn; }

tn_status tn_pg_run(tn_pg_link *link, void (*fn)(void *), void *arg)
{
    if (link->loop != link->conn->loop)
        return link->pool->host->post(link->conn->loop, fn, arg);
    fn(arg);
    return TN_OK;
}
