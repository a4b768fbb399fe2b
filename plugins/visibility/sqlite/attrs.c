/* SPDX-License-Identifier: MIT */
/* A document's own attributes as one blob in its row, run ids in their short form, and the functions by
 * which SQL looks into them. */
#include "private.h"

#include <stdlib.h>

/* ---- bytes ------------------------------------------------------------------------------------ */

void vs_put(vs_bytes *b, const void *p, size_t n)
{
    if (b->failed || n == 0)
        return;
    if (n > b->cap - b->n) {
        size_t cap = b->cap ? b->cap : 64;
        while (cap - b->n < n)
            cap *= 2;
        uint8_t *grown = realloc(b->p, cap);
        if (!grown) {
            b->failed = true;
            return;
        }
        b->p = grown, b->cap = cap;
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

void vs_put_varint(vs_bytes *b, uint64_t v)
{
    uint8_t byte;
    for (; v >= 0x80; v >>= 7) {
        byte = (uint8_t)(v | 0x80);
        vs_put(b, &byte, 1);
    }
    byte = (uint8_t)v;
    vs_put(b, &byte, 1);
}

void vs_done(vs_bytes *b)
{
    free(b->p);
    memset(b, 0, sizeof *b);
}

static bool get_varint(tn_blob *rest, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && rest->n; shift += 7) {
        uint8_t byte = *rest->p++;
        rest->n--;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

/* ---- attributes ------------------------------------------------------------------------------- */

void vs_attrs_put(vs_bytes *b, const vs_attr *attr)
{
    vs_put_varint(b, (uint64_t)attr->id);
    vs_put_varint(b, (uint64_t)attr->value.n << 3 | attr->type);
    vs_put(b, attr->value.p, attr->value.n);
}

bool vs_attrs_next(tn_blob *rest, vs_attr *out)
{
    uint64_t id, head;
    tn_blob at = *rest;
    if (!at.n || !get_varint(&at, &id) || !get_varint(&at, &head) || head >> 3 > at.n)
        return false;
    *out = (vs_attr){.id = (int64_t)id, .type = (uint32_t)(head & 7), .value = {at.p, head >> 3}};
    *rest = (tn_blob){at.p + out->value.n, at.n - out->value.n};
    return true;
}

/* ---- run ids ---------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Rows are numbered by their run ids, so that a run is found without an index: the first 63 bits of a
 * UUID (new ones rise with time and land together), a hash of anything else. */
void vs_run_parse(tn_str text, vs_run *out)
{
    memset(out, 0, sizeof *out);
    out->text = text;
    out->is_uuid = text.n == 36;
    size_t n = 0;
    for (size_t i = 0; i < text.n && out->is_uuid; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            out->is_uuid = text.p[i] == '-';
            continue;
        }
        int digit = hex_digit(text.p[i]);
        out->is_uuid = digit >= 0;
        if (digit >= 0) {
            out->bytes[n / 2] = (uint8_t)(out->bytes[n / 2] << 4 | digit);
            n++;
        }
    }
    uint64_t slot = 0xcbf29ce484222325u;
    if (out->is_uuid)
        slot = (uint64_t)tn_vd_get_i64(out->bytes);
    else
        for (size_t i = 0; i < text.n; i++)
            slot = (slot ^ (uint8_t)text.p[i]) * 0x100000001b3u;
    out->slot = (int64_t)(slot >> 1);
    if (out->slot > INT64_MAX - 2 * VS_SLOTS)
        out->slot = INT64_MAX - 2 * VS_SLOTS;
    if (out->slot < 1)
        out->slot = 1;
}

void vs_uuid_text(const uint8_t id[16], char out[36])
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            out[n++] = '-';
        out[n++] = hex[id[i] >> 4];
        out[n++] = hex[id[i] & 15];
    }
}

int vs_run_bind(sqlite3_stmt *stmt, int at, const vs_run *run)
{
    if (run->is_uuid)
        return sqlite3_bind_blob(stmt, at, run->bytes, 16, SQLITE_TRANSIENT);
    return sqlite3_bind_text(stmt, at, run->text.p ? run->text.p : "", (int)run->text.n,
                             SQLITE_STATIC);
}

/* ---- functions for SQL ------------------------------------------------------------------------ */

