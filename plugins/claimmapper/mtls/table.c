/* SPDX-License-Identifier: MIT */
/* The table: rows of patterns, and the permissions of those whom they take. */
#include "private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const field_names[MT_FIELDS] = {
    "uri", "dns", "organization", "organizationalUnit", "commonName", "subject"};

typedef struct source {
    const tn_host *host;
    const tn_config *cfg;
    tn_error *err;
} source;

tn_status mt_error(tn_error *err, tn_status code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    err->code = code;
    err->vendor_code = 0;
    return code;
}

static tn_status complain(const source *s, const char *path, const char *text)
{
    s->host->cfg_complain(s->cfg, path, text, s->err);
    return TN_EINVALID;
}

void mt_table_done(mt_table *table)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        mt_row *row = &table->rows[i];
        for (int f = 0; f < MT_FIELDS; f++)
            free(row->globs[f]);
        for (int f = 0; f <= MT_DNS; f++)
            az_path_free(row->parts[f]);
        free(row->grants);
    }
    free(table->rows);
    *table = (mt_table){0};
}

/* ---- a row ---- */

static tn_status read_pattern(const source *s, mt_row *row, size_t index, mt_field field, bool *any)
{
    char path[80], told[200];
    const char *why = NULL;
    tn_str text;
    snprintf(path, sizeof path, "table.%zu.%s", index, field_names[field]);
    tn_status status = s->host->cfg_str(s->cfg, path, &text, s->err);
    if (status != TN_OK)
        return status == TN_ENOTFOUND ? TN_OK : status;
    if (text.n == 0 || text.n > MT_NAME_BYTES_MAX)
        return complain(
            s, path, "is empty, or longer than 2048 bytes\n    fix: leave it out, or shorten it");
    if (field <= MT_DNS)
        row->parts[field] =
            az_path_compile(text.p, text.n, field == MT_URI ? '/' : '.', field == MT_DNS, &why);
    else
        row->globs[field] = az_glob_compile(text.p, text.n, &why);
    if (why) {
        snprintf(told, sizeof told, "is no pattern: %s\n    fix: see tenon-claimmapper(7), mtls",
                 why);
        return complain(s, path, told);
    }
    if (field == MT_URI)
        row->spiffe = text.n >= 9 && strncasecmp(text.p, "spiffe://", 9) == 0;
    *any = true;
    return TN_OK;
}

static uint32_t role_of(const char *word, size_t n)
{
    static const struct {
        const char *name;
        uint32_t role;
    } roles[] = {{"read", TN_ROLE_READER},
                 {"write", TN_ROLE_WRITER},
                 {"admin", TN_ROLE_ADMIN},
                 {"worker", TN_ROLE_WORKER}};
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (n == strlen(roles[i].name) && strncasecmp(word, roles[i].name, n) == 0)
            return roles[i].role;
    return 0;
}

static bool add_permission(mt_row *row, tn_str text)
{
    const char *colon = text.n ? memrchr(text.p, ':', text.n) : NULL;
    if (!colon || colon == text.p)
        return false;
    tn_str ns = {text.p, (size_t)(colon - text.p)};
    uint32_t role = role_of(colon + 1, text.n - ns.n - 1);
    if (ns.n == 15 && memcmp(ns.p, "temporal-system", 15) == 0)
        row->system_roles |= role;
    else
        row->grants[row->n_grants++] = (tn_role_grant){.ns = ns, .roles = role};
    return role != 0;
}

static tn_status read_permissions(const source *s, mt_row *row, size_t index)
{
    char path[80];
    snprintf(path, sizeof path, "table.%zu.permissions", index);
    size_t n = s->host->cfg_count(s->cfg, path);
    if (n == 0 || n > MT_PERMISSIONS_MAX)
        return complain(s, path,
                        "wants a list of 1 to 256 texts\n    fix: permissions: [\"orders:write\"]");
    row->grants = calloc(n, sizeof *row->grants);
    if (!row->grants)
        return mt_error(s->err, TN_EUNAVAILABLE, "out of memory");
    for (size_t i = 0; i < n; i++) {
        tn_str text;
        snprintf(path, sizeof path, "table.%zu.permissions.%zu", index, i);
        tn_status status = s->host->cfg_str(s->cfg, path, &text, s->err);
        if (status == TN_EINVALID)
            return status;
        if (status != TN_OK || !add_permission(row, text))
            return complain(
                s, path,
                "is no permission\n    fix: NAMESPACE:ROLE with read, write, worker or admin; "
                "temporal-system:ROLE for the whole system");
    }
    return TN_OK;
}

static tn_status read_row(const source *s, mt_row *row, size_t index)
{
    char path[40];
    bool any = false;
    for (mt_field f = 0; f < MT_FIELDS; f++) {
        tn_status status = read_pattern(s, row, index, f, &any);
        if (status != TN_OK)
            return status;
    }
    snprintf(path, sizeof path, "table.%zu", index);
    if (!any)
        return complain(s, path,
                        "asks for nothing of the certificate\n    fix: uri, dns, organization, "
                        "organizationalUnit, "
                        "commonName or subject; subject: \"*\" takes every certificate");
    return read_permissions(s, row, index);
}

/* ---- all ---- */

static tn_status read_subject_from(const source *s, mt_table *out)
{
    static const char *const names[] = {"auto", "uri", "dns", "commonName", "subject"};
    tn_str text;
    tn_status status = s->host->cfg_str(s->cfg, "subjectFrom", &text, s->err);
    if (status != TN_OK)
        return status == TN_ENOTFOUND ? TN_OK : status;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (text.n == strlen(names[i]) && memcmp(text.p, names[i], text.n) == 0) {
            out->subject_from = (mt_subject_from)i;
            return TN_OK;
        }
    return complain(s, "subjectFrom",
                    "is not known\n    fix: auto, uri, dns, commonName or subject");
}

tn_status mt_table_read(const tn_host *host, const tn_config *cfg, mt_table *out, tn_error *err)
{
    const source s = {host, cfg, err};
    int32_t unexpired = 1;
    size_t n = host->cfg_count(cfg, "table");
    *out = (mt_table){.rows = calloc(n ? n : 1, sizeof *out->rows)};
    tn_status status = out->rows ? TN_OK : mt_error(err, TN_EUNAVAILABLE, "out of memory");
    if (status == TN_OK && (n == 0 || n > MT_ROWS_MAX))
        status =
            complain(&s, "table",
                     "wants 1 to 1024 rows\n    fix: table: [{organization: Acme, permissions: "
                     "[\"orders:write\"]}]");
    if (status == TN_OK)
        status = read_subject_from(&s, out);
    if (status == TN_OK && host->cfg_bool(cfg, "refuseExpired", &unexpired, err) == TN_EINVALID)
        status = TN_EINVALID;
    out->unexpired = unexpired != 0;
    for (size_t i = 0; status == TN_OK && i < n; i++) {
        out->n_rows = i + 1;
        status = read_row(&s, &out->rows[i], i);
    }
    if (status != TN_OK)
        mt_table_done(out);
    return status;
}
