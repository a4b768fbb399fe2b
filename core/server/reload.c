/* SPDX-License-Identifier: MIT */
/* A reload: the configuration is read again, everything that may change is made anew beside what serves, and only when
 * all of it is whole is it taken.  Otherwise nothing has changed.
 *
 * Claim mapper and authorizer are always opened anew, since what they read (policies, keys, certificates) need not stand
 * in the configuration.  Their calls go on: each loop gets the new pair between two calls, a call that has begun ends
 * with the old pair, and that is closed when it has nothing left to do.  Datastores stay as they are: a store has one
 * owner for its locks, its fences and its order of commits. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/dynconfig.h"
#include "server/private.h"
#include "store/store.h"
#include "visibility/visibility.h"

#define RETIRED_MAX \
    16u /* replaced ones that still work; more means that a plugin does not let go */
#define LOOK_MIN_NS (2 * TN_MS)
#define LOOK_MAX_NS TN_SEC

/* ---- settings that somebody looks at ---- */

tn_settings_ref *tn_settings_ref_new(tn_settings *settings)
{
    tn_settings_ref *ref = tn_xcalloc(1, sizeof *ref);
    *ref = (tn_settings_ref){.settings = settings, .refs = 1};
    return ref;
}

static tn_settings_ref *hold(tn_settings_ref *ref)
{
    ref->refs++;
    return ref;
}

void tn_settings_ref_drop(tn_settings_ref *ref)
{
    if (!ref || --ref->refs)
        return;
    tn_settings_destroy(ref->settings);
    free(ref);
}

void tn_server_apply_settings(const tn_settings *set)
{
    tn_log_configure(set->log_level, set->log_json);
    tn_store_set_timeout(set->store_timeout_ns);
    tn_vis_set_timeout(set->visibility_timeout_ns);
}

/* ---- what is replaced ---- */

static void is_idle(void *arg)
{
    tn_server *s = ((void **)arg)[0];
    *(bool *)((void **)arg)[1] = tn_tls_idle(s->tls);
}

static bool idle(tn_server *s, const tn_retired *r)
{
    bool tls_idle = true;
    tn_loop_call(tn_loops_get(0), is_idle, (void *[]){s, &tls_idle});
    return tls_idle && tn_auth_idle(r->pair);
}

static void close_retired(tn_retired *r, uint64_t grace_ns)
{
    tn_plugin_detach(r->mapper, grace_ns);
    tn_plugin_detach(r->authorizer, grace_ns);
    tn_plugin_close(r->mapper);
    tn_plugin_close(r->authorizer);
    tn_auth_forget(r->pair);
    tn_settings_ref_drop(r->tls_from);
    tn_settings_ref_drop(r->settings);
    free(r);
}

uint64_t tn_server_bury(tn_server *s)
{
    uint64_t now = tn_now_mono_ns(), youngest = 0;
    for (tn_retired **at = &s->retired; *at;) {
        tn_retired *r = *at;
        if (idle(s, r)) {
            *at = r->next;
            s->n_retired--;
            TN_LOG(TN_LOG_DEBUG, "server",
                   "the replaced plugins have ended their calls and are closed",
                   TN_LOG_Z("mapper", tn_plugin_name(r->mapper)),
                   TN_LOG_Z("authorizer", tn_plugin_name(r->authorizer)),
                   TN_LOG_U("ms", (now - r->since_ns) / TN_MS));
            close_retired(r, 0);
            continue;
        }
        uint64_t age = now - r->since_ns;
        if (age > 2 * s->current->settings->auth_timeout_ns && !r->said) {
            r->said = true;
            TN_LOG(TN_LOG_WARN, "server",
                   "replaced plugins still have operations in flight: they stay open",
                   TN_LOG_Z("mapper", tn_plugin_name(r->mapper)),
                   TN_LOG_Z("authorizer", tn_plugin_name(r->authorizer)));
        }
        youngest = !youngest || age < youngest ? age : youngest;
        at = &r->next;
    }
    if (!s->retired)
        return 0;
    return youngest < LOOK_MIN_NS ? LOOK_MIN_NS : youngest > LOOK_MAX_NS ? LOOK_MAX_NS : youngest;
}

void tn_server_bury_all(tn_server *s, uint64_t grace_ns)
{
    while (s->retired) {
        tn_retired *r = s->retired;
        s->retired = r->next;
        close_retired(r, grace_ns);
    }
}

