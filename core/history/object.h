/* SPDX-License-Identifier: MIT */
/* Objects in the history role: calls to them, and what they want of the world (machine/object.h has the pure part). */
#ifndef TN_HISTORY_OBJECT_H
#define TN_HISTORY_OBJECT_H

#include "history/machine/object.h"
#include "history/priv.h"

/* ---- what a kind adds to the role ---- */
typedef struct tn_object_rim {
    char letter;
    /* Does what the object wants (want->dispatched is set already): ends in tn_object_effect_end, now or later, once.
     * run is valid only during the call. */
    void (*effect)(tn_run *run, const tn_object_want *want);
} tn_object_rim;
void tn_object_rim_add(const tn_object_rim *rim); /* for tests */

/* An effect on its way.  It owns an arena for what it sends and receives. */
typedef struct tn_object_effect {
    tn_arena *arena;
    tn_shard *shard;
    char *ns_id, *workflow_id; /* of the object, as kept */
    uint8_t run_id[16];
    uint32_t what;
    uint64_t id;
    bool
        /* an answer that may pass (UNAVAILABLE, RESOURCE_EXHAUSTED ...) comes a second later, as a result */
        slow_down;
    tn_hreq req; /* a call to a run or to another object: tn_object_effect_call */
    void *user;
} tn_object_effect;
tn_object_effect *tn_object_effect_begin(tn_run *run, const tn_object_want *want);
/* Asks the run `workflow_id` (run_id may be empty) of a namespace; request lies in effect->arena.  An object is named by
 * tn_object_workflow_id.  The answer is the result. */
void tn_object_effect_call(tn_object_effect *effect, tn_hop op, tn_str ns_id, tn_str workflow_id,
                           tn_str run_id, const ProtobufCMessage *request);
/* [the object's loop] The result goes to the kind's `result`; fault and response are copied or lie in effect->arena. */
void tn_object_effect_end(tn_object_effect *effect, const tn_fault *fault,
                          const ProtobufCMessage *response);

void tn_object_do(tn_run *run, tn_object_want *want); /* effects.c */
void tn_op_object(tn_wf *wf, tn_hreq *req);
void tn_object_owned_closed(tn_wf *wf, tn_hreq *req, tn_run *run); /* CHILD_CLOSED to an object */
extern const tn_object_rim tn_schedule_rim;                        /* schedule.c */
void tn_object_result_came(tn_wf *wf, tn_hreq *req, tn_run *run);

#endif
