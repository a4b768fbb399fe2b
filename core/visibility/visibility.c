/* SPDX-License-Identifier: MIT */
/* Operations on the visibility plugin, or on two of them while one store is replaced by another.  Inputs are
 * copied into the call's memory, since the plugin may look at them after the caller has stopped waiting. */
#include "visibility/visibility.h"

#include <stdatomic.h>

#include "config/dynconfig.h"
#include "plugin/plugin.h"
#include "visibility/private.h"

#define TIMEOUT_NS (10 * TN_SEC)

typedef struct store {
    tn_plugin_instance *plugin;
    const tn_visibility_ops *ops;
} store;
static _Atomic uint64_t default_timeout_ns = TIMEOUT_NS;
enum { FIRST, SECOND, STORES };
static store stores[STORES]; /* written by start and stop only; the second may be missing */

/* ---- copies of inputs ------------------------------------------------------------------------- */

static bool copy_attrs(tn_arena *arena, const tn_attr *from, size_t count, const tn_attr **out)
{
    tn_attr *attrs = TN_NEW_ARRAY(arena, tn_attr, count + 1);
    for (size_t i = 0; attrs && i < count; i++) {
        attrs[i] = from[i];
        attrs[i].name = tn_arena_str(arena, from[i].name);
        if (from[i].value.p)
            attrs[i].value = tn_arena_blob(arena, from[i].value);
        if (!attrs[i].name.p || (from[i].value.p && !attrs[i].value.p))
            return false;
    }
    *out = attrs;
    return attrs != NULL;
}

static tn_vis_doc *copy_doc(tn_arena *arena, const tn_vis_doc *from)
{
    tn_vis_doc *doc = TN_NEW(arena, tn_vis_doc);
    if (!doc)
        return NULL;
    *doc = *from;
    doc->struct_size = sizeof(*doc);
    doc->ns_id = tn_arena_str(arena, from->ns_id);
    doc->workflow_id = tn_arena_str(arena, from->workflow_id);
    doc->run_id = tn_arena_str(arena, from->run_id);
    if (from->memo.n)
        doc->memo = tn_arena_blob(arena, from->memo);
    bool whole =
        doc->ns_id.p && doc->workflow_id.p && doc->run_id.p && (!from->memo.n || doc->memo.p);
    return whole && copy_attrs(arena, from->attrs, from->n_attrs, &doc->attrs) ? doc : NULL;
}

static bool copy_nodes(tn_arena *arena, tn_vis_query *query)
{
    tn_vis_node *nodes = TN_NEW_ARRAY(arena, tn_vis_node, query->n_filter + 1);
    if (!nodes)
        return false;
    for (size_t i = 0; i < query->n_filter; i++) {
        nodes[i] = query->filter[i];
        nodes[i].name = tn_arena_str(arena, nodes[i].name);
        tn_blob *values = TN_NEW_ARRAY(arena, tn_blob, nodes[i].n_values + 1);
        if (!nodes[i].name.p || !values)
            return false;
        for (size_t k = 0; k < nodes[i].n_values; k++) {
            values[k] = tn_arena_blob(arena, nodes[i].values[k]);
            if (!values[k].p)
                return false;
        }
        nodes[i].values = values;
    }
    query->filter = nodes;
    return true;
}

static tn_vis_query *copy_query(tn_arena *arena, const tn_vis_query *from)
{
    tn_vis_query *query = TN_NEW(arena, tn_vis_query);
    tn_vis_order *order = TN_NEW_ARRAY(arena, tn_vis_order, from->n_order + 1);
    if (!query || !order)
        return NULL;
    *query = *from;
    query->struct_size = sizeof(*query);
    query->ns_id = tn_arena_str(arena, from->ns_id);
    if (from->page.n)
        query->page = tn_arena_blob(arena, from->page);
    if (!query->ns_id.p || (from->page.n && !query->page.p) || !copy_nodes(arena, query))
        return NULL;
    for (size_t i = 0; i < from->n_order; i++) {
        order[i] = from->order[i];
        order[i].name = tn_arena_str(arena, order[i].name);
        if (!order[i].name.p)
            return NULL;
    }
    query->order = order;
    return copy_attrs(arena, from->group_by, from->n_group_by, &query->group_by) ? query : NULL;
}

/* ---- operations ------------------------------------------------------------------------------- */

