/* SPDX-License-Identifier: MIT */
/* OperatorService's calls about Nexus endpoints: checks, and the registry's answers in the API's words. */
#include "frontend/priv.h"

#include <ctype.h>

#include "namespace/endpoint.h"
#include "store/store.h"
#include "temporal/api/nexus/v1/message.pb-c.h"

#define REQUEST(f, type) ((Temporal__Api__Operatorservice__V1__##type *)(void *)(f)->call->request)
#define MAKE(arena, c_name) make((arena), &c_name##__descriptor)

typedef Temporal__Api__Nexus__V1__EndpointSpec spec_msg;
typedef Temporal__Api__Nexus__V1__Endpoint endpoint_msg;
typedef Tenon__NexusEndpointRecord record_msg;

static void *make(tn_arena *arena, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = tn_arena_alloc(arena, descriptor->sizeof_message);
    descriptor->message_init(message);
    return message;
}

/* ---- what is wrong with a request: all of it at once ----------------------------------------- */

typedef struct issues {
    tn_arena *arena;
    const char *text; /* NULL: none */
} issues;

static void add_issue(issues *all, const char *fmt, ...) TN_PRINTF(2, 3);
static void add_issue(issues *all, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const char *one = tn_arena_vprintf(all->arena, fmt, args);
    va_end(args);
    all->text = all->text ? tn_arena_printf(all->arena, "%s, %s", all->text, one) : one;
}

static const tn_fault *fault_of(const issues *all)
{
    return all->text ? tn_fault_make(all->arena, TN_GRPC_INVALID_ARGUMENT, "%s", all->text) : NULL;
}

