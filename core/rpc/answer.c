/* SPDX-License-Identifier: MIT */
/* Answers.  Whoever holds the baton packs the message and encodes the status, on its own thread; then
 * the call goes home, where the bytes are given to nghttp2.  They are copied once, into the buffer
 * that is written to the socket. */
#include <stdlib.h>
#include <string.h>

#include "rpc/pipe.h"

#define NV(name_, value_) \
    { \
        (uint8_t *)(uintptr_t)(name_), (uint8_t *)(uintptr_t)(value_), sizeof(name_) - 1, \
            sizeof(value_) - 1, NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE \
    }

static const nghttp2_nv nv_status_200 = NV(":status", "200");
static const nghttp2_nv nv_content_type = NV("content-type", "application/grpc");
static const nghttp2_nv nv_gzip = NV("grpc-encoding", "gzip");
static const nghttp2_nv nv_ok = NV("grpc-status", "0");

#define TRAILERS_MAX (3 + RPC_EXTRA_HEADERS_MAX)
#define HEADS_MAX (3 + TRAILERS_MAX)

/* ---- pieces ---- */

void rpc_answer_piece(rpc_call *call, rpc_piece *piece)
{
    piece->next = NULL;
    *call->pieces_end = piece;
    call->pieces_end = &piece->next;
    call->piece_bytes += piece->n;
}

static void piece_drop_first(rpc_call *call)
{
    rpc_piece *piece = call->pieces;

    call->pieces = piece->next;
    if (!call->pieces)
        call->pieces_end = &call->pieces;
    call->piece_offset = 0;
    if (piece->own == RPC_PIECE_BYTES)
        free((void *)(uintptr_t)piece->p);
    else if (piece->own == RPC_PIECE_WHOLE)
        free(piece);
}

void rpc_answer_drop_pieces(rpc_call *call)
{
    while (call->pieces)
        piece_drop_first(call);
    call->piece_bytes = 0;
}

/* ---- status ---- */

static const char *const code_text[] = {"0", "1",  "2",  "3",  "4",  "5",  "6",  "7", "8",
                                        "9", "10", "11", "12", "13", "14", "15", "16"};

static nghttp2_nv nv_of(const char *name, size_t name_n, tn_str value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value.p, name_n, value.n,
                        NGHTTP2_NV_FLAG_NONE};
}

static tn_str utf8_cut(tn_str s, size_t max)
{
    if (s.n <= max)
        return s;
    while (max && ((uint8_t)s.p[max] & 0xc0) == 0x80)
        max--;
    return (tn_str){s.p, max};
}

/* The details hold the message a second time: a long one is cut there first, then they are left out. */
static void encode_details(rpc_call *call, const tn_fault *fault)
{
    tn_fault brief = *fault;
    tn_blob details = tn_fault_status_details(call->pub.arena, fault);
    char *p;

    if (RPC_BASE64_SIZE(details.n) > RPC_STATUS_BYTES_MAX / 2) {
        brief.message = utf8_cut(fault->message, RPC_BRIEF_MESSAGE);
        details = tn_fault_status_details(call->pub.arena, &brief);
    }
    if (!details.n || RPC_BASE64_SIZE(details.n) > RPC_STATUS_BYTES_MAX - RPC_BRIEF_MESSAGE)
        return;
    p = tn_arena_alloc(call->pub.arena, RPC_BASE64_SIZE(details.n));
    if (p)
        call->details = (tn_str){p, rpc_base64_encode(details, p)};
}

/* grpc-message and grpc-status-details-bin, in the arena.  Together they stay below what clients take
 * (8 KiB of metadata in C++, Python and Java): more would turn any failure into another. */
static void encode_fault(rpc_call *call, const tn_fault *fault)
{
    size_t cap = fault->message.n * 3;
    char *p;

    if (call->by_pipe) {
        rpc_pipe_encode_fault(call, fault);
        return;
    }
    call->code = fault->code >= 0 && fault->code <= 16 ? (int)fault->code : TN_GRPC_UNKNOWN;
    encode_details(call, fault);
    if (cap > RPC_STATUS_BYTES_MAX - call->details.n)
        cap = RPC_STATUS_BYTES_MAX - call->details.n;
    p = cap ? tn_arena_alloc(call->pub.arena, cap) : NULL;
    if (p)
        call->message = (tn_str){p, rpc_percent_encode(fault->message, p, cap)};
}

