"""How long people wait, by the round in which they asked: `python -m bench.fairness [PLOT.svg]`.

A model of the queue's order alone (group, round, priority), with as many places in every round; people come at random.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import mean, quantiles

PLACES, ROUNDS, SEEDS = 100, 26, 20
ARRIVALS = (0.5, 1.0, 2.0)
ASKED_IN = (0, 4, 8, 12)
EARLY_SHARE = 0.2
"Of a group that is served first."


def waits(arrivals: float, seed: int) -> list[tuple[int, bool, int]]:
    """(round asked in, whether of the first group, rounds waited) of everybody who was served."""
    random = Random(seed)
    queue: list[tuple[bool, int, float, bool]] = []
    served: list[tuple[int, bool, int]] = []
    for number in range(ROUNDS):
        count = sum(random.random() < arrivals / 4 for _ in range(PLACES * 4))
        for _ in range(count):
            early = random.random() < EARLY_SHARE
            heapq.heappush(queue, (not early, number, random.random(), early))
        for _ in range(min(PLACES, len(queue))):
            _, asked, _, early = heapq.heappop(queue)
            served.append((asked, early, number - asked))
    return served


def rows() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for arrivals in ARRIVALS:
        everything = [wait for seed in range(SEEDS) for wait in waits(arrivals, seed)]
        for asked in ASKED_IN:
            late = [wait for at, early, wait in everything if at == asked and not early]
            first = [wait for at, early, wait in everything if at == asked and early]
            found.append((f"{arrivals:g}", str(asked + 1), _words(first), _words(late)))
    return found


def _words(values: Sequence[int]) -> str:
    if len(values) < 20:
        return "not served in half a year"
    return f"{mean(values):.1f} ({quantiles(values, n=20)[-1]:.0f})"


def plot(path: Path) -> None:
    """Mean waiting over the round in which somebody asked."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "peewit"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for arrivals in ARRIVALS:
        everything = [wait for seed in range(SEEDS) for wait in waits(arrivals, seed)]
        for early, style in ((False, "-"), (True, ":")):
            xs = [at for at in range(ROUNDS // 2) if any(a == at and e == early for a, e, _ in everything)]
            ys = [mean(wait for at, e, wait in everything if (at, e) == (x, early)) for x in xs]
            group = "first group" if early else "everybody else"
            axes.plot([x + 1 for x in xs], ys, style, label=f"{arrivals:g} people for a place, {group}")
    axes.set_xlabel("round in which somebody asked")
    axes.set_ylabel("rounds waited (mean)")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    print("| people for each place | asked in round | first group: rounds waited, mean (p95) | everybody else |")
    print("|---|---|---|---|")
    for row in rows():
        print("| " + " | ".join(row) + " |")
    if sys.argv[1:]:
        plot(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
