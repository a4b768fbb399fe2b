/* SPDX-License-Identifier: MIT */
/* grpc.reflection v1 and v1alpha (the same messages on the wire), served from the descriptor set that
 * is part of the program: an answer is slices of it.  Nothing but the list of files is kept; symbols are
 * looked up by walking the packed descriptors, which takes a fraction of a millisecond. */
#include <stdlib.h>
#include <string.h>

#include "grpc/reflection/v1/reflection.pb-c.h"
#include "proto/proto.h"
#include "rpc/health.h"
#include "rpc/method.h"

#define FILES_MAX 256

/* Field numbers of google/protobuf/descriptor.proto. */
enum { SET_FILE = 1 };
enum {
    FILE_NAME = 1,
    FILE_PACKAGE,
    FILE_DEPENDENCY,
    FILE_MESSAGE,
    FILE_ENUM,
    FILE_SERVICE,
    FILE_EXTENSION
};
enum { MESSAGE_FIELD = 2, MESSAGE_NESTED, MESSAGE_ENUM, MESSAGE_EXTENSION = 6, MESSAGE_ONEOF = 8 };
enum { ANY_NAME = 1, ENUM_VALUE = 2, SERVICE_METHOD = 2, FIELD_EXTENDEE = 2, FIELD_NUMBER = 3 };

typedef struct file {
    tn_blob bytes;
    tn_str name, package;
} file;

static file files[FILES_MAX]; /* filled at start-up */
static size_t file_count;

/* What a stream has been sent: a file comes once, with those that it needs. */
typedef struct reflection {
    uint64_t sent[FILES_MAX / 64];
} reflection;

typedef struct found {
    uint8_t index[FILES_MAX];
    size_t count;
} found;

static tn_str name_of(tn_blob descriptor)
{
    tn_wire_field f;
    return tn_wire_find(descriptor, ANY_NAME, &f) ? tn_str_of_blob(f.bytes) : (tn_str){NULL, 0};
}

/* ---- symbols ---- */

static bool child_named(tn_blob parent, uint32_t number, tn_str name)
{
    tn_wire_field f;

    for (tn_wire_iter it = tn_wire_begin(parent); tn_wire_next(&it, &f);) {
        if (f.number == number && f.wire_type == TN_WIRE_BYTES && tn_str_eq(name_of(f.bytes), name))
            return true;
    }
    return false;
}

typedef enum kind { KIND_NONE, KIND_MESSAGE, KIND_ENUM, KIND_SERVICE, KIND_LEAF } kind;

static kind kind_of(bool in_file, uint32_t number)
{
    if (in_file)
        return number == FILE_MESSAGE     ? KIND_MESSAGE
               : number == FILE_ENUM      ? KIND_ENUM
               : number == FILE_SERVICE   ? KIND_SERVICE
               : number == FILE_EXTENSION ? KIND_LEAF
                                          : KIND_NONE;
    return number == MESSAGE_NESTED ? KIND_MESSAGE
           : number == MESSAGE_ENUM ? KIND_ENUM
           : number == MESSAGE_FIELD || number == MESSAGE_EXTENSION || number == MESSAGE_ONEOF
               ? KIND_LEAF
               : KIND_NONE;
}

/* `rest` is a name relative to the scope: "Message.Nested.field", "Service.Method", "ENUM_VALUE". */
static bool scope_has(tn_blob scope, tn_str rest)
{
    bool in_file = true;

    for (;;) {
        const char *dot = memchr(rest.p, '.', rest.n);
        tn_str head = {rest.p, dot ? (size_t)(dot - rest.p) : rest.n};
        tn_str tail = dot ? (tn_str){dot + 1, rest.n - head.n - 1} : (tn_str){NULL, 0};
        tn_blob next = {NULL, 0};
        tn_wire_field f;

        for (tn_wire_iter it = tn_wire_begin(scope); !next.p && tn_wire_next(&it, &f);) {
            kind k = f.wire_type == TN_WIRE_BYTES ? kind_of(in_file, f.number) : KIND_NONE;
            bool same = k != KIND_NONE && tn_str_eq(name_of(f.bytes), head);

            if (same && !dot)
                return true;
            if (k == KIND_ENUM && !dot && child_named(f.bytes, ENUM_VALUE, head))
                return true;
            if (same && k == KIND_SERVICE)
                return child_named(f.bytes, SERVICE_METHOD, tail);
            if (same && k == KIND_MESSAGE)
                next = f.bytes;
        }
        if (!next.p || !tail.n)
            return false;
        scope = next;
        rest = tail;
        in_file = false;
    }
}