static bool find_attr(sqlite3_value **args, vs_attr *out)
{
    tn_blob rest = {sqlite3_value_blob(args[0]), (size_t)sqlite3_value_bytes(args[0])};
    int64_t id = sqlite3_value_int64(args[1]);
    while (vs_attrs_next(&rest, out))
        if (out->id == id)
            return true;
    return false;
}

static void return_value(sqlite3_context *ctx, uint32_t type, tn_blob value)
{
    int64_t i = value.n == 8 ? tn_vd_get_i64(value.p) : 0;
    double d;
    memcpy(&d, &i, sizeof d);
    switch (type) {
    case TN_ATTR_INT:
    case TN_ATTR_DATETIME:
        sqlite3_result_int64(ctx, i);
        break;
    case TN_ATTR_DOUBLE:
        sqlite3_result_double(ctx, d);
        break;
    case TN_ATTR_BOOL:
        sqlite3_result_int(ctx, value.n && value.p[0]);
        break;
    default:
        sqlite3_result_text(ctx, (const char *)value.p, (int)value.n, SQLITE_TRANSIENT);
    }
}

/* vget(attrs, id): the value, of a list the whole of it; NULL when there is none. */
static void sql_get(sqlite3_context *ctx, int n, sqlite3_value **args)
{
    (void)n;
    vs_attr attr;
    if (find_attr(args, &attr))
        return_value(ctx, attr.type, attr.value);
}

static int compare(tn_str a, tn_str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n ? memcmp(a.p, b.p, n) : 0;
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

/* vend(attrs, id, high): the least or greatest keyword of a list; NULL when it has none. */
static void sql_end(sqlite3_context *ctx, int n, sqlite3_value **args)
{
    (void)n;
    vs_attr attr;
    tn_str item, best = {NULL, 0};
    bool high = sqlite3_value_int(args[2]) != 0;
    if (!find_attr(args, &attr))
        return;
    while (tn_vd_list_next(&attr.value, &item))
        if (!best.p || (compare(item, best) > 0) == high)
            best = item;
    if (best.p)
        sqlite3_result_text(ctx, best.p, (int)best.n, SQLITE_TRANSIENT);
}

static bool list_has(tn_blob list, tn_str wanted)
{
    tn_str item;
    while (tn_vd_list_next(&list, &item))
        if (item.n == wanted.n && (item.n == 0 || memcmp(item.p, wanted.p, item.n) == 0))
            return true;
    return false;
}

/* vhas(attrs, id, list): whether the attribute has any of the list's keywords or words; NULL when the
 * document lacks the attribute. */
static void sql_has(sqlite3_context *ctx, int n, sqlite3_value **args)
{
    (void)n;
    vs_attr attr;
    tn_blob wanted = {sqlite3_value_blob(args[2]), (size_t)sqlite3_value_bytes(args[2])};
    if (!find_attr(args, &attr))
        return;
    bool found = false;
    if (attr.type == TN_ATTR_TEXT) {
        tn_vd_words it;
        tn_vd_words_begin(&it, attr.value);
        while (!found && tn_vd_words_next(&it))
            found = list_has(wanted, (tn_str){it.word, it.n});
    } else {
        tn_str item;
        while (!found && tn_vd_list_next(&attr.value, &item))
            found = list_has(wanted, item);
    }
    sqlite3_result_int(ctx, found);
}

/* vrun(run): a run id as text. */
static void sql_run(sqlite3_context *ctx, int n, sqlite3_value **args)
{
    (void)n;
    if (sqlite3_value_type(args[0]) == SQLITE_BLOB && sqlite3_value_bytes(args[0]) == 16) {
        char text[36];
        vs_uuid_text(sqlite3_value_blob(args[0]), text);
        sqlite3_result_text(ctx, text, 36, SQLITE_TRANSIENT);
    } else {
        sqlite3_result_value(ctx, args[0]);
    }
}

int vs_functions_register(sqlite3 *db)
{
    static const struct {
        const char *name;
        int args;
        void (*run)(sqlite3_context *, int, sqlite3_value **);
    } functions[] = {
        {"vget", 2, sql_get}, {"vend", 3, sql_end}, {"vhas", 3, sql_has}, {"vrun", 1, sql_run}};
    int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY;
    for (size_t i = 0; i < VS_COUNT(functions); i++) {
        int rc = sqlite3_create_function_v2(db, functions[i].name, functions[i].args, flags, NULL,
                                            functions[i].run, NULL, NULL, NULL);
        if (rc != SQLITE_OK)
            return rc;
    }
    return SQLITE_OK;
}
