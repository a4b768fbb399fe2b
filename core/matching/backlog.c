/* SPDX-License-Identifier: MIT */
/* Priorities and fairness in a queue's backlog: see backlog.h.
 *
 * A fairness key is in one of three places: ready (a heap by pass), held (a heap by the time at which its rate allows it
 * again), or idle, without tasks: there it keeps its pass until the others have caught up, so that a key that comes
 * with one task at a time has no more than its share.  A new key begins a stride behind the one that had its
 * turn last. */
#include "matching/backlog.h"

#include <stdlib.h>

#define STRIDE 1000000.0 /* of weight 1 */
#define WEIGHT_MIN 0.001f
#define IDLE_LOOK 4u /* idle keys looked at a turn */

typedef struct fair_key {
    tn_map_link link; /* rank.keys */
    tn_heap_node node;
    tn_list idle;
    tn_list tasks;
    uint64_t pass;
    uint64_t free_ns; /* its rate allows the next then */
    bool held;
    char name[];
} fair_key;

typedef struct rank {
    tn_map keys;
    tn_heap ready, held;
    tn_list idle; /* longest so first */
    size_t n_idle, n_tasks;
    uint64_t pass; /* of the last turn */
} rank;

struct tn_ranks {
    rank of[TN_PRIORITIES]; /* index: priority - 1 */
};

/* ---- tasks ---- */

static uint8_t priority_of(const tn_task_priority *p)
{
    if (!p || p->key <= 0)
        return TN_PRIORITY_DEFAULT;
    return p->key > (int32_t)TN_PRIORITIES ? (uint8_t)TN_PRIORITIES : (uint8_t)p->key;
}

tn_wtask *tn_backlog_task(const tn_mreq *req)
{
    const tn_task_priority *p = req->priority;
    size_t n = req->workflow_id.n,
           key_n = p && p->fairness_key.n <= UINT8_MAX ? p->fairness_key.n : 0;
    tn_wtask *task =
        tn_xmalloc(sizeof(*task) + n + key_n + 2 + tn_wtask_directive_size(&req->directive));
    tn_list_init(&task->link);
    task->ref = req->task;
    task->expire_mono_ns = req->expire_mono_ns;
    task->workflow_id_n = (uint16_t)n;
    task->fairness_key_n = (uint8_t)key_n;
    task->priority = priority_of(p);
    task->weight = p && p->fairness_weight > 0 ? p->fairness_weight : 1;
    task->paid = req->paid;
    task->taken_s = (uint32_t)(tn_now_mono_ns() / TN_SEC);
    memcpy(task->text, req->workflow_id.p, n);
    task->text[n] = '\0';
    if (key_n)
        memcpy(task->text + n + 1, p->fairness_key.p, key_n);
    task->text[n + 1 + key_n] = '\0';
    tn_wtask_put_directive(task, &req->directive);
    return task;
}

void tn_backlog_task_free(tn_wtask *task) { free(task); }

static tn_wtask *task_at(tn_list *link) { return TN_CONTAINER_OF(link, tn_wtask, link); }

static bool is_plain(const tn_wtask *task)
{
    return task->priority == TN_PRIORITY_DEFAULT && !task->fairness_key_n;
}

/* ---- keys ---- */

static fair_key *key_at(tn_heap_node *node)
{
    return node ? TN_CONTAINER_OF(node, fair_key, node) : NULL;
}

