"""A practice's journal at three nodes: devices that are lost, put back from a backup, or two at a time."""

from __future__ import annotations

import os
import time
from copy import deepcopy

import pytest

from peewit_clients.appointments import Appointments
from peewit_clients.backend import BackendError, UnreachableError
from peewit_clients.journal import BehindError, Journal
from peewit_clients.letters import Letters
from peewit_clients.office import Office
from peewit_clients.practice_state import SLOT, PracticeState
from peewit_clients.serve import Server, ServeSettings
from peewit_clients.user_state import Standing
from peewit_federation.errors import RefusedError, UnknownError
from tests.clients.journal_kit import accept, add, asked, booked, cut_off, disk_of, keepers_of, offer_next
from tests.clients.surgery import Surgery, slot


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


async def test_times_that_were_taken_out_after_a_backup_do_not_come_back_and_new_ones_are_kept(
    surgery: Surgery,
) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        practice = disk.device(view)
        await practice.journal.flush()
        add(practice, 2, 3)
        backup = deepcopy(disk)
        await practice.journal.flush()
        await Appointments(practice).withdraw([slot(2).name], "")
        again = backup.device(view)
        add(again, 4)
        with pytest.raises(BehindError, match="keeps 1 new times"):
            await again.journal.ready()
        assert set(again.state.calendar) == {slot(number).name for number in (1, 3, 4)}
        assert set(backup.device(view).state.calendar) == set(again.state.calendar)
        # It is remembered as long as what was booked is, and then no more.
        assert again.state.taken_out
        again.view.clock = lambda: time.time() + 40 * 86_400
        await Appointments(again).forget()
        assert not again.state.taken_out


async def test_the_working_day_of_a_restored_device_begins_with_the_journal(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        backup = deepcopy(disk)
        practice = disk.device(view)
        await booked(surgery, view, practice)
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
        real = practice.journal.nodes.call
        gone = {keepers[0], keepers[1]}

        async def call(backend, what, body):  # type: ignore[no-untyped-def]
            if backend.name in gone:
                raise BackendError("cut off")
            return await real(backend, what, body)

        practice.journal.nodes.call = call  # type: ignore[method-assign]
        await accept(first)
        await practice.confirm()
        assert await first.check() is Standing.SENT, "one of three is not: nobody is told"
        assert any("before the practice's journal holds it" in line for line in practice.complaints)
        assert practice.state.journal.flying
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
        await booked(surgery, view, practice)
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
        user = await booked(surgery, view, practice)
        for node in surgery.federation.nodes.values():
            for tag, body in await node.engine.fetch("SELECT tag, body FROM journal_rows"):
                size = len(body) - 40
                assert size & (size - 1) == 0, "sizes are powers of two"
                for secret in (b"First", b"clinic-a", slot(1).name, user.state.nonce):
                    assert secret not in tag + body


async def test_a_copy_of_a_disk_never_writes_in_the_others_term(surgery: Surgery) -> None:
    """Both would write the same number, at different nodes, and whoever reads could not tell which one counts."""
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        practice = disk.device(view)
        first = await asked(surgery, view, "First")
        await offer_next(surgery, practice)
        await accept(first)
        await practice.journal.flush()
        backup, (a, b, c) = deepcopy(disk), keepers_of(surgery, practice)
        cut_off(practice, {a})
        await practice.confirm()
        assert await first.check() is Standing.BOOKED
        again, gone = backup.device(view), {b, c}
        cut_off(again, gone)
        again.state.offered.clear()
        again.keep((SLOT, slot(1).name))
        await again.deliver()
        assert any("1 of the 3 nodes" in line for line in again.complaints), "one node is nobody to write to"
        gone.remove(b)
        with pytest.raises(BehindError):
            await again.deliver()
        assert [booking.person for booking in again.state.booked.values()] == [first.state.person]


async def test_two_devices_that_take_turns_both_get_on(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1, 2)
        copy = deepcopy(disk)
        servers = []
        for one in (disk, copy):
            practice = one.device(view)
            office = Office(view, practice.state, os.urandom, one.save, practice.deal_with)
            await office.open()
            servers.append(Server(practice, office, ServeSettings(1)))
        people = [await asked(surgery, view, name) for name in ("One", "Two")]
        for turn in range(8):
            await servers[turn % 2].turn()
            for user in people:
                if user.state.chosen is None and (found := await user.offers()):
                    await user.accept(found[0], found[0].offer.slots[0][0])
        assert [await user.check() for user in people] == [Standing.BOOKED] * 2


async def test_an_old_letter_does_not_leave_a_device_that_has_not_read_its_journal(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        practice = disk.device(view)
        user = await asked(surgery, view, "First")
        put = practice.letters.put

        async def away(*_: object) -> list[str]:
            raise UnreachableError("the mailbox's nodes are away")

        practice.letters.put = away  # type: ignore[method-assign, assignment]
        await offer_next(surgery, practice)
        practice.letters.put = put  # type: ignore[method-assign]
        await practice.journal.flush()
        backup = deepcopy(disk)
        await Appointments(practice).withdraw([slot(1).name], "")
        again = backup.device(view)
        assert again.state.letters
        assert not again.state.journal.pending
        cut_off(again, set(surgery.federation.nodes))
        await again.ready()
        await again.deliver()
        assert again.state.letters, "the offer was withdrawn since"
        assert await user.offers() == []
