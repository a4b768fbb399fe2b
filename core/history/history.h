/* SPDX-License-Identifier: MIT */
/* The history role: shards of workflows.  A shard belongs to one loop; its runs' mutable state is cached
 * there, decided upon by history/machine and written through the store, one atomic commit a transition.
 * Nothing is answered, handed out or told before its commit is durable. */
#ifndef TN_HISTORY_HISTORY_H
#define TN_HISTORY_HISTORY_H

#include "base/base.h"
#include "client/client.h"

typedef struct tn_history_options {
    size_t cache_bytes_max; /* of all loops together: mutable state and cached history */
    const char *owner;      /* written into the shard records... */
    const uint8_t *host_id; /* ... with the member's id (16 bytes); NULL: one of its own */
    /* [main] Some shards could not be taken: waits a while and says whether to go on; NULL: 100 ms, and go on. */
    bool (*wait)(void *user, const char *what, const tn_error *why);
    void *user;
} tn_history_options;

/* [main, loops running, store and namespaces started, client wired] Takes every shard that is this host's (raises its range id),
 * re-sends visibility writes that were not known durable, and wakes the runs that want attention. */
tn_status tn_history_start(const tn_history_options *options, tn_error *err) TN_WARN_UNUSED;
const tn_history_role *tn_history_role_table(void);
/* [loop] The rings have changed: shards are taken and let go, tasks of queues that moved are offered again. */
void tn_history_members_changed(void);
void tn_history_map_changed(void);    /* [loop] there is another number of shards */
void tn_history_members_missed(void); /* [loop] others may have had this host's shards meanwhile */
/* [main] Who waits long (for events, for updates) is told what there is now, and so is who comes to wait: a connection
 * that is to be closed would else be held up by them. */
void tn_history_drain(void);
/* [main] Drains: refuses new work, makes in-memory starts durable so that nothing is handed out twice after a
 * planned restart, ends parked calls. */
void tn_history_stop(void);
/* [main] The HTTP routes by which handlers outside report what became of Nexus operations. */
void tn_history_register_http(void);
/* [main] What the routes lean on (the cluster's key, the namespaces) is there; they say UNAVAILABLE until then. */
void tn_history_open_http(void);

/* [any] The visibility document that a run's state asks for, in an arena without a cap.  ns: the run's namespace, or NULL:
 * then the types that payloads name count. */
struct tn_ms;
void tn_history_document(tn_arena *arena, const tn_namespace *ns, const struct tn_ms *ms,
                         tn_vis_doc *out);

#endif
