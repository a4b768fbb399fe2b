# SPDX-License-Identifier: MIT
"""The chaos judged: a fault that fails by itself (a process that cannot be started again) ends the run, at once and by its own word."""

import asyncio
import types

LONG_S = 600  # of chaos, none of which is waited for


async def failures(chaos):
    """chaos: the class Chaos."""
    class Broken(chaos):
        async def kill(self, member):
            raise OSError("no such program")
        pause = stop = split = kill
    fleet = types.SimpleNamespace(members=[object() for _ in range(4)], net=None, clock_library=None)
    broken = Broken(fleet, 1, "", False)
    try:
        await asyncio.wait_for(broken.run(LONG_S), 60)
    except OSError as error:
        return [] if str(error) == "no such program" and sum(broken.counts.values()) == 1 else [f"{error} after {broken.counts}"]
    except asyncio.TimeoutError:
        return [f"the chaos went on after a fault had failed: {broken.counts}"]
    return ["the chaos ended as if nothing were wrong"]
