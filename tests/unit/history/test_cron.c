/* SPDX-License-Identifier: MIT */
/* Cron schedules: the grammar, the next moment, daylight saving, catching up; and zone files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "history/machine/machine.h"
#include "history/machine/zone.h"

static uint64_t moment(const char *text)
{
    int64_t ns;

    assert_true(tn_parse_rfc3339_ns(tn_str_from(text), &ns));
    return (uint64_t)ns;
}

/* What: a schedule; from when; the next moment, "never", or NULL: malformed. */
static const struct {
    const char *spec, *from, *want;
} table[] = {
    {"* * * * *", "2024-02-28T23:59:30Z", "2024-02-29T00:00:00Z"},
    {"*/15 * * * *", "2024-02-28T23:59:30Z", "2024-02-29T00:00:00Z"},
    {"5 4 * * sun", "2024-02-28T23:59:30Z", "2024-03-03T04:05:00Z"},
    {"0 0 29 2 *", "2024-03-01T00:00:00Z", "2028-02-29T00:00:00Z"},
    {"0 0 30 2 *", "2024-03-01T00:00:00Z", "never"},
    {"0 0 1 1 *", "2024-03-01T00:00:00Z", "2025-01-01T00:00:00Z"},
    {"0 22 * * 1-5", "2024-03-01T22:00:00Z", "2024-03-04T22:00:00Z"},
    {"23 0-20/2 * * *", "2024-03-01T21:00:00Z", "2024-03-02T00:23:00Z"},
    {"0 0,12 1 */2 *", "2024-03-01T21:00:00Z", "2024-05-01T00:00:00Z"},
    {"0 4 8-14 * *", "2024-03-01T21:00:00Z", "2024-03-08T04:00:00Z"},
    {"0 0 13 * fri", "2024-03-02T00:00:00Z", "2024-03-08T00:00:00Z"},
    {"0 0 */13 * fri", "2024-03-02T00:00:00Z", "2024-03-08T00:00:00Z"},
    {"0 0 * * ?", "2024-03-02T00:00:00Z", "2024-03-03T00:00:00Z"},
    {"59 23 31 DEC *", "2024-03-02T00:00:00Z", "2024-12-31T23:59:00Z"},
    {"10-20/5,50 3 * jan-mar,JUL *", "2024-03-31T03:20:00Z", "2024-03-31T03:50:00Z"},
    {"@yearly", "2024-03-02T00:00:00Z", "2025-01-01T00:00:00Z"},
    {"@annually", "2024-03-02T00:00:00Z", "2025-01-01T00:00:00Z"},
    {"@monthly", "2024-03-02T00:00:00Z", "2024-04-01T00:00:00Z"},
    {"@weekly", "2024-03-02T00:00:00Z", "2024-03-03T00:00:00Z"},
    {"@daily", "2024-03-02T00:00:00Z", "2024-03-03T00:00:00Z"},
    {"@midnight", "2024-03-02T00:00:01Z", "2024-03-03T00:00:00Z"},
    {"@hourly", "2024-03-02T00:00:00Z", "2024-03-02T01:00:00Z"},
    {"@every 1h30m", "2024-03-02T00:00:00.5Z", "2024-03-02T01:30:00Z"},
    {"@every 1s", "2024-03-02T00:00:00Z", "2024-03-02T00:00:01Z"},
    {"@every 0.25s", "2024-03-02T00:00:00Z", "2024-03-02T00:00:01Z"},
    {"@every -3h", "2024-03-02T00:00:00Z", "2024-03-02T00:00:01Z"},
    {"@every 1m0.7s", "2024-03-02T00:00:00Z", "2024-03-02T00:01:00Z"},
    {"TZ=Europe/Berlin 30 2 * * *", "2024-03-30T12:00:00Z", "2024-04-01T00:30:00Z"},
    {"TZ=Europe/Berlin 30 2 * * *", "2024-10-26T12:00:00Z", "2024-10-27T00:30:00Z"},
    {"TZ=Europe/Berlin 30 2 * * *", "2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z"},
    {"CRON_TZ=America/New_York 0 2 * * *", "2024-03-10T05:00:00Z", "2024-03-11T06:00:00Z"},
    {"CRON_TZ=America/New_York 30 1 * * *", "2024-11-03T05:30:00Z", "2024-11-03T06:30:00Z"},
    {"TZ=Australia/Lord_Howe 45 1 * * *", "2024-04-06T12:00:00Z", "2024-04-06T14:45:00Z"},
    {"TZ=America/Sao_Paulo 0 0 * * *", "2018-11-03T12:00:00Z", "2018-11-05T02:00:00Z"},
    {"TZ=Asia/Kolkata 0 9 * * 1-5", "2024-03-01T12:00:00Z", "2024-03-04T03:30:00Z"},
    {"TZ=Europe/Berlin @daily", "2050-03-27T00:00:00Z", "2050-03-27T22:00:00Z"},
    {"TZ=America/Havana 0 0 * * *", "2040-03-10T12:00:00Z", "2040-03-12T04:00:00Z"},
    {"TZ=UTC 0 12 * * *", "2024-03-01T12:00:00Z", "2024-03-02T12:00:00Z"},
    {"TZ= 0 12 * * *", "2024-03-01T12:00:00Z", "2024-03-02T12:00:00Z"},
    {"TZ=Local 0 12 * * *", "2024-03-01T12:00:00Z", "2024-03-02T12:00:00Z"},
    {"*-5/2 * * * *", "2024-03-01T12:00:00Z", "2024-03-01T12:02:00Z"},
    {"+5 -0 1 1 *", "2024-03-01T12:00:00Z", NULL},
    {", * * * *", "2024-03-01T12:00:00Z", "never"},
    {"1,,2 * * * *", "2024-03-01T12:00:00Z", "2024-03-01T12:01:00Z"},
    {"*/90 * * * *", "2024-03-01T12:00:00Z", "2024-03-01T13:00:00Z"},
    {"7/20 * * * *", "2024-03-01T12:00:00Z", "2024-03-01T12:07:00Z"},
    {"", "2024-03-01T12:00:00Z", NULL},
    {"* * * *", "2024-03-01T12:00:00Z", NULL},
    {"* * * * * *", "2024-03-01T12:00:00Z", NULL},
    {"60 * * * *", "2024-03-01T12:00:00Z", NULL},
    {"* 24 * * *", "2024-03-01T12:00:00Z", NULL},
    {"* * 0 * *", "2024-03-01T12:00:00Z", NULL},
    {"* * 32 * *", "2024-03-01T12:00:00Z", NULL},
    {"* * * 0 *", "2024-03-01T12:00:00Z", NULL},
    {"* * * 13 *", "2024-03-01T12:00:00Z", NULL},
    {"* * * * 7", "2024-03-01T12:00:00Z", NULL},
    {"5-1 * * * *", "2024-03-01T12:00:00Z", NULL},
    {"1-2-3 * * * *", "2024-03-01T12:00:00Z", NULL},
    {"*/0 * * * *", "2024-03-01T12:00:00Z", NULL},
    {"*/2/3 * * * *", "2024-03-01T12:00:00Z", NULL},
    {"*/-1 * * * *", "2024-03-01T12:00:00Z", NULL},
    {"-1 * * * *", "2024-03-01T12:00:00Z", NULL},
    {"x * * * *", "2024-03-01T12:00:00Z", NULL},
    {"* * * foo *", "2024-03-01T12:00:00Z", NULL},
    {"* * * * mondays", "2024-03-01T12:00:00Z", NULL},
    {"@Hourly", "2024-03-01T12:00:00Z", NULL},
    {"@every", "2024-03-01T12:00:00Z", NULL},
    {"@every soon", "2024-03-01T12:00:00Z", NULL},
    {"@reboot", "2024-03-01T12:00:00Z", NULL},
    {"TZ=Nowhere/Land * * * * *", "2024-03-01T12:00:00Z", NULL},
    {"TZ=../etc/passwd * * * * *", "2024-03-01T12:00:00Z", NULL},
    {"TZ=/etc/localtime * * * * *", "2024-03-01T12:00:00Z", NULL},
};

