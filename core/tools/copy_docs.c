/* SPDX-License-Identifier: MIT */
/* Visibility's part of a copy: documents are listed by namespace and put as they are, versions included.  While servers
 * still write, those that change afterwards are left to the target's servers: an outbox row asks them to. */
#include "tools/copy.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/proto.h"
#include "tenon/store.pb-c.h"

#define PAGE_DOCS 500u

typedef struct doc_pages {
    tn_copy *c;
    tn_tool_db *db;
    const char *ns_id;
    bool (*each)(tn_copy *c, void *user, const tn_vis_doc *doc);
    void *user;
} doc_pages;

static bool each_doc(const doc_pages *p)
{
    tn_arena *arena = tn_arena_create(0);
    tn_buf next = {0};
    tn_vis_page page;
    tn_error err = {0};
    bool good = true;
    do {
        tn_arena_reset(arena);
        tn_vis_query query = {
            .struct_size = sizeof query, .limit = PAGE_DOCS, .ns_id = tn_str_from(p->ns_id)};
        query.page = tn_arena_blob(arena, tn_buf_blob(&next));
        if (tn_tool_list(p->db, arena, &query, &page, &err) != TN_OK)
            good = tn_copy_fail(p->c, "documents could not be read", &err);
        next.n = 0;
        if (good)
            tn_buf_put(&next, page.next.p, page.next.n);
        for (size_t i = 0; good && i < page.n_docs; i++)
            good = p->each(p->c, p->user, &page.docs[i]);
    } while (good && next.n);
    tn_buf_done(&next);
    tn_arena_destroy(arena);
    return good;
}

/* ---- copying ---- */

#define GATHER 4000u

typedef struct gathered {
    tn_arena *arena;
    tn_vis_doc *docs;
    size_t n;
} gathered;

static bool flush_docs(tn_copy *c, gathered *g)
{
    tn_error err = {0};
    if (!g->n)
        return true;
    tn_copy_pace(c, g->n);
    if (tn_tool_put_docs(&c->to_docs, g->docs, g->n, &err) != TN_OK)
        return tn_copy_fail(c, "a document could not be written", &err);
    c->docs += g->n;
    g->n = 0;
    tn_arena_reset(g->arena);
    return true;
}

static bool gather_doc(tn_copy *c, void *user, const tn_vis_doc *doc)
{
    gathered *g = user;
    tn_vis_doc *mine = &g->docs[g->n++];
    tn_attr *attrs = TN_NEW_ARRAY(g->arena, tn_attr, doc->n_attrs + 1);
    *mine = *doc;
    mine->struct_size = sizeof *mine;
    mine->ns_id = tn_arena_str(g->arena, doc->ns_id);
    mine->workflow_id = tn_arena_str(g->arena, doc->workflow_id);
    mine->run_id = tn_arena_str(g->arena, doc->run_id);
    mine->memo = tn_arena_blob(g->arena, doc->memo);
    for (size_t i = 0; i < doc->n_attrs; i++) {
        attrs[i] = doc->attrs[i];
        attrs[i].name = tn_arena_str(g->arena, doc->attrs[i].name);
        attrs[i].value = tn_arena_blob(g->arena, doc->attrs[i].value);
    }
    mine->attrs = attrs;
    return g->n < GATHER ? true : flush_docs(c, g);
}

static bool copy_namespace(tn_copy *c, const char *ns_id)
{
    gathered g = {.arena = tn_arena_create(0), .docs = tn_xcalloc(GATHER, sizeof(tn_vis_doc))};
    bool good = each_doc(&(doc_pages){
                    .c = c, .db = &c->from_docs, .ns_id = ns_id, .each = gather_doc, .user = &g}) &&
                flush_docs(c, &g);
    free(g.docs);
    tn_arena_destroy(g.arena);
    return good;
}

static bool define_attributes(tn_copy *c, const Tenon__NamespaceRecord *record)
{
    tn_error err = {0};
    tn_attr *attrs = tn_xcalloc(record->n_custom + 1, sizeof *attrs);
    for (size_t i = 0; i < record->n_custom; i++)
        attrs[i] = (tn_attr){.name = tn_str_from(record->custom[i]->name),
                             .type = record->custom[i]->type};
    tn_status status =
        record->n_custom ? tn_tool_define(&c->to_docs, attrs, record->n_custom, &err) : TN_OK;
    free(attrs);
    return status == TN_OK || tn_copy_fail(c, "search attributes could not be defined", &err);
}

