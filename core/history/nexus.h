/* SPDX-License-Identifier: MIT */
/* Private to the history role: Nexus operations and completion callbacks. */
#ifndef TN_HISTORY_NEXUS_H
#define TN_HISTORY_NEXUS_H

#include "config/dynconfig.h"
#include "history/machine/nexus.h"
#include "history/priv.h"
#include "http/client.h"
#include "http/json.h"

/* ---- nexus.c ---- */
void tn_nexus_start_operation(tn_run *run, tn_nexus_op *op);
void tn_nexus_cancel_operation(tn_run *run, tn_nexus_op *op);
void tn_nexus_send_callback(tn_run *run, tn_callback *callback);
/* TN_IOP_NEXUS_*, TN_IOP_CALLBACK_ANSWERED */
void tn_op_nexus_answer(tn_wf *wf, tn_hreq *req, tn_run *run);
void tn_op_nexus_complete(tn_wf *wf, tn_hreq *req);
/* What waits for a destination that rests. */
void tn_nexus_describe_blocked(
    const tn_run *run, Temporal__Api__Workflowservice__V1__DescribeWorkflowExecutionResponse *out);
/* NULL: none of ours */
Tenon__NexusCallbackToken *tn_nexus_open_token(tn_arena *arena, const char *text);
/* A fault in the words of the Nexus protocol. */
void tn_nexus_fault_words(tn_arena *arena, const tn_fault *fault, const char **out_type,
                          const char **out_text);
/* nexus_http.c's answer; of a callback: SYNC, or the message in `token`. */
void tn_nexus_http_answered(void *call, const tn_nexus_result *result);

/* ---- nexus_http.c: the same to addresses outside.  The answer comes by tn_nexus_http_answered. ---- */
void tn_nexus_to_url(tn_arena *arena, void *call, const Temporal__Api__Nexus__V1__Request *request,
                     const char *url, uint64_t timeout_ns);
void tn_nexus_post_completion(tn_arena *arena, void *call,
                              const Temporal__Api__Common__V1__Callback__Nexus *callback,
                              const Tenon__NexusCompletion *completion, uint64_t close_ns,
                              tn_str ns_name);

/* What a body and its headers hold; failure: NULL when it is none. */
Temporal__Api__Common__V1__Payload *tn_nexus_http_payload(const tn_http_out *out);
Temporal__Api__Failure__V1__Failure *tn_nexus_http_failure(const tn_http_out *out);
void tn_nexus_http_links(const tn_http_out *out, tn_nexus_result *result);
/* A member of an object; "" when there is none, or no text. */
const char *tn_nexus_json_text(const tn_json_tape *tape, uint32_t object, const char *name,
                               tn_arena *arena);
/* Headers (in lower case) and the body of a payload; how many headers there are. */
size_t tn_nexus_http_put_payload(tn_arena *arena, const Temporal__Api__Common__V1__Payload *payload,
                                 tn_http_pair *headers, size_t headers_max, tn_blob *out_body);
int tn_nexus_http_status(const char *type); /* of a handler error; 500: no type that we know */

/* ---- nexus_words.c ---- */
tn_nexus_words tn_nexus_failure_of;
/* The other way; JSON of a failure and its causes; one made anew, and more metadata in it. */
Temporal__Api__Nexus__V1__Failure *tn_nexus_words_of(
    tn_arena *arena, const Temporal__Api__Failure__V1__Failure *from);
tn_blob tn_nexus_words_json(tn_arena *arena, const Temporal__Api__Nexus__V1__Failure *from);
Temporal__Api__Nexus__V1__Failure *tn_nexus_words_make(tn_arena *arena, const char *message,
                                                       const char *type, const char *details);
void tn_nexus_words_note(tn_arena *arena, Temporal__Api__Nexus__V1__Failure *to, const char *key,
                         const char *value);

/* ---- requests of others over HTTP: nexus_callback.c ---- */
enum { TN_NEXUS_RETRY_YES = 1, TN_NEXUS_RETRY_NO = 2 }; /* as the API's enum; 0: as the type says */
bool tn_nexus_http_is_open(void);
void tn_nexus_http_take(tn_call *call, tn_http_out *in); /* the request, as if it were an answer */
void tn_nexus_http_refuse(tn_call *call, const char *type, const char *message, int retry);
void tn_nexus_http_render_fault(tn_call *call, const tn_fault *fault, tn_http_answer *out);
/* ---- nexus_dispatch.c, nexus_reply.c ---- */
void tn_nexus_register_dispatch(void);
bool tn_nexus_http_knows_failures(const tn_call *call);
const tn_http_render *tn_nexus_http_render(bool cancel);

#endif
