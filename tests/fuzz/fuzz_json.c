/* SPDX-License-Identifier: MIT */
/* The JSON of search attributes, any bytes: a value that lies in the arena or a refusal, never anything else; and what
 * was read, written again, reads as the same. */
#include "visibility/private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_scalar(tn_arena *arena, const tn_json *value)
{
    tn_json again;
    switch (value->kind) {
    case TN_JSON_NULL:
    case TN_JSON_BOOL:
        break;
    case TN_JSON_NUMBER:
        TN_ASSERT(value->text.n > 0);
        TN_ASSERT(tn_json_read(arena, value->text, &again) == TN_OK &&
                  again.kind == TN_JSON_NUMBER);
        break;
    case TN_JSON_STRING: {
        TN_ASSERT(tn_utf8_valid((const uint8_t *)value->text.p, value->text.n));
        tn_str quoted = tn_json_quote(arena, value->text);
        TN_ASSERT(quoted.p && quoted.p[quoted.n] == '\0');
        TN_ASSERT(tn_json_read(arena, quoted, &again) == TN_OK);
        TN_ASSERT(again.kind == TN_JSON_STRING && tn_str_eq(again.text, value->text));
        break;
    }
    case TN_JSON_ARRAY:
        TN_ASSERT(false); /* nothing nests */
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tn_arena *arena = tn_arena_create(0);
    tn_json value;
    tn_str text = {(const char *)data, size};
    tn_status status = tn_json_read(arena, text, &value);
    TN_ASSERT(status == TN_OK || status == TN_EINVALID);
    if (status == TN_OK && value.kind == TN_JSON_ARRAY) {
        for (size_t i = 0; i < value.count; i++)
            check_scalar(arena, &value.items[i]);
    } else if (status == TN_OK) {
        check_scalar(arena, &value);
    }
    tn_arena_destroy(arena);

    arena = tn_arena_create(256);
    status = tn_json_read(arena, text, &value);
    TN_ASSERT(status == TN_OK || status == TN_EINVALID || status == TN_ETOOLARGE);
    tn_arena_destroy(arena);
    return 0;
}
