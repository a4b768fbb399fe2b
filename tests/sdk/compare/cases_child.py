# SPDX-License-Identifier: MIT
"""Children with every end, parent close policies, signals and cancel requests to other runs."""

import asyncio

from temporalio.api.common.v1 import WorkflowExecution

import commands as do
from driver import app_failure, data, retry, sec, text


def kid(c, which="kid"):
    return WorkflowExecution(workflow_id=c.wid(which))


async def parent_with_child(c, which="kid", **fields):
    """A parent whose child has started and whose task after that is done."""
    run = await c.start()
    await c.step(do.child(c.wid(which), c.tq + "-kid", **fields))
    await c.step()
    return run


async def end_child(c, *commands):
    task = await c.poll(c.tq + "-kid")
    await c.done(task, *commands)


async def case_child_completes(c):
    run = await parent_with_child(c, memo=do.memo(m="v"), header=do.header(h="v"),
                                  search_attributes=do.search(CmpKeyword=text("k")),
                                  workflow_execution_timeout=sec(100), control="ctl")
    await c.describe(run)
    await c.describe(kid(c))
    await end_child(c, do.complete("of child"))
    await c.step(do.complete())
    await c.history(run)
    await c.history(kid(c), "history of the child")


async def case_child_fails(c):
    run = await parent_with_child(c)
    await end_child(c, do.fail(app_failure("child broke")))
    await c.step(do.complete())
    await c.history(run)
    await c.history(kid(c), "history of the child")


async def case_child_retries(c):
    run = await parent_with_child(c, retry_policy=retry(1, 1, 2))
    await end_child(c, do.fail(app_failure("child broke")))
    await end_child(c, do.fail(app_failure("child broke again")))
    await c.step(do.complete())
    await c.history(run)
    await c.history(kid(c), "history of the child's last run")


async def case_child_continues_as_new(c):
    run = await parent_with_child(c)
    await end_child(c, do.continue_as_new(c.tq + "-kid"))
    await end_child(c, do.complete("of the second run"))
    await c.step(do.complete())
    await c.history(run)
    await c.history(kid(c), "history of the child's last run")


async def case_child_times_out(c):
    run = await parent_with_child(c, workflow_run_timeout=sec(1))
    await c.step(do.complete())
    await c.history(run)
    await c.history(kid(c), "history of the child")


async def case_child_terminated(c):
    run = await parent_with_child(c)
    await c.terminate(kid(c))
    await c.step(do.complete())
    await c.history(run)
    await c.history(kid(c), "history of the child")


async def case_child_canceled(c):
    run = await parent_with_child(c)
    await end_child(c, do.timer(seconds=30))
    await c.signal(run)
    await c.step(do.cancel_external(c.wid("kid"), child_workflow_only=True, reason="why"))
    await c.until_event(kid(c), "EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED")
    await c.step()
    await end_child(c, do.cancel_workflow())
    await c.step(do.complete())
    await c.history(run)
    await c.history(kid(c), "history of the child")


async def case_child_cannot_start(c):
    await c.start("kid", task_queue=do.TaskQueue(name=c.tq + "-kid"))
    run = await c.start()
    await c.step(do.child(c.wid("kid"), c.tq))
    await c.step(do.complete())
    await c.history(run)
    await c.terminate(kid(c))


async def case_child_id_rejected(c):
    other = await c.start("kid")
    await c.step(do.complete())
    run = await c.start()
    await c.step(do.child(c.wid("kid"), c.tq, workflow_id_reuse_policy=3))
    await c.step(do.complete())
    await c.history(run)
    await c.history(other, "history of the first")


async def policy(c, number, end, **fields):
    run = await parent_with_child(c, parent_close_policy=number)
    await end_child(c, do.timer(seconds=60))
    if end is None:
        await c.terminate(run)
    else:
        await c.signal(run)
        await c.step(end)
    return run


async def case_parent_close_terminates(c):
    run = await policy(c, 1, do.complete())
    await c.closed(kid(c))
    await c.history(run)
    await c.history(kid(c), "history of the child")


async def case_parent_close_abandons(c):
    run = await policy(c, 2, do.complete())
    await asyncio.sleep(0.5)
    await c.signal(kid(c))
    await end_child(c, do.complete("alone"))
    await c.history(run)
    await c.history(kid(c), "history of the child")


