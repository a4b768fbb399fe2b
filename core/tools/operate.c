/* SPDX-License-Identifier: MIT */
/* tenonctl member evict, ring owner, shard describe, shard close, shard split-plan, shard split: what operators do to a
 * cluster that runs.  Records in the store say where its processes are; they are called on their internal services, with
 * the secret that is derived from the key in the store. */
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "admin/shards.pb-c.h"
#include "client/shardmap.h"
#include "client/wire.h"
#include "proto/proto.h"
#include "rpc/client.h"
#include "store/store.h"
#include "tenon/store.pb-c.h"
#include "tools/operate.h"

#define FRESH_NS (40 * TN_SEC) /* member records are written again each 15 s */
#define CALL_NS (5 * TN_SEC)
#define COUNT_MAX 10000u

enum { VERB_EVICT = 1, VERB_RING, VERB_DESCRIBE, VERB_CLOSE, VERB_PLAN, VERB_SPLIT, VERB_REKEY };

typedef tn_site site;

int tn_site_failed(const site *s, const char *what)
{
    fprintf(stderr, "tenonctl: %s: %s\n", s->tool->name, what);
    return TN_TOOL_FAILED;
}

/* ---- what the store says ---- */

tn_status tn_site_row(site *s, tn_key key, const ProtobufCMessageDescriptor *type,
                      ProtobufCMessage **out, tn_error *err)
{
    tn_row row;
    tn_status status = tn_tool_get(&s->db, s->arena, &key, &row, err);
    return status == TN_OK ? tn_proto_unpack(type, row.value, s->arena, out, err) : status;
}

tn_key tn_site_meta(site *s, const char *name)
{
    return tn_store_key(s->arena, TN_TABLE_META, TN_PARTITION_CLUSTER,
                        tn_blob_of_str(tn_str_from(name)));
}

bool tn_site_member(site *s, const tn_row *row, tn_member *out, Tenon__MemberRecord **out_record)
{
    Tenon__MemberRecord *record = NULL;
    if (row->key.row.n != 16 ||
        tn_proto_unpack(&tenon__member_record__descriptor, row->value, s->arena,
                        (ProtobufCMessage **)(void *)&record, NULL) != TN_OK ||
        record->seen_ns + FRESH_NS < tn_now_wall_ns())
        return false;
    *out = (tn_member){.state = TN_MEMBER_ALIVE, .port = (uint16_t)record->port};
    memcpy(out->host_id, row->key.row.p, 16);
    snprintf(out->ip, sizeof(out->ip), "%s", record->ip);
    snprintf(out->version, sizeof(out->version), "%s", record->version);
    for (size_t i = 0; i < record->n_role_ports && i < TN_SERVICE_COUNT; i++)
        out->role_ports[i] = (uint16_t)record->role_ports[i];
    *out_record = record;
    return true;
}

static tn_status read_members(site *s, tn_error *err)
{
    tn_page page = {.struct_size = sizeof(page)};
    tn_range range = {.struct_size = sizeof(range), .limit = COUNT_MAX};
    range.from = tn_store_key(s->arena, TN_TABLE_MEMBER, TN_PARTITION_CLUSTER, (tn_blob){NULL, 0});
    tn_status status = tn_tool_scan(&s->db, s->arena, &range, &page, err);
    s->members = TN_NEW_ARRAY(s->arena, tn_member, page.n_rows + 1);
    for (size_t i = 0; status == TN_OK && i < page.n_rows; i++)
        s->n_members += tn_site_member(s, &page.rows[i], &s->members[s->n_members],
                                       &(Tenon__MemberRecord *){NULL});
    return status;
}

static tn_status read_keys(site *s, const uint8_t first[16], tn_error *err)
{
    tn_key key = tn_keys_row(s->arena);
    tn_row row;
    tn_status status = tn_tool_get(&s->db, s->arena, &key, &row, err);
    if (status == TN_ENOTFOUND) {
        tn_keys_first(&s->keys, first);
        status = TN_OK;
    } else if (status == TN_OK && !tn_keys_unpack(s->arena, row.value, &s->keys)) {
        status = tn_error_set(err, TN_EDATALOSS, "the store's keys record is damaged");
    }
    if (status == TN_OK)
        tn_remote_secret_of(s->keys.key[0], s->secret);
    return status;
}

