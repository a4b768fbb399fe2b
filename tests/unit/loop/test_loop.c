/* SPDX-License-Identifier: MIT */
/* Loops: mailboxes, the end phase, timers, watches, offload, signals, start and stop. */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "loop/loop.h"

static void start_loops(uint32_t count)
{
    tn_error err = {0};
    assert_int_equal(tn_loops_create(count, &err), TN_OK);
    tn_loops_run();
}

/* ---- posts ---- */
enum { SENDERS = 4, POSTS = 20000 };

struct numbered {
    tn_msg msg;
    uint32_t sender, number;
};

static struct numbered *all_posts;
static uint32_t next_number[2][SENDERS]; /* [loop][sender], touched on that loop only */
static uint32_t arrived[2], out_of_order[2];
static sem_t all_arrived;

static void numbered_run(tn_msg *msg)
{
    struct numbered *m = TN_CONTAINER_OF(msg, struct numbered, msg);
    uint32_t at = tn_loop_index(tn_loop_current());
    if (m->number < next_number[at][m->sender])
        out_of_order[at]++;
    next_number[at][m->sender] = m->number + 1;
    if (++arrived[at] == SENDERS * POSTS / 2)
        sem_post(&all_arrived);
}

static void *sender_main(void *arg)
{
    uint32_t sender = (uint32_t)(uintptr_t)arg;
    for (uint32_t i = 0; i < POSTS; i++) {
        struct numbered *m = &all_posts[sender * POSTS + i];
        *m = (struct numbered){{NULL, numbered_run}, sender, i};
        tn_loop_post(tn_loops_get(i % 2), &m->msg);
    }
    return NULL;
}

static void posts_of_many_threads_arrive_in_order(void **state)
{
    (void)state;
    all_posts = tn_xcalloc(SENDERS * POSTS, sizeof *all_posts);
    sem_init(&all_arrived, 0, 0);
    start_loops(2);
    pthread_t threads[SENDERS];
    for (uintptr_t i = 0; i < SENDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sender_main, (void *)i), 0);
    for (size_t i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    sem_wait(&all_arrived);
    sem_wait(&all_arrived);
    tn_loop_stats stats;
    tn_loop_stats_get(tn_loops_get(0), &stats);
    assert_true(stats.iterations > 0);
    tn_loops_stop();
    tn_loop_stats_get(tn_loops_get(0), &stats);
    assert_int_equal(stats.messages, SENDERS * POSTS / 2);
    tn_loops_destroy();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(arrived[i], SENDERS * POSTS / 2);
        assert_int_equal(out_of_order[i], 0);
    }
    free(all_posts);
}

/* ---- one message between two loops: a wake-up that got lost would leave it lying ---- */
enum { HOPS = 20000 };
static uint32_t hops; /* the message's: whoever runs it */
static sem_t hops_done;
static void hop(tn_msg *msg)
{
    if (++hops == HOPS)
        sem_post(&hops_done);
    else
        tn_loop_post(tn_loops_get(hops % 2), msg);
}
static void no_wake_up_is_lost(void **state)
{
    (void)state;
    tn_msg msg = {.run = hop};
    sem_init(&hops_done, 0, 0);
    hops = 0;
    start_loops(2);
    tn_loop_post(tn_loops_get(0), &msg);
    sem_wait(&hops_done);
    tn_loops_destroy();
    assert_int_equal(hops, HOPS);
}

/* ---- the end phase ---- */
static char order[64];
static sem_t defer_done;
static tn_msg msg_a, msg_m, msg_d1, msg_d2, msg_last;

static void note(const char *what)
{
    snprintf(order + strlen(order), sizeof order - strlen(order), "%s ", what);
}
static void run_d2(tn_msg *msg)
{
    (void)msg;
    note("d2");
}
static void run_last(tn_msg *msg)
{
    (void)msg;
    note("last");
    sem_post(&defer_done);
}
static void run_d1(tn_msg *msg)
{
    (void)msg;
    note("d1");
    tn_loop_post(tn_loop_current(), &msg_last);
    tn_loop_defer(&msg_d2);
}
static void run_m(tn_msg *msg)
{
    (void)msg;
    note("m");
}
static void run_a(tn_msg *msg)
{
    (void)msg;
    note("a");
    tn_loop_defer(&msg_d1);
    tn_loop_post(tn_loop_current(), &msg_m);
}

static void deferred_runs_last_and_never_waits(void **state)
{
    (void)state;
    order[0] = 0;
    sem_init(&defer_done, 0, 0);
    msg_a.run = run_a, msg_m.run = run_m, msg_d1.run = run_d1, msg_d2.run = run_d2,
    msg_last.run = run_last;
    start_loops(1);
    tn_loop_post(tn_loops_get(0), &msg_a);
    sem_wait(
        &defer_done); /* nothing else wakes the loop: would hang if deferred work waited for it */
    tn_loops_destroy();
    assert_string_equal(order, "a m d1 d2 last ");
}

