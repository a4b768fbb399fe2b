# SPDX-License-Identifier: MIT
"""Rates at the doors of history and matching, and of the store: by namespace, so that one that is at its limit leaves the
others alone.  Nothing here depends on how fast the machine is: a rate is met by asking until it refuses, and what passed
may be no more than the burst and what the measured time brings."""

import argparse
import os
import re
import sys
import time
import urllib.request
import uuid

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../auth"))
RATE = 2
NAMESPACES = {  # each has one small rate
    "by-calls": "history.namespaceRPS", "by-polls": "matching.namespaceRPS", "by-writes": "history.persistenceNamespaceMaxQPS",
    "by-shares": "history.persistenceGlobalNamespaceMaxQPS", "by-shard": "history.persistencePerShardNamespaceMaxQPS",
    "by-changes": "frontend.persistenceNamespaceMaxQPS",
}
RPS, STORE = "RpsLimit", "PersistenceLimit"


def config():
    for namespace, key in NAMESPACES.items():
        print(f"{key}: [{{value: {RATE}, constraints: {{namespace: {namespace}}}}}]")
    print("frontend.namespaceRPS.namespaceReplicationInducingAPIs: [{value: 1000000}]")
    print("frontend.rps.namespaceReplicationInducingAPIs: [{value: 1000000}]")
    print("frontend.globalNamespaceRPS.namespaceReplicationInducingAPIs: [{value: 0}]")
    print("history.persistenceMaxQPS: [{value: 1000000}]")  # and none of it when the store takes longer than no time at all
    print("history.persistenceDynamicRateLimitingParams: [{value: {Enabled: true, RefreshInterval: 100ms, "
          "LatencyThreshold: 0.0000001, RateMultiMin: 0.5}}]")
    print("worker.persistenceMaxQPS: [{value: 500}]")


