/* SPDX-License-Identifier: MIT */
/* Search attributes as a whole: what a client may set, and how an upsert changes what is there. */
#include "proto/proto.h"
#include "visibility/payload.h"

/* Far above the limit on keys: what was stored under other limits must still be readable. */
#define ENTRIES_MAX 5000

tn_status tn_vis_entries_read(tn_arena *arena, tn_blob packed, tn_vis_entry **out,
                              size_t *out_count)
{
    size_t count = 0, n = 0;
    tn_wire_field field;
    tn_wire_iter it = tn_wire_begin(packed);
    while (tn_wire_next(&it, &field))
        count += field.number == 1 && field.wire_type == TN_WIRE_BYTES;
    if (it.damaged || count > ENTRIES_MAX)
        return TN_EINVALID;
    tn_vis_entry *entries = TN_NEW_ARRAY(arena, tn_vis_entry, count + 1);
    if (!entries)
        return TN_ETOOLARGE;
    it = tn_wire_begin(packed);
    while (tn_wire_next(&it, &field)) {
        if (field.number != 1 || field.wire_type != TN_WIRE_BYTES)
            continue;
        tn_wire_field part;
        tn_vis_entry entry = {0};
        if (tn_wire_find(field.bytes, 1, &part))
            entry.name = tn_str_of_blob(part.bytes);
        if (tn_wire_find(field.bytes, 2, &part))
            entry.payload = part.bytes;
        size_t at = 0;
        while (at < n && !tn_str_eq(entries[at].name, entry.name))
            at++;
        entries[at] = entry;
        n += at == n;
    }
    *out = entries, *out_count = n;
    return TN_OK;
}

/* ---- validation ------------------------------------------------------------------------------- */

static const tn_fault *invalid(tn_arena *arena, const char *fmt, ...) TN_PRINTF(2, 3);

static const tn_fault *invalid(tn_arena *arena, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = tn_arena_vprintf(arena, fmt, args);
    va_end(args);
    return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "%s",
                         text ? text : "invalid search attributes");
}

static bool settable(tn_str name)
{
    size_t count;
    const tn_attr_type_row *table = tn_search_attr_system_table(&count);
    for (size_t i = 0; i < count; i++)
        if (tn_str_is(name, table[i].name))
            return table[i].settable;
    return true;
}

static const tn_fault *validate_entry(tn_arena *arena, const tn_namespace *ns,
                                      const tn_vis_entry *entry)
{
    uint32_t type = tn_search_attr_type(ns, entry->name);
    if (!type && tn_str_starts(entry->name, TN_STR("Temporal")))
        return invalid(arena, "search attribute " TN_STR_FMT " is not defined",
                       TN_STR_ARG(entry->name));
    if (!type)
        return invalid(arena,
                       "Namespace " TN_STR_FMT
                       " has no mapping defined for search attribute " TN_STR_FMT,
                       TN_STR_ARG(ns ? ns->name : TN_STR("")), TN_STR_ARG(entry->name));
    if (!settable(entry->name))
        return invalid(arena, TN_STR_FMT " attribute can't be set in SearchAttributes",
                       TN_STR_ARG(entry->name));
    tn_blob value;
    bool null;
    tn_status status = tn_search_attr_from_payload(arena, type, entry->payload, &value, &null);
    if (status == TN_OK)
        return NULL;
    if (status != TN_EINVALID)
        return tn_fault_from_status(arena, status, NULL);
    tn_str shown = tn_vis_payload_show(arena, entry->payload);
    return invalid(arena,
                   "invalid value for search attribute " TN_STR_FMT " of type %s: " TN_STR_FMT,
                   TN_STR_ARG(entry->name), tn_search_attr_type_name(type), TN_STR_ARG(shown));
}

