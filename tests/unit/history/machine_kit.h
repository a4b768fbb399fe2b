/* SPDX-License-Identifier: MIT */
/* A run without a server: the machine under test, a list of the records that it would have
 * stored, and short words for what clients, workers and time do to it.  Every commit checks that
 * the records fold to the state. */
#ifndef TN_TESTS_MACHINE_KIT_H
#define TN_TESTS_MACHINE_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "history/machine/machine.h"
#include "history/machine/priv.h"
#include "proto/proto.h"

typedef Temporal__Api__Command__V1__Command kit_command;

typedef struct kit {
    tn_ms *ms;
    tn_arena *arena; /* of the test: requests, texts, histories */
    tn_machine_limits limits;
    tn_machine_env env;
    tn_rng rng;
    uint64_t now_ns;
    tn_blob records[4096]; /* packed Record */
    size_t n_records;
    tn_buf tail; /* a started event that is not committed yet */
    bool held_back;
    tn_buf history; /* all events that were committed or wait in the tail: a packed History */
    tn_ms *closed;  /* the run before this one */
    tn_tx tx;
    tn_arena *tx_arena;
    const tn_fault *fault; /* of the last operation, in the kit's arena */
    bool check;            /* compare the fold with the state at every commit */
    bool follow;           /* go on with the next run */
    bool extras_pending;   /* memory is ahead: the next record carries extras */
    const char *trouble;   /* what was found wrong; the random test tells the seed */
    uint64_t last_event_ns;
    bool over; /* a closing event was seen */
} kit;

static inline tn_str kit_ns_id(void *user, tn_str name)
{
    (void)user;
    return tn_str_is(name, "other") || tn_str_is(name, "default")
               ? TN_STR("22222222-2222-4222-8222-222222222222")
               : (tn_str){NULL, 0};
}

static inline void kit_open(kit *k, uint64_t seed)
{
    uint8_t id[16];

    memset(k, 0, sizeof(*k));
    k->arena = tn_arena_create(0);
    tn_machine_limits_default(&k->limits);
    k->env = (tn_machine_env){
        .ns_name = TN_STR("default"),
        .ns_id = TN_STR("22222222-2222-4222-8222-222222222222"),
        .retention_ns = 24 * 3600 * TN_SEC,
        .limits = &k->limits,
        .namespace_id = kit_ns_id,
    };
    tn_rng_seed(&k->rng, seed);
    k->now_ns = UINT64_C(1700000000) * TN_SEC + seed % 1000;
    tn_uuid_v7(&k->rng, k->now_ns, id);
    k->ms = tn_ms_create(k->env.ns_id, TN_STR("wf"), id);
    k->check = true;
}

static inline void kit_close(kit *k)
{
    for (size_t i = 0; i < k->n_records; i++)
        free((void *)(uintptr_t)k->records[i].p);
    tn_buf_done(&k->tail);
    tn_buf_done(&k->history);
    tn_ms_destroy(k->ms);
    tn_ms_destroy(k->closed);
    tn_arena_destroy(k->arena);
}

static inline tn_tx *kit_begin(kit *k)
{
    k->tx_arena = tn_arena_create(0);
    tn_tx_init(&k->tx, k->ms, &k->env, k->tx_arena, k->now_ns, &k->rng);
    return &k->tx;
}

static inline tn_blob kit_dup(tn_blob b)
{
    uint8_t *p = malloc(b.n ? b.n : 1);

    memcpy(p, b.p ? (const void *)b.p : "", b.n);
    return (tn_blob){p, b.n};
}

