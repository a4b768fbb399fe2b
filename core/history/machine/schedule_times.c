/* SPDX-License-Identifier: MIT */
/* The moments of a schedule: structured calendars in a time zone, intervals from 1970, what is excluded, and jitter
 * drawn from a hash.  Daylight saving as the server does it that this one is compatible with: a local time that
 * occurs twice is taken twice when its hour was sought by hours, one that doesn't exist is passed over.
 *
 * Bounded: nothing after 2100, and so many excluded moments in a row; whole minutes, hours and days that a calendar
 * excludes are stepped over at once. */
#include <string.h>

#include "history/machine/priv.h"
#include "history/machine/schedule_spec.h"
#include "proto/proto.h"
#include "history/machine/zone.h"

#define YEAR_MIN 2000
#define YEAR_MAX 2100
#define EXCLUDED_MAX 100000
#define SECOND_NS INT64_C(1000000000)
#define HOUR_S INT64_C(3600)
#define DAY_S INT64_C(86400)
#define NEVER_S INT64_MAX
#define ALL_60 ((UINT64_C(1) << 60) - 1)
#define ALL_24 ((UINT64_C(1) << 24) - 1)
/* Of the year 1, from which hashed times count. */
#define YEAR_1_S INT64_C(62135596800)

typedef Temporal__Api__Schedule__V1__Range range;

typedef struct calendar {
    uint64_t second, minute, hour, day, month, weekday; /* a bit a value */
    uint64_t years[2];                                  /* from YEAR_MIN on */
    bool any_year;
} calendar;

typedef struct interval {
    int64_t every_s, phase_s;
} interval;

struct tn_schedule_times {
    const tn_zone *zone;
    calendar *calendars, *excluded;
    interval *intervals;
    size_t n_calendars, n_excluded, n_intervals;
    int64_t start_ns, end_ns; /* end INT64_MAX: none */
    int64_t jitter_ns;
};

/* ---- compiling ------------------------------------------------------------------------------- */

static uint64_t bits_of(range *const *ranges, size_t n)
{
    uint64_t out = 0;

    for (size_t i = 0; i < n; i++) {
        int64_t end = ranges[i]->end < ranges[i]->start ? ranges[i]->start : ranges[i]->end;
        int64_t step = ranges[i]->step > 0 ? ranges[i]->step : 1;

        for (int64_t v = ranges[i]->start < 0 ? 0 : ranges[i]->start; v <= end && v < 64; v += step)
            out |= UINT64_C(1) << v;
    }
    return out;
}

static void take_years(calendar *out, range *const *ranges, size_t n)
{
    out->any_year = n == 0;
    for (size_t i = 0; i < n; i++) {
        int64_t end = ranges[i]->end < ranges[i]->start ? ranges[i]->start : ranges[i]->end;
        int64_t step = ranges[i]->step > 0 ? ranges[i]->step : 1;

        for (int64_t v = ranges[i]->start; v <= end && v <= YEAR_MAX; v += step)
            if (v >= YEAR_MIN)
                out->years[(v - YEAR_MIN) / 64] |= UINT64_C(1) << (v - YEAR_MIN) % 64;
    }
}

static calendar *compile(tn_arena *arena,
                         Temporal__Api__Schedule__V1__StructuredCalendarSpec *const *from, size_t n)
{
    calendar *out = TN_NEW_ARRAY(arena, calendar, n + 1);

    for (size_t i = 0; out && i < n; i++) {
        out[i].second = bits_of(from[i]->second, from[i]->n_second);
        out[i].minute = bits_of(from[i]->minute, from[i]->n_minute);
        out[i].hour = bits_of(from[i]->hour, from[i]->n_hour);
        out[i].day = bits_of(from[i]->day_of_month, from[i]->n_day_of_month);
        out[i].month = bits_of(from[i]->month, from[i]->n_month);
        out[i].weekday = bits_of(from[i]->day_of_week, from[i]->n_day_of_week);
        take_years(&out[i], from[i]->year, from[i]->n_year);
    }
    return out;
}

static const tn_zone *zone_of(tn_arena *arena, const tn_schedule_spec_msg *spec,
                              const char **out_error)
{
    const tn_zone *zone;

    if (spec->timezone_data.len) {
        zone = tn_zone_parse(arena, (tn_blob){spec->timezone_data.data, spec->timezone_data.len});
        *out_error = zone ? NULL : "malformed time zone information";
        return zone;
    }
    zone = tn_zone_load(arena, tn_str_from(spec->timezone_name));
    *out_error = NULL;
    if (!zone && (strstr(spec->timezone_name, "..") || strchr("/\\", spec->timezone_name[0])))
        *out_error = "time: invalid location name";
    else if (!zone)
        *out_error = tn_arena_printf(arena, "unknown time zone %s", spec->timezone_name);
    return zone;
}

