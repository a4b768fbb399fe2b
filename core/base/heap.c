/* SPDX-License-Identifier: MIT */
/* The binary heap: an array of pointers, each node knowing its own place in it. */
#include "base/heap.h"

#include <stdlib.h>

#include "base/base.h"

void tn_heap_init(tn_heap *heap) { *heap = (tn_heap){0}; }

void tn_heap_done(tn_heap *heap)
{
    free(heap->nodes);
    *heap = (tn_heap){0};
}

static void put(tn_heap *heap, size_t i, tn_heap_node *node)
{
    heap->nodes[i] = node;
    node->place = i + 1;
}

static void sift_up(tn_heap *heap, size_t i, tn_heap_node *node)
{
    while (i > 0) {
        size_t parent = (i - 1) / 2;
        if (heap->nodes[parent]->key <= node->key)
            break;
        put(heap, i, heap->nodes[parent]);
        i = parent;
    }
    put(heap, i, node);
}

static void sift_down(tn_heap *heap, size_t i, tn_heap_node *node)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && heap->nodes[child + 1]->key < heap->nodes[child]->key)
            child++;
        if (node->key <= heap->nodes[child]->key)
            break;
        put(heap, i, heap->nodes[child]);
        i = child;
    }
    put(heap, i, node);
}

static void settle(tn_heap *heap, size_t i, tn_heap_node *node)
{
    if (i > 0 && node->key < heap->nodes[(i - 1) / 2]->key)
        sift_up(heap, i, node);
    else
        sift_down(heap, i, node);
}

void tn_heap_insert(tn_heap *heap, tn_heap_node *node, uint64_t key)
{
    TN_ASSERT(node->place == 0);
    if (heap->count == heap->cap) {
        size_t cap = heap->cap ? heap->cap * 2 : 16;
        heap->nodes = tn_xreallocarray(heap->nodes, cap, sizeof *heap->nodes);
        heap->cap = cap;
    }
    node->key = key;
    sift_up(heap, heap->count++, node);
}

void tn_heap_remove(tn_heap *heap, tn_heap_node *node)
{
    if (node->place == 0)
        return;
    size_t i = node->place - 1;
    TN_ASSERT(i < heap->count && heap->nodes[i] == node);
    tn_heap_node *last = heap->nodes[--heap->count];
    node->place = 0;
    if (last != node)
        settle(heap, i, last);
    /* Memory follows the load down, with a gap so that a border does not thrash. */
    if (heap->cap > 64 && heap->count < heap->cap / 8) {
        heap->cap /= 4;
        heap->nodes = tn_xreallocarray(heap->nodes, heap->cap, sizeof *heap->nodes);
    }
}

void tn_heap_change(tn_heap *heap, tn_heap_node *node, uint64_t key)
{
    TN_ASSERT(node->place && node->place <= heap->count && heap->nodes[node->place - 1] == node);
    node->key = key;
    settle(heap, node->place - 1, node);
}
