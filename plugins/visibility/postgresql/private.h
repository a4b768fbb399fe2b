/* SPDX-License-Identifier: MIT */
/* The parts of the postgresql visibility driver and what they share.
 *
 *   postgresql.c  configuration, life cycle, the table of operations
 *   mem.c         memory that ends all at once; texts that grow
 *   names.c       numbers of shared texts and of attributes: caches, and asking the database
 *   keys.c        a document as the columns of its row; hashes of values
 *   write.c       puts and removes: gathered, one transaction a batch
 *   common.c      looks for values that very many runs have, to have them counted
 *   filter.c      a filter as an SQL condition with parameters
 *   read.c        list and count: their way through names, SQL and answers
 *   answer.c      rows back to documents and groups; positions of pages
 *
 * Everything runs on the loop that owns the connection (lib/pg): nothing here is shared between threads. */
#ifndef VP_PRIVATE_H
#define VP_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <tenon/plugin.h>

#include "pg.h"
#include "vis.h"

#define VP_CLOSE_OPEN INT64_MAX /* as tn_vis_doc has it: open runs come before all closed ones */
#define VP_START_NONE INT64_MIN
#define VP_TIME_MAX (INT64_C(1) << 62)
#define VP_NAME_MAX 2600 /* what fits an entry of an index */
#define VP_BATCH_MAX 4096
#define VP_COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef struct vp_inst vp_inst;
typedef struct vp_side vp_side;

/* ---- mem.c -------------------------------------------------------------------------------------- */

typedef struct vp_mem {
    struct vp_block *blocks;
    bool failed; /* memory ran out once */
} vp_mem;
void *vp_alloc(vp_mem *mem, size_t n); /* zeroed; NULL: none */
void vp_mem_done(vp_mem *mem);

