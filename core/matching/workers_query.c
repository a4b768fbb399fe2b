/* SPDX-License-Identifier: MIT */
/* The filter over workers' heartbeats: comparisons joined by AND and OR, to a postfix list that is evaluated for each
 * worker.  What is written right but means nothing (an unknown name, an operator that a field does not have) spoils the
 * comparison that it stands in: a filter that comes to it fits no worker, as at the reference. */
#include "matching/workers.h"
#include "proto/proto.h"
#include "visibility/private.h"

#define NODES_MAX 256u
#define POSITION_BASE 27u /* what the reference puts before the text, for positions */

typedef enum node_kind {
    NODE_COMPARE,
    NODE_BETWEEN,
    NODE_NULL,
    NODE_BAD,
    NODE_AND,
    NODE_OR,
    NODE_NOT,
    NODE_OPEN
} node_kind;
typedef enum compare_op { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_STARTS, OP_NONE } compare_op;
typedef enum answer { NO, YES, SPOILT } answer;

typedef struct value {
    bool is_string, is_time;
    tn_str text;
    int64_t ns;
} value;

typedef struct node {
    node_kind kind;
    compare_op op;
    bool negated;
    tn_str name;
    value values[2];
} node;

struct tn_workers_query {
    node nodes[NODES_MAX];
    size_t n;
};

typedef struct parser {
    tn_lexer lexer;
    tn_lex_token token;
    tn_arena *arena;
    tn_workers_query *out;
    node_kind stack[NODES_MAX]; /* operators and parentheses that wait */
    size_t depth;
    const tn_fault *fault;
} parser;

/* ---- parsing ---- */

static bool wrong(parser *p)
{
    tn_str near = p->token.text.n ? p->token.text : p->token.source;
    size_t at = POSITION_BASE + p->token.end + 1;
    if (p->fault)
        return false;
    p->fault =
        near.n && near.n < 200
            ? tn_fault_make(p->arena, TN_GRPC_INVALID_ARGUMENT,
                            "malformed query: syntax error at position %zu near '" TN_STR_FMT "'",
                            at, TN_STR_ARG(near))
            : tn_fault_make(p->arena, TN_GRPC_INVALID_ARGUMENT,
                            "malformed query: syntax error at position %zu", at);
    return false;
}

static bool advance(parser *p)
{
    tn_lex_next(&p->lexer, &p->token);
    return p->token.kind == TN_LEX_BAD ? wrong(p) : true;
}

static bool is_word(const parser *p, tn_lex_word word)
{
    return p->token.kind == TN_LEX_WORD && p->token.word == word;
}
static bool is_punct(const parser *p, tn_lex_punct punct)
{
    return p->token.kind == TN_LEX_PUNCT && p->token.punct == punct;
}

static bool emit(parser *p, const node *n)
{
    if (p->out->n == NODES_MAX) {
        p->fault =
            tn_fault_make(p->arena, TN_GRPC_INVALID_ARGUMENT, "malformed query: too many words");
        return false;
    }
    p->out->nodes[p->out->n++] = *n;
    return true;
}

static bool push(parser *p, node_kind kind)
{
    if (p->depth == NODES_MAX)
        return emit(p, &(node){.kind = NODE_BAD}) && wrong(p);
    p->stack[p->depth++] = kind;
    return true;
}

/* Settles the operators on top that bind at least as tightly. */
static bool settle(parser *p, node_kind until)
{
    while (p->depth && p->stack[p->depth - 1] != NODE_OPEN) {
        node_kind top = p->stack[p->depth - 1];
        if (until == NODE_AND && top == NODE_OR)
            break;
        p->depth--;
        if (!emit(p, &(node){.kind = top}))
            return false;
    }
    return true;
}

static bool read_value(parser *p, value *out)
{
    *out = (value){.text = p->token.text};
    uint64_t n;
    if (p->token.kind == TN_LEX_STRING) {
        out->is_string = true;
        out->is_time = tn_parse_rfc3339_ns(out->text, &out->ns);
    } else if (p->token.kind == TN_LEX_NUMBER) {
        out->is_time = tn_parse_u64(out->text, &n) && n <= INT64_MAX;
        out->ns = out->is_time ? (int64_t)n : 0;
    } else if (p->token.kind != TN_LEX_NAME && !is_word(p, TN_WORD_TRUE) &&
               !is_word(p, TN_WORD_FALSE) && !is_word(p, TN_WORD_NULL)) {
        return wrong(p);
    }
    return advance(p);
}

static compare_op op_of(const parser *p)
{
    static const compare_op ops[] = {
        [TN_PUNCT_EQ] = OP_EQ, [TN_PUNCT_NE] = OP_NE, [TN_PUNCT_LT] = OP_LT,
        [TN_PUNCT_LE] = OP_LE, [TN_PUNCT_GT] = OP_GT, [TN_PUNCT_GE] = OP_GE};
    if (p->token.kind != TN_LEX_PUNCT || p->token.punct < TN_PUNCT_EQ ||
        p->token.punct > TN_PUNCT_GE)
        return OP_NONE;
    return ops[p->token.punct];
}

