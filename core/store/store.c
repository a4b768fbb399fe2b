/* SPDX-License-Identifier: MIT */
/* Carries operations to the persistence plugin.  The commits of one loop iteration leave together at its
 * end, as one group.  Every answer comes from the end of an iteration or from a message, never from inside
 * the call that asked, so that a caller may ask again from its callback without growing the stack. */
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "metrics/metrics.h"
#include "plugin/plugin.h"
#include "store/private.h"

#define LOOPS_MAX 64u
#define GROUP_MAX 256u /* members of one call; more leave in several */

typedef struct commit_part { /* in the memory of the operation */
    tn_commit_req req;
    tn_batch batch;
    tn_commit out;
} commit_part;

typedef struct queue {
    tn_store_op *first, *last;
} queue;

typedef struct loop_state {
    tn_msg flush; /* deferred while commits wait to leave */
    tn_msg tell;  /* posted while answers wait to be told: other work has its turn in between */
    bool deferred, posted;
    queue commits, answers;
} loop_state;

static tn_plugin_instance *plugin;
static const tn_persistence_ops *ops;
static _Atomic uint64_t timeout_ns = TN_STORE_TIMEOUT_NS;
static loop_state states[LOOPS_MAX];
static void (*meter)(const tn_store_op *op, uint32_t table, bool writes);
static void (*answered)(const tn_store_op *op, uint32_t table, uint64_t latency_ns);

/* ---- the private part of tn_store_op ------------------------------------------------------------ */

enum { PRIV_CALL, PRIV_NEXT, PRIV_PART, PRIV_VERB, PRIV_BEGAN, PRIV_TRIES, PRIV_TABLE };

static tn_plugin_call *call_of(const tn_store_op *op) { return op->priv[PRIV_CALL]; }
static void *part_of(const tn_store_op *op) { return op->priv[PRIV_PART]; }

static void push(queue *q, tn_store_op *op)
{
    op->priv[PRIV_NEXT] = NULL;
    if (q->first)
        q->last->priv[PRIV_NEXT] = op;
    else
        q->first = op;
    q->last = op;
}

static tn_store_op *pop(queue *q)
{
    tn_store_op *op = q->first;
    if (op)
        q->first = op->priv[PRIV_NEXT];
    return op;
}

static loop_state *state_here(void)
{
    tn_loop *loop = tn_loop_current();
    TN_ASSERT(loop && plugin);
    return &states[tn_loop_index(loop)];
}

/* ---- results ------------------------------------------------------------------------------------ */

typedef enum verb { VERB_GET, VERB_SCAN, VERB_COMMIT, VERB_COUNT } verb;

static struct {
    tn_counter *requests, *errors;
    tn_histogram *latency;
} figures[VERB_COUNT];
static tn_counter *groups;
static tn_histogram *group_members;

static void make_figures(void)
{
    static const char *const names[VERB_COUNT] = {"Get", "Scan", "Commit"};
    for (int v = 0; v < VERB_COUNT; v++) {
        tn_label label = TN_LABEL_Z("operation", names[v]);
        figures[v].requests =
            tn_metrics_counter("persistence_requests", "Operations asked of the store", &label, 1);
        figures[v].errors =
            tn_metrics_counter("persistence_errors", "Operations that failed", &label, 1);
        figures[v].latency = tn_metrics_histogram("persistence_latency", "Time of an operation",
                                                  TN_BUCKETS_SECONDS, &label, 1);
    }
    groups =
        tn_metrics_counter("tenon_store_groups", "Groups of commits handed to the driver", NULL, 0);
    group_members = tn_metrics_histogram("tenon_store_group_members", "Commits of a group",
                                         TN_BUCKETS_COUNT, NULL, 0);
}

void tn_store_use_meter(void (*begins)(const tn_store_op *op, uint32_t table, bool writes),
                        void (*ends)(const tn_store_op *op, uint32_t table, uint64_t latency_ns))
{
    meter = begins;
    answered = ends;
}

static uint32_t table_of(const tn_store_op *op, verb what)
{
    if (what == VERB_GET)
        return op->u.get.key.table;
    if (what == VERB_SCAN)
        return op->u.scan.range.from.table;
    const tn_batch *batch = &op->u.commit.batch;
    if (batch->n_muts && batch->muts) /* it may be spoiled */
        return batch->muts[0].key.table;
    return batch->n_conds && batch->conds ? batch->conds[0].key.table : TN_TABLE_META;
}

