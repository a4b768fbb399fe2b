/* SPDX-License-Identifier: MIT */
/* The state of a batch job: page by page, a target after the other, in as many hands as its concurrency allows and not
 * faster than its rate.
 *
 * Each operation may be done twice without harm (they carry request ids that follow from job and target, or say what is
 * to be, not what to do), so results are written SAVE_EVERY at a time: after a crash the few that only memory
 * knew are done again. */
#include "history/machine/batch.h"

#include <string.h>

#include "history/machine/priv.h"
#include "proto/proto.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

#define SAVE_EVERY 25u
#define RUNNING 1
#define COMPLETED 2
#define FAILED 3
#define TERMINATED 5

typedef Temporal__Api__Workflowservice__V1__StartBatchOperationRequest start_request;

/* ---- memory ---------------------------------------------------------------------------------- */

static void drop_targets(tn_ms *ms, tn_batch_job *batch)
{
    for (size_t i = 0; i < batch->n_targets; i++) {
        tn_ms_free(ms, batch->targets[i].workflow_id);
        tn_ms_free(ms, batch->targets[i].run_id);
    }
    tn_ms_free(ms, batch->targets);
    batch->targets = NULL;
    batch->n_targets = batch->n_left = batch->n_out = 0;
}

static void destroy(tn_ms *ms)
{
    tn_batch_job *batch = ms->object;

    if (!batch)
        return;
    drop_targets(ms, batch);
    tn_ms_free_blob(ms, &batch->request);
    tn_ms_free_blob(ms, &batch->next_page);
    tn_ms_free(ms, batch);
    ms->object = NULL;
}

static tn_batch_job *fresh(tn_ms *ms)
{
    tn_batch_job *batch = tn_ms_alloc(ms, sizeof(*batch));

    batch->count.what = TN_BATCH_COUNT;
    batch->page.what = TN_BATCH_PAGE;
    return batch;
}

/* Without numbers: they follow those that there were. */
static void take_targets(tn_ms *ms, tn_batch_job *batch, Tenon__BatchTarget *const *from, size_t n)
{
    drop_targets(ms, batch);
    batch->targets = n ? tn_ms_alloc(ms, n * sizeof(batch->targets[0])) : NULL;
    for (size_t i = 0; i < n; i++) {
        tn_batch_target *to = &batch->targets[i];

        to->workflow_id = tn_ms_cstrdup(ms, from[i]->workflow_id);
        to->run_id = tn_ms_cstrdup(ms, from[i]->run_id);
        to->attempts = from[i]->attempts;
        to->want.what = TN_BATCH_TARGET;
        to->want.id = from[i]->number ? from[i]->number : ++batch->numbered;
    }
    batch->n_targets = batch->n_left = n;
}

start_request *tn_batch_request(const tn_batch_job *batch, tn_arena *arena)
{
    start_request *request = NULL;

    TN_ASSERT(TN_PROTO_UNPACK(temporal__api__workflowservice__v1__start_batch_operation_request,
                              tn_arena_blob(arena, batch->request), arena, &request,
                              NULL) == TN_OK);
    return request;
}

static tn_batch_target *target_of(const tn_batch_job *batch, uint64_t number)
{
    size_t from = 0, to = batch->n_targets;

    while (from < to) {
        size_t mid = from + (to - from) / 2;

        if (batch->targets[mid].want.id == number)
            return batch->targets[mid].done ? NULL : &batch->targets[mid];
        if (batch->targets[mid].want.id < number)
            from = mid + 1;
        else
            to = mid;
    }
    return NULL;
}

const tn_batch_target *tn_batch_target_of(const tn_batch_job *batch, uint64_t number)
{
    return target_of(batch, number);
}

/* ---- as bytes -------------------------------------------------------------------------------- */

static ProtobufCBinaryData bytes_of(tn_blob b)
{
    return (ProtobufCBinaryData){b.n, (uint8_t *)(uintptr_t)b.p};
}

