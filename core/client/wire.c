/* SPDX-License-Identifier: MIT */
/* Packing and unpacking batons.  Public messages travel as they are, named by their type; times travel as ages,
 * since clocks of hosts differ. */
#include "client/wire.h"

#include "client/token.h"
#include "proto/proto.h"
#include "temporal/api/query/v1/message.pb-c.h"

static char *text(tn_arena *arena, tn_str s)
{
    char *p = s.n ? tn_arena_alloc(arena, s.n + 1) : NULL;
    if (!p)
        return (char *)"";
    memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return p;
}

static ProtobufCBinaryData bytes_of(tn_blob b)
{
    return (ProtobufCBinaryData){b.n, (uint8_t *)(uintptr_t)b.p};
}

static tn_blob blob_of(ProtobufCBinaryData b) { return tn_blob_from(b.data, b.len); }

bool tn_wire_put_message(tn_arena *arena, const ProtobufCMessage *message, char **out_type,
                         ProtobufCBinaryData *out)
{
    tn_blob packed = {0};
    if (!message)
        return true;
    if (tn_proto_pack(message, arena, &packed) != TN_OK)
        return false;
    *out_type = (char *)(uintptr_t)message->descriptor->name;
    *out = bytes_of(packed);
    return true;
}

static bool put_request(tn_arena *arena, const ProtobufCMessage *request, tn_packed packed,
                        char **out_type, ProtobufCBinaryData *out)
{
    if (!request || packed.of != request || !packed.bytes.n)
        return tn_wire_put_message(arena, request, out_type, out);
    *out_type = (char *)(uintptr_t)request->descriptor->name;
    *out = bytes_of(packed.bytes);
    return true;
}

static bool take_message(tn_arena *arena, const char *type, ProtobufCBinaryData bytes,
                         ProtobufCMessage **out)
{
    *out = NULL;
    if (!*type)
        return true;
    const ProtobufCMessageDescriptor *descriptor = tn_proto_message(tn_str_from(type));
    return descriptor && tn_proto_unpack(descriptor, blob_of(bytes), arena, out, NULL) == TN_OK;
}

/* ---- parts ---- */

static Tenon__ParentRef *put_parent(tn_arena *arena, const tn_parent_ref *parent)
{
    Tenon__ParentRef *out = parent ? tn_arena_alloc(arena, sizeof(*out)) : NULL;
    if (!out)
        return NULL;
    tenon__parent_ref__init(out);
    out->ns_id = text(arena, parent->ns_id);
    out->ns_name = text(arena, parent->ns_name);
    out->workflow_id = text(arena, parent->workflow_id);
    out->run_id = text(arena, parent->run_id);
    out->initiated_id = parent->initiated_id;
    out->root_workflow_id = text(arena, parent->root_workflow_id);
    out->root_run_id = text(arena, parent->root_run_id);
    out->original_run_id = text(arena, parent->original_run_id);
    out->pinned_deployment = text(arena, parent->pinned.deployment);
    out->pinned_build_id = text(arena, parent->pinned.build_id);
    out->upgrade_deployment = text(arena, parent->upgrade.deployment);
    out->upgrade_build_id = text(arena, parent->upgrade.build_id);
    out->upgrade_revision = parent->upgrade_revision;
    return out;
}

static const tn_parent_ref *take_parent(tn_arena *arena, const Tenon__ParentRef *in)
{
    tn_parent_ref *out = in ? TN_NEW(arena, tn_parent_ref) : NULL;
    if (!out)
        return NULL;
    *out = (tn_parent_ref){
        .ns_id = tn_str_from(in->ns_id),
        .ns_name = tn_str_from(in->ns_name),
        .workflow_id = tn_str_from(in->workflow_id),
        .run_id = tn_str_from(in->run_id),
        .initiated_id = in->initiated_id,
        .root_workflow_id = tn_str_from(in->root_workflow_id),
        .root_run_id = tn_str_from(in->root_run_id),
        .original_run_id = tn_str_from(in->original_run_id),
        .pinned = {tn_str_from(in->pinned_deployment), tn_str_from(in->pinned_build_id)},
        .upgrade = {tn_str_from(in->upgrade_deployment), tn_str_from(in->upgrade_build_id)},
        .upgrade_revision = in->upgrade_revision};
    return out;
}

