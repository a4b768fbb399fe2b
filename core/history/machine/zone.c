/* SPDX-License-Identifier: MIT */
/* TZif files (RFC 8536) and the rule in their footer.  Everything is bounded by the size of the
 * file, which is bounded by a constant; what doesn't make sense makes the zone unknown, never a
 * crash. */
#include "history/machine/zone.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (256 * 1024)
#define NAME_BYTES_MAX 128
#define HEADER_BYTES 44
#define DAY_S INT64_C(86400)
#define RULE_HOURS_MAX 167

/* "M3.2.0/2", "J60", "59": when a half-year begins. */
typedef struct rule_date {
    char kind; /* 'M', 'J' (1..365 without leap days) or 'N' (0..365) */
    int month, week, day;
    int64_t time_s;
} rule_date;

typedef struct zone_rule {
    bool present, has_summer;
    int32_t standard_s, summer_s;
    rule_date summer_begins, summer_ends;
} zone_rule;

struct tn_zone {
    size_t n_transitions, n_types;
    const uint8_t *times, *indexes, *types; /* as in the file: times of 8 bytes, types of 6 */
    zone_rule rule;
};

/* ---- the calendar ---------------------------------------------------------------------------- */

int64_t tn_days_from_civil(int64_t year, int64_t month, int64_t day)
{
    int64_t era, year_of_era, day_of_year;

    year -= month <= 2;
    era = (year >= 0 ? year : year - 399) / 400;
    year_of_era = year - era * 400;
    day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

void tn_civil_from_days(int64_t days, int64_t *out_year, int *out_month, int *out_day)
{
    int64_t era, day_of_era, year_of_era, day_of_year, month;

    days += 719468;
    era = (days >= 0 ? days : days - 146096) / 146097;
    day_of_era = days - era * 146097;
    year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    month = (5 * day_of_year + 2) / 153;
    *out_day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    *out_month = (int)(month < 10 ? month + 3 : month - 9);
    *out_year = year_of_era + era * 400 + (*out_month <= 2);
}

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static bool is_leap(int64_t year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

/* ---- the rule -------------------------------------------------------------------------------- */

typedef struct cursor {
    const char *p, *end;
} cursor;

static bool take(cursor *at, char c)
{
    if (at->p == at->end || *at->p != c)
        return false;
    at->p++;
    return true;
}

static bool take_number(cursor *at, int max, int *out)
{
    int value = 0;
    const char *from = at->p;

    while (at->p != at->end && *at->p >= '0' && *at->p <= '9') {
        value = value * 10 + (*at->p++ - '0');
        if (value > max)
            return false;
    }
    *out = value;
    return at->p != from;
}

/* "CET" or "<+03>" */
static bool take_name(cursor *at)
{
    const char *from;

    if (take(at, '<')) {
        while (at->p != at->end && *at->p != '>')
            at->p++;
        return take(at, '>');
    }
    from = at->p;
    while (at->p != at->end &&
           ((*at->p >= 'A' && *at->p <= 'Z') || (*at->p >= 'a' && *at->p <= 'z')))
        at->p++;
    return at->p - from >= 3;
}

/* "[+-]hh[:mm[:ss]]" */
static bool take_time(cursor *at, int64_t *out_s)
{
    int hours, minutes = 0, seconds = 0;
    bool negative = take(at, '-');

    if (!negative)
        take(at, '+');
    if (!take_number(at, RULE_HOURS_MAX, &hours))
        return false;
    if (take(at, ':')) {
        if (!take_number(at, 59, &minutes))
            return false;
        if (take(at, ':') && !take_number(at, 59, &seconds))
            return false;
    }
    *out_s = hours * INT64_C(3600) + minutes * 60 + seconds;
    if (negative)
        *out_s = -*out_s;
    return true;
}

static bool take_date(cursor *at, rule_date *out)
{
    *out = (rule_date){.kind = 'N', .time_s = 7200};
    if (!take(at, ','))
        return false;
    if (take(at, 'M')) {
        out->kind = 'M';
        if (!take_number(at, 12, &out->month) || out->month < 1 || !take(at, '.') ||
            !take_number(at, 5, &out->week) || out->week < 1 || !take(at, '.') ||
            !take_number(at, 6, &out->day))
            return false;
    } else {
        if (take(at, 'J'))
            out->kind = 'J';
        if (!take_number(at, 365, &out->day) || (out->kind == 'J' && out->day < 1))
            return false;
    }
    return !take(at, '/') || take_time(at, &out->time_s);
}

static bool parse_rule(tn_str text, zone_rule *out)
{
    cursor at;
    int64_t west_s;

    *out = (zone_rule){0};
    if (text.n == 0)
        return true;
    at = (cursor){text.p, text.p + text.n};
    if (!take_name(&at) || !take_time(&at, &west_s))
        return false;
    out->present = true;
    out->standard_s = (int32_t)-west_s;
    if (at.p == at.end)
        return true;
    out->has_summer = true;
    out->summer_s = out->standard_s + 3600;
    if (!take_name(&at))
        return false;
    if (at.p != at.end && *at.p != ',') {
        if (!take_time(&at, &west_s))
            return false;
        out->summer_s = (int32_t)-west_s;
    }
    return take_date(&at, &out->summer_begins) && take_date(&at, &out->summer_ends) &&
           at.p == at.end;
}

/* The moment of a date of the rule in a year, while `offset_s` applies. */
static int64_t date_s(const rule_date *date, int64_t year, int32_t offset_s)
{
    int64_t day = tn_days_from_civil(year, 1, 1);

    if (date->kind == 'J') {
        day += date->day - 1 + (is_leap(year) && date->day >= 60);
    } else if (date->kind == 'N') {
        day += date->day;
    } else {
        int64_t first = tn_days_from_civil(year, date->month, 1);
        int64_t next = date->month == 12 ? tn_days_from_civil(year + 1, 1, 1)
                                         : tn_days_from_civil(year, date->month + 1, 1);
        int64_t weekday = ((first + 4) % 7 + 7) % 7;

        day = first + (date->day - weekday + 7) % 7 + (date->week - 1) * 7;
        while (day >= next)
            day -= 7;
    }
    return day * DAY_S + date->time_s - offset_s;
}

/* The rule's last change at or before the moment says what applies; with the first one after it, it
 * bounds the interval (which may begin later, where the file's own transitions end). */
static int32_t rule_offset(const zone_rule *rule, int64_t unix_s, int64_t *from_s, int64_t *until_s)
{
    int64_t year, last_s = INT64_MIN;
    int month, day;
    int32_t offset_s = rule->standard_s;

    if (!rule->has_summer)
        return rule->standard_s;
    tn_civil_from_days(floor_div(unix_s + rule->standard_s, DAY_S), &year, &month, &day);
    for (int64_t y = year - 1; y <= year + 1; y++) {
        int64_t changes[2] = {date_s(&rule->summer_begins, y, rule->standard_s),
                              date_s(&rule->summer_ends, y, rule->summer_s)};

        for (int i = 0; i < 2; i++) {
            if (changes[i] <= unix_s && changes[i] >= last_s) {
                last_s = changes[i];
                offset_s = i == 0 ? rule->summer_s : rule->standard_s;
            } else if (changes[i] > unix_s && changes[i] < *until_s) {
                *until_s = changes[i];
            }
        }
    }
    if (last_s > *from_s)
        *from_s = last_s;
    return offset_s;
}

/* ---- the file -------------------------------------------------------------------------------- */

static int64_t get_i64(const uint8_t *p) { return (int64_t)tn_get_u64be(p); }

static int32_t type_offset(const tn_zone *zone, size_t type)
{
    return (int32_t)tn_get_u32be(zone->types + type * 6);
}

/* Which type holds before the first transition: the file's first when nothing else uses it, else
 * the first that is not summer time. */
static size_t first_type(const tn_zone *zone)
{
    size_t first = zone->n_transitions ? zone->indexes[0] : 0;

    if (zone->n_transitions == 0 || !memchr(zone->indexes, 0, zone->n_transitions))
        return 0;
    if (zone->n_transitions && zone->types[first * 6 + 4]) {
        for (size_t i = first; i-- > 0;)
            if (!zone->types[i * 6 + 4])
                return i;
    }
    for (size_t i = 0; i < zone->n_types; i++)
        if (!zone->types[i * 6 + 4])
            return i;
    return 0;
}

int32_t tn_zone_offset(const tn_zone *zone, int64_t unix_s, int64_t *out_from_s,
                       int64_t *out_until_s)
{
    size_t lo = 0, hi = zone->n_transitions;

    *out_from_s = INT64_MIN;
    *out_until_s = INT64_MAX;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (get_i64(zone->times + mid * 8) <= unix_s)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < zone->n_transitions)
        *out_until_s = get_i64(zone->times + lo * 8);
    if (lo > 0)
        *out_from_s = get_i64(zone->times + (lo - 1) * 8);
    if (lo == zone->n_transitions && zone->rule.present)
        return rule_offset(&zone->rule, unix_s, out_from_s, out_until_s);
    return type_offset(zone, lo ? zone->indexes[lo - 1] : first_type(zone));
}

tn_local tn_local_of(const tn_zone *zone, int64_t unix_s)
{
    int64_t from_s, until_s, wall_s = unix_s + tn_zone_offset(zone, unix_s, &from_s, &until_s);
    int64_t day = floor_div(wall_s, DAY_S), of_day = wall_s - day * DAY_S;
    tn_local out = {.unix_s = unix_s};

    tn_civil_from_days(day, &out.year, &out.month, &out.day);
    out.hour = (int)(of_day / 3600);
    out.minute = (int)(of_day / 60 % 60);
    out.second = (int)(of_day % 60);
    return out;
}

tn_local tn_local_make(const tn_zone *zone, int64_t year, int64_t month, int64_t day,
                       int64_t of_day_s)
{
    int64_t wall_s, from_s, until_s, utc_s;
    int32_t offset_s;

    year += floor_div(month - 1, 12);
    month -= floor_div(month - 1, 12) * 12;
    wall_s = (tn_days_from_civil(year, month, 1) + day - 1) * DAY_S + of_day_s;
    offset_s = tn_zone_offset(zone, wall_s, &from_s, &until_s);
    if (offset_s) {
        utc_s = wall_s - offset_s;
        if (utc_s < from_s || utc_s >= until_s)
            offset_s = tn_zone_offset(zone, utc_s, &from_s, &until_s);
    }
    return tn_local_of(zone, wall_s - offset_s);
}

int tn_local_weekday(const tn_local *t)
{
    return (int)(((tn_days_from_civil(t->year, t->month, t->day) + 4) % 7 + 7) % 7);
}

typedef struct section {
    size_t counts[6]; /* isut, isstd, leap, transitions, types, characters */
    size_t bytes;     /* of its body */
} section;

static bool read_header(tn_blob file, size_t at, size_t time_bytes, section *out)
{
    static const char magic[] = "TZif";

    if (file.n < at + HEADER_BYTES || memcmp(file.p + at, magic, 4) != 0)
        return false;
    for (size_t i = 0; i < 6; i++) {
        out->counts[i] = tn_get_u32be(file.p + at + 20 + i * 4);
        if (out->counts[i] > FILE_BYTES_MAX)
            return false;
    }
    out->bytes = out->counts[3] * (time_bytes + 1) + out->counts[4] * 6 + out->counts[5] +
                 out->counts[2] * (time_bytes + 4) + out->counts[1] + out->counts[0];
    return file.n - at - HEADER_BYTES >= out->bytes;
}

static bool types_are_sound(const tn_zone *zone)
{
    for (size_t i = 0; i < zone->n_transitions; i++)
        if (zone->indexes[i] >= zone->n_types)
            return false;
    for (size_t i = 0; i < zone->n_types; i++)
        if (type_offset(zone, i) < -200 * 3600 || type_offset(zone, i) > 200 * 3600)
            return false;
    return zone->n_types > 0;
}

const tn_zone *tn_zone_parse(tn_arena *arena, tn_blob file)
{
    tn_zone *zone = TN_NEW(arena, tn_zone);
    section head;
    size_t body;
    tn_str rule = {NULL, 0};

    /* Files of version 1 hold 32-bit times only; no system has them any more. */
    if (!zone || !read_header(file, 0, 4, &head) || file.p[4] < '2')
        return NULL;
    body = HEADER_BYTES + head.bytes;
    if (!read_header(file, body, 8, &head))
        return NULL;
    body += HEADER_BYTES;
    zone->n_transitions = head.counts[3];
    zone->n_types = head.counts[4];
    zone->times = file.p + body;
    zone->indexes = zone->times + zone->n_transitions * 8;
    zone->types = zone->indexes + zone->n_transitions;
    body += head.bytes;
    if (!types_are_sound(zone))
        return NULL;
    if (body < file.n && file.p[body] == '\n') {
        const uint8_t *end = memchr(file.p + body + 1, '\n', file.n - body - 1);

        if (end)
            rule = (tn_str){(const char *)file.p + body + 1, (size_t)(end - (file.p + body + 1))};
    }
    return parse_rule(rule, &zone->rule) ? zone : NULL;
}

static bool name_is_safe(tn_str name)
{
    if (name.n == 0 || name.n > NAME_BYTES_MAX || name.p[0] == '/' || name.p[0] == '\\')
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] == '\0' || (name.p[i] == '.' && i + 1 < name.n && name.p[i + 1] == '.'))
            return false;
    return true;
}

