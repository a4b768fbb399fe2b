/* SPDX-License-Identifier: MIT */
/* YAML text as a tree of nodes that know their file, line and column, typed getters over it, and
 * the list in which all complaints of one run are collected.
 *
 * The tree is the tn_config that plugins see: their stanza is a node of it.  [main] throughout; a
 * tree is read-only after parsing except for the secrets that tn_config_secret reads once and
 * keeps. */
#ifndef TN_CONFIG_CONFIG_H
#define TN_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

#define TN_CONFIG_BYTES_MAX (1024u * 1024u)
#define TN_CONFIG_DEPTH_MAX 32u
#define TN_CONFIG_NODES_MAX 20000u
#define TN_CONFIG_PROBLEMS_MAX 100u /* more are counted, not kept */

/* ---- complaints ---- */
typedef struct tn_config_problems tn_config_problems;
tn_config_problems *tn_config_problems_create(void);
void tn_config_problems_destroy(tn_config_problems *problems); /* NULL allowed */
size_t tn_config_problems_count(const tn_config_problems *problems);
/* One complaint: "FILE:LINE: key: what\n    fix: ...". NULL past the last kept one. */
const char *tn_config_problems_text(const tn_config_problems *problems, size_t index);
/* Adds "FILE:LINE: KEY: <what>" and, unless fix is NULL, "\n    fix: <fix>".  at NULL: no place.
 * child: a key below `at` that is named although it may be missing, or NULL. */
void tn_config_complain_at(tn_config_problems *problems, const tn_config *at, const char *child,
                           const char *fix, const char *what, ...) TN_PRINTF(5, 6);
/* Adds a text as it is (a plugin's tn_error already names its place). */
void tn_config_problems_add(tn_config_problems *problems, const char *text);
/* All of them, to standard error, one below the other, with a count at the end. */
void tn_config_problems_print(const tn_config_problems *problems);

/* ---- trees ---- */
typedef struct tn_config_tree tn_config_tree;
/* Refused, with file and line: more than the limits above, duplicate keys, keys that are no plain
 * text, anchors, aliases and tags, a second document, NUL, bad UTF-8.  An empty text is an empty
 * map. */
tn_status tn_config_parse(const char *name, tn_blob text, tn_config_problems *problems,
                          tn_config_tree **out) TN_WARN_UNUSED;
tn_status tn_config_load(const char *path, tn_config_problems *problems,
                         tn_config_tree **out) TN_WARN_UNUSED;
void tn_config_tree_destroy(tn_config_tree *tree); /* NULL allowed; wipes secrets */
const tn_config *tn_config_root(const tn_config_tree *tree);

typedef enum tn_config_kind {
    TN_CONFIG_NULL,
    TN_CONFIG_SCALAR,
    TN_CONFIG_LIST,
    TN_CONFIG_MAP
} tn_config_kind;
tn_config_kind tn_config_kind_of(const tn_config *node);
/* By path "a.b.c" or "list.0.name"; empty path: the node itself.  NULL: not there. */
const tn_config *tn_config_get(const tn_config *node, const char *path);
const tn_config *tn_config_child(const tn_config *map, tn_str key); /* exact key, dots included */
/* Children of a list or map in order; NULL: no (more) children. */
const tn_config *tn_config_first(const tn_config *node);
const tn_config *tn_config_next(const tn_config *node);
tn_str tn_config_key(const tn_config *node);    /* in a map; empty in a list and for the root */
tn_str tn_config_scalar(const tn_config *node); /* text of a scalar, empty for others */
bool tn_config_quoted(const tn_config *node); /* a scalar in quotes: text, whatever it looks like */
const char *tn_config_file(const tn_config *node);
uint32_t tn_config_line(const tn_config *node); /* from 1 */
/* "a.b.0.c" from the root; in static thread storage until the next call. */
const char *tn_config_path_of(const tn_config *node);

/* ---- getters; these are the members cfg_* of tn_host ----
 * TN_ENOTFOUND: not set or null (err is left alone).  TN_EINVALID: of another type, err says
 * "FILE:LINE: key: has X, wants Y".  Values live as long as the tree. */
tn_status tn_config_str(const tn_config *node, const char *path, tn_str *out, tn_error *err);
tn_status tn_config_i64(const tn_config *node, const char *path, int64_t *out, tn_error *err);
tn_status tn_config_bool(const tn_config *node, const char *path, int32_t *out, tn_error *err);
tn_status tn_config_f64(const tn_config *node, const char *path, double *out, tn_error *err);
tn_status tn_config_duration_ns(const tn_config *node, const char *path, uint64_t *out,
                                tn_error *err);
/* A number of bytes: 1048576, 64KiB, 4MiB, 2GiB. */
tn_status tn_config_bytes(const tn_config *node, const char *path, uint64_t *out, tn_error *err);
/* In place, or PATHFile (read), PATHEnv (a variable's value), PATHCommand (a list: program and
 * arguments, or a line for /bin/sh; its output within 10 s).  One final newline is cut.  64 KiB at
 * most. */
tn_status tn_config_secret(const tn_config *node, const char *path, tn_str *out, tn_error *err);
size_t tn_config_count(const tn_config *node, const char *path); /* children; 0 when not set */
void tn_config_complain(const tn_config *node, const char *path, const char *text, tn_error *err);

/* ---- differences ---- For each key (or whole map or list) of fresh that old has not, or has with another value:
 * changed(node of fresh); for each that only old has: removed(node of old).  Values are compared as they are written, and
 * a key without one is as good as none. */
void tn_config_diff(const tn_config *old, const tn_config *fresh,
                    void (*changed)(void *user, const tn_config *node),
                    void (*removed)(void *user, const tn_config *node), void *user);
bool tn_config_same(const tn_config *a, const tn_config *b);
/* The nodes KEYFile of old's tree whose file, once read as a secret, holds another one now. */
void tn_config_diff_secrets(const tn_config *old,
                            void (*changed)(void *user, const tn_config *node), void *user);

/* ---- unknown keys ---- Complains of every key below node that no path of the list names; "*"
 * stands for any key or index ("tls.caFile", "hosts.*.name").  The nearest known key is suggested.
 * A path whose entry in `open` is set (NULL: none) accepts anything below it. */
void tn_config_check_keys(const tn_config *node, const char *const *paths, const bool *open,
                          size_t count, tn_config_problems *problems);
/* The same from a plugin's config_keys ("path type default - meaning" a line; type "secret" also
 * allows the three other spellings; type "map" and "list" are open below), besides the keys in
 * `own`, a NULL-ended list of the host's (plugin, sha256).  who: "persistence plugin \"sqlite\"",
 * put before the text. */
void tn_config_check_plugin_keys(const tn_config *node, const char *config_keys,
                                 const char *const *own, const char *who,
                                 tn_config_problems *problems);
/* The nearest of count words, or NULL when none is near enough to be a slip of the finger. */
const char *tn_config_nearest(tn_str word, const char *const *words, size_t count);

#endif
