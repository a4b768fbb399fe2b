/* SPDX-License-Identifier: MIT */
/* A backlog by itself: which task is next.  Priorities strictly, fairness keys by their weights, rates of keys, and
 * random backlogs against a plain model; judged by order, never by time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "matching/backlog.h"

#define NOW (100 * TN_SEC)

static tn_backlog backlog;
static int64_t made; /* ids in order of coming */

static int setup(void **state)
{
    (void)state;
    tn_backlog_init(&backlog);
    made = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tn_backlog_done(&backlog);
    return 0;
}

static void add_weighted(int32_t priority, const char *key, float weight, size_t n)
{
    const tn_task_priority p = {
        .key = priority, .fairness_key = tn_str_from(key), .fairness_weight = weight};
    for (size_t i = 0; i < n; i++) {
        tn_mreq req = {.workflow_id = TN_STR("w"), .expire_mono_ns = UINT64_MAX};
        req.priority = priority || *key || weight > 0 ? &p : NULL;
        req.task.scheduled_id = ++made;
        req.task.created_mono_ns = NOW + (uint64_t)made;
        tn_backlog_add(&backlog, tn_backlog_task(&req));
    }
}

static void add(int32_t priority, const char *key, size_t n) { add_weighted(priority, key, 0, n); }

/* The next task's id; 0: none may go. */
static int64_t take_at(uint64_t now, char out_key[65])
{
    uint64_t until;
    tn_wtask *task = tn_backlog_next(&backlog, now, &until);
    if (!task)
        return 0;
    int64_t id = task->ref.scheduled_id;
    if (out_key)
        (void)snprintf(out_key, 65, "%s", tn_wtask_fairness_key(task).p);
    tn_backlog_take(&backlog, task, now, true);
    tn_backlog_task_free(task);
    return id;
}

static int64_t take(void) { return take_at(NOW, NULL); }

/* The keys of the next n, a letter each, '-' for none. */
static const char *keys_of(size_t n)
{
    static char out[256];
    char key[65];
    assert_true(n < sizeof(out));
    for (size_t i = 0; i < n; i++)
        out[i] = !take_at(NOW, key) ? '.' : *key ? *key : '-';
    out[n] = '\0';
    return out;
}

static void plain_tasks_come_in_order(void **state)
{
    (void)state;
    add(0, "", 3);
    assert_null(backlog.ranks);
    for (int64_t i = 1; i <= 3; i++)
        assert_int_equal(take(), i);
    assert_int_equal(take(), 0);
    assert_int_equal(backlog.count, 0);
}

static void lower_keys_go_first(void **state)
{
    (void)state;
    static const int32_t keys[] = {5, 3, 1, 0, 4, 2, 9}; /* 0 is 3, 9 is 5 */
    static const int64_t order[] = {3, 6, 2, 4, 5, 1, 7};
    for (size_t i = 0; i < TN_COUNT_OF(keys); i++)
        add(keys[i], "", 1);
    for (size_t i = 0; i < TN_COUNT_OF(order); i++)
        assert_int_equal(take(), order[i]);
    assert_int_equal(take(), 0);
}

static void tasks_that_were_there_before_keep_their_order(void **state)
{
    (void)state;
    add(0, "", 3);
    add(1, "", 1);
    assert_non_null(backlog.ranks);
    static const int64_t order[] = {4, 1, 2, 3};
    for (size_t i = 0; i < TN_COUNT_OF(order); i++)
        assert_int_equal(take(), order[i]);
}

static void keys_take_turns(void **state)
{
    (void)state;
    add(0, "a", 100);
    add(0, "b", 3);
    add(0, "", 3);
    size_t of_a = 0;
    const char *first =
        keys_of(9); /* a flood of one key keeps nobody waiting for longer than a turn */
    for (size_t i = 0; i < 9; i++)
        of_a += first[i] == 'a';
    assert_int_equal(of_a, 3);
    assert_string_equal(keys_of(3), "aaa");
}

static size_t count_of(const char *keys, char key)
{
    size_t n = 0;
    for (; *keys; keys++)
        n += *keys == key;
    return n;
}

static void keys_share_by_weight(void **state)
{
    (void)state;
    add_weighted(0, "a", 1, 200);
    add_weighted(0, "b", 3, 200);
    add_weighted(0, "c", 0.5f, 200);
    const char *keys = keys_of(90);
    assert_in_range(count_of(keys, 'a'), 19, 21);
    assert_in_range(count_of(keys, 'b'), 58, 62);
    assert_in_range(count_of(keys, 'c'), 9, 11);
}

