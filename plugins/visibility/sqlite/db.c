/* SPDX-License-Identifier: MIT */
/* The file: its lock, opening it, its schema, errors in our words, and interned names. */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- errors ----------------------------------------------------------------------------------- */

tn_status vs_error(tn_error *err, tn_status code, int vendor, const char *fmt, ...)
{
    if (err) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
        err->code = code;
        err->vendor_code = vendor;
    }
    return code;
}

static tn_status status_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return TN_EDATALOSS;
    case SQLITE_TOOBIG:
        return TN_ETOOLARGE;
    case SQLITE_FULL:
    case SQLITE_READONLY:
    case SQLITE_IOERR:
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_NOMEM:
    case SQLITE_CANTOPEN:
    case SQLITE_INTERRUPT:
    case SQLITE_PERM:
    case SQLITE_NOLFS:
        return TN_EUNAVAILABLE;
    default:
        return TN_EINTERNAL;
    }
}

tn_status vs_sql_error(sqlite3 *db, int rc, const char *doing, tn_error *err)
{
    int extended = db ? sqlite3_extended_errcode(db) : rc;
    int os = db ? sqlite3_system_errno(db) : 0;
    const char *text = db ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
    if ((rc & 0xff) == SQLITE_FULL)
        return vs_error(err, TN_EUNAVAILABLE, extended,
                        "%s: no space left for the visibility database", doing);
    if ((rc & 0xff) == SQLITE_INTERRUPT)
        return vs_error(err, TN_EUNAVAILABLE, extended, "%s: did not end in time", doing);
    if ((rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB)
        return vs_error(err, TN_EDATALOSS, extended, "%s: the visibility database is damaged: %s",
                        doing, text);
    if ((rc & 0xff) == SQLITE_IOERR && os)
        return vs_error(err, TN_EUNAVAILABLE, extended, "%s: %s: %s", doing, text, strerror(os));
    return vs_error(err, status_of(rc), extended, "%s: %s", doing, text);
}

/* ---- lock ------------------------------------------------------------------------------------- */

/* A file beside the database is locked, not the database itself: closing any handle on that would drop
 * SQLite's own locks. */
tn_status vs_lock_take(const char *path, int *out_fd, tn_error *err)
{
    char name[4200];
    if (snprintf(name, sizeof name, "%s.lock", path) >= (int)sizeof name)
        return vs_error(err, TN_EINVALID, 0, "the path of the visibility database is too long");
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return vs_error(err, TN_EUNAVAILABLE, errno, "cannot open %.150s: %s", name,
                        strerror(errno));
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &range) != 0) {
        int cause = errno;
        close(fd);
        if (cause == EAGAIN || cause == EACCES)
            return vs_error(err, TN_EUNAVAILABLE, cause,
                            "%.150s is in use by another server\n"
                            "  fix: stop that server, or give this one a path of its own",
                            path);
        return vs_error(err, TN_EUNAVAILABLE, cause, "cannot lock %.150s: %s", name,
                        strerror(cause));
    }
    *out_fd = fd;
    return TN_OK;
}

/* ---- opening ---------------------------------------------------------------------------------- */

/* doc.part: the namespace's name number * 2, + 1 for runs of a division.  doc.close: INT64_MAX for open
 * runs.  doc.exec: minus start.  doc.rwf, rrun: '' when they are the run's own. */
