/* SPDX-License-Identifier: MIT */
/* Datastores as plain calls that wait, for commands that read or write many rows: several may be open at a time, and any
 * thread may ask.  The driver's functions run on loops as in a server. */
#ifndef TN_TOOLS_DB_H
#define TN_TOOLS_DB_H

#include "tools/tools.h"

typedef struct tn_tool_db {
    tn_plugin_instance *inst;
    const tn_settings_plugin *store;
    tn_kind kind;
    const tn_config *place; /* the stanza, for complaints */
} tn_tool_db;

/* [main] Makes and runs the loops, once. */
tn_status tn_tool_loops_start(uint32_t count, tn_config_problems *problems) TN_WARN_UNUSED;
void tn_tool_loops_stop(void);
/* [main] Opens a store as a server does and attaches it to the loops.  Problems are added. */
tn_status tn_tool_db_open(tn_tool_db *db, const tn_settings *settings, tn_kind kind,
                          const tn_settings_plugin *store,
                          tn_config_problems *problems) TN_WARN_UNUSED;
void tn_tool_db_close(tn_tool_db *db); /* one that was not opened: nothing */

/* [any thread but a loop's] Inputs must live until the call returns; outputs are in the arena.  A store that is not
 * available for a moment is asked again, for half a minute; one that says nothing at all for a minute ends the program,
 * since its driver still holds the caller's memory.  Writes are repeated when their outcome is unknown: they must be such
 * that this does no harm. */
tn_status tn_tool_get(tn_tool_db *db, tn_arena *arena, const tn_key *key, tn_row *out,
                      tn_error *err) TN_WARN_UNUSED;
tn_status tn_tool_scan(tn_tool_db *db, tn_arena *arena, const tn_range *range, tn_page *out,
                       tn_error *err) TN_WARN_UNUSED;
tn_status tn_tool_commit(tn_tool_db *db, tn_arena *arena, const tn_batch *batch, tn_commit *out,
                         tn_error *err) TN_WARN_UNUSED;
tn_status tn_tool_list(tn_tool_db *db, tn_arena *arena, const tn_vis_query *query, tn_vis_page *out,
                       tn_error *err) TN_WARN_UNUSED;
tn_status tn_tool_put_doc(tn_tool_db *db, const tn_vis_doc *doc, tn_error *err) TN_WARN_UNUSED;
/* All at the same time: drivers gather what comes together. */
tn_status tn_tool_put_docs(tn_tool_db *db, const tn_vis_doc *docs, size_t n,
                           tn_error *err) TN_WARN_UNUSED;
tn_status tn_tool_remove_doc(tn_tool_db *db, const tn_vis_doc *doc, tn_error *err) TN_WARN_UNUSED;
tn_status tn_tool_define(tn_tool_db *db, const tn_attr *attrs, size_t n,
                         tn_error *err) TN_WARN_UNUSED;

/* Calls work(user, i) for i from 0 to count - 1 from so many threads; each true asks for no more.  Waits for all. */
void tn_tool_each(uint32_t threads, uint64_t count, bool (*work)(void *user, uint64_t i),
                  void *user);

#endif