static tn_blob save(const tn_ms *ms, tn_arena *arena)
{
    const tn_batch_job *batch = ms->object;
    Tenon__BatchJob *to = TN_MSG(arena, tenon__batch_job);

    to->request = bytes_of(batch->request);
    to->counted = batch->counted;
    to->total = batch->total;
    to->complete = batch->complete;
    to->failed = batch->failed;
    to->targets = tn_arena_array(arena, batch->n_left + 1, sizeof(to->targets[0]));
    TN_ASSERT(to->targets);
    for (size_t i = 0; i < batch->n_targets; i++) {
        const tn_batch_target *from = &batch->targets[i];
        Tenon__BatchTarget *target;

        if (from->done)
            continue;
        target = TN_MSG(arena, tenon__batch_target);
        target->workflow_id = from->workflow_id;
        target->run_id = from->run_id;
        target->number = from->want.id;
        target->attempts = from->attempts;
        to->targets[to->n_targets++] = target;
    }
    to->paged = batch->paged;
    to->last = batch->last;
    to->next_page = bytes_of(batch->next_page);
    to->numbered = batch->numbered;
    to->concurrency = batch->concurrency;
    to->rate = batch->rate;
    return tn_msg_pack(arena, to);
}

static tn_status check(const Tenon__BatchJob *from, tn_arena *arena, tn_error *err)
{
    start_request *request;
    tn_blob packed = {from->request.data, from->request.len};
    uint64_t last = 0;

    if (TN_PROTO_UNPACK(temporal__api__workflowservice__v1__start_batch_operation_request, packed,
                        arena, &request, err) != TN_OK)
        return tn_error_set(err, TN_EDATALOSS, "a batch job's request can't be read");
    for (size_t i = 0; i < from->n_targets; i++) {
        if (from->targets[i]->number <= last || from->targets[i]->number > from->numbered)
            return tn_error_set(err, TN_EDATALOSS, "a batch job's targets are out of order");
        last = from->targets[i]->number;
    }
    return TN_OK;
}

static tn_status load(tn_ms *ms, tn_blob packed, tn_error *err)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__BatchJob *from;
    tn_batch_job *batch;
    tn_status status = TN_PROTO_UNPACK(tenon__batch_job, packed, arena, &from, err);

    if (status == TN_OK)
        status = check(from, arena, err);
    if (status == TN_OK) {
        destroy(ms);
        ms->object = batch = fresh(ms);
        batch->request = tn_ms_blobdup(ms, (tn_blob){from->request.data, from->request.len});
        batch->next_page = tn_ms_blobdup(ms, (tn_blob){from->next_page.data, from->next_page.len});
        batch->counted = from->counted;
        batch->total = from->total;
        batch->complete = from->complete;
        batch->failed = from->failed;
        batch->paged = from->paged;
        batch->last = from->last;
        batch->numbered = from->numbered;
        batch->concurrency = from->concurrency;
        batch->rate = from->rate;
        take_targets(ms, batch, from->targets, from->n_targets);
    }
    tn_arena_destroy(arena);
    return status == TN_OK ? TN_OK : TN_EDATALOSS;
}

/* ---- a new one ------------------------------------------------------------------------------- */

static bool creates(const ProtobufCMessage *request)
{
    return request->descriptor ==
           &temporal__api__workflowservice__v1__start_batch_operation_request__descriptor;
}

