/* SPDX-License-Identifier: MIT */
/* One transaction of puts and removes: lock the runs' rows, decide what the last state of each run is, write
 * only what that changes.  A transaction whose end is in doubt is simply done again: versions make a
 * second time harmless. */
#include "private.h"

#include <mysqld_error.h>
#include <stdlib.h>

#define BATCH_NS (9 * MS_SEC) /* below what the server waits by default */
#define ATTEMPT_NS (3 * MS_SEC)
#define PATIENCE_NS (1 * MS_SEC) /* for a connection */
#define TRIES_MAX 30
#define SIDES_AT_ONCE 50u

typedef struct side { /* a row of tenon_vis_attr */
    uint32_t attr;
    mv_bytes val;
} side;

typedef struct prepared { /* a document as it will be stored */
    uint32_t ns;
    mv_bytes run;
    const char *tuple;
    size_t tuple_n;
    side *sides;
    size_t n_sides;
    mv_kinds kinds;
} prepared;

typedef struct target { /* a run that the batch touches */
    uint32_t ns;
    mv_bytes run;
    bool found, there, changed;
    uint64_t ver;
    const prepared *doc; /* NULL: what is stored stays, or it goes */
    side *old;
    size_t n_old;
    mv_kinds kinds; /* as found */
} target;

typedef struct batch {
    mv_inst *inst;
    ms_conn *conn;
    ms_pool pool;
    mv_write **writes;
    prepared *docs; /* one a write */
    target *targets;
    size_t n, n_targets;
    uint64_t end_ns, deadline_ns; /* of the batch, of an attempt */
    bool sent;                    /* a COMMIT whose answer is not known */
} batch;

static tn_status no_memory(tn_error *err)
{
    return ms_error(err, TN_EUNAVAILABLE, 0, "out of memory");
}

static bool keep_bytes(batch *b, const void *p, size_t n, mv_bytes *out)
{
    uint8_t *copy = ms_pool_get(&b->pool, n ? n : 1);
    if (!copy)
        return false;
    if (n)
        memcpy(copy, p, n);
    *out = (mv_bytes){copy, (uint32_t)n};
    return true;
}

/* ---- what own attributes are found by ----------------------------------------------------------- */

static int side_cmp(const void *a, const void *b)
{
    const side *x = a, *y = b;
    if (x->attr != y->attr)
        return x->attr < y->attr ? -1 : 1;
    uint32_t n = x->val.n < y->val.n ? x->val.n : y->val.n;
    int c = n ? memcmp(x->val.p, y->val.p, n) : 0;
    return c ? c : (x->val.n > y->val.n) - (x->val.n < y->val.n);
}

typedef struct sides {
    side *p;
    size_t n, cap;
    bool failed;
} sides;

static void add_side(batch *b, sides *s, uint32_t attr, const void *p, size_t n)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 16;
        side *grown = ms_pool_get(&b->pool, cap * sizeof *grown);
        if (!grown) {
            s->failed = true;
            return;
        }
        if (s->n)
            memcpy(grown, s->p, s->n * sizeof *grown);
        s->p = grown;
        s->cap = cap;
    }
    if (keep_bytes(b, p, n, &s->p[s->n].val))
        s->p[s->n++].attr = attr;
    else
        s->failed = true;
}

static void add_sides(batch *b, sides *s, uint32_t attr, uint32_t type, tn_blob value)
{
    uint8_t val[MV_VAL_MAX];
    if (type != TN_ATTR_TEXT && type != TN_ATTR_KEYWORD_LIST) {
        add_side(b, s, attr, val, mv_value_encode(type, value, val));
        return;
    }
    add_side(b, s, attr, "", 0); /* that it is there at all */
    if (type == TN_ATTR_TEXT) {
        tn_vd_words it;
        for (tn_vd_words_begin(&it, value); tn_vd_words_next(&it);)
            add_side(b, s, attr, val, mv_item_encode(it.word, it.n, val));
        return;
    }
    tn_str item;
    while (tn_vd_list_next(&value, &item))
        add_side(b, s, attr, val, mv_item_encode(item.p, item.n, val));
}

static void settle_sides(sides *s)
{
    size_t n = 0;
    if (s->n)
        qsort(s->p, s->n, sizeof *s->p, side_cmp);
    for (size_t i = 0; i < s->n; i++)
        if (n == 0 || side_cmp(&s->p[n - 1], &s->p[i]) != 0)
            s->p[n++] = s->p[i];
    s->n = n;
}

