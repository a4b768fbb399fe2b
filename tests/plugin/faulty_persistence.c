/* SPDX-License-Identifier: MIT */
/* A persistence plugin of the tests: another driver behind it, and faults in front.  A request fails before it is
 * applied, or is applied and called uncertain, or is called uncertain and never applied, or answers late, past the
 * server's patience too.  The rate is read again from a file while the server runs, so that a test can end the
 * faults and see that everything then finishes. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tenon/plugin.h>

#define MS UINT64_C(1000000)
#define SLOTS 4096u

/* What happens to one request. */
enum fate { FINE, REFUSED, FAILS_AFTER, UNCERTAIN_NOT_APPLIED, SLOW, LATE, FENCED };

/* A request on its way through the driver behind, found again by its op when it finishes. */
typedef struct pending {
    struct pending *next;
    tn_op *op;
    tn_loop *loop;
    enum fate fate;
    tn_status status;
    tn_error error;
    tn_timer *timer;
} pending;

typedef struct context {
    struct instance *inst;
    tn_loop *loop;
    void *inner;
} context;

typedef struct instance {
    const tn_plugin *inner;
    const tn_persistence_ops *ops;
    void *state; /* of the driver behind */
    char rate_file[512];
    int64_t late_ms;
    atomic_uint per_mille, fenced;
    uint64_t random;
    uint64_t read_at_ns;
} instance;

static const tn_host *host;
static tn_host between; /* what the driver behind takes for the host */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pending *slots[SLOTS];

/* ---- chance ---- */

static uint64_t chance(instance *inst)
{
    pthread_mutex_lock(&lock);
    inst->random ^= inst->random << 13;
    inst->random ^= inst->random >> 7;
    inst->random ^= inst->random << 17;
    uint64_t value = inst->random;
    pthread_mutex_unlock(&lock);
    return value >> 11;
}

/* "30": faults in every thousand requests; "30 5": and fences in every 100,000. */
static void read_rate(instance *inst)
{
    pthread_mutex_lock(&lock);
    uint64_t now = host->mono_ns();
    int due = now - inst->read_at_ns > 100 * MS;
    if (due)
        inst->read_at_ns = now;
    pthread_mutex_unlock(&lock);
    if (!due)
        return;
    unsigned rate = 0, fenced = 0;
    FILE *file = fopen(inst->rate_file, "re");
    char line[64] = "";
    if (file) {
        char *end = line;
        if (fgets(line, sizeof line, file)) {
            rate = (unsigned)strtoul(line, &end, 10);
            fenced = (unsigned)strtoul(end, NULL, 10);
        }
        fclose(file);
    }
    atomic_store(&inst->per_mille, rate);
    atomic_store(&inst->fenced, fenced);
}

static int has_fence(const tn_batch *batch)
{
    for (size_t i = 0; i < batch->n_conds; i++)
        if (batch->conds[i].test == TN_COND_FENCE)
            return 1;
    return 0;
}

static enum fate fate_of(instance *inst, const tn_batch *writes)
{
    static const enum fate reads[] = {REFUSED, REFUSED, FAILS_AFTER, SLOW, SLOW};
    static const enum fate commits[] = {REFUSED, FAILS_AFTER, UNCERTAIN_NOT_APPLIED, SLOW, LATE};
    read_rate(inst);
    if (writes && has_fence(writes) && atomic_load(&inst->fenced) &&
        chance(inst) % 100000 < atomic_load(&inst->fenced))
        return FENCED;
    if (chance(inst) % 1000 >= atomic_load(&inst->per_mille))
        return FINE;
    return writes ? commits[chance(inst) % 5] : reads[chance(inst) % 5];
}

/* ---- requests on their way ---- */

static pending **slot_of(const tn_op *op) { return &slots[((uintptr_t)op >> 5) % SLOTS]; }

static void remember(tn_op *op, tn_loop *loop, enum fate fate)
{
    pending *p = calloc(1, sizeof *p);
    if (!p)
        abort();
    p->op = op;
    p->loop = loop;
    p->fate = fate;
    pthread_mutex_lock(&lock);
    p->next = *slot_of(op);
    *slot_of(op) = p;
    pthread_mutex_unlock(&lock);
}

static pending *forget(const tn_op *op)
{
    pthread_mutex_lock(&lock);
    pending **at = slot_of(op);
    while (*at && (*at)->op != op)
        at = &(*at)->next;
    pending *p = *at;
    if (p)
        *at = p->next;
    pthread_mutex_unlock(&lock);
    return p;
}