static double weight_of(const tn_backlog *backlog, const tn_wtask *task)
{
    const tn_fair_rules *rules = backlog->rules;
    tn_str key = tn_wtask_fairness_key(task);
    float weight = task->weight;
    size_t low = 0, high = rules ? rules->n_weights : 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = tn_blob_cmp(tn_blob_of_str(rules->weights[middle].key), tn_blob_of_str(key));
        if (order == 0) {
            weight = rules->weights[middle].weight;
            break;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return weight > WEIGHT_MIN ? weight : WEIGHT_MIN;
}

static uint64_t stride_of(const tn_backlog *backlog, const tn_wtask *task)
{
    double stride = STRIDE / weight_of(backlog, task);
    return stride < 1 ? 1 : (uint64_t)stride;
}

static void forget_key(rank *r, fair_key *key)
{
    tn_list_remove(&key->idle);
    r->n_idle--;
    tn_map_remove(&r->keys, &key->link);
    free(key);
}

/* Those that the others have caught up with have nothing left to be remembered for. */
static void forget_idle(rank *r, uint64_t now_ns, size_t look)
{
    TN_LIST_FOREACH_SAFE (link, &r->idle) {
        fair_key *key = TN_CONTAINER_OF(link, fair_key, idle);
        if (r->n_idle <= TN_FAIR_KEYS_IDLE_MAX &&
            (look-- == 0 || key->pass > r->pass || key->free_ns > now_ns))
            return;
        forget_key(r, key);
    }
}

static void set_ready(rank *r, fair_key *key)
{
    key->held = false;
    tn_heap_insert(&r->ready, &key->node, key->pass);
}

static void set_held(rank *r, fair_key *key)
{
    tn_heap_remove(&r->ready, &key->node);
    key->held = true;
    tn_heap_insert(&r->held, &key->node, key->free_ns);
}

static void set_idle(rank *r, fair_key *key)
{
    tn_heap_remove(key->held ? &r->held : &r->ready, &key->node);
    key->held = false;
    tn_list_push_back(&r->idle, &key->idle);
    r->n_idle++;
}

static fair_key *find_key(rank *r, tn_str name)
{
    tn_map_link *found = tn_map_find(&r->keys, tn_blob_of_str(name));
    return found ? TN_CONTAINER_OF(found, fair_key, link) : NULL;
}

static fair_key *get_key(rank *r, tn_str name)
{
    fair_key *key = find_key(r, name);
    if (key)
        return key;
    key = tn_xcalloc(1, sizeof(*key) + name.n + 1);
    if (name.n)
        memcpy(key->name, name.p, name.n);
    tn_list_init(&key->tasks);
    tn_list_init(&key->idle);
    tn_map_insert(&r->keys, &key->link, tn_blob_from(key->name, name.n));
    return key;
}

static void rank_add(tn_backlog *backlog, tn_wtask *task, bool first)
{
    rank *r = &backlog->ranks->of[task->priority - 1];
    fair_key *key = get_key(r, tn_wtask_fairness_key(task));
    r->n_tasks++;
    bool had = !tn_list_empty(&key->tasks);
    if (first)
        tn_list_push_front(&key->tasks, &task->link);
    else
        tn_list_push_back(&key->tasks, &task->link);
    if (had)
        return;
    if (!tn_list_empty(&key->idle)) {
        tn_list_remove(&key->idle);
        r->n_idle--;
    }
    uint64_t behind = r->pass + (first ? 0 : stride_of(backlog, task));
    key->pass = key->pass > behind ? key->pass : behind;
    set_ready(r, key);
}

static void rank_done(rank *r)
{
    TN_LIST_FOREACH_SAFE (link, &r->idle)
        forget_key(r, TN_CONTAINER_OF(link, fair_key, idle));
    TN_ASSERT(!r->keys.count);
    tn_map_done(&r->keys);
    tn_heap_done(&r->ready);
    tn_heap_done(&r->held);
}

/* ---- the backlog ---- */

void tn_backlog_init(tn_backlog *backlog)
{
    *backlog = (tn_backlog){0};
    tn_list_init(&backlog->plain);
}

static void ranks_end(tn_backlog *backlog)
{
    for (size_t i = 0; backlog->ranks && i < TN_PRIORITIES; i++)
        rank_done(&backlog->ranks->of[i]);
    free(backlog->ranks);
    backlog->ranks = NULL;
}

void tn_backlog_done(tn_backlog *backlog)
{
    for (tn_wtask *task; (task = tn_backlog_pop(backlog));)
        tn_backlog_task_free(task);
    ranks_end(backlog);
}

static void ranks_begin(tn_backlog *backlog)
{
    backlog->ranks = tn_xcalloc(1, sizeof(*backlog->ranks));
    for (size_t i = 0; i < TN_PRIORITIES; i++) {
        rank *r = &backlog->ranks->of[i];
        tn_map_init(&r->keys);
        tn_heap_init(&r->ready);
        tn_heap_init(&r->held);
        tn_list_init(&r->idle);
    }
    for (tn_list *link; (link = tn_list_pop_front(&backlog->plain));)
        rank_add(backlog, task_at(link), false);
}

static void put(tn_backlog *backlog, tn_wtask *task, bool first)
{
    if (!backlog->ranks && !is_plain(task))
        ranks_begin(backlog);
    backlog->count++;
    if (backlog->ranks)
        rank_add(backlog, task, first);
    else if (first)
        tn_list_push_front(&backlog->plain, &task->link);
    else
        tn_list_push_back(&backlog->plain, &task->link);
}

void tn_backlog_add(tn_backlog *backlog, tn_wtask *task) { put(backlog, task, false); }
void tn_backlog_put_back(tn_backlog *backlog, tn_wtask *task) { put(backlog, task, true); }

/* The key whose turn it is in this rank. */
static fair_key *turn_of(rank *r, uint64_t now_ns, uint64_t *wait_until_ns)
{
    for (fair_key *key; (key = key_at(tn_heap_min(&r->held))) && key->free_ns <= now_ns;) {
        tn_heap_remove(&r->held, &key->node);
        key->pass = key->pass > r->pass ? key->pass : r->pass;
        set_ready(r, key);
    }
    for (fair_key *key; (key = key_at(tn_heap_min(&r->ready)));) {
        if (key->free_ns <= now_ns)
            return key;
        set_held(r, key);
    }
    const fair_key *soonest = key_at(tn_heap_min(&r->held));
    if (soonest && soonest->free_ns < *wait_until_ns)
        *wait_until_ns = soonest->free_ns;
    return NULL;
}

tn_wtask *tn_backlog_next(tn_backlog *backlog, uint64_t now_ns, uint64_t *out_wait_until_ns)
{
    *out_wait_until_ns = UINT64_MAX;
    if (!backlog->ranks) {
        tn_list *first = tn_list_first(&backlog->plain);
        return first ? task_at(first) : NULL;
    }
    for (size_t i = 0; i < TN_PRIORITIES; i++) {
        rank *r = &backlog->ranks->of[i];
        fair_key *key = r->n_tasks ? turn_of(r, now_ns, out_wait_until_ns) : NULL;
        if (key)
            return task_at(tn_list_first(&key->tasks));
    }
    return NULL;
}

/* At most what a second allows at once, then one an interval. */
static void count_key(const tn_backlog *backlog, fair_key *key, const tn_wtask *task,
                      uint64_t now_ns)
{
    double rate = backlog->rules ? backlog->rules->key_rate : -1;
    if (rate < 0)
        return;
    rate *= weight_of(backlog, task);
    double interval = rate > 1e-9 ? (double)TN_SEC / rate : 1e18;
    uint64_t burst = interval < (double)TN_SEC ? TN_SEC - (uint64_t)interval : 0;
    uint64_t from = now_ns > burst ? now_ns - burst : 0;
    key->free_ns = (key->free_ns > from ? key->free_ns : from) + (uint64_t)interval;
}

void tn_backlog_take(tn_backlog *backlog, tn_wtask *task, uint64_t now_ns, bool turn)
{
    tn_list_remove(&task->link);
    backlog->count--;
    if (!backlog->ranks)
        return;
    rank *r = &backlog->ranks->of[task->priority - 1];
    fair_key *key = find_key(r, tn_wtask_fairness_key(task));
    TN_ASSERT(key);
    r->n_tasks--;
    if (turn) {
        r->pass = key->pass > r->pass ? key->pass : r->pass;
        key->pass += stride_of(backlog, task);
        if (!task->paid)
            count_key(backlog, key, task, now_ns);
    }
    if (tn_list_empty(&key->tasks))
        set_idle(r, key);
    else if (!key->held)
        tn_heap_change(&r->ready, &key->node, key->pass);
    forget_idle(r, now_ns, IDLE_LOOK);
}

tn_wtask *tn_backlog_pop(tn_backlog *backlog)
{
    tn_list *first = tn_list_first(&backlog->plain);
    tn_wtask *task = first ? task_at(first) : NULL;
    for (size_t i = 0; !task && backlog->ranks && i < TN_PRIORITIES; i++) {
        rank *r = &backlog->ranks->of[i];
        fair_key *key = key_at(r->ready.count ? tn_heap_min(&r->ready) : tn_heap_min(&r->held));
        task = key ? task_at(tn_list_first(&key->tasks)) : NULL;
    }
    if (task)
        tn_backlog_take(backlog, task, 0, false);
    return task;
}

static void judge_again(rank *r, uint64_t now_ns)
{
    for (fair_key *key; (key = key_at(tn_heap_min(&r->held)));) {
        tn_heap_remove(&r->held, &key->node);
        key->free_ns = key->free_ns > now_ns + TN_SEC ? now_ns + TN_SEC : key->free_ns;
        set_ready(r, key);
    }
}

/* Keys that waited for an old rate wait for a second at most before the new one holds; with none they wait no more. */
void tn_backlog_set_rules(tn_backlog *backlog, const tn_fair_rules *rules, uint64_t now_ns)
{
    bool limited = rules && rules->key_rate >= 0;
    backlog->rules = rules;
    if (limited && !backlog->ranks)
        ranks_begin(backlog);
    for (size_t i = 0; backlog->ranks && i < TN_PRIORITIES; i++)
        judge_again(&backlog->ranks->of[i], limited ? now_ns : 0);
}

/* ---- what is told of it ---- */

size_t tn_backlog_count(const tn_backlog *backlog, uint32_t priority)
{
    if (!priority)
        return backlog->count;
    if (!backlog->ranks)
        return priority == TN_PRIORITY_DEFAULT ? backlog->count : 0;
    return backlog->ranks->of[priority - 1].n_tasks;
}

static bool each_in(const tn_list *tasks, bool (*each)(void *user, const tn_wtask *task),
                    void *user)
{
    TN_LIST_FOREACH (link, tasks)
        if (!each(user, task_at(link)))
            return false;
    return true;
}

static bool each_key(const tn_heap *heap, bool (*each)(void *user, const tn_wtask *task),
                     void *user)
{
    for (size_t i = 0; i < heap->count; i++)
        if (!each_in(&key_at(heap->nodes[i])->tasks, each, user))
            return false;
    return true;
}

void tn_backlog_each(const tn_backlog *backlog, bool (*each)(void *user, const tn_wtask *task),
                     void *user)
{
    bool more = each_in(&backlog->plain, each, user);
    for (size_t i = 0; more && backlog->ranks && i < TN_PRIORITIES; i++) {
        const rank *r = &backlog->ranks->of[i];
        more = each_key(&r->ready, each, user) && each_key(&r->held, each, user);
    }
}

static uint64_t made_ns(const tn_list *tasks)
{
    tn_list *first = tn_list_first(tasks);
    return first ? task_at(first)->ref.created_mono_ns : UINT64_MAX;
}

static uint64_t oldest_in(const tn_heap *heap)
{
    uint64_t oldest = UINT64_MAX;
    for (size_t i = 0; i < heap->count; i++) {
        uint64_t at = made_ns(&key_at(heap->nodes[i])->tasks);
        oldest = at < oldest ? at : oldest;
    }
    return oldest;
}

uint64_t tn_backlog_oldest_ns(const tn_backlog *backlog, uint32_t priority)
{
    if (!backlog->ranks)
        return !priority || priority == TN_PRIORITY_DEFAULT ? made_ns(&backlog->plain) : UINT64_MAX;
    uint64_t oldest = UINT64_MAX;
    for (uint32_t i = 0; i < TN_PRIORITIES; i++) {
        const rank *r = &backlog->ranks->of[i];
        if (priority && priority != i + 1)
            continue;
        uint64_t ready = oldest_in(&r->ready), held = oldest_in(&r->held);
        oldest = ready < oldest ? ready : oldest;
        oldest = held < oldest ? held : oldest;
    }
    return oldest;
}

uint64_t tn_backlog_head_ns(const tn_backlog *backlog)
{
    uint64_t oldest = made_ns(&backlog->plain);
    for (size_t i = 0; backlog->ranks && i < TN_PRIORITIES; i++) {
        const rank *r = &backlog->ranks->of[i];
        const fair_key *key =
            key_at(r->ready.count ? tn_heap_min(&r->ready) : tn_heap_min(&r->held));
        uint64_t at = key ? made_ns(&key->tasks) : UINT64_MAX;
        oldest = at < oldest ? at : oldest;
    }
    return oldest;
}

void tn_backlog_rest(tn_backlog *backlog, uint64_t now_ns)
{
    bool limited = backlog->rules && backlog->rules->key_rate >= 0;
    if (!backlog->ranks)
        return;
    for (size_t i = 0; i < TN_PRIORITIES; i++) {
        rank *r = &backlog->ranks->of[i];
        if (!r->n_tasks) /* nobody left to catch up with */
            TN_LIST_FOREACH (link, &r->idle) {
                fair_key *key = TN_CONTAINER_OF(link, fair_key, idle);
                r->pass = key->pass > r->pass ? key->pass : r->pass;
            }
        forget_idle(r, now_ns, SIZE_MAX);
    }
    if (!backlog->count && !limited)
        ranks_end(backlog);
}