/* ---- taking a document apart -------------------------------------------------------------------- */

enum { TQ, EXEC, DUR, LEN, SIZE, TRANS, PWF, PRUN, RWF, RRUN, DIVISION, STATUS, TYPE, OPTIONALS };
typedef struct parts {
    int64_t start, close;
    int64_t numbers[OPTIONALS];
    tn_str texts[OPTIONALS];
    bool has[OPTIONALS];
    ms_text own;
    sides sides;
} parts;

static const struct {
    const char *name;
    uint32_t type;
    int at; /* -1: StartTime, -2: CloseTime, -3: the document says it itself */
    size_t most;
} SYSTEM[] = {
    {"WorkflowType", TN_ATTR_KEYWORD, TYPE, 1000},
    {"ExecutionStatus", TN_ATTR_KEYWORD, STATUS, 100},
    {"TaskQueue", TN_ATTR_KEYWORD, TQ, 1000},
    {"TemporalNamespaceDivision", TN_ATTR_KEYWORD, DIVISION, 1000},
    {"WorkflowId", TN_ATTR_KEYWORD, -3, SIZE_MAX},
    {"RunId", TN_ATTR_KEYWORD, -3, SIZE_MAX},
    {"ParentWorkflowId", TN_ATTR_KEYWORD, PWF, MV_WF_MAX},
    {"ParentRunId", TN_ATTR_KEYWORD, PRUN, MV_RUN_MAX},
    {"RootWorkflowId", TN_ATTR_KEYWORD, RWF, MV_WF_MAX},
    {"RootRunId", TN_ATTR_KEYWORD, RRUN, MV_RUN_MAX},
    {"StartTime", TN_ATTR_DATETIME, -1, 8},
    {"CloseTime", TN_ATTR_DATETIME, -2, 8},
    {"ExecutionTime", TN_ATTR_DATETIME, EXEC, 8},
    {"ExecutionDuration", TN_ATTR_INT, DUR, 8},
    {"HistoryLength", TN_ATTR_INT, LEN, 8},
    {"HistorySizeBytes", TN_ATTR_INT, SIZE, 8},
    {"StateTransitionCount", TN_ATTR_INT, TRANS, 8},
};

static tn_status take_system(const tn_attr *attr, size_t which, parts *p, tn_error *err)
{
    int at = SYSTEM[which].at;
    if (attr->type != SYSTEM[which].type)
        return ms_error(err, TN_EINVALID, 0, "%s is of another type", SYSTEM[which].name);
    if (attr->value.n > SYSTEM[which].most)
        return ms_error(err, TN_EINVALID, 0, "%s has %zu bytes, the limit is %zu",
                        SYSTEM[which].name, attr->value.n, SYSTEM[which].most);
    if (at == -3)
        return TN_OK;
    if (attr->type == TN_ATTR_KEYWORD) {
        p->texts[at] = (tn_str){(const char *)attr->value.p, attr->value.n};
        p->has[at] = true;
        return TN_OK;
    }
    int64_t v = tn_vd_get_i64(attr->value.p);
    if (at == -1)
        p->start = v;
    else if (at == -2)
        p->close = v;
    else
        p->numbers[at] = v, p->has[at] = true;
    return TN_OK;
}

static tn_status take_own(batch *b, uint32_t ns, const tn_attr *attr, parts *p, tn_error *err)
{
    uint32_t id, n = (uint32_t)attr->value.n;
    tn_status status =
        mv_name_add(b->inst, b->conn, ns, attr->type, attr->name, b->deadline_ns, &id, err);
    if (status != TN_OK)
        return status;
    const uint8_t head[9] = {(uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8),
                             (uint8_t)id,         (uint8_t)attr->type, (uint8_t)(n >> 24),
                             (uint8_t)(n >> 16),  (uint8_t)(n >> 8),   (uint8_t)n};
    ms_put(&p->own, (const char *)head, sizeof head);
    ms_put(&p->own, (const char *)attr->value.p, n);
    add_sides(b, &p->sides, id, attr->type, attr->value);
    return TN_OK;
}

