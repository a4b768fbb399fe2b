/* SPDX-License-Identifier: MIT */
/* What a run wants of the world after a commit: tasks to matching, starts, signals and cancels to other runs, word to
 * its parent, the parent close policy, its next deadline.  All of it can be repeated: until
 * the answer is recorded the state goes on wanting it, and after a restart it is done again. */
#include "history/nexus.h"
#include "history/object.h"

#include "proto/proto.h"

#define RETRY_NS TN_SEC

/* ---- tasks to matching ---- */

typedef struct offer {
    tn_mreq mreq;
    char *ns_id, *workflow_id;
    uint8_t run_id[16];
    tn_shard *shard;
    tn_want want;
} offer;

/* Refused, the task is offered again on credit, or when members change; that nobody answered may be the network's doing, of
 * which no more will be heard, and so it is asked again.  Should both have arrived, the one with the older stamp is stale. */
static void not_taken(offer *o)
{
    tn_mreq *mreq = &o->mreq;
    tn_wf *wf = tn_wf_get(o->shard, tn_str_from(o->ns_id), tn_str_from(o->workflow_id));
    if (mreq->sticky) {
        tn_iop *iop = tn_iop_create(wf, o->run_id, TN_IOP_UNSTICK);
        iop->nonce = mreq->task.stamp;
        tn_wf_enqueue(wf, &iop->req);
        return;
    }
    tn_run *run = tn_run_find(wf, o->run_id);
    if (run && o->want == TN_WANT_WFT && run->ms->wft.stamp == mreq->task.stamp)
        run->ms->wft.dispatched = false;
    tn_activity *activity = run && o->want == TN_WANT_ACTIVITY
                                ? tn_ms_activity(run->ms, mreq->task.scheduled_id)
                                : NULL;
    if (activity && activity->stamp == mreq->task.stamp)
        activity->dispatched = false;
    if (mreq->fault)
        tn_iop_send_later(tn_iop_create(wf, o->run_id, TN_IOP_WAKE), RETRY_NS);
    else
        o->shard->rejected = true;
    tn_wf_maybe_drop(wf);
}

static void offered(tn_mreq *mreq)
{
    offer *o = TN_CONTAINER_OF(mreq, offer, mreq);
    if (mreq->accepted && mreq->match) {
        tn_direct_serve(mreq);
        return;
    }
    if (!mreq->accepted)
        not_taken(o);
    tn_namespace_unref(mreq->ns);
    tn_arena_destroy(mreq->arena);
}

static offer *offer_begin(tn_run *run, tn_want want)
{
    tn_arena *arena = tn_arena_create(0);
    offer *o = TN_NEW(arena, offer);
    o->want = want;
    o->shard = run->wf->shard;
    o->ns_id = tn_arena_strdup(arena, run->wf->ns_id);
    o->workflow_id = tn_arena_strdup(arena, run->wf->workflow_id);
    memcpy(o->run_id, run->run_id, 16);
    tn_mreq *m = &o->mreq;
    m->arena = arena;
    m->home = tn_loop_current();
    m->op = TN_MOP_ADD;
    m->ns = tn_namespace_by_id(tn_str_from(run->wf->ns_id));
    m->workflow_id = tn_str_from(o->workflow_id);
    m->run_id = tn_arena_str(arena, tn_str_from(run->ms->run_id_text));
    m->task.shard = o->shard->id;
    memcpy(m->task.run_id, run->run_id, 16);
    m->task.created_mono_ns = tn_now_mono_ns();
    m->expire_mono_ns = UINT64_MAX;
    /* which learn of their worker from its call */
    m->takes_match = run->wf->workflow_id[0] != TN_OBJECT_MARK;
    m->done = offered;
    if (!m->ns) {
        tn_arena_destroy(arena);
        return NULL;
    }
    return o;
}

/* Of a workflow task, or of an activity; NULL: the default, as nearly all have. */
static const tn_task_priority *priority_of(const tn_ms *ms, const tn_activity *activity,
                                           tn_arena *arena)
{
    const Temporal__Api__Common__V1__Priority *found =
        activity ? tn_machine_activity_priority(ms, activity, arena)
                 : tn_machine_priority(ms, arena);
    if (!found)
        return NULL;
    tn_task_priority *out = TN_NEW(arena, tn_task_priority);
    *out = (tn_task_priority){.key = found->priority_key,
                              .fairness_key = tn_str_from(found->fairness_key),
                              .fairness_weight = found->fairness_weight};
    return out;
}

