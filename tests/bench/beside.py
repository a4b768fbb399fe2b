# SPDX-License-Identifier: MIT
"""Both servers in turn on one PostgreSQL, with the same load: what a workflow costs the server and the database.

    run --postgresql [--repeats 3] [--n 2000] [--reference-n 300] [--reference DIR] [--only KIND] [--folder DIR] [--write]

--reference: a folder with the programs `server` and `sql` of the Go module go.temporal.io/server; without it they are
built by `go install` (20 minutes, 3 GB of cache) into the tools' folder.  The reference and tenond take turns (A-B-A-B):
each round starts the server, warms it up, loads it with wfbench, looks at it idle and stops it.  Both keep history and
visibility in the same PostgreSQL 15 (defaults, and pg_stat_statements), 512 shards, rate limits off."""

import argparse
import importlib.util
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

from servers import WFBENCH, Watched, free_port

MODULE = "go.temporal.io/server"
VERSION = "1.32.0"
SHARDS = 512
IDLE_S = 30
SETTLE_S = 12  # PostgreSQL tells the transactions of an idle session ten seconds late
RATES = ("frontend.namespaceRPS", "frontend.rps", "frontend.namespaceRPS.visibility")


def databases():
    """tests/databases/servers.py, whose name is ours too."""
    path = pathlib.Path(__file__).resolve().parent.parent / "databases" / "servers.py"
    spec = importlib.util.spec_from_file_location("database_servers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def say(text):
    print(f"# {text}", file=sys.stderr, flush=True)


def ticks(pid, children):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(f) for f in fields[11:15 if children else 13]) / os.sysconf("SC_CLK_TCK")


# ---- the database ------------------------------------------------------------------------------------------------

class Database:
    def __init__(self, folder, tools):
        servers = databases()
        bin, why = servers.find("15", tools)
        if not bin:
            raise SystemExit(f"error: no PostgreSQL 15: {why}")
        os.chmod(folder, 0o755)
        self.server = servers.Postgres(bin, str(folder / "pg"), free_port(), {
            "shared_buffers": "128MB", "shared_preload_libraries": "pg_stat_statements"}).init().start()
        self.ask("CREATE EXTENSION pg_stat_statements")
        self.ask("CREATE ROLE bench LOGIN SUPERUSER PASSWORD 'bench'")

    def ask(self, sql):
        return self.server.ask(sql)

    def cpu_s(self):
        """Of all its processes, those that are gone too."""
        total = ticks(self.server.process.pid, True)
        for pid in self.server.children():
            try:
                total += ticks(pid, True)
            except (FileNotFoundError, ProcessLookupError):
                pass
        return total

    def transactions(self, names):
        return int(self.ask("SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database WHERE datname IN "
                            f"({names})"))

    def statements(self, names):
        """Every statement of every kind that a session of these databases has sent."""
        return int(self.ask("SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d "
                            f"ON d.oid = s.dbid WHERE toplevel AND datname IN ({names})"))

    def wal(self):
        return int(self.ask("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"))


# ---- the servers -------------------------------------------------------------------------------------------------

class Side(Watched):
    """One of the two servers, started anew in each round on the same databases."""

    kind, databases = "", ()

    def __init__(self, database, folder):
        super().__init__(None)
        self.database, self.folder, self.port = database, folder / self.kind, free_port()
        self.folder.mkdir()
        self.names = ", ".join(f"'{name}'" for name in self.databases)
        for name in self.databases:
            database.ask(f"CREATE DATABASE {name} OWNER bench")
        rates = self.folder / "dynamic.yaml"
        rates.write_text("".join(f"{rate}:\n  - value: 100000\n" for rate in RATES))
        self.prepare(rates)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def answers(self):
        done = subprocess.run([WFBENCH, "-addr", self.address, "-mode", "start", "-n", "1", "-c", "1", "-limit",
                               "3s"], capture_output=True)
        return done.returncode == 0

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 180
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                tail = (self.folder / "log").read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"{self.kind} did not answer: {tail}")
            self.knocked()
            time.sleep(0.5)

    def knocked(self):
        pass

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Tenond(Side):
    kind, databases = "tenond", ("tenon",)

    def prepare(self, rates):
        beside = pathlib.Path(os.environ["TENOND"]).resolve().parent / "plugins"
        plugins = f"plugins: {{dirs: [{beside}]}}\n" if beside.is_dir() else ""
        stanza = (f'{{plugin: postgresql, sql: {{connectAddr: "127.0.0.1:{self.database.server.port}", '
                  "databaseName: tenon, user: bench, password: bench, autoSetup: true}}")
        (self.folder / "tenon.yaml").write_text(f"""\
log: {{level: warn, format: text}}
services:
  frontend: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: {self.port}}}}}
  history: {{}}
  matching: {{}}
  worker: {{}}
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: {SHARDS}
  datastores:
    main: {stanza}
    search: {stanza}
authorization: {{claimMapper: {{plugin: none}}, authorizer: {{plugin: allow_all}}}}
{plugins}namespaces: {{create: [default], retention: 72h}}
dynamicConfigClient: {{filepath: {rates}}}
""")

    def command(self):
        return [os.environ["TENOND"], "--config", str(self.folder / "tenon.yaml")]


