/* SPDX-License-Identifier: MIT */
/* The run that follows: continue-as-new, retry of a failed run, next run of a cron schedule.
 * Its first transition is made together with the closing one and committed with it. */
#include "history/machine/machine.h"

#include <string.h>

#include "history/machine/nexus.h"
#include "history/machine/object.h"
#include "history/machine/priv.h"
#include "proto/proto.h"

/* temporal.api.enums.v1.ContinueAsNewInitiator */
#define BY_WORKFLOW 1
#define BY_RETRY 2
#define BY_CRON 3

typedef Temporal__Api__Command__V1__ContinueAsNewWorkflowExecutionCommandAttributes continue_attrs;

static void new_run_id(tn_tx *tx, char out[37])
{
    uint8_t id[16];

    tn_uuid_v7(tx->rng, tx->now_ns, id);
    tn_uuid_format(id, out);
}

static const tn_started_attrs *started_of(tn_tx *tx)
{
    tn_started_attrs *a;

    TN_ASSERT(
        TN_PROTO_UNPACK(temporal__api__history__v1__workflow_execution_started_event_attributes,
                        tx->ms->started, tx->arena, &a, NULL) == TN_OK);
    return a;
}

/* Runs that end at once must not spin: from the first workflow task of one run to that of the
 * next, a second at least. */
static uint64_t min_backoff_ns(const tn_tx *tx, uint64_t backoff_ns)
{
    const tn_ms *ms = tx->ms;
    uint64_t since_ns =
        ms->first_wft_backoff_until_ns ? ms->first_wft_backoff_until_ns : ms->start_ns;
    uint64_t lived_ns = tx->now_ns > since_ns ? tx->now_ns - since_ns : 0;
    uint64_t min_ns = tx->env->limits->reuse_interval_min_ns;

    return lived_ns + backoff_ns < min_ns ? min_ns - lived_ns : backoff_ns;
}

/* What the next run has of the one before, whatever made it. */
static void inherit(tn_tx *tx, tn_tx *next, tn_started_attrs *a)
{
    const tn_ms *ms = tx->ms;
    uint64_t at_ns = tn_tx_event_time(tx);

    a->workflow_id = next->ms->workflow_id;
    a->original_execution_run_id = next->ms->run_id_text;
    a->first_execution_run_id = (char *)(uintptr_t)ms->first_run_id;
    a->continued_execution_run_id = (char *)(uintptr_t)ms->run_id_text;
    if (ms->execution_timeout_ns)
        a->workflow_execution_timeout =
            tn_duration_from_ns(tx->arena, (int64_t)ms->execution_timeout_ns);
    if (ms->execution_expire_ns)
        a->workflow_execution_expiration_time =
            tn_ts_from_ns(tx->arena, (int64_t)ms->execution_expire_ns);
    if (ms->parent.workflow_id) {
        a->parent_workflow_namespace_id = ms->parent.ns_id;
        a->parent_workflow_namespace = ms->parent.ns_name;
        a->parent_workflow_execution =
            TN_MSG(tx->arena, temporal__api__common__v1__workflow_execution);
        a->parent_workflow_execution->workflow_id = ms->parent.workflow_id;
        a->parent_workflow_execution->run_id = ms->parent.run_id;
        a->parent_initiated_event_id = ms->parent.initiated_id;
        a->root_workflow_execution =
            TN_MSG(tx->arena, temporal__api__common__v1__workflow_execution);
        a->root_workflow_execution->workflow_id =
            ms->parent.root_workflow_id ? ms->parent.root_workflow_id : ms->workflow_id;
        a->root_workflow_execution->run_id =
            ms->parent.root_run_id ? ms->parent.root_run_id : (char *)(uintptr_t)ms->run_id_text;
    }
    a->prev_auto_reset_points = tn_ms_reset_points(ms, tx->arena);
    if (!a->prev_auto_reset_points)
        a->prev_auto_reset_points = TN_MSG(tx->arena, temporal__api__workflow__v1__reset_points);
    for (size_t i = 0; i < a->prev_auto_reset_points->n_points; i++) {
        Temporal__Api__Workflow__V1__ResetPointInfo *p = a->prev_auto_reset_points->points[i];

        if (strcmp(p->run_id, ms->run_id_text) == 0)
            p->expire_time = tn_ts_from_ns(tx->arena, (int64_t)(at_ns + tx->env->retention_ns));
    }
}