const tn_schedule_times *tn_schedule_times_make(tn_arena *arena, const tn_schedule_spec_msg *spec,
                                                const char **out_error)
{
    tn_schedule_times *out = TN_NEW(arena, tn_schedule_times);

    *out_error = "out of memory";
    if (!out)
        return NULL;
    out->zone = zone_of(arena, spec, out_error);
    if (!out->zone)
        return NULL;
    out->calendars = compile(arena, spec->structured_calendar, spec->n_structured_calendar);
    out->excluded =
        compile(arena, spec->exclude_structured_calendar, spec->n_exclude_structured_calendar);
    out->intervals = TN_NEW_ARRAY(arena, interval, spec->n_interval + 1);
    if (!out->calendars || !out->excluded || !out->intervals)
        return NULL;
    out->n_calendars = spec->n_structured_calendar;
    out->n_excluded = spec->n_exclude_structured_calendar;
    for (; out->n_intervals < spec->n_interval; out->n_intervals++) {
        interval *one = &out->intervals[out->n_intervals];
        int64_t every_ns = 0, phase_ns = 0;

        (void)tn_ns_from_duration(spec->interval[out->n_intervals]->interval, &every_ns);
        (void)tn_ns_from_duration(spec->interval[out->n_intervals]->phase, &phase_ns);
        one->every_s = every_ns < SECOND_NS ? 1 : every_ns / SECOND_NS;
        one->phase_s = phase_ns < 0 ? 0 : phase_ns / SECOND_NS;
    }
    out->end_ns = INT64_MAX;
    (void)tn_ns_from_ts(spec->start_time, &out->start_ns);
    if (spec->end_time)
        (void)tn_ns_from_ts(spec->end_time, &out->end_ns);
    (void)tn_ns_from_duration(spec->jitter, &out->jitter_ns);
    return out;
}

/* ---- calendars ------------------------------------------------------------------------------- */

static bool has(uint64_t bits, int value) { return value >= 0 && value < 64 && bits >> value & 1; }

static bool has_year(const calendar *c, int64_t year)
{
    if (c->any_year)
        return true;
    return year >= YEAR_MIN && year <= YEAR_MAX &&
           c->years[(year - YEAR_MIN) / 64] >> (year - YEAR_MIN) % 64 & 1;
}

static int days_in(int month, int64_t year)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return month == 2 && leap ? 29 : days[month - 1];
}

/* What is sought: a local time, field by field; `again_s`: in the second copy of an hour that a change
 * of the clocks repeats. */
typedef struct seek {
    const tn_zone *zone;
    int64_t year;
    int month, day, hour, minute, second;
    int64_t again_s;
} seek;

static tn_local made(const seek *at, int minute, int second)
{
    return tn_local_make(at->zone, at->year, at->month, at->day,
                         at->hour * HOUR_S + minute * INT64_C(60) + second);
}

static void carry(seek *at)
{
    if (at->second >= 60)
        at->minute++, at->second = 0;
    if (at->minute >= 60) {
        int64_t before_s = made(at, 0, 0).unix_s, after_s;

        at->hour++;
        at->minute = 0;
        after_s = made(at, 0, 0).unix_s;
        /* The next hour begins two hours later: the one that just ended comes once more. */
        if (at->again_s == 0 && after_s - before_s > HOUR_S) {
            at->hour--;
            at->again_s = HOUR_S;
        } else {
            at->again_s = 0;
        }
    }
    if (at->hour >= 24)
        at->day++, at->hour = 0;
    if (at->day > days_in(at->month, at->year))
        at->month++, at->day = 1;
    if (at->month > 12)
        at->year++, at->month = 1;
}

/* Moves one field at a time, from the year inwards, to what the calendar has; false: a field ran over its end, so
 * that the search goes on from there. */
static bool settle_date(const calendar *c, seek *at)
{
    if (!has_year(c, at->year)) {
        *at = (seek){.zone = at->zone, .year = at->year + 1, .month = 1, .day = 1};
        return false;
    }
    while (!has(c->month, at->month)) {
        *at = (seek){.zone = at->zone, .year = at->year, .month = at->month + 1, .day = 1};
        if (at->month > 12) {
            at->year++;
            at->month = 1;
            return false;
        }
    }
    for (;;) {
        if (has(c->day, at->day)) {
            tn_local t = made(at, at->minute, at->second);

            if (has(c->weekday, tn_local_weekday(&t)))
                return true;
        }
        at->day++;
        at->hour = at->minute = at->second = 0;
        at->again_s = 0;
        if (at->day > days_in(at->month, at->year))
            return false;
    }
}