static void an_operators_weight_wins(void **state)
{
    (void)state;
    static const tn_fair_weight weights[] = {{{"a", 1}, 4}, {{"zz", 2}, 9}};
    const tn_fair_rules rules = {.key_rate = -1, .weights = weights, .n_weights = 2};
    tn_backlog_set_rules(&backlog, &rules, NOW);
    add_weighted(0, "a", 0.001f, 100);
    add_weighted(0, "b", 1, 100);
    assert_in_range(count_of(keys_of(50), 'a'), 39, 41);
}

/* One that comes with a single task each time has its share, not more: it is remembered while it has none. */
static void a_key_that_comes_and_goes_does_not_jump_the_line(void **state)
{
    (void)state;
    char key[65];
    size_t of_b = 0;
    add_weighted(0, "a", 1, 300);
    for (int i = 0; i < 200; i++) {
        if (tn_backlog_count(&backlog, 0) <= 300 - (size_t)i + of_b)
            add_weighted(0, "b", 0.25f, 1);
        assert_true(take_at(NOW, key) > 0);
        of_b += *key == 'b';
    }
    assert_in_range(of_b, 35, 45);
}

static void a_key_waits_for_its_rate_and_others_go_on(void **state)
{
    (void)state;
    char key[65];
    uint64_t until;
    const tn_fair_rules rules = {.key_rate = 2};
    tn_backlog_set_rules(&backlog, &rules, NOW);
    add(1, "a", 5);
    add(5, "b", 1);
    assert_string_equal(keys_of(3), "aab"); /* a lower priority goes while the higher may not */
    assert_null(tn_backlog_next(&backlog, NOW, &until));
    assert_true(until > NOW && until <= NOW + TN_SEC);
    assert_true(take_at(until, key) > 0);
    assert_string_equal(key, "a");
    assert_int_equal(take_at(until, NULL), 0);
    tn_backlog_set_rules(&backlog, NULL, NOW);
    assert_string_equal(keys_of(3), "aa.");
}

static void a_rate_is_scaled_by_weight_and_nought_stops(void **state)
{
    (void)state;
    const tn_fair_rules rules = {.key_rate = 2}, none = {.key_rate = 0};
    tn_backlog_set_rules(&backlog, &rules, NOW);
    add_weighted(0, "a", 2, 10);
    add_weighted(0, "b", 1, 10);
    const char *keys = keys_of(10);
    assert_int_equal(count_of(keys, 'a'), 4);
    assert_int_equal(count_of(keys, 'b'), 2);
    tn_backlog_set_rules(&backlog, &none, NOW);
    (void)take_at(NOW + 2 * TN_SEC, NULL); /* what was due counts as the first */
    (void)take_at(NOW + 2 * TN_SEC, NULL);
    assert_int_equal(take_at(NOW + 1000 * TN_SEC, NULL), 0);
    tn_backlog_set_rules(&backlog, NULL, NOW);
    assert_true(take() > 0);
}

static void what_is_put_back_is_next(void **state)
{
    (void)state;
    uint64_t until;
    add(2, "a", 3);
    tn_wtask *task = tn_backlog_next(&backlog, NOW, &until);
    tn_backlog_take(&backlog, task, NOW, true);
    tn_backlog_put_back(&backlog, task);
    for (int64_t i = 1; i <= 3; i++)
        assert_int_equal(take(), i);
}

static void it_is_counted_by_priority(void **state)
{
    (void)state;
    add(0, "", 2);
    assert_int_equal(tn_backlog_count(&backlog, TN_PRIORITY_DEFAULT), 2);
    assert_int_equal(tn_backlog_count(&backlog, 1), 0);
    add(1, "k", 1);
    assert_int_equal(tn_backlog_count(&backlog, 0), 3);
    assert_int_equal(tn_backlog_count(&backlog, 1), 1);
    assert_int_equal(tn_backlog_oldest_ns(&backlog, 1), NOW + 3);
    assert_int_equal(tn_backlog_oldest_ns(&backlog, 0), NOW + 1);
    assert_int_equal(tn_backlog_head_ns(&backlog), NOW + 1);
    assert_true(tn_backlog_oldest_ns(&backlog, 5) == UINT64_MAX);
}

