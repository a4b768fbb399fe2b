/* SPDX-License-Identifier: MIT */
/* See vkit.h. */
#include "tools/check/vkit.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct vk_group {
    vk_op *ops;
    size_t n, step, left;
    pthread_mutex_t lock;
    pthread_cond_t wake;
} vk_group;

static char ns[40], other_ns[40];

/* ---- the plugin --------------------------------------------------------------------------------- */

void vk_open(void)
{
    static const uint8_t key[16] = {1, 2, 3};
    const char *why;
    tn_error err = {0};
    tn_plugin_instance *inst = kit_open_kind(TN_KIND_VISIBILITY, &why);
    if (!inst)
        kit_fail(__FILE__, __LINE__, "%s", why);
    if (tn_vis_start(inst, key, &err) != TN_OK)
        kit_fail(__FILE__, __LINE__, "%s", err.text);
    if (!ns[0]) {
        uint8_t id[16];
        tn_random_bytes(id, sizeof id);
        tn_uuid_format(id, ns);
        id[15] ^= 1;
        tn_uuid_format(id, other_ns);
    }
}

void vk_close(void)
{
    tn_vis_stop();
    kit_close_plugin();
}

const char *vk_ns(void) { return ns; }
const char *vk_other_ns(void) { return other_ns; }

/* ---- operations --------------------------------------------------------------------------------- */

static void member_done(tn_vis_op *op)
{
    vk_group *g = op->user;
    pthread_mutex_lock(&g->lock);
    if (--g->left == 0)
        pthread_cond_signal(&g->wake);
    pthread_mutex_unlock(&g->lock);
}

typedef struct vk_share {
    vk_group *group;
    size_t first;
} vk_share;

static void submit(void *arg)
{
    static void (*const verbs[])(tn_vis_op *) = {[VK_PUT] = tn_vis_put,
                                                 [VK_REMOVE] = tn_vis_remove,
                                                 [VK_LIST] = tn_vis_list,
                                                 [VK_COUNT] = tn_vis_count,
                                                 [VK_DEFINE] = tn_vis_define};
    const vk_share *share = arg;
    vk_group *g = share->group;
    size_t n = g->n, step = g->step; /* the group may be gone with its last member */
    for (size_t i = share->first; i < n; i += step)
        verbs[g->ops[i].verb](&g->ops[i].op);
}

static void run_on(uint32_t loop, uint32_t loops, vk_op *ops, size_t n)
{
    vk_group g = {.ops = ops, .n = n, .step = loops, .left = n};
    pthread_mutex_init(&g.lock, NULL);
    pthread_cond_init(&g.wake, NULL);
    for (size_t i = 0; i < n; i++) {
        ops[i].op.arena = tn_arena_create(0);
        ops[i].op.done = member_done;
        ops[i].op.user = &g;
        if (!ops[i].op.timeout_ns)
            ops[i].op.timeout_ns = 60 * TN_SEC;
    }
    for (uint32_t i = 0; i < loops; i++)
        tn_loop_call(tn_loops_get((loop + i) % 2), submit, &(vk_share){&g, i});
    pthread_mutex_lock(&g.lock);
    while (g.left)
        pthread_cond_wait(&g.wake, &g.lock);
    pthread_mutex_unlock(&g.lock);
    for (size_t i = 0; i < n; i++) {
        tn_arena_adopt(kit_arena(), ops[i].op.arena);
        ops[i].op.arena = NULL;
    }
}

void vk_run(uint32_t loop, vk_op *ops, size_t n) { run_on(loop, 1, ops, n); }

void vk_run_both(vk_op *ops, size_t n) { run_on(0, 2, ops, n); }

static tn_status run_one(vk_op *op)
{
    vk_run(0, op, 1);
    tn_status status = op->op.status;
    bool told = status == TN_OK || op->op.error.text[0];
    if (!told || (status != TN_OK && getenv("TN_VERBOSE")))
        fprintf(stderr, "verb %d: %s: %s\n", (int)op->verb, tn_status_name(status),
                op->op.error.text);
    return status;
}