static void offer_wft(tn_run *run)
{
    tn_ms *ms = run->ms;
    offer *o = offer_begin(run, TN_WANT_WFT);
    if (!o)
        return;
    tn_mreq *m = &o->mreq;
    ms->wft.dispatched = true;
    ms->wft.stamp = ++ms->next_stamp;
    m->type = TN_TASK_WORKFLOW;
    m->sticky = ms->wft.sticky && ms->sticky_queue;
    m->normal_queue = tn_arena_str(m->arena, tn_str_from(ms->task_queue));
    m->queue = m->sticky ? tn_arena_str(m->arena, tn_str_from(ms->sticky_queue)) : m->normal_queue;
    m->priority = priority_of(ms, NULL, m->arena);
    m->directive = tn_run_directive(ms, m->arena, true);
    m->task.scheduled_id = ms->wft.scheduled_id;
    m->task.attempt = ms->wft.attempt;
    m->task.stamp = ms->wft.stamp;
    tn_client_matching(m);
}

static void offer_activity(tn_run *run, tn_activity *activity)
{
    offer *o = offer_begin(run, TN_WANT_ACTIVITY);
    if (!o)
        return;
    tn_mreq *m = &o->mreq;
    activity->dispatched = true;
    activity->stamp = ++run->ms->next_stamp;
    m->type = TN_TASK_ACTIVITY;
    m->queue = tn_arena_str(m->arena, tn_str_from(activity->task_queue));
    m->priority = priority_of(run->ms, activity, m->arena);
    m->directive = tn_run_directive(run->ms, m->arena, false);
    m->task.scheduled_id = activity->scheduled_id;
    m->task.attempt = activity->attempt;
    m->task.stamp = activity->stamp;
    tn_client_matching(m);
}

/* ---- calls to other runs ---- */

typedef struct xcall {
    tn_hreq req;
    tn_want want;
    tn_shard *shard; /* of the run that calls */
    char *ns_id, *workflow_id;
    uint8_t run_id[16];
    int64_t initiated_id;
    tn_parent_ref self;
} xcall;

static xcall *xcall_begin(tn_run *run, tn_want want, int64_t initiated_id, tn_str target_ns_id,
                          tn_str target_id, tn_str target_run)
{
    const tn_namespace *ns = tn_namespace_by_id(target_ns_id);
    tn_arena *arena = tn_arena_create(0);
    xcall *x = TN_NEW(arena, xcall);
    tn_ms *ms = run->ms;
    x->want = want;
    x->shard = run->wf->shard;
    x->ns_id = tn_arena_strdup(arena, run->wf->ns_id);
    x->workflow_id = tn_arena_strdup(arena, run->wf->workflow_id);
    memcpy(x->run_id, run->run_id, 16);
    x->initiated_id = initiated_id;
    const tn_namespace *own = tn_namespace_by_id(tn_str_from(x->ns_id));
    x->self = (tn_parent_ref){
        .ns_id = tn_str_from(x->ns_id),
        .ns_name = own ? tn_arena_str(arena, own->name) : (tn_str){NULL, 0},
        .workflow_id = tn_str_from(x->workflow_id),
        .run_id = tn_arena_str(arena, tn_str_from(ms->run_id_text)),
        .initiated_id = initiated_id,
        .root_workflow_id = tn_arena_str(arena, tn_str_from(ms->parent.root_workflow_id
                                                                ? ms->parent.root_workflow_id
                                                                : ms->workflow_id)),
        .root_run_id = tn_arena_str(
            arena, tn_str_from(ms->parent.root_run_id ? ms->parent.root_run_id : ms->run_id_text)),
        .original_run_id =
            tn_arena_str(arena, tn_str_from(ms->reset.base_run_id ? ms->original_run_id : NULL)),
    };
    tn_namespace_unref(own);
    x->req.arena = arena;
    x->req.home = tn_loop_current();
    x->req.ns = ns;
    x->req.workflow_id = tn_arena_str(arena, target_id);
    x->req.run_id = tn_arena_str(arena, target_run);
    x->req.deadline_mono_ns = UINT64_MAX;
    return x;
}

