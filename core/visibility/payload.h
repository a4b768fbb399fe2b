/* SPDX-License-Identifier: MIT */
/* Packed payloads and packed maps of them, read in place. */
#ifndef TN_VISIBILITY_PAYLOAD_H
#define TN_VISIBILITY_PAYLOAD_H

#include "visibility/private.h"

/* What of a packed temporal.api.common.v1.Payload matters here; points into it. */
typedef struct tn_vis_payload {
    tn_str encoding, type;
    tn_str data;
} tn_vis_payload;

tn_status tn_vis_payload_read(tn_blob packed, tn_vis_payload *out) TN_WARN_UNUSED;
/* The value as the reference's messages print it; never empty pointers. */
tn_str tn_vis_payload_show(tn_arena *arena, tn_blob packed);

/* The next keyword of an encoded TN_ATTR_KEYWORD_LIST. */
bool tn_vis_list_next(tn_blob *rest, tn_str *out);

/* One entry of a packed SearchAttributes; points into it. */
typedef struct tn_vis_entry {
    tn_str name;
    tn_blob payload; /* packed */
} tn_vis_entry;
/* All entries in the arena, in their order; of one name only the last.  TN_EINVALID: damaged. */
tn_status tn_vis_entries_read(tn_arena *arena, tn_blob packed, tn_vis_entry **out,
                              size_t *out_count) TN_WARN_UNUSED;

#endif
