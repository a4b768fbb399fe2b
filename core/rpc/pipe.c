/* SPDX-License-Identifier: MIT */
/* A pipe as a connection: greeting, frames in and out, its end, and which pipe leads to a host.  pipe.h says what is on
 * the wire, pipe_calls.c what frames mean for calls. */
#include "rpc/pipe.h"

#include <stdlib.h>
#include <string.h>

#define LOOPS_MAX 64
#define FRAME_MAX (RPC_RESPONSE_BYTES_MAX + (1u << 20))
#define KEPT_BYTES (64u * 1024u) /* of a buffer that is empty */
#define FLAG_SERVES 1u
#define HELLO_HEAD 18u /* version, flags, host id */
#define STRANGER "not a host of this cluster"

static struct {
    uint8_t host_id[16];
    _Atomic bool known;
} self;

static tn_list pipes[LOOPS_MAX]; /* a loop's own, opened and accepted */
static rpc_worker *servers[LOOPS_MAX];

/* The best pipe to a host as found last, by its id; forgotten when there is one more or less. */
#define LATELY 32u
static rpc_pipe *lately[LOOPS_MAX][LATELY];

void tn_pipes_identity(const uint8_t host_id[16], const char *secret)
{
    memcpy(self.host_id, host_id, 16);
    rpc_head_secret = tn_secret_shown;
    rpc_secrets_identity(host_id);
    if (secret)
        tn_secrets_use(&secret, 1);
    for (size_t i = 0; i < LOOPS_MAX && !self.known; i++)
        tn_list_init(&pipes[i]);
    self.known = true;
}

const uint8_t *rpc_pipe_self(void) { return self.known ? self.host_id : NULL; }

static uint32_t here(void) { return tn_loop_index(tn_loop_current()); }

static void forget_lately(void) { memset(lately[here()], 0, sizeof(lately[0])); }

/* ---- out ---- */

static void flush_later(rpc_pipe *p)
{
    if (p->conn)
        rpc_conn_flush_later(p->conn);
    else
        rpc_link_flush_later(p->link);
}

static uint8_t *append(rpc_pipe *p, rpc_pipe_kind kind, uint32_t id, size_t size)
{
    size_t whole = RPC_PIPE_FRAME_HEAD + size;
    if (p->out.n - p->out_at > RPC_QUEUED_BYTES_MAX)
        p->why = "it does not take what was sent";
    tn_buf_reserve(&p->out, whole);
    uint8_t *frame = p->out.p + p->out.n;
    tn_put_u32be(frame, (uint32_t)(whole - 4));
    frame[4] = (uint8_t)kind;
    tn_put_u32be(frame + 5, id);
    p->out.n += whole;
    p->appended += whole;
    return frame + RPC_PIPE_FRAME_HEAD;
}

uint8_t *rpc_pipe_frame(rpc_pipe *p, rpc_pipe_kind kind, uint32_t id, size_t size)
{
    flush_later(p);
    return append(p, kind, id, size);
}

uint8_t *rpc_pipe_frame_unhurried(rpc_pipe *p, rpc_pipe_kind kind, uint32_t id, size_t size)
{
    uint8_t *body = append(p, kind, id, size);
    if (p->why || p->draining || p->leaving || p->out.n - p->out_at > RPC_PIPE_COMPANY_BYTES)
        flush_later(p);
    else if (!tn_loop_timer_active(&p->company))
        tn_loop_timer_start(&p->company, tn_now_mono_ns() + RPC_PIPE_COMPANY_NS);
    return body;
}

void rpc_pipe_hurry(rpc_pipe *p) { flush_later(p); }

static void waited_for_company(tn_loop_timer *timer)
{
    flush_later(TN_CONTAINER_OF(timer, rpc_pipe, company));
}

/* Answers that are with the socket now have left for good: what comes of them nobody can know. */
static void answers_left(rpc_pipe *p)
{
    TN_LIST_FOREACH_SAFE (link, &p->answered) {
        rpc_call *call = TN_CONTAINER_OF(link, rpc_call, link);
        if (call->answer_end > p->handed)
            return;
        tn_list_remove(&call->link);
        call->pipe = NULL;
        call->sent_all = true;
        rpc_call_done(call);
    }
}