static size_t put_extra(const rpc_call *call, bool trailers, nghttp2_nv *nv)
{
    size_t n = 0;

    for (const rpc_header *h = call->extra; h; h = h->next) {
        if (h->trailer == trailers)
            nv[n++] = nv_of(h->name.p, h->name.n, h->value);
    }
    return n;
}

static size_t put_trailers(const rpc_call *call, nghttp2_nv *nv)
{
    size_t n = 0;

    if (call->code == TN_GRPC_OK)
        nv[n++] = nv_ok;
    else
        nv[n++] = nv_of("grpc-status", 11, tn_str_from(code_text[call->code]));
    if (call->message.n)
        nv[n++] = nv_of("grpc-message", 12, call->message);
    if (call->details.n)
        nv[n++] = nv_of("grpc-status-details-bin", 23, call->details);
    return n + put_extra(call, true, nv + n);
}

/* ---- nghttp2 asks for bytes ---- */

ssize_t rpc_answer_read(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length,
                        uint32_t *data_flags, nghttp2_data_source *source, void *user)
{
    rpc_call *call = nghttp2_session_get_stream_user_data(session, stream_id);
    nghttp2_nv nv[TRAILERS_MAX];
    size_t n;

    (void)buf, (void)source, (void)user;
    if (!call)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    n = call->piece_bytes < length ? call->piece_bytes : length;
    if (!n && !call->ended) {
        call->stream_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n == call->piece_bytes && call->ended) {
        *data_flags |= NGHTTP2_DATA_FLAG_EOF;
        if (!call->http_status) {
            *data_flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (nghttp2_submit_trailer(session, stream_id, nv, put_trailers(call, nv)) != 0)
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    if (n)
        *data_flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    return (ssize_t)n;
}

void rpc_answer_move(rpc_call *call, tn_buf *out, size_t length)
{
    rpc_conn *conn = call->conn;

    TN_ASSERT(length <= call->piece_bytes);
    call->piece_bytes -= length;
    conn->queued_bytes -= length;
    conn->progress_ns = conn->now_ns;
    while (length) {
        rpc_piece *piece = call->pieces;
        size_t n = piece->n - call->piece_offset;

        if (n > length)
            n = length;
        tn_buf_put(out, piece->p + call->piece_offset, n);
        call->piece_offset += n;
        length -= n;
        if (call->piece_offset == piece->n)
            piece_drop_first(call);
    }
}

int rpc_answer_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *framehd,
                         size_t length, nghttp2_data_source *source, void *user)
{
    rpc_conn *conn = user;
    rpc_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    tn_buf *out = &conn->worker->out;

    (void)source;
    TN_ASSERT(call);
    tn_buf_put(out, framehd, 9);
    rpc_answer_move(call, out, length);
    return 0;
}

/* ---- home: giving it to nghttp2 ---- */

void rpc_answer_queue(rpc_conn *conn, size_t n)
{
    if (!n)
        return;
    if (!conn->queued_bytes) {
        conn->progress_ns = tn_now_mono_ns();
        rpc_conn_tick_at(conn, conn->progress_ns + rpc_slow_ns(conn, RPC_SLOW_STALL));
    }
    conn->queued_bytes += n;
}

static void check_submit(rpc_call *call, int rv)
{
    if (rv != 0)
        nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                  NGHTTP2_INTERNAL_ERROR);
    rpc_conn_flush_later(call->conn);
}

static void submit_head(rpc_call *call, bool with_body)
{
    const nghttp2_data_provider provider = {.source = {.ptr = NULL},
                                            .read_callback = rpc_answer_read};
    nghttp2_nv nv[HEADS_MAX];
    size_t n = 0;

    nv[n++] = nv_status_200;
    nv[n++] = nv_content_type;
    if (call->answer_gzip)
        nv[n++] = nv_gzip;
    n += put_extra(call, false, nv + n);
    if (!with_body)
        n += put_trailers(call, nv + n);
    check_submit(call, nghttp2_submit_response(call->conn->session, call->stream_id, nv, n,
                                               with_body ? &provider : NULL));
}

