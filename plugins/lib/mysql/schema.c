/* SPDX-License-Identifier: MIT */
/* The tables' versions.  The server's DDL is not transactional, so every statement of a version may run
 * again: tables are made IF NOT EXISTS, and an object that is there already (or gone already) is no
 * error.  tenon_schema says which version is complete and which one was begun. */
#include "ms.h"

#include <ctype.h>
#include <mysqld_error.h>
#include <stdlib.h>
#include <string.h>

#define STATEMENT_NS (600 * MS_SEC) /* an ALTER of a large table */

static const char VERSIONS_TABLE[] = "CREATE TABLE IF NOT EXISTS tenon_schema (\n"
                                     "  component VARBINARY(32) NOT NULL,\n"
                                     "  version INT UNSIGNED NOT NULL,\n"
                                     "  begun INT UNSIGNED NOT NULL,\n"
                                     "  PRIMARY KEY (component)\n"
                                     ") ENGINE=InnoDB";

typedef struct run {
    ms_conn conn;
    const ms_schema *schema;
    tn_schema_req *req;
    tn_error *err;
    uint32_t begun;
    bool has_database;
} run;

static void emit(run *r, const char *p, size_t n)
{
    if (r->req->emit)
        r->req->emit(r->req->user, p, n);
}

static void emit_statement(run *r, const char *p, size_t n)
{
    emit(r, p, n);
    emit(r, ";\n", 2);
}

static ms_fault statement(run *r, const ms_text *sql, ms_reply *reply)
{
    return ms_run(&r->conn, sql, r->conn.host->mono_ns() + STATEMENT_NS, reply, r->err);
}

static tn_status execute(run *r, const ms_text *sql)
{
    ms_reply reply;
    ms_fault f = statement(r, sql, &reply);
    ms_reply_done(&reply);
    return f == MS_FINE ? TN_OK : r->err->code;
}

static tn_status execute_z(run *r, const char *sql)
{
    ms_text text = {.p = (char *)(uintptr_t)sql, .n = strlen(sql)};
    return execute(r, &text);
}

/* ---- versions ----------------------------------------------------------------------------------- */

static tn_status read_version(ms_conn *conn, const ms_schema *schema, uint32_t *version,
                              uint32_t *begun, tn_error *err)
{
    ms_text sql = {0};
    ms_reply reply;
    ms_puts(&sql, "SELECT version,begun FROM tenon_schema WHERE component=");
    ms_put_bytes(&sql, schema->component, strlen(schema->component));
    ms_fault f = ms_run(conn, &sql, conn->host->mono_ns() + 10 * MS_SEC, &reply, err);
    ms_text_done(&sql);
    *version = *begun = 0;
    tn_status status = TN_OK;
    if (f == MS_SQL && err->vendor_code == ER_NO_SUCH_TABLE) {
        *err = (tn_error){0};
    } else if (f != MS_FINE) {
        status = err->code;
    } else {
        MYSQL_ROW row = mysql_fetch_row(reply.rows[0]);
        if (row) {
            *version = (uint32_t)ms_u64(row, 0);
            *begun = (uint32_t)ms_u64(row, 1);
        }
    }
    ms_reply_done(&reply);
    return status;
}

tn_status ms_schema_expect(ms_conn *conn, const ms_schema *schema, tn_error *err)
{
    uint32_t version, begun;
    tn_status status = read_version(conn, schema, &version, &begun, err);
    if (status != TN_OK || (version == schema->newest && begun == version))
        return status;
    if (version > schema->newest)
        return ms_error(err, TN_EINVALID, 0,
                        "the %s schema of database %s is version %u, this tenond knows up to %u\n"
                        "  fix: run the release that made it, or a newer one",
                        schema->component, conn->options->database, version, schema->newest);
    const char *verb = version == 0 && begun <= 1 ? "setup" : "update";
    return ms_error(err, TN_EINVALID, 0,
                    "the %s schema of database %s is version %u%s, this tenond needs %u\n"
                    "  fix: tenonctl schema %s --config FILE",
                    schema->component, conn->options->database, version,
                    begun > version ? " (an update was not finished)" : "", schema->newest, verb);
}

static tn_status note(run *r, uint32_t version, uint32_t begun)
{
    ms_text sql = {0};
    ms_puts(&sql, "INSERT INTO tenon_schema (component,version,begun) VALUES (");
    ms_put_bytes(&sql, r->schema->component, strlen(r->schema->component));
    ms_putf(&sql, ",%u,%u) ON DUPLICATE KEY UPDATE version=VALUES(version),begun=VALUES(begun)",
            version, begun);
    tn_status status = TN_OK;
    if (r->req->flags & TN_SCHEMA_DRY_RUN)
        emit_statement(r, sql.p, sql.n);
    else
        status = execute(r, &sql);
    ms_text_done(&sql);
    return status;
}

