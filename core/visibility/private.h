/* SPDX-License-Identifier: MIT */
/* What the files of the visibility room share: the lexer of the list filter, the reader of the small
 * JSON that search attributes hold, and value encoders. */
#ifndef TN_VISIBILITY_PRIVATE_H
#define TN_VISIBILITY_PRIVATE_H

#include "visibility/visibility.h"

/* ---- lexer ------------------------------------------------------------------------------------ */

typedef enum tn_lex_kind {
    TN_LEX_END,
    TN_LEX_NAME,   /* text: the name without quotes */
    TN_LEX_WORD,   /* a reserved word; word says which */
    TN_LEX_STRING, /* text: unescaped */
    TN_LEX_NUMBER, /* text: as written */
    TN_LEX_PUNCT,  /* punct says which */
    TN_LEX_BAD,    /* an unclosed string or a byte that begins nothing */
} tn_lex_kind;

typedef enum tn_lex_word {
    TN_WORD_AND,
    TN_WORD_OR,
    TN_WORD_NOT,
    TN_WORD_IN,
    TN_WORD_BETWEEN,
    TN_WORD_IS,
    TN_WORD_NULL,
    TN_WORD_TRUE,
    TN_WORD_FALSE,
    TN_WORD_STARTS_WITH,
    TN_WORD_LIKE,
    TN_WORD_REGEXP,
    TN_WORD_ORDER,
    TN_WORD_GROUP,
    TN_WORD_BY,
    TN_WORD_ASC,
    TN_WORD_DESC,
    TN_WORD_LIMIT,
    TN_WORD_OTHER,
} tn_lex_word;

typedef enum tn_lex_punct {
    TN_PUNCT_OPEN,
    TN_PUNCT_CLOSE,
    TN_PUNCT_COMMA,
    TN_PUNCT_EQ,
    TN_PUNCT_NE,
    TN_PUNCT_LT,
    TN_PUNCT_LE,
    TN_PUNCT_GT,
    TN_PUNCT_GE,
    TN_PUNCT_NULL_SAFE_EQ,
    TN_PUNCT_PLUS,
    TN_PUNCT_MINUS,
    TN_PUNCT_BANG,
    TN_PUNCT_ARITHMETIC,
} tn_lex_punct;

typedef struct tn_lex_token {
    tn_lex_kind kind;
    tn_lex_word word;
    tn_lex_punct punct;
    tn_str text;
    tn_str source; /* as it stands in the query, for messages */
    size_t end;    /* offset after the token */
} tn_lex_token;

typedef struct tn_lexer {
    tn_arena *arena;
    tn_str text;
    size_t at;
    bool out_of_memory;
} tn_lexer;

void tn_lex_next(tn_lexer *lexer, tn_lex_token *out);

/* The key that page tokens are sealed with; set before the first page. */
void tn_vis_page_key(const uint8_t key[16]);

/* ---- values ----------------------------------------------------------------------------------- */

/* Each gives a blob in the arena with p NULL when that is full. */
tn_blob tn_vis_encode_i64(tn_arena *arena, int64_t v);
tn_blob tn_vis_encode_f64(tn_arena *arena, double v);
tn_blob tn_vis_encode_bool(tn_arena *arena, bool v);

/* "1h30m", "2d", "90" (ns) or "hh:mm:ss". */
bool tn_vis_parse_execution_duration(tn_str text, int64_t *out_ns);
/* True when the string holds a word to match a Text attribute by. */
bool tn_vis_has_word(tn_str text);

/* ---- JSON of search attributes ---------------------------------------------------------------- */

typedef enum tn_json_kind {
    TN_JSON_NULL,
    TN_JSON_BOOL,
    TN_JSON_NUMBER,
    TN_JSON_STRING,
    TN_JSON_ARRAY,
} tn_json_kind;

/* A scalar, or an array of scalars. */
typedef struct tn_json {
    tn_json_kind kind;
    bool boolean;
    tn_str text; /* number: as written; string: unescaped UTF-8 */
    const struct tn_json *items;
    size_t count;
} tn_json;

/* TN_EINVALID: not such JSON, or not UTF-8; TN_ETOOLARGE: the arena is full. */
tn_status tn_json_read(tn_arena *arena, tn_str text, tn_json *out) TN_WARN_UNUSED;
/* A JSON string literal; p NULL when the arena is full. */
tn_str tn_json_quote(tn_arena *arena, tn_str s);

#endif
