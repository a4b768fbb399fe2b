/* SPDX-License-Identifier: MIT */
/* What an answer says of the run it has touched: links to events. */
#include "history/priv.h"

typedef Temporal__Api__Common__V1__Link link_msg;
typedef Temporal__Api__Common__V1__Link__WorkflowEvent event_link;

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
    link->workflow_event->reference_case =
        TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__REFERENCE_EVENT_REF;
    link->workflow_event->event_ref = ref;
    return link;
}

link_msg *tn_link_to_workflow(const tn_hreq *req, const char *run_id, const char *reason)
{
    tn_arena *arena = req->arena;
    link_msg *link = TN_NEW(arena, link_msg);
    Temporal__Api__Common__V1__Link__Workflow *to =
        TN_NEW(arena, Temporal__Api__Common__V1__Link__Workflow);
    temporal__api__common__v1__link__init(link);
    temporal__api__common__v1__link__workflow__init(to);
    to->namespace_ = (char *)(uintptr_t)tn_arena_str(arena, req->ns->name).p;
    to->workflow_id = (char *)(uintptr_t)tn_arena_str(arena, req->workflow_id).p;
    to->run_id = tn_arena_strdup(arena, run_id);
    to->reason = tn_arena_strdup(arena, reason);
    link->variant_case = TEMPORAL__API__COMMON__V1__LINK__VARIANT_WORKFLOW;
    link->workflow = to;
    return link;
}

link_msg *tn_link_to_request(const tn_hreq *req, const char *run_id, const char *request_id,
                             int32_t event_type)
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
