/* SPDX-License-Identifier: MIT */
/* A whole server in one thread, without clocks, sockets and disks: history, matching, client and worker are the
 * real ones; loops, store, visibility and namespaces are played here.  One seed decides everything. */
#ifndef TN_TESTS_SIM_H
#define TN_TESTS_SIM_H

#include "client/client.h"
#include "client/token.h"
#include "store/store.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

/* ---- what a seed switches on ---- */
typedef struct sim_mix {
    uint32_t loops, shards, clients, workers, ids;
    uint32_t partitions;     /* of task queues, not the sticky ones */
    uint32_t fault_permille; /* of store and visibility operations */
    uint32_t slow_permille;
    uint32_t crash_permille; /* of 10 ms steps of the world */
    uint32_t bad_worker_permille;
    bool late_writes, clock_steps, sticky, children, activities, queries, rival;
    uint32_t reshard_permille; /* of 10 ms steps: another number of shards is asked for */
    uint32_t lost_permille;    /* of tasks that are offered to matching */
    size_t cache_bytes;
    uint64_t busy_ns; /* how long the world makes work */
} sim_mix;
extern sim_mix mix;

/* ---- fake_loop.c: time, chance and the trace ---- */
extern uint64_t sim_now_ns; /* monotonic */
extern int64_t sim_wall_offset_ns;
extern uint64_t sim_hash;
extern tn_rng sim_rng;
void sim_loops_init(uint32_t count);
void sim_loops_crash(void);
bool sim_step(void); /* false: nothing will ever happen again */
void sim_run_for(uint64_t ns);
uint64_t sim_below(uint64_t bound);
bool sim_chance(uint32_t permille);
void sim_trace(const char *fmt, ...) TN_PRINTF(1, 2);
extern size_t sim_trace_lines; /* how many are shown with the first violation */
void sim_trace_dump(size_t lines);
void sim_violation(const char *rule, const char *fmt, ...) TN_PRINTF(2, 3);
extern unsigned sim_violations;
/* What happens later.  A task that ends with a process is dropped by a crash. */
typedef struct sim_event {
    tn_heap_node node;
    void (*fire)(struct sim_event *event);
} sim_event;
void sim_at(sim_event *event, uint64_t delay_ns, void (*fire)(sim_event *event));
void sim_cancel(sim_event *event);

/* Arenas that live, of this life of the process (the linker's --wrap). */
extern size_t sim_arenas;
tn_arena *__real_tn_arena_create(size_t bytes_max); /* one that is not counted */
void __real_tn_arena_destroy(tn_arena *arena);

/* ---- fake_store.c ---- */
typedef struct sim_row {
    uint8_t *key, *value; /* key: table, partition, row */
    size_t key_n, n;
    uint64_t version;
} sim_row;
void sim_store_init(void);
void sim_store_crash(void);
size_t sim_store_rows(const sim_row **out);
extern bool sim_faults; /* store and visibility may fail */
void sim_rival_start(void);
extern size_t sim_rival_taken;

/* ---- fake_vis.c ---- */
typedef struct sim_doc {
    char run_id[37], status[24];
    uint64_t version;
    bool removed;
} sim_doc;
void sim_vis_crash(void);
const sim_doc *sim_doc_of(const char *run_id);
size_t sim_docs_live(void);

/* ---- fake_ns.c ---- */
extern const tn_namespace sim_ns;

/* ---- world.c, worker.c: clients and workers ---- */
typedef struct sim_item { /* what the judge wants to know of an event */
    uint64_t hash;
    int32_t type;
    int64_t ref;          /* the scheduled, started or initiated event that it answers */
    int64_t time_ns, dur; /* of a timer: how long */
    int32_t number;       /* maximum attempts, parent close policy */
    char name[48];        /* activity id, timer id, request id of a signal */
    char run[37];         /* of a child, of the run that follows */
} sim_item;
typedef struct sim_run {
    char wid[24], run_id[37];
    sim_item *items;
    size_t n, cap, firm; /* the first `firm` may never change */
    bool acked;          /* someone was told of it */
    uint32_t decisions;
} sim_run;
typedef struct sim_ack { /* what a client or worker was told to be done */
    enum { ACK_SIGNAL, ACK_WFT, ACK_ACT } kind;
    char name[48], wid[24], run_id[37];
    int client, number;
    int64_t started, scheduled;
} sim_ack;
extern sim_run **sim_runs;
extern size_t sim_n_runs;
extern sim_ack *sim_acks;
extern size_t sim_n_acks;
extern bool sim_draining;
extern bool sim_closing; /* no new polls */
sim_run *sim_run_get(const char *wid, const char *run_id);
sim_ack *sim_ack_add(void);
/* Lays a reading (packed History body whose first event is `first`) over what is known. */
void sim_run_saw(sim_run *run, tn_blob body, bool truth);
void *sim_make(tn_arena *arena, const ProtobufCMessageDescriptor *type);
#define MAKE(arena, name) sim_make((arena), &temporal__api__##name##__descriptor)
ProtobufCMessage *sim_reply(tn_arena *arena, const ProtobufCMessage *response);
Google__Protobuf__Duration *sim_ms(tn_arena *arena, uint64_t ms);
void sim_world_start(void);
void sim_world_crash(void); /* calls in flight will not be answered */
void sim_world_resume(void);
void sim_workers_start(void);
void sim_workers_crash(void);
void sim_answer_poll(const tn_poll_ref *to, tn_arena *arena, uint32_t type,
                     ProtobufCMessage *answer);
void sim_workers_resume(void);
size_t sim_calls_open(void);
size_t sim_workers_open(void);
void sim_build_commands(
    tn_arena *arena, sim_run *run, int64_t until,
    Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *out);

/* ---- judge.c ---- */
void sim_judge_running(void); /* at any moment */
size_t sim_open_runs(void);   /* as the store has it */
void sim_judge_drained(void);
void sim_judge_retired(void);
void sim_judge_leaks(void);

#endif
