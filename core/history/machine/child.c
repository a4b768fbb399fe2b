/* SPDX-License-Identifier: MIT */
/* Children of a run, as the parent knows them: initiated, started or not, closed. */
#include <stdio.h>

#include "history/machine/parts.h"
#include "proto/proto.h"

typedef Temporal__Api__History__V1__StartChildWorkflowExecutionInitiatedEventAttributes
    initiated_attrs;

static void child_create(tn_ms *ms, int64_t initiated_id, tn_blob packed,
                         const initiated_attrs *attrs)
{
    tn_child *child = tn_ms_alloc(ms, sizeof(*child));

    child->initiated_id = initiated_id;
    child->attrs = tn_ms_blobdup(ms, packed);
    child->workflow_id = tn_ms_cstrdup(ms, attrs->workflow_id);
    child->type = tn_ms_cstrdup(ms, attrs->workflow_type ? attrs->workflow_type->name : "");
    child->ns_name = tn_ms_cstrdup(ms, attrs->namespace_);
    child->ns_id = tn_ms_cstrdup(ms, attrs->namespace_id);
    child->parent_close_policy = (int32_t)attrs->parent_close_policy;
    snprintf(child->request_id, sizeof(child->request_id), "%s:%lld:0", ms->run_id_text,
             (long long)initiated_id);
    tn_list_push_back(&ms->children, &child->link);
    ms->n_children++;
}

void tn_child_destroy(tn_ms *ms, tn_child *child)
{
    tn_list_remove(&child->link);
    ms->n_children--;
    tn_ms_free_blob(ms, &child->attrs);
    tn_ms_free(ms, child->workflow_id);
    tn_ms_free(ms, child->type);
    tn_ms_free(ms, child->ns_name);
    tn_ms_free(ms, child->ns_id);
    tn_ms_free(ms, child->run_id);
    tn_ms_free(ms, child);
}

/* ---- the fold -------------------------------------------------------------------------------- */

static tn_status apply_initiated(tn_ms *ms, const tn_event *event, tn_error *err)
{
    const initiated_attrs *attrs = event->start_child_workflow_execution_initiated_event_attributes;
    tn_arena *arena = tn_arena_create(0);
    tn_blob packed;

    if (tn_ms_child_any(ms, event->event_id)) {
        tn_arena_destroy(arena);
        return tn_error_set(err, TN_EDATALOSS, "child %lld is initiated twice",
                            (long long)event->event_id);
    }
    packed = tn_msg_pack(arena, attrs);
    child_create(ms, event->event_id, packed, attrs);
    tn_arena_destroy(arena);
    return TN_OK;
}

static tn_status apply_started(tn_ms *ms, const tn_event *event)
{
    const Temporal__Api__History__V1__ChildWorkflowExecutionStartedEventAttributes *attrs =
        event->child_workflow_execution_started_event_attributes;
    tn_child *child = tn_ms_child_any(ms, attrs->initiated_event_id);

    if (!child)
        return TN_ENOTFOUND;
    child->started_id = event->event_id;
    child->started_buffered = false;
    tn_ms_replace_str(
        ms, &child->run_id,
        tn_str_from(attrs->workflow_execution ? attrs->workflow_execution->run_id : ""));
    return TN_OK;
}

static tn_status apply_ended(tn_ms *ms, int64_t initiated_id)
{
    tn_child *child = tn_ms_child_any(ms, initiated_id);

    if (!child)
        return TN_ENOTFOUND;
    tn_child_destroy(ms, child);
    return TN_OK;
}

#define CASE(UPPER) \
    case TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES_##UPPER##_EVENT_ATTRIBUTES

