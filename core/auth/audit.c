/* SPDX-License-Identifier: MIT */
/* The audit's queue and its writer.  A loop makes the whole line and pushes it onto a stack by one compare and swap;
 * the writer takes the stack as a whole and turns it around.  Bytes in the queue are counted before the push: a line
 * that finds no room is lost, and the writer says how many were, in the audit, as soon as it gets through again.
 *
 * A file that was moved away is noticed by SIGHUP, or by itself within a second of the next line. */
#include "auth/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "metrics/metrics.h"

#define BATCH_BYTES 65536u
#define LOOK_NS TN_SEC            /* between looks whether the file is still there */
#define COMPLAIN_NS (60 * TN_SEC) /* between complaints about the same trouble */
#define PATIENCE_MS 1000          /* with a pipe or a socket that takes nothing */
#define SYSLOG_SEVERITY 6         /* informational */

typedef struct line {
    struct line *next;
    size_t n;
    char text[];
} line;

/* Where lines go; changed by a reload as a whole. */
typedef struct sink {
    bool syslog;
    int facility, fd;
    char *path;
} sink;

struct tn_audit_fresh {
    sink *sink; /* NULL: no audit */
    bool begun; /* the writer was started for this one, and has the sink */
    bool all;
    size_t queue_bytes_max;
};

static struct audit {
    /* Set by the main thread, read by any, without order: a call near a reload may see either. */
    atomic_bool on, all;
    atomic_size_t queue_bytes_max;
    bool running; /* [main] */
    pthread_t thread;
    sem_t wake;
    /* Pushed with release by any thread, taken with acquire by the writer. */
    _Atomic(line *) pushed;
    atomic_size_t bytes;
    atomic_uint_fast64_t written, lost;
    atomic_bool reopen, ending;
    _Atomic(sink *) next; /* from the main thread to the writer; release and acquire */
    tn_counter *count_lines, *count_lost;
    /* the writer's own */
    sink *sink;
    bool torn; /* a line was cut: the next one must begin a new line */
    uint64_t told_lost, looked_ns, complained_ns;
} audit;

bool tn_audit_wants(bool allowed)
{
    return atomic_load_explicit(&audit.on, memory_order_relaxed) &&
           (!allowed || atomic_load_explicit(&audit.all, memory_order_relaxed));
}

static void count_lost(uint64_t n)
{
    atomic_fetch_add_explicit(&audit.lost, n, memory_order_relaxed);
    tn_counter_add(audit.count_lost, n);
}

void tn_audit_write(const tn_audit_event *event)
{
    tn_buf text = {0};
    tn_audit_format(event, (int64_t)tn_now_wall_ns(), &text);
    size_t room = sizeof(line) + text.n;
    line *l = NULL;
    if (atomic_fetch_add_explicit(&audit.bytes, room, memory_order_relaxed) + room <=
        atomic_load_explicit(&audit.queue_bytes_max, memory_order_relaxed))
        l = malloc(room);
    if (!l) {
        atomic_fetch_sub_explicit(&audit.bytes, room, memory_order_relaxed);
        count_lost(1);
        tn_buf_done(&text);
        return;
    }
    l->n = text.n;
    memcpy(l->text, text.p, text.n);
    tn_buf_done(&text);
    l->next = atomic_load_explicit(&audit.pushed, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&audit.pushed, &l->next, l, memory_order_release,
                                                  memory_order_relaxed))
        ;
    if (!l->next) /* the writer may sleep: it found the stack empty */
        sem_post(&audit.wake);
}

/* ---- the writer's side -------------------------------------------------------------------------- */

static void complain(const char *what, int error)
{
    uint64_t now = tn_now_mono_ns();
    if (audit.complained_ns && now - audit.complained_ns < COMPLAIN_NS)
        return;
    audit.complained_ns = now;
    TN_LOG(TN_LOG_ERROR, "audit", what, TN_LOG_Z("path", audit.sink->path),
           TN_LOG_Z("why", strerror(error)));
}

static int open_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
    return fd < 0 ? -errno : fd;
}