/* For a peer that doesn't speak gRPC. */
static void submit_plain(rpc_call *call)
{
    static const nghttp2_nv type = NV("content-type", "text/plain; charset=utf-8");
    const nghttp2_data_provider provider = {.source = {.ptr = NULL},
                                            .read_callback = rpc_answer_read};
    nghttp2_nv nv[2] = {
        nv_of(":status", 7, call->http_status == 405 ? TN_STR("405") : TN_STR("415")), type};
    rpc_piece *piece = TN_NEW(call->pub.arena, rpc_piece);

    call->ended = true;
    if (piece) {
        piece->p = (const uint8_t *)call->message.p;
        piece->n = call->message.n;
        rpc_answer_piece(call, piece);
        rpc_answer_queue(call->conn, piece->n);
    }
    check_submit(call,
                 nghttp2_submit_response(call->conn->session, call->stream_id, nv, 2, &provider));
}

static bool worth_gzip(const rpc_call *call)
{
    size_t n = call->piece_bytes;

    if (!call->accept_gzip)
        return false;
    if (call->request_gzip)
        return n >= RPC_GZIP_MIN && n <= RPC_GZIP_MAX;
    return n >= RPC_GZIP_UNASKED_MIN && n <= RPC_GZIP_UNASKED_MAX;
}

static void compress(rpc_call *call)
{
    rpc_piece *piece = TN_NEW(call->pub.arena, rpc_piece);
    tn_buf buf = {0};

    if (!call->worker->gzip)
        call->worker->gzip = rpc_gzip_create();
    tn_buf_reserve(&buf, call->piece_bytes / 4 + 256);
    tn_buf_put_u8(&buf, 1);
    tn_buf_put_u32be(&buf, 0);
    if (!piece ||
        rpc_gzip_pieces(call->worker->gzip, call->pieces, RPC_FRAME_HEAD, &buf) != TN_OK ||
        buf.n >= call->piece_bytes) {
        tn_buf_done(&buf);
        return;
    }
    tn_put_u32be(buf.p + 1, (uint32_t)(buf.n - RPC_FRAME_HEAD));
    rpc_answer_drop_pieces(call);
    *piece = (rpc_piece){.p = buf.p, .n = buf.n, .own = RPC_PIECE_BYTES};
    rpc_answer_piece(call, piece);
    call->answer_gzip = true;
}

void rpc_answer_submit(rpc_call *call)
{
    TN_ASSERT(call->conn);
    rpc_call_intake_end(call);
    if (call->http) {
        if (call->phase == RPC_REFUSED)
            rpc_http_fail(call, call->refusal);
        call->phase = RPC_ANSWERED;
        call->ended = true;
        rpc_http_submit(call);
        return;
    }
    if (call->phase == RPC_REFUSED && !call->http_status)
        encode_fault(call, call->refusal);
    call->phase = RPC_ANSWERED;
    if (call->http_status) {
        submit_plain(call);
        return;
    }
    call->ended = true;
    if (call->piece_bytes) {
        if (worth_gzip(call))
            compress(call);
        rpc_answer_queue(call->conn, call->piece_bytes);
        submit_head(call, true);
    } else {
        submit_head(call, false);
    }
}

void rpc_answer_deadline(rpc_conn *conn, int32_t stream_id)
{
    static const nghttp2_nv nv[] = {
        NV(":status", "200"),
        NV("content-type", "application/grpc"),
        NV("grpc-status", "4"),
        NV("grpc-message", "context deadline exceeded"),
    };
    if (nghttp2_submit_response(conn->session, stream_id, nv, TN_COUNT_OF(nv), NULL) != 0)
        nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_CANCEL);
    rpc_conn_flush_later(conn);
}

static void answer_home(rpc_call *call)
{
    if (call->pipe) {
        rpc_pipe_answer(call);
        return;
    }
    if (call->conn) {
        rpc_answer_submit(call);
        return;
    }
    rpc_count(RPC_COUNT_UNDELIVERED, 1);
    if (call->pub.on_undelivered)
        call->pub.on_undelivered(&call->pub);
    rpc_call_done(call);
}

static void answer_came(tn_msg *msg)
{
    answer_home(rpc_call_of(TN_CONTAINER_OF(msg, tn_call, msg)));
}

/* The baton goes home: nothing of the call may be touched after this. */
void rpc_answer_hand_back(rpc_call *call)
{
    if (tn_loop_current() == call->pub.home) {
        answer_home(call);
        return;
    }
    call->pub.msg.run = answer_came;
    tn_loop_post(call->pub.home, &call->pub.msg);
}

