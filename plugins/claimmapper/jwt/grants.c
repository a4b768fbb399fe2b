/* SPDX-License-Identifier: MIT */
/* Permissions to roles: an array of "<namespace>:<role>", or what permissionsRegex takes apart.  An entry that is
 * neither gives nothing, as in the reference; so does an unknown role. */
#include "private.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SYSTEM_NAMESPACE "temporal-system"
#define PERMISSIONS_MAX 4096u
#define MATCH_STEPS_MAX 10000u /* of the pattern; a token must not keep a loop busy */

static uint32_t role_of(tn_str word)
{
    static const struct {
        const char *name;
        uint32_t role;
    } roles[] = {{"read", TN_ROLE_READER},
                 {"write", TN_ROLE_WRITER},
                 {"admin", TN_ROLE_ADMIN},
                 {"worker", TN_ROLE_WORKER}};
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (word.n == strlen(roles[i].name) && strncasecmp(word.p, roles[i].name, word.n) == 0)
            return roles[i].role;
    return 0;
}

static bool split_by_colon(tn_str text, tn_str *ns, tn_str *role)
{
    const char *colon = memchr(text.p, ':', text.n);
    if (!colon)
        return false;
    *ns = (tn_str){text.p, (size_t)(colon - text.p)};
    *role = (tn_str){colon + 1, text.n - ns->n - 1};
    return true;
}

static bool split_by_regex(const jw_options *options, pcre2_match_data *match,
                           pcre2_match_context *limits, tn_str text, tn_str *ns, tn_str *role)
{
    int rc = pcre2_match(options->regex, (PCRE2_SPTR)text.p, text.n, 0, 0, match, limits);
    if (rc <= 0)
        return false;
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(match);
    tn_str *out[] = {ns, role};
    uint32_t groups[] = {options->ns_group, options->role_group};
    for (int i = 0; i < 2; i++) {
        PCRE2_SIZE from = at[2 * groups[i]], to = at[2 * groups[i] + 1];
        bool set = groups[i] < (uint32_t)rc && from != PCRE2_UNSET && from <= to;
        *out[i] = set ? (tn_str){text.p + from, to - from} : (tn_str){text.p, 0};
    }
    return true;
}

static void grant(jw_claims *claims, tn_str ns, uint32_t role, char **text)
{
    if (ns.n == strlen(SYSTEM_NAMESPACE) && memcmp(ns.p, SYSTEM_NAMESPACE, ns.n) == 0) {
        claims->system_roles |= role;
        return;
    }
    for (size_t i = 0; i < claims->n_grants; i++)
        if (claims->grants[i].ns.n == ns.n && memcmp(claims->grants[i].ns.p, ns.p, ns.n) == 0) {
            claims->grants[i].roles |= role;
            return;
        }
    memcpy(*text, ns.p, ns.n);
    claims->grants[claims->n_grants++] = (tn_role_grant){.ns = {*text, ns.n}, .roles = role};
    *text += ns.n;
}

jw_claims *jw_claims_make(const jw_options *options, tn_str subject, const json_t *permissions)
{
    size_t n = json_array_size(permissions), bytes = subject.n; /* 0 of what is no array */
    if (n > PERMISSIONS_MAX)
        n = PERMISSIONS_MAX;
    for (size_t i = 0; i < n; i++)
        bytes += json_string_length(json_array_get(permissions, i));
    jw_claims *claims = calloc(1, sizeof *claims + n * sizeof *claims->grants + bytes + 1);
    pcre2_match_data *match =
        options->regex ? pcre2_match_data_create_from_pattern(options->regex, NULL) : NULL;
    pcre2_match_context *limits = options->regex ? pcre2_match_context_create(NULL) : NULL;
    if (!claims || (options->regex && (!match || !limits))) {
        free(claims);
        claims = NULL;
        goto out;
    }
    if (limits) {
        pcre2_set_match_limit(limits, MATCH_STEPS_MAX);
        pcre2_set_depth_limit(limits, MATCH_STEPS_MAX);
    }
    claims->grants = (tn_role_grant *)(claims + 1);
    char *text = (char *)(claims->grants + n);
    memcpy(text, subject.p, subject.n);
    claims->subject = (tn_str){text, subject.n};
    text += subject.n;
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(permissions, i);
        tn_str word = {json_string_value(entry), json_string_length(entry)}, ns, role;
        if (!json_is_string(entry))
            continue;
        if (options->regex ? split_by_regex(options, match, limits, word, &ns, &role)
                           : split_by_colon(word, &ns, &role))
            grant(claims, ns, role_of(role), &text);
    }
out:
    pcre2_match_data_free(match);
    pcre2_match_context_free(limits);
    return claims;
}
