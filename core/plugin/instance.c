/* SPDX-License-Identifier: MIT */
/* The life of a plugin: from a stanza of the configuration to an open instance, to a context on each loop,
 * and back. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "plugin/private.h"

static tn_plugin_instance *instances;
static pthread_rwlock_t instances_lock =
    PTHREAD_RWLOCK_INITIALIZER; /* the list, for log lines of any thread */

tn_plugin_instance *tn_plugin_by_inst(const void *inst)
{
    tn_plugin_instance *found = NULL;
    pthread_rwlock_rdlock(&instances_lock);
    for (tn_plugin_instance *i = instances; i && !found; i = i->next)
        if (i->inst == inst)
            found = i;
    pthread_rwlock_unlock(&instances_lock);
    return found;
}

/* ---- open --------------------------------------------------------------------------------------- */

static bool check_keys(tn_plugin_search *search, const tn_plugin *plugin)
{
    static const char *const own[] = {"plugin", "sha256", NULL};
    char who[320];
    snprintf(who, sizeof who, "%s plugin \"%s\"", tn_plugin_kind_name(search->kind), search->name);
    size_t before = tn_config_problems_count(search->problems);
    tn_config_check_plugin_keys(search->stanza, plugin->config_keys, own, who, search->problems);
    return tn_config_problems_count(search->problems) == before;
}

/* The plugin's complaint names its place when it came from a getter; else the stanza is the place. */
void tn_plugin_complain_of(tn_plugin_search *search, const tn_error *err, tn_status status)
{
    const char *file = tn_config_file(search->stanza);
    size_t n = strlen(file);
    search->failed = true;
    if (err->text[0] && strncmp(err->text, file, n) == 0 && err->text[n] == ':') {
        tn_config_problems_add(search->problems, err->text);
        return;
    }
    tn_plugin_complain(search, "plugin", NULL, "%.*s", (int)sizeof err->text,
                       err->text[0] ? err->text : tn_status_name(status));
}

static tn_plugin_instance *open_instance(tn_plugin_search *search, const tn_plugin *plugin)
{
    tn_plugin_instance *inst = tn_xcalloc(1, sizeof *inst);
    inst->plugin = plugin;
    inst->kind = search->kind;
    inst->path = tn_xstrdup(search->path);
    inst->name = tn_xstrdup(plugin->name);
    inst->version = tn_xstrdup(plugin->version);
    inst->figures = tn_plugin_figures_of(inst->kind, inst->name);
    inst->violations_before = atomic_load(&inst->figures->violations);
    inst->holds_before = atomic_load(&inst->figures->holds);
    tn_error err = {0};
    uint64_t entered = tn_plugin_enter();
    tn_plugin_host_opening(inst);
    tn_status status = plugin->open(&tn_plugin_host, search->stanza, &inst->inst, &err);
    err.text[sizeof err.text - 1] = '\0';
    tn_plugin_account(inst->figures, "open", entered, false);
    if (status != TN_OK) {
        tn_plugin_host_opening(NULL);
        if (!tn_plugin_schema_is_why(search, plugin, &err, status))
            tn_plugin_complain_of(search, &err, status);
        free(inst->path), free(inst->name), free(inst->version), free(inst);
        return NULL;
    }
    inst->opened = true;
    pthread_rwlock_wrlock(&instances_lock);
    inst->next = instances;
    instances = inst;
    pthread_rwlock_unlock(&instances_lock);
    tn_plugin_host_opening(NULL);
    tn_gauge_add(inst->figures->m_instances, 1);
    TN_LOG(TN_LOG_INFO, "plugin", "plugin opened",
           TN_LOG_Z("kind", tn_plugin_kind_name(inst->kind)), TN_LOG_Z("plugin", inst->name),
           TN_LOG_Z("version", inst->version), TN_LOG_Z("path", inst->path),
           TN_LOG_Z("build-id", search->build_id), TN_LOG_Z("sha256", search->sha256));
    return inst;
}

static const tn_plugin *look(tn_plugin_search *search)
{
    tn_plugin_entry entry = NULL;
    if (!tn_plugin_find(search))
        return NULL;
    /* Both looks at the file are taken: one run tells all that is wrong with it. */
    bool trusted = tn_plugin_trust(search), sound = tn_plugin_inspect(search);
    if (!trusted || !sound || !tn_plugin_load(search, &entry))
        return NULL;
    const tn_plugin *plugin = tn_plugin_pick(search, entry);
    bool good = plugin && tn_plugin_check_table(search, plugin);
    if (plugin && plugin->config_keys && !check_keys(search, plugin))
        good = false;
    return good && !search->failed ? plugin : NULL;
}

static tn_plugin_search *search_for(const tn_plugin_options *options, tn_kind kind,
                                    const tn_config *stanza, tn_config_problems *problems)
{
    TN_ASSERT(kind >= TN_KIND_PERSISTENCE && kind <= TN_KIND_AUTHORIZER);
    tn_plugin_search *search = tn_xcalloc(1, sizeof *search);
    search->options = options;
    search->kind = kind;
    search->stanza = stanza;
    search->problems = problems;
    return search;
}

tn_status tn_plugin_open(const tn_plugin_options *options, tn_kind kind, const tn_config *stanza,
                         tn_config_problems *problems, tn_plugin_instance **out)
{
    tn_plugin_search *search = search_for(options, kind, stanza, problems);
    const tn_plugin *plugin = look(search);
    tn_plugin_instance *inst = plugin ? open_instance(search, plugin) : NULL;
    free(search);
    if (!inst)
        return TN_EINVALID;
    *out = inst;
    return TN_OK;
}

