/* SPDX-License-Identifier: MIT */
/* Ordered rows in memory: a skip list whose nodes hold key and value in one piece.  One writer;
 * readers are kept out by the caller's lock while it changes. */
#include "private.h"

#include <stdlib.h>
#include <string.h>

int sq_bytes_cmp(const uint8_t *a, size_t an, const uint8_t *b, size_t bn)
{
    int c = memcmp(a, b, an < bn ? an : bn);
    if (c != 0)
        return c;
    return an < bn ? -1 : an > bn;
}

static int node_cmp(const sq_node *node, const uint8_t *key, size_t key_n)
{
    return sq_bytes_cmp(sq_node_key(node), node->key_n, key, key_n);
}

bool sq_table_init(sq_table *table, uint64_t seed)
{
    memset(table, 0, sizeof *table);
    table->head = calloc(1, sizeof(sq_node) + SQ_LEVELS_MAX * sizeof(sq_node *));
    if (!table->head)
        return false;
    table->head->levels = SQ_LEVELS_MAX;
    table->tail = table->head;
    table->levels = 1;
    table->rng = seed | 1;
    return true;
}

void sq_table_clear(sq_table *table)
{
    for (sq_node *n = table->head->next[0], *next; n; n = next) {
        next = n->next[0];
        free(n);
    }
    memset(table->head->next, 0, SQ_LEVELS_MAX * sizeof(sq_node *));
    table->tail = table->head;
    table->count = table->bytes = 0;
    table->levels = 1;
}

void sq_table_done(sq_table *table)
{
    if (!table->head)
        return;
    sq_table_clear(table);
    free(table->head);
    table->head = NULL;
}

static uint8_t random_levels(sq_table *table)
{
    table->rng ^= table->rng << 13, table->rng ^= table->rng >> 7, table->rng ^= table->rng << 17;
    uint8_t levels = 1;
    for (uint64_t r = table->rng; (r & 3) == 0 && levels < SQ_LEVELS_MAX; r >>= 2)
        levels++;
    return levels;
}

sq_node *sq_table_node(sq_table *table, const uint8_t *key, size_t key_n, uint64_t version,
                       const uint8_t *value, size_t value_n, bool tombstone)
{
    uint8_t levels = random_levels(table);
    sq_node *n = malloc(sizeof *n + levels * sizeof(sq_node *) + key_n + value_n);
    if (!n)
        return NULL;
    n->version = version;
    n->prev = NULL;
    n->key_n = (uint32_t)key_n;
    n->value_n = (uint32_t)value_n;
    n->levels = levels;
    n->tombstone = tombstone;
    uint8_t *p = (uint8_t *)&n->next[levels];
    memcpy(p, key, key_n);
    if (value_n)
        memcpy(p + key_n, value, value_n);
    return n;
}

/* Fills `before` with the last node < key on every level. */
static sq_node *find_place(const sq_table *table, const uint8_t *key, size_t key_n,
                           sq_node **before)
{
    sq_node *at = table->head;
    sq_node *known_ge = NULL; /* already compared: spares the same comparison one level down */
    for (uint32_t level = table->levels; level-- > 0;) {
        for (;;) {
            sq_node *next = at->next[level];
            if (!next || next == known_ge)
                break;
            if (node_cmp(next, key, key_n) >= 0) {
                known_ge = next;
                break;
            }
            at = next;
        }
        if (before)
            before[level] = at;
    }
    return at;
}

sq_node *sq_table_seek(const sq_table *table, const uint8_t *key, size_t key_n)
{
    return find_place(table, key, key_n, NULL)->next[0];
}

sq_node *sq_table_seek_before(const sq_table *table, const uint8_t *key, size_t key_n)
{
    sq_node *at = find_place(table, key, key_n, NULL);
    return at == table->head ? NULL : at;
}

sq_node *sq_table_find(const sq_table *table, const uint8_t *key, size_t key_n)
{
    if (table->count == 0)
        return NULL;
    sq_node *n = sq_table_seek(table, key, key_n);
    return n && n->key_n == key_n && memcmp(sq_node_key(n), key, key_n) == 0 ? n : NULL;
}

static void unlink_after(sq_table *table, sq_node *node, sq_node **before)
{
    for (uint32_t level = 0; level < node->levels; level++)
        if (before[level]->next[level] == node)
            before[level]->next[level] = node->next[level];
    if (node->next[0])
        node->next[0]->prev = node->prev;
    else
        table->tail = node->prev;
    table->count--;
    table->bytes -= sizeof *node + node->key_n + node->value_n;
}

sq_node *sq_table_insert(sq_table *table, sq_node *node)
{
    sq_node *before[SQ_LEVELS_MAX];
    const uint8_t *key = sq_node_key(node);
    if (node->levels > table->levels)
        table->levels = node->levels;
    find_place(table, key, node->key_n, before);
    sq_node *old = before[0]->next[0];
    if (old && old->key_n == node->key_n && memcmp(sq_node_key(old), key, node->key_n) == 0)
        unlink_after(table, old, before);
    else
        old = NULL;
    for (uint32_t level = 0; level < node->levels; level++) {
        node->next[level] = before[level]->next[level];
        before[level]->next[level] = node;
    }
    node->prev = before[0];
    if (node->next[0])
        node->next[0]->prev = node;
    else
        table->tail = node;
    table->count++;
    table->bytes += sizeof *node + node->key_n + node->value_n;
    return old;
}

void sq_table_remove(sq_table *table, sq_node *node)
{
    sq_node *before[SQ_LEVELS_MAX];
    find_place(table, sq_node_key(node), node->key_n, before);
    unlink_after(table, node, before);
}
