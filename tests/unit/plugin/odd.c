/* SPDX-License-Identifier: MIT */
/* A plugin that does wrong what TN_ODD names, one thing at a time; loaded by the tests of the host.  It
 * is an authorizer and a persistence plugin, so that a library of two kinds is tested as well. */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tenon/plugin.h>

static const tn_host *host;

static bool odd(const char *what)
{
    const char *is = getenv("TN_ODD");
    return is && strcmp(is, what) == 0;
}

static tn_status open_odd(const tn_host *h, const tn_config *cfg, void **inst, tn_error *err)
{
    static int something;
    host = h;
    if (odd("open-fails")) {
        err->code = TN_EUNAVAILABLE;
        memcpy(err->text, "the lake is frozen", sizeof "the lake is frozen");
        return TN_EUNAVAILABLE;
    }
    if (odd("open-complains")) {
        h->cfg_complain(cfg, "depth", "is too deep", err);
        return TN_EINVALID;
    }
    int64_t depth;
    tn_status status = h->cfg_i64(cfg, "depth", &depth, err);
    if (status != TN_OK && status != TN_ENOTFOUND)
        return status;
    *inst = &something;
    return TN_OK;
}

static tn_status attach_odd(void *inst, tn_loop *loop, void **ctx, tn_error *err)
{
    (void)loop, (void)err;
    if (odd("attach-fails"))
        return TN_EUNAVAILABLE;
    *ctx = inst;
    return TN_OK;
}

static void detach_odd(void *inst, void *ctx) { (void)inst, (void)ctx; }
static void close_odd(void *inst) { (void)inst; }

/* ---- authorize: ways to answer ------------------------------------------------------------------ */

typedef struct later {
    tn_op *op;
    tn_decision *out;
    int times;
} later;

static void sleep_ms(long ms) { nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL); }

static void *finish_later(void *arg)
{
    later l = *(later *)arg;
    free(arg);
    sleep_ms(l.times < 0 ? 300 : 20);
    l.out->verdict = TN_ALLOW;
    if (odd("finish-nonsense")) {
        host->op_finish(l.op, (tn_status)7, NULL);
        return NULL;
    }
    tn_error err = {.code = TN_EDENIED, .text = "from a thread"};
    host->op_finish(l.op, odd("finish-error") ? TN_EDENIED : TN_OK,
                    odd("finish-error") ? &err : NULL);
    for (int i = 1; i < l.times; i++)
        host->op_finish(l.op, TN_OK, NULL);
    return NULL;
}

static void start_thread(tn_op *op, tn_decision *out, int times)
{
    later *l = malloc(sizeof *l);
    pthread_t thread;
    *l = (later){op, out, times};
    pthread_create(&thread, NULL, finish_later, l);
    pthread_detach(thread);
}

static tn_status authorize(void *ctx, tn_op *op, const tn_claims *claims,
                           const tn_call_target *target, tn_decision *out)
{
    static tn_op *last;
    (void)ctx, (void)claims;
    if (odd("unset"))
        return TN_OK;
    if (odd("error")) {
        tn_error err = {.code = TN_EINTERNAL, .text = "no mood today"};
        host->op_explain(op, &err);
        return TN_EINTERNAL;
    }
    if (odd("nonsense"))
        return (tn_status)42;
    if (odd("deny")) {
        out->verdict = TN_DENY;
        out->reason = (tn_str){"not on my watch", 15};
        return TN_OK;
    }
    if (odd("later") || odd("finish-error") || odd("finish-nonsense")) {
        start_thread(op, out, 1);
        return TN_PENDING;
    }
    if (odd("twice")) {
        start_thread(op, out, 3);
        return TN_PENDING;
    }
    if (odd("too-late")) {
        start_thread(op, out, -1);
        return TN_PENDING;
    }
    if (odd("inside")) { /* lawful: finished before the call returns */
        out->verdict = TN_ALLOW;
        host->op_finish(op, TN_OK, NULL);
        return TN_PENDING;
    }
    if (odd("both")) {
        out->verdict = TN_ALLOW;
        host->op_finish(op, TN_OK, NULL);
        return TN_OK;
    }
    if (odd("stale") && last) { /* finishes an operation that ended long ago */
        host->op_finish(last, TN_OK, NULL);
        if (host->op_alloc(last, 16, 8))
            return TN_EINTERNAL;
    }
    if (odd("hold"))
        sleep_ms(60);
    if (odd("memory")) {
        size_t got = 0;
        while (host->op_alloc(op, 1 << 20, 64))
            got++;
        out->verdict = got >= 16 && got < 4096 ? TN_ALLOW : TN_DENY;
        return TN_OK;
    }
    if (odd("target")) { /* writes needed, of a namespace that is named */
        bool known = target->access == TN_ACCESS_WRITE && target->scope == TN_SCOPE_NAMESPACE;
        bool named = target->ns.n == 4 && memcmp(target->ns.p, "mine", 4) == 0;
        out->verdict = known && named ? TN_ALLOW : TN_DENY;
        return TN_OK;
    }
    last = op;
    out->verdict = TN_ALLOW;
    return TN_OK;
}

static const tn_authorizer_ops AUTH_OPS = {.authorize = authorize};

static const char KEYS[] = "depth int 3 - of the lake\nname string - - of the lake\n";

#define TABLE \
    .magic = TN_PLUGIN_MAGIC, .struct_size = sizeof(tn_plugin), .abi_major = TN_PLUGIN_ABI_MAJOR, \
    .abi_minor = TN_PLUGIN_ABI_MINOR, .name = "odd", .version = "0.0.1", .vendor = "tests", \
    .config_keys = KEYS, .open = open_odd, .attach = attach_odd, .detach = detach_odd, \
    .close = close_odd

const tn_plugin *tn_plugin_v0(uint32_t index)
{
    static tn_persistence_ops no_ops;
    static tn_plugin both[2] = {
        {TABLE, .kind = TN_KIND_PERSISTENCE, .ops_size = sizeof(tn_persistence_ops),
         .ops = &no_ops},
        {TABLE, .kind = TN_KIND_AUTHORIZER, .ops_size = sizeof(tn_authorizer_ops),
         .ops = &AUTH_OPS},
    };
    tn_plugin *a = &both[1];
    if (odd("magic"))
        a->magic = 0x1234;
    if (odd("size"))
        a->struct_size = 40;
    if (odd("major"))
        a->abi_major = 7;
    if (odd("minor"))
        a->abi_minor = 9;
    if (odd("needs"))
        a->needs = 4;
    if (odd("no-open"))
        a->open = NULL;
    if (odd("half-attach"))
        a->attach = NULL;
    if (odd("no-name"))
        a->name = NULL;
    if (odd("no-keys"))
        a->config_keys = NULL;
    if (odd("no-ops"))
        a->ops = NULL;
    if (odd("short-ops"))
        a->ops_size = 4; /* the member is there, but the size does not promise it */
    return index < 2 ? &both[index] : NULL;
}