tn_status vk_put(const tn_vis_doc *doc)
{
    vk_op op = {.verb = VK_PUT};
    op.op.u.put.doc = *doc;
    return run_one(&op);
}

tn_status vk_remove(const char *ns_id, tn_str run_id)
{
    vk_op op = {.verb = VK_REMOVE};
    op.op.u.put.doc = (tn_vis_doc){
        .struct_size = sizeof(tn_vis_doc), .ns_id = tn_str_from(ns_id), .run_id = run_id};
    return run_one(&op);
}

static tn_status read_page(vk_verb verb, const tn_vis_query *query, tn_vis_page *out)
{
    vk_op op = {.verb = verb};
    op.op.u.list.query = *query;
    tn_status status = run_one(&op);
    *out = op.op.u.list.page;
    return status;
}

tn_status vk_list(const tn_vis_query *query, tn_vis_page *out)
{
    return read_page(VK_LIST, query, out);
}

tn_status vk_count(const tn_vis_query *query, tn_vis_page *out)
{
    return read_page(VK_COUNT, query, out);
}

tn_status vk_define(const tn_attr *attrs, size_t n)
{
    vk_op op = {.verb = VK_DEFINE};
    op.op.u.define.attrs = attrs;
    op.op.u.define.count = n;
    return run_one(&op);
}

/* ---- documents ---------------------------------------------------------------------------------- */

tn_blob vk_i64(int64_t v)
{
    uint8_t *p = tn_arena_alloc(kit_arena(), 8);
    tn_put_u64be(p, (uint64_t)v);
    return tn_blob_from(p, 8);
}

tn_blob vk_f64(double v)
{
    int64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return vk_i64(bits);
}

tn_blob vk_bool(int v) { return tn_arena_blob(kit_arena(), tn_blob_from(v ? "\1" : "\0", 1)); }

tn_blob vk_keywords(const char *const *items, size_t n)
{
    size_t size = 0;
    for (size_t i = 0; i < n; i++)
        size += 4 + strlen(items[i]);
    uint8_t *p = tn_arena_alloc(kit_arena(), size + 1), *at = p;
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(items[i]);
        tn_put_u32be(at, (uint32_t)length);
        memcpy(at + 4, items[i], length);
        at += 4 + length;
    }
    return tn_blob_from(p, size);
}

const char *vk_run_id(uint64_t n)
{
    uint8_t id[16] = {0x01, 0x99};
    tn_put_u32be(id + 2, (uint32_t)n);
    id[6] = 0x70, id[8] = 0x80, id[15] = (uint8_t)(n * 7);
    char *text = tn_arena_alloc(kit_arena(), 40);
    tn_uuid_format(id, text);
    return text;
}

void vk_add(vk_doc *d, const char *name, uint32_t type, tn_blob value)
{
    KIT_CHECK(d->doc.n_attrs < TN_COUNT_OF(d->attrs));
    d->attrs[d->doc.n_attrs++] = (tn_attr){.name = tn_str_from(name), .type = type, .value = value};
}

vk_doc *vk_make(uint64_t n, const char *status, int64_t start, int64_t close, uint64_t version)
{
    vk_doc *d = TN_NEW(kit_arena(), vk_doc);
    d->doc = (tn_vis_doc){
        .struct_size = sizeof(tn_vis_doc),
        .ns_id = tn_str_from(ns),
        .workflow_id = tn_str_from(tn_arena_printf(kit_arena(), "wf-%llu", (unsigned long long)n)),
        .run_id = tn_str_from(vk_run_id(n)),
        .version = version,
        .attrs = d->attrs};
    vk_add(d, "WorkflowId", TN_ATTR_KEYWORD, tn_blob_of_str(d->doc.workflow_id));
    vk_add(d, "RunId", TN_ATTR_KEYWORD, tn_blob_of_str(d->doc.run_id));
    vk_add(d, "WorkflowType", TN_ATTR_KEYWORD, kit_text("Order"));
    vk_add(d, "ExecutionStatus", TN_ATTR_KEYWORD, kit_text(status));
    vk_add(d, "StartTime", TN_ATTR_DATETIME, vk_i64(start));
    vk_add(d, "ExecutionTime", TN_ATTR_DATETIME, vk_i64(start));
    if (close)
        vk_add(d, "CloseTime", TN_ATTR_DATETIME, vk_i64(close));
    return d;
}

