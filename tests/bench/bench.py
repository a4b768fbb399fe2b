# SPDX-License-Identifier: MIT
"""Measures tenond and the reference server in one run and prints a table.

    bench.py [--repeats 5] [--n 1000] [--only tenond|reference] [--part speed,…] [--scale]
             [--restate] [--folder DIR] [--write]

Parts: speed (CPU, throughput, latency), disk (bytes, fsyncs, store calls), memory, startup, idle,
park. --scale adds 100,000 waiting timers and 1,000,000 closed workflows (minutes). --restate adds
Restate's own figures. --write puts the tables into README.md."""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from servers import WFBENCH, Server

PARTS = ("speed", "disk", "memory", "startup", "idle", "park")
IDLE_S = 30


def say(text):
    print(f"# {text}", file=sys.stderr, flush=True)


def load(server, mode, n, *more, limit=900):
    """One wfbench run against a server; answers its figures."""
    line = [WFBENCH, "-addr", server.address, "-mode", mode, "-n", str(n), "-pids",
            str(server.pid), "-json", "-limit", f"{limit}s", *more]
    done = subprocess.run(line, capture_output=True, text=True, timeout=limit + 60)
    if done.returncode != 0:
        raise RuntimeError(f"{server.kind} {mode}: {done.stdout[-300:]} {done.stderr[-600:]}")
    return json.loads(done.stdout)


class Table:
    """Figures by row and server; a row keeps every value and shows the median."""

    def __init__(self):
        self.rows = {}

    def add(self, row, kind, value):
        self.rows.setdefault(row, {}).setdefault(kind, []).append(value)

    def markdown(self, kinds):
        def cell(row, kind):
            values = self.rows[row].get(kind)
            if not values:
                return "–"
            middle = statistics.median(values)
            text = f"{middle:,.0f}" if middle >= 100 else f"{middle:.3g}"
            if len(values) > 1:
                text += f" ({min(values):.3g}–{max(values):.3g})"
            return text
        lines = ["| figure | " + " | ".join(kinds) + " | reference / tenond |",
                 "| --- |" + " ---: |" * (len(kinds) + 1)]
        for row, found in self.rows.items():
            ratio = "–"
            if found.get("tenond") and found.get("reference"):
                ours = statistics.median(found["tenond"])
                if ours:
                    ratio = f"{statistics.median(found['reference']) / ours:.3g}"
            lines.append(f"| {row} | " + " | ".join(cell(row, k) for k in kinds) + f" | {ratio} |")
        return "\n".join(lines)


