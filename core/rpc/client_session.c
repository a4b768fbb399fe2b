/* SPDX-License-Identifier: MIT */
/* The client's half of HTTP/2 and of gRPC: a call becomes a request, what comes back becomes its answer. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "rpc/client_private.h"

static tn_outcall *call_of(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

/* ---- the answer ---- */

static int percent_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static tn_str percent_decode(tn_arena *arena, tn_str s)
{
    char *out = tn_arena_alloc(arena, s.n + 1);
    size_t n = 0;
    for (size_t i = 0; out && i < s.n; i++) {
        int high = s.p[i] == '%' && i + 2 < s.n ? percent_digit(s.p[i + 1]) : -1;
        int low = high >= 0 ? percent_digit(s.p[i + 2]) : -1;
        out[n++] = low >= 0 ? (char)(high << 4 | low) : s.p[i];
        i += low >= 0 ? 2 : 0;
    }
    return out ? (tn_str){out, n} : (tn_str){0};
}

static void take_status(tn_outcall *call, tn_str value)
{
    uint64_t code;
    call->status = tn_parse_u64(value, &code) && code <= 16 ? (int)code : TN_GRPC_UNKNOWN;
}

static void take_details(tn_outcall *call, tn_str value)
{
    uint8_t *bytes = tn_arena_alloc(call->arena, RPC_BASE64_DECODED_MAX(value.n));
    size_t n;
    if (bytes && rpc_base64_decode(value, bytes, &n))
        call->status_details = tn_blob_from(bytes, n);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    (void)flags, (void)user;
    tn_outcall *call = call_of(session, frame->hd.stream_id);
    tn_str n = {(const char *)name, name_n}, v = {(const char *)value, value_n};
    if (!call)
        return 0;
    if (tn_str_is(n, "grpc-status"))
        take_status(call, v);
    else if (tn_str_is(n, "grpc-message"))
        call->status_message = percent_decode(call->arena, v);
    else if (tn_str_is(n, "grpc-status-details-bin"))
        take_details(call, v);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *p,
                   size_t n, void *user)
{
    (void)flags, (void)user;
    tn_outcall *call = call_of(session, stream_id);
    if (!call)
        return 0;
    if (call->body.n + n > RPC_RESPONSE_BYTES_MAX)
        return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_CANCEL);
    tn_buf_put(&call->body, p, n);
    return 0;
}

/* The one detail that we put there: google.rpc.Status.details[0], an Any. */
static void open_details(const tn_outcall *call, tn_fault *fault)
{
    tn_wire_field any, type, value;
    if (!tn_wire_find(call->status_details, 3, &any) || any.wire_type != TN_WIRE_BYTES ||
        !tn_wire_find(any.bytes, 1, &type) || type.wire_type != TN_WIRE_BYTES)
        return;
    tn_str url = tn_str_of_blob(type.bytes);
    for (size_t i = url.n; i > 0; i--) {
        if (url.p[i - 1] != '/')
            continue;
        url = (tn_str){url.p + i, url.n - i};
        break;
    }
    fault->detail_type = url;
    if (tn_wire_find(any.bytes, 2, &value) && value.wire_type == TN_WIRE_BYTES)
        fault->detail = value.bytes;
}

static const tn_fault *fault_of(tn_outcall *call)
{
    tn_fault *fault = TN_NEW(call->arena, tn_fault);
    if (!fault)
        return tn_fault_make(call->arena, TN_GRPC_RESOURCE_EXHAUSTED, "no memory for a fault");
    fault->code = (tn_grpc_code)call->status;
    fault->message = call->status_message;
    open_details(call, fault);
    return fault;
}

