/* SPDX-License-Identifier: MIT */
/* How much of its rates a store under strain is given: less by a step each time that it was too slow or failed too often
 * since the last look, more by another when it was not. */
#include "client/strain.h"

#define MILLION 1000000.0

static void take(tn_strain_params *out, tn_str name, tn_str value)
{
    static const struct {
        const char *name;
        size_t offset;
    } numbers[] = {
        {"latencythreshold", offsetof(tn_strain_params, latency_ms)},
        {"errorthreshold", offsetof(tn_strain_params, error_ratio)},
        {"ratebackoffstepsize", offsetof(tn_strain_params, step_down)},
        {"rateincreasestepsize", offsetof(tn_strain_params, step_up)},
        {"ratemultimin", offsetof(tn_strain_params, min)},
        {"ratemultimax", offsetof(tn_strain_params, max)},
    };
    double number;
    int64_t ns;
    if (tn_str_is(name, "enabled"))
        out->enabled = tn_str_caseeq(value, TN_STR("true"));
    else if (tn_str_is(name, "refreshinterval") && tn_parse_duration_ns(value, &ns) && ns > 0)
        out->refresh_ns = (uint64_t)ns;
    for (size_t i = 0; i < TN_COUNT_OF(numbers); i++)
        if (tn_str_is(name, numbers[i].name) && tn_parse_f64(value, &number) && number >= 0)
            *(double *)(void *)((char *)out + numbers[i].offset) = number;
}

tn_strain_params tn_strain_parse(tn_str text)
{
    tn_strain_params out = {
        .refresh_ns = 10 * TN_SEC, .step_down = 0.3, .step_up = 0.1, .min = 0.8, .max = 1.0};
    while (text.n) {
        size_t end = 0, equals;
        while (end < text.n && text.p[end] != ',')
            end++;
        for (equals = 0; equals < end && text.p[equals] != '=';)
            equals++;
        if (equals < end)
            take(&out, (tn_str){text.p, equals}, (tn_str){text.p + equals + 1, end - equals - 1});
        end += end < text.n;
        text = (tn_str){text.p + end, text.n - end};
    }
    return out;
}

double tn_strain_step(const tn_strain_params *params, double now, double latency_ms,
                      double error_ratio)
{
    double next = now;
    if ((params->latency_ms > 0 && latency_ms > params->latency_ms) ||
        (params->error_ratio > 0 && error_ratio > params->error_ratio)) {
        next = now - params->step_down;
        return next > params->min ? next : params->min;
    }
    if (now < params->max)
        next = now + params->step_up;
    return next < params->max ? next : params->max;
}

double tn_strain_multiplier(tn_strain *strain, tn_str text, uint64_t now_ns)
{
    uint64_t parts = atomic_load_explicit(&strain->parts, memory_order_relaxed);
    double now = parts ? (double)parts / MILLION : 1;
    if (!text.n)
        return 1;
    uint64_t at = atomic_load_explicit(&strain->refresh_at_ns, memory_order_relaxed);
    if (now_ns < at)
        return now;
    tn_strain_params params = tn_strain_parse(text);
    if (!atomic_compare_exchange_strong_explicit(&strain->refresh_at_ns, &at,
                                                 now_ns + params.refresh_ns, memory_order_relaxed,
                                                 memory_order_relaxed))
        return now;
    double n = (double)atomic_exchange_explicit(&strain->requests, 0, memory_order_relaxed);
    double errors = (double)atomic_exchange_explicit(&strain->errors, 0, memory_order_relaxed);
    double latency = (double)atomic_exchange_explicit(&strain->latency_ns, 0, memory_order_relaxed);
    if (!params.enabled)
        now = 1;
    else if (at > 0) /* there was a look before, so that this is an interval's */
        now = tn_strain_step(&params, now, n > 0 ? latency / n / (double)TN_MS : 0,
                             n > 0 ? errors / n : 0);
    uint64_t next = (uint64_t)(now * MILLION + 0.5);
    atomic_store_explicit(&strain->parts, next ? next : 1, memory_order_relaxed);
    return now;
}

void tn_strain_count(tn_strain *strain, uint64_t latency_ns, bool failed)
{
    atomic_fetch_add_explicit(&strain->requests, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&strain->latency_ns, latency_ns, memory_order_relaxed);
    if (failed)
        atomic_fetch_add_explicit(&strain->errors, 1, memory_order_relaxed);
}
