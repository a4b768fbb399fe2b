/* SPDX-License-Identifier: MIT */
/* Private to the history role: shards, workflows, runs and the transactions between them.
 *
 * All requests for one workflow id are served one after another (tn_wf is the lock, its queue the waiting
 * line): a request that must wait for the store makes the workflow busy and is served again from its
 * beginning when the answer is there; a request that has changed a state stays until its commit is durable. */
#ifndef TN_HISTORY_PRIV_H
#define TN_HISTORY_PRIV_H

#include "client/door.h"
#include "client/token.h"
#include "history/breaker.h"
#include "history/history.h"
#include "history/machine/machine.h"
#include "store/store.h"
#include "tenon/store.pb-c.h"

/* Internal operations, served like requests (op numbers past tn_hop's). */
enum {
    TN_IOP_FIRE = 100, /* a deadline has come */
    TN_IOP_WAKE,       /* load the run and do what it wants */
    /* make what is only in memory durable, then drop the run from the cache */
    TN_IOP_FLUSH,
    TN_IOP_UNSTICK,           /* the sticky queue has no worker */
    TN_IOP_CHILD_RESULT,      /* START of a child has been answered */
    TN_IOP_EXTERNAL_RESULT,   /* signal or cancel of another run has been answered */
    TN_IOP_RELEASE,           /* held child: the parent knows */
    TN_IOP_PARENT_TOLD,       /* closed child: the parent knows */
    TN_IOP_SETTLED,           /* closed parent: one child has been settled */
    TN_IOP_OUTBOX,            /* write the run's visibility document again */
    TN_IOP_UNDELIVERED,       /* the answer of a workflow task poll never left */
    TN_IOP_DELETE,            /* the namespace is deleted */
    TN_IOP_OBJECT_RESULT,     /* what an object wanted has been done */
    TN_IOP_NEXUS_STARTED,     /* a handler has answered, or not */
    TN_IOP_NEXUS_CANCELED,    /* ... to a cancel request */
    TN_IOP_CALLBACK_ANSWERED, /* the receiver of a completion callback */
};

typedef struct tn_shard tn_shard;
typedef struct tn_wf tn_wf;
typedef struct tn_run tn_run;
typedef struct tn_txn tn_txn;
typedef struct tn_hloop tn_hloop;

/* A request that waits on run->parked for the run to go on: what req->progress begins with. */
typedef struct tn_parked {
    tn_hreq *req;
    tn_wf *wf;
    bool close_only; /* only its end is of interest */
    bool waited;     /* it has been parked once */
    bool timed_out;  /* its time is up: it must answer */
    tn_loop_timer timer;
} tn_parked;

typedef struct tn_batch_ref { /* cached events, back to back as a History body */
    int64_t first_id, last_id;
    tn_blob events; /* owned */
} tn_batch_ref;

struct tn_run {
    tn_list in_wf; /* wf->runs */
    tn_list lru;   /* hloop->open or ->closed */
    tn_wf *wf;
    tn_ms *ms;
    uint8_t run_id[16];
    /* Made but not committed: the started event of the workflow task.  Goes first in the next record. */
    tn_buf tail;
    int64_t tail_first_id;
    size_t tail_events;
    bool extras_pending; /* something only memory knows; rides along with the next record */
    /* cached history, contiguous, ends where tail begins */
    tn_batch_ref *batches;
    size_t n_batches, cap_batches, batches_bytes;
    uint64_t wake_stored_ns; /* the row in the wake index; UINT64_MAX: none */
    uint32_t records_since_snapshot;
    tn_list parked;  /* hreqs: history reads that wait for new events */
    tn_list queries; /* hreqs: queries that wait for a workflow task */
    tn_list updates; /* hreqs: callers that wait for an update */
    tn_loop_timer timer;
    size_t bytes; /* as accounted in hloop->bytes */
    bool closed;  /* ... and in ->closed_bytes: the list that it is in */
    bool doomed;  /* to be dropped when its workflow is idle */
    bool fire_queued, wake_queued;
};

