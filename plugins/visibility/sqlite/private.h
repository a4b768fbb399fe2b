/* SPDX-License-Identifier: MIT */
/* The parts of the sqlite visibility driver and what they share.
 *
 *   sqlite.c  configuration, life cycle, the table of operations
 *   queue.c   what waits to be written and read; the threads
 *   db.c      the file: lock, opening, schema, errors in our words; interned names
 *   write.c   one transaction of documents: rows, attribute index, tally
 *   attrs.c   a document's own attributes as one blob; functions for SQL
 *   sql.c     SQL text that grows, with its parameters
 *   filter.c  the postfix filter as an SQL condition, and what it says about the whole result
 *   plan.c    which index answers a list or count
 *   read.c    list and count; rows back to documents */
#ifndef VS_PRIVATE_H
#define VS_PRIVATE_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <tenon/plugin.h>

#include "vis.h"

#define VS_SCHEMA_VERSION 1
#define VS_APPLICATION_ID 0x544e5653 /* "TNVS" */
#define VS_READERS_MAX 16
#define VS_TAKE_MAX 4096        /* writes in one transaction */
#define VS_CLOSE_OPEN INT64_MAX /* close time of an open run: it sorts before all closed ones */
#define VS_START_NONE INT64_MIN
#define VS_TIME_MAX (INT64_C(1) << 62)
#define VS_MS UINT64_C(1000000)
#define VS_COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef struct vs_inst vs_inst;
typedef struct vs_conn vs_conn;

/* ---- bytes ------------------------------------------------------------------------------------ */

typedef struct vs_bytes {
    uint8_t *p;
    size_t n, cap;
    bool failed; /* memory ran out: what follows is ignored */
} vs_bytes;
void vs_put(vs_bytes *b, const void *p, size_t n);
void vs_put_varint(vs_bytes *b, uint64_t v);
void vs_done(vs_bytes *b);

/* ---- errors ----------------------------------------------------------------------------------- */

