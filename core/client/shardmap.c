/* SPDX-License-Identifier: MIT */
/* The shard map of this process: read from the store, changed there by comparing and setting, told to every loop.  The
 * number in force and its version are one word, so that whoever routes needs no lock. */
#include "client/shardmap.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "proto/proto.h"
#include "tenon/store.pb-c.h"

#define WATCH_NS (15 * TN_SEC)
#define REFRESH_MIN_NS (200 * TN_MS)
#define AFTER_FAILURE_NS TN_SEC
#define MEMBER_FRESH_NS (60 * TN_SEC)

/* Somebody has spoken of another map since the last read began: what that read says may be older than the word. */
static atomic_bool wanted;
static struct {
    tn_loop_timer timer; /* the next read */
    bool started, watching, reading, failing;
    uint64_t read_at_ns;
} r;               /* loop 0 only */
static bool begun; /* main thread only */
static void (*listeners[4])(void);
static size_t n_listeners;
static void (*announce_map)(void);

void tn_shardmap_listen(void (*changed)(void))
{
    for (size_t i = 0; i < n_listeners; i++)
        if (listeners[i] == changed)
            return;
    TN_ASSERT(n_listeners < TN_COUNT_OF(listeners));
    listeners[n_listeners++] = changed;
}

void tn_shardmap_announce(void (*announce)(void)) { announce_map = announce; }

/* ---- a map comes into force ---- */

static void changed_here(tn_msg *msg)
{
    free(msg);
    for (size_t i = 0; i < n_listeners; i++)
        listeners[i]();
}

static void apply(uint32_t shards, uint64_t version)
{
    if (!tn_client_set_shards(shards, version))
        return;
    TN_LOG(TN_LOG_INFO, "client", "another shard map is in force", TN_LOG_U("shards", shards),
           TN_LOG_U("version", version));
    for (uint32_t i = 0; i < tn_loops_count(); i++) {
        tn_msg *msg = tn_xcalloc(1, sizeof(*msg));
        msg->run = changed_here;
        tn_loop_post(tn_loops_get(i), msg);
    }
}

static tn_status read_row(tn_arena *arena, const tn_row *row, Tenon__ShardMap **out, tn_error *err)
{
    tn_status status = tn_proto_unpack(&tenon__shard_map__descriptor, row->value, arena,
                                       (ProtobufCMessage **)(void *)out, err);
    uint32_t partitions = tn_client_partition_count();
    if (status == TN_OK &&
        (!(*out)->shards || (*out)->shards % partitions || (*out)->shards > TN_SHARDS_MAX ||
         (*out)->shards / partitions > TN_SHARDS_A_PARTITION_MAX || !(*out)->version))
        status = tn_error_set(err, TN_EDATALOSS, "the store's shard map is damaged");
    return status;
}

static tn_key map_key(tn_arena *arena)
{
    return tn_store_key(arena, TN_TABLE_META, TN_PARTITION_CLUSTER,
                        tn_blob_of_str(TN_STR("shards")));
}

/* ---- reading it again [loop 0] ---- */

static void map_came(tn_store_op *op);

static void look(void)
{
    uint64_t now = tn_now_mono_ns(), at = r.read_at_ns + REFRESH_MIN_NS;
    if (!r.started || r.reading || !atomic_load(&wanted))
        return;
    if (r.read_at_ns && now < at) {
        tn_loop_timer_start(&r.timer, at);
        return;
    }
    atomic_store(&wanted, false);
    r.reading = true;
    r.read_at_ns = now;
    tn_arena *arena = tn_arena_create(0);
    tn_store_op *op = TN_NEW(arena, tn_store_op);
    *op = (tn_store_op){.arena = arena, .done = map_came};
    op->u.get.key = map_key(arena);
    tn_store_get(op);
}

static void map_came(tn_store_op *op)
{
    Tenon__ShardMap *map = NULL;
    bool failed = op->status != TN_OK && op->status != TN_ENOTFOUND;
    if (op->status == TN_OK) {
        failed = read_row(op->arena, &op->u.get.row, &map, &op->error) != TN_OK;
        if (!failed)
            apply(map->shards, map->version);
    }
    if (failed && !r.failing)
        TN_LOG(TN_LOG_WARN, "client", "the shard map could not be read",
               TN_LOG_Z("why", op->error.text));
    tn_arena_destroy(op->arena);
    r.reading = false;
    r.failing = failed;
    if (r.started && (failed || r.watching))
        tn_loop_timer_start(&r.timer, tn_now_mono_ns() + (failed ? AFTER_FAILURE_NS : WATCH_NS));
    look();
}

