/* SPDX-License-Identifier: MIT */
/* The store: typed access to the persistence plugin.  It owns the table numbers and key layouts, turns
 * the commits of one loop iteration into one group for the driver, keeps deadlines and counts.  Each
 * loop has its own handle on the plugin (attach); answers come back on the loop that asked. */
#ifndef TN_STORE_STORE_H
#define TN_STORE_STORE_H

#include "base/base.h"
#include "loop/loop.h"

/* ---- tables; partition is 4 bytes big-endian: 1.. for the rows of workflows, or TN_PARTITION_CLUSTER ---- */
#define TN_PARTITION_CLUSTER UINT32_C(0) /* shards count from 1 */
#define TN_TABLE_META 1u                 /* cluster: "schema", "cluster", "token-key" ... */
#define TN_TABLE_SHARD \
    2u /* a row for each shard of the partition: tenon.ShardRecord; its version is the fence */
#define TN_TABLE_NAMESPACE 3u /* cluster: namespace id -> tenon.NamespaceRecord */
#define TN_TABLE_CURRENT 4u   /* ns id(16) + workflow id -> tenon.CurrentRun */
#define TN_TABLE_RECORD 5u    /* run id(16) + first event id(8) + transition(8) -> tenon.Record */
#define TN_TABLE_SNAPSHOT 6u  /* run id(16) -> tenon.Snapshot */
#define TN_TABLE_WAKE 7u      /* wall ns(8) + run id(16) -> tenon.Wake: it wants attention then */
#define TN_TABLE_OUTBOX 8u    /* sequence(8) -> tenon.Outbox: visibility write not known durable */
#define TN_TABLE_TASKQUEUE 9u /* settings of task queues */
#define TN_TABLE_MEMBER 10u   /* cluster: host id(16) -> tenon.MemberRecord */
#define TN_TABLE_NEXUS \
    11u /* cluster: endpoint id -> tenon.NexusEndpointRecord; "": the version of the table */
#define TN_TABLE_DEPLOYMENT 12u /* cluster: ns id + 0 + name -> tenon.DeploymentRecord */

typedef struct tn_store_op tn_store_op;

/* For whom a request is, to be counted in the rates of its role, namespace and shard; zeros: for the cluster itself. */
typedef struct tn_store_account {
    tn_str ns; /* its name; lives as long as the operation */
    uint32_t shard, priority;
    bool paid; /* it has been counted */
} tn_store_account;

/* One request to the store.  The caller embeds or allocates it (it must live until `done`), fills in the
 * request part and owns the arena: results live there.  done runs on the submitting loop. */
struct tn_store_op {
    tn_arena *arena;
    void (*done)(tn_store_op *op);
    void *user;
    uint64_t timeout_ns; /* 0: the default (10 s, or what tn_store_set_timeout said) */
    tn_store_account account;
    /* result */
    tn_status status; /* TN_OK, ...; a write past its deadline is TN_EUNCERTAIN */
    tn_error error;
    union {
        struct {
            tn_key key;
            tn_row row; /* out */
        } get;
        struct {
            tn_range range;
            tn_page page; /* out */
        } scan;
        struct {
            tn_batch batch;
            tn_commit commit; /* out */
        } commit;
    } u;
    /* private to the store */
    void *priv[7];
};

/* [loop] */
void tn_store_get(tn_store_op *op);
void tn_store_scan(tn_store_op *op);
/* Leaves with the group of this loop iteration. */
void tn_store_commit(tn_store_op *op);

/* Builders: keys in an arena. */
tn_blob tn_store_partition(tn_arena *arena, uint32_t partition);
tn_key tn_store_key(tn_arena *arena, uint32_t table, uint32_t partition, tn_blob row);
tn_blob tn_store_row_current(tn_arena *arena, tn_str ns_id, tn_str workflow_id);
tn_blob tn_store_row_record(tn_arena *arena, const uint8_t run_id[16], uint64_t first_event_id,
                            uint64_t transition);
tn_blob tn_store_row_run(tn_arena *arena, const uint8_t run_id[16]);
tn_blob tn_store_row_wake(tn_arena *arena, uint64_t wall_ns, const uint8_t run_id[16]);
tn_blob tn_store_row_u64(tn_arena *arena, uint64_t n);
tn_blob tn_store_row_shard(
    tn_arena *arena, uint32_t sub); /* the sub-th shard of its partition, from 0 (the row "") */
/* A batch that grows in an arena. */
typedef struct tn_store_batch {
    tn_arena *arena;
    tn_cond *conds;
    tn_mut *muts;
    size_t n_conds, n_muts, cap_conds, cap_muts;
} tn_store_batch;
void tn_store_batch_init(tn_store_batch *batch, tn_arena *arena);
void tn_store_batch_cond(tn_store_batch *batch, uint32_t test, tn_key key, uint64_t version);
void tn_store_batch_put(tn_store_batch *batch, tn_key key, tn_blob value);
void tn_store_batch_delete(tn_store_batch *batch, tn_key key);
void tn_store_batch_delete_range(tn_store_batch *batch, tn_key from, tn_blob end_row);
tn_batch tn_store_batch_finish(const tn_store_batch *batch);

/* [main] Attaches the opened persistence plugin to every loop.  plugin: handle of core/plugin. */
struct tn_plugin_instance;
tn_status tn_store_start(struct tn_plugin_instance *persistence, tn_error *err) TN_WARN_UNUSED;
/* [main, before the loops ask] Called with each request that goes to the plugin, and the table it is about, and with its
 * answer [loop]. */
void tn_store_use_meter(void (*meter)(const tn_store_op *op, uint32_t table, bool writes),
                        void (*answered)(const tn_store_op *op, uint32_t table,
                                         uint64_t latency_ns));
void tn_store_set_timeout(uint64_t ns); /* [any] of operations that begin from now on */
void tn_store_stop(void);               /* after all operations have ended */
/* [main] Synchronous forms for start-up; they run on loop 0 and wait. */
tn_status tn_store_get_sync(tn_arena *arena, tn_key key, tn_row *out, tn_error *err);
tn_status tn_store_scan_sync(tn_arena *arena, const tn_range *range, tn_page *out, tn_error *err);
tn_status tn_store_commit_sync(tn_arena *arena, const tn_batch *batch, tn_commit *out,
                               tn_error *err);

#endif
