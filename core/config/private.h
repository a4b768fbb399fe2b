/* SPDX-License-Identifier: MIT */
/* The inside of a configuration tree, for this room's sources. */
#ifndef TN_CONFIG_PRIVATE_H
#define TN_CONFIG_PRIVATE_H

#include "config/config.h"

struct tn_config {
    tn_config_tree *tree;
    const tn_config *parent;
    tn_config *next, *first, *last;
    tn_str key, text;
    uint32_t line, column, index, count; /* index: place among its siblings */
    uint8_t kind;
    bool quoted;
};

typedef struct tn_config_secret_value {
    struct tn_config_secret_value *next;
    const tn_config *from; /* the node that names it */
    size_t n;
    char text[];
} tn_config_secret_value;

struct tn_config_tree {
    tn_arena *arena;
    const char *name;
    tn_config *root;
    size_t node_count;
    tn_config_secret_value *secrets;
};

/* "FILE:LINE: " of a node into out. */
void tn_config_place(const tn_config *node, char *out, size_t size);
/* The last node that exists on the way to path: where a missing key is missing. */
const tn_config *tn_config_on_the_way(const tn_config *node, const char *path);
/* Sets err to "FILE:LINE: KEY: <text>"; at is the nearest node that exists on the way to path. */
tn_status tn_config_fail(const tn_config *node, const char *path, tn_error *err, const char *fmt,
                         ...) TN_PRINTF(4, 5);
/* Reads a whole file of at most `max` bytes; TN_ENOTFOUND when it is not there, err otherwise. */
tn_status tn_config_read_file(const char *path, size_t max, tn_buf *out, tn_error *err);

#endif
