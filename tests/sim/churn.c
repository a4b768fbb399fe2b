/* SPDX-License-Identifier: MIT */
/* Membership under churn, up to a thousand members in virtual time.  A world is let form once; each seed begins with it as it
 * was then, with chance of its own: for some seconds 1 % of the members go each second (killed, with a farewell, started again at
 * the same address or at another one) and as many come; then the churn ends and it is timed until all see the truth.
 * A third of the seeds each loses no packet, 5 % and 20 %, to the end.
 *
 * Judged: everybody sees the truth within 120 s, so nobody who lives is left out for good; without loss nobody who lives is
 * declared dead at all; a newcomer in the quiet (from 100 members on: in each tenth seed) is known to all after 4 log2 n rounds
 * at most (8 with loss).
 *
 * Results go to the end of the file, so that a run that broke off goes on with --from; some seeds are then there twice, with
 * the same result.
 *
 *   churn [--members N] [--seeds N] [--from SEED] [--seconds N] [--jobs N] [--limit SECONDS] [--csv FILE] */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena.h"
#include "membership/private.h"

#define MEMBERS_MAX 1000
#define PLACES (2 * MEMBERS_MAX) /* addresses; each has a port */
#define BASE_PORT 1000
#define STEP (10 * TN_MS) /* how often the views are looked at */
#define SETTLE_MAX (120 * TN_SEC)
#define JOBS_MAX 64

/* how members go, and where they come */
enum { GO_KILL = 1, GO_LEAVE = 2, GO_RESTART = 4, GO_MOVE = 8 };

typedef struct packet {
    tn_heap_node node;
    size_t to, from, n;
    uint8_t bytes[TN_SWIM_PACKET_MAX];
} packet;

typedef struct host {
    tn_heap_node due;
    tn_swim *swim; /* NULL: not running */
    tn_member self;
    bool leaving;        /* has said farewell, and answers still */
    uint64_t end_at;     /* leaving: stops then */
    uint64_t start_at;   /* not running: starts then; 0: stays away */
    size_t right, wrong; /* in its rings: those that live, those that don't */
    bool mourned;        /* somebody declared it dead, and it lives */
} host;

static struct world {
    tn_rng rng;
    uint64_t now;
    host hosts[PLACES];
    size_t n, living;
    size_t right, wrong; /* of all that live and don't leave */
    uint64_t next_at;    /* of end_at and start_at, the next */
    tn_heap packets, due;
    packet *spare[256];
    size_t n_spare;
    uint32_t loss_percent;
    uint64_t sent, bytes;
} w;

typedef struct result { /* of a seed, from the child to its parent */
    uint64_t seed;
    uint32_t members, loss_percent, kinds, went, came, mourned;
    double settled_s, join_rounds, packets, bytes, wrong_mean, wrong_max;
    char problem[80]; /* empty: passed */
} result;

static result r;

/* ---- the net ---- */

static void send_packet(void *user, const char *ip, uint16_t port, tn_blob bytes)
{
    (void)ip;
    w.sent++;
    w.bytes += bytes.n;
    if (tn_rng_below(&w.rng, 100) < w.loss_percent)
        return;
    for (int copies = tn_rng_below(&w.rng, 100) == 0 ? 2 : 1; copies > 0; copies--) {
        packet *p = w.n_spare ? w.spare[--w.n_spare] : tn_xmalloc(sizeof(*p));
        p->node = (tn_heap_node){0};
        p->from = (size_t)((host *)user - w.hosts);
        p->to = (size_t)port - BASE_PORT;
        p->n = bytes.n;
        memcpy(p->bytes, bytes.p, bytes.n);
        uint64_t late = tn_rng_below(&w.rng, 50) == 0 ? 50 * TN_MS : 2 * TN_MS;
        tn_heap_insert(&w.packets, &p->node, w.now + 50 * TN_US + tn_rng_below(&w.rng, late));
    }
}

