/* SPDX-License-Identifier: MIT */
/* One transaction of puts and removes: of several versions of a run only the last is written, rows keep
 * the indexes they don't change, and the tally of runs by type and status is carried along. */
#include "private.h"

#include <stdlib.h>

typedef struct tally_change {
    int64_t part, status, type, n;
} tally_change;
#define TALLY_MAX 128

typedef struct batch {
    vs_conn *conn;
    tally_change tally[TALLY_MAX];
    size_t n_tally;
} batch;

/* A document taken apart into the columns of its row. */
typedef struct row {
    int64_t id, ns, part, status, type, start, close;
    int64_t tq, div; /* 0: NULL */
    bool has_exec, has_dur, has_len, has_size, has_trans;
    int64_t exec, dur, len, size, trans;
    bool has_rwf;
    tn_str pwf, rwf; /* pwf.p NULL: none; rwf empty: the own */
    bool has_prun, has_rrun;
    tn_str prun, rrun;
    vs_run run;
    vs_bytes attrs; /* of attributes */
    int64_t parent_attr;
} row;

/* What is stored of a run. */
typedef struct stored {
    bool found;
    int64_t id, part, status, type, start, close;
    uint64_t version;
    vs_bytes attrs, parent;
    bool has_parent;
} stored;

static void row_done(row *r) { vs_done(&r->attrs); }

static void stored_done(stored *s)
{
    vs_done(&s->attrs);
    vs_done(&s->parent);
}

/* ---- taking a document apart ------------------------------------------------------------------ */

static bool is_time(int64_t ns) { return ns >= -VS_TIME_MAX && ns <= VS_TIME_MAX; }

static tn_status take_text(batch *b, const tn_vis_doc *doc, const tn_attr *attr, row *r,
                           bool *taken, tn_error *err)
{
    tn_str text = {(const char *)attr->value.p, attr->value.n};
    if (!text.p)
        text.p = "";
    *taken = true;
    if (tn_vd_str_is(attr->name, "WorkflowType"))
        return vs_name_add(b->conn, text, &r->type, err);
    if (tn_vd_str_is(attr->name, "ExecutionStatus"))
        return vs_name_add(b->conn, text, &r->status, err);
    if (tn_vd_str_is(attr->name, "TaskQueue"))
        return vs_name_add(b->conn, text, &r->tq, err);
    if (tn_vd_str_is(attr->name, "TemporalNamespaceDivision")) {
        r->part = r->ns * 2 + 1;
        return vs_name_add(b->conn, text, &r->div, err);
    }
    if (tn_vd_str_is(attr->name, "WorkflowId") || tn_vd_str_is(attr->name, "RunId"))
        return TN_OK; /* the document says them itself */
    if (tn_vd_str_is(attr->name, "ParentWorkflowId")) {
        r->pwf = text;
        return vs_attr_add(b->conn, r->ns, attr->name, TN_ATTR_KEYWORD, &r->parent_attr, err);
    }
    if (tn_vd_str_is(attr->name, "ParentRunId")) {
        r->prun = text, r->has_prun = true;
    } else if (tn_vd_str_is(attr->name, "RootWorkflowId")) {
        bool own = text.n == doc->workflow_id.n && memcmp(text.p, doc->workflow_id.p, text.n) == 0;
        r->rwf = own ? (tn_str){"", 0} : text, r->has_rwf = true;
    } else if (tn_vd_str_is(attr->name, "RootRunId")) {
        bool own = text.n == doc->run_id.n && memcmp(text.p, doc->run_id.p, text.n) == 0;
        r->rrun = own ? (tn_str){"", 0} : text, r->has_rrun = true;
    } else {
        *taken = false;
    }
    return TN_OK;
}