static const char SCHEMA[] =
    "CREATE TABLE name(id INTEGER PRIMARY KEY, s TEXT NOT NULL UNIQUE);"
    "CREATE TABLE attr(id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, name TEXT NOT NULL,"
    " type INTEGER NOT NULL, UNIQUE(ns, name, type));"
    "CREATE TABLE doc(id INTEGER PRIMARY KEY, part INTEGER NOT NULL, status INTEGER NOT NULL,"
    " type INTEGER NOT NULL, start INTEGER NOT NULL, close INTEGER NOT NULL, ver INTEGER NOT NULL,"
    " run NOT NULL, wf TEXT NOT NULL, tq INTEGER, exec INTEGER, dur INTEGER, len INTEGER, size "
    "INTEGER,"
    " trans INTEGER, pwf TEXT, prun, rwf TEXT, rrun, div INTEGER, sa BLOB, memo BLOB);"
    "CREATE INDEX doc_status ON doc(part, status, close, start);"
    "CREATE INDEX doc_type ON doc(part, type, status, close, start);"
    "CREATE INDEX doc_wf ON doc(part, wf);"
    "CREATE TABLE kv(attr INTEGER NOT NULL, val NOT NULL, doc INTEGER NOT NULL,"
    " PRIMARY KEY(attr, val, doc)) WITHOUT ROWID;"
    "CREATE TABLE tally(part INTEGER NOT NULL, status INTEGER NOT NULL, type INTEGER NOT NULL,"
    " n INTEGER NOT NULL, PRIMARY KEY(part, status, type)) WITHOUT ROWID;";

static const char *const STATEMENTS[VS_STATEMENTS] = {
    [VS_BEGIN] = "BEGIN IMMEDIATE",
    [VS_BEGIN_READ] = "BEGIN",
    [VS_COMMIT] = "COMMIT",
    [VS_ROLLBACK] = "ROLLBACK",
    [VS_NAME_ID] = "SELECT id FROM name WHERE s = ?1",
    [VS_NAME_ADD] = "INSERT INTO name(s) VALUES(?1)",
    [VS_NAME_TEXT] = "SELECT s FROM name WHERE id = ?1",
    [VS_ATTR_ID] = "SELECT id FROM attr WHERE ns = ?1 AND name = ?2 AND type = ?3",
    [VS_ATTR_ADD] = "INSERT INTO attr(ns, name, type) VALUES(?1, ?2, ?3)",
    [VS_ATTR_NAME] = "SELECT name FROM attr WHERE id = ?1",
    /* The plus keeps SQLite from an index that begins with part. */
    [VS_DOC_FIND] = "SELECT id, ver, part, status, type, start, close, pwf, sa FROM doc"
                    " WHERE id BETWEEN ?1 AND ?2 AND run = ?3 AND +part IN (?4, ?4 + 1)",
    [VS_DOC_TAKEN] = "SELECT id FROM doc WHERE id BETWEEN ?1 AND ?2 ORDER BY id",
    [VS_DOC_INSERT] =
        "INSERT INTO doc(id, part, status, type, start, close, ver, tq, exec, dur, len, size,"
        " trans, pwf, prun, rwf, rrun, div, sa, memo, run, wf)"
        " VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22)",
    [VS_DOC_MOVE] = "UPDATE doc SET part=?2, status=?3, type=?4, start=?5, close=?6, ver=?7, tq=?8,"
                    " exec=?9, dur=?10, len=?11, size=?12, trans=?13, pwf=?14, prun=?15, rwf=?16,"
                    " rrun=?17, div=?18, sa=?19, memo=?20 WHERE id=?1",
    /* The same without columns that stay as they are and whose indexes would be written for nothing. */
    [VS_DOC_UPDATE] =
        "UPDATE doc SET status=?3, type=?4, start=?5, close=?6, ver=?7, tq=?8, exec=?9,"
        " dur=?10, len=?11, size=?12, trans=?13, pwf=?14, prun=?15, rwf=?16, rrun=?17,"
        " div=?18, sa=?19, memo=?20 WHERE id=?1",
    [VS_DOC_UPDATE_REST] =
        "UPDATE doc SET ver=?7, tq=?8, exec=?9, dur=?10, len=?11, size=?12, trans=?13,"
        " pwf=?14, prun=?15, rwf=?16, rrun=?17, div=?18, sa=?19, memo=?20 WHERE id=?1",
    [VS_DOC_DELETE] = "DELETE FROM doc WHERE id = ?1",
    [VS_KV_PUT] = "INSERT OR IGNORE INTO kv(attr, val, doc) VALUES(?1, ?2, ?3)",
    [VS_KV_DELETE] = "DELETE FROM kv WHERE attr = ?1 AND val = ?2 AND doc = ?3",
    [VS_TALLY_ADD] = "INSERT INTO tally(part, status, type, n) VALUES(?1, ?2, ?3, ?4)"
                     " ON CONFLICT DO UPDATE SET n = n + excluded.n",
    [VS_TALLY_ROWS] =
        "SELECT part, status, type, n FROM tally WHERE part IN (?1, ?1 + 1) AND n > 0 LIMIT ?2",
    [VS_TALLY_ALL] = "SELECT sum(n) FROM (SELECT n FROM tally LIMIT ?1)",
    [VS_DOC_GET] =
        "SELECT part, status, type, start, close, ver, tq, exec, dur, len, size, trans, pwf, prun,"
        " rwf, rrun, div, sa, memo, run, wf FROM doc WHERE id = ?1",
};