struct tn_wf {
    tn_map_link link; /* hloop->wfs; key: shard + ns id + 0 + workflow id */
    tn_shard *shard;
    char *ns_id, *workflow_id;
    uint64_t hash; /* says whose it is, by a map */
    uint8_t *key;
    bool busy;     /* a request waits for the store */
    bool stepping; /* the queue is being served further up the stack */
    tn_list queue; /* hreqs */
    tn_list runs;
    tn_list paused; /* shard->paused */
    tn_list late;   /* hloop->late: somebody may wait in vain */
    struct load *load;
    /* the current run's row */
    bool current_known, current_exists;
    uint64_t current_version;
    uint8_t current_run_id[16];
    char current_first_run_id[37];
    char *current_request_id;
    int32_t current_status;
    uint64_t current_start_ns, current_close_ns;
};

struct tn_shard {
    uint32_t id;
    uint32_t partition, sub; /* where its rows lie, and which of the shards there it is */
    tn_hloop *hl;
    bool owned;
    /* shards of the map under which it was taken: whose workflows it has (tn_shard_has) */
    uint32_t of;
    uint64_t map; /* version of that map */
    uint64_t range_id, fence_version;
    uint64_t owned_since_ns; /* wall: what was only in the last owner's memory ends here */
    uint64_t outbox_next;
    tn_list vis_writes; /* to visibility, on their way (outbox.c) */
    size_t removals_waiting;
    uint64_t *outbox_acked; /* rows to delete with the next commit */
    size_t n_outbox_acked, cap_outbox_acked;
    uint64_t next_wake_ns; /* earliest durable deadline of a run that may be out of the cache */
    tn_loop_timer wake_timer;
    /* wake rows up to here have been acted upon: what is new there is known in memory */
    uint64_t scanned_ns;
    bool scanning;
    bool scan_all_again, scan_due; /* asked for while a scan was under way */
    /* rows from here are to be looked at again then; UINT64_MAX: none */
    uint64_t retry_from_ns, retry_at_ns;
    bool renewing; /* the fence is being raised: nothing is served (renew.c) */
    /* how often the shard was lost: what was read or decided in an older one is not true any more */
    uint64_t epoch;
    tn_loop_timer regain_timer, release_timer;
    uint64_t regain_delay_ns, regained_ns; /* mono */
    bool reopening; /* let go by an operator's word, though the ring says that it is ours */
    /* it moves: nobody is served any more, what only memory knows is being written (handover.c) */
    bool closing;
    uint64_t closing_until_ns;
    /* by its last owner: the runs that were in use there, read when it has been taken */
    tn_arena *handed;
    const tn_run_key *handed_runs;
    size_t n_handed;
    bool missed;    /* taken by a host that thought this one dead, and gives it back */
    tn_list paused; /* workflows with requests meanwhile */
    bool rejected;  /* matching has refused tasks: scan again on credit */
};

struct tn_hloop { /* one a loop */
    tn_loop *loop;
    tn_map wfs;
    tn_map sleepers;      /* of runs that have left the cache; key: run id */
    tn_map memories;      /* of runs whose last write failed (recall.c); key: run id */
    tn_list open, closed; /* cached runs, oldest use first */
    size_t bytes, closed_bytes, bytes_max;
    size_t runs;
    tn_rng rng;
    bool draining; /* nobody is to wait for long any more */
    bool stopping;
    size_t txns;            /* in flight */
    size_t wakes_in_flight; /* runs being woken by scans */
    size_t scans;           /* pages of wake rows being read */
    tn_list paused_scans;   /* waiting for their turn */
    tn_list late;           /* late.c: workflows with requests that wait */
    tn_loop_timer late_timer;
    tn_breakers breakers;
    uint32_t regained; /* shards since regained_timer was started, whose end tells of them */
    tn_loop_timer regained_timer;
};

/* An internal request: an hreq in an arena of its own. */
typedef struct tn_iop {
    tn_hreq req;
    int64_t initiated_id;
    int32_t cause; /* 0: it worked */
    char result_run_id[37];
    uint64_t nonce;
    uint64_t outbox_seq;
    bool counted; /* in wakes_in_flight */
    bool again;   /* the other side could not be reached: try later */
    struct tn_object_result *result;
    const void *nexus; /* tn_nexus_result; NULL: nothing was sent */
    tn_loop_timer delay;
} tn_iop;

/* events that a new run has in common with another, for a row of its own */
typedef struct tn_copied {
    tn_blob events;
    int64_t first_id, next_id;
} tn_copied;

