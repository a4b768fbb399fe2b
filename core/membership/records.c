/* SPDX-License-Identifier: MIT */
/* Member records: each process keeps a row of its own in the store (TN_TABLE_MEMBER, by host id) with its address and a
 * time.  Newcomers, and those that hear of nobody, meet the members whose rows are fresh; rows that have not been
 * refreshed for long are deleted by whoever sees them.  Gossip alone says who lives: a row is an address to
 * try, never a claim. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "membership/agent.h"
#include "membership/keys.h"
#include "proto/proto.h"
#include "store/store.h"
#include "tenon/store.pb-c.h"

#define REFRESH_NS (15 * TN_SEC)
#define FRESH_NS (60 * TN_SEC) /* a row older than this is not tried */
#define IDLE_MAX 3u            /* rounds without a write after which a writer may be gone */
#define STALE_NS (3600 * TN_SEC)

static struct {
    tn_loop_timer timer;
    tn_arena *arena; /* of the round under way; NULL: none */
    tn_store_op op;
    atomic_bool read_once, others;
    bool stopping, gone, meet_others, again, written;
    struct seen { /* of a row when the rows were read last */
        uint8_t id[16];
        uint64_t ns;
        /* while gossip does not know its writer: how often it has been written, rounds since */
        uint32_t wrote, idle;
    } * seen; /* in the order of ids, as rows come */
    size_t n_seen;
    bool told;
} r;

static void read_all(void);

static void round_over(void)
{
    tn_arena_destroy(r.arena);
    r.arena = NULL;
    if (!r.stopping)
        tn_loop_timer_start(&r.timer, tn_now_mono_ns() + (r.again ? 0 : REFRESH_NS));
    r.again = false;
}

static void written(tn_store_op *op)
{
    if (op->status != TN_OK)
        TN_LOG(TN_LOG_WARN, "membership", "the member record could not be written",
               TN_LOG_Z("why", op->error.text));
    r.again = r.again || !r.written;
    r.written = true;
    round_over();
}

/* A process before this one at its address, which did not end well. */
static bool was_before(const Tenon__MemberRecord *record, const tn_blob row)
{
    const tn_member *self = tn_agent_self();
    return record->port == self->port && strcmp(record->ip, self->ip) == 0 &&
           memcmp(row.p, self->host_id, 16) != 0;
}

/* The own row; those of the long dead go, and of who had this address before. */
static void write_own(const tn_page *page)
{
    const tn_member *self = tn_agent_self();
    Tenon__MemberRecord record = TENON__MEMBER_RECORD__INIT;
    record.ip = (char *)(uintptr_t)self->ip;
    record.port = self->port;
    record.seen_ns = tn_now_wall_ns();
    record.version = (char *)(uintptr_t)self->version;
    uint32_t ports[TN_SERVICE_COUNT];
    for (size_t i = 0; i < TN_SERVICE_COUNT; i++)
        ports[i] = self->role_ports[i];
    record.role_ports = ports;
    record.n_role_ports = TN_SERVICE_COUNT;
    record.follows_shard_map = true;
    record.follows_keys = true;
    record.keys_version = tn_keys_now()->version;
    tn_blob packed;
    tn_store_batch batch;
    tn_store_batch_init(&batch, r.arena);
    for (size_t i = 0; page && i < page->n_rows; i++) {
        Tenon__MemberRecord *old = NULL;
        if (tn_proto_unpack(&tenon__member_record__descriptor, page->rows[i].value, r.arena,
                            (ProtobufCMessage **)(void *)&old, NULL) == TN_OK &&
            old->seen_ns + STALE_NS > record.seen_ns && !was_before(old, page->rows[i].key.row))
            continue;
        tn_store_batch_delete(&batch, tn_store_key(r.arena, TN_TABLE_MEMBER, TN_PARTITION_CLUSTER,
                                                   page->rows[i].key.row));
    }
    if (tn_proto_pack(&record.base, r.arena, &packed) != TN_OK) {
        round_over();
        return;
    }
    tn_store_batch_put(&batch,
                       tn_store_key(r.arena, TN_TABLE_MEMBER, TN_PARTITION_CLUSTER,
                                    tn_blob_from(self->host_id, 16)),
                       packed);
    r.op = (tn_store_op){.arena = r.arena, .done = written};
    r.op.u.commit.batch = tn_store_batch_finish(&batch);
    tn_store_commit(&r.op);
}

static void meet(const tn_row *row)
{
    Tenon__MemberRecord *record = NULL;
    if (row->key.row.n != 16 || memcmp(row->key.row.p, tn_agent_self()->host_id, 16) == 0 ||
        tn_proto_unpack(&tenon__member_record__descriptor, row->value, r.arena,
                        (ProtobufCMessage **)(void *)&record, NULL) != TN_OK ||
        record->seen_ns + FRESH_NS < tn_now_wall_ns() || !record->port ||
        record->port > UINT16_MAX || was_before(record, row->key.row)) /* nobody to wait for */
        return;
    atomic_store(&r.others, true);
    if (!tn_agent_knows(row->key.row.p))
        tn_agent_meet(record->ip, (uint16_t)record->port);
}

/* What is known of a row from the last time, in lists that are both in order; NULL: it is new. */
static const struct seen *seen_before(size_t *at, const uint8_t id[16])
{
    while (*at < r.n_seen && memcmp(r.seen[*at].id, id, 16) < 0)
        ++*at;
    return *at < r.n_seen && memcmp(r.seen[*at].id, id, 16) == 0 ? &r.seen[*at] : NULL;
}

