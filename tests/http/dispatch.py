# SPDX-License-Identifier: MIT
"""Nexus operations that callers outside ask our workers for, over HTTP: what a worker hears, and how its answers and all
that can go wrong come back. The same holds on the reference.

    dispatch.py --port N --http-port N"""

import argparse
import http.client
import json
import os
import sys
import threading
import time

import grpc

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "auth"))
from api import Api  # noqa: E402

QUEUE = "nexus-q"
OURS = "temporal.api.failure.v1.Failure"


class Dispatch:
    def __init__(self, arguments):
        self.api = Api(f"127.0.0.1:{arguments.port}", ())
        self.port, self.passed, self.failed = arguments.http_port, 0, 0

    def good(self, name, timeout=70, **members):
        method = self.api.method(name)
        code, text, _, answer = method.end(method.begin(method.request_class(**members), (), timeout))
        assert code == grpc.StatusCode.OK, f"{name}: {code} {text}"
        return answer

    def wait_until_it_serves(self):
        method, end = self.api.method("GetClusterInfo"), time.monotonic() + 60
        while method.end(method.begin(method.request_class(), ()))[0] == grpc.StatusCode.UNAVAILABLE:
            assert time.monotonic() < end, "the server does not come up"
            time.sleep(0.05)

    def ask(self, path, body=b"", verb="POST", **headers):
        """(status, headers, body)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        connection.request(verb, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text

    def by_queue(self, rest="svc/op", namespace="default", queue=QUEUE):
        return f"/namespaces/{namespace}/task-queues/{queue}/nexus-services/{rest}"

    def worked(self, answer, path=None, body=b'"in"', support="true", **headers):
        """Asks, answers as a worker (a dict of RespondNexusTaskCompleted's or ...Failed's members), and gives what the
        worker heard and what came back."""
        got = []
        headers.setdefault("Content_Type", "application/json")
        if support:
            headers["Temporal_Nexus_Failure_Support"] = support
        thread = threading.Thread(target=lambda: got.append(self.ask(path or self.by_queue(), body, **headers)))
        thread.start()
        task = self.good("PollNexusTaskQueue", namespace="default", task_queue={"name": QUEUE})
        assert task.task_token, got
        name = "RespondNexusTaskCompleted" if "response" in answer else "RespondNexusTaskFailed"
        self.good(name, namespace="default", task_token=task.task_token, **answer)
        thread.join(90)
        return task.request, got[0]

    def start(self, **variant):
        return {"response": {"start_operation": variant}}

    def error(self, answer, status, kind, message):
        said = json.loads(answer[2])
        assert (answer[0], said.get("details", {}).get("type"), said.get("message")) == (status, kind, message), answer

    # ---- cases ----

    def an_answer_at_once(self):
        links = [{"url": "temporal:///a", "type": "some.Type"}]
        request, answer = self.worked(
            self.start(sync_success={"payload": {"metadata": {"encoding": b"json/plain"}, "data": b'"out"'}, "links": links}),
            path=self.by_queue("a%20b/o%20p?callback=http%3A%2F%2Fx%2Fy%3Fz"), Nexus_Request_Id="rid", X_Own="1",
            Nexus_Callback_X_Y="back", Nexus_Link='<http://l/1>; type="t.T", <http://l/2>; type="u"', Request_Timeout="20s",
            X_Forwarded_For="1.2.3.4")
        start = request.start_operation
        assert (start.service, start.operation, start.request_id) == ("a b", "o p", "rid"), request
        assert start.callback == "http://x/y?z" and dict(start.callback_header) == {"x-y": "back"}, request
        assert [(link.url, link.type) for link in start.links] == [("http://l/1", "t.T"), ("http://l/2", "u")], request
        assert start.payload.data == b'"in"' and dict(start.payload.metadata) == {"encoding": b"json/plain"}, request
        header = dict(request.header)
        assert header["x-own"] == "1" and header["nexus-request-id"] == "rid", header
        assert not {"x-forwarded-for", "temporal-nexus-failure-support", "accept-encoding", "content-type"} & set(header), header
        left = float(header["request-timeout"].removesuffix("ms"))
        assert 1000 < left <= 20000, header
        assert request.capabilities.temporal_failure_responses and request.HasField("scheduled_time")
        assert request.endpoint == "", request
        assert answer[0] == 200 and answer[2] == b'"out"' and answer[1]["content-type"] == "application/json", answer
        assert answer[1]["nexus-link"] == '<temporal:///a>; type="some.Type"', answer

    def a_token_for_later(self):
        _, answer = self.worked(self.start(async_success={"operation_token": 'to"ken'}))
        assert answer[0] == 201 and json.loads(answer[2]) == {"token": 'to"ken', "state": "running"}, answer
        assert answer[1]["content-type"] == "application/json", answer

    def payloads_of_any_kind(self):
        for metadata, data, kind in (({"encoding": b"binary/plain"}, b"\0\1", "application/octet-stream"),
                                     ({"encoding": b"json/protobuf", "messageType": b"a.B"}, b"{}",
                                      'application/json; format=protobuf; message-type="a.B"')):
            request, answer = self.worked(self.start(sync_success={"payload": {"metadata": metadata, "data": data}}),
                                          body=data, Content_Type=kind)
            assert (answer[0], answer[2], answer[1]["content-type"]) == (200, data, kind), answer
            assert request.start_operation.payload.data == data, request
            assert dict(request.start_operation.payload.metadata) == metadata, request

    def by_endpoint(self):
        spec = {"name": f"d-{os.getpid()}-{time.time_ns()}",
                "target": {"worker": {"namespace": "default", "task_queue": QUEUE}}}
        endpoint = self.good("CreateNexusEndpoint", spec=spec).endpoint
        path = f"/nexus/endpoints/{endpoint.id}/services/svc/op"
        request, answer = self.worked(self.start(sync_success={}), path=path)
        assert request.endpoint == spec["name"] and answer[0] == 200 and answer[2] == b"", (request, answer)
        spec["name"] += "-out"
        spec["target"] = {"external": {"url": "http://127.0.0.1:1/"}}
        outside = self.good("CreateNexusEndpoint", spec=spec).endpoint
        answer = self.ask(f"/nexus/endpoints/{outside.id}/services/svc/op")
        self.error(answer, 400, "BAD_REQUEST", "invalid endpoint target")
        answer = self.ask("/nexus/endpoints/00000000-0000-4000-8000-000000000000/services/svc/op")
        self.error(answer, 404, "NOT_FOUND", "nexus endpoint not found")
        assert answer[1]["nexus-request-retryable"] == "false", answer

    def cancels(self):
        done = {"response": {"cancel_operation": {}}}
        for path, headers in (("svc/op/cancel", {"Nexus_Operation_Token": "tok"}), ("svc/op/cancel?token=tok", {}),
                              ("svc/op/tok/cancel", {})):
            request, answer = self.worked(done, path=self.by_queue(path), body=b"", **headers)
            cancel = request.cancel_operation
            assert (cancel.service, cancel.operation, cancel.operation_token) == ("svc", "op", "tok"), request
            assert "nexus-operation-token" not in request.header and answer[0] == 202 and answer[2] == b"", (request, answer)
        self.error(self.ask(self.by_queue("svc/op/cancel")), 400, "BAD_REQUEST", "missing operation token")
        _, answer = self.worked({"error": {"error_type": "NOT_FOUND", "failure": {"message": "none"}}},
                                path=self.by_queue("svc/op/cancel?token=x"), body=b"")
        assert answer[0] == 404 and json.loads(answer[2])["cause"] == {"message": "none"}, answer

    def errors_of_a_handler(self):
        """In older words and in newer ones, to callers who know our failures and to others."""
        older = {"error": {"error_type": "CONFLICT", "retry_behavior": 2, "failure": {
            "message": "no", "stack_trace": "st", "metadata": {"k": "v"}, "details": b'{"a":1}'}}}
        newer = {"failure": {"message": "no", "stack_trace": "st", "nexus_handler_failure_info": {
            "type": "CONFLICT", "retry_behavior": 2}, "cause": {"message": "why", "application_failure_info": {"type": "T"}}}}
        cause = {"message": "no", "stackTrace": "st", "metadata": {"k": "v"}, "details": {"a": 1}}
        details = {"type": "CONFLICT", "retryableOverride": False}
        kind = {"type": "nexus.HandlerError"}
        why = {"message": "why", "metadata": {"type": OURS}, "details": {"applicationFailureInfo": {"type": "T"}}}
        for answer, support, wanted in (
                (older, "true", {"metadata": kind, "details": details, "cause": cause}), (older, None, cause),
                (newer, "true", {"message": "no", "stackTrace": "st", "metadata": kind, "details": details, "cause": why}),
                (newer, None, why)):
            _, got = self.worked(answer, support=support)
            assert got[0] == 409 and json.loads(got[2]) == wanted, f"{got}, not {wanted}"
            assert got[1]["nexus-request-retryable"] == "false", got
            assert got[1]["temporal-nexus-failure-source"] == "worker", got

    def operations_that_fail(self):
        cause = {"message": "it failed", "metadata": {"k": "v"}}
        ours = {"message": "ours", "metadata": {"type": OURS}, "details": {"applicationFailureInfo": {"type": "T"}}}
        older = self.start(operation_error={"operation_state": "canceled", "failure": cause})
        newer = self.start(failure={"message": "ours", "application_failure_info": {"type": "T"}})
        for answer, state, inner in ((older, "canceled", cause), (newer, "failed", ours)):
            for support in ("true", None):
                _, got = self.worked(answer, support=support)
                wanted = inner if not support else {
                    "message": "operation error", "metadata": {"type": "nexus.OperationError", "unwrap-error": "true"},
                    "details": {"state": state}, "cause": inner}
                assert got[0] == 424 and json.loads(got[2]) == wanted, f"{got}, not {wanted}"
                assert got[1]["nexus-operation-state"] == state, got
                assert got[1]["temporal-nexus-failure-source"] == "worker", got

    def answers_that_say_nothing(self):
        _, got = self.worked({"response": {"start_operation": {}}})
        self.error(got, 500, "INTERNAL", "empty outcome")

    def nobody_answers(self):
        got = self.ask(self.by_queue(queue="nobody-polls"), Request_Timeout="1500ms")
        said = json.loads(got[2])
        assert (got[0], said["details"]["type"]) == (520, "UPSTREAM_TIMEOUT"), got

    def requests_that_are_none(self):
        self.error(self.ask(self.by_queue(), verb="GET"), 400, "BAD_REQUEST",
                   'invalid request method: expected POST, got "GET"')
        self.error(self.ask(self.by_queue("svc")), 404, "NOT_FOUND", "not found")
        self.error(self.ask(self.by_queue("svc/op/x")), 404, "NOT_FOUND", "not found")
        self.error(self.ask(self.by_queue(), Request_Timeout="soon"), 400, "BAD_REQUEST", "invalid request timeout header")
        self.error(self.ask(self.by_queue(), Nexus_Link="nothing"), 400, "BAD_REQUEST", 'invalid "nexus-link" header')
        self.error(self.ask(self.by_queue(namespace="no-such-namespace")), 404, "NOT_FOUND",
                   'namespace not found: "no-such-namespace"')
        self.error(self.ask(self.by_queue(), b"x" * (2 << 20)), 400, "BAD_REQUEST", "input exceeds size limit")
        self.error(self.ask(self.by_queue(), b"x" * (3 << 20)), 400, "BAD_REQUEST", "invalid input")

    def run(self):
        self.wait_until_it_serves()
        for case in (self.an_answer_at_once, self.a_token_for_later, self.payloads_of_any_kind, self.by_endpoint, self.cancels,
                     self.errors_of_a_handler, self.operations_that_fail, self.answers_that_say_nothing, self.nobody_answers,
                     self.requests_that_are_none):
            try:
                case()
                self.passed += 1
            except Exception as error:  # noqa: BLE001
                print(f"FAIL {case.__name__}: {type(error).__name__}: {error}", flush=True)
                self.failed += 1
        print(f"dispatch: {self.passed} passed, {self.failed} failed")
        return self.failed


def main():
    parser = argparse.ArgumentParser()
    for name in ("port", "http-port"):
        parser.add_argument("--" + name, type=int, required=True)
    sys.exit(1 if Dispatch(parser.parse_args()).run() else 0)


if __name__ == "__main__":
    main()
