"""Random scenarios, in the ranges that the best simulators use (TigerBeetle's VOPR, FoundationDB).

Rules kept here: a seed gives one scenario, whatever ran before. At most as many nodes lie as the charter's quorum
stands; loss is 0 to 30 %; cuts are symmetric or not, isolate one or split uniformly, and may flap.
"""

from __future__ import annotations

from random import Random

from peewit_simulation.faults import Fault
from peewit_simulation.liars import LIES
from peewit_simulation.scenario import Scenario

Names = tuple[str, ...]


def draw(seed: int, nodes: int | None = None) -> Scenario:
    """The scenario of a seed."""
    random = Random(f"peewit scenario {seed}")
    count = nodes or random.choice((4, 4, 4, 5, 7))
    names = tuple(f"n{number:03}" for number in range(count))
    everybody = (*names, "district", "patient")
    faulty_s = random.choice((30.0, 60.0, 120.0))
    faults: list[Fault] = []
    if random.random() < 0.6:
        faults.append(Fault(0.0, "lose", (round(random.choice((0.01, 0.05, 0.1, 0.2, 0.3)), 2),)))
    for _ in range(random.randrange(1, 5)):
        at_s = round(random.uniform(0, 0.8 * faulty_s), 2)
        faults += random.choice(SHAPES)(random, at_s, names, everybody)
    most = (count - 1) // 3
    liars = tuple((name, random.choice(LIES)) for name in random.sample(names, random.choice((0, 0, most))))
    theft = None
    if random.random() < 0.25:
        first, second = random.sample(names, 2)
        theft = (round(random.uniform(0, faulty_s), 2), first, second)
    faults = [fault for fault in faults if fault.at_s < faulty_s]
    closes = theft is None or random.random() < 0.7
    replays = random.random() < 0.3
    return Scenario(seed, count, tuple(sorted(faults, key=lambda f: f.at_s)), faulty_s, liars, theft, replays, closes)


def _split(random: Random, everybody: Names) -> tuple[Names, Names]:
    size = 1 if random.random() < 0.4 else random.randrange(1, len(everybody))
    one = tuple(random.sample(everybody, size))
    return one, tuple(name for name in everybody if name not in one)


def _partition(random: Random, at_s: float, _: Names, everybody: Names) -> list[Fault]:
    one, other = _split(random, everybody)
    if random.random() < 0.3:
        faults = [Fault(at_s, "partition_oneway", (one, other))]
    else:
        faults = [Fault(at_s, "partition", (one, other))]
    return [*faults, Fault(round(at_s + random.expovariate(1 / 20), 2), "heal")]


def _flap(random: Random, at_s: float, _: Names, everybody: Names) -> list[Fault]:
    one, other = _split(random, everybody)
    faults = []
    for turn in range(random.randrange(2, 6)):
        faults += [Fault(at_s + 4.0 * turn, "partition", (one, other)), Fault(at_s + 4.0 * turn + 2.0, "heal")]
    return faults


def _crash(random: Random, at_s: float, names: Names, everybody: Names) -> list[Fault]:
    faults = []
    for _turn in range(random.choice((1, 1, 3))):
        name = random.choice(names if random.random() < 0.7 else everybody)
        faults.append(Fault(at_s, "crash", (name, random.random() < 0.5)))
        at_s = round(at_s + random.expovariate(1 / 8), 2)
        faults.append(Fault(at_s, "restart", (name,)))
    return faults


def _pause(random: Random, at_s: float, names: Names, _: Names) -> list[Fault]:
    name = random.choice(names)
    return [Fault(at_s, "pause", (name,)), Fault(round(at_s + random.expovariate(1 / 15), 2), "resume", (name,))]


def _skew(random: Random, at_s: float, names: Names, _: Names) -> list[Fault]:
    drift = random.choice((0.0, 0.0, 1e-4, -1e-3))
    return [Fault(at_s, "skew", (random.choice(names), round(random.uniform(-30, 30), 1), drift))]


def _slow(random: Random, at_s: float, names: Names, _: Names) -> list[Fault]:
    return [Fault(at_s, "slow", (random.choice(names), random.choice((0.05, 0.3, 1.0))))]


def _delay(random: Random, at_s: float, names: Names, _: Names) -> list[Fault]:
    return [Fault(at_s, "delay", (random.choice((0.1, 0.5, 2.0)), random.choice(names)))]


def _hold(random: Random, at_s: float, _: Names, everybody: Names) -> list[Fault]:
    one, other = _split(random, everybody)
    return [Fault(at_s, "hold", (one, other)), Fault(round(at_s + random.expovariate(1 / 8), 2), "release")]


SHAPES = (_partition, _partition, _flap, _crash, _crash, _pause, _skew, _slow, _delay, _hold)
