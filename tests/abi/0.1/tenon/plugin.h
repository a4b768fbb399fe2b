/* SPDX-License-Identifier: MIT */
/* tenon/plugin.h - the whole contract between the server and a plugin (ABI 0.1).
 *
 * A plugin includes this header and nothing else of ours.  It links against nothing of ours either:
 * everything it may call arrives in struct tn_host.
 *
 * Who owns memory
 *   1. Inputs belong to the caller and live until the operation finishes.
 *   2. Outputs point into the operation's arena (op_alloc) or at static data.
 *   3. Nobody frees the other side's memory; there is no shared malloc.
 *   4. Errors are a fixed-size struct that the caller provides.
 *
 * How an operation ends
 *   A function returns TN_OK (the result is filled in), a negative status (it failed; op_explain may
 *   have given the text) or TN_PENDING.  After TN_PENDING the plugin calls op_finish exactly once, from
 *   any thread; the server goes on on the loop that asked, never inside the plugin's stack.  After
 *   TN_OK or a negative status it must not call op_finish.  The op, its arena and its inputs live
 *   until the end, also when the server has stopped waiting (deadline).
 *
 * Thread tags
 *   [any]  any thread, at any time between open and close;
 *   [loop] the loop thread that issued the operation (with the ctx of that loop);
 *   [main] start-up and shut-down thread, never concurrently.
 *   Blocking in a [loop] function is a bug of the plugin: use offload or a thread of its own.
 *
 * Growth: members are only appended; struct_size and the version say what the peer knows.
 * Times are nanoseconds; wall times since 1970-01-01 UTC.  Strings are UTF-8 without NUL inside and are
 * not NUL-terminated unless said.
 */
#ifndef TN_PLUGIN_H
#define TN_PLUGIN_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define TN_PLUGIN_MAGIC     UINT64_C(0x3147554c504e5401) /* "\x01TNPLUG1" in memory */
#define TN_PLUGIN_ABI_MAJOR 0
#define TN_PLUGIN_ABI_MINOR 1
#define TN_EXPORT           __attribute__((visibility("default")))

/* True when the peer's table is long enough to hold a member, and the member is set. */
#define TN_HAS(tbl, size, type, member) \
    ((size) >= offsetof(type, member) + sizeof((tbl)->member) && (tbl)->member)

typedef uint32_t tn_kind; /* never a C enum: its width must not move */
#define TN_KIND_PERSISTENCE  1u
#define TN_KIND_VISIBILITY   2u
#define TN_KIND_CLAIM_MAPPER 3u
#define TN_KIND_AUTHORIZER   4u

typedef int32_t tn_status;
#define TN_OK            0  /* finished; the result is filled in                        */
#define TN_PENDING       1  /* accepted; op_finish will be called once                  */
#define TN_ENOTFOUND    -1  /* surely did not happen: the row is not there              */
#define TN_ECONFLICT    -2  /* surely did not happen: a condition failed                */
#define TN_EFENCED      -3  /* surely did not happen: the caller no longer owns it      */
#define TN_EINVALID     -4  /* surely did not happen: the request is wrong              */
#define TN_ETOOLARGE    -5
#define TN_ETHROTTLED   -6
#define TN_EUNAVAILABLE -7  /* surely not applied; worth trying again                   */
#define TN_EDENIED      -8
#define TN_EUNCERTAIN   -9  /* a write may or may not have been applied                 */
#define TN_ECANCELLED  -10
#define TN_EINTERNAL   -11
#define TN_EDATALOSS   -12  /* what was stored is damaged                               */

typedef struct tn_str  { const char    *p; size_t n; } tn_str;  /* UTF-8 */
typedef struct tn_blob { const uint8_t *p; size_t n; } tn_blob;

typedef struct tn_error { /* caller-owned, fixed size: nothing to free */
    tn_status code;
    int32_t   vendor_code;  /* the library's own number, 0 when none */
    char      text[248];    /* NUL-terminated */
} tn_error;

typedef struct tn_op     tn_op;     /* one operation in flight (host-owned) */
typedef struct tn_loop   tn_loop;   /* one event loop (host-owned)          */
typedef struct tn_timer  tn_timer;
typedef struct tn_watch  tn_watch;
typedef struct tn_metric tn_metric;
typedef struct tn_config tn_config; /* the plugin's subtree of the YAML     */

#define TN_LEVEL_DEBUG 0
#define TN_LEVEL_INFO  1
#define TN_LEVEL_WARN  2
#define TN_LEVEL_ERROR 3

#define TN_METRIC_COUNTER   1
#define TN_METRIC_GAUGE     2
#define TN_METRIC_HISTOGRAM 3 /* of seconds */

