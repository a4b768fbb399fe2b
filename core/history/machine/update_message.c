/* SPDX-License-Identifier: MIT */
/* What a worker says of updates with the end of its workflow task: accepted, rejected, completed.
 * A PROTOCOL_MESSAGE command puts a message among the commands; the others come after them, as
 * they stand.  As for commands, all are checked before any is done. */
#include "history/machine/command.h"

#include <string.h>

#include "proto/proto.h"
#include "temporal/api/protocol/v1/message.pb-c.h"
#include "temporal/api/update/v1/message.pb-c.h"

typedef Temporal__Api__Protocol__V1__Message message;
typedef Temporal__Api__Update__V1__Acceptance acceptance;
typedef Temporal__Api__Update__V1__Rejection rejection;
typedef Temporal__Api__Update__V1__Response response;

#define PACKAGE "temporal.api.update.v1"

/* What an update would be after the messages checked so far. */
typedef struct picture {
    tn_list link; /* check->updates */
    const char *id;
    const char *stage; /* as the reference names it in its errors */
} picture;

static const char in_admitted[] = "Admitted", in_sent[] = "Sent", in_accepted[] = "Accepted",
                  in_completed[] = "Completed", now_accepted[] = "ProvisionallyAccepted",
                  now_completed[] = "ProvisionallyCompleted";

/* ---- the check: what it is ------------------------------------------------------------------- */

static bool fault_of_call(tn_check *check, const char *text)
{
    check->run->fault = tn_fault_make(check->arena, TN_GRPC_INVALID_ARGUMENT, "%s", text);
    return false;
}

/* "temporal.api.update.v1.Response" */
static tn_str body_name(const message *m)
{
    tn_str url = tn_str_from(m->body->type_url);

    for (size_t i = url.n; i > 0; i--)
        if (url.p[i - 1] == '/')
            return (tn_str){url.p + i, url.n - i};
    return url;
}

static bool identify(tn_check *check, const message *m, tn_str *out_protocol, tn_str *out_type)
{
    tn_str name;
    size_t dot;

    if (!m->body)
        return fault_of_call(check, "nil message body");
    name = body_name(m);
    if (!name.n)
        return fault_of_call(check, "no message name specified");
    for (dot = name.n; dot > 0 && name.p[dot - 1] != '.'; dot--) {
    }
    if (!dot)
        return fault_of_call(check, tn_arena_printf(check->arena,
                                                    "failed to extract protocol type: no . found "
                                                    "in \"" TN_STR_FMT "\"",
                                                    TN_STR_ARG(name)));
    *out_protocol = (tn_str){name.p, dot - 1};
    *out_type = (tn_str){name.p + dot, name.n - dot};
    return true;
}

static const ProtobufCMessageDescriptor *type_of(tn_str type, tn_update_word *out_word)
{
    static const struct {
        const char *name;
        const ProtobufCMessageDescriptor *type;
        tn_update_word word;
    } known[] = {
        {"Acceptance", &temporal__api__update__v1__acceptance__descriptor, TN_UPDATE_ACCEPTANCE},
        {"Rejection", &temporal__api__update__v1__rejection__descriptor, TN_UPDATE_REJECTION},
        {"Response", &temporal__api__update__v1__response__descriptor, TN_UPDATE_RESPONSE},
    };

    for (size_t i = 0; i < TN_COUNT_OF(known); i++)
        if (tn_str_is(type, known[i].name)) {
            *out_word = known[i].word;
            return known[i].type;
        }
    return NULL;
}

static bool unpack(tn_check *check, const message *m, tn_str type, tn_update_message *out)
{
    const ProtobufCMessageDescriptor *descriptor = type_of(type, &out->word);
    ProtobufCMessage *body = NULL;
    tn_error err = {0};

    if (!descriptor)
        return tn_check_bad(check, TN_CAUSE_UPDATE_MESSAGE,
                            "Message type *update." TN_STR_FMT " not supported", TN_STR_ARG(type));
    if (tn_proto_unpack_peer(descriptor, tn_blob_from(m->body->value.data, m->body->value.len),
                             check->arena, &body, &err) != TN_OK)
        return tn_check_bad(check, TN_CAUSE_UPDATE_MESSAGE, "unable to unmarshal request: %s",
                            err.text);
    out->body = body;
    return true;
}

/* ---- the check: whether it may come now ------------------------------------------------------ */

static picture *draw(tn_check *check, const char *id, const char *stage)
{
    picture *p = tn_tx_alloc(check->tx, sizeof(*p));

    p->id = id;
    p->stage = stage;
    tn_list_push_back(&check->updates, &p->link);
    return p;
}

