# SPDX-License-Identifier: MIT
"""Something else listens where a host was that has died: it hangs, talks nonsense, speaks HTTP, drips bytes, knows no secret or another one's,
or even greets as that host and then closes, errs or says nothing.  Callers of the cluster have their answers in time, those of other
shards notice nothing, what belonged to the dead is served elsewhere while the impostors still listen, and nobody crashes or leaks."""

import asyncio
import hashlib
import hmac
import os
import re
import socket
import struct
import time
import uuid

import temporalio.api.common.v1 as common
import temporalio.api.taskqueue.v1 as taskqueue
import temporalio.api.workflowservice.v1 as ws
from temporalio.client import Client

import deadlines
import parts
from deadlines import DEADLINE_MS, LATE_S, OK
from rekey import keys, let_in, mac128, refusals
from world import NAMESPACE

MAGIC = b"TENON-PIPE/1\r\n\r\n"
HELLO, REQUEST, ANSWER = 1, 2, 3
HEAD, NONCE, PROOF = 18, 32, 32  # bytes: version, flags and host id; what each makes up; what each proves
GREETING = len(MAGIC) + 9 + HEAD + NONCE + PROOF
ASK_S = 3
PATIENT_MS = 30000
FDS = 16  # connections to hosts that had not been called before; a leak would be one for each time that an impostor was met


def frame(kind, number, body):
    return struct.pack(">IBI", 5 + len(body), kind, number) + body


class Ear:
    """A reader that remembers."""

    def __init__(self, reader, heard):
        self.reader, self.heard = reader, heard

    async def read(self, n):
        data = await self.reader.read(n)
        self.heard += data
        return data

    async def readexactly(self, n):
        data = await self.reader.readexactly(n)
        self.heard += data
        return data


class Impostor:
    """At a port that a host had.  `believed` ones know the cluster's secret; some have the dead host's id."""

    def __init__(self, name, talk, secret=None, host_id=None):
        self.name, self.talk, self.secret, self.host_id = name, talk, secret, host_id
        self.met, self.asked, self.server, self.writers, self.tasks = 0, 0, None, set(), set()
        self.heard = []  # on each connection

    async def greeting(self, reader):
        """As a host with that id and secret says it, to who has connected."""
        await reader.readexactly(len(MAGIC))
        size, _, _ = struct.unpack(">IBI", await reader.readexactly(9))
        body = await reader.readexactly(size - 5)
        caller, nonce, ours = body[2:HEAD], body[HEAD:HEAD + NONCE], os.urandom(NONCE)
        proof = hmac.new(self.secret, b"tenon pipe\0S" + caller + self.host_id + nonce + ours, hashlib.sha256).digest()
        return MAGIC + frame(HELLO, 0, b"\2\1" + self.host_id + ours + proof)

    async def serve(self, reader, writer):
        self.met += 1
        self.writers.add(writer)
        self.tasks.add(asyncio.current_task())
        try:
            self.heard.append(bytearray())
            await self.talk(self, Ear(reader, self.heard[-1]), writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writers.discard(writer)
            self.tasks.discard(asyncio.current_task())
            writer.close()

    async def listen(self, ip, port):
        end = time.monotonic() + 30
        while True:
            try:
                self.server = await asyncio.start_server(self.serve, ip, port)
                return self
            except OSError:  # the kernel has not let go of it yet
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.01)

    async def close(self):
        self.server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def requests(self, reader):
        """The numbers of what is asked by pipe, after the greetings."""
        while True:
            size, kind, number = struct.unpack(">IBI", await reader.readexactly(9))
            await reader.readexactly(size - 5)
            if kind == REQUEST:
                self.asked += 1
                yield number


async def swallow(reader):
    while await reader.read(65536):
        pass


async def hangs(self, reader, writer):
    await swallow(reader)


async def reads_nothing(self, reader, writer):
    await asyncio.sleep(3600)


