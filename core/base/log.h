/* SPDX-License-Identifier: MIT */
/* One line an event, text or JSON, to standard error.  Any thread.  A line is a message and
 * key-value pairs; values are escaped; payloads, tokens and keys are never passed in. */
#ifndef TN_BASE_LOG_H
#define TN_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/plugin.h>

typedef enum tn_log_level {
    TN_LOG_DEBUG,
    TN_LOG_INFO,
    TN_LOG_WARN,
    TN_LOG_ERROR,
    TN_LOG_NEVER
} tn_log_level;

void tn_log_configure(tn_log_level level, bool json);
bool tn_log_enabled(tn_log_level level);
bool tn_log_level_parse(tn_str word, tn_log_level *out); /* debug info warn error never */

typedef struct tn_log_field {
    const char *key;
    int type; /* 0 end, 1 string, 2 i64, 3 u64, 4 f64 */
    union {
        tn_str s;
        int64_t i;
        uint64_t u;
        double f;
    } v;
} tn_log_field;
#define TN_LOG_S(k, str) ((tn_log_field){.key = (k), .type = 1, .v.s = (str)})
#define TN_LOG_Z(k, cstr) ((tn_log_field){.key = (k), .type = 1, .v.s = tn_str_from(cstr)})
#define TN_LOG_I(k, val) ((tn_log_field){.key = (k), .type = 2, .v.i = (int64_t)(val)})
#define TN_LOG_U(k, val) ((tn_log_field){.key = (k), .type = 3, .v.u = (uint64_t)(val)})
#define TN_LOG_F(k, val) ((tn_log_field){.key = (k), .type = 4, .v.f = (val)})

/* room: the part that speaks, e.g. "rpc". */
void tn_log_write(tn_log_level level, const char *room, const char *msg,
                  const tn_log_field *fields);
#define TN_LOG(level, room, msg, ...) \
    (tn_log_enabled(level) ? tn_log_write((level), (room), (msg), \
                                          (const tn_log_field[]){__VA_ARGS__ __VA_OPT__(, ){0}}) \
                           : (void)0)

#endif
