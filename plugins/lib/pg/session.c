/* SPDX-License-Identifier: MIT */
/* Whatever blocks: connecting, the checks and settings of a fresh session, single statements of set-up
 * and tools.  Runs on the pool's threads and on the main thread, never on a loop.  Besides: errors. */
#include "pg.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXEC_MS 30000 /* a server that says nothing for so long is not there */
#define SERVER_LEAST 100000

/* ---- errors ------------------------------------------------------------------------------------- */

tn_status tn_pg_error(tn_error *err, tn_status code, const char *fmt, ...)
{
    if (err) {
        va_list args;
        va_start(args, fmt);
        err->code = code;
        err->vendor_code = 0;
        vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
        size_t n = strlen(err->text);
        while (n && (err->text[n - 1] == '\n' || err->text[n - 1] == ' '))
            err->text[--n] = '\0';
    }
    return code;
}

tn_status tn_pg_status_of(const char *s)
{
    static const struct {
        const char *prefix;
        tn_status status;
    } table[] = {
        {"08", TN_EUNAVAILABLE},    /* connection exceptions */
        {"40", TN_EUNAVAILABLE},    /* serialization, deadlock */
        {"53", TN_EUNAVAILABLE},    /* disk full, too many connections, out of memory */
        {"55P03", TN_EUNAVAILABLE}, /* lock_timeout */
        {"57", TN_EUNAVAILABLE},    /* cancelled, shutting down, starting up */
        {"58", TN_EUNAVAILABLE},    /* I/O error on the server */
        {"25006", TN_EUNAVAILABLE}, /* read only: it has become a standby */
        {"TN", TN_EUNAVAILABLE},    /* our functions: try again */
        {"28", TN_EDENIED},         {"42501", TN_EDENIED},   {"54", TN_ETOOLARGE},
        {"22", TN_EINVALID},        {"XX001", TN_EDATALOSS}, {"XX002", TN_EDATALOSS},
    };
    if (!s || !s[0])
        return TN_EUNAVAILABLE;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strncmp(s, table[i].prefix, strlen(table[i].prefix)) == 0)
            return table[i].status;
    return TN_EINTERNAL;
}

tn_status tn_pg_explain(const PGresult *result, const char *doing, tn_error *err)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    return tn_pg_error(err, tn_pg_status_of(state), "%s: %s%s%s%s", doing,
                       text ? text : PQresultErrorMessage(result), state ? " (" : "",
                       state ? state : "", state ? ")" : "");
}

/* ---- single statements -------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until a result can be taken without blocking; false: gone, or silent for too long. */
static bool wait_result(PGconn *db, int64_t until)
{
    for (;;) {
        int flushed = PQflush(db);
        if (flushed < 0)
            return false;
        if (!PQisBusy(db))
            return true;
        struct pollfd fd = {.fd = PQsocket(db),
                            .events = (short)(POLLIN | (flushed ? POLLOUT : 0))};
        int64_t left = until - now_ms();
        if (left <= 0 || fd.fd < 0 || poll(&fd, 1, (int)left) < 0)
            return false;
        if ((fd.revents & (POLLIN | POLLHUP | POLLERR)) && !PQconsumeInput(db))
            return false;
    }
}

PGresult *tn_pg_exec_result(PGconn *db, tn_error *err)
{
    PGresult *last = NULL;
    tn_status status = TN_OK;
    int64_t until = now_ms() + EXEC_MS;
    for (;;) {
        if (!wait_result(db, until)) {
            PQclear(last);
            const char *why = PQerrorMessage(db);
            tn_pg_error(err, TN_EUNAVAILABLE, "the connection broke: %s",
                        why && why[0] ? why : "no answer in time");
            return NULL;
        }
        PGresult *r = PQgetResult(db);
        if (!r)
            break;
        ExecStatusType kind = PQresultStatus(r);
        if (kind != PGRES_TUPLES_OK && kind != PGRES_COMMAND_OK && status == TN_OK) {
            const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
            const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
            status = tn_pg_error(err, tn_pg_status_of(state), "%s%s%s%s",
                                 text ? text : PQresultErrorMessage(r), state ? " (" : "",
                                 state ? state : "", state ? ")" : "");
        }
        PQclear(last);
        last = r;
    }
    if (status == TN_OK && !last)
        status = tn_pg_error(err, TN_EUNAVAILABLE, "the connection broke: %s", PQerrorMessage(db));
    if (status == TN_OK)
        return last;
    PQclear(last);
    return NULL;
}

