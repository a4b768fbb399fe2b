/* SPDX-License-Identifier: MIT */
/* Numbers of namespaces and of attributes by namespace and type.  They are made once and never change, so
 * every process keeps what it has seen. */
#include "private.h"

#include <stdlib.h>

static size_t bucket(uint32_t ns, uint32_t type, tn_str text)
{
    uint32_t h = 2166136261u ^ ns * 31 ^ type;
    for (size_t i = 0; i < text.n; i++)
        h = (h ^ (uint8_t)text.p[i]) * 16777619u;
    return (h ^ h >> 15) % MV_NAME_BUCKETS;
}

static uint32_t known_id(mv_names *names, uint32_t ns, uint32_t type, tn_str text)
{
    uint32_t id = 0;
    pthread_mutex_lock(&names->lock);
    for (const mv_name *e = names->by_text[bucket(ns, type, text)]; e && !id; e = e->by_text)
        if (e->ns == ns && e->type == type && e->n == text.n && memcmp(e->p, text.p, text.n) == 0)
            id = e->id;
    pthread_mutex_unlock(&names->lock);
    return id;
}

static bool known_text(mv_names *names, uint32_t id, tn_str *out)
{
    bool found = false;
    pthread_mutex_lock(&names->lock);
    for (const mv_name *e = names->by_id[id % MV_NAME_BUCKETS]; e && !found; e = e->by_id)
        if (e->id == id) {
            *out = (tn_str){e->p, e->n}; /* entries are never taken away */
            found = true;
        }
    pthread_mutex_unlock(&names->lock);
    return found;
}

static void learn(mv_names *names, uint32_t id, uint32_t ns, uint32_t type, tn_str text)
{
    tn_str there;
    mv_name *e = known_text(names, id, &there) ? NULL : malloc(sizeof *e + text.n + 1);
    if (!e)
        return; /* asked again next time */
    *e = (mv_name){.id = id, .ns = ns, .type = type, .n = text.n};
    if (text.n)
        memcpy(e->p, text.p, text.n);
    size_t by_text = bucket(ns, type, text), by_id = id % MV_NAME_BUCKETS;
    pthread_mutex_lock(&names->lock);
    e->by_text = names->by_text[by_text];
    names->by_text[by_text] = e;
    e->by_id = names->by_id[by_id];
    names->by_id[by_id] = e;
    pthread_mutex_unlock(&names->lock);
}

void mv_names_done(mv_names *names)
{
    for (size_t i = 0; i < MV_NAME_BUCKETS; i++)
        for (mv_name *e = names->by_id[i], *next; e; e = next) {
            next = e->by_id;
            free(e);
        }
}

tn_status mv_name_find(mv_inst *inst, ms_conn *conn, uint32_t ns, uint32_t type, tn_str text,
                       uint64_t deadline_ns, uint32_t *id, tn_error *err)
{
    *id = known_id(&inst->names, ns, type, text);
    if (*id || text.n > MV_NAME_MAX)
        return TN_OK;
    ms_text sql = {0};
    ms_reply reply;
    ms_putf(&sql, "SELECT id FROM tenon_vis_name WHERE ns=%u AND type=%u AND name=", ns, type);
    ms_put_bytes(&sql, text.p, text.n);
    ms_fault f = ms_run(conn, &sql, deadline_ns, &reply, err);
    MYSQL_ROW row = f == MS_FINE ? mysql_fetch_row(reply.rows[0]) : NULL;
    if (row) {
        *id = (uint32_t)ms_u64(row, 0);
        learn(&inst->names, *id, ns, type, text);
    }
    ms_reply_done(&reply);
    ms_text_done(&sql);
    return f == MS_FINE ? TN_OK : err->code;
}

tn_status mv_name_add(mv_inst *inst, ms_conn *conn, uint32_t ns, uint32_t type, tn_str text,
                      uint64_t deadline_ns, uint32_t *id, tn_error *err)
{
    tn_status status = mv_name_find(inst, conn, ns, type, text, deadline_ns, id, err);
    if (status != TN_OK || *id)
        return status;
    if (text.n > MV_NAME_MAX)
        return ms_error(err, TN_EINVALID, 0, "a name of %zu bytes, the limit is %u", text.n,
                        MV_NAME_MAX);
    ms_text sql = {0};
    ms_reply reply;
    ms_puts(&sql, "INSERT IGNORE INTO tenon_vis_name (ns,type,name) VALUES (");
    ms_putf(&sql, "%u,%u,", ns, type);
    ms_put_bytes(&sql, text.p, text.n);
    ms_put(&sql, ")", 1);
    ms_fault f = ms_run(conn, &sql, deadline_ns, &reply, err);
    ms_reply_done(&reply);
    ms_text_done(&sql);
    if (f != MS_FINE)
        return err->code;
    status = mv_name_find(inst, conn, ns, type, text, deadline_ns, id, err);
    if (status == TN_OK && !*id)
        status = ms_error(err, TN_EUNAVAILABLE, 0, "a name was stored and is not there");
    return status;
}

tn_status mv_name_text(mv_inst *inst, ms_conn *conn, uint32_t id, uint64_t deadline_ns, tn_str *out,
                       tn_error *err)
{
    if (known_text(&inst->names, id, out))
        return TN_OK;
    ms_text sql = {0};
    ms_reply reply;
    ms_putf(&sql, "SELECT ns,type,name FROM tenon_vis_name WHERE id=%u", id);
    ms_fault f = ms_run(conn, &sql, deadline_ns, &reply, err);
    MYSQL_ROW row = f == MS_FINE ? mysql_fetch_row(reply.rows[0]) : NULL;
    if (row) {
        tn_str text = {row[2], mysql_fetch_lengths(reply.rows[0])[2]};
        learn(&inst->names, id, (uint32_t)ms_u64(row, 0), (uint32_t)ms_u64(row, 1), text);
    }
    ms_reply_done(&reply);
    ms_text_done(&sql);
    if (f != MS_FINE)
        return err->code;
    if (known_text(&inst->names, id, out))
        return TN_OK;
    return ms_error(err, row ? TN_EUNAVAILABLE : TN_EDATALOSS, 0, "attribute %u has no name", id);
}
