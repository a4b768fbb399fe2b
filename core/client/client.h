/* SPDX-License-Identifier: MIT */
/* Typed calls to history and matching.  A role calls another only through here: today a message to the
 * loop of this process that owns the shard or the partition; later the ring and gRPC, with the same
 * functions and the same faults.
 *
 * A request is a baton: it carries its arena, goes to the owner's loop, is filled in there and comes
 * back to its home loop, where `done` runs. */
#ifndef TN_CLIENT_CLIENT_H
#define TN_CLIENT_CLIENT_H

#include <protobuf-c/protobuf-c.h>

#include "base/base.h"
#include "base/rate.h"
#include "deployment/deployment.h"
#include "loop/loop.h"
#include "namespace/namespace.h"
#include "proto/fault.h"
#include "rpc/rpc.h"

#define TN_SHARDS_MAX 65536u

/* ---- history --------------------------------------------------------------------------------- */

typedef enum tn_hop {
    /* `request` is the public request message of the call, already validated, with defaults filled in */
    TN_HOP_START = 1,         /* StartWorkflowExecutionRequest  -> ...Response */
    TN_HOP_SIGNAL_WITH_START, /* SignalWithStartWorkflowExecutionRequest -> ...Response */
    TN_HOP_SIGNAL,            /* SignalWorkflowExecutionRequest */
    TN_HOP_REQUEST_CANCEL,    /* RequestCancelWorkflowExecutionRequest */
    TN_HOP_TERMINATE,         /* TerminateWorkflowExecutionRequest */
    TN_HOP_DESCRIBE,          /* DescribeWorkflowExecutionRequest */
    TN_HOP_GET_HISTORY, /* GetWorkflowExecutionHistoryRequest; parks when it waits for new events */
    TN_HOP_GET_HISTORY_REVERSE,
    TN_HOP_QUERY,         /* QueryWorkflowRequest */
    TN_HOP_RESET_STICKY,  /* ResetStickyTaskQueueRequest */
    TN_HOP_WFT_COMPLETED, /* RespondWorkflowTaskCompletedRequest; token is set */
    TN_HOP_WFT_FAILED,    /* RespondWorkflowTaskFailedRequest; token */
    /* RespondActivityTaskCompletedRequest; token, or by id: activity_id set */
    TN_HOP_ACT_COMPLETED,
    TN_HOP_ACT_FAILED,    /* RespondActivityTaskFailedRequest */
    TN_HOP_ACT_CANCELED,  /* RespondActivityTaskCanceledRequest */
    TN_HOP_ACT_HEARTBEAT, /* RecordActivityTaskHeartbeatRequest -> ...Response */
    /* from matching: hands a task to a poll; the response is the poll's answer, NOT_FOUND: the task is stale */
    TN_HOP_WFT_POLLED,   /* request: PollWorkflowTaskQueueRequest, task set */
    TN_HOP_ACT_POLLED,   /* request: PollActivityTaskQueueRequest, task set */
    TN_HOP_QUERY_POLLED, /* request: PollWorkflowTaskQueueRequest, query set */
    /* from the frontend: the poll's answer with this token has not left the process, so no worker has the task */
    TN_HOP_UNDELIVERED,
    /* between runs (internal) */
    /* child -> parent: I exist (idempotent).  OK: the parent has recorded it (or is gone) */
    TN_HOP_CHILD_STARTED,
    TN_HOP_CHILD_CLOSED, /* child -> parent: my closing event, in u.child.close_event */
    TN_HOP_DELETE_RUN,   /* worker: retention has passed */
    TN_HOP_UPDATE, /* UpdateWorkflowExecutionRequest; parks until the update has come far enough */
    TN_HOP_POLL_UPDATE,       /* PollWorkflowExecutionUpdateRequest; parks likewise */
    TN_HOP_UPDATE_WITH_START, /* ExecuteMultiOperationRequest: [start, update] */
    /* DeleteWorkflowExecutionRequest: OK once the run is sure to be deleted */
    TN_HOP_DELETE,
    TN_HOP_SWEEP, /* worker: deletes runs of a deleted namespace in the shard u.task.ref.shard of the map u.task.ref.stamp;
                   * the answer is a CountWorkflowExecutionsResponse of how many were found this time */
    TN_HOP_MUTABLE_STATE, /* adminservice DescribeMutableStateRequest -> ...Response */
    /* adminservice RefreshWorkflowTasksRequest -> ...Response: its tasks are offered again */
    TN_HOP_REFRESH,
    /* any public request to an object: workflow_id is that of history/machine/object.h */
    TN_HOP_OBJECT,
    /* Of the operators: request is PauseActivity, UnpauseActivity, ResetActivity, UpdateActivityOptions,
     * PauseWorkflowExecution, UnpauseWorkflowExecution or UpdateWorkflowExecutionOptions; its type says which */
    TN_HOP_OPERATE,
    TN_HOP_RESET,          /* ResetWorkflowExecutionRequest -> ...Response */
    TN_HOP_NEXUS_COMPLETE, /* tenon.NexusCompletion: an operation of this run has ended */
    /* parent -> child: whoever you told of your end may not have been me; u.child.child_run_id: the chain's first run */
    TN_HOP_TELL_AGAIN,
    /* of operators */
    TN_HOP_RAW_HISTORY, /* adminservice GetWorkflowExecutionRawHistoryV2Request -> ...Response */
    TN_HOP_REBUILD,     /* adminservice RebuildMutableStateRequest -> ...Response */
} tn_hop;
#define TN_HOP_LAST \
    TN_HOP_REBUILD /* new ones are added at the end: the numbers travel between hosts */