static void drop(packet *p)
{
    if (w.n_spare < TN_COUNT_OF(w.spare))
        w.spare[w.n_spare++] = p;
    else
        free(p);
}

/* ---- what is true, and what each sees: counted as it changes, for to look through all views takes long ---- */

static bool true_of(const tn_member *m)
{
    const host *h = &w.hosts[m->port - BASE_PORT];
    return h->swim && !h->leaving && memcmp(h->self.host_id, m->host_id, 16) == 0;
}

static void count(host *viewer, bool right, size_t by)
{
    *(right ? &viewer->right : &viewer->wrong) += by;
    if (!viewer->leaving)
        *(right ? &w.right : &w.wrong) += by;
}

/* Nobody asks what that host sees any more. */
static void sees_no_more(const host *h)
{
    w.right -= h->right;
    w.wrong -= h->wrong;
}

static void changed(void *user, const tn_member *m, tn_member_state before)
{
    host *viewer = user, *h = &w.hosts[m->port - BASE_PORT];
    bool serves = tn_member_serves(m), lives = true_of(m);
    if (!serves && before == TN_MEMBER_LEFT)
        return; /* a newcomer that drains */
    count(viewer, lives, serves ? 1 : (size_t)-1);
    if (lives && m->state == TN_MEMBER_DEAD)
        h->mourned = true;
}

/* That host is no more what others take it for. */
static void no_more(const host *gone)
{
    w.living--;
    for (size_t i = 0; i < PLACES; i++) {
        host *h = &w.hosts[i];
        const tn_member *seen =
            h->swim && h != gone ? tn_swim_find(h->swim, gone->self.host_id) : NULL;
        if (seen && tn_member_serves(seen)) {
            count(h, true, (size_t)-1);
            count(h, false, 1);
        }
    }
}

/* How many members a view has wrong, over all that live. */
static uint64_t wrongs(void) { return w.wrong + (w.living * w.living - w.right); }

static void look(void *user, const tn_member *m)
{
    size_t *seen = user;
    if (tn_member_serves(m))
        seen[true_of(m) ? 0 : 1]++;
}

/* The slow way: the counts must not be believed unseen, so each tenth seed is looked at. */
static bool views_are_true(void)
{
    for (size_t i = 0; i < PLACES; i++) {
        size_t seen[2] = {0, 0};
        if (!w.hosts[i].swim || w.hosts[i].leaving)
            continue;
        tn_swim_each(w.hosts[i].swim, look, seen);
        if (seen[0] != w.living || seen[1] != 0)
            return false;
    }
    return true;
}

/* What is still wrong when time is up. */
static void tell_wrong(void)
{
    for (size_t i = 0; i < PLACES; i++) {
        const host *h = &w.hosts[i];
        size_t seen[2] = {0, 0};
        if (!h->swim || h->leaving || (h->right == w.living && h->wrong == 0))
            continue;
        tn_swim_each(h->swim, look, seen);
        printf("  place %zu has %zu that live (counted %zu) and %zu that don't (counted %zu) in "
               "its rings; %zu live\n",
               i, seen[0], h->right, seen[1], h->wrong, w.living);
    }
}

/* ---- hosts ---- */

static void run_host(host *h)
{
    uint64_t at = tn_swim_run(h->swim, w.now);
    tn_heap_change(&w.due, &h->due, at > w.now ? at : w.now + TN_MS);
}

static size_t any_living(size_t but)
{
    for (;;) {
        size_t i = (size_t)tn_rng_below(&w.rng, PLACES);
        if (i != but && w.hosts[i].swim && !w.hosts[i].leaving)
            return i;
    }
}

