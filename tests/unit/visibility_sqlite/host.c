/* SPDX-License-Identifier: MIT */
/* The small host: operations with an arena and a condition variable, settings from a table. */
#include "host.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct tn_op {
    tn_arena *arena;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool finished;
    tn_status status;
    tn_error err;
    uint64_t deadline_ns;
};
struct test_op {
    tn_op op;
};
struct tn_config {
    const test_setting *settings;
};
struct tn_metric {
    double value;
};

static char last_log[400];
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static void host_log(const void *who, int32_t level, const char *msg, size_t n)
{
    (void)who, (void)level;
    pthread_mutex_lock(&log_lock);
    snprintf(last_log, sizeof(last_log), "%.*s", (int)n, msg);
    pthread_mutex_unlock(&log_lock);
}

const char *test_last_log(void) { return last_log; }

static const char *setting(const tn_config *config, const char *path)
{
    for (const test_setting *s = config->settings; s->key; s++)
        if (strcmp(s->key, path) == 0)
            return s->value;
    return NULL;
}

static tn_status cfg_str(const tn_config *config, const char *path, tn_str *out, tn_error *err)
{
    (void)err;
    const char *value = setting(config, path);
    if (value)
        *out = tn_str_from(value);
    return value ? TN_OK : TN_ENOTFOUND;
}

static tn_status cfg_i64(const tn_config *config, const char *path, int64_t *out, tn_error *err)
{
    const char *value = setting(config, path);
    if (!value)
        return TN_ENOTFOUND;
    if (tn_parse_i64(tn_str_from(value), out))
        return TN_OK;
    return tn_error_set(err, TN_EINVALID, "%s is no number", path);
}

static tn_status cfg_dur(const tn_config *config, const char *path, uint64_t *out, tn_error *err)
{
    int64_t ns;
    const char *value = setting(config, path);
    if (!value)
        return TN_ENOTFOUND;
    if (!tn_parse_duration_ns(tn_str_from(value), &ns))
        return tn_error_set(err, TN_EINVALID, "%s is no duration", path);
    *out = (uint64_t)ns;
    return TN_OK;
}

static void cfg_complain(const tn_config *config, const char *path, const char *text, tn_error *err)
{
    (void)config;
    tn_error_set(err, TN_EINVALID, "test.yaml:1: %s: %s", path, text);
}

static void *op_alloc(tn_op *op, size_t n, size_t align)
{
    void *p = tn_arena_alloc_aligned(op->arena, n, align);
    if (p)
        memset(p, 0, n);
    return p;
}

static uint64_t op_deadline(const tn_op *op) { return op->deadline_ns; }

static void op_explain(tn_op *op, const tn_error *err) { op->err = *err; }

static void op_finish(tn_op *op, tn_status status, const tn_error *err)
{
    pthread_mutex_lock(&op->lock);
    TN_ASSERT(!op->finished);
    op->finished = true;
    op->status = status;
    if (err)
        op->err = *err;
    pthread_cond_signal(&op->wake);
    pthread_mutex_unlock(&op->lock);
}

static tn_metric *host_metric(const void *who, const char *name, int32_t type, const char *help)
{
    static tn_metric one;
    (void)who, (void)name, (void)type, (void)help;
    return &one;
}

static void metric_add(tn_metric *metric, double v) { (void)metric, (void)v; }

static const tn_host HOST = {
    .struct_size = sizeof(tn_host),
    .log = host_log,
    .now_ns = tn_now_wall_ns,
    .mono_ns = tn_now_mono_ns,
    .cfg_str = cfg_str,
    .cfg_i64 = cfg_i64,
    .cfg_dur_ns = cfg_dur,
    .cfg_complain = cfg_complain,
    .op_alloc = op_alloc,
    .op_deadline_ns = op_deadline,
    .op_explain = op_explain,
    .op_finish = op_finish,
    .metric = host_metric,
    .metric_add = metric_add,
};

tn_status test_driver_open(const test_setting *settings, test_driver *out, tn_error *err)
{
    tn_config config = {settings};
    memset(out, 0, sizeof(*out));
    out->plugin = tn_plugin_v0(0);
    out->ops = out->plugin->ops;
    tn_status status = out->plugin->open(&HOST, &config, &out->inst, err);
    if (status == TN_OK)
        status = out->plugin->attach(out->inst, NULL, &out->ctx, err);
    return status;
}