class Reference(Side):
    kind, databases = "reference", ("temporal", "temporal_visibility")

    def __init__(self, database, folder, programs):
        self.programs = programs
        super().__init__(database, folder)

    def prepare(self, rates):
        found = subprocess.run(["go", "mod", "download", "-json", f"{MODULE}@v{VERSION}"], capture_output=True, text=True,
                               env={**os.environ, "GOFLAGS": "-mod=mod"}, cwd=self.folder, check=True)
        schema = pathlib.Path(json.loads(found.stdout)["Dir"]) / "schema/postgresql/v12"
        port = self.database.server.port
        tool = [str(self.programs / "sql"), "--plugin", "postgres12", "--ep", "127.0.0.1", "-p", str(port), "-u", "bench",
                "--pw", "bench"]
        for name, part in zip(self.databases, ("temporal", "visibility")):
            for words in (["setup-schema", "-v", "0.0"], ["update-schema", "-d", str(schema / part / "versioned")]):
                subprocess.run([*tool, "--db", name, *words], check=True, capture_output=True)
        ports = {role: (free_port(), free_port()) for role in ("matching", "history", "worker")}
        ports["frontend"] = (self.port, free_port())
        services = "".join(f"  {role}: {{rpc: {{grpcPort: {a}, membershipPort: {b}, bindOnLocalHost: true}}}}\n"
                           for role, (a, b) in ports.items())

        def store(name, conns):
            return (f"{{sql: {{pluginName: postgres12, databaseName: {name}, connectAddr: \"127.0.0.1:{port}\", "
                    f"connectProtocol: tcp, user: bench, password: bench, maxConns: {conns}, maxIdleConns: {conns}, "
                    "maxConnLifetime: 1h}}")

        (self.folder / "config").mkdir()
        (self.folder / "config/development.yaml").write_text(f"""\
log: {{stdout: true, level: error}}
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: {SHARDS}
  datastores:
    main: {store("temporal", 20)}
    search: {store("temporal_visibility", 10)}
global: {{membership: {{maxJoinDuration: 30s, broadcastAddress: 127.0.0.1}}}}
services:
{services}clusterMetadata:
  enableGlobalNamespace: false
  failoverVersionIncrement: 10
  masterClusterName: active
  currentClusterName: active
  clusterInformation:
    active: {{enabled: true, initialFailoverVersion: 1, rpcName: frontend, rpcAddress: "{self.address}"}}
dcRedirectionPolicy: {{policy: noop}}
archival: {{history: {{state: disabled}}, visibility: {{state: disabled}}}}
namespaceDefaults: {{archival: {{history: {{state: disabled}}, visibility: {{state: disabled}}}}}}
dynamicConfigClient: {{filepath: {rates}, pollInterval: 10s}}
""")

    def command(self):
        return [str(self.programs / "server"), "--root", str(self.folder), "--env", "development", "start"]

    def knocked(self):
        subprocess.run([os.environ["REFERENCE"], "operator", "namespace", "create", "--address", self.address, "-n",
                        "default"], capture_output=True)


def reference_programs(given, tools):
    """The folder with `server` and `sql`, built if they are not there."""
    folder = pathlib.Path(given) if given else pathlib.Path(tools) / f"reference-{VERSION}"
    if not all((folder / name).exists() for name in ("server", "sql")):
        if given:
            raise SystemExit(f"error: {folder} has no server and sql")
        say(f"building {MODULE} {VERSION}")
        subprocess.run(["nice", "go", "install", f"{MODULE}/cmd/server@v{VERSION}", f"{MODULE}/cmd/tools/sql@v{VERSION}"],
                       env={**os.environ, "GOBIN": str(folder), "GOFLAGS": "-mod=mod"}, check=True)
    return folder.resolve()


# ---- measuring ---------------------------------------------------------------------------------------------------

ROWS = {"cpu": "server CPU, ms", "db": "PostgreSQL CPU, ms", "x64": "transactions, 64 starters",
        "x1": "transactions, 1 starter", "wal": "WAL, KB", "p99": "p99 of a start, 64 starters, ms",
        "rate": "workflows a second", "idle": "statements a second, idle", "idle_x": "transactions a second, idle",
        "rss": "resident, MB"}


