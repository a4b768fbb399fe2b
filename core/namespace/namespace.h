/* SPDX-License-Identifier: MIT */
/* The registry of namespaces.  Records live in the store (table TN_TABLE_NAMESPACE, the cluster's
 * partition); loop 0 owns the writes; every loop reads an immutable snapshot that is replaced as soon as a
 * write is durable, so a new namespace is seen at once. */
#ifndef TN_NAMESPACE_NAMESPACE_H
#define TN_NAMESPACE_NAMESPACE_H

#include "base/base.h"
#include "loop/loop.h"
#include "proto/fault.h"

typedef struct tn_search_attr {
    tn_str name;
    uint32_t type; /* TN_ATTR_* of <tenon/plugin.h> */
} tn_search_attr;

#define TN_NS_REGISTERED 1 /* numbers of temporal.api.enums.v1.NamespaceState */
#define TN_NS_DEPRECATED 2
#define TN_NS_DELETED 3
#define TN_NS_SYSTEM "temporal-system" /* the one that every cluster has */

/* Immutable and refcounted: what a request holds stays valid until it lets go. */
typedef struct tn_namespace {
    tn_str name, id; /* id: UUID text, 36 bytes */
    int32_t state;
    uint64_t retention_ns;
    tn_str description, owner_email;
    const tn_str *data_keys, *data_values;
    size_t n_data;
    const tn_search_attr *custom_attrs; /* sorted by name */
    size_t n_custom_attrs;
    uint64_t created_wall_ns;
    bool reclaim;             /* deleted: its runs and its record are going, */
    uint64_t delete_delay_ns; /* ... the record so much later */
    uint64_t row_version;     /* of its record */
    tn_blob record;           /* packed tenon.NamespaceRecord */
} tn_namespace;

/* [any loop thread] +1 reference; NULL when there is none of that name / id. */
const tn_namespace *tn_namespace_by_name(tn_str name);
const tn_namespace *tn_namespace_by_id(tn_str id);
const tn_namespace *tn_namespace_ref(const tn_namespace *ns);
void tn_namespace_unref(const tn_namespace *ns); /* NULL allowed */
/* The reference's NotFound + NamespaceNotFoundFailure for a name. */
const tn_fault *tn_namespace_not_found(tn_arena *arena, tn_str name);
/* Type of a system, predefined or custom attribute; 0 when unknown. */
uint32_t tn_search_attr_type(const tn_namespace *ns, tn_str name);
bool tn_search_attr_is_system(
    tn_str name); /* the ones a user may not set: WorkflowId, RunId, ... */
typedef struct tn_attr_type_row {
    const char *name;
    uint32_t type;
    bool settable; /* predefined: a user or the server may upsert it */
} tn_attr_type_row;
const tn_attr_type_row *tn_search_attr_system_table(size_t *out_count);

/* One write at a time through loop 0; `done` runs on the caller's loop with fault NULL on success. */
typedef struct tn_namespace_write {
    tn_msg msg;
    tn_arena *arena;
    tn_loop *home;
    /* REFRESH writes nothing: all records are read again, since another host may have written; result stays NULL. */
    enum { TN_NS_CREATE, TN_NS_UPDATE, TN_NS_REMOVE, TN_NS_REFRESH } verb;
    tn_blob
        /* packed tenon.NamespaceRecord to be written; an update may rename; remove: as it is */
        record;
    uint64_t expect_version; /* update, remove: of the record that was read */
    const tn_fault *fault;
    const tn_namespace *result; /* +1 reference */
    void (*done)(struct tn_namespace_write *write);
    void *user;
} tn_namespace_write;
void tn_namespace_submit(tn_namespace_write *write);
/* [main, before serving] Called on loop 0 after each write of this host, before the writer is told: it calls `told` when
 * the other hosts have read it (or will not). */
void tn_namespace_announce(void (*announce)(tn_str ns_id, void (*told)(void *user), void *user));

/* [loop 0] Called on loop 0 after each new snapshot has come to all loops; one watch, NULL ends it. */
typedef struct tn_namespace_list_watch {
    void (*changed)(struct tn_namespace_list_watch *watch);
} tn_namespace_list_watch;
void tn_namespace_watch(tn_namespace_list_watch *watch);

/* Snapshot for listing, sorted by name: +1 on the whole; give back with tn_namespace_list_release. */
typedef struct tn_namespace_list {
    const tn_namespace *const *items;
    size_t count;
} tn_namespace_list;
const tn_namespace_list *tn_namespace_list_acquire(void);
void tn_namespace_list_release(const tn_namespace_list *list);

/* [main, with loops running] Loads all records; creates temporal-system and those named (start-dev) when absent. */
tn_status tn_namespace_start(const tn_str *create, size_t n_create, uint64_t retention_ns,
                             tn_error *err);
void tn_namespace_stop(void);

/* In a cluster, for a host that was away when another wrote: all is read again each few seconds, ... */
void tn_namespace_reread_start(void); /* [main] */
void tn_namespace_reread_stop(void);  /* [main] before the store ends */
/* [loop 0] ... and soon, and once more in a moment, since members have come or gone. */
void tn_namespace_reread(void);
/* [any loop] Before one says that there is no such namespace: `done` runs on this loop when all has been read, or has been
 * lately; false: there is no other host. */
bool tn_namespace_reread_for(void (*done)(void *user), void *user);

#endif
