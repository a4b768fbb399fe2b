/* SPDX-License-Identifier: MIT */
/* Single rules of gossip; that they add up is shown by tests/sim/gossip. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "membership/swim.h"
#include "tenon/gossip.pb-c.h"

#define HOSTS 3
#define QUEUE 4096

typedef struct letter {
    uint16_t from, to;
    size_t n;
    uint8_t bytes[TN_SWIM_PACKET_MAX];
} letter;

static tn_swim *swims[HOSTS];
static letter *queue;
static size_t queued;
static bool deaf[HOSTS];
static uint64_t now;
static unsigned changes;

/* They are written by hand: read and written again by the library, as another release may do, they must be the same. */
static void as_the_library_writes_it(tn_blob packet)
{
    uint8_t bytes[2 * TN_SWIM_PACKET_MAX];
    Tenon__GossipPacket *read = tenon__gossip_packet__unpack(NULL, packet.n, packet.p);
    assert_non_null(read);
    assert_int_equal(tenon__gossip_packet__get_packed_size(read), packet.n);
    assert_int_equal(tenon__gossip_packet__pack(read, bytes), packet.n);
    assert_memory_equal(bytes, packet.p, packet.n);
    tenon__gossip_packet__free_unpacked(read, NULL);
}

static void send_packet(void *user, const char *ip, uint16_t port, tn_blob packet)
{
    as_the_library_writes_it(packet);
    assert_string_equal(ip, "127.0.0.1");
    assert_in_range(packet.n, 1, TN_SWIM_PACKET_MAX);
    assert_true(queued < QUEUE);
    letter *l = &queue[queued++];
    l->from = (uint16_t)(uintptr_t)user;
    l->to = port;
    l->n = packet.n;
    memcpy(l->bytes, packet.p, packet.n);
}

static void changed(void *user, const tn_member *m, tn_member_state before)
{
    (void)user, (void)m, (void)before;
    changes++;
}

static tn_swim *make(uint16_t port, uint8_t id, uint64_t started_ms)
{
    tn_swim_options opt;
    tn_swim_options_default(&opt);
    opt.self =
        (tn_member){.ip = "127.0.0.1", .port = port, .started_ms = started_ms, .version = "0.1.0"};
    memset(opt.self.host_id, id, 16);
    opt.self.role_ports[TN_SERVICE_HISTORY] = 7234;
    opt.seed = id;
    opt.send = send_packet;
    opt.changed = changed;
    opt.user = (void *)(uintptr_t)port;
    return tn_swim_create(&opt, now);
}

/* Ports are 1, 2, 3: places in swims. */
static void pass_time(uint64_t ns)
{
    for (uint64_t end = now + ns; now < end; now += 10 * TN_MS) {
        for (size_t i = 0; i < queued; i++) {
            size_t to = (size_t)queue[i].to - 1;
            if (to < HOSTS && swims[to] && !deaf[to])
                tn_swim_receive(swims[to], now, "127.0.0.1", queue[i].from,
                                tn_blob_from(queue[i].bytes, queue[i].n));
        }
        queued = 0;
        for (size_t i = 0; i < HOSTS; i++)
            if (swims[i] && !deaf[i])
                (void)tn_swim_run(swims[i], now);
    }
}

static int setup(void **state)
{
    (void)state;
    queue = calloc(QUEUE, sizeof(*queue));
    now = 100 * TN_SEC;
    queued = changes = 0;
    for (uint16_t i = 0; i < HOSTS; i++) {
        deaf[i] = false;
        swims[i] = make((uint16_t)(i + 1), (uint8_t)(i + 1), 1000);
        if (i)
            tn_swim_join(swims[i], now, "127.0.0.1", 1);
    }
    pass_time(3 * TN_SEC);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < HOSTS; i++)
        tn_swim_destroy(swims[i]);
    free(queue);
    return 0;
}

