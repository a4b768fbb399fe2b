/* SPDX-License-Identifier: MIT */
/* Loops, their threads and mailboxes.
 *
 * One iteration of a loop: wait for events, run what they bring (mailbox, sockets, watches), run
 * due timers, then the end phase: the mailbox once more, all deferred messages, and the alarm for
 * the next timer.  The end phase is libuv's "prepare" step, the last thing before it waits again,
 * so nothing deferred ever lies while the loop sleeps. */
#include "loop/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop/internal.h"

#define LOOPS_MAX 64u
#define STACK_BYTES (1024u * 1024u)
#define MAILBOX_ROUNDS 4

struct tn_loop_early {
    void (*fn)(void *arg);
    void *arg;
    bool done;
};

static tn_loop *loops[LOOPS_MAX];
static uint32_t loops_count;
static bool gate_open, loops_joined;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_changed = PTHREAD_COND_INITIALIZER;
static _Thread_local tn_loop *current;

uint32_t tn_loops_count(void) { return loops_count; }

tn_loop *tn_loops_get(uint32_t index)
{
    TN_ASSERT(index < loops_count);
    return loops[index];
}

uint32_t tn_loop_index(const tn_loop *loop) { return loop->index; }
tn_loop *tn_loop_current(void) { return current; }

tn_loop *tn_loop_current_checked(void)
{
    TN_ASSERT(current);
    return current;
}

/* ---- mailbox ----
 *
 * Waking costs the sender a system call and the loop another, so it is done only for a loop that may
 * be waiting.  The loop says `asleep` and then looks into the mailbox once more; a sender puts its
 * message in and then looks at `asleep`: in the one order of these four steps (sequentially
 * consistent) at least one of the two sees the other.
 *
 * An eventfd of our own instead of uv_async: that one makes the receiver spin until the sender has
 * returned from its system call, and reads the descriptor each time.  Measured with one message
 * between two loops on 2 cores: 22 us of CPU and 4 system calls a hop with uv_async and libuv's
 * idle-time metric (which polls twice), 1 us and at most 2 system calls with this. */

static void wake_up(tn_loop *loop)
{
    uint64_t one = 1;
    ssize_t n = write(loop->wake_fd, &one, sizeof one);
    (void)n; /* full (2^64 - 2 writes) would mean readable all the same */
}

void tn_loop_post(tn_loop *loop, tn_msg *msg)
{
    tn_msg *head = atomic_load_explicit(&loop->mailbox, memory_order_relaxed);
    do
        msg->next = head;
    while (!atomic_compare_exchange_weak(&loop->mailbox, &head, msg));
    /* The loop itself looks into its mailbox before it waits. */
    if (!head && loop != current && atomic_load(&loop->asleep) &&
        atomic_exchange(&loop->asleep, false))
        wake_up(loop);
}

static void mailbox_run(tn_loop *loop)
{
    tn_msg *newest = atomic_exchange_explicit(&loop->mailbox, NULL, memory_order_acquire);
    tn_msg *oldest = NULL;
    while (newest) {
        tn_msg *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    uint64_t count = 0;
    while (oldest) {
        tn_msg *next = oldest->next; /* the message may be gone after run */
        oldest->run(oldest);
        oldest = next;
        count++;
    }
    if (count)
        atomic_fetch_add_explicit(&loop->messages, count, memory_order_relaxed);
}

void tn_loop_busy(tn_loop *loop)
{
    if (loop->busy_since_ns)
        return;
    loop->busy_since_ns = uv_hrtime();
    atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
}

/* With edge triggering every write wakes once and nothing has to be read.  libuv asks for level
 * triggering and leaves the registration alone afterwards, so it can be changed under it. */
static void try_edge(tn_loop *loop)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.fd = loop->wake_fd};
    loop->wake_edge = epoll_ctl(uv_backend_fd(&loop->uv), EPOLL_CTL_MOD, loop->wake_fd, &e) == 0;
}

