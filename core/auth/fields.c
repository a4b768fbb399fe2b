/* SPDX-License-Identifier: MIT */
/* The namespaces that a request names besides its own, at any depth: commands of a workflow task, parts of a
 * multi-operation, links, targets of endpoints.  Each is asked about as the call that it stands for.
 *
 * Found by the descriptors, once, so that a field which a later API adds is asked about without a line here (as
 * the method that carries it).  Only the branches that lead to such a field are kept, and walked without recursion. */
#include <stdlib.h>
#include <string.h>

#include "auth/private.h"
#include "namespace/namespace.h"

#define WORKFLOW_SERVICE "/temporal.api.workflowservice.v1.WorkflowService/"
#define API(name) "temporal.api." name

/* What a message's `namespace` stands for; NULL: told and stored, never acted upon. */
static const struct {
    const char *message, *path;
} standing[] = {
    {API("command.v1.StartChildWorkflowExecutionCommandAttributes"),
     WORKFLOW_SERVICE "StartWorkflowExecution"},
    {API("command.v1.SignalExternalWorkflowExecutionCommandAttributes"),
     WORKFLOW_SERVICE "SignalWorkflowExecution"},
    {API("command.v1.RequestCancelExternalWorkflowExecutionCommandAttributes"),
     WORKFLOW_SERVICE "RequestCancelWorkflowExecution"},
    {API("workflowservice.v1.StartWorkflowExecutionRequest"),
     WORKFLOW_SERVICE "StartWorkflowExecution"},
    {API("workflowservice.v1.UpdateWorkflowExecutionRequest"),
     WORKFLOW_SERVICE "UpdateWorkflowExecution"},
    {API("common.v1.Link.Workflow"), WORKFLOW_SERVICE "DescribeWorkflowExecution"},
    {API("common.v1.Link.WorkflowEvent"), WORKFLOW_SERVICE "DescribeWorkflowExecution"},
    {API("common.v1.Link.Callback"), WORKFLOW_SERVICE "DescribeWorkflowExecution"},
    {API("common.v1.Link.Activity"), WORKFLOW_SERVICE "DescribeActivityExecution"},
    {API("common.v1.Link.NexusOperation"), WORKFLOW_SERVICE "DescribeNexusOperationExecution"},
    {API("nexus.v1.EndpointTarget.Worker"), WORKFLOW_SERVICE "UpdateNamespace"},
    /* Where a child had run: a failure comes from the server and goes on from worker to worker. */
    {API("failure.v1.ChildWorkflowExecutionFailureInfo"), NULL},
};

typedef struct edge {
    const ProtobufCFieldDescriptor *field;
    struct tn_auth_node *node; /* a message that leads on; NULL: the field names a namespace */
    const char *path;          /* what it stands for; NULL: the call itself */
    bool by_id;
} edge;

struct tn_auth_node {
    const ProtobufCMessageDescriptor *message;
    edge *edges;
    size_t n_edges;
    bool leads; /* to a field that names a namespace */
};

static struct tn_auth_node **nodes;
static size_t n_nodes;

static struct tn_auth_node *node_of(const ProtobufCMessageDescriptor *message)
{
    for (size_t i = 0; i < n_nodes; i++)
        if (nodes[i]->message == message)
            return nodes[i];
    nodes = tn_xreallocarray(nodes, n_nodes + 1, sizeof(nodes[0]));
    nodes[n_nodes] = tn_xcalloc(1, sizeof(*nodes[0]));
    nodes[n_nodes]->message = message;
    return nodes[n_nodes++];
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static bool names_namespace(const ProtobufCFieldDescriptor *field, bool *out_by_id)
{
    *out_by_id = ends_with(field->name, "namespace_id");
    return field->type == PROTOBUF_C_TYPE_STRING &&
           (*out_by_id || ends_with(field->name, "namespace"));
}

static void add_edge(struct tn_auth_node *node, edge e)
{
    node->edges = tn_xreallocarray(node->edges, node->n_edges + 1, sizeof(node->edges[0]));
    node->edges[node->n_edges++] = e;
}

static void add_edges(struct tn_auth_node *node)
{
    const ProtobufCMessageDescriptor *m = node->message;
    const char *path = NULL;
    for (size_t i = 0; i < TN_COUNT_OF(standing); i++) {
        if (strcmp(standing[i].message, m->name) != 0)
            continue;
        if (!standing[i].path)
            return;
        path = standing[i].path;
    }
    for (size_t i = 0; i < m->n_fields; i++) {
        edge e = {.field = &m->fields[i], .path = path};
        if (e.field->type == PROTOBUF_C_TYPE_MESSAGE)
            e.node = node_of(e.field->descriptor);
        else if (!names_namespace(e.field, &e.by_id))
            continue;
        add_edge(node, e);
    }
}

/* Does a branch lead to a namespace?  Once more over all of them until nothing changes: the graph has cycles. */
static void find_leading(void)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < n_nodes; i++)
            for (size_t k = 0; k < nodes[i]->n_edges && !nodes[i]->leads; k++) {
                const edge *e = &nodes[i]->edges[k];
                nodes[i]->leads = !e->node || e->node->leads;
                changed = changed || nodes[i]->leads;
            }
    }
}

