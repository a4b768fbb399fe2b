#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plots what `run gossip --churn 1 --members N` prints for several N: convergence and message cost (needs matplotlib).

    for n in 10 30 100 300 1000; do tests/sim/run gossip --members $n --seeds 3 --churn 1; done | tests/sim/plot.py OUT.svg
"""

import re
import sys
from collections import defaultdict

LINE = re.compile(r"churn: (\d+) members.* ([0-9.]+) members wrong .* ([0-9.]+) s after the last, "
                  r"([0-9.]+) packets and ([0-9.]+) bytes")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    found = defaultdict(list)
    for line in sys.stdin:
        if match := LINE.search(line):
            found[int(match[1])].append([float(value) for value in match.groups()[1:]])
    sizes = sorted(found)
    means = [[sum(column) / len(column) for column in zip(*found[size])] for size in sizes]
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4))
    for axis, title, values in zip(axes, ("members wrong in a view", "seconds until all are right", "bytes a member and second"),
                                   ([mean[0] for mean in means], [mean[1] for mean in means], [mean[3] for mean in means])):
        axis.plot(sizes, values, marker="o")
        axis.set_xscale("log")
        axis.set_xlabel("members")
        axis.set_title(title)
    figure.tight_layout()
    figure.savefig(sys.argv[1])


if __name__ == "__main__":
    main()