static Tenon__TaskRef *put_task(tn_arena *arena, const tn_task_ref *task)
{
    Tenon__TaskRef *out = tn_arena_alloc(arena, sizeof(*out));
    if (!out)
        return NULL;
    tenon__task_ref__init(out);
    out->shard = task->shard;
    out->run_id = bytes_of(tn_blob_from(task->run_id, 16));
    out->scheduled_id = task->scheduled_id;
    out->attempt = task->attempt;
    out->stamp = task->stamp;
    uint64_t now = tn_now_mono_ns();
    out->age_ns = now > task->created_mono_ns ? now - task->created_mono_ns : 0;
    return out;
}

static bool take_task(const Tenon__TaskRef *in, tn_task_ref *out)
{
    if (!in || in->run_id.len != 16)
        return false;
    uint64_t now = tn_now_mono_ns();
    *out = (tn_task_ref){.shard = in->shard,
                         .scheduled_id = in->scheduled_id,
                         .attempt = in->attempt,
                         .stamp = in->stamp,
                         .created_mono_ns = now > in->age_ns ? now - in->age_ns : 0};
    memcpy(out->run_id, in->run_id.data, 16);
    return true;
}

/* One that a later release knows and we don't is less urgent than those we know. */
static tn_caller_type take_caller(uint32_t in)
{
    return in <= TN_CALLER_LAST ? (tn_caller_type)in : TN_CALLER_LAST;
}

/* ---- history ---- */

static bool is_polled(tn_hop op)
{
    return op == TN_HOP_WFT_POLLED || op == TN_HOP_ACT_POLLED || op == TN_HOP_QUERY_POLLED;
}

static bool is_child(tn_hop op)
{
    return op == TN_HOP_CHILD_STARTED || op == TN_HOP_CHILD_CLOSED || op == TN_HOP_TELL_AGAIN;
}

static bool is_external(tn_hop op)
{
    return op == TN_HOP_SIGNAL || op == TN_HOP_REQUEST_CANCEL || op == TN_HOP_TERMINATE;
}

static bool is_activity_answer(tn_hop op)
{
    return op >= TN_HOP_ACT_COMPLETED && op <= TN_HOP_ACT_HEARTBEAT;
}

static bool put_polled(tn_hreq *req, Tenon__HistoryCall *out)
{
    out->task = put_task(req->arena, &req->u.task.ref);
    out->poll_id = req->u.task.poll_id;
    out->sticky = req->u.task.sticky;
    out->queue = text(req->arena, req->u.task.queue);
    const tn_mquery *query = req->op == TN_HOP_QUERY_POLLED ? req->u.task.query : NULL;
    tn_blob packed = {0};
    if (query && tn_proto_pack(query->query, req->arena, &packed) != TN_OK)
        return false;
    out->query_id = query ? query->id : 0;
    out->query = bytes_of(packed);
    return out->task != NULL;
}

static void put_child(tn_hreq *req, Tenon__HistoryCall *out)
{
    out->parent = put_parent(req->arena, req->u.child.parent);
    out->child = tn_arena_alloc(req->arena, sizeof(*out->child));
    if (!out->child)
        return;
    tenon__child_news__init(out->child);
    out->child->run_id = text(req->arena, req->u.child.child_run_id);
    out->child->first_run_id = text(req->arena, req->u.child.child_first_run_id);
    out->child->workflow_id = text(req->arena, req->u.child.child_workflow_id);
    out->child->type = text(req->arena, req->u.child.child_type);
    out->child->close_event = bytes_of(req->u.child.close_event);
}