static bool read_namespaces(tn_copy *c)
{
    tn_arena *arena = tn_arena_create(0);
    tn_range range = {.struct_size = sizeof range, .limit = 1000};
    tn_page page;
    tn_error err = {0};
    bool good = true;
    range.from = tn_store_key(arena, TN_TABLE_NAMESPACE, TN_PARTITION_CLUSTER, (tn_blob){NULL, 0});
    do {
        if (tn_tool_scan(&c->from, arena, &range, &page, &err) != TN_OK)
            good = tn_copy_fail(c, "the namespaces could not be read", &err);
        for (size_t i = 0; good && i < page.n_rows; i++) {
            Tenon__NamespaceRecord *record = NULL;
            if (TN_PROTO_UNPACK(tenon__namespace_record, page.rows[i].value, arena, &record,
                                &err) != TN_OK) {
                good = tn_copy_fail(c, "a namespace's record could not be read", &err);
                break;
            }
            c->ns_ids = tn_xreallocarray(c->ns_ids, c->ns_count + 1, sizeof *c->ns_ids);
            c->ns_ids[c->ns_count++] = tn_xstrdup(record->id);
            good = define_attributes(c, record);
        }
        range.page = page.next;
    } while (good && range.page.n);
    tn_arena_destroy(arena);
    return good;
}

bool tn_copy_docs(tn_copy *c)
{
    bool good = read_namespaces(c);
    for (size_t i = 0; good && i < c->ns_count; i++)
        good = copy_namespace(c, c->ns_ids[i]);
    return good;
}

/* ---- sums ---- */

static bool add_doc(tn_copy *c, void *user, const tn_vis_doc *doc)
{
    tn_copy_sum *sum = user;
    uint8_t version[8];
    (void)c;
    tn_put_u64be(version, doc->version);
    uint64_t of_doc = tn_hash64_stable(tn_blob_of_str(doc->run_id), tn_blob_from(version, 8)) +
                      tn_hash64_stable(tn_blob_of_str(doc->workflow_id), doc->memo);
    for (size_t i = 0; i < doc->n_attrs; i++)
        of_doc += tn_hash64_stable(tn_blob_of_str(doc->attrs[i].name), doc->attrs[i].value) *
                  (2 * (uint64_t)doc->attrs[i].type + 1);
    uint8_t bytes[8];
    tn_put_u64be(bytes, of_doc);
    sum->sum += tn_hash64_stable(tn_blob_of_str(doc->run_id), tn_blob_from(bytes, 8));
    sum->rows++;
    return true;
}

bool tn_copy_sum_docs(tn_copy *c, tn_tool_db *db, const char *ns_id, tn_copy_sum *out)
{
    *out = (tn_copy_sum){0};
    return each_doc(&(doc_pages){.c = c, .db = db, .ns_id = ns_id, .each = add_doc, .user = out});
}

/* ---- what changes later ---- */

typedef struct names {
    tn_blob ns_id;
    char *workflow_id;
} names;

static bool wake_names(tn_copy *c, tn_arena *arena, uint32_t shard, const uint8_t run_id[16],
                       uint64_t wake_ns, names *out)
{
    tn_key key =
        tn_store_key(arena, TN_TABLE_WAKE, shard, tn_store_row_wake(arena, wake_ns, run_id));
    tn_row row;
    Tenon__Wake *wake = NULL;
    if (tn_tool_get(&c->from, arena, &key, &row, NULL) != TN_OK ||
        TN_PROTO_UNPACK(tenon__wake, row.value, arena, &wake, NULL) != TN_OK ||
        wake->ns_id.len != 16)
        return false;
    out->ns_id = tn_blob_from(wake->ns_id.data, 16);
    out->workflow_id = wake->workflow_id;
    return true;
}