tn_status tn_apply_child(tn_ms *ms, const tn_event *event, tn_error *err)
{
    tn_status status;

    switch ((int)event->attributes_case) {
        CASE(START_CHILD_WORKFLOW_EXECUTION_INITIATED) : return apply_initiated(ms, event, err);
        CASE(CHILD_WORKFLOW_EXECUTION_STARTED) : status = apply_started(ms, event);
        break;
        CASE(START_CHILD_WORKFLOW_EXECUTION_FAILED)
            : status = apply_ended(ms, event->start_child_workflow_execution_failed_event_attributes
                                           ->initiated_event_id);
        break;
        CASE(CHILD_WORKFLOW_EXECUTION_COMPLETED)
            : status = apply_ended(
                  ms,
                  event->child_workflow_execution_completed_event_attributes->initiated_event_id);
        break;
        CASE(CHILD_WORKFLOW_EXECUTION_FAILED)
            : status = apply_ended(
                  ms, event->child_workflow_execution_failed_event_attributes->initiated_event_id);
        break;
        CASE(CHILD_WORKFLOW_EXECUTION_CANCELED)
            : status = apply_ended(
                  ms,
                  event->child_workflow_execution_canceled_event_attributes->initiated_event_id);
        break;
        CASE(CHILD_WORKFLOW_EXECUTION_TIMED_OUT)
            : status = apply_ended(
                  ms,
                  event->child_workflow_execution_timed_out_event_attributes->initiated_event_id);
        break;
        CASE(CHILD_WORKFLOW_EXECUTION_TERMINATED)
            : status = apply_ended(
                  ms,
                  event->child_workflow_execution_terminated_event_attributes->initiated_event_id);
        break;
    default:
        return tn_error_set(err, TN_EDATALOSS, "event %lld is not of a child",
                            (long long)event->event_id);
    }
    if (status == TN_ENOTFOUND)
        return tn_error_set(err, TN_EDATALOSS, "event %lld is of a child that is not pending",
                            (long long)event->event_id);
    return status;
}

tn_status tn_child_load(tn_ms *ms, const Tenon__ChildState *saved, tn_error *err)
{
    tn_arena *arena = tn_arena_create(0);
    tn_blob packed = {saved->attributes.data, saved->attributes.len};
    initiated_attrs *attrs;
    tn_status status = TN_PROTO_UNPACK(
        temporal__api__history__v1__start_child_workflow_execution_initiated_event_attributes,
        packed, arena, &attrs, err);

    if (status == TN_OK && tn_ms_child_any(ms, saved->initiated_id))
        status = tn_error_set(err, TN_EDATALOSS, "child %lld is kept twice",
                              (long long)saved->initiated_id);
    if (status == TN_OK) {
        tn_child *child;

        child_create(ms, saved->initiated_id, packed, attrs);
        child = TN_CONTAINER_OF(ms->children.prev, tn_child, link);
        child->started_id = saved->started_id;
        tn_ms_replace_str(ms, &child->run_id, tn_str_from(saved->run_id));
    }
    tn_arena_destroy(arena);
    return status == TN_OK ? TN_OK : TN_EDATALOSS;
}

/* ---- what is told of a child ----------------------------------------------------------------- */

static const tn_fault *find(tn_tx *tx, int64_t initiated_id, tn_child **out)
{
    if (!tn_ms_running(tx->ms))
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "workflow execution already completed");
    *out = tn_ms_child(tx->ms, initiated_id);
    if (!*out)
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "Pending child execution not found.");
    return NULL;
}

static initiated_attrs *unpack_initiated(tn_tx *tx, const tn_child *child)
{
    initiated_attrs *attrs = NULL;

    /* The fold or the load has read it before. */
    TN_ASSERT(
        TN_PROTO_UNPACK(
            temporal__api__history__v1__start_child_workflow_execution_initiated_event_attributes,
            child->attrs, tx->arena, &attrs, NULL) == TN_OK);
    return attrs;
}

static Temporal__Api__Common__V1__WorkflowExecution *execution_of(tn_tx *tx, const tn_child *child,
                                                                  tn_str run_id)
{
    Temporal__Api__Common__V1__WorkflowExecution *out =
        TN_MSG(tx->arena, temporal__api__common__v1__workflow_execution);

    out->workflow_id = tn_tx_text(tx, tn_str_from(child->workflow_id));
    out->run_id = tn_tx_text(tx, run_id);
    return out;
}

