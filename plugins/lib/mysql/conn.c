/* SPDX-License-Identifier: MIT */
/* One connection to the database.  The library's calls are used in their non-blocking form and waited for
 * with poll(2), so that every wait ends at a deadline.  After a lost answer the connection is closed:
 * nothing is ever sent again on one whose state is not known. */
#include "ms.h"

#include <errmsg.h>
#include <errno.h>
#include <mysqld_error.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define PAUSE_LEAST_NS (50 * MS_MS)
#define PAUSE_MOST_NS (1000 * MS_MS)
#define PACKET_LEAST ((size_t)8 << 20) /* of the server: a commit of 4 MiB, escaped */
#define PACKET_ANSWER (1ul << 30)      /* ours */

/* ---- words -------------------------------------------------------------------------------------- */

tn_status ms_error(tn_error *err, tn_status code, int vendor, const char *fmt, ...)
{
    if (!err)
        return code;
    va_list args;
    va_start(args, fmt);
    err->code = code;
    err->vendor_code = vendor;
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    return code;
}

void ms_log(const ms_conn *conn, int32_t level, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n > 0)
        conn->host->log(conn->who, level, text,
                        (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

/* What a refusal means for the caller, when the statement surely left nothing. */
static tn_status status_of(unsigned number)
{
    switch (number) {
    case 145: /* crashed tables and pages */
    case 1194:
    case 1195:
    case 1712:
        return TN_EDATALOSS;
    case 1118: /* a row too large for the redo log */
    case ER_NET_PACKET_TOO_LARGE:
    case 1301: /* a result larger than max_allowed_packet */
        return TN_ETOOLARGE;
    case ER_DBACCESS_DENIED_ERROR:
    case ER_ACCESS_DENIED_ERROR:
    case 1698: /* access denied without a password */
    case ER_TABLEACCESS_DENIED_ERROR:
    case ER_COLUMNACCESS_DENIED_ERROR:
    case ER_SPECIFIC_ACCESS_DENIED_ERROR:
        return TN_EDENIED;
    case ER_PARSE_ERROR:
    case ER_BAD_FIELD_ERROR:
    case ER_NO_SUCH_TABLE:
    case ER_DATA_TOO_LONG:
        return TN_EINTERNAL;
    default:
        /* full disks, read-only, shutting down, too many connections, locks */
        return TN_EUNAVAILABLE;
    }
}

static tn_status tell(ms_conn *conn, const char *doing, tn_error *err)
{
    unsigned number = mysql_errno(conn->my);
    return ms_error(err, status_of(number), (int)number, "%s: %s (%u)", doing,
                    mysql_error(conn->my), number);
}

bool ms_is_retry(const tn_error *err)
{
    return err->vendor_code == ER_LOCK_DEADLOCK || err->vendor_code == ER_LOCK_WAIT_TIMEOUT;
}

/* ---- waiting ------------------------------------------------------------------------------------ */

void ms_sleep_until(const tn_host *host, uint64_t mono_ns)
{
    uint64_t now = host->mono_ns();
    if (now >= mono_ns)
        return;
    uint64_t ns = mono_ns - now;
    struct timespec t = {.tv_sec = (time_t)(ns / MS_SEC), .tv_nsec = (long)(ns % MS_SEC)};
    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}

/* Waits for what a call of the library asks for; how to go on with the call. */
static int await(ms_conn *conn, int want, uint64_t deadline_ns)
{
    for (;;) {
        uint64_t now = conn->host->mono_ns();
        int fd = (int)mysql_get_socket(conn->my);
        if (now >= deadline_ns) {
            /* The call must come to its end before the connection can be closed. */
            if (fd >= 0)
                shutdown(fd, SHUT_RDWR);
            return MYSQL_WAIT_TIMEOUT;
        }
        uint64_t left_ms = (deadline_ns - now) / MS_MS + 1;
        unsigned own_ms = want & MYSQL_WAIT_TIMEOUT ? mysql_get_timeout_value_ms(conn->my) : 0;
        if (own_ms && own_ms < left_ms)
            left_ms = own_ms;
        struct pollfd p = {.fd = fd};
        p.events = (short)((want & MYSQL_WAIT_READ ? POLLIN : 0) |
                           (want & MYSQL_WAIT_WRITE ? POLLOUT : 0) |
                           (want & MYSQL_WAIT_EXCEPT ? POLLPRI : 0));
        int n = poll(&p, 1, left_ms > 60000 ? 60000 : (int)left_ms);
        if (n < 0 && errno != EINTR)
            return MYSQL_WAIT_TIMEOUT;
        if (n > 0) {
            int got = (p.revents & (POLLIN | POLLHUP | POLLERR) ? MYSQL_WAIT_READ : 0) |
                      (p.revents & (POLLOUT | POLLHUP | POLLERR) ? MYSQL_WAIT_WRITE : 0) |
                      (p.revents & POLLPRI ? MYSQL_WAIT_EXCEPT : 0);
            if (got & want)
                return got & want;
            return got;
        }
        if (own_ms && left_ms == own_ms)
            return MYSQL_WAIT_TIMEOUT;
    }
}

/* ---- statements --------------------------------------------------------------------------------- */

void ms_reply_done(ms_reply *reply)
{
    for (size_t i = 0; i < MS_RESULTS_MAX; i++)
        if (reply->rows[i])
            mysql_free_result(reply->rows[i]);
    *reply = (ms_reply){0};
}

static ms_fault fault(ms_conn *conn, tn_error *err)
{
    unsigned number = mysql_errno(conn->my);
    tell(conn, "the database", err);
    bool ours = number >= CR_MIN_ERROR && number <= CR_MAX_ERROR;
    bool newer = number >= 5000 && number < 6000; /* of the library's later versions */
    /* A server that closes the connection with its answer was not there to the end either. */
    bool closing = number == ER_SERVER_SHUTDOWN || number == ER_NET_PACKET_TOO_LARGE ||
                   number == ER_CONNECTION_KILLED || number == ER_NET_READ_ERROR || number == 4031;
    if (!ours && !newer && !closing && number != 0)
        return MS_SQL;
    if (ours || newer)
        err->code = TN_EUNAVAILABLE;
    conn->lost_thread_id = conn->thread_id;
    conn->lost_server_began_ns = conn->server_began_ns;
    ms_disconnect(conn);
    return MS_LOST;
}

/* The rows of the statement that just answered. */
static ms_fault keep_rows(ms_conn *conn, uint64_t deadline_ns, ms_reply *reply, tn_error *err)
{
    if (mysql_field_count(conn->my) == 0) {
        if (reply->n < MS_RESULTS_MAX)
            reply->affected[reply->n] = mysql_affected_rows(conn->my);
        return MS_FINE;
    }
    MYSQL_RES *rows = NULL;
    int want = mysql_store_result_start(&rows, conn->my);
    while (want)
        want = mysql_store_result_cont(&rows, conn->my, await(conn, want, deadline_ns));
    if (!rows)
        return fault(conn, err);
    if (reply->n < MS_RESULTS_MAX)
        reply->rows[reply->n] = rows;
    else
        mysql_free_result(rows);
    return MS_FINE;
}

ms_fault ms_run(ms_conn *conn, const ms_text *sql, uint64_t deadline_ns, ms_reply *reply,
                tn_error *err)
{
    *reply = (ms_reply){0};
    if (sql->failed) {
        ms_error(err, TN_EUNAVAILABLE, 0, "out of memory");
        ms_disconnect(conn);
        return MS_LOST;
    }
    if (!conn->my) {
        ms_error(err, TN_EUNAVAILABLE, 0, "not connected to the database");
        return MS_LOST;
    }
    int failed = 0;
    int want = mysql_real_query_start(&failed, conn->my, sql->p, (unsigned long)sql->n);
    while (want)
        want = mysql_real_query_cont(&failed, conn->my, await(conn, want, deadline_ns));
    while (!failed) {
        ms_fault f = keep_rows(conn, deadline_ns, reply, err);
        if (f != MS_FINE)
            return f;
        reply->n++;
        want = mysql_next_result_start(&failed, conn->my);
        while (want)
            want = mysql_next_result_cont(&failed, conn->my, await(conn, want, deadline_ns));
        if (failed < 0)
            return MS_FINE;
    }
    return fault(conn, err);
}

ms_fault ms_run_z(ms_conn *conn, const char *sql, uint64_t deadline_ns, ms_reply *reply,
                  tn_error *err)
{
    ms_text text = {.p = (char *)(uintptr_t)sql, .n = strlen(sql)};
    return ms_run(conn, &text, deadline_ns, reply, err);
}

uint64_t ms_u64(MYSQL_ROW row, unsigned column)
{
    return row[column] ? strtoull(row[column], NULL, 10) : 0;
}

/* ---- opening ------------------------------------------------------------------------------------ */

void ms_conn_init(ms_conn *conn, const tn_host *host, const void *who, const ms_options *options)
{
    *conn = (ms_conn){.host = host, .who = who, .options = options, .pause_ns = PAUSE_LEAST_NS};
}

void ms_disconnect(ms_conn *conn)
{
    if (!conn->my)
        return;
    /* Not even a farewell may wait for a peer that doesn't read. */
    int fd = (int)mysql_get_socket(conn->my);
    if (fd >= 0 && mysql_errno(conn->my) != 0)
        shutdown(fd, SHUT_RDWR);
    mysql_close(conn->my);
    conn->my = NULL;
}

static tn_status prepare(ms_conn *conn, tn_error *err)
{
    const ms_options *o = conn->options;
    MYSQL *my = conn->my = mysql_init(NULL);
    if (!my)
        return ms_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    const unsigned long answer = PACKET_ANSWER, stack = 256 << 10;
    unsigned off = 0;
    unsigned protocol = o->unix_socket ? MYSQL_PROTOCOL_SOCKET : MYSQL_PROTOCOL_TCP;
    my_bool on = 1, verify = o->verify;
    mysql_options(my, MYSQL_OPT_NONBLOCK, &stack);
    mysql_options(my, MYSQL_OPT_MAX_ALLOWED_PACKET, &answer);
    mysql_options(my, MYSQL_OPT_LOCAL_INFILE, &off);
    mysql_options(my, MYSQL_OPT_PROTOCOL, &protocol);
    mysql_options(my, MYSQL_SET_CHARSET_NAME, "binary");
    mysql_optionsv(my, MYSQL_OPT_CONNECT_ATTR_ADD, "program_name", "tenon");
    if (!o->tls)
        return TN_OK;
    mysql_options(my, MYSQL_OPT_SSL_ENFORCE, &on);
    mysql_options(my, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);
    if (o->ca)
        mysql_options(my, MYSQL_OPT_SSL_CA, o->ca);
    if (o->cert)
        mysql_options(my, MYSQL_OPT_SSL_CERT, o->cert);
    if (o->key)
        mysql_options(my, MYSQL_OPT_SSL_KEY, o->key);
    return TN_OK;
}

/* A peer that is gone without a word is noticed while something is sent to it. */
static void watch_peer(MYSQL *my)
{
    int fd = (int)mysql_get_socket(my), on = 1, idle_s = 30;
    unsigned lost_ms = 20000;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &lost_ms, sizeof lost_ms);
}

/* The library checks the certificate for the name it dials (mysql->host).  For another name, that member is
 * changed once it is set: at the packet that asks for TLS, which is seen by a callback of the library's. */
struct st_ma_pvio;
extern int ma_pvio_register_callback(my_bool on,
                                     void (*callback)(struct st_ma_pvio *pvio, my_bool is_read,
                                                      const unsigned char *p, size_t n));
static _Thread_local struct dialing {
    MYSQL *my;
    const char *name;
} dialing;

static void before_packet(struct st_ma_pvio *pvio, my_bool is_read, const unsigned char *p,
                          size_t n)
{
    (void)pvio, (void)is_read, (void)p, (void)n;
    if (!dialing.name || !dialing.my->host || strcmp(dialing.my->host, dialing.name) == 0)
        return;
    char *name = strdup(dialing.name);
    if (!name)
        return; /* the name dialled is checked, and does not fit */
    free(dialing.my->host);
    dialing.my->host = name;
}

static void init_once(void)
{
    mysql_library_init(0, NULL, NULL);
    ma_pvio_register_callback(1, before_packet);
}

void ms_library_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
}

