/* SPDX-License-Identifier: MIT */
/* Numbers of shared texts and of attributes.  They never change in a database, so what is known stays known
 * while the connection stands; after a loss it may be another database (a standby that lacks the
 * last of them), and everything is asked anew. */
#include "private.h"

#include <stdlib.h>

#define CACHE_MAX 50000

static uint64_t hash_of(tn_str text, uint32_t type)
{
    uint64_t h = 0xcbf29ce484222325u ^ type;
    for (size_t i = 0; i < text.n; i++)
        h = (h ^ (uint8_t)text.p[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

void vp_names_clear(vp_names *names)
{
    for (size_t i = 0; i < VP_NAME_SLOTS; i++)
        for (vp_entry *e = names->texts[i], *next; e; e = next) {
            next = e->by_text;
            free(e);
        }
    *names = (vp_names){.epoch = names->epoch + 1};
}

void vp_names_trim(vp_names *names)
{
    if (names->count > CACHE_MAX)
        vp_names_clear(names);
}

static const vp_entry *find(const vp_names *names, tn_str text, uint32_t type)
{
    uint64_t h = hash_of(text, type);
    const vp_entry *e = names->texts[h % VP_NAME_SLOTS];
    while (e && (e->hash != h || e->type != type || e->n != text.n ||
                 (text.n && memcmp(e->p, text.p, text.n) != 0)))
        e = e->by_text;
    return e;
}

int32_t vp_name_find(const vp_names *names, tn_str text)
{
    const vp_entry *e = find(names, text, 0);
    return e ? e->id : 0;
}

int32_t vp_attr_find(const vp_names *names, tn_str name, uint32_t type)
{
    const vp_entry *e = find(names, name, type);
    return e ? e->id : 0;
}

const vp_entry *vp_attr_by_id(const vp_names *names, int32_t id)
{
    const vp_entry *e = names->ids[(uint32_t)id % VP_NAME_SLOTS];
    while (e && e->id != id)
        e = e->by_id;
    return e;
}

static void keep(vp_names *names, tn_str text, uint32_t type, int32_t id)
{
    if (find(names, text, type))
        return;
    vp_entry *e = malloc(sizeof *e + text.n);
    if (!e)
        return; /* asked again, or the batch fails */
    uint64_t h = hash_of(text, type);
    *e = (vp_entry){
        .by_text = names->texts[h % VP_NAME_SLOTS], .hash = h, .id = id, .type = type, .n = text.n};
    if (text.n)
        memcpy(e->p, text.p, text.n);
    names->texts[h % VP_NAME_SLOTS] = e;
    if (type) {
        e->by_id = names->ids[(uint32_t)id % VP_NAME_SLOTS];
        names->ids[(uint32_t)id % VP_NAME_SLOTS] = e;
    }
    names->count++;
}

/* ---- wants -------------------------------------------------------------------------------------- */

static void want(vp_wants *wants, tn_str text, uint32_t type)
{
    if (wants->n && wants->list[wants->n - 1].type == type &&
        wants->list[wants->n - 1].text.n == text.n &&
        memcmp(wants->list[wants->n - 1].text.p, text.p, text.n) == 0)
        return;
    if (wants->n == wants->cap) {
        size_t cap = wants->cap ? wants->cap * 2 : 16;
        vp_want *grown = realloc(wants->list, cap * sizeof *grown);
        if (!grown) {
            wants->failed = true;
            return;
        }
        wants->list = grown;
        wants->cap = cap;
    }
    wants->list[wants->n++] = (vp_want){text, type};
}

void vp_want_name(vp_wants *wants, const vp_names *names, tn_str text)
{
    if (!text.p)
        text = (tn_str){"", 0};
    if (!find(names, text, 0))
        want(wants, text, 0);
}

void vp_want_attr(vp_wants *wants, const vp_names *names, tn_str name, uint32_t type)
{
    if (!find(names, name, type))
        want(wants, name, type);
}

void vp_want_id(vp_wants *wants, int32_t id)
{
    if (wants->n_ids == wants->cap_ids) {
        size_t cap = wants->cap_ids ? wants->cap_ids * 2 : 16;
        int32_t *grown = realloc(wants->ids, cap * sizeof *grown);
        if (!grown) {
            wants->failed = true;
            return;
        }
        wants->ids = grown;
        wants->cap_ids = cap;
    }
    wants->ids[wants->n_ids++] = id;
}

void vp_wants_done(vp_wants *wants)
{
    free(wants->list);
    free(wants->ids);
    *wants = (vp_wants){0};
}

/* One order for all, so that two that make the same names don't wait for each other crosswise. */
static int compare(const void *a, const void *b)
{
    const vp_want *x = a, *y = b;
    if (x->type != y->type)
        return x->type < y->type ? -1 : 1;
    size_t n = x->text.n < y->text.n ? x->text.n : y->text.n;
    int order = n ? memcmp(x->text.p, y->text.p, n) : 0;
    return order ? order : (x->text.n > y->text.n) - (x->text.n < y->text.n);
}

static void sort_wants(vp_wants *wants)
{
    size_t n = 0;
    if (wants->n)
        qsort(wants->list, wants->n, sizeof *wants->list, compare);
    for (size_t i = 0; i < wants->n; i++)
        if (i == 0 || compare(&wants->list[i - 1], &wants->list[i]) != 0)
            wants->list[n++] = wants->list[i];
    wants->n = n;
}

/* ---- asking ------------------------------------------------------------------------------------- */

static void put_texts(tn_pg_params *params, const vp_wants *wants, bool attrs)
{
    tn_pg_params_clear(params);
    tn_pg_array_begin(params, TN_PG_OID_TEXT);
    for (size_t i = 0; i < wants->n; i++)
        if ((wants->list[i].type != 0) == attrs)
            tn_pg_array_blob(params, wants->list[i].text.p, wants->list[i].text.n);
    tn_pg_array_end(params);
    if (!attrs)
        return;
    tn_pg_array_begin(params, TN_PG_OID_INT4);
    for (size_t i = 0; i < wants->n; i++)
        if (wants->list[i].type)
            tn_pg_array_i32(params, (int32_t)wants->list[i].type);
    tn_pg_array_end(params);
}

static bool send(tn_pg_req *req, PGconn *db)
{
    vp_resolve *r = (vp_resolve *)((char *)req - offsetof(vp_resolve, req));
    tn_pg_params *params = &r->side->params;
    size_t texts = 0;
    bool ok = true;
    while (texts < r->wants.n && r->wants.list[texts].type == 0)
        texts++;
    if (texts) {
        put_texts(params, &r->wants, false);
        ok = (!r->make || tn_pg_params_send(params, db, "vis_names_add")) &&
             tn_pg_params_send(params, db, "vis_names_get");
    }
    if (ok && texts < r->wants.n) {
        put_texts(params, &r->wants, true);
        ok = (!r->make || tn_pg_params_send(params, db, "vis_attrs_add")) &&
             tn_pg_params_send(params, db, "vis_attrs_get");
    }
    if (ok && r->wants.n_ids) {
        tn_pg_params_clear(params);
        tn_pg_array_begin(params, TN_PG_OID_INT4);
        for (size_t i = 0; i < r->wants.n_ids; i++)
            tn_pg_array_i32(params, r->wants.ids[i]);
        tn_pg_array_end(params);
        ok = tn_pg_params_send(params, db, "vis_attrs_by_id");
    }
    return ok;
}

static void take(tn_pg_req *req, uint32_t index, PGresult *result)
{
    (void)index;
    vp_resolve *r = (vp_resolve *)((char *)req - offsetof(vp_resolve, req));
    int columns = PQnfields(result);
    for (int i = 0; i < PQntuples(result) && columns >= 2; i++) {
        tn_blob text = tn_pg_result_blob(result, i, 1);
        keep(&r->side->names, (tn_str){(const char *)text.p, text.n},
             columns == 3 ? (uint32_t)tn_pg_result_int(result, i, 2) : 0,
             (int32_t)tn_pg_result_int(result, i, 0));
    }
}

static void done(tn_pg_req *req, tn_pg_end end, const tn_error *err, const char *sqlstate)
{
    vp_resolve *r = (vp_resolve *)((char *)req - offsetof(vp_resolve, req));
    if (end != TN_PG_DONE && r->make)
        vp_names_clear(&r->side->names); /* what was made has been rolled back */
    vp_wants_done(&r->wants);
    r->then(r, end, err, sqlstate);
}

void vp_resolve_start(vp_resolve *r, vp_side *side, uint32_t flags, uint64_t deadline_ns)
{
    sort_wants(&r->wants);
    r->side = side;
    r->req = (tn_pg_req){.flags = TN_PG_REPEAT | flags,
                         .deadline_ns = deadline_ns,
                         .send = send,
                         .result = take,
                         .done = done};
    tn_pg_submit(side->conn, &r->req);
}
