/* SPDX-License-Identifier: MIT */
/* A document as the columns of its row.
 *
 * keys holds 64 bits for each value that is asked for by equality: of Keyword, Int and Bool attributes the value, of a
 * KeywordList each keyword, of a Text each word, and of the parent's and root's workflow id.  The GIN index
 * on it answers exactly (an array either has a number or not), so a count need not look at the value
 * itself.  Two values of one attribute share a key with a probability of 2^-64 for each pair. */
#include "private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES_MAX 1000

/* ---- hashes ------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdu;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
}

/* What is stored, so it must never change. */
int64_t vp_key(int32_t ns, int32_t attr, tn_blob value)
{
    uint64_t h = mix((uint64_t)(uint32_t)ns << 32 | (uint32_t)attr) + 0x9e3779b97f4a7c15u;
    for (size_t at = 0; at < value.n; at += 8) {
        uint64_t word = 0;
        for (size_t i = at; i < value.n && i < at + 8; i++)
            word = word << 8 | value.p[i];
        h = mix(h ^ word) * 5 + 0x52dce729u;
    }
    return (int64_t)mix(h ^ value.n);
}

/* ---- run ids ------------------------------------------------------------------------------------ */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_uuid(tn_str text, uint8_t out[16])
{
    size_t n = 0;
    if (text.n != 36)
        return false;
    memset(out, 0, 16);
    for (size_t i = 0; i < 36; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (text.p[i] != '-')
                return false;
            continue;
        }
        int digit = hex_digit(text.p[i]);
        if (digit < 0)
            return false;
        out[n / 2] = (uint8_t)(out[n / 2] << 4 | digit);
        n++;
    }
    return true;
}

tn_blob vp_run_encode(vp_mem *mem, tn_str text)
{
    uint8_t *p = vp_alloc(mem, text.n + 16);
    if (!p)
        return (tn_blob){NULL, 0};
    if (parse_uuid(text, p))
        return (tn_blob){p, 16};
    size_t head = text.n == 15 ? 2 : 1;
    memset(p, 0, head);
    if (text.n)
        memcpy(p + head, text.p, text.n);
    return (tn_blob){p, head + text.n};
}

size_t vp_run_decode(const uint8_t *p, size_t n, char *out)
{
    static const char hex[] = "0123456789abcdef";
    size_t at = 0;
    if (n == 16) {
        for (size_t i = 0; i < 16; i++) {
            if (i == 4 || i == 6 || i == 8 || i == 10)
                out[at++] = '-';
            out[at++] = hex[p[i] >> 4];
            out[at++] = hex[p[i] & 15];
        }
        return at;
    }
    size_t head = n == 17 && p[1] == 0 ? 2 : n ? 1 : 0;
    if (n > head)
        memcpy(out, p + head, n - head);
    return n - head;
}

/* ---- the row ------------------------------------------------------------------------------------ */

typedef struct taking {
    vp_mem *mem;
    const vp_names *names;
    const tn_vis_doc *doc;
    vp_row *row;
    vp_text sa, keys;
} taking;

static int32_t *name_column(vp_row *row, tn_str name)
{
    return tn_vd_str_is(name, "WorkflowType")                ? &row->type
           : tn_vd_str_is(name, "ExecutionStatus")           ? &row->status
           : tn_vd_str_is(name, "TaskQueue")                 ? &row->tq
           : tn_vd_str_is(name, "TemporalNamespaceDivision") ? &row->div
                                                             : NULL;
}

static int64_t *number_column(vp_row *row, const tn_attr *attr, bool **out_has)
{
    bool time = attr->type == TN_ATTR_DATETIME;
    *out_has = NULL;
    if (time && tn_vd_str_is(attr->name, "StartTime"))
        return &row->start;
    if (time && tn_vd_str_is(attr->name, "CloseTime"))
        return &row->close;
    if (time && tn_vd_str_is(attr->name, "ExecutionTime"))
        return *out_has = &row->has_exec, &row->exec;
    if (!time && tn_vd_str_is(attr->name, "ExecutionDuration"))
        return *out_has = &row->has_dur, &row->dur;
    if (!time && tn_vd_str_is(attr->name, "HistoryLength"))
        return *out_has = &row->has_len, &row->len;
    if (!time && tn_vd_str_is(attr->name, "HistorySizeBytes"))
        return *out_has = &row->has_size, &row->size;
    if (!time && tn_vd_str_is(attr->name, "StateTransitionCount"))
        return *out_has = &row->has_trans, &row->trans;
    return NULL;
}

static bool is_own_text(tn_str name) /* what the row has columns for, besides names and numbers */
{
    static const char *const names[] = {"WorkflowId",  "RunId",          "ParentWorkflowId",
                                        "ParentRunId", "RootWorkflowId", "RootRunId"};
    for (size_t i = 0; i < VP_COUNT(names); i++)
        if (tn_vd_str_is(name, names[i]))
            return true;
    return false;
}

