/* SPDX-License-Identifier: MIT */
/* The workflow task from scheduled to lost: at most one is pending.  A first attempt writes its
 * events; a later one (transient) shows them to the worker only and writes them when it completes.
 *
 * The start of a task is not worth a commit: nothing depends on it that a second hand-out would
 * not redo. */
#include "history/machine/machine.h"

#include <stdio.h>
#include <string.h>

#include "history/machine/priv.h"
#include "proto/proto.h"

#define ATTEMPTS_WITHOUT_BACKOFF 3
#define PROBLEMS_SHOWN_FROM 5 /* failures in a row before the run is listed as having a problem */

/* ---- problems -------------------------------------------------------------------------------- */

/* Keeps the cause's name as it is shown: "FailedCause" + the enum's words in camel case. */
void tn_ms_note_problem(tn_ms *ms, int32_t wft_failed_cause)
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(
        &temporal__api__enums__v1__workflow_task_failed_cause__descriptor, wft_failed_cause);
    static const char prefix[] = "WORKFLOW_TASK_FAILED_CAUSE_";
    char text[96] = "FailedCause";
    size_t n = strlen(text);
    bool upper = true;

    if (value && strncmp(value->name, prefix, sizeof(prefix) - 1) == 0) {
        for (const char *s = value->name + sizeof(prefix) - 1; *s && n < sizeof(text) - 1; s++) {
            if (*s == '_') {
                upper = true;
                continue;
            }
            text[n++] = upper || *s < 'A' || *s > 'Z' ? *s : (char)(*s + ('a' - 'A'));
            upper = false;
        }
    } else {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%d", (int)wft_failed_cause);
    }
    tn_ms_replace_str(ms, &ms->problem_cause, (tn_str){text, n});
}

static void note_lost(tn_tx *tx)
{
    tx->extras_dirty = true;
    if (tx->ms->problem_count >= PROBLEMS_SHOWN_FROM)
        tx->visibility_dirty = true;
}

bool tn_ms_has_problem(const tn_ms *ms)
{
    return ms->problem_count >= PROBLEMS_SHOWN_FROM && ms->problem_cause;
}

/* ---- schedule -------------------------------------------------------------------------------- */

static Temporal__Api__Taskqueue__V1__TaskQueue *current_queue(tn_arena *arena, const tn_ms *ms)
{
    Temporal__Api__Taskqueue__V1__TaskQueue *queue =
        TN_MSG(arena, temporal__api__taskqueue__v1__task_queue);

    queue->name = ms->sticky_queue ? ms->sticky_queue : ms->task_queue;
    queue->kind = ms->sticky_queue ? 2 : 1;
    if (ms->sticky_queue)
        queue->normal_name = ms->task_queue;
    return queue;
}

/* A task that keeps failing is given ever more time before it is tried again: the worker's fault
 * holds the task until it times out. */
uint64_t tn_tx_wft_timeout_ns(const tn_tx *tx, int32_t attempt)
{
    const tn_machine_limits *limits = tx->env->limits;
    uint64_t base =
        tx->ms->wft_timeout_ns ? tx->ms->wft_timeout_ns : limits->wft_timeout_default_ns;
    uint64_t extra = limits->wft_backoff_initial_ns;

    if (attempt <= ATTEMPTS_WITHOUT_BACKOFF)
        return base;
    for (int32_t i = ATTEMPTS_WITHOUT_BACKOFF + 1;
         i < attempt && extra < limits->wft_backoff_max_ns; i++)
        extra *= 2;
    if (extra > limits->wft_backoff_max_ns)
        extra = limits->wft_backoff_max_ns;
    /* Up to a fifth less, so that many failing runs don't come back as one. */
    return base + extra - tn_rng_below(tx->rng, extra / 5 + 1);
}

