/* SPDX-License-Identifier: MIT */
/* What handlers of Nexus operations send: links, bodies of any kind, answers of workers, callback tokens.  The first byte says
 * which; nothing may do harm, and a link that was understood says the same when it is written and read again. */
#include <stdlib.h>
#include <string.h>

#include "history/machine/nexus.h"
#include "history/nexus.h"
#include "proto/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void links(tn_arena *arena, const char *url)
{
    static const char type[] = "temporal.api.common.v1.Link.WorkflowEvent";
    Temporal__Api__Common__V1__Link *link = tn_nexus_link_parse(arena, url, type), *again;

    if (!link)
        return;
    again = tn_nexus_link_parse(arena, tn_nexus_link_url(arena, link->workflow_event), type);
    check(again &&
          strcmp(again->workflow_event->workflow_id, link->workflow_event->workflow_id) == 0 &&
          strcmp(again->workflow_event->run_id, link->workflow_event->run_id) == 0 &&
          strcmp(again->workflow_event->namespace_, link->workflow_event->namespace_) == 0);
}

/* "type of content\nbody" */
static void bodies(tn_arena *arena, tn_blob bytes)
{
    const uint8_t *end = bytes.n ? memchr(bytes.p, '\n', bytes.n) : NULL;
    size_t n = end ? (size_t)(end - bytes.p) : 0;
    tn_http_pair got[] = {{TN_STR("content-type"), {(const char *)bytes.p, n}},
                          {TN_STR("nexus-link"), {(const char *)bytes.p, n}}};
    tn_http_out out = {.arena = arena, .got = got, .n_got = 2};
    tn_nexus_result result = {0};

    if (end)
        out.answer = (tn_blob){bytes.p + n + 1, bytes.n - n - 1};
    check(tn_nexus_http_payload(&out) != NULL);
    tn_nexus_http_failure(&out);
    tn_nexus_http_links(&out, &result);
    check(result.n_links <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tn_arena *arena = tn_arena_create(0);
    Tenon__NexusOutcome *outcome;
    tn_nexus_result result;
    tn_blob bytes;
    char *text;

    if (size) {
        bytes = tn_arena_blob(arena, tn_blob_from(data + 1, size - 1));
        text = tn_arena_printf(arena, "%.*s", (int)bytes.n, bytes.n ? (const char *)bytes.p : "");
        if (data[0] == 'l')
            links(arena, text);
        else if (data[0] == 'b')
            bodies(arena, bytes);
        else if (data[0] == 't')
            check(!tn_nexus_open_token(arena, text));
        else if (TN_PROTO_UNPACK(tenon__nexus_outcome, bytes, arena, &outcome, NULL) == TN_OK)
            tn_nexus_answer(arena, outcome, data[0] == 'c', tn_nexus_failure_of, &result);
    }
    tn_arena_destroy(arena);
    return 0;
}
