/* SPDX-License-Identifier: MIT */
/* Whether the others of a cluster can call this process where its configuration says: what would only be noticed when
 * calls fail, or never, is a mistake of the configuration. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "server/server.h"

static bool is_everywhere(const char *ip)
{
    return strcmp(ip, "0.0.0.0") == 0 || strcmp(ip, "::") == 0;
}

static bool meet(const char *one, const char *other)
{
    return strcmp(one, other) == 0 || is_everywhere(one) || is_everywhere(other);
}

typedef struct check {
    const tn_args *args;
    const tn_settings *set;
    tn_config_problems *problems;
} check;

static void complain(const check *c, uint32_t role, const char *key, const char *fix,
                     const char *what)
{
    char path[80];
    snprintf(path, sizeof path, "services.%s.rpc.%s", tn_service_name(role), key);
    tn_config_complain_at(c->problems, tn_config_root(c->set->tree), path, fix, "%s", what);
}

/* A port that another role of this process has, too: each would get some of the other's calls. */
static void check_twice(const check *c, uint32_t role, uint32_t before, const char *key,
                        uint64_t port, uint64_t other)
{
    const char *ip = c->set->services[role].bind_ip, *ip_before = c->set->services[before].bind_ip;
    if (!port || port != other || !meet(ip, ip_before))
        return;
    char what[80];
    snprintf(what, sizeof what, "is %llu, which services.%s has, too", (unsigned long long)port,
             tn_service_name(before));
    complain(c, role, key, "give each role of a process a port of its own", what);
}

static void check_role(const check *c, uint32_t role)
{
    const tn_settings_service *one = &c->set->services[role];
    if (!one->grpc_port)
        complain(c, role, "grpcPort", "write the port on which other processes are to call it",
                 "is 0, and others are told the port before one is chosen");
    if (is_everywhere(one->bind_ip) && !c->set->broadcast_ip) {
        char what[80];
        snprintf(what, sizeof what, "is %s, where others can't call it", one->bind_ip);
        complain(c, role, "bindOnIP",
                 "write this host's address here or in global.membership.broadcastAddress", what);
    }
    for (uint32_t i = 0; i < role; i++) {
        if (!tn_cluster_has(c->args, c->set, i))
            continue;
        const tn_settings_service *other = &c->set->services[i];
        check_twice(c, role, i, "grpcPort", one->grpc_port, other->grpc_port);
        check_twice(c, role, i, "membershipPort", one->membership_port, other->membership_port);
    }
}

bool tn_cluster_check(const tn_args *args, const tn_settings *set, tn_config_problems *problems)
{
    const check c = {.args = args, .set = set, .problems = problems};
    size_t before = tn_config_problems_count(problems);
    uint32_t first = TN_SERVICE_COUNT;
    bool gossips = false;
    for (uint32_t i = TN_SERVICE_COUNT; i-- > 0;) {
        if (!tn_cluster_has(args, set, i))
            continue;
        first = i;
        gossips = gossips || set->services[i].membership_port;
        check_role(&c, i);
    }
    if (first < TN_SERVICE_COUNT && !gossips)
        complain(&c, first, "membershipPort", "write a UDP port that other processes reach",
                 "is 0 with every role of this process: it could meet nobody");
    return tn_config_problems_count(problems) == before;
}