static int64_t add_scheduled_event(tn_tx *tx, uint64_t timeout_ns, int32_t attempt, uint64_t at_ns)
{
    tn_event *event = tn_tx_event(tx, 5);
    Temporal__Api__History__V1__WorkflowTaskScheduledEventAttributes *a =
        TN_EVENT_ATTRS(tx, event, WORKFLOW_TASK_SCHEDULED, workflow_task_scheduled);

    event->event_time = tn_ts_from_ns(tx->arena, (int64_t)at_ns);
    a->task_queue = current_queue(tx->arena, tx->ms);
    a->start_to_close_timeout = tn_duration_from_ns(tx->arena, (int64_t)timeout_ns);
    a->attempt = attempt;
    return tn_tx_add_now(tx, event);
}

void tn_tx_schedule_wft_anyhow(tn_tx *tx)
{
    tn_ms *ms = tx->ms;
    tn_wft *wft = &ms->wft;
    uint64_t timeout_ns;

    if (tn_ms_wft_pending(ms) || ms->held || !tn_ms_running(ms))
        return;
    /* With new events the failed attempts don't count: the worker will see something else. */
    if (tn_tx_flush_buffered(tx))
        wft->attempt = 1;
    if (ms->status == TN_STATUS_PAUSED)
        return;
    timeout_ns = tn_tx_wft_timeout_ns(tx, wft->attempt);
    if (wft->attempt <= 1) {
        add_scheduled_event(tx, timeout_ns, 1, tn_tx_event_time(tx));
        return;
    }
    wft->transient = true;
    wft->scheduled_id = ms->next_event_id;
    wft->scheduled_ns = wft->original_scheduled_ns = tn_tx_event_time(tx);
    wft->timeout_ns = timeout_ns;
    tx->extras_dirty = true;
}

void tn_tx_schedule_wft(tn_tx *tx)
{
    if (!tn_ms_backoff_pending(tx->ms))
        tn_tx_schedule_wft_anyhow(tx);
}

/* ---- start ----------------------------------------------------------------------------------- */

/* What the worker is told of the history's size, so that it can continue as new in time. */
static void measure(tn_tx *tx, tn_wft *wft)
{
    const tn_machine_limits *limits = tx->env->limits;

    wft->history_size_bytes = tx->history_bytes_before;
    wft->n_suggest_reasons = 0;
    if (limits->history_bytes_suggest > 0 &&
        wft->history_size_bytes >= limits->history_bytes_suggest)
        wft->suggest_reasons[wft->n_suggest_reasons++] = 1; /* HISTORY_SIZE_TOO_LARGE */
    if (limits->history_count_suggest > 0 && tx->ms->next_event_id >= limits->history_count_suggest)
        wft->suggest_reasons[wft->n_suggest_reasons++] = 2; /* TOO_MANY_HISTORY_EVENTS */
    if (limits->updates_suggest > 0 && tx->ms->updates &&
        (int64_t)tx->ms->updates->count >= limits->updates_suggest)
        wft->suggest_reasons[wft->n_suggest_reasons++] = 3; /* TOO_MANY_UPDATES */
    wft->suggest_continue_as_new = wft->n_suggest_reasons != 0;
}

static void fill_started(tn_arena *arena, const tn_wft *wft, int64_t scheduled_id, tn_str identity,
                         Temporal__Api__History__V1__WorkflowTaskStartedEventAttributes *a)
{
    char *identity_text = tn_arena_strdup(arena, "");

    if (identity.n)
        identity_text = (char *)(uintptr_t)tn_arena_str(arena, identity).p;
    TN_ASSERT(identity_text);
    a->scheduled_event_id = scheduled_id;
    a->identity = identity_text;
    a->request_id = wft->request_id ? wft->request_id : a->request_id;
    a->suggest_continue_as_new = wft->suggest_continue_as_new;
    a->n_suggest_continue_as_new_reasons = wft->n_suggest_reasons;
    if (wft->n_suggest_reasons) {
        a->suggest_continue_as_new_reasons = tn_arena_array(
            arena, wft->n_suggest_reasons, sizeof(a->suggest_continue_as_new_reasons[0]));
        TN_ASSERT(a->suggest_continue_as_new_reasons);
    }
    for (size_t i = 0; i < wft->n_suggest_reasons; i++)
        a->suggest_continue_as_new_reasons[i] =
            (Temporal__Api__Enums__V1__SuggestContinueAsNewReason)wft->suggest_reasons[i];
    a->history_size_bytes = wft->history_size_bytes;
    a->target_worker_deployment_version_changed = wft->target_changed;
}

