/* SPDX-License-Identifier: MIT */
/* The schema verbs.  Redis has no tables to make: a key says which layout the others have, so that a server never
 * takes foreign data, or an older server's, or an emptied Redis, for its own. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the server that holds the key -------------------------------------------------------------- */

typedef struct place {
    rd_sync sync;
    rd_map *map; /* cluster only */
    uint32_t stored;
} place;

static tn_status read_stored(place *p, const rd_options *options, tn_error *err)
{
    char name[RD_KEY_MAX];
    redisReply *reply = NULL;
    rd_schema_name(options, name);
    tn_status status = rd_sync_words(&p->sync, &reply, err, "HGET", name, "version", NULL);
    if (status != TN_OK)
        return status;
    if (reply->type == REDIS_REPLY_STRING)
        p->stored = (uint32_t)strtoul(reply->str, NULL, 10);
    else if (reply->type != REDIS_REPLY_NIL)
        status = rd_reply_error(reply, "reading the schema", err);
    freeReplyObject(reply);
    return status;
}

static tn_status find_in_cluster(place *p, const tn_host *host, const rd_options *options,
                                 tn_error *err)
{
    rd_told told = {0};
    redisReply *reply = NULL;
    tn_status status = rd_sync_open(&p->sync, host, options, NULL, RD_TO_NODE, &told, err);
    if (status != TN_OK)
        return status;
    p->map = calloc(1, sizeof *p->map);
    status = p->map ? rd_sync_words(&p->sync, &reply, err, "CLUSTER", "SLOTS", NULL)
                    : rd_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    if (status == TN_OK)
        status = rd_map_parse(p->map, reply, &p->sync.at, err);
    if (reply)
        freeReplyObject(reply);
    uint16_t node = status == TN_OK ? p->map->slots[rd_slot_of_text("schema", 6)] : RD_NO_NODE;
    rd_sync_close(&p->sync);
    if (status == TN_OK && node == RD_NO_NODE)
        return rd_error(err, TN_EUNAVAILABLE, 0, "the cluster does not serve all slots");
    if (status == TN_OK)
        status =
            rd_sync_open(&p->sync, host, options, &p->map->nodes[node], RD_TO_NODE, &told, err);
    return status;
}

static tn_status find(place *p, const tn_host *host, const rd_options *options, tn_error *err)
{
    rd_told told = {0};
    tn_status status = options->mode == RD_CLUSTER
                           ? find_in_cluster(p, host, options, err)
                           : rd_sync_open(&p->sync, host, options, NULL, RD_TO_TOOL, &told, err);
    return status == TN_OK ? read_stored(p, options, err) : status;
}

static void leave(place *p)
{
    rd_sync_close(&p->sync);
    free(p->map);
    p->map = NULL;
}

/* ---- setup -------------------------------------------------------------------------------------- */

static tn_status set_up(place *p, const rd_options *options, tn_error *err)
{
    char name[RD_KEY_MAX], version[12];
    redisReply *reply = NULL;
    rd_schema_name(options, name);
    snprintf(version, sizeof version, "%u", RD_SCHEMA_VERSION);
    tn_status status =
        rd_sync_words(&p->sync, &reply, err, "HSETNX", name, "version", version, NULL);
    if (status == TN_OK && reply->type != REDIS_REPLY_INTEGER)
        status = rd_reply_error(reply, "writing the schema", err);
    if (reply)
        freeReplyObject(reply);
    return status == TN_OK ? read_stored(p, options, err)
                           : status; /* another may have been faster */
}

tn_status rd_schema_setup(const tn_host *host, const rd_options *options, tn_error *err)
{
    place p = {.sync.wire.fd = -1};
    tn_status status = find(&p, host, options, err);
    if (status == TN_OK && p.stored == 0 && options->auto_setup)
        status = set_up(&p, options, err);
    leave(&p);
    if (status == TN_OK && p.stored != RD_SCHEMA_VERSION)
        status = rd_schema_wrong(options, p.stored, err);
    return status;
}

