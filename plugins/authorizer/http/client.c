/* SPDX-License-Identifier: MIT */
/* libcurl's multi handle on a loop: its sockets are the host's watches, its time the host's timer.  Connections are kept
 * and used again; nothing blocks but the reading of a token's file, once a second at most. */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the loop's side ---- */

static void finish_ready(ht_ctx *ctx);

static void act(ht_ctx *ctx, curl_socket_t fd, int events)
{
    int running;
    curl_multi_socket_action(ctx->multi, fd, events, &running);
    finish_ready(ctx);
}

static void fire(void *arg)
{
    ht_ctx *ctx = arg;
    ctx->inst->host->timer_stop(ctx->timer);
    ctx->timer = NULL;
    act(ctx, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long ms, void *arg)
{
    ht_ctx *ctx = arg;
    const tn_host *host = ctx->inst->host;
    (void)multi;
    host->timer_stop(ctx->timer);
    ctx->timer = NULL;
    if (ms < 0)
        return 0;
    ctx->timer = host->timer_start(ctx->loop, (uint64_t)ms * HT_MS, fire, ctx);
    return ctx->timer ? 0 : -1;
}

typedef struct seat { /* a socket of libcurl's */
    ht_ctx *ctx;
    tn_watch *watch;
    curl_socket_t fd;
} seat;

static void ready(void *arg, uint32_t events)
{
    const seat *s = arg; /* gone when the action frees it */
    act(s->ctx, s->fd,
        (events & TN_FD_READ ? CURL_CSELECT_IN : 0) |
            (events & TN_FD_WRITE ? CURL_CSELECT_OUT : 0));
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    ht_ctx *ctx = arg;
    seat *s = socket_arg;
    const tn_host *host = ctx->inst->host;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (s)
            host->watch_free(s->watch);
        free(s);
        curl_multi_assign(ctx->multi, fd, NULL);
        return 0;
    }
    uint32_t events =
        (what & CURL_POLL_IN ? TN_FD_READ : 0) | (what & CURL_POLL_OUT ? TN_FD_WRITE : 0);
    if (s) {
        host->watch_set(s->watch, events);
        return 0;
    }
    s = calloc(1, sizeof *s);
    if (!s)
        return -1;
    *s = (seat){.ctx = ctx, .fd = fd};
    s->watch = host->watch_fd(ctx->loop, fd, events, ready, s);
    if (!s->watch) {
        free(s);
        return -1;
    }
    curl_multi_assign(ctx->multi, fd, s);
    return 0;
}

bool ht_client_init(ht_ctx *ctx)
{
    const ht_options *o = &ctx->inst->options;
    ctx->multi = curl_multi_init();
    ctx->idle = calloc((size_t)o->concurrent, sizeof(CURL *));
    if (!ctx->multi || !ctx->idle)
        return false;
    curl_multi_setopt(ctx->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(ctx->multi, CURLMOPT_SOCKETDATA, ctx);
    curl_multi_setopt(ctx->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(ctx->multi, CURLMOPT_TIMERDATA, ctx);
    curl_multi_setopt(ctx->multi, CURLMOPT_MAXCONNECTS, (long)o->concurrent);
    return true;
}

static void forget_token(ht_ctx *ctx)
{
    if (ctx->token)
        explicit_bzero(ctx->token, strlen(ctx->token));
    free(ctx->token);
    ctx->token = NULL;
}

void ht_client_done(ht_ctx *ctx)
{
    for (size_t i = 0; i < ctx->n_idle; i++)
        curl_easy_cleanup(ctx->idle[i]);
    free(ctx->idle);
    if (ctx->multi)
        curl_multi_cleanup(ctx->multi); /* closes the connections, and with them their watches */
    ctx->inst->host->timer_stop(ctx->timer);
    ctx->timer = NULL;
    forget_token(ctx);
}

/* ---- the bearer's token ---- */

static bool read_token(ht_ctx *ctx, int fd, size_t size)
{
    char *text = calloc(1, size + 1);
    ssize_t n = text ? read(fd, text, size) : -1;
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r' || text[n - 1] == ' '))
        text[--n] = 0;
    bool good = n > 0;
    for (ssize_t i = 0; i < n; i++)
        good = good && text[i] > ' ' && text[i] <= '~';
    if (good) {
        forget_token(ctx);
        ctx->token = text;
    } else if (text) {
        explicit_bzero(text, size);
        free(text);
    }
    return good;
}

/* The file may have changed: looked at once a second at most. */
static bool refresh_token(ht_ctx *ctx, tn_error *err)
{
    const char *path = ctx->inst->options.token_file;
    uint64_t now = ctx->inst->host->mono_ns();
    struct stat st;
    if (!path || (ctx->token && now - ctx->token_seen_ns < HT_SEC))
        return true;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) != 0) {
        ht_error(err, TN_EUNAVAILABLE, "tokenFile %.150s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    int64_t mtime = (int64_t)st.st_mtim.tv_sec * (int64_t)HT_SEC + st.st_mtim.tv_nsec;
    bool good = true;
    if (!ctx->token || mtime != ctx->token_mtime_ns || st.st_size != ctx->token_size) {
        good = S_ISREG(st.st_mode) && st.st_size > 0 && (size_t)st.st_size <= HT_TOKEN_MAX &&
               read_token(ctx, fd, (size_t)st.st_size);
        if (!good)
            ht_error(err, TN_EUNAVAILABLE,
                     "tokenFile %.150s: holds no token (a line of at most 16 KiB)", path);
        ctx->token_mtime_ns = mtime;
        ctx->token_size = st.st_size;
    }
    close(fd);
    ctx->token_seen_ns = now;
    if (!good)
        forget_token(ctx);
    return good;
}

static bool add_header(ht_question *q, const char *text)
{
    struct curl_slist *more = curl_slist_append(q->headers, text);
    if (more)
        q->headers = more;
    return more != NULL;
}

static bool make_headers(ht_question *q)
{
    bool good = add_header(q, "Content-Type: application/json") &&
                add_header(q, "Accept: application/json") && add_header(q, "Expect:");
    if (good && q->ctx->token) {
        char *line = NULL;
        int n = asprintf(&line, "Authorization: Bearer %s", q->ctx->token);
        good = n > 0 && add_header(q, line);
        if (n > 0) {
            explicit_bzero(line, (size_t)n);
            free(line);
        }
    }
    return good;
}

static void free_headers(ht_question *q)
{
    for (struct curl_slist *h = q->headers; h; h = h->next)
        explicit_bzero(h->data, strlen(h->data));
    curl_slist_free_all(q->headers);
    q->headers = NULL;
}

/* ---- a request ---- */

static size_t take(char *bytes, size_t size, size_t count, void *arg)
{
    ht_question *q = arg;
    size_t n = size * count;
    q->too_large = n > HT_ANSWER_MAX - q->answer_n;
    if (q->too_large)
        return 0; /* ends the transfer */
    char *grown = realloc(q->answer, q->answer_n + n + 1);
    if (!grown)
        return 0;
    q->answer = grown;
    memcpy(q->answer + q->answer_n, bytes, n);
    q->answer_n += n;
    return n;
}

/* What is the same for every request of a handle. */
static CURL *make_handle(const ht_options *o)
{
    CURL *easy = curl_easy_init();
    if (!easy)
        return NULL;
    curl_easy_setopt(easy, CURLOPT_URL, o->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION,
                     0L);                      /* a verdict comes from where it is asked for */
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* whatever the environment says */
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "tenon");
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    if (o->ca_file) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, o->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); /* these authorities and no others */
    }
    if (o->cert_file) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, o->cert_file);
        curl_easy_setopt(easy, CURLOPT_SSLKEY, o->key_file);
    }
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    return easy;
}