static tn_tx *make_next(tn_tx *tx, const char *run_id)
{
    tn_tx *next = tn_tx_alloc(tx, sizeof(*next));
    uint8_t id[16];
    tn_ms *ms;

    TN_ASSERT(tn_uuid_parse(tn_str_from(run_id), id));
    ms = tn_ms_create(tn_str_from(tx->ms->ns_id), tn_str_from(tx->ms->workflow_id), id);
    /* The next run starts when this one ends, by this run's clock too. */
    tn_tx_init(next, ms, tx->env, tx->arena, tn_tx_event_time(tx), tx->rng);
    if (tx->ms->owner)
        tn_ms_set_owner(ms, tn_str_from(tx->ms->owner), tn_str_from(tx->ms->owner_run_id),
                        tx->ms->owner_ref);
    tx->next_run = next;
    return next;
}

static void begin(tn_tx *tx, tn_tx *next, tn_event *event)
{
    tn_event *extra;
    char request_id[37];
    uint8_t id[16];

    TN_ASSERT(TN_PROTO_UNPACK(temporal__api__history__v1__history_event, tx->ms->start_extra,
                              tx->arena, &extra, NULL) == TN_OK);
    event->n_links = extra->n_links;
    event->links = extra->links;
    tn_tx_add(next, event);
    tn_uuid_v4(tx->rng, id);
    tn_uuid_format(id, request_id);
    tn_ms_set_create_request_id(next->ms, tn_str_from(request_id));
    tn_tx_schedule_wft(next);
    if (next->ms->owner)
        next->extras_dirty = true; /* no event says so */
}

/* ---- retry and cron -------------------------------------------------------------------------- */

static void next_like_this(tn_tx *tx, const char *run_id, int32_t initiator, uint64_t backoff_ns,
                           const Temporal__Api__Failure__V1__Failure *failure,
                           const Temporal__Api__Common__V1__Payloads *last_result)
{
    const tn_started_attrs *from = started_of(tx);
    tn_heritage heritage;
    tn_tx *next = make_next(tx, run_id);
    tn_event *event = tn_tx_event(next, 1);
    tn_started_attrs *a =
        TN_EVENT_ATTRS(next, event, WORKFLOW_EXECUTION_STARTED, workflow_execution_started);

    inherit(tx, next, a);
    a->workflow_type = from->workflow_type;
    a->task_queue = TN_MSG(tx->arena, temporal__api__taskqueue__v1__task_queue);
    a->task_queue->name = from->task_queue->name;
    a->task_queue->kind = 1;
    a->workflow_run_timeout = from->workflow_run_timeout;
    a->workflow_task_timeout = from->workflow_task_timeout;
    a->input = from->input;
    a->header = from->header;
    a->retry_policy = from->retry_policy;
    a->cron_schedule = from->cron_schedule;
    a->memo = from->memo;
    a->search_attributes = from->search_attributes;
    a->priority = tn_machine_priority(tx->ms, tx->arena);
    tn_ms_heritage_of_retried(tx->ms, tx->arena, from->inherited_pinned_version != NULL,
                              initiator == BY_RETRY, &heritage);
    tn_heritage_put(tx->arena, &heritage, a);
    if (initiator == BY_RETRY && from->declined_target_version_upgrade)
        a->declined_target_version_upgrade = from->declined_target_version_upgrade;
    a->completion_callbacks = tn_callbacks_list(tx->ms, tx->arena, &a->n_completion_callbacks);
    a->initiator = (Temporal__Api__Enums__V1__ContinueAsNewInitiator)initiator;
    a->attempt = initiator == BY_RETRY ? tx->ms->attempt + 1 : 1;
    a->continued_failure = (Temporal__Api__Failure__V1__Failure *)(uintptr_t)failure;
    a->last_completion_result = (Temporal__Api__Common__V1__Payloads *)(uintptr_t)last_result;
    a->first_workflow_task_backoff =
        tn_duration_from_ns(tx->arena, (int64_t)min_backoff_ns(tx, backoff_ns));
    begin(tx, next, event);
}