static void start_host(size_t i, size_t seed_host)
{
    host *h = &w.hosts[i];
    tn_swim_options opt;
    tn_swim_options_default(&opt);
    memset(h, 0, sizeof(*h));
    h->self = (tn_member){.port = (uint16_t)(BASE_PORT + i),
                          .started_ms = UINT64_C(1800000000000) + w.now / TN_MS};
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
    count(h, true, 1);
    w.living++;
    tn_heap_insert(&w.due, &h->due, w.now);
    /* As the store's records name several: of one alone, which may go before it answers, two newcomers could make a world
     * of their own. */
    for (int seeds = 0; seed_host != i && seeds < 3; seeds++) {
        tn_swim_join(h->swim, w.now, "10.0.0.1", (uint16_t)(BASE_PORT + seed_host));
        seed_host = any_living(i);
    }
}

static void stop_host(size_t i)
{
    host *h = &w.hosts[i];
    if (!h->leaving) {
        no_more(h);
        sees_no_more(h);
    }
    r.mourned += h->mourned;
    tn_heap_remove(&w.due, &h->due);
    tn_swim_destroy(h->swim);
    h->swim = NULL;
    h->leaving = h->mourned = false;
}

/* ---- time ---- */

static void deliver(packet *p)
{
    host *h = &w.hosts[p->to];
    if (h->swim) {
        tn_swim_receive(h->swim, w.now, "10.0.0.1", (uint16_t)(BASE_PORT + p->from),
                        tn_blob_from(p->bytes, p->n));
        run_host(h);
    }
    drop(p);
}

static void run_until(uint64_t end)
{
    for (;;) {
        tn_heap_node *first = tn_heap_min(&w.packets), *due = tn_heap_min(&w.due);
        bool is_packet = first && (!due || first->key <= due->key);
        uint64_t at = is_packet ? first->key : due ? due->key : UINT64_MAX;
        if (at > end)
            break;
        w.now = at > w.now ? at : w.now;
        if (is_packet) {
            tn_heap_remove(&w.packets, first);
            deliver(TN_CONTAINER_OF(first, packet, node));
        } else {
            run_host(TN_CONTAINER_OF(due, host, due));
        }
    }
    w.now = end;
}

/* Returns how long it took, UINT64_MAX: too long. */
static uint64_t settle(void)
{
    uint64_t start = w.now;
    for (; w.now <= start + SETTLE_MAX; run_until(w.now + STEP))
        if (wrongs() == 0)
            return w.now - start;
    return UINT64_MAX;
}

/* ---- churn ---- */

static size_t any_empty(void)
{
    for (;;) {
        size_t i = (size_t)tn_rng_below(&w.rng, PLACES);
        if (!w.hosts[i].swim && !w.hosts[i].start_at)
            return i;
    }
}

/* One goes, and one comes within two seconds: itself or another, at its address or elsewhere. */
static void one_goes(void)
{
    uint32_t kind;
    do
        kind = 1u << tn_rng_below(&w.rng, 4);
    while (!(r.kinds & kind));
    size_t i = any_living(PLACES);
    host *h = &w.hosts[i];
    r.went++;
    if (kind == GO_LEAVE) {
        tn_swim_drain(h->swim, w.now);
        tn_swim_leave(h->swim, w.now);
        no_more(h);
        sees_no_more(h);
        h->leaving = true;
        h->end_at = w.now + 300 * TN_MS;
        w.next_at = h->end_at < w.next_at ? h->end_at : w.next_at;
    } else {
        stop_host(i);
    }
    size_t next = kind == GO_RESTART ? i : any_empty();
    uint64_t away = kind == GO_KILL ? 2 * TN_SEC : 500 * TN_MS;
    uint64_t at = w.now + 1 + tn_rng_below(&w.rng, away);
    w.hosts[next].start_at = at;
    w.next_at = at < w.next_at ? at : w.next_at;
}

static void ends_and_starts(void)
{
    if (w.now < w.next_at)
        return;
    w.next_at = UINT64_MAX;
    for (size_t i = 0; i < PLACES; i++) {
        host *h = &w.hosts[i];
        if (h->swim && h->leaving && h->end_at <= w.now) {
            stop_host(i);
        } else if (!h->swim && h->start_at && h->start_at <= w.now) {
            start_host(i, any_living(i));
            r.came++;
        }
        uint64_t at = h->swim && h->leaving     ? h->end_at
                      : !h->swim && h->start_at ? h->start_at
                                                : UINT64_MAX;
        w.next_at = at < w.next_at ? at : w.next_at;
    }
}

