/* SPDX-License-Identifier: MIT */
/* The registry of namespaces, played: there is one. */
#include "http/client.h"
#include "namespace/endpoint.h"
#include "namespace/namespace.h"

#include "sim.h"

#define ID "00000000-0000-4000-8000-000000000001"

const tn_namespace sim_ns = {.name = {"sim", 3},
                             .id = {ID, 36},
                             .state = TN_NS_REGISTERED,
                             .retention_ns = UINT64_C(86400) * TN_SEC};

const tn_namespace *tn_namespace_by_name(tn_str name)
{
    return tn_str_eq(name, sim_ns.name) ? &sim_ns : NULL;
}
const tn_namespace *tn_namespace_by_id(tn_str id)
{
    return tn_str_eq(id, sim_ns.id) ? &sim_ns : NULL;
}
const tn_namespace *tn_namespace_ref(const tn_namespace *ns) { return ns; }
void tn_namespace_unref(const tn_namespace *ns) { (void)ns; }
const tn_fault *tn_namespace_not_found(tn_arena *arena, tn_str name)
{
    return tn_fault_make(arena, TN_GRPC_NOT_FOUND, "Namespace " TN_STR_FMT " is not found.",
                         TN_STR_ARG(name));
}

/* ---- Nexus endpoints: there are none ---- */

const tn_endpoints *tn_endpoints_acquire(void)
{
    static const tn_endpoints none;
    return &none;
}
void tn_endpoints_release(const tn_endpoints *list) { (void)list; }
const Tenon__NexusEndpointRecord *tn_endpoints_by_id(const tn_endpoints *list, tn_str id)
{
    (void)list, (void)id;
    return NULL;
}
const Tenon__NexusEndpointRecord *tn_endpoints_by_name(const tn_endpoints *list, tn_str name)
{
    (void)list, (void)name;
    return NULL;
}

/* Nobody is outside. */
void tn_http_post(tn_http_out *out)
{
    out->problem = "no route";
    out->done(out);
}
