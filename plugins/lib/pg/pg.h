/* SPDX-License-Identifier: MIT */
/* What drivers on PostgreSQL share: the settings, connections that a host loop drives and that come back
 * by themselves, one pipeline of requests a connection, the versions of a schema, errors in the
 * contract's words.  Each driver compiles these sources into itself.
 *
 * A driver
 *   1. describes itself in a static tn_pg_driver (prepared statements, session settings, schema);
 *   2. open:   tn_pg_options_read, tn_pg_pool_open (connects once, checks server and schema);
 *   3. attach: tn_pg_attach gives the loop its link.  The first maxConns loops own a connection each, further
 *      ones share these: tn_pg_run takes a piece of work to the loop that owns the connection;
 *   4. there, tn_pg_submit hands over a request: statements that travel together with one sync behind them,
 *      which PostgreSQL runs as one transaction.  Requests are answered in the order of submission.
 *
 *   options.c  settings to libpq's parameters
 *   session.c  connecting and all else that blocks; the server's safety; errors
 *   schema.c   setup, update, version, check, dump
 *   pool.c     the threads that connect and cancel, the pool
 *   conn.c     one connection on its loop
 *   wire.c     binary parameters and results */
#ifndef TN_LIB_PG_H
#define TN_LIB_PG_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/plugin.h>

#define TN_PG_MS UINT64_C(1000000)
#define TN_PG_SEC UINT64_C(1000000000)

typedef struct tn_pg_options tn_pg_options;
typedef struct tn_pg_pool tn_pg_pool;
typedef struct tn_pg_conn tn_pg_conn;
typedef struct tn_pg_link tn_pg_link;
typedef struct tn_pg_req tn_pg_req;

/* ---- options.c ---------------------------------------------------------------------------------- */

/* Lines for tn_plugin.config_keys. */
#define TN_PG_CONFIG_KEYS \
    "sql.connectAddr string - - HOST:PORT of the server, or several with commas between " \
    "(fail-over); " \
    "a path: the folder of a local socket\n" \
    "sql.databaseName string - - the database\n" \
    "sql.user string - - who connects; left out: as libpq does\n" \
    "sql.password secret - - the password; left out: as libpq does (passfile)\n" \
    "sql.maxConns int 20 - connections of this process at most; one a loop is used\n" \
    "sql.schemaName string - - the schema that holds the tables; left out: the user's " \
    "search_path\n" \
    "sql.connectAttributes map - - further parameters as libpq names them: service, sslmode, " \
    "...\n" \
    "sql.tls.enabled bool false - TLS to the server\n" \
    "sql.tls.caFile string - - who may have signed the server's certificate\n" \
    "sql.tls.certFile string - - this client's certificate\n" \
    "sql.tls.keyFile string - - and its key\n" \
    "sql.tls.enableHostVerification bool true - the certificate must name the host " \
    "(verify-full)\n" \
    "sql.tls.serverName string - - the name in the certificate when it is not the address\n" \
    "sql.autoSetup bool false - set the schema up, or bring it up to date, at start\n" \
    "sql.allowVolatile bool false - go on with a server that may lose commits (fsync off, ...)\n"

struct tn_pg_options {
    const char **keywords, **values; /* NULL-ended, for PQconnectdbParams */
    size_t n;
    uint32_t max_conns;
    bool auto_setup, allow_volatile;
    char *schema_name; /* NULL: the search_path */
    char place[160];   /* "host:port/database", for messages */
};
/* [main] */
tn_status tn_pg_options_read(const tn_host *host, const tn_config *cfg, tn_pg_options *out,
                             tn_error *err);
void tn_pg_options_done(tn_pg_options *options); /* also of a zeroed one */

/* ---- session.c ---------------------------------------------------------------------------------- */

typedef struct tn_pg_statement {
    const char *name, *sql;
} tn_pg_statement;

/* What a driver is; static. */
typedef struct tn_pg_driver {
    const char *component;             /* "persistence", "visibility": whose row of tn_schema */
    const char *session_sql;           /* SETs of each session, or NULL */
    const tn_pg_statement *statements; /* prepared anew at each connect */
    size_t n_statements;
    const char *const *schema; /* schema[i] brings version i to i + 1 */
    uint32_t n_schema;
    /* [any] After each connect, before the connection is handed to its loop; may block and use
     * tn_pg_exec.  *session: memory of malloc that belongs to this connection, see tn_pg_session. */
    tn_status (*setup)(const tn_host *host, PGconn *db, void **session, tn_error *err);
    /* [owner's loop] The connection stands, for the first time or again; it is lost.  On loss the requests
     * are ended after this call.  Both optional. */
    void (*ready)(tn_pg_conn *conn, void *state);
    void (*lost)(tn_pg_conn *conn, void *state);
    size_t state_size; /* memory of the driver's own for each connection, zeroed: tn_pg_state */
} tn_pg_driver;

