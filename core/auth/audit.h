/* SPDX-License-Identifier: MIT */
/* The audit: one line of JSON a verdict, to a file or to syslog.  Loops never wait for it: lines go through a bounded
 * queue to a thread of its own; what finds the queue full is lost, counted, and told in the audit itself. */
#ifndef TN_AUTH_AUDIT_H
#define TN_AUTH_AUDIT_H

#include "base/base.h"

typedef struct tn_audit_options {
    bool syslog;      /* else a file */
    const char *path; /* of the file, or of syslog's socket */
    int facility;     /* syslog's number, 0..23 */
    bool all;         /* else denials only */
    size_t queue_bytes_max;
} tn_audit_options;

/* [main, with loops running] What prepare made is taken by commit, which cannot fail, or thrown away by discard.  The
 * file is opened by prepare, so that a wrong path ends the start, and leaves a reload without effect.  NULL: no audit. */
typedef struct tn_audit_fresh tn_audit_fresh;
tn_status tn_audit_prepare(const tn_audit_options *options, tn_audit_fresh **out,
                           tn_error *err) TN_WARN_UNUSED;
void tn_audit_commit(tn_audit_fresh *fresh);
void tn_audit_discard(tn_audit_fresh *fresh); /* NULL allowed */
void tn_audit_stop(void);                     /* after the last event; what is queued is written */
void tn_audit_reopen(void);                   /* [any] a rotated file is let go (SIGHUP) */

typedef struct tn_audit_event { /* empty texts are left out of the line */
    bool allowed;
    tn_str method;               /* the path that was called */
    tn_str as_method, target_ns; /* a further namespace, and what the call would do there */
    tn_str ns, workflow_id, workflow_type, task_queue;
    tn_str subject, auth_type, principal, peer, tls_subject;
    tn_str rule, reason; /* the authorizer's */
    tn_str cause;        /* ours, where no authorizer decided */
    uint64_t latency_ns;
} tn_audit_event;
bool tn_audit_wants(
    bool allowed); /* [any] cheap: off, or an allowed one where denials are wanted */
void tn_audit_write(const tn_audit_event *event); /* [any] */

/* The line, with its newline: for tn_audit_write and the tests. */
void tn_audit_format(const tn_audit_event *event, int64_t wall_ns, tn_buf *out);
void tn_audit_format_lost(uint64_t lost, int64_t wall_ns, tn_buf *out);

typedef struct tn_audit_stats {
    uint64_t written, lost;
} tn_audit_stats;
void tn_audit_stats_get(tn_audit_stats *out); /* [any] */

#endif
