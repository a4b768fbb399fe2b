/* SPDX-License-Identifier: MIT */
/* The parts of the mysql visibility driver and what they share.
 *
 *   mysql.c   configuration, life cycle, the table of operations
 *   queue.c   what waits to be written and read; the threads
 *   names.c   numbers of namespaces and attributes
 *   value.c   values and run ids in the form that is stored
 *   write.c   one transaction of puts and removes
 *   tally.c   what it adds to and takes from the numbers of each kind of run
 *   filter.c  the postfix filter as an SQL condition
 *   read.c    list and count
 *   doc.c     rows back to documents */
#ifndef MV_PRIVATE_H
#define MV_PRIVATE_H

#include <pthread.h>
#include <string.h>

#include "ms.h"
#include "vis.h"

#define MV_VAL_MAX 2000u
#define MV_RUN_MAX 1000u /* of a run id's text */
#define MV_WF_MAX 2000u
#define MV_NAME_MAX 1000u
#define MV_CLOSE_OPEN INT64_MAX
#define MV_START_NONE INT64_MIN
#define MV_TAKE_MAX 1024u /* writes of one transaction */
#define MV_READERS_MAX 64u
#define MV_COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef struct mv_inst mv_inst;

/* ---- names.c ------------------------------------------------------------------------------------ */
typedef struct mv_name {
    struct mv_name *by_text, *by_id; /* chains */
    uint32_t id, ns, type;
    size_t n;
    char p[];
} mv_name;
#define MV_NAME_BUCKETS 1024u
typedef struct mv_names { /* names never change, so what was seen once is right for ever */
    pthread_mutex_t lock;
    mv_name *by_text[MV_NAME_BUCKETS], *by_id[MV_NAME_BUCKETS];
} mv_names;
/* ns 0 and type 0: a namespace.  find: *id is 0 when there is none; add: makes it. */
tn_status mv_name_find(mv_inst *inst, ms_conn *conn, uint32_t ns, uint32_t type, tn_str text,
                       uint64_t deadline_ns, uint32_t *id, tn_error *err);
tn_status mv_name_add(mv_inst *inst, ms_conn *conn, uint32_t ns, uint32_t type, tn_str text,
                      uint64_t deadline_ns, uint32_t *id, tn_error *err);
tn_status mv_name_text(mv_inst *inst, ms_conn *conn, uint32_t id, uint64_t deadline_ns, tn_str *out,
                       tn_error *err);
void mv_names_done(mv_names *names);

/* ---- value.c ------------------------------------------------------------------------------------ */
typedef struct mv_bytes {
    const uint8_t *p;
    uint32_t n;
} mv_bytes;
#define MV_RUN_BYTES (16u + MV_RUN_MAX)
size_t mv_run_encode(tn_str text, uint8_t out[MV_RUN_BYTES]);
/* 36 bytes of text or a part of p. */
tn_str mv_run_decode(const void *p, size_t n, char text[36]);
/* A scalar as bytes of its order; at most MV_VAL_MAX of them. */
size_t mv_value_encode(uint32_t type, tn_blob value, uint8_t out[MV_VAL_MAX]);
/* Back, for what can be grouped by; 8 bytes of memory for a number. */
tn_blob mv_value_decode(uint32_t type, tn_blob stored, uint8_t wide[8]);
/* An element of a list or a word. */
size_t mv_item_encode(const void *p, size_t n, uint8_t out[MV_VAL_MAX]);
/* The own attributes of a row: number, type, value; false: the end, or damaged (rest->n is not 0). */
bool mv_own_next(tn_blob *rest, uint32_t *attr, uint32_t *type, tn_blob *value);

/* ---- queue.c ------------------------------------------------------------------------------------ */
typedef struct mv_write { /* a put or remove that waits; in its op's arena */
    struct mv_write *next;
    tn_op *op;
    const tn_vis_doc *doc;
    bool remove;
    uint64_t arrived_ns, deadline_ns;
    /* of its batch: */
    tn_status status;
    tn_error err;
} mv_write;

typedef struct mv_read { /* a list or count that waits; in its op's arena */
    struct mv_read *next;
    tn_op *op;
    const tn_vis_query *query;
    tn_vis_page *out;
    bool count;
    uint64_t barrier; /* writes that must be settled first */
} mv_read;

typedef struct mv_reader {
    mv_inst *inst;
    pthread_t thread;
    ms_conn conn;
} mv_reader;

