/* SPDX-License-Identifier: MIT */
/* A claim mapper and an authorizer that break the rule that TN_BAD names; `tenonctl plugin check` must say so.  Without
 * TN_BAD they are sound. */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tenon/plugin.h>

#ifdef BAD_STATIC_TLS
_Thread_local int counter __attribute__((tls_model("initial-exec"), visibility("hidden")));
#endif
#ifdef BAD_TEXTREL
__asm__(".text\n.align 8\nbad_word: .quad tn_plugin_v0\n");
#endif
#ifdef BAD_EXPORT
TN_EXPORT int helper(void);
int helper(void) { return 1; }
#endif
#ifdef BAD_IMPORT
int tn_vis_stop(void);
#endif

static const tn_host *host;
static int calls, opened;
static _Atomic int closed;

static int bad(const char *what)
{
    const char *is = getenv("TN_BAD");
    return is && strcmp(is, what) == 0;
}

typedef struct later {
    tn_op *op;
    tn_decision *out;
    int times;
} later;

static void *finish(void *arg)
{
    later *l = arg;
    if (l->out)
        l->out->verdict = TN_DENY;
    for (int i = 0; i < l->times; i++)
        host->op_finish(l->op, TN_OK, NULL);
    free(l);
    return NULL;
}

static tn_status from_thread(tn_op *op, tn_decision *out, int times)
{
    pthread_t thread;
    later *l = malloc(sizeof *l);
    if (!l)
        abort();
    *l = (later){op, out, times};
    if (pthread_create(&thread, NULL, finish, l) != 0)
        abort();
    pthread_detach(thread);
    return TN_PENDING;
}

static tn_status authorize(void *ctx, tn_op *op, const tn_claims *claims,
                           const tn_call_target *target, tn_decision *out)
{
    if (bad("dies-together") && closed)
        return TN_EINTERNAL;
    (void)ctx;
    calls++;
    if (bad("no-verdict"))
        return TN_OK;
    if (bad("odd-verdict")) {
        out->verdict = 7;
        return TN_OK;
    }
    if (bad("finishes-twice"))
        return from_thread(op, out, 2);
    if (bad("never-finishes"))
        return calls % 100 == 0 ? TN_PENDING : from_thread(op, out, 1);
    if (bad("finishes-after-ok")) {
        out->verdict = TN_DENY;
        host->op_finish(op, TN_OK, NULL);
        return TN_OK;
    }
    if (bad("odd-status"))
        return 42;
    if (bad("writes-inputs"))
        ((char *)(uintptr_t)target->ns.p)[0] = 'X';
    if (bad("trusts-arena")) {
        char *p = host->op_alloc(op, 1000, 8);
        memset(p, 1, 1000);
    }
    if (bad("needs-namespace"))
        out->verdict = target->ns.p[0] ? TN_ALLOW : TN_DENY;
    if (bad("exact-size") && claims->struct_size != sizeof *claims)
        return TN_EINVALID;
    if (bad("reason-no-text"))
        out->reason = (tn_str){"\xff\xfe", 2};
    if (bad("moody"))
        out->verdict = (uint32_t)(1 + calls % 2);
    else
        out->verdict = TN_DENY;
    return TN_OK;
}

static tn_status map(void *ctx, tn_op *op, const tn_auth_info *info, tn_claims *out)
{
    static tn_role_grant grants[1];
    (void)ctx;
    out->present = 1;
    out->subject = (tn_str){"someone", 7};
    grants[0] = (tn_role_grant){.ns = {"default", 7}, .roles = TN_ROLE_READER};
    if (bad("odd-roles"))
        grants[0].roles = 0x4000;
    if (bad("odd-system-roles"))
        out->system_roles = 16;
    if (bad("subject-no-text"))
        out->subject = (tn_str){"\xc3\x28", 2};
    if (bad("grants-nowhere"))
        out->n_grants = 3;
    if (bad("copies-unbounded")) {
        char small[4096];
        memcpy(small, info->authorization.p, info->authorization.n); /* of any length */
        out->auth_type = (tn_str){small[0] == 'B' ? "bearer" : "other", 5};
    }
    if (bad("finishes-twice"))
        return from_thread(op, NULL, 2);
    if (!bad("grants-nowhere")) {
        out->grants = grants;
        out->n_grants = 1;
    }
    return TN_OK;
}

static void *idle(void *arg)
{
    for (;;)
        pause();
    return arg;
}

static tn_status open_any(const tn_host *h, const tn_config *cfg, void **inst, tn_error *err)
{
    static int something;
    pthread_t thread;
    (void)cfg;
    host = h;
    if (bad("leaks-descriptors") && open("/dev/null", O_RDONLY | O_CLOEXEC) < 0)
        abort();
    if (bad("leaks-threads") && pthread_create(&thread, NULL, idle, NULL) != 0)
        abort();
    if (bad("opens-once") && opened++) {
        err->code = TN_EINVALID;
        strcpy(err->text, "it is open already");
        return TN_EINVALID;
    }
    *inst = &something;
    return TN_OK;
}

static void close_any(void *inst)
{
    (void)inst;
    closed = 1;
}

static const tn_authorizer_ops authorizer = {authorize};
static const tn_claim_mapper_ops mapper = {map};

#define COMMON \
    .magic = TN_PLUGIN_MAGIC, .struct_size = sizeof(tn_plugin), .abi_major = TN_PLUGIN_ABI_MAJOR, \
    .abi_minor = TN_PLUGIN_ABI_MINOR, .version = "1", .open = open_any, .close = close_any

TN_EXPORT const tn_plugin *tn_plugin_v0(uint32_t index)
{
    static tn_plugin plugins[] = {
        {COMMON, .name = "bad", .kind = TN_KIND_AUTHORIZER, .config_keys = "", .ops = &authorizer,
         .ops_size = sizeof authorizer},
        {COMMON, .name = "bad", .kind = TN_KIND_CLAIM_MAPPER, .config_keys = "", .ops = &mapper,
         .ops_size = sizeof mapper},
    };
    static tn_plugin copy;
    if (bad("odd-keys"))
        plugins[0].config_keys = "depth";
    if (bad("key-type"))
        plugins[0].config_keys = "depth fathom 3 - how deep it is\n";
    if (bad("moves-tables")) {
        copy = plugins[0];
        return index == 0 ? (calls++ % 2 ? &copy : &plugins[0]) : NULL;
    }
    if (bad("no-end") && index >= 2)
        return index > 1000 ? &plugins[0] : NULL;
    if (bad("kind-twice"))
        plugins[1] = plugins[0];
#ifdef BAD_STATIC_TLS
    counter++;
#endif
#ifdef BAD_IMPORT
    if (index == 12345)
        tn_vis_stop();
#endif
    return index < 2 ? &plugins[index] : NULL;
}