static bool null_test(parser *p, node *n)
{
    n->kind = NODE_NULL;
    if (!advance(p))
        return false;
    n->negated = is_word(p, TN_WORD_NOT);
    if (n->negated && !advance(p))
        return false;
    if (is_word(p, TN_WORD_TRUE) || is_word(p, TN_WORD_FALSE))
        n->kind = NODE_BAD;
    else if (!is_word(p, TN_WORD_NULL))
        return wrong(p);
    return advance(p) && emit(p, n);
}

static bool between(parser *p, node *n)
{
    n->kind = NODE_BETWEEN;
    if (!advance(p) || !read_value(p, &n->values[0]))
        return false;
    if (!is_word(p, TN_WORD_AND))
        return wrong(p);
    return advance(p) && read_value(p, &n->values[1]) && emit(p, n);
}

/* IN and LIKE are SQL, but no operators of these fields. */
static bool skip_list(parser *p, node *n)
{
    value ignored;
    n->kind = NODE_BAD;
    if (!advance(p))
        return false;
    if (!is_punct(p, TN_PUNCT_OPEN))
        return read_value(p, &ignored) && emit(p, n);
    do {
        if (!advance(p) || !read_value(p, &ignored))
            return false;
    } while (is_punct(p, TN_PUNCT_COMMA));
    if (!is_punct(p, TN_PUNCT_CLOSE))
        return wrong(p);
    return advance(p) && emit(p, n);
}

static bool comparison(parser *p)
{
    node n = {.kind = NODE_COMPARE, .name = p->token.text};
    if (p->token.kind != TN_LEX_NAME && p->token.kind != TN_LEX_STRING &&
        p->token.kind != TN_LEX_NUMBER)
        return wrong(p);
    bool named = p->token.kind == TN_LEX_NAME;
    if (!advance(p))
        return false;
    if (is_word(p, TN_WORD_IS))
        return null_test(p, &n);
    n.op = op_of(p);
    if (n.op == OP_NONE) {
        n.negated = is_word(p, TN_WORD_NOT);
        if (n.negated && !advance(p))
            return false;
        if (is_word(p, TN_WORD_BETWEEN))
            return between(p, &n);
        if (is_word(p, TN_WORD_IN) || is_word(p, TN_WORD_LIKE) || is_word(p, TN_WORD_REGEXP))
            return skip_list(p, &n);
        if (!is_word(p, TN_WORD_STARTS_WITH)) /* a bare name is an expression, too */
            return n.negated ? wrong(p) : emit(p, &(node){.kind = NODE_BAD});
        n.op = OP_STARTS;
    }
    if (!named)
        n.kind = NODE_BAD;
    return advance(p) && read_value(p, &n.values[0]) && emit(p, &n);
}

static bool operand(parser *p)
{
    while (is_word(p, TN_WORD_NOT) || is_punct(p, TN_PUNCT_OPEN)) {
        if (!push(p, is_punct(p, TN_PUNCT_OPEN) ? NODE_OPEN : NODE_NOT) || !advance(p))
            return false;
    }
    return comparison(p);
}

static bool close_parentheses(parser *p)
{
    while (is_punct(p, TN_PUNCT_CLOSE)) {
        if (!settle(p, NODE_OPEN) || !p->depth)
            return wrong(p);
        p->depth--;
        if (!advance(p))
            return false;
    }
    return true;
}

static bool expression(parser *p)
{
    for (;;) {
        if (!operand(p) || !close_parentheses(p))
            return false;
        bool both = is_word(p, TN_WORD_AND);
        if (!both && !is_word(p, TN_WORD_OR))
            break;
        node_kind kind = both ? NODE_AND : NODE_OR;
        if (!settle(p, kind) || !push(p, kind) || !advance(p))
            return false;
    }
    if (is_word(p, TN_WORD_LIMIT)) {
        p->fault = tn_fault_make(p->arena, TN_GRPC_INVALID_ARGUMENT,
                                 "operation is not supported: 'limit' clause");
        return false;
    }
    if (p->token.kind != TN_LEX_END && !is_word(p, TN_WORD_ORDER) && !is_word(p, TN_WORD_GROUP))
        return wrong(p);
    return settle(p, NODE_OPEN) && (!p->depth || wrong(p));
}

const tn_fault *tn_workers_query_parse(tn_arena *arena, tn_str text, tn_workers_query **out)
{
    *out = NULL;
    while (text.n && (text.p[0] == ' ' || text.p[0] == '\t' || text.p[0] == '\n'))
        text = (tn_str){text.p + 1, text.n - 1};
    if (!text.n)
        return NULL;
    parser *p = TN_NEW(arena, parser);
    tn_workers_query *query = TN_NEW(arena, tn_workers_query);
    *p = (parser){.lexer = {.arena = arena, .text = text}, .arena = arena, .out = query};
    if (advance(p) && expression(p))
        *out = query;
    return p->fault;
}

