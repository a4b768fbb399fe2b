# SPDX-License-Identifier: MIT
"""Reports of Nexus operations count in the rate of their namespace, which the server is started with: 1 a second, after
40 at once.

    callbacks.py --port N --http-port N"""

import argparse
import http.client
import json
import os
import sys
import time

import grpc

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "auth"))
from api import Api  # noqa: E402

TRIES = 1000  # at most; the 429 is there after some forty, unless a report takes a second


class Callbacks:
    def __init__(self, arguments):
        self.api = Api(f"127.0.0.1:{arguments.port}", ())
        self.http = http.client.HTTPConnection("127.0.0.1", arguments.http_port, timeout=40)

    def good(self, name, **members):
        method = self.api.method(name)
        code, text, _, answer = method.end(method.begin(method.request_class(**members), ()))
        assert code == grpc.StatusCode.OK, f"{name}: {code} {text}"
        return answer

    def wait_until_it_serves(self):
        method, end = self.api.method("GetClusterInfo"), time.monotonic() + 60
        while method.end(method.begin(method.request_class(), ()))[0] == grpc.StatusCode.UNAVAILABLE:
            assert time.monotonic() < end, "the server does not come up"
            time.sleep(0.05)

    def token(self):
        """Of an operation that a workflow waits for."""
        self.good("CreateNexusEndpoint", spec={"name": "rates", "target": {"worker": {"namespace": "default",
                                                                                     "task_queue": "n"}}})
        self.good("StartWorkflowExecution", namespace="default", workflow_id="w", workflow_type={"name": "T"},
                  task_queue={"name": "q"}, request_id="r")
        task = self.good("PollWorkflowTaskQueue", namespace="default", task_queue={"name": "q"})
        command = {"command_type": "COMMAND_TYPE_SCHEDULE_NEXUS_OPERATION", "schedule_nexus_operation_command_attributes": {
            "endpoint": "rates", "service": "s", "operation": "o"}}
        self.good("RespondWorkflowTaskCompleted", namespace="default", task_token=task.task_token, commands=[command])
        asked = self.good("PollNexusTaskQueue", namespace="default", task_queue={"name": "n"})
        callback = asked.request.start_operation.callback
        assert callback == "http://x/default/y", callback  # useSystemCallbackURL is false: by the template
        self.good("RespondNexusTaskCompleted", namespace="default", task_token=asked.task_token,
                  response={"start_operation": {"async_success": {"operation_token": "t"}}})
        return {k.lower(): v for k, v in asked.request.start_operation.callback_header.items()}["temporal-callback-token"]

    def report(self, token):
        self.http.request("POST", "/nexus/callback", b'"done"', {
            "Temporal-Callback-Token": token, "Nexus-Operation-State": "succeeded", "Nexus-Operation-Token": "t",
            "Content-Type": "application/json"})
        answer = self.http.getresponse()
        return answer.status, answer.read()

    def rates_count_reports(self):
        self.wait_until_it_serves()
        token = self.token()
        first = self.report(token)
        assert first == (200, b""), first
        for _ in range(TRIES):
            status, body = self.report(token)
            if status != 404:  # it has been reported
                break
        assert status == 429, f"{status} {body}"
        wanted = {"message": "namespace rate limit exceeded", "metadata": {"type": "nexus.HandlerError"},
                  "details": {"type": "RESOURCE_EXHAUSTED"}}
        assert json.loads(body) == wanted, body
        status, body = self.report("00")  # not one of ours: it takes nothing from anybody's rate
        assert (status, json.loads(body)["message"]) == (400, "invalid callback token"), body


def main():
    parser = argparse.ArgumentParser()
    for name in ("port", "http-port"):
        parser.add_argument("--" + name, type=int, required=True)
    failed = 0
    try:
        Callbacks(parser.parse_args()).rates_count_reports()
    except Exception as error:  # noqa: BLE001
        print(f"FAIL rates_count_reports: {type(error).__name__}: {error}")
        failed = 1
    print(f"callbacks: {1 - failed} passed, {failed} failed")
    sys.exit(failed)


if __name__ == "__main__":
    main()
