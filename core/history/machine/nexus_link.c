/* SPDX-License-Identifier: MIT */
/* Links between workflows and their handlers, which travel as URLs:
 *   temporal:///namespaces/NS/workflows/ID/RUN/history?eventID=5&eventType=...&referenceType=EventReference
 * What does not read as one is dropped: links help people to find things, nothing depends on them. */
#include <stdlib.h>
#include <string.h>

#include "history/machine/command.h"
#include "history/machine/nexus.h"
#include "proto/proto.h"

typedef Temporal__Api__Common__V1__Link link_msg;
typedef Temporal__Api__Common__V1__Link__WorkflowEvent event_link;

#define EVENT_TYPES_MAX 100

/* ---- out ------------------------------------------------------------------------------------- */

static bool plain(unsigned char c, const char *also)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr(also, c));
}

/* `also`: what may stay as it is beside letters and digits. */
static void put_escaped(tn_buf *out, const char *s, const char *also)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (plain(c, also))
            tn_buf_put_u8(out, c);
        else
            tn_buf_printf(out, "%%%02X", c);
    }
}

#define IN_PATH "-_.~$&+=:@"
#define IN_QUERY "-_.~"

char *tn_nexus_link_url(tn_arena *arena, const event_link *link)
{
    const char *parts[] = {"temporal:///namespaces/",
                           link->namespace_,
                           "/workflows/",
                           link->workflow_id,
                           "/",
                           link->run_id};
    tn_buf url = {0};
    char *out;

    for (size_t i = 0; i < TN_COUNT_OF(parts); i++)
        if (i % 2)
            put_escaped(&url, parts[i], IN_PATH);
        else
            tn_buf_put(&url, parts[i], strlen(parts[i]));
    tn_buf_printf(&url, "/history");
    if (link->reference_case ==
        TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__REFERENCE_EVENT_REF) {
        if (link->event_ref->event_id > 0)
            tn_buf_printf(&url, "?eventID=%lld&", (long long)link->event_ref->event_id);
        else
            tn_buf_printf(&url, "?");
        tn_buf_printf(&url, "eventType=%s&referenceType=EventReference",
                      tn_enum_name(arena, &temporal__api__enums__v1__event_type__descriptor,
                                   (int32_t)link->event_ref->event_type));
    } else if (link->reference_case ==
               TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__REFERENCE_REQUEST_ID_REF) {
        tn_buf_printf(&url, "?eventType=%s&referenceType=RequestIdReference&requestID=",
                      tn_enum_name(arena, &temporal__api__enums__v1__event_type__descriptor,
                                   (int32_t)link->request_id_ref->event_type));
        put_escaped(&url, link->request_id_ref->request_id, IN_QUERY);
    }
    out = tn_arena_printf(arena, "%.*s", (int)url.n, (const char *)url.p);
    tn_buf_done(&url);
    return out;
}

/* ---- in -------------------------------------------------------------------------------------- */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* NULL: not well escaped, or it holds a NUL. */
static char *unescape(tn_arena *arena, tn_str s, bool query)
{
    char *out = tn_arena_alloc(arena, s.n + 1);
    size_t n = 0;

    TN_ASSERT(out);
    for (size_t i = 0; i < s.n; i++) {
        int high, low;

        if (query && s.p[i] == '+') {
            out[n++] = ' ';
            continue;
        }
        if (s.p[i] != '%') {
            out[n++] = s.p[i];
            continue;
        }
        if (i + 2 >= s.n || (high = hex(s.p[i + 1])) < 0 || (low = hex(s.p[i + 2])) < 0 ||
            !(high | low))
            return NULL;
        out[n++] = (char)(high * 16 + low);
        i += 2;
    }
    out[n] = '\0';
    return out;
}

/* The part of `rest` before the next '/', which is taken from it; empty: there is none. */
static tn_str segment(tn_str *rest)
{
    const char *slash = rest->n ? memchr(rest->p, '/', rest->n) : NULL;
    tn_str out = {rest->p, slash ? (size_t)(slash - rest->p) : rest->n};

    rest->p += out.n + (slash ? 1 : 0);
    rest->n -= out.n + (slash ? 1 : 0);
    return out;
}