static tn_status take_number(const tn_attr *attr, row *r, bool *taken, tn_error *err)
{
    int64_t v = tn_vd_get_i64(attr->value.p);
    bool time = attr->type == TN_ATTR_DATETIME;
    *taken = true;
    if (time && tn_vd_str_is(attr->name, "StartTime"))
        r->start = v;
    else if (time && tn_vd_str_is(attr->name, "CloseTime"))
        r->close = v;
    else if (time && tn_vd_str_is(attr->name, "ExecutionTime"))
        r->exec = v, r->has_exec = true;
    else if (!time && tn_vd_str_is(attr->name, "ExecutionDuration"))
        r->dur = v, r->has_dur = true;
    else if (!time && tn_vd_str_is(attr->name, "HistoryLength"))
        r->len = v, r->has_len = true;
    else if (!time && tn_vd_str_is(attr->name, "HistorySizeBytes"))
        r->size = v, r->has_size = true;
    else if (!time && tn_vd_str_is(attr->name, "StateTransitionCount"))
        r->trans = v, r->has_trans = true;
    else
        *taken = false;
    if (*taken && time && !is_time(v))
        return vs_error(err, TN_EINVALID, 0, "a time of the document is out of range");
    return TN_OK;
}

static tn_status take_apart(batch *b, const tn_vis_doc *doc, row *r, tn_error *err)
{
    memset(r, 0, sizeof *r);
    r->start = VS_START_NONE;
    r->close = VS_CLOSE_OPEN;
    vs_run_parse(doc->run_id, &r->run);
    tn_status status = vs_name_add(b->conn, doc->ns_id, &r->ns, err);
    r->part = r->ns * 2;
    for (size_t i = 0; i < doc->n_attrs && status == TN_OK; i++) {
        const tn_attr *attr = &doc->attrs[i];
        bool taken = false;
        if (!tn_vd_value_valid(attr->type, attr->value) || attr->name.n == 0 ||
            attr->name.n > 100000)
            return vs_error(err, TN_EINVALID, 0, "an attribute of the document is not of its type");
        if (attr->type == TN_ATTR_KEYWORD)
            status = take_text(b, doc, attr, r, &taken, err);
        else if (attr->type == TN_ATTR_INT || attr->type == TN_ATTR_DATETIME)
            status = take_number(attr, r, &taken, err);
        if (status != TN_OK || taken)
            continue;
        vs_attr own = {.type = attr->type, .value = attr->value};
        status = vs_attr_add(b->conn, r->ns, attr->name, attr->type, &own.id, err);
        if (status == TN_OK)
            vs_attrs_put(&r->attrs, &own);
    }
    if (r->close < r->start) /* queries count on closing after starting */
        r->close = r->start;
    if (status == TN_OK && r->attrs.failed)
        status = vs_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    return status;
}

/* ---- rows ------------------------------------------------------------------------------------- */

static void copy_column(sqlite3_stmt *stmt, int at, vs_bytes *to)
{
    const void *p = sqlite3_column_blob(stmt, at);
    vs_put(to, p, (size_t)sqlite3_column_bytes(stmt, at));
}

static tn_status find(batch *b, int64_t ns, const vs_run *run, stored *s, tn_error *err)
{
    memset(s, 0, sizeof *s);
    sqlite3_stmt *stmt = vs_stmt(b->conn, VS_DOC_FIND, err);
    if (!stmt)
        return err->code;
    sqlite3_bind_int64(stmt, 1, run->slot);
    sqlite3_bind_int64(stmt, 2, run->slot + VS_SLOTS - 1);
    vs_run_bind(stmt, 3, run);
    sqlite3_bind_int64(stmt, 4, ns * 2);
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        s->found = true;
        s->id = sqlite3_column_int64(stmt, 0);
        s->version = (uint64_t)sqlite3_column_int64(stmt, 1);
        s->part = sqlite3_column_int64(stmt, 2);
        s->status = sqlite3_column_int64(stmt, 3);
        s->type = sqlite3_column_int64(stmt, 4);
        s->start = sqlite3_column_int64(stmt, 5);
        s->close = sqlite3_column_int64(stmt, 6);
        s->has_parent = sqlite3_column_type(stmt, 7) != SQLITE_NULL;
        copy_column(stmt, 7, &s->parent);
        copy_column(stmt, 8, &s->attrs);
    }
    tn_status status = rc == SQLITE_ROW || rc == SQLITE_DONE
                           ? TN_OK
                           : vs_sql_error(b->conn->db, rc, "find a run", err);
    if (status == TN_OK && (s->parent.failed || s->attrs.failed))
        status = vs_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    sqlite3_reset(stmt);
    return status;
}

