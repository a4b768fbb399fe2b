/* SPDX-License-Identifier: MIT */
/* Dynamic config: settings that an operator changes while the server runs, by namespace or task
 * queue. The file has the format of the reference server:
 *
 *     frontend.namespaceRPS:
 *       - value: 500
 *         constraints: {namespace: orders}
 *       - value: 2400
 *
 * Key names and constraint names in any letter case; the most specific entry wins (namespace +
 * task queue + task type, namespace + task queue, task queue, namespace, none).  Durations: 10s,
 * 7d, or a number of seconds. Unknown keys, values of a wrong type and constraints that a key does
 * not have are warned of once and skipped; a file that cannot be read or parsed leaves all values
 * as they were. */
#ifndef TN_CONFIG_DYNCONFIG_H
#define TN_CONFIG_DYNCONFIG_H

#include "config/config.h"
#include "loop/loop.h"

typedef enum tn_dyn_type {
    TN_DYN_TYPE_BOOL,
    TN_DYN_TYPE_INT,
    TN_DYN_TYPE_FLOAT,
    TN_DYN_TYPE_DURATION,
    TN_DYN_TYPE_MODE, /* off, on or dual: 0, 1, 2 */
    /* A text, or a list of them: with commas between; of an address rule its pattern, with ! before one that
     * allows http. */
    TN_DYN_TYPE_TEXT,
    TN_DYN_TYPE_MAP /* as a text: name=value,name=value, names in lower case */
} tn_dyn_type;
typedef enum tn_dyn_scope { TN_DYN_GLOBAL, TN_DYN_NAMESPACE, TN_DYN_TASK_QUEUE } tn_dyn_scope;

enum { TN_DYN_OFF, TN_DYN_ON, TN_DYN_DUAL }; /* values of a MODE */
#define TN_DYN_KIB INT64_C(1024)
#define TN_DYN_MIB INT64_C(1048576)
#define TN_DYN_MS INT64_C(1000000)
#define TN_DYN_SEC INT64_C(1000000000)
#define TN_DYN_MIN (60 * TN_DYN_SEC)
#define TN_DYN_HOUR (60 * TN_DYN_MIN)