struct mv_inst {
    const tn_host *host;
    ms_options options;
    mv_names names;
    uint64_t linger_ns;
    size_t batch_max;

    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t write_wake, read_wake;
    mv_write *write_head, *write_tail;
    size_t writes_waiting;
    uint64_t writes_taken, writes_settled; /* numbers of writes that came and that are done with */
    bool flush_wanted, stopping, locks_made;
    mv_read *read_head, *read_tail;

    pthread_t writer_thread;
    bool writer_started;
    ms_conn writer;
    mv_write *batch[MV_TAKE_MAX];
    uint64_t complained_ns;
    mv_reader readers[MV_READERS_MAX];
    uint32_t readers_most, readers_started, readers_idle;

    tn_metric *m_batches, *m_documents, *m_retries, *m_seconds;
};

void *mv_writer_main(void *inst);
tn_status mv_put_op(void *ctx, tn_op *op, const tn_vis_doc *doc);
tn_status mv_remove_op(void *ctx, tn_op *op, const tn_vis_doc *key);
tn_status mv_list_op(void *ctx, tn_op *op, const tn_vis_query *query, tn_vis_page *out);
tn_status mv_count_op(void *ctx, tn_op *op, const tn_vis_query *query, tn_vis_page *out);

/* ---- write.c ------------------------------------------------------------------------------------ */
/* Sets the status of every member. */
void mv_write_batch(mv_inst *inst, mv_write **writes, size_t n);

/* ---- tally.c ------------------------------------------------------------------------------------ */
typedef struct mv_text { /* p NULL: the run lacks it */
    const char *p;
    size_t n;
} mv_text;
typedef struct mv_kinds { /* by these a run is counted */
    uint32_t ns;
    mv_text status, type, division;
    int64_t n; /* more, or less */
} mv_kinds;
/* The statement for all changes together, or nothing when they come to nothing; sorts them. */
void mv_tally_put(ms_text *sql, mv_kinds *changes, size_t n);
/* Whether the query asks only for what is counted. */
bool mv_tally_knows(const tn_vis_query *query);

/* ---- filter.c ----------------------------------------------------------------------------------- */
typedef enum mv_kind { MV_TEXT, MV_RUN, MV_NUMBER, MV_CUSTOM } mv_kind;
typedef struct mv_column {
    const char *name;
    uint32_t type;
    mv_kind kind;
    const char *sql; /* over the row d; NULL where the document lacks it */
    uint32_t attr;   /* custom: its number, 0 when no document ever had it */
} mv_column;

typedef struct mv_query { /* a list or count under way */
    mv_inst *inst;
    ms_conn *conn;
    const mv_read *read;
    tn_error *err;
    uint64_t limit_ns, deadline_ns; /* of the statements, of waiting for them */
    ms_pool pool;
    uint32_t ns;              /* 0: the namespace has no documents */
    const char *condition;    /* NULL: none */
    const tn_vis_node **must; /* comparisons that every match passes */
    size_t n_must;
} mv_query;
/* TN_EINVALID: a system attribute of another type. */
tn_status mv_column_find(mv_query *q, tn_str name, uint32_t type, mv_column *out);
/* The scalar as SQL orders it; NULL: a type that has no order. */
const char *mv_column_scalar(mv_query *q, const mv_column *column, bool highest);
tn_status mv_filter_build(mv_query *q);
/* What a comparison with an own attribute asks of a row x of tenon_vis_attr; NULL: it can't be said. */
const char *mv_filter_probe(mv_query *q, const tn_vis_node *node);
/* A text in the query's memory; NULL: no memory. */
char *mv_keep(mv_query *q, ms_text *text);
tn_status mv_no_memory(mv_query *q);

/* ---- read.c, doc.c ------------------------------------------------------------------------------ */
tn_status mv_read_run(mv_inst *inst, ms_conn *conn, const mv_read *read, tn_error *err);
void *mv_alloc(mv_query *q, size_t n, size_t align);
bool mv_copy(mv_query *q, const void *p, size_t n, tn_blob *out);
#define MV_DOC_COLUMNS \
    "run,ver,part,status,type,close,start,wf,tq,exec,dur,len,size,trans,pwf,prun,rwf,rrun," \
    "division,sa,memo"
tn_status mv_doc_read(mv_query *q, MYSQL_ROW row, const unsigned long *n, tn_vis_doc *out);

#endif
