"""Appointments in simulated worlds: what holds, and that the checkers see it when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from peewit_clients.bookings import Booking, Letter, Offered
from peewit_clients.calendar import Slot
from peewit_clients.drawing import Drawn
from peewit_clients.outbox import Outbox
from peewit_clients.practice import Practice
from peewit_clients.practice_state import BOOKING
from peewit_federation.appointment.messages import Accept
from peewit_federation.appointment.queue_api import Place
from peewit_federation.draw.hours import Hours
from peewit_federation.draw.schedule import Schedule
from peewit_federation.draw.tickets import Committee
from peewit_node.appointment.queue_sql import DRAW
from peewit_node.draw.draw_keys import DrawKeys
from peewit_simulation.bookings import simulate_bookings
from peewit_simulation.faults import Fault
from peewit_simulation.queue_lies import QUEUE_LIES
from peewit_simulation.town import PEOPLE, Town


@pytest.mark.parametrize("seed", [1, 2, 9])
def test_everybody_gets_one_appointment_whatever_goes_wrong(seed: int) -> None:
    outcome = simulate_bookings(seed)
    assert outcome.broken is None
    assert outcome.booked == PEOPLE


def test_a_round_ends_and_another_committee_draws_while_things_go_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was admitted before keeps the place; who comes after gets one of the new committee."""
    drawn_by: dict[int, int] = {}
    real = Town.served.fget  # type: ignore[attr-defined]

    def watched(town: Town) -> bool:
        for person in town.people:
            if person.saved and person.saved.request:
                number = person.saved.request.round
                schedule = town.sim.charter.schedule
                assert schedule is not None
                drawn_by[number] = len(schedule.seats_of(number).origins)
        return bool(real(town))

    monkeypatch.setattr(Town, "served", property(watched))
    outcome = simulate_bookings(4)
    assert outcome.broken is None
    assert outcome.booked == PEOPLE
    assert sorted(drawn_by.values()) == [3, 4], "one round by four members, one by three"


class Forgetful(Practice):
    """Confirms before it is durable, and so forgets when the power goes."""

    def keep(self, *names: tuple[int, bytes]) -> None:
        super().keep(*(name for name in names if name[0] != BOOKING))


def test_a_practice_that_confirms_what_it_has_not_stored_is_caught() -> None:
    crashes = tuple(
        Fault(at_s, what, (f"clinic-{n}",)) for n in (0, 1) for at_s, what in ((25.0, "crash"), (26.0, "restart"))
    )
    assert simulate_bookings(3, faults=crashes).broken is None, "the honest one forgets nothing"
    broken = simulate_bookings(3, Forgetful, crashes).broken
    assert broken is not None
    assert "was told that its time is confirmed" in broken.what


class Greedy(Practice):
    """Promises one slot to everybody, and books it for each."""

    async def offer(self, place: Place, drawn: Drawn, slots: Sequence[Slot], until_s: int) -> None:
        first = min(self.state.calendar.values(), key=lambda slot: slot.name)
        kept, self.state.offered = self.state.offered, {}
        booked, self.state.booked = self.state.booked, {}
        try:
            await super().offer(place, drawn, [first], until_s)
        finally:
            self.state.offered = {**kept, **self.state.offered}
            self.state.booked = {**booked, **self.state.booked}

    async def _book(self, offered: Offered, accept: Accept, slot: Slot) -> Booking | None:
        self.state.booked.pop(slot.name, None)
        await asyncio.sleep(0)
        return await super()._book(offered, accept, slot)


def test_a_practice_that_gives_one_time_to_two_people_is_caught() -> None:
    broken = simulate_bookings(4, Greedy, ()).broken
    assert broken is not None
    # Whichever comes first: two who were told the same, or one of them whose time the practice gave away.
    assert "told the same time for one person" in broken.what or "was told that its time is confirmed" in broken.what


