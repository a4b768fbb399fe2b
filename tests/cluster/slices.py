# SPDX-License-Identifier: MIT
"""A small share of a processor for a process, by a control group of its own (version 1 or 2): a host that is slow enough to be
the limit on a machine that is busy with everything else, too."""

import os

QUOTA_US = 1000  # the least that Linux gives: the pauses between are as short as can be
PREFIX = "tenon-test-"


def root():
    """The folder to make groups in and whether it is version 2; or why there is none."""
    with open("/proc/mounts") as mounts:
        rows = [line.split() for line in mounts]
    for _, where, kind, options, *_ in rows:
        if kind == "cgroup" and "cpu" in options.split(","):
            return where, False
    for _, where, kind, *_ in rows:
        if kind == "cgroup2":
            with open(os.path.join(where, "cgroup.controllers")) as has:
                if "cpu" in has.read().split():
                    return where, True
    raise OSError("no control groups for processors are mounted")


def put(path, text):
    with open(path, "w") as out:
        out.write(text)


class Slices:
    def __init__(self):
        self.root, self.unified = root()
        for name in os.listdir(self.root):  # what a killed run has left
            if name.startswith(PREFIX) and not os.path.exists(f"/proc/{name.split('-')[2]}"):
                os.rmdir(os.path.join(self.root, name))
        if self.unified:
            put(os.path.join(self.root, "cgroup.subtree_control"), "+cpu")
        self.groups = {}

    def give(self, name, pid, share):
        """The process has so much of one processor from now on."""
        path = os.path.join(self.root, f"{PREFIX}{os.getpid()}-{name}")
        os.mkdir(path)
        self.groups[name] = path
        period = int(QUOTA_US / share)
        if self.unified:
            put(os.path.join(path, "cpu.max"), f"{QUOTA_US} {period}")
        else:
            put(os.path.join(path, "cpu.cfs_period_us"), str(period))
            put(os.path.join(path, "cpu.cfs_quota_us"), str(QUOTA_US))
        put(os.path.join(path, "cgroup.procs"), str(pid))

    def end(self):
        """After the processes have ended, or back to where all are."""
        for path in self.groups.values():
            with open(os.path.join(path, "cgroup.procs")) as left:
                for pid in left.read().split():
                    put(os.path.join(self.root, "cgroup.procs"), pid)
            os.rmdir(path)
        self.groups = {}