static tn_member_state seen(size_t by, uint8_t id)
{
    uint8_t host_id[16];
    memset(host_id, id, 16);
    const tn_member *m = tn_swim_find(swims[by], host_id);
    return m ? m->state : 0;
}

static uint32_t living(size_t by)
{
    tn_swim_stats stats;
    tn_swim_stats_get(swims[by], &stats);
    return stats.living;
}

static void all_meet(void **state)
{
    (void)state;
    for (size_t i = 0; i < HOSTS; i++)
        assert_int_equal(living(i), HOSTS);
    assert_int_equal(tn_swim_digest(swims[0]), tn_swim_digest(swims[2]));
    assert_string_equal(tn_swim_find(swims[0], tn_swim_self(swims[2])->host_id)->version, "0.1.0");
}

static void one_alone_never_wakes(void **state)
{
    (void)state;
    tn_swim *s = make(9, 9, 1);
    assert_true(tn_swim_run(s, now) == UINT64_MAX);
    tn_swim_destroy(s);
}

static void a_paused_one_dies_and_refutes(void **state)
{
    (void)state;
    deaf[2] = true;
    pass_time(6 * TN_SEC);
    assert_int_equal(seen(0, 3), TN_MEMBER_DEAD);
    assert_int_equal(seen(1, 3), TN_MEMBER_DEAD);
    deaf[2] = false;
    pass_time(15 * TN_SEC);
    assert_int_equal(seen(0, 3), TN_MEMBER_ALIVE);
    assert_int_equal(seen(1, 3), TN_MEMBER_ALIVE);
    assert_true(tn_swim_self(swims[2])->incarnation > 1);
    assert_int_equal(living(2), HOSTS);
}

/* Whoever drains while it is suspect leaves the rings with that word: all must be told, for its farewell changes no more. */
static void a_suspect_that_drains_is_reported(void **state)
{
    (void)state;
    deaf[2] = true;
    for (int i = 0; i < 600 && (seen(0, 3) != TN_MEMBER_SUSPECT || seen(1, 3) != TN_MEMBER_SUSPECT);
         i++)
        pass_time(10 * TN_MS);
    assert_int_equal(seen(0, 3), TN_MEMBER_SUSPECT);
    assert_int_equal(seen(1, 3), TN_MEMBER_SUSPECT);
    unsigned before = changes;
    deaf[2] = false;
    tn_swim_drain(swims[2], now);
    pass_time(50 * TN_MS);
    assert_true(tn_swim_find(swims[0], tn_swim_self(swims[2])->host_id)->draining);
    assert_int_equal(changes - before, HOSTS); /* itself and the two others, once each */
    tn_swim_serve(swims[2], now);
    pass_time(50 * TN_MS);
    assert_int_equal(changes - before, 2 * HOSTS);
}

static void a_new_tenant_ends_the_old_one_at_once(void **state)
{
    (void)state;
    tn_swim_destroy(swims[2]);
    swims[2] = make(3, 77, 2000);
    tn_swim_join(swims[2], now, "127.0.0.1", 1);
    pass_time(500 * TN_MS);
    assert_int_equal(seen(0, 3), TN_MEMBER_DEAD);
    assert_int_equal(seen(0, 77), TN_MEMBER_ALIVE);
    assert_int_equal(living(0), HOSTS);
}

static void drained_and_gone(void **state)
{
    (void)state;
    tn_swim_drain(swims[1], now);
    pass_time(TN_SEC);
    const tn_member *m = tn_swim_find(swims[0], tn_swim_self(swims[1])->host_id);
    assert_true(m->draining && m->state == TN_MEMBER_ALIVE && !tn_member_serves(m));
    tn_swim_serve(swims[1], now); /* it has thought better of it, as one that begins */
    pass_time(TN_SEC);
    m = tn_swim_find(swims[0], tn_swim_self(swims[1])->host_id);
    assert_true(tn_member_serves(m));
    tn_swim_leave(swims[1], now);
    pass_time(TN_SEC);
    assert_int_equal(seen(0, 2), TN_MEMBER_LEFT);
    assert_int_equal(seen(2, 2), TN_MEMBER_LEFT);
    pass_time(10 * TN_SEC); /* still answering: nobody takes it back */
    assert_int_equal(seen(0, 2), TN_MEMBER_LEFT);
}

