/* SPDX-License-Identifier: MIT */
/* Requests to the handlers of Nexus operations, and completion callbacks: what a run wants of them is done after its
 * commit, and what became of it comes back as an operation of its own.  All of it can be repeated: handlers know a
 * request by its id, the receiver of a callback by the operation that it completes. */
#include "history/nexus.h"

#include <stdio.h>

#include "client/token.h"
#include "history/breaker.h"
#include "history/machine/nexus.h"
#include "namespace/endpoint.h"
#include "proto/proto.h"

#define CALLBACK_TOKEN "temporal-callback-token"
#define SYSTEM_URL "temporal://system"

typedef Temporal__Api__History__V1__NexusOperationScheduledEventAttributes scheduled_attrs;
typedef Temporal__Api__Nexus__V1__Request nexus_request;
typedef Temporal__Api__Nexus__V1__StartOperationRequest start_request;

static void *make(tn_arena *arena, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = tn_arena_alloc(arena, descriptor->sizeof_message);
    descriptor->message_init(message);
    return message;
}
#define MAKE(arena, c_name) make((arena), &c_name##__descriptor)

/* ---- callback tokens ------------------------------------------------------------------------- */

static char *callback_token(tn_arena *arena, const tn_run *run, const tn_nexus_op *op)
{
    Tenon__NexusCallbackToken token = TENON__NEXUS_CALLBACK_TOKEN__INIT;
    token.ns_id = run->wf->ns_id;
    token.workflow_id = run->wf->workflow_id;
    token.run_id = run->ms->run_id_text;
    token.scheduled_id = op->scheduled_id;
    token.request_id = op->request_id;
    tn_blob sealed = tn_token_seal(arena, &token.base);
    char *out = tn_arena_alloc(arena, 2 * sealed.n + 1);
    for (size_t i = 0; i < sealed.n; i++)
        snprintf(out + 2 * i, 3, "%02x", sealed.p[i]);
    out[2 * sealed.n] = '\0';
    return out;
}

/* ---- a request under way --------------------------------------------------------------------- */

typedef struct ncall { /* in an arena of its own */
    union {
        tn_mreq mreq;
        tn_hreq hreq;
    };
    tn_arena *arena;
    tn_shard *shard; /* of the run that waits */
    const char *ns_id, *workflow_id;
    uint8_t run_id[16];
    int64_t id; /* scheduled id of the operation, index of the callback */
    int op;     /* TN_IOP_* of the answer */
    const char *destination;
    bool retried; /* callback: without the run's id */
} ncall;

static ncall *ncall_begin(const tn_run *run, int op, int64_t id, const char *destination)
{
    tn_arena *arena = tn_arena_create(0);
    ncall *c = TN_NEW(arena, ncall);
    c->arena = arena;
    c->shard = run->wf->shard;
    c->ns_id = tn_arena_strdup(arena, run->wf->ns_id);
    c->workflow_id = tn_arena_strdup(arena, run->wf->workflow_id);
    memcpy(c->run_id, run->run_id, 16);
    c->op = op;
    c->id = id;
    c->destination = tn_arena_strdup(arena, destination);
    return c;
}

/* The answer goes to its run; delay_ns: the run is only to ask again then. */
static void ncall_answer(ncall *c, const tn_nexus_result *result, uint64_t delay_ns)
{
    tn_wf *wf = tn_wf_get(c->shard, tn_str_from(c->ns_id), tn_str_from(c->workflow_id));
    tn_iop *iop = tn_iop_create(wf, c->run_id, c->op);
    iop->initiated_id = c->id;
    iop->again = delay_ns != 0;
    if (result) {
        tn_nexus_result *copy = TN_NEW(iop->req.arena, tn_nexus_result);
        *copy = *result;
        iop->nexus = copy;
    }
    tn_arena_adopt(iop->req.arena, c->arena); /* what the result points into */
    if (!iop->req.ns)
        tn_req_finish(&iop->req, NULL);
    else if (delay_ns)
        tn_iop_send_later(iop, delay_ns);
    else
        tn_iop_send(iop);
    tn_wf_maybe_drop(wf);
}

static tn_breakers *breakers_of(const ncall *c) { return &c->shard->hl->breakers; }

static void report(const ncall *c, bool down)
{
    tn_breakers_report(breakers_of(c), tn_str_from(c->ns_id), tn_str_from(c->destination), down,
                       tn_now_mono_ns());
}