/* ---- statements of a file ----------------------------------------------------------------------- */

/* The next statement of a text: without comments in front and the semicolon behind; false: no more. */
static bool next_statement(const char **at, const char **p, size_t *n)
{
    const char *s = *at;
    for (;;) {
        while (isspace((unsigned char)*s))
            s++;
        if (s[0] != '-' || s[1] != '-')
            break;
        s += strcspn(s, "\n");
    }
    if (!*s)
        return false;
    const char *end = s;
    while (*end && !(end[0] == ';' && (end[1] == '\n' || end[1] == '\0')))
        end++;
    *p = s;
    *n = (size_t)(end - s);
    *at = *end ? end + 1 : end;
    return true;
}

/* A statement that ran before an interruption runs again. */
static bool is_done_already(int number)
{
    return number == ER_TABLE_EXISTS_ERROR || number == ER_DUP_FIELDNAME ||
           number == ER_DUP_KEYNAME || number == ER_CANT_DROP_FIELD_OR_KEY ||
           number == ER_MULTIPLE_PRI_KEY;
}

static tn_status apply_version(run *r, uint32_t from)
{
    const char *at = r->schema->versions[from], *p;
    size_t n;
    tn_status status = TN_OK;
    while (status == TN_OK && next_statement(&at, &p, &n)) {
        if (r->req->flags & TN_SCHEMA_DRY_RUN) {
            emit_statement(r, p, n);
            continue;
        }
        ms_text sql = {.p = (char *)(uintptr_t)p, .n = n};
        status = execute(r, &sql);
        if (status != TN_OK && is_done_already(r->err->vendor_code)) {
            *r->err = (tn_error){0};
            status = TN_OK;
        }
    }
    return status;
}

static tn_status apply(run *r, uint32_t to)
{
    tn_status status = TN_OK;
    bool dry = r->req->flags & TN_SCHEMA_DRY_RUN;
    if (!r->has_database) {
        ms_text sql = {0};
        ms_puts(&sql, "CREATE DATABASE IF NOT EXISTS `");
        for (const char *c = r->conn.options->database; *c; c++)
            ms_put(&sql, *c == '`' ? "``" : c, *c == '`' ? 2 : 1);
        ms_puts(&sql, "` CHARACTER SET utf8mb4");
        if (dry)
            emit_statement(r, sql.p, sql.n);
        else
            status = execute(r, &sql);
        ms_text_done(&sql);
        if (status == TN_OK && !dry && mysql_select_db(r->conn.my, r->conn.options->database) != 0)
            status = ms_error(r->err, TN_EUNAVAILABLE, (int)mysql_errno(r->conn.my), "%s",
                              mysql_error(r->conn.my));
    }
    if (status == TN_OK && dry)
        emit_statement(r, VERSIONS_TABLE, sizeof VERSIONS_TABLE - 1);
    else if (status == TN_OK)
        status = execute_z(r, VERSIONS_TABLE);
    for (uint32_t v = r->req->stored; status == TN_OK && v < to; v++) {
        status = note(r, v, v + 1);
        if (status == TN_OK)
            status = apply_version(r, v);
        if (status == TN_OK)
            status = note(r, v + 1, v + 1);
        if (status == TN_OK && !dry)
            r->req->stored = v + 1;
    }
    return status;
}

/* ---- check -------------------------------------------------------------------------------------- */

#define PREFIX "tenon_"
#define SHADOW "tenon_zz_check_"

/* The statement with every table of ours renamed, and temporary. */
static void shadow_statement(ms_text *out, const char *p, size_t n)
{
    static const char create[] = "CREATE TABLE";
    if (n > sizeof create && memcmp(p, create, sizeof create - 1) == 0) {
        ms_puts(out, "CREATE TEMPORARY TABLE");
        p += sizeof create - 1;
        n -= sizeof create - 1;
    }
    size_t prefix = sizeof PREFIX - 1;
    while (n) {
        if (n > prefix && memcmp(p, PREFIX, prefix) == 0) {
            ms_puts(out, SHADOW);
            p += prefix;
            n -= prefix;
        } else {
            ms_put(out, p++, 1);
            n--;
        }
    }
}

