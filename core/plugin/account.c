/* SPDX-License-Identifier: MIT */
/* What plugins cost: the time spent in each function, the calls that held a loop, operations that did not end in time.
 *
 * The figures of a plugin (kind and name) outlive its instances: a reload opens a new instance, which counts on where
 * the old one was, and whatever a plugin's thread says too late still finds them. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/private.h"

static tn_plugin_figures *all;
static pthread_mutex_t lock =
    PTHREAD_MUTEX_INITIALIZER; /* making figures and functions, which is rare */

static _Thread_local tn_plugin_figures *running; /* whose function this thread is in */
static _Thread_local const char
    *last_function; /* the newest that returned, for operations that it began */

/* ---- making ------------------------------------------------------------------------------------- */

static void make_series(tn_plugin_figures *f)
{
    tn_label labels[] = {TN_LABEL_Z("kind", tn_plugin_kind_name(f->kind)),
                         TN_LABEL_Z("plugin", f->name)};
    f->m_late =
        tn_metrics_counter("tenon_plugin_late", "Operations answered by their deadline", labels, 2);
    f->m_violations =
        tn_metrics_counter("tenon_plugin_violations", "Breaches of the plugin contract", labels, 2);
    f->m_holds = tn_metrics_counter("tenon_plugin_holds",
                                    "Calls that held their loop 50 ms or longer", labels, 2);
    f->m_stuck = tn_metrics_gauge("tenon_plugin_stuck", "Late operations that are not finished yet",
                                  labels, 2);
    f->m_instances = tn_metrics_gauge(
        "tenon_plugin_instances",
        "Open instances: one, and those that a reload has replaced and that still work", labels, 2);
}

tn_plugin_figures *tn_plugin_figures_of(tn_kind kind, const char *name)
{
    pthread_mutex_lock(&lock);
    tn_plugin_figures *f = all;
    while (f && (f->kind != kind || strcmp(f->name, name) != 0))
        f = f->next;
    if (!f) {
        f = tn_xcalloc(1, sizeof *f);
        f->kind = kind;
        f->name = tn_xstrdup(name);
        make_series(f);
        f->next = all;
        all = f;
    }
    pthread_mutex_unlock(&lock);
    return f;
}

static tn_plugin_function *add_function(tn_plugin_figures *f, const char *name)
{
    pthread_mutex_lock(&lock);
    uint32_t n = atomic_load_explicit(&f->n_functions, memory_order_relaxed), i = 0;
    while (i < n && strcmp(f->functions[i].name, name) != 0)
        i++;
    if (i == n && n < TN_PLUGIN_FUNCTIONS_MAX) {
        tn_label labels[] = {TN_LABEL_Z("kind", tn_plugin_kind_name(f->kind)),
                             TN_LABEL_Z("plugin", f->name), TN_LABEL_Z("function", name)};
        f->functions[i].name = name;
        f->functions[i].seconds =
            tn_metrics_histogram("tenon_plugin_function_seconds", "Time inside a plugin's function",
                                 TN_BUCKETS_CALLS, labels, 3);
        atomic_store_explicit(&f->n_functions, n + 1, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    return i < TN_PLUGIN_FUNCTIONS_MAX ? &f->functions[i] : NULL;
}

/* Names are literals, mostly the same ones: their addresses are compared before their letters. */
static tn_plugin_function *function_of(tn_plugin_figures *f, const char *name)
{
    uint32_t n = atomic_load_explicit(&f->n_functions, memory_order_acquire);
    for (uint32_t i = 0; i < n; i++)
        if (f->functions[i].name == name)
            return &f->functions[i];
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(f->functions[i].name, name) == 0)
            return &f->functions[i];
    return add_function(f, name);
}

/* ---- counting ----------------------------------------------------------------------------------- */

/* At most one line a second and plugin. */
static bool may_say(_Atomic uint64_t *said_ns)
{
    uint64_t now = tn_now_mono_ns(), said = atomic_load_explicit(said_ns, memory_order_relaxed);
    if (said && now - said < TN_SEC)
        return false;
    atomic_store_explicit(said_ns, now, memory_order_relaxed);
    return true;
}

void tn_plugin_account(tn_plugin_figures *f, const char *function, uint64_t entered_ns,
                       bool on_loop)
{
    uint64_t now = tn_now_mono_ns(), held = now - entered_ns;
    tn_plugin_function *of = function_of(f, function);
    if (of)
        tn_histogram_observe_ns(of->seconds, held);
    if (held < TN_PLUGIN_HOLD_NS || !on_loop)
        return;
    atomic_fetch_add_explicit(&f->holds, 1, memory_order_relaxed);
    tn_counter_inc(f->m_holds);
    if (may_say(&f->hold_said_ns))
        TN_LOG(TN_LOG_WARN, "plugin", "a plugin held its loop", TN_LOG_Z("plugin", f->name),
               TN_LOG_Z("kind", tn_plugin_kind_name(f->kind)), TN_LOG_Z("function", function),
               TN_LOG_U("ms", held / TN_MS));
}

void tn_plugin_left(tn_plugin_instance *inst, const char *function, uint64_t entered_mono_ns)
{
    running = NULL;
    last_function = function;
    tn_plugin_account(inst->figures, function, entered_mono_ns, true);
}

const char *tn_plugin_last_function(void) { return last_function ? last_function : "?"; }

void tn_plugin_say_late(tn_plugin_figures *f, const char *function, uint64_t waited_ns)
{
    if (may_say(&f->late_said_ns))
        TN_LOG(TN_LOG_WARN, "plugin",
               "an operation did not end by its deadline: answered without it",
               TN_LOG_Z("plugin", f->name), TN_LOG_Z("kind", tn_plugin_kind_name(f->kind)),
               TN_LOG_Z("function", function), TN_LOG_U("ms", waited_ns / TN_MS));
}

/* ---- whose time it is --------------------------------------------------------------------------- */

tn_plugin_figures *tn_plugin_running(void) { return running; }

void tn_plugin_run_as(tn_plugin_figures *f) { running = f; }

void tn_plugin_callback(tn_plugin_figures *f, const char *what, void (*cb)(void *), void *arg,
                        bool on_loop)
{
    tn_plugin_figures *outer = running;
    uint64_t entered = tn_plugin_enter();
    running = f;
    cb(arg);
    running = outer;
    if (f)
        tn_plugin_account(f, what, entered, on_loop);
}
