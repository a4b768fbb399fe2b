# SPDX-License-Identifier: MIT
"""persistence/postgresql and visibility/postgresql on real servers: the contract on each version, then faults under load, each judged by `load`
(every answer that the store gave is compared with what is there in the end)."""

import argparse
import contextlib
import asyncio
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types

from proxy import Proxy
from servers import PATIENCE_S, Ports, Postgres, find, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))

SCHEMA_CONFIG = """\
plugins: {{dirs: [{plugins}]}}
services: {{frontend: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: 1}}}}, history: {{}}, matching: {{}}, worker: {{}}}}
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: 4
  datastores:
    main:
      plugin: postgresql
      {stanza}
    search: {{plugin: sqlite, path: {folder}/search.db}}
authorization: {{claimMapper: {{plugin: none}}, authorizer: {{plugin: allow_all}}}}
namespaces: {{create: [default], retention: 72h}}
"""


class Suite:
    name = "postgresql"

    def __init__(self, arguments):
        self.build, self.long = os.path.abspath(arguments.build), arguments.long
        self.plugins = os.path.abspath(arguments.plugins or self.build + "/plugins")
        self.tools = arguments.tools
        self.ports = Ports(arguments.port)
        self.plugin = os.path.join(self.plugins, "persistence/postgresql.so")
        self.visibility = os.path.join(self.plugins, "visibility/postgresql.so")
        self.folder = tempfile.mkdtemp(prefix="tenon-pg.")
        os.chmod(self.folder, 0o755)
        self.servers, self.passed, self.failed, self.skipped = [], 0, 0, 0
        self.loads = []
        self.only = arguments.only

    # ---- servers ----

    def server(self, version="15", name=None, **settings):
        bin, why = find(version, self.tools)
        if not bin:
            raise LookupError(why)
        folder = os.path.join(self.folder, name or f"pg{version}-{len(self.servers)}")
        server = Postgres(bin, folder, self.ports.take(), settings).init()
        self.servers.append(server)
        return server

    def stanza(self, server, schema="kit", port=None, extra="", more=""):
        address = f"127.0.0.1:{port or server.port}" if not isinstance(port, str) else port
        return (f'sql: {{connectAddr: "{address}", databaseName: postgres, user: postgres, '
                f'schemaName: "{schema}"{extra}}}{more}')

    def load(self, stanza, verify, seconds, owner="A", *arguments):
        """With "-w" it works until judge(), and then so many seconds; see load.c."""
        return self.begin("load", self.plugin, stanza, verify, str(seconds), owner, *map(str, arguments))

    def begin(self, program, *arguments):
        self.loads.append(subprocess.Popen(
            [os.path.join(self.build, "tests/databases", program), *arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return self.loads[-1]

    @contextlib.contextmanager
    def within(self, process, seconds=900):
        """What hangs is ended, and said to have."""
        timer = threading.Timer(seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def until(self, process, word):
        """Waits for a fact that a load tells of, for faults must meet one at work, on however slow a machine."""
        said = []
        with self.within(process, PATIENCE_S):
            for line in process.stdout:
                said.append(line)
                if line.strip() == word:
                    return
        process.wait()
        raise AssertionError(f'it never said "{word}" (exit status {process.returncode}):\n' + "".join(said[-30:]))

    def judge(self, process):
        """The faults are over: what the load says in the end."""
        process.stdin.close()
        with self.within(process):
            out = process.stdout.read()
            process.wait()
        if process.returncode or not out.strip():
            raise AssertionError(f"exit status {process.returncode}:\n" + out)
        line = out.strip().splitlines()[-1]
        return line, {k: float(v) for k, v in re.findall(r"(\w+) (\d[\d.]*)", line)}

    def on_a_bad_network(self, server, begin, seconds, faults, meanwhile=lambda: None):
        """begin(port) starts a load; for so long, and until so many faults have happened to it and meanwhile() is done, its
        network is bad."""
        async def campaign():
            seed = random.randrange(2**31)
            proxy = Proxy(self.ports.take(), server.port, seed)
            await proxy.start()
            process = begin(proxy.port)
            await asyncio.to_thread(self.until, process, "acked")
            proxy.worsen()
            other = asyncio.create_task(asyncio.to_thread(meanwhile))
            began = time.monotonic()
            while process.poll() is None and (time.monotonic() < began + seconds or proxy.faults() < faults):
                if time.monotonic() > began + seconds + PATIENCE_S:
                    raise AssertionError(f"only {proxy.told()}: this shows nothing")
                await asyncio.sleep(0.05)
            await other
            proxy.mend()
            line, figures = await asyncio.to_thread(self.judge, process)
            await proxy.stop()
            return f"{line} ({proxy.told()}; seed {seed})", figures

        return asyncio.run(campaign())

    @staticmethod
    def doubt_has_reasons(line, figures):
        """A commit is in doubt only when its time (10 s) was over before anybody could be asked what became of it."""
        assert figures["uncertain"] == 0 or figures["slowest"] > 8, line

    def fill(self, folder):
        """Fills a disk; the path of what to remove."""
        ballast = os.path.join(folder, "ballast")
        with open(ballast, "wb", buffering=0) as out:
            try:
                while True:
                    out.write(bytes(65536))
            except OSError:
                return ballast

    # ---- the tests ----

    def conformance(self, version):
        server = self.server(version, fsync="off").start()
        kit = subprocess.run([os.path.join(self.build, "tests/plugin/persistence_kit"), self.plugin,
                              self.stanza(server, "%N", extra=", allowVolatile: true")],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        server.stop()
        line = kit.stdout.strip().splitlines()[-1]
        assert kit.returncode == 0, "\n" + kit.stdout
        return line

    def unsafe_is_refused(self):
        server = self.server(fsync="off").start()
        out, _ = self.load(self.stanza(server), self.stanza(server), 0.1).communicate()
        assert "fsync = off" in out and "allowVolatile" in out, out
        server.stop()
        server.settings = {**server.settings, "fsync": "on", "synchronous_commit": "off"}
        server.start()
        server.ask("ALTER ROLE postgres SET synchronous_commit = off")
        self.judge(self.load(self.stanza(server), self.stanza(server), 1))
        volatile = server.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenon'")
        server.stop()
        return f"fsync = off is refused, {volatile} sessions left"

    def few_connections(self):
        server = self.server().start()
        one = self.stanza(server, extra=", maxConns: 1")
        process = self.load(one, one, 0.5, "A", "-l", 200, "-w")
        self.until(process, "acked")
        n = server.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenon'")
        line, _ = self.judge(process)
        server.stop()
        assert n == "1", f"{n} connections"
        return line

    def bad_network(self):
        server = self.server().start()
        line, figures = self.on_a_bad_network(server, lambda port: self.load(
            self.stanza(server, port=port), self.stanza(server), 1, "A", "-l", 200, "-w"), 120 if self.long else 12, 12)
        server.stop()
        self.doubt_has_reasons(line, figures)
        return line

    def killed_server(self):
        server = self.server().start()
        kills = 20 if self.long else 4
        process = self.load(self.stanza(server), self.stanza(server), 1, "A", "-l", 200, "-w")
        self.until(process, "acked")
        for _ in range(kills):
            time.sleep(random.uniform(0.5, 2))
            server.kill()
            server.start()
        line, figures = self.judge(process)
        server.stop()
        self.doubt_has_reasons(line, figures)
        return f"{kills} kills, {line}"

    def stolen(self):
        server = self.server().start()
        stanza = self.stanza(server)
        loser = self.load(stanza, stanza, 0, "A", "-f", "-p", 24)
        self.until(loser, "acked")
        winner = self.load(stanza, stanza, 3, "B", "-p", 24)
        lost, _ = self.judge(loser)
        won, figures = self.judge(winner)
        server.stop()
        assert figures["fenced"] == 0, won
        return f"loser: {lost}; winner: {won}"

    def fail_over(self):
        primary = self.server(name="primary", wal_level="replica", max_wal_senders="5",
                              synchronous_standby_names="'*'", synchronous_commit="on")
        with open(primary.data + "/pg_hba.conf", "a") as hba:
            hba.write("host replication all 127.0.0.1/32 trust\n")
        primary.settings["synchronous_standby_names"] = ""
        primary.start()
        standby = Postgres(primary.bin, os.path.join(self.folder, "standby"), self.ports.take(), {})
        standby.run("pg_basebackup", "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres", "-D", standby.data,
                    "-R", "-X", "stream", "-c", "fast")
        self.servers.append(standby)
        standby.start()
        primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.stop()
        del primary.settings["synchronous_standby_names"]
        primary.start()
        addresses = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        process = self.load(self.stanza(primary, port=addresses), self.stanza(standby), 2, "A", "-l", 200, "-w")
        documents = self.vload(self.stanza(primary, port=addresses), self.stanza(standby), 2)
        self.until(process, "acked")
        self.until(documents, "acked")
        time.sleep(random.uniform(0, 2))
        primary.kill()
        standby.run("pg_ctl", "promote", "-D", standby.data, "-w", "-t", str(PATIENCE_S))
        line, _ = self.judge(process)
        searched, _ = self.judge(documents)
        standby.stop()
        return f"{line}; visibility: {searched}"

    def standby_away(self):
        """Commits that wait for a standby which does not come, and are cancelled there: committed here, yet not
        where they should be; nobody may be told that they are safe before they are."""
        server = self.server().start()
        process = self.load(self.stanza(server), self.stanza(server), 1, "A", "-l", 100, "-w")
        self.until(process, "acked")
        server.ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        server.ask("SELECT pg_reload_conf()")
        cancelled, end = 0, time.monotonic() + PATIENCE_S
        while cancelled < 5 and time.monotonic() < end:
            time.sleep(0.1)
            cancelled += int(server.ask("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE "
                                        "wait_event = 'SyncRep' AND application_name = 'tenon'"))
        server.ask("ALTER SYSTEM RESET synchronous_standby_names")
        server.ask("SELECT pg_reload_conf()")
        line, _ = self.judge(process)
        server.stop()
        assert cancelled >= 5, f"{cancelled} waits cancelled"
        return f"{cancelled} waits cancelled, {line}"

    def disk_full(self):
        if os.getuid() != 0:
            raise LookupError("a tmpfs needs root")
        server = self.server()
        small = os.path.join(self.folder, "small")
        os.makedirs(small)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m,mode=777", "tmpfs", small], check=True)
        try:
            os.makedirs(small + "/space")
            os.chown(small + "/space", 65534, 65534)
            server.start()
            server.ask(f"CREATE TABLESPACE small LOCATION '{small}/space'")
            stanza = self.stanza(server, extra=', connectAttributes: {options: "-c default_tablespace=small"}')
            reserve = os.path.join(small, "reserve")  # what there will be when there is space again
            with open(reserve, "wb") as out:
                os.posix_fallocate(out.fileno(), 0, 240 << 20)
            documents = self.vload(stanza, stanza, 0)
            self.until(documents, "acked")
            process = self.load(stanza, stanza, 0, "A", "-l", 100, "-w")
            self.until(process, "acked")
            ballast = self.fill(small)
            self.until(process, "refused")
            self.until(documents, "refused")
            time.sleep(2)
            os.unlink(ballast)
            os.unlink(reserve)
            documents.stdin.close()  # both end now
            line, figures = self.judge(process)
            assert figures["refused"] > 0 and figures["uncertain"] == 0, line
            searched, figures = self.judge(documents)
            assert figures["uncertain"] == 0, searched
            server.stop()
            return f"{line}; visibility: {searched}"
        finally:
            server.stop()
            subprocess.run(["umount", "-l", small])

    def verified_tls(self):
        server = self.server()
        pki = os.path.join(self.folder, "pki")
        os.makedirs(pki)

        def openssl(*words):
            subprocess.run(["openssl", *words], cwd=pki, check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)

        for ca in ("ca", "other"):
            openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", ca + ".key", "-out", ca + ".pem",
                    "-days", "3", "-subj", "/CN=" + ca)
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj",
                "/CN=db.example")
        with open(pki + "/ext", "w") as ext:
            ext.write("subjectAltName=DNS:db.example\n")
        openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
                "server.pem", "-days", "3", "-extfile", "ext")
        for name in ("server.key", "server.pem"):
            shutil.copy(os.path.join(pki, name), server.data)
            os.chmod(os.path.join(server.data, name), 0o600)
            if os.getuid() == 0:
                os.chown(os.path.join(server.data, name), 65534, 65534)
        server.settings.update(ssl="on", ssl_cert_file="server.pem", ssl_key_file="server.key")
        with open(server.data + "/pg_hba.conf", "w") as hba:
            hba.write("hostssl all postgres 127.0.0.1/32 trust\nhostnossl all postgres 127.0.0.1/32 trust\n")
        server.start()

        def tls(ca, name):
            return self.stanza(server, extra=f", tls: {{enabled: true, caFile: {pki}/{ca}.pem, serverName: {name}}}")

        line, _ = self.judge(self.load(tls("ca", "db.example"), self.stanza(server), 1))
        for ca, name in (("other", "db.example"), ("ca", "elsewhere.example")):
            out, _ = self.load(tls(ca, name), self.stanza(server), 0.1).communicate()
            assert "certificate" in out, out
        server.stop()
        return line + ", wrong authority and wrong name refused"

    def schema(self, version):
        """tenonctl's verbs, and a server that finds another version."""
        server = self.server(version).start()
        config = os.path.join(self.folder, "schema.yaml")
        with open(config, "w") as out:
            out.write(SCHEMA_CONFIG.format(plugins=self.plugins, folder=self.folder,
                                           stanza=self.stanza(server, "tenon of ours")))

        def ctl(*words):
            done = subprocess.run([os.path.join(self.build, "tenonctl"), "schema", *words, "--config", config,
                                   "--store", "main"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            return done.returncode, done.stdout

        def tenond():
            done = subprocess.run([os.path.join(self.build, "tenond"), "--config", config], timeout=PATIENCE_S,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            return done.stdout

        def inside(sql):
            return server.ask('SET search_path = "tenon of ours"; ' + sql)

        code, out = ctl("check")
        assert code == 1 and "setup" in out, out
        out = tenond()
        assert "version 1 is wanted" in out and "tenonctl schema setup" in out, out
        code, out = ctl("setup", "--dry-run")
        assert code == 0 and "CREATE TABLE tn_row" in out, out
        assert ctl("check")[0] == 1  # the dry run made nothing
        code, dump = ctl("dump")
        server.ask(dump)
        code, out = ctl("check")
        assert code == 0, out
        server.ask('DROP SCHEMA "tenon of ours" CASCADE')
        for _ in range(2):
            code, out = ctl("setup")
            assert code == 0, out
        code, out = ctl("check")
        assert code == 0, out
        for harm, sign in (("ALTER TABLE tn_queue ADD extra int", "extra"),
                           ("CREATE INDEX tn_more ON tn_record (ver)", "tn_more"),
                           ("ALTER TABLE tn_row ALTER v DROP NOT NULL", "column v of tn_row"),
                           ("DROP SEQUENCE tn_version", "tn_version")):
            inside(harm)
            code, out = ctl("check")
            assert code == 1 and sign in out, harm + ":\n" + out
        inside("UPDATE tn_schema SET version = 7")
        code, out = ctl("update")
        assert code == 1 and "7" in out, out
        out = tenond()
        assert "version 7 is stored" in out and "version 1 is wanted" in out, out
        server.stop()
        return "set up, dumped, checked, four differences found, other versions refused"

    def the_judge_can_fail(self):
        """Rows that are looked for in another place are lost, and must be called so."""
        server = self.server().start()
        out, _ = self.load(self.stanza(server), self.stanza(server, "elsewhere"), 0.5).communicate()
        server.stop()
        assert "lost: row" in out or "is TN_ENOTFOUND" in out or "kit_get" in out, out
        return "lost rows are found"

    # ---- visibility ----

    def visibility_conformance(self, version):
        server = self.server(version, fsync="off").start()
        for linger, extra in (("2ms", ""), ("0s", ", maxConns: 1")):
            with self.everything_common(server, "vis") as common:
                kit = subprocess.run([os.path.join(self.build, "tests/plugin/visibility_kit"), self.visibility,
                                      self.stanza(server, "vis", extra=", allowVolatile: true" + extra,
                                                  more=f"\nlinger: {linger}")],
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert kit.returncode == 0, "\n" + kit.stdout
        # Only rounds that found a schema count: how many there were is a matter of speed.
        keys = self.tallies_agree(server, "vis")
        server.stop()
        return f"{kit.stdout.strip().splitlines()[-1]}; {common.rounds} rounds of making values common, {keys} are"

    @contextlib.contextmanager
    def everything_common(self, server, schema):
        """While it lasts, values of runs that are there become common, some at a time: counts change over to the tally
        under the feet of those who ask."""
        path = f"SET search_path = {schema}; "
        state, over = types.SimpleNamespace(rounds=0), threading.Event()

        def work():
            while not over.wait(0.5):  # it must not eat the time of those who are tested
                done = server.ask(path + "SELECT tn_vis_common_add(ARRAY(SELECT k FROM tn_vis_doc, unnest(keys) k "
                                  "ORDER BY random() LIMIT 60))", check=False)
                more = "1"
                while done.isdigit() and more not in ("", "0") and more.isdigit():
                    more = server.ask(path + "SELECT tn_vis_common_count()", check=False)
                state.rounds += done.isdigit()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield state
        finally:
            over.set()
            thread.join()

    def tallies_agree(self, server, schema):
        """What the tallies say is what the rows say; how many values are common."""
        path = f"SET search_path = {schema}; "
        while server.ask(path + "SELECT tn_vis_common_count()") != "0":
            pass
        rows = ("SELECT k AS key, ns, div, type, status, count(*) AS n FROM tn_vis_doc, "
                "LATERAL (SELECT DISTINCT u AS k FROM unnest(keys) u WHERE u IN (SELECT key FROM tn_vis_common)) x "
                "GROUP BY 1, 2, 3, 4, 5")
        tally = ("SELECT key, ns, div, type, status, sum(n) AS n FROM tn_vis_common_tally GROUP BY 1, 2, 3, 4, 5 "
                 "HAVING sum(n) <> 0")
        for a, b in ((rows, tally), (tally, rows)):
            differ = server.ask(f"{path}({a}) EXCEPT ({b}) LIMIT 5")
            assert not differ, "rows and the tally of common values differ:\n" + differ
        return int(server.ask(path + "SELECT count(*) FROM tn_vis_common WHERE ready"))

    def visibility_common(self):
        """Values become common under load; then their counts, and what a remove and a change make of them."""
        server = self.server().start()
        process = self.vload(self.stanza(server), self.stanza(server), 0)
        self.until(process, "acked")
        with self.everything_common(server, "kit") as common:
            wait_until(lambda: process.poll() is not None or common.rounds >= (100 if self.long else 6), "common values")
        line, _ = self.judge(process)
        keys = self.tallies_agree(server, "kit")
        assert keys >= 4, f"{keys} values have become common"
        server.ask("SET search_path = kit; DELETE FROM tn_vis_doc WHERE get_byte(run, 15) % 3 = 0; "
                   "UPDATE tn_vis_doc SET status = 99, keys = keys[1:1] || keys[1:1] || 7::int8 WHERE get_byte(run, 15) % 3 = 1")
        self.tallies_agree(server, "kit")
        # By themselves, from what ANALYZE has found.
        server.ask("SET search_path = kit; DELETE FROM tn_vis_common; DELETE FROM tn_vis_common_tally; ANALYZE tn_vis_doc")
        found = int(server.ask("SET search_path = kit; SELECT tn_vis_common_find(500)"))
        assert 1 <= found <= 12, f"{found} values were found"
        assert self.tallies_agree(server, "kit") == found
        server.stop()
        return f"{keys} values became common; {line}"

    def vload(self, stanza, verify, seconds):
        """It works until judge(), and then so many seconds; see vload.c."""
        return self.begin("vload", self.visibility, stanza + "\nlinger: 5ms", verify, str(seconds), "-w")

    def visibility_bad_network(self):
        server = self.server().start()
        line, _ = self.on_a_bad_network(server, lambda port: self.vload(
            self.stanza(server, port=port), self.stanza(server), 1), 90 if self.long else 10, 5)
        server.stop()
        return line

    def visibility_killed_server(self):
        server = self.server().start()
        kills = 10 if self.long else 2
        process = self.vload(self.stanza(server), self.stanza(server), 1)
        self.until(process, "acked")
        for _ in range(kills):
            time.sleep(random.uniform(0.5, 2))
            server.kill()
            server.start()
        line, _ = self.judge(process)
        server.stop()
        return f"{kills} kills, {line}"

    # ---- all of them ----

    def attempt(self, name, function, *arguments):
        if self.only and not any(word in name for word in self.only):
            return
        began = time.monotonic()
        try:
            line = function(*arguments)
        except LookupError as why:
            print(f"skip {name}: {why}", flush=True)
            self.skipped += 1
            return
        except Exception as error:
            print(f"not ok {name}: {error}", flush=True)
            if not isinstance(error, AssertionError):
                traceback.print_exc()
            self.failed += 1
        else:
            print(f"ok {name}: {line} ({time.monotonic() - began:.0f} s)", flush=True)
            self.passed += 1
        for process in self.loads:  # what a failed test has left
            if process.poll() is None:
                process.kill()
        for server in self.servers:
            server.stop()

    def run(self):
        versions = ["13", "15", "17"] + (["10", "12", "16", "18"] if self.long else [])
        for version in versions:
            self.attempt(f"conformance on {version}", self.conformance, version)
            self.attempt(f"visibility: conformance on {version}", self.visibility_conformance, version)
        for version in versions if self.long else ["15"]:
            self.attempt(f"schema on {version}", self.schema, version)
        self.attempt("the judge can fail", self.the_judge_can_fail)

        self.attempt("visibility: common values", self.visibility_common)
        self.attempt("visibility: a bad network", self.visibility_bad_network)
        self.attempt("visibility: postgres killed", self.visibility_killed_server)
        self.attempt("an unsafe server is refused", self.unsafe_is_refused)
        self.attempt("two loops on one connection", self.few_connections)
        self.attempt("TLS, verified", self.verified_tls)
        self.attempt("a second owner", self.stolen)
        self.attempt("a bad network", self.bad_network)
        self.attempt("postgres killed", self.killed_server)
        self.attempt("fail-over to a standby", self.fail_over)
        self.attempt("a standby that is away", self.standby_away)
        self.attempt("disk full", self.disk_full)
        return self.finish()

    def finish(self):
        for server in self.servers:
            server.stop()
        if self.failed:
            print(f"  kept: {self.folder}")
        else:
            shutil.rmtree(self.folder)
        print(f"{self.name}: {self.passed} passed, {self.failed} failed")
        return 1 if self.failed or not self.passed else 0


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--tools", required=True, help="where fetched servers are kept")
    parser.add_argument("--plugins", help="plugins in a folder that a server trusts; default: the build's")
    parser.add_argument("--port", type=int, default=17600)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("only", nargs="*")
    return parser.parse_args()


def play(suite):
    """One that is cut off leaves nothing running."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(suite.run())
    finally:
        for process in suite.loads:
            if process.poll() is None:
                process.kill()
        for server in suite.servers:
            server.stop()


def main():
    play(Suite(arguments()))


if __name__ == "__main__":
    main()