/* What the shell would store for this transition. */
static inline void kit_store(kit *k, const tn_ms *ms, tn_blob events, bool extras, uint64_t now_ns)
{
    Tenon__Record record = TENON__RECORD__INIT;
    tn_blob packed = {NULL, 0};

    record.events = (ProtobufCBinaryData){events.n, (uint8_t *)(uintptr_t)events.p};
    if (extras) {
        packed = tn_msg_pack(k->tx_arena, tn_ms_extras(ms, k->tx_arena));
        record.has_extras = true;
        record.extras = (ProtobufCBinaryData){packed.n, (uint8_t *)(uintptr_t)packed.p};
    }
    record.transition = ms->transition;
    record.next_event_id = (uint64_t)ms->next_event_id;
    record.wall_ns = now_ns;
    record.retention_due_ns = ms->retention_due_ns;
    assert_true(k->n_records < TN_COUNT_OF(k->records));
    k->records[k->n_records++] = kit_dup(tn_msg_pack(k->tx_arena, &record));
}

/* The state as the records say: after a crash. */
static inline tn_ms *kit_fold(kit *k, tn_error *err)
{
    tn_arena *arena = tn_arena_create(0);
    tn_ms *ms =
        tn_ms_create(tn_str_from(k->ms->ns_id), tn_str_from(k->ms->workflow_id), k->ms->run_id);

    for (size_t i = 0; i < k->n_records && ms; i++) {
        Tenon__Record *record;

        assert_int_equal(TN_PROTO_UNPACK(tenon__record, k->records[i], arena, &record, NULL),
                         TN_OK);
        if (tn_ms_load_record(ms, record, err) != TN_OK) {
            tn_ms_destroy(ms);
            ms = NULL;
        }
    }
    if (ms)
        tn_ms_set_create_request_id(ms, tn_str_from(k->ms->create_request_id));
    tn_arena_destroy(arena);
    return ms;
}

static inline tn_ms *kit_through_snapshot(const tn_ms *ms, tn_error *err)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__Snapshot *snapshot;
    tn_ms *out;

    assert_int_equal(TN_PROTO_UNPACK(tenon__snapshot, tn_msg_pack(arena, tn_ms_snapshot(ms, arena)),
                                     arena, &snapshot, NULL),
                     TN_OK);
    out = tn_ms_load_snapshot(snapshot, err);
    tn_arena_destroy(arena);
    return out;
}

static inline bool kit_same(kit *k, const tn_ms *a, const tn_ms *b, const char *what)
{
    tn_arena *arena = tn_arena_create(0);
    tn_blob x = tn_msg_pack(arena, tn_ms_snapshot(a, arena));
    tn_blob y = tn_msg_pack(arena, tn_ms_snapshot(b, arena));
    bool same = tn_blob_eq(x, y) && a->cancel_requested_id == b->cancel_requested_id;

    if (!same) {
        k->trouble = what;
        for (int round = 0; round < 2; round++) {
            tn_wire_field f;

            fprintf(stderr, "---- %s\n", round ? "reloaded" : "live");
            for (tn_wire_iter it = tn_wire_begin(round ? y : x); tn_wire_next(&it, &f);) {
                fprintf(stderr, "  %u:", f.number);
                for (size_t i = 0; i < f.raw.n && i < 160; i++)
                    fprintf(stderr, "%02x", f.raw.p[i]);
                fprintf(stderr, "\n");
            }
        }
    }
    tn_arena_destroy(arena);
    return same;
}

static inline void kit_check_fold(kit *k)
{
    tn_error err = {0};
    tn_ms *folded, *loaded;

    if (!k->check || k->held_back || k->extras_pending)
        return;
    folded = kit_fold(k, &err);
    if (!folded) {
        fprintf(stderr, "records don't fold: %s\n", err.text);
        k->trouble = "the records don't fold";
        return;
    }
    kit_same(k, k->ms, folded, "the records fold to another state");
    loaded = kit_through_snapshot(k->ms, &err);
    if (!loaded) {
        fprintf(stderr, "the snapshot doesn't load: %s\n", err.text);
        k->trouble = "the snapshot doesn't load";
    } else {
        kit_same(k, k->ms, loaded, "a snapshot loads to another state");
        tn_ms_destroy(loaded);
    }
    tn_ms_destroy(folded);
}

