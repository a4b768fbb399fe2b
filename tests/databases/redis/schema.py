# SPDX-License-Identifier: MIT
"""tenonctl schema on persistence/redis, and what a server says when the schema is not the one it wants."""

import argparse
import os
import subprocess
import sys
import tempfile

from faults import CONFIG
from servers import free_ports

PREFIX = f"schema{os.getpid()}:"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenonctl", required=True)
    parser.add_argument("--tenond", required=True)
    parser.add_argument("--plugins", required=True)
    parser.add_argument("--port", required=True)
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="tenon-redis.")
    config = os.path.join(folder, "tenon.yaml")
    with open(config, "w") as out:
        text = CONFIG.format(port=free_ports(1)[0], plugins=os.path.abspath(arguments.plugins), folder=folder,
                             stanza=f"connectAddr: \"127.0.0.1:{arguments.port}\", keyPrefix: \"{PREFIX}\"")
        out.write(text.replace("autoSetup: true, ", ""))

    def redis(*words):
        return subprocess.run(["redis-cli", "-p", arguments.port, *words], capture_output=True, text=True,
                              check=True).stdout.strip()

    def expect(status, word, *command):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        told = done.stdout + done.stderr
        if done.returncode != status or word not in told:
            sys.exit(f"{' '.join(command[1:])}: exit status {done.returncode}, wanted {status} and \"{word}\":\n{told}")

    def schema(status, word, *words):
        expect(status, word, arguments.tenonctl, "schema", *words, "--config", config)

    key = f"{PREFIX}{{schema}}"
    schema(0, f"HSETNX {key} version 1", "dump")
    schema(1, "", "version")
    expect(1, "tenonctl schema setup", arguments.tenond, "--config", config)
    schema(0, f"HSETNX {key} version 1", "setup", "--dry-run")
    if redis("EXISTS", key) != "0":
        sys.exit("a dry run wrote")
    schema(0, "", "setup")
    schema(0, "", "setup")
    schema(0, "1", "version")
    schema(0, "", "update")
    schema(0, "", "check")
    for damage, undo, word in (
            (("HSET", PREFIX + "{00000001}:5", "row", "x"), ("DEL", PREFIX + "{00000001}:5"), "differ in number"),
            (("ZADD", PREFIX + "{00000001}:5:z", "0", "row"), ("DEL", PREFIX + "{00000001}:5:z"), "not there"),
            (("SET", PREFIX + "{00000001}:7", "x"), ("DEL", PREFIX + "{00000001}:7"), "another type"),
            (("SET", PREFIX + "{00000001}:99", "x"), ("DEL", PREFIX + "{00000001}:99"), "not a key of this schema")):
        redis(*damage)
        schema(1, word, "check")
        redis(*undo)
        schema(0, "", "check")
    redis("HSET", key, "version", "7")
    schema(1, "", "version")
    schema(1, "not taken back", "update")
    expect(1, "7", arguments.tenond, "--config", config)
    print("setup, update, version, check, dump, dry run, an older and a newer schema")


if __name__ == "__main__":
    main()
