"""What is written to a practice's journal: whole or not at all, within bounds, also where nodes lie, lag or come back."""

from __future__ import annotations

import os
import time
from copy import deepcopy

import pytest

from peewit_clients.appointments import Appointments
from peewit_clients.backend import BackendError
from peewit_clients.journal import BehindError, Journal
from peewit_clients.letters import Letters
from peewit_clients.office import Office, letter_nodes
from peewit_clients.practice_state import SLOT, PracticeState
from peewit_federation import cbor
from peewit_federation.appointment.journal import Header, decode_page, encode_page, encode_read
from peewit_federation.appointment.mailbox import give_leave
from peewit_federation.keys import key_id
from tests.clients.journal_kit import accept, asked, booked, cut_off, disk_of, keepers_of, offer_next
from tests.clients.surgery import Surgery, slot


async def test_a_step_that_does_not_fit_into_one_request_counts_whole_or_not_at_all(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, *range(1, 9))
        practice = disk.device(view)
        users = [await asked(surgery, view, name) for name in ("One", "Two", "Three")]
        for _ in users:
            await offer_next(surgery, practice)
        for user in users:
            await accept(user)
        await practice.confirm()
        bookings = sorted(practice.state.booked.values(), key=lambda one: one.slot.begins_s)
        free = sorted(practice.state.free(time.time()), key=lambda one: one.begins_s)
        extra = [slot(number) for number in range(100, 400)]
        practice.state.calendar |= {one.name: one for one in extra}
        practice.keep(*((SLOT, one.name) for one in extra))
        real, writes = practice.journal.nodes.call, []

        async def call(backend, what, body):  # type: ignore[no-untyped-def]
            writes.append(what)
            if writes.count("write") > 5:
                raise BackendError("the machine dies")
            return await real(backend, what, body)

        practice.journal.nodes.call = call  # type: ignore[method-assign]
        await Appointments(practice).move(list(zip(bookings, free, strict=False)), "moved")
        assert writes.count("write") > 3, "it took several parts"
        empty = PracticeState(b"", practice.state.key_seed, practice.state.encryption_seed)
        await Journal(Letters(view.pool, time.time, os.urandom), empty, os.urandom, lambda _: None).restore()
        assert len(empty.booked) == 3
        assert len(empty.calendar) == 8, "nothing of what was told to nobody"
        assert {booking.slot.name for booking in empty.booked.values()} == {slot(number).name for number in (1, 2, 3)}


async def test_a_node_is_brought_up_to_date_with_what_counts_and_not_with_what_was_begun(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1, 2)
        practice = disk.device(view)
        await practice.journal.flush()
        a, b, c = keepers_of(surgery, practice)
        gone = {b}
        cut_off(practice, gone)
        practice.keep((SLOT, slot(1).name))
        await practice.journal.flush()
        gone |= {a, c}
        gone.remove(b)
        del practice.state.calendar[slot(1).name]
        practice.keep((SLOT, slot(1).name))
        await practice.deliver()
        await practice.mend()  # only the node that was left behind is reached
        nodes = surgery.federation.nodes
        count = "SELECT number, (SELECT count(*) FROM journal_rows) FROM journals"
        found = [await nodes[name].engine.fetch(count) for name in (a, b, c)]
        assert found[0] == found[2] != found[1]
        gone.clear()
        await practice.deliver()
        await practice.mend()
        found = [await nodes[name].engine.fetch(count) for name in (a, b, c)]
        assert found[0] == found[1] == found[2]


async def test_who_asks_one_node_only_does_not_make_a_journal_there(surgery: Surgery) -> None:
    async with surgery.view("north") as one, surgery.view() as view:
        practice = disk_of(surgery, one, 1).device(one)
        await practice.deliver()
        assert any("only 1 of 4 nodes answer" in line for line in practice.complaints)
        disk = disk_of(surgery, view, 1)
        await disk.device(view).journal.flush()
        late = disk.device(one)
        late.keep((SLOT, slot(1).name))
        await late.deliver()
        assert any("not only --node" in line for line in late.complaints)


