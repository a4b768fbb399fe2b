/* SPDX-License-Identifier: MIT */
/* A planned move of a shard: the owner that has let it go says so to the next one, which then need not wait, and names the
 * runs that were in use, so that they are read before anybody asks for them. */
#include "client/remote.h"
#include "client/wire.h"
#include "proto/proto.h"

static char *text(tn_arena *arena, tn_str s)
{
    return tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(s));
}

void tn_remote_hand_over(const tn_member *owner, uint32_t shard, const tn_run_key *runs, size_t n)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__HandoverCall call = TENON__HANDOVER_CALL__INIT;
    Tenon__RunKey *keys = tn_arena_array(arena, n + 1, sizeof(*keys));
    call.shard = shard;
    call.runs = tn_arena_array(arena, n + 1, sizeof(*call.runs));
    for (size_t i = 0; i < n; i++) {
        tenon__run_key__init(&keys[i]);
        keys[i].ns_id = text(arena, runs[i].ns_id);
        keys[i].workflow_id = text(arena, runs[i].workflow_id);
        keys[i].run_id = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)runs[i].run_id};
        call.runs[call.n_runs++] = &keys[i];
    }
    tn_remote_notice(owner, TN_SERVICE_HISTORY, TN_INTERNAL_HANDOVER, arena, &call.base);
}

void tn_intake_handover(tn_call *call)
{
    const Tenon__HandoverCall *request = (const Tenon__HandoverCall *)call->request;
    tn_arena *arena = tn_arena_create(0);
    tn_run_key *runs = tn_arena_array(arena, request->n_runs + 1, sizeof(*runs));
    size_t n = 0;
    for (size_t i = 0; i < request->n_runs; i++) {
        const Tenon__RunKey *key = request->runs[i];
        if (key->run_id.len != 16)
            continue;
        runs[n].ns_id = tn_arena_str(arena, tn_str_from(key->ns_id));
        runs[n].workflow_id = tn_arena_str(arena, tn_str_from(key->workflow_id));
        memcpy(runs[n++].run_id, key->run_id.data, 16);
    }
    (void)tn_client_handed_over_here(arena, request->shard, runs, n);
    Tenon__Done done = TENON__DONE__INIT;
    tn_call_reply(call, &done.base);
}
