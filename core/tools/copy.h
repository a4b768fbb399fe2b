/* SPDX-License-Identifier: MIT */
/* The inside of `tenonctl store copy`: one pass over a partition, the fence of a shard that moves, documents, sums.
 *
 * A pass compares the keys of a partition on both sides, in order, and makes the target's what the source's are.  Which
 * values to take it knows by the source's row versions: within a partition they only rise, so that a row which was put
 * after a pass began has a greater one than any that was seen before.  That greatest one is the mark of the next pass. */
#ifndef TN_TOOLS_COPY_H
#define TN_TOOLS_COPY_H

#include <stdatomic.h>

#include "store/store.h"
#include "tools/db.h"

#define TN_COPY_TABLES \
    63u /* all that a store may have: a table that this tool does not know is not forgotten */
/* Rows of the meta table that belong to a move, not to the cluster. */
#define TN_COPY_MOVING "moving"
#define TN_COPY_MARK "copy/"

typedef struct tn_copy_part {
    uint64_t mark;  /* rows up to this version are in the target; 0: nothing is known */
    uint64_t seen;  /* the greatest version that was seen on the source */
    uint64_t fence; /* cutover: the version of the shard's row that is ours */
    bool begun;     /* a pass has been made: the target's rows are ours */
} tn_copy_part;

typedef struct tn_copy {
    const char *from_path, *to_path;
    tn_tool_db from, to, from_docs, to_docs;
    bool with_docs, cutover, verify, resume;
    uint64_t rate;
    uint32_t threads, shards;
    tn_copy_part *parts; /* [0..shards]: partition 0 is the cluster's */
    char **ns_ids;
    size_t ns_count;
    tn_config_problems *problems;
    uint32_t pass;
    bool
        values; /* the pass at hand expects to take so many rows that it reads all values at once */
    bool fencing; /* the pass at hand takes each shard away from its owner first */
    atomic_bool failed;
    atomic_uint_fast64_t rows, deleted, bytes, docs, changed_runs;
    atomic_uint_fast64_t next_ns; /* rate: when the next row may go */
} tn_copy;

/* One line on standard error; the copy ends when its threads have.  Always false. */
bool tn_copy_fail(tn_copy *c, const char *what, const tn_error *err);
void tn_copy_pace(tn_copy *c, uint64_t rows);
/* Rows that are none of the cluster's. */
bool tn_copy_is_own(uint32_t table, tn_blob row);

/* copy_rows.c */
/* Makes the target's partition what the source's is.  *out_changed: rows put and deleted. */
bool tn_copy_partition(tn_copy *c, uint32_t partition, uint64_t *out_changed);
/* Count and sum of a partition's rows; the order does not matter. */
typedef struct tn_copy_sum {
    uint64_t rows, sum;
} tn_copy_sum;
bool tn_copy_sum_of(tn_copy *c, tn_tool_db *db, uint32_t partition, tn_copy_sum *out);
bool tn_copy_put(tn_copy *c, tn_tool_db *db, uint32_t table, uint32_t partition, tn_blob row,
                 const tn_blob *value); /* NULL: delete */

/* copy_fence.c */
bool tn_copy_fence(tn_copy *c, uint32_t shard);
bool tn_copy_still_fenced(tn_copy *c, uint32_t shard);
bool tn_copy_unfence(tn_copy *c, uint32_t shard);
/* The shard's row as the target gets it: nobody's, and not moved. */
bool tn_copy_shard_value(tn_arena *arena, tn_blob value, tn_blob *out);

/* copy_docs.c */
bool tn_copy_docs(tn_copy *c);
bool tn_copy_sum_docs(tn_copy *c, tn_tool_db *db, const char *ns_id, tn_copy_sum *out);
/* Runs whose records changed after their documents were listed: the target's servers write those anew. */
bool tn_copy_note_runs(tn_copy *c, uint32_t shard, const uint8_t (*run_ids)[16], size_t n);
bool tn_copy_note_gone(tn_copy *c, uint32_t shard, const uint8_t run_id[16]);

#endif
