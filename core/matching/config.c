/* SPDX-License-Identifier: MIT */
/* The settings that operators give a task queue (UpdateTaskQueueConfig): a row in the store for the queue, whatever its
 * partitions.  Each partition reads it before it hands out its first task, so that a queue that stands still goes on doing so
 * after a restart.  Updates go through the root partition, which writes the row under its version and then has all
 * partitions read it again. */
#include <stdlib.h>

#include "client/partition.h"
#include "matching/priv.h"
#include "proto/proto.h"
#include "store/store.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"
#include "tenon/store.pb-c.h"

#define AGAIN_NS TN_SEC
#define TRIES_MAX 20
#define TELL_NS (2 * TN_SEC) /* a partition that cannot be told so soon reads when it begins anew */
#define TYPES_LAST 3u

typedef Temporal__Api__Workflowservice__V1__UpdateTaskQueueConfigRequest update_request;
typedef Temporal__Api__Workflowservice__V1__UpdateTaskQueueConfigResponse update_response;
typedef Temporal__Api__Workflowservice__V1__UpdateTaskQueueConfigRequest__RateLimitUpdate
    rate_update;
typedef Temporal__Api__Taskqueue__V1__TaskQueueConfig config_message;
typedef Temporal__Api__Taskqueue__V1__TaskQueueConfig__FairnessWeightOverridesEntry weight_entry;
typedef Temporal__Api__Taskqueue__V1__RateLimitConfig rate_config;

struct tn_tq_config {
    tn_tq *tq;
    bool known, loading, again; /* again: it was written meanwhile */
    tn_store_op op;
    tn_arena *reading, *arena; /* of the read under way; of what is below */
    tn_list waiters;           /* tn_mreq */
    tn_loop_timer timer;
    double rate; /* of the whole queue; below 0: none */
    tn_fair_rules rules;
    const config_message *message; /* NULL: nothing is set */
};

static tn_key key_of(tn_arena *arena, tn_str ns_id, tn_str name)
{
    return tn_store_key(arena, TN_TABLE_TASKQUEUE, TN_PARTITION_CLUSTER,
                        tn_store_row_current(arena, ns_id, name));
}

static config_message *unpack_config(tn_arena *arena, ProtobufCBinaryData bytes)
{
    ProtobufCMessage *message = NULL;
    if (tn_proto_unpack(&temporal__api__taskqueue__v1__task_queue_config__descriptor,
                        tn_blob_from(bytes.data, bytes.len), arena, &message, NULL) != TN_OK)
        return NULL;
    return (config_message *)message;
}

/* NULL: no record, or one that nobody can read. */
static Tenon__TaskQueueRecord *unpack_record(tn_arena *arena, tn_blob bytes)
{
    ProtobufCMessage *message = NULL;
    if (tn_proto_unpack(&tenon__task_queue_record__descriptor, bytes, arena, &message, NULL) !=
        TN_OK)
        return NULL;
    return (Tenon__TaskQueueRecord *)message;
}

static config_message *config_in(tn_arena *arena, const Tenon__TaskQueueRecord *record,
                                 int32_t type)
{
    for (size_t i = 0; record && i < record->n_types; i++)
        if (record->types[i]->type == type)
            return unpack_config(arena, record->types[i]->config);
    return NULL;
}

/* ---- reading ---- */

static int by_key(const void *a, const void *b)
{
    const tn_fair_weight *x = a, *y = b;
    return tn_blob_cmp(tn_blob_of_str(x->key), tn_blob_of_str(y->key));
}

static double rate_in(const rate_config *config)
{
    return config && config->rate_limit ? (double)config->rate_limit->requests_per_second : -1;
}

static void use(tn_tq_config *c, const config_message *message)
{
    tn_tq *tq = c->tq;
    c->message = message;
    c->rate = message ? rate_in(message->queue_rate_limit) : -1;
    double key_rate = message ? rate_in(message->fairness_keys_rate_limit_default) : -1;
    size_t n = message ? message->n_fairness_weight_overrides : 0;
    tn_fair_weight *weights = n ? TN_NEW_ARRAY(c->arena, tn_fair_weight, n) : NULL;
    for (size_t i = 0; i < n; i++)
        weights[i] = (tn_fair_weight){tn_str_from(message->fairness_weight_overrides[i]->key),
                                      message->fairness_weight_overrides[i]->value};
    if (n)
        qsort(weights, n, sizeof(weights[0]), by_key);
    c->rules = (tn_fair_rules){
        .key_rate =
            key_rate < 0 ? -1 : key_rate / tn_partitions_read(tq->ns->name, tq->base, tq->type),
        .weights = weights,
        .n_weights = n};
    tn_backlog_set_rules(&tq->backlog, message ? &c->rules : NULL, tn_now_mono_ns());
    tn_rates_changed(tq);
}