static char *parameter(tn_arena *arena, tn_str query, const char *name)
{
    size_t n = strlen(name);

    while (query.n) {
        const char *amp = memchr(query.p, '&', query.n);
        tn_str one = {query.p, amp ? (size_t)(amp - query.p) : query.n};

        query.p += one.n + (amp ? 1 : 0);
        query.n -= one.n + (amp ? 1 : 0);
        if (one.n > n && memcmp(one.p, name, n) == 0 && one.p[n] == '=')
            return unescape(arena, (tn_str){one.p + n + 1, one.n - n - 1}, true);
    }
    return NULL;
}

/* "NexusOperationScheduled" or EVENT_TYPE_NEXUS_OPERATION_SCHEDULED; -1: neither. */
static int32_t event_type_of(tn_arena *arena, const char *name)
{
    const ProtobufCEnumDescriptor *all = &temporal__api__enums__v1__event_type__descriptor;

    for (int32_t i = 0; name && i < EVENT_TYPES_MAX; i++) {
        const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(all, i);

        if (value &&
            (strcmp(value->name, name) == 0 || strcmp(tn_enum_name(arena, all, i), name) == 0))
            return i;
    }
    return -1;
}

static bool take_reference(tn_arena *arena, tn_str query, event_link *to)
{
    const char *kind = parameter(arena, query, "referenceType");
    int32_t type = event_type_of(arena, parameter(arena, query, "eventType"));
    const char *id;
    int64_t number;

    if (!kind || type < 0)
        return false;
    if (strcmp(kind, "EventReference") == 0) {
        to->reference_case = TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__REFERENCE_EVENT_REF;
        to->event_ref =
            TN_MSG(arena, temporal__api__common__v1__link__workflow_event__event_reference);
        to->event_ref->event_type = (Temporal__Api__Enums__V1__EventType)type;
        id = parameter(arena, query, "eventID");
        if (id && *id && !tn_parse_i64(tn_str_from(id), &number))
            return false;
        to->event_ref->event_id = id && *id ? number : 0;
        return true;
    }
    if (strcmp(kind, "RequestIdReference") != 0)
        return false;
    to->reference_case = TEMPORAL__API__COMMON__V1__LINK__WORKFLOW_EVENT__REFERENCE_REQUEST_ID_REF;
    to->request_id_ref =
        TN_MSG(arena, temporal__api__common__v1__link__workflow_event__request_id_reference);
    id = parameter(arena, query, "requestID");
    to->request_id_ref->request_id = (char *)(uintptr_t)(id ? id : "");
    to->request_id_ref->event_type = (Temporal__Api__Enums__V1__EventType)type;
    return true;
}

link_msg *tn_nexus_link_parse(tn_arena *arena, const char *url, const char *type)
{
    static const char prefix[] = "temporal:///namespaces/";
    link_msg *link;
    event_link *to;
    tn_str rest, query = {"", 0};
    const char *mark;

    if (strcmp(type, "temporal.api.common.v1.Link.WorkflowEvent") != 0 ||
        strncmp(url, prefix, sizeof(prefix) - 1) != 0)
        return NULL;
    rest = tn_str_from(url + sizeof(prefix) - 1);
    mark = memchr(rest.p, '?', rest.n);
    if (mark) {
        query = (tn_str){mark + 1, (size_t)(rest.p + rest.n - mark - 1)};
        rest.n = (size_t)(mark - rest.p);
    }
    link = TN_MSG(arena, temporal__api__common__v1__link);
    to = TN_MSG(arena, temporal__api__common__v1__link__workflow_event);
    link->variant_case = TEMPORAL__API__COMMON__V1__LINK__VARIANT_WORKFLOW_EVENT;
    link->workflow_event = to;
    to->namespace_ = unescape(arena, segment(&rest), false);
    if (!tn_str_is(segment(&rest), "workflows"))
        return NULL;
    to->workflow_id = unescape(arena, segment(&rest), false);
    to->run_id = unescape(arena, segment(&rest), false);
    if (!tn_str_is(rest, "history") || !to->namespace_ || !to->workflow_id || !to->run_id ||
        !*to->namespace_ || !*to->workflow_id || !*to->run_id)
        return NULL;
    return take_reference(arena, query, to) ? link : NULL;
}
