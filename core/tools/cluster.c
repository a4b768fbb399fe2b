/* SPDX-License-Identifier: MIT */
/* tenonctl member list, shard list, cluster health: what the processes of a cluster have written of themselves into the
 * store.  Nobody is asked, so that it works while nothing else does; a record says when it was written, and gossip
 * knows sooner who has died. */
#include <stdio.h>

#include "proto/proto.h"
#include "store/store.h"
#include "tenon/store.pb-c.h"
#include "tools/db.h"

#define FRESH_NS (40 * TN_SEC) /* records are written again each 15 s */

enum { VERB_MEMBERS = 1, VERB_SHARDS, VERB_HEALTH };

typedef struct view {
    tn_tool_db db;
    tn_arena *arena;
    uint32_t shards, taken, members, fresh, of_role[TN_SERVICE_COUNT];
    bool print;
} view;

static const char *const roles[TN_SERVICE_COUNT] = {"frontend", "history", "matching", "worker"};

static double seconds_since(uint64_t wall_ns)
{
    uint64_t now = tn_now_wall_ns();
    return now > wall_ns ? (double)(now - wall_ns) / 1e9 : 0.0;
}

static void see_member(view *v, const tn_row *row)
{
    Tenon__MemberRecord *m = NULL;
    char id[37], what[64] = "";
    if (row->key.row.n != 16 ||
        tn_proto_unpack(&tenon__member_record__descriptor, row->value, v->arena,
                        (ProtobufCMessage **)(void *)&m, NULL) != TN_OK)
        return;
    bool fresh = m->seen_ns + FRESH_NS > tn_now_wall_ns();
    v->members++;
    v->fresh += fresh;
    for (size_t i = 0, n = 0; i < m->n_role_ports && i < TN_SERVICE_COUNT; i++) {
        if (!m->role_ports[i])
            continue;
        v->of_role[i] += fresh;
        n += (size_t)snprintf(what + n, sizeof what - n, "%s%s:%u", n ? "," : "", roles[i],
                              m->role_ports[i]);
        n = n < sizeof what ? n : sizeof what - 1;
    }
    tn_uuid_format(row->key.row.p, id);
    if (v->print)
        printf("%s  %s:%u  %-8s  %6.1f s ago  %s%s\n", id, m->ip, m->port, m->version,
               seconds_since(m->seen_ns), what, fresh ? "" : "  (gone?)");
}

static tn_status see_members(view *v, tn_error *err)
{
    tn_page page = {.struct_size = sizeof(page)};
    tn_range range = {.struct_size = sizeof(range), .limit = 10000};
    range.from = tn_store_key(v->arena, TN_TABLE_MEMBER, TN_PARTITION_CLUSTER, (tn_blob){NULL, 0});
    tn_status status = tn_tool_scan(&v->db, v->arena, &range, &page, err);
    for (size_t i = 0; status == TN_OK && i < page.n_rows; i++)
        see_member(v, &page.rows[i]);
    return status;
}

static tn_status see_shards(view *v, tn_error *err)
{
    tn_row row;
    Tenon__ClusterRecord *cluster = NULL;
    tn_key key = tn_store_key(v->arena, TN_TABLE_META, TN_PARTITION_CLUSTER,
                              tn_blob_of_str(TN_STR("cluster")));
    tn_status status = tn_tool_get(&v->db, v->arena, &key, &row, err);
    if (status == TN_OK)
        status = tn_proto_unpack(&tenon__cluster_record__descriptor, row.value, v->arena,
                                 (ProtobufCMessage **)(void *)&cluster, err);
    uint32_t partitions = v->shards = status == TN_OK ? cluster->history_shards : 0;
    key = tn_store_key(v->arena, TN_TABLE_META, TN_PARTITION_CLUSTER,
                       tn_blob_of_str(TN_STR("shards")));
    if (status == TN_OK && (status = tn_tool_get(&v->db, v->arena, &key, &row, err)) == TN_OK) {
        Tenon__ShardMap *map = NULL;
        status = tn_proto_unpack(&tenon__shard_map__descriptor, row.value, v->arena,
                                 (ProtobufCMessage **)(void *)&map, err);
        v->shards = status == TN_OK ? map->shards : v->shards;
    } else if (status == TN_ENOTFOUND && partitions) {
        status = TN_OK;
    }
    for (uint32_t id = 1; status == TN_OK && id <= v->shards; id++) {
        Tenon__ShardRecord *shard = NULL;
        key = tn_store_key(v->arena, TN_TABLE_SHARD, (id - 1) % partitions + 1,
                           tn_store_row_shard(v->arena, (id - 1) / partitions));
        status = tn_tool_get(&v->db, v->arena, &key, &row, err);
        if (status == TN_ENOTFOUND) {
            status = TN_OK;
            if (v->print)
                printf("%5u  never taken\n", id);
            continue;
        }
        if (status == TN_OK)
            status = tn_proto_unpack(&tenon__shard_record__descriptor, row.value, v->arena,
                                     (ProtobufCMessage **)(void *)&shard, err);
        if (status != TN_OK)
            break;
        v->taken += *shard->owner != 0;
        if (v->print)
            printf("%5u  range %-8llu  %10.1f s  %s%s\n", id, (unsigned long long)shard->range_id,
                   seconds_since(shard->acquired_ns), shard->owner,
                   shard->moved ? "  (moved to another store)" : "");
    }
    return status;
}

