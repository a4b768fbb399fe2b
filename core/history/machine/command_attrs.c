/* SPDX-License-Identifier: MIT */
/* Commands about what visibility knows of a run: search attributes and memo.  The limits hold for
 * what the run would have after the command, so that the check keeps the merged sizes. */
#include <string.h>

#include "history/machine/command.h"
#include "proto/proto.h"

#define ATTRS_CASE(UPPER) \
    TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_##UPPER##_COMMAND_ATTRIBUTES

#define SEARCH_ATTRIBUTE_BYTES_MAX 2048
#define SEARCH_ATTRIBUTES_BYTES_MAX 40960

/* ---- sizes of merged maps -------------------------------------------------------------------- */

typedef struct known_field {
    tn_map_link link;
    int64_t bytes; /* on the wire, as an entry of its map */
} known_field;

static int64_t entry_bytes(size_t name_bytes, size_t payload_bytes)
{
    size_t entry = 1 + tn_wire_varint_size(name_bytes) + name_bytes + 1 +
                   tn_wire_varint_size(payload_bytes) + payload_bytes;

    return (int64_t)(1 + tn_wire_varint_size(entry) + entry);
}

static void set_field(tn_check *check, tn_map *map, int64_t *total, const char *name, int64_t bytes)
{
    tn_blob key = tn_blob_of_str(tn_str_from(name));
    tn_map_link *link = tn_map_find(map, key);
    known_field *known = link ? TN_CONTAINER_OF(link, known_field, link) : NULL;

    if (!known) {
        known = tn_tx_alloc(check->tx, sizeof(*known));
        tn_map_insert(map, &known->link, key);
    }
    *total += bytes - known->bytes;
    known->bytes = bytes;
}

static void know_fields(tn_check *check, bool *know, tn_map *map, int64_t *total,
                        const tn_payload_map *from)
{
    if (*know)
        return;
    *know = true;
    for (size_t i = 0; i < from->count; i++)
        set_field(check, map, total, from->items[i].name,
                  entry_bytes(strlen(from->items[i].name), from->items[i].payload.n));
}

static int64_t field_bytes(const char *name, const Temporal__Api__Common__V1__Payload *payload)
{
    return tn_payload_is_nil(payload) ? 0 : entry_bytes(strlen(name), tn_msg_bytes(payload));
}

/* ---- shared with the commands that start runs ------------------------------------------------ */

bool tn_check_memo(tn_check *check, int32_t cause, int64_t bytes, const char *text)
{
    return bytes <= check->limits->memo_bytes_max || tn_check_doom(check, cause, "%s", text);
}

const tn_fault *tn_check_search_attributes(tn_check *check, tn_str ns_id,
                                           Temporal__Api__Common__V1__SearchAttributes *attrs)
{
    const tn_machine_env *env = check->tx->env;

    if (!attrs || attrs->n_indexed_fields == 0 || !env->check_search_attributes)
        return NULL;
    return env->check_search_attributes(env->user, ns_id, check->arena, attrs);
}

bool tn_check_search_attribute_sizes(tn_check *check, int32_t cause,
                                     const Temporal__Api__Common__V1__SearchAttributes *attrs,
                                     int64_t bytes)
{
    for (size_t i = 0; attrs && i < attrs->n_indexed_fields; i++) {
        const Temporal__Api__Common__V1__Payload *payload = attrs->indexed_fields[i]->value;

        if (payload && payload->data.len > SEARCH_ATTRIBUTE_BYTES_MAX)
            return tn_check_doom(
                check, cause, "search attribute %s value size %zu exceeds size limit %d",
                attrs->indexed_fields[i]->key, payload->data.len, SEARCH_ATTRIBUTE_BYTES_MAX);
    }
    if (bytes > SEARCH_ATTRIBUTES_BYTES_MAX)
        return tn_check_doom(check, cause,
                             "total size of search attributes %lld exceeds size limit %d",
                             (long long)bytes, SEARCH_ATTRIBUTES_BYTES_MAX);
    return true;
}

/* ---- upsert search attributes ---------------------------------------------------------------- */

