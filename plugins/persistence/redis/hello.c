/* SPDX-License-Identifier: MIT */
/* What a server is asked before anything is entrusted to it, at every new connection: who it is, whether what
 * it acknowledges outlives a power cut, whether the data is ours; and the scripts, which it may have
 * forgotten.  One list of steps serves the loops' connections and the waiting one. */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum step {
    STEP_AUTH,
    STEP_MASTER, /* a sentinel: where is it? */
    STEP_SELECT,
    STEP_NAME,
    STEP_ROLE,
    STEP_AOF,
    STEP_FSYNC,
    STEP_FSYNC_REWRITE,
    STEP_EVICTION,
    STEP_SCHEMA,
    STEP_LOAD_COMMIT,
    STEP_LOAD_SCAN,
    STEPS
} step;

static bool wanted(const rd_options *options, rd_target target, step s)
{
    bool sentinel = target == RD_TO_SENTINEL;
    switch (s) {
    case STEP_AUTH:
        return sentinel ? options->sentinel_password.n : options->password.n;
    case STEP_MASTER:
        return sentinel;
    case STEP_SELECT:
        return !sentinel && options->db;
    case STEP_ROLE:
        return !sentinel && target != RD_TO_NODE;
    case STEP_SCHEMA: /* in a cluster only one server has the key: asked at the start */
        return !sentinel && target != RD_TO_NODE;
    default:
        return !sentinel;
    }
}

static void put_auth(rd_buf *out, tn_str user, tn_str password)
{
    rd_put_command(out, user.n ? 3 : 2);
    rd_put_word(out, "AUTH");
    if (user.n)
        rd_put_arg(out, user.p, user.n);
    rd_put_arg(out, password.p, password.n);
}

static void put_words(rd_buf *out, const char *a, const char *b, const char *c)
{
    rd_put_command(out, 1u + (b != NULL) + (c != NULL));
    rd_put_word(out, a);
    if (b)
        rd_put_word(out, b);
    if (c)
        rd_put_word(out, c);
}

static void put_step(const rd_options *options, rd_target target, step s, rd_buf *out)
{
    char text[RD_KEY_MAX];
    switch (s) {
    case STEP_AUTH:
        if (target == RD_TO_SENTINEL)
            put_auth(out, options->sentinel_user, options->sentinel_password);
        else
            put_auth(out, options->user, options->password);
        break;
    case STEP_MASTER:
        rd_put_command(out, 3);
        rd_put_word(out, "SENTINEL");
        rd_put_word(out, "get-master-addr-by-name");
        rd_put_arg(out, options->master_name.p, options->master_name.n);
        break;
    case STEP_SELECT:
        snprintf(text, sizeof text, "%lld", (long long)options->db);
        put_words(out, "SELECT", text, NULL);
        break;
    case STEP_NAME:
        put_words(out, "CLIENT", "SETNAME", "tenon");
        break;
    case STEP_ROLE:
        put_words(out, "ROLE", NULL, NULL);
        break;
    case STEP_AOF:
        put_words(out, "CONFIG", "GET", "appendonly");
        break;
    case STEP_FSYNC:
        put_words(out, "CONFIG", "GET", "appendfsync");
        break;
    case STEP_FSYNC_REWRITE:
        put_words(out, "CONFIG", "GET", "no-appendfsync-on-rewrite");
        break;
    case STEP_EVICTION:
        put_words(out, "CONFIG", "GET", "maxmemory-policy");
        break;
    case STEP_SCHEMA:
        rd_schema_name(options, text);
        put_words(out, "HGET", text, "version");
        break;
    case STEP_LOAD_COMMIT:
        put_words(out, "SCRIPT", "LOAD", rd_script_text[RD_SCRIPT_COMMIT]);
        break;
    case STEP_LOAD_SCAN:
        put_words(out, "SCRIPT", "LOAD", rd_script_text[RD_SCRIPT_SCAN]);
        break;
    case STEPS:
        break;
    }
}

uint32_t rd_hello_put(const rd_options *options, rd_target target, rd_buf *out)
{
    uint32_t n = 0;
    for (int s = 0; s < STEPS; s++) {
        if (!wanted(options, target, (step)s))
            continue;
        put_step(options, target, (step)s, out);
        n++;
    }
    return n;
}

/* ---- judging ------------------------------------------------------------------------------------ */

/* CONFIG GET's answer is (name, value); a value that is not `want` is what this driver can't live with. */
static tn_status check_setting(const rd_options *options, const redisReply *reply, const char *name,
                               const char *want, const char *else_what, tn_error *err)
{
    bool eviction = strcmp(name, "maxmemory-policy") == 0;
    if (options->allow_volatile && (reply->type == REDIS_REPLY_ERROR || !eviction))
        return TN_OK;
    if (reply->type == REDIS_REPLY_ERROR && !rd_begins(reply, "LOADING"))
        return rd_error(
            err, TN_EINVALID, 0,
            "Redis does not say whether it is durable (CONFIG GET %s: %.60s)\n  fix: let "
            "this user run CONFIG GET, or set allowVolatile: true",
            name, reply->str);
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2)
        return rd_reply_error(reply, "CONFIG GET", err);
    const redisReply *value = reply->element[1];
    if (rd_is(value, want))
        return TN_OK;
    return rd_error(err, TN_EINVALID, 0, "Redis has %s %.20s: %s\n  fix: %s %s in redis.conf%s",
                    name, value->str ? value->str : "?", else_what, name, want,
                    eviction ? "" : ", or allowVolatile: true");
}

