# SPDX-License-Identifier: MIT
"""A real database for as long as somebody wants it, with a configuration of tenond on it: for suites that know nothing of
databases (tests/sdk/run --store KIND) and for the crash world.

    store.py KIND FOLDER --tools DIR --plugins DIR --port N     KIND: postgresql, mysql, mysql57, mariadb, redis

starts the server in FOLDER, writes FOLDER/tenon.yaml (@PORT@ in it is tenond's port; no schema is set up) and says
"ready"; ends with whoever started it, or by SIGTERM."""

import argparse
import os
import signal
import sys
import time

import mysql_servers
import servers

KINDS = ["postgresql", "mysql", "mysql57", "mariadb", "redis"]

# Request rates as `tenond start-dev` has them: none, for there is nobody else to be protected from.
DYNAMIC = "".join(f"{key}: [{{value: 0}}]\n" for key in (
    "frontend.rps", "frontend.namespaceRPS", "frontend.namespaceCount", "frontend.namespaceRPS.visibility",
    "frontend.rps.namespaceReplicationInducingAPIs", "frontend.namespaceRPS.namespaceReplicationInducingAPIs"))

CONFIG = """\
log: {{level: warn}}
plugins: {{dirs: ["{plugins}"]}}
services:
  frontend: {{rpc: {{bindOnIP: 127.0.0.1, grpcPort: @PORT@}}}}
  history: {{}}
  matching: {{}}
  worker: {{}}
threads: 2
persistence:
  defaultStore: main
  visibilityStore: search
  numHistoryShards: 64
  datastores:
    main:
      plugin: {plugin}
      {main}
    search:
      plugin: {searched}
      {search}
dynamicConfigClient: {{filepath: "{folder}/dynamic.yaml"}}
authorization: {{claimMapper: {{plugin: none}}, authorizer: {{plugin: allow_all}}}}
namespaces: {{create: [default], retention: 24h}}
"""


class Store:
    """`server` has start, kill and stop; `config` is the path of tenond's configuration."""

    def __init__(self, kind, folder, tools, plugins, port, extra=""):
        self.kind, self.folder = kind, folder
        os.makedirs(folder, exist_ok=True)
        if kind == "redis":
            self.server = redis(folder, port)
            main, search = f'connectAddr: "127.0.0.1:{port}"', f'path: "{folder}/search.db"'
        else:
            self.server = (postgres if kind == "postgresql" else mysql)(kind, folder, tools, port)
            user = "postgres" if kind == "postgresql" else "root"
            main = search = f'sql: {{connectAddr: "127.0.0.1:{port}", databaseName: tenon, user: {user}{extra}}}'
        plugin = {"postgresql": "postgresql", "redis": "redis"}.get(kind, "mysql")
        with open(os.path.join(folder, "dynamic.yaml"), "w") as out:
            out.write(DYNAMIC)
        self.config = os.path.join(folder, "tenon.yaml")
        with open(self.config, "w") as out:
            out.write(CONFIG.format(plugins=os.path.abspath(plugins), folder=folder, plugin=plugin, main=main,
                                    searched="sqlite" if kind == "redis" else plugin, search=search))

    def start(self):
        self.server.start()
        if self.kind == "postgresql":
            self.server.ask("CREATE DATABASE tenon")
        return self

    def stop(self):
        self.server.stop()


def postgres(_, folder, tools, port):
    bin, why = servers.find("15", tools)
    if not bin:
        raise LookupError(why)
    return servers.Postgres(bin, os.path.join(folder, "db"), port).init()


def mysql(kind, folder, tools, port):
    command, why = mysql_servers.find(kind, tools)
    if not command:
        raise LookupError(why)
    return mysql_servers.Mysqld(kind, command, os.path.join(folder, "db"), port).init()


def redis(folder, port):
    return load_redis().Redis(os.path.join(folder, "db"), port)


def load_redis():
    """redis/servers.py has the name of ours."""
    import importlib.util
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "redis", "servers.py")
    spec = importlib.util.spec_from_file_location("redis_servers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder")
    parser.add_argument("--tools", required=True, help="where fetched servers are kept")
    parser.add_argument("--plugins", required=True, help="the folder of the plugins")
    parser.add_argument("--port", type=int, required=True, help="the first that may be used")
    arguments = parser.parse_args()
    parent = os.getppid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        store = Store(arguments.kind, os.path.abspath(arguments.folder), arguments.tools, arguments.plugins,
                      servers.Ports(arguments.port).take())
    except LookupError as why:
        print(f"skip: {why}")
        sys.exit(77)
    try:
        store.start()
        print("ready", flush=True)
        while os.getppid() == parent:
            time.sleep(0.2)
    finally:
        store.stop()


if __name__ == "__main__":
    main()
