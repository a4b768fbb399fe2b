/* SPDX-License-Identifier: MIT */
/* What all kinds of objects share: their ids, their first event, their end. */
#include "history/machine/object.h"

#include "history/machine/batch.h"
#include "history/machine/priv.h"
#include "history/machine/schedule.h"
#include "history/machine/solo.h"
#include "proto/proto.h"

static const tn_object_kind *added;

/* One line a kind, in the order of their letters. */
static const tn_object_kind *const kinds[] = {
    &tn_batch_kind,
    &tn_solo_kind,
    &tn_schedule_kind,
};

void tn_object_kind_add(const tn_object_kind *kind) { added = kind; }

static const tn_object_kind *kind_by_letter(char letter)
{
    for (size_t i = 0; i < TN_COUNT_OF(kinds); i++)
        if (kinds[i] && kinds[i]->letter == letter)
            return kinds[i];
    return added && added->letter == letter ? added : NULL;
}

const tn_object_kind *tn_object_kind_of(tn_str workflow_id)
{
    if (workflow_id.n < 2 || workflow_id.p[0] != TN_OBJECT_MARK)
        return NULL;
    return kind_by_letter(workflow_id.p[1]);
}

tn_str tn_object_id_of(tn_str workflow_id)
{
    return (tn_str){workflow_id.p + 2, workflow_id.n - 2};
}

tn_str tn_object_workflow_id(tn_arena *arena, const tn_object_kind *kind, tn_str id)
{
    char *p = tn_arena_alloc(arena, id.n + 3);

    if (!p)
        return (tn_str){NULL, 0};
    p[0] = TN_OBJECT_MARK;
    p[1] = kind->letter;
    if (id.n)
        memcpy(p + 2, id.p, id.n);
    p[id.n + 2] = '\0';
    return (tn_str){p, id.n + 2};
}

void tn_object_begin(tn_tx *tx, const tn_object_kind *kind, const tn_object_start *start)
{
    tn_event *event = tn_tx_event(tx, 1);
    tn_started_attrs *a =
        TN_EVENT_ATTRS(tx, event, WORKFLOW_EXECUTION_STARTED, workflow_execution_started);

    tx->ms->kind = kind;
    a->workflow_type = TN_MSG(tx->arena, temporal__api__common__v1__workflow_type);
    a->workflow_type->name = tn_tx_text(tx, tn_str_from(start->type));
    a->task_queue = TN_MSG(tx->arena, temporal__api__taskqueue__v1__task_queue);
    a->task_queue->name = tn_tx_text(tx, tn_str_from(start->task_queue));
    a->identity = tn_tx_text(tx, tn_str_from(start->identity));
    a->attempt = 1;
    a->memo = (Temporal__Api__Common__V1__Memo *)(uintptr_t)start->memo;
    a->search_attributes =
        (Temporal__Api__Common__V1__SearchAttributes *)(uintptr_t)start->attributes;
    tn_tx_add_now(tx, event);
    if (start->request_id && *start->request_id)
        tn_ms_set_create_request_id(tx->ms, tn_str_from(start->request_id));
    tx->extras_dirty = true;
}

void tn_object_close(tn_tx *tx, int32_t status, uint64_t retention_ns)
{
    tn_ms *ms = tx->ms;

    ms->status = status;
    ms->close_ns = tx->now_ns > ms->start_ns ? tx->now_ns : ms->start_ns;
    ms->retention_due_ns = ms->close_ns + retention_ns;
    ms->parent_told = ms->children_settled = true;
    tx->extras_dirty = tx->visibility_dirty = true;
}

/* ---- for the state machine -------------------------------------------------------------------- */

tn_status tn_object_load(tn_ms *ms, char letter, tn_blob packed, tn_error *err)
{
    const tn_object_kind *kind = kind_by_letter(letter);

    if (!kind || (ms->kind && ms->kind != kind))
        return tn_error_set(err, TN_EDATALOSS, "an object of a kind ('%c') that is not known here",
                            letter >= ' ' && letter < 127 ? letter : '?');
    ms->kind = kind;
    return kind->load(ms, packed, err);
}

void tn_object_give_way(tn_tx *tx)
{
    if (tn_ms_running(tx->ms) && tx->ms->kind->terminate)
        tx->ms->kind->terminate(tx);
    if (tn_ms_running(tx->ms))
        tn_object_close(tx, 5, tx->env->retention_ns);
}

uint64_t tn_object_wake_ns(const tn_ms *ms)
{
    return ms->kind->has_wants && ms->kind->has_wants(ms) ? 0 : ms->kind->deadline_ns(ms);
}

void tn_ms_set_owner(tn_ms *ms, tn_str owner, tn_str owner_run_id, uint64_t ref)
{
    tn_ms_replace_str(ms, &ms->owner, owner);
    tn_ms_replace_str(ms, &ms->owner_run_id, owner_run_id);
    ms->owner_ref = ref;
}
