/* SPDX-License-Identifier: MIT */
/* The policy's file, read again when it changes.  The folder is watched (inotify), which sees files written in place,
 * moved into place and links changed; what it cannot see (another machine's writes, a link to elsewhere) is found by a
 * look at the file every `checkInterval`.  Reading and compiling happen on the pool; a policy that is bad leaves the old
 * one in use. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

typedef struct job {        /* may outlive the watch */
    struct rl_watch *watch; /* [loop] NULL: it has ended */
    const tn_host *host;
    char *path;
    rl_policy *policy;
    struct stat seen;
    tn_status status;
    tn_error err;
} job;

typedef struct rl_watch {
    rl_inst *inst;
    tn_loop *loop;
    tn_watch *fd_watch;
    tn_timer *timer;
    job *running;
    int fd;
    bool again; /* it changed while it was read */
} rl_watch;

static void look(rl_watch *watch);

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* ---- reading ---- */

static void read_file(void *arg)
{
    job *j = arg;
    j->status = rl_policy_read(j->path, &j->seen, &j->policy, &j->err);
}

static void free_job(job *j)
{
    rl_policy_unref(j->policy);
    free(j->path);
    free(j);
}

static void say(rl_inst *inst, int32_t level, const char *text)
{
    inst->host->log(inst, level, text, strlen(text));
}

static void use(rl_inst *inst, job *j)
{
    char text[200];
    size_t rules = j->policy->n_rules;
    pthread_mutex_lock(&inst->lock);
    rl_policy *old = inst->policy;
    size_t old_rules = old->n_rules;
    j->policy->generation = old->generation + 1;
    inst->policy = j->policy;
    atomic_store(&inst->generation, j->policy->generation);
    pthread_mutex_unlock(&inst->lock);
    j->policy = NULL;
    rl_policy_unref(old);
    inst->host->metric_add(inst->m_reloads, 1);
    inst->host->metric_add(inst->m_rules, (double)rules - (double)old_rules);
    snprintf(text, sizeof text, "the policy has changed: %zu rules are in use", rules);
    say(inst, TN_LEVEL_INFO, text);
}

static void was_read(void *arg)
{
    job *j = arg;
    rl_watch *watch = j->watch;
    if (!watch) {
        free_job(j);
        return;
    }
    rl_inst *inst = watch->inst;
    watch->running = NULL;
    inst->seen = j->seen; /* a bad one is not read again until it changes */
    if (j->status == TN_OK) {
        use(inst, j);
    } else {
        char text[400];
        snprintf(text, sizeof text,
                 "the policy has changed and is not taken, the old one stays: %s", j->err.text);
        inst->host->metric_add(inst->m_reload_errors, 1);
        say(inst, TN_LEVEL_ERROR, text);
    }
    free_job(j);
    if (watch->again)
        look(watch);
}

static void look(rl_watch *watch)
{
    rl_inst *inst = watch->inst;
    struct stat now = {0};
    watch->again = watch->running != NULL;
    if (watch->again)
        return;
    if (stat(inst->path, &now) == 0 && same_file(&now, &inst->seen))
        return;
    if (now.st_ino == 0 && inst->seen.st_ino == 0)
        return; /* still not there */
    job *j = calloc(1, sizeof *j);
    if (!j)
        return;
    *j = (job){.watch = watch, .host = inst->host, .path = strdup(inst->path)};
    if (!j->path || inst->host->offload(watch->loop, read_file, was_read, j) != TN_OK) {
        free_job(j);
        return;
    }
    watch->running = j;
}

/* ---- being told ---- */

static void events(void *arg, uint32_t bits)
{
    rl_watch *watch = arg;
    char bytes[4096];
    (void)bits;
    while (read(watch->fd, bytes, sizeof bytes) > 0)
        ;
    look(watch);
}

static void tick(void *arg)
{
    rl_watch *watch = arg;
    const tn_host *host = watch->inst->host;
    host->timer_stop(watch->timer);
    watch->timer = host->timer_start(watch->loop, watch->inst->check_ns, tick, watch);
    look(watch);
}

static int watch_folder(const char *path)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash == path ? 1 : (size_t)(slash - path);
    if (n >= sizeof folder)
        return -1;
    memcpy(folder, path, n);
    folder[n] = 0;
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd >= 0 &&
        inotify_add_watch(fd, folder, IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

rl_watch *rl_watch_start(rl_inst *inst, tn_loop *loop)
{
    const tn_host *host = inst->host;
    rl_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return NULL;
    *watch = (rl_watch){.inst = inst, .loop = loop, .fd = watch_folder(inst->path)};
    if (watch->fd >= 0)
        watch->fd_watch = host->watch_fd(loop, watch->fd, TN_FD_READ, events, watch);
    if (inst->check_ns)
        watch->timer = host->timer_start(loop, inst->check_ns, tick, watch);
    if (!watch->fd_watch && !inst->check_ns)
        say(inst, TN_LEVEL_WARN,
            "the policy's folder cannot be watched: set checkInterval, or changes are not seen");
    look(watch); /* it may have changed since open read it */
    return watch;
}

void rl_watch_stop(rl_watch *watch)
{
    const tn_host *host = watch->inst->host;
    if (watch->running)
        watch->running->watch = NULL;
    host->watch_free(watch->fd_watch);
    host->timer_stop(watch->timer);
    if (watch->fd >= 0)
        close(watch->fd);
    free(watch);
}