static void churn(uint64_t seconds)
{
    uint64_t sent = w.sent, bytes = w.bytes, end = w.now + seconds * TN_SEC, samples = 0;
    double owed = 0, sum = 0;
    for (uint64_t step = 0; w.now < end; step++) {
        for (owed += (double)w.n / 100 * (double)STEP / (double)TN_SEC; owed >= 1 && w.living > 2;
             owed -= 1)
            one_goes();
        ends_and_starts();
        run_until(w.now + STEP);
        if (step % 10 == 0) {
            double mean = (double)wrongs() / (double)w.living;
            sum += mean;
            r.wrong_max = mean > r.wrong_max ? mean : r.wrong_max;
            samples++;
        }
    }
    r.packets = (double)(w.sent - sent) / (double)w.n / (double)seconds;
    r.bytes = (double)(w.bytes - bytes) / (double)w.n / (double)seconds;
    r.wrong_mean = samples ? sum / (double)samples : 0;
    while (w.next_at != UINT64_MAX) { /* those that are on their way */
        run_until(w.now + STEP);
        ends_and_starts();
    }
}

static void problem(const char *what)
{
    if (!r.problem[0])
        snprintf(r.problem, sizeof(r.problem), "%s", what);
}

/* ---- a seed ---- */

static void form(size_t members)
{
    tn_rng_seed(&w.rng, members);
    tn_heap_init(&w.packets);
    tn_heap_init(&w.due);
    w.n = members;
    w.now = TN_SEC;
    w.next_at = UINT64_MAX;
    for (size_t i = 0; i < w.n; i++)
        start_host(i, i ? (size_t)tn_rng_below(&w.rng, i) : 0);
    uint64_t formed = settle();
    TN_ASSERT(formed != UINT64_MAX && views_are_true());
    run_until(w.now + 10 * TN_SEC); /* until all news are told */
    fprintf(stderr, "churn: %zu members have met after %.2f s\n", w.n, (double)formed / 1e9);
}

static void newcomer(void)
{
    double log2n = 1;
    for (size_t n = w.living; n > 2; n /= 2)
        log2n++;
    start_host(any_empty(), any_living(PLACES));
    uint64_t took = settle();
    r.join_rounds = (double)took / (double)(250 * TN_MS);
    if (r.join_rounds > (w.loss_percent ? 8 : 4) * log2n)
        problem("a newcomer was not known in time");
}

static void play(uint64_t seed, uint64_t seconds)
{
    static const uint32_t losses[] = {0, 5, 20};
    tn_rng_seed(&w.rng, seed);
    for (size_t i = 0; i < PLACES; i++)
        if (w.hosts[i].swim)
            tn_rng_seed(&w.hosts[i].swim->rng, tn_rng_next(&w.rng));
    w.loss_percent = losses[seed % TN_COUNT_OF(losses)];
    r = (result){.seed = seed,
                 .members = (uint32_t)w.n,
                 .loss_percent = w.loss_percent,
                 .kinds = 1 + (uint32_t)tn_rng_below(&w.rng, 15)};
    run_until(w.now + tn_rng_below(&w.rng, TN_SEC));
    churn(seconds);
    w.loss_percent = w.loss_percent < 5 ? w.loss_percent : 5;
    uint64_t took = settle();
    r.settled_s = took == UINT64_MAX ? -1 : (double)took / 1e9;
    if (took == UINT64_MAX)
        problem("not all see the truth");
    else if (seed % 10 == 0 && !views_are_true())
        problem("the counts of the simulator are wrong");
    else if (seed % 10 == 0 || w.n < 100)
        newcomer();
    for (size_t i = 0; i < PLACES; i++)
        r.mourned += w.hosts[i].swim && w.hosts[i].mourned;
    if (took == UINT64_MAX)
        tell_wrong();
    if (!w.loss_percent && r.mourned)
        problem("declared dead, and lives");
}