static bool is_custom(const tn_attr *attr)
{
    vp_row none;
    bool *has;
    if (attr->type == TN_ATTR_KEYWORD)
        return !name_column(&none, attr->name) && !is_own_text(attr->name);
    if (attr->type == TN_ATTR_INT || attr->type == TN_ATTR_DATETIME)
        return !number_column(&none, attr, &has);
    return true;
}

/* ---- checks ------------------------------------------------------------------------------------- */

static bool is_text(uint32_t type)
{
    return type == TN_ATTR_KEYWORD || type == TN_ATTR_TEXT || type == TN_ATTR_KEYWORD_LIST;
}

static bool text_valid(const tn_attr *attr)
{
    tn_blob rest = attr->value;
    tn_str item;
    if (attr->type != TN_ATTR_KEYWORD_LIST)
        return !is_text(attr->type) || tn_vd_utf8_valid(rest);
    while (tn_vd_list_next(&rest, &item))
        if (!tn_vd_utf8_valid((tn_blob){(const uint8_t *)item.p, item.n}))
            return false;
    return true;
}

static bool is_time(int64_t ns) { return ns >= -VP_TIME_MAX && ns <= VP_TIME_MAX; }

static bool str_valid(tn_str s) { return tn_vd_utf8_valid((tn_blob){(const uint8_t *)s.p, s.n}); }

tn_status vp_doc_check(const tn_vis_doc *doc, tn_error *err)
{
    if (doc->ns_id.n == 0 || doc->run_id.n == 0 || doc->ns_id.n > NAME_BYTES_MAX ||
        doc->run_id.n > NAME_BYTES_MAX || doc->workflow_id.n > VP_NAME_MAX ||
        !str_valid(doc->ns_id) || !str_valid(doc->run_id) || !str_valid(doc->workflow_id))
        return tn_pg_error(err, TN_EINVALID,
                           "a document needs a namespace, a run id and a workflow id of UTF-8 and "
                           "of a reasonable length");
    if (doc->version > INT64_MAX)
        return tn_pg_error(err, TN_EINVALID, "a document's version is out of range");
    for (size_t i = 0; i < doc->n_attrs; i++) {
        const tn_attr *a = &doc->attrs[i];
        if (a->name.n == 0 || a->name.n > NAME_BYTES_MAX || !str_valid(a->name) ||
            !tn_vd_value_valid(a->type, a->value) || !text_valid(a))
            return tn_pg_error(err, TN_EINVALID, "an attribute of the document is not of its type");
        if (!is_custom(a) && a->type == TN_ATTR_KEYWORD && a->value.n > VP_NAME_MAX)
            return tn_pg_error(err, TN_EINVALID, "an attribute of the document is too long");
        if (!is_custom(a) && a->type == TN_ATTR_DATETIME && !is_time(tn_vd_get_i64(a->value.p)))
            return tn_pg_error(err, TN_EINVALID, "a time of the document is out of range");
    }
    return TN_OK;
}

/* ---- the columns of a row ------------------------------------------------------------------------ */

void vp_doc_wants(vp_wants *wants, const vp_names *names, const tn_vis_doc *doc)
{
    vp_row none;
    vp_want_name(wants, names, doc->ns_id);
    for (size_t i = 0; i < doc->n_attrs; i++) {
        const tn_attr *a = &doc->attrs[i];
        if (is_custom(a))
            vp_want_attr(wants, names, a->name, a->type);
        else if (a->type == TN_ATTR_KEYWORD && name_column(&none, a->name))
            vp_want_name(wants, names, (tn_str){(const char *)a->value.p, a->value.n});
    }
}

static void put_key(taking *t, int32_t attr, tn_blob value)
{
    vp_say(&t->keys, "%s%lld", t->keys.n > 1 ? "," : "",
           (long long)vp_key(t->row->ns, attr, value));
}

static void put_string(vp_text *to, const char *p, size_t n)
{
    size_t from = 0;
    vp_put(to, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)p[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        vp_put(to, p + from, i - from);
        if (c < 0x20)
            vp_say(to, "\\u%04x", c);
        else
            vp_say(to, "\\%c", c);
        from = i + 1;
    }
    vp_put(to, p + from, n - from);
    vp_put(to, "\"", 1);
}

static void put_list(taking *t, int32_t id, tn_blob value)
{
    tn_str item;
    bool more = false;
    vp_put(&t->sa, "[", 1);
    while (tn_vd_list_next(&value, &item)) {
        if (more)
            vp_put(&t->sa, ",", 1);
        put_string(&t->sa, item.p, item.n);
        put_key(t, id, (tn_blob){(const uint8_t *)item.p, item.n});
        more = true;
    }
    vp_put(&t->sa, "]", 1);
}

static void put_words(taking *t, int32_t id, tn_blob value)
{
    tn_vd_words it;
    tn_vd_words_begin(&it, value);
    while (tn_vd_words_next(&it))
        put_key(t, id, (tn_blob){(const uint8_t *)it.word, it.n});
}