static bool has_zones(void) { return access("/usr/share/zoneinfo/Europe/Berlin", R_OK) == 0; }

static void next_moments(void **state)
{
    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(table); i++) {
        uint64_t from = moment(table[i].from), got = 1;
        char err[100] = "";
        bool ok;

        if (strstr(table[i].spec, "TZ=") && !has_zones())
            continue;
        ok = tn_cron_next(tn_str_from(table[i].spec), from, from, &got, err, sizeof(err));
        if (ok != (table[i].want != NULL))
            fail_msg("%s: %s", table[i].spec, ok ? "taken" : "refused");
        if (!table[i].want) {
            assert_int_equal(got, 0);
            assert_string_equal(err, "invalid CronSchedule.");
        } else if (strcmp(table[i].want, "never") == 0) {
            assert_int_equal(got, 0);
        } else if (got / TN_SEC != moment(table[i].want) / TN_SEC) {
            fail_msg("%s from %s: %llu", table[i].spec, table[i].from, (unsigned long long)got);
        }
    }
}

/* A run that closes late is followed at the next moment after its end, in whole seconds from
 * there. */
static void late_runs_catch_up(void **state)
{
    static const struct {
        const char *spec, *start, *close, *want;
    } rows[] = {
        {"*/10 * * * *", "2024-03-01T12:00:00Z", "2024-03-01T12:03:00Z", "2024-03-01T12:10:00Z"},
        {"*/10 * * * *", "2024-03-01T12:00:00Z", "2024-03-01T12:33:00.25Z",
         "2024-03-01T12:40:00.25Z"},
        {"*/10 * * * *", "2024-03-01T12:00:00Z", "2024-03-01T12:40:00Z", "2024-03-01T12:40:00Z"},
        {"*/10 * * * *", "2004-03-01T12:00:00Z", "2024-03-01T12:41:00Z", "2024-03-01T12:50:00Z"},
        {"@every 7s", "2024-03-01T12:00:00Z", "2024-03-01T12:00:15Z", "2024-03-01T12:00:21Z"},
        {"@every 7s", "2024-03-01T12:00:00Z", "2024-03-01T12:00:21Z", "2024-03-01T12:00:21Z"},
        {"@every 1s", "1974-03-01T12:00:00Z", "2024-03-01T12:00:00.5Z", "2024-03-01T12:00:01.5Z"},
        {"@every 1h", "2024-03-01T12:00:00.7Z", "2024-03-01T12:30:00.2Z", "2024-03-01T13:00:00.2Z"},
        /* closed before it should have begun: it begins when it should have */
        {"0 0 1 1 *", "2024-03-01T12:00:10Z", "2024-03-01T12:00:00.5Z", "2024-03-01T12:00:10.5Z"},
    };

    (void)state;
    for (size_t i = 0; i < TN_COUNT_OF(rows); i++) {
        uint64_t got;
        char err[100];

        assert_true(tn_cron_next(tn_str_from(rows[i].spec), moment(rows[i].start),
                                 moment(rows[i].close), &got, err, sizeof(err)));
        if (got != moment(rows[i].want))
            fail_msg("%s %s: %llu", rows[i].spec, rows[i].close, (unsigned long long)got);
    }
}

