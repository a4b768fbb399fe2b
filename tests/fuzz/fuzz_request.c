/* SPDX-License-Identifier: MIT */
/* Requests as a peer may send them: the first byte chooses one, the rest is its wire.  What decodes is validated as the
 * frontend does it; what is accepted keeps the promises that history builds on. */
#include <stdlib.h>

#include "frontend/priv.h"
#include "history/machine/machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest start_request;
typedef Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionRequest sws_request;

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void judge(const tn_fault *fault)
{
    check(!fault || (fault->message.n && fault->message.n <= 4000 && fault->code != TN_GRPC_OK));
}

static bool good_id(const char *id) { return id && *id && strlen(id) <= tn_front_id_max(); }

static void try_start(tn_fcall *f, start_request *r)
{
    const tn_fault *fault = tn_front_check_start(f, r);
    judge(fault);
    if (fault)
        return;
    check(good_id(r->workflow_id) && good_id(r->workflow_type->name) &&
          good_id(r->task_queue->name));
    check(good_id(r->request_id) && r->workflow_id_reuse_policy >= 1 &&
          r->workflow_id_conflict_policy >= 1);
    check(r->workflow_id_reuse_policy != 4 || r->workflow_id_conflict_policy == 0);
    tn_blob packed;
    check(tn_proto_pack(&r->base, f->call->arena, &packed) == TN_OK);
}

static void try_signal(tn_fcall *f, sws_request *r)
{
    const tn_fault *fault = tn_front_check_signal_with_start(f, r);
    judge(fault);
    check(fault || (good_id(r->workflow_id) && good_id(r->signal_name) && good_id(r->request_id)));
}

static void try_headers(tn_arena *arena, const uint8_t *data, size_t size)
{
    size_t third = size / 3;
    tn_str version = {(const char *)data, third},
           range = {(const char *)data + third, size - third};
    judge(tn_versions_check(arena, TN_STR("temporal-go"), version, range));
    judge(tn_versions_check(arena, TN_STR("temporal-go"), TN_STR("1.0.0"), range));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tn_namespace ns = {.name = {"n", 1}, .id = {"32049b68-7872-4094-8e63-d0dd59896a83", 36}};
    static const ProtobufCMessageDescriptor *const types[] = {
        &temporal__api__workflowservice__v1__start_workflow_execution_request__descriptor,
        &temporal__api__workflowservice__v1__signal_with_start_workflow_execution_request__descriptor,
        &temporal__api__workflowservice__v1__poll_activity_task_queue_request__descriptor,
    };
    if (size < 1)
        return 0;
    tn_arena *arena = tn_arena_create(8u << 20);
    tn_call call = {.arena = arena};
    tn_fcall f = {.call = &call, .ns = &ns};
    ProtobufCMessage *message;
    size_t which = data[0] % TN_COUNT_OF(types);

    try_headers(arena, data + 1, size - 1);
    if (tn_proto_unpack_peer(types[which], tn_blob_from(data + 1, size - 1), arena, &message,
                             NULL) == TN_OK) {
        tn_arena_set_limit(arena, 0);
        if (which == 0)
            try_start(&f, (start_request *)(void *)message);
        else if (which == 1)
            try_signal(&f, (sws_request *)(void *)message);
        else
            judge(tn_front_check_task_queue(
                arena, ((Temporal__Api__Workflowservice__V1__PollActivityTaskQueueRequest *)(void *)
                            message)
                           ->task_queue));
    }
    tn_arena_destroy(arena);
    return 0;
}