async def garbage(self, reader, writer):
    while True:
        writer.write(os.urandom(1000))
        await writer.drain()
        await asyncio.sleep(0.01)


async def http1(self, reader, writer):
    await reader.read(16)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


async def http2(self, reader, writer):
    """What an older release would say at first, and then nothing."""
    writer.write(b"\0\0\0\4\0\0\0\0\0")
    await swallow(reader)


async def drips(self, reader, writer):
    for byte in await self.greeting(reader):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(1)


async def greets(self, reader, writer):
    """... and answers nothing."""
    writer.write(await self.greeting(reader))
    async for _ in self.requests(reader):
        pass


async def closes(self, reader, writer):
    writer.write(await self.greeting(reader))
    async for _ in self.requests(reader):
        return


async def errs(self, reader, writer):
    """UNAVAILABLE, or that it has not done anything."""
    writer.write(await self.greeting(reader))
    async for number in self.requests(reader):
        said = b"\xff" if self.asked % 2 else b"\x0e" + struct.pack(">H", 4) + b"busy" + struct.pack(">H", 0)
        writer.write(frame(ANSWER, number, said))
        await writer.drain()


async def half_an_answer(self, reader, writer):
    writer.write(await self.greeting(reader))
    async for number in self.requests(reader):
        writer.write(frame(ANSWER, number, b"\0" * 100)[:40])
        await writer.drain()
        await swallow(reader)


def rounds(secret, ids, long):
    """[(role, which one, impostor)] for each round; `ids` by role and number."""
    other = mac128(os.urandom(16), b"internode").hex().encode()
    yield [("history", 0, Impostor("hangs", hangs)), ("history", 1, Impostor("garbage", garbage)),
           ("matching", 0, Impostor("a byte a second", drips, secret, ids["matching", 0])), ("matching", 1, Impostor("HTTP/1", http1))]
    yield [("history", 2, Impostor("greets as that host, closes after each request", closes, secret, ids["history", 2])),
           ("history", 3, Impostor("greets as that host, answers errors", errs, secret, ids["history", 3])),
           ("matching", 2, Impostor("another cluster's secret", greets, other, ids["matching", 2])),
           ("matching", 3, Impostor("another host's id", greets, secret, uuid.uuid4().bytes))]
    if long:
        yield [("history", 0, Impostor("reads nothing", reads_nothing)), ("history", 1, Impostor("HTTP/2 that says nothing", http2)),
               ("matching", 0, Impostor("half an answer", half_an_answer, secret, None)), ("matching", 1, Impostor("greets, mute", greets, secret, None))]


def host_ids(arguments, fleet):
    """By role and number; a port tells who is who."""
    ask = parts.tenonctl(arguments, fleet)
    status, text = ask("member", "list")
    if status:
        raise RuntimeError(text)
    by_port = {line.split()[-1].rsplit(":", 1)[1]: uuid.UUID(line.split()[0]).bytes for line in text.splitlines() if "gone?" not in line}
    return {(role, i): by_port[str(member.rpc[role])] for role in ("history", "matching") for i, member in enumerate(fleet.having(role))}


def owners(arguments, fleet, runs):
    """The port of each run's history host."""
    ask = parts.tenonctl(arguments, fleet)
    return {run: int(ask("ring", "owner", f"workflow:{NAMESPACE}/{run}")[1].split()[-1].rsplit(":", 1)[1]) for run in runs}


def questions(world, seconds, patience):
    """Descriptions of all runs again and again, and of as many task queues: (calls, [run or None]); patience: ms by run."""
    calls, about = [], []
    for turn in range(int(seconds / 0.15)):
        for i, run in enumerate(world.runs):
            calls.append((world.ports[(i + turn) % 3], "DescribeWorkflowExecution", ws.DescribeWorkflowExecutionRequest(
                namespace=NAMESPACE, execution=common.WorkflowExecution(workflow_id=run)), patience[run], 0.15 * turn))
            about.append(run)
            if turn % 2 == 0:
                calls.append((world.ports[i % 3], "DescribeTaskQueue", ws.DescribeTaskQueueRequest(
                    namespace=NAMESPACE, task_queue=taskqueue.TaskQueue(name=f"im-{i}"), task_queue_type=1), DEADLINE_MS, 0.15 * turn))
                about.append(None)
    return calls, about


