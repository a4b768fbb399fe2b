/* SPDX-License-Identifier: MIT */
/* Operations in flight.
 *
 * A plugin holds an operation by a token, not by an address: loop, slot and generation.  A slot's memory
 * is never given back, so that a token that comes too late (a second finish, a finish after TN_OK) finds the
 * slot, sees another generation or state, and is counted instead of doing harm. */
#include "plugin/private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SLOTS 64u
#define CHUNKS_MAX 16384u

enum { STATE_FREE, STATE_CALLING, STATE_PENDING, STATE_FINISHED, STATE_RETURNED };
#define STATE_BITS 3
#define STATE_MASK 7u

typedef struct slot {
    tn_plugin_call call;
    tn_plugin_instance *inst;   /* only while the operation is in flight */
    tn_plugin_figures *figures; /* of the newest operation, also later */
    const char *function;       /* that made it pending */
    uint64_t began_ns;
    tn_loop *home;
    /* Generation and state.  The plugin's finish moves CALLING or PENDING to FINISHED (release, pairs with
     * the acquire of the loop); every other move is the loop's. */
    _Atomic uint64_t tag;
    uint64_t deadline_ns;
    uint32_t flags, index;
    bool ended, arrived; /* tn_plugin_call_end was called; the finish message came */
    void (*done)(tn_plugin_call *call);
    tn_loop_timer timer;
    tn_msg msg;
    tn_status finish_status;
    tn_error finish_err;
    struct slot *next_free;
} slot;

typedef struct pool {
    slot *free;
    uint32_t used_chunks;
    _Atomic(slot *) chunks[CHUNKS_MAX];
} pool;

static _Atomic(pool *) pools[TN_PLUGIN_LOOPS_MAX];

/* ---- tokens ---- */

static tn_op *token_of(const slot *s, uint64_t generation)
{
    uint64_t token =
        (uint64_t)tn_loop_index(s->home) << 56 | (uint64_t)s->index << 32 | (uint32_t)generation;
    return (tn_op *)(uintptr_t)token;
}

/* NULL: never was a token. */
static slot *slot_of(const tn_op *op, uint32_t *out_generation)
{
    uint64_t token = (uintptr_t)op;
    uint32_t loop = (uint32_t)(token >> 56), index = (uint32_t)(token >> 32) & 0xffffffu;
    *out_generation = (uint32_t)token;
    if (loop >= TN_PLUGIN_LOOPS_MAX || index / CHUNK_SLOTS >= CHUNKS_MAX || *out_generation == 0)
        return NULL;
    pool *p = atomic_load_explicit(&pools[loop], memory_order_acquire);
    slot *chunk =
        p ? atomic_load_explicit(&p->chunks[index / CHUNK_SLOTS], memory_order_acquire) : NULL;
    return chunk ? &chunk[index % CHUNK_SLOTS] : NULL;
}

static uint64_t tag_make(uint64_t generation, unsigned state)
{
    return generation << STATE_BITS | state;
}
static uint64_t tag_generation(uint64_t tag) { return tag >> STATE_BITS; }
static unsigned tag_state(uint64_t tag) { return (unsigned)(tag & STATE_MASK); }

static void violation(const slot *s, const char *what)
{
    const char *name = s && s->figures ? s->figures->name : "?";
    if (s && s->figures) {
        atomic_fetch_add_explicit(&s->figures->violations, 1, memory_order_relaxed);
        tn_counter_inc(s->figures->m_violations);
    }
    TN_LOG(TN_LOG_ERROR, "plugin", "contract broken", TN_LOG_Z("plugin", name),
           TN_LOG_Z("what", what));
#ifdef TN_DEBUG
    fprintf(stderr, "plugin \"%s\": %s\n", name, what);
    abort();
#endif
}

/* ---- slots [loop] ---- */

static void grow(pool *p, tn_loop *loop)
{
    TN_ASSERT(p->used_chunks < CHUNKS_MAX);
    slot *chunk = tn_xcalloc(CHUNK_SLOTS, sizeof *chunk);
    for (uint32_t i = CHUNK_SLOTS; i-- > 0;) {
        chunk[i].home = loop;
        chunk[i].index = p->used_chunks * CHUNK_SLOTS + i;
        chunk[i].next_free = p->free;
        p->free = &chunk[i];
    }
    atomic_store_explicit(&p->chunks[p->used_chunks++], chunk, memory_order_release);
}

static slot *slot_take(tn_loop *loop)
{
    uint32_t index = tn_loop_index(loop);
    TN_ASSERT(index < TN_PLUGIN_LOOPS_MAX);
    pool *p = atomic_load_explicit(&pools[index], memory_order_relaxed);
    if (!p) {
        p = tn_xcalloc(1, sizeof *p);
        atomic_store_explicit(&pools[index], p, memory_order_release);
    }
    if (p->free &&
        p->free->home != loop) { /* loops were made anew (tests): what was there is given up */
        p->free = NULL;
    }
    if (!p->free)
        grow(p, loop);
    slot *s = p->free;
    p->free = s->next_free;
    return s;
}

