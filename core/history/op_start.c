/* SPDX-License-Identifier: MIT */
/* Starting: id reuse and conflict policies, de-duplication by request id, signal-with-start, children.
 *
 * A start of an id that is not in memory reads nothing: it commits on the condition that there is no current run,
 * and only when that fails are the policies looked at. */
#include "history/object.h"

#include <stdlib.h>

#include "config/dynconfig.h"
#include "proto/proto.h"

typedef Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest start_request;
typedef Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionRequest sws_request;

enum { REUSE_ALLOW = 1, REUSE_FAILED_ONLY = 2, REUSE_REJECT = 3, REUSE_TERMINATE = 4 };
enum { CONFLICT_FAIL = 1, CONFLICT_USE = 2, CONFLICT_TERMINATE = 3 };

/* What a signal-with-start asks to be started. */
static start_request *start_of_signal(tn_arena *arena, const sws_request *s)
{
    start_request *r = TN_NEW(arena, start_request);
    temporal__api__workflowservice__v1__start_workflow_execution_request__init(r);
    r->namespace_ = s->namespace_;
    r->workflow_id = s->workflow_id;
    r->workflow_type = s->workflow_type;
    r->task_queue = s->task_queue;
    r->input = s->input;
    r->workflow_execution_timeout = s->workflow_execution_timeout;
    r->workflow_run_timeout = s->workflow_run_timeout;
    r->workflow_task_timeout = s->workflow_task_timeout;
    r->identity = s->identity;
    r->request_id = s->request_id;
    r->workflow_id_reuse_policy = s->workflow_id_reuse_policy;
    r->workflow_id_conflict_policy = s->workflow_id_conflict_policy;
    r->retry_policy = s->retry_policy;
    r->cron_schedule = s->cron_schedule;
    r->memo = s->memo;
    r->search_attributes = s->search_attributes;
    r->header = s->header;
    r->workflow_start_delay = s->workflow_start_delay;
    r->user_metadata = s->user_metadata;
    r->n_links = s->n_links;
    r->links = s->links;
    r->versioning_override = s->versioning_override;
    r->priority = s->priority;
    return r;
}

static void respond(tn_hreq *req, const char *run_id, const char *first_run_id, bool started,
                    int32_t status)
{
    char *id = tn_arena_strdup(req->arena, run_id);
    char *first = first_run_id && *first_run_id ? tn_arena_strdup(req->arena, first_run_id) : id;
    if (req->op == TN_HOP_SIGNAL_WITH_START) {
        Temporal__Api__Workflowservice__V1__SignalWithStartWorkflowExecutionResponse *out =
            tn_arena_alloc(req->arena, sizeof(*out));
        temporal__api__workflowservice__v1__signal_with_start_workflow_execution_response__init(
            out);
        out->run_id = id;
        out->first_execution_run_id = first;
        out->started = started;
        out->signal_link = tn_link_to_request(
            req, run_id, ((const sws_request *)req->request)->request_id,
            TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED);
        req->response = &out->base;
        return;
    }
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionResponse *out =
        tn_arena_alloc(req->arena, sizeof(*out));
    temporal__api__workflowservice__v1__start_workflow_execution_response__init(out);
    out->run_id = id;
    out->first_execution_run_id = first;
    out->started = started;
    out->status = (Temporal__Api__Enums__V1__WorkflowExecutionStatus)status;
    out->link = tn_link_to_start(req, run_id);
    req->response = &out->base;
}

static void eager_read(tn_hreq *req, const tn_fault *fault, void *user)
{
    /* Without its history the task is of no use: the run goes on when it times out. */
    if (!fault)
        ((Temporal__Api__Workflowservice__V1__StartWorkflowExecutionResponse *)(void *)
             req->response)
            ->eager_workflow_task = user;
    tn_req_finish(req, NULL);
}