/* ---- check -------------------------------------------------------------------------------------- */

typedef struct checking {
    const rd_options *options;
    tn_schema_req *req;
    rd_sync *sync;
    uint64_t differences;
    tn_error *err;
} checking;

static void differs(checking *c, const char *key, const char *what)
{
    char line[600];
    int n = snprintf(line, sizeof line, "%.400s: %s\n", key, what);
    if (c->differences++ < 1000)
        c->req->emit(c->req->user, line, (size_t)n);
}

static tn_status ask_number(checking *c, const char *verb, const char *key, long long *out)
{
    redisReply *reply = NULL;
    tn_status status = rd_sync_words(c->sync, &reply, c->err, verb, key, NULL);
    if (status != TN_OK)
        return status;
    *out = reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1; /* -1: of another type */
    freeReplyObject(reply);
    return TN_OK;
}

/* Rows and their order name each other; each must be of its type and as long as the other. */
static tn_status check_pair(checking *c, const char *rows, const char *order, const char *found)
{
    long long n_rows = 0, n_order = 0;
    tn_status status = ask_number(c, "HLEN", rows, &n_rows);
    if (status == TN_OK)
        status = ask_number(c, "ZCARD", order, &n_order);
    if (status != TN_OK)
        return status;
    if (n_rows < 0 || n_order < 0)
        differs(c, found, "a hash of rows, or their order, is of another type");
    else if (n_rows != n_order)
        differs(c, found, "the rows and their order differ in number");
    return TN_OK;
}

static tn_status check_key(checking *c, const char *key)
{
    char other[RD_KEY_MAX + 4], version[RD_KEY_MAX];
    size_t n = strlen(key);
    rd_schema_name(c->options, version);
    if (strcmp(key, version) == 0)
        return TN_OK;
    const char *tail = strrchr(key, '}');
    if (!tail || tail[1] != ':' || n >= sizeof other - 4) {
        differs(c, key, "is not a key of this schema");
        return TN_OK;
    }
    tail += 2;
    if (strcmp(tail, "v") == 0) {
        long long length = 0;
        tn_status status = ask_number(c, "STRLEN", key, &length);
        if (status == TN_OK && length < 1)
            differs(c, key, "is no counter");
        return status;
    }
    char *end = NULL;
    unsigned long table = strtoul(tail, &end, 10);
    bool order = strcmp(end, ":z") == 0;
    if (table < 1 || table > 63 || (*end && !order)) {
        differs(c, key, "is not a key of this schema");
        return TN_OK;
    }
    snprintf(other, sizeof other, order ? "%.*s" : "%.*s:z", (int)(order ? n - 2 : n), key);
    if (!order)
        return check_pair(c, key, other, key);
    long long rows = 0; /* with rows, the pair is looked at from their side */
    tn_status status = ask_number(c, "EXISTS", other, &rows);
    if (status == TN_OK && rows == 0)
        differs(c, key, "an order of rows that are not there");
    return status;
}

static void pattern_of(const rd_options *options, char out[2 * RD_KEY_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < options->prefix.n; i++) {
        if (strchr("*?[]\\^-", options->prefix.p[i]))
            out[n++] = '\\';
        out[n++] = options->prefix.p[i];
    }
    memcpy(out + n, "{*", 3);
}

static tn_status check_server(checking *c)
{
    char cursor[24] = "0", pattern[2 * RD_KEY_MAX];
    pattern_of(c->options, pattern);
    do {
        redisReply *reply = NULL;
        tn_status status = rd_sync_words(c->sync, &reply, c->err, "SCAN", cursor, "MATCH", pattern,
                                         "COUNT", "1000", NULL);
        if (status != TN_OK)
            return status;
        if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2)
            status = rd_reply_error(reply, "SCAN", c->err);
        else
            snprintf(cursor, sizeof cursor, "%s", reply->element[0]->str);
        for (size_t i = 0; status == TN_OK && i < reply->element[1]->elements; i++)
            status = check_key(c, reply->element[1]->element[i]->str);
        freeReplyObject(reply);
        if (status != TN_OK)
            return status;
    } while (strcmp(cursor, "0") != 0);
    return TN_OK;
}

