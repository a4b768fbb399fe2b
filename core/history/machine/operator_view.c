/* SPDX-License-Identifier: MIT */
/* The state as operators' tools see it: DescribeMutableState.  Field by field in the words of the reference, as far as
 * there is a counterpart; a branch token is made of the run id, for a history here has one branch. */
#include "history/machine/machine.h"

#include "admin/state.pb-c.h"
#include "history/machine/priv.h"
#include "proto/proto.h"

typedef Temporal__Server__Api__Persistence__V1__WorkflowMutableState mutable_state;
typedef Temporal__Server__Api__Persistence__V1__WorkflowExecutionInfo execution_info;
#define P(name) (&temporal__server__api__persistence__v1__##name##__descriptor)

static char *text(const char *s) { return (char *)(uintptr_t)(s ? s : ""); }

static tn_pb_timestamp *when(tn_arena *arena, uint64_t ns)
{
    return ns ? tn_ts_from_ns(arena, (int64_t)ns) : NULL;
}

static tn_pb_duration *span(tn_arena *arena, uint64_t ns)
{
    return ns ? tn_duration_from_ns(arena, (int64_t)ns) : NULL;
}

static void *list_of(tn_arena *arena, size_t n)
{
    void *list = n ? tn_arena_array(arena, n, sizeof(void *)) : NULL;
    TN_ASSERT(list || !n);
    return list;
}

static void view_activities(const tn_ms *ms, tn_arena *arena, mutable_state *out)
{
    out->activity_infos = list_of(arena, ms->n_activities);
    TN_LIST_FOREACH (link, &ms->activities) {
        const tn_activity *a = TN_CONTAINER_OF(link, tn_activity, link);
        if (out->n_activity_infos == ms->n_activities)
            break;
        Temporal__Server__Api__Persistence__V1__ActivityInfo *i =
            tn_msg_new(arena, P(activity_info));
        i->scheduled_event_id = a->scheduled_id;
        i->scheduled_time = when(arena, a->scheduled_ns);
        i->first_scheduled_time = when(arena, a->first_scheduled_ns);
        i->started_event_id = a->started_id;
        i->started_time = when(arena, a->started_ns);
        i->activity_id = text(a->activity_id);
        i->request_id = text(a->request_id);
        i->schedule_to_close_timeout = span(arena, a->schedule_to_close_ns);
        i->schedule_to_start_timeout = span(arena, a->schedule_to_start_ns);
        i->start_to_close_timeout = span(arena, a->start_to_close_ns);
        i->heartbeat_timeout = span(arena, a->heartbeat_ns);
        i->cancel_requested = a->cancel_requested_id != 0;
        i->cancel_request_id = a->cancel_requested_id;
        i->attempt = a->attempt;
        i->task_queue = text(a->task_queue);
        i->started_identity = text(a->identity);
        i->has_retry_policy = a->retry.present;
        i->retry_initial_interval = span(arena, a->retry.initial_ns);
        i->retry_maximum_interval = span(arena, a->retry.max_ns);
        i->retry_maximum_attempts = a->retry.max_attempts;
        i->retry_backoff_coefficient = a->retry.coefficient;
        i->retry_expiration_time = when(arena, a->expire_ns);
        i->retry_last_worker_identity = text(a->last_worker_identity);
        i->last_heartbeat_update_time = when(arena, a->has_heartbeat ? a->heartbeat_at_ns : 0);
        i->last_attempt_complete_time = when(arena, a->last_attempt_complete_ns);
        i->activity_type = TN_MSG(arena, temporal__api__common__v1__activity_type);
        i->activity_type->name = text(a->type);
        if (a->last_failure.n)
            TN_ASSERT(TN_PROTO_UNPACK(temporal__api__failure__v1__failure, a->last_failure, arena,
                                      &i->retry_last_failure, NULL) == TN_OK);
        if (a->heartbeat_details.n)
            TN_ASSERT(TN_PROTO_UNPACK(temporal__api__common__v1__payloads, a->heartbeat_details,
                                      arena, &i->last_heartbeat_details, NULL) == TN_OK);
        Temporal__Server__Api__Persistence__V1__WorkflowMutableState__ActivityInfosEntry *e =
            tn_msg_new(arena, P(workflow_mutable_state__activity_infos_entry));
        e->key = a->scheduled_id;
        e->value = i;
        out->activity_infos[out->n_activity_infos++] = e;
    }
}

