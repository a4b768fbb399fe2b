/* SPDX-License-Identifier: MIT */
/* Nexus operations as the run that waits for them knows them: scheduled, started, asked to be cancelled,
 * over.  Their fold, their place in the store, what they want and when. */
#include "history/machine/nexus_priv.h"

#include "proto/proto.h"

typedef Temporal__Api__History__V1__NexusOperationScheduledEventAttributes scheduled_attrs;
typedef Temporal__Api__History__V1__NexusOperationStartedEventAttributes started_attrs;

/* ---- memory ---------------------------------------------------------------------------------- */

tn_nexus_op *tn_ms_nexus_op_any(const tn_ms *ms, int64_t scheduled_id)
{
    if (!ms->nexus)
        return NULL;
    TN_LIST_FOREACH (link, &ms->nexus->ops) {
        tn_nexus_op *op = TN_CONTAINER_OF(link, tn_nexus_op, link);

        if (op->scheduled_id == scheduled_id)
            return op;
    }
    return NULL;
}

tn_nexus_op *tn_ms_nexus_op(const tn_ms *ms, int64_t scheduled_id)
{
    tn_nexus_op *op = tn_ms_nexus_op_any(ms, scheduled_id);

    return op && !op->closing ? op : NULL;
}

static void op_destroy(tn_ms *ms, tn_nexus_op *op)
{
    char *texts[] = {op->endpoint,  op->endpoint_id, op->service,
                     op->operation, op->request_id,  op->token};

    tn_list_remove(&op->link);
    ms->nexus->n_ops--;
    tn_ms_free_blob(ms, &op->attrs);
    tn_ms_free_blob(ms, &op->cancel_failure);
    tn_ms_free_blob(ms, &op->attempts.last_failure);
    tn_ms_free_blob(ms, &op->cancel_attempts.last_failure);
    for (size_t i = 0; i < TN_COUNT_OF(texts); i++)
        tn_ms_free(ms, texts[i]);
    tn_ms_free(ms, op);
}

void tn_nexus_drop_operations(tn_ms *ms)
{
    tn_list *link;

    while (ms->nexus && (link = tn_list_first(&ms->nexus->ops)))
        op_destroy(ms, TN_CONTAINER_OF(link, tn_nexus_op, link));
}

void tn_nexus_destroy(tn_ms *ms)
{
    tn_list *link;

    if (!ms->nexus)
        return;
    tn_nexus_drop_operations(ms);
    while ((link = tn_list_first(&ms->nexus->callbacks)))
        tn_callback_destroy(ms, TN_CONTAINER_OF(link, tn_callback, link));
    tn_ms_free(ms, ms->nexus);
    ms->nexus = NULL;
}

static tn_nexus_op *op_create(tn_ms *ms, int64_t scheduled_id, uint64_t at_ns, tn_blob packed,
                              const scheduled_attrs *a)
{
    tn_nexus *nexus = tn_nexus_of(ms);
    tn_nexus_op *op = tn_ms_alloc(ms, sizeof(*op));

    op->scheduled_id = scheduled_id;
    op->scheduled_ns = at_ns;
    op->attrs = tn_ms_blobdup(ms, packed);
    op->endpoint = tn_ms_cstrdup(ms, a->endpoint);
    op->endpoint_id = tn_ms_cstrdup(ms, a->endpoint_id);
    op->service = tn_ms_cstrdup(ms, a->service);
    op->operation = tn_ms_cstrdup(ms, a->operation);
    op->request_id = tn_ms_cstrdup(ms, a->request_id);
    op->schedule_to_close_ns = tn_duration_ns(a->schedule_to_close_timeout);
    op->schedule_to_start_ns = tn_duration_ns(a->schedule_to_start_timeout);
    op->start_to_close_ns = tn_duration_ns(a->start_to_close_timeout);
    tn_list_push_back(&nexus->ops, &op->link);
    nexus->n_ops++;
    return op;
}

/* ---- the fold -------------------------------------------------------------------------------- */

static void note_started(tn_ms *ms, tn_nexus_op *op, const tn_event *event)
{
    const started_attrs *a = event->nexus_operation_started_event_attributes;
    const char *token =
        a->operation_token && *a->operation_token ? a->operation_token : a->operation_id;

    op->started_ns = tn_event_time_ns(event);
    if (!op->started_ns)
        op->started_ns = 1;
    tn_ms_replace_str(ms, &op->token, tn_str_from(token));
    op->started_buffered = false;
}

