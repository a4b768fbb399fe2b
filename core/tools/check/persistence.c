/* SPDX-License-Identifier: MIT */
/* The contract of a persistence plugin as cases that any driver must pass. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/check/kit.h"

#define T 5u /* a table like any other */

static bool is_text(tn_blob b, const char *s) { return tn_blob_eq(b, kit_text(s)); }

static void check_value(tn_key key, const char *value)
{
    tn_row row;
    tn_status status = kit_get(key, &row);
    if (!value) {
        KIT_EQUAL(status, TN_ENOTFOUND);
        return;
    }
    KIT_EQUAL(status, TN_OK);
    KIT_CHECK(is_text(row.value, value));
    KIT_CHECK(row.version > 0);
}

/* ---- conditions and groups ---------------------------------------------------------------------- */

static void put_get_delete(void)
{
    kit_open();
    tn_key a = kit_key(T, "p", "a");
    check_value(a, NULL);
    kit_put(a, "one");
    check_value(a, "one");
    kit_put(a, "two");
    check_value(a, "two");
    kit_delete(a);
    check_value(a, NULL);
    kit_delete(a); /* a row that is not there: nothing */
    check_value(kit_key(T, "q", "a"), NULL);
    check_value(kit_key(T + 1, "p", "a"), NULL);
    kit_close();
}

static tn_status commit_if(uint32_t test, tn_key key, uint64_t version, const char *value,
                           tn_commit *out)
{
    tn_store_batch batch = kit_batch();
    tn_store_batch_cond(&batch, test, key, version);
    tn_store_batch_put(&batch, key, kit_text(value));
    return kit_commit(&batch, out);
}

static void conditions(void)
{
    kit_open();
    tn_key a = kit_key(T, "p", "a");
    tn_commit out;
    KIT_EQUAL(commit_if(TN_COND_VERSION, a, 7, "x", &out), TN_ECONFLICT);
    KIT_EQUAL(out.failed_cond, 0);
    KIT_EQUAL(out.current.version, 0);
    KIT_EQUAL(commit_if(TN_COND_ABSENT, a, 0, "one", &out), TN_OK);
    uint64_t first = out.version;
    KIT_CHECK(first > 0);
    KIT_EQUAL(commit_if(TN_COND_ABSENT, a, 0, "x", &out), TN_ECONFLICT);
    KIT_EQUAL(out.current.version, first);
    KIT_CHECK(is_text(out.current.value, "one"));
    KIT_EQUAL(commit_if(TN_COND_VERSION, a, first, "two", &out), TN_OK);
    KIT_CHECK(out.version > first);
    KIT_EQUAL(commit_if(TN_COND_VERSION, a, first, "x", &out), TN_ECONFLICT);
    KIT_CHECK(is_text(out.current.value, "two"));
    check_value(a, "two");
    kit_delete(a);
    KIT_EQUAL(commit_if(TN_COND_VERSION, a, out.current.version, "x", &out), TN_ECONFLICT);
    KIT_EQUAL(out.current.version, 0);
    check_value(a, NULL);
    kit_close();
}

static void fence_wins(void)
{
    kit_open();
    tn_key fence = kit_key(2, "p", ""), a = kit_key(T, "p", "a");
    uint64_t owner = kit_put(fence, "me");
    kit_put(a, "there");
    tn_store_batch batch = kit_batch();
    tn_commit out;
    tn_store_batch_cond(&batch, TN_COND_ABSENT, a, 0);            /* fails */
    tn_store_batch_cond(&batch, TN_COND_FENCE, fence, owner + 1); /* fails, and wins */
    tn_store_batch_put(&batch, a, kit_text("x"));
    KIT_EQUAL(kit_commit(&batch, &out), TN_EFENCED);
    KIT_EQUAL(out.failed_cond, 1);
    KIT_EQUAL(commit_if(TN_COND_FENCE, kit_key(2, "nobody", ""), 1, "x", &out), TN_EFENCED);
    check_value(a, "there");
    KIT_EQUAL(commit_if(TN_COND_FENCE, fence, owner, "me again", &out), TN_OK);
    kit_close();
}

