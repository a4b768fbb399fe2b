/* SPDX-License-Identifier: MIT */
/* The options of a run that a client may change while it runs.  Each option is merged by a function of its own; one
 * event says all that is in force afterwards. */
#include "history/machine/machine.h"

#include <string.h>

#include "history/machine/priv.h"
#include "proto/proto.h"

typedef Temporal__Api__Workflow__V1__WorkflowExecutionOptions run_options;
typedef Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionOptionsRequest update_request;
typedef Temporal__Api__Common__V1__Priority priority_msg;

#define STARTED_PRIORITY 35 /* field number in the started event's attributes */

/* ---- priority -------------------------------------------------------------------------------- */

priority_msg *tn_ms_priority(const tn_ms *ms, tn_arena *arena)
{
    priority_msg *priority;
    tn_wire_field field;
    tn_blob packed = ms->priority;

    if (!packed.n) {
        if (!tn_wire_find(ms->started, STARTED_PRIORITY, &field))
            return NULL;
        packed = field.bytes;
    }
    if (TN_PROTO_UNPACK(temporal__api__common__v1__priority, tn_arena_blob(arena, packed), arena,
                        &priority, NULL) != TN_OK)
        return NULL;
    return priority;
}

static bool same_priority(const priority_msg *a, const priority_msg *b)
{
    if (!a || !b)
        return a == b;
    return a->priority_key == b->priority_key && a->fairness_weight == b->fairness_weight &&
           strcmp(a->fairness_key, b->fairness_key) == 0;
}

static bool merge_priority(tn_arena *arena, const update_request *request, run_options *into)
{
    const Google__Protobuf__FieldMask *mask = request->update_mask;
    const priority_msg none = TEMPORAL__API__COMMON__V1__PRIORITY__INIT,
                       *from = request->workflow_execution_options->priority, *was = into->priority;
    priority_msg *to = TN_MSG(arena, temporal__api__common__v1__priority);

    if (tn_mask_has(mask, "priority"))
        into->priority = (priority_msg *)(uintptr_t)from;
    if (into->priority)
        *to = *into->priority;
    if (!from)
        from = &none;
    if (tn_mask_has(mask, "priority.priority_key")) {
        to->priority_key = from->priority_key;
        into->priority = to;
    }
    if (tn_mask_has(mask, "priority.fairness_key")) {
        to->fairness_key = from->fairness_key;
        into->priority = to;
    }
    if (tn_mask_has(mask, "priority.fairness_weight")) {
        to->fairness_weight = from->fairness_weight;
        into->priority = to;
    }
    return !same_priority(was, into->priority);
}

/* ---- versioning override --------------------------------------------------------------------- */

static const tn_fault *partial(tn_arena *arena, const Google__Protobuf__FieldMask *mask)
{
    bool behavior = tn_mask_has(mask, "versioning_override.behavior");

    if (behavior != tn_mask_has(mask, "versioning_override.deployment"))
        return tn_fault_make(
            arena, TN_GRPC_INVALID_ARGUMENT,
            "error applying update_options: versioning_override fields must be updated together");
    for (size_t i = 0; i < mask->n_paths; i++)
        if (strncmp(mask->paths[i], "versioning_override.", 20) == 0 &&
            strcmp(mask->paths[i] + 20, "behavior") != 0 &&
            strcmp(mask->paths[i] + 20, "deployment") != 0)
            return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                                 "error applying update_options: versioning_override doesn't "
                                 "support partial updates");
    return NULL;
}

/* "Pinned" without a version means: to the one that it is pinned to already. */
static const tn_fault *complete(tn_tx *tx, tn_override *override)
{
    static const char *const names[] = {"Unspecified", "Pinned", "AutoUpgrade"};
    tn_dver now = tn_ms_version(tx->ms);

    if (override->override_case !=
            TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_PINNED ||
        override->pinned->version)
        return NULL;
    if (tn_ms_behavior(tx->ms) != TN_BEHAVIOR_PINNED)
        return tn_fault_make(tx->arena, TN_GRPC_FAILED_PRECONDITION,
                             "must specify a specific pinned override version because workflow "
                             "with id %s has behavior "
                             "%s and is not yet pinned to any version",
                             tx->ms->workflow_id, names[tn_ms_behavior(tx->ms)]);
    override->pinned->version =
        TN_MSG(tx->arena, temporal__api__deployment__v1__worker_deployment_version);
    override->pinned->version->deployment_name = tn_tx_text(tx, now.deployment);
    override->pinned->version->build_id = tn_tx_text(tx, now.build_id);
    return NULL;
}