static bool file_has_symbol(const file *f, tn_str symbol)
{
    if (f->package.n) {
        if (symbol.n <= f->package.n + 1 || memcmp(symbol.p, f->package.p, f->package.n) != 0 ||
            symbol.p[f->package.n] != '.')
            return false;
        symbol = (tn_str){symbol.p + f->package.n + 1, symbol.n - f->package.n - 1};
    }
    return scope_has(f->bytes, symbol);
}

/* ---- extensions ----
 * Extensions stand at a file's top level or in a message; messages nest, so the walk keeps a stack. */

#define NEST_MAX 16

typedef struct extension_walk {
    tn_str type; /* without the leading dot */
    void (*each)(void *user, int32_t number);
    void *user;
} extension_walk;

static void extension_seen(const extension_walk *walk, tn_blob field)
{
    tn_wire_field f;
    tn_str extendee;

    if (!tn_wire_find(field, FIELD_EXTENDEE, &f))
        return;
    extendee = tn_str_of_blob(f.bytes);
    if (extendee.n && extendee.p[0] == '.')
        extendee = (tn_str){extendee.p + 1, extendee.n - 1};
    if (tn_str_eq(extendee, walk->type) && tn_wire_find(field, FIELD_NUMBER, &f))
        walk->each(walk->user, (int32_t)f.value);
}

static void file_extensions(const file *file_, const extension_walk *walk)
{
    tn_wire_iter stack[NEST_MAX];
    size_t depth = 1;
    tn_wire_field f;

    stack[0] = tn_wire_begin(file_->bytes);
    while (depth) {
        bool in_file = depth == 1;
        if (!tn_wire_next(&stack[depth - 1], &f)) {
            depth--;
            continue;
        }
        if (f.wire_type != TN_WIRE_BYTES)
            continue;
        if (f.number == (in_file ? (uint32_t)FILE_EXTENSION : (uint32_t)MESSAGE_EXTENSION))
            extension_seen(walk, f.bytes);
        else if (f.number == (in_file ? (uint32_t)FILE_MESSAGE : (uint32_t)MESSAGE_NESTED) &&
                 depth < NEST_MAX)
            stack[depth++] = tn_wire_begin(f.bytes);
    }
}

typedef struct numbers {
    int32_t want;
    bool hit;
    int32_t list[256];
    size_t count;
} numbers;

static void number_seen(void *user, int32_t number)
{
    numbers *n = user;

    if (number == n->want)
        n->hit = true;
    if (n->count < TN_COUNT_OF(n->list))
        n->list[n->count++] = number;
}

/* ---- answers ---- */

static void add_file(reflection *r, found *out, size_t index)
{
    uint64_t bit = UINT64_C(1) << (index % 64);

    if (r->sent[index / 64] & bit)
        return;
    r->sent[index / 64] |= bit;
    out->index[out->count++] = (uint8_t)index;
}

static size_t file_named(tn_str name)
{
    for (size_t i = 0; i < file_count; i++) {
        if (tn_str_eq(files[i].name, name))
            return i;
    }
    return FILES_MAX;
}

/* The file and what it imports, at any distance, less what this stream has had. */
static void add_closure(reflection *r, found *out, size_t index)
{
    tn_wire_field f;

    /* The asked one is sent again if asked for again. */
    r->sent[index / 64] &= ~(UINT64_C(1) << (index % 64));
    add_file(r, out, index);
    for (size_t i = 0; i < out->count; i++) {
        for (tn_wire_iter it = tn_wire_begin(files[out->index[i]].bytes); tn_wire_next(&it, &f);) {
            size_t dep = f.number == FILE_DEPENDENCY && f.wire_type == TN_WIRE_BYTES
                             ? file_named(tn_str_of_blob(f.bytes))
                             : FILES_MAX;
            if (dep < FILES_MAX)
                add_file(r, out, dep);
        }
    }
}

