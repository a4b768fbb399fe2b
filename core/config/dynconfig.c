/* SPDX-License-Identifier: MIT */
/* Dynamic config at run time: the published table, its readers, and the timer that looks at the
 * file.
 *
 * A table is immutable once published.  A reader holds it for the length of one lookup, a fraction
 * of a microsecond, but may be suspended in it: a replaced table is freed a minute later at the
 * earliest. */
#include "config/dynconfig.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "config/dynprivate.h"
#include "config/private.h"

#define POLL_MIN_NS (5 * TN_SEC)
#define GRACE_NS (60 * TN_SEC)

/* Release when published pairs with acquire in lookup. */
static _Atomic(tn_dyn_table *) current;
static tn_dyn_table *replaced; /* newest first; the watching loop's, or main's before and after */

static struct watcher {
    tn_loop_timer timer;
    char *path;
    uint64_t poll_ns;
    char **overrides;
    size_t overrides_count;
    struct stat seen;
    bool watching, looking, missing;
    bool again; /* what is being read may be older than what has been published meanwhile */
    tn_dyn_table *fresh; /* from the pool thread to the loop */
} watcher;

/* ---- readers ---- */

static tn_dyn_value lookup(tn_dyn_key key, tn_str ns, tn_str task_queue, int32_t task_type)
{
    const tn_dyn_table *table = atomic_load_explicit(&current, memory_order_acquire);
    if (!table)
        return tn_dyn_infos[key].fallback;
    const tn_dyn_row *row = &table->rows[key];
    for (size_t i = 0; i < row->count; i++) {
        const tn_dyn_entry *e = &row->entries[i];
        if ((!e->ns.n || tn_str_eq(e->ns, ns)) &&
            (!e->task_queue.n || tn_str_eq(e->task_queue, task_queue)) &&
            (!e->task_type || e->task_type == task_type))
            return e->value;
    }
    return row->plain;
}

int64_t tn_dyn_i64(tn_dyn_key key, tn_str ns, tn_str task_queue)
{
    TN_DEBUG_ASSERT(tn_dyn_infos[key].type == TN_DYN_TYPE_INT ||
                    tn_dyn_infos[key].type == TN_DYN_TYPE_DURATION ||
                    tn_dyn_infos[key].type == TN_DYN_TYPE_MODE);
    return lookup(key, ns, task_queue, 0).i;
}

bool tn_dyn_bool(tn_dyn_key key, tn_str ns, tn_str task_queue)
{
    TN_DEBUG_ASSERT(tn_dyn_infos[key].type == TN_DYN_TYPE_BOOL);
    return lookup(key, ns, task_queue, 0).i != 0;
}

tn_str tn_dyn_text(tn_dyn_key key)
{
    TN_DEBUG_ASSERT(tn_dyn_infos[key].type == TN_DYN_TYPE_TEXT ||
                    tn_dyn_infos[key].type == TN_DYN_TYPE_MAP);
    return tn_str_from(lookup(key, (tn_str){NULL, 0}, (tn_str){NULL, 0}, 0).text);
}

double tn_dyn_f64(tn_dyn_key key, tn_str ns, tn_str task_queue)
{
    TN_DEBUG_ASSERT(tn_dyn_infos[key].type == TN_DYN_TYPE_FLOAT);
    return lookup(key, ns, task_queue, 0).f;
}

tn_str tn_dyn_text_in(tn_dyn_key key, tn_str ns)
{
    TN_DEBUG_ASSERT(tn_dyn_infos[key].type == TN_DYN_TYPE_TEXT);
    return tn_str_from(lookup(key, ns, (tn_str){NULL, 0}, 0).text);
}

int64_t tn_dyn_task_i64(tn_dyn_key key, tn_str ns, tn_str task_queue, int32_t task_type)
{
    return lookup(key, ns, task_queue, task_type).i;
}

/* ---- making ---- */

static void free_replaced(uint64_t before_ns)
{
    tn_dyn_table **at = &replaced;
    while (*at && (*at)->replaced_ns > before_ns)
        at = &(*at)->next;
    while (*at) { /* the rest is older still */
        tn_dyn_table *old = *at;
        *at = old->next;
        tn_dyn_table_destroy(old);
    }
}

static void publish(tn_dyn_table *table)
{
    uint64_t now = tn_now_mono_ns();
    tn_dyn_table *old = atomic_exchange_explicit(&current, table, memory_order_acq_rel);
    free_replaced(now > GRACE_NS ? now - GRACE_NS : 0);
    if (old) {
        old->replaced_ns = now;
        old->next = replaced;
        replaced = old;
    }
}

static bool apply_overrides(tn_dyn_table *table, tn_config_problems *problems)
{
    bool ok = true;
    for (size_t i = 0; i < watcher.overrides_count; i++)
        ok = tn_dyn_table_override(table, watcher.overrides[i], problems) && ok;
    return ok;
}

tn_status tn_dynconfig_apply(const char *name, tn_blob yaml, tn_config_problems *problems,
                             size_t *warnings)
{
    tn_config_tree *tree = NULL;
    tn_status status = tn_config_parse(name, yaml, problems, &tree);
    if (status != TN_OK)
        return status;
    tn_dyn_table *table = tn_dyn_table_create();
    *warnings = 0;
    tn_dyn_table_fill(table, tn_config_root(tree), warnings);
    tn_config_tree_destroy(tree);
    publish(table);
    return TN_OK;
}

