/* SPDX-License-Identifier: MIT */
/* One connection of a loop to one server: requests leave in a pipeline, answers come back in order.
 *
 * What became of a request when its connection breaks is known by counting bytes: one whose last byte was not
 * yet handed to the socket cannot have been carried out, and goes out again on the next connection; one that
 * left entirely is in doubt.  While there is no connection requests wait for the attempt at hand; when it
 * fails they are told so, and until the back-off has passed new ones are told at once.
 *
 * With Sentinel each attempt asks a sentinel first: there is no address to remember. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKOFF_FIRST_NS (20 * RD_MS)
#define BACKOFF_LAST_NS (2 * RD_SEC)

typedef enum state { IDLE, RESOLVING, CONNECTING, HELLO, READY, DRAINING, BACKOFF } state;

typedef struct queue {
    rd_request *first, *last;
} queue;

struct rd_link {
    rd_ctx *ctx;
    rd_endpoint endpoint; /* not with Sentinel */
    state state;
    /* the attempt at hand */
    rd_target target;
    rd_endpoint at;
    uint32_t tries; /* endpoints tried */
    rd_addresses found;
    uint32_t address_at;
    rd_resolving *resolving;
    rd_request hello;
    rd_told told;
    tn_error why; /* it failed, or the connection that was there was lost */
    bool broken;  /* noticed while replies are handed out: acted upon afterwards */
    bool said;    /* the log knows that it is down */
    /* the connection */
    rd_wire wire;
    tn_watch *watch;
    tn_timer *timer; /* of the attempt; of the oldest request */
    redisReader *reader;
    rd_buf out;
    uint64_t queued_total, sent_total;
    uint64_t moved_ns; /* when bytes moved last, or began to be waited for */
    queue sent, waiting;
    uint64_t retry_ns, delay_ns;
};

static void step(rd_link *link);

static const tn_host *host_of(const rd_link *link) { return link->ctx->inst->host; }
static const rd_options *options_of(const rd_link *link) { return &link->ctx->inst->options; }
const rd_endpoint *rd_link_endpoint(const rd_link *link) { return &link->at; }

static void push(queue *q, rd_request *request)
{
    request->next = NULL;
    if (q->first)
        q->last->next = request;
    else
        q->first = request;
    q->last = request;
}

static rd_request *pop(queue *q)
{
    rd_request *request = q->first;
    if (request)
        q->first = request->next;
    return request;
}

static void say(rd_link *link, int32_t level, const char *what)
{
    char text[420];
    int n = snprintf(text, sizeof text, "%s:%u: %s", link->at.host, link->at.port, what);
    if (n > (int)sizeof text - 1)
        n = (int)sizeof text - 1;
    host_of(link)->log(link->ctx->inst, level, text, (size_t)n);
}

/* ---- timer -------------------------------------------------------------------------------------- */

static void on_time(void *arg);

static void timer_off(rd_link *link)
{
    if (link->timer)
        host_of(link)->timer_stop(link->timer);
    link->timer = NULL;
}

static void timer_at(rd_link *link, uint64_t when_ns)
{
    uint64_t now = host_of(link)->mono_ns();
    timer_off(link);
    link->timer = host_of(link)->timer_start(link->ctx->loop, when_ns > now ? when_ns - now : 0,
                                             on_time, link);
}

/* ---- closing ------------------------------------------------------------------------------------ */

static void close_wire(rd_link *link)
{
    timer_off(link);
    rd_resolve_cancel(link->resolving);
    link->resolving = NULL;
    host_of(link)->watch_free(link->watch);
    link->watch = NULL;
    rd_wire_close(&link->wire);
    if (link->reader)
        redisReaderFree(link->reader);
    link->reader = NULL;
    link->broken = false;
}

/* The requests of a connection that is no more. */
static void settle_sent(rd_link *link)
{
    queue sent = link->sent;
    link->sent = (queue){0};
    rd_buf_done(&link->out);
    rd_request *again = NULL, **tail = &again;
    for (rd_request *request; (request = pop(&sent));) {
        if (request == &link->hello)
            continue;
        bool left = request->end <= link->sent_total;
        if (left && request->repeats == 0) {
            request->failed(request, true, &link->why);
            continue;
        }
        if (left)
            request->repeats--;
        request->next = NULL;
        *tail = request;
        tail = &request->next;
    }
    if (!again)
        return;
    *tail = link->waiting.first; /* before those that came later */
    link->waiting.first = again;
    for (link->waiting.last = again; link->waiting.last->next;)
        link->waiting.last = link->waiting.last->next;
}