#define TN_TXN_CHANGES_MAX 4
typedef struct tn_change {
    tn_run *run;
    tn_tx tx;
    bool created; /* the run's first record */
    bool status_changed;
    uint64_t outbox_seq;     /* 0: no visibility write */
    tn_blob unwritten;       /* what only memory knew before the change */
    const tn_copied *copied; /* rows that come before its record (op_reset.c) */
    size_t n_copied;
} tn_change;

struct tn_txn {
    tn_arena *arena;
    tn_hloop *hl;
    tn_wf *wf;
    tn_hreq *req;
    tn_machine_env env;
    tn_machine_limits limits;
    const tn_namespace *ns; /* +1 */
    tn_change changes[TN_TXN_CHANGES_MAX];
    size_t n_changes;
    tn_store_op op;
    tn_store_batch batch;
    uint64_t *outbox_gone; /* rows that this commit deletes */
    size_t n_outbox_gone;
    uint64_t fence_version; /* that the commit stands on */
    uint64_t epoch;         /* the shard's when it began */
    bool put_current;
    const tn_fault *fault;      /* for the caller, also when the commit succeeds */
    void (*after)(tn_txn *txn); /* durable: build the answer (fault and response of req) */
    void *user;
    bool keep_req; /* after() parked or passed the request on: do not give it back */
    tn_wft_completed_out wft_out;
    int64_t activity_id; /* scheduled id of the activity handed out */
};

/* ---- fence.c ---- */
#define TN_FENCES_MAX 256u /* shards of a partition */
typedef struct tn_fence_row {
    uint64_t version;
    Tenon__ShardRecord *record; /* NULL: there is none */
} tn_fence_row;
typedef struct tn_fence { /* the fences of a shard's partition, as read */
    tn_arena *arena;
    uint64_t map; /* this process's, when it began */
    uint32_t shards, count;
    bool outdated; /* a row is of a newer map: nothing may be taken */
    bool whole;    /* the partition is of an older map, or nobody's: its rows change together */
    bool moved;    /* `tenonctl store copy` has them */
    uint64_t last_range, range_id, acquired_ns;
    tn_fence_row rows[TN_FENCES_MAX];
} tn_fence;
void tn_shard_place(tn_shard *shard, uint32_t id);
tn_key tn_shard_fence_key(const tn_shard *shard, tn_arena *arena);
/* Whether the workflow is the shard's, by the map under which the shard was taken. */
bool tn_shard_has(const tn_shard *shard, tn_str ns_id, tn_str workflow_id);
/* then tn_store_scan */
void tn_fence_begin(tn_fence *fence, const tn_shard *shard, tn_arena *arena, tn_store_op *op);
/* A page has come; out_more: scan again. */
tn_status tn_fence_read(tn_fence *fence, const tn_shard *shard, tn_store_op *op, bool *out_more,
                        tn_error *err) TN_WARN_UNUSED;
tn_batch tn_fence_raise(tn_fence *fence, const tn_shard *shard); /* not when outdated or moved */
/* the batch was written */
void tn_fence_taken(const tn_fence *fence, tn_shard *shard, uint64_t version);

/* ---- shard.c ---- */
tn_hloop *tn_hloop_current(void);
tn_shard *tn_shard_find(uint32_t id); /* also one of a map that was; NULL: there never was one */
/* [loop] The shard that has a workflow now, if it is of this loop; else NULL. */
tn_shard *tn_shard_here(tn_str ns_id, tn_str workflow_id);
/* mono, when this process learnt of the map in force; 0: at its start */
uint64_t tn_shard_map_since_ns(void);
void tn_shard_take_over(tn_shard *shard); /* repeats the outbox, wakes what waits */
const char *tn_shard_owner_name(void);

void tn_shards_of_loop(tn_hloop *hl); /* makes those of the map in force that there were not */

/* ---- assign.c ---- */
bool tn_shard_is_ours(uint32_t id); /* by the ring */
/* what is asked of it again may find another owner */
bool tn_shard_elsewhere(const tn_shard *shard);
void tn_shard_assign(tn_shard *shard); /* taken or let go, as the ring and the map say */

/* ---- renew.c ---- */
/* [loop] A commit is uncertain, or was refused by the fence: the shard stands still until its fence has been raised,
 * so that nothing written before can still arrive.  Found to be another's: the shard is lost. */