static void tell_silent(const uint8_t host_id[16], const Tenon__MemberRecord *record)
{
    char id[37];
    tn_uuid_format(host_id, id);
    TN_LOG(
        TN_LOG_WARN, "membership",
        "a member lives by its record, but does not answer; fix: let UDP through to its membership "
        "port, or see to the broadcastAddress and address family of both",
        TN_LOG_Z("host_id", id), TN_LOG_Z("ip", record->ip), TN_LOG_U("port", record->port));
}

/* Who goes on writing its row lives.  When gossip does not say so, packets don't get through: each side takes the other for
 * gone, and they take each other's shards. */
static void find_silent(const tn_page *page)
{
    struct seen *now = tn_xcalloc(page->n_rows + 1, sizeof(now[0]));
    size_t n = 0, at = 0;
    bool any = false;
    for (size_t i = 0; i < page->n_rows; i++) {
        const tn_blob row = page->rows[i].key.row;
        Tenon__MemberRecord *record = NULL;
        if (row.n != 16 || memcmp(row.p, tn_agent_self()->host_id, 16) == 0 ||
            tn_proto_unpack(&tenon__member_record__descriptor, page->rows[i].value, r.arena,
                            (ProtobufCMessage **)(void *)&record, NULL) != TN_OK)
            continue;
        const struct seen *before = seen_before(&at, row.p);
        struct seen *one = &now[n++];
        *one = before ? *before : (struct seen){.idle = 0};
        bool wrote = before && before->ns != record->seen_ns;
        one->ns = record->seen_ns;
        one->idle = wrote ? 0 : one->idle + 1;
        one->wrote = tn_agent_knows(row.p) || one->idle > IDLE_MAX ? 0 : one->wrote + wrote;
        memcpy(one->id, row.p, 16);
        bool sure = one->wrote > 1; /* one that wrote and then died does not do so again */
        if (sure && !r.told)
            tell_silent(row.p, record);
        any = any || sure;
        r.told = r.told || sure;
    }
    if (!any && r.told)
        TN_LOG(TN_LOG_INFO, "membership", "all members that live by their records answer");
    r.told = any;
    free(r.seen);
    r.seen = now;
    r.n_seen = n;
}

static void rows_came(tn_store_op *op)
{
    const tn_page *page = op->status == TN_OK ? &op->u.scan.page : NULL;
    if (page)
        find_silent(page);
    for (size_t i = 0; page && r.meet_others && i < page->n_rows; i++)
        meet(&page->rows[i]);
    if (op->status != TN_OK)
        TN_LOG(TN_LOG_WARN, "membership", "the member records could not be read",
               TN_LOG_Z("why", op->error.text));
    if (r.written) /* of two that start at once, and see nobody before they write, one sees the other after that */
        atomic_store(&r.read_once, true);
    if (r.stopping)
        round_over();
    else
        write_own(page);
}

/* Those who are met are to believe us. */
static void keys_came(void *user, uint64_t version)
{
    (void)user;
    (void)version;
    r.op = (tn_store_op){.arena = r.arena, .done = rows_came};
    r.op.u.scan.range = (tn_range){.struct_size = sizeof(tn_range), .limit = 10000};
    r.op.u.scan.range.from =
        tn_store_key(r.arena, TN_TABLE_MEMBER, TN_PARTITION_CLUSTER, (tn_blob){NULL, 0});
    tn_store_scan(&r.op);
}

static void read_all(void)
{
    r.arena = tn_arena_create(0);
    tn_keys_refresh(keys_came, NULL);
}

static void refresh(tn_loop_timer *timer)
{
    (void)timer;
    if (!r.arena)
        read_all();
}

void tn_records_start(bool meet_others)
{
    r.meet_others = meet_others;
    tn_loop_timer_init(&r.timer, refresh);
    read_all();
}

void tn_records_again(void)
{
    if (!r.timer.fire || r.stopping)
        return;
    if (r.arena)
        r.again = true;
    else
        read_all();
}

bool tn_records_hopeful(void) { return !atomic_load(&r.read_once) || atomic_load(&r.others); }

/* ---- the end ---- */

static void deleted(tn_store_op *op)
{
    tn_arena_destroy(op->arena);
    r.gone = true;
}

static void loop_stop(void *arg)
{
    bool *idle = arg;
    r.stopping = true;
    tn_loop_timer_stop(&r.timer);
    *idle = !r.arena;
}

static void loop_delete(void *arg)
{
    (void)arg;
    tn_arena *arena = tn_arena_create(0);
    tn_store_batch batch;
    tn_store_batch_init(&batch, arena);
    tn_store_batch_delete(&batch, tn_store_key(arena, TN_TABLE_MEMBER, TN_PARTITION_CLUSTER,
                                               tn_blob_from(tn_members_self_id(), 16)));
    r.op = (tn_store_op){.arena = arena, .done = deleted, .timeout_ns = TN_SEC};
    r.op.u.commit.batch = tn_store_batch_finish(&batch);
    tn_store_commit(&r.op);
}

static void loop_gone(void *arg) { *(bool *)arg = r.gone; }

void tn_records_stop(void)
{
    bool idle = false, gone = false;
    if (!r.timer.fire)
        return;
    for (int i = 0; i < 300 && !idle; i++) {
        tn_loop_call(tn_loops_get(0), loop_stop, &idle);
        if (!idle)
            usleep(10000);
    }
    if (!idle)
        return;
    free(r.seen);
    r.seen = NULL;
    tn_loop_call(tn_loops_get(0), loop_delete, NULL);
    for (int i = 0; i < 200 && !gone; i++) {
        usleep(10000);
        tn_loop_call(tn_loops_get(0), loop_gone, &gone);
    }
}
