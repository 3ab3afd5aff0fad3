"""Who lives in a simulated town: practices and people, each with the real client and a disk of its own.

Rules kept here: they work while their host is up, a step every few seconds; whoever fails tries again, and after a
crash goes on from the disk. What must hold is judged in `checkers.bookings`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from peewit_clients.calendar import Slot
from peewit_clients.drawer import Drawer
from peewit_clients.drawing import Drawn
from peewit_clients.office import Office
from peewit_clients.place import with_work
from peewit_clients.practice import Practice
from peewit_clients.practice_state import FACTS, SLOT, PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_clients.serve import Server, ServeSettings
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
from peewit_simulation.actors import pool_of
from peewit_simulation.kernel.host import Host

if TYPE_CHECKING:
    from peewit_simulation.town import Town

PAUSE_S: Final = 3.0
ANSWER_S: Final = 660
DAY_S: Final = 86_400
GREETING: Final = "please bring your papers"
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
        self.leaves: tuple[float, Charter] | None = None
        "When it hears that an operator has left (in seconds of the world), and the charter without it."
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
        if self.leaves is not None and self.sim.world.now_s >= self.leaves[0]:
            return self.leaves[1]
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
        for booking in list(self._server.practice.state.booked.values()):
            if GREETING not in [text for *_, text in booking.words]:
                await self._server.acts.note(booking, GREETING)

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

        async def drawn(place: Place, count: int, passed: tuple[tuple[bytes, int], ...] = (), **more: Any) -> Any:
            found = await real(place, count, passed, **more)
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

    def prepare(self, choose: Callable[[UserState], None] | None = None) -> None:
        """Begin with an empty device; `choose` may change what stands on it."""
        place = self.town.place
        areas = ((place.mediator, place.area),)
        state = UserState.new(self.person, self.group, areas, ("flu",), self.random.randbytes)
        if choose is not None:
            choose(state)
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
        elif chosen.state is Standing.BOOKED:
            await user.check()
        else:
            await user.reopen()
        await user.tidy()

    @property
    def begins_s(self) -> float:
        """Where a round ends, every third asks after that."""
        return self.town.turn_s + self.number if self.number % 3 == 2 else 0.0

    @property
    def pause_s(self) -> float:
        """Who has an appointment, and was told what to bring, looks rarely."""
        return 5 * PAUSE_S if self.greeted else PAUSE_S

    @property
    def booked(self) -> bool:
        """Whether its device knows of an appointment."""
        return bool(self.saved and self.saved.chosen and self.saved.chosen.state is Standing.BOOKED)

    @property
    def greeted(self) -> bool:
        """Whether it has heard what its practice said once that was booked."""
        chosen = self.saved.chosen if self.saved else None
        return self.booked and chosen is not None and GREETING in [text for *_, text in chosen.words]
