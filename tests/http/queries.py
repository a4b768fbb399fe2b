# SPDX-License-Identifier: MIT
"""List filters: twelve workflows with attributes of every type, and what queries.txt says that each filter finds, counts or
answers; ORDER BY of every attribute, page by page while runs are being started; memo and attributes in lists.

    queries.py --http-port N               against tenond
    queries.py --http-port N --write       writes the answers of that server into queries.txt, for reading in a diff
    queries.py --http-port N --reference   only what is no departure of ours (lines that begin with ~ are)

The server has the attributes of tests/lib.sh (SEARCH_ATTRIBUTES)."""

import argparse
import base64
import http.client
import json
import os
import random
import sys
import time
from urllib.parse import quote

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "queries.txt")
NS = "/api/v1/namespaces/default"
SORTED = ["CmpInt", "CmpInt DESC", "CmpKeyword", "CmpDouble DESC", "CmpTime", "CmpBool", "CmpList", "StartTime",
          "StartTime DESC", "CloseTime", "ExecutionStatus", "WorkflowId DESC", "WorkflowType", "RunId", "HistoryLength",
          "ExecutionTime", "ExecutionDuration", "TaskQueue", "ParentWorkflowId", "CmpInt, CmpKeyword DESC"]


def attribute(kind, value):
    def text(t):
        return base64.b64encode(t.encode()).decode()
    return {"metadata": {"encoding": text("json/plain"), "type": text(kind)}, "data": text(json.dumps(value, separators=(",", ":")))}