static tn_status read_site(site *s, tn_error *err)
{
    Tenon__ClusterRecord *cluster = NULL;
    Tenon__ShardMap *map = NULL;
    tn_status status =
        tn_site_row(s, tn_site_meta(s, "cluster"), &tenon__cluster_record__descriptor,
                    (ProtobufCMessage **)(void *)&cluster, err);
    if (status == TN_ENOTFOUND)
        return tn_error_set(err, status, "no cluster has been made in this store");
    if (status == TN_OK && (cluster->token_key.len != 16 || !cluster->history_shards))
        return tn_error_set(err, TN_EDATALOSS, "the store's cluster record is damaged");
    if (status != TN_OK)
        return status;
    status = read_keys(s, cluster->token_key.data, err);
    if (status != TN_OK)
        return status;
    s->partitions = s->shards = cluster->history_shards;
    status = tn_site_row(s, tn_site_meta(s, "shards"), &tenon__shard_map__descriptor,
                         (ProtobufCMessage **)(void *)&map, err);
    if (status == TN_OK) {
        s->shards = map->shards;
        s->map_version = map->version;
    }
    return status == TN_OK || status == TN_ENOTFOUND ? read_members(s, err) : status;
}

/* ---- calls ---- */

typedef struct asking {
    tn_outcall out; /* first */
    tn_channel *channel;
    const char *ip, *secret;
    uint16_t port;
    bool frontend;
    sem_t answered;
} asking;

static void answered(tn_outcall *out) { sem_post(&((asking *)out)->answered); }

static void ask_there(void *arg)
{
    asking *a = arg;
    a->channel = tn_channel_create(a->ip, a->port, a->secret, NULL, NULL);
    if (a->frontend)
        tn_channel_to_frontend(a->channel);
    tn_outcall_send(a->channel, &a->out);
}

static void hang_up(void *arg) { tn_channel_destroy(((asking *)arg)->channel); }

/* NULL: answered; else why not. */
const tn_fault *tn_site_ask(site *s, const tn_member *m, const char *path,
                            const ProtobufCMessage *request, const ProtobufCMessageDescriptor *type,
                            ProtobufCMessage **out)
{
    asking a = {.secret = s->secret};
    uint32_t role = TN_SERVICE_HISTORY;
    while (role < TN_SERVICE_COUNT && m && !m->role_ports[role])
        role++;
    a.frontend = !m || role == TN_SERVICE_COUNT;
    a.ip = m ? m->ip : s->settings->services[TN_SERVICE_FRONTEND].bind_ip;
    a.port = !m           ? (uint16_t)s->settings->services[TN_SERVICE_FRONTEND].grpc_port
             : a.frontend ? m->role_ports[TN_SERVICE_FRONTEND]
                          : m->role_ports[role];
    const char *authorization = a.frontend ? getenv("TENON_AUTHORIZATION") : NULL;
    a.out = (tn_outcall){.arena = s->arena,
                         .path = path,
                         .deadline_mono_ns = tn_now_mono_ns() + CALL_NS,
                         .done = answered};
    if (authorization)
        a.out.headers[a.out.n_headers++] =
            (tn_outcall_header){TN_STR("authorization"), tn_str_from(authorization)};
    if (tn_proto_pack(request, s->arena, &a.out.message) != TN_OK)
        return tn_fault_make(s->arena, TN_GRPC_INTERNAL, "the request cannot be packed");
    sem_init(&a.answered, 0, 0);
    tn_loop_call(tn_loops_get(0), ask_there, &a);
    while (sem_wait(&a.answered) != 0) {
    }
    tn_loop_call(tn_loops_get(0), hang_up, &a);
    sem_destroy(&a.answered);
    if (!a.out.fault && tn_proto_unpack(type, a.out.response, s->arena, out, NULL) != TN_OK)
        return tn_fault_make(s->arena, TN_GRPC_INTERNAL, "the answer cannot be read");
    return a.out.fault;
}

/* Whoever answers first; a server without a cluster is at the frontend's address of the configuration. */
static const tn_fault *ask_any(site *s, const char *path, const ProtobufCMessage *request,
                               const ProtobufCMessageDescriptor *type, ProtobufCMessage **out)
{
    const tn_fault *fault = NULL;
    for (size_t i = 0; i < s->n_members; i++) {
        fault = tn_site_ask(s, &s->members[i], path, request, type, out);
        if (!fault || (fault->code != TN_GRPC_UNAVAILABLE &&
                       fault->code != TN_GRPC_UNIMPLEMENTED)) /* of an older release */
            return fault;
    }
    return s->n_members ? fault : tn_site_ask(s, NULL, path, request, type, out);
}