void tn_shard_doubt(tn_shard *shard, const char *why);
void tn_shard_regain_init(tn_shard *shard);
void tn_shard_tell_init(tn_hloop *hl);
void tn_shard_regain_now(tn_shard *shard); /* it is to be ours: takes it, whoever had it */
void tn_shard_reopen(tn_shard *shard);     /* let go, and taken again at once */
/* it is another's from now on: soon nothing of it is served or believed */
void tn_shard_release(tn_shard *shard);

/* ---- handover.c: a planned move ---- */
void tn_shard_flush(tn_shard *shard); /* what only memory knows is to be written */
/* Nobody is served any more.  True: all is written, or it takes too long; else release_timer fires again. */
bool tn_shard_settles(tn_shard *shard);
void tn_shard_hand_over(tn_shard *shard);
/* it is ours: at the word of the last owner, if that lives */
void tn_shard_take_handed(tn_shard *shard);
void tn_shard_read_handed(tn_shard *shard); /* it has been taken, or has not */
void tn_shard_drop_handed(tn_shard *shard);
void tn_history_handed_over(uint32_t shard_id, const tn_run_key *runs, size_t n);
void tn_shard_pause(tn_wf *wf); /* served again when the shard goes on */
void tn_shard_go_on(tn_shard *shard);

/* ---- sweep.c ---- */
void tn_shard_sweep(tn_shard *shard, tn_hreq *req);

/* ---- wakes.c ---- */
void tn_wakes_init(tn_shard *shard);
/* All runs that want something now, also those whose rows were seen before. */
void tn_wakes_scan_all(tn_shard *shard);
void tn_wake_served(tn_hloop *hl); /* a run that a scan found has been looked at */
void tn_shard_wake_at(tn_shard *shard, uint64_t wall_ns);
/* The row at row_ns could not be served now: look at it again at wall_ns. */
void tn_shard_wake_again(tn_shard *shard, uint64_t row_ns, uint64_t wall_ns);
/* The run leaves the cache: sees to it that its next deadline is met. */
void tn_sleep(const tn_run *run);
void tn_sleeper_forget(tn_hloop *hl, const uint8_t run_id[16]); /* the run is in the cache again */
void tn_wakes_clear(tn_hloop *hl);                              /* sleepers, and scans that wait */

/* ---- recall.c ---- */
/* The run's write has failed and it goes; unwritten: tn_ms_unwritten of before. */
void tn_memory_keep(const tn_run *run, tn_blob unwritten);
void tn_memory_recall(tn_run *run); /* it has been read again */
void tn_memory_forget(tn_hloop *hl, const uint8_t run_id[16]);
void tn_memories_clear(tn_hloop *hl, const tn_shard *shard); /* NULL: of all shards */

/* ---- cache.c ---- */
tn_wf *tn_wf_get(tn_shard *shard, tn_str ns_id, tn_str workflow_id); /* makes it when absent */
void tn_wf_maybe_drop(tn_wf *wf);
tn_run *tn_run_create(tn_wf *wf, tn_ms *ms);
tn_run *tn_run_find(const tn_wf *wf, const uint8_t run_id[16]);
void tn_run_drop(tn_run *run); /* what is parked on it goes back to the queue */
void tn_run_touch(tn_run *run);
void tn_run_account(tn_run *run);
void tn_run_cache_events(tn_run *run, int64_t first_id, int64_t last_id, tn_blob events);
void tn_cache_shrink(tn_hloop *hl); /* to its limits */
tn_status tn_wf_learn_current(tn_wf *wf, tn_arena *arena, const tn_row *row,
                              tn_error *err) TN_WARN_UNUSED;