static void one_evicted_by_mistake_returns(void **state)
{
    (void)state;
    assert_true(tn_swim_evict(swims[0], now, tn_swim_self(swims[1])->host_id));
    assert_false(tn_swim_evict(swims[0], now, tn_swim_self(swims[0])->host_id));
    assert_int_equal(seen(0, 2), TN_MEMBER_DEAD);
    pass_time(10 * TN_SEC);
    assert_int_equal(seen(0, 2), TN_MEMBER_ALIVE);
    assert_int_equal(seen(2, 2), TN_MEMBER_ALIVE);
}

static void nonsense_changes_nothing(void **state)
{
    (void)state;
    tn_rng rng;
    tn_rng_seed(&rng, 5);
    unsigned before = changes;
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[64];
        size_t n = (size_t)tn_rng_below(&rng, sizeof(bytes));
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)tn_rng_next(&rng);
        tn_swim_receive(swims[0], now, "127.0.0.1", 2, tn_blob_from(bytes, n));
    }
    queued = 0;
    pass_time(TN_SEC);
    assert_int_equal(changes, before);
    assert_int_equal(living(0), HOSTS);
}

/* ---- more news than a packet holds ---- */

#define SYNC_DATA 5u

/* Members that nobody hears: as many as are told of in these packets. */
static void tell_of_others(uint8_t from, unsigned first, unsigned n)
{
    uint8_t ids[64][16], from_id[16], bytes[8192];
    Tenon__GossipMember members[64], *news[64];
    Tenon__GossipPacket packet = TENON__GOSSIP_PACKET__INIT;
    assert_in_range(n, 1, 64);
    memset(from_id, from, sizeof(from_id));
    for (unsigned i = 0; i < n; i++) {
        memset(ids[i], (int)(first + i), sizeof(ids[i]));
        tenon__gossip_member__init(&members[i]);
        members[i].host_id = (ProtobufCBinaryData){.len = 16, .data = ids[i]};
        members[i].incarnation = 1;
        members[i].state = TN_MEMBER_ALIVE;
        members[i].ip = (char *)(uintptr_t) "127.0.0.1";
        members[i].port = first + i;
        members[i].started_ms = 1000;
        news[i] = &members[i];
    }
    packet.kind = SYNC_DATA;
    packet.from = (ProtobufCBinaryData){.len = 16, .data = from_id};
    packet.news = news;
    packet.n_news = n;
    size_t size = tenon__gossip_packet__pack(&packet, bytes);
    tn_swim_receive(swims[0], now, "127.0.0.1", from, tn_blob_from(bytes, size));
}

/* Packets of mere news that lie in the queue from the first host, and whom they tell of at most. */
static unsigned mere_news(size_t *out_most)
{
    unsigned n = 0;
    *out_most = 0;
    for (size_t i = 0; i < queued; i++) {
        Tenon__GossipPacket *packet =
            tenon__gossip_packet__unpack(NULL, queue[i].n, queue[i].bytes);
        assert_non_null(packet);
        n += queue[i].from == 1 && packet->kind == SYNC_DATA;
        *out_most = packet->n_news > *out_most ? packet->n_news : *out_most;
        tenon__gossip_packet__free_unpacked(packet, NULL);
    }
    return n;
}

