/* SPDX-License-Identifier: MIT */
/* The registry of namespaces, played: there is one. */
#include "namespace/namespace.h"

#include "sim.h"

#define ID "00000000-0000-4000-8000-000000000001"

const tn_namespace sim_ns = {
    .name = {"sim", 3}, .id = {ID, 36}, .state = TN_NS_REGISTERED, .retention_ns = UINT64_C(86400) * TN_SEC};

const tn_namespace *tn_namespace_by_name(tn_str name) { return tn_str_eq(name, sim_ns.name) ? &sim_ns : NULL; }
const tn_namespace *tn_namespace_by_id(tn_str id) { return tn_str_eq(id, sim_ns.id) ? &sim_ns : NULL; }
const tn_namespace *tn_namespace_ref(const tn_namespace *ns) { return ns; }
void tn_namespace_unref(const tn_namespace *ns) { (void)ns; }
const tn_fault *tn_namespace_not_found(tn_arena *arena, tn_str name)
{
    return tn_fault_make(arena, TN_GRPC_NOT_FOUND, "Namespace " TN_STR_FMT " is not found.", TN_STR_ARG(name));
}
