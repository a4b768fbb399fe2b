# SPDX-License-Identifier: MIT
"""Load by the official Go SDK (tests/sdk/go/chaos): worker processes that are killed now and then, clients that note each try of a call;
in the end the judge of promises.py, and the SDK's WorkflowReplayer over every history.  A process of its own, as sdkload.py is."""

import argparse
import asyncio
import collections
import json
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "crash"))

import temporalio.api.enums.v1 as enums  # noqa: E402
from temporalio.service import ConnectConfig, ServiceClient  # noqa: E402

from judge import KIND, side_effects  # noqa: E402
from promises import Promises, Reader  # noqa: E402
from sdkload import told_to_end  # noqa: E402
from server import DIE_WITH_PARENT  # noqa: E402

QUEUE = "official-go"
NON_DETERMINISM = enums.WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR


class Load:
    def __init__(self, arguments):
        self.arguments, self.dice = arguments, random.Random(arguments.seed)
        self.counts, self.enough, self.workers = collections.Counter(), asyncio.Event(), []
        self.log, self.effects = os.path.join(arguments.folder, "go.log"), os.path.join(arguments.folder, "go.effects")

    async def program(self, *words, **streams):
        return await asyncio.create_subprocess_exec(*DIE_WITH_PARENT, self.arguments.program, *words, "-address", self.arguments.address, **streams)

    async def begin(self):
        self.client = await self.program("client", "-log", self.log, "-seed", str(self.arguments.seed), "-slack-ns", str(self.arguments.slack_ns),
                                         "-starters", str(self.arguments.starters), stdin=asyncio.subprocess.PIPE)

    async def worker(self):
        """One after another: each is killed with its sticky queue, its cache, and the tasks it has; the last stays."""
        while True:
            process = await self.program("worker", "-effects", self.effects, stdin=asyncio.subprocess.DEVNULL)
            self.workers.append(process)
            try:
                await asyncio.wait_for(self.enough.wait(), self.dice.uniform(4, 25))
                return
            except asyncio.TimeoutError:
                pass
            if process.returncode is not None:
                raise RuntimeError(f"a worker has ended by itself: {process.returncode}")
            process.kill()
            await process.wait()
            self.workers.remove(process)
            self.counts["workers killed"] += 1
            await asyncio.sleep(self.dice.uniform(0, 3))

    async def replayed(self, promises):
        process = await self.program("replay", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate("".join(f"{workflow} {run}\n" for run, workflow in promises.workflows.items()).encode())
        lines = said.decode(errors="replace").splitlines()
        promises.violations += [f"R11: {line[4:]}" for line in lines if line.startswith("bad ")]
        count = [int(line.split()[1]) for line in lines if line.startswith("replayed ")]
        if process.returncode or not count:
            promises.violated("R11", f"the replayer ended with {process.returncode}")
        self.counts["replays"] = sum(count)

    def tell(self, promises):
        failures = collections.Counter()
        for run, events in promises.histories.items():
            for event in events:
                if event.event_type == KIND.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                    attributes = event.workflow_task_failed_event_attributes
                    failures[enums.WorkflowTaskFailedCause.Name(attributes.cause)] += 1
                    if attributes.cause == NON_DETERMINISM:
                        promises.violated("R11", f"{promises.workflows[run]}/{run}: {attributes.failure.message}")
                self.counts["timers"] += event.event_type == KIND.EVENT_TYPE_TIMER_FIRED
                self.counts["time-outs of activities"] += event.event_type == KIND.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT
                self.counts["time-outs of workflow tasks"] += event.event_type == KIND.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT
                self.counts["time-outs of runs"] += event.event_type == KIND.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT
        return failures

    async def judged(self, since_ns):
        promises = Promises(self.arguments.slack_ns, since_ns)
        with open(self.log) as lines:
            entries = [json.loads(line) for line in lines if line.endswith("\n")]
        service = (await ServiceClient.connect(ConnectConfig(target_host=self.arguments.address, lazy=True))).workflow_service
        reader = Reader(service)
        await reader.all(sorted({(entry["workflow"], entry["run"]) for entry in entries if entry["what"] == "start" and entry["outcome"] == "ok"}),
                         promises)
        promises.calls(entries)
        promises.families()
        promises.one_at_a_time(await reader.listed(QUEUE, promises.histories.keys()))
        wait = promises.tails.judge(promises)
        side_effects(promises, self.effects)
        await self.replayed(promises)
        self.counts["ended"] = sum(entry["what"] == "result" and entry["outcome"] == "ok" for entry in entries)
        self.counts["acknowledged calls"] = sum(entry.get("outcome") == "ok" for entry in entries)
        self.counts["calls in doubt"] = sum(entry.get("outcome") == "unknown" for entry in entries)
        return promises.violations, self.tell(promises), wait


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--starters", type=int, default=8)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--slack-ns", type=int, default=0, help="by how much servers' clocks are made to differ")
    parser.add_argument("--program", required=True, help="tests/sdk/go/chaos, built")
    parser.add_argument("--folder", required=True, help="for the log")
    load = Load(parser.parse_args())
    await load.begin()
    workers = [asyncio.create_task(load.worker()) for _ in range(load.arguments.workers)]
    ending = asyncio.create_task(told_to_end())
    await asyncio.wait([ending, *workers], return_when=asyncio.FIRST_COMPLETED)
    load.enough.set()
    began = time.monotonic()
    load.client.stdin.close()
    status = await load.client.wait()
    await asyncio.gather(*workers)
    drained = time.monotonic()
    wrong, failures, wait = await load.judged(ending.result() if ending.done() else time.time_ns())
    for worker in load.workers:
        worker.kill()
        await worker.wait()
    wrong += [f"the clients ended with {status}"] * bool(status)
    print(json.dumps({"wrong": wrong[:50], "counts": load.counts, "failures": failures, "wait_s": wait, "drain_s": drained - began,
                      "judge_s": time.monotonic() - drained, "violations": len(wrong)}))


if __name__ == "__main__":
    asyncio.run(main())