static const tn_fault *already_there(tn_arena *arena, const tn_ms *there)
{
    Temporal__Api__Errordetails__V1__WorkflowExecutionAlreadyStartedFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__WORKFLOW_EXECUTION_ALREADY_STARTED_FAILURE__INIT;
    tn_str id = tn_object_id_of(tn_str_from(there->workflow_id));

    detail.run_id = detail.first_execution_run_id = (char *)(uintptr_t)there->run_id_text;
    detail.start_request_id =
        there->create_request_id ? there->create_request_id : (char *)(uintptr_t) "";
    if (tn_ms_running(there))
        return tn_fault_detailed(arena, TN_GRPC_ALREADY_EXISTS, &detail.base,
                                 "Workflow execution is already running. WorkflowId: " TN_STR_FMT
                                 ", RunId: %s.",
                                 TN_STR_ARG(id), there->run_id_text);
    return tn_fault_detailed(arena, TN_GRPC_ALREADY_EXISTS, &detail.base,
                             "Workflow execution already finished. WorkflowId: " TN_STR_FMT
                             ", RunId: %s. Workflow Id reuse policy: reject duplicate workflow Id.",
                             TN_STR_ARG(id), there->run_id_text);
}

static tn_object_meet meets(const tn_ms *there, const ProtobufCMessage *request,
                            tn_object_reply *reply, const tn_fault **out_fault)
{
    (void)request;
    *out_fault = already_there(reply->arena, there);
    return TN_OBJECT_ANSWER;
}

static Temporal__Api__Common__V1__Payload *text_payload(tn_arena *arena, const char *s,
                                                        const char *type)
{
    Temporal__Api__Common__V1__Payload *payload = TN_MSG(arena, temporal__api__common__v1__payload);
    const char *metadata[2][2] = {{"encoding", "json/plain"}, {"type", type}};
    tn_buf json = {0};

    tn_buf_put_u8(&json, '"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\')
            tn_buf_printf(&json, "\\%c", c);
        else if (c < 0x20 || c == '<' || c == '>' || c == '&')
            tn_buf_printf(&json, "\\u%04x", c);
        else
            tn_buf_put_u8(&json, c);
    }
    tn_buf_put_u8(&json, '"');
    payload->metadata = tn_arena_array(arena, 2, sizeof(payload->metadata[0]));
    TN_ASSERT(payload->metadata);
    for (size_t i = 0; i < (type ? 2u : 1u); i++) {
        Temporal__Api__Common__V1__Payload__MetadataEntry *entry =
            TN_MSG(arena, temporal__api__common__v1__payload__metadata_entry);

        entry->key = (char *)(uintptr_t)metadata[i][0];
        entry->value =
            (ProtobufCBinaryData){strlen(metadata[i][1]), (uint8_t *)(uintptr_t)metadata[i][1]};
        payload->metadata[payload->n_metadata++] = entry;
    }
    payload->data = bytes_of(tn_arena_blob(arena, tn_buf_blob(&json)));
    tn_buf_done(&json);
    return payload;
}

static void memo_put(tn_arena *arena, Temporal__Api__Common__V1__Memo *memo, const char *key,
                     Temporal__Api__Common__V1__Payload *value)
{
    Temporal__Api__Common__V1__Memo__FieldsEntry *entry =
        TN_MSG(arena, temporal__api__common__v1__memo__fields_entry);

    if (!memo->fields) {
        memo->fields = tn_arena_array(arena, 4, sizeof(memo->fields[0]));
        TN_ASSERT(memo->fields);
    }
    entry->key = (char *)(uintptr_t)key;
    entry->value = value;
    memo->fields[memo->n_fields++] = entry;
}

