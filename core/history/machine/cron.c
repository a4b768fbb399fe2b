/* SPDX-License-Identifier: MIT */
/* Cron schedules: five fields (minute, hour, day of month, month, day of week), the words that
 * stand for them (@hourly ...), @every with a duration, and a leading TZ= or CRON_TZ=.  Grammar and
 * arithmetic are those that workflow authors know from the Go library that other servers use,
 * corner cases of daylight saving included.
 *
 * Bounded: a schedule is sought for five years, day by day at most. */
#include <stdio.h>
#include <string.h>

#include "history/machine/machine.h"
#include "history/machine/zone.h"

#define STAR (UINT64_C(1) << 63) /* the field was left open */
#define SPEC_BYTES_MAX 1024
#define FIELDS 5
#define YEARS_MAX 5
#define DAY_S INT64_C(86400)
#define NS_PER_S INT64_C(1000000000)
/* A schedule that lags is taken up again this long before the present. */
#define CATCH_UP_S (3 * DAY_S)

typedef struct schedule {
    int64_t every_s; /* 0: by fields */
    uint64_t minute, hour, day, month, weekday;
    const tn_zone *zone;
} schedule;

typedef struct bounds {
    int min, max;
    const char *const *names; /* of min, min + 1, ... */
    int n_names;
} bounds;

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                          "jul", "aug", "sep", "oct", "nov", "dec"};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
static const bounds minutes = {0, 59, NULL, 0};
static const bounds hours = {0, 23, NULL, 0};
static const bounds days = {1, 31, NULL, 0};
static const bounds months = {1, 12, month_names, 12};
static const bounds weekdays = {0, 6, weekday_names, 7};

/* ---- the grammar ----------------------------------------------------------------------------- */

static uint64_t bits(int from, int to, int64_t step)
{
    uint64_t out = 0;

    for (int64_t i = from; i <= to; i += step)
        out |= UINT64_C(1) << i;
    return out;
}

static uint64_t all_of(const bounds *of) { return bits(of->min, of->max, 1) | STAR; }

/* A number, 0 or more; a sign is allowed as far as it says nothing. */
static bool take_int(tn_str text, int64_t *out)
{
    int64_t value = 0;
    size_t i = 0;
    bool negative = false;

    if (text.n && (text.p[0] == '+' || text.p[0] == '-'))
        negative = text.p[i++] == '-';
    if (i == text.n)
        return false;
    for (; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(value, INT64_C(10), &value) ||
            __builtin_add_overflow(value, (int64_t)(text.p[i] - '0'), &value))
            return false;
    }
    *out = value;
    return !negative || value == 0;
}

static bool take_value(tn_str text, const bounds *of, int64_t *out)
{
    for (int i = 0; i < of->n_names; i++)
        if (tn_str_caseeq(text, tn_str_from(of->names[i]))) {
            *out = of->min + i;
            return true;
        }
    return take_int(text, out);
}

/* Splits at every c into at most `max` parts; returns how many there are, max + 1: too many. */
static size_t split(tn_str text, char c, tn_str *parts, size_t max)
{
    size_t n = 0, from = 0;

    for (size_t i = 0; i <= text.n; i++) {
        if (i < text.n && text.p[i] != c)
            continue;
        if (n == max)
            return max + 1;
        parts[n++] = (tn_str){text.p + from, i - from};
        from = i + 1;
    }
    return n;
}

/* "*", "5", "1-5", "mon-fri", each with "/step" or not. */
static bool parse_range(tn_str text, const bounds *of, uint64_t *out)
{
    tn_str parts[2], ends[2];
    size_t n_parts = split(text, '/', parts, 2), n_ends = split(parts[0], '-', ends, 2);
    int64_t from, to, step = 1;
    uint64_t extra = 0;

    if (tn_str_is(ends[0], "*") || tn_str_is(ends[0], "?")) {
        from = of->min;
        to = of->max;
        extra = STAR;
    } else {
        if (n_ends > 2 || !take_value(ends[0], of, &from))
            return false;
        to = from;
        if (n_ends == 2 && !take_value(ends[1], of, &to))
            return false;
    }
    if (n_parts > 2)
        return false;
    if (n_parts == 2) {
        if (!take_int(parts[1], &step))
            return false;
        if (n_ends == 1)
            to = of->max;
        if (step > 1)
            extra = 0;
    }
    if (from < of->min || to > of->max || from > to || step == 0)
        return false;
    *out |= bits((int)from, (int)to, step > 64 ? 64 : step) | extra;
    return true;
}