static void view_timers(const tn_ms *ms, tn_arena *arena, mutable_state *out)
{
    out->timer_infos = list_of(arena, ms->n_timers);
    TN_LIST_FOREACH (link, &ms->timers) {
        const tn_timer_info *t = TN_CONTAINER_OF(link, tn_timer_info, link);
        if (out->n_timer_infos == ms->n_timers)
            break;
        Temporal__Server__Api__Persistence__V1__WorkflowMutableState__TimerInfosEntry *e =
            tn_msg_new(arena, P(workflow_mutable_state__timer_infos_entry));
        e->key = text(t->timer_id);
        e->value = tn_msg_new(arena, P(timer_info));
        e->value->timer_id = text(t->timer_id);
        e->value->started_event_id = t->started_id;
        e->value->expiry_time = when(arena, t->fire_ns);
        out->timer_infos[out->n_timer_infos++] = e;
    }
}

static void view_children(const tn_ms *ms, tn_arena *arena, mutable_state *out)
{
    out->child_execution_infos = list_of(arena, ms->n_children);
    TN_LIST_FOREACH (link, &ms->children) {
        const tn_child *c = TN_CONTAINER_OF(link, tn_child, link);
        if (out->n_child_execution_infos == ms->n_children)
            break;
        Temporal__Server__Api__Persistence__V1__WorkflowMutableState__ChildExecutionInfosEntry *e =
            tn_msg_new(arena, P(workflow_mutable_state__child_execution_infos_entry));
        Temporal__Server__Api__Persistence__V1__ChildExecutionInfo *i = e->value =
            tn_msg_new(arena, P(child_execution_info));
        e->key = c->initiated_id;
        i->initiated_event_id = c->initiated_id;
        i->started_event_id = c->started_id;
        i->started_workflow_id = text(c->workflow_id);
        i->started_run_id = text(c->run_id);
        i->create_request_id = text(c->request_id);
        i->namespace_ = text(c->ns_name);
        i->namespace_id = text(c->ns_id);
        i->workflow_type_name = text(c->type);
        i->parent_close_policy =
            (Temporal__Api__Enums__V1__ParentClosePolicy)c->parent_close_policy;
        out->child_execution_infos[out->n_child_execution_infos++] = e;
    }
}

static void view_externals(const tn_ms *ms, tn_arena *arena, mutable_state *out)
{
    size_t n = 0;
    TN_LIST_FOREACH (link, &ms->externals)
        n++;
    out->signal_infos = list_of(arena, n);
    out->request_cancel_infos = list_of(arena, n);
    TN_LIST_FOREACH (link, &ms->externals) {
        const tn_external *x = TN_CONTAINER_OF(link, tn_external, link);
        if (x->is_signal) {
            Temporal__Server__Api__Persistence__V1__WorkflowMutableState__SignalInfosEntry *e =
                tn_msg_new(arena, P(workflow_mutable_state__signal_infos_entry));
            e->key = x->initiated_id;
            e->value = tn_msg_new(arena, P(signal_info));
            e->value->initiated_event_id = x->initiated_id;
            e->value->request_id = text(x->request_id);
            out->signal_infos[out->n_signal_infos++] = e;
        } else {
            Temporal__Server__Api__Persistence__V1__WorkflowMutableState__RequestCancelInfosEntry
                *e = tn_msg_new(arena, P(workflow_mutable_state__request_cancel_infos_entry));
            e->key = x->initiated_id;
            e->value = tn_msg_new(arena, P(request_cancel_info));
            e->value->initiated_event_id = x->initiated_id;
            e->value->cancel_request_id = text(x->request_id);
            out->request_cancel_infos[out->n_request_cancel_infos++] = e;
        }
    }
    out->n_signal_requested_ids = ms->n_signal_request_ids;
    out->signal_requested_ids = ms->signal_request_ids;
}

