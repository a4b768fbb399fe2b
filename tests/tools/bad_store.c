/* SPDX-License-Identifier: MIT */
/* A persistence plugin that breaks the rule that TN_BAD names, over a sound driver (`inner`): it changes what the driver is
 * asked, or what it answers.  `tenonctl plugin check` must find each. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tenon/plugin.h>

static const tn_host *host;
static tn_host between; /* what the driver behind takes for the host */
static const tn_plugin *inner;
static const tn_persistence_ops *ops;

static int bad(const char *what)
{
    const char *is = getenv("TN_BAD");
    return is && strcmp(is, what) == 0;
}

/* ---- answers ---- */

#define SLOTS 8192u
typedef struct waiting {
    struct waiting *next;
    tn_op *op;
    tn_commit *commit;
    tn_row *row;
    tn_page *page;
} waiting;
static waiting *slots[SLOTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t count;

static waiting **slot_of(const tn_op *op) { return &slots[((uintptr_t)op >> 4) % SLOTS]; }

static waiting *remember(tn_op *op)
{
    waiting *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    w->op = op;
    pthread_mutex_lock(&lock);
    w->next = *slot_of(op);
    *slot_of(op) = w;
    pthread_mutex_unlock(&lock);
    return w;
}

static waiting *forget(const tn_op *op)
{
    pthread_mutex_lock(&lock);
    waiting **at = slot_of(op);
    while (*at && (*at)->op != op)
        at = &(*at)->next;
    waiting *w = *at;
    if (w)
        *at = w->next;
    count++;
    pthread_mutex_unlock(&lock);
    return w;
}

static void spoil_page(tn_page *page)
{
    tn_row *rows = (tn_row *)(uintptr_t)page->rows;
    if (bad("scan-order") && page->n_rows > 1) {
        tn_row first = rows[0];
        rows[0] = rows[1];
        rows[1] = first;
    }
    if (bad("page-ends") && page->next.n)
        page->next.n = 0;
    if (bad("scan-versions"))
        for (size_t i = 0; i < page->n_rows; i++)
            rows[i].version++;
    if (bad("scan-drops-last") && page->n_rows > 1)
        page->n_rows--;
}

static void spoil(const waiting *w, tn_status *status)
{
    if (w->commit) {
        if (bad("no-current-row") && *status == TN_ECONFLICT)
            memset(&w->commit->current, 0, sizeof w->commit->current);
        if (bad("wrong-condition"))
            w->commit->failed_cond = 9;
        if (bad("one-version"))
            w->commit->version = 1;
        if (bad("conflict-for-fence") && *status == TN_EFENCED)
            *status = TN_ECONFLICT;
        if (bad("claims-success") && *status == TN_ECONFLICT)
            *status = TN_OK;
    }
    if (w->row && *status == TN_OK) {
        if (bad("short-value") && w->row->value.n)
            w->row->value.n--;
        if (bad("get-version"))
            w->row->version++;
    }
    if (w->row && bad("empty-for-missing") && *status == TN_ENOTFOUND)
        *status = TN_OK;
    if (w->page && *status == TN_OK)
        spoil_page(w->page);
}

static void finished(tn_op *op, tn_status status, const tn_error *err)
{
    waiting *w = forget(op);
    if (w)
        spoil(w, &status);
    int drop = bad("loses-answers") && w && count % 40 == 0;
    free(w);
    if (!drop)
        host->op_finish(op, status, status < 0 ? err : NULL);
    if (bad("answers-twice"))
        host->op_finish(op, status, NULL);
}

static tn_status at_once(tn_op *op, tn_status status)
{
    if (status == TN_PENDING)
        return status;
    waiting *w = forget(op);
    if (w)
        spoil(w, &status);
    free(w);
    return status;
}

/* ---- requests ---- */

static tn_status get(void *ctx, tn_op *op, const tn_key *key, tn_row *out)
{
    tn_key *mine = host->op_alloc(op, sizeof *mine, 8);
    *mine = *key;
    if (bad("any-table"))
        mine->table = mine->table % 60 + 1;
    remember(op)->row = out;
    return at_once(op, ops->get(ctx, op, mine, out));
}

static tn_status scan(void *ctx, tn_op *op, const tn_range *range, tn_page *out)
{
    tn_range *mine = host->op_alloc(op, sizeof *mine, 8);
    *mine = *range;
    if (bad("no-reverse"))
        mine->flags &= ~TN_RANGE_REVERSE;
    if (bad("no-limit"))
        mine->limit = 10000;
    if (bad("no-end"))
        mine->to_row = (tn_blob){0};
    if (bad("any-page"))
        mine->page = (tn_blob){0};
    remember(op)->page = out;
    return at_once(op, ops->scan(ctx, op, mine, out));
}

static void change_conditions(tn_batch *batch, tn_cond *conds)
{
    size_t n = 0;
    for (size_t i = 0; i < batch->n_conds; i++) {
        tn_cond c = conds[i];
        if (bad("no-conditions") || (bad("no-absent") && c.test == TN_COND_ABSENT) ||
            (bad("no-version") && c.test == TN_COND_VERSION) ||
            (bad("no-fence") && c.test == TN_COND_FENCE))
            continue;
        if (bad("fence-is-version") && c.test == TN_COND_FENCE)
            c.test = TN_COND_VERSION;
        conds[n++] = c;
    }
    batch->n_conds = n;
}

static void change_mutations(tn_op *op, tn_batch *batch, tn_mut *muts)
{
    size_t n = 0;
    for (size_t i = 0; i < batch->n_muts; i++) {
        tn_mut m = muts[i];
        if ((bad("no-delete") && m.verb == TN_MUT_DELETE) ||
            (bad("no-range-delete") && m.verb == TN_MUT_DELETE_RANGE))
            continue;
        if (bad("range-with-end") && m.verb == TN_MUT_DELETE_RANGE) {
            uint8_t *row = host->op_alloc(op, m.end.row.n + 1, 1);
            memcpy(row, m.end.row.p, m.end.row.n);
            m.end.row = (tn_blob){row, m.end.row.n + 1};
        }
        muts[n++] = m;
    }
    batch->n_muts = n;
    for (size_t i = 0; bad("backwards") && i < n / 2; i++) {
        tn_mut m = muts[i];
        muts[i] = muts[n - 1 - i];
        muts[n - 1 - i] = m;
    }
}

static void commit(void *ctx, tn_commit_req *const *reqs, size_t n)
{
    static uint64_t commits;
    for (size_t i = 0; i < n; i++) {
        tn_batch *batch = host->op_alloc(reqs[i]->op, sizeof *batch, 8);
        const tn_batch *theirs = reqs[i]->batch;
        tn_cond *conds = host->op_alloc(reqs[i]->op, (theirs->n_conds + 1) * sizeof *conds, 8);
        tn_mut *muts = host->op_alloc(reqs[i]->op, (theirs->n_muts + 1) * sizeof *muts, 8);
        *batch = *theirs;
        if (theirs->n_conds)
            memcpy(conds, theirs->conds, theirs->n_conds * sizeof *conds);
        if (theirs->n_muts)
            memcpy(muts, theirs->muts, theirs->n_muts * sizeof *muts);
        batch->conds = conds;
        batch->muts = muts;
        change_conditions(batch, conds);
        change_mutations(reqs[i]->op, batch, muts);
        if (bad("forgets-some") && ++commits % 30 == 0)
            batch->n_muts = 0;
        if (bad("group-of-one") && i > 0)
            batch->n_muts = 0;
        remember(reqs[i]->op)->commit = reqs[i]->out;
        reqs[i]->batch = batch;
    }
    ops->commit(ctx, reqs, n);
    for (size_t i = 0; i < n; i++)
        reqs[i]->status = at_once(reqs[i]->op, reqs[i]->status);
}

/* ---- life ---- */

static tn_status open_store(const tn_host *h, const tn_config *cfg, void **inst, tn_error *err)
{
    tn_str path;
    char text[512];
    host = h;
    between = *h;
    between.op_finish = finished;
    if (h->cfg_str(cfg, "inner", &path, err) != TN_OK || path.n >= sizeof text) {
        err->code = TN_EINVALID;
        snprintf(err->text, sizeof err->text, "set inner: a driver's .so");
        return TN_EINVALID;
    }
    memcpy(text, path.p, path.n);
    text[path.n] = '\0';
    void *library = dlopen(text, RTLD_NOW | RTLD_LOCAL);
    const tn_plugin *(*entry)(uint32_t) = NULL;
    if (library)
        *(void **)&entry = dlsym(library, "tn_plugin_v0");
    if (!entry)
        abort();
    inner = entry(0);
    ops = inner->ops;
    return inner->open(&between, cfg, inst, err);
}

static tn_status attach(void *inst, tn_loop *loop, void **ctx, tn_error *err)
{
    *ctx = inst;
    return inner->attach ? inner->attach(inst, loop, ctx, err) : TN_OK;
}

static void detach(void *inst, void *ctx)
{
    if (inner->detach)
        inner->detach(inst, ctx);
}

static void close_store(void *inst) { inner->close(inst); }

TN_EXPORT const tn_plugin *tn_plugin_v0(uint32_t index)
{
    static const tn_persistence_ops own = {.get = get, .scan = scan, .commit = commit};
    static const tn_plugin plugin = {
        .magic = TN_PLUGIN_MAGIC,
        .struct_size = sizeof(tn_plugin),
        .abi_major = TN_PLUGIN_ABI_MAJOR,
        .abi_minor = TN_PLUGIN_ABI_MINOR,
        .kind = TN_KIND_PERSISTENCE,
        .caps = TN_CAP_ATOMIC_CROSS_TABLE | TN_CAP_RANGE_DELETE | TN_CAP_DURABLE,
        .name = "bad",
        .version = "1",
        .config_keys = "inner text - - the driver behind\npath text - - its file\n",
        .open = open_store,
        .attach = attach,
        .detach = detach,
        .close = close_store,
        .ops = &own,
        .ops_size = sizeof own,
    };
    return index == 0 ? &plugin : NULL;
}
