/* SPDX-License-Identifier: MIT */
/* What the files of persistence/redis share.
 *
 *   redis.c    configuration, life of an instance, the plugin's table
 *   wire.c     a socket with or without TLS, never blocking
 *   hello.c    what is asked of a server before it is used: role, durability, schema, scripts
 *   sync.c     one connection that waits: for open and the schema tool [main]
 *   schema.c   the schema verbs
 *   resolve.c  names to addresses, off the loop
 *   link.c     one connection of a loop: queue, pipeline, time-outs, reconnecting
 *   route.c    which connection a partition's requests take: one server, Sentinel's master, cluster slots
 *   script.c   the Lua functions
 *   commit.c   groups of commits       read.c  get, scan, ping
 *   text.c     keys, RESP, replies, errors */
#ifndef TN_REDIS_PRIVATE_H
#define TN_REDIS_PRIVATE_H

#include <hiredis/hiredis.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include <tenon/plugin.h>

#define RD_MS UINT64_C(1000000)
#define RD_SEC UINT64_C(1000000000)
#define RD_PARTITION_MAX 64u
#define RD_ROW_MAX 1100u
#define RD_VALUE_MAX ((size_t)64 << 20)
#define RD_BATCH_BYTES_MAX ((size_t)128 << 20)
#define RD_GROUP_BYTES_MAX ((size_t)16 << 20) /* of one script call; a larger batch goes alone */
#define RD_GROUP_MAX 256u
#define RD_PAGE_BYTES_MAX ((size_t)16 << 20) /* of values in a page, whatever was asked */
#define RD_HEAD 12u /* of a stored value: version (8, big-endian; the script's), CRC-32C (4) */
#define RD_SCHEMA_VERSION 1u
#define RD_ENDPOINTS_MAX 32u
#define RD_NODES_MAX 256u
#define RD_SLOTS 16384u
#define RD_NO_NODE UINT16_MAX

/* ---- bytes and errors (text.c) ------------------------------------------------------------------ */

typedef struct rd_buf {
    uint8_t *p;
    size_t n, cap, at; /* at: what was taken from the front */
    bool failed;       /* out of memory: what it holds is not to be used */
} rd_buf;
void rd_buf_put(rd_buf *buf, const void *p, size_t n);
void rd_buf_take(rd_buf *buf, size_t n);
void rd_buf_done(rd_buf *buf);
/* RESP: a command of n arguments, then each. */
void rd_put_command(rd_buf *buf, size_t n_args);
void rd_put_arg(rd_buf *buf, const void *p, size_t n);
void rd_put_word(rd_buf *buf, const char *word);
void rd_put_number(rd_buf *buf, uint64_t number);

void rd_be64(uint8_t out[8], uint64_t n);
uint64_t rd_from_be64(const uint8_t in[8]);
uint32_t rd_crc32c(uint32_t crc, const void *p, size_t n);

