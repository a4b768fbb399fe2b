/* SPDX-License-Identifier: MIT */
/* SQL text that grows out of pieces.  Values never stand in the text: each becomes a numbered parameter,
 * so a piece may stand in several places. */
#include "private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static bool own(vs_query *q, void *p)
{
    if (q->n_owned == q->cap_owned) {
        size_t cap = q->cap_owned ? q->cap_owned * 2 : 64;
        void **grown = realloc(q->owned, cap * sizeof *grown);
        if (!grown)
            return false;
        q->owned = grown, q->cap_owned = cap;
    }
    q->owned[q->n_owned++] = p;
    return true;
}

void *vs_query_alloc(vs_query *q, size_t n)
{
    void *p = calloc(1, n ? n : 1);
    if (p && !own(q, p)) {
        free(p);
        p = NULL;
    }
    if (!p)
        q->failed = true;
    return p;
}

/* Never NULL; after a failure it is empty and q->failed says so. */
char *vs_format(vs_query *q, const char *fmt, ...)
{
    static char nothing[1];
    va_list args;
    char *text = NULL;
    va_start(args, fmt);
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n < 0 || !own(q, text)) {
        if (n >= 0)
            free(text);
        q->failed = true;
        return nothing;
    }
    return text;
}

static char *param(vs_query *q, const vs_param *p)
{
    if (q->n_params == q->cap_params) {
        size_t cap = q->cap_params ? q->cap_params * 2 : 32;
        vs_param *grown = realloc(q->params, cap * sizeof *grown);
        if (!grown) {
            q->failed = true;
            return vs_format(q, "NULL");
        }
        q->params = grown, q->cap_params = cap;
    }
    q->params[q->n_params++] = *p;
    return vs_format(q, "?%zu", q->n_params);
}

char *vs_int(vs_query *q, int64_t v)
{
    return param(q, &(vs_param){.type = SQLITE_INTEGER, .i = v});
}

char *vs_real(vs_query *q, double v) { return param(q, &(vs_param){.type = SQLITE_FLOAT, .d = v}); }

char *vs_text(vs_query *q, tn_str v)
{
    return param(
        q, &(vs_param){.type = SQLITE_TEXT, .bytes = {(const uint8_t *)(v.p ? v.p : ""), v.n}});
}

char *vs_blob(vs_query *q, tn_blob v)
{
    static const uint8_t nothing[1];
    return param(q, &(vs_param){.type = SQLITE_BLOB, .bytes = {v.p ? v.p : nothing, v.n}});
}

char *vs_run_param(vs_query *q, tn_str run_id)
{
    vs_run run;
    vs_run_parse(run_id, &run);
    if (!run.is_uuid)
        return vs_text(q, run_id);
    uint8_t *copy = vs_query_alloc(q, 16);
    if (copy)
        memcpy(copy, run.bytes, 16);
    return vs_blob(q, (tn_blob){copy, copy ? 16 : 0});
}

char *vs_value(vs_query *q, uint32_t type, tn_blob v)
{
    double d;
    int64_t i = v.n == 8 ? tn_vd_get_i64(v.p) : 0;
    switch (type) {
    case TN_ATTR_INT:
    case TN_ATTR_DATETIME:
        return vs_int(q, i);
    case TN_ATTR_DOUBLE:
        memcpy(&d, &i, sizeof d);
        return vs_real(q, d);
    case TN_ATTR_BOOL:
        return vs_int(q, v.n && v.p[0]);
    default:
        return vs_text(q, (tn_str){(const char *)v.p, v.n});
    }
}

char *vs_join(vs_query *q, char *const *texts, size_t count, const char *with)
{
    if (count == 0)
        return vs_format(q, "1");
    char **level = vs_query_alloc(q, count * sizeof *level);
    if (!level)
        return vs_format(q, "NULL");
    memcpy(level, texts, count * sizeof *level);
    while (count > 1) { /* pairs, then pairs of pairs */
        size_t half = count / 2;
        for (size_t i = 0; i < half; i++)
            level[i] = vs_format(q, "(%s %s %s)", level[2 * i], with, level[2 * i + 1]);
        if (count % 2)
            level[half] = level[count - 1];
        count = half + count % 2;
    }
    return level[0];
}

tn_status vs_query_prepare(vs_conn *conn, vs_query *q, const char *sql, sqlite3_stmt **out,
                           tn_error *err)
{
    if (q->failed)
        return vs_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    int rc = sqlite3_prepare_v2(conn->db, sql, -1, out, NULL);
    int wanted = rc == SQLITE_OK ? sqlite3_bind_parameter_count(*out) : 0;
    for (size_t i = 0; i < q->n_params && (int)i < wanted && rc == SQLITE_OK; i++) {
        const vs_param *p = &q->params[i];
        int at = (int)i + 1;
        switch (p->type) {
        case SQLITE_INTEGER:
            rc = sqlite3_bind_int64(*out, at, p->i);
            break;
        case SQLITE_FLOAT:
            rc = sqlite3_bind_double(*out, at, p->d);
            break;
        case SQLITE_TEXT:
            rc = sqlite3_bind_text64(*out, at, (const char *)p->bytes.p, p->bytes.n, SQLITE_STATIC,
                                     SQLITE_UTF8);
            break;
        case SQLITE_BLOB:
            rc = sqlite3_bind_blob64(*out, at, p->bytes.p, p->bytes.n, SQLITE_STATIC);
            break;
        default:
            rc = sqlite3_bind_null(*out, at);
        }
    }
    if (rc == SQLITE_OK)
        return TN_OK;
    tn_status status = vs_sql_error(conn->db, rc, "query", err);
    sqlite3_finalize(*out);
    *out = NULL;
    return status;
}

void vs_query_done(vs_query *q)
{
    for (size_t i = 0; i < q->n_owned; i++)
        free(q->owned[i]);
    free(q->owned);
    free(q->params);
    memset(q, 0, sizeof *q);
}
