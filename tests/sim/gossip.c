/* SPDX-License-Identifier: MIT */
/* Membership in virtual time: up to a thousand members in one process, with lost, late and doubled packets,
 * partitions of one and two ways, pauses, kills, restarts at the same address and farewells, all from one seed.
 * Judged: after the last fault all that live see the same world and it is the true one; without pauses,
 * partitions and heavy loss nobody that lives is declared dead; a killed member is out of all rings in time.
 *
 *   gossip [--from SEED] [--seeds N] [--members N] [--faults N] [--verbose]
 * Members that come and go by the hundred are churn.c's. */
#include <stdio.h>
#include <stdlib.h>

#include "membership/swim.h"

#define MEMBERS_MAX 1000
#define BASE_PORT 1000

typedef struct packet {
    tn_heap_node node;
    size_t to, from;
    size_t n;
    uint8_t bytes[];
} packet;

typedef struct host {
    tn_swim *swim; /* NULL: not running */
    tn_member self;
    uint64_t paused_until, run_at;
    uint32_t side; /* of a partition */
} host;

typedef struct world {
    tn_rng rng;
    uint64_t now;
    host hosts[MEMBERS_MAX];
    size_t n;
    tn_heap packets;
    uint32_t loss_percent, faults; /* bits of FAULT_* */
    bool split, one_way;
    uint64_t sent, bytes, false_deaths, checks;
    uint64_t detect_sum, detect_max, detected, undetected;
    const char *problem;
} world;

enum { FAULT_KILL = 1, FAULT_PAUSE = 2, FAULT_SPLIT = 4, FAULT_LEAVE = 8, FAULT_RESTART = 16 };

static world w;
static bool verbose;

/* ---- the net ---- */

static bool cut(size_t from, size_t to)
{
    const host *a = &w.hosts[from], *b = &w.hosts[to];
    return w.split && a->side != b->side && (!w.one_way || a->side == 0);
}

static void send_packet(void *user, const char *ip, uint16_t port, tn_blob bytes)
{
    (void)ip;
    size_t from = (size_t)((host *)user - w.hosts), to = (size_t)port - BASE_PORT;
    w.sent++;
    w.bytes += bytes.n;
    if (to >= w.n || cut(from, to) || tn_rng_below(&w.rng, 100) < w.loss_percent)
        return;
    int copies = tn_rng_below(&w.rng, 100) == 0 ? 2 : 1;
    for (int i = 0; i < copies; i++) {
        packet *p = tn_xmalloc(sizeof(*p) + bytes.n);
        p->node = (tn_heap_node){0};
        p->from = from;
        p->to = to;
        p->n = bytes.n;
        memcpy(p->bytes, bytes.p, bytes.n);
        uint64_t late = tn_rng_below(&w.rng, 50) == 0 ? 50 * TN_MS : 2 * TN_MS;
        tn_heap_insert(&w.packets, &p->node, w.now + 50 * TN_US + tn_rng_below(&w.rng, late));
    }
}

static void changed(void *user, const tn_member *m, tn_member_state before)
{
    (void)user, (void)before;
    const host *h = &w.hosts[m->port - BASE_PORT];
    if (m->state == TN_MEMBER_DEAD && h->swim && memcmp(h->self.host_id, m->host_id, 16) == 0)
        w.false_deaths++;
}

/* ---- hosts ---- */

static void start_host(size_t i, size_t seed_host)
{
    host *h = &w.hosts[i];
    tn_swim_options opt;
    tn_swim_options_default(&opt);
    h->self = (tn_member){.port = (uint16_t)(BASE_PORT + i), .started_ms = w.now / TN_MS + 1};
    tn_uuid_v4(&w.rng, h->self.host_id);
    snprintf(h->self.ip, sizeof(h->self.ip), "10.0.0.1");
    snprintf(h->self.version, sizeof(h->self.version), "0.1.0");
    h->self.role_ports[i % TN_SERVICE_COUNT] = 7233;
    opt.self = h->self;
    opt.seed = tn_rng_next(&w.rng);
    opt.send = send_packet;
    opt.changed = changed;
    opt.user = h;
    h->swim = tn_swim_create(&opt, w.now);
    h->paused_until = 0;
    h->run_at = w.now;
    if (seed_host != i)
        tn_swim_join(h->swim, w.now, "10.0.0.1", (uint16_t)(BASE_PORT + seed_host));
}

static void stop_host(size_t i)
{
    tn_swim_destroy(w.hosts[i].swim);
    w.hosts[i].swim = NULL;
}

