/* SPDX-License-Identifier: MIT */
/* The versions of a schema.  schema[i] of a driver is the text that brings version i to i + 1; the version that is
 * there stands in the table tn_schema, one row a component, in the same schema as the tables.  Each verb is one
 * transaction under one lock, so that two that run at once come one after the other. */
#include "pg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char REGISTER[] =
    "CREATE TABLE IF NOT EXISTS tn_schema (component text PRIMARY KEY, version int NOT NULL, "
    "changed timestamptz NOT NULL DEFAULT now());\n";

static tn_status run(PGconn *db, const char *sql, tn_error *err)
{
    PGresult *r = tn_pg_exec(db, sql, err);
    PQclear(r);
    return r ? TN_OK : err->code < 0 ? err->code : TN_EUNAVAILABLE;
}

tn_status tn_pg_schema_version(PGconn *db, const char *component, uint32_t *out, tn_error *err)
{
    *out = 0;
    PGresult *r = tn_pg_exec(db, "SELECT to_regclass('tn_schema') IS NOT NULL", err);
    if (!r)
        return TN_EUNAVAILABLE;
    bool there = PQgetvalue(r, 0, 0)[0] == 't';
    PQclear(r);
    if (!there)
        return TN_OK;
    r = tn_pg_exec_params(db, "SELECT version FROM tn_schema WHERE component = $1", 1, &component,
                          err);
    if (!r)
        return TN_EUNAVAILABLE;
    if (PQntuples(r) == 1)
        *out = (uint32_t)strtoul(PQgetvalue(r, 0, 0), NULL, 10);
    PQclear(r);
    return TN_OK;
}

/* Versions from + 1 .. to, one after another, and the note of it. */
static tn_status climb(PGconn *db, const tn_pg_driver *driver, uint32_t from, uint32_t to,
                       tn_error *err)
{
    tn_status status = run(db, REGISTER, err);
    for (uint32_t v = from; status == TN_OK && v < to; v++)
        status = run(db, driver->schema[v], err);
    char version[16];
    snprintf(version, sizeof version, "%u", to);
    const char *const values[] = {driver->component, version};
    if (status != TN_OK)
        return status;
    PGresult *r = tn_pg_exec_params(
        db,
        "INSERT INTO tn_schema (component, version) VALUES ($1, $2::int) "
        "ON CONFLICT (component) DO UPDATE SET version = excluded.version, changed = now()",
        2, values, err);
    PQclear(r);
    return r ? TN_OK : err->code;
}

static tn_status begin(PGconn *db, const tn_pg_options *options, bool make, tn_error *err)
{
    char sql[256];
    tn_status status = run(db, "BEGIN", err);
    if (status == TN_OK)
        status = run(db, "SELECT pg_advisory_xact_lock(hashtext('tenon schema'))", err);
    /* Another host may have made it all while this one waited, and to_regclass answers out of a cache: what has changed is
     * heard of when a table is opened, not when such a lock is given. */
    if (status == TN_OK)
        status = run(db, "SELECT FROM pg_class WHERE false", err);
    if (status == TN_OK && make && options->schema_name) {
        /* IF NOT EXISTS asks for the right to create even when it is there. */
        PGresult *r = tn_pg_exec_params(db, "SELECT to_regnamespace(quote_ident($1)) IS NOT NULL",
                                        1, (const char *const *)&options->schema_name, err);
        bool there = r && PQgetvalue(r, 0, 0)[0] == 't';
        status = r ? TN_OK : err->code;
        PQclear(r);
        snprintf(sql, sizeof sql, "CREATE SCHEMA \"%s\"", options->schema_name);
        if (status == TN_OK && !there)
            status = run(db, sql, err);
    }
    return status;
}

static tn_status finish(PGconn *db, tn_status status, tn_error *err)
{
    tn_error ignored = {0};
    if (status == TN_OK)
        return run(db, "COMMIT", err);
    run(db, "ROLLBACK", &ignored);
    return status;
}

tn_status tn_pg_schema_update(PGconn *db, const tn_pg_options *options, const tn_pg_driver *driver,
                              tn_error *err)
{
    uint32_t stored = 0;
    tn_status status = begin(db, options, true, err);
    if (status == TN_OK)
        status = tn_pg_schema_version(db, driver->component, &stored, err);
    if (status == TN_OK && stored < driver->n_schema)
        status = climb(db, driver, stored, driver->n_schema, err);
    return finish(db, status, err);
}

/* ---- statements as text ------------------------------------------------------------------------- */

static void emit(const tn_schema_req *req, const char *text)
{
    size_t n = strlen(text);
    if (!req->emit || !n)
        return;
    req->emit(req->user, text, n);
    if (text[n - 1] != '\n')
        req->emit(req->user, "\n", 1);
}

