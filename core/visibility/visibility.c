/* SPDX-License-Identifier: MIT */
/* Operations on the visibility plugin, and the seal on its page tokens.  Inputs are copied into the
 * call's memory, since the plugin may look at them after the caller has stopped waiting. */
#include "visibility/visibility.h"

#include "plugin/plugin.h"
#include "visibility/private.h"

#define TIMEOUT_NS (10 * TN_SEC)

static struct {
    tn_plugin_instance *plugin;
    const tn_visibility_ops *ops;
} vis; /* written by start and stop only */

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

static void finish(tn_plugin_call *call, tn_vis_op *op, tn_status status)
{
    op->status = status;
    op->error = call->err;
    op->error.code = status;
    tn_vis_page *page = op->priv[0];
    if (page && status == TN_OK && !call->late) {
        op->u.list.page = *page;
        tn_plugin_call_take(call, op->arena);
    }
    tn_plugin_call_end(call);
    op->done(op);
}

static void call_done(tn_plugin_call *call) { finish(call, call->user, call->status); }

/* Makes the copies and calls the plugin's function. */
static tn_status invoke(tn_plugin_call *call, tn_vis_op *op, verb what)
{
    void *ctx = tn_plugin_ctx(vis.plugin);
    switch (what) {
    case VERB_PUT:
    case VERB_REMOVE: {
        tn_vis_doc *doc = copy_doc(call->arena, &op->u.put.doc);
        if (!doc)
            return TN_ETOOLARGE;
        return what == VERB_PUT ? vis.ops->put(ctx, call->op, doc)
                                : vis.ops->remove(ctx, call->op, doc);
    }
    case VERB_LIST:
    case VERB_COUNT: {
        tn_vis_query *query = copy_query(call->arena, &op->u.list.query);
        tn_vis_page *page = TN_NEW(call->arena, tn_vis_page);
        if (!query || !page)
            return TN_ETOOLARGE;
        page->struct_size = sizeof(*page);
        op->priv[0] = page;
        return what == VERB_LIST ? vis.ops->list(ctx, call->op, query, page)
                                 : vis.ops->count(ctx, call->op, query, page);
    }
    case VERB_DEFINE: {
        const tn_attr *attrs;
        if (!copy_attrs(call->arena, op->u.define.attrs, op->u.define.count, &attrs))
            return TN_ETOOLARGE;
        return vis.ops->define(ctx, call->op, attrs, op->u.define.count);
    }
    }
    return TN_EINTERNAL;
}

static void submit(tn_vis_op *op, verb what)
{
    TN_ASSERT(op->arena && op->done && vis.ops);
    uint64_t timeout_ns = op->timeout_ns ? op->timeout_ns : TIMEOUT_NS;
    bool write = what != VERB_LIST && what != VERB_COUNT;
    memset(op->priv, 0, sizeof(op->priv));
    memset(&op->error, 0, sizeof(op->error));
    tn_plugin_call *call =
        tn_plugin_call_begin(vis.plugin, write ? TN_PLUGIN_WRITE : 0, timeout_ns, call_done, op);
    uint64_t entered = tn_plugin_enter();
    tn_status status = invoke(call, op, what);
    tn_plugin_left(vis.plugin, verb_names[what], entered);
    status = tn_plugin_call_returned(call, status);
    if (status != TN_PENDING)
        finish(call, op, status);
}

void tn_vis_put(tn_vis_op *op) { submit(op, VERB_PUT); }

void tn_vis_remove(tn_vis_op *op) { submit(op, VERB_REMOVE); }

void tn_vis_list(tn_vis_op *op) { submit(op, VERB_LIST); }

void tn_vis_count(tn_vis_op *op) { submit(op, VERB_COUNT); }

void tn_vis_define(tn_vis_op *op) { submit(op, VERB_DEFINE); }

tn_status tn_vis_start(tn_plugin_instance *visibility, const uint8_t token_key[16], tn_error *err)
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
    if (status != TN_OK)
        return status;
    vis.plugin = visibility;
    vis.ops = ops;
    tn_vis_page_key(token_key);
    return TN_OK;
}

void tn_vis_stop(void)
{
    if (vis.plugin)
        tn_plugin_detach(vis.plugin, TIMEOUT_NS);
    memset(&vis, 0, sizeof(vis));
}