typedef struct tn_task_token tn_task_token; /* client/token.h */

typedef struct tn_parent_ref { /* who started a child */
    tn_str ns_id, ns_name, workflow_id, run_id;
    int64_t initiated_id;
    tn_str root_workflow_id, root_run_id;
    /* of a run that a reset has made: the one that began its history; may be empty */
    tn_str original_run_id;
    tn_dver pinned;  /* the child begins pinned to this version; empty: not */
    tn_dver upgrade; /* ... or auto-upgrade, from this one */
    int64_t upgrade_revision;
} tn_parent_ref;

/* A task as matching knows it: enough to find the run again, nothing more (copied by value; the
 * strings belong to matching's own record). */
typedef struct tn_task_ref {
    uint32_t shard;
    uint8_t run_id[16];
    int64_t scheduled_id; /* of the workflow task or activity */
    int32_t attempt;
    uint64_t stamp; /* run-local: a newer dispatch of the same item makes this one stale */
    uint64_t created_mono_ns;
} tn_task_ref;

/* Of a task: 0 and empty stand for the defaults. */
typedef struct tn_task_priority {
    int32_t key;
    float fairness_weight;
    tn_str fairness_key;
} tn_task_priority;

/* A request's bytes, where they are at hand and it was not changed: sent to another host as they are. */
typedef struct tn_packed {
    const ProtobufCMessage *of; /* that request and no other one */
    tn_blob bytes;
} tn_packed;