tn_status rd_error(tn_error *err, tn_status code, int vendor, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* A string reply's bytes are these words. */
bool rd_is(const redisReply *reply, const char *word);
/* An error reply in our words: its status for something that was surely not done. */
tn_status rd_reply_error(const redisReply *reply, const char *doing, tn_error *err);
bool rd_begins(const redisReply *reply,
               const char *prefix); /* an error reply with this first word */
/* What was asked was not done, for sure. */
bool rd_reply_surely_not(const redisReply *reply);
/* Another connection may lead to one that can: a replica, a server that is not ready. */
bool rd_reply_wrong_server(const redisReply *reply);

/* ---- options ------------------------------------------------------------------------------------ */

typedef struct rd_endpoint {
    char host[256]; /* or the path of a socket, with port 0 */
    uint16_t port;
} rd_endpoint;
typedef struct rd_address {
    struct sockaddr_storage addr;
    socklen_t n;
} rd_address;
#define RD_ADDRESSES_MAX 4u
typedef struct rd_addresses {
    rd_address list[RD_ADDRESSES_MAX];
    uint32_t n;
} rd_addresses;

typedef enum rd_mode { RD_SINGLE, RD_SENTINEL, RD_CLUSTER } rd_mode;
typedef struct rd_options {
    rd_mode mode;
    rd_endpoint seeds[RD_ENDPOINTS_MAX]; /* the server; the sentinels; some of the cluster */
    uint32_t n_seeds;
    tn_str master_name, user, password, sentinel_user, sentinel_password;
    tn_str prefix;
    int64_t db;
    bool allow_volatile, auto_setup, tls_verify;
    uint32_t wait_replicas;
    uint64_t wait_ns, connect_ns, command_ns;
    SSL_CTX *tls; /* NULL: none */
    char tls_name[256];
} rd_options;
/* Reads them; err names the line.  rd_options_done frees the TLS context. */
tn_status rd_options_read(const tn_host *host, const tn_config *cfg, rd_options *out,
                          tn_error *err);
void rd_options_done(rd_options *options);

/* ---- wire --------------------------------------------------------------------------------------- */

typedef struct rd_wire {
    int fd; /* -1: closed */
    SSL *ssl;
    bool connecting, shaking; /* TCP is not up yet; TLS is not */
    uint32_t wants;           /* TN_FD_*: what TLS waits for */
} rd_wire;
#define RD_AGAIN (-2)
tn_status rd_wire_open(rd_wire *wire, const rd_options *options, const rd_endpoint *endpoint,
                       const rd_address *address, tn_error *err);
/* TN_OK: up; TN_PENDING: wait for rd_wire_events; else it failed. */
tn_status rd_wire_advance(rd_wire *wire, tn_error *err);
/* Bytes; 0: the peer closed; -1: failed; RD_AGAIN. */
ssize_t rd_wire_read(rd_wire *wire, void *p, size_t n);
ssize_t rd_wire_write(rd_wire *wire, const void *p, size_t n);
uint32_t rd_wire_events(const rd_wire *wire, bool has_output);
void rd_wire_close(rd_wire *wire);
/* Blocking; TN_OK with at least one address. */
tn_status rd_resolve(const rd_endpoint *endpoint, rd_addresses *out, tn_error *err);
bool rd_resolve_plain(const rd_endpoint *endpoint, rd_addresses *out); /* no look-up needed */

/* ---- scripts and the hello ---------------------------------------------------------------------- */

typedef enum rd_script { RD_SCRIPT_COMMIT, RD_SCRIPT_SCAN, RD_SCRIPTS } rd_script;
extern const char *const rd_script_text[RD_SCRIPTS];

typedef struct rd_inst rd_inst;
typedef enum rd_target {
    RD_TO_SERVER,
    RD_TO_SENTINEL, /* is asked for the master */
    RD_TO_NODE,     /* of a cluster */
    RD_TO_TOOL      /* a server, from the schema tool: whatever the schema is */
} rd_target;
/* What a server's answers to the hello said. */
typedef struct rd_told {
    rd_endpoint master; /* by a sentinel */
    uint32_t schema;    /* stored version, 0: none */
} rd_told;
/* Appends the commands; returns how many replies will come. */
uint32_t rd_hello_put(const rd_options *options, rd_target target, rd_buf *out);
/* Judges the reply number `index`. */
tn_status rd_hello_check(const rd_options *options, rd_target target, uint32_t index,
                         const redisReply *reply, rd_told *told, tn_error *err);
tn_status rd_schema_wrong(const rd_options *options, uint32_t stored, tn_error *err);

/* ---- one connection that waits [main] ----------------------------------------------------------- */

typedef struct rd_sync {
    const tn_host *host;
    const rd_options *options;
    rd_wire wire;
    redisReader *reader;
    rd_endpoint at;
} rd_sync;
/* Connects and says hello.  With Sentinel: finds the master first (endpoint NULL: by the options). */
tn_status rd_sync_open(rd_sync *sync, const tn_host *host, const rd_options *options,
                       const rd_endpoint *endpoint, rd_target target, rd_told *told, tn_error *err);
void rd_sync_close(rd_sync *sync);
/* Sends what is in `command` (one command) and waits for its reply; the caller frees it. */
tn_status rd_sync_ask(rd_sync *sync, rd_buf *command, redisReply **out, tn_error *err);
/* Words, NULL-ended. */
tn_status rd_sync_words(rd_sync *sync, redisReply **out, tn_error *err, ...);

/* ---- the map of a cluster (route.c) ------------------------------------------------------------- */

typedef struct rd_map {
    rd_endpoint nodes[RD_NODES_MAX];
    uint32_t n_nodes;
    uint16_t slots[RD_SLOTS];
} rd_map;
/* From the answer to CLUSTER SLOTS that `asked` gave. */
tn_status rd_map_parse(rd_map *map, const redisReply *reply, const rd_endpoint *asked,
                       tn_error *err);
uint16_t rd_slot_of(const uint8_t *partition, size_t n);
uint16_t rd_slot_of_text(const char *tag, size_t n);

/* ---- an instance -------------------------------------------------------------------------------- */

struct rd_inst {
    const tn_host *host;
    rd_options options;
    rd_map *map; /* as it was at the start; cluster only */
    char sha[RD_SCRIPTS][41];
    tn_metric *m_groups, *m_commits, *m_connects, *m_redirects, *m_seconds;
};

/* ---- links [loop] ------------------------------------------------------------------------------- */

typedef struct rd_ctx rd_ctx;
typedef struct rd_link rd_link;
typedef struct rd_request rd_request;

/* Something to be sent and answered once.  Its owner embeds it; it is in one link's hands from submit to
 * its end, which is `failed` or the `reply` with left == 0. */
struct rd_request {
    rd_request *next;
    rd_ctx *ctx;
    /* Appends the commands and returns how many replies they will get; called when they leave. */
    uint32_t (*put)(rd_request *request, rd_buf *out);
    /* reply is freed afterwards unless taken (set *reply NULL). */
    void (*reply)(rd_request *request, rd_link *from, uint32_t index, redisReply **reply);
    /* sent: it left entirely, so the server may have done it. */
    void (*failed)(rd_request *request, bool sent, const tn_error *err);
    uint64_t deadline_ns;
    uint64_t end; /* of its bytes, counted from the link's first */
    uint32_t n, left;
    uint32_t repeats; /* how often it may be sent again when its connection broke: it only reads */
};

rd_link *rd_link_create(rd_ctx *ctx, const rd_endpoint *endpoint);
void rd_link_destroy(rd_link *link);
void rd_link_submit(rd_link *link, rd_request *request);
/* After a reply that says this is not the server to write to: drops the connection when the replies at hand
 * are dealt with. */
void rd_link_doom(rd_link *link, const tn_error *why);
/* It is connected to a server that is not the master any more: connects anew when asked. */
void rd_link_leave(rd_link *link);
const rd_endpoint *rd_link_endpoint(const rd_link *link);

typedef struct rd_resolving rd_resolving;
/* done(user, addresses or NULL, err) on this loop, not from inside; cancel: it will not come. */
rd_resolving *rd_resolve_start(rd_ctx *ctx, const rd_endpoint *endpoint,
                               void (*done)(void *user, const rd_addresses *found,
                                            const tn_error *err),
                               void *user);
void rd_resolve_cancel(rd_resolving *job);

/* ---- a loop's context and routes ---------------------------------------------------------------- */

typedef enum rd_lane { RD_LANE_WRITE, RD_LANE_READ, RD_LANES } rd_lane;
typedef struct rd_node {
    rd_endpoint endpoint;
    rd_link *links[RD_LANES]; /* made when first used */
} rd_node;
struct rd_ctx {
    rd_inst *inst;
    tn_loop *loop;
    rd_node *nodes; /* nodes[0] is all there is without a cluster */
    uint32_t n_nodes;
    uint16_t *slots; /* cluster only */
    rd_request refresh;
    bool refreshing;
    uint32_t refresh_at; /* the node asked last */
    uint64_t refreshed_ns;
};
rd_ctx *rd_ctx_create(rd_inst *inst, tn_loop *loop);
void rd_ctx_destroy(rd_ctx *ctx);
/* NULL: no memory. */
rd_link *rd_route(rd_ctx *ctx, uint16_t slot, rd_lane lane);
/* After MOVED or ASK: the link to go to, or NULL when the answer makes no sense. */
rd_link *rd_redirect(rd_ctx *ctx, const redisReply *reply, const rd_link *from, rd_lane lane,
                     bool *out_ask);
/* `link` found a master: connections of this loop to another one must not go on reading there. */
void rd_ctx_moved(rd_ctx *ctx, const rd_link *link);
/* The map may be old: asks for it, once a second at most. */
void rd_refresh(rd_ctx *ctx);

/* ---- keys --------------------------------------------------------------------------------------- */

/* prefix{hex of the partition}:table, ...:table:z, ...:v; each into out, returns its length. */
#define RD_KEY_MAX 320u
typedef enum rd_part { RD_ROWS, RD_ORDER, RD_COUNTER } rd_part;
size_t rd_key_name(const rd_options *options, tn_blob partition, uint32_t table, rd_part part,
                   char out[RD_KEY_MAX]);
size_t rd_schema_name(const rd_options *options, char out[RD_KEY_MAX]);
bool rd_key_lawful(const tn_key *key);
/* Of a row: over table, partition, row, value. */
uint32_t rd_row_sum(const tn_key *key, tn_blob value);
/* Opens a stored value; false: damaged.  out points into the bytes. */
bool rd_row_open(const tn_key *key, const uint8_t *p, size_t n, uint64_t *out_version,
                 tn_blob *out_value);

/* ---- operations --------------------------------------------------------------------------------- */

tn_status rd_get(void *ctx, tn_op *op, const tn_key *key, tn_row *out);
tn_status rd_scan(void *ctx, tn_op *op, const tn_range *range, tn_page *out);
void rd_commit(void *ctx, tn_commit_req *const *reqs, size_t n);
tn_status rd_ping(void *ctx, tn_op *op);

tn_status rd_schema(const tn_host *host, const tn_config *cfg, tn_schema_req *req, tn_error *err);
/* Writes the key that says which layout this is. */
tn_status rd_schema_setup(const tn_host *host, const rd_options *options, tn_error *err);

static inline void rd_count(const rd_inst *inst, tn_metric *metric, double value)
{
    if (metric)
        inst->host->metric_add(metric, value);
}

#endif
