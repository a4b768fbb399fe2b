/* SPDX-License-Identifier: MIT */
/* Private to the history role: updates and update-with-start (update.c, update_start.c). */
#ifndef TN_HISTORY_UPDATE_H
#define TN_HISTORY_UPDATE_H

#include "history/priv.h"

/* A caller that waits, in its request's arena, reached by req->progress; its link is in run->updates. */
typedef struct tn_waiting_update {
    tn_hreq *req;
    tn_run *run;
    tn_str id;
    const char *request_id;
    int stage; /* that it waits for: temporal.api.enums.v1.UpdateWorkflowExecutionLifecycleStage */
    uint64_t until_ns;       /* mono */
    bool ends_with_deadline; /* the caller's own, before that of a long poll */
    tn_loop_timer timer;
    char run_id[37]; /* for the answer */
    tn_read read;
    /* update-with-start */
    bool started;   /* this very request has started the run */
    bool updating;  /* from here on a fault is the update's */
    bool again;     /* the run closed over it once */
    bool known;     /* the update was over before this request came */
    bool taken_in;  /* it waits already: nothing that stands against new updates concerns it */
    int32_t status; /* of the run */
} tn_waiting_update;

/* That of a request; made when it is served for the first time. */
tn_waiting_update *tn_update_waiting(tn_hreq *req,
                                     const Temporal__Api__Update__V1__WaitPolicy *policy,
                                     const char *id, const char *request_id);
void tn_update_wait(tn_waiting_update *w, tn_run *run); /* tn_updates_settle must follow */
/* Takes the update in and waits for it. */
void tn_update_admit(
    tn_wf *wf, tn_hreq *req, tn_run *run,
    const Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionRequest *request);
/* The answer to an update-with-start. */
ProtobufCMessage *tn_update_start_response(
    tn_waiting_update *w,
    Temporal__Api__Workflowservice__V1__UpdateWorkflowExecutionResponse *update);

#endif