/* ---- all seeds ---- */

static struct {
    pid_t pid; /* 0: none */
    int fd;
    uint64_t seed; /* the next that it tells of */
} jobs[JOBS_MAX];
static uint64_t from = 1, seeds = 30, members = 30, seconds = 10, n_jobs = 1, limit;
static time_t ends; /* 0: never */

/* Seed for seed, each in the world as it was laid aside. */
static void job_run(uint64_t seed, int fd)
{
    sim_arena_own();
    for (; seed < from + seeds && !(ends && time(NULL) >= ends); seed += n_jobs) {
        play(seed, seconds);
        fflush(stdout);
        if (write(fd, &r, sizeof(r)) != (ssize_t)sizeof(r))
            _exit(1);
        sim_arena_bring_back();
    }
    _exit(0);
}

static void job_start(size_t j, uint64_t seed)
{
    int fds[2];
    TN_ASSERT(pipe(fds) == 0);
    fflush(NULL);
    pid_t pid = fork();
    TN_ASSERT(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        job_run(seed, fds[1]);
    }
    close(fds[1]);
    jobs[j].pid = pid;
    jobs[j].fd = fds[0];
    jobs[j].seed = seed;
}

/* The next result of that process; false: there is none any more.  A seed that ends it has failed, and another goes on
 * behind that. */