static void note_cancel_answer(tn_ms *ms, tn_nexus_op *op, const tn_event *event)
{
    const Temporal__Api__Failure__V1__Failure *failure = NULL;
    tn_buf buf = {0};

    op->cancel_done = true;
    op->cancel_buffered = false;
    op->cancel_failed = event->event_type == 57;
    op->cancel_done_ns = tn_event_time_ns(event);
    if (op->cancel_failed)
        failure = event->nexus_operation_cancel_request_failed_event_attributes->failure;
    if (failure)
        TN_ASSERT(tn_proto_pack_buf(&failure->base, &buf) == TN_OK);
    tn_ms_replace_blob(ms, &op->cancel_failure, tn_buf_blob(&buf));
    tn_buf_done(&buf);
}

static tn_status apply_scheduled(tn_ms *ms, const tn_event *event, tn_error *err)
{
    const scheduled_attrs *a = event->nexus_operation_scheduled_event_attributes;
    tn_arena *arena;

    if (tn_ms_nexus_op_any(ms, event->event_id))
        return tn_error_set(err, TN_EDATALOSS, "operation %lld is scheduled twice",
                            (long long)event->event_id);
    arena = tn_arena_create(0);
    op_create(ms, event->event_id, tn_event_time_ns(event), tn_msg_pack(arena, a), a);
    tn_arena_destroy(arena);
    return TN_OK;
}

/* The operation that an event is of; 0: of none. */
static int64_t operation_of(const tn_event *event)
{
    switch ((int)event->event_type) {
    case 49:
        return event->nexus_operation_started_event_attributes->scheduled_event_id;
    case 50:
        return event->nexus_operation_completed_event_attributes->scheduled_event_id;
    case 51:
        return event->nexus_operation_failed_event_attributes->scheduled_event_id;
    case 52:
        return event->nexus_operation_canceled_event_attributes->scheduled_event_id;
    case 53:
        return event->nexus_operation_timed_out_event_attributes->scheduled_event_id;
    case 54:
        return event->nexus_operation_cancel_requested_event_attributes->scheduled_event_id;
    case 56:
        return event->nexus_operation_cancel_request_completed_event_attributes->scheduled_event_id;
    case 57:
        return event->nexus_operation_cancel_request_failed_event_attributes->scheduled_event_id;
    default:
        return 0;
    }
}

int64_t tn_nexus_scheduled_id(const tn_event *event) { return operation_of(event); }

tn_status tn_apply_nexus(tn_ms *ms, const tn_event *event, tn_error *err)
{
    tn_nexus_op *op;

    if (event->event_type == 48)
        return apply_scheduled(ms, event, err);
    op = tn_ms_nexus_op_any(ms, operation_of(event));
    /* A cancel request may follow its operation's end, and its answer too. */
    if (!op && (event->event_type == 54 || event->event_type >= 56))
        return TN_OK;
    if (!op)
        return tn_error_set(err, TN_EDATALOSS, "event %lld is of an operation that is not pending",
                            (long long)event->event_id);
    switch ((int)event->event_type) {
    case 49:
        note_started(ms, op, event);
        break;
    case 54:
        op->cancel_requested_id = event->event_id;
        op->cancel_requested_ns = tn_event_time_ns(event);
        break;
    case 56:
    case 57:
        note_cancel_answer(ms, op, event);
        break;
    default:
        op_destroy(ms, op);
        break;
    }
    return TN_OK;
}

bool tn_nexus_mark_closing(tn_ms *ms, const tn_event *event, bool closing)
{
    tn_nexus_op *op = tn_ms_nexus_op_any(ms, operation_of(event));

    if (event->event_type < 48 || event->event_type > 57 || event->event_type == 55)
        return false;
    if (!op)
        return true;
    switch ((int)event->event_type) {
    case 49:
        if (closing)
            note_started(ms, op, event);
        else if (op->started_buffered)
            op->started_ns = 0;
        op->started_buffered = closing;
        break;
    case 50:
    case 51:
    case 52:
    case 53:
        op->closing = closing;
        break;
    case 56:
    case 57:
        if (closing)
            note_cancel_answer(ms, op, event);
        else if (op->cancel_buffered)
            op->cancel_done = false;
        op->cancel_buffered = closing;
        break;
    default:
        break;
    }
    return true;
}

/* ---- the store ------------------------------------------------------------------------------- */

static ProtobufCBinaryData bytes(tn_blob b)
{
    return (ProtobufCBinaryData){b.n, (uint8_t *)(uintptr_t)b.p};
}

static char *text(const char *s) { return (char *)(uintptr_t)(s ? s : ""); }

