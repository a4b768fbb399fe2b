/* SPDX-License-Identifier: MIT */
/* What the frontend counts of its calls, under the names that dashboards know.  A method's series for a namespace are
 * made at its first call there and held; errors, which are few, look theirs up. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "frontend/priv.h"
#include "metrics/metrics.h"

struct tn_fseries {
    tn_counter *requests;
    tn_gauge *pending;
    tn_histogram *latency;
};

/* By method and hash of the namespace's name: a place that another namespace holds is looked up anew each time. */
#define PLACES 256u
typedef struct place {
    _Atomic(struct tn_fseries *) series;
    atomic_uint_fast64_t key;
} place;
static place *table; /* PLACES a method */

void tn_front_counts_start(void) { table = tn_xcalloc(tn_fmethods_count * PLACES, sizeof(*table)); }

static const char *operation_of(const tn_fmethod *method)
{
    const char *slash = strrchr(method->path, '/');
    return slash ? slash + 1 : method->path;
}

static size_t fill_labels(tn_label labels[3], const tn_fmethod *method, tn_str ns)
{
    labels[0] = TN_LABEL_Z("operation", operation_of(method));
    labels[1] = TN_LABEL("namespace", ns.n ? ns : TN_STR("_unknown_"));
    labels[2] = TN_LABEL_Z("service_name", "frontend");
    return 3;
}

static struct tn_fseries series_of(const tn_fmethod *method, tn_str ns)
{
    tn_label labels[3];
    size_t n = fill_labels(labels, method, ns);
    return (struct tn_fseries){
        .requests = tn_metrics_counter("service_requests", "calls that came in", labels, n),
        .pending = tn_metrics_gauge("service_pending_requests", "calls that are being answered",
                                    labels, n),
        .latency = tn_metrics_histogram("service_latency", "seconds from a call to its answer",
                                        TN_BUCKETS_SECONDS, labels, n),
    };
}

static const struct tn_fseries *find(tn_fcall *f, const tn_fmethod *method)
{
    tn_str ns = f->ns ? f->ns->name : TN_STR("");
    uint64_t key = tn_hash64_stable(tn_blob_of_str(ns), (tn_blob){NULL, 0}) | 1;
    place *at = &table[(size_t)(method - tn_fmethods) * PLACES + key % PLACES];
    struct tn_fseries *known =
        atomic_load_explicit(&at->series, memory_order_acquire); /* pairs with the publish below */
    if (known && atomic_load_explicit(&at->key, memory_order_relaxed) == key)
        return known;
    uint64_t none = 0;
    struct tn_fseries *made =
        known ? TN_NEW(f->call->arena, struct tn_fseries) : tn_xcalloc(1, sizeof(*made));
    if (!made)
        return NULL;
    *made = series_of(method, ns);
    if (known)
        return made;
    if (atomic_compare_exchange_strong_explicit(&at->key, &none, key, memory_order_relaxed,
                                                memory_order_relaxed)) {
        atomic_store_explicit(&at->series, made, memory_order_release);
        return made;
    }
    /* Another loop makes the same place just now. */
    struct tn_fseries *ours = TN_NEW(f->call->arena, struct tn_fseries);
    if (ours)
        *ours = *made;
    free(made);
    return ours;
}

void tn_front_count_begin(tn_fcall *f, const tn_fmethod *method)
{
    f->series = find(f, method);
    if (!f->series)
        return;
    tn_counter_inc(f->series->requests);
    tn_gauge_add(f->series->pending, 1);
}

void tn_front_count_end(tn_fcall *f)
{
    if (!f->series)
        return;
    tn_gauge_add(f->series->pending, -1);
    tn_histogram_observe_ns(f->series->latency, tn_now_mono_ns() - f->call->received_mono_ns);
    f->series = NULL;
}

/* ---- errors ---- */

static const char *const code_names[] = {
    "OK",       "Canceled",        "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",   "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",      "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated",
};

/* "serviceerror_NamespaceNotFound": the detail's name tells more than the code. */
static void error_type(const tn_fault *fault, char out[96])
{
    size_t code = (size_t)fault->code < TN_COUNT_OF(code_names) ? (size_t)fault->code : 2;
    tn_str name = tn_str_from(code_names[code]);
    if (fault->detail_type.n) {
        name = fault->detail_type;
        for (size_t i = name.n; i > 0; i--)
            if (name.p[i - 1] == '.') {
                name = (tn_str){name.p + i, name.n - i};
                break;
            }
        if (name.n > 7 && memcmp(name.p + name.n - 7, "Failure", 7) == 0)
            name.n -= 7;
    }
    (void)snprintf(out, 96, "serviceerror_%.*s", (int)(name.n < 80 ? name.n : 80), name.p);
}

static const char *extra_counter(const tn_fault *fault)
{
    switch (fault->code) {
    case TN_GRPC_NOT_FOUND:
        return "service_errors_entity_not_found";
    case TN_GRPC_ALREADY_EXISTS:
        return "service_errors_execution_already_started";
    case TN_GRPC_RESOURCE_EXHAUSTED:
        return "service_errors_resource_exhausted";
    default:
        return NULL;
    }
}

void tn_front_count_error(const tn_fcall *f, const tn_fault *fault)
{
    const tn_fmethod *method = f->call->method->user;
    tn_label labels[4];
    char type[96];
    size_t n = fill_labels(labels, method, f->ns ? f->ns->name : TN_STR(""));
    const char *extra = extra_counter(fault);
    tn_counter_inc(tn_metrics_counter("service_errors", "calls answered with an error", labels, n));
    if (extra)
        tn_counter_inc(tn_metrics_counter(extra, "calls answered with this error", labels, n));
    error_type(fault, type);
    labels[n++] = TN_LABEL_Z("error_type", type);
    tn_counter_inc(tn_metrics_counter("service_error_with_type",
                                      "calls answered with an error, by its type", labels, n));
}
