/* SPDX-License-Identifier: MIT */
/* The method table: paths to methods, matched exactly.  Filled at start-up, read-only afterwards. */
#include <string.h>

#include "rpc/method.h"

typedef struct entry {
    tn_map_link link;
    const tn_rpc_method *method;
} entry;

static tn_map table;
static entry **entries; /* in the order of registration, for reflection */
static size_t entry_count;

void tn_rpc_register(const tn_rpc_method *methods, size_t count)
{
    entries = tn_xreallocarray(entries, entry_count + count, sizeof(entries[0]));
    for (size_t i = 0; i < count; i++) {
        entry *e = tn_xcalloc(1, sizeof(*e));
        tn_blob path = tn_blob_of_str(tn_str_from(methods[i].path));
        TN_ASSERT(!tn_map_find(&table, path));
        TN_ASSERT(methods[i].input && methods[i].output && methods[i].handle);
        e->method = &methods[i];
        tn_map_insert(&table, &e->link, path);
        if (!(methods[i].flags & (TN_RPC_INTERNAL | TN_RPC_HTTP_ONLY)))
            entries[entry_count++] = e;
    }
}

const tn_rpc_method *tn_rpc_find(tn_str path)
{
    tn_map_link *link = tn_map_find(&table, tn_blob_of_str(path));
    return link ? TN_CONTAINER_OF(link, entry, link)->method : NULL;
}

bool rpc_method_offered(const tn_rpc_method *method, bool internal)
{
    if (method->flags & TN_RPC_HTTP_ONLY)
        return false;
    if (method->flags & TN_RPC_INTERNAL)
        return internal || (method->flags & TN_RPC_ANY_PORT);
    return !internal || strncmp(method->path, "/grpc.", 6) == 0;
}

size_t rpc_method_count(void) { return entry_count; }

tn_str rpc_method_service(size_t index)
{
    const char *path = entries[index]->method->path + 1, *slash = strrchr(path, '/');
    return (tn_str){path, slash ? (size_t)(slash - path) : strlen(path)};
}

bool rpc_service_known(tn_str service)
{
    for (size_t i = 0; i < entry_count; i++) {
        if (tn_str_eq(rpc_method_service(i), service))
            return true;
    }
    return false;
}
