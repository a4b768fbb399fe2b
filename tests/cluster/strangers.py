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


async def unreachable(report, site, hosts, datastores):
    """Places where no other process can call one are mistakes that are told at the start."""
    right = Host(site, "right", ("history", "matching"), datastores)
    with open(right.config) as text:
        words = text.read()
    rpc = right.rpc
    mistakes = {
        "an address for all": (words.replace(f"history: {{rpc: {{bindOnIP: {right.ip}", "history: {rpc: {bindOnIP: 0.0.0.0"),
                               "services.history.rpc.bindOnIP: is 0.0.0.0, where others can't call it"),
        "a port yet to be chosen": (words.replace(f"grpcPort: {rpc['history']}", "grpcPort: 0"),
                                    "services.history.rpc.grpcPort: is 0"),
        "one port for two": (words.replace(f"grpcPort: {rpc['matching']}", f"grpcPort: {rpc['history']}"),
                             f"services.matching.rpc.grpcPort: is {rpc['history']}, which services.history has, too"),
        "no gossip": (words.replace(f"membershipPort: {right.gossip['matching']}", "membershipPort: 0").replace(
            f"membershipPort: {right.gossip['history']}", "membershipPort: 0"), "it could meet nobody"),
    }
    missing = []
    for name, (text, complaint) in mistakes.items():
        with open(right.config, "w") as out:
            out.write(text)
        right.start()
        if await asyncio.to_thread(right.process.wait, 60) == 0 or complaint not in right.text():
            missing.append(f"{name}: {right.tail(3)}")
    report.check("places where nobody can call are refused", not missing, "; ".join(missing) or f"{len(mistakes)} mistakes")
    site.drop(right)


async def unreached(report, site, hosts, datastores):
    """One that others hear but don't reach says so and takes no part: nothing moves to it and away again.  Then one whose packets
    get nowhere, but which is seen to write its member record: the other side says so, and when that is over."""
    two = Host(site, "hearing", ("matching",), datastores)
    one = Host(site, "unheard", ("matching",), datastores, "broadcastAddress: 192.0.2.1")
    two.start()
    await asyncio.to_thread(until, lambda: "serving" in two.text(), "a first host")
    one.start()
    await asyncio.to_thread(until, lambda: "none reaches this one" in one.text(), "a word of one that is not reached", 120)
    await asyncio.sleep(10)  # three deaths and refutations
    joined = [line for line in two.text().splitlines() if "member joined" in line and "192.0.2.1" in line]
    report.check("who is heard but not reached takes no part", not joined and one.alive(), "; ".join(joined))
    one.stop()
    site.drop(one)
    two.stop()
    site.drop(two)


async def silent(report, site, datastores):
    one, two = (Host(site, name, ("matching",), datastores) for name in ("old", "new"))
    with open(two.config) as text:
        words = text.read().replace(f"bindOnIP: {two.ip}", 'bindOnIP: "::1"')
    with open(two.config, "w") as out:
        out.write(words)
    for host in one, two:
        host.start()
    await asyncio.to_thread(until, lambda: "lives by its record, but does not answer" in one.text(), "a word about a member that does not answer", 120)
    two.stop()
    site.drop(two)
    await asyncio.to_thread(until, lambda: "all members that live by their records answer" in one.text(), "its end", 180)
    one.stop()
    site.drop(one)
    report.check("a member that writes its record and does not answer is told of", True)


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
        await unreachable(report, site, hosts, one)
        await unreached(report, site, hosts, one)
        if arguments.long:
            await silent(report, site, one)
        await others(report, site, hosts, seeds, other)
        ends = await asyncio.gather(*[asyncio.to_thread(host.stop) for host in site.members])
        bad = [host.name for host, status in zip(site.members, ends) if status != 0]
        report.check("stop after strangers", not bad, ", ".join(bad) or "all with status 0")
    finally:
        site.abandon()
        stores.drop()
