/* SPDX-License-Identifier: MIT */
/* Private to the matching role: queues and what waits in them.  One mloop a loop; no locks. */
#ifndef TN_MATCHING_PRIV_H
#define TN_MATCHING_PRIV_H

#include "config/dynconfig.h"
#include "matching/backlog.h"
#include "matching/matching.h"
#include "matching/workers.h"
#include "metrics/metrics.h"

#define TN_TASKS_WINDOW_MAX 100000u     /* a queue's tasks in memory; past it history keeps them */
#define TN_POLLERS_SHOWN_MAX 256u       /* identities remembered a queue */
#define TN_STICKY_QUERY_NS (5 * TN_SEC) /* then any worker may answer */
#define TN_LONG_POLL_MARGIN_NS TN_SEC   /* answer so long before the caller's own deadline */

#define TN_GONE_WORKERS_MAX 256u
typedef struct tn_gone_worker tn_gone_worker; /* shutdown.c */

typedef struct tn_mloop {
    tn_loop *loop;
    tn_map queues;  /* tn_tq by ns id + type + name */
    tn_map queries; /* tn_wquery by id: handed out, not answered yet */
    tn_map polls;   /* tn_wpoll by id */
    uint64_t next_query_id;
    tn_workers workers;
    tn_list gone; /* tn_gone_worker: their polls end at once */
    size_t n_gone;
    tn_loop_timer sweep;
    tn_list moved; /* moved.c */
    bool stopping;
    /* ... whose task this is, while it may meet a poll that history answers: */
    tn_mreq *adding;
    struct tn_wtask *added; /* NULL: none */
} tn_mloop;

typedef struct tn_poller_seen {
    tn_list link; /* newest last */
    uint64_t last_wall_ns;
    double rate;
    int32_t mode; /* temporal.api.enums.v1.WorkerVersioningMode; 0: it did not say */
    char *identity, *deployment, *build_id; /* behind the struct */
} tn_poller_seen;

typedef struct tn_tq_limit tn_tq_limit;   /* rates.c */
typedef struct tn_tq_slots tn_tq_slots;   /* rates.c */
typedef struct tn_tq_config tn_tq_config; /* config.c */

typedef struct tn_tq_forward tn_tq_forward; /* forward.c */

/* There may be as many queues as there are polls: what only a busy one needs is made when it is. */
typedef struct tn_tq {
    tn_map_link link; /* key: the bytes at the end, without the NUL */
    tn_mloop *ml;
    const tn_namespace *ns;
    const char *name; /* in the key; of a partition: with its number */
    tn_str base;      /* the queue's own name */
    uint32_t type;
    bool sticky;
    tn_dver version;     /* whose workers it is for; empty: the unversioned ones */
    tn_list versions;    /* of the unversioned one: those for versions */
    tn_list in_versions; /* of the others */
    tn_backlog backlog;
    tn_list polls, queries;
    size_t n_polls;
    size_t n_out; /* polls at a run, queries at a worker: they point here, so the queue must stay */
    tn_list pollers; /* tn_poller_seen */
    size_t n_pollers;
    uint64_t last_poll_mono_ns; /* 0: never, or its worker has shut down */
    uint64_t used_mono_ns;
    uint64_t ours_mono_ns; /* since when it is this host's */
    uint8_t *starved;      /* bit a shard: refused tasks, wants credit */
    uint32_t starved_bytes;
    bool any_starved;
    tn_tq_limit *limit;                /* NULL: never asked for */
    tn_tq_slots *slots[TN_PRIORITIES]; /* NULL: nothing of that priority has come yet */
    tn_tq_config *config;              /* NULL: it is known that there is none */
    uint64_t scaling_free_ns;          /* when the next advice to have more pollers may be given */
    tn_tq_forward *forward;            /* NULL: the root, a queue in one partition, a sticky one */
    bool lost;                         /* another host's by now */
    bool config_read;                  /* once at least */
    bool adding; /* a task comes in: a poll that gets it now was there before it */
    /* held series */
    tn_counter *polls_won, *polls_won_sync, *polls_timed_out;
    tn_gauge *backlog_series;
    tn_histogram *sync_latency, *async_latency;
    char key[]; /* namespace id, type, name, NUL; for a version: deployment, NUL, build id, NUL */
} tn_tq;

typedef struct tn_handout { /* a task or query on its way to its run */
    tn_hreq hreq;
    char run_id[37];
} tn_handout;

