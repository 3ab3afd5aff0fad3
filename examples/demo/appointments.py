"""The last steps: two hundred people, three practices, a node that dies and a cut, and who learnt what."""

from __future__ import annotations

import asyncio
import copy
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from rich.table import Table

from examples.demo.cluster import ROUND_S
from examples.demo.passports import Passports
from examples.demo.recording import Ledger, RecordedPool
from peewit_clients.backend import BackendError, UnreachableError
from peewit_clients.calendar import Slot
from peewit_clients.device_state import DeviceState
from peewit_clients.journal import Journal
from peewit_clients.letters import Letters
from peewit_clients.mediator import Mediator
from peewit_clients.office import Office
from peewit_clients.place import with_work
from peewit_clients.pool import BackendPool
from peewit_clients.practice import Practice
from peewit_clients.practice_state import PracticeState
from peewit_clients.recovery import read_code, write_code
from peewit_clients.registry_view import RegistryView
from peewit_clients.serve import Server, ServeSettings
from peewit_clients.tables import CatchmentRow, ProviderRow
from peewit_clients.user import User
from peewit_clients.user_state import Standing, UserState
from peewit_federation import cbor
from peewit_federation.appointment.messages import practice_data
from peewit_federation.appointment.queue_api import Place
from peewit_federation.appointment.request import area_name
from peewit_federation.draw.hashes import Person
from peewit_federation.draw.tickets import Ticket
from peewit_federation.errors import RefusedError
from peewit_federation.sealed import xwing_public

if TYPE_CHECKING:
    from examples.demo.country import District
    from examples.demo.story import Story

HOME = "10115"
PEOPLE, SLOTS_EACH = 200, 40
GROUP = "over80"
CLINICS = ("clinic-a", "clinic-b", "clinic-c")
QUEUE = ("north", "east")
AT_ONCE = 6


@dataclass
class Somebody:
    """One of two hundred."""

    number: int
    state: UserState
    error: str = ""


