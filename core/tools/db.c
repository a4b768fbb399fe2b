/* SPDX-License-Identifier: MIT */
/* See db.h: one operation after another, each carried to a loop and waited for. */
#include "tools/db.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "loop/loop.h"

#define SILENCE_NS (60 * TN_SEC)
#define PATIENCE_NS (30 * TN_SEC)

static bool loops_run;
static atomic_uint next_loop;

/* ---- life [main] ---- */

tn_status tn_tool_loops_start(uint32_t count, tn_config_problems *problems)
{
    tn_error err = {0};
    if (loops_run)
        return TN_OK;
    if (tn_loops_create(count, &err) != TN_OK) {
        tn_config_problems_add(problems, err.text);
        return TN_EUNAVAILABLE;
    }
    tn_loops_run();
    loops_run = true;
    return TN_OK;
}

void tn_tool_loops_stop(void)
{
    if (!loops_run)
        return;
    tn_loops_stop();
    tn_loops_destroy();
    loops_run = false;
}

tn_status tn_tool_db_open(tn_tool_db *db, const tn_settings *settings, tn_kind kind,
                          const tn_settings_plugin *store, tn_config_problems *problems)
{
    tn_plugin_options options = tn_tool_plugin_options(settings);
    tn_error err = {0};
    *db = (tn_tool_db){.store = store, .kind = kind, .place = store->stanza};
    tn_status status = tn_plugin_open(&options, kind, store->stanza, problems, &db->inst);
    if (status != TN_OK)
        return status;
    status = tn_plugin_attach(db->inst, &err);
    if (status == TN_OK)
        return TN_OK;
    tn_config_complain_at(problems, store->stanza, "plugin", NULL, "%s", err.text);
    tn_plugin_close(db->inst);
    db->inst = NULL;
    return status;
}

void tn_tool_db_close(tn_tool_db *db)
{
    if (!db->inst)
        return;
    tn_plugin_detach(db->inst, 10 * TN_SEC);
    tn_plugin_close(db->inst);
    db->inst = NULL;
}

/* ---- operations ---- */

typedef enum verb { GET, SCAN, COMMIT, LIST, PUT_DOC, REMOVE_DOC, DEFINE } verb;
static const char *const verb_names[] = {"get", "scan",   "commit", "list",
                                         "put", "remove", "define"};

typedef struct job {
    tn_msg msg;
    sem_t done;
    tn_tool_db *db;
    verb what;
    const void *in;
    size_t in_n;
    void *out;
    tn_arena *arena; /* results live on here; NULL: there are none */
    tn_plugin_call *call;
    tn_commit_req req;
    tn_status status;
    tn_error err;
} job;

static void finished(tn_plugin_call *call)
{
    job *j = call->user;
    if (call->late) {
        fflush(stdout);
        fprintf(stderr,
                "tenonctl: datastore \"%s\": no answer to \"%s\" within %u s\n    fix: look at the "
                "database; then run this again\n",
                j->db->store->stanza_name, verb_names[j->what], (unsigned)(SILENCE_NS / TN_SEC));
        _exit(TN_TOOL_FAILED);
    }
    j->status = call->status;
    j->err = call->err;
    j->err.code = call->status;
    if (j->arena && (j->status == TN_OK || j->status == TN_ECONFLICT))
        tn_plugin_call_take(call, j->arena);
    tn_plugin_call_end(call);
    sem_post(&j->done);
}

static tn_status invoke_rows(job *j, void *ctx)
{
    const tn_persistence_ops *ops = tn_plugin_ops(j->db->inst);
    tn_op *op = j->call->op;
    if (j->what == GET)
        return ops->get(ctx, op, j->in, j->out);
    if (j->what == SCAN)
        return ops->scan(ctx, op, j->in, j->out);
    tn_commit_req *reqs[] = {&j->req};
    j->req = (tn_commit_req){.struct_size = sizeof j->req,
                             .status = TN_EINTERNAL,
                             .op = op,
                             .batch = j->in,
                             .out = j->out};
    ops->commit(ctx, reqs, 1);
    return j->req.status;
}