#define TN_FD_READ  1u
#define TN_FD_WRITE 2u

typedef struct tn_host {
    uint32_t struct_size;
    uint16_t abi_major, abi_minor;
    uint64_t features; /* none defined yet */

    /* who: the instance pointer or NULL; never put payloads, tokens or keys into a message. */
    void (*log)(const void *who, int32_t level, const char *msg, size_t n); /* [any] */
    uint64_t (*now_ns)(void);      /* [any] wall clock                    */
    uint64_t (*mono_ns)(void);     /* [any] monotonic clock               */

    /* The plugin's own YAML subtree.  path: "a.b.c" or "list.0.name".  TN_ENOTFOUND: not set (err is
     * left alone); TN_EINVALID: set, but not of that type; err says file, line and what it should be.
     * Values are valid until close.  [main] */
    tn_status (*cfg_str)(const tn_config *, const char *path, tn_str *out, tn_error *);
    tn_status (*cfg_i64)(const tn_config *, const char *path, int64_t *out, tn_error *);
    tn_status (*cfg_bool)(const tn_config *, const char *path, int32_t *out, tn_error *);
    tn_status (*cfg_f64)(const tn_config *, const char *path, double *out, tn_error *);
    tn_status (*cfg_dur_ns)(const tn_config *, const char *path, uint64_t *out, tn_error *);
    /* A string given in place, or by path + "File" / path + "Env" / path + "Command". */
    tn_status (*cfg_secret)(const tn_config *, const char *path, tn_str *out, tn_error *);
    /* Number of list elements or map keys at path, 0 when not set. */
    size_t (*cfg_count)(const tn_config *, const char *path);
    /* Fills err with "FILE:LINE: KEY: <text>" so that the plugin's own complaint names its place. */
    void (*cfg_complain)(const tn_config *, const char *path, const char *text, tn_error *);

    /* Operations. */
    void    *(*op_alloc)(tn_op *, size_t n, size_t align);       /* owner of the op; zeroed; NULL past the limit */
    uint64_t (*op_deadline_ns)(const tn_op *);                   /* [any] monotonic; UINT64_MAX: none */
    void     (*op_explain)(tn_op *, const tn_error *);           /* [loop] text for a negative return */
    void     (*op_finish)(tn_op *, tn_status, const tn_error *); /* [any], exactly once after TN_PENDING */

    /* Loop services [loop] unless tagged. */
    tn_watch *(*watch_fd)(tn_loop *, int fd, uint32_t events, void (*cb)(void *, uint32_t), void *);
    void      (*watch_set)(tn_watch *, uint32_t events);
    void      (*watch_free)(tn_watch *);
    tn_timer *(*timer_start)(tn_loop *, uint64_t delay_ns, void (*cb)(void *), void *);
    void      (*timer_stop)(tn_timer *); /* also after it fired: each timer is stopped exactly once */
    tn_status (*post)(tn_loop *, void (*cb)(void *), void *); /* [any] */
    tn_status (*offload)(tn_loop *, void (*work)(void *), void (*done)(void *), void *);

    /* Metrics.  metric [main]; name without prefix, it appears as tenon_plugin_<plugin>_<name>. */
    tn_metric *(*metric)(const void *who, const char *name, int32_t type, const char *help);
    void       (*metric_add)(tn_metric *, double); /* [any] */

    /* Named extensions, NULL when absent. */
    const void *(*extension)(const char *id);
} tn_host;

/* What `tenonctl schema` asks of a driver.  It runs in a process of its own or before open, so it may
 * block; it connects by the same subtree of configuration as open and leaves nothing behind but the
 * schema.  Schema versions are 1, 2, ...; 0: there is none yet. */
#define TN_SCHEMA_VERSION 1u /* fills `stored` and `wanted`, changes nothing                          */
#define TN_SCHEMA_SETUP   2u /* makes the schema at version `to`; TN_OK when it is there already       */
#define TN_SCHEMA_UPDATE  3u /* from the stored version up to `to`; TN_EINVALID for backwards          */
#define TN_SCHEMA_CHECK   4u /* compares what is there, object by object, with what `stored` should    */
                             /* be; each difference is a line to emit; TN_ECONFLICT when there are any */
#define TN_SCHEMA_DUMP    5u /* emits the statements that make version `to` from nothing               */
#define TN_SCHEMA_DRY_RUN 1u /* flag of SETUP and UPDATE: emits the statements, executes none          */
typedef struct tn_schema_req {
    uint32_t struct_size, verb, flags;
    uint32_t to;              /* 0: the newest that the driver knows */
    uint32_t stored, wanted;  /* out, by every verb but DUMP */
    void (*emit)(void *user, const char *text, size_t n); /* whole lines */
    void *user;
} tn_schema_req;