static tn_status dial(ms_conn *conn, const ms_addr *addr, bool with_database, uint64_t deadline_ns,
                      tn_error *err)
{
    const ms_options *o = conn->options;
    tn_status status = prepare(conn, err);
    if (status != TN_OK)
        return status;
    MYSQL *made = NULL;
    int want = mysql_real_connect_start(&made, conn->my, o->unix_socket ? "localhost" : addr->host,
                                        o->user, o->password, with_database ? o->database : NULL,
                                        addr->port, o->unix_socket ? addr->host : NULL,
                                        CLIENT_MULTI_STATEMENTS);
    dialing = (struct dialing){conn->my, o->tls ? o->server_name : NULL};
    while (want)
        want = mysql_real_connect_cont(&made, conn->my, await(conn, want, deadline_ns));
    dialing = (struct dialing){0};
    if (made) {
        if (!o->unix_socket)
            watch_peer(conn->my);
        conn->thread_id = mysql_thread_id(conn->my);
        return TN_OK;
    }
    char place[160];
    if (o->unix_socket)
        snprintf(place, sizeof place, "%s", addr->host);
    else
        snprintf(place, sizeof place, "%s:%u", addr->host, addr->port);
    unsigned number = mysql_errno(conn->my);
    status = ms_error(err, number >= CR_MIN_ERROR ? TN_EUNAVAILABLE : status_of(number),
                      (int)number, "cannot connect to the database at %s: %s (%u)", place,
                      mysql_error(conn->my), number);
    ms_disconnect(conn);
    return status;
}

