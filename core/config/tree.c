/* SPDX-License-Identifier: MIT */
/* From libyaml's events to a tree of nodes.  The stack of open maps and lists is ours and bounded,
 * so nothing recurses on what a file holds. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "config/private.h"

struct open_node {
    tn_config *node;
    bool has_key;
    tn_str key;
    uint32_t key_line, key_column;
};

struct builder {
    tn_config_tree *tree;
    tn_config_problems *problems;
    struct open_node open[TN_CONFIG_DEPTH_MAX];
    size_t depth;
    bool documents_seen;
};

static bool refuse(struct builder *b, const yaml_mark_t *mark, const char *fix, const char *what)
{
    char text[512];
    snprintf(text, sizeof text, "%s:%zu: %s%s%s", b->tree->name, mark->line + 1, what,
             fix ? "\n    fix: " : "", fix ? fix : "");
    tn_config_problems_add(b->problems, text);
    return false;
}

static bool is_null(const yaml_event_t *e)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    tn_str s = {(const char *)e->data.scalar.value, e->data.scalar.length};
    for (size_t i = 0; i < TN_COUNT_OF(words); i++) {
        if (tn_str_is(s, words[i]))
            return e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    }
    return false;
}

static bool duplicate(struct builder *b, const tn_config *map, tn_str key, const yaml_mark_t *mark)
{
    const tn_config *before = tn_config_child(map, key);
    if (!before)
        return false;
    char what[300];
    snprintf(what, sizeof what, "key \"" TN_STR_FMT "\" is given twice (first on line %u)",
             key.n > 100 ? 100 : (int)key.n, key.p, before->line);
    refuse(b, mark, "remove one of the two", what);
    return true;
}

/* A new node in the innermost open map or list, or the root. */
static tn_config *attach(struct builder *b, const yaml_event_t *e, tn_config_kind kind)
{
    tn_config_tree *tree = b->tree;
    if (++tree->node_count > TN_CONFIG_NODES_MAX) {
        refuse(b, &e->start_mark, NULL, "too many values in one file (20000 at most)");
        return NULL;
    }
    tn_config *node = TN_NEW(tree->arena, tn_config);
    if (!node) {
        refuse(b, &e->start_mark, NULL, "file needs too much memory");
        return NULL;
    }
    node->tree = tree;
    node->kind = (uint8_t)kind;
    node->line = (uint32_t)e->start_mark.line + 1;
    node->column = (uint32_t)e->start_mark.column + 1;
    if (!b->depth) {
        tree->root = node;
        return node;
    }
    struct open_node *in = &b->open[b->depth - 1];
    node->parent = in->node;
    if (in->node->kind == TN_CONFIG_MAP) {
        node->key = in->key;
        node->line = in->key_line; /* where the reader looks for it */
        node->column = in->key_column;
        in->has_key = false;
    }
    node->index = in->node->count++;
    if (in->node->last)
        in->node->last->next = node;
    else
        in->node->first = node;
    in->node->last = node;
    return node;
}

static bool on_key(struct builder *b, const yaml_event_t *e, tn_str text)
{
    struct open_node *in = &b->open[b->depth - 1];
    if (duplicate(b, in->node, text, &e->start_mark))
        return false;
    in->key = tn_arena_str(b->tree->arena, text);
    if (!in->key.p)
        return refuse(b, &e->start_mark, NULL, "file needs too much memory");
    in->key_line = (uint32_t)e->start_mark.line + 1;
    in->key_column = (uint32_t)e->start_mark.column + 1;
    in->has_key = true;
    return true;
}

static bool key_wanted(const struct builder *b)
{
    return b->depth && b->open[b->depth - 1].node->kind == TN_CONFIG_MAP &&
           !b->open[b->depth - 1].has_key;
}

static bool on_scalar(struct builder *b, const yaml_event_t *e)
{
    tn_str text = {(const char *)e->data.scalar.value, e->data.scalar.length};
    if (memchr(text.p, 0, text.n))
        return refuse(b, &e->start_mark, NULL, "a value holds a NUL character");
    if (key_wanted(b))
        return on_key(b, e, text);
    tn_config *node = attach(b, e, is_null(e) ? TN_CONFIG_NULL : TN_CONFIG_SCALAR);
    if (!node)
        return false;
    node->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    node->text = tn_arena_str(b->tree->arena, text);
    if (!node->text.p)
        return refuse(b, &e->start_mark, NULL, "file needs too much memory");
    return true;
}

static bool on_open(struct builder *b, const yaml_event_t *e, tn_config_kind kind)
{
    if (key_wanted(b))
        return refuse(b, &e->start_mark, NULL, "a key must be a plain text");
    if (b->depth == TN_CONFIG_DEPTH_MAX)
        return refuse(b, &e->start_mark, NULL, "nested too deeply (32 levels at most)");
    tn_config *node = attach(b, e, kind);
    if (!node)
        return false;
    b->open[b->depth++] = (struct open_node){.node = node};
    return true;
}

/* Anchors, aliases and tags: a file of a few lines could stand for gigabytes, and no setting needs
 * them. */
static bool plain(struct builder *b, const yaml_event_t *e, const yaml_char_t *anchor,
                  const yaml_char_t *tag)
{
    if (anchor)
        return refuse(b, &e->start_mark, "write the value out at each place",
                      "anchors (&name) are not supported");
    if (tag)
        return refuse(b, &e->start_mark, "remove the tag", "tags (!name) are not supported");
    return true;
}