/* Loads for a request; the request is served again when done.  */
void tn_load_current(tn_wf *wf, tn_hreq *req);
/* late.c */
bool tn_req_late(const tn_hreq *req);    /* its time is over */
bool tn_req_expired(const tn_hreq *req); /* ... or its caller has gone */
/* ... and nothing of it has been done, so that it may be told so. */
bool tn_req_in_vain(const tn_hreq *req);
const tn_fault *tn_req_nobody_waits(const tn_hreq *req);
void tn_late_watch(tn_wf *wf); /* while requests wait in its queue or for its load */
void tn_late_forget(tn_wf *wf);
void tn_late_init(tn_hloop *hl);
/* Whoever the workflow's load is for, if it is under way and he waits in vain, is answered: it goes on without him. */
void tn_load_leave(tn_wf *wf);
void tn_load_run(tn_wf *wf, const uint8_t run_id[16], tn_hreq *req);
/* Whose runs they are: the digest in each run's first record. */
#define TN_HOME_BYTES 16u
void tn_wf_home(const tn_wf *wf, uint8_t out[TN_HOME_BYTES]);

/* ---- serve.c ---- */
void tn_history_submit(tn_hreq *req);
/* direct.c: a task that met a poll; takes the baton, its arena and namespace */
void tn_direct_serve(tn_mreq *offered);
void tn_wf_enqueue(tn_wf *wf, tn_hreq *req);
void tn_wf_step(tn_wf *wf);
/* not busy any more; req_again (may be NULL) is served first */
void tn_wf_resume(tn_wf *wf, tn_hreq *req_again);
void tn_req_finish(tn_hreq *req, const tn_fault *fault);
/* A poll that was to get a task of the run will not: the task is to be offered again (by the run's next effects). */
void tn_offer_withdrawn(tn_run *run, const tn_hreq *req);
/* The run that the request means: NULL and the request is waiting, or was answered. */
tn_run *tn_resolve(tn_wf *wf, tn_hreq *req);
tn_iop *tn_iop_create(const tn_wf *wf, const uint8_t run_id[16], int op);
void tn_iop_send(tn_iop *iop); /* to the shard of this loop */
void tn_iop_send_later(tn_iop *iop, uint64_t delay_ns);

/* ---- txn.c ---- */
tn_txn *tn_txn_begin(tn_wf *wf, tn_hreq *req);
tn_tx *tn_txn_change(tn_txn *txn, tn_run *run);
/* Writes all changes in one batch (nothing to write: goes on at once); the workflow is busy until done.
 * fault: what the machine said, answered after the commit. */
void tn_txn_commit(tn_txn *txn, const tn_fault *fault);
/* A request that is served again after a write in doubt: true when that write was made; out (may be NULL): what the
 * machine had said of the workflow task. */
bool tn_doubt_was_made(tn_hreq *req, const tn_run *run, tn_wft_completed_out *out);
void tn_txn_abandon(tn_txn *txn, const tn_fault *fault); /* nothing was changed */

/* ---- the operations ---- */
void tn_op_start(tn_wf *wf, tn_hreq *req);
void tn_op_external(tn_wf *wf, tn_hreq *req); /* signal, cancel, terminate */
void tn_op_wft_polled(tn_wf *wf, tn_hreq *req);
void tn_op_wft_respond(tn_wf *wf, tn_hreq *req);
void tn_op_activity_polled(tn_wf *wf, tn_hreq *req);
void tn_op_activity_respond(tn_wf *wf, tn_hreq *req);
void tn_op_read_history(tn_wf *wf, tn_hreq *req);
void tn_op_describe(tn_wf *wf, tn_hreq *req);
void tn_op_query(tn_wf *wf, tn_hreq *req);
void tn_op_query_polled(tn_wf *wf, tn_hreq *req);
void tn_op_child(tn_wf *wf, tn_hreq *req);
/* asked for: an open run is terminated, its retention ends now */
void tn_op_delete(tn_wf *wf, tn_hreq *req);
void tn_run_delete(tn_wf *wf, tn_hreq *req, tn_run *run); /* the same, with the run at hand */
void tn_op_delete_run(tn_wf *wf, tn_hreq *req); /* its retention has ended: all of its rows go */
void tn_op_undelivered(tn_wf *wf, tn_hreq *req);
/* op_reset.c */
void tn_op_reset(tn_wf *wf, tn_hreq *req);
void tn_op_tell_again(tn_wf *wf, tn_hreq *req);
/* Children that a reset run has of its base run may have ended while that was closed, and nobody heard: they are asked. */
void tn_reset_ask_children(tn_run *run);
void tn_reset_put_copied(tn_txn *txn, const tn_change *change);
/* What a child tells a run that is closed may be meant for the one that a reset has made of it: true: for req->run_id now. */
bool tn_reset_redirect(tn_hreq *req, const tn_run *run);
/* A child that the base run may have started already is started under the request id of that run first... */
char *tn_reset_child_request(tn_arena *arena, const tn_ms *ms, const tn_child *child);
/* ... true: it is not there, or has closed: to be started again. */
bool tn_reset_child_again(const tn_ms *ms, tn_child *child, int32_t cause, int32_t status);
void tn_op_mutable_state(tn_wf *wf, tn_hreq *req);
void tn_op_refresh(tn_wf *wf, tn_hreq *req);
void tn_op_raw_history(tn_wf *wf, tn_hreq *req); /* op_raw.c */
void tn_op_rebuild(tn_wf *wf, tn_hreq *req);     /* op_rebuild.c */
void tn_op_internal(tn_wf *wf, tn_hreq *req);
/* pauses, resets, options: of activities and of the run */
void tn_op_operate(tn_wf *wf, tn_hreq *req);