static size_t any_living(size_t but)
{
    size_t start = (size_t)tn_rng_below(&w.rng, w.n);
    for (size_t k = 0; k < w.n; k++) {
        size_t i = (start + k) % w.n;
        if (i != but && w.hosts[i].swim)
            return i;
    }
    return but;
}

static size_t living(void)
{
    size_t n = 0;
    for (size_t i = 0; i < w.n; i++)
        n += w.hosts[i].swim != NULL;
    return n;
}

/* ---- time ---- */

static void deliver(packet *p)
{
    host *h = &w.hosts[p->to];
    if (!h->swim) {
        free(p);
    } else if (h->paused_until > w.now) { /* the kernel keeps it */
        tn_heap_insert(&w.packets, &p->node, h->paused_until);
    } else {
        tn_swim_receive(h->swim, w.now, "10.0.0.1", (uint16_t)(BASE_PORT + p->from),
                        tn_blob_from(p->bytes, p->n));
        h->run_at = tn_swim_run(h->swim, w.now);
        free(p);
    }
}

static void run_until(uint64_t end)
{
    while (w.now < end) {
        /* hosts look at the clock each millisecond */
        uint64_t tick = w.now / TN_MS * TN_MS + TN_MS;
        tn_heap_node *first = tn_heap_min(&w.packets);
        if (first && first->key <= tick) {
            w.now = first->key > w.now ? first->key : w.now;
            tn_heap_remove(&w.packets, first);
            deliver((packet *)((char *)first - offsetof(packet, node)));
            continue;
        }
        w.now = tick;
        for (size_t i = 0; i < w.n; i++) {
            host *h = &w.hosts[i];
            if (h->swim && h->run_at <= w.now && h->paused_until <= w.now)
                h->run_at = tn_swim_run(h->swim, w.now);
        }
    }
}

/* ---- faults ---- */

static void one_fault(void)
{
    size_t i = any_living(w.n);
    if (i >= w.n)
        return;
    uint32_t kind = UINT32_C(1) << tn_rng_below(&w.rng, 5);
    if (!(w.faults & kind))
        return;
    if (kind == FAULT_KILL && living() > 2) {
        stop_host(i);
    } else if (kind == FAULT_PAUSE) {
        w.hosts[i].paused_until = w.now + 100 * TN_MS + tn_rng_below(&w.rng, 30 * TN_SEC);
    } else if (kind == FAULT_SPLIT) {
        w.split = !w.split;
        w.one_way = tn_rng_below(&w.rng, 2) == 0;
        for (size_t k = 0; k < w.n; k++)
            w.hosts[k].side = (uint32_t)tn_rng_below(&w.rng, 2);
    } else if (kind == FAULT_LEAVE && living() > 2 && w.hosts[i].paused_until <= w.now) {
        tn_swim_drain(w.hosts[i].swim, w.now);
        tn_swim_leave(w.hosts[i].swim, w.now);
        run_until(w.now + TN_SEC);
        if (w.hosts[i].swim)
            stop_host(i);
    } else if (kind == FAULT_RESTART) {
        for (size_t k = 0; k < w.n; k++)
            if (!w.hosts[k].swim) {
                start_host(k, any_living(k));
                return;
            }
    }
}

/* ---- judging ---- */

typedef struct view {
    size_t at, living, wrong;
} view;

static void look(void *user, const tn_member *m)
{
    view *v = user;
    if (m->state > TN_MEMBER_SUSPECT)
        return;
    const host *h = &w.hosts[m->port - BASE_PORT];
    v->living++;
    if (!h->swim || memcmp(h->self.host_id, m->host_id, 16) != 0)
        v->wrong++;
}

static bool converged(bool say)
{
    size_t n = living();
    for (size_t i = 0; i < w.n; i++) {
        if (!w.hosts[i].swim)
            continue;
        view v = {.at = i};
        tn_swim_each(w.hosts[i].swim, look, &v);
        if (v.living == n && v.wrong == 0)
            continue;
        if (say)
            printf("  host %zu sees %zu living (%zu of them gone), %zu live\n", i, v.living,
                   v.wrong, n);
        return false;
    }
    return true;
}

static uint64_t wait_converged(uint64_t most)
{
    uint64_t start = w.now;
    while (w.now < start + most) {
        if (converged(false))
            return w.now - start;
        run_until(w.now + 50 * TN_MS);
    }
    return UINT64_MAX;
}

/* One kill in a quiet cluster, timed until the last one knows. */
static void time_a_kill(void)
{
    if (living() < 3)
        return;
    stop_host(any_living(w.n));
    uint64_t took = wait_converged(60 * TN_SEC);
    if (took == UINT64_MAX) {
        w.undetected++;
        return;
    }
    w.detected++;
    w.detect_sum += took;
    w.detect_max = took > w.detect_max ? took : w.detect_max;
}