static const tn_fault *create(tn_tx *tx, const ProtobufCMessage *message, tn_object_reply *reply)
{
    const start_request *request = (const start_request *)message;
    Temporal__Api__Common__V1__Memo *memo = TN_MSG(tx->arena, temporal__api__common__v1__memo);
    Temporal__Api__Common__V1__SearchAttributes *attributes =
        TN_MSG(tx->arena, temporal__api__common__v1__search_attributes);
    Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry *user =
        TN_MSG(tx->arena, temporal__api__common__v1__search_attributes__indexed_fields_entry);
    tn_batch_job *batch = fresh(tx->ms);
    char request_id[37];
    uint8_t id[16];

    tn_uuid_v4(tx->rng, id);
    tn_uuid_format(id, request_id);
    memo_put(tx->arena, memo, "batch_operation_type",
             text_payload(tx->arena, tn_batch_type_name(request), NULL));
    memo_put(tx->arena, memo, "batch_operation_reason",
             text_payload(tx->arena, request->reason, NULL));
    if (*request->visibility_query)
        memo_put(tx->arena, memo, "batch_operation_visibility_query",
                 text_payload(tx->arena, request->visibility_query, NULL));
    user->key = (char *)(uintptr_t) "BatcherUser";
    user->value = text_payload(tx->arena, tn_batch_identity(request), "Keyword");
    attributes->indexed_fields = &user;
    attributes->n_indexed_fields = 1;
    tn_object_begin(tx, &tn_batch_kind,
                    &(tn_object_start){.type = "temporal-sys-batch-workflow-protobuf",
                                       .task_queue = "temporal-sys-per-ns-tq",
                                       .identity = tn_batch_identity(request),
                                       .request_id = request_id,
                                       .memo = memo,
                                       .attributes = attributes});
    tx->ms->object = batch;
    batch->request = tn_ms_blobdup(tx->ms, tn_msg_pack(tx->arena, request));
    reply->response = tn_msg_new(
        tx->arena, &temporal__api__workflowservice__v1__start_batch_operation_response__descriptor);
    return NULL;
}

/* ---- going on -------------------------------------------------------------------------------- */

static bool may_go(const tn_batch_job *batch)
{
    return batch->counted && batch->paged && batch->n_out < batch->concurrency &&
           batch->n_out < batch->n_left;
}

static uint64_t deadline_ns(const tn_ms *ms)
{
    const tn_batch_job *batch = ms->object;

    return tn_ms_running(ms) && may_go(batch) ? batch->next_ns : UINT64_MAX;
}

/* A second's worth may go at once after a pause. */
static void fire(tn_tx *tx)
{
    tn_batch_job *batch = tx->ms->object;
    uint64_t every_ns = batch->rate > 0 ? (uint64_t)(1e9 / batch->rate) : 0;

    if (!tn_ms_running(tx->ms))
        return;
    if (batch->next_ns + TN_SEC < tx->now_ns)
        batch->next_ns = tx->now_ns - TN_SEC;
    for (size_t i = 0; i < batch->n_targets && may_go(batch) && batch->next_ns <= tx->now_ns; i++) {
        tn_batch_target *target = &batch->targets[i];

        if (target->done || target->out)
            continue;
        target->out = true;
        target->want.dispatched = false;
        batch->n_out++;
        batch->next_ns += every_ns;
    }
}

static bool has_wants(const tn_ms *ms) { return tn_ms_running(ms); }

static void wants(tn_ms *ms, uint64_t now_ns, void (*each)(void *user, tn_want want, void *item),
                  void *user)
{
    tn_batch_job *batch = ms->object;

    (void)now_ns;
    if (!tn_ms_running(ms))
        return;
    if (!batch->counted) {
        if (!batch->count.dispatched)
            each(user, TN_WANT_OBJECT, &batch->count);
    } else if (!batch->paged) {
        if (!batch->page.dispatched)
            each(user, TN_WANT_OBJECT, &batch->page);
    } else {
        for (size_t i = 0; i < batch->n_targets; i++)
            if (batch->targets[i].out && !batch->targets[i].want.dispatched)
                each(user, TN_WANT_OBJECT, &batch->targets[i].want);
    }
}

/* It would not become true by being asked again. */
static bool is_final(const tn_fault *fault)
{
    return fault->code == TN_GRPC_INVALID_ARGUMENT || fault->code == TN_GRPC_PERMISSION_DENIED ||
           fault->code == TN_GRPC_UNIMPLEMENTED || fault->code == TN_GRPC_ALREADY_EXISTS ||
           fault->code == TN_GRPC_DATA_LOSS;
}