static int say_fault(const site *s, const tn_fault *fault)
{
    char text[600];
    snprintf(text, sizeof(text), TN_STR_FMT, TN_STR_ARG(fault->message));
    return tn_site_failed(s, text);
}

/* ---- member evict ---- */

static int evict(site *s)
{
    uint8_t host_id[16];
    Tenon__EvictCall call = TENON__EVICT_CALL__INIT;
    Tenon__EvictAnswer *answer = NULL;
    if (!tn_uuid_parse(tn_str_from(s->word), host_id))
        return tn_site_failed(s, "HOST-ID is a UUID, as `tenonctl member list` prints it");
    call.host_id = (ProtobufCBinaryData){16, host_id};
    const tn_fault *fault = NULL;
    bool asked = false;
    for (size_t i = 0; i < s->n_members; i++) { /* not the one that is to go */
        if (memcmp(s->members[i].host_id, host_id, 16) == 0)
            continue;
        asked = true;
        fault = tn_site_ask(s, &s->members[i], TN_INTERNAL_EVICT, &call.base,
                            &tenon__evict_answer__descriptor, (ProtobufCMessage **)(void *)&answer);
        if (!fault)
            break;
    }
    if (!asked)
        return tn_site_failed(s, "no other member of the cluster is known");
    if (fault)
        return say_fault(s, fault);
    if (!answer->known)
        return tn_site_failed(s, "no living member has that host id");
    printf("evicted: out of the rings, unless it lives and refutes it\n");
    return TN_TOOL_OK;
}

/* ---- ring owner ---- */

static bool namespace_id(site *s, tn_str name, char out[37])
{
    tn_page page = {.struct_size = sizeof(page)};
    tn_range range = {.struct_size = sizeof(range), .limit = COUNT_MAX};
    tn_error err;
    range.from =
        tn_store_key(s->arena, TN_TABLE_NAMESPACE, TN_PARTITION_CLUSTER, (tn_blob){NULL, 0});
    if (tn_tool_scan(&s->db, s->arena, &range, &page, &err) != TN_OK)
        return false;
    for (size_t i = 0; i < page.n_rows; i++) {
        Tenon__NamespaceRecord *record = NULL;
        if (tn_proto_unpack(&tenon__namespace_record__descriptor, page.rows[i].value, s->arena,
                            (ProtobufCMessage **)(void *)&record, NULL) == TN_OK &&
            (tn_str_is(name, record->name) || tn_str_is(name, record->id))) {
            snprintf(out, 37, "%s", record->id);
            return true;
        }
    }
    return false;
}

static const tn_member *owner_of(site *s, uint32_t role, tn_blob key, tn_ring **ring)
{
    const tn_member **all = TN_NEW_ARRAY(s->arena, const tn_member *, s->n_members + 1);
    for (size_t i = 0; i < s->n_members; i++)
        all[i] = &s->members[i];
    *ring = tn_ring_create(all, s->n_members, role);
    return tn_ring_owner(*ring, key);
}

static void print_owner(site *s, uint32_t role, tn_blob key)
{
    tn_ring *ring;
    char id[37];
    const tn_member *owner = owner_of(s, role, key, &ring);
    if (owner) {
        tn_uuid_format(owner->host_id, id);
        printf("owner %s  %s:%u\n", id, owner->ip, owner->role_ports[role]);
    } else {
        printf("owner %s\n",
               s->n_members ? "none: nobody has that role" : "this server: it has no cluster");
    }
    tn_ring_destroy(ring);
}

static void print_shard_owner(site *s, uint32_t shard)
{
    uint8_t key[4];
    tn_put_u32be(key, shard);
    print_owner(s, TN_SERVICE_HISTORY, tn_blob_from(key, sizeof(key)));
}

