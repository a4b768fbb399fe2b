/* SPDX-License-Identifier: MIT */
/* The control socket: where `tenonctl reload` asks and hears how it went.
 *
 * A local socket, not a call of the gRPC port: who may reload a server is who may start it, which the kernel knows (the
 * peer's user id), while the authorizer of the port may be the very thing that has to be replaced.  A thread of its own
 * takes one request at a time; the reload is done by the main thread, which a signal wakes, as with kill -HUP. */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/private.h"

#define PATIENCE_S 5 /* with who has connected and says nothing, or does not read */
#define REQUEST_MAX 64

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    int fd, wake_fd;
    bool running, stopping;
    bool asked, answered, ok;
    tn_buf report;
} control = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* ---- one request [the thread] ---- */

static void say(int fd, const char *text, size_t n)
{
    while (n) {
        ssize_t done = send(fd, text, n, MSG_NOSIGNAL);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return; /* he has gone: the log has it, too */
        text += done;
        n -= (size_t)done;
    }
}

static void say_z(int fd, const char *text) { say(fd, text, strlen(text)); }

static bool may_ask(int fd)
{
    struct ucred peer;
    socklen_t n = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 &&
        (peer.uid == 0 || peer.uid == geteuid()))
        return true;
    TN_LOG(TN_LOG_WARN, "server",
           "refused on the control socket: neither root nor the server's own user",
           TN_LOG_U("uid", peer.uid), TN_LOG_I("pid", peer.pid));
    say_z(fd, "failed\nonly root and the user that the server runs as may ask for that\n");
    return false;
}

/* A line; false: it did not come. */
static bool hear(int fd, char line[REQUEST_MAX])
{
    size_t n = 0;
    while (n < REQUEST_MAX - 1) {
        ssize_t got = recv(fd, line + n, 1, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        if (line[n] == '\n') {
            line[n] = '\0';
            return true;
        }
        n++;
    }
    return false;
}

static void reload(int fd)
{
    pthread_mutex_lock(&control.lock);
    control.asked = !control.stopping;
    control.answered = false;
    bool asked = control.asked;
    pthread_mutex_unlock(&control.lock);
    if (asked)
        tn_main_wake(SIGHUP);
    pthread_mutex_lock(&control.lock);
    while (asked && !control.answered && !control.stopping)
        pthread_cond_wait(&control.changed, &control.lock);
    bool answered = asked && control.answered;
    control.asked = control.answered = false;
    tn_buf report = control.report;
    control.report = (tn_buf){0};
    pthread_mutex_unlock(&control.lock);
    say_z(fd, answered && control.ok ? "ok\n" : "failed\n");
    if (answered)
        say(fd, (const char *)report.p, report.n);
    else
        say_z(fd, "the server is stopping\n");
    tn_buf_done(&report);
}

static void serve_one(int fd)
{
    struct timeval patience = {.tv_sec = PATIENCE_S};
    char line[REQUEST_MAX];
    bool may = may_ask(fd);
    if (!may)
        patience = (struct timeval){
            .tv_usec = 50000}; /* what is unread when we close takes our words along */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (!hear(fd, line) || !may)
        return;
    if (strcmp(line, "reload") == 0)
        reload(fd);
    else
        say_z(fd, "failed\nunknown request: tenonctl and tenond are of different releases\n");
}

static void *run(void *unused)
{
    (void)unused;
    for (;;) {
        struct pollfd fds[] = {{.fd = control.fd, .events = POLLIN},
                               {.fd = control.wake_fd, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return NULL;
        if (fds[1].revents)
            return NULL;
        int fd = fds[0].revents ? accept4(control.fd, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (fd < 0)
            continue;
        serve_one(fd);
        close(fd);
    }
}

/* ---- life [main] ---- */

/* What a dead server left behind may go; a living one's stays. */
static tn_status make_way(const struct sockaddr_un *at, tn_error *err)
{
    struct stat st;
    if (lstat(at->sun_path, &st) != 0)
        return TN_OK;
    if (!S_ISSOCK(st.st_mode))
        return tn_error_set(err, TN_EINVALID, "%s is there and is no socket", at->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool alive = fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof *at) == 0;
    if (fd >= 0)
        close(fd);
    if (alive)
        return tn_error_set(err, TN_ECONFLICT, "another server listens at %s", at->sun_path);
    return unlink(at->sun_path) == 0
               ? TN_OK
               : tn_error_set(err, TN_EDENIED, "%s: %s", at->sun_path, strerror(errno));
}

static tn_status start_at(const char *path, tn_error *err)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    TN_ASSERT(!control.running && strlen(path) < sizeof at.sun_path);
    memcpy(at.sun_path, path, strlen(path));
    memcpy(control.path, at.sun_path, sizeof control.path);
    tn_status status = make_way(&at, err);
    if (status != TN_OK)
        return status;
    control.stopping = control.asked = false;
    control.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    control.wake_fd = eventfd(0, EFD_CLOEXEC);
    bool bound = control.fd >= 0 && bind(control.fd, (const struct sockaddr *)&at, sizeof at) == 0;
    /* Nobody can connect before listen: the mode is right by then. */
    if (bound && control.wake_fd >= 0 && chmod(path, 0600) == 0 && listen(control.fd, 8) == 0 &&
        pthread_create(&control.thread, NULL, run, NULL) == 0) {
        control.running = true;
        return TN_OK;
    }
    status = tn_error_set(err, TN_EUNAVAILABLE, "%s: %s", path, strerror(errno));
    if (bound)
        unlink(path);
    if (control.fd >= 0)
        close(control.fd);
    if (control.wake_fd >= 0)
        close(control.wake_fd);
    return status;
}

tn_status tn_control_open(const tn_settings *set, tn_error *err)
{
    tn_status status = set->control_socket ? start_at(set->control_socket, err) : TN_OK;
    if (status == TN_OK || tn_config_get(tn_config_root(set->tree), "control.socket"))
        return status;
    /* Nobody asked for it in this place: several processes of one service have one folder. */
    TN_LOG(TN_LOG_WARN, "server",
           "no control socket: tenonctl reload does not reach this process, SIGHUP does",
           TN_LOG_Z("why", err->text));
    return TN_OK;
}

bool tn_control_asked(void)
{
    pthread_mutex_lock(&control.lock);
    bool asked = control.asked && !control.answered;
    pthread_mutex_unlock(&control.lock);
    return asked;
}

void tn_control_answer(bool ok, const tn_buf *report)
{
    pthread_mutex_lock(&control.lock);
    tn_buf_put(&control.report, report->p, report->n);
    control.ok = ok;
    control.answered = true;
    pthread_cond_signal(&control.changed);
    pthread_mutex_unlock(&control.lock);
}

void tn_control_stop(void)
{
    if (!control.running)
        return;
    unlink(control.path);
    pthread_mutex_lock(&control.lock);
    control.stopping = true;
    pthread_cond_signal(&control.changed);
    pthread_mutex_unlock(&control.lock);
    (void)!write(control.wake_fd, &(uint64_t){1}, sizeof(uint64_t));
    pthread_join(control.thread, NULL);
    close(control.fd);
    close(control.wake_fd);
    tn_buf_done(&control.report);
    control.running = false;
}
