/* SPDX-License-Identifier: MIT */
/* Load on a visibility plugin with a judge:
 *
 *   vload PLUGIN.so STANZA VERIFY SECONDS [-w]
 *
 * It lasts SECONDS and until a round of puts was acknowledged as a whole; with -w it works until standard input ends,
 * when the faults are over, and then so long and until such a round.  It tells on lines of its own: "going", "acked"
 * (a whole round was), "refused" (a put was, for the first time).
 *
 * Both loops put versions of the same runs.  Afterwards, by the stanza VERIFY (which may go round the faults), every
 * run must have a version between the last that was acknowledged and the last that was tried, and counts must
 * agree with lists.  The last line says how it went. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/check/vkit.h"

#define RUNS 5000
#define ROUND 300
#define S INT64_C(1000000000)
#define PATIENCE_NS (180 * TN_SEC) /* for what must happen, on however slow a machine */

static uint64_t tried[RUNS], acked[RUNS];
static const char *const states[] = {"Running", "Completed", "Failed", "TimedOut"};

static const char *status_of(uint64_t run, uint64_t version)
{
    return states[(run * 31 + version * 7) % TN_COUNT_OF(states)];
}

static void tell_once(bool *told, bool now, const char *what)
{
    if (*told || !now)
        return;
    *told = true;
    printf("%s\n", what);
    fflush(stdout);
}

/* True: all of it was acknowledged. */
static bool put_round(uint64_t *ok, uint64_t *uncertain, uint64_t *refused, uint64_t *slowest_ns)
{
    static vk_op ops[ROUND];
    static uint64_t run[ROUND], version[ROUND];
    memset(ops, 0, sizeof ops);
    for (size_t i = 0; i < ROUND; i++) {
        run[i] = tn_rng_below(kit_rng(), RUNS);
        version[i] = ++tried[run[i]];
        const char *status = status_of(run[i], version[i]);
        vk_doc *d =
            vk_make(run[i], status, VK_T0 + (int64_t)run[i] * S,
                    strcmp(status, "Running") ? VK_T0 + (int64_t)run[i] * S + 5 : 0, version[i]);
        vk_add(d, "CK", TN_ATTR_KEYWORD, kit_text(status));
        ops[i].verb = VK_PUT;
        ops[i].op.timeout_ns = 10 * TN_SEC;
        ops[i].op.u.put.doc = d->doc;
    }
    uint64_t began = tn_now_mono_ns();
    vk_run_both(ops, ROUND);
    began = tn_now_mono_ns() - began;
    uint64_t ok_before = *ok;
    *slowest_ns = began > *slowest_ns ? began : *slowest_ns;
    for (size_t i = 0; i < ROUND; i++) {
        if (ops[i].op.status != TN_OK && getenv("TN_LOAD_TELL"))
            fprintf(stderr, "%s: %s\n", tn_status_name(ops[i].op.status), ops[i].op.error.text);
        if (ops[i].op.status == TN_OK) {
            ++*ok;
            if (version[i] > acked[run[i]])
                acked[run[i]] = version[i];
        } else if (ops[i].op.status == TN_EUNCERTAIN) {
            ++*uncertain;
        } else {
            ++*refused;
            if (ops[i].op.status != TN_EUNAVAILABLE)
                kit_fail(__FILE__, __LINE__, "%s: %s", tn_status_name(ops[i].op.status),
                         ops[i].op.error.text);
        }
    }
    tn_arena_reset(kit_arena());
    if (*ok == ok_before)
        usleep(10000); /* a dead store is not asked as fast as it refuses */
    return *ok - ok_before == ROUND;
}

/* ---- how long ----------------------------------------------------------------------------------- */

static _Atomic uint64_t end_ns = UINT64_MAX;
static uint64_t tail_ns;

static void *wait_for_end(void *arg)
{
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    atomic_store(&end_ns, tn_now_mono_ns() + tail_ns);
    return arg;
}