typedef enum verb { VERB_PUT, VERB_REMOVE, VERB_LIST, VERB_COUNT, VERB_DEFINE } verb;
static const char *const verb_names[] = {"put", "remove", "list", "count", "define"};

/* What an operation keeps in priv: the page of a list or count, how many stores have not answered yet, and which
 * one is read. */
static unsigned left_of(const tn_vis_op *op) { return (unsigned)(uintptr_t)op->priv[1]; }

static void set_left(tn_vis_op *op, unsigned left) { op->priv[1] = (void *)(uintptr_t)left; }

/* Positions belong to the store that gave them: its number stands in front, and pages go on there whatever the
 * settings say meanwhile. */
static tn_status mark_page(tn_vis_op *op)
{
    tn_vis_page *page = &op->u.list.page;
    if (!page->next.n)
        return TN_OK;
    uint8_t *p = tn_arena_alloc(op->arena, page->next.n + 1);
    if (!p)
        return TN_ETOOLARGE;
    p[0] = (uint8_t)(uintptr_t)op->priv[2];
    memcpy(p + 1, page->next.p, page->next.n);
    page->next = tn_blob_from(p, page->next.n + 1);
    return TN_OK;
}

static void finish(tn_plugin_call *call, tn_vis_op *op, tn_status status)
{
    if (op->status == TN_OK && status != TN_OK) { /* of two stores, the first that failed */
        op->status = status;
        op->error = call->err;
        op->error.code = status;
    }
    tn_vis_page *page = op->priv[0];
    if (page && status == TN_OK && !call->late) {
        op->u.list.page = *page;
        tn_plugin_call_take(call, op->arena);
        op->status = mark_page(op);
    }
    tn_plugin_call_end(call);
    set_left(op, left_of(op) - 1);
    if (left_of(op) == 0)
        op->done(op);
}

static void call_done(tn_plugin_call *call) { finish(call, call->user, call->status); }

/* Makes the copies and calls the plugin's function. */
static tn_status invoke(tn_plugin_call *call, const store *to, tn_vis_op *op, verb what)
{
    void *ctx = tn_plugin_ctx(to->plugin);
    const tn_visibility_ops *ops = to->ops;
    switch (what) {
    case VERB_PUT:
    case VERB_REMOVE: {
        tn_vis_doc *doc = copy_doc(call->arena, &op->u.put.doc);
        if (!doc)
            return TN_ETOOLARGE;
        return what == VERB_PUT ? ops->put(ctx, call->op, doc) : ops->remove(ctx, call->op, doc);
    }
    case VERB_LIST:
    case VERB_COUNT: {
        tn_vis_query *query = copy_query(call->arena, &op->u.list.query);
        tn_vis_page *page = TN_NEW(call->arena, tn_vis_page);
        if (!query || !page)
            return TN_ETOOLARGE;
        if (query->page.n)
            query->page = tn_blob_from(query->page.p + 1, query->page.n - 1);
        page->struct_size = sizeof(*page);
        op->priv[0] = page;
        return what == VERB_LIST ? ops->list(ctx, call->op, query, page)
                                 : ops->count(ctx, call->op, query, page);
    }
    case VERB_DEFINE: {
        const tn_attr *attrs;
        if (!copy_attrs(call->arena, op->u.define.attrs, op->u.define.count, &attrs))
            return TN_ETOOLARGE;
        return ops->define(ctx, call->op, attrs, op->u.define.count);
    }
    }
    return TN_EINTERNAL;
}

static void submit_to(const store *to, tn_vis_op *op, verb what)
{
    TN_ASSERT(to->ops);
    uint64_t timeout_ns = op->timeout_ns
                              ? op->timeout_ns
                              : atomic_load_explicit(&default_timeout_ns, memory_order_relaxed);
    bool write = what != VERB_LIST && what != VERB_COUNT;
    tn_plugin_call *call =
        tn_plugin_call_begin(to->plugin, write ? TN_PLUGIN_WRITE : 0, timeout_ns, call_done, op);
    uint64_t entered = tn_plugin_enter();
    tn_status status = invoke(call, to, op, what);
    tn_plugin_left(to->plugin, verb_names[what], entered);
    status = tn_plugin_call_returned(call, status);
    if (status != TN_PENDING)
        finish(call, op, status);
}

