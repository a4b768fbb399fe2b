/* SPDX-License-Identifier: MIT */
/* An authorizer that takes its time, so that calls are in flight when it is replaced; built twice, with two versions, as
 * the old and the new file of one plugin. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tenon/plugin.h>

#ifndef SLOW_VERSION
#define SLOW_VERSION "1.0"
#endif

static const tn_host *host;

typedef struct slow {
    uint64_t delay_ns, hold_ns;
    int32_t silent;
    tn_metric *decisions, *waiting;
} slow;

typedef struct place { /* of one loop */
    slow *of;
    tn_loop *loop;
} place;

typedef struct later {
    slow *of;
    tn_op *op;
    tn_decision *out;
    tn_timer *timer;
} later;

static tn_status open_slow(const tn_host *h, const tn_config *cfg, void **inst, tn_error *err)
{
    slow *s = calloc(1, sizeof *s);
    int32_t broken = 0;
    host = h;
    tn_status status = s ? h->cfg_dur_ns(cfg, "delay", &s->delay_ns, err) : TN_EUNAVAILABLE;
    if (status == TN_OK || status == TN_ENOTFOUND)
        status = h->cfg_dur_ns(cfg, "hold", &s->hold_ns, err);
    if (status == TN_OK || status == TN_ENOTFOUND)
        status = h->cfg_bool(cfg, "silent", &s->silent, err);
    if (status == TN_OK || status == TN_ENOTFOUND)
        status = h->cfg_bool(cfg, "broken", &broken, err);
    if (broken) {
        h->cfg_complain(cfg, "broken", "is broken, as it says", err);
        status = TN_EINVALID;
    }
    if (status != TN_OK && status != TN_ENOTFOUND) {
        free(s);
        return status;
    }
    s->decisions = h->metric(NULL, "decisions", TN_METRIC_COUNTER, "Calls decided");
    s->waiting = h->metric(NULL, "waiting", TN_METRIC_GAUGE, "Calls that wait");
    *inst = s;
    return TN_OK;
}

static void close_slow(void *inst)
{
    memset(inst, 0x5a, sizeof(slow)); /* whoever still looks at it shall notice */
    free(inst);
}

static tn_status attach_slow(void *inst, tn_loop *loop, void **ctx, tn_error *err)
{
    (void)err;
    place *p = calloc(1, sizeof *p);
    if (!p)
        return TN_EUNAVAILABLE;
    p->of = inst;
    p->loop = loop;
    *ctx = p;
    return TN_OK;
}

static void detach_slow(void *inst, void *ctx)
{
    (void)inst;
    free(ctx);
}

static void decide(const slow *s, tn_decision *out)
{
    out->verdict = s->silent ? 0 : TN_ALLOW;
    host->metric_add(s->decisions, 1);
}

static void time_is_up(void *arg)
{
    later *l = arg;
    host->timer_stop(l->timer);
    decide(l->of, l->out);
    host->metric_add(l->of->waiting, -1);
    host->op_finish(l->op, TN_OK, NULL);
}

static tn_status authorize(void *ctx, tn_op *op, const tn_claims *claims,
                           const tn_call_target *target, tn_decision *out)
{
    place *p = ctx;
    slow *s = p->of;
    (void)claims, (void)target;
    if (s->hold_ns)
        nanosleep(&(struct timespec){.tv_nsec = (long)s->hold_ns}, NULL);
    if (!s->delay_ns) {
        decide(s, out);
        return TN_OK;
    }
    later *l = host->op_alloc(op, sizeof *l, _Alignof(later));
    if (!l)
        return TN_ETOOLARGE;
    l->of = s;
    l->op = op;
    l->out = out;
    l->timer = host->timer_start(p->loop, s->delay_ns, time_is_up, l);
    host->metric_add(s->waiting, 1);
    return TN_PENDING;
}

static const tn_authorizer_ops ops = {.authorize = authorize};

static const tn_plugin plugin = {.magic = TN_PLUGIN_MAGIC,
                                 .struct_size = sizeof(tn_plugin),
                                 .abi_major = TN_PLUGIN_ABI_MAJOR,
                                 .abi_minor = TN_PLUGIN_ABI_MINOR,
                                 .kind = TN_KIND_AUTHORIZER,
                                 .ops_size = sizeof(ops),
                                 .name = "slow",
                                 .version = SLOW_VERSION,
                                 .vendor = "tests",
                                 .config_keys = "delay duration 0s - before the verdict\n"
                                                "hold duration 0s - of the loop, at each call\n"
                                                "silent bool false - no verdict\n"
                                                "broken bool false - open fails\n",
                                 .open = open_slow,
                                 .attach = attach_slow,
                                 .detach = detach_slow,
                                 .close = close_slow,
                                 .ops = &ops};

TN_EXPORT const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &plugin : NULL; }
