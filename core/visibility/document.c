/* SPDX-License-Identifier: MIT */
/* Runs to documents, and documents and groups to what the API answers. */
#include "proto/proto.h"
#include "temporal/api/common/v1/message.pb-c.h"
#include "temporal/api/workflow/v1/message.pb-c.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"
#include "visibility/payload.h"

#define STATUS_RUNNING 1
#define STATUS_PAUSED 8
#define SYSTEM_ATTRS_MAX 16

typedef Temporal__Api__Workflow__V1__WorkflowExecutionInfo info_t;

/* ---- runs to documents ------------------------------------------------------------------------ */

typedef struct doc_build {
    tn_arena *arena;
    tn_attr *attrs;
    size_t count;
    bool full;
} doc_build;

static void add_text(doc_build *b, tn_str name, tn_str value)
{
    if (value.n)
        b->attrs[b->count++] =
            (tn_attr){.name = name, .type = TN_ATTR_KEYWORD, .value = tn_blob_of_str(value)};
}

static void add_number(doc_build *b, tn_str name, uint32_t type, int64_t value)
{
    tn_blob bytes = tn_vis_encode_i64(b->arena, value);
    b->full = b->full || !bytes.p;
    b->attrs[b->count++] = (tn_attr){.name = name, .type = type, .value = bytes};
}

static void add_fields(doc_build *b, const tn_vis_run *run)
{
    int64_t execution_ns = run->execution_ns ? run->execution_ns : run->start_ns;
    const char *status = tn_vis_status_name(run->status);
    bool own_root = !run->root_workflow_id.n;
    add_text(b, TN_STR("WorkflowType"), run->type);
    add_text(b, TN_STR("ExecutionStatus"), tn_str_from(status));
    add_text(b, TN_STR("TaskQueue"), run->task_queue);
    add_text(b, TN_STR("WorkflowId"), run->workflow_id);
    add_text(b, TN_STR("RunId"), run->run_id);
    add_text(b, TN_STR("RootWorkflowId"), own_root ? run->workflow_id : run->root_workflow_id);
    add_text(b, TN_STR("RootRunId"), own_root ? run->run_id : run->root_run_id);
    add_text(b, TN_STR("ParentWorkflowId"), run->parent_workflow_id);
    add_text(b, TN_STR("ParentRunId"), run->parent_run_id);
    add_number(b, TN_STR("StartTime"), TN_ATTR_DATETIME, run->start_ns);
    add_number(b, TN_STR("ExecutionTime"), TN_ATTR_DATETIME, execution_ns);
    if (!run->close_ns)
        return;
    add_number(b, TN_STR("CloseTime"), TN_ATTR_DATETIME, run->close_ns);
    add_number(b, TN_STR("ExecutionDuration"), TN_ATTR_INT, run->close_ns - execution_ns);
    add_number(b, TN_STR("HistoryLength"), TN_ATTR_INT, run->history_length);
    add_number(b, TN_STR("HistorySizeBytes"), TN_ATTR_INT, run->history_size_bytes);
    add_number(b, TN_STR("StateTransitionCount"), TN_ATTR_INT, run->state_transition_count);
}

tn_status tn_vis_doc_from_run(tn_arena *arena, const tn_namespace *ns, const tn_vis_run *run,
                              tn_vis_doc *out)
{
    tn_vis_entry *entries = NULL;
    size_t n_entries = 0;
    tn_status status = tn_vis_entries_read(arena, run->search_attributes, &entries, &n_entries);
    if (status == TN_ETOOLARGE)
        return status;
    if (status != TN_OK)
        n_entries = 0;
    doc_build b = {.arena = arena};
    b.attrs = TN_NEW_ARRAY(arena, tn_attr, n_entries + SYSTEM_ATTRS_MAX);
    if (!b.attrs)
        return TN_ETOOLARGE;
    add_fields(&b, run);
    for (size_t i = 0; i < n_entries; i++) {
        uint32_t type = tn_search_attr_type(ns, entries[i].name);
        tn_vis_payload payload;
        if (!type && tn_vis_payload_read(entries[i].payload, &payload) == TN_OK)
            type = tn_search_attr_type_parse(payload.type);
        if (!type || tn_search_attr_is_system(entries[i].name))
            continue;
        tn_blob value = {NULL, 0};
        bool null = false;
        status = tn_search_attr_from_payload(arena, type, entries[i].payload, &value, &null);
        if (status == TN_ETOOLARGE)
            return status;
        if (status == TN_OK && !null)
            b.attrs[b.count++] = (tn_attr){.name = entries[i].name, .type = type, .value = value};
    }
    if (b.full)
        return TN_ETOOLARGE;
    *out = (tn_vis_doc){
        .struct_size = sizeof(*out),
        .ns_id = run->ns_id,
        .workflow_id = run->workflow_id,
        .run_id = run->run_id,
        .version = run->version,
        .attrs = b.attrs,
        .n_attrs = b.count,
        .memo = run->memo,
    };
    return TN_OK;
}