static void give_up(rd_link *link)
{
    close_wire(link);
    settle_sent(link);
    link->state = BACKOFF;
    link->delay_ns = link->delay_ns ? link->delay_ns * 2 : BACKOFF_FIRST_NS;
    if (link->delay_ns > BACKOFF_LAST_NS)
        link->delay_ns = BACKOFF_LAST_NS;
    link->retry_ns = host_of(link)->mono_ns() + link->delay_ns;
    if (!link->said)
        say(link, TN_LEVEL_WARN, link->why.text);
    link->said = true;
    queue waiting = link->waiting;
    link->waiting = (queue){0};
    for (rd_request *request; (request = pop(&waiting));)
        request->failed(request, false, &link->why);
    if (options_of(link)->mode == RD_CLUSTER)
        rd_refresh(link->ctx);
}

/* ---- an attempt --------------------------------------------------------------------------------- */

static void on_event(void *arg, uint32_t events);

static bool open_wire(rd_link *link)
{
    const rd_address *address = &link->found.list[link->address_at++];
    if (rd_wire_open(&link->wire, options_of(link), &link->at, address, &link->why) != TN_OK)
        return false;
    link->reader = redisReaderCreate();
    link->watch = host_of(link)->watch_fd(link->ctx->loop, link->wire.fd,
                                          rd_wire_events(&link->wire, true), on_event, link);
    if (!link->reader || !link->watch) {
        rd_error(&link->why, TN_EUNAVAILABLE, 0, "out of memory");
        close_wire(link);
        return false;
    }
    link->state = CONNECTING;
    timer_at(link, host_of(link)->mono_ns() + options_of(link)->connect_ns);
    return true;
}

static void resolved(void *user, const rd_addresses *found, const tn_error *err)
{
    rd_link *link = user;
    link->resolving = NULL;
    if (found)
        link->found = *found;
    else
        link->why = *err;
    link->address_at = 0;
    step(link);
}

/* True: found now; false: it will be told, or it failed and `found` is empty. */
static bool resolve(rd_link *link)
{
    link->address_at = 0;
    if (rd_resolve_plain(&link->at, &link->found))
        return true;
    link->state = RESOLVING;
    timer_at(link, host_of(link)->mono_ns() + options_of(link)->connect_ns);
    link->resolving = rd_resolve_start(link->ctx, &link->at, resolved, link);
    if (link->resolving)
        return false;
    rd_error(&link->why, TN_EUNAVAILABLE, 0, "out of memory");
    return true;
}

static bool next_endpoint(rd_link *link)
{
    const rd_options *o = options_of(link);
    if (o->mode == RD_SENTINEL) {
        /* A sentinel's word counts: another may not have heard of the new master yet. */
        if (link->target == RD_TO_SERVER || link->tries >= o->n_seeds)
            return false;
        link->at = o->seeds[link->tries++];
        link->target = RD_TO_SENTINEL;
        return true;
    }
    link->at = link->endpoint;
    link->target = o->mode == RD_CLUSTER ? RD_TO_NODE : RD_TO_SERVER;
    return link->tries++ == 0;
}

/* The next address, endpoint or sentinel, until one is being connected to or none is left. */
static void step(rd_link *link)
{
    for (;;) {
        if (link->address_at < link->found.n) {
            if (open_wire(link))
                return;
            continue;
        }
        if (!next_endpoint(link)) {
            give_up(link);
            return;
        }
        if (!resolve(link))
            return;
    }
}

static void start(rd_link *link)
{
    link->tries = 0;
    link->target = RD_TO_SENTINEL;
    link->found.n = link->address_at = 0;
    link->why = (tn_error){0};
    step(link);
}

static void attempt_failed(rd_link *link)
{
    tn_error why = link->why;
    close_wire(link);
    settle_sent(link); /* the hello alone */
    link->why = why;
    step(link);
}

/* The connection was there and is no more. */
static void lost(rd_link *link)
{
    bool drained = link->state == DRAINING && !link->sent.first;
    close_wire(link);
    link->state = IDLE;
    if (!link->said && !drained && link->sent.first)
        say(link, TN_LEVEL_WARN, link->why.text);
    settle_sent(link);
    if (link->state == IDLE && link->waiting.first)
        start(link);
}

