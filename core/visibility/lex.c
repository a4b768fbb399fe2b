/* SPDX-License-Identifier: MIT */
/* Splits the text of a list filter into tokens.  Strings stand in single or double quotes, names may
 * stand in backticks; words of the grammar are known in any case. */
#include "visibility/private.h"

typedef struct reserved_word {
    const char *text;
    tn_lex_word word;
} reserved_word;

/* Those that the grammar uses, and those of SQL that a name can't be without backticks. */
static const reserved_word reserved[] = {
    {"and", TN_WORD_AND},         {"or", TN_WORD_OR},
    {"not", TN_WORD_NOT},         {"in", TN_WORD_IN},
    {"between", TN_WORD_BETWEEN}, {"is", TN_WORD_IS},
    {"null", TN_WORD_NULL},       {"true", TN_WORD_TRUE},
    {"false", TN_WORD_FALSE},     {"starts_with", TN_WORD_STARTS_WITH},
    {"like", TN_WORD_LIKE},       {"regexp", TN_WORD_REGEXP},
    {"rlike", TN_WORD_REGEXP},    {"order", TN_WORD_ORDER},
    {"group", TN_WORD_GROUP},     {"by", TN_WORD_BY},
    {"asc", TN_WORD_ASC},         {"desc", TN_WORD_DESC},
    {"limit", TN_WORD_LIMIT},     {"select", TN_WORD_OTHER},
    {"from", TN_WORD_OTHER},      {"where", TN_WORD_OTHER},
    {"union", TN_WORD_OTHER},     {"having", TN_WORD_OTHER},
    {"case", TN_WORD_OTHER},      {"exists", TN_WORD_OTHER},
    {"join", TN_WORD_OTHER},      {"as", TN_WORD_OTHER},
    {"on", TN_WORD_OTHER},        {"into", TN_WORD_OTHER},
    {"set", TN_WORD_OTHER},       {"values", TN_WORD_OTHER},
};

static int peek(const tn_lexer *lexer, size_t ahead)
{
    size_t at = lexer->at + ahead;
    return at < lexer->text.n ? (unsigned char)lexer->text.p[at] : -1;
}

static bool is_digit(int c) { return c >= '0' && c <= '9'; }

static bool begins_name(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}

static bool continues_name(int c) { return begins_name(c) || is_digit(c) || c == '.' || c == '@'; }

static void skip_blank(tn_lexer *lexer)
{
    for (;;) {
        int c = peek(lexer, 0);
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
            lexer->at++;
        } else if (c == '-' && peek(lexer, 1) == '-') {
            while (peek(lexer, 0) >= 0 && peek(lexer, 0) != '\n')
                lexer->at++;
        } else if (c == '/' && peek(lexer, 1) == '*') {
            size_t at = lexer->at + 2;
            while (at + 1 < lexer->text.n &&
                   !(lexer->text.p[at] == '*' && lexer->text.p[at + 1] == '/'))
                at++;
            if (at + 1 >= lexer->text.n)
                return; /* unclosed: the slash will be refused */
            lexer->at = at + 2;
        } else {
            return;
        }
    }
}

static char unescape(char c)
{
    switch (c) {
    case '0':
        return '\0';
    case 'b':
        return '\b';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'Z':
        return 26;
    default:
        return c;
    }
}

/* Offset of the quote that closes the text beginning at `begin`, or the size of the text. */
static size_t find_close(tn_str text, size_t begin, char quote)
{
    size_t at = begin;
    for (; at < text.n; at++) {
        if (text.p[at] == '\\' && quote != '`')
            at++;
        else if (text.p[at] == quote && at + 1 < text.n && text.p[at + 1] == quote)
            at++;
        else if (text.p[at] == quote)
            return at;
    }
    return text.n;
}

/* At an opening quote.  A doubled quote stands for itself; a backslash escapes (not in backticks). */
static void read_quoted(tn_lexer *lexer, char quote, tn_lex_token *out)
{
    tn_str all = lexer->text;
    size_t begin = lexer->at + 1, end = find_close(all, begin, quote), n = 0;
    lexer->at = end < all.n ? end + 1 : all.n;
    out->kind = TN_LEX_BAD;
    out->text = (tn_str){all.p + begin, all.n - begin};
    if (end >= all.n)
        return;
    char *text = tn_arena_alloc(lexer->arena, end - begin + 1);
    if (!text) {
        lexer->out_of_memory = true;
        return;
    }
    for (size_t i = begin; i < end; i++) {
        char c = all.p[i];
        if (c == quote)
            i++;
        else if (c == '\\' && quote != '`')
            c = unescape(all.p[++i]);
        text[n++] = c;
    }
    out->kind = quote == '`' ? TN_LEX_NAME : TN_LEX_STRING;
    out->text = (tn_str){text, n};
}

