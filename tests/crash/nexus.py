# SPDX-License-Identifier: MIT
"""Nexus operations and SIGKILL: half of them at a handler outside, over HTTP, half at workers, whose workflows report when
they are done. The server dies amid starts, while operations are under way, amid their reports and while completion callbacks
are refused. Each operation is in its history once, started and completed once, whatever has been asked twice; a handler is
asked for one operation with one request id; each callback arrives; every history replays."""

import argparse
import asyncio
import http.server
import os
import pathlib
import random
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import timedelta

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import nexusrpc  # noqa: E402
from server import Server, free_port  # noqa: E402
from temporalio import nexus, workflow  # noqa: E402
from temporalio.api.common.v1 import Callback, Payload, Payloads, WorkflowExecution, WorkflowType  # noqa: E402
from temporalio.api.enums.v1 import CallbackState, EventType  # noqa: E402
from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget  # noqa: E402
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest  # noqa: E402
from temporalio.api.taskqueue.v1 import TaskQueue  # noqa: E402
from temporalio.api.workflowservice.v1 import (DescribeWorkflowExecutionRequest,  # noqa: E402
                                               StartWorkflowExecutionRequest)
from temporalio.client import Client  # noqa: E402
from temporalio.service import RPCError, RPCStatusCode  # noqa: E402
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker  # noqa: E402

QUEUE = "callers"
PATIENCE_S = 120
TRANSIENT = {RPCStatusCode.UNAVAILABLE, RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.ABORTED,
             RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.UNKNOWN, RPCStatusCode.NOT_FOUND}


@nexusrpc.service
class Service:
    work: nexusrpc.Operation[str, str]


@workflow.defn
class Inner:
    @workflow.run
    async def run(self, word: str) -> str:
        await workflow.sleep(0.1)
        return word + "!"


@nexusrpc.handler.service_handler(service=Service)
class Handler:
    @nexus.workflow_run_operation
    async def work(self, context: nexus.WorkflowRunOperationContext, word: str) -> nexus.WorkflowHandle[str]:
        return await context.start_workflow(Inner.run, word, id=f"inner-{word}")


@workflow.defn
class Caller:
    @workflow.run
    async def run(self, endpoint: str, word: str) -> str:
        client = workflow.create_nexus_client(service=Service, endpoint=endpoint)
        return await client.execute_operation(Service.work, word, schedule_to_close_timeout=timedelta(seconds=PATIENCE_S))


class Outside:
    """The handler outside, and the receiver of completion callbacks."""

    def __init__(self):
        self.asked, self.begun, self.called, self.willing = {}, {}, {}, False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                path, _, query = self.path.partition("?")
                if path.startswith("/called/"):
                    name = path.rsplit("/", 1)[1]
                    outer.called[name] = outer.called.get(name, 0) + outer.willing
                    self.answer(200 if outer.willing else 503, b"")
                    return
                word = body.decode().strip('"')
                outer.asked.setdefault(word, set()).add(self.headers["Nexus-Request-Id"])
                outer.begun[word] = (urllib.parse.parse_qs(query)["callback"][0],
                                     self.headers["Nexus-Callback-Temporal-Callback-Token"])
                self.answer(201, b'{"token":"tok"}')

            def answer(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    pass

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a server that dies leaves its connections cut off
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def report(self, word):
        """Says that the operation is done, until the server has taken it: 404 when it had done so already."""
        url, token = self.begun[word]
        headers = {"Temporal-Callback-Token": token, "Nexus-Operation-State": "succeeded", "Nexus-Operation-Token": "tok",
                   "Content-Type": "application/json"}
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                request = urllib.request.Request(url, f'"{word}!"'.encode(), headers, method="POST")
                return urllib.request.urlopen(request, timeout=10).status
            except urllib.error.HTTPError as error:
                if error.code == 404 or time.monotonic() > end:
                    return error.code
            except OSError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.05)


async def insist(make):
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await make()
        except RPCError as error:
            if error.status not in TRANSIENT or time.monotonic() > end:
                raise
        await asyncio.sleep(0.05)


async def until(what, condition):
    end = time.monotonic() + PATIENCE_S
    while not (condition() if not asyncio.iscoroutinefunction(condition) else await condition()):
        if time.monotonic() > end:
            raise RuntimeError(f"never: {what}")
        await asyncio.sleep(0.05)