/* How the server describes a table, one line a column or index; NULL: it is not there. */
static char *describe(run *r, const char *prefix, const char *name, tn_status *status)
{
    ms_text sql = {0};
    ms_reply reply;
    char *copy = NULL;
    ms_putf(&sql, "SHOW CREATE TABLE %s%s", prefix, name);
    ms_fault f = statement(r, &sql, &reply);
    ms_text_done(&sql);
    if (f == MS_FINE) {
        MYSQL_ROW row = mysql_fetch_row(reply.rows[0]);
        const char *body = row && row[1] ? strchr(row[1], '\n') : NULL;
        copy = body ? strdup(body + 1) : NULL;
        if (!copy)
            *status = ms_error(r->err, TN_EINTERNAL, 0, "table %s cannot be described", name);
    } else if (r->err->vendor_code == ER_NO_SUCH_TABLE) {
        *r->err = (tn_error){0};
    } else {
        *status = r->err->code;
    }
    ms_reply_done(&reply);
    return copy;
}

static bool has_line(const char *text, const char *line, size_t n)
{
    for (const char *p = text; *p;) {
        size_t m = strcspn(p, "\n");
        size_t length = m && p[m - 1] == ',' ? m - 1 : m;
        if (length == n && memcmp(p, line, n) == 0)
            return true;
        p += m + (p[m] == '\n');
    }
    return false;
}

/* Each line of a that is not in b; the last one tells the engine's options, which are the operator's. */
static bool tell_lines(run *r, const char *table, const char *what, const char *a, const char *b)
{
    bool any = false;
    for (const char *p = a; *p && *p != ')';) {
        size_t m = strcspn(p, "\n");
        size_t n = m && p[m - 1] == ',' ? m - 1 : m;
        if (!has_line(b, p, n)) {
            ms_text line = {0};
            ms_putf(&line, "%s%s: %s: ", PREFIX, table, what);
            const char *from = p;
            while (n && *from == ' ')
                from++, n--;
            ms_put(&line, from, n);
            ms_puts(&line, "\n");
            if (!line.failed)
                emit(r, line.p, line.n);
            ms_text_done(&line);
            any = true;
        }
        p += m + (p[m] == '\n');
    }
    return any;
}

static tn_status compare_table(run *r, const char *name, bool *differs)
{
    tn_status status = TN_OK;
    char *want = describe(r, SHADOW, name, &status);
    char *have = status == TN_OK ? describe(r, PREFIX, name, &status) : NULL;
    if (status == TN_OK && !have) {
        ms_text line = {0};
        ms_putf(&line, "%s%s: the table is missing\n", PREFIX, name);
        emit(r, line.p, line.n);
        ms_text_done(&line);
        *differs = true;
    } else if (status == TN_OK && want) {
        bool a = tell_lines(r, name, "missing", want, have);
        bool b = tell_lines(r, name, "not ours", have, want);
        *differs = *differs || a || b;
    }
    free(want);
    free(have);
    return status;
}

/* The name behind "CREATE TABLE IF NOT EXISTS tenon_"; false: another statement. */
static bool created_table(const char *p, size_t n, char name[64])
{
    static const char head[] = "CREATE TABLE IF NOT EXISTS " PREFIX;
    size_t k = 0, at = sizeof head - 1;
    if (n <= at || memcmp(p, head, at) != 0)
        return false;
    while (at + k < n && k < 63 && (isalnum((unsigned char)p[at + k]) || p[at + k] == '_'))
        k++;
    memcpy(name, p + at, k);
    name[k] = '\0';
    return k > 0;
}

static tn_status check(run *r)
{
    bool differs = false;
    tn_status status = TN_OK;
    const char *p;
    size_t n;
    char name[64];
    for (uint32_t v = 0; status == TN_OK && v < r->req->stored; v++) {
        const char *at = r->schema->versions[v];
        while (status == TN_OK && next_statement(&at, &p, &n)) {
            ms_text sql = {0};
            shadow_statement(&sql, p, n);
            status = execute(r, &sql);
            ms_text_done(&sql);
        }
    }
    for (uint32_t v = 0; status == TN_OK && v < r->req->stored; v++) {
        const char *at = r->schema->versions[v];
        while (status == TN_OK && next_statement(&at, &p, &n))
            if (created_table(p, n, name))
                status = compare_table(r, name, &differs);
    }
    if (status == TN_OK && r->begun > r->req->stored) {
        static const char text[] = "an update was begun and not finished\n";
        emit(r, text, sizeof text - 1);
        differs = true;
    }
    if (status == TN_OK && differs)
        status = ms_error(r->err, TN_ECONFLICT, 0, "the %s schema differs from version %u",
                          r->schema->component, r->req->stored);
    return status;
}

/* ---- verbs -------------------------------------------------------------------------------------- */

static tn_status dump(run *r, uint32_t to)
{
    r->req->flags |= TN_SCHEMA_DRY_RUN;
    r->req->stored = 0;
    r->has_database = true;
    return apply(r, to);
}