/* The started event of the pending task, with the values that its tn_wft holds. */
static void add_started_event(tn_tx *tx, tn_str identity, uint64_t at_ns,
                              Temporal__Api__Common__V1__WorkerVersionStamp *version)
{
    tn_event *event = tn_tx_event(tx, 6);
    Temporal__Api__History__V1__WorkflowTaskStartedEventAttributes *a =
        TN_EVENT_ATTRS(tx, event, WORKFLOW_TASK_STARTED, workflow_task_started);

    event->event_time = tn_ts_from_ns(tx->arena, (int64_t)at_ns);
    tx->ms->wft.target_changed = tn_ms_target_changed(tx->ms);
    fill_started(tx->arena, &tx->ms->wft, tx->ms->wft.scheduled_id, identity, a);
    a->worker_version = version;
    tn_tx_add_now(tx, event);
}

void tn_tx_start_wft(tn_tx *tx, const tn_wft_start *start)
{
    tn_ms *ms = tx->ms;
    tn_wft *wft = &ms->wft;
    uint64_t at_ns = start->at_ns > ms->last_event_ns ? start->at_ns : ms->last_event_ns;
    uint64_t last_event_ns;
    bool converted = wft->transient && wft->scheduled_id != ms->next_event_id;

    /* Events came since the failed attempt was scheduled again: it becomes a first attempt. */
    if (converted) {
        uint64_t stamp = wft->stamp;
        bool dispatched = wft->dispatched;

        wft->attempt = 1;
        add_scheduled_event(tx, wft->timeout_ns, 1, at_ns);
        wft->stamp = stamp;
        wft->dispatched = dispatched;
        tx->extras_dirty = true;
    }
    last_event_ns = ms->last_event_ns;
    measure(tx, wft);
    if (ms->versioning && tn_versioning_note_target(
                              ms, start->target, start->target_known ? start->target_revision : -1))
        ms->extras_stale = true;
    tn_ms_replace_str(ms, &wft->request_id, start->request_id);
    if (wft->transient) {
        wft->started_id = wft->scheduled_id + 1;
        wft->started_ns = at_ns > wft->scheduled_ns ? at_ns : wft->scheduled_ns;
        tn_ms_replace_str(ms, &wft->identity, start->identity);
        wft->started_event_bytes = 0;
        wft->target_changed = tn_ms_target_changed(ms);
        if (!wft->speculative)
            ms->extras_stale = true;
    } else {
        add_started_event(tx, start->identity, at_ns, start->version);
    }
    wft->last_event_before_ns = last_event_ns;
    if (converted)
        wft->started_event_bytes = 0; /* two events: not to be taken back */
    wft->started_durable = false;
    wft->nonce = wft->started_ns;
}

static void unstick(tn_ms *ms)
{
    tn_ms_replace_str(ms, &ms->sticky_queue, TN_STR(""));
    ms->sticky_timeout_ns = 0;
    ms->extras_stale = true;
}

static const tn_fault *task_not_found(tn_tx *tx)
{
    return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "Workflow task not found.");
}

/* A pinned run stays where it is. */
static bool may_have_it(const tn_ms *ms, const tn_poller *poller)
{
    return tn_ms_behavior(ms) != TN_BEHAVIOR_PINNED ||
           tn_dver_eq(poller->version, tn_ms_version(ms));
}

