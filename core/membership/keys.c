/* SPDX-License-Identifier: MIT */
/* The cluster's keys: how they change step by step, their row in the store, and those that this process goes by.  A set
 * that is in force is never altered, so that any loop may read it without a lock; the few there ever are, are kept until
 * the end. */
#include "membership/keys.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proto/proto.h"
#include "tenon/store.pb-c.h"

/* ---- pure ---- */

void tn_keys_first(tn_keys *out, const uint8_t key[16])
{
    *out = (tn_keys){.n = 1};
    memcpy(out->key[0], key, 16);
}

void tn_keys_step(tn_keys *keys, const uint8_t fresh[16])
{
    uint8_t other[16];
    keys->version++;
    switch ((tn_keys_phase)keys->phase) {
    case TN_KEYS_SETTLED:
        memcpy(keys->key[1], fresh, 16);
        keys->n = 2;
        keys->phase = TN_KEYS_BELIEVED;
        break;
    case TN_KEYS_BELIEVED:
        memcpy(other, keys->key[0], 16);
        memcpy(keys->key[0], keys->key[1], 16);
        memcpy(keys->key[1], other, 16);
        explicit_bzero(other, sizeof(other));
        keys->phase = TN_KEYS_SIGNING;
        break;
    case TN_KEYS_SIGNING:
        explicit_bzero(keys->key[1], 16);
        keys->n = 1;
        keys->phase = TN_KEYS_SETTLED;
        break;
    }
}

bool tn_keys_unpack(tn_arena *arena, tn_blob row, tn_keys *out)
{
    Tenon__KeysRecord *record = NULL;
    if (tn_proto_unpack(&tenon__keys_record__descriptor, row, arena,
                        (ProtobufCMessage **)(void *)&record, NULL) != TN_OK ||
        record->phase > TN_KEYS_SIGNING || !record->version ||
        record->n_keys != (record->phase == TN_KEYS_SETTLED ? 1u : 2u))
        return false;
    tn_keys keys = {.version = record->version, .phase = record->phase, .n = record->n_keys};
    bool good = true;
    for (size_t i = 0; i < keys.n; i++) {
        good = good && record->keys[i].len == 16;
        if (good)
            memcpy(keys.key[i], record->keys[i].data, 16);
        explicit_bzero(record->keys[i].data, record->keys[i].len);
    }
    if (good)
        *out = keys;
    explicit_bzero(&keys, sizeof(keys));
    return good;
}

tn_blob tn_keys_pack(tn_arena *arena, const tn_keys *keys)
{
    Tenon__KeysRecord record = TENON__KEYS_RECORD__INIT;
    ProtobufCBinaryData list[TN_KEYS_MAX];
    tn_blob packed = {NULL, 0};
    for (size_t i = 0; i < keys->n; i++)
        list[i] = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)keys->key[i]};
    record.version = keys->version;
    record.phase = keys->phase;
    record.keys = list;
    record.n_keys = keys->n;
    record.changed_ns = tn_now_wall_ns();
    tn_status status = tn_proto_pack(&record.base, arena, &packed);
    TN_ASSERT(status == TN_OK);
    return packed;
}

void tn_keys_sign(const tn_keys *keys, tn_blob bytes, uint8_t mac[16])
{
    tn_mac128(keys->key[0], bytes, mac);
}

bool tn_keys_believe(const tn_keys *keys, tn_blob bytes, const uint8_t mac[16])
{
    for (size_t i = 0; i < keys->n; i++) {
        uint8_t own[16], differ = 0;
        tn_mac128(keys->key[i], bytes, own);
        for (size_t k = 0; k < sizeof(own); k++)
            differ |= (uint8_t)(own[k] ^ mac[k]);
        if (!differ)
            return true;
    }
    return false;
}

tn_key tn_keys_row(tn_arena *arena)
{
    return tn_store_key(arena, TN_TABLE_META, TN_PARTITION_CLUSTER, tn_blob_of_str(TN_STR("keys")));
}

/* ---- of this process ---- */

typedef struct held {
    tn_keys keys; /* first */
    struct held *before;
} held;

typedef struct reading {
    tn_store_op op;
    void (*done)(void *user, uint64_t version);
    void *user;
} reading;

static _Atomic(held *) in_force; /* written by main before loops run, then by loop 0 */
static void (*listener)(const tn_keys *keys);

static const char *const phases[] = {"one key", "the new key is believed",
                                     "the new key signs, the old one is believed"};

static void use(const tn_keys *keys)
{
    held *before = atomic_load(&in_force), *h;
    if (before && before->keys.version >= keys->version)
        return;
    h = tn_xcalloc(1, sizeof(*h));
    h->keys = *keys;
    h->before = before;
    atomic_store(&in_force, h);
    listener(&h->keys);
    if (before)
        TN_LOG(TN_LOG_INFO, "membership", "other keys of the cluster are in force",
               TN_LOG_U("version", keys->version), TN_LOG_Z("phase", phases[keys->phase]));
}

const tn_keys *tn_keys_now(void)
{
    const held *h = atomic_load(&in_force);
    TN_ASSERT(h);
    return &h->keys;
}

tn_status tn_keys_load_sync(const uint8_t first[16], void (*changed)(const tn_keys *keys),
                            tn_error *err)
{
    tn_arena *arena = tn_arena_create(0);
    tn_row row;
    tn_keys keys;
    tn_status status = tn_store_get_sync(arena, tn_keys_row(arena), &row, err);
    if (status == TN_ENOTFOUND)
        tn_keys_first(&keys, first);
    else if (status == TN_OK && !tn_keys_unpack(arena, row.value, &keys))
        status = tn_error_set(err, TN_EDATALOSS, "the store's keys record is damaged");
    if (status == TN_OK && row.value.n)
        explicit_bzero((uint8_t *)(uintptr_t)row.value.p, row.value.n);
    tn_arena_destroy(arena);
    if (status != TN_OK && status != TN_ENOTFOUND)
        return status;
    listener = changed;
    use(&keys);
    explicit_bzero(&keys, sizeof(keys));
    return TN_OK;
}

static void came(tn_store_op *op)
{
    reading *r = TN_CONTAINER_OF(op, reading, op);
    tn_keys keys;
    if (op->status == TN_OK) {
        if (tn_keys_unpack(op->arena, op->u.get.row.value, &keys))
            use(&keys);
        else
            TN_LOG(TN_LOG_ERROR, "membership", "the store's keys record is damaged");
        explicit_bzero(&keys, sizeof(keys));
        explicit_bzero((uint8_t *)(uintptr_t)op->u.get.row.value.p, op->u.get.row.value.n);
    } else if (op->status != TN_ENOTFOUND) {
        TN_LOG(TN_LOG_WARN, "membership", "the cluster's keys could not be read",
               TN_LOG_Z("why", op->error.text));
    }
    if (r->done)
        r->done(r->user, tn_keys_now()->version);
    tn_arena_destroy(op->arena);
}

void tn_keys_refresh(void (*done)(void *user, uint64_t version), void *user)
{
    tn_arena *arena = tn_arena_create(0);
    reading *r = TN_NEW(arena, reading);
    *r = (reading){.done = done, .user = user};
    r->op = (tn_store_op){.arena = arena, .done = came};
    r->op.u.get.key = tn_keys_row(arena);
    tn_store_get(&r->op);
}

void tn_keys_forget(void)
{
    held *h = atomic_exchange(&in_force, NULL);
    while (h) {
        held *before = h->before;
        explicit_bzero(h, sizeof(*h));
        free(h);
        h = before;
    }
}