static void give_back(ht_ctx *ctx, CURL *easy)
{
    if (ctx->n_idle < (size_t)ctx->inst->options.concurrent)
        ctx->idle[ctx->n_idle++] = easy;
    else
        curl_easy_cleanup(easy);
}

bool ht_client_send(ht_question *q, tn_error *err)
{
    ht_ctx *ctx = q->ctx;
    uint64_t now = ctx->inst->host->mono_ns();
    long left = q->deadline_ns > now ? (long)((q->deadline_ns - now) / HT_MS) : 0;
    if (!refresh_token(ctx, err))
        return false;
    CURL *easy = ctx->n_idle ? ctx->idle[--ctx->n_idle] : make_handle(&ctx->inst->options);
    if (!easy || !make_headers(q)) {
        free_headers(q);
        if (easy)
            give_back(ctx, easy);
        ht_error(err, TN_EUNAVAILABLE, "out of memory");
        return false;
    }
    curl_easy_setopt(easy, CURLOPT_PRIVATE, q);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, q);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, q->why);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, q->headers);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)q->body.n);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, q->body.p);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, left > 0 ? left : 1);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, left > 0 ? left : 1);
    q->easy = easy;
    if (curl_multi_add_handle(ctx->multi, easy) != CURLM_OK) {
        q->easy = NULL;
        free_headers(q);
        curl_easy_cleanup(easy);
        ht_error(err, TN_EUNAVAILABLE, "libcurl takes no request");
        return false;
    }
    ctx->n_under_way++;
    return true;
}

static ht_verdict *judge(ht_question *q, CURLcode rc, tn_error *err)
{
    long code = 0;
    curl_easy_getinfo(q->easy, CURLINFO_RESPONSE_CODE, &code);
    if (q->too_large)
        ht_error(err, TN_EUNAVAILABLE, "the decision point's answer is larger than 64 KiB");
    else if (rc != CURLE_OK)
        ht_error(err, TN_EUNAVAILABLE, "the decision point: %.180s",
                 q->why[0] ? q->why : curl_easy_strerror(rc));
    else if (code != 200)
        ht_error(err, TN_EUNAVAILABLE, "the decision point answers with status %ld", code);
    else
        return ht_answer(q->answer ? q->answer : "", q->answer_n, err);
    return NULL;
}

static void finish_ready(ht_ctx *ctx)
{
    int left;
    for (CURLMsg *msg; (msg = curl_multi_info_read(ctx->multi, &left));) {
        if (msg->msg != CURLMSG_DONE)
            continue;
        CURL *easy = msg->easy_handle;
        CURLcode rc = msg->data.result;
        ht_question *q = NULL;
        tn_error err = {0};
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&q);
        ht_verdict *verdict = judge(q, rc, &err);
        curl_multi_remove_handle(ctx->multi, easy);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, NULL);
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
        free_headers(q);
        q->easy = NULL;
        ctx->n_under_way--;
        give_back(ctx, easy);
        ctx->inst->host->metric_add(ctx->inst->m_seconds,
                                    (double)(ctx->inst->host->mono_ns() - q->began_ns) /
                                        (double)HT_SEC);
        ht_end(q, verdict, &err);
    }
    ht_next(ctx);
}