static void add_started(tn_tx *tx, tn_child *child, tn_str run_id)
{
    const initiated_attrs *initiated = unpack_initiated(tx, child);
    tn_event *event = tn_tx_event(
        tx, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED);
    Temporal__Api__History__V1__ChildWorkflowExecutionStartedEventAttributes *attrs =
        TN_EVENT_ATTRS(tx, event, CHILD_WORKFLOW_EXECUTION_STARTED,
                       child_workflow_execution_started);

    attrs->initiated_event_id = child->initiated_id;
    attrs->namespace_ = initiated->namespace_;
    attrs->namespace_id = initiated->namespace_id;
    attrs->workflow_execution = execution_of(tx, child, run_id);
    attrs->workflow_type = initiated->workflow_type;
    attrs->header = initiated->header;
    tn_tx_add(tx, event);
}

static bool has_started(const tn_child *child)
{
    return child->started_id || child->started_buffered;
}

const tn_fault *tn_machine_child_started(tn_tx *tx, int64_t initiated_id, tn_str run_id)
{
    tn_child *child;
    const tn_fault *fault = find(tx, initiated_id, &child);

    if (fault)
        return fault;
    if (has_started(child)) {
        if (child->run_id && tn_str_is(run_id, child->run_id))
            return NULL; /* told again */
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "Pending child execution not found.");
    }
    add_started(tx, child, run_id);
    tn_tx_schedule_wft(tx);
    return NULL;
}

const tn_fault *tn_machine_child_start_failed(tn_tx *tx, int64_t initiated_id, int32_t cause)
{
    Temporal__Api__History__V1__StartChildWorkflowExecutionFailedEventAttributes *attrs;
    const initiated_attrs *initiated;
    tn_child *child;
    const tn_fault *fault = find(tx, initiated_id, &child);
    tn_event *event;

    if (fault)
        return fault;
    if (has_started(child))
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "Pending child execution not found.");
    initiated = unpack_initiated(tx, child);
    event = tn_tx_event(
        tx, TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED);
    attrs = TN_EVENT_ATTRS(tx, event, START_CHILD_WORKFLOW_EXECUTION_FAILED,
                           start_child_workflow_execution_failed);
    attrs->initiated_event_id = initiated_id;
    attrs->namespace_ = initiated->namespace_;
    attrs->namespace_id = initiated->namespace_id;
    attrs->workflow_id = initiated->workflow_id;
    attrs->workflow_type = initiated->workflow_type;
    attrs->control = initiated->control;
    attrs->cause = (Temporal__Api__Enums__V1__StartChildWorkflowExecutionFailedCause)cause;
    tn_tx_add(tx, event);
    tn_tx_schedule_wft(tx);
    return NULL;
}

/* What all closing events of a child say alike. */
#define FILL_CLOSED(attrs) \
    do { \
        (attrs)->initiated_event_id = child->initiated_id; \
        (attrs)->started_event_id = child->started_id; \
        (attrs)->namespace_ = initiated->namespace_; \
        (attrs)->namespace_id = initiated->namespace_id; \
        (attrs)->workflow_execution = execution_of(tx, child, run_id); \
        (attrs)->workflow_type = initiated->workflow_type; \
    } while (0)

