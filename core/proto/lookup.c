/* SPDX-License-Identifier: MIT */
/* Finding messages and methods in the generated tables, which are sorted by name. */
#include "proto/proto.h"

#include <string.h>

/* memcmp order with the shorter first, as LC_ALL=C sorted the table. */
static int name_cmp(tn_str key, const char *name)
{
    int c = strncmp(key.p, name, key.n);
    if (c != 0)
        return c;
    return name[key.n] == '\0' ? 0 : -1;
}

/* What was found lately: hosts of a cluster name the same few types with each call, and the search's way through the
 * table is cold memory.  Of any two in one place the later has it. */
#define LATELY 64u

static const tn_message_entry **place_of(tn_str name)
{
    static _Thread_local const tn_message_entry *lately[LATELY];
    size_t mix = name.n;
    for (size_t i = name.n > 16 ? name.n - 16 : 0; i < name.n; i += 3)
        mix = mix * 31 + (uint8_t)name.p[i];
    return &lately[mix % LATELY];
}

const ProtobufCMessageDescriptor *tn_proto_message(tn_str full_name)
{
    size_t lo = 0, hi = tn_message_count;

    if (full_name.n == 0 || memchr(full_name.p, 0, full_name.n))
        return NULL;
    const tn_message_entry **place = place_of(full_name);
    if (*place && name_cmp(full_name, (*place)->name) == 0)
        return (*place)->descriptor;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = name_cmp(full_name, tn_message_table[mid].name);
        if (c == 0) {
            *place = &tn_message_table[mid];
            return tn_message_table[mid].descriptor;
        }
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

const tn_method *tn_proto_method(tn_str path)
{
    size_t lo = 0, hi = tn_method_count;

    if (path.n == 0 || memchr(path.p, 0, path.n))
        return NULL;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = name_cmp(path, tn_method_table[mid].path);
        if (c == 0)
            return &tn_method_table[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

tn_blob tn_proto_api_fds(void)
{
    return tn_blob_from(tn_api_fds_begin, (size_t)(tn_api_fds_end - tn_api_fds_begin));
}
