/* SPDX-License-Identifier: MIT */
/* What the decision point answers: {"result": true}, or {"result": {"allow": true, "reason": "...", "rule": "..."}}.
 * Anything else is no decision, and an answer without "result" is what OPA says of a policy that is not there. */
#include "private.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static tn_str text_of(const json_t *object, const char *name, size_t max)
{
    const json_t *value = json_object_get(object, name);
    tn_str text = {json_string_value(value), json_string_length(value)};
    if (text.n > max) /* not within a character */
        for (text.n = max; text.n && ((unsigned char)text.p[text.n] & 0xc0) == 0x80;)
            text.n--;
    return text;
}

static ht_verdict *make(bool allow, tn_str reason, tn_str rule)
{
    ht_verdict *v = malloc(sizeof *v + reason.n + rule.n + 1);
    if (!v)
        return NULL;
    *v = (ht_verdict){.allow = allow, .reason_n = reason.n, .rule_n = rule.n};
    if (reason.n)
        memcpy(v->text, reason.p, reason.n);
    if (rule.n)
        memcpy(v->text + reason.n, rule.p, rule.n);
    return v;
}

ht_verdict *ht_answer(const char *text, size_t n, tn_error *err)
{
    json_error_t why;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    const json_t *result = json_object_get(root, "result"), *allow = result;
    ht_verdict *verdict = NULL;
    if (json_is_object(result))
        allow = json_object_get(result, "allow");
    if (!json_is_object(root)) /* nothing of it is repeated: it may be anybody's text */
        ht_error(err, TN_EUNAVAILABLE, "the decision point's answer is no JSON object");
    else if (!result)
        ht_error(err, TN_EUNAVAILABLE,
                 "the decision point has no result: is the path of url that of a policy?");
    else if (!json_is_boolean(allow))
        ht_error(err, TN_EUNAVAILABLE,
                 "the decision point's result is neither true nor false, nor has such an allow");
    else if (!(verdict = make(json_is_true(allow), text_of(result, "reason", HT_REASON_MAX),
                              text_of(result, "rule", HT_RULE_MAX))))
        ht_error(err, TN_EUNAVAILABLE, "out of memory");
    json_decref(root);
    return verdict;
}
