/* SPDX-License-Identifier: MIT */
/* The room's own services; registered by tn_rpc_register_builtin. */
#ifndef TN_RPC_HEALTH_H
#define TN_RPC_HEALTH_H

#include "rpc/rpc.h"

/* [any] Every service that has a status. */
void rpc_health_all(int status);
void rpc_health_register(void);
void rpc_reflection_register(void);

#endif
