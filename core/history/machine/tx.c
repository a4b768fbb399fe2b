/* SPDX-License-Identifier: MIT */
/* A transition: making events, giving them ids, and the buffer where events from outside wait while
 * a workflow task is started (a worker that thinks about the history must not see it change).
 *
 * An event in the buffer has no id and is not applied.  What it closes (an activity, a timer, a
 * child, a request to another run) is marked `closing`: for everybody but the fold it is gone
 * already. */
#include "history/machine/machine.h"

#include <string.h>

#include "history/machine/nexus.h"
#include "history/machine/priv.h"
#include "proto/proto.h"

/* Task ids in events start where the reference's do, so that sizes of histories compare. */
#define TASK_ID_BASE (INT64_C(1) << 20)

/* ---- memory and messages --------------------------------------------------------------------- */

void *tn_tx_alloc(tn_tx *tx, size_t n)
{
    void *p = tn_arena_zalloc(tx->arena, n ? n : 1);

    TN_ASSERT(p); /* the arena of a transition has no cap: it can't stop half-way */
    return p;
}

void *tn_msg_new(tn_arena *arena, const ProtobufCMessageDescriptor *descriptor)
{
    void *p = tn_arena_alloc(arena, descriptor->sizeof_message);

    TN_ASSERT(p);
    protobuf_c_message_init(descriptor, p);
    return p;
}

char *tn_tx_text(tn_tx *tx, tn_str s)
{
    char *p = tn_tx_alloc(tx, s.n + 1);

    if (s.n)
        memcpy(p, s.p, s.n);
    return p;
}

tn_blob tn_msg_pack(tn_arena *arena, const void *msg)
{
    tn_blob out = {NULL, 0};

    TN_ASSERT(tn_proto_pack(msg, arena, &out) == TN_OK);
    return out;
}

void tn_tx_init(tn_tx *tx, tn_ms *ms, const tn_machine_env *env, tn_arena *arena, uint64_t now_ns,
                tn_rng *rng)
{
    *tx = (tn_tx){
        .ms = ms,
        .env = env,
        .arena = arena,
        .now_ns = now_ns,
        .rng = rng,
        .first_event_id = ms->next_event_id,
        .history_bytes_before = ms->history_size_bytes,
    };
}

void tn_tx_done(tn_tx *tx)
{
    for (; tx; tx = tx->next_run)
        tn_buf_done(&tx->events);
}

/* ---- events ---------------------------------------------------------------------------------- */

uint64_t tn_tx_event_time(const tn_tx *tx)
{
    return tx->now_ns > tx->ms->last_event_ns ? tx->now_ns : tx->ms->last_event_ns;
}

tn_event *tn_tx_event(tn_tx *tx, int32_t event_type)
{
    tn_event *event = tn_msg_new(tx->arena, &temporal__api__history__v1__history_event__descriptor);

    event->event_type = (Temporal__Api__Enums__V1__EventType)event_type;
    event->event_time = tn_ts_from_ns(tx->arena, (int64_t)tn_tx_event_time(tx));
    return event;
}

static bool comes_from_outside(int32_t event_type)
{
    switch (event_type) {
    case 1:
    case 2:
    case 3:
    case 4: /* the run's own life */
    case 21:
    case 27:
    case 28:
    case 5:
    case 6:
    case 7:
    case 8:
    case 9: /* workflow task */
    case 10:
    case 15:
    case 17:
    case 19:
    case 22:
    case 25:
    case 29:
    case 37:
    case 40:
    case 46: /* commands */
    case 48:
    case 54: /* operations: scheduled, cancel requested */
    case 41:
    case 43: /* updates */
        return false;
    default:
        return true;
    }
}

bool tn_tx_buffers(const tn_tx *tx, int32_t event_type)
{
    return (tn_ms_wft_started(tx->ms) || tx->in_commands) && comes_from_outside(event_type);
}

static void note_visible(tn_tx *tx, int32_t event_type)
{
    switch (event_type) {
    case 1:
    case 2:
    case 3:
    case 4:
    case 21:
    case 27:
    case 28:
    case 40:
    case 46:
    case 58:
    case 59:
        tx->visibility_dirty = true;
        break;
    default:
        break;
    }
}

static bool closes(int32_t event_type)
{
    return event_type == 2 || event_type == 3 || event_type == 4 || event_type == 21 ||
           event_type == 27 || event_type == 28;
}

