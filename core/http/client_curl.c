/* SPDX-License-Identifier: MIT */
/* libcurl's multi handle on each loop: its sockets are watches, its time is a timer.  Connections are kept and used
 * again.  The library is loaded with the first request: it and what it needs take some megabytes, and most servers call
 * nobody outside. */
#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "http/client.h"
#include "plugin/foreign.h"

#define LOOPS_MAX 64
#define ANSWER_MAX (4u << 20)
#define HEADERS_MAX 100
#define CONNECTIONS_MAX 256L

/* What is used of it, under its own names. */
#define CURL_FUNCTIONS(X) \
    X(easy_cleanup) \
    X(easy_getinfo) \
    X(easy_init) \
    X(easy_nextheader) \
    X(easy_setopt) \
    X(easy_strerror) \
    X(global_init) \
    X(multi_add_handle) \
    X(multi_assign) \
    X(multi_info_read) \
    X(multi_init) \
    X(multi_remove_handle) \
    X(multi_setopt) \
    X(multi_socket_action) \
    X(slist_append) \
    X(slist_free_all)
#undef curl_easy_getinfo
#undef curl_easy_setopt
#undef curl_multi_setopt
static struct {
#define X(name) __typeof__(curl_##name) *name;
    CURL_FUNCTIONS(X)
#undef X
} curl;
static tn_error why_not; /* the library could not be loaded */
static bool loaded;

typedef struct side { /* a loop's */
    CURLM *multi;
    tn_loop_timer timer;
} side;

typedef struct post {
    tn_http_out *out;
    CURL *easy;
    struct curl_slist *headers;
    tn_buf body;
    bool too_large;
    char why[CURL_ERROR_SIZE];
} post;

static side *sides[LOOPS_MAX]; /* each belongs to its loop */

/* ---- what came ---- */

static size_t take_body(char *bytes, size_t size, size_t count, void *arg)
{
    post *p = arg;
    size_t n = size * count;

    p->too_large = n > ANSWER_MAX - p->body.n;
    if (p->too_large)
        return 0; /* ends the transfer */
    tn_buf_put(&p->body, bytes, n);
    return n;
}

static void take_headers(post *p)
{
    tn_http_out *out = p->out;
    struct curl_header *h = NULL;

    out->got = TN_NEW_ARRAY(out->arena, tn_http_pair, HEADERS_MAX);
    while (out->got && out->n_got < HEADERS_MAX &&
           (h = curl.easy_nextheader(p->easy, CURLH_HEADER, -1, h))) {
        tn_http_pair *pair = &out->got[out->n_got];
        char *name = tn_arena_strdup(out->arena, h->name);

        for (char *c = name; c && *c; c++) {
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c + ('a' - 'A'));
        }
        pair->name = tn_str_from(name ? name : "");
        pair->value = tn_arena_str(out->arena, tn_str_from(h->value));
        out->n_got++;
    }
}

static void finish(CURLM *multi, CURL *easy, CURLcode rc)
{
    post *p = NULL;
    tn_http_out *out;
    long status = 0;

    curl.easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&p);
    out = p->out;
    curl.easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    if (rc == CURLE_OK) {
        out->status = (int)status;
        take_headers(p);
        out->answer = tn_arena_blob(out->arena, tn_buf_blob(&p->body));
    } else if (p->too_large) {
        out->problem = "the answer is larger than 4 MiB";
    } else if (rc == CURLE_OPERATION_TIMEDOUT) {
        out->problem = "request timed out";
    } else {
        out->problem = tn_arena_strdup(out->arena, p->why[0] ? p->why : curl.easy_strerror(rc));
    }
    curl.multi_remove_handle(multi, easy);
    curl.easy_cleanup(easy);
    curl.slist_free_all(p->headers);
    tn_buf_done(&p->body);
    free(p);
    out->done(out);
}

/* ---- the loop's side ---- */

static void act(side *s, curl_socket_t fd, int events)
{
    int running, left;

    curl.multi_socket_action(s->multi, fd, events, &running);
    for (CURLMsg *msg; (msg = curl.multi_info_read(s->multi, &left));) {
        if (msg->msg == CURLMSG_DONE)
            finish(s->multi, msg->easy_handle, msg->data.result);
    }
}