static void view_buffered(const tn_ms *ms, tn_arena *arena, mutable_state *out)
{
    out->buffered_events = list_of(arena, ms->n_buffered);
    TN_LIST_FOREACH (link, &ms->buffered) {
        const tn_buffered *b = TN_CONTAINER_OF(link, tn_buffered, link);
        if (out->n_buffered_events < ms->n_buffered)
            TN_ASSERT(TN_PROTO_UNPACK(temporal__api__history__v1__history_event, b->event, arena,
                                      &out->buffered_events[out->n_buffered_events++],
                                      NULL) == TN_OK);
    }
}

static void view_wft(const tn_ms *ms, tn_arena *arena, execution_info *i)
{
    i->workflow_task_scheduled_event_id = ms->wft.scheduled_id;
    i->workflow_task_started_event_id = ms->wft.started_id;
    i->workflow_task_attempt = ms->wft.attempt;
    i->workflow_task_timeout = span(arena, ms->wft.timeout_ns);
    i->workflow_task_scheduled_time = when(arena, ms->wft.scheduled_ns);
    i->workflow_task_original_scheduled_time = when(arena, ms->wft.original_scheduled_ns);
    i->workflow_task_started_time = when(arena, ms->wft.started_ns);
    i->workflow_task_request_id = text(ms->wft.request_id);
    i->last_completed_workflow_task_started_event_id = ms->last_completed_started_id;
    i->sticky_task_queue = text(ms->sticky_queue);
    i->sticky_schedule_to_start_timeout = span(arena, ms->sticky_timeout_ns);
}

static void view_maps(const tn_ms *ms, tn_arena *arena, execution_info *i)
{
    i->memo = list_of(arena, ms->memo.count);
    for (size_t n = 0; n < ms->memo.count; n++) {
        Temporal__Server__Api__Persistence__V1__WorkflowExecutionInfo__MemoEntry *e =
            tn_msg_new(arena, P(workflow_execution_info__memo_entry));
        e->key = ms->memo.items[n].name;
        TN_ASSERT(TN_PROTO_UNPACK(temporal__api__common__v1__payload, ms->memo.items[n].payload,
                                  arena, &e->value, NULL) == TN_OK);
        i->memo[i->n_memo++] = e;
    }
    i->search_attributes = list_of(arena, ms->search_attributes.count);
    for (size_t n = 0; n < ms->search_attributes.count; n++) {
        Temporal__Server__Api__Persistence__V1__WorkflowExecutionInfo__SearchAttributesEntry *e =
            tn_msg_new(arena, P(workflow_execution_info__search_attributes_entry));
        e->key = ms->search_attributes.items[n].name;
        TN_ASSERT(TN_PROTO_UNPACK(temporal__api__common__v1__payload,
                                  ms->search_attributes.items[n].payload, arena, &e->value,
                                  NULL) == TN_OK);
        i->search_attributes[i->n_search_attributes++] = e;
    }
}

static void view_history(const tn_ms *ms, tn_arena *arena, execution_info *i)
{
    Temporal__Server__Api__Persistence__V1__HistoryBranch *branch =
        tn_msg_new(arena, P(history_branch));
    Temporal__Server__Api__History__V1__VersionHistories *all =
        TN_MSG(arena, temporal__server__api__history__v1__version_histories);
    Temporal__Server__Api__History__V1__VersionHistory *one =
        TN_MSG(arena, temporal__server__api__history__v1__version_history);
    Temporal__Server__Api__History__V1__VersionHistoryItem *item =
        TN_MSG(arena, temporal__server__api__history__v1__version_history_item);
    branch->tree_id = branch->branch_id = text(ms->run_id_text);
    tn_blob token = tn_msg_pack(arena, branch);
    item->event_id = ms->next_event_id - 1;
    one->branch_token = (ProtobufCBinaryData){token.n, (uint8_t *)(uintptr_t)token.p};
    one->items = list_of(arena, 1);
    one->items[one->n_items++] = item;
    all->histories = list_of(arena, 1);
    all->histories[all->n_histories++] = one;
    i->version_histories = all;
    i->execution_stats = tn_msg_new(arena, P(execution_stats));
    i->execution_stats->history_size = ms->history_size_bytes;
}