static void group_members_fail_alone(void)
{
    kit_open();
    tn_key a = kit_key(T, "p", "a"), b = kit_key(T, "p", "b"), c = kit_key(T, "p", "c");
    tn_store_op ops[4] = {0};
    tn_store_batch batches[4];
    for (int i = 0; i < 4; i++)
        batches[i] = kit_batch();
    tn_store_batch_cond(&batches[0], TN_COND_ABSENT, a, 0);
    tn_store_batch_put(&batches[0], a, kit_text("first"));
    tn_store_batch_cond(&batches[1], TN_COND_ABSENT, a, 0); /* sees member 0: fails with its row */
    tn_store_batch_put(&batches[1], a, kit_text("second"));
    tn_store_batch_put(&batches[1], b, kit_text("never"));
    tn_store_batch_put(&batches[2], c, kit_text("third"));
    tn_store_batch_delete(&batches[3], a);
    tn_store_batch_put(&batches[3], c, kit_text("fourth"));
    for (int i = 0; i < 4; i++)
        ops[i].u.commit.batch = tn_store_batch_finish(&batches[i]);
    kit_commit_group(ops, 4);
    KIT_EQUAL(ops[0].status, TN_OK);
    KIT_EQUAL(ops[1].status, TN_ECONFLICT);
    KIT_EQUAL(ops[1].u.commit.commit.current.version, ops[0].u.commit.commit.version);
    KIT_CHECK(is_text(ops[1].u.commit.commit.current.value, "first"));
    KIT_EQUAL(ops[2].status, TN_OK);
    KIT_EQUAL(ops[3].status, TN_OK);
    KIT_CHECK(ops[0].u.commit.commit.version < ops[2].u.commit.commit.version);
    KIT_CHECK(ops[2].u.commit.commit.version < ops[3].u.commit.commit.version);
    check_value(a, NULL);
    check_value(b, NULL);
    check_value(c, "fourth");
    kit_close();
}

static void versions_rise(void)
{
    uint64_t last = 0;
    for (int round = 0; round < 3; round++) {
        kit_open();
        for (int i = 0; i < 50; i++) {
            tn_key key = kit_key(T, "p", i % 2 ? "a" : "b");
            uint64_t version = kit_put(key, "v");
            KIT_CHECK(version > last);
            last = version;
            tn_row row;
            KIT_EQUAL(kit_get(key, &row), TN_OK);
            KIT_EQUAL(row.version, version);
            if (i % 10 == 9)
                kit_delete(key); /* gone, yet its version is not given again */
        }
        kit_close();
    }
}

static void batch_order(void)
{
    kit_open();
    kit_put(kit_key(T, "p", "a"), "old");
    kit_put(kit_key(T, "p", "b"), "old");
    kit_put(kit_key(T, "p", "d"), "old");
    tn_store_batch batch = kit_batch();
    tn_store_batch_put(&batch, kit_key(T, "p", "a1"), kit_text("new"));
    tn_store_batch_delete_range(&batch, kit_key(T, "p", "a"), kit_text("c")); /* a, a1, b */
    tn_store_batch_put(&batch, kit_key(T, "p", "b"), kit_text("after"));
    tn_store_batch_put(&batch, kit_key(T, "p", "d"), kit_text("twice"));
    tn_store_batch_put(&batch, kit_key(T, "p", "d"), kit_text("thrice"));
    tn_store_batch_put(&batch, kit_key(T, "p", "e"), kit_text("x"));
    tn_store_batch_delete(&batch, kit_key(T, "p", "e"));
    KIT_EQUAL(kit_commit(&batch, NULL), TN_OK);
    check_value(kit_key(T, "p", "a"), NULL);
    check_value(kit_key(T, "p", "a1"), NULL);
    check_value(kit_key(T, "p", "b"), "after");
    check_value(kit_key(T, "p", "d"), "thrice");
    check_value(kit_key(T, "p", "e"), NULL);
    kit_close();
}