/* Every role must be there, and every shard have been taken by somebody. */
static int judge(const view *v)
{
    bool well = v->taken == v->shards;
    printf("members: %u, %u of them seen of late\n", v->members, v->fresh);
    for (size_t i = 0; i < TN_SERVICE_COUNT; i++) {
        printf("%s: %u%s\n", roles[i], v->of_role[i], v->of_role[i] ? "" : "  MISSING");
        well = well && v->of_role[i];
    }
    printf("shards: %u of %u have been taken\n", v->taken, v->shards);
    return well ? TN_TOOL_OK : TN_TOOL_FAILED;
}

static int look(const tn_tool *tool, view *v)
{
    tn_error err = {0};
    tn_status status = TN_OK;
    v->arena = tn_arena_create(0);
    v->print = tool->verb != VERB_HEALTH;
    if (tool->verb != VERB_SHARDS)
        status = see_members(v, &err);
    if (status == TN_OK && tool->verb != VERB_MEMBERS)
        status = see_shards(v, &err);
    tn_arena_destroy(v->arena);
    if (status != TN_OK) {
        fprintf(stderr, "tenonctl: %s: %s\n", tool->name,
                status == TN_ENOTFOUND ? "no cluster has been made in this store" : err.text);
        return TN_TOOL_FAILED;
    }
    return tool->verb == VERB_HEALTH ? judge(v) : TN_TOOL_OK;
}

static int run(const tn_tool *tool, int argc, char **argv)
{
    const char *config = NULL;
    const tn_option options[] = {{"--config", TN_OPTION_TEXT, &config}};
    int result = tn_tool_options(tool, argc, argv, options, TN_COUNT_OF(options), NULL, 0, 0);
    if (result != TN_TOOL_GO_ON)
        return result;
    if (!config)
        return tn_tool_misused(tool, "--config is missing");
    tn_log_configure(TN_LOG_ERROR, false);
    tn_config_problems *problems = tn_config_problems_create();
    tn_settings *settings = NULL;
    view v = {.shards = 0};
    result = TN_TOOL_FAILED;
    if (tn_settings_load(config, problems, &settings) == TN_OK &&
        tn_tool_loops_start(1, problems) == TN_OK) {
        if (tn_tool_db_open(&v.db, settings, TN_KIND_PERSISTENCE, settings->store, problems) ==
            TN_OK)
            result = look(tool, &v);
        tn_tool_db_close(&v.db);
        tn_tool_loops_stop();
    }
    int failed = tn_tool_end(problems);
    tn_settings_destroy(settings);
    return failed != TN_TOOL_OK ? failed : result;
}

const tn_tool tn_tools_cluster[] = {
    {.name = "member list",
     .args = "--config FILE",
     .brief = "the processes of the cluster, as their records in the store say",
     .help = "Host id, gossip address, release, age of the record, and the roles with their gRPC "
             "ports.\n",
     .run = run,
     .verb = VERB_MEMBERS},
    {.name = "shard list",
     .args = "--config FILE",
     .brief = "who has taken each shard, and when",
     .help = "Shard, range, seconds since it was taken; the host and its host id (a server without "
             "a cluster: an id of its\n"
             "own).\n",
     .run = run,
     .verb = VERB_SHARDS},
    {.name = "cluster health",
     .args = "--config FILE",
     .brief = "whether every role has a process and every shard an owner",
     .run = run,
     .verb = VERB_HEALTH},
    {0},
};