static tn_status invoke_documents(job *j, void *ctx)
{
    const tn_visibility_ops *ops = tn_plugin_ops(j->db->inst);
    tn_op *op = j->call->op;
    switch (j->what) {
    case LIST:
        return ops->list(ctx, op, j->in, j->out);
    case PUT_DOC:
        return ops->put(ctx, op, j->in);
    case REMOVE_DOC:
        return ops->remove(ctx, op, j->in);
    default:
        return TN_PLUGIN_HAS(j->db->inst, tn_visibility_ops, define)
                   ? ops->define(ctx, op, j->in, j->in_n)
                   : TN_OK;
    }
}

static void run_job(tn_msg *msg)
{
    job *j = TN_CONTAINER_OF(msg, job, msg);
    bool rows = j->db->kind == TN_KIND_PERSISTENCE;
    bool write = j->what == COMMIT || j->what >= PUT_DOC;
    j->call =
        tn_plugin_call_begin(j->db->inst, write ? TN_PLUGIN_WRITE : 0, SILENCE_NS, finished, j);
    /* What was asked may be answered, and the job gone, before we look at the call again. */
    tn_plugin_call *call = j->call;
    void *ctx = tn_plugin_ctx(j->db->inst);
    uint64_t entered = tn_plugin_enter();
    tn_status status = rows ? invoke_rows(j, ctx) : invoke_documents(j, ctx);
    tn_plugin_left(j->db->inst, verb_names[j->what], entered);
    if (tn_plugin_call_returned(call, status) != TN_PENDING)
        finished(call);
}

static bool worth_another(tn_status status)
{
    return status == TN_EUNAVAILABLE || status == TN_EUNCERTAIN || status == TN_ETHROTTLED;
}

static void send(job *j)
{
    unsigned loop = atomic_fetch_add_explicit(&next_loop, 1, memory_order_relaxed);
    j->msg.run = run_job;
    tn_loop_post(tn_loops_get(loop % tn_loops_count()), &j->msg);
}

static void await(job *j)
{
    while (sem_wait(&j->done) != 0) {
    }
}

static void pause_before(unsigned tries)
{
    unsigned ms = tries < 5 ? 20u << tries : 1000;
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000},
              NULL);
}

static void explain(const job *j, tn_error *err)
{
    if (j->status >= 0 || !err)
        return;
    *err = j->err;
    if (!err->text[0])
        snprintf(err->text, sizeof err->text, "%s", tn_status_name(j->status));
}

static tn_status ask(tn_tool_db *db, verb what, const void *in, size_t in_n, void *out,
                     tn_arena *arena, tn_error *err)
{
    uint64_t until = tn_now_mono_ns() + PATIENCE_NS;
    job j = {.db = db, .what = what, .in = in, .in_n = in_n, .out = out, .arena = arena};
    TN_ASSERT(!tn_loop_current());
    sem_init(&j.done, 0, 0);
    for (unsigned tries = 0;; tries++) {
        send(&j);
        await(&j);
        if (!worth_another(j.status) || tn_now_mono_ns() >= until)
            break;
        pause_before(tries);
    }
    sem_destroy(&j.done);
    explain(&j, err);
    return j.status;
}

