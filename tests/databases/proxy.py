# SPDX-License-Identifier: MIT
"""A proxy on loopback that is a bad network: each connection lives well for a while, then one thing happens to it.
Nothing does before worsen() and after mend(): who sets the stage should not be hit, however slow the machine is."""

import asyncio
import random
import socket
import struct

KINDS = ["cut", "cut answers", "reset", "truncate", "stall", "stall answers", "delay"]


class Proxy:
    def __init__(self, port, upstream, seed, least=0.1, most=0.8):
        self.port, self.upstream, self.dice = port, upstream, random.Random(seed)
        self.least, self.most = least, most
        self.counts = dict.fromkeys(KINDS, 0)
        self.connections, self.tasks = 0, set()
        self.bad = False

    def worsen(self):
        self.bad = True

    def mend(self):
        self.bad = False

    def faults(self):
        return sum(self.counts.values())

    def told(self):
        return ", ".join(f"{count} {kind}" for kind, count in self.counts.items())

    async def start(self):
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def stop(self):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _accept(self, reader, writer):
        self.connections += 1
        kind = self.dice.choice(KINDS)
        at = asyncio.get_running_loop().time() + self.dice.uniform(self.least, self.most)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.close()
            return
        self.tasks.add(asyncio.current_task())
        both = [writer, up_writer]
        pumps = [asyncio.create_task(self._pump(reader, up_writer, kind, at, False, both)),
                 asyncio.create_task(self._pump(up_reader, writer, kind, at, True, both))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if kind.startswith("stall"):  # the server's side stays open: it never learns
                await asyncio.wait(pumps)
        except asyncio.CancelledError:
            pass
        for pump in pumps:
            pump.cancel()
        for one in both:
            one.close()

    async def _pump(self, reader, writer, kind, at, answers, both):
        try:
            while data := await reader.read(65536):
                late = self.bad and asyncio.get_running_loop().time() > at
                if late and await self._fault(kind, answers, data, writer, both):
                    return
                writer.write(data)
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass

    async def _fault(self, kind, answers, data, writer, both):
        """True: this connection is over."""
        if kind == "delay" and asyncio.get_running_loop().time() < at + 1:
            self.counts[kind] += 1
            await asyncio.sleep(self.dice.uniform(0.02, 0.2))
            return False
        if kind != "delay" and answers != (kind in ("cut answers", "stall answers")):
            return False
        self.counts[kind] += 1
        if kind.startswith("stall"):
            if self.dice.random() < 0.5:
                writer.write(data[:self.dice.randrange(len(data) + 1)])
            await asyncio.sleep(3600)
        if kind == "truncate":
            writer.write(data[:self.dice.randrange(len(data))])
            await writer.drain()
        if kind == "reset":
            for one in both:
                one.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return True
