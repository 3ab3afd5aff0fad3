"""A scenario: a federation, what goes wrong in it and when, and what came of it.

Rules kept here: two phases. First faults happen while people work; then faults stop, nobody says anything new,
and everything must come right. A scenario is data: it can be drawn from a seed, read from TOML, shortened and
repeated, and the same scenario gives the same digest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from peewit_simulation.actors import District, Patient, Replayer
from peewit_simulation.checkers import BrokenPromiseError, Checker
from peewit_simulation.checkers.bounds import NodesDoNotFail, NodesStayBounded, SecretsStay
from peewit_simulation.checkers.logs import AcknowledgedIsKept, CosignaturesAgree, ForksAreKnown, QuorumIsQuorum
from peewit_simulation.checkers.registry import (
    NodesAgree,
    RevocationsAreKnown,
    RevocationsStay,
    TheThiefIsGone,
    WhatIsSaidCounts,
)
from peewit_simulation.faults import Fault, apply, calm
from peewit_simulation.federation import Simulation
from peewit_simulation.liars import Thief, corrupt
from peewit_simulation.words import in_words

FOUNDING_S = 60.0
QUIET_S = 20.0


@dataclass(frozen=True)
class Scenario:
    """What is simulated."""

    seed: int
    nodes: int = 4
    faults: tuple[Fault, ...] = ()
    faulty_s: float = 60.0
    liars: tuple[tuple[str, str], ...] = ()
    "(node, lie) from the beginning of the faults on."
    theft: tuple[float, str, str] | None = None
    "When, and the two nodes that see different histories."
    replays: bool = False
    "Whether a client sends again what others sent before."
    closes: bool = True
    "Whether the district takes its root key out and closes the stolen device."


@dataclass
class Sample:
    """One moment, for pictures."""

    time_s: float
    age_s: dict[str, float]
    "By node: since when it lacks something that another has (0 if it lacks nothing)."
    client_age_s: float | None
    node_bytes: int
    "Sent by all nodes so far."
    served: int
    failed: int
    "Requests of clients so far."
    bookable: int
    refused: int
    "How often a client could book so far, and could not tell."


@dataclass
class Outcome:
    """What came of a scenario."""

    scenario: Scenario
    broken: BrokenPromiseError | None
    digest: str
    simulated_s: float
    events: list[tuple[float, str]]
    samples: list[Sample] = field(default_factory=list)
    converged_s: float | None = None
    "How long after the faults stopped all nodes agreed."
    bytes_sent: dict[str, int] = field(default_factory=dict)
    served: int = 0
    failed: int = 0
    accepted: int = 0
    refused: int = 0
    said: int = 0


class Run:
    """A scenario under way."""

    def __init__(self, scenario: Scenario, sim: Simulation, progress: Callable[[str, float], None] | None) -> None:
        self.scenario = scenario
        self.sim = sim
        self.district = District(sim, closes=scenario.closes)
        self.patient = Patient(sim, self.district)
        self.thief = Thief(sim, self.district)
        self.replayer = Replayer(sim)
        self.samples: list[Sample] = []
        self.converged_s: float | None = None
        self._behind_since: dict[str, float] = {}
        self._progress = progress or (lambda _phase, _done: None)
        secrets = [sim.seed_of(name, part) for name in sim.names for part in ("log", "witness", "charter")]
        parts = [(f"desk-{number}", part) for number in (1, 2, 3) for part in ("log", "encryption")]
        secrets += [sim.seed_of("district", *name) for name in (("root",), *parts)]
        self.checkers: list[Checker] = [
            *(CosignaturesAgree(sim), AcknowledgedIsKept(sim), QuorumIsQuorum(sim), ForksAreKnown(sim)),
            *(RevocationsAreKnown(sim), RevocationsStay(sim, self.district)),
            WhatIsSaidCounts(sim, self.district),
            *(TheThiefIsGone(sim, self.district, self.thief), NodesStayBounded(sim)),
            *(SecretsStay(sim, secrets), NodesDoNotFail(sim)),
        ]

    def all_phases(self) -> None:
        """Raises `BrokenPromiseError`."""
        self._found()
        self._faulty()
        self._calm()

    def _found(self) -> None:
        sim = self.sim
        self._progress("founding", 0.0)
        sim.start()
        sim.run(FOUNDING_S, lambda: len(sim.nodes) == len(sim.names))
        for name in sim.names[:2]:
            sim.on(name, sim.nodes[name].own.append(self.district.admission()))
        sim.run(FOUNDING_S, lambda: all(
            self.district.identity.id in node.keeper.registry.admissions for node in sim.nodes.values()
        ))  # fmt: skip
        self.district.start()
        self.patient.start()
        self._let(QUIET_S, "founding")

    def _faulty(self) -> None:
        sim, scenario = self.sim, self.scenario
        start_s = sim.world.now_s
        sim.history.tell("faults begin")
        for name, lie in scenario.liars:
            corrupt(sim, name, lie)
        if scenario.replays:
            sim.history.tell("a client begins to replay what others sent")
            self.replayer.start()
        for fault in (fault for fault in scenario.faults if fault.at_s < scenario.faulty_s):
            sim.world.at(start_s + fault.at_s, lambda fault=fault: self._apply(fault))  # type: ignore[misc]
        if scenario.theft is not None:
            at_s, first, second = scenario.theft
            sim.world.at(start_s + at_s, lambda: self.thief.strike(first, second))
        self._let(scenario.faulty_s, "faults")

    def _apply(self, fault: Fault) -> None:
        self.sim.history.tell(in_words(fault))
        apply(self.sim, fault)

    def _calm(self) -> None:
        sim = self.sim
        sim.history.tell("faults stop")
        calm(sim)
        self.district.finish()
        start_s = sim.world.now_s
        agree = NodesAgree(sim)
        settled = False
        while sim.world.now_s < start_s + agree.within_s:
            self._let(1.0, "calm")
            resting = self.district.finished or not self.district.host.alive
            settled = resting and self.district.closing is None and sim.converged()
            if settled:
                break
        if not settled:
            if not sim.converged():
                agree.within_s = 0.0
                agree.end()
            raise agree.broken(f"the district did not come to rest in {sim.world.now_s - start_s:.0f} s")
        self.converged_s = sim.world.now_s - start_s
        sim.history.tell(f"all nodes agree, {self.converged_s:.0f} s after faults stopped")
        self._let(QUIET_S, "calm")
        agree.within_s = QUIET_S
        agree.end()
        for checker in self.checkers:
            checker.end()

    def _let(self, seconds: float, phase: str) -> None:
        end_s = self.sim.world.now_s + seconds
        while self.sim.world.now_s < end_s:
            self.sim.run(min(1.0, end_s - self.sim.world.now_s))
            for checker in self.checkers:
                checker.watch()
            self.samples.append(self._sample())
            self._progress(phase, self.sim.world.now_s)

    def _sample(self) -> Sample:
        now_s, nodes = self.sim.world.now_s, self.sim.nodes
        longest: dict[bytes, int] = {}
        forked = {log.origin for node in nodes.values() for log in node.logs.all() if log.forked}
        for node in nodes.values():
            for log in (log for log in node.logs.all() if log.origin not in forked):
                longest[log.origin] = max(longest.get(log.origin, 0), log.size)
        ages = {}
        for name in self.sim.names:
            here = nodes.get(name)
            held = {log.origin: log.size for log in here.logs.all()} if here else {}
            if here is not None and all(held.get(origin, 0) >= size for origin, size in longest.items()):
                self._behind_since.pop(name, None)
            else:
                self._behind_since.setdefault(name, now_s - 1.0)
            ages[name] = now_s - self._behind_since.get(name, now_s)
        view = self.patient.view
        fresh = view.freshness.get(self.district.identity.id) if view else None
        as_of_s = fresh.as_of_s if fresh else None
        history, sent = self.sim.history, self.sim.network.bytes_sent
        return Sample(
            now_s, ages, None if as_of_s is None else self.patient.host.wall() - as_of_s,
            sum(sent.get(name, 0) for name in self.sim.names),
            history.served, history.failed, len(history.accepted), history.refused,
        )  # fmt: skip


def simulate(
    scenario: Scenario,
    *,
    progress: Callable[[str, float], None] | None = None,
    log_lines: list[str] | None = None,
) -> Outcome:
    """Run a scenario to its end, or until a promise is broken."""
    with Simulation(scenario.seed, scenario.nodes) as sim:
        sim.log_lines = log_lines
        run = Run(scenario, sim, progress)
        broken = None
        try:
            run.all_phases()
        except BrokenPromiseError as error:
            broken = error
            sim.history.tell(f"BROKEN {error.promise}")
        history = sim.history
        return Outcome(
            scenario, broken, sim.world.digest(), sim.world.now_s, history.events, run.samples, run.converged_s,
            sim.network.bytes_sent, history.served, history.failed, len(history.accepted), history.refused,
            len(history.said),
        )  # fmt: skip