static void looked_up(tn_tx *tx, const tn_object_result *result)
{
    tn_batch_job *batch = tx->ms->object;
    const Tenon__BatchPage *page = (const Tenon__BatchPage *)result->response;
    tn_object_want *want = result->what == TN_BATCH_COUNT ? &batch->count : &batch->page;

    want->dispatched = false;
    if (result->fault) {
        if (is_final(result->fault))
            tn_object_close(tx, FAILED, tx->env->retention_ns);
        return;
    }
    tx->extras_dirty = true;
    batch->concurrency = page->concurrency ? page->concurrency : 1;
    batch->rate = page->rate;
    if (result->what == TN_BATCH_COUNT) {
        batch->counted = true;
        batch->total = page->count;
        return;
    }
    take_targets(tx->ms, batch, page->targets, page->n_targets);
    tn_ms_replace_blob(tx->ms, &batch->next_page,
                       (tn_blob){page->next_page.data, page->next_page.len});
    batch->paged = true;
    batch->last = page->next_page.len == 0;
}

static void page_done(tn_tx *tx)
{
    tn_batch_job *batch = tx->ms->object;

    tx->extras_dirty = true;
    drop_targets(tx->ms, batch);
    if (!batch->last) {
        batch->paged = batch->page.dispatched = false;
        return;
    }
    batch->total = batch->complete + batch->failed;
    tn_object_close(tx, COMPLETED, tx->env->retention_ns);
}

static void acted(tn_tx *tx, const tn_object_result *result)
{
    tn_batch_job *batch = tx->ms->object;
    tn_batch_target *target = target_of(batch, result->id);
    bool gone =
        result->fault &&
        result->fault->code == TN_GRPC_NOT_FOUND; /* closed or deleted: nothing is left to do */

    if (!target || !target->out)
        return; /* told before */
    target->out = false;
    batch->n_out--;
    if (result->fault && !gone && !is_final(result->fault) &&
        ++target->attempts < TN_BATCH_ATTEMPTS_MAX)
        return;
    target->done = true;
    batch->n_left--;
    batch->unsaved++;
    if (result->fault && !gone)
        batch->failed++;
    else
        batch->complete++;
}

