# SPDX-License-Identifier: MIT
"""The limits of the reference's table, one case each: in the namespace `small` they are small; `default` has the defaults."""

import argparse
import os
import sys
import time
import uuid

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../auth"))

SMALL = {  # in the namespace `small`
    "limit.blobSize.error": 1000, "limit.memoSize.error": 500, "limit.historyCount.error": 14,
    "limit.historyCount.suggestContinueAsNew": 6, "limit.historySize.error": 5500, "limit.historySize.suggestContinueAsNew": 3000, "limit.numPendingActivities.error": 2,
    "limit.numPendingChildExecutions.error": 2, "limit.numPendingSignals.error": 2, "limit.numPendingCancelRequests.error": 2,
    "limit.mutableStateActivityFailureSize.error": 300, "limit.historyMaxPageSize": 3, "limit.userMetadataSummarySize": 40,
    "limit.userMetadataDetailsSize": 60, "frontend.visibilityMaxPageSize": 5, "frontend.maxlinksPerRequest": 2,
    "frontend.searchAttributesNumberOfKeysLimit": 2, "frontend.searchAttributesSizeOfValueLimit": 60,
    "limit.blobSize.warn": 900, "limit.memoSize.warn": 300, "limit.historyCount.warn": 8, "limit.historySize.warn": 4000,
    "limit.mutableStateActivityFailureSize.warn": 200, "history.maximumSignalsPerExecution": 3, "history.maxInFlightUpdates": 1, "history.maxTotalUpdates": 2,
}
EVERYWHERE = {"limit.mutableStateSize.warn": 100000, "system.transactionSizeLimit": 500000, "limit.mutableStateSize.error": 200000, "history.maximumBufferedEventsBatch": 4}
WFT_FAILED, TERMINATED = 9, 27


def config():
    for key, value in SMALL.items():
        print(f"{key}: [{{value: {value}, constraints: {{namespace: small}}}}]")
    for key, value in EVERYWHERE.items():
        print(f"{key}: [{{value: {value}}}]")


def payloads(size, fill=b"x"):
    return {"payloads": [{"metadata": {"encoding": b"binary/plain"}, "data": fill * size}]}