/* A speculative task comes first, where its worker has seen it or will look for it; with the end
 * of the run, one that nobody has taken was never there. */
static void settle_speculative(tn_tx *tx, int32_t event_type)
{
    tn_ms *ms = tx->ms;

    if (!ms->wft.speculative)
        return;
    if (ms->wft.started_id || !closes(event_type))
        tn_tx_write_speculative(tx, TN_STR(""));
    else
        tn_ms_clear_wft(ms);
}

int64_t tn_tx_add_now(tn_tx *tx, tn_event *event)
{
    tn_ms *ms = tx->ms;
    size_t start;
    uint64_t length;
    const uint8_t *body;
    int64_t at_ns;
    tn_error err = {0};

    settle_speculative(tx, (int32_t)event->event_type);
    start = tx->events.n;
    if (!tn_ns_from_ts(event->event_time, &at_ns) || at_ns < (int64_t)ms->last_event_ns)
        event->event_time = tn_ts_from_ns(tx->arena, (int64_t)ms->last_event_ns);
    event->event_id = ms->next_event_id;
    event->task_id = TASK_ID_BASE + event->event_id;
    TN_ASSERT(tn_proto_put_message(&tx->events, 1, &event->base) == TN_OK);
    body = tn_wire_get_varint(tx->events.p + start + 1, tx->events.p + tx->events.n, &length);
    TN_ASSERT(body && body + length == tx->events.p + tx->events.n);
    tx->n_events++;
    note_visible(tx, (int32_t)event->event_type);
    if (tn_ms_apply(ms, event, (tn_blob){body, length}, &err) != TN_OK) {
        TN_LOG(TN_LOG_ERROR, "history", "the state machine made an event that it can't apply",
               TN_LOG_I("type", event->event_type), TN_LOG_I("id", event->event_id),
               TN_LOG_S("reason", tn_str_from(err.text)));
        TN_ASSERT(!"event applies");
    }
    return event->event_id;
}

/* ---- the buffer ------------------------------------------------------------------------------ */

static tn_child *closed_child(const tn_ms *ms, const tn_event *event)
{
    switch ((int)event->event_type) {
    case 30:
        return tn_ms_child_any(
            ms, event->start_child_workflow_execution_failed_event_attributes->initiated_event_id);
    case 32:
        return tn_ms_child_any(
            ms, event->child_workflow_execution_completed_event_attributes->initiated_event_id);
    case 33:
        return tn_ms_child_any(
            ms, event->child_workflow_execution_failed_event_attributes->initiated_event_id);
    case 34:
        return tn_ms_child_any(
            ms, event->child_workflow_execution_canceled_event_attributes->initiated_event_id);
    case 35:
        return tn_ms_child_any(
            ms, event->child_workflow_execution_timed_out_event_attributes->initiated_event_id);
    case 36:
        return tn_ms_child_any(
            ms, event->child_workflow_execution_terminated_event_attributes->initiated_event_id);
    default:
        return NULL;
    }
}

static tn_external *closed_external(const tn_ms *ms, const tn_event *event)
{
    switch ((int)event->event_type) {
    case 23:
        return tn_ms_external_any(
            ms, event->request_cancel_external_workflow_execution_failed_event_attributes
                    ->initiated_event_id);
    case 24:
        return tn_ms_external_any(
            ms, event->external_workflow_execution_cancel_requested_event_attributes
                    ->initiated_event_id);
    case 38:
        return tn_ms_external_any(
            ms,
            event->signal_external_workflow_execution_failed_event_attributes->initiated_event_id);
    case 39:
        return tn_ms_external_any(
            ms, event->external_workflow_execution_signaled_event_attributes->initiated_event_id);
    default:
        return NULL;
    }
}

static tn_activity *closed_activity(const tn_ms *ms, const tn_event *event)
{
    switch ((int)event->event_type) {
    case 12:
        return tn_ms_activity_any(
            ms, event->activity_task_completed_event_attributes->scheduled_event_id);
    case 13:
        return tn_ms_activity_any(ms,
                                  event->activity_task_failed_event_attributes->scheduled_event_id);
    case 14:
        return tn_ms_activity_any(
            ms, event->activity_task_timed_out_event_attributes->scheduled_event_id);
    case 16:
        return tn_ms_activity_any(
            ms, event->activity_task_canceled_event_attributes->scheduled_event_id);
    default:
        return NULL;
    }
}

