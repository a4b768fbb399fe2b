/* SPDX-License-Identifier: MIT */
/* The file: its lock, opening it with the settings that durability rests on (each read back), its
 * schema, the checksum of every stored row, and SQLite's errors in our words. */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef TN_TEST_UNSAFE_SYNC
/* The negative control of the power-cut tests: a driver that must be caught losing commits. */
#define SYNC_LEVEL 0
#else
#define SYNC_LEVEL 2 /* FULL: NORMAL loses acknowledged commits when the power goes */
#endif

tn_status sq_error(tn_error *err, tn_status code, int vendor, const char *fmt, ...)
{
    if (err) {
        err->code = code;
        err->vendor_code = vendor;
        va_list args;
        va_start(args, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
    }
    return code;
}

/* ---- lock --------------------------------------------------------------------------------------- */

/* The file stays when the server ends: removing it would race with the next one's lock. */
tn_status sq_lock_take(const char *path, int *out_fd, tn_error *err)
{
    char lock_path[PATH_MAX];
    *out_fd = -1;
    int n = snprintf(lock_path, sizeof lock_path, "%s.lock", path);
    if (n < 0 || (size_t)n >= sizeof lock_path)
        return sq_error(err, TN_EINVALID, 0, "path is too long");
    int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return sq_error(err, TN_EUNAVAILABLE, errno,
                        "cannot open %s: %s\n  fix: let the server's "
                        "user write to that folder",
                        lock_path, strerror(errno));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
        int why = errno;
        char pid[24] = "";
        ssize_t got = pread(fd, pid, sizeof pid - 1, 0);
        pid[got > 0 ? strspn(pid, "0123456789") : 0] = '\0';
        close(fd);
        if (why != EAGAIN && why != EACCES)
            return sq_error(err, TN_EUNAVAILABLE, why, "cannot lock %s: %s", lock_path,
                            strerror(why));
        return sq_error(err, TN_EUNAVAILABLE, why,
                        "%s is in use by another server (pid %s)\n  fix: "
                        "stop that server, or give this one a file of its own",
                        path, pid[0] ? pid : "unknown");
    }
    char text[24];
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    /* The number only serves the message above; a full disk must not stop the start. */
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != length)
        errno = 0;
    *out_fd = fd;
    return TN_OK;
}

/* ---- errors ------------------------------------------------------------------------------------- */

tn_status sq_db_status(sqlite3 *db, int rc, const char *doing, tn_error *err)
{
    int extended = db ? sqlite3_extended_errcode(db) : rc;
    int os = db ? sqlite3_system_errno(db) : 0;
    const char *why = db ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return sq_error(err, TN_EUNAVAILABLE, extended, "%s: the disk is full", doing);
    case SQLITE_READONLY:
        return sq_error(err, TN_EUNAVAILABLE, extended, "%s: the database is read-only", doing);
    case SQLITE_CORRUPT:
        return sq_error(err, TN_EDATALOSS, extended, "%s: the database file is damaged (%s)", doing,
                        why);
    case SQLITE_NOTADB:
        return sq_error(err, TN_EDATALOSS, extended, "%s: the file is not an SQLite database",
                        doing);
    case SQLITE_TOOBIG:
        return sq_error(err, TN_ETOOLARGE, extended, "%s: too large for SQLite", doing);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return sq_error(err, TN_EUNAVAILABLE, extended, "%s: another program holds the database",
                        doing);
    default:
        return sq_error(err, TN_EUNAVAILABLE, extended, "%s: %s%s%s", doing, why, os ? ": " : "",
                        os ? strerror(os) : "");
    }
}

tn_status sq_db_exec(sqlite3 *db, const char *sql, tn_error *err)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? TN_OK : sq_db_status(db, rc, "database", err);
}

tn_status sq_db_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **out, tn_error *err)
{
    int rc = sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
    return rc == SQLITE_OK ? TN_OK : sq_db_status(db, rc, "database", err);
}

/* ---- rows --------------------------------------------------------------------------------------- */

uint32_t sq_row_sum(const uint8_t *key, size_t key_n, uint64_t version, const uint8_t *value,
                    size_t value_n)
{
    uint8_t v[8];
    for (int i = 0; i < 8; i++)
        v[i] = (uint8_t)(version >> (56 - 8 * i));
    uint32_t sum = sq_crc32c(0, key, key_n);
    sum = sq_crc32c(sum, v, sizeof v);
    return sq_crc32c(sum, value, value_n);
}

/* ---- opening ------------------------------------------------------------------------------------ */

static tn_status ask_i64(sqlite3 *db, const char *sql, int64_t *out, tn_error *err)
{
    sqlite3_stmt *stmt = NULL;
    tn_status status = sq_db_prepare(db, sql, &stmt, err);
    if (status != TN_OK)
        return status;
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(stmt, 0);
    else
        status = sq_db_status(db, rc, "opening", err);
    sqlite3_finalize(stmt);
    return status;
}

static tn_status ask_word(sqlite3 *db, const char *sql, char *out, size_t size, tn_error *err)
{
    sqlite3_stmt *stmt = NULL;
    tn_status status = sq_db_prepare(db, sql, &stmt, err);
    if (status != TN_OK)
        return status;
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        snprintf(out, size, "%s", (const char *)sqlite3_column_text(stmt, 0));
    else
        status = sq_db_status(db, rc, "opening", err);
    sqlite3_finalize(stmt);
    return status;
}

static tn_status set_number(sqlite3 *db, const char *pragma, int64_t value)
{
    char sql[96];
    snprintf(sql, sizeof sql, "PRAGMA %s=%lld", pragma, (long long)value);
    return sq_db_exec(db, sql, NULL);
}