/* ---- documents to answers --------------------------------------------------------------------- */

typedef struct shown {
    tn_str type, task_queue, root_workflow_id, root_run_id, parent_workflow_id, parent_run_id;
    int32_t status;
    int64_t start_ns, execution_ns, close_ns, duration_ns, length, size, transitions;
    size_t n_custom;
} shown;

static bool take_text(shown *s, const tn_attr *attr)
{
    const struct {
        const char *name;
        tn_str *to;
    } texts[] = {
        {"WorkflowType", &s->type},
        {"TaskQueue", &s->task_queue},
        {"RootWorkflowId", &s->root_workflow_id},
        {"RootRunId", &s->root_run_id},
        {"ParentWorkflowId", &s->parent_workflow_id},
        {"ParentRunId", &s->parent_run_id},
    };
    if (tn_str_is(attr->name, "ExecutionStatus")) {
        s->status = tn_vis_status_parse(tn_str_of_blob(attr->value));
        return true;
    }
    for (size_t i = 0; i < TN_COUNT_OF(texts); i++) {
        if (tn_str_is(attr->name, texts[i].name)) {
            *texts[i].to = tn_str_of_blob(attr->value);
            return true;
        }
    }
    return tn_search_attr_is_system(attr->name);
}

/* True for attributes that are fields of the answer. */
static bool take(shown *s, const tn_attr *attr)
{
    const struct {
        const char *name;
        int64_t *to;
    } numbers[] = {
        {"StartTime", &s->start_ns},
        {"ExecutionTime", &s->execution_ns},
        {"CloseTime", &s->close_ns},
        {"ExecutionDuration", &s->duration_ns},
        {"HistoryLength", &s->length},
        {"HistorySizeBytes", &s->size},
        {"StateTransitionCount", &s->transitions},
    };
    if (attr->type == TN_ATTR_KEYWORD)
        return take_text(s, attr);
    for (size_t i = 0; i < TN_COUNT_OF(numbers); i++) {
        if (tn_str_is(attr->name, numbers[i].name)) {
            if (attr->value.n == 8)
                *numbers[i].to = (int64_t)tn_get_u64be(attr->value.p);
            return true;
        }
    }
    return false;
}

static char *text_of(tn_arena *arena, tn_str s)
{
    return (char *)(uintptr_t)tn_arena_str(arena, s).p;
}

static Temporal__Api__Common__V1__WorkflowExecution *execution(tn_arena *arena, tn_str workflow_id,
                                                               tn_str run_id)
{
    Temporal__Api__Common__V1__WorkflowExecution *e =
        TN_NEW(arena, Temporal__Api__Common__V1__WorkflowExecution);
    if (!e)
        return NULL;
    temporal__api__common__v1__workflow_execution__init(e);
    e->workflow_id = text_of(arena, workflow_id);
    e->run_id = text_of(arena, run_id);
    return e->workflow_id && e->run_id ? e : NULL;
}

static Temporal__Api__Common__V1__SearchAttributes *custom_attrs(tn_arena *arena,
                                                                 const tn_vis_doc *doc,
                                                                 size_t count)
{
    typedef Temporal__Api__Common__V1__SearchAttributes__IndexedFieldsEntry entry_t;
    Temporal__Api__Common__V1__SearchAttributes *attrs =
        TN_NEW(arena, Temporal__Api__Common__V1__SearchAttributes);
    entry_t **entries = TN_NEW_ARRAY(arena, entry_t *, count + 1);
    if (!attrs || !entries)
        return NULL;
    temporal__api__common__v1__search_attributes__init(attrs);
    attrs->indexed_fields = entries;
    for (size_t i = 0; i < doc->n_attrs; i++) {
        shown ignored = {0};
        if (take(&ignored, &doc->attrs[i]))
            continue;
        entry_t *entry = TN_NEW(arena, entry_t);
        if (!entry)
            return NULL;
        temporal__api__common__v1__search_attributes__indexed_fields_entry__init(entry);
        entry->key = text_of(arena, doc->attrs[i].name);
        entry->value = tn_search_attr_to_payload(arena, &doc->attrs[i]);
        if (!entry->key || !entry->value)
            return NULL;
        entries[attrs->n_indexed_fields++] = entry;
    }
    return attrs;
}

