# SPDX-License-Identifier: MIT
"""Calls whose deadline only the server keeps: asker.py reads a plan (JSON) and tells for each call what was answered and after
how many seconds.  Clients with a deadline of their own would answer themselves; so this one speaks HTTP/2 by hand (tests/wire/raw.py).

{"wait": 9, "calls": [{"port": 7233, "path": "/...", "body": base64, "ms": 1500, "after": 0.0}]} -> [[status or null, seconds or null]]"""

import base64
import json
import os
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "wire"))

from raw import WINDOW, Conn, frame, setting, status  # noqa: E402


class Asked:
    def __init__(self, call):
        self.call, self.conn, self.number, self.sent, self.took = call, None, None, None, None

    def send(self, conn):
        extra = [("grpc-timeout", f"{self.call['ms']}m")] if self.call["ms"] else []
        self.conn = conn
        self.number, data = conn.request(self.call["path"], base64.b64decode(self.call["body"]), extra)
        conn.stream(self.number)
        self.sent = time.monotonic()
        conn.send(data)

    def look(self):
        stream = self.conn.stream(self.number)
        if self.took is None and (stream.ended or stream.reset is not None or self.conn.closed):
            self.took = time.monotonic() - self.sent

    def told(self):
        if self.took is None:
            return [None, None]
        stream = self.conn.stream(self.number)
        if status(stream) is None:
            return [f"no status, reset {stream.reset}, ended {stream.ended}, closed {self.conn.closed} {self.conn.goaways}", self.took]
        return [status(self.conn.stream(self.number)), self.took]


def play(plan):
    asked = [Asked(call) for call in sorted(plan["calls"], key=lambda call: call["after"])]
    conns = {call["port"]: Conn(call["port"], setting(4, 1 << 30)) for call in plan["calls"]}
    for conn in conns.values():
        conn.send(frame(WINDOW, 0, 0, struct.pack(">I", 1 << 30)))
        conn.until(lambda conn=conn: conn.frames > 0)
    began = time.monotonic()
    left, out = list(asked), []
    while (left or out) and time.monotonic() < began + plan["wait"]:
        while left and time.monotonic() >= began + left[0].call["after"]:
            out.append(left.pop(0))
            out[-1].send(conns[out[-1].call["port"]])
        for conn in conns.values():
            conn.drain(0.005)
        for one in out:
            one.look()
        out = [one for one in out if one.took is None]
    order = {id(one.call): one.told() for one in asked}
    return [order[id(call)] for call in plan["calls"]]


if __name__ == "__main__":
    print(json.dumps(play(json.load(sys.stdin))))
