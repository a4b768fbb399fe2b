/* SPDX-License-Identifier: MIT */
/* Load on a persistence plugin while somebody else kills, cuts and steals, and afterwards the truth.
 *
 *   load PLUGIN.so STANZA VERIFY-STANZA SECONDS OWNER [-p partitions] [-l least] [-w] [-f]
 *
 * It lasts SECONDS and until `least` (1) commits are acknowledged; with -w it works until standard input ends, when the
 * faults are over, and then so long and until so many more are.  It tells on lines of its own when there is something
 * to wait for: "owner" (the fences are taken), "acked" (`least` are acknowledged), "refused" (the first was).
 *
 * OWNER (one letter) takes the fence of each partition, then commits one batch after another there, each under the
 * fence: a numbered row, a row that replaces the one before, a counter.  Whatever the store answered is noted;
 * when the time is up the rows are read through VERIFY-STANZA and compared:
 *
 *   OK             the row is there, with the version that was told
 *   UNAVAILABLE    the row is not there: "surely not applied" was true
 *   UNCERTAIN      either
 *   FENCED         the row is not there, and no row of ours is younger than the new owner's fence
 *
 * and the replaced row and the counter are those of the youngest row: a batch is whole or not at all.
 * -f: works until every partition has been stolen from us. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "plugin/kit.h"

#define PARTITIONS_MAX 256
#define ROWS_MAX 200000u

enum { NEVER, ACKED, REFUSED, UNKNOWN };

typedef struct chain {
    tn_store_op op;
    tn_arena *arena;
    uint32_t partition, n; /* the number under way */
    uint64_t fence, *versions;
    uint8_t *states;
    bool fenced;
} chain;

#define PATIENCE_NS (180 * TN_SEC) /* for what must happen, on however slow a machine */

static char owner;
static uint64_t until_ns, give_up_ns, wanted; /* under the lock, as are the counts */
static uint64_t least = 1, tail_ns;
static bool all_fenced;
static uint64_t acked, refused, unknown, fenced, slowest_ns, began_ns[PARTITIONS_MAX];
static chain chains[PARTITIONS_MAX];
static int partitions = 16, left;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;

/* owner, then the number: two owners' rows don't meet */
static tn_blob row_of(tn_arena *arena, char who, uint64_t n)
{
    uint8_t row[9] = {(uint8_t)who};
    for (int i = 0; i < 8; i++)
        row[1 + i] = (uint8_t)(n >> (56 - 8 * i));
    return tn_arena_blob(arena, tn_blob_from(row, sizeof row));
}

static uint64_t number_of(tn_blob row)
{
    uint64_t n = 0;
    for (size_t i = 1; i < row.n; i++)
        n = n << 8 | row.p[i];
    return n;
}

static void finished(tn_store_op *op);

static void tell(const char *what)
{
    printf("%s\n", what);
    fflush(stdout);
}

static bool is_over(const chain *c)
{
    uint64_t now = tn_now_mono_ns();
    pthread_mutex_lock(&lock);
    bool time_is_up = now >= until_ns && acked >= wanted && !all_fenced;
    bool over = time_is_up || now >= give_up_ns || c->fenced || c->n + 1 >= ROWS_MAX;
    pthread_mutex_unlock(&lock);
    return over;
}

