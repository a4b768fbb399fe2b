/* SPDX-License-Identifier: MIT */
/* JSON text to a tape and back: see json.h. */
#include "http/json.h"

#include <stdio.h>
#include <stdlib.h>

typedef enum want {
    WANT_VALUE,
    WANT_VALUE_OR_END, /* behind "[" */
    WANT_NAME,
    WANT_NAME_OR_END, /* behind "{" */
    WANT_COLON,
    WANT_COMMA_OR_END,
} want;

typedef struct scan {
    tn_json_tape *tape;
    const char *p, *end;
    uint32_t stack[TN_JSON_DEPTH_MAX];
    unsigned depth;
} scan;

static bool fail(scan *s, const char *where)
{
    tn_json_tape *tape = s->tape;

    if (s->p == s->end)
        snprintf(tape->problem, sizeof(tape->problem), "unexpected end of JSON input");
    else if ((uint8_t)*s->p < 0x20 || (uint8_t)*s->p >= 0x7f)
        snprintf(tape->problem, sizeof(tape->problem), "invalid character '\\x%02x' %s",
                 (unsigned)(uint8_t)*s->p, where);
    else
        snprintf(tape->problem, sizeof(tape->problem), "invalid character '%c' %s", *s->p, where);
    return false;
}

static bool too_much(scan *s, const char *what)
{
    snprintf(s->tape->problem, sizeof(s->tape->problem), "%s", what);
    return false;
}

static bool push(scan *s, tn_json_kind kind, const char *at, size_t n, bool escaped)
{
    tn_json_tape *tape = s->tape;

    if (tape->count == TN_JSON_NODES_MAX)
        return too_much(s, "too many values");
    if (tape->count == tape->cap) {
        tape->cap = tape->cap ? tape->cap * 2 : 64;
        tape->nodes = tn_xreallocarray(tape->nodes, tape->cap, sizeof(tape->nodes[0]));
    }
    tape->nodes[tape->count] = (tn_json_node){.at = (uint32_t)(at - tape->text.p),
                                              .n = (uint32_t)n,
                                              .next = tape->count + 1,
                                              .kind = (uint8_t)kind,
                                              .escaped = escaped};
    tape->count++;
    return true;
}

/* ---- reading ---- */

static bool hex4(const char *p, const char *end, uint32_t *out)
{
    uint32_t v = 0;

    if (end - p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (uint32_t)((c | 0x20) - 'a') + 10;
        else
            return false;
        v = v << 4 | digit;
    }
    *out = v;
    return true;
}

/* Behind a backslash.  Half of a surrogate pair is no character. */
static bool escape(scan *s)
{
    uint32_t u, low;

    if (s->p == s->end)
        return fail(s, "");
    if (*s->p != 'u') {
        if (!memchr("\"\\/bfnrt", *s->p, 8))
            return fail(s, "in string escape code");
        s->p++;
        return true;
    }
    s->p++;
    if (!hex4(s->p, s->end, &u))
        return fail(s, "in \\u hexadecimal character escape");
    s->p += 4;
    if (u < 0xd800 || u > 0xdfff)
        return true;
    if (u > 0xdbff || s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u' ||
        !hex4(s->p + 2, s->end, &low) || low < 0xdc00 || low > 0xdfff)
        return too_much(s, "half of a surrogate pair in a string");
    s->p += 6;
    return true;
}

static bool string(scan *s)
{
    const char *begin = s->p++;
    bool escaped = false;

    while (s->p < s->end && *s->p != '"') {
        if ((uint8_t)*s->p < 0x20)
            return fail(s, "in string literal");
        if (*s->p != '\\') {
            s->p++;
            continue;
        }
        escaped = true;
        s->p++;
        if (!escape(s))
            return false;
    }
    if (s->p == s->end)
        return fail(s, "");
    s->p++;
    return push(s, TN_JSON_STRING, begin, (size_t)(s->p - begin), escaped);
}

static bool is_digit(const scan *s) { return s->p < s->end && *s->p >= '0' && *s->p <= '9'; }

static bool digits(scan *s)
{
    if (!is_digit(s))
        return fail(s, "in numeric literal");
    while (is_digit(s))
        s->p++;
    return true;
}

static bool number(scan *s)
{
    const char *begin = s->p;

    if (*s->p == '-')
        s->p++;
    if (s->p < s->end && *s->p == '0')
        s->p++;
    else if (!digits(s))
        return false;
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (!digits(s))
            return false;
    }
    if (s->p < s->end && (*s->p | 0x20) == 'e') {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        if (!digits(s))
            return false;
    }
    return push(s, TN_JSON_NUMBER, begin, (size_t)(s->p - begin), false);
}

static bool literal(scan *s, tn_json_kind kind, const char *word)
{
    const char *begin = s->p;

    for (; *word; word++, s->p++) {
        if (s->p == s->end || *s->p != *word)
            return fail(s, "in literal");
    }
    return push(s, kind, begin, (size_t)(s->p - begin), false);
}

