/* SPDX-License-Identifier: MIT */
/* What only memory knew, when a write has failed.  The run is thrown away and read again, for the store says which
 * of its transitions were made; but attempts of activities that have begun, and the heartbeats that were acknowledged
 * since the last record, are in no row yet.  They are kept here from before the failed transition until the run is
 * read again, and laid over it. */
#include "history/priv.h"

#include <stdlib.h>

typedef struct memory {
    tn_map_link link; /* hloop->memories; key: run id */
    tn_shard *shard;
    uint8_t run_id[16];
    size_t n;
    uint8_t bytes[];
} memory;

static void memory_free(memory *m)
{
    tn_map_remove(&m->shard->hl->memories, &m->link);
    free(m);
}

static memory *memory_find(tn_hloop *hl, const uint8_t run_id[16])
{
    tn_map_link *found = tn_map_find(&hl->memories, tn_blob_from(run_id, 16));
    return found ? TN_CONTAINER_OF(found, memory, link) : NULL;
}

void tn_memory_keep(const tn_run *run, tn_blob unwritten)
{
    tn_shard *shard = run->wf->shard;
    memory *old = memory_find(shard->hl, run->run_id);
    if (old)
        memory_free(old);
    if (!unwritten.n || shard->hl->stopping || !shard->owned)
        return;
    memory *m = tn_xmalloc(sizeof(*m) + unwritten.n);
    m->shard = shard;
    memcpy(m->run_id, run->run_id, 16);
    m->n = unwritten.n;
    memcpy(m->bytes, unwritten.p, unwritten.n);
    tn_map_insert(&shard->hl->memories, &m->link, tn_blob_from(m->run_id, 16));
}

void tn_memory_recall(tn_run *run)
{
    memory *m = memory_find(run->wf->shard->hl, run->run_id);
    if (!m)
        return;
    if (tn_ms_recall(run->ms, tn_blob_from(m->bytes, m->n)))
        run->extras_pending = true;
    memory_free(m);
}

void tn_memory_forget(tn_hloop *hl, const uint8_t run_id[16])
{
    memory *m = memory_find(hl, run_id);
    if (m)
        memory_free(m);
}

static void clear_one(void *user, tn_map_link *link)
{
    memory *m = TN_CONTAINER_OF(link, memory, link);
    if (!user || m->shard == user)
        memory_free(m);
}

void tn_memories_clear(tn_hloop *hl, const tn_shard *shard)
{
    tn_map_each(&hl->memories, clear_one, (void *)(uintptr_t)shard);
}
