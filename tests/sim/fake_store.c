/* SPDX-License-Identifier: MIT */
/* The store, played: an ordered table.  What is asked happens some time later, in no promised order; a commit may
 * fail, or be applied without anyone hearing of it, or long after it was given up.  A crash of the process does not
 * stop what is on its way. */
#include "store/store.h"

#include <stdlib.h>

#include "sim.h"
#include "proto/proto.h"
#include "store/private.h"
#include "tenon/store.pb-c.h"

bool sim_faults;
static sim_row *rows;
static size_t n_rows, cap_rows;
static uint64_t versions;

typedef enum verb { GET, SCAN, COMMIT } verb;
typedef struct pending {
    sim_event event;
    tn_msg tell;
    tn_list link;    /* all */
    tn_store_op *op; /* NULL: nobody waits any more */
    tn_loop *home;
    verb what;
    tn_arena *arena; /* the copy of a batch */
    tn_batch batch;
    bool apply, twist; /* twist: the answer is not what happened */
    uint64_t later_ns; /* of an answer, or of the deed after the answer */
} pending;
static tn_list all = {&all, &all};

size_t sim_store_rows(const sim_row **out)
{
    *out = rows;
    return n_rows;
}

/* ---- the table ---- */

static tn_blob key_bytes(tn_arena *arena, const tn_key *key, tn_blob row)
{
    size_t n = 1 + key->partition.n + row.n;
    uint8_t *p = tn_arena_alloc(arena, n + 1);
    p[0] = (uint8_t)key->table;
    memcpy(p + 1, key->partition.p, key->partition.n);
    if (row.n)
        memcpy(p + 1 + key->partition.n, row.p, row.n);
    return tn_blob_from(p, n);
}

static tn_blob key_of(const sim_row *row) { return tn_blob_from(row->key, row->key_n); }