static inline void kit_go_on(kit *k, tn_tx *next)
{
    for (size_t i = 0; i < k->n_records; i++)
        free((void *)(uintptr_t)k->records[i].p);
    k->n_records = 0;
    k->over = false;
    k->last_event_ns = next->ms->last_event_ns;
    tn_ms_destroy(k->closed);
    k->closed = k->ms;
    k->ms = next->ms;
    k->ms->transition++;
    tn_buf_done(&k->history);
    tn_buf_put(&k->history, next->events.p, next->events.n);
    kit_store(k, k->ms, tn_buf_blob(&next->events), next->extras_dirty, next->now_ns);
}

/* Ids without gaps, times that never go back, nothing after the end. */
static inline void kit_check_events(kit *k, const tn_tx *tx)
{
    tn_wire_field f;
    int64_t id = tx->first_event_id;

    for (tn_wire_iter it = tn_wire_begin(tn_buf_blob(&tx->events)); tn_wire_next(&it, &f); id++) {
        tn_event *event;
        int type;

        assert_int_equal(TN_PROTO_UNPACK(temporal__api__history__v1__history_event, f.bytes,
                                         k->tx_arena, &event, NULL),
                         TN_OK);
        type = (int)event->event_type;
        if (event->event_id != id)
            k->trouble = "an event's id isn't the next";
        if (k->over)
            k->trouble = "an event after the closing one";
        if (tn_event_time_ns(event) < k->last_event_ns)
            k->trouble = "an event's time goes back";
        k->last_event_ns = tn_event_time_ns(event);
        k->over = type == 2 || type == 3 || type == 4 || type == 21 || type == 27 || type == 28;
    }
    if (id != k->ms->next_event_id)
        k->trouble = "next_event_id isn't the id after the last event";
    if (k->over == tn_ms_running(k->ms))
        k->trouble = "closed without a closing event, or the other way round";
}

/* Commits what the last operation did. */
static inline bool kit_end(kit *k, const tn_fault *fault)
{
    tn_tx *tx = &k->tx;

    k->fault = fault ? tn_fault_copy(k->arena, fault) : NULL;
    tn_tx_finish(tx);
    kit_check_events(k, tx);
    tn_buf_put(&k->history, tx->events.p, tx->events.n);
    if (tx->rides_along) {
        tn_buf_put(&k->tail, tx->events.p, tx->events.n);
        k->held_back = true;
    } else if (tx->n_events || tx->extras_dirty) {
        k->ms->transition++;
        tn_buf_put(&k->tail, tx->events.p, tx->events.n);
        if (tx->extras_dirty || k->extras_pending)
            TN_LIST_FOREACH (link, &k->ms->activities)
                TN_CONTAINER_OF(link, tn_activity, link)->started_durable = true;
        kit_store(k, k->ms, tn_buf_blob(&k->tail), tx->extras_dirty || k->extras_pending,
                  k->now_ns);
        tn_buf_done(&k->tail);
        if (k->ms->wft.started_id)
            k->ms->wft.started_durable = true;
        k->held_back = k->extras_pending = false;
        kit_check_fold(k);
    }
    if (tx->next_run) {
        tn_tx *next = tx->next_run;

        if (k->follow)
            kit_go_on(k, next);
        else
            tn_ms_destroy(next->ms);
    }
    tn_tx_done(tx);
    tn_arena_destroy(k->tx_arena);
    return !k->fault;
}

/* The process dies: what was not committed is gone. */
static inline void kit_crash(kit *k)
{
    tn_error err = {0};
    tn_ms *folded = kit_fold(k, &err);
    size_t n = 0;

    assert_non_null(folded);
    k->history.n -= k->tail.n;
    k->tail.n = n;
    k->held_back = k->extras_pending = false;
    tn_ms_destroy(k->ms);
    k->ms = folded;
    k->last_event_ns = folded->last_event_ns;
}

/* ---- words ----------------------------------------------------------------------------------- */

