/* SPDX-License-Identifier: MIT */
/* The table of functions that a plugin gets: the server's services behind the ABI's names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/metrics.h"
#include "plugin/private.h"

/* ---- log ---------------------------------------------------------------------------------------- */

#define LOG_BYTES_MAX 4096u

static _Atomic(tn_plugin_instance *) opening; /* [main] writes */

void tn_plugin_host_opening(tn_plugin_instance *inst) { atomic_store(&opening, inst); }

static const char *speaker(const void *who)
{
    const tn_plugin_instance *inst = who ? tn_plugin_by_inst(who) : NULL;
    if (!inst)
        inst = atomic_load(&opening);
    return inst ? inst->name : "?";
}

static void host_log(const void *who, int32_t level, const char *msg, size_t n)
{
    static const tn_log_level levels[] = {TN_LOG_DEBUG, TN_LOG_INFO, TN_LOG_WARN, TN_LOG_ERROR};
    tn_log_level l = level < 0 || level > 3 ? TN_LOG_ERROR : levels[level];
    if (!msg || !tn_log_enabled(l))
        return;
    char text[LOG_BYTES_MAX];
    n = n < sizeof text ? n : sizeof text - 1;
    memcpy(text, msg, n);
    text[n] = '\0';
    TN_LOG(l, "plugin", text, TN_LOG_Z("plugin", speaker(who)));
}

/* ---- loop services ------------------------------------------------------------------------------ */

/* What a plugin begins here is on its account when it comes back to it: the time of its callbacks is time in its
 * functions ("watch", "timer", "posted", "offload", "offloaded"). */

struct tn_watch {
    tn_loop_watch *watch;
    tn_plugin_figures *figures;
    void (*cb)(void *, uint32_t);
    void *arg;
};

static void watch_ready(void *user, uint32_t events)
{
    const tn_watch *w = user; /* gone when the callback frees it */
    tn_plugin_figures *figures = w->figures;
    uint64_t entered = tn_plugin_enter();
    tn_plugin_run_as(figures);
    w->cb(w->arg,
          (events & TN_WATCH_READ ? TN_FD_READ : 0) | (events & TN_WATCH_WRITE ? TN_FD_WRITE : 0));
    tn_plugin_run_as(NULL);
    if (figures)
        tn_plugin_account(figures, "watch", entered, true);
}

static uint32_t watch_bits(uint32_t events)
{
    return (events & TN_FD_READ ? TN_WATCH_READ : 0) | (events & TN_FD_WRITE ? TN_WATCH_WRITE : 0);
}

static tn_watch *host_watch_fd(tn_loop *loop, int fd, uint32_t events, void (*cb)(void *, uint32_t),
                               void *arg)
{
    if (loop != tn_loop_current() || !cb)
        return NULL;
    tn_watch *w = tn_xcalloc(1, sizeof *w);
    w->figures = tn_plugin_running();
    w->cb = cb;
    w->arg = arg;
    w->watch = tn_loop_watch_create(fd, watch_bits(events), watch_ready, w);
    if (!w->watch) {
        free(w);
        return NULL;
    }
    return w;
}

static void host_watch_set(tn_watch *w, uint32_t events)
{
    tn_loop_watch_set(w->watch, watch_bits(events));
}

static void host_watch_free(tn_watch *w)
{
    if (!w)
        return;
    tn_loop_watch_destroy(w->watch);
    free(w);
}

struct tn_timer {
    tn_loop_timer timer;
    tn_plugin_figures *figures;
    void (*cb)(void *);
    void *arg;
};

static void timer_fire(tn_loop_timer *timer)
{
    tn_timer *t = TN_CONTAINER_OF(timer, tn_timer, timer);
    tn_plugin_callback(t->figures, "timer", t->cb, t->arg, true);
}

static tn_timer *host_timer_start(tn_loop *loop, uint64_t delay_ns, void (*cb)(void *), void *arg)
{
    if (loop != tn_loop_current() || !cb)
        return NULL;
    tn_timer *t = tn_xcalloc(1, sizeof *t);
    t->figures = tn_plugin_running();
    t->cb = cb;
    t->arg = arg;
    tn_loop_timer_init(&t->timer, timer_fire);
    uint64_t now = tn_now_mono_ns();
    tn_loop_timer_start(&t->timer, delay_ns > UINT64_MAX - now ? UINT64_MAX : now + delay_ns);
    return t;
}

static void host_timer_stop(tn_timer *t)
{
    if (!t)
        return;
    tn_loop_timer_stop(&t->timer);
    free(t);
}

typedef struct posted {
    tn_msg msg;
    tn_plugin_figures *figures;
    void (*cb)(void *);
    void *arg;
} posted;

static void run_posted(tn_msg *msg)
{
    posted *p = TN_CONTAINER_OF(msg, posted, msg);
    posted it = *p;
    free(p);
    tn_plugin_callback(it.figures, "posted", it.cb, it.arg, true);
}

static tn_status host_post(tn_loop *loop, void (*cb)(void *), void *arg)
{
    if (!loop || !cb)
        return TN_EINVALID;
    posted *p = malloc(sizeof *p);
    if (!p)
        return TN_EUNAVAILABLE;
    *p = (posted){.msg.run = run_posted, .figures = tn_plugin_running(), .cb = cb, .arg = arg};
    tn_loop_post(loop, &p->msg);
    return TN_OK;
}