static bool is_on(const char *value)
{
    return value && (strcmp(value, "1") == 0 || strcasecmp(value, "ON") == 0);
}

static tn_status check_version(const char *text, tn_error *err)
{
    unsigned major = 0, minor = 0;
    bool mariadb = strstr(text, "MariaDB") != NULL;
    sscanf(text, "%u.%u", &major, &minor);
    unsigned have = major * 100 + minor, need = mariadb ? 1002 : 507;
    if (have >= need)
        return TN_OK;
    return ms_error(err, TN_EINVALID, 0,
                    "the server is %s; MySQL 5.7 or later, or MariaDB 10.2 or later, is needed",
                    text);
}

/* Would an acknowledged commit survive a power cut? */
static tn_status check_durable(ms_conn *conn, MYSQL_ROW row, tn_error *err)
{
    const char *flush = row[1] ? row[1] : "", *sync = row[3] ? row[3] : "";
    const char *name = NULL, *value = NULL;
    if (strcmp(flush, "1") != 0)
        name = "innodb_flush_log_at_trx_commit", value = flush;
    else if (is_on(row[2]) && strcmp(sync, "1") != 0)
        name = "sync_binlog", value = sync;
    if (!name)
        return TN_OK;
    if (conn->options->allow_volatile) {
        if (!conn->durable_reported)
            ms_log(conn, TN_LEVEL_WARN, "%s is %s: a power cut loses acknowledged commits", name,
                   value);
        conn->durable_reported = true;
        return TN_OK;
    }
    return ms_error(err, TN_EINVALID, 0,
                    "the server may lose what it acknowledged: %s is %s\n"
                    "  fix: SET GLOBAL %s = 1 (and in its my.cnf), or sql.allowVolatile: true",
                    name, value, name);
}