static inline Temporal__Api__Common__V1__Payloads *kit_payloads(kit *k, const char *text)
{
    Temporal__Api__Common__V1__Payloads *p = TN_MSG(k->arena, temporal__api__common__v1__payloads);

    p->payloads = tn_arena_array(k->arena, 1, sizeof(p->payloads[0]));
    p->payloads[0] = TN_MSG(k->arena, temporal__api__common__v1__payload);
    p->payloads[0]->data = (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
    p->n_payloads = 1;
    return p;
}

static inline tn_pb_duration *kit_seconds(kit *k, double s)
{
    return tn_duration_from_ns(k->arena, (int64_t)(s * 1e9));
}

static inline Temporal__Api__Taskqueue__V1__TaskQueue *kit_queue(kit *k, const char *name, int kind)
{
    Temporal__Api__Taskqueue__V1__TaskQueue *q =
        TN_MSG(k->arena, temporal__api__taskqueue__v1__task_queue);

    q->name = (char *)(uintptr_t)name;
    q->kind = (Temporal__Api__Enums__V1__TaskQueueKind)kind;
    return q;
}

static inline Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *kit_start_request(
    kit *k)
{
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__start_workflow_execution_request);

    r->namespace_ = (char *)"default";
    r->workflow_id = (char *)"wf";
    r->workflow_type = TN_MSG(k->arena, temporal__api__common__v1__workflow_type);
    r->workflow_type->name = (char *)"W";
    r->task_queue = kit_queue(k, "tq", 1);
    r->input = kit_payloads(k, "1");
    r->identity = (char *)"client";
    r->request_id = (char *)"start-1";
    return r;
}

static inline bool kit_start_with(
    kit *k, const Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r)
{
    tn_tx *tx = kit_begin(k);

    return kit_end(k, tn_machine_start(tx, &(tn_start){.request = r}));
}

static inline bool kit_start(kit *k) { return kit_start_with(k, kit_start_request(k)); }

/* Matching gives the task to a worker. */
static inline bool kit_poll(kit *k)
{
    tn_tx *tx = kit_begin(k);
    uint8_t id[16];
    char request_id[37];

    tn_uuid_v4(&k->rng, id);
    tn_uuid_format(id, request_id);
    k->ms->wft.dispatched = true;
    return kit_end(k, tn_machine_wft_start(tx, k->ms->wft.scheduled_id, k->ms->wft.stamp,
                                           &(tn_poller){.identity = TN_STR("worker"),
                                                        .request_id = tn_str_from(request_id)}));
}

static inline Tenon__TaskToken *kit_token(kit *k)
{
    Tenon__TaskToken *t = TN_MSG(k->arena, tenon__task_token);

    t->scheduled_id = k->ms->wft.scheduled_id;
    t->started_id = k->ms->wft.started_id;
    t->attempt = k->ms->wft.attempt;
    t->started_ns = k->ms->wft.started_ns;
    t->nonce = k->ms->wft.nonce;
    t->identity = (char *)"worker";
    return t;
}

static inline Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *
kit_complete_request(kit *k, size_t n, kit_command **commands)
{
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *r = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__respond_workflow_task_completed_request);

    r->identity = (char *)"worker";
    r->n_commands = n;
    r->commands = tn_arena_memdup(k->arena, commands, n * sizeof(commands[0]));
    return r;
}

static inline bool kit_complete_with(
    kit *k, const Tenon__TaskToken *token,
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *r,
    tn_wft_completed_out *out)
{
    tn_wft_completed_out own;
    tn_tx *tx = kit_begin(k);

    return kit_end(k, tn_machine_wft_completed(tx, token, r, out ? out : &own));
}

#define KIT_COMPLETE(k, ...) \
    kit_complete_with((k), kit_token(k), \
                      kit_complete_request((k), TN_COUNT_OF(((kit_command *[]){__VA_ARGS__})), \
                                           (kit_command *[]){__VA_ARGS__}), \
                      NULL)

static inline bool kit_complete_none(kit *k)
{
    return kit_complete_with(k, kit_token(k), kit_complete_request(k, 0, NULL), NULL);
}