/* SHARD, workflow:NAMESPACE/ID or queue:NAMESPACE/NAME. */
static int ring_owner(site *s)
{
    uint64_t shard;
    char ns_id[37];
    const char *colon = strchr(s->word, ':'), *slash = colon ? strchr(colon, '/') : NULL;
    if (!slash) {
        if (!tn_parse_u64(tn_str_from(s->word), &shard) || shard < 1 || shard > s->shards)
            return tn_site_failed(
                s, "KEY is a shard that there is, workflow:NAMESPACE/ID, or queue:NAMESPACE/NAME");
        printf("shard %u of %u\n", (unsigned)shard, s->shards);
        print_shard_owner(s, (uint32_t)shard);
        return TN_TOOL_OK;
    }
    if (!namespace_id(s, (tn_str){colon + 1, (size_t)(slash - colon - 1)}, ns_id))
        return tn_site_failed(s, "there is no such namespace");
    uint64_t hash = tn_hash64_stable(tn_blob_of_str(tn_str_from(ns_id)),
                                     tn_blob_of_str(tn_str_from(slash + 1)));
    if (strncmp(s->word, "workflow:", 9) == 0) {
        printf("shard %u of %u\n", (unsigned)(hash % s->shards) + 1, s->shards);
        print_shard_owner(s, (uint32_t)(hash % s->shards) + 1);
    } else if (strncmp(s->word, "queue:", 6) == 0) {
        uint8_t key[8];
        tn_put_u64be(key, hash);
        print_owner(s, TN_SERVICE_MATCHING, tn_blob_from(key, sizeof(key)));
    } else {
        return tn_site_failed(s, "KEY begins with workflow: or queue:, or is a shard");
    }
    return TN_TOOL_OK;
}

/* ---- shard describe, shard close ---- */

static bool parse_shard(const site *s, uint32_t *out)
{
    uint64_t shard;
    bool good = tn_parse_u64(tn_str_from(s->word), &shard) && shard >= 1 && shard <= s->shards;
    if (good)
        *out = (uint32_t)shard;
    else
        fprintf(stderr, "tenonctl: %s: SHARD is 1 to %u\n", s->tool->name, s->shards);
    return good;
}

static tn_key fence_key(site *s, uint32_t shard)
{
    return tn_store_key(s->arena, TN_TABLE_SHARD, (shard - 1) % s->partitions + 1,
                        tn_store_row_shard(s->arena, (shard - 1) / s->partitions));
}

static void count_rows(site *s, uint32_t table, uint32_t shard, const char *what)
{
    tn_page page = {.struct_size = sizeof(page)};
    tn_range range = {
        .struct_size = sizeof(range), .limit = COUNT_MAX, .flags = TN_RANGE_KEYS_ONLY};
    tn_error err;
    range.from = tn_store_key(s->arena, table, (shard - 1) % s->partitions + 1, (tn_blob){NULL, 0});
    if (tn_tool_scan(&s->db, s->arena, &range, &page, &err) == TN_OK)
        printf("%-10s %zu%s rows in its partition\n", what, page.n_rows,
               page.next.n ? " and more" : "");
}

static int describe(site *s)
{
    uint32_t shard;
    Tenon__ShardRecord *record = NULL;
    tn_error err;
    if (!parse_shard(s, &shard))
        return TN_TOOL_FAILED;
    tn_status status = tn_site_row(s, fence_key(s, shard), &tenon__shard_record__descriptor,
                                   (ProtobufCMessage **)(void *)&record, &err);
    if (status != TN_OK && status != TN_ENOTFOUND)
        return tn_site_failed(s, err.text);
    printf("shard      %u of %u, in partition %u of %u\n", shard, s->shards,
           (shard - 1) % s->partitions + 1, s->partitions);
    printf("map        version %llu\n", (unsigned long long)s->map_version);
    if (!record) {
        printf("taken      never%s\n", s->map_version ? " under this map" : "");
    } else {
        double ago = (double)(tn_now_wall_ns() - record->acquired_ns) / 1e9;
        printf("taken      %s %.1f s ago, range %llu, under map version %llu%s\n",
               *record->owner ? "by" : "by nobody yet;", ago, (unsigned long long)record->range_id,
               (unsigned long long)record->map_version,
               record->moved ? "; moved to another store" : "");
        if (*record->owner)
            printf("holder     %s\n", record->owner);
    }
    print_shard_owner(s, shard);
    count_rows(s, TN_TABLE_WAKE, shard, "timers");
    count_rows(s, TN_TABLE_OUTBOX, shard, "outbox");
    return TN_TOOL_OK;
}