/* The first number from the run's slot on that no row has. */
static tn_status free_id(batch *b, const vs_run *run, int64_t *out, tn_error *err)
{
    sqlite3_stmt *stmt = vs_stmt(b->conn, VS_DOC_TAKEN, err);
    if (!stmt)
        return err->code;
    int64_t id = run->slot, end = run->slot + VS_SLOTS;
    sqlite3_bind_int64(stmt, 1, id);
    sqlite3_bind_int64(stmt, 2, end - 1);
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW && sqlite3_column_int64(stmt, 0) == id)
        id++;
    tn_status status = rc == SQLITE_ROW || rc == SQLITE_DONE
                           ? TN_OK
                           : vs_sql_error(b->conn->db, rc, "place a run", err);
    sqlite3_reset(stmt);
    if (status == TN_OK && id == end)
        return vs_error(err, TN_EINTERNAL, 0, "too many run ids begin alike");
    *out = id;
    return status;
}

static void bind_optional(sqlite3_stmt *stmt, int at, bool has, int64_t v)
{
    if (has)
        sqlite3_bind_int64(stmt, at, v);
}

static void bind_text(sqlite3_stmt *stmt, int at, bool has, tn_str text)
{
    if (has)
        sqlite3_bind_text(stmt, at, text.p ? text.p : "", (int)text.n, SQLITE_STATIC);
}

static void bind_run(sqlite3_stmt *stmt, int at, bool has, tn_str text)
{
    vs_run run;
    if (!has)
        return;
    vs_run_parse(text, &run);
    vs_run_bind(stmt, at, &run);
}

static tn_status store(batch *b, int which, const tn_vis_doc *doc, row *r, tn_error *err)
{
    sqlite3_stmt *stmt = vs_stmt(b->conn, which, err);
    if (!stmt)
        return err->code;
    sqlite3_bind_int64(stmt, 1, r->id);
    if (which != VS_DOC_UPDATE_REST) {
        if (which != VS_DOC_UPDATE)
            sqlite3_bind_int64(stmt, 2, r->part);
        sqlite3_bind_int64(stmt, 3, r->status);
        sqlite3_bind_int64(stmt, 4, r->type);
        sqlite3_bind_int64(stmt, 5, r->start);
        sqlite3_bind_int64(stmt, 6, r->close);
    }
    sqlite3_bind_int64(stmt, 7, (int64_t)doc->version);
    bind_optional(stmt, 8, r->tq != 0, r->tq);
    bind_optional(stmt, 9, r->has_exec, r->start == VS_START_NONE ? r->exec : r->exec - r->start);
    bind_optional(stmt, 10, r->has_dur, r->dur);
    bind_optional(stmt, 11, r->has_len, r->len);
    bind_optional(stmt, 12, r->has_size, r->size);
    bind_optional(stmt, 13, r->has_trans, r->trans);
    bind_text(stmt, 14, r->pwf.p != NULL, r->pwf);
    bind_run(stmt, 15, r->has_prun, r->prun);
    bind_text(stmt, 16, r->has_rwf, r->rwf);
    bind_run(stmt, 17, r->has_rrun, r->rrun);
    bind_optional(stmt, 18, r->div != 0, r->div);
    if (r->attrs.n)
        sqlite3_bind_blob(stmt, 19, r->attrs.p, (int)r->attrs.n, SQLITE_STATIC);
    if (doc->memo.n)
        sqlite3_bind_blob(stmt, 20, doc->memo.p, (int)doc->memo.n, SQLITE_STATIC);
    if (which == VS_DOC_INSERT) {
        vs_run_bind(stmt, 21, &r->run);
        bind_text(stmt, 22, true, doc->workflow_id);
    }
    return vs_run_stmt(b->conn, which, "store a run", err);
}

/* ---- the index of attributes ------------------------------------------------------------------ */

