/* SPDX-License-Identifier: MIT */
/* Search attributes of a namespace: add, remove, list.  They are part of its record; any number of any type. */
#include "frontend/priv.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"
#include "visibility/visibility.h"

typedef Temporal__Api__Operatorservice__V1__AddSearchAttributesRequest add_request;
typedef Temporal__Api__Operatorservice__V1__RemoveSearchAttributesRequest remove_request;
typedef Temporal__Api__Operatorservice__V1__ListSearchAttributesResponse list_response;

/* The API's numbers are the plugin contract's. */
static uint32_t type_of(int indexed_value_type)
{
    return indexed_value_type >= 1 && indexed_value_type <= 7 ? (uint32_t)indexed_value_type : 0;
}

static Tenon__NamespaceRecord *begin(tn_fcall *f, const char *name)
{
    tn_arena *arena = f->call->arena;
    if (!*name) {
        tn_front_invalid(f, "Namespace is not set on request.");
        return NULL;
    }
    f->ns = tn_namespace_by_name(tn_str_from(name));
    if (!f->ns) {
        tn_front_fail(f, tn_namespace_not_found(arena, tn_str_from(name)));
        return NULL;
    }
    Tenon__NamespaceRecord *record = NULL;
    tn_error err;
    if (tn_proto_unpack(&tenon__namespace_record__descriptor, f->ns->record, arena,
                        (ProtobufCMessage **)(void *)&record, &err) != TN_OK) {
        tn_front_fail(f, tn_fault_from_status(arena, err.code, &err));
        return NULL;
    }
    return record;
}

static void written(tn_namespace_write *write)
{
    tn_fcall *f = write->user;
    tn_namespace_unref(write->result);
    if (write->fault)
        tn_front_fail(f, write->fault);
    else
        tn_front_reply(f, NULL);
}

typedef struct defining {
    tn_fcall *f;
    Tenon__NamespaceRecord *record;
    tn_vis_op op;
} defining;

static void defined(tn_vis_op *op)
{
    defining *d = op->user;
    tn_fcall *f = d->f;
    if (op->status != TN_OK)
        tn_front_fail(f, tn_fault_from_status(f->call->arena, op->status, &op->error));
    else
        tn_front_write_namespace(f, d->record, f->ns->row_version, written);
}

static bool has(const Tenon__NamespaceRecord *record, const char *name)
{
    for (size_t i = 0; i < record->n_custom; i++)
        if (strcmp(record->custom[i]->name, name) == 0)
            return true;
    return false;
}

static bool add_one(tn_fcall *f, Tenon__NamespaceRecord *record, Tenon__SearchAttribute **list,
                    size_t *n, const char *name, int type)
{
    if (!*name || strlen(name) > tn_front_id_max()) {
        tn_front_invalid(f, "Search attribute name is empty or too long.");
        return false;
    }
    if (tn_search_attr_name_reserved(tn_str_from(name))) {
        tn_front_invalid(f, "Search attribute %s is reserved by system.", name);
        return false;
    }
    if (!type_of(type)) {
        tn_front_invalid(f, "Unknown search attribute type: %d.", type);
        return false;
    }
    if (has(record, name)) {
        tn_front_fail(f, tn_fault_make(f->call->arena, TN_GRPC_ALREADY_EXISTS,
                                       "Search attribute %s already exists.", name));
        return false;
    }
    Tenon__SearchAttribute *attr = tn_arena_alloc(f->call->arena, sizeof(*attr));
    tenon__search_attribute__init(attr);
    attr->name = (char *)(uintptr_t)name;
    attr->type = type_of(type);
    list[(*n)++] = attr;
    return true;
}

void tn_do_add_search_attributes(tn_fcall *f)
{
    const add_request *r = (const add_request *)(void *)f->call->request;
    tn_arena *arena = f->call->arena;
    if (!r->n_search_attributes) {
        tn_front_invalid(f, "SearchAttributes are not set on request.");
        return;
    }
    Tenon__NamespaceRecord *record = begin(f, r->namespace_);
    if (!record)
        return;
    size_t n = record->n_custom;
    Tenon__SearchAttribute **list =
        TN_NEW_ARRAY(arena, Tenon__SearchAttribute *, n + r->n_search_attributes);
    if (n)
        memcpy(list, record->custom, n * sizeof(list[0]));
    tn_attr *attrs = TN_NEW_ARRAY(arena, tn_attr, r->n_search_attributes);
    for (size_t i = 0; i < r->n_search_attributes; i++) {
        if (!add_one(f, record, list, &n, r->search_attributes[i]->key,
                     (int)r->search_attributes[i]->value))
            return;
        attrs[i] = (tn_attr){.name = tn_str_from(r->search_attributes[i]->key),
                             .type = type_of((int)r->search_attributes[i]->value)};
    }
    record->custom = list;
    record->n_custom = n;
    defining *d = TN_NEW(arena, defining);
    d->f = f;
    d->record = record;
    d->op.arena = arena;
    d->op.user = d;
    d->op.done = defined;
    d->op.u.define.attrs = attrs;
    d->op.u.define.count = r->n_search_attributes;
    tn_vis_define(&d->op);
}

