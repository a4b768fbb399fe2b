/* SPDX-License-Identifier: MIT */
/* Cron schedules on any bytes: malformed, never, or a whole number of seconds away; and zone files,
 * which the system gives us but an administrator may have broken. */
#include "history/machine/machine.h"
#include "history/machine/zone.h"

#define NOW_NS UINT64_C(1700000000123456789)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_zone(tn_blob file)
{
    static const int64_t moments[] = {
        INT64_C(-4000000000), -1, 0, INT64_C(1700000000), INT64_C(2147483647), INT64_C(7000000000)};
    tn_arena *arena = tn_arena_create(1u << 20);
    const tn_zone *zone = tn_zone_parse(arena, file);

    for (size_t i = 0; zone && i < TN_COUNT_OF(moments); i++) {
        int64_t from_s, until_s;
        int32_t offset_s = tn_zone_offset(zone, moments[i], &from_s, &until_s);

        TN_ASSERT(offset_s >= -200 * 3600 && offset_s <= 200 * 3600);
    }
    tn_arena_destroy(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tn_str spec = {(const char *)data, size};
    uint64_t at_ns, again_ns;
    char err[128];

    try_zone(tn_blob_from(data, size));
    if (!tn_cron_next(spec, NOW_NS, NOW_NS, &at_ns, err, sizeof(err))) {
        TN_ASSERT(at_ns == 0 && err[0]);
        return 0;
    }
    if (at_ns == 0)
        return 0;
    TN_ASSERT(at_ns > NOW_NS && (at_ns - NOW_NS) % TN_SEC == 0);
    /* A run that closed late takes the schedule up where it is. */
    TN_ASSERT(tn_cron_next(spec, NOW_NS, at_ns + TN_SEC, &again_ns, err, sizeof(err)));
    TN_ASSERT(again_ns == 0 || again_ns > at_ns);
    return 0;
}