static int open_syslog(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    if (strlen(path) >= sizeof(to.sun_path))
        return -ENAMETOOLONG;
    memcpy(to.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0)
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

static int open_sink(bool syslog, const char *path)
{
    return syslog ? open_syslog(path) : open_file(path);
}

/* The old one stays in use when no new one can be had. */
static bool open_again(void)
{
    int fd = open_sink(audit.sink->syslog, audit.sink->path);
    if (fd < 0) {
        complain("the audit cannot be opened", -fd);
        return audit.sink->fd >= 0;
    }
    if (audit.sink->fd >= 0)
        close(audit.sink->fd);
    audit.sink->fd = fd;
    audit.torn = false;
    return true;
}

static bool was_moved(void)
{
    struct stat there, ours;
    uint64_t now = tn_now_mono_ns();
    if (audit.sink->syslog || now - audit.looked_ns < LOOK_NS)
        return false;
    audit.looked_ns = now;
    return stat(audit.sink->path, &there) != 0 || fstat(audit.sink->fd, &ours) != 0 ||
           there.st_ino != ours.st_ino || there.st_dev != ours.st_dev;
}

static bool ready(void)
{
    bool asked = atomic_exchange(&audit.reopen, false);
    return audit.sink->fd >= 0 && !asked && !was_moved() ? true : open_again();
}

/* A pipe may be full for a while: longer than that is for the queue to bear. */
static bool can_write(void)
{
    struct pollfd p = {.fd = audit.sink->fd, .events = POLLOUT};
    return poll(&p, 1, PATIENCE_MS) == 1 && p.revents & POLLOUT;
}

static bool write_file(const char *p, size_t n)
{
    if (audit.torn && write(audit.sink->fd, "\n", 1) == 1)
        audit.torn = false;
    while (n) {
        ssize_t done = write(audit.sink->fd, p, n);
        if (done < 0 && (errno == EINTR || (errno == EAGAIN && can_write())))
            continue;
        if (done <= 0) {
            complain("the audit cannot be written", errno);
            return false;
        }
        audit.torn = p[done - 1] != '\n';
        p += done;
        n -= (size_t)done;
    }
    return true;
}

static bool write_syslog(const char *p, size_t n)
{
    char head[80];
    time_t now = (time_t)(tn_now_wall_ns() / TN_SEC);
    struct tm tm;
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    localtime_r(&now, &tm);
    int head_n = snprintf(head, sizeof head, "<%d>%.3s %2d %02d:%02d:%02d tenond[%d]: ",
                          audit.sink->facility * 8 + SYSLOG_SEVERITY, months + 3 * tm.tm_mon,
                          tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)getpid());
    struct iovec parts[] = {{head, (size_t)head_n},
                            {(void *)(uintptr_t)p, n - 1 /* the newline */}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = TN_COUNT_OF(parts)};
    for (int tries = 0;; tries++) {
        if (sendmsg(audit.sink->fd, &message, MSG_NOSIGNAL) >= 0)
            return true;
        int error = errno;
        if (tries || !open_again()) { /* syslog may have been started anew */
            complain("the audit cannot be sent", error);
            return false;
        }
    }
}

/* One line or, to a file, several. */
static void put(const char *p, size_t n, uint64_t lines)
{
    bool done = ready() && (audit.sink->syslog ? write_syslog(p, n) : write_file(p, n));
    if (!done) {
        count_lost(lines);
        return;
    }
    atomic_fetch_add_explicit(&audit.written, lines, memory_order_relaxed);
    tn_counter_add(audit.count_lines, lines);
}

static void put_lost(void)
{
    uint64_t lost = atomic_load_explicit(&audit.lost, memory_order_relaxed);
    tn_buf text = {0};
    if (lost == audit.told_lost)
        return;
    tn_audit_format_lost(lost - audit.told_lost, (int64_t)tn_now_wall_ns(), &text);
    if (ready() && (audit.sink->syslog ? write_syslog((const char *)text.p, text.n)
                                       : write_file((const char *)text.p, text.n)))
        audit.told_lost = lost;
    tn_buf_done(&text);
}

static line *oldest_first(line *newest)
{
    line *first = NULL;
    while (newest) {
        line *next = newest->next;
        newest->next = first;
        first = newest;
        newest = next;
    }
    return first;
}

static void drain(void)
{
    static char batch[BATCH_BYTES];
    size_t n = 0, lines = 0;
    line *l = oldest_first(atomic_exchange_explicit(&audit.pushed, NULL, memory_order_acquire));
    while (l) {
        line *next = l->next;
        if (n && (audit.sink->syslog || n + l->n > sizeof batch)) {
            put(batch, n, lines);
            n = lines = 0;
        }
        if (l->n > sizeof batch) {
            put(l->text, l->n, 1);
        } else {
            memcpy(batch + n, l->text, l->n);
            n += l->n;
            lines++;
        }
        atomic_fetch_sub_explicit(&audit.bytes, sizeof(line) + l->n, memory_order_relaxed);
        free(l);
        l = next;
    }
    if (n)
        put(batch, n, lines);
    put_lost();
}

