/* SPDX-License-Identifier: MIT */
/* What is known of each run: every reading of its history is laid over those before it and must agree with them. */
#include <stdlib.h>
#include <string.h>

#include "proto/proto.h"
#include "sim.h"
#include "temporal/api/history/v1/message.pb-c.h"

sim_run **sim_runs;
size_t sim_n_runs;
sim_ack *sim_acks;
size_t sim_n_acks;

typedef Temporal__Api__History__V1__HistoryEvent event_msg;
#define KIND(name) TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_##name

void *sim_make(tn_arena *arena, const ProtobufCMessageDescriptor *type)
{
    ProtobufCMessage *msg = tn_arena_zalloc(arena, type->sizeof_message);
    protobuf_c_message_init(type, msg);
    return msg;
}

/* As a client gets it: attached bytes have become fields. */
ProtobufCMessage *sim_reply(tn_arena *arena, const ProtobufCMessage *response)
{
    tn_blob packed;
    ProtobufCMessage *out = NULL;
    tn_error err;
    tn_arena_set_limit(arena, 0);
    TN_ASSERT(tn_proto_pack(response, arena, &packed) == TN_OK);
    TN_ASSERT(tn_proto_unpack(response->descriptor, packed, arena, &out, &err) == TN_OK);
    return out;
}

Google__Protobuf__Duration *sim_ms(tn_arena *arena, uint64_t ms)
{
    return tn_duration_from_ns(arena, (int64_t)(ms * TN_MS));
}

sim_run *sim_run_get(const char *wid, const char *run_id)
{
    for (size_t i = sim_n_runs; i-- > 0;)
        if (strcmp(sim_runs[i]->run_id, run_id) == 0)
            return sim_runs[i];
    sim_run *run = tn_xcalloc(1, sizeof(*run));
    strncpy(run->wid, wid, sizeof(run->wid) - 1);
    strncpy(run->run_id, run_id, sizeof(run->run_id) - 1);
    sim_runs = tn_xreallocarray(sim_runs, sim_n_runs + 1, sizeof(*sim_runs));
    sim_runs[sim_n_runs++] = run;
    return run;
}

sim_ack *sim_ack_add(void)
{
    sim_acks = tn_xreallocarray(sim_acks, sim_n_acks + 1, sizeof(*sim_acks));
    sim_ack *ack = &sim_acks[sim_n_acks++];
    memset(ack, 0, sizeof(*ack));
    return ack;
}

static void name(char out[48], const char *s)
{
    memset(out, 0, 48);
    strncpy(out, s ? s : "", 47);
}

static void look_at_tasks(sim_item *item, const event_msg *e)
{
    switch ((int)e->event_type) {
    case KIND(WORKFLOW_TASK_COMPLETED):
        item->ref = e->workflow_task_completed_event_attributes->started_event_id;
        break;
    case KIND(ACTIVITY_TASK_SCHEDULED):
        name(item->name, e->activity_task_scheduled_event_attributes->activity_id);
        if (e->activity_task_scheduled_event_attributes->retry_policy)
            item->number =
                e->activity_task_scheduled_event_attributes->retry_policy->maximum_attempts;
        break;
    case KIND(ACTIVITY_TASK_COMPLETED):
        item->ref = e->activity_task_completed_event_attributes->scheduled_event_id;
        break;
    case KIND(ACTIVITY_TASK_FAILED):
        item->ref = e->activity_task_failed_event_attributes->scheduled_event_id;
        break;
    case KIND(ACTIVITY_TASK_TIMED_OUT):
        item->ref = e->activity_task_timed_out_event_attributes->scheduled_event_id;
        break;
    case KIND(ACTIVITY_TASK_CANCELED):
        item->ref = e->activity_task_canceled_event_attributes->scheduled_event_id;
        break;
    case KIND(ACTIVITY_TASK_STARTED):
        item->ref = e->activity_task_started_event_attributes->scheduled_event_id;
        item->number = e->activity_task_started_event_attributes->attempt;
        break;
    case KIND(TIMER_STARTED):
        name(item->name, e->timer_started_event_attributes->timer_id);
        tn_ns_from_duration(e->timer_started_event_attributes->start_to_fire_timeout, &item->dur);
        break;
    case KIND(TIMER_FIRED):
        item->ref = e->timer_fired_event_attributes->started_event_id;
        break;
    case KIND(TIMER_CANCELED):
        item->ref = e->timer_canceled_event_attributes->started_event_id;
        break;
    default:
        break;
    }
}