static void much_news_goes_to_more_members(void **state)
{
    size_t most;
    (void)state;
    deaf[1] = deaf[2] = true; /* nobody asks for anything */
    queued = 0;
    for (uint64_t end = now + TN_SEC; now < end; now += 10 * TN_MS)
        (void)tn_swim_run(swims[0], now);
    assert_int_equal(mere_news(&most), 0);
    tell_of_others(2, 100, 60);
    queued = 0;
    for (uint64_t end = now + 2 * TN_SEC; now < end; now += 10 * TN_MS)
        (void)tn_swim_run(swims[0], now);
    assert_in_range(mere_news(&most), 3, 24); /* three a period */
    /* a packet is well filled, and never too large (send_packet) */
    assert_in_range(most, 18, 40);
}

/* How often the first host tells of that member in the packets that lie in the queue, and what it said last. */
static unsigned told_of(uint8_t id, uint16_t to, Tenon__GossipMember *out)
{
    unsigned n = 0;
    for (size_t i = 0; i < queued; i++) {
        Tenon__GossipPacket *packet =
            tenon__gossip_packet__unpack(NULL, queue[i].n, queue[i].bytes);
        for (size_t k = 0; queue[i].from == 1 && queue[i].to == to && k < packet->n_news; k++) {
            const Tenon__GossipMember *m = packet->news[k];
            if (m->host_id.data[0] != id)
                continue;
            n++;
            *out = (Tenon__GossipMember){
                .state = m->state, .port = m->port, .n_accusers = m->n_accusers};
        }
        tenon__gossip_packet__free_unpacked(packet, NULL);
    }
    return n;
}

static unsigned told_after_hearing(unsigned times)
{
    Tenon__GossipMember said;
    for (unsigned i = 0; i < times; i++)
        tell_of_others(2, 100, 1);
    queued = 0;
    for (int i = 0; i < 10; i++)
        tn_swim_ask(swims[0], "127.0.0.1", 2);
    return told_of(100, 2, &said);
}

/* Four times among few; what others tell, too, needs it less. */
static void news_heard_once_is_told_on(void **state)
{
    (void)state;
    assert_int_equal(told_after_hearing(1), 4);
}
static void news_heard_again_is_told_less(void **state)
{
    (void)state;
    assert_int_equal(told_after_hearing(4), 1);
}
static void news_that_all_tell_is_not_told_on(void **state)
{
    (void)state;
    assert_int_equal(told_after_hearing(9), 0);
}

/* Others know where it is; itself and who asks for all hear everything. */
static void of_an_accused_the_accusers_are_enough(void **state)
{
    Tenon__GossipMember said;
    (void)state;
    deaf[2] = true;
    for (int i = 0; i < 600 && seen(0, 3) != TN_MEMBER_SUSPECT; i++)
        pass_time(10 * TN_MS);
    assert_int_equal(seen(0, 3), TN_MEMBER_SUSPECT);
    queued = 0;
    deaf[1] = true; /* its packets stay in the queue */
    for (int i = 0; i < 600 && (!told_of(3, 2, &said) || !told_of(3, 3, &said));
         i++, now += 10 * TN_MS)
        (void)tn_swim_run(swims[0], now);
    assert_true(told_of(3, 2, &said) > 0);
    assert_int_equal(said.state, TN_MEMBER_SUSPECT);
    assert_in_range(said.n_accusers, 1, 3);
    assert_int_equal(said.port, 0);
    assert_true(told_of(3, 3, &said) > 0);
    assert_int_equal(said.port, 3);
}

#define PING_REQ 3u

/* The most that are asked for one ping that is not answered. */
static unsigned asked_for_a_ping(void)
{
    unsigned most = 0, n = 0;
    uint64_t seq = 0;
    queued = 0;
    for (uint64_t end = now + 2 * TN_SEC; now < end; now += 5 * TN_MS)
        (void)tn_swim_run(swims[0], now);
    for (size_t i = 0; i < queued; i++) {
        Tenon__GossipPacket *packet =
            tenon__gossip_packet__unpack(NULL, queue[i].n, queue[i].bytes);
        if (packet->kind == PING_REQ) {
            n = packet->seq == seq ? n + 1 : 1;
            seq = packet->seq;
            most = n > most ? n : most;
        }
        tenon__gossip_packet__free_unpacked(packet, NULL);
    }
    return most;
}

