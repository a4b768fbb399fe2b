# SPDX-License-Identifier: MIT
"""What is the same for every database: `tenonctl plugin check --stress`, and the whole SDK suite with the comparison.
Long: part of `run --long` only."""

import os
import re
import subprocess

import pg
from store import KINDS, Store

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SECONDS = 30  # of random batches


class Kinds(pg.Suite):
    name = "kinds"

    def store(self, kind):
        store = Store(kind, os.path.join(self.folder, f"{kind}-{len(self.servers)}"), self.tools, self.plugins,
                      self.ports.take())
        self.servers.append(store)
        return store.start()

    def check(self, kind):
        """Each case in a place of its own: %N."""
        store = self.store(kind)
        plugin = {"postgresql": "postgresql", "redis": "redis"}.get(kind, "mysql")
        place = {"postgresql": "databaseName: tenon, user: postgres, schemaName: \"%N\"",
                 "mysql": "databaseName: \"%N\", user: root"}.get(plugin)
        keys = (f'connectAddr: "127.0.0.1:{store.server.port}"\nkeyPrefix: "%N:"' if kind == "redis" else
                f'sql: {{connectAddr: "127.0.0.1:{store.server.port}", {place}}}')
        lines = []
        for sort in ("persistence", "visibility"):
            path = os.path.join(self.plugins, sort, plugin + ".so")
            if not os.path.exists(path):
                continue
            done = subprocess.run([os.path.join(self.build, "tenonctl"), "plugin", "check", path, "--stress", "--seconds",
                                   str(SECONDS), "--keys", keys], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert done.returncode == 0, f"{sort}:\n{done.stdout}"
            lines.append(f"{sort}: {done.stdout.strip().splitlines()[-1]}")
        store.stop()
        return "; ".join(lines)

    def sdks(self, kind):
        environment = {**os.environ, "TEST_PORT": str(self.ports.take()), "TN_BUILDDIR": self.build,
                       "PART_SECONDS": "1800"}
        done = subprocess.run([os.path.join(ROOT, "tests", "sdk", "run"), "--store", kind], env=environment,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode == 77:
            raise LookupError(re.search(r"^skip: (.*)$", done.stdout, re.M).group(1))
        told = [line for line in done.stdout.splitlines() if re.match(r"\w+: \d+ passed|not ok|skip|# \w+: once", line)]
        assert done.returncode == 0, "\n" + "\n".join(told or done.stdout.splitlines()[-20:])
        return ", ".join(line for line in told if not line.startswith("suite:"))

    def run(self):
        for kind in KINDS:
            self.attempt(f"plugin check --stress on {kind}", self.check, kind)
        for kind in KINDS:
            self.attempt(f"SDKs on {kind}", self.sdks, kind)
        return self.finish()


if __name__ == "__main__":
    pg.play(Kinds(pg.arguments()))