void test_driver_close(test_driver *driver)
{
    if (!driver->inst)
        return;
    driver->plugin->detach(driver->inst, driver->ctx);
    driver->plugin->close(driver->inst);
    driver->inst = NULL;
}

test_op *test_op_create(void)
{
    test_op *op = tn_xcalloc(1, sizeof(*op));
    op->op.arena = tn_arena_create(0);
    op->op.deadline_ns = UINT64_MAX;
    pthread_mutex_init(&op->op.lock, NULL);
    pthread_cond_init(&op->op.wake, NULL);
    return op;
}

void test_op_destroy(test_op *op)
{
    tn_arena_destroy(op->op.arena);
    pthread_mutex_destroy(&op->op.lock);
    pthread_cond_destroy(&op->op.wake);
    free(op);
}

tn_op *test_op_handle(test_op *op) { return &op->op; }

tn_arena *test_op_arena(test_op *op) { return op->op.arena; }

void test_op_deadline(test_op *op, uint64_t at_mono_ns) { op->op.deadline_ns = at_mono_ns; }

tn_status test_op_wait(test_op *op, tn_status returned, tn_error *err)
{
    if (returned == TN_PENDING) {
        pthread_mutex_lock(&op->op.lock);
        while (!op->op.finished)
            pthread_cond_wait(&op->op.wake, &op->op.lock);
        pthread_mutex_unlock(&op->op.lock);
        returned = op->op.status;
    }
    if (err)
        *err = op->op.err;
    return returned;
}

tn_status test_put(test_driver *driver, const tn_vis_doc *doc)
{
    test_op *op = test_op_create();
    tn_error err = {0};
    tn_status status = test_op_wait(op, driver->ops->put(driver->ctx, &op->op, doc), &err);
    if (status != TN_OK)
        fprintf(stderr, "put: %s\n", err.text);
    test_op_destroy(op);
    return status;
}

tn_status test_remove(test_driver *driver, const char *ns_id, tn_str run_id)
{
    test_op *op = test_op_create();
    tn_vis_doc key = {.struct_size = sizeof(key), .ns_id = tn_str_from(ns_id), .run_id = run_id};
    tn_status status = test_op_wait(op, driver->ops->remove(driver->ctx, &op->op, &key), NULL);
    test_op_destroy(op);
    return status;
}

static tn_status explained(test_op *op, tn_status returned, const char *what)
{
    tn_error err = {0};
    tn_status status = test_op_wait(op, returned, &err);
    if (status != TN_OK && getenv("TEST_VERBOSE"))
        fprintf(stderr, "%s: %s\n", what, err.text);
    return status;
}

tn_status test_list(test_driver *driver, test_op *op, const tn_vis_query *query, tn_vis_page *out)
{
    memset(out, 0, sizeof(*out));
    return explained(op, driver->ops->list(driver->ctx, &op->op, query, out), "list");
}

tn_status test_count(test_driver *driver, test_op *op, const tn_vis_query *query, tn_vis_page *out)
{
    memset(out, 0, sizeof(*out));
    return explained(op, driver->ops->count(driver->ctx, &op->op, query, out), "count");
}

tn_blob test_i64(tn_arena *arena, int64_t v)
{
    uint8_t *p = tn_arena_alloc(arena, 8);
    tn_put_u64be(p, (uint64_t)v);
    return tn_blob_from(p, 8);
}

tn_blob test_f64(tn_arena *arena, double v)
{
    int64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return test_i64(arena, bits);
}

tn_blob test_list_value(tn_arena *arena, const char *const *items, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += 4 + strlen(items[i]);
    uint8_t *p = tn_arena_alloc(arena, n + 1), *at = p;
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(items[i]);
        tn_put_u32be(at, (uint32_t)size);
        memcpy(at + 4, items[i], size);
        at += 4 + size;
    }
    return tn_blob_from(p, n);
}

const tn_attr *test_find(const tn_vis_doc *doc, const char *name)
{
    for (size_t i = 0; i < doc->n_attrs; i++)
        if (tn_str_is(doc->attrs[i].name, name))
            return &doc->attrs[i];
    return NULL;
}