PGresult *tn_pg_exec(PGconn *db, const char *sql, tn_error *err)
{
    if (PQsendQuery(db, sql))
        return tn_pg_exec_result(db, err);
    tn_pg_error(err, TN_EUNAVAILABLE, "%s", PQerrorMessage(db));
    return NULL;
}

PGresult *tn_pg_exec_params(PGconn *db, const char *sql, int n, const char *const *values,
                            tn_error *err)
{
    if (PQsendQueryParams(db, sql, n, NULL, values, NULL, NULL, 0))
        return tn_pg_exec_result(db, err);
    tn_pg_error(err, TN_EUNAVAILABLE, "%s", PQerrorMessage(db));
    return NULL;
}

static tn_status run(PGconn *db, const char *sql, tn_error *err)
{
    PGresult *r = tn_pg_exec(db, sql, err);
    PQclear(r);
    return r ? TN_OK : err && err->code ? err->code : TN_EUNAVAILABLE;
}

/* ---- a session ---------------------------------------------------------------------------------- */

/* What a commit's acknowledgement is worth on this server. */
static tn_status check_safety(PGconn *db, const tn_pg_options *options, tn_error *err)
{
    PGresult *r =
        tn_pg_exec(db,
                   "SELECT current_setting('fsync'), current_setting('full_page_writes'), "
                   "current_setting('synchronous_commit')",
                   err);
    if (!r)
        return TN_EUNAVAILABLE;
    tn_status status = TN_OK;
    const char *off = strcmp(PQgetvalue(r, 0, 0), "off") == 0   ? "fsync"
                      : strcmp(PQgetvalue(r, 0, 1), "off") == 0 ? "full_page_writes"
                                                                : NULL;
    if (off && !options->allow_volatile)
        status = tn_pg_error(err, TN_EINVALID,
                             "the server has %s = off: a crash may lose acknowledged commits\n"
                             "    fix: %s = on in its postgresql.conf, or sql.allowVolatile: true",
                             off, off);
    /* What a role or database switched off is switched on; local, remote_write and remote_apply are
     * the operator's choice. */
    if (status == TN_OK && !options->allow_volatile && strcmp(PQgetvalue(r, 0, 2), "off") == 0)
        status = run(db, "SET synchronous_commit = on", err);
    PQclear(r);
    return status;
}

static tn_status set_session(PGconn *db, const tn_pg_options *options, tn_error *err)
{
    static const char always[] =
        "SET default_transaction_isolation = 'read committed';"
        "SET default_transaction_read_only = off;"
        "SET default_transaction_deferrable = off;"
        "SET standard_conforming_strings = on;"
        "SET statement_timeout = '60s';" /* behind a client that is gone; ours are shorter */
        "SET lock_timeout = 0;"
        "SET idle_in_transaction_session_timeout = '10s';"
        "SET tcp_keepalives_idle = 20;"
        "SET tcp_keepalives_interval = 5;"
        "SET tcp_keepalives_count = 3;";
    int version = PQserverVersion(db);
    if (version < SERVER_LEAST)
        return tn_pg_error(err, TN_EINVALID,
                           "the server is PostgreSQL %d.%d, 10 is the oldest that will do",
                           version / 10000, version / 100 % 100);
    char path[160] = "";
    if (options->schema_name)
        snprintf(path, sizeof path, "SET search_path = \"%s\";", options->schema_name);
    char sql[1024];
    snprintf(sql, sizeof sql, "%s%s%s%s%s", always, path, version >= 110000 ? "SET jit = off;" : "",
             version >= 120000 ? "SET plan_cache_mode = force_generic_plan;" : "",
             version >= 140000 ? "SET idle_session_timeout = 0;" : "");
    return run(db, sql, err);
}

PGconn *tn_pg_connect(const tn_pg_options *options, tn_error *err)
{
    PGconn *db = PQconnectdbParams(options->keywords, options->values, 0);
    if (!db || PQstatus(db) != CONNECTION_OK) {
        tn_pg_error(err, TN_EUNAVAILABLE, "%s", db ? PQerrorMessage(db) : "out of memory");
        PQfinish(db);
        return NULL;
    }
    tn_status status = PQsetnonblocking(db, 1) == 0
                           ? set_session(db, options, err)
                           : tn_pg_error(err, TN_EUNAVAILABLE, "%s", PQerrorMessage(db));
    if (status == TN_OK)
        status = check_safety(db, options, err);
    if (status == TN_OK)
        return db;
    PQfinish(db);
    return NULL;
}