typedef struct tn_wpoll { /* in the call's arena */
    tn_list link;
    tn_map_link by_id;
    uint64_t id;
    tn_mreq *mreq;
    tn_tq *tq;
    tn_loop_timer timer;
    uint64_t until_mono_ns; /* then it gets an empty answer */
    uint64_t parked_mono_ns, came_mono_ns;
    tn_mreq *asked; /* the same at the parent partition; NULL: it waits here */
    bool ending;    /* ... and ends empty when it comes back from there */
    bool parked;
    bool cancelled;
    bool delegated;      /* history answers it (direct.c) */
    tn_wtask *task;      /* being handed out */
    bool sync;           /* ... in the moment it came */
    tn_handout *handout; /* made with the first task */
} tn_wpoll;

typedef struct tn_wquery { /* in the query's arena */
    tn_list link;          /* tq->queries while it waits */
    tn_map_link by_id;
    tn_mreq *mreq;
    tn_tq *tq;
    bool handed_out;
    uint64_t until_mono_ns; /* of a query that waits for a worker */
    tn_loop_timer timer;
} tn_wquery;

tn_mloop *tn_mloop_current(void);
bool tn_matching_is_here(void);
/* queue.c */
tn_tq *tn_tq_get(tn_mloop *ml, const tn_namespace *ns, tn_str name, uint32_t type, bool sticky);
tn_tq *tn_tq_find(tn_mloop *ml, const tn_namespace *ns, tn_str name, uint32_t type);
/* The same queue for the workers of a version (empty: tn_tq_get). */
tn_tq *tn_tq_get_version(tn_mloop *ml, const tn_namespace *ns, tn_str name, uint32_t type,
                         tn_dver version);
void tn_tq_sweep(tn_mloop *ml);
void tn_tq_saw_poller(tn_tq *tq, tn_str identity, double rate,
                      const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options);
