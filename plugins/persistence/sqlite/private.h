/* SPDX-License-Identifier: MIT */
/* The parts of the sqlite persistence driver and what they share.
 *
 *   table.c    ordered rows in memory: what the last groups wrote and the B-tree does not hold yet
 *   keys.c     keys as one byte string
 *   journal.c  a group of commits as blocks of the journal, and back
 *   zip.c      compression
 *   leaf.c     rows as the B-tree holds them: several in one, compressed
 *   db.c       the file: opening, schema, checksums of rows, errors in our words
 *   decide.c   whether one commit holds, and what it leaves
 *   writer.c   the one thread that decides and writes commits
 *   replay.c   opening: what the journal holds beyond the B-tree; closing
 *   flush.c    moves rows from memory into the B-tree, in slices; checkpoints
 *   reader.c   get and scan over the merged view; the threads that may wait for the disk
 *   sqlite.c   configuration, life cycle, the table of operations */
#ifndef SQ_PRIVATE_H
#define SQ_PRIVATE_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/plugin.h>

#define SQ_SCHEMA_VERSION 2          /* 1: neither journal nor rows were compressed */
#define SQ_APPLICATION_ID 0x544e5053 /* "TNPS" */
#define SQ_PARTITION_MAX 64u
#define SQ_ROW_MAX 1100u
#define SQ_KEY_MAX (2u + SQ_PARTITION_MAX + SQ_ROW_MAX)
#define SQ_VALUE_MAX ((size_t)64 << 20)
#define SQ_BATCH_BYTES_MAX ((size_t)256 << 20)
#define SQ_GROUP_BYTES_MAX ((size_t)4 << 20) /* a group takes no further member above this */
#define SQ_READERS_MAX 16
#define SQ_MS UINT64_C(1000000)
#define SQ_SEC UINT64_C(1000000000)

/* ---- keys ---------------------------------------------------------------------------------------
 * table (1 byte), partition length (1), partition, row: within a table and partition, memcmp order of
 * the whole is the order of rows. */
typedef struct sq_key {
    uint16_t n;
    uint8_t b[SQ_KEY_MAX + 1]; /* one more: the smallest key above the longest */
} sq_key;
bool sq_key_make(sq_key *out, const tn_key *key); /* false: out of the contract's limits */
/* The smallest key above every row of the same table and partition. */
void sq_key_partition_end(sq_key *out, const tn_key *key);
int sq_bytes_cmp(const uint8_t *a, size_t an, const uint8_t *b, size_t bn);
static inline size_t sq_key_prefix(const uint8_t *k) { return 2u + k[1]; }

uint32_t sq_crc32c(uint32_t crc, const void *p, size_t n);
static inline uint32_t sq_get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline void sq_set_u32(uint8_t *p, uint32_t v)
{
    for (int i = 3; i >= 0; i--, v >>= 8)
        p[i] = (uint8_t)v;
}

/* ---- table.c ------------------------------------------------------------------------------------ */
#define SQ_LEVELS_MAX 14
typedef struct sq_node sq_node;
struct sq_node {
    uint64_t version;
    sq_node *prev; /* level 0; the head when first */
    uint32_t key_n, value_n;
    uint8_t levels, tombstone;
    sq_node *next[]; /* levels pointers, then the key, then the value */
};
typedef struct sq_table {
    sq_node *head;
    sq_node *tail;
    size_t count, bytes;
    uint32_t levels;
    uint64_t rng;
} sq_table;
static inline const uint8_t *sq_node_key(const sq_node *n)
{
    return (const uint8_t *)&n->next[n->levels];
}
static inline const uint8_t *sq_node_value(const sq_node *n) { return sq_node_key(n) + n->key_n; }
bool sq_table_init(sq_table *table, uint64_t seed);
void sq_table_clear(sq_table *table); /* frees the nodes */
void sq_table_done(sq_table *table);
sq_node *sq_table_node(sq_table *table, const uint8_t *key, size_t key_n, uint64_t version,
                       const uint8_t *value, size_t value_n, bool tombstone); /* NULL: no memory */