const tn_fault *tn_machine_wft_start(tn_tx *tx, int64_t scheduled_id, uint64_t stamp,
                                     const tn_poller *poller)
{
    tn_ms *ms = tx->ms;
    tn_wft *wft = &ms->wft;
    Temporal__Api__Common__V1__WorkerVersionStamp *version = NULL;

    if (!tn_ms_running(ms) || !wft->scheduled_id || wft->scheduled_id != scheduled_id)
        return task_not_found(tx);
    if (wft->started_id) {
        /* The same poll asks again: it gets the same task. */
        if (poller->request_id.n && wft->request_id &&
            tn_str_is(poller->request_id, wft->request_id))
            return NULL;
        return task_not_found(tx);
    }
    if (wft->stamp != stamp || !may_have_it(ms, poller))
        return task_not_found(tx);
    /* The sticky worker is gone, another one takes over. */
    if (wft->scheduled_sticky && !wft->sticky && ms->sticky_queue)
        unstick(ms);
    if (poller->build_id.n) {
        version = TN_MSG(tx->arena, temporal__api__common__v1__worker_version_stamp);
        version->build_id = tn_tx_text(tx, poller->build_id);
        version->use_versioning = poller->use_versioning;
    }
    tn_tx_start_wft(tx, &(tn_wft_start){.identity = poller->identity,
                                        .request_id = poller->request_id,
                                        .at_ns = tx->now_ns,
                                        .version = version,
                                        .target = poller->target,
                                        .target_known = true,
                                        .target_revision = poller->target_revision});
    /* A speculative task may leave no trace: its completion says what became of the version. */
    if (!wft->speculative && !tn_dver_eq(poller->version, tn_ms_version(ms)))
        (void)tn_versioning_transit(ms, poller->version, poller->version_revision);
    tx->rides_along = true;
    return NULL;
}

bool tn_machine_wft_unstart(tn_ms *ms, uint64_t nonce)
{
    tn_wft *wft = &ms->wft;

    if (!wft->started_id || wft->started_durable || wft->nonce != nonce)
        return false;
    if (!wft->transient) {
        if (wft->started_id != ms->next_event_id - 1 || !wft->started_event_bytes)
            return false;
        ms->next_event_id--;
        ms->history_size_bytes -= (int64_t)wft->started_event_bytes;
        ms->last_event_ns = wft->last_event_before_ns;
    }
    wft->started_id = 0;
    wft->started_ns = 0;
    wft->nonce = 0;
    wft->started_event_bytes = 0;
    wft->dispatched = false;
    tn_ms_replace_str(ms, &wft->request_id, TN_STR(""));
    tn_ms_replace_str(ms, &wft->identity, TN_STR(""));
    wft->suggest_continue_as_new = false;
    wft->n_suggest_reasons = 0;
    wft->history_size_bytes = 0;
    return true;
}

/* The run is still sticky: its task goes back to a first attempt when nobody takes it in time. */
const tn_fault *tn_machine_wft_unstick(tn_tx *tx)
{
    tn_wft *wft = &tx->ms->wft;

    if (wft->scheduled_id && !wft->started_id && wft->sticky) {
        wft->sticky = false;
        wft->dispatched = false;
    }
    return NULL;
}

bool tn_machine_forget_sticky(tn_ms *ms)
{
    if (!ms->sticky_queue || !tn_ms_running(ms) || tn_ms_wft_pending(ms))
        return false;
    unstick(ms);
    return true;
}

const tn_fault *tn_machine_reset_sticky(tn_tx *tx)
{
    if (!tn_ms_running(tx->ms))
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "workflow execution already completed");
    if (tx->ms->sticky_queue)
        unstick(tx->ms);
    return tn_machine_wft_unstick(tx);
}

/* ---- loss ------------------------------------------------------------------------------------ */