enum { CAUSE_NOT_FOUND = 1, CAUSE_NAMESPACE = 2, CAUSE_SIGNAL_LIMIT = 3 };

static int32_t external_cause(const xcall *x, const tn_fault *fault)
{
    if (!x->req.ns)
        return CAUSE_NAMESPACE;
    if (x->want == TN_WANT_SIGNAL && fault->code == TN_GRPC_INVALID_ARGUMENT &&
        tn_str_starts(fault->message, TN_STR("exceeded workflow execution limit for signal")))
        return CAUSE_SIGNAL_LIMIT;
    return CAUSE_NOT_FOUND;
}

static bool worth_retrying(const tn_fault *fault)
{
    return fault && (fault->code == TN_GRPC_UNAVAILABLE ||
                     fault->code == TN_GRPC_RESOURCE_EXHAUSTED || fault->code == TN_GRPC_ABORTED ||
                     fault->code == TN_GRPC_DEADLINE_EXCEEDED || fault->code == TN_GRPC_INTERNAL);
}

static void xcall_done(tn_hreq *req)
{
    xcall *x = TN_CONTAINER_OF(req, xcall, req);
    const tn_fault *fault = req->fault;
    tn_wf *wf = tn_wf_get(x->shard, tn_str_from(x->ns_id), tn_str_from(x->workflow_id));
    static const int iops[] = {
        [TN_WANT_CHILD_START] = TN_IOP_CHILD_RESULT,
        [TN_WANT_SIGNAL] = TN_IOP_EXTERNAL_RESULT,
        [TN_WANT_CANCEL] = TN_IOP_EXTERNAL_RESULT,
        [TN_WANT_TELL_PARENT_STARTED] = TN_IOP_RELEASE,
        [TN_WANT_TELL_PARENT_CLOSED] = TN_IOP_PARENT_TOLD,
        [TN_WANT_SETTLE_CHILD] = TN_IOP_SETTLED,
    };
    tn_iop *iop = tn_iop_create(wf, x->run_id, iops[x->want]);
    iop->initiated_id = x->initiated_id;
    iop->again = x->req.ns && worth_retrying(fault);
    if (fault && x->want == TN_WANT_CHILD_START && fault->code == TN_GRPC_FAILED_PRECONDITION)
        iop->cause = 3; /* INVALID_VERSIONING_OVERRIDE */
    else if (fault && x->want == TN_WANT_CHILD_START)
        iop->cause = x->req.ns ? 1 : 2; /* WORKFLOW_ALREADY_EXISTS, NAMESPACE_NOT_FOUND */
    else if (fault)
        iop->cause = external_cause(x, fault);
    if (!fault && x->want == TN_WANT_CHILD_START) {
        const Temporal__Api__Workflowservice__V1__StartWorkflowExecutionResponse *response =
            (const Temporal__Api__Workflowservice__V1__StartWorkflowExecutionResponse *)
                req->response;
        memcpy(iop->result_run_id, response->run_id, strnlen(response->run_id, 36) + 1);
        iop->nonce = (uint64_t)response->status;
    }
    tn_namespace_unref(req->ns);
    tn_arena_destroy(req->arena);
    if (!iop->again && iop->req.ns) {
        tn_wf_enqueue(wf, &iop->req); /* it may be gone then */
        return;
    }
    if (iop->again)
        tn_iop_send_later(iop, RETRY_NS);
    else
        tn_req_finish(&iop->req, NULL);
    tn_wf_maybe_drop(wf);
}

static void not_there(tn_msg *msg)
{
    tn_hreq *req = TN_CONTAINER_OF(msg, tn_hreq, msg);
    req->fault = tn_fault_make(req->arena, TN_GRPC_NOT_FOUND, "%s",
                               req->ns ? "workflow execution not found" : "namespace not found");
    xcall_done(req);
}

static void bad_override(tn_msg *msg)
{
    tn_hreq *req = TN_CONTAINER_OF(msg, tn_hreq, msg);
    req->fault = tn_fault_make(req->arena, TN_GRPC_FAILED_PRECONDITION,
                               "the version does not serve that task queue");
    xcall_done(req);
}

