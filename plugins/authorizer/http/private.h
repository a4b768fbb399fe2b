/* SPDX-License-Identifier: MIT */
/* What the files of authorizer/http share.
 *
 *   http.c     configuration, life, the plugin's table
 *   ask.c      one call's way: what is remembered, who asks the same, the queue, the end
 *   client.c   libcurl's multi handle on the host's watches and timers
 *   input.c    a call as the decision point reads it
 *   answer.c   what it answers
 *
 * Everything of a question is its loop's: nothing is shared between loops but options and metrics, and nothing waits. */
#ifndef TN_HTTP_PRIVATE_H
#define TN_HTTP_PRIVATE_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

#include <tenon/plugin.h>

#define HT_MS UINT64_C(1000000)
#define HT_SEC UINT64_C(1000000000)
#define HT_INPUT_MAX ((size_t)256 << 10)
#define HT_ANSWER_MAX ((size_t)64 << 10)
#define HT_REASON_MAX 1000u
#define HT_RULE_MAX 200u
#define HT_TOKEN_MAX ((size_t)16 << 10)
#define HT_DIGEST 32u
#define HT_BUCKETS 256u

typedef struct ht_options {
    char *url, *token_file, *ca_file, *cert_file, *key_file; /* NULL: not set; url always is */
    uint64_t timeout_ns, cache_ns;
    int64_t cache_size, concurrent, waiting; /* of each loop */
    bool workflow_id;
} ht_options;

typedef struct ht_inst {
    const tn_host *host;
    ht_options options;
    tn_metric *m_questions, *m_hits, *m_joined, *m_allowed, *m_denied, *m_errors, *m_overflow,
        *m_seconds;
} ht_inst;

/* ---- text ---- */

typedef struct ht_text { /* grows up to HT_INPUT_MAX */
    char *p;
    size_t n, cap;
    const char *why; /* it could not be written: too long, no memory, no UTF-8 */
} ht_text;
/* {"input": ...}; check why. */
void ht_input(ht_text *out, const ht_options *options, const tn_claims *claims,
              const tn_call_target *target);

typedef struct ht_verdict {
    bool allow;
    size_t reason_n, rule_n;
    char text[]; /* reason, rule */
} ht_verdict;
/* NULL: err says why. */
ht_verdict *ht_answer(const char *text, size_t n, tn_error *err);

tn_status ht_error(tn_error *err, tn_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- questions ---- */

typedef struct ht_waiter { /* a call; in its operation's memory */
    struct ht_waiter *next;
    tn_op *op;
    tn_decision *out;
    tn_str principal;
} ht_waiter;

typedef struct ht_question {                /* one request, for all calls that ask the same */
    struct ht_question *next, *bucket_next; /* in the queue; among those of a bucket */
    struct ht_ctx *ctx;
    uint8_t digest[HT_DIGEST];
    ht_text body;
    ht_waiter *waiters;
    uint64_t began_ns, deadline_ns;
    CURL *easy; /* while it is under way */
    struct curl_slist *headers;
    char *answer;
    size_t answer_n;
    bool too_large;
    char why[CURL_ERROR_SIZE];
} ht_question;

typedef struct ht_slot {
    uint8_t digest[HT_DIGEST];
    uint64_t until_ns; /* 0: empty */
    ht_verdict *verdict;
} ht_slot;

typedef struct ht_ctx { /* of a loop */
    ht_inst *inst;
    tn_loop *loop;
    CURLM *multi;
    tn_timer *timer;
    CURL **idle; /* handles to use again; room for options.concurrent */
    size_t n_idle, n_under_way, n_waiting /* calls */;
    ht_question *first, *last; /* the queue */
    ht_question *buckets[HT_BUCKETS];
    ht_slot *slots;
    char *token;
    uint64_t token_seen_ns;
    int64_t token_mtime_ns, token_size;
    bool failing;
} ht_ctx;

tn_status ht_ask(ht_ctx *ctx, tn_op *op, const tn_claims *claims, const tn_call_target *target,
                 tn_decision *out);
/* Ends a question that is in no queue and not under way: all its calls are answered, it is freed.  verdict: NULL: err. */
void ht_end(ht_question *q, ht_verdict *verdict, const tn_error *err);
void ht_next(ht_ctx *ctx); /* as many of the queue as may be under way */

bool ht_client_init(ht_ctx *ctx);
void ht_client_done(ht_ctx *ctx);
/* False: err says why; the question is as it was. */
bool ht_client_send(ht_question *q, tn_error *err);

#endif