static void refuse(ncall *c, const char *type, const char *message)
{
    tn_nexus_result result = {.kind = TN_NEXUS_REFUSED};
    result.failure = tn_nexus_handler_failure(c->arena, type, message);
    ncall_answer(c, &result, 0);
}

/* True: the destination rests; the run asks again. */
static bool held_back(ncall *c)
{
    uint64_t wait_ns = tn_breakers_wait_ns(breakers_of(c), tn_str_from(c->ns_id),
                                           tn_str_from(c->destination), tn_now_mono_ns());
    if (wait_ns)
        ncall_answer(c, NULL, wait_ns);
    return wait_ns != 0;
}

/* ---- operations ------------------------------------------------------------------------------ */

static void outcome_came(tn_mreq *mreq)
{
    ncall *c = TN_CONTAINER_OF(mreq, ncall, mreq);
    tn_nexus_result result;
    bool cancel = c->op == TN_IOP_NEXUS_CANCELED;
    /* not a word of details: they may be another namespace's */
    if (mreq->fault || !mreq->response) {
        result = (tn_nexus_result){.kind = TN_NEXUS_AGAIN};
        result.failure = tn_nexus_handler_failure(c->arena, "UNAVAILABLE", "service unavailable");
    } else {
        tn_nexus_answer(c->arena, (const Tenon__NexusOutcome *)(const void *)mreq->response, cancel,
                        tn_nexus_failure_of, &result);
    }
    tn_namespace_unref(mreq->ns);
    report(c, result.kind == TN_NEXUS_AGAIN);
    ncall_answer(c, &result, 0);
}

/* How long a request may take, and of which time-out that is what is left (0: of none). */
static uint64_t call_timeout_ns(const tn_nexus_op *op, tn_str ns, bool cancel, int32_t *out_type)
{
    uint64_t now = tn_now_wall_ns(), at = UINT64_MAX;
    uint64_t timeout = (uint64_t)tn_dyn_i64(TN_DYN_NEXUS_REQUEST_TIMEOUT, ns, TN_STR(""));
    *out_type = 0;
    if (cancel && op->start_to_close_ns) {
        at = op->started_ns + op->start_to_close_ns;
        *out_type = 1;
    }
    if (!cancel && op->schedule_to_start_ns) {
        at = op->scheduled_ns + op->schedule_to_start_ns;
        *out_type = 2;
    } else if (op->schedule_to_close_ns && op->scheduled_ns + op->schedule_to_close_ns < at) {
        at = op->scheduled_ns + op->schedule_to_close_ns;
        *out_type = 3;
    }
    if (at == UINT64_MAX)
        return timeout;
    uint64_t left = at > now ? at - now : 0;
    return left < timeout ? left : timeout;
}

static void put_header(tn_arena *arena, nexus_request *request, const char *key, const char *value)
{
    Temporal__Api__Nexus__V1__Request__HeaderEntry *entry =
        MAKE(arena, temporal__api__nexus__v1__request__header_entry);
    entry->key = tn_arena_strdup(arena, key);
    entry->value = tn_arena_strdup(arena, value);
    request->header[request->n_header++] = entry;
}

/* What the workflow gave, and how long the operation may take as a whole. */
static void fill_header(tn_arena *arena, nexus_request *request, const scheduled_attrs *a,
                        const tn_nexus_op *op, bool cancel)
{
    uint64_t now = tn_now_wall_ns(),
             left = op->start_to_close_ns ? op->start_to_close_ns : UINT64_MAX;
    bool given = false;
    request->header = TN_NEW_ARRAY(arena, Temporal__Api__Nexus__V1__Request__HeaderEntry *,
                                   a->n_nexus_header + 1);
    for (size_t i = 0; i < a->n_nexus_header; i++) {
        given = given || strcmp(a->nexus_header[i]->key, "operation-timeout") == 0;
        put_header(arena, request, a->nexus_header[i]->key, a->nexus_header[i]->value);
    }
    if (op->schedule_to_close_ns) {
        uint64_t at = op->scheduled_ns + op->schedule_to_close_ns, rest = at > now ? at - now : 0;
        left = rest < left ? rest : left;
    }
    if (!cancel && !given && left != UINT64_MAX)
        put_header(arena, request, "operation-timeout",
                   tn_arena_printf(arena, "%llums", (unsigned long long)(left / TN_MS)));
}