static tn_status index_one(batch *b, int which, int64_t attr, int64_t doc, uint32_t type,
                           tn_blob value, tn_error *err)
{
    sqlite3_stmt *stmt = vs_stmt(b->conn, which, err);
    if (!stmt)
        return err->code;
    int64_t i = value.n == 8 ? tn_vd_get_i64(value.p) : 0;
    double d;
    memcpy(&d, &i, sizeof d);
    sqlite3_bind_int64(stmt, 1, attr);
    switch (type) {
    case TN_ATTR_INT:
    case TN_ATTR_DATETIME:
        sqlite3_bind_int64(stmt, 2, i);
        break;
    case TN_ATTR_DOUBLE:
        if (d != d)
            return TN_OK; /* not a number: SQL has no such value, and nothing compares with it */
        sqlite3_bind_double(stmt, 2, d);
        break;
    case TN_ATTR_BOOL:
        sqlite3_bind_int(stmt, 2, value.p[0]);
        break;
    default:
        sqlite3_bind_text(stmt, 2, value.p ? (const char *)value.p : "", (int)value.n,
                          SQLITE_TRANSIENT);
    }
    sqlite3_bind_int64(stmt, 3, doc);
    return vs_run_stmt(b->conn, which, "index an attribute", err);
}

static tn_status index_attr(batch *b, int which, const vs_attr *attr, int64_t doc, tn_error *err)
{
    tn_status status = TN_OK;
    tn_blob rest = attr->value;
    tn_str item;
    tn_vd_words it;
    switch (attr->type) {
    case TN_ATTR_KEYWORD_LIST:
        while (status == TN_OK && tn_vd_list_next(&rest, &item))
            status = index_one(b, which, attr->id, doc, TN_ATTR_KEYWORD,
                               (tn_blob){(const uint8_t *)item.p, item.n}, err);
        return status;
    case TN_ATTR_TEXT:
        tn_vd_words_begin(&it, attr->value);
        while (status == TN_OK && tn_vd_words_next(&it))
            status = index_one(b, which, attr->id, doc, TN_ATTR_KEYWORD,
                               (tn_blob){(const uint8_t *)it.word, it.n}, err);
        return status;
    default:
        return index_one(b, which, attr->id, doc, attr->type, attr->value, err);
    }
}

static tn_status index_attrs(batch *b, int which, int64_t doc, tn_blob attrs, tn_error *err)
{
    tn_status status = TN_OK;
    vs_attr attr;
    while (status == TN_OK && vs_attrs_next(&attrs, &attr))
        status = index_attr(b, which, &attr, doc, err);
    return status;
}

/* Children are asked for by their parent: that attribute is indexed like a run's own. */
static tn_status index_parent(batch *b, int which, int64_t ns, int64_t doc, tn_blob parent,
                              tn_error *err)
{
    int64_t attr;
    tn_str name = {"ParentWorkflowId", 16};
    tn_status status = vs_attr_add(b->conn, ns, name, TN_ATTR_KEYWORD, &attr, err);
    return status == TN_OK ? index_one(b, which, attr, doc, TN_ATTR_KEYWORD, parent, err) : status;
}

static bool bytes_eq(const vs_bytes *a, const void *p, size_t n)
{
    return a->n == n && (n == 0 || memcmp(a->p, p, n) == 0);
}

static tn_status index_change(batch *b, const stored *old, const row *fresh, tn_error *err)
{
    tn_status status = TN_OK;
    bool same = old && bytes_eq(&old->attrs, fresh->attrs.p, fresh->attrs.n);
    bool same_parent = old && old->has_parent == (fresh->pwf.p != NULL) &&
                       bytes_eq(&old->parent, fresh->pwf.p, fresh->pwf.n);
    tn_blob parent = {(const uint8_t *)fresh->pwf.p, fresh->pwf.n};
    if (old && !same)
        status = index_attrs(b, VS_KV_DELETE, old->id, (tn_blob){old->attrs.p, old->attrs.n}, err);
    if (status == TN_OK && !same)
        status =
            index_attrs(b, VS_KV_PUT, fresh->id, (tn_blob){fresh->attrs.p, fresh->attrs.n}, err);
    if (status == TN_OK && old && old->has_parent && !same_parent)
        status = index_parent(b, VS_KV_DELETE, fresh->ns, old->id,
                              (tn_blob){old->parent.p, old->parent.n}, err);
    if (status == TN_OK && fresh->pwf.p && !same_parent)
        status = index_parent(b, VS_KV_PUT, fresh->ns, fresh->id, parent, err);
    return status;
}