/* A workflow that signals or cancels its own id is told that there is no such other run. */
static bool to_itself(const xcall *x)
{
    return (x->want == TN_WANT_SIGNAL || x->want == TN_WANT_CANCEL) &&
           tn_str_is(x->req.ns->id, x->ns_id) && tn_str_is(x->req.workflow_id, x->workflow_id);
}

static void xcall_send(xcall *x, tn_hop op)
{
    x->req.op = op;
    x->req.done = xcall_done;
    if (x->req.ns && !to_itself(x)) {
        tn_client_history(&x->req);
        return;
    }
    x->req.msg.run = not_there;
    tn_loop_defer(&x->req.msg);
}

static void *unpack(tn_arena *arena, const ProtobufCMessageDescriptor *type, tn_blob bytes)
{
    ProtobufCMessage *message = NULL;
    tn_error err;
    tn_status status = tn_proto_unpack(type, bytes, arena, &message, &err);
    TN_ASSERT(status == TN_OK); /* our own bytes, checked when the event was folded */
    return message;
}

static void start_child(tn_run *run, tn_child *child)
{
    child->dispatched = true;
    xcall *x = xcall_begin(run, TN_WANT_CHILD_START, child->initiated_id, tn_str_from(child->ns_id),
                           tn_str_from(child->workflow_id), (tn_str){NULL, 0});
    const Temporal__Api__History__V1__StartChildWorkflowExecutionInitiatedEventAttributes *a = unpack(
        x->req.arena,
        &temporal__api__history__v1__start_child_workflow_execution_initiated_event_attributes__descriptor,
        child->attrs);
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r =
        tn_arena_alloc(x->req.arena, sizeof(*r));
    temporal__api__workflowservice__v1__start_workflow_execution_request__init(r);
    r->namespace_ = a->namespace_;
    r->workflow_id = a->workflow_id;
    r->workflow_type = a->workflow_type;
    r->task_queue = a->task_queue;
    r->input = a->input;
    r->workflow_execution_timeout = a->workflow_execution_timeout;
    r->workflow_run_timeout = a->workflow_run_timeout;
    r->workflow_task_timeout = a->workflow_task_timeout;
    r->request_id = tn_reset_child_request(x->req.arena, run->ms, child);
    r->workflow_id_reuse_policy = a->workflow_id_reuse_policy;
    r->workflow_id_conflict_policy = 1;
    if ((int)a->workflow_id_reuse_policy == 4) { /* TERMINATE_IF_RUNNING */
        r->workflow_id_reuse_policy = 1;
        r->workflow_id_conflict_policy = 3;
    }
    r->retry_policy = a->retry_policy;
    r->cron_schedule = a->cron_schedule;
    r->memo = a->memo;
    r->search_attributes = a->search_attributes;
    r->header = a->header;
    r->priority = tn_machine_child_priority(run->ms, x->req.arena, a->priority);
    x->req.request = &r->base;
    x->req.u.start.parent = &x->self;
    if (x->req.ns && !tn_child_versioning(run->ms, &x->self, a, x->req.ns->id, x->req.arena, r)) {
        x->req.done = xcall_done;
        x->req.msg.run = bad_override;
        tn_loop_defer(&x->req.msg);
        return;
    }
    xcall_send(x, TN_HOP_START);
}

static void send_signal(tn_run *run, tn_external *external)
{
    external->dispatched = true;
    tn_arena *scratch = tn_arena_create(0);
    const Temporal__Api__History__V1__SignalExternalWorkflowExecutionInitiatedEventAttributes
        *peek = unpack(
            scratch,
            &temporal__api__history__v1__signal_external_workflow_execution_initiated_event_attributes__descriptor,
            external->attrs);
    xcall *x =
        xcall_begin(run, TN_WANT_SIGNAL, external->initiated_id, tn_str_from(peek->namespace_id),
                    tn_str_from(peek->workflow_execution->workflow_id),
                    tn_str_from(peek->workflow_execution->run_id));
    const Temporal__Api__History__V1__SignalExternalWorkflowExecutionInitiatedEventAttributes *a =
        (const void *)tn_proto_copy(&peek->base, x->req.arena);
    tn_arena_destroy(scratch);
    Temporal__Api__Workflowservice__V1__SignalWorkflowExecutionRequest *r =
        tn_arena_alloc(x->req.arena, sizeof(*r));
    temporal__api__workflowservice__v1__signal_workflow_execution_request__init(r);
    r->namespace_ = a->namespace_;
    r->workflow_execution = a->workflow_execution;
    r->signal_name = a->signal_name;
    r->input = a->input;
    r->header = a->header;
    r->identity = (char *)"history-service";
    r->request_id = tn_arena_strdup(x->req.arena, external->request_id);
    x->req.request = &r->base;
    x->req.u.external.child_only = a->child_workflow_only;
    x->req.u.external.external = &x->self;
    xcall_send(x, TN_HOP_SIGNAL);
}