static void refuses_nonsense(void)
{
    kit_open();
    tn_commit out;
    tn_row row;
    uint8_t *big = tn_xcalloc(1, ((size_t)64 << 20) + 1);
    KIT_EQUAL(kit_get(kit_key(0, "p", "a"), &row), TN_EINVALID);
    KIT_EQUAL(kit_get(kit_key(64, "p", "a"), &row), TN_EINVALID);
    KIT_EQUAL(kit_get(kit_key(T, "", "a"), &row), TN_EINVALID);
    KIT_EQUAL(kit_get(kit_key_bytes(T, "p", big, 1101), &row), TN_EINVALID);
    KIT_EQUAL(commit_if(99, kit_key(T, "p", "a"), 0, "x", &out), TN_EINVALID);
    tn_store_batch batch = kit_batch();
    tn_store_batch_put(&batch, kit_key(T, "p", "fine"), kit_text("x"));
    tn_store_batch_put(&batch, kit_key_bytes(T, "p", big, 1101), kit_text("x"));
    KIT_EQUAL(kit_commit(&batch, &out), TN_EINVALID);
    check_value(kit_key(T, "p", "fine"), NULL); /* all or nothing */
    batch = kit_batch();
    tn_store_batch_put(&batch, kit_key(T, "p", "fine"), kit_text("x"));
    tn_store_batch_put(&batch, kit_key(T, "p", "big"), tn_blob_from(big, ((size_t)64 << 20) + 1));
    KIT_EQUAL(kit_commit(&batch, &out), TN_ETOOLARGE);
    check_value(kit_key(T, "p", "fine"), NULL);
    tn_range range = {.struct_size = sizeof range, .from = kit_key(T, "p", ""), .limit = 0};
    tn_page page;
    KIT_EQUAL(kit_scan(&range, &page), TN_EINVALID);
    range.limit = 10001;
    KIT_EQUAL(kit_scan(&range, &page), TN_EINVALID);
    range.limit = 5;
    range.page = kit_text("\xff not a token");
    KIT_EQUAL(kit_scan(&range, &page), TN_EINVALID);
    free(big);
    kit_close();
}

static void edges_of_sizes(void)
{
    uint8_t row[1100];
    memset(row, 0xff, sizeof row);
    size_t big_n = (size_t)8 << 20;
    uint8_t *big = tn_xmalloc(big_n);
    for (size_t i = 0; i < big_n; i++)
        big[i] = (uint8_t)(i * 2654435761u >> 13);
    for (int round = 0; round < 2; round++) {
        kit_open();
        tn_row got;
        if (round == 0) {
            tn_store_batch batch = kit_batch();
            tn_store_batch_put(&batch, kit_key(T, "p", ""), kit_text(""));
            tn_store_batch_put(&batch, kit_key_bytes(T, "p", row, sizeof row), kit_text("longest"));
            KIT_EQUAL(kit_commit(&batch, NULL), TN_OK);
            batch = kit_batch();
            tn_store_batch_put(
                &batch,
                kit_key(63, "0123456789012345678901234567890123456789012345678901234567890123",
                        "r"),
                tn_blob_from(big, big_n));
            KIT_EQUAL(kit_commit(&batch, NULL), TN_OK);
        }
        check_value(kit_key(T, "p", ""), "");
        check_value(kit_key_bytes(T, "p", row, sizeof row), "longest");
        KIT_EQUAL(
            kit_get(kit_key(63, "0123456789012345678901234567890123456789012345678901234567890123",
                            "r"),
                    &got),
            TN_OK);
        KIT_EQUAL(got.value.n, big_n);
        KIT_CHECK(memcmp(got.value.p, big, big_n) == 0);
        tn_range range = {.struct_size = sizeof range, .from = kit_key(T, "p", ""), .limit = 1};
        tn_page page;
        KIT_EQUAL(kit_scan(&range, &page), TN_OK);
        KIT_EQUAL(page.n_rows, 1);
        KIT_EQUAL(page.rows[0].key.row.n, 0);
        KIT_CHECK(page.next.n > 0);
        range.page = page.next;
        KIT_EQUAL(kit_scan(&range, &page), TN_OK);
        KIT_EQUAL(page.n_rows, 1);
        KIT_EQUAL(page.rows[0].key.row.n, sizeof row);
        KIT_EQUAL(page.next.n, 0);
        kit_close();
    }
    free(big);
}

/* ---- scans -------------------------------------------------------------------------------------- */

