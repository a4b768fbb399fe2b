/* SPDX-License-Identifier: MIT */
/* How fast a queue hands out: the rate that an operator or its workers set, what came and went in the last half minute,
 * and the advice to have more or fewer pollers.  A rate is the whole queue's; each partition keeps its part of it. */
#include "matching/priv.h"

#include <stdlib.h>

#include "client/partition.h"
#include "proto/proto.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"

typedef Temporal__Api__Workflowservice__V1__PollWorkflowTaskQueueResponse poll_wft_answer;
typedef Temporal__Api__Workflowservice__V1__PollActivityTaskQueueResponse poll_activity_answer;
typedef Temporal__Api__Taskqueue__V1__PollerScalingDecision scaling;

#define SLOTS 30u /* seconds */
enum { SOURCE_API = 1, SOURCE_WORKER, SOURCE_SYSTEM };

struct tn_tq_limit {
    tn_tq *tq;
    double worker;       /* of the whole queue; below 0: none */
    double rate, tokens; /* of this partition; rate below 0: none */
    uint64_t tokens_at_ns;
    uint64_t held_back_ns; /* when it last did; 0: never */
    tn_loop_timer timer;
};

struct tn_tq_slots { /* what came and went in each of the last seconds */
    uint32_t added[SLOTS], dispatched[SLOTS];
    uint64_t sec; /* of the newest slot */
};

/* ---- statistics: a ring of seconds ---- */

static void turn_slots(tn_tq_slots *slots)
{
    uint64_t sec = tn_now_mono_ns() / TN_SEC;
    uint64_t steps = sec - slots->sec;
    for (uint64_t i = 1; i <= steps && i <= SLOTS; i++) {
        size_t slot = (size_t)((slots->sec + i) % SLOTS);
        slots->added[slot] = slots->dispatched[slot] = 0;
    }
    slots->sec = sec;
}

void tn_tq_count(tn_tq *tq, uint32_t priority, bool dispatched)
{
    tn_tq_slots **slots = &tq->slots[priority - 1];
    if (!*slots)
        *slots = tn_xcalloc(1, sizeof(**slots));
    turn_slots(*slots);
    size_t slot = (size_t)((*slots)->sec % SLOTS);
    if (dispatched)
        (*slots)->dispatched[slot]++;
    else
        (*slots)->added[slot]++;
}

static uint64_t sum_of(tn_tq_slots *slots, bool dispatched)
{
    uint64_t sum = 0;
    if (!slots)
        return 0;
    turn_slots(slots);
    for (size_t i = 0; i < SLOTS; i++)
        sum += dispatched ? slots->dispatched[i] : slots->added[i];
    return sum;
}

float tn_tq_rate(const tn_tq *tq, uint32_t priority, bool dispatched)
{
    uint64_t sum = 0;
    for (uint32_t i = 1; i <= TN_PRIORITIES; i++)
        sum += !priority || priority == i ? sum_of(tq->slots[i - 1], dispatched) : 0;
    return (float)sum / (float)SLOTS;
}

/* ---- the rate ---- */

static void allows_again(tn_loop_timer *timer)
{
    tn_match(TN_CONTAINER_OF(timer, tn_tq_limit, timer)->tq);
}

static tn_tq_limit *limit_of(tn_tq *tq)
{
    if (!tq->limit) {
        tq->limit = tn_xcalloc(1, sizeof(*tq->limit));
        tq->limit->tq = tq;
        tq->limit->worker = tq->limit->rate = -1;
        tn_loop_timer_init(&tq->limit->timer, allows_again);
    }
    return tq->limit;
}

static double wanted(const tn_tq *tq, int32_t *out_source)
{
    double api = tn_tq_config_rate(tq), worker = tq->limit ? tq->limit->worker : -1;
    *out_source = api >= 0 ? SOURCE_API : worker >= 0 ? SOURCE_WORKER : SOURCE_SYSTEM;
    return api >= 0 ? api : worker;
}

double tn_rates_limit(const tn_tq *tq, int32_t *out_source)
{
    double rate = wanted(tq, out_source);
    return rate < 0 ? TN_RATE_NONE : rate;
}

void tn_rates_changed(tn_tq *tq)
{
    int32_t source;
    double rate = wanted(tq, &source);
    if (rate < 0 && !tq->limit)
        return;
    tn_tq_limit *limit = limit_of(tq);
    if (rate >= 0)
        rate /= tn_partitions_read(tq->ns->name, tq->base, tq->type);
    if (limit->rate == rate)
        return;
    if (limit->rate <= 0) { /* none before, or it stood still */
        limit->tokens = rate < 1 ? 1 : rate;
        limit->tokens_at_ns = tn_now_mono_ns();
    }
    limit->rate = rate;
    if (tq->backlog.count) /* not from here: a poll may be on its way in */
        tn_loop_timer_start(&limit->timer, tn_now_mono_ns());
}

void tn_rates_set_worker(tn_tq *tq, double rate)
{
    if (rate < 0 && !tq->limit)
        return;
    limit_of(tq)->worker = rate;
    tn_rates_changed(tq);
}

bool tn_rates_may_dispatch(tn_tq *tq)
{
    tn_tq_limit *limit = tq->limit;
    if (!limit || limit->rate < 0)
        return true;
    uint64_t now = tn_now_mono_ns();
    double burst = limit->rate < 1 ? 1 : limit->rate;
    limit->tokens += (double)(now - limit->tokens_at_ns) / (double)TN_SEC * limit->rate;
    limit->tokens_at_ns = now;
    if (limit->tokens > burst)
        limit->tokens = burst;
    if (limit->tokens >= 1 && limit->rate > 0) {
        limit->tokens -= 1;
        return true;
    }
    limit->held_back_ns = now;
    if (limit->rate > 0)
        tn_rates_look_at(tq, now + (uint64_t)((1 - limit->tokens) / limit->rate * (double)TN_SEC) +
                                 TN_MS);
    return false;
}