def bench(side, mode, n, starters):
    line = [WFBENCH, "-addr", side.address, "-mode", mode, "-n", str(n), "-c", str(starters), "-json", "-limit", "600s"]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{side.kind} {mode}: {done.stdout[-300:]} {done.stderr[-600:]}")
    return json.loads(done.stdout)


def cost(side, n, starters):
    """What `n` workflows of one activity cost, each."""
    database = side.database
    time.sleep(SETTLE_S)
    before = (side.cpu_s(), database.cpu_s(), database.transactions(side.names), database.wal())
    got = bench(side, "activity", n, starters)
    time.sleep(2)  # what is written a moment later belongs to it
    cpu, db, wal = side.cpu_s() - before[0], database.cpu_s() - before[1], database.wal() - before[3]
    time.sleep(SETTLE_S)
    return {"cpu": cpu * 1000 / n, "db": db * 1000 / n, "wal": wal / n / 1024, "rate": got["workflows_per_s"],
            "x": database.transactions(side.names) - before[2]}


def measure(side, n):
    side.start()
    try:
        bench(side, "activity", max(50, n // 10), 16)  # caches warm
        few = max(20, n // 10)
        many, one = cost(side, n, 64), cost(side, few, 1)
        p99 = bench(side, "start", n, 64)["start_p99_ms"]
        time.sleep(SETTLE_S)
        x, calls, began = side.database.transactions(side.names), side.database.statements(side.names), time.monotonic()
        time.sleep(IDLE_S)
        calls = side.database.statements(side.names) - calls
        took = time.monotonic() - began
        x = side.database.transactions(side.names) - x
        quiet = x / took * (SETTLE_S + 2)  # of the waits around a load: not the workflows'
        return {"cpu": many["cpu"], "db": many["db"], "x64": max(0, many["x"] - quiet) / n,
                "x1": max(0, one["x"] - quiet) / few, "wal": many["wal"], "p99": p99,
                "rate": many["rate"], "idle": calls / took, "idle_x": x / took, "rss": side.rss_mb()}
    finally:
        side.stop()


def number(value):
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cell(values):
    return f"{number(statistics.median(values))} ({number(min(values))}–{number(max(values))})" if values else "–"


def table(found):
    lines = ["| a one-activity workflow | tenond | reference | reference / tenond |", "| --- | ---: | ---: | ---: |"]
    for key, row in ROWS.items():
        ours, theirs = ([round[key] for round in found[kind]] for kind in ("tenond", "reference"))
        ratio = "–"
        if ours and theirs and statistics.median(ours) > 0:
            ratio = number(statistics.median(theirs) / statistics.median(ours))
        lines.append(f"| {row} | {cell(ours)} | {cell(theirs)} | {ratio} |")
    return "\n".join(lines)


def write_readme(text):
    path = pathlib.Path(__file__).with_name("README.md")
    body = path.read_text()
    path.write_text(re.sub(r"(<!-- beside -->\n).*?(<!-- end of beside -->)", lambda m: m[1] + text + m[2], body,
                           flags=re.S))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--n", type=int, default=2000, help="workflows of a round of tenond")
    parser.add_argument("--reference-n", type=int, default=300, help="... of the reference, whose figures need fewer")
    parser.add_argument("--reference", help="the folder with the reference's programs")
    parser.add_argument("--only", choices=("tenond", "reference"))
    parser.add_argument("--folder", help="where the database lies (default: the temporary folder)")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    arguments = parser.parse_args()
    tools = os.environ["TOOLS"]
    kinds = [arguments.only] if arguments.only else ["reference", "tenond"]
    programs = reference_programs(arguments.reference, tools) if "reference" in kinds else None
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tenon-beside-", dir=arguments.folder))
    database = Database(folder, tools)
    found = {"tenond": [], "reference": []}
    try:
        sides = {kind: Tenond(database, folder) if kind == "tenond" else Reference(database, folder, programs)
                 for kind in kinds}
        for turn in range(arguments.repeats):
            for kind in kinds:
                got = measure(sides[kind], arguments.n if kind == "tenond" else arguments.reference_n)
                found[kind].append(got)
                say(f"{kind} {turn + 1}: " + ", ".join(f"{key} {number(value)}" for key, value in got.items())
                    + f"; load average {os.getloadavg()[0]:.1f}")
    finally:
        database.server.stop()
    text = table(found) + "\n"
    print(text)
    if arguments.write:
        write_readme(text)
    subprocess.run(["rm", "-rf", str(folder)], check=False)


if __name__ == "__main__":
    main()
