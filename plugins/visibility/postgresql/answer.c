/* SPDX-License-Identifier: MIT */
/* Rows back to documents and groups in the operation's memory, and the positions that pages begin after. */
#include "private.h"

#include <stdlib.h>

/* ---- memory ------------------------------------------------------------------------------------- */

static void *alloc(vp_read *r, size_t n, size_t align)
{
    void *p = r->inst->host->op_alloc(r->op, n ? n : 1, align);
    if (!p && r->status == TN_OK)
        r->status =
            tn_pg_error(&r->err, TN_ETOOLARGE, "the answer does not fit the operation's memory");
    return p;
}

static tn_blob copy(vp_read *r, const void *p, size_t n)
{
    uint8_t *to = alloc(r, n, 1);
    if (to && n)
        memcpy(to, p, n);
    return (tn_blob){to, n};
}

static void damaged(vp_read *r)
{
    if (r->status == TN_OK)
        r->status = tn_pg_error(&r->err, TN_EDATALOSS, "attributes of a run are damaged");
}

/* ---- the JSON of custom attributes --------------------------------------------------------------- */

/* As PostgreSQL writes a jsonb: one blank after a colon or comma, no others. */
typedef struct scan {
    const char *p, *end;
    bool bad;
} scan;

static bool next_is(scan *s, char c)
{
    if (s->bad || s->p >= s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

static void expect(scan *s, char c)
{
    if (!next_is(s, c))
        s->bad = true;
}

static void blank(scan *s) { next_is(s, ' '); }

static size_t put_unicode(scan *s, char *out)
{
    uint32_t c = 0;
    for (int i = 0; i < 4; i++) {
        char h = s->p < s->end ? *s->p++ : 'x';
        int digit = h >= '0' && h <= '9'   ? h - '0'
                    : h >= 'a' && h <= 'f' ? h - 'a' + 10
                    : h >= 'A' && h <= 'F' ? h - 'A' + 10
                                           : -1;
        s->bad = s->bad || digit < 0;
        c = c << 4 | (uint32_t)(digit & 15);
    }
    /* Only control characters are written so; others come as they are. */
    if (c >= 0x80)
        s->bad = true;
    *out = (char)c;
    return 1;
}

/* The string into out, which holds as many bytes as are left; its length. */
static size_t read_string(scan *s, char *out)
{
    size_t n = 0;
    expect(s, '"');
    while (!s->bad && s->p < s->end && *s->p != '"') {
        char c = *s->p++;
        if (c != '\\') {
            out[n++] = c;
            continue;
        }
        c = s->p < s->end ? *s->p++ : 'x';
        switch (c) {
        case '"':
        case '\\':
        case '/':
            out[n++] = c;
            break;
        case 'b':
            out[n++] = '\b';
            break;
        case 'f':
            out[n++] = '\f';
            break;
        case 'n':
            out[n++] = '\n';
            break;
        case 'r':
            out[n++] = '\r';
            break;
        case 't':
            out[n++] = '\t';
            break;
        case 'u':
            n += put_unicode(s, out + n);
            break;
        default:
            s->bad = true;
        }
    }
    expect(s, '"');
    return n;
}

/* [ "a", "b" ] as a TN_ATTR_KEYWORD_LIST: each length takes the place of quotes, comma and blank. */
static size_t read_list(scan *s, uint8_t *out)
{
    size_t n = 0;
    expect(s, '[');
    if (next_is(s, ']'))
        return 0;
    do {
        blank(s);
        size_t length = read_string(s, (char *)out + n + 4);
        for (int i = 0; i < 4; i++)
            out[n + (size_t)i] = (uint8_t)(length >> (24 - 8 * i));
        n += 4 + length;
    } while (next_is(s, ','));
    expect(s, ']');
    return n;
}

static tn_blob read_number(vp_read *r, scan *s, uint32_t type)
{
    char text[64], *end;
    uint8_t wide[8];
    int64_t i = 0;
    if ((size_t)(s->end - s->p) > 0 && s->p[0] == '"') {
        const char *close = memchr(s->p + 1, '"', (size_t)(s->end - s->p - 1));
        s->bad = s->bad || !close || close - s->p > 60;
    }
    size_t n = s->bad ? 0 : read_string(s, text);
    text[n] = '\0';
    if (type == TN_ATTR_DOUBLE) {
        double d = strtod(text, &end);
        memcpy(&i, &d, sizeof i);
    } else {
        i = strtoll(text, &end, 10);
    }
    s->bad = s->bad || n == 0 || *end;
    tn_vd_set_i64(wide, i);
    return copy(r, wide, sizeof wide);
}

static tn_blob read_value(vp_read *r, scan *s, uint32_t type)
{
    uint8_t *p, flag;
    switch (type) {
    case TN_ATTR_BOOL:
        flag = s->p < s->end && *s->p == 't';
        for (const char *word = flag ? "true" : "false"; *word; word++)
            expect(s, *word);
        return copy(r, &flag, 1);
    case TN_ATTR_INT:
    case TN_ATTR_DATETIME:
    case TN_ATTR_DOUBLE:
        return read_number(r, s, type);
    case TN_ATTR_KEYWORD_LIST:
        /* A short item's length needs more than what was written around it. */
        p = alloc(r, (size_t)(s->end - s->p) * 2 + 8, 1);
        return p ? (tn_blob){p, read_list(s, p)} : (tn_blob){NULL, 0};
    default:
        p = alloc(r, (size_t)(s->end - s->p), 1);
        return p ? (tn_blob){p, read_string(s, (char *)p)} : (tn_blob){NULL, 0};
    }
}

static void skip_value(scan *s)
{
    bool quoted = false;
    int depth = 0;
    for (; s->p < s->end; s->p++) {
        char c = *s->p;
        if (quoted && c == '\\' && s->p + 1 < s->end)
            s->p++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && c == '[')
            depth++;
        else if (!quoted && c == ']')
            depth--;
        else if (!quoted && depth == 0 && (c == ',' || c == '}'))
            return;
    }
}

/* ---- documents ---------------------------------------------------------------------------------- */

#define NAME_OF(column) "(SELECT s FROM tn_vis_name WHERE id = d." column ")"
const char vp_doc_columns[] =
    "d.run, d.wf, d.ver, " NAME_OF("type") ", " NAME_OF("status") ", " NAME_OF("tq") ", " NAME_OF(
        "div") ", d.start, d.close, d.exec, d.dur, d.len, d.size, d.trans, d.pwf, d.prun, d.rwf, "
               "d.rrun, d.sa, d.memo";
enum {
    C_RUN,
    C_WF,
    C_VER,
    C_TYPE,
    C_STATUS,
    C_TQ,
    C_DIV,
    C_START,
    C_CLOSE,
    C_EXEC,
    C_DUR,
    C_LEN,
    C_SIZE,
    C_TRANS,
    C_PWF,
    C_PRUN,
    C_RWF,
    C_RRUN,
    C_SA,
    C_MEMO,
    C_KEYS
};

typedef struct doc_out {
    vp_read *r;
    const PGresult *result;
    int row;
    tn_vis_doc *doc;
    tn_attr *attrs;
    size_t n;
} doc_out;

static void add(doc_out *d, const char *name, uint32_t type, tn_blob value)
{
    d->attrs[d->n++] = (tn_attr){.name = {name, strlen(name)}, .type = type, .value = value};
}

static bool is_null(const doc_out *d, int at) { return PQgetisnull(d->result, d->row, at); }

static tn_blob bytes(const doc_out *d, int at) { return tn_pg_result_blob(d->result, d->row, at); }

static void add_text(doc_out *d, const char *name, int at)
{
    tn_blob value = bytes(d, at);
    if (!is_null(d, at))
        add(d, name, TN_ATTR_KEYWORD, copy(d->r, value.p, value.n));
}

static void add_number(doc_out *d, const char *name, uint32_t type, int64_t v)
{
    uint8_t wide[8];
    tn_vd_set_i64(wide, v);
    add(d, name, type, copy(d->r, wide, sizeof wide));
}

static void add_int(doc_out *d, const char *name, int at)
{
    if (!is_null(d, at))
        add_number(d, name, TN_ATTR_INT, tn_pg_result_int(d->result, d->row, at));
}

static tn_blob run_text(const doc_out *d, int at)
{
    tn_blob value = bytes(d, at);
    char *text = alloc(d->r, value.n + 36, 1);
    if (!text)
        return (tn_blob){NULL, 0};
    return (tn_blob){(const uint8_t *)text, vp_run_decode(value.p, value.n, text)};
}

static void add_run(doc_out *d, const char *name, int at)
{
    if (!is_null(d, at))
        add(d, name, TN_ATTR_KEYWORD, run_text(d, at));
}

static void add_roots(doc_out *d)
{
    tn_str wf = d->doc->workflow_id, run = d->doc->run_id;
    if (!is_null(d, C_RWF) && bytes(d, C_RWF).n == 0)
        add(d, "RootWorkflowId", TN_ATTR_KEYWORD, (tn_blob){(const uint8_t *)wf.p, wf.n});
    else
        add_text(d, "RootWorkflowId", C_RWF);
    if (!is_null(d, C_RRUN) && bytes(d, C_RRUN).n == 0)
        add(d, "RootRunId", TN_ATTR_KEYWORD, (tn_blob){(const uint8_t *)run.p, run.n});
    else
        add_run(d, "RootRunId", C_RRUN);
}

static void add_times(doc_out *d)
{
    int64_t start = tn_pg_result_int(d->result, d->row, C_START);
    int64_t close = tn_pg_result_int(d->result, d->row, C_CLOSE);
    int64_t exec = tn_pg_result_int(d->result, d->row, C_EXEC);
    if (start != VP_START_NONE)
        add_number(d, "StartTime", TN_ATTR_DATETIME, start);
    if (!is_null(d, C_EXEC))
        add_number(d, "ExecutionTime", TN_ATTR_DATETIME,
                   start == VP_START_NONE ? exec : (int64_t)((uint64_t)start + (uint64_t)exec));
    if (close != VP_CLOSE_OPEN)
        add_number(d, "CloseTime", TN_ATTR_DATETIME, close);
}

static void add_custom(doc_out *d, scan s)
{
    expect(&s, '{');
    do {
        char *end;
        blank(&s);
        expect(&s, '"');
        long id = s.bad ? 0 : strtol(s.p, &end, 10);
        if (s.bad || end >= s.end || id <= 0 || id > INT32_MAX)
            break;
        s.p = end;
        expect(&s, '"');
        expect(&s, ':');
        blank(&s);
        const vp_entry *e = vp_attr_by_id(&d->r->side->names, (int32_t)id);
        if (!e) {
            vp_want_id(&d->r->unknown, (int32_t)id);
            skip_value(&s);
            continue;
        }
        tn_blob name = copy(d->r, e->p, e->n), value = read_value(d->r, &s, e->type);
        d->attrs[d->n++] =
            (tn_attr){.name = {(const char *)name.p, name.n}, .type = e->type, .value = value};
    } while (d->r->status == TN_OK && next_is(&s, ','));
    if (d->r->status == TN_OK && (!next_is(&s, '}') || s.bad || s.p != s.end))
        damaged(d->r);
}

/* Room for so many custom attributes: each begins with its number in quotes and a colon. */
static size_t count_custom(scan s)
{
    size_t n = 0;
    for (; s.p + 1 < s.end; s.p++)
        n += s.p[0] == '"' && s.p[1] == ':';
    return n;
}

static void fill_doc(doc_out *d)
{
    vp_read *r = d->r;
    tn_vis_doc *doc = d->doc;
    tn_blob sa = bytes(d, C_SA), run, wf = bytes(d, C_WF), memo = bytes(d, C_MEMO);
    /* The first byte is the version of jsonb's binary form; PQgetvalue ends with a NUL. */
    scan s = {.p = (const char *)sa.p + 1, .end = (const char *)sa.p + sa.n};
    bool custom = !is_null(d, C_SA) && sa.n > 1;
    if (custom && sa.p[0] != 1)
        damaged(r);
    d->attrs = alloc(r, ((custom ? count_custom(s) : 0) + 20) * sizeof(tn_attr), _Alignof(tn_attr));
    run = run_text(d, C_RUN);
    wf = copy(r, wf.p, wf.n);
    if (r->status != TN_OK)
        return;
    *doc = (tn_vis_doc){.struct_size = sizeof *doc,
                        .ns_id = r->query->ns_id,
                        .workflow_id = {(const char *)wf.p, wf.n},
                        .run_id = {(const char *)run.p, run.n},
                        .version = (uint64_t)tn_pg_result_int(d->result, d->row, C_VER)};
    add(d, "WorkflowId", TN_ATTR_KEYWORD, wf);
    add(d, "RunId", TN_ATTR_KEYWORD, run);
    add_text(d, "WorkflowType", C_TYPE);
    add_text(d, "ExecutionStatus", C_STATUS);
    add_text(d, "TaskQueue", C_TQ);
    add_text(d, "TemporalNamespaceDivision", C_DIV);
    add_times(d);
    add_int(d, "ExecutionDuration", C_DUR);
    add_int(d, "HistoryLength", C_LEN);
    add_int(d, "HistorySizeBytes", C_SIZE);
    add_int(d, "StateTransitionCount", C_TRANS);
    add_text(d, "ParentWorkflowId", C_PWF);
    add_run(d, "ParentRunId", C_PRUN);
    add_roots(d);
    if (custom)
        add_custom(d, s);
    if (!is_null(d, C_MEMO))
        doc->memo = copy(r, memo.p, memo.n);
    doc->attrs = d->attrs;
    doc->n_attrs = d->n;
}

/* ---- positions ---------------------------------------------------------------------------------- */

static char tag_of(uint32_t type)
{
    switch (type) {
    case TN_ATTR_INT:
    case TN_ATTR_DATETIME:
        return 'I';
    case TN_ATTR_DOUBLE:
        return 'F';
    case TN_ATTR_BOOL:
        return 'B';
    default:
        return 'T';
    }
}

static bool key_read(tn_blob *rest, uint32_t type, vp_value *out)
{
    if (rest->n < 1)
        return false;
    *out = (vp_value){.tag = (char)rest->p[0]};
    rest->p++, rest->n--;
    if (out->tag == 'N')
        return true;
    if (out->tag != tag_of(type) || rest->n < 4)
        return false;
    size_t n =
        (size_t)rest->p[0] << 24 | (size_t)rest->p[1] << 16 | (size_t)rest->p[2] << 8 | rest->p[3];
    if (n > rest->n - 4)
        return false;
    out->bytes = (tn_blob){rest->p + 4, n};
    rest->p += 4 + n, rest->n -= 4 + n;
    if (out->tag == 'T')
        return tn_vd_utf8_valid(out->bytes);
    return n == (out->tag == 'B' ? 1 : 8);
}

tn_status vp_position_read(const tn_vis_query *query, vp_position *out, tn_error *err)
{
    tn_blob rest = query->page;
    *out = (vp_position){0};
    if (rest.n == 0)
        return TN_OK;
    bool ok = rest.p[0] == (query->n_order ? 'O' : 'D');
    rest.p++, rest.n--;
    for (size_t i = 0; i < query->n_order && ok; i++)
        ok = key_read(&rest, query->order[i].type, &out->keys[i]);
    if (!ok || rest.n < 17)
        return tn_pg_error(err, TN_EINVALID, "the page token is not of this query");
    out->close = tn_vd_get_i64(rest.p);
    out->start = tn_vd_get_i64(rest.p + 8);
    out->run = (tn_blob){rest.p + 16, rest.n - 16};
    out->given = true;
    return TN_OK;
}

static void position_write(vp_read *r, const PGresult *result, int row)
{
    vp_text t = {0};
    uint8_t wide[8];
    size_t n_order = r->query->n_order;
    vp_put(&t, n_order ? "O" : "D", 1);
    for (size_t i = 0; i < n_order; i++) {
        int at = C_KEYS + (int)i;
        tn_blob v = tn_pg_result_blob(result, row, at);
        char tag = PQgetisnull(result, row, at) ? 'N' : tag_of(r->query->order[i].type);
        const uint8_t length[4] = {(uint8_t)(v.n >> 24), (uint8_t)(v.n >> 16), (uint8_t)(v.n >> 8),
                                   (uint8_t)v.n};
        vp_put(&t, &tag, 1);
        if (tag != 'N') {
            vp_put(&t, length, 4);
            vp_put(&t, v.p, v.n);
        }
    }
    tn_vd_set_i64(wide, tn_pg_result_int(result, row, C_CLOSE));
    vp_put(&t, wide, 8);
    tn_vd_set_i64(wide, tn_pg_result_int(result, row, C_START));
    vp_put(&t, wide, 8);
    tn_blob run = tn_pg_result_blob(result, row, C_RUN);
    vp_put(&t, run.p, run.n);
    if (t.failed)
        r->status = tn_pg_error(&r->err, TN_EUNAVAILABLE, "out of memory");
    else
        r->out->next = copy(r, t.p, t.n);
    vp_text_done(&t);
}

/* ---- lists and counts --------------------------------------------------------------------------- */

void vp_answer_list(vp_read *r, PGresult *result)
{
    int rows = PQntuples(result);
    size_t n = (size_t)rows > r->limit ? r->limit : (size_t)rows;
    tn_vis_doc *docs = alloc(r, n * sizeof *docs, _Alignof(tn_vis_doc));
    for (size_t i = 0; docs && i < n && r->status == TN_OK; i++)
        fill_doc(&(doc_out){.r = r, .result = result, .row = (int)i, .doc = &docs[i]});
    if (r->status != TN_OK)
        return;
    r->out->docs = docs;
    r->out->n_docs = n;
    r->out->next = (tn_blob){NULL, 0};
    if ((size_t)rows > n && n)
        position_write(r, result, (int)n - 1);
}

void vp_answer_count(vp_read *r, PGresult *result)
{
    const tn_vis_query *query = r->query;
    size_t rows = (size_t)PQntuples(result), n = query->n_group_by;
    tn_vis_page *out = r->out;
    tn_vis_group *groups = n ? alloc(r, rows * sizeof *groups, _Alignof(tn_vis_group)) : NULL;
    uint64_t many = 0;
    out->count = 0;
    for (size_t i = 0; i < rows && r->status == TN_OK; i++) {
        uint64_t count = (uint64_t)tn_pg_result_int(result, (int)i, (int)n);
        out->count += count;
        many += PQgetvalue(result, (int)i, (int)n + 1)[0] ? count : 0;
        tn_attr *values = n ? alloc(r, n * sizeof *values, _Alignof(tn_attr)) : NULL;
        for (size_t k = 0; values && k < n; k++) {
            tn_blob v = tn_pg_result_blob(result, (int)i, (int)k);
            values[k] = (tn_attr){.name = query->group_by[k].name, .type = query->group_by[k].type};
            if (!PQgetisnull(result, (int)i, (int)k))
                values[k].value = copy(r, v.p, v.n);
        }
        if (n && groups)
            groups[i] = (tn_vis_group){.values = values, .count = count};
    }
    out->groups = groups;
    out->n_groups = n ? rows : 0;
    r->many = r->inst->common_rows && many >= (uint64_t)r->inst->common_rows;
}
