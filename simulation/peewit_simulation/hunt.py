"""The hunt: random scenarios by the thousand, until a promise breaks; then the shortest that still breaks it.

Rules kept here: every seed runs in a process of its own, on all cores; what was done is remembered, so that a
hunt goes on where it stopped; whatever is found can be repeated from a file.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from peewit_simulation.bookings import simulate_bookings
from peewit_simulation.checkers import BrokenPromiseError
from peewit_simulation.federation import sweep
from peewit_simulation.generate import draw
from peewit_simulation.machine import make_keys
from peewit_simulation.scenario import Scenario, simulate

KEYS: Final = 32
"Token keys that most worlds need."
SHRINK_RUNS_MAX = 80


@dataclass(frozen=True)
class Result:
    """What became of one seed."""

    seed: int
    promise: str
    "The broken promise, or empty."
    what: str
    digest: str
    simulated_s: float
    real_s: float


def run_one(scenario: Scenario) -> Result:
    """Run a scenario, in this process."""
    gc.freeze()
    gc.disable()  # collecting runs finalizers at times that no seed decides
    start = time.perf_counter()
    try:
        outcome = simulate(scenario)
    except Exception as error:
        where = traceback.format_exc(limit=-4)
        return Result(scenario.seed, type(error).__name__, f"{error}\n{where}", "", 0.0, time.perf_counter() - start)
    took_s = time.perf_counter() - start
    broken = outcome.broken or BrokenPromiseError("", "")
    return Result(scenario.seed, broken.promise, broken.what, outcome.digest, outcome.simulated_s, took_s)


def run_seed(seed: int) -> Result:
    """Run the scenario of a seed, in this process."""
    return run_one(draw(seed))


def run_bookings(seed: int) -> Result:
    """Let people and practices make appointments in the world of a seed, in this process."""
    gc.freeze()
    start = time.perf_counter()
    try:
        outcome = simulate_bookings(seed)
    except Exception as error:
        where = traceback.format_exc(limit=-4)
        return Result(seed, type(error).__name__, f"{error}\n{where}", "", 0.0, time.perf_counter() - start)
    broken = outcome.broken or BrokenPromiseError("", "")
    return Result(seed, broken.promise, broken.what, "", outcome.simulated_s, time.perf_counter() - start)


def hunt(seeds: range, jobs: int, run: Callable[[int], Result] = run_seed) -> Iterator[Result]:
    """Run many seeds, `jobs` at once, each in a process of its own."""
    context = multiprocessing.get_context("fork")
    if run is run_bookings:
        make_keys(KEYS)
    try:
        with context.Pool(jobs, maxtasksperchild=1) as pool:
            yield from pool.imap_unordered(run, seeds)
    finally:
        sweep()


def run_apart(scenario: Scenario) -> Result:
    """Run a scenario in a process of its own."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(run_one, (scenario,))


def run_seed_apart(seed: int) -> Result:
    """Run the scenario of a seed in a process of its own."""
    return run_apart(draw(seed))


def shrink(scenario: Scenario, promise: str, told: Callable[[str], None] = lambda _: None) -> Scenario:
    """Leave out what is not needed to break the promise."""
    runs = 0

    def breaks(candidate: Scenario) -> bool:
        nonlocal runs
        runs += 1
        told(f"shortening: {len(scenario.faults)} faults, try {runs}")
        return runs <= SHRINK_RUNS_MAX and run_apart(candidate).promise == promise

    for less in ({"theft": None}, {"liars": ()}, {"replays": False}):
        without = replace(scenario, **less)
        if without != scenario and breaks(without):
            scenario = without
    size = max(1, len(scenario.faults) // 2)
    while scenario.faults and runs < SHRINK_RUNS_MAX:
        for start in range(0, len(scenario.faults), size):
            left = scenario.faults[:start] + scenario.faults[start + size :]
            candidate = replace(scenario, faults=left)
            if breaks(candidate):
                scenario = candidate
                break
        else:
            if size == 1:
                break
            size = max(1, size // 2)
    return scenario
