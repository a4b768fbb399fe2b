/* SPDX-License-Identifier: MIT */
/* The parts of the mysql persistence driver and what they share.
 *
 *   keys.c    keys as one byte string; memory of a group
 *   decide.c  whether each member of a group holds, and what it leaves
 *   write.c   a group as statements: the short way in one round trip, the long way that looks first
 *   lane.c    the threads that write: queue, connection, retries, what became of a lost commit
 *   read.c    get and scan, and the threads that do them
 *   mysql.c   configuration, life cycle, the table of operations */
#ifndef MY_PRIVATE_H
#define MY_PRIVATE_H

#include <pthread.h>

#include "ms.h"

#define MY_PARTITION_MAX 64u
#define MY_ROW_MAX 1100u
#define MY_KEY_MAX (2u + MY_PARTITION_MAX + MY_ROW_MAX)
#define MY_VALUE_MAX ((size_t)64 << 20)
#define MY_GROUP_BYTES ((size_t)4 << 20) /* a group takes no further member above this */
#define MY_GROUP_MEMBERS 1024u
#define MY_LANES_MAX 16u
#define MY_READERS_MAX 64u
#define MY_LEASE (UINT64_C(1) << 20) /* versions a writer takes at once */

/* ---- keys.c ------------------------------------------------------------------------------------- */
typedef struct my_key {
    const uint8_t *p;
    uint32_t n;
} my_key;
bool my_key_lawful(const tn_key *key);
size_t my_key_write(uint8_t out[MY_KEY_MAX], const tn_key *key); /* of a lawful key */
my_key my_key_make(ms_pool *pool, const tn_key *key);
int my_key_cmp(my_key a, my_key b);
uint64_t my_hash(const void *p, size_t n);

/* ---- members and groups ------------------------------------------------------------------------- */
typedef struct my_part { /* what a lane knows of a partition, for good */
    struct my_part *next;
    uint64_t hash;
    uint64_t last;    /* the greatest version given */
    uint64_t ceiling; /* ours up to there */
    bool ours;
    /* of the group that is under way */
    uint64_t mark;
    bool is_new, changed; /* the row is to be inserted, updated */
    uint64_t lease;       /* the ceiling it then has */
    uint8_t n, p[MY_PARTITION_MAX];
} my_part;

typedef struct my_member {
    struct my_member *next; /* in a lane's queue */
    tn_commit_req *req;
    uint64_t deadline_ns;
    size_t bytes;
    /* while its group is under way */
    tn_status status;
    tn_error err;
    uint64_t version;
    my_key wanted; /* a conflicting row whose value is still to be read; n 0: none */
} my_member;

typedef struct my_row { /* of a group: what is known of a key */
    struct my_row *next;
    my_key key;
    uint64_t hash;
    bool based;    /* base tells what the database has (or, the short way, is said to have) */
    uint64_t base; /* version; 0: no row */
    /* what the members so far leave */
    bool touched, removed;
    size_t order;
    uint64_t version;
    tn_blob value;
} my_row;
typedef struct my_span { /* a range delete */
    my_key from, to;
    size_t order;
} my_span;

typedef struct my_group {
    ms_pool pool;
    my_member **members;
    size_t n, cap_members;
    my_row **buckets; /* of rows by key, in the pool */
    size_t n_buckets;
    my_row **rows; /* in the order they came */
    size_t n_rows;
    my_span *spans;
    size_t n_spans;
    my_part **parts;
    size_t n_parts, cap_parts;
    size_t order;     /* of the last mutation */
    bool looked;      /* rows' base versions come from the database */
    bool must_look;   /* the short way will not do */
    bool writes;      /* a member holds */
    size_t text_most; /* bytes of its statements at most */
    uint64_t deadline_ns;
} my_group;

typedef struct my_inst my_inst;
typedef struct my_lane {
    my_inst *inst;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    my_member *head, *tail;
    bool stopping;

    /* [its thread] */
    ms_conn conn;
    uint64_t id, epoch, seq;
    bool registered; /* the connection's epoch is in the database */
    bool marked;     /* `marker` is what the database said at the last registration */
    uint64_t marker;
    my_part **parts; /* by hash */
    size_t n_part_buckets, n_parts;
    my_part *last_part;
    uint64_t mark;     /* of the group under way */
    size_t statements; /* in sql */
    uint64_t until_ns; /* the attempt under way waits so long */
    my_group group;
    ms_text sql;
} my_lane;

typedef struct my_read { /* in the op's arena */
    struct my_read *next;
    tn_op *op;
    const tn_key *key; /* get */
    tn_row *row;
    const tn_range *range; /* scan */
    tn_page *page;
} my_read;

struct my_inst {
    const tn_host *host;
    ms_options options;
    my_lane lanes[MY_LANES_MAX];
    uint32_t n_lanes;

    pthread_mutex_t read_lock;
    pthread_cond_t read_wake;
    my_read *read_head, *read_tail;
    uint32_t readers_most, readers, readers_idle; /* started when they are needed */
    bool read_stopping, locks_made;
    pthread_t reader_threads[MY_READERS_MAX];

    tn_metric *m_groups, *m_commits, *m_looked, *m_retries, *m_resolved, *m_uncertain, *m_connects,
        *m_sql_bytes, *m_seconds;
};
static inline void my_metric(const my_inst *inst, tn_metric *m, double v)
{
    if (m)
        inst->host->metric_add(m, v);
}

/* ---- decide.c ---- */
/* The parts of the request that no database is needed for; TN_OK: goes on. */
tn_status my_member_check(my_lane *lane, my_member *member, tn_error *err);
bool my_group_begin(my_lane *lane, bool looked); /* false: no memory */
my_row *my_group_row(my_group *group, my_key key);
/* Decides every member in order. */
void my_group_decide(my_lane *lane);
my_part *my_part_get(my_lane *lane, const uint8_t *p, size_t n);

/* ---- write.c ---- */
typedef enum my_outcome {
    MY_DONE,    /* as the members' statuses say */
    MY_LOOK,    /* nothing was done: once more, the long way */
    MY_AGAIN,   /* nothing was done: once more */
    MY_LOST,    /* the connection is gone; when sent, it may have been done */
    MY_REFUSED, /* nothing was done, and it would be the same again */
} my_outcome;
my_outcome my_write_short(my_lane *lane, tn_error *err);
/* *sent: the transaction's end was sent. */
my_outcome my_write_long(my_lane *lane, bool *sent, tn_error *err);
/* What the transaction made of the partitions. */
void my_write_settle(my_lane *lane, bool committed);

/* ---- lane.c ---- */
void *my_lane_main(void *lane);
void my_lane_submit(my_inst *inst, tn_commit_req *const *reqs, size_t n);

/* ---- read.c ---- */
tn_status my_get(void *ctx, tn_op *op, const tn_key *key, tn_row *out);
tn_status my_scan(void *ctx, tn_op *op, const tn_range *range, tn_page *out);
tn_status my_ping(void *ctx, tn_op *op);

#endif