/* ---- zones ----------------------------------------------------------------------------------- */

static size_t put_section(uint8_t *out, size_t n, int time_bytes, const int64_t *times,
                          const uint8_t *indexes, uint32_t n_times)
{
    static const uint8_t types[2][6] = {{0, 0, 0x0e, 0x10, 0, 0},
                                        {0, 0, 0x1c, 0x20, 1, 4}}; /* 3600, 7200 */

    memcpy(out + n, "TZif2", 5);
    memset(out + n + 5, 0, 15);
    for (uint32_t i = 0; i < 6; i++)
        tn_put_u32be(out + n + 20 + i * 4, i == 3 ? n_times : i == 4 ? 2 : i == 5 ? 8 : 0);
    n += 44;
    for (uint32_t i = 0; i < n_times; i++, n += (size_t)time_bytes) {
        if (time_bytes == 8)
            tn_put_u64be(out + n, (uint64_t)times[i]);
        else
            tn_put_u32be(out + n, (uint32_t)times[i]);
    }
    memcpy(out + n, indexes, n_times);
    n += n_times;
    memcpy(out + n, types, sizeof(types));
    n += sizeof(types);
    memcpy(out + n, "AAA\0BBB", 8);
    return n + 8;
}

static size_t zone_file(uint8_t *out, const char *rule)
{
    static const int64_t times[] = {1000000000, 1500000000};
    static const uint8_t indexes[] = {1, 0};
    size_t n = put_section(out, put_section(out, 0, 4, NULL, indexes, 0), 8, times, indexes, 2);

    memcpy(out + n, rule, strlen(rule));
    return n + strlen(rule);
}