int64_t tn_tx_fail_wft_full(tn_tx *tx, const tn_wft_failure *failure)
{
    tn_ms *ms = tx->ms;
    int64_t id = 0;
    tn_event *event;
    Temporal__Api__History__V1__WorkflowTaskFailedEventAttributes *a;

    if (!tn_ms_wft_pending(ms))
        return 0;
    tn_tx_write_speculative(tx, failure->identity);
    if (ms->wft.transient) {
        tn_ms_wft_lost(ms, true);
    } else {
        event = tn_tx_event(tx, 9);
        a = TN_EVENT_ATTRS(tx, event, WORKFLOW_TASK_FAILED, workflow_task_failed);
        a->scheduled_event_id = ms->wft.scheduled_id;
        a->started_event_id = ms->wft.started_id;
        a->cause = (Temporal__Api__Enums__V1__WorkflowTaskFailedCause)failure->cause;
        a->failure = (Temporal__Api__Failure__V1__Failure *)(uintptr_t)failure->failure;
        a->identity = tn_tx_text(tx, failure->identity);
        a->binary_checksum = tn_tx_text(tx, failure->checksum);
        a->base_run_id = tn_tx_text(tx, failure->base_run_id);
        a->new_run_id = tn_tx_text(tx, failure->new_run_id);
        id = tn_tx_add_now(tx, event);
    }
    ms->close_attempted = failure->cause == 1;
    note_lost(tx);
    return id;
}

int64_t tn_tx_fail_wft(tn_tx *tx, int32_t cause, const Temporal__Api__Failure__V1__Failure *failure,
                       tn_str identity)
{
    return tn_tx_fail_wft_full(
        tx, &(tn_wft_failure){.cause = cause, .failure = failure, .identity = identity});
}

void tn_tx_time_out_wft(tn_tx *tx, bool to_start)
{
    tn_ms *ms = tx->ms;
    tn_event *event;
    Temporal__Api__History__V1__WorkflowTaskTimedOutEventAttributes *a;

    tn_tx_write_speculative(tx, TN_STR(""));
    if (ms->wft.transient) {
        tn_ms_wft_lost(ms, !to_start);
    } else {
        event = tn_tx_event(tx, 8);
        a = TN_EVENT_ATTRS(tx, event, WORKFLOW_TASK_TIMED_OUT, workflow_task_timed_out);
        a->scheduled_event_id = ms->wft.scheduled_id;
        a->started_event_id = ms->wft.started_id;
        a->timeout_type = to_start ? 2 : 1;
        tn_tx_add_now(tx, event);
    }
    note_lost(tx);
}

const tn_fault *tn_machine_wft_failed(
    tn_tx *tx, const Tenon__TaskToken *token,
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskFailedRequest *request)
{
    if (!tn_ms_running(tx->ms))
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "workflow execution already completed");
    if (!tn_tx_accept_wft_token(tx, token))
        return task_not_found(tx);
    if (request->cause == 36) { /* GRPC_MESSAGE_TOO_LARGE: it would never get better */
        tn_tx_terminate(tx, TN_STR("GrpcMessageTooLarge"), NULL, TN_STR("history-service"));
        return NULL;
    }
    tn_tx_fail_wft_full(tx, &(tn_wft_failure){
                                .cause = (int32_t)request->cause,
                                .failure = request->failure,
                                .identity = tn_str_from(request->identity),
                                .checksum = tn_str_from(request->binary_checksum),
                            });
    tn_tx_schedule_wft_anyhow(tx);
    return NULL;
}

/* ---- transient events ------------------------------------------------------------------------ */

static void put_event(tn_buf *buf, tn_event *event)
{
    TN_ASSERT(tn_proto_put_message(buf, 1, &event->base) == TN_OK);
}