static bool parse_field(tn_str text, const bounds *of, uint64_t *out)
{
    size_t from = 0;

    *out = 0;
    for (size_t i = 0; i <= text.n; i++) {
        if (i < text.n && text.p[i] != ',')
            continue;
        if (i > from && !parse_range((tn_str){text.p + from, i - from}, of, out))
            return false;
        from = i + 1;
    }
    return true;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\v' || c == '\f' || c == '\r';
}

static tn_str trim(tn_str text)
{
    while (text.n && is_space(text.p[0]))
        text = (tn_str){text.p + 1, text.n - 1};
    while (text.n && is_space(text.p[text.n - 1]))
        text.n--;
    return text;
}

static bool parse_fields(tn_str text, schedule *out)
{
    tn_str fields[FIELDS];
    size_t n = 0, i = 0;

    while (i < text.n) {
        size_t from;

        while (i < text.n && is_space(text.p[i]))
            i++;
        from = i;
        while (i < text.n && !is_space(text.p[i]))
            i++;
        if (i == from)
            break;
        if (n == FIELDS)
            return false;
        fields[n++] = (tn_str){text.p + from, i - from};
    }
    return n == FIELDS && parse_field(fields[0], &minutes, &out->minute) &&
           parse_field(fields[1], &hours, &out->hour) && parse_field(fields[2], &days, &out->day) &&
           parse_field(fields[3], &months, &out->month) &&
           parse_field(fields[4], &weekdays, &out->weekday);
}

static bool parse_word(tn_str text, schedule *out)
{
    static const tn_str every = {"@every ", 7};
    int64_t every_ns;

    out->minute = out->hour = 1;
    out->day = UINT64_C(1) << 1;
    out->month = all_of(&months);
    out->weekday = all_of(&weekdays);
    if (tn_str_is(text, "@yearly") || tn_str_is(text, "@annually")) {
        out->month = UINT64_C(1) << 1;
    } else if (tn_str_is(text, "@monthly")) {
        /* as it stands */
    } else if (tn_str_is(text, "@weekly")) {
        out->day = all_of(&days);
        out->weekday = 1;
    } else if (tn_str_is(text, "@daily") || tn_str_is(text, "@midnight")) {
        out->day = all_of(&days);
    } else if (tn_str_is(text, "@hourly")) {
        out->day = all_of(&days);
        out->hour = all_of(&hours);
    } else if (tn_str_starts(text, every)) {
        if (!tn_parse_duration_ns((tn_str){text.p + every.n, text.n - every.n}, &every_ns))
            return false;
        out->every_s = every_ns < NS_PER_S ? 1 : every_ns / NS_PER_S;
    } else {
        return false;
    }
    return true;
}

static bool parse(tn_arena *arena, tn_str spec, schedule *out)
{
    tn_str name = {NULL, 0};
    size_t skip = tn_str_starts(spec, TN_STR("TZ="))        ? 3
                  : tn_str_starts(spec, TN_STR("CRON_TZ=")) ? 8
                                                            : 0;

    *out = (schedule){0};
    if (spec.n == 0 || spec.n > SPEC_BYTES_MAX)
        return false;
    if (skip) {
        const char *space = memchr(spec.p, ' ', spec.n);

        if (!space)
            return false;
        name = (tn_str){spec.p + skip, (size_t)(space - spec.p) - skip};
        spec = trim((tn_str){space, spec.n - (size_t)(space - spec.p)});
    }
    out->zone = tn_zone_load(arena, name);
    if (!out->zone)
        return false;
    return spec.n && spec.p[0] == '@' ? parse_word(spec, out) : parse_fields(spec, out);
}

/* ---- local time ------------------------------------------------------------------------------ */

typedef tn_local local;

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static int64_t of_day_s(const local *t)
{
    return t->hour * INT64_C(3600) + t->minute * 60 + t->second;
}

/* ---- the next moment ------------------------------------------------------------------------- */

static bool has(uint64_t field, int value) { return field >> value & 1; }

/* A day matches by both of its fields when one of them was left open, else by either. */
static bool day_matches(const schedule *s, const local *t)
{
    bool by_day = has(s->day, t->day), by_weekday = has(s->weekday, tn_local_weekday(t));

    return (s->day & STAR) || (s->weekday & STAR) ? by_day && by_weekday : by_day || by_weekday;
}