static tn_status connect(run *r)
{
    uint64_t deadline = r->conn.host->mono_ns() + r->conn.options->connect_timeout_ns;
    tn_status status = ms_connect_bare(&r->conn, true, deadline, r->err);
    r->has_database = status == TN_OK;
    if (status == TN_OK || r->err->vendor_code != ER_BAD_DB_ERROR)
        return status;
    *r->err = (tn_error){0};
    return ms_connect_bare(&r->conn, false, deadline, r->err);
}

/* Two that set up at once would meet in the middle of a version. */
static tn_status take_turn(run *r)
{
    ms_reply reply;
    ms_text sql = {0};
    ms_puts(&sql, "SELECT GET_LOCK('tenon schema',60)");
    ms_fault f = ms_run(&r->conn, &sql, r->conn.host->mono_ns() + 70 * MS_SEC, &reply, r->err);
    ms_text_done(&sql);
    tn_status status = f == MS_FINE ? TN_OK : r->err->code;
    MYSQL_ROW row = f == MS_FINE ? mysql_fetch_row(reply.rows[0]) : NULL;
    if (f == MS_FINE && (!row || ms_u64(row, 0) != 1))
        status = ms_error(r->err, TN_EUNAVAILABLE, 0, "another schema command is at work");
    ms_reply_done(&reply);
    return status;
}

static tn_status carry_out(run *r, uint32_t to)
{
    tn_schema_req *req = r->req;
    tn_status status = connect(r);
    if (status == TN_OK && (req->verb == TN_SCHEMA_SETUP || req->verb == TN_SCHEMA_UPDATE))
        status = take_turn(r);
    if (status == TN_OK && r->has_database)
        status = read_version(&r->conn, r->schema, &req->stored, &r->begun, r->err);
    if (status != TN_OK)
        return status;
    const char *name = r->schema->component;
    switch (req->verb) {
    case TN_SCHEMA_VERSION:
        return TN_OK;
    case TN_SCHEMA_SETUP:
        if (req->stored == to && r->begun == to)
            return TN_OK;
        if (req->stored > 0)
            return ms_error(
                r->err, TN_EINVALID, 0,
                "there is a %s schema already, version %u\n  fix: tenonctl schema update", name,
                req->stored);
        return apply(r, to);
    case TN_SCHEMA_UPDATE:
        if (req->stored == 0 && r->begun == 0)
            return ms_error(r->err, TN_EINVALID, 0,
                            "there is no %s schema yet\n  fix: tenonctl schema setup", name);
        if (to < req->stored)
            return ms_error(r->err, TN_EINVALID, 0,
                            "the %s schema is version %u; it does not go back to %u", name,
                            req->stored, to);
        return apply(r, to);
    case TN_SCHEMA_CHECK:
        if (req->stored == 0 || req->stored > r->schema->newest)
            return ms_error(r->err, TN_EINVALID, 0, "the %s schema is version %u: not known here",
                            name, req->stored);
        return check(r);
    default:
        return ms_error(r->err, TN_EINVALID, 0, "unknown verb %u", req->verb);
    }
}

tn_status ms_schema_run(const tn_host *host, const tn_config *cfg, const ms_schema *schema,
                        tn_schema_req *req, tn_error *err)
{
    ms_options options = {0};
    run r = {.schema = schema, .req = req, .err = err};
    uint32_t to = req->to ? req->to : schema->newest;
    tn_status status = ms_options_read(host, cfg, &options, err);
    ms_library_init();
    ms_conn_init(&r.conn, host, NULL, &options);
    req->stored = 0;
    req->wanted = schema->newest;
    if (status == TN_OK && to > schema->newest)
        status = ms_error(err, TN_EINVALID, 0, "version %u is not known, the newest is %u", to,
                          schema->newest);
    if (status == TN_OK)
        status = req->verb == TN_SCHEMA_DUMP ? dump(&r, to) : carry_out(&r, to);
    ms_disconnect(&r.conn);
    ms_options_done(&options);
    return status;
}

static void say_nothing(void *user, const char *text, size_t n) { (void)user, (void)text, (void)n; }

tn_status ms_schema_auto(const tn_host *host, const tn_config *cfg, const ms_options *options,
                         const ms_schema *schema, tn_error *err)
{
    tn_schema_req req = {.struct_size = sizeof req, .verb = TN_SCHEMA_VERSION, .emit = say_nothing};
    if (!options->auto_setup)
        return TN_OK;
    tn_status status = ms_schema_run(host, cfg, schema, &req, err);
    if (status != TN_OK || req.stored > req.wanted)
        return status; /* a newer one: open says so */
    req.verb = req.stored ? TN_SCHEMA_UPDATE : TN_SCHEMA_SETUP;
    return ms_schema_run(host, cfg, schema, &req, err);
}