static tn_status take_attr(batch *b, uint32_t ns, const tn_attr *attr, parts *p, tn_error *err)
{
    if (attr->name.n == 0 || !tn_vd_value_valid(attr->type, attr->value))
        return ms_error(err, TN_EINVALID, 0, "an attribute of the document is not of its type");
    for (size_t i = 0; i < MV_COUNT(SYSTEM); i++)
        if (tn_vd_str_is(attr->name, SYSTEM[i].name))
            return take_system(attr, i, p, err);
    return take_own(b, ns, attr, p, err);
}

static void put_text(ms_text *t, const parts *p, int at)
{
    if (p->has[at])
        ms_put_bytes(t, p->texts[at].p, p->texts[at].n);
    else
        ms_puts(t, "NULL");
    ms_put(t, ",", 1);
}

static void put_i64(ms_text *t, int64_t v)
{
    if (v < 0)
        ms_put(t, "-", 1);
    ms_put_u64(t, v < 0 ? -(uint64_t)v : (uint64_t)v);
    ms_put(t, ",", 1);
}

static void put_number(ms_text *t, const parts *p, int at)
{
    if (p->has[at])
        put_i64(t, p->numbers[at]);
    else
        ms_puts(t, "NULL,");
}

static void put_run(ms_text *t, const parts *p, int at)
{
    uint8_t run[MV_RUN_BYTES];
    if (!p->has[at])
        ms_puts(t, "NULL");
    else if (p->texts[at].n == 0)
        ms_puts(t, "''");
    else
        ms_put_bytes(t, run, mv_run_encode(p->texts[at], run));
    ms_put(t, ",", 1);
}

static bool same(tn_str a, tn_str b) { return a.n == b.n && (!a.n || memcmp(a.p, b.p, a.n) == 0); }

/* The columns in the order of the table. */
static void put_tuple(ms_text *t, const tn_vis_doc *doc, const prepared *d, parts *p)
{
    if (p->has[RWF] && same(p->texts[RWF], doc->workflow_id))
        p->texts[RWF].n = 0;
    if (p->has[RRUN] && same(p->texts[RRUN], doc->run_id))
        p->texts[RRUN].n = 0;
    ms_putf(t, "(%u,", d->ns);
    ms_put_bytes(t, d->run.p, d->run.n);
    ms_put(t, ",", 1);
    ms_put_u64(t, doc->version);
    ms_puts(t, p->has[DIVISION] ? ",1," : ",0,");
    put_text(t, p, STATUS);
    put_text(t, p, TYPE);
    put_i64(t, p->close);
    put_i64(t, p->start);
    ms_put_bytes(t, doc->workflow_id.p, doc->workflow_id.n);
    ms_put(t, ",", 1);
    put_text(t, p, TQ);
    for (int at = EXEC; at <= TRANS; at++)
        put_number(t, p, at);
    put_text(t, p, PWF);
    put_run(t, p, PRUN);
    put_text(t, p, RWF);
    put_run(t, p, RRUN);
    put_text(t, p, DIVISION);
    if (p->own.n)
        ms_put_bytes(t, p->own.p, p->own.n);
    else
        ms_puts(t, "NULL");
    ms_put(t, ",", 1);
    if (doc->memo.n)
        ms_put_bytes(t, doc->memo.p, doc->memo.n);
    else
        ms_puts(t, "NULL");
    ms_put(t, ")", 1);
}

/* In the document's memory, which lives as long as its operation. */
static mv_text kind_of(const parts *p, int at)
{
    if (!p->has[at])
        return (mv_text){NULL, 0};
    return (mv_text){p->texts[at].n ? p->texts[at].p : "", p->texts[at].n};
}