tn_status vs_error(tn_error *err, tn_status code, int vendor, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* A failed call into SQLite; the transaction, if any, surely did not happen. */
tn_status vs_sql_error(sqlite3 *db, int rc, const char *doing, tn_error *err);

/* ---- attrs.c ---------------------------------------------------------------------------------- */

/* A document's own attributes in its row: for each the interned id, type and value, back to back. */
typedef struct vs_attr {
    int64_t id;
    uint32_t type;
    tn_blob value; /* encoded as TN_ATTR_* says */
} vs_attr;
void vs_attrs_put(vs_bytes *b, const vs_attr *attr);
bool vs_attrs_next(tn_blob *rest, vs_attr *out); /* false: the end, or damaged (rest.n is not 0) */

/* Run ids are 16 bytes where they are UUIDs in the usual form, else text. */
typedef struct vs_run {
    uint8_t bytes[16];
    bool is_uuid;
    tn_str text;
    int64_t slot; /* where its row's number is looked for first */
} vs_run;
#define VS_SLOTS 1024 /* rows of the same slot stand within so many numbers */
void vs_run_parse(tn_str text, vs_run *out);
int vs_run_bind(sqlite3_stmt *stmt, int at, const vs_run *run);
void vs_uuid_text(const uint8_t id[16], char out[36]);
int vs_functions_register(sqlite3 *db);

/* ---- db.c ------------------------------------------------------------------------------------- */

typedef struct vs_options {
    char *path;
    bool memory; /* nothing is kept; the writer reads too */
    int busy_ms;
    int64_t cache_bytes, wal_bytes, page_bytes;
    uint64_t linger_ns, patience_ns;
    size_t batch_max;
    uint32_t readers;
} vs_options;

#define VS_NAME_SLOTS 512
typedef struct vs_name_slot {
    int64_t id;
    size_t n;
    char *p;
} vs_name_slot;
typedef struct vs_attr_slot {
    int64_t id, ns;
    uint32_t type;
    size_t n;
    char *p;
} vs_attr_slot;

enum {
    VS_BEGIN,
    VS_BEGIN_READ,
    VS_COMMIT,
    VS_ROLLBACK,
    VS_NAME_ID,
    VS_NAME_ADD,
    VS_NAME_TEXT,
    VS_ATTR_ID,
    VS_ATTR_ADD,
    VS_ATTR_NAME,
    VS_DOC_FIND,
    VS_DOC_TAKEN,
    VS_DOC_INSERT,
    VS_DOC_MOVE,
    VS_DOC_UPDATE,
    VS_DOC_UPDATE_REST,
    VS_DOC_DELETE,
    VS_KV_PUT,
    VS_KV_DELETE,
    VS_TALLY_ADD,
    VS_TALLY_ROWS,
    VS_TALLY_ALL,
    VS_DOC_GET,
    VS_STATEMENTS
};

struct vs_conn { /* used by one thread at a time */
    vs_inst *inst;
    sqlite3 *db;
    sqlite3_stmt *stmt[VS_STATEMENTS]; /* prepared at first use */
    vs_name_slot names[VS_NAME_SLOTS]; /* by hash of the text (writer) or by id (reader) */
    vs_attr_slot attrs[VS_NAME_SLOTS];
    uint64_t deadline_ns; /* of the query that runs */
    uint64_t patience_ns; /* when a way that may be slow is given up for one that is never fast */
};

tn_status vs_lock_take(const char *path, int *out_fd, tn_error *err);
/* writer: may create the file and its schema. */
tn_status vs_conn_open(vs_inst *inst, bool writer, vs_conn *out, tn_error *err);
void vs_conn_close(vs_conn *conn);
void vs_conn_forget(vs_conn *conn); /* interned names of a transaction that was rolled back */
/* A statement, reset and without parameters; NULL: *err says why. */
sqlite3_stmt *vs_stmt(vs_conn *conn, int which, tn_error *err);
tn_status vs_run_stmt(vs_conn *conn, int which, const char *doing,
                      tn_error *err); /* no rows wanted */

/* Interned texts.  find: 0 when there is none; add: makes it. */
tn_status vs_name_find(vs_conn *conn, tn_str text, int64_t *out_id, tn_error *err);
tn_status vs_name_add(vs_conn *conn, tn_str text, int64_t *out_id, tn_error *err);
tn_status vs_name_text(vs_conn *conn, int64_t id, tn_str *out,
                       tn_error *err); /* until the next call */
tn_status vs_attr_find(vs_conn *conn, int64_t ns, tn_str name, uint32_t type, int64_t *out_id,
                       tn_error *err);
tn_status vs_attr_add(vs_conn *conn, int64_t ns, tn_str name, uint32_t type, int64_t *out_id,
                      tn_error *err);
tn_status vs_attr_name(vs_conn *conn, int64_t id, tn_str *out,
                       tn_error *err); /* until the next call */

/* ---- write.c ---------------------------------------------------------------------------------- */

typedef struct vs_write { /* a put or remove that waits; in its op's arena */
    struct vs_write *next;
    tn_op *op;
    const tn_vis_doc *doc;
    bool remove;
    uint64_t arrived_ns;
    /* of its batch: */
    bool superseded;
    tn_status status;
} vs_write;

/* One transaction; sets the status of every member.  err: of those that failed. */
void vs_write_batch(vs_conn *conn, vs_write **writes, size_t count, tn_error *err);

/* ---- sql.c ------------------------------------------------------------------------------------ */

typedef struct vs_param {
    int type; /* SQLITE_INTEGER, SQLITE_FLOAT, SQLITE_TEXT, SQLITE_BLOB, SQLITE_NULL */
    int64_t i;
    double d;
    tn_blob bytes;
} vs_param;
typedef struct vs_query { /* SQL under way; fragments and copies live until vs_query_done */
    vs_param *params;
    size_t n_params, cap_params;
    void **owned;
    size_t n_owned, cap_owned;
    bool failed; /* memory ran out */
} vs_query;
void *vs_query_alloc(vs_query *q, size_t n);
char *vs_format(vs_query *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "?N" for a new parameter. */
char *vs_int(vs_query *q, int64_t v);
char *vs_real(vs_query *q, double v);
char *vs_text(vs_query *q, tn_str v);
char *vs_blob(vs_query *q, tn_blob v);
char *vs_run_param(vs_query *q, tn_str run_id);
char *vs_value(vs_query *q, uint32_t type, tn_blob v); /* a valid scalar */
/* Joins texts as a balanced tree, so that SQLite's depth limit is not met. */
char *vs_join(vs_query *q, char *const *texts, size_t count, const char *with);
tn_status vs_query_prepare(vs_conn *conn, vs_query *q, const char *sql, sqlite3_stmt **out,
                           tn_error *err);
void vs_query_done(vs_query *q);

/* ---- filter.c --------------------------------------------------------------------------------- */

typedef enum vs_kind { VS_INTERNED, VS_TEXT, VS_NUMBER, VS_RUN, VS_CUSTOM } vs_kind;
typedef struct vs_column {
    const char *name;
    uint32_t type;
    vs_kind kind;
    const char *sql; /* over the row d; NULL where the document lacks it */
    int64_t attr;    /* custom: interned id, 0 when no document ever had it */
} vs_column;
/* TN_EINVALID: a system attribute of another type. */
tn_status vs_column_find(vs_conn *conn, vs_query *q, int64_t ns, tn_str name, uint32_t type,
                         vs_column *out, tn_error *err);
/* The scalar as SQL orders it; NULL: a type that has no order. */
const char *vs_column_scalar(vs_query *q, const vs_column *column, bool highest);

typedef struct vs_filter {
    char *sql;                /* the condition; NULL: none */
    const tn_vis_node **must; /* comparisons that every match passes */
    size_t n_must;
    bool tally_only; /* it asks for nothing but type, status and division's NULL */
} vs_filter;
tn_status vs_filter_build(vs_conn *conn, vs_query *q, int64_t ns, const tn_vis_query *query,
                          vs_filter *out, tn_error *err);

/* ---- plan.c ----------------------------------------------------------------------------------- */

typedef struct vs_group {
    int64_t part, status, type, count;
} vs_group;
typedef struct vs_plan {
    int64_t ns; /* 0: the namespace has no documents */
    vs_filter filter;
    vs_group *
        /* those that can hold a match; type 0 and all counts together when there are many */
        groups;
    size_t n_groups;
    int64_t reach; /* documents in them */
    bool parts[2]; /* without and with a division */
    bool by_type;  /* a condition names types, and groups say which */
    int64_t close_low, close_high;
    bool broad;   /* most of the table is in reach: reading it through beats an index */
    bool scan;    /* ... and is to be done */
    char *driver; /* "SELECT id ..." of few rows that hold every match; NULL: none */
} vs_plan;
tn_status vs_plan_make(vs_conn *conn, vs_query *q, const tn_vis_query *query, vs_plan *out,
                       tn_error *err);
/* The whole condition over doc d, for reading in no particular order. */
char *vs_plan_condition(vs_query *q, const vs_plan *plan);
/* SELECT of (id, close, start) in the default order from a position (part of the condition: "" or
 * "AND ..."), without LIMIT. */
char *vs_plan_ordered(vs_query *q, const vs_plan *plan, const char *position);

/* ---- read.c ----------------------------------------------------------------------------------- */

typedef struct vs_read { /* a list or count that waits; in its op's arena */
    struct vs_read *next;
    tn_op *op;
    const tn_vis_query *query;
    tn_vis_page *out;
    bool count;
    uint64_t barrier; /* writes that must be settled first */
} vs_read;
tn_status vs_read_run(vs_conn *conn, const vs_read *read, tn_error *err);

/* ---- the instance ----------------------------------------------------------------------------- */

struct vs_inst {
    const tn_host *host;
    vs_options options;
    int lock_fd;

    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t write_wake, read_wake;
    vs_write *write_head, *write_tail;
    size_t writes_waiting;
    uint64_t writes_taken, writes_settled; /* numbers of writes that came and that are done with */
    bool flush_wanted, stopping;
    vs_read *read_head, *read_tail;

    pthread_t writer_thread, reader_threads[VS_READERS_MAX];
    bool writer_started;
    uint32_t readers_started;
    vs_conn writer, readers[VS_READERS_MAX];
    vs_write *batch[VS_TAKE_MAX]; /* these two: the writer's */
    uint64_t complained_ns;

    tn_metric *m_batches, *m_documents, *m_sync_seconds;
};

void *vs_writer_main(void *inst);
void *vs_reader_main(void *conn);
tn_status vs_put_op(void *ctx, tn_op *op, const tn_vis_doc *doc);
tn_status vs_remove_op(void *ctx, tn_op *op, const tn_vis_doc *key);
tn_status vs_list_op(void *ctx, tn_op *op, const tn_vis_query *query, tn_vis_page *out);
tn_status vs_count_op(void *ctx, tn_op *op, const tn_vis_query *query, tn_vis_page *out);

#endif