tn_blob tn_machine_wft_transient_events(const tn_ms *ms, tn_arena *arena, bool for_worker)
{
    const tn_wft *wft = &ms->wft;
    tn_tx tx = {.ms = (tn_ms *)(uintptr_t)ms, .arena = arena};
    tn_buf buf = {0};
    tn_blob out;
    tn_event *event;
    Temporal__Api__History__V1__WorkflowTaskScheduledEventAttributes *a;

    /* An event that came meanwhile has taken its place: it will be a first attempt. */
    if (!tn_ms_running(ms) || !wft->scheduled_id || !wft->transient ||
        wft->scheduled_id != ms->next_event_id)
        return (tn_blob){NULL, 0};
    event = tn_tx_event(&tx, 5);
    a = TN_EVENT_ATTRS(&tx, event, WORKFLOW_TASK_SCHEDULED, workflow_task_scheduled);
    event->event_id = wft->scheduled_id;
    event->event_time = tn_ts_from_ns(arena, (int64_t)wft->scheduled_ns);
    a->task_queue = current_queue(arena, ms);
    a->start_to_close_timeout = tn_duration_from_ns(arena, (int64_t)wft->timeout_ns);
    a->attempt = wft->attempt;
    put_event(&buf, event);
    if (wft->started_id) {
        event = tn_tx_event(&tx, 6);
        event->event_id = wft->started_id;
        event->event_time = tn_ts_from_ns(arena, (int64_t)wft->started_ns);
        fill_started(arena, wft, wft->scheduled_id, tn_str_from(for_worker ? wft->identity : NULL),
                     TN_EVENT_ATTRS(&tx, event, WORKFLOW_TASK_STARTED, workflow_task_started));
        put_event(&buf, event);
    }
    out = tn_arena_blob(arena, tn_buf_blob(&buf));
    TN_ASSERT(out.p);
    tn_buf_done(&buf);
    return out;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* Does this token belong to the started task?  A start that was lost in a crash is made again,
 * once: the worker has done the work, and nobody else has been given it. */
bool tn_tx_accept_wft_token(tn_tx *tx, const Tenon__TaskToken *token)
{
    tn_ms *ms = tx->ms;
    tn_wft *wft = &ms->wft;
    int64_t started_id;

    if (!tn_ms_running(ms) || !wft->scheduled_id || token->scheduled_id != wft->scheduled_id ||
        token->attempt != wft->attempt)
        return false;
    if (wft->started_id)
        return token->started_id == wft->started_id && token->nonce == wft->nonce;
    started_id = wft->transient ? wft->scheduled_id + 1 : ms->next_event_id;
    if (token->started_id != started_id || !token->nonce || token->nonce != token->started_ns ||
        (wft->transient && wft->scheduled_id != ms->next_event_id))
        return false;
    tn_tx_start_wft(tx, &(tn_wft_start){.identity = tn_str_from(token->identity),
                                        .request_id = TN_STR("lost-in-restart"),
                                        .at_ns = token->started_ns});
    return true;
}

/* A transient task completes: now its events enter the history. */
void tn_tx_write_transient(tn_tx *tx, tn_str identity,
                           Temporal__Api__Common__V1__WorkerVersionStamp *version)
{
    tn_ms *ms = tx->ms;
    tn_wft was = ms->wft;

    if (!was.transient)
        return;
    ms->wft.speculative = false; /* or the events below would ask for it to be written first */
    ms->wft.request_id = NULL;   /* apply starts afresh; `was` keeps the text */
    ms->wft.identity = NULL;
    add_scheduled_event(tx, was.timeout_ns, was.attempt, was.scheduled_ns);
    ms->wft.request_id = was.request_id;
    ms->wft.suggest_continue_as_new = was.suggest_continue_as_new;
    memcpy(ms->wft.suggest_reasons, was.suggest_reasons, sizeof(was.suggest_reasons));
    ms->wft.n_suggest_reasons = was.n_suggest_reasons;
    ms->wft.history_size_bytes = was.history_size_bytes;
    ms->wft.target_changed = was.target_changed;
    add_started_event(tx, identity, was.started_ns,
                      version && !version->use_versioning ? version : NULL);
    tn_ms_free(ms, was.identity);
}

void tn_tx_write_speculative(tn_tx *tx, tn_str identity)
{
    tn_wft *wft = &tx->ms->wft;
    uint64_t stamp = wft->stamp, nonce = wft->nonce;
    bool dispatched = wft->dispatched, sticky = wft->sticky;

    if (!wft->speculative)
        return;
    wft->speculative = false;
    if (wft->started_id)
        tn_tx_write_transient(tx, identity, NULL);
    else
        add_scheduled_event(tx, wft->timeout_ns, 1, wft->scheduled_ns);
    /* It is the same task still: who was told of it may go on with it. */
    wft->stamp = stamp;
    wft->dispatched = dispatched;
    wft->sticky = sticky && wft->scheduled_sticky;
    if (wft->started_id)
        wft->nonce = nonce;
}
