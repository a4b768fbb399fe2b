# SPDX-License-Identifier: MIT
"""persistence/mysql and visibility/mysql on real servers, MariaDB and MySQL: the contracts, the schema's verbs, servers
that are refused, TLS; then faults under load, each judged by `load` (every answer that the store gave is compared with
what is there in the end)."""

import os
import random
import subprocess
import time

import pg
from mysql_servers import Mysqld, find
from servers import PATIENCE_S

HERE = os.path.dirname(os.path.abspath(__file__))


class MySuite(pg.Suite):
    name = "mysql"

    def __init__(self, arguments):
        super().__init__(arguments)
        self.plugin = os.path.join(self.plugins, "persistence/mysql.so")
        self.visibility = os.path.join(self.plugins, "visibility/mysql.so")

    def server(self, kind="mariadb", name=None, **settings):
        command, why = find(kind, self.tools)
        if not command:
            raise LookupError(why)
        folder = os.path.join(self.folder, name or f"{kind}-{len(self.servers)}")
        server = Mysqld(kind, command, folder, self.ports.take(),
                        {key.replace("_", "-"): value for key, value in settings.items()}).init()
        self.servers.append(server)
        return server

    def stanza(self, server, database="kit", port=None, extra="", more=""):
        return (f'sql: {{connectAddr: "127.0.0.1:{port or server.port}", databaseName: "{database}", user: root'
                f'{extra}}}{more}')

    # ---- the tests ----

    def kit(self, program, plugin, stanza):
        kit = subprocess.run([os.path.join(self.build, "tests/plugin", program), plugin, stanza],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert kit.returncode == 0, "\n" + kit.stdout
        return kit.stdout.strip().splitlines()[-1]

    def conformance(self, kind):
        server = self.server(kind, innodb_flush_log_at_trx_commit="2").start()
        quick = ", allowVolatile: true"
        rows = self.kit("persistence_kit", self.plugin, self.stanza(server, "%N", extra=quick))
        docs = self.kit("visibility_kit", self.visibility, self.stanza(server, "%N", extra=quick, more="\nlinger: 1ms"))
        server.stop()
        return f"{rows}; {docs}"

    def unsafe_is_refused(self):
        server = self.server(innodb_flush_log_at_trx_commit="2").start()

        def says(*words):
            out, _ = self.load(self.stanza(server), self.stanza(server), 0.1).communicate()
            assert all(word in out for word in words), out

        says("innodb_flush_log_at_trx_commit is 2", "allowVolatile")
        server.stop()
        server.settings.update({"innodb-flush-log-at-trx-commit": "1", "log-bin": "log", "sync-binlog": "0"})
        server.start()
        says("sync_binlog is 0", "allowVolatile")
        server.ask("SET GLOBAL sync_binlog = 1; SET GLOBAL max_allowed_packet = 1048576")
        says("max_allowed_packet", "SET GLOBAL")
        server.ask("SET GLOBAL max_allowed_packet = 16777216; SET GLOBAL read_only = 1")
        says("read-only")
        server.ask("SET GLOBAL read_only = 0")
        line, _ = self.judge(self.load(self.stanza(server), self.stanza(server), 1))
        server.stop()
        return f"four settings refused, then with a binary log: {line}"

    def few_connections(self):
        server = self.server().start()
        two = self.stanza(server, extra=", maxConns: 2")
        process = self.load(two, two, 0.5, "A", "-l", 200, "-w")
        self.until(process, "acked")
        n = server.ask("SELECT COUNT(*) FROM information_schema.processlist WHERE db = 'kit'")
        line, _ = self.judge(process)
        server.stop()
        assert 1 <= int(n) <= 2, f"{n} connections"
        return line

    def bad_network(self, kind):
        server = self.server(kind).start()
        line, figures = self.on_a_bad_network(server, lambda port: self.load(
            self.stanza(server, port=port, more="\nwriters: 3"), self.stanza(server), 1, "A", "-l", 200, "-w"),
            120 if self.long else 12, 12)
        server.stop()
        self.doubt_has_reasons(line, figures)
        return line

    def killed_server(self, kind):
        server = self.server(kind).start()
        kills = 20 if self.long else 3
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

    def visibility_faults(self):
        """kill -9 and a bad network at once, judged by what the documents are in the end."""
        server = self.server().start()
        kills = 12 if self.long else 2

        def kill():
            for _ in range(kills):
                time.sleep(random.uniform(2, 4))
                server.kill()
                server.start()

        line, _ = self.on_a_bad_network(server, lambda port: self.vload(
            self.stanza(server, "docs", port=port), self.stanza(server, "docs"), 1), 60 if self.long else 6, 5, kill)
        kinds = self.tally_agrees(server, "docs")
        server.stop()
        return f"{kills} kills, {line}; {kinds} kinds counted"

    def tally_agrees(self, server, database):
        """What the tally says is what the rows say, also after version 2 was made from version 1; how many kinds there are."""
        columns = "ns, part, status, type, division"
        differ = (f"SELECT {columns}, SUM(n) FROM (SELECT {columns}, COUNT(*) AS n FROM tenon_vis_run GROUP BY {columns} "
                  f"UNION ALL SELECT {columns}, -SUM(n) FROM tenon_vis_tally GROUP BY {columns}) x GROUP BY {columns} "
                  "HAVING SUM(n) <> 0")
        kinds = "SELECT COUNT(DISTINCT kind) FROM tenon_vis_tally WHERE n <> 0"
        assert server.ask(differ, database) == ""
        before = server.ask(kinds, database)
        assert int(before) > 0
        with open(os.path.join(HERE, "../../plugins/visibility/mysql/schema/v2.sql")) as sql:
            for again in ("DROP TABLE tenon_vis_tally;", ""):  # whole, and once more as after an interruption
                sql.seek(0)
                server.ask(again + sql.read(), database)
                assert server.ask(differ, database) == ""
        assert server.ask(kinds, database) == before
        return before

    def disk_full(self):
        if os.getuid() != 0:
            raise LookupError("a tmpfs needs root")
        server = self.server()
        small = os.path.join(self.folder, "small")
        os.makedirs(small)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", small], check=True)
        try:
            server.start()
            server.ask("CREATE DATABASE kit")
            server.stop()
            subprocess.run(["mv", server.data + "/kit", small + "/kit"], check=True)
            os.symlink(small + "/kit", server.data + "/kit")
            server.start()
            process = self.load(self.stanza(server), self.stanza(server), 1, "A", "-l", 50, "-w")
            self.until(process, "acked")
            ballast = self.fill(small)
            self.until(process, "refused")
            time.sleep(2)
            os.unlink(ballast)
            line, figures = self.judge(process)
            assert figures["refused"] > 0 and figures["uncertain"] == 0, line
            server.stop()
            return line
        finally:
            server.stop()
            subprocess.run(["umount", "-l", small])

    def verified_tls(self, kind):
        pki = os.path.join(self.folder, "pki-" + kind)
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
        server = self.server(kind, ssl_ca=pki + "/ca.pem", ssl_cert=pki + "/server.pem",
                             ssl_key=pki + "/server.key", require_secure_transport="ON")
        server.start(wait=False)
        end = time.monotonic() + PATIENCE_S
        while "ERROR" in server.ask("SELECT 1", check=False).replace("secure", "") and time.monotonic() < end:
            if "insecure" in server.ask("SELECT 1", check=False):
                break
            time.sleep(0.1)

        def tls(ca, name, more=""):
            return self.stanza(server, extra=f", tls: {{enabled: true, caFile: {pki}/{ca}.pem, "
                                             f"serverName: {name}{more}}}")

        line, _ = self.judge(self.load(tls("ca", "db.example"), tls("ca", "db.example"), 1))
        loose, _ = self.judge(self.load(tls("ca", "x", ", enableHostVerification: false"),
                                        tls("ca", "db.example"), 1, "B"))
        for ca, name in (("other", "db.example"), ("ca", "elsewhere.example")):
            out, _ = self.load(tls(ca, name), tls("ca", "db.example"), 0.1).communicate()
            assert "certificate" in out.lower() or "hostname" in out.lower(), out
        out, _ = self.load(self.stanza(server), tls("ca", "db.example"), 0.1).communicate()
        assert "cannot connect" in out, out
        server.stop()
        return f"{line}; unverified: {loose}; wrong authority, wrong name and no TLS refused"

    def schema(self, kind):
        """tenonctl's verbs, and a server that finds another version."""
        server = self.server(kind).start()
        config = os.path.join(self.folder, "schema.yaml")
        with open(config, "w") as out:
            out.write(pg.SCHEMA_CONFIG.format(
                plugins=self.plugins, folder=self.folder,
                stanza=self.stanza(server, "of ours")).replace("plugin: postgresql", "plugin: mysql").replace(
                    f"search: {{plugin: sqlite, path: {self.folder}/search.db}}",
                    "search: {plugin: mysql, " + self.stanza(server, "of ours") + "}"))

        def ctl(*words):
            done = subprocess.run([os.path.join(self.build, "tenonctl"), "schema", *words, "--config", config],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            return done.returncode, done.stdout

        def tenond():
            done = subprocess.run([os.path.join(self.build, "tenond"), "--config", config], timeout=PATIENCE_S,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            return done.stdout

        code, out = ctl("setup", "--dry-run")
        assert code == 0 and "CREATE TABLE IF NOT EXISTS tenon_kv" in out and "CREATE DATABASE" in out, out
        assert "of ours" not in server.ask("SHOW DATABASES")  # the dry run made nothing
        server.ask("CREATE DATABASE `of ours`")
        out = tenond()
        assert "no schema yet" in out and "tenonctl schema setup" in out, out
        code, dump = ctl("dump", "--store", "main")
        server.ask("USE `of ours`; " + dump)
        code, out = ctl("check", "--store", "main")
        assert code == 0, out
        server.ask("DROP DATABASE `of ours`")
        for _ in range(2):
            code, out = ctl("setup")
            assert code == 0, out
        code, out = ctl("check")
        assert code == 0, out
        for harm, mend, sign in (
                ("ALTER TABLE tenon_kv ADD extra INT", "ALTER TABLE tenon_kv DROP COLUMN extra", "extra"),
                ("ALTER TABLE tenon_vis_run DROP KEY by_wf", "ALTER TABLE tenon_vis_run ADD KEY by_wf (ns, wf)",
                 "by_wf"),
                ("ALTER TABLE tenon_kv MODIFY val MEDIUMBLOB NOT NULL",
                 "ALTER TABLE tenon_kv MODIFY val LONGBLOB NOT NULL", "val"),
                ("RENAME TABLE tenon_lane TO gone", "RENAME TABLE gone TO tenon_lane", "tenon_lane")):
            server.ask(harm, "of ours")
            code, out = ctl("check")
            assert code == 1 and sign in out, harm + ":\n" + out
            server.ask(mend, "of ours")
        code, out = ctl("check")
        assert code == 0, out
        # An update that was cut short: said, and taken up again.
        server.ask("UPDATE tenon_schema SET version = 0 WHERE component = 'persistence'; DROP TABLE tenon_lane",
                   "of ours")
        out = tenond()
        assert "tenonctl schema" in out, out
        code, out = ctl("setup", "--store", "main")
        assert code == 0, out
        server.ask("UPDATE tenon_schema SET version = 7, begun = 7", "of ours")
        code, out = ctl("update")
        assert code == 1 and "7" in out, out
        out = tenond()
        assert "version 7 is stored" in out and "version 1 is wanted" in out, out
        server.stop()
        return "set up, dumped, checked, four differences found, taken up again, other versions refused"

    def run(self):
        for kind in ["mariadb", "mysql"] + (["mysql57"] if self.long else []):
            self.attempt(f"conformance on {kind}", self.conformance, kind)
            self.attempt(f"schema on {kind}", self.schema, kind)
            if kind != "mysql57":  # what is to be had of it knows no TLS
                self.attempt(f"TLS, verified, on {kind}", self.verified_tls, kind)
            if self.long or kind == "mariadb":
                self.attempt(f"a bad network before {kind}", self.bad_network, kind)
            self.attempt(f"{kind} killed", self.killed_server, kind)
        self.attempt("the judge can fail", self.the_judge_can_fail)
        self.attempt("unsafe servers are refused", self.unsafe_is_refused)
        self.attempt("few connections", self.few_connections)
        self.attempt("a second owner", self.stolen)
        self.attempt("visibility, killed on a bad network", self.visibility_faults)
        self.attempt("disk full", self.disk_full)
        return self.finish()


def main():
    pg.play(MySuite(pg.arguments()))


if __name__ == "__main__":
    main()
