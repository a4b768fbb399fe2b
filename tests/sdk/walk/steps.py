# SPDX-License-Identifier: MIT
"""What is asked of the temporal CLI, in this order: (words, options).  Words may hold {names} of main.py's `names`.

Options: text=1 without --output json; until=FIELD=VALUE or until=TEXT: asked again until the output has it;
ns=0 without --namespace; keep=NAME:FIELD remembers a field of the JSON as {NAME}; refused=1: both must refuse it;
loose=1: only the exit code is compared (what is shown depends on time, or on what else the server has)."""

START = "workflow start --task-queue {queue} --type"


def step(words, **options):
    return words, options


STEPS = [
    # ---- workflows: starting and looking
    step(START + " Hello --workflow-id {w}-hello --input '\"walk\"'"),
    step("workflow result --workflow-id {w}-hello"),
    step("workflow show --workflow-id {w}-hello", loose=1),
    step("workflow show --workflow-id {w}-hello", text=1, loose=1),
    step("workflow describe --workflow-id {w}-hello"),
    step("workflow describe --workflow-id {w}-none", refused=1),
    step("workflow execute --task-queue {queue} --type Hello --workflow-id {w}-exec --input '\"x\"'", loose=1),
    step(START + " Waiting --workflow-id {w}-wait --input '\"a\"' --memo 'note=\"n\"' --static-summary sum "
         "--priority-key 2 --fairness-key f --fairness-weight 2"),
    step(START + " Waiting --workflow-id {w}-wait --fail-existing", refused=1),
    step("workflow describe --workflow-id {w}-wait", until="mostRecentWorkerVersionStamp"),
    step("workflow signal --workflow-id {w}-wait --name add --input '\"s\"'"),
    step("workflow query --workflow-id {w}-wait --type all"),
    step("workflow query --workflow-id {w}-wait --type nothing", refused=1),
    step("workflow metadata --workflow-id {w}-wait"),
    step("workflow stack --workflow-id {w}-wait", text=1, loose=1),
    step("workflow signal-with-start --type Waiting --task-queue {queue} --workflow-id {w}-sws --signal-name add "
         "--signal-input '\"b\"'"),
    step("workflow list --query \"WorkflowId = '{w}-wait'\"", until="{w}-wait"),
    step("workflow count --query \"WorkflowId = '{w}-wait'\"", until="1"),
    step("workflow count --query \"WorkflowId = '{w}-wait' GROUP BY ExecutionStatus\""),
    step("workflow list --query \"Nonsense = 'x'\"", refused=1),
    step("workflow trace --workflow-id {w}-hello --no-fold", text=1, loose=1),
    step("workflow fix-history-json --source {dir}/history.json", text=1),
    # ---- updates
    step(START + " Counter --workflow-id {w}-count --input 1"),
    step("workflow update execute --workflow-id {w}-count --name add --input 2 --update-id u1"),
    step("workflow update execute --workflow-id {w}-count --name add --input -1 --update-id u2", refused=1),
    step("workflow update start --workflow-id {w}-count --name add_when_open --input 1 --update-id u3 "
         "--wait-for-stage accepted"),
    step("workflow update describe --workflow-id {w}-count --update-id u3"),
    step("workflow signal --workflow-id {w}-count --name release"),
    step("workflow update result --workflow-id {w}-count --update-id u3"),
    step("workflow update describe --workflow-id {w}-count --update-id unknown", refused=1),
    step("workflow execute-update-with-start --type Counter --task-queue {queue} --workflow-id {w}-uws --input 1 "
         "--id-conflict-policy UseExisting --update-name add --update-input 2"),
    step("workflow start-update-with-start --type Counter --task-queue {queue} --workflow-id {w}-uws --input 1 "
         "--id-conflict-policy UseExisting --update-name add --update-input 2 --update-wait-for-stage accepted"),
    # ---- changing
    step("workflow pause --workflow-id {w}-wait --reason walk", gate="workflow pause"),
    step("workflow unpause --workflow-id {w}-wait --reason walk", gate="workflow pause"),
    step("workflow update-options --workflow-id {w}-wait --versioning-override-behavior auto_upgrade"),
    step("workflow update-options --workflow-id {w}-wait --versioning-override-behavior unspecified"),
    step("workflow update-options --workflow-id {w}-none --versioning-override-behavior unspecified", refused=1),
    step("workflow reset --workflow-id {w}-hello --event-id 4 --reason walk"),
    step("workflow result --workflow-id {w}-hello"),
    step("workflow reset --workflow-id {w}-hello --type LastWorkflowTask --reason walk"),
    step("workflow reset --workflow-id {w}-hello --type FirstWorkflowTask --reason walk"),
    step("workflow reset --workflow-id {w}-hello --event-id 1 --reason walk", refused=1),
    step("workflow reset with-workflow-update-options --workflow-id {w}-hello --type FirstWorkflowTask --reason walk "
         "--versioning-override-behavior auto_upgrade"),
    step("workflow cancel --workflow-id {w}-sws"),
    step("workflow terminate --workflow-id {w}-count --reason walk"),
    step("workflow terminate --workflow-id {w}-count --reason walk", refused=1),
    step("workflow delete --workflow-id {w}-exec -y"),
    step("workflow describe --workflow-id {w}-exec", refused=1, until="not found for ID"),
    # ---- batches
    step("workflow signal --query \"WorkflowId = '{w}-wait'\" --name add --input '\"q\"' --reason walk -y", loose=1),
    step("batch list", until="jobId", keep="job:0.jobId", loose=1),
    step("batch describe --job-id {job}", until="COMPLETED"),
    step("batch describe --job-id none", refused=1),
    step("batch terminate --job-id {job} --reason walk", loose=1),
    step("workflow terminate --query \"WorkflowId = '{w}-uws'\" --reason walk -y", loose=1),
    # ---- activities of workflows
    step(START + " CallOne --workflow-id {w}-act --input '{{\"name\":\"hangs\",\"args\":[600],\"attempts\":5}}'"),
    step("workflow describe --workflow-id {w}-act", until="PENDING_ACTIVITY_STATE_STARTED"),
    step("activity pause --workflow-id {w}-act --activity-id 1 --reason walk"),
    step("workflow describe --workflow-id {w}-act", until="PAUSE", loose=1),
    step("activity unpause --workflow-id {w}-act --activity-id 1"),
    step("activity reset --workflow-id {w}-act --activity-id 1"),
    step("activity update-options --workflow-id {w}-act --activity-id 1 --start-to-close-timeout 500s"),
    step("activity update-options --workflow-id {w}-act --activity-id 1 --restore-original-options"),
    step("activity pause --workflow-id {w}-act --activity-id 99", refused=1),
    step("activity complete --workflow-id {w}-act --activity-id 1 --result '\"done\"'"),
    step("workflow result --workflow-id {w}-act"),
    step("activity complete --workflow-id {w}-act --activity-id 1 --result '\"done\"'", refused=1),
    step("activity fail --workflow-id {w}-act --activity-id 1 --reason x", refused=1),
    # ---- activities of their own
    step("activity start --activity-id {w}-a1 --type echo --task-queue {queue} --input '\"x\"' "
         "--start-to-close-timeout 30s"),
    step("activity result --activity-id {w}-a1"),
    step("activity describe --activity-id {w}-a1"),
    step("activity execute --activity-id {w}-a2 --type echo --task-queue {queue} --input '\"x\"' "
         "--start-to-close-timeout 30s"),
    step("activity start --activity-id {w}-a3 --type echo --task-queue nobody --start-to-close-timeout 30s "
         "--static-summary sum --priority-key 1"),
    step("activity start --activity-id {w}-a3 --type echo --task-queue nobody --start-to-close-timeout 30s",
         refused=1),
    step("activity list --query \"ActivityId = '{w}-a3'\"", until="{w}-a3"),
    step("activity count --query \"ActivityId = '{w}-a3'\"", until="1"),
    step("activity cancel --activity-id {w}-a3 --reason walk"),
    step("activity start --activity-id {w}-a4 --type echo --task-queue nobody --start-to-close-timeout 30s"),
    step("activity terminate --activity-id {w}-a4 --reason walk"),
    step("activity describe --activity-id {w}-a4"),
    step("activity delete --activity-id {w}-a4 -y"),
    step("activity describe --activity-id {w}-none", refused=1),
    # ---- schedules
    step("schedule create --schedule-id {w}-s --interval 12h --task-queue {queue} --type Hello "
         "--workflow-id {w}-scheduled --input '\"s\"' --paused --notes first --remaining-actions 5"),
    step("schedule create --schedule-id {w}-s --interval 12h --task-queue {queue} --type Hello", refused=1),
    step("schedule describe --schedule-id {w}-s"),
    step("schedule list --query \"ScheduleId = '{w}-s'\"", until="{w}-s"),
    step("schedule list-matching-times --schedule-id {w}-s --start-time 2026-01-01T00:00:00Z "
         "--end-time 2026-01-03T00:00:00Z"),
    step("schedule toggle --schedule-id {w}-s --unpause --reason walk"),
    step("schedule trigger --schedule-id {w}-s"),
    # Here the end of the run is known at once, on the reference when the next action is due.
    step("schedule describe --schedule-id {w}-s", until="recentActions", loose=1),
    step("schedule backfill --schedule-id {w}-s --start-time 2026-01-01T00:00:00Z --end-time 2026-01-01T13:00:00Z "
         "--overlap-policy AllowAll"),
    step("schedule update --schedule-id {w}-s --cron '30 2 * * 5' --time-zone Europe/Berlin --task-queue {queue} "
         "--type Hello --workflow-id {w}-scheduled"),
    step("schedule describe --schedule-id {w}-s", until="structuredCalendar", loose=1),
    step("schedule describe --schedule-id {w}-s", text=1, loose=1),
    step("schedule delete --schedule-id {w}-s"),
    step("schedule describe --schedule-id {w}-none", refused=1),
    # ---- task queues and workers
    step("task-queue describe --task-queue {queue}", until="pollers"),
    step("task-queue describe --task-queue {queue} --legacy-mode", loose=1),
    step("task-queue describe --task-queue {queue} --report-config --task-queue-type activity", loose=1),
    step("task-queue list-partition --task-queue {queue}"),
    step("task-queue config set --task-queue {queue} --task-queue-type activity --queue-rps-limit 100 "
         "--queue-rps-limit-reason walk --fairness-key-rps-limit-default 10 --fairness-key-rps-limit-reason walk "
         "--fairness-key-weight a=2"),
    step("task-queue config get --task-queue {queue} --task-queue-type activity"),
    step("task-queue config set --task-queue {queue} --task-queue-type activity --queue-rps-limit default "
         "--queue-rps-limit-reason walk"),
    step("task-queue get-build-ids --task-queue {queue}"),
    step("task-queue get-build-id-reachability --build-id b1 --task-queue {queue}"),
    step("task-queue update-build-ids add-new-default --build-id b1 --task-queue {queue}"),
    step("task-queue update-build-ids add-new-compatible --build-id b2 --existing-compatible-build-id b1 "
         "--task-queue {queue}"),
    step("task-queue update-build-ids promote-id-in-set --build-id b1 --task-queue {queue}"),
    step("task-queue update-build-ids promote-set --build-id b1 --task-queue {queue}"),
    step("task-queue versioning get-rules --task-queue {queue}"),
    step("task-queue versioning insert-assignment-rule --build-id b1 --task-queue {queue} -y"),
    step("task-queue versioning replace-assignment-rule --build-id b1 --rule-index 0 --task-queue {queue} -y"),
    step("task-queue versioning delete-assignment-rule --rule-index 0 --task-queue {queue} -y"),
    step("task-queue versioning add-redirect-rule --source-build-id b1 --target-build-id b2 --task-queue {queue} -y"),
    step("task-queue versioning replace-redirect-rule --source-build-id b1 --target-build-id b2 "
         "--task-queue {queue} -y"),
    step("task-queue versioning delete-redirect-rule --source-build-id b1 --task-queue {queue} -y"),
    step("task-queue versioning commit-build-id --build-id b1 --task-queue {queue} -y"),
    step("worker list", loose=1, until="workerInstanceKey", keep="worker:0.workerHeartbeat.workerInstanceKey"),
    step("worker count"),
    step("worker describe --worker-instance-key {worker}", loose=1),
    step("worker describe --worker-instance-key none", refused=1),
    # ---- worker deployments
    step("worker deployment create --name {w}-d"),
    step("worker deployment list", until="{w}-d", loose=1),
    step("worker deployment describe --name {w}-d"),
    step("worker deployment create-version --deployment-name {w}-d --build-id b1"),
    step("worker deployment describe-version --deployment-name {w}-d --build-id b1"),
    step("worker deployment manager-identity set --deployment-name {w}-d --self -y"),
    step("worker deployment manager-identity unset --deployment-name {w}-d -y"),
    step("worker deployment set-current-version --deployment-name {w}-d --build-id b1 -y --allow-no-pollers"),
    step("worker deployment set-current-version --deployment-name {w}-d --unversioned -y --allow-no-pollers"),
    step("worker deployment set-ramping-version --deployment-name {w}-d --build-id b1 --percentage 5 -y "
         "--allow-no-pollers"),
    step("worker deployment set-ramping-version --deployment-name {w}-d --build-id b1 --delete -y"),
    step("worker deployment update-version-metadata --deployment-name {w}-d --build-id b1 --metadata 'k=\"v\"'"),
    step("worker deployment update-version-compute-config --deployment-name {w}-d --build-id b1 --remove"),
    step("worker deployment delete-version --deployment-name {w}-d --build-id b1 --skip-drainage", loose=1),
    step("worker deployment delete --name {w}-d"),
    step("worker deployment describe --name {w}-none", refused=1),
    # ---- Nexus
    step("operator nexus endpoint create --name {w}-e --target-namespace default --target-task-queue {queue} "
         "--description walk", ns=0),
    step("operator nexus endpoint get --name {w}-e", ns=0),
    step("operator nexus endpoint list", ns=0, loose=1),
    step("operator nexus endpoint update --name {w}-e --target-url http://localhost:1/x --unset-description", ns=0),
    step("nexus operation start --endpoint {w}-e --service s --operation o --operation-id {w}-o"),
    step("nexus operation execute --endpoint {w}-e --service s --operation o --operation-id {w}-o"),
    step("nexus operation describe --operation-id {w}-o"),
    step("nexus operation result --operation-id {w}-o"),
    step("nexus operation cancel --operation-id {w}-o"),
    step("nexus operation terminate --operation-id {w}-o"),
    step("nexus operation list"),
    step("nexus operation count"),
    step("operator nexus endpoint delete --name {w}-e", ns=0),
    step("operator nexus endpoint get --name {w}-e", ns=0, refused=1),
    # ---- operators
    step("operator cluster describe", ns=0, loose=1),
    step("operator cluster health", ns=0),
    step("operator cluster system", ns=0),
    step("operator cluster list", ns=0),
    # The reference tries to reach it; this server has no replication and says so.
    step("operator cluster upsert --frontend-address 127.0.0.1:1", ns=0, refused=1, loose=1),
    step("operator cluster remove --name nobody", ns=0, refused=1),
    step("operator namespace create --namespace {w}-ns --retention 48h --description walk --email a@b", ns=0),
    step("operator namespace describe --namespace {w}-ns", ns=0, until="{w}-ns"),
    step("operator namespace update --namespace {w}-ns --description other", ns=0),
    step("operator namespace list", ns=0, loose=1),
    step("operator namespace delete --namespace {w}-ns -y", ns=0, loose=1),
    step("operator search-attribute create --name Walk{n} --type Keyword"),
    step("operator search-attribute list", loose=1),
    step("operator search-attribute remove --name Walk{n} -y"),
    # ---- what is left running
    step("workflow terminate --workflow-id {w}-wait --reason over"),
]

# No server behind them, or the server itself.
NOT_ASKED = {"config", "env", "options", "server", "cloud", "completion", "help"}