def descriptors(member):
    return len(os.listdir(f"/proc/{member.pid}/fd"))


def taken_again(member, role, heard):
    """Whether a host takes more than a greeting of what another has said."""
    got = b""
    with socket.create_connection((member.ip, member.rpc[role]), 30) as pipe:
        try:
            pipe.sendall(heard)
            pipe.shutdown(socket.SHUT_WR)
            while len(got) <= GREETING and (more := pipe.recv(1000)):
                got += more
        except ConnectionError:
            pass
    return len(got) > GREETING


def learnt(cast, rest, secret):
    """What of all that impostors were told is of use: (how many greetings they heard, what is wrong)."""
    heard = [(impostor, bytes(words)) for *_, impostor in cast for words in impostor.heard if words.startswith(MAGIC) and len(words) > len(MAGIC)]
    wrong = [f"{impostor.name} was told the secret" for impostor, words in heard if secret in words]
    for member in rest:
        for role in set(member.roles) & {"history", "matching"}:
            wrong += [f"{member.name} takes what {impostor.name} was told" for impostor, words in heard[:20] if taken_again(member, role, words)]
    return len(heard), wrong


async def one_round(arguments, report, fleet, world, cast, number, secret):
    victims = [fleet.having(role)[i] for role, i, _ in cast]
    rest = [member for member in fleet.members if member not in victims]
    dead_ports = {member.rpc[role] for member in victims for role in member.roles}
    whose = await asyncio.to_thread(owners, arguments, fleet, world.runs)
    names, kinds = world.kinds(1)
    storm, notes = world.storm(0, ASK_S, 30)
    # Those of other hosts have patience, and need none: what a slow machine does to them is no verdict.
    calls, about = questions(world, ASK_S, {run: DEADLINE_MS if whose[run] in dead_ports else PATIENT_MS for run in world.runs})
    asked = asyncio.create_task(asyncio.to_thread(deadlines.ask, kinds + storm + calls, ASK_S + PATIENT_MS / 1000 + LATE_S))
    await asyncio.to_thread(deadlines.until_some, fleet, 8)
    for (role, i, impostor), member in zip(cast, victims):
        member.kill()
        await impostor.listen(member.ip, member.rpc[role])
    answers = await asked
    cut, first = len(kinds), len(kinds) + len(storm)
    deadlines.judge_kinds(report, f"impostors, round {number}", names, answers[:cut])
    world.note(notes, answers[cut:first])
    others = [answer for run, answer in zip(about, answers[first:]) if run and whose[run] not in dead_ports]
    hit = [answer for run, answer in zip(about, answers[first:]) if not run or whose[run] in dead_ports]
    deadlines.judge_kinds(report, f"many callers, impostors, round {number}", ["many"] * len(storm + hit), answers[cut:first] + hit)
    bad = [answer for answer in others if answer[0] != OK]
    report.check(f"runs of other hosts notice nothing, round {number}", not bad,
                 f"{len(others)} calls, {len(bad)} failed, worst {max((took for _, took in others if took is not None), default=0):.2f} s" + (f": {bad[:5]}" if bad else ""))
    shares = [sum(port == member.rpc[role] for port in whose.values()) for (role, *_), member in zip(cast, victims)]
    met = ", ".join(f"{impostor.name} {impostor.met}" + (f" ({impostor.asked} requests)" if impostor.asked else "") +
                    (f" for {share} runs" if role == "history" else "") for (role, _, impostor), share in zip(cast, shares))
    report.check(f"impostors were met, round {number}", all(impostor.met for (role, _, impostor), share in zip(cast, shares) if role == "history" and share), met)
    await asyncio.to_thread(fleet.wait, len(rest), rest, 60)
    again, _ = questions(world, 0.16, dict.fromkeys(world.runs, PATIENT_MS))
    again = [(port, method, request, PATIENT_MS, 0) for port, method, request, _, _ in again]
    served = await asyncio.to_thread(deadlines.ask, again, PATIENT_MS / 1000 + LATE_S)
    ok, took = await deadlines.goes_on(fleet)
    report.check(f"all is served while they still listen, round {number}", ok and all(code == OK for code, _ in served), f"a workflow took {took:.1f} s" +
                 "".join(f"; {call[1]}: {code} after {late:.1f} s" for call, (code, late) in zip(again, served) if code != OK))
    for *_, impostor in cast:
        await impostor.close()
    n, wrong = await asyncio.to_thread(learnt, cast, rest, secret)
    report.check(f"impostors learn nothing with which they could pass as hosts, round {number}", not wrong,
                 f"{n} greetings, said again to those who live" + "".join(f"; {what}" for what in wrong[:3]))
    gone = [member.name for member in rest if not member.alive()]
    for member in victims:
        member.start()
    await asyncio.to_thread(fleet.wait, len(fleet.members), None, 60)
    report.check(f"nobody ends, round {number}", not gone, ", ".join(gone) or f"{len(victims)} hosts are back at their addresses")


