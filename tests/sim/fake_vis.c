/* SPDX-License-Identifier: MIT */
/* Visibility's plugin, played: remembers the newest document of each run. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "visibility/visibility.h"

typedef struct write {
    sim_event event;
    tn_msg tell;
    tn_list link;
    tn_vis_op *op;
    tn_loop *home;
    sim_doc doc;
    bool apply, twist;
} write;

static sim_doc *docs;
static size_t n_docs;
static tn_list all = {&all, &all};

static sim_doc *find(const char *run_id)
{
    for (size_t i = 0; i < n_docs; i++)
        if (strcmp(docs[i].run_id, run_id) == 0)
            return &docs[i];
    return NULL;
}

const sim_doc *sim_doc_of(const char *run_id)
{
    const sim_doc *doc = find(run_id);
    return doc && !doc->removed ? doc : NULL;
}

size_t sim_docs_live(void)
{
    size_t n = 0;
    for (size_t i = 0; i < n_docs; i++)
        n += !docs[i].removed;
    return n;
}

/* As a database does: what was removed is gone, an older document would come back. */
static void apply(const sim_doc *doc)
{
    sim_doc *old = find(doc->run_id);
    if (!old) {
        docs = tn_xreallocarray(docs, n_docs + 1, sizeof(*docs));
        old = &docs[n_docs++];
        *old = (sim_doc){.removed = true};
    }
    if (doc->removed || old->removed || doc->version > old->version)
        *old = *doc;
}

static void told(tn_msg *msg)
{
    write *w = TN_CONTAINER_OF(msg, write, tell);
    tn_vis_op *op = w->op;
    free(w);
    op->done(op);
}

static void finish(sim_event *event)
{
    write *w = TN_CONTAINER_OF(event, write, event);
    tn_list_remove(&w->link);
    if (w->apply)
        apply(&w->doc);
    sim_trace("visibility of %.18s: version %d %s%s%s", w->doc.run_id, (int)w->doc.version,
              w->doc.status, w->apply ? "" : " failed", w->twist ? " twisted" : "");
    if (!w->op)
        return;
    w->op->status = !w->apply ? TN_EUNAVAILABLE : w->twist ? TN_EUNCERTAIN : TN_OK;
    w->op->error = (tn_error){.code = w->op->status};
    w->tell.run = told;
    tn_loop_post(w->home, &w->tell);
}

static void submit(tn_vis_op *op, bool remove)
{
    const tn_vis_doc *doc = &op->u.put.doc;
    write *w = tn_xcalloc(1, sizeof(*w));
    w->op = op;
    w->home = tn_loop_current();
    w->apply = true;
    w->doc.removed = remove;
    w->doc.version = doc->version;
    memcpy(w->doc.run_id, doc->run_id.p, doc->run_id.n < 36 ? doc->run_id.n : 36);
    for (size_t i = 0; i < doc->n_attrs && !remove; i++)
        if (tn_str_is(doc->attrs[i].name, "ExecutionStatus") &&
            doc->attrs[i].value.n < sizeof(w->doc.status))
            memcpy(w->doc.status, doc->attrs[i].value.p, doc->attrs[i].value.n);
    if (sim_faults && sim_chance(mix.fault_permille)) {
        w->apply = sim_below(2);
        w->twist = true;
    }
    tn_list_init(&w->link);
    tn_list_push_back(&all, &w->link);
    sim_at(&w->event, TN_US * 50 + sim_below(sim_chance(mix.slow_permille) ? TN_SEC : 10 * TN_MS),
           finish);
}

void tn_vis_put(tn_vis_op *op) { submit(op, false); }
void tn_vis_remove(tn_vis_op *op) { submit(op, true); }

void sim_vis_crash(void)
{
    TN_LIST_FOREACH_SAFE (link, &all) {
        write *w = TN_CONTAINER_OF(link, write, link);
        w->op = NULL;
        w->apply = w->apply && sim_below(2);
    }
}

/* No batch job of the load asks for what a query finds. */
void tn_vis_list(tn_vis_op *op)
{
    (void)op;
    TN_ASSERT(!"listed");
}

void tn_vis_count(tn_vis_op *op)
{
    (void)op;
    TN_ASSERT(!"counted");
}
