/* SPDX-License-Identifier: MIT */
/* The way out: one channel a loop, host and role, made when first needed and closed when the host is gone.  An answer
 * "not the owner", or a host that could not be reached, gives the baton back unserved; a connection that broke while a
 * call was out leaves its outcome open, and the caller is told UNAVAILABLE. */
#include "client/remote.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/crowd.h"
#include "client/door.h"
#include "client/shardmap.h"
#include "client/wire.h"
#include "metrics/metrics.h"
#include "namespace/endpoint.h"
#include "proto/proto.h"
#include "rpc/client.h"

typedef struct host_channel {
    tn_list link;
    uint8_t host_id[16];
    uint32_t service;
    tn_channel *channel;
} host_channel;

#define LATELY 64u

typedef struct remote_loop {
    tn_list channels;
    host_channel *lately[LATELY]; /* those used last, by host and role: the list is cold memory */
    tn_map polls;                 /* poll_call by poll id */
    tn_map crowds;
} remote_loop;

static remote_loop *loops;
/* ---- channels ---- */

static void channel_broken(void *user)
{
    host_channel *hc = user;
    tn_members_doubt(hc->host_id);
}

static remote_loop *mine(void) { return &loops[tn_loop_index(tn_loop_current())]; }

static bool leads_to(const host_channel *hc, const tn_member *owner, uint32_t service)
{
    return hc->service == service && memcmp(hc->host_id, owner->host_id, 16) == 0;
}

static tn_channel *channel_to(const tn_member *owner, uint32_t service)
{
    remote_loop *rl = mine();
    host_channel **place = &rl->lately[(owner->host_id[0] + service) % LATELY];
    if (*place && leads_to(*place, owner, service))
        return (*place)->channel;
    TN_LIST_FOREACH (link, &rl->channels) {
        host_channel *hc = TN_CONTAINER_OF(link, host_channel, link);
        if (leads_to(hc, owner, service)) {
            *place = hc;
            return hc->channel;
        }
    }
    host_channel *hc = *place = tn_xcalloc(1, sizeof(*hc));
    memcpy(hc->host_id, owner->host_id, 16);
    hc->service = service;
    hc->channel =
        tn_channel_create(owner->ip, owner->role_ports[service], NULL, channel_broken, hc);
    if (service == TN_SERVICE_FRONTEND) {
        tn_channel_to_frontend(hc->channel);
        tn_channel_share_pipes(hc->channel, owner->host_id);
    } else {
        tn_channel_to_host(hc->channel, owner->host_id);
    }
    tn_list_push_back(&rl->channels, &hc->link);
    return hc->channel;
}

struct tn_channel *tn_remote_channel(const tn_member *owner, uint32_t service)
{
    return channel_to(owner, service);
}

/* Hosts that have died or left: what is on its way to them ends now. */
static void members_changed(void)
{
    remote_loop *rl = mine();
    tn_client_ring_changed();
    if (tn_loop_index(tn_loop_current()) == 0) { /* who was away may have missed a change, or we */
        tn_deployments_refresh(NULL, NULL);
        tn_namespace_reread();
        tn_shardmap_refresh();
    }
    TN_LIST_FOREACH_SAFE (link, &rl->channels) {
        host_channel *hc = TN_CONTAINER_OF(link, host_channel, link);
        const tn_member *member = tn_members_find(hc->host_id);
        if (member && member->state <= TN_MEMBER_SUSPECT)
            continue;
        memset(rl->lately, 0, sizeof(rl->lately));
        tn_list_remove(&hc->link);
        tn_channel_destroy(hc->channel);
        free(hc);
    }
}

/* ---- headers that travel along ---- */

static void take_along(tn_outcall *out, const tn_call *call)
{
    static const char *const names[] = {"client-name", "client-version", "supported-features"};
    for (size_t i = 0; call && i < TN_COUNT_OF(names); i++) {
        tn_str value = tn_call_header(call, names[i]);
        if (value.n)
            out->headers[out->n_headers++] = (tn_outcall_header){tn_str_from(names[i]), value};
    }
}