static void on_wake(uv_poll_t *wake, int status, int events)
{
    tn_loop *loop = wake->data;
    (void)events;
    TN_ASSERT(status == 0);
    tn_loop_busy(loop);
    if (!loop->wake_edge) {
        uint64_t count;
        ssize_t n = read(loop->wake_fd, &count, sizeof count);
        (void)n;
        try_edge(loop);
    }
    mailbox_run(loop);
    if (atomic_load_explicit(&loop->stopping, memory_order_acquire))
        uv_stop(&loop->uv);
}

/* ---- end phase ---- */

void tn_loop_defer(tn_msg *msg)
{
    tn_loop *loop = tn_loop_current_checked();
    msg->next = NULL;
    *loop->deferred_tail = msg;
    loop->deferred_tail = &msg->next;
}

static void deferred_run(tn_loop *loop)
{
    while (loop->deferred) {
        tn_msg *msg = loop->deferred;
        loop->deferred = msg->next;
        if (!loop->deferred)
            loop->deferred_tail = &loop->deferred;
        msg->run(msg);
    }
}

static void no_op(uv_idle_t *idle) { (void)idle; }

static void account(tn_loop *loop)
{
    if (loop->busy_since_ns) {
        uint64_t hold = uv_hrtime() - loop->busy_since_ns;
        if (hold > atomic_load_explicit(&loop->hold_max_ns, memory_order_relaxed))
            atomic_store_explicit(&loop->hold_max_ns, hold, memory_order_relaxed);
        loop->busy_since_ns = 0;
    }
    if (loop->waiting)
        atomic_fetch_add_explicit(&loop->wakeups, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&loop->iterations, 1, memory_order_relaxed);
}

static void on_end_phase(uv_prepare_t *prepare)
{
    tn_loop *loop = prepare->data;
    tn_loop_busy(loop);
    /* Messages that messages post to their own loop still belong to what is ready now, within
     * reason. */
    for (int round = 0; round < MAILBOX_ROUNDS; round++) {
        if (!atomic_load_explicit(&loop->mailbox, memory_order_relaxed))
            break;
        mailbox_run(loop);
    }
    deferred_run(loop);
    tn_loop_timers_arm(loop);
    account(loop);
    /* Deferred work may have posted to its own loop: look at the sockets without waiting, then on. */
    atomic_store(&loop->asleep, true);
    bool wait = !atomic_load(&loop->mailbox);
    if (!wait)
        atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
    if (wait != loop->waiting) {
        if (wait)
            uv_idle_stop(&loop->no_wait);
        else
            uv_idle_start(&loop->no_wait, no_op);
        loop->waiting = wait;
    }
}

void tn_loop_stats_get(tn_loop *loop, tn_loop_stats *out)
{
    out->iterations = atomic_load_explicit(&loop->iterations, memory_order_relaxed);
    out->messages = atomic_load_explicit(&loop->messages, memory_order_relaxed);
    out->wakeups = atomic_load_explicit(&loop->wakeups, memory_order_relaxed);
    out->hold_max_ns = atomic_exchange_explicit(&loop->hold_max_ns, 0, memory_order_relaxed);
}

/* ---- threads ---- */

static void wait_for_gate(tn_loop *loop)
{
    pthread_mutex_lock(&gate);
    while (!gate_open) {
        struct tn_loop_early *early = loop->early;
        if (early) {
            pthread_mutex_unlock(&gate);
            early->fn(early->arg);
            pthread_mutex_lock(&gate);
            early->done = true;
            loop->early = NULL;
            pthread_cond_broadcast(&gate_changed);
        } else {
            pthread_cond_wait(&gate_changed, &gate);
        }
    }
    pthread_mutex_unlock(&gate);
}

/* Offloaded work is waited for, then what is still open is closed without a word.  The wake handle
 * stays until tn_loops_destroy: other threads may still post, to nobody. */