static tn_status exec(sqlite3 *db, const char *sql, tn_error *err)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? TN_OK : vs_sql_error(db, rc, "open", err);
}

static tn_status read_i64(sqlite3 *db, const char *sql, int64_t *out, tn_error *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(stmt, 0);
    tn_status status = rc == SQLITE_ROW ? TN_OK : vs_sql_error(db, rc, "open", err);
    sqlite3_finalize(stmt);
    return status;
}

static tn_status set_i64(sqlite3 *db, const char *pragma, int64_t value, tn_error *err)
{
    char sql[120];
    snprintf(sql, sizeof sql, "PRAGMA %s=%lld", pragma, (long long)value);
    return exec(db, sql, err);
}

/* Ours, of this version, or empty and then made ours. */
static tn_status check_schema(sqlite3 *db, const char *path, tn_error *err)
{
    int64_t application = 0, version = 0, tables = 0;
    tn_status status = read_i64(db, "PRAGMA application_id", &application, err);
    if (status == TN_OK)
        status = read_i64(db, "PRAGMA user_version", &version, err);
    if (status == TN_OK)
        status = read_i64(db, "SELECT count(*) FROM sqlite_schema", &tables, err);
    if (status != TN_OK)
        return status;
    if (tables == 0 && application == 0) {
        char sql[2600];
        int n = snprintf(
            sql, sizeof sql,
            "BEGIN IMMEDIATE; %s PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT;", SCHEMA,
            VS_APPLICATION_ID, VS_SCHEMA_VERSION);
        if (n < 0 || (size_t)n >= sizeof sql)
            return vs_error(err, TN_EINTERNAL, 0, "the schema does not fit its buffer");
        return exec(db, sql, err);
    }
    if (application != VS_APPLICATION_ID)
        return vs_error(err, TN_EINVALID, 0,
                        "%.150s is a database of another program\n  fix: choose another path",
                        path);
    if (version != VS_SCHEMA_VERSION)
        return vs_error(err, TN_EINVALID, 0,
                        "%.120s has schema version %lld, this plugin knows version %d\n"
                        "  fix: use the plugin of that version, or another path",
                        path, (long long)version, VS_SCHEMA_VERSION);
    return TN_OK;
}

/* A write-ahead log that is synced at each commit, and the proof that it is. */
static tn_status set_durable(sqlite3 *db, const vs_options *o, tn_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool wal = false;
    int rc = sqlite3_prepare_v2(db, "PRAGMA journal_mode=WAL", -1, &stmt, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW)
        wal = strcmp((const char *)sqlite3_column_text(stmt, 0), "wal") == 0;
    tn_status status = rc == SQLITE_ROW ? TN_OK : vs_sql_error(db, rc, "open", err);
    sqlite3_finalize(stmt);
    if (status == TN_OK && !wal)
        return vs_error(err, TN_EUNAVAILABLE, 0,
                        "the file system of %.150s takes no write-ahead log", o->path);
    int64_t level = 0;
    if (status == TN_OK)
        status = exec(db, "PRAGMA synchronous=FULL", err);
    if (status == TN_OK)
        status = read_i64(db, "PRAGMA synchronous", &level, err);
    if (status == TN_OK && level != 2)
        return vs_error(err, TN_EUNAVAILABLE, 0,
                        "SQLite does not sync its commits (synchronous=%lld)", (long long)level);
    if (status == TN_OK)
        status = set_i64(db, "wal_autocheckpoint", o->wal_bytes / o->page_bytes, err);
    if (status == TN_OK)
        status = set_i64(db, "journal_size_limit", o->wal_bytes * 2, err);
    return status;
}