static void more_are_asked_in_a_large_cluster(void **state)
{
    (void)state;
    deaf[1] = deaf[2] = true;
    tell_of_others(2, 100, 8);
    assert_int_equal(asked_for_a_ping(), 3);
    tell_of_others(2, 120, 40);
    assert_int_equal(asked_for_a_ping(), 9);
}

/* ---- a small cluster is in a hurry ---- */

/* The first host runs alone for so long: whether it asks others to ping that member. */
static bool asks_for(uint8_t id, uint64_t ns)
{
    bool asked = false;
    queued = 0;
    for (uint64_t end = now + ns; now < end; now += 5 * TN_MS)
        (void)tn_swim_run(swims[0], now);
    for (size_t i = 0; i < queued; i++) {
        Tenon__GossipPacket *packet =
            tenon__gossip_packet__unpack(NULL, queue[i].n, queue[i].bytes);
        asked = asked || (packet->kind == PING_REQ && packet->target.data[0] == id);
        tenon__gossip_packet__free_unpacked(packet, NULL);
    }
    return asked;
}

static void is_accused(uint8_t id, uint8_t by)
{
    uint8_t ids[16], by_id[16], bytes[512];
    Tenon__GossipMember member = TENON__GOSSIP_MEMBER__INIT, *news[] = {&member};
    Tenon__GossipPacket packet = TENON__GOSSIP_PACKET__INIT;
    ProtobufCBinaryData accuser = {16, by_id};
    memset(ids, id, 16);
    memset(by_id, by, 16);
    member.host_id = (ProtobufCBinaryData){16, ids};
    member.incarnation = 1;
    member.state = TN_MEMBER_SUSPECT;
    member.accusers = &accuser;
    member.n_accusers = 1;
    packet.kind = SYNC_DATA;
    packet.from = accuser;
    packet.news = news;
    packet.n_news = 1;
    size_t size = tenon__gossip_packet__pack(&packet, bytes);
    tn_swim_receive(swims[0], now, "127.0.0.1", by, tn_blob_from(bytes, size));
}

/* So one that has died has three accusers soon; without that there are a dozen others to ask before it. */
static void whom_others_accuse_is_asked_next(void **state)
{
    (void)state;
    deaf[1] = deaf[2] = true;
    tell_of_others(2, 100, 12);
    for (uint8_t id = 100; id < 106; id++) {
        is_accused(id, 2);
        assert_true(asks_for(id, 1100 * TN_MS)); /* it thinks itself slow, for nobody answers */
    }
}

static unsigned told_dead_at_once(void)
{
    for (int i = 0; i < 6000; i++, now += 5 * TN_MS) {
        unsigned told = 0;
        queued = 0;
        (void)tn_swim_run(swims[0], now);
        for (unsigned id = 1; id < 256; id++) {
            Tenon__GossipMember said;
            if (seen(0, (uint8_t)id) != TN_MEMBER_DEAD)
                continue;
            for (uint16_t to = 1; to < 256; to++)
                told += told_of((uint8_t)id, to, &said) && said.state == TN_MEMBER_DEAD;
            return told;
        }
    }
    return 0;
}

/* Whose time is over first says so, and nobody waits for his own to be over. */
static void a_death_is_told_to_all_at_once(void **state)
{
    (void)state;
    deaf[1] = deaf[2] = true;
    tell_of_others(2, 100, 8);
    assert_in_range(told_dead_at_once(), 8, 12);
}

static void in_a_large_cluster_it_is_news_as_other_news(void **state)
{
    (void)state;
    deaf[1] = deaf[2] = true;
    tell_of_others(2, 100, 30);
    assert_in_range(told_dead_at_once(), 0, 4);
}