class Suite:
    def __init__(self, address, metrics, log):
        from api import Api
        self.api, self.metrics, self.log = Api(address, ()), metrics, log

    def begin(self, name, caller=None, **members):
        method = self.api.method(name)
        return method.begin(method.request_class(**members), (("caller-type", caller),) if caller else (), 30)

    def ask(self, name, caller=None, **members):
        return self.end(self.begin(name, caller, **members))

    @staticmethod
    def end(call):
        """(code, text, headers)"""
        import grpc
        try:
            call.result()
            return "OK", "", {}
        except grpc.RpcError as error:
            headers = dict([*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())])
            return error.code().name, error.details(), headers

    def answer(self, name, **members):
        """The answer of a call that is asked again while it is too much."""
        method, end = self.api.method(name), time.monotonic() + 60
        while True:
            code, text, _, response = method.end(method.begin(method.request_class(**members), (), 60))
            if code.name == "OK":
                return response
            assert code.name == "RESOURCE_EXHAUSTED" and time.monotonic() < end, f"{name}: {code} {text}"
            time.sleep(0.1)

    def start(self, namespace):
        workflow_id = "w-" + str(uuid.uuid4())
        self.answer("StartWorkflowExecution", namespace=namespace, workflow_id=workflow_id, workflow_type={"name": "T"},
                    task_queue={"name": workflow_id}, request_id=workflow_id)
        return workflow_id

    def figure(self, name, role):
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = re.search(rf'^{name}\{{role="{role}"\}} (\S+)$', text, re.M)
        return float(found[1]) if found else 0

    def met(self, cause, text, call, burst, caller=None, share=1.0, scope="Namespace", fine="OK"):
        """Asked for many at once, the rate refuses; what went through is no more than it allows."""
        began, passed, refused = time.monotonic(), 0, []
        while not refused:
            answers = [self.end(each) for each in [call(caller) for _ in range(40)]]
            passed += sum(answer[0] == fine for answer in answers)
            refused = [answer for answer in answers if answer[0] != fine]
            assert passed <= burst + 1 + RATE * share * (time.monotonic() - began), f"{passed} passed"
        for code, said, headers in refused:
            assert code == "RESOURCE_EXHAUSTED" and said == text, (code, said)
            told = headers.get("x-resource-exhausted-cause"), headers.get("x-resource-exhausted-scope")
            assert told == (cause, scope), told

    def describe(self, namespace, workflow_id):
        return lambda caller=None: self.begin("DescribeWorkflowExecution", caller, namespace=namespace,
                                       execution={"workflow_id": workflow_id})

    def signal(self, namespace, workflow_id):
        return lambda caller=None: self.begin("SignalWorkflowExecution", caller, namespace=namespace, signal_name="s",
                                       workflow_execution={"workflow_id": workflow_id})

    # ---- rows ----

    def calls(self):
        workflow_id, other = self.start("by-calls"), self.describe("default", self.start("default"))
        refused = self.figure("tenon_door_refused", "history")
        self.met(RPS, "namespace rate limit exceeded", self.describe("by-calls", workflow_id), 2 * RATE)
        for _ in range(10 * RATE):
            assert self.end(other())[0] == "OK"
        assert self.figure("tenon_door_refused", "history") > refused

    def operators(self):
        """They have a share of their own, which others do not use up; it is a fifth."""
        workflow_id = self.start("by-calls")
        describe = self.describe("by-calls", workflow_id)
        for caller in ("api", "background_low", "of no known kind"):
            self.met(RPS, "namespace rate limit exceeded", describe, 2 * RATE, caller)
        self.met(RPS, "namespace rate limit exceeded", describe, 1, "operator", 0.2)
        # They are refused alone when no other has called for a while; whoever is more urgent leaves less to the others.
        end = time.monotonic() + 60
        while self.end(describe("operator"))[0] != "OK":
            assert time.monotonic() < end, "an operator's call does not pass"
            time.sleep(0.1)

    def descriptions(self):
        self.met(RPS, "namespace rate limit exceeded",
                 lambda caller: self.begin("DescribeTaskQueue", caller, namespace="by-polls", task_queue={"name": "q"},
                                         task_queue_type=1), 2 * RATE)

    def polls(self):
        """A poll that is too much is refused; one that is not gets its task, which none of this has lost."""
        workflow_id = self.start("by-polls")
        self.met(RPS, "namespace rate limit exceeded",
                 lambda caller: self.begin("DescribeTaskQueue", caller, namespace="by-polls", task_queue={"name": workflow_id},
                                         task_queue_type=1), 2 * RATE)
        task = self.answer("PollWorkflowTaskQueue", namespace="by-polls", task_queue={"name": workflow_id})
        assert task.workflow_execution.workflow_id == workflow_id, task

    def writes(self, namespace="by-writes", text="Namespace Persistence Max QPS Reached."):
        workflow_id = self.start(namespace)
        self.met(STORE, text, self.signal(namespace, workflow_id), RATE)
        # What it wrote before is there, and what was refused was not begun.
        wanted = self.answer("DescribeWorkflowExecution", namespace=namespace, execution={"workflow_id": workflow_id})
        events = self.answer("GetWorkflowExecutionHistory", namespace=namespace, execution={"workflow_id": workflow_id}).history.events
        assert [event.event_id for event in events] == list(range(1, len(events) + 1))
        assert len(events) >= wanted.workflow_execution_info.history_length, (len(events), wanted)

    def shares(self):
        """Of a number for the whole cluster a lone host has all."""
        self.writes("by-shares")

    def shard(self):
        self.writes("by-shard", "Namespace Per-Shard Persistence Max QPS Reached.")

    def changes(self):
        self.met(STORE, "Namespace Persistence Max QPS Reached.",
                 lambda caller: self.begin("RegisterNamespace", caller, namespace="by-changes",
                                           workflow_execution_retention_period={"seconds": 86400}), RATE, fine="ALREADY_EXISTS")
        answer = self.ask("UpdateNamespace", namespace="default", update_info={"description": "d"})
        assert answer[0] == "OK", answer

    def children(self):
        """What a workflow does is not refused: its children and signals wait, come, and come once."""
        namespace, count = "by-calls", 6
        workflow_id, delayed = self.start(namespace), self.figure("tenon_door_delayed", "history")
        ids = [f"{workflow_id}-{i}" for i in range(count)]
        task = self.answer("PollWorkflowTaskQueue", namespace=namespace, task_queue={"name": workflow_id})
        self.answer("RespondWorkflowTaskCompleted", namespace=namespace, task_token=task.task_token, commands=[
            {"command_type": 11, "start_child_workflow_execution_command_attributes": {
                "workflow_id": each, "workflow_type": {"name": "T"}, "task_queue": {"name": each}}} for each in ids])
        started, end = set(), time.monotonic() + 120
        while len(started) < count:
            assert time.monotonic() < end, started
            events = self.answer("GetWorkflowExecutionHistory", namespace=namespace,
                                 execution={"workflow_id": workflow_id}).history.events
            told = [event.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id
                    for event in events if event.HasField("child_workflow_execution_started_event_attributes")]
            assert len(told) == len(set(told)) and set(told) <= set(ids), told
            assert not any(event.HasField("start_child_workflow_execution_failed_event_attributes") for event in events)
            started = set(told)
        assert self.figure("tenon_door_delayed", "history") > delayed

    def strain(self):
        """A store that is slower than it may be is asked less."""
        workflow_id, end = self.start("default"), time.monotonic() + 60
        while self.figure("tenon_door_store_multiplier", "history") != 0.5:
            assert time.monotonic() < end, self.figure("tenon_door_store_multiplier", "history")
            assert self.end(self.signal("default", workflow_id)())[0] == "OK"
        assert self.figure("tenon_door_store_multiplier", "matching") == 1

    def warned(self):
        """A key that can have no effect here says so, and why."""
        with open(self.log) as log:
            lines = [line for line in log if "worker.persistenceMaxQPS" in line]
        assert lines and "workers ask history" in lines[0] and "no effect" in lines[0], lines

    def run(self):
        passed = failed = 0
        for case in (self.calls, self.operators, self.descriptions, self.polls, self.writes, self.shares, self.shard,
                     self.changes, self.children, self.strain, self.warned):
            began = time.monotonic()
            try:
                case()
                print(f"ok {case.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
                passed += 1
            except Exception as error:  # noqa: BLE001
                print(f"not ok {case.__name__}: {type(error).__name__}: {error}", flush=True)
                failed += 1
        print(f"rates: {passed} passed, {failed} failed")
        return failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address")
    parser.add_argument("--metrics", help="host:port")
    parser.add_argument("--log", help="of the server")
    parser.add_argument("--write-config", action="store_true")
    parser.add_argument("--namespaces", action="store_true", help="print what namespaces the server must have")
    arguments = parser.parse_args()
    if arguments.write_config:
        config()
    elif arguments.namespaces:
        print(" ".join(NAMESPACES))
    else:
        sys.exit(1 if Suite(arguments.address, arguments.metrics, arguments.log).run() else 0)


if __name__ == "__main__":
    main()