static void slot_give(slot *s)
{
    pool *p = atomic_load_explicit(&pools[tn_loop_index(s->home)], memory_order_relaxed);
    uint64_t tag = atomic_load_explicit(&s->tag, memory_order_relaxed);
    atomic_store_explicit(&s->tag, tag_make(tag_generation(tag), STATE_FREE), memory_order_release);
    tn_arena_destroy(s->call.arena);
    s->call.arena = NULL;
    /* Release: the instance may be closed by who sees 0. */
    atomic_fetch_sub_explicit(&s->inst->in_flight, 1, memory_order_release);
    s->inst = NULL;
    s->next_free = p->free;
    p->free = s;
}

static slot *slot_of_call(tn_plugin_call *call) { return TN_CONTAINER_OF(call, slot, call); }

/* ---- the plugin's side ---- */

void *tn_plugin_op_alloc(tn_op *op, size_t n, size_t align)
{
    uint32_t generation;
    slot *s = slot_of(op, &generation);
    uint64_t tag = s ? atomic_load_explicit(&s->tag, memory_order_acquire) : 0;
    if (!s || (uint32_t)tag_generation(tag) != generation ||
        (tag_state(tag) != STATE_CALLING && tag_state(tag) != STATE_PENDING)) {
        violation(s, "op_alloc on an operation that has ended");
        return NULL;
    }
    if (align == 0 || (align & (align - 1)) != 0)
        return NULL;
    void *p = tn_arena_alloc_aligned(s->call.arena, n, align);
    if (p)
        memset(p, 0, n);
    return p;
}

uint64_t tn_plugin_op_deadline(const tn_op *op)
{
    uint32_t generation;
    slot *s = slot_of(op, &generation);
    return s ? s->deadline_ns : 0;
}

void tn_plugin_op_explain(tn_op *op, const tn_error *err)
{
    uint32_t generation;
    slot *s = slot_of(op, &generation);
    if (!s || !err || (uint32_t)tag_generation(atomic_load(&s->tag)) != generation)
        return;
    s->call.err = *err;
    s->call.err.text[sizeof s->call.err.text - 1] = '\0';
}

void tn_plugin_op_finish(tn_op *op, tn_status status, const tn_error *err)
{
    uint32_t generation;
    slot *s = slot_of(op, &generation);
    uint64_t tag = s ? atomic_load_explicit(&s->tag, memory_order_relaxed) : 0;
    do {
        if (!s || (uint32_t)tag_generation(tag) != generation ||
            (tag_state(tag) != STATE_CALLING && tag_state(tag) != STATE_PENDING)) {
            violation(s, "op_finish twice, or on an operation that has ended");
            return;
        }
        /* The fields below are this thread's from here on: nobody reads them before the message. */
    } while (!atomic_compare_exchange_weak_explicit(&s->tag, &tag,
                                                    tag_make(tag_generation(tag), STATE_FINISHED),
                                                    memory_order_acq_rel, memory_order_relaxed));
    s->finish_status = status;
    if (err) {
        s->finish_err = *err;
        s->finish_err.text[sizeof s->finish_err.text - 1] = '\0';
    } else {
        s->finish_err.code = status;
        s->finish_err.vendor_code = 0;
        s->finish_err.text[0] = '\0';
    }
    tn_loop_post(s->home, &s->msg);
}

/* ---- the server's side [loop] ---- */

static bool lawful(tn_status status) { return status <= TN_OK && status >= TN_EDATALOSS; }

static void arrive(tn_msg *msg)
{
    slot *s = TN_CONTAINER_OF(msg, slot, msg);
    s->arrived = true;
    if (s->call.late) {
        atomic_fetch_sub_explicit(&s->inst->stuck, 1, memory_order_relaxed);
        tn_gauge_add(s->figures->m_stuck, -1);
    }
    if (s->ended) {
        slot_give(s);
        return;
    }
    if (s->call.late || tag_state(atomic_load(&s->tag)) == STATE_RETURNED)
        return; /* the answer was given; the room has yet to end the call */
    tn_loop_timer_stop(&s->timer);
    s->call.status = s->finish_status;
    s->call.err = s->finish_err;
    if (!lawful(s->call.status)) {
        violation(s, "op_finish with a status that is not one");
        s->call.status = TN_EINTERNAL;
    }
    atomic_fetch_add_explicit(&s->inst->finished, 1, memory_order_relaxed);
    s->done(&s->call);
}