static void zone_files_are_read(void **state)
{
    static const struct {
        int64_t at, from, until;
        int32_t offset;
    } rows[] = {
        {0, INT64_MIN, 1000000000, 3600},
        {999999999, INT64_MIN, 1000000000, 3600},
        {1000000000, 1000000000, 1500000000, 7200},
        {1499999999, 1000000000, 1500000000, 7200},
        /* the rule: summer until 2017-10-29 01:00 UTC */
        {1500000000, 1500000000, 1509238800, 7200},
        {1509238800, 1509238800, 1521939600, 3600},
    };
    uint8_t bytes[512];
    tn_arena *arena = tn_arena_create(0);
    const tn_zone *zone = tn_zone_parse(
        arena, tn_blob_from(bytes, zone_file(bytes, "\nAAA-1BBB,M3.5.0,M10.5.0/3\n")));

    (void)state;
    assert_non_null(zone);
    for (size_t i = 0; i < TN_COUNT_OF(rows); i++) {
        int64_t from, until;

        assert_int_equal(tn_zone_offset(zone, rows[i].at, &from, &until), rows[i].offset);
        assert_int_equal(from, rows[i].from);
        assert_int_equal(until, rows[i].until);
    }
    tn_arena_destroy(arena);
}

static void damaged_zone_files_are_refused(void **state)
{
    static const char *const rules[] = {"\nAA-1\n",
                                        "\nAAA\n",
                                        "\nAAA-1BBB\n",
                                        "\nAAA-1BBB,M3.5.0\n",
                                        "\nAAA-1BBB,M13.5.0,M1.1.1\n",
                                        "\nAAA-1BBB,J0,J5\n",
                                        "\nAAA-1BBB,J1,366\n",
                                        "\nAAA-1BBB,M3.5.0,M10.5.0/3x\n",
                                        "\n<AAA-1\n",
                                        "\nAAA-999\n"};
    uint8_t bytes[512];
    tn_arena *arena = tn_arena_create(0);
    size_t n = zone_file(bytes, "\nAAA-1\n");

    (void)state;
    assert_non_null(tn_zone_parse(arena, tn_blob_from(bytes, n)));
    for (size_t cut = 0; cut + 8 < n; cut++)
        if (tn_zone_parse(arena, tn_blob_from(bytes, cut)))
            fail_msg("taken when cut to %zu of %zu", cut, n);
    for (size_t i = 0; i < TN_COUNT_OF(rules); i++)
        if (tn_zone_parse(arena, tn_blob_from(bytes, zone_file(bytes, rules[i]))))
            fail_msg("taken: %s", rules[i]);
    assert_null(tn_zone_load(arena, TN_STR("Nowhere/Land")));
    assert_null(tn_zone_load(arena, TN_STR("..")));
    assert_null(tn_zone_load(arena, TN_STR("/usr/share/zoneinfo/UTC")));
    assert_null(tn_zone_load(arena, TN_STR("Europe"))); /* a folder */
    tn_arena_destroy(arena);
}

static void calendar_goes_both_ways(void **state)
{
    (void)state;
    assert_int_equal(tn_days_from_civil(1970, 1, 1), 0);
    assert_int_equal(tn_days_from_civil(2000, 3, 1), 11017);
    for (int64_t day = -800000; day < 800000; day += 37) {
        int64_t year;
        int month, d;

        tn_civil_from_days(day, &year, &month, &d);
        assert_int_equal(tn_days_from_civil(year, month, d), day);
        assert_in_range(month, 1, 12);
        assert_in_range(d, 1, 31);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(next_moments),
        cmocka_unit_test(late_runs_catch_up),
        cmocka_unit_test(zone_files_are_read),
        cmocka_unit_test(damaged_zone_files_are_refused),
        cmocka_unit_test(calendar_goes_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
