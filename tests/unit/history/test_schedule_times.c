/* SPDX-License-Identifier: MIT */
/* Schedule specifications against a table that another implementation made (schedule_times.go says how): the
 * canonical form, the next times with their jitter, and what is refused in which words. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "history/machine/schedule_spec.h"
#include "proto/proto.h"

typedef Temporal__Api__Schedule__V1__CalendarSpec calendar;
typedef Temporal__Api__Schedule__V1__StructuredCalendarSpec structured;

static const char *const table[] = {
#include "schedule_times.inc"
};

#define PARTS_MAX 64

typedef struct row {
    tn_schedule_spec_msg spec;
    const char *seed, *error, *digest, *times;
    int64_t from_ns;
} row;

static void *fresh(tn_arena *arena, const ProtobufCMessageDescriptor *of)
{
    ProtobufCMessage *out = tn_arena_zalloc(arena, of->sizeof_message);

    of->message_init(out);
    return out;
}

static calendar *read_calendar(tn_arena *arena, char *text)
{
    calendar *out = fresh(arena, &temporal__api__schedule__v1__calendar_spec__descriptor);
    char **at[] = {&out->second, &out->minute,      &out->hour, &out->day_of_month,
                   &out->month,  &out->day_of_week, &out->year};

    for (size_t i = 0; i < TN_COUNT_OF(at); i++)
        *at[i] = strsep(&text, ";");
    return out;
}

static void read_part(tn_arena *arena, char key, char *value, row *out)
{
    tn_schedule_spec_msg *spec = &out->spec;
    Temporal__Api__Schedule__V1__IntervalSpec *every;

    switch (key) {
    case 'z':
        spec->timezone_name = value;
        break;
    case 'c':
        spec->cron_string[spec->n_cron_string++] = value;
        break;
    case 's':
        spec->calendar[spec->n_calendar++] = read_calendar(arena, value);
        break;
    case 'x':
        spec->exclude_calendar[spec->n_exclude_calendar++] = read_calendar(arena, value);
        break;
    case 'i':
        every = fresh(arena, &temporal__api__schedule__v1__interval_spec__descriptor);
        every->interval = tn_duration_from_ns(arena, strtoll(value, &value, 10));
        every->phase = tn_duration_from_ns(arena, strtoll(value + 1, NULL, 10));
        spec->interval[spec->n_interval++] = every;
        break;
    case 'S':
        spec->start_time = tn_ts_from_ns(arena, strtoll(value, NULL, 10));
        break;
    case 'E':
        spec->end_time = tn_ts_from_ns(arena, strtoll(value, NULL, 10));
        break;
    case 'j':
        spec->jitter = tn_duration_from_ns(arena, strtoll(value, NULL, 10));
        break;
    case 'e':
        out->seed = value;
        break;
    case 'f':
        out->from_ns = strtoll(value, NULL, 10);
        break;
    case 'h':
        out->digest = value;
        break;
    case '!':
        out->error = value;
        break;
    case '=':
        out->times = value;
        break;
    default:
        fail_msg("unknown part %c", key);
    }
}

static void read_row(tn_arena *arena, const char *line, row *out)
{
    char *text = tn_arena_strdup(arena, line), *part;

    *out = (row){.spec = TEMPORAL__API__SCHEDULE__V1__SCHEDULE_SPEC__INIT};
    out->spec.cron_string = TN_NEW_ARRAY(arena, char *, PARTS_MAX);
    out->spec.calendar = TN_NEW_ARRAY(arena, calendar *, PARTS_MAX);
    out->spec.exclude_calendar = TN_NEW_ARRAY(arena, calendar *, PARTS_MAX);
    out->spec.interval =
        TN_NEW_ARRAY(arena, Temporal__Api__Schedule__V1__IntervalSpec *, PARTS_MAX);
    while ((part = strsep(&text, "|"))) {
        if (part[0] == '=')
            read_part(arena, '=', part + 1, out);
        else
            read_part(arena, part[0], part + 2, out);
    }
}

static void dump(tn_buf *buf, const char *tag, structured *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const structured *c = list[i];
        const struct {
            size_t n;
            Temporal__Api__Schedule__V1__Range *const *of;
        } all[] = {{c->n_second, c->second},
                   {c->n_minute, c->minute},
                   {c->n_hour, c->hour},
                   {c->n_day_of_month, c->day_of_month},
                   {c->n_month, c->month},
                   {c->n_year, c->year},
                   {c->n_day_of_week, c->day_of_week}};

        tn_buf_printf(buf, "%s", tag);
        for (size_t f = 0; f < TN_COUNT_OF(all); f++) {
            for (size_t k = 0; k < all[f].n; k++)
                tn_buf_printf(buf, "%d.%d.%d,", all[f].of[k]->start, all[f].of[k]->end,
                              all[f].of[k]->step);
            tn_buf_printf(buf, ";");
        }
        tn_buf_printf(buf, "%s", c->comment);
    }
}

/* FNV-1a of the canonical form. */
static uint64_t digest(const tn_schedule_spec_msg *spec)
{
    tn_buf buf = {0};
    uint64_t out = UINT64_C(0xcbf29ce484222325);

    dump(&buf, "C", spec->structured_calendar, spec->n_structured_calendar);
    dump(&buf, "X", spec->exclude_structured_calendar, spec->n_exclude_structured_calendar);
    for (size_t i = 0; i < spec->n_interval; i++) {
        int64_t every_ns = 0, phase_ns = 0;

        assert_true(tn_ns_from_duration(spec->interval[i]->interval, &every_ns));
        assert_true(tn_ns_from_duration(spec->interval[i]->phase, &phase_ns));
        tn_buf_printf(&buf, "I%" PRId64 "/%" PRId64, every_ns, phase_ns);
    }
    tn_buf_printf(&buf, "Z%s", spec->timezone_name);
    for (size_t i = 0; i < buf.n; i++)
        out = (out ^ buf.p[i]) * UINT64_C(0x100000001b3);
    tn_buf_done(&buf);
    return out;
}

