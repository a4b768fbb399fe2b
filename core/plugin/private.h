/* SPDX-License-Identifier: MIT */
/* The inside of the plugin host, for this room's sources. */
#ifndef TN_PLUGIN_PRIVATE_H
#define TN_PLUGIN_PRIVATE_H

#include <limits.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "metrics/metrics.h"
#include "plugin/plugin.h"

#define TN_PLUGIN_LOOPS_MAX 64u
#define TN_PLUGIN_DIRS_MAX 16u
#define TN_PLUGIN_LIST_MAX 64u         /* plugins in one library */
#define TN_PLUGIN_HOLD_NS (50 * TN_MS) /* a longer call is logged */
#define TN_PLUGIN_ARENA_MAX ((size_t)256 << 20)
#define TN_PLUGIN_FUNCTIONS_MAX 24u /* that are accounted for, of one plugin */

typedef struct tn_plugin_function {
    const char *name;
    tn_histogram *seconds;
} tn_plugin_function;

/* Of one kind and name; made once, never freed (account.c). */
typedef struct tn_plugin_figures {
    struct tn_plugin_figures *next;
    tn_kind kind;
    const char *name;
    _Atomic uint64_t violations, holds;
    tn_counter *m_late, *m_violations, *m_holds;
    tn_gauge *m_stuck, *m_instances;
    _Atomic uint64_t hold_said_ns, late_said_ns; /* monotonic; the log is not flooded */
    _Atomic uint32_t n_functions;                /* release: the entry is whole */
    tn_plugin_function functions[TN_PLUGIN_FUNCTIONS_MAX];
} tn_plugin_figures;

struct tn_plugin_instance {
    struct tn_plugin_instance *next; /* all open ones; [main] */
    const tn_plugin *plugin;
    tn_kind kind;
    char *path, *name, *version;
    void *inst;
    void *ctx[TN_PLUGIN_LOOPS_MAX];
    uint32_t attached; /* loops */
    bool opened, abandoned;
    tn_plugin_figures *figures;
    uint64_t violations_before, holds_before; /* the figures' when it was opened */
    _Atomic uint64_t in_flight, finished, late, stuck;
};

/* What is known of a stanza while its plugin is looked for. */
typedef struct tn_plugin_search {
    const tn_plugin_options *options;
    tn_kind kind;
    const tn_config *stanza;
    tn_config_problems *problems;
    char name[256];      /* as configured */
    char path[PATH_MAX]; /* real */
    dev_t dev;
    ino_t ino;
    char sha256[65], build_id[65];
    bool failed;
} tn_plugin_search;

/* One problem: the stanza's line, "KIND plugin "NAME": <what>" and the fix. */
void tn_plugin_complain(tn_plugin_search *search, const char *key, const char *fix, const char *fmt,
                        ...) TN_PRINTF(4, 5);
/* What a plugin's function said when it failed: with its own place, or the stanza's. */
void tn_plugin_complain_of(tn_plugin_search *search, const tn_error *err, tn_status status);
const char *tn_plugin_kind_dir(tn_kind kind);

/* find.c: fills path; false after complaints. */
bool tn_plugin_find(tn_plugin_search *search);
/* trust.c: owners and modes of the file and every folder above it. */
bool tn_plugin_trust(tn_plugin_search *search);
/* elf.c: header, build id, digest and pin. */
bool tn_plugin_inspect(tn_plugin_search *search);
/* library.c: loads the file and finds its entry. */
typedef const tn_plugin *(*tn_plugin_entry)(uint32_t);
bool tn_plugin_load(tn_plugin_search *search, tn_plugin_entry *out);
/* table.c: the library's table and its functions. */
const tn_plugin *tn_plugin_pick(tn_plugin_search *search, const tn_plugin *(*list)(uint32_t));
/* The parts that must be right before the others mean anything. */
bool tn_plugin_check_head(tn_plugin_search *search, const tn_plugin *plugin);
bool tn_plugin_check_table(tn_plugin_search *search, const tn_plugin *plugin);
/* schema.c: open failed; true when the stored schema is the cause, and that has been said. */
bool tn_plugin_schema_is_why(tn_plugin_search *search, const tn_plugin *plugin, const tn_error *err,
                             tn_status status);
/* account.c */
tn_plugin_figures *tn_plugin_figures_of(tn_kind kind, const char *name);
/* Time since entered_ns in a function; on a loop also whether it held the loop. */
void tn_plugin_account(tn_plugin_figures *figures, const char *function, uint64_t entered_ns,
                       bool on_loop);
/* Whose function this thread runs (NULL: none): what it begins is on its account. */
tn_plugin_figures *tn_plugin_running(void);
void tn_plugin_run_as(tn_plugin_figures *figures);
void tn_plugin_callback(tn_plugin_figures *figures, const char *what, void (*cb)(void *), void *arg,
                        bool on_loop);
const char *tn_plugin_last_function(void); /* of this thread */
void tn_plugin_say_late(tn_plugin_figures *figures, const char *function, uint64_t waited_ns);
/* host.c */
extern const tn_host tn_plugin_host;
void tn_plugin_host_opening(
    tn_plugin_instance *inst); /* whose metrics and log lines come now; NULL: none */
tn_plugin_instance *tn_plugin_by_inst(const void *inst); /* [any] NULL when unknown */
/* op.c: the host table's members */
void *tn_plugin_op_alloc(tn_op *op, size_t n, size_t align);
uint64_t tn_plugin_op_deadline(const tn_op *op);
void tn_plugin_op_explain(tn_op *op, const tn_error *err);
void tn_plugin_op_finish(tn_op *op, tn_status status, const tn_error *err);

#endif
