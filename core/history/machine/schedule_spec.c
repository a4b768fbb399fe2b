/* SPDX-License-Identifier: MIT */
/* Schedule specifications: the grammar of calendar fields and cron strings, and the check of what comes of them.
 * A calendar's fields are texts ("1-5,8", "mon-fri/2"); a structured calendar has ranges.  Texts of errors are what
 * clients know. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "history/machine/priv.h"
#include "history/machine/schedule_spec.h"
#include "proto/proto.h"

#define YEAR_MIN 2000
#define YEAR_MAX 2100
#define COMMENT_BYTES_MAX 200
#define CRON_FIELDS_MAX 7
#define DURATION_TEXT_MAX 512

typedef Temporal__Api__Schedule__V1__CalendarSpec calendar;
typedef Temporal__Api__Schedule__V1__StructuredCalendarSpec structured;
typedef Temporal__Api__Schedule__V1__Range range;

/* What a text may say besides numbers. */
typedef enum words { NO_WORDS, MONTHS, WEEKDAYS } words;

typedef struct field {
    const char *name, *otherwise;
    size_t text_at, count_at, ranges_at; /* in a calendar; in a structured one */
    int32_t min, max;                    /* of the structured one; a text's weekday may be 7 */
    words words;
} field;

#define FIELD(NAME, name, otherwise, min, max, words) \
    { \
        NAME, otherwise, offsetof(calendar, name), offsetof(structured, n_##name), \
            offsetof(structured, name), min, max, words \
    }
/* In the order in which texts are read; structured ones are checked in the order of `checked`. */
static const field fields[] = {
    FIELD("Second", second, "0", 0, 59, NO_WORDS),
    FIELD("Minute", minute, "0", 0, 59, NO_WORDS),
    FIELD("Hour", hour, "0", 0, 23, NO_WORDS),
    FIELD("DayOfWeek", day_of_week, "*", 0, 6, WEEKDAYS),
    FIELD("DayOfMonth", day_of_month, "*", 1, 31, NO_WORDS),
    FIELD("Month", month, "*", 1, 12, MONTHS),
    FIELD("Year", year, "*", YEAR_MIN, YEAR_MAX, NO_WORDS),
};
static const size_t checked[] = {0, 1, 2, 4, 5, 6, 3};

static const char *const months[] = {"january",   "february", "march",    "april",
                                     "may",       "june",     "july",     "august",
                                     "september", "october",  "november", "december"};
static const char *const weekdays[] = {"sunday",   "monday", "tuesday", "wednesday",
                                       "thursday", "friday", "saturday"};

/* ---- texts ----------------------------------------------------------------------------------- */

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

/* Splits at the first c; false: there is none, and all is the head. */
static bool cut(tn_str text, char c, tn_str *head, tn_str *tail)
{
    const char *at = text.n ? memchr(text.p, c, text.n) : NULL;

    *head = text;
    *tail = (tn_str){NULL, 0};
    if (!at)
        return false;
    *head = (tn_str){text.p, (size_t)(at - text.p)};
    *tail = (tn_str){at + 1, text.n - head->n - 1};
    return true;
}

static size_t count_of(tn_str text, char c)
{
    size_t n = 0;

    for (size_t i = 0; i < text.n; i++)
        n += text.p[i] == c;
    return n;
}

/* Errors are gathered, ", " between them. */
typedef struct gathered {
    tn_arena *arena;
    const char *text; /* NULL: none */
} gathered;

static void add_error(gathered *errors, const char *error)
{
    errors->text =
        errors->text ? tn_arena_printf(errors->arena, "%s, %s", errors->text, error) : error;
}

typedef enum number { NUMBER_OK, NUMBER_SYNTAX, NUMBER_RANGE } number;

static number take_number(tn_str text, int64_t *out)
{
    size_t i = text.n && (text.p[0] == '+' || text.p[0] == '-') ? 1 : 0;
    bool minus = i && text.p[0] == '-', too_large = false;
    int64_t value = 0;

    if (i == text.n)
        return NUMBER_SYNTAX;
    for (; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return NUMBER_SYNTAX;
        if (__builtin_mul_overflow(value, INT64_C(10), &value) ||
            __builtin_add_overflow(value, (int64_t)(text.p[i] - '0'), &value))
            too_large = true;
    }
    *out = minus ? -value : value;
    return too_large ? NUMBER_RANGE : NUMBER_OK;
}

static int word_index(tn_str text, const char *const *list, size_t n, size_t at_least)
{
    if (text.n < at_least)
        return -1;
    for (size_t i = 0; i < n; i++) {
        tn_str word = tn_str_from(list[i]);

        if (text.n <= word.n && tn_str_caseeq(text, (tn_str){word.p, text.n}))
            return (int)i;
    }
    return -1;
}

/* A number or the beginning of a word, within min..max. */
static bool take_value(tn_str text, words of, int64_t min, int64_t max, int64_t *out)
{
    int word = -1;

    if (of == MONTHS)
        word = word_index(text, months, TN_COUNT_OF(months), 3);
    else if (of == WEEKDAYS)
        word = word_index(text, weekdays, TN_COUNT_OF(weekdays), 2);
    if (word >= 0)
        *out = word + (of == MONTHS);
    else if (take_number(text, out) != NUMBER_OK)
        return false;
    return *out >= min && *out <= max;
}

/* ---- ranges ---------------------------------------------------------------------------------- */

typedef struct range_list {
    tn_arena *arena;
    range **items;
    size_t count, cap;
} range_list;

static void add_range(range_list *list, int64_t start, int64_t end, int64_t step)
{
    range *one = TN_MSG(list->arena, temporal__api__schedule__v1__range);

    /* what is the default is left out, so that the message stays small */
    one->start = (int32_t)start;
    one->end = start == end ? 0 : (int32_t)end;
    one->step = step == 1 ? 0 : (int32_t)step;
    list->items[list->count++] = one;
}

/* A text may end a week with 7: Sunday, which is 0 in a range. */
static bool add_weekdays(range_list *list, int64_t start, int64_t *end, int64_t step)
{
    if (*end != 7)
        return true;
    if ((7 - start) % step == 0 && (step > 1 || start > 1)) {
        add_range(list, 0, 0, 1);
        if (start == 7)
            return false;
    }
    *end = 6;
    return true;
}

/* One of the parts between commas; an error, or NULL. */
static const char *add_part(range_list *list, const field *of, tn_str part)
{
    tn_arena *arena = list->arena;
    int64_t min = of->min, max = of->words == WEEKDAYS ? 7 : of->max, start = min, end = max,
            step = 1;
    tn_str head, tail;
    bool stepped;

    if (count_of(part, '/') > 1)
        return tn_arena_printf(arena, "%s has too many slashes", of->name);
    stepped = cut(part, '/', &head, &tail);
    if (stepped) {
        number is;

        if (tail.n == 0)
            return tn_arena_printf(arena, "%s missing step value", of->name);
        is = take_number(tail, &step);
        if (is != NUMBER_OK)
            return tn_arena_printf(arena, "strconv.Atoi: parsing \"" TN_STR_FMT "\": %s",
                                   TN_STR_ARG(tail),
                                   is == NUMBER_SYNTAX ? "invalid syntax" : "value out of range");
        if (step < 1)
            return tn_arena_printf(arena, "%s has invalid Step", of->name);
        part = head;
    }
    if (!tn_str_is(part, "*")) {
        size_t dashes = count_of(part, '-');

        if (dashes > 1)
            return tn_arena_printf(arena, "%s has too many dashes", of->name);
        if (dashes) {
            cut(part, '-', &head, &tail);
            if (!take_value(head, of->words, min, max, &start))
                return tn_arena_printf(arena, "%s Start is not in range [%d-%d]", of->name,
                                       (int)min, (int)max);
            if (!take_value(tail, of->words, start, max, &end))
                return tn_arena_printf(arena, "%s End is before Start or not in range [%d-%d]",
                                       of->name, (int)min, (int)max);
        } else {
            if (!take_value(part, of->words, min, max, &start))
                return tn_arena_printf(arena, "%s is not in range [%d-%d]", of->name, (int)min,
                                       (int)max);
            if (!stepped)
                end = start;
        }
    }
    if (of->words != WEEKDAYS || add_weekdays(list, start, &end, step))
        add_range(list, start, end, step);
    return NULL;
}

/* An error, or NULL. */
static const char *read_field(tn_arena *arena, const field *of, const char *given, structured *out)
{
    tn_str text = trim(tn_str_from(given)), part;
    range_list list = {.arena = arena};
    const char *error = NULL;

    if (text.n == 0)
        text = tn_str_from(of->otherwise);
    if (tn_str_is(text, "*") && of->min == YEAR_MIN)
        return NULL; /* every year is no range at all */
    list.cap = 2 * (count_of(text, ',') + 1);
    list.items = TN_NEW_ARRAY(arena, range *, list.cap);
    if (!list.items)
        return "out of memory";
    for (bool more = true; more && !error;) {
        more = cut(text, ',', &part, &text);
        error = add_part(&list, of, part);
    }
    if (error)
        return error;
    *(size_t *)(void *)((char *)out + of->count_at) = list.count;
    *(range ***)(void *)((char *)out + of->ranges_at) = list.items;
    return NULL;
}

static structured *read_calendar(tn_arena *arena, const calendar *from, const char **out_error)
{
    structured *out = TN_MSG(arena, temporal__api__schedule__v1__structured_calendar_spec);
    gathered errors = {.arena = arena};

    for (size_t i = 0; i < TN_COUNT_OF(fields); i++) {
        const char *text = *(char *const *)(const void *)((const char *)from + fields[i].text_at);
        const char *error = read_field(arena, &fields[i], text, out);

        if (error)
            add_error(&errors, error);
    }
    out->comment = from->comment;
    *out_error = errors.text;
    return out;
}

/* ---- cron strings ---------------------------------------------------------------------------- */

/* Days are allowed besides Go's units: "1.5d" is 36h. */
static bool take_duration(tn_str text, int64_t *out_ns)
{
    char out[DURATION_TEXT_MAX];
    size_t n = 0, i = 0;

    while (i < text.n) {
        size_t from = i, digits = 0, k;
        char hours[64];
        double days;

        while (i < text.n && text.p[i] >= '0' && text.p[i] <= '9')
            i++, digits++;
        if (i < text.n && text.p[i] == '.')
            for (i++; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++)
                digits++;
        if (digits && i < text.n && text.p[i] == 'd' && i - from < 40 &&
            tn_parse_f64((tn_str){text.p + from, i - from}, &days)) {
            int printed = snprintf(hours, sizeof hours, "%fh", 24 * days);

            k = (size_t)printed;
            i++;
        } else {
            if (i == from)
                i++;
            k = i - from;
            if (k >= sizeof hours)
                return false;
            memcpy(hours, text.p + from, k);
        }
        if (n + k > sizeof out)
            return false;
        memcpy(out + n, hours, k);
        n += k;
    }
    return tn_parse_duration_ns((tn_str){out, n}, out_ns);
}

/* In Go's words; what is neither a missing nor an unknown unit is just invalid. */
static const char *duration_error(tn_arena *arena, tn_str text)
{
    size_t i = 0, from;

    while (i < text.n && ((text.p[i] >= '0' && text.p[i] <= '9') || text.p[i] == '.'))
        i++;
    for (from = i; i < text.n && text.p[i] != '.' && !(text.p[i] >= '0' && text.p[i] <= '9');)
        i++;
    if (from && from == text.n)
        return tn_arena_printf(arena, "time: missing unit in duration \"" TN_STR_FMT "\"",
                               TN_STR_ARG(text));
    if (from && i > from)
        return tn_arena_printf(
            arena, "time: unknown unit \"" TN_STR_FMT "\" in duration \"" TN_STR_FMT "\"",
            (int)(i - from), text.p + from, TN_STR_ARG(text));
    return tn_arena_printf(arena, "time: invalid duration \"" TN_STR_FMT "\"", TN_STR_ARG(text));
}

/* "@every 14h/3h" */
static const char *read_every(tn_arena *arena, tn_str text,
                              Temporal__Api__Schedule__V1__IntervalSpec **out)
{
    tn_str head, tail, parts[2];
    int64_t ns[2] = {0, 0};

    if (!cut(text, ' ', &head, &tail))
        return "CronString does not have interval after @every";
    cut(tail, '/', &parts[0], &parts[1]);
    for (size_t i = 0; i < 2; i++)
        if ((i == 0 || parts[i].n) && !take_duration(parts[i], &ns[i]))
            return duration_error(arena, parts[i]);
    *out = TN_MSG(arena, temporal__api__schedule__v1__interval_spec);
    (*out)->interval = tn_duration_from_ns(arena, ns[0]);
    if (parts[1].n)
        (*out)->phase = tn_duration_from_ns(arena, ns[1]);
    return NULL;
}

static tn_str word_fields(tn_str text)
{
    static const char *const known[][2] = {
        {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
        {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
        {"@hourly", "0 * * * *"},
    };

    for (size_t i = 0; i < TN_COUNT_OF(known); i++)
        if (tn_str_is(text, known[i][0]))
            return tn_str_from(known[i][1]);
    return text;
}

static size_t split_fields(tn_arena *arena, tn_str text, char *out[CRON_FIELDS_MAX])
{
    size_t n = 0, i = 0;

    for (;;) {
        size_t from;

        while (i < text.n && is_space(text.p[i]))
            i++;
        if (i == text.n)
            return n;
        from = i;
        while (i < text.n && !is_space(text.p[i]))
            i++;
        if (n == CRON_FIELDS_MAX)
            return n + 1;
        out[n++] = (char *)(uintptr_t)tn_arena_str(arena, (tn_str){text.p + from, i - from}).p;
    }
}

typedef struct cron {
    structured *calendar;
    Temporal__Api__Schedule__V1__IntervalSpec *interval;
    tn_str zone;
} cron;

static const char *read_cron(tn_arena *arena, const char *given, cron *out)
{
    tn_str text = trim(tn_str_from(given)), head, tail, comment;
    char *tokens[CRON_FIELDS_MAX];
    calendar fields_of = TEMPORAL__API__SCHEDULE__V1__CALENDAR_SPEC__INIT;
    const char *error;
    size_t n;

    *out = (cron){.zone = {NULL, 0}};
    if (tn_str_starts(text, TN_STR("TZ=")) || tn_str_starts(text, TN_STR("CRON_TZ="))) {
        tn_str name;

        if (!cut(text, ' ', &head, &tail))
            return "CronString has time zone but missing fields";
        text = tail;
        cut(head, '=', &name, &out->zone);
    }
    cut(text, '#', &text, &comment);
    text = trim(text);
    if (tn_str_starts(text, TN_STR("@every"))) {
        out->zone = (tn_str){NULL, 0};
        return read_every(arena, text, &out->interval);
    }
    n = split_fields(arena, word_fields(text), tokens);
    if (n < 5 || n > CRON_FIELDS_MAX)
        return "CronString does not have 5-7 fields";
    fields_of.comment = (char *)(uintptr_t)tn_arena_str(arena, trim(comment)).p;
    if (n == 7)
        fields_of.second = tokens[0];
    fields_of.minute = tokens[n == 7];
    fields_of.hour = tokens[1 + (n == 7)];
    fields_of.day_of_month = tokens[2 + (n == 7)];
    fields_of.month = tokens[3 + (n == 7)];
    fields_of.day_of_week = tokens[4 + (n == 7)];
    if (n > 5)
        fields_of.year = tokens[n - 1];
    out->calendar = read_calendar(arena, &fields_of, &error);
    return error;
}

/* ---- checks ---------------------------------------------------------------------------------- */

static void check_ranges(gathered *errors, const field *of, const structured *in)
{
    size_t n = *(const size_t *)(const void *)((const char *)in + of->count_at);
    range *const *ranges = *(range *const *const *)(const void *)((const char *)in + of->ranges_at);
    tn_arena *arena = errors->arena;

    for (size_t i = 0; i < n; i++) {
        const range *one = ranges[i];

        if (one->start < of->min || one->start > of->max)
            add_error(errors, tn_arena_printf(arena, "%s Start is not in range [%d-%d]", of->name,
                                              of->min, of->max));
        if (one->end != 0 && (one->end < one->start || one->end > of->max))
            add_error(errors,
                      tn_arena_printf(arena, "%s End is before Start or not in range [%d-%d]",
                                      of->name, of->min, of->max));
        if (one->step < 0)
            add_error(errors, tn_arena_printf(arena, "%s has invalid Step", of->name));
    }
}

static const char *check_calendar(tn_arena *arena, const structured *in)
{
    gathered errors = {.arena = arena};

    for (size_t i = 0; i < TN_COUNT_OF(checked); i++)
        check_ranges(&errors, &fields[checked[i]], in);
    if (in->comment && strlen(in->comment) > COMMENT_BYTES_MAX)
        add_error(&errors, "comment is too long");
    return errors.text ? tn_arena_printf(arena, "invalid calendar spec: %s", errors.text) : NULL;
}

static const char *check_interval(const Temporal__Api__Schedule__V1__IntervalSpec *in)
{
    int64_t interval_ns = 0, phase_ns = 0;

    if (in->interval && !tn_ns_from_duration(in->interval, &interval_ns))
        return "interval is not a valid duration";
    if (in->phase && !tn_ns_from_duration(in->phase, &phase_ns))
        return "phase is not a valid duration";
    if (interval_ns < (int64_t)TN_SEC)
        return "interval is too small";
    if (phase_ns < 0)
        return "phase is negative";
    return phase_ns >= interval_ns ? "phase cannot be greater than Interval" : NULL;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* The first n of a message list in a new list with room for `more`. */
static void **grown(tn_arena *arena, void *const *list, size_t n, size_t more)
{
    void **out = TN_NEW_ARRAY(arena, void *, n + more + 1);

    for (size_t i = 0; out && i < n; i++)
        out[i] = list[i];
    return out;
}

static const char *read_calendars(tn_arena *arena, calendar **from, size_t n, structured ***list,
                                  size_t *count)
{
    const char *error = NULL;

    if (n == 0)
        return NULL;
    *list = (structured **)grown(arena, (void *const *)*list, *count, n);
    for (size_t i = 0; i < n && !error; i++)
        (*list)[(*count)++] = read_calendar(arena, from[i], &error);
    return error;
}

static const char *read_crons(tn_arena *arena, tn_schedule_spec_msg *spec, const char **out_zone)
{
    size_t n = spec->n_cron_string;
    cron one = {0}, before = {0};

    *out_zone = NULL;
    if (n == 0)
        return NULL;
    spec->structured_calendar = (structured **)grown(
        arena, (void *const *)spec->structured_calendar, spec->n_structured_calendar, n);
    spec->interval = (Temporal__Api__Schedule__V1__IntervalSpec **)grown(
        arena, (void *const *)spec->interval, spec->n_interval, n);
    for (size_t i = 0; i < n; i++) {
        const char *error = read_cron(arena, spec->cron_string[i], &one);

        if (error)
            return error;
        if (i && !tn_str_eq(one.zone, before.zone))
            return "conflicting timezone names";
        before = one;
        if (one.calendar)
            spec->structured_calendar[spec->n_structured_calendar++] = one.calendar;
        if (one.interval)
            spec->interval[spec->n_interval++] = one.interval;
    }
    if (one.zone.n)
        *out_zone = tn_arena_str(arena, one.zone).p;
    return NULL;
}

static const char *read_texts(tn_arena *arena, tn_schedule_spec_msg *spec, const char **out_zone)
{
    const char *error = read_calendars(arena, spec->calendar, spec->n_calendar,
                                       &spec->structured_calendar, &spec->n_structured_calendar);

    if (!error)
        error = read_calendars(arena, spec->exclude_calendar, spec->n_exclude_calendar,
                               &spec->exclude_structured_calendar,
                               &spec->n_exclude_structured_calendar);
    if (!error)
        error = read_crons(arena, spec, out_zone);
    spec->n_calendar = spec->n_exclude_calendar = spec->n_cron_string = 0;
    return error;
}

const char *tn_schedule_spec_settle(tn_arena *arena, tn_schedule_spec_msg *spec)
{
    const char *zone = NULL, *error = read_texts(arena, spec, &zone);
    bool named = spec->timezone_name && spec->timezone_name[0];

    if (!error && zone &&
        ((named && strcmp(spec->timezone_name, zone) != 0) || spec->timezone_data.len))
        error = "conflicting timezone names";
    if (!error && zone && !named)
        spec->timezone_name = (char *)(uintptr_t)zone;
    for (size_t i = 0; i < spec->n_structured_calendar && !error; i++)
        error = check_calendar(arena, spec->structured_calendar[i]);
    for (size_t i = 0; i < spec->n_interval && !error; i++)
        error = check_interval(spec->interval[i]);
    if (!error)
        tn_schedule_times_make(arena, spec, &error);
    return error;
}

static void show_calendar(structured *of)
{
    for (size_t f = 0; f < TN_COUNT_OF(fields); f++) {
        size_t n = *(const size_t *)(const void *)((const char *)of + fields[f].count_at);
        range **ranges = *(range ***)(void *)((char *)of + fields[f].ranges_at);

        for (size_t i = 0; i < n; i++) {
            if (ranges[i]->end < ranges[i]->start)
                ranges[i]->end = ranges[i]->start;
            if (ranges[i]->step == 0)
                ranges[i]->step = 1;
        }
    }
}

void tn_schedule_spec_show(tn_schedule_spec_msg *spec)
{
    for (size_t i = 0; i < spec->n_structured_calendar; i++)
        show_calendar(spec->structured_calendar[i]);
    for (size_t i = 0; i < spec->n_exclude_structured_calendar; i++)
        show_calendar(spec->exclude_structured_calendar[i]);
}
