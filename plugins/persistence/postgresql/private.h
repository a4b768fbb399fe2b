/* SPDX-License-Identifier: MIT */
/* The parts of the postgresql persistence driver and what they share.
 *
 *   keys.c        keys as one byte string, limits
 *   wave.c        a group of commits as calls of tn_commit
 *   commit.c      groups: one at a time on a connection; what a lost one came to
 *   read.c        get, scan, ping
 *   postgresql.c  configuration, statements, life cycle, the table of operations
 *   schema/       the tables and tn_commit */
#ifndef PP_PRIVATE_H
#define PP_PRIVATE_H

#include "pg.h"

#define PP_PARTITION_MAX 64u
#define PP_ROW_MAX 1100u
#define PP_VALUE_MAX ((size_t)64 << 20)
#define PP_BATCH_BYTES_MAX ((size_t)256 << 20)
#define PP_GROUP_BYTES_MAX ((size_t)4 << 20) /* a group takes no further member above this */
#define PP_GROUP_MAX 512u                    /* members; versions leave room for 1024 */

typedef enum pp_relation { PP_ROWS, PP_RECORDS, PP_QUEUE, PP_RELATIONS } pp_relation;

/* ---- keys.c ---- */
#define PP_KEY_MAX (2u + PP_PARTITION_MAX + PP_ROW_MAX + 1u)
typedef struct pp_key {
    size_t n;
    uint8_t b[PP_KEY_MAX];
} pp_key;
bool pp_key_lawful(const tn_key *key);
size_t pp_key_size(const tn_key *key);
void pp_key_pack(pp_key *out, const tn_key *key);
/* The smallest byte string above every row of the partition. */
void pp_key_partition_end(pp_key *out, const tn_key *key);
int pp_row_compare(tn_blob a, tn_blob b);
bool pp_key_equal(const tn_key *a, const tn_key *b);
uint64_t pp_hash(uint64_t seed, const void *p, size_t n);
pp_relation pp_relation_of(uint32_t table);

/* ---- the instance ---- */
typedef struct pp_inst {
    const tn_host *host;
    tn_pg_pool *pool;
    tn_metric *m_groups, *m_commits, *m_lost, *m_resolved, *m_repeated;
} pp_inst;
static inline void pp_count(const pp_inst *inst, tn_metric *m, double v)
{
    if (m)
        inst->host->metric_add(m, v);
}

typedef struct pp_session { /* of one connection; made by setup */
    int64_t id, seq;
    uint64_t lock_seed;
} pp_session;

typedef struct pp_member { /* a commit under way; in the memory of its operation */
    struct pp_member *next;
    tn_commit_req *req;
    uint64_t deadline_ns;
    size_t bytes;
    bool alone; /* it may be the one that the server chokes on */
    uint32_t attempts;
    tn_status status; /* as the server decided */
} pp_member;

/* ---- wave.c ---- */
typedef struct pp_op {
    const tn_key *key;
    const tn_mut *mut;
    uint32_t member;
    bool dead;
} pp_op;
typedef struct pp_waves {
    tn_pg_params params;
    pp_op *ops; /* puts and deletes of this wave, one a key */
    size_t n_ops, cap_ops;
    const tn_mut **ranges; /* of one member: a member with ranges is a wave of its own */
    size_t n_ranges, cap_ranges;
    uint32_t *table; /* hash to ops + 1 */
    size_t cap_table;
    uint32_t first; /* members [first, next) */
    int64_t *locks;
    size_t n_locks, cap_locks;
    bool failed;
} pp_waves;
/* Sends all waves of the group; false: libpq refused, or no memory. */
bool pp_waves_send(pp_waves *waves, const pp_session *session, pp_member *const *members,
                   uint32_t n, PGconn *db);
void pp_waves_done(pp_waves *waves);

/* ---- commit.c ---- */
typedef struct pp_state { /* of one connection; its loop's */
    tn_pg_conn *conn;
    pp_inst *inst;
    pp_member *head, *tail; /* waiting */
    tn_pg_req group;
    bool busy; /* a group is under way, or being resolved */
    pp_member *members[PP_GROUP_MAX];
    uint32_t n_members;
    int64_t session_id, seq, base; /* of the group */
    tn_pg_req resolve;
    bool resolved, applied; /* the ledger answered */
    uint32_t *bad;
    size_t n_bad;
    pp_waves waves;
} pp_state;
void pp_commit(void *ctx, tn_commit_req *const *reqs, size_t n);
void pp_lost(tn_pg_conn *conn, void *state);
tn_status pp_setup(const tn_host *host, PGconn *db, void **session, tn_error *err);

/* ---- read.c ---- */
tn_status pp_get(void *ctx, tn_op *op, const tn_key *key, tn_row *out);
tn_status pp_scan(void *ctx, tn_op *op, const tn_range *range, tn_page *out);
tn_status pp_ping(void *ctx, tn_op *op);

/* ---- postgresql.c ---- */
typedef struct pp_ctx { /* of a loop */
    pp_inst *inst;
    tn_pg_link *link;
} pp_ctx;
/* Deadline of the operation, less the time to tell it. */
uint64_t pp_deadline(const pp_inst *inst, const tn_op *op);
tn_status pp_refuse(const pp_inst *inst, tn_op *op, tn_status status, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