static bool open_nest(scan *s, tn_json_kind kind)
{
    if (s->depth == TN_JSON_DEPTH_MAX)
        return too_much(s, "exceeded max depth");
    s->stack[s->depth++] = s->tape->count;
    if (!push(s, kind, s->p, 0, false))
        return false;
    s->p++;
    return true;
}

static void close_nest(scan *s)
{
    tn_json_node *node = &s->tape->nodes[s->stack[--s->depth]];

    s->p++;
    node->n = (uint32_t)(s->p - s->tape->text.p) - node->at;
    node->next = s->tape->count;
}

static bool scalar(scan *s)
{
    switch (*s->p) {
    case '"':
        return string(s);
    case 't':
        return literal(s, TN_JSON_TRUE, "true");
    case 'f':
        return literal(s, TN_JSON_FALSE, "false");
    case 'n':
        return literal(s, TN_JSON_NULL, "null");
    default:
        if (*s->p == '-' || is_digit(s))
            return number(s);
        return fail(s, "looking for beginning of value");
    }
}

static bool in_object(const scan *s)
{
    return s->depth && s->tape->nodes[s->stack[s->depth - 1]].kind == TN_JSON_OBJECT;
}

static bool step(scan *s, want *state)
{
    char c = *s->p;

    switch (*state) {
    case WANT_VALUE_OR_END:
        if (c == ']') {
            close_nest(s);
            *state = WANT_COMMA_OR_END;
            return true;
        }
        /* fall through */
    case WANT_VALUE:
        if (c == '{' || c == '[') {
            *state = c == '{' ? WANT_NAME_OR_END : WANT_VALUE_OR_END;
            return open_nest(s, c == '{' ? TN_JSON_OBJECT : TN_JSON_ARRAY);
        }
        *state = WANT_COMMA_OR_END;
        return scalar(s);
    case WANT_NAME_OR_END:
        if (c == '}') {
            close_nest(s);
            *state = WANT_COMMA_OR_END;
            return true;
        }
        /* fall through */
    case WANT_NAME:
        *state = WANT_COLON;
        return c == '"' ? string(s) : fail(s, "looking for beginning of object key string");
    case WANT_COLON:
        *state = WANT_VALUE;
        s->p++;
        return c == ':' ? true : (s->p--, fail(s, "after object key"));
    case WANT_COMMA_OR_END:
        if (c == ',') {
            s->p++;
            *state = in_object(s) ? WANT_NAME : WANT_VALUE;
            return true;
        }
        if (c != (in_object(s) ? '}' : ']'))
            return fail(s, in_object(s) ? "after object key:value pair" : "after array element");
        close_nest(s);
        return true;
    }
    return false;
}

bool tn_json_tape_read(tn_json_tape *tape, tn_str text)
{
    scan s = {.tape = tape, .p = text.p, .end = text.p + text.n};
    want state = WANT_VALUE;

    *tape = (tn_json_tape){.text = text};
    if (text.n > UINT32_MAX / 2)
        return too_much(&s, "too long");
    if (!tn_utf8_valid((const uint8_t *)text.p, text.n))
        return too_much(&s, "invalid UTF-8");
    for (;;) {
        while (s.p < s.end && (*s.p == ' ' || *s.p == '\t' || *s.p == '\n' || *s.p == '\r'))
            s.p++;
        if (!s.depth && tape->count)
            return s.p == s.end || fail(&s, "after top-level value");
        if (s.p == s.end)
            return fail(&s, "");
        if (!step(&s, &state))
            return false;
    }
}

void tn_json_tape_done(tn_json_tape *tape)
{
    free(tape->nodes);
    *tape = (tn_json_tape){0};
}

/* ---- looking ---- */

