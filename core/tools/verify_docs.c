/* SPDX-License-Identifier: MIT */
/* Visibility beside the records: each run has one document, which says what its state says, and there is no other.  It
 * follows the records through the outbox: what waits there is no fault. */
#include "tools/verify.h"

#include <stdio.h>

#define PAGE_DOCS 500u

/* What an open run may change without a new document being owed: when its first task was due, which workers it had. */
static bool may_lag(tn_str name, bool open)
{
    return tn_str_is(name, "StateTransitionCount") ||
           (open && (tn_str_is(name, "ExecutionTime") || tn_str_is(name, "BuildIds")));
}

/* Does not depend on the order of attributes. */
uint64_t tn_vfy_doc_digest(const tn_vis_doc *doc)
{
    uint64_t sum = 0;
    bool open = true;
    for (size_t i = 0; i < doc->n_attrs; i++)
        if (tn_str_is(doc->attrs[i].name, "CloseTime"))
            open = false;
    for (size_t i = 0; i < doc->n_attrs; i++) {
        const tn_attr *attr = &doc->attrs[i];
        if (may_lag(attr->name, open))
            continue;
        sum += tn_hash64_stable(tn_blob_of_str(attr->name), attr->value) + attr->type;
    }
    sum += tn_hash64_stable(tn_blob_of_str(doc->workflow_id), doc->memo) * 3;
    return sum + tn_hash64_stable(tn_blob_of_str(doc->ns_id), tn_blob_of_str(doc->run_id)) * 5;
}

void tn_vfy_expect_doc(tn_verify *v, uint32_t shard, const tn_vfy_run *run)
{
    pthread_mutex_lock(&v->lock);
    tn_vfy_doc *doc = TN_NEW(v->arena, tn_vfy_doc);
    memcpy(doc->run_id, run->id, 16);
    doc->shard = shard;
    doc->gone = !run->has_records;
    doc->suspect = run->suspect;
    doc->pending = doc->gone ? run->outbox_remove : run->outbox_put;
    doc->digest = run->digest;
    doc->transition = run->transition;
    doc->ns_id = tn_arena_strdup(v->arena, run->ns_id);
    doc->workflow_id = run->workflow_id ? tn_arena_strdup(v->arena, run->workflow_id) : NULL;
    if (!tn_map_find(&v->expected, tn_blob_from(doc->run_id, 16)))
        tn_map_insert(&v->expected, &doc->link, tn_blob_from(doc->run_id, 16));
    pthread_mutex_unlock(&v->lock);
}

static void suspect(tn_verify *v, uint32_t shard, const uint8_t run_id[16], const char *ns_id,
                    const char *workflow_id)
{
    tn_vfy_run run = {.workflow_id = workflow_id};
    memcpy(run.id, run_id, 16);
    snprintf(run.ns_id, sizeof run.ns_id, "%s", ns_id);
    tn_vfy_suspect_run(v, shard, &run);
}

static void compare(tn_verify *v, const tn_vis_doc *doc)
{
    uint8_t id[16];
    tn_arena *arena = tn_arena_create(0);
    const char *ns_id = tn_arena_str(arena, doc->ns_id).p,
               *workflow_id = tn_arena_str(arena, doc->workflow_id).p;
    uint32_t shard = tn_vfy_shard_of(v, doc->ns_id, doc->workflow_id);
    v->n_documents++;
    if (!tn_uuid_parse(doc->run_id, id)) {
        tn_vfy_report report = {.v = v, .arena = arena, .shard = shard};
        tn_vfy_complain(&report, 0, tn_blob_of_str(doc->run_id), "a document's run id is none");
        tn_vfy_print(&report);
        tn_arena_destroy(arena);
        return;
    }
    pthread_mutex_lock(&v->lock);
    tn_map_link *found = tn_map_find(&v->expected, tn_blob_from(id, 16));
    tn_vfy_doc *expected = found ? TN_CONTAINER_OF(found, tn_vfy_doc, link) : NULL;
    bool fine =
        expected && !expected->seen &&
        (expected->pending || (!expected->gone && expected->digest == tn_vfy_doc_digest(doc) &&
                               doc->version <= expected->transition));
    if (expected)
        expected->seen = true;
    if (expected &&
        expected->workflow_id) { /* an object is kept under another id than it is listed by */
        shard = expected->shard;
        workflow_id = tn_arena_strdup(arena, expected->workflow_id);
    }
    pthread_mutex_unlock(&v->lock);
    if (!fine)
        suspect(v, shard, id, ns_id, workflow_id);
    tn_arena_destroy(arena);
}