/* All rows of a range, page by page, as "row=value row=value"; keys only: "row row". */
static char *scan_text(tn_range range)
{
    tn_buf text = {0};
    tn_page page;
    range.struct_size = sizeof range;
    do {
        KIT_EQUAL(kit_scan(&range, &page), TN_OK);
        KIT_CHECK(page.n_rows <= range.limit);
        KIT_CHECK(page.n_rows > 0 || page.next.n == 0);
        for (size_t i = 0; i < page.n_rows; i++) {
            const tn_row *row = &page.rows[i];
            KIT_CHECK(row->version > 0);
            KIT_EQUAL(row->key.table, range.from.table);
            KIT_CHECK(tn_blob_eq(row->key.partition, range.from.partition));
            tn_buf_put(&text, row->key.row.p, row->key.row.n);
            if (!(range.flags & TN_RANGE_KEYS_ONLY)) {
                tn_buf_put_u8(&text, '=');
                tn_buf_put(&text, row->value.p, row->value.n);
            }
            tn_buf_put_u8(&text, ' ');
        }
        range.page = page.next;
    } while (page.next.n);
    tn_buf_put_u8(&text, 0);
    char *copy = tn_arena_strdup(kit_arena(), (char *)text.p);
    tn_buf_done(&text);
    return copy;
}

#define CHECK_SCAN(range, want) \
    do { \
        const char *kit_got = scan_text(range); \
        if (strcmp(kit_got, want) != 0) \
            kit_fail(__FILE__, __LINE__, "scan gave \"%s\", wanted \"%s\"", kit_got, want); \
    } while (0)

static void scan_orders(void)
{
    static const char *const rows[] = {"b", "a", "ab", "c", "aa", "ba"};
    for (int round = 0; round < 2; round++) { /* from memory; from what a reopened store has */
        kit_open();
        for (size_t i = 0; round == 0 && i < TN_COUNT_OF(rows); i++)
            kit_put(kit_key(T, "p", rows[i]), rows[i]);
        if (round == 0) {
            kit_put(kit_key(T, "pp", "a"), "other");
            kit_put(kit_key(T, "o", "z"), "other");
            kit_put(kit_key(T + 1, "p", "a"), "other");
            kit_put(kit_key(T - 1, "p", "z"), "other");
        }
        for (uint32_t limit = 1; limit < 8; limit++) {
            tn_range all = {.from = kit_key(T, "p", ""), .limit = limit};
            CHECK_SCAN(all, "a=a aa=aa ab=ab b=b ba=ba c=c ");
            all.flags = TN_RANGE_REVERSE;
            CHECK_SCAN(all, "c=c ba=ba b=b ab=ab aa=aa a=a ");
            all.flags = TN_RANGE_KEYS_ONLY;
            CHECK_SCAN(all, "a aa ab b ba c ");
            tn_range part = {
                .from = kit_key(T, "p", "aa"), .to_row = kit_text("ba"), .limit = limit};
            CHECK_SCAN(part, "aa=aa ab=ab b=b ");
            part.flags = TN_RANGE_REVERSE | TN_RANGE_KEYS_ONLY;
            CHECK_SCAN(part, "b ab aa ");
            tn_range none = {.from = kit_key(T, "p", "c"), .to_row = kit_text("b"), .limit = limit};
            CHECK_SCAN(none, "");
            tn_range bytes = {.from = kit_key(T, "p", ""), .limit = 100, .bytes_max = limit};
            CHECK_SCAN(bytes, "a=a aa=aa ab=ab b=b ba=ba c=c ");
        }
        tn_range bytes = {
            .struct_size = sizeof bytes, .from = kit_key(T, "p", ""), .limit = 100, .bytes_max = 1};
        tn_page page;
        KIT_EQUAL(kit_scan(&bytes, &page), TN_OK);
        KIT_EQUAL(page.n_rows, 1);
        kit_close();
    }
}

