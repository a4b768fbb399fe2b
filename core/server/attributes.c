/* SPDX-License-Identifier: MIT */
/* `start-dev --search-attribute NAME=TYPE`: the namespaces that the start makes have them. */
#include "server/private.h"

#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include "namespace/namespace.h"
#include "proto/proto.h"
#include "tenon/store.pb-c.h"
#include "visibility/visibility.h"

typedef struct attr_write {
    tn_namespace_write write;
    sem_t done;
    const tn_args *args;
    tn_arena *arena;
    const tn_namespace *ns;
    char problem[200];
    bool nothing;
    bool passing; /* the problem */
} attr_write;

static void attrs_written(tn_namespace_write *write)
{
    attr_write *w = write->user;
    w->passing = write->fault && (write->fault->code == TN_GRPC_UNAVAILABLE ||
                                  write->fault->code == TN_GRPC_ABORTED ||
                                  write->fault->code == TN_GRPC_DEADLINE_EXCEEDED);
    if (write->fault)
        snprintf(w->problem, sizeof(w->problem), TN_STR_FMT, TN_STR_ARG(write->fault->message));
    tn_namespace_unref(write->result);
    sem_post(&w->done);
}

static bool add_attr(attr_write *w, Tenon__NamespaceRecord *record, const char *word)
{
    const char *eq = strchr(word, '=');
    char *name = tn_arena_strdup(w->arena, word);
    name[eq - word] = '\0';
    uint32_t type = tn_search_attr_type_parse(tn_str_from(eq + 1));
    if (!type) {
        snprintf(w->problem, sizeof(w->problem),
                 "--search-attribute %s: unknown type; fix: one of Text, Keyword, Int, Double, "
                 "Bool, Datetime, KeywordList",
                 word);
        return false;
    }
    if (tn_search_attr_name_reserved(tn_str_from(name))) {
        snprintf(w->problem, sizeof(w->problem),
                 "--search-attribute %s: the name is reserved by the system", word);
        return false;
    }
    for (size_t i = 0; i < record->n_custom; i++)
        if (strcmp(record->custom[i]->name, name) == 0)
            return true;
    Tenon__SearchAttribute *attr = tn_arena_alloc(w->arena, sizeof(*attr));
    tenon__search_attribute__init(attr);
    attr->name = name;
    attr->type = type;
    record->custom[record->n_custom++] = attr;
    w->nothing = false;
    return true;
}

static void submit_attrs(void *arg)
{
    attr_write *w = arg;
    Tenon__NamespaceRecord *record = NULL;
    tn_error err;
    if (tn_proto_unpack(&tenon__namespace_record__descriptor, w->ns->record, w->arena,
                        (ProtobufCMessage **)(void *)&record, &err) != TN_OK) {
        snprintf(w->problem, sizeof(w->problem), "%.180s", err.text);
        sem_post(&w->done);
        return;
    }
    Tenon__SearchAttribute **list = TN_NEW_ARRAY(w->arena, Tenon__SearchAttribute *,
                                                 record->n_custom + w->args->n_search_attributes);
    if (record->n_custom)
        memcpy(list, record->custom, record->n_custom * sizeof(list[0]));
    record->custom = list;
    w->nothing = true;
    for (size_t i = 0; i < w->args->n_search_attributes; i++)
        if (!add_attr(w, record, w->args->search_attributes[i]))
            w->nothing = true, i = w->args->n_search_attributes;
    if (w->nothing || tn_proto_pack(&record->base, w->arena, &w->write.record) != TN_OK) {
        sem_post(&w->done);
        return;
    }
    w->write.arena = w->arena;
    w->write.home = tn_loop_current();
    w->write.verb = TN_NS_UPDATE;
    w->write.expect_version = w->ns->row_version;
    w->write.done = attrs_written;
    w->write.user = w;
    tn_namespace_submit(&w->write);
}

static bool write_attributes(const tn_server *s, const char *name, attr_write *w)
{
    *w = (attr_write){.args = s->args, .arena = tn_arena_create(0)};
    w->ns = tn_namespace_by_name(tn_str_from(name));
    sem_init(&w->done, 0, 0);
    if (w->ns) {
        tn_loop_call(tn_loops_get(0), submit_attrs, w);
        while (sem_wait(&w->done) != 0) {
        }
    }
    sem_destroy(&w->done);
    tn_namespace_unref(w->ns);
    tn_arena_destroy(w->arena);
    return !w->problem[0];
}

int tn_server_set_search_attributes(tn_server *s)
{
    for (size_t i = 0; s->args->n_search_attributes && i < s->settings->create_namespaces_count;
         i++) {
        attr_write w;
        while (!write_attributes(s, s->settings->create_namespaces[i], &w)) {
            tn_error why;
            tn_error_set(&why, TN_EUNAVAILABLE, "%s", w.problem);
            if (w.passing && tn_server_try_again(s, "the search attributes", &why))
                continue;
            if (!s->interrupted)
                fprintf(stderr, "tenond: %s\n", w.problem);
            return 2;
        }
    }
    return 0;
}