typedef struct vp_text { /* bytes that grow */
    char *p;
    size_t n, cap;
    bool failed;
} vp_text;
void vp_put(vp_text *t, const void *p, size_t n);
void vp_say(vp_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void vp_text_done(vp_text *t);

/* ---- names.c ------------------------------------------------------------------------------------ */

typedef struct vp_entry { /* a text (type 0) or an attribute, and its number */
    struct vp_entry *by_text, *by_id;
    uint64_t hash;
    int32_t id;
    uint32_t type;
    size_t n;
    char p[];
} vp_entry;
#define VP_NAME_SLOTS 1024
typedef struct vp_names {
    vp_entry *texts[VP_NAME_SLOTS], *ids[VP_NAME_SLOTS]; /* ids: of attributes only */
    size_t count;
    uint32_t epoch; /* rises when all is forgotten */
} vp_names;
void vp_names_clear(vp_names *names);
void vp_names_trim(vp_names *names);                      /* forgets all when there is very much */
int32_t vp_name_find(const vp_names *names, tn_str text); /* 0: not known here */
int32_t vp_attr_find(const vp_names *names, tn_str name, uint32_t type);
const vp_entry *vp_attr_by_id(const vp_names *names, int32_t id);

/* What has to be asked of the database. */
typedef struct vp_want {
    tn_str text;
    uint32_t type; /* 0: a text */
} vp_want;
typedef struct vp_wants {
    vp_want *list;
    size_t n, cap;
    int32_t *ids; /* attributes by number */
    size_t n_ids, cap_ids;
    bool failed;
} vp_wants;
void vp_want_name(vp_wants *wants, const vp_names *names, tn_str text);
void vp_want_attr(vp_wants *wants, const vp_names *names, tn_str name, uint32_t type);
void vp_want_id(vp_wants *wants, int32_t id);
void vp_wants_done(vp_wants *wants);

/* Asks for all; make: those that are not there are made.  The texts live until `then`. */
typedef struct vp_resolve {
    tn_pg_req req;
    vp_side *side;
    vp_wants wants;
    bool make;
    void (*then)(struct vp_resolve *resolve, tn_pg_end end, const tn_error *err,
                 const char *sqlstate);
} vp_resolve;
void vp_resolve_start(vp_resolve *resolve, vp_side *side, uint32_t flags, uint64_t deadline_ns);

/* ---- keys.c ------------------------------------------------------------------------------------- */

#define VP_KEY_PARENT -1 /* attributes of the system that have keys too */
#define VP_KEY_ROOT -2
int64_t vp_key(int32_t ns, int32_t attr, tn_blob value);
/* Run ids are 16 bytes where they are UUIDs in the usual form; else a zero byte (two when that would
 * make 16) and the text. */
tn_blob vp_run_encode(vp_mem *mem, tn_str text);
size_t vp_run_decode(const uint8_t *p, size_t n, char *out); /* out: n + 36 bytes */

typedef struct vp_row {
    int32_t ns, div, status, type, tq;
    int64_t close, start, ver;
    bool has_exec, has_dur, has_len, has_size, has_trans;
    int64_t exec, dur, len, size, trans;
    tn_blob run, prun, rrun, sa, keys, memo; /* p NULL: none */
    tn_str wf, pwf, rwf;
} vp_row;
/* Sizes, types, UTF-8: what the document itself may have wrong. */
tn_status vp_doc_check(const tn_vis_doc *doc, tn_error *err);
void vp_doc_wants(vp_wants *wants, const vp_names *names, const tn_vis_doc *doc);
/* The document passed the check and its names are known; false: no memory. */
bool vp_doc_row(vp_mem *mem, const vp_names *names, const tn_vis_doc *doc, vp_row *out);

/* ---- write.c ------------------------------------------------------------------------------------ */

typedef struct vp_write { /* a put or remove that waits; in its op's memory */
    struct vp_write *next;
    vp_side *side;
    tn_op *op;
    const tn_vis_doc *doc;
    bool remove;
    uint64_t deadline_ns;
} vp_write;
void vp_write_arrives(void *write); /* [owner's loop] */
void vp_write_hurry(vp_side *side); /* somebody waits for what is gathered */

/* ---- filter.c ----------------------------------------------------------------------------------- */

typedef enum vp_kind { VP_NAME, VP_TEXT, VP_ROOT, VP_PARENT, VP_RUN, VP_NUMBER, VP_CUSTOM } vp_kind;
typedef struct vp_column {
    const char *name;
    uint32_t type;
    vp_kind kind;
    const char *sql;  /* over the row d */
    const char *lack; /* the value that stands for "not there", NULL: SQL's NULL does */
    int32_t attr;     /* custom: its number, 0: no document ever had it */
} vp_column;

typedef struct vp_query { /* SQL under way */
    vp_mem mem;
    vp_text sql;
    const vp_names *names;
    int32_t ns;
    const char **values;
    int *lengths, *formats;
    int n_params, cap_params;
    bool by_key; /* over tn_vis_common_tally */
    int keys_at; /* the parameter with the keys that were written last, and how many these are */
    size_t n_keys;
} vp_query;
void vp_query_done(vp_query *q);
bool vp_query_failed(const vp_query *q);
/* The number of a new parameter. */
int vp_param(vp_query *q, const void *p, size_t n);
int vp_param_i64(vp_query *q, int64_t v);
int vp_param_i32(vp_query *q, int32_t v);
/* TN_EINVALID: a system attribute of another type, or no type. */
tn_status vp_column_find(const vp_names *names, tn_str name, uint32_t type, vp_column *out,
                         tn_error *err);
/* What to sort or group by; NULL: a type that has no order. */
const char *vp_column_scalar(vp_query *q, const vp_column *column, bool highest);
const char *vp_column_cast(uint32_t type); /* "int8" ... of a scalar */
/* Everything in the filter that must be known as a number. */
void vp_filter_wants(vp_wants *wants, const vp_names *names, const tn_vis_query *query);
typedef enum vp_tally {                /* what a filter asks for is had by */
                        VP_TALLY_NONE, /* the rows alone */
                        VP_TALLY_ALL,  /* tn_vis_tally */
                        VP_TALLY_COMMON /* tn_vis_common_tally too, if the keys written last are in tn_vis_common */
} vp_tally;
/* " AND (...)" or nothing. */
tn_status vp_filter_put(vp_query *q, const tn_vis_query *query, vp_tally *out_tally, tn_error *err);

/* ---- read.c, answer.c --------------------------------------------------------------------------- */

typedef struct vp_read { /* a list or count; in its op's memory */
    struct vp_read *next;
    tn_pg_req req;
    vp_resolve resolve;
    vp_inst *inst;
    struct vp_ctx *ctx;
    vp_side *side;
    tn_op *op;
    const tn_vis_query *query;
    tn_vis_page *out;
    bool count;
    uint64_t barrier; /* writes of the loop that must be settled first */
    unsigned tries;
    uint32_t epoch; /* of the names, when the search for unknown ones was made */
    vp_query q;
    size_t limit;
    /* of the answer */
    tn_status status;
    tn_error err;
    vp_wants unknown; /* attributes in the rows that are not known here yet */
    bool many;        /* the rows of a value were counted, and they were very many */
} vp_read;
void vp_read_begin(vp_read *read); /* [loop of the op] */

#define VP_KEYS_MAX 16
typedef struct vp_value { /* a sort key in a page token */
    char tag;             /* N null, I int, F float, B bool, T text */
    tn_blob bytes;        /* as PostgreSQL's binary format has it */
} vp_value;
typedef struct vp_position {
    bool given;
    vp_value keys[VP_KEYS_MAX];
    int64_t close, start;
    tn_blob run;
} vp_position;
tn_status vp_position_read(const tn_vis_query *query, vp_position *out, tn_error *err);
extern const char vp_doc_columns[]; /* what a list selects of d */
/* Fill read->out or read->status; unknown attributes go to read->unknown. */
void vp_answer_list(vp_read *read, PGresult *result);
void vp_answer_count(vp_read *read, PGresult *result);

/* ---- common.c ----------------------------------------------------------------------------------- */

typedef struct vp_common { /* a look for common values, one at a time for each connection */
    tn_pg_req req;
    bool busy, counting;
    uint64_t begun_ns;
    int64_t found;
    size_t written; /* documents since the last one */
} vp_common;
void vp_common_written(vp_side *side, size_t n); /* so many documents were */
void vp_common_look(vp_side *side);              /* at most twice a minute */

/* ---- the instance ------------------------------------------------------------------------------- */

struct vp_side { /* the driver's state of one connection; on the loop that owns it */
    vp_inst *inst;
    tn_pg_conn *conn;
    vp_names names;
    tn_pg_params params; /* scratch */
    /* writes */
    vp_write *head, *tail;
    size_t waiting;
    uint64_t taken, settled; /* numbers of writes that came and that are done with */
    bool hurry;
    struct vp_batch *batch; /* the one under way */
    tn_timer *timer;
    vp_read *reads; /* that wait for writes */
    vp_common common;
};

typedef struct vp_ctx { /* of one loop */
    vp_inst *inst;
    tn_loop *loop;
    tn_pg_link *write, *read; /* read may be NULL: they share */
} vp_ctx;

struct vp_inst {
    const tn_host *host;
    tn_pg_pool *writers, *readers; /* readers may be NULL */
    uint64_t linger_ns;
    size_t batch_max;
    int64_t common_rows; /* a value that so many runs have is common; 0: none */
    tn_metric *m_batches, *m_documents, *m_seconds;
};

vp_side *vp_side_of(tn_pg_link *link);
/* Lets go on the reads whose writes are settled. */
void vp_reads_go_on(vp_side *side);

#endif