static void paging_under_writes(void)
{
    kit_open();
    char name[16];
    for (int i = 0; i < 200; i += 2) {
        snprintf(name, sizeof name, "%03d", i);
        kit_put(kit_key(T, "p", name), "stable");
    }
    for (uint32_t flags = 0; flags <= TN_RANGE_REVERSE; flags += TN_RANGE_REVERSE) {
        tn_range range = {
            .struct_size = sizeof range, .flags = flags, .from = kit_key(T, "p", ""), .limit = 7};
        tn_page page;
        int stable = 0, last = flags ? 1000 : -1, step = 0;
        do {
            KIT_EQUAL(kit_scan(&range, &page), TN_OK);
            for (size_t i = 0; i < page.n_rows; i++) {
                int n = atoi(tn_arena_printf(kit_arena(), TN_STR_FMT,
                                             TN_STR_ARG(tn_str_of_blob(page.rows[i].key.row))));
                KIT_CHECK(flags ? n < last : n > last);
                last = n;
                stable += n % 2 == 0;
            }
            range.page = page.next;
            snprintf(name, sizeof name, "%03d",
                     (step * 37) % 200 | 1); /* come and go between pages */
            kit_put(kit_key(T, "p", name), "guest");
            snprintf(name, sizeof name, "%03d", (step * 53) % 200 | 1);
            kit_delete(kit_key(T, "p", name));
            if (page.n_rows && step == 3) /* the last row of the page goes: the token still holds */
                kit_delete((tn_key){.table = T,
                                    .partition = kit_text("p"),
                                    .row = page.rows[page.n_rows - 1].key.row});
            step++;
        } while (page.next.n);
        KIT_CHECK(stable >= 99 - (flags ? 1 : 0));
    }
    kit_close();
}

static void range_delete(void)
{
    for (int round = 0; round < 2; round++) {
        kit_open();
        char name[16];
        for (int i = 0; round == 0 && i < 300; i++) {
            snprintf(name, sizeof name, "%03d", i);
            kit_put(kit_key(T, "p", name), "v");
            kit_put(kit_key(T, "q", name), "v");
        }
        if (round == 1) {
            tn_store_batch batch = kit_batch();
            tn_store_batch_delete_range(&batch, kit_key(T, "p", "005"), kit_text("298"));
            KIT_EQUAL(kit_commit(&batch, NULL), TN_OK);
            batch = kit_batch(); /* another partition: not every driver commits both at once */
            tn_store_batch_delete_range(&batch, kit_key(T, "q", "100"),
                                        kit_text("050")); /* empty */
            KIT_EQUAL(kit_commit(&batch, NULL), TN_OK);
            CHECK_SCAN(
                ((tn_range){.from = kit_key(T, "p", ""), .limit = 3, .flags = TN_RANGE_KEYS_ONLY}),
                "000 001 002 003 004 298 299 ");
            check_value(kit_key(T, "q", "075"), "v");
        }
        kit_close();
    }
    kit_open();
    CHECK_SCAN(((tn_range){.from = kit_key(T, "p", ""), .limit = 100, .flags = TN_RANGE_KEYS_ONLY}),
               "000 001 002 003 004 298 299 ");
    kit_close();
}

/* ---- durability --------------------------------------------------------------------------------- */

static void reopen_keeps(void)
{
    for (int round = 0; round < 4; round++) {
        kit_open();
        for (int i = 0; i < round * 10; i++)
            check_value(kit_key(T, "p", tn_arena_printf(kit_arena(), "%d", i)),
                        i % 10 == 9 ? NULL : tn_arena_printf(kit_arena(), "value %d", i));
        for (int i = round * 10; i < round * 10 + 10; i++)
            kit_put(kit_key(T, "p", tn_arena_printf(kit_arena(), "%d", i)),
                    tn_arena_printf(kit_arena(), "value %d", i));
        kit_delete(kit_key(T, "p", tn_arena_printf(kit_arena(), "%d", round * 10 + 9)));
        kit_close();
    }
}

/* The writer: numbers rise, each acknowledged one goes down the pipe. */
static void write_until_killed(int fd, uint32_t from)
{
    kit_open();
    for (uint32_t i = from;; i++) {
        tn_arena *scratch = tn_arena_create(0);
        tn_store_batch batch;
        tn_store_batch_init(&batch, scratch);
        char *value = tn_arena_printf(scratch, "%0*u", (int)(8 + i % 700), i);
        tn_store_batch_put(&batch,
                           tn_store_key(scratch, T, i % 3 + 1, tn_store_row_u64(scratch, i)),
                           kit_text(value));
        tn_store_batch_put(&batch, tn_store_key(scratch, T, i % 3 + 1, kit_text("last")),
                           kit_text(value));
        tn_batch b = tn_store_batch_finish(&batch);
        if (tn_store_commit_sync(scratch, &b, NULL, NULL) != TN_OK)
            _exit(1);
        if (write(fd, &i, sizeof i) != sizeof i)
            _exit(1);
        tn_arena_destroy(scratch);
    }
}