/* All history hosts are told: the one that has it acts. */
static int close_shard(site *s)
{
    Tenon__ShardCall call = TENON__SHARD_CALL__INIT;
    Tenon__Done *done = NULL;
    if (!parse_shard(s, &call.shard))
        return TN_TOOL_FAILED;
    const tn_fault *fault = NULL;
    bool told = false;
    for (size_t i = 0; i < s->n_members; i++) {
        if (!s->members[i].role_ports[TN_SERVICE_HISTORY])
            continue;
        fault = tn_site_ask(s, &s->members[i], TN_INTERNAL_CLOSE_SHARD, &call.base,
                            &tenon__done__descriptor, (ProtobufCMessage **)(void *)&done);
        told = told || !fault;
    }
    if (!s->n_members) {
        fault = tn_site_ask(s, NULL, TN_INTERNAL_CLOSE_SHARD, &call.base, &tenon__done__descriptor,
                            (ProtobufCMessage **)(void *)&done);
        told = !fault;
    }
    if (!told)
        return fault ? say_fault(s, fault) : tn_site_failed(s, "no history host is known");
    printf("told: its owner lets go of shard %u and takes it anew\n", call.shard);
    return TN_TOOL_OK;
}

/* ---- shard split-plan, shard split ---- */

static uint32_t history_hosts(const site *s)
{
    uint32_t hosts = 0;
    for (size_t i = 0; i < s->n_members; i++)
        hosts += s->members[i].role_ports[TN_SERVICE_HISTORY] != 0;
    return hosts ? hosts : 1; /* none has a record: a server alone */
}

/* hosts: of history; 0 when the frontend that was asked knows none or is of a release that does not say */
static void print_plan(const site *s, const Tenon__ShardsAnswer *a, uint32_t hosts)
{
    printf("partitions  %u (how the rows lie; stays)\n", a->partitions);
    printf("shards      %u now, %u then: %u a partition\n", a->before, (uint32_t)s->want,
           (uint32_t)s->want / a->partitions);
    if (hosts)
        printf("owners      %u history process%s, about %u shards each\n", hosts,
               hosts == 1 ? "" : "es", ((uint32_t)s->want + hosts - 1) / hosts);
    printf("rows moved  0\n");
    printf("standstill  each workflow for 0.3 to 0.7 s, once; calls wait and are not refused\n");
    printf("memory      runs in memory are read again when they are needed\n");
}

/* How many shards have an owner under the newest map; 0 with an error. */
static tn_status count_taken(site *s, uint64_t version, uint32_t *out, tn_error *err)
{
    *out = 0;
    for (uint32_t partition = 1; partition <= s->partitions; partition++) {
        tn_arena *arena = tn_arena_create(0);
        tn_page page = {.struct_size = sizeof(page)};
        tn_range range = {.struct_size = sizeof(range), .limit = 1000};
        range.from = tn_store_key(arena, TN_TABLE_SHARD, partition, (tn_blob){NULL, 0});
        tn_status status = tn_tool_scan(&s->db, arena, &range, &page, err);
        for (size_t i = 0; status == TN_OK && i < page.n_rows; i++) {
            Tenon__ShardRecord *record = NULL;
            if (tn_proto_unpack(&tenon__shard_record__descriptor, page.rows[i].value, arena,
                                (ProtobufCMessage **)(void *)&record, NULL) == TN_OK)
                *out += record->map_version == version && *record->owner;
        }
        tn_arena_destroy(arena);
        if (status != TN_OK)
            return status;
    }
    return TN_OK;
}

static int wait_until_taken(site *s, uint64_t version)
{
    uint64_t began = tn_now_mono_ns();
    for (;;) {
        uint32_t taken;
        tn_error err;
        if (count_taken(s, version, &taken, &err) != TN_OK)
            return tn_site_failed(s, err.text);
        double seconds = (double)(tn_now_mono_ns() - began) / 1e9;
        if (taken == s->want) {
            printf("all %u shards are taken under map version %llu, after %.1f s\n", taken,
                   (unsigned long long)version, seconds);
            return TN_TOOL_OK;
        }
        if (tn_now_mono_ns() - began > s->wait_ns) {
            fprintf(stderr,
                    "tenonctl: %s: the map is in force, and %u of %u shards are taken after %.1f "
                    "s; the others follow when "
                    "their owners run\n",
                    s->tool->name, taken, (uint32_t)s->want, seconds);
            return TN_TOOL_FAILED;
        }
        usleep(200000);
    }
}