static void emit_climb(const tn_schema_req *req, const tn_pg_options *options,
                       const tn_pg_driver *driver, uint32_t from, uint32_t to)
{
    char line[320];
    snprintf(line, sizeof line, "-- %s: version %u to %u", driver->component, from, to);
    emit(req, line);
    emit(req, "BEGIN;");
    if (options->schema_name) {
        snprintf(line, sizeof line,
                 "CREATE SCHEMA IF NOT EXISTS \"%s\";\nSET LOCAL search_path = \"%s\";",
                 options->schema_name, options->schema_name);
        emit(req, line);
    }
    emit(req, REGISTER);
    for (uint32_t v = from; v < to; v++)
        emit(req, driver->schema[v]);
    snprintf(
        line, sizeof line,
        "INSERT INTO tn_schema (component, version) VALUES ('%s', %u)\n"
        "    ON CONFLICT (component) DO UPDATE SET version = excluded.version, changed = now();",
        driver->component, to);
    emit(req, line);
    emit(req, "COMMIT;");
}

/* ---- check -------------------------------------------------------------------------------------- */

/* The objects of the schema that is current, one a row: kind, table, name, what it is like. */
static const char OBJECTS[] =
    "SELECT 'table', c.relname, c.relname, coalesce(array_to_string(ARRAY(SELECT "
    "unnest(c.reloptions) "
    "ORDER BY 1), ' '), '') || CASE c.relpersistence WHEN 'p' THEN '' ELSE ' unlogged' END "
    "FROM pg_class c WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND "
    "c.relkind IN "
    "('r','p') "
    "UNION ALL SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod) || "
    "CASE WHEN a.attnotnull THEN ' not null' ELSE '' END || coalesce(' default ' || "
    "pg_get_expr(d.adbin, d.adrelid), '') || ' ' || a.attstorage::text FROM pg_attribute a "
    "JOIN pg_class c ON c.oid = a.attrelid "
    "LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
    "WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind IN ('r','p') "
    "AND a.attnum "
    "> 0 "
    "AND NOT a.attisdropped "
    "UNION ALL SELECT 'index', t.relname, c.relname, replace(pg_get_indexdef(c.oid), "
    "quote_ident(current_schema()) || '.', '') || CASE WHEN i.indisvalid THEN '' ELSE ' invalid' "
    "END "
    "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid "
    "WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND t.relkind IN ('r','p') "
    "UNION ALL SELECT 'constraint', t.relname, n.conname, pg_get_constraintdef(n.oid) "
    "FROM pg_constraint n JOIN pg_class t ON t.oid = n.conrelid "
    /* not-null constraints have rows of their own since 18: columns say it already */
    "WHERE t.relnamespace = quote_ident(current_schema())::regnamespace AND n.contype <> 'n' "
    "UNION ALL SELECT 'sequence', c.relname, c.relname, s.seqstart || ' by ' || s.seqincrement || "
    "' cache ' || s.seqcache || CASE WHEN s.seqcycle THEN ' cycle' ELSE '' END FROM pg_sequence s "
    "JOIN pg_class c ON c.oid = s.seqrelid "
    "WHERE c.relnamespace = quote_ident(current_schema())::regnamespace "
    "UNION ALL SELECT 'function', p.proname, p.proname || '(' || "
    "pg_get_function_identity_arguments(p.oid) || ')', p.provolatile::text || ' ' || "
    "coalesce(pg_get_function_result(p.oid), '') || ' ' || md5(p.prosrc) "
    "FROM pg_proc p WHERE p.pronamespace = quote_ident(current_schema())::regnamespace "
    "UNION ALL SELECT 'trigger', c.relname, g.tgname, replace(pg_get_triggerdef(g.oid), "
    "quote_ident(current_schema()) || '.', '') FROM pg_trigger g JOIN pg_class c ON c.oid = "
    "g.tgrelid "
    "WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND NOT g.tgisinternal "
    "ORDER BY 1, 2, 3";

static bool same(const PGresult *a, int i, const PGresult *b, int j, int columns)
{
    for (int c = 0; c < columns; c++)
        if (strcmp(PQgetvalue(a, i, c), PQgetvalue(b, j, c)) != 0)
            return false;
    return true;
}

static int find(const PGresult *in, const PGresult *what, int row)
{
    for (int j = 0; j < PQntuples(in); j++)
        if (same(in, j, what, row, 3))
            return j;
    return -1;
}

/* Ours: an object of a table that the wanted schema has. */
static bool is_ours(const PGresult *wanted, const PGresult *real, int row)
{
    for (int j = 0; j < PQntuples(wanted); j++)
        if (strcmp(PQgetvalue(wanted, j, 1), PQgetvalue(real, row, 1)) == 0)
            return true;
    return false;
}

