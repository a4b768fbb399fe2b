/* SPDX-License-Identifier: MIT */
/* The plugin host: finds what the configuration names, checks file and table before and after loading,
 * opens it, attaches it to every loop, and carries operations to it and their ends back.
 *
 * The typed rooms (store, visibility, auth) call the plugin's functions themselves:
 *
 *     tn_plugin_call *call = tn_plugin_call_begin(inst, flags, timeout_ns, done, user);
 *     ... copy the inputs into call->arena: the plugin may look at them after we have stopped waiting ...
 *     uint64_t entered = tn_plugin_enter();
 *     tn_status status = ops->get(tn_plugin_ctx(inst), call->op, key, out);
 *     tn_plugin_left(inst, "get", entered);
 *     status = tn_plugin_call_returned(call, status);
 *     if (status != TN_PENDING) { ... use the result ...; tn_plugin_call_end(call); }
 *
 * and when it is TN_PENDING, done(call) runs later on this loop and ends with tn_plugin_call_end. */
#ifndef TN_PLUGIN_PLUGIN_H
#define TN_PLUGIN_PLUGIN_H

#include "base/base.h"
#include "config/config.h"
#include "loop/loop.h"

/* ---- instances [main] ---- */
typedef struct tn_plugin_instance tn_plugin_instance;

typedef struct tn_plugin_options {
    /* Root of the configuration, for "plugins.dirs" (default: the installation's folder); may be NULL. */
    const tn_config *root;
    /* start-dev: files and folders may also belong to the user who runs the server, and
     * TENON_PLUGIN_DIR may name the folder of a build tree. */
    bool own_files;
} tn_plugin_options;

/* "persistence", "visibility", "claim mapper", "authorizer"; "unknown" for others. */
const char *tn_plugin_kind_name(tn_kind kind);

/* Finds, checks, loads and opens the plugin that stanza.plugin names.  stanza: the map with "plugin",
 * optionally "sha256", and the plugin's own keys; place: the node to name when there is no stanza (may be
 * NULL).  Every problem is added to problems, each with file:line and a fix; then *out stays as it was. */
tn_status tn_plugin_open(const tn_plugin_options *options, tn_kind kind, const tn_config *stanza,
                         tn_config_problems *problems, tn_plugin_instance **out) TN_WARN_UNUSED;
/* Attaches to every loop (tn_loop_call; loops exist, running or not). */
tn_status tn_plugin_attach(tn_plugin_instance *inst, tn_error *err) TN_WARN_UNUSED;
/* Waits up to grace_ns until no operation is in flight, then detaches from every loop.  Past that the
 * plugin keeps its contexts and close does nothing: its threads may still hold our memory. */
void tn_plugin_detach(tn_plugin_instance *inst, uint64_t grace_ns);
void tn_plugin_close(tn_plugin_instance *inst); /* NULL allowed; detaches first when needed */

const void *tn_plugin_ops(const tn_plugin_instance *inst); /* tn_<kind>_ops */
uint32_t tn_plugin_ops_size(const tn_plugin_instance *inst);
#define TN_PLUGIN_HAS(inst, type, member) \
    TN_HAS((const type *)tn_plugin_ops(inst), tn_plugin_ops_size(inst), type, member)
uint64_t tn_plugin_caps(const tn_plugin_instance *inst);
const char *tn_plugin_name(const tn_plugin_instance *inst);
const char *tn_plugin_version(const tn_plugin_instance *inst);
const char *tn_plugin_path(const tn_plugin_instance *inst);
tn_kind tn_plugin_kind(const tn_plugin_instance *inst);
void *tn_plugin_inst(
    const tn_plugin_instance *inst); /* the plugin's own pointer, for [main] functions */

/* What tn_host.extension gives for this id from now on (static): a program's own offer to the plugins that it opens. */
void tn_plugin_offer(const char *id, const void *table);

