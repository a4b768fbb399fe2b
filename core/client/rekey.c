/* SPDX-License-Identifier: MIT */
/* An operator's word that the cluster's keys have changed (tenonctl cluster rekey): this process reads them, goes by them,
 * and answers when it does. */
#include "client/remote.h"
#include "client/wire.h"

typedef struct rekeying {
    tn_msg msg;
    tn_call *call;
    uint64_t version;
} rekeying;

static void answer(tn_msg *msg)
{
    const rekeying *r = TN_CONTAINER_OF(msg, rekeying, msg);
    Tenon__KeysAnswer answer = TENON__KEYS_ANSWER__INIT;
    answer.version = r->version;
    tn_call_reply(r->call, &answer.base);
}

static void keys_read(void *user, uint64_t version)
{
    rekeying *r = user;
    r->version = version;
    r->msg.run = answer;
    tn_loop_post(r->call->home, &r->msg);
}

static void read_there(tn_msg *msg)
{
    rekeying *r = TN_CONTAINER_OF(msg, rekeying, msg);
    tn_members_rekey(keys_read, r);
}

void tn_intake_keys(tn_call *call)
{
    rekeying *r = TN_NEW(call->arena, rekeying);
    if (!r) {
        tn_call_fail(
            call, tn_fault_make(call->arena, TN_GRPC_RESOURCE_EXHAUSTED, "no memory for the call"));
        return;
    }
    r->call = call;
    r->msg.run = read_there;
    tn_loop_post(tn_loops_get(0), &r->msg);
}