static void expire(tn_loop_timer *timer)
{
    slot *s = TN_CONTAINER_OF(timer, slot, timer);
    if (tag_state(atomic_load_explicit(&s->tag, memory_order_acquire)) == STATE_FINISHED)
        return; /* its message is under way */
    s->call.late = true;
    atomic_fetch_add_explicit(&s->inst->late, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->inst->stuck, 1, memory_order_relaxed);
    tn_counter_inc(s->figures->m_late);
    tn_gauge_add(s->figures->m_stuck, 1);
    tn_plugin_say_late(s->figures, s->function, tn_now_mono_ns() - s->began_ns);
    bool write = s->flags & TN_PLUGIN_WRITE;
    s->call.status = tn_error_set(&s->call.err, write ? TN_EUNCERTAIN : TN_EUNAVAILABLE,
                                  "plugin \"%s\" did not answer in time", s->inst->name);
    s->done(&s->call);
}

tn_plugin_call *tn_plugin_call_begin(tn_plugin_instance *inst, uint32_t flags, uint64_t timeout_ns,
                                     void (*done)(tn_plugin_call *call), void *user)
{
    bool none = timeout_ns == 0 || timeout_ns >= UINT64_MAX / 2;
    return tn_plugin_call_begin_at(inst, flags, none ? UINT64_MAX : tn_now_mono_ns() + timeout_ns,
                                   done, user);
}

tn_plugin_call *tn_plugin_call_begin_at(tn_plugin_instance *inst, uint32_t flags,
                                        uint64_t deadline_mono_ns,
                                        void (*done)(tn_plugin_call *call), void *user)
{
    tn_loop *loop = tn_loop_current();
    TN_ASSERT(loop && inst && inst->attached);
    slot *s = slot_take(loop);
    uint64_t generation = tag_generation(atomic_load_explicit(&s->tag, memory_order_relaxed)) + 1;
    if ((uint32_t)generation == 0)
        generation++;
    s->inst = inst;
    s->figures = inst->figures;
    s->flags = flags;
    s->done = done;
    s->ended = s->arrived = false;
    s->deadline_ns = deadline_mono_ns;
    s->msg.run = arrive;
    tn_loop_timer_init(&s->timer, expire);
    s->call.op = token_of(s, generation);
    s->call.arena = tn_arena_create(TN_PLUGIN_ARENA_MAX);
    s->call.status = TN_PENDING;
    s->call.err.code = TN_OK;
    s->call.err.vendor_code = 0;
    s->call.err.text[0] = '\0';
    s->call.late = false;
    s->call.user = user;
    atomic_fetch_add_explicit(&inst->in_flight, 1, memory_order_relaxed);
    atomic_store_explicit(&s->tag, tag_make(generation, STATE_CALLING), memory_order_release);
    return &s->call;
}

tn_status tn_plugin_call_returned(tn_plugin_call *call, tn_status status)
{
    slot *s = slot_of_call(call);
    uint64_t tag = atomic_load_explicit(&s->tag, memory_order_acquire);
    uint64_t next =
        tag_make(tag_generation(tag), status == TN_PENDING ? STATE_PENDING : STATE_RETURNED);
    bool finished = tag_state(tag) == STATE_FINISHED ||
                    !atomic_compare_exchange_strong_explicit(
                        &s->tag, &tag, next, memory_order_acq_rel, memory_order_acquire);
    if (status == TN_PENDING) {
        if (!finished && s->deadline_ns != UINT64_MAX) {
            s->function = tn_plugin_last_function();
            s->began_ns = tn_now_mono_ns();
            tn_loop_timer_start(&s->timer, s->deadline_ns);
        }
        return TN_PENDING;
    }
    if (finished) { /* its message will come; until then the slot is not given back */
        violation(s, "op_finish and a result at once");
        atomic_store_explicit(&s->tag, next, memory_order_release);
    } else {
        s->arrived = true; /* nothing will come */
    }
    if (!lawful(status)) {
        violation(s, "a status that is not one");
        status = TN_EINTERNAL;
    }
    call->status = status;
    atomic_fetch_add_explicit(&s->inst->finished, 1, memory_order_relaxed);
    return status;
}

void tn_plugin_call_end(tn_plugin_call *call)
{
    slot *s = slot_of_call(call);
    TN_ASSERT(!s->ended);
    s->ended = true;
    if (s->arrived)
        slot_give(s);
}

void tn_plugin_call_take(tn_plugin_call *call, tn_arena *into)
{
    TN_ASSERT(!call->late && slot_of_call(call)->arrived);
    tn_arena_adopt(into, call->arena);
    call->arena = NULL;
}

void tn_plugin_stats_get(const tn_plugin_instance *inst, tn_plugin_stats *out)
{
    out->in_flight = atomic_load_explicit(&inst->in_flight, memory_order_relaxed);
    out->finished = atomic_load_explicit(&inst->finished, memory_order_relaxed);
    out->late = atomic_load_explicit(&inst->late, memory_order_relaxed);
    out->stuck = atomic_load_explicit(&inst->stuck, memory_order_relaxed);
    out->violations = atomic_load_explicit(&inst->figures->violations, memory_order_relaxed) -
                      inst->violations_before;
    out->holds =
        atomic_load_explicit(&inst->figures->holds, memory_order_relaxed) - inst->holds_before;
}