static void send_cancel(tn_run *run, tn_external *external)
{
    external->dispatched = true;
    tn_arena *scratch = tn_arena_create(0);
    const Temporal__Api__History__V1__RequestCancelExternalWorkflowExecutionInitiatedEventAttributes
        *peek = unpack(
            scratch,
            &temporal__api__history__v1__request_cancel_external_workflow_execution_initiated_event_attributes__descriptor,
            external->attrs);
    xcall *x =
        xcall_begin(run, TN_WANT_CANCEL, external->initiated_id, tn_str_from(peek->namespace_id),
                    tn_str_from(peek->workflow_execution->workflow_id),
                    tn_str_from(peek->workflow_execution->run_id));
    const Temporal__Api__History__V1__RequestCancelExternalWorkflowExecutionInitiatedEventAttributes
        *a = (const void *)tn_proto_copy(&peek->base, x->req.arena);
    tn_arena_destroy(scratch);
    Temporal__Api__Workflowservice__V1__RequestCancelWorkflowExecutionRequest *r =
        tn_arena_alloc(x->req.arena, sizeof(*r));
    temporal__api__workflowservice__v1__request_cancel_workflow_execution_request__init(r);
    r->namespace_ = a->namespace_;
    r->workflow_execution = a->workflow_execution;
    r->identity = (char *)"history-service";
    r->reason = a->reason;
    r->request_id = tn_arena_strdup(x->req.arena, external->request_id);
    x->req.request = &r->base;
    x->req.u.external.child_only = a->child_workflow_only;
    x->req.u.external.external = &x->self;
    xcall_send(x, TN_HOP_REQUEST_CANCEL);
}

/* The parent, or the object that started the chain. */
static xcall *parent_call(tn_run *run, tn_want want)
{
    const tn_ms *ms = run->ms;
    if (ms->owner)
        return xcall_begin(run, want, (int64_t)ms->owner_ref, tn_str_from(run->wf->ns_id),
                           tn_str_from(ms->owner), tn_str_from(ms->owner_run_id));
    return xcall_begin(run, want, ms->parent.initiated_id, tn_str_from(ms->parent.ns_id),
                       tn_str_from(ms->parent.workflow_id), tn_str_from(ms->parent.run_id));
}

static void tell_parent(tn_run *run, tn_want want)
{
    tn_ms *ms = run->ms;
    ms->parent_dispatched = true;
    xcall *x = parent_call(run, want);
    tn_arena *arena = x->req.arena;
    x->req.u.child.parent = &x->self;
    x->self.initiated_id = x->initiated_id;
    x->req.u.child.child_run_id = x->self.run_id;
    x->req.u.child.child_first_run_id = tn_arena_str(arena, tn_str_from(ms->first_run_id));
    x->req.u.child.child_workflow_id = x->self.workflow_id;
    x->req.u.child.child_type = tn_arena_str(arena, tn_str_from(ms->type));
    if (want == TN_WANT_TELL_PARENT_CLOSED)
        x->req.u.child.close_event = tn_arena_blob(arena, ms->close_event);
    xcall_send(x, want == TN_WANT_TELL_PARENT_CLOSED ? TN_HOP_CHILD_CLOSED : TN_HOP_CHILD_STARTED);
}

static Temporal__Api__Common__V1__WorkflowExecution *child_execution(tn_arena *arena,
                                                                     const tn_child *child)
{
    Temporal__Api__Common__V1__WorkflowExecution *execution =
        tn_arena_alloc(arena, sizeof(*execution));
    temporal__api__common__v1__workflow_execution__init(execution);
    execution->workflow_id = tn_arena_strdup(arena, child->workflow_id);
    return execution;
}