/* clang-format off */
/* X(name, "key", type, scope, default): every key this server obeys.  Sizes in bytes. */
#define TN_DYN_KEYS(X) \
    /* limits */ \
    X(LIMIT_BLOB_SIZE_ERROR, "limit.blobSize.error", INT, NAMESPACE, 2 * TN_DYN_MIB) \
    X(LIMIT_BLOB_SIZE_WARN, "limit.blobSize.warn", INT, NAMESPACE, 512 * TN_DYN_KIB) \
    X(LIMIT_MEMO_SIZE_ERROR, "limit.memoSize.error", INT, NAMESPACE, 2 * TN_DYN_MIB) \
    X(LIMIT_MEMO_SIZE_WARN, "limit.memoSize.warn", INT, NAMESPACE, 2 * TN_DYN_KIB) \
    X(LIMIT_PENDING_CHILDREN, "limit.numPendingChildExecutions.error", INT, NAMESPACE, 2000) \
    X(LIMIT_PENDING_ACTIVITIES, "limit.numPendingActivities.error", INT, NAMESPACE, 2000) \
    X(LIMIT_PENDING_SIGNALS, "limit.numPendingSignals.error", INT, NAMESPACE, 2000) \
    X(LIMIT_PENDING_CANCELS, "limit.numPendingCancelRequests.error", INT, NAMESPACE, 2000) \
    X(LIMIT_HISTORY_SIZE_ERROR, "limit.historySize.error", INT, NAMESPACE, 50 * TN_DYN_MIB) \
    X(LIMIT_HISTORY_SIZE_WARN, "limit.historySize.warn", INT, NAMESPACE, 10 * TN_DYN_MIB) \
    X(LIMIT_HISTORY_SIZE_SUGGEST, "limit.historySize.suggestContinueAsNew", \
      INT, NAMESPACE, 4 * TN_DYN_MIB) \
    X(LIMIT_HISTORY_COUNT_ERROR, "limit.historyCount.error", INT, NAMESPACE, 50 * 1024) \
    X(LIMIT_HISTORY_COUNT_WARN, "limit.historyCount.warn", INT, NAMESPACE, 10 * 1024) \
    X(LIMIT_HISTORY_COUNT_SUGGEST, "limit.historyCount.suggestContinueAsNew", \
      INT, NAMESPACE, 4 * 1024) \
    X(LIMIT_ACTIVITY_FAILURE_SIZE_ERROR, "limit.mutableStateActivityFailureSize.error", \
      INT, NAMESPACE, 4 * TN_DYN_KIB) \
    X(LIMIT_ACTIVITY_FAILURE_SIZE_WARN, "limit.mutableStateActivityFailureSize.warn", \
      INT, NAMESPACE, 2 * TN_DYN_KIB) \
    X(LIMIT_STATE_SIZE_ERROR, "limit.mutableStateSize.error", INT, GLOBAL, 8 * TN_DYN_MIB) \
    X(LIMIT_STATE_SIZE_WARN, "limit.mutableStateSize.warn", INT, GLOBAL, 1 * TN_DYN_MIB) \
    X(LIMIT_HISTORY_PAGE, "limit.historyMaxPageSize", INT, NAMESPACE, 256) \
    X(LIMIT_ID_LENGTH, "limit.maxIDLength", INT, GLOBAL, 1000) \
    X(LIMIT_BUILD_ID_LENGTH, "limit.workerBuildIdSize", INT, GLOBAL, 255) \
    X(LIMIT_SUMMARY_SIZE, "limit.userMetadataSummarySize", INT, NAMESPACE, 400) \
    X(LIMIT_DETAILS_SIZE, "limit.userMetadataDetailsSize", INT, NAMESPACE, 20000) \
    X(LIMIT_ENDPOINT_NAME, "limit.endpointNameMaxLength", INT, GLOBAL, 200) \
    X(LIMIT_ENDPOINT_URL, "limit.endpointExternalURLMaxLength", INT, GLOBAL, 4 * TN_DYN_KIB) \
    X(LIMIT_ENDPOINT_DESCRIPTION, "limit.endpointDescriptionMaxSize", INT, NAMESPACE, 20000) \
    X(LIMIT_ENDPOINT_PAGE, "limit.endpointListDefaultPageSize", INT, GLOBAL, 100) \
    X(LIMIT_ENDPOINT_PAGE_MAX, "limit.endpointListMaxPageSize", INT, GLOBAL, 1000) \
    /* system */ \
    X(SYSTEM_TRANSACTION_SIZE, "system.transactionSizeLimit", INT, GLOBAL, 4 * TN_DYN_MIB) \
    X(SYSTEM_ERROR_MESSAGE_LENGTH, "system.maxServiceErrorMessageLength", INT, GLOBAL, 4000) \
    X(SYSTEM_DISALLOW_QUERY, "system.disallowQuery", BOOL, NAMESPACE, false) \
    X(SYSTEM_CROSS_NAMESPACE_COMMANDS, "system.enableCrossNamespaceCommands", BOOL, GLOBAL, false) \
    X(SYSTEM_STICKY_QUERY, "system.enableStickyQuery", BOOL, NAMESPACE, true) \
    X(SYSTEM_EAGER_ACTIVITY, "system.enableActivityEagerExecution", BOOL, NAMESPACE, true) \
    X(SYSTEM_EAGER_START, "system.enableEagerWorkflowStart", BOOL, NAMESPACE, true) \
    X(SYSTEM_RETENTION_MIN_GLOBAL, "system.namespaceMinRetentionGlobal", \
      DURATION, GLOBAL, 24 * TN_DYN_HOUR) \
    X(SYSTEM_RETENTION_MIN_LOCAL, "system.namespaceMinRetentionLocal", \
      DURATION, GLOBAL, TN_DYN_HOUR) \
    X(SYSTEM_OPERATOR_RPS_RATIO, "system.operatorRPSRatio", FLOAT, GLOBAL, 0.2) \
    X(SYSTEM_VISIBILITY_DISABLE_ORDER_BY, "system.visibilityDisableOrderByClause", \
      BOOL, NAMESPACE, false) \
    X(SYSTEM_SECOND_VISIBILITY_WRITE, "system.secondaryVisibilityWritingMode", \
      MODE, GLOBAL, TN_DYN_OFF) \
    X(SYSTEM_SECOND_VISIBILITY_READ, "system.enableReadFromSecondaryVisibility", \
      BOOL, NAMESPACE, false) \
    X(SYSTEM_LOG_ALL_ERRORS, "system.logAllReqErrors", BOOL, NAMESPACE, false) \
    X(RPC_SLOW_REQUEST, "rpc.slowRequestLoggingThreshold", DURATION, GLOBAL, 5 * TN_DYN_SEC) \
    /* frontend */ \
    X(FRONTEND_RPS, "frontend.rps", INT, GLOBAL, 2400) \
    X(FRONTEND_STORE_STRAIN, "frontend.persistenceDynamicRateLimitingParams", MAP, GLOBAL, "") \
    X(FRONTEND_STORE_QPS, "frontend.persistenceMaxQPS", INT, GLOBAL, 0) \
    X(FRONTEND_STORE_GLOBAL_QPS, "frontend.persistenceGlobalMaxQPS", INT, GLOBAL, 0) \
    X(FRONTEND_STORE_NS_QPS, "frontend.persistenceNamespaceMaxQPS", INT, NAMESPACE, 0) \
    X(FRONTEND_STORE_GLOBAL_NS_QPS, "frontend.persistenceGlobalNamespaceMaxQPS", INT, NAMESPACE, 0) \
    X(SYSTEM_STORE_BURST, "system.persistenceQPSBurstRatio", FLOAT, GLOBAL, 1) \
    X(FRONTEND_NAMESPACE_RPS, "frontend.namespaceRPS", INT, NAMESPACE, 2400) \
    X(FRONTEND_GLOBAL_RPS, "frontend.globalRPS", INT, GLOBAL, 0) \
    X(FRONTEND_GLOBAL_NAMESPACE_RPS, "frontend.globalNamespaceRPS", INT, NAMESPACE, 0) \
    X(FRONTEND_GLOBAL_VISIBILITY_RPS, "frontend.globalNamespaceRPS.visibility", INT, NAMESPACE, 0) \
    X(FRONTEND_GLOBAL_REPLICATION_RPS, "frontend.globalNamespaceRPS.namespaceReplicationInducingAPIs", \
      INT, NAMESPACE, 10) \
    X(FRONTEND_DEPLOYMENT_READ_RPS, "frontend.globalNamespaceWorkerDeploymentReadRPS", INT, NAMESPACE, 50) \
    X(FRONTEND_DEPLOYMENT_READ_BURST, "frontend.globalNamespaceWorkerDeploymentReadBurstRatio", \
      FLOAT, NAMESPACE, 10) \
    X(FRONTEND_GLOBAL_NAMESPACE_COUNT, "frontend.globalNamespaceCount", INT, NAMESPACE, 0) \
    X(FRONTEND_NAMESPACE_BURST, "frontend.namespaceBurstRatio", FLOAT, NAMESPACE, 2) \
    X(FRONTEND_CALLER_FAIRNESS, "tenon.callerFairness", BOOL, NAMESPACE, true) \
    X(FRONTEND_NAMESPACE_COUNT, "frontend.namespaceCount", INT, NAMESPACE, 1200) \
    X(FRONTEND_VISIBILITY_RPS, "frontend.namespaceRPS.visibility", INT, NAMESPACE, 10) \
    X(FRONTEND_VISIBILITY_BURST, "frontend.namespaceBurstRatio.visibility", FLOAT, NAMESPACE, 1) \
    X(FRONTEND_REPLICATION_RPS, "frontend.rps.namespaceReplicationInducingAPIs", INT, GLOBAL, 20) \
    X(FRONTEND_NAMESPACE_REPLICATION_RPS, "frontend.namespaceRPS.namespaceReplicationInducingAPIs", \
      INT, NAMESPACE, 1) \
    X(FRONTEND_NAMESPACE_REPLICATION_BURST, "frontend.namespaceBurstRatio.namespaceReplicationInducingAPIs", \
      FLOAT, NAMESPACE, 10) \
    X(FRONTEND_VISIBILITY_PAGE, "frontend.visibilityMaxPageSize", INT, NAMESPACE, 1000) \
    X(FRONTEND_HISTORY_PAGE, "frontend.historyMaxPageSize", INT, NAMESPACE, 256) \
    X(FRONTEND_SA_KEYS, "frontend.searchAttributesNumberOfKeysLimit", INT, NAMESPACE, 100) \
    X(FRONTEND_SA_VALUE_SIZE, "frontend.searchAttributesSizeOfValueLimit", \
      INT, NAMESPACE, 2 * TN_DYN_KIB) \
    X(FRONTEND_SA_TOTAL_SIZE, "frontend.searchAttributesTotalSizeLimit", \
      INT, NAMESPACE, 40 * TN_DYN_KIB) \
    X(FRONTEND_LINK_SIZE, "frontend.linkMaxSize", INT, NAMESPACE, 4000) \
    X(FRONTEND_LINKS, "frontend.maxlinksPerRequest", INT, NAMESPACE, 10) \
    X(FRONTEND_CALLBACK_URL, "frontend.callbackURLMaxLength", INT, NAMESPACE, 1000) \
    X(FRONTEND_CALLBACK_HEADER, "frontend.callbackHeaderMaxLength", INT, NAMESPACE, 8 * TN_DYN_KIB) \
    X(FRONTEND_NS_DELETE_NEXUS_TARGET, "frontend.allowDeleteNamespaceIfNexusEndpointTarget", \
      BOOL, GLOBAL, false) \
    X(FRONTEND_BAD_BINARIES, "frontend.maxBadBinaries", INT, NAMESPACE, 10) \
    X(FRONTEND_MASK_INTERNAL_ERRORS, "frontend.maskInternalErrorDetails", BOOL, NAMESPACE, true) \
    X(FRONTEND_DISABLE_LIST_FILTER, "frontend.disableListVisibilityByFilter", \
      BOOL, NAMESPACE, false) \
    X(FRONTEND_EXPOSE_AUTHORIZER_ERRORS, "frontend.exposeAuthorizerErrors", BOOL, GLOBAL, false) \
    X(FRONTEND_TOKEN_NAMESPACE, "frontend.enableTokenNamespaceEnforcement", BOOL, GLOBAL, true) \
    X(FRONTEND_WORKER_HEARTBEATS, "frontend.WorkerHeartbeatsEnabled", BOOL, NAMESPACE, true) \
    X(FRONTEND_CANCEL_POLLS_ON_SHUTDOWN, "frontend.enableCancelWorkerPollsOnShutdown", \
      BOOL, NAMESPACE, false) \
    X(FRONTEND_UPDATES, "frontend.enableUpdateWorkflowExecution", BOOL, NAMESPACE, true) \
    X(FRONTEND_ASYNC_UPDATES, "frontend.enableUpdateWorkflowExecutionAsyncAccepted", \
      BOOL, NAMESPACE, true) \
    X(ACTIVITY_STANDALONE, "activity.enableStandalone", BOOL, NAMESPACE, true) \
    X(ACTIVITY_START_DELAY, "activity.startDelayEnabled", BOOL, NAMESPACE, true) \
    X(ACTIVITY_OPERATORS, "history.enableStandaloneActivityOperatorCommands", \
      BOOL, NAMESPACE, true) \
    X(FRONTEND_BATCH_ACTIVITIES, "frontend.enableBatchOperationsForStandaloneActivities", BOOL, NAMESPACE, true) \
    X(FRONTEND_WORKFLOW_PAUSE, "frontend.WorkflowPauseEnabled", BOOL, NAMESPACE, true) \
    X(FRONTEND_KEEPALIVE_MIN, "frontend.keepAliveMinTime", DURATION, GLOBAL, 10 * TN_DYN_SEC) \
    X(FRONTEND_KEEPALIVE_WITHOUT_STREAM, "frontend.keepAlivePermitWithoutStream", \
      BOOL, GLOBAL, true) \
    X(FRONTEND_KEEPALIVE_IDLE, "frontend.keepAliveMaxConnectionIdle", \
      DURATION, GLOBAL, 2 * TN_DYN_MIN) \
    X(FRONTEND_KEEPALIVE_AGE, "frontend.keepAliveMaxConnectionAge", \
      DURATION, GLOBAL, 5 * TN_DYN_MIN) \
    X(FRONTEND_KEEPALIVE_AGE_GRACE, "frontend.keepAliveMaxConnectionAgeGrace", \
      DURATION, GLOBAL, 70 * TN_DYN_SEC) \
    X(FRONTEND_KEEPALIVE_TIME, "frontend.keepAliveTime", DURATION, GLOBAL, TN_DYN_MIN) \
    X(FRONTEND_KEEPALIVE_TIMEOUT, "frontend.keepAliveTimeout", DURATION, GLOBAL, 10 * TN_DYN_SEC) \
    X(FRONTEND_DRAIN, "frontend.shutdownDrainDuration", DURATION, GLOBAL, 0) \
    X(FRONTEND_FAIL_HEALTH, "frontend.shutdownFailHealthCheckDuration", DURATION, GLOBAL, 0) \
    X(FRONTEND_HTTP_ALLOWED_HOSTS, "frontend.httpAllowedHosts", TEXT, GLOBAL, "*") \
    X(FRONTEND_NEXUS_HIDDEN_HEADERS, "frontend.nexusRequestHeadersBlacklist", TEXT, GLOBAL, \
      "accept-encoding,x-forwarded-for,xdc-redirection,xdc-redirection-api,temporal-nexus-failure-support") \
    /* history */ \
    X(HISTORY_CALLS_MAX, "history.maxConcurrentCalls", INT, GLOBAL, 20000) \
    X(HISTORY_RPS, "history.rps", INT, GLOBAL, 0) \
    X(HISTORY_NAMESPACE_RPS, "history.namespaceRPS", INT, NAMESPACE, 0) \
    X(HISTORY_STORE_STRAIN, "history.persistenceDynamicRateLimitingParams", MAP, GLOBAL, "") \
    X(HISTORY_STORE_QPS, "history.persistenceMaxQPS", INT, GLOBAL, 0) \
    X(HISTORY_STORE_GLOBAL_QPS, "history.persistenceGlobalMaxQPS", INT, GLOBAL, 0) \
    X(HISTORY_STORE_NS_QPS, "history.persistenceNamespaceMaxQPS", INT, NAMESPACE, 0) \
    X(HISTORY_STORE_GLOBAL_NS_QPS, "history.persistenceGlobalNamespaceMaxQPS", INT, NAMESPACE, 0) \
    X(HISTORY_STORE_SHARD_NS_QPS, "history.persistencePerShardNamespaceMaxQPS", INT, NAMESPACE, 0) \
    X(HISTORY_LONG_POLL, "history.longPollExpirationInterval", \
      DURATION, NAMESPACE, 20 * TN_DYN_SEC) \
    X(HISTORY_WFT_TIMEOUT, "history.defaultWorkflowTaskTimeout", \
      DURATION, NAMESPACE, 10 * TN_DYN_SEC) \
    X(HISTORY_WFT_HEARTBEAT_TIMEOUT, "history.workflowTaskHeartbeatTimeout", \
      DURATION, NAMESPACE, 30 * TN_DYN_MIN) \
    X(HISTORY_WFT_CRITICAL_ATTEMPT, "history.workflowTaskCriticalAttempt", INT, GLOBAL, 10) \
    X(HISTORY_WFT_RETRY_MAX, "history.workflowTaskRetryMaxInterval", \
      DURATION, GLOBAL, 10 * TN_DYN_MIN) \
    X(HISTORY_BUFFERED_QUERIES, "history.MaxBufferedQueryCount", INT, GLOBAL, 1) \
    X(HISTORY_BUFFERED_EVENTS, "history.maximumBufferedEventsBatch", INT, GLOBAL, 100) \
    X(HISTORY_BUFFERED_EVENTS_SIZE, "history.maximumBufferedEventsSizeInBytes", \
      INT, GLOBAL, 2 * TN_DYN_MIB) \
    X(HISTORY_SIGNALS, "history.maximumSignalsPerExecution", INT, NAMESPACE, 10000) \
    X(HISTORY_UPDATES_IN_FLIGHT, "history.maxInFlightUpdates", INT, NAMESPACE, 10) \
    X(HISTORY_UPDATES_IN_FLIGHT_SIZE, "history.maxInFlightUpdatePayloads", \
      INT, NAMESPACE, 20 * TN_DYN_MIB) \
    X(HISTORY_UPDATES, "history.maxTotalUpdates", INT, NAMESPACE, 2000) \
    X(HISTORY_UPDATES_SUGGEST, "history.maxTotalUpdates.suggestContinueAsNewThreshold", \
      FLOAT, NAMESPACE, 0.9) \
    X(HISTORY_DISCARDED_EVENTS, "history.discardSpeculativeWorkflowTaskMaximumEventsCount", \
      INT, GLOBAL, 10) \
    X(HISTORY_REQUEST_IDS, "history.maximumRequestIDsPerExecution", INT, NAMESPACE, 25) \
    X(HISTORY_REQUEST_ID_AGE, "history.requestIDMaxAge", \
      DURATION, NAMESPACE, 7 * 24 * TN_DYN_HOUR) \
    X(HISTORY_AUTO_RESET_POINTS, "history.historyMaxAutoResetPoints", INT, NAMESPACE, 20) \
    X(HISTORY_PARENT_CLOSE_POLICY, "history.enableParentClosePolicy", BOOL, NAMESPACE, true) \
    X(HISTORY_RETENTION_JITTER, "history.retentionTimerJitterDuration", \
      DURATION, GLOBAL, 30 * TN_DYN_MIN) \
    X(HISTORY_ID_REUSE_INTERVAL, "history.workflowIdReuseMinimalInterval", \
      DURATION, NAMESPACE, TN_DYN_SEC) \
    X(HISTORY_ID_REUSE_CHECK, "history.enableWorkflowIdReuseStartTimeValidation", \
      BOOL, NAMESPACE, false) \
    /* matching */ \
    X(MATCHING_RPS, "matching.rps", INT, GLOBAL, 0) \
    X(MATCHING_NAMESPACE_RPS, "matching.namespaceRPS", INT, NAMESPACE, 0) \
    X(MATCHING_STORE_STRAIN, "matching.persistenceDynamicRateLimitingParams", MAP, GLOBAL, "") \
    X(MATCHING_STORE_QPS, "matching.persistenceMaxQPS", INT, GLOBAL, 0) \
    X(MATCHING_STORE_GLOBAL_QPS, "matching.persistenceGlobalMaxQPS", INT, GLOBAL, 0) \
    X(MATCHING_STORE_NS_QPS, "matching.persistenceNamespaceMaxQPS", INT, NAMESPACE, 0) \
    X(MATCHING_STORE_GLOBAL_NS_QPS, "matching.persistenceGlobalNamespaceMaxQPS", INT, NAMESPACE, 0) \
    X(MATCHING_LONG_POLL, "matching.longPollExpirationInterval", DURATION, TASK_QUEUE, TN_DYN_MIN) \
    X(MATCHING_SYNC_MATCH_WAIT, "matching.syncMatchWaitDuration", \
      DURATION, TASK_QUEUE, 200 * TN_DYN_MS) \
    X(MATCHING_IDLE, "matching.maxTaskQueueIdleTime", DURATION, TASK_QUEUE, 5 * TN_DYN_MIN) \
    X(MATCHING_WRITE_PARTITIONS, "matching.numTaskqueueWritePartitions", INT, TASK_QUEUE, 1) \
    X(MATCHING_READ_PARTITIONS, "matching.numTaskqueueReadPartitions", INT, TASK_QUEUE, 1) \
    X(MATCHING_FORWARD_POLLS, "matching.forwarderMaxOutstandingPolls", INT, TASK_QUEUE, 1) \
    X(MATCHING_FORWARD_TASKS, "matching.forwarderMaxOutstandingTasks", INT, TASK_QUEUE, 4) \
    X(MATCHING_FORWARD_RATE, "matching.forwarderMaxRatePerSecond", INT, TASK_QUEUE, 100) \
    X(MATCHING_FORWARD_CHILDREN, "matching.forwarderMaxChildrenPerNode", INT, TASK_QUEUE, 20) \
    X(MATCHING_POLLER_TTL, "matching.PollerHistoryTTL", DURATION, NAMESPACE, 5 * TN_DYN_MIN) \
    X(MATCHING_SCALING_BACKLOG_AGE, "matching.pollerScalingMinimumBacklog", \
      DURATION, TASK_QUEUE, 200 * TN_DYN_MS) \
    X(MATCHING_SCALING_WAIT, "matching.pollerScalingWaitTime", DURATION, TASK_QUEUE, TN_DYN_SEC) \
    X(MATCHING_SCALING_RATE, "matching.pollerScalingDecisionsPerSecond", FLOAT, TASK_QUEUE, 10) \
    X(MATCHING_SCALING_RATIO, "matching.pollerScalingTaskAddToDispatchRatio", FLOAT, TASK_QUEUE, 1.2) \
    X(MATCHING_WEIGHTS_MAX, "matching.maxFairnessKeyWeightOverrides", INT, TASK_QUEUE, 1000) \
    X(MATCHING_WORKERS_MAX, "matching.workerRegistryMaxEntries", INT, GLOBAL, 1000000) \
    X(MATCHING_WORKERS_TTL, "matching.workerRegistryEntryTTL", DURATION, GLOBAL, 5 * TN_DYN_MIN) \
    X(MATCHING_WORKERS_MIN_AGE, "matching.workerRegistryMinEvictAge", DURATION, GLOBAL, TN_DYN_MIN) \
    X(MATCHING_MAX_DEPLOYMENTS, "matching.maxDeployments", INT, NAMESPACE, 100) \
    X(MATCHING_MAX_VERSIONS, "matching.maxVersionsInDeployment", INT, NAMESPACE, 100) \
    X(MATCHING_MAX_VERSION_QUEUES, "matching.maxTaskQueuesInDeploymentVersion", INT, NAMESPACE, 100) \
    X(MATCHING_MAX_QUEUE_VERSIONS, "matching.maxVersionsInTaskQueue", INT, NAMESPACE, 200) \
    X(MATCHING_DRAINAGE_GRACE, "matching.wv.VersionDrainageStatusVisibilityGracePeriod", \
      DURATION, NAMESPACE, 3 * TN_DYN_MIN) \
    X(MATCHING_DRAINAGE_REFRESH, "matching.wv.VersionDrainageStatusRefreshInterval", \
      DURATION, NAMESPACE, 3 * TN_DYN_MIN) \
    X(SYSTEM_DEPLOYMENT_VERSIONS, "system.enableDeploymentVersions", BOOL, NAMESPACE, true) \
    X(MATCHING_QUERY_POLLER_WINDOW, "matching.queryPollerUnavailableWindow", \
      DURATION, GLOBAL, 20 * TN_DYN_SEC) \
    X(FRONTEND_NS_DELETE_RPS, "frontend.deleteNamespaceDeleteActivityRPS", INT, GLOBAL, 100) \
    X(FRONTEND_NS_DELETE_DELAY, "frontend.deleteNamespaceNamespaceDeleteDelay", DURATION, GLOBAL, 0) \
    /* callbacks and Nexus operations */ \
    X(CALLBACK_ADDRESSES, "callback.allowedAddresses", TEXT, NAMESPACE, "") \
    X(CALLBACK_MAX, "callback.maxPerExecution", INT, NAMESPACE, 2000) \
    X(CALLBACK_TIMEOUT, "callback.request.timeout", DURATION, NAMESPACE, 10 * TN_DYN_SEC) \
    X(CALLBACK_RETRY_INITIAL, "callback.retryPolicy.initialInterval", DURATION, GLOBAL, TN_DYN_SEC) \
    X(CALLBACK_RETRY_MAX, "callback.retryPolicy.maxInterval", DURATION, GLOBAL, TN_DYN_HOUR) \
    X(NEXUS_CALLBACK_TEMPLATE, "component.nexusoperations.callback.endpoint.template", \
      TEXT, GLOBAL, "unset") \
    X(NEXUS_HEADERS_DISALLOWED, "component.nexusoperations.disallowedHeaders", TEXT, GLOBAL, \
      "request-timeout,xdc-redirection-api,xdc-redirection-source-cell,xdc-redirection," \
      "caller-name,caller-type,call-initiation,principal-type,principal-name") \
    X(NEXUS_DISPATCH_MIN, "component.nexusoperations.limit.dispatch.task.timeout.min", \
      DURATION, NAMESPACE, TN_DYN_SEC) \
    X(NEXUS_HEADER_SIZE, "component.nexusoperations.limit.header.size", INT, NAMESPACE, 8192) \
    X(NEXUS_OPERATIONS, "component.nexusoperations.limit.operation.concurrency", INT, NAMESPACE, 30) \
    X(NEXUS_OPERATION_NAME, "component.nexusoperations.limit.operation.name.length", \
      INT, NAMESPACE, 1000) \
    X(NEXUS_TOKEN_LENGTH, "component.nexusoperations.limit.operation.token.length", \
      INT, NAMESPACE, 4096) \
    X(NEXUS_REQUEST_MIN, "component.nexusoperations.limit.request.timeout.min", \
      DURATION, NAMESPACE, 1500 * TN_DYN_MS) \
    X(NEXUS_TIMEOUT_MAX, "component.nexusoperations.limit.scheduleToCloseTimeout", \
      DURATION, NAMESPACE, 0) \
    X(NEXUS_SERVICE_NAME, "component.nexusoperations.limit.service.name.length", \
      INT, NAMESPACE, 1000) \
    X(NEXUS_REQUEST_TIMEOUT, "component.nexusoperations.request.timeout", \
      DURATION, NAMESPACE, 10 * TN_DYN_SEC) \
    X(NEXUS_RETRY_INITIAL, "component.nexusoperations.retryPolicy.initialInterval", \
      DURATION, GLOBAL, TN_DYN_SEC) \
    X(NEXUS_RETRY_MAX, "component.nexusoperations.retryPolicy.maxInterval", \
      DURATION, GLOBAL, TN_DYN_HOUR) \
    X(NEXUS_SYSTEM_CALLBACK, "component.nexusoperations.useSystemCallbackURL", BOOL, GLOBAL, true) \
    /* ours alone */ \
    X(MATCHING_STICKY_TTL, "tenon.matching.stickyUnavailableAfter", \
      DURATION, TASK_QUEUE, 10 * TN_DYN_SEC) \
    X(FRONTEND_BATCHER, "frontend.enableBatcher", BOOL, NAMESPACE, true) \
    X(FRONTEND_BATCHES, "frontend.MaxConcurrentBatchOperationPerNamespace", INT, NAMESPACE, 1) \
    X(WORKER_BATCHER_RPS, "worker.batcherRPS", INT, NAMESPACE, 50) \
    X(WORKER_BATCHER_CONCURRENCY, "worker.batcherConcurrency", INT, NAMESPACE, 5) \
    X(WORKER_RETENTION_RPS, "tenon.worker.retentionRPS", INT, GLOBAL, 200)