static tn_status take_apart(batch *b, const tn_vis_doc *doc, prepared *d, parts *p, tn_error *err)
{
    static const tn_str parent = {"ParentWorkflowId", 16};
    tn_status status = TN_OK;
    if (doc->workflow_id.n > MV_WF_MAX)
        return ms_error(err, TN_EINVALID, 0, "a workflow id of %zu bytes, the limit is %u",
                        doc->workflow_id.n, MV_WF_MAX);
    for (size_t i = 0; i < doc->n_attrs && status == TN_OK; i++)
        status = take_attr(b, d->ns, &doc->attrs[i], p, err);
    if (status == TN_OK && p->has[PWF]) { /* children are looked for by it, few runs have it */
        uint32_t id;
        tn_blob value = {(const uint8_t *)p->texts[PWF].p, p->texts[PWF].n};
        status =
            mv_name_add(b->inst, b->conn, d->ns, TN_ATTR_KEYWORD, parent, b->deadline_ns, &id, err);
        if (status == TN_OK)
            add_sides(b, &p->sides, id, TN_ATTR_KEYWORD, value);
    }
    if (status != TN_OK)
        return status;
    ms_text tuple = {0};
    mv_bytes kept = {0};
    settle_sides(&p->sides);
    put_tuple(&tuple, doc, d, p);
    if (tuple.failed || p->own.failed || p->sides.failed || !keep_bytes(b, tuple.p, tuple.n, &kept))
        status = no_memory(err);
    else if (tuple.n + 100000 > b->conn->packet_max)
        status = ms_error(err, TN_ETOOLARGE, 0,
                          "the document does not fit the database's max_allowed_packet of %zu",
                          b->conn->packet_max);
    ms_text_done(&tuple);
    if (status == TN_OK) {
        d->tuple = (const char *)kept.p;
        d->tuple_n = kept.n;
        d->sides = p->sides.p;
        d->n_sides = p->sides.n;
        d->kinds = (mv_kinds){.ns = d->ns,
                              .status = kind_of(p, STATUS),
                              .type = kind_of(p, TYPE),
                              .division = kind_of(p, DIVISION)};
    }
    return status;
}

static tn_status prepare(batch *b, const mv_write *w, prepared *d, tn_error *err)
{
    uint8_t run[MV_RUN_BYTES];
    tn_status status =
        mv_name_add(b->inst, b->conn, 0, 0, w->doc->ns_id, b->deadline_ns, &d->ns, err);
    if (status == TN_OK && !keep_bytes(b, run, mv_run_encode(w->doc->run_id, run), &d->run))
        status = no_memory(err);
    if (status != TN_OK || w->remove)
        return status;
    parts p = {.start = MV_START_NONE, .close = MV_CLOSE_OPEN};
    status = take_apart(b, w->doc, d, &p, err);
    ms_text_done(&p.own);
    return status;
}

/* ---- the state of runs -------------------------------------------------------------------------- */

static int target_cmp(uint32_t ns, mv_bytes run, const target *t)
{
    if (ns != t->ns)
        return ns < t->ns ? -1 : 1;
    uint32_t n = run.n < t->run.n ? run.n : t->run.n;
    int c = memcmp(run.p, t->run.p, n);
    return c ? c : (run.n > t->run.n) - (run.n < t->run.n);
}

static int target_order(const void *a, const void *b)
{
    const target *x = a;
    return target_cmp(x->ns, x->run, b);
}

static target *find_target(batch *b, uint32_t ns, mv_bytes run)
{
    size_t low = 0, high = b->n_targets;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = target_cmp(ns, run, &b->targets[mid]);
        if (c == 0)
            return &b->targets[mid];
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

static void make_targets(batch *b)
{
    size_t n = 0;
    b->n_targets = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->writes[i]->status == TN_PENDING)
            b->targets[n++] = (target){.ns = b->docs[i].ns, .run = b->docs[i].run};
    if (n)
        qsort(b->targets, n, sizeof *b->targets, target_order);
    for (size_t i = 0; i < n; i++)
        if (b->n_targets == 0 || target_order(&b->targets[b->n_targets - 1], &b->targets[i]) != 0)
            b->targets[b->n_targets++] = b->targets[i];
}

/* "ns=1 AND run IN (...)" of the targets from `at` on that are wanted and of one namespace; where it ends. */
static size_t put_runs(const batch *b, ms_text *t, size_t at, bool (*wanted)(const target *))
{
    uint32_t ns = b->targets[at].ns;
    ms_putf(t, "ns=%u AND run IN (", ns);
    for (size_t n = 0; at < b->n_targets && b->targets[at].ns == ns; at++) {
        if (!wanted(&b->targets[at]))
            continue;
        if (n++)
            ms_put(t, ",", 1);
        ms_put_bytes(t, b->targets[at].run.p, b->targets[at].run.n);
    }
    ms_put(t, ")", 1);
    return at;
}

static bool any(const target *t)
{
    (void)t;
    return true;
}

static bool goes(const target *t) { return t->changed && !t->doc && t->found; }

