#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Membership under churn, from what `run churn --csv FILE` wrote for several numbers of members: a table (Markdown, to
standard output) and, with -o, its curves as SVG.  Needs nothing but Python.

    for n in 10 30 100 300 1000; do tests/sim/run churn --members $n --seeds 30 --csv $n.csv; done
    tests/sim/plot.py -o churn.svg 10.csv 30.csv 100.csv 300.csv 1000.csv
"""

import argparse
import csv
import math
from collections import defaultdict

COLUMNS = (("settled_s", "all right after the last, s", "{:.1f}"), ("packets", "packets a member and second", "{:.0f}"),
           ("bytes", "bytes a member and second", "{:,.0f}"))
DEATHS = "mourned"  # in the table only
COLOURS = {"0": "#1f77b4", "5": "#ff7f0e", "20": "#d62728"}
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 380, 300, 55, 40, 15, 45


def read(names):
    """(members, loss) -> column -> sorted values of the seeds that came to an end."""
    found = defaultdict(lambda: defaultdict(list))
    for name in names:
        with open(name, newline="", encoding="utf-8") as file:
            seeds = {(row["members"], row["seed"]): row for row in csv.DictReader(file)}  # played twice: counted once
            for row in seeds.values():
                found[int(row["members"]), row["loss"]][DEATHS].append(float(row[DEATHS]))
                for column, _, _ in COLUMNS:
                    found[int(row["members"]), row["loss"]][column].append(float(row[column]))
    for columns in found.values():
        for values in columns.values():
            values.sort()
    return found


def figures(values):
    return values[len(values) // 2], values[len(values) * 99 // 100], values[-1]


def table(found):
    print("| members | loss | seeds | " + " | ".join(title for _, title, _ in COLUMNS) + " | dead that lived |")
    print("|---" * (4 + len(COLUMNS)) + "|")
    for members, loss in sorted(found, key=lambda key: (key[0], int(key[1]))):
        columns = found[members, loss]
        cells = [", ".join(form.format(value) for value in figures(columns[column])) for column, _, form in COLUMNS]
        print(f"| {members:,} | {loss} % | {len(columns['settled_s']):,} | " + " | ".join(cells) +
              f" | {sum(columns[DEATHS]):,.0f} |")


def curve(found, number, column, title):
    """One chart: the median as a line, the worst as dots; both axes are logarithmic."""
    values = [value for columns in found.values() for value in figures(columns[column])]
    low, high = max(min(values), 0.1) / 1.3, max(max(values), 0.2) * 1.3
    few, many = (edge([members for members, _ in found]) for edge in (min, max))
    def x(members):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(members / few) / (math.log(many / few) or 1)
    def y(value):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(max(value, low) / low) / math.log(high / low)
    out = [f'<g transform="translate({number * WIDTH},0)">', f'<text x="{LEFT}" y="20">{title}</text>',
           f'<path d="M{LEFT},{TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#000"/>']
    for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
        at = y(10.0 ** power)
        out.append(f'<path d="M{LEFT},{at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 5}" y="{at + 4:.1f}" text-anchor="end">{10.0 ** power:g}</text>')
    for members in sorted({members for members, _ in found}):
        out.append(f'<text x="{x(members):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{members}</text>')
    for loss in sorted({loss for _, loss in found}, key=int):
        colour = COLOURS.get(loss, "#555")
        points = [(x(members), *map(y, figures(found[members, loss][column])))
                  for members in sorted(members for members, other in found if other == loss)]
        line = " ".join(f"{at:.1f},{median:.1f}" for at, median, _, _ in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.extend(f'<circle cx="{at:.1f}" cy="{worst:.1f}" r="3" fill="{colour}"/>' for at, _, _, worst in points)
    out.append("</g>")
    return "".join(out)


def svg(found):
    legend = "".join(f'<text x="{LEFT + 90 * i}" y="{HEIGHT - 8}" fill="{COLOURS.get(loss, "#555")}">loss {loss} %</text>'
                     for i, loss in enumerate(sorted({loss for _, loss in found}, key=int)))
    charts = "".join(curve(found, i, column, title) for i, (column, title, _) in enumerate(COLUMNS))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * len(COLUMNS)}" height="{HEIGHT}" '
            f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>{charts}{legend}'
            f'<text x="{LEFT + 300}" y="{HEIGHT - 8}">members; lines: median, dots: worst</text></svg>\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", metavar="FILE", help="where the SVG goes")
    parser.add_argument("csv", nargs="+")
    args = parser.parse_args()
    found = read(args.csv)
    if not found:
        parser.error("no seed in these files")
    table(found)
    if args.o:
        with open(args.o, "w", encoding="utf-8") as file:
            file.write(svg(found))


if __name__ == "__main__":
    main()
