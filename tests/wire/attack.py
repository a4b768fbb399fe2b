# SPDX-License-Identifier: MIT
# attack.py PORT PID [NAME]...: what a hostile peer does to one connection, and what it may cost us.
# Each attack has a bound on what the server takes before it ends the connection, and on its memory.
import struct
import sys
import time

from raw import *

KB = 1024


class Attack:
    """units: how many may be sent before the end shows (None: it need not end); generous where the
    server says in its GOAWAY what it took (streams), since this program may be slow to look."""

    def __init__(self, name, make, most, units, settings=b"", read=True, growth=1.5 * KB, streams=None):
        self.name, self.make, self.most, self.units = name, make, most, units
        self.settings, self.read, self.growth, self.streams = settings, read, growth, streams


def opening(c, path=INFO, flags=END_HEADERS, extra=()):
    stream = c.next
    c.next += 2
    return stream, frame(HEADERS, flags, stream, c.block(path, extra))


def rapid_reset(c, i):
    stream, h = opening(c)
    return h + frame(RST, 0, stream, struct.pack(">I", 8))


def late_data(c, i):
    """DATA after its own reset, which netty sends and we pass over."""
    stream, h = opening(c)
    if i:
        c.next -= 2
        return frame(DATA, 0, 1, b"x") * 64
    return h + frame(RST, 0, stream, struct.pack(">I", 8))


def window_zero(c, i):
    stream, h = opening(c)
    return h + frame(WINDOW, 0, stream, struct.pack(">I", 0))


def window_overflow(c, i):
    stream, h = opening(c)
    return h + frame(WINDOW, 0, stream, struct.pack(">I", 0x7FFFFFFF))


def bad_headers(c, i):
    stream = c.next
    c.next += 2
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, c.enc.encode([(":method", "POST"), ("Bad", "x")]))


def early_end(c, i):
    """Unknown methods without an end: each must be answered and reset by us when it is cut off."""
    stream, h = opening(c, "/no.Such/Method")
    return h + frame(DATA, 0, stream, b"x" * 9)


def continuation(c, i):
    if i == 0:
        return frame(HEADERS, 0, 1, c.block(INFO))
    return frame(CONTINUATION, 0, 1, (b"\x00\x04aaaa\x7f\x81\x02" + b"b" * 384) * 30)


def ping(c, i):
    return frame(PING, 0, 0, b"12345678") * 64


def settings(c, i):
    return frame(SETTINGS, 0, 0, setting(3, 100)) * 64


def empty_data(c, i):
    return opening(c)[1] if i == 0 else frame(DATA, 0, 1) * 64


def priority(c, i):
    return frame(PRIORITY, 0, 1001, struct.pack(">IB", 0, 5)) * 64


def window_update(c, i):
    return frame(WINDOW, 0, 0, struct.pack(">I", 1)) * 64


def unknown(c, i):
    return frame(0xFA, 0, 0, b"x" * 100) * 64


def many_streams(c, i):
    return opening(c)[1]