static bool job_read(size_t j, result *out)
{
    int status;
    uint64_t seed = jobs[j].seed;
    ssize_t n = read(jobs[j].fd, out, sizeof(*out));
    if (n == (ssize_t)sizeof(*out)) {
        jobs[j].seed += n_jobs;
        return true;
    }
    close(jobs[j].fd);
    while (waitpid(jobs[j].pid, &status, 0) < 0 && errno == EINTR) {
    }
    jobs[j].pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return false;
    *out = (result){.seed = seed, .members = (uint32_t)w.n};
    snprintf(out->problem, sizeof(out->problem), "the process ended with %#x", (unsigned)status);
    if (seed + n_jobs < from + seeds)
        job_start(j, seed + n_jobs);
    return true;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void tell(const char *what, const result *all, size_t n, size_t offset)
{
    double *values = tn_xcalloc(n, sizeof(values[0]));
    size_t seen = 0;
    for (size_t i = 0; i < n; i++) {
        if (offset == offsetof(result, join_rounds) && all[i].join_rounds <= 0)
            continue; /* none came in the quiet */
        memcpy(&values[seen++], (const char *)&all[i] + offset, sizeof(values[0]));
    }
    n = seen ? seen : 1;
    qsort(values, n, sizeof(values[0]), by_value);
    printf("  %-32s median %9.2f  p99 %9.2f  worst %9.2f\n", what, values[n / 2],
           values[n * 99 / 100], values[n - 1]);
    free(values);
}

static void summary(const result *all, size_t n)
{
    uint64_t went = 0, came = 0, mourned = 0;
    for (size_t i = 0; i < n; i++) {
        went += all[i].went;
        came += all[i].came;
        mourned += all[i].mourned;
    }
    printf("churn: %zu seeds of %zu members: %llu went, %llu came, %llu declared dead that lived\n",
           n, w.n, (unsigned long long)went, (unsigned long long)came, (unsigned long long)mourned);
    tell("all right after the last, s", all, n, offsetof(result, settled_s));
    tell("a newcomer known, rounds", all, n, offsetof(result, join_rounds));
    tell("wrong in a view", all, n, offsetof(result, wrong_mean));
    tell("packets a member and second", all, n, offsetof(result, packets));
    tell("bytes a member and second", all, n, offsetof(result, bytes));
}

static FILE *csv;

static bool take(const result *one)
{
    if (csv)
        fprintf(csv, "%llu,%u,%u,%u,%u,%u,%u,%.2f,%.2f,%.2f,%.0f,%.3f,%.2f,%s\n",
                (unsigned long long)one->seed, one->members, one->loss_percent, one->kinds,
                one->went, one->came, one->mourned, one->settled_s, one->join_rounds, one->packets,
                one->bytes, one->wrong_mean, one->wrong_max, one->problem);
    if (csv)
        fflush(csv);
    if (one->problem[0])
        printf("seed %llu: %u members, loss %u %%, kinds %#x: %s (%u mourned, settled %.2f s, "
               "newcomer %.1f rounds)  FAILED\n",
               (unsigned long long)one->seed, one->members, one->loss_percent, one->kinds,
               one->problem, one->mourned, one->settled_s, one->join_rounds);
    return !one->problem[0];
}

static size_t play_all(result *all, uint64_t *out_failed)
{
    size_t done = 0, running = 0;
    ends = limit ? time(NULL) + (time_t)limit : 0;
    sim_arena_lay_aside(&w, sizeof(w));
    for (size_t j = 0; j < n_jobs && j < seeds; j++, running++)
        job_start(j, from + j);
    while (running) {
        struct pollfd fds[JOBS_MAX] = {0};
        for (size_t j = 0; j < n_jobs; j++)
            fds[j] = (struct pollfd){.fd = jobs[j].pid ? jobs[j].fd : -1, .events = POLLIN};
        if (poll(fds, (nfds_t)n_jobs, -1) < 0)
            continue;
        for (size_t j = 0; j < n_jobs; j++) {
            if (!fds[j].revents)
                continue;
            if (job_read(j, &all[done])) {
                *out_failed += !take(&all[done]);
                done++;
            }
            running -= !jobs[j].pid;
        }
    }
    return done;
}

int main(int argc, char **argv)
{
    const char *csv_name = NULL;
    for (int i = 1; i < argc; i++) {
        uint64_t *to = strcmp(argv[i], "--from") == 0      ? &from
                       : strcmp(argv[i], "--seeds") == 0   ? &seeds
                       : strcmp(argv[i], "--members") == 0 ? &members
                       : strcmp(argv[i], "--seconds") == 0 ? &seconds
                       : strcmp(argv[i], "--jobs") == 0    ? &n_jobs
                       : strcmp(argv[i], "--limit") == 0   ? &limit
                                                           : NULL;
        bool is_csv = strcmp(argv[i], "--csv") == 0;
        if ((!to && !is_csv) || ++i == argc || (to && !tn_parse_u64(tn_str_from(argv[i]), to))) {
            fprintf(stderr, "usage: churn [--members N] [--seeds N] [--from SEED] [--seconds N] "
                            "[--jobs N] [--limit SECONDS] "
                            "[--csv FILE]\n");
            return 2;
        }
        csv_name = is_csv ? argv[i] : csv_name;
    }
    if (members < 3 || members > MEMBERS_MAX || !seeds || seeds > 10000000 || !seconds || !n_jobs ||
        n_jobs > JOBS_MAX) {
        fprintf(stderr, "churn: 3 to %d members, 1 to %d jobs, at least one seed and second\n",
                MEMBERS_MAX, JOBS_MAX);
        return 2;
    }
    if (csv_name && !(csv = fopen(csv_name, "a"))) {
        fprintf(stderr, "churn: %s: %m\n", csv_name);
        return 2;
    }
    if (csv && ftell(csv) == 0)
        fprintf(csv, "seed,members,loss,kinds,went,came,mourned,settled_s,join_rounds,packets,"
                     "bytes,wrong_mean,wrong_max,problem\n");
    form(members);
    uint64_t failed = 0;
    result *all = tn_xcalloc(seeds, sizeof(all[0]));
    size_t done = play_all(all, &failed);
    if (done)
        summary(all, done);
    if (csv)
        fclose(csv);
    free(all);
    printf("churn: %llu passed, %llu failed\n", (unsigned long long)(done - failed),
           (unsigned long long)failed);
    return failed != 0;
}
