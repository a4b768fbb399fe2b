/* SPDX-License-Identifier: MIT */
/* Partitions of task queues: see partition.h.  Tasks and polls take a partition by chance: what meets nobody there is
 * forwarded to the root by matching, so that the choice costs time at worst. */
#include "client/partition.h"

#include "config/dynconfig.h"

#define PREFIX "/_sys/"

tn_str tn_partition_base(tn_str name, uint32_t *out_index)
{
    const size_t prefix_n = sizeof(PREFIX) - 1;
    uint64_t index;
    *out_index = 0;
    if (name.n <= prefix_n || memcmp(name.p, PREFIX, prefix_n) != 0)
        return name;
    const char *slash = memrchr(name.p + prefix_n, '/', name.n - prefix_n);
    tn_str number =
        slash ? (tn_str){slash + 1, (size_t)(name.p + name.n - slash - 1)} : (tn_str){0};
    if (!slash || !tn_parse_u64(number, &index) || index == 0 || index >= TN_PARTITIONS_MAX)
        return name;
    *out_index = (uint32_t)index;
    return (tn_str){name.p + prefix_n, (size_t)(slash - name.p) - prefix_n};
}

tn_str tn_partition_name(tn_arena *arena, tn_str base, uint32_t index)
{
    return index ? tn_str_from(
                       tn_arena_printf(arena, PREFIX TN_STR_FMT "/%u", TN_STR_ARG(base), index))
                 : tn_arena_str(arena, base);
}

static uint32_t number_of(tn_dyn_key key, tn_str ns_name, tn_str base, uint32_t type)
{
    int64_t n = tn_dyn_task_i64(key, ns_name, base, (int32_t)type);
    return n < 1 ? 1 : n > TN_PARTITIONS_MAX ? TN_PARTITIONS_MAX : (uint32_t)n;
}

uint32_t tn_partitions_read(tn_str ns_name, tn_str base, uint32_t type)
{
    return number_of(TN_DYN_MATCHING_READ_PARTITIONS, ns_name, base, type);
}

uint32_t tn_partitions_write(tn_str ns_name, tn_str base, uint32_t type)
{
    return number_of(TN_DYN_MATCHING_WRITE_PARTITIONS, ns_name, base, type);
}

static uint32_t by_chance(uint32_t n)
{
    uint64_t chance;
    tn_random_bytes(&chance, sizeof(chance));
    return (uint32_t)(chance % n);
}

void tn_partition_place(tn_mreq *req)
{
    bool reads = req->op == TN_MOP_POLL;
    if (req->placed || req->sticky || !(reads || req->op == TN_MOP_ADD || req->op == TN_MOP_QUERY))
        return;
    req->placed = true;
    uint32_t n = reads ? tn_partitions_read(req->ns->name, req->queue, req->type)
                       : tn_partitions_write(req->ns->name, req->queue, req->type);
    uint32_t index = n > 1 ? by_chance(n) : 0;
    if (!index)
        return;
    tn_arena_set_limit(req->arena, 0);
    req->queue = tn_partition_name(req->arena, req->queue, index);
}
