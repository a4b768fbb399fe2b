/* SPDX-License-Identifier: MIT */
/* The inside of the store, for this room's sources. */
#ifndef TN_STORE_PRIVATE_H
#define TN_STORE_PRIVATE_H

#include "store/store.h"

#define TN_STORE_TIMEOUT_NS (10 * TN_SEC)

/* Deep copies into the memory of the operation: a plugin may look at its inputs after the caller was
 * answered (deadline).  false: they do not fit. */
bool tn_store_copy_key(tn_arena *arena, const tn_key *from, tn_key *out);
bool tn_store_copy_range(tn_arena *arena, const tn_range *from, tn_range *out);
bool tn_store_copy_batch(tn_arena *arena, const tn_batch *from, tn_batch *out);

#endif
