# SPDX-License-Identifier: MIT
"""Enforcement: every method of the descriptors by every kind of caller (a golden table), a foreign namespace in every
field that can hold one, tokens and ids of another namespace, the list of namespaces, and the audit of it all."""

import argparse
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time

import grpc
from api import UNAUTHORIZED, Api, is_denied, paths_to, put
from keys import Key
from over_http import OverHttp

CONFIG = """\
log: {{level: warn}}
services:
  frontend: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: {ports[0]}, httpPort: {ports[9]}, membershipPort: {ports[5]}}}}}
  history: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: {ports[2]}, membershipPort: {ports[6]}}}}}
  matching: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: {ports[3]}, membershipPort: {ports[7]}}}}}
  worker: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: {ports[4]}, membershipPort: {ports[8]}}}}}
global: {{membership: {{enabled: true}}}}
threads: 2
plugins: {{dirs: [{plugins}]}}
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: 1
  datastores:
    main: {{plugin: sqlite, path: {folder}/main.db}}
    search: {{plugin: sqlite, path: {folder}/search.db}}
metrics: {{prometheus: {{listenAddress: "127.0.0.1:{ports[1]}"}}}}
authorization:
  audience: {audience}
  claimMapper: {{plugin: jwt, keySourceURIs: ["file://{folder}/keys.json"], issuer: [https://issuer.test], audience: [tenon]}}
  authorizer: {{plugin: default, listNamespaces: {listing}}}
  audit: {audit}
dynamicConfigClient: {{filepath: {folder}/dynamic.yaml, pollInterval: 5s}}
namespaces: {{create: [a, b, c, d], retention: 72h}}
"""

CALLERS = {  # in the order of the table's columns
    "none": None, "bad": None, "worker": ["a:worker", "c:worker"], "reader": ["a:read", "c:read"],
    "writer": ["a:write", "c:write"], "admin": ["a:admin", "c:admin"], "other": ["b:admin", "d:admin"],
    "sys-worker": ["temporal-system:worker"], "sys-reader": ["temporal-system:read"],
    "sys-writer": ["temporal-system:write"], "sys-admin": ["temporal-system:admin"],
}
TARGETS = ("a", "b", "no-such-namespace", "temporal-system")  # own, other, missing, system
# What changes namespaces does so with two that nothing else is done in, one call after the other.
CHANGING = ("RegisterNamespace", "UpdateNamespace", "DeprecateNamespace", "DeleteNamespace")
CHANGED = {"a": "c", "b": "d"}
# Told and stored, never acted upon: where a child had run. It goes through workers that need not know the namespace.
TOLD = {"temporal.api.failure.v1.ChildWorkflowExecutionFailureInfo.namespace"}
AT_ONCE = 200
HEAD = """\
# Who may call what: own, other, missing and system namespace; y the authorizer lets pass, - "Request unauthorized.".
# Callers: {callers}.
# Made by: tests/auth/run --regenerate
"""


def names_namespace(field, path):
    if field.type != field.TYPE_STRING or (len(path) == 1 and field.name == "namespace"):
        return False
    return bool(re.search(r"namespace(_id)?$", field.name)) or field.full_name.endswith("DescribeNamespaceRequest.id")