typedef struct offload {
    tn_plugin_figures *figures;
    void (*work)(void *), (*done)(void *);
    void *arg;
} offload;

static void offload_work(void *user)
{
    const offload *o = user;
    tn_plugin_callback(o->figures, "offload", o->work, o->arg, false);
}

static void offload_done(void *user)
{
    offload o = *(offload *)user;
    free(user);
    tn_plugin_callback(o.figures, "offloaded", o.done, o.arg, true);
}

static tn_status host_offload(tn_loop *loop, void (*work)(void *), void (*done)(void *), void *arg)
{
    if (loop != tn_loop_current() || !work || !done)
        return TN_EINVALID;
    offload *o = malloc(sizeof *o);
    if (!o)
        return TN_EUNAVAILABLE;
    *o = (offload){.figures = tn_plugin_running(), .work = work, .done = done, .arg = arg};
    tn_status status = tn_loop_offload(offload_work, offload_done, o);
    if (status != TN_OK)
        free(o);
    return status;
}

/* ---- metrics ------------------------------------------------------------------------------------ */

struct tn_metric { /* one of the three; never freed: a plugin's threads may hold it */
    struct tn_metric *next;
    tn_counter *counter;
    tn_gauge *gauge;
    tn_histogram *histogram;
};

static tn_metric *metrics; /* [main] all of them; a plugin that is opened again finds its own */

static tn_metric *metric_of(tn_counter *counter, tn_gauge *gauge, tn_histogram *histogram)
{
    for (tn_metric *m = metrics; m; m = m->next)
        if (m->counter == counter && m->gauge == gauge && m->histogram == histogram)
            return m;
    tn_metric *m = tn_xcalloc(1, sizeof *m);
    *m = (tn_metric){.next = metrics, .counter = counter, .gauge = gauge, .histogram = histogram};
    metrics = m;
    return m;
}

static void put_name(tn_buf *out, const char *name)
{
    for (const char *p = name; *p; p++) {
        bool plain =
            (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');
        tn_buf_put_u8(out, plain ? (uint8_t)*p : '_');
    }
}

static tn_metric *host_metric(const void *who, const char *name, int32_t type, const char *help)
{
    if (!name || type < TN_METRIC_COUNTER || type > TN_METRIC_HISTOGRAM)
        return NULL;
    tn_buf full = {0};
    tn_buf_printf(&full, "tenon_plugin_");
    put_name(&full, speaker(who));
    tn_buf_put_u8(&full, '_');
    put_name(&full, name);
    tn_buf_put_u8(&full, 0);
    const char *text = (const char *)full.p;
    tn_counter *counter = NULL;
    tn_gauge *gauge = NULL;
    tn_histogram *histogram = NULL;
    if (type == TN_METRIC_COUNTER)
        counter = tn_metrics_counter(text, help ? help : "", NULL, 0);
    else if (type == TN_METRIC_GAUGE)
        gauge = tn_metrics_gauge(text, help ? help : "", NULL, 0);
    else
        histogram = tn_metrics_histogram(text, help ? help : "", TN_BUCKETS_SECONDS, NULL, 0);
    tn_metric *m = metric_of(counter, gauge, histogram);
    tn_buf_done(&full);
    return m;
}

static void host_metric_add(tn_metric *m, double v)
{
    if (!m)
        return;
    if (m->histogram)
        tn_histogram_observe(m->histogram, v);
    else if (m->gauge)
        tn_gauge_add(m->gauge, v);
    else if (v > 0 && v < 1e15)
        tn_counter_add(m->counter, (uint64_t)(v + 0.5));
}

/* ---- extensions ---------------------------------------------------------------------------------- */

static struct { /* [main] writes, before plugins are opened */
    const char *id;
    const void *table;
} offered;

void tn_plugin_offer(const char *id, const void *table)
{
    offered.id = id;
    offered.table = table;
}

static const void *host_extension(const char *id)
{
    return id && offered.id && strcmp(id, offered.id) == 0 ? offered.table : NULL;
}

static size_t host_cfg_count(const tn_config *cfg, const char *path)
{
    return tn_config_count(cfg, path);
}

static void host_cfg_complain(const tn_config *cfg, const char *path, const char *text,
                              tn_error *err)
{
    tn_config_complain(cfg, path, text, err);
}

const tn_host tn_plugin_host = {
    .struct_size = sizeof(tn_host),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .log = host_log,
    .now_ns = tn_now_wall_ns,
    .mono_ns = tn_now_mono_ns,
    .cfg_str = tn_config_str,
    .cfg_i64 = tn_config_i64,
    .cfg_bool = tn_config_bool,
    .cfg_f64 = tn_config_f64,
    .cfg_dur_ns = tn_config_duration_ns,
    .cfg_secret = tn_config_secret,
    .cfg_count = host_cfg_count,
    .cfg_complain = host_cfg_complain,
    .op_alloc = tn_plugin_op_alloc,
    .op_deadline_ns = tn_plugin_op_deadline,
    .op_explain = tn_plugin_op_explain,
    .op_finish = tn_plugin_op_finish,
    .watch_fd = host_watch_fd,
    .watch_set = host_watch_set,
    .watch_free = host_watch_free,
    .timer_start = host_timer_start,
    .timer_stop = host_timer_stop,
    .post = host_post,
    .offload = host_offload,
    .metric = host_metric,
    .metric_add = host_metric_add,
    .extension = host_extension,
};
