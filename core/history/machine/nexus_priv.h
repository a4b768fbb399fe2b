/* SPDX-License-Identifier: MIT */
/* Private to the machine: what the files of callbacks and Nexus operations share. */
#ifndef TN_HISTORY_MACHINE_NEXUS_PRIV_H
#define TN_HISTORY_MACHINE_NEXUS_PRIV_H

#include "history/machine/nexus.h"
#include "history/machine/parts.h"

tn_nexus *tn_nexus_of(tn_ms *ms); /* makes it when absent */
int32_t tn_nexus_op_timed_out(const tn_nexus_op *op,
                              uint64_t now_ns); /* a TimeoutType; 0: not yet */
void tn_callback_destroy(tn_ms *ms, tn_callback *callback);
void tn_callbacks_save(const tn_ms *ms, tn_arena *arena, Tenon__Snapshot *to);
tn_status tn_callbacks_load(tn_ms *ms, const Tenon__Snapshot *from, tn_error *err);
void tn_callbacks_save_extras(const tn_ms *ms, tn_arena *arena, Tenon__Extras *to);
void tn_callbacks_load_extras(tn_ms *ms, const Tenon__Extras *from);
/* One more attempt is over; failure NULL: it worked. */
void tn_attempts_note(tn_tx *tx, tn_attempts *attempts,
                      const Temporal__Api__Failure__V1__Failure *failure);
uint64_t tn_attempts_backoff_ns(tn_tx *tx, int32_t count, uint64_t initial_ns, uint64_t max_ns);
Temporal__Api__Failure__V1__Failure *tn_attempts_failure(const tn_attempts *attempts,
                                                         tn_arena *arena);

#endif