static uint64_t now_ns(const vs_conn *conn) { return conn->inst->host->mono_ns(); }

static int past_deadline(void *user)
{
    const vs_conn *conn = user;
    uint64_t end = conn->deadline_ns < conn->patience_ns ? conn->deadline_ns : conn->patience_ns;
    return end != UINT64_MAX && now_ns(conn) > end;
}

static tn_status set_up(vs_conn *conn, bool writer, tn_error *err)
{
    const vs_options *o = &conn->inst->options;
    sqlite3_extended_result_codes(conn->db, 1);
    sqlite3_busy_timeout(conn->db, o->busy_ms);
    sqlite3_limit(conn->db, SQLITE_LIMIT_VARIABLE_NUMBER, 250000);
    sqlite3_progress_handler(conn->db, 2000, past_deadline, conn);
    int64_t share = o->cache_bytes / (writer ? 2 : 2 * (int64_t)(o->readers ? o->readers : 1));
    tn_status status = set_i64(conn->db, "cache_size", -(share / 1024), err);
    if (status == TN_OK && writer)
        status = set_i64(conn->db, "page_size", o->page_bytes, err);
    if (status == TN_OK)
        status = exec(
            conn->db,
            "PRAGMA temp_store=MEMORY; PRAGMA secure_delete=OFF; PRAGMA trusted_schema=OFF", err);
    if (status == TN_OK && writer && !o->memory)
        status = set_durable(conn->db, o, err);
    if (status == TN_OK && writer)
        status = check_schema(conn->db, o->path, err);
    if (status == TN_OK && vs_functions_register(conn->db) != SQLITE_OK)
        status = vs_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    if (status == TN_OK && !writer)
        status = exec(conn->db, "PRAGMA query_only=ON", err);
    return status;
}

tn_status vs_conn_open(vs_inst *inst, bool writer, vs_conn *out, tn_error *err)
{
    memset(out, 0, sizeof *out);
    out->inst = inst;
    out->deadline_ns = out->patience_ns = UINT64_MAX;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
                (writer ? SQLITE_OPEN_CREATE : 0);
    int rc = sqlite3_open_v2(inst->options.path, &out->db, flags, NULL);
    tn_status status = TN_OK;
    if (rc != SQLITE_OK) {
        int os = out->db ? sqlite3_system_errno(out->db) : 0;
        status = vs_error(err, status_of(rc), rc, "cannot open %.150s: %s", inst->options.path,
                          os ? strerror(os) : sqlite3_errstr(rc));
    }
    if (status == TN_OK && writer && sqlite3_db_readonly(out->db, "main") == 1)
        status =
            vs_error(err, TN_EUNAVAILABLE, 0,
                     "%.150s can be read only\n  fix: give the server's user the right to write it",
                     inst->options.path);
    if (status == TN_OK)
        status = set_up(out, writer, err);
    if (status != TN_OK)
        vs_conn_close(out);
    return status;
}

void vs_conn_forget(vs_conn *conn)
{
    for (size_t i = 0; i < VS_NAME_SLOTS; i++) {
        free(conn->names[i].p);
        free(conn->attrs[i].p);
    }
    memset(conn->names, 0, sizeof conn->names);
    memset(conn->attrs, 0, sizeof conn->attrs);
}

void vs_conn_close(vs_conn *conn)
{
    for (size_t i = 0; i < VS_STATEMENTS; i++)
        sqlite3_finalize(conn->stmt[i]);
    memset(conn->stmt, 0, sizeof conn->stmt);
    vs_conn_forget(conn);
    sqlite3_close(conn->db);
    conn->db = NULL;
}

