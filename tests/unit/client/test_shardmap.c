/* SPDX-License-Identifier: MIT */
/* Reading the shard map again (core/client/shardmap.c): whoever says that there is another one is heard, however soon after the
 * last read and while one is under way, and many that say so cost few reads. */
#include "client/shardmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proto/proto.h"
#include "tenon/store.pb-c.h"
#include "../played.h"

#define PARTITIONS 4u

static struct {
    uint32_t shards;
    uint64_t version;
    tn_store_op *held[8];
    size_t n_held, reads;
    bool hold, fails;
} stored;
static struct {
    uint32_t shards;
    uint64_t version;
} known;

uint32_t tn_client_partition_count(void) { return PARTITIONS; }

bool tn_client_set_shards(uint32_t count, uint64_t version)
{
    if (version <= known.version)
        return false;
    known.shards = count;
    known.version = version;
    return true;
}

static tn_status fill(tn_arena *arena, tn_row *row)
{
    Tenon__ShardMap map = TENON__SHARD_MAP__INIT;
    map.shards = stored.shards;
    map.version = stored.version;
    if (stored.fails)
        return TN_EUNAVAILABLE;
    if (!stored.version)
        return TN_ENOTFOUND;
    row->version = stored.version;
    return tn_proto_pack(&map.base, arena, &row->value);
}

tn_status tn_store_get_sync(tn_arena *arena, tn_key key, tn_row *out, tn_error *err)
{
    (void)key, (void)err;
    return fill(arena, out);
}

/* What it says is as old as the question, and arrives when the test likes. */
void tn_store_get(tn_store_op *op)
{
    stored.reads++;
    op->status = fill(op->arena, &op->u.get.row);
    if (stored.hold)
        stored.held[stored.n_held++] = op;
    else
        op->done(op);
}

void tn_store_scan(tn_store_op *op) { fail_msg("scan %p", (void *)op); }
void tn_store_commit(tn_store_op *op) { fail_msg("commit %p", (void *)op); }

static void arrives(void)
{
    size_t n = stored.n_held;
    stored.n_held = 0;
    for (size_t i = 0; i < n; i++)
        stored.held[i]->done(stored.held[i]);
    played_run();
}

static int set_up(void **state)
{
    (void)state;
    played_start();
    memset(&stored, 0, sizeof(stored));
    memset(&known, 0, sizeof(known));
    assert_int_equal(tn_shardmap_load_sync(&(tn_error){0}), TN_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tn_shardmap_stop();
    assert_int_equal(stored.n_held, 0);
    tn_heap_done(&played_timers);
    tn_clock_override(NULL, NULL);
    return 0;
}

static void changes(uint32_t shards)
{
    stored.shards = shards;
    stored.version++;
}

static void somebody_says_so(uint32_t loop)
{
    played_current = played_loops + loop;
    tn_shardmap_refresh();
    played_current = played_loops;
    played_run();
}

static void a_change_just_after_a_read_is_heard_of(void **state)
{
    (void)state;
    somebody_says_so(0);
    played_pass(TN_MS);
    changes(8);
    somebody_says_so(1);
    played_pass(TN_SEC);
    assert_int_equal(known.shards, 8);
}

static void a_change_while_an_older_answer_is_on_its_way_is_heard_of(void **state)
{
    (void)state;
    stored.hold = true;
    somebody_says_so(1);
    changes(8);
    somebody_says_so(0);
    played_pass(TN_SEC);
    stored.hold = false;
    arrives();
    played_pass(TN_SEC);
    assert_int_equal(known.shards, 8);
    assert_int_equal(stored.reads, 2);
}

static void many_that_say_so_cost_few_reads(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        somebody_says_so((uint32_t)i % PLAYED_LOOPS);
        played_pass(TN_MS);
    }
    assert_in_range(stored.reads, 5, 6);
    size_t before = stored.reads;
    played_pass(60 * TN_SEC);
    assert_in_range(stored.reads, before, before + 1);
}

static void a_read_that_failed_is_repeated(void **state)
{
    (void)state;
    stored.fails = true;
    changes(12);
    somebody_says_so(0);
    played_pass(10 * TN_SEC);
    assert_in_range(stored.reads, 5, 12);
    stored.fails = false;
    played_pass(2 * TN_SEC);
    assert_int_equal(known.shards, 12);
}

static void nobody_need_say_so_where_others_may_change_it(void **state)
{
    (void)state;
    tn_shardmap_watch();
    changes(16);
    played_pass(16 * TN_SEC);
    assert_int_equal(known.shards, 16);
    size_t before = stored.reads;
    played_pass(150 * TN_SEC);
    assert_in_range(stored.reads, before + 9, before + 11);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(a_change_just_after_a_read_is_heard_of),
        TEST(a_change_while_an_older_answer_is_on_its_way_is_heard_of),
        TEST(many_that_say_so_cost_few_reads),
        TEST(a_read_that_failed_is_repeated),
        TEST(nobody_need_say_so_where_others_may_change_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
