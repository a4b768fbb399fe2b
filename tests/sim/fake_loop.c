/* SPDX-License-Identifier: MIT */
/* The loop room, played: some loops in one thread, virtual time, one source of chance, and a trace of all that
 * happened.  Also what the real loops would wait with (sem_wait, usleep), and the kernel's randomness. */
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "config/dynconfig.h"
#include "rpc/rpc.h"
#include "sim.h"

#define LOOPS_MAX 8u
#define TRACE_LINES 256u
#define TRACE_BYTES 192u

struct tn_loop {
    uint32_t index;
    tn_msg *mail, **mail_end, *deferred, **deferred_end;
    tn_heap timers;
};

uint64_t sim_now_ns, sim_hash;
int64_t sim_wall_offset_ns;
tn_rng sim_rng;
size_t sim_arenas;
unsigned sim_violations;
size_t sim_trace_lines;
static struct tn_loop loops[LOOPS_MAX], *current;
static uint32_t loops_count;
static tn_heap events;
static char trace[TRACE_LINES][TRACE_BYTES];
static size_t traced;

/* ---- chance and trace ---- */

uint64_t sim_below(uint64_t bound) { return tn_rng_below(&sim_rng, bound); }
bool sim_chance(uint32_t permille) { return sim_below(1000) < permille; }

void sim_trace(const char *fmt, ...)
{
    char *line = trace[traced++ % TRACE_LINES];
    int at = snprintf(line, TRACE_BYTES, "%10.6f ", (double)sim_now_ns / 1e9);
    va_list args;
    va_start(args, fmt);
    vsnprintf(line + at, TRACE_BYTES - (size_t)at, fmt, args);
    va_end(args);
    sim_hash = tn_hash64_stable(tn_blob_from(&sim_hash, 8), tn_blob_of_str(tn_str_from(line)));
    if (getenv("SIM_TRACE"))
        fprintf(stderr, "%s\n", line);
}

void sim_trace_dump(size_t lines)
{
    size_t from = traced > lines ? traced - lines : 0;
    for (size_t i = traced - from > TRACE_LINES ? traced - TRACE_LINES : from; i < traced; i++)
        printf("    %s\n", trace[i % TRACE_LINES]);
}

void sim_violation(const char *rule, const char *fmt, ...)
{
    if (++sim_violations > 8)
        return;
    printf("  %s at %.3f s: ", rule, (double)sim_now_ns / 1e9);
    va_list args;
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n");
    if (sim_violations == 1)
        sim_trace_dump(sim_trace_lines);
}

/* ---- time ---- */

#define WALL_BEGIN_NS (UINT64_C(1750000000) * TN_SEC)
static uint64_t mono_clock(void) { return sim_now_ns; }
static uint64_t wall_clock(void)
{
    return WALL_BEGIN_NS + sim_now_ns + (uint64_t)sim_wall_offset_ns;
}

void sim_loops_init(uint32_t count)
{
    loops_count = count;
    sim_now_ns = 1000 * TN_SEC;
    tn_heap_init(&events);
    tn_clock_override(wall_clock, mono_clock);
    sim_loops_crash();
}

void sim_loops_crash(void)
{
    current = NULL;
    sim_arenas = 0;
    for (uint32_t i = 0; i < LOOPS_MAX; i++) {
        loops[i].index = i;
        loops[i].mail = loops[i].deferred = NULL;
        loops[i].mail_end = &loops[i].mail;
        loops[i].deferred_end = &loops[i].deferred;
        tn_heap_init(&loops[i].timers); /* the nodes are lost memory */
    }
}

/* ---- the room's functions ---- */

uint32_t tn_loops_count(void) { return loops_count; }
tn_loop *tn_loops_get(uint32_t index) { return &loops[index]; }
tn_loop *tn_loop_current(void) { return current; }
uint32_t tn_loop_index(const tn_loop *loop) { return loop->index; }

static void append(tn_msg ***end, tn_msg *msg)
{
    msg->next = NULL;
    **end = msg;
    *end = &msg->next;
}

static tn_msg *take(tn_msg **first, tn_msg ***end)
{
    tn_msg *msg = *first;
    if (msg && !(*first = msg->next))
        *end = first;
    return msg;
}

void tn_loop_post(tn_loop *loop, tn_msg *msg) { append(&loop->mail_end, msg); }
void tn_loop_defer(tn_msg *msg)
{
    TN_ASSERT(current);
    append(&current->deferred_end, msg);
}

static void end_of_turn(tn_loop *loop)
{
    for (tn_msg *msg; (msg = take(&loop->deferred, &loop->deferred_end));)
        msg->run(msg);
}

void tn_loop_call(tn_loop *loop, void (*fn)(void *arg), void *arg)
{
    tn_loop *before = current;
    current = loop;
    fn(arg);
    if (before != loop)
        end_of_turn(loop);
    current = before;
}

void tn_loop_timer_init(tn_loop_timer *timer, void (*fire)(tn_loop_timer *timer))
{
    *timer = (tn_loop_timer){.fire = fire};
}
void tn_loop_timer_start(tn_loop_timer *timer, uint64_t at)
{
    TN_ASSERT(current);
    tn_loop_timer_stop(timer);
    timer->loop = current;
    tn_heap_insert(&current->timers, &timer->node, at);
}
void tn_loop_timer_stop(tn_loop_timer *timer)
{
    if (tn_heap_linked(&timer->node))
        tn_heap_remove(&timer->loop->timers, &timer->node);
}

/* Nothing here blocks. */
tn_status tn_loop_offload(void (*work)(void *user), void (*done)(void *user), void *user)
{
    (void)work, (void)done, (void)user;
    return TN_EUNAVAILABLE;
}