/* ^[a-zA-Z][a-zA-Z0-9\-]*[a-zA-Z0-9]$ */
static bool good_name(const char *name)
{
    size_t n = strlen(name);
    if (n < 2 || !isalpha((unsigned char)name[0]) || !isalnum((unsigned char)name[n - 1]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '-')
            return false;
    return true;
}

static void check_name(issues *all, const char *name)
{
    int64_t max = tn_dyn_i64(TN_DYN_LIMIT_ENDPOINT_NAME, TN_STR(""), TN_STR(""));
    if (!*name) {
        add_issue(all, "endpoint name not set");
        return;
    }
    if ((int64_t)strlen(name) > max)
        add_issue(all, "endpoint name exceeds length limit of %lld", (long long)max);
    if (!good_name(name))
        add_issue(all,
                  "endpoint name must match the regex: \"^[a-zA-Z][a-zA-Z0-9\\\\-]*[a-zA-Z0-9]$\"");
}

/* A NOT_FOUND of the namespace ends the checks at once, as it does in the reference. */
static const tn_fault *check_worker(issues *all,
                                    const Temporal__Api__Nexus__V1__EndpointTarget__Worker *worker)
{
    const char *why = NULL;
    if (!*worker->namespace_) {
        add_issue(all, "target namespace not set");
    } else {
        const tn_namespace *ns = tn_namespace_by_name(tn_str_from(worker->namespace_));
        if (!ns)
            return tn_fault_make(all->arena, TN_GRPC_FAILED_PRECONDITION,
                                 "could not verify namespace referenced by target exists: "
                                 "Namespace %s is not found.",
                                 worker->namespace_);
        tn_namespace_unref(ns);
    }
    if (!*worker->task_queue)
        why = "taskQueue is not set";
    else if (strlen(worker->task_queue) > tn_front_id_max())
        why = "taskQueue length exceeds limit";
    else if (strncmp(worker->task_queue, "/_sys/", 6) == 0)
        why = "task queue name cannot start with reserved prefix /_sys/";
    if (why)
        add_issue(all, "invalid target task queue: \"%s\"", why);
    return NULL;
}

static void check_external(issues *all, const char *url)
{
    int64_t max = tn_dyn_i64(TN_DYN_LIMIT_ENDPOINT_URL, TN_STR(""), TN_STR(""));
    const char *colon = strchr(url, ':');
    size_t n = colon ? (size_t)(colon - url) : 0;
    tn_str scheme = {url, n};
    if (!*url)
        add_issue(all, "empty target URL");
    else if ((int64_t)strlen(url) > max)
        add_issue(all, "target URL length exceeds limit of %lld", (long long)max);
    else if (!tn_str_is(scheme, "http") && !tn_str_is(scheme, "https"))
        add_issue(all, "invalid target URL scheme: \"%.*s\", expected http or https", (int)n, url);
}

static const tn_fault *check_spec(tn_arena *arena, const spec_msg *spec)
{
    issues all = {.arena = arena};
    const tn_fault *fault = NULL;
    int64_t max = tn_dyn_i64(TN_DYN_LIMIT_ENDPOINT_DESCRIPTION, TN_STR(""), TN_STR(""));
    int variant = spec && spec->target ? (int)spec->target->variant_case : 0;
    check_name(&all, spec ? spec->name : "");
    switch (variant) {
    case TEMPORAL__API__NEXUS__V1__ENDPOINT_TARGET__VARIANT_WORKER:
        fault = check_worker(&all, spec->target->worker);
        break;
    case TEMPORAL__API__NEXUS__V1__ENDPOINT_TARGET__VARIANT_EXTERNAL:
        check_external(&all, spec->target->external->url);
        break;
    default:
        add_issue(&all, "empty target variant");
        return fault_of(&all);
    }
    if (!fault && spec->description &&
        (int64_t)protobuf_c_message_get_packed_size(&spec->description->base) > max)
        add_issue(&all, "description size exceeds limit of %lld", (long long)max);
    return fault ? fault : fault_of(&all);
}

static void check_id(issues *all, const char *id)
{
    uint8_t bytes[16];
    if (!*id)
        add_issue(all, "endpoint ID not set");
    else if (strlen(id) != 36)
        add_issue(all, "malformed endpoint ID: \"invalid UUID length: %zu\"", strlen(id));
    else if (!tn_uuid_parse(tn_str_from(id), bytes))
        add_issue(all, "malformed endpoint ID: \"invalid UUID format\"");
}

/* ---- records and messages -------------------------------------------------------------------- */

static record_msg *record_of(tn_arena *arena, const spec_msg *spec)
{
    record_msg *record = MAKE(arena, tenon__nexus_endpoint_record);
    tn_blob packed = {NULL, 0};
    record->name = spec->name;
    if (spec->description && tn_proto_pack(&spec->description->base, arena, &packed) == TN_OK)
        record->description = (ProtobufCBinaryData){packed.n, (uint8_t *)(uintptr_t)packed.p};
    if (spec->target->variant_case == TEMPORAL__API__NEXUS__V1__ENDPOINT_TARGET__VARIANT_EXTERNAL) {
        record->url = spec->target->external->url;
        return record;
    }
    const tn_namespace *ns = tn_namespace_by_name(tn_str_from(spec->target->worker->namespace_));
    record->ns_id = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(ns ? ns->id : TN_STR("")));
    record->task_queue = spec->target->worker->task_queue;
    tn_namespace_unref(ns);
    return record;
}

static Temporal__Api__Nexus__V1__EndpointTarget *target_of(tn_arena *arena,
                                                           const record_msg *record)
{
    Temporal__Api__Nexus__V1__EndpointTarget *target =
        MAKE(arena, temporal__api__nexus__v1__endpoint_target);
    if (*record->url) {
        target->variant_case = TEMPORAL__API__NEXUS__V1__ENDPOINT_TARGET__VARIANT_EXTERNAL;
        target->external = MAKE(arena, temporal__api__nexus__v1__endpoint_target__external);
        target->external->url = tn_arena_strdup(arena, record->url);
        return target;
    }
    const tn_namespace *ns = tn_namespace_by_id(tn_str_from(record->ns_id));
    target->variant_case = TEMPORAL__API__NEXUS__V1__ENDPOINT_TARGET__VARIANT_WORKER;
    target->worker = MAKE(arena, temporal__api__nexus__v1__endpoint_target__worker);
    /* One whose namespace is gone is shown by what is known of it. */
    target->worker->namespace_ =
        tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(ns ? ns->name : tn_str_from(record->ns_id)));
    target->worker->task_queue = tn_arena_strdup(arena, record->task_queue);
    tn_namespace_unref(ns);
    return target;
}