tn_status tn_plugin_look(const tn_plugin_options *options, tn_kind kind, const tn_config *stanza,
                         tn_config_problems *problems, const tn_plugin **out)
{
    tn_plugin_search *search = search_for(options, kind, stanza, problems);
    const tn_plugin *plugin = look(search);
    free(search);
    if (!plugin)
        return TN_EINVALID;
    *out = plugin;
    return TN_OK;
}

/* ---- loops -------------------------------------------------------------------------------------- */

typedef struct visit {
    tn_plugin_instance *inst;
    uint32_t loop;
    tn_status status;
    tn_error err;
} visit;

static void attach_here(void *arg)
{
    visit *v = arg;
    tn_plugin_instance *inst = v->inst;
    if (!inst->plugin->attach) {
        inst->ctx[v->loop] = inst->inst;
        return;
    }
    uint64_t entered = tn_plugin_enter();
    tn_plugin_run_as(inst->figures);
    v->status =
        inst->plugin->attach(inst->inst, tn_loops_get(v->loop), &inst->ctx[v->loop], &v->err);
    tn_plugin_left(inst, "attach", entered);
}

static void detach_here(void *arg)
{
    visit *v = arg;
    tn_plugin_instance *inst = v->inst;
    uint64_t entered = tn_plugin_enter();
    tn_plugin_run_as(inst->figures);
    if (inst->plugin->detach)
        inst->plugin->detach(inst->inst, inst->ctx[v->loop]);
    tn_plugin_left(inst, "detach", entered);
    inst->ctx[v->loop] = NULL;
}

static void detach_all(tn_plugin_instance *inst)
{
    while (inst->attached > 0) {
        visit v = {.inst = inst, .loop = --inst->attached};
        tn_loop_call(tn_loops_get(v.loop), detach_here, &v);
    }
}

tn_status tn_plugin_attach(tn_plugin_instance *inst, tn_error *err)
{
    TN_ASSERT(inst->attached == 0 && tn_loops_count() <= TN_PLUGIN_LOOPS_MAX);
    for (uint32_t i = 0; i < tn_loops_count(); i++) {
        visit v = {.inst = inst, .loop = i};
        tn_loop_call(tn_loops_get(i), attach_here, &v);
        if (v.status != TN_OK) {
            v.err.text[sizeof v.err.text - 1] = '\0';
            detach_all(inst);
            return tn_error_set(err, v.status < 0 ? v.status : TN_EINTERNAL,
                                "%s plugin \"%s\": attach: %s", tn_plugin_kind_name(inst->kind),
                                inst->name, v.err.text[0] ? v.err.text : tn_status_name(v.status));
        }
        inst->attached++;
    }
    return TN_OK;
}

void tn_plugin_detach(tn_plugin_instance *inst, uint64_t grace_ns)
{
    uint64_t until = tn_now_mono_ns() + grace_ns;
    /* Only shutdown waits here, and operations end in their own time: a look every millisecond. */
    while (atomic_load(&inst->in_flight) && tn_now_mono_ns() < until)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    if (atomic_load(&inst->in_flight)) {
        inst->abandoned = true;
        TN_LOG(TN_LOG_WARN, "plugin", "operations still in flight: not detached",
               TN_LOG_Z("plugin", inst->name), TN_LOG_U("count", atomic_load(&inst->in_flight)));
        return;
    }
    detach_all(inst);
}

void tn_plugin_close(tn_plugin_instance *inst)
{
    if (!inst)
        return;
    if (inst->attached && !inst->abandoned)
        tn_plugin_detach(inst, 0);
    if (inst->abandoned)
        return; /* leaked on purpose, see tn_plugin_detach */
    uint64_t entered = tn_plugin_enter();
    if (inst->plugin->close)
        inst->plugin->close(inst->inst);
    tn_plugin_account(inst->figures, "close", entered, false);
    tn_gauge_add(inst->figures->m_instances, -1);
    pthread_rwlock_wrlock(&instances_lock);
    tn_plugin_instance **link = &instances;
    while (*link != inst)
        link = &(*link)->next;
    *link = inst->next;
    pthread_rwlock_unlock(&instances_lock);
    free(inst->path), free(inst->name), free(inst->version), free(inst);
}

/* ---- what it is --------------------------------------------------------------------------------- */

void *tn_plugin_ctx(const tn_plugin_instance *inst)
{
    tn_plugin_run_as(inst->figures);
    return inst->ctx[tn_loop_index(tn_loop_current())];
}
const void *tn_plugin_ops(const tn_plugin_instance *inst) { return inst->plugin->ops; }
uint32_t tn_plugin_ops_size(const tn_plugin_instance *inst) { return inst->plugin->ops_size; }
uint64_t tn_plugin_caps(const tn_plugin_instance *inst) { return inst->plugin->caps; }
const char *tn_plugin_name(const tn_plugin_instance *inst) { return inst->name; }
const char *tn_plugin_version(const tn_plugin_instance *inst) { return inst->version; }
const char *tn_plugin_path(const tn_plugin_instance *inst) { return inst->path; }
tn_kind tn_plugin_kind(const tn_plugin_instance *inst) { return inst->kind; }
void *tn_plugin_inst(const tn_plugin_instance *inst) { return inst->inst; }
