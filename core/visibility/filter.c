/* SPDX-License-Identifier: MIT */
/* The parser of the list filter: tokens to the postfix tree that drivers translate.  Operators wait on
 * a stack of their own, so nesting costs no recursion.  A mistake in the grammar counts before a
 * mistake in meaning, wherever they stand; so meaning is noted and the parse goes on. */
#include <math.h>

#include "visibility/filter.h"

#define STACK_MAX (TN_VIS_DEPTH_MAX * 3 + 8)

typedef enum pending_kind { PENDING_PAREN, PENDING_NOT, PENDING_AND, PENDING_OR } pending_kind;

typedef struct pending {
    pending_kind kind;
    uint32_t arity;
} pending;

typedef struct parser {
    tn_filter_build b;
    tn_lexer lexer;
    tn_lex_token token;
    size_t prefix; /* what the reference puts before the text, for positions */
    size_t tokens;
    pending stack[STACK_MAX];
    size_t depth;     /* entries on the stack */
    uint32_t nesting; /* parentheses and NOTs among them */
    const tn_fault *syntax;
    bool limit_seen;
} parser;

/* ---- tokens and faults ------------------------------------------------------------------------ */

static bool syntax_error(parser *p)
{
    size_t position = p->prefix + p->token.end + 1;
    tn_str near = p->token.kind == TN_LEX_PUNCT ? (tn_str){NULL, 0}
                  : p->token.text.n             ? p->token.text
                                                : p->token.source;
    if (p->syntax)
        return false;
    if (near.n > 200)
        near.n = 200;
    if (near.n)
        p->syntax = tn_fault_make(
            p->b.arena, TN_GRPC_INVALID_ARGUMENT,
            "invalid query: malformed SQL query: syntax error at position %zu near '" TN_STR_FMT
            "'",
            position, TN_STR_ARG(near));
    else
        p->syntax = tn_fault_make(
            p->b.arena, TN_GRPC_INVALID_ARGUMENT,
            "invalid query: malformed SQL query: syntax error at position %zu", position);
    return false;
}

static bool too_complex(parser *p, const char *what)
{
    if (!p->syntax)
        p->syntax = tn_fault_make(p->b.arena, TN_GRPC_INVALID_ARGUMENT,
                                  "invalid query: malformed SQL query: %s", what);
    return false;
}

static bool advance(parser *p)
{
    tn_lex_next(&p->lexer, &p->token);
    if (p->lexer.out_of_memory)
        p->b.out_of_memory = true;
    if (++p->tokens > TN_VIS_TOKENS_MAX)
        return too_complex(p, "too many words");
    return p->token.kind == TN_LEX_BAD ? syntax_error(p) : true;
}

static bool at_word(const parser *p, tn_lex_word word)
{
    return p->token.kind == TN_LEX_WORD && p->token.word == word;
}

static bool at_punct(const parser *p, tn_lex_punct punct)
{
    return p->token.kind == TN_LEX_PUNCT && p->token.punct == punct;
}

/* ---- values ----------------------------------------------------------------------------------- */

static void number_literal(tn_lex_token *token, bool negative, tn_filter_value *out)
{
    tn_str text = token->text;
    char digits[32];
    if (negative && text.n + 1 < sizeof(digits)) { /* INT64_MIN has no positive twin */
        digits[0] = '-';
        memcpy(digits + 1, text.p, text.n);
        text = (tn_str){digits, text.n + 1};
    }
    out->kind = TN_FILTER_INT;
    if (tn_parse_i64(text, &out->i))
        return;
    out->kind = TN_FILTER_FLOAT;
    if (!tn_parse_f64(token->text, &out->f) || !isfinite(out->f))
        out->kind = TN_FILTER_UNREADABLE;
    else if (negative)
        out->f = -out->f;
}

/* One value; leaves the parser after it. */
static bool parse_value(parser *p, tn_filter_value *out)
{
    memset(out, 0, sizeof(*out));
    bool negative = at_punct(p, TN_PUNCT_MINUS), sign = negative || at_punct(p, TN_PUNCT_PLUS);
    if (sign && !advance(p))
        return false;
    out->text = p->token.kind == TN_LEX_STRING ? p->token.text : p->token.source;
    if (p->token.kind == TN_LEX_NUMBER) {
        number_literal(&p->token, negative, out);
    } else if (sign) {
        return syntax_error(p);
    } else if (p->token.kind == TN_LEX_STRING) {
        out->kind = TN_FILTER_STRING;
    } else if (at_word(p, TN_WORD_TRUE) || at_word(p, TN_WORD_FALSE)) {
        out->kind = TN_FILTER_BOOL;
        out->b = at_word(p, TN_WORD_TRUE);
    } else if (at_word(p, TN_WORD_NULL)) {
        out->kind = TN_FILTER_NULL;
    } else if (p->token.kind == TN_LEX_NAME) {
        out->kind = TN_FILTER_COLUMN;
    } else {
        return syntax_error(p);
    }
    if (!advance(p))
        return false;
    if (out->kind == TN_FILTER_COLUMN && at_punct(p, TN_PUNCT_OPEN))
        return too_complex(p, "a function can't be a value");
    return true;
}

