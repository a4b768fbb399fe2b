/* SPDX-License-Identifier: MIT */
/* Messages on the wire and in memory: finding them by name, unpacking what a peer sent without
 * trusting it, packing in one pass, and splicing bytes that are packed already.
 *
 * Messages are protobuf-c structs from the generated headers; their memory is an arena's, nothing is
 * freed piece by piece.  Any thread; nothing here keeps state. */
#ifndef TN_PROTO_PROTO_H
#define TN_PROTO_PROTO_H

#include <protobuf-c/protobuf-c.h>

#include "base/base.h"
#include "proto/registry.h"

/* ---- finding things by name -------------------------------------------------------------------- */

/* "temporal.api.common.v1.Payload"; NULL: no such message. */
const ProtobufCMessageDescriptor *tn_proto_message(tn_str full_name);
/* "/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo"; NULL: no such method.  Covers the
 * workflow and operator services, health and reflection; tn_method_table lists all, by path. */
const tn_method *tn_proto_method(tn_str path);
/* The public API's descriptor set (google.protobuf.FileDescriptorSet), for reflection. */
tn_blob tn_proto_api_fds(void);

/* ---- unpacking --------------------------------------------------------------------------------- */

/* Deeper nesting is refused, in what is unpacked and in what is packed. */
#define TN_PROTO_DEPTH_MAX 160
/* From a peer: less, since SDKs give up at 100 and what we are sent comes back wrapped in events,
 * histories and responses. */
#define TN_PROTO_PEER_DEPTH_MAX 90
/* A peer's message may take this many bytes of memory a byte on the wire, and a base besides. */
#define TN_PROTO_PEER_GROWTH_MAX 20
#define TN_PROTO_PEER_GROWTH_BASE (64u * 1024u)

/* Unpacks into the arena (strings and bytes are copied).  Does not recurse.  Refuses, with the path of
 * the field in err (NULL: not wanted): truncated or overlong input, groups, a wire type that isn't the
 * field's, invalid UTF-8 or NUL in a string, deep nesting (all TN_EINVALID), and what goes past the
 * arena's cap (TN_ETOOLARGE).  *out is set on TN_OK only.  Fields that the descriptor doesn't know are
 * kept and packed again.
 *
 * For what we packed or checked before; what a peer sent goes through tn_proto_unpack_peer first. */
tn_status tn_proto_unpack(const ProtobufCMessageDescriptor *descriptor, tn_blob bytes,
                          tn_arena *arena, ProtobufCMessage **out, tn_error *err) TN_WARN_UNUSED;
/* The same with the peer's limits of depth (TN_EINVALID) and growth (TN_ETOOLARGE). */
tn_status tn_proto_unpack_peer(const ProtobufCMessageDescriptor *descriptor, tn_blob bytes,
                               tn_arena *arena, ProtobufCMessage **out,
                               tn_error *err) TN_WARN_UNUSED;
/* tn_proto_unpack with the right type for the output:
 * TN_PROTO_UNPACK(temporal__api__common__v1__payload, bytes, arena, &payload, &err). */
#define TN_PROTO_UNPACK(c_name, bytes, arena, out, err) \
    tn_proto_unpack(&c_name##__descriptor, (bytes), (arena), (ProtobufCMessage **)(void *)(out), \
                    (err))

/* ---- packing ----------------------------------------------------------------------------------- */

/* Exact size, in the arena.  TN_ETOOLARGE: the arena is full; TN_EINVALID: nested too deep. */
tn_status tn_proto_pack(const ProtobufCMessage *msg, tn_arena *arena, tn_blob *out) TN_WARN_UNUSED;
/* The same with `headroom` writable bytes in front of out->p, for a frame's header. */
tn_status tn_proto_pack_headroom(const ProtobufCMessage *msg, tn_arena *arena, size_t headroom,
                                 tn_blob *out) TN_WARN_UNUSED;
/* Appends to a heap buffer. */
tn_status tn_proto_pack_buf(const ProtobufCMessage *msg, tn_buf *buf) TN_WARN_UNUSED;

/* Hangs bytes that are packed already into a message as the length-prefixed field `number`, without
 * copying them: they must live until msg is packed, and msg must be packed by the functions here.
 * Attached fields come after the others, in the order of the calls.  False: the arena is full. */