/* Pages of a query; false: could not be read. */
static bool each_doc(tn_verify *v, tn_str ns_id, const tn_vis_node *filter, size_t n_filter,
                     void (*each)(tn_verify *v, void *user, const tn_vis_doc *doc), void *user)
{
    tn_arena *arena = tn_arena_create(0);
    tn_buf next = {0};
    tn_error err = {0};
    tn_vis_page page;
    bool good = true;
    do {
        tn_arena_reset(arena);
        tn_vis_query query = {.struct_size = sizeof query,
                              .limit = PAGE_DOCS,
                              .ns_id = ns_id,
                              .filter = filter,
                              .n_filter = n_filter};
        query.page = tn_arena_blob(arena, tn_buf_blob(&next));
        if (tn_tool_list(&v->docs, arena, &query, &page, &err) != TN_OK) {
            tn_vfy_unreadable(v, "a namespace's documents", &err);
            good = false;
            break;
        }
        next.n = 0;
        tn_buf_put(&next, page.next.p, page.next.n);
        for (size_t i = 0; i < page.n_docs; i++)
            each(v, user, &page.docs[i]);
    } while (next.n);
    tn_buf_done(&next);
    tn_arena_destroy(arena);
    return good;
}

static void compare_each(tn_verify *v, void *user, const tn_vis_doc *doc)
{
    (void)user;
    compare(v, doc);
}

static void missing(void *user, tn_map_link *link)
{
    tn_verify *v = user;
    const tn_vfy_doc *doc = TN_CONTAINER_OF(link, tn_vfy_doc, link);
    if (!doc->seen && !doc->gone && !doc->pending && !doc->suspect)
        suspect(v, doc->shard, doc->run_id, doc->ns_id, doc->workflow_id);
}

void tn_vfy_docs(tn_verify *v)
{
    bool good = true;
    for (size_t i = 0; i < v->namespaces_count; i++)
        good &= each_doc(v, v->namespaces[i].id, NULL, 0, compare_each, NULL);
    if (good)
        tn_map_each(&v->expected, missing, v);
}

/* ---- one run ---- */

typedef struct found_docs {
    const tn_vfy_run *run;
    uint32_t count;
    uint64_t digest, version;
} found_docs;

static void take_doc(tn_verify *v, void *user, const tn_vis_doc *doc)
{
    found_docs *found = user;
    (void)v;
    found->count++;
    found->digest = tn_vfy_doc_digest(doc);
    found->version = doc->version;
}

static bool is_namespace_of(const tn_vfy_run *run, const tn_namespace *ns)
{
    return !run->workflow_id || tn_str_is(ns->id, run->ns_id);
}

/* Puts what the state asks for, or takes away what is superfluous.  The plugin drops a document that is not newer than
 * the one it has, so that such a one goes first. */
static void mend(tn_verify *v, const tn_vfy_run *run, const found_docs *found)
{
    tn_error err = {0};
    char text[37];
    tn_uuid_format(run->id, text);
    bool good = true;
    if (!run->has_records || (found->count && found->version >= run->transition)) {
        for (size_t i = 0; good && i < v->namespaces_count; i++) {
            tn_vis_doc key = {.struct_size = sizeof key,
                              .ns_id = v->namespaces[i].id,
                              .workflow_id = tn_str_from(run->workflow_id ? run->workflow_id : ""),
                              .run_id = tn_str_from(text)};
            if (!run->has_records || is_namespace_of(run, &v->namespaces[i]))
                good = tn_tool_remove_doc(&v->docs, &key, &err) == TN_OK;
        }
    }
    if (good && run->has_records)
        good = tn_tool_put_doc(&v->docs, run->doc, &err) == TN_OK;
    if (good)
        v->n_mended++;
    else
        tn_vfy_unwritten(v, &err);
}

static void judge(tn_vfy_report *report, const tn_vfy_run *run, const found_docs *found,
                  tn_blob key)
{
    if (!run->has_records)
        tn_vfy_complain(report, 0, key, "visibility lists a run that has no records");
    else if (!found->count)
        tn_vfy_complain(report, 0, key, "visibility does not list the run");
    else if (found->count > 1)
        tn_vfy_complain(report, 0, key, "visibility lists the run %u times", found->count);
    else if (found->version > run->transition)
        tn_vfy_complain(report, 0, key,
                        "the document has version %llu, the run is at transition %llu",
                        (unsigned long long)found->version, (unsigned long long)run->transition);
    else
        tn_vfy_complain(
            report, 0, key,
            "the document (version %llu) does not say what the run's state says (transition %llu)",
            (unsigned long long)found->version, (unsigned long long)run->transition);
}

void tn_vfy_judge_docs(tn_verify *v, tn_vfy_report *report, const tn_vfy_run *run, bool may_mend)
{
    char text[37];
    found_docs found = {.run = run};
    tn_uuid_format(run->id, text);
    tn_blob value = tn_blob_of_str(tn_str_from(text));
    tn_vis_node node = {.op = TN_VIS_EQ,
                        .name = TN_STR("RunId"),
                        .type = TN_ATTR_KEYWORD,
                        .n_values = 1,
                        .values = &value};
    report->run = run;
    for (size_t i = 0; i < v->namespaces_count; i++)
        if (!each_doc(v, v->namespaces[i].id, &node, 1, take_doc, &found))
            return;
    bool fine = run->has_records ? run->outbox_put || !run->sound ||
                                       (found.count == 1 && found.version <= run->transition &&
                                        found.digest == run->digest)
                                 : !found.count || run->outbox_remove;
    if (fine)
        return;
    if (v->reindex && may_mend)
        mend(v, run, &found);
    else
        judge(report, run, &found, value);
}
