# SPDX-License-Identifier: MIT
"""The temporal CLI as a newcomer uses it: each command's exit code and the fields of its JSON.
A Python worker with the workflows of ../python stands behind."""

import argparse
import asyncio
import json
import os
import pathlib
import sys
from datetime import timedelta

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python"))

import operate  # noqa: E402
import cases_update  # noqa: E402
import flows  # noqa: E402
from harness import Env, Score, run_cases  # noqa: E402
from temporalio.worker import UnsandboxedWorkflowRunner, Worker  # noqa: E402

COMMAND_LIMIT_S = 40


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        try:
            return json.loads(self.out)
        except ValueError:
            # Lists come as one JSON value after another in some commands.
            return [json.loads(line) for line in self.out.splitlines() if line.strip()]


async def cli(env, *words, good=True, namespace=True, text=False):
    """Runs one command; its exit code must be as expected."""
    line = [env.cli, *words, "--address", env.address]
    if namespace:
        line += ["--namespace", env.namespace]
    if not text:
        line += ["--output", "json"]
    process = await asyncio.create_subprocess_exec(
        *line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL)
    try:
        out, err = await asyncio.wait_for(process.communicate(), COMMAND_LIMIT_S)
    except asyncio.TimeoutError:
        process.kill()
        raise AssertionError(f"temporal {' '.join(words)}: no end")
    result = Result(process.returncode, out.decode(), err.decode())
    assert (result.code == 0) == good, \
        f"temporal {' '.join(words)}: exit {result.code}: {result.err[-400:]} {result.out[-200:]}"
    return result


async def start(env, kind, *inputs, queue=None, name=None, more=()):
    name = name or env.id(kind)
    words = ["workflow", "start", "--type", kind, "--task-queue", queue or env.queue,
             "--workflow-id", name, *more]
    for value in inputs:
        words += ["--input", json.dumps(value)]
    result = await cli(env, *words)
    return name, result.json


def events_of(history):
    return [e["eventType"].replace("EVENT_TYPE_", "") for e in history["events"]]


async def case_start_and_result(env):
    name, started = await start(env, "Hello", "cli")
    assert started["workflowId"] == name and started["runId"] and started["type"] == "Hello", started
    assert started["namespace"] == env.namespace and started["taskQueue"] == env.queue, started
    result = (await cli(env, "workflow", "result", "--workflow-id", name)).json
    assert result["status"] == "COMPLETED" and result["result"] == "echo cli", result


async def case_start_twice(env):
    name, _ = await start(env, "Waiting")
    failed = await cli(env, "workflow", "start", "--type", "Waiting", "--task-queue", env.queue,
                       "--workflow-id", name, "--fail-existing", good=False)
    assert "already" in failed.err.lower(), failed.err
    await cli(env, "workflow", "terminate", "--workflow-id", name)


async def case_execute(env):
    result = (await cli(env, "workflow", "execute", "--type", "Hello", "--task-queue", env.queue,
                        "--workflow-id", env.id("execute"), "--input", '"there"')).json
    assert result["status"] == "COMPLETED" and result["result"] == "echo there", result


async def case_execute_failing(env):
    failed = await cli(env, "workflow", "execute", "--type", "Fails", "--task-queue", env.queue,
                       "--workflow-id", env.id("execute"), good=False)
    assert failed.json["status"] == "FAILED", failed.out
    assert "on purpose" in failed.out, failed.out


async def case_execute_detailed_text(env):
    shown = await cli(env, "workflow", "execute", "--type", "Hello", "--task-queue", env.queue,
                      "--workflow-id", env.id("execute"), "--input", '"x"', "--detailed", text=True)
    assert "COMPLETED" in shown.out and "WorkflowExecutionCompleted" in shown.out, shown.out


