/* SPDX-License-Identifier: MIT */
/* Drives a persistence plugin alone with the commits of one-activity workflows: what a workflow costs in
 * CPU, bytes written and groups when nothing else of the server runs.
 *
 *   persistence PLUGIN.so key=value... [-n workflows] [-c at once] [-s shards] */
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <tenon/plugin.h>

struct tn_config {
    int n;
    char **pairs;
};

typedef struct flow flow;
struct tn_op {
    flow *flow;
    tn_status status;
    struct tn_op *next;
    char *mem;
    size_t used;
};

#define OP_MEM 4096
struct flow {
    struct tn_op op;
    tn_batch batch;
    tn_commit commit;
    tn_commit_req req;
    tn_cond conds[2];
    tn_mut muts[8];
    size_t n_muts;
    uint8_t keys[16][80];
    size_t n_keys;
    int step;
    uint32_t shard;
    uint8_t partition[4], run[16];
    uint64_t wake, out_seq, began_ns;
};

static pthread_mutex_t done_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_wake = PTHREAD_COND_INITIALIZER;
static struct tn_op *done_list;
static double groups, commits, sync_seconds;
static uint64_t *fences;

static uint64_t mono(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void host_log(const void *who, int32_t level, const char *msg, size_t n)
{
    (void)who;
    fprintf(stderr, "log %d: %.*s\n", level, (int)n, msg);
}

static const char *find(const tn_config *cfg, const char *path)
{
    size_t n = strlen(path);
    for (int i = 0; i < cfg->n; i++)
        if (strncmp(cfg->pairs[i], path, n) == 0 && cfg->pairs[i][n] == '=')
            return cfg->pairs[i] + n + 1;
    return NULL;
}

static tn_status cfg_str(const tn_config *cfg, const char *path, tn_str *out, tn_error *err)
{
    (void)err;
    const char *v = find(cfg, path);
    if (!v)
        return TN_ENOTFOUND;
    *out = (tn_str){v, strlen(v)};
    return TN_OK;
}

static tn_status cfg_i64(const tn_config *cfg, const char *path, int64_t *out, tn_error *err)
{
    (void)err;
    const char *v = find(cfg, path);
    if (!v)
        return TN_ENOTFOUND;
    *out = strtoll(v, NULL, 10);
    return TN_OK;
}

static tn_status cfg_bool(const tn_config *cfg, const char *path, int32_t *out, tn_error *err)
{
    tn_str text;
    tn_status status = cfg_str(cfg, path, &text, err);
    if (status == TN_OK)
        *out = strcmp(text.p, "true") == 0;
    return status;
}

static tn_status cfg_dur(const tn_config *cfg, const char *path, uint64_t *out, tn_error *err)
{
    int64_t seconds;
    tn_status status = cfg_i64(cfg, path, &seconds, err);
    if (status == TN_OK)
        *out = (uint64_t)seconds * 1000000000u;
    return status;
}

static void cfg_complain(const tn_config *cfg, const char *path, const char *text, tn_error *err)
{
    (void)cfg;
    snprintf(err->text, sizeof err->text, "%s: %s", path, text);
}

static void *op_alloc(tn_op *op, size_t n, size_t align)
{
    size_t at = (op->used + align - 1) / align * align;
    if (at + n > OP_MEM)
        return NULL;
    op->used = at + n;
    memset(op->mem + at, 0, n);
    return op->mem + at;
}

static uint64_t op_deadline(const tn_op *op)
{
    (void)op;
    return UINT64_MAX;
}

static void op_explain(tn_op *op, const tn_error *err)
{
    (void)op;
    fprintf(stderr, "%s\n", err->text);
}

static void op_finish(tn_op *op, tn_status status, const tn_error *err)
{
    if (err)
        fprintf(stderr, "%d: %s\n", status, err->text);
    pthread_mutex_lock(&done_lock);
    op->status = status;
    op->next = done_list;
    done_list = op;
    if (!op->next)
        pthread_cond_signal(&done_wake);
    pthread_mutex_unlock(&done_lock);
}

static tn_metric *metric(const void *who, const char *name, int32_t type, const char *help)
{
    (void)who, (void)type, (void)help;
    double *v = strcmp(name, "groups") == 0         ? &groups
                : strcmp(name, "commits") == 0      ? &commits
                : strcmp(name, "sync_seconds") == 0 ? &sync_seconds
                                                    : NULL;
    return (tn_metric *)v;
}

static void metric_add(tn_metric *m, double v) { *(double *)(void *)m += v; }

static const tn_host HOST = {
    .struct_size = sizeof(tn_host),
    .log = host_log,
    .now_ns = mono,
    .mono_ns = mono,
    .cfg_str = cfg_str,
    .cfg_i64 = cfg_i64,
    .cfg_bool = cfg_bool,
    .cfg_dur_ns = cfg_dur,
    .cfg_secret = cfg_str,
    .cfg_complain = cfg_complain,
    .op_alloc = op_alloc,
    .op_deadline_ns = op_deadline,
    .op_explain = op_explain,
    .op_finish = op_finish,
    .metric = metric,
    .metric_add = metric_add,
};

/* ---- a workflow --------------------------------------------------------------------------------- */

static uint8_t filler[4096];

static tn_key key(flow *f, uint32_t table, const void *a, size_t an, uint64_t number,
                  bool has_number)
{
    uint8_t *p = f->keys[f->n_keys++];
    memcpy(p, a, an);
    size_t n = an;
    for (int i = 0; has_number && i < 8; i++)
        p[n++] = (uint8_t)(number >> (56 - 8 * i));
    return (tn_key){.table = table, .partition = {f->partition, 4}, .row = {p, n}};
}

static void put(flow *f, tn_key k, size_t bytes)
{
    f->muts[f->n_muts++] =
        (tn_mut){.verb = TN_MUT_PUT, .key = k, .value = {filler + (random() & 63), bytes}};
}

static void del(flow *f, tn_key k)
{
    f->muts[f->n_muts++] = (tn_mut){.verb = TN_MUT_DELETE, .key = k};
}

static tn_key record(flow *f, uint64_t n)
{
    uint8_t head[24];
    memcpy(head, f->run, 16);
    for (int i = 0; i < 8; i++)
        head[16 + i] = (uint8_t)(n >> (56 - 8 * i));
    return key(f, 5, head, 24, n, true);
}

static tn_key wake(flow *f)
{
    uint8_t head[24];
    for (int i = 0; i < 8; i++)
        head[i] = (uint8_t)(f->wake >> (56 - 8 * i));
    memcpy(head + 8, f->run, 16);
    return key(f, 7, head, 24, 0, false);
}

static void next_step(flow *f)
{
    static uint64_t out_seq;
    f->n_muts = f->n_keys = 0;
    f->op.used = 0;
    f->op.flow = f;
    size_t n_conds = 1;
    uint8_t current[40];
    memcpy(current, f->run, 16);
    memcpy(current + 16, "workflow-00000000-0000-0", 24);
    f->conds[0] = (tn_cond){
        .test = TN_COND_FENCE, .key = key(f, 2, "", 0, 0, false), .version = fences[f->shard]};
    switch (f->step) {
    case 1:
        f->conds[1] = (tn_cond){.test = TN_COND_ABSENT, .key = key(f, 4, current, 40, 0, false)};
        n_conds = 2;
        f->wake = mono();
        f->out_seq = ++out_seq;
        put(f, key(f, 4, current, 40, 0, false), 90);
        put(f, record(f, 1), 420);
        put(f, wake(f), 24);
        put(f, key(f, 8, "", 0, f->out_seq, true), 400);
        break;
    case 2:
        put(f, record(f, 3), 330);
        del(f, wake(f));
        f->wake = mono() + 10000000000u;
        put(f, wake(f), 24);
        del(f, key(f, 8, "", 0, f->out_seq, true));
        break;
    case 3:
        put(f, record(f, 6), 260);
        del(f, wake(f));
        f->wake = mono() + 10000000000u;
        put(f, wake(f), 24);
        break;
    case 4:
        put(f, record(f, 9), 300);
        put(f, key(f, 4, current, 40, 0, false), 90);
        del(f, wake(f));
        f->wake = mono() + 86400000000000u;
        put(f, wake(f), 24);
        f->out_seq = ++out_seq;
        put(f, key(f, 8, "", 0, f->out_seq, true), 450);
        break;
    default:
        del(f, key(f, 8, "", 0, f->out_seq, true));
        break;
    }
    f->batch = (tn_batch){.struct_size = sizeof f->batch,
                          .conds = f->conds,
                          .n_conds = n_conds,
                          .muts = f->muts,
                          .n_muts = f->n_muts};
    f->req = (tn_commit_req){
        .struct_size = sizeof f->req, .op = &f->op, .batch = &f->batch, .out = &f->commit};
}

static void begin(flow *f, uint64_t id, uint32_t shards)
{
    f->shard = (uint32_t)(random() % shards);
    f->partition[0] = f->partition[1] = 0;
    f->partition[2] = (uint8_t)((f->shard + 1) >> 8);
    f->partition[3] = (uint8_t)(f->shard + 1);
    uint64_t ms = mono() / 1000000 + id / 64;
    for (int i = 0; i < 6; i++)
        f->run[i] = (uint8_t)(ms >> (40 - 8 * i));
    for (int i = 6; i < 16; i++)
        f->run[i] = (uint8_t)random();
    f->step = 1;
    f->began_ns = mono();
}

static unsigned long long io_bytes(const char *name)
{
    char line[128];
    unsigned long long v = 0;
    FILE *file = fopen("/proc/self/io", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0)
            v = strtoull(line + strlen(name) + 1, NULL, 10);
    if (file)
        fclose(file);
    return v;
}

static double cpu_ms(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3;
}

static void report(const char *what, double n, double ms, unsigned long long w0,
                   unsigned long long b0, double c0)
{
    printf(
        "%-10s %7.0f wf/s  cpu %6.1f us/wf  written %6.2f KB/wf (storage %6.2f)  groups %5.3f/wf  "
        "sync %5.0f us\n",
        what, n / ms * 1e3, (cpu_ms() - c0) * 1e3 / n, (double)(io_bytes("wchar") - w0) / n / 1e3,
        (double)(io_bytes("write_bytes") - b0) / n / 1e3, groups / n, sync_seconds / groups * 1e6);
}

static flow *flows;
static tn_commit_req **reqs;

/* Waits for finished operations and takes them all. */
static struct tn_op *take_done(void)
{
    pthread_mutex_lock(&done_lock);
    while (!done_list)
        pthread_cond_wait(&done_wake, &done_lock);
    struct tn_op *list = done_list;
    done_list = NULL;
    pthread_mutex_unlock(&done_lock);
    return list;
}

static void make_fences(const tn_persistence_ops *ops, void *ctx, uint32_t shards)
{
    for (uint32_t s = 0; s < shards; s++) {
        flow *f = &flows[0];
        begin(f, 0, 1);
        f->shard = s, f->partition[2] = (uint8_t)((s + 1) >> 8), f->partition[3] = (uint8_t)(s + 1);
        f->n_muts = f->n_keys = 0;
        f->op.used = 0;
        f->op.flow = f;
        put(f, key(f, 2, "", 0, 0, false), 40);
        f->batch = (tn_batch){.struct_size = sizeof f->batch, .muts = f->muts, .n_muts = 1};
        f->req = (tn_commit_req){
            .struct_size = sizeof f->req, .op = &f->op, .batch = &f->batch, .out = &f->commit};
        reqs[0] = &f->req;
        ops->commit(ctx, reqs, 1);
        (void)take_done();
        fences[s] = f->commit.version;
    }
}

/* c workflows at once until n have ended. */
static bool run_all(const tn_persistence_ops *ops, void *ctx, long n, long c, uint32_t shards)
{
    long started = 0, ended = 0, ready = 0;
    for (; started < c && started < n; started++) {
        begin(&flows[started], (uint64_t)started, shards);
        next_step(&flows[started]);
        reqs[ready++] = &flows[started].req;
    }
    while (ended < n) {
        if (ready)
            ops->commit(ctx, reqs, (size_t)ready);
        ready = 0;
        for (struct tn_op *op = take_done(), *next; op; op = next) {
            next = op->next;
            flow *f = op->flow;
            if (op->status != TN_OK)
                return false;
            if (++f->step > 5) {
                ended++;
                if (started >= n)
                    continue;
                begin(f, (uint64_t)started++, shards);
            }
            next_step(f);
            reqs[ready++] = &f->req;
        }
    }
    return true;
}

static const tn_plugin *load(const char *path)
{
    void *lib = dlopen(path, RTLD_NOW);
    if (!lib) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    const tn_plugin *(*entry)(uint32_t) =
        (const tn_plugin *(*)(uint32_t))(uintptr_t)dlsym(lib, "tn_plugin_v0");
    return entry(0);
}

int main(int argc, char **argv)
{
    long n = 5000, c = 64;
    uint32_t shards = 16;
    tn_config cfg = {.pairs = argv + 2};
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "-n") == 0)
            n = strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "-c") == 0)
            c = strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "-s") == 0)
            shards = (uint32_t)strtol(argv[++i], NULL, 10);
        else
            cfg.n = i - 1;
    }
    const tn_plugin *plugin = load(argv[1]);
    tn_error err = {0};
    void *inst, *ctx = NULL;
    uint64_t t0 = mono();
    tn_schema_req set_up = {.struct_size = sizeof set_up, .verb = TN_SCHEMA_SETUP};
    if ((TN_HAS(plugin, plugin->struct_size, tn_plugin, schema) &&
         plugin->schema(&HOST, &cfg, &set_up, &err) != TN_OK) ||
        plugin->open(&HOST, &cfg, &inst, &err) != TN_OK ||
        (plugin->attach && plugin->attach(inst, NULL, &ctx, &err) != TN_OK)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    if (!plugin->attach)
        ctx = inst;
    printf("open %.2f ms\n", (double)(mono() - t0) / 1e6);
    for (size_t i = 0; i < sizeof filler; i++)
        filler[i] = (uint8_t)random();
    flows = calloc((size_t)c, sizeof *flows);
    reqs = calloc((size_t)c, sizeof *reqs);
    fences = calloc(shards, sizeof *fences);
    for (long i = 0; i < c; i++)
        flows[i].op.mem = malloc(OP_MEM);
    make_fences(plugin->ops, ctx, shards);
    unsigned long long w0 = io_bytes("wchar"), b0 = io_bytes("write_bytes");
    double cpu0 = cpu_ms();
    groups = commits = sync_seconds = 0;
    t0 = mono();
    if (!run_all(plugin->ops, ctx, n, c, shards))
        return 1;
    report("running", (double)n, (double)(mono() - t0) / 1e6, w0, b0, cpu0);
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    printf("resident at most %ld KB\n", u.ru_maxrss);
    if (plugin->detach)
        plugin->detach(inst, ctx);
    plugin->close(inst);
    report("and closed", (double)n, (double)(mono() - t0) / 1e6, w0, b0, cpu0);
    return 0;
}
