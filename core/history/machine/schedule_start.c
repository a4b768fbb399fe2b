/* SPDX-License-Identifier: MIT */
/* The run that an action starts: its id, its request, what it is told of the runs before. */
#include "history/machine/priv.h"
#include "history/machine/schedule.h"
#include "history/machine/zone.h"
#include "proto/proto.h"

#define DAY_S INT64_C(86400)
#define REJECT_DUPLICATE 3
#define ALLOW_DUPLICATE 1

/* "2026-08-21T10:00:00Z", to the second. */
static char *second_text(tn_arena *arena, int64_t ns)
{
    int64_t s = ns / 1000000000 - (ns % 1000000000 < 0), day = s / DAY_S - (s % DAY_S < 0), year;
    int64_t of_day = s - day * DAY_S;
    int month, mday;

    tn_civil_from_days(day, &year, &month, &mday);
    return tn_arena_printf(arena, "%04d-%02d-%02dT%02d:%02d:%02dZ", (int)year, month, mday,
                           (int)(of_day / 3600), (int)(of_day / 60 % 60), (int)(of_day % 60));
}

char *tn_schedule_workflow_id(tn_arena *arena, const char *base, int64_t nominal_ns)
{
    return tn_arena_printf(arena, "%s-%s", base, second_text(arena, nominal_ns));
}

char *tn_schedule_identity(const tn_ms *ms, tn_str ns_name, tn_arena *arena)
{
    return tn_arena_printf(arena, "temporal-scheduler-" TN_STR_FMT "-" TN_STR_FMT,
                           TN_STR_ARG(ns_name), TN_STR_ARG(tn_schedule_id(ms)));
}

/* As Go's encoder quotes. */
static tn_blob json_text(tn_arena *arena, tn_str text)
{
    tn_buf buf = {0};
    tn_blob out;

    tn_buf_put_u8(&buf, '"');
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = (uint8_t)text.p[i];

        if (c == '"' || c == '\\')
            tn_buf_printf(&buf, "\\%c", c);
        else if (c == '\n' || c == '\r' || c == '\t')
            tn_buf_printf(&buf, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (c < ' ' || c == '<' || c == '>' || c == '&')
            tn_buf_printf(&buf, "\\u%04x", c);
        else
            tn_buf_put_u8(&buf, c);
    }
    tn_buf_put_u8(&buf, '"');
    out = tn_arena_blob(arena, tn_buf_blob(&buf));
    tn_buf_done(&buf);
    return out;
}

static Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry *attribute(tn_arena *arena,
                                                                                  const char *name,
                                                                                  tn_str text)
{
    Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry *out =
        TN_MSG(arena, temporal__api__common__v1__search_attributes__indexed_fields_entry);
    Temporal__Api__Common__V1__Payload__MetadataEntry *meta =
        TN_MSG(arena, temporal__api__common__v1__payload__metadata_entry);
    tn_blob json = json_text(arena, text);

    meta->key = (char *)(uintptr_t) "encoding";
    meta->value = (ProtobufCBinaryData){10, (uint8_t *)(uintptr_t) "json/plain"};
    out->key = (char *)(uintptr_t)name;
    out->value = TN_MSG(arena, temporal__api__common__v1__payload);
    out->value->n_metadata = 1;
    out->value->metadata =
        TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__Payload__MetadataEntry *, 1);
    out->value->metadata[0] = meta;
    out->value->data = (ProtobufCBinaryData){json.n, (uint8_t *)(uintptr_t)json.p};
    return out;
}