static size_t pending(const rpc_pipe *p)
{
    return tn_stream_pending_bytes(p->conn ? p->conn->stream : p->link->stream);
}

void rpc_pipe_flush(rpc_pipe *p)
{
    while (p->out_at < p->out.n && pending(p) < RPC_SOCKET_MARK) {
        size_t n = p->out.n - p->out_at;
        if (n > RPC_SOCKET_MARK)
            n = RPC_SOCKET_MARK;
        if (p->conn)
            rpc_conn_put(p->conn, p->out.p + p->out_at, n);
        else
            rpc_link_put(p->link, p->out.p + p->out_at, n);
        p->out_at += n;
        p->handed += n;
    }
    if (p->out_at == p->out.n) {
        tn_loop_timer_stop(&p->company);
        p->out_at = p->out.n = 0;
        if (p->out.cap > KEPT_BYTES)
            tn_buf_done(&p->out);
        /* it may never be empty */
    } else if (p->out_at > RPC_SOCKET_MARK && p->out_at >= p->out.n / 2) {
        memmove(p->out.p, p->out.p + p->out_at, p->out.n - p->out_at);
        p->out.n -= p->out_at;
        p->out_at = 0;
    }
    answers_left(p);
}

void rpc_pipe_ping(rpc_pipe *p) { rpc_pipe_frame(p, RPC_PIPE_PING, 0, 0); }

/* ---- greetings ---- */

static rpc_side side_of(const rpc_pipe *p) { return p->link ? RPC_CALLER : RPC_SERVER; }
static rpc_side other_side(const rpc_pipe *p) { return p->link ? RPC_SERVER : RPC_CALLER; }

static uint8_t *hello(rpc_pipe *p, uint8_t version, size_t more)
{
    tn_buf_put(&p->out, RPC_PIPE_MAGIC, RPC_PIPE_MAGIC_N);
    p->appended += RPC_PIPE_MAGIC_N;
    uint8_t *body = rpc_pipe_frame(p, RPC_PIPE_HELLO, 0, HELLO_HEAD + more);
    body[0] = version;
    body[1] = p->worker ? FLAG_SERVES : 0;
    memcpy(body + 2, self.host_id, 16);
    return body + HELLO_HEAD;
}

static void greet_by_word(rpc_pipe *p)
{
    tn_str word = tn_secret_shown();
    uint8_t *body = hello(p, 1, word.n);
    if (word.n)
        memcpy(body, word.p, word.n);
}

/* The one that connects: its proof waits until the other has shown its own. */
static void greet_first(rpc_pipe *p)
{
    rpc_meeting *m = &p->meeting;
    p->proves = rpc_host_proves(p->link->channel->host_id);
    if (!p->proves) {
        greet_by_word(p);
        return;
    }
    memcpy(m->caller, self.host_id, 16);
    memcpy(m->server, p->link->channel->host_id, 16);
    tn_random_bytes(m->caller_nonce, RPC_NONCE_BYTES);
    memcpy(hello(p, 2, RPC_NONCE_BYTES), m->caller_nonce, RPC_NONCE_BYTES);
}

static void greet_back(rpc_pipe *p, const uint8_t *nonce)
{
    rpc_meeting *m = &p->meeting;
    p->proves = true;
    memcpy(m->caller, p->host_id, 16);
    memcpy(m->server, self.host_id, 16);
    memcpy(m->caller_nonce, nonce, RPC_NONCE_BYTES);
    tn_random_bytes(m->server_nonce, RPC_NONCE_BYTES);
    uint8_t *body = hello(p, 2, RPC_NONCE_BYTES + RPC_PROOF_BYTES);
    memcpy(body, m->server_nonce, RPC_NONCE_BYTES);
    rpc_prove(m, RPC_SERVER, body + RPC_NONCE_BYTES);
}

void rpc_pipes_show(void)
{
    tn_str word = tn_secret_shown();
    if (!self.known)
        return;
    TN_LIST_FOREACH (link, &pipes[here()]) {
        rpc_pipe *p = TN_CONTAINER_OF(link, rpc_pipe, in_loop);
        /* of who has said nothing of words yet, the first is the new one */
        if (!p->greeted && (p->link != NULL) == p->proves)
            continue;
        if (p->proves)
            rpc_prove(&p->meeting, side_of(p),
                      rpc_pipe_frame(p, RPC_PIPE_SHOW, 0, RPC_PROOF_BYTES));
        else
            memcpy(rpc_pipe_frame(p, RPC_PIPE_SHOW, 0, word.n), word.p, word.n);
    }
}

