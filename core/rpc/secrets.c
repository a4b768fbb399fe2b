/* SPDX-License-Identifier: MIT */
/* The words by which hosts of a cluster know each other: the first is shown, all are believed, so that they can be changed
 * while calls go on.  A set is never altered: who reads one while another comes has the former, and all are kept until the
 * end, for they are few. */
#include "rpc/pipe.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

uint64_t rpc_secrets_grace_ns = 5 * TN_SEC; /* a test has no time */

struct rpc_secrets {
    struct rpc_secrets *before;
    size_t n;
    uint64_t since_ns;
    char words[TN_SECRETS_MAX][TN_SECRET_MAX + 1];
};

static _Atomic(rpc_secrets *) now;

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

static bool same(tn_str word, tn_str shown)
{
    uint8_t differ = shown.n != word.n || !word.n;
    for (size_t i = 0; !differ && i < word.n; i++)
        differ |= (uint8_t)(shown.p[i] ^ word.p[i]);
    return !differ;
}

static bool in_set(const rpc_secrets *set, tn_str shown)
{
    bool found = false;
    for (size_t i = 0; set && i < set->n; i++)
        found |= same(tn_str_from(set->words[i]), shown);
    return found;
}

bool tn_secret_known(tn_str shown) { return in_set(atomic_load(&now), shown); }

bool rpc_shown_take(rpc_shown *s, tn_str shown)
{
    const rpc_secrets *set = atomic_load(&now);
    if (shown.n > TN_SECRET_MAX || !in_set(set, shown))
        return false;
    memcpy(s->word, shown.p, shown.n);
    s->word[shown.n] = '\0';
    s->set = set;
    return true;
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
