/* SPDX-License-Identifier: MIT */
/* What the room's own services ask of the method table. */
#ifndef TN_RPC_METHOD_H
#define TN_RPC_METHOD_H

#include "rpc/rpc.h"

/* Whether a server of that kind has it. */
bool rpc_method_offered(const tn_rpc_method *method, bool internal);
size_t rpc_method_count(void);
/* The part of the index-th method's path between the slashes. */
tn_str rpc_method_service(size_t index);
bool rpc_service_known(tn_str service);

#endif