sqlite3_stmt *vs_stmt(vs_conn *conn, int which, tn_error *err)
{
    sqlite3_stmt **stmt = &conn->stmt[which];
    if (!*stmt) {
        int rc = sqlite3_prepare_v3(conn->db, STATEMENTS[which], -1, SQLITE_PREPARE_PERSISTENT,
                                    stmt, NULL);
        if (rc != SQLITE_OK) {
            vs_sql_error(conn->db, rc, "prepare", err);
            return NULL;
        }
    }
    sqlite3_reset(*stmt);
    sqlite3_clear_bindings(*stmt);
    return *stmt;
}

tn_status vs_run_stmt(vs_conn *conn, int which, const char *doing, tn_error *err)
{
    int rc = sqlite3_step(conn->stmt[which]);
    tn_status status = rc == SQLITE_DONE ? TN_OK : vs_sql_error(conn->db, rc, doing, err);
    sqlite3_reset(conn->stmt[which]);
    return status;
}

/* ---- interned names --------------------------------------------------------------------------- */

static size_t slot_of(tn_str text, uint64_t salt)
{
    uint64_t h = 0xcbf29ce484222325u ^ salt;
    for (size_t i = 0; i < text.n; i++)
        h = (h ^ (uint8_t)text.p[i]) * 0x100000001b3u;
    return (size_t)(h >> 32) % VS_NAME_SLOTS;
}

static char *copy_text(tn_str text)
{
    char *p = malloc(text.n + 1);
    if (p) {
        if (text.n)
            memcpy(p, text.p, text.n);
        p[text.n] = '\0';
    }
    return p;
}

static void keep_name(vs_name_slot *slot, int64_t id, tn_str text)
{
    char *p = copy_text(text);
    free(slot->p);
    *slot = p ? (vs_name_slot){id, text.n, p} : (vs_name_slot){0, 0, NULL};
}

static bool same(const char *p, size_t n, tn_str text)
{
    return p && n == text.n && (n == 0 || memcmp(p, text.p, n) == 0);
}

static int bind_text(sqlite3_stmt *stmt, int at, tn_str text)
{
    return sqlite3_bind_text(stmt, at, text.p ? text.p : "", (int)text.n, SQLITE_STATIC);
}

tn_status vs_name_find(vs_conn *conn, tn_str text, int64_t *out_id, tn_error *err)
{
    vs_name_slot *slot = &conn->names[slot_of(text, 0)];
    if (same(slot->p, slot->n, text)) {
        *out_id = slot->id;
        return TN_OK;
    }
    *out_id = 0;
    sqlite3_stmt *stmt = vs_stmt(conn, VS_NAME_ID, err);
    if (!stmt)
        return err->code;
    bind_text(stmt, 1, text);
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        *out_id = sqlite3_column_int64(stmt, 0);
        keep_name(slot, *out_id, text);
    }
    tn_status status = rc == SQLITE_ROW || rc == SQLITE_DONE
                           ? TN_OK
                           : vs_sql_error(conn->db, rc, "look up a name", err);
    sqlite3_reset(stmt);
    return status;
}

tn_status vs_name_add(vs_conn *conn, tn_str text, int64_t *out_id, tn_error *err)
{
    tn_status status = vs_name_find(conn, text, out_id, err);
    if (status != TN_OK || *out_id)
        return status;
    sqlite3_stmt *stmt = vs_stmt(conn, VS_NAME_ADD, err);
    if (!stmt)
        return err->code;
    bind_text(stmt, 1, text);
    status = vs_run_stmt(conn, VS_NAME_ADD, "store a name", err);
    if (status == TN_OK) {
        *out_id = sqlite3_last_insert_rowid(conn->db);
        keep_name(&conn->names[slot_of(text, 0)], *out_id, text);
    }
    return status;
}

