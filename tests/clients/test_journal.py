"""A practice's journal at three nodes: devices that are lost, put back from a backup, or two at a time."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterable
from copy import deepcopy
from pathlib import Path

import pytest

from peewit_clients.appointments import Appointments
from peewit_clients.journal import BehindError, Journal
from peewit_clients.letters import Letters
from peewit_clients.office import Office
from peewit_clients.place import with_work
from peewit_clients.pool import BackendError
from peewit_clients.practice import Practice
from peewit_clients.practice_state import SLOT, Item, PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_clients.serve import Server, ServeSettings
from peewit_clients.user import User
from peewit_clients.user_state import Standing
from peewit_federation.errors import RefusedError, UnknownError
from tests.clients.surgery import Surgery, slot

SOON_S = 3600


@pytest.fixture
async def surgery(tmp_path: Path) -> AsyncIterator[Surgery]:
    found = await Surgery.open(tmp_path)
    yield found
    await found.federation.stop()


class Disk:
    """What a device keeps; it can be copied and put back."""

    def __init__(self, state: PracticeState) -> None:
        self.items: dict[tuple[int, bytes], bytes] = {}
        self.save(state.changed(*state.names()))

    def save(self, items: Iterable[Item]) -> None:
        for kind, name, body in items:
            if body is None:
                self.items.pop((kind, name), None)
            else:
                self.items[kind, name] = body

    def device(self, view: RegistryView) -> Practice:
        """A device that goes on from here."""
        state = PracticeState.load((*name, body) for name, body in self.items.items())
        assert state is not None
        return Practice(view, state, os.urandom, self.save)


def disk_of(surgery: Surgery, view: RegistryView, *numbers: int) -> Disk:
    state = surgery.practice(view).state
    state.calendar = {slot(number).name: slot(number) for number in numbers}
    state.places = [surgery.place]
    return Disk(state)


async def asked(surgery: Surgery, view: RegistryView, name: str) -> User:
    user = surgery.user(view, name)
    await user.ask(with_work)
    return user


async def offer_next(surgery: Surgery, practice: Practice) -> int:
    """Offer the first free slot to whoever is next; how many offers were made."""
    count = 0
    for drawn in await practice.draw(surgery.place, 1):
        for free in practice.state.free(time.time())[:1]:
            await practice.offer(surgery.place, drawn, [free], int(time.time()) + SOON_S)
            count += 1
    return count


async def accept(user: User) -> None:
    (found,) = await user.offers()
    await user.accept(found, found.offer.slots[0][0])


async def test_a_device_put_back_from_a_backup_gives_no_slot_away_again(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        practice = disk.device(view)
        await practice.journal.flush()
        backup = deepcopy(disk)
        first = await asked(surgery, view, "First")
        assert await offer_next(surgery, practice) == 1
        await accept(first)
        assert len(await practice.confirm()) == 1
        assert await first.check() is Standing.BOOKED
        # The machine dies. Its backup knows of a free slot, and the next in line waits.
        second, again = await asked(surgery, view, "Second"), backup.device(view)
        assert len(again.state.free(time.time())) == 1
        with pytest.raises(BehindError, match="it took over"):
            await offer_next(surgery, again)
        assert await second.offers() == []
        assert await offer_next(surgery, again) == 0, "it knows now that nothing is free"
        (booking,) = again.state.booked.values()
        assert booking.person == first.state.person
        await Appointments(again).note(booking, "bring your papers")
        await first.check()
        assert first.state.chosen is not None
        assert first.state.chosen.words[-1][2] == "bring your papers", "what came back is enough to go on"
        assert backup.device(view).state.booked, "and it is on the disk"


async def test_the_working_day_of_a_restored_device_begins_with_the_journal(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        backup = deepcopy(disk)
        practice = disk.device(view)
        first = await asked(surgery, view, "First")
        await offer_next(surgery, practice)
        await accept(first)
        await practice.confirm()
        again = backup.device(view)
        again.state.calendar[slot(2).name] = slot(2)
        again.keep((SLOT, slot(2).name))
        await asked(surgery, view, "Second")
        office = Office(view, again.state, os.urandom, backup.save)
        await office.open()
        turn = await Server(again, office, ServeSettings(1)).turn()
        assert any("it took over" in line and "1 new times of its own" in line for line in again.complaints)
        assert turn.offers == 1
        (offer,) = again.state.offered.values()
        assert set(offer.slots) == {slot(2).name}, "a time that was added meanwhile is kept; the booked one is not free"


async def test_of_two_devices_at_work_one_writes_and_no_slot_is_given_twice(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        left, right = disk.device(view), deepcopy(disk).device(view)
        people = [await asked(surgery, view, name) for name in ("One", "Two", "Three")]
        for turn in range(6):
            practice = (left, right)[turn % 2]
            try:
                await practice.confirm()
                await offer_next(surgery, practice)
            except (BehindError, RefusedError) as error:
                practice.complaints.append(str(error))
            for user in people:
                if user.state.chosen is None and (found := await user.offers()):
                    await user.accept(found[0], slot(1).name)
        for practice in (left, right):
            await practice.ready()
            await practice.confirm()
            await practice.ready()
        assert [await user.check() for user in people if user.state.chosen].count(Standing.BOOKED) == 1
        await left.ready()
        assert [b.person for b in left.state.booked.values()] == [b.person for b in right.state.booked.values()]


async def test_without_two_of_its_nodes_nothing_is_said_and_all_of_it_later(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1, 2)
        practice = disk.device(view)
        await practice.journal.flush()
        names = {node.state.operator.origin_hash: name for name, node in surgery.federation.nodes.items()}
        keepers = [names[origin] for origin in practice.state.journal.origins]
        assert len(keepers) == 3
        first = await asked(surgery, view, "First")
        await surgery.federation.stop(keepers[0])
        assert await offer_next(surgery, practice) == 1
        assert len(await first.offers()) == 1, "two of three are enough"
        real = practice.journal._call
        gone = {keepers[0], keepers[1]}

        async def call(backend, what, body):  # type: ignore[no-untyped-def]
            if backend.name in gone:
                raise BackendError("cut off")
            return await real(backend, what, body)

        practice.journal._call = call  # type: ignore[method-assign]
        await accept(first)
        await practice.confirm()
        assert await first.check() is Standing.SENT, "one of three is not: nobody is told"
        assert any("before the practice's journal holds it" in line for line in practice.complaints)
        assert practice.state.journal.flight
        # Its power goes; what was begun is said again, in the same bytes.
        practice = disk.device(view)
        await practice.confirm()
        assert await first.check() is Standing.BOOKED
        await surgery.federation.start(keepers[0])
        for _ in range(2):
            practice.keep((SLOT, slot(2).name))
            await practice.journal.flush()
            await practice.mend()
        engines = [surgery.federation.nodes[name].engine for name in keepers]
        found = [
            await engine.fetch("SELECT number, head, tag FROM journals JOIN journal_rows USING (practice) ORDER BY tag")
            for engine in engines
        ]
        assert found[0] == found[1] == found[2], "the node that was away has caught up"


async def test_an_empty_machine_gets_everything_back_with_the_code_and_a_wrong_code_nothing(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, *range(300))
        practice = disk.device(view)
        user = await asked(surgery, view, "First")
        await offer_next(surgery, practice)
        await accept(user)
        await practice.confirm()
        await practice.journal.flush()  # that its letters are delivered
        state = practice.state
        empty = PracticeState(b"", state.key_seed, state.encryption_seed)
        letters = Letters(view.pool, time.time, os.urandom)
        await Journal(letters, empty, os.urandom, lambda _: None).restore()
        for name in state.names():
            assert empty.item(*name) == state.item(*name)
        assert set(empty.names()) == set(state.names())
        stranger = PracticeState(b"", os.urandom(32), os.urandom(32))
        with pytest.raises(Exception, match="no mediator has vouched|no node"):
            await Journal(letters, stranger, os.urandom, lambda _: None).restore()
        other = surgery.practice(view, "clinic-b").state
        with pytest.raises(UnknownError, match="keeps a journal"):
            await Journal(letters, other, os.urandom, lambda _: None).restore()


async def test_nodes_that_keep_a_journal_learn_no_name_and_no_time(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        practice = disk.device(view)
        user = await asked(surgery, view, "First")
        await offer_next(surgery, practice)
        await accept(user)
        await practice.confirm()
        for node in surgery.federation.nodes.values():
            for tag, body in await node.engine.fetch("SELECT tag, body FROM journal_rows"):
                size = len(body) - 40
                assert size & (size - 1) == 0, "sizes are powers of two"
                for secret in (b"First", b"clinic-a", slot(1).name, user.state.nonce):
                    assert secret not in tag + body