static void started(tn_txn *txn)
{
    tn_run *run = txn->changes[txn->n_changes - 1].run;
    tn_ms *ms = run->ms;
    if (txn->req->op == TN_HOP_UPDATE_WITH_START) {
        tn_update_start_started(txn, run);
        return;
    }
    respond(txn->req, ms->run_id_text, ms->first_run_id, true, ms->status ? ms->status : 1);
    if (!txn->user || !ms->wft.started_id)
        return;
    ms->wft.started_durable = ms->wft.dispatched = true;
    tn_arena_set_limit(txn->req->arena, 0);
    Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse *task =
        tn_wft_response(run, txn->req->arena, txn->ns->name);
    txn->keep_req = true;
    tn_wft_history(run, txn->req, false, task, eager_read, task);
}

/* The caller has a worker at hand: the first workflow task goes out with the answer, started in the same commit. */
static bool wants_eager_task(const tn_hreq *req, const start_request *request)
{
    return req->op == TN_HOP_START && req->call && request->request_eager_execution &&
           !*request->cron_schedule && !tn_duration_ns(request->workflow_start_delay) &&
           tn_dyn_bool(TN_DYN_SYSTEM_EAGER_START, req->ns->name, TN_STR(""));
}

static const tn_fault *start_eager_task(tn_txn *txn, tn_tx *tx, const start_request *request)
{
    tn_poller poller = {.identity = tn_str_from(request->identity),
                        .request_id = tn_str_from(request->request_id)};
    tn_poller_set_version(&poller, txn->ns, tx->ms, true, request->eager_worker_deployment_options);
    const tn_fault *fault =
        tn_machine_wft_start(tx, tx->ms->wft.scheduled_id, tx->ms->wft.stamp, &poller);
    tx->rides_along = false; /* it is part of the run's first record */
    txn->user = tx;
    return fault;
}

/* One JSON payload. */
static Temporal__Api__Common__V1__Payloads *json_text(tn_arena *arena, char *json)
{
    Temporal__Api__Common__V1__Payload__MetadataEntry *meta =
        TN_NEW(arena, Temporal__Api__Common__V1__Payload__MetadataEntry);
    temporal__api__common__v1__payload__metadata_entry__init(meta);
    meta->key = (char *)"encoding";
    meta->value = (ProtobufCBinaryData){10, (uint8_t *)(uintptr_t) "json/plain"};
    Temporal__Api__Common__V1__Payload *payload = TN_NEW(arena, Temporal__Api__Common__V1__Payload);
    temporal__api__common__v1__payload__init(payload);
    payload->n_metadata = 1;
    payload->metadata = TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__Payload__MetadataEntry *, 1);
    payload->metadata[0] = meta;
    payload->data = (ProtobufCBinaryData){strlen(json), (uint8_t *)json};
    Temporal__Api__Common__V1__Payloads *payloads =
        TN_NEW(arena, Temporal__Api__Common__V1__Payloads);
    temporal__api__common__v1__payloads__init(payloads);
    payloads->n_payloads = 1;
    payloads->payloads = TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__Payload *, 1);
    payloads->payloads[0] = payload;
    return payloads;
}