static void count_answer(const tn_store_op *op, verb what)
{
    uint64_t latency_ns = tn_now_mono_ns() - (uintptr_t)op->priv[PRIV_BEGAN];
    tn_histogram_observe_ns(figures[what].latency, latency_ns);
    if (answered)
        answered(op, (uint32_t)(uintptr_t)op->priv[PRIV_TABLE], latency_ns);
    switch (op->status) {
    case TN_OK:
    case TN_ENOTFOUND:
    case TN_ECONFLICT:
        return; /* answers */
    default:
        break;
    }
    static const char *const names[VERB_COUNT] = {"Get", "Scan", "Commit"};
    tn_label labels[] = {TN_LABEL_Z("operation", names[what]),
                         TN_LABEL_Z("error_type", tn_status_name(op->status))};
    tn_counter_inc(figures[what].errors);
    tn_counter_inc(tn_metrics_counter("persistence_error_with_type",
                                      "Operations that failed, by cause", labels, 2));
}

static void take_get(tn_store_op *op)
{
    if (op->status != TN_OK)
        return;
    op->u.get.row = *(tn_row *)part_of(op);
    tn_plugin_call_take(call_of(op), op->arena);
}

static void take_scan(tn_store_op *op)
{
    if (op->status != TN_OK)
        return;
    op->u.scan.page = *(tn_page *)part_of(op);
    tn_plugin_call_take(call_of(op), op->arena);
}

static void take_commit(tn_store_op *op)
{
    const commit_part *part = part_of(op);
    op->u.commit.commit = part->out;
    if (op->status == TN_ECONFLICT)
        tn_plugin_call_take(call_of(op), op->arena); /* the row that is there */
    else
        op->u.commit.commit.current = (tn_row){0};
}

/* ---- once more ---------------------------------------------------------------------------------- */

/* What a driver has surely not done is asked again a few times before anyone is told: most faults of a store are over
 * in a moment, and a client that has waited long does not try again by itself. */
static const uint64_t again_ns[] = {10 * TN_MS, 50 * TN_MS, 200 * TN_MS};

typedef struct retry {
    tn_loop_timer timer;
    tn_store_op *op;
} retry;

static void ask_again(tn_loop_timer *timer)
{
    tn_store_op *op = TN_CONTAINER_OF(timer, retry, timer)->op;
    switch ((verb)(uintptr_t)op->priv[PRIV_VERB]) {
    case VERB_GET:
        tn_store_get(op);
        break;
    case VERB_SCAN:
        tn_store_scan(op);
        break;
    default:
        tn_store_commit(op);
        break;
    }
}

static bool retried(tn_store_op *op, verb what)
{
    size_t tries = (uintptr_t)op->priv[PRIV_TRIES];
    tn_plugin_call *call = call_of(op);
    if (call->status != TN_EUNAVAILABLE || call->late || tries >= TN_COUNT_OF(again_ns))
        return false;
    retry *again = TN_NEW(op->arena, retry);
    if (!again)
        return false;
    op->status = TN_EUNAVAILABLE;
    tn_plugin_call_end(call);
    count_answer(op, what);
    op->priv[PRIV_TRIES] = (void *)(uintptr_t)(tries + 1);
    again->op = op;
    tn_loop_timer_init(&again->timer, ask_again);
    tn_loop_timer_start(&again->timer, tn_now_mono_ns() + again_ns[tries]);
    return true;
}

/* Results into the caller's memory, then the caller. */
static void answer(tn_store_op *op)
{
    tn_plugin_call *call = call_of(op);
    verb what = (verb)(uintptr_t)op->priv[PRIV_VERB];
    if (retried(op, what))
        return;
    op->status = call->status;
    op->error = call->err;
    op->error.code = call->status;
    if (!call->late && part_of(op)) {
        switch (what) {
        case VERB_GET:
            take_get(op);
            break;
        case VERB_SCAN:
            take_scan(op);
            break;
        case VERB_COMMIT:
            take_commit(op);
            break;
        case VERB_COUNT:
            break;
        }
    }
    tn_plugin_call_end(call);
    count_answer(op, what);
    op->priv[PRIV_TRIES] = NULL; /* the caller may use it for another request */
    op->done(op);
}

static void finished(tn_plugin_call *call) { answer(call->user); }

/* The plugin answered at once, or was not asked: told from a message. */
static void answer_soon(tn_store_op *op)
{
    loop_state *state = state_here();
    push(&state->answers, op);
    if (state->posted)
        return;
    state->posted = true;
    tn_loop_post(tn_loop_current(), &state->tell);
}