/* ---- what handlers call ---- */

void rpc_answer_take(rpc_call *call)
{
    TN_ASSERT(!call->answered); /* a call is answered once */
    call->answered = true;
    /* The cap was on what the request may cost; an answer that was made is not refused for it. */
    tn_arena_set_limit(call->pub.arena, 0);
}

static void fail_packing(rpc_call *call, tn_status status)
{
    const tn_fault *fault = tn_fault_make(
        call->pub.arena, status == TN_ETOOLARGE ? TN_GRPC_RESOURCE_EXHAUSTED : TN_GRPC_INTERNAL,
        "the response can't be encoded: %s", tn_status_name(status));

    call->pieces = NULL;
    call->pieces_end = &call->pieces;
    call->piece_bytes = 0;
    if (call->http)
        rpc_http_fail(call, fault);
    else
        encode_fault(call, fault);
}

static tn_status add_spliced(rpc_call *call, rpc_piece *pieces, const tn_blob *spliced, size_t n)
{
    size_t total = call->piece_bytes;

    for (size_t i = 0; i < n; i++) {
        if (__builtin_add_overflow(total, spliced[i].n, &total) || total > INT32_MAX)
            return TN_ETOOLARGE;
        if (!spliced[i].n)
            continue;
        pieces[i] = (rpc_piece){.p = spliced[i].p, .n = spliced[i].n};
        rpc_answer_piece(call, &pieces[i]);
    }
    return TN_OK;
}

static tn_status make_pieces(rpc_call *call, const ProtobufCMessage *response,
                             const tn_blob *spliced, size_t n_spliced)
{
    rpc_piece *pieces = tn_arena_array(call->pub.arena, n_spliced + 1, sizeof(*pieces));
    tn_blob packed = {NULL, 0};
    uint8_t *frame;
    tn_status status;

    if (!pieces)
        return TN_ETOOLARGE;
    if (response) {
        status = tn_proto_pack_headroom(response, call->pub.arena, RPC_FRAME_HEAD, &packed);
        if (status != TN_OK)
            return status;
        if (packed.n > INT32_MAX - RPC_FRAME_HEAD)
            return TN_ETOOLARGE;
        frame = (uint8_t *)(uintptr_t)packed.p - RPC_FRAME_HEAD;
    } else {
        frame = tn_arena_alloc(call->pub.arena, RPC_FRAME_HEAD);
        if (!frame)
            return TN_ETOOLARGE;
    }
    pieces[0] = (rpc_piece){.p = frame, .n = RPC_FRAME_HEAD + packed.n};
    rpc_answer_piece(call, &pieces[0]);
    status = add_spliced(call, pieces + 1, spliced, n_spliced);
    frame[0] = 0;
    tn_put_u32be(frame + 1, (uint32_t)(call->piece_bytes - RPC_FRAME_HEAD));
    return status;
}

void tn_call_reply_spliced(tn_call *pub, const ProtobufCMessage *response, const tn_blob *spliced,
                           size_t n_spliced, void (*release)(void *user), void *user)
{
    rpc_call *call = rpc_call_of(pub);
    tn_status status;

    rpc_answer_take(call);
    call->release = release;
    call->release_user = user;
    if (!tn_call_cancelled(pub)) {
        status = make_pieces(call, response, spliced, n_spliced);
        if (status == TN_OK && call->http)
            status = rpc_http_reply(call);
        if (status != TN_OK)
            fail_packing(call, status);
    }
    rpc_answer_hand_back(call);
}

void tn_call_reply(tn_call *call, const ProtobufCMessage *response)
{
    tn_call_reply_spliced(call, response, NULL, 0, NULL, NULL);
}

void tn_call_fail(tn_call *pub, const tn_fault *fault)
{
    rpc_call *call = rpc_call_of(pub);

    if (pub->method && pub->method->flags & TN_RPC_STREAM_OUT) {
        tn_call_end(pub, fault);
        return;
    }
    rpc_answer_take(call);
    if (tn_call_cancelled(pub))
        ;
    else if (call->http)
        rpc_http_fail(call, fault);
    else
        encode_fault(call, fault);
    rpc_answer_hand_back(call);
}