static endpoint_msg *message_of(tn_arena *arena, const record_msg *record)
{
    endpoint_msg *endpoint = MAKE(arena, temporal__api__nexus__v1__endpoint);
    spec_msg *spec = endpoint->spec = MAKE(arena, temporal__api__nexus__v1__endpoint_spec);
    endpoint->version = record->version;
    endpoint->id = tn_arena_strdup(arena, record->id);
    endpoint->created_time = tn_ts_from_ns(arena, (int64_t)record->created_ns);
    if (record->version > 1)
        endpoint->last_modified_time = tn_ts_from_ns(arena, (int64_t)record->modified_ns);
    endpoint->url_prefix = tn_arena_printf(arena, "/nexus/endpoints/%s/services", record->id);
    spec->name = tn_arena_strdup(arena, record->name);
    spec->target = target_of(arena, record);
    if (record->description.len &&
        TN_PROTO_UNPACK(temporal__api__common__v1__payload,
                        tn_blob_from(record->description.data, record->description.len), arena,
                        &spec->description, NULL) != TN_OK)
        spec->description = NULL;
    return endpoint;
}

/* ---- writes ---------------------------------------------------------------------------------- */

static void written(tn_endpoint_write *write)
{
    tn_fcall *f = write->user;
    tn_arena *arena = f->call->arena;
    if (write->fault) {
        tn_front_fail(f, write->fault);
    } else if (write->verb == TN_ENDPOINT_DELETE) {
        tn_front_reply(f, NULL);
    } else if (write->verb == TN_ENDPOINT_CREATE) {
        Temporal__Api__Operatorservice__V1__CreateNexusEndpointResponse *out =
            MAKE(arena, temporal__api__operatorservice__v1__create_nexus_endpoint_response);
        out->endpoint = message_of(arena, write->record);
        tn_front_reply(f, &out->base);
    } else {
        Temporal__Api__Operatorservice__V1__UpdateNexusEndpointResponse *out =
            MAKE(arena, temporal__api__operatorservice__v1__update_nexus_endpoint_response);
        out->endpoint = message_of(arena, write->record);
        tn_front_reply(f, &out->base);
    }
}

static void submit(tn_fcall *f, int verb, record_msg *record)
{
    tn_endpoint_write *write = TN_NEW(f->call->arena, tn_endpoint_write);
    *write = (tn_endpoint_write){.arena = f->call->arena,
                                 .home = f->call->home,
                                 .record = record,
                                 .done = written,
                                 .user = f};
    write->verb = verb;
    tn_endpoint_submit(write);
}

void tn_do_create_endpoint(tn_fcall *f)
{
    const spec_msg *spec = REQUEST(f, CreateNexusEndpointRequest)->spec;
    const tn_fault *fault = check_spec(f->call->arena, spec);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    record_msg *record = record_of(f->call->arena, spec);
    record->id = tn_fresh_uuid(f->call->arena);
    submit(f, TN_ENDPOINT_CREATE, record);
}

void tn_do_update_endpoint(tn_fcall *f)
{
    const Temporal__Api__Operatorservice__V1__UpdateNexusEndpointRequest *r =
        REQUEST(f, UpdateNexusEndpointRequest);
    const tn_fault *fault = check_spec(f->call->arena, r->spec);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    record_msg *record = record_of(f->call->arena, r->spec);
    record->id = r->id;
    record->version = r->version;
    submit(f, TN_ENDPOINT_UPDATE, record);
}

void tn_do_delete_endpoint(tn_fcall *f)
{
    const Temporal__Api__Operatorservice__V1__DeleteNexusEndpointRequest *r =
        REQUEST(f, DeleteNexusEndpointRequest);
    issues all = {.arena = f->call->arena};
    check_id(&all, r->id);
    if (r->version <= 0)
        add_issue(&all, "endpoint version is non-positive");
    if (all.text) {
        tn_front_fail(f, fault_of(&all));
        return;
    }
    record_msg *record = MAKE(f->call->arena, tenon__nexus_endpoint_record);
    record->id = r->id;
    submit(f, TN_ENDPOINT_DELETE, record);
}

