/* SPDX-License-Identifier: MIT */
/* The search attributes that every namespace has.  System ones are fields of a run and come from the
 * server; predefined ones travel with a run's own attributes, and some of them a client may set. */
#include "namespace/namespace.h"

/* Sorted by name: looked up by binary search. */
static const tn_attr_type_row predefined[] = {
    {"BatcherNamespace", TN_ATTR_KEYWORD, true},
    {"BatcherUser", TN_ATTR_KEYWORD, true},
    {"BinaryChecksums", TN_ATTR_KEYWORD_LIST, true},
    {"BuildIds", TN_ATTR_KEYWORD_LIST, true},
    {"CloseTime", TN_ATTR_DATETIME, false},
    {"ExecutionDuration", TN_ATTR_INT, false},
    {"ExecutionStatus", TN_ATTR_KEYWORD, false},
    {"ExecutionTime", TN_ATTR_DATETIME, false},
    {"HistoryLength", TN_ATTR_INT, false},
    {"HistorySizeBytes", TN_ATTR_INT, false},
    {"ParentRunId", TN_ATTR_KEYWORD, false},
    {"ParentWorkflowId", TN_ATTR_KEYWORD, false},
    {"RootRunId", TN_ATTR_KEYWORD, false},
    {"RootWorkflowId", TN_ATTR_KEYWORD, false},
    {"RunId", TN_ATTR_KEYWORD, false},
    {"StartTime", TN_ATTR_DATETIME, false},
    {"StateTransitionCount", TN_ATTR_INT, false},
    {"TaskQueue", TN_ATTR_KEYWORD, false},
    {"TemporalChangeVersion", TN_ATTR_KEYWORD_LIST, true},
    {"TemporalExternalPayloadCount", TN_ATTR_INT, false},
    {"TemporalExternalPayloadSizeBytes", TN_ATTR_INT, false},
    {"TemporalNamespaceDivision", TN_ATTR_KEYWORD, true},
    {"TemporalPauseInfo", TN_ATTR_KEYWORD_LIST, true},
    {"TemporalReportedProblems", TN_ATTR_KEYWORD_LIST, true},
    {"TemporalSchedulePaused", TN_ATTR_BOOL, true},
    {"TemporalScheduledById", TN_ATTR_KEYWORD, true},
    {"TemporalScheduledStartTime", TN_ATTR_DATETIME, true},
    {"TemporalUsedWorkerDeploymentVersions", TN_ATTR_KEYWORD_LIST, false},
    {"TemporalWorkerDeployment", TN_ATTR_KEYWORD, false},
    {"TemporalWorkerDeploymentVersion", TN_ATTR_KEYWORD, false},
    {"TemporalWorkflowVersioningBehavior", TN_ATTR_KEYWORD, false},
    {"WorkflowId", TN_ATTR_KEYWORD, false},
    {"WorkflowType", TN_ATTR_KEYWORD, false},
};

/* The ones that are fields of the run itself. */
static const char *const fields[] = {
    "CloseTime",
    "ExecutionDuration",
    "ExecutionStatus",
    "ExecutionTime",
    "HistoryLength",
    "HistorySizeBytes",
    "ParentRunId",
    "ParentWorkflowId",
    "RootRunId",
    "RootWorkflowId",
    "RunId",
    "StartTime",
    "StateTransitionCount",
    "TaskQueue",
    "WorkflowId",
    "WorkflowType",
};

static int compare_name(tn_str name, const char *other)
{
    return tn_blob_cmp(tn_blob_of_str(name), tn_blob_from(other, strlen(other)));
}

const tn_attr_type_row *tn_search_attr_system_table(size_t *out_count)
{
    *out_count = TN_COUNT_OF(predefined);
    return predefined;
}

bool tn_search_attr_is_system(tn_str name)
{
    for (size_t i = 0; i < TN_COUNT_OF(fields); i++)
        if (tn_str_is(name, fields[i]))
            return true;
    return false;
}

static uint32_t predefined_type(tn_str name)
{
    size_t low = 0, high = TN_COUNT_OF(predefined);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = compare_name(name, predefined[mid].name);
        if (order == 0)
            return predefined[mid].type;
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return 0;
}

uint32_t tn_search_attr_type(const tn_namespace *ns, tn_str name)
{
    uint32_t type = predefined_type(name);
    if (type || !ns)
        return type;
    size_t low = 0, high = ns->n_custom_attrs;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = tn_blob_cmp(tn_blob_of_str(name), tn_blob_of_str(ns->custom_attrs[mid].name));
        if (order == 0)
            return ns->custom_attrs[mid].type;
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return 0;
}