/* ---- in ---- */

static bool broken(rpc_pipe *p, const char *why)
{
    p->why = why;
    return false;
}

static bool is_host(rpc_pipe *p)
{
    p->greeted = true;
    forget_lately();
    if (p->link)
        rpc_link_greeted(p->link);
    return true;
}

/* The other end's, by what we have said (who connected), or what it has. */
static bool take_hello(rpc_pipe *p, tn_blob body)
{
    size_t more = body.n - HELLO_HEAD;
    const uint8_t *rest = body.p + HELLO_HEAD;
    bool proves = body.n > HELLO_HEAD && body.p[0] >= 2;
    if (p->greeted || (p->conn && p->proves) || body.n < HELLO_HEAD || !body.p[0])
        return broken(p, STRANGER);
    p->serves = body.p[1] & FLAG_SERVES;
    memcpy(p->host_id, body.p + 2, 16);
    if (p->link && p->proves) {
        if (!proves || more < RPC_NONCE_BYTES + RPC_PROOF_BYTES)
            return broken(p, STRANGER);
        if (memcmp(p->host_id, p->meeting.server, 16) != 0)
            return broken(p, "another host is at its address");
        memcpy(p->meeting.server_nonce, rest, RPC_NONCE_BYTES);
        if (!rpc_shown_proof(&p->shown, &p->meeting, RPC_SERVER,
                             tn_blob_from(rest + RPC_NONCE_BYTES, RPC_PROOF_BYTES)))
            return broken(p, STRANGER);
        rpc_prove(&p->meeting, RPC_CALLER, rpc_pipe_frame(p, RPC_PIPE_PROOF, 0, RPC_PROOF_BYTES));
        return is_host(p);
    }
    if (p->conn && proves) {
        if (more < RPC_NONCE_BYTES)
            return broken(p, STRANGER);
        greet_back(p, rest);
        return true;
    }
    if (!rpc_shown_take(&p->shown, tn_str_of_blob(tn_blob_from(rest, more))))
        return broken(p, STRANGER);
    if (p->conn)
        greet_by_word(p);
    return is_host(p);
}

static bool take_proof(rpc_pipe *p, tn_blob body)
{
    if (!p->conn || !p->proves || p->greeted ||
        !rpc_shown_proof(&p->shown, &p->meeting, RPC_CALLER, body))
        return broken(p, STRANGER);
    return is_host(p);
}

static bool take_show(rpc_pipe *p, tn_blob body)
{
    bool known = p->proves ? rpc_shown_proof(&p->shown, &p->meeting, other_side(p), body)
                           : rpc_shown_take(&p->shown, tn_str_of_blob(body));
    return known || broken(p, STRANGER);
}

static bool take_frame(rpc_pipe *p, uint8_t kind, uint32_t id, tn_blob body)
{
    if (kind == RPC_PIPE_HELLO)
        return take_hello(p, body);
    if (kind == RPC_PIPE_PROOF)
        return take_proof(p, body);
    if (!p->greeted)
        return broken(p, "it did not greet");
    if (kind == RPC_PIPE_SHOW)
        return take_show(p, body);
    if (!rpc_shown_holds(&p->shown))
        return broken(p, "it has not shown the cluster's new secret");
    switch ((rpc_pipe_kind)kind) {
    case RPC_PIPE_REQUEST:
        return rpc_pipe_take_request(p, id, body) || broken(p, "a damaged request");
    case RPC_PIPE_ANSWER:
        return rpc_pipe_take_answer(p, id, body) || broken(p, "a damaged answer");
    case RPC_PIPE_CANCEL:
        rpc_pipe_take_cancel(p, id);
        break;
    case RPC_PIPE_PING:
        rpc_pipe_frame(p, RPC_PIPE_PONG, 0, 0);
        break;
    case RPC_PIPE_GOAWAY:
        p->leaving = true;
        rpc_pipe_frame(p, RPC_PIPE_GOAWAY_ACK, 0, 0);
        if (p->link)
            rpc_link_leaving(p->link);
        break;
    case RPC_PIPE_GOAWAY_ACK:
        p->drained = true;
        flush_later(p);
        break;
    case RPC_PIPE_PONG:
    case RPC_PIPE_HELLO:
    case RPC_PIPE_SHOW:
    case RPC_PIPE_PROOF:
    default: /* of a later release, which may do without an answer to it */
        break;
    }
    return true;
}

