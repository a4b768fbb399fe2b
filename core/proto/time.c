/* SPDX-License-Identifier: MIT */
/* google.protobuf.Timestamp and Duration to and from nanoseconds, with every range checked. */
#include "proto/proto.h"

#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"

#define NS_PER_SEC INT64_C(1000000000)
#define TS_SECONDS_MIN INT64_C(-62135596800) /* 0001-01-01T00:00:00Z */
#define TS_SECONDS_MAX INT64_C(253402300799) /* 9999-12-31T23:59:59Z */
#define DURATION_SECONDS_MAX INT64_C(315576000000)

tn_pb_timestamp *tn_ts_from_ns(tn_arena *arena, int64_t ns)
{
    tn_pb_timestamp *ts = tn_arena_alloc(arena, sizeof(*ts));
    int64_t rest = ns % NS_PER_SEC;

    if (!ts)
        return NULL;
    google__protobuf__timestamp__init(ts);
    /* Nanos count forward from the second, before 1970 too. */
    ts->seconds = ns / NS_PER_SEC - (rest < 0);
    ts->nanos = (int32_t)(rest < 0 ? rest + NS_PER_SEC : rest);
    return ts;
}

tn_pb_duration *tn_duration_from_ns(tn_arena *arena, int64_t ns)
{
    tn_pb_duration *duration = tn_arena_alloc(arena, sizeof(*duration));

    if (!duration)
        return NULL;
    google__protobuf__duration__init(duration);
    duration->seconds = ns / NS_PER_SEC;
    duration->nanos = (int32_t)(ns % NS_PER_SEC);
    return duration;
}

static int64_t saturated_ns(int64_t seconds, int32_t nanos)
{
    int64_t ns;

    if (__builtin_mul_overflow(seconds, NS_PER_SEC, &ns) || __builtin_add_overflow(ns, nanos, &ns))
        return seconds < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}

bool tn_ns_from_ts(const tn_pb_timestamp *ts, int64_t *out_ns)
{
    if (!ts) {
        *out_ns = 0;
        return true;
    }
    if (ts->seconds < TS_SECONDS_MIN || ts->seconds > TS_SECONDS_MAX || ts->nanos < 0 ||
        ts->nanos >= NS_PER_SEC)
        return false;
    *out_ns = saturated_ns(ts->seconds, ts->nanos);
    return true;
}

bool tn_ns_from_duration(const tn_pb_duration *duration, int64_t *out_ns)
{
    if (!duration) {
        *out_ns = 0;
        return true;
    }
    if (duration->seconds < -DURATION_SECONDS_MAX || duration->seconds > DURATION_SECONDS_MAX ||
        duration->nanos <= -NS_PER_SEC || duration->nanos >= NS_PER_SEC)
        return false;
    if ((duration->seconds > 0 && duration->nanos < 0) ||
        (duration->seconds < 0 && duration->nanos > 0))
        return false;
    *out_ns = saturated_ns(duration->seconds, duration->nanos);
    return true;
}