static void step(chain *c)
{
    if (is_over(c)) {
        pthread_mutex_lock(&lock);
        left--;
        pthread_cond_signal(&wake);
        pthread_mutex_unlock(&lock);
        return;
    }
    tn_arena_reset(c->arena);
    c->n++;
    tn_store_batch batch;
    tn_store_batch_init(&batch, c->arena);
    tn_key fence = tn_store_key(c->arena, 2, c->partition, (tn_blob){0});
    tn_blob mine = row_of(c->arena, owner, c->n);
    tn_store_batch_cond(&batch, TN_COND_FENCE, fence, c->fence);
    tn_store_batch_cond(&batch, TN_COND_ABSENT, tn_store_key(c->arena, 5, c->partition, mine), 0);
    char *value = tn_arena_printf(c->arena, "%0*u", (int)(20 + c->n % 500), c->n);
    tn_store_batch_put(&batch, tn_store_key(c->arena, 5, c->partition, mine), kit_text(value));
    if (c->n % 8 == 0)
        tn_store_batch_delete_range(
            &batch, tn_store_key(c->arena, 7, c->partition, row_of(c->arena, owner, 0)),
            row_of(c->arena, owner, c->n));
    else
        tn_store_batch_delete(
            &batch, tn_store_key(c->arena, 7, c->partition, row_of(c->arena, owner, c->n - 1)));
    tn_store_batch_put(&batch, tn_store_key(c->arena, 7, c->partition, mine), kit_text(value));
    tn_store_batch_put(
        &batch,
        tn_store_key(c->arena, 4, c->partition, tn_arena_blob(c->arena, tn_blob_from(&owner, 1))),
        tn_arena_blob(c->arena, tn_blob_from(&c->n, sizeof c->n)));
    c->op.u.commit.batch = tn_store_batch_finish(&batch);
    c->op.done = finished;
    began_ns[c - chains] = tn_now_mono_ns();
    tn_store_commit(&c->op);
}

static void finished(tn_store_op *op)
{
    chain *c = op->user;
    uint64_t took = tn_now_mono_ns() - began_ns[c - chains];
    pthread_mutex_lock(&lock);
    slowest_ns = took > slowest_ns ? took : slowest_ns;
    switch (op->status) {
    case TN_OK:
        if (++acked == least)
            tell("acked");
        c->states[c->n] = ACKED;
        c->versions[c->n] = op->u.commit.commit.version;
        break;
    case TN_EUNAVAILABLE:
    case TN_ETHROTTLED:
        if (refused++ == 0)
            tell("refused");
        c->states[c->n] = REFUSED;
        break;
    case TN_EFENCED:
        fenced++;
        c->states[c->n] = REFUSED;
        c->fenced = true;
        break;
    case TN_EUNCERTAIN:
        unknown++;
        c->states[c->n] = UNKNOWN;
        break;
    default:
        fprintf(stderr, "partition %u, number %u: %s: %s\n", c->partition, c->n,
                tn_status_name(op->status), op->error.text);
        _exit(1);
    }
    pthread_mutex_unlock(&lock);
    if (op->status != TN_OK && op->status != TN_EFENCED && getenv("TN_LOAD_TELL"))
        fprintf(stderr, "%s: %s\n", tn_status_name(op->status), op->error.text);
    if (op->status == TN_EUNAVAILABLE)
        usleep(1000); /* a dead store is not asked as fast as it refuses */
    step(c);
}

static void begin(void *arg) { step(arg); }