/* Of a frontend, as any operator may: the store is not opened, a file of SQLite has one user. */
static int split_by_address(site *s, const char *address)
{
    Tenon__Admin__V1__SetShardsRequest call = TENON__ADMIN__V1__SET_SHARDS_REQUEST__INIT;
    Tenon__Admin__V1__SetShardsResponse *answer = NULL;
    tn_member at = {.state = TN_MEMBER_ALIVE};
    const char *colon = strrchr(address, ':');
    uint64_t port;
    if (!colon || (size_t)(colon - address) >= sizeof(at.ip) ||
        !tn_parse_u64(tn_str_from(colon + 1), &port) || port > UINT16_MAX)
        return tn_tool_misused(s->tool, "--address is IP:PORT");
    memcpy(at.ip, address, (size_t)(colon - address));
    at.role_ports[TN_SERVICE_FRONTEND] = (uint16_t)port;
    call.shards = (uint32_t)s->want;
    call.dry_run = s->tool->verb == VERB_PLAN;
    const tn_fault *fault = tn_site_ask(
        s, &at, "/tenon.admin.v1.ShardService/SetShards", &call.base,
        &tenon__admin__v1__set_shards_response__descriptor, (ProtobufCMessage **)(void *)&answer);
    if (fault)
        return say_fault(s, fault);
    Tenon__ShardsAnswer plan = TENON__SHARDS_ANSWER__INIT;
    plan.partitions = answer->partitions;
    plan.before = answer->before;
    if (call.dry_run)
        print_plan(s, &plan, answer->history_hosts);
    else
        printf("%u shards, they were %u: map version %llu is in force\n", call.shards,
               answer->before, (unsigned long long)answer->version);
    return TN_TOOL_OK;
}

static int split(site *s)
{
    Tenon__ShardsCall call = TENON__SHARDS_CALL__INIT;
    Tenon__ShardsAnswer *answer = NULL;
    call.shards = (uint32_t)s->want;
    call.dry_run = s->tool->verb == VERB_PLAN;
    const tn_fault *fault =
        ask_any(s, TN_INTERNAL_SET_SHARDS, &call.base, &tenon__shards_answer__descriptor,
                (ProtobufCMessage **)(void *)&answer);
    if (fault)
        return say_fault(s, fault);
    if (call.dry_run) {
        print_plan(s, answer, history_hosts(s));
        return TN_TOOL_OK;
    }
    printf("%u shards, they were %u: map version %llu is in force\n", call.shards, answer->before,
           (unsigned long long)answer->version);
    return wait_until_taken(s, answer->version);
}

/* ---- all of them ---- */

static int operate(site *s)
{
    tn_error err = {0};
    tn_status status;
    int result = TN_TOOL_FAILED;
    s->arena = tn_arena_create(0);
    status = read_site(s, &err);
    if (status != TN_OK) {
        result = tn_site_failed(s, err.text);
    } else {
        static int (*const acts[])(site * s) = {
            [VERB_EVICT] = evict,        [VERB_RING] = ring_owner, [VERB_DESCRIBE] = describe,
            [VERB_CLOSE] = close_shard,  [VERB_PLAN] = split,      [VERB_SPLIT] = split,
            [VERB_REKEY] = tn_site_rekey};
        result = acts[s->tool->verb](s);
    }
    tn_arena_destroy(s->arena);
    explicit_bzero(s->secret, sizeof(s->secret));
    explicit_bzero(&s->keys, sizeof(s->keys));
    return result;
}

