/* SPDX-License-Identifier: MIT */
/* A frontend that drains: the long polls of its callers wait at other hosts, which are told to answer them with what there
 * is, as they would after the usual wait.  The callers then ask the next frontend, and the drain need not wait for
 * them.  A host of an older release doesn't know the word; then the drain takes its time. */
#include <stdlib.h>

#include "client/remote.h"
#include "client/wire.h"
#include "proto/proto.h"

/* ---- the host that drains ---- */

static void tell_all(void *arg)
{
    (void)arg;
    size_t count = 0;
    const tn_member *const *members = tn_members_list(&count);
    for (size_t i = 0; i < count; i++) {
        const uint16_t *ports = members[i]->role_ports;
        uint32_t service = ports[TN_SERVICE_MATCHING] ? TN_SERVICE_MATCHING : TN_SERVICE_HISTORY;
        if (!ports[service] || memcmp(members[i]->host_id, tn_members_self_id(), 16) == 0)
            continue;
        Tenon__EndWaitsCall call = TENON__END_WAITS_CALL__INIT;
        call.host_id = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)tn_members_self_id()};
        tn_remote_notice(members[i], service, TN_INTERNAL_END_WAITS, tn_arena_create(0),
                         &call.base);
    }
}

void tn_remote_end_waits(void) { tn_loop_call(tn_loops_get(0), tell_all, NULL); }

/* ---- the others ---- */

typedef struct ending {
    tn_msg msg;
    uint8_t host_id[16];
} ending;

static void end_here(tn_msg *msg)
{
    ending *e = TN_CONTAINER_OF(msg, ending, msg);
    tn_client_end_waits_here(e->host_id);
    free(e);
}

void tn_intake_end_waits(tn_call *call)
{
    const Tenon__EndWaitsCall *request = (const Tenon__EndWaitsCall *)call->request;
    Tenon__Done done = TENON__DONE__INIT;
    if (request->host_id.len != 16) {
        tn_call_fail(
            call, tn_fault_make(call->arena, TN_GRPC_INVALID_ARGUMENT, "a host id has 16 bytes"));
        return;
    }
    for (uint32_t i = 0; i < tn_loops_count(); i++) {
        ending *e = tn_xcalloc(1, sizeof(*e));
        e->msg.run = end_here;
        memcpy(e->host_id, request->host_id.data, 16);
        tn_loop_post(tn_loops_get(i), &e->msg);
    }
    tn_call_reply(call, &done.base);
}