static void take_answer(tn_outcall *call)
{
    if (call->status < 0) {
        rpc_outcall_finish(
            call, tn_fault_make(call->arena, TN_GRPC_UNAVAILABLE, "no gRPC status came"), false);
    } else if (call->status > 0) {
        rpc_outcall_answered(call, fault_of(call));
    } else if (call->body.n < RPC_FRAME_HEAD || call->body.p[0] != 0 ||
               tn_get_u32be(call->body.p + 1) != call->body.n - RPC_FRAME_HEAD) {
        rpc_outcall_finish(
            call, tn_fault_make(call->arena, TN_GRPC_INTERNAL, "the answer is not one message"),
            false);
    } else {
        tn_arena_set_limit(call->arena, 0);
        call->response = tn_arena_blob(call->arena, tn_blob_from(call->body.p + RPC_FRAME_HEAD,
                                                                 call->body.n - RPC_FRAME_HEAD));
        rpc_outcall_answered(call, NULL);
    }
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code,
                           void *user)
{
    rpc_link *l = user;
    tn_outcall *call = call_of(session, stream_id);
    if (!call)
        return 0;
    call->stream_id = 0;
    bool refused = error_code == NGHTTP2_REFUSED_STREAM;
    if (call->status >= 0 || (error_code == NGHTTP2_NO_ERROR && !refused))
        take_answer(call);
    else
        rpc_outcall_finish(call,
                           tn_fault_make(call->arena, TN_GRPC_UNAVAILABLE,
                                         "%s:%u ended the call: %s", l->channel->ip,
                                         l->channel->port, nghttp2_http2_strerror(error_code)),
                           refused);
    if (l->leaving)
        rpc_link_flush_later(l);
    return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    rpc_link *l = user;
    if (frame->hd.type == NGHTTP2_GOAWAY && !l->leaving) {
        l->leaving = true;
        if (l->channel->current == l)
            l->channel->current = NULL;
    }
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)user;
    tn_outcall *call =
        frame->hd.type == NGHTTP2_HEADERS ? call_of(session, frame->hd.stream_id) : NULL;
    if (call)
        call->head_sent = true;
    return 0;
}

/* A request that could not be begun (the stream numbers are used up, the peer goes away): surely unseen. */
static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int lib_error,
                             void *user)
{
    rpc_link *l = user;
    tn_outcall *call =
        frame->hd.type == NGHTTP2_HEADERS ? call_of(session, frame->hd.stream_id) : NULL;
    if (call) {
        rpc_outcall_finish(call,
                           tn_fault_make(call->arena, TN_GRPC_UNAVAILABLE, "%s:%u: %s",
                                         l->channel->ip, l->channel->port,
                                         nghttp2_strerror(lib_error)),
                           true);
        l->leaving = true;
        if (l->channel->current == l)
            l->channel->current = NULL;
    }
    return 0;
}

/* ---- the request ---- */

static ssize_t read_message(nghttp2_session *session, int32_t stream_id, uint8_t *buf,
                            size_t length, uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)source, (void)user;
    tn_outcall *call = call_of(session, stream_id);
    if (!call)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    size_t n = 0;
    if (call->sent < RPC_FRAME_HEAD) {
        uint8_t head[RPC_FRAME_HEAD] = {0};
        tn_put_u32be(head + 1, (uint32_t)call->message.n);
        n = RPC_FRAME_HEAD - call->sent < length ? RPC_FRAME_HEAD - call->sent : length;
        memcpy(buf, head + call->sent, n);
        call->sent += n;
    }
    if (call->sent >= RPC_FRAME_HEAD) {
        size_t at = call->sent - RPC_FRAME_HEAD, rest = call->message.n - at;
        size_t take = rest < length - n ? rest : length - n;
        if (take)
            memcpy(buf + n, call->message.p + at, take);
        call->sent += take;
        n += take;
        if (take == rest)
            *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

static nghttp2_nv nv(tn_str name, tn_str value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name.p, (uint8_t *)(uintptr_t)value.p, name.n,
                        value.n, NGHTTP2_NV_FLAG_NONE};
}