static void an_empty_one_becomes_plain_again(void **state)
{
    (void)state;
    add(1, "a", 2);
    (void)keys_of(2);
    assert_non_null(backlog.ranks);
    tn_backlog_rest(&backlog, NOW + TN_SEC);
    assert_null(backlog.ranks);
    add(0, "", 1);
    assert_null(backlog.ranks);
    assert_int_equal(take(), 3);
}

static void idle_keys_are_bounded(void **state)
{
    (void)state;
    char name[32];
    for (unsigned i = 0; i < 3 * TN_FAIR_KEYS_IDLE_MAX; i++) {
        (void)snprintf(name, sizeof(name), "tenant-%u", i);
        add_weighted(0, name, 0.001f, 1);
        assert_true(take() > 0);
    }
    tn_backlog_rest(&backlog, NOW);
    assert_null(backlog.ranks);
}

/* Whatever comes and goes: none is lost, none comes twice, priorities hold, and each key keeps its own order. */
static void random_backlogs_keep_the_rules(void **state)
{
    (void)state;
    static const char *const keys[] = {"", "a", "b", "c"};
    unsigned seed = 7;
    int64_t last[TN_PRIORITIES + 1][4] = {{0}};
    size_t waiting[TN_PRIORITIES + 1] = {0}, taken = 0;
    for (int step = 0; step < 20000; step++) {
        if (rand_r(&seed) % 5 < 3) {
            uint32_t priority = 1 + (uint32_t)rand_r(&seed) % TN_PRIORITIES;
            add_weighted((int32_t)priority, keys[rand_r(&seed) % 4],
                         (float)(1 + rand_r(&seed) % 8) / 4, 1);
            waiting[priority]++;
            continue;
        }
        uint64_t until;
        tn_wtask *task = tn_backlog_next(&backlog, NOW, &until);
        if (!task)
            continue;
        for (uint32_t higher = 1; higher < task->priority; higher++)
            assert_int_equal(waiting[higher], 0);
        size_t k = 0;
        while (!tn_str_is(tn_wtask_fairness_key(task), keys[k]))
            k++;
        assert_true(task->ref.scheduled_id > last[task->priority][k]);
        last[task->priority][k] = task->ref.scheduled_id;
        waiting[task->priority]--;
        taken++;
        tn_backlog_take(&backlog, task, NOW, true);
        tn_backlog_task_free(task);
    }
    assert_int_equal(backlog.count + taken, (size_t)made);
    while (take())
        taken++;
    assert_int_equal(taken, (size_t)made);
}

static int64_t seen[16];
static size_t n_seen, see_most;

static bool see(void *user, const tn_wtask *task)
{
    assert_ptr_equal(user, seen);
    seen[n_seen++] = task->ref.scheduled_id;
    return n_seen < see_most;
}

static void see_all(size_t most)
{
    n_seen = 0;
    see_most = most;
    tn_backlog_each(&backlog, see, seen);
}

static void all_are_seen_and_none_is_taken(void **state)
{
    (void)state;
    see_all(16);
    assert_int_equal(n_seen, 0);
    add(0, "", 3);
    see_all(16);
    assert_int_equal(n_seen, 3);
    assert_true(seen[0] == 1 && seen[1] == 2 && seen[2] == 3);
    add(1, "", 2);  /* 4, 5: before the others */
    add(5, "k", 2); /* 6, 7: after them */
    see_all(16);
    assert_int_equal(n_seen, 7);
    assert_true(seen[0] == 4 && seen[1] == 5 && seen[2] == 1 && seen[5] == 6 && seen[6] == 7);
    see_all(3); /* enough */
    assert_int_equal(n_seen, 3);
    assert_int_equal(backlog.count, 7);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(plain_tasks_come_in_order),
        CASE(lower_keys_go_first),
        CASE(tasks_that_were_there_before_keep_their_order),
        CASE(keys_take_turns),
        CASE(keys_share_by_weight),
        CASE(an_operators_weight_wins),
        CASE(a_key_that_comes_and_goes_does_not_jump_the_line),
        CASE(a_key_waits_for_its_rate_and_others_go_on),
        CASE(a_rate_is_scaled_by_weight_and_nought_stops),
        CASE(what_is_put_back_is_next),
        CASE(it_is_counted_by_priority),
        CASE(an_empty_one_becomes_plain_again),
        CASE(idle_keys_are_bounded),
        CASE(random_backlogs_keep_the_rules),
        CASE(all_are_seen_and_none_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