static void add_extra(tn_call *pub, const char *name, tn_str value, bool trailer)
{
    rpc_call *call = rpc_call_of(pub);
    rpc_header *h;
    size_t name_n = strlen(name);
    bool binary = name_n > 4 && memcmp(name + name_n - 4, "-bin", 4) == 0;
    char *p;

    if (call->extra_count == RPC_EXTRA_HEADERS_MAX || value.n > RPC_EXTRA_BYTES_MAX)
        return;
    h = TN_NEW(pub->arena, rpc_header);
    p = h ? tn_arena_alloc(pub->arena, name_n + RPC_BASE64_SIZE(value.n) + value.n) : NULL;
    if (!p)
        return;
    memcpy(p, name, name_n);
    h->name = (tn_str){p, name_n};
    h->value = (tn_str){p + name_n, value.n};
    if (binary)
        h->value.n = rpc_base64_encode(tn_blob_of_str(value), p + name_n);
    else if (value.n)
        memcpy(p + name_n, value.p, value.n);
    h->trailer = trailer;
    h->next = call->extra;
    call->extra = h;
    call->extra_count++;
}

void tn_call_add_header(tn_call *call, const char *name, tn_str value)
{
    add_extra(call, name, value, false);
}

void tn_call_add_trailer(tn_call *call, const char *name, tn_str value)
{
    add_extra(call, name, value, true);
}

/* ---- streams [home loop] ---- */

/* A heap piece with its bytes behind it: messages of a stream come and go, the arena stays. */
static rpc_piece *stream_piece(const ProtobufCMessage *message)
{
    static const uint8_t blank[sizeof(rpc_piece) + RPC_FRAME_HEAD];
    tn_buf buf = {0};
    rpc_piece *piece;

    tn_buf_put(&buf, blank, sizeof(blank));
    if (tn_proto_pack_buf(message, &buf) != TN_OK || buf.n > INT32_MAX) {
        tn_buf_done(&buf);
        return NULL;
    }
    piece = (rpc_piece *)(void *)buf.p;
    piece->p = buf.p + sizeof(*piece);
    piece->n = buf.n - sizeof(*piece);
    piece->own = RPC_PIECE_WHOLE;
    tn_put_u32be(buf.p + sizeof(*piece) + 1, (uint32_t)(piece->n - RPC_FRAME_HEAD));
    return piece;
}

static void stream_resume(rpc_call *call)
{
    if (call->stream_deferred) {
        call->stream_deferred = false;
        nghttp2_session_resume_data(call->conn->session, call->stream_id);
    }
    rpc_conn_flush_later(call->conn);
}

void tn_call_send(tn_call *pub, const ProtobufCMessage *message)
{
    rpc_call *call = rpc_call_of(pub);
    rpc_piece *piece;

    TN_ASSERT(!call->answered && (pub->method->flags & TN_RPC_STREAM_OUT));
    TN_ASSERT(tn_loop_current() == pub->home);
    if (!call->conn || call->deaf)
        return;
    piece = call->piece_bytes > RPC_STREAM_QUEUED_MAX ? NULL : stream_piece(message);
    if (!piece) {
        /* The peer asks and doesn't read. */
        rpc_call_refuse(call, TN_GRPC_RESOURCE_EXHAUSTED, "unread messages");
        return;
    }
    rpc_answer_piece(call, piece);
    rpc_answer_queue(call->conn, piece->n);
    if (!call->stream_begun) {
        call->stream_begun = true;
        submit_head(call, true);
    } else {
        stream_resume(call);
    }
    rpc_call_pump_later(call);
}

static void stream_end_home(rpc_call *call)
{
    if (!call->conn || !call->stream_begun) {
        answer_home(call);
        return;
    }
    rpc_call_intake_end(call);
    call->phase = RPC_ANSWERED;
    call->ended = true;
    stream_resume(call);
}

static void stream_end_came(tn_msg *msg)
{
    stream_end_home(rpc_call_of(TN_CONTAINER_OF(msg, tn_call, msg)));
}

void tn_call_end(tn_call *pub, const tn_fault *fault)
{
    rpc_call *call = rpc_call_of(pub);

    rpc_answer_take(call);
    if (fault)
        encode_fault(call, fault);
    if (tn_loop_current() == pub->home) {
        stream_end_home(call);
        return;
    }
    pub->msg.run = stream_end_came;
    tn_loop_post(pub->home, &pub->msg);
}