class Suite:
    def __init__(self, address, log):
        from api import Api
        self.api, self.log = Api(address, ()), log

    def ask(self, name, timeout=30, **members):
        method = self.api.method(name)
        return method.end(method.begin(method.request_class(**members), (), timeout))

    def good(self, name, **members):
        answer = self.ask(name, **members)
        assert answer[0].name == "OK", f"{name}: {answer[:2]}"
        return answer[3]

    def refused(self, code, text, name, **members):
        answer = self.ask(name, **members)
        assert answer[0].name == code and text in answer[1], f"{name}: {answer[:2]}, wants {code} {text}"

    def start(self, namespace="small", **more):
        workflow_id = "w-" + str(uuid.uuid4())
        arguments = {"namespace": namespace, "workflow_id": workflow_id, "workflow_type": {"name": "T"},
                     "task_queue": {"name": workflow_id}, "request_id": workflow_id, **more}
        return workflow_id, arguments

    def begin(self, namespace="small", **more):
        workflow_id, arguments = self.start(namespace, **more)
        self.good("StartWorkflowExecution", **arguments)
        return workflow_id

    def task(self, workflow_id, namespace="small"):
        task = self.good("PollWorkflowTaskQueue", namespace=namespace, task_queue={"name": workflow_id})
        assert task.task_token
        return task

    def respond(self, token, *commands, namespace="small"):
        return self.ask("RespondWorkflowTaskCompleted", namespace=namespace, task_token=token, commands=list(commands))

    def history(self, workflow_id, namespace="small"):
        events, page = [], b""
        while True:
            answer = self.good("GetWorkflowExecutionHistory", namespace=namespace, execution={"workflow_id": workflow_id},
                               next_page_token=page)
            events += answer.history.events
            page = answer.next_page_token
            if not page:
                return events

    def until(self, what, condition, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, what
            time.sleep(0.02)

    def both(self, text, code="INVALID_ARGUMENT", **more):
        """A start that `small` refuses and `default` takes."""
        self.refused(code, text, "StartWorkflowExecution", **self.start("small", **more)[1])
        self.good("StartWorkflowExecution", **self.start("default", **more)[1])

    def fails_task(self, cause, workflow_id, *commands):
        answer = self.respond(self.task(workflow_id).task_token, *commands)
        assert answer[0].name == "INVALID_ARGUMENT", answer[:2]
        failed = [event.workflow_task_failed_event_attributes for event in self.history(workflow_id)
                  if event.event_type == WFT_FAILED]
        assert failed and failed[-1].cause == cause, (failed, cause)

    @staticmethod
    def activity(number, size=0, **more):
        return {"command_type": 1, "schedule_activity_task_command_attributes": {
            "activity_id": str(number), "activity_type": {"name": "A"}, "task_queue": {"name": "activities"},
            "schedule_to_close_timeout": {"seconds": 600}, **({"input": payloads(size)} if size else {}), **more}}

    # ---- rows ----

    def blob(self):
        self.both("Blob data size exceeds limit.", input=payloads(2000))
        self.refused("INVALID_ARGUMENT", "Blob data size exceeds limit.", "StartWorkflowExecution",
                     **self.start("default", input=payloads((2 << 20) + 1))[1])
        workflow_id = self.begin()
        self.refused("INVALID_ARGUMENT", "Blob data size exceeds limit.", "SignalWorkflowExecution", namespace="small",
                     workflow_execution={"workflow_id": workflow_id}, signal_name="s", input=payloads(2000))

    def blob_of_a_worker(self):
        """A result that is too large fails its activity for good."""
        workflow_id = self.begin()
        command = self.activity(1)
        command["schedule_activity_task_command_attributes"]["task_queue"] = {"name": workflow_id}
        assert self.respond(self.task(workflow_id).task_token, command)[0].name == "OK"
        task = self.good("PollActivityTaskQueue", namespace="small", task_queue={"name": workflow_id})
        self.good("RespondActivityTaskCompleted", namespace="small", task_token=task.task_token, result=payloads(2000))
        failure = self.history(workflow_id)[6].activity_task_failed_event_attributes.failure
        assert failure.message == "Complete result exceeds size limit.", failure

    def memo(self):
        self.both("Memo size exceeds limit.", memo={"fields": {"m": payloads(600)["payloads"][0]}})

    def history_count(self):
        workflow_id = self.begin()
        for _ in range(2):
            task = self.task(workflow_id)
            started = task.history.events[-1].workflow_task_started_event_attributes
            assert bool(started.suggest_continue_as_new) == (task.started_event_id >= 6), started
            assert self.respond(task.task_token, self.activity(uuid.uuid4()))[0].name == "OK"
            answer = self.ask("SignalWorkflowExecution", namespace="small", workflow_execution={"workflow_id": workflow_id},
                              signal_name="s")
            assert answer[0].name == "OK", answer[:2]
        task = self.task(workflow_id)
        self.respond(task.task_token, *[{"command_type": 9, "record_marker_command_attributes": {"marker_name": "m"}}] * 5)
        self.until("it is terminated", lambda: self.history(workflow_id)[-1].event_type == TERMINATED)

    def history_size(self):
        workflow_id = self.begin()
        first = self.task(workflow_id)
        started = first.history.events[-1].workflow_task_started_event_attributes
        assert 0 < started.history_size_bytes < 3000 and not started.suggest_continue_as_new, started
        marker = {"command_type": 9, "record_marker_command_attributes": {
            "marker_name": "m", "details": {"d": payloads(900)}}}
        assert self.respond(first.task_token, *[marker] * 4)[0].name == "OK"
        self.good("SignalWorkflowExecution", namespace="small", workflow_execution={"workflow_id": workflow_id},
                  signal_name="s")
        second = self.task(workflow_id)
        started = second.history.events[-1].workflow_task_started_event_attributes
        assert started.suggest_continue_as_new, started
        answer = self.respond(second.task_token, *[marker] * 2)
        assert answer[0].name == "OK", answer[:2]
        self.until("it is terminated", lambda: self.history(workflow_id)[-1].event_type == TERMINATED)
        last = self.history(workflow_id)[-1].workflow_execution_terminated_event_attributes
        assert "history size" in last.reason, last

    def transaction_size(self):
        """Too much for one write: the run is terminated, its worker told."""
        workflow_id = self.begin("default")
        marker = {"command_type": 9, "record_marker_command_attributes": {
            "marker_name": "m", "details": {"d": payloads(150000)}}}
        self.respond(self.task(workflow_id, "default").task_token, *[marker] * 4, namespace="default")
        self.until("it is terminated", lambda: self.history(workflow_id, "default")[-1].event_type == TERMINATED)
        last = self.history(workflow_id, "default")[-1].workflow_execution_terminated_event_attributes
        assert "ransaction size" in last.reason or "TransactionSize" in last.reason, last

    def state_size(self):
        workflow_id = self.begin("default")
        task = self.task(workflow_id, "default")
        self.respond(task.task_token, self.activity(1, 150000), self.activity(2, 150000), namespace="default")
        self.until("it is terminated", lambda: self.history(workflow_id, "default")[-1].event_type == TERMINATED)

    def activity_failure(self):
        workflow_id = self.begin()
        command = self.activity(1)
        command["schedule_activity_task_command_attributes"]["task_queue"] = {"name": workflow_id}
        assert self.respond(self.task(workflow_id).task_token, command)[0].name == "OK"
        task = self.good("PollActivityTaskQueue", namespace="small", task_queue={"name": workflow_id})
        self.good("RespondActivityTaskFailed", namespace="small", task_token=task.task_token,
                  failure={"message": "m" * 700, "application_failure_info": {"type": "t"}})
        kept = self.good("DescribeWorkflowExecution", namespace="small",
                         execution={"workflow_id": workflow_id}).pending_activities[0].last_failure
        assert kept.message == "Failure exceeds size limit." and kept.ByteSize() <= 400, kept
        assert kept.cause.message.startswith("m" * 100), kept

    def pending_activities(self):
        self.fails_task(27, self.begin(), *[self.activity(i) for i in range(3)])

    def pending_children(self):
        self.fails_task(26, self.begin(), *[
            {"command_type": 11, "start_child_workflow_execution_command_attributes": {
                "workflow_id": f"child-{i}", "workflow_type": {"name": "T"}, "task_queue": {"name": "q"}}} for i in range(3)])

    def pending_signals(self):
        self.fails_task(28, self.begin(), *[
            {"command_type": 12, "signal_external_workflow_execution_command_attributes": {
                "execution": {"workflow_id": f"x-{i}"}, "signal_name": "s"}} for i in range(3)])

    def pending_cancels(self):
        self.fails_task(29, self.begin(), *[
            {"command_type": 8, "request_cancel_external_workflow_execution_command_attributes": {"workflow_id": f"x-{i}"}}
            for i in range(3)])

    def signals_of_a_run(self):
        for namespace, many in (("small", False), ("default", True)):
            workflow_id = self.begin(namespace)
            answers = [self.ask("SignalWorkflowExecution", namespace=namespace,
                                workflow_execution={"workflow_id": workflow_id}, signal_name="s") for _ in range(4)]
            assert [a[0].name for a in answers[:3]] == ["OK"] * 3, answers
            assert (answers[3][0].name == "OK") == many, answers[3][:2]
        assert "exceeded workflow execution limit for signal events" in self.last_refusal(), self.last_refusal()

    def last_refusal(self):
        workflow_id = self.begin()
        for _ in range(4):
            answer = self.ask("SignalWorkflowExecution", namespace="small", workflow_execution={"workflow_id": workflow_id},
                              signal_name="s")
        return answer[1]

    def buffered_events(self):
        workflow_id = self.begin("default")
        self.task(workflow_id, "default")
        for _ in range(6):
            self.good("SignalWorkflowExecution", namespace="default", workflow_execution={"workflow_id": workflow_id},
                      signal_name="s")
        failed = [event for event in self.history(workflow_id, "default") if event.event_type == WFT_FAILED]
        assert failed, "no failed task"
        attributes = failed[0].workflow_task_failed_event_attributes
        causes = attributes.DESCRIPTOR.fields_by_name["cause"].enum_type.values_by_number
        assert causes[attributes.cause].name.endswith("_FORCE_CLOSE_COMMAND"), attributes

    def update(self, workflow_id, number, timeout):
        method = self.api.method("UpdateWorkflowExecution")
        return method, method.begin(method.request_class(
            namespace="small", workflow_execution={"workflow_id": workflow_id}, wait_policy={"lifecycle_stage": 2},
            request={"meta": {"update_id": f"u{number}"}, "input": {"name": "u"}}), (), timeout)

    def updates_in_flight(self):
        workflow_id = self.begin()
        method, first = self.update(workflow_id, 1, 60)
        refused = []

        def met():
            second_method, second = self.update(workflow_id, len(refused) + 2, 0.5)
            refused.append(second_method.end(second))
            return refused[-1][0].name == "RESOURCE_EXHAUSTED"

        self.until("the second is too many", met)
        assert "limit" in refused[-1][1], refused[-1][:2]
        self.good("TerminateWorkflowExecution", namespace="small", workflow_execution={"workflow_id": workflow_id})
        assert method.end(first)[0].name != "OK"  # the run ended before it

    def id_length(self):
        for field, value in (("workflow_id", "i" * 1001), ("request_id", "r" * 1001), ("identity", "i" * 1001),
                             ("workflow_type", {"name": "t" * 1001}), ("task_queue", {"name": "q" * 1001})):
            answer = self.ask("StartWorkflowExecution", **{**self.start("default")[1], field: value})
            assert answer[0].name == "INVALID_ARGUMENT" and "exceeds" in answer[1], f"{field}: {answer[:2]}"
        self.good("StartWorkflowExecution", **{**self.start("default")[1], "workflow_id": "i" * 968 + str(uuid.uuid4())[:32]})

    def build_id(self):
        self.refused("INVALID_ARGUMENT", "limit.workerBuildIdSize", "PollWorkflowTaskQueue", namespace="default",
                     task_queue={"name": "q"}, worker_version_capabilities={"build_id": "b" * 256})

    def search_attributes(self):
        def attributes(count, size):
            return {"indexed_fields": {f"K{i}": {"metadata": {"encoding": b"json/plain"}, "data": b'"' + b"v" * size + b'"'}
                                       for i in range(1, count + 1)}}

        self.both("number of search attributes 3 exceeds limit 2", search_attributes=attributes(3, 1))
        self.both("exceeds size limit", search_attributes=attributes(1, 80))

    def links(self):
        link = {"workflow_event": {"namespace": "small", "workflow_id": "w", "run_id": str(uuid.uuid4())}}
        self.refused("INVALID_ARGUMENT", "cannot attach more than 2 links per request", "StartWorkflowExecution",
                     **self.start("small", links=[link] * 3)[1])
        self.good("StartWorkflowExecution", **self.start("default", links=[link] * 3)[1])
        self.refused("INVALID_ARGUMENT", "cannot attach more than 10 links per request", "StartWorkflowExecution",
                     **self.start("default", links=[link] * 11)[1])
        link["workflow_event"]["workflow_id"] = "w" * 4001
        self.refused("INVALID_ARGUMENT", "link exceeds allowed size of 4000", "StartWorkflowExecution",
                     **self.start("default", links=[link])[1])

    def user_metadata(self):
        self.both("user metadata summary exceeds limit of 40 bytes", user_metadata={"summary": payloads(50)["payloads"][0]})
        self.both("user metadata details exceeds limit of 60 bytes", user_metadata={"details": payloads(70)["payloads"][0]})

    def history_page(self):
        workflow_id = self.begin()
        self.respond(self.task(workflow_id).task_token, self.activity(1))
        answer = self.good("GetWorkflowExecutionHistory", namespace="small", execution={"workflow_id": workflow_id},
                           maximum_page_size=100)
        assert 0 < len(answer.history.events) <= 3 and answer.next_page_token, len(answer.history.events)
        assert len(self.history(workflow_id)) == 5

    def visibility_page(self):
        self.refused("INVALID_ARGUMENT", "PageSize is larger than allowed 5", "ListWorkflowExecutions", namespace="small",
                     page_size=6)
        self.good("ListWorkflowExecutions", namespace="default", page_size=1000)
        self.refused("INVALID_ARGUMENT", "PageSize is larger than allowed 1000", "ListWorkflowExecutions",
                     namespace="default", page_size=1001)

    def message_size(self):
        self.refused("RESOURCE_EXHAUSTED", "larger than max", "StartWorkflowExecution",
                     **self.start("default", input=payloads(5 << 20))[1])

    def warnings(self):
        """Each limit for warnings has been passed by the others here, or is now, and is told of in the log."""
        for size in (250, 400):
            self.good("StartWorkflowExecution", **self.start(memo={"fields": {"m": payloads(size)["payloads"][0]}})[1])
        workflow_id = self.begin("default")
        self.respond(self.task(workflow_id, "default").task_token, self.activity(1, 150000), namespace="default")
        wanted = {key for key in (*SMALL, *EVERYWHERE) if key.endswith(".warn")}

        def told():
            with open(self.log) as log:
                lines = [line for line in log if "more than the limit for warnings" in line]
            return {key for key in wanted if any(f"limit={key} " in line for line in lines)} == wanted

        self.until("a line of each limit for warnings", told)

    def run(self):
        passed = failed = 0
        for case in (self.blob, self.blob_of_a_worker, self.memo, self.history_count, self.history_size, self.transaction_size, self.state_size,
                     self.activity_failure,
                     self.pending_activities, self.pending_children, self.pending_signals, self.pending_cancels,
                     self.signals_of_a_run, self.buffered_events, self.updates_in_flight, self.id_length, self.build_id,
                     self.search_attributes, self.links, self.user_metadata, self.history_page, self.visibility_page,
                     self.message_size, self.warnings):
            began = time.monotonic()
            try:
                case()
                print(f"ok {case.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
                passed += 1
            except Exception as error:  # noqa: BLE001
                print(f"not ok {case.__name__}: {type(error).__name__}: {error}", flush=True)
                failed += 1
        print(f"limits: {passed} passed, {failed} failed")
        return failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address")
    parser.add_argument("--log", help="of the server")
    parser.add_argument("--write-config", action="store_true")
    arguments = parser.parse_args()
    if arguments.write_config:
        config()
    else:
        sys.exit(1 if Suite(arguments.address, arguments.log).run() else 0)


if __name__ == "__main__":
    main()