static void tell(tn_msg *msg)
{
    loop_state *state = TN_CONTAINER_OF(msg, loop_state, tell);
    state->posted = false;
    queue answers = state->answers;
    state->answers = (queue){0};
    for (tn_store_op *op; (op = pop(&answers));)
        answer(op);
}

static void begin(tn_store_op *op, verb what)
{
    TN_ASSERT(op->arena && op->done);
    uint64_t timeout =
        op->timeout_ns ? op->timeout_ns : atomic_load_explicit(&timeout_ns, memory_order_relaxed);
    op->priv[PRIV_CALL] = tn_plugin_call_begin(plugin, what == VERB_COMMIT ? TN_PLUGIN_WRITE : 0,
                                               timeout, finished, op);
    op->priv[PRIV_PART] = NULL;
    op->priv[PRIV_VERB] = (void *)(uintptr_t)what;
    op->priv[PRIV_BEGAN] = (void *)(uintptr_t)tn_now_mono_ns();
    op->status = TN_PENDING;
    tn_counter_inc(figures[what].requests);
    uint32_t table = table_of(op, what);
    op->priv[PRIV_TABLE] = (void *)(uintptr_t)table;
    if (meter)
        meter(op, table, what == VERB_COMMIT);
    op->account.paid = false; /* the operation may ask again */
}

static void refuse(tn_store_op *op)
{
    tn_plugin_call *call = call_of(op);
    tn_plugin_call_returned(call, TN_ETOOLARGE);
    tn_error_set(&call->err, TN_ETOOLARGE, "the request does not fit its memory");
    op->priv[PRIV_PART] = NULL;
    answer_soon(op);
}

/* ---- get and scan ------------------------------------------------------------------------------- */

void tn_store_get(tn_store_op *op)
{
    begin(op, VERB_GET);
    tn_plugin_call *call = call_of(op);
    tn_key *key = TN_NEW(call->arena, tn_key);
    tn_row *row = TN_NEW(call->arena, tn_row);
    if (!key || !row || !tn_store_copy_key(call->arena, &op->u.get.key, key)) {
        refuse(op);
        return;
    }
    op->priv[PRIV_PART] = row;
    uint64_t entered = tn_plugin_enter();
    tn_status status = ops->get(tn_plugin_ctx(plugin), call->op, key, row);
    tn_plugin_left(plugin, "get", entered);
    if (tn_plugin_call_returned(call, status) != TN_PENDING)
        answer_soon(op);
}

void tn_store_scan(tn_store_op *op)
{
    begin(op, VERB_SCAN);
    tn_plugin_call *call = call_of(op);
    tn_range *range = TN_NEW(call->arena, tn_range);
    tn_page *page = TN_NEW(call->arena, tn_page);
    if (!range || !page || !tn_store_copy_range(call->arena, &op->u.scan.range, range)) {
        refuse(op);
        return;
    }
    page->struct_size = sizeof *page;
    op->priv[PRIV_PART] = page;
    uint64_t entered = tn_plugin_enter();
    tn_status status = ops->scan(tn_plugin_ctx(plugin), call->op, range, page);
    tn_plugin_left(plugin, "scan", entered);
    if (tn_plugin_call_returned(call, status) != TN_PENDING)
        answer_soon(op);
}

/* ---- commits ------------------------------------------------------------------------------------ */

void tn_store_commit(tn_store_op *op)
{
    begin(op, VERB_COMMIT);
    tn_plugin_call *call = call_of(op);
    op->u.commit.commit = (tn_commit){0};
    commit_part *part = TN_NEW(call->arena, commit_part);
    if (!part || !tn_store_copy_batch(call->arena, &op->u.commit.batch, &part->batch)) {
        refuse(op);
        return;
    }
    part->out.struct_size = sizeof part->out;
    part->req = (tn_commit_req){.struct_size = sizeof part->req,
                                .status = TN_EINTERNAL, /* for a driver that forgets to set it */
                                .op = call->op,
                                .batch = &part->batch,
                                .out = &part->out};
    op->priv[PRIV_PART] = part;
    loop_state *state = state_here();
    push(&state->commits, op);
    if (state->deferred)
        return;
    state->deferred = true;
    tn_loop_defer(&state->flush);
}