class Bench:
    def __init__(self, arguments):
        self.arguments, self.table = arguments, Table()
        self.kinds = [arguments.only] if arguments.only else ["tenond", "reference"]

    def folder(self):
        return tempfile.mkdtemp(prefix="tenon-bench-", dir=self.arguments.folder)

    def server(self, kind, folder=None):
        self.last_folder = folder or self.folder()
        return Server(kind, self.last_folder)

    def count(self, kind):
        """The reference is slow: fewer workflows give the same figure per workflow."""
        return self.arguments.n if kind == "tenond" else max(self.arguments.n // 10, 100)

    # ---- parts -------------------------------------------------------------------------------

    def speed(self):
        for repeat in range(self.arguments.repeats):
            for kind in self.kinds:
                say(f"speed, {kind}, {repeat + 1} of {self.arguments.repeats}")
                folder = self.folder()
                with self.server(kind, folder) as server:
                    n = self.count(kind)
                    load(server, "activity", max(n // 10, 20))  # caches and files warm
                    for mode in ("noop", "activity"):
                        got = load(server, mode, n)
                        name = {"noop": "no-op", "activity": "one-activity"}[mode]
                        self.table.add(f"CPU a {name} workflow, ms", kind,
                                       got["cpu_ms_per_workflow"])
                        self.table.add(f"{name} workflows a second", kind, got["workflows_per_s"])
                        self.table.add(f"{name} end to end p50, ms", kind, got["e2e_p50_ms"])
                    got = load(server, "start", n, "-c", "32")
                    self.table.add("start p50 at 32 starters, ms", kind, got["start_p50_ms"])
                    self.table.add("start p99 at 32 starters, ms", kind, got["start_p99_ms"])
                    self.table.add("starts a second", kind, got["starts_per_s"])
                shutil.rmtree(folder)

    def disk(self):
        for kind in self.kinds:
            say(f"disk, {kind}")
            folder = self.folder()
            with self.server(kind, folder) as server:
                n = self.count(kind)
                load(server, "activity", max(n // 10, 20))
                before, metrics = server.written(), server.metrics()
                load(server, "activity", n)
                time.sleep(2)
                self.table.add("bytes written a one-activity workflow", kind,
                               (server.written() - before) / n)
                for row, value in store_calls(metrics, server.metrics()).items():
                    self.table.add(row, kind, value / n)
                self.table.add("fsyncs a one-activity workflow, 64 starters", kind,
                               self.fsyncs(server, n) / n)
            shutil.rmtree(folder)

    def fsyncs(self, server, n):
        """A run of its own: tracing slows the server down."""
        out = pathlib.Path(self.last_folder) / "strace.out"
        tracer = subprocess.Popen(
            ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync,sync_file_range,msync", "-o",
             str(out), "-p", str(server.pid)], stderr=subprocess.DEVNULL)
        time.sleep(1)
        load(server, "activity", n, "-c", "64")
        tracer.terminate()
        tracer.wait(30)
        calls = 0
        for line in out.read_text().splitlines():
            words = line.split()
            if words and words[-1] in ("fsync", "fdatasync", "sync_file_range", "msync"):
                calls += int(words[3])
        return calls

    def memory(self):
        for kind in self.kinds:
            say(f"memory, {kind}")
            folder = self.folder()
            with self.server(kind, folder) as server:
                time.sleep(2)
                self.table.add("resident, fresh, MB", kind, server.rss_mb())
                load(server, "activity", 2000)
                self.table.add("resident after 2,000 workflows, MB", kind, server.rss_mb())
            shutil.rmtree(folder)

    def startup(self):
        for kind in self.kinds:
            say(f"startup, {kind}")
            folder = self.folder()
            with self.server(kind, folder) as server:
                load(server, "activity", 200)
            for _ in range(max(self.arguments.repeats, 10)):
                with self.server(kind, folder) as server:
                    self.table.add("start-up to the first answer, existing database, ms", kind,
                                   server.startup_s * 1000)
            shutil.rmtree(folder)

    def idle(self):
        for kind in self.kinds:
            say(f"idle, {kind}")
            folder = self.folder()
            with self.server(kind, folder) as server:
                time.sleep(5)
                wakeups, cpu = server.wakeups(), server.cpu_s()
                time.sleep(IDLE_S)
                self.table.add("idle: resident, MB", kind, server.rss_mb())
                self.table.add("idle: wake-ups a second", kind,
                               (server.wakeups() - wakeups) / IDLE_S)
                self.table.add("idle: CPU, % of a core", kind,
                               100 * (server.cpu_s() - cpu) / IDLE_S)
            shutil.rmtree(folder)

    def park(self):
        for kind in self.kinds:
            n = 10000 if kind == "tenond" else 1000  # its limit a namespace is 1,200
            say(f"park, {kind}, {n} polls")
            folder = self.folder()
            with self.server(kind, folder) as server:
                got = load(server, "park", n, "-hold", "10s", "-conns", "20")
                self.table.add(f"{n:,} parked polls: resident, MB", kind,
                               got["rss_after_kb"] / 1024)
            shutil.rmtree(folder)

    def scale(self):
        """100,000 workflows that wait on a timer and 1,000,000 closed ones, in tenond only: the
        reference would need hours for them."""
        waiting, closed = self.arguments.scale_waiting, self.arguments.scale_closed
        folder = self.folder()
        with self.server("tenond", folder) as server:
            say(f"scale: {closed:,} closed workflows")
            load(server, "noop", closed, "-c", "64", "-pollers", "64", "-word", "closed",
                 limit=3600)
            say(f"scale: {waiting:,} waiting workflows")
            load(server, "timer", waiting, "-c", "64", "-pollers", "64", limit=3600)
            name = f"scale, {waiting:,} waiting, {closed:,} closed: "
            self.table.add(name + "resident at most while they came, MB", "tenond",
                           server.peak_rss_mb())
            got = load(server, "query", 10, "-word", "closed")
            for key, text in (("list_p50_ms", "list of 100, median, ms"),
                              ("list_max_ms", "slowest of 50 lists, ms"),
                              ("count_p50_ms", "count, median, ms"),
                              ("count_max_ms", "slowest of 70 counts, ms")):
                self.table.add(name + text, "tenond", got[key])
            time.sleep(IDLE_S + 10)
            self.table.add(name + "resident, idle, MB", "tenond", server.rss_mb())
            if got["count"] != closed:
                raise RuntimeError(f"{got['count']} closed workflows are counted, not {closed}")
        with self.server("tenond", folder) as server:
            self.table.add(name + "start-up, ms", "tenond", server.startup_s * 1000)
            load(server, "query", 10, "-word", "closed")
            self.table.add(name + "resident after a restart and 120 questions, MB", "tenond",
                           server.rss_mb())
        shutil.rmtree(folder)


def store_calls(before, after):
    """Calls of the store in between, by the reference's metric name, which tenond keeps."""
    commits = reads = 0.0
    for name, value in after.items():
        kind = re.match(r"(persistence_requests|tenon_store_commits|tenon_store_reads)(_total)?\b",
                        name)
        if not kind:
            continue
        grown = value - before.get(name, 0)
        operation = re.search(r'operation="([^"]*)"', name)
        operation = operation.group(1) if operation else name
        if kind.group(1) == "tenon_store_commits" or re.match(
                r"(?i)(commit|create|update|append|add|delete|set|upsert|complete|range.?complete)",
                operation):
            commits += grown
        else:
            reads += grown
    if not commits and not reads:
        return {}
    return {"store writes a one-activity workflow": commits,
            "store reads a one-activity workflow": reads}


def machine():
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1])
    return (f"{os.cpu_count()} cores ({cpu.group(1) if cpu else 'unknown'}), "
            f"{memory / 2**20:.0f} GiB, Linux {os.uname().release}")


def merged(old, new):
    """Rows by name, each with its values by server; what was measured anew replaces the old."""
    rows = {row: dict(found) for row, found in old.items()}
    for row, found in new.items():
        rows.setdefault(row, {}).update(found)
    return rows


def write_readme(text):
    path = pathlib.Path(__file__).with_name("README.md")
    body = path.read_text()
    start, end = "<!-- figures -->\n", "<!-- end of figures -->\n"
    head, rest = body.split(start, 1)
    path.write_text(head + start + text + "\n" + end + rest.split(end, 1)[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--n", type=int, default=2000, help="workflows a run (reference: a tenth)")
    parser.add_argument("--only", choices=("tenond", "reference"))
    parser.add_argument("--part", default=",".join(PARTS), help="comma separated")
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--scale-waiting", type=int, default=100_000)
    parser.add_argument("--scale-closed", type=int, default=1_000_000)
    parser.add_argument("--restate", action="store_true")
    parser.add_argument("--folder", help="where the databases lie (default: the temporary folder)")
    parser.add_argument("--keep", help="a JSON file: rows that this run does not measure are taken "
                        "from it, all are put there, so that a table can be made in several runs")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    kept = pathlib.Path(arguments.keep) if arguments.keep else None
    failed = 0
    parts = [p for p in arguments.part.split(",") if p] + ["scale"] * arguments.scale
    for part in parts:
        try:
            getattr(bench, part)()
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            say(f"{part} failed: {error}")
            failed += 1
    kinds = list(bench.kinds)
    if arguments.restate:
        import restate_server
        restate_server.measure(bench.table, arguments.repeats, arguments.n, bench.folder())
        kinds.append("restate")
    if kept:
        if kept.exists():
            bench.table.rows = merged(json.loads(kept.read_text()), bench.table.rows)
        kept.write_text(json.dumps(bench.table.rows, indent=1))
    text = (f"{time.strftime('%Y-%m-%d')}, {machine()}; median of {arguments.repeats}"
            f" (least–most).\n\n" + bench.table.markdown(kinds) + "\n")
    print(text)
    if arguments.write:
        write_readme(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