typedef struct tn_plugin {
    uint64_t    magic;                /* TN_PLUGIN_MAGIC                              */
    uint32_t    struct_size;          /* sizeof(tn_plugin)                            */
    uint16_t    abi_major, abi_minor; /* the header the plugin was compiled with      */
    tn_kind     kind;
    uint32_t    ops_size;             /* sizeof(tn_<kind>_ops)                        */
    uint64_t    caps;                 /* what this plugin offers (TN_CAP_*)           */
    uint64_t    needs;                /* host features it cannot work without         */
    const char *name, *version, *vendor;
    /* Every key of the subtree the plugin reads, one a line "path type default - meaning";
     * a key that is not listed here is refused with its line. */
    const char *config_keys;
    tn_status (*open)  (const tn_host *, const tn_config *, void **inst, tn_error *); /* [main] */
    /* attach and detach: both or neither; without them the instance is the context of every loop. */
    tn_status (*attach)(void *inst, tn_loop *, void **ctx, tn_error *);               /* [loop] */
    void      (*detach)(void *inst, void *ctx);                                       /* [loop] no op is in flight on it */
    void      (*close) (void *inst);                                                  /* [main] after the last detach */
    const void *ops;                  /* tn_<kind>_ops                                */
    /* Since 0.1.  Optional: storage whose schema an operator sets up.  open of such a plugin fails with
     * a text that says both versions and the command to type when the stored schema is not the one it wants. */
    tn_status (*schema)(const tn_host *, const tn_config *, tn_schema_req *, tn_error *); /* [main] */
} tn_plugin;

/* The one exported symbol.  Returns the index-th plugin of this library, or NULL past the last.
 * No side effects; static storage. */
TN_EXPORT const tn_plugin *tn_plugin_v0(uint32_t index);

/* ---- authorizer -------------------------------------------------------------------------------- */

#define TN_ROLE_WORKER 1u
#define TN_ROLE_READER 2u
#define TN_ROLE_WRITER 4u
#define TN_ROLE_ADMIN  8u

typedef struct tn_role_grant { tn_str ns; uint32_t roles; uint32_t pad_; } tn_role_grant;
typedef struct tn_claims {
    uint32_t struct_size, system_roles;
    tn_str subject, auth_type;
    const tn_role_grant *grants; size_t n_grants;
    const void *extensions;      /* opaque; owned by the op's arena; from a plugin to a plugin of one library */
    uint32_t present, pad_;      /* 0: the caller showed nothing (no claims at all) */
} tn_claims;

#define TN_ACCESS_READ  1u
#define TN_ACCESS_WRITE 2u
#define TN_ACCESS_ADMIN 3u
#define TN_SCOPE_NAMESPACE 1u
#define TN_SCOPE_CLUSTER   2u
typedef struct tn_call_target {
    uint32_t struct_size, access; /* TN_ACCESS_*, 0 unknown */
    uint32_t scope, pad_;         /* TN_SCOPE_*, 0 unknown  */
    tn_str api_name;              /* "/temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution" */
    tn_str ns, nexus_endpoint, workflow_id, workflow_type, task_queue; /* empty: not in the call */
    tn_str message_type; tn_blob message; /* the request, still encoded */
} tn_call_target;

#define TN_DENY  1u
#define TN_ALLOW 2u
typedef struct tn_decision {
    uint32_t struct_size, verdict; /* 0 is not a verdict; the host denies */
    tn_str reason, principal;
} tn_decision;
typedef struct tn_authorizer_ops {
    tn_status (*authorize)(void *ctx, tn_op *, const tn_claims *, const tn_call_target *, tn_decision *out); /* [loop] */
} tn_authorizer_ops;

/* ---- claim mapper ------------------------------------------------------------------------------ */

typedef struct tn_auth_info {
    uint32_t struct_size, pad_;
    tn_str authorization, extra_data, audience; /* headers authorization, authorization-extras; the call's audience */
    tn_blob peer_cert_der; tn_str tls_subject, peer_address;
} tn_auth_info;
/* Without this cap, `map` is not called for a peer that shows neither a certificate nor a header. */
#define TN_CAP_MAP_ANONYMOUS (UINT64_C(1) << 0)
typedef struct tn_claim_mapper_ops {
    tn_status (*map)(void *ctx, tn_op *, const tn_auth_info *, tn_claims *out); /* [loop] */
} tn_claim_mapper_ops;