static const tn_fault *merge_override(tn_tx *tx, const update_request *request, run_options *into,
                                      bool *changed)
{
    const Google__Protobuf__FieldMask *mask = request->update_mask;
    const tn_fault *fault = partial(tx->arena, mask);
    tn_override *was = into->versioning_override;
    tn_dver target;

    if (fault)
        return fault;
    if (!tn_mask_has(mask, "versioning_override") &&
        !tn_mask_has(mask, "versioning_override.behavior"))
        return NULL;
    into->versioning_override =
        tn_override_settle(tx->arena, request->workflow_execution_options->versioning_override);
    if (!into->versioning_override) {
        *changed = *changed || was;
        return NULL;
    }
    fault = complete(tx, into->versioning_override);
    if (fault)
        return fault;
    target = tn_override_target(into->versioning_override);
    if (tn_dver_is(target) && tx->env->queue_in_version &&
        !tx->env->queue_in_version(tx->env->user, tx->env->ns_id, tn_str_from(tx->ms->task_queue),
                                   target))
        return tn_fault_make(tx->arena, TN_GRPC_FAILED_PRECONDITION,
                             "Pinned version '" TN_STR_FMT ":" TN_STR_FMT
                             "' is not present in task queue '%s' of type 'Workflow'",
                             TN_STR_ARG(target.deployment), TN_STR_ARG(target.build_id),
                             tx->ms->task_queue);
    *changed = *changed || !was || !tn_proto_equal(&was->base, &into->versioning_override->base);
    return NULL;
}

/* ---- all of them ----------------------------------------------------------------------------- */

void tn_ms_note_options(tn_ms *ms, const tn_event *event)
{
    const Temporal__Api__History__V1__WorkflowExecutionOptionsUpdatedEventAttributes *a =
        event->workflow_execution_options_updated_event_attributes;
    tn_buf packed = {0};

    tn_versioning_override(ms, a->versioning_override, a->unset_versioning_override);
    if (!a->priority)
        return;
    TN_ASSERT(tn_proto_pack_buf(&a->priority->base, &packed) == TN_OK);
    if (!packed.n) /* a priority that says nothing is one, too: its first field, written out */
        tn_buf_put(&packed, "\x08\x00", 2);
    tn_ms_replace_blob(ms, &ms->priority, tn_buf_blob(&packed));
    tn_buf_done(&packed);
}

static run_options *options_now(const tn_ms *ms, tn_arena *arena)
{
    run_options *now = TN_MSG(arena, temporal__api__workflow__v1__workflow_execution_options);

    now->priority = tn_ms_priority(ms, arena);
    now->versioning_override = tn_ms_override(ms, arena);
    return now;
}

const tn_fault *tn_machine_update_options(tn_tx *tx, const update_request *request,
                                          run_options **out)
{
    Temporal__Api__History__V1__WorkflowExecutionOptionsUpdatedEventAttributes *a;
    run_options *merged;
    const tn_fault *fault;
    tn_event *event;
    uint64_t version_changes;
    bool changed;

    if (!tn_ms_running(tx->ms))
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "workflow execution already completed");
    merged = options_now(tx->ms, tx->arena);
    changed = merge_priority(tx->arena, request, merged);
    fault = merge_override(tx, request, merged, &changed);
    if (fault)
        return fault;
    *out = merged;
    if (!changed)
        return NULL;
    event = tn_tx_event(tx, 55);
    event->worker_may_ignore = true;
    a = TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_OPTIONS_UPDATED,
                       workflow_execution_options_updated);
    a->versioning_override = merged->versioning_override;
    a->unset_versioning_override = !merged->versioning_override;
    a->priority = merged->priority;
    a->identity = request->identity;
    version_changes = tn_ms_version_changes(tx->ms);
    tn_tx_add(tx, event);
    if (tn_ms_version_changes(tx->ms) == version_changes)
        return NULL;
    tn_ms_offer_again(tx->ms, true);
    tx->extras_dirty = tx->visibility_dirty = true;
    return NULL;
}