static void clear(void)
{
    for (size_t i = 0; i < w.n; i++)
        tn_swim_destroy(w.hosts[i].swim);
    for (tn_heap_node *p = tn_heap_min(&w.packets); p; p = tn_heap_min(&w.packets)) {
        tn_heap_remove(&w.packets, p);
        free((char *)p - offsetof(packet, node));
    }
    tn_heap_done(&w.packets);
}

static bool play(uint64_t seed, size_t members, size_t faults)
{
    memset(&w, 0, sizeof(w));
    tn_rng_seed(&w.rng, seed);
    tn_heap_init(&w.packets);
    static const size_t sizes[] = {2, 3, 3, 5, 8, 13, 13, 30};
    w.n = members ? members : sizes[tn_rng_below(&w.rng, TN_COUNT_OF(sizes))];
    w.faults = (uint32_t)tn_rng_below(&w.rng, 32);
    w.loss_percent = tn_rng_below(&w.rng, 2) ? (uint32_t)tn_rng_below(&w.rng, 21) : 0;
    uint32_t loss = w.loss_percent;
    w.now = TN_SEC;
    for (size_t i = 0; i < w.n; i++)
        start_host(i, i ? (size_t)tn_rng_below(&w.rng, i) : 0);
    uint64_t formed = wait_converged(60 * TN_SEC), messages = w.sent;
    for (size_t i = 0; i < faults; i++) {
        run_until(w.now + tn_rng_below(&w.rng, 3 * TN_SEC));
        one_fault();
    }
    bool unkind = (w.faults & (FAULT_PAUSE | FAULT_SPLIT)) != 0;
    uint64_t false_deaths = w.false_deaths;
    w.split = false;
    for (size_t i = 0; i < w.n; i++)
        if (w.hosts[i].paused_until > w.now)
            w.hosts[i].paused_until = w.now;
    for (size_t i = 0; i < w.n; i++) /* as the server does from the store's records */
        if (w.hosts[i].swim)
            tn_swim_join(w.hosts[i].swim, w.now, "10.0.0.1", (uint16_t)(BASE_PORT + any_living(i)));
    uint64_t healed = wait_converged(120 * TN_SEC);
    w.loss_percent = 0;
    for (int i = 0; i < 3; i++)
        time_a_kill();
    bool ok = formed != UINT64_MAX && healed != UINT64_MAX && !w.undetected &&
              (unkind || loss > 10 || w.n > 64 || !false_deaths);
    if (!ok || verbose)
        printf("seed %llu: %zu members, loss %u %%, faults %#x: formed %.2f s (%llu packets), "
               "healed %.2f s, "
               "false deaths %llu, kills seen by all after %.2f s (worst %.2f), %.1f packets and "
               "%.0f bytes a member and second%s\n",
               (unsigned long long)seed, w.n, loss, w.faults, (double)formed / 1e9,
               (unsigned long long)messages, (double)healed / 1e9, (unsigned long long)false_deaths,
               w.detected ? (double)w.detect_sum / (double)w.detected / 1e9 : 0,
               (double)w.detect_max / 1e9, (double)w.sent / (double)w.n / ((double)w.now / 1e9),
               (double)w.bytes / (double)w.n / ((double)w.now / 1e9), ok ? "" : "  FAILED");
    if (!ok)
        (void)converged(true);
    clear();
    return ok;
}

int main(int argc, char **argv)
{
    uint64_t from = 1, seeds = 100, members = 0, faults = 20;
    for (int i = 1; i < argc; i++) {
        uint64_t *to = strcmp(argv[i], "--from") == 0      ? &from
                       : strcmp(argv[i], "--seeds") == 0   ? &seeds
                       : strcmp(argv[i], "--members") == 0 ? &members
                       : strcmp(argv[i], "--faults") == 0  ? &faults
                                                           : NULL;
        if (strcmp(argv[i], "--verbose") == 0) {
            verbose = true;
        } else if (!to || ++i == argc || !tn_parse_u64(tn_str_from(argv[i]), to) ||
                   members > MEMBERS_MAX) {
            fprintf(
                stderr,
                "usage: gossip [--from SEED] [--seeds N] [--members N] [--faults N] [--verbose]\n");
            return 2;
        }
    }
    uint64_t failed = 0;
    for (uint64_t seed = from; seed < from + seeds; seed++)
        failed += !play(seed, members, faults);
    printf("gossip: %llu passed, %llu failed\n", (unsigned long long)(seeds - failed),
           (unsigned long long)failed);
    return failed != 0;
}