static void serve_waiters(tn_tq_config *c)
{
    tn_list waiters;
    tn_list_init(&waiters);
    for (tn_list *link; (link = tn_list_pop_front(&c->waiters));)
        tn_list_push_back(&waiters, link);
    tn_mloop *ml = c->tq->ml;
    for (tn_list *link; (link = tn_list_pop_front(&waiters));) {
        tn_mreq *req = TN_CONTAINER_OF(link, tn_mreq, link);
        if (req->op == TN_MOP_CONFIG_CHANGED)
            tn_match_config_changed(ml, req);
        else
            tn_match_describe(ml, req);
    }
}

static void read_row(tn_tq_config *c);

static void read_again(tn_loop_timer *timer)
{
    read_row(TN_CONTAINER_OF(timer, tn_tq_config, timer));
}

static void row_came(tn_store_op *op)
{
    tn_tq_config *c = op->user;
    tn_tq *tq = c->tq;
    bool failed = op->status != TN_OK && op->status != TN_ENOTFOUND;
    if (failed || c->again) {
        tn_arena_destroy(c->reading);
        c->reading = NULL;
        if (!failed) {
            read_row(c);
            return;
        }
        TN_LOG(TN_LOG_WARN, "matching", "the settings of a task queue could not be read",
               TN_LOG_S("queue", tq->base), TN_LOG_Z("why", op->error.text));
        serve_waiters(c);
        if (tq->ml->stopping) {
            c->loading = false;
            tq->n_out--;
        } else {
            tn_loop_timer_start(&c->timer, tn_now_mono_ns() + AGAIN_NS);
        }
        return;
    }
    tn_arena *old = c->arena;
    c->arena = c->reading;
    c->reading = NULL;
    const Tenon__TaskQueueRecord *record =
        op->status == TN_OK ? unpack_record(c->arena, op->u.get.row.value) : NULL;
    use(c, config_in(c->arena, record, (int32_t)tq->type));
    tn_arena_destroy(old);
    c->known = tq->config_read = true;
    c->loading = false;
    tq->n_out--;
    serve_waiters(c);
    if (!c->message && !c->loading) /* the usual case leaves nothing behind */
        tn_tq_config_done(tq);
    tn_match(tq);
}

static void read_row(tn_tq_config *c)
{
    c->again = false;
    c->reading = tn_arena_create(0);
    c->op = (tn_store_op){.arena = c->reading, .user = c, .done = row_came};
    c->op.u.get.key = key_of(c->reading, c->tq->ns->id, c->tq->base);
    tn_store_get(&c->op);
}

void tn_tq_config_load(tn_tq *tq)
{
    tn_tq_config *c = tq->config;
    if (!c) {
        c = tq->config = tn_xcalloc(1, sizeof(*c));
        c->tq = tq;
        c->rate = -1;
        c->known = tq->config_read;
        tn_list_init(&c->waiters);
        tn_loop_timer_init(&c->timer, read_again);
    }
    if (c->loading) {
        c->again = true;
        return;
    }
    c->loading = true;
    tq->n_out++;
    read_row(c);
}

bool tn_tq_config_known(const tn_tq *tq) { return !tq->config || tq->config->known; }

double tn_tq_config_rate(const tn_tq *tq) { return tq->config ? tq->config->rate : -1; }

const ProtobufCMessage *tn_tq_config_message(const tn_tq *tq, tn_arena *arena)
{
    return tq->config && tq->config->message ? tn_proto_copy(&tq->config->message->base, arena)
                                             : NULL;
}

bool tn_tq_config_wait(tn_tq *tq, tn_mreq *req)
{
    if (tn_tq_config_known(tq))
        return false;
    tn_list_init(&req->link);
    tn_list_push_back(&tq->config->waiters, &req->link);
    return true;
}

void tn_tq_config_done(tn_tq *tq)
{
    tn_tq_config *c = tq->config;
    if (!c)
        return;
    TN_ASSERT(!c->loading && tn_list_empty(&c->waiters));
    tn_loop_timer_stop(&c->timer);
    tn_arena_destroy(c->arena);
    free(c);
    tq->config = NULL;
}

/* The server stops: what could not be read will not be. */
void tn_tq_config_stop(tn_tq *tq)
{
    tn_tq_config *c = tq->config;
    if (!c || !c->loading || c->reading)
        return;
    tn_loop_timer_stop(&c->timer);
    c->loading = false;
    tq->n_out--;
}