static void settle_child(tn_run *run, tn_child *child)
{
    child->dispatched = true;
    xcall *x =
        xcall_begin(run, TN_WANT_SETTLE_CHILD, child->initiated_id, tn_str_from(child->ns_id),
                    tn_str_from(child->workflow_id), (tn_str){NULL, 0});
    tn_arena *arena = x->req.arena;
    x->req.u.external.child_only = true;
    x->req.u.external.external = &x->self;
    x->self.initiated_id = 0; /* no event of the parent's asked for it */
    char *first_run = tn_arena_strdup(arena, child->run_id ? child->run_id : "");
    if (child->parent_close_policy == 3) { /* REQUEST_CANCEL */
        Temporal__Api__Workflowservice__V1__RequestCancelWorkflowExecutionRequest *r =
            tn_arena_alloc(arena, sizeof(*r));
        temporal__api__workflowservice__v1__request_cancel_workflow_execution_request__init(r);
        r->workflow_execution = child_execution(arena, child);
        r->first_execution_run_id = first_run;
        r->identity = (char *)"history-service";
        x->req.request = &r->base;
        xcall_send(x, TN_HOP_REQUEST_CANCEL);
        return;
    }
    Temporal__Api__Workflowservice__V1__TerminateWorkflowExecutionRequest *r =
        tn_arena_alloc(arena, sizeof(*r));
    temporal__api__workflowservice__v1__terminate_workflow_execution_request__init(r);
    r->workflow_execution = child_execution(arena, child);
    r->first_execution_run_id = first_run;
    r->reason = (char *)"by parent close policy";
    r->identity = (char *)"history-service";
    x->req.request = &r->base;
    xcall_send(x, TN_HOP_TERMINATE);
}

/* ---- all of it ---- */

static void do_want(void *user, tn_want want, void *item)
{
    tn_run *run = user;
    switch (want) {
    case TN_WANT_WFT:
        offer_wft(run);
        break;
    case TN_WANT_ACTIVITY:
        offer_activity(run, item);
        break;
    case TN_WANT_CHILD_START:
        start_child(run, item);
        break;
    case TN_WANT_SIGNAL:
        send_signal(run, item);
        break;
    case TN_WANT_CANCEL:
        send_cancel(run, item);
        break;
    case TN_WANT_TELL_PARENT_STARTED:
    case TN_WANT_TELL_PARENT_CLOSED:
        tell_parent(run, want);
        break;
    case TN_WANT_SETTLE_CHILD:
        settle_child(run, item);
        break;
    case TN_WANT_OBJECT:
        tn_object_do(run, item);
        break;
    case TN_WANT_NEXUS_START:
        tn_nexus_start_operation(run, item);
        break;
    case TN_WANT_NEXUS_CANCEL:
        tn_nexus_cancel_operation(run, item);
        break;
    case TN_WANT_CALLBACK:
        tn_nexus_send_callback(run, item);
        break;
    }
}

static void set_timer(tn_run *run)
{
    uint64_t deadline = tn_ms_deadline_ns(run->ms);
    tn_shard *shard = run->wf->shard;
    uint64_t row = run->wake_stored_ns;
    if (!tn_ms_running(run->ms) && row != 0 && row < deadline) { /* retention */
        if (row > shard->scanned_ns)
            tn_shard_wake_at(shard, row);
        else /* it had ended before the run was done with others: no scan would come by */
            tn_shard_wake_again(shard, row, tn_now_wall_ns());
    }
    if (deadline == UINT64_MAX) {
        tn_loop_timer_stop(&run->timer);
        return;
    }
    uint64_t wall = tn_now_wall_ns(), mono = tn_now_mono_ns();
    tn_loop_timer_start(&run->timer, deadline > wall ? mono + (deadline - wall) : mono);
}

void tn_run_effects(tn_run *run)
{
    if (run->wf->shard->hl->stopping || run->doomed)
        return;
    tn_ms_wants(run->ms, tn_now_wall_ns(), do_want, run);
    tn_reset_ask_children(run);
    set_timer(run);
}
