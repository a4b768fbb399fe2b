/* SPDX-License-Identifier: MIT */
/* The keys by which members of a cluster know each other: packets of gossip carry a MAC under them, and the secret that
 * hosts show each other is derived from them.  Normally one; while they are changed two: the first signs, both are
 * believed.  They are kept in the store (the row "keys" of the meta table; without it the cluster's first key alone), from
 * where every member reads them: at its start, each 15 s, when it is told, and when it hears what it does not believe. */
#ifndef TN_MEMBERSHIP_KEYS_H
#define TN_MEMBERSHIP_KEYS_H

#include "base/base.h"
#include "store/store.h"

#define TN_KEYS_MAX 2
#define TN_KEYS_SCHEMA \
    3u /* of a cluster whose keys have changed: releases that know the first alone must not start */

typedef enum tn_keys_phase {
    TN_KEYS_SETTLED,  /* one key */
    TN_KEYS_BELIEVED, /* the old one signs, the new one is believed */
    TN_KEYS_SIGNING,  /* the new one signs, the old one is believed */
} tn_keys_phase;

typedef struct tn_keys {
    uint64_t version; /* raised by every step; 0: never changed */
    uint32_t phase;
    size_t n;
    uint8_t key[TN_KEYS_MAX][16];
} tn_keys;

/* ---- pure ---- */

void tn_keys_first(tn_keys *out, const uint8_t key[16]);
/* The next step of a change; fresh is the new key, used when one begins. */
void tn_keys_step(tn_keys *keys, const uint8_t fresh[16]);
/* A row of the store; false: damaged. */
bool tn_keys_unpack(tn_arena *arena, tn_blob row, tn_keys *out);
tn_blob tn_keys_pack(tn_arena *arena, const tn_keys *keys);
void tn_keys_sign(const tn_keys *keys, tn_blob bytes, uint8_t mac[16]);
bool tn_keys_believe(const tn_keys *keys, tn_blob bytes, const uint8_t mac[16]);
tn_key tn_keys_row(tn_arena *arena); /* where they are */

/* ---- of this process ---- */

/* [main] The store's; first: the cluster's.  changed: called now, and whenever others come into force. */
tn_status tn_keys_load_sync(const uint8_t first[16], void (*changed)(const tn_keys *keys),
                            tn_error *err) TN_WARN_UNUSED;
/* [any] Those in force; valid until tn_keys_forget. */
const tn_keys *tn_keys_now(void);
/* [loop 0] Reads them again. done (may be NULL) comes with their version. */
void tn_keys_refresh(void (*done)(void *user, uint64_t version), void *user);
void tn_keys_forget(void); /* [main, loops ended] */

#endif