/* ---- history ---- */

typedef struct history_call {
    tn_outcall out; /* first */
    tn_hreq *req;
} history_call;

/* Reads, and an update, which its id keeps from being taken in twice. */
static bool may_be_repeated(tn_hop op)
{
    return op == TN_HOP_DESCRIBE || op == TN_HOP_GET_HISTORY || op == TN_HOP_GET_HISTORY_REVERSE ||
           op == TN_HOP_QUERY || op == TN_HOP_UPDATE || op == TN_HOP_POLL_UPDATE;
}

static void history_answered(tn_outcall *out)
{
    tn_hreq *req = ((history_call *)out)->req;
    bool lost = out->fault && out->broken && !out->unsent && may_be_repeated(req->op);
    req->fault = out->fault;
    req->not_owner = out->fault && (out->unsent || lost);
    req->taken_in = req->taken_in || (lost && req->op == TN_HOP_UPDATE);
    if (!out->fault && tn_wire_close_history(out->response, req) != TN_OK)
        req->fault =
            tn_fault_make(req->arena, TN_GRPC_INTERNAL, "the answer of another host is damaged");
    if (!req->fault && req->not_owner)
        req->fault = tn_fault_make(req->arena, TN_GRPC_UNAVAILABLE,
                                   "shard is moving to another host, try again");
    tn_client_history_done(req);
}

static void damaged(tn_outcall *out, tn_arena *arena)
{
    out->fault = tn_fault_make(arena, TN_GRPC_RESOURCE_EXHAUSTED,
                               "the request is too large for another host");
    out->unsent = false;
    out->done(out);
}

static void send_history(const tn_member *owner, tn_hreq *req)
{
    tn_arena_set_limit(req->arena, 0);
    history_call *hc = TN_NEW(req->arena, history_call);
    hc->req = req;
    hc->out = (tn_outcall){.arena = req->arena,
                           .path = TN_INTERNAL_HISTORY,
                           .deadline_mono_ns = req->deadline_mono_ns,
                           .done = history_answered};
    req->caller = tn_door_history_caller(req);
    hc->out.message = tn_wire_pack_history(req);
    take_along(&hc->out, req->call);
    if (hc->out.message.p)
        tn_outcall_send(channel_to(owner, TN_SERVICE_HISTORY), &hc->out);
    else
        damaged(&hc->out, req->arena);
}

/* ---- matching ---- */

typedef struct matching_call {
    tn_outcall out; /* first */
    tn_mreq *req;
    remote_loop *rl;
    tn_map_link by_poll;
    uint64_t poll_id; /* 0: no poll */
    tn_crowd_poll crowd;
    tn_poll_ref direct;
    bool settled;             /* by history, with... */
    ProtobufCMessage *answer; /* ...this; NULL: it must be asked again */
} matching_call;

static void matching_answered(tn_outcall *out)
{
    matching_call *mc = (matching_call *)out;
    tn_mreq *req = mc->req;
    if (mc->poll_id) {
        tn_map_remove(&mc->rl->polls, &mc->by_poll);
        tn_crowd_leave(&mc->rl->crowds, &mc->crowd);
    }
    req->accepted = false;
    if (mc->settled) {
        req->response = mc->answer;
        req->not_owner = !mc->answer;
        req->fault = mc->answer ? NULL
                                : tn_fault_make(req->arena, TN_GRPC_UNAVAILABLE,
                                                "the task was gone, try again");
        tn_client_matching_done(req);
        return;
    }
    req->fault = out->fault;
    req->not_owner = out->fault && out->unsent;
    /* A poll may be repeated whatever became of it: a task that was lost on the way times out and comes again. */
    if (out->fault && mc->poll_id && out->fault->code == TN_GRPC_UNAVAILABLE)
        req->not_owner = true;
    if (out->fault && out->broken && req->op == TN_MOP_QUERY) /* it only reads */
        req->not_owner = true;
    if (!out->fault && tn_wire_close_matching(out->response, req) != TN_OK)
        req->fault =
            tn_fault_make(req->arena, TN_GRPC_INTERNAL, "the answer of another host is damaged");
    if (!req->fault && req->not_owner)
        req->fault = tn_fault_make(req->arena, TN_GRPC_UNAVAILABLE,
                                   "task queue is moving to another host, try again");
    tn_client_matching_done(req);
}

