/* SPDX-License-Identifier: MIT */
/* Batch jobs: an operation on many runs, which a query or a list names, so many a second and at once.  An object
 * (object.h): this is its pure part; history/batch.c asks visibility and calls the runs. */
#ifndef TN_HISTORY_MACHINE_BATCH_H
#define TN_HISTORY_MACHINE_BATCH_H

#include "history/machine/object.h"

#define TN_BATCH_LETTER 'B'
#define TN_BATCH_DIVISION "TemporalBatcher"
#define TN_BATCH_ATTEMPTS_MAX 51 /* of one target: the first, and 50 more */

enum {                     /* what a job wants */
       TN_BATCH_COUNT = 1, /* how many there are, how fast it may go: a BatchPage */
       TN_BATCH_PAGE,      /* the next targets: a BatchPage */
       TN_BATCH_TARGET,    /* the operation, on the target numbered so */
};

typedef struct tn_batch_target {
    tn_object_want want; /* id: its number */
    char *workflow_id, *run_id;
    uint32_t attempts; /* that have failed */
    bool out, done;    /* `out`: memory only: handed out, its result is awaited */
} tn_batch_target;

typedef struct tn_batch_job {
    tn_blob request; /* owned, packed StartBatchOperationRequest */
    bool counted, paged, last;
    int64_t total, complete, failed;
    tn_blob next_page;        /* owned */
    tn_batch_target *targets; /* by number */
    size_t n_targets, n_left; /* n_left: not done */
    uint64_t numbered;
    uint32_t concurrency;
    double rate;
    /* memory only */
    tn_object_want count, page;
    size_t n_out;
    uint64_t next_ns; /* when the rate lets the next one go */
    uint32_t unsaved; /* results that only memory knows */
} tn_batch_job;

extern const tn_object_kind tn_batch_kind;
Temporal__Api__Workflowservice__V1__StartBatchOperationRequest *tn_batch_request(
    const tn_batch_job *batch, tn_arena *arena);
const tn_batch_target *tn_batch_target_of(const tn_batch_job *batch,
                                          uint64_t number); /* NULL: done */
/* "terminate" ...; NULL: none.  And the enum that stands for it. */
const char *tn_batch_type_name(
    const Temporal__Api__Workflowservice__V1__StartBatchOperationRequest *request);
int32_t tn_batch_type_of(tn_str name);
/* Its targets are activities of their own, no runs of workflows. */
bool tn_batch_of_activities(
    const Temporal__Api__Workflowservice__V1__StartBatchOperationRequest *request);
const char *tn_batch_identity(
    const Temporal__Api__Workflowservice__V1__StartBatchOperationRequest *request);
int32_t tn_batch_state(int32_t status); /* BatchOperationState */

#endif