static tn_status fail(tn_error *err, tn_status status, const char *text)
{
    err->code = status;
    snprintf(err->text, sizeof err->text, "%s", text);
    return status;
}

static void over(void *user)
{
    pending *p = user;
    host->timer_stop(p->timer);
    host->op_finish(p->op, p->status, p->status < 0 ? &p->error : NULL);
    free(p);
}

static void delay(void *user)
{
    pending *p = user;
    p->timer = host->timer_start(p->loop, (uint64_t)p->error.vendor_code * MS, over, p);
}

/* The driver behind has finished: the answer goes on, is replaced, or waits. */
static void finished(tn_op *op, tn_status status, const tn_error *err)
{
    pending *p = forget(op);
    if (!p) {
        host->op_finish(op, status, err);
        return;
    }
    p->status = status;
    int32_t wait_ms = p->error.vendor_code;
    if (err)
        p->error = *err;
    p->error.vendor_code = wait_ms;
    if (p->fate == FAILS_AFTER) {
        tn_error told = {0};
        if (status >= 0)
            status =
                fail(&told, TN_EUNCERTAIN, "a fault of the test: applied, but the answer is lost");
        else if (err)
            told = *err;
        host->op_finish(op, status, status < 0 ? &told : NULL);
        free(p);
        return;
    }
    if (host->post(p->loop, delay, p) != TN_OK)
        abort();
}

/* ---- the operations ---- */

static tn_status refuse(tn_op *op, tn_status status, const char *text)
{
    tn_error err = {0};
    fail(&err, status, text);
    host->op_explain(op, &err);
    return status;
}

static void set_wait(tn_op *op, instance *inst, enum fate fate)
{
    int32_t ms = fate == LATE ? (int32_t)inst->late_ms : (int32_t)(chance(inst) % 200);
    pthread_mutex_lock(&lock);
    for (pending *p = *slot_of(op); p; p = p->next)
        if (p->op == op)
            p->error.vendor_code = ms;
    pthread_mutex_unlock(&lock);
}

/* Read answers: an answer that came at once is let through, the driver behind has no reason to repeat it. */
static tn_status came(tn_op *op, enum fate fate, tn_status status)
{
    if (status == TN_PENDING || fate == FINE)
        return status;
    free(forget(op));
    return fate == FAILS_AFTER && status >= 0
               ? refuse(op, TN_EUNAVAILABLE, "a fault of the test: read, but the answer is lost")
               : status;
}

static tn_status get(void *user, tn_op *op, const tn_key *key, tn_row *out)
{
    context *ctx = user;
    enum fate fate = fate_of(ctx->inst, NULL);
    if (fate == REFUSED)
        return refuse(op, TN_EUNAVAILABLE, "a fault of the test: not read");
    if (fate != FINE) {
        remember(op, ctx->loop, fate);
        set_wait(op, ctx->inst, fate);
    }
    return came(op, fate, ctx->inst->ops->get(ctx->inner, op, key, out));
}

static tn_status scan(void *user, tn_op *op, const tn_range *range, tn_page *out)
{
    context *ctx = user;
    enum fate fate = fate_of(ctx->inst, NULL);
    if (fate == REFUSED)
        return refuse(op, TN_EUNAVAILABLE, "a fault of the test: not scanned");
    if (fate != FINE) {
        remember(op, ctx->loop, fate);
        set_wait(op, ctx->inst, fate);
    }
    return came(op, fate, ctx->inst->ops->scan(ctx->inner, op, range, out));
}

static tn_status no_commit(tn_op *op, enum fate fate)
{
    switch (fate) {
    case REFUSED:
        return refuse(op, TN_EUNAVAILABLE, "a fault of the test: not written");
    case UNCERTAIN_NOT_APPLIED:
        return refuse(op, TN_EUNCERTAIN, "a fault of the test: perhaps written");
    default:
        return refuse(op, TN_EFENCED, "a fault of the test: said to be fenced");
    }
}

