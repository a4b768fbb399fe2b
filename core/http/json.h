/* SPDX-License-Identifier: MIT */
/* JSON text as a tape: one node a value, in the order of the text, without a tree.  Read without recursion, checked
 * against RFC 8259 and UTF-8, and never deeper or longer than its bounds.  Numbers and strings stay where they are in
 * the text; a string is decoded when somebody asks for it. */
#ifndef TN_HTTP_JSON_H
#define TN_HTTP_JSON_H

#include "base/base.h"

#define TN_JSON_DEPTH_MAX 100
#define TN_JSON_NODES_MAX 1000000u

typedef enum tn_json_kind {
    TN_JSON_NULL,
    TN_JSON_FALSE,
    TN_JSON_TRUE,
    TN_JSON_NUMBER,
    TN_JSON_STRING,
    TN_JSON_ARRAY,
    TN_JSON_OBJECT, /* names and values by turns; names are strings */
} tn_json_kind;

typedef struct tn_json_node {
    uint32_t at, n; /* in the text: the whole value, with its quotes or brackets */
    uint32_t next;  /* the node behind it and all that is in it */
    uint8_t kind;
    bool escaped; /* a string with backslashes */
} tn_json_node;

typedef struct tn_json_tape {
    tn_str text;
    tn_json_node *nodes; /* 0 is the value */
    uint32_t count, cap;
    char problem[112]; /* in the words of Go's encoding/json where there are such */
} tn_json_tape;

/* False: problem says why.  The text must live as long as the tape; both ways tn_json_tape_done. */
bool tn_json_tape_read(tn_json_tape *tape, tn_str text) TN_WARN_UNUSED;
void tn_json_tape_done(tn_json_tape *tape);

static inline tn_str tn_json_raw(const tn_json_tape *tape, uint32_t node)
{
    return (tn_str){tape->text.p + tape->nodes[node].at, tape->nodes[node].n};
}
/* A string's contents; those with escapes are decoded into the arena.  False: the arena is full. */
bool tn_json_string(const tn_json_tape *tape, uint32_t node, tn_arena *arena,
                    tn_str *out) TN_WARN_UNUSED;
/* The value of that member of an object (the last of them), 0: none. */
uint32_t tn_json_member(const tn_json_tape *tape, uint32_t object, tn_str name);
/* How many members or elements. */
uint32_t tn_json_count(const tn_json_tape *tape, uint32_t node);
/* Line and column, from 1. */
void tn_json_place(tn_str text, size_t at, unsigned *line, unsigned *column);

/* Appends a quoted string. */
void tn_json_put_string(tn_buf *buf, tn_str s);
/* Appends the value without blanks between its parts, or (indent >= 0) with each part on a line of its own, `indent`
 * levels deep already.  `leave_out` (0: none) is a member's name's node whose pair is left out. */
void tn_json_put_node(tn_buf *buf, const tn_json_tape *tape, uint32_t node, int indent,
                      uint32_t leave_out, tn_str first_member);

#endif