tn_blob tn_wire_pack_history(tn_hreq *req)
{
    tn_arena *arena = req->arena;
    Tenon__HistoryCall out = TENON__HISTORY_CALL__INIT;
    tn_blob packed = {0};
    tn_arena_set_limit(arena, 0);
    out.op = req->op;
    out.ns_id = text(arena, req->ns->id);
    out.workflow_id = text(arena, req->workflow_id);
    out.run_id = text(arena, req->run_id);
    out.by_call = req->call != NULL;
    out.taken_in = req->taken_in;
    out.caller_type = req->caller;
    bool ok = put_request(arena, req->request, req->packed, &out.request_type, &out.request);
    if (req->token && tn_proto_pack(&req->token->msg->base, arena, &packed) == TN_OK)
        out.token = bytes_of(packed);
    if (is_polled(req->op))
        ok = put_polled(req, &out) && ok;
    else if (is_child(req->op))
        put_child(req, &out);
    else if (req->op == TN_HOP_START)
        out.parent = put_parent(arena, req->u.start.parent);
    else if (is_activity_answer(req->op))
        out.activity_id = text(arena, req->u.activity.activity_id);
    else if (req->op == TN_HOP_SWEEP)
        out.task = put_task(arena, &req->u.task.ref);
    if (is_external(req->op)) {
        out.child_only = req->u.external.child_only;
        out.external = put_parent(arena, req->u.external.external);
        out.reason = text(arena, req->u.external.reason);
    }
    if (!ok || tn_proto_pack(&out.base, arena, &packed) != TN_OK)
        return (tn_blob){0};
    return packed;
}

static bool take_polled(const Tenon__HistoryCall *in, tn_hreq *req)
{
    if (in->task && !take_task(in->task, &req->u.task.ref) && req->op != TN_HOP_QUERY_POLLED)
        return false;
    req->u.task.poll_id = in->poll_id;
    req->u.task.sticky = in->sticky;
    req->u.task.queue = tn_str_from(in->queue);
    if (req->op != TN_HOP_QUERY_POLLED)
        return in->task != NULL;
    tn_mquery *query = TN_NEW(req->arena, tn_mquery);
    ProtobufCMessage *message = NULL;
    if (!query || tn_proto_unpack(&temporal__api__query__v1__workflow_query__descriptor,
                                  blob_of(in->query), req->arena, &message, NULL) != TN_OK)
        return false;
    query->id = in->query_id;
    query->query = message;
    req->u.task.query = query;
    return true;
}

static bool take_child(const Tenon__HistoryCall *in, tn_hreq *req)
{
    req->u.child.parent = take_parent(req->arena, in->parent);
    if (!in->child || !req->u.child.parent)
        return false;
    req->u.child.child_run_id = tn_str_from(in->child->run_id);
    req->u.child.child_first_run_id = tn_str_from(in->child->first_run_id);
    req->u.child.child_workflow_id = tn_str_from(in->child->workflow_id);
    req->u.child.child_type = tn_str_from(in->child->type);
    req->u.child.close_event = blob_of(in->child->close_event);
    return true;
}

static bool take_token(const Tenon__HistoryCall *in, tn_hreq *req)
{
    if (!in->token.len)
        return true;
    tn_task_token *token = TN_NEW(req->arena, tn_task_token);
    ProtobufCMessage *message = NULL;
    if (!token || tn_proto_unpack(&tenon__task_token__descriptor, blob_of(in->token), req->arena,
                                  &message, NULL) != TN_OK)
        return false;
    token->msg = (Tenon__TaskToken *)message;
    req->token = token;
    return true;
}