/* ---- reads ----------------------------------------------------------------------------------- */

void tn_do_get_endpoint(tn_fcall *f)
{
    const Temporal__Api__Operatorservice__V1__GetNexusEndpointRequest *r =
        REQUEST(f, GetNexusEndpointRequest);
    tn_arena *arena = f->call->arena;
    issues all = {.arena = arena};
    check_id(&all, r->id);
    if (all.text) {
        tn_front_fail(f, fault_of(&all));
        return;
    }
    const tn_endpoints *list = tn_endpoints_acquire();
    const record_msg *record = tn_endpoints_by_id(list, tn_str_from(r->id));
    if (record) {
        Temporal__Api__Operatorservice__V1__GetNexusEndpointResponse *out =
            MAKE(arena, temporal__api__operatorservice__v1__get_nexus_endpoint_response);
        out->endpoint = message_of(arena, record);
        tn_front_reply(f, &out->base);
    } else {
        tn_front_fail(f, tn_fault_make(arena, TN_GRPC_NOT_FOUND,
                                       "Nexus endpoint with ID `%s` not found", r->id));
    }
    tn_endpoints_release(list);
}

static const tn_fault *check_page(tn_arena *arena, int32_t *size)
{
    int64_t max = tn_dyn_i64(TN_DYN_LIMIT_ENDPOINT_PAGE_MAX, TN_STR(""), TN_STR(""));
    if (*size == 0)
        *size = (int32_t)tn_dyn_i64(TN_DYN_LIMIT_ENDPOINT_PAGE, TN_STR(""), TN_STR(""));
    else if (*size < 0)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "page_size is negative");
    else if (*size > max)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "page_size exceeds limit of %lld",
                             (long long)max);
    return NULL;
}

/* Pages go by id: the token is that of the next page's first.  One that is gone meanwhile is no mistake. */
static void fill_page(tn_arena *arena, const tn_endpoints *list, tn_str from, int32_t size,
                      Temporal__Api__Operatorservice__V1__ListNexusEndpointsResponse *out)
{
    out->endpoints = TN_NEW_ARRAY(arena, endpoint_msg *, (size_t)size + 1);
    for (size_t i = 0; i < list->count; i++) {
        const record_msg *record = list->items[i];
        if (tn_blob_cmp(tn_blob_of_str(tn_str_from(record->id)), tn_blob_of_str(from)) < 0)
            continue;
        if (out->n_endpoints == (size_t)size) {
            out->next_page_token = (ProtobufCBinaryData){
                strlen(record->id), (uint8_t *)tn_arena_strdup(arena, record->id)};
            return;
        }
        out->endpoints[out->n_endpoints++] = message_of(arena, record);
    }
}

void tn_do_list_endpoints(tn_fcall *f)
{
    const Temporal__Api__Operatorservice__V1__ListNexusEndpointsRequest *r =
        REQUEST(f, ListNexusEndpointsRequest);
    tn_arena *arena = f->call->arena;
    Temporal__Api__Operatorservice__V1__ListNexusEndpointsResponse *out =
        MAKE(arena, temporal__api__operatorservice__v1__list_nexus_endpoints_response);
    int32_t size = r->page_size;
    const tn_fault *fault = *r->name ? NULL : check_page(arena, &size);
    if (fault) {
        tn_front_fail(f, fault);
        return;
    }
    const tn_endpoints *list = tn_endpoints_acquire();
    if (*r->name) {
        const record_msg *record = tn_endpoints_by_name(list, tn_str_from(r->name));
        out->endpoints = TN_NEW_ARRAY(arena, endpoint_msg *, 1);
        if (record)
            out->endpoints[out->n_endpoints++] = message_of(arena, record);
    } else {
        fill_page(arena, list,
                  (tn_str){(const char *)r->next_page_token.data, r->next_page_token.len}, size,
                  out);
    }
    tn_front_reply(f, &out->base);
    tn_endpoints_release(list);
}