void tn_tq_forget_poller(tn_tq *tq, tn_str identity);
/* Its polls end and what was learnt of it is forgotten; tasks that wait stay.  It may be gone afterwards. */
void tn_tq_unload(tn_tq *tq);
void tn_tq_starve(tn_tq *tq, uint32_t shard);
void tn_tq_give_credit(tn_tq *tq);
/* rates.c */
void tn_tq_count(tn_tq *tq, uint32_t priority, bool dispatched);
float tn_tq_rate(const tn_tq *tq, uint32_t priority, bool dispatched); /* of all priorities: 0 */
/* of the whole queue; below 0: its last poll asked for none */
void tn_rates_set_worker(tn_tq *tq, double rate);
void tn_rates_changed(tn_tq *tq); /* what an operator or dynamic config says */
/* of the whole queue; TN_RATE_NONE: none */
double tn_rates_limit(const tn_tq *tq, int32_t *out_source);
#define TN_RATE_NONE 100000.0 /* what is shown then, and what workers ask for that want none */
bool tn_rates_may_dispatch(tn_tq *tq);                 /* takes a token; else sets the timer */
void tn_rates_keep_token(tn_tq *tq);                   /* nothing was dispatched after all */
void tn_rates_look_at(tn_tq *tq, uint64_t at_mono_ns); /* a fairness key may go on then */
bool tn_rates_limited(const tn_tq *tq);                /* has held something back lately */
void tn_rates_done(tn_tq *tq);
/* how many pollers more there should be */
int32_t tn_rates_advice(const tn_wpoll *poll, bool sync, size_t *out_backlog);
/* adds to the poll's answer how many pollers there should be */
void tn_rates_advise(tn_wpoll *poll, bool sync);
/* config.c */
void tn_tq_config_load(tn_tq *tq);
bool tn_tq_config_known(const tn_tq *tq); /* until then nothing is handed out */
void tn_tq_config_stop(tn_tq *tq);
void tn_tq_config_done(tn_tq *tq);
bool tn_tq_config_wait(tn_tq *tq, tn_mreq *req); /* true: it is served again once they are known */
double tn_tq_config_rate(const tn_tq *tq);       /* of the whole queue; below 0: none is set */
/* TaskQueueConfig; NULL: none */
const ProtobufCMessage *tn_tq_config_message(const tn_tq *tq, tn_arena *arena);
void tn_match_update_config(tn_mloop *ml, tn_mreq *req);
void tn_match_config_changed(tn_mloop *ml, tn_mreq *req);
/* match.c */
void tn_match(tn_tq *tq);
void tn_match_add(tn_mloop *ml, tn_mreq *req);
void tn_match_poll(tn_mloop *ml, tn_mreq *req);
void tn_match_cancel_poll(tn_mloop *ml, tn_mreq *req);
void tn_match_end_polls(tn_tq *tq);
/* for another partition: the next, counted in our rate; NULL: none */
tn_wtask *tn_match_take_task(tn_tq *tq);
void tn_match_put_back(tn_tq *tq, tn_wtask *task);
void tn_match_count(tn_tq *tq, const tn_wtask *task, bool sync);
/* direct.c */
/* of tq->ml->adding; true: both are history's now */
bool tn_direct_hand_out(tn_tq *tq, tn_wpoll *poll, tn_wtask *task);
void tn_direct_end(tn_wpoll *poll); /* its frontend has its answer, or has gone */
void tn_direct_end_all(tn_mloop *ml);
/* forward.c */
void tn_forward_create(tn_tq *tq); /* when it is a partition with a parent */
void tn_forward_destroy(tn_tq *tq);
void tn_forward_look(tn_tq *tq); /* is there anything to forward? */
/* The request that offers it to another host; the caller says home, ns, queue, type and done.  The task must outlive it. */
tn_mreq *tn_wtask_offer(const struct tn_wtask *task, tn_arena *arena);
/* moved.c */
/* The queue is lost: true when the task was so new that it is sent on, and owned by that. */
bool tn_moved_send_on(tn_tq *tq, struct tn_wtask *task);
void tn_moved_stop(tn_mloop *ml);
void tn_forward_cancel(tn_wpoll *poll);
void tn_forward_end_polls(tn_tq *tq);
bool tn_forward_query(tn_tq *tq, tn_mreq *req); /* true: it is on its way */
/* queries.c */
void tn_match_query(tn_mloop *ml, tn_mreq *req);
void tn_match_query_done(tn_mloop *ml, tn_mreq *req);
bool tn_match_hand_out_query(tn_tq *tq, tn_wpoll *poll); /* true: the poll was used */
void tn_query_refuse(tn_wquery *query, const tn_fault *fault);
void tn_query_send_on(tn_wquery *query);
/* those that workers have, of queues that are others' by now */
void tn_queries_send_on_lost(tn_mloop *ml);
/* shutdown.c */
void tn_match_cancel_worker(tn_mloop *ml, tn_mreq *req);
/* [loop] that host drains: they are answered empty */
void tn_match_end_polls_of(const uint8_t host_id[16]);
bool tn_worker_is_gone(tn_mloop *ml, const tn_mreq *poll);
void tn_gone_workers_done(tn_mloop *ml);
void tn_query_end(tn_wquery *query); /* its answer is in its request */
/* nexus.c */
void tn_match_nexus(tn_mloop *ml, tn_mreq *req);
void tn_match_nexus_done(tn_mloop *ml, tn_mreq *req);
bool tn_match_hand_out_nexus(tn_tq *tq, tn_wpoll *poll);
/* counts.c */
void tn_tq_hold_series(tn_tq *tq);
void tn_tq_count_match(tn_tq *tq, const tn_wtask *task, bool sync);
uint64_t tn_tq_number(const tn_tq *tq, tn_dyn_key key); /* from dynamic config, for this queue */
/* describe.c */
void tn_match_describe(tn_mloop *ml, tn_mreq *req);
/* adds the others' to req->response */
void tn_match_gather(tn_mloop *ml, tn_mreq *req, uint32_t partitions);
void tn_match_partitions(tn_mloop *ml, tn_mreq *req);
const char *tn_matching_host_name(void);
struct Temporal__Api__Taskqueue__V1__PollerInfo **tn_tq_pollers(const tn_tq *tq, tn_arena *arena,
                                                                size_t *out_count);
struct Temporal__Api__Taskqueue__V1__TaskQueueStats *tn_tq_stats(const tn_tq *tq, uint32_t priority,
                                                                 tn_arena *arena);
/* admin.c: what operators ask of a partition */
void tn_match_admin(tn_mloop *ml, tn_mreq *req);
/* versions.c: which of a queue's versions */
tn_tq *tn_tq_for_poll(tn_mloop *ml, const tn_mreq *req);
/* ADD, QUERY; NULL: not on this sticky queue any more */
tn_tq *tn_tq_for_task(tn_mloop *ml, const tn_mreq *req);
const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *tn_poll_options(const tn_mreq *req);
void tn_versions_changed(void); /* [loop] tasks that wait go where they belong now */
const tn_fault *tn_query_blackholed(tn_mloop *ml, const tn_mreq *req, const tn_tq *tq);
/* a poll's end */
void tn_wpoll_park(tn_wpoll *poll, bool first);
void tn_wpoll_unpark(tn_wpoll *poll);
void tn_wpoll_finish(tn_wpoll *poll, const tn_fault *fault);
bool tn_wpoll_usable(const tn_wpoll *poll);
tn_handout *tn_wpoll_handout(tn_wpoll *poll); /* to be filled in */

#endif
