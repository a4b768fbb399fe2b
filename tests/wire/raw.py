# SPDX-License-Identifier: MIT
# HTTP/2 by hand: frames as a test wants them, right or wrong.
import os
import select
import socket
import struct
import time

from hpack import Decoder, Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
ACK = END_STREAM = 1
END_HEADERS = 4
ENHANCE_YOUR_CALM = 11
INFO = "/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo"
POLL = "/temporal.api.workflowservice.v1.WorkflowService/PollWorkflowTaskQueue"
TEST = "/tenon.wire.Test/"


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def setting(number, value):
    return struct.pack(">HI", number, value)


def message(body=b"", flag=0):
    return struct.pack(">BI", flag, len(body)) + body


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def payload(data):
    return field(2, data) if data else b""


def rss(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def cpu(pid):
    with open(f"/proc/{pid}/stat") as f:
        a = f.read().rsplit(")", 1)[1].split()
    return (int(a[11]) + int(a[12])) / os.sysconf("SC_CLK_TCK")


class Stream:
    def __init__(self):
        self.headers, self.trailers, self.body, self.ended, self.reset = None, None, b"", False, None


class Conn:
    def __init__(self, port, settings=b"", read=True, preface=True):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(3)
        self.enc, self.dec = Encoder(), Decoder()
        self.read, self.buf, self.streams = read, b"", {}
        self.closed, self.goaways, self.resets, self.pings, self.frames = False, [], 0, [], 0
        self.next = 1
        if preface:
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, data):
        try:
            self.sock.sendall(data)
            return True
        except OSError:
            self.closed = True
            return False

    def block(self, path, extra=(), method="POST", kind="application/grpc"):
        return self.enc.encode([(":method", method), (":scheme", "http"), (":path", path), (":authority", "x"),
                                ("content-type", kind), ("te", "trailers"), *extra])

    def request(self, path, body=b"", extra=(), end=True):
        """Bytes of a whole unary request, and its stream."""
        stream = self.next
        self.next += 2
        return stream, frame(HEADERS, END_HEADERS, stream, self.block(path, extra)) + frame(
            DATA, END_STREAM if end else 0, stream, message(body))

    def stream(self, number):
        return self.streams.setdefault(number, Stream())

    def take(self, kind, flags, stream, p):
        self.frames += 1
        if kind == HEADERS:
            s, fields = self.stream(stream), dict(self.dec.decode(p))
            if s.headers is None:
                s.headers = fields
            else:
                s.trailers = fields
            s.ended |= bool(flags & END_STREAM)
        elif kind == DATA:
            s = self.stream(stream)
            s.body += p
            s.ended |= bool(flags & END_STREAM)
        elif kind == RST:
            self.resets += 1
            self.stream(stream).reset = struct.unpack(">I", p)[0]
        elif kind == GOAWAY:
            self.goaways.append((int.from_bytes(p[:4], "big"), int.from_bytes(p[4:8], "big"), p[8:]))
        elif kind == PING:
            self.pings.append((flags, p))
            if not flags & ACK:
                self.send(frame(PING, ACK, 0, p))
        elif kind == SETTINGS and not flags & ACK:
            self.send(frame(SETTINGS, ACK))

    def drain(self, wait=0.0):
        if not self.read or self.closed:
            return
        while select.select([self.sock], [], [], wait)[0]:
            wait = 0
            try:
                data = self.sock.recv(1 << 18)
            except OSError:
                data = b""
            if not data:
                self.closed = True
                return
            self.buf += data
            while len(self.buf) >= 9:
                n = int.from_bytes(self.buf[:3], "big")
                if len(self.buf) < 9 + n:
                    break
                head, p, self.buf = self.buf[:9], self.buf[9:9 + n], self.buf[9 + n:]
                self.take(head[3], head[4], int.from_bytes(head[5:], "big"), p)

    def until(self, done, seconds=5.0):
        end = time.monotonic() + seconds
        while not done() and not self.closed and time.monotonic() < end:
            self.drain(0.05)
        return done()

    def call(self, path, body=b"", extra=(), seconds=5.0):
        number, data = self.request(path, body, extra)
        self.send(data)
        s = self.stream(number)
        self.until(lambda: s.ended or s.reset is not None, seconds)
        return s

    def close(self):
        self.sock.close()


def status(stream):
    for h in (stream.trailers, stream.headers):
        if h and "grpc-status" in h:
            return int(h["grpc-status"])
    return None