static picture *look_up(tn_check *check, const char *id)
{
    static const char *const stages[] = {
        [TN_UPDATE_ADMITTED] = in_admitted,
        [TN_UPDATE_SENT] = in_sent,
        [TN_UPDATE_ACCEPTED] = in_accepted,
        [TN_UPDATE_COMPLETED] = in_completed,
    };
    const tn_update *update;

    TN_LIST_FOREACH (link, &check->updates) {
        picture *p = TN_CONTAINER_OF(link, picture, link);

        if (strcmp(p->id, id) == 0)
            return p;
    }
    update = tn_ms_update(check->ms, tn_str_from(id));
    return update ? draw(check, id, stages[update->stage]) : NULL;
}

/* The server has lost the update, but the worker brings its request along. */
static picture *resurrect(tn_check *check, const message *m, tn_update_message *out)
{
    const Temporal__Api__Update__V1__Request *request =
        out->word == TN_UPDATE_ACCEPTANCE  ? ((const acceptance *)out->body)->accepted_request
        : out->word == TN_UPDATE_REJECTION ? ((const rejection *)out->body)->rejected_request
                                           : NULL;

    check->run->fault = tn_updates_too_many(check->tx);
    if (check->run->fault || !request)
        return NULL;
    out->resurrects = true;
    return draw(check, m->protocol_instance_id, in_admitted);
}

static bool wrong_stage(tn_check *check, const picture *p, const char *type)
{
    return tn_check_bad(check, TN_CAUSE_UPDATE_MESSAGE,
                        "invalid state transition attempted for Update %s: received *update.%s "
                        "message while in state %s",
                        p->id, type, p->stage);
}

static bool missing(tn_check *check, const char *type, const char *field)
{
    return tn_check_bad(check, TN_CAUSE_UPDATE_MESSAGE, "invalid *update.%s: %s is not set", type,
                        field);
}

static bool undecided(const picture *p) { return p->stage == in_admitted || p->stage == in_sent; }

static bool check_acceptance(tn_check *check, picture *p, const acceptance *a)
{
    if (!undecided(p))
        return wrong_stage(check, p, "Acceptance");
    if (!a->accepted_request_sequencing_event_id)
        return missing(check, "Acceptance", "accepted_request_sequencing_event_id");
    if (!*a->accepted_request_message_id)
        return missing(check, "Acceptance", "accepted_request_message_id");
    p->stage = now_accepted;
    check->next_id++;
    return true;
}

static bool check_response(tn_check *check, picture *p, const response *r)
{
    if (p->stage != in_accepted && p->stage != now_accepted)
        return wrong_stage(check, p, "Response");
    if (!r->meta)
        return missing(check, "Response", "meta");
    if (!*r->meta->update_id)
        return missing(check, "Response", "meta.update_id");
    if (strcmp(r->meta->update_id, p->id) != 0)
        return tn_check_bad(check, TN_CAUSE_UPDATE_MESSAGE,
                            "invalid *update.Response: meta.update_id != %s", p->id);
    if (!r->outcome)
        return missing(check, "Response", "outcome");
    p->stage = now_completed;
    check->next_id++;
    return true;
}

static bool check_body(tn_check *check, picture *p, tn_update_message *out, bool closing)
{
    if (out->word == TN_UPDATE_REJECTION) {
        if (!undecided(p))
            return wrong_stage(check, p, "Rejection");
        p->stage = now_completed;
        return true;
    }
    if (closing) { /* no event may follow: the update ends with the run */
        out->word = TN_UPDATE_TOO_LATE;
        return true;
    }
    return out->word == TN_UPDATE_ACCEPTANCE ? check_acceptance(check, p, out->body)
                                             : check_response(check, p, out->body);
}

static bool check_message(tn_check *check, size_t i, bool closing)
{
    const message *m = check->run->request->messages[i];
    tn_update_message *out = &check->run->messages[i];
    tn_str protocol, type;
    picture *p;

    out->taken = true;
    if (!identify(check, m, &protocol, &type))
        return false;
    if (!tn_check_blob(check, TN_CAUSE_UPDATE_MESSAGE, tn_msg_bytes(m->body),
                       tn_arena_printf(check->arena,
                                       "Message type " TN_STR_FMT "." TN_STR_FMT
                                       " exceeds size limit.",
                                       TN_STR_ARG(protocol), TN_STR_ARG(type))))
        return false;
    if (!tn_str_is(protocol, PACKAGE))
        return tn_check_bad(check, TN_CAUSE_UPDATE_MESSAGE, "unsupported protocol type " TN_STR_FMT,
                            TN_STR_ARG(protocol));
    if (!unpack(check, m, type, out))
        return false;
    p = look_up(check, m->protocol_instance_id);
    if (!p)
        p = resurrect(check, m, out);
    if (check->run->fault)
        return false;
    if (!p)
        return tn_check_bad(check, TN_CAUSE_UPDATE_MESSAGE,
                            "update %s wasn't found on the server. This is most likely a transient "
                            "error which will be resolved automatically by retries",
                            m->protocol_instance_id);
    return check_body(check, p, out, closing);
}

