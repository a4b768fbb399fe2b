/* SPDX-License-Identifier: MIT */
/* Where requests go: the one server (or Sentinel's master), or in a cluster the server that holds the slot of
 * the partition.  Commits and reads have connections of their own, so that neither a long page nor a wait for
 * replicas stands in the other's way.  The map of slots comes from the start, is mended by each MOVED, and is
 * asked for anew when a server is gone; never by the clock. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REFRESH_NS RD_SEC

/* ---- slots -------------------------------------------------------------------------------------- */

uint16_t rd_slot_of_text(const char *tag, size_t n)
{
    uint16_t crc = 0; /* CRC-16/XMODEM, as Redis Cluster has it */
    for (size_t i = 0; i < n; i++) {
        crc = (uint16_t)(crc ^ (uint16_t)((uint8_t)tag[i] << 8));
        for (int k = 0; k < 8; k++)
            crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc % RD_SLOTS;
}

uint16_t rd_slot_of(const uint8_t *partition, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    char tag[2 * RD_PARTITION_MAX];
    for (size_t i = 0; i < n; i++) {
        tag[2 * i] = hex[partition[i] >> 4];
        tag[2 * i + 1] = hex[partition[i] & 15];
    }
    return rd_slot_of_text(tag, 2 * n);
}

/* ---- the map ------------------------------------------------------------------------------------ */

static uint16_t map_node(rd_map *map, const rd_endpoint *endpoint)
{
    for (uint32_t i = 0; i < map->n_nodes; i++)
        if (map->nodes[i].port == endpoint->port && strcmp(map->nodes[i].host, endpoint->host) == 0)
            return (uint16_t)i;
    if (map->n_nodes == RD_NODES_MAX)
        return RD_NO_NODE;
    map->nodes[map->n_nodes] = *endpoint;
    return (uint16_t)map->n_nodes++;
}

static bool map_range(rd_map *map, const redisReply *range, const rd_endpoint *asked)
{
    if (range->type != REDIS_REPLY_ARRAY || range->elements < 3)
        return false;
    const redisReply *first = range->element[0], *last = range->element[1];
    const redisReply *master = range->element[2];
    if (first->type != REDIS_REPLY_INTEGER || last->type != REDIS_REPLY_INTEGER ||
        first->integer < 0 || last->integer >= (long long)RD_SLOTS ||
        master->type != REDIS_REPLY_ARRAY || master->elements < 2 ||
        master->element[1]->type != REDIS_REPLY_INTEGER)
        return false;
    rd_endpoint endpoint = {.port = (uint16_t)master->element[1]->integer};
    const redisReply *host = master->element[0];
    bool named = host->type == REDIS_REPLY_STRING && host->len > 0 && !rd_is(host, "?");
    snprintf(endpoint.host, sizeof endpoint.host, "%s", named ? host->str : asked->host);
    uint16_t node = map_node(map, &endpoint);
    for (long long slot = first->integer; slot <= last->integer; slot++)
        map->slots[slot] = node;
    return true;
}

tn_status rd_map_parse(rd_map *map, const redisReply *reply, const rd_endpoint *asked,
                       tn_error *err)
{
    map->n_nodes = 0;
    for (uint32_t i = 0; i < RD_SLOTS; i++)
        map->slots[i] = RD_NO_NODE;
    if (reply->type != REDIS_REPLY_ARRAY)
        return rd_reply_error(reply, "CLUSTER SLOTS", err);
    for (size_t i = 0; i < reply->elements; i++)
        if (!map_range(map, reply->element[i], asked))
            return rd_error(err, TN_EUNAVAILABLE, 0,
                            "CLUSTER SLOTS: an answer that makes no sense");
    if (map->n_nodes == 0)
        return rd_error(err, TN_EUNAVAILABLE, 0, "the cluster has no slots");
    return TN_OK;
}

/* ---- nodes -------------------------------------------------------------------------------------- */

static uint16_t node_of(rd_ctx *ctx, const rd_endpoint *endpoint)
{
    for (uint32_t i = 0; i < ctx->n_nodes; i++)
        if (ctx->nodes[i].endpoint.port == endpoint->port &&
            strcmp(ctx->nodes[i].endpoint.host, endpoint->host) == 0)
            return (uint16_t)i;
    if (ctx->n_nodes == RD_NODES_MAX)
        return RD_NO_NODE;
    ctx->nodes[ctx->n_nodes].endpoint = *endpoint;
    return (uint16_t)ctx->n_nodes++;
}

static rd_link *link_of(rd_ctx *ctx, uint16_t node, rd_lane lane)
{
    rd_node *n = &ctx->nodes[node];
    if (!n->links[lane])
        n->links[lane] = rd_link_create(ctx, &n->endpoint);
    return n->links[lane];
}

static void use_map(rd_ctx *ctx, const rd_map *map)
{
    uint16_t index[RD_NODES_MAX];
    for (uint32_t i = 0; i < map->n_nodes; i++)
        index[i] = node_of(ctx, &map->nodes[i]);
    for (uint32_t slot = 0; slot < RD_SLOTS; slot++)
        if (map->slots[slot] != RD_NO_NODE)
            ctx->slots[slot] = index[map->slots[slot]];
}

rd_link *rd_route(rd_ctx *ctx, uint16_t slot, rd_lane lane)
{
    uint16_t node = ctx->slots ? ctx->slots[slot] : 0;
    return link_of(ctx, node == RD_NO_NODE ? 0 : node, lane); /* any server knows where to go */
}

rd_link *rd_redirect(rd_ctx *ctx, const redisReply *reply, const rd_link *from, rd_lane lane,
                     bool *out_ask)
{
    char text[320];
    unsigned slot = 0;
    int at = 0;
    if (!ctx->slots)
        return NULL;
    snprintf(text, sizeof text, "%s", reply->str);
    *out_ask = rd_begins(reply, "ASK ");
    if (sscanf(text, *out_ask ? "ASK %u %n" : "MOVED %u %n", &slot, &at) < 1 || at == 0 ||
        slot >= RD_SLOTS)
        return NULL;
    char *colon = strrchr(text + at, ':');
    if (!colon)
        return NULL;
    *colon = '\0';
    rd_endpoint endpoint = {.port = (uint16_t)strtoul(colon + 1, NULL, 10)};
    snprintf(endpoint.host, sizeof endpoint.host, "%.255s",
             text[at] ? text + at : rd_link_endpoint(from)->host);
    uint16_t node = endpoint.port ? node_of(ctx, &endpoint) : RD_NO_NODE;
    if (node == RD_NO_NODE)
        return NULL;
    rd_count(ctx->inst, ctx->inst->m_redirects, 1);
    if (!*out_ask) {
        ctx->slots[slot] = node;
        rd_refresh(ctx); /* seldom one slot alone */
    }
    return link_of(ctx, node, lane);
}

void rd_ctx_moved(rd_ctx *ctx, const rd_link *link)
{
    const rd_endpoint *now = rd_link_endpoint(link);
    for (int lane = 0; lane < RD_LANES; lane++) {
        rd_link *other = ctx->nodes[0].links[lane];
        const rd_endpoint *at = other && other != link ? rd_link_endpoint(other) : NULL;
        if (at && (at->port != now->port || strcmp(at->host, now->host) != 0))
            rd_link_leave(other);
    }
}

/* ---- asking again ------------------------------------------------------------------------------- */

static uint32_t refresh_put(rd_request *request, rd_buf *out)
{
    (void)request;
    rd_put_command(out, 2);
    rd_put_word(out, "CLUSTER");
    rd_put_word(out, "SLOTS");
    return 1;
}

static void refresh_reply(rd_request *request, rd_link *from, uint32_t index, redisReply **reply)
{
    (void)index;
    rd_ctx *ctx = request->ctx;
    rd_map *map = malloc(sizeof *map);
    ctx->refreshing = false;
    if (map && rd_map_parse(map, *reply, rd_link_endpoint(from), NULL) == TN_OK)
        use_map(ctx, map);
    free(map);
}

static void refresh_failed(rd_request *request, bool sent, const tn_error *err)
{
    (void)sent, (void)err;
    request->ctx->refreshing = false; /* the next trouble asks another server */
}

void rd_refresh(rd_ctx *ctx)
{
    uint64_t now = ctx->inst->host->mono_ns();
    if (!ctx->slots || ctx->refreshing ||
        (ctx->refreshed_ns && now - ctx->refreshed_ns < REFRESH_NS))
        return;
    ctx->refreshed_ns = now;
    ctx->refresh_at = (ctx->refresh_at + 1) % ctx->n_nodes;
    rd_link *link = link_of(ctx, (uint16_t)ctx->refresh_at, RD_LANE_READ);
    if (!link)
        return;
    ctx->refreshing = true;
    ctx->refresh = (rd_request){.ctx = ctx,
                                .put = refresh_put,
                                .reply = refresh_reply,
                                .failed = refresh_failed,
                                .deadline_ns = UINT64_MAX};
    rd_link_submit(link, &ctx->refresh);
}

/* ---- life --------------------------------------------------------------------------------------- */

rd_ctx *rd_ctx_create(rd_inst *inst, tn_loop *loop)
{
    rd_ctx *ctx = calloc(1, sizeof *ctx);
    bool cluster = inst->options.mode == RD_CLUSTER;
    if (!ctx)
        return NULL;
    ctx->inst = inst;
    ctx->loop = loop;
    ctx->nodes = calloc(cluster ? RD_NODES_MAX : 1, sizeof *ctx->nodes);
    ctx->slots = cluster ? calloc(RD_SLOTS, sizeof *ctx->slots) : NULL;
    if (!ctx->nodes || (cluster && !ctx->slots)) {
        rd_ctx_destroy(ctx);
        return NULL;
    }
    if (cluster) {
        memset(ctx->slots, 0xff, RD_SLOTS * sizeof *ctx->slots);
        use_map(ctx, inst->map);
    } else {
        ctx->nodes[0].endpoint = inst->options.seeds[0];
        ctx->n_nodes = 1;
    }
    return ctx;
}

void rd_ctx_destroy(rd_ctx *ctx)
{
    if (!ctx)
        return;
    for (uint32_t i = 0; ctx->nodes && i < ctx->n_nodes; i++)
        for (int lane = 0; lane < RD_LANES; lane++)
            rd_link_destroy(ctx->nodes[i].links[lane]);
    free(ctx->nodes);
    free(ctx->slots);
    free(ctx);
}
