/* SPDX-License-Identifier: MIT */
/* The inside of `tenonctl store verify`: what the rows of a shard say about its runs, the judgement on one run, and the
 * comparison with visibility.
 *
 * Every shard is read table by table, while servers may be writing; a run of which something looks wrong becomes a
 * suspect.  Suspects are read again twice, row by row and until nothing moved meanwhile; what is wrong then is a
 * violation. */
#ifndef TN_TOOLS_VERIFY_H
#define TN_TOOLS_VERIFY_H

#include <pthread.h>
#include <stdatomic.h>

#include "history/machine/state.h"
#include "namespace/namespace.h"
#include "store/store.h"
#include "tools/db.h"

/* ---- what the rows say of one run ---- */
typedef struct tn_vfy_run {
    tn_map_link link;
    uint8_t id[16];
    char ns_id[37];          /* empty: no row names it */
    const char *workflow_id; /* NULL likewise */
    bool names_differ;       /* two rows name different workflows */
    bool has_current;
    int32_t current_status;
    uint64_t current_start_ns, current_close_ns;
    uint8_t current_first[16];
    uint32_t wakes;
    uint64_t wake_ns[2]; /* the first two */
    bool outbox_put, outbox_remove;
    uint64_t outbox_version;
    tn_blob snapshot; /* p NULL: none */
    bool has_records;
    bool suspect;
    bool sound;            /* out: digest and transition are set */
    const tn_vis_doc *doc; /* out, when documents are mended: in the report's arena */
    uint64_t digest;       /* out: of the document that the state asks for */
    uint64_t transition;
} tn_vfy_run;

/* A run, or a row by itself, to be looked at again. */
typedef struct tn_vfy_suspect {
    struct tn_vfy_suspect *next;
    uint32_t shard;
    uint8_t run_id[16];
    char ns_id[37];
    const char *workflow_id;
    uint32_t wakes;
    uint64_t wake_ns[2];
    /* a row by itself: */
    uint32_t table; /* 0: a run */
    tn_blob row;
    uint64_t value_hash;
    const char *text;
} tn_vfy_suspect;

typedef struct tn_vfy_doc { /* what visibility should say of a run */
    tn_map_link link;
    uint8_t run_id[16];
    uint32_t shard;
    bool gone;    /* there is no such run: no document either */
    bool pending; /* the outbox holds what is missing */
    bool suspect; /* will be looked at anyhow */
    bool seen;
    uint64_t digest, transition;
    const char *ns_id, *workflow_id;
} tn_vfy_doc;

typedef struct tn_verify {
    tn_tool_db rows, docs;
    bool with_docs;
    bool reindex; /* documents that are wrong are mended */
    uint32_t shards;
    tn_namespace *namespaces; /* by hand: the registry would create what it misses */
    size_t namespaces_count;
    pthread_mutex_t lock; /* everything below, and standard output */
    tn_arena *arena;
    tn_vfy_suspect *suspects;
    tn_map expected; /* of tn_vfy_doc */
    uint64_t violations, unreadable;
    atomic_uint_fast64_t n_runs, n_open, n_records, n_events, n_bytes, n_snapshots, n_current,
        n_wakes, n_outbox, n_documents, n_suspects, n_mended;
} tn_verify;

/* ---- complaints ---- */
/* While the tables are read only `any` is kept; with an arena the lines are, until they are printed or dropped. */
typedef struct tn_vfy_line {
    struct tn_vfy_line *next;
    const char *text;
} tn_vfy_line;
typedef struct tn_vfy_report {
    tn_verify *v;
    tn_arena *arena;
    bool any;
    uint32_t shard;
    const tn_vfy_run *run; /* may be NULL */
    tn_vfy_line *lines;    /* the latest first */
} tn_vfy_report;
void tn_vfy_print(const tn_vfy_report *report); /* and counts */
void tn_vfy_complain(tn_vfy_report *report, uint32_t table, tn_blob row, const char *fmt, ...)
    TN_PRINTF(4, 5);
/* A store that could not be asked: the verdict stays open. */
void tn_vfy_unreadable(tn_verify *v, const char *what, const tn_error *err);

void tn_vfy_unwritten(tn_verify *v, const tn_error *err);

const tn_namespace *tn_vfy_namespace(const tn_verify *v, tn_str id);
uint32_t tn_vfy_shard_of(const tn_verify *v, tn_str ns_id, tn_str workflow_id);
/* The row says that the run belongs to this workflow. */
void tn_vfy_name(tn_vfy_run *run, tn_arena *arena, tn_blob ns_id, tn_str workflow_id);

/* ---- verify_rows.c: single rows; false: it cannot be read, why says so ---- */
bool tn_vfy_current_row(tn_vfy_run *run, tn_arena *arena, const tn_row *row, const char **why);
bool tn_vfy_current_run_id(tn_arena *arena, const tn_row *row, uint8_t out[16]);
bool tn_vfy_wake_row(tn_vfy_run *run, tn_arena *arena, const tn_row *row, const char **why);
bool tn_vfy_outbox_run_id(tn_arena *arena, const tn_row *row, uint8_t out[16]);
bool tn_vfy_outbox_row(tn_vfy_run *run, tn_arena *arena, const tn_row *row, const char **why);

/* ---- verify_run.c: the judgement ---- */
typedef struct tn_vfy_replay {
    tn_verify *v;
    tn_vfy_run *run;
    tn_vfy_report *report;
    tn_arena *scratch;
    tn_ms *ms, *from_snapshot; /* the second from where the snapshot is */
    tn_ms *snapshot_ms;
    uint64_t snapshot_transition, snapshot_wake_ns, wake_ns, records, bytes;
    bool broken, snapshot_met, count;
} tn_vfy_replay;
void tn_vfy_replay_begin(tn_vfy_replay *replay, tn_verify *v, tn_vfy_run *run,
                         tn_vfy_report *report);
void tn_vfy_replay_record(tn_vfy_replay *replay, const tn_row *row);
/* Judges, sets run->digest and transition when the state is sound (true); frees. */
bool tn_vfy_replay_end(tn_vfy_replay *replay);
/* A run without records: what points to it. */
void tn_vfy_judge_absent(tn_vfy_report *report, const tn_vfy_run *run);

/* ---- verify_shard.c ---- */
void tn_vfy_shard(tn_verify *v, uint32_t shard);
/* Reads all that there is about the suspect and judges.  run: filled in; false: could not be read. */
bool tn_vfy_look_again(tn_verify *v, const tn_vfy_suspect *suspect, tn_vfy_report *report,
                       tn_arena *arena, tn_vfy_run *run);
/* [lock held or not: takes it] */
void tn_vfy_suspect_run(tn_verify *v, uint32_t shard, const tn_vfy_run *run);
void tn_vfy_suspect_row(tn_verify *v, uint32_t shard, uint32_t table, const tn_row *row,
                        const char *text);

/* ---- verify_docs.c ---- */
uint64_t tn_vfy_doc_digest(const tn_vis_doc *doc);
void tn_vfy_expect_doc(tn_verify *v, uint32_t shard, const tn_vfy_run *run);
/* Lists every namespace and compares; differences become suspects. */
void tn_vfy_docs(tn_verify *v);
/* The documents of one run, which was just judged. */
void tn_vfy_judge_docs(tn_verify *v, tn_vfy_report *report, const tn_vfy_run *run, bool may_mend);

#endif
