/* SPDX-License-Identifier: MIT */
/* Handlers of the admin service beside those of operators.c, and what they share. */
#ifndef TN_FRONTEND_ADMIN_H
#define TN_FRONTEND_ADMIN_H

#include "admin/service.pb-c.h"
#include "frontend/priv.h"

#define TN_ADMIN_REQUEST(f, type) \
    ((Temporal__Server__Api__Adminservice__V1__##type *)(void *)(f)->call->request)
#define TN_ADMIN_NEW(arena, c_name) \
    tn_admin_new((arena), &temporal__server__api__adminservice__v1__##c_name##__descriptor)
void *tn_admin_new(tn_arena *arena, const ProtobufCMessageDescriptor *descriptor);

/* Is the kind of execution that a request names that of workflows?  NULL: yes, or it names none; else NOT_FOUND (such
 * executions are kept otherwise here) or INVALID_ARGUMENT (there is no such kind). */
const tn_fault *tn_admin_check_archetype(tn_arena *arena, const char *name, uint32_t id,
                                         const char *workflow_id);

/* admin_history.c */
void tn_do_admin_raw_history(tn_fcall *f);
void tn_do_admin_raw_history_v2(tn_fcall *f);
void tn_do_admin_rebuild(tn_fcall *f);
void tn_do_admin_delete(tn_fcall *f);
void tn_do_admin_start_batch(tn_fcall *f);
/* admin_queues.c */
void tn_do_admin_queue_tasks(tn_fcall *f);
void tn_do_admin_describe_partition(tn_fcall *f);
void tn_do_admin_unload_partition(tn_fcall *f);
void tn_do_admin_queue_data(tn_fcall *f);
/* admin_cluster.c */
void tn_do_admin_get_namespace(tn_fcall *f);
void tn_do_admin_add_attributes(tn_fcall *f);
void tn_do_admin_remove_attributes(tn_fcall *f);
void tn_do_admin_get_attributes(tn_fcall *f);
void tn_do_admin_list_clusters(tn_fcall *f);
/* admin_refused.c */
void tn_do_admin_dlq_tasks(tn_fcall *f);
void tn_do_admin_dlq_job(tn_fcall *f);
void tn_do_admin_dlq_queues(tn_fcall *f);
void tn_do_admin_dlq_messages(tn_fcall *f);
void tn_do_admin_refused(tn_fcall *f);

#endif