/* A run without a wake row is open, and the current one of its workflow. */
static bool current_names(tn_copy *c, tn_arena *arena, uint32_t shard, const uint8_t run_id[16],
                          names *out)
{
    tn_range range = {.struct_size = sizeof range, .limit = 1000};
    tn_page page;
    range.from = tn_store_key(arena, TN_TABLE_CURRENT, shard, (tn_blob){NULL, 0});
    do {
        if (tn_tool_scan(&c->from, arena, &range, &page, NULL) != TN_OK)
            return false;
        for (size_t i = 0; i < page.n_rows; i++) {
            Tenon__CurrentRun *current = NULL;
            tn_blob key = page.rows[i].key.row;
            if (key.n < 17 ||
                TN_PROTO_UNPACK(tenon__current_run, page.rows[i].value, arena, &current, NULL) !=
                    TN_OK ||
                current->run_id.len != 16 || memcmp(current->run_id.data, run_id, 16) != 0)
                continue;
            out->ns_id = tn_blob_from(key.p, 16);
            out->workflow_id =
                tn_arena_printf(arena, "%.*s", (int)key.n - 16, (const char *)key.p + 16);
            return true;
        }
        range.page = page.next;
    } while (range.page.n);
    return false;
}

static tn_range records_of(tn_arena *arena, uint32_t shard, const uint8_t run_id[16])
{
    uint8_t end[16];
    memcpy(end, run_id, 16);
    for (int i = 15; i >= 0 && ++end[i] == 0; i--) {
    }
    tn_range range = {.struct_size = sizeof range, .flags = TN_RANGE_REVERSE, .limit = 1};
    range.from = tn_store_key(arena, TN_TABLE_RECORD, shard, tn_store_row_run(arena, run_id));
    range.to_row = tn_arena_blob(arena, tn_blob_from(end, 16));
    return range;
}

bool tn_copy_note_run(tn_copy *c, uint32_t shard, const uint8_t run_id[16])
{
    tn_arena *arena = tn_arena_create(0);
    tn_range range = records_of(arena, shard, run_id);
    tn_page page;
    tn_error err = {0};
    names found = {0};
    Tenon__Record *record = NULL;
    bool good = tn_tool_scan(&c->from, arena, &range, &page, &err) == TN_OK;
    if (!good)
        tn_copy_fail(c, "a run could not be read", &err);
    bool there = good && page.n_rows &&
                 TN_PROTO_UNPACK(tenon__record, page.rows[0].value, arena, &record, NULL) == TN_OK;
    bool named = there && ((record->wake_ns != UINT64_MAX &&
                            wake_names(c, arena, shard, run_id, record->wake_ns, &found)) ||
                           current_names(c, arena, shard, run_id, &found));
    if (named) { /* else it moves on, and a later pass meets it again */
        Tenon__Outbox outbox = TENON__OUTBOX__INIT;
        tn_blob packed;
        uint8_t row[8];
        outbox.run_id = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)run_id};
        outbox.ns_id = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)found.ns_id.p};
        outbox.workflow_id = found.workflow_id;
        outbox.doc_version = record->transition;
        /* A number of its own for each run, which no server gives. */
        tn_put_u64be(row, tn_hash64_stable(tn_blob_from(run_id, 16), (tn_blob){NULL, 0}) |
                              UINT64_C(1) << 63);
        good = tn_proto_pack(&outbox.base, arena, &packed) == TN_OK &&
               tn_copy_put(c, &c->to, TN_TABLE_OUTBOX, shard, tn_blob_from(row, 8), &packed);
        c->changed_runs++;
    }
    tn_arena_destroy(arena);
    return good;
}

bool tn_copy_note_gone(tn_copy *c, uint32_t shard, const uint8_t run_id[16])
{
    tn_arena *arena = tn_arena_create(0);
    tn_range range = records_of(arena, shard, run_id);
    tn_page page;
    tn_error err = {0};
    char text[37];
    tn_uuid_format(run_id, text);
    bool good = tn_tool_scan(&c->from, arena, &range, &page, &err) == TN_OK ||
                tn_copy_fail(c, "a run could not be read", &err);
    for (size_t i = 0; good && !page.n_rows && i < c->ns_count; i++) {
        tn_vis_doc doc = {.struct_size = sizeof doc,
                          .ns_id = tn_str_from(c->ns_ids[i]),
                          .workflow_id = TN_STR(""),
                          .run_id = tn_str_from(text)};
        good = tn_tool_remove_doc(&c->to_docs, &doc, &err) == TN_OK ||
               tn_copy_fail(c, "a document could not be removed", &err);
    }
    tn_arena_destroy(arena);
    return good;
}
