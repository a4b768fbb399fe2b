/* SPDX-License-Identifier: MIT */
/* Private to batch jobs in the history role. */
#ifndef TN_HISTORY_BATCH_H
#define TN_HISTORY_BATCH_H

#include "history/machine/batch.h"
#include "history/object.h"

extern const tn_object_rim tn_batch_rim;

/* The same whenever this job's operation on this run is tried. */
char *tn_batch_request_id(tn_arena *arena, const tn_object_effect *effect, const char *what,
                          const char *workflow_id, const char *run_id);
Temporal__Api__Common__V1__WorkflowExecution *tn_batch_execution(tn_arena *arena,
                                                                 const char *workflow_id,
                                                                 const char *run_id);
/* batch_reset.c: finds the event that the job means, then resets; ends the effect. */
void tn_batch_reset(tn_object_effect *effect,
                    const Temporal__Api__Workflowservice__V1__StartBatchOperationRequest *job,
                    Temporal__Api__Common__V1__WorkflowExecution *execution);

#endif
