# SPDX-License-Identifier: MIT
"""The sweep: one fixed scenario, killed at the N-th write, sync and send for every N until it ends unharmed.

strace does the killing (inject=CALL:signal=KILL:when=N), so "at any point" is a loop and not a hope."""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile

from judge import judge
from server import Server, free_port
from world import Log, World

CALLS = ("pwrite64", "fdatasync", "sendmsg", "write", "writev")


class Fixed(World):
    """Always the same: three workflows with signals, a timer, activities; workers that answer until all is done."""

    async def scenario(self):
        plans = [{"signals": 2, "timer": 0.05, "activities": 1, "once": False},
                 {"signals": 1, "timer": 0, "activities": 1, "once": True},
                 {"signals": 0, "timer": 0, "activities": 2, "once": False}]

        async def one(n, plan):
            workflow_id = f"fixed-{n}"
            if await self.start(workflow_id, plan, f"request-{n}") is None:
                return
            for number in range(1, plan["signals"] + 1):
                await self.call("signal", "signal_workflow_execution", self.signal_request(workflow_id, number),
                                workflow=workflow_id, number=number)
        await asyncio.gather(*(one(n, plan) for n, plan in enumerate(plans)))

    def signal_request(self, workflow_id, number):
        import temporalio.api.common.v1 as common
        import temporalio.api.workflowservice.v1 as ws

        from world import NAMESPACE, payloads
        return ws.SignalWorkflowExecutionRequest(
            namespace=NAMESPACE, workflow_execution=common.WorkflowExecution(workflow_id=workflow_id),
            signal_name="number", input=payloads(number), request_id=f"{workflow_id}/{number}", identity="client")


async def workers_for(world, condition, seconds):
    """Lets workers run until the condition holds or the time is over."""
    tasks = [asyncio.create_task(world.workflow_worker(f"w{i}")) for i in range(2)]
    tasks += [asyncio.create_task(world.activity_worker(f"a{i}")) for i in range(2)]
    for _ in range(int(seconds / 0.02)):
        if condition():
            break
        await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def one_point(arguments, call, n):
    """Returns (did the kill happen, violations)."""
    folder = tempfile.mkdtemp(prefix="tenon-sweep.")
    log_path, effects_path = os.path.join(folder, "log"), os.path.join(folder, "effects")
    log, effects = Log(log_path), Log(effects_path)
    port = free_port(arguments.port)
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
              f"inject={call}:signal=KILL:when={n}"]
    server = Server(arguments.tenond, folder, port, arguments.server_arg, wrapper=strace)
    closed = lambda world: (lambda: world.closed >= 3 or not server.alive())
    if server.start():
        world = Counting(server.address, log, effects, 1)
        await world.connect()
        await world.scenario()
        await workers_for(world, closed(world), 8)
        world.stop.set()
    killed = not server.alive()
    if not killed:
        server.kill()
    server = Server(arguments.tenond, folder, port, arguments.server_arg)
    if not server.start():
        return killed, ["the server does not start again"]
    world = Counting(server.address, log, effects, 2)
    await world.connect()
    await world.scenario()  # request ids make it the same scenario, gone on with
    await workers_for(world, lambda: world.closed >= 3, 4)
    verdict, _, _ = await judge(server.address, log_path, effects_path, must_end=False)
    status = server.stop()
    if status != 0:
        verdict.violations.append(f"exit status {status} after SIGTERM")
    if not verdict.violations:
        shutil.rmtree(folder)
    else:
        verdict.violations.append(f"kept: {folder}")
    return killed, verdict.violations


class Counting(Fixed):
    closed = 0

    async def answer_workflow(self, task, name):
        before = self.acks
        from world import decide
        closing = any(c.HasField("complete_workflow_execution_command_attributes")
                      for c in decide(task.history.events))
        await super().answer_workflow(task, name)
        if closing and self.acks > before:
            self.closed += 1


async def campaign(arguments):
    bad = points = 0
    for call in arguments.calls.split(","):
        n, unharmed = 1, 0
        while unharmed < 1 and n <= arguments.most:
            killed, violations = await one_point(arguments, call, n)
            points += killed
            unharmed += not killed
            for violation in violations:
                print(f"  {call} {n}: {violation}")
            bad += bool(violations)
            n += arguments.step
        print(f"{call}: swept to {n - arguments.step}{'' if unharmed else ' (cut off)'}", flush=True)
    print(f"{points} points of death, {bad} of them with violations")
    return 1 if bad or not points else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--calls", default=",".join(CALLS))
    parser.add_argument("--step", type=int, default=1, help="every STEP-th call only")
    parser.add_argument("--most", type=int, default=10000)
    parser.add_argument("--port", type=int, default=17350)
    parser.add_argument("--server-arg", action="append", default=[])
    sys.exit(asyncio.run(campaign(parser.parse_args())))


if __name__ == "__main__":
    main()