static char *link_to_event(tn_arena *arena, const tn_run *run, tn_str ns_name, int64_t event_id)
{
    Temporal__Api__Common__V1__Link__WorkflowEvent link =
        TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__INIT;
    Temporal__Api__Common__V1__Link__WorkflowEvent__EventReference ref =
        TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__EVENT_REFERENCE__INIT;
    link.namespace_ = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(ns_name));
    link.workflow_id = run->wf->workflow_id;
    link.run_id = run->ms->run_id_text;
    link.reference_case = TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__REFERENCE_EVENT_REF;
    link.event_ref = &ref;
    ref.event_id = event_id;
    ref.event_type = TEMPORAL__API__ENUMS__V1__EVENT_TYPE__EVENT_TYPE_NEXUS_OPERATION_SCHEDULED;
    return tn_nexus_link_url(arena, &link);
}

static start_request *start_of(tn_arena *arena, const tn_run *run, const tn_nexus_op *op,
                               scheduled_attrs *a, tn_str ns_name, const char *callback_url)
{
    start_request *start = MAKE(arena, temporal__api__nexus__v1__start_operation_request);
    Temporal__Api__Nexus__V1__StartOperationRequest__CallbackHeaderEntry *entry =
        MAKE(arena, temporal__api__nexus__v1__start_operation_request__callback_header_entry);
    start->service = a->service;
    start->operation = a->operation;
    start->request_id = a->request_id;
    start->payload = a->input;
    start->callback = tn_arena_strdup(arena, callback_url);
    start->callback_header = TN_NEW_ARRAY(
        arena, Temporal__Api__Nexus__V1__StartOperationRequest__CallbackHeaderEntry *, 1);
    entry->key = (char *)(uintptr_t)CALLBACK_TOKEN;
    entry->value = callback_token(arena, run, op);
    start->callback_header[start->n_callback_header++] = entry;
    start->links = TN_NEW_ARRAY(arena, Temporal__Api__Nexus__V1__Link *, 1);
    start->links[0] = MAKE(arena, temporal__api__nexus__v1__link);
    start->links[0]->url = link_to_event(arena, run, ns_name, op->scheduled_id);
    start->links[0]->type = (char *)(uintptr_t) "temporal.api.common.v1.Link.WorkflowEvent";
    start->n_links = 1;
    return start;
}

static nexus_request *request_of(tn_arena *arena, const tn_run *run, const tn_nexus_op *op,
                                 tn_str ns_name, bool cancel, const char *callback_url)
{
    nexus_request *request = MAKE(arena, temporal__api__nexus__v1__request);
    scheduled_attrs *a;
    tn_status status =
        TN_PROTO_UNPACK(temporal__api__history__v1__nexus_operation_scheduled_event_attributes,
                        op->attrs, arena, &a, NULL);
    TN_ASSERT(status == TN_OK); /* our own bytes, checked when the event was folded */
    fill_header(arena, request, a, op, cancel);
    request->endpoint = a->endpoint;
    request->scheduled_time = tn_ts_from_ns(arena, (int64_t)tn_now_wall_ns());
    request->capabilities = MAKE(arena, temporal__api__nexus__v1__request__capabilities);
    request->capabilities->temporal_failure_responses = !cancel;
    if (cancel) {
        request->variant_case = TEMPORAL__API__NEXUS__V1__REQUEST__VARIANT_CANCEL_OPERATION;
        request->cancel_operation = MAKE(arena, temporal__api__nexus__v1__cancel_operation_request);
        request->cancel_operation->service = a->service;
        request->cancel_operation->operation = a->operation;
        request->cancel_operation->operation_id = request->cancel_operation->operation_token =
            tn_arena_strdup(arena, op->token ? op->token : "");
        return request;
    }
    request->variant_case = TEMPORAL__API__NEXUS__V1__REQUEST__VARIANT_START_OPERATION;
    request->start_operation = start_of(arena, run, op, a, ns_name, callback_url);
    return request;
}