class Appointments:
    """Tells and checks."""

    def __init__(self, story: Story, districts: list[District]) -> None:
        self.story = story
        self.cluster = story.cluster
        self.district = next(d for d in districts if HOME in d.postcodes)
        self.ledger = Ledger()
        self.people: list[Somebody] = []
        self.practices: list[tuple[Practice, Server]] = []
        self.view: RegistryView
        self.place: Place
        self.seed = b""

    async def tell(self) -> None:
        story, charter = self.story, self.cluster.charter
        async with BackendPool(charter, timeout_s=5) as pool, BackendPool(charter, timeout_s=5) as theirs:
            self.view = RegistryView(charter, pool)
            story.head(8, f"{len(CLINICS)} practices offer {len(CLINICS) * SLOTS_EACH} times; {PEOPLE} people ask")
            await self.open_area(theirs)
            begin = time.monotonic()
            first = await self.open_round()
            await self.ask(PEOPLE // 2)
            story.say(f"{PEOPLE // 2} people asked in round {first}; the next round begins …")
            while await self.open_round() == first:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
            await self.ask(PEOPLE)
            rounds = Counter((p.state.group, p.state.request.round) for p in self.people if p.state.request)
            story.check(len(self.people) == PEOPLE == sum(rounds.values()), "all got a place, each through other nodes")
            story.check(self.ledger.direct == 0, "and no node was asked by a person's own device for anything")
            story.row(
                "200 requests, admitted, drawn, and in the queue of two nodes", f"{time.monotonic() - begin:.0f} s"
            )
            await self.book()
            self.check_bookings()
            await self.lose_a_machine()
            await self.show_waiting()
            self.note_what_practices_showed()
            for table in self.ledger.tables(self.cluster.names, PEOPLE):
                story.console.print()
                story.console.print(table)
            await Passports(self).tell()

    # Before

    async def open_area(self, pool: BackendPool) -> None:
        """A catchment area with a group and three practices, published by the district's own device."""
        cluster, district = self.cluster, self.district
        view = RegistryView(cluster.charter, pool)
        states = [PracticeState.new(district.id, os.urandom) for _ in CLINICS]
        with DeviceState(district.device) as device:
            role = Mediator(district.folder, device, cluster.charter, pool)
            planner = await role.prepare()
            plan = planner.catchments([CatchmentRow("round", (HOME,), ("flu",), (GROUP,), QUEUE, 300)], lambda _: None)
            ((_, _, area, self.seed),) = plan.names
            self.place = Place(district.id, area)
            rows = [
                ProviderRow(
                    name, ("round",), ("flu",), state.key.public, xwing_public(state.encryption_seed), 300,
                    {"name": name, "street": f"Example Street {number}", "postcode": HOME},
                )
                for number, (name, state) in enumerate(zip(CLINICS, states, strict=True), start=1)
            ]  # fmt: skip
            admitted = planner.providers(rows, lambda _: area, readmit=False)
            plan.statements += admitted.statements
            plan.names += admitted.names
            progress = await role.publish(plan, wait_s=20)
            self.story.check(progress.effective, f"the district admits three practices: {progress.words()}")
        tomorrow_s = int(time.time()) // 86_400 * 86_400 + 2 * 86_400 + 8 * 3600
        for (_, _, _, secret), state in zip(admitted.names, states, strict=True):
            state.salt, fields = cbor.decode(secret)
            state.data = practice_data(fields)
            state.area_seeds = {area_name(district.id, area): [self.seed]}
            state.places = [self.place]
            for number in range(SLOTS_EACH):
                slot = Slot(os.urandom(16), tomorrow_s + 600 * number, 10, "flu")
                state.calendar[slot.name] = slot
            practice = Practice(view, state, os.urandom)
            server = Server(practice, Office(view, state, os.urandom), ServeSettings(slots_per_offer=1))
            self.practices.append((practice, server))

    async def open_round(self) -> int:
        """The round that is open."""
        schedule = self.cluster.charter.schedule
        assert schedule is not None

        async def found() -> int | None:
            await self.view.refresh([self.district.id])
            number = self.view.registry.rounds.open_round(schedule, time.time())
            return number if number is not None and self._admitting(number) >= 2 else None

        end = time.monotonic() + 3 * ROUND_S
        while (number := await found()) is None:
            if time.monotonic() > end:
                raise RuntimeError("no round was opened")
            await asyncio.sleep(0.5)
        return number

    def _admitting(self, number: int) -> int:
        """How many operators have keys for both groups."""
        operators = self.cluster.charter.operators
        found = self.view.registry.rounds.token_key
        return sum(all(found(o.origin_hash, number, group) for group in ("", GROUP)) for o in operators)

    # Asking

    @asynccontextmanager
    async def client(self, person: Somebody) -> AsyncIterator[User]:
        """One person's device. All share one copy of the public logs here, which each would fetch by itself."""
        pool = RecordedPool(self.cluster.charter, timeout_s=5)
        pool.ledger, pool.person = self.ledger, person.number
        async with pool:
            view = copy.copy(self.view)
            view.pool = pool
            view.go_through_others(person.state.recovery)
            yield User(view, person.state, os.urandom, lambda _: None)

    async def ask(self, upto: int) -> None:
        """More people ask, until there are so many."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            born = date(1930, 1, 1 + number % 28) if number % 4 == 0 else date(1980, 1, 1 + number % 28)
            person = Person("Muster", f"Erika {chr(65 + number // 26)}{chr(97 + number % 26)}", born)
            group = GROUP if number % 4 == 0 else ""
            areas = ((self.place.mediator, self.place.area),)
            somebody = Somebody(number, UserState.new(person, group, areas, ("flu",), os.urandom))
            self.people.append(somebody)
            async with gate:
                for _ in range(20):
                    if await self.asked(somebody):
                        return
                    await asyncio.sleep(1)  # a round may have ended in between
                    await self.open_round()
            raise RuntimeError(f"person {number} got no place: {somebody.error}")

        await asyncio.gather(*(one(number) for number in range(len(self.people), upto)))

    async def asked(self, person: Somebody) -> bool:
        try:
            async with self.client(person) as user:
                await user.ask(with_work)
        except (RefusedError, UnreachableError, BackendError) as error:
            person.error = str(error)
        return person.state.request is not None and not person.state.asked

    # Booking

    async def book(self) -> None:
        """Practices work and people answer, while a node dies and the network is cut."""
        story, wanted = self.story, len(CLINICS) * SLOTS_EACH
        story.head(9, f"{wanted} appointments are made, while node {QUEUE[0]} dies and the network is cut in two")
        begin, trouble = time.monotonic(), asyncio.create_task(self.trouble(wanted))
        while self.booked() < wanted or not trouble.done():
            await self.view.refresh([self.district.id])
            await asyncio.gather(*(server.turn() for _, server in self.practices))
            waiting = [person for person in self.people if self._waits(person)]
            gate = asyncio.Semaphore(AT_ONCE)
            offered = {name for practice, _ in self.practices for name in practice.state.offered}
            asked = [p for p in waiting if p.state.request and (p.state.request.name in offered or p.state.chosen)]
            await asyncio.gather(*(self.answer(person, gate) for person in asked))
            if time.monotonic() - begin > 120:
                trouble.cancel()
                raise RuntimeError(f"only {self.booked()} of {wanted} were booked in two minutes")
        await trouble
        for _ in range(3):
            await asyncio.gather(*(practice.confirm() for practice, _ in self.practices))
            gate = asyncio.Semaphore(AT_ONCE)
            await asyncio.gather(*(self.answer(p, gate) for p in self.people if self._waits(p) and p.state.chosen))
        took = time.monotonic() - begin
        story.check(self.booked() == wanted, f"{wanted} appointments were made in {took:.0f} s")
        story.row("appointments made, with a dead node and a cut on the way", f"{wanted} in {took:.0f} s")

    def booked(self) -> int:
        return sum(len(practice.state.booked) for practice, _ in self.practices)

    @staticmethod
    def _waits(person: Somebody) -> bool:
        return person.state.chosen is None or person.state.chosen.state in (Standing.SENT, Standing.DECLINED)

    async def answer(self, person: Somebody, gate: asyncio.Semaphore) -> None:
        """Look for offers, and take the first."""
        async with gate, self.client(person) as user:
            try:
                if person.state.chosen is None:
                    for found in (await user.offers())[:1]:
                        await user.accept(found, found.offer.slots[0][0])
                elif person.state.chosen.state is Standing.SENT:
                    await user.again()
                    await user.check()
            except (RefusedError, UnreachableError, BackendError) as error:
                person.error = str(error)

    async def trouble(self, wanted: int) -> None:
        """A node dies after a fifth of the bookings, the network is cut after two fifths, and mended after three."""
        for share, event in enumerate((self.kill, self.cut, self.mend), start=1):
            while self.booked() < wanted * share // 5:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            await event()

    async def kill(self) -> None:
        self.cluster.kill(QUEUE[0])
        await self.cluster.processes[QUEUE[0]].wait()
        self.story.say(f"after {self.booked()} bookings: node {QUEUE[0]}, which holds the queue, is killed (kill -9)")

    async def cut(self) -> None:
        self.cluster.cables.partition({"west"}, {"south", "east"})
        self.story.say(f"after {self.booked()}: node west is cut from the others")

    async def mend(self) -> None:
        self.cluster.cables.heal()
        await self.cluster.run(QUEUE[0])
        self.story.say(f"after {self.booked()}: the cut is healed, and node {QUEUE[0]} is back")

    # Afterwards

    def check_bookings(self) -> None:
        story = self.story
        told = {p.state.request.name: p for p in self.people if p.state.request and not self._waits(p)}
        made = [booking for practice, _ in self.practices for booking in practice.state.booked.values()]
        story.check(
            len(made) == len(told) and all(b.request in told for b in made), "every appointment is held by both sides"
        )
        same = [(told[b.request].state.chosen, b) for b in made]
        story.check(
            all(c is not None and (c.begins_s, c.slot) == (b.slot.begins_s, b.slot.name) for c, b in same),
            "and both sides mean the same time",
        )
        story.check(len({b.slot.name for b in made}) == len(made), "no time was given away twice")
        story.check(len({b.person.given_name for b in made}) == len(made), "and nobody was booked twice")
        places = {name: self.order(p) for p in self.people if p.state.request for name in [p.state.request.name]}
        last = max(places[b.request][:2] for b in made)
        passed = [place for name, place in places.items() if name not in told and place[:2] < last]
        story.check(not passed, "nobody of an earlier group or round was passed over")
        in_order = sorted(places, key=lambda name: places[name])
        first = set(in_order[: len(made)])
        self.story.say(f"{sum(b.request in first for b in made)} of {len(made)} are those whom the draw put first")

    def order(self, person: Somebody) -> tuple[int, int, bytes]:
        """Rank of the group, round, priority: computed from the proofs, by anybody."""
        request, schedule = person.state.request, self.cluster.charter.schedule
        assert request is not None
        assert schedule is not None
        publics = self.view.registry.rounds.keys(schedule.seats_of(request.round), request.round)
        assert publics is not None
        return request.group != GROUP, request.round, Ticket.decode(request.ticket).priority(request.name, publics)

    async def lose_a_machine(self) -> None:
        """A practice's machine burns; another one begins with nothing but the recovery code."""
        practice, server = self.practices[0]
        begin, code = time.monotonic(), write_code(practice.state.secret)
        async with BackendPool(self.cluster.charter) as pool:
            state = PracticeState.of_secret(read_code(code))
            await Journal(Letters(pool, time.time, os.urandom), state, os.urandom, lambda _: None).restore()
        took = time.monotonic() - begin
        same = {name: (b.person, b.slot) for name, b in state.booked.items()} == {
            name: (b.person, b.slot) for name, b in practice.state.booked.items()
        }
        self.story.check(
            same, f"the machine of {CLINICS[0]} burns: another one, with its recovery code, has all "
            f"{len(state.booked)} appointments {took:.1f} s later",
        )  # fmt: skip
        fresh = Practice(self.view, state, os.urandom)
        self.practices[0] = fresh, Server(fresh, Office(self.view, state, os.urandom), server.settings)

    async def show_waiting(self) -> None:
        asked = Counter((p.state.group, p.state.request.round) for p in self.people if p.state.request)
        still = Counter(
            (p.state.group, p.state.request.round) for p in self.people if p.state.request and self._waits(p)
        )
        table = Table("group", "round", "asked", "booked", "waiting", title="Waiting by group and round")
        for (group, number), count in sorted(asked.items(), key=lambda item: (item[0][0] != GROUP, item[0][1])):
            left = still[group, number]
            table.add_row(group or "everybody", str(number), str(count), str(count - left), str(left))
        self.story.console.print()
        self.story.console.print(table)

    def note_what_practices_showed(self) -> None:
        """The nodes of the queue saw which practice drew and claimed what."""
        for practice, _ in self.practices:
            names = {booking.request for booking in practice.state.booked.values()}
            for node in QUEUE:
                self.ledger.drawn.setdefault(node, set()).update(names)