/* "(a, b, c)"; leaves the parser after the parenthesis. */
static bool parse_list(parser *p, tn_filter_value **out, size_t *out_count)
{
    tn_filter_value *values = NULL;
    size_t count = 0, cap = 0;
    if (!at_punct(p, TN_PUNCT_OPEN))
        return syntax_error(p);
    do {
        if (!advance(p))
            return false;
        if (count == cap) {
            size_t more = cap ? cap * 2 : 8;
            tn_filter_value *grown = TN_NEW_ARRAY(p->b.arena, tn_filter_value, more);
            if (!grown) {
                p->b.out_of_memory = true;
                return false;
            }
            if (count)
                memcpy(grown, values, count * sizeof(*values));
            values = grown, cap = more;
        }
        if (!parse_value(p, &values[count++]))
            return false;
    } while (at_punct(p, TN_PUNCT_COMMA));
    if (!at_punct(p, TN_PUNCT_CLOSE))
        return syntax_error(p);
    *out = values, *out_count = count;
    return advance(p);
}

/* ---- comparisons ------------------------------------------------------------------------------ */

static bool parse_between(parser *p, tn_str name, bool negated)
{
    tn_filter_value ends[2];
    if (!advance(p) || !parse_value(p, &ends[0]))
        return false;
    if (!at_word(p, TN_WORD_AND))
        return syntax_error(p);
    if (!advance(p) || !parse_value(p, &ends[1]))
        return false;
    tn_filter_between(&p->b, name, negated, ends);
    return true;
}

static bool parse_is(parser *p, tn_str name)
{
    bool negated = false;
    if (!advance(p))
        return false;
    if (at_word(p, TN_WORD_NOT)) {
        negated = true;
        if (!advance(p))
            return false;
    }
    if (at_word(p, TN_WORD_NULL))
        tn_filter_is_null(&p->b, name, negated);
    else if (at_word(p, TN_WORD_TRUE) || at_word(p, TN_WORD_FALSE))
        tn_filter_mistake(&p->b,
                          "invalid expression: 'IS' operator can only be used as 'IS NULL' or "
                          "'IS NOT NULL'");
    else
        return syntax_error(p);
    return advance(p);
}

/* The comparison written as a word, with or without NOT before it. */
static bool parse_word_operator(parser *p, tn_str name)
{
    bool negated = at_word(p, TN_WORD_NOT);
    if (negated && !advance(p))
        return false;
    if (p->token.kind != TN_LEX_WORD)
        return syntax_error(p);
    tn_filter_value one, *values = &one;
    size_t count = 1;
    tn_filter_op op;
    switch (p->token.word) {
    case TN_WORD_BETWEEN:
        return parse_between(p, name, negated);
    case TN_WORD_IN:
        if (!advance(p) || !parse_list(p, &values, &count))
            return false;
        tn_filter_compare(&p->b, name, negated ? TN_FILTER_NOT_IN : TN_FILTER_IN, values, count);
        return true;
    case TN_WORD_STARTS_WITH:
        op = negated ? TN_FILTER_NOT_STARTS : TN_FILTER_STARTS;
        break;
    case TN_WORD_LIKE:
        op = negated ? TN_FILTER_NOT_LIKE : TN_FILTER_LIKE;
        break;
    case TN_WORD_REGEXP:
        op = negated ? TN_FILTER_NOT_REGEXP : TN_FILTER_REGEXP;
        break;
    default:
        return syntax_error(p);
    }
    if (!advance(p) || !parse_value(p, &one))
        return false;
    tn_filter_compare(&p->b, name, op, values, count);
    return true;
}

