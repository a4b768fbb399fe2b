/* SPDX-License-Identifier: MIT */
/* A task queue in several partitions, each a queue of its own with an owner of its own: names, numbers, and which one a
 * task or a poll goes to.  Partition 0 is the root and has the queue's name, partition n is "/_sys/NAME/n" (a prefix that
 * no caller may use).  Sticky queues have one. */
#ifndef TN_CLIENT_PARTITION_H
#define TN_CLIENT_PARTITION_H

#include "client/client.h"

#define TN_PARTITIONS_MAX 1000u

/* The queue's own name, in `name`; *out_index: which partition it is. */
tn_str tn_partition_base(tn_str name, uint32_t *out_index);
tn_str tn_partition_name(tn_arena *arena, tn_str base, uint32_t index); /* NUL-terminated */
/* By dynamic config; 1 at least. */
uint32_t tn_partitions_read(tn_str ns_name, tn_str base, uint32_t type);
uint32_t tn_partitions_write(tn_str ns_name, tn_str base, uint32_t type);
/* [loop] Chooses the partition of a new task, poll or query, once. */
void tn_partition_place(tn_mreq *req);

#endif
