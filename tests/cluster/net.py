# SPDX-License-Identifier: MIT
"""A network of the test's own: a namespace a host, all on one bridge; what may reach whom, and how much gets lost."""

import os
import shutil
import subprocess


def sh(*words, check=True):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout.strip()}")
    return done.returncode == 0


class Net:
    def __init__(self, number):
        self.tag = f"tn{number}"
        self.base = f"10.{200 + number // 250 % 50}.{number % 250}"
        self.hub, self.range = self.base + ".1", self.base + ".0/24"
        self.hosts = {}  # name -> ip
        sh("ip", "link", "add", self.tag, "type", "bridge")
        sh("ip", "addr", "add", self.hub + "/24", "dev", self.tag)
        sh("ip", "link", "set", self.tag, "up")

    @staticmethod
    def why_not():
        """What is missing for this, or None."""
        if os.getuid() != 0:
            return "network namespaces need root"
        for tool in ("ip", "iptables"):
            if not shutil.which(tool):
                return f"no {tool} here"
        probe = None
        try:
            probe = Net(os.getpid() % 10000)
            probe.host("probe")
            probe.lose("probe", 0.5)
            probe.cut(["probe"], ["probe"])
        except RuntimeError as error:
            return str(error)
        finally:
            if probe:
                probe.end()
        return None

    def space(self, name):
        return f"{self.tag}-{name}"

    def host(self, name):
        """A new host; its address and what starts a program there."""
        space, ip = self.space(name), f"{self.base}.{len(self.hosts) + 2}"
        wire = f"{self.tag}v{len(self.hosts)}"
        sh("ip", "netns", "add", space)
        self.hosts[name] = ip
        sh("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", space)
        sh("ip", "link", "set", wire, "master", self.tag, "up")
        sh("ip", "-n", space, "addr", "add", ip + "/24", "dev", "eth0")
        sh("ip", "-n", space, "link", "set", "eth0", "up")
        sh("ip", "-n", space, "link", "set", "lo", "up")
        return ip, ("ip", "netns", "exec", space)

    def rule(self, name, *words):
        sh("ip", "netns", "exec", self.space(name), "iptables", "-w", *words)

    def lose(self, name, share):
        """Of all packets that come to that host."""
        self.rule(name, "-A", "INPUT", "-i", "eth0", "-m", "statistic", "--mode", "random", "--probability", str(share),
                  "-j", "DROP")

    def cut(self, senders, receivers, both=False):
        """Packets of the ones no longer reach the others."""
        for receiver in receivers:
            for sender in senders:
                self.rule(receiver, "-A", "INPUT", "-s", self.hosts[sender], "-j", "DROP")
        if both:
            self.cut(receivers, senders)

    def heal(self, name=None):
        for host in [name] if name else self.hosts:
            self.rule(host, "-F", "INPUT")

    def end(self):
        for name in self.hosts:
            sh("ip", "netns", "del", self.space(name), check=False)
        sh("ip", "link", "del", self.tag, check=False)
