/* SPDX-License-Identifier: MIT */
/* The tasks that wait in a queue, and which of them is next: the lowest priority key first, and among the tasks of
 * one priority the fairness key whose turn it is.  Turns are taken by strides: a key that has had its turn goes back by
 * the inverse of its weight, so that over time each key gets a share by its weight, whatever the others have waiting.
 *
 * A queue whose tasks all have the default priority and no fairness key is one plain list; the rest is made with the
 * first task that asks for more. */
#ifndef TN_MATCHING_BACKLOG_H
#define TN_MATCHING_BACKLOG_H

#include "client/client.h"

#define TN_PRIORITIES 5u /* keys 1 to 5, 1 goes first */
#define TN_PRIORITY_DEFAULT 3u
#define TN_FAIR_KEYS_IDLE_MAX \
    10000u /* of a priority: keys without tasks, remembered for their turn */

typedef struct tn_wtask { /* a waiting task, compact: a backlog has many */
    tn_list link;
    tn_task_ref ref;
    uint64_t expire_mono_ns;
    uint16_t workflow_id_n;
    uint8_t fairness_key_n;
    uint8_t priority; /* 1 to TN_PRIORITIES */
    bool paid;        /* has counted in another partition's rate */
    bool versioned;   /* its directive comes last (versions.c) */
    float weight;     /* above 0 */
    uint32_t taken_s; /* when it came here, mono */
    char text[];      /* workflow id, NUL, fairness key, NUL, directive */
} tn_wtask;

static inline tn_str tn_wtask_workflow_id(const tn_wtask *task)
{
    return (tn_str){task->text, task->workflow_id_n};
}
static inline tn_str tn_wtask_fairness_key(const tn_wtask *task)
{
    return (tn_str){task->text + task->workflow_id_n + 1, task->fairness_key_n};
}

/* versions.c */
size_t tn_wtask_directive_size(const tn_directive *directive);
void tn_wtask_put_directive(tn_wtask *task, const tn_directive *directive);
void tn_wtask_get_directive(const tn_wtask *task, tn_directive *out);

typedef struct tn_fair_weight { /* sorted by key */
    tn_str key;
    float weight;
} tn_fair_weight;

typedef struct tn_fair_rules { /* what an operator has set for the queue */
    double key_rate;           /* dispatches a second of each key of weight 1; below 0: no limit */
    const tn_fair_weight *weights;
    size_t n_weights;
} tn_fair_rules;

typedef struct tn_ranks
    tn_ranks; /* backlog.c: what is made with the first task that is not plain */

typedef struct tn_backlog {
    tn_list plain; /* all tasks, while ranks is NULL */
    size_t count;
    tn_ranks *ranks;
    const tn_fair_rules *rules; /* NULL: none */
} tn_backlog;

void tn_backlog_init(tn_backlog *backlog);
void tn_backlog_done(tn_backlog *backlog);     /* frees what waits still */
tn_wtask *tn_backlog_task(const tn_mreq *req); /* of an ADD */
void tn_backlog_task_free(tn_wtask *task);
void tn_backlog_add(tn_backlog *backlog, tn_wtask *task);
void tn_backlog_put_back(tn_backlog *backlog,
                         tn_wtask *task); /* was taken, and is next again among its like */
/* The task whose turn it is, still in the backlog; NULL: none, or each key that has one is at its rate until
 * *out_wait_until_ns (UINT64_MAX: no end is known). */
tn_wtask *tn_backlog_next(tn_backlog *backlog, uint64_t now_ns, uint64_t *out_wait_until_ns);
/* Takes out what tn_backlog_next has just named; `turn`: its key has had its turn, and (unless the task has been paid
 * for) one of its rate. */
void tn_backlog_take(tn_backlog *backlog, tn_wtask *task, uint64_t now_ns, bool turn);
tn_wtask *tn_backlog_pop(tn_backlog *backlog); /* any, whatever the rates; NULL: empty */
void tn_backlog_set_rules(tn_backlog *backlog, const tn_fair_rules *rules, uint64_t now_ns);
/* All that wait, about in the order of their turns; false: enough. */
void tn_backlog_each(const tn_backlog *backlog, bool (*each)(void *user, const tn_wtask *task),
                     void *user);
/* Of one priority, or of all (0). */
size_t tn_backlog_count(const tn_backlog *backlog, uint32_t priority);
uint64_t tn_backlog_oldest_ns(const tn_backlog *backlog,
                              uint32_t priority); /* when made; UINT64_MAX: none */
uint64_t tn_backlog_head_ns(
    const tn_backlog *backlog); /* about the oldest, at a glance; UINT64_MAX: none */
void tn_backlog_rest(tn_backlog *backlog, uint64_t now_ns); /* now and then: gives memory back */

#endif
