/* SPDX-License-Identifier: MIT */
/* Worker deployments: which versions there are, which task queues their workers have polled, and where tasks go.
 *
 * A deployment is one record of the cluster's store (TN_TABLE_DEPLOYMENT), small enough to be rewritten whole.  As with
 * namespaces, loop 0 writes, on the condition that the record is the one that it knows, and every loop of every host reads
 * an immutable snapshot of all of them; a write is answered when the other hosts have read it. */
#ifndef TN_DEPLOYMENT_DEPLOYMENT_H
#define TN_DEPLOYMENT_DEPLOYMENT_H

#include "base/base.h"
#include "base/dver.h"
#include "loop/loop.h"
#include "proto/fault.h"
#include "temporal/api/deployment/v1/message.pb-c.h"
#include "tenon/store.pb-c.h"

typedef Tenon__DeploymentRecord tn_deployment;
typedef Tenon__DeploymentVersionRecord tn_deployment_version;

/* temporal.api.enums.v1.WorkerDeploymentVersionStatus */
#define TN_DEPLOYED_INACTIVE 1
#define TN_DEPLOYED_CURRENT 2
#define TN_DEPLOYED_RAMPING 3
#define TN_DEPLOYED_DRAINING 4
#define TN_DEPLOYED_DRAINED 5
#define TN_DEPLOYED_CREATED 6

/* ---- reading [any loop thread] ----
 * What is returned belongs to the calling loop's snapshot: good until the caller returns to its loop. */

bool tn_deployments_any(void); /* false: nothing is versioned, there is nothing to ask */
const tn_deployment *tn_deployment_find(tn_str ns_id, tn_str name);
const tn_deployment_version *tn_deployment_version_find(const tn_deployment *d, tn_str build_id);
/* Those of a namespace, sorted by name, from the first whose name is greater than `after`. */
size_t tn_deployment_list(tn_str ns_id, tn_str after, size_t max, const tn_deployment **out);
size_t tn_deployment_count(tn_str ns_id);
/* Has a worker of the version polled that queue? */
bool tn_deployment_has_queue(tn_str ns_id, tn_dver version, tn_str queue, uint32_t type);
bool tn_deployment_version_has(const tn_deployment_version *v, tn_str queue, uint32_t type);
/* In how many versions of all deployments is the queue? */
size_t tn_deployment_queue_versions(tn_str ns_id, tn_str queue, uint32_t type);

/* Where the tasks of a queue go that are not pinned. */
typedef struct tn_routing {
    tn_dver current, ramping; /* empty: unversioned */
    int64_t current_revision, ramping_revision;
    float percentage;
    bool ramps;
    uint64_t current_changed_ns, ramping_changed_ns; /* 0: never */
} tn_routing;
/* NULL: no version has that queue. */
const tn_routing *tn_deployment_routing(tn_str ns_id, tn_str queue, uint32_t type);
/* The version for a workflow, and under which revision of its deployment's routing.  routing NULL: unversioned, 0. */
tn_dver tn_routing_target(const tn_routing *routing, tn_str workflow_id, bool use_ramping,
                          int64_t *out_revision);

/* What a run says of its tasks. */
typedef struct tn_directive {
    int32_t behavior; /* TN_BEHAVIOR_* */
    tn_dver version;  /* the run's */
    int64_t revision; /* under which it came to it */
    bool use_ramping;
} tn_directive;
typedef struct tn_placement {
    tn_dver version; /* whose workers may have the task */
    int64_t revision;
    bool pinned;
} tn_placement;
tn_placement tn_deployment_place(tn_str ns_id, tn_str queue, uint32_t type, tn_str workflow_id,
                                 const tn_directive *directive);
/* A sticky queue's worker is of the run's version; false: the run's tasks go elsewhere by now. */
bool tn_deployment_sticky_fits(tn_str ns_id, tn_str queue, tn_str workflow_id,
                               const tn_directive *directive);

/* A worker's: empty, unless it asks to be versioned. */
tn_dver tn_dver_of_options(const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options);

/* ---- showing (show.c) ---- */

char *tn_dver_text(tn_arena *arena, tn_dver v); /* "name:build", unversioned: "" */
char *tn_dver_text_old(tn_arena *arena,
                       tn_dver v); /* "name.build", unversioned: "__unversioned__" */
/* Either form; points into s.  False: neither ("__unversioned__" is empty and true). */
bool tn_dver_parse(tn_str s, tn_dver *out);
Temporal__Api__Deployment__V1__WorkerDeploymentVersion *tn_dver_message(
    tn_arena *arena, tn_dver v); /* NULL: unversioned */
