# SPDX-License-Identifier: MIT
# ends.py SERVER PORT: how connections end.  Starts wire_server with short times, on ports from PORT on.
import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time

import grpc

from raw import *

program, first_port = sys.argv[1], int(sys.argv[2])
only = sys.argv[3:]
tests = []
lock = threading.Lock()


def test(f):
    if not only or f.__name__ in only:
        tests.append(f)
    return f


class Server:
    def __init__(self, *options):
        global first_port
        with lock:
            self.port = first_port
            first_port += 1
        self.p = subprocess.Popen([program, f"port={self.port}", *options], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, text=True)
        assert self.p.stdout.readline() == f"port {self.port}\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.send_signal(signal.SIGTERM)
        self.out = self.p.communicate(timeout=20)[0]
        assert self.p.returncode == 0, self.p.returncode


def same(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


def gone(c, low, high):
    start = time.monotonic()
    c.until(lambda: False, high + 1)
    took = time.monotonic() - start
    assert c.closed and low <= took <= high, (c.closed, took)


def open_call(c, name, arg=b""):
    number, data = c.request(TEST + name, payload(arg))
    c.send(data)
    return c.stream(number)


# ---- slow peers (slow=500: 0.5 s for a preface or a header block, 1.5 s for a frame, 3 s unread) ----


@test
def silent_connection():
    with Server("slow=500") as s:
        gone(Conn(s.port, preface=False), 0.4, 2)


@test
def preface_without_settings():
    with Server("slow=500") as s:
        c = Conn(s.port, preface=False)
        c.send(PREFACE)
        gone(c, 0.4, 2)


@test
def half_a_header_block():
    with Server("slow=500") as s:
        c = Conn(s.port)
        c.until(lambda: c.frames >= 2)
        c.send(frame(HEADERS, 0, 1, c.block(INFO)))
        gone(c, 0.4, 2)
        same(c.goaways[0][2], b"headers_timeout")


@test
def half_a_frame():
    with Server("slow=500") as s:
        c = Conn(s.port)
        c.until(lambda: c.frames >= 2)
        c.send(frame(HEADERS, END_HEADERS, 1, c.block(INFO)) + frame(DATA, 0, 1, b"x" * 100)[:50])
        gone(c, 1.3, 3)
        same(c.goaways[0][2], b"frame_timeout")


@test
def half_a_body():
    with Server("slow=500") as s:
        c = Conn(s.port)
        c.send(frame(HEADERS, END_HEADERS, 1, c.block(TEST + "Echo")) + frame(DATA, 0, 1, message(b"x" * 100)[:50]))
        c.next = 3
        start = time.monotonic()
        c.until(lambda: c.stream(1).reset is not None, 4)
        same(c.stream(1).reset, 8)
        assert 1.3 < time.monotonic() - start < 3
        same(status(c.call(INFO)), 0)


@test
def answers_never_read():
    with Server("slow=300") as s:
        c = Conn(s.port, setting(4, 0))
        open_call(c, "Sized", b"1000")
        gone(c, 1.6, 3.5)
        same(c.goaways[0][2], b"write_stalled")


@test
def socket_never_read():
    with Server("slow=300") as s:
        c = Conn(s.port, setting(4, 0x7FFFFFFF), read=False)
        c.send(frame(WINDOW, 0, 0, b"\x7f\xfe\0\0"))
        for _ in range(8):
            c.send(c.request(TEST + "Sized", payload(b"4000000"))[1])
        time.sleep(3.2)
        c.read = True
        c.sock.settimeout(1)
        c.until(lambda: False, 2)
        assert c.closed
        c = Conn(s.port)
        same(status(c.call(INFO)), 0)


# ---- keepalive, idleness, age --------------------------------------------------------------------


@test
def server_pings_a_silent_peer():
    with Server("ping=300", "pingtimeout=400") as s:
        c = Conn(s.port)
        same(status(c.call(INFO)), 0)
        c.until(lambda: len(c.pings) >= 3, 3)
        assert len(c.pings) >= 3 and not c.closed
        c.read = False
        time.sleep(1.2)
        c.read = True
        gone(c, 0, 1)


@test
def idle_connections_end():
    with Server("idle=400") as s:
        c, busy = Conn(s.port), Conn(s.port)
        same(status(c.call(INFO)), 0)
        waiting = open_call(busy, "Sleep", b"1500")
        gone(c, 0.3, 3)
        same([g[1] for g in c.goaways], [0, 0])
        busy.until(lambda: waiting.ended, 3)
        same(status(waiting), 0)


@test
def old_connections_end_without_loss():
    with Server("age=500", "grace=5000") as s:
        address = f"127.0.0.1:{s.port}"
        stop = time.monotonic() + 3

        def work(_):
            done = 0
            with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as ch:
                f = ch.unary_unary(TEST + "Sleep")
                while time.monotonic() < stop:
                    f(payload(b"5"), timeout=5)
                    done += 1
            return done

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            total = sum(pool.map(work, range(6)))
        assert total > 200, total


@test
def grace_is_not_for_ever():
    with Server("age=300", "grace=600") as s:
        c = Conn(s.port)
        open_call(c, "Park")
        gone(c, 0.8, 3)
        same(len(c.goaways), 2)


# ---- drain ---------------------------------------------------------------------------------------


@test
def drain_answers_what_was_asked():
    with Server() as s:
        c = Conn(s.port)
        streams = [open_call(c, "Sleep", b"700") for _ in range(50)]
        c.drain(0.2)
        os.kill(s.p.pid, signal.SIGTERM)
        c.read = False
        time.sleep(0.2)
        c.read = True
        # We have not answered the ping yet: what is sent now crosses the first GOAWAY, and counts.
        late = open_call(c, "Echo", b"late")
        c.until(lambda: len(c.goaways) == 2, 3)
        same((c.goaways[0][0], c.goaways[1][0]), (0x7FFFFFFF, 101))
        c.until(lambda: all(x.ended for x in [late, *streams]), 3)
        same({status(x) for x in [late, *streams]}, {0})
        gone(c, 0, 2)
    assert " drain 1 " in s.out, s.out


@test
def drain_tells_health():
    with Server() as s:
        with grpc.insecure_channel(f"127.0.0.1:{s.port}") as ch:
            watch = ch.unary_stream("/grpc.health.v1.Health/Watch")(b"")
            same(next(watch), b"\x08\x01")
            os.kill(s.p.pid, signal.SIGTERM)
            same(next(watch), b"\x08\x02")
            try:
                next(watch)
                raise AssertionError("the stream should end")
            except grpc.RpcError as e:
                same(e.code(), grpc.StatusCode.UNAVAILABLE)


@test
def drain_ends_parked_calls_in_time():
    s = Server()
    c = Conn(s.port)
    open_call(c, "Park")
    c.drain(0.2)
    start = time.monotonic()
    s.__exit__()
    assert 4 < time.monotonic() - start < 8
    c.until(lambda: False, 1)
    assert c.closed


def run(t):
    start = time.monotonic()
    try:
        t()
        return True, f"ok   {t.__name__} {time.monotonic() - start:.1f} s"
    except BaseException as e:
        tb = e.__traceback__.tb_next
        return False, f"FAIL {t.__name__}: {type(e).__name__} {e} line {tb.tb_lineno if tb else 0}"


def main():
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        results = list(pool.map(run, tests))
    for _, line in results:
        print(line, flush=True)
    passed = sum(ok for ok, _ in results)
    print(f"ends: {passed} passed, {len(results) - passed} failed")
    return 0 if passed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