static void due(tn_loop_timer *timer)
{
    (void)timer;
    atomic_store(&wanted, true);
    look();
}

static void asked(tn_msg *msg)
{
    free(msg);
    look();
}

void tn_shardmap_refresh(void)
{
    if (atomic_exchange(&wanted, true))
        return;
    tn_msg *msg = tn_xcalloc(1, sizeof(*msg));
    msg->run = asked;
    tn_loop_post(tn_loops_get(0), msg);
}

static void loop_start(void *arg)
{
    (void)arg;
    memset(&r, 0, sizeof(r));
    tn_loop_timer_init(&r.timer, due);
    r.started = true;
    look(); /* somebody may have spoken while it was loaded */
}

tn_status tn_shardmap_load_sync(tn_error *err)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__ShardMap *map = NULL;
    tn_row row;
    tn_status status = tn_store_get_sync(arena, map_key(arena), &row, err);
    if (status == TN_OK)
        status = read_row(arena, &row, &map, err);
    if (status == TN_OK)
        (void)tn_client_set_shards(map->shards, map->version);
    tn_arena_destroy(arena);
    if (status == TN_ENOTFOUND)
        status = TN_OK;
    if (status == TN_OK) {
        tn_loop_call(tn_loops_get(0), loop_start, NULL);
        begun = true;
    }
    return status;
}

static void loop_watch(void *arg)
{
    (void)arg;
    r.watching = true;
    if (!r.reading)
        tn_loop_timer_start(&r.timer, tn_now_mono_ns() + WATCH_NS);
}

void tn_shardmap_watch(void) { tn_loop_call(tn_loops_get(0), loop_watch, NULL); }

static void loop_stop(void *arg)
{
    (void)arg;
    r.started = r.watching = false;
    tn_loop_timer_stop(&r.timer);
}

void tn_shardmap_stop(void)
{
    if (begun) /* a start may fail before there are loops */
        tn_loop_call(tn_loops_get(0), loop_stop, NULL);
    begun = false;
}

/* ---- changing it ---- */

static void end(tn_shardmap_change *c, const tn_fault *fault)
{
    c->fault = fault;
    c->done(c);
}

static void end_status(tn_shardmap_change *c)
{
    end(c, tn_fault_from_status(c->arena,
                                c->op.status == TN_ECONFLICT ? TN_EUNAVAILABLE : c->op.status,
                                &c->op.error));
}

static void next_read(tn_shardmap_change *c, void (*done)(tn_store_op *op))
{
    c->op = (tn_store_op){.arena = c->arena, .user = c, .done = done};
}

static void made(tn_store_op *op)
{
    tn_shardmap_change *c = op->user;
    if (op->status != TN_OK) { /* uncertain: asked again, the same change says that it is made */
        tn_shardmap_refresh();
        end_status(c);
        return;
    }
    apply(c->shards, c->version);
    if (announce_map)
        announce_map();
    end(c, NULL);
}

static tn_blob pack(tn_shardmap_change *c, const ProtobufCMessage *message)
{
    tn_blob packed = {NULL, 0};
    tn_status status = tn_proto_pack(message, c->arena, &packed);
    TN_ASSERT(status == TN_OK);
    return packed;
}

static void write_map(tn_shardmap_change *c)
{
    Tenon__ClusterRecord *cluster = NULL;
    Tenon__ShardMap map = TENON__SHARD_MAP__INIT;
    tn_store_batch batch;
    if (tn_proto_unpack(&tenon__cluster_record__descriptor, c->cluster.value, c->arena,
                        (ProtobufCMessage **)(void *)&cluster, &c->op.error) != TN_OK) {
        c->op.status = TN_EDATALOSS;
        end_status(c);
        return;
    }
    c->version++;
    map.version = c->version;
    map.shards = c->shards;
    map.before = c->before;
    map.changed_ns = tn_now_wall_ns();
    if (cluster->schema < TN_SHARDMAP_SCHEMA)
        cluster->schema = TN_SHARDMAP_SCHEMA;
    tn_key map_at = map_key(c->arena);
    tn_store_batch_init(&batch, c->arena);
    tn_store_batch_cond(&batch, TN_COND_VERSION, c->cluster.key, c->cluster.version);
    tn_store_batch_cond(&batch, c->map.version ? TN_COND_VERSION : TN_COND_ABSENT, map_at,
                        c->map.version);
    tn_store_batch_put(&batch, c->cluster.key, pack(c, &cluster->base));
    tn_store_batch_put(&batch, map_at, pack(c, &map.base));
    next_read(c, made);
    c->op.u.commit.batch = tn_store_batch_finish(&batch);
    tn_store_commit(&c->op);
}

