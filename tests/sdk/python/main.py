# SPDX-License-Identifier: MIT
"""The Python SDK against a server: real scenarios, then a replay of every history they made.

    main.py --address HOST:PORT [--namespace NS] [--only PATTERN]

One line a case, `python: N passed, N failed` at the end."""

import argparse
import asyncio
import concurrent.futures
import fnmatch
import logging
import os
import sys
import threading
import time
from datetime import timedelta

from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker

import cases_activity
import cases_deploy
import cases_flow
import cases_manage
import cases_operate
import cases_queues
import cases_reset
import cases_schedule
import cases_update
import cases_worker
import flows
from harness import Env, Score, describe_error, reachable_runs, run_cases

logging.disable(logging.CRITICAL)
LIMIT_S = 240


async def replay(env, score):
    """Every history, of every run reachable from what was started, through the SDK's replayer."""
    classes = flows.WORKFLOWS + list(env.replay_classes.values())
    replayer = Replayer(workflows=classes, workflow_runner=UnsandboxedWorkflowRunner())
    runs = await reachable_runs(env)
    bad = 0
    for workflow_id, run_id, history in runs:
        if workflow_id in env.not_replayed:
            continue
        try:
            result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
            if result.replay_failure:
                raise result.replay_failure
        except Exception as error:
            bad += 1
            score.say(False, f"replay of {workflow_id} {run_id}", describe_error(error))
    score.say(not bad and runs, f"replay of {len(runs)} histories", f"{bad} failed")


def watchdog(score):
    """A server that leaves the SDK hanging must not hang the test: it ends, with a failure."""
    def expired():
        score.say(False, "the whole run", f"not over after {LIMIT_S} s")
        score.close()
        os._exit(1)
    timer = threading.Timer(LIMIT_S, expired)
    timer.daemon = True
    timer.start()


async def run(arguments):
    env = Env(arguments.address, arguments.namespace)
    await env.connect()
    await cases_flow.prepare(env)
    cases = {}
    for module in (cases_activity, cases_deploy, cases_flow, cases_manage, cases_operate, cases_queues, cases_reset,
                   cases_schedule, cases_update, cases_worker):
        for name, function in vars(module).items():
            if name.startswith("case_") and fnmatch.fnmatch(name[5:], arguments.only or "*"):
                cases[name[5:]] = function
    score = Score("python")
    watchdog(score)
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        worker = Worker(env.client, task_queue=env.queue, workflows=flows.WORKFLOWS,
                        activities=flows.ACTIVITIES, activity_executor=pool,
                        workflow_runner=UnsandboxedWorkflowRunner(),
                        graceful_shutdown_timeout=timedelta(0))
        async with worker:
            await run_cases(env, cases, score)
    await replay(env, score)
    print(f"# {time.monotonic() - began:.1f} s", file=sys.stderr)
    return score.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default="127.0.0.1:7233")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--only", help="a case's name, or a pattern")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # The SDK's native part is not always at rest when the interpreter is torn down.
    os._exit(code)