/* ---- timers ---- */
enum { TIMERS = 300 };
struct timed {
    tn_loop_timer timer;
    uint64_t at;
    bool fired;
};
static struct timed timed[TIMERS];
static uint64_t last_key;
static int early, unordered, left;
static uint64_t late_max;
static sem_t timers_done;

static void timed_fire(tn_loop_timer *timer)
{
    struct timed *t = TN_CONTAINER_OF(timer, struct timed, timer);
    uint64_t now = tn_now_mono_ns();
    early += now < t->at;
    unordered += t->at < last_key;
    late_max = now - t->at > late_max ? now - t->at : late_max;
    last_key = t->at;
    t->fired = true;
    if (--left == 0)
        sem_post(&timers_done);
}

static void timers_start(void *arg)
{
    (void)arg;
    tn_rng rng;
    tn_rng_seed(&rng, 11);
    uint64_t now = tn_now_mono_ns();
    left = TIMERS;
    for (size_t i = 0; i < TIMERS; i++) {
        tn_loop_timer_init(&timed[i].timer, timed_fire);
        tn_loop_timer_start(&timed[i].timer, now + 3600 * TN_SEC);
        timed[i].at = now + 10 * TN_MS + tn_rng_below(&rng, 80 * TN_MS);
        if (i % 10 == 0) {
            tn_loop_timer_stop(&timed[i].timer);
            assert_false(tn_loop_timer_active(&timed[i].timer));
            tn_loop_timer_stop(&timed[i].timer);
            left--;
        } else {
            tn_loop_timer_start(&timed[i].timer, timed[i].at);
            assert_true(tn_loop_timer_active(&timed[i].timer));
        }
    }
}

static void timers_fire_in_order_and_never_early(void **state)
{
    (void)state;
    sem_init(&timers_done, 0, 0);
    last_key = 0, early = unordered = 0, late_max = 0;
    start_loops(1);
    tn_loop_call(tn_loops_get(0), timers_start, NULL);
    sem_wait(&timers_done);
    tn_loops_destroy();
    assert_int_equal(early, 0);
    assert_int_equal(unordered, 0);
    for (size_t i = 0; i < TIMERS; i++)
        assert_int_equal(timed[i].fired, i % 10 != 0);
    print_message("latest timer: %llu us\n", (unsigned long long)(late_max / 1000));
}

static int restarts;
static void restart_fire(tn_loop_timer *timer)
{
    if (++restarts < 50)
        tn_loop_timer_start(timer, 1); /* long past: must not keep the loop from its other work */
    else
        sem_post(&timers_done);
}
static void restart_start(void *arg)
{
    tn_loop_timer *timer = arg;
    tn_loop_timer_init(timer, restart_fire);
    tn_loop_timer_start(timer, tn_now_mono_ns());
}

static void a_timer_may_restart_itself(void **state)
{
    (void)state;
    static tn_loop_timer timer;
    restarts = 0;
    start_loops(1);
    tn_loop_call(tn_loops_get(0), restart_start, &timer);
    sem_wait(&timers_done);
    tn_loops_destroy();
    assert_int_equal(restarts, 50);
}

static _Atomic uint64_t fake_now;
static uint64_t fake_mono(void) { return fake_now; }
static _Atomic uint64_t fired_at;
static void fake_fire(tn_loop_timer *timer)
{
    (void)timer;
    fired_at = tn_now_mono_ns();
    sem_post(&timers_done);
}
static void fake_start(void *arg)
{
    tn_loop_timer *timer = arg;
    tn_loop_timer_init(timer, fake_fire);
    tn_loop_timer_start(timer, 1000 * TN_MS);
}
static void timers_obey_the_replaced_clock(void **state)
{
    (void)state;
    static tn_loop_timer timer;
    fake_now = 999 * TN_MS;
    fired_at = 0;
    tn_clock_override(NULL, fake_mono);
    start_loops(1);
    tn_loop_call(tn_loops_get(0), fake_start, &timer);
    /* The machine's clock passes the time; the replaced one stands one nanosecond before it. */
    fake_now = 1000 * TN_MS - 1;
    usleep(10000);
    assert_int_equal(fired_at, 0);
    fake_now = 1000 * TN_MS;
    sem_wait(&timers_done);
    assert_int_equal(fired_at, 1000 * TN_MS);
    tn_loops_destroy();
    tn_clock_override(NULL, NULL);
}

/* ---- idle, calls, offload, watch ---- */
static void nothing(void *arg) { (void)arg; }

static void an_idle_loop_sleeps(void **state)
{
    (void)state;
    start_loops(2);
    tn_loop_stats before, after;
    tn_loop_call(tn_loops_get(0), nothing, NULL);
    usleep(50000); /* lets the iteration of that call end */
    tn_loop_stats_get(tn_loops_get(0), &before);
    usleep(300000);
    tn_loop_stats_get(tn_loops_get(0), &after);
    assert_int_equal(after.iterations, before.iterations);
    tn_loops_destroy();
}