static size_t compare(const tn_schema_req *req, const PGresult *wanted, const PGresult *real)
{
    size_t differences = 0;
    char line[1200];
    for (int i = 0; i < PQntuples(wanted); i++) {
        const char *kind = PQgetvalue(wanted, i, 0), *table = PQgetvalue(wanted, i, 1),
                   *name = PQgetvalue(wanted, i, 2);
        int j = find(real, wanted, i);
        if (j >= 0 && same(wanted, i, real, j, 4))
            continue;
        differences++;
        if (j < 0)
            snprintf(line, sizeof line, "%s %.120s of %.60s is missing", kind, name, table);
        else
            snprintf(line, sizeof line, "%s %.120s of %.60s is \"%.400s\", not \"%.400s\"", kind,
                     name, table, PQgetvalue(real, j, 3), PQgetvalue(wanted, i, 3));
        emit(req, line);
    }
    for (int j = 0; j < PQntuples(real); j++) {
        if (find(wanted, real, j) >= 0 || !is_ours(wanted, real, j))
            continue;
        differences++;
        snprintf(line, sizeof line, "%s %.120s of %.60s is not ours", PQgetvalue(real, j, 0),
                 PQgetvalue(real, j, 2), PQgetvalue(real, j, 1));
        emit(req, line);
    }
    return differences;
}

/* What should be there is made in a schema of its own and rolled back. */
static tn_status check(PGconn *db, const tn_pg_driver *driver, tn_schema_req *req, tn_error *err)
{
    char sql[128];
    if (req->stored == 0 || req->stored > driver->n_schema)
        return tn_pg_error(err, TN_EINVALID, "there is version %u, this driver knows 1 to %u",
                           req->stored, driver->n_schema);
    PGresult *real = tn_pg_exec(db, OBJECTS, err), *wanted = NULL;
    if (!real)
        return err->code;
    snprintf(sql, sizeof sql, "CREATE SCHEMA tn_check_%d; SET LOCAL search_path = tn_check_%d",
             PQbackendPID(db), PQbackendPID(db));
    tn_status status = run(db, sql, err);
    if (status == TN_OK)
        status = climb(db, driver, 0, req->stored, err);
    if (status == TN_OK) {
        wanted = tn_pg_exec(db, OBJECTS, err);
        status = wanted ? TN_OK : err->code;
    }
    size_t differences = status == TN_OK ? compare(req, wanted, real) : 0;
    PQclear(real);
    PQclear(wanted);
    if (differences)
        status = tn_pg_error(err, TN_ECONFLICT, "%zu differences from version %u", differences,
                             req->stored);
    return status;
}

/* ---- the verbs ---------------------------------------------------------------------------------- */

static tn_status change(PGconn *db, const tn_pg_options *options, const tn_pg_driver *driver,
                        tn_schema_req *req, uint32_t to, tn_error *err)
{
    uint32_t from = req->stored;
    if (req->verb == TN_SCHEMA_SETUP && from == to)
        return TN_OK;
    if (req->verb == TN_SCHEMA_SETUP && from)
        return tn_pg_error(err, TN_EINVALID, "there is version %u already, not %u\n    fix: update",
                           from, to);
    if (req->verb == TN_SCHEMA_UPDATE && !from)
        return tn_pg_error(err, TN_EINVALID, "there is no schema yet\n    fix: setup");
    if (from > to)
        return tn_pg_error(err, TN_EINVALID, "there is version %u, which does not go back to %u",
                           from, to);
    if (req->flags & TN_SCHEMA_DRY_RUN) {
        if (from < to)
            emit_climb(req, options, driver, from, to);
        return TN_OK;
    }
    return from < to ? climb(db, driver, from, to, err) : TN_OK;
}

tn_status tn_pg_schema(const tn_host *host, const tn_config *cfg, const tn_pg_driver *driver,
                       tn_schema_req *req, tn_error *err)
{
    tn_pg_options options;
    tn_error local = {0};
    err = err ? err : &local;
    tn_status status = tn_pg_options_read(host, cfg, &options, err);
    if (status != TN_OK)
        return status;
    uint32_t to = req->to ? req->to : driver->n_schema;
    req->wanted = to;
    if (to > driver->n_schema) {
        status = tn_pg_error(err, TN_EINVALID, "version %u is not known, the newest is %u", to,
                             driver->n_schema);
    } else if (req->verb == TN_SCHEMA_DUMP) {
        emit_climb(req, &options, driver, 0, to);
    } else {
        bool writes = (req->verb == TN_SCHEMA_SETUP || req->verb == TN_SCHEMA_UPDATE) &&
                      !(req->flags & TN_SCHEMA_DRY_RUN);
        options.allow_volatile = true; /* a schema needs no safe server */
        PGconn *db = tn_pg_connect(&options, err);
        status = db ? begin(db, &options, writes, err) : err->code;
        if (status == TN_OK)
            status = tn_pg_schema_version(db, driver->component, &req->stored, err);
        if (status == TN_OK && req->verb == TN_SCHEMA_CHECK)
            status = check(db, driver, req, err);
        else if (status == TN_OK && req->verb != TN_SCHEMA_VERSION)
            status = change(db, &options, driver, req, to, err);
        if (db && writes && status == TN_OK)
            status = finish(db, status, err);
        else if (db)
            finish(db, TN_ECANCELLED, NULL);
        PQfinish(db);
    }
    tn_pg_options_done(&options);
    return status;
}