static bool fill_closed(tn_arena *arena, info_t *info, const shown *s)
{
    info->close_time = tn_ts_from_ns(arena, s->close_ns);
    info->execution_duration = tn_duration_from_ns(arena, s->duration_ns);
    info->history_length = s->length;
    info->history_size_bytes = s->size;
    info->state_transition_count = s->transitions;
    return info->close_time && info->execution_duration;
}

info_t *tn_vis_doc_to_info(tn_arena *arena, const tn_vis_doc *doc)
{
    shown s = {0};
    for (size_t i = 0; i < doc->n_attrs; i++)
        if (!take(&s, &doc->attrs[i]))
            s.n_custom++;
    info_t *info = TN_NEW(arena, info_t);
    Temporal__Api__Common__V1__WorkflowType *type =
        TN_NEW(arena, Temporal__Api__Common__V1__WorkflowType);
    if (!info || !type)
        return NULL;
    temporal__api__workflow__v1__workflow_execution_info__init(info);
    temporal__api__common__v1__workflow_type__init(type);
    type->name = text_of(arena, s.type);
    info->type = type;
    info->execution = execution(arena, doc->workflow_id, doc->run_id);
    info->start_time = tn_ts_from_ns(arena, s.start_ns);
    info->execution_time = tn_ts_from_ns(arena, s.execution_ns > 0 ? s.execution_ns : s.start_ns);
    info->status = (Temporal__Api__Enums__V1__WorkflowExecutionStatus)s.status;
    info->task_queue = text_of(arena, s.task_queue);
    info->root_execution = execution(arena, s.root_workflow_id, s.root_run_id);
    info->search_attributes = custom_attrs(arena, doc, s.n_custom);
    if (!type->name || !info->execution || !info->start_time || !info->execution_time ||
        !info->task_queue || !info->root_execution || !info->search_attributes)
        return NULL;
    if (s.parent_workflow_id.n) {
        info->parent_execution = execution(arena, s.parent_workflow_id, s.parent_run_id);
        if (!info->parent_execution)
            return NULL;
    }
    if (s.status != STATUS_RUNNING && s.status != STATUS_PAUSED && !fill_closed(arena, info, &s))
        return NULL;
    tn_blob memo = tn_arena_blob(arena, doc->memo); /* field 10; empty: a memo without fields */
    if ((doc->memo.n && !memo.p) || !tn_proto_attach(&info->base, arena, 10, memo))
        return NULL;
    return info;
}

tn_status tn_vis_groups_to_api(
    tn_arena *arena, const tn_vis_page *page,
    Temporal__Api__Workflowservice__V1__CountWorkflowExecutionsResponse__AggregationGroup **
        *out_groups,
    size_t *out_count)
{
    typedef Temporal__Api__Workflowservice__V1__CountWorkflowExecutionsResponse__AggregationGroup
        group_t;
    group_t **groups = TN_NEW_ARRAY(arena, group_t *, page->n_groups + 1);
    if (!groups)
        return TN_ETOOLARGE;
    for (size_t i = 0; i < page->n_groups; i++) {
        group_t *group = TN_NEW(arena, group_t);
        Temporal__Api__Common__V1__Payload **values =
            TN_NEW_ARRAY(arena, Temporal__Api__Common__V1__Payload *, 1);
        if (!group || !values)
            return TN_ETOOLARGE;
        temporal__api__workflowservice__v1__count_workflow_executions_response__aggregation_group__init(
            group);
        values[0] = tn_search_attr_to_payload(arena, &page->groups[i].values[0]);
        if (!values[0])
            return TN_ETOOLARGE;
        group->group_values = values;
        group->n_group_values = 1;
        group->count = (int64_t)page->groups[i].count;
        groups[i] = group;
    }
    *out_groups = groups, *out_count = page->n_groups;
    return TN_OK;
}
