# SPDX-License-Identifier: MIT
"""The judge of schedules judged: a sound life passes, and each damage to it is noticed."""

from types import SimpleNamespace

from scheduled import TRIGGERED, Life, verdict_of

PAD, SLACK = 6, 5
BEGIN = 1_800_000_000


def sound(policy):
    """Every 2 s from 0 to 60, every 3 s to 120, paused to 160, every 3 s to 200; two triggers."""
    life = Life("life", policy)
    life.turns = [(BEGIN, BEGIN + 1, 2, 0), (BEGIN + 60, BEGIN + 61, 3, 0), (BEGIN + 120, BEGIN + 121, 0, BEGIN + 117),
                  (BEGIN + 160, BEGIN + 161, 3, 0), (BEGIN + 200, BEGIN + 201, 0, BEGIN + 201)]
    life.triggers = [TRIGGERED, TRIGGERED + 1]
    moments = [BEGIN + at for at in range(0, 201) if (BEGIN + at) % (2 if at <= 60 else 3) == 0 and not 120 < at < 160]
    seen = {life.id_of(moment): moment + 0.25 for moment in moments}
    seen.update({life.id_of(at): BEGIN + 70.6 + at - TRIGGERED for at in life.triggers})
    ending = {name: at + 0.3 for name, at in seen.items()}
    life.ended = SimpleNamespace(info=SimpleNamespace(action_count=len(seen), overlap_skipped=0))
    return life, list(seen), seen, ending


def gone(life, ids, name):
    ids.remove(name)
    life.ended = None


def early(life, seen, offset):
    seen[life.id_of(BEGIN + offset)] = BEGIN + offset - SLACK - 0.1


def longer(life, ending, offset):
    ending[life.id_of(BEGIN + offset)] += 10


DAMAGES = [
    ("a moment is forgotten", "forgotten", "allow", lambda l, i, s, e: gone(l, i, l.id_of(BEGIN + 30))),
    ("one right before the settled end is forgotten", "forgotten", "buffer", lambda l, i, s, e: gone(l, i, l.id_of(BEGIN + 108))),
    ("a trigger is lost", "triggered and never", "allow", lambda l, i, s, e: gone(l, i, l.id_of(TRIGGERED))),
    ("a moment's action is there twice", "started 2 times", "skip", lambda l, i, s, e: i.append(l.id_of(BEGIN + 30))),
    ("an action of a paused schedule", "nobody asked", "allow", lambda l, i, s, e: i.append(l.id_of(BEGIN + 141))),
    ("an action after the end", "nobody asked", "allow", lambda l, i, s, e: i.append(l.id_of(BEGIN + 231))),
    ("a moment that was never one", "nobody asked", "allow", lambda l, i, s, e: i.append(l.id_of(BEGIN + 31))),
    ("an action comes early", "early", "buffer", lambda l, i, s, e: early(l, s, 30)),
    ("two run at once that are to wait", "ran before", "buffer", lambda l, i, s, e: longer(l, e, 30)),
    ("two run at once that are to be skipped", "ran before", "skip", lambda l, i, s, e: longer(l, e, 180)),
    ("a run that a worker saw is not listed", "not listed", "skip", lambda l, i, s, e: gone(l, i, l.id_of(BEGIN + 30))),
    ("it says that it took more", "says that it took", "skip",
     lambda l, i, s, e: setattr(l.ended.info, "action_count", len(i) + 1)),
    ("moments neither taken nor skipped", "taken and", "skip", lambda l, i, s, e: setattr(l.ended.info, "action_count", 2)),
]


def failures():
    out = []
    for policy in ("allow", "buffer", "skip"):
        life, ids, seen, ending = sound(policy)
        out += [f"a sound life, {policy}: {line}" for line in verdict_of(life, ids, seen, ending, PAD, SLACK)]
    for name, word, policy, damage in DAMAGES:
        life, ids, seen, ending = sound(policy)
        damage(life, ids, seen, ending)
        found = verdict_of(life, ids, seen, ending, PAD, SLACK)
        if not any(word in line for line in found):
            out.append(f"{name}: {found}")
    return out
