/* SPDX-License-Identifier: MIT */
/* Answers of a decision point (authorizer/http) on any bytes: a verdict whose texts are within their limits, or an error.
 * The same bytes as names of a call must come out of its input as JSON that says them again, or be refused. */
#include <jansson.h>
#include <stdlib.h>

#include "base/base.h"

#include "../../plugins/authorizer/http/private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

tn_status ht_error(tn_error *err, tn_status code, const char *fmt, ...)
{
    err->code = code;
    err->text[0] = fmt[0];
    return code;
}

static void say_again(tn_str text)
{
    tn_role_grant grant = {.ns = text, .roles = 5};
    tn_claims claims = {.struct_size = sizeof claims,
                        .subject = text,
                        .present = 1,
                        .grants = &grant,
                        .n_grants = 1};
    tn_call_target target = {
        .struct_size = sizeof target, .ns = text, .api_name = text, .task_queue = text};
    const ht_options options = {.workflow_id = true};
    ht_text input = {0};
    ht_input(&input, &options, &claims, &target);
    TN_ASSERT(!input.why == tn_utf8_valid((const uint8_t *)text.p, text.n) ||
              input.n > HT_INPUT_MAX / 2);
    json_t *root =
        input.why ? NULL
                  : json_loadb(input.p, input.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    TN_ASSERT(input.why || root);
    const json_t *in = json_object_get(root, "input"), *ns = json_object_get(in, "namespace");
    const json_t *subject = json_object_get(json_object_get(in, "caller"), "subject");
    TN_ASSERT(!root || (json_string_length(ns) == text.n &&
                        memcmp(json_string_value(ns), text.p, text.n) == 0));
    TN_ASSERT(!root || json_equal(ns, subject));
    json_decref(root);
    free(input.p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tn_error err = {0};
    ht_verdict *verdict = ht_answer(size ? (const char *)data : "", size, &err);
    TN_ASSERT(!verdict == (err.code != 0));
    if (verdict) {
        TN_ASSERT(verdict->reason_n <= HT_REASON_MAX && verdict->rule_n <= HT_RULE_MAX);
        TN_ASSERT(tn_utf8_valid((const uint8_t *)verdict->text, verdict->reason_n));
        TN_ASSERT(
            tn_utf8_valid((const uint8_t *)verdict->text + verdict->reason_n, verdict->rule_n));
    }
    free(verdict);
    say_again((tn_str){size ? (const char *)data : "", size});
    return 0;
}