static int run(const tn_tool *tool, int argc, char **argv)
{
    const char *config = NULL, *address = NULL;
    site s = {.tool = tool, .wait_ns = tool->verb == VERB_REKEY ? 120 * TN_SEC : 60 * TN_SEC};
    bool counts = tool->verb == VERB_PLAN || tool->verb == VERB_SPLIT;
    const tn_option options[] = {{"--config", TN_OPTION_TEXT, &config},
                                 {"--shards", TN_OPTION_NUMBER, &s.want},
                                 {"--address", TN_OPTION_TEXT, &address},
                                 {"--wait", TN_OPTION_NS, &s.wait_ns}};
    const tn_option of_rekey[] = {options[0], {"--wait", TN_OPTION_NS, &s.wait_ns}};
    bool rekeys = tool->verb == VERB_REKEY, word = !counts && !rekeys;
    int result = tn_tool_options(tool, argc, argv, rekeys ? of_rekey : options,
                                 rekeys                    ? 2
                                 : !counts                 ? 1
                                 : tool->verb == VERB_PLAN ? 3
                                                           : 4,
                                 &s.word, word, word);
    if (result != TN_TOOL_GO_ON)
        return result;
    if (!config && !address)
        return tn_tool_misused(tool,
                               counts ? "--config or --address is missing" : "--config is missing");
    if (counts && (!s.want || s.want > TN_SHARDS_MAX))
        return tn_tool_misused(tool, "--shards is 1 to %u", TN_SHARDS_MAX);
    tn_log_configure(TN_LOG_ERROR, false);
    tn_config_problems *problems = tn_config_problems_create();
    tn_tls *tls = NULL;
    result = TN_TOOL_FAILED;
    if (address && tn_tool_loops_start(1, problems) == TN_OK) {
        if (config && tn_settings_load(config, problems, &s.settings) == TN_OK &&
            tn_tls_open(&s.settings->tls, problems, &tls) == TN_OK)
            tn_channels_use_tls(NULL, tn_tls_get(tls, TN_TLS_FRONTEND_CLIENT));
        s.arena = tn_arena_create(0);
        result = split_by_address(&s, address);
        tn_arena_destroy(s.arena);
        tn_tool_loops_stop();
    } else if (!address && tn_settings_load(config, problems, &s.settings) == TN_OK &&
               tn_tool_loops_start(1, problems) == TN_OK) {
        if (tn_tls_open(&s.settings->tls, problems, &tls) == TN_OK &&
            tn_tool_db_open(&s.db, s.settings, TN_KIND_PERSISTENCE, s.settings->store, problems) ==
                TN_OK) {
            tn_channels_use_tls(tn_tls_get(tls, TN_TLS_INTERNODE_CLIENT),
                                tn_tls_get(tls, TN_TLS_FRONTEND_CLIENT));
            result = operate(&s);
        }
        tn_tool_db_close(&s.db);
        tn_tool_loops_stop();
    }
    tn_tls_close(tls);
    int wrong = tn_tool_end(problems);
    tn_settings_destroy(s.settings);
    return wrong != TN_TOOL_OK ? wrong : result;
}

const tn_tool tn_tools_operate[] = {
    {.name = "member evict",
     .args = "--config FILE HOST-ID",
     .brief = "take a member that hangs out of the rings now",
     .help =
         "Another member is told that it is dead. One that lives refutes it and is back at once.\n",
     .run = run,
     .verb = VERB_EVICT},
    {.name = "ring owner",
     .args = "--config FILE SHARD|workflow:NAMESPACE/ID|queue:NAMESPACE/NAME",
     .brief = "which process owns a shard, a workflow or a task queue",
     .help = "Computed from the member records, as the members compute it from gossip.\n",
     .run = run,
     .verb = VERB_RING},
    {.name = "shard describe",
     .args = "--config FILE SHARD",
     .brief = "who has a shard, since when, and where its rows lie",
     .run = run,
     .verb = VERB_DESCRIBE},
    {.name = "shard close",
     .args = "--config FILE SHARD",
     .brief = "let its owner forget what it has in memory of a shard, and take it anew",
     .run = run,
     .verb = VERB_CLOSE},
    {.name = "shard split-plan",
     .args = "--config FILE|--address IP:PORT --shards N",
     .brief = "what another number of shards would mean, and whether it can be had",
     .run = run,
     .verb = VERB_PLAN},
    {.name = "shard split",
     .args = "--config FILE|--address IP:PORT --shards N [--wait 60s]",
     .brief = "change the number of shards while the servers run",
     .help = "N is a multiple of the number of partitions that the store was made with; it may be "
             "less than now.\n"
             "Ends when every shard has been taken under the new map.  It may be ended or repeated "
             "at any time.\n"
             "With --address a frontend is asked, and the store is not opened: for SQLite, whose "
             "file has one user. The caller must\n"
             "be a system admin (TENON_AUTHORIZATION is sent as the header authorization); "
             "--config names the TLS files.\n",
     .run = run,
     .verb = VERB_SPLIT},
    {.name = "cluster rekey",
     .args = "--config FILE [--wait 2m]",
     .brief = "give the cluster a new key while its processes run",
     .help =
         "The key by which members know each other: it signs gossip, and what hosts show each "
         "other "
         "is derived from it.\n"
         "In three steps, each when all members have taken the one before: the new key is "
         "believed, it signs, the old one is\n"
         "dropped.  It may be ended at any time; the next one goes on where that was.  --wait is "
         "for each step.\n",
     .run = run,
     .verb = VERB_REKEY},
    {0},
};