/* ---- persistence -------------------------------------------------------------------------------
 * Rows in numbered tables (1..63), each keyed by (partition, row), ordered by row bytes (memcmp,
 * shorter first) within (table, partition).  partition: 1..64 bytes; row: 0..1100 bytes; a value up
 * to 64 MiB.  Every row has a version that the driver gives it: a number that only rises within a
 * partition, new at each put. */

typedef struct tn_key { uint32_t table, pad_; tn_blob partition, row; } tn_key;
typedef struct tn_row { tn_key key; tn_blob value; uint64_t version; } tn_row;

#define TN_COND_VERSION 1u /* the row is there and has this version; else TN_ECONFLICT      */
#define TN_COND_ABSENT  2u /* the row is not there; else TN_ECONFLICT                       */
#define TN_COND_FENCE   3u /* as TN_COND_VERSION, but failing it means TN_EFENCED, and that */
                           /* result wins over a conflict                                   */
typedef struct tn_cond { uint32_t test, pad_; tn_key key; uint64_t version; } tn_cond;

#define TN_MUT_PUT          1u
#define TN_MUT_DELETE       2u /* a row that is not there: nothing                      */
#define TN_MUT_DELETE_RANGE 3u /* rows key.row <= r < end.row of key's partition        */
typedef struct tn_mut { uint32_t verb, pad_; tn_key key, end; tn_blob value; uint64_t ttl_ns; /* 0 */ } tn_mut;

/* All or nothing: conditions are tested, then mutations applied in order, as one atomic and (with
 * TN_CAP_DURABLE) durable step.  All keys of a batch lie in one partition unless the driver has
 * TN_CAP_ATOMIC_CROSS_PARTITION. */
typedef struct tn_batch {
    uint32_t struct_size, flags; /* 0 */
    const tn_cond *conds; size_t n_conds;
    const tn_mut  *muts;  size_t n_muts;
} tn_batch;
typedef struct tn_commit {
    uint32_t struct_size;
    uint32_t failed_cond;  /* with TN_ECONFLICT/TN_EFENCED: index of the condition             */
    tn_row   current;      /* with TN_ECONFLICT: the row that is there (value in the op arena);
                            * version 0: there is none                                        */
    uint64_t version;      /* with TN_OK: the version of every row this batch put              */
} tn_commit;

/* A driver gets the commits that are ready together as one group.  Each member succeeds or fails by
 * itself, in order (a later member sees the earlier ones' effects); members share one transaction,
 * one round trip and one fsync where the driver can.  The driver sets `status` of every member before
 * it returns: TN_OK, negative, or TN_PENDING and then op_finish(op). */
typedef struct tn_commit_req {
    uint32_t struct_size;
    tn_status status;
    tn_op *op;
    const tn_batch *batch;
    tn_commit *out;
} tn_commit_req;

#define TN_RANGE_REVERSE   1u /* from the greatest row < to.row down to from.row */
#define TN_RANGE_KEYS_ONLY 2u
typedef struct tn_range {
    uint32_t struct_size, flags;
    tn_key from;    /* table, partition, first row (inclusive; empty: the beginning) */
    tn_blob to_row; /* exclusive; p NULL: to the end of the partition */
    uint32_t limit; /* rows at most, 1..10,000 */
    uint32_t bytes_max; /* stop after about so many bytes of values (at least one row); 0: no limit */
    tn_blob page;   /* `next` of the page before, or empty */
} tn_range;
typedef struct tn_page {
    uint32_t struct_size, pad_;
    const tn_row *rows; size_t n_rows;
    tn_blob next;   /* empty: no more */
} tn_page;

#define TN_CAP_ATOMIC_CROSS_TABLE     (UINT64_C(1) << 0) /* required */
#define TN_CAP_ATOMIC_CROSS_PARTITION (UINT64_C(1) << 1)
#define TN_CAP_TTL                    (UINT64_C(1) << 2)
#define TN_CAP_RANGE_DELETE           (UINT64_C(1) << 3) /* required */
#define TN_CAP_DURABLE                (UINT64_C(1) << 4) /* TN_OK means: survives a power cut */
typedef struct tn_persistence_ops {
    tn_status (*get)   (void *ctx, tn_op *, const tn_key *, tn_row *out);       /* [loop] TN_ENOTFOUND */
    tn_status (*scan)  (void *ctx, tn_op *, const tn_range *, tn_page *out);    /* [loop] */
    void      (*commit)(void *ctx, tn_commit_req *const *reqs, size_t n);       /* [loop] */
    tn_status (*migrate)(void *inst, uint32_t from, uint32_t to, tn_error *);   /* [main], optional */
    tn_status (*ping)  (void *ctx, tn_op *);                                    /* [loop], optional */
} tn_persistence_ops;