static void killed_child_loses_nothing(void)
{
    static bool known[20000]; /* acknowledged; the last one of a round may or may not be there */
    uint32_t acked = 0;
    for (int round = 0; round < 12; round++) {
        int fds[2];
        KIT_CHECK(pipe(fds) == 0);
        pid_t pid = fork();
        KIT_CHECK(pid >= 0);
        if (pid == 0) {
            close(fds[0]);
            write_until_killed(fds[1], acked + 1);
            _exit(1);
        }
        close(fds[1]);
        uint32_t number, want = (uint32_t)tn_rng_below(kit_rng(), 400) + 20, got = 0;
        while (got < want && read(fds[0], &number, sizeof number) == sizeof number) {
            KIT_CHECK(number < TN_COUNT_OF(known));
            known[acked = number] = true;
            got++;
        }
        kill(pid, SIGKILL);
        while (read(fds[0], &number, sizeof number) == sizeof number)
            known[acked = number] = true;
        close(fds[0]);
        waitpid(pid, NULL, 0);
        KIT_EQUAL(got, want);
        /* Looked at in a child as well: the next writer is forked from a process without threads. */
        pid = fork();
        if (pid == 0) {
            kit_open();
            tn_row row;
            for (uint32_t i = 1; i <= acked; i++) {
                tn_arena *scratch = tn_arena_create(0);
                tn_status status = tn_store_get_sync(
                    scratch, tn_store_key(scratch, T, i % 3 + 1, tn_store_row_u64(scratch, i)),
                    &row, NULL);
                bool there = status == TN_OK && row.value.n == 8 + i % 700;
                if (!there && (known[i] || status != TN_ENOTFOUND))
                    kit_fail(__FILE__, __LINE__, "row %u of %u acknowledged: %s", i, acked,
                             tn_status_name(status));
                tn_arena_destroy(scratch);
            }
            kit_close();
            _exit(0);
        }
        int status = 0;
        waitpid(pid, &status, 0);
        KIT_EQUAL(status, 0);
        acked++; /* the one in flight may have been committed: its number is not used again */
    }
}

/* ---- races -------------------------------------------------------------------------------------- */

#define RACERS 16
typedef struct racer {
    tn_store_op op;
    tn_arena *arena;
    uint64_t wins, fenced, version;
    int rounds;
} racer;
static _Atomic int racers_left;
static pthread_mutex_t race_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t race_wake = PTHREAD_COND_INITIALIZER;

static void race_step(racer *r)
{
    tn_arena_reset(r->arena);
    tn_store_batch batch;
    tn_store_batch_init(&batch, r->arena);
    tn_key fence = tn_store_key(r->arena, 2, 1, (tn_blob){0});
    tn_store_batch_cond(&batch, TN_COND_FENCE, fence, r->version);
    tn_store_batch_put(&batch, fence, kit_text("mine"));
    tn_store_batch_put(&batch, tn_store_key(r->arena, T, 1, tn_store_row_u64(r->arena, r->version)),
                       kit_text("x"));
    r->op.u.commit.batch = tn_store_batch_finish(&batch);
    tn_store_commit(&r->op);
}

static void race_read(tn_store_op *op);
static void race_done(tn_store_op *op)
{
    racer *r = op->user;
    if (op->status == TN_OK)
        r->wins++;
    else if (op->status == TN_EFENCED)
        r->fenced++;
    else
        kit_fail(__FILE__, __LINE__, "race: %s %s", tn_status_name(op->status), op->error.text);
    if (--r->rounds > 0) {
        tn_arena_reset(r->arena);
        op->done = race_read;
        op->u.get.key = tn_store_key(r->arena, 2, 1, (tn_blob){0});
        tn_store_get(op);
        return;
    }
    pthread_mutex_lock(&race_lock);
    racers_left--;
    pthread_cond_signal(&race_wake);
    pthread_mutex_unlock(&race_lock);
}

static void race_read(tn_store_op *op)
{
    racer *r = op->user;
    KIT_EQUAL(op->status, TN_OK);
    r->version = op->u.get.row.version;
    op->done = race_done;
    race_step(r);
}

