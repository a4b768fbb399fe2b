/* SPDX-License-Identifier: MIT */
/* The visibility document of a run: what is listed follows from its state. */
#include "history/history.h"

#include "history/machine/object.h"
#include "proto/proto.h"
#include "visibility/visibility.h"

/* A packed map<string, Payload> (Memo, SearchAttributes: field 1). */
static tn_blob pack_map(tn_arena *arena, const tn_payload_map *map)
{
    tn_buf buf = {0};
    for (size_t i = 0; i < map->count; i++) {
        tn_buf entry = {0};
        tn_proto_put_bytes(&entry, 1, tn_blob_of_str(tn_str_from(map->items[i].name)));
        tn_proto_put_bytes(&entry, 2, map->items[i].payload);
        tn_proto_put_bytes(&buf, 1, tn_buf_blob(&entry));
        tn_buf_done(&entry);
    }
    tn_blob out = tn_arena_blob(arena, tn_buf_blob(&buf));
    tn_buf_done(&buf);
    return out;
}

/* The run's search attributes.  One whose worker has not been seen is listed as unversioned from the start: that
 * spares the write that would say so after its first workflow task. */
static tn_blob pack_search_attributes(tn_arena *arena, const tn_ms *ms)
{
    static const char unversioned[] = "\n\x16\n\x08"
                                      "encoding"
                                      "\x12\n"
                                      "json/plain"
                                      "\n\x13\n\x04"
                                      "type"
                                      "\x12\x0b"
                                      "KeywordList"
                                      "\x12\x0f"
                                      "[\"unversioned\"]"; /* a packed payload */
    tn_blob packed;
    tn_status status =
        tn_proto_pack(&tn_machine_search_attributes(ms, arena)->base, arena, &packed);
    TN_ASSERT(status == TN_OK); /* no cap on this arena */
    for (size_t i = 0; i < ms->search_attributes.count; i++)
        if (strcmp(ms->search_attributes.items[i].name, "BuildIds") == 0)
            return packed;
    tn_named_payload item = {.name = (char *)"BuildIds",
                             .payload = tn_blob_from(unversioned, sizeof(unversioned) - 1)};
    tn_blob more = pack_map(arena, &(tn_payload_map){.items = &item, .count = 1});
    uint8_t *both = tn_arena_alloc(arena, packed.n + more.n);
    if (packed.n)
        memcpy(both, packed.p, packed.n);
    memcpy(both + packed.n, more.p, more.n);
    return tn_blob_from(both, packed.n + more.n);
}

static tn_str own(tn_arena *arena, const char *s) { return tn_arena_str(arena, tn_str_from(s)); }

/* ---- objects ---- */

/* Packed maps behind each other are one map, in which the later entries count. */
static tn_blob join(tn_arena *arena, tn_blob a, tn_blob b)
{
    uint8_t *both = tn_arena_alloc(arena, a.n + b.n + 1);
    if (a.n)
        memcpy(both, a.p, a.n);
    if (b.n)
        memcpy(both + a.n, b.p, b.n);
    return tn_blob_from(both, a.n + b.n);
}

static tn_blob pack_message(tn_arena *arena, const ProtobufCMessage *message)
{
    tn_blob packed = {NULL, 0};
    tn_status status = message ? tn_proto_pack(message, arena, &packed) : TN_OK;
    TN_ASSERT(status == TN_OK); /* no cap on this arena */
    return packed;
}

