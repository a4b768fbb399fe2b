/* SPDX-License-Identifier: MIT */
/* The types that have a JSON form of their own: times, durations, field masks, numbers. */
#include "http/private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMESTAMP_MIN INT64_C(-62135596800)
#define TIMESTAMP_MAX INT64_C(253402300799)
#define DURATION_MAX INT64_C(315576000000)

http_known http_known_of(const ProtobufCMessageDescriptor *d)
{
    static const struct {
        const char *name;
        http_known known;
    } all[] = {
        {"google.protobuf.Timestamp", HTTP_KNOWN_TIMESTAMP},
        {"google.protobuf.Duration", HTTP_KNOWN_DURATION},
        {"google.protobuf.FieldMask", HTTP_KNOWN_FIELD_MASK},
        {"google.protobuf.Any", HTTP_KNOWN_ANY},
        {"temporal.api.common.v1.Payload", HTTP_KNOWN_PAYLOAD},
        {"temporal.api.common.v1.Payloads", HTTP_KNOWN_PAYLOADS},
    };
    size_t n = strlen(d->name);

    if (d->name[0] != 'g' && strncmp(d->name, "temporal.api.common.v1.P", 24) != 0)
        return HTTP_KNOWN_NONE;
    for (size_t i = 0; i < TN_COUNT_OF(all); i++) {
        if (strcmp(d->name, all[i].name) == 0)
            return all[i].known;
    }
    /* Int64Value and its kin; google.protobuf.Value has no field of that name. */
    if (strncmp(d->name, "google.protobuf.", 16) == 0 && n > 5 &&
        strcmp(d->name + n - 5, "Value") == 0 && d->n_fields == 1 &&
        strcmp(d->fields[0].name, "value") == 0)
        return HTTP_KNOWN_WRAPPER;
    return HTTP_KNOWN_NONE;
}

/* ---- in ---- */

static void put_signed(tn_buf *buf, uint32_t number, int64_t v)
{
    tn_proto_put_uint(buf, number, (uint64_t)v);
}

/* Up to nine digits behind a point, as nanoseconds. */
static bool read_nanos(tn_str digits, int32_t *out)
{
    int32_t v = 0;

    if (digits.n > 9)
        return false;
    for (size_t i = 0; i < 9; i++) {
        if (i < digits.n && (digits.p[i] < '0' || digits.p[i] > '9'))
            return false;
        v = v * 10 + (i < digits.n ? digits.p[i] - '0' : 0);
    }
    *out = v;
    return true;
}

static bool two(const char *p, int *out)
{
    if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9')
        return false;
    *out = (p[0] - '0') * 10 + (p[1] - '0');
    return true;
}

/* Days since 1970 of a proleptic Gregorian date. */
static int64_t days_of(int64_t y, int m, int d)
{
    int64_t era, yoe, doy;

    y -= m <= 2;
    era = (y >= 0 ? y : y - 399) / 400;
    yoe = y - era * 400;
    doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static int month_days(int y, int m)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[m - 1] + (m == 2 && y % 4 == 0 && (y % 100 != 0 || y % 400 == 0));
}

/* "Z" or "+01:00". */
static bool zone(tn_str s, int64_t *out_seconds)
{
    int h, m;

    *out_seconds = 0;
    if (tn_str_is(s, "Z"))
        return true;
    if (s.n != 6 || (s.p[0] != '+' && s.p[0] != '-') || s.p[3] != ':' || !two(s.p + 1, &h) ||
        !two(s.p + 4, &m) || h > 23 || m > 59)
        return false;
    *out_seconds = (h * 60 + m) * 60 * (s.p[0] == '-' ? -1 : 1);
    return true;
}

bool http_put_timestamp(tn_buf *buf, tn_str s)
{
    int y1, y2, mon, d, h, min, sec;
    int64_t seconds, offset;
    int32_t nanos = 0;
    size_t at = 19, from;

    if (s.n < 20 || !two(s.p, &y1) || !two(s.p + 2, &y2) || s.p[4] != '-' || !two(s.p + 5, &mon) ||
        s.p[7] != '-' || !two(s.p + 8, &d) || s.p[10] != 'T' || !two(s.p + 11, &h) ||
        s.p[13] != ':' || !two(s.p + 14, &min) || s.p[16] != ':' || !two(s.p + 17, &sec))
        return false;
    y1 = y1 * 100 + y2;
    if (y1 < 1 || mon < 1 || mon > 12 || d < 1 || d > month_days(y1, mon) || h > 23 || min > 59 ||
        sec > 59)
        return false;
    if (s.p[at] == '.') {
        for (from = ++at; at < s.n && s.p[at] >= '0' && s.p[at] <= '9';)
            at++;
        if (at == from || !read_nanos((tn_str){s.p + from, at - from}, &nanos))
            return false;
    }
    if (!zone((tn_str){s.p + at, s.n - at}, &offset))
        return false;
    seconds = days_of(y1, mon, d) * 86400 + h * 3600 + min * 60 + sec - offset;
    if (seconds < TIMESTAMP_MIN || seconds > TIMESTAMP_MAX)
        return false;
    put_signed(buf, 1, seconds);
    put_signed(buf, 2, nanos);
    return true;
}