/* ---- tally ------------------------------------------------------------------------------------ */

static tn_status tally_flush(batch *b, tn_error *err)
{
    for (size_t i = 0; i < b->n_tally; i++) {
        const tally_change *c = &b->tally[i];
        if (c->n == 0)
            continue;
        sqlite3_stmt *stmt = vs_stmt(b->conn, VS_TALLY_ADD, err);
        if (!stmt)
            return err->code;
        sqlite3_bind_int64(stmt, 1, c->part);
        sqlite3_bind_int64(stmt, 2, c->status);
        sqlite3_bind_int64(stmt, 3, c->type);
        sqlite3_bind_int64(stmt, 4, c->n);
        tn_status status = vs_run_stmt(b->conn, VS_TALLY_ADD, "count a run", err);
        if (status != TN_OK)
            return status;
    }
    b->n_tally = 0;
    return TN_OK;
}

static tn_status tally(batch *b, int64_t part, int64_t status, int64_t type, int64_t n,
                       tn_error *err)
{
    size_t at = 0;
    while (at < b->n_tally && (b->tally[at].part != part || b->tally[at].status != status ||
                               b->tally[at].type != type))
        at++;
    if (at == TALLY_MAX) {
        tn_status flushed = tally_flush(b, err);
        if (flushed != TN_OK)
            return flushed;
        at = 0;
    }
    if (at == b->n_tally)
        b->tally[b->n_tally++] = (tally_change){part, status, type, 0};
    b->tally[at].n += n;
    return TN_OK;
}

/* ---- one document ----------------------------------------------------------------------------- */

static tn_status put_over(batch *b, const tn_vis_doc *doc, const stored *old, row *r, tn_error *err)
{
    bool moved = old->part != r->part || old->status != r->status || old->type != r->type ||
                 old->start != r->start || old->close != r->close;
    r->id = old->id;
    int which = old->part != r->part ? VS_DOC_MOVE : moved ? VS_DOC_UPDATE : VS_DOC_UPDATE_REST;
    tn_status status = store(b, which, doc, r, err);
    if (status == TN_OK)
        status = index_change(b, old, r, err);
    if (status == TN_OK && moved)
        status = tally(b, old->part, old->status, old->type, -1, err);
    if (status == TN_OK && moved)
        status = tally(b, r->part, r->status, r->type, 1, err);
    return status;
}

static tn_status put(batch *b, const tn_vis_doc *doc, tn_error *err)
{
    row r;
    stored old = {0};
    tn_status status = take_apart(b, doc, &r, err);
    if (status == TN_OK)
        status = find(b, r.ns, &r.run, &old, err);
    if (status == TN_OK && old.found && old.version < doc->version) {
        status = put_over(b, doc, &old, &r, err);
    } else if (status == TN_OK && !old.found) {
        status = free_id(b, &r.run, &r.id, err);
        if (status == TN_OK)
            status = store(b, VS_DOC_INSERT, doc, &r, err);
        if (status == TN_OK)
            status = index_change(b, NULL, &r, err);
        if (status == TN_OK)
            status = tally(b, r.part, r.status, r.type, 1, err);
    }
    row_done(&r);
    stored_done(&old);
    return status;
}

static tn_status take_out(batch *b, const tn_vis_doc *key, tn_error *err)
{
    int64_t ns;
    vs_run run;
    stored old = {0};
    tn_status status = vs_name_find(b->conn, key->ns_id, &ns, err);
    if (status != TN_OK || !ns)
        return status;
    vs_run_parse(key->run_id, &run);
    status = find(b, ns, &run, &old, err);
    if (status == TN_OK && old.found) {
        const row nothing = {.ns = ns, .id = old.id};
        status = index_change(b, &old, &nothing, err);
        sqlite3_stmt *stmt = status == TN_OK ? vs_stmt(b->conn, VS_DOC_DELETE, err) : NULL;
        if (stmt) {
            sqlite3_bind_int64(stmt, 1, old.id);
            status = vs_run_stmt(b->conn, VS_DOC_DELETE, "remove a run", err);
        } else if (status == TN_OK) {
            status = err->code;
        }
        if (status == TN_OK)
            status = tally(b, old.part, old.status, old.type, -1, err);
    }
    stored_done(&old);
    return status;
}