bool tn_proto_attach(ProtobufCMessage *msg, tn_arena *arena, uint32_t number,
                     tn_blob bytes) TN_WARN_UNUSED;

/* A message of that type that is only passed on: it packs to `bytes`, which are not looked at and must live
 * until then; its fields are empty.  NULL: the arena is full. */
ProtobufCMessage *tn_proto_opaque(const ProtobufCMessageDescriptor *descriptor, tn_blob bytes,
                                  tn_arena *arena);
bool tn_proto_is_opaque(const ProtobufCMessage *msg, tn_blob *out);

/* A copy in another arena (attached bytes become ordinary fields); NULL: the arena is full. */
ProtobufCMessage *tn_proto_copy(const ProtobufCMessage *msg, tn_arena *arena);
/* True when both pack to the same bytes (of one type). */
bool tn_proto_equal(const ProtobufCMessage *a, const ProtobufCMessage *b);

/* ---- the wire by hand -------------------------------------------------------------------------- */

#define TN_WIRE_VARINT 0u
#define TN_WIRE_FIXED64 1u
#define TN_WIRE_BYTES 2u
#define TN_WIRE_FIXED32 5u

#define TN_VARINT_MAX 10

typedef struct tn_wire_field {
    uint32_t number;
    uint32_t wire_type;
    uint64_t value; /* varint and fixed types */
    tn_blob bytes;  /* TN_WIRE_BYTES: the contents without their length */
    tn_blob raw;    /* the whole field as it stands, tag included */
} tn_wire_field;

/* Walks the top level of packed bytes:
 *     for (tn_wire_iter it = tn_wire_begin(bytes); tn_wire_next(&it, &field);) ...
 *     if (it.damaged) ... */
typedef struct tn_wire_iter {
    const uint8_t *p, *end;
    bool damaged; /* truncated, overlong or a group: the walk has stopped early */
} tn_wire_iter;

static inline tn_wire_iter tn_wire_begin(tn_blob bytes)
{
    return (tn_wire_iter){bytes.p, bytes.p ? bytes.p + bytes.n : NULL, false};
}
bool tn_wire_next(tn_wire_iter *it, tn_wire_field *out);
/* The last field of that number (the one that counts); false: not there or damaged. */
bool tn_wire_find(tn_blob bytes, uint32_t number, tn_wire_field *out);

/* Reads a varint of at most 10 bytes; returns what follows it, NULL: truncated or overlong. */
const uint8_t *tn_wire_get_varint(const uint8_t *p, const uint8_t *end, uint64_t *out);

static inline size_t tn_wire_varint_size(uint64_t v)
{
    return v ? (size_t)(70 - __builtin_clzll(v)) / 7 : 1;
}
/* Writes at p, which has room for TN_VARINT_MAX; returns the end. */
uint8_t *tn_wire_write_varint(uint8_t *p, uint64_t v);

/* Builds packed bytes in a heap buffer. */
void tn_proto_put_varint(tn_buf *buf, uint64_t v);
void tn_proto_put_tag(tn_buf *buf, uint32_t number, uint32_t wire_type);
void tn_proto_put_uint(tn_buf *buf, uint32_t number,
                       uint64_t v); /* a varint field; 0 is left out */
void tn_proto_put_bytes(tn_buf *buf, uint32_t number, tn_blob bytes); /* also when empty */
tn_status tn_proto_put_message(tn_buf *buf, uint32_t number,
                               const ProtobufCMessage *msg) TN_WARN_UNUSED;

/* ---- times ------------------------------------------------------------------------------------- */

typedef struct Google__Protobuf__Timestamp tn_pb_timestamp;
typedef struct Google__Protobuf__Duration tn_pb_duration;

/* In the arena; NULL: full. */
tn_pb_timestamp *tn_ts_from_ns(tn_arena *arena, int64_t ns_since_1970);
tn_pb_duration *tn_duration_from_ns(tn_arena *arena, int64_t ns);
/* NULL means 0.  False, output untouched: nanos outside their range or sign, or a value outside what
 * the type may hold (years 1..9999; about 10,000 years).  What fits the type but not 64 bits of
 * nanoseconds (292 years) is cut to the nearest that does. */
bool tn_ns_from_ts(const tn_pb_timestamp *ts, int64_t *out_ns);
bool tn_ns_from_duration(const tn_pb_duration *duration, int64_t *out_ns);

#endif
