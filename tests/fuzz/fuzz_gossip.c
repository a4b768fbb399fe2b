/* SPDX-License-Identifier: MIT */
/* Packets and internal calls of a member gone mad, past the MAC and the secret.  The first byte chooses: gossip into a
 * cluster of two, which must still say sane things afterwards, or the baton of a call between roles. */
#include <stdlib.h>

#include "client/wire.h"
#include "membership/swim.h"
#include "proto/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void sent(void *user, const char *ip, uint16_t port, tn_blob packet)
{
    (void)user, (void)port;
    check(ip && *ip && packet.n > 0 && packet.n <= TN_SWIM_PACKET_MAX);
}

static void changed(void *user, const tn_member *member, tn_member_state before)
{
    (void)user;
    check(member->state >= TN_MEMBER_ALIVE && member->state <= TN_MEMBER_LEFT &&
          before <= TN_MEMBER_LEFT);
    check(memchr(member->ip, 0, sizeof(member->ip)) &&
          memchr(member->version, 0, sizeof(member->version)));
}

static void gossip(tn_blob in)
{
    uint64_t now = 1000 * TN_SEC;
    tn_swim_options opt;
    tn_swim_options_default(&opt);
    opt.self = (tn_member){.ip = "127.0.0.1", .port = 6934, .started_ms = 1, .version = "1"};
    memset(opt.self.host_id, 1, 16);
    opt.seed = 7;
    opt.send = sent;
    opt.changed = changed;
    tn_swim *swim = tn_swim_create(&opt, now);
    while (in.n) { /* packets with their length before them */
        size_t n = in.p[0] * 8u;
        n = n < in.n - 1 ? n : in.n - 1;
        tn_swim_receive(swim, now, "127.0.0.2", 6934, tn_blob_from(in.p + 1, n));
        now += 60 * TN_MS;
        tn_swim_run(swim, now);
        in = tn_blob_from(in.p + 1 + n, in.n - 1 - n);
    }
    const tn_member *self = tn_swim_self(swim);
    check(self && self->state == TN_MEMBER_ALIVE && self->host_id[0] == 1);
    tn_swim_destroy(swim);
}

static void history(tn_arena *arena, tn_blob in)
{
    tn_hreq req = {.arena = arena};
    Tenon__HistoryCall *call = NULL;
    if (tn_proto_unpack(&tenon__history_call__descriptor, in, arena,
                        (ProtobufCMessage **)(void *)&call, NULL) == TN_OK)
        (void)tn_wire_open_history(call, &req);
    if (tn_wire_close_history(in, &req) == TN_OK && req.response)
        check(req.response->descriptor != NULL);
    req.pass_on = true;
    if (tn_wire_close_history(in, &req) == TN_OK && req.response)
        (void)tn_proto_copy(req.response, arena); /* what is passed on need not be sound */
}

static void matching(tn_arena *arena, tn_blob in)
{
    tn_mreq req = {.arena = arena};
    Tenon__MatchingCall *call = NULL;
    if (tn_proto_unpack(&tenon__matching_call__descriptor, in, arena,
                        (ProtobufCMessage **)(void *)&call, NULL) == TN_OK)
        (void)tn_wire_open_matching(call, &req);
    if (tn_wire_close_matching(in, &req) == TN_OK && req.response)
        check(req.response->descriptor != NULL);
    req.pass_on = true;
    if (tn_wire_close_matching(in, &req) == TN_OK && req.response)
        (void)tn_proto_copy(req.response, arena); /* what is passed on need not be sound */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    tn_blob in = tn_blob_from(data + 1, size - 1);
    tn_arena *arena = tn_arena_create(0);
    if (data[0] % 3 == 0)
        gossip(in);
    else if (data[0] % 3 == 1)
        history(arena, in);
    else
        matching(arena, in);
    tn_arena_destroy(arena);
    return 0;
}