static bool keep_kind(batch *b, MYSQL_ROW row, const unsigned long *n, int at, mv_text *out)
{
    mv_bytes kept;
    if (!row[at])
        return true;
    if (!keep_bytes(b, row[at], n[at], &kept))
        return false;
    *out = (mv_text){(const char *)kept.p, kept.n};
    return true;
}

static bool note_stored(batch *b, MYSQL_ROW row, const unsigned long *n)
{
    static const tn_str parent = {"ParentWorkflowId", 16};
    mv_bytes run = {(const uint8_t *)row[1], (uint32_t)n[1]};
    target *t = find_target(b, (uint32_t)ms_u64(row, 0), run);
    if (!t)
        return true;
    t->found = t->there = true;
    t->ver = ms_u64(row, 2);
    sides s = {0};
    tn_blob rest = {(const uint8_t *)row[3], row[3] ? n[3] : 0}, value;
    uint32_t attr, type, id = 0;
    while (mv_own_next(&rest, &attr, &type, &value))
        add_sides(b, &s, attr, type, value);
    tn_error ignored = {0};
    /* Known: whoever stored the row made the name, and prepare() asked for it when a document has one. */
    if (row[4] &&
        mv_name_find(b->inst, b->conn, t->ns, TN_ATTR_KEYWORD, parent, b->deadline_ns, &id,
                     &ignored) == TN_OK &&
        id)
        add_sides(b, &s, id, TN_ATTR_KEYWORD, (tn_blob){(const uint8_t *)row[4], n[4]});
    settle_sides(&s);
    t->old = s.p;
    t->n_old = s.n;
    t->kinds = (mv_kinds){.ns = t->ns};
    return !s.failed && keep_kind(b, row, n, 5, &t->kinds.status) &&
           keep_kind(b, row, n, 6, &t->kinds.type) && keep_kind(b, row, n, 7, &t->kinds.division);
}

static ms_fault read_stored(batch *b, tn_error *err)
{
    ms_text sql = {0};
    ms_reply reply;
    bool fits = true;
    ms_puts(&sql,
            "BEGIN;SELECT ns,run,ver,sa,pwf,status,type,division FROM tenon_vis_run FORCE INDEX "
            "(PRIMARY) WHERE (");
    for (size_t i = 0; i < b->n_targets;) {
        if (i)
            ms_puts(&sql, ") OR (");
        i = put_runs(b, &sql, i, any);
    }
    ms_put(&sql, ")", 1);
    ms_puts(&sql, " FOR UPDATE");
    ms_fault f = ms_run(b->conn, &sql, b->deadline_ns, &reply, err);
    ms_text_done(&sql);
    for (MYSQL_ROW row; f == MS_FINE && fits && (row = mysql_fetch_row(reply.rows[1]));)
        fits = note_stored(b, row, mysql_fetch_lengths(reply.rows[1]));
    ms_reply_done(&reply);
    if (fits)
        return f;
    no_memory(err);
    return MS_SQL;
}

static void decide(batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        const mv_write *w = b->writes[i];
        if (w->status != TN_PENDING)
            continue;
        target *t = find_target(b, b->docs[i].ns, b->docs[i].run);
        if (w->remove) {
            t->changed = t->changed || t->there;
            t->there = false;
            t->doc = NULL;
        } else if (!t->there || w->doc->version > t->ver) {
            t->changed = t->there = true;
            t->ver = w->doc->version;
            t->doc = &b->docs[i];
        }
    }
}

/* ---- statements --------------------------------------------------------------------------------- */

#define INTO "INSERT INTO tenon_vis_run (ns," MV_DOC_COLUMNS ") VALUES "
#define SET(c) #c "=VALUES(" #c ")"

static void put_docs(batch *b, ms_text *sql, bool found)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n_targets; i++) {
        const target *t = &b->targets[i];
        if (!t->changed || !t->doc || t->found != found)
            continue;
        ms_puts(sql, n++ ? "," : INTO);
        ms_put(sql, t->doc->tuple, t->doc->tuple_n);
    }
    if (n && found)
        ms_puts(
            sql,
            " ON DUPLICATE KEY UPDATE " SET(ver) "," SET(part) "," SET(status) "," SET(type) "," SET(close) "," SET(start) "," SET(wf) "," SET(tq) "," SET(exec) "," SET(
                dur) "," SET(len) "," SET(size) "," SET(trans) "," SET(pwf) "," SET(prun) "," SET(rwf) "," SET(rrun) "," SET(division) "," SET(sa) "," SET(memo));
    if (n)
        ms_put(sql, ";", 1);
}