/* Each time under a new name: what history says to an earlier one comes too late, and its task goes back. */
static void may_be_answered(matching_call *mc)
{
    tn_mreq *req = mc->req;
    mc->direct = (tn_poll_ref){.loop = tn_loop_index(tn_loop_current()),
                               .poll_id = req->poll_id,
                               .turn = tn_client_next_poll_id()};
    memcpy(mc->direct.host_id, tn_members_self_id(), sizeof(mc->direct.host_id));
    req->answer_to = !req->forwarded && req->type != TN_TASK_NEXUS ? &mc->direct : NULL;
}

static void send_matching(const tn_member *owner, tn_mreq *req)
{
    tn_arena_set_limit(req->arena, 0);
    matching_call *mc = TN_NEW(req->arena, matching_call);
    mc->req = req;
    mc->rl = mine();
    if (req->op == TN_MOP_POLL)
        may_be_answered(mc);
    mc->out =
        (tn_outcall){.arena = req->arena,
                     .path = TN_INTERNAL_MATCHING,
                     .deadline_mono_ns = req->op == TN_MOP_ADD ? tn_now_mono_ns() + 10 * TN_SEC
                                                               : req->deadline_mono_ns,
                     .done = matching_answered};
    req->caller = tn_door_matching_caller(req);
    mc->out.message = tn_wire_pack_matching(req);
    take_along(&mc->out, req->call);
    if (req->op == TN_MOP_POLL) {
        mc->poll_id = req->poll_id;
        tn_map_insert(&mc->rl->polls, &mc->by_poll,
                      tn_blob_from(&mc->poll_id, sizeof(mc->poll_id)));
        tn_crowd_join(&mc->rl->crowds, &mc->crowd, &mc->out, req);
    }
    if (mc->out.message.p)
        tn_outcall_send(channel_to(owner, TN_SERVICE_MATCHING), &mc->out);
    else
        damaged(&mc->out, req->arena);
}

static bool cancel_poll(uint64_t poll_id)
{
    tn_map_link *found =
        loops ? tn_map_find(&mine()->polls, tn_blob_from(&poll_id, sizeof(poll_id))) : NULL;
    if (!found)
        return false;
    tn_outcall_cancel(&TN_CONTAINER_OF(found, matching_call, by_poll)->out);
    return true;
}

/* Matching has let go of it: that nobody waits there any more it is told with the next poll, or soon. */
bool tn_remote_settle_poll(const tn_poll_ref *poll, const ProtobufCMessageDescriptor *of,
                           tn_blob packed)
{
    tn_map_link *found =
        loops ? tn_map_find(&mine()->polls, tn_blob_from(&poll->poll_id, sizeof(poll->poll_id)))
              : NULL;
    matching_call *mc = found ? TN_CONTAINER_OF(found, matching_call, by_poll) : NULL;
    if (!mc || mc->direct.turn != poll->turn || mc->settled || !tn_outcall_settle(&mc->out))
        return false;
    mc->settled = true;
    tn_arena *arena = mc->req->arena;
    mc->answer = of ? tn_proto_opaque(of, tn_arena_blob(arena, packed), arena) : NULL;
    return true;
}

/* ---- words that need no answer ---- */

typedef struct notice {
    tn_outcall out; /* first */
} notice;

