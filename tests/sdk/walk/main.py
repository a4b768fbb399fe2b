# SPDX-License-Identifier: MIT
"""Walks the tree of the temporal CLI's commands: each is asked of both servers, and both must say the same."""

import argparse
import asyncio
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time
import uuid
from datetime import timedelta

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))
sys.path.insert(0, str(HERE))

import cases_update  # noqa: E402
import flows  # noqa: E402
from steps import NOT_ASKED, STEPS  # noqa: E402
from temporalio.client import Client  # noqa: E402
from temporalio.worker import UnsandboxedWorkflowRunner, Worker  # noqa: E402

COMMAND_LIMIT_S = 60
UNTIL_LIMIT_S = 60
# What a server may choose, or what the machine's time decides.
FREE = re.compile(r"^(nextPageToken|.*[sS]ize.*|.*[lL]ength.*|conflictToken|attempt|historyShardCount|serverVersion|"
                  r"persistenceStore|httpAddress|serverScaledDeployments|visibilityStore|clusterId|.*Rate|.*Age|approximateBacklogCount)$")


def tree(cli, path=()):
    """The leaves of the command tree, as the CLI's own help tells it."""
    out = subprocess.run([cli, *path, "--help"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Available Commands:\n(.*?)\n\n", out, re.S)
    below = [line.split()[0] for line in found.group(1).splitlines() if line.strip()] if found else []
    below = [b for b in below if not (not path and b in NOT_ASKED) and b not in ("help", "completion")]
    if not below:
        return [" ".join(path)]
    own = [" ".join(path)] if path and re.search(r"^  temporal .*\[flags\]$", out, re.M) else []
    return own + [leaf for b in below for leaf in tree(cli, (*path, b))]


class Side:
    """One server: its steps one after another."""

    def __init__(self, cli, address, names):
        self.cli, self.address, self.names = cli, address, dict(names)
        self.said, self.took = [], []

    async def once(self, words, options):
        line = [self.cli, *words, "--address", self.address]
        if options.get("ns", 1):
            line += ["--namespace", "default"]
        if not options.get("text"):
            line += ["--output", "json"]
        process = await asyncio.create_subprocess_exec(
            *line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL)
        try:
            out, err = await asyncio.wait_for(process.communicate(), COMMAND_LIMIT_S)
        except asyncio.TimeoutError:
            process.kill()
            return 99, "", "no end after %d s" % COMMAND_LIMIT_S
        return process.returncode, out.decode(), err.decode()

    async def ask(self, template, options):
        words = shlex.split(template.format(**self.names))
        until = options.get("until", "").format(**self.names)
        began = time.monotonic()
        for _ in range(UNTIL_LIMIT_S * 4):
            code, out, err = await self.once(words, options)
            if not until or until in out + err or "not implemented" in err.lower() or "unknown method" in err:
                break
            await asyncio.sleep(0.25)
        else:
            err += "\n(never said %r)" % until
            code = 98
        if "keep" in options and code == 0:
            name, path = options["keep"].split(":")
            value = as_json(out)
            for part in path.split("."):
                value = value[int(part)] if part.isdigit() else value.get(part, {})
            self.names[name] = str(value)
        self.said.append((code, out, err))
        self.took.append(time.monotonic() - began)


def as_json(out):
    try:
        return json.loads(out)
    except ValueError:
        try:
            return [json.loads(line) for line in out.splitlines() if line.strip()]
        except ValueError:
            return None


def shape(value):
    """What an answer is made of: the fields and their types; words that are names of states stay."""
    if isinstance(value, dict):
        return {re.sub(r"^[0-9a-f]{8}-[0-9a-f-]{27}$", "UUID", k): shape(v) for k, v in sorted(value.items())
                if not FREE.match(k)}
    if isinstance(value, list):
        parts = [shape(v) for v in value]
        return sorted({json.dumps(p, sort_keys=True) for p in parts})
    if isinstance(value, str) and re.fullmatch(r"[A-Z][A-Z_]{4,}", value):
        return value
    return type(value).__name__


def complaint(err, names):
    """An error's words without what is a run's, a time's or a host's own."""
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith(("Warning", "time="))]
    text = " ".join(lines)
    for pattern, word in ((r"[0-9a-f]{8}-[0-9a-f-]{27}", "UUID"), (r"127\.0\.0\.1:\d+", "ADDRESS"), (r"\d+", "N"),
                          (r"\(reported by[^)]*\)", "")):
        text = re.sub(pattern, word, text)
    return text.replace(names["w"], "W")


def compare(a, b, options, names):
    """None, or what differs."""
    if (a[0] == 0) != (b[0] == 0):
        return "exit %d and %d: %s | %s" % (a[0], b[0], *(" ".join((s[2] or s[1])[-300:].split()) for s in (a, b)))
    if options.get("refused") and a[0] == 0:
        return "nobody refused it"
    if options.get("loose"):
        return None
    if a[0] != 0:
        words = complaint(a[2], names), complaint(b[2], names)
        return None if words[0] == words[1] else "%s | %s" % words
    if options.get("text"):
        return None if a[1] == b[1] else "%r | %r" % (a[1][:300], b[1][:300])
    shapes = [shape(as_json(side[1])) for side in (a, b)]
    if shapes[0] == shapes[1]:
        return None
    return "; ".join(differences(*shapes))[:1500]


def differences(a, b, path=""):
    if isinstance(a, dict) and isinstance(b, dict):
        out = []
        for k in sorted(set(a) | set(b)):
            if k not in b:
                out.append("%s.%s is missing: %s" % (path, k, json.dumps(a[k])[:200]))
            elif k not in a:
                out.append("%s.%s is too much: %s" % (path, k, json.dumps(b[k])[:200]))
            elif a[k] != b[k]:
                out += differences(a[k], b[k], path + "." + k)
        return out
    return ["%s: %s, here %s" % (path, json.dumps(a)[:500], json.dumps(b)[:500])]


async def worker_of(address, queue):
    client = await Client.connect(address)
    return Worker(client, task_queue=queue, workflows=flows.WORKFLOWS + cases_update.WORKFLOWS,
                  activities=[f for f in flows.ACTIVITIES if f is not flows.echo_in_thread],
                  workflow_runner=UnsandboxedWorkflowRunner(), graceful_shutdown_timeout=timedelta(0))


async def walk(arguments, steps, names):
    sides = [Side(arguments.cli, address, names) for address in (arguments.a, arguments.b)]
    workers = [await worker_of(side.address, names["queue"]) for side in sides]

    async def all_steps(side, worker):
        async with worker:
            for template, options in steps:
                await side.ask(template, options)
    await asyncio.gather(*(all_steps(side, worker) for side, worker in zip(sides, workers)))
    return sides


def words_of(template):
    return [w for w in shlex.split(template.replace("{{", "{").replace("}}", "}"))]


def judge_tree(cli, passed, failed):
    """Each leaf is asked."""
    asked = [" ".join(words_of(template)) for template, _ in STEPS]
    for leaf in tree(cli):
        if any(line.startswith(leaf + " ") or line == leaf for line in asked):
            passed.append(leaf)
        else:
            failed.append(leaf)
            print("not ok %s: no step asks it" % leaf)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cli", required=True)
    parser.add_argument("--a", required=True)
    parser.add_argument("--b", required=True)
    parser.add_argument("--dir", default=".")
    parser.add_argument("--only", help="only steps that contain these words")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--same", action="store_true", help="both are the reference")
    arguments = parser.parse_args()
    word = "w" + uuid.uuid4().hex[:6]
    names = {"w": word, "n": uuid.uuid4().hex[:6], "queue": word + "-queue", "dir": arguments.dir, "job": "none",
             "worker": "none"}
    with open(os.path.join(arguments.dir, "history.json"), "w") as f:
        json.dump({"events": [{"eventId": "1", "eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED"}]}, f)
    steps = [s for s in STEPS if not arguments.only or arguments.only in s[0]]
    passed, failed = [], []
    if not arguments.only:
        judge_tree(arguments.cli, passed, failed)
    a, b = asyncio.run(walk(arguments, steps, names))
    for i, (template, options) in enumerate(steps):
        # What the reference has behind a gate and this server has on is judged by this server's own word.
        what = None
        if "gate" in options and a.said[i][0] != 0 and not arguments.same:
            what = None if b.said[i][0] == 0 else "refused here: " + b.said[i][2][-300:]
        else:
            what = compare(a.said[i], b.said[i], options, names)
        (failed if what else passed).append(template)
        print("%s %s%s" % ("not ok" if what else "ok", template.replace("{w}", "W"), ": " + what if what else ""))
        if arguments.verbose:
            print("    %.1f s A: %r\n    %.1f s B: %r" % (a.took[i], a.said[i], b.took[i], b.said[i]))
    print("walk: %d passed, %d failed" % (len(passed), len(failed)))
    return 1 if failed else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the SDK's native part is not always at rest when the interpreter is torn down
