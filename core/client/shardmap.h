/* SPDX-License-Identifier: MIT */
/* How many shards there are, and changing it while servers run.
 *
 * A store is made with a number of partitions that never changes: a workflow's rows lie in partition hash mod P + 1 for
 * ever.  Shards are what processes own: S of them, S a multiple of P, shard hash mod S + 1; shards s, s + P, s + 2P ... share
 * partition (s - 1) mod P + 1, each under a fence of its own there.  So a change of S moves no row: only who may write
 * which workflow changes, and a partition changes over in one commit that raises the fences of all its former owners
 * (history/fence.c).
 *
 * The map (S and its version) is the row "shards" of the meta table; without one S is P, version 0. */
#ifndef TN_CLIENT_SHARDMAP_H
#define TN_CLIENT_SHARDMAP_H

#include "client/client.h"
#include "store/store.h"

#define TN_SHARDS_A_PARTITION_MAX 256u
#define TN_SHARDMAP_SCHEMA \
    2u /* of a cluster whose map has changed: releases that know of no map must not start */

/* [main] What the store says at start: call before the roles start, after tn_client_wire. */
tn_status tn_shardmap_load_sync(tn_error *err) TN_WARN_UNUSED;
/* [main] Where there are others who may change it, it is read again each 15 s. */
void tn_shardmap_watch(void);
void tn_shardmap_stop(void); /* [main] */
/* [loop] Somebody knows of another map, or calls come back from hosts that do not own what ours says: reads it again, five
 * times a second at most; a read that had begun before is not taken for an answer. */
void tn_shardmap_refresh(void);
/* [main, before start] Called on every loop after the map has changed. */
void tn_shardmap_listen(void (*changed)(void));

/* [loop] Asks for another number of shards; done runs on the same loop.  The change is made when it is in the store;
 * from then on every process follows by itself. */
typedef struct tn_shardmap_change {
    tn_arena *arena;
    uint32_t shards;
    bool dry_run; /* only says whether it could be done */
    void (*done)(struct tn_shardmap_change *change);
    void *user;
    /* result */
    const tn_fault *fault;
    uint32_t partitions, before;
    uint64_t version; /* of the map now in force */
    /* private */
    tn_store_op op;
    tn_row cluster, map;
} tn_shardmap_change;
void tn_shardmap_change_to(tn_shardmap_change *change);
/* [main, before start] Tells all other hosts to read the map again. */
void tn_shardmap_announce(void (*announce)(void));

#endif
