/* SPDX-License-Identifier: MIT */
/* Which clients may talk to this server: the version that a client names must lie in the range for clients of its
 * name, and this server's version in the range that the client names.  Versions are those of semver.org; a range is
 * comparisons that must all hold ("<2.0.0", ">=1.0.0 <2.0.0"), alternatives are parted by "||". */
#include "frontend/priv.h"
#include "temporal/api/errordetails/v1/message.pb-c.h"

#define HEADER_BYTES_MAX 256u

const tn_supported_client tn_supported_clients[] = {
    {"temporal-cli", "<2.0.0"},    {"temporal-dotnet", "<2.0.0"},     {"temporal-go", "<2.0.0"},
    {"temporal-java", "<2.0.0"},   {"temporal-php", "<2.0.0"},        {"temporal-python", "<2.0.0"},
    {"temporal-server", "<2.0.0"}, {"temporal-typescript", "<2.0.0"}, {"temporal-ui", "<3.0.0"},
};
const size_t tn_supported_clients_count = TN_COUNT_OF(tn_supported_clients);

/* ---- versions ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_word(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.';
}

/* Takes a number without a leading zero; false: there is none, or it is too large. */
static bool take_number(tn_str *s, uint64_t *out)
{
    size_t n = 0;
    uint64_t value = 0;
    while (n < s->n && is_digit(s->p[n])) {
        if (n == 18)
            return false;
        value = value * 10 + (uint64_t)(s->p[n++] - '0');
    }
    if (!n || (n > 1 && s->p[0] == '0'))
        return false;
    *s = (tn_str){s->p + n, s->n - n};
    *out = value;
    return true;
}

static bool take_char(tn_str *s, char c)
{
    if (!s->n || s->p[0] != c)
        return false;
    *s = (tn_str){s->p + 1, s->n - 1};
    return true;
}

static tn_str take_words(tn_str *s)
{
    size_t n = 0;
    while (n < s->n && is_word(s->p[n]))
        n++;
    tn_str words = {s->p, n};
    *s = (tn_str){s->p + n, s->n - n};
    return words;
}

bool tn_version_parse(tn_str s, tn_version *out)
{
    tn_version v = {0};
    if (!take_number(&s, &v.part[0]) || !take_char(&s, '.') || !take_number(&s, &v.part[1]) ||
        !take_char(&s, '.') || !take_number(&s, &v.part[2]))
        return false;
    if (take_char(&s, '-')) {
        v.pre = take_words(&s);
        if (!v.pre.n)
            return false;
    }
    if (take_char(&s, '+') && !take_words(&s).n)
        return false;
    *out = v;
    return s.n == 0;
}

/* One dot-separated word of a pre-release; numbers come before words, and compare as numbers. */
static tn_str next_word(tn_str *s)
{
    size_t n = 0;
    while (n < s->n && s->p[n] != '.')
        n++;
    tn_str word = {s->p, n};
    *s = n < s->n ? (tn_str){s->p + n + 1, s->n - n - 1} : (tn_str){NULL, 0};
    return word;
}

static int compare_words(tn_str a, tn_str b)
{
    uint64_t x, y;
    tn_str ra = a, rb = b;
    bool na = take_number(&ra, &x) && !ra.n, nb = take_number(&rb, &y) && !rb.n;
    if (na && nb)
        return x < y ? -1 : x > y;
    if (na != nb)
        return na ? -1 : 1;
    return tn_blob_cmp(tn_blob_of_str(a), tn_blob_of_str(b));
}

int tn_version_compare(const tn_version *a, const tn_version *b)
{
    for (int i = 0; i < 3; i++)
        if (a->part[i] != b->part[i])
            return a->part[i] < b->part[i] ? -1 : 1;
    if (!a->pre.n || !b->pre.n) /* a release comes after its pre-releases */
        return a->pre.n ? -1 : b->pre.n ? 1 : 0;
    tn_str x = a->pre, y = b->pre;
    while (x.n && y.n) {
        int order = compare_words(next_word(&x), next_word(&y));
        if (order)
            return order;
    }
    return x.n ? 1 : y.n ? -1 : 0;
}

/* ---- ranges ---- */

static void skip_blanks(tn_str *s)
{
    while (s->n && (s->p[0] == ' ' || s->p[0] == '\t'))
        *s = (tn_str){s->p + 1, s->n - 1};
}

static bool holds(const tn_version *v, tn_str op, const tn_version *bound)
{
    int order = tn_version_compare(v, bound);
    if (tn_str_is(op, "<"))
        return order < 0;
    if (tn_str_is(op, "<="))
        return order <= 0;
    if (tn_str_is(op, ">"))
        return order > 0;
    if (tn_str_is(op, ">="))
        return order >= 0;
    if (tn_str_is(op, "!") || tn_str_is(op, "!="))
        return order != 0;
    return order == 0;
}

