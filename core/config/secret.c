/* SPDX-License-Identifier: MIT */
/* Secrets: in place, or from a file, a variable or a command, read once and kept until the tree
 * goes. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/private.h"

#define SECRET_BYTES_MAX 65536u
#define COMMAND_TIMEOUT_NS (10 * TN_SEC)
#define COMMAND_ARGS_MAX 64u

extern char **environ;

static int spawn(char *const argv[], int out_fd, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, usual;
    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &usual);
    posix_spawnattr_setpgroup(&attr, 0); /* a group of its own, so that its children die with it */
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                        POSIX_SPAWN_SETPGROUP);
    int rc = posix_spawnp(pid, argv[0], &actions, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    return rc;
}

/* Waits for fd until the deadline; false when it passed. */
static bool ready(int fd, uint64_t deadline_ns)
{
    for (;;) {
        uint64_t now = tn_now_mono_ns();
        if (now >= deadline_ns)
            return false;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int rc = poll(&p, 1, (int)((deadline_ns - now) / TN_MS) + 1);
        if (rc > 0 || (rc < 0 && errno != EINTR))
            return true;
    }
}

static const char *collect(int fd, uint64_t deadline_ns, tn_buf *out)
{
    for (;;) {
        if (!ready(fd, deadline_ns))
            return "did not finish within 10 s";
        tn_buf_reserve(out, 4096);
        ssize_t n = read(fd, out->p + out->n, out->cap - out->n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return "its output cannot be read";
        if (n == 0)
            return NULL;
        out->n += (size_t)n;
        if (out->n > SECRET_BYTES_MAX)
            return "wrote more than 64 KiB";
    }
}

static const char *run_command(char *const argv[], tn_buf *out)
{
    static _Thread_local char reason[160];
    int fds[2];
    pid_t pid;
    if (pipe2(fds, O_CLOEXEC) != 0)
        return strerror(errno);
    int rc = spawn(argv, fds[1], &pid);
    close(fds[1]);
    if (rc) {
        close(fds[0]);
        snprintf(reason, sizeof reason, "cannot be started: %s", strerror(rc));
        return reason;
    }
    uint64_t deadline = tn_now_mono_ns() + COMMAND_TIMEOUT_NS;
    const char *why = collect(fds[0], deadline, out);
    close(fds[0]);
    int pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (!why && pid_fd >= 0 && !ready(pid_fd, deadline))
        why = "did not finish within 10 s";
    if (pid_fd >= 0)
        close(pid_fd);
    if (why)
        kill(-pid, SIGKILL);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!why && WIFSIGNALED(status)) {
        snprintf(reason, sizeof reason, "was ended by signal %d", WTERMSIG(status));
        why = reason;
    } else if (!why && WEXITSTATUS(status) != 0) {
        snprintf(reason, sizeof reason, "ended with status %d", WEXITSTATUS(status));
        why = reason;
    }
    return why;
}

/* Fills argv from a list, or from a line for the shell; false: not of that form. */
static bool command_args(const tn_config *at, char *argv[COMMAND_ARGS_MAX + 1])
{
    static char shell[] = "/bin/sh", flag[] = "-c";
    size_t n = 0;
    if (at->kind == TN_CONFIG_SCALAR) {
        argv[n++] = shell;
        argv[n++] = flag;
        argv[n++] = (char *)(uintptr_t)at->text.p; /* NUL-terminated by the arena */
    } else if (at->kind == TN_CONFIG_LIST && at->count && at->count <= COMMAND_ARGS_MAX) {
        for (const tn_config *arg = at->first; arg; arg = arg->next) {
            if (arg->kind != TN_CONFIG_SCALAR)
                return false;
            argv[n++] = (char *)(uintptr_t)arg->text.p;
        }
    }
    argv[n] = NULL;
    return n > 0;
}

static tn_status keep(const tn_config *from, tn_buf *buf, tn_str *out)
{
    size_t n = buf->n;
    if (n && buf->p[n - 1] == '\n')
        n--;
    if (n && buf->p[n - 1] == '\r')
        n--;
    tn_config_secret_value *s = tn_xcalloc(1, sizeof *s + n + 1);
    s->from = from;
    s->n = n;
    if (n)
        memcpy(s->text, buf->p, n);
    s->next = from->tree->secrets;
    from->tree->secrets = s;
    *out = (tn_str){s->text, n};
    return TN_OK;
}

static bool kept(const tn_config *from, tn_str *out)
{
    for (const tn_config_secret_value *s = from->tree->secrets; s; s = s->next) {
        if (s->from == from) {
            *out = (tn_str){s->text, s->n};
            return true;
        }
    }
    return false;
}

static tn_status read_secret(const tn_config *node, const char *path, const tn_config *at,
                             size_t way, tn_buf *buf, tn_error *err)
{
    if (way == 2) { /* Command */
        char *argv[COMMAND_ARGS_MAX + 1];
        if (!command_args(at, argv))
            return tn_config_fail(node, path, err,
                                  "wants a list of a program and its arguments, or one line");
        const char *why = run_command(argv, buf);
        return why ? tn_config_fail(node, path, err, "command \"%s\" %s", argv[0], why) : TN_OK;
    }
    if (at->kind != TN_CONFIG_SCALAR)
        return tn_config_fail(node, path, err, "wants a text");
    if (way == 0) { /* File */
        tn_error why = {0};
        if (tn_config_read_file(at->text.p, SECRET_BYTES_MAX, buf, &why) != TN_OK)
            return tn_config_fail(node, path, err, "%s", why.text);
        return TN_OK;
    }
    const char *value = getenv(at->text.p);
    if (!value)
        return tn_config_fail(node, path, err, "the variable %s is not set", at->text.p);
    tn_buf_put(buf, value, strlen(value));
    return TN_OK;
}

tn_status tn_config_secret(const tn_config *node, const char *path, tn_str *out, tn_error *err)
{
    static const char *const ways[] = {"File", "Env", "Command"};
    const tn_config *in_place = tn_config_get(node, path), *found = NULL;
    char longer[300], found_path[300] = "";
    size_t way = 0, given = 0;
    if (in_place && in_place->kind == TN_CONFIG_NULL)
        in_place = NULL;
    given += in_place != NULL;
    for (size_t i = 0; i < TN_COUNT_OF(ways); i++) {
        snprintf(longer, sizeof longer, "%s%s", path, ways[i]);
        const tn_config *at = tn_config_get(node, longer);
        if (at && at->kind != TN_CONFIG_NULL) {
            found = at;
            way = i;
            given++;
            memcpy(found_path, longer, sizeof longer);
        }
    }
    if (!given)
        return TN_ENOTFOUND;
    if (given > 1)
        return tn_config_fail(
            node, path, err,
            "is given in more than one way; keep one of %s, %sFile, %sEnv, %sCommand", path, path,
            path, path);
    if (in_place) {
        if (in_place->kind != TN_CONFIG_SCALAR)
            return tn_config_fail(node, path, err, "wants a text");
        *out = in_place->text;
        return TN_OK;
    }
    if (kept(found, out))
        return TN_OK;
    tn_buf buf = {0};
    tn_status status = read_secret(node, found_path, found, way, &buf, err);
    if (status == TN_OK)
        status = keep(found, &buf, out);
    if (buf.p)
        explicit_bzero(buf.p, buf.cap);
    tn_buf_done(&buf);
    return status;
}