class Suite(OverHttp):
    def __init__(self, arguments):
        self.arguments, self.folder = arguments, arguments.folder
        self.ports = arguments.ports.split(",")  # frontend, metrics, history, matching, worker, four of membership, HTTP
        self.key = Key(self.folder, "one")
        with open(os.path.join(self.folder, "keys.json"), "w") as out:
            json.dump({"keys": [self.key.jwk]}, out)
        self.audit_path = os.path.join(self.folder, "audit.log")
        self.log_path = os.path.join(self.folder, "tenond.log")
        self.process, self.api, self.table = None, None, {}
        self.callers = {name: self.metadata(*grants) if grants else () for name, grants in CALLERS.items()}
        self.callers["bad"] = (("authorization", "Bearer " + self.key.token("temporal-system:admin")[:-6]),)
        self.verdicts = self.freely = 0

    def metadata(self, *grants):
        return (("authorization", "Bearer " + self.key.token(*grants)),)

    # ---- the server ----

    def configure(self, listing="system", audit=None, audience="tenon"):
        path = os.path.join(self.folder, "tenon.yaml")
        audit = audit or f"{{sink: file, path: {self.audit_path}, events: all, maxQueueBytes: 64MiB}}"
        with open(path + ".new", "w") as out:
            out.write(CONFIG.format(ports=self.ports, listing=listing, audit=audit, audience=audience, plugins=self.arguments.plugins, folder=self.folder))
        os.rename(path + ".new", path)
        return path

    def cross_namespaces(self, may):
        path = os.path.join(self.folder, "dynamic.yaml")
        with open(path + ".new", "w") as out:
            out.write(f"system.enableCrossNamespaceCommands: [{{value: {str(may).lower()}}}]\n"
                      "frontend.namespaceRPS.visibility: [{value: 100000}]\n")  # the table's lists come all at once
        os.rename(path + ".new", path)

    def start(self):
        self.cross_namespaces(False)
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen([self.arguments.tenond, "--config", self.configure()], stdout=log, stderr=log)
        end = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", int(self.ports[0]))) != 0:
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(open(self.log_path).read())
            time.sleep(0.02)
        address = f"127.0.0.1:{self.ports[0]}"
        reader = self.callers["sys-reader"]
        self.api = Api(address, reader)
        self.ids = {ns: self.described(ns, reader) for ns in ("a", "b", "c", "d")}

    def described(self, ns, metadata):
        """Its id, once the server serves; the port may be open before."""
        end = time.monotonic() + 60
        while True:
            code, text, _, answer = self.ask("DescribeNamespace", metadata, namespace=ns)
            if code == grpc.StatusCode.OK:
                return answer.namespace_info.id
            if self.process.poll() is not None:
                raise RuntimeError(open(self.log_path).read())
            assert code == grpc.StatusCode.UNAVAILABLE and time.monotonic() < end, f"{ns}: {code} {text}"
            time.sleep(0.02)

    def until(self, what, condition, seconds=30):
        end = time.monotonic() + seconds
        while True:
            found = condition()
            if found:
                return found
            assert time.monotonic() < end, what
            time.sleep(0.02)

    # ---- calls ----

    def ask(self, name, metadata, timeout=30, **members):
        method = self.api.method(name)
        return method.end(method.begin(method.request_class(**members), metadata, timeout))

    def good(self, name, metadata, **members):
        answer = self.ask(name, metadata, **members)
        assert answer[0] == grpc.StatusCode.OK, f"{name}: {answer[:2]}"
        return answer[3]

    def ask_many(self, calls, at_once=AT_ONCE):
        """calls: (method, request, metadata). Answers in their order."""
        answers = []
        for first in range(0, len(calls), at_once):
            begun = [(m, m.begin(request, metadata)) for m, request, metadata in calls[first:first + at_once]]
            answers += [m.end(each) for m, each in begun]
        return answers

    # ---- the table ----

    def rows(self):
        table = {}
        for changing in (False, True):
            calls, at = [], []
            for method in self.api.methods.values():
                if (method.name in CHANGING) != changing:
                    continue
                for caller, metadata in self.callers.items():
                    for target in TARGETS:
                        request = method.request_class()
                        if "namespace" in method.input.fields_by_name:
                            request.namespace = CHANGED.get(target, target) if changing else target
                        calls.append((method, request, metadata))
                        at.append((method.path, caller))
            for (path, caller), answer in zip(at, self.ask_many(calls, 1 if changing else AT_ONCE)):
                table.setdefault(path, {}).setdefault(caller, []).append(answer)
            self.verdicts += len(calls)
        self.freely = 2 * len(self.callers) * len(TARGETS)  # nobody is asked about Check and GetSystemInfo
        return table

    def every_method_by_every_caller(self):
        table = self.rows()
        width = max(len(path) for path in table)
        lines = [HEAD.format(callers=", ".join(self.callers)).rstrip()]
        unserved = 0
        for path in sorted(table):
            cells = []
            for caller, answers in table[path].items():
                denied = [is_denied(answer) for answer in answers]
                cells.append("".join("-" if no else "y" for no in denied))
                # Denied is denied: nothing tells whether the namespace exists, or the method is served.
                assert len({answer[:3] for answer, no in zip(answers, denied) if no}) <= 1, f"{path} {caller}: {answers}"
            unserved += table[path]["sys-admin"][0][0] == grpc.StatusCode.UNIMPLEMENTED
            self.table[path] = dict(zip(table[path], cells))
            lines.append(f"{path:{width}} {' '.join(cells)}")
        text = "\n".join(lines) + "\n"
        print(f"# {len(table)} methods, {len(self.callers)} callers, {len(TARGETS)} namespaces; {unserved} methods not served")
        if self.arguments.regenerate:
            with open(self.arguments.golden, "w") as out:
                out.write(text)
        with open(self.arguments.golden) as golden:
            wanted = golden.read()
        differing = sorted(set(text.splitlines()) ^ set(wanted.splitlines()))
        assert text == wanted, "not as in the table (tests/auth/run --regenerate makes it anew):\n" + "\n".join(differing)

    # ---- foreign namespaces in fields ----

    def a_foreign_namespace_in_every_field(self):
        admin, cases, alone = self.callers["admin"], [], []
        for method in self.api.methods.values():
            own_field = "namespace" in method.input.fields_by_name
            for path in paths_to(method.input, names_namespace):
                by_id = not path[-1].name.endswith("namespace")
                for value in ("a", "b", "no-such-namespace"):
                    request = method.request_class()
                    if own_field:
                        request.namespace = "a"
                    put(request, path, self.ids.get(value, value) if by_id else value)
                    cases.append((value, path, (method, request, admin)))
                    if by_id and len(path) == 1 and value != "a":  # the id alone
                        request = method.request_class()
                        put(request, path, self.ids.get(value, value))
                        alone.append((method, request, admin))
        answers = self.ask_many([call for _, _, call in cases])
        self.verdicts += len(cases)
        fields, wrong, told = set(), [], set()
        for (value, path, (method, _, _)), answer in zip(cases, answers):
            where = method.path + ": " + ".".join(field.name for field in path)
            no, may = is_denied(answer), self.table[method.path]["admin"][0] == "y"
            fields.add(where)
            if path[-1].full_name in TOLD:
                told.add(where)
                wanted = not may
            else:
                # The last is an id of nothing beside a name: who may act on the name hears that there is no such.
                wanted = not may or value != "a"
                if value == "no-such-namespace" and len(path) == 1 and "namespace" in method.input.fields_by_name:
                    continue
            if no != wanted:
                wrong.append(f"{where} = {value}: {answer[:2]}")
        assert not wrong, "\n".join(wrong)
        assert len(alone) >= 4, alone
        for (method, _, _), answer in zip(alone, self.ask_many(alone)):
            assert is_denied(answer), f"{method.name}: {answer[:2]}"
        for ns, name in self.ids.items():  # an id is no name
            for caller in ("admin", "other"):
                assert is_denied(self.ask("DescribeNamespace", self.callers[caller], namespace=name)), ns
        assert len(fields) > 100, len(fields)
        print(f"# {len(fields)} fields that hold a namespace, {len(fields) - len(told)} refused where it is foreign, "
              f"{len(told)} only told (a failure's child)")

    # ---- tokens and ids ----

    def begin_work(self, namespace, metadata, workflow_id):
        run = self.good("StartWorkflowExecution", metadata, namespace=namespace, workflow_id=workflow_id,
                        workflow_type={"name": "T"}, task_queue={"name": workflow_id}, request_id=workflow_id).run_id
        task = self.good("PollWorkflowTaskQueue", metadata, namespace=namespace, task_queue={"name": workflow_id})
        assert task.workflow_execution.run_id == run
        return run, task.task_token

    def tokens_of(self, namespace, metadata):
        """Of a workflow task, an activity task and a query; the first two are still good."""
        run, first = self.begin_work(namespace, metadata, "w")
        schedule = {"command_type": "COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK", "schedule_activity_task_command_attributes": {
            "activity_id": "1", "activity_type": {"name": "A"}, "task_queue": {"name": "q"},
            "schedule_to_close_timeout": {"seconds": 600}}}
        self.good("RespondWorkflowTaskCompleted", metadata, namespace=namespace, task_token=first, commands=[schedule])
        activity = self.good("PollActivityTaskQueue", metadata, namespace=namespace, task_queue={"name": "q"}).task_token
        query = self.api.method("QueryWorkflow")
        asked = query.begin(query.request_class(namespace=namespace, execution={"workflow_id": "w"},
                                                query={"query_type": "x"}), metadata, 60)
        question = self.good("PollWorkflowTaskQueue", metadata, namespace=namespace, task_queue={"name": "w"})
        _, task = self.begin_work(namespace, metadata, "w-2")
        return run, {"workflow": task, "activity": activity, "query": question.task_token}, (query, asked)

    def tokens_of_another_namespace(self):
        admin, other = self.callers["admin"], self.callers["other"]
        self.run_b, self.tokens, (query, asked) = self.tokens_of("b", other)
        self.run_a, _ = self.begin_work("a", admin, "w")
        calls = []
        for method in self.api.methods.values():
            if "task_token" not in method.input.fields_by_name:
                continue
            for token in self.tokens.values():
                for namespace in ("a", "b", ""):
                    calls.append((method, method.request_class(namespace=namespace, task_token=token), admin))
        for (method, request, _), answer in zip(calls, self.ask_many(calls)):
            refused = is_denied(answer) if request.namespace != "a" else answer[0] in (
                grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)
            assert refused, f"{method.name} in \"{request.namespace}\": {answer[:2]}"
        assert len(calls) >= 9 * 9, len(calls)
        # No byte of a token may be another one.
        seeded, bent = random.Random(6), []
        complete = self.api.method("RespondActivityTaskCompleted")
        for _ in range(1500):
            token = bytearray(self.tokens["activity"])
            token[seeded.randrange(len(token))] ^= 1 << seeded.randrange(8)
            bent.append((complete, complete.request_class(namespace="b", task_token=bytes(token)), other))
        for answer in self.ask_many(bent):
            assert answer[0] == grpc.StatusCode.INVALID_ARGUMENT, answer[:2]
        # All that was refused left them as they were, and a worker may leave its namespace out.
        self.good("RespondQueryTaskCompleted", other, task_token=self.tokens["query"], completed_type=1)
        assert query.end(asked)[0] == grpc.StatusCode.OK
        self.good("RespondActivityTaskCompleted", other, task_token=self.tokens["activity"])
        self.good("RespondWorkflowTaskCompleted", other, namespace="b", task_token=self.tokens["workflow"])

    def pages_of_another_namespace(self):
        admin, other = self.callers["admin"], self.callers["other"]
        for name in ("GetWorkflowExecutionHistory", "GetWorkflowExecutionHistoryReverse"):
            run = {"workflow_id": "w", "run_id": self.run_b}
            page = self.good(name, other, namespace="b", execution=run, maximum_page_size=1).next_page_token
            assert page
            for run_id in (self.run_b, self.run_a, ""):
                answer = self.ask(name, admin, namespace="a", execution={"workflow_id": "w", "run_id": run_id},
                                  next_page_token=page)
                assert answer[0] == grpc.StatusCode.INVALID_ARGUMENT, f"{name}: {answer[:2]}"
            self.good(name, other, namespace="b", execution=run, next_page_token=page)
        for name in ("ListWorkflowExecutions", "ScanWorkflowExecutions", "ListOpenWorkflowExecutions"):
            size = {"maximum_page_size" if "Open" in name else "page_size": 1}
            page = self.until("both are listed",
                              lambda: self.good(name, other, namespace="b", **size).next_page_token)
            answer = self.ask(name, admin, namespace="a", next_page_token=page, **size)
            assert answer[0] == grpc.StatusCode.INVALID_ARGUMENT, f"{name}: {answer[:2]}"

    def run_ids_of_another_namespace(self):
        """Whatever takes a run: in our namespace there is no such."""
        admin, calls = self.callers["admin"], []
        for method in self.api.methods.values():
            names = method.input.fields_by_name
            if "namespace" not in names or "Multi" in method.name or method.name.startswith("List"):
                continue  # a filter by a run that is not there is none the less a list
            if self.table[method.path]["admin"][0] != "y":
                continue
            for path in paths_to(method.input, lambda f, p: f.name == "run_id" and len(p) <= 3):
                holder = path[-1].containing_type
                if "workflow_id" not in holder.fields_by_name or "Link" in holder.full_name:
                    continue
                request = method.request_class(namespace="a")
                for field, value in (("request_id", "r"), ("signal_name", "s"), ("reason", "r"), ("activity_id", "1"),
                                     ("workflow_task_finish_event_id", 4)):
                    if field in names:
                        setattr(request, field, value)
                if "workflow_type" in names:
                    request.workflow_type.name = "T"
                if "query" in names and method.name == "QueryWorkflow":
                    request.query.query_type = "x"
                put(request, path, self.run_b)
                put(request, path[:-1] + (holder.fields_by_name["workflow_id"],), "w")
                calls.append((method, request, admin))
        for (method, _, _), answer in zip(calls, self.ask_many(calls)):
            assert answer[0] in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT,
                                 grpc.StatusCode.UNIMPLEMENTED), f"{method.name}: {answer[:2]}"
        assert len(calls) > 15, len(calls)
        # Neither these nor all the denied ones of before have left a trace.
        other = self.callers["other"]
        events = self.good("GetWorkflowExecutionHistory", other, namespace="b",
                           execution={"workflow_id": "w", "run_id": self.run_b}).history.events
        kinds = [event.event_type for event in events]
        assert not set(kinds) & {9, 20, 26, 27, 41}, kinds  # no failed task, cancel request, signal, termination, update
        listed = self.good("ListWorkflowExecutions", other, namespace="b").executions
        assert {each.execution.workflow_id for each in listed} <= {"w", "w-2"}, listed

    def commands_on_another_namespace(self):
        admin, both = self.callers["admin"], self.metadata("a:write", "b:write")
        commands = [
            {"command_type": "COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION", "start_child_workflow_execution_command_attributes": {
                "namespace": "b", "workflow_id": "kid", "workflow_type": {"name": "T"}, "task_queue": {"name": "kid"}}},
            {"command_type": "COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION",
             "signal_external_workflow_execution_command_attributes": {
                 "namespace": "b", "execution": {"workflow_id": "w-2"}, "signal_name": "s"}},
            {"command_type": "COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION",
             "request_cancel_external_workflow_execution_command_attributes": {"namespace": "b", "workflow_id": "w-2"}}]
        _, token = self.begin_work("a", admin, "commander")

        def respond(metadata, these):
            return self.ask("RespondWorkflowTaskCompleted", metadata, namespace="a", task_token=token, commands=these)

        def refused():
            for command in commands:
                answer = respond(admin, [command])
                assert is_denied(answer), f"{command}: {answer[:2]}"

        refused()
        # The task is as it was; who may act there as well fails it, as long as such commands are switched off.
        answer = respond(both, commands)
        assert answer[0] != grpc.StatusCode.OK and "cross namespace" in answer[1], answer[:2]
        self.cross_namespaces(True)
        self.process.send_signal(signal.SIGHUP)

        def crossed():
            nonlocal token
            task = self.good("PollWorkflowTaskQueue", both, namespace="a", task_queue={"name": "commander"})
            token = task.task_token
            refused()
            return respond(both, commands)[0] == grpc.StatusCode.OK

        self.until("commands may cross", crossed)
        kid = self.good("PollWorkflowTaskQueue", both, namespace="b", task_queue={"name": "kid"})
        parent = kid.history.events[0].workflow_execution_started_event_attributes
        assert (parent.parent_workflow_namespace, parent.parent_workflow_execution.workflow_id) == ("a", "commander"), parent
        self.good("RespondWorkflowTaskCompleted", both, namespace="b", task_token=kid.task_token, commands=[
            {"command_type": "COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION",
             "complete_workflow_execution_command_attributes": {}}])

        def kinds(namespace, workflow_id):
            return {event.event_type for event in self.good(
                "GetWorkflowExecutionHistory", both, namespace=namespace, execution={"workflow_id": workflow_id}).history.events}

        # CHILD_WORKFLOW_EXECUTION_COMPLETED, EXTERNAL_..._SIGNALED, EXTERNAL_..._CANCEL_REQUESTED; SIGNALED, CANCEL_REQUESTED
        self.until("the commander heard of all", lambda: kinds("a", "commander") >= {32, 39, 24})
        assert kinds("b", "w-2") >= {26, 20}
        self.cross_namespaces(False)

    # ---- the ports between hosts ----

    def strangers_at_the_ports_between_hosts(self):
        """They answer whether the process lives, and nothing else; the public port has none of their methods."""
        header = os.path.join(os.path.dirname(__file__), "../../core/client/wire.h")
        with open(header) as source:
            internal = re.findall(r'#define TN_INTERNAL_\w+ "([^"]+)"', source.read())
        assert len(internal) >= 5, internal
        shown = [(), self.callers["sys-admin"], (("tenon-internode", ""),), (("tenon-internode", "0" * 32),),
                 (("tenon-internode", "x"), *self.callers["sys-admin"])]

        def ask(channel, path, metadata, stream=False, request=b""):
            call = (channel.unary_stream if stream else channel.unary_unary)(path, request_serializer=bytes,
                                                                            response_deserializer=bytes)
            try:
                answer = call(request, metadata=metadata, timeout=30)
                return grpc.StatusCode.OK if not stream else next(answer) and grpc.StatusCode.OK
            except grpc.RpcError as error:
                return error.code()

        for port in self.ports[2:5]:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                for metadata in shown:
                    assert ask(channel, "/grpc.health.v1.Health/Check", metadata) == grpc.StatusCode.OK
                    for path in internal:
                        assert ask(channel, path, metadata) == grpc.StatusCode.PERMISSION_DENIED, f"{port} {path}"
                    for path in ("/grpc.health.v1.Health/Watch", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"):
                        assert ask(channel, path, metadata, True) == grpc.StatusCode.PERMISSION_DENIED, f"{port} {path}"
                    for path in self.api.methods:
                        if path.startswith("/temporal."):
                            assert ask(channel, path, metadata) == grpc.StatusCode.UNIMPLEMENTED, f"{port} {path}"
        for path in internal:
            for metadata in shown:
                code = ask(self.api.channel, path, metadata)
                assert code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED), f"{path}: {code}"

    # ---- lists ----

    def names(self, metadata, size=10):
        found, page = [], b""
        while True:
            answer = self.ask("ListNamespaces", metadata, page_size=size, next_page_token=page)
            if answer[0] != grpc.StatusCode.OK:
                assert is_denied(answer), answer[:2]
                return None
            assert len(answer[3].namespaces) <= size
            found += [each.namespace_info.name for each in answer[3].namespaces]
            page = answer[3].next_page_token
            if not page:  # those of CHANGED may be on their way out, under other names
                return [name for name in found if name in TARGETS]

    def reload(self, **settings):
        path = self.configure(**settings)
        before = os.path.getsize(self.log_path)
        self.process.send_signal(signal.SIGHUP)
        return path, before

    def lists_show_what_one_may_read(self):
        reader = self.metadata("a:read")
        assert self.names(self.callers["sys-reader"]) == ["a", "b", "temporal-system"]
        assert self.names(reader) is None
        self.reload(listing="own")
        self.until("the reload", lambda: self.names(reader) is not None)
        for size in (1, 2, 10):
            assert self.names(reader, size) == ["a"]
            assert self.names(self.metadata("b:read", "a:write", "no-such-namespace:admin"), size) == ["a", "b"]
            assert self.names(self.metadata("b:read", "a:worker"), size) == ["b"]
            assert self.names(self.callers["sys-reader"], size) == ["a", "b", "temporal-system"]
            assert self.names(self.metadata("no-such-namespace:admin"), size) == []
        for caller in ("none", "bad", "worker", "sys-worker"):
            assert self.names(self.callers[caller]) is None, caller
        self.reload()
        self.until("the reload", lambda: self.names(reader) is None)

    def calls_are_for_somebody(self):
        """A token that the mapper's own list would let pass is refused where the calls are for another audience."""
        reader = self.callers["sys-reader"]
        self.reload(audience="another")
        self.until("the reload", lambda: is_denied(self.ask("DescribeNamespace", reader, namespace="a")))
        other = (("authorization", "Bearer " + self.key.token("temporal-system:read", aud=["another", "tenon"])),)
        self.good("DescribeNamespace", other, namespace="a")
        self.reload()
        self.until("the reload", lambda: not is_denied(self.ask("DescribeNamespace", reader, namespace="a")))

    # ---- the audit ----

    def audit_lines(self, path=None):
        with open(path or self.audit_path, "rb") as lines:
            return [json.loads(line) for line in lines.read().split(b"\n")[:-1]]  # the last may be on its way

    def every_verdict_is_in_the_audit(self):
        free = {"/grpc.health.v1.Health/Check", "/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo"}
        stands = {"StartWorkflowExecution", "SignalWorkflowExecution", "RequestCancelWorkflowExecution",
                  "DescribeWorkflowExecution"}

        def foreign(lines):
            return {line["targetMethod"].split("/")[-1] for line in lines
                    if line.get("targetNamespace") == "b" and line["verdict"] == "deny"}

        def complete():
            lines = self.audit_lines()
            return lines if len(lines) >= self.verdicts - self.freely and foreign(lines) >= stands else None

        lines = self.until("a line a verdict", complete)
        assert {line["method"] for line in lines} == set(self.api.methods) - free
        denied = [line for line in lines if line["verdict"] == "deny"]
        assert denied and len(denied) < len(lines)
        by_bad = [line for line in denied if line.get("cause") == "the claim mapper failed"]
        known = [line for line in denied if "subject" in line]
        assert by_bad and known
        for line in known:
            assert line["subject"] == "CANARY-subject" and line["rule"] and line["peer"].startswith("127.0.0.1:"), line

    def texts_of_callers_stay_texts(self):
        writer = self.callers["writer"]
        nasty = ['x"}\n{"verdict":"allow"}', "\r\n\x1b[2J\x1b]0;pwned\x07", "\u202egnp.exe", "\u2028\u2029\x85", "\\", '\\"',
                 "\x7f\x01", "\U0001f600 é", "k" * 5000]
        before = len(self.audit_lines())
        for text in nasty:
            self.ask("SignalWorkflowExecution", writer, namespace="b" + text[:200], workflow_execution={"workflow_id": text},
                     signal_name="s")
        lines = self.until("a line each", lambda: (lambda l: len(l) >= before + len(nasty) and l)(self.audit_lines()))[before:]
        assert [line["workflowId"] for line in lines] == [t if len(t) < 1024 else t[:1024] + "..." for t in nasty]
        assert all(line["verdict"] == "deny" for line in lines)
        with open(self.audit_path, "rb") as raw:
            text = raw.read()
        assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", text)
        for mark in ("\u202e", "\u2028", "\u2029", "\x85"):
            assert mark.encode() not in text

    def a_rotated_file_is_let_go(self):
        reader = self.callers["reader"]
        moved = self.audit_path + ".1"
        os.rename(self.audit_path, moved)
        self.process.send_signal(signal.SIGHUP)
        self.until("a new file", lambda: os.path.exists(self.audit_path))
        self.good("DescribeNamespace", reader, namespace="a")
        self.until("a line in it", lambda: [l for l in self.audit_lines() if l["method"].endswith("DescribeNamespace")])
        assert os.stat(self.audit_path).st_mode & 0o777 == 0o640, oct(os.stat(self.audit_path).st_mode)
        self.audit_lines(moved)
        os.rename(self.audit_path, moved)  # and without a word to the server
        self.until("a new file", lambda: self.good("DescribeNamespace", reader, namespace="a") and
                   os.path.exists(self.audit_path) and self.audit_lines())

    def lost(self):
        with socket.create_connection(("127.0.0.1", int(self.ports[1])), timeout=10) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            text = b"".join(iter(lambda: client.recv(65536), b"")).decode()
        return float(re.search(r"^tenon_audit_lines_lost(?:_total)? (\S+)$", text, re.M)[1])

    def a_reader_that_sleeps_holds_nobody_up(self):
        """A pipe that nobody empties: calls go on, what finds no room is counted and told."""
        pipe = os.path.join(self.folder, "pipe")
        os.mkfifo(pipe)
        end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self.reload(audit=f"{{sink: file, path: {pipe}, events: denied, maxQueueBytes: 64KiB}}")
        foreign, call = self.callers["other"], self.api.method("DescribeNamespace")
        flood = [(call, call.request_class(namespace="a"), foreign)] * AT_ONCE

        def more():
            assert all(is_denied(answer) for answer in self.ask_many(flood))
            return self.lost() > 100

        self.until("lines are lost", more)
        text = b""

        def told():
            nonlocal text
            try:
                text += os.read(end, 1 << 20)
            except BlockingIOError:
                pass
            self.ask("DescribeNamespace", foreign, namespace="a")
            return re.search(rb'^\{"time":"[^"]*","lost":[0-9]+\}\n', text, re.M)

        self.until("the loss is told", told)
        whole = [line for line in text.split(b"\n")[:-1] if line.startswith(b"{") and line.endswith(b"}")]
        assert len(whole) > 100 and all(json.loads(line) for line in whole)
        self.pipe_end = end

    def syslog_and_back(self):
        path = os.path.join(self.folder, "syslog")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.bind(path)
            log.settimeout(0.05)
            self.reload(audit=f"{{sink: syslog, path: {path}, facility: local3}}")

            def sent():
                self.ask("DescribeNamespace", self.callers["other"], namespace="a")
                try:
                    return log.recv(65536)
                except TimeoutError:
                    return b""

            line = self.until("a line", sent)
        head, text = re.fullmatch(rb"(<158>\w{3} [ \d]\d \d\d:\d\d:\d\d tenond\[\d+\]: )(\{.*\})", line).groups()
        assert json.loads(text)["verdict"] == "deny", text
        # A configuration that cannot be had changes nothing: the old one goes on.
        _, before = self.reload(audit="{sink: file, path: /no/such/folder/audit.log}")
        with open(self.log_path) as log:
            self.until("a complaint", lambda: log.seek(before) is not None and "/no/such/folder/audit.log" in log.read())
        os.close(self.pipe_end)
        self.reload()
        reader, size = self.callers["reader"], os.path.getsize(self.audit_path)
        self.until("lines in the file again", lambda: self.good("DescribeNamespace", reader, namespace="a") and
                   os.path.getsize(self.audit_path) > size)

    def nothing_is_told(self):
        self.process.terminate()
        assert self.process.wait(30) == 0
        texts = ""
        for path in (self.audit_path, self.audit_path + ".1", self.log_path):
            with open(path, errors="replace") as each:
                texts += each.read()
        for secret in ("eyJ", "Bearer "):
            assert secret not in texts, f"there is {secret}"
        with open(self.log_path) as log:
            assert "CANARY" not in log.read()

    def every_binding_over_http(self):
        self.every_binding_by_every_caller(TARGETS, CHANGING, CHANGED)

    def a_foreign_namespace_in_bodies_and_queries(self):
        self.a_foreign_namespace_over_http(names_namespace, TOLD, CHANGING)

    def run(self):
        passed = failed = 0
        self.start()
        for case in (self.every_method_by_every_caller, self.a_foreign_namespace_in_every_field, self.every_binding_over_http,
                     self.a_foreign_namespace_in_bodies_and_queries, self.tokens_of_another_namespace,
                     self.pages_of_another_namespace, self.run_ids_of_another_namespace, self.commands_on_another_namespace,
                     self.strangers_at_the_ports_between_hosts, self.lists_show_what_one_may_read, self.calls_are_for_somebody,
                     self.every_verdict_is_in_the_audit, self.texts_of_callers_stay_texts,
                     self.a_rotated_file_is_let_go, self.a_reader_that_sleeps_holds_nobody_up, self.syslog_and_back,
                     self.a_report_of_an_operation_is_a_call, self.an_operation_from_outside_is_a_call, self.nothing_is_told):
            began = time.monotonic()
            try:
                case()
                print(f"ok {case.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
                passed += 1
            except Exception as error:  # noqa: BLE001
                print(f"not ok {case.__name__}: {type(error).__name__}: {error}", flush=True)
                failed += 1
        if self.process.poll() is None:
            self.process.kill()
        print(f"enforce: {passed} passed, {failed} failed")
        return failed


def main():
    parser = argparse.ArgumentParser()
    for name in ("tenond", "plugins", "folder", "golden", "ports"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--regenerate", action="store_true")
    sys.exit(1 if Suite(parser.parse_args()).run() else 0)


if __name__ == "__main__":
    main()
