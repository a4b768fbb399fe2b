/* SPDX-License-Identifier: MIT */
/* Numbers, durations and times from text: the whole string or nothing, no white space, no
 * locale. */
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool tn_parse_u64(tn_str s, uint64_t *out)
{
    uint64_t v = 0;
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!is_digit(s.p[i]) || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

bool tn_parse_i64(tn_str s, int64_t *out)
{
    bool minus = s.n && s.p[0] == '-';
    uint64_t v;
    if (!tn_parse_u64(minus ? (tn_str){s.p + 1, s.n - 1} : s, &v))
        return false;
    if (v > (uint64_t)INT64_MAX + (minus ? 1u : 0u))
        return false;
    *out = minus ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void c_locale_make(void) { c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0); }

static bool f64_grammar(tn_str s)
{
    size_t i = 0, digits = 0;
    if (i < s.n && s.p[i] == '-')
        i++;
    for (; i < s.n && is_digit(s.p[i]); i++)
        digits++;
    if (i < s.n && s.p[i] == '.') {
        for (i++; i < s.n && is_digit(s.p[i]); i++)
            digits++;
    }
    if (!digits)
        return false;
    if (i < s.n && (s.p[i] == 'e' || s.p[i] == 'E')) {
        i++;
        if (i < s.n && (s.p[i] == '+' || s.p[i] == '-'))
            i++;
        digits = 0;
        for (; i < s.n && is_digit(s.p[i]); i++)
            digits++;
        if (!digits)
            return false;
    }
    return i == s.n;
}

bool tn_parse_f64(tn_str s, double *out)
{
    char text[400];
    if (s.n >= sizeof text || !f64_grammar(s))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    pthread_once(&c_locale_once, c_locale_make);
    double v = c_locale ? strtod_l(text, NULL, c_locale) : strtod(text, NULL);
    if (!isfinite(v))
        return false;
    *out = v;
    return true;
}

/* The unit at the front of s: its nanoseconds and length, or 0. */
static uint64_t duration_unit(tn_str s, size_t *len)
{
    static const struct {
        const char *word;
        uint64_t ns;
    } units[] = {
        {"ns", 1},     {"us", TN_US}, {"\xc2\xb5s", TN_US}, {"\xce\xbcs", TN_US},
        {"ms", TN_MS}, {"s", TN_SEC}, {"m", 60 * TN_SEC},   {"h", 3600 * TN_SEC},
    };
    for (size_t i = 0; i < TN_COUNT_OF(units); i++) {
        tn_str word = tn_str_from(units[i].word);
        if (tn_str_starts(s, word)) {
            *len = word.n;
            return units[i].ns;
        }
    }
    return 0;
}

/* One "1.5h" off the front of *s, added to *sum. */
static bool duration_piece(tn_str *s, unsigned __int128 *sum)
{
    const unsigned __int128 top = (unsigned __int128)1 << 63;
    unsigned __int128 whole = 0, fraction = 0, scale = 1;
    size_t i = 0, digits = 0;
    for (; i < s->n && is_digit(s->p[i]); i++, digits++) {
        whole = whole * 10 + (unsigned)(s->p[i] - '0');
        if (whole > top)
            return false;
    }
    if (i < s->n && s->p[i] == '.') {
        for (i++; i < s->n && is_digit(s->p[i]); i++, digits++) {
            /* Digits past the 15th are below a nanosecond of an hour. */
            if (scale < UINT64_C(1000000000000000)) {
                fraction = fraction * 10 + (unsigned)(s->p[i] - '0');
                scale *= 10;
            }
        }
    }
    size_t unit_len = 0;
    uint64_t unit = duration_unit((tn_str){s->p + i, s->n - i}, &unit_len);
    if (!digits || !unit)
        return false;
    *sum += whole * unit + fraction * unit / scale;
    *s = (tn_str){s->p + i + unit_len, s->n - i - unit_len};
    return *sum <= top;
}

bool tn_parse_duration_ns(tn_str s, int64_t *out)
{
    bool minus = false;
    if (s.n && (s.p[0] == '-' || s.p[0] == '+')) {
        minus = s.p[0] == '-';
        s = (tn_str){s.p + 1, s.n - 1};
    }
    if (tn_str_is(s, "0")) {
        *out = 0;
        return true;
    }
    if (!s.n)
        return false;
    unsigned __int128 sum = 0;
    while (s.n) {
        if (!duration_piece(&s, &sum))
            return false;
    }
    uint64_t v = (uint64_t)sum;
    if (v > (uint64_t)INT64_MAX + (minus ? 1u : 0u))
        return false;
    *out = minus ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar, and back: eras of 400 years counted
 * from a first of March, so that the leap day comes last. */
static int64_t days_of_date(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year = y - era * 400;
    int64_t day = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + year * 365 + year / 4 - year / 100 + day - 719468;
}

static void date_of_days(int64_t days, int64_t *y, int64_t *m, int64_t *d)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day = days - era * 146097;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t in_year = day - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * in_year + 2) / 153;
    *d = in_year - (153 * month + 2) / 5 + 1;
    *m = month < 10 ? month + 3 : month - 9;
    *y = year + era * 400 + (*m <= 2);
}