/* Both loops are asked for a sign of life now and then: a driver must not hold one. */
static void sign_of_life(void *arg) { (void)arg; }
static double longest_hold_s;
static void *watch_loops(void *arg)
{
    (void)arg;
    for (bool over = false; !over;) {
        for (uint32_t i = 0; i < 2; i++) {
            uint64_t began = tn_now_mono_ns();
            tn_loop_call(tn_loops_get(i), sign_of_life, NULL);
            double held = (double)(tn_now_mono_ns() - began) / 1e9;
            longest_hold_s = held > longest_hold_s ? held : longest_hold_s;
        }
        usleep(50000);
        pthread_mutex_lock(&lock);
        over = left == 0;
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

/* Sets the end: SECONDS and `least` acknowledged commits from now. */
static void set_end(void)
{
    pthread_mutex_lock(&lock);
    until_ns = tn_now_mono_ns() + tail_ns;
    give_up_ns = until_ns + PATIENCE_NS;
    wanted = acked + least;
    pthread_mutex_unlock(&lock);
}

static void *wait_for_end(void *arg)
{
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    set_end();
    return arg;
}

static void take_fence(chain *c)
{
    tn_key key = tn_store_key(kit_arena(), 2, c->partition, (tn_blob){0});
    tn_row row;
    tn_status status = kit_get(key, &row);
    tn_store_batch batch = kit_batch();
    if (status == TN_OK)
        tn_store_batch_cond(&batch, TN_COND_FENCE, key, row.version);
    else if (status == TN_ENOTFOUND)
        tn_store_batch_cond(&batch, TN_COND_ABSENT, key, 0);
    else
        kit_fail(__FILE__, __LINE__, "fence: %s: %s", tn_status_name(status), kit_error()->text);
    tn_store_batch_put(&batch, key, tn_arena_blob(kit_arena(), tn_blob_from(&owner, 1)));
    tn_commit out = {0};
    status = kit_commit(&batch, &out);
    if (status == TN_EFENCED ||
        status == TN_ECONFLICT) { /* the one we take it from wrote it just now */
        take_fence(c);
        return;
    }
    if (status != TN_OK)
        kit_fail(__FILE__, __LINE__, "fence: %s: %s", tn_status_name(status), kit_error()->text);
    c->fence = out.version;
}

/* ---- the truth ---------------------------------------------------------------------------------- */

static int complaints;
#define COMPLAIN(...) (complaints++ < 20 ? (void)fprintf(stderr, "  " __VA_ARGS__) : (void)0)

static uint64_t check_rows(chain *c)
{
    tn_range range = {.struct_size = sizeof range,
                      .from =
                          tn_store_key(kit_arena(), 5, c->partition, row_of(kit_arena(), owner, 0)),
                      .to_row = row_of(kit_arena(), (char)(owner + 1), 0),
                      .limit = 1000,
                      .flags = TN_RANGE_KEYS_ONLY};
    uint64_t last = 0, version = 0;
    uint8_t *seen = tn_xcalloc(c->n + 2, 1);
    tn_page page;
    do {
        KIT_EQUAL(kit_scan(&range, &page), TN_OK);
        for (size_t i = 0; i < page.n_rows; i++) {
            const tn_row *row = &page.rows[i];
            last = number_of(row->key.row);
            if (last > c->n || c->states[last] == REFUSED)
                COMPLAIN("undone: row %llu of partition %u is there, its commit was refused\n",
                         (unsigned long long)last, c->partition);
            else if (c->states[last] == ACKED && c->versions[last] != row->version)
                COMPLAIN("row %llu of partition %u has another version than was told\n",
                         (unsigned long long)last, c->partition);
            if (row->version <= version)
                COMPLAIN("row %llu of partition %u is not younger than the one before\n",
                         (unsigned long long)last, c->partition);
            version = row->version;
            if (last <= c->n)
                seen[last] = 1;
        }
        range.page = page.next;
    } while (page.next.n);
    for (uint32_t n = 1; n <= c->n; n++)
        if (c->states[n] == ACKED && !seen[n])
            COMPLAIN("lost: row %u of partition %u was acknowledged\n", n, c->partition);
    free(seen);
    tn_row fence;
    KIT_EQUAL(kit_get(tn_store_key(kit_arena(), 2, c->partition, (tn_blob){0}), &fence), TN_OK);
    if (c->fenced && version > fence.version)
        COMPLAIN("partition %u: a row of ours is younger than the new owner's fence\n",
                 c->partition);
    return last;
}

/* A batch is whole or not at all. */
static void check_whole(const chain *c, uint64_t last)
{
    tn_row row;
    if (!last)
        return;
    tn_status status =
        kit_get(tn_store_key(kit_arena(), 7, c->partition, row_of(kit_arena(), owner, last)), &row);
    if (status != TN_OK)
        COMPLAIN("partition %u: the second row of number %llu is not there\n", c->partition,
                 (unsigned long long)last);
    status = kit_get(tn_store_key(kit_arena(), 4, c->partition, tn_blob_from(&owner, 1)), &row);
    uint32_t counter = 0;
    if (status == TN_OK && row.value.n == sizeof counter)
        memcpy(&counter, row.value.p, sizeof counter);
    if (counter != last)
        COMPLAIN("partition %u: the counter says %u, the rows %llu\n", c->partition, counter,
                 (unsigned long long)last);
}

int main(int argc, char **argv)
{
    bool until_told = false;
    if (argc < 6) {
        fprintf(
            stderr,
            "usage: load PLUGIN.so STANZA VERIFY-STANZA SECONDS OWNER [-p N] [-l N] [-w] [-f]\n");
        return 2;
    }
    for (int i = 6; i < argc; i++) {
        if (strcmp(argv[i], "-f") == 0)
            all_fenced = true;
        else if (strcmp(argv[i], "-w") == 0)
            until_told = true;
        else if (strcmp(argv[i], "-p") == 0 && i + 1 < argc)
            partitions = atoi(argv[++i]);
        else if (strcmp(argv[i], "-l") == 0 && i + 1 < argc)
            least = strtoull(argv[++i], NULL, 10);
    }
    partitions = partitions > PARTITIONS_MAX ? PARTITIONS_MAX : partitions;
    owner = argv[5][0];
    tn_log_configure(getenv("TN_LOAD_TELL") ? TN_LOG_WARN : TN_LOG_NEVER, false);
    kit_configure(argv[1], argv[2]);
    kit_open();
    for (int i = 0; i < partitions; i++) {
        chain *c = &chains[i];
        *c = (chain){.arena = tn_arena_create(0), .partition = (uint32_t)i + 1};
        c->versions = tn_xcalloc(ROWS_MAX, sizeof *c->versions);
        c->states = tn_xcalloc(ROWS_MAX, 1);
        c->op.arena = c->arena;
        c->op.user = c;
        take_fence(c);
    }
    tell("owner"); /* whoever steals may begin */
    tail_ns = (uint64_t)(atof(argv[4]) * 1e9);
    pthread_t teller;
    until_ns = give_up_ns = UINT64_MAX;
    if (!until_told)
        set_end();
    else
        KIT_CHECK(pthread_create(&teller, NULL, wait_for_end, NULL) == 0);
    left = partitions;
    for (int i = 0; i < partitions; i++)
        tn_loop_call(tn_loops_get((uint32_t)i % 2), begin, &chains[i]);
    pthread_t watcher;
    KIT_CHECK(pthread_create(&watcher, NULL, watch_loops, NULL) == 0);
    pthread_mutex_lock(&lock);
    while (left)
        pthread_cond_wait(&wake, &lock);
    pthread_mutex_unlock(&lock);
    pthread_join(watcher, NULL);
    if (until_told) {
        pthread_cancel(teller); /* when something else has ended it all */
        pthread_join(teller, NULL);
    }
    kit_close();

    kit_configure(argv[1], argv[3]);
    kit_open();
    for (int i = 0; i < partitions; i++)
        check_whole(&chains[i], check_rows(&chains[i]));
    kit_close();
    if (all_fenced && fenced != (uint64_t)partitions)
        COMPLAIN("%llu of %d partitions were fenced\n", (unsigned long long)fenced, partitions);
    if (acked < wanted && !all_fenced)
        COMPLAIN("%llu acknowledged, at least %llu were wanted: it does not work any more\n",
                 (unsigned long long)acked, (unsigned long long)wanted);
    printf("load: acked %llu refused %llu uncertain %llu fenced %llu slowest %.1f s held %.2f s "
           "violations %d\n",
           (unsigned long long)acked, (unsigned long long)refused, (unsigned long long)unknown,
           (unsigned long long)fenced, (double)slowest_ns / 1e9, longest_hold_s, complaints);
    return complaints ? 1 : 0;
}
