/* SPDX-License-Identifier: MIT */
/* Paths on any bytes against every pattern of the API; and the bytes as a pattern. */
#include <stdlib.h>

#include "http/private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static http_pattern **patterns;
    tn_arena *arena = tn_arena_create(1u << 20);
    char *text = tn_arena_alloc(arena, size + 2);
    http_pattern *own;
    http_path path;

    if (!patterns) {
        patterns = tn_xcalloc(tn_http_binding_count, sizeof(patterns[0]));
        for (size_t i = 0; i < tn_http_binding_count; i++)
            patterns[i] = http_pattern_compile(tn_http_binding_table[i].pattern);
    }
    if (text) {
        text[0] = '/';
        memcpy(text + 1, data, size);
        text[size + 1] = '\0';
        if (http_path_cut((tn_str){text, size + 1}, &path)) {
            for (size_t i = 0; i < tn_http_binding_count; i++) {
                tn_http_pair params[HTTP_PARAMS_MAX];
                size_t n = 0;
                if (http_pattern_match(patterns[i], &path, arena, params, &n) != 1)
                    continue;
                for (size_t k = 0; k < n; k++)
                    TN_ASSERT(tn_utf8_valid((const uint8_t *)params[k].value.p, params[k].value.n));
            }
        }
        own = http_pattern_compile(text);
        free(own);
    }
    tn_arena_destroy(arena);
    return 0;
}
