# SPDX-License-Identifier: MIT
"""HTTP/1.1 byte by byte: what an honest client may do (keep-alive, pipelining, chunks, 100-continue, pieces), what a
hostile one tries (requests in requests, two lengths, slow heads and bodies, floods, answers nobody reads), and clients
that go away."""

import argparse
import json
import os
import socket
import ssl
import sys
import threading
import time

GET = b"GET /system-info HTTP/1.1\r\nHost: h\r\n\r\n"
NS = "/api/v1/namespaces/default"


class Peer:
    host = "127.0.0.1"

    def __init__(self, port, tls=None):
        self.socket = socket.create_connection((Peer.host, port), timeout=60)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.data = b""

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # what it says is in what it sends
        return self

    def more(self):
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            data = b""
        self.data += data
        return bool(data)

    def answer(self):
        """(status, headers, body); None: the connection has ended."""
        while b"\r\n\r\n" not in self.data:
            if not self.more():
                return None
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        size = int(headers.get("content-length", 0))
        while len(self.data) < size:
            if not self.more():
                return None
        body, self.data = self.data[:size], self.data[size:]
        return int(lines[0].split()[1]), headers, body

    def status(self):
        answer = self.answer()
        return answer and answer[0]

    def ended(self):
        """Nothing more comes, and the connection is closed."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        while self.more():
            pass
        return self.data == b""

    def close(self):
        self.socket.close()


def post(url, body, headers=""):
    return (f"POST {url} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {len(body)}\r\n\r\n").encode() + body


def chunked(url, chunks, headers=""):
    return (f"POST {url} HTTP/1.1\r\nHost: h\r\n{headers}Transfer-Encoding: chunked\r\n\r\n").encode() + chunks


class Wire:
    def __init__(self, arguments):
        self.port, self.pid = arguments.http_port, arguments.pid
        self.passed = self.failed = 0

    def check(self, what, good, why=""):
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)
        if not good:
            print(f"FAIL {what}: {why}")

    def same(self, what, got, wanted):
        self.check(what, got == wanted, f"{got}, wanted {wanted}")

    def peer(self):
        return Peer(self.port)

    def until(self, what, condition, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                self.check(what, False, "it never came")
                return
            time.sleep(0.02)
        self.check(what, True)

    # ---- honest ----

    def honest(self):
        peer = self.peer()
        for _ in range(3):
            self.same("kept alive", peer.send(GET).status(), 200)
        for byte in GET:
            peer.send(bytes([byte]))
        self.same("byte by byte", peer.status(), 200)
        peer.send(GET * 20 + GET.replace(b"system-info", b"nope") + GET)
        self.same("twenty-two at once, in their order", [peer.status() for _ in range(22)], [200] * 20 + [404, 200])
        self.same("empty lines before", peer.send(b"\r\n\r\n" + GET).status(), 200)
        self.same("close", peer.send(GET.replace(b"h\r\n", b"h\r\nConnection: close\r\n")).answer()[1]["connection"], "close")
        self.check("and it is closed", peer.ended())
        old = self.peer().send(b"GET /system-info HTTP/1.0\r\n\r\n")
        self.same("HTTP/1.0", old.status(), 200)
        self.check("which ends with its answer", old.ended())
        self.same("absolute form", self.peer().send(GET.replace(b"/system", b"http://h/system")).status(), 200)
        body = json.dumps({"workflowType": {"name": "T"}, "taskQueue": {"name": "q"}, "input": ["x" * 1000]}).encode()
        url = f"{NS}/workflows/wire-1"
        peer = self.peer()
        self.same("a body", peer.send(post(url, body)).status(), 200)
        pieces = b"".join(b"%x;e=1\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7]) for i in range(0, len(body), 7))
        self.same("in chunks", peer.send(chunked(url, pieces + b"0\r\nTrailer: x\r\n\r\n")).status(), 409)
        request = post(url, body, "Expect: 100-continue\r\n")
        peer.send(request[:-len(body)])
        self.same("100-continue", peer.status(), 100)
        self.same("and then the body", peer.send(request[-len(body):]).status(), 409)
        peer.send(f"POST {url} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n".encode())
        self.same("too large: no need to send it", peer.status(), 400)
        self.check("an end", peer.ended())
        peer = self.peer().send(post(url, b"{" + b" " * (6 << 20) + b"}"))
        self.same("too large, and sent", peer.status(), 400)
        self.same("goes on", peer.send(GET).status(), 200)
        peer = self.peer().send(chunked(url, b"".join(b"100000\r\n" + b" " * 0x100000 + b"\r\n" for _ in range(6)) + b"0\r\n\r\n"))
        self.same("too large in chunks", peer.status(), 400)
        self.same("goes on", peer.send(GET).status(), 200)

    # ---- hostile ----

    def refused(self):
        smuggled = b"GET /swagger.json HTTP/1.1\r\nHost: h\r\n\r\n"
        line = b"POST /api/v1/namespaces/default/workflows/x HTTP/1.1\r\nHost: h\r\n"
        attacks = {
            "length and chunks": line + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
            "chunks and length": line + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n" + smuggled,
            "two lengths": line + b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n" + smuggled,
            "a list of lengths": line + b"Content-Length: 0, 40\r\n\r\n" + smuggled,
            "chunks twice": line + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled,
            "hidden chunks": line + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled,
            "almost chunks": line + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled,
            "tabbed chunks": line + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n" + smuggled,
            "folded": line + b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
            "bare line feed": line + b"X: y\nContent-Length: 40\r\n\r\n" + smuggled,
            "bare carriage return": line + b"X: y\rContent-Length: 40\r\n\r\n" + smuggled,
            "NUL": line + b"X: y\x00z\r\n\r\n" + smuggled,
            "two hosts": line + b"Host: other\r\n\r\n" + smuggled,
            "no host": b"GET /system-info HTTP/1.1\r\n\r\n" + smuggled,
            "no such version": b"GET /system-info HTTP/1.9\r\nHost: h\r\n\r\n" + smuggled,
            "no version": b"GET /system-info\r\n\r\n" + smuggled,
            "no such verb": b"SMUGGLE / HTTP/1.1\r\nHost: h\r\n\r\n" + smuggled,
            "chunk size": line + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n" + smuggled,
            "chunk end": line + b"Transfer-Encoding: chunked\r\n\r\n1\r\naXX0\r\n\r\n" + smuggled,
            "chunk line feed": line + b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n" + smuggled,
            "huge chunk": line + b"Transfer-Encoding: chunked\r\n\r\nfffffffff\r\n" + smuggled,
            "chunk extensions": line + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;" + b"x" * 5000 + b"\r\na\r\n",
            "trailers": line + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 3000 + b"\r\n",
            "large head": line + b"X: " + b"y" * 20000 + b"\r\n\r\n",
            "endless head": line + b"X: y\r\n" * 20000,
            "endless line": b"GET /" + b"a" * 100000,
        }
        for name, bytes_sent in attacks.items():
            peer = self.peer().send(bytes_sent)
            answer = peer.answer()
            self.check(name, answer and answer[0] >= 400 and answer[1].get("connection") == "close", answer)
            self.check(f"{name}: nothing else is answered", peer.ended(), peer.data[:100])
        many = self.peer().send(b"GET /system-info HTTP/1.1\r\nHost: h\r\n" + b"".join(b"A%d: b\r\n" % i for i in range(200)) + b"\r\n")
        self.same("too many headers", many.status(), 431)
        self.same("HEAD has no body", self.head(), (501, True))
        for bad in (b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"):
            self.same(bad.decode()[:9], self.peer().send(bad).status() // 100, 4)
        self.same("h2c is not taken up", self.peer().send(GET.replace(
            b"h\r\n", b"h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n")).status(), 200)
        tls = self.peer().send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 40 + b"\r\n\r\n")
        self.same("TLS in the clear", tls.status(), 400)

    def head(self):
        peer = self.peer().send(b"HEAD /system-info HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        while peer.more():
            pass
        return int(peer.data.split()[1]), peer.data.endswith(b"\r\n\r\n")

    def gone(self):
        """A long poll whose client goes is noticed, although its answer is not due: its connection is let go."""
        self.peer().send(post(f"{NS}/workflows/wire-gone", b'{"workflowType":{"name":"T"},"taskQueue":{"name":"q"}}')).status()
        poll = f"GET {NS}/workflows/wire-gone/history?waitNewEvent=true&historyEventFilterType=2 HTTP/1.1\r\nHost: h\r\n\r\n"
        before = self.files()
        peers = [self.peer().send(poll.encode()) for _ in range(150)]
        ahead = self.peer().send(poll.encode() + GET * 2000)
        self.until("150 polls wait", lambda: self.files() >= before + 90)  # others end meanwhile
        for peer in peers:
            peer.close()
        self.until("and are let go", lambda: self.files() < before + 60, 20)
        self.same("another is served", self.peer().send(GET).status(), 200)
        ahead.close()

    def files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def unread(self):
        """Large answers that nobody reads take no memory without end."""
        body = json.dumps({"workflowType": {"name": "T"}, "taskQueue": {"name": "q"}, "input": ["x" * 1900000]}).encode()
        self.same("a large one", self.peer().send(post(f"{NS}/workflows/wire-large", body)).status(), 200)
        ask = f"GET {NS}/workflows/wire-large/history HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        before = self.memory()
        peers = []
        for _ in range(20):
            peer = self.peer()
            peer.socket.setblocking(False)
            try:
                peer.socket.send(ask * 200)
            except BlockingIOError:
                pass
            peers.append(peer)
        for _ in range(20):
            self.same("others are served", self.peer().send(GET).status(), 200)
        grown = self.memory() - before
        self.check("memory", grown < 1 << 30, f"{grown >> 20} MB")
        for peer in peers:
            peer.close()

    def memory(self):
        with open(f"/proc/{self.pid}/statm") as statm:
            return int(statm.read().split()[1]) * 4096

    def slow(self):
        """Heads and bodies that do not come. The server gives a head 10 s, the next byte of a body 30 s."""
        begun = time.monotonic()
        half = [self.peer().send(GET[:20]) for _ in range(50)]
        silent = self.peer()
        drip = self.peer()

        def drop():
            for byte in GET[:-1] * 10:
                try:
                    drip.socket.sendall(bytes([byte]))
                except OSError:
                    return
                time.sleep(1)

        thread = threading.Thread(target=drop, daemon=True)
        thread.start()
        self.same("others are served", self.peer().send(GET).status(), 200)
        self.same("half a head", [peer.status() for peer in half], [408] * 50)
        self.check("and the end", all(peer.ended() for peer in half))
        self.check("silence is ended", not silent.more())
        self.same("a head by drops", drip.status(), 408)
        took = time.monotonic() - begun
        self.check("in time", 8 < took < 40, took)

    def flood(self):
        before = self.memory()
        peers = [self.peer() for _ in range(500)]
        for peer in peers:
            peer.send(GET * 5)
        self.same("500 connections", sum(peer.status() == 200 for peer in peers for _ in range(5)), 2500)
        self.check("memory", self.memory() - before < 400 << 20, f"{(self.memory() - before) >> 20} MB")
        for peer in peers:
            peer.close()

    def run(self):
        slow = threading.Thread(target=self.slow)
        slow.start()
        for part in (self.honest, self.refused, self.gone, self.unread, self.flood):
            begun = time.monotonic()
            part()
            print(f"# {part.__name__}: {time.monotonic() - begun:.1f} s")
        slow.join()
        self.same("it still serves", self.peer().send(GET).status(), 200)


def tls(arguments):
    """The same port over TLS: HTTP/1.1 with and without ALPN."""
    wire = Wire(arguments)
    context = ssl.create_default_context(cafile=arguments.tls)
    for protocols in (None, ["http/1.1"], ["h2", "http/1.1"]):
        if protocols:
            context.set_alpn_protocols(protocols)
        peer = Peer(arguments.http_port, context)
        chosen = peer.socket.selected_alpn_protocol()
        wire.same(f"ALPN {protocols}", chosen, protocols and protocols[0])
        if chosen != "h2":
            wire.same(f"a call, {protocols}", [peer.send(GET).status() for _ in range(3)], [200] * 3)
        peer.close()
    wire.same("no TLS", Peer(arguments.http_port).send(GET).answer(), None)
    return wire


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--pid", type=int, default=os.getpid())
    parser.add_argument("--tls", help="a CA's file: only that")
    parser.add_argument("--host", default=Peer.host)
    arguments = parser.parse_args()
    Peer.host = arguments.host
    if arguments.tls:
        wire = tls(arguments)
    else:
        wire = Wire(arguments)
        wire.run()
    print(f"wire: {wire.passed} passed, {wire.failed} failed")
    sys.exit(wire.failed > 0)


if __name__ == "__main__":
    main()