static inline bool kit_fail_wft(kit *k)
{
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskFailedRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__respond_workflow_task_failed_request);
    Tenon__TaskToken *token = kit_token(k);
    tn_tx *tx = kit_begin(k);

    r->cause = 14;
    r->identity = (char *)"worker";
    return kit_end(k, tn_machine_wft_failed(tx, token, r));
}

static inline bool kit_signal(kit *k, const char *name, const char *request_id)
{
    Temporal__Api__Workflowservice__V1__SignalWorkflowExecutionRequest *r =
        TN_MSG(k->arena, temporal__api__workflowservice__v1__signal_workflow_execution_request);
    tn_tx *tx = kit_begin(k);

    r->signal_name = (char *)(uintptr_t)name;
    r->request_id = (char *)(uintptr_t)request_id;
    r->identity = (char *)"client";
    return kit_end(k, tn_machine_signal(tx, r, NULL));
}

static inline bool kit_cancel(kit *k)
{
    Temporal__Api__Workflowservice__V1__RequestCancelWorkflowExecutionRequest *r = TN_MSG(
        k->arena, temporal__api__workflowservice__v1__request_cancel_workflow_execution_request);
    tn_tx *tx = kit_begin(k);

    return kit_end(k, tn_machine_request_cancel(tx, r, NULL));
}

static inline bool kit_terminate(kit *k)
{
    tn_tx *tx = kit_begin(k);

    return kit_end(k, tn_machine_terminate(tx, TN_STR("enough"), NULL, TN_STR("client")));
}

static inline void kit_delete(kit *k)
{
    tn_tx *tx = kit_begin(k);

    tn_machine_delete(tx);
    kit_end(k, NULL);
}

static inline bool kit_fire(kit *k)
{
    tn_tx *tx = kit_begin(k);

    return kit_end(k, tn_machine_fire(tx));
}

/* Time goes on by so much, and whatever is due happens, one deadline after the other. */
static inline void kit_wait(kit *k, double seconds)
{
    uint64_t until = k->now_ns + (uint64_t)(seconds * 1e9), at;

    for (int i = 0; i < 10000; i++) {
        at = tn_ms_deadline_ns(k->ms);
        if (at > until)
            break;
        if (at > k->now_ns)
            k->now_ns = at;
        kit_fire(k);
        if (tn_ms_deadline_ns(k->ms) <=
            at) { /* an activity that goes out again: nobody takes it here */
            TN_LIST_FOREACH (link, &k->ms->activities)
                TN_CONTAINER_OF(link, tn_activity, link)->dispatched = true;
            if (tn_ms_deadline_ns(k->ms) <= at) {
                k->trouble = "a deadline that firing doesn't move";
                break;
            }
        }
    }
    k->now_ns = until;
}

/* ---- commands -------------------------------------------------------------------------------- */