class Campaign:
    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        self.seed = arguments.seed if arguments.seed is not None else random.randrange(2**31)
        self.dice = random.Random(self.seed)
        self.outside = Outside()
        port = free_port(arguments.port)
        web = free_port(port + 1 - os.getpid() % 5000)
        settings = ['callback.allowedAddresses=[{"Pattern":"*","AllowInsecure":true}]',
                    f'component.nexusoperations.callback.endpoint.template="http://127.0.0.1:{web}/nexus/callback"']
        more = [word for each in settings for word in ("--dynamic-config-value", each)]
        self.server = Server(arguments.tenond, folder, port, arguments.server_arg + ["--http-port", str(web)] + more)
        self.kills, self.wrong = 0, []

    def kill(self):
        self.server.kill()
        self.kills += 1
        if not any(self.server.start() for _ in range(5)):
            raise RuntimeError(f"tenond does not start again; see {self.folder}/tenond.log")

    async def endpoints(self):
        targets = {"outside": EndpointTarget(external=EndpointTarget.External(url=f"http://127.0.0.1:{self.outside.port}/h")),
                   "inside": EndpointTarget(worker=EndpointTarget.Worker(namespace="default", task_queue=QUEUE))}
        for name, target in targets.items():
            await insist(lambda n=name, t=target: self.client.operator_service.create_nexus_endpoint(
                CreateNexusEndpointRequest(spec=EndpointSpec(name=n, target=t))))

    def words(self, which):
        return [f"{which}-{i}" for i in range(self.arguments.operations)]

    async def start(self, word):
        quoted = [Payload(metadata={"encoding": b"json/plain"}, data=f'"{text}"'.encode())
                  for text in (word.split("-")[0], word)]
        url = f"http://127.0.0.1:{self.outside.port}/called/{word}"
        await insist(lambda: self.client.workflow_service.start_workflow_execution(StartWorkflowExecutionRequest(
            namespace="default", workflow_id=word, workflow_type=WorkflowType(name="Caller"), request_id=f"r-{word}",
            task_queue=TaskQueue(name=QUEUE), input=Payloads(payloads=quoted),
            completion_callbacks=[Callback(nexus=Callback.Nexus(url=url))])))

    async def play(self):
        await self.endpoints()
        everything = self.words("outside") + self.words("inside")
        starts = [asyncio.create_task(self.start(word)) for word in everything]
        await until("an operation is asked for", lambda: self.outside.begun)
        self.kill()  # amid starts
        await asyncio.gather(*starts)
        await until("each is asked for", lambda: len(self.outside.begun) == self.arguments.operations)
        await asyncio.sleep(self.dice.uniform(0, 0.3))
        self.kill()  # operations are under way
        reports = [asyncio.create_task(asyncio.to_thread(self.outside.report, word)) for word in self.words("outside")]
        for _ in range(self.arguments.kills - 3):
            await asyncio.sleep(self.dice.uniform(0, 0.5))
            self.kill()  # amid reports
        answers = await asyncio.gather(*reports)
        if set(answers) - {200, 404}:
            self.wrong.append(f"reports were answered {sorted(set(answers))}")
        for word in everything:
            result = await insist(lambda w=word: asyncio.wait_for(self.client.get_workflow_handle(w).result(), PATIENCE_S))
            if result != word + "!":
                self.wrong.append(f"{word}: the result is {result!r}")
        self.kill()  # callbacks have been refused, and wait
        self.outside.willing = True
        for word in everything:
            await until(f"the callback of {word}", lambda w=word: self.outside.called.get(w))
            await self.judge(word)
        for word, ids in self.outside.asked.items():
            if len(ids) != 1:
                self.wrong.append(f"{word}: asked for with {len(ids)} request ids")

    async def judge(self, word):
        async def noted():
            answer = await insist(lambda: self.client.workflow_service.describe_workflow_execution(
                DescribeWorkflowExecutionRequest(namespace="default", execution=WorkflowExecution(workflow_id=word))))
            return [each.state for each in answer.callbacks] == [CallbackState.CALLBACK_STATE_SUCCEEDED]

        await until(f"{word}: its callback is noted", noted)
        history = await insist(self.client.get_workflow_handle(word).fetch_history)
        kinds = [event.event_type for event in history.events]
        for name in ("SCHEDULED", "STARTED", "COMPLETED"):
            if kinds.count(EventType.Value(f"EVENT_TYPE_NEXUS_OPERATION_{name}")) != 1:
                self.wrong.append(f"{word}: {name} {kinds}")
        if [event.event_id for event in history.events] != list(range(1, len(kinds) + 1)):
            self.wrong.append(f"{word}: the history has gaps")
        replayed = await Replayer(workflows=[Caller], workflow_runner=UnsandboxedWorkflowRunner()).replay_workflow(
            history, raise_on_replay_failure=False)
        if replayed.replay_failure:
            self.wrong.append(f"{word} does not replay: {replayed.replay_failure}")

    async def run(self):
        self.server.start()
        self.client = await Client.connect(self.server.address)
        worker = Worker(self.client, task_queue=QUEUE, workflows=[Caller, Inner], nexus_service_handlers=[Handler()],
                        workflow_runner=UnsandboxedWorkflowRunner(), graceful_shutdown_timeout=timedelta(0))
        async with worker:
            await self.play()
        for line in self.wrong[:10]:
            print("  " + line)
        print(f"seed {self.seed}: {2 * self.arguments.operations} operations, {self.kills} kills, "
              f"{len(self.wrong)} violations")
        return 1 if self.wrong or self.server.stop() != 0 else 0


async def campaign(arguments, folder):
    whole = Campaign(arguments, folder)
    try:
        return await whole.run()
    except Exception as error:  # noqa: BLE001
        print(f"seed {whole.seed}: {type(error).__name__}: {error}")
        whole.server.kill()
        return 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--kills", type=int, default=4, help="3 at least")
    parser.add_argument("--operations", type=int, default=8, help="of each of both kinds")
    parser.add_argument("--port", type=int, default=17930)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--server-arg", action="append", default=[])
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="tenon-nexus.")
    status = asyncio.run(campaign(arguments, folder))
    if status:
        print(f"  kept: {folder}")
    else:
        __import__("shutil").rmtree(folder)
    sys.stdout.flush()
    os._exit(status)  # the SDK's native part is not always at rest when the interpreter is torn down


if __name__ == "__main__":
    main()
