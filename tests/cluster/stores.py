# SPDX-License-Identifier: MIT
"""What a cluster keeps its state in: PostgreSQL, MariaDB, MySQL 8 or 5.7, or Redis with PostgreSQL for visibility, each a server of the
test's own."""

import os

import mysql_servers
import servers
import store

KINDS = ("postgresql", "mariadb", "mysql", "mysql57", "redis")
SQL = 'sql: {{connectAddr: "{ip}:{port}", databaseName: {database}, user: {user}, autoSetup: true}}'
DATASTORES = """\
    main: {main}
    search: {search}
"""


def postgres(folder, tools, port, net):
    bin, why = servers.find("15", tools)
    if not bin:
        raise RuntimeError(why)
    db = servers.Postgres(bin, folder, port, {"listen_addresses": "*" if net else "127.0.0.1", "max_connections": "400"})
    db.init()
    if net:
        with open(os.path.join(db.data, "pg_hba.conf"), "a") as hba:
            hba.write(f"host all all {net.range} trust\n")
    db.start()
    db.ask("CREATE DATABASE visibility")
    return db


def mysql(kind, folder, tools, port, net):
    command, why = mysql_servers.find(kind, tools)
    if not command:
        raise RuntimeError(why)
    db = mysql_servers.Mysqld(kind, command, folder, port, {"max-connections": "400", **({"bind-address": "*"} if net else {})})
    db.init()
    db.start()
    db.ask("CREATE DATABASE tenon; CREATE DATABASE visibility")
    if net:
        db.ask("CREATE USER root@'%'; GRANT ALL ON *.* TO root@'%'")
    return db


def redis(folder, port, net):
    db = store.load_redis().Redis(folder, port, *(("--bind", "0.0.0.0", "--protected-mode", "no") if net else ()))
    return db.start()


class Stores:
    """`main` has kill, start and stop; `datastores` is what a configuration says of them."""

    def __init__(self, kind, folder, tools, ports, net=None):
        ip = net.hub if net else "127.0.0.1"

        def sql(db, database):
            plugin, user = ("postgresql", "postgres") if isinstance(db, servers.Postgres) else ("mysql", "root")
            return f"{{plugin: {plugin}, " + SQL.format(ip=ip, port=db.port, database=database, user=user) + "}"
        self.kind, self.all = kind, []
        if kind in ("postgresql", "redis"):
            search = postgres(os.path.join(folder, "db"), tools, ports.take(), net)
            self.all.append(search)
        else:
            search = mysql(kind, os.path.join(folder, "db"), tools, ports.take(), net)
            self.all.append(search)
        self.main = search
        if kind == "redis":
            self.main = redis(os.path.join(folder, "redis"), ports.take(), net)
            self.all.append(self.main)
            main = f'{{plugin: redis, connectAddr: "{ip}:{self.main.port}", autoSetup: true}}'
        else:
            main = sql(search, "postgres" if kind == "postgresql" else "tenon")
        self.datastores = DATASTORES.format(main=main, search=sql(search, "visibility"))

    def stop(self):
        for server in self.all:
            server.stop()

    def drop(self):
        """Nobody wants to read it any more."""
        for server in self.all:
            if server.process and server.process.poll() is None:
                server.kill()