static void race_begin(void *arg)
{
    racer *r = arg;
    race_step(r);
}

static void fence_race(void)
{
    kit_open();
    uint64_t version = kit_put(tn_store_key(kit_arena(), 2, 1, (tn_blob){0}), "start");
    static racer racers[RACERS];
    racers_left = RACERS;
    for (int i = 0; i < RACERS; i++) {
        racers[i] = (racer){.arena = tn_arena_create(0), .version = version, .rounds = 200};
        racers[i].op.arena = racers[i].arena;
        racers[i].op.done = race_done;
        racers[i].op.user = &racers[i];
        tn_loop_call(tn_loops_get((uint32_t)i % 2), race_begin, &racers[i]);
    }
    pthread_mutex_lock(&race_lock);
    while (racers_left)
        pthread_cond_wait(&race_wake, &race_lock);
    pthread_mutex_unlock(&race_lock);
    uint64_t wins = 0, fenced = 0;
    for (int i = 0; i < RACERS; i++)
        wins += racers[i].wins, fenced += racers[i].fenced;
    KIT_EQUAL(wins + fenced, RACERS * 200);
    KIT_CHECK(fenced > 0);
    tn_range range = {.struct_size = sizeof range,
                      .from = tn_store_key(kit_arena(), T, 1, (tn_blob){0}),
                      .limit = 10000};
    tn_page page;
    KIT_EQUAL(kit_scan(&range, &page), TN_OK);
    KIT_EQUAL(page.n_rows, wins); /* two winners at one version would have written one row */
    kit_close();
}

/* ---- against a model ---------------------------------------------------------------------------- */

#define MODEL_ROWS 64
#define MODEL_PARTS 3
typedef struct model_row {
    bool there;
    uint64_t version;
    char value[600];
    size_t n;
} model_row;
static model_row model[MODEL_PARTS][MODEL_ROWS];

static tn_key model_key(int part, int row)
{
    char text[16];
    snprintf(text, sizeof text, "r%02d", row);
    return kit_key(T, part == 0 ? "one" : part == 1 ? "two" : "three", text);
}

/* One random batch, applied to a copy of the model's partition; kept when the store says OK. */
static void model_commit(void)
{
    tn_rng *r = kit_rng();
    int part = (int)tn_rng_below(r, MODEL_PARTS);
    static model_row next[MODEL_ROWS];
    memcpy(next, model[part], sizeof next);
    tn_store_batch batch = kit_batch();
    bool holds = true;
    bool put[MODEL_ROWS] = {0};
    if (tn_rng_below(r, 3) == 0) {
        int row = (int)tn_rng_below(r, MODEL_ROWS);
        const model_row *m = &model[part][row];
        if (tn_rng_below(r, 2)) {
            tn_store_batch_cond(&batch, TN_COND_ABSENT, model_key(part, row), 0);
            holds = !m->there;
        } else {
            uint64_t version = m->version + (tn_rng_below(r, 4) == 0);
            tn_store_batch_cond(&batch, TN_COND_VERSION, model_key(part, row), version);
            holds = m->there && m->version == version;
        }
    }
    for (uint64_t i = 1 + tn_rng_below(r, 5); i-- > 0;) {
        int row = (int)tn_rng_below(r, MODEL_ROWS);
        uint64_t what = tn_rng_below(r, 10);
        if (what < 6) {
            model_row *m = &next[row];
            m->there = true;
            m->n = (size_t)tn_rng_below(r, sizeof m->value);
            memset(m->value, 'a' + (int)tn_rng_below(r, 26), m->n);
            put[row] = true;
            tn_store_batch_put(&batch, model_key(part, row),
                               tn_arena_blob(kit_arena(), tn_blob_from(m->value, m->n)));
        } else if (what < 9) {
            next[row].there = put[row] = false;
            tn_store_batch_delete(&batch, model_key(part, row));
        } else {
            int end = row + (int)tn_rng_below(r, 12);
            char text[16];
            snprintf(text, sizeof text, "r%02d", end);
            for (int k = row; k < end && k < MODEL_ROWS; k++)
                next[k].there = put[k] = false;
            tn_store_batch_delete_range(&batch, model_key(part, row),
                                        tn_arena_blob(kit_arena(), kit_text(text)));
        }
    }
    tn_commit out = {0};
    tn_status status = kit_commit(&batch, &out);
    KIT_EQUAL(status, holds ? TN_OK : TN_ECONFLICT);
    if (!holds)
        return;
    for (int k = 0; k < MODEL_ROWS; k++)
        if (put[k])
            next[k].version = out.version;
    memcpy(model[part], next, sizeof next);
}