static Temporal__Api__Common__V1__SearchAttributes *attributes_of(
    const tn_ms *ms, const tn_schedule_action *action,
    const Temporal__Api__Common__V1__SearchAttributes *given, tn_arena *arena)
{
    Temporal__Api__Common__V1__SearchAttributes *out =
        TN_MSG(arena, temporal__api__common__v1__search_attributes);
    size_t n = given ? given->n_indexed_fields : 0;

    out->indexed_fields = TN_NEW_ARRAY(
        arena, Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry *, n + 2);
    for (size_t i = 0; i < n; i++)
        if (strcmp(given->indexed_fields[i]->key, "TemporalScheduledStartTime") != 0 &&
            strcmp(given->indexed_fields[i]->key, "TemporalScheduledById") != 0)
            out->indexed_fields[out->n_indexed_fields++] = given->indexed_fields[i];
    out->indexed_fields[out->n_indexed_fields++] = attribute(
        arena, "TemporalScheduledStartTime", tn_str_from(second_text(arena, action->nominal_ns)));
    out->indexed_fields[out->n_indexed_fields++] =
        attribute(arena, "TemporalScheduledById", tn_schedule_id(ms));
    return out;
}

/* The same for the same action: a start that is repeated finds what it has done. */
static char *request_id_of(const tn_ms *ms, const tn_schedule_action *action, tn_arena *arena)
{
    char *name = tn_arena_printf(arena, "action %llu", (unsigned long long)action->id);
    char *out = tn_arena_alloc(arena, TN_UUID_TEXT_LEN + 1);
    uint8_t id[16];

    tn_uuid_v5(ms->run_id, tn_blob_of_str(tn_str_from(name)), id);
    tn_uuid_format(id, out);
    return out;
}

static void give_outcome(const tn_schedule *s, tn_arena *arena,
                         Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r)
{
    if (s->last_result.n && TN_PROTO_UNPACK(temporal__api__common__v1__payloads, s->last_result,
                                            arena, &r->last_completion_result, NULL) != TN_OK)
        r->last_completion_result = NULL;
    if (s->last_failure.n && TN_PROTO_UNPACK(temporal__api__failure__v1__failure, s->last_failure,
                                             arena, &r->continued_failure, NULL) != TN_OK)
        r->continued_failure = NULL;
}

Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *tn_schedule_start_request(
    const tn_ms *ms, const tn_schedule_action *action, tn_str ns_name, tn_arena *arena)
{
    const tn_schedule *s = tn_schedule_of(ms);
    Temporal__Api__Workflowservice__V1__StartWorkflowExecutionRequest *r =
        TN_MSG(arena, temporal__api__workflowservice__v1__start_workflow_execution_request);
    const Temporal__Api__Workflow__V1__NewWorkflowExecutionInfo *from;

    /* A copy: what is filled in for the start is not the schedule's own. */
    if (s->schedule->action->action_case !=
        TEMPORAL__API__SCHEDULE__V1__SCHEDULE_ACTION__ACTION_START_WORKFLOW)
        return NULL;
    from = (const void *)tn_proto_copy(&s->schedule->action->start_workflow->base, arena);
    if (!from)
        return NULL;
    r->namespace_ = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(ns_name));
    r->workflow_id = tn_arena_strdup(arena, action->workflow_id);
    r->workflow_type = from->workflow_type;
    r->task_queue = from->task_queue;
    r->input = from->input;
    r->workflow_execution_timeout = from->workflow_execution_timeout;
    r->workflow_run_timeout = from->workflow_run_timeout;
    r->workflow_task_timeout = from->workflow_task_timeout;
    r->identity = tn_schedule_identity(ms, ns_name, arena);
    r->request_id = request_id_of(ms, action, arena);
    r->workflow_id_reuse_policy =
        (Temporal__Api__Enums__V1__WorkflowIdReusePolicy)(action->manual ||
                                                                  s->schedule->policies
                                                                      ->keep_original_workflow_id
                                                              ? ALLOW_DUPLICATE
                                                              : REJECT_DUPLICATE);
    r->workflow_id_conflict_policy = (Temporal__Api__Enums__V1__WorkflowIdConflictPolicy)1;
    r->retry_policy = from->retry_policy;
    r->memo = from->memo;
    r->search_attributes = attributes_of(ms, action, from->search_attributes, arena);
    r->header = from->header;
    r->user_metadata = from->user_metadata;
    r->priority = from->priority;
    r->versioning_override = from->versioning_override;
    if (action->tracked)
        give_outcome(s, arena, r);
    return r;
}
