/* SPDX-License-Identifier: MIT */
/* What is more than its limit for warnings ("limit.*.warn") is told in the log: a line a second of each limit, with how
 * many there was no room for. */
#include <stdatomic.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/dynconfig.h"

#define PAUSE_NS TN_SEC

static struct {
    atomic_uint_fast64_t quiet_until_ns, left_out; /* hints: nothing is paired with them */
} told[TN_DYN_COUNT];

void tn_dyn_warn(tn_dyn_key key, tn_str ns, tn_str id, int64_t value)
{
    int64_t limit = tn_dyn_i64(key, ns, TN_STR(""));
    if (value <= limit || limit <= 0)
        return;
    uint64_t now = tn_now_mono_ns();
    uint_fast64_t until = atomic_load_explicit(&told[key].quiet_until_ns, memory_order_relaxed);
    if (now < until ||
        !atomic_compare_exchange_strong_explicit(&told[key].quiet_until_ns, &until, now + PAUSE_NS,
                                                 memory_order_relaxed, memory_order_relaxed)) {
        atomic_fetch_add_explicit(&told[key].left_out, 1, memory_order_relaxed);
        return;
    }
    uint64_t left_out = atomic_exchange_explicit(&told[key].left_out, 0, memory_order_relaxed);
    TN_LOG(TN_LOG_WARN, "limits", "more than the limit for warnings",
           TN_LOG_Z("limit", tn_dyn_key_name(key)), TN_LOG_S("namespace", ns), TN_LOG_S("id", id),
           TN_LOG_I("is", value), TN_LOG_I("may_be", limit), TN_LOG_U("not_told", left_out));
}