static void notice_taken(tn_outcall *out) { tn_arena_destroy(out->arena); }

void tn_remote_notice(const tn_member *owner, uint32_t service, const char *path, tn_arena *arena,
                      const ProtobufCMessage *message)
{
    notice *n = TN_NEW(arena, notice);
    n->out = (tn_outcall){.arena = arena,
                          .path = path,
                          .deadline_mono_ns = tn_now_mono_ns() + 10 * TN_SEC,
                          .done = notice_taken};
    if (tn_proto_pack(message, arena, &n->out.message) == TN_OK)
        tn_outcall_send(channel_to(owner, service), &n->out);
    else
        tn_arena_destroy(arena);
}

static char *text(tn_arena *arena, tn_str s)
{
    return tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(s));
}

static void send_credit(const tn_member *owner, uint32_t shard, tn_str ns_id, tn_str queue,
                        uint32_t type)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__CreditCall call = TENON__CREDIT_CALL__INIT;
    call.shard = shard;
    call.ns_id = text(arena, ns_id);
    call.queue = text(arena, queue);
    call.type = type;
    tn_remote_notice(owner, TN_SERVICE_HISTORY, TN_INTERNAL_CREDIT, arena, &call.base);
}

static void send_close_shard(const tn_member *owner, uint32_t shard)
{
    Tenon__ShardCall call = TENON__SHARD_CALL__INIT;
    call.shard = shard;
    tn_remote_notice(owner, TN_SERVICE_HISTORY, TN_INTERNAL_CLOSE_SHARD, tn_arena_create(0),
                     &call.base);
}

static void send_retire(const tn_member *owner, const tn_namespace *ns, tn_str workflow_id,
                        tn_str run_id)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__RetireCall call = TENON__RETIRE_CALL__INIT;
    call.ns_id = text(arena, ns->id);
    call.workflow_id = text(arena, workflow_id);
    call.run_id = text(arena, run_id);
    tn_remote_notice(owner, TN_SERVICE_WORKER, TN_INTERNAL_RETIRE, arena, &call.base);
}

/* ---- a namespace was written: all other hosts read it before the writer is told ---- */

typedef struct telling {
    tn_arena *arena;
    size_t waiting;
    void (*told)(void *user);
    void *user;
} telling;

typedef struct telling_call {
    tn_outcall out; /* first */
    telling *all;
} telling_call;

static void one_told(telling *all)
{
    if (--all->waiting > 0)
        return;
    tn_arena *arena = all->arena;
    all->told(all->user);
    tn_arena_destroy(arena);
}

static void host_told(tn_outcall *out) { one_told(((telling_call *)out)->all); }

static uint32_t some_service(const tn_member *member)
{
    uint32_t service = 0;
    while (service < TN_SERVICE_COUNT &&
           (service == TN_SERVICE_FRONTEND || !member->role_ports[service]))
        service++;
    return service;
}

static void announce_what(tn_str ns_id, bool deployments, void (*told)(void *user), void *user)
{
    tn_arena *arena = tn_arena_create(0);
    telling *all = TN_NEW(arena, telling);
    *all = (telling){.arena = arena, .waiting = 1, .told = told, .user = user};
    Tenon__NamespaceCall call = TENON__NAMESPACE_CALL__INIT;
    call.ns_id = text(arena, ns_id);
    call.deployments = deployments;
    tn_blob packed = {0};
    bool ok = tn_proto_pack(&call.base, arena, &packed) == TN_OK;
    size_t count = 0;
    const tn_member *const *members = tn_members_list(&count);
    for (size_t i = 0; ok && i < count; i++) {
        if (memcmp(members[i]->host_id, tn_members_self_id(), 16) == 0)
            continue;
        telling_call *tc = TN_NEW(arena, telling_call);
        tc->all = all;
        tc->out = (tn_outcall){.arena = arena,
                               .path = TN_INTERNAL_NAMESPACE,
                               .message = packed,
                               .deadline_mono_ns = tn_now_mono_ns() + 2 * TN_SEC,
                               .done = host_told};
        uint32_t service = some_service(members[i]);
        if (service == TN_SERVICE_COUNT)
            service = TN_SERVICE_FRONTEND;
        all->waiting++;
        tn_outcall_send(channel_to(members[i], service), &tc->out);
    }
    one_told(all);
}