static tn_status load(tn_config_problems *problems, tn_dyn_table **out)
{
    tn_config_tree *tree = NULL;
    tn_status status = TN_OK;
    size_t warnings = 0;
    if (watcher.path)
        status = tn_config_load(watcher.path, problems, &tree);
    if (status != TN_OK)
        return status;
    tn_dyn_table *table = tn_dyn_table_create();
    if (tree)
        tn_dyn_table_fill(table, tn_config_root(tree), &warnings);
    tn_config_tree_destroy(tree);
    if (!apply_overrides(table, problems)) {
        tn_dyn_table_destroy(table);
        return TN_EINVALID;
    }
    *out = table;
    return TN_OK;
}

static void forget_options(void)
{
    for (size_t i = 0; i < watcher.overrides_count; i++)
        free(watcher.overrides[i]);
    free(watcher.overrides);
    free(watcher.path);
    watcher = (struct watcher){0};
}

tn_status tn_dynconfig_start(const tn_dynconfig_options *options, tn_config_problems *problems)
{
    tn_dyn_table *table = NULL;
    TN_ASSERT(!watcher.watching);
    forget_options();
    watcher.path = options->path ? tn_xstrdup(options->path) : NULL;
    watcher.poll_ns = options->poll_ns < POLL_MIN_NS ? POLL_MIN_NS : options->poll_ns;
    watcher.overrides = tn_xcalloc(options->overrides_count, sizeof(char *));
    watcher.overrides_count = options->overrides_count;
    for (size_t i = 0; i < options->overrides_count; i++)
        watcher.overrides[i] = tn_xstrdup(options->overrides[i]);
    if (watcher.path && stat(watcher.path, &watcher.seen) != 0)
        watcher.seen = (struct stat){0};
    tn_status status = load(problems, &table);
    if (status == TN_OK)
        publish(table);
    return status;
}

void tn_dynconfig_stop(void)
{
    TN_ASSERT(!watcher.watching);
    publish(NULL);
    free_replaced(UINT64_MAX);
    forget_options();
}

/* ---- looking at the file ---- */

static bool changed(const struct stat *st)
{
    const struct stat *seen = &watcher.seen;
    return st->st_mtim.tv_sec != seen->st_mtim.tv_sec ||
           st->st_mtim.tv_nsec != seen->st_mtim.tv_nsec || st->st_size != seen->st_size ||
           st->st_ino != seen->st_ino || st->st_dev != seen->st_dev;
}

/* On a pool thread; the loop does not touch the watcher's file state until look_done. */
static void look(void *unused)
{
    (void)unused;
    struct stat st;
    if (stat(watcher.path, &st) != 0) {
        if (!watcher.missing)
            TN_LOG(TN_LOG_WARN, "config", "dynamic config file cannot be seen, its values stay",
                   TN_LOG_Z("file", watcher.path), TN_LOG_Z("error", strerror(errno)));
        watcher.missing = true;
        return;
    }
    watcher.missing = false;
    if (!changed(&st))
        return;
    watcher.seen = st;
    tn_config_problems *problems = tn_config_problems_create();
    if (load(problems, &watcher.fresh) != TN_OK)
        TN_LOG(TN_LOG_ERROR, "config", "dynamic config file is not usable, the old values stay",
               TN_LOG_Z("file", watcher.path),
               TN_LOG_Z("error", tn_config_problems_text(problems, 0)));
    tn_config_problems_destroy(problems);
}

static void next_look(void)
{
    tn_loop_timer_start(&watcher.timer, tn_now_mono_ns() + watcher.poll_ns);
}

static void look_done(void *unused)
{
    (void)unused;
    watcher.looking = false;
    if (watcher.fresh) {
        publish(watcher.fresh);
        watcher.fresh = NULL;
        TN_LOG(TN_LOG_INFO, "config", "dynamic config read again", TN_LOG_Z("file", watcher.path));
    }
    if (watcher.again)
        watcher.seen = (struct stat){0};
    if (watcher.watching && watcher.again)
        tn_dynconfig_look_now(NULL);
    else if (watcher.watching)
        next_look();
    watcher.again = false;
}

static void on_timer(tn_loop_timer *timer)
{
    (void)timer;
    if (tn_loop_offload(look, look_done, NULL) == TN_OK)
        watcher.looking = true;
    else
        next_look();
}

void tn_dynconfig_watch(void *unused)
{
    (void)unused;
    if (!watcher.path || watcher.watching)
        return;
    watcher.watching = true;
    tn_loop_timer_init(&watcher.timer, on_timer);
    next_look();
}

void tn_dynconfig_look_now(void *unused)
{
    (void)unused;
    if (!watcher.watching || watcher.looking)
        return;
    tn_loop_timer_stop(&watcher.timer);
    on_timer(&watcher.timer);
}

tn_status tn_dynconfig_prepare(tn_config_problems *problems, tn_dynconfig_fresh **out)
{
    tn_dyn_table *table = NULL;
    tn_status status = watcher.path ? load(problems, &table) : TN_OK;
    *out = (tn_dynconfig_fresh *)table;
    return status;
}

void tn_dynconfig_discard(tn_dynconfig_fresh *fresh)
{
    if (fresh)
        tn_dyn_table_destroy((tn_dyn_table *)fresh);
}

void tn_dynconfig_commit(void *fresh)
{
    if (!fresh)
        return;
    watcher.again = watcher.looking;
    publish(fresh);
    TN_LOG(TN_LOG_INFO, "config", "dynamic config read again", TN_LOG_Z("file", watcher.path));
}

void tn_dynconfig_unwatch(void *unused)
{
    (void)unused;
    if (watcher.watching)
        tn_loop_timer_stop(&watcher.timer);
    watcher.watching = false;
}