/* After a day was added: back to midnight where a change of the clocks led away from it. */
static local settle_midnight(const schedule *s, local t)
{
    if (t.hour > 12)
        return tn_local_of(s->zone, t.unix_s + (24 - t.hour) * INT64_C(3600));
    return t.hour ? tn_local_of(s->zone, t.unix_s - t.hour * INT64_C(3600)) : t;
}

/* First second after unix_s that the fields allow; false: none within five years. */
static bool next_by_fields(const schedule *s, int64_t unix_s, int64_t *out_s)
{
    local t = tn_local_of(s->zone, unix_s + 1);
    int64_t last_year = t.year + YEARS_MAX;
    bool moved = false;

again:
    if (t.year > last_year)
        return false;
    while (!has(s->month, t.month)) {
        if (!moved) {
            moved = true;
            t = tn_local_make(s->zone, t.year, t.month, 1, 0);
        }
        t = tn_local_make(s->zone, t.year, t.month + 1, t.day, of_day_s(&t));
        if (t.month == 1)
            goto again;
    }
    while (!day_matches(s, &t)) {
        if (!moved) {
            moved = true;
            t = tn_local_make(s->zone, t.year, t.month, t.day, 0);
        }
        t = tn_local_make(s->zone, t.year, t.month, t.day + 1, of_day_s(&t));
        t = settle_midnight(s, t);
        if (t.day == 1)
            goto again;
    }
    while (!has(s->hour, t.hour)) {
        if (!moved) {
            moved = true;
            t = tn_local_make(s->zone, t.year, t.month, t.day, t.hour * INT64_C(3600));
        }
        t = tn_local_of(s->zone, t.unix_s + 3600);
        if (t.hour == 0)
            goto again;
    }
    while (!has(s->minute, t.minute)) {
        if (!moved) {
            moved = true;
            t = tn_local_of(s->zone, floor_div(t.unix_s, 60) * 60);
        }
        t = tn_local_of(s->zone, t.unix_s + 60);
        if (t.minute == 0)
            goto again;
    }
    while (t.second != 0) {
        if (!moved)
            moved = true;
        t = tn_local_of(s->zone, t.unix_s + 1);
        if (t.second == 0)
            goto again;
    }
    *out_s = t.unix_s;
    return true;
}

/* The first moment after `unix_s` seconds (and a part of one); both kinds of schedule fire on whole
 * seconds. */
static bool next_after(const schedule *s, int64_t unix_s, int64_t *out_s)
{
    if (s->every_s)
        return !__builtin_add_overflow(unix_s, s->every_s, out_s);
    return next_by_fields(s, unix_s, out_s);
}

/* The first one that is not before now. */
static bool next_from_now(const schedule *s, int64_t from_ns, int64_t now_ns, int64_t *out_s)
{
    int64_t at_s = floor_div(from_ns, NS_PER_S), now_s = floor_div(now_ns + NS_PER_S - 1, NS_PER_S);

    if (s->every_s && at_s < now_s)
        at_s += (now_s - at_s - 1) / s->every_s * s->every_s; /* to the last one before now */
    else if (!s->every_s && at_s < now_s - CATCH_UP_S)
        at_s = now_s - CATCH_UP_S;
    do {
        if (!next_after(s, at_s, &at_s))
            return false;
    } while (at_s < now_s);
    *out_s = at_s;
    return true;
}

bool tn_cron_next(tn_str spec, uint64_t start_ns, uint64_t close_ns, uint64_t *out_ns, char *err,
                  size_t err_size)
{
    tn_arena *arena = tn_arena_create(0);
    int64_t start = start_ns > INT64_MAX / 2 ? INT64_MAX / 2 : (int64_t)start_ns;
    int64_t now = close_ns > INT64_MAX / 2 ? INT64_MAX / 2 : (int64_t)close_ns;
    int64_t at_s, wait_ns;
    schedule s;
    bool ok = parse(arena, spec, &s);

    *out_ns = 0;
    if (!ok) {
        snprintf(err, err_size, "invalid CronSchedule.");
    } else if (now < start) {
        wait_ns = start - now;
        *out_ns = (uint64_t)(now + (wait_ns + NS_PER_S - 1) / NS_PER_S * NS_PER_S);
    } else if (next_from_now(&s, start, now, &at_s)) {
        wait_ns = at_s * NS_PER_S - now;
        *out_ns = (uint64_t)(now + (wait_ns + NS_PER_S - 1) / NS_PER_S * NS_PER_S);
    }
    tn_arena_destroy(arena);
    return ok;
}
