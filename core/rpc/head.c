/* SPDX-License-Identifier: MIT */
/* Request headers.  Those that gRPC itself means are read as they come; the others are kept, packed
 * one behind the other in the call's arena, and searched when asked for: a request has few. */
#include <string.h>

#include "rpc/pipe.h"

#define BLOCK_BYTES 256
#define ENTRY_HEAD 4
#define PATH_KEPT_MAX 256

int rpc_head_keep(rpc_call *call, tn_str name, tn_str value)
{
    rpc_head_block *block = call->heads_last;
    size_t need = ENTRY_HEAD + name.n + value.n;
    uint8_t *p;

    if (!block || block->cap - block->n < need) {
        size_t cap = need > BLOCK_BYTES ? need : BLOCK_BYTES;
        block = tn_arena_alloc(call->pub.arena, sizeof(*block) + cap);
        if (!block)
            return -1;
        *block = (rpc_head_block){.cap = (uint32_t)cap};
        if (call->heads_last)
            call->heads_last->next = block;
        else
            call->heads = block;
        call->heads_last = block;
    }
    p = block->bytes + block->n;
    p[0] = (uint8_t)(name.n >> 8), p[1] = (uint8_t)name.n;
    p[2] = (uint8_t)(value.n >> 8), p[3] = (uint8_t)value.n;
    memcpy(p + ENTRY_HEAD, name.p, name.n);
    if (value.n)
        memcpy(p + ENTRY_HEAD + name.n, value.p, value.n);
    block->n += (uint32_t)need;
    return 0;
}

static void take_path(rpc_call *call, tn_str value)
{
    const tn_rpc_method *method = tn_rpc_find(value);

    if (method && rpc_method_offered(method, call->worker->server->options.internal))
        call->pub.method = method;
    else
        call->path = tn_arena_str(
            call->pub.arena, (tn_str){value.p, value.n < PATH_KEPT_MAX ? value.n : PATH_KEPT_MAX});
}

static void take_encoding(rpc_call *call, tn_str value)
{
    if (tn_str_is(value, "gzip"))
        call->request_gzip = true;
    else if (!tn_str_is(value, "identity"))
        call->bad_encoding = true;
}

void rpc_head_timeout(rpc_call *call, tn_str value)
{
    uint64_t ns;

    if (!rpc_timeout_parse(value, &ns))
        call->bad_timeout = true;
    else if (__builtin_add_overflow(call->pub.received_mono_ns, ns, &call->pub.deadline_mono_ns))
        call->pub.deadline_mono_ns = UINT64_MAX;
}

/* True when the header is one of those that nobody above asks for. */
static bool take_known(rpc_call *call, tn_str name, tn_str value)
{
    switch (name.n) {
    case 2:
        return tn_str_is(name, "te");
    case 5:
        if (!tn_str_is(name, ":path"))
            return false;
        take_path(call, value);
        return true;
    case 7:
        if (tn_str_is(name, ":method")) {
            call->post = tn_str_is(value, "POST");
            return true;
        }
        return tn_str_is(name, ":scheme");
    case 10:
        return tn_str_is(name, ":authority");
    case 12:
        if (tn_str_is(name, "content-type")) {
            call->content_type_seen = true;
            call->content_type_ok = rpc_content_type_ok(value);
            return true;
        }
        if (!tn_str_is(name, "grpc-timeout"))
            return false;
        rpc_head_timeout(call, value);
        return true;
    case 13:
        if (!tn_str_is(name, "grpc-encoding"))
            return false;
        take_encoding(call, value);
        return true;
    case 14:
        return tn_str_is(name, "content-length");
    case 15:
        return tn_str_is(name, "accept-encoding");
    case 20:
        if (!tn_str_is(name, "grpc-accept-encoding"))
            return false;
        call->accept_gzip = rpc_list_has(value, TN_STR("gzip"));
        return true;
    default:
        return false;
    }
}

void rpc_head_take(rpc_call *call, tn_str name, tn_str value)
{
    if (call->conn->head_count > RPC_HEADERS_MAX || call->conn->head_bytes > RPC_HEADER_BYTES_MAX)
        call->headers_over = true;
    if (call->headers_over)
        return;
    if (call->http) {
        call->http->head(call, name, value);
        return;
    }
    if (take_known(call, name, value))
        return;
    if (rpc_head_keep(call, name, value) < 0)
        call->headers_over = true;
}