static void note_thread(void *arg) { *(tn_loop **)arg = tn_loop_current(); }

static void calls_work_before_and_after_the_start(void **state)
{
    (void)state;
    tn_error err;
    tn_loop *seen = NULL;
    assert_int_equal(tn_loops_create(0, &err), TN_EINVALID);
    assert_int_equal(tn_loops_create(65, &err), TN_EINVALID);
    assert_int_equal(tn_loops_create(3, &err), TN_OK);
    assert_int_equal(tn_loops_count(), 3);
    tn_loop_call(tn_loops_get(2), note_thread, &seen);
    assert_ptr_equal(seen, tn_loops_get(2));
    tn_loops_run();
    tn_loop_call(tn_loops_get(1), note_thread, &seen);
    assert_ptr_equal(seen, tn_loops_get(1));
    assert_null(tn_loop_current());
    tn_loops_destroy();
    assert_int_equal(tn_loops_create(1, &err), TN_OK); /* never run */
    tn_loops_destroy();
}

struct job {
    tn_loop *worked_on, *done_on;
    sem_t done;
};
static void job_work(void *user) { ((struct job *)user)->worked_on = tn_loop_current(); }
static void job_done(void *user)
{
    struct job *job = user;
    job->done_on = tn_loop_current();
    sem_post(&job->done);
}
static void job_start(void *arg)
{
    assert_int_equal(tn_loop_offload(job_work, job_done, arg), TN_OK);
}

static void offload_returns_to_its_loop(void **state)
{
    (void)state;
    struct job job = {.worked_on = (tn_loop *)&job};
    sem_init(&job.done, 0, 0);
    start_loops(2);
    tn_loop_call(tn_loops_get(1), job_start, &job);
    sem_wait(&job.done);
    assert_null(job.worked_on);
    assert_ptr_equal(job.done_on, tn_loops_get(1));
    tn_loop_call(tn_loops_get(0), job_start, &job); /* still on its way when the loops stop */
    tn_loops_destroy();
    assert_int_equal(sem_trywait(&job.done), 0);
}

struct watched {
    int fds[2];
    tn_loop_watch *watch;
    char got[8];
    sem_t done;
};
static void watched_ready(void *user, uint32_t events)
{
    struct watched *w = user;
    assert_int_equal(events, TN_WATCH_READ);
    assert_int_equal(read(w->fds[0], w->got, sizeof w->got), 3);
    tn_loop_watch_destroy(w->watch);
    sem_post(&w->done);
}
static void watched_start(void *arg)
{
    struct watched *w = arg;
    w->watch = tn_loop_watch_create(w->fds[0], 0, watched_ready, w);
    assert_non_null(w->watch);
    tn_loop_watch_set(w->watch, TN_WATCH_READ);
    assert_null(tn_loop_watch_create(w->fds[0], TN_WATCH_READ, watched_ready, w));
}
static void a_watch_tells_and_may_be_left(void **state)
{
    (void)state;
    struct watched w = {0}, left_open = {0};
    sem_init(&w.done, 0, 0);
    assert_int_equal(pipe(w.fds), 0);
    assert_int_equal(pipe(left_open.fds), 0);
    start_loops(1);
    tn_loop_call(tn_loops_get(0), watched_start, &w);
    tn_loop_call(tn_loops_get(0), watched_start, &left_open);
    assert_int_equal(write(w.fds[1], "abc", 3), 3);
    sem_wait(&w.done);
    assert_memory_equal(w.got, "abc", 3);
    tn_loops_destroy();
    for (int i = 0; i < 2; i++) {
        close(w.fds[i]);
        close(left_open.fds[i]);
    }
}

static void signals_reach_the_main_thread_only(void **state)
{
    (void)state;
    start_loops(2);
    tn_main_wake(SIGHUP);
    assert_int_equal(tn_main_wait_signal(), SIGHUP);
    kill(getpid(), SIGTERM);
    assert_int_equal(tn_main_wait_signal(), SIGTERM);
    tn_loops_destroy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_of_many_threads_arrive_in_order),
        cmocka_unit_test(no_wake_up_is_lost),
        cmocka_unit_test(deferred_runs_last_and_never_waits),
        cmocka_unit_test(timers_fire_in_order_and_never_early),
        cmocka_unit_test(a_timer_may_restart_itself),
        cmocka_unit_test(timers_obey_the_replaced_clock),
        cmocka_unit_test(an_idle_loop_sleeps),
        cmocka_unit_test(calls_work_before_and_after_the_start),
        cmocka_unit_test(offload_returns_to_its_loop),
        cmocka_unit_test(a_watch_tells_and_may_be_left),
        cmocka_unit_test(signals_reach_the_main_thread_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