typedef struct tn_hreq {
    tn_msg msg;
    tn_arena *arena; /* of the call, or the requester's own */
    tn_loop *home;
    tn_hop op;
    const tn_namespace *ns;     /* the caller holds the reference until done */
    tn_str workflow_id, run_id; /* run_id text, empty: current */
    const ProtobufCMessage *request;
    tn_packed packed;
    tn_call *call; /* the RPC behind it, NULL for internal ones */
    uint64_t deadline_mono_ns;
    const tn_task_token *token;
    union {
        struct { /* START from a parent's StartChild command */
            const tn_parent_ref *parent;
        } start;
        struct {
            bool child_only; /* the target must be a child of `external` */
            const tn_parent_ref
                *external; /* who signals / cancels from a workflow; NULL: a client */
            tn_str reason;
        } external;
        struct {
            const tn_parent_ref *parent; /* the parent and the initiated event the child answers */
            tn_str child_run_id, child_first_run_id, child_workflow_id, child_type;
            tn_blob close_event; /* packed HistoryEvent */
        } child;
        struct {
            tn_task_ref ref;
            uint64_t poll_id;
            bool sticky;
            tn_str queue; /* the name the poller asked (normal name in case of sticky) */
            void *query;  /* QUERY_POLLED: struct tn_mquery of client.h */
        } task;
        struct {
            tn_str activity_id; /* by-id variants; empty: by token */
        } activity;
    } u;
    /* result */
    const tn_fault *fault;
    ProtobufCMessage *response; /* NULL with fault NULL: an empty message */
    /* set by the caller: an answer of another host may be opaque (tn_proto_opaque) */
    bool pass_on;
    bool not_owner; /* with a fault: nothing was done, since the shard is another host's... */
    bool final;     /* ... and that is the answer; else the ring is asked again, for a while */
    bool taken_in;  /* UPDATE...: a host had admitted it before it lost the shard or its life */
    bool paid;      /* at the door: for its first request to the store */
    uint8_t tries;
    uint64_t nobody_ns; /* since when there is no host of the role at all; 0: there is one */
    /* who is behind it; UNKNOWN: as the call says, or as befits the operation (door.h) */
    tn_caller_type caller;
    void (*done)(struct tn_hreq *req); /* [home] */
    void *user;
    void *progress; /* history's: how far it got, when it is served again; NULL when sent */
    tn_list link;   /* history's, while it is queued or parked */
} tn_hreq;

/* [loop] Sends the baton to the loop that owns the workflow's shard. */
void tn_client_history(tn_hreq *req);
/* History only: gives a baton back to its home loop. */
void tn_client_history_done(tn_hreq *req);
/* The reply most frontend calls want: fault or response of req to req->call. */
void tn_client_reply_call(tn_hreq *req);
uint32_t tn_client_shard_of(tn_str ns_id, tn_str workflow_id); /* 1..shard count */
uint32_t tn_client_shard_count(void);                /* changes while the server runs: shardmap.h */
uint32_t tn_client_shard_map(uint64_t *out_version); /* the same, and of which map */
uint32_t tn_client_partition_count(void);            /* of the store; never changes */
/* [any] shardmap.c: false: not newer than what is known */
bool tn_client_set_shards(uint32_t shards, uint64_t version);
tn_loop *tn_client_shard_loop(uint32_t shard);
/* [loop] The other host that owns a shard or a task queue by the ring; NULL: this one, or (*out_any false) nobody. */
const struct tn_member *tn_client_shard_owner(uint32_t shard, bool *out_any);
const struct tn_member *tn_client_queue_owner(tn_str ns_id, tn_str queue, bool *out_any);
/* [loop, when members have changed] Another host has the queue than before: its tasks must be offered again. */
bool tn_client_queue_moved(tn_str ns_id, tn_str queue, uint32_t type, bool sticky);
bool tn_client_is_alone(void); /* there are no other hosts, and never will be */
/* [loop] "ip:port" of the queue's or partition's host; NULL: there is only this one. */
const char *tn_client_queue_host(tn_arena *arena, tn_str ns_id, tn_str queue);

/* ---- matching --------------------------------------------------------------------------------- */

#define TN_TASK_WORKFLOW 1u /* temporal.api.enums.v1.TaskQueueType */
#define TN_TASK_ACTIVITY 2u
#define TN_TASK_NEXUS 3u

