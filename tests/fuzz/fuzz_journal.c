/* SPDX-License-Identifier: MIT */
/* What persistence/sqlite reads of its file, any bytes behind a right checksum: groups of the journal and leaves,
 * compressed or not.  Entries that lie in the memory given or a refusal; and rows written as leaves read as the same. */
#include "persistence/sqlite/private.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(that) \
    do { \
        if (!(that)) \
            abort(); \
    } while (0)

static bool touch(void *user, const sq_entry *entry)
{
    uint64_t *sum = user;
    CHECK(entry->key_n >= 3 && entry->key_n <= SQ_KEY_MAX);
    *sum += sq_crc32c(0, entry->key, entry->key_n) + sq_crc32c(0, entry->value, entry->value_n);
    return true;
}

static void read_block(const uint8_t *data, size_t size)
{
    uint8_t *block = malloc(size + 4);
    sq_block head;
    CHECK(block);
    memcpy(block + 4, data, size);
    sq_set_u32(block, sq_crc32c(0, data, size));
    if (sq_block_read(block, size + 4, &head))
        CHECK(head.part < head.parts && head.n + SQ_BLOCK_HEAD <= size + 4);
    free(block);
}

/* A row of kv as the driver meets it, through a real statement. */
static void read_leaf(sqlite3 *db, sq_zipper *zip, const uint8_t *data, size_t size)
{
    size_t key_n = size ? data[0] % 64 + 1 : 0;
    if (size < key_n + 2)
        return;
    const uint8_t *key = data + 1, *rest = key + key_n;
    size_t n = size - 1 - key_n;
    uint8_t *value = malloc(n + 4);
    CHECK(value);
    memcpy(value + 4, rest, n);
    sq_set_u32(value, sq_row_sum(key, key_n, 0, rest, n));
    sqlite3_stmt *stmt = NULL;
    CHECK(sqlite3_prepare_v2(db, "SELECT ?1, 0, ?2", -1, &stmt, NULL) == SQLITE_OK);
    sqlite3_bind_blob(stmt, 1, key, (int)key_n, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 2, value, (int)n + 4, SQLITE_STATIC);
    CHECK(sqlite3_step(stmt) == SQLITE_ROW);
    sq_leaf leaf = {0};
    CHECK(sq_leaf_begin(&leaf, stmt) && sq_leaf_read(&leaf, zip, stmt));
    CHECK(leaf.damaged == (leaf.n == 0));
    uint64_t sum = 0;
    for (size_t i = 0; i < leaf.n; i++) {
        touch(&sum, &leaf.rows[i]);
        CHECK(sq_leaf_seek(&leaf, leaf.rows[i].key, leaf.rows[i].key_n) == i);
    }
    sqlite3_finalize(stmt);
    sq_leaf_done(&leaf);
    free(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static sqlite3 *db;
    static sq_zipper zip;
    if (!db)
        CHECK(sqlite3_open(":memory:", &db) == SQLITE_OK);
    uint64_t sum = 0;
    (void)sq_journal_read(&zip, data, size, touch, &sum);
    read_block(data, size);
    read_leaf(db, &zip, data, size);
    /* The same bytes packed by us: they come back. */
    sq_bytes plain = {0}, packed = {0}, raw = {0};
    tn_blob back;
    sq_bytes_put(&plain, data, size);
    const sq_bytes *group = sq_journal_pack(&zip, &plain, &packed);
    if (group == &packed) {
        CHECK(sq_entries_open(&zip, group->p, group->n, &raw, &back));
        CHECK(back.n == size && memcmp(back.p, data, size) == 0);
    }
    free(plain.p);
    free(packed.p);
    free(raw.p);
    return 0;
}
