/* SPDX-License-Identifier: MIT */
/* Counters, gauges and histograms, and their Prometheus text.
 *
 * A series (name and label values) is found or made once and then held by its user; adding to it
 * costs a few nanoseconds and no lock: each thread adds to cells of its own, which are summed when
 * asked for. */
#ifndef TN_METRICS_METRICS_H
#define TN_METRICS_METRICS_H

#include "base/base.h"
#include "loop/loop.h"

typedef struct tn_counter tn_counter;
typedef struct tn_gauge tn_gauge;
typedef struct tn_histogram tn_histogram;

typedef struct tn_label {
    const char *key;
    tn_str value;
} tn_label;
#define TN_LABEL(k, str) ((tn_label){(k), (str)})
#define TN_LABEL_Z(k, cstr) ((tn_label){(k), tn_str_from(cstr)})

/* A name has at most this many series; further label values share one series whose values are all
 * "_other_".  A label value is cut at 128 bytes. */
#define TN_METRICS_SERIES_MAX 500u
#define TN_METRICS_LABELS_MAX 8u

/* [any] Finds or makes.  Never NULL, lives as long as the process; the same name and labels give
 * the same series.  A name that is taken by another type, and a full registry, give a series that
 * is not shown. Takes a lock: hold on to the result. */
tn_counter *tn_metrics_counter(const char *name, const char *help, const tn_label *labels,
                               size_t n);
tn_gauge *tn_metrics_gauge(const char *name, const char *help, const tn_label *labels, size_t n);
typedef enum tn_buckets {
    TN_BUCKETS_SECONDS, /* 0.0005 to 1000 in steps 1, 2, 5 */
    TN_BUCKETS_BYTES,   /* 256 to 64 MiB in steps of 4 */
    TN_BUCKETS_COUNT,   /* 1 to 100,000 in steps 1, 2, 5 */
    TN_BUCKETS_CALLS,   /* seconds: 1 us to 1 s in steps of 10, and 50 ms */
} tn_buckets;
tn_histogram *tn_metrics_histogram(const char *name, const char *help, tn_buckets buckets,
                                   const tn_label *labels, size_t n);
/* A gauge whose value is asked for when it is shown; fn may run on any thread. */
void tn_metrics_gauge_fn(const char *name, const char *help, const tn_label *labels, size_t n,
                         double (*fn)(void *user), void *user);

/* [any] */
void tn_counter_add(tn_counter *counter, uint64_t n);
static inline void tn_counter_inc(tn_counter *counter) { tn_counter_add(counter, 1); }
void tn_gauge_set(tn_gauge *gauge, double value);
void tn_gauge_add(tn_gauge *gauge, double delta);
void tn_histogram_observe(tn_histogram *histogram, double value); /* NaN: nothing */
void tn_histogram_observe_ns(tn_histogram *histogram, uint64_t ns);

/* [any] Sums, for tests and for rooms that show their own numbers. */
uint64_t tn_counter_value(const tn_counter *counter);
double tn_gauge_value(const tn_gauge *gauge);
uint64_t tn_histogram_count(const tn_histogram *histogram);

/* [any] Prometheus text (0.0.4) of everything, the process's and the loops' figures included. */
void tn_metrics_render(tn_buf *out);

/* ---- the endpoint [loop] ---- */
typedef struct tn_metrics_server tn_metrics_server;
/* GET /metrics over HTTP/1.1 on this loop; the text is made on a pool thread. */
tn_status tn_metrics_server_open(const char *ip, uint16_t port, tn_metrics_server **out,
                                 tn_error *err) TN_WARN_UNUSED;
uint16_t tn_metrics_server_port(const tn_metrics_server *server);
/* Stops listening and drops the connections; the server is gone when the last has closed. */
void tn_metrics_server_close(tn_metrics_server *server); /* NULL allowed */

#endif