static size_t place(tn_blob key, bool *found)
{
    size_t low = 0, high = n_rows;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (tn_blob_cmp(key_of(&rows[mid]), key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (found)
        *found = low < n_rows && tn_blob_eq(key_of(&rows[low]), key);
    return low;
}

static void put(tn_blob key, tn_blob value, uint64_t version)
{
    bool found;
    size_t at = place(key, &found);
    if (found) {
        free(rows[at].value);
    } else {
        if (n_rows == cap_rows) {
            cap_rows = cap_rows ? cap_rows * 2 : 256;
            rows = tn_xreallocarray(rows, cap_rows, sizeof(*rows));
        }
        memmove(rows + at + 1, rows + at, (n_rows - at) * sizeof(*rows));
        n_rows++;
        rows[at].key = tn_xmalloc(key.n);
        rows[at].key_n = key.n;
        memcpy(rows[at].key, key.p, key.n);
    }
    rows[at].value = tn_xmalloc(value.n + 1);
    rows[at].n = value.n;
    if (value.n)
        memcpy(rows[at].value, value.p, value.n);
    rows[at].version = version;
}

static void erase(size_t from, size_t until)
{
    for (size_t i = from; i < until; i++) {
        free(rows[i].key);
        free(rows[i].value);
    }
    memmove(rows + from, rows + until, (n_rows - until) * sizeof(*rows));
    n_rows -= until - from;
}

/* ---- what operations do ---- */

static void fill_row(tn_arena *arena, const sim_row *row, tn_row *out)
{
    uint8_t *key = tn_arena_memdup(arena, row->key, row->key_n);
    *out = (tn_row){.version = row->version};
    out->key = (tn_key){.table = row->key[0],
                        .partition = tn_blob_from(key + 1, 4),
                        .row = tn_blob_from(key + 5, row->key_n - 5)};
    out->value = tn_arena_blob(arena, tn_blob_from(row->value, row->n));
}

static tn_status test(tn_arena *arena, const tn_batch *batch, tn_commit *out)
{
    tn_status status = TN_OK;
    for (size_t i = 0; i < batch->n_conds; i++) {
        const tn_cond *cond = &batch->conds[i];
        bool found;
        size_t at = place(key_bytes(arena, &cond->key, cond->key.row), &found);
        if (cond->test == TN_COND_ABSENT ? !found : found && rows[at].version == cond->version)
            continue;
        out->failed_cond = (uint32_t)i;
        if (cond->test == TN_COND_FENCE)
            return TN_EFENCED;
        status = TN_ECONFLICT;
        out->current = (tn_row){0};
        if (found)
            fill_row(arena, &rows[at], &out->current);
    }
    return status;
}

/* What belongs to a shard is written under its fence only: a former owner writes nothing. */
static void check_fenced(const tn_batch *batch)
{
    for (size_t i = 0; i < batch->n_muts; i++) {
        const tn_key *key = &batch->muts[i].key;
        bool fenced = key->table < TN_TABLE_CURRENT || key->table > TN_TABLE_OUTBOX;
        for (size_t j = 0; j < batch->n_conds && !fenced; j++)
            fenced = batch->conds[j].test == TN_COND_FENCE &&
                     batch->conds[j].key.table == TN_TABLE_SHARD &&
                     tn_blob_eq(batch->conds[j].key.partition, key->partition);
        if (!fenced) {
            sim_violation("R5", "a write to table %u without a fence", key->table);
            return;
        }
    }
}

/* The workflow that a row of a shard says it is of; false: it names none. */
static bool workflow_of(tn_arena *arena, const tn_mut *mut, uint64_t *out_hash)
{
    tn_blob ns_id = {NULL, 0};
    const char *workflow_id = NULL;
    char text[37];
    Tenon__Wake *wake;
    Tenon__Outbox *outbox;
    if (mut->verb != TN_MUT_PUT)
        return false;
    if (mut->key.table == TN_TABLE_CURRENT) {
        ns_id = tn_blob_from(mut->key.row.p, 16);
        workflow_id = tn_arena_printf(arena, "%.*s", (int)mut->key.row.n - 16,
                                      (const char *)mut->key.row.p + 16);
    } else if (mut->key.table == TN_TABLE_WAKE &&
               TN_PROTO_UNPACK(tenon__wake, mut->value, arena, &wake, NULL) == TN_OK) {
        ns_id = tn_blob_from(wake->ns_id.data, wake->ns_id.len);
        workflow_id = wake->workflow_id;
    } else if (mut->key.table == TN_TABLE_OUTBOX &&
               TN_PROTO_UNPACK(tenon__outbox, mut->value, arena, &outbox, NULL) == TN_OK) {
        ns_id = tn_blob_from(outbox->ns_id.data, outbox->ns_id.len);
        workflow_id = outbox->workflow_id;
    }
    if (ns_id.n != 16 || !workflow_id)
        return false;
    tn_uuid_format(ns_id.p, text);
    *out_hash = tn_hash64_stable(tn_blob_of_str(tn_str_from(text)),
                                 tn_blob_of_str(tn_str_from(workflow_id)));
    return true;
}

/* What was written stood on the fence of the one shard that has the workflow by the map of its partition. */
static void check_owner(tn_arena *arena, const tn_batch *batch)
{
    const tn_cond *fence = NULL;
    Tenon__ShardRecord *record;
    uint64_t hash;
    bool found;
    for (size_t i = 0; i < batch->n_conds; i++)
        if (batch->conds[i].test == TN_COND_FENCE)
            fence = &batch->conds[i];
    if (!fence)
        return;
    size_t at = place(key_bytes(arena, &fence->key, fence->key.row), &found);
    if (!found || TN_PROTO_UNPACK(tenon__shard_record, tn_blob_from(rows[at].value, rows[at].n),
                                  arena, &record, NULL) != TN_OK) {
        sim_violation("R5", "a fence without a row");
        return;
    }
    uint32_t of = record->shards ? record->shards : mix.shards,
             sub = fence->key.row.n ? tn_get_u32be(fence->key.row.p) : 0;
    uint32_t shard = tn_get_u32be(fence->key.partition.p) + sub * mix.shards;
    for (size_t i = 0; i < batch->n_muts; i++) {
        const tn_mut *mut = &batch->muts[i];
        if (workflow_of(arena, mut, &hash) && hash % of + 1 != shard)
            sim_violation("R13", "shard %u of %u wrote a row of table %u that is another shard's",
                          shard, of, mut->key.table);
        if (mut->verb == TN_MUT_PUT && mut->key.table == TN_TABLE_OUTBOX) {
            place(key_bytes(arena, &mut->key, mut->key.row), &found);
            if (found)
                sim_violation("R13", "shard %u wrote over an outbox row", shard);
        }
    }
}

static tn_status apply(tn_arena *arena, const tn_batch *batch, tn_commit *out)
{
    check_fenced(batch);
    tn_status status = test(arena, batch, out);
    if (status != TN_OK)
        return status;
    tn_arena *scratch = __real_tn_arena_create(0);
    check_owner(scratch, batch);
    __real_tn_arena_destroy(scratch);
    out->version = ++versions;
    for (size_t i = 0; i < batch->n_muts; i++) {
        const tn_mut *mut = &batch->muts[i];
        tn_blob key = key_bytes(arena, &mut->key, mut->key.row);
        bool found;
        size_t at = place(key, &found);
        if (mut->verb == TN_MUT_PUT)
            put(key, mut->value, versions);
        else if (mut->verb == TN_MUT_DELETE && found)
            erase(at, at + 1);
        else if (mut->verb == TN_MUT_DELETE_RANGE)
            erase(at, place(key_bytes(arena, &mut->key, mut->end.row), NULL));
    }
    return TN_OK;
}

static tn_status get(tn_store_op *op)
{
    bool found;
    size_t at = place(key_bytes(op->arena, &op->u.get.key, op->u.get.key.row), &found);
    if (found)
        fill_row(op->arena, &rows[at], &op->u.get.row);
    return found ? TN_OK : TN_ENOTFOUND;
}

static tn_status scan(tn_store_op *op)
{
    const tn_range *range = &op->u.scan.range;
    tn_blob first =
        key_bytes(op->arena, &range->from, range->page.n ? range->page : range->from.row);
    size_t from = place(first, NULL), until;
    if (range->to_row.p) {
        until = place(key_bytes(op->arena, &range->from, range->to_row), NULL);
    } else {
        tn_key after = range->from;
        uint8_t next[4];
        tn_put_u32be(next, tn_get_u32be(after.partition.p) + 1);
        after.partition = tn_blob_from(next, 4);
        until = place(key_bytes(op->arena, &after, (tn_blob){NULL, 0}), NULL);
    }
    size_t n = until > from ? until - from : 0, limit = range->limit;
    if (sim_faults && limit > 3 && !(range->flags & TN_RANGE_REVERSE) && sim_chance(300))
        limit = 1 + sim_below(3); /* small pages are allowed, too */
    bool more = n > limit && !(range->flags & TN_RANGE_REVERSE);
    n = n > limit ? limit : n;
    tn_row *out = TN_NEW_ARRAY(op->arena, tn_row, n ? n : 1);
    for (size_t i = 0; i < n; i++)
        fill_row(op->arena, &rows[range->flags & TN_RANGE_REVERSE ? until - 1 - i : from + i],
                 &out[i]);
    op->u.scan.page = (tn_page){.struct_size = sizeof(tn_page), .rows = out, .n_rows = n};
    if (more)
        op->u.scan.page.next = tn_arena_blob(
            op->arena, tn_blob_from(rows[from + n].key + 5, rows[from + n].key_n - 5));
    return TN_OK;
}

/* ---- the rival ---- */

/* A second server on the same store, that has no work but wants every shard: it takes one after another, also those
 * that were taken back from it, until the world heals. */
static sim_event rival;
size_t sim_rival_taken;

static void rival_takes(sim_event *event)
{
    if (sim_draining)
        return;
    tn_arena *arena = __real_tn_arena_create(0);
    uint32_t shard = (uint32_t)sim_below(tn_client_shard_count());
    tn_key key = tn_store_key(arena, TN_TABLE_SHARD, 1 + shard % mix.shards,
                              tn_store_row_shard(arena, shard / mix.shards));
    tn_blob bytes = key_bytes(arena, &key, key.row), packed;
    bool found;
    size_t at = place(bytes, &found);
    Tenon__ShardRecord *record;
    if (found &&
        tn_proto_unpack(&tenon__shard_record__descriptor, tn_blob_from(rows[at].value, rows[at].n),
                        arena, (ProtobufCMessage **)(void *)&record, NULL) == TN_OK) {
        record->range_id++;
        record->owner = tn_arena_strdup(arena, "rival");
        record->acquired_ns = tn_now_wall_ns();
        TN_ASSERT(tn_proto_pack(&record->base, arena, &packed) == TN_OK);
        put(bytes, packed, ++versions);
        sim_rival_taken++;
        sim_trace("the rival takes shard %u", tn_get_u32be(key.partition.p));
    }
    __real_tn_arena_destroy(arena);
    sim_at(event, sim_below(sim_below(4) ? 10 * TN_SEC : 200 * TN_MS), rival_takes);
}

void sim_rival_start(void)
{
    if (mix.rival)
        sim_at(&rival, sim_below(5 * TN_SEC), rival_takes);
}

/* ---- what a cluster begins with ---- */

void sim_store_init(void)
{
    Tenon__ClusterRecord record = TENON__CLUSTER_RECORD__INIT;
    tn_arena *arena = __real_tn_arena_create(0);
    tn_key key =
        tn_store_key(arena, TN_TABLE_META, TN_PARTITION_CLUSTER, tn_blob_of_str(TN_STR("cluster")));
    tn_blob packed;
    record.schema = 1;
    record.history_shards = mix.shards;
    TN_ASSERT(tn_proto_pack(&record.base, arena, &packed) == TN_OK);
    put(key_bytes(arena, &key, key.row), packed, ++versions);
    __real_tn_arena_destroy(arena);
}

tn_status tn_store_get_sync(tn_arena *arena, tn_key key, tn_row *out, tn_error *err)
{
    tn_store_op op = {.arena = arena};
    (void)err;
    op.u.get.key = key;
    tn_status status = get(&op);
    if (status == TN_OK)
        *out = op.u.get.row;
    return status;
}

/* ---- on their way ---- */

static void told(tn_msg *msg)
{
    pending *p = TN_CONTAINER_OF(msg, pending, tell);
    tn_store_op *op = p->op;
    if (p->arena && !p->later_ns)
        __real_tn_arena_destroy(p->arena);
    if (!p->later_ns)
        free(p);
    op->done(op);
}

static void answer(pending *p, tn_status status)
{
    if (!p->op)
        return;
    p->op->status = status;
    p->op->error = (tn_error){.code = status};
    if (status != TN_OK)
        tn_error_set(&p->op->error, status, "simulated");
    p->tell.run = told;
    tn_loop_post(p->home, &p->tell);
}

static void finish(sim_event *event);

static void late_deed(sim_event *event)
{
    pending *p = TN_CONTAINER_OF(event, pending, event);
    tn_commit out = {0};
    tn_status status = apply(p->arena, &p->batch, &out);
    sim_trace("store late commit %s", tn_status_name(status));
    tn_list_remove(&p->link);
}

static tn_status do_commit(pending *p)
{
    tn_commit out = {.struct_size = sizeof(out)};
    tn_status status = apply(p->op ? p->op->arena : p->arena, &p->batch, &out);
    if (p->op)
        p->op->u.commit.commit = out;
    return status;
}

static void finish(sim_event *event)
{
    pending *p = TN_CONTAINER_OF(event, pending, event);
    tn_status status;
    if (p->later_ns) { /* given up, done nevertheless */
        sim_trace("store commit times out");
        answer(p, TN_EUNCERTAIN);
        sim_at(&p->event, p->later_ns, late_deed);
        return;
    }
    tn_list_remove(&p->link);
    if (p->what == GET)
        status = p->apply ? get(p->op) : TN_EUNAVAILABLE;
    else if (p->what == SCAN)
        status = p->apply ? scan(p->op) : TN_EUNAVAILABLE;
    else
        status = p->apply ? do_commit(p) : TN_EUNAVAILABLE;
    if (p->what == COMMIT)
        sim_trace("store commit of %zu: %s%s", p->batch.n_muts, tn_status_name(status),
                  p->twist ? ", not told" : "");
    if (p->what == COMMIT && p->twist)
        status = TN_EUNCERTAIN;
    answer(p, status);
}

static void submit(tn_store_op *op, verb what)
{
    pending *p = tn_xcalloc(1, sizeof(*p));
    uint64_t delay = 20 * TN_US + sim_below(3 * TN_MS);
    p->op = op;
    p->home = tn_loop_current();
    p->what = what;
    p->apply = true;
    op->status = TN_PENDING;
    if (what == COMMIT) {
        op->u.commit.commit = (tn_commit){0};
        p->arena = __real_tn_arena_create(0);
        TN_ASSERT(tn_store_copy_batch(p->arena, &op->u.commit.batch, &p->batch));
    }
    if (sim_faults && sim_chance(mix.slow_permille))
        delay = sim_below(9 * TN_SEC);
    if (sim_faults && sim_chance(mix.fault_permille)) {
        p->apply = what == COMMIT && sim_below(2);
        p->twist = sim_below(2);
        if (what == COMMIT && mix.late_writes && sim_chance(200)) {
            delay = 10 * TN_SEC;
            p->later_ns = 1 + sim_below(5 * TN_SEC);
        }
    }
    tn_list_init(&p->link);
    tn_list_push_back(&all, &p->link);
    sim_at(&p->event, delay, finish);
}

void tn_store_get(tn_store_op *op) { submit(op, GET); }
void tn_store_scan(tn_store_op *op) { submit(op, SCAN); }
void tn_store_commit(tn_store_op *op) { submit(op, COMMIT); }

void sim_store_crash(void)
{
    TN_LIST_FOREACH_SAFE (link, &all) {
        pending *p = TN_CONTAINER_OF(link, pending, link);
        p->op = NULL;
        if (p->what == COMMIT && sim_below(2)) {
            if (p->later_ns && p->event.fire == finish)
                p->later_ns = 0;
            continue; /* it still gets there, or not, in its time */
        }
        sim_cancel(&p->event);
        tn_list_remove(&p->link);
    }
}