static Tenon__NexusOperationState *op_save(const tn_nexus_op *from, tn_arena *arena)
{
    Tenon__NexusOperationState *to = TN_MSG(arena, tenon__nexus_operation_state);

    to->scheduled_id = from->scheduled_id;
    to->scheduled_ns = from->scheduled_ns;
    to->attributes = bytes(from->attrs);
    if (!from->started_buffered) {
        to->started_ns = from->started_ns;
        to->token = text(from->token);
    }
    to->cancel_requested_id = from->cancel_requested_id;
    to->cancel_requested_ns = from->cancel_requested_ns;
    if (!from->cancel_buffered) {
        to->cancel_done = from->cancel_done;
        to->cancel_failed = from->cancel_failed;
        to->cancel_done_ns = from->cancel_done_ns;
        to->cancel_failure = bytes(from->cancel_failure);
    }
    return to;
}

void tn_nexus_save(const tn_ms *ms, tn_arena *arena, Tenon__Snapshot *to)
{
    if (!ms->nexus)
        return;
    tn_callbacks_save(ms, arena, to);
    to->nexus_operations =
        tn_arena_array(arena, ms->nexus->n_ops + 1, sizeof(to->nexus_operations[0]));
    TN_ASSERT(to->nexus_operations);
    TN_LIST_FOREACH (link, &ms->nexus->ops)
        to->nexus_operations[to->n_nexus_operations++] =
            op_save(TN_CONTAINER_OF(link, tn_nexus_op, link), arena);
}

static tn_status op_load(tn_ms *ms, const Tenon__NexusOperationState *from, tn_arena *arena,
                         tn_error *err)
{
    tn_blob packed = {from->attributes.data, from->attributes.len};
    scheduled_attrs *attrs;
    tn_nexus_op *op;

    if (TN_PROTO_UNPACK(temporal__api__history__v1__nexus_operation_scheduled_event_attributes,
                        packed, arena, &attrs, err) != TN_OK)
        return TN_EDATALOSS;
    if (tn_ms_nexus_op_any(ms, from->scheduled_id))
        return tn_error_set(err, TN_EDATALOSS, "operation %lld is kept twice",
                            (long long)from->scheduled_id);
    op = op_create(ms, from->scheduled_id, from->scheduled_ns, packed, attrs);
    op->started_ns = from->started_ns;
    tn_ms_replace_str(ms, &op->token, tn_str_from(from->token));
    op->cancel_requested_id = from->cancel_requested_id;
    op->cancel_requested_ns = from->cancel_requested_ns;
    op->cancel_done = from->cancel_done;
    op->cancel_failed = from->cancel_failed;
    op->cancel_done_ns = from->cancel_done_ns;
    tn_ms_replace_blob(ms, &op->cancel_failure,
                       (tn_blob){from->cancel_failure.data, from->cancel_failure.len});
    return TN_OK;
}

tn_status tn_nexus_load(tn_ms *ms, const Tenon__Snapshot *from, tn_error *err)
{
    tn_status status = tn_callbacks_load(ms, from, err);
    tn_arena *arena = tn_arena_create(0);

    for (size_t i = 0; status == TN_OK && i < from->n_nexus_operations; i++)
        status = op_load(ms, from->nexus_operations[i], arena, err);
    tn_arena_destroy(arena);
    /* The fold of the closing event is not repeated for a snapshot. */
    if (status == TN_OK && ms->status > 1 && ms->status != 6 && ms->status != 8 && !ms->new_run_id)
        tn_callbacks_trigger(ms);
    return status;
}

static void save_attempts(const tn_nexus_op *op, const tn_attempts *from, bool cancel,
                          tn_arena *arena, Tenon__Extras *to)
{
    Tenon__NexusAttempts *saved;

    if (!from->count)
        return;
    saved = TN_MSG(arena, tenon__nexus_attempts);
    saved->scheduled_id = op->scheduled_id;
    saved->cancel = cancel;
    saved->attempt = from->count;
    saved->last_attempt_ns = from->last_ns;
    saved->next_attempt_ns = from->next_ns;
    saved->last_failure = bytes(from->last_failure);
    to->nexus[to->n_nexus++] = saved;
}

void tn_nexus_save_extras(const tn_ms *ms, tn_arena *arena, Tenon__Extras *to)
{
    if (!ms->nexus)
        return;
    tn_callbacks_save_extras(ms, arena, to);
    to->nexus = tn_arena_array(arena, 2 * ms->nexus->n_ops + 1, sizeof(to->nexus[0]));
    TN_ASSERT(to->nexus);
    TN_LIST_FOREACH (link, &ms->nexus->ops) {
        const tn_nexus_op *op = TN_CONTAINER_OF(link, tn_nexus_op, link);

        save_attempts(op, &op->attempts, false, arena, to);
        save_attempts(op, &op->cancel_attempts, true, arena, to);
    }
}

