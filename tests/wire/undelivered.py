# SPDX-License-Identifier: MIT
# undelivered.py TENOND PORT [NAME...]: a task whose worker vanishes before the answer has left is given to the next one
# at once.  The worker that vanishes has closed its window, so that no answer can leave.
import os
import subprocess
import sys
import tempfile
import time

import grpc

from raw import *

program, port, only = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
SERVICE = "/temporal.api.workflowservice.v1.WorkflowService/"
POLL_ACTIVITY = SERVICE + "PollActivityTaskQueue"
LONG = 600  # every time-out of a task, so that none of them can be what gives it back
tests = []


def test(f):
    if not only or f.__name__ in only:
        tests.append(f)
    return f


def name(text):
    return field(1, text.encode())


def number(at, value):
    return varint(at << 3) + varint(value)


def seconds(n):
    return number(1, n)


def first(body, at):
    """The first value of a field of bytes; empty: there is none."""
    i = 0

    def take():
        nonlocal i
        value = shift = 0
        while True:
            byte = body[i]
            i += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while i < len(body):
        key = take()
        if key & 7 == 0:
            take()
        elif key & 7 == 2:
            n = take()
            if key >> 3 == at:
                return body[i:i + n]
            i += n
        else:
            i += 8 if key & 7 == 1 else 4
    return b""


class Client:
    def __init__(self):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def call(self, method, body, timeout=20):
        return self.channel.unary_unary(SERVICE + method)(body, timeout=timeout, wait_for_ready=True)

    def start(self, queue):
        self.call("StartWorkflowExecution", field(1, b"default") + field(2, b"id-" + queue.encode()) +
                  field(3, name("t")) + field(4, name(queue)) + field(8, seconds(LONG)) +
                  field(10, os.urandom(8).hex().encode()))

    def poll(self, queue, kind="Workflow", timeout=20):
        return self.call(f"Poll{kind}TaskQueue", poll_body(queue, "second"), timeout)

    def complete(self, token, commands=b""):
        self.call("RespondWorkflowTaskCompleted", field(1, token) + commands + field(9, b"default"))


def poll_body(queue, identity):
    return field(1, b"default") + field(2, name(queue)) + field(3, identity.encode())


def vanishing_poll(path, queue):
    """A connection with a poll whose answer can't leave: the window of its streams is closed."""
    c = Conn(port, setting(4, 0))
    stream, data = c.request(path, poll_body(queue, "first"), [("grpc-timeout", "60S")])
    c.send(data)
    return c, c.stream(stream)


def answer_waits(c, stream):
    """The answer's headers have come, its message must wait."""
    assert c.until(lambda: stream.headers is not None, 10), "no answer was made"
    c.drain(0.2)
    assert not stream.body and not stream.ended, "the closed window let the answer through"


def given_again(poll, at_most=5.0):
    began = time.monotonic()
    body = poll()
    took = time.monotonic() - began
    assert first(body, 1), "the second poll got nothing"
    assert took < at_most, f"the task came after {took:.1f} s"
    return body


def schedule_activity(queue, attempts):
    attributes = (field(1, b"a") + field(2, name("t")) + field(4, name(queue)) +
                  b"".join(field(at, seconds(LONG)) for at in (7, 8, 9)) +
                  field(11, number(4, attempts)))  # retry_policy.maximum_attempts
    return field(2, number(1, 1) + field(2, attributes))


@test
def a_workflow_task_goes_back_when_the_connection_is_lost(client):
    c, stream = vanishing_poll(POLL, "lost")
    client.start("lost")
    answer_waits(c, stream)
    c.close()
    given_again(lambda: client.poll("lost"))


@test
def a_workflow_task_goes_back_when_the_poll_is_reset(client):
    c, stream = vanishing_poll(POLL, "reset")
    client.start("reset")
    answer_waits(c, stream)
    c.send(frame(RST, 0, 1, struct.pack(">I", 8)))
    body = given_again(lambda: client.poll("reset"))
    client.complete(first(body, 1))
    c.close()


def activity_goes_back(client, queue, attempts):
    client.start(queue)
    task = given_again(lambda: client.poll(queue))
    c, stream = vanishing_poll(POLL_ACTIVITY, queue)
    client.complete(first(task, 1), schedule_activity(queue, attempts))
    answer_waits(c, stream)
    c.close()
    given_again(lambda: client.poll(queue, "Activity"))


@test
def an_activity_goes_back(client):
    activity_goes_back(client, "activity", 0)


@test
def an_activity_that_may_run_once_goes_back(client):
    activity_goes_back(client, "once", 1)


@test
def a_delivered_task_is_not_given_twice(client):
    client.start("kept")
    c = Conn(port)
    task = c.call(POLL, poll_body("kept", "first"), [("grpc-timeout", "60S")])
    assert first(task.body[5:], 1), "no task"
    c.close()
    try:
        body = client.poll("kept", timeout=3)
        assert not first(body, 1), "the task was given twice"
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen([program, "start-dev", "--ip", "127.0.0.1", "--port", str(port), "--db-filename",
                                   f"{folder}/x.db", "--log-level", "warn", *os.environ.get("TENOND_ARGS", "").split()],
                                  stdout=subprocess.DEVNULL)
        try:
            client = Client()
            grpc.channel_ready_future(client.channel).result(30)
            for t in tests:
                try:
                    t(client)
                    print(f"ok {t.__name__}")
                except Exception as error:
                    failed += 1
                    print(f"FAIL {t.__name__}: {error!r}")
        finally:
            server.terminate()
            if server.wait(30) != 0:
                failed += 1
                print(f"FAIL the server ended with {server.returncode}")
    print(f"undelivered: {len(tests) - failed} passed, {failed} failed")
    return failed != 0


sys.exit(main())