/* Takes over all of it. */
static void retire(tn_server *s, tn_auth_pair *pair, tn_plugin_instance *mapper,
                   tn_plugin_instance *authorizer, tn_settings_ref *settings)
{
    tn_retired *r = tn_xcalloc(1, sizeof *r);
    *r = (tn_retired){.next = s->retired,
                      .pair = pair,
                      .mapper = mapper,
                      .authorizer = authorizer,
                      .settings = settings,
                      .since_ns = tn_now_mono_ns()};
    s->retired = r;
    s->n_retired++;
}

/* ---- what is new ---- */

typedef struct fresh {
    tn_config_problems *problems;
    tn_settings *settings;
    tn_plugin_instance *mapper, *authorizer;
    tn_dynconfig_fresh *dynconfig;
    tn_tls_fresh *tls;
    tn_audit_fresh *audit;
    bool tls_taken; /* global.tls may be taken: no port turns to TLS, or from it */
} fresh;

static bool make(tn_server *s, fresh *f)
{
    if (tn_server_read_settings(s, f->problems, &f->settings) != TN_OK)
        return false;
    const tn_settings *set = f->settings;
    tn_plugin_options options = {.root = tn_config_root(set->tree),
                                 .own_files = s->args->command == TN_CMD_START_DEV};
    bool good = tn_dynconfig_prepare(f->problems, &f->dynconfig) == TN_OK;
    f->tls_taken = tn_tls_same_sides(s->tls, &set->tls);
    if (f->tls_taken) {
        bool same =
            tn_config_same(tn_config_get(tn_config_root(s->tls_from->settings->tree), "global.tls"),
                           tn_config_get(tn_config_root(set->tree), "global.tls"));
        good = tn_tls_prepare(s->tls, &set->tls, same, f->problems, &f->tls) == TN_OK && good;
    }
    /* Both, so that one run tells all. */
    good = tn_plugin_open(&options, TN_KIND_CLAIM_MAPPER, set->claim_mapper.stanza, f->problems,
                          &f->mapper) == TN_OK &&
           good;
    good = tn_plugin_open(&options, TN_KIND_AUTHORIZER, set->authorizer.stanza, f->problems,
                          &f->authorizer) == TN_OK &&
           good;
    tn_error err = {0};
    if (tn_server_prepare_audit(set, &f->audit, &err) == TN_OK)
        return good;
    tn_config_complain_at(f->problems,
                          tn_config_get(tn_config_root(set->tree), "authorization.audit"), "path",
                          NULL, "%s", err.text);
    return false;
}

static void discard(fresh *f)
{
    tn_plugin_close(f->mapper);
    tn_plugin_close(f->authorizer);
    tn_dynconfig_discard(f->dynconfig);
    tn_audit_discard(f->audit);
    tn_tls_discard(f->tls);
    tn_settings_destroy(f->settings);
}

static bool replace_pair(tn_server *s, fresh *f, tn_auth_pair **out_old)
{
    tn_error err = {0};
    if (s->n_retired >= RETIRED_MAX) {
        tn_config_complain_at(
            f->problems, NULL, NULL,
            "restart the server, and mend the plugin that does not end its operations",
            "%u pairs of replaced plugins still have operations in flight", s->n_retired);
        return false;
    }
    tn_auth_set_headers(f->settings->auth_header, f->settings->auth_extra_header);
    tn_auth_set_audience(f->settings->auth_audience);
    if (tn_auth_replace(f->mapper, f->authorizer, f->settings->auth_timeout_ns, out_old, &err) ==
        TN_OK)
        return true;
    bool mapper = strncmp(err.text, "claim", 5) == 0;
    tn_config_complain_at(
        f->problems, mapper ? f->settings->claim_mapper.stanza : f->settings->authorizer.stanza,
        "plugin", "mend what it says, or name the plugin that served before", "%s", err.text);
    if (*out_old) { /* the refused ones, perhaps still at the question */
        retire(s, *out_old, f->mapper, f->authorizer, tn_settings_ref_new(f->settings));
        f->mapper = f->authorizer = NULL;
        f->settings = NULL;
    }
    return false;
}

/* Nothing here can fail. */
static void take(tn_server *s, fresh *f, tn_auth_pair *old)
{
    retire(s, old, s->plugins[PLUGIN_CLAIMS], s->plugins[PLUGIN_AUTH], s->current);
    s->plugins[PLUGIN_CLAIMS] = f->mapper;
    s->plugins[PLUGIN_AUTH] = f->authorizer;
    s->current = tn_settings_ref_new(f->settings);
    tn_loop_call(tn_loops_get(0), tn_dynconfig_commit, f->dynconfig);
    if (f->tls_taken) {
        tn_loop_call(tn_loops_get(0), tn_tls_commit, f->tls);
        s->retired->tls_from = s->tls_from; /* until no reading of files looks at them */
        s->tls_from = hold(s->current);
    }
    tn_audit_commit(f->audit);
    tn_server_apply_settings(f->settings);
}

