"""Appointments in a simulated world: people and practices with the real clients, while hosts crash and links fail.

    outcome = simulate_bookings(seed)
    outcome.broken            the promise that did not hold, or None

Rules kept here: the seed decides what goes wrong, when a round ends, and who leaves; the world ends when that is over
and everybody is served. Who lives there is in `residents`; what must hold is judged in `checkers.bookings`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from peewit_clients.charters import Draw, usual_draw
from peewit_clients.device_state import DeviceState
from peewit_clients.mediator import Mediator
from peewit_clients.practice import Practice
from peewit_clients.tables import CatchmentRow, ProviderRow
from peewit_federation.appointment.queue_api import Place
from peewit_federation.sealed import xwing_public
from peewit_simulation.actors import POSTCODES, District, pool_of
from peewit_simulation.checkers import BrokenPromiseError
from peewit_simulation.faults import Fault, apply, calm
from peewit_simulation.federation import Simulation
from peewit_simulation.generate import draw
from peewit_simulation.kernel.world import EPOCH_S
from peewit_simulation.queue_lies import QUEUE_LIES, corrupt_queue
from peewit_simulation.residents import GROUP, Clinic, Patient

if TYPE_CHECKING:
    from peewit_simulation.checkers.bookings import Bookings

CLINICS, PEOPLE = 2, 5
SLOTS_EACH: Final = 3
OPENING_S: Final = 120.0
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
"Of the worlds: an operator leaves, of whose node practices may have kept their journals."
MakePractice = Callable[..., Practice]


@dataclass
class Outcome:
    """What came of a seed."""

    seed: int
    broken: BrokenPromiseError | None
    simulated_s: float
    booked: int
    events: list[tuple[float, str]] = field(default_factory=list)


class Town:
    """Everybody."""

    def __init__(
        self, sim: Simulation, practice: MakePractice = Practice,
        clinics: int = CLINICS, people: int = PEOPLE, slots_each: int = SLOTS_EACH, turn_s: float = 0.0,
    ) -> None:  # fmt: skip
        """`turn_s`: when a round ends, in seconds of the world."""
        self.sim = sim
        self.turn_s = turn_s
        self.practice = practice
        self.sizes = clinics, people
        self.slots_each = slots_each
        self.district = District(sim)
        self.place = Place(self.district.identity.id, bytes(16))
        self.leaks: list[str] = []

    def open(self, *, live: bool = True) -> None:
        """Start nodes, admit the district, publish an area and practices, and wait until a round is open.

        People and practices live by themselves, unless somebody else moves them (`live`).
        """
        sim, district = self.sim, self.district
        sim.start()
        sim.run(OPENING_S, lambda: len(sim.nodes) == len(sim.names))
        for name in sim.names[:2]:
            sim.on(name, sim.nodes[name].own.append(district.admission()))
        sim.run(OPENING_S, lambda: all(
            district.identity.id in node.keeper.registry.admissions for node in sim.nodes.values()
        ))  # fmt: skip
        district.host.boot()
        self.clinics = [Clinic(self, number) for number in range(self.sizes[0])]
        secrets, area_seed, area = self._on_district(self._publish())
        self.place = Place(district.identity.id, area)
        self.people = [Patient(self, number) for number in range(self.sizes[1])]
        assert sim.run(OPENING_S, self._round_is_open), "no round was opened"
        for clinic, secret in zip(self.clinics, secrets, strict=True):
            clinic.admitted(secret, area_seed)
        for person in self.people:
            person.prepare()
        for actor in (*self.clinics, *self.people) if live else ():
            actor.start()

    def served(self, promises: Bookings) -> bool:
        """Whether everybody has an appointment, and every practice knows of what it decided."""
        return (
            all(person.booked for person in self.people)
            and all(clinic.remembers for clinic in self.clinics)
            and promises.settled
        )

    def _on_district(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.sim.on(self.district.host.name, work, OPENING_S)

    async def _publish(self) -> tuple[list[bytes], bytes, bytes]:
        district, sim = self.district, self.sim
        async with pool_of(sim, district.host) as pool:
            with DeviceState(district.host.folder / "devices" / district.device) as device:
                role = Mediator(
                    district.host.folder, device, sim.charter, pool,
                    clock=district.host.wall, random_bytes=district.random.randbytes,
                )  # fmt: skip
                planner = await role.prepare()
                row = CatchmentRow("mitte", POSTCODES, ("flu",), (GROUP,), sim.names[:2], 400)
                plan = planner.catchments([row], lambda _: None)
                ((_, _, area, area_seed),) = plan.names
                rows = [
                    ProviderRow(
                        clinic.host.name, ("mitte",), ("flu",), clinic.state.key.public,
                        xwing_public(clinic.state.encryption_seed), 400, {"name": clinic.host.name},
                    )
                    for clinic in self.clinics
                ]  # fmt: skip
                admitted = planner.providers(rows, lambda _: area, readmit=False)
                plan.statements += admitted.statements
                progress = await role.publish(plan, wait_s=60)
                assert progress.effective, progress.words()
                return [secret for _, _, _, secret in admitted.names], area_seed, area

    def _round_is_open(self) -> bool:
        schedule = self.sim.charter.schedule
        assert schedule is not None
        now_s = self.district.host.wall()
        return all(
            (number := node.keeper.registry.rounds.open_round(schedule, now_s)) is not None
            and all(
                node.keeper.registry.rounds.token_key(o.origin_hash, number, group)
                for o in self.sim.charter.operators
                for group in ("", GROUP)
            )
            for node in self.sim.nodes.values()
        )


def simulate_bookings(
    seed: int, practice: MakePractice = Practice, faults: tuple[Fault, ...] | None = None, clinics: int = CLINICS,
    lie: str = "",
) -> Outcome:  # fmt: skip
    """People book while things go wrong, as a seed has it (or `faults`); then nothing does, until all are served.

    `lie`: what the first node of the queue does from the beginning.
    """
    from peewit_simulation.checkers.bookings import Bookings

    scenario = draw(seed, 4)
    names = tuple(f"n{number:03}" for number in range(4))
    turn_s, rounds = (0, usual_draw(names)) if faults is not None else _rounds(seed, scenario.faulty_s, names)
    with Simulation(seed, 4, freshness_s=(300, 3600), draw=rounds) as sim:
        town = Town(sim, practice, clinics, slots_each=-(-PEOPLE // clinics), turn_s=turn_s)
        town.open()
        gone = _leave(seed, scenario.faulty_s, town) if faults is None else ""
        promises, broken, start_s = Bookings(town), None, sim.world.now_s
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
            while sim.world.now_s < over_s or (sim.world.now_s < end_s and not town.served(promises)):
                sim.run(1.0)
                promises.watch()
            calm(sim)
            for name, start in sim.people.items():
                if not sim.hosts[name].alive:
                    start()  # whoever was down when the faults ended
            end_s = sim.world.now_s + CALM_S
            while sim.world.now_s < end_s and not town.served(promises):
                sim.run(1.0)
                promises.watch()
            promises.end()
        except BrokenPromiseError as error:
            broken = error
        booked = sum(person.booked for person in town.people)
        return Outcome(seed, broken, sim.world.now_s, booked, sim.history.events)


def _rounds(seed: int, faulty_s: float, names: tuple[str, ...]) -> tuple[int, Draw]:
    """When a round ends and another committee follows, in some worlds, and all rounds."""
    random, usual = Random(f"peewit rounds {seed}"), usual_draw(names)
    if random.random() > TURN_SHARE:
        return 0, usual
    turn_s = random.randrange(5, int(faulty_s))
    at_s = int(EPOCH_S) + turn_s
    following = random.sample(names, random.choice((3, 4)))
    later = ((at_s // ROUND_S, tuple(following), 2),)
    return turn_s, replace(usual, round_s=ROUND_S, starts_s=at_s % ROUND_S, later=later)


def _leave(seed: int, faulty_s: float, town: Town) -> str:
    """In some worlds an operator leaves, and practices hear of it at different times; its node goes on for a while.

    Which, if one does.
    """
    random, charter = Random(f"peewit leave {seed}"), town.sim.charter
    if random.random() > LEAVE_SHARE:
        return ""
    gone = random.choice(town.sim.names)
    stay = replace(charter, operators=tuple(o for o in charter.operators if o.name != gone))
    for clinic in town.clinics:
        clinic.leaves = town.sim.world.now_s + random.uniform(0, faulty_s), stay
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
