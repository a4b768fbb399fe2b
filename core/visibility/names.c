/* SPDX-License-Identifier: MIT */
/* Names of types and states as clients write and read them, and the words that Text is matched by. */
#include "visibility/private.h"

static const char *const type_names[] = {
    [TN_ATTR_TEXT] = "Text",
    [TN_ATTR_KEYWORD] = "Keyword",
    [TN_ATTR_INT] = "Int",
    [TN_ATTR_DOUBLE] = "Double",
    [TN_ATTR_BOOL] = "Bool",
    [TN_ATTR_DATETIME] = "Datetime",
    [TN_ATTR_KEYWORD_LIST] = "KeywordList",
};
static const char *const type_enum_names[] = {
    [TN_ATTR_TEXT] = "INDEXED_VALUE_TYPE_TEXT",
    [TN_ATTR_KEYWORD] = "INDEXED_VALUE_TYPE_KEYWORD",
    [TN_ATTR_INT] = "INDEXED_VALUE_TYPE_INT",
    [TN_ATTR_DOUBLE] = "INDEXED_VALUE_TYPE_DOUBLE",
    [TN_ATTR_BOOL] = "INDEXED_VALUE_TYPE_BOOL",
    [TN_ATTR_DATETIME] = "INDEXED_VALUE_TYPE_DATETIME",
    [TN_ATTR_KEYWORD_LIST] = "INDEXED_VALUE_TYPE_KEYWORD_LIST",
};

const char *tn_search_attr_type_name(uint32_t type)
{
    return type && type < TN_COUNT_OF(type_names) ? type_names[type] : "Unspecified";
}

uint32_t tn_search_attr_type_parse(tn_str name)
{
    for (uint32_t i = 1; i < TN_COUNT_OF(type_names); i++)
        if (tn_str_is(name, type_names[i]) || tn_str_is(name, type_enum_names[i]))
            return i;
    return 0;
}

bool tn_search_attr_name_reserved(tn_str name)
{
    static const char *const other[] = {"NamespaceId", "MemoEncoding", "Memo", "VisibilityTaskKey"};
    if (tn_str_starts(name, TN_STR("Temporal")) || tn_search_attr_type(NULL, name))
        return true;
    for (size_t i = 0; i < TN_COUNT_OF(other); i++)
        if (tn_str_is(name, other[i]))
            return true;
    return false;
}

static const struct {
    const char *name, *enum_name;
} statuses[] = {
    {"Unspecified", "WORKFLOW_EXECUTION_STATUS_UNSPECIFIED"},
    {"Running", "WORKFLOW_EXECUTION_STATUS_RUNNING"},
    {"Completed", "WORKFLOW_EXECUTION_STATUS_COMPLETED"},
    {"Failed", "WORKFLOW_EXECUTION_STATUS_FAILED"},
    {"Canceled", "WORKFLOW_EXECUTION_STATUS_CANCELED"},
    {"Terminated", "WORKFLOW_EXECUTION_STATUS_TERMINATED"},
    {"ContinuedAsNew", "WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW"},
    {"TimedOut", "WORKFLOW_EXECUTION_STATUS_TIMED_OUT"},
    {"Paused", "WORKFLOW_EXECUTION_STATUS_PAUSED"},
};

const char *tn_vis_status_name(int32_t status)
{
    bool known = status >= 0 && (size_t)status < TN_COUNT_OF(statuses);
    return known ? statuses[status].name : NULL;
}

int32_t tn_vis_status_parse(tn_str name)
{
    for (int32_t i = 1; (size_t)i < TN_COUNT_OF(statuses); i++)
        if (tn_str_is(name, statuses[i].name) || tn_str_is(name, statuses[i].enum_name))
            return i;
    return 0;
}

bool tn_vis_has_word(tn_str text)
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80)
            return true;
    }
    return false;
}

tn_blob tn_vis_encode_i64(tn_arena *arena, int64_t v)
{
    uint8_t *p = tn_arena_alloc(arena, 8);
    if (!p)
        return (tn_blob){NULL, 0};
    tn_put_u64be(p, (uint64_t)v);
    return (tn_blob){p, 8};
}

tn_blob tn_vis_encode_f64(tn_arena *arena, double v)
{
    int64_t bits;
    static_assert(sizeof(bits) == sizeof(v), "a double is 8 bytes");
    memcpy(&bits, &v, sizeof(bits));
    return tn_vis_encode_i64(arena, bits);
}

tn_blob tn_vis_encode_bool(tn_arena *arena, bool v)
{
    uint8_t *p = tn_arena_alloc(arena, 1);
    if (!p)
        return (tn_blob){NULL, 0};
    *p = v;
    return (tn_blob){p, 1};
}

/* "12:34:56" */
static bool parse_clock(tn_str text, int64_t *out_ns)
{
    int64_t part[3];
    size_t at = 0;
    for (int i = 0; i < 3; i++) {
        size_t begin = at;
        while (at < text.n && text.p[at] >= '0' && text.p[at] <= '9')
            at++;
        if (!tn_parse_i64((tn_str){text.p + begin, at - begin}, &part[i]))
            return false;
        if (i < 2 && (at >= text.n || text.p[at++] != ':'))
            return false;
    }
    int64_t ns;
    if (at != text.n || part[1] > 59 || part[2] > 59 ||
        __builtin_mul_overflow(part[0], INT64_C(3600000000000), &ns) ||
        __builtin_add_overflow(ns, (part[1] * 60 + part[2]) * INT64_C(1000000000), &ns))
        return false;
    *out_ns = ns;
    return true;
}

/* Go's durations know no days: takes "1.5d" off the front and leaves the rest to the common parser. */
static bool parse_with_days(tn_str text, int64_t *out_ns)
{
    size_t d = 0;
    while (d < text.n && text.p[d] != 'd')
        d++;
    double days;
    if (d == text.n || !tn_parse_f64((tn_str){text.p, d}, &days) || days > 1e5 || days < -1e5)
        return false;
    int64_t rest = 0;
    tn_str tail = {text.p + d + 1, text.n - d - 1};
    if (tail.n && !tn_parse_duration_ns(tail, &rest))
        return false;
    int64_t ns = (int64_t)(days * 86400e9);
    return !__builtin_add_overflow(ns, days < 0 ? -rest : rest, out_ns);
}

bool tn_vis_parse_execution_duration(tn_str text, int64_t *out_ns)
{
    return tn_parse_i64(text, out_ns) || tn_parse_duration_ns(text, out_ns) ||
           parse_with_days(text, out_ns) || parse_clock(text, out_ns);
}