/* "-1.5s": the form of protobuf's JSON, not Go's. */
bool http_put_duration(tn_buf *buf, tn_str s)
{
    bool minus = s.n && s.p[0] == '-';
    size_t at = s.n && (s.p[0] == '-' || s.p[0] == '+'), from = at;
    uint64_t seconds = 0;
    int32_t nanos = 0;
    bool any;

    if (!s.n || s.p[s.n - 1] != 's')
        return false;
    s.n--;
    while (at < s.n && s.p[at] >= '0' && s.p[at] <= '9')
        at++;
    any = at > from;
    if (any && !tn_parse_u64((tn_str){s.p + from, at - from}, &seconds))
        return false;
    if (at < s.n && s.p[at] == '.') {
        tn_str digits = {s.p + at + 1, s.n - at - 1};
        if ((!digits.n && !any) || !read_nanos(digits, &nanos))
            return false;
        any = true;
        at = s.n;
    }
    if (!any || at != s.n || seconds > DURATION_MAX)
        return false;
    put_signed(buf, 1, minus ? -(int64_t)seconds : (int64_t)seconds);
    put_signed(buf, 2, minus ? -nanos : nanos);
    return true;
}

bool http_put_field_mask(tn_buf *buf, tn_str s)
{
    tn_buf path = {0};
    bool ok = true;

    for (size_t i = 0; s.n && i <= s.n && ok; i++) {
        if (i == s.n || s.p[i] == ',') {
            ok = path.n > 0;
            tn_proto_put_bytes(buf, 1, tn_buf_blob(&path));
            path.n = 0;
        } else if (s.p[i] >= 'A' && s.p[i] <= 'Z') {
            tn_buf_put_u8(&path, '_');
            tn_buf_put_u8(&path, (uint8_t)(s.p[i] + ('a' - 'A')));
        } else {
            ok = s.p[i] != '_' && (uint8_t)s.p[i] > ' ';
            tn_buf_put_u8(&path, (uint8_t)s.p[i]);
        }
    }
    tn_buf_done(&path);
    return ok;
}

/* ---- out ---- */

/* Nothing, or three, six or nine digits. */
static void print_nanos(tn_buf *buf, int32_t nanos)
{
    if (nanos == 0)
        return;
    if (nanos % 1000000 == 0)
        tn_buf_printf(buf, ".%03d", nanos / 1000000);
    else if (nanos % 1000 == 0)
        tn_buf_printf(buf, ".%06d", nanos / 1000);
    else
        tn_buf_printf(buf, ".%09d", nanos);
}

void http_print_timestamp(tn_buf *buf, int64_t seconds, int32_t nanos)
{
    int64_t days, rest, era, doe, yoe, doy, mp, y;

    if (seconds < TIMESTAMP_MIN || seconds > TIMESTAMP_MAX || nanos < 0 || nanos > 999999999) {
        tn_buf_printf(buf, "null");
        return;
    }
    days = seconds / 86400 - (seconds % 86400 < 0);
    rest = seconds - days * 86400;
    days += 719468;
    era = (days >= 0 ? days : days - 146096) / 146097;
    doe = days - era * 146097;
    yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    mp = (5 * doy + 2) / 153;
    y = yoe + era * 400 + (mp >= 10);
    tn_buf_printf(buf, "\"%04d-%02d-%02dT%02d:%02d:%02d", (int)y, (int)(mp < 10 ? mp + 3 : mp - 9),
                  (int)(doy - (153 * mp + 2) / 5 + 1), (int)(rest / 3600), (int)(rest / 60 % 60),
                  (int)(rest % 60));
    print_nanos(buf, nanos);
    tn_buf_printf(buf, "Z\"");
}

void http_print_duration(tn_buf *buf, int64_t seconds, int32_t nanos)
{
    bool minus = seconds < 0 || nanos < 0;

    if (seconds < -DURATION_MAX || seconds > DURATION_MAX || nanos < -999999999 ||
        nanos > 999999999 || (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0)) {
        tn_buf_printf(buf, "null");
        return;
    }
    tn_buf_printf(buf, "\"%s%lld", minus ? "-" : "", (long long)(minus ? -seconds : seconds));
    print_nanos(buf, minus ? -nanos : nanos);
    tn_buf_printf(buf, "s\"");
}

void http_print_field_mask(tn_buf *buf, char *const *paths, size_t n)
{
    tn_buf text = {0};

    for (size_t i = 0; i < n; i++) {
        bool raise = false;
        if (i)
            tn_buf_put_u8(&text, ',');
        for (const char *p = paths[i]; *p; p++) {
            if (*p == '_') {
                raise = true;
                continue;
            }
            tn_buf_put_u8(&text, (uint8_t)(raise && *p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p));
            raise = false;
        }
    }
    tn_json_put_string(buf, tn_str_of_blob(tn_buf_blob(&text)));
    tn_buf_done(&text);
}

/* The shortest form that reads back as the same number. */
void http_print_double(tn_buf *buf, double v, bool is_float)
{
    char text[40];
    int from = is_float ? 6 : 15, to = is_float ? 9 : 17;

    if (isnan(v) || isinf(v)) {
        tn_buf_printf(buf, isnan(v) ? "\"NaN\"" : v > 0 ? "\"Infinity\"" : "\"-Infinity\"");
        return;
    }
    for (int digits = from; digits <= to; digits++) {
        double back;
        snprintf(text, sizeof(text), "%.*g", digits, v);
        if (tn_parse_f64(tn_str_from(text), &back) &&
            (is_float ? (float)back == (float)v : !(back < v) && !(back > v)))
            break;
    }
    tn_buf_printf(buf, "%s", text);
}
