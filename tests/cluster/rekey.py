# SPDX-License-Identifier: MIT
"""`tenonctl cluster rekey` over a cluster that works: no call fails, no member is lost, and at the end who has the old key alone
is not believed, neither in gossip nor where roles call each other."""

import asyncio
import os
import re
import socket
import struct
import time
import uuid

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import servers
from fleet import Balancer
from parts import Callers, Greeting, greet, tenonctl

MASK = 2**64 - 1
PATIENCE_S = 60


def mac128(key, text):
    """SipHash-2-4 with 128 bits, as core/base has it."""
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d ^ 0xee, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]

    def rotate(x, n):
        return (x << n | x >> (64 - n)) & MASK

    def rounds(n):
        for _ in range(n):
            v[0] = (v[0] + v[1]) & MASK; v[1] = rotate(v[1], 13) ^ v[0]; v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK; v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK; v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK; v[1] = rotate(v[1], 17) ^ v[2]; v[2] = rotate(v[2], 32)

    text += bytes(7 - len(text) % 8) + bytes([len(text) & 255])
    for (word,) in struct.iter_unpack("<Q", text):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xee
    rounds(4)
    low = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xdd
    rounds(4)
    return struct.pack("<QQ", low, v[0] ^ v[1] ^ v[2] ^ v[3])


def fields(message, number):
    """The byte strings of a field of a packed message."""
    at, found = 0, []

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(message):
        tag = varint()
        if tag & 7 == 2:
            size = varint()
            if tag >> 3 == number:
                found.append(message[at:at + size])
            at += size
        elif tag & 7 == 0:
            varint()
        else:
            raise ValueError("a field of another kind")
    return found


def keys(fleet):
    """The cluster's keys as they lie in PostgreSQL: the first signs."""
    def row(name):
        key = (b"\x01\x04\0\0\0\0" + name).hex()
        return bytes.fromhex(fleet.stores.main.ask(f"SELECT encode(v, 'hex') FROM tn_row WHERE k = decode('{key}', 'hex')").strip())
    changed = row(b"keys")
    return fields(changed or row(b"cluster"), 3)


def refusals(member):
    end = time.monotonic() + PATIENCE_S
    while not (figures := member.figures()):
        if time.monotonic() > end:
            raise RuntimeError(f"{member.name} shows no figures")
        time.sleep(0.1)
    return figures.get("tenon_membership_packets_refused", 0)


def believed(member, key):
    """Whether packets of gossip under this key are; one that never is comes after them, so that it is known when they have been seen."""
    port = int(re.search(r"membershipPort: (\d+)", member.services)[1])
    before = refusals(member)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for signer in [key] * 3 + [os.urandom(16)]:
            text = b"\xff not a message"
            out.sendto(text + mac128(signer, text), (member.ip, port))
    end = time.monotonic() + PATIENCE_S
    while (now := refusals(member)) < before + 1:
        if time.monotonic() > end:
            raise RuntimeError("a stranger's packet was not refused")
        time.sleep(0.02)
    if now == before + 1:
        return True
    if now == before + 4:
        return False
    raise RuntimeError(f"{now - before} packets were refused")


def let_in(member, role, key):
    """Whether who greets with this key's secret, as hosts of older releases do, is greeted."""
    body = b"\1\0" + uuid.uuid4().bytes + mac128(key, b"internode").hex().encode()
    with socket.create_connection((member.ip, member.rpc[role]), PATIENCE_S) as pipe:
        try:
            pipe.sendall(b"TENON-PIPE/1\r\n\r\n" + struct.pack(">IBI", 5 + len(body), 1, 0) + body)
            return pipe.recv(1) != b""
        except ConnectionError:
            return False


def verdicts(fleet, key):
    """What a member of each role says to this key, in gossip and on its port."""
    said = set()
    for role in ("history", "matching", "worker"):
        member = fleet.having(role)[0]
        said |= {believed(member, key), let_in(member, role, key)}
    return said


def lost(fleet):
    """How often anybody has taken anybody for gone."""
    count = 0
    for member in fleet.members:
        with open(member.log, errors="replace") as log:
            count += log.read().count("member serves no more")
    return count


