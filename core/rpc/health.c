/* SPDX-License-Identifier: MIT */
/* grpc.health.v1.Health.  Statuses are the process's, read from any thread; each loop keeps its own
 * watchers and is sent a message when a status has changed. */
#include "rpc/health.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "grpc/health/v1/health.pb-c.h"

#define SERVICES_MAX 64
#define LOOPS_MAX 64
#define STATUS_SERVICE_UNKNOWN \
    GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN

typedef struct service {
    _Atomic(char *) name; /* set once; pairs with the readers' acquire */
    _Atomic int status;
} service;

typedef struct watcher {
    tn_list link;
    tn_call *call;
    tn_str service;
    int last;
} watcher;

/* A loop's: the message wakes it, posted says that it is on its way. */
typedef struct notice {
    tn_msg msg;
    _Atomic bool posted;
    tn_list watchers;
} notice;

static service services[SERVICES_MAX];
static notice notices[LOOPS_MAX];
static _Atomic bool shutting_down;

/* ---- statuses [any] ---- */

static service *find(tn_str name)
{
    for (size_t i = 0; i < SERVICES_MAX; i++) {
        char *have = atomic_load_explicit(&services[i].name, memory_order_acquire);
        if (!have)
            return NULL;
        if (tn_str_is(name, have))
            return &services[i];
    }
    return NULL;
}

static service *find_or_add(const char *name)
{
    char *copy = tn_xstrdup(name);

    for (size_t i = 0; i < SERVICES_MAX; i++) {
        char *have = NULL;
        if (atomic_compare_exchange_strong(&services[i].name, &have, copy))
            return &services[i];
        if (strcmp(have, name) == 0) {
            free(copy);
            return &services[i];
        }
    }
    free(copy);
    return NULL;
}

static int status_of(tn_str name)
{
    service *s = find(name);
    return s ? atomic_load(&s->status) : STATUS_SERVICE_UNKNOWN;
}

static void tell_loops(void)
{
    uint32_t count = tn_loops_count();

    for (uint32_t i = 0; i < count && i < LOOPS_MAX; i++) {
        if (notices[i].msg.run && !atomic_exchange(&notices[i].posted, true))
            tn_loop_post(tn_loops_get(i), &notices[i].msg);
    }
}

void tn_rpc_set_health(const char *name, int status)
{
    service *s = find_or_add(name);

    if (!s)
        return;
    atomic_store(&shutting_down, false);
    atomic_store(&s->status, status);
    tell_loops();
}

void rpc_health_all(int status)
{
    for (size_t i = 0; i < SERVICES_MAX && atomic_load(&services[i].name); i++)
        atomic_store(&services[i].status, status);
    atomic_store(&shutting_down, true);
    tell_loops();
}

/* ---- calls [home loop] ---- */

static tn_str service_asked(const tn_call *call)
{
    const Grpc__Health__V1__HealthCheckRequest *request = (const void *)call->request;
    return tn_str_from(request->service);
}

static void check(tn_call *call)
{
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    int status = status_of(service_asked(call));

    if (status == STATUS_SERVICE_UNKNOWN) {
        tn_call_fail(call, tn_fault_make(call->arena, TN_GRPC_NOT_FOUND, "unknown service"));
        return;
    }
    response.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)status;
    tn_call_reply(call, &response.base);
}

static void watch_end(watcher *w, tn_grpc_code code, const char *text)
{
    tn_list_remove(&w->link);
    w->call->on_cancel = NULL;
    tn_call_end(w->call, tn_fault_make(w->call->arena, code, "%s", text));
}

static void watch_cancelled(tn_call *call)
{
    watch_end(call->user, TN_GRPC_CANCELLED, "cancelled");
}

static void watch_tell(watcher *w)
{
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    int status = status_of(w->service);

    if (status == w->last)
        return;
    w->last = status;
    response.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)status;
    tn_call_send(w->call, &response.base);
}

static void statuses_changed(tn_msg *msg)
{
    notice *n = TN_CONTAINER_OF(msg, notice, msg);

    atomic_store(&n->posted, false);
    TN_LIST_FOREACH_SAFE (link, &n->watchers) {
        watcher *w = TN_CONTAINER_OF(link, watcher, link);
        watch_tell(w);
        if (atomic_load(&shutting_down))
            watch_end(w, TN_GRPC_UNAVAILABLE, "the server is shutting down");
    }
}

static void watch(tn_call *call)
{
    notice *n = &notices[tn_loop_index(call->home)];
    watcher *w = TN_NEW(call->arena, watcher);

    if (!w) {
        tn_call_end(call, tn_fault_make(call->arena, TN_GRPC_RESOURCE_EXHAUSTED, "out of memory"));
        return;
    }
    w->call = call;
    w->service = service_asked(call);
    w->last = -1;
    call->user = w;
    call->on_cancel = watch_cancelled;
    tn_list_push_back(&n->watchers, &w->link);
    watch_tell(w);
}

void rpc_health_register(void)
{
    static const tn_rpc_method methods[] = {
        {.path = "/grpc.health.v1.Health/Check",
         .input = &grpc__health__v1__health_check_request__descriptor,
         .output = &grpc__health__v1__health_check_response__descriptor,
         .handle = check},
        {.path = "/grpc.health.v1.Health/Watch",
         .input = &grpc__health__v1__health_check_request__descriptor,
         .output = &grpc__health__v1__health_check_response__descriptor,
         .flags = TN_RPC_STREAM_OUT,
         .handle = watch},
    };

    for (size_t i = 0; i < LOOPS_MAX; i++) {
        notices[i].msg.run = statuses_changed;
        tn_list_init(&notices[i].watchers);
    }
    tn_rpc_register(methods, TN_COUNT_OF(methods));
}

void tn_rpc_register_builtin(void)
{
    rpc_health_register();
    rpc_reflection_register();
}
