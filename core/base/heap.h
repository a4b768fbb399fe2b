/* SPDX-License-Identifier: MIT */
/* Intrusive binary min-heap ordered by a 64-bit key (a time).  A node knows its place, so that
 * removal and change of the key take O(log n). */
#ifndef TN_BASE_HEAP_H
#define TN_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tn_heap_node {
    uint64_t key;
    size_t place; /* 1-based; 0: in no heap */
} tn_heap_node;

typedef struct tn_heap {
    tn_heap_node **nodes;
    size_t count, cap;
} tn_heap;

void tn_heap_init(tn_heap *heap);
void tn_heap_done(tn_heap *heap);
void tn_heap_insert(tn_heap *heap, tn_heap_node *node, uint64_t key);
void tn_heap_remove(tn_heap *heap, tn_heap_node *node); /* a node in no heap: nothing */
void tn_heap_change(tn_heap *heap, tn_heap_node *node, uint64_t key);
static inline tn_heap_node *tn_heap_min(const tn_heap *heap)
{
    return heap->count ? heap->nodes[0] : (tn_heap_node *)0;
}
static inline bool tn_heap_linked(const tn_heap_node *node) { return node->place != 0; }

#endif
