"""Appointments in a simulated world: people and practices with the real clients, while hosts crash and links fail.

    outcome = simulate_bookings(seed)
    outcome.broken            the promise that did not hold, or None

Rules kept here: the seed decides what goes wrong, when a round ends, and who leaves; the world ends when that is over
and everybody is served. Who lives there is in `residents`; what must hold is judged in `checkers.bookings`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any, Final

from peewit_clients.charters import Draw, usual_draw
from peewit_clients.practice import Practice
from peewit_simulation.cheats import Colluders
from peewit_simulation.checkers import BrokenPromiseError
from peewit_simulation.checkers.bookings import Bookings
from peewit_simulation.checkers.draws import Draws
from peewit_simulation.faults import Fault, apply, calm
from peewit_simulation.federation import Simulation
from peewit_simulation.generate import draw
from peewit_simulation.kernel.world import EPOCH_S
from peewit_simulation.queue_lies import QUEUE_LIES, corrupt_queue
from peewit_simulation.town import CLINICS, PEOPLE, MakePractice, Town

CALM_S: Final = 1000.0
"Longer than an offer that nobody answers keeps its slot."
SHOWS_S: Final = 12.0
"After a fault, until what it did can be seen."
PUT_BACK_SHARE: Final = 0.4
TURN_SHARE: Final = 0.4
"Of the worlds: a round ends in them, and the next one has another committee."
ROUND_S: Final = 300
LIE_SHARE: Final = 0.3
"Of the worlds: one of the two nodes that hold the queue lies about it."
LEAVE_SHARE: Final = 0.3
"Of the worlds: an operator leaves, at whose node journals and letters may lie."
COLLUDE_SHARE: Final = 0.3
"Of the worlds: operators, one fewer than the threshold, choose an `H` for a friend."


@dataclass
class Outcome:
    """What came of a seed."""

    seed: int
    broken: BrokenPromiseError | None
    simulated_s: float
    booked: int
    foreseen: bool = False
    "Whether colluding operators knew their friend's priority before it was drawn."
    events: list[tuple[float, str]] = field(default_factory=list)


def simulate_bookings(
    seed: int, practice: MakePractice = Practice, faults: tuple[Fault, ...] | None = None, clinics: int = CLINICS,
    lie: str = "", colluders: int = 0, turn_s: int = 0,
) -> Outcome:  # fmt: skip
    """People book while things go wrong, as a seed has it (or `faults`); then nothing does, until all are served.

    `lie`: what the first node of the queue does from the beginning; `colluders`: so many operators pool their keys;
    `turn_s`: when a round ends, if one does.
    """
    scenario = draw(seed, 4)
    names = tuple(f"n{number:03}" for number in range(4))
    turn_s = _turn(seed, scenario.faulty_s) if faults is None else turn_s
    rounds = _rounds(seed, turn_s, names)
    with Simulation(seed, 4, freshness_s=(300, 3600), draw=rounds) as sim:
        town = Town(sim, practice, clinics, slots_each=-(-PEOPLE // clinics), turn_s=turn_s)
        if faults is None:
            colluders = _collude(seed, rounds)
        if colluders:
            town.colluders = Colluders(sim, rounds.members[-colluders:])
        town.open()
        gone = _leave(seed, scenario.faulty_s, town) if faults is None else ""
        bookings, draws, broken, start_s = Bookings(town), Draws(town), None, sim.world.now_s

        def watch() -> None:
            bookings.watch()
            draws.watch()

        def done() -> bool:
            return town.served and bookings.settled and draws.settled

        if faults is None and gone not in sim.names[:2]:  # one of those that hold the queue is honest
            _lie(seed, scenario.faulty_s, sim)
        if lie:
            corrupt_queue(sim, sim.names[0], lie)
        if faults is None:
            faults = *scenario.faults, *_put_back(seed, scenario.faulty_s)
        for fault in faults:
            if "patient" in repr(fault.with_) or "district" in repr(fault.with_) or fault.do == "skew":
                fault = _among_us(fault)
            sim.world.at(start_s + fault.at_s, partial(apply, sim, fault))
        try:
            end_s = start_s + scenario.faulty_s
            over_s = start_s + max((fault.at_s for fault in faults), default=0.0) + SHOWS_S
            while sim.world.now_s < over_s or (sim.world.now_s < end_s and not done()):
                sim.run(1.0)
                watch()
            calm(sim)
            for name, start in sim.people.items():
                if not sim.hosts[name].alive:
                    start()  # whoever was down when the faults ended
            end_s = sim.world.now_s + CALM_S
            while sim.world.now_s < end_s and not done():
                sim.run(1.0)
                watch()
            bookings.end()
            draws.end()
        except BrokenPromiseError as error:
            broken = error
        booked = sum(person.booked for person in town.people)
        return Outcome(seed, broken, sim.world.now_s, booked, draws.foreseen, sim.history.events)


def _turn(seed: int, faulty_s: float) -> int:
    """When a round ends, in some worlds."""
    random = Random(f"peewit turn {seed}")
    return random.randrange(5, int(faulty_s)) if random.random() < TURN_SHARE else 0


def _rounds(seed: int, turn_s: int, names: tuple[str, ...]) -> Draw:
    """All rounds; if one ends, another committee follows."""
    random, usual = Random(f"peewit rounds {seed}"), usual_draw(names)
    if not turn_s:
        return usual
    at_s = int(EPOCH_S) + turn_s
    following = random.sample(names, random.choice((3, 4)))
    later = ((at_s // ROUND_S, tuple(following), 2),)
    return replace(usual, round_s=ROUND_S, starts_s=at_s % ROUND_S, later=later)


def _collude(seed: int, rounds: Draw) -> int:
    """How many operators choose an `H` for a friend: in some worlds as many as must not be able to."""
    return rounds.threshold - 1 if Random(f"peewit collude {seed}").random() < COLLUDE_SHARE else 0


def _leave(seed: int, faulty_s: float, town: Town) -> str:
    """In some worlds an operator leaves, and everybody hears of it at another time; its node goes on for a while.

    Which, if one does.
    """
    random, charter = Random(f"peewit leave {seed}"), town.sim.charter
    if random.random() > LEAVE_SHARE:
        return ""
    gone = random.choice(town.sim.names)
    stay = replace(charter, operators=tuple(o for o in charter.operators if o.name != gone))
    for actor in (*town.clinics, *town.people):
        actor.leaves = town.sim.world.now_s + random.uniform(0, faulty_s), stay
    return gone


def _lie(seed: int, faulty_s: float, sim: Simulation) -> None:
    """In some worlds a node of the queue begins to lie about it, until it is started again."""
    random = Random(f"peewit queue lies {seed}")
    if random.random() > LIE_SHARE:
        return
    name, lie = random.choice(sim.names[:2]), random.choice(QUEUE_LIES)
    sim.world.at(sim.world.now_s + random.uniform(0, faulty_s), partial(corrupt_queue, sim, name, lie))


def _put_back(seed: int, faulty_s: float) -> list[Fault]:
    """In some worlds a practice's machine dies, and goes on from a copy that is some time old."""
    random = Random(f"peewit put back {seed}")
    if random.random() > PUT_BACK_SHARE:
        return []
    name = f"clinic-{random.randrange(CLINICS)}"
    at_s = random.uniform(0, faulty_s)
    return [Fault(random.uniform(0, at_s), "backup", (name,)), Fault(at_s, "put_back", (name,))]


def _among_us(fault: Fault) -> Fault:
    """The same fault, for practices and people instead of who is not here; clocks that are no more than 10 s off."""
    if fault.do == "skew":
        name, seconds, drift = fault.with_
        return replace(fault, with_=(name, seconds / 3, drift))

    def renamed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(renamed(part) for part in value)
        return {"patient": "person-0", "district": "clinic-0"}.get(value, value)

    return replace(fault, with_=renamed(fault.with_))
