/* SPDX-License-Identifier: MIT */
/* One seed after another, each in a process of its own: a world that works while the server fails and crashes, then
 * heals; then everything must come to its end.
 *
 *   sim [--seeds N] [--from S] [--lines N]    SIM_TRACE=1: everything to stderr */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/shardmap.h"
#include "history/history.h"
#include "client/remote.h"
#include "matching/matching.h"
#include "worker/worker.h"

#define STEP_NS (10 * TN_MS)
#define DRAIN_NS (1800 * TN_SEC)

sim_mix mix;
bool sim_closing;
static unsigned crashes;

static void mix_of(uint64_t seed)
{
    tn_rng_seed(&sim_rng, seed);
    mix = (sim_mix){
        .loops = 1 + (uint32_t)sim_below(3),
        .shards = 1 + (uint32_t)sim_below(4),
        .clients = 1 + (uint32_t)sim_below(5),
        .workers = 1 + (uint32_t)sim_below(5),
        .ids = 1 + (uint32_t)sim_below(6),
        .fault_permille = (uint32_t[]){0, 0, 10, 50, 200}[sim_below(5)],
        .slow_permille = (uint32_t[]){0, 10, 50}[sim_below(3)],
        .crash_permille = (uint32_t[]){0, 1, 2, 5, 20}[sim_below(5)],
        .bad_worker_permille = (uint32_t[]){0, 50, 300}[sim_below(3)],
        .late_writes = sim_below(2),
        .clock_steps = sim_below(4) == 0,
        .sticky = sim_below(2),
        .children = sim_below(4),
        .activities = sim_below(4),
        .queries = sim_below(2),
        .cache_bytes = (size_t[]){1u << 20, 1u << 26, 20000}[sim_below(3)],
        .busy_ns = (5 + sim_below(40)) * TN_SEC,
        .rival = sim_below(5) == 0,
        .partitions = sim_below(2) ? 1 : 2 + (uint32_t)sim_below(4),
        .reshard_permille = (uint32_t[]){0, 1, 5, 20}[sim_below(4)],
        .lost_permille = (uint32_t[]){0, 0, 20, 200}[sim_below(4)],
    };
}

/* ---- the server's process ---- */

static void drop_process(void)
{
    sim_world_crash();
    sim_workers_crash();
    sim_store_crash();
    sim_vis_crash();
    sim_loops_crash();
}

/* All is here, but that answers of polls may go the way they go between hosts. */
static const tn_member *here(uint32_t service, tn_blob key, bool *out_any)
{
    (void)service, (void)key;
    *out_any = true;
    return NULL;
}
static bool stays(uint32_t service, tn_blob key) { return (void)service, (void)key, false; }
static void lost(void) {}
static bool not_there(uint64_t poll_id) { return (void)poll_id, false; }

/* What history offers to matching may be lost on the way, as between hosts; nobody has refused it then. */
static void to_matching(tn_mreq *m)
{
    if (m->op != TN_MOP_ADD || !sim_faults || !sim_chance(mix.lost_permille)) {
        tn_matching_role_table()->submit(m);
        return;
    }
    m->accepted = false;
    m->fault = tn_fault_make(m->arena, TN_GRPC_DEADLINE_EXCEEDED, "lost");
    tn_client_matching_done(m);
}

static bool take_over(void)
{
    static const tn_matching_role matching = {.submit = to_matching};
    static const tn_client_net net = {.owner = here,
                                      .moved = stays,
                                      .lost = lost,
                                      .cancel_poll = not_there,
                                      .answer_poll = sim_answer_poll};
    tn_error err;
    tn_history_options options = {.cache_bytes_max = mix.cache_bytes, .owner = "sim"};
    tn_client_wire(tn_history_role_table(), &matching, tn_worker_role_table(), mix.shards);
    tn_client_use_net(&net);
    TN_ASSERT(tn_shardmap_load_sync(&err) == TN_OK);
    tn_shardmap_listen(tn_history_map_changed);
    tn_worker_start();
    tn_matching_start("sim");
    tn_status status = tn_history_start(&options, &err);
    sim_trace("taken over: %s", tn_status_name(status));
    return status == TN_OK;
}

static void boot(void)
{
    while (!take_over()) {
        drop_process();
        sim_run_for(sim_below(TN_SEC));
    }
}

static void stop_roles(void)
{
    tn_matching_stop();
    tn_worker_stop();
    tn_history_stop();
}

static void crash(void)
{
    bool planned = sim_below(8) == 0;
    sim_trace(planned ? "RESTART" : "CRASH");
    crashes++;
    if (planned)
        stop_roles();
    drop_process();
    sim_run_for(sim_below(4) ? sim_below(100 * TN_MS) : sim_below(20 * TN_SEC));
    boot();
    sim_world_resume();
    sim_workers_resume();
}

/* ---- another number of shards ---- */

static unsigned reshards;

static void resharded(tn_shardmap_change *change)
{
    reshards += !change->fault;
    sim_trace("%u shards are now %u: %s", change->before, change->shards,
              change->fault ? "no" : "yes");
    __real_tn_arena_destroy(change->arena);
}

typedef struct reshard_msg {
    tn_msg msg;
    tn_shardmap_change change;
} reshard_msg;

static void reshard_there(tn_msg *msg)
{
    tn_shardmap_change_to(&TN_CONTAINER_OF(msg, reshard_msg, msg)->change);
}

static void reshard(void)
{
    tn_arena *arena = __real_tn_arena_create(0);
    reshard_msg *m = TN_NEW(arena, reshard_msg);
    m->msg.run = reshard_there;
    m->change = (tn_shardmap_change){
        .arena = arena, .shards = mix.shards * (1 + (uint32_t)sim_below(4)), .done = resharded};
    tn_loop_post(tn_loops_get((uint32_t)sim_below(mix.loops)), &m->msg);
}

