# SPDX-License-Identifier: MIT
"""Restate under the same kind of load: an invocation with one durable step stands for a workflow
with one activity, an invocation that returns at once for a no-op workflow. CPU and bytes are those
of restate-server alone; the service and the callers are not counted, as workers are not either."""

import json
import os
import pathlib
import shutil
import subprocess
import time
import urllib.error
import urllib.request

from servers import Watched, free_port

HERE = pathlib.Path(__file__).resolve().parent / "restate"


def install():
    """The packages go into the build folder, beside copies of the two programs."""
    to = pathlib.Path(os.environ["TOOLS"]) / "restate"
    to.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "service.js", "load.js"):
        shutil.copy(HERE / name, to / name)
    if not (to / "node_modules" / ".bin" / "restate-server").exists():
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund",
                        "--no-package-lock"], cwd=to, check=True)
    return to


def until(test, what, seconds=60):
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            raise RuntimeError(f"restate: {what}")
        time.sleep(0.1)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def load(folder, ingress, handler, n, callers=32):
    done = subprocess.run(["node", "load.js", str(ingress), handler, str(n), str(callers)],
                          cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"restate load: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def start(tools, folder, ports):
    ingress, admin, node = ports
    environment = dict(
        os.environ, RESTATE_BASE_DIR=str(folder), RESTATE_INGRESS__BIND_ADDRESS=f"127.0.0.1:{ingress}",
        RESTATE_ADMIN__BIND_ADDRESS=f"127.0.0.1:{admin}", RESTATE_BIND_ADDRESS=f"127.0.0.1:{node}",
        RESTATE_ADVERTISED_ADDRESS=f"http://127.0.0.1:{node}/", RESTATE_DISABLE_TELEMETRY="true",
        RESTATE_LOG_FILTER="error")
    binary = next((tools / "node_modules" / "@restatedev").glob("restate-server-*/bin/restate-server"))
    log = open(pathlib.Path(folder) / "log", "ab")
    return subprocess.Popen([str(binary)], env=environment, stdout=log, stderr=log,
                            stdin=subprocess.DEVNULL)


def measure(table, repeats, n, folder):
    tools = install()
    service_port = free_port()
    service = subprocess.Popen(["node", "service.js", str(service_port)], cwd=tools,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ports = [free_port() for _ in range(3)]
    process = start(tools, folder, ports)
    watched = Watched(process)
    try:
        until(lambda: answers(f"http://127.0.0.1:{ports[1]}/health"), "it does not answer")
        request = urllib.request.Request(
            f"http://127.0.0.1:{ports[1]}/deployments", method="POST",
            data=json.dumps({"uri": f"http://127.0.0.1:{service_port}"}).encode(),
            headers={"content-type": "application/json"})
        urllib.request.urlopen(request, timeout=60).read()
        load(tools, ports[0], "activity", n // 4)
        for _ in range(repeats):
            for handler, name in (("noop", "no-op"), ("activity", "one-activity")):
                cpu, written = watched.cpu_s(), watched.written()
                got = load(tools, ports[0], handler, n)
                time.sleep(0.5)
                table.add(f"CPU a {name} workflow, ms", "restate",
                          (watched.cpu_s() - cpu) * 1000 / n)
                table.add(f"{name} workflows a second", "restate", got["per_s"])
                table.add(f"{name} end to end p50, ms", "restate", got["p50_ms"])
                if handler == "activity":
                    table.add("bytes written a one-activity workflow", "restate",
                              (watched.written() - written) / n)
        table.add("resident after 2,000 workflows, MB", "restate", watched.rss_mb())
    finally:
        for child in (process, service):
            child.terminate()
            child.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