static tn_status check_master(const redisReply *reply, rd_told *told, tn_error *err)
{
    if (reply->type == REDIS_REPLY_NIL)
        return rd_error(err, TN_EUNAVAILABLE, 0, "Sentinel does not know masterName");
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2 || !reply->element[0]->str ||
        !reply->element[1]->str)
        return rd_reply_error(reply, "asking Sentinel", err);
    snprintf(told->master.host, sizeof told->master.host, "%s", reply->element[0]->str);
    told->master.port = (uint16_t)strtoul(reply->element[1]->str, NULL, 10);
    if (!told->master.port)
        return rd_error(err, TN_EUNAVAILABLE, 0, "Sentinel gives the master no port");
    return TN_OK;
}

/* A master that has lost its replicas could confirm nothing; and one that comes back after a fail-over, before
 * Sentinel has demoted it, is known by that. */
static tn_status check_role(const rd_options *options, rd_target target, const redisReply *reply,
                            tn_error *err)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 1)
        return rd_reply_error(reply, "ROLE", err);
    if (rd_is(reply->element[0], "sentinel"))
        return rd_error(err, TN_EINVALID, 0,
                        "this is a sentinel\n  fix: write its address into sentinels");
    if (!rd_is(reply->element[0], "master"))
        return rd_error(err, TN_EUNAVAILABLE, 0, "this server is a replica");
    size_t replicas = reply->elements > 2 && reply->element[2]->type == REDIS_REPLY_ARRAY
                          ? reply->element[2]->elements
                          : 0;
    if (target == RD_TO_SERVER && replicas < options->wait_replicas)
        return rd_error(err, TN_EUNAVAILABLE, 0,
                        "this master has %zu of %u replicas (waitReplicas)", replicas,
                        options->wait_replicas);
    return TN_OK;
}

tn_status rd_schema_wrong(const rd_options *options, uint32_t stored, tn_error *err)
{
    (void)options;
    if (stored == 0)
        return rd_error(
            err, TN_EINVALID, 0,
            "this Redis holds no Tenon schema under this keyPrefix; version %u is wanted\n"
            "  fix: tenonctl schema setup, or autoSetup: true",
            RD_SCHEMA_VERSION);
    return rd_error(err, TN_EINVALID, 0,
                    "the schema stored is version %u, version %u is wanted\n  fix: %s", stored,
                    RD_SCHEMA_VERSION,
                    stored < RD_SCHEMA_VERSION ? "tenonctl schema update"
                                               : "use the newer server that wrote it");
}

static tn_status check_schema(const rd_options *options, rd_target target, const redisReply *reply,
                              rd_told *told, tn_error *err)
{
    if (reply->type == REDIS_REPLY_ERROR)
        return rd_reply_error(reply, "reading the schema", err);
    told->schema = reply->type == REDIS_REPLY_STRING ? (uint32_t)strtoul(reply->str, NULL, 10) : 0;
    if (target == RD_TO_TOOL || told->schema == RD_SCHEMA_VERSION)
        return TN_OK;
    return rd_schema_wrong(options, told->schema, err);
}

static tn_status check_step(const rd_options *options, rd_target target, step s,
                            const redisReply *reply, rd_told *told, tn_error *err)
{
    switch (s) {
    case STEP_AUTH:
        return rd_is(reply, "OK") ? TN_OK : rd_reply_error(reply, "AUTH", err);
    case STEP_MASTER:
        return check_master(reply, told, err);
    case STEP_SELECT:
        return rd_is(reply, "OK") ? TN_OK : rd_reply_error(reply, "SELECT", err);
    case STEP_ROLE:
        return check_role(options, target, reply, err);
    case STEP_AOF:
        return check_setting(options, reply, "appendonly", "yes", "a restart would lose everything",
                             err);
    case STEP_FSYNC:
        return check_setting(options, reply, "appendfsync", "always",
                             "a power cut would lose acknowledged work", err);
    case STEP_FSYNC_REWRITE:
        return check_setting(options, reply, "no-appendfsync-on-rewrite", "no",
                             "a power cut during a rewrite would lose acknowledged work", err);
    case STEP_EVICTION:
        return check_setting(options, reply, "maxmemory-policy", "noeviction",
                             "Redis would throw rows away", err);
    case STEP_SCHEMA:
        return check_schema(options, target, reply, told, err);
    case STEP_LOAD_COMMIT:
    case STEP_LOAD_SCAN:
        return reply->type == REDIS_REPLY_STRING ? TN_OK
                                                 : rd_reply_error(reply, "SCRIPT LOAD", err);
    case STEP_NAME: /* not every service allows it; nothing depends on it */
    case STEPS:
        break;
    }
    return TN_OK;
}

tn_status rd_hello_check(const rd_options *options, rd_target target, uint32_t index,
                         const redisReply *reply, rd_told *told, tn_error *err)
{
    for (int s = 0; s < STEPS; s++) {
        if (!wanted(options, target, (step)s))
            continue;
        if (index-- > 0)
            continue;
        if (rd_begins(reply, "NOAUTH"))
            return rd_reply_error(reply, "connecting", err);
        return check_step(options, target, (step)s, reply, told, err);
    }
    return rd_error(err, TN_EUNAVAILABLE, 0, "Redis sent more than was asked");
}