static tn_blob read_zone_file(tn_arena *arena, tn_str name)
{
    static const char *const folders[] = {"/usr/share/zoneinfo/", "/usr/share/lib/zoneinfo/",
                                          "/usr/lib/locale/TZ/"};
    tn_blob out = {NULL, 0};

    for (size_t i = 0; i < TN_COUNT_OF(folders) && !out.p; i++) {
        char path[NAME_BYTES_MAX + 32];
        struct stat is;
        uint8_t *bytes = NULL;
        size_t n = 0, most = 0;
        ssize_t got;
        int fd;

        snprintf(path, sizeof(path), "%s" TN_STR_FMT, folders[i], TN_STR_ARG(name));
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
            continue;
        if (fstat(fd, &is) == 0 && S_ISREG(is.st_mode) && is.st_size < FILE_BYTES_MAX)
            most = (size_t)is.st_size;
        if (most)
            bytes = tn_arena_alloc(arena, most);
        while (bytes && n < most && (got = read(fd, bytes + n, most - n)) > 0)
            n += (size_t)got;
        close(fd);
        if (bytes && n)
            out = (tn_blob){bytes, n};
    }
    return out;
}

const tn_zone *tn_zone_load(tn_arena *arena, tn_str name)
{
    tn_blob file;

    if (name.n == 0 || tn_str_is(name, "UTC") || tn_str_is(name, "Local")) {
        tn_zone *utc = TN_NEW(arena, tn_zone);

        if (utc)
            utc->rule.present = true; /* offset 0, for ever */
        return utc;
    }
    if (!name_is_safe(name))
        return NULL;
    file = read_zone_file(arena, name);
    return file.p ? tn_zone_parse(arena, file) : NULL;
}