static bool known_op(tn_str op)
{
    static const char *const ops[] = {"", "=", "==", "<", "<=", ">", ">=", "!", "!="};
    for (size_t i = 0; i < TN_COUNT_OF(ops); i++)
        if (tn_str_is(op, ops[i]))
            return true;
    return false;
}

bool tn_version_in_range(const tn_version *v, tn_str range, bool *out_inside)
{
    bool inside = false, all = true;
    size_t terms = 0;
    for (skip_blanks(&range); range.n; skip_blanks(&range)) {
        size_t n = 0;
        if (terms && range.n > 2 && range.p[0] == '|' && range.p[1] == '|') {
            inside = inside || all;
            all = true;
            terms = 0;
            range = (tn_str){range.p + 2, range.n - 2};
            continue;
        }
        while (n < range.n && strchr("<>=!", range.p[n]))
            n++;
        tn_str op = {range.p, n};
        range = (tn_str){range.p + n, range.n - n};
        skip_blanks(&range);
        for (n = 0; n < range.n && (is_word(range.p[n]) || range.p[n] == '+');)
            n++;
        tn_version bound;
        if (!known_op(op) || !tn_version_parse((tn_str){range.p, n}, &bound))
            return false;
        all = all && holds(v, op, &bound);
        terms++;
        range = (tn_str){range.p + n, range.n - n};
    }
    *out_inside = inside || all;
    return terms > 0;
}

/* ---- the check ---- */

static const char *range_of(tn_str client_name)
{
    for (size_t i = 0; i < tn_supported_clients_count; i++)
        if (tn_str_is(client_name, tn_supported_clients[i].name))
            return tn_supported_clients[i].range;
    return NULL;
}

static char *text(tn_arena *arena, tn_str s) { return (char *)(uintptr_t)tn_arena_str(arena, s).p; }

static const tn_fault *client_not_supported(tn_arena *arena, tn_str name, tn_str version,
                                            const char *range)
{
    Temporal__Api__Errordetails__V1__ClientVersionNotSupportedFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__CLIENT_VERSION_NOT_SUPPORTED_FAILURE__INIT;
    detail.client_name = text(arena, name);
    detail.client_version = text(arena, version);
    detail.supported_versions = (char *)(uintptr_t)range;
    if (!detail.client_name || !detail.client_version)
        return tn_fault_make(arena, TN_GRPC_FAILED_PRECONDITION,
                             "Client version is not supported.");
    return tn_fault_detailed(arena, TN_GRPC_FAILED_PRECONDITION, &detail.base,
                             "Client version %s is not supported. Server supports %s versions: %s",
                             detail.client_version, detail.client_name, range);
}

static const tn_fault *server_not_supported(tn_arena *arena, tn_str range)
{
    Temporal__Api__Errordetails__V1__ServerVersionNotSupportedFailure detail =
        TEMPORAL__API__ERRORDETAILS__V1__SERVER_VERSION_NOT_SUPPORTED_FAILURE__INIT;
    detail.server_version = (char *)TN_SERVER_VERSION;
    detail.client_supported_server_versions = text(arena, range);
    if (!detail.client_supported_server_versions)
        return tn_fault_make(arena, TN_GRPC_FAILED_PRECONDITION,
                             "Server version is not supported.");
    return tn_fault_detailed(
        arena, TN_GRPC_FAILED_PRECONDITION, &detail.base,
        "Server version %s is not supported. Client supports server versions: %s",
        TN_SERVER_VERSION, detail.client_supported_server_versions);
}

const tn_fault *tn_versions_check(tn_arena *arena, tn_str client_name, tn_str client_version,
                                  tn_str server_range)
{
    tn_version version;
    bool inside;
    if (!client_name.n || !client_version.n)
        return NULL; /* who does not say what it is, is not judged */
    const char *range = range_of(client_name);
    if (range) {
        if (client_version.n > HEADER_BYTES_MAX || !tn_version_parse(client_version, &version))
            return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                                 "Unable to parse client version: it is not a semantic version");
        if (!tn_version_in_range(&version, tn_str_from(range), &inside) || !inside)
            return client_not_supported(arena, client_name, client_version, range);
    }
    if (!server_range.n)
        return NULL;
    bool parsed = tn_version_parse(TN_STR(TN_SERVER_VERSION), &version);
    TN_ASSERT(parsed);
    if (server_range.n > HEADER_BYTES_MAX || !tn_version_in_range(&version, server_range, &inside))
        return tn_fault_make(
            arena, TN_GRPC_INVALID_ARGUMENT,
            "Unable to parse supported server versions: it is not a range of semantic versions");
    return inside ? NULL : server_not_supported(arena, server_range);
}