static void to_worker(ncall *c, const Tenon__NexusEndpointRecord *endpoint,
                      const nexus_request *request, uint64_t timeout_ns)
{
    const tn_namespace *ns = tn_namespace_by_id(tn_str_from(endpoint->ns_id));
    /* the reference asks itself over HTTP, where such a path leads nowhere */
    if (request->variant_case == TEMPORAL__API__NEXUS__V1__REQUEST__VARIANT_START_OPERATION &&
        !*request->start_operation->operation) {
        tn_namespace_unref(ns);
        report(c, false);
        refuse(c, "NOT_FOUND", "not found");
        return;
    }
    if (!ns) {
        report(c, false);
        refuse(c, "NOT_FOUND",
               tn_arena_printf(c->arena, "namespace not found: \"%s\"", endpoint->ns_id));
        return;
    }
    c->mreq = (tn_mreq){.arena = c->arena,
                        .home = tn_loop_current(),
                        .op = TN_MOP_NEXUS,
                        .ns = ns,
                        .queue = tn_arena_str(c->arena, tn_str_from(endpoint->task_queue)),
                        .type = TN_TASK_NEXUS,
                        .request = &request->base,
                        .deadline_mono_ns = tn_now_mono_ns() + timeout_ns,
                        .done = outcome_came};
    tn_client_matching(&c->mreq);
}

static const Tenon__NexusEndpointRecord *endpoint_of(const tn_endpoints *list,
                                                     const tn_nexus_op *op)
{
    const Tenon__NexusEndpointRecord *endpoint =
        tn_endpoints_by_id(list, tn_str_from(op->endpoint_id));
    return endpoint ? endpoint : tn_endpoints_by_name(list, tn_str_from(op->endpoint));
}

/* Where a handler outside reports what became of an operation; NULL: nobody has said. */
static const char *callback_url(tn_arena *arena, const tn_namespace *ns)
{
    const char *rest =
        tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(tn_dyn_text(TN_DYN_NEXUS_CALLBACK_TEMPLATE)));
    const char *out = "", *open, *close;
    if (strcmp(rest, "unset") == 0 || !ns)
        return NULL;
    while ((open = strstr(rest, "{{")) && (close = strstr(open, "}}"))) {
        const char *name = tn_arena_printf(arena, "%.*s", (int)(close - open - 2), open + 2);
        tn_str value = strstr(name, ".NamespaceName") ? ns->name
                       : strstr(name, ".NamespaceID") ? ns->id
                                                      : TN_STR("");
        out = tn_arena_printf(arena, "%s%.*s" TN_STR_FMT, out, (int)(open - rest), rest,
                              TN_STR_ARG(value));
        rest = close + 2;
    }
    return tn_arena_printf(arena, "%s%s", out, rest);
}

/* By the system's own way only our workers can report, whose completion callbacks stay within the server. */
static void to_target(ncall *c, const tn_run *run, const tn_nexus_op *op,
                      const Tenon__NexusEndpointRecord *endpoint, const tn_namespace *ns,
                      bool cancel, uint64_t timeout_ns)
{
    bool own = !*endpoint->url && tn_dyn_bool(TN_DYN_NEXUS_SYSTEM_CALLBACK, TN_STR(""), TN_STR(""));
    const char *callback = own ? SYSTEM_URL : callback_url(c->arena, ns);
    if (!callback && !cancel) {
        tn_nexus_result result = {.kind = TN_NEXUS_AGAIN};
        result.failure = tn_nexus_call_failure(
            c->arena,
            "dynamic config \"component.nexusoperations.callback.endpoint.template\" is unset: no "
            "callback URL",
            false);
        ncall_answer(c, &result, 0);
        return;
    }
    const nexus_request *request =
        request_of(c->arena, run, op, ns ? ns->name : TN_STR(""), cancel, callback);
    if (*endpoint->url)
        tn_nexus_to_url(c->arena, c, request, tn_arena_strdup(c->arena, endpoint->url), timeout_ns);
    else
        to_worker(c, endpoint, request, timeout_ns);
}

