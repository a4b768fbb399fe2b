/* SPDX-License-Identifier: MIT */
/* This process among others: a gRPC port for each role it has, where other hosts' roles call, and membership, which
 * says who they are.  A lone server has none of this. */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/remote.h"
#include "membership/membership.h"
#include "rpc/client.h"
#include "rpc/rpc.h"
#include "server/server.h"

/* Until others have seen that this host is out of the rings, what is its own has gone to them, and they call there:
 * no call has come for a while, or this long, for a caller that knows no better is told where to ask. */
#define RING_SPREAD_NS (600 * TN_MS)
#define SPREAD_LEAST_NS (300 * TN_MS) /* shards are let go within less */
#define QUIET_NS (150 * TN_MS)
#define LOOK_NS (25 * TN_MS)

static tn_rpc_server *servers[TN_SERVICE_COUNT];
static bool joined;

bool tn_cluster_has(const tn_args *args, const tn_settings *settings, uint32_t service)
{
    return args->any_role ? args->roles[service] : settings->services[service].enabled;
}

bool tn_cluster_wanted(const tn_args *args, const tn_settings *settings)
{
    bool all = true;
    for (uint32_t i = 0; i < TN_SERVICE_COUNT; i++)
        all = all && tn_cluster_has(args, settings, i);
    return args->command == TN_CMD_SERVE && (settings->membership || settings->seeds_count || !all);
}

tn_status tn_cluster_open(const tn_args *args, const tn_settings *set, tn_tls *tls, tn_error *err)
{
    tn_pipes_use_local(set->membership_local);
    for (uint32_t i = TN_SERVICE_HISTORY; i < TN_SERVICE_COUNT; i++) {
        if (!tn_cluster_has(args, set, i))
            continue;
        tn_rpc_options options;
        tn_rpc_options_default(&options);
        options.internal = true;
        options.bind_ip = set->services[i].bind_ip;
        options.port = (uint16_t)set->services[i].grpc_port;
        /* a public message, wrapped */
        options.message_bytes_max = (size_t)(4 * set->rpc_message_bytes_max) + (1 << 20);
        options.arena_bytes_max = (size_t)(2 * set->rpc_request_memory_max);
        options.streams_max = 100000; /* all parked polls of a frontend share a connection */
        options.keepalive_min_ns = TN_SEC;
        options.tls = tn_tls_get(tls, TN_TLS_INTERNODE);
        options.dispatch = tn_intake_dispatch;
        tn_status status = tn_rpc_server_start(&options, &servers[i], err);
        if (status != TN_OK)
            return status;
    }
    return TN_OK;
}

tn_status tn_cluster_join(const tn_args *args, const tn_settings *set, tn_error *err)
{
    tn_members_options o = {.broadcast_ip = set->broadcast_ip,
                            .version = PACKAGE_VERSION,
                            .seeds = set->seeds,
                            .n_seeds = set->seeds_count,
                            .use_store = true,
                            .seeds_only = !set->membership_records};
    for (uint32_t i = 0; i < TN_SERVICE_COUNT; i++) {
        if (!tn_cluster_has(args, set, i))
            continue;
        o.bind_ip = set->services[i].bind_ip;
        o.ports[i] = (uint16_t)set->services[i].membership_port;
        o.role_ports[i] = (uint16_t)set->services[i].grpc_port;
    }
    tn_status status = tn_members_start(&o, err);
    joined = status == TN_OK;
    return status;
}

void tn_cluster_at(const tn_args *args, const tn_settings *set, char *text, size_t size)
{
    size_t n = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < TN_SERVICE_COUNT && n < size; i++) {
        const tn_settings_service *service = &set->services[i];
        const char *form = strchr(service->bind_ip, ':') ? "%s%s [%s]:%u" : "%s%s %s:%u";
        if (tn_cluster_has(args, set, i))
            n += (size_t)snprintf(text + n, size - n, form, n ? ", " : "", tn_service_name(i),
                                  service->bind_ip, (unsigned)service->grpc_port);
    }
}

void tn_cluster_drain(void)
{
    if (!joined)
        return;
    tn_members_drain();
    if (!servers[TN_SERVICE_HISTORY] && !servers[TN_SERVICE_MATCHING])
        return; /* nobody calls it by the rings */
    uint64_t begun = tn_now_mono_ns(), now = begun, calls = tn_intake_calls(), last = begun;
    while (now < begun + RING_SPREAD_NS &&
           (now < begun + SPREAD_LEAST_NS || now < last + QUIET_NS)) {
        usleep(LOOK_NS / TN_US);
        now = tn_now_mono_ns();
        uint64_t more = tn_intake_calls();
        last = more != calls ? now : last;
        calls = more;
    }
}

void tn_cluster_end_waits(void)
{
    if (joined)
        tn_remote_end_waits();
}

void tn_cluster_close_ports(uint64_t grace_ns)
{
    for (uint32_t i = 0; i < TN_SERVICE_COUNT; i++)
        if (servers[i])
            tn_rpc_server_drain(servers[i], grace_ns);
}

void tn_cluster_leave(void)
{
    if (joined) {
        tn_remote_stop();
        tn_members_stop();
    }
    joined = false;
    for (uint32_t i = 0; i < TN_SERVICE_COUNT; i++)
        tn_rpc_server_destroy(servers[i]);
    memset(servers, 0, sizeof(servers));
}
