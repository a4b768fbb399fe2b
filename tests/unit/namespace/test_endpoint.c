/* SPDX-License-Identifier: MIT */
/* Endpoints that another host has written (core/namespace/endpoint.c): its word is heard while an older answer of the store is
 * still on its way. */
#include "namespace/endpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/proto.h"
#include "store/store.h"
#include "../played.h"

static struct {
    int count;
    tn_store_op *held;
    int reads;
    bool hold;
} stored;

static void fill(tn_arena *arena, tn_page *page)
{
    page->rows = tn_arena_array(arena, (size_t)stored.count + 1, sizeof(tn_row));
    page->n_rows = 0;
    for (int i = 0; i < stored.count; i++) {
        Tenon__NexusEndpointRecord record = TENON__NEXUS_ENDPOINT_RECORD__INIT;
        tn_row *row = (tn_row *)(uintptr_t)&page->rows[page->n_rows++];
        record.id = record.name = tn_arena_printf(arena, "endpoint-%d", i);
        *row = (tn_row){.version = 1, .key.row = tn_blob_of_str(tn_str_from(record.id))};
        assert_int_equal(tn_proto_pack(&record.base, arena, &row->value), TN_OK);
    }
}

tn_status tn_store_scan_sync(tn_arena *arena, const tn_range *range, tn_page *out, tn_error *err)
{
    (void)range, (void)err;
    fill(arena, out);
    return TN_OK;
}

/* What it says is as old as the question, and arrives when the test likes. */
void tn_store_scan(tn_store_op *op)
{
    stored.reads++;
    op->status = TN_OK;
    fill(op->arena, &op->u.scan.page);
    if (stored.hold)
        stored.held = op;
    else
        op->done(op);
}

void tn_store_commit(tn_store_op *op) { fail_msg("commit %p", (void *)op); }

static size_t known(uint32_t loop)
{
    played_current = played_loops + loop;
    const tn_endpoints *list = tn_endpoints_acquire();
    size_t count = list->count;
    tn_endpoints_release(list);
    played_current = played_loops;
    return count;
}

static void a_word_while_an_older_answer_is_on_its_way_is_heard(void **state)
{
    (void)state;
    played_start();
    stored.count = 1;
    assert_int_equal(tn_endpoints_start(true, &(tn_error){0}), TN_OK);
    stored.hold = true;
    tn_endpoints_refresh();
    played_run();
    for (stored.count = 2; stored.count < 4; stored.count++) {
        tn_endpoints_refresh();
        played_run();
    }
    assert_int_equal(known(0), 1);
    stored.hold = false;
    stored.held->done(stored.held);
    played_pass(TN_SEC);
    assert_int_equal(known(0), 4);
    assert_int_equal(known(1), 4);
    assert_int_equal(stored.reads, 2);
    tn_endpoints_stop();
    tn_clock_override(NULL, NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_word_while_an_older_answer_is_on_its_way_is_heard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