static void read_name(tn_lexer *lexer, tn_lex_token *out)
{
    size_t begin = lexer->at;
    while (continues_name(peek(lexer, 0)))
        lexer->at++;
    out->kind = TN_LEX_NAME;
    out->text = (tn_str){lexer->text.p + begin, lexer->at - begin};
    for (size_t i = 0; i < TN_COUNT_OF(reserved); i++) {
        if (tn_str_caseeq(out->text, tn_str_from(reserved[i].text))) {
            out->kind = TN_LEX_WORD;
            out->word = reserved[i].word;
            return;
        }
    }
}

static void read_number(tn_lexer *lexer, tn_lex_token *out)
{
    size_t begin = lexer->at;
    out->kind = TN_LEX_NUMBER;
    if (peek(lexer, 0) == '0' && (peek(lexer, 1) == 'x' || peek(lexer, 1) == 'X')) {
        lexer->at += 2;
        while (continues_name(peek(lexer, 0)))
            lexer->at++;
    } else {
        while (is_digit(peek(lexer, 0)))
            lexer->at++;
        if (peek(lexer, 0) == '.') {
            lexer->at++;
            while (is_digit(peek(lexer, 0)))
                lexer->at++;
        }
        int c = peek(lexer, 0), d = peek(lexer, 1);
        if ((c == 'e' || c == 'E') &&
            (is_digit(d) || ((d == '+' || d == '-') && is_digit(peek(lexer, 2))))) {
            lexer->at += 2;
            while (is_digit(peek(lexer, 0)))
                lexer->at++;
        }
        if (begins_name(peek(lexer, 0)))
            out->kind = TN_LEX_BAD;
    }
    out->text = (tn_str){lexer->text.p + begin, lexer->at - begin};
}

static void read_punct(tn_lexer *lexer, tn_lex_token *out)
{
    static const struct {
        char text[4];
        uint8_t size;
        tn_lex_punct punct;
    } known[] = {
        {"<=>", 3, TN_PUNCT_NULL_SAFE_EQ},
        {"<=", 2, TN_PUNCT_LE},
        {">=", 2, TN_PUNCT_GE},
        {"<>", 2, TN_PUNCT_NE},
        {"!=", 2, TN_PUNCT_NE},
        {"=", 1, TN_PUNCT_EQ},
        {"<", 1, TN_PUNCT_LT},
        {">", 1, TN_PUNCT_GT},
        {"(", 1, TN_PUNCT_OPEN},
        {")", 1, TN_PUNCT_CLOSE},
        {",", 1, TN_PUNCT_COMMA},
        {"+", 1, TN_PUNCT_PLUS},
        {"-", 1, TN_PUNCT_MINUS},
        {"!", 1, TN_PUNCT_BANG},
        {"*", 1, TN_PUNCT_ARITHMETIC},
        {"/", 1, TN_PUNCT_ARITHMETIC},
        {"%", 1, TN_PUNCT_ARITHMETIC},
    };
    tn_str rest = {lexer->text.p + lexer->at, lexer->text.n - lexer->at};
    if (tn_str_starts(rest, TN_STR("&&")) || tn_str_starts(rest, TN_STR("||"))) {
        out->kind = TN_LEX_WORD;
        out->word = rest.p[0] == '&' ? TN_WORD_AND : TN_WORD_OR;
        lexer->at += 2;
        return;
    }
    for (size_t i = 0; i < TN_COUNT_OF(known); i++) {
        if (tn_str_starts(rest, (tn_str){known[i].text, known[i].size})) {
            out->kind = TN_LEX_PUNCT;
            out->punct = known[i].punct;
            lexer->at += known[i].size;
            return;
        }
    }
    out->kind = TN_LEX_BAD;
    out->text = (tn_str){rest.p, 1};
    lexer->at++;
}

void tn_lex_next(tn_lexer *lexer, tn_lex_token *out)
{
    memset(out, 0, sizeof(*out));
    skip_blank(lexer);
    size_t begin = lexer->at;
    int c = peek(lexer, 0);
    if (c < 0) {
        out->kind = TN_LEX_END;
        lexer->at = lexer->text.n;
    } else if (c == '\'' || c == '"' || c == '`') {
        read_quoted(lexer, (char)c, out);
    } else if (is_digit(c) || (c == '.' && is_digit(peek(lexer, 1)))) {
        read_number(lexer, out);
    } else if (begins_name(c)) {
        read_name(lexer, out);
    } else {
        read_punct(lexer, out);
    }
    out->end = lexer->at;
    out->source = (tn_str){lexer->text.p + begin, lexer->at - begin};
}
