/* SPDX-License-Identifier: MIT */
/* A decision: the first rule in the intersection of the sets that the call's values stand for.  A loop remembers the sets
 * of values that it has met, in tables of fixed size where a new value takes an old one's place. */
#include "private.h"

#include <stdlib.h>
#include <string.h>

bool rl_memory_init(rl_memory *memory, rl_policy *policy)
{
    *memory = (rl_memory){.policy = policy};
    for (size_t f = 0; f < RL_FIELDS; f++) {
        if (policy->fields[f].n == 0)
            continue;
        memory->slots[f] = calloc(RL_SLOTS, sizeof(rl_slot));
        memory->sets[f] = calloc((RL_SLOTS + 1) * policy->words, sizeof(uint64_t));
        if (!memory->slots[f] || !memory->sets[f]) {
            memory->policy = NULL;
            rl_memory_done(memory);
            return false;
        }
    }
    return true;
}

void rl_memory_done(rl_memory *memory)
{
    for (size_t f = 0; f < RL_FIELDS; f++) {
        free(memory->slots[f]);
        free(memory->sets[f]);
    }
    rl_policy_unref(memory->policy);
    *memory = (rl_memory){0};
}

/* ---- values ---- */

void rl_values_of(const tn_claims *claims, const tn_call_target *target, tn_str out[RL_FIELDS])
{
    out[RL_SUBJECT] = claims->present ? claims->subject : (tn_str){0};
    out[RL_NAMESPACE] = target->ns;
    out[RL_METHOD] = target->api_name;
    out[RL_TASK_QUEUE] = target->task_queue;
    out[RL_WORKFLOW_TYPE] = target->workflow_type;
}

/* A role is a minimum: an administrator may what a writer may. */
static uint32_t with_lesser(uint32_t roles)
{
    if (roles & TN_ROLE_ADMIN)
        roles |= TN_ROLE_WRITER;
    if (roles & TN_ROLE_WRITER)
        roles |= TN_ROLE_READER;
    return roles & 15;
}

uint32_t rl_roles_here(const tn_claims *claims, const tn_call_target *target)
{
    uint32_t roles = claims->system_roles;
    for (size_t i = 0; target->scope == TN_SCOPE_NAMESPACE && i < claims->n_grants; i++) {
        const tn_role_grant *grant = &claims->grants[i];
        if (grant->ns.n == target->ns.n && grant->ns.n &&
            memcmp(grant->ns.p, target->ns.p, grant->ns.n) == 0)
            roles |= grant->roles;
    }
    return with_lesser(roles);
}

static const uint64_t *role_set(const rl_policy *policy, const tn_claims *claims,
                                const tn_call_target *target)
{
    uint32_t here = 0, system = 0;
    if (claims->present) {
        here = rl_roles_here(claims, target);
        system = with_lesser(claims->system_roles);
    }
    return policy->role_sets + (size_t)(here << 4 | system) * policy->words;
}

/* ---- the set of a value ---- */

static uint64_t hash_of(tn_str value)
{
    uint64_t h = value.n * UINT64_C(0x9e3779b97f4a7c15), word = 0;
    const char *p = value.p;
    size_t n = value.n;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&word, p, 8);
        h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    word = 0;
    if (n)
        memcpy(&word, p, n);
    h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
    return h ^ (h >> 32);
}

static void fill(const rl_policy *policy, rl_field_id id, tn_str value, uint64_t *set)
{
    const rl_field *field = &policy->fields[id];
    memcpy(set, field->any, policy->words * sizeof *set);
    for (size_t i = 0; i < field->n; i++)
        if (rl_pattern_takes(&field->patterns[i], id, value))
            for (size_t w = 0; w < policy->words; w++)
                set[w] |= field->patterns[i].rules[w];
}

static const uint64_t *set_of(rl_memory *memory, rl_field_id id, tn_str value)
{
    const rl_policy *policy = memory->policy;
    if (value.n > RL_KEY_MAX) {
        uint64_t *scratch = memory->sets[id] + RL_SLOTS * policy->words;
        fill(policy, id, value, scratch);
        return scratch;
    }
    size_t at = hash_of(value) % RL_SLOTS;
    rl_slot *slot = &memory->slots[id][at];
    uint64_t *set = memory->sets[id] + at * policy->words;
    if (slot->n != value.n + 1 || (value.n && memcmp(slot->key, value.p, value.n) != 0)) {
        fill(policy, id, value, set);
        slot->n = (uint32_t)value.n + 1;
        if (value.n)
            memcpy(slot->key, value.p, value.n);
    }
    return set;
}

size_t rl_decide(rl_memory *memory, const tn_claims *claims, const tn_call_target *target)
{
    const rl_policy *policy = memory->policy;
    const uint64_t *sets[RL_FIELDS + 2];
    tn_str values[RL_FIELDS];
    size_t n = 0;
    rl_values_of(claims, target, values);
    sets[n++] = policy->class_sets +
                rl_class_index(claims->present, target->access, target->scope) * policy->words;
    sets[n++] = role_set(policy, claims, target);
    for (uint32_t f = 0; f < RL_FIELDS; f++)
        if (memory->slots[f])
            sets[n++] = set_of(memory, f, values[f]);
    for (size_t w = 0; w < policy->words; w++) {
        uint64_t bits = sets[0][w];
        for (size_t i = 1; i < n; i++)
            bits &= sets[i][w];
        if (bits)
            return w * 64 + (size_t)__builtin_ctzll(bits);
    }
    return RL_NONE;
}