async def case_parent_close_requests_cancel(c):
    run = await policy(c, 3, do.fail())
    await c.until_event(kid(c), "EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED")
    await end_child(c, do.cancel_workflow())
    await c.history(run)
    await c.history(kid(c), "history of the child")


async def case_parent_terminated(c):
    run = await policy(c, 0, None)
    await c.closed(kid(c))
    await c.history(run)
    await c.history(kid(c), "history of the child")


async def case_parent_continues_as_new(c):
    await policy(c, 1, do.continue_as_new(c.tq))
    await c.closed(kid(c))
    await c.history(kid(c), "history of the child")
    await c.step(do.complete())
    await c.history(WorkflowExecution(workflow_id=c.wid()), "history of the parent's second run")


async def case_child_and_parent_close_together(c):
    run = await c.start()
    await c.step(do.child(c.wid("kid"), c.tq + "-kid", parent_close_policy=2), do.complete())
    await c.history(run)
    await asyncio.sleep(1)
    await c.fails("describe_workflow_execution", namespace=c.ns, execution=kid(c))


async def case_signal_external(c):
    target = await c.start("target", task_queue=do.TaskQueue(name=c.tq + "-target"))
    run = await c.start()
    await c.step(do.signal_external(target.workflow_id, target.run_id, header=do.header(h="v"),
                                    control="ctl"))
    await c.step(do.signal_external(c.wid("nobody")))
    await c.step(do.signal_external(target.workflow_id, child_workflow_only=True))
    await c.step(do.complete())
    await c.history(run)
    await c.history(target, "history of the target")
    await c.terminate(target)


async def case_signal_external_closed(c):
    target = await c.start("target")
    await c.step(do.complete())
    run = await c.start()
    await c.step(do.signal_external(target.workflow_id))
    await c.step(do.cancel_external(target.workflow_id))
    await c.step(do.complete())
    await c.history(run)


async def case_signal_self(c):
    run = await c.start()
    await c.step(do.signal_external(c.wid()))
    await c.step(do.complete())
    await c.history(run)


async def case_cancel_external(c):
    target = await c.start("target", task_queue=do.TaskQueue(name=c.tq + "-target"))
    run = await c.start()
    await c.step(do.cancel_external(target.workflow_id, target.run_id, control="ctl", reason="so"))
    await c.step(do.cancel_external(c.wid("nobody")))
    await c.step(do.cancel_external(target.workflow_id))
    await c.step(do.complete())
    await c.history(run)
    await c.history(target, "history of the target")
    await c.terminate(target)


async def case_child_of_child(c):
    run = await parent_with_child(c)
    task = await c.poll(c.tq + "-kid")
    await c.done(task, do.child(c.wid("grandkid"), c.tq + "-grandkid"))
    task = await c.poll(c.tq + "-grandkid")
    await c.done(task, do.complete("deep"))
    await c.until_event(kid(c), "EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED")
    await c.describe(WorkflowExecution(workflow_id=c.wid("grandkid")))
    await c.history(WorkflowExecution(workflow_id=c.wid("grandkid")), "history of the grandchild")
    await c.terminate(run)
    await c.closed(kid(c))


async def case_child_with_cron(c):
    run = await parent_with_child(c, cron_schedule="@every 1s", parent_close_policy=1)
    await end_child(c, do.complete("tick"))
    await c.until_event(kid(c), "EVENT_TYPE_WORKFLOW_TASK_SCHEDULED")
    await c.terminate(run)
    await c.closed(kid(c))
    await c.history(run)
    await c.history(kid(c), "history of the child's last run")


async def case_child_start_answers_data(c):
    run = await c.start()
    await c.step(do.child(c.wid("kid"), c.tq + "-kid", input=data("a", "b")))
    task = await c.poll(c.tq + "-kid")
    c.record("child input", {"payloads": [p.data.decode() for p in task.history.events[0]
             .workflow_execution_started_event_attributes.input.payloads]})
    await c.done(task, do.complete())
    await c.until_event(run, "EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED")
    await c.step(do.complete())
    await c.history(run)
