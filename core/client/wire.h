/* SPDX-License-Identifier: MIT */
/* Batons on the wire: what of a tn_hreq and tn_mreq travels to another host (tenon/internal.proto), and back.
 * Packing on one side is unpacking on the other; both are here so that they stay together. */
#ifndef TN_CLIENT_WIRE_H
#define TN_CLIENT_WIRE_H

#include "client/client.h"
#include "tenon/internal.pb-c.h"

/* In the request's arena; p NULL: it does not fit. */
tn_blob tn_wire_pack_history(tn_hreq *req);
tn_blob tn_wire_pack_matching(tn_mreq *req);
/* Fills in what travelled; ns, home, call, done and the deadline are the receiver's.  False: damaged. */
bool tn_wire_open_history(const Tenon__HistoryCall *in, tn_hreq *req);
bool tn_wire_open_matching(const Tenon__MatchingCall *in, tn_mreq *req);
/* A public message on the wire: its type's name and its bytes, in the arena; NULL: neither.  False: it does not fit. */
bool tn_wire_put_message(tn_arena *arena, const ProtobufCMessage *message, char **out_type,
                         ProtobufCBinaryData *out);
/* Packed HistoryAnswer and MatchingAnswer, in the request's arena; the fault travels as the call's status. */
tn_status tn_wire_close_history(tn_blob packed, tn_hreq *req) TN_WARN_UNUSED;
tn_status tn_wire_close_matching(tn_blob packed, tn_mreq *req) TN_WARN_UNUSED;

/* direct.c: PollRef and PollMatch. */
Tenon__PollRef *tn_wire_put_poll(tn_arena *arena, const tn_poll_ref *poll); /* NULL for NULL */
bool tn_wire_take_poll(const Tenon__PollRef *in, tn_poll_ref *out); /* false: damaged, or none */
/* Of an ADD that has one, in the arena.  False: it does not fit. */
bool tn_wire_put_match(tn_arena *arena, const tn_mreq *req, Tenon__MatchingAnswer *out);
tn_status tn_wire_take_match(tn_arena *arena, tn_blob packed, uint32_t type,
                             const tn_poll_match **out) TN_WARN_UNUSED;

#define TN_INTERNAL_HISTORY "/tenon.History/Call"
#define TN_INTERNAL_CREDIT "/tenon.History/Credit"
#define TN_INTERNAL_CLOSE_SHARD "/tenon.History/CloseShard"
#define TN_INTERNAL_HANDOVER "/tenon.History/Handover"
#define TN_INTERNAL_MATCHING "/tenon.Matching/Call"
#define TN_INTERNAL_RETIRE "/tenon.Host/Retire"
#define TN_INTERNAL_SHARD_MAP "/tenon.Host/ShardMapChanged"
#define TN_INTERNAL_ENDPOINTS "/tenon.Host/EndpointsChanged"
#define TN_INTERNAL_SET_SHARDS "/tenon.Host/SetShards"
#define TN_INTERNAL_EVICT "/tenon.Host/Evict"
#define TN_INTERNAL_ANSWER_POLL "/tenon.Host/AnswerPoll"
#define TN_INTERNAL_END_WAITS "/tenon.Host/EndWaits"
#define TN_INTERNAL_KEYS "/tenon.Host/KeysChanged"
#define TN_INTERNAL_NAMESPACE "/tenon.Host/NamespaceChanged"

#endif