/* ---- a seed ---- */

static void work_for(uint64_t ns)
{
    for (uint64_t until = sim_now_ns + ns; sim_now_ns < until;) {
        sim_run_for(STEP_NS);
        if (sim_chance(mix.crash_permille))
            crash();
        if (mix.reshard_permille && sim_chance(mix.reshard_permille))
            reshard();
        if (mix.clock_steps && sim_chance(2)) {
            sim_wall_offset_ns += (int64_t)sim_below(200 * TN_SEC) - (int64_t)(100 * TN_SEC);
            sim_trace("the clock steps to %+lld", (long long)sim_wall_offset_ns);
        }
        if (sim_chance(10))
            sim_judge_running();
    }
}

static void drain(void)
{
    sim_trace("HEAL");
    sim_faults = false;
    sim_draining = true;
    uint64_t until = sim_now_ns + DRAIN_NS;
    while (sim_now_ns < until && sim_open_runs())
        sim_run_for(TN_SEC);
    sim_run_for(60 * TN_SEC); /* parents told, documents written, calls answered */
    sim_judge_drained();
    sim_closing = true;
    sim_run_for(90 * TN_SEC); /* polls have ended */
    if (sim_calls_open() || sim_workers_open())
        sim_violation("R12", "%zu calls of clients and %zu of workers were never answered",
                      sim_calls_open(), sim_workers_open());
}

static void run_seed(uint64_t seed)
{
    uint8_t warm;
    tn_rng_seed(&sim_rng, 1);
    (void)tn_hash64(tn_blob_from(&warm, 0)); /* the maps' seed */
    mix_of(seed);
    tn_token_set_key((const uint8_t[16]){1});
    sim_loops_init(mix.loops);
    sim_store_init();
    boot();
    sim_faults = true;
    sim_world_start();
    sim_workers_start();
    sim_rival_start();
    work_for(mix.busy_ns);
    drain();
    sim_trace("RETENTION");
    sim_wall_offset_ns += INT64_C(2) * 86400 * (int64_t)TN_SEC;
    sim_run_for(UINT64_C(7300) * TN_SEC);
    stop_roles();
    sim_run_for(TN_SEC);
    sim_judge_leaks();
    drop_process(); /* what a failed commit left in the outbox goes with the next life */
    boot();
    sim_run_for(5 * TN_SEC);
    stop_roles();
    sim_run_for(TN_SEC);
    sim_judge_leaks();
    sim_judge_retired();
}

/* A seed in a process of its own; false: it failed.  out: its hash and how much happened. */
typedef struct outcome {
    uint64_t hash;
    size_t runs, acks, taken;
    unsigned crashes, reshards;
    double seconds;
} outcome;

static bool try_seed(uint64_t seed, size_t lines, outcome *out)
{
    int fds[2];
    TN_ASSERT(pipe(fds) == 0);
    fflush(stdout);
    pid_t pid = fork();
    TN_ASSERT(pid >= 0);
    if (pid == 0) {
        alarm(120);
        sim_trace_lines = lines;
        run_seed(seed);
        outcome mine = {sim_hash,
                        sim_n_runs,
                        sim_n_acks,
                        sim_rival_taken,
                        crashes,
                        reshards,
                        (double)sim_now_ns / 1e9};
        bool sent = write(fds[1], &mine, sizeof(mine)) == sizeof(mine);
        fflush(stdout);
        _exit(sim_violations || !sent);
    }
    close(fds[1]);
    int status = 0;
    *out = (outcome){0};
    bool came = read(fds[0], out, sizeof(*out)) == sizeof(*out);
    close(fds[0]);
    TN_ASSERT(waitpid(pid, &status, 0) == pid);
    if (WIFSIGNALED(status))
        printf("  ended by signal %d\n", WTERMSIG(status));
    return came && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
    int64_t seeds = 200, from = 1, lines = 40;
    for (int i = 1; i + 1 < argc; i += 2) {
        int64_t *to = strcmp(argv[i], "--seeds") == 0  ? &seeds
                      : strcmp(argv[i], "--from") == 0 ? &from
                                                       : &lines;
        if (!tn_parse_i64(tn_str_from(argv[i + 1]), to))
            return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    size_t passed = 0, failed = 0, runs = 0, acks = 0, taken = 0, killed = 0, changed = 0;
    double seconds = 0;
    tn_log_configure(getenv("SIM_LOG") ? TN_LOG_WARN : TN_LOG_NEVER, false);
    for (int64_t seed = from; seed < from + seeds; seed++) {
        outcome first, second;
        bool ok = try_seed((uint64_t)seed, (size_t)lines, &first);
        if (ok && seed % 10 == 0 &&
            (!try_seed((uint64_t)seed, 0, &second) || second.hash != first.hash)) {
            printf("  the same seed went two ways\n");
            ok = false;
        }
        if (!ok)
            printf("not ok: %s --from %lld --seeds 1\n", argv[0], (long long)seed);
        ok ? passed++ : failed++;
        runs += first.runs, acks += first.acks, taken += first.taken, killed += first.crashes,
            changed += first.reshards, seconds += first.seconds;
    }
    printf("%zu runs, %zu acknowledged calls, %zu crashes, %zu shards taken by the rival, %zu "
           "changes of the number of shards, %.0f simulated hours\n",
           runs, acks, killed, taken, changed, seconds / 3600);
    printf("sim: %zu passed, %zu failed\n", passed, failed);
    return failed != 0;
}