/* False: no round has gone well since the end began. */
static bool put_rounds(uint64_t *ok, uint64_t *uncertain, uint64_t *refused, uint64_t *slowest)
{
    bool told_acked = false, told_refused = false;
    for (;;) {
        uint64_t end = atomic_load(&end_ns), began = tn_now_mono_ns();
        bool whole = put_round(ok, uncertain, refused, slowest);
        tell_once(&told_acked, whole, "acked");
        tell_once(&told_refused, *refused > 0, "refused");
        if (end != UINT64_MAX && began >= end && whole)
            return true;
        if (end != UINT64_MAX && began >= end + PATIENCE_NS)
            return false;
    }
}

static uint64_t check_run(const tn_vis_doc *doc, bool *seen)
{
    char id[24] = "";
    snprintf(id, sizeof id, TN_STR_FMT, TN_STR_ARG(doc->workflow_id));
    uint64_t run = strtoull(id + 3, NULL, 10);
    KIT_CHECK(run < RUNS && !seen[run]);
    seen[run] = true;
    if (doc->version < acked[run] || doc->version > tried[run])
        kit_fail(__FILE__, __LINE__,
                 "run %llu has version %llu, of %llu acknowledged and %llu tried",
                 (unsigned long long)run, (unsigned long long)doc->version,
                 (unsigned long long)acked[run], (unsigned long long)tried[run]);
    const tn_attr *status = vk_find(doc, TN_STR("ExecutionStatus"));
    const tn_attr *ck = vk_find(doc, TN_STR("CK"));
    const char *want = status_of(run, doc->version);
    KIT_CHECK(status && tn_blob_eq(status->value, kit_text(want)));
    KIT_CHECK(ck && tn_blob_eq(ck->value, kit_text(want)));
    for (uint64_t i = 0; i < TN_COUNT_OF(states); i++)
        if (strcmp(states[i], want) == 0)
            return i;
    return 0;
}

static uint64_t judge(void)
{
    static bool seen[RUNS];
    uint64_t by[TN_COUNT_OF(states)] = {0}, n = 0;
    tn_vis_query q = vk_query(NULL, 0);
    tn_vis_page page;
    do {
        KIT_EQUAL(vk_list(&q, &page), TN_OK);
        for (size_t i = 0; i < page.n_docs; i++, n++)
            by[check_run(&page.docs[i], seen)]++;
        q.page = page.next;
    } while (q.page.n);
    for (size_t i = 0; i < RUNS; i++)
        KIT_CHECK(seen[i] || !acked[i]);
    for (size_t i = 0; i < TN_COUNT_OF(states); i++) {
        tn_vis_node status = vk_is("ExecutionStatus", states[i]), ck = vk_is("CK", states[i]);
        KIT_EQUAL(vk_matches(&status, 1), by[i]);
        KIT_EQUAL(vk_matches(&ck, 1), by[i]);
    }
    return n;
}

int main(int argc, char **argv)
{
    bool until_told = argc == 6 && strcmp(argv[5], "-w") == 0;
    if (argc != 5 && !until_told) {
        fprintf(stderr, "usage: vload PLUGIN.so STANZA VERIFY SECONDS [-w]\n");
        return 2;
    }
    tn_log_configure(TN_LOG_NEVER, false);
    tn_rng_seed_random(kit_rng());
    uint64_t ok = 0, uncertain = 0, refused = 0, slowest = 0;
    tail_ns = strtoull(argv[4], NULL, 10) * TN_SEC;
    kit_configure(argv[1], argv[2]);
    vk_open();
    printf("going\n");
    fflush(stdout);
    pthread_t teller;
    if (!until_told)
        atomic_store(&end_ns, tn_now_mono_ns() + tail_ns);
    else
        KIT_CHECK(pthread_create(&teller, NULL, wait_for_end, NULL) == 0);
    bool well = put_rounds(&ok, &uncertain, &refused, &slowest);
    if (until_told)
        pthread_join(teller, NULL);
    vk_close();
    kit_configure(argv[1], argv[3]);
    vk_open();
    uint64_t n = judge();
    vk_close();
    if (!well)
        kit_fail(__FILE__, __LINE__, "no round of puts goes well any more");
    printf("acked %llu, uncertain %llu, refused %llu, runs %llu, slowest %.1f s\n",
           (unsigned long long)ok, (unsigned long long)uncertain, (unsigned long long)refused,
           (unsigned long long)n, (double)slowest / 1e9);
    return 0;
}