/* ---- visibility ---------------------------------------------------------------------------------
 * Documents (one a run) of named, typed attributes, listed and counted by a filter.  The server parses
 * the filter; a driver translates a tree. */

#define TN_ATTR_TEXT         1u /* UTF-8; matched by words                          */
#define TN_ATTR_KEYWORD      2u /* UTF-8                                            */
#define TN_ATTR_INT          3u /* int64, 8 bytes big-endian two's complement       */
#define TN_ATTR_DOUBLE       4u /* IEEE 754, 8 bytes big-endian                     */
#define TN_ATTR_BOOL         5u /* 1 byte, 0 or 1                                   */
#define TN_ATTR_DATETIME     6u /* int64 ns since 1970, 8 bytes big-endian          */
#define TN_ATTR_KEYWORD_LIST 7u /* each: u32 big-endian length, bytes               */
typedef struct tn_attr { tn_str name; uint32_t type, pad_; tn_blob value; } tn_attr;

typedef struct tn_vis_doc {
    uint32_t struct_size, pad_;
    tn_str ns_id, workflow_id, run_id;
    uint64_t version;             /* an older or equal one than what is stored is dropped (TN_OK) */
    const tn_attr *attrs; size_t n_attrs; /* the whole set, system ones too; replaces the old set */
    tn_blob memo;                 /* opaque */
} tn_vis_doc;

/* The filter in postfix order: a comparison pushes a truth value, AND/OR pop `arity`, NOT pops one.
 * A comparison with an attribute that a document does not have is false, TN_VIS_NE and
 * TN_VIS_NOT_IN and TN_VIS_NOT_STARTS included in the sense of SQL: NULL is not a match. */
#define TN_VIS_AND 1u
#define TN_VIS_OR  2u
#define TN_VIS_NOT 3u
#define TN_VIS_EQ  10u
#define TN_VIS_NE  11u
#define TN_VIS_LT  12u
#define TN_VIS_LE  13u
#define TN_VIS_GT  14u
#define TN_VIS_GE  15u
#define TN_VIS_IN      16u /* any of values; KEYWORD_LIST: has any of them */
#define TN_VIS_NOT_IN  17u
#define TN_VIS_BETWEEN 18u /* values[0] <= x <= values[1] */
#define TN_VIS_IS_NULL  19u
#define TN_VIS_NOT_NULL 20u
#define TN_VIS_STARTS     21u
#define TN_VIS_NOT_STARTS 22u
typedef struct tn_vis_node {
    uint32_t op, arity;           /* arity: for AND and OR */
    tn_str name; uint32_t type, n_values;
    const tn_blob *values;        /* each encoded as `type` says; for KEYWORD_LIST as KEYWORD */
} tn_vis_node;
typedef struct tn_vis_order { tn_str name; uint32_t type, descending; } tn_vis_order;
typedef struct tn_vis_query {
    uint32_t struct_size, limit;  /* 1..1000 documents, list only */
    tn_str ns_id;
    const tn_vis_node *filter; size_t n_filter;   /* none: everything */
    /* Empty: running ones first, then CloseTime descending, then StartTime descending; the run id breaks ties always. */
    const tn_vis_order *order; size_t n_order;
    const tn_attr *group_by; size_t n_group_by;   /* count only; name and type */
    tn_blob page;                 /* `next` of the page before; stable under writes */
} tn_vis_query;
typedef struct tn_vis_group { const tn_attr *values; uint64_t count; } tn_vis_group; /* one value for each group_by */
typedef struct tn_vis_page {
    uint32_t struct_size, pad_;
    const tn_vis_doc *docs; size_t n_docs; tn_blob next; /* list  */
    uint64_t count; const tn_vis_group *groups; size_t n_groups; /* count */
} tn_vis_page;

typedef struct tn_visibility_ops {
    tn_status (*put)   (void *ctx, tn_op *, const tn_vis_doc *);                   /* [loop] TN_OK: durable */
    tn_status (*remove)(void *ctx, tn_op *, const tn_vis_doc *key);                /* [loop] ns_id, run_id */
    tn_status (*list)  (void *ctx, tn_op *, const tn_vis_query *, tn_vis_page *out);
    tn_status (*count) (void *ctx, tn_op *, const tn_vis_query *, tn_vis_page *out);
    tn_status (*define)(void *ctx, tn_op *, const tn_attr *attrs, size_t n);       /* idempotent: name, type */
} tn_visibility_ops;

#ifdef __cplusplus
}
#endif
#endif