bool tn_check_protocol_message(tn_check *check, const tn_command *command)
{
    const Temporal__Api__Workflowservice__V1__RespondWorkflowTaskCompletedRequest *request =
        check->run->request;
    const Temporal__Api__Command__V1__ProtocolMessageCommandAttributes *attrs;

    check->next_id--; /* the caller counts an event for it; the message counts its own */
    if (command->attributes_case !=
        TEMPORAL__API__COMMAND__V1__COMMAND__ATTRIBUTES_PROTOCOL_MESSAGE_COMMAND_ATTRIBUTES)
        return tn_check_bad(
            check, TN_CAUSE_UPDATE_MESSAGE,
            "ProtocolMessageCommandAttributes is not set on ProtocolMessageCommand.");
    attrs = command->protocol_message_command_attributes;
    if (!*attrs->message_id)
        return tn_check_bad(check, TN_CAUSE_UPDATE_MESSAGE,
                            "MessageID is not set on ProtocolMessageCommand.");
    for (size_t i = 0; i < request->n_messages; i++)
        if (!check->run->messages[i].taken &&
            strcmp(request->messages[i]->id, attrs->message_id) == 0)
            return check_message(check, i, false);
    return tn_check_bad(check, TN_CAUSE_UPDATE_MESSAGE,
                        "ProtocolMessageCommand referenced absent message ID %s",
                        attrs->message_id);
}

bool tn_check_messages(tn_check *check, bool closing)
{
    for (size_t i = 0; i < check->run->request->n_messages; i++)
        if (!check->run->messages[i].taken && !check_message(check, i, closing))
            return false;
    return true;
}

/* ---- the effects ----------------------------------------------------------------------------- */

static void accept(tn_command_run *run, const message *m, const acceptance *said)
{
    tn_tx *tx = run->tx;
    tn_update *update = tn_ms_update(tx->ms, tn_str_from(m->protocol_instance_id));
    tn_event *event = tn_tx_event(tx, 41);
    Temporal__Api__History__V1__WorkflowExecutionUpdateAcceptedEventAttributes *a = TN_EVENT_ATTRS(
        tx, event, WORKFLOW_EXECUTION_UPDATE_ACCEPTED, workflow_execution_update_accepted);

    a->protocol_instance_id = m->protocol_instance_id;
    a->accepted_request_message_id =
        tn_arena_printf(tx->arena, "%s/request", m->protocol_instance_id);
    a->accepted_request_sequencing_event_id = said->accepted_request_sequencing_event_id;
    if (update && update->admitted_id) {
        /* the event that admitted it has the request */
    } else if (update) {
        tn_blob kept = tn_arena_blob(tx->arena, update->request); /* the fold lets go of its own */

        TN_ASSERT(TN_PROTO_UNPACK(temporal__api__update__v1__request, kept, tx->arena,
                                  &a->accepted_request, NULL) == TN_OK); /* we packed it */
    } else {
        a->accepted_request = said->accepted_request;
    }
    tn_tx_add_now(tx, event);
}

static void complete(tn_command_run *run, const message *m, const response *said)
{
    tn_tx *tx = run->tx;
    const tn_update *update = tn_ms_update(tx->ms, tn_str_from(m->protocol_instance_id));
    tn_event *event = tn_tx_event(tx, 43);
    Temporal__Api__History__V1__WorkflowExecutionUpdateCompletedEventAttributes *a = TN_EVENT_ATTRS(
        tx, event, WORKFLOW_EXECUTION_UPDATE_COMPLETED, workflow_execution_update_completed);

    TN_ASSERT(update); /* the check saw it accepted */
    a->accepted_event_id = update->accepted_id;
    a->meta = said->meta;
    a->outcome = said->outcome;
    tn_tx_add_now(tx, event);
}

static const Temporal__Api__Failure__V1__Failure no_reason =
    TEMPORAL__API__FAILURE__V1__FAILURE__INIT;

static void do_message(tn_command_run *run, size_t i)
{
    const message *m = run->request->messages[i];
    tn_update_message *said = &run->messages[i];

    said->done = true;
    switch (said->word) {
    case TN_UPDATE_ACCEPTANCE:
        accept(run, m, said->body);
        break;
    case TN_UPDATE_RESPONSE:
        complete(run, m, said->body);
        break;
    case TN_UPDATE_REJECTION:
        tn_tx_end_update(run->tx, tn_str_from(m->protocol_instance_id),
                         ((const rejection *)said->body)->failure
                             ? ((const rejection *)said->body)->failure
                             : &no_reason);
        break;
    case TN_UPDATE_TOO_LATE:
        break;
    }
}

void tn_do_protocol_message(tn_command_run *run, const tn_command *command)
{
    const char *id = command->protocol_message_command_attributes->message_id;

    for (size_t i = 0; i < run->request->n_messages; i++)
        if (!run->messages[i].done && strcmp(run->request->messages[i]->id, id) == 0) {
            do_message(run, i);
            return;
        }
}

void tn_do_messages(tn_command_run *run)
{
    for (size_t i = 0; i < run->request->n_messages; i++)
        if (!run->messages[i].done)
            do_message(run, i);
}