static void ask_handler(tn_run *run, const tn_nexus_op *op, bool cancel)
{
    ncall *c = ncall_begin(run, cancel ? TN_IOP_NEXUS_CANCELED : TN_IOP_NEXUS_STARTED,
                           op->scheduled_id, op->endpoint);
    const tn_endpoints *list = tn_endpoints_acquire();
    const Tenon__NexusEndpointRecord *endpoint = endpoint_of(list, op);
    const tn_namespace *ns = tn_namespace_by_id(tn_str_from(run->wf->ns_id));
    tn_str ns_name = ns ? ns->name : TN_STR("");
    int32_t type;
    uint64_t timeout_ns = call_timeout_ns(op, ns_name, cancel, &type);
    if (!endpoint) {
        refuse(c, "NOT_FOUND", "endpoint not registered");
    } else if (timeout_ns < (uint64_t)tn_dyn_i64(TN_DYN_NEXUS_REQUEST_MIN, ns_name, TN_STR(""))) {
        static const char *const names[] = {"Unspecified", "StartToClose", "ScheduleToStart",
                                            "ScheduleToClose"};
        tn_nexus_result result = {.kind = TN_NEXUS_TOO_LATE, .timeout_type = type};
        result.failure = tn_nexus_call_failure(
            c->arena,
            tn_arena_printf(c->arena,
                            "not enough time to execute another request before %s timeout",
                            names[type]),
            true);
        ncall_answer(c, &result, 0);
    } else if (!held_back(c)) {
        to_target(c, run, op, endpoint, ns, cancel, timeout_ns);
    }
    tn_namespace_unref(ns);
    tn_endpoints_release(list);
}

void tn_nexus_start_operation(tn_run *run, tn_nexus_op *op)
{
    op->dispatched = true;
    ask_handler(run, op, false);
}

void tn_nexus_cancel_operation(tn_run *run, tn_nexus_op *op)
{
    op->cancel_dispatched = true;
    ask_handler(run, op, true);
}

/* ---- completion callbacks -------------------------------------------------------------------- */

static void delivered(ncall *c, const char *message, bool again)
{
    tn_nexus_result result = {.kind = !message ? TN_NEXUS_SYNC
                                      : again  ? TN_NEXUS_AGAIN
                                               : TN_NEXUS_REFUSED};
    result.token = message;
    report(c, message && again);
    ncall_answer(c, &result, 0);
}

void tn_nexus_fault_words(tn_arena *arena, const tn_fault *fault, const char **out_type,
                          const char **out_text)
{
    static const struct {
        int code;
        const char *type, *text;
    } words[] = {{TN_GRPC_INVALID_ARGUMENT, "BAD_REQUEST", "bad request"},
                 {TN_GRPC_FAILED_PRECONDITION, "BAD_REQUEST", "bad request"},
                 {TN_GRPC_ALREADY_EXISTS, "BAD_REQUEST", "bad request"},
                 {TN_GRPC_UNAVAILABLE, "UNAVAILABLE", "service unavailable"},
                 {TN_GRPC_ABORTED, "UNAVAILABLE", "service unavailable"},
                 {TN_GRPC_PERMISSION_DENIED, "UNAUTHORIZED", "permission denied"},
                 {TN_GRPC_NOT_FOUND, "NOT_FOUND", NULL},
                 {TN_GRPC_RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED", "resource exhausted"},
                 {TN_GRPC_UNIMPLEMENTED, "NOT_IMPLEMENTED", "not implemented"},
                 {TN_GRPC_DEADLINE_EXCEEDED, "UPSTREAM_TIMEOUT", "request timeout"}};
    const char *type = "INTERNAL", *text = "internal error";
    for (size_t i = 0; i < TN_COUNT_OF(words); i++)
        if (words[i].code == (int)fault->code) {
            type = words[i].type;
            text = words[i].text;
        }
    *out_type = type;
    *out_text = text ? text : tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(fault->message));
}

static void say_fault(ncall *c, const tn_fault *fault)
{
    const char *type, *text;
    tn_nexus_fault_words(c->arena, fault, &type, &text);
    delivered(c, tn_arena_printf(c->arena, "handler error (%s): %s", type, text),
              tn_nexus_retryable(type, 0));
}

static void completion_came(tn_hreq *hreq)
{
    ncall *c = TN_CONTAINER_OF(hreq, ncall, hreq);
    const tn_fault *fault = hreq->fault;
    if (fault && fault->code == TN_GRPC_NOT_FOUND && hreq->run_id.n && !c->retried) {
        c->retried = true; /* the run may have been reset: then the one that followed waits */
        hreq->run_id = TN_STR("");
        hreq->fault = NULL;
        hreq->response = NULL;
        hreq->tries = 0;
        tn_client_history(hreq);
        return;
    }
    tn_namespace_unref(hreq->ns);
    if (fault)
        say_fault(c, fault);
    else
        delivered(c, NULL, false);
}