typedef enum tn_mop {
    TN_MOP_ADD = 1,     /* history -> matching: a task waits */
    TN_MOP_POLL,        /* frontend: park `call` until there is a task */
    TN_MOP_CANCEL_POLL, /* frontend: the peer of poll_id went away */
    TN_MOP_QUERY,       /* history: a direct query wants a worker; request QueryWorkflowRequest */
    TN_MOP_QUERY_DONE,  /* frontend: RespondQueryTaskCompletedRequest for query_id */
    TN_MOP_DESCRIBE,    /* frontend: DescribeTaskQueueRequest -> ...Response */
    TN_MOP_PARTITIONS,  /* ListTaskQueuePartitionsRequest -> ...Response */
    TN_MOP_SHUTDOWN_WORKER, /* sticky queue is gone; polls of that worker end */
    TN_MOP_UPDATE_CONFIG,   /* to the root partition: UpdateTaskQueueConfigRequest -> ...Response */
    TN_MOP_CONFIG_CHANGED,  /* to a partition: its settings in the store are others now */
    /* ShutdownWorkerRequest: polls of that worker instance here end empty */
    TN_MOP_CANCEL_WORKER_POLLS,
    /* to the host that keeps a namespace's workers: `queue` is TN_WORKERS_QUEUE */
    TN_MOP_WORKER_HEARTBEAT, /* RecordWorkerHeartbeatRequest */
    TN_MOP_LIST_WORKERS,     /* ListWorkersRequest -> ...Response */
    TN_MOP_COUNT_WORKERS,    /* CountWorkersRequest -> ...Response */
    TN_MOP_DESCRIBE_WORKER,  /* DescribeWorkerRequest -> ...Response */
    /* history, frontend: temporal.api.nexus.v1.Request for a worker -> tenon.NexusOutcome */
    TN_MOP_NEXUS,
    /* frontend: RespondNexusTaskCompletedRequest or ...FailedRequest for query_id */
    TN_MOP_NEXUS_DONE,
    /* DescribeTaskQueuePartition, ForceUnloadTaskQueuePartition or GetTaskQueueTasksRequest -> ...Response */
    TN_MOP_ADMIN,
} tn_mop;
#define TN_MOP_LAST \
    TN_MOP_ADMIN /* new ones are added at the end: the numbers travel between hosts */
#define TN_WORKERS_QUEUE "\1workers" /* keeps no tasks */

/* A direct query on its way: owned by matching from QUERY until it is answered. */
typedef struct tn_mquery {
    uint64_t id;
    tn_str ns_id, workflow_id, run_id;
    const ProtobufCMessage *query; /* temporal.api.query.v1.WorkflowQuery */
} tn_mquery;

/* A poll whose frontend takes the answer from history itself: where it waits (client/direct.c). */
typedef struct tn_poll_ref {
    uint8_t host_id[16];
    uint32_t loop;
    uint64_t poll_id, turn;
} tn_poll_ref;

/* A task met such a poll in the moment it came: history records its start and answers the poll. */
typedef struct tn_poll_match {
    tn_poll_ref to;
    ProtobufCMessage *request; /* the poll's; at matching's side it may be opaque */
    int32_t advice;            /* on pollers, and... */
    int64_t backlog;           /* ...what waits, for the answer */
} tn_poll_match;

typedef struct tn_mreq {
    tn_msg msg;
    tn_arena *arena;
    tn_loop *home;
    tn_mop op;
    const tn_namespace *ns;
    tn_str queue;        /* partition owner is chosen by (ns id, queue, type) */
    uint32_t type;       /* TN_TASK_* */
    bool sticky;         /* queue is a worker's sticky queue */
    tn_str normal_queue; /* of a sticky one */
    const ProtobufCMessage *request;
    tn_packed packed;
    tn_call *call;
    uint64_t deadline_mono_ns;
    uint64_t poll_id; /* POLL, CANCEL_POLL: unique in this process (tn_client_next_poll_id) */
    tn_str workflow_id, run_id; /* ADD, QUERY (text) */
    tn_directive directive;     /* ADD, QUERY: which version's workers may have it */
    union {
        struct { /* ADD */
            tn_task_ref task;
            uint64_t expire_mono_ns; /* not worth handing out after this; UINT64_MAX: never */
            const tn_task_priority *priority; /* NULL: the default */
        };
        tn_mquery query; /* QUERY, QUERY_DONE (id) */
    };
    /* result */
    const tn_fault *fault;
    ProtobufCMessage *response;
    bool
        accepted; /* ADD: false = the window is full; history keeps it and offers it again on credit.
                         * sticky ADD: false = no worker polls that queue: use the normal one */
    bool pass_on, not_owner, final; /* as in tn_hreq */
    bool placed;                    /* `queue` names a partition already (client/partition.h) */
    bool forwarded;                 /* POLL, ADD: by another partition of the queue */
    bool paid;                      /* ADD: has counted in that partition's rate */
    bool takes_match;               /* ADD: its history can answer a poll */
    uint8_t tries;
    uint64_t nobody_ns;
    tn_caller_type caller; /* as in tn_hreq */
    union {
        const tn_poll_ref *answer_to; /* POLL: history may answer it there; NULL: it may not */
        /* result of ADD: that poll is history's to answer; NULL: none */
        const tn_poll_match *match;
    };
    void (*done)(struct tn_mreq *req); /* [home]; */
    void *user;
    tn_list link;
} tn_mreq;

