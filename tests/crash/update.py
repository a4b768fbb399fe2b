# SPDX-License-Identifier: MIT
"""Updates and SIGKILL, with the SDK's own worker and client: an update that is asked for until it is answered is done once,
however often the server dies. Each adds one to a counter and gets the new total, so that the answers of n updates are 1 to n;
what a validator rejects leaves no trace; every history replays."""

import argparse
import asyncio
import os
import pathlib
import random
import sys
import tempfile
import time
from datetime import timedelta

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "sdk" / "python"))

import cases_update  # noqa: E402
import flows  # noqa: E402
from server import Server, free_port  # noqa: E402
from temporalio.api.enums.v1 import EventType  # noqa: E402
from temporalio.client import Client, WorkflowUpdateFailedError  # noqa: E402
from temporalio.exceptions import ApplicationError  # noqa: E402
from temporalio.service import RPCError, RPCStatusCode  # noqa: E402
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker  # noqa: E402

QUEUE = "updated"
PATIENCE_S = 120
# A dead or young server; a caller whose update was only admitted when it died; ten in flight already.
TRANSIENT = {RPCStatusCode.UNAVAILABLE, RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.ABORTED,
             RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.UNKNOWN}


async def insist(make):
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await make()
        except RPCError as error:
            if error.status not in TRANSIENT or time.monotonic() > end:
                raise
        except asyncio.TimeoutError:
            if time.monotonic() > end:
                raise
        except Exception as error:
            # The SDK's word for an update whose call it gave up.
            if type(error).__name__ != "WorkflowUpdateRPCTimeoutOrCancelledError" or time.monotonic() > end:
                raise
        await asyncio.sleep(0.05)


async def caller(handle, name, enough, answers, dice):
    n = 0
    while not enough.is_set():
        bad = dice.random() < 0.2
        update = f"{name}-{n}{'-bad' if bad else ''}"
        n += 1
        try:
            answer = await insist(lambda: handle.execute_update(
                cases_update.Counter.add, -1 if bad else 1, id=update, rpc_timeout=timedelta(seconds=10)))
            answers.append((update, answer))
        except WorkflowUpdateFailedError as failed:
            if not bad or not isinstance(failed.cause, ApplicationError):
                raise
        await asyncio.sleep(dice.uniform(0, 0.05))


def judge(name, history, answers, total):
    wrong = []
    if sorted(a for _, a in answers) != list(range(1, len(answers) + 1)):
        wrong.append(f"{name}: the answers of {len(answers)} updates are not 1 to {len(answers)}")
    if total != len(answers):
        wrong.append(f"{name}: {len(answers)} updates were acknowledged, the run says {total}")
    accepted, completed = [], 0
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
            accepted.append(event.workflow_execution_update_accepted_event_attributes.accepted_request.meta.update_id)
        completed += event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED
    if sorted(accepted) != sorted(u for u, _ in answers) or completed != len(accepted):
        wrong.append(f"{name}: {len(accepted)} accepted and {completed} completed in the history, {len(answers)} asked for")
    ids = [event.event_id for event in history.events]
    if ids != list(range(1, len(ids) + 1)):
        wrong.append(f"{name}: the history has gaps")
    return wrong


async def campaign(arguments, folder):
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**31)
    dice = random.Random(seed)
    server = Server(arguments.tenond, folder, free_port(arguments.port), arguments.server_arg)
    server.start()
    client = await Client.connect(server.address)
    worker = Worker(client, task_queue=QUEUE, workflows=[cases_update.Counter], activities=[flows.echo],
                    workflow_runner=UnsandboxedWorkflowRunner(), graceful_shutdown_timeout=timedelta(0))
    wrong, count = [], 0
    async with worker:
        handles = [await client.start_workflow(cases_update.Counter.run, 0, id=f"counter-{i}", task_queue=QUEUE)
                   for i in range(3)]
        enough, answers = asyncio.Event(), {h.id: [] for h in handles}
        callers = [asyncio.create_task(caller(h, f"{h.id}-{k}", enough, answers[h.id], random.Random(dice.random())))
                   for h in handles for k in range(5)]
        for _ in range(arguments.kills):
            await asyncio.sleep(dice.uniform(0.3, 1.5))
            server.kill()
            await asyncio.sleep(dice.uniform(0, 0.5))
            if not any(server.start() for _ in range(5)):
                print(f"seed {seed}: tenond does not start again; see {folder}/tenond.log")
                return 1
        await asyncio.sleep(0.5)
        enough.set()
        await asyncio.gather(*callers)
        for handle in handles:
            await insist(lambda h=handle: h.signal(cases_update.Counter.finish))
            total = await insist(lambda h=handle: asyncio.wait_for(h.result(), 30))
            history = await insist(handle.fetch_history)
            wrong += judge(handle.id, history, answers[handle.id], total)
            count += len(answers[handle.id])
            replayed = await Replayer(workflows=[cases_update.Counter], workflow_runner=UnsandboxedWorkflowRunner()
                                      ).replay_workflow(history, raise_on_replay_failure=False)
            if replayed.replay_failure:
                wrong.append(f"{handle.id} does not replay: {replayed.replay_failure}")
    for line in wrong[:10]:
        print("  " + line)
    print(f"seed {seed}: {count} updates acknowledged, {arguments.kills} kills, {len(wrong)} violations")
    return 1 if wrong or server.stop() != 0 else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--port", type=int, default=17830)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--server-arg", action="append", default=[])
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="tenon-update.")
    status = asyncio.run(campaign(arguments, folder))
    if status:
        print(f"  kept: {folder}")
    else:
        __import__("shutil").rmtree(folder)
    sys.stdout.flush()
    os._exit(status)  # the SDK's native part is not always at rest when the interpreter is torn down


if __name__ == "__main__":
    main()