static size_t put_utf8(char *out, uint32_t u)
{
    if (u < 0x80) {
        out[0] = (char)u;
        return 1;
    }
    if (u < 0x800) {
        out[0] = (char)(0xc0 | u >> 6), out[1] = (char)(0x80 | (u & 0x3f));
        return 2;
    }
    if (u < 0x10000) {
        out[0] = (char)(0xe0 | u >> 12), out[1] = (char)(0x80 | (u >> 6 & 0x3f)),
        out[2] = (char)(0x80 | (u & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | u >> 18), out[1] = (char)(0x80 | (u >> 12 & 0x3f)),
    out[2] = (char)(0x80 | (u >> 6 & 0x3f)), out[3] = (char)(0x80 | (u & 0x3f));
    return 4;
}

static char simple(char c)
{
    switch (c) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return c;
    }
}

bool tn_json_string(const tn_json_tape *tape, uint32_t node, tn_arena *arena, tn_str *out)
{
    tn_str raw = tn_json_raw(tape, node);
    const char *p = raw.p + 1, *end = raw.p + raw.n - 1;
    char *text;
    size_t n = 0;

    *out = (tn_str){p, (size_t)(end - p)};
    if (!tape->nodes[node].escaped)
        return true;
    text = tn_arena_alloc(arena, out->n);
    if (!text)
        return false;
    while (p < end) {
        uint32_t u = 0, low = 0;
        if (*p != '\\') {
            text[n++] = *p++;
        } else if (p[1] != 'u') {
            text[n++] = simple(p[1]);
            p += 2;
        } else {
            hex4(p + 2, end, &u);
            p += 6;
            if (u >= 0xd800 && u <= 0xdbff) {
                hex4(p + 2, end, &low);
                p += 6;
                u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
            }
            n += put_utf8(text + n, u);
        }
    }
    *out = (tn_str){text, n};
    return true;
}

uint32_t tn_json_member(const tn_json_tape *tape, uint32_t object, tn_str name)
{
    uint32_t found = 0;

    for (uint32_t i = object + 1; i < tape->nodes[object].next; i = tape->nodes[i + 1].next) {
        tn_str raw = tn_json_raw(tape, i);
        if (!tape->nodes[i].escaped && raw.n - 2 == name.n &&
            memcmp(raw.p + 1, name.p, name.n) == 0)
            found = i + 1;
    }
    return found;
}

uint32_t tn_json_count(const tn_json_tape *tape, uint32_t node)
{
    bool object = tape->nodes[node].kind == TN_JSON_OBJECT;
    uint32_t count = 0;

    for (uint32_t i = node + 1; i < tape->nodes[node].next; count++)
        i = tape->nodes[object ? i + 1 : i].next;
    return count;
}

void tn_json_place(tn_str text, size_t at, unsigned *line, unsigned *column)
{
    size_t begin = 0;

    *line = 1;
    for (size_t i = 0; i < at && i < text.n; i++) {
        if (text.p[i] == '\n') {
            ++*line;
            begin = i + 1;
        }
    }
    *column = (unsigned)(at - begin) + 1;
}

/* ---- writing ---- */

void tn_json_put_string(tn_buf *buf, tn_str s)
{
    size_t from = 0;

    tn_buf_put_u8(buf, '"');
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        const char *short_form = c == '"'    ? "\\\""
                                 : c == '\\' ? "\\\\"
                                 : c == '\n' ? "\\n"
                                 : c == '\r' ? "\\r"
                                 : c == '\t' ? "\\t"
                                 : c == '\b' ? "\\b"
                                 : c == '\f' ? "\\f"
                                             : NULL;
        if (c >= 0x20 && !short_form)
            continue;
        tn_buf_put(buf, s.p + from, i - from);
        from = i + 1;
        if (short_form)
            tn_buf_put(buf, short_form, 2);
        else
            tn_buf_printf(buf, "\\u%04x", (unsigned)c);
    }
    tn_buf_put(buf, s.p + from, s.n - from);
    tn_buf_put_u8(buf, '"');
}

static void line(tn_buf *buf, int indent, unsigned depth)
{
    if (indent < 0)
        return;
    tn_buf_put_u8(buf, '\n');
    for (unsigned i = 0; i < (unsigned)indent + depth; i++)
        tn_buf_put(buf, "  ", 2);
}

void tn_json_put_node(tn_buf *buf, const tn_json_tape *tape, uint32_t node, int indent,
                      uint32_t leave_out, tn_str first_member)
{
    uint32_t stack[TN_JSON_DEPTH_MAX + 1];
    bool any[TN_JSON_DEPTH_MAX + 1];
    unsigned depth = 0;
    uint32_t i = node;
    bool name = false; /* i is a member's name */

    do {
        const tn_json_node *at;
        bool closing = depth && i == tape->nodes[stack[depth - 1]].next;
        if (closing) {
            at = &tape->nodes[stack[--depth]];
            if (any[depth])
                line(buf, indent, depth);
            tn_buf_put_u8(buf, at->kind == TN_JSON_OBJECT ? '}' : ']');
            name = depth && tape->nodes[stack[depth - 1]].kind == TN_JSON_OBJECT;
            continue;
        }
        at = &tape->nodes[i];
        if (leave_out && i == leave_out) {
            i = tape->nodes[i + 1].next;
            continue;
        }
        if (depth && (name || tape->nodes[stack[depth - 1]].kind == TN_JSON_ARRAY)) {
            if (any[depth - 1])
                tn_buf_put_u8(buf, ',');
            any[depth - 1] = true;
            line(buf, indent, depth);
        }
        if (at->kind >= TN_JSON_ARRAY) {
            tn_buf_put_u8(buf, at->kind == TN_JSON_OBJECT ? '{' : '[');
            any[depth] = false;
            stack[depth++] = i;
            name = at->kind == TN_JSON_OBJECT;
            if (i == node && first_member.n) {
                any[0] = true;
                line(buf, indent, 1);
                tn_buf_put(buf, first_member.p, first_member.n);
            }
            i++;
            continue;
        }
        tn_buf_put(buf, tape->text.p + at->at, at->n);
        i++;
        if (name) {
            tn_buf_put(buf, ": ", indent >= 0 ? 2 : 1);
            name = false;
        } else {
            name = depth && tape->nodes[stack[depth - 1]].kind == TN_JSON_OBJECT;
        }
    } while (depth);
}