void tn_loop_stats_get(tn_loop *loop, tn_loop_stats *out)
{
    (void)loop;
    *out = (tn_loop_stats){0};
}

/* ---- the world's own events ---- */

void sim_at(sim_event *event, uint64_t delay_ns, void (*fire)(sim_event *event))
{
    event->fire = fire;
    tn_heap_insert(&events, &event->node, sim_now_ns + delay_ns);
}
void sim_cancel(sim_event *event) { tn_heap_remove(&events, &event->node); }

static bool due(const tn_heap *heap)
{
    const tn_heap_node *node = tn_heap_min(heap);
    return node && node->key <= sim_now_ns;
}

static void turn(tn_loop *loop)
{
    current = loop;
    size_t messages = 1 + sim_below(8);
    for (tn_msg *msg; messages-- && (msg = take(&loop->mail, &loop->mail_end));)
        msg->run(msg);
    while (due(&loop->timers)) {
        tn_loop_timer *timer = TN_CONTAINER_OF(tn_heap_min(&loop->timers), tn_loop_timer, node);
        tn_heap_remove(&loop->timers, &timer->node);
        timer->fire(timer);
    }
    end_of_turn(loop);
    current = NULL;
    sim_now_ns += sim_below(20) * TN_US;
}

static bool sleep_till_next(void)
{
    const tn_heap_node *next = tn_heap_min(&events);
    for (uint32_t i = 0; i < loops_count; i++) {
        const tn_heap_node *timer = tn_heap_min(&loops[i].timers);
        if (timer && (!next || timer->key < next->key))
            next = timer;
    }
    if (!next)
        return false;
    if (next->key > sim_now_ns)
        sim_now_ns = next->key;
    return true;
}

bool sim_step(void)
{
    uint32_t ready[LOOPS_MAX], n = 0;
    for (uint32_t i = 0; i < loops_count; i++)
        if (loops[i].mail || due(&loops[i].timers))
            ready[n++] = i;
    bool world = due(&events);
    if (!n && !world)
        return sleep_till_next();
    if (world && (!n || sim_below(2))) {
        sim_event *event = TN_CONTAINER_OF(tn_heap_min(&events), sim_event, node);
        tn_heap_remove(&events, &event->node);
        event->fire(event);
    } else {
        turn(&loops[ready[sim_below(n)]]);
    }
    return true;
}

void sim_run_for(uint64_t ns)
{
    uint64_t until = sim_now_ns + ns;
    while (sim_now_ns < until && sim_step()) {
    }
    if (sim_now_ns < until)
        sim_now_ns = until;
}

/* ---- what the linker sends here ---- */

int __wrap_sem_wait(sem_t *sem);
int __wrap_usleep(useconds_t us);
ssize_t __wrap_getrandom(void *p, size_t n, unsigned flags);
int64_t __wrap_tn_dyn_task_i64(tn_dyn_key key, tn_str ns, tn_str task_queue, int32_t task_type);
int64_t __real_tn_dyn_task_i64(tn_dyn_key key, tn_str ns, tn_str task_queue, int32_t task_type);
tn_arena *__wrap_tn_arena_create(size_t bytes_max);
void __wrap_tn_arena_destroy(tn_arena *arena);
void __wrap_tn_arena_adopt(tn_arena *into, tn_arena *from);
void __real_tn_arena_adopt(tn_arena *into, tn_arena *from);

int __wrap_sem_wait(sem_t *sem)
{
    while (sem_trywait(sem) != 0)
        TN_ASSERT(sim_step());
    return 0;
}
int __wrap_usleep(useconds_t us)
{
    sim_run_for(us * TN_US);
    return 0;
}
/* Polls and tasks may be spread over different numbers of partitions while such a setting changes. */
int64_t __wrap_tn_dyn_task_i64(tn_dyn_key key, tn_str ns, tn_str task_queue, int32_t task_type)
{
    if (key == TN_DYN_MATCHING_READ_PARTITIONS)
        return mix.partitions;
    if (key == TN_DYN_MATCHING_WRITE_PARTITIONS)
        return mix.partitions > 1 && sim_now_ns / TN_SEC % 8 == 0 ? mix.partitions - 1
                                                                  : mix.partitions;
    return key == TN_DYN_MATCHING_FORWARD_CHILDREN
               ? 2
               : __real_tn_dyn_task_i64(key, ns, task_queue, task_type);
}
ssize_t __wrap_getrandom(void *p, size_t n, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)p)[i] = (uint8_t)tn_rng_next(&sim_rng);
    return (ssize_t)n;
}
tn_arena *__wrap_tn_arena_create(size_t bytes_max)
{
    sim_arenas++;
    return __real_tn_arena_create(bytes_max);
}
void __wrap_tn_arena_destroy(tn_arena *arena)
{
    sim_arenas -= arena != NULL;
    __real_tn_arena_destroy(arena);
}
void __wrap_tn_arena_adopt(tn_arena *into, tn_arena *from)
{
    sim_arenas--;
    __real_tn_arena_adopt(into, from);
}

/* ---- no RPC behind any call ---- */

bool tn_call_cancelled(const tn_call *call)
{
    (void)call;
    return false;
}
tn_str tn_call_header(const tn_call *call, const char *lower_case_name)
{
    (void)call, (void)lower_case_name;
    return (tn_str){NULL, 0};
}
void tn_call_reply(tn_call *call, const ProtobufCMessage *response) { (void)call, (void)response; }
void tn_call_fail(tn_call *call, const tn_fault *fault) { (void)call, (void)fault; }
