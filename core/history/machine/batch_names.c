/* SPDX-License-Identifier: MIT */
/* What the operations of batch jobs are called. */
#include "history/machine/batch.h"

typedef Temporal__Api__Workflowservice__V1__StartBatchOperationRequest start_request;

#define OP(UPPER) \
    TEMPORAL__API__WORKFLOWSERVICE__V1__START_BATCH_OPERATION_REQUEST__OPERATION_##UPPER##_OPERATION

static const struct {
    int operation;
    int32_t type; /* BatchOperationType */
    const char *name;
} names[] = {
    /* A job without an operation has its runs' tasks offered again: the admin service's, no client may ask for it. */
    {TEMPORAL__API__WORKFLOWSERVICE__V1__START_BATCH_OPERATION_REQUEST__OPERATION__NOT_SET, 0,
     "refresh_tasks"},
    {OP(TERMINATION), 13, "terminate"},
    {OP(CANCELLATION), 14, "cancel"},
    {OP(SIGNAL), 15, "signal"},
    {OP(DELETION), 16, "delete"},
    {OP(RESET), 17, "reset"},
    {OP(UPDATE_WORKFLOW_OPTIONS), 18, "update_options"},
    {OP(UNPAUSE_ACTIVITIES), 7, "unpause_activities"},
    {OP(UPDATE_ACTIVITY_OPTIONS), 8, "update_activity_options"},
    {OP(RESET_ACTIVITIES), 9, "reset_activities"},
    {OP(TERMINATE_ACTIVITIES), 10, "terminate_activities"},
    {OP(CANCEL_ACTIVITIES), 11, "cancel_activities"},
    {OP(DELETE_ACTIVITIES), 12, "delete_activities"},
};

const char *tn_batch_type_name(const start_request *request)
{
    for (size_t i = 0; i < TN_COUNT_OF(names); i++)
        if (names[i].operation == (int)request->operation_case)
            return names[i].name;
    return NULL;
}

bool tn_batch_of_activities(const start_request *request)
{
    return request->operation_case == OP(CANCEL_ACTIVITIES) ||
           request->operation_case == OP(TERMINATE_ACTIVITIES) ||
           request->operation_case == OP(DELETE_ACTIVITIES);
}

int32_t tn_batch_type_of(tn_str name)
{
    for (size_t i = 0; i < TN_COUNT_OF(names); i++)
        if (tn_str_is(name, names[i].name))
            return names[i].type;
    return 0;
}

const char *tn_batch_identity(const start_request *request)
{
    switch ((int)request->operation_case) {
    case OP(TERMINATION):
        return request->termination_operation->identity;
    case OP(CANCELLATION):
        return request->cancellation_operation->identity;
    case OP(SIGNAL):
        return request->signal_operation->identity;
    case OP(DELETION):
        return request->deletion_operation->identity;
    case OP(RESET):
        return request->reset_operation->identity;
    case OP(UPDATE_WORKFLOW_OPTIONS):
        return request->update_workflow_options_operation->identity;
    case OP(UNPAUSE_ACTIVITIES):
        return request->unpause_activities_operation->identity;
    case OP(UPDATE_ACTIVITY_OPTIONS):
        return request->update_activity_options_operation->identity;
    case OP(RESET_ACTIVITIES):
        return request->reset_activities_operation->identity;
    case OP(TERMINATE_ACTIVITIES):
        return request->terminate_activities_operation->identity;
    case OP(CANCEL_ACTIVITIES):
        return request->cancel_activities_operation->identity;
    default:
        return "";
    }
}

int32_t tn_batch_state(int32_t status) { return status == 1 ? 1 : status == 2 ? 2 : 3; }
