/* SPDX-License-Identifier: MIT */
/* Keys as one byte string, so that a table of SQLite and a table in memory need one comparison. */
#include "private.h"

#include <string.h>

static bool put_prefix(sq_key *out, const tn_key *key)
{
    if (key->table < 1 || key->table > 63 || key->partition.n < 1 ||
        key->partition.n > SQ_PARTITION_MAX)
        return false;
    out->b[0] = (uint8_t)key->table;
    out->b[1] = (uint8_t)key->partition.n;
    memcpy(out->b + 2, key->partition.p, key->partition.n);
    out->n = (uint16_t)(2 + key->partition.n);
    return true;
}

bool sq_key_make(sq_key *out, const tn_key *key)
{
    if (key->row.n > SQ_ROW_MAX || !put_prefix(out, key))
        return false;
    if (key->row.n)
        memcpy(out->b + out->n, key->row.p, key->row.n);
    out->n = (uint16_t)(out->n + key->row.n);
    return true;
}

void sq_key_partition_end(sq_key *out, const tn_key *key)
{
    put_prefix(out, key);
    while (out->b[out->n - 1] == 0xff) /* ends at the table's byte at the latest: it is below 64 */
        out->n--;
    out->b[out->n - 1]++;
}