static void result_came(tn_tx *tx, const tn_object_result *result)
{
    tn_batch_job *batch = tx->ms->object;

    if (!tn_ms_running(tx->ms))
        return;
    if (result->what == TN_BATCH_TARGET)
        acted(tx, result);
    else
        looked_up(tx, result);
    if (tn_ms_running(tx->ms) && batch->paged && batch->n_left == 0)
        page_done(tx);
    if (batch->unsaved >= SAVE_EVERY)
        tx->extras_dirty = true;
    if (tx->extras_dirty)
        batch->unsaved = 0;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void show_executions(const start_request *request, tn_arena *arena,
                            Temporal__Api__Workflowservice__V1__DescribeBatchOperationResponse *out)
{
    out->executions =
        tn_arena_array(arena, request->n_target_executions + request->n_executions + 1,
                       sizeof(out->executions[0]));
    TN_ASSERT(out->executions);
    for (size_t i = 0; i < request->n_target_executions; i++)
        out->executions[out->n_executions++] = request->target_executions[i];
    for (size_t i = 0; i < request->n_executions; i++) {
        Temporal__Api__Common__V1__Execution *to =
            TN_MSG(arena, temporal__api__common__v1__execution);

        to->type = TEMPORAL__API__ENUMS__V1__EXECUTION_TYPE__EXECUTION_TYPE_WORKFLOW;
        to->business_id = request->executions[i]->workflow_id;
        to->run_id = request->executions[i]->run_id;
        out->executions[out->n_executions++] = to;
    }
}

static ProtobufCMessage *describe(const tn_ms *ms, tn_arena *arena)
{
    const tn_batch_job *batch = ms->object;
    const start_request *request = tn_batch_request(batch, arena);
    Temporal__Api__Workflowservice__V1__DescribeBatchOperationResponse *out =
        TN_MSG(arena, temporal__api__workflowservice__v1__describe_batch_operation_response);

    out->operation_type = (Temporal__Api__Enums__V1__BatchOperationType)tn_batch_type_of(
        tn_str_from(tn_batch_type_name(request)));
    out->job_id = request->job_id;
    out->state = (Temporal__Api__Enums__V1__BatchOperationState)tn_batch_state(ms->status);
    out->start_time = tn_ts_from_ns(arena, (int64_t)ms->start_ns);
    if (!tn_ms_running(ms))
        out->close_time = tn_ts_from_ns(arena, (int64_t)ms->close_ns);
    out->total_operation_count = batch->total;
    out->complete_operation_count = batch->complete;
    out->failure_operation_count = batch->failed;
    out->identity = (char *)(uintptr_t)tn_batch_identity(request);
    out->reason = request->reason;
    out->query = request->visibility_query;
    show_executions(request, arena, out);
    return &out->base;
}

static const tn_fault *call(tn_tx *tx, const ProtobufCMessage *request, tn_object_reply *reply)
{
    if (request->descriptor ==
        &temporal__api__workflowservice__v1__describe_batch_operation_request__descriptor) {
        reply->response = describe(tx->ms, tx->arena);
        return NULL;
    }
    if (request->descriptor !=
        &temporal__api__workflowservice__v1__stop_batch_operation_request__descriptor)
        return tn_fault_make(tx->arena, TN_GRPC_UNIMPLEMENTED,
                             "a batch job does not know this call");
    if (!tn_ms_running(tx->ms))
        return tn_fault_make(tx->arena, TN_GRPC_NOT_FOUND, "workflow execution already completed");
    tn_object_close(tx, TERMINATED, tx->env->retention_ns);
    reply->response = tn_msg_new(
        tx->arena, &temporal__api__workflowservice__v1__stop_batch_operation_response__descriptor);
    return NULL;
}

static const tn_fault *not_found(tn_arena *arena, tn_str id, tn_str run_id)
{
    Temporal__Api__Errordetails__V1__NotFoundFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__NOT_FOUND_FAILURE__INIT;

    (void)run_id;
    return tn_fault_detailed(arena, TN_GRPC_NOT_FOUND, &detail.base,
                             "workflow not found for ID: " TN_STR_FMT, TN_STR_ARG(id));
}

static void listing(const tn_ms *ms, tn_arena *arena, tn_object_listing *inout)
{
    const tn_batch_job *batch = ms->object;
    Temporal__Api__Common__V1__Memo *memo;
    Temporal__Api__Common__V1__Payload *payload;
    char *json;

    if (ms->status != COMPLETED)
        return;
    memo = TN_MSG(arena, temporal__api__common__v1__memo);
    payload = text_payload(arena, "", NULL);
    json = tn_arena_printf(arena, "{\"NumSuccess\":%lld,\"NumFailure\":%lld}",
                           (long long)batch->complete, (long long)batch->failed);
    TN_ASSERT(json);
    payload->data = (ProtobufCBinaryData){strlen(json), (uint8_t *)json};
    memo_put(arena, memo, "batch_operation_stats", payload);
    inout->memo = memo;
}

const tn_object_kind tn_batch_kind = {
    .letter = TN_BATCH_LETTER,
    .division = TN_BATCH_DIVISION,
    .load = load,
    .save = save,
    .destroy = destroy,
    .creates = creates,
    .meets = meets,
    .create = create,
    .call = call,
    .not_found = not_found,
    .deadline_ns = deadline_ns,
    .fire = fire,
    .wants = wants,
    .has_wants = has_wants,
    .result = result_came,
    .listing = listing,
};