void tn_do_remove_search_attributes(tn_fcall *f)
{
    const remove_request *r = (const remove_request *)(void *)f->call->request;
    if (!r->n_search_attributes) {
        tn_front_invalid(f, "SearchAttributes are not set on request.");
        return;
    }
    Tenon__NamespaceRecord *record = begin(f, r->namespace_);
    if (!record)
        return;
    for (size_t i = 0; i < r->n_search_attributes; i++) {
        const char *name = r->search_attributes[i];
        if (tn_search_attr_is_system(tn_str_from(name)) ||
            tn_search_attr_name_reserved(tn_str_from(name))) {
            tn_front_invalid(f, "Unable to remove non-custom search attributes: %s.", name);
            return;
        }
        size_t kept = 0;
        for (size_t k = 0; k < record->n_custom; k++)
            if (strcmp(record->custom[k]->name, name) != 0)
                record->custom[kept++] = record->custom[k];
        if (kept == record->n_custom) {
            tn_front_fail(f, tn_fault_make(f->call->arena, TN_GRPC_NOT_FOUND,
                                           "Search attribute %s doesn't exist.", name));
            return;
        }
        record->n_custom = kept;
    }
    tn_front_write_namespace(f, record, f->ns->row_version, written);
}

void tn_do_list_search_attributes(tn_fcall *f)
{
    typedef Temporal__Api__Operatorservice__V1__ListSearchAttributesResponse__CustomAttributesEntry
        custom_entry;
    typedef Temporal__Api__Operatorservice__V1__ListSearchAttributesResponse__SystemAttributesEntry
        system_entry;
    const Temporal__Api__Operatorservice__V1__ListSearchAttributesRequest *r =
        (const void *)f->call->request;
    tn_arena *arena = f->call->arena;
    Tenon__NamespaceRecord *record = begin(f, r->namespace_);
    if (!record)
        return;
    tn_arena_set_limit(arena, 0);
    list_response *out = tn_arena_alloc(arena, sizeof(*out));
    temporal__api__operatorservice__v1__list_search_attributes_response__init(out);
    out->custom_attributes = TN_NEW_ARRAY(arena, custom_entry *, record->n_custom + 1);
    for (size_t i = 0; i < record->n_custom; i++) {
        custom_entry *entry = tn_arena_alloc(arena, sizeof(*entry));
        temporal__api__operatorservice__v1__list_search_attributes_response__custom_attributes_entry__init(
            entry);
        entry->key = record->custom[i]->name;
        entry->value = (Temporal__Api__Enums__V1__IndexedValueType)record->custom[i]->type;
        out->custom_attributes[out->n_custom_attributes++] = entry;
    }
    size_t count;
    const tn_attr_type_row *rows = tn_search_attr_system_table(&count);
    out->system_attributes = TN_NEW_ARRAY(arena, system_entry *, count + 1);
    for (size_t i = 0; i < count; i++) {
        system_entry *entry = tn_arena_alloc(arena, sizeof(*entry));
        temporal__api__operatorservice__v1__list_search_attributes_response__system_attributes_entry__init(
            entry);
        entry->key = (char *)(uintptr_t)rows[i].name;
        entry->value = (Temporal__Api__Enums__V1__IndexedValueType)rows[i].type;
        out->system_attributes[out->n_system_attributes++] = entry;
    }
    tn_front_reply(f, &out->base);
}

void tn_do_get_search_attributes(tn_fcall *f)
{
    typedef Temporal__Api__Workflowservice__V1__GetSearchAttributesResponse__KeysEntry entry_type;
    tn_arena *arena = f->call->arena;
    size_t count;
    const tn_attr_type_row *rows = tn_search_attr_system_table(&count);
    Temporal__Api__Workflowservice__V1__GetSearchAttributesResponse *out =
        tn_arena_alloc(arena, sizeof(*out));
    temporal__api__workflowservice__v1__get_search_attributes_response__init(out);
    out->keys = TN_NEW_ARRAY(arena, entry_type *, count + 1);
    for (size_t i = 0; i < count; i++) {
        entry_type *entry = tn_arena_alloc(arena, sizeof(*entry));
        temporal__api__workflowservice__v1__get_search_attributes_response__keys_entry__init(entry);
        entry->key = (char *)(uintptr_t)rows[i].name;
        entry->value = (Temporal__Api__Enums__V1__IndexedValueType)rows[i].type;
        out->keys[out->n_keys++] = entry;
    }
    tn_front_reply(f, &out->base);
}