/* ---- sending ------------------------------------------------------------------------------------ */

static void watch_what_matters(rd_link *link)
{
    if (link->watch)
        host_of(link)->watch_set(link->watch,
                                 rd_wire_events(&link->wire, link->out.at < link->out.n));
}

/* False: the connection is broken. */
static bool flush(rd_link *link)
{
    while (link->out.at < link->out.n) {
        ssize_t put =
            rd_wire_write(&link->wire, link->out.p + link->out.at, link->out.n - link->out.at);
        if (put == RD_AGAIN)
            break;
        if (put <= 0) {
            rd_error(&link->why, TN_EUNAVAILABLE, 0, "the connection to Redis broke");
            return false;
        }
        link->sent_total += (uint64_t)put;
        link->moved_ns = host_of(link)->mono_ns();
        rd_buf_take(&link->out, (size_t)put);
    }
    return true;
}

/* The oldest request's deadline, or the end of a silence that is too long. */
static uint64_t patience_ends(const rd_link *link)
{
    const rd_options *o = options_of(link);
    uint64_t silence = link->moved_ns + o->command_ns + (o->wait_replicas ? o->wait_ns : 0);
    return link->sent.first->deadline_ns < silence ? link->sent.first->deadline_ns : silence;
}

static void send_request(rd_link *link, rd_request *request)
{
    rd_buf *out = &link->out;
    size_t before = out->n - out->at;
    request->n = request->left = request->put(request, out);
    if (out->failed) {
        out->failed = false;
        out->n = out->at + before;
        tn_error err;
        rd_error(&err, TN_EUNAVAILABLE, 0, "out of memory");
        request->failed(request, false, &err);
        return;
    }
    link->queued_total += out->n - out->at - before;
    request->end = link->queued_total;
    if (!link->sent.first)
        link->moved_ns = host_of(link)->mono_ns();
    push(&link->sent, request);
    if (!link->timer && request != &link->hello)
        timer_at(link, patience_ends(link));
}

void rd_link_submit(rd_link *link, rd_request *request)
{
    if (link->state == BACKOFF && host_of(link)->mono_ns() < link->retry_ns) {
        request->failed(request, false, &link->why);
        return;
    }
    if (link->state != READY) {
        push(&link->waiting, request);
        if (link->state == IDLE || link->state == BACKOFF)
            start(link);
        return;
    }
    send_request(link, request);
    flush(link); /* a failure shows as an event */
    watch_what_matters(link);
}

void rd_link_doom(rd_link *link, const tn_error *why)
{
    if (link->state != READY)
        return;
    link->state = DRAINING; /* what is under way gets its answers */
    link->why = *why;
}

void rd_link_leave(rd_link *link)
{
    if (link->state != READY)
        return;
    rd_error(&link->why, TN_EUNAVAILABLE, 0, "the master has changed");
    link->state = DRAINING;
    if (link->sent.first)
        return;
    close_wire(link);
    link->state = IDLE;
}

/* ---- hello -------------------------------------------------------------------------------------- */

static uint32_t hello_put(rd_request *request, rd_buf *out)
{
    rd_link *link = (rd_link *)(void *)((char *)request - offsetof(rd_link, hello));
    return rd_hello_put(options_of(link), link->target, out);
}

static void hello_reply(rd_request *request, rd_link *link, uint32_t index, redisReply **reply)
{
    (void)request;
    if (link->broken)
        return;
    tn_error why;
    if (rd_hello_check(options_of(link), link->target, index, *reply, &link->told, &why) == TN_OK)
        return;
    link->why = why;
    link->broken = true;
}

static void hello_failed(rd_request *request, bool sent, const tn_error *err)
{
    rd_link *link = (rd_link *)(void *)((char *)request - offsetof(rd_link, hello));
    (void)sent;
    link->why = *err;
    link->broken = true;
}

static void say_hello(rd_link *link)
{
    link->state = HELLO;
    link->queued_total = link->sent_total = 0;
    link->hello = (rd_request){.ctx = link->ctx,
                               .put = hello_put,
                               .reply = hello_reply,
                               .failed = hello_failed,
                               .deadline_ns = UINT64_MAX};
    send_request(link, &link->hello);
}