Temporal__Api__Deployment__V1__WorkerDeploymentInfo *tn_deployment_info(tn_arena *arena,
                                                                        const tn_deployment *d);
Temporal__Api__Deployment__V1__WorkerDeploymentVersionInfo *tn_deployment_version_info(
    tn_arena *arena, const tn_deployment *d, const tn_deployment_version *v);
Temporal__Api__Deployment__V1__RoutingConfig *tn_deployment_routing_config(tn_arena *arena,
                                                                           const tn_deployment *d);
typedef Temporal__Api__Deployment__V1__WorkerDeploymentInfo__WorkerDeploymentVersionSummary
    tn_deployment_summary;
tn_deployment_summary *tn_deployment_version_summary(
    tn_arena *arena, const tn_deployment *d, const tn_deployment_version *v); /* v NULL: NULL */
ProtobufCBinaryData tn_deployment_token(tn_arena *arena, const tn_deployment *d);

/* ---- changing ---- */

typedef enum tn_deployment_verb {
    TN_DEPLOYMENT_REGISTER = 1, /* a worker of the version polls `queue` */
    TN_DEPLOYMENT_CREATE,
    TN_DEPLOYMENT_CREATE_VERSION,
    TN_DEPLOYMENT_SET_CURRENT,
    TN_DEPLOYMENT_SET_RAMPING,
    TN_DEPLOYMENT_DELETE_VERSION, /* its workers are gone: the caller has looked */
    TN_DEPLOYMENT_DELETE,
    TN_DEPLOYMENT_SET_MANAGER,
    TN_DEPLOYMENT_SET_METADATA,
    TN_DEPLOYMENT_REACTIVATE, /* a run is pinned to a version that takes no new ones */
    TN_DEPLOYMENT_DRAINAGE,   /* visibility was asked: `drained` */
    TN_DEPLOYMENT_FORGET,     /* its namespace is gone */
} tn_deployment_verb;

typedef struct tn_deployment_change {
    tn_msg msg;
    tn_arena *arena; /* the caller's; results live there */
    tn_loop *home;
    tn_deployment_verb verb;
    tn_str ns_id, name, build_id; /* SET_*: empty build id: unversioned */
    tn_str identity, request_id;
    tn_blob token; /* conflict token, empty: none */
    bool unset;    /* SET_RAMPING: no ramp any more */
    float percentage;
    bool allow_no_pollers, skip_drainage, by_server, drained;
    tn_str queue;
    uint32_t type;
    tn_str manager;
    const Tenon__NamedPayload *const *upserts; /* payloads packed */
    size_t n_upserts;
    char *const *removals;
    size_t n_removals;
    int64_t max_deployments, max_versions, max_queues; /* 0: no limit */
    /* result */
    const tn_fault *fault;
    bool too_many_versions;            /* with a fault: one that may go must be deleted first */
    bool unchanged;                    /* nothing was to be done */
    tn_str previous, previous_manager; /* build id; empty: unversioned */
    bool previous_ramped;
    float previous_percentage;
    const tn_deployment *now; /* as it is then; NULL: deleted, or never was */
    void (*done)(struct tn_deployment_change *change); /* [home] */
    void *user;
} tn_deployment_change;

/* [loop] By loop 0, in the order of the calls. */
void tn_deployment_submit(tn_deployment_change *change);
/* [loop] A run is pinned to a version: if that takes no new ones, it is in use again. */
void tn_deployment_reactivate(tn_str ns_id, tn_dver version);
/* Only what it would do, to the record that this loop knows. */
void tn_deployment_try(tn_deployment_change *change);
/* Pure: the record as it would be (copied into the change's arena), NULL: gone or none.  `others`: deployments of the
 * namespace besides it.  change->unchanged, ->fault and the results are set. */
tn_deployment *tn_deployment_apply(const tn_deployment *before, tn_deployment_change *change,
                                   size_t others, uint64_t now_ns);

/* ---- life ---- */

/* [main, with loops running] */
tn_status tn_deployments_start(tn_error *err);
void tn_deployments_stop(void);
/* [main, before serving] As tn_namespace_announce. */
void tn_deployments_announce(void (*announce)(tn_str ns_id, void (*told)(void *user), void *user));
/* [loop] All are read again: another host has written, or may have.  `done` on the caller's loop, NULL: none. */
void tn_deployments_refresh(void (*done)(void *user), void *user);
/* [main, before serving] Called on each loop after it has a new snapshot; up to 4 of them. */
void tn_deployments_watch(void (*changed)(void));
/* [loop] Calls `each` with every deployment. */
void tn_deployments_each(void (*each)(void *user, const tn_deployment *d), void *user);

#endif