bool tn_wire_open_history(const Tenon__HistoryCall *in, tn_hreq *req)
{
    ProtobufCMessage *request;
    if (in->op < TN_HOP_START || in->op > TN_HOP_LAST)
        return false;
    req->op = (tn_hop)in->op;
    req->caller = take_caller(in->caller_type);
    req->workflow_id = tn_str_from(in->workflow_id);
    req->run_id = tn_str_from(in->run_id);
    req->taken_in = in->taken_in;
    if (!take_message(req->arena, in->request_type, in->request, &request) || !take_token(in, req))
        return false;
    req->request = request;
    if (is_polled(req->op))
        return take_polled(in, req);
    if (is_child(req->op))
        return take_child(in, req);
    if (req->op == TN_HOP_SWEEP)
        return take_task(in->task, &req->u.task.ref);
    if (req->op == TN_HOP_START)
        req->u.start.parent = take_parent(req->arena, in->parent);
    else if (is_activity_answer(req->op))
        req->u.activity.activity_id = tn_str_from(in->activity_id);
    if (is_external(req->op)) {
        req->u.external.child_only = in->child_only;
        req->u.external.external = take_parent(req->arena, in->external);
        req->u.external.reason = tn_str_from(in->reason);
    }
    return true;
}

/* Both kinds of answers share their first two fields; what is only passed on is not opened. */
typedef struct answer_parts {
    tn_str type;
    tn_blob response;
    uint64_t flags[2]; /* fields 3 and 4 */
    tn_blob match;     /* field 5 */
} answer_parts;

static bool answer_split(tn_blob packed, answer_parts *out)
{
    tn_wire_field field;
    tn_wire_iter it = tn_wire_begin(packed);
    *out = (answer_parts){0};
    while (tn_wire_next(&it, &field)) {
        bool is_bytes = field.wire_type == TN_WIRE_BYTES;
        if (field.number == 1 && is_bytes)
            out->type = tn_str_of_blob(field.bytes);
        else if (field.number == 2 && is_bytes)
            out->response = field.bytes;
        else if (field.number == 5 && is_bytes)
            out->match = field.bytes;
        else if ((field.number == 3 || field.number == 4) && !is_bytes)
            out->flags[field.number - 3] = field.value;
    }
    return !it.damaged;
}

static tn_status take_answer(tn_arena *arena, const answer_parts *parts, bool pass_on,
                             ProtobufCMessage **out)
{
    *out = NULL;
    if (!parts->type.n)
        return TN_OK;
    const ProtobufCMessageDescriptor *descriptor = tn_proto_message(parts->type);
    if (!descriptor)
        return TN_EINVALID;
    if (!pass_on)
        return tn_proto_unpack(descriptor, parts->response, arena, out, NULL);
    *out = tn_proto_opaque(descriptor, parts->response, arena);
    return *out ? TN_OK : TN_ETOOLARGE;
}

tn_status tn_wire_close_history(tn_blob packed, tn_hreq *req)
{
    answer_parts parts;
    if (!answer_split(packed, &parts))
        return TN_EINVALID;
    req->not_owner = parts.flags[0];
    req->taken_in = req->taken_in || parts.flags[1];
    return take_answer(req->arena, &parts, req->pass_on, &req->response);
}

/* ---- matching ---- */

tn_blob tn_wire_pack_matching(tn_mreq *req)
{
    tn_arena *arena = req->arena;
    Tenon__MatchingCall out = TENON__MATCHING_CALL__INIT;
    tn_blob packed = {0};
    tn_arena_set_limit(arena, 0);
    out.op = req->op;
    out.caller_type = req->caller;
    out.ns_id = text(arena, req->ns->id);
    out.queue = text(arena, req->queue);
    out.type = req->type;
    out.sticky = req->sticky;
    out.normal_queue = text(arena, req->normal_queue);
    out.workflow_id = text(arena, req->workflow_id);
    out.run_id = text(arena, req->run_id);
    out.forwarded = req->forwarded;
    out.behavior = req->directive.behavior;
    out.deployment = text(arena, req->directive.version.deployment);
    out.build_id = text(arena, req->directive.version.build_id);
    out.revision = req->directive.revision;
    out.use_ramping = req->directive.use_ramping;
    bool ok = put_request(arena, req->request, req->packed, &out.request_type, &out.request);
    if (req->op == TN_MOP_POLL)
        out.answer_to = tn_wire_put_poll(arena, req->answer_to);
    if (req->op == TN_MOP_ADD) {
        uint64_t now = tn_now_mono_ns();
        out.takes_match = req->takes_match;
        out.task = put_task(arena, &req->task);
        if (req->expire_mono_ns != UINT64_MAX)
            out.expire_in_ns = req->expire_mono_ns > now ? req->expire_mono_ns - now : 1;
        ok = ok && out.task;
        out.paid = req->paid;
        if (req->priority) {
            out.priority_key = req->priority->key;
            out.fairness_key = text(arena, req->priority->fairness_key);
            out.fairness_weight = req->priority->fairness_weight;
        }
    }
    if (req->op == TN_MOP_QUERY || req->op == TN_MOP_QUERY_DONE || req->op == TN_MOP_NEXUS_DONE)
        out.query_id = req->query.id;
    if (req->op == TN_MOP_QUERY)
        ok = tn_wire_put_message(arena, req->query.query, &out.query_type, &out.query) && ok;
    if (!ok || tn_proto_pack(&out.base, arena, &packed) != TN_OK)
        return (tn_blob){0};
    return packed;
}