/* Never the same twice: not worth a place in the table that the other side keeps. */
static nghttp2_nv unlike(nghttp2_nv field)
{
    field.flags = NGHTTP2_NV_FLAG_NO_INDEX;
    return field;
}

static tn_str timeout_text(const tn_outcall *call, char out[16])
{
    uint64_t now = tn_now_mono_ns();
    uint64_t left = call->deadline_mono_ns > now ? call->deadline_mono_ns - now : 0;
    if (left / TN_US < 100000000)
        snprintf(out, 16, "%lluu", (unsigned long long)(left / TN_US));
    else if (left / TN_MS < 100000000)
        snprintf(out, 16, "%llum", (unsigned long long)(left / TN_MS));
    else
        snprintf(out, 16, "%lluS", (unsigned long long)(left / TN_SEC % 100000000));
    return tn_str_from(out);
}

static tn_str secret_of(rpc_link *l)
{
    tn_channel *ch = l->channel;
    return ch->as_host ? rpc_saying_to(&ch->saying, ch->host_id) : tn_str_from(ch->secret);
}

void rpc_link_submit(rpc_link *l, tn_outcall *call)
{
    nghttp2_nv list[9 + TN_OUTCALL_HEADERS_MAX];
    char timeout[16];
    size_t n = 0;
    list[n++] = nv(TN_STR(":method"), TN_STR("POST"));
    list[n++] = nv(TN_STR(":scheme"), l->tls ? TN_STR("https") : TN_STR("http"));
    list[n++] = nv(TN_STR(":path"), tn_str_from(call->path));
    list[n++] = nv(TN_STR(":authority"), tn_str_from(l->channel->authority));
    list[n++] = nv(TN_STR("te"), TN_STR("trailers"));
    list[n++] = nv(TN_STR("content-type"), TN_STR("application/grpc"));
    if (call->deadline_mono_ns != UINT64_MAX)
        list[n++] = unlike(nv(TN_STR("grpc-timeout"), timeout_text(call, timeout)));
    tn_str secret = secret_of(l);
    if (secret.n)
        list[n++] = nv(TN_STR("tenon-internode"), secret);
    for (size_t i = 0; i < call->n_headers; i++)
        list[n++] = nv(call->headers[i].name, call->headers[i].value);
    const nghttp2_data_provider body = {.read_callback = read_message};
    int32_t id = nghttp2_submit_request(l->session, NULL, list, n, &body, call);
    if (id > 0) {
        call->stream_id = id;
        return;
    }
    rpc_outcall_finish(call,
                       tn_fault_make(call->arena, TN_GRPC_UNAVAILABLE, "%s:%u: %s", l->channel->ip,
                                     l->channel->port, nghttp2_strerror(id)),
                       true);
}

static nghttp2_session_callbacks *made;

static void make_callbacks(void)
{
    TN_ASSERT(nghttp2_session_callbacks_new(&made) == 0);
    nghttp2_session_callbacks_set_on_header_callback(made, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(made, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(made, on_frame_recv);
    nghttp2_session_callbacks_set_on_frame_send_callback(made, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(made, on_frame_not_send);
}

/* One for all loops: read-only once made. */
static const nghttp2_session_callbacks *callbacks(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_callbacks);
    return made;
}

void rpc_link_begin(rpc_link *l)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 4 * RPC_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    nghttp2_option *option;
    TN_ASSERT(nghttp2_option_new(&option) == 0);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_peer_max_concurrent_streams(option, 100000);
    TN_ASSERT(nghttp2_session_client_new2(&l->session, callbacks(), l, option) == 0);
    nghttp2_option_del(option);
    TN_ASSERT(nghttp2_submit_settings(l->session, NGHTTP2_FLAG_NONE, settings,
                                      TN_COUNT_OF(settings)) == 0);
    TN_ASSERT(nghttp2_session_set_local_window_size(l->session, NGHTTP2_FLAG_NONE, 0,
                                                    8 * RPC_CONN_WINDOW) == 0);
}