async def case_list_and_count(env):
    names = [(await start(env, "Waiting", name=env.id("listed")))[0] for _ in range(3)]
    await cli(env, "workflow", "terminate", "--workflow-id", names[0])
    prefix = f"{env.word}-listed"
    query = f"WorkflowId STARTS_WITH '{prefix}'"

    async def counted():
        found = (await cli(env, "workflow", "count", "--query", query)).json
        running = (await cli(env, "workflow", "count", "--query",
                             query + " AND ExecutionStatus = 'Running'")).json
        return int(found["count"]) == 3 and int(running["count"]) == 2
    await env.until(counted, "count of the three", 20, 0.3)
    rows = (await cli(env, "workflow", "list", "--query", query)).json
    assert sorted(r["execution"]["workflowId"] for r in rows) == sorted(names), rows
    by_name = {r["execution"]["workflowId"]: r for r in rows}
    assert by_name[names[0]]["status"] == "WORKFLOW_EXECUTION_STATUS_TERMINATED", rows
    assert by_name[names[1]]["status"] == "WORKFLOW_EXECUTION_STATUS_RUNNING", rows
    assert by_name[names[1]]["type"]["name"] == "Waiting" and by_name[names[1]]["startTime"], rows
    limited = (await cli(env, "workflow", "list", "--query", query, "--limit", "2")).json
    assert len(limited) == 2, limited
    groups = (await cli(env, "workflow", "count", "--query",
                        query + " GROUP BY ExecutionStatus")).json
    assert len(groups["groups"]) == 2, groups
    shown = await cli(env, "workflow", "list", "--query", query, text=True)
    assert "Terminated" in shown.out and "Running" in shown.out, shown.out
    refused = await cli(env, "workflow", "list", "--query", "NoSuch = 'x'", good=False)
    assert "NoSuch" in refused.err or "invalid" in refused.err.lower(), refused.err
    for name in names[1:]:
        await cli(env, "workflow", "terminate", "--workflow-id", name)


async def case_show(env):
    name, _ = await start(env, "Hello", "shown")
    await cli(env, "workflow", "result", "--workflow-id", name)
    history = (await cli(env, "workflow", "show", "--workflow-id", name)).json
    kinds = events_of(history)
    assert kinds[0] == "WORKFLOW_EXECUTION_STARTED", kinds
    assert kinds[-1] == "WORKFLOW_EXECUTION_COMPLETED" and "ACTIVITY_TASK_COMPLETED" in kinds, kinds
    shown = await cli(env, "workflow", "show", "--workflow-id", name, text=True)
    assert "WorkflowExecutionCompleted" in shown.out, shown.out
    assert "echo shown" in shown.out, shown.out


async def case_show_follow(env):
    name, _ = await start(env, "Waiting")
    following = asyncio.create_task(cli(env, "workflow", "show", "--workflow-id", name, "--follow",
                                        text=True))
    await asyncio.sleep(1)
    assert not following.done()
    await cli(env, "workflow", "signal", "--workflow-id", name, "--name", "end")
    shown = await following
    assert "WorkflowExecutionCompleted" in shown.out, shown.out


async def case_describe(env):
    name, started = await start(env, "CallOne", {"name": "hangs", "args": [2], "attempts": 1},
                                more=("--memo", 'note="kept"'))

    async def pending():
        found = (await cli(env, "workflow", "describe", "--workflow-id", name)).json
        return found.get("pendingActivities") and found
    found = await env.until(pending, "a pending activity", 20, 0.2)
    info = found["workflowExecutionInfo"]
    assert info["execution"] == {"workflowId": name, "runId": started["runId"]}, info
    assert info["status"] == "WORKFLOW_EXECUTION_STATUS_RUNNING" and info["startTime"], info
    assert info["type"]["name"] == "CallOne" and info["memo"]["fields"]["note"], info
    assert found["executionConfig"]["taskQueue"]["name"] == env.queue, found
    assert found["pendingActivities"][0]["activityType"]["name"] == "hangs", found
    await cli(env, "workflow", "result", "--workflow-id", name)
    found = (await cli(env, "workflow", "describe", "--workflow-id", name)).json
    info = found["workflowExecutionInfo"]
    assert info["status"] == "WORKFLOW_EXECUTION_STATUS_COMPLETED" and info["closeTime"], info
    assert "pendingActivities" not in found, found
    shown = await cli(env, "workflow", "describe", "--workflow-id", name, text=True)
    assert "Execution Info" in shown.out and "COMPLETED" in shown.out, shown.out


async def case_describe_missing(env):
    failed = await cli(env, "workflow", "describe", "--workflow-id", env.id("none"), good=False)
    assert "not found" in failed.err.lower(), failed.err


async def case_signal_and_query(env):
    name, _ = await start(env, "Waiting", "first")
    await cli(env, "workflow", "signal", "--workflow-id", name, "--name", "add", "--input",
              '"by cli"')
    found = (await cli(env, "workflow", "query", "--workflow-id", name, "--type", "all")).json
    assert found["queryResult"] == [["first", "by cli"]], found
    failed = await cli(env, "workflow", "query", "--workflow-id", name, "--type", "broken",
                       good=False)
    assert "query on fire" in failed.err, failed.err
    failed = await cli(env, "workflow", "query", "--workflow-id", name, "--type", "none", good=False)
    await cli(env, "workflow", "signal", "--workflow-id", name, "--name", "end")
    result = (await cli(env, "workflow", "result", "--workflow-id", name)).json
    assert result["result"] == ["first", "by cli"], result
    refused = (await cli(env, "workflow", "query", "--workflow-id", name, "--type", "all",
                         "--reject-condition", "not_open", good=False))
    assert "ompleted" in refused.err or "ejected" in refused.err, refused.err
    failed = await cli(env, "workflow", "signal", "--workflow-id", name, "--name", "add", good=False)
    assert "already completed" in failed.err or "not found" in failed.err.lower(), failed.err