/* A later release says more, and an earlier one less tightly. */
static void other_releases_are_understood(void **state)
{
    uint8_t bytes[256], *p = bytes, *member;
    (void)state;
    *p++ = 1 << 3, *p++ = SYNC_DATA;
    *p++ = 3 << 3 | 2, *p++ = 16, memset(p, 2, 16), p += 16;
    *p++ = 15 << 3 | 2, *p++ = 3, memcpy(p, "new", 3), p += 3; /* not known yet */
    *p++ = 10 << 3 | 2, member = p++;
    *p++ = 3 << 3, *p++ = TN_MEMBER_ALIVE; /* before the id */
    *p++ = 2 << 3, *p++ = 7;
    *p++ = 1 << 3 | 2, *p++ = 16, memset(p, 200, 16), p += 16;
    *p++ = 5 << 3, *p++ = 99;
    *p++ = 6 << 3, *p++ = 11, *p++ = 6 << 3, *p++ = 12; /* ports, not packed */
    *p++ = 14 << 3 | 5, memset(p, 1, 4), p += 4;
    *p++ = 4 << 3 | 2, *p++ = 9, memcpy(p, "127.0.0.1", 9), p += 9;
    *member = (uint8_t)(p - member - 1);
    tn_swim_receive(swims[0], now, "127.0.0.1", 2, tn_blob_from(bytes, (size_t)(p - bytes)));
    assert_int_equal(seen(0, 200), TN_MEMBER_ALIVE);
    memset(bytes, 200, 16);
    const tn_member *m = tn_swim_find(swims[0], bytes);
    assert_int_equal(m->incarnation, 7);
    assert_int_equal(m->role_ports[0], 11);
    assert_int_equal(m->role_ports[1], 12);
    assert_string_equal(m->ip, "127.0.0.1");
}

/* Many come and are forgotten: the indices find the rest. */
static void members_come_and_are_forgotten(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        tell_of_others(2, 4 + 60 * i, 60);
    deaf[1] = deaf[2] = true;
    for (uint64_t end = now + 600 * TN_SEC; now < end; now += 50 * TN_MS, queued = 0)
        (void)tn_swim_run(swims[0], now);
    assert_int_equal(living(0), 1);
    tell_of_others(2, 200, 20);
    for (uint64_t end = now + 3601 * TN_SEC; now < end; now += 400 * TN_MS, queued = 0) {
        (void)tn_swim_run(swims[0], now);
        if (now % (100 * TN_SEC) == 0)
            tell_of_others(2, 230, 3);
    }
    for (unsigned id = 4; id < 184; id++)
        assert_int_equal(seen(0, (uint8_t)id), 0);
    assert_int_not_equal(seen(0, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_meet, setup, teardown),
        cmocka_unit_test_setup_teardown(one_alone_never_wakes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_suspect_that_drains_is_reported, setup, teardown),
        cmocka_unit_test_setup_teardown(a_paused_one_dies_and_refutes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_tenant_ends_the_old_one_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(drained_and_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(one_evicted_by_mistake_returns, setup, teardown),
        cmocka_unit_test_setup_teardown(nonsense_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(much_news_goes_to_more_members, setup, teardown),
        cmocka_unit_test_setup_teardown(news_heard_once_is_told_on, setup, teardown),
        cmocka_unit_test_setup_teardown(news_heard_again_is_told_less, setup, teardown),
        cmocka_unit_test_setup_teardown(news_that_all_tell_is_not_told_on, setup, teardown),
        cmocka_unit_test_setup_teardown(of_an_accused_the_accusers_are_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(more_are_asked_in_a_large_cluster, setup, teardown),
        cmocka_unit_test_setup_teardown(whom_others_accuse_is_asked_next, setup, teardown),
        cmocka_unit_test_setup_teardown(a_death_is_told_to_all_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(in_a_large_cluster_it_is_news_as_other_news, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(other_releases_are_understood, setup, teardown),
        cmocka_unit_test_setup_teardown(members_come_and_are_forgotten, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
