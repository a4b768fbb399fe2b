# SPDX-License-Identifier: MIT
# interop.py PORT PID [--memory] [NAME]...: what an ordinary gRPC client (grpcio) and a careful HTTP/2 peer (raw.py)
# see of a server that behaves.  --memory: the server is a release build, whose size means something.
import concurrent.futures
import random
import struct
import sys
import threading
import time
import zlib

import grpc

from raw import *

port, pid, memory = int(sys.argv[1]), int(sys.argv[2]), "--memory" in sys.argv
address = f"127.0.0.1:{port}"
only = [a for a in sys.argv[3:] if not a.startswith("-")]
tests = []


def test(f):
    if not only or f.__name__ in only:
        tests.append(f)
    return f


def channel(*options):
    return grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1), *options])


def method(ch, name, service="tenon.wire.Test"):
    return ch.unary_unary(f"/{service}/{name}")


def data_of(response):
    """The data field of a packed Payload."""
    if not response:
        return b""
    i, n, shift = 1, 0, 0
    assert response[0] == 0x12
    while True:
        n |= (response[i] & 127) << shift
        shift += 7
        i += 1
        if response[i - 1] < 128:
            break
    assert len(response) == i + n
    return response[i:]


def fails(f, *args, **kw):
    try:
        f(*args, **kw)
    except grpc.RpcError as e:
        return e
    raise AssertionError("it should have failed")