class Queries:
    def __init__(self, arguments):
        self.arguments = arguments
        self.passed = self.failed = 0
        self.tag = f"v{int(time.time() * 1000)}"
        self.connection = http.client.HTTPConnection("127.0.0.1", arguments.http_port, timeout=60)

    def check(self, what, good, why=""):
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)
        if not good:
            print(f"FAIL {what}: {why}")

    def ask(self, verb, url, body=None):
        self.connection.request(verb, url, json.dumps(body) if body is not None else None)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def start(self, name, kind, queue, fields, memo=None):
        status, answer = self.ask("POST", f"{NS}/workflows/{name}", {
            "workflowType": {"name": kind}, "taskQueue": {"name": queue}, "searchAttributes": {"indexedFields": fields},
            "memo": {"fields": memo or {}}, "workflowRunTimeout": "1000s"})
        assert status == 200, answer

    def populate(self):
        for i in range(12):
            f = {}
            if i % 3 != 2:
                f["CmpInt"] = attribute("Int", i - 3)
            if i % 4 != 3:
                f["CmpKeyword"] = attribute("Keyword", ["alpha", "al_pha", "beta%x", "Gamma", "alp'q"][i % 5])
            if i % 2:
                f["CmpDouble"] = attribute("Double", i / 4)
            if i % 3:
                f["CmpBool"] = attribute("Bool", i % 2 == 0)
            if i % 5:
                f["CmpTime"] = attribute("Datetime", f"2024-01-{i + 1:02}T00:00:00.{i}Z")
            if i % 4:
                f["CmpList"] = attribute("KeywordList", [f"x{i % 3}", "y", "al"])
            if i % 3 == 1:
                f["CmpText"] = attribute("Text", "the quick brown Fox" if i % 2 else "quick. dog")
            self.start(f"{self.tag}-{i:02}", f"T{i % 2}", f"q{i % 3}", f, {"number": i} if i == 3 else None)
        for i in (1, 4, 7):
            self.ask("POST", f"{NS}/workflows/{self.tag}-{i:02}/terminate", {})
        self.until(f'WorkflowId STARTS_WITH "{self.tag}"', "12")
        self.until(f'WorkflowId STARTS_WITH "{self.tag}" AND CloseTime IS NOT NULL', "3")

    def until(self, query, count):
        end = time.monotonic() + 60
        while self.ask("GET", f"{NS}/workflow-count?query={quote(query)}")[1].get("count") != count:
            assert time.monotonic() < end, query
            time.sleep(0.05)

    def answer(self, query):
        """Ids of what is found, or the error; and whether the count agrees."""
        if query.startswith("!"):
            whole = query[1:]
        else:
            whole = f'WorkflowId STARTS_WITH "{self.tag}" AND ({query})'
        status, found = self.ask("GET", f"{NS}/workflows?pageSize=100&query={quote(whole)}")
        counted, number = self.ask("GET", f"{NS}/workflow-count?query={quote(whole)}")
        if status != 200:
            text = f"{status} {found['message']}".replace(self.tag, "TAG").replace(str(len(self.tag)), "N")
            if " at position " in text:  # which counts our names
                head, rest = text.split(" at position ")
                text = head + (" near " + rest.split(" near ", 1)[1] if " near " in rest else "")
            agree = counted == status
        else:
            ids = sorted(each["execution"]["workflowId"][-2:] for each in found.get("executions", []))
            text = " ".join(ids) or "-"
            agree = int(number.get("count", 0)) == len(ids)
        return text, agree

    def table(self):
        lines = []
        for line in open(FILE).read().splitlines():
            if not line or line.startswith("#"):
                lines.append(line)
                continue
            query, _, wanted = line.partition("\t")
            ours, query = query.startswith("~"), query.lstrip("~")
            if ours and self.arguments.reference:
                continue
            got, agree = self.answer(query)
            lines.append(("~" if ours else "") + f"{query}\t{got}")
            if not self.arguments.write:
                self.check(query, got == wanted, f"{got}, wanted {wanted}")
                self.check(f"{query}: the count agrees", agree)
        if self.arguments.write:
            with open(FILE, "w") as out:
                out.write("\n".join(lines) + "\n")

    def lists_show_what_was_given(self):
        found = self.ask("GET", f"{NS}/workflows?query=" + quote(f'WorkflowId = "{self.tag}-03"'))[1]["executions"][0]
        self.check("memo", found["memo"] == {"fields": {"number": 3}}, found["memo"])
        shown = found["searchAttributes"]["indexedFields"]
        self.check("attributes", shown["CmpInt"] == attribute("Int", 0) and shown["CmpDouble"] == attribute("Double", 0.75)
                   and shown["CmpList"] == attribute("KeywordList", ["x0", "y", "al"]), shown)

    def pages(self):
        """What was there before the first page comes exactly once, whatever is started meanwhile."""
        seeded, tag, n = random.Random(5), self.tag + "p", 0

        def more():
            nonlocal n
            f = {}
            if n % 4:
                f["CmpInt"] = attribute("Int", seeded.randrange(5))
            if n % 5:
                f["CmpKeyword"] = attribute("Keyword", seeded.choice("abc"))
            if n % 3:
                f["CmpDouble"] = attribute("Double", seeded.random())
            if n % 6:
                f["CmpTime"] = attribute("Datetime", f"2024-01-{seeded.randrange(1, 28):02}T00:00:00Z")
            if n % 7:
                f["CmpBool"] = attribute("Bool", bool(seeded.randrange(2)))
            self.start(f"{tag}-{n}", "T", "q", f)
            n += 1

        for _ in range(40):
            more()
        for by in SORTED:
            self.until(f'WorkflowId STARTS_WITH "{tag}"', str(n))
            before = {f"{tag}-{i}" for i in range(n)}
            query, token, seen = quote(f'WorkflowId STARTS_WITH "{tag}" ORDER BY {by}'), "", []
            while True:
                status, page = self.ask("GET", f"{NS}/workflows?pageSize=7&query={query}" +
                                        (f"&nextPageToken={quote(token, safe='')}" if token else ""))
                assert status == 200, page
                seen += [each["execution"]["workflowId"] for each in page.get("executions", [])]
                token = page.get("nextPageToken", "")
                if not token:
                    break
                if n < 80:
                    more()
            self.check(f"ORDER BY {by}", before <= set(seen) and len(seen) == len(set(seen)),
                       (sorted(before - set(seen)), len(seen), len(set(seen))))
        answer = self.ask("GET", f"{NS}/workflow-count?query=" + quote(f'WorkflowId STARTS_WITH "{tag}" GROUP BY ExecutionStatus'))[1]
        self.check("groups", [g["count"] for g in answer["groups"]] == [str(n)], answer)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--write", action="store_true")
    queries = Queries(parser.parse_args())
    queries.populate()
    queries.table()
    if not queries.arguments.write:
        queries.lists_show_what_was_given()
    if not queries.arguments.write and not queries.arguments.reference:
        queries.pages()
    print(f"queries: {queries.passed} passed, {queries.failed} failed")
    sys.exit(queries.failed > 0)


if __name__ == "__main__":
    main()