/* How much of a frame's head and body is known to come; 0: its head is not whole.  SIZE_MAX: too much. */
static size_t frame_size(const rpc_pipe *p, const uint8_t *bytes, size_t n)
{
    if (n < 4)
        return 0;
    size_t size = tn_get_u32be(bytes);
    if (size < RPC_PIPE_FRAME_HEAD - 4 || size > (p->greeted ? FRAME_MAX : RPC_PIPE_HELLO_MAX))
        return SIZE_MAX;
    return 4 + size;
}

/* Whole frames from the beginning of the bytes; how many bytes those were.  p->why is set when it must end. */
static size_t take_frames(rpc_pipe *p, const uint8_t *bytes, size_t n)
{
    size_t at = 0;
    while (!p->why) {
        size_t size = frame_size(p, bytes + at, n - at);
        if (size == SIZE_MAX)
            (void)broken(p, "a frame that is too large");
        if (p->why || !size || size > n - at)
            break;
        const uint8_t *frame = bytes + at;
        (void)take_frame(p, frame[4], tn_get_u32be(frame + 5),
                         tn_blob_from(frame + RPC_PIPE_FRAME_HEAD, size - RPC_PIPE_FRAME_HEAD));
        at += size;
    }
    return at;
}

bool rpc_pipe_feed(rpc_pipe *p, const uint8_t *bytes, size_t n)
{
    while (n && p->magic_n < RPC_PIPE_MAGIC_N) {
        if (*bytes != (uint8_t)RPC_PIPE_MAGIC[p->magic_n])
            return broken(p, "it does not speak as a host of this release");
        p->magic_n++, bytes++, n--;
    }
    /* the rest of a frame, and no more, lest its followers be copied, too */
    while (n && p->in.n && !p->why) {
        size_t size = frame_size(p, p->in.p, p->in.n), more;
        if (size == SIZE_MAX)
            return broken(p, "a frame that is too large");
        more = (size ? size : 4) - p->in.n;
        more = more < n ? more : n;
        tn_buf_put(&p->in, bytes, more);
        bytes += more, n -= more;
        if (take_frames(p, p->in.p, p->in.n))
            p->in.n = 0;
    }
    if (!p->in.n && p->in.cap > KEPT_BYTES)
        tn_buf_done(&p->in);
    size_t taken = p->why ? n : take_frames(p, bytes, n);
    if (taken < n && !p->why)
        tn_buf_put(&p->in, bytes + taken, n - taken);
    return !p->why;
}

/* ---- birth and end ---- */

rpc_pipe *rpc_pipe_create(rpc_conn *conn, rpc_link *link)
{
    if (!self.known)
        return NULL;
    rpc_pipe *p = tn_xcalloc(1, sizeof(*p));
    p->conn = conn;
    p->link = link;
    p->worker = conn ? conn->worker : servers[here()];
    if (conn) {
        p->peer = conn->peer;
        p->peer->refs++;
    } else {
        p->peer = tn_xcalloc(1, sizeof(*p->peer));
        p->peer->refs = 1;
        tn_stream_peer(link->stream, p->peer->text, sizeof(p->peer->text));
        p->peer->n = (uint32_t)strlen(p->peer->text);
    }
    p->free_slot = UINT32_MAX;
    tn_loop_timer_init(&p->company, waited_for_company);
    tn_list_init(&p->outcalls);
    tn_list_init(&p->handed_calls);
    tn_list_init(&p->answered);
    tn_list_push_back(&pipes[here()], &p->in_loop);
    if (link)
        greet_first(p);
    return p;
}

static void drop_calls(rpc_pipe *p)
{
    tn_list *link;
    while ((link = tn_list_first(&p->answered)) != NULL)
        rpc_pipe_detach(TN_CONTAINER_OF(link, rpc_call, link));
    while ((link = tn_list_first(&p->handed_calls)) != NULL)
        rpc_pipe_detach(TN_CONTAINER_OF(link, rpc_call, link));
}