/* Exactly `count` digits at *at. */
static bool take_digits(tn_str s, size_t *at, size_t count, int64_t *out)
{
    int64_t v = 0;
    if (s.n - *at < count || *at > s.n)
        return false;
    for (size_t i = 0; i < count; i++) {
        char c = s.p[*at + i];
        if (!is_digit(c))
            return false;
        v = v * 10 + (c - '0');
    }
    *at += count;
    *out = v;
    return true;
}

static bool take_char(tn_str s, size_t *at, char c)
{
    if (*at >= s.n || s.p[*at] != c)
        return false;
    (*at)++;
    return true;
}

static bool take_fraction(tn_str s, size_t *at, int64_t *ns)
{
    *ns = 0;
    if (!take_char(s, at, '.'))
        return true;
    int64_t scale = 100000000;
    size_t digits = 0;
    for (; *at < s.n && is_digit(s.p[*at]); (*at)++, digits++) {
        *ns += scale * (s.p[*at] - '0');
        scale /= 10;
    }
    return digits > 0;
}

static bool take_zone(tn_str s, size_t *at, int64_t *offset_s)
{
    *offset_s = 0;
    if (take_char(s, at, 'Z'))
        return true;
    bool minus = take_char(s, at, '-');
    int64_t h, m;
    if (!minus && !take_char(s, at, '+'))
        return false;
    if (!take_digits(s, at, 2, &h) || !take_char(s, at, ':') || !take_digits(s, at, 2, &m) ||
        h > 23 || m > 59)
        return false;
    *offset_s = (h * 60 + m) * (minus ? -60 : 60);
    return true;
}

static int64_t days_in_month(int64_t y, int64_t m)
{
    static const int8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    return days[m - 1] + (m == 2 && leap ? 1 : 0);
}

bool tn_parse_rfc3339_ns(tn_str s, int64_t *out)
{
    int64_t y, mo, d, h, mi, sec, ns, offset, total;
    size_t at = 0;
    if (!take_digits(s, &at, 4, &y) || !take_char(s, &at, '-') || !take_digits(s, &at, 2, &mo) ||
        !take_char(s, &at, '-') || !take_digits(s, &at, 2, &d) || !take_char(s, &at, 'T') ||
        !take_digits(s, &at, 2, &h) || !take_char(s, &at, ':') || !take_digits(s, &at, 2, &mi) ||
        !take_char(s, &at, ':') || !take_digits(s, &at, 2, &sec) || !take_fraction(s, &at, &ns) ||
        !take_zone(s, &at, &offset) || at != s.n)
        return false;
    if (mo < 1 || mo > 12 || d < 1 || d > days_in_month(y, mo) || h > 23 || mi > 59 || sec > 59)
        return false;
    int64_t seconds = days_of_date(y, mo, d) * 86400 + h * 3600 + mi * 60 + sec - offset;
    __int128 wide = (__int128)seconds * 1000000000 + ns;
    if (wide > INT64_MAX || wide < INT64_MIN)
        return false;
    total = (int64_t)wide;
    *out = total;
    return true;
}

char *tn_format_rfc3339_ns(tn_arena *arena, int64_t ns)
{
    int64_t seconds = ns / 1000000000, rest = ns % 1000000000;
    if (rest < 0) {
        rest += 1000000000;
        seconds--;
    }
    int64_t days = seconds / 86400, in_day = seconds % 86400;
    if (in_day < 0) {
        in_day += 86400;
        days--;
    }
    int64_t y, m, d;
    date_of_days(days, &y, &m, &d);
    char fraction[16] = "";
    if (rest) {
        snprintf(fraction, sizeof fraction, ".%09lld", (long long)rest);
        size_t n = strlen(fraction);
        while (fraction[n - 1] == '0')
            fraction[--n] = 0;
    }
    return tn_arena_printf(arena, "%04lld-%02lld-%02lldT%02lld:%02lld:%02lld%sZ", (long long)y,
                           (long long)m, (long long)d, (long long)(in_day / 3600),
                           (long long)(in_day / 60 % 60), (long long)(in_day % 60), fraction);
}
