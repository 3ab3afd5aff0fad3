"""Simulated worlds: how fast they run, and in how many rounds news reaches everybody.

python -m bench simulation              speed at 10 and 100 nodes, rounds over some seeds
python -m bench.simulation rounds 200   rounds at 100 nodes, without and with hints, after partitions
python -m bench.simulation curve        rounds and bytes from 3 to 300 nodes, drawn into docs/images/
"""

from __future__ import annotations

import gc
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from peewit_federation.statements.operator import Withdrawal
from peewit_node.config import Gossip
from peewit_simulation.faults import Fault, apply
from peewit_simulation.federation import FOUNDED_KEYS, Simulation

ROUND_S = 1.0


def gossip(hints: int) -> Gossip:
    return Gossip(interval_s=ROUND_S, hint_peers=hints, backoff_max_s=8.0)


def found(nodes: int, folder: Path) -> Path:
    """A federation of so many nodes that agree, kept in a folder, so that every world begins with it."""
    path = folder / str(nodes)
    with Simulation(FOUNDED_KEYS, nodes, gossip=Gossip(interval_s=ROUND_S, hint_peers=0)) as sim:
        sim.start()
        sim.run(600, lambda: len(sim.nodes) == nodes and whole(sim) and sim.converged())
        sim.keep(path)
    return path


def whole(sim: Simulation) -> bool:
    """Whether every node has every log, and a quorum for it."""
    some = next(iter(sim.nodes.values()))
    if not all(log.quorum and log.quorum.size == log.size for log in some.logs.all()):
        return False
    return all(
        len(node.logs.all()) == len(sim.names) and all(log.quorum for log in node.logs.all())
        for node in sim.nodes.values()
    )


def begin(seed: int, nodes: int, path: Path, hints: int) -> Simulation:
    sim = Simulation(seed, nodes, gossip=gossip(hints), founded=path)
    sim.__enter__()
    sim.start()
    sim.run(60, lambda: len(sim.nodes) == nodes)
    sim.run(3 * ROUND_S)
    return sim


def say(sim: Simulation, number: int) -> tuple[bytes, int]:
    """A new head of some node's log: the log, and its new size."""
    name = sim.world.stream("speaker", number).choice(sim.names)
    node = sim.nodes[name]
    sim.on(name, node.own.append(Withdrawal(sim.seed_of("nobody", number)).encode()))
    return node.own.log.origin, node.own.log.size


def reached(sim: Simulation, origin: bytes, size: int) -> bool:
    return all((log := node.logs.get(origin)) is not None and log.size >= size for node in sim.nodes.values())


def speed(path: Path, nodes: int, simulated_s: float) -> float:
    """Simulated seconds per real second, with one new head a minute."""
    sim = begin(1, nodes, path, 3)
    start, begin_s = time.perf_counter(), sim.world.now_s
    number = 0
    while sim.world.now_s < begin_s + simulated_s:
        say(sim, number)
        number += 1
        sim.run(min(60.0, begin_s + simulated_s - sim.world.now_s))
    real_s = time.perf_counter() - start
    sim.__exit__()
    return simulated_s / real_s


def rounds(seed: int, nodes: int, path: str, hints: int, partition_s: float = 0.0) -> tuple[float, float]:
    """In how many rounds one new head reaches all nodes (after a half/half partition heals), and kB per node."""
    gc.disable()
    sim = begin(seed, nodes, Path(path), hints)
    if partition_s:
        half = nodes // 2
        apply(sim, Fault(0.0, "partition", (sim.names[:half], sim.names[half:])))
        sim.run(partition_s)
        origin, size = say(sim, seed)
        sim.run(5 * ROUND_S)
        apply(sim, Fault(0.0, "heal"))
    else:
        origin, size = say(sim, seed)
    before = sum(sim.network.bytes_sent.values())
    start_s = sim.world.now_s
    arrived = sim.run(120 * ROUND_S, lambda: reached(sim, origin, size))
    taken_s = sim.world.now_s - start_s
    sent = sum(sim.network.bytes_sent.values()) - before
    sim.__exit__()
    return (taken_s / ROUND_S if arrived else math.inf), sent / nodes / 1000


def many(task: Callable[[int], tuple[float, float]], seeds: int) -> tuple[list[float], list[float]]:
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        found = pool.map(task, range(seeds), chunksize=1)
    return sorted(r for r, _ in found), sorted(b for _, b in found)


def percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def run_rounds(nodes: int, seeds: int, folder: Path) -> list[tuple[str, str, str]]:
    path = str(found(nodes, folder))
    goal = math.log2(nodes) + 4
    rows = []
    for words, hints, partition_s in (
        ("without hints", 0, 0.0),
        ("with 3 hints", 3, 0.0),
        ("after 20 s half/half, without hints", 0, 20.0),
        ("after 300 s half/half, without hints", 0, 300.0),
    ):
        task = partial(rounds, nodes=nodes, path=path, hints=hints, partition_s=partition_s)
        taken, sent = many(task, seeds if partition_s < 100 else max(2, seeds // 10))
        rows.append(
            (
                f"rounds until a new head is at all of {nodes} nodes, {words} ({len(taken)} seeds)",
                f"median {median(taken):.1f}, p99 {percentile(taken, 0.99):.1f}; {median(sent):.0f} kB per node",
                f"≤ {goal:.1f}",
            )
        )
        print(*rows[-1], sep=" | ", flush=True)
    return rows


def run_curve(folder: Path) -> list[tuple[int, float, float, float]]:
    rows = []
    for nodes in (3, 4, 7, 10, 16, 30, 60, 100, 200, 300):
        path = str(found(nodes, folder))
        seeds = 20 if nodes <= 60 else 6 if nodes <= 200 else 4
        bare, sent = many(partial(rounds, nodes=nodes, path=path, hints=0), seeds)
        hinted, _ = many(partial(rounds, nodes=nodes, path=path, hints=3), seeds)
        rows.append((nodes, median(bare), median(hinted), median(sent)))
        print(nodes, *(f"{value:.1f}" for value in rows[-1][1:]), flush=True)
    draw(rows, Path("docs/images/convergence.svg"))
    return rows


def draw(rows: list[tuple[int, float, float, float]], path: Path) -> None:
    """Rounds and bytes over the number of nodes."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "peewit"
    from matplotlib import pyplot as plt

    nodes = [row[0] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(nodes, [math.log2(n) + 4 for n in nodes], "--", color="0.6", label="log2(n) + 4")
    left.plot(nodes, [row[1] for row in rows], "o-", label="ticks only")
    left.plot(nodes, [row[2] for row in rows], "s-", label="with 3 hints")
    left.set(xscale="log", xlabel="nodes", ylabel="rounds until a head is everywhere (median)", ylim=(0, None))
    left.legend()
    right.plot(nodes, [row[3] for row in rows], "o-")
    right.set(xscale="log", xlabel="nodes", ylabel="kB sent by a node until then (median)", ylim=(0, None))
    for axes in (left, right):
        axes.set_xticks(nodes, [str(n) for n in nodes])
        axes.minorticks_off()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def run() -> list[tuple[str, str, str]]:
    gc.disable()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [
            ("ten gossiping nodes, simulated seconds per second", f"{speed(found(10, folder), 10, 300):.0f}", "≥ 100"),
            ("a hundred", f"{speed(found(100, folder), 100, 300):.1f}", "≥ 8"),
        ]


if __name__ == "__main__":
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory() as name:
        match sys.argv[1:]:
            case ["rounds", seeds]:
                run_rounds(100, int(seeds), Path(name))
            case ["curve"]:
                run_curve(Path(name))
            case _:
                print(__doc__)