/* Numbers are strings in the JSON: as JSON's numbers they would be longer and slower, and not all of
 * them are. */
static void take_custom(taking *t, const tn_attr *attr)
{
    int32_t id = vp_attr_find(t->names, attr->name, attr->type);
    int64_t i = attr->value.n == 8 ? tn_vd_get_i64(attr->value.p) : 0;
    double d;
    vp_say(&t->sa, "%c\"%d\":", t->sa.n ? ',' : '{', id);
    switch (attr->type) {
    case TN_ATTR_INT:
        vp_say(&t->sa, "\"%lld\"", (long long)i);
        put_key(t, id, attr->value);
        break;
    case TN_ATTR_DATETIME:
        vp_say(&t->sa, "\"%lld\"", (long long)i);
        break;
    case TN_ATTR_DOUBLE:
        memcpy(&d, &i, sizeof d);
        if (isnan(d))
            vp_say(&t->sa, "\"NaN\"");
        else if (isinf(d))
            vp_say(&t->sa, d > 0 ? "\"Infinity\"" : "\"-Infinity\"");
        else
            vp_say(&t->sa, "\"%.17g\"", d);
        break;
    case TN_ATTR_BOOL:
        vp_say(&t->sa, attr->value.p[0] ? "true" : "false");
        put_key(t, id, attr->value);
        break;
    case TN_ATTR_KEYWORD_LIST:
        put_list(t, id, attr->value);
        break;
    default:
        put_string(&t->sa, attr->value.n ? (const char *)attr->value.p : "", attr->value.n);
        if (attr->type == TN_ATTR_TEXT)
            put_words(t, id, attr->value);
        else
            put_key(t, id, attr->value);
    }
}

static void take_text(taking *t, const tn_attr *attr)
{
    vp_row *row = t->row;
    tn_str text = {attr->value.p ? (const char *)attr->value.p : "", attr->value.n};
    const tn_vis_doc *doc = t->doc;
    int32_t *number = name_column(row, attr->name);
    if (number) {
        *number = vp_name_find(t->names, text);
    } else if (tn_vd_str_is(attr->name, "ParentWorkflowId")) {
        row->pwf = text;
        put_key(t, VP_KEY_PARENT, attr->value);
    } else if (tn_vd_str_is(attr->name, "ParentRunId")) {
        row->prun = vp_run_encode(t->mem, text);
    } else if (tn_vd_str_is(attr->name, "RootWorkflowId")) {
        bool own = text.n == doc->workflow_id.n && memcmp(text.p, doc->workflow_id.p, text.n) == 0;
        row->rwf = own ? (tn_str){"", 0} : text;
        if (!own)
            put_key(t, VP_KEY_ROOT, attr->value);
    } else if (tn_vd_str_is(attr->name, "RootRunId")) {
        bool own = text.n == doc->run_id.n && memcmp(text.p, doc->run_id.p, text.n) == 0;
        row->rrun = own ? (tn_blob){(const uint8_t *)"", 0} : vp_run_encode(t->mem, text);
    }
}

static tn_blob keep(vp_mem *mem, vp_text *text)
{
    char *p = vp_alloc(mem, text->n);
    if (p)
        memcpy(p, text->p, text->n);
    mem->failed = mem->failed || text->failed;
    return (tn_blob){(const uint8_t *)p, text->n};
}

bool vp_doc_row(vp_mem *mem, const vp_names *names, const tn_vis_doc *doc, vp_row *row)
{
    taking t = {.mem = mem, .names = names, .doc = doc, .row = row};
    *row = (vp_row){.ns = vp_name_find(names, doc->ns_id),
                    .close = VP_CLOSE_OPEN,
                    .start = VP_START_NONE,
                    .ver = (int64_t)doc->version,
                    .wf = doc->workflow_id};
    row->run = vp_run_encode(mem, doc->run_id);
    vp_put(&t.keys, "{", 1);
    for (size_t i = 0; i < doc->n_attrs; i++) {
        const tn_attr *a = &doc->attrs[i];
        bool *has;
        if (is_custom(a)) {
            take_custom(&t, a);
        } else if (a->type == TN_ATTR_KEYWORD) {
            take_text(&t, a);
        } else {
            *number_column(row, a, &has) = tn_vd_get_i64(a->value.p);
            if (has)
                *has = true;
        }
    }
    if (row->has_exec && row->start != VP_START_NONE)
        row->exec -= row->start; /* both are times, so it fits */
    if (t.sa.n)
        vp_put(&t.sa, "}", 1);
    if (t.sa.n)
        row->sa = keep(mem, &t.sa);
    if (t.keys.n > 1) {
        vp_put(&t.keys, "}", 1);
        row->keys = keep(mem, &t.keys);
    }
    row->memo = doc->memo.n ? doc->memo : (tn_blob){NULL, 0};
    vp_text_done(&t.sa);
    vp_text_done(&t.keys);
    return !mem->failed;
}