typedef Grpc__Reflection__V1__ServerReflectionRequest request_type;
typedef Grpc__Reflection__V1__ServerReflectionResponse response_type;

static void answer_error(response_type *response, tn_arena *arena, tn_grpc_code code,
                         const char *text)
{
    Grpc__Reflection__V1__ErrorResponse *error = TN_NEW(arena, Grpc__Reflection__V1__ErrorResponse);

    if (!error)
        return;
    grpc__reflection__v1__error_response__init(error);
    error->error_code = (int32_t)code;
    error->error_message = (char *)(uintptr_t)text;
    response->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
    response->error_response = error;
}

static void answer_files(response_type *response, tn_arena *arena, reflection *r, size_t index,
                         const char *missing)
{
    Grpc__Reflection__V1__FileDescriptorResponse *list;
    found out = {.count = 0};

    if (index >= FILES_MAX) {
        answer_error(response, arena, TN_GRPC_NOT_FOUND, missing);
        return;
    }
    add_closure(r, &out, index);
    list = TN_NEW(arena, Grpc__Reflection__V1__FileDescriptorResponse);
    if (!list)
        return;
    grpc__reflection__v1__file_descriptor_response__init(list);
    list->file_descriptor_proto = TN_NEW_ARRAY(arena, ProtobufCBinaryData, out.count);
    if (!list->file_descriptor_proto)
        return;
    for (size_t i = 0; i < out.count; i++) {
        tn_blob bytes = files[out.index[i]].bytes;
        list->file_descriptor_proto[i] =
            (ProtobufCBinaryData){bytes.n, (uint8_t *)(uintptr_t)bytes.p};
    }
    list->n_file_descriptor_proto = out.count;
    response->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
    response->file_descriptor_response = list;
}

static size_t file_with_symbol(tn_str symbol)
{
    for (size_t i = 0; i < file_count; i++) {
        if (file_has_symbol(&files[i], symbol))
            return i;
    }
    return FILES_MAX;
}

static size_t file_with_extension(tn_str type, int32_t number)
{
    for (size_t i = 0; i < file_count; i++) {
        numbers n = {.want = number};
        file_extensions(&files[i], &(extension_walk){type, number_seen, &n});
        if (n.hit)
            return i;
    }
    return FILES_MAX;
}

static void answer_numbers(response_type *response, tn_arena *arena, const char *type)
{
    Grpc__Reflection__V1__ExtensionNumberResponse *list;
    numbers n = {.want = -1};

    for (size_t i = 0; i < file_count; i++)
        file_extensions(&files[i], &(extension_walk){tn_str_from(type), number_seen, &n});
    if (!n.count && file_with_symbol(tn_str_from(type)) == FILES_MAX) {
        answer_error(response, arena, TN_GRPC_NOT_FOUND, "unknown type");
        return;
    }
    list = TN_NEW(arena, Grpc__Reflection__V1__ExtensionNumberResponse);
    if (!list)
        return;
    grpc__reflection__v1__extension_number_response__init(list);
    list->base_type_name = (char *)(uintptr_t)type;
    list->extension_number = tn_arena_memdup(arena, n.list, n.count * sizeof(n.list[0]));
    list->n_extension_number = list->extension_number ? n.count : 0;
    response->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE;
    response->all_extension_numbers_response = list;
}

static bool is_listed(const Grpc__Reflection__V1__ListServiceResponse *list, tn_str name)
{
    for (size_t i = 0; i < list->n_service; i++)
        if (tn_str_is(name, list->service[i]->name))
            return true;
    return false;
}