static void begin(tn_vis_op *op, unsigned of_stores)
{
    TN_ASSERT(op->arena && op->done);
    memset(op->priv, 0, sizeof(op->priv));
    memset(&op->error, 0, sizeof(op->error));
    op->status = TN_OK;
    set_left(op, of_stores);
}

static void submit_write(tn_vis_op *op, verb what)
{
    int64_t mode = TN_DYN_OFF;
    if (stores[SECOND].ops)
        mode = what == VERB_DEFINE
                   ? TN_DYN_DUAL
                   : tn_dyn_i64(TN_DYN_SYSTEM_SECOND_VISIBILITY_WRITE, TN_STR(""), TN_STR(""));
    begin(op, mode == TN_DYN_DUAL ? 2 : 1);
    if (mode != TN_DYN_ON)
        submit_to(&stores[FIRST], op, what);
    if (mode != TN_DYN_OFF) /* with dual, the operation lives on until this one has ended too */
        submit_to(&stores[SECOND], op, what);
}

static void submit_read(tn_vis_op *op, verb what)
{
    tn_blob page = op->u.list.query.page;
    size_t which = FIRST;
    begin(op, 1);
    if (page.n) {
        which = page.p[0];
    } else if (stores[SECOND].ops) {
        const tn_namespace *ns = tn_namespace_by_id(op->u.list.query.ns_id);
        if (tn_dyn_bool(TN_DYN_SYSTEM_SECOND_VISIBILITY_READ, ns ? ns->name : TN_STR(""),
                        TN_STR("")))
            which = SECOND;
        tn_namespace_unref(ns);
    }
    if (which >= STORES || !stores[which].ops) {
        op->status = tn_error_set(&op->error, TN_EINVALID, "the page token is not of this server");
        op->done(op);
        return;
    }
    op->priv[2] = (void *)(uintptr_t)which;
    submit_to(&stores[which], op, what);
}

void tn_vis_put(tn_vis_op *op) { submit_write(op, VERB_PUT); }

void tn_vis_remove(tn_vis_op *op) { submit_write(op, VERB_REMOVE); }

void tn_vis_list(tn_vis_op *op) { submit_read(op, VERB_LIST); }

void tn_vis_count(tn_vis_op *op) { submit_read(op, VERB_COUNT); }

void tn_vis_define(tn_vis_op *op) { submit_write(op, VERB_DEFINE); }

static tn_status attach(store *to, tn_plugin_instance *visibility, tn_error *err)
{
    const tn_visibility_ops *ops = tn_plugin_ops(visibility);
    TN_ASSERT(tn_plugin_kind(visibility) == TN_KIND_VISIBILITY);
    if (!ops || !TN_PLUGIN_HAS(visibility, tn_visibility_ops, put) ||
        !TN_PLUGIN_HAS(visibility, tn_visibility_ops, remove) ||
        !TN_PLUGIN_HAS(visibility, tn_visibility_ops, list) ||
        !TN_PLUGIN_HAS(visibility, tn_visibility_ops, count) ||
        !TN_PLUGIN_HAS(visibility, tn_visibility_ops, define))
        return tn_error_set(err, TN_EINVALID, "visibility plugin \"%s\" lacks a function",
                            tn_plugin_name(visibility));
    tn_status status = tn_plugin_attach(visibility, err);
    if (status == TN_OK)
        *to = (store){visibility, ops};
    return status;
}

tn_status tn_vis_start(tn_plugin_instance *visibility, const uint8_t token_key[16], tn_error *err)
{
    tn_status status = attach(&stores[FIRST], visibility, err);
    if (status == TN_OK)
        tn_vis_page_key(token_key);
    return status;
}

tn_status tn_vis_start_second(tn_plugin_instance *visibility, tn_error *err)
{
    return attach(&stores[SECOND], visibility, err);
}

void tn_vis_set_timeout(uint64_t ns)
{
    atomic_store_explicit(&default_timeout_ns, ns, memory_order_relaxed);
}

void tn_vis_stop(void)
{
    for (size_t i = STORES; i-- > 0;)
        if (stores[i].plugin)
            tn_plugin_detach(stores[i].plugin, TIMEOUT_NS);
    memset(stores, 0, sizeof(stores));
    tn_vis_page_key((const uint8_t[16]){0});
}
