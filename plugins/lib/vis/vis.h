/* SPDX-License-Identifier: MIT */
/* What visibility drivers share, so that a document means the same to each of them: how values are
 * encoded, and which words a Text has.  Compiled into each driver. */
#ifndef TN_LIB_VIS_H
#define TN_LIB_VIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <tenon/plugin.h>

static inline int64_t tn_vd_get_i64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return (int64_t)v;
}
static inline void tn_vd_set_i64(uint8_t *p, int64_t v)
{
    for (int i = 7; i >= 0; i--, v = (int64_t)((uint64_t)v >> 8))
        p[i] = (uint8_t)v;
}
static inline bool tn_vd_str_is(tn_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

bool tn_vd_value_valid(uint32_t type,
                       tn_blob value);            /* of its size and form; UTF-8 is not looked at */
bool tn_vd_utf8_valid(tn_blob text);              /* and without NUL */
bool tn_vd_list_next(tn_blob *rest, tn_str *out); /* the keywords of a TN_ATTR_KEYWORD_LIST */

/* Words of a Text, in lower case; without spaces between them each ideograph is a word. */
#define TN_VD_WORD_MAX 64
typedef struct tn_vd_words {
    const uint8_t *p, *end;
    size_t n;
    char word[TN_VD_WORD_MAX + 8];
} tn_vd_words;
void tn_vd_words_begin(tn_vd_words *it, tn_blob text);
bool tn_vd_words_next(tn_vd_words *it); /* word, n */

#endif