static void wind_up(tn_loop *loop)
{
    while (loop->offloads)
        uv_run(&loop->uv, UV_RUN_ONCE);
    mailbox_run(loop);
    deferred_run(loop);
    while (!tn_list_empty(&loop->handles)) {
        tn_loop_handle *h = TN_CONTAINER_OF(tn_list_first(&loop->handles), tn_loop_handle, link);
        tn_list_remove(&h->link);
        h->abandon(h);
    }
    uv_unref((uv_handle_t *)&loop->wake);
    uv_close((uv_handle_t *)&loop->end_phase, NULL);
    uv_close((uv_handle_t *)&loop->no_wait, NULL);
    uv_close((uv_handle_t *)&loop->alarm, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

static void *thread_main(void *arg)
{
    tn_loop *loop = arg;
    char name[16];
    snprintf(name, sizeof name, "tn-loop-%u", loop->index);
    pthread_setname_np(pthread_self(), name);
    current = loop;
    wait_for_gate(loop);
    /* A stop that came before the gate opened has its wake-up pending; uv_run handles it. */
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    TN_ASSERT(atomic_load_explicit(&loop->stopping, memory_order_acquire));
    wind_up(loop);
    current = NULL;
    return NULL;
}

static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, set, NULL);
}

static int loop_init(tn_loop *loop)
{
    int rc = uv_loop_init(&loop->uv);
    if (rc)
        return rc;
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = loop->wake_fd < 0 ? -errno : uv_poll_init(&loop->uv, &loop->wake, loop->wake_fd);
    if (rc) {
        if (loop->wake_fd >= 0)
            close(loop->wake_fd);
        uv_loop_close(&loop->uv);
        return rc;
    }
    uv_prepare_init(&loop->uv, &loop->end_phase);
    uv_idle_init(&loop->uv, &loop->no_wait);
    uv_timer_init(&loop->uv, &loop->alarm);
    loop->wake.data = loop->end_phase.data = loop->no_wait.data = loop->alarm.data = loop;
    uv_prepare_start(&loop->end_phase, on_end_phase);
    uv_poll_start(&loop->wake, UV_READABLE, on_wake);
    loop->waiting = true;
    loop->deferred_tail = &loop->deferred;
    tn_loop_timers_init(loop);
    tn_list_init(&loop->handles);
    loop->read_buf = tn_xmalloc(TN_LOOP_READ_BYTES);
    return 0;
}

static int loop_start(uint32_t index)
{
    tn_loop *loop = tn_xcalloc(1, sizeof *loop);
    loop->index = index;
    int rc = loop_init(loop);
    if (rc) {
        free(loop);
        return rc;
    }
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    loops[loops_count++] = loop;
    rc = pthread_create(&loop->thread, &attr, thread_main, loop);
    pthread_attr_destroy(&attr);
    if (rc) {
        loops_count--;
        uv_close((uv_handle_t *)&loop->wake, NULL);
        uv_close((uv_handle_t *)&loop->end_phase, NULL);
        uv_close((uv_handle_t *)&loop->no_wait, NULL);
        uv_close((uv_handle_t *)&loop->alarm, NULL);
        uv_run(&loop->uv, UV_RUN_DEFAULT);
        uv_loop_close(&loop->uv);
        close(loop->wake_fd);
        tn_heap_done(&loop->timers);
        free(loop->read_buf);
        free(loop);
        return -rc;
    }
    return 0;
}