async def case_update(env):
    name, _ = await start(env, "Counter", 1)
    words = ["--workflow-id", name, "--name", "add"]
    done = (await cli(env, "workflow", "update", "execute", *words, "--input", "2",
                      "--update-id", "first")).json
    assert done["result"] == 3 and done["updateId"] == "first", done
    refused = await cli(env, "workflow", "update", "execute", *words, "--input", "-1", good=False)
    assert "less than nothing" in refused.err, refused.err
    begun = (await cli(env, "workflow", "update", "start", "--workflow-id", name, "--name",
                       "add_when_open", "--input", "1", "--update-id", "second",
                       "--wait-for-stage", "accepted")).json
    assert begun["updateId"] == "second", begun
    about = ["--workflow-id", name, "--update-id", "second"]
    shown = (await cli(env, "workflow", "update", "describe", *about)).json
    assert shown["stage"] == "Accepted", shown
    await cli(env, "workflow", "signal", "--workflow-id", name, "--name", "release")
    result = (await cli(env, "workflow", "update", "result", *about)).json
    assert result["result"] == 4, result
    shown = (await cli(env, "workflow", "update", "describe", *about)).json
    assert shown["stage"] == "Completed" and shown["result"] == 4, shown
    await cli(env, "workflow", "update", "describe", "--workflow-id", name, "--update-id", "none",
              good=False)
    await cli(env, "workflow", "signal", "--workflow-id", name, "--name", "finish")
    await cli(env, "workflow", "update", "execute", *words, "--input", "2", good=False)


async def case_update_with_start(env):
    name = env.id("uws")
    words = ["workflow", "execute-update-with-start", "--type", "Counter", "--task-queue", env.queue,
             "--workflow-id", name, "--update-name", "add", "--update-input", "2",
             "--id-conflict-policy"]
    done = (await cli(env, *words, "UseExisting", "--input", "1")).json
    assert done["updateResult"] == 3, done
    done = (await cli(env, *words, "UseExisting", "--input", "1")).json
    assert done["updateResult"] == 5, done
    await cli(env, *words, "Fail", "--input", "1", good=False)
    await cli(env, "workflow", "terminate", "--workflow-id", name)


async def case_signal_with_start(env):
    name = env.id("sws")
    started = (await cli(env, "workflow", "signal-with-start", "--type", "Waiting", "--task-queue",
                         env.queue, "--workflow-id", name, "--signal-name", "end")).json
    assert started["workflowId"] == name, started
    result = (await cli(env, "workflow", "result", "--workflow-id", name)).json
    assert result["status"] == "COMPLETED", result


async def case_stack(env):
    name, _ = await start(env, "Waiting")
    shown = await cli(env, "workflow", "stack", "--workflow-id", name, text=True)
    assert "Waiting" in shown.out, shown.out
    await cli(env, "workflow", "terminate", "--workflow-id", name)


async def case_cancel(env):
    name, _ = await start(env, "Cancelable")
    await cli(env, "workflow", "cancel", "--workflow-id", name)
    failed = await cli(env, "workflow", "result", "--workflow-id", name, good=False)
    assert failed.json["status"] == "CANCELED", failed.out
    failed = await cli(env, "workflow", "cancel", "--workflow-id", env.id("none"), good=False)
    assert "not found" in failed.err.lower(), failed.err


async def case_terminate(env):
    name, _ = await start(env, "Waiting")
    await cli(env, "workflow", "terminate", "--workflow-id", name, "--reason", "by cli")
    found = (await cli(env, "workflow", "show", "--workflow-id", name)).json
    last = found["events"][-1]
    assert last["workflowExecutionTerminatedEventAttributes"]["reason"] == "by cli", last
    failed = await cli(env, "workflow", "terminate", "--workflow-id", name, good=False)
    assert "already completed" in failed.err or "not found" in failed.err.lower(), failed.err


async def case_start_with_options(env):
    name, _ = await start(env, "Sleeps", 60, more=(
        "--run-timeout", "1s", "--execution-timeout", "90s", "--task-timeout", "1s",
        "--static-summary", "a summary"))
    failed = await cli(env, "workflow", "result", "--workflow-id", name, good=False)
    assert failed.json["status"] == "TIMEOUT", failed.out
    first = (await cli(env, "workflow", "show", "--workflow-id", name)).json["events"][0]
    attributes = first["workflowExecutionStartedEventAttributes"]
    assert attributes["workflowRunTimeout"] == "1s", attributes
    assert attributes["workflowExecutionTimeout"] == "90s", attributes
    assert attributes["workflowTaskTimeout"] == "1s" and first["userMetadata"], first


