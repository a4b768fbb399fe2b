# SPDX-License-Identifier: MIT
"""Facts about the API over HTTP: what is asked by hand, as with curl, and what comes back. Holds for the reference too,
but for what is marked as ours.

    facts.py --http-port N [--reference]"""

import argparse
import concurrent.futures
import http.client
import json
import re
import sys
import time

NS = "/api/v1/namespaces/default"
OURS = object()  # the reference does otherwise


class Facts:
    def __init__(self, arguments):
        self.arguments = arguments
        self.passed = self.failed = 0

    def ask(self, verb, url, body=None, headers=None):
        """(status, headers, text)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.arguments.http_port, timeout=40)
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        connection.request(verb, url, body, headers or {})
        answer = connection.getresponse()
        out = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
        connection.close()
        return out

    def good(self, verb, url, body=None, headers=None):
        status, _, text = self.ask(verb, url, body, headers)
        assert status == 200, f"{verb} {url}: {status} {text}"
        return json.loads(text)

    def fact(self, what, got, wanted, ours=None):
        if ours is OURS and self.arguments.reference:
            return
        self.passed, self.failed = self.passed + (got == wanted), self.failed + (got != wanted)
        if got != wanted:
            print(f"FAIL {what}\n  got    {got}\n  wanted {wanted}")

    def error(self, what, answer, status, code, message, detail=None, ours=None):
        said = json.loads(answer[2])
        types = [each.get("@type", "").rsplit(".", 1)[-1] for each in said.get("details", [])]
        self.fact(what, (answer[0], said.get("code"), said.get("message"), types),
                  (status, code, message, [detail] if detail else []), ours)

    def until(self, what, condition):
        for _ in range(600):
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError(what)

    # ---- a workflow's life ----

    def workflow(self):
        start = {"workflowType": {"name": "T"}, "taskQueue": {"name": "q"}, "requestId": "r1",
                 "input": ["a", {"b": [1, True, None]}], "memo": {"fields": {"m": {"n": 1}}},
                 "workflowRunTimeout": "3600s", "workflowIdReusePolicy": "AllowDuplicate"}
        first = self.good("POST", f"{NS}/workflows/facts-1", start)
        self.fact("start", (first["started"], first["status"]), (True, "WORKFLOW_EXECUTION_STATUS_RUNNING"))
        again = self.good("POST", "/namespaces/default/workflows/facts-1", start)
        self.fact("the same request id", (again["runId"], again.get("started")), (first["runId"], True))
        start["requestId"] = "r2"
        self.error("another start", self.ask("POST", f"{NS}/workflows/facts-1", start), 409, 6,
                   "Workflow execution is already running. WorkflowId: facts-1, RunId: " + first["runId"] + ".",
                   "WorkflowExecutionAlreadyStartedFailure")
        described = self.good("GET", f"{NS}/workflows/facts-1")["workflowExecutionInfo"]
        self.fact("describe", (described["execution"], described["type"], described["status"], described["memo"]),
                  ({"workflowId": "facts-1", "runId": first["runId"]}, {"name": "T"},
                   "WORKFLOW_EXECUTION_STATUS_RUNNING", {"fields": {"m": {"n": 1}}}))
        self.fact("64 bits as text", described["historyLength"], "2")
        events = self.good("GET", f"{NS}/workflows/facts-1/history?maximumPageSize=1")
        attributes = events["history"]["events"][0]["workflowExecutionStartedEventAttributes"]
        self.fact("shorthand out", attributes["input"], ["a", {"b": [1, True, None]}])
        self.fact("durations", attributes["workflowRunTimeout"], "3600s")
        ids = [e["eventId"] for e in events["history"]["events"]]
        while events.get("nextPageToken"):
            token = events["nextPageToken"].replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
            events = self.good("GET", f"{NS}/workflows/facts-1/history?maximum_page_size=1&nextPageToken={token}")
            ids += [e["eventId"] for e in events["history"].get("events", [])]
        self.fact("page by page", ids, ["1", "2"])
        full = self.good("GET", f"{NS}/workflows/facts-1/history?noPayloadShorthand")
        payload = full["history"]["events"][0]["workflowExecutionStartedEventAttributes"]["input"]["payloads"][0]
        self.fact("in full", payload, {"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "ImEi"})
        with concurrent.futures.ThreadPoolExecutor() as pool:
            waiting = pool.submit(self.good, "GET", f"{NS}/workflows/facts-1/history?waitNewEvent=true&"
                                  "historyEventFilterType=HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT")
            signalled = self.ask("POST", f"{NS}/workflows/facts-1/signal/s1", {"input": [2]})
            self.fact("signal", signalled[0], 200)
            self.good("POST", f"{NS}/workflows/facts-1/terminate", {"reason": "enough", "details": ["x"]})
            closed = waiting.result()["history"]["events"]
        self.fact("a long poll", [e["eventType"] for e in closed], ["EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED"])
        self.until("it is listed as terminated", lambda: len(self.good(
            "GET", f"{NS}/workflows?query=WorkflowId%3D%22facts-1%22%20AND%20ExecutionStatus%3D%22Terminated%22&pageSize=5")
            .get("executions", [])) == 1)
        counted = self.good("GET", f"{NS}/workflow-count?query=WorkflowId+%3D+%27facts-1%27")
        self.fact("count", counted, {"count": "1"})
        self.error("too late", self.ask("POST", f"{NS}/workflows/facts-1/terminate", {}), 404, 5,
                   "workflow execution already completed", "NotFoundFailure")

    # ---- forms ----

    def forms(self):
        for suffix, kind, lines in (("", "application/json", 1), ("?pretty", "application/json+pretty", 5),
                                    ("?noPayloadShorthand", "application/json+no-payload-shorthand", 1),
                                    ("?pretty&noPayloadShorthand", "application/json+pretty+no-payload-shorthand", 5)):
            answer = self.ask("GET", f"{NS}/workflows/facts-1/history-reverse{suffix}")
            self.fact(f"content type {suffix}", answer[1]["content-type"], kind if suffix else
                      ("*" if self.arguments.reference else kind))
            self.fact(f"lines {suffix}", answer[2].count("\n") >= lines - 1 and (lines > 1) == ("\n" in answer[2]), True)
        pretty = self.ask("GET", f"{NS}/workflows/facts-1", headers={"accept": "application/json+pretty"})
        self.fact("accept", pretty[2].startswith('{\n  "'), True)
        self.fact("system-info", "serverVersion" in self.good("GET", "/system-info"), True)
        self.fact("a body in full", self.ask("POST", f"{NS}/workflows/facts-2", {
            "workflowType": {"name": "T"}, "taskQueue": {"name": "q"}, "input": {"payloads": [
                {"metadata": {"encoding": "YmluYXJ5L3BsYWlu"}, "data": "AP8="}]}},
            {"content-type": "application/json+no-payload-shorthand; charset=utf-8"})[0], 200)
        self.fact("its way back", self.good("GET", f"{NS}/workflows/facts-2/history?noPayloadShorthand")["history"]["events"][0]
                  ["workflowExecutionStartedEventAttributes"]["input"],
                  {"payloads": [{"metadata": {"encoding": "YmluYXJ5L3BsYWlu"}, "data": "AP8="}]})
        self.fact("bytes that are no JSON", self.ask("GET", f"{NS}/workflows/facts-2/history")[0], 200, OURS)
        self.fact("a slash in a name", self.ask("POST", f"{NS}/workflows/a%2Fb", {
            "workflowType": {"name": "T"}, "taskQueue": {"name": "q"}})[0], 200, OURS)
        self.fact("which it keeps", self.ask("GET", f"{NS}/workflows/a%2Fb")[0], 200, OURS)

    # ---- refusals ----

    def refusals(self):
        start = f"{NS}/workflows/facts-3"
        self.error("no route", self.ask("GET", "/nope"), 404, 5, "Not Found")
        self.error("no such verb", self.ask("DELETE", start), 501, 12, "Method Not Allowed")
        self.error("unknown field", self.ask("POST", start, '{"workflowTyp": 1}'), 400, 3,
                   "temporalproto: (line 1:2): unknown field \"workflowTyp\"")
        self.error("no JSON", self.ask("POST", start, "{bad"), 400, 3,
                   "invalid character 'b' looking for beginning of object key string")
        self.error("half", self.ask("POST", start, '{"a":'), 400, 3,
                   "unexpected end of JSON input" if not self.arguments.reference else "unexpected EOF")
        self.error("a parameter", self.ask("GET", f"{NS}/workflows?pageSize=abc"), 400, 3,
                   "parsing field \"page_size\": strconv.ParseInt: parsing \"abc\": invalid syntax")
        self.error("too many", self.ask("GET", f"{NS}/workflow-count?query=a&query=b"), 400, 3,
                   "too many values for field \"query\"" + (": a, b" if self.arguments.reference else ""))
        self.error("unknown parameters are nothing", self.ask("GET", "/api/v1/namespaces/nope?x=y"), 404, 5,
                   "Namespace nope is not found.", "NamespaceNotFoundFailure")
        self.error("no such workflow", self.ask("GET", f"{NS}/workflows/facts-none"), 404, 5,
                   "workflow not found for ID: facts-none", "NotFoundFailure")
        self.error("no body", self.ask("POST", start), 400, 3, "WorkflowType is not set on request.")
        large = self.ask("POST", start, '{"input":["' + "x" * (5 << 20) + '"]}')
        self.error("large", large, 400, 3, "http: request body too large")
        self.fact("a deadline", self.ask("POST", f"{NS}/workflows/facts-2/query/x", "{}", {"grpc-timeout": "500m"})[0], 504)
        self.error("no deadline", self.ask("GET", "/system-info", headers={"grpc-timeout": "x"}), 400, 3,
                   "invalid grpc-timeout: x")
        self.error("not UTF-8", self.ask("GET", "/api/v1/namespaces/%ff"), 400, 3, "malformed escape in the path", ours=OURS)
        self.fact("HEAD is none of the verbs", self.ask("HEAD", "/system-info")[0], 501)

    # ---- the documents ----

    def documents(self):
        swagger = json.loads(self.ask("GET", "/swagger.json")[2])
        self.fact("swagger", (swagger["swagger"], "/api/v1/namespaces/{namespace}/workflows/{workflowId}" in swagger["paths"]
                              or "/api/v1/namespaces/{namespace}/workflows/{workflow_id}" in swagger["paths"]), ("2.0", True))
        if self.arguments.reference:
            return
        status, headers, text = self.ask("GET", "/openapi.yaml")
        document = json.loads(text)
        references = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
        self.fact("openapi", (status, headers["content-type"], document["openapi"]),
                  (200, "application/vnd.oai.openapi;version=3.0", "3.0.3"))
        self.fact("each reference is there", references - set(document["components"]["schemas"]), set())
        operations = [op["operationId"] for path in document["paths"].values() for op in path.values()]
        self.fact("operations", (len(operations) > 200, len(operations) == len(set(operations))), (True, True))
        for path, verbs in document["paths"].items():
            for op in verbs.values():
                names = [p["name"] for p in op["parameters"] if p["in"] == "path"]
                if sorted(names) != sorted(re.findall(r"\{([^}=]+)", path)):
                    self.fact(f"parameters of {path}", names, re.findall(r"\{([^}=]+)", path))

    def hosts(self):
        if self.arguments.hosts:
            for host, status in (("127.0.0.1:1", 200), ("a.example.com", 200), ("evil.test", 403), ("", 403)):
                answer = self.ask("GET", "/system-info", headers={"host": host})
                self.fact(f"host {host}", answer[0], status)
            self.error("its words", self.ask("GET", "/system-info", headers={"host": "x"}), 403, 7, "Host not allowed")
            self.fact("no route has no host", self.ask("GET", "/nope", headers={"host": "x"})[0], 404)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--hosts", action="store_true", help="httpAllowedHosts is 127.0.0.1:* and *.example.com")
    facts = Facts(parser.parse_args())
    for part in (facts.hosts,) if facts.arguments.hosts else (facts.workflow, facts.forms, facts.refusals, facts.documents):
        part()
    print(f"facts: {facts.passed} passed, {facts.failed} failed")
    sys.exit(facts.failed > 0)


if __name__ == "__main__":
    main()
