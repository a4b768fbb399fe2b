# SPDX-License-Identifier: MIT
"""Runs the same cases on two servers and compares what they did, event by event.

    main.py --a HOST:PORT --b HOST:PORT [--only WORD] [--dump DIR]
    main.py --self-test

Prints a line for each case, what differs below it, and `compare: N passed, N failed` at the end.
"""

import argparse
import asyncio
import copy
import fnmatch
import json
import os
import pathlib
import sys
import time
import traceback

import cases_activity
import cases_batch
import cases_child
import cases_errors
import cases_flow
import cases_nexus
import cases_operate
import cases_reset
import cases_schedule
import cases_sdk
import cases_solo
import cases_task
import cases_update
import cases_versions
import cases_view
from driver import Case, Server
from normal import differences

MODULES = (cases_flow, cases_task, cases_activity, cases_child, cases_view,
           cases_errors, cases_sdk, cases_update, cases_operate, cases_reset, cases_batch, cases_schedule,
           cases_solo, cases_nexus, cases_versions)
AT_ONCE = 12
TRIES = 3
CASE_LIMIT_S = 90
LINES_SHOWN = 25
WORKFLOWS_MIN = 30
FAILING_CALLS_MIN = 40

EVERY_EVENT = """WORKFLOW_EXECUTION_STARTED WORKFLOW_EXECUTION_COMPLETED WORKFLOW_EXECUTION_FAILED
WORKFLOW_EXECUTION_TIMED_OUT WORKFLOW_TASK_SCHEDULED WORKFLOW_TASK_STARTED WORKFLOW_TASK_COMPLETED
WORKFLOW_TASK_TIMED_OUT WORKFLOW_TASK_FAILED ACTIVITY_TASK_SCHEDULED ACTIVITY_TASK_STARTED
ACTIVITY_TASK_COMPLETED ACTIVITY_TASK_FAILED ACTIVITY_TASK_TIMED_OUT ACTIVITY_TASK_CANCEL_REQUESTED
ACTIVITY_TASK_CANCELED TIMER_STARTED TIMER_FIRED TIMER_CANCELED WORKFLOW_EXECUTION_CANCEL_REQUESTED
WORKFLOW_EXECUTION_CANCELED REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED
REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED
MARKER_RECORDED WORKFLOW_EXECUTION_SIGNALED WORKFLOW_EXECUTION_TERMINATED
WORKFLOW_EXECUTION_CONTINUED_AS_NEW START_CHILD_WORKFLOW_EXECUTION_INITIATED
START_CHILD_WORKFLOW_EXECUTION_FAILED CHILD_WORKFLOW_EXECUTION_STARTED
CHILD_WORKFLOW_EXECUTION_COMPLETED CHILD_WORKFLOW_EXECUTION_FAILED CHILD_WORKFLOW_EXECUTION_CANCELED
CHILD_WORKFLOW_EXECUTION_TIMED_OUT CHILD_WORKFLOW_EXECUTION_TERMINATED
SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED
EXTERNAL_WORKFLOW_EXECUTION_SIGNALED UPSERT_WORKFLOW_SEARCH_ATTRIBUTES
WORKFLOW_PROPERTIES_MODIFIED WORKFLOW_EXECUTION_UPDATE_ACCEPTED
WORKFLOW_EXECUTION_UPDATE_COMPLETED WORKFLOW_EXECUTION_UPDATE_ADMITTED
NEXUS_OPERATION_SCHEDULED NEXUS_OPERATION_STARTED NEXUS_OPERATION_COMPLETED NEXUS_OPERATION_FAILED
NEXUS_OPERATION_CANCELED NEXUS_OPERATION_TIMED_OUT NEXUS_OPERATION_CANCEL_REQUESTED
NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED""".split()


def short(kind):
    return kind.replace("EVENT_TYPE_", "")


def event_table(a, b):
    """Two histories side by side, for when their types differ."""
    names = [[f"{e.get('event_id')} {short(e.get('event_type', '?'))}" for e in h["events"]]
             for h in (a, b)]
    rows = []
    for i in range(max(map(len, names))):
        left, right = (n[i] if i < len(n) else "-" for n in names)
        rows.append(f"    {'  ' if left == right else '! '}{left:<60} {right}")
    return rows


def compare_records(a, b):
    """Lines that say how the records of one case differ; none when they are the same."""
    lines = []
    for i in range(max(len(a), len(b))):
        if i >= len(a) or i >= len(b) or a[i][0] != b[i][0]:
            left = a[i][0] if i < len(a) else "<nothing>"
            right = b[i][0] if i < len(b) else "<nothing>"
            lines.append(f"  step {i + 1}: A did {left!r}, B did {right!r}")
            for side, records in (("A", a), ("B", b)):
                if i < len(records) and "fails" in records[i][0]:
                    lines.append(f"    {side}: {records[i][1]}")
            break
        found = differences(a[i][1], b[i][1])
        if not found:
            continue
        lines.append(f"  step {i + 1}, {a[i][0]}:")
        if isinstance(a[i][1], dict) and "events" in a[i][1] and isinstance(b[i][1], dict):
            kinds = [[e.get("event_type") for e in side[i][1]["events"]] for side in (a, b)]
            if kinds[0] != kinds[1]:
                lines.extend(event_table(a[i][1], b[i][1]))
                continue
        lines.extend("    " + line for line in found[:LINES_SHOWN])
        if len(found) > LINES_SHOWN:
            lines.append(f"    … {len(found) - LINES_SHOWN} more")
    return lines