async def strange_packets(report, fleet):
    """Whoever has no key, or another cluster's, is refused, in gossip and where roles call each other."""
    def packets(member):
        port, before, key, end = int(re.search(r"membershipPort: (\d+)", member.services)[1]), refusals(member), os.urandom(16), time.monotonic() + 60
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for text in (b"\xff not a message", bytes(64), os.urandom(500)):
                out.sendto(text + mac128(key, text), (member.ip, port))
        while refusals(member) < before + 3:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True
    refused = []
    for role in ("frontend", "history", "matching", "worker"):
        member = fleet.having(role)[-1]
        refused.append(await asyncio.to_thread(packets, member))
        if role in ("history", "matching"):
            refused.append(not await asyncio.to_thread(let_in, member, role, os.urandom(16)))
    report.check("gossip and greetings under another key are refused", all(refused), f"{len(refused)} times")


async def play(arguments, report, fleet):
    if arguments.net:
        report.say("impostors is left out with --net: they are on loopback")
        return
    if not parts.tenonctl(arguments, fleet):
        report.say("impostors are left out: no tenonctl beside tenond to tell the hosts' ids")
        return
    world = deadlines.World(fleet)
    await asyncio.to_thread(world.make)
    secret = mac128((await asyncio.to_thread(keys, fleet))[0], b"internode").hex().encode() if arguments.store == "postgresql" else b"0" * 32
    await strange_packets(report, fleet)
    survivors = [member for role in ("frontend", "worker") for member in fleet.having(role)]
    before = {member.name: (descriptors(member), deadlines.parts_rss(member)) for member in survivors}
    for number, cast in enumerate(rounds(secret, await asyncio.to_thread(host_ids, arguments, fleet), arguments.long), 1):
        for role, i, impostor in cast:
            if impostor.host_id is None and impostor.secret:
                impostor.host_id = (await asyncio.to_thread(host_ids, arguments, fleet))[role, i]
        await one_round(arguments, report, fleet, world, cast, number, secret)
    end = time.monotonic() + 30  # connections to addresses that have gone end by themselves
    while (most := max(descriptors(member) - before[member.name][0] for member in survivors)) > FDS and time.monotonic() < end:
        await asyncio.sleep(0.2)
    grown = max(deadlines.parts_rss(member) - before[member.name][1] for member in survivors)
    report.check("nothing leaks to impostors", most <= FDS and grown < 128 * 1024, f"{most} descriptors more at most, {grown / 1024:.1f} MB")
    await world.judge(report, await Client.connect(parts.address(fleet)))