static void send_group(tn_store_op **members, size_t n)
{
    tn_commit_req *reqs[GROUP_MAX];
    tn_plugin_call
        *calls[GROUP_MAX]; /* a member may finish, and go, while others are still looked at */
    for (size_t i = 0; i < n; i++) {
        reqs[i] = &((commit_part *)part_of(members[i]))->req;
        calls[i] = call_of(members[i]);
    }
    tn_counter_inc(groups);
    tn_histogram_observe(group_members, (double)n);
    uint64_t entered = tn_plugin_enter();
    ops->commit(tn_plugin_ctx(plugin), reqs, n);
    tn_plugin_left(plugin, "commit", entered);
    for (size_t i = 0; i < n; i++)
        if (tn_plugin_call_returned(calls[i], reqs[i]->status) != TN_PENDING)
            answer_soon(members[i]);
}

static void flush(tn_msg *msg)
{
    loop_state *state = TN_CONTAINER_OF(msg, loop_state, flush);
    state->deferred = false;
    tn_store_op *members[GROUP_MAX];
    size_t n = 0;
    for (tn_store_op *op; (op = pop(&state->commits));) {
        members[n++] = op;
        if (n == GROUP_MAX || !state->commits.first) {
            send_group(members, n);
            n = 0;
        }
    }
}

/* ---- life [main] -------------------------------------------------------------------------------- */

tn_status tn_store_start(struct tn_plugin_instance *persistence, tn_error *err)
{
    TN_ASSERT(!plugin && tn_plugin_kind(persistence) == TN_KIND_PERSISTENCE);
    if (tn_loops_count() > LOOPS_MAX)
        return tn_error_set(err, TN_EINVALID, "more than %u loops", LOOPS_MAX);
    tn_status status = tn_plugin_attach(persistence, err);
    if (status != TN_OK)
        return status;
    make_figures();
    memset(states, 0, sizeof states);
    for (uint32_t i = 0; i < LOOPS_MAX; i++)
        states[i].flush.run = flush, states[i].tell.run = tell;
    plugin = persistence;
    ops = tn_plugin_ops(persistence);
    return TN_OK;
}

void tn_store_set_timeout(uint64_t ns)
{
    atomic_store_explicit(&timeout_ns, ns, memory_order_relaxed);
}

void tn_store_stop(void)
{
    if (!plugin)
        return;
    tn_plugin_detach(plugin, TN_STORE_TIMEOUT_NS);
    plugin = NULL;
    ops = NULL;
}

/* ---- synchronous forms [main] ------------------------------------------------------------------- */

typedef struct waiter {
    tn_store_op op;
    void (*submit)(tn_store_op *op);
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool done;
} waiter;

static void wake_waiter(tn_store_op *op)
{
    waiter *w = op->user;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

static void submit_here(void *arg)
{
    waiter *w = arg;
    w->submit(&w->op);
}

static tn_status wait_for(waiter *w, tn_arena *arena, void (*submit)(tn_store_op *op),
                          tn_error *err)
{
    w->op.arena = arena;
    w->op.done = wake_waiter;
    w->op.user = w;
    w->submit = submit;
    w->done = false;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    tn_loop_call(tn_loops_get(0), submit_here, w);
    pthread_mutex_lock(&w->lock);
    while (!w->done)
        pthread_cond_wait(&w->wake, &w->lock);
    pthread_mutex_unlock(&w->lock);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->wake);
    if (w->op.status != TN_OK && err)
        *err = w->op.error;
    return w->op.status;
}

tn_status tn_store_get_sync(tn_arena *arena, tn_key key, tn_row *out, tn_error *err)
{
    waiter w = {.op.u.get.key = key};
    tn_status status = wait_for(&w, arena, tn_store_get, err);
    if (status == TN_OK)
        *out = w.op.u.get.row;
    return status;
}

tn_status tn_store_scan_sync(tn_arena *arena, const tn_range *range, tn_page *out, tn_error *err)
{
    waiter w = {.op.u.scan.range = *range};
    tn_status status = wait_for(&w, arena, tn_store_scan, err);
    if (status == TN_OK)
        *out = w.op.u.scan.page;
    return status;
}

tn_status tn_store_commit_sync(tn_arena *arena, const tn_batch *batch, tn_commit *out,
                               tn_error *err)
{
    waiter w = {.op.u.commit.batch = *batch};
    tn_status status = wait_for(&w, arena, tn_store_commit, err);
    if (out && (status == TN_OK || status == TN_ECONFLICT || status == TN_EFENCED))
        *out = w.op.u.commit.commit;
    return status;
}
