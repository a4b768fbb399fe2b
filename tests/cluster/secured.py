# SPDX-License-Identifier: MIT
"""Roles that call each other by TLS, and only with a certificate of the cluster's own authority, which is changed while they do."""

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import uuid

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import parts
from fleet import Balancer, Fleet

NAME = "cluster.internal"
SIZE = {"frontend": 1, "history": 2, "matching": 2, "worker": 1}
BLOCK = (", tls: {{internode: {{server: {{certFile: {0}/node.pem, keyFile: {0}/node.key, requireClientAuth: true, "
         "clientCaFiles: [{0}/ca.pem]}}, client: {{serverName: {1}, rootCaFiles: [{0}/ca.pem]}}}}}}")


def certificates(folder, prefix=""):
    """An authority and a node's certificate for both sides of a call."""
    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    ca, node = os.path.join(folder, prefix + "ca"), os.path.join(folder, prefix + "node")
    with open(node + ".ext", "w") as out:
        out.write(f"subjectAltName=DNS:{NAME}\nextendedKeyUsage=serverAuth,clientAuth\n")
    openssl("req", "-x509", *key, "-days", "30", "-subj", "/CN=a cluster", "-keyout", ca + ".key", "-out", ca + ".pem")
    openssl("req", "-new", *key, "-subj", f"/CN={NAME}", "-keyout", node + ".key", "-out", node + ".csr")
    openssl("x509", "-req", "-in", node + ".csr", "-CA", ca + ".pem", "-CAkey", ca + ".key", "-CAcreateserial", "-days", "30",
            "-extfile", node + ".ext", "-out", node + ".pem")
    for name in os.listdir(folder):
        if name.endswith(".key"):
            os.chmod(os.path.join(folder, name), 0o600)


def let_in(member, role, folder, certificate, prefix=""):
    """Whether who calls that port with or without a certificate hears anything but the end of the connection."""
    context = ssl.create_default_context(cafile=os.path.join(folder, "ca.pem"))
    context.set_alpn_protocols(["h2"])
    if certificate:
        context.load_cert_chain(os.path.join(folder, prefix + "node.pem"), os.path.join(folder, prefix + "node.key"))
    try:
        with socket.create_connection((member.ip, member.rpc[role]), 20) as plain:
            with context.wrap_socket(plain, server_hostname=NAME) as wrapped:
                wrapped.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
                return wrapped.recv(1) != b""
    except (ssl.SSLError, ConnectionError):
        return False


def answers_plain(member, role):
    with socket.create_connection((member.ip, member.rpc[role]), 20) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        try:
            said = plain.recv(9)  # SETTINGS would be 0 at its fourth byte's kind, an alert begins with 21
        except ConnectionError:
            return False
        return len(said) > 3 and said[0] == 0 and said[3] == 4


def reloads(member, result):
    return (member.figures() or {}).get(f'tenon_reloads{{result="{result}"}}', 0)


def put(folder, name, *sources):
    """A file is replaced as a whole by what these hold."""
    path = os.path.join(folder, name)
    with open(path + ".tmp", "wb") as out:
        for source in sources:
            with open(os.path.join(folder, source), "rb") as text:
                shutil.copyfileobj(text, out)
    os.chmod(path + ".tmp", os.stat(path).st_mode)
    os.rename(path + ".tmp", path)


def reload(fleet):
    """Each process reads its files again; none refuses them."""
    before = [(member, reloads(member, "ok"), reloads(member, "failed")) for member in fleet.members]
    for member in fleet.members:
        member.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 60
    for member, good, bad in before:
        while reloads(member, "ok") == good:
            if reloads(member, "failed") != bad or time.monotonic() > end:
                raise RuntimeError(f"{member.name} has not taken the new certificates:\n{member.tail()}")
            time.sleep(0.02)


async def renew(fleet, folder, callers):
    """Another authority as tenon-cluster(7) has it: both are trusted, the certificates are the new one's, it alone is trusted; after
    each step a process is restarted and connects anew."""
    for name in ("ca.pem", "node.pem", "node.key"):
        shutil.copy(os.path.join(folder, name), os.path.join(folder, "old" + name))
    certificates(folder, "new")
    steps = ([("ca.pem", "oldca.pem", "newca.pem")], [("node.pem", "newnode.pem"), ("node.key", "newnode.key")], [("ca.pem", "newca.pem")])
    for step, victim in zip(steps, [fleet.having(role)[0] for role in ("history", "matching", "frontend")]):
        for files in step:
            put(folder, *files)
        await asyncio.to_thread(reload, fleet)
        if victim not in fleet.having("frontend"):  # there is one, and clients are not what this is about
            await asyncio.to_thread(victim.stop)
            victim.start()
            await asyncio.to_thread(fleet.wait, len(fleet.members))
        before = callers.ended
        while callers.ended < before + 10 and not callers.errors:
            await asyncio.sleep(0.1)
    member = fleet.having("history")[1]
    return let_in(member, "history", folder, True), let_in(member, "history", folder, True, "old")


async def play(arguments, report, folder):
    certificates(folder)
    fleet = Fleet(arguments, folder, security=BLOCK.format(folder, NAME)).fill(SIZE)
    try:
        fleet.start()
        ports = [(member, role) for role in ("history", "matching", "worker") for member in fleet.having(role)[:1]]
        report.check("a stranger is not let in", not any(let_in(*port, folder, False) or answers_plain(*port) for port in ports) and
                     all(let_in(*port, folder, True) for port in ports), f"{len(ports)} roles' ports, plain and without a certificate")
        balancer = await Balancer(fleet.addresses(), fleet.ports.take()).start()
        callers = parts.Callers(await Client.connect(balancer.address), f"tls-{uuid.uuid4()}")
        async with Worker(await Client.connect(balancer.address), task_queue=callers.queue, workflows=[parts.Greeting],
                          activities=[parts.greet], workflow_runner=UnsandboxedWorkflowRunner()):
            tasks = [asyncio.create_task(callers.run()) for _ in range(4)]
            while callers.ended < 20 and not callers.errors:
                await asyncio.sleep(0.1)
            for role in ("history", "matching"):
                member = fleet.having(role)[0]
                await asyncio.to_thread(member.stop)
                member.start()
                await asyncio.to_thread(fleet.wait, len(fleet.members))
            before = callers.ended
            while callers.ended < before + 20 and not callers.errors:
                await asyncio.sleep(0.1)
            let = await renew(fleet, folder, callers)
            callers.stop = True
            await asyncio.gather(*tasks)
        balancer.close()
        for error in callers.errors[:8]:
            print("    " + error)
        calls = sum((member.figures() or {}).get("tenon_internode_calls", 0) for member in fleet.members)
        local = sum((member.figures() or {}).get("tenon_internode_connects_local", 0) for member in fleet.members)
        report.check("a cluster over mutual TLS", not callers.errors and calls > 100 and not local,
                     f"{local:.0f} connections past it, "
                     f"{callers.ended} workflows, {calls:.0f} calls between hosts, four processes restarted, {len(callers.errors)} failed")
        report.check("another authority, in three steps", let == (True, False) and not callers.errors,
                     "the new one's certificate is let in, the old one's is not")
        bad = fleet.end()
        report.check("stop after TLS", not bad, ", ".join(bad) or "all with status 0")
    finally:
        fleet.abandon()