static bool parse_symbol_operator(parser *p, tn_str name)
{
    tn_filter_op op;
    switch (p->token.punct) {
    case TN_PUNCT_EQ:
        op = TN_FILTER_EQ;
        break;
    case TN_PUNCT_NE:
        op = TN_FILTER_NE;
        break;
    case TN_PUNCT_LT:
        op = TN_FILTER_LT;
        break;
    case TN_PUNCT_LE:
        op = TN_FILTER_LE;
        break;
    case TN_PUNCT_GT:
        op = TN_FILTER_GT;
        break;
    case TN_PUNCT_GE:
        op = TN_FILTER_GE;
        break;
    case TN_PUNCT_NULL_SAFE_EQ:
        op = TN_FILTER_NULL_SAFE_EQ;
        break;
    case TN_PUNCT_CLOSE:
    case TN_PUNCT_COMMA:
        tn_filter_mistake(&p->b, "invalid expression: incomplete expression");
        return true;
    case TN_PUNCT_PLUS:
    case TN_PUNCT_MINUS:
    case TN_PUNCT_ARITHMETIC:
        return too_complex(p, "arithmetic is not supported");
    case TN_PUNCT_OPEN:
        return too_complex(p, "functions are not supported");
    default:
        return syntax_error(p);
    }
    tn_filter_value one, *values = &one;
    size_t count = 1;
    if (!advance(p))
        return false;
    if (at_punct(p, TN_PUNCT_OPEN)) {
        if (!parse_list(p, &values, &count))
            return false;
        tn_filter_mistake(&p->b, "invalid expression: unexpected value type: a list");
        return true;
    }
    if (!parse_value(p, &one))
        return false;
    tn_filter_compare(&p->b, name, op, values, count);
    return true;
}

/* A name and what is asked of it. */
static bool parse_comparison(parser *p)
{
    bool is_name = p->token.kind == TN_LEX_NAME;
    tn_str name = p->token.text;
    if (!is_name) {
        tn_filter_value value;
        if (!parse_value(p, &value))
            return false;
        tn_filter_mistake(&p->b, p->token.kind == TN_LEX_PUNCT && p->token.punct >= TN_PUNCT_EQ
                                     ? "invalid expression: must be a column name but was a value"
                                     : "operation is not supported: a value alone is no condition");
    } else if (!advance(p)) {
        return false;
    }
    if (at_word(p, TN_WORD_IS))
        return parse_is(p, name);
    if (at_word(p, TN_WORD_NOT) || at_word(p, TN_WORD_IN) || at_word(p, TN_WORD_BETWEEN) ||
        at_word(p, TN_WORD_STARTS_WITH) || at_word(p, TN_WORD_LIKE) || at_word(p, TN_WORD_REGEXP))
        return parse_word_operator(p, name);
    if (p->token.kind == TN_LEX_PUNCT)
        return parse_symbol_operator(p, name);
    if (p->token.kind == TN_LEX_NAME || p->token.kind == TN_LEX_STRING ||
        p->token.kind == TN_LEX_NUMBER)
        return syntax_error(p);
    tn_filter_mistake(&p->b, "invalid expression: incomplete expression");
    return true;
}

/* ---- expressions ------------------------------------------------------------------------------ */

static bool push(parser *p, pending_kind kind, uint32_t arity)
{
    if (kind == PENDING_PAREN || kind == PENDING_NOT) {
        if (++p->nesting > TN_VIS_DEPTH_MAX)
            return too_complex(p, "nested too deep");
    }
    TN_ASSERT(p->depth < STACK_MAX);
    p->stack[p->depth++] = (pending){kind, arity};
    return true;
}

static void pop(parser *p)
{
    pending top = p->stack[--p->depth];
    switch (top.kind) {
    case PENDING_PAREN:
        p->nesting--;
        break;
    case PENDING_NOT:
        p->nesting--;
        tn_filter_logic(&p->b, TN_VIS_NOT, 1);
        break;
    case PENDING_AND:
        tn_filter_logic(&p->b, TN_VIS_AND, top.arity);
        break;
    case PENDING_OR:
        tn_filter_logic(&p->b, TN_VIS_OR, top.arity);
        break;
    }
}

static bool top_is(const parser *p, pending_kind kind)
{
    return p->depth && p->stack[p->depth - 1].kind == kind;
}

/* A binary operator stands before us and an operand behind: what binds tighter is settled. */
static bool join(parser *p, pending_kind kind)
{
    if (kind == PENDING_OR && top_is(p, PENDING_AND))
        pop(p);
    if (top_is(p, kind)) {
        p->stack[p->depth - 1].arity++;
        return true;
    }
    return push(p, kind, 2);
}

static bool parse_operand(parser *p)
{
    for (;;) {
        if (at_word(p, TN_WORD_NOT) || at_punct(p, TN_PUNCT_BANG)) {
            if (!push(p, PENDING_NOT, 1) || !advance(p))
                return false;
        } else if (at_punct(p, TN_PUNCT_OPEN)) {
            if (!push(p, PENDING_PAREN, 0) || !advance(p))
                return false;
        } else {
            return parse_comparison(p);
        }
    }
}

