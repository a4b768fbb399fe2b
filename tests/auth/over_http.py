# SPDX-License-Identifier: MIT
"""The same verdicts over HTTP: each binding by each caller against the table that gRPC has given, and a foreign namespace
in every field that a body or a query can hold."""

import http.client
import json
import os
import sys

import grpc
from api import is_denied, paths_to, put

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "http"))
from api_http import HttpApi, NoForm  # noqa: E402

FREE = "GetSystemInfo"


class OverHttp:
    """Of enforce.py's Suite: api, callers, table, ids, ports, verdicts, freely."""

    def ask_http(self, calls, changing):
        """calls: (binding, request, metadata). Answers in their order; None where a query cannot say the request. Calls
        of the methods in `changing` come one after the other."""
        begun = []
        for binding, request, metadata in calls:
            try:
                begun.append((binding, binding.begin(request, metadata)))
                if binding.name in changing:
                    begun[-1][1].result()
            except NoForm:
                begun.append((None, None))
        answers = [binding and binding.end(each) for binding, each in begun]
        self.verdicts += sum(answer is not None for answer in answers)
        return answers

    def every_binding_by_every_caller(self, targets, changing, changed):
        self.http = HttpApi(self.api, ("127.0.0.1", int(self.ports[9])))
        denials, calls, at, methods = {}, [], [], set()
        for binding in self.http.bindings:
            methods.add(binding.path)
            for caller, metadata in self.callers.items():
                for index, target in enumerate(targets):
                    request = binding.request_class()
                    if "namespace" in binding.input.fields_by_name:
                        request.namespace = changed.get(target, target) if binding.name in changing else target
                    calls.append((binding, request, metadata))
                    at.append((caller, index))
        for (binding, _, _), (caller, index), answer in zip(calls, at, self.ask_http(calls, changing)):
            wanted = self.table[binding.path][caller][index] == "-"
            assert is_denied(answer) == wanted, f"{binding} {caller} {targets[index]}: {answer[:3]}"
            if wanted:
                denials.setdefault(binding.path, set()).add(answer[:3])
        assert all(len(each) == 1 for each in denials.values()), denials
        self.freely += sum(binding.name == FREE for binding, _, _ in calls)
        assert len(methods) > 90, len(methods)
        print(f"# {len(self.http.bindings)} bindings of {len(methods)} methods, {len(calls)} calls")

    def a_foreign_namespace_over_http(self, names_namespace, told, changing):
        admin, calls, at, wrong, fields = self.callers["admin"], [], [], [], set()
        for binding in self.http.bindings:
            if not binding.pattern.startswith("/api/v1"):
                continue
            for path in paths_to(binding.input, names_namespace):
                for value in ("a", "b"):
                    request = binding.request_class()
                    if "namespace" in binding.input.fields_by_name:
                        request.namespace = "a"
                    by_id = not path[-1].name.endswith("namespace")
                    put(request, path, self.ids[value] if by_id else value)
                    calls.append((binding, request, admin))
                    at.append((value, path))
        for (binding, _, _), (value, path), answer in zip(calls, at, self.ask_http(calls, changing)):
            if answer is None:
                continue
            may = self.table[binding.path]["admin"][0] == "y"
            wanted = not may or (value != "a" and path[-1].full_name not in told)
            fields.add((binding.path, path))
            if is_denied(answer) != wanted:
                wrong.append(f"{binding} {'.'.join(f.name for f in path)} = {value}: {answer[:2]}")
        assert not wrong, "\n".join(wrong)
        assert len(fields) > 60, len(fields)
        print(f"# {len(fields)} fields that hold a namespace, in bodies and queries")

    # ---- reports of Nexus operations ----

    def callback_token(self):
        """Of an operation that a workflow of namespace a waits for."""
        writer = self.callers["writer"]
        self.good("CreateNexusEndpoint", self.callers["sys-admin"],
                  spec={"name": "ep", "target": {"worker": {"namespace": "a", "task_queue": "nq"}}})
        _, task = self.begin_work("a", writer, "w-nexus")
        command = {"command_type": "COMMAND_TYPE_SCHEDULE_NEXUS_OPERATION", "schedule_nexus_operation_command_attributes": {
            "endpoint": "ep", "service": "s", "operation": "o"}}
        self.good("RespondWorkflowTaskCompleted", writer, namespace="a", task_token=task, commands=[command])
        asked = self.good("PollNexusTaskQueue", writer, timeout=60, namespace="a", task_queue={"name": "nq"})
        self.good("RespondNexusTaskCompleted", writer, namespace="a", task_token=asked.task_token,
                  response={"start_operation": {"async_success": {"operation_token": "t"}}})
        headers = {name.lower(): value for name, value in asked.request.start_operation.callback_header.items()}
        return headers["temporal-callback-token"]

    # ---- Nexus operations that are asked for from outside ----

    def dispatch(self, path, metadata):
        connection = http.client.HTTPConnection("127.0.0.1", int(self.ports[9]), timeout=60)
        connection.request("POST", path, b"", {"Request-Timeout": "1100ms", **{name.title(): value for name, value in metadata}})
        answer = connection.getresponse()
        said = json.loads(answer.read())
        connection.close()
        return answer.status, said["details"]["type"], said["message"]

    def an_operation_from_outside_is_a_call(self):
        """Whoever may write in the namespace of the queue gets as far as the workers, of whom there is none."""
        target = {"worker": {"namespace": "a", "task_queue": "no-worker"}}
        endpoint = self.good("CreateNexusEndpoint", self.callers["sys-admin"], spec={"name": "ep2", "target": target}).endpoint
        own = {"DispatchByEndpoint": f"/nexus/endpoints/{endpoint.id}/services/s/o",
               "DispatchByNamespaceAndTaskQueue": "/namespaces/a/task-queues/no-worker/nexus-services/s/o"}
        missing = "/namespaces/no-such-namespace/task-queues/q/nexus-services/s/o"
        for method, path in own.items():
            name, verdicts = "/temporal.api.nexusservice.v1.NexusService/" + method, []
            for caller in ("none", "bad", "worker", "reader", "other", "sys-reader"):
                for each in (path, path + "/cancel?token=t", missing):
                    answer = self.dispatch(each, self.callers[caller])
                    assert answer == (403, "UNAUTHORIZED", "permission denied"), f"{caller} {each}: {answer}"
                verdicts += ["deny", "deny"]
            for caller in ("writer", "sys-admin"):
                answer = self.dispatch(path, self.callers[caller])
                assert answer[:2] == (520, "UPSTREAM_TIMEOUT"), f"{caller}: {answer}"
                verdicts.append("allow")
            lines = self.until("its lines in the audit", lambda: (lambda l: len(l) >= len(verdicts) and l)(
                [line for line in self.audit_lines() if line["method"] == name and line.get("namespace") == "a"]))
            assert sorted(line["verdict"] for line in lines) == sorted(verdicts), lines
        assert self.dispatch(missing, self.callers["sys-admin"])[:2] == (404, "NOT_FOUND")

    def report(self, path, token, metadata):
        """(status, type and message of the failure)"""
        headers = {"Temporal-Callback-Token": token, "Nexus-Operation-State": "succeeded", "Nexus-Operation-Token": "t",
                   "Content-Type": "application/json", **{name.title(): value for name, value in metadata}}
        connection = http.client.HTTPConnection("127.0.0.1", int(self.ports[9]), timeout=30)
        connection.request("POST", path, b'"done"', headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        said = json.loads(body) if body else {}
        return answer.status, said.get("details", {}).get("type"), said.get("message")

    def a_report_of_an_operation_is_a_call(self):
        """Not without the operation's token, and not without the right to write in its namespace."""
        name = "/temporal.api.nexusservice.v1.NexusService/CompleteNexusOperation"
        own, short, token = "/namespaces/a/nexus/callback", "/nexus/callback", self.callback_token()
        admin, audited = self.callers["sys-admin"], []
        forged = token[:-1] + ("0" if token[-1] != "0" else "1")
        for path in (own, short):
            for wrong in ("", "00", forged):
                assert self.report(path, wrong, admin) == (400, "BAD_REQUEST", "invalid callback token"), wrong
        assert self.report("/namespaces/b/nexus/callback", token, admin)[0] == 400
        for caller in ("none", "bad", "worker", "reader", "other", "sys-reader"):
            for path in (own, short):
                answer = self.report(path, token, self.callers[caller])
                assert answer == (403, "UNAUTHORIZED", "permission denied"), f"{caller}: {answer}"
                audited.append("deny")
        answer = self.report(own, token, self.callers["writer"])
        assert answer[0] == 200, answer
        answer = self.report(short, token, admin)
        assert answer[:2] == (404, "NOT_FOUND"), answer
        audited += ["allow", "allow"]
        lines = self.until("its lines in the audit", lambda: (lambda l: len(l) >= len(audited) and l)(
            [line for line in self.audit_lines() if line["method"] == name]))
        assert sorted(line["verdict"] for line in lines) == sorted(audited), lines
        assert all(line["namespace"] == "a" and line["workflowId"] == "w-nexus" for line in lines), lines
        assert name not in self.api.methods
        call = self.api.channel.unary_unary(name, request_serializer=bytes, response_deserializer=bytes)
        try:
            call(b"", metadata=admin, timeout=30)
            raise AssertionError("it is there over gRPC")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
