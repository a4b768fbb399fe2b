/* SPDX-License-Identifier: MIT */
/* Page tokens: the driver's position under a MAC, so that a driver only ever sees positions that it gave
 * out itself, for the same namespace and order. */
#include "visibility/private.h"

#define MAC_BYTES 16

static uint8_t page_key[16];

void tn_vis_page_key(const uint8_t key[16]) { memcpy(page_key, key, sizeof(page_key)); }

static void seal(const tn_vis_query *query, tn_blob page, uint8_t mac[MAC_BYTES])
{
    tn_buf buf = {0};
    tn_buf_printf(&buf, "visibility page");
    tn_buf_put_u64be(&buf, query->ns_id.n);
    tn_buf_put(&buf, query->ns_id.p, query->ns_id.n);
    tn_buf_put_u64be(&buf, query->n_order);
    for (size_t i = 0; i < query->n_order; i++) {
        const tn_vis_order *order = &query->order[i];
        tn_buf_put_u32be(&buf, order->type << 1 | (order->descending ? 1u : 0u));
        tn_buf_put_u64be(&buf, order->name.n);
        tn_buf_put(&buf, order->name.p, order->name.n);
    }
    tn_buf_put(&buf, page.p, page.n);
    tn_mac128(page_key, tn_buf_blob(&buf), mac);
    tn_buf_done(&buf);
}

const tn_fault *tn_vis_page_open(tn_arena *arena, tn_blob token, tn_vis_query *query)
{
    query->page = (tn_blob){NULL, 0};
    if (token.n == 0)
        return NULL;
    uint8_t mac[MAC_BYTES], differ = 0;
    if (token.n > MAC_BYTES) {
        tn_blob page = {token.p + MAC_BYTES, token.n - MAC_BYTES};
        seal(query, page, mac);
        for (size_t i = 0; i < MAC_BYTES; i++)
            differ |= (uint8_t)(mac[i] ^ token.p[i]);
        if (!differ) {
            query->page = page;
            return NULL;
        }
    }
    return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT, "Invalid NextPageToken.");
}

tn_blob tn_vis_page_seal(tn_arena *arena, const tn_vis_query *query, tn_blob next)
{
    uint8_t *p = next.n ? tn_arena_alloc(arena, MAC_BYTES + next.n) : NULL;
    if (!p)
        return (tn_blob){NULL, 0};
    seal(query, next, p);
    memcpy(p + MAC_BYTES, next.p, next.n);
    return (tn_blob){p, MAC_BYTES + next.n};
}