static tn_status check(place *p, const tn_host *host, const rd_options *options, tn_schema_req *req,
                       tn_error *err)
{
    checking c = {.options = options, .req = req, .sync = &p->sync, .err = err};
    tn_status status = TN_OK;
    if (p->stored != RD_SCHEMA_VERSION)
        differs(&c, "schema", p->stored ? "another version is stored" : "there is none");
    if (!p->map)
        status = check_server(&c);
    for (uint32_t i = 0; p->map && status == TN_OK && i < p->map->n_nodes; i++) {
        rd_sync sync;
        rd_told told = {0};
        c.sync = &sync;
        status = rd_sync_open(&sync, host, options, &p->map->nodes[i], RD_TO_NODE, &told, err);
        if (status == TN_OK)
            status = check_server(&c);
        rd_sync_close(&sync);
    }
    if (status == TN_OK && c.differences)
        return rd_error(err, TN_ECONFLICT, 0, "%llu differences",
                        (unsigned long long)c.differences);
    return status;
}

/* ---- verbs -------------------------------------------------------------------------------------- */

static void dump(const rd_options *options, tn_schema_req *req)
{
    char name[RD_KEY_MAX], line[RD_KEY_MAX + 40];
    rd_schema_name(options, name);
    int n = snprintf(line, sizeof line, "HSETNX %s version %u\n", name, RD_SCHEMA_VERSION);
    req->emit(req->user, line, (size_t)n);
}

static tn_status change(place *p, const rd_options *options, tn_schema_req *req, uint32_t to,
                        tn_error *err)
{
    if (p->stored > to)
        return rd_error(err, TN_EINVALID, 0,
                        "version %u is stored: version %u would be a step back", p->stored, to);
    if (p->stored == to)
        return TN_OK;
    if (req->verb == TN_SCHEMA_UPDATE && p->stored == 0)
        return rd_error(err, TN_EINVALID, 0,
                        "there is no schema yet\n  fix: tenonctl schema setup");
    if (req->flags & TN_SCHEMA_DRY_RUN) {
        dump(options, req);
        return TN_OK;
    }
    tn_status status = set_up(p, options, err);
    req->stored = p->stored;
    if (status == TN_OK && p->stored != to)
        return rd_schema_wrong(options, p->stored, err);
    return status;
}

static tn_status run(const tn_host *host, const rd_options *options, tn_schema_req *req,
                     tn_error *err)
{
    uint32_t to = req->to ? req->to : RD_SCHEMA_VERSION;
    if (to > RD_SCHEMA_VERSION)
        return rd_error(err, TN_EINVALID, 0, "version %u: this driver knows up to %u", to,
                        RD_SCHEMA_VERSION);
    if (req->verb == TN_SCHEMA_DUMP) {
        dump(options, req);
        return TN_OK;
    }
    place p = {.sync.wire.fd = -1};
    tn_status status = find(&p, host, options, err);
    req->stored = p.stored;
    req->wanted = RD_SCHEMA_VERSION;
    if (status == TN_OK) {
        switch (req->verb) {
        case TN_SCHEMA_VERSION:
            break;
        case TN_SCHEMA_SETUP:
        case TN_SCHEMA_UPDATE:
            status = change(&p, options, req, to, err);
            break;
        case TN_SCHEMA_CHECK:
            status = check(&p, host, options, req, err);
            break;
        default:
            status = rd_error(err, TN_EINVALID, 0, "unknown verb %u", req->verb);
        }
    }
    leave(&p);
    return status;
}

tn_status rd_schema(const tn_host *host, const tn_config *cfg, tn_schema_req *req, tn_error *err)
{
    rd_options options;
    tn_status status = rd_options_read(host, cfg, &options, err);
    if (status != TN_OK)
        return status;
    status = run(host, &options, req, err);
    rd_options_done(&options);
    return status;
}