static void put_side(ms_text *sql, const char *open, const target *t, const side *s)
{
    ms_puts(sql, open);
    ms_put_bytes(sql, t->run.p, t->run.n);
    ms_putf(sql, ",%u,", s->attr);
    ms_put_bytes(sql, s->val.p, s->val.n);
    ms_put(sql, ")", 1);
}

/* Some at a time: the servers' time for such a condition grows with the square of its length. */
static void put_gone_side(ms_text *sql, size_t at, const target *t, const side *s)
{
    if (at && at % SIDES_AT_ONCE == 0)
        ms_put(sql, ";", 1);
    ms_puts(sql, at % SIDES_AT_ONCE == 0 ? "DELETE FROM tenon_vis_attr WHERE (run=" : " OR (run=");
    ms_put_bytes(sql, t->run.p, t->run.n);
    ms_putf(sql, " AND attr=%u AND val=", s->attr);
    ms_put_bytes(sql, s->val.p, s->val.n);
    ms_put(sql, ")", 1);
}

/* What only one of two states is found by; both lists are sorted. */
static void put_sides(const target *t, bool gone, ms_text *sql, size_t *count)
{
    const side *old = t->old, *now = t->doc ? t->doc->sides : NULL;
    size_t n_old = t->n_old, n_now = t->doc ? t->doc->n_sides : 0;
    for (size_t i = 0, k = 0; i < n_old || k < n_now;) {
        int c = i == n_old ? 1 : k == n_now ? -1 : side_cmp(&old[i], &now[k]);
        if (c < 0 && gone)
            put_gone_side(sql, (*count)++, t, &old[i]);
        if (c > 0 && !gone)
            put_side(sql,
                     (*count)++ ? ",("
                                : "INSERT IGNORE INTO tenon_vis_attr (run,attr,val) VALUES (",
                     t, &now[k]);
        i += c <= 0;
        k += c >= 0;
    }
}

/* Last of all: its rows are those that other writers want too. */
static void put_tally(batch *b, ms_text *sql)
{
    size_t n = 0;
    mv_kinds *changes = ms_pool_get(&b->pool, 2 * b->n_targets * sizeof *changes);
    if (!changes) {
        sql->failed = true;
        return;
    }
    for (size_t i = 0; i < b->n_targets; i++) {
        const target *t = &b->targets[i];
        if (t->changed && t->found) {
            changes[n] = t->kinds;
            changes[n++].n = -1;
        }
        if (t->changed && t->doc) {
            changes[n] = t->doc->kinds;
            changes[n++].n = 1;
        }
    }
    mv_tally_put(sql, changes, n);
}

static size_t put_changes(batch *b, ms_text *sql)
{
    size_t changed = 0;
    for (size_t i = 0; i < b->n_targets; i++)
        changed += b->targets[i].changed;
    if (!changed)
        return 0;
    put_docs(b, sql, false);
    put_docs(b, sql, true);
    for (size_t i = 0; i < b->n_targets;) {
        if (!goes(&b->targets[i])) {
            i++;
            continue;
        }
        ms_puts(sql, "DELETE FROM tenon_vis_run WHERE ");
        i = put_runs(b, sql, i, goes);
        ms_put(sql, ";", 1);
    }
    for (int pass = 0; pass < 2; pass++) {
        size_t count = 0;
        for (size_t i = 0; i < b->n_targets; i++)
            if (b->targets[i].changed)
                put_sides(&b->targets[i], pass == 0, sql, &count);
        if (count)
            ms_put(sql, ";", 1);
    }
    put_tally(b, sql);
    return changed;
}

static ms_fault write_all(batch *b, tn_error *err)
{
    ms_reply reply;
    ms_fault f = read_stored(b, err);
    if (f != MS_FINE)
        return f;
    decide(b);
    ms_text sql = {0};
    size_t changed = put_changes(b, &sql);
    ms_puts(&sql, changed ? "COMMIT" : "ROLLBACK");
    if (sql.n > b->conn->packet_max) {
        ms_error(err, TN_ETOOLARGE, 0, "documents together exceed max_allowed_packet");
        f = MS_SQL;
    } else {
        b->sent = changed > 0;
        f = ms_run(b->conn, &sql, b->deadline_ns, &reply, err);
        b->sent = b->sent && f == MS_LOST;
        ms_reply_done(&reply);
    }
    ms_text_done(&sql);
    return f;
}