/* Blocking, for setup functions, start-up and tools.  NULL: failed, err says why.  Only results of
 * SELECT and of commands that worked are returned; several statements in one text: the last result. */
PGresult *tn_pg_exec(PGconn *db, const char *sql, tn_error *err);
PGresult *tn_pg_exec_params(PGconn *db, const char *sql, int n, const char *const *values,
                            tn_error *err);             /* text parameters and results */
PGresult *tn_pg_exec_result(PGconn *db, tn_error *err); /* of what was sent */
/* Connects and makes the session safe (read committed, our search_path); without statements. */
PGconn *tn_pg_connect(const tn_pg_options *options, tn_error *err);

tn_status tn_pg_error(tn_error *err, tn_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* By SQLSTATE: what a failed statement (surely rolled back) means.  UNAVAILABLE: worth trying again. */
tn_status tn_pg_status_of(const char *sqlstate);
/* Fills err from a failed result; its status. */
tn_status tn_pg_explain(const PGresult *result, const char *doing, tn_error *err);

/* ---- schema.c ----------------------------------------------------------------------------------- */

/* All of tn_plugin.schema. */
tn_status tn_pg_schema(const tn_host *host, const tn_config *cfg, const tn_pg_driver *driver,
                       tn_schema_req *req, tn_error *err);
/* 0: none.  Blocking. */
tn_status tn_pg_schema_version(PGconn *db, const char *component, uint32_t *out, tn_error *err);
/* Brings it up to the newest; blocking. */
tn_status tn_pg_schema_update(PGconn *db, const tn_pg_options *options, const tn_pg_driver *driver,
                              tn_error *err);

/* ---- pool.c ------------------------------------------------------------------------------------- */

/* [main] Takes the options over (they are zeroed).  Connects, checks the server and the schema; the connection is
 * kept for the first loop.  A server that is away is no failure: requests say UNAVAILABLE until it comes. */
tn_status tn_pg_pool_open(const tn_host *host, tn_pg_options *options, const tn_pg_driver *driver,
                          void *inst, tn_pg_pool **out, tn_error *err);
void tn_pg_pool_close(tn_pg_pool *pool); /* after the last detach */
void *tn_pg_pool_inst(const tn_pg_pool *pool);
const tn_pg_options *tn_pg_pool_options(const tn_pg_pool *pool);

/* [loop] */
tn_status tn_pg_attach(tn_pg_pool *pool, tn_loop *loop, tn_pg_link **out, tn_error *err);
void tn_pg_detach(tn_pg_link *link);
tn_pg_conn *tn_pg_conn_of(const tn_pg_link *link);
/* [loop of the link] Runs fn(arg) on the loop that owns the link's connection: at once when it is this
 * one.  TN_OK, or TN_EUNAVAILABLE: it will not run. */
tn_status tn_pg_run(tn_pg_link *link, void (*fn)(void *), void *arg);

/* ---- conn.c, all on the owner's loop ------------------------------------------------------------ */

typedef enum tn_pg_end {
    TN_PG_DONE,   /* committed; all results were given */
    TN_PG_FAILED, /* the server refused: surely rolled back */
    TN_PG_UNSENT, /* surely never seen by the server: no connection in time, or closing */
    TN_PG_LOST    /* sent, and the connection broke before the answer: perhaps committed */
} tn_pg_end;

/* A request that reads, or that may as well happen twice: sent again after a loss, a deadlock, a fail-over,
 * until its deadline.  It ends as TN_PG_LOST only when the deadline came. */
#define TN_PG_REPEAT 1u
/* Goes before those that wait. */
#define TN_PG_FIRST 2u
/* At its deadline it ends at once, and the server is asked to cancel it (PQcancel). */
#define TN_PG_CANCEL 4u
/* Waits for a connection until its deadline; others are told sooner that there is none. */
#define TN_PG_PATIENT 8u

/* Embedded in the driver's own structure; its memory lives until done.  Zero what is not named here. */
struct tn_pg_req {
    uint32_t flags;
    uint64_t deadline_ns; /* monotonic; UINT64_MAX: none */
    uint64_t
        patience_ns; /* in flight without an answer for so long: the connection is given up; 0: until
                             the deadline */
    /* PQsendQueryPrepared once or more (the sync is the pool's); false: libpq would not. May come again
     * (REPEAT): results of the time before are void. */
    bool (*send)(tn_pg_req *req, PGconn *db);
    /* One statement's result (tuples or command): index counts from 0.  Errors don't come here.  The
     * result is cleared afterwards. */
    void (*result)(tn_pg_req *req, uint32_t index, PGresult *result);
    /* Exactly once.  err and sqlstate ("" when the server said none) for all but DONE; err->code is the
     * status that fits (UNAVAILABLE, ..., UNCERTAIN for LOST). */
    void (*done)(tn_pg_req *req, tn_pg_end end, const tn_error *err, const char *sqlstate);
    /* conn.c's */
    tn_pg_req *next;
    uint64_t sent_ns, wait_by_ns;
    uint32_t index;
    bool failed, doubtful;
    char sqlstate[6];
    tn_error err;
};
void tn_pg_submit(tn_pg_conn *conn, tn_pg_req *req);
/* Gives the connection up and makes a new one (its session is of no use any more). */
void tn_pg_give_up(tn_pg_conn *conn, const char *why);
bool tn_pg_is_ready(const tn_pg_conn *conn);
void *tn_pg_state(tn_pg_conn *conn);   /* driver->state_size bytes */
void *tn_pg_session(tn_pg_conn *conn); /* what setup made; NULL while there is no connection */
tn_loop *tn_pg_loop(const tn_pg_conn *conn);
tn_pg_pool *tn_pg_pool_of(const tn_pg_conn *conn);

/* ---- wire.c ------------------------------------------------------------------------------------- */

#define TN_PG_OID_BYTEA 17u
#define TN_PG_OID_INT8 20u
#define TN_PG_OID_INT4 23u
#define TN_PG_OID_TEXT 25u
#define TN_PG_OID_FLOAT8 701u

/* Binary parameters of one statement, growing in one buffer.  After a failure (no memory, too many) it stays
 * failed and tn_pg_params_send answers false. */
typedef struct tn_pg_params {
    uint8_t *buf;
    size_t n, cap;
    size_t array_at; /* of the array being built */
    uint32_t array_n;
    struct {
        size_t at;
        int length;
        bool null, borrowed;
        const uint8_t *p;
    } slot[64];
    int n_slots;
    bool failed;
} tn_pg_params;
void tn_pg_params_clear(tn_pg_params *params); /* keeps the buffer */
void tn_pg_params_done(tn_pg_params *params);
void tn_pg_put_null(tn_pg_params *params);
void tn_pg_put_i32(tn_pg_params *params, int32_t value);
void tn_pg_put_i64(tn_pg_params *params, int64_t value);
void tn_pg_put_f64(tn_pg_params *params, double value);
void tn_pg_put_bool(tn_pg_params *params, bool value);
void tn_pg_put_blob(tn_pg_params *params, const void *p, size_t n); /* bytea or text; not copied */
/* An array parameter: begin, its elements, end. */
void tn_pg_array_begin(tn_pg_params *params, uint32_t element_oid);
void tn_pg_array_null(tn_pg_params *params);
void tn_pg_array_i32(tn_pg_params *params, int32_t value);
void tn_pg_array_i64(tn_pg_params *params, int64_t value);
void tn_pg_array_f64(tn_pg_params *params, double value);
void tn_pg_array_blob(tn_pg_params *params, const void *p, size_t n);
/* An element in two or three pieces (a packed key): start with its length, then exactly so many bytes. */
void tn_pg_array_start(tn_pg_params *params, size_t n);
void tn_pg_array_bytes(tn_pg_params *params, const void *p, size_t n);
void tn_pg_array_end(tn_pg_params *params);
bool tn_pg_params_send(tn_pg_params *params, PGconn *db,
                       const char *statement); /* binary results */

/* Binary results. */
int64_t tn_pg_result_int(const PGresult *result, int row, int column); /* int2, int4, int8 */
tn_blob tn_pg_result_blob(const PGresult *result, int row,
                          int column); /* lives as long as the result */

#endif