bool tn_check_upsert_search_attributes(tn_check *check, const tn_command *command)
{
    Temporal__Api__Common__V1__SearchAttributes *attrs;
    const tn_fault *fault;
    size_t bytes = 0;

    if (command->attributes_case != ATTRS_CASE(UPSERT_WORKFLOW_SEARCH_ATTRIBUTES))
        return tn_check_bad(check, TN_CAUSE_SEARCH_ATTRIBUTES,
                            "UpsertWorkflowSearchAttributesCommandAttributes is not set on "
                            "UpsertWorkflowSearchAttributesCommand.");
    attrs = command->upsert_workflow_search_attributes_command_attributes->search_attributes;
    if (!attrs)
        return tn_check_bad(
            check, TN_CAUSE_SEARCH_ATTRIBUTES,
            "SearchAttributes is not set on UpsertWorkflowSearchAttributesCommand.");
    if (attrs->n_indexed_fields == 0)
        return tn_check_bad(check, TN_CAUSE_SEARCH_ATTRIBUTES,
                            "IndexedFields is not set on UpsertWorkflowSearchAttributesCommand.");
    fault = tn_check_search_attributes(check, check->tx->env->ns_id, attrs);
    if (fault)
        return tn_check_bad(check, TN_CAUSE_SEARCH_ATTRIBUTES, TN_STR_FMT,
                            TN_STR_ARG(fault->message));
    for (size_t i = 0; i < attrs->n_indexed_fields; i++)
        bytes += strlen(attrs->indexed_fields[i]->key) +
                 (attrs->indexed_fields[i]->value ? attrs->indexed_fields[i]->value->data.len : 0);
    if (!tn_check_blob(check, TN_CAUSE_SEARCH_ATTRIBUTES, bytes,
                       "UpsertWorkflowSearchAttributesCommandAttributes exceeds size limit."))
        return false;
    know_fields(check, &check->know_search_attributes, &check->search_attributes,
                &check->search_attributes_bytes, &check->ms->search_attributes);
    for (size_t i = 0; i < attrs->n_indexed_fields; i++)
        set_field(check, &check->search_attributes, &check->search_attributes_bytes,
                  attrs->indexed_fields[i]->key,
                  field_bytes(attrs->indexed_fields[i]->key, attrs->indexed_fields[i]->value));
    return tn_check_search_attribute_sizes(check, TN_CAUSE_SEARCH_ATTRIBUTES, attrs,
                                           check->search_attributes_bytes);
}

void tn_do_upsert_search_attributes(tn_command_run *run, const tn_command *command)
{
    tn_event *event = tn_command_event(
        run, command,
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES);
    Temporal__Api__History__V1__UpsertWorkflowSearchAttributesEventAttributes *attrs =
        TN_EVENT_ATTRS(run->tx, event, UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
                       upsert_workflow_search_attributes);

    attrs->workflow_task_completed_event_id = run->wft_completed_id;
    attrs->search_attributes =
        command->upsert_workflow_search_attributes_command_attributes->search_attributes;
    tn_tx_add(run->tx, event);
}

/* ---- modify properties ----------------------------------------------------------------------- */

bool tn_check_modify_properties(tn_check *check, const tn_command *command)
{
    const Temporal__Api__Common__V1__Memo *memo;
    size_t bytes = 0;

    if (command->attributes_case != ATTRS_CASE(MODIFY_WORKFLOW_PROPERTIES))
        return tn_check_bad(check, TN_CAUSE_MODIFY_PROPERTIES,
                            "ModifyWorkflowPropertiesCommandAttributes is not set on "
                            "ModifyWorkflowPropertiesCommand.");
    memo = command->modify_workflow_properties_command_attributes->upserted_memo;
    if (!memo)
        return tn_check_bad(check, TN_CAUSE_MODIFY_PROPERTIES,
                            "UpsertedMemo is not set on ModifyWorkflowPropertiesCommand.");
    if (memo->n_fields == 0)
        return tn_check_bad(check, TN_CAUSE_MODIFY_PROPERTIES,
                            "UpsertedMemo.Fields is not set on ModifyWorkflowPropertiesCommand.");
    for (size_t i = 0; i < memo->n_fields; i++)
        bytes += strlen(memo->fields[i]->key) +
                 (memo->fields[i]->value ? memo->fields[i]->value->data.len : 0);
    if (!tn_check_blob(check, TN_CAUSE_MODIFY_PROPERTIES, bytes,
                       "ModifyWorkflowPropertiesCommandAttributes exceeds size limit."))
        return false;
    know_fields(check, &check->know_memo, &check->memo, &check->memo_bytes, &check->ms->memo);
    for (size_t i = 0; i < memo->n_fields; i++)
        set_field(check, &check->memo, &check->memo_bytes, memo->fields[i]->key,
                  field_bytes(memo->fields[i]->key, memo->fields[i]->value));
    return tn_check_memo(check, TN_CAUSE_MODIFY_PROPERTIES, check->memo_bytes,
                         "ModifyWorkflowPropertiesCommandAttributes. Memo exceeds size limit.");
}

void tn_do_modify_properties(tn_command_run *run, const tn_command *command)
{
    tn_event *event = tn_command_event(
        run, command,
        TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED);
    Temporal__Api__History__V1__WorkflowPropertiesModifiedEventAttributes *attrs =
        TN_EVENT_ATTRS(run->tx, event, WORKFLOW_PROPERTIES_MODIFIED, workflow_properties_modified);

    attrs->workflow_task_completed_event_id = run->wft_completed_id;
    attrs->upserted_memo = command->modify_workflow_properties_command_attributes->upserted_memo;
    tn_tx_add(run->tx, event);
}
