/* SPDX-License-Identifier: MIT */
/* Between pool.c and conn.c. */
#ifndef TN_LIB_PG_PRIVATE_H
#define TN_LIB_PG_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "pg.h"

#define TN_PG_THREADS 2
#define TN_PG_CONNS_MAX 64

typedef struct tn_pg_job { /* for the threads: a connection to make, or a cancel to send */
    struct tn_pg_job *next;
    tn_pg_conn *conn; /* one reference */
    PGcancel *cancel;
    PGconn *db; /* result; NULL: failed */
    void *session;
    tn_error err;
} tn_pg_job;

struct tn_pg_pool {
    const tn_host *host;
    const tn_pg_driver *driver;
    tn_pg_options options;
    void *inst;
    PGconn *first; /* made by open, for the first loop */
    void *first_session;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    tn_pg_job *head, *tail;
    bool stopping;
    pthread_t threads[TN_PG_THREADS];
    uint32_t n_threads;

    tn_pg_conn *conns[TN_PG_CONNS_MAX];
    uint32_t n_conns, n_links;

    tn_metric *m_connections, *m_losses, *m_requests;
};

struct tn_pg_link {
    tn_pg_pool *pool;
    tn_loop *loop;
    tn_pg_conn *conn;
    bool owner;
};

typedef struct tn_pg_queue {
    tn_pg_req *first, *last;
} tn_pg_queue;

struct tn_pg_conn {
    tn_pg_pool *pool; /* not to be touched once closed */
    const tn_host *host;
    const tn_pg_driver *driver;
    tn_loop *loop;
    atomic_int refs;
    bool closed, connecting, broken;
    PGconn *db; /* NULL: none */
    void *session;
    PGcancel *cancel;
    tn_watch *watch;
    bool watch_write;
    tn_pg_queue waiting, flight;
    int depth; /* of our own functions on the stack: what is broken is dropped at 0 */
    tn_timer *retry, *limit;
    uint64_t limit_at_ns;
    uint32_t failures; /* connects that failed in a row */
    uint32_t short_lives;
    uint64_t stood_ns, tried_ns;
    uint64_t random;
    uint64_t said_ns; /* the log is not flooded */
    tn_error why;
    _Alignas(max_align_t) uint8_t state[];
};

/* pool.c */
bool tn_pg_enqueue(tn_pg_pool *pool, tn_pg_conn *conn, PGcancel *cancel, bool front);
void tn_pg_log(const tn_pg_pool *pool, int32_t level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* conn.c */
tn_pg_conn *tn_pg_conn_create(tn_pg_pool *pool, tn_loop *loop);
void tn_pg_conn_start(tn_pg_conn *conn, PGconn *db, void *session); /* db NULL: connects */
void tn_pg_conn_close(tn_pg_conn *conn);
void tn_pg_conn_unref(tn_pg_conn *conn);
void tn_pg_connected(void *job); /* on the loop */

#endif