static bool parse_expression(parser *p)
{
    for (;;) {
        if (!parse_operand(p))
            return false;
        for (;;) { /* an operand is complete */
            while (top_is(p, PENDING_NOT))
                pop(p);
            if (!at_punct(p, TN_PUNCT_CLOSE))
                break;
            while (p->depth && !top_is(p, PENDING_PAREN))
                pop(p);
            if (!p->depth)
                return syntax_error(p);
            pop(p);
            if (!advance(p))
                return false;
        }
        if (!at_word(p, TN_WORD_AND) && !at_word(p, TN_WORD_OR))
            break;
        if (!join(p, at_word(p, TN_WORD_AND) ? PENDING_AND : PENDING_OR) || !advance(p))
            return false;
    }
    while (p->depth) {
        if (top_is(p, PENDING_PAREN))
            return syntax_error(p);
        pop(p);
    }
    return true;
}

/* ---- clauses ---------------------------------------------------------------------------------- */

static bool parse_names(parser *p, bool ordering)
{
    if (!advance(p))
        return false;
    if (!at_word(p, TN_WORD_BY))
        return syntax_error(p);
    do {
        if (!advance(p))
            return false;
        if (p->token.kind != TN_LEX_NAME)
            return syntax_error(p);
        tn_str name = p->token.text;
        if (!advance(p))
            return false;
        bool descending = ordering && at_word(p, TN_WORD_DESC);
        if (ordering && (descending || at_word(p, TN_WORD_ASC)) && !advance(p))
            return false;
        if (ordering)
            tn_filter_order(&p->b, name, descending);
        else
            tn_filter_group(&p->b, name);
    } while (at_punct(p, TN_PUNCT_COMMA));
    return true;
}

static bool parse_query(parser *p)
{
    if (!advance(p))
        return false;
    if (p->token.kind != TN_LEX_END && !at_word(p, TN_WORD_ORDER) && !at_word(p, TN_WORD_GROUP)) {
        if (!parse_expression(p))
            return false;
        p->b.has_filter = true;
    }
    if (at_word(p, TN_WORD_GROUP) && !parse_names(p, false))
        return false;
    if (at_word(p, TN_WORD_ORDER) && !parse_names(p, true))
        return false;
    if (at_word(p, TN_WORD_LIMIT)) {
        p->limit_seen = true;
        tn_filter_value value;
        if (!advance(p) || !parse_value(p, &value))
            return false;
    }
    return p->token.kind == TN_LEX_END ? true : syntax_error(p);
}

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

const tn_fault *tn_vis_query_parse(tn_arena *arena, const tn_namespace *ns, tn_str text,
                                   uint32_t use, tn_vis_query *out)
{
    return tn_vis_query_parse_in(arena, ns, text, use, NULL, out);
}

const tn_fault *tn_vis_query_parse_in(tn_arena *arena, const tn_namespace *ns, tn_str text,
                                      uint32_t use, const tn_vis_division *division,
                                      tn_vis_query *out)
{
    while (text.n && blank(text.p[0]))
        text.p++, text.n--;
    while (text.n && blank(text.p[text.n - 1]))
        text.n--;
    if (text.n > TN_VIS_QUERY_MAX)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                             "invalid query: length %zu exceeds limit %u", text.n,
                             TN_VIS_QUERY_MAX);
    parser *p = TN_NEW(arena, parser);
    if (!p)
        return tn_fault_from_status(arena, TN_ETOOLARGE, NULL);
    p->b.arena = arena;
    p->b.ns = ns;
    p->b.division = division;
    p->lexer = (tn_lexer){.arena = arena, .text = text};
    p->prefix = sizeof("select * from table1 where ") - 1;
    if (text.n >= 8 && (tn_str_caseeq((tn_str){text.p, 8}, TN_STR("order by")) ||
                        tn_str_caseeq((tn_str){text.p, 8}, TN_STR("group by"))))
        p->prefix = sizeof("select * from table1 ") - 1;

    bool parsed = parse_query(p);
    if (p->b.out_of_memory)
        return tn_fault_from_status(arena, TN_ETOOLARGE, NULL);
    if (!parsed)
        return p->syntax;
    if (p->limit_seen)
        return tn_fault_make(arena, TN_GRPC_INVALID_ARGUMENT,
                             "invalid query: operation is not supported: 'LIMIT' clause");
    return tn_filter_finish(&p->b, use, out);
}