static void answer_services(response_type *response, tn_arena *arena)
{
    Grpc__Reflection__V1__ListServiceResponse *list =
        TN_NEW(arena, Grpc__Reflection__V1__ListServiceResponse);
    size_t methods = rpc_method_count();
    Grpc__Reflection__V1__ServiceResponse *each;

    if (!list)
        return;
    grpc__reflection__v1__list_service_response__init(list);
    list->service = TN_NEW_ARRAY(arena, Grpc__Reflection__V1__ServiceResponse *, methods);
    for (size_t i = 0; list->service && i < methods; i++) {
        tn_str name = rpc_method_service(i);
        if (is_listed(list, name))
            continue;
        each = TN_NEW(arena, Grpc__Reflection__V1__ServiceResponse);
        if (!each)
            break;
        grpc__reflection__v1__service_response__init(each);
        each->name = (char *)(uintptr_t)tn_arena_str(arena, name).p;
        if (!each->name)
            break;
        list->service[list->n_service++] = each;
    }
    response->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
    response->list_services_response = list;
}

static void answer(tn_call *call, request_type *request, tn_arena *arena)
{
    response_type response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    reflection *r = call->user;

    response.valid_host = request->host;
    response.original_request = request;
    switch (request->message_request_case) {
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
        answer_files(&response, arena, r, file_named(tn_str_from(request->file_by_filename)),
                     "unknown file");
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
        answer_files(&response, arena, r,
                     file_with_symbol(tn_str_from(request->file_containing_symbol)),
                     "unknown symbol");
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
        answer_files(
            &response, arena, r,
            file_with_extension(tn_str_from(request->file_containing_extension->containing_type),
                                request->file_containing_extension->extension_number),
            "unknown extension");
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
        answer_numbers(&response, arena, request->all_extension_numbers_of_type);
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
        answer_services(&response, arena);
        break;
    default:
        answer_error(&response, arena, TN_GRPC_INVALID_ARGUMENT, "the request asks for nothing");
        break;
    }
    tn_call_send(call, &response.base);
}

/* ---- the stream ---- */

static void reflection_end(tn_call *call) { tn_call_end(call, NULL); }

static void reflection_message(tn_call *call)
{
    tn_arena *arena;

    if (!call->request) {
        tn_call_end(call, NULL);
        return;
    }
    arena = tn_arena_create(1u << 20);
    answer(call, (request_type *)(void *)call->request, arena);
    tn_arena_destroy(arena);
}

static void reflection_info(tn_call *call)
{
    call->user = TN_NEW(call->arena, reflection);
    if (!call->user) {
        tn_call_end(call, tn_fault_make(call->arena, TN_GRPC_RESOURCE_EXHAUSTED, "out of memory"));
        return;
    }
    call->on_cancel = reflection_end;
    call->on_message = reflection_message;
    reflection_message(call);
}

static void index_files(void)
{
    tn_wire_field f, part;

    file_count = 0;
    for (tn_wire_iter it = tn_wire_begin(tn_proto_api_fds()); tn_wire_next(&it, &f);) {
        if (f.number != SET_FILE || file_count == FILES_MAX - 1)
            continue;
        file *each = &files[file_count++];
        each->bytes = f.bytes;
        each->name = name_of(f.bytes);
        if (tn_wire_find(f.bytes, FILE_PACKAGE, &part))
            each->package = tn_str_of_blob(part.bytes);
    }
}

void rpc_reflection_register(void)
{
    static const tn_rpc_method methods[] = {
        {.path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
         .input = &grpc__reflection__v1__server_reflection_request__descriptor,
         .output = &grpc__reflection__v1__server_reflection_response__descriptor,
         .flags = TN_RPC_STREAM_OUT | TN_RPC_STREAM_IN,
         .handle = reflection_info},
        {.path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
         .input = &grpc__reflection__v1__server_reflection_request__descriptor,
         .output = &grpc__reflection__v1__server_reflection_response__descriptor,
         .flags = TN_RPC_STREAM_OUT | TN_RPC_STREAM_IN,
         .handle = reflection_info},
    };

    index_files();
    tn_rpc_register(methods, TN_COUNT_OF(methods));
}
