/* SPDX-License-Identifier: MIT */
/* tenonctl reload: asks a running server of this machine, by its control socket, to read its configuration again, and
 * prints what it answers. */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/tools.h"

#define DEFAULT_SOCKET "/run/tenon/control.sock"
#define ANSWER_MAX (1u << 20)

static int cannot(const char *what, const char *path, int why)
{
    const char *fix = why == ENOENT || why == ECONNREFUSED
                          ? "is tenond running, with control.socket in its configuration (or as a "
                            "service)?  kill -HUP does the same, its log says how it went"
                      : why == EACCES ? "run it as root, or as the user that the server runs as"
                                      : "see the server's log";
    fprintf(stderr, "tenonctl: reload: cannot %s %s: %s\n    fix: %s\n", what, path, strerror(why),
            fix);
    return TN_TOOL_FAILED;
}

static int knock(const char *path, int *out)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof at.sun_path)
        return ENAMETOOLONG;
    memcpy(at.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    if (connect(fd, (const struct sockaddr *)&at, sizeof at) != 0 ||
        send(fd, "reload\n", 7, MSG_NOSIGNAL) != 7) {
        int why = errno;
        close(fd);
        return why;
    }
    *out = fd;
    return 0;
}

/* All that it says, to its end. */
static int hear(int fd, tn_buf *out)
{
    for (;;) {
        tn_buf_reserve(out, 4096);
        ssize_t n = recv(fd, out->p + out->n, out->cap - out->n, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            return 0;
        out->n += (size_t)n;
        if (out->n > ANSWER_MAX)
            return EMSGSIZE;
    }
}

static int ask(const char *path)
{
    tn_buf answer = {0};
    int fd = -1, why = knock(path, &fd);
    if (why)
        return cannot("reach the server at", path, why);
    why = hear(fd, &answer);
    close(fd);
    tn_str text = tn_str_of_blob(tn_buf_blob(&answer));
    bool ok = tn_str_starts(text, TN_STR("ok\n")), failed = tn_str_starts(text, TN_STR("failed\n"));
    if (!why && !ok && !failed)
        why = EPROTO; /* it ended before it could answer */
    if (!why) {
        size_t head = ok ? 3 : 7;
        fwrite(text.p + head, 1, text.n - head, ok ? stdout : stderr);
    }
    tn_buf_done(&answer);
    if (why)
        return cannot("hear the answer of", path, why);
    return ok ? TN_TOOL_OK : TN_TOOL_FAILED;
}

/* Where the configuration says that the server listens; the file need not be right otherwise: that is what the server
 * is asked about. */
static int socket_of(const char *config, char *out, size_t size)
{
    tn_config_problems *problems = tn_config_problems_create();
    tn_config_tree *tree = NULL;
    tn_error err = {0};
    tn_str path = TN_STR(DEFAULT_SOCKET);
    if (tn_config_load(config, problems, &tree) == TN_OK &&
        tn_config_str(tn_config_root(tree), "control.socket", &path, &err) == TN_EINVALID)
        tn_config_problems_add(problems, err.text);
    snprintf(out, size, TN_STR_FMT, TN_STR_ARG(path));
    int result = tn_tool_end(problems);
    tn_config_tree_destroy(tree);
    return result;
}

static int run(const tn_tool *tool, int argc, char **argv)
{
    const char *config = NULL, *given = NULL;
    char path[512] = DEFAULT_SOCKET;
    const tn_option options[] = {{"--config", TN_OPTION_TEXT, &config},
                                 {"--socket", TN_OPTION_TEXT, &given}};
    int result = tn_tool_options(tool, argc, argv, options, TN_COUNT_OF(options), NULL, 0, 0);
    if (result != TN_TOOL_GO_ON)
        return result;
    if (config && given)
        return tn_tool_misused(tool, "--config and --socket are two ways to say one thing");
    if (config && (result = socket_of(config, path, sizeof path)) != TN_TOOL_OK)
        return result;
    if (given)
        snprintf(path, sizeof path, "%s", given);
    return ask(path);
}

const tn_tool tn_tools_reload[] = {
    {.name = "reload",
     .args = "[--config FILE | --socket PATH]",
     .brief = "have a running server read its configuration again",
     .help = "The socket is control.socket of FILE, PATH, or " DEFAULT_SOCKET ".\n"
             "Prints what has changed and what would need a restart, and ends with 0; or why "
             "nothing has changed (the\n"
             "server goes on as it was), and ends with 1.  kill -HUP does the same and says it in "
             "the server's log.\n",
     .run = run},
    {0},
};
