/* SPDX-License-Identifier: MIT */
/* The journal's form.  A group of commits is a string of entries
 *
 *   verb (u8: 1 put, 2 delete)  version (u64)  key length (u16)  key
 *   and for a put: value length (u32)  value
 *
 * or the same compressed, behind a verb 3 (u8) and the length of the entries (u32); it is cut into blocks of one size, each a row of the journal table that fills one page:
 *
 *   crc32c of the rest of the block (u32)  sequence of the group (u64)  part (u32)  parts (u32)
 *   bytes used (u16)  bytes, zeros
 *
 * Numbers are big-endian.  A block is written over an obsolete one, so that a group touches the pages
 * that hold it and no others.  Range deletes are written as the deletes that they came to. */
#include "private.h"

#include <stdlib.h>
#include <string.h>

#define PACKED 3u
#define PACK_LEAST 64u /* bytes; a barrier is empty */

static uint32_t crc_table[8][256];

static void crc_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
        crc_table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            crc_table[t][i] = crc_table[t - 1][i] >> 8 ^ crc_table[0][crc_table[t - 1][i] & 0xff];
}

uint32_t sq_crc32c(uint32_t crc, const void *bytes, size_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, crc_init);
    const uint8_t *p = bytes;
    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t lo = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                             (uint32_t)p[3] << 24);
        crc = crc_table[7][lo & 0xff] ^ crc_table[6][lo >> 8 & 0xff] ^
              crc_table[5][lo >> 16 & 0xff] ^ crc_table[4][lo >> 24] ^ crc_table[3][p[4]] ^
              crc_table[2][p[5]] ^ crc_table[1][p[6]] ^ crc_table[0][p[7]];
    }
    while (n--)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *p++) & 0xff];
    return ~crc;
}

uint8_t *sq_bytes_room(sq_bytes *b, size_t n)
{
    if (b->failed)
        return NULL;
    if (b->cap - b->n < n) {
        size_t cap = b->cap ? b->cap : 4096;
        while (cap - b->n < n)
            cap *= 2;
        uint8_t *grown = realloc(b->p, cap);
        if (!grown) {
            b->failed = true;
            return NULL;
        }
        b->p = grown;
        b->cap = cap;
    }
    return b->p + b->n;
}

void sq_bytes_put(sq_bytes *b, const void *p, size_t n)
{
    if (n == 0 || !sq_bytes_room(b, n))
        return;
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static size_t put_be(uint8_t *p, uint64_t v, size_t n)
{
    for (size_t i = n; i-- > 0; v >>= 8)
        p[i] = (uint8_t)v;
    return n;
}

static uint64_t get_be(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

void sq_journal_begin(sq_bytes *b)
{
    b->n = 0;
    b->failed = false;
}

static void put_head(sq_bytes *b, uint8_t verb, uint64_t version, const uint8_t *key, size_t key_n)
{
    uint8_t head[11] = {verb};
    put_be(head + 1, version, 8);
    put_be(head + 9, key_n, 2);
    sq_bytes_put(b, head, sizeof head);
    sq_bytes_put(b, key, key_n);
}

void sq_journal_put(sq_bytes *b, uint64_t version, const uint8_t *key, size_t key_n,
                    const uint8_t *value, size_t value_n)
{
    uint8_t length[4];
    put_head(b, 1, version, key, key_n);
    put_be(length, value_n, 4);
    sq_bytes_put(b, length, sizeof length);
    sq_bytes_put(b, value, value_n);
}

void sq_journal_delete(sq_bytes *b, uint64_t version, const uint8_t *key, size_t key_n)
{
    put_head(b, 2, version, key, key_n);
}

const sq_bytes *sq_journal_pack(sq_zipper *zip, const sq_bytes *group, sq_bytes *scratch)
{
    uint8_t head[5] = {PACKED};
    if (group->n < PACK_LEAST || group->n > SQ_ZIP_MAX)
        return group;
    put_be(head + 1, group->n, 4);
    scratch->n = 0;
    scratch->failed = false;
    sq_bytes_put(scratch, head, sizeof head);
    if (!sq_zip(zip, group->p, group->n, scratch) || scratch->n >= group->n)
        return group;
    return scratch;
}

void sq_block_make(uint8_t *out, size_t size, uint64_t seq, uint32_t part, uint32_t parts,
                   const uint8_t *p, size_t n)
{
    put_be(out + 4, seq, 8);
    put_be(out + 12, part, 4);
    put_be(out + 16, parts, 4);
    put_be(out + 20, n, 2);
    if (n)
        memcpy(out + SQ_BLOCK_HEAD, p, n);
    memset(out + SQ_BLOCK_HEAD + n, 0, size - SQ_BLOCK_HEAD - n);
    put_be(out, sq_crc32c(0, out + 4, size - 4), 4);
}

bool sq_block_read(const uint8_t *p, size_t size, sq_block *out)
{
    if (size < SQ_BLOCK_HEAD || get_be(p, 4) != sq_crc32c(0, p + 4, size - 4))
        return false;
    out->seq = get_be(p + 4, 8);
    out->part = (uint32_t)get_be(p + 12, 4);
    out->parts = (uint32_t)get_be(p + 16, 4);
    out->n = (size_t)get_be(p + 20, 2);
    return out->part < out->parts && out->n <= size - SQ_BLOCK_HEAD;
}

/* One entry at p; returns the bytes it takes, 0 when it does not fit. */
static size_t read_entry(const uint8_t *p, size_t n, sq_entry *out)
{
    if (n < 11 || p[0] < 1 || p[0] > 2)
        return 0;
    out->tombstone = p[0] == 2;
    out->version = get_be(p + 1, 8);
    out->key_n = (size_t)get_be(p + 9, 2);
    if (out->key_n < 3 || out->key_n > SQ_KEY_MAX || n - 11 < out->key_n)
        return 0;
    out->key = p + 11;
    size_t used = 11 + out->key_n;
    out->value = NULL;
    out->value_n = 0;
    if (out->tombstone)
        return used;
    if (n - used < 4)
        return 0;
    out->value_n = (size_t)get_be(p + used, 4);
    used += 4;
    if (n - used < out->value_n)
        return 0;
    out->value = p + used;
    return used + out->value_n;
}

bool sq_entries_next(tn_blob *rest, sq_entry *out)
{
    size_t used = rest->n ? read_entry(rest->p, rest->n, out) : 0;
    if (used == 0)
        return false;
    rest->p += used;
    rest->n -= used;
    return true;
}

bool sq_entries_open(sq_zipper *zip, const uint8_t *p, size_t n, sq_bytes *raw, tn_blob *out)
{
    *out = (tn_blob){p, n};
    if (n < 5 || p[0] != PACKED)
        return true;
    raw->n = 0;
    raw->failed = false;
    if (!sq_unzip(zip, p + 5, n - 5, (size_t)get_be(p + 1, 4), raw))
        return false;
    *out = (tn_blob){raw->p, raw->n};
    return true;
}

bool sq_journal_read(sq_zipper *zip, const uint8_t *p, size_t n,
                     bool (*each)(void *, const sq_entry *), void *user)
{
    sq_bytes raw = {0};
    tn_blob entries;
    sq_entry entry;
    bool ok = sq_entries_open(zip, p, n, &raw, &entries);
    while (ok && sq_entries_next(&entries, &entry))
        ok = each(user, &entry);
    free(raw.p);
    return ok && entries.n == 0;
}
