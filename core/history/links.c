/* SPDX-License-Identifier: MIT */
/* What an answer says of the run it has touched: links to events, and the types of search attributes that a caller
 * has left out. */
#include "history/priv.h"

#include "visibility/visibility.h"

typedef Temporal__Api__Common__V1__Link link_msg;
typedef Temporal__Api__Common__V1__Link__WorkflowEvent event_link;
typedef Temporal__Api__Common__V1__Payload__MetadataEntry metadata_entry;

static link_msg *link_to_run(const tn_hreq *req, const char *run_id)
{
    tn_arena *arena = req->arena;
    link_msg *link = TN_NEW(arena, link_msg);
    event_link *event = TN_NEW(arena, event_link);
    temporal__api__common__v1__link__init(link);
    temporal__api__common__v1__link__workflow_event__init(event);
    event->namespace_ = (char *)(uintptr_t)tn_arena_str(arena, req->ns->name).p;
    event->workflow_id = (char *)(uintptr_t)tn_arena_str(arena, req->workflow_id).p;
    event->run_id = tn_arena_strdup(arena, run_id);
    link->variant_case = TEMPORAL__API__COMMON__V1__LINK__VARIANT_WORKFLOW_EVENT;
    link->workflow_event = event;
    return link;
}

link_msg *tn_link_to_start(const tn_hreq *req, const char *run_id)
{
    link_msg *link = link_to_run(req, run_id);
    Temporal__Api__Common__V1__Link__WorkflowEvent__EventReference *ref =
        TN_NEW(req->arena, Temporal__Api__Common__V1__Link__WorkflowEvent__EventReference);
    temporal__api__common__v1__link__workflow_event__event_reference__init(ref);
    ref->event_id = 1;
    ref->event_type = TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_WORKFLOW_EXECUTION_STARTED;
    link->workflow_event->reference_case = TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__REFERENCE_EVENT_REF;
    link->workflow_event->event_ref = ref;
    return link;
}

link_msg *tn_link_to_request(const tn_hreq *req, const char *run_id, const char *request_id, int32_t event_type)
{
    link_msg *link = link_to_run(req, run_id);
    Temporal__Api__Common__V1__Link__WorkflowEvent__RequestIdReference *ref =
        TN_NEW(req->arena, Temporal__Api__Common__V1__Link__WorkflowEvent__RequestIdReference);
    temporal__api__common__v1__link__workflow_event__request_id_reference__init(ref);
    ref->request_id = tn_arena_strdup(req->arena, request_id);
    ref->event_type = (Temporal__Api__Enums__V1__EventType)event_type;
    link->workflow_event->reference_case =
        TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__REFERENCE_REQUEST_ID_REF;
    link->workflow_event->request_id_ref = ref;
    return link;
}

/* ---- types of search attributes ---- */

static bool names_type(const Temporal__Api__Common__V1__Payload *payload)
{
    for (size_t i = 0; i < payload->n_metadata; i++)
        if (strcmp(payload->metadata[i]->key, "type") == 0)
            return true;
    return false;
}

static void add_type(tn_arena *arena, Temporal__Api__Common__V1__Payload *payload, const char *type)
{
    metadata_entry **metadata = TN_NEW_ARRAY(arena, metadata_entry *, payload->n_metadata + 1);
    metadata_entry *entry = TN_NEW(arena, metadata_entry);
    if (!metadata || !entry)
        return; /* the request is full: the namespace knows the type still */
    if (payload->n_metadata)
        memcpy(metadata, payload->metadata, payload->n_metadata * sizeof(metadata[0]));
    temporal__api__common__v1__payload__metadata_entry__init(entry);
    entry->key = (char *)"type";
    entry->value = (ProtobufCBinaryData){strlen(type), (uint8_t *)(uintptr_t)type};
    metadata[payload->n_metadata++] = entry;
    payload->metadata = metadata;
}

void tn_fill_attr_types(tn_arena *arena, const tn_namespace *ns, Temporal__Api__Common__V1__SearchAttributes *attrs)
{
    for (size_t i = 0; attrs && i < attrs->n_indexed_fields; i++) {
        Temporal__Api__Common__V1__Payload *payload = attrs->indexed_fields[i]->value;
        uint32_t type = tn_search_attr_type(ns, tn_str_from(attrs->indexed_fields[i]->key));
        if (payload && type && !names_type(payload))
            add_type(arena, payload, tn_search_attr_type_name(type));
    }
}

void tn_fill_command_attr_types(tn_arena *arena, const tn_namespace *ns,
                                const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *request)
{
    for (size_t i = 0; i < request->n_commands; i++) {
        const Temporal__Api__Command__V1__Command *c = request->commands[i];
        switch (c->attributes_case) {
        case TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES_COMMAND_ATTRIBUTES:
            tn_fill_attr_types(arena, ns, c->upsert_workflow_search_attributes_command_attributes->search_attributes);
            break;
        case TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_CONTINUE_AS_NEW_WORKFLOW_EXECUTION_COMMAND_ATTRIBUTES:
            tn_fill_attr_types(arena, ns,
                               c->continue_as_new_workflow_execution_command_attributes->search_attributes);
            break;
        case TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_START_CHILD_WORKFLOW_EXECUTION_COMMAND_ATTRIBUTES:
            tn_fill_attr_types(arena, ns, c->start_child_workflow_execution_command_attributes->search_attributes);
            break;
        default:
            break;
        }
    }
}