sq_node *sq_table_find(const sq_table *table, const uint8_t *key, size_t key_n);
/* First node >= key; last node < key; NULL when there is none. */
sq_node *sq_table_seek(const sq_table *table, const uint8_t *key, size_t key_n);
sq_node *sq_table_seek_before(const sq_table *table, const uint8_t *key, size_t key_n);
/* Takes the node in; returns the one of the same key it replaces (the caller's to free). */
sq_node *sq_table_insert(sq_table *table, sq_node *node);
void sq_table_remove(sq_table *table, sq_node *node); /* does not free */
static inline sq_node *sq_table_first(const sq_table *table) { return table->head->next[0]; }
static inline sq_node *sq_node_prev(const sq_table *table, const sq_node *n)
{
    return n->prev == table->head ? NULL : n->prev;
}

/* ---- bytes -------------------------------------------------------------------------------------- */
typedef struct sq_bytes {
    uint8_t *p;
    size_t n, cap;
    bool failed; /* memory ran out; what follows is ignored */
} sq_bytes;
void sq_bytes_put(sq_bytes *b, const void *p, size_t n);
uint8_t *sq_bytes_room(sq_bytes *b, size_t n); /* n bytes behind the last one; NULL: no memory */

/* ---- zip.c -------------------------------------------------------------------------------------- */
#define SQ_ZIP_MAX ((size_t)8 << 20) /* larger pieces are kept as they are */
typedef struct sq_zipper {           /* of one thread; all zero to begin with */
    struct ZSTD_CCtx_s *out;
    struct ZSTD_DCtx_s *in;
} sq_zipper;
/* Both append to out; false: no memory, or not what sq_zip made of raw_n bytes. */
bool sq_zip(sq_zipper *zip, const uint8_t *p, size_t n, sq_bytes *out);
bool sq_unzip(sq_zipper *zip, const uint8_t *p, size_t n, size_t raw_n, sq_bytes *out);
void sq_zip_done(sq_zipper *zip);

/* ---- journal.c ---------------------------------------------------------------------------------- */
void sq_journal_begin(sq_bytes *b);
void sq_journal_put(sq_bytes *b, uint64_t version, const uint8_t *key, size_t key_n,
                    const uint8_t *value, size_t value_n);
void sq_journal_delete(sq_bytes *b, uint64_t version, const uint8_t *key, size_t key_n);
/* The group as it is to be written: compressed into `scratch`, or as it is where that is no smaller. */
const sq_bytes *sq_journal_pack(sq_zipper *zip, const sq_bytes *group, sq_bytes *scratch);
#define SQ_BLOCK_HEAD 22u
typedef struct sq_block {
    uint64_t seq;
    uint32_t part, parts;
    size_t n;
} sq_block;
/* size: of the whole block; n <= size - SQ_BLOCK_HEAD. */
void sq_block_make(uint8_t *out, size_t size, uint64_t seq, uint32_t part, uint32_t parts,
                   const uint8_t *p, size_t n);
bool sq_block_read(const uint8_t *p, size_t size, sq_block *out); /* false: damaged */
/* Calls `each` for every entry of a group; false: not one of ours, or each said no. */
typedef struct sq_entry {
    uint64_t version;
    const uint8_t *key, *value;
    size_t key_n, value_n;
    bool tombstone;
} sq_entry;
bool sq_entries_next(tn_blob *rest, sq_entry *out); /* false: the end, or (rest->n) damaged */
/* *out: in p or in raw.  false: no memory (raw->failed) or damaged */
bool sq_entries_open(sq_zipper *zip, const uint8_t *p, size_t n, sq_bytes *raw, tn_blob *out);
bool sq_journal_read(sq_zipper *zip, const uint8_t *p, size_t n,
                     bool (*each)(void *, const sq_entry *), void *user);

/* ---- db.c --------------------------------------------------------------------------------------- */
typedef struct sq_options {
    const char *path;
    bool memory; /* nothing is kept: no file, no journal */
    int busy_ms;
    int64_t cache_bytes, journal_bytes, wal_bytes, page_bytes;
    uint64_t idle_flush_ns, gather_ns;
    uint32_t readers;
} sq_options;
/* Takes the lock beside the file; *out_fd is -1 on failure. */
tn_status sq_lock_take(const char *path, int *out_fd, tn_error *err);
/* writer: may create the file and its schema. */
tn_status sq_db_open(const sq_options *options, bool writer, int64_t cache_bytes, sqlite3 **out,
                     tn_error *err);
tn_status sq_db_exec(sqlite3 *db, const char *sql, tn_error *err);
tn_status sq_db_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **out, tn_error *err);
tn_status sq_db_status(sqlite3 *db, int rc, const char *doing,
                       tn_error *err); /* for reads and for writes surely undone */