static void announce(tn_str ns_id, void (*told)(void *user), void *user)
{
    announce_what(ns_id, false, told, user);
}

static void announce_deployments(tn_str ns_id, void (*told)(void *user), void *user)
{
    announce_what(ns_id, true, told, user);
}

/* Another number of shards: whoever does not hear of it learns it from the calls that come back to it. */
static void announce_map(void)
{
    size_t count = 0;
    const tn_member *const *members = tn_members_list(&count);
    for (size_t i = 0; i < count; i++) {
        Tenon__Done done = TENON__DONE__INIT;
        uint32_t service = some_service(members[i]);
        if (memcmp(members[i]->host_id, tn_members_self_id(), 16) != 0)
            tn_remote_notice(members[i],
                             service == TN_SERVICE_COUNT ? TN_SERVICE_FRONTEND : service,
                             TN_INTERNAL_SHARD_MAP, tn_arena_create(0), &done.base);
    }
}

/* Endpoints were written here: who does not hear of it reads them again in a while by itself. */
static void announce_endpoints(uint64_t version)
{
    size_t count = 0;
    const tn_member *const *members = tn_members_list(&count);
    for (size_t i = 0; i < count; i++) {
        Tenon__EndpointsCall call = TENON__ENDPOINTS_CALL__INIT;
        uint32_t service = some_service(members[i]);
        call.version = version;
        if (memcmp(members[i]->host_id, tn_members_self_id(), 16) != 0)
            tn_remote_notice(members[i],
                             service == TN_SERVICE_COUNT ? TN_SERVICE_FRONTEND : service,
                             TN_INTERNAL_ENDPOINTS, tn_arena_create(0), &call.base);
    }
}

static bool moved(uint32_t service, tn_blob key)
{
    const tn_member *before = tn_members_owner_before(service, key),
                    *now = tn_members_owner_now(service, key);
    return !before || !now ? before != now : memcmp(before->host_id, now->host_id, 16) != 0;
}

static bool handed(uint32_t service, tn_blob key)
{
    const tn_member *before = tn_members_owner_before(service, key);
    const tn_member *now = before ? tn_members_find(before->host_id) : NULL;
    return now && now->state <= TN_MEMBER_SUSPECT &&
           memcmp(before->host_id, tn_members_self_id(), 16) != 0;
}

/* ---- figures ---- */

static double stat_of(void *user)
{
    tn_outcall_stats stats;
    tn_outcall_stats_get(&stats);
    return (double)*(const uint64_t *)(const void *)((const char *)&stats + (uintptr_t)user);
}