/* ---- reading.c ---- */
/* Events [from, to] of a run as a History body, from memory when it has them, else from the store.  What must be
 * known of the run is taken when the read begins: it may be gone when the store answers. */
typedef struct tn_read_batch {
    size_t at;
    int64_t first_id;
} tn_read_batch;
typedef struct tn_read {
    tn_arena *arena;
    tn_hreq *req;
    int64_t from, to;
    size_t events_max, bytes_max;
    bool reverse;       /* newest first: [from, to] backwards, at most events_max from `to` down */
    size_t batches_max; /* whole batches, as they were written, and this many at most; 0: events */
    /* out */
    tn_buf body;
    int64_t last_read; /* forward: greatest id read; reverse: least; 0: nothing */
    size_t n_events;
    tn_buf batches; /* tn_read_batch: where in the body each begins */
    size_t n_batches;
    tn_status status;
    tn_error error;
    void (*done)(struct tn_read *read);
    void *user;
    /* private */
    uint32_t shard, account_shard;
    uint8_t run_id[16];
    tn_blob tail; /* copy of uncommitted events */
    tn_store_op op;
} tn_read;
void tn_read_events(tn_read *read, tn_run *run); /* done may run before this returns */
/* Forward, of a run that is not in the cache; none of its rows there: nothing read. */
void tn_read_stored(tn_read *read, const tn_wf *wf, const uint8_t run_id[16]);
/* New events, or the run has closed: parked readers go on. */
void tn_history_notify(tn_run *run);
/* Parked readers are answered soon, with what there is; those who ask through that host, NULL: all. */
void tn_history_end_waits(tn_run *run, const uint8_t *host_id);
bool tn_history_waits_for(const tn_hreq *req, const uint8_t *host_id);

/* The close event (framed as in History) in the words that this client understands. */
tn_blob tn_close_event_for_client(const tn_hreq *req, tn_blob body);
void tn_history_unpark(tn_hreq *req); /* takes it from run->parked, its timer stopped */
void tn_history_park_init(tn_parked *parked, tn_wf *wf, tn_hreq *req);
/* mono: the long poll's time, or a little before the caller's own */
uint64_t tn_history_park_until(const tn_hreq *req);
/* req->progress is `parked` */
void tn_history_park(tn_parked *parked, tn_run *run, uint64_t until);
/* A poll response with what is true of any task of the run; then that of the started task, without its history. */
Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse *tn_wft_base_response(
    const tn_ms *ms, tn_arena *arena);
Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse *tn_wft_response(tn_run *run,
                                                                                   tn_arena *arena,
                                                                                   tn_str ns_name);
/* Reads the history a worker needs into the response (from its last task on, or all), then calls done. */
void tn_wft_history(tn_run *run, tn_hreq *req, bool sticky,
                    Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse *out,
                    void (*done)(tn_hreq *req, const tn_fault *fault, void *user), void *user);
/* Answers the poll behind req with `out` and its history; gives req back. */
void tn_reply_wft_poll(tn_run *run, tn_hreq *req, bool sticky,
                       Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse *out);
void tn_wft_failed_after(tn_txn *txn);
tn_blob tn_activity_token(const tn_ms *ms, const tn_activity *activity, tn_arena *arena);

/* ---- figures.c ---- */
void tn_history_limits(tn_str ns, tn_machine_limits *out);         /* by dynamic config */
void tn_history_count(const tn_txn *txn, const tn_change *change); /* of a durable commit */

