/* SPDX-License-Identifier: MIT */
/* Rows that point to runs: what each says. */
#include "tools/verify.h"

#include "proto/proto.h"
#include "tenon/store.pb-c.h"

void tn_vfy_name(tn_vfy_run *run, tn_arena *arena, tn_blob ns_id, tn_str workflow_id)
{
    char text[37];
    if (ns_id.n != 16)
        return;
    tn_uuid_format(ns_id.p, text);
    if (!run->workflow_id) {
        memcpy(run->ns_id, text, sizeof text);
        run->workflow_id = tn_arena_str(arena, workflow_id).p;
    } else if (strcmp(run->ns_id, text) != 0 || !tn_str_is(workflow_id, run->workflow_id)) {
        run->names_differ = true;
    }
}

static Tenon__CurrentRun *unpack_current(tn_arena *arena, const tn_row *row)
{
    Tenon__CurrentRun *current = NULL;
    if (row->key.row.n < 17 ||
        TN_PROTO_UNPACK(tenon__current_run, row->value, arena, &current, NULL) != TN_OK ||
        current->run_id.len != 16)
        return NULL;
    return current;
}

bool tn_vfy_current_run_id(tn_arena *arena, const tn_row *row, uint8_t out[16])
{
    const Tenon__CurrentRun *current = unpack_current(arena, row);
    if (current)
        memcpy(out, current->run_id.data, 16);
    return current != NULL;
}

bool tn_vfy_current_row(tn_vfy_run *run, tn_arena *arena, const tn_row *row, const char **why)
{
    const Tenon__CurrentRun *current = unpack_current(arena, row);
    if (!current) {
        *why = "the current-run row cannot be read";
        return false;
    }
    run->has_current = true;
    run->current_status = current->status;
    run->current_start_ns = current->start_ns;
    run->current_close_ns = current->close_ns;
    if (current->first_run_id.len == 16)
        memcpy(run->current_first, current->first_run_id.data, 16);
    tn_vfy_name(run, arena, tn_blob_from(row->key.row.p, 16),
                (tn_str){(const char *)row->key.row.p + 16, row->key.row.n - 16});
    return true;
}

bool tn_vfy_wake_row(tn_vfy_run *run, tn_arena *arena, const tn_row *row, const char **why)
{
    Tenon__Wake *wake = NULL;
    if (row->key.row.n != 24 ||
        TN_PROTO_UNPACK(tenon__wake, row->value, arena, &wake, NULL) != TN_OK ||
        wake->ns_id.len != 16 || !wake->workflow_id[0]) {
        *why = "the wake row cannot be read";
        return false;
    }
    if (run->wakes < TN_COUNT_OF(run->wake_ns))
        run->wake_ns[run->wakes] = tn_get_u64be(row->key.row.p);
    run->wakes++;
    tn_vfy_name(run, arena, tn_blob_from(wake->ns_id.data, wake->ns_id.len),
                tn_str_from(wake->workflow_id));
    return true;
}

static Tenon__Outbox *unpack_outbox(tn_arena *arena, const tn_row *row)
{
    Tenon__Outbox *outbox = NULL;
    if (row->key.row.n != 8 ||
        TN_PROTO_UNPACK(tenon__outbox, row->value, arena, &outbox, NULL) != TN_OK ||
        outbox->run_id.len != 16 || outbox->ns_id.len != 16 || !outbox->workflow_id[0])
        return NULL;
    return outbox;
}

bool tn_vfy_outbox_run_id(tn_arena *arena, const tn_row *row, uint8_t out[16])
{
    const Tenon__Outbox *outbox = unpack_outbox(arena, row);
    if (outbox)
        memcpy(out, outbox->run_id.data, 16);
    return outbox != NULL;
}

bool tn_vfy_outbox_row(tn_vfy_run *run, tn_arena *arena, const tn_row *row, const char **why)
{
    const Tenon__Outbox *outbox = unpack_outbox(arena, row);
    if (!outbox) {
        *why = "the outbox row cannot be read";
        return false;
    }
    if (outbox->remove)
        run->outbox_remove = true;
    else
        run->outbox_put = true;
    if (outbox->doc_version > run->outbox_version)
        run->outbox_version = outbox->doc_version;
    tn_vfy_name(run, arena, tn_blob_from(outbox->ns_id.data, 16), tn_str_from(outbox->workflow_id));
    return true;
}