def hpack_bomb(c, i):
    stream = c.next
    c.next += 2
    h = c.block(INFO)
    if i == 0:
        n = 3900 - 127
        return frame(HEADERS, END_HEADERS, stream, h + b"\x40\x01z\x7f" + bytes([n % 128 | 128, n // 128]) + b"v" * 3900)
    return frame(HEADERS, END_HEADERS, stream, h + b"\xbe" * 12000)


def empty_headers(c, i):
    stream = c.next
    c.next += 2
    h = c.block(INFO)
    return frame(HEADERS, END_HEADERS, stream, h + (b"\x40\x01z\x00" if i == 0 else b"\xbe" * 12000))


def literal_headers(c, i):
    stream = c.next
    c.next += 2
    return frame(HEADERS, END_HEADERS, stream, c.block(INFO) + b"\x00\x01a\x00" * 2000)


def big_length(c, i):
    """Promises 4 MiB a stream and sends a little."""
    stream, h = opening(c, TEST + "Echo")
    return h + frame(DATA, 0, stream, struct.pack(">BI", 0, 4 << 20) + b"x" * 100)


def unread_answers(c, i):
    stream, h = opening(c, TEST + "Sized")
    return h + frame(DATA, END_STREAM, stream, message(payload(b"4000000")))


ATTACKS = [
    Attack("rapid_reset", rapid_reset, 20000, 20000, streams=200),
    Attack("made_you_reset_window_zero", window_zero, 20000, 20000, streams=200),
    Attack("made_you_reset_window_overflow", window_overflow, 20000, 20000, streams=200),
    Attack("bad_headers", bad_headers, 20000, 20000, streams=200),
    Attack("refused_without_end", early_end, 3000, None, growth=8 * KB),
    Attack("continuation", continuation, 1500, 600),
    Attack("ping_flood", ping, 3000, 2400),
    Attack("ping_unread", ping, 9000, 6000, read=False),
    Attack("settings_flood", settings, 3000, 2400),
    Attack("settings_unread", settings, 9000, 6000, read=False),
    Attack("late_data", late_data, 3000, 2400),
    Attack("empty_data", empty_data, 3000, 2400),
    Attack("priority_flood", priority, 3000, 2400),
    Attack("window_update_flood", window_update, 3000, 2400),
    Attack("unknown_frames", unknown, 3000, 2400),
    Attack("max_streams", many_streams, 3000, 3000, growth=8 * KB, streams=1000),
    Attack("literal_headers", literal_headers, 300, 300, streams=60),
    Attack("hpack_bomb", hpack_bomb, 300, 300, streams=60),
    Attack("http2_bomb", empty_headers, 300, 300, streams=60),
    Attack("http2_bomb_window_stalled", empty_headers, 300, 300, streams=60, settings=setting(4, 0)),
    Attack("promised_length", big_length, 900, None, growth=8 * KB),
    # The answers' bytes are what they are; what counts is that they are bounded for a connection.
    Attack("unread_answers", unread_answers, 100, None, settings=setting(4, 0), growth=160 * KB),
]


def one(a, port, pid):
    before, peak, cpu_before, sent = rss(pid), rss(pid), cpu(pid), 0
    c = Conn(port, a.settings, a.read)
    c.until(lambda: c.frames >= 2, 2)
    size = 0
    while sent < a.most and not c.closed and not c.goaways:
        data = a.make(c, sent)
        sent += 1
        size += len(data)
        if not c.send(data):
            break
        # A pause now and then lets a reaction arrive, so that the count means something.
        c.drain(0.0005 if sent % 8 == 0 else 0)
        if sent % 64 == 0:
            peak = max(peak, rss(pid))
    c.drain(0.3)
    peak = max(peak, rss(pid))
    ended = c.closed or bool(c.goaways)
    grown = peak - before
    c.close()
    time.sleep(0.05)
    probe = Conn(port)
    alive = status(probe.call(INFO)) == 0
    probe.close()
    took = (c.goaways[0][0] + 1) // 2 if c.goaways else 0
    ok = (alive and grown <= a.growth and (a.units is None or (ended and sent <= a.units)) and
          (a.streams is None or took <= a.streams))
    why = c.goaways[0][2].decode() if c.goaways else ""
    print(f"{'ok  ' if ok else 'FAIL'} attack {a.name:31s} units {sent:5d} of {a.most:5d} streams {took:4d} sent {size / 1e6:6.2f} MB "
          f"rss +{grown / KB:5.1f} MB cpu {cpu(pid) - cpu_before:4.2f} s resets {c.resets:4d} {why}"
          f"{'' if alive else ' SERVER GONE'}", flush=True)
    return ok


def main():
    port, pid, only = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    # Warm: lazily made memory is not an attack's.
    for _ in range(3):
        c = Conn(port)
        c.call(TEST + "Echo", payload(b"x" * 100000))
        c.close()
    results = [one(a, port, pid) for a in ATTACKS if not only or a.name in only]
    print(f"attack: {sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
