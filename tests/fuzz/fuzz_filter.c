/* SPDX-License-Identifier: MIT */
/* The list filter on any bytes: a query or a fault, and a tree that a driver can walk. */
#include "visibility/visibility.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const tn_search_attr custom[] = {
    {{"CB", 2}, TN_ATTR_BOOL}, {{"CD", 2}, TN_ATTR_DOUBLE},  {{"CDT", 3}, TN_ATTR_DATETIME},
    {{"CI", 2}, TN_ATTR_INT},  {{"CK", 2}, TN_ATTR_KEYWORD}, {{"CL", 2}, TN_ATTR_KEYWORD_LIST},
    {{"CT", 2}, TN_ATTR_TEXT},
};
static const tn_namespace ns = {
    .name = {"fuzz", 4},
    .id = {"11111111-1111-4111-8111-111111111111", 36},
    .custom_attrs = custom,
    .n_custom_attrs = TN_COUNT_OF(custom),
};

static void check_tree(const tn_vis_query *q)
{
    size_t depth = 0;
    for (size_t i = 0; i < q->n_filter; i++) {
        const tn_vis_node *node = &q->filter[i];
        size_t arity = node->op == TN_VIS_NOT ? 1 : node->op <= TN_VIS_OR ? node->arity : 0;
        TN_ASSERT(arity <= depth);
        TN_ASSERT(node->op > TN_VIS_OR || arity > 0);
        depth = depth - arity + 1;
        if (node->op >= TN_VIS_EQ)
            TN_ASSERT(node->name.n > 0 && node->type >= TN_ATTR_TEXT &&
                      node->type <= TN_ATTR_KEYWORD_LIST);
        for (size_t k = 0; k < node->n_values; k++) {
            TN_ASSERT(node->values[k].p);
            bool wide = node->type == TN_ATTR_INT || node->type == TN_ATTR_DOUBLE ||
                        node->type == TN_ATTR_DATETIME;
            TN_ASSERT(!wide || node->values[k].n == 8);
        }
    }
    TN_ASSERT(depth == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tn_arena *arena = tn_arena_create(1u << 20);
    tn_vis_query q = {0};
    tn_str text = {(const char *)data, size};
    const tn_fault *fault = tn_vis_query_parse(arena, &ns, text, TN_VIS_FOR_COUNT, &q);
    if (!fault)
        check_tree(&q);
    else
        TN_ASSERT(fault->code == TN_GRPC_INVALID_ARGUMENT ||
                  fault->code == TN_GRPC_RESOURCE_EXHAUSTED);
    tn_arena_destroy(arena);
    return 0;
}