static void show_stats(void)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } shown[] = {
        {"tenon_internode_calls", "calls to other hosts' roles", offsetof(tn_outcall_stats, calls)},
        {"tenon_internode_calls_failed", "... that were answered with a fault, or not at all",
         offsetof(tn_outcall_stats, failed)},
        {"tenon_internode_bytes_sent", "bytes of such calls",
         offsetof(tn_outcall_stats, bytes_out)},
        {"tenon_internode_bytes_received", "bytes of their answers",
         offsetof(tn_outcall_stats, bytes_in)},
        {"tenon_internode_connects", "connections made to other hosts",
         offsetof(tn_outcall_stats, connects)},
        {"tenon_internode_connects_local", "... of them by local sockets",
         offsetof(tn_outcall_stats, connects_local)},
        {"tenon_internode_writes", "writes to sockets that carried such calls",
         offsetof(tn_outcall_stats, writes)},
        {"tenon_internode_calls_refused", "... that a circuit breaker kept back",
         offsetof(tn_outcall_stats, refused)},
        {"tenon_internode_calls_crowded",
         "... that were refused since too much waited for their host",
         offsetof(tn_outcall_stats, crowded)},
        {"tenon_internode_breakers_opened",
         "times that a host left calls without an answer and got none for a while",
         offsetof(tn_outcall_stats, breakers_opened)},
        {"tenon_internode_breakers_open",
         "circuit breakers that are open now; one a loop, host and role",
         offsetof(tn_outcall_stats, breakers_open)},
        {"tenon_internode_reads", "reads of sockets that carried their answers",
         offsetof(tn_outcall_stats, reads)},
    };
    for (size_t i = 0; i < TN_COUNT_OF(shown); i++)
        tn_metrics_gauge_fn(shown[i].name, shown[i].help, NULL, 0, stat_of,
                            (void *)shown[i].offset);
}

/* ---- start and end ---- */

void tn_remote_secret_of(const uint8_t cluster_key[16], char out[TN_REMOTE_SECRET_SIZE])
{
    uint8_t mac[16];
    tn_mac128(cluster_key, tn_blob_of_str(TN_STR("internode")), mac);
    for (size_t i = 0; i < sizeof(mac); i++)
        snprintf(out + 2 * i, 3, "%02x", mac[i]);
    explicit_bzero(mac, sizeof(mac));
}

void tn_remote_use_keys(const tn_keys *keys)
{
    char secrets[TN_KEYS_MAX][TN_REMOTE_SECRET_SIZE];
    const char *list[TN_KEYS_MAX];
    for (size_t i = 0; i < keys->n; i++) {
        tn_remote_secret_of(keys->key[i], secrets[i]);
        list[i] = secrets[i];
    }
    tn_secrets_use(list, keys->n);
    explicit_bzero(secrets, sizeof(secrets));
}

void tn_remote_start(void)
{
    loops = tn_xcalloc(tn_loops_count(), sizeof(*loops));
    for (uint32_t i = 0; i < tn_loops_count(); i++) {
        tn_list_init(&loops[i].channels);
        tn_map_init(&loops[i].polls);
        tn_map_init(&loops[i].crowds);
    }
    static const tn_client_net net = {.owner = tn_members_owner,
                                      .owner_now = tn_members_owner_now,
                                      .moved = moved,
                                      .history = send_history,
                                      .matching = send_matching,
                                      .credit = send_credit,
                                      .close_shard = send_close_shard,
                                      .retire = send_retire,
                                      .hand_over = tn_remote_hand_over,
                                      .handed = handed,
                                      .lost = tn_shardmap_refresh,
                                      .cancel_poll = cancel_poll,
                                      .answer_poll = tn_direct_answer_poll};
    tn_members_begin();
    tn_pipes_identity(tn_members_self_id(), NULL);
    tn_client_use_net(&net);
    show_stats();
    tn_direct_register();
    tn_members_listen(members_changed);
    tn_namespace_announce(announce);
    tn_deployments_announce(announce_deployments);
    tn_shardmap_announce(announce_map);
    tn_endpoint_announce(announce_endpoints);
}

static void loop_stop(void *arg)
{
    (void)arg;
    memset(mine()->lately, 0, sizeof(mine()->lately));
    TN_LIST_FOREACH_SAFE (link, &mine()->channels) {
        host_channel *hc = TN_CONTAINER_OF(link, host_channel, link);
        tn_list_remove(&hc->link);
        tn_channel_destroy(hc->channel);
        free(hc);
    }
}

void tn_remote_stop(void)
{
    for (uint32_t i = 0; loops && i < tn_loops_count(); i++)
        tn_loop_call(tn_loops_get(i), loop_stop, NULL);
}

void tn_remote_forget(void) { tn_secrets_forget(); }