/* A queue of each type, one after the other: answered when the last knows. */
void tn_match_config_changed(tn_mloop *ml, tn_mreq *req)
{
    while (req->type <= TYPES_LAST) {
        tn_tq *tq = tn_tq_find(ml, req->ns, req->queue, req->type++);
        if (!tq || tq->sticky || ml->stopping)
            continue;
        TN_LIST_FOREACH (link, &tq->versions)
            tn_tq_config_load(TN_CONTAINER_OF(link, tn_tq, in_versions));
        tn_tq_config_load(tq);
        tn_list_init(&req->link);
        tn_list_push_back(&tq->config->waiters, &req->link);
        return;
    }
    tn_client_matching_done(req);
}

/* ---- writing ---- */

typedef struct updating {
    tn_mreq *req;
    tn_mloop *ml;
    tn_store_op op;
    uint64_t version;
    unsigned tries, waiting;
    update_response response;
} updating;

static void read_for_update(updating *u);

static void end(updating *u, const tn_fault *fault)
{
    u->req->fault = fault;
    u->req->response = fault ? NULL : &u->response.base;
    tn_client_matching_done(u->req);
}

static void told_one(updating *u)
{
    if (--u->waiting == 0)
        end(u, NULL);
}

static void partition_told(tn_mreq *m)
{
    updating *u = m->user;
    tn_namespace_unref(m->ns);
    tn_arena_destroy(m->arena);
    told_one(u);
}

static uint32_t partitions_of(const tn_mreq *req)
{
    uint32_t most = 1;
    for (uint32_t type = TN_TASK_WORKFLOW; type <= TYPES_LAST; type++) {
        uint32_t read = tn_partitions_read(req->ns->name, req->queue, type);
        uint32_t write = tn_partitions_write(req->ns->name, req->queue, type);
        most = read > most ? read : most;
        most = write > most ? write : most;
    }
    return most;
}

static void tell_partitions(updating *u)
{
    u->waiting = 1;
    for (uint32_t i = 0, n = partitions_of(u->req); i < n; i++) {
        tn_arena *arena = tn_arena_create(0);
        tn_mreq *m = TN_NEW(arena, tn_mreq);
        *m = (tn_mreq){.arena = arena,
                       .home = u->ml->loop,
                       .op = TN_MOP_CONFIG_CHANGED,
                       .ns = tn_namespace_ref(u->req->ns),
                       .queue = tn_partition_name(arena, u->req->queue, i),
                       .type = TN_TASK_WORKFLOW,
                       .deadline_mono_ns = tn_now_mono_ns() + TELL_NS,
                       .done = partition_told,
                       .user = u};
        u->waiting++;
        tn_client_matching(m);
    }
    told_one(u);
}

static rate_config *rate_of(tn_arena *arena, const update_request *request,
                            const rate_update *update)
{
    rate_config *out = TN_NEW(arena, rate_config);
    temporal__api__taskqueue__v1__rate_limit_config__init(out);
    out->rate_limit = update->rate_limit;
    out->metadata = TN_NEW(arena, Temporal__Api__Taskqueue__V1__ConfigMetadata);
    temporal__api__taskqueue__v1__config_metadata__init(out->metadata);
    out->metadata->reason = update->reason;
    out->metadata->update_identity = request->identity;
    out->metadata->update_time = tn_ts_from_ns(arena, (int64_t)tn_now_wall_ns());
    return out;
}

static bool unset_in(const update_request *request, const char *key)
{
    for (size_t i = 0; i < request->n_unset_fairness_weight_overrides; i++)
        if (strcmp(request->unset_fairness_weight_overrides[i], key) == 0)
            return true;
    return false;
}

static const update_request *set_in(const update_request *request, const char *key)
{
    for (size_t i = 0; i < request->n_set_fairness_weight_overrides; i++)
        if (strcmp(request->set_fairness_weight_overrides[i]->key, key) == 0)
            return request;
    return NULL;
}

static void merge_weights(tn_arena *arena, const update_request *request, config_message *config)
{
    size_t n_old = config->n_fairness_weight_overrides,
           n_set = request->n_set_fairness_weight_overrides, n = 0;
    weight_entry **out = TN_NEW_ARRAY(arena, weight_entry *, n_old + n_set + 1);
    for (size_t i = 0; i < n_old; i++) {
        weight_entry *old = config->fairness_weight_overrides[i];
        if (!unset_in(request, old->key) && !set_in(request, old->key))
            out[n++] = old;
    }
    for (size_t i = 0; i < n_set; i++) {
        out[n] = TN_NEW(arena, weight_entry);
        temporal__api__taskqueue__v1__task_queue_config__fairness_weight_overrides_entry__init(
            out[n]);
        out[n]->key = request->set_fairness_weight_overrides[i]->key;
        out[n++]->value = request->set_fairness_weight_overrides[i]->value;
    }
    config->fairness_weight_overrides = out;
    config->n_fairness_weight_overrides = n;
}

