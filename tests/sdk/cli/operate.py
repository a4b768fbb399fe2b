# SPDX-License-Identifier: MIT
"""The CLI's commands about activities of their own, operations on activities, and pausing workflows."""

import asyncio

SHORT = ("--start-to-close-timeout", "20s")


def cases(cli, start):
    """The cases, with the tools of main.py."""

    async def begin(env, kind, *inputs, queue=None, more=()):
        name = env.id("solo")
        words = ["activity", "start", "--activity-id", name, "--type", kind, "--task-queue",
                 queue or env.queue, *SHORT, *more]
        for value in inputs:
            words += ["--input", value]
        return name, (await cli(env, *words)).json

    async def case_activity_start_and_result(env):
        name, started = await begin(env, "echo", '"by cli"')
        assert started["activityId"] == name and started["runId"], started
        found = (await cli(env, "activity", "result", "--activity-id", name)).json
        assert found["result"] == "echo by cli", found
        found = (await cli(env, "activity", "describe", "--activity-id", name)).json
        assert found["info"]["status"] == "ACTIVITY_EXECUTION_STATUS_COMPLETED", found

    async def case_activity_execute(env):
        done = (await cli(env, "activity", "execute", "--activity-id", env.id("solo"), "--type", "echo",
                          "--task-queue", env.queue, *SHORT, "--input", '"x"')).json
        assert done["result"] == "echo x", done

    async def case_activity_list_count_delete(env):
        queue = env.id("nobody")
        name, _ = await begin(env, "echo", '"x"', queue=queue)
        query = f"TaskQueue = '{queue}'"

        async def counted():
            return (await cli(env, "activity", "count", "--query", query)).json.get("count") == "1"
        await env.until(counted, "the activity to be counted", 20, 0.2)
        rows = (await cli(env, "activity", "list", "--query", query)).json
        assert [r["activityId"] for r in rows] == [name], rows
        await cli(env, "activity", "delete", "--activity-id", name, "--yes", text=True)

        async def gone():
            return (await cli(env, "activity", "count", "--query", query)).json.get("count", "0") == "0"
        await env.until(gone, "the activity to be gone", 20, 0.2)

    async def case_activity_cancel_and_terminate(env):
        queue = env.id("nobody")
        name, _ = await begin(env, "echo", '"x"', queue=queue)
        await cli(env, "activity", "cancel", "--activity-id", name, "--reason", "why", text=True)
        failed = await cli(env, "activity", "result", "--activity-id", name, good=False)
        assert "cancel" in (failed.out + failed.err).lower(), failed.out
        name, _ = await begin(env, "echo", '"x"', queue=queue)
        await cli(env, "activity", "terminate", "--activity-id", name, "--reason", "why", text=True)
        found = (await cli(env, "activity", "describe", "--activity-id", name)).json
        assert found["info"]["status"] == "ACTIVITY_EXECUTION_STATUS_TERMINATED", found

    async def case_activity_complete_and_fail(env):
        queue = env.id("nobody")
        name, _ = await begin(env, "echo", '"x"', queue=queue)
        await cli(env, "activity", "complete", "--activity-id", name, "--result", '"by hand"', text=True)
        found = (await cli(env, "activity", "result", "--activity-id", name)).json
        assert found["result"] == "by hand", found
        failed = await cli(env, "activity", "fail", "--activity-id", name, good=False, text=True)
        assert "not found" in failed.err, failed.err

    async def pending(env, name):
        async def found():
            shown = (await cli(env, "workflow", "describe", "--workflow-id", name)).json
            return shown.get("pendingActivities")
        return (await env.until(found, "a pending activity", 20, 0.2))[0]

    async def case_activity_operations_of_a_workflow(env):
        name, _ = await start(env, "CallOne", {"name": "echo", "args": ["x"], "attempts": 5,
                                               "queue": env.id("nobody")})
        one = await pending(env, name)
        which = ("--workflow-id", name, "--activity-id", one["activityId"])
        await cli(env, "activity", "pause", *which, "--reason", "look", text=True)
        one = await pending(env, name)
        assert one["paused"] and one["state"] == "PENDING_ACTIVITY_STATE_PAUSED", one
        await cli(env, "activity", "reset", *which, "--keep-paused", text=True)
        await cli(env, "activity", "update-options", *which, "--task-queue", env.queue, text=True)
        await cli(env, "activity", "unpause", *which, text=True)
        assert (await cli(env, "workflow", "result", "--workflow-id", name)).json["result"] == "echo x"

    async def case_activity_operations_of_its_own(env):
        name, _ = await begin(env, "echo", '"x"', queue=env.id("nobody"))
        which = ("--activity-id", name)
        await cli(env, "activity", "pause", *which, text=True)
        found = (await cli(env, "activity", "describe", *which)).json
        assert found["info"]["status"] == "ACTIVITY_EXECUTION_STATUS_PAUSED", found
        await cli(env, "activity", "update-options", *which, "--task-queue", env.queue, text=True)
        await cli(env, "activity", "reset", *which, "--keep-paused", text=True)
        await cli(env, "activity", "unpause", *which, text=True)
        assert (await cli(env, "activity", "result", *which)).json["result"] == "echo x"

    async def case_workflow_pause_and_unpause(env):
        name, _ = await start(env, "Waiting")
        await cli(env, "workflow", "pause", "--workflow-id", name, "--reason", "maintenance", text=True)
        # (`workflow describe` of this CLI takes whatever does not run for closed, and finds no end.)
        query = f"WorkflowId = '{name}' AND ExecutionStatus = 'Paused'"

        async def listed():
            return (await cli(env, "workflow", "count", "--query", query)).json.get("count") == "1"
        await env.until(listed, "the paused run to be listed", 20, 0.2)
        await cli(env, "workflow", "signal", "--workflow-id", name, "--name", "end", text=True)
        waiting = asyncio.create_task(cli(env, "workflow", "result", "--workflow-id", name))
        await cli(env, "workflow", "unpause", "--workflow-id", name, text=True)
        assert (await waiting).json["status"] == "COMPLETED"

    return {key[5:]: value for key, value in locals().items() if key.startswith("case_")}