static tn_status check_server(ms_conn *conn, MYSQL_ROW row, tn_error *err)
{
    tn_status status = check_version(row[5] ? row[5] : "", err);
    if (status == TN_OK)
        status = check_durable(conn, row, err);
    if (status != TN_OK)
        return status;
    conn->mariadb = strstr(row[5], "MariaDB") != NULL;
    conn->packet_max = (size_t)ms_u64(row, 0);
    if (conn->packet_max < PACKET_LEAST)
        return ms_error(err, TN_EINVALID, 0,
                        "max_allowed_packet is %zu: too small for commits of 4 MiB\n"
                        "  fix: SET GLOBAL max_allowed_packet = 67108864 (and in my.cnf)",
                        conn->packet_max);
    if (is_on(row[4]))
        return ms_error(err, TN_EUNAVAILABLE, 0, "the database at %s is read-only",
                        conn->options->addrs[conn->addr_at].host);
    return TN_OK;
}

/* Everything a statement's meaning depends on is said here, whatever the server's defaults are. */
static tn_status set_up_session(ms_conn *conn, uint64_t deadline_ns, tn_error *err)
{
    ms_reply reply;
    ms_fault f =
        ms_run_z(conn,
                 "SET NAMES binary;"
                 "SET SESSION "
                 "sql_mode='STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',"
                 "autocommit=1,innodb_lock_wait_timeout=5,time_zone='+00:00';"
                 "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;"
                 "SELECT @@session.max_allowed_packet,@@global.innodb_flush_log_at_trx_commit,"
                 "@@global.log_bin,@@global.sync_binlog,@@global.read_only,VERSION();"
                 "SHOW GLOBAL STATUS LIKE 'Uptime'",
                 deadline_ns, &reply, err);
    tn_status status = f == MS_FINE ? TN_OK : err->code;
    MYSQL_ROW row = f == MS_FINE && reply.rows[3] ? mysql_fetch_row(reply.rows[3]) : NULL;
    if (f == MS_FINE)
        status = row ? check_server(conn, row, err)
                     : ms_error(err, TN_EINTERNAL, 0, "the server said nothing about itself");
    row = status == TN_OK && reply.rows[4] ? mysql_fetch_row(reply.rows[4]) : NULL;
    uint64_t up_ns = row ? ms_u64(row, 1) * MS_SEC : 0, now = conn->host->mono_ns();
    /* Unsigned on purpose: a server may be older than our clock. */
    conn->server_began_ns = now - up_ns;
    ms_reply_done(&reply);
    return status;
}