Tenon__NexusCallbackToken *tn_nexus_open_token(tn_arena *arena, const char *text)
{
    size_t n = text ? strlen(text) : 0;
    uint8_t *sealed = tn_arena_alloc(arena, n / 2 + 1);
    if (!n || n % 2)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        char ch = text[i];
        int digit = ch >= '0' && ch <= '9' ? ch - '0' : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
        if (digit < 0)
            return NULL;
        sealed[i / 2] = (uint8_t)(i % 2 ? sealed[i / 2] | digit : digit << 4);
    }
    return (Tenon__NexusCallbackToken *)(void *)tn_token_open(
        arena, tn_blob_from(sealed, n / 2), &tenon__nexus_callback_token__descriptor);
}

static const char *header_of(const Temporal__Api__Common__V1__Callback__Nexus *callback,
                             const char *key)
{
    for (size_t i = 0; i < callback->n_header; i++)
        if (strcmp(callback->header[i]->key, key) == 0)
            return callback->header[i]->value;
    return NULL;
}

/* To a run of this cluster, without leaving the server. */
static void to_run(ncall *c, const Temporal__Api__Common__V1__Callback__Nexus *callback,
                   Tenon__NexusCompletion *completion)
{
    const Tenon__NexusCallbackToken *token =
        tn_nexus_open_token(c->arena, header_of(callback, CALLBACK_TOKEN));
    const char *operation = header_of(callback, "nexus-operation-token");
    const tn_namespace *ns = token ? tn_namespace_by_id(tn_str_from(token->ns_id)) : NULL;
    if (!token) {
        delivered(c, "handler error (BAD_REQUEST): invalid callback token", false);
        return;
    }
    if (!ns) {
        delivered(c,
                  tn_arena_printf(c->arena, "handler error (NOT_FOUND): namespace \"%s\" not found",
                                  token->ns_id),
                  false);
        return;
    }
    completion->scheduled_id = token->scheduled_id;
    completion->request_id = token->request_id;
    if (operation)
        completion->token = (char *)(uintptr_t)operation;
    c->hreq = (tn_hreq){.arena = c->arena,
                        .home = tn_loop_current(),
                        .op = TN_HOP_NEXUS_COMPLETE,
                        .ns = ns,
                        .workflow_id = tn_str_from(token->workflow_id),
                        .run_id = tn_str_from(token->run_id),
                        .request = &completion->base,
                        .deadline_mono_ns = tn_now_mono_ns() + 10 * TN_SEC,
                        .done = completion_came};
    tn_client_history(&c->hreq);
}

/* "https://host:port" of an address. */
static char *destination_of(tn_arena *arena, const char *url)
{
    const char *host = strstr(url, "://");
    size_t n = host ? (size_t)(host + 3 - url) + strcspn(host + 3, "/?#") : strlen(url);
    return tn_arena_printf(arena, "%.*s", (int)n, url);
}

void tn_nexus_send_callback(tn_run *run, tn_callback *callback)
{
    tn_arena *scratch = tn_arena_create(0);
    Temporal__Api__Common__V1__Callback *message;
    callback->dispatched = true;
    tn_status status = TN_PROTO_UNPACK(temporal__api__common__v1__callback, callback->callback,
                                       scratch, &message, NULL);
    TN_ASSERT(status == TN_OK); /* our own bytes, checked when the event was folded */
    bool nexus = message->variant_case == TEMPORAL__API__COMMON__V1__CALLBACK__VARIANT_NEXUS;
    ncall *c =
        ncall_begin(run, TN_IOP_CALLBACK_ANSWERED, (int64_t)tn_callback_index(run->ms, callback),
                    nexus ? destination_of(scratch, message->nexus->url) : "");
    tn_arena_adopt(c->arena, scratch);
    const tn_namespace *ns = tn_namespace_by_id(tn_str_from(run->wf->ns_id));
    tn_str ns_name = ns ? tn_arena_str(c->arena, ns->name) : TN_STR("");
    tn_namespace_unref(ns);
    if (!nexus || strcmp(message->nexus->url, "temporal://internal") == 0) {
        tn_nexus_result result = {.kind = TN_NEXUS_REFUSED,
                                  .token = "unprocessable callback variant"};
        ncall_answer(c, &result, 0);
        return;
    }
    if (held_back(c))
        return;
    Tenon__NexusCompletion *completion = (Tenon__NexusCompletion *)(void *)tn_proto_copy(
        &tn_machine_completion(run->ms, callback, ns_name, c->arena)->base, c->arena);
    if (strcmp(message->nexus->url, SYSTEM_URL) == 0)
        to_run(c, message->nexus, completion);
    else
        tn_nexus_post_completion(c->arena, c, message->nexus, completion, run->ms->close_ns,
                                 ns_name);
}