/* ---- evaluating ---- */

typedef Temporal__Api__Worker__V1__WorkerHeartbeat heartbeat;

static const char *status_name(const heartbeat *w)
{
    static const char *const names[] = {"Unspecified", "Running", "ShuttingDown", "Shutdown"};
    return (unsigned)w->status < TN_COUNT_OF(names) ? names[w->status] : "";
}

static const char *text_field(const heartbeat *w, tn_str name)
{
    const struct {
        const char *name, *text;
    } fields[] = {
        {"WorkerInstanceKey", w->worker_instance_key},
        {"WorkerIdentity", w->worker_identity},
        {"HostName", w->host_info ? w->host_info->host_name : ""},
        {"TaskQueue", w->task_queue},
        {"DeploymentName", w->deployment_version ? w->deployment_version->deployment_name : ""},
        {"BuildId", w->deployment_version ? w->deployment_version->build_id : ""},
        {"SdkName", w->sdk_name},
        {"SdkVersion", w->sdk_version},
        {"WorkerStatus", status_name(w)},
        {"Status", status_name(w)},
        {"status", status_name(w)},
    };
    for (size_t i = 0; i < TN_COUNT_OF(fields); i++)
        if (tn_str_is(name, fields[i].name))
            return fields[i].text;
    return NULL;
}

/* False: no such field. */
static bool time_field(const heartbeat *w, tn_str name, const Google__Protobuf__Timestamp **out)
{
    *out = tn_str_is(name, "StartTime") ? w->start_time : w->heartbeat_time;
    return tn_str_is(name, "StartTime") || tn_str_is(name, "HeartbeatTime");
}

static int64_t ns_of(const Google__Protobuf__Timestamp *at)
{
    int64_t ns = 0;
    return at && tn_ns_from_ts(at, &ns) ? ns : 0;
}

static answer yes_if(bool yes) { return yes ? YES : NO; }

static answer compare_text(const node *n, const char *text)
{
    const value *v = &n->values[0];
    if (!v->is_string || !v->text.n)
        return SPOILT;
    if (n->op == OP_STARTS)
        return yes_if(tn_str_starts(tn_str_from(text), v->text) != n->negated);
    if (n->op != OP_EQ && n->op != OP_NE)
        return SPOILT;
    return yes_if(tn_str_is(v->text, text) == (n->op == OP_EQ));
}

static answer compare_time(const node *n, int64_t ns)
{
    int64_t other = n->values[0].ns;
    if (!n->values[0].is_time)
        return SPOILT;
    switch (n->op) {
    case OP_EQ:
        return yes_if(ns == other);
    case OP_NE:
        return yes_if(ns != other);
    case OP_LT:
        return yes_if(ns < other);
    case OP_LE:
        return yes_if(ns <= other);
    case OP_GT:
        return yes_if(ns > other);
    case OP_GE:
        return yes_if(ns >= other);
    case OP_STARTS:
    case OP_NONE:
        break;
    }
    return SPOILT;
}

static answer ask(const node *n, const heartbeat *w)
{
    const char *text = text_field(w, n->name);
    const Google__Protobuf__Timestamp *at;
    bool is_time = time_field(w, n->name, &at);
    switch (n->kind) {
    case NODE_COMPARE:
        return text ? compare_text(n, text) : is_time ? compare_time(n, ns_of(at)) : SPOILT;
    case NODE_BETWEEN:
        if (!is_time || !n->values[0].is_time || !n->values[1].is_time)
            return SPOILT;
        return at ? yes_if((ns_of(at) >= n->values[0].ns && ns_of(at) <= n->values[1].ns) !=
                           n->negated)
                  : NO;
    case NODE_NULL:
        return text ? yes_if(!*text != n->negated) : is_time ? yes_if(!at != n->negated) : SPOILT;
    case NODE_BAD:
    case NODE_AND:
    case NODE_OR:
    case NODE_NOT:
    case NODE_OPEN:
        break;
    }
    return SPOILT;
}

bool tn_workers_query_fits(const tn_workers_query *query, const heartbeat *w)
{
    answer stack[NODES_MAX];
    size_t depth = 0;
    if (!query)
        return true;
    for (size_t i = 0; i < query->n; i++) {
        const node *n = &query->nodes[i];
        if (n->kind == NODE_AND ||
            n->kind == NODE_OR) { /* what the left side settles, the right cannot spoil */
            answer right = stack[--depth], left = stack[depth - 1];
            if (left == (n->kind == NODE_AND ? YES : NO))
                stack[depth - 1] = right;
        } else if (n->kind == NODE_NOT) {
            stack[depth - 1] = SPOILT;
        } else {
            stack[depth++] = ask(n, w);
        }
    }
    return depth && stack[0] == YES;
}