/* ---- one transaction -------------------------------------------------------------------------- */

static uint64_t run_hash(const tn_vis_doc *doc)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < doc->run_id.n; i++)
        h = (h ^ (uint8_t)doc->run_id.p[i]) * 0x100000001b3u;
    for (size_t i = 0; i < doc->ns_id.n; i++)
        h = (h ^ (uint8_t)doc->ns_id.p[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

static bool same_run(const tn_vis_doc *a, const tn_vis_doc *b)
{
    return a->run_id.n == b->run_id.n && a->ns_id.n == b->ns_id.n &&
           memcmp(a->run_id.p, b->run_id.p, a->run_id.n) == 0 &&
           memcmp(a->ns_id.p, b->ns_id.p, a->ns_id.n) == 0;
}

/* Of the puts of one run between two removes only the newest need be written. */
static void mark_superseded(vs_write **writes, size_t count)
{
    size_t slots = 16;
    while (slots < count * 2)
        slots *= 2;
    vs_write **last = calloc(slots, sizeof *last);
    if (!last)
        return; /* then all are written, in order */
    for (size_t i = 0; i < count; i++) {
        size_t at = run_hash(writes[i]->doc) & (slots - 1);
        while (last[at] && !same_run(last[at]->doc, writes[i]->doc))
            at = (at + 1) & (slots - 1);
        vs_write *before = last[at];
        if (before && !before->remove && !writes[i]->remove) {
            bool newer = writes[i]->doc->version > before->doc->version;
            (newer ? before : writes[i])->superseded = true;
            if (!newer)
                continue;
        }
        last[at] = writes[i];
    }
    free(last);
}

static tn_status apply(vs_conn *conn, vs_write **writes, size_t count, tn_error *err)
{
    batch b = {.conn = conn};
    if (!vs_stmt(conn, VS_BEGIN, err))
        return err->code;
    tn_status status = vs_run_stmt(conn, VS_BEGIN, "begin", err);
    for (size_t i = 0; i < count && status == TN_OK; i++) {
        if (writes[i]->superseded)
            continue;
        status =
            writes[i]->remove ? take_out(&b, writes[i]->doc, err) : put(&b, writes[i]->doc, err);
    }
    if (status == TN_OK)
        status = tally_flush(&b, err);
    if (status == TN_OK) {
        if (!vs_stmt(conn, VS_COMMIT, err))
            status = err->code;
        else
            status = vs_run_stmt(conn, VS_COMMIT, "commit", err);
        if (status != TN_OK && (err->vendor_code & 0xff) == SQLITE_IOERR)
            status = err->code = TN_EUNCERTAIN; /* the log may hold it yet */
    }
    if (status != TN_OK) {
        tn_error ignored = {0};
        if (!sqlite3_get_autocommit(conn->db) && vs_stmt(conn, VS_ROLLBACK, &ignored))
            (void)vs_run_stmt(conn, VS_ROLLBACK, "roll back", &ignored);
        vs_conn_forget(conn);
    }
    return status;
}

void vs_write_batch(vs_conn *conn, vs_write **writes, size_t count, tn_error *err)
{
    for (size_t i = 0; i < count; i++)
        writes[i]->superseded = false;
    mark_superseded(writes, count);
    tn_status status = apply(conn, writes, count, err);
    bool member = status == TN_EINVALID || status == TN_EINTERNAL || status == TN_ETOOLARGE;
    if (!member || count == 1) {
        for (size_t i = 0; i < count; i++)
            writes[i]->status = status;
        return;
    }
    /* One of them is at fault: each by itself, so that the others don't suffer. */
    for (size_t i = 0; i < count; i++) {
        tn_error own = {0};
        writes[i]->superseded = false;
        writes[i]->status = apply(conn, &writes[i], 1, &own);
        if (writes[i]->status != TN_OK)
            *err = own;
    }
}