static bool on_event(struct builder *b, const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (b->documents_seen)
            return refuse(b, &e->start_mark, "keep one document, without further \"---\" lines",
                          "a second document begins");
        b->documents_seen = true;
        return true;
    case YAML_ALIAS_EVENT:
        return refuse(b, &e->start_mark, "write the value out",
                      "aliases (*name) are not supported");
    case YAML_SCALAR_EVENT:
        return plain(b, e, e->data.scalar.anchor, e->data.scalar.tag) && on_scalar(b, e);
    case YAML_SEQUENCE_START_EVENT:
        return plain(b, e, e->data.sequence_start.anchor, e->data.sequence_start.tag) &&
               on_open(b, e, TN_CONFIG_LIST);
    case YAML_MAPPING_START_EVENT:
        return plain(b, e, e->data.mapping_start.anchor, e->data.mapping_start.tag) &&
               on_open(b, e, TN_CONFIG_MAP);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        b->depth--;
        return true;
    default:
        return true;
    }
}

static bool build(struct builder *b, tn_blob text)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return refuse(b, &(yaml_mark_t){0}, NULL, "no memory to read it");
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, text.p ? text.p : (const unsigned char *)"", text.n);
    bool ok = true, more = true;
    while (ok && more) {
        yaml_event_t e;
        if (!yaml_parser_parse(&parser, &e)) {
            char what[300];
            const yaml_mark_t *mark =
                parser.problem_mark.line ? &parser.problem_mark : &parser.mark;
            snprintf(what, sizeof what, "not YAML: %s%s%s",
                     parser.problem ? parser.problem : "cannot be read", parser.context ? ", " : "",
                     parser.context ? parser.context : "");
            ok = refuse(b, mark, NULL, what);
            break;
        }
        more = e.type != YAML_STREAM_END_EVENT;
        ok = on_event(b, &e);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&parser);
    return ok;
}

tn_status tn_config_parse(const char *name, tn_blob text, tn_config_problems *problems,
                          tn_config_tree **out)
{
    tn_config_tree *tree = tn_xcalloc(1, sizeof *tree);
    tree->arena = tn_arena_create(64u * 1024 * 1024);
    tree->name = tn_arena_strdup(tree->arena, name);
    TN_ASSERT(tree->name);
    struct builder b = {.tree = tree, .problems = problems};
    bool ok = text.n <= TN_CONFIG_BYTES_MAX
                  ? build(&b, text)
                  : refuse(&b, &(yaml_mark_t){0}, NULL, "larger than 1 MiB");
    if (!ok) {
        tn_config_tree_destroy(tree);
        return TN_EINVALID;
    }
    if (!tree->root || tree->root->kind == TN_CONFIG_NULL) {
        tree->root = tree->root ? tree->root : TN_NEW(tree->arena, tn_config);
        TN_ASSERT(tree->root);
        *tree->root = (tn_config){.tree = tree, .kind = TN_CONFIG_MAP, .line = 1, .column = 1};
    }
    *out = tree;
    return TN_OK;
}

tn_status tn_config_read_file(const char *path, size_t max, tn_buf *out, tn_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        tn_status status = errno == ENOENT ? TN_ENOTFOUND : TN_EUNAVAILABLE;
        return tn_error_set(err, status, "cannot open %s: %s", path, strerror(errno));
    }
    tn_status status = TN_OK;
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        status = tn_error_set(err, TN_EINVALID, "%s is a directory", path);
    while (status == TN_OK) {
        tn_buf_reserve(out, 16384);
        ssize_t n = read(fd, out->p + out->n, out->cap - out->n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            status =
                tn_error_set(err, TN_EUNAVAILABLE, "cannot read %s: %s", path, strerror(errno));
        if (n <= 0)
            break;
        out->n += (size_t)n;
        if (out->n > max)
            status = tn_error_set(err, TN_ETOOLARGE, "%s is larger than %zu bytes", path, max);
    }
    close(fd);
    return status;
}

tn_status tn_config_load(const char *path, tn_config_problems *problems, tn_config_tree **out)
{
    tn_buf buf = {0};
    tn_error err = {0};
    tn_status status = tn_config_read_file(path, TN_CONFIG_BYTES_MAX, &buf, &err);
    if (status == TN_OK)
        status = tn_config_parse(path, tn_buf_blob(&buf), problems, out);
    else
        tn_config_problems_add(problems, err.text);
    if (buf.p)
        explicit_bzero(buf.p, buf.n);
    tn_buf_done(&buf);
    return status;
}

void tn_config_tree_destroy(tn_config_tree *tree)
{
    if (!tree)
        return;
    while (tree->secrets) {
        tn_config_secret_value *next = tree->secrets->next;
        explicit_bzero(tree->secrets->text, tree->secrets->n);
        free(tree->secrets);
        tree->secrets = next;
    }
    /* A secret may also stand in place, as any other scalar: wipe them all.  Keys stay. */
    const tn_config *node = tree->root;
    while (node) {
        if (node->text.n)
            explicit_bzero((char *)(uintptr_t)node->text.p, node->text.n);
        if (node->first) {
            node = node->first;
            continue;
        }
        while (node && !node->next)
            node = node->parent;
        node = node ? node->next : NULL;
    }
    tn_arena_destroy(tree->arena);
    free(tree);
}

const tn_config *tn_config_root(const tn_config_tree *tree) { return tree->root; }