static bool settle_clock(const calendar *c, seek *at)
{
    while (!has(c->hour, at->hour)) {
        at->hour++;
        at->minute = at->second = 0;
        at->again_s = 0;
        if (at->hour >= 24)
            return false;
    }
    while (!has(c->minute, at->minute)) {
        at->minute++;
        at->second = 0;
        if (at->minute >= 60)
            return false;
    }
    while (!has(c->second, at->second))
        if (++at->second >= 60)
            return false;
    return true;
}

/* The first second after `after_s` that the calendar has; NEVER_S: none. */
static int64_t calendar_next(const calendar *c, const tn_zone *zone, int64_t after_s)
{
    tn_local now = tn_local_of(zone, after_s), hour_ago = tn_local_of(zone, after_s - HOUR_S);
    seek at = {zone,     now.year,   now.month,      now.day,
               now.hour, now.minute, now.second + 1, hour_ago.hour == now.hour ? HOUR_S : 0};

    if (c->second == 0 || c->minute == 0 || c->hour == 0 || c->day == 0 || c->month == 0 ||
        c->weekday == 0)
        return NEVER_S;
    for (;;) {
        tn_local found;

        carry(&at);
        if (at.year > YEAR_MAX)
            return NEVER_S;
        if (!settle_date(c, &at) || !settle_clock(c, &at))
            continue;
        found = made(&at, at.minute, at.second);
        if (found.hour == at.hour)
            return found.unix_s + at.again_s;
        /* Clocks never show that time on that day. */
        at.hour++;
        at.minute = at.second = 0;
    }
}

/* Until when (exclusively) all seconds from `t` on are excluded as far as one calendar tells; t itself: it isn't. */
static int64_t excluded_until_s(const calendar *c, const tn_zone *zone, const tn_local *t)
{
    int64_t from_s, until_s, end_s = t->unix_s + 1;

    if (!has_year(c, t->year) || !has(c->month, t->month) || !has(c->day, t->day) ||
        !has(c->weekday, tn_local_weekday(t)) || !has(c->hour, t->hour) ||
        !has(c->minute, t->minute) || !has(c->second, t->second))
        return t->unix_s;
    if ((c->second & ALL_60) != ALL_60)
        return end_s;
    end_s = t->unix_s - t->second + 60;
    if ((c->minute & ALL_60) == ALL_60) {
        end_s = t->unix_s - t->second - t->minute * INT64_C(60) + HOUR_S;
        if ((c->hour & ALL_24) == ALL_24)
            end_s = t->unix_s - t->second - t->minute * INT64_C(60) - t->hour * HOUR_S + DAY_S;
    }
    /* within one offset, local time goes on evenly */
    tn_zone_offset(zone, t->unix_s, &from_s, &until_s);
    return end_s > until_s ? until_s : end_s;
}

/* ---- the next moment ------------------------------------------------------------------------- */

static int64_t floor_s(int64_t ns) { return ns / SECOND_NS - (ns % SECOND_NS < 0); }

static int64_t raw_next_s(const tn_schedule_times *times, int64_t after_s)
{
    int64_t least = NEVER_S;

    for (size_t i = 0; i < times->n_calendars; i++) {
        int64_t next = calendar_next(&times->calendars[i], times->zone, after_s);

        if (next < least)
            least = next;
    }
    for (size_t i = 0; i < times->n_intervals; i++) {
        const interval *one = &times->intervals[i];
        int64_t next, turns = (after_s - one->phase_s) / one->every_s + 1;

        if (!__builtin_mul_overflow(turns, one->every_s, &next) &&
            !__builtin_add_overflow(next, one->phase_s, &next) && next < least)
            least = next;
    }
    return least;
}

static int64_t skip_to_s(const tn_schedule_times *times, int64_t at_s)
{
    tn_local t;
    int64_t until_s = at_s;

    if (times->n_excluded == 0)
        return at_s;
    t = tn_local_of(times->zone, at_s);
    for (size_t i = 0; i < times->n_excluded; i++) {
        int64_t one = excluded_until_s(&times->excluded[i], times->zone, &t);

        if (one > until_s)
            until_s = one;
    }
    return until_s;
}