/* The new record, packed; empty: there are too many weights. */
static tn_blob updated(updating *u, Tenon__TaskQueueRecord *record, config_message *config)
{
    tn_arena *arena = u->req->arena;
    const update_request *request = (const update_request *)u->req->request;
    tn_blob packed = {0};
    if (request->update_queue_rate_limit)
        config->queue_rate_limit = rate_of(arena, request, request->update_queue_rate_limit);
    if (request->update_fairness_key_rate_limit_default)
        config->fairness_keys_rate_limit_default =
            rate_of(arena, request, request->update_fairness_key_rate_limit_default);
    merge_weights(arena, request, config);
    int64_t most = tn_dyn_task_i64(TN_DYN_MATCHING_WEIGHTS_MAX, u->req->ns->name, u->req->queue,
                                   (int32_t)request->task_queue_type);
    if (config->n_fairness_weight_overrides > (most > 0 ? (size_t)most : 0))
        return packed;
    Tenon__TaskQueueTypeRecord *mine = NULL;
    for (size_t i = 0; i < record->n_types; i++)
        if (record->types[i]->type == (int32_t)request->task_queue_type)
            mine = record->types[i];
    if (!mine) {
        Tenon__TaskQueueTypeRecord **types =
            TN_NEW_ARRAY(arena, Tenon__TaskQueueTypeRecord *, record->n_types + 1);
        for (size_t i = 0; i < record->n_types; i++)
            types[i] = record->types[i];
        mine = types[record->n_types] = TN_NEW(arena, Tenon__TaskQueueTypeRecord);
        tenon__task_queue_type_record__init(mine);
        mine->type = (int32_t)request->task_queue_type;
        record->types = types;
        record->n_types++;
    }
    if (tn_proto_pack(&config->base, arena, &packed) != TN_OK)
        return (tn_blob){0};
    mine->config = (ProtobufCBinaryData){packed.n, (uint8_t *)(uintptr_t)packed.p};
    if (tn_proto_pack(&record->base, arena, &packed) != TN_OK)
        return (tn_blob){0};
    return packed;
}

static void written(tn_store_op *op)
{
    updating *u = op->user;
    if (op->status == TN_OK)
        tell_partitions(u);
    else if (op->status == TN_ECONFLICT && ++u->tries < TRIES_MAX)
        read_for_update(u);
    else
        end(u, tn_fault_from_status(u->req->arena,
                                    op->status == TN_ECONFLICT ? TN_EUNAVAILABLE : op->status,
                                    &op->error));
}

static void read_done(tn_store_op *op)
{
    updating *u = op->user;
    tn_arena *arena = u->req->arena;
    const update_request *request = (const update_request *)u->req->request;
    if (op->status != TN_OK && op->status != TN_ENOTFOUND) {
        end(u, tn_fault_from_status(arena, op->status, &op->error));
        return;
    }
    u->version = op->status == TN_OK ? op->u.get.row.version : 0;
    Tenon__TaskQueueRecord *record =
        op->status == TN_OK ? unpack_record(arena, op->u.get.row.value) : NULL;
    if (!record) {
        record = TN_NEW(arena, Tenon__TaskQueueRecord);
        tenon__task_queue_record__init(record);
    }
    config_message *config = config_in(arena, record, (int32_t)request->task_queue_type);
    if (!config) {
        config = TN_NEW(arena, config_message);
        temporal__api__taskqueue__v1__task_queue_config__init(config);
    }
    tn_blob packed = updated(u, record, config);
    if (!packed.n) {
        end(u,
            tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                          "fairness weight overrides update rejected: exceeding maximum key size"));
        return;
    }
    u->response.config = config;
    tn_store_batch batch;
    tn_key key = key_of(arena, u->req->ns->id, u->req->queue);
    tn_store_batch_init(&batch, arena);
    tn_store_batch_cond(&batch, u->version ? TN_COND_VERSION : TN_COND_ABSENT, key, u->version);
    tn_store_batch_put(&batch, key, packed);
    u->op = (tn_store_op){.arena = arena, .user = u, .done = written};
    u->op.u.commit.batch = tn_store_batch_finish(&batch);
    tn_store_commit(&u->op);
}

static void read_for_update(updating *u)
{
    u->op = (tn_store_op){.arena = u->req->arena, .user = u, .done = read_done};
    u->op.u.get.key = key_of(u->req->arena, u->req->ns->id, u->req->queue);
    tn_store_get(&u->op);
}

void tn_match_update_config(tn_mloop *ml, tn_mreq *req)
{
    tn_arena_set_limit(req->arena, 0);
    updating *u = TN_NEW(req->arena, updating);
    u->req = req;
    u->ml = ml;
    temporal__api__workflowservice__v1__update_task_queue_config_response__init(&u->response);
    read_for_update(u);
}