#define KIT_COMMAND(k, command, type, UPPER, lower) \
    kit_command *command = TN_MSG((k)->arena, temporal__api__command__v1__command); \
    command->command_type = type; \
    command->attributes_case = \
        TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_##UPPER##_COMMAND_ATTRIBUTES; \
    command->lower##_command_attributes = \
        TN_MSG((k)->arena, temporal__api__command__v1__##lower##_command_attributes)

static inline kit_command *kit_cmd_complete(kit *k)
{
    KIT_COMMAND(k, c, 4, COMPLETE_WORKFLOW_EXECUTION, complete_workflow_execution);
    c->complete_workflow_execution_command_attributes->result = kit_payloads(k, "2");
    return c;
}

static inline kit_command *kit_cmd_fail(kit *k, const char *type)
{
    KIT_COMMAND(k, c, 5, FAIL_WORKFLOW_EXECUTION, fail_workflow_execution);
    Temporal__Api__Failure__V1__Failure *f = TN_MSG(k->arena, temporal__api__failure__v1__failure);

    f->message = (char *)"no";
    f->failure_info_case =
        TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_APPLICATION_FAILURE_INFO;
    f->application_failure_info =
        TN_MSG(k->arena, temporal__api__failure__v1__application_failure_info);
    f->application_failure_info->type = (char *)(uintptr_t)type;
    c->fail_workflow_execution_command_attributes->failure = f;
    return c;
}

static inline kit_command *kit_cmd_cancel(kit *k)
{
    KIT_COMMAND(k, c, 7, CANCEL_WORKFLOW_EXECUTION, cancel_workflow_execution);
    return c;
}

static inline kit_command *kit_cmd_continue(kit *k)
{
    KIT_COMMAND(k, c, 10, CONTINUE_AS_NEW_WORKFLOW_EXECUTION, continue_as_new_workflow_execution);
    c->continue_as_new_workflow_execution_command_attributes->input = kit_payloads(k, "3");
    return c;
}

static inline kit_command *kit_cmd_timer(kit *k, const char *id, double seconds)
{
    KIT_COMMAND(k, c, 3, START_TIMER, start_timer);
    c->start_timer_command_attributes->timer_id = (char *)(uintptr_t)id;
    c->start_timer_command_attributes->start_to_fire_timeout = kit_seconds(k, seconds);
    return c;
}

static inline kit_command *kit_cmd_cancel_timer(kit *k, const char *id)
{
    KIT_COMMAND(k, c, 6, CANCEL_TIMER, cancel_timer);
    c->cancel_timer_command_attributes->timer_id = (char *)(uintptr_t)id;
    return c;
}

static inline kit_command *kit_cmd_activity(kit *k, const char *id, double start_to_close)
{
    KIT_COMMAND(k, c, 1, SCHEDULE_ACTIVITY_TASK, schedule_activity_task);
    Temporal__Api__Command__V1__ScheduleActivityTaskCommandAttributes *a =
        c->schedule_activity_task_command_attributes;

    a->activity_id = (char *)(uintptr_t)id;
    a->activity_type = TN_MSG(k->arena, temporal__api__common__v1__activity_type);
    a->activity_type->name = (char *)"A";
    a->task_queue = kit_queue(k, "tq", 1);
    a->start_to_close_timeout = kit_seconds(k, start_to_close);
    return c;
}

static inline kit_command *kit_cmd_cancel_activity(kit *k, int64_t scheduled_id)
{
    KIT_COMMAND(k, c, 2, REQUEST_CANCEL_ACTIVITY_TASK, request_cancel_activity_task);
    c->request_cancel_activity_task_command_attributes->scheduled_event_id = scheduled_id;
    return c;
}

static inline kit_command *kit_cmd_child(kit *k, const char *id)
{
    KIT_COMMAND(k, c, 11, START_CHILD_WORKFLOW_EXECUTION, start_child_workflow_execution);
    Temporal__Api__Command__V1__StartChildWorkflowExecutionCommandAttributes *a =
        c->start_child_workflow_execution_command_attributes;

    a->workflow_id = (char *)(uintptr_t)id;
    a->workflow_type = TN_MSG(k->arena, temporal__api__common__v1__workflow_type);
    a->workflow_type->name = (char *)"C";
    a->task_queue = kit_queue(k, "tq", 1);
    return c;
}

static inline kit_command *kit_cmd_signal_external(kit *k, const char *id)
{
    KIT_COMMAND(k, c, 12, SIGNAL_EXTERNAL_WORKFLOW_EXECUTION, signal_external_workflow_execution);
    Temporal__Api__Command__V1__SignalExternalWorkflowExecutionCommandAttributes *a =
        c->signal_external_workflow_execution_command_attributes;

    a->execution = TN_MSG(k->arena, temporal__api__common__v1__workflow_execution);
    a->execution->workflow_id = (char *)(uintptr_t)id;
    a->signal_name = (char *)"s";
    return c;
}

static inline kit_command *kit_cmd_cancel_external(kit *k, const char *id)
{
    KIT_COMMAND(k, c, 8, REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION,
                request_cancel_external_workflow_execution);
    c->request_cancel_external_workflow_execution_command_attributes->workflow_id =
        (char *)(uintptr_t)id;
    return c;
}

static inline kit_command *kit_cmd_marker(kit *k)
{
    KIT_COMMAND(k, c, 9, RECORD_MARKER, record_marker);
    c->record_marker_command_attributes->marker_name = (char *)"m";
    return c;
}

static inline kit_command *kit_cmd_memo(kit *k, const char *key, const char *value)
{
    KIT_COMMAND(k, c, 16, MODIFY_WORKFLOW_PROPERTIES, modify_workflow_properties);
    Temporal__Api__Common__V1__Memo *memo = TN_MSG(k->arena, temporal__api__common__v1__memo);

    memo->n_fields = 1;
    memo->fields = tn_arena_array(k->arena, 1, sizeof(memo->fields[0]));
    memo->fields[0] = TN_MSG(k->arena, temporal__api__common__v1__memo__fields_entry);
    memo->fields[0]->key = (char *)(uintptr_t)key;
    memo->fields[0]->value = kit_payloads(k, value)->payloads[0];
    c->modify_workflow_properties_command_attributes->upserted_memo = memo;
    return c;
}

/* ---- histories ------------------------------------------------------------------------------- */

static inline const char *kit_event_word(int type)
{
    static const char *const words[] = {
        "?",
        "Started",
        "Completed",
        "Failed",
        "TimedOut",
        "WtScheduled",
        "WtStarted",
        "WtCompleted",
        "WtTimedOut",
        "WtFailed",
        "ActScheduled",
        "ActStarted",
        "ActCompleted",
        "ActFailed",
        "ActTimedOut",
        "ActCancelRequested",
        "ActCanceled",
        "TimerStarted",
        "TimerFired",
        "TimerCanceled",
        "CancelRequested",
        "Canceled",
        "CancelExtInitiated",
        "CancelExtFailed",
        "ExtCancelRequested",
        "Marker",
        "Signaled",
        "Terminated",
        "ContinuedAsNew",
        "ChildInitiated",
        "ChildStartFailed",
        "ChildStarted",
        "ChildCompleted",
        "ChildFailed",
        "ChildCanceled",
        "ChildTimedOut",
        "ChildTerminated",
        "SignalExtInitiated",
        "SignalExtFailed",
        "ExtSignaled",
        "UpsertSA",
        "UpdAccepted",
        "?",
        "UpdCompleted",
        "?",
        "?",
        "Properties",
    };

    return type > 0 && type < (int)TN_COUNT_OF(words) ? words[type] : type == 55 ? "Options" : "?";
}

static inline size_t kit_events(kit *k, tn_event *out[], size_t max)
{
    tn_wire_field f;
    size_t n = 0;

    for (tn_wire_iter it = tn_wire_begin(tn_buf_blob(&k->history));
         tn_wire_next(&it, &f) && n < max; n++)
        assert_int_equal(TN_PROTO_UNPACK(temporal__api__history__v1__history_event, f.bytes,
                                         k->arena, &out[n], NULL),
                         TN_OK);
    return n;
}

static inline tn_event *kit_event(kit *k, int64_t id)
{
    tn_event *events[512];
    size_t n = kit_events(k, events, TN_COUNT_OF(events));

    return id > 0 && (size_t)id <= n ? events[id - 1] : NULL;
}

/* "Started WtScheduled ..." */
static inline char *kit_history(kit *k)
{
    tn_event *events[512];
    size_t n = kit_events(k, events, TN_COUNT_OF(events));
    tn_buf text = {0};
    char *out;

    for (size_t i = 0; i < n; i++) {
        assert_int_equal(events[i]->event_id, (int64_t)i + 1);
        tn_buf_printf(&text, "%s%s", i ? " " : "", kit_event_word((int)events[i]->event_type));
    }
    tn_buf_put_u8(&text, 0);
    out = tn_arena_strdup(k->arena, (const char *)text.p);
    tn_buf_done(&text);
    return out;
}

#define KIT_EXPECT(k, words) \
    do { \
        assert_string_equal(kit_history(k), (words)); \
        if ((k)->trouble) \
            fail_msg("%s", (k)->trouble); \
    } while (0)

#endif