async def test_a_holder_with_much_to_say_does_not_stop_the_practice(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        practice, user = disk.device(view), await asked(surgery, view, "First")
        await offer_next(surgery, practice)
        await accept(user)
        await practice.confirm()
        await user.check()
        (booking,) = practice.state.booked.values()
        for _ in range(20):
            Appointments(practice)._heard(booking, "\U0001f489" * 1000, theirs=True)
        practice.keep((3, booking.slot.name))
        practice.complaints.clear()
        assert await practice.deliver() == 0
        assert not practice.complaints


async def test_what_is_deleted_makes_room_in_a_journal_that_is_full(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = disk_of(surgery, view, *range(20)).device(view)
        await practice.journal.flush()
        for node in surgery.federation.nodes.values():
            node.state.config.limits.journal_bytes = 12_000
        practice.state.calendar |= {slot(number).name: slot(number) for number in range(20, 60)}
        practice.keep(*((SLOT, name) for name in practice.state.calendar))
        await practice.deliver()
        assert any("at most 12000 bytes" in line for line in practice.complaints)
        practice.complaints.clear()
        gone = [slot(number).name for number in range(5, 60)]
        await Appointments(practice).withdraw(gone, "")
        assert not practice.complaints


async def test_one_node_that_lies_takes_nothing_from_a_device(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = disk_of(surgery, view, 1).device(view)
        await booked(surgery, view, practice)
        liar, real = keepers_of(surgery, practice)[0], practice.journal.nodes.call
        origins = practice.state.journal.origins
        high = Header(1 << 52, bytes(16), 1 << 52, 1 << 52, b"\1" * 32, (origins,), 0, bytes(16))
        for lie in (
            {"read": encode_page(high, ()), "claim": cbor.encode(high.value())}, {"claim": b"\xff"}, {"read": b""},
            {"read": encode_page(Header(), ()), "claim": cbor.encode(Header().value())},
        ):  # fmt: skip

            async def call(backend, what, body, lie=lie):  # type: ignore[no-untyped-def]
                answer = await real(backend, what, body)
                return lie.get(what, answer) if backend.name == liar else answer

            practice.journal.nodes.call = call  # type: ignore[method-assign]
            await practice.journal._recover()
            practice.keep((SLOT, slot(1).name))
            await practice.journal.flush()
            assert practice.state.booked
            assert practice.state.journal.term < 1 << 33


async def test_a_letter_of_the_mediator_stays_until_the_journal_holds_what_it_said(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = disk_of(surgery, view, 1).device(view)
        await practice.journal.flush()
        office = Office(view, practice.state, os.urandom, lambda _: None, practice.deal_with)
        await office.open()
        mine = practice.state
        message, origins = b"a letter", letter_nodes(view, mine.mediator, [surgery.place.area])
        leave = give_leave(mine.key, key_id(mine.key.public), int(time.time()) + 1000)
        await practice.letters.put(key_id(mine.key.public), origins, mine.key, leave, message)
        cut_off(practice, set(surgery.federation.nodes))
        await office.receive()
        await practice.deliver()
        assert await practice.letters.read(mine.key, origins) == [message]
        del practice.journal.nodes.call
        await practice.deliver()
        assert await practice.letters.read(mine.key, origins) == []


async def test_what_could_not_be_read_is_not_written_over(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        backup, practice = deepcopy(disk), disk.device(view)
        user = await booked(surgery, view, practice)
        again = backup.device(view)
        real = again.journal.nodes.call

        async def call(backend, what, body):  # type: ignore[no-untyped-def]
            if what == "read" and body != encode_read(b"", 0):
                raise BackendError("the connection breaks")
            return await real(backend, what, body)

        again.journal.nodes.call = call  # type: ignore[method-assign]
        for _ in range(3):
            again.keep((SLOT, slot(1).name))
            await again.deliver()
        assert any("cannot be read" in line for line in again.complaints)
        again.journal.nodes.call = real  # type: ignore[method-assign]
        with pytest.raises(BehindError):
            await again.deliver()
        assert [booking.person for booking in again.state.booked.values()] == [user.state.person]


async def test_a_term_in_which_nothing_was_written_yet_is_not_mended_in(surgery: Surgery) -> None:
    """Nodes would hold a number of the old term as one of the new one, which is none of ours."""
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        await disk.device(view).journal.flush()
        again = disk.device(view)
        real = again.journal.nodes.call

        async def call(backend, what, body):  # type: ignore[no-untyped-def]
            if what == "write":
                raise BackendError("too many requests", 429)
            return await real(backend, what, body)

        again.journal.nodes.call = call  # type: ignore[method-assign]
        await again.ready()
        again.journal.nodes.call = real  # type: ignore[method-assign]
        await again.mend()
        again.journal.nodes.call = call  # type: ignore[method-assign]
        assert await again.deliver() == 0
        assert any("refuse" in line for line in again.complaints), "nothing is settled in this term"
        again.journal.nodes.call = real  # type: ignore[method-assign]
        await again.deliver()
        await again.mend()
        third = disk.device(view)
        await third.journal.flush()
        assert third.state.journal.written == third.state.journal.term


async def test_a_node_that_answers_with_another_state_once_is_not_believed(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        backup, practice = deepcopy(disk), disk.device(view)
        user = await booked(surgery, view, practice)
        await practice.journal.flush()
        again = backup.device(view)
        real = again.journal.nodes.call

        async def call(backend, what, body):  # type: ignore[no-untyped-def]
            answer = await real(backend, what, body)
            if what == "read" and body != encode_read(b"", 0):
                return encode_page(decode_page(answer)[0], ())
            return answer

        again.journal.nodes.call = call  # type: ignore[method-assign]
        await again.ready()
        assert any("cannot be read" in line for line in again.complaints)
        again.journal.nodes.call = real  # type: ignore[method-assign]
        again.complaints.clear()
        await again.ready()
        assert any("it took over" in line for line in again.complaints)
        assert [booking.person for booking in again.state.booked.values()] == [user.state.person]


async def test_a_node_that_comes_back_while_another_goes_is_written_to(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        await disk.device(view).journal.flush()
        practice = disk.device(view)
        _, b, c = keepers_of(surgery, practice)
        gone = {c}
        cut_off(practice, gone)
        await practice.ready()
        practice.state.journal.whole = True
        gone.add(b)
        await practice.deliver()
        gone.remove(c)
        practice.complaints.clear()
        for _ in range(3):
            await practice.deliver()
        assert not practice.journal.waiting
