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

/* ---- names of runs: most are current, and so found by one reading of a table ---- */

typedef struct named {
    tn_map_link link;
    uint8_t run_id[16];
    names names;
} named;

typedef struct name_table {
    tn_arena *arena;
    tn_map map;
} name_table;

static bool load_names(tn_copy *c, uint32_t shard, name_table *t)
{
    tn_range range = {.struct_size = sizeof range, .limit = 1000};
    tn_page page;
    tn_error err = {0};
    range.from = tn_store_key(t->arena, TN_TABLE_CURRENT, shard, (tn_blob){NULL, 0});
    do {
        if (tn_tool_scan(&c->from, t->arena, &range, &page, &err) != TN_OK)
            return tn_copy_fail(c, "current runs could not be read", &err);
        for (size_t i = 0; i < page.n_rows; i++) {
            Tenon__CurrentRun *current = NULL;
            tn_blob key = page.rows[i].key.row;
            if (key.n < 17 ||
                TN_PROTO_UNPACK(tenon__current_run, page.rows[i].value, t->arena, &current, NULL) !=
                    TN_OK ||
                current->run_id.len != 16 ||
                tn_map_find(&t->map, tn_blob_from(current->run_id.data, 16)))
                continue;
            named *entry = TN_NEW(t->arena, named);
            memcpy(entry->run_id, current->run_id.data, 16);
            entry->names.ns_id = tn_blob_from(key.p, 16);
            entry->names.workflow_id =
                tn_arena_printf(t->arena, "%.*s", (int)key.n - 16, (const char *)key.p + 16);
            tn_map_insert(&t->map, &entry->link, tn_blob_from(entry->run_id, 16));
        }
        range.page = page.next;
    } while (range.page.n);
    return true;
}

/* A run that is not current is closed, and has a wake row for the end of its retention. */
static bool find_names(tn_copy *c, name_table *t, uint32_t shard, const uint8_t run_id[16],
                       names *out)
{
    tn_map_link *found = tn_map_find(&t->map, tn_blob_from(run_id, 16));
    if (found) {
        *out = TN_CONTAINER_OF(found, named, link)->names;
        return true;
    }
    tn_range range = records_of(t->arena, shard, run_id);
    tn_page page;
    Tenon__Record *record = NULL;
    return tn_tool_scan(&c->from, t->arena, &range, &page, NULL) == TN_OK && page.n_rows &&
           TN_PROTO_UNPACK(tenon__record, page.rows[0].value, t->arena, &record, NULL) == TN_OK &&
           record->wake_ns != UINT64_MAX &&
           wake_names(c, t->arena, shard, run_id, record->wake_ns, out);
}

static bool put_outbox(tn_copy *c, tn_arena *arena, tn_store_batch *batch, uint32_t shard,
                       const uint8_t run_id[16], const names *of)
{
    Tenon__Outbox outbox = TENON__OUTBOX__INIT;
    tn_blob packed;
    /* A number of its own for each run, which no server gives. */
    uint64_t number = tn_hash64_stable(tn_blob_from(run_id, 16), (tn_blob){NULL, 0}) | UINT64_C(1)
                                                                                           << 63;
    outbox.run_id = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)run_id};
    outbox.ns_id = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)of->ns_id.p};
    outbox.workflow_id = of->workflow_id;
    if (tn_proto_pack(&outbox.base, arena, &packed) != TN_OK)
        return tn_copy_fail(c, "an outbox row could not be made", NULL);
    tn_store_batch_put(batch,
                       tn_store_key(arena, TN_TABLE_OUTBOX, shard, tn_store_row_u64(arena, number)),
                       packed);
    return true;
}

static bool flush_outbox(tn_copy *c, tn_arena *arena, tn_store_batch *batch)
{
    tn_error err = {0};
    tn_batch ready = tn_store_batch_finish(batch);
    bool good = !batch->n_muts || tn_tool_commit(&c->to, arena, &ready, NULL, &err) == TN_OK ||
                tn_copy_fail(c, "outbox rows could not be written", &err);
    tn_arena_reset(arena);
    tn_store_batch_init(batch, arena);
    return good;
}

bool tn_copy_note_runs(tn_copy *c, uint32_t shard, const uint8_t (*run_ids)[16], size_t n)
{
    name_table table = {.arena = tn_arena_create(0)};
    tn_arena *arena = tn_arena_create(0);
    tn_store_batch batch;
    tn_store_batch_init(&batch, arena);
    tn_map_init(&table.map);
    bool good = load_names(c, shard, &table);
    for (size_t i = 0; good && i < n; i++) {
        names found;
        if (!find_names(c, &table, shard, run_ids[i], &found))
            continue; /* it moves on, and a later pass meets it again */
        c->changed_runs++;
        good = put_outbox(c, arena, &batch, shard, run_ids[i], &found) &&
               (batch.n_muts < 500 || flush_outbox(c, arena, &batch));
    }
    good = good && flush_outbox(c, arena, &batch);
    tn_map_done(&table.map);
    tn_arena_destroy(arena);
    tn_arena_destroy(table.arena);
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