async def case_task_queue_describe(env):
    await start(env, "Hello", "x")

    async def polled():
        found = (await cli(env, "task-queue", "describe", "--task-queue", env.queue)).json
        kinds = {p["taskQueueType"] for p in found.get("pollers") or []}
        return {"workflow", "activity"} <= kinds and found
    found = await env.until(polled, "pollers of both kinds", 20, 0.3)
    assert found["pollers"][0]["identity"] and found["pollers"][0]["lastAccessTime"], found
    shown = await cli(env, "task-queue", "describe", "--task-queue", env.queue, text=True)
    assert "Pollers" in shown.out, shown.out
    old = await cli(env, "task-queue", "describe", "--task-queue", env.queue, "--legacy-mode")
    assert old.json["pollers"], old.out


async def case_operator_namespace(env):
    name = env.id("namespace")
    made = await cli(env, "operator", "namespace", "create", "--namespace", name, "--retention",
                     "48h", "--description", "by cli", "--email", "a@b", namespace=False, text=True)
    assert name in made.out, made.out

    async def described():
        result = await cli_any(env, "operator", "namespace", "describe", "--namespace", name)
        return result.code == 0 and result.json
    found = await env.until(described, "the new namespace", 20, 0.3)
    assert found["namespaceInfo"]["name"] == name, found
    assert found["namespaceInfo"]["description"] == "by cli", found
    assert found["config"]["workflowExecutionRetentionTtl"] == "172800s", found
    again = await cli(env, "operator", "namespace", "create", "--namespace", name, namespace=False,
                      text=True, good=False)
    assert "already exists" in again.err.lower(), again.err
    await cli(env, "operator", "namespace", "update", "--namespace", name, "--description",
              "changed", "--retention", "72h", namespace=False, text=True)

    async def changed():
        found = await described()
        return (found["namespaceInfo"]["description"] == "changed"
                and found["config"]["workflowExecutionRetentionTtl"] == "259200s")
    await env.until(changed, "the changed namespace", 20, 0.3)
    rows = (await cli(env, "operator", "namespace", "list", namespace=False)).json
    names = [r["namespaceInfo"]["name"] for r in rows]
    assert name in names and "default" in names, names
    none = await cli(env, "operator", "namespace", "describe", "--namespace", env.id("none"),
                     namespace=False, good=False)
    assert "not found" in none.err.lower(), none.err


async def cli_any(env, *words):
    try:
        return await cli(env, *words, namespace=False)
    except AssertionError:
        return Result(1, "{}", "")


async def case_operator_search_attributes(env):
    name = "Cli" + env.word
    await cli(env, "operator", "search-attribute", "create", "--name", name, "--type", "Keyword",
              text=True)
    shown = await cli(env, "operator", "search-attribute", "list")
    assert name in shown.out and "WorkflowType" in shown.out, shown.out


async def case_operator_cluster_health(env):
    shown = await cli(env, "operator", "cluster", "health", namespace=False)
    assert shown.json["status"] == "SERVING", shown.out


async def case_unreachable_server(env):
    gone = Env("127.0.0.1:1", env.namespace)
    gone.cli = env.cli
    failed = await cli(gone, "workflow", "list", "--client-connect-timeout", "2s", good=False)
    assert failed.code == 1, failed.code


async def run(arguments):
    env = Env(arguments.address, arguments.namespace)
    env.word = "cli" + env.word
    env.queue = env.word + "-queue"
    env.cli = arguments.cli
    await env.connect()
    score = Score("cli")
    cases = {name[5:]: f for name, f in globals().items() if name.startswith("case_")
             and (not arguments.only or arguments.only in name)}
    cases.update({name: f for name, f in operate.cases(cli, start).items()
                  if not arguments.only or arguments.only in name})
    worker = Worker(env.client, task_queue=env.queue, workflows=flows.WORKFLOWS + cases_update.WORKFLOWS,
                    activities=[a for a in flows.ACTIVITIES if a is not flows.echo_in_thread],
                    workflow_runner=UnsandboxedWorkflowRunner(),
                    graceful_shutdown_timeout=timedelta(0))
    async with worker:
        await run_cases(env, cases, score, at_once=4)
    return score.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cli", required=True, help="the temporal program")
    parser.add_argument("--address", default="127.0.0.1:7233")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--only")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # The SDK's native part is not always at rest when the interpreter is torn down.
    os._exit(code)