async def run_case(server, name, function):
    case = Case(server, name.replace("_", "-"))
    try:
        await asyncio.wait_for(function(case), CASE_LIMIT_S)
        trouble = None
    except Exception as error:  # a case that cannot go on is a difference, not a crash
        trouble = f"{type(error).__name__}: {error}"
        frames = traceback.extract_tb(error.__traceback__)
        where = [f for f in frames if "cases_" in f.filename]
        if where:
            trouble += f" (at {pathlib.Path(where[-1].filename).name}:{where[-1].lineno})"
    return case, trouble


async def run_server(server, chosen):
    await server.connect()
    await cases_flow.prepare(server)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name, function):
        async with gate:
            return name, await run_case(server, name, function)

    return dict(await asyncio.gather(*(one(n, f) for n, f in chosen.items())))


def all_cases(only):
    chosen = {}
    for module in MODULES:
        for name, function in vars(module).items():
            if name.startswith("case_") and (not only or fnmatch.fnmatch(name[5:], only)):
                chosen[name[5:]] = function
    return chosen


class Score:
    def __init__(self):
        self.passed = self.failed = 0

    def say(self, good, name, why=""):
        self.passed += good
        self.failed += not good
        print(f"ok {name}" if good else f"not ok {name}: {why}")

    def close(self):
        print(f"compare: {self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


def judge(score, chosen, results):
    a, b = results
    for name in sorted(chosen):
        (case_a, trouble_a), (case_b, trouble_b) = a[name], b[name]
        lines = compare_records(case_a.records, case_b.records)
        if trouble_a or trouble_b:
            score.say(False, name, f"A: {trouble_a or 'ran'}; B: {trouble_b or 'ran'}")
        else:
            score.say(not lines, name, "the servers differ")
        for line in lines:
            print(line)
    for side, result in zip("AB", results):
        kinds = set().union(*(case.event_types for case, _ in result.values()))
        missing = [k for k in EVERY_EVENT if "EVENT_TYPE_" + k not in kinds]
        score.say(not missing, f"{side} made every T1 event type", " ".join(missing))
        runs = len(set().union(*(case.workflows for case, _ in result.values())))
        score.say(runs >= WORKFLOWS_MIN, f"{side} ran {runs} workflow runs", "too few")
        calls = sum(case.failed_calls for case, _ in result.values())
        score.say(calls >= FAILING_CALLS_MIN, f"{side} refused {calls} calls", "too few")


async def play(arguments, chosen):
    servers = [Server("A", arguments.a, arguments.namespace),
               Server("B", arguments.b, arguments.namespace)]
    return await asyncio.gather(*(run_server(server, chosen) for server in servers))


def differing(results):
    """The cases that did not go alike."""
    return [name for name in sorted(results[0])
            if any(result[name][1] for result in results) or
            compare_records(*(result[name][0].records for result in results))]


async def again(arguments, chosen, results):
    """Plays once more what differed: on a busy machine a short time-out can run out on either side.
    What differs every time is no race."""
    for _ in range(1, TRIES):
        names = differing(results)
        if not names:
            return
        print(f"# once more: {' '.join(names)}")
        for name in names:
            (case_a, trouble_a), (case_b, trouble_b) = (result[name] for result in results)
            print(f"# {name}: A {trouble_a or 'ran'}, B {trouble_b or 'ran'}")
            for line in compare_records(case_a.records, case_b.records)[:LINES_SHOWN]:
                print("#" + line)
        for result, new in zip(results, await play(arguments, {n: chosen[n] for n in names})):
            result.update(new)


async def run(arguments):
    chosen = all_cases(arguments.only)
    began = time.monotonic()
    results = await play(arguments, chosen)
    await again(arguments, chosen, results)
    if arguments.dump:
        for side, result in zip("AB", results):
            folder = pathlib.Path(arguments.dump) / side
            folder.mkdir(parents=True, exist_ok=True)
            for name, (case, _) in result.items():
                (folder / f"{name}.json").write_text(json.dumps(case.records, indent=1))
    score = Score()
    if arguments.only:
        for name in sorted(chosen):
            (case_a, trouble_a), (case_b, trouble_b) = results[0][name], results[1][name]
            lines = compare_records(case_a.records, case_b.records)
            score.say(not lines and not trouble_a and not trouble_b, name,
                      f"A: {trouble_a or 'ran'}; B: {trouble_b or 'ran'}")
            print("\n".join(lines))
    else:
        judge(score, chosen, results)
    print(f"# {time.monotonic() - began:.1f} s", file=sys.stderr)
    return score.close()


def self_test():
    """Shows that the comparer sees what it must see, and nothing else."""
    import selftest
    score = Score()
    for name, good in selftest.run(compare_records, copy.deepcopy):
        score.say(good, name, "the comparer is blind")
    return score.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--a", help="the server that is taken as right")
    parser.add_argument("--b", help="the server that is judged")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--only", help="a case's name, or a pattern")
    parser.add_argument("--dump", help="write every record to this folder")
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test()
    if not arguments.a or not arguments.b:
        parser.error("--a and --b are needed")
    return asyncio.run(run(arguments))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # The SDK's native part is not always at rest when the interpreter is torn down.
    os._exit(code)
