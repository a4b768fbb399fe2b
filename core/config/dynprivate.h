/* SPDX-License-Identifier: MIT */
/* The tables behind dynamic config, for this room's sources. */
#ifndef TN_CONFIG_DYNPRIVATE_H
#define TN_CONFIG_DYNPRIVATE_H

#include "config/dynconfig.h"

typedef union tn_dyn_value {
    int64_t i; /* BOOL, INT, DURATION */
    double f;
    const char *text;
} tn_dyn_value;

typedef struct tn_dyn_info {
    const char *name;
    tn_dyn_type type;
    tn_dyn_scope scope;
    tn_dyn_value fallback;
} tn_dyn_info;

/* A value under constraints; empty strings and type 0 mean "any". */
typedef struct tn_dyn_entry {
    tn_str ns, task_queue;
    int32_t task_type;
    uint32_t rank; /* higher: more specific */
    tn_dyn_value value;
} tn_dyn_entry;

typedef struct tn_dyn_row {
    tn_dyn_value plain;
    const tn_dyn_entry *entries; /* most specific first; those without constraints are in `plain` */
    size_t count;
} tn_dyn_row;

/* Rows are immutable once published. */
typedef struct tn_dyn_table {
    struct tn_dyn_table *next; /* among the replaced ones */
    uint64_t replaced_ns;
    tn_arena *arena;
    tn_dyn_row rows[TN_DYN_COUNT];
} tn_dyn_table;

extern const tn_dyn_info tn_dyn_infos[TN_DYN_COUNT];
extern const char *const tn_dyn_foreign_keys[];
extern const size_t tn_dyn_foreign_count;
const char *tn_dyn_foreign_why(tn_str key); /* it has no effect: a text for the log */
extern const tn_dyn_key tn_dyn_idle_keys[];
extern const size_t tn_dyn_idle_count;

tn_dyn_table *tn_dyn_table_create(void); /* the defaults */
void tn_dyn_table_destroy(tn_dyn_table *table);
/* Fills rows from a file's tree.  Warns once a process of each thing it skips. */
void tn_dyn_table_fill(tn_dyn_table *table, const tn_config *root, size_t *warnings);
/* One "KEY=JSON"; false: a problem was added. */
bool tn_dyn_table_override(tn_dyn_table *table, const char *text, tn_config_problems *problems);

#endif