/* A process of a release that knows of no map would go on with the old number. */
static void members_came(tn_store_op *op)
{
    tn_shardmap_change *c = op->user;
    const tn_page *page = &op->u.scan.page;
    for (size_t i = 0; op->status == TN_OK && i < page->n_rows; i++) {
        Tenon__MemberRecord *m = NULL;
        if (tn_proto_unpack(&tenon__member_record__descriptor, page->rows[i].value, c->arena,
                            (ProtobufCMessage **)(void *)&m, NULL) == TN_OK &&
            !m->follows_shard_map && m->seen_ns + MEMBER_FRESH_NS > tn_now_wall_ns()) {
            end(c, tn_fault_make(c->arena, TN_GRPC_FAILED_PRECONDITION,
                                 "the member at %s:%u runs release %s, which has one number of "
                                 "shards for ever; fix: upgrade it",
                                 m->ip, m->port, m->version));
            return;
        }
    }
    if (op->status == TN_OK && page->next.n) {
        op->u.scan.range.page = tn_arena_blob(c->arena, page->next);
        tn_store_scan(op);
    } else if (op->status != TN_OK) {
        end_status(c);
    } else if (c->dry_run) {
        end(c, NULL);
    } else {
        write_map(c);
    }
}

static const tn_fault *refuse(const tn_shardmap_change *c)
{
    uint32_t p = c->partitions;
    if (c->shards < p || c->shards % p || c->shards / p > TN_SHARDS_A_PARTITION_MAX ||
        c->shards > TN_SHARDS_MAX)
        return tn_fault_make(c->arena, TN_GRPC_INVALID_ARGUMENT,
                             "this store has %u partitions: the number of shards must be a "
                             "multiple of that, at most %u of them and %u",
                             p, TN_SHARDS_A_PARTITION_MAX, TN_SHARDS_MAX);
    return NULL;
}

static void current_came(tn_store_op *op)
{
    tn_shardmap_change *c = op->user;
    Tenon__ShardMap *map = NULL;
    c->partitions = c->before = tn_client_partition_count();
    if (op->status == TN_OK)
        op->status = read_row(c->arena, &op->u.get.row, &map, &op->error);
    else if (op->status == TN_ENOTFOUND)
        op->status = TN_OK;
    if (op->status != TN_OK) {
        end_status(c);
        return;
    }
    if (map) {
        c->map = op->u.get.row;
        c->before = map->shards;
        c->version = map->version;
        apply(map->shards, map->version);
    }
    const tn_fault *fault = refuse(c);
    if (fault || c->shards == c->before) {
        end(c, fault);
        return;
    }
    next_read(c, members_came);
    c->op.u.scan.range = (tn_range){.struct_size = sizeof(tn_range), .limit = 1000};
    c->op.u.scan.range.from =
        tn_store_key(c->arena, TN_TABLE_MEMBER, TN_PARTITION_CLUSTER, (tn_blob){NULL, 0});
    tn_store_scan(&c->op);
}

static void cluster_came(tn_store_op *op)
{
    tn_shardmap_change *c = op->user;
    if (op->status != TN_OK) {
        end_status(c);
        return;
    }
    c->cluster = op->u.get.row;
    c->cluster.key = tn_store_key(c->arena, TN_TABLE_META, TN_PARTITION_CLUSTER,
                                  tn_blob_of_str(TN_STR("cluster")));
    next_read(c, current_came);
    c->op.u.get.key = map_key(c->arena);
    tn_store_get(&c->op);
}

void tn_shardmap_change_to(tn_shardmap_change *c)
{
    tn_arena_set_limit(c->arena, 0);
    c->fault = NULL;
    c->version = 0;
    c->map = (tn_row){.version = 0};
    if (!tn_client_partition_count()) {
        end(c, tn_fault_make(c->arena, TN_GRPC_UNAVAILABLE, "the server is starting"));
        return;
    }
    next_read(c, cluster_came);
    c->op.u.get.key = tn_store_key(c->arena, TN_TABLE_META, TN_PARTITION_CLUSTER,
                                   tn_blob_of_str(TN_STR("cluster")));
    tn_store_get(&c->op);
}