const tn_attr *vk_find(const tn_vis_doc *doc, tn_str name)
{
    for (size_t i = 0; i < doc->n_attrs; i++)
        if (tn_str_eq(doc->attrs[i].name, name))
            return &doc->attrs[i];
    return NULL;
}

/* ---- queries ------------------------------------------------------------------------------------ */

tn_vis_node vk_leaf(uint32_t op, const char *name, uint32_t type, size_t n, const tn_blob *values)
{
    tn_blob *copy = TN_NEW_ARRAY(kit_arena(), tn_blob, n + 1);
    for (size_t i = 0; i < n; i++)
        copy[i] = values[i];
    return (tn_vis_node){
        .op = op, .name = tn_str_from(name), .type = type, .n_values = (uint32_t)n, .values = copy};
}

tn_vis_node vk_is(const char *name, const char *keyword)
{
    tn_blob value = kit_text(keyword);
    return vk_leaf(TN_VIS_EQ, name, TN_ATTR_KEYWORD, 1, &value);
}

tn_vis_node vk_logic(uint32_t op, uint32_t arity)
{
    return (tn_vis_node){.op = op, .arity = arity};
}

tn_vis_query vk_query(const tn_vis_node *nodes, size_t n)
{
    return (tn_vis_query){.struct_size = sizeof(tn_vis_query),
                          .ns_id = tn_str_from(ns),
                          .limit = 1000,
                          .filter = nodes,
                          .n_filter = n};
}

uint64_t vk_matches(const tn_vis_node *nodes, size_t n)
{
    tn_vis_page page;
    tn_vis_query q = vk_query(nodes, n);
    KIT_EQUAL(vk_count(&q, &page), TN_OK);
    uint64_t count = page.count, listed = 0;
    q.limit = 3;
    do {
        KIT_EQUAL(vk_list(&q, &page), TN_OK);
        KIT_CHECK(page.n_docs <= 3);
        listed += page.n_docs;
        q.page = page.next;
    } while (q.page.n);
    KIT_EQUAL(listed, count);
    return count;
}

/* ---- shorter ways ----------------------------------------------------------------------------- */

void vk_put_ok(const vk_doc *d) { KIT_EQUAL(vk_put(&d->doc), TN_OK); }

void vk_put_all(vk_doc **docs, size_t n)
{
    vk_op *ops = tn_xcalloc(n, sizeof *ops);
    for (size_t i = 0; i < n; i++) {
        ops[i].verb = VK_PUT;
        ops[i].op.u.put.doc = docs[i]->doc;
    }
    vk_run(0, ops, n);
    for (size_t i = 0; i < n; i++)
        KIT_EQUAL(ops[i].op.status, TN_OK);
    free(ops);
}

uint64_t vk_count_is(const char *name, const char *keyword)
{
    tn_vis_node node = vk_is(name, keyword);
    return vk_matches(&node, 1);
}

uint64_t vk_count_leaf(uint32_t op, const char *name, uint32_t type, tn_blob value)
{
    tn_vis_node node =
        vk_leaf(op, name, type, op == TN_VIS_IS_NULL || op == TN_VIS_NOT_NULL ? 0 : 1, &value);
    return vk_matches(&node, 1);
}

uint64_t vk_count_list(const char *name, const char *keyword)
{
    return vk_count_leaf(TN_VIS_EQ, name, TN_ATTR_KEYWORD_LIST, kit_text(keyword));
}