/* [loop] */
void tn_client_matching(tn_mreq *req);
void tn_client_matching_done(tn_mreq *req);
uint64_t tn_client_next_poll_id(void);
/* [loop] History -> frontend: the answer of a poll that was matched; NULL: it must be asked again.  The arena goes along. */
void tn_client_answer_poll(const tn_poll_ref *to, tn_arena *arena, uint32_t type,
                           ProtobufCMessage *response);
/* [loop `home`] The task in a poll's answer reached nobody: its run has it again. */
void tn_client_give_back(const ProtobufCMessage *answer, uint32_t type, tn_loop *home);
/* Matching -> history: a queue whose window was full has room again; history offers what waits. */
void tn_client_credit(uint32_t shard, tn_str ns_id, tn_str queue, uint32_t type);

/* [loop] History -> history: this host has let the shard go, whose next owner may take it; the runs were in use. */
typedef struct tn_run_key {
    tn_str ns_id, workflow_id;
    uint8_t run_id[16];
} tn_run_key;
void tn_client_hand_over(uint32_t shard, const tn_run_key *runs, size_t n);
/* [loop, when members have changed] The shard's owner before was another host, which lives and will say when it lets go. */
bool tn_client_shard_is_handed(uint32_t shard);

/* [loop] To a shard's owner: forget what memory holds of the shard and take it anew, as an operator wishes. */
void tn_client_close_shard(uint32_t shard);

/* ---- wiring (server room, before the roles serve) ---------------------------------------------- */
typedef struct tn_history_role {
    void (*submit)(tn_hreq *req); /* on the shard's loop */
    void (*credit)(uint32_t shard, tn_str ns_id, tn_str queue,
                   uint32_t type);                                         /* on the shard's loop */
    void (*close_shard)(uint32_t shard);                                   /* on the shard's loop */
    void (*handed_over)(uint32_t shard, const tn_run_key *runs, size_t n); /* on the shard's loop */
    /* on each loop: long polls of that host's callers are answered now */
    void (*end_waits)(const uint8_t host_id[16]);
} tn_history_role;
typedef struct tn_matching_role {
    void (*submit)(tn_mreq *req);                 /* on the partition's loop */
    void (*end_polls)(const uint8_t host_id[16]); /* on each loop: the same for polls */
} tn_matching_role;
typedef struct tn_worker_role {
    void (*retire)(const tn_namespace *ns, tn_str workflow_id,
                   tn_str run_id); /* on the shard's loop */
} tn_worker_role;
void tn_client_wire(const tn_history_role *history, const tn_matching_role *matching,
                    /* as many shards, until another map is known */
                    const tn_worker_role *worker, uint32_t partitions);

/* ---- worker ------------------------------------------------------------------------------------ */
/* [loop] History -> worker: the retention of a closed run has passed; it comes back as TN_HOP_DELETE_RUN. */
void tn_client_retire(const tn_namespace *ns, tn_str workflow_id, tn_str run_id);
/* [loop] Of all worker hosts, this one is to do what belongs to the key. */
bool tn_client_worker_is_here(tn_blob key);

#endif
