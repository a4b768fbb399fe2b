/* SPDX-License-Identifier: MIT */
/* When a schedule acts: what callers write (calendars, cron strings, intervals) brought to one form, and the
 * moments that come of it.  Pure but for the zone files; the same times, jitter included, as clients know them
 * from the server that this one is compatible with. */
#ifndef TN_HISTORY_MACHINE_SCHEDULE_SPEC_H
#define TN_HISTORY_MACHINE_SCHEDULE_SPEC_H

#include "base/base.h"
#include "temporal/api/schedule/v1/message.pb-c.h"

typedef Temporal__Api__Schedule__V1__ScheduleSpec tn_schedule_spec_msg;

/* Calendars and cron strings become structured calendars and intervals, in place (new parts in the arena); doing it
 * twice is doing it once.  NULL, or what is wrong with the specification.  Settled messages only below. */
const char *tn_schedule_spec_settle(tn_arena *arena, tn_schedule_spec_msg *spec);
/* As Describe and List show it: ranges with their end and step filled in. */
void tn_schedule_spec_show(tn_schedule_spec_msg *spec);

typedef struct tn_schedule_times tn_schedule_times;
/* In the arena, and points into the message.  NULL: out_error says why (an unknown zone). */
const tn_schedule_times *tn_schedule_times_make(tn_arena *arena, const tn_schedule_spec_msg *spec,
                                                const char **out_error);

typedef enum tn_schedule_next {
    TN_SCHEDULE_NEVER, /* none any more */
    TN_SCHEDULE_AT,
    TN_SCHEDULE_TOO_SPARSE, /* nearly all is excluded: not sought any further */
} tn_schedule_next;
/* The first moment after `after_ns`: as specified (a whole second), and with its jitter, which is the same every
 * time for the same seed. */
tn_schedule_next tn_schedule_times_next(const tn_schedule_times *times, tn_str seed,
                                        int64_t after_ns, int64_t *out_nominal_ns, int64_t *out_ns);

/* 32 bits of a fingerprint (FarmHash's, of more than 24 bytes): what jitter is drawn from. */
uint32_t tn_schedule_fingerprint(tn_blob bytes);

#endif