tn_status vs_name_text(vs_conn *conn, int64_t id, tn_str *out, tn_error *err)
{
    /* Texts never change, so a slot found by its number is good wherever the number was looked up. */
    vs_name_slot *slot = &conn->names[(size_t)id % VS_NAME_SLOTS];
    if (slot->p && slot->id == id) {
        *out = (tn_str){slot->p, slot->n};
        return TN_OK;
    }
    sqlite3_stmt *stmt = vs_stmt(conn, VS_NAME_TEXT, err);
    if (!stmt)
        return err->code;
    sqlite3_bind_int64(stmt, 1, id);
    int rc = sqlite3_step(stmt);
    tn_status status = TN_OK;
    if (rc == SQLITE_ROW) {
        keep_name(slot, id,
                  (tn_str){(const char *)sqlite3_column_text(stmt, 0),
                           (size_t)sqlite3_column_bytes(stmt, 0)});
        *out = (tn_str){slot->p, slot->n};
        if (!slot->p)
            status = vs_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    } else if (rc == SQLITE_DONE) {
        status = vs_error(err, TN_EDATALOSS, 0, "the visibility database lacks a name");
    } else {
        status = vs_sql_error(conn->db, rc, "look up a name", err);
    }
    sqlite3_reset(stmt);
    return status;
}

tn_status vs_attr_find(vs_conn *conn, int64_t ns, tn_str name, uint32_t type, int64_t *out_id,
                       tn_error *err)
{
    vs_attr_slot *slot = &conn->attrs[slot_of(name, (uint64_t)ns << 3 | type)];
    if (slot->ns == ns && slot->type == type && same(slot->p, slot->n, name)) {
        *out_id = slot->id;
        return TN_OK;
    }
    *out_id = 0;
    sqlite3_stmt *stmt = vs_stmt(conn, VS_ATTR_ID, err);
    if (!stmt)
        return err->code;
    sqlite3_bind_int64(stmt, 1, ns);
    bind_text(stmt, 2, name);
    sqlite3_bind_int64(stmt, 3, type);
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        *out_id = sqlite3_column_int64(stmt, 0);
        free(slot->p);
        *slot = (vs_attr_slot){*out_id, ns, type, name.n, copy_text(name)};
    }
    tn_status status = rc == SQLITE_ROW || rc == SQLITE_DONE
                           ? TN_OK
                           : vs_sql_error(conn->db, rc, "look up an attribute", err);
    sqlite3_reset(stmt);
    return status;
}

tn_status vs_attr_add(vs_conn *conn, int64_t ns, tn_str name, uint32_t type, int64_t *out_id,
                      tn_error *err)
{
    tn_status status = vs_attr_find(conn, ns, name, type, out_id, err);
    if (status != TN_OK || *out_id)
        return status;
    sqlite3_stmt *stmt = vs_stmt(conn, VS_ATTR_ADD, err);
    if (!stmt)
        return err->code;
    sqlite3_bind_int64(stmt, 1, ns);
    bind_text(stmt, 2, name);
    sqlite3_bind_int64(stmt, 3, type);
    status = vs_run_stmt(conn, VS_ATTR_ADD, "store an attribute", err);
    if (status == TN_OK)
        *out_id = sqlite3_last_insert_rowid(conn->db);
    return status;
}

tn_status vs_attr_name(vs_conn *conn, int64_t id, tn_str *out, tn_error *err)
{
    sqlite3_stmt *stmt = vs_stmt(conn, VS_ATTR_NAME, err);
    if (!stmt)
        return err->code;
    sqlite3_bind_int64(stmt, 1, id);
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) { /* the text lives until the statement is used again */
        *out = (tn_str){(const char *)sqlite3_column_text(stmt, 0),
                        (size_t)sqlite3_column_bytes(stmt, 0)};
        return TN_OK;
    }
    sqlite3_reset(stmt);
    return rc == SQLITE_DONE
               ? vs_error(err, TN_EDATALOSS, 0, "the visibility database lacks an attribute")
               : vs_sql_error(conn->db, rc, "look up an attribute", err);
}
