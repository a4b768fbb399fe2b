/* SPDX-License-Identifier: MIT */
/* What the mysql drivers share, compiled into each of them.
 *
 *   options.c  the subtree "sql" of the configuration
 *   pool.c     memory that goes all at once
 *   text.c     statements as text: escaping is done here and nowhere else
 *   conn.c     one connection: opening it with a look at the server, running statements, errors in our words
 *   schema.c   setup, update, version, check and dump of the tables
 *
 * A connection belongs to one thread, which may wait: all waiting has a deadline (the library's
 * non-blocking calls under a poll of ours).  Nothing here runs on an event loop. */
#ifndef TN_MS_H
#define TN_MS_H

#include <mysql.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/plugin.h>

#define MS_MS UINT64_C(1000000)
#define MS_SEC UINT64_C(1000000000)

tn_status ms_error(tn_error *err, tn_status code, int vendor, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- options.c ---------------------------------------------------------------------------------- */
#define MS_CONFIG_KEYS \
    "sql.connectAddr string 127.0.0.1:3306 - host:port of the database, or several with commas " \
    "between them; with connectProtocol unix the socket's path\n" \
    "sql.connectProtocol string tcp - tcp or unix\n" \
    "sql.databaseName string - - the database that holds the tables\n" \
    "sql.user string - - who logs in\n" \
    "sql.password secret - - the password\n" \
    "sql.maxConns int 20 - connections of this process at most\n" \
    "sql.connectTimeout duration 5s - for a connection to be ready\n" \
    "sql.tls.enabled bool false - encrypt, or fail\n" \
    "sql.tls.caFile string - - certificates that may have signed the server's\n" \
    "sql.tls.certFile string - - certificate to show to the server\n" \
    "sql.tls.keyFile string - - its key\n" \
    "sql.tls.enableHostVerification bool true - the server's certificate must be valid for its " \
    "name\n" \
    "sql.tls.serverName string - - the name the certificate must have, when not connectAddr's\n" \
    "sql.autoSetup bool false - make or update the schema at the start\n" \
    "sql.allowVolatile bool false - start although the server may lose what it has acknowledged\n"

#define MS_ADDRS_MAX 8u
typedef struct ms_addr {
    char *host; /* or the path of a socket */
    unsigned port;
} ms_addr;
typedef struct ms_options {
    ms_addr addrs[MS_ADDRS_MAX];
    size_t n_addrs;
    char *database, *user, *password;
    char *ca, *cert, *key, *server_name; /* NULL: not given */
    bool unix_socket, tls, verify, allow_volatile, auto_setup;
    uint32_t max_conns;
    uint64_t connect_timeout_ns;
} ms_options;
tn_status ms_options_read(const tn_host *host, const tn_config *cfg, ms_options *out,
                          tn_error *err);
void ms_options_done(ms_options *options);
/* An optional number of the subtree with its bounds; *value holds the default. */
tn_status ms_option_i64(const tn_host *host, const tn_config *cfg, const char *key, int64_t least,
                        int64_t most, int64_t *value, tn_error *err);

/* ---- text.c ------------------------------------------------------------------------------------- */
typedef struct ms_text {
    char *p;
    size_t n, cap;
    bool failed; /* memory ran out; what follows is ignored */
} ms_text;
void ms_put(ms_text *t, const char *p, size_t n);
void ms_puts(ms_text *t, const char *s);
void ms_putf(ms_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ms_put_u64(ms_text *t, uint64_t n);
/* A binary string literal, whatever the bytes are (sessions have no NO_BACKSLASH_ESCAPES). */
void ms_put_bytes(ms_text *t, const void *p, size_t n);
size_t ms_bytes_size(const void *p, size_t n); /* of that literal */
void ms_text_done(ms_text *t);

/* ---- pool.c ------------------------------------------------------------------------------------- */
typedef struct ms_pool {
    struct ms_chunk *chunks;
    size_t used;
    bool failed;
} ms_pool;
void *ms_pool_get(ms_pool *pool, size_t n); /* NULL: no memory, and failed is set */
void ms_pool_reset(ms_pool *pool);          /* keeps one chunk for the next time */
void ms_pool_done(ms_pool *pool);

/* ---- conn.c ------------------------------------------------------------------------------------- */
typedef struct ms_conn {
    const tn_host *host;
    const void *who; /* for the log */
    const ms_options *options;
    MYSQL *my;                /* NULL: not connected */
    bool durable_reported;    /* that the server is volatile was logged */
    size_t addr_at;           /* the address that answered last */
    uint64_t thread_id;       /* of the connection at the server */
    uint64_t server_began_ns; /* monotonic, roughly: tells a restarted server */
    uint64_t lost_thread_id, lost_server_began_ns; /* of one that was given up: 0 when ended */
    bool mariadb;
    size_t packet_max; /* a statement may have so many bytes */
    uint64_t retry_at_ns, pause_ns;
} ms_conn;

typedef enum ms_fault {
    MS_FINE,
    MS_SQL,  /* the server refused a statement; the transaction is still the connection's */
    MS_LOST, /* no answer: what was sent may have been done; the connection is closed */
} ms_fault;

/* What the statements of one text answered, in order. */
#define MS_RESULTS_MAX 12u
typedef struct ms_reply {
    size_t n; /* statements that were done; with MS_SQL: which one was refused */
    MYSQL_RES *rows[MS_RESULTS_MAX];
    uint64_t affected[MS_RESULTS_MAX];
} ms_reply;

void ms_library_init(void); /* [main], before anything else here */
void ms_conn_init(ms_conn *conn, const tn_host *host, const void *who, const ms_options *options);
/* One attempt at each address; the session is then as the drivers want it, and the server was found
 * durable, writable and not too old.  TN_EUNAVAILABLE without an attempt while it is not yet time for
 * the next one. */
tn_status ms_connect(ms_conn *conn, uint64_t deadline_ns, tn_error *err);
/* Without looking for tables: connects also when the database is not there yet. */
tn_status ms_connect_bare(ms_conn *conn, bool with_database, uint64_t deadline_ns, tn_error *err);
void ms_disconnect(ms_conn *conn);
/* Runs the statements of one text in one round trip.  err->vendor_code is the server's number. */
ms_fault ms_run(ms_conn *conn, const ms_text *sql, uint64_t deadline_ns, ms_reply *reply,
                tn_error *err);
ms_fault ms_run_z(ms_conn *conn, const char *sql, uint64_t deadline_ns, ms_reply *reply,
                  tn_error *err);
void ms_reply_done(ms_reply *reply);
bool ms_is_retry(const tn_error *err); /* a deadlock or a lock that was not had in time */
/* Number of a column; 0 for NULL. */
uint64_t ms_u64(MYSQL_ROW row, unsigned column);
void ms_log(const ms_conn *conn, int32_t level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* When waiting for a connection ends: the soonest of the next attempt and the deadline. */
void ms_sleep_until(const tn_host *host, uint64_t mono_ns);

/* ---- schema.c ----------------------------------------------------------------------------------- */
typedef struct ms_schema {
    const char *component; /* "persistence" */
    uint32_t newest;
    const char *const *versions; /* versions[i]: the statements from version i to i+1 */
} ms_schema;
tn_status ms_schema_run(const tn_host *host, const tn_config *cfg, const ms_schema *schema,
                        tn_schema_req *req, tn_error *err);
/* With autoSetup: brings the schema to the newest version. */
tn_status ms_schema_auto(const tn_host *host, const tn_config *cfg, const ms_options *options,
                         const ms_schema *schema, tn_error *err);
/* The stored version must be the newest this driver knows; else err says both and what to type. */
tn_status ms_schema_expect(ms_conn *conn, const ms_schema *schema, tn_error *err);

#endif