static void look_at_others(sim_item *item, const event_msg *e)
{
    switch ((int)e->event_type) {
    case KIND(WORKFLOW_EXECUTION_SIGNALED):
        name(item->name, e->workflow_execution_signaled_event_attributes->request_id);
        break;
    case KIND(WORKFLOW_EXECUTION_TERMINATED):
        name(item->name, e->workflow_execution_terminated_event_attributes->reason);
        break;
    case KIND(WORKFLOW_EXECUTION_CONTINUED_AS_NEW):
        memcpy(item->run,
               e->workflow_execution_continued_as_new_event_attributes->new_execution_run_id, 36);
        break;
    case KIND(START_CHILD_WORKFLOW_EXECUTION_INITIATED):
        item->number =
            (int)e->start_child_workflow_execution_initiated_event_attributes->parent_close_policy;
        name(item->name, e->start_child_workflow_execution_initiated_event_attributes->workflow_id);
        break;
    case KIND(START_CHILD_WORKFLOW_EXECUTION_FAILED):
        item->ref = e->start_child_workflow_execution_failed_event_attributes->initiated_event_id;
        break;
    case KIND(CHILD_WORKFLOW_EXECUTION_STARTED):
        item->ref = e->child_workflow_execution_started_event_attributes->initiated_event_id;
        memcpy(item->run,
               e->child_workflow_execution_started_event_attributes->workflow_execution->run_id,
               36);
        break;
    case KIND(CHILD_WORKFLOW_EXECUTION_COMPLETED):
        item->ref = e->child_workflow_execution_completed_event_attributes->initiated_event_id;
        break;
    case KIND(CHILD_WORKFLOW_EXECUTION_FAILED):
        item->ref = e->child_workflow_execution_failed_event_attributes->initiated_event_id;
        break;
    case KIND(CHILD_WORKFLOW_EXECUTION_CANCELED):
        item->ref = e->child_workflow_execution_canceled_event_attributes->initiated_event_id;
        break;
    case KIND(CHILD_WORKFLOW_EXECUTION_TIMED_OUT):
        item->ref = e->child_workflow_execution_timed_out_event_attributes->initiated_event_id;
        break;
    case KIND(CHILD_WORKFLOW_EXECUTION_TERMINATED):
        item->ref = e->child_workflow_execution_terminated_event_attributes->initiated_event_id;
        break;
    case KIND(SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED):
        item->ref =
            e->signal_external_workflow_execution_failed_event_attributes->initiated_event_id;
        break;
    case KIND(EXTERNAL_WORKFLOW_EXECUTION_SIGNALED):
        item->ref = e->external_workflow_execution_signaled_event_attributes->initiated_event_id;
        break;
    case KIND(REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED):
        item->ref = e->request_cancel_external_workflow_execution_failed_event_attributes
                        ->initiated_event_id;
        break;
    case KIND(EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED):
        item->ref =
            e->external_workflow_execution_cancel_requested_event_attributes->initiated_event_id;
        break;
    default:
        break;
    }
}

static void lay(sim_run *run, int64_t id, const sim_item *item)
{
    size_t at = (size_t)id - 1;
    if (at > run->n) {
        sim_violation("R3", "%s/%s: event %lld without those before it (%zu)", run->wid,
                      run->run_id, (long long)id, run->n);
        return;
    }
    if (at < run->firm && run->items[at].hash != item->hash)
        sim_violation("R3", "%s/%s: event %lld was of type %d, now it is another one of type %d",
                      run->wid, run->run_id, (long long)id, run->items[at].type, item->type);
    if (at == run->n && run->n == run->cap) {
        run->cap = run->cap ? run->cap * 2 : 16;
        run->items = tn_xreallocarray(run->items, run->cap, sizeof(*run->items));
    }
    run->items[at] = *item;
    if (at == run->n)
        run->n++;
}

/* A started task is only in memory until the next record; a task tried again is in no record at all. */
static bool soft(const sim_item *item)
{
    return item->type == KIND(WORKFLOW_TASK_SCHEDULED) || item->type == KIND(WORKFLOW_TASK_STARTED);
}

void sim_run_saw(sim_run *run, tn_blob body, bool truth)
{
    tn_wire_field field;
    size_t first = 0, last = 0;
    for (tn_wire_iter it = tn_wire_begin(body); tn_wire_next(&it, &field);) {
        tn_arena *arena = __real_tn_arena_create(0);
        event_msg *e = NULL;
        tn_error err;
        TN_ASSERT(TN_PROTO_UNPACK(temporal__api__history__v1__history_event, field.bytes, arena, &e,
                                  &err) == TN_OK);
        sim_item item = {.hash = tn_hash64_stable(field.bytes, (tn_blob){NULL, 0}),
                         .type = (int)e->event_type};
        tn_ns_from_ts(e->event_time, &item.time_ns);
        look_at_tasks(&item, e);
        look_at_others(&item, e);
        if (last && e->event_id != (int64_t)last + 1)
            sim_violation("R3", "%s/%s: event %lld follows %zu", run->wid, run->run_id,
                          (long long)e->event_id, last);
        last = (size_t)e->event_id;
        first = first ? first : last;
        lay(run, e->event_id, &item);
        __real_tn_arena_destroy(arena);
    }
    if (!last || first > run->firm + 1) /* a part, and what is before it may have been taken back */
        return;
    if (truth && last < run->firm)
        sim_violation("R3", "%s/%s: %zu events are stored, %zu were read", run->wid, run->run_id,
                      last, run->firm);
    if (truth)
        run->n = last;
    size_t firm = last; /* an older reading may come after a newer one: what is behind it stays */
    while (!truth && firm > 0 && soft(&run->items[firm - 1]))
        firm--;
    if (firm > run->firm)
        run->firm = firm;
}
