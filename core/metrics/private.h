/* SPDX-License-Identifier: MIT */
/* What the sources of this room share. */
#ifndef TN_METRICS_PRIVATE_H
#define TN_METRICS_PRIVATE_H

#include "metrics/metrics.h"

/* The text of the process's and the loops' own figures. */
void tn_metrics_render_process(tn_buf *out);

#define TN_HTTP_HEAD_MAX 8192u
#define TN_HTTP_FIELDS_MAX 64u
typedef struct tn_http_request {
    tn_str method, target;
    bool keep_alive;
} tn_http_request;
/* Parses the head of an HTTP/1 request.  Bytes taken (> 0); 0: not whole yet; < 0: the status to
 * answer with, negated (400, 413, 431, 505). */
int tn_http_parse(const uint8_t *p, size_t n, tn_http_request *out);

#endif