static uint32_t turned(uint32_t v, int right) { return v >> right | v << (32 - right); }
static uint32_t word(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

#define FARM_1 0xcc9e2d51u
#define FARM_2 0x1b873593u
#define FARM_3 0xe6546b64u

static uint32_t farm_mixed(uint32_t a) { return turned(a * FARM_1, 17) * FARM_2; }
static uint32_t farm_step(uint32_t a, uint32_t h)
{
    return turned(h ^ farm_mixed(a), 19) * 5 + FARM_3;
}

uint32_t tn_schedule_fingerprint(tn_blob bytes)
{
    const uint8_t *p = bytes.p, *end = bytes.p + bytes.n;
    uint32_t n = (uint32_t)bytes.n, h = n, g = FARM_1 * n, f = g;

    TN_ASSERT(bytes.n > 24);
    h = turned(h ^ farm_mixed(word(end - 4)), 19) * 5 + FARM_3;
    h = turned(h ^ farm_mixed(word(end - 16)), 19) * 5 + FARM_3;
    g = turned(g ^ farm_mixed(word(end - 8)), 19) * 5 + FARM_3;
    g = turned(g ^ farm_mixed(word(end - 12)), 19) * 5 + FARM_3;
    f = turned(f + farm_mixed(word(end - 20)), 19) + 113;
    for (size_t left = bytes.n; left > 20; left -= 20, p += 20) {
        uint32_t a = word(p), b = word(p + 4), c = word(p + 8), d = word(p + 12), e = word(p + 16);

        h += a;
        g += b;
        f += c;
        h = farm_step(d, h) + e;
        g = farm_step(c, g) + a;
        f = farm_step(b + e * FARM_1, f) + d;
        f += g;
        g += f;
    }
    g = turned(turned(g, 11) * FARM_1, 17) * FARM_1;
    f = turned(turned(f, 11) * FARM_1, 17) * FARM_1;
    h = turned(turned(h + g, 19) * 5 + FARM_3, 17) * FARM_1;
    h = turned(turned(h + f, 19) * 5 + FARM_3, 17) * FARM_1;
    return h;
}

#define SEED_MAX 2048

/* Milliseconds of jitter, always the same for a moment and a seed. */
static int64_t jitter_ns(tn_str seed, int64_t at_s, int64_t most_ns)
{
    uint8_t bytes[15 + SEED_MAX] = {1}; /* the form's version, seconds, nanoseconds, no zone */
    size_t n = seed.n > SEED_MAX ? SEED_MAX : seed.n;
    uint64_t most_ms = most_ns > 0 ? (uint64_t)most_ns / 1000000 : 0;

    if (most_ms == 0 || n < 10)
        return 0;
    if (most_ms > UINT32_MAX)
        most_ms = UINT32_MAX;
    tn_put_u64be(bytes + 1, (uint64_t)(at_s + YEAR_1_S));
    tn_put_u32be(bytes + 9, 0);
    bytes[13] = bytes[14] = 0xff;
    memcpy(bytes + 15, seed.p, n);
    return (int64_t)(tn_schedule_fingerprint((tn_blob){bytes, 15 + n}) * most_ms >> 32) * 1000000;
}

tn_schedule_next tn_schedule_times_next(const tn_schedule_times *times, tn_str seed,
                                        int64_t after_ns, int64_t *out_nominal_ns, int64_t *out_ns)
{
    int64_t at_s, until_s, following_s, most_ns = times->jitter_ns, year;
    int64_t from_ns =
        times->start_ns > INT64_MIN + SECOND_NS ? times->start_ns - SECOND_NS : times->start_ns;
    int month, day;

    at_s = floor_s(after_ns > from_ns ? after_ns : from_ns);
    for (int tries = 0;; tries++) {
        if (tries == EXCLUDED_MAX)
            return TN_SCHEDULE_TOO_SPARSE;
        at_s = raw_next_s(times, at_s);
        if (at_s == NEVER_S || at_s > INT64_MAX / SECOND_NS || at_s * SECOND_NS > times->end_ns)
            return TN_SCHEDULE_NEVER;
        tn_civil_from_days(at_s / DAY_S - (at_s % DAY_S < 0), &year, &month, &day);
        if (year > YEAR_MAX)
            return TN_SCHEDULE_NEVER;
        until_s = skip_to_s(times, at_s);
        if (until_s == at_s)
            break;
        at_s = until_s - 1;
    }
    *out_nominal_ns = at_s * SECOND_NS;
    if (most_ns > 0) {
        following_s = raw_next_s(times, at_s);
        if (following_s != NEVER_S && (following_s - at_s) < most_ns / SECOND_NS + 1 &&
            (following_s - at_s) * SECOND_NS < most_ns)
            most_ns = (following_s - at_s) * SECOND_NS;
    }
    *out_ns = *out_nominal_ns + jitter_ns(seed, at_s, most_ns);
    return TN_SCHEDULE_AT;
}