tn_status sq_error(tn_error *err, tn_status code, int vendor, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* What is stored for a value: its checksum over key, version and value in front of it. */
uint32_t sq_row_sum(const uint8_t *key, size_t key_n, uint64_t version, const uint8_t *value,
                    size_t value_n);

/* ---- leaf.c ------------------------------------------------------------------------------------- */
typedef struct sq_leaf {        /* a row of kv, taken apart */
    bool single, damaged, lost; /* lost: what it has not may have been there */
    uint64_t version;           /* of a single row */
    sq_bytes key, raw;          /* where the rows lie */
    sq_entry *rows;
    size_t n, cap;
} sq_leaf;
/* What the statement stands on: columns (k, ver, val).  begin: key and kind; read: the rows.  false: no memory. */
bool sq_leaf_begin(sq_leaf *leaf, sqlite3_stmt *stmt);
bool sq_leaf_read(sq_leaf *leaf, sq_zipper *zip, sqlite3_stmt *stmt);
size_t sq_leaf_seek(const sq_leaf *leaf, const uint8_t *key, size_t key_n); /* first row >= key */
void sq_leaf_done(sq_leaf *leaf);
#define SQ_FLOOR_SQL "SELECT k,ver,val FROM kv WHERE k<=? ORDER BY k DESC LIMIT 1"
/* TN_ENOTFOUND; *out lives in the leaf.  The caller resets the statement. */
tn_status sq_file_find(sqlite3 *db, sqlite3_stmt *floor, sq_zipper *zip, sq_leaf *leaf,
                       const sq_key *key, const sq_entry **out, tn_error *err);
#define SQ_RANGE_SQL \
    "SELECT k,ver,val FROM kv WHERE k>=coalesce((SELECT k FROM kv WHERE k<=?1 ORDER BY k DESC " \
    "LIMIT 1),?1) AND k<?2 ORDER BY k"
typedef struct sq_cursor { /* over the rows of the file; the caller sets these: */
    sqlite3 *db;
    sqlite3_stmt *stmt; /* SQ_RANGE_SQL; NULL: there is no file */
    sq_zipper *zip;
    sq_leaf *leaf;
    bool reverse, keys_only; /* keys_only: values may be missing */
    /* private: */
    const sq_key *from, *to;
    sq_entry bare;
    size_t left, at;
} sq_cursor;
void sq_cursor_open(sq_cursor *c, const sq_key *from, const sq_key *to);
/* *out NULL: the end.  Lives until the next call. */
tn_status sq_cursor_next(sq_cursor *c, const sq_entry **out, tn_error *err);

typedef struct sq_leaf_writer {
    sqlite3_stmt *put; /* INSERT OR REPLACE of k, ver, val */
    sq_zipper *zip;
    size_t cell_bytes;         /* a row of kv of this size needs no page of its own */
    size_t page_bytes;         /* ... and one of so many more fills just one */
    size_t ratio, ratio_large; /* compressed bytes of 256, lately */
    sq_bytes plain, packed, out;
} sq_leaf_writer;
static inline size_t sq_entry_bytes(const sq_entry *e) { return 15 + e->key_n + e->value_n; }
size_t sq_leaf_target(const sq_leaf_writer *lw); /* bytes of rows that make a leaf */
/* Rising rows, of which so many bytes are new.  append: nothing is expected between them later.  An SQLite
 * code. */
int sq_leaves_write(sq_leaf_writer *lw, const sq_entry *rows, size_t n, size_t fresh_bytes,
                    bool append, bool lost);
void sq_leaf_writer_done(sq_leaf_writer *lw);

/* ---- the instance ------------------------------------------------------------------------------- */
typedef struct sq_group { /* what one commit call brought */
    struct sq_group *next;
    size_t n, taken;
    tn_commit_req *reqs[];
} sq_group;

typedef struct sq_read { /* a get or scan that has to look into the file; in the op's arena */
    struct sq_read *next;
    tn_op *op;
    const tn_key *key; /* get */
    tn_row *row;
    const tn_range *range; /* scan */
    tn_page *page;
} sq_read;

#define SQ_KNOWN_SLOTS 4096u
typedef struct sq_known { /* what the B-tree holds of a key that a condition asked for */
    uint8_t key_n, key[79];
    uint64_t version; /* 0: no such row */
} sq_known;

typedef struct sq_inst sq_inst;

typedef struct sq_slots { /* row numbers of the journal, a stack */
    int64_t *p;
    size_t n, cap;
} sq_slots;

typedef struct sq_writer { /* [writer thread] */
    sqlite3 *db;
    sqlite3_stmt *begin, *commit, *rollback, *journal_add, *journal_set, *floor, *after, *row_put,
        *row_delete, *range, *meta_put;
    sq_table delta;           /* the group being decided */
    sq_bytes journal, packed; /* the group's entries; the same compressed */
    sq_zipper zip;
    sq_leaf leaf; /* of the last look into the file */
    sq_leaf_writer leaves;
    uint64_t version, seq;
    size_t last_group; /* members */
    uint64_t
        active_journal_bytes; /* of entries in the journal, not in the B-tree: the active table */
    uint64_t frozen_seq, frozen_version;
    sq_node *flush_at;
    sq_slots free_slots;   /* journal rows that may be written over */
    sq_slots active_slots; /* of the groups in the active table, in the frozen one */
    sq_slots frozen_slots;
    int64_t slots; /* rows of the journal */
    size_t block_bytes;
    uint8_t *block;
    bool clean; /* the file says that its journal is obsolete: take that back first */
    uint64_t idle_at_ns, retry_at_ns;
    bool poisoned; /* a commit ended in doubt: a barrier commit comes first */
    bool flush_complained, draining;
    sq_known *known;
} sq_writer;

struct sq_inst {
    const tn_host *host;
    sq_options options;
    int lock_fd;

    /* The merged view.  The writer alone changes it, holding the lock for writing; it may read
     * without the lock. */
    pthread_rwlock_t view_lock;
    sq_table active, frozen;
    bool has_frozen;

    pthread_mutex_t queue_lock;
    pthread_cond_t queue_wake;
    sq_group *queue_head, *queue_tail;
    bool stopping, checkpoint_ended;

    pthread_mutex_t read_lock;
    pthread_cond_t read_wake;
    sq_read *read_head, *read_tail;
    bool read_stopping;

    pthread_mutex_t checkpoint_lock;
    pthread_cond_t checkpoint_wake;
    bool checkpoint_wanted, checkpoint_stopping, checkpoint_running;
    int64_t checkpoint_at_bytes; /* [writer thread] of the log, for the next one */

    pthread_t writer_thread, checkpoint_thread, reader_threads[SQ_READERS_MAX];
    bool writer_started, checkpoint_started;
    uint32_t readers_started;
    sq_writer writer;

    tn_metric *m_groups, *m_commits, *m_journal_bytes, *m_flushes, *m_sync_seconds;
};
static inline void sq_metric(const sq_inst *inst, tn_metric *m, double v)
{
    if (m)
        inst->host->metric_add(m, v);
}

/* ---- writer.c ---- */
void *sq_writer_main(void *inst);
void sq_writer_submit(sq_inst *inst, tn_commit_req *const *reqs, size_t n);
/* BEGIN IMMEDIATE ... COMMIT around what the caller does between; see flush.c. */
tn_status sq_writer_begin(sq_inst *inst, tn_error *err);
tn_status sq_writer_end(sq_inst *inst,
                        tn_error *err); /* TN_EUNAVAILABLE, TN_EUNCERTAIN: rolled back */
void sq_writer_abort(sq_inst *inst);
tn_status sq_meta_put(sq_writer *w, const char *name, uint64_t value, tn_error *err);
/* ---- replay.c [main] ---- */
tn_status sq_writer_open(sq_inst *inst, tn_error *err); /* opens the file, replays the journal */
void sq_writer_close(sq_inst *inst);
bool sq_slots_push(sq_slots *slots, int64_t slot);
/* ---- decide.c ---- */
tn_status sq_decide(sq_inst *inst, tn_commit_req *req, tn_error *err);
void sq_known_forget(sq_writer *w, const uint8_t *key, size_t key_n);
/* ---- flush.c ---- */
void sq_flush_freeze(sq_inst *inst);
tn_status sq_flush_slice(sq_inst *inst,
                         tn_error *err); /* has_frozen turns false after the last one */
void *sq_checkpoint_main(void *inst);
void sq_checkpoint_ask(sq_inst *inst);
/* ---- reader.c ---- */
void *sq_reader_main(void *inst);
tn_status sq_get(void *ctx, tn_op *op, const tn_key *key, tn_row *out);
tn_status sq_scan(void *ctx, tn_op *op, const tn_range *range, tn_page *out);
tn_status sq_ping(void *ctx, tn_op *op);

#endif
