# SPDX-License-Identifier: MIT
"""Disks that are full, read-only or damaged, a file that another server holds: a clear error and a non-zero exit, or
UNAVAILABLE to clients and never a wrong answer; and it goes on when the cause has gone."""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile

from judge import judge
from server import Server, free_port
from world import Log, World

passed = failed = 0


def told(name, good, why=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    print(f"{'ok' if good else 'not ok'} {name}{'' if good else ': ' + str(why)}", flush=True)


def last_words(folder):
    with open(os.path.join(folder, "tenond.log")) as log:
        return log.read()[-2000:]


def refuses(arguments, name, folder, database, words):
    """A start that must fail with a message that has one of the words."""
    server = Server(arguments.tenond, folder, free_port(arguments.port + 20), arguments.server_arg, database=database)
    started = server.start()
    if started:
        server.kill()
        told(name, False, "it started")
        return
    text = last_words(folder)
    told(name, server.process.returncode not in (0, None) and server.process.returncode > 0 and
         any(word in text for word in words), f"exit {server.process.returncode}: {text[-500:]}")


def second_server(arguments, folder):
    server = Server(arguments.tenond, folder, free_port(arguments.port), arguments.server_arg)
    server.start()
    refuses(arguments, "a second server on the same file is refused", folder, server.database, ["lock", "in use", "held"])
    told("the first one still serves", server.alive())
    told("SIGTERM ends it with 0", server.stop() == 0, last_words(folder))


def damaged(arguments, folder):
    for name, content in (("garbage", os.urandom(8192)), ("no database", b"hello, I am a text\n" * 100)):
        path = os.path.join(folder, name.replace(" ", "-") + ".db")
        with open(path, "wb") as file:
            file.write(content)
        refuses(arguments, f"a file of {name} is refused", folder, path, ["not an SQLite database", "not a database", "corrupt", "damaged", "malformed"])
    refuses(arguments, "a folder that is not there is refused", folder, os.path.join(folder, "none", "x.db"),
            ["none", "No such file", "cannot open", "unable to open"])


def mount(path, options):
    os.makedirs(path, exist_ok=True)
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], stderr=subprocess.DEVNULL).returncode == 0


def read_only(arguments, folder):
    path = os.path.join(folder, "ro")
    if not mount(path, "size=64m"):
        print("skip read-only disk: no right to mount")
        return
    try:
        server = Server(arguments.tenond, folder, free_port(arguments.port), arguments.server_arg,
                        database=os.path.join(path, "x.db"))
        server.start()
        server.stop()
        subprocess.run(["mount", "-o", "remount,ro", path], check=True)
        refuses(arguments, "a read-only disk is refused", folder, server.database,
                ["read-only", "readonly", "Read-only", "cannot", "unable"])
    finally:
        subprocess.run(["umount", "-l", path], check=False)


async def disk_full(arguments, folder):
    path = os.path.join(folder, "full")
    if not mount(path, "size=12m"):
        print("skip full disk: no right to mount")
        return
    log_path, effects_path = os.path.join(folder, "log"), os.path.join(folder, "effects")
    server = Server(arguments.tenond, folder, free_port(arguments.port), arguments.server_arg,
                    database=os.path.join(path, "x.db"))
    try:
        server.start()
        world = World(server.address, Log(log_path), Log(effects_path), 1)
        await world.connect()
        big = {"signals": 9, "timer": 0, "activities": 0, "once": False, "weight": "x" * 20000}
        refused = 0
        for n in range(3000):
            if await world.start(f"full-{n}", big) is None:
                refused += 1
            if refused >= 5:
                break
        told("a full disk is told to the callers", refused >= 5, f"{n + 1} starts, {refused} refused")
        told("the server lives on", server.alive(), last_words(folder))
        subprocess.run(["mount", "-o", "remount,size=200m", path], check=True)
        again = None
        for _ in range(100):
            again = await world.start(f"again-{_}", big)
            if again is not None:
                break
            await asyncio.sleep(0.1)
        told("it goes on when there is space again", again is not None, last_words(folder))
        server.kill()
        told("it starts again", server.start(), last_words(folder))
        verdict, runs, _ = await judge(server.address, log_path, effects_path, must_end=False)
        told("nothing that was acknowledged is lost", not verdict.violations and runs > 10,
             f"{runs} runs, {verdict.violations[:3]}")
        told("SIGTERM ends it with 0", server.stop() == 0)
    finally:
        server.kill()
        subprocess.run(["umount", "-l", path], check=False)


def unplugged(arguments, folder):
    """Without a plugin there is no server, and the message says what to do."""
    config = os.path.join(folder, "tenon.yaml")
    with open(config, "w") as file:
        file.write("persistence:\n  defaultStore: main\n  visibilityStore: main\n"
                   "  datastores:\n    main:\n      plugin: nosuchdriver\n      path: /tmp/x.db\n"
                   "authorization:\n  claimMapper: {plugin: none}\n")
    done = subprocess.run([arguments.tenond, "--config", config], capture_output=True, text=True, timeout=20)
    text = done.stderr + done.stdout
    told("a config without an authorizer and with an unknown driver is refused",
         done.returncode > 0 and "tenon.yaml:" in text and "fix:" in text, f"exit {done.returncode}: {text}")
    linked = subprocess.run(["ldd", arguments.tenond], capture_output=True, text=True).stdout
    told("tenond links no SQLite", "sqlite" not in linked.lower(), linked)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--port", type=int, default=17390)
    parser.add_argument("--server-arg", action="append", default=[])
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="tenon-faults.")
    for fault in (second_server, damaged, read_only, unplugged):
        fault(arguments, folder)
    asyncio.run(disk_full(arguments, folder))
    subprocess.run(["rm", "-rf", folder], check=False)
    print(f"faults: {passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