static void prune(struct tn_auth_node *node)
{
    size_t kept = 0;
    for (size_t i = 0; i < node->n_edges; i++)
        if (!node->edges[i].node || node->edges[i].node->leads)
            node->edges[kept++] = node->edges[i];
    node->n_edges = kept;
}

void tn_auth_fields_init(tn_auth_method *methods, size_t count)
{
    for (size_t i = 0; i < count; i++)
        methods[i].fields = node_of(methods[i].input);
    for (size_t i = 0; i < n_nodes; i++)
        add_edges(nodes[i]); /* which may add nodes */
    find_leading();
    for (size_t i = 0; i < n_nodes; i++)
        prune(nodes[i]);
}

/* Its own namespace aside, which the call as such is asked about. */
static bool is_own(const tn_auth_method *method, const ProtobufCFieldDescriptor *field)
{
    return (field == method->ns.outer && !method->ns.inner) ||
           (field == method->ns_id.outer && !method->ns_id.inner);
}

bool tn_auth_names_more(const tn_auth_method *method)
{
    const struct tn_auth_node *node = method->fields;
    for (size_t i = 0; i < node->n_edges; i++)
        if (!is_own(method, node->edges[i].field))
            return true;
    return false;
}

/* The index-th value of a field that is set; NULL: there is no such. */
static const void *value_at(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                            size_t index)
{
    const char *base = (const char *)message;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n = *(const size_t *)(const void *)(base + field->quantifier_offset);
        void *const *values = *(void *const *const *)(const void *)(base + field->offset);
        return index < n ? values[index] : NULL;
    }
    if (index > 0)
        return NULL;
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
        *(const uint32_t *)(const void *)(base + field->quantifier_offset) != field->id)
        return NULL;
    return *(void *const *)(const void *)(base + field->offset);
}

void tn_auth_walk_begin(tn_auth_walk *walk, const tn_auth_method *method,
                        const ProtobufCMessage *request)
{
    walk->method = method;
    walk->depth = 1;
    walk->stack[0] = (tn_auth_frame){.node = method->fields, .message = request};
}

/* One value further: a namespace's text, or NULL after a step that led to none. */
static const char *step(tn_auth_walk *walk, const edge **out_edge)
{
    tn_auth_frame *top = &walk->stack[walk->depth - 1];
    if (top->edge >= top->node->n_edges) {
        walk->depth--;
        return NULL;
    }
    const edge *e = &top->node->edges[top->edge];
    const void *value = walk->depth == 1 && is_own(walk->method, e->field)
                            ? NULL
                            : value_at(top->message, e->field, top->index++);
    if (!value) {
        top->edge++;
        top->index = 0;
        return NULL;
    }
    *out_edge = e;
    if (!e->node)
        return value;
    if (walk->depth == TN_AUTH_DEPTH_MAX) {
        walk->too_deep = true;
        return NULL;
    }
    walk->stack[walk->depth++] = (tn_auth_frame){.node = e->node, .message = value};
    return NULL;
}

bool tn_auth_walk_next(tn_auth_walk *walk, const tn_call *call, tn_str own_ns, tn_str *out_ns,
                       tn_str *out_api)
{
    while (walk->depth && !walk->too_deep) {
        const edge *e = NULL;
        const char *text = step(walk, &e);
        if (!text || !*text)
            continue;
        tn_str ns = tn_str_from(text);
        if (e->by_id)
            ns = tn_auth_name_of_id(call, ns);
        if (ns.n == 0) /* no such id: only who may act anywhere may go on and hear so */
            ns = tn_str_from(text);
        if (tn_str_eq(ns, own_ns))
            continue;
        *out_ns = ns;
        *out_api = tn_str_from(e->path ? e->path : call->method->path);
        return true;
    }
    return false;
}