/* What an event closes: the flag of that object, NULL: nothing (or it is not there). */
static bool *closing_flag(const tn_ms *ms, const tn_event *event)
{
    tn_activity *activity = closed_activity(ms, event);
    tn_child *child = closed_child(ms, event);
    tn_external *external = closed_external(ms, event);
    tn_timer_info *timer = NULL;

    if (event->event_type == 18)
        timer = tn_ms_timer_any(ms, tn_str_from(event->timer_fired_event_attributes->timer_id));
    if (activity)
        return &activity->closing;
    if (child)
        return &child->closing;
    if (external)
        return &external->closing;
    return timer ? &timer->closing : NULL;
}

void tn_ms_mark_closing(tn_ms *ms, const tn_event *event, bool closing)
{
    const Temporal__Api__History__V1__ChildWorkflowExecutionStartedEventAttributes *started;
    bool *flag;
    tn_child *child;

    if (event->attributes_case == TEMPORAL__API__HISTORY__V1__HISTORY_EVENT__ATTRIBUTES__NOT_SET)
        return;
    if (event->event_type == 31) {
        started = event->child_workflow_execution_started_event_attributes;
        child = tn_ms_child_any(ms, started->initiated_event_id);
        if (child) {
            child->started_buffered = closing;
            if (closing && started->workflow_execution)
                tn_ms_replace_str(ms, &child->run_id,
                                  tn_str_from(started->workflow_execution->run_id));
        }
        return;
    }
    if (event->event_type == 20) {
        if (closing)
            ms->cancel_requested_id = TN_ID_BUFFERED;
        else if (ms->cancel_requested_id == TN_ID_BUFFERED)
            ms->cancel_requested_id = 0;
        return;
    }
    if (closing && (event->event_type == 58 || event->event_type == 59))
        tn_ms_note_pause(ms, event);
    if (closing && event->event_type == 55)
        tn_ms_note_options(ms, event);
    if (tn_nexus_mark_closing(ms, event, closing))
        return;
    flag = closing_flag(ms, event);
    if (flag)
        *flag = closing;
}

void tn_ms_buffer(tn_ms *ms, const tn_event *event, tn_blob packed)
{
    tn_buffered *buffered = tn_ms_alloc(ms, sizeof(*buffered));

    buffered->event_type = (int32_t)event->event_type;
    buffered->event = tn_ms_blobdup(ms, packed);
    if (event->event_type == 26)
        tn_ms_replace_str(
            ms, &buffered->request_id,
            tn_str_from(event->workflow_execution_signaled_event_attributes->request_id));
    tn_list_push_back(&ms->buffered, &buffered->link);
    ms->n_buffered++;
    ms->buffered_bytes += packed.n;
    tn_ms_mark_closing(ms, event, true);
}

void tn_buffered_destroy(tn_ms *ms, tn_buffered *buffered)
{
    tn_list_remove(&buffered->link);
    ms->n_buffered--;
    ms->buffered_bytes -= buffered->event.n;
    tn_ms_free_blob(ms, &buffered->event);
    tn_ms_free(ms, buffered->request_id);
    tn_ms_free(ms, buffered);
}

bool tn_ms_has_buffered(const tn_ms *ms) { return ms->n_buffered != 0; }

int64_t tn_tx_add(tn_tx *tx, tn_event *event)
{
    if (!tn_tx_buffers(tx, (int32_t)event->event_type))
        return tn_tx_add_now(tx, event);
    event->event_id = 0;
    note_visible(tx, (int32_t)event->event_type);
    tn_ms_buffer(tx->ms, event, tn_msg_pack(tx->arena, event));
    tx->extras_dirty = true;
    return TN_ID_BUFFERED;
}

static bool is_result(int32_t event_type)
{
    switch (event_type) {
    case 12:
    case 13:
    case 14:
    case 16: /* activities */
    case 32:
    case 33:
    case 34:
    case 35:
    case 36: /* children */
    case 50:
    case 51:
    case 52:
    case 53: /* operations */
        return true;
    default:
        return false;
    }
}

typedef struct started_pair {
    int64_t scheduled_id, started_id;
} started_pair;