/* ---- what is said ---- */

/* Keys that a reload takes, with all below them. */
static const char *const taken[] = {
    "log",    "authorization",    "plugins.dirs", /* of those two */
    "limits", "rpc.drainTimeout", "global.tls",
};

static bool is_below(const char *path, const char *key)
{
    size_t n = strlen(key);
    return strncmp(path, key, n) == 0 && (path[n] == '\0' || path[n] == '.');
}

static bool is_taken(const char *path, bool tls_taken)
{
    for (size_t i = 0; i < TN_COUNT_OF(taken); i++)
        if (is_below(path, taken[i]))
            return tls_taken || !is_below(path, "global.tls");
    return false;
}

typedef struct told {
    tn_buf *report;
    const char *word, *how;
    bool tell_taken, tls_taken;
} told;

static void tell(const told *t, const tn_config *node, const char *how)
{
    const char *path = tn_config_path_of(node);
    if (is_taken(path, t->tls_taken) == t->tell_taken)
        tn_buf_printf(t->report, "%s: %s%s (%s:%u)\n", t->word, path, how, tn_config_file(node),
                      tn_config_line(node));
}

static void tell_changed(void *user, const tn_config *node)
{
    tell(user, node, ((told *)user)->how);
}

static void tell_removed(void *user, const tn_config *node) { tell(user, node, ", no longer set"); }

/* What has changed since the newest reload; and since the start, of what only a start takes: it is told each time. */
static void report_good(tn_server *s, const tn_settings *before, const fresh *f, tn_buf *out)
{
    const tn_config *fresh_root = tn_config_root(f->settings->tree),
                    *start_root = tn_config_root(s->settings->tree);
    tn_buf_printf(out, "reloaded: claim mapper \"%s\" %s, authorizer \"%s\" %s\n",
                  tn_plugin_name(f->mapper), tn_plugin_version(f->mapper),
                  tn_plugin_name(f->authorizer), tn_plugin_version(f->authorizer));
    told t = {
        .report = out, .word = "changed", .how = "", .tell_taken = true, .tls_taken = f->tls_taken};
    tn_config_diff(tn_config_root(before->tree), fresh_root, tell_changed, tell_removed, &t);
    t.word = "needs a restart";
    t.tell_taken = false;
    tn_config_diff(start_root, fresh_root, tell_changed, tell_removed, &t);
    t.how = ", whose file holds another secret";
    tn_config_diff_secrets(start_root, tell_changed, &t);
}

static void report_bad(const fresh *f, tn_buf *out)
{
    const char *text;
    tn_buf_printf(out, "not reloaded, the server goes on as it was:\n");
    for (size_t i = 0; (text = tn_config_problems_text(f->problems, i)) != NULL; i++) {
        tn_buf_printf(out, "%s\n", text);
        TN_LOG(TN_LOG_ERROR, "server", "not reloaded, what serves goes on", TN_LOG_Z("why", text));
    }
}

static void log_lines(const tn_buf *report)
{
    tn_str rest = tn_str_of_blob(tn_buf_blob(report));
    while (rest.n) {
        const char *end = memchr(rest.p, '\n', rest.n);
        size_t n = end ? (size_t)(end - rest.p) : rest.n;
        bool restart = n > 5 && memcmp(rest.p, "needs", 5) == 0;
        TN_LOG(restart ? TN_LOG_WARN : TN_LOG_INFO, "server", "reload",
               TN_LOG_S("what", ((tn_str){rest.p, n})));
        rest = (tn_str){rest.p + n + (end != NULL), rest.n - n - (end != NULL)};
    }
}

bool tn_server_reload(tn_server *s, tn_buf *report)
{
    fresh f = {.problems = tn_config_problems_create()};
    tn_auth_pair *old = NULL;
    tn_label ok = TN_LABEL_Z("result", "ok"), bad = TN_LABEL_Z("result", "failed");
    tn_server_bury(s);
    bool good = make(s, &f) && replace_pair(s, &f, &old);
    if (good) {
        const tn_settings *before = s->current->settings; /* the retired pair holds them */
        take(s, &f, old);
        report_good(s, before, &f, report);
        log_lines(report);
    } else {
        report_bad(&f, report);
        discard(&f);
    }
    tn_counter_inc(
        tn_metrics_counter("tenon_reloads", "Reloads of the configuration", good ? &ok : &bad, 1));
    tn_config_problems_destroy(f.problems);
    return good;
}