static void times_of(tn_arena *arena, const row *at, tn_buf *out)
{
    const char *error;
    const tn_schedule_times *times = tn_schedule_times_make(arena, &at->spec, &error);
    int64_t t = at->from_ns, nominal;
    size_t n = 1;

    assert_non_null(times);
    for (const char *p = at->times; *p; p++)
        n += *p == ',';
    for (size_t i = 0; i < n; i++) {
        if (i)
            tn_buf_printf(out, ",");
        if (tn_schedule_times_next(times, tn_str_from(at->seed), t, &nominal, &t) !=
            TN_SCHEDULE_AT) {
            tn_buf_printf(out, "-");
            break;
        }
        tn_buf_printf(out, "%" PRId64 "/%" PRId64, t / 1000000, (t - nominal) / 1000000);
    }
    tn_buf_put_u8(out, 0);
}

/* False, with both sides printed: they differ. */
static bool agrees(const char *line)
{
    tn_arena *arena = tn_arena_create(0);
    tn_buf got = {0};
    bool ok;
    row at;
    const char *error;

    read_row(arena, line, &at);
    error = tn_schedule_spec_settle(arena, &at.spec);
    if (error || at.error) {
        ok = error && at.error && strcmp(error, at.error) == 0;
        if (!ok)
            print_message("%s\n  says %s\n", line, error ? error : "nothing");
    } else {
        times_of(arena, &at, &got);
        ok = digest(&at.spec) == strtoull(at.digest, NULL, 16) &&
             strcmp((char *)got.p, at.times) == 0;
        if (!ok)
            print_message("%s\n  gives %s, digest %" PRIx64 "\n", line, (char *)got.p,
                          digest(&at.spec));
    }
    tn_buf_done(&got);
    tn_arena_destroy(arena);
    return ok;
}

static void test_table(void **state)
{
    size_t bad = 0;

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(table); i++)
        bad += !agrees(table[i]);
    assert_int_equal(bad, 0);
}

/* The long form: as many as one likes, from a file. */
static void test_long_table(void **state)
{
    const char *path = getenv("TENON_SCHEDULE_TABLE");
    size_t bad = 0, n = 0, size = 0;
    char *line = NULL;
    ssize_t length;
    FILE *file;

    (void)state;
    if (!path) {
        print_message("no TENON_SCHEDULE_TABLE: the committed table only\n");
        return;
    }
    file = fopen(path, "r");
    assert_non_null(file);
    for (; (length = getline(&line, &size, file)) > 0; n++) {
        line[length - 1] = '\0';
        bad += !agrees(line);
    }
    print_message("%zu specifications, %zu differ\n", n, bad);
    free(line);
    fclose(file);
    assert_int_equal(bad, 0);
}

static void test_settled_stays(void **state)
{
    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(table); i++) {
        tn_arena *arena = tn_arena_create(0);
        row at;

        read_row(arena, table[i], &at);
        if (!at.error) {
            assert_null(tn_schedule_spec_settle(arena, &at.spec));
            assert_null(tn_schedule_spec_settle(arena, &at.spec));
            assert_true(digest(&at.spec) == strtoull(at.digest, NULL, 16));
        }
        tn_arena_destroy(arena);
    }
}

/* Every second of every day but one, for ever: the search ends in time. */
static void test_too_sparse(void **state)
{
    tn_arena *arena = tn_arena_create(0);
    int64_t nominal, at;
    const char *error;
    const tn_schedule_times *times;
    row at_all;

    (void)state;
    read_row(arena, "z=|s=*;*;*;*;*;*;*|x=*/2;*;*;*;*;*;*|x=1-59/2;*;*;*;*;*;*|e=0123456789|f=0",
             &at_all);
    assert_null(tn_schedule_spec_settle(arena, &at_all.spec));
    times = tn_schedule_times_make(arena, &at_all.spec, &error);
    assert_non_null(times);
    assert_int_equal(tn_schedule_times_next(times, tn_str_from(at_all.seed), 0, &nominal, &at),
                     TN_SCHEDULE_TOO_SPARSE);
    tn_arena_destroy(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_settled_stays),
        cmocka_unit_test(test_too_sparse),
        cmocka_unit_test(test_long_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