tn_status tn_tool_put_docs(tn_tool_db *db, const tn_vis_doc *docs, size_t n, tn_error *err)
{
    uint64_t until = tn_now_mono_ns() + PATIENCE_NS;
    job *jobs = tn_xcalloc(n + 1, sizeof *jobs);
    tn_status status = TN_OK;
    size_t left = n;
    for (size_t i = 0; i < n; i++) {
        jobs[i] = (job){.db = db, .what = PUT_DOC, .in = &docs[i], .status = TN_PENDING};
        sem_init(&jobs[i].done, 0, 0);
    }
    for (unsigned tries = 0; left; tries++) {
        bool last = tn_now_mono_ns() >= until;
        if (tries)
            pause_before(tries);
        for (size_t i = 0; i < n; i++)
            if (jobs[i].status == TN_PENDING)
                send(&jobs[i]);
        for (size_t i = 0; i < n; i++) {
            if (jobs[i].status != TN_PENDING && jobs[i].in_n)
                continue; /* settled in an earlier round */
            await(&jobs[i]);
            bool again = worth_another(jobs[i].status) && !last;
            jobs[i].in_n = !again;
            left -= !again;
            if (jobs[i].status != TN_OK && !again && status == TN_OK) {
                status = jobs[i].status;
                explain(&jobs[i], err);
            }
        }
        for (size_t i = 0; i < n; i++)
            if (!jobs[i].in_n)
                jobs[i].status = TN_PENDING;
    }
    for (size_t i = 0; i < n; i++)
        sem_destroy(&jobs[i].done);
    free(jobs);
    return status;
}

tn_status tn_tool_get(tn_tool_db *db, tn_arena *arena, const tn_key *key, tn_row *out,
                      tn_error *err)
{
    return ask(db, GET, key, 0, out, arena, err);
}

tn_status tn_tool_scan(tn_tool_db *db, tn_arena *arena, const tn_range *range, tn_page *out,
                       tn_error *err)
{
    *out = (tn_page){.struct_size = sizeof *out};
    return ask(db, SCAN, range, 0, out, arena, err);
}

tn_status tn_tool_commit(tn_tool_db *db, tn_arena *arena, const tn_batch *batch, tn_commit *out,
                         tn_error *err)
{
    tn_commit unused;
    if (!out)
        out = &unused;
    *out = (tn_commit){.struct_size = sizeof *out};
    return ask(db, COMMIT, batch, 0, out, arena, err);
}

tn_status tn_tool_list(tn_tool_db *db, tn_arena *arena, const tn_vis_query *query, tn_vis_page *out,
                       tn_error *err)
{
    *out = (tn_vis_page){.struct_size = sizeof *out};
    return ask(db, LIST, query, 0, out, arena, err);
}

tn_status tn_tool_put_doc(tn_tool_db *db, const tn_vis_doc *doc, tn_error *err)
{
    return ask(db, PUT_DOC, doc, 0, NULL, NULL, err);
}

tn_status tn_tool_remove_doc(tn_tool_db *db, const tn_vis_doc *doc, tn_error *err)
{
    tn_status status = ask(db, REMOVE_DOC, doc, 0, NULL, NULL, err);
    return status == TN_ENOTFOUND ? TN_OK : status;
}

tn_status tn_tool_define(tn_tool_db *db, const tn_attr *attrs, size_t n, tn_error *err)
{
    return ask(db, DEFINE, attrs, n, NULL, NULL, err);
}

/* ---- many at a time ---- */

typedef struct crowd {
    atomic_uint_fast64_t next;
    atomic_bool enough;
    uint64_t count;
    bool (*work)(void *user, uint64_t i);
    void *user;
} crowd;

static void *crowd_member(void *arg)
{
    crowd *c = arg;
    for (;;) {
        uint64_t i = atomic_fetch_add(&c->next, 1);
        if (i >= c->count || atomic_load(&c->enough))
            return NULL;
        if (c->work(c->user, i))
            atomic_store(&c->enough, true);
    }
}

void tn_tool_each(uint32_t threads, uint64_t count, bool (*work)(void *user, uint64_t i),
                  void *user)
{
    crowd c = {.count = count, .work = work, .user = user};
    pthread_t ids[64];
    uint32_t n = 0;
    if (threads > TN_COUNT_OF(ids))
        threads = TN_COUNT_OF(ids);
    while (n + 1 < threads && n + 1 < count && pthread_create(&ids[n], NULL, crowd_member, &c) == 0)
        n++;
    crowd_member(&c);
    while (n > 0)
        pthread_join(ids[--n], NULL);
}