bool tn_tx_next_by_retry_or_cron(tn_tx *tx, int32_t close_status,
                                 const Temporal__Api__Failure__V1__Failure *failure,
                                 const Temporal__Api__Common__V1__Payloads *result,
                                 char out_new_run_id[37], int32_t *out_retry_state)
{
    tn_ms *ms = tx->ms;
    bool completed = close_status == 2, timed_out = close_status == 7;
    uint64_t backoff_ns = UINT64_MAX, executed_ns;
    int32_t initiator = BY_RETRY;

    out_new_run_id[0] = '\0';
    if (!completed) {
        *out_retry_state = 5; /* RETRY_POLICY_NOT_SET */
        if (ms->retry.present)
            backoff_ns = tn_retry_backoff_ns(&ms->retry, ms->attempt, tx->now_ns,
                                             ms->execution_expire_ns, failure, out_retry_state);
    }
    if (backoff_ns == UINT64_MAX) {
        initiator = BY_CRON;
        executed_ns =
            ms->first_wft_backoff_until_ns ? ms->first_wft_backoff_until_ns : ms->start_ns;
        backoff_ns = tn_cron_backoff_ns(ms->cron_schedule, executed_ns, tx->now_ns);
    }
    if (backoff_ns == UINT64_MAX)
        return false;
    new_run_id(tx, out_new_run_id);
    if (!completed && (timed_out || initiator == BY_CRON))
        result = started_of(tx)->last_completion_result;
    else if (!completed)
        result = NULL;
    next_like_this(tx, out_new_run_id, initiator, backoff_ns, completed ? NULL : failure, result);
    return true;
}

/* ---- continue as new ------------------------------------------------------------------------- */

const tn_fault *tn_tx_next_by_command(tn_tx *tx, const continue_attrs *attrs,
                                      char out_new_run_id[37])
{
    const tn_started_attrs *from = started_of(tx);
    tn_heritage heritage;
    tn_tx *next;
    tn_event *event;
    tn_started_attrs *a;
    int32_t initiator = attrs->initiator ? (int32_t)attrs->initiator : BY_WORKFLOW;
    uint64_t backoff_ns, wanted_ns = tn_duration_ns(attrs->backoff_start_interval);

    new_run_id(tx, out_new_run_id);
    next = make_next(tx, out_new_run_id);
    event = tn_tx_event(next, 1);
    a = TN_EVENT_ATTRS(next, event, WORKFLOW_EXECUTION_STARTED, workflow_execution_started);
    inherit(tx, next, a);
    a->workflow_type = attrs->workflow_type ? attrs->workflow_type : from->workflow_type;
    a->task_queue = TN_MSG(tx->arena, temporal__api__taskqueue__v1__task_queue);
    a->task_queue->name = attrs->task_queue && attrs->task_queue->name && *attrs->task_queue->name
                              ? attrs->task_queue->name
                              : tx->ms->task_queue;
    a->task_queue->kind = 1;
    a->workflow_run_timeout = attrs->workflow_run_timeout;
    a->workflow_task_timeout = tn_duration_ns(attrs->workflow_task_timeout)
                                   ? attrs->workflow_task_timeout
                                   : from->workflow_task_timeout;
    a->input = attrs->input;
    a->header = attrs->header;
    a->retry_policy = attrs->retry_policy;
    a->cron_schedule = attrs->cron_schedule;
    a->memo = tn_memo_without_nil(tx->arena, attrs->memo);
    a->search_attributes = tn_attrs_without_nil(tx->arena, attrs->search_attributes);
    a->priority = tn_machine_priority(tx->ms, tx->arena);
    tn_ms_heritage_of_continued(tx->ms, tx->arena, tn_str_from(a->task_queue->name),
                                (int32_t)attrs->initial_versioning_behavior,
                                tx->env->queue_in_version, tx->env->user, &heritage);
    tn_heritage_put(tx->arena, &heritage, a);
    a->completion_callbacks = tn_callbacks_list(tx->ms, tx->arena, &a->n_completion_callbacks);
    a->last_completion_result = attrs->last_completion_result;
    a->continued_failure = attrs->failure;
    a->initiator = (Temporal__Api__Enums__V1__ContinueAsNewInitiator)initiator;
    a->attempt = initiator == BY_RETRY ? tx->ms->attempt + 1 : 1;
    backoff_ns = min_backoff_ns(tx, wanted_ns);
    if (backoff_ns || attrs->backoff_start_interval)
        a->first_workflow_task_backoff = tn_duration_from_ns(tx->arena, (int64_t)backoff_ns);
    begin(tx, next, event);
    return NULL;
}