/* ---- links.c ---- */
Temporal__Api__Common__V1__Link *tn_link_to_start(const tn_hreq *req, const char *run_id);
Temporal__Api__Common__V1__Link *tn_link_to_workflow(const tn_hreq *req, const char *run_id,
                                                     const char *reason);
/* To an event that may wait in the buffer and have no id yet: by the request that made it. */
Temporal__Api__Common__V1__Link *tn_link_to_request(const tn_hreq *req, const char *run_id,
                                                    const char *request_id, int32_t event_type);

/* ---- query.c ---- */
void tn_queries_attach(tn_run *run, tn_arena *arena,
                       Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse *out);
void tn_queries_answer(
    tn_run *run,
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *request);
/* what was not answered goes on: with the next task or directly */
void tn_queries_wft_ended(tn_run *run);
void tn_queries_send_on(tn_run *run, bool over); /* the run goes: back to the queue, or refused */

/* ---- update.c, update_start.c ---- */
void tn_op_update(tn_wf *wf, tn_hreq *req); /* and poll */
void tn_op_update_with_start(tn_wf *wf, tn_hreq *req);
const Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *tn_update_start_request(
    const tn_hreq *req);
const tn_fault *tn_update_start_admit(tn_hreq *req, tn_tx *tx); /* the run has just been made */
void tn_update_start_started(tn_txn *txn, tn_run *run);         /* its first commit is durable */
const tn_fault *tn_update_start_fault(const tn_hreq *req, const tn_fault *fault);
/* Answers the callers whose update has come far enough, or will not; tx (may be NULL): the transition before. */
void tn_updates_settle(tn_run *run, const tn_tx *tx);
void tn_updates_send_on(tn_run *run, bool over); /* the run goes: back to the queue, or refused */
/* Who waits is told soon how far the update has come. */
void tn_updates_end_waits(tn_run *run, const uint8_t *host_id);
/* again: also what a worker was given before. */
void tn_updates_attach(tn_run *run, tn_arena *arena, bool again,
                       Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse *out);
/* The machine wants a speculative task in the answer to this completion. */
void tn_updates_speculate(
    tn_txn *txn, tn_run *run,
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *request);

/* ---- effects.c ---- */
void tn_run_effects(tn_run *run); /* does what the run wants, sets its timer */

/* ---- outbox.c ---- */
void tn_outbox_ack(tn_shard *shard, uint64_t seq); /* its row may go, with the next commit */
void tn_outbox_flush(tn_shard *shard);             /* or with a commit of its own */
void tn_visibility_write(tn_run *run, uint64_t outbox_seq);
void tn_visibility_remove(tn_shard *shard, tn_str ns_id, tn_str workflow_id, tn_str run_id,
                          uint64_t outbox_seq);

/* ---- faults.c ---- */
const tn_fault *tn_fault_workflow_not_found(tn_arena *arena, tn_str workflow_id);
const tn_fault *tn_fault_run_not_found(tn_arena *arena, tn_str workflow_id, tn_str run_id);
const tn_fault *tn_fault_closed(tn_arena *arena); /* "workflow execution already completed" */
const tn_fault *tn_fault_already_started(tn_arena *arena, const tn_wf *wf, const char *text);
const tn_fault *tn_fault_unavailable(tn_arena *arena, const char *text);

/* ---- op_wft.c ---- */
void tn_poller_set_build(tn_poller *poller,
                         const Temporal__Api__Common__V1__WorkerVersionCapabilities *can,
                         const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options);
/* versions.c */
tn_directive tn_run_directive(const tn_ms *ms, tn_arena *arena, bool workflow_task);
void tn_poller_set_version(tn_poller *poller, const tn_namespace *ns, const tn_ms *ms,
                           bool workflow_task,
                           const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options);
bool tn_history_queue_in_version(void *user, tn_str ns_id, tn_str queue, tn_dver version);
/* False: its override names a version that does not serve its queue. */
bool tn_child_versioning(
    const tn_ms *ms, tn_parent_ref *self,
    const Temporal__Api__History__V1__StartChildWorkflowExecutionInitiatedEventAttributes *a,
    tn_str ns_id, tn_arena *arena,
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r);

#endif