/* ---- a look at a library [main] ---- */
/* The checks of tn_plugin_open, short of opening: file() hears of a sound file, say() of each plugin in it whose table
 * is in order.  Who runs this may own the file.  TN_EINVALID: something is wrong, problems says what. */
tn_status tn_plugin_about(const char *path, tn_config_problems *problems,
                          void (*file)(void *user, const char *real_path, const char *sha256,
                                       const char *build_id),
                          void (*say)(void *user, const tn_plugin *plugin),
                          void *user) TN_WARN_UNUSED;

/* As tn_plugin_open up to the point of opening; the table, which stays loaded. */
tn_status tn_plugin_look(const tn_plugin_options *options, tn_kind kind, const tn_config *stanza,
                         tn_config_problems *problems, const tn_plugin **out) TN_WARN_UNUSED;

/* ---- schemas [main] ---- */
bool tn_plugin_has_schema(const tn_plugin *plugin);
/* Asks a plugin that has one; it may block, so no loop may wait for this thread.  What it complains of is added to
 * problems, but for TN_ECONFLICT of TN_SCHEMA_CHECK, which is an answer. */
tn_status tn_plugin_schema(const tn_plugin *plugin, const tn_config *stanza, tn_schema_req *req,
                           tn_config_problems *problems) TN_WARN_UNUSED;

/* ---- operations [loop] ---- */
#define TN_PLUGIN_WRITE 1u /* past its deadline the outcome is unknown: TN_EUNCERTAIN */

typedef struct tn_plugin_call tn_plugin_call;
struct tn_plugin_call {
    tn_op *op;       /* for the plugin */
    tn_arena *arena; /* inputs and outputs; ends with the call (or tn_plugin_call_take) */
    /* When done runs: */
    tn_status status;
    tn_error err; /* err.text may be empty */
    bool late; /* the deadline passed: the plugin still holds the call, outputs must not be read */
    void *user;
};

/* Of the current loop.  Asked for where a function is about to be called: what the plugin begins (watches, timers) is
 * on its account until tn_plugin_left. */
void *tn_plugin_ctx(const tn_plugin_instance *inst);
/* timeout_ns 0: none.  Never fails.  The second form takes the moment itself (UINT64_MAX: none). */
tn_plugin_call *tn_plugin_call_begin(tn_plugin_instance *inst, uint32_t flags, uint64_t timeout_ns,
                                     void (*done)(tn_plugin_call *call), void *user);
tn_plugin_call *tn_plugin_call_begin_at(tn_plugin_instance *inst, uint32_t flags,
                                        uint64_t deadline_mono_ns,
                                        void (*done)(tn_plugin_call *call), void *user);
/* What the plugin's function returned; says how it goes on (an unlawful status becomes TN_EINTERNAL).
 * TN_PENDING: done will run, never before this function has returned.  Otherwise done does not run. */
tn_status tn_plugin_call_returned(tn_plugin_call *call, tn_status status);
/* Exactly once, after the result was used.  When late, the memory stays until the plugin finishes. */
void tn_plugin_call_end(tn_plugin_call *call);
/* Moves the call's memory, results included, into the caller's arena (before tn_plugin_call_end; not
 * when late). */
void tn_plugin_call_take(tn_plugin_call *call, tn_arena *into);

/* Around each call into a plugin: its time is accounted for by function (a literal), more than 50 ms is logged and
 * counted. */
static inline uint64_t tn_plugin_enter(void) { return tn_now_mono_ns(); }
void tn_plugin_left(tn_plugin_instance *inst, const char *function, uint64_t entered_mono_ns);

/* ---- counters [any] ---- */
typedef struct tn_plugin_stats {
    uint64_t in_flight, finished, late, stuck /* late and not yet finished */, violations, holds;
} tn_plugin_stats;
void tn_plugin_stats_get(const tn_plugin_instance *inst, tn_plugin_stats *out);

#endif