/* ---- by HTTP --------------------------------------------------------------------------------- */

void tn_nexus_http_answered(void *call, const tn_nexus_result *result)
{
    ncall *c = call;
    report(c, result->kind == TN_NEXUS_AGAIN);
    ncall_answer(c, result, 0);
}

/* ---- answers, at the run --------------------------------------------------------------------- */

static const tn_fault *note_answer(tn_tx *tx, const tn_iop *iop)
{
    const tn_nexus_result *result = iop->nexus;
    tn_nexus_op *op = tn_ms_nexus_op_any(tx->ms, iop->initiated_id);
    if (iop->req.op == (tn_hop)TN_IOP_CALLBACK_ANSWERED) {
        tn_callback_undispatch(tx->ms, (size_t)iop->initiated_id);
        if (result)
            tn_machine_callback_answered(tx, (size_t)iop->initiated_id,
                                         result->kind == TN_NEXUS_SYNC ? NULL : result->token,
                                         result->kind == TN_NEXUS_AGAIN);
        return NULL;
    }
    bool cancel = iop->req.op == (tn_hop)TN_IOP_NEXUS_CANCELED;
    if (op && cancel)
        op->cancel_dispatched = false;
    else if (op)
        op->dispatched = false;
    if (!op || !result)
        return NULL;
    return cancel ? tn_machine_nexus_cancel_answered(tx, iop->initiated_id, result)
                  : tn_machine_nexus_started(tx, iop->initiated_id, result);
}

void tn_op_nexus_answer(tn_wf *wf, tn_hreq *req, tn_run *run)
{
    tn_txn *txn = tn_txn_begin(wf, req);
    tn_tx *tx = tn_txn_change(txn, run);
    tn_txn_commit(txn, note_answer(tx, TN_CONTAINER_OF(req, tn_iop, req)));
}

void tn_op_nexus_complete(tn_wf *wf, tn_hreq *req)
{
    tn_run *run = tn_resolve(wf, req);
    if (!run)
        return;
    if (tn_doubt_was_made(req, run, NULL)) {
        tn_req_finish(req, NULL);
        return;
    }
    tn_txn *txn = tn_txn_begin(wf, req);
    tn_tx *tx = tn_txn_change(txn, run);
    tn_txn_commit(txn, tn_machine_nexus_completed(
                           tx, (const Tenon__NexusCompletion *)(const void *)req->request));
}

/* ---- describing ------------------------------------------------------------------------------ */

void tn_nexus_describe_blocked(
    const tn_run *run, Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *out)
{
    const tn_breakers *all = &run->wf->shard->hl->breakers;
    tn_str ns_id = tn_str_from(run->wf->ns_id);
    tn_arena *scratch = tn_arena_create(0);
    static char why[] = "The circuit breaker is open.";
    for (size_t i = 0; i < out->n_pending_nexus_operations; i++) {
        Temporal__Api__Workflow__V1__PendingNexusOperationInfo *op =
            out->pending_nexus_operations[i];
        bool open = tn_breakers_are_open(all, ns_id, tn_str_from(op->endpoint));
        if (open && op->state == 1) {
            op->state = 4;
            op->blocked_reason = why;
        }
        if (open && op->cancellation_info && op->cancellation_info->state == 1) {
            op->cancellation_info->state = 6;
            op->cancellation_info->blocked_reason = why;
        }
    }
    for (size_t i = 0; i < out->n_callbacks; i++) {
        Temporal__Api__Workflow__V1__CallbackInfo *info = out->callbacks[i];
        if (info->state == TN_CALLBACK_SCHEDULED &&
            info->callback->variant_case == TEMPORAL__API__COMMON__V1__CALLBACK__VARIANT_NEXUS &&
            tn_breakers_are_open(
                all, ns_id, tn_str_from(destination_of(scratch, info->callback->nexus->url)))) {
            info->state = 6;
            info->blocked_reason = why;
        }
    }
    tn_arena_destroy(scratch);
}