static void commit(void *user, tn_commit_req *const *reqs, size_t n)
{
    context *ctx = user;
    tn_commit_req **through = malloc(n * sizeof *through);
    size_t n_through = 0;
    if (!through)
        abort();
    for (size_t i = 0; i < n; i++) {
        enum fate fate = fate_of(ctx->inst, reqs[i]->batch);
        if (fate == REFUSED || fate == UNCERTAIN_NOT_APPLIED || fate == FENCED) {
            reqs[i]->status = no_commit(reqs[i]->op, fate);
            continue;
        }
        if (fate != FINE) {
            remember(reqs[i]->op, ctx->loop, fate);
            set_wait(reqs[i]->op, ctx->inst, fate);
        }
        through[n_through++] = reqs[i];
    }
    if (n_through)
        ctx->inst->ops->commit(ctx->inner, through, n_through);
    for (size_t i = 0; i < n_through; i++) {
        pending *p = through[i]->status == TN_PENDING ? NULL : forget(through[i]->op);
        if (p && p->fate == FAILS_AFTER && through[i]->status == TN_OK)
            through[i]->status =
                refuse(through[i]->op, TN_EUNCERTAIN, "a fault of the test: answer lost");
        free(p);
    }
    free(through);
}

/* ---- life ---- */

static tn_status open_instance(const tn_host *h, const tn_config *config, void **out, tn_error *err)
{
    tn_str inner = {0}, rate_file = {0};
    int64_t seed = 1;
    host = h;
    between = *h;
    between.op_finish = finished;
    tn_status status = h->cfg_str(config, "inner", &inner, err);
    if (status == TN_OK)
        status = h->cfg_str(config, "rateFile", &rate_file, err);
    if (status != TN_OK)
        return fail(err, TN_EINVALID, "faulty: set inner (a driver's .so) and rateFile");
    instance *inst = calloc(1, sizeof *inst);
    char path[512];
    if (!inst || inner.n >= sizeof path || rate_file.n >= sizeof inst->rate_file)
        abort();
    memcpy(path, inner.p, inner.n);
    path[inner.n] = '\0';
    memcpy(inst->rate_file, rate_file.p, rate_file.n);
    inst->late_ms = 3000;
    if (h->cfg_i64(config, "lateMs", &inst->late_ms, err) == TN_EINVALID ||
        h->cfg_i64(config, "seed", &seed, err) == TN_EINVALID)
        goto fail;
    inst->random = (uint64_t)seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const tn_plugin *(*entry)(uint32_t) = NULL;
    if (lib)
        *(void **)&entry = dlsym(lib, "tn_plugin_v0");
    if (!entry) {
        fail(err, TN_EINVALID, dlerror());
        goto fail;
    }
    inst->inner = entry(0);
    inst->ops = inst->inner->ops;
    if (inst->inner->open(&between, config, &inst->state, err) == TN_OK) {
        *out = inst;
        return TN_OK;
    }
fail:
    free(inst);
    return err->code ? err->code : TN_EINVALID;
}

static tn_status attach(void *user, tn_loop *loop, void **out, tn_error *err)
{
    instance *inst = user;
    context *ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        abort();
    ctx->inst = inst;
    ctx->loop = loop;
    ctx->inner = inst->state;
    tn_status status =
        inst->inner->attach ? inst->inner->attach(inst->state, loop, &ctx->inner, err) : TN_OK;
    if (status != TN_OK)
        free(ctx);
    else
        *out = ctx;
    return status;
}

static void detach(void *user, void *what)
{
    instance *inst = user;
    context *ctx = what;
    if (inst->inner->detach)
        inst->inner->detach(inst->state, ctx->inner);
    free(ctx);
}

static void close_instance(void *user)
{
    instance *inst = user;
    inst->inner->close(inst->state);
    free(inst);
}

static const tn_persistence_ops OPS = {.get = get, .scan = scan, .commit = commit};

static const tn_plugin PLUGIN = {
    .magic = TN_PLUGIN_MAGIC,
    .struct_size = sizeof(tn_plugin),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .kind = TN_KIND_PERSISTENCE,
    .ops_size = sizeof OPS,
    .caps = TN_CAP_ATOMIC_CROSS_TABLE | TN_CAP_RANGE_DELETE | TN_CAP_DURABLE,
    .name = "faulty",
    .version = "0",
    .vendor = "tests",
    .config_keys = "inner string - - the .so of the driver behind\n"
                   "rateFile string - - a file: faults in every 1000 requests, fences in every "
                   "100000 commits\n"
                   "seed int 1 - of the dice\n"
                   "lateMs int 3000 - how long a late answer takes\n"
                   "path string - - the file of the driver behind\n",
    .open = open_instance,
    .attach = attach,
    .detach = detach,
    .close = close_instance,
    .ops = &OPS,
};

TN_EXPORT const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