static void sink_close(sink *s)
{
    if (!s)
        return;
    close(s->fd);
    free(s->path);
    free(s);
}

static void take_sink(void)
{
    sink *next = atomic_exchange_explicit(&audit.next, NULL, memory_order_acquire);
    if (!next)
        return;
    sink_close(audit.sink);
    audit.sink = next;
    audit.torn = false;
    audit.complained_ns = 0;
}

static void *writer(void *user)
{
    (void)user;
    for (;;) {
        bool ending = atomic_load(&audit.ending);
        take_sink();
        drain();
        if (ending)
            return NULL;
        while (sem_wait(&audit.wake) != 0 && errno == EINTR)
            ;
        if (atomic_load(&audit.reopen))
            (void)ready(); /* a rotated file is let go even when nothing is to be said */
    }
}

/* ---- life [main] -------------------------------------------------------------------------------- */

static tn_status start_writer(sink *first, tn_error *err)
{
    audit.count_lines =
        tn_metrics_counter("tenon_audit_lines", "Audit lines that were written", NULL, 0);
    audit.count_lost = tn_metrics_counter(
        "tenon_audit_lines_lost",
        "Audit lines that were lost: no room in the queue, or not written", NULL, 0);
    audit.sink = first;
    sem_init(&audit.wake, 0, 0);
    atomic_store(&audit.ending, false);
    int rc = pthread_create(&audit.thread, NULL, writer, NULL);
    audit.running = rc == 0;
    return rc == 0 ? TN_OK
                   : tn_error_set(err, TN_EINTERNAL, "the audit has no thread: %s", strerror(rc));
}

tn_status tn_audit_prepare(const tn_audit_options *o, tn_audit_fresh **out, tn_error *err)
{
    tn_audit_fresh *fresh = tn_xcalloc(1, sizeof *fresh);
    if (!o) {
        *out = fresh;
        return TN_OK;
    }
    int fd = open_sink(o->syslog, o->path);
    if (fd < 0) {
        free(fresh);
        return tn_error_set(err, TN_EINVALID, "%s cannot be opened: %s", o->path, strerror(-fd));
    }
    sink *s = tn_xcalloc(1, sizeof *s);
    *s = (sink){o->syslog, o->facility, fd, tn_xstrdup(o->path)};
    *fresh = (tn_audit_fresh){.sink = s, .all = o->all, .queue_bytes_max = o->queue_bytes_max};
    if (!audit.running) {
        tn_status status = start_writer(s, err);
        fresh->sink = status == TN_OK ? NULL : s; /* the writer has it */
        if (status != TN_OK) {
            tn_audit_discard(fresh);
            return status;
        }
        fresh->begun = true;
    }
    *out = fresh;
    return TN_OK;
}

void tn_audit_discard(tn_audit_fresh *fresh)
{
    if (!fresh)
        return;
    sink_close(fresh->sink);
    free(fresh);
}

void tn_audit_commit(tn_audit_fresh *fresh)
{
    bool wanted = fresh->sink || fresh->begun;
    atomic_store(&audit.all, fresh->all);
    atomic_store(&audit.queue_bytes_max, fresh->queue_bytes_max);
    atomic_store(&audit.on, wanted);
    if (fresh->sink) {
        sink_close(atomic_exchange_explicit(&audit.next, fresh->sink, memory_order_acq_rel));
        sem_post(&audit.wake);
    }
    free(fresh);
}

void tn_audit_reopen(void)
{
    if (!audit.running)
        return;
    atomic_store(&audit.reopen, true);
    sem_post(&audit.wake);
}

void tn_audit_stop(void)
{
    if (!audit.running)
        return;
    atomic_store(&audit.on, false);
    atomic_store(&audit.ending, true);
    sem_post(&audit.wake);
    pthread_join(audit.thread, NULL);
    audit.running = false;
    sem_destroy(&audit.wake);
    sink_close(atomic_exchange(&audit.next, NULL));
    sink_close(audit.sink);
    audit.sink = NULL;
}

void tn_audit_stats_get(tn_audit_stats *out)
{
    out->written = atomic_load_explicit(&audit.written, memory_order_relaxed);
    out->lost = atomic_load_explicit(&audit.lost, memory_order_relaxed);
}