/* terminate_run: the running one that gives way, or NULL. */
static void create(tn_wf *wf, tn_hreq *req, const start_request *request, tn_run *terminate_run)
{
    uint8_t run_id[16];
    tn_txn *txn = tn_txn_begin(wf, req);
    tn_uuid_v7(&txn->hl->rng, tn_now_wall_ns(), run_id);
    const tn_fault *fault = NULL;
    if (terminate_run) {
        char text[37];
        tn_uuid_format(run_id, text);
        Temporal__Api__Common__V1__Payloads *details = json_text(
            txn->arena, tn_arena_printf(txn->arena, "\"terminated by new runID: %s\"", text));
        fault = tn_machine_terminate(tn_txn_change(txn, terminate_run),
                                     TN_STR("TerminateIfRunning WorkflowIdReusePolicy"), details,
                                     TN_STR("history-service"));
    }
    tn_ms *ms = tn_ms_create(tn_str_from(wf->ns_id), tn_str_from(wf->workflow_id), run_id);
    tn_run *run = tn_run_create(wf, ms);
    tn_tx *tx = tn_txn_change(txn, run);
    txn->changes[txn->n_changes - 1].created = true;
    tn_start start = {.request = request};
    if (req->op == TN_HOP_SIGNAL_WITH_START)
        start.signal = (const sws_request *)req->request;
    const tn_parent_ref *parent = req->op == TN_HOP_START ? req->u.start.parent : NULL;
    if (parent && parent->workflow_id.n && parent->workflow_id.p[0] == TN_OBJECT_MARK) {
        tn_ms_set_owner(ms, parent->workflow_id, parent->run_id, (uint64_t)parent->initiated_id);
        parent = NULL;
    }
    if (parent) {
        start.parent_ns_id = parent->ns_id;
        start.parent_ns_name = parent->ns_name;
        start.parent_workflow_id = parent->workflow_id;
        start.parent_run_id = parent->run_id;
        start.root_workflow_id = parent->root_workflow_id;
        start.root_run_id = parent->root_run_id;
        start.parent_initiated_id = parent->initiated_id;
        start.parent_pinned = parent->pinned;
        start.parent_upgrade = parent->upgrade;
        start.parent_upgrade_revision = parent->upgrade_revision;
        start.hold = true;
    }
    start.eager = !parent && wants_eager_task(req, request);
    if (!fault)
        fault = tn_machine_start(tx, &start);
    if (ms->owner)
        tx->extras_dirty = true; /* no event says so */
    if (!fault && req->op == TN_HOP_UPDATE_WITH_START)
        fault = tn_update_start_admit(req, tx);
    if (!fault && start.eager)
        fault = start_eager_task(txn, tx, request);
    if (fault) {
        if (terminate_run) { /* its memory is ahead of the store */
            terminate_run->doomed = true;
            tn_iop_send(tn_iop_create(wf, terminate_run->run_id, TN_IOP_WAKE));
        }
        tn_txn_abandon(txn, fault);
        return;
    }
    tn_ms_set_create_request_id(ms, tn_str_from(request->request_id));
    txn->after = started;
    tn_txn_commit(txn, NULL);
}

static void signaled(tn_txn *txn)
{
    if (txn->fault)
        return;
    tn_ms *ms = txn->changes[0].run->ms;
    respond(txn->req, ms->run_id_text, ms->first_run_id, false, ms->status);
}

static void signal_running(tn_wf *wf, tn_hreq *req, tn_run *run)
{
    const sws_request *s = (const sws_request *)req->request;
    tn_txn *txn = tn_txn_begin(wf, req);
    const tn_fault *fault = tn_machine_signal_with_start(tn_txn_change(txn, run), s);
    txn->after = signaled;
    tn_txn_commit(txn, fault);
}

static void attached(tn_txn *txn)
{
    if (txn->fault)
        return;
    tn_ms *ms = txn->changes[0].run->ms;
    respond(txn->req, ms->run_id_text, ms->first_run_id, false, 1);
    if (txn->user)
        ((Temporal__Api__Workflowservice__V1__StartWorkflowExecutionResponse *)(void *)
             txn->req->response)
            ->link = tn_link_to_request(
            txn->req, ms->run_id_text, txn->user,
            TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED);
}

static void use_existing(tn_wf *wf, tn_hreq *req, const start_request *request)
{
    tn_run *run = tn_run_find(wf, wf->current_run_id);
    if (!run) {
        tn_load_run(wf, wf->current_run_id, req);
        return;
    }
    const Temporal__Api__Workflow__V1__OnConflictOptions *options = request->on_conflict_options;
    tn_txn *txn = tn_txn_begin(wf, req);
    const tn_fault *fault = NULL;
    tn_tx *tx = tn_txn_change(txn, run);
    if (options)
        fault = tn_machine_attach(tx, request);
    if (options && options->attach_request_id)
        txn->user = request->request_id;
    txn->after = attached;
    tn_txn_commit(txn, fault);
}

static bool failed_status(int32_t status)
{
    return status == 3 || status == 4 || status == 5 || status == 7;
}

