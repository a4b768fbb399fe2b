/* SPDX-License-Identifier: MIT */
/* Between the parser of the list filter and what gives its words a meaning: names are resolved to
 * attributes, values converted to their types, and nodes written in postfix order. */
#ifndef TN_VISIBILITY_FILTER_H
#define TN_VISIBILITY_FILTER_H

#include "visibility/private.h"

typedef enum tn_filter_kind {
    TN_FILTER_INT,
    TN_FILTER_FLOAT,
    TN_FILTER_STRING,
    TN_FILTER_BOOL,
    TN_FILTER_NULL,
    TN_FILTER_COLUMN,     /* a name where a value belongs */
    TN_FILTER_UNREADABLE, /* looks like a number and isn't one */
} tn_filter_kind;

typedef struct tn_filter_value {
    tn_filter_kind kind;
    int64_t i;
    double f;
    bool b;
    tn_str text; /* string: unescaped; else as written */
} tn_filter_value;

/* The written operators, also those that no type takes. */
typedef enum tn_filter_op {
    TN_FILTER_EQ,
    TN_FILTER_NE,
    TN_FILTER_LT,
    TN_FILTER_LE,
    TN_FILTER_GT,
    TN_FILTER_GE,
    TN_FILTER_IN,
    TN_FILTER_NOT_IN,
    TN_FILTER_STARTS,
    TN_FILTER_NOT_STARTS,
    TN_FILTER_LIKE,
    TN_FILTER_NOT_LIKE,
    TN_FILTER_REGEXP,
    TN_FILTER_NOT_REGEXP,
    TN_FILTER_NULL_SAFE_EQ,
} tn_filter_op;

typedef struct tn_filter_build {
    tn_arena *arena;
    const tn_namespace *ns;
    bool out_of_memory;
    bool has_filter;
    bool division_seen;
    const tn_vis_division *division; /* NULL: runs, unless the query names another one */
    const tn_fault *mistake;         /* the first one */
    tn_vis_node *nodes;
    size_t n_nodes, cap_nodes;
    tn_vis_order *order;
    size_t n_order, cap_order;
    tn_attr *group;
    size_t n_group;
} tn_filter_build;

/* Notes a mistake in meaning ("invalid query: " is put before it); the first one is kept.  Each call of
 * the functions below leaves one operand (or settles operands) even after a mistake. */
void tn_filter_mistake(tn_filter_build *b, const char *text);
void tn_filter_compare(tn_filter_build *b, tn_str name, tn_filter_op op,
                       const tn_filter_value *values, size_t count);
void tn_filter_between(tn_filter_build *b, tn_str name, bool negated,
                       const tn_filter_value ends[2]);
void tn_filter_is_null(tn_filter_build *b, tn_str name, bool negated);
void tn_filter_logic(tn_filter_build *b, uint32_t op, uint32_t arity);
void tn_filter_order(tn_filter_build *b, tn_str name, bool descending);
void tn_filter_group(tn_filter_build *b, tn_str name);
const tn_fault *tn_filter_finish(tn_filter_build *b, uint32_t use, tn_vis_query *out);

#endif
