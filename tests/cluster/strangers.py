# SPDX-License-Identifier: MIT
"""Who belongs together: a cluster that finds itself by its seeds alone, seeds that are wrong, and two clusters that come
across each other, by a seed of the other's and by an address that changes hands."""

import asyncio
import uuid

from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import parts
from hosts import ROLES, Host, Site, all_see, connected, until
from servers import Ports
from stores import SQL, Stores

STORES = "    main: {{plugin: postgresql, " + SQL + "}}\n    search: {{plugin: postgresql, " + SQL + "}}\n"


async def works(frontend):
    """A workflow with a signal and an activity goes through it."""
    address = f"{frontend.ip}:{frontend.rpc['frontend']}"
    client, queue = await connected(address), f"strangers-{uuid.uuid4()}"
    async with Worker(client, task_queue=queue, workflows=[parts.Greeting], activities=[parts.greet],
                      workflow_runner=UnsandboxedWorkflowRunner()):
        return await asyncio.wait_for(client.execute_workflow(
            parts.Greeting.run, id=str(uuid.uuid4()), task_queue=queue, start_signal="tell", start_signal_args=["you"]), 60)


def refused(hosts):
    return sum((host.figures() or {}).get("tenon_membership_packets_refused", 0) for host in hosts)


async def by_seeds(report, site, datastores):
    """Four hosts with a role each, started at once on a store that knows nothing yet; the same list for all, one of them by name."""
    spots = [Host(site, f"spot{i}", (role,), datastores) for i, role in enumerate(ROLES)]
    seeds = [f"{spot.ip}:{spot.gossip[role]}" for spot, role in zip(spots, ROLES)]
    membership = f"records: false\n    seeds: [{', '.join(chr(34) + seed + chr(34) for seed in seeds)}]"
    hosts = [Host(site, f"a-{role}", (role,), datastores, membership, ports=spot) for spot, role in zip(spots, ROLES)]
    site.members = hosts[:]
    for host in hosts:
        host.start()
    took = await asyncio.to_thread(all_see, 4, hosts)
    report.check("four hosts find each other by seeds alone", await works(hosts[0]) == "hello you", f"{took:.1f} s after their start")
    return hosts, seeds


async def wrong_seeds(report, site, hosts, datastores):
    nobody = f'"{hosts[0].ip}:{site.ports.take()}", "{"x" * 70}.invalid:6933"'
    lone = Host(site, "lone", ("matching",), datastores, f"records: false\n    seeds: [{nobody}]")
    lone.start()
    await asyncio.to_thread(until, lambda: "no seed answers" in lone.text() or not lone.alive(), "a word about seeds")
    text = lone.text()
    await asyncio.to_thread(all_see, 1, [lone])
    await asyncio.to_thread(all_see, 4, hosts)
    report.check("seeds that are wrong are told of", lone.alive() and "a seed's name is not known" in text and "no seed answers" in text)
    none = Host(site, "none", ("matching",), datastores, "records: false")
    none.start()
    status = await asyncio.to_thread(none.process.wait, 60)
    report.check("no seeds and no records is a mistake", status != 0 and "global.membership.records" in none.text(), "nobody could be found" if "nobody could be found" in none.text() else none.tail())
    report.check("it ends well all the same", await asyncio.to_thread(lone.stop) == 0)
    site.drop(lone)
    site.drop(none)


async def others(report, site, hosts, seeds, datastores):
    """A cluster with a store of its own whose seeds are the first one's, and which then has an address of the first one's."""
    b = Host(site, "b-all", ROLES, datastores, f'seeds: ["{seeds[0]}", "{seeds[1]}"]')
    b.start()
    await asyncio.to_thread(until, lambda: "are refused" in hosts[0].text() and "are refused" in hosts[1].text(), "a refusal")
    both = await works(b), await works(hosts[0])
    await asyncio.to_thread(all_see, 1, [b])
    await asyncio.to_thread(all_see, 4, hosts)
    report.check("another cluster's seeds do not mix them", both == ("hello you",) * 2, f"{refused(hosts):.0f} packets refused and told of")
    matching = hosts[2]
    matching.kill()
    thief = Host(site, "b-matching", ("matching",), datastores, ports=matching)
    thief.start()
    await asyncio.to_thread(all_see, 2, [b, thief])
    rest = [hosts[0], hosts[1], hosts[3]]
    await asyncio.to_thread(all_see, 3, rest)
    site.drop(matching)
    anew = Host(site, "a-matching2", ("matching",), hosts[0].datastores, f'seeds: ["{seeds[1]}"]')
    anew.start()
    await asyncio.to_thread(all_see, 4, rest + [anew])
    both = await works(hosts[0]), await works(b)
    await asyncio.to_thread(all_see, 2, [b, thief])
    report.check("an address that changes hands", both == ("hello you",) * 2,
                 f"three and two members, a new host makes four; {refused(rest + [b, thief]):.0f} packets refused")


async def play(arguments, report, folder):
    ports = Ports(arguments.port)
    stores = Stores("postgresql", folder, arguments.tools, ports)
    site = Site(arguments, folder, ports, stores.main)
    try:
        for name in ("one", "other"):
            stores.main.ask(f"CREATE DATABASE {name}")
        one, other = (STORES.format(ip="127.0.0.1", port=stores.main.port, database=name, user="postgres") for name in ("one", "other"))
        hosts, seeds = await by_seeds(report, site, one)
        for host in hosts:
            host.datastores = one
        await wrong_seeds(report, site, hosts, one)
        await others(report, site, hosts, seeds, other)
        ends = await asyncio.gather(*[asyncio.to_thread(host.stop) for host in site.members])
        bad = [host.name for host, status in zip(site.members, ends) if status != 0]
        report.check("stop after strangers", not bad, ", ".join(bad) or "all with status 0")
    finally:
        site.abandon()
        stores.drop()