/* NULL: the closing event is none that a parent is told of. */
static tn_event *closed_event(tn_tx *tx, const tn_child *child, tn_str run_id,
                              const tn_event *close)
{
    const initiated_attrs *initiated = unpack_initiated(tx, child);
    tn_event *event = tn_tx_event(tx, 0);

    switch ((int)close->attributes_case) {
        CASE(WORKFLOW_EXECUTION_COMPLETED) :
        {
            Temporal__Api__History__V1__ChildWorkflowExecutionCompletedEventAttributes *attrs =
                TN_EVENT_ATTRS(tx, event, CHILD_WORKFLOW_EXECUTION_COMPLETED,
                               child_workflow_execution_completed);
            FILL_CLOSED(attrs);
            attrs->result = close->workflow_execution_completed_event_attributes->result;
            event->event_type =
                TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED;
            return event;
        }
        CASE(WORKFLOW_EXECUTION_FAILED) :
        {
            Temporal__Api__History__V1__ChildWorkflowExecutionFailedEventAttributes *attrs =
                TN_EVENT_ATTRS(tx, event, CHILD_WORKFLOW_EXECUTION_FAILED,
                               child_workflow_execution_failed);
            FILL_CLOSED(attrs);
            attrs->failure = close->workflow_execution_failed_event_attributes->failure;
            attrs->retry_state = close->workflow_execution_failed_event_attributes->retry_state;
            event->event_type =
                TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED;
            return event;
        }
        CASE(WORKFLOW_EXECUTION_CANCELED) :
        {
            Temporal__Api__History__V1__ChildWorkflowExecutionCanceledEventAttributes *attrs =
                TN_EVENT_ATTRS(tx, event, CHILD_WORKFLOW_EXECUTION_CANCELED,
                               child_workflow_execution_canceled);
            FILL_CLOSED(attrs);
            attrs->details = close->workflow_execution_canceled_event_attributes->details;
            event->event_type =
                TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED;
            return event;
        }
        CASE(WORKFLOW_EXECUTION_TIMED_OUT) :
        {
            Temporal__Api__History__V1__ChildWorkflowExecutionTimedOutEventAttributes *attrs =
                TN_EVENT_ATTRS(tx, event, CHILD_WORKFLOW_EXECUTION_TIMED_OUT,
                               child_workflow_execution_timed_out);
            FILL_CLOSED(attrs);
            attrs->retry_state = close->workflow_execution_timed_out_event_attributes->retry_state;
            event->event_type =
                TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT;
            return event;
        }
        CASE(WORKFLOW_EXECUTION_TERMINATED) :
        {
            Temporal__Api__History__V1__ChildWorkflowExecutionTerminatedEventAttributes *attrs =
                TN_EVENT_ATTRS(tx, event, CHILD_WORKFLOW_EXECUTION_TERMINATED,
                               child_workflow_execution_terminated);
            FILL_CLOSED(attrs);
            event->event_type =
                TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED;
            return event;
        }
    default:
        return NULL;
    }
}

const tn_fault *tn_machine_child_closed(tn_tx *tx, int64_t initiated_id, tn_str child_run_id,
                                        tn_str first_run_id, const tn_event *close_event)
{
    tn_child *child;
    const tn_fault *fault = find(tx, initiated_id, &child);
    tn_event *event;

    if (fault)
        return fault;
    if (first_run_id.n && has_started(child) && child->run_id &&
        !tn_str_is(first_run_id, child->run_id))
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "Pending child execution not found.");
    event = closed_event(tx, child, child_run_id, close_event);
    if (!event)
        return tn_fault_make(tx->arena, TN_GRPC_INVALID_ARGUMENT, "event %d does not close a child",
                             (int)close_event->event_type);
    if (!has_started(child)) {
        add_started(tx, child, first_run_id.n ? first_run_id : child_run_id);
        event =
            closed_event(tx, child, child_run_id, close_event); /* with the started event's id */
    }
    tn_tx_add(tx, event);
    tn_tx_schedule_wft(tx);
    return NULL;
}

void tn_describe_children(
    const tn_ms *ms, tn_arena *arena,
    Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *out)
{
    if (ms->n_children == 0)
        return;
    out->pending_children = TN_NEW_ARRAY(
        arena, Temporal__Api__Workflow__V1__PendingChildExecutionInfo *, ms->n_children);
    TN_ASSERT(out->pending_children);
    TN_LIST_FOREACH (link, &ms->children) {
        const tn_child *child = TN_CONTAINER_OF(link, tn_child, link);
        Temporal__Api__Workflow__V1__PendingChildExecutionInfo *info;

        if (child->closing)
            continue;
        info = TN_MSG(arena, temporal__api__workflow__v1__pending_child_execution_info);
        info->workflow_id = tn_arena_strdup(arena, child->workflow_id);
        info->run_id = tn_arena_strdup(arena, child->run_id ? child->run_id : "");
        info->workflow_type_name = tn_arena_strdup(arena, child->type);
        info->initiated_id = child->initiated_id;
        info->parent_close_policy =
            (Temporal__Api__Enums__V1__ParentClosePolicy)child->parent_close_policy;
        out->pending_children[out->n_pending_children++] = info;
    }
}
