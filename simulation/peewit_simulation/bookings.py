"""Appointments in a simulated world: people and practices with the real clients, while hosts crash and links fail.

    outcome = simulate_bookings(seed)
    outcome.broken            the promise that did not hold, or None

Rules kept here: people and practices keep their state on their own disk, and after a crash go on from there; whoever
fails tries again. What must hold is judged in `checkers.bookings`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from peewit_clients.calendar import Slot
from peewit_clients.charters import Draw, usual_draw
from peewit_clients.device_state import DeviceState
from peewit_clients.drawer import Drawer
from peewit_clients.mediator import Mediator
from peewit_clients.office import Office
from peewit_clients.place import with_work
from peewit_clients.practice import Drawn, Practice
from peewit_clients.practice_state import FACTS, SLOT, PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_clients.serve import Server, ServeSettings
from peewit_clients.tables import CatchmentRow, ProviderRow
from peewit_clients.user import User
from peewit_clients.user_state import Standing, UserState
from peewit_clients.vault import Vault
from peewit_federation import cbor
from peewit_federation.appointment.messages import practice_data
from peewit_federation.appointment.queue_api import Place
from peewit_federation.appointment.request import area_name
from peewit_federation.charter import Charter
from peewit_federation.draw.hashes import Person
from peewit_federation.errors import PeewitError
from peewit_federation.sealed import xwing_public
from peewit_simulation.actors import POSTCODES, District, pool_of
from peewit_simulation.checkers import BrokenPromiseError
from peewit_simulation.faults import Fault, apply, calm
from peewit_simulation.federation import Simulation
from peewit_simulation.generate import draw
from peewit_simulation.kernel.host import Host
from peewit_simulation.kernel.world import EPOCH_S

if TYPE_CHECKING:
    from peewit_simulation.checkers.bookings import Bookings

CLINICS, PEOPLE = 2, 5
SLOTS_EACH: Final = 3
PAUSE_S: Final = 3.0
OPENING_S: Final = 120.0
ANSWER_S: Final = 660
CALM_S: Final = 1000.0
"Longer than an offer that nobody answers keeps its slot."
SHOWS_S: Final = 12.0
"After a fault, until what it did can be seen."
DAY_S: Final = 86_400
PUT_BACK_SHARE: Final = 0.4
TURN_SHARE: Final = 0.4
"Of the worlds: a round ends in them, and the next one has another committee."
ROUND_S: Final = 300
LEAVE_SHARE: Final = 0.3
"Of the worlds: an operator leaves, of whose node practices may have kept their journals."
GROUP: Final = "over80"
"Of every second person; it comes first."


class Actor(ABC):
    """Somebody with a device: it works while its host is up."""

    def __init__(self, town: Town, name: str, address: str) -> None:
        self.town = town
        self.sim = town.sim
        self.host: Host = town.sim.add_host(name, address)
        self.host.folder.mkdir(exist_ok=True)
        self.random = town.sim.world.stream(name)
        self.sim.people[name] = self.start

    def start(self) -> None:
        self.host.boot()
        self.host.spawn(self._live())

    @property
    def begins_s(self) -> float:
        """When it first does anything, in seconds of the world."""
        return 0.0

    async def _live(self) -> None:
        await asyncio.sleep(max(0.0, self.begins_s - self.sim.world.now_s))
        while True:
            charter = self.charter
            async with pool_of(self.sim, self.host, charter) as pool:
                view = RegistryView(self.sim.charter, pool, self.host.wall)
                while self.charter is charter:
                    try:
                        await view.refresh([self.town.place.mediator])
                        await self.step(view)
                    except PeewitError as error:
                        self.sim.world.note(self.host.name, type(error).__name__)
                    await asyncio.sleep(self.pause_s * (0.5 + self.random.random()))

    @property
    def charter(self) -> Charter:
        """That it has now."""
        return self.sim.charter

    @property
    def pause_s(self) -> float:
        """Between two steps."""
        return PAUSE_S

    @abstractmethod
    async def step(self, view: RegistryView) -> None:
        """Do what is to be done next."""


class Clinic(Actor):
    """A practice."""

    def __init__(self, town: Town, number: int) -> None:
        super().__init__(town, f"clinic-{number}", f"127.6.0.{number + 1}")
        keys = self.sim.seed_of(self.host.name, "signing"), self.sim.seed_of(self.host.name, "encryption")
        self.state = PracticeState(town.district.identity.id, *keys)
        self.path = self.host.folder / "practice"
        self.priorities: dict[bytes, set[bytes]] = {}
        "By `H`: those that it computed."
        self._view: RegistryView | None = None
        self._server: Server | None = None
        self._drawer: Drawer | None = None
        self.leaves: tuple[float, Charter] | None = None
        "When it hears that an operator has left (in seconds of the world), and the charter without it."
        self._mailbox = False
        "Whether its mediator can write to it."
        self.knew = 0
        "The highest number of its journal that a device of it knew."
        self.drawn: list[tuple[tuple[int, int, bytes], bytes]] = []
        "Of the last draw, whoever was not offered anything yet: order and `H`."
        self.passed_over = ""
        "Who was offered something before somebody who came first."

    def admitted(self, secret: bytes, area_seed: bytes) -> None:
        """Take over what its mediator sends, and make a calendar."""
        state = self.state
        state.salt, fields = cbor.decode(secret)
        state.data = practice_data(fields)
        state.area_seeds = {area_name(self.town.place.mediator, self.town.place.area): [area_seed]}
        state.places = [self.town.place]
        for number in range(self.town.slots_each):
            name = self.sim.seed_of(self.host.name, "slot", number)[:16]
            state.calendar[name] = Slot(name, int(self.host.wall()) + DAY_S + 600 * number, 10, "flu")
        with Drawer.make(self.path) as drawer:
            drawer.write(state.changed((FACTS, b""), *((SLOT, name) for name in state.calendar)))

    async def step(self, view: RegistryView) -> None:
        if self._view is not view:
            self._open(view)
        assert self._server is not None
        if not self._mailbox:
            await self._office.open()
            self._mailbox = True
        await self._server.turn()
        self._server.practice.complaints.clear()

    @property
    def charter(self) -> Charter:
        if self.leaves is not None and self.sim.world.now_s >= self.leaves[0]:
            return self.leaves[1]
        return self.sim.charter

    @property
    def remembers(self) -> bool:
        """Whether its device knows all that one of its devices knew; one that was put back has to read it first."""
        number = self.on_disk().journal.number
        self.knew = max(self.knew, number)
        return number == self.knew

    def _open(self, view: RegistryView) -> None:
        """Go on from the disk, after a crash or with another charter."""
        if self._drawer is not None and self._drawer.close in self.host.at_crash:
            self.host.at_crash.remove(self._drawer.close)
            self._drawer.close()
        drawer = self._drawer = Drawer(self.path)
        self.host.at_crash.append(drawer.close)
        state = PracticeState.load(drawer.read())
        assert state is not None
        self.state, self._view, random = state, view, self.sim.world.stream(self.host.name, self.host.life)
        practice = self.town.practice(view, state, random.randbytes, drawer.write)
        self._watch(practice)
        office = self._office = Office(view, state, random.randbytes, drawer.write, practice.deal_with)
        self._server = Server(practice, office, ServeSettings(slots_per_offer=1, answer_s=ANSWER_S))

    def _watch(self, practice: Practice) -> None:
        real = practice.draw

        async def drawn(place: Place, count: int) -> Any:
            found = await real(place, count)
            for one in found:
                self.priorities.setdefault(one.request.name, set()).add(one.order[2])
            self.drawn = sorted((one.order, one.request.name) for one in found)
            return found

        offers = practice.offer

        async def offered(place: Place, drawn: Drawn, slots: Sequence[Slot], until_s: int) -> None:
            # Everybody wishes what every slot is.
            self.drawn, first = [item for item in self.drawn if item[1] != drawn.request.name], self.drawn[:1]
            if first and first[0][1] != drawn.request.name:
                self.passed_over = f"{drawn.request.name.hex()[:16]} before {first[0][1].hex()[:16]}"
            await offers(place, drawn, slots, until_s)

        practice.draw, practice.offer = drawn, offered  # type: ignore[method-assign]

    def on_disk(self) -> PracticeState:
        """What it would go on from now."""
        if self.host.alive:
            return self.state
        with Drawer(self.path) as drawer:
            state = PracticeState.load(drawer.read())
        assert state is not None
        return state


class Patient(Actor):
    """Somebody who wants an appointment."""

    def __init__(self, town: Town, number: int) -> None:
        super().__init__(town, f"person-{number}", f"127.7.0.{number + 1}")
        self.person = Person("Musterfrau", f"Number {number}", date(1940, 8, 12))
        self.group = GROUP if number % 2 else ""
        self.number = number
        self.path = self.host.folder / "request"
        self.saved: UserState | None = None
        "As it was last made durable."

    def prepare(self) -> None:
        """Begin with an empty device."""
        place = self.town.place
        areas = ((place.mediator, place.area),)
        state = UserState.new(self.person, self.group, areas, ("flu",), self.random.randbytes)
        with Vault.make(self.path) as vault:
            vault.write(state.encode())
        self.saved = state

    async def step(self, view: RegistryView) -> None:
        vault = Vault(self.path)
        self.host.at_crash.append(vault.close)
        try:
            data = vault.read()
            assert data is not None
            state = UserState.decode(data)
            view.go_through_others(state.recovery)
            random = self.sim.world.stream(self.host.name, self.host.life, int(self.sim.world.now_s * 1000))
            await self._step(User(view, state, random.randbytes, partial(self._save, vault)))
        finally:
            with suppress(ValueError):
                self.host.at_crash.remove(vault.close)
            vault.close()

    def _save(self, vault: Vault, state: UserState) -> None:
        vault.write(state.encode())
        self.saved = UserState.decode(state.encode())

    @staticmethod
    async def _step(user: User) -> None:
        await user.ask(with_work)
        chosen = user.state.chosen
        if chosen is None:
            for found in (await user.offers())[:1]:
                await user.accept(found, found.offer.slots[0][0])
        elif chosen.state is Standing.SENT:
            await user.check()
            if chosen.state is Standing.SENT and user.view.clock() > chosen.offer.until + 60:
                await user.reopen()
            elif chosen.state is Standing.SENT:
                await user.again()
        elif chosen.state is not Standing.BOOKED:
            await user.reopen()

    @property
    def begins_s(self) -> float:
        """Where a round ends, every third asks after that."""
        return self.town.turn_s + self.number if self.number % 3 == 2 else 0.0

    @property
    def pause_s(self) -> float:
        """Who has an appointment looks rarely."""
        return 5 * PAUSE_S if self.booked else PAUSE_S

    @property
    def booked(self) -> bool:
        """Whether its device knows of an appointment."""
        return bool(self.saved and self.saved.chosen and self.saved.chosen.state is Standing.BOOKED)


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
    seed: int, practice: MakePractice = Practice, faults: tuple[Fault, ...] | None = None, clinics: int = CLINICS
) -> Outcome:
    """People book while things go wrong, as a seed has it (or `faults`); then nothing does, until all are served."""
    from peewit_simulation.checkers.bookings import Bookings

    scenario = draw(seed, 4)
    names = tuple(f"n{number:03}" for number in range(4))
    turn_s, rounds = (0, usual_draw(names)) if faults is not None else _rounds(seed, scenario.faulty_s, names)
    with Simulation(seed, 4, freshness_s=(300, 3600), draw=rounds) as sim:
        town = Town(sim, practice, clinics, slots_each=-(-PEOPLE // clinics), turn_s=turn_s)
        town.open()
        if faults is None:
            _leave(seed, scenario.faulty_s, town)
        promises, broken, start_s = Bookings(town), None, sim.world.now_s
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


def _leave(seed: int, faulty_s: float, town: Town) -> None:
    """In some worlds an operator leaves, and practices hear of it at different times; its node goes on for a while."""
    random, charter = Random(f"peewit leave {seed}"), town.sim.charter
    if random.random() > LEAVE_SHARE:
        return
    gone = random.choice(town.sim.names)
    stay = replace(charter, operators=tuple(o for o in charter.operators if o.name != gone))
    for clinic in town.clinics:
        clinic.leaves = town.sim.world.now_s + random.uniform(0, faulty_s), stay


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
