/* SPDX-License-Identifier: MIT */
/* Small things that the commands share: names of enum values, task queues, priorities. */
#include <string.h>

#include "history/machine/command.h"
#include "proto/proto.h"

#define RESERVED_QUEUE_PREFIX "/_sys/"
#define SYSTEM_QUEUE "temporal-sys-per-ns-tq"
#define FAIRNESS_KEY_BYTES_MAX 64

/* ---- enum values ----------------------------------------------------------------------------- */

/* The part of a value's name that all values of its enum begin with: "COMMAND_TYPE_" of
 * CommandType. */
static size_t prefix_length(const ProtobufCEnumDescriptor *descriptor)
{
    const char *name = descriptor->short_name;
    size_t n = 0;

    for (const char *p = name; *p; p++)
        n += (size_t)(p != name && *p >= 'A' && *p <= 'Z') + 1;
    return n + 1;
}

const char *tn_enum_name(tn_arena *arena, const ProtobufCEnumDescriptor *descriptor, int32_t value)
{
    const ProtobufCEnumValue *found = protobuf_c_enum_descriptor_get_value(descriptor, value);
    size_t skip = prefix_length(descriptor), n = 0;
    bool upper = true;
    char *out;

    if (!found || strlen(found->name) < skip)
        return tn_arena_printf(arena, "%d", (int)value);
    out = tn_arena_zalloc(arena, strlen(found->name) + 1);
    TN_ASSERT(out);
    for (const char *p = found->name + skip; *p; p++) {
        if (*p == '_') {
            upper = true;
            continue;
        }
        out[n++] = *p >= 'A' && *p <= 'Z' && !upper ? (char)(*p - 'A' + 'a') : *p;
        upper = false;
    }
    return out;
}

const char *tn_cause_name(tn_arena *arena, int32_t cause)
{
    return tn_enum_name(arena, &temporal__api__enums__v1__workflow_task_failed_cause__descriptor,
                        cause);
}

/* ---- task queues and priorities -------------------------------------------------------------- */

static const char *check_queue_name(tn_arena *arena, const char *name, int64_t bytes_max,
                                    bool normal)
{
    if (!*name)
        return "taskQueue is not set";
    if ((int64_t)strlen(name) > bytes_max)
        return "taskQueue length exceeds limit";
    if (normal && strncmp(name, RESERVED_QUEUE_PREFIX, strlen(RESERVED_QUEUE_PREFIX)) == 0)
        return tn_arena_printf(arena, "task queue name cannot start with reserved prefix %s",
                               RESERVED_QUEUE_PREFIX);
    return NULL;
}

const char *tn_task_queue_settle(tn_arena *arena, Temporal__Api__Taskqueue__V1__TaskQueue *queue,
                                 const char *default_name, const char *parent_queue,
                                 int64_t id_bytes_max)
{
    const char *text;

    if (!queue)
        return "taskQueue is not set";
    if (queue->kind == TEMPORAL__API__ENUMS__V1__TASK_QUEUE_KIND__TASK_QUEUE_KIND_UNSPECIFIED)
        queue->kind = TEMPORAL__API__ENUMS__V1__TASK_QUEUE_KIND__TASK_QUEUE_KIND_NORMAL;
    if (!*queue->name) {
        if (!*default_name)
            return "missing task queue name";
        queue->name = tn_arena_strdup(arena, default_name);
    }
    text = check_queue_name(arena, queue->name, id_bytes_max, true);
    if (!text && queue->kind == TEMPORAL__API__ENUMS__V1__TASK_QUEUE_KIND__TASK_QUEUE_KIND_STICKY &&
        *queue->normal_name)
        text = check_queue_name(arena, queue->normal_name, id_bytes_max, false);
    if (text || strcmp(queue->name, SYSTEM_QUEUE) != 0 || strcmp(parent_queue, SYSTEM_QUEUE) == 0)
        return text;
    if (!*parent_queue)
        return tn_arena_printf(arena, "cannot use internal per-namespace task queue:%s",
                               queue->name);
    return tn_arena_printf(
        arena,
        "cannot use internal per-namespace task queue:%s (in parent component task queue: %s)",
        queue->name, parent_queue);
}

/* As the protobuf text format has it. */
const char *tn_task_queue_text(tn_arena *arena,
                               const Temporal__Api__Taskqueue__V1__TaskQueue *queue)
{
    const ProtobufCEnumValue *kind = protobuf_c_enum_descriptor_get_value(
        &temporal__api__enums__v1__task_queue_kind__descriptor, (int)queue->kind);

    return tn_arena_printf(arena, "name:\"%s\"  kind:%s", queue->name, kind ? kind->name : "0");
}

const char *tn_priority_check(const Temporal__Api__Common__V1__Priority *priority)
{
    if (!priority)
        return NULL;
    if (priority->priority_key < 0)
        return "priority key can't be negative";
    if (strlen(priority->fairness_key) > FAIRNESS_KEY_BYTES_MAX)
        return "fairness key length exceeds limit";
    if (priority->fairness_weight < 0)
        return "must be greater than zero";
    return NULL;
}