static const tn_task_priority *take_priority(tn_arena *arena, const Tenon__MatchingCall *in)
{
    if (!in->priority_key && !*in->fairness_key && in->fairness_weight <= 0)
        return NULL;
    tn_task_priority *out = TN_NEW(arena, tn_task_priority);
    if (out)
        *out = (tn_task_priority){in->priority_key, in->fairness_weight,
                                  tn_str_from(in->fairness_key)};
    return out;
}

bool tn_wire_open_matching(const Tenon__MatchingCall *in, tn_mreq *req)
{
    ProtobufCMessage *request, *query;
    if (in->op < TN_MOP_ADD || in->op > TN_MOP_LAST || in->op == TN_MOP_CANCEL_POLL)
        return false;
    req->op = (tn_mop)in->op;
    req->caller = take_caller(in->caller_type);
    req->queue = tn_str_from(in->queue);
    req->type = in->type;
    req->sticky = in->sticky;
    req->normal_queue = tn_str_from(in->normal_queue);
    req->workflow_id = tn_str_from(in->workflow_id);
    req->run_id = tn_str_from(in->run_id);
    req->forwarded = in->forwarded;
    req->directive =
        (tn_directive){.behavior = in->behavior,
                       .version = {tn_str_from(in->deployment), tn_str_from(in->build_id)},
                       .revision = in->revision,
                       .use_ramping = in->use_ramping};
    req->placed = true;
    if (!take_message(req->arena, in->request_type, in->request, &request) ||
        !take_message(req->arena, in->query_type, in->query, &query))
        return false;
    req->request = request;
    req->packed = (tn_packed){request, blob_of(in->request)};
    if (req->op == TN_MOP_ADD) { /* task and query share their place */
        req->expire_mono_ns = in->expire_in_ns ? tn_now_mono_ns() + in->expire_in_ns : UINT64_MAX;
        req->priority = take_priority(req->arena, in);
        req->paid = in->paid;
        req->takes_match = in->takes_match;
        return take_task(in->task, &req->task);
    }
    if (req->op == TN_MOP_POLL && in->answer_to) {
        tn_poll_ref *poll = TN_NEW(req->arena, tn_poll_ref);
        if (!poll || !tn_wire_take_poll(in->answer_to, poll))
            return false;
        req->answer_to = poll;
    }
    req->query = (tn_mquery){.id = in->query_id,
                             .ns_id = tn_str_from(in->ns_id),
                             .workflow_id = req->workflow_id,
                             .run_id = req->run_id,
                             .query = query};
    return true;
}

tn_status tn_wire_close_matching(tn_blob packed, tn_mreq *req)
{
    answer_parts parts;
    if (!answer_split(packed, &parts))
        return TN_EINVALID;
    req->accepted = parts.flags[0];
    req->not_owner = parts.flags[1];
    if (req->op == TN_MOP_ADD && parts.match.n)
        return tn_wire_take_match(req->arena, parts.match, req->type, &req->match);
    return take_answer(req->arena, &parts, req->pass_on, &req->response);
}