static void model_check(void)
{
    tn_rng *r = kit_rng();
    int part = (int)tn_rng_below(r, MODEL_PARTS);
    bool reverse = tn_rng_below(r, 2), keys = tn_rng_below(r, 2);
    int low = (int)tn_rng_below(r, MODEL_ROWS),
        high = low + (int)tn_rng_below(r, (uint64_t)(MODEL_ROWS - low + 1));
    tn_range range = {.struct_size = sizeof range,
                      .flags = (reverse ? TN_RANGE_REVERSE : 0) | (keys ? TN_RANGE_KEYS_ONLY : 0),
                      .from = model_key(part, low),
                      .to_row = model_key(part, high).row,
                      .limit = 1 + (uint32_t)tn_rng_below(r, 20),
                      .bytes_max = (uint32_t)tn_rng_below(r, 3) * 700};
    int at = reverse ? high - 1 : low;
    tn_page page;
    do {
        KIT_EQUAL(kit_scan(&range, &page), TN_OK);
        for (size_t i = 0; i < page.n_rows; i++) {
            while (at >= low && at < high && (at >= MODEL_ROWS || !model[part][at].there))
                at += reverse ? -1 : 1;
            KIT_CHECK(at >= low && at < high);
            const model_row *m = &model[part][at];
            KIT_CHECK(tn_blob_eq(page.rows[i].key.row, model_key(part, at).row));
            KIT_EQUAL(page.rows[i].version, m->version);
            KIT_CHECK(keys || tn_blob_eq(page.rows[i].value, tn_blob_from(m->value, m->n)));
            at += reverse ? -1 : 1;
        }
        range.page = page.next;
    } while (page.next.n);
    while (at >= low && at < high && (at >= MODEL_ROWS || !model[part][at].there))
        at += reverse ? -1 : 1;
    KIT_CHECK(at < low || at >= high); /* nothing was left out at the end */
    int row = (int)tn_rng_below(r, MODEL_ROWS);
    tn_row got;
    tn_status status = kit_get(model_key(part, row), &got);
    KIT_EQUAL(status, model[part][row].there ? TN_OK : TN_ENOTFOUND);
    if (status == TN_OK)
        KIT_CHECK(tn_blob_eq(got.value, tn_blob_from(model[part][row].value, model[part][row].n)) &&
                  got.version == model[part][row].version);
}

static void random_batches(void)
{
    const char *more = getenv("TN_KIT_ROUNDS");
    int rounds = more ? atoi(more) : 12;
    for (int round = 0; round < rounds; round++) {
        kit_open();
        for (uint64_t steps = tn_rng_below(kit_rng(), 400); steps-- > 0;) {
            model_commit();
            if (tn_rng_below(kit_rng(), 4) == 0)
                model_check();
        }
        kit_close();
    }
}

const kit_case kit_persistence_cases[] = {
    {"put, get, delete", put_get_delete},
    {"conditions", conditions},
    {"a failed fence wins over a conflict", fence_wins},
    {"members of a group fail alone and see earlier ones", group_members_fail_alone},
    {"versions rise, over reopening too", versions_rise},
    {"mutations apply in order", batch_order},
    {"requests out of the contract's limits", refuses_nonsense},
    {"longest and shortest keys and values", edges_of_sizes},
    {"scans: order, reverse, keys only, limits", scan_orders},
    {"paging while rows come and go", paging_under_writes},
    {"range delete", range_delete},
    {"reopening keeps rows", reopen_keeps},
    {"a killed process loses nothing acknowledged", killed_child_loses_nothing},
    {"two loops race for a fence", fence_race},
    {"many fences are raised and removed by one commit", kit_many_fences},
    {"owners race while the number of shards changes", kit_shards_race},
    {"random batches against a model", random_batches},
};

const size_t kit_persistence_count = TN_COUNT_OF(kit_persistence_cases);
