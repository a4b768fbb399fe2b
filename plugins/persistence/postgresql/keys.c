/* SPDX-License-Identifier: MIT */
/* Keys: table (1 byte), length of the partition (1), partition, row.  Within a table and partition the order of
 * bytea is the order of rows. */
#include "private.h"

#include <string.h>

bool pp_key_lawful(const tn_key *key)
{
    return key->table >= 1 && key->table <= 63 && key->partition.n >= 1 &&
           key->partition.n <= PP_PARTITION_MAX && key->row.n <= PP_ROW_MAX;
}

size_t pp_key_size(const tn_key *key) { return 2 + key->partition.n + key->row.n; }

void pp_key_pack(pp_key *out, const tn_key *key)
{
    out->b[0] = (uint8_t)key->table;
    out->b[1] = (uint8_t)key->partition.n;
    memcpy(out->b + 2, key->partition.p, key->partition.n);
    if (key->row.n)
        memcpy(out->b + 2 + key->partition.n, key->row.p, key->row.n);
    out->n = pp_key_size(key);
}

void pp_key_partition_end(pp_key *out, const tn_key *key)
{
    tn_key bare = *key;
    bare.row = (tn_blob){0};
    pp_key_pack(out, &bare);
    while (out->b[out->n - 1] == 0xff) /* ends at the table byte, which is 63 at most */
        out->n--;
    out->b[out->n - 1]++;
}

int pp_row_compare(tn_blob a, tn_blob b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

bool pp_key_equal(const tn_key *a, const tn_key *b)
{
    return a->table == b->table && pp_row_compare(a->row, b->row) == 0 &&
           pp_row_compare(a->partition, b->partition) == 0;
}

uint64_t pp_hash(uint64_t seed, const void *p, size_t n)
{
    const uint8_t *b = p;
    uint64_t h = seed ^ UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * UINT64_C(0x100000001b3);
    h ^= h >> 32;
    h *= UINT64_C(0xd6e8feb86659fd93);
    return h ^ h >> 32;
}

/* As schema/1.sql lays the tables out. */
pp_relation pp_relation_of(uint32_t table)
{
    switch (table) {
    case 5:
        return PP_RECORDS;
    case 7:
    case 8:
        return PP_QUEUE;
    default:
        return PP_ROWS;
    }
}