void tn_nexus_load_extras(tn_ms *ms, const Tenon__Extras *from)
{
    if (!ms->nexus)
        return;
    tn_callbacks_load_extras(ms, from);
    for (size_t i = 0; i < from->n_nexus; i++) {
        const Tenon__NexusAttempts *saved = from->nexus[i];
        tn_nexus_op *op = tn_ms_nexus_op_any(ms, saved->scheduled_id);
        tn_attempts *to;

        if (!op)
            continue;
        to = saved->cancel ? &op->cancel_attempts : &op->attempts;
        to->count = saved->attempt;
        to->last_ns = saved->last_attempt_ns;
        to->next_ns = saved->next_attempt_ns;
        tn_ms_replace_blob(ms, &to->last_failure,
                           (tn_blob){saved->last_failure.data, saved->last_failure.len});
    }
}

/* ---- what is wanted, and when ---------------------------------------------------------------- */

static bool wants_start(const tn_nexus_op *op) { return !op->closing && !op->started_ns; }

static bool wants_cancel(const tn_nexus_op *op)
{
    return !op->closing && op->started_ns && op->cancel_requested_id && !op->cancel_done;
}

void tn_nexus_wants(tn_ms *ms, uint64_t now_ns, void (*each)(void *user, tn_want want, void *item),
                    void *user)
{
    if (!ms->nexus)
        return;
    TN_LIST_FOREACH_SAFE (link, &ms->nexus->ops) {
        tn_nexus_op *op = TN_CONTAINER_OF(link, tn_nexus_op, link);

        if (wants_start(op) && !op->dispatched && op->attempts.next_ns <= now_ns)
            each(user, TN_WANT_NEXUS_START, op);
        else if (wants_cancel(op) && !op->cancel_dispatched &&
                 op->cancel_attempts.next_ns <= now_ns)
            each(user, TN_WANT_NEXUS_CANCEL, op);
    }
}

static uint64_t sooner(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Of several that strike at once the first of these does. */
static uint64_t timeout_ns(const tn_nexus_op *op, int32_t *out_type)
{
    uint64_t at = UINT64_MAX, other;

    *out_type = 0;
    if (op->schedule_to_close_ns) {
        at = op->scheduled_ns + op->schedule_to_close_ns;
        *out_type = TN_TIMEOUT_SCHEDULE_TO_CLOSE;
    }
    other = op->scheduled_ns + op->schedule_to_start_ns;
    if (op->schedule_to_start_ns && !op->started_ns && other < at) {
        at = other;
        *out_type = TN_TIMEOUT_SCHEDULE_TO_START;
    }
    other = op->started_ns + op->start_to_close_ns;
    if (op->start_to_close_ns && op->started_ns && other < at) {
        at = other;
        *out_type = TN_TIMEOUT_START_TO_CLOSE;
    }
    return at;
}

int32_t tn_nexus_op_timed_out(const tn_nexus_op *op, uint64_t now_ns)
{
    int32_t type;

    return timeout_ns(op, &type) <= now_ns ? type : 0;
}

uint64_t tn_nexus_deadline_ns(const tn_ms *ms)
{
    uint64_t at = UINT64_MAX;
    int32_t type;

    if (!ms->nexus)
        return at;
    TN_LIST_FOREACH (link, &ms->nexus->ops) {
        const tn_nexus_op *op = TN_CONTAINER_OF(link, tn_nexus_op, link);

        if (op->closing)
            continue;
        at = sooner(at, timeout_ns(op, &type));
        if (wants_start(op) && !op->dispatched)
            at = sooner(at, op->attempts.next_ns);
        if (wants_cancel(op) && !op->cancel_dispatched)
            at = sooner(at, op->cancel_attempts.next_ns);
    }
    return at;
}

uint64_t tn_nexus_wake_ns(const tn_ms *ms)
{
    uint64_t at = UINT64_MAX;
    int32_t type;

    if (!ms->nexus)
        return at;
    TN_LIST_FOREACH (link, &ms->nexus->ops) {
        const tn_nexus_op *op = TN_CONTAINER_OF(link, tn_nexus_op, link);

        if (op->closing)
            continue;
        at = sooner(at, timeout_ns(op, &type));
        if (wants_start(op))
            at = sooner(at, op->attempts.next_ns);
        if (wants_cancel(op))
            at = sooner(at, op->cancel_attempts.next_ns);
    }
    return at;
}