static tn_blob division_of(tn_arena *arena, const char *division)
{
    Temporal__Api__Common__V1__Payload payload = TEMPORAL__API__COMMON__V1__PAYLOAD__INIT;
    Temporal__Api__Common__V1__Payload__MetadataEntry meta[2] = {
        TEMPORAL__API__COMMON__V1__PAYLOAD__METADATA_ENTRY__INIT,
        TEMPORAL__API__COMMON__V1__PAYLOAD__METADATA_ENTRY__INIT};
    Temporal__Api__Common__V1__Payload__MetadataEntry *entries[2] = {&meta[0], &meta[1]};
    meta[0].key = (char *)(uintptr_t) "encoding";
    meta[0].value = (ProtobufCBinaryData){10, (uint8_t *)(uintptr_t) "json/plain"};
    meta[1].key = (char *)(uintptr_t) "type";
    meta[1].value = (ProtobufCBinaryData){7, (uint8_t *)(uintptr_t) "Keyword"};
    payload.n_metadata = 2;
    payload.metadata = entries;
    char *json = tn_arena_printf(arena, "\"%s\"", division);
    payload.data = (ProtobufCBinaryData){strlen(json), (uint8_t *)json};
    tn_named_payload item = {.name = (char *)(uintptr_t) "TemporalNamespaceDivision",
                             .payload = pack_message(arena, &payload.base)};
    return pack_map(arena, &(tn_payload_map){.items = &item, .count = 1});
}

static void list_object(tn_arena *arena, const tn_ms *ms, tn_vis_run *doc)
{
    tn_object_listing listing = {.id = tn_object_id_of(doc->workflow_id),
                                 .type = doc->type,
                                 .task_queue = doc->task_queue,
                                 .status = doc->status,
                                 .execution_ns = ms->start_ns,
                                 .transitions = doc->state_transition_count};
    if (ms->kind->listing)
        ms->kind->listing(ms, arena, &listing);
    doc->workflow_id = listing.id;
    doc->type = listing.type;
    doc->task_queue = listing.task_queue;
    doc->status = listing.status;
    doc->execution_ns = (int64_t)listing.execution_ns;
    doc->state_transition_count = listing.transitions;
    doc->history_length = 0;
    doc->history_size_bytes = 0;
    doc->memo =
        join(arena, doc->memo, pack_message(arena, listing.memo ? &listing.memo->base : NULL));
    tn_blob attributes = pack_map(arena, &ms->search_attributes);
    attributes = join(arena, attributes,
                      pack_message(arena, listing.attributes ? &listing.attributes->base : NULL));
    doc->search_attributes = join(arena, attributes, division_of(arena, ms->kind->division));
}

void tn_history_document(tn_arena *arena, const tn_namespace *ns, const tn_ms *ms, tn_vis_doc *out)
{
    tn_arena *a = arena;
    tn_vis_run *doc = TN_NEW(a, tn_vis_run);
    *doc = (tn_vis_run){
        .ns_id = own(a, ms->ns_id),
        .workflow_id = own(a, ms->workflow_id),
        .run_id = own(a, ms->run_id_text),
        .type = own(a, ms->type),
        .task_queue = own(a, ms->task_queue),
        .status = ms->status ? ms->status : 1,
        .start_ns = (int64_t)tn_ms_shown_start_ns(ms),
        .execution_ns = (int64_t)(ms->first_wft_backoff_until_ns ? ms->first_wft_backoff_until_ns
                                                                 : tn_ms_shown_start_ns(ms)),
        .close_ns = (int64_t)ms->close_ns,
        .history_length = ms->next_event_id - 1,
        .history_size_bytes = ms->history_size_bytes,
        .state_transition_count = (int64_t)ms->transition,
        .parent_workflow_id = own(a, ms->parent.workflow_id),
        .parent_run_id = own(a, ms->parent.run_id),
        .root_workflow_id = own(a, ms->parent.root_workflow_id),
        .root_run_id = own(a, ms->parent.root_run_id),
        .memo = pack_map(a, &ms->memo),
        .search_attributes = pack_search_attributes(a, ms),
        .version = ms->transition,
    };
    if (ms->kind)
        list_object(a, ms, doc);
    tn_status status = tn_vis_doc_from_run(a, ns, doc, out);
    TN_ASSERT(status == TN_OK); /* no cap on this arena */
}