void tn_rates_keep_token(tn_tq *tq)
{
    if (tq->limit && tq->limit->rate > 0)
        tq->limit->tokens += 1;
}

void tn_rates_look_at(tn_tq *tq, uint64_t at_mono_ns)
{
    tn_tq_limit *limit = limit_of(tq);
    if (!tn_loop_timer_active(&limit->timer) || limit->timer.node.key > at_mono_ns)
        tn_loop_timer_start(&limit->timer, at_mono_ns);
}

bool tn_rates_limited(const tn_tq *tq)
{
    return tq->limit && tq->limit->held_back_ns &&
           tn_now_mono_ns() - tq->limit->held_back_ns < SLOTS * TN_SEC;
}

void tn_rates_done(tn_tq *tq)
{
    if (tq->limit)
        tn_loop_timer_stop(&tq->limit->timer);
    free(tq->limit);
    for (size_t i = 0; i < TN_PRIORITIES; i++)
        free(tq->slots[i]);
}

/* ---- advice on pollers ---- */

/* One such advice at a time, so many a second for each poller that has been seen. */
static bool may_advise(tn_tq *tq, uint64_t now)
{
    double rate = tn_dyn_f64(TN_DYN_MATCHING_SCALING_RATE, tq->ns->name, tq->base);
    double pollers = tq->n_pollers ? (double)tq->n_pollers : 1;
    if (rate <= 0 || now < tq->scaling_free_ns)
        return false;
    tq->scaling_free_ns = now + (uint64_t)((double)TN_SEC / rate / pollers);
    return true;
}

static int32_t more_pollers(tn_tq *tq, uint64_t now)
{
    uint64_t oldest = tn_backlog_head_ns(&tq->backlog);
    if (tn_rates_limited(tq))
        return 0; /* it isn't pollers that are missing */
    if (oldest < now && now - oldest > tn_tq_number(tq, TN_DYN_MATCHING_SCALING_BACKLOG_AGE))
        return 1;
    if (tq->forward) /* a part of the whole */
        return 0;
    double ratio = tn_dyn_f64(TN_DYN_MATCHING_SCALING_RATIO, tq->ns->name, tq->base);
    float added = tn_tq_rate(tq, 0, false), dispatched = tn_tq_rate(tq, 0, true);
    return dispatched > 0 && (double)added / (double)dispatched > ratio;
}

/* An answer of another host is bytes only: a message is continued by more of them. */
static void append(tn_mreq *req, tn_blob opaque, const ProtobufCMessage *more)
{
    tn_blob packed;
    if (tn_proto_pack(more, req->arena, &packed) != TN_OK)
        return;
    uint8_t *bytes = tn_arena_alloc(req->arena, opaque.n + packed.n + 1);
    if (opaque.n)
        memcpy(bytes, opaque.p, opaque.n);
    if (packed.n)
        memcpy(bytes + opaque.n, packed.p, packed.n);
    req->response =
        tn_proto_opaque(more->descriptor, tn_blob_from(bytes, opaque.n + packed.n), req->arena);
}

static void add_to_answer(tn_wpoll *poll, int32_t delta, size_t backlog)
{
    tn_mreq *req = poll->mreq;
    poll_wft_answer wft =
        TEMPORAL__API__WORKFLOWSERVICE__V1__POLL_WORKFLOW_TASK_QUEUE_RESPONSE__INIT;
    poll_activity_answer activity =
        TEMPORAL__API__WORKFLOWSERVICE__V1__POLL_ACTIVITY_TASK_QUEUE_RESPONSE__INIT;
    tn_blob opaque = {0};
    tn_arena_set_limit(req->arena, 0);
    bool is_opaque = tn_proto_is_opaque(req->response, &opaque);
    bool is_wft = poll->tq->type == TN_TASK_WORKFLOW;
    scaling *advice = delta ? TN_NEW(req->arena, scaling) : NULL;
    if (advice) {
        temporal__api__taskqueue__v1__poller_scaling_decision__init(advice);
        advice->poll_request_delta_suggestion = delta;
    }
    if (is_wft) {
        poll_wft_answer *out = is_opaque ? &wft : (poll_wft_answer *)(void *)req->response;
        out->poller_scaling_decision = advice;
        out->backlog_count_hint = (int64_t)backlog;
    } else {
        (is_opaque ? &activity : (poll_activity_answer *)(void *)req->response)
            ->poller_scaling_decision = advice;
    }
    if (is_opaque)
        append(req, opaque, is_wft ? &wft.base : &activity.base);
}

int32_t tn_rates_advice(const tn_wpoll *poll, bool sync, size_t *out_backlog)
{
    tn_tq *tq = poll->tq;
    uint64_t now = tn_now_mono_ns();
    int32_t delta = 0;
    *out_backlog = tq->type == TN_TASK_WORKFLOW ? tq->backlog.count : 0;
    if (sync && now - poll->came_mono_ns >= tn_tq_number(tq, TN_DYN_MATCHING_SCALING_WAIT))
        delta = -1;
    else if (may_advise(tq, now))
        delta = more_pollers(tq, now);
    return delta;
}

void tn_rates_advise(tn_wpoll *poll, bool sync)
{
    size_t backlog;
    int32_t delta = tn_rates_advice(poll, sync, &backlog);
    if (delta || backlog)
        add_to_answer(poll, delta, backlog);
}