/* clang-format on */

typedef enum tn_dyn_key {
#define TN_DYN_ENUM(name, key, type, scope, fallback) TN_DYN_##name,
    TN_DYN_KEYS(TN_DYN_ENUM)
#undef TN_DYN_ENUM
        TN_DYN_COUNT
} tn_dyn_key;

/* ---- reading [any]: no lock, no allocation; without constraints in the file an array lookup ----
 * ns, task_queue: empty where they do not apply.  Before tn_dynconfig_start: the defaults. */
/* INT, MODE, and DURATION in ns */
int64_t tn_dyn_i64(tn_dyn_key key, tn_str ns, tn_str task_queue);
bool tn_dyn_bool(tn_dyn_key key, tn_str ns, tn_str task_queue);
double tn_dyn_f64(tn_dyn_key key, tn_str ns, tn_str task_queue);
tn_str tn_dyn_text(tn_dyn_key key);               /* TEXT; lives as long as the process */
tn_str tn_dyn_text_in(tn_dyn_key key, tn_str ns); /* the same, of a namespace */
/* With the task type (1 workflow, 2 activity, 3 nexus) that an entry may be constrained to. */
int64_t tn_dyn_task_i64(tn_dyn_key key, tn_str ns, tn_str task_queue, int32_t task_type);
const char *tn_dyn_key_name(tn_dyn_key key);
/* dynwarn.c: a line in the log (at most one a second of each key) when the value is more than the key says. */
void tn_dyn_warn(tn_dyn_key key, tn_str ns, tn_str id, int64_t value);