/* The server may still be at work for the connection we gave up, and hold locks; not after a restart. */
static tn_status end_lost(ms_conn *conn, uint64_t deadline_ns, tn_error *err)
{
    uint64_t id = conn->lost_thread_id, apart = conn->server_began_ns - conn->lost_server_began_ns;
    bool same = apart < 5 * MS_SEC || -apart < 5 * MS_SEC;
    conn->lost_thread_id = 0;
    if (!id || id == conn->thread_id || !same)
        return TN_OK;
    ms_text sql = {0};
    ms_reply reply;
    ms_puts(&sql, "KILL ");
    ms_put_u64(&sql, id);
    ms_fault f = ms_run(conn, &sql, deadline_ns, &reply, err);
    ms_reply_done(&reply);
    ms_text_done(&sql);
    if (f == MS_LOST) {
        conn->lost_thread_id = id; /* still to be done; this one did nothing yet */
        return err->code;
    }
    *err = (tn_error){0}; /* gone already: no such thread */
    return TN_OK;
}

tn_status ms_connect_bare(ms_conn *conn, bool with_database, uint64_t deadline_ns, tn_error *err)
{
    uint64_t now = conn->host->mono_ns();
    const ms_options *o = conn->options;
    tn_status status = TN_EUNAVAILABLE;
    for (size_t i = 0; i < o->n_addrs; i++) {
        uint64_t until = conn->host->mono_ns() + o->connect_timeout_ns;
        status = dial(conn, &o->addrs[conn->addr_at], with_database,
                      until < deadline_ns ? until : deadline_ns, err);
        if (status == TN_OK)
            status = set_up_session(conn, until < deadline_ns ? until : deadline_ns, err);
        if (status == TN_OK)
            status = end_lost(conn, until < deadline_ns ? until : deadline_ns, err);
        if (status == TN_OK) {
            conn->pause_ns = PAUSE_LEAST_NS;
            conn->retry_at_ns = 0;
            return TN_OK;
        }
        ms_disconnect(conn);
        conn->addr_at = (conn->addr_at + 1) % o->n_addrs;
    }
    conn->retry_at_ns = now + conn->pause_ns;
    conn->pause_ns = conn->pause_ns * 2 > PAUSE_MOST_NS ? PAUSE_MOST_NS : conn->pause_ns * 2;
    return status;
}

tn_status ms_connect(ms_conn *conn, uint64_t deadline_ns, tn_error *err)
{
    if (conn->my)
        return TN_OK;
    if (conn->host->mono_ns() < conn->retry_at_ns)
        return ms_error(err, TN_EUNAVAILABLE, 0, "the database cannot be reached");
    return ms_connect_bare(conn, true, deadline_ns, err);
}