static void ready(rd_link *link)
{
    timer_off(link);
    link->state = READY;
    link->delay_ns = 0;
    if (link->said)
        say(link, TN_LEVEL_INFO, "connected again");
    link->said = false;
    rd_count(link->ctx->inst, link->ctx->inst->m_connects, 1);
    if (options_of(link)->mode == RD_SENTINEL)
        rd_ctx_moved(link->ctx, link);
    queue waiting = link->waiting;
    link->waiting = (queue){0};
    for (rd_request *request; (request = pop(&waiting));)
        send_request(link, request);
}

/* The hello is over: this was a sentinel, or the server itself. */
static void greeted(rd_link *link)
{
    if (link->target != RD_TO_SENTINEL) {
        ready(link);
        return;
    }
    rd_endpoint master = link->told.master;
    close_wire(link);
    rd_buf_done(&link->out);
    link->at = master;
    link->target = RD_TO_SERVER;
    link->found.n = 0;
    if (resolve(link))
        step(link);
}

/* ---- receiving ---------------------------------------------------------------------------------- */

static bool hand_out(rd_link *link, redisReply *reply)
{
    rd_request *request = link->sent.first;
    if (!request) {
        freeReplyObject(reply);
        rd_error(&link->why, TN_EUNAVAILABLE, 0, "Redis sent what nobody asked for");
        return false;
    }
    uint32_t index = request->n - request->left--;
    if (request->left == 0)
        pop(&link->sent);
    request->reply(request, link, index, &reply); /* with left == 0 it may be gone now */
    if (reply)
        freeReplyObject(reply);
    return !link->broken;
}

/* False: the connection is broken. */
static bool receive(rd_link *link)
{
    static __thread char bytes[65536];
    for (;;) {
        ssize_t got = rd_wire_read(&link->wire, bytes, sizeof bytes);
        if (got == RD_AGAIN)
            return true;
        if (got <= 0) {
            rd_error(&link->why, TN_EUNAVAILABLE, 0, "the connection to Redis broke");
            return false;
        }
        link->moved_ns = host_of(link)->mono_ns();
        redisReaderFeed(link->reader, bytes, (size_t)got);
        for (;;) {
            void *reply = NULL;
            if (redisReaderGetReply(link->reader, &reply) != REDIS_OK) {
                rd_error(&link->why, TN_EUNAVAILABLE, 0, "this is not Redis: %.60s",
                         link->reader->errstr);
                return false;
            }
            if (!reply)
                break;
            if (!hand_out(link, reply))
                return false;
        }
        if (link->state == HELLO && !link->sent.first)
            return true;
        if ((size_t)got < sizeof bytes && !link->wire.ssl)
            return true;
    }
}

static void on_event(void *arg, uint32_t events)
{
    rd_link *link = arg;
    (void)events;
    if (link->state == CONNECTING) {
        tn_status status = rd_wire_advance(&link->wire, &link->why);
        if (status == TN_OK)
            say_hello(link);
        else if (status != TN_PENDING) {
            attempt_failed(link);
            return;
        }
    }
    bool good = link->state == CONNECTING || (receive(link) && flush(link));
    if (!good) {
        if (link->state == HELLO)
            attempt_failed(link);
        else
            lost(link);
        return;
    }
    if (link->state == HELLO && !link->sent.first) {
        greeted(link);
        if (link->state != READY)
            return;
        flush(link);
    }
    if (link->state == DRAINING && !link->sent.first) {
        lost(link);
        return;
    }
    watch_what_matters(link);
}

static void on_time(void *arg)
{
    rd_link *link = arg;
    timer_off(link);
    if (link->state == RESOLVING || link->state == CONNECTING || link->state == HELLO) {
        rd_error(&link->why, TN_EUNAVAILABLE, 0, "no connection in time");
        attempt_failed(link);
        return;
    }
    if (!link->sent.first)
        return;
    if (patience_ends(link) > host_of(link)->mono_ns()) {
        timer_at(link, patience_ends(link));
        return;
    }
    rd_error(&link->why, TN_EUNAVAILABLE, 0, "Redis did not answer in time");
    lost(link);
}

/* ---- life --------------------------------------------------------------------------------------- */

rd_link *rd_link_create(rd_ctx *ctx, const rd_endpoint *endpoint)
{
    rd_link *link = calloc(1, sizeof *link);
    if (!link)
        return NULL;
    link->ctx = ctx;
    link->endpoint = link->at = *endpoint;
    link->wire.fd = -1;
    return link;
}

void rd_link_destroy(rd_link *link)
{
    if (!link)
        return;
    close_wire(link);
    rd_buf_done(&link->out);
    free(link);
}