void rpc_pipe_destroy(rpc_pipe *p, const char *why)
{
    if (!p)
        return;
    tn_list_remove(&p->in_loop);
    forget_lately();
    tn_loop_timer_stop(&p->company);
    p->greeted = false;
    TN_LIST_FOREACH_SAFE (link, &p->outcalls) {
        tn_outcall *call = TN_CONTAINER_OF(link, tn_outcall, link);
        rpc_outcall_unreachable(call, why, call->frame_at >= p->handed);
    }
    drop_calls(p);
    rpc_peer_unref(p->peer);
    free(p->slots);
    free(p->calls);
    tn_buf_done(&p->in);
    tn_buf_done(&p->out);
    free(p);
}

bool rpc_pipe_idle(const rpc_pipe *p)
{
    return !p->n_out && tn_list_empty(&p->handed_calls) && tn_list_empty(&p->answered) &&
           p->out_at == p->out.n;
}

void rpc_pipe_drain(rpc_pipe *p)
{
    if (p->draining)
        return;
    p->draining = true;
    rpc_pipe_frame(p, RPC_PIPE_GOAWAY, 0, 0);
}

/* ---- which one ---- */

static bool takes_calls_of(rpc_pipe *p, const uint8_t host_id[16])
{
    return memcmp(p->host_id, host_id, 16) == 0 && p->greeted && p->serves && !p->leaving &&
           !p->draining && !p->why && rpc_shown_holds(&p->shown);
}

/* Two hosts may have met twice: both then use the one that the lesser opened, so that answers share packets with calls. */
rpc_pipe *rpc_pipe_to(const uint8_t host_id[16])
{
    rpc_pipe *found = NULL, **place = &lately[here()][host_id[0] % LATELY];
    bool mine_first = memcmp(self.host_id, host_id, 16) < 0;
    if (*place && takes_calls_of(*place, host_id))
        return *place;
    TN_LIST_FOREACH (link, &pipes[here()]) {
        rpc_pipe *p = TN_CONTAINER_OF(link, rpc_pipe, in_loop);
        if (!takes_calls_of(p, host_id))
            continue;
        found = p;
        if ((p->link != NULL) == mine_first)
            break;
    }
    *place = found;
    return found;
}

/* ---- what this process serves ---- */

void rpc_pipe_worker_starts(rpc_worker *worker)
{
    /* One for calls between hosts rather than a public one, whose hosts take but what any host takes. */
    if (!servers[here()] ||
        (worker->server->options.internal && !servers[here()]->server->options.internal))
        servers[here()] = worker;
}

#define FOREACH_OPENED(link_, worker_) \
    TN_LIST_FOREACH (link_, &pipes[here()]) \
        if (TN_CONTAINER_OF(link_, rpc_pipe, in_loop)->link && \
            TN_CONTAINER_OF(link_, rpc_pipe, in_loop)->worker == (worker_))

void rpc_pipe_worker_drains(rpc_worker *worker)
{
    if (servers[here()] == worker)
        servers[here()] = NULL;
    if (!self.known)
        return;
    FOREACH_OPENED(link, worker)
    rpc_pipe_drain(TN_CONTAINER_OF(link, rpc_pipe, in_loop));
}

void rpc_pipe_worker_ends(rpc_worker *worker)
{
    rpc_pipe_worker_drains(worker);
    if (!self.known)
        return;
    FOREACH_OPENED(link, worker)
    {
        rpc_pipe *p = TN_CONTAINER_OF(link, rpc_pipe, in_loop);
        drop_calls(p);
        p->worker = NULL;
    }
}

void rpc_pipe_channel_ends(const tn_channel *ch)
{
    if (!self.known)
        return;
    TN_LIST_FOREACH (link, &pipes[here()]) {
        rpc_pipe *p = TN_CONTAINER_OF(link, rpc_pipe, in_loop);
        TN_LIST_FOREACH_SAFE (at, &p->outcalls) {
            tn_outcall *call = TN_CONTAINER_OF(at, tn_outcall, link);
            if (call->channel == ch)
                rpc_outcall_unreachable(call, "the host has left", call->frame_at >= p->handed);
        }
    }
}