void rpc_head_end(rpc_call *call)
{
    rpc_head_block *last = call->heads_last;

    if (last &&
        tn_arena_trim(call->pub.arena, last, sizeof(*last) + last->cap, sizeof(*last) + last->n))
        last->cap = last->n;
}

typedef struct head_iter {
    const rpc_head_block *block;
    size_t at;
} head_iter;

static bool next_entry(head_iter *it, tn_str *out_name, tn_str *out_value)
{
    const uint8_t *p;

    while (it->block && it->at == it->block->n) {
        it->block = it->block->next;
        it->at = 0;
    }
    if (!it->block)
        return false;
    p = it->block->bytes + it->at;
    *out_name = (tn_str){(const char *)p + ENTRY_HEAD, (size_t)(p[0] << 8 | p[1])};
    *out_value = (tn_str){out_name->p + out_name->n, (size_t)(p[2] << 8 | p[3])};
    it->at += ENTRY_HEAD + out_name->n + out_value->n;
    return true;
}

static tn_str join(tn_arena *arena, tn_str a, tn_str b)
{
    char *p = tn_arena_alloc(arena, a.n + 1 + b.n);

    if (!p)
        return a;
    memcpy(p, a.p, a.n);
    p[a.n] = ',';
    memcpy(p + a.n + 1, b.p, b.n);
    return (tn_str){p, a.n + 1 + b.n};
}

tn_str tn_http_header(const tn_call *pub, const char *lower_case_name)
{
    const rpc_call *call = rpc_call_of(pub);
    tn_str want = tn_str_from(lower_case_name), name, value, found = {NULL, 0};
    head_iter it = {call->heads, 0};

    /* A header that comes twice means the same as both values with a comma between. */
    while (next_entry(&it, &name, &value)) {
        if (tn_str_eq(name, want))
            found = found.p ? join(pub->arena, found, value) : value;
    }
    return found;
}

bool tn_http_next_header(const tn_call *pub, size_t *at, tn_http_pair *out)
{
    head_iter it = {rpc_call_of(pub)->heads, 0};

    for (size_t i = 0; i <= *at; i++) {
        if (!next_entry(&it, &out->name, &out->value))
            return false;
    }
    ++*at;
    return true;
}

/* gRPC's. */
static tn_str find(const tn_call *pub, const char *lower_case_name)
{
    tn_str want = tn_str_from(lower_case_name), found = tn_http_header(pub, lower_case_name);
    uint8_t *bytes;
    size_t n;

    if (!found.n || want.n < 4 || memcmp(want.p + want.n - 4, "-bin", 4) != 0)
        return found;
    bytes = tn_arena_alloc(pub->arena, RPC_BASE64_DECODED_MAX(found.n));
    if (!bytes || !rpc_base64_decode(found, bytes, &n))
        return (tn_str){NULL, 0};
    return (tn_str){(const char *)bytes, n};
}

/* Set by pipe.c: who only asks for headers, as unit tests of the roles do, need not link all of this room. */
tn_str (*rpc_head_secret)(void);

tn_str tn_call_header(const tn_call *pub, const char *lower_case_name)
{
    const rpc_call *call = rpc_call_of(pub);

    if (call->http)
        return call->worker->server->options.http->header(pub, lower_case_name);
    if (call->by_pipe && tn_str_is(tn_str_from(lower_case_name), "tenon-internode"))
        return rpc_head_secret(); /* which the pipe's greeting has shown */
    return find(pub, lower_case_name);
}

tn_str tn_call_peer(const tn_call *call)
{
    const rpc_peer *peer = rpc_call_of(call)->peer;
    return (tn_str){peer->text, peer->n};
}

bool tn_call_cancelled(const tn_call *call)
{
    return atomic_load_explicit(&rpc_call_of(call)->cancelled, memory_order_relaxed);
}

tn_blob tn_call_peer_cert(const tn_call *call)
{
    const rpc_peer *peer = rpc_call_of(call)->peer;
    return tn_blob_from(peer->cert, peer->cert_n);
}

tn_str tn_call_tls_subject(const tn_call *call)
{
    const rpc_peer *peer = rpc_call_of(call)->peer;
    return peer->cert ? (tn_str){(const char *)peer->cert + peer->cert_n, peer->subject_n}
                      : (tn_str){NULL, 0};
}
