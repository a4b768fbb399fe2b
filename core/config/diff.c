/* SPDX-License-Identifier: MIT */
/* What two configurations do not have alike, key by key: for a reload, which must not pass over what it cannot change. */
#include "config/private.h"

/* A key without a value is as good as none. */
static const tn_config *or_null(const tn_config *node)
{
    return node && node->kind != TN_CONFIG_NULL ? node : NULL;
}

/* What stands in the other tree where `node` stands, its parent's place there being `parent`. */
static const tn_config *counterpart(const tn_config *parent, const tn_config *node)
{
    if (!parent || !node->parent || parent->kind != node->parent->kind)
        return NULL;
    const tn_config *child = parent->first;
    bool list = parent->kind == TN_CONFIG_LIST;
    while (child && (list ? child->index != node->index : !tn_str_eq(child->key, node->key)))
        child = child->next;
    return or_null(child);
}

static bool is_leaf(const tn_config *node)
{
    return node->kind != TN_CONFIG_MAP && node->kind != TN_CONFIG_LIST;
}

typedef struct walk {
    const tn_config *theirs[TN_CONFIG_DEPTH_MAX + 2]; /* by depth */
    bool added_only;
    void (*differs)(void *user, const tn_config *node);
    void *user;
} walk;

/* Looks at one node; true: its children are worth a look. */
static bool look(const walk *w, const tn_config *node, const tn_config *there)
{
    if (!or_null(node))
        return false;
    bool same_kind = there && there->kind == node->kind,
         missing = !there || (!same_kind && !w->added_only);
    if (missing ||
        (same_kind && is_leaf(node) && !w->added_only && !tn_str_eq(node->text, there->text)))
        w->differs(w->user, node);
    return same_kind && node->first;
}

/* Every key of `root` that `other` has not, or (unless added_only) has with another value. */
static void walk_tree(walk *w, const tn_config *root, const tn_config *other)
{
    size_t depth = 0;
    const tn_config *node = root;
    w->theirs[0] = or_null(other);
    while (node) {
        bool down = look(w, node, w->theirs[depth]);
        if (down) {
            node = node->first;
            depth++;
        } else {
            while (node != root && !node->next) {
                node = node->parent;
                depth--;
            }
            node = node == root ? NULL : node->next;
        }
        if (node)
            w->theirs[depth] = counterpart(w->theirs[depth - 1], node);
    }
}

void tn_config_diff(const tn_config *old, const tn_config *fresh,
                    void (*changed)(void *user, const tn_config *node),
                    void (*removed)(void *user, const tn_config *node), void *user)
{
    walk w = {.differs = changed, .user = user};
    if (or_null(fresh))
        walk_tree(&w, fresh, old);
    w = (walk){.added_only = true, .differs = removed, .user = user};
    if (or_null(old))
        walk_tree(&w, old, fresh);
}

static void note(void *user, const tn_config *node)
{
    (void)node;
    *(bool *)user = true;
}

bool tn_config_same(const tn_config *a, const tn_config *b)
{
    bool differ = false;
    tn_config_diff(a, b, note, note, &differ);
    return !differ;
}

void tn_config_diff_secrets(const tn_config *old,
                            void (*changed)(void *user, const tn_config *node), void *user)
{
    for (const tn_config_secret_value *s = old ? old->tree->secrets : NULL; s; s = s->next) {
        tn_str key = s->from->key;
        if (key.n < 4 || strcmp(key.p + key.n - 4, "File") != 0)
            continue;
        tn_buf now = {0};
        tn_error err;
        if (tn_config_read_file(s->from->text.p, TN_CONFIG_BYTES_MAX, &now, &err) == TN_OK) {
            now.n -= now.n && now.p[now.n - 1] == '\n';
            now.n -= now.n && now.p[now.n - 1] == '\r';
            if (now.n != s->n || (s->n && memcmp(now.p, s->text, s->n) != 0))
                changed(user, s->from);
        }
        if (now.p)
            explicit_bzero(now.p, now.cap);
        tn_buf_done(&now);
    }
}