async def interrupted(report, fleet, ask, pause_s):
    """A member that sleeps holds the change up, which goes on when it is asked for again."""
    sleeper = fleet.having("worker")[0]
    sleeper.pause()
    first = await asyncio.to_thread(ask, "cluster", "rekey", "--wait", "1s")
    await asyncio.sleep(pause_s)
    sleeper.go_on()
    again = await asyncio.to_thread(ask, "cluster", "rekey")
    await asyncio.to_thread(fleet.wait, len(fleet.members))
    report.check("a member that sleeps holds a change of the key up, and no more",
                 first[0] == 1 and "do not go by it yet" in first[1] and again[0] == 0 and "a change that was begun goes on" in again[1],
                 (first[1] + again[1]).strip().splitlines()[-1])


async def missed(report, fleet, ask):
    """One that sleeps until its record is stale wakes with keys that nobody believes, and reads the new ones."""
    sleeper, rest = fleet.having("history")[0], [member for member in fleet.members if member is not fleet.having("history")[0]]
    sleeper.pause()
    done = await asyncio.to_thread(ask, "cluster", "rekey")
    alone = [member.living() for member in rest]
    sleeper.go_on()
    took = await asyncio.to_thread(fleet.wait, len(fleet.members))
    report.check("a member that slept through the change is back", done[0] == 0 and set(alone) == {len(rest)}, f"{took:.1f} s after it woke")


async def play(arguments, report, fleet):
    ask = tenonctl(arguments, fleet)
    readable = isinstance(fleet.stores.main, servers.Postgres)
    old = keys(fleet) if readable else []
    if readable:
        report.check("the key is the cluster's", len(old) == 1 and verdicts(fleet, old[0]) == {True} and
                     verdicts(fleet, os.urandom(16)) == {False}, "in gossip and on three roles' ports")
    else:
        report.say("the keys themselves are tried with PostgreSQL only")
    balancer = await Balancer(fleet.addresses(), fleet.ports.take()).start()
    callers = Callers(await Client.connect(balancer.address), f"rekey-{uuid.uuid4()}")
    async with Worker(await Client.connect(balancer.address), task_queue=callers.queue, workflows=[Greeting], activities=[greet],
                      workflow_runner=UnsandboxedWorkflowRunner()):
        tasks = [asyncio.create_task(callers.run()) for _ in range(6)]
        while callers.ended < 20 and not callers.errors:
            await asyncio.sleep(0.1)
        before, taken = lost(fleet), []
        for _ in range(10 if arguments.long else 1):
            began = time.monotonic()
            status, text = await asyncio.to_thread(ask, "cluster", "rekey")
            taken.append(time.monotonic() - began)
            if status:
                callers.errors.append(text.strip())
            # What was shown before is believed for some seconds on connections that there were: they outlast that, too.
            since, ended = time.monotonic(), callers.ended
            while (time.monotonic() - since < 6 or callers.ended < ended + 20) and not callers.errors:
                await asyncio.sleep(0.1)
        calls = len(callers.taken())
        gone = lost(fleet) - before
        await asyncio.to_thread(fleet.wait, len(fleet.members))
        # On a machine that does other things besides, a member may be too slow for the others by itself: there it is only told.
        report.check("the key is changed under load", not callers.errors and callers.ended > 40 and not (gone and arguments.long),
                     f"{len(taken)} times, the slowest took {max(taken):.1f} s; {callers.ended} workflows, {calls} calls, "
                     f"{len(callers.errors)} failed, {gone} members taken for gone")
        await interrupted(report, fleet, ask, 20 if arguments.long else 0)
        if arguments.long:
            await missed(report, fleet, ask)
        callers.stop = True
        await asyncio.gather(*tasks)
    balancer.close()
    for error in callers.errors[:8]:
        print("    " + error)
    newcomer = fleet.having("matching")[0]
    await asyncio.to_thread(newcomer.stop)
    newcomer.start()
    await asyncio.to_thread(fleet.wait, len(fleet.members))
    if readable:
        new = keys(fleet)
        report.check("who has the old key alone is refused", len(new) == 1 and new != old and verdicts(fleet, old[0]) == {False} and
                     verdicts(fleet, new[0]) == {True}, "and the new one is good, in gossip and on three roles' ports")