static execution_info *view_info(const tn_ms *ms, tn_arena *arena)
{
    execution_info *i = tn_msg_new(arena, P(workflow_execution_info));
    i->namespace_id = text(ms->ns_id);
    i->workflow_id = text(ms->workflow_id);
    i->parent_namespace_id = text(ms->parent.ns_id);
    i->parent_workflow_id = text(ms->parent.workflow_id);
    i->parent_run_id = text(ms->parent.run_id);
    i->parent_initiated_id = ms->parent.initiated_id;
    i->root_workflow_id =
        text(ms->parent.root_workflow_id ? ms->parent.root_workflow_id : ms->workflow_id);
    i->root_run_id = text(ms->parent.root_run_id ? ms->parent.root_run_id : ms->run_id_text);
    i->completion_event_batch_id = ms->close_batch_first_id;
    i->task_queue = text(ms->task_queue);
    i->workflow_type_name = text(ms->type);
    i->workflow_execution_timeout = span(arena, ms->execution_timeout_ns);
    i->workflow_run_timeout = span(arena, ms->run_timeout_ns);
    i->default_workflow_task_timeout = span(arena, ms->wft_timeout_ns);
    i->start_time = when(arena, tn_ms_shown_start_ns(ms));
    i->execution_time = when(arena, ms->first_wft_backoff_until_ns ? ms->first_wft_backoff_until_ns
                                                                   : tn_ms_shown_start_ns(ms));
    i->last_update_time = when(arena, ms->last_event_ns);
    i->close_time = when(arena, ms->close_ns);
    i->workflow_execution_expiration_time = when(arena, ms->execution_expire_ns);
    i->workflow_run_expiration_time = when(arena, ms->run_expire_ns);
    i->cancel_requested = ms->cancel_requested_id != 0;
    i->cancel_request_id = text(ms->cancel_request_id);
    i->attempt = ms->attempt;
    i->has_retry_policy = ms->retry.present;
    i->retry_initial_interval = span(arena, ms->retry.initial_ns);
    i->retry_maximum_interval = span(arena, ms->retry.max_ns);
    i->retry_maximum_attempts = ms->retry.max_attempts;
    i->retry_backoff_coefficient = ms->retry.coefficient;
    i->cron_schedule = text(ms->cron_schedule);
    i->signal_count = ms->signal_count;
    i->first_execution_run_id = text(ms->first_run_id);
    i->new_execution_run_id = text(ms->new_run_id);
    i->state_transition_count = (int64_t)ms->transition;
    view_wft(ms, arena, i);
    view_maps(ms, arena, i);
    view_history(ms, arena, i);
    return i;
}

mutable_state *tn_machine_operator_view(const tn_ms *ms, tn_arena *arena)
{
    mutable_state *out = tn_msg_new(arena, P(workflow_mutable_state));
    Temporal__Server__Api__Persistence__V1__WorkflowExecutionState *state =
        tn_msg_new(arena, P(workflow_execution_state));
    bool begun = ms->last_completed_started_id || ms->wft.started_id;
    state->create_request_id = text(ms->create_request_id);
    state->run_id = text(ms->run_id_text);
    state->state =
        !tn_ms_running(ms)
            ? TEMPORAL__SERVER__API__ENUMS__V1__WORKFLOW_EXECUTION_STATE__WORKFLOW_EXECUTION_STATE_COMPLETED
        : begun
            ? TEMPORAL__SERVER__API__ENUMS__V1__WORKFLOW_EXECUTION_STATE__WORKFLOW_EXECUTION_STATE_RUNNING
            : TEMPORAL__SERVER__API__ENUMS__V1__WORKFLOW_EXECUTION_STATE__WORKFLOW_EXECUTION_STATE_CREATED;
    state->status = (Temporal__Api__Enums__V1__WorkflowExecutionStatus)ms->status;
    state->start_time = when(arena, tn_ms_shown_start_ns(ms));
    state->first_execution_run_id = text(ms->first_run_id);
    out->execution_state = state;
    out->execution_info = view_info(ms, arena);
    out->next_event_id = ms->next_event_id;
    view_activities(ms, arena, out);
    view_timers(ms, arena, out);
    view_children(ms, arena, out);
    view_externals(ms, arena, out);
    view_buffered(ms, arena, out);
    return out;
}
