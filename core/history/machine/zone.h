/* SPDX-License-Identifier: MIT */
/* Time zones for cron schedules: the system's tzdata, read without touching the C library's own
 * zone. */
#ifndef TN_HISTORY_MACHINE_ZONE_H
#define TN_HISTORY_MACHINE_ZONE_H

#include "base/base.h"

typedef struct tn_zone tn_zone;

/* "Europe/Berlin"; "" and "UTC" (and "Local": servers keep UTC) are UTC.  NULL: no such zone, or
 * its file is damaged.  The zone lives in the arena. */
const tn_zone *tn_zone_load(tn_arena *arena, tn_str name);
/* The same from the bytes of a TZif file (RFC 8536). */
const tn_zone *tn_zone_parse(tn_arena *arena, tn_blob file);

/* Seconds east of UTC that apply at a moment, and the half-open interval in which they do. */
int32_t tn_zone_offset(const tn_zone *zone, int64_t unix_s, int64_t *out_from_s,
                       int64_t *out_until_s);

/* What the clocks of a zone show at a moment. */
typedef struct tn_local {
    int64_t unix_s;
    int64_t year;
    int month, day, hour, minute, second;
} tn_local;
tn_local tn_local_of(const tn_zone *zone, int64_t unix_s);
/* The moment at which clocks in the zone show that (fields may lie outside their range); one of the two
 * zones of a change when it is not unique. */
tn_local tn_local_make(const tn_zone *zone, int64_t year, int64_t month, int64_t day,
                       int64_t of_day_s);
int tn_local_weekday(const tn_local *t); /* 0: Sunday */

/* ---- the calendar (proleptic Gregorian) ---- */
int64_t tn_days_from_civil(int64_t year, int64_t month, int64_t day); /* since 1970; month 1..12 */
void tn_civil_from_days(int64_t days, int64_t *out_year, int *out_month, int *out_day);

#endif
