/* SPDX-License-Identifier: MIT */
/*
 * The tables that the build generates from the .proto files: all messages by full name, all
 * methods by path, each sorted for a binary search.  Includes protobuf-c only, since the
 * generated source is compiled apart from ours.  Use proto.h, which looks things up here.
 */
#ifndef TN_PROTO_REGISTRY_H
#define TN_PROTO_REGISTRY_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#define TN_METHOD_CLIENT_STREAM 1u
#define TN_METHOD_SERVER_STREAM 2u

typedef struct tn_message_entry {
    const char *name; /* "temporal.api.common.v1.Payload" */
    const ProtobufCMessageDescriptor *descriptor;
} tn_message_entry;

typedef struct tn_method {
    const char *path;    /* "/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo" */
    const char *service; /* "temporal.api.workflowservice.v1.WorkflowService" */
    const char *name;    /* "GetSystemInfo" */
    const ProtobufCMessageDescriptor *input;
    const ProtobufCMessageDescriptor *output;
    uint32_t flags; /* TN_METHOD_* */
} tn_method;

typedef struct tn_http_binding {
    const char *verb;    /* "GET" */
    const char *pattern; /* "/namespaces/{namespace}/workflows" */
    const char *body;    /* "": none, "*": the request, else the name of one of its fields */
    const char *path;    /* the method's */
} tn_http_binding;

extern const tn_message_entry tn_message_table[];
extern const size_t tn_message_count;
extern const tn_method tn_method_table[];
extern const size_t tn_method_count;
/* In the order of the files: where two match, the later one counts. */
extern const tn_http_binding tn_http_binding_table[];
extern const size_t tn_http_binding_count;

/* The public API as a serialised google.protobuf.FileDescriptorSet. */
extern const uint8_t tn_api_fds_begin[];
extern const uint8_t tn_api_fds_end[];

#endif