/* Where a result says which started event it belongs to; NULL: no such field. */
static int64_t *started_slot(tn_event *event, int64_t *out_scheduled_id)
{
#define SLOT(member, id_member) \
    do { \
        *out_scheduled_id = event->member##_event_attributes->id_member##_event_id; \
        return &event->member##_event_attributes->started_event_id; \
    } while (0)
    switch ((int)event->event_type) {
    case 12:
        SLOT(activity_task_completed, scheduled);
    case 13:
        SLOT(activity_task_failed, scheduled);
    case 14:
        SLOT(activity_task_timed_out, scheduled);
    case 16:
        SLOT(activity_task_canceled, scheduled);
    case 32:
        SLOT(child_workflow_execution_completed, initiated);
    case 33:
        SLOT(child_workflow_execution_failed, initiated);
    case 34:
        SLOT(child_workflow_execution_canceled, initiated);
    case 35:
        SLOT(child_workflow_execution_timed_out, initiated);
    case 36:
        SLOT(child_workflow_execution_terminated, initiated);
    default:
        return NULL;
    }
#undef SLOT
}

static void add_flushed(tn_tx *tx, tn_event *event, started_pair *pairs, size_t *n_pairs)
{
    int64_t scheduled_id = 0;
    int64_t *slot = started_slot(event, &scheduled_id);

    for (size_t i = 0; slot && i < *n_pairs; i++)
        if (pairs[i].scheduled_id == scheduled_id)
            *slot = pairs[i].started_id;
    tn_tx_add_now(tx, event);
    if (event->event_type == 11)
        pairs[(*n_pairs)++] = (started_pair){
            event->activity_task_started_event_attributes->scheduled_event_id, event->event_id};
    else if (event->event_type == 31)
        pairs[(*n_pairs)++] = (started_pair){
            event->child_workflow_execution_started_event_attributes->initiated_event_id,
            event->event_id};
}

size_t tn_tx_flush_buffered(tn_tx *tx)
{
    tn_ms *ms = tx->ms;
    size_t n = ms->n_buffered, n_read = 0, n_pairs = 0;
    tn_event **events;
    started_pair *pairs;

    tx->in_commands = false;
    if (n == 0)
        return 0;
    events = tn_tx_alloc(tx, n * sizeof(*events));
    pairs = tn_tx_alloc(tx, n * sizeof(*pairs));
    while (!tn_list_empty(&ms->buffered)) {
        tn_buffered *buffered = TN_CONTAINER_OF(ms->buffered.next, tn_buffered, link);

        /* We packed it ourselves, or load checked it. */
        TN_ASSERT(TN_PROTO_UNPACK(temporal__api__history__v1__history_event, buffered->event,
                                  tx->arena, &events[n_read], NULL) == TN_OK);
        n_read++;
        tn_buffered_destroy(ms, buffered);
    }
    tx->extras_dirty = true;
    /* Results after everything else: a result must not come before its started event. */
    for (size_t i = 0; i < n_read; i++)
        if (!is_result((int32_t)events[i]->event_type))
            add_flushed(tx, events[i], pairs, &n_pairs);
    for (size_t i = 0; i < n_read; i++)
        if (is_result((int32_t)events[i]->event_type))
            add_flushed(tx, events[i], pairs, &n_pairs);
    return n;
}

bool tn_tx_unbuffer_timer(tn_tx *tx, tn_str timer_id)
{
    tn_ms *ms = tx->ms;
    tn_timer_info *timer = tn_ms_timer_any(ms, timer_id);
    tn_event *event;

    TN_LIST_FOREACH_SAFE (link, &ms->buffered) {
        tn_buffered *buffered = TN_CONTAINER_OF(link, tn_buffered, link);

        if (buffered->event_type != 18)
            continue;
        TN_ASSERT(TN_PROTO_UNPACK(temporal__api__history__v1__history_event, buffered->event,
                                  tx->arena, &event, NULL) == TN_OK);
        if (!tn_str_is(timer_id, event->timer_fired_event_attributes->timer_id))
            continue;
        tn_buffered_destroy(ms, buffered);
        if (timer)
            timer->closing = false;
        tx->extras_dirty = true;
        return true;
    }
    return false;
}

bool tn_tx_has_buffered_signal(const tn_tx *tx, tn_str request_id)
{
    TN_LIST_FOREACH (link, &tx->ms->buffered) {
        const tn_buffered *buffered = TN_CONTAINER_OF(link, tn_buffered, link);

        if (buffered->request_id && tn_str_is(request_id, buffered->request_id))
            return true;
    }
    return false;
}