static void fire(tn_loop_timer *timer)
{
    act(TN_CONTAINER_OF(timer, side, timer), CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long ms, void *arg)
{
    side *s = arg;

    (void)multi;
    if (ms < 0)
        tn_loop_timer_stop(&s->timer);
    else
        tn_loop_timer_start(&s->timer, tn_now_mono_ns() + (uint64_t)ms * TN_MS);
    return 0;
}

typedef struct seat { /* a socket of libcurl's */
    side *side;
    tn_loop_watch *watch;
    curl_socket_t fd;
} seat;

static void ready(void *user, uint32_t events)
{
    const seat *s = user; /* gone when the action frees it */

    act(s->side, s->fd,
        (events & TN_WATCH_READ ? CURL_CSELECT_IN : 0) |
            (events & TN_WATCH_WRITE ? CURL_CSELECT_OUT : 0));
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    side *mine = arg;
    seat *s = socket_arg;
    uint32_t events =
        (what & CURL_POLL_IN ? TN_WATCH_READ : 0) | (what & CURL_POLL_OUT ? TN_WATCH_WRITE : 0);

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (s)
            tn_loop_watch_destroy(s->watch);
        free(s);
        curl.multi_assign(mine->multi, fd, NULL);
        return 0;
    }
    if (s) {
        tn_loop_watch_set(s->watch, events);
        return 0;
    }
    s = tn_xcalloc(1, sizeof(*s));
    *s = (seat){.side = mine, .fd = fd};
    s->watch = tn_loop_watch_create(fd, events, ready, s);
    if (!s->watch) {
        free(s);
        return -1;
    }
    curl.multi_assign(mine->multi, fd, s);
    return 0;
}

static void init_library(void)
{
#define X(name) {"curl_" #name, (void **)&curl.name},
    const tn_foreign_symbol symbols[] = {CURL_FUNCTIONS(X)};
#undef X
    loaded = tn_foreign_load("libcurl.so.4", symbols, TN_COUNT_OF(symbols), &why_not) == TN_OK;
    if (loaded)
        curl.global_init(CURL_GLOBAL_DEFAULT);
}

static side *side_of_loop(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    side **at = &sides[tn_loop_index(tn_loop_current())];
    side *s = *at;

    if (s)
        return s;
    pthread_once(&once, init_library);
    if (!loaded)
        return NULL;
    s = tn_xcalloc(1, sizeof(*s));
    s->multi = curl.multi_init();
    TN_ASSERT(s->multi);
    tn_loop_timer_init(&s->timer, fire);
    curl.multi_setopt(s->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl.multi_setopt(s->multi, CURLMOPT_SOCKETDATA, s);
    curl.multi_setopt(s->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl.multi_setopt(s->multi, CURLMOPT_TIMERDATA, s);
    curl.multi_setopt(s->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, CONNECTIONS_MAX);
    return *at = s;
}

/* ---- a request ---- */

static bool clean(tn_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if ((uint8_t)s.p[i] < ' ' || s.p[i] == 0x7f)
            return false;
    }
    return true;
}

/* A header that would end its line too early is left out. */
static void put_headers(post *p)
{
    const tn_http_out *out = p->out;
    struct curl_slist *list = curl.slist_append(NULL, "Expect:");

    list = list ? curl.slist_append(list, "Accept:") : NULL;
    TN_ASSERT(list);
    for (size_t i = 0; i < out->n_headers; i++) {
        const tn_http_pair *h = &out->headers[i];
        const char *line;

        if (!h->name.n || !clean(h->name) || memchr(h->name.p, ':', h->name.n) || !clean(h->value))
            continue;
        /* without a value: libcurl takes its own header of that name out */
        line = tn_arena_printf(out->arena, TN_STR_FMT "%s" TN_STR_FMT, TN_STR_ARG(h->name),
                               h->value.n ? ": " : ":", TN_STR_ARG(h->value));
        list = curl.slist_append(list, line);
        TN_ASSERT(list);
    }
    p->headers = list;
}

void tn_http_post(tn_http_out *out)
{
    side *s = side_of_loop();
    if (!s) {
        out->problem = why_not.text;
        out->done(out);
        return;
    }
    post *p = tn_xcalloc(1, sizeof(*p));
    long ms = (long)(out->timeout_ns / TN_MS);

    p->out = out;
    p->easy = curl.easy_init();
    TN_ASSERT(p->easy);
    put_headers(p);
    curl.easy_setopt(p->easy, CURLOPT_URL, out->url);
    curl.easy_setopt(p->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl.easy_setopt(p->easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl.easy_setopt(p->easy, CURLOPT_NOSIGNAL, 1L);
    curl.easy_setopt(p->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl.easy_setopt(p->easy, CURLOPT_WRITEFUNCTION, take_body);
    curl.easy_setopt(p->easy, CURLOPT_WRITEDATA, p);
    curl.easy_setopt(p->easy, CURLOPT_ERRORBUFFER, p->why);
    curl.easy_setopt(p->easy, CURLOPT_PRIVATE, p);
    curl.easy_setopt(p->easy, CURLOPT_HTTPHEADER, p->headers);
    curl.easy_setopt(p->easy, CURLOPT_POST, 1L);
    curl.easy_setopt(p->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)out->body.n);
    curl.easy_setopt(p->easy, CURLOPT_POSTFIELDS, out->body.n ? (const char *)out->body.p : "");
    curl.easy_setopt(p->easy, CURLOPT_TIMEOUT_MS, ms > 0 ? ms : 1L);
    if (curl.multi_add_handle(s->multi, p->easy) != CURLM_OK) {
        curl.easy_cleanup(p->easy);
        curl.slist_free_all(p->headers);
        free(p);
        out->problem = "libcurl takes no request";
        out->done(out);
    }
}