static tn_status set_durable(sqlite3 *db, const char *path, tn_error *err)
{
    char mode[16] = "";
    tn_status status = ask_word(db, "PRAGMA journal_mode=WAL", mode, sizeof mode, err);
    if (status != TN_OK)
        return status;
    if (strcmp(mode, "wal") != 0)
        return sq_error(err, TN_EUNAVAILABLE, 0,
                        "%s: SQLite keeps journal_mode %s, not wal\n  fix: "
                        "use a local file system (WAL needs shared memory)",
                        path, mode);
    int64_t level = -1;
    set_number(db, "synchronous", SYNC_LEVEL);
    status = ask_i64(db, "PRAGMA synchronous", &level, err);
    if (status == TN_OK && level != SYNC_LEVEL)
        return sq_error(err, TN_EUNAVAILABLE, 0, "%s: SQLite keeps synchronous=%d, not %d", path,
                        (int)level, SYNC_LEVEL);
    return status;
}

static tn_status make_schema(sqlite3 *db, tn_error *err)
{
    char sql[640];
    snprintf(sql, sizeof sql,
             "BEGIN IMMEDIATE;"
             "CREATE TABLE kv(k BLOB PRIMARY KEY, ver INTEGER NOT NULL, val BLOB NOT NULL) WITHOUT "
             "ROWID;"
             "CREATE TABLE journal(slot INTEGER PRIMARY KEY, data BLOB NOT NULL);"
             "CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
             "INSERT INTO meta VALUES('version',0),('applied',0),('clean',1);"
             "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT",
             SQ_APPLICATION_ID, SQ_SCHEMA_VERSION);
    return sq_db_exec(db, sql, err);
}

/* Ours, empty, someone else's, or from the future. */
static tn_status check_schema(sqlite3 *db, const sq_options *options, tn_error *err)
{
    int64_t application = 0, version = 0, tables = 0;
    tn_status status = ask_i64(db, "SELECT count(*) FROM sqlite_schema", &tables, err);
    if (status == TN_OK)
        status = ask_i64(db, "PRAGMA application_id", &application, err);
    if (status == TN_OK)
        status = ask_i64(db, "PRAGMA user_version", &version, err);
    if (status != TN_OK)
        return status;
    if (tables == 0 && application == 0) {
        set_number(db, "page_size", options->page_bytes);
        status = set_durable(db, options->path, err);
        return status == TN_OK ? make_schema(db, err) : status;
    }
    if (application != SQ_APPLICATION_ID)
        return sq_error(err, TN_EINVALID, 0,
                        "%s is an SQLite database of another program (application_id "
                        "%lld)\n  fix: give a path of its own",
                        options->path, (long long)application);
    if (version > SQ_SCHEMA_VERSION)
        return sq_error(err, TN_EINVALID, 0,
                        "%s has schema version %lld, this plugin knows up to %d\n"
                        "  fix: use the newer server that wrote it",
                        options->path, (long long)version, SQ_SCHEMA_VERSION);
    status = set_durable(db, options->path, err);
    if (status != TN_OK || version == SQ_SCHEMA_VERSION)
        return status;
    char sql[64]; /* what older ones wrote is read as it is; they shall not read what comes now */
    snprintf(sql, sizeof sql, "PRAGMA user_version=%d", SQ_SCHEMA_VERSION);
    return sq_db_exec(db, sql, err);
}

static tn_status open_refused(sqlite3 *db, int rc, const char *path, tn_error *err)
{
    int os = db ? sqlite3_system_errno(db) : 0;
    if ((rc & 0xff) == SQLITE_CANTOPEN || (rc & 0xff) == SQLITE_PERM)
        return sq_error(err, TN_EUNAVAILABLE, rc, "cannot open %s: %s", path,
                        os ? strerror(os) : sqlite3_errstr(rc));
    return sq_db_status(db, rc, path, err);
}

tn_status sq_db_open(const sq_options *options, bool writer, int64_t cache_bytes, sqlite3 **out,
                     tn_error *err)
{
    sqlite3 *db = NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
                (writer ? SQLITE_OPEN_CREATE : 0);
    if (writer) { /* SQLite would let others read a new file, and its log after it */
        int fd = open(options->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0)
            close(fd);
    }
    int rc = sqlite3_open_v2(options->path, &db, flags, NULL);
    tn_status status = TN_OK;
    if (rc != SQLITE_OK) {
        status = open_refused(db, rc, options->path, err);
        goto out;
    }
    sqlite3_busy_timeout(db, options->busy_ms);
    if (sqlite3_db_readonly(db, "main") == 1) {
        status = sq_error(err, TN_EUNAVAILABLE, 0,
                          "%s is read-only for this user\n  fix: let the "
                          "server's user write the file",
                          options->path);
        goto out;
    }
    set_number(db, "synchronous", SYNC_LEVEL);
    set_number(db, "secure_delete", 0); /* Debian's default would write freed pages once more */
    set_number(db, "wal_autocheckpoint", 0);
    set_number(db, "cache_size", -(cache_bytes / 1024));
    set_number(db, "temp_store", 2);
    set_number(db, "cell_size_check", 1);
    set_number(db, "trusted_schema", 0);
    if (writer) {
        tn_error why = {0};
        status = check_schema(db, options, &why);
        if (status != TN_OK) {
            bool named = strstr(why.text, options->path) != NULL;
            sq_error(err, status, why.vendor_code, "%s%s%s", named ? "" : options->path,
                     named ? "" : ": ", why.text);
            goto out;
        }
        set_number(db, "journal_size_limit", options->wal_bytes);
    } else {
        set_number(db, "query_only", 1);
    }
    *out = db;
    db = NULL;
out:
    if (db)
        sqlite3_close(db);
    return status;
}