tn_status tn_loops_create(uint32_t count, tn_error *err)
{
    TN_ASSERT(loops_count == 0);
    if (count < 1 || count > LOOPS_MAX)
        return tn_error_set(err, TN_EINVALID, "threads: has %u, wants 1 to %u", count, LOOPS_MAX);
    sigset_t set;
    block_signals(&set); /* before the threads, which inherit the mask */
    signal(SIGPIPE, SIG_IGN);
    gate_open = loops_joined = false;
    for (uint32_t i = 0; i < count; i++) {
        int rc = loop_start(i);
        if (rc) {
            tn_error_set(err, TN_EUNAVAILABLE, "cannot start event loop %u of %u: %s", i, count,
                         uv_strerror(rc));
            tn_loops_stop();
            tn_loops_destroy();
            return TN_EUNAVAILABLE;
        }
    }
    return TN_OK;
}

void tn_loops_run(void)
{
    pthread_mutex_lock(&gate);
    gate_open = true;
    pthread_cond_broadcast(&gate_changed);
    pthread_mutex_unlock(&gate);
}

void tn_loops_stop(void)
{
    if (loops_joined || !loops_count)
        return;
    for (uint32_t i = 0; i < loops_count; i++) {
        atomic_store_explicit(&loops[i]->stopping, true, memory_order_release);
        wake_up(loops[i]);
    }
    tn_loops_run(); /* those that never ran leave as well */
    for (uint32_t i = 0; i < loops_count; i++)
        pthread_join(loops[i]->thread, NULL);
    loops_joined = true;
}

void tn_loops_destroy(void)
{
    tn_loops_stop();
    for (uint32_t i = 0; i < loops_count; i++) {
        tn_loop *loop = loops[i];
        uv_ref((uv_handle_t *)&loop->wake);
        uv_close((uv_handle_t *)&loop->wake, NULL);
        uv_run(&loop->uv, UV_RUN_DEFAULT);
        TN_ASSERT(uv_loop_close(&loop->uv) == 0);
        close(loop->wake_fd);
        tn_heap_done(&loop->timers);
        free(loop->read_buf);
        free(loop);
        loops[i] = NULL;
    }
    loops_count = 0;
}

/* ---- calls from the main thread ---- */

struct call_msg {
    tn_msg msg;
    struct tn_loop_early call;
};

static void call_run(tn_msg *msg)
{
    struct call_msg *c = TN_CONTAINER_OF(msg, struct call_msg, msg);
    c->call.fn(c->call.arg);
    pthread_mutex_lock(&gate);
    c->call.done = true;
    pthread_cond_broadcast(&gate_changed);
    pthread_mutex_unlock(&gate);
}

void tn_loop_call(tn_loop *loop, void (*fn)(void *arg), void *arg)
{
    TN_ASSERT(!current);
    struct call_msg c = {.msg = {NULL, call_run}, .call = {fn, arg, false}};
    pthread_mutex_lock(&gate);
    TN_ASSERT(!loops_joined);
    if (gate_open) {
        pthread_mutex_unlock(&gate);
        tn_loop_post(loop, &c.msg);
        pthread_mutex_lock(&gate);
    } else {
        TN_ASSERT(!loop->early);
        loop->early = &c.call;
        pthread_cond_broadcast(&gate_changed);
    }
    while (!c.call.done)
        pthread_cond_wait(&gate_changed, &gate);
    pthread_mutex_unlock(&gate);
}

/* ---- signals ---- */

int tn_main_wait_signal(void)
{
    sigset_t set;
    block_signals(&set);
    int number = 0;
    while (sigwait(&set, &number) != 0) {
    }
    return number;
}

int tn_main_wait_signal_for(uint64_t ns)
{
    sigset_t set;
    block_signals(&set);
    struct timespec wait = {.tv_sec = (time_t)(ns / TN_SEC), .tv_nsec = (long)(ns % TN_SEC)};
    int number = sigtimedwait(&set, NULL, &wait);
    return number > 0 ? number : 0;
}

/* To the process, not to a thread: all threads block it, so only the waiting one takes it. */
void tn_main_wake(int as_signal)
{
    TN_ASSERT(as_signal == SIGTERM || as_signal == SIGINT || as_signal == SIGHUP);
    kill(getpid(), as_signal);
}
