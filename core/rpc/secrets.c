/* SPDX-License-Identifier: MIT */
/* The words by which hosts of a cluster know each other: the first is used, all are believed, so that they can be changed
 * while calls go on.  A set is never altered: who reads one while another comes has the former, and all are kept until the
 * end, for they are few. */
#include "rpc/pipe.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t rpc_secrets_grace_ns = 5 * TN_SEC; /* a test has no time */

struct rpc_secrets {
    struct rpc_secrets *before;
    size_t n;
    uint64_t since_ns;
    char words[TN_SECRETS_MAX][TN_SECRET_MAX + 1];
    char own[TN_SECRETS_MAX][TN_SECRET_MAX + 1]; /* bound to us; empty: we have no id */
};

static _Atomic(rpc_secrets *) now;
static uint8_t own_id[16];
static bool own_known;

#define BOUND_BYTES 20u

static void mac(const char *word, const void *text, size_t n, uint8_t out[RPC_PROOF_BYTES])
{
    unsigned size = 0;
    _Static_assert(RPC_PROOF_BYTES == 32, "SHA-256");
    TN_ASSERT(HMAC(EVP_sha256(), word, (int)strlen(word), text, n, out, &size) &&
              size == RPC_PROOF_BYTES);
}

static void bind_to(const char *word, const uint8_t host_id[16], char out[TN_SECRET_MAX + 1])
{
    static const char label[] = "tenon host";
    uint8_t text[sizeof(label) + 16], bound[RPC_PROOF_BYTES];
    memcpy(text, label, sizeof(label));
    memcpy(text + sizeof(label), host_id, 16);
    mac(word, text, sizeof(text), bound);
    memcpy(out, "to:", 4);
    for (size_t i = 0; i < BOUND_BYTES; i++)
        snprintf(out + 3 + 2 * i, 3, "%02x", bound[i]);
}

static void prove(const char *word, const rpc_meeting *m, rpc_side side,
                  uint8_t out[RPC_PROOF_BYTES])
{
    static const char label[] = "tenon pipe";
    uint8_t text[sizeof(label) + 1 + sizeof(*m)];
    memcpy(text, label, sizeof(label));
    text[sizeof(label)] = (uint8_t)side;
    memcpy(text + sizeof(label) + 1, m, sizeof(*m));
    mac(word, text, sizeof(text), out);
}

static void show_all(tn_msg *msg)
{
    free(msg);
    rpc_pipes_show();
}

void tn_secrets_use(const char *const *words, size_t n)
{
    rpc_secrets *set = tn_xcalloc(1, sizeof(*set));
    TN_ASSERT(n > 0 && n <= TN_SECRETS_MAX);
    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(words[i]);
        TN_ASSERT(size > 0 && size <= TN_SECRET_MAX);
        memcpy(set->words[i], words[i], size + 1);
        if (own_known)
            bind_to(words[i], own_id, set->own[i]);
    }
    set->n = n;
    set->since_ns = tn_now_mono_ns();
    set->before = atomic_load(&now);
    while (!atomic_compare_exchange_weak(&now, &set->before, set)) {
    }
    for (uint32_t i = 0; set->before && i < tn_loops_count(); i++) {
        tn_msg *msg = tn_xcalloc(1, sizeof(*msg));
        msg->run = show_all;
        tn_loop_post(tn_loops_get(i), msg);
    }
}

void rpc_secrets_identity(const uint8_t host_id[16])
{
    const rpc_secrets *set = atomic_load(&now);
    const char *words[TN_SECRETS_MAX];
    memcpy(own_id, host_id, 16);
    own_known = true;
    for (size_t i = 0; set && i < set->n; i++)
        words[i] = set->words[i];
    if (set)
        tn_secrets_use(words, set->n);
}

void tn_secrets_forget(void)
{
    rpc_secrets *set = atomic_exchange(&now, NULL);
    while (set) {
        rpc_secrets *before = set->before;
        explicit_bzero(set, sizeof(*set));
        free(set);
        set = before;
    }
}

tn_str tn_secret_shown(void)
{
    const rpc_secrets *set = atomic_load(&now);
    return set ? tn_str_from(set->words[0]) : (tn_str){NULL, 0};
}

static bool same(tn_blob a, tn_blob b)
{
    uint8_t differ = a.n != b.n || !a.n;
    for (size_t i = 0; !differ && i < a.n; i++)
        differ |= (uint8_t)(a.p[i] ^ b.p[i]);
    return !differ;
}

static bool is_word(const char *word, tn_str shown)
{
    return same(tn_blob_of_str(tn_str_from(word)), tn_blob_of_str(shown));
}

static bool in_set(const rpc_secrets *set, tn_str word)
{
    bool found = false;
    for (size_t i = 0; set && i < set->n; i++)
        found |= is_word(set->words[i], word);
    return found;
}

bool tn_secret_known(tn_str shown)
{
    const rpc_secrets *set = atomic_load(&now);
    bool found = in_set(set, shown);
    for (size_t i = 0; set && i < set->n; i++)
        found |= is_word(set->own[i], shown);
    return found;
}

/* ---- pipes ---- */

bool rpc_host_proves(const uint8_t host_id[16]) { return host_id[6] >> 4 == 8; }

void rpc_prove(const rpc_meeting *m, rpc_side side, uint8_t out[RPC_PROOF_BYTES])
{
    const rpc_secrets *set = atomic_load(&now);
    memset(out, 0, RPC_PROOF_BYTES);
    if (set)
        prove(set->words[0], m, side, out);
}

static void take(rpc_shown *s, const rpc_secrets *set, const char *word, size_t n)
{
    memcpy(s->word, word, n);
    s->word[n] = '\0';
    s->set = set;
}

bool rpc_shown_take(rpc_shown *s, tn_str word)
{
    const rpc_secrets *set = atomic_load(&now);
    if (word.n > TN_SECRET_MAX || !in_set(set, word))
        return false;
    take(s, set, word.p, word.n);
    return true;
}

bool rpc_shown_proof(rpc_shown *s, const rpc_meeting *m, rpc_side side, tn_blob proof)
{
    const rpc_secrets *set = atomic_load(&now);
    uint8_t right[RPC_PROOF_BYTES];
    for (size_t i = 0; set && i < set->n; i++) {
        prove(set->words[i], m, side, right);
        if (!same(proof, tn_blob_from(right, sizeof(right))))
            continue;
        take(s, set, set->words[i], strlen(set->words[i]));
        return true;
    }
    return false;
}

bool rpc_shown_holds(rpc_shown *s)
{
    const rpc_secrets *set = atomic_load(&now);
    if (s->set == set)
        return true;
    if (!in_set(set, tn_str_from(s->word)))
        return set && tn_now_mono_ns() - set->since_ns < rpc_secrets_grace_ns;
    s->set = set;
    return true;
}

/* ---- HTTP/2 ---- */

tn_str rpc_saying_to(rpc_saying *s, const uint8_t host_id[16])
{
    const rpc_secrets *set = atomic_load(&now);
    if (!set)
        return (tn_str){NULL, 0};
    if (s->set != set && rpc_host_proves(host_id))
        bind_to(set->words[0], host_id, s->word);
    else if (s->set != set)
        memcpy(s->word, set->words[0], sizeof(s->word));
    s->set = set;
    return tn_str_from(s->word);
}