const tn_fault *tn_search_attrs_validate(tn_arena *arena, const tn_namespace *ns, tn_blob packed,
                                         const tn_search_attr_limits *limits)
{
    uint32_t count_max =
        limits && limits->count_max ? limits->count_max : TN_SEARCH_ATTRS_COUNT_MAX;
    uint32_t value_max =
        limits && limits->value_bytes_max ? limits->value_bytes_max : TN_SEARCH_ATTR_BYTES_MAX;
    uint32_t total_max =
        limits && limits->total_bytes_max ? limits->total_bytes_max : TN_SEARCH_ATTRS_BYTES_MAX;
    size_t count = 0;
    tn_wire_field field;
    for (tn_wire_iter it = tn_wire_begin(packed); tn_wire_next(&it, &field);)
        count += field.number == 1;
    if (count > count_max)
        return invalid(arena, "number of search attributes %zu exceeds limit %u", count, count_max);
    tn_vis_entry *entries;
    tn_status status = tn_vis_entries_read(arena, packed, &entries, &count);
    if (status == TN_EINVALID)
        return invalid(arena, "search attributes are damaged");
    if (status != TN_OK)
        return tn_fault_from_status(arena, status, NULL);
    for (size_t i = 0; i < count; i++) {
        const tn_fault *fault = validate_entry(arena, ns, &entries[i]);
        if (fault)
            return fault;
    }
    for (size_t i = 0; i < count; i++) {
        tn_vis_payload payload;
        if (tn_vis_payload_read(entries[i].payload, &payload) == TN_OK &&
            payload.data.n > value_max)
            return invalid(arena,
                           "search attribute " TN_STR_FMT " value size %zu exceeds size limit %u",
                           TN_STR_ARG(entries[i].name), payload.data.n, value_max);
    }
    if (packed.n > total_max)
        return invalid(arena, "total size of search attributes %zu exceeds size limit %u", packed.n,
                       total_max);
    return NULL;
}

/* ---- merging ---------------------------------------------------------------------------------- */

/* Writes one map entry; the type that the namespace knows is added where the payload names none. */
static void put_entry(tn_buf *buf, const tn_namespace *ns, const tn_vis_entry *entry)
{
    tn_buf payload = {0}, whole = {0}, meta = {0};
    tn_vis_payload known;
    uint32_t type = tn_search_attr_type(ns, entry->name);
    if (type && tn_vis_payload_read(entry->payload, &known) == TN_OK && !known.type.n) {
        const char *name = tn_search_attr_type_name(type);
        tn_proto_put_bytes(&meta, 1, tn_blob_of_str(TN_STR("type")));
        tn_proto_put_bytes(&meta, 2, tn_blob_from(name, strlen(name)));
        tn_proto_put_bytes(&payload, 1, tn_buf_blob(&meta));
    }
    tn_buf_put(&payload, entry->payload.p, entry->payload.n);
    tn_proto_put_bytes(&whole, 1, tn_blob_of_str(entry->name));
    tn_proto_put_bytes(&whole, 2, tn_buf_blob(&payload));
    tn_proto_put_bytes(buf, 1, tn_buf_blob(&whole));
    tn_buf_done(&payload);
    tn_buf_done(&whole);
    tn_buf_done(&meta);
}

tn_status tn_search_attrs_merge(tn_arena *arena, const tn_namespace *ns, tn_blob base,
                                tn_blob upsert, tn_blob *out)
{
    tn_vis_entry *old, *fresh;
    size_t n_old, n_fresh;
    tn_status status = tn_vis_entries_read(arena, base, &old, &n_old);
    if (status == TN_OK)
        status = tn_vis_entries_read(arena, upsert, &fresh, &n_fresh);
    if (status != TN_OK)
        return status;
    tn_buf buf = {0};
    for (size_t i = 0; i < n_old; i++) {
        bool replaced = tn_search_attr_payload_is_nil(old[i].payload);
        for (size_t k = 0; k < n_fresh && !replaced; k++)
            replaced = tn_str_eq(old[i].name, fresh[k].name);
        if (!replaced)
            put_entry(&buf, ns, &old[i]);
    }
    for (size_t k = 0; k < n_fresh; k++)
        if (!tn_search_attr_payload_is_nil(fresh[k].payload))
            put_entry(&buf, ns, &fresh[k]);
    *out = tn_arena_blob(arena, tn_buf_blob(&buf));
    bool full = buf.n && !out->p;
    tn_buf_done(&buf);
    return full ? TN_ETOOLARGE : TN_OK;
}