/* ---- a batch ------------------------------------------------------------------------------------ */

static void fail_rest(batch *b, tn_status status, const tn_error *err)
{
    for (size_t i = 0; i < b->n; i++) {
        mv_write *w = b->writes[i];
        if (w->status != TN_PENDING)
            continue;
        w->status = status;
        w->err = *err;
        w->err.code = status;
    }
}

static bool connect_soon(batch *b, tn_error *err)
{
    const tn_host *host = b->inst->host;
    uint64_t until = host->mono_ns() + PATIENCE_NS;
    while (!b->conn->my) {
        if (b->conn->retry_at_ns > host->mono_ns())
            ms_sleep_until(host, b->conn->retry_at_ns < until ? b->conn->retry_at_ns : until);
        if (ms_connect(b->conn, b->deadline_ns, err) != TN_OK && host->mono_ns() >= until)
            return false;
    }
    *err = (tn_error){0};
    return true;
}

/* TN_OK: the batch is stored; TN_PENDING: once more. */
static tn_status attempt(batch *b, tn_error *err)
{
    ms_pool_reset(&b->pool);
    b->docs = ms_pool_get(&b->pool, b->n * sizeof *b->docs);
    b->targets = ms_pool_get(&b->pool, b->n * sizeof *b->targets);
    if (b->pool.failed)
        return no_memory(err);
    memset(b->docs, 0, b->n * sizeof *b->docs);
    for (size_t i = 0; i < b->n; i++) {
        mv_write *w = b->writes[i];
        if (w->status != TN_PENDING)
            continue;
        tn_status status = prepare(b, w, &b->docs[i], &w->err);
        if (!b->conn->my)
            return TN_PENDING;
        if (status != TN_OK)
            w->status = status;
    }
    make_targets(b);
    if (!b->n_targets)
        return TN_OK;
    ms_fault f = write_all(b, err);
    if (f == MS_FINE)
        return TN_OK;
    if (f == MS_LOST)
        return TN_PENDING;
    ms_reply reply;
    tn_error ignored = {0};
    bool again = ms_is_retry(err) || err->vendor_code == ER_DUP_ENTRY;
    tn_status status = err->code;
    if (ms_run_z(b->conn, "ROLLBACK", b->deadline_ns, &reply, &ignored) == MS_SQL)
        ms_disconnect(b->conn);
    ms_reply_done(&reply);
    return again ? TN_PENDING : status;
}

void mv_write_batch(mv_inst *inst, mv_write **writes, size_t n)
{
    const tn_host *host = inst->host;
    batch b = {.inst = inst,
               .conn = &inst->writer,
               .writes = writes,
               .n = n,
               .end_ns = host->mono_ns() + BATCH_NS};
    tn_error err = {0};
    tn_status status = TN_PENDING;
    for (size_t i = 0; i < n; i++) {
        writes[i]->status = TN_PENDING;
        writes[i]->err = (tn_error){0};
    }
    for (int tries = 0; status == TN_PENDING && tries < TRIES_MAX; tries++) {
        if (tries) {
            host->metric_add(inst->m_retries, 1);
            ms_sleep_until(host, host->mono_ns() + (uint64_t)(tries * 3) * MS_MS);
        }
        uint64_t now = host->mono_ns();
        if (now >= b.end_ns)
            break;
        b.deadline_ns = now + ATTEMPT_NS < b.end_ns ? now + ATTEMPT_NS : b.end_ns;
        if (!connect_soon(&b, &err))
            break;
        status = attempt(&b, &err);
    }
    if (status == TN_OK) {
        for (size_t i = 0; i < n; i++)
            if (writes[i]->status == TN_PENDING)
                writes[i]->status = TN_OK;
    } else {
        if (!err.code)
            ms_error(&err, TN_EUNAVAILABLE, 0, "the database was not reached in time");
        fail_rest(&b,
                  status != TN_PENDING ? status
                  : b.sent             ? TN_EUNCERTAIN
                                       : TN_EUNAVAILABLE,
                  &err);
    }
    ms_pool_done(&b.pool);
}