/* ---- making [main] ---- */
typedef struct tn_dynconfig_options {
    const char *path;             /* NULL: no file */
    uint64_t poll_ns;             /* at least 5 s */
    const char *const *overrides; /* "KEY=JSON" of --dynamic-config-value; they win over the file */
    size_t overrides_count;
} tn_dynconfig_options;
/* Reads the file for the first time.  A file that is missing or no YAML, and a bad override, are
 * problems. */
tn_status tn_dynconfig_start(const tn_dynconfig_options *options,
                             tn_config_problems *problems) TN_WARN_UNUSED;
void tn_dynconfig_stop(void);          /* [main] after the loops have ended; back to the defaults */
void tn_dynconfig_watch(void *unused); /* [loop] for tn_loop_call: this loop looks after the file */
void tn_dynconfig_unwatch(void *unused); /* [loop] */
/* [loop] The watching one looks at once instead of at the next poll (SIGHUP). */
void tn_dynconfig_look_now(void *unused);
/* A reload: the file is read [main], whether it seems changed or not, and taken by tn_loop_call of commit on the watching
 * loop, or discarded.  *out is NULL without a file. */
typedef struct tn_dynconfig_fresh tn_dynconfig_fresh;
tn_status tn_dynconfig_prepare(tn_config_problems *problems,
                               tn_dynconfig_fresh **out) TN_WARN_UNUSED;
void tn_dynconfig_commit(void *fresh); /* NULL allowed */
void tn_dynconfig_discard(tn_dynconfig_fresh *fresh);
/* Values from a text, as if it were the file [main] (tests, fuzzing).  *warnings: how many entries
 * were skipped. */
tn_status tn_dynconfig_apply(const char *name, tn_blob yaml, tn_config_problems *problems,
                             size_t *warnings);

#endif
