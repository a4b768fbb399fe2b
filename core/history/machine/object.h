/* SPDX-License-Identifier: MIT */
/* Objects: durable state machines that are no workflows (schedules, batch jobs, activities of their own).
 *
 * An object is a run of another kind.  It has a run's lock, cache, shard, fence, wake row, outbox, current-run row,
 * retention and deletion; it has no history: event 1 alone, which says its type, memo and search attributes.  The rest of
 * its state is ms->object, a structure of its kind, packed whole into its extras; every commit rewrites its snapshot.
 *
 * Its id space is its own: the workflow id under which it is kept is TN_OBJECT_MARK, the kind's letter, and the object's
 * id; no client's request reaches such an id but through the calls of its kind (history/serve.c).
 *
 * A kind is a table of pure functions, like the rest of the machine: no I/O, time from tx->now_ns.  What an object wants
 * of the world it says by `wants`; history's rim does it (history/object.h) and brings the answer to `result`. */
#ifndef TN_HISTORY_MACHINE_OBJECT_H
#define TN_HISTORY_MACHINE_OBJECT_H

#include "history/machine/machine.h"

#define TN_OBJECT_MARK '\x01'

/* Something to be done for the object; lies in its state.  Until its result has changed the state so that it is not
 * wanted any more, it is wanted again: after a restart, and when `dispatched` is cleared. */
typedef struct tn_object_want {
    uint32_t what;   /* the kind's own: which effect */
    uint64_t id;     /* the kind's own: which one of them; `what` and `id` name it in the result */
    bool dispatched; /* memory only: on its way */
} tn_object_want;

typedef struct tn_object_result {
    uint32_t what;
    uint64_t id;
    const tn_fault *fault;            /* NULL: it worked */
    const ProtobufCMessage *response; /* NULL with fault NULL: an empty message */
} tn_object_result;

/* The answer to a call. */
typedef struct tn_object_reply {
    tn_arena *arena; /* of the caller: the response lies there */
    ProtobufCMessage *response;
    /* The call waits: it is made again after the next transition, or with `waited` when its time is up (the long poll of
     * 20 s, or the caller's own deadline): then it must answer. */
    bool park, waited;
} tn_object_reply;

/* What there is when a create comes. */
typedef enum tn_object_meet {
    TN_OBJECT_ANSWER,  /* the fault or reply->response is the answer */
    TN_OBJECT_CALL,    /* ->call on the one that is there */
    TN_OBJECT_CREATE,  /* a new one, the one that is there has closed */
    TN_OBJECT_REPLACE, /* the one that is there is terminated in the same commit */
} tn_object_meet;

/* What visibility shows. */
typedef struct tn_object_listing {
    tn_str id, type, task_queue; /* preset: the object's id and what event 1 says */
    int32_t status;              /* preset */
    uint64_t execution_ns;       /* preset: the start */
    int64_t transitions;         /* preset: how often it was written */
    /* Merged over ms->memo and ms->search_attributes; may be NULL.  TemporalNamespaceDivision is added by itself. */
    const Temporal__Api__Common__V1__Memo *memo;
    const Temporal__Api__Common__V1__SearchAttributes *attributes;
} tn_object_listing;

typedef struct tn_object_kind {
    char letter;
    const char *division; /* TemporalNamespaceDivision */
    /* ms->object to and from its bytes.  load is total: TN_EDATALOSS for what makes no sense; it may be called on a state
     * that has an object already (extras are absolute): it replaces it. */
    tn_status (*load)(tn_ms *ms, tn_blob packed, tn_error *err);
    tn_blob (*save)(const tn_ms *ms, tn_arena *arena);
    void (*destroy)(tn_ms *ms); /* frees ms->object by tn_ms_free; it may be NULL */

    /* Requests (public messages).  creates: this one makes an object. */
    bool (*creates)(const ProtobufCMessage *request);
    tn_object_meet (*meets)(const tn_ms *there, const ProtobufCMessage *request,
                            tn_object_reply *reply, const tn_fault **out_fault);
    /* On a fresh state: calls tn_object_begin, fills ms->object. */
    const tn_fault *(*create)(tn_tx *tx, const ProtobufCMessage *request, tn_object_reply *reply);
    /* Any other; sets tx->extras_dirty when it has changed something (and visibility_dirty). */
    const tn_fault *(*call)(tn_tx *tx, const ProtobufCMessage *request, tn_object_reply *reply);
    const tn_fault *(*not_found)(tn_arena *arena, tn_str id,
                                 tn_str run_id); /* run_id may be empty */

    /* Wall time at which fire has something to do; UINT64_MAX: never. */
    uint64_t (*deadline_ns)(const tn_ms *ms);
    void (*fire)(tn_tx *tx);
    /* Calls each(user, TN_WANT_OBJECT, want) for every want that is not dispatched (activities of ms->activities that are
     * ready are handed to matching besides).  May be NULL, like result. */
    void (*wants)(tn_ms *ms, uint64_t now_ns, void (*each)(void *user, tn_want want, void *item),
                  void *user);
    bool (*has_wants)(const tn_ms *ms); /* something would have to be done after a restart */
    void (*result)(tn_tx *tx, const tn_object_result *result);
    void (*listing)(const tn_ms *ms, tn_arena *arena, tn_object_listing *inout);
    void (*terminate)(
        tn_tx
            *tx); /* it is to be deleted, or gives way: calls tn_object_close; NULL: that is all */
    /* A chain of runs that it owns has ended with this event; may come again. */
    void (*owned_closed)(tn_tx *tx, uint64_t ref, tn_str workflow_id, tn_str first_run_id,
                         const tn_event *event);
} tn_object_kind;

/* The kind of a workflow id, NULL: a workflow's. */
const tn_object_kind *tn_object_kind_of(tn_str workflow_id);
tn_str tn_object_id_of(tn_str workflow_id); /* without mark and letter */
tn_str tn_object_workflow_id(tn_arena *arena, const tn_object_kind *kind,
                             tn_str id); /* with them */

/* What event 1 says. */
typedef struct tn_object_start {
    const char *type;       /* not empty */
    const char *task_queue; /* may be empty */
    const char *identity;
    const char *request_id; /* de-duplicates creates; may be empty */
    const Temporal__Api__Common__V1__Memo *memo;
    const Temporal__Api__Common__V1__SearchAttributes *attributes;
} tn_object_start;
void tn_object_begin(tn_tx *tx, const tn_object_kind *kind, const tn_object_start *start);
/* It is over: status of temporal.api.enums.v1.WorkflowExecutionStatus; its rows go after retention_ns. */
void tn_object_close(tn_tx *tx, int32_t status, uint64_t retention_ns);
/* It gives way to another of its id, or is to be deleted: terminated, if it is open. */
void tn_object_give_way(tn_tx *tx);

/* Of a run that an object starts: it tells the object's run when its chain ends (ref is the object's own). */
void tn_ms_set_owner(tn_ms *ms, tn_str owner, tn_str owner_run_id, uint64_t ref);

/* For tests: one more kind. */
void tn_object_kind_add(const tn_object_kind *kind);

#endif
