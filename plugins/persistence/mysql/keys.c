/* SPDX-License-Identifier: MIT */
/* Keys as one byte string. */
#include "private.h"

#include <string.h>

bool my_key_lawful(const tn_key *key)
{
    return key->table >= 1 && key->table <= 63 && key->partition.n >= 1 &&
           key->partition.n <= MY_PARTITION_MAX && key->row.n <= MY_ROW_MAX;
}

size_t my_key_write(uint8_t out[MY_KEY_MAX], const tn_key *key)
{
    out[0] = (uint8_t)key->table;
    out[1] = (uint8_t)key->partition.n;
    memcpy(out + 2, key->partition.p, key->partition.n);
    if (key->row.n)
        memcpy(out + 2 + key->partition.n, key->row.p, key->row.n);
    return 2 + key->partition.n + key->row.n;
}

my_key my_key_make(ms_pool *pool, const tn_key *key)
{
    uint8_t *p = ms_pool_get(pool, 2 + key->partition.n + key->row.n);
    if (!p)
        return (my_key){0};
    return (my_key){p, (uint32_t)my_key_write(p, key)};
}

int my_key_cmp(my_key a, my_key b)
{
    int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

uint64_t my_hash(const void *p, size_t n)
{
    const uint8_t *b = p;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * UINT64_C(0x100000001b3);
    return h ^ h >> 29;
}