class Alone(Practice):
    """Asks no journal: what its device does not know did not happen."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)

        async def nothing() -> None:
            self.state.journal.pending.clear()

        self.journal.ready = self.journal.flush = nothing  # type: ignore[method-assign]


def test_a_practice_that_goes_on_from_a_backup_without_its_journal_is_caught() -> None:
    faults = tuple(
        Fault(at_s, what, (f"clinic-{n}",)) for n in (0, 1) for at_s, what in ((1.0, "backup"), (26.0, "put_back"))
    )
    assert simulate_bookings(3, faults=faults).broken is None, "the honest one reads what it decided"
    broken = simulate_bookings(3, Alone, faults).broken
    assert broken is not None
    assert "was told" in broken.what


class Friendly(Practice):
    """Serves whoever comes last first."""

    async def draw(
        self, place: Place, count: int, passed: tuple[tuple[bytes, int], ...] = (), *, anew: bool = False,
        known: Mapping[bytes, int] | None = None,
    ) -> list[Drawn]:  # fmt: skip
        return (await super().draw(place, count, passed, anew=anew, known=known))[::-1]


def test_a_practice_that_serves_its_friends_first_is_caught() -> None:
    broken = simulate_bookings(4, Friendly, ()).broken
    assert broken is not None
    assert "passed over, or served early" in broken.what
    assert "by clinic-" in broken.what


def test_a_node_that_hands_out_requests_in_another_order_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    other = DRAW.replace("rank, round, priority", "rank DESC, round, priority DESC")
    monkeypatch.setattr("peewit_node.appointment.queue.DRAW", other)
    # One slot for each practice: who is drawn first matters.
    broken = simulate_bookings(4, faults=(), clinics=5).broken
    assert broken is not None
    assert "by node n0" in broken.what


@pytest.mark.parametrize("lie", QUEUE_LIES)
def test_one_node_of_a_queue_that_lies_keeps_nobody_from_an_appointment(lie: str) -> None:
    outcome = simulate_bookings(5, faults=(), lie=lie)
    assert outcome.broken is None
    assert outcome.booked == PEOPLE


def test_a_practice_that_asks_one_node_serves_whom_it_favours_and_one_that_asks_all_does_not() -> None:
    def offers(practice: type[Practice]) -> list[tuple[int, int, bytes]]:
        made: list[tuple[int, int, bytes]] = []

        class Noted(practice):  # type: ignore[misc, valid-type]
            async def offer(self, place: Place, drawn: Drawn, slots: Sequence[Slot], until_s: int) -> None:
                made.append(drawn.order)
                await super().offer(place, drawn, slots, until_s)

        simulate_bookings(6, Noted, (), lie="favour")
        return made

    class Trusting(Practice):
        """Believes the first node of an area."""

        async def draw(
            self, place: Place, count: int, passed: tuple[tuple[bytes, int], ...] = (), *, anew: bool = False,
            known: Mapping[bytes, int] | None = None,
        ) -> list[Drawn]:  # fmt: skip
            letters = self.drawing._letters
            real = letters.nodes
            letters.nodes = lambda origins: real(origins)[:1]  # type: ignore[method-assign]
            try:
                return await super().draw(place, count, passed, anew=anew, known=known)
            finally:
                letters.nodes = real  # type: ignore[method-assign]

    honest, fooled = offers(Practice), offers(Trusting)
    assert honest[0] == min(honest)
    assert fooled[0] == max(fooled)


def test_operators_fewer_than_the_threshold_gain_nothing_by_choosing_an_h_and_as_many_as_the_threshold_do() -> None:
    few = simulate_bookings(7, faults=(), colluders=1)
    assert (few.broken, few.foreseen, few.booked) == (None, False, PEOPLE)
    enough = simulate_bookings(7, faults=(), colluders=2)
    assert (enough.broken, enough.foreseen) == (None, True), "what the threshold is for"


def test_a_committee_whose_members_hold_all_keys_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Committee, "_holders", property(lambda committee: (committee.members,) * len(committee.sets)))
    monkeypatch.setattr(Committee, "held_by", lambda committee, name: tuple(range(len(committee.sets))))
    broken = simulate_bookings(7, faults=(), colluders=1).broken
    assert broken is not None
    assert broken.promise == "Draws"
    assert "fewer than the threshold foresaw a priority" in broken.what


def test_nodes_that_draw_closed_rounds_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert simulate_bookings(8, faults=(), turn_s=10).broken is None

    def require(hours: Hours, schedule: Schedule, number: int, *_: object, **__: object) -> tuple[bytes, ...]:
        keys = hours._rounds.keys(schedule.seats_of(number), number)
        assert keys is not None
        return keys

    async def finish(*_: object) -> None:
        pass

    monkeypatch.setattr(Hours, "require", require)
    monkeypatch.setattr(DrawKeys, "finish", finish)
    broken = simulate_bookings(8, faults=(), turn_s=10).broken
    assert broken is not None
    assert broken.promise == "Draws"
    assert "found drawers" in broken.what


def test_letters_that_are_sent_once_and_forgotten_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Outbox._send

    async def once(outbox: Outbox, name: bytes, letter: Letter) -> None:
        await real(outbox, name, letter)

    monkeypatch.setattr("peewit_simulation.bookings.CALM_S", 200.0)
    seeds = (84, 85)  # a letter is lost only where both of its nodes are away for a moment
    assert [simulate_bookings(seed).broken for seed in seeds] == [None] * len(seeds)
    monkeypatch.setattr(Outbox, "_send", once)
    broken = [found.what for found in (simulate_bookings(seed).broken for seed in seeds) if found]
    assert broken
    assert all("have not heard what their practice said" in what for what in broken)