static void start_over_closed(tn_wf *wf, tn_hreq *req, const start_request *request)
{
    switch ((int)request->workflow_id_reuse_policy) {
    case REUSE_REJECT:
        tn_req_finish(
            req, tn_fault_already_started(
                     req->arena, wf,
                     "Workflow execution already finished. WorkflowId: %s, RunId: %s. Workflow Id "
                     "reuse policy: reject duplicate workflow Id."));
        return;
    case REUSE_FAILED_ONLY:
        if (!failed_status(wf->current_status)) {
            tn_req_finish(
                req,
                tn_fault_already_started(
                    req->arena, wf,
                    "Workflow execution already finished successfully. WorkflowId: %s, RunId: %s. "
                    "Workflow Id reuse policy: allow duplicate workflow Id if last run failed."));
            return;
        }
        break;
    default:
        break;
    }
    create(wf, req, request, NULL);
}

/* The same call again, which used the running run before, whatever its policy says. */
static bool was_attached(const tn_run *run, tn_hreq *req, const start_request *request)
{
    const tn_ms *ms = run->ms;
    if (req->op != TN_HOP_START || !*request->request_id ||
        !tn_ms_has_request_id(ms, tn_str_from(request->request_id)))
        return false;
    respond(req, ms->run_id_text, ms->first_run_id, false, ms->status);
    ((Temporal__Api__Workflowservice__V1__StartWorkflowExecutionResponse *)(void *)req->response)
        ->link = tn_link_to_request(
        req, ms->run_id_text, request->request_id,
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED);
    tn_req_finish(req, NULL);
    return true;
}

static void start_over_running(tn_wf *wf, tn_hreq *req, const start_request *request)
{
    int conflict = (int)request->workflow_id_conflict_policy;
    const tn_run *current = tn_run_find(wf, wf->current_run_id);
    if (!current) {
        tn_load_run(wf, wf->current_run_id, req);
        return;
    }
    if (was_attached(current, req, request))
        return;
    if (conflict == CONFLICT_USE && req->op == TN_HOP_START) {
        use_existing(wf, req, request);
        return;
    }
    if (conflict == CONFLICT_TERMINATE ||
        (conflict == CONFLICT_USE && req->op == TN_HOP_SIGNAL_WITH_START)) {
        tn_run *run = tn_run_find(wf, wf->current_run_id);
        if (!run)
            tn_load_run(wf, wf->current_run_id, req);
        else if (conflict == CONFLICT_TERMINATE)
            create(wf, req, request, run);
        else
            signal_running(wf, req, run);
        return;
    }
    tn_req_finish(req, tn_fault_already_started(
                           req->arena, wf,
                           "Workflow execution is already running. WorkflowId: %s, RunId: %s."));
}

/* Nothing may begin any more where everything is being deleted. */
static bool namespace_is_deleted(const tn_hreq *req)
{
    const tn_namespace *now = tn_namespace_by_id(req->ns->id);
    bool deleted = !now || now->reclaim;
    tn_namespace_unref(now);
    return deleted;
}

void tn_op_start(tn_wf *wf, tn_hreq *req)
{
    if (namespace_is_deleted(req)) {
        tn_req_finish(req, tn_namespace_not_found(req->arena, req->ns->name));
        return;
    }
    const start_request *request =
        req->op == TN_HOP_SIGNAL_WITH_START
            ? start_of_signal(req->arena, (const sws_request *)req->request)
        : req->op == TN_HOP_UPDATE_WITH_START ? tn_update_start_request(req)
                                              : (const start_request *)req->request;
    if (!wf->current_known || !wf->current_exists) {
        create(wf, req, request, NULL);
        return;
    }
    if (wf->current_request_id && *request->request_id &&
        strcmp(wf->current_request_id, request->request_id) == 0) {
        char run_id[37];
        tn_uuid_format(wf->current_run_id, run_id);
        respond(req, run_id, wf->current_first_run_id, req->op == TN_HOP_START, wf->current_status);
        tn_req_finish(req, NULL);
        return;
    }
    if (wf->current_status == 1)
        start_over_running(wf, req, request);
    else
        start_over_closed(wf, req, request);
}