def same(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


# ---- calls and statuses --------------------------------------------------------------------------


@test
def echo():
    with channel() as ch:
        same(data_of(method(ch, "Echo")(payload(b"hello"))), b"hello")
        same(method(ch, "Empty")(b""), b"")


@test
def big_messages_both_ways():
    with channel(("grpc.max_receive_message_length", -1)) as ch:
        for n in (0, 1, 16378, 16379, 16384, 65535, 1 << 20, (4 << 20) - 5):
            body = random.Random(n).randbytes(n)
            same(data_of(method(ch, "Echo")(payload(body))), body)
        same(len(data_of(method(ch, "Sized")(payload(b"20000000")))), 20000000)


@test
def too_large_a_message():
    with channel() as ch:
        e = fails(method(ch, "Echo"), payload(b"x" * 5000000))
        same(e.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        same(e.details(), "grpc: received message larger than max (5000005 vs. 4194304)")
        same(data_of(method(ch, "Echo")(payload(b"after"))), b"after")


@test
def unknown_methods():
    with channel() as ch:
        e = fails(method(ch, "Nope"), b"")
        same((e.code(), e.details()),
             (grpc.StatusCode.UNIMPLEMENTED, "unknown method Nope for service tenon.wire.Test"))
        e = fails(method(ch, "M", "a.B"), b"")
        same((e.code(), e.details()), (grpc.StatusCode.UNIMPLEMENTED, "unknown service a.B"))
        for path in ("/tenon.wire.Test/echo", "/tenon.wire.Test/Echo/", "//tenon.wire.Test/Echo", "/Echo"):
            same(fails(ch.unary_unary(path), b"").code(), grpc.StatusCode.UNIMPLEMENTED)


@test
def every_status_with_any_text():
    texts = ["plain", "ünïcödé ☃ 💥", "per%cent %41", "line\nbreak\ttab", "", " edges ", "x" * 900]
    with channel() as ch:
        for code in grpc.StatusCode:
            if code == grpc.StatusCode.OK:
                continue
            for text in texts:
                e = fails(method(ch, "Fail"), payload(f"{code.value[0]} {text}".encode()))
                same((e.code(), e.details()), (code, text))
        details = dict(e.trailing_metadata())["grpc-status-details-bin"]
        assert b"QueryFailedFailure" in details and b"x" * 900 in details
        for _ in range(20): # clients refuse metadata that is too long at random
            e = fails(method(ch, "Fail"), payload(("5 " + "ü" * 3000).encode()))
            same(e.code(), grpc.StatusCode.NOT_FOUND)
            assert 600 < len(e.details()) and set(e.details()) == {"ü"}, e.details()[:20]
            assert b"QueryFailedFailure" in dict(e.trailing_metadata())["grpc-status-details-bin"]


@test
def metadata_both_ways():
    with channel() as ch:
        f = method(ch, "Header")
        r, call = f.with_call(payload(b"x-one"), metadata=(("x-one", "a"), ("x-one", "b")))
        same(data_of(r), b"a,b")
        head = dict(call.initial_metadata())
        same(head["x-answer-bin"], b"\1\2\3")
        assert head["x-peer"].startswith("127.0.0.1:")
        for n in range(0, 40):
            value = random.Random(n).randbytes(n)
            same(data_of(f(payload(b"x-b-bin"), metadata=(("x-b-bin", value),))), value)
        same(data_of(f(payload(b"absent"))), b"")
        big = "v" * 8000
        same(data_of(f(payload(b"x-big"), metadata=(("x-big", big),))), big.encode())


@test
def too_many_headers():
    c = Conn(port)
    s = c.call(TEST + "Echo", extra=[(f"x-{i}", "1") for i in range(200)])
    same(status(s), 8)
    s = c.call(TEST + "Echo", extra=[(f"y-{i}", "v" * 3000) for i in range(6)])
    same(status(s), 8)
    same(status(c.call(TEST + "Echo")), 0)
    c.close()


@test
def gzip_both_ways():
    with channel() as ch:
        text = b"compressible " * 1000
        same(data_of(method(ch, "Echo")(payload(text), compression=grpc.Compression.Gzip)), text)
    c = Conn(port)
    z = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = z.compress(payload(text)) + z.flush()
    number = c.next
    c.next += 2
    c.send(frame(HEADERS, END_HEADERS, number, c.block(TEST + "Echo", [("grpc-encoding", "gzip"),
                                                                      ("grpc-accept-encoding", "gzip")])))
    c.send(frame(DATA, END_STREAM, number, message(packed, 1)))
    s = c.stream(number)
    c.until(lambda: s.ended)
    same(s.headers["grpc-encoding"], "gzip")
    same(s.body[0], 1)
    same(zlib.decompress(s.body[5:], 31), payload(text))
    # Not asked for: left alone.
    s = c.call(TEST + "Echo", payload(text))
    same((s.body[0], "grpc-encoding" in s.headers), (0, False))
    c.close()


@test
def gzip_bomb():
    with channel() as ch:
        e = fails(method(ch, "Echo"), payload(b"\0" * 100000000), compression=grpc.Compression.Gzip)
        same(e.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)


@test
def bad_compression():
    c = Conn(port)

    def send(body, extra):
        number = c.next
        c.next += 2
        c.send(frame(HEADERS, END_HEADERS, number, c.block(TEST + "Echo", extra)) +
               frame(DATA, END_STREAM, number, body))
        s = c.stream(number)
        c.until(lambda: s.ended)
        return s

    s = send(message(b"", 0), [("grpc-encoding", "snappy")])
    same((status(s), s.headers["grpc-accept-encoding"]), (12, "gzip"))
    same(status(send(message(b"x", 1), [])), 13)
    same(status(send(message(b"x", 2), [("grpc-encoding", "gzip")])), 13)
    same(status(send(message(b"no gzip", 1), [("grpc-encoding", "gzip")])), 13)
    z = zlib.compressobj(9, zlib.DEFLATED, 31)
    whole = z.compress(payload(b"x" * 1000)) + z.flush()
    same(status(send(message(whole[:-9], 1), [("grpc-encoding", "gzip")])), 13)
    same(status(send(message(whole + whole, 1), [("grpc-encoding", "gzip")])), 13)
    same(status(send(message(whole, 1), [("grpc-encoding", "gzip")])), 0)
    c.close()


@test
def malformed_messages():
    c = Conn(port)
    deep = b""
    for _ in range(3000):
        deep = field(1, deep)
    for body, want in ((b"\xff\xff\xff", 13), (field(1, b"\x0a\x02\xff\xfe\x12\x00"), 13), (b"\x0a\x7f", 13),
                       (b"\x12\x00" * 10, 0)):
        s = c.call(TEST + "Echo", body)
        same(status(s), want)
    s = c.call("/temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution", deep)
    assert status(s) in (0, 13), status(s)
    c.close()


@test
def messages_cut_anywhere():
    c = Conn(port)
    body = message(payload(b"cut me"))
    for size in range(1, len(body) + 1):
        number = c.next
        c.next += 2
        c.send(frame(HEADERS, END_HEADERS, number, c.block(TEST + "Echo")))
        for i in range(0, len(body), size):
            c.send(frame(DATA, 0, number, body[i:i + size]))
        c.send(frame(DATA, END_STREAM, number))
        s = c.stream(number)
        c.until(lambda: s.ended)
        same((status(s), s.body), (0, body))
    # Padding, and bytes of frames that come one by one.
    number = c.next
    c.next += 2
    raw = frame(HEADERS, END_HEADERS, number, c.block(TEST + "Echo")) + frame(
        DATA, END_STREAM | 8, number, b"\x07" + body + b"\0" * 7)
    for i in range(len(raw)):
        c.send(raw[i:i + 1])
    s = c.stream(number)
    c.until(lambda: s.ended)
    same((status(s), s.body), (0, body))
    c.close()


@test
def not_exactly_one_message():
    c = Conn(port)
    for body, want in ((b"", 12), (message(b"") * 2, 12), (b"\0\0", 13), (message(b"abc")[:-1], 13)):
        number = c.next
        c.next += 2
        c.send(frame(HEADERS, END_HEADERS, number, c.block(TEST + "Echo")) +
               frame(DATA, END_STREAM, number, body))
        s = c.stream(number)
        c.until(lambda: s.ended)
        same(status(s), want)
    c.close()


@test
def peers_that_do_not_speak_grpc():
    c = Conn(port)
    for kw, want in ((dict(kind="application/json"), "415"), (dict(kind="application/grpc-web"), "415"),
                     (dict(kind="application/grpc+json"), "415"), (dict(method="PUT"), "405")):
        number = c.next
        c.next += 2
        c.send(frame(HEADERS, END_HEADERS | END_STREAM, number, c.block(INFO, **kw)))
        s = c.stream(number)
        c.until(lambda: s.ended)
        same((s.headers[":status"], s.headers["content-type"]), (want, "text/plain; charset=utf-8"))
        assert s.body and s.trailers is None
    for kind in ("application/grpc+proto", "application/grpc;charset=utf-8", "Application/GRPC"):
        number = c.next
        c.next += 2
        c.send(frame(HEADERS, END_HEADERS, number, c.block(INFO, kind=kind)) +
               frame(DATA, END_STREAM, number, message()))
        s = c.stream(number)
        c.until(lambda: s.ended)
        same(status(s), 0)
    c.close()


# ---- time and ends -------------------------------------------------------------------------------


@test
def deadlines():
    c = Conn(port)
    for text, low, high in (("100m", 0.09, 1), ("1n", 0, 0.5), ("50000u", 0.04, 1), ("1S", 0.95, 2)):
        start = time.monotonic()
        s = c.call(TEST + "Park", extra=[("grpc-timeout", text)])
        took = time.monotonic() - start
        same((status(s), s.headers["grpc-message"]), (4, "context deadline exceeded"))
        assert low <= took <= high, (text, took)
    for text in ("", "1", "S", "-1S", "1.5S", "123456789S", "1h", "1 S", "99999999999H"):
        s = c.call(TEST + "Echo", extra=[("grpc-timeout", text)])
        same(status(s), 13)
    same(status(c.call(TEST + "Echo", extra=[("grpc-timeout", "99999999H")])), 0)
    c.close()
    with channel() as ch:
        same(fails(method(ch, "Sleep"), payload(b"5000"), timeout=0.2).code(),
             grpc.StatusCode.DEADLINE_EXCEEDED)
        same(data_of(method(ch, "Sleep")(payload(b"200"), timeout=2)), b"slept")


@test
def cancelled_calls():
    with channel() as ch:
        for _ in range(50):
            call = method(ch, "Park").future(b"")
            call.cancel()
        call = method(ch, "Park").future(b"")
        time.sleep(0.1)
        call.cancel()
        same(data_of(method(ch, "Echo")(payload(b"after"))), b"after")


@test
def resets_at_the_deadline():
    """An overloaded server's clients give up all at once, and come again on the same connection."""
    c = Conn(port)
    for _ in range(3):
        numbers = []
        for _ in range(300):
            number, data = c.request(TEST + "Park", b"", [("grpc-timeout", "400m")])
            c.send(data)
            numbers.append(number)
        time.sleep(0.37)
        c.send(b"".join(frame(RST, 0, n, b"\0\0\0\x08") for n in numbers))
        same(status(c.call(TEST + "Echo")), 0)
    assert not c.goaways
    c.close()


@test
def a_cancelled_call_s_request_comes_after_its_reset():
    """What gRPC's Java sends for a call that is cancelled while its request waits to be written: the other calls of
    the connection are answered."""
    c = Conn(port)
    for _ in range(30):
        late, asked = c.request(TEST + "Echo", payload(b"x" * 1000))
        heads = 9 + int.from_bytes(asked[:3], "big")
        beside, other = c.request(TEST + "Echo", payload(b"y"))
        c.send(asked[:heads] + frame(RST, 0, late, struct.pack(">I", 8)) + asked[heads:] + other)
        assert c.until(lambda s=c.stream(beside): s.ended), c.goaways
        same(status(c.stream(beside)), 0)
        assert c.until(lambda s=c.stream(late): s.reset is not None)
        same(c.stream(late).reset, 5)
    same(c.goaways, [])
    c.close()


@test
def workers_that_live_shortly():
    """Parked polls are let go of soon after they came, many at once, again and again: no flood."""
    c = Conn(port)
    for _ in range(4):
        numbers = []
        for _ in range(150):
            number, data = c.request(TEST + "Park", b"")
            c.send(data)
            numbers.append(number)
        same(status(c.call(TEST + "Echo")), 0)  # all of them are parked
        time.sleep(0.03)
        c.send(b"".join(frame(RST, 0, n, b"\0\0\0\x08") for n in numbers))
    same(status(c.call(TEST + "Echo")), 0)
    assert not c.goaways
    c.close()


@test
def calls_that_are_given_up_at_once():
    """By a client that lets others come to their end: it asks in several places, takes the first answer, and is cut off for none of that."""
    c = Conn(port)
    for _ in range(12):
        for _ in range(20):
            same(status(c.call(TEST + "Echo", payload(b"x"))), 0)
        out = b""
        for _ in range(60):
            number, data = c.request(TEST + "Sleep", payload(b"5000"))
            out += data + frame(RST, 0, number, b"\0\0\0\x08")
        c.send(out)
    same(status(c.call(TEST + "Echo")), 0)
    same(c.goaways, [])
    c.close()


@test
def calls_that_are_given_up_without_end():
    """What was earned is spent: by a client that lets nothing come to its end any more."""
    c = Conn(port)
    for _ in range(300):
        same(status(c.call(TEST + "Echo", payload(b"x"))), 0)
    before = c.next
    while not c.goaways and not c.closed and c.next < before + 2 * 20000:
        out = b""
        for _ in range(20):
            number, data = c.request(TEST + "Sleep", payload(b"5000"))
            out += data + frame(RST, 0, number, b"\0\0\0\x08")
        if not c.send(out):
            break
        c.drain(0.001)
    c.until(lambda: c.goaways, 5)
    same(c.goaways[0][1:], (ENHANCE_YOUR_CALM, b"reset_flood"))
    assert (c.goaways[0][0] - before) // 2 < 3000, c.goaways
    c.close()


@test
def parallel_streams():
    with channel() as ch:
        f = method(ch, "Sleep")
        start = time.monotonic()
        calls = [f.future(payload(b"300")) for _ in range(900)]
        for call in calls:
            same(data_of(call.result()), b"slept")
        assert time.monotonic() - start < 8


@test
def many_threads_and_channels():
    def work(seed):
        rng = random.Random(seed)
        with channel(("seed", seed)) as ch:
            for _ in range(60):
                body = rng.randbytes(rng.choice((0, 10, 1000, 100000)))
                same(data_of(method(ch, "Echo")(payload(body), timeout=30)), body)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


@test
def half_closed_and_lost_connections():
    """Connections that go while calls are out, travelling or being answered."""
    rng = random.Random(7)
    for i in range(60):
        c = Conn(port)
        out = b""
        for _ in range(rng.randrange(1, 40)):
            name, arg, timeout = rng.choice((("Park", b"", "5S"), ("Hop", b"%d" % rng.randrange(60), "5S"),
                                             ("Sleep", b"%d" % rng.randrange(8), "5S"),
                                             ("Sized", b"300000", "5S"), ("Park", b"", "2m"),
                                             ("Hop", b"300", "1m")))
            number, data = c.request(TEST + name, payload(arg), [("grpc-timeout", timeout)])
            out += data
            if rng.random() < 0.2:
                out += frame(RST, 0, number, b"\0\0\0\x08")
        c.send(out)
        if rng.random() < 0.7:
            c.drain(rng.random() * 0.02)
        c.close()
    c = Conn(port)
    same(status(c.call(TEST + "Echo")), 0)
    c.close()


@test
def window_respected():
    c = Conn(port, setting(4, 10))
    number, data = c.request(TEST + "Sized", payload(b"1000"))
    c.send(data)
    s = c.stream(number)
    c.until(lambda: len(s.body) >= 10)
    c.drain(0.05)
    same(len(s.body), 10)
    c.send(frame(WINDOW, 0, number, b"\0\0\0\x05"))
    c.until(lambda: len(s.body) >= 15)
    c.drain(0.05)
    same(len(s.body), 15)
    c.send(frame(SETTINGS, 0, 0, setting(4, 100000)))
    c.until(lambda: s.ended)
    same((len(s.body), status(s)), (5 + 3 + 1000, 0))
    c.close()


@test
def deadline_of_an_unread_answer():
    c = Conn(port, setting(4, 10))
    number, data = c.request(TEST + "Sized", payload(b"1000"), [("grpc-timeout", "200m")])
    c.send(data)
    s = c.stream(number)
    c.until(lambda: s.reset is not None)
    same(s.reset, 8)
    c.close()


@test
def pings_are_answered():
    c = Conn(port)
    c.send(frame(PING, 0, 0, b"by its-1") + frame(PING, 0, 0, b"by its-2"))  # alone: after a moment
    assert c.until(lambda: len(c.pings) == 2, 5)
    c.send(frame(PING, 0, 0, b"in a row") + c.request(INFO, b"")[1])  # with the answer
    assert c.until(lambda: len(c.pings) == 3, 5)
    same([p for flags, p in c.pings if flags & 1], [b"by its-1", b"by its-2", b"in a row"])
    same(status(c.call(INFO)), 0)
    c.close()


@test
def keepalive_of_eager_clients():
    c = Conn(port)
    same(status(c.call(INFO)), 0)
    for i in range(5):
        c.send(frame(PING, 0, 0, b"%08d" % i))
        c.drain(0.02)
    c.until(lambda: c.goaways, 2)
    same(c.goaways[0][1:], (ENHANCE_YOUR_CALM, b"too_many_pings"))
    assert c.until(lambda: False, 2) is False and c.closed
    # Calls between them make pings welcome: that is how clients measure the path.
    c = Conn(port)
    for i in range(20):
        same(status(c.call(INFO)), 0)
        c.send(frame(PING, 0, 0, b"%08d" % i))
        c.drain(0.005)
    assert not c.goaways
    c.close()


# ---- health, reflection --------------------------------------------------------------------------

SERVICE = b"temporal.api.workflowservice.v1.WorkflowService"


@test
def health():
    with channel() as ch:
        check = ch.unary_unary("/grpc.health.v1.Health/Check")
        same(check(b""), b"\x08\x01")
        same(check(field(1, SERVICE)), b"\x08\x01")
        e = fails(check, field(1, b"no.Such"))
        same((e.code(), e.details()), (grpc.StatusCode.NOT_FOUND, "unknown service"))
        watch = ch.unary_stream("/grpc.health.v1.Health/Watch")
        for name, want in ((b"", b"\x08\x01"), (SERVICE, b"\x08\x01"), (b"no.Such", b"\x08\x03")):
            stream = watch(field(1, name))
            same(next(stream), want)
            stream.cancel()


def parts(message_):
    out, i = [], 0
    while i < len(message_):
        tag = message_[i]
        i += 1
        n = shift = 0
        while True:
            n |= (message_[i] & 127) << shift
            shift += 7
            i += 1
            if message_[i - 1] < 128:
                break
        if tag & 7 == 2:
            out.append((tag >> 3, message_[i:i + n]))
            i += n
        else:
            out.append((tag >> 3, n))
    return out


@test
def reflection():
    for version in ("v1", "v1alpha"):
        with channel() as ch:
            info = ch.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")

            def ask(*requests):
                return [dict(parts(r)) for r in info(iter(requests))]

            services = [dict(parts(v))[1] for _, v in parts(ask(field(7, b""))[0][6])]
            assert SERVICE in services and b"grpc.health.v1.Health" in services
            same(len(services), len(set(services)))
            for symbol in (SERVICE, SERVICE + b".GetSystemInfo", b"temporal.api.common.v1.Payload",
                           b"temporal.api.common.v1.Payload.MetadataEntry", b"temporal.api.common.v1.Payload.data",
                           b"temporal.api.enums.v1.EVENT_TYPE_TIMER_FIRED", b"temporal.api.enums.v1.EventType"):
                answer = ask(field(4, symbol))[0]
                assert 4 in answer, symbol
                files = [v for n, v in parts(answer[4])]
                assert all(parts(f)[0][0] == 1 for f in files)
            for symbol in (b"no.Such", SERVICE + b".No", b"temporal.api.common.v1.Payload.nope", b"", b"."):
                same(dict(parts(ask(field(4, symbol))[0][7]))[1], 5)
            first, again = ask(field(3, b"temporal/api/common/v1/message.proto"),
                               field(3, b"temporal/api/common/v1/message.proto"))
            assert len(parts(first[4])) > len(parts(again[4])) == 1
            numbers = ask(field(6, b"google.protobuf.MethodOptions"))[0]
            assert 5 in numbers
            extension = ask(field(5, field(1, b"google.protobuf.MethodOptions") + b"\x10" + varint(72295728)))[0]
            assert 4 in extension


@test
def a_stream_that_asks_and_never_reads():
    c = Conn(port, setting(4, 0))
    number = c.next
    c.next += 2
    c.send(frame(HEADERS, END_HEADERS, number,
                 c.block("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")))
    s = c.stream(number)
    for _ in range(300):
        c.send(frame(DATA, 0, number, message(field(4, SERVICE))))
        c.drain(0.001)
    c.until(lambda: s.reset is not None, 3)
    assert s.reset is not None
    c.close()


# ---- many ----------------------------------------------------------------------------------------

POLL_BODY = (field(1, b"default") + field(2, field(1, b"a-task-queue-of-a-worker")) +
             field(3, b"12345@host.example.com@") + field(4, b"5f2b1c0a9d8e7f6a5b4c3d2e1f0a9b8c"))
POLL_HEADERS = [("user-agent", "grpc-go/1.75.0"), ("client-name", "temporal-go"), ("client-version", "1.37.0"),
                ("supported-server-versions", ">=1.0.0 <2.0.0"),
                ("temporal-namespace", "default"), ("grpc-timeout", "69999940u")]


@test
def ten_thousand_parked_polls():
    before = rss(pid)
    conns = [Conn(port) for _ in range(10)]
    for c in conns:
        for _ in range(10):
            c.send(b"".join(c.request(POLL, POLL_BODY, POLL_HEADERS)[1] for _ in range(100)))
            c.drain()
    for c in conns:
        c.send(frame(PING, 0, 0, b"are here"))
        assert c.until(lambda: c.pings)
    time.sleep(0.3)
    grown = rss(pid) - before
    print(f"     10,000 parked polls: {grown} KiB, {grown * 1024 // 10000} bytes each")
    c = Conn(port)
    s = c.call(TEST + "Release", seconds=10)
    same(data_of(s.body[5:]), b"10000")
    for each in conns:
        each.until(lambda: len([1 for s in each.streams.values() if status(s) == 0]) >= 1000, 10)
        same(len([1 for s in each.streams.values() if status(s) == 0]), 1000)
        each.close()
    c.close()
    assert not memory or grown < 40 * 1024, grown


def main():
    failed = 0
    for t in tests:
        start = time.monotonic()
        try:
            t()
            print(f"ok   {t.__name__} {time.monotonic() - start:.1f} s", flush=True)
        except BaseException as e:
            failed += 1
            print(f"FAIL {t.__name__}: {type(e).__name__} {e} line {e.__traceback__.tb_next.tb_lineno}", flush=True)
    print(f"interop: {len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
