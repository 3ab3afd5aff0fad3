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
from peewit_clients.office import Office, letter_nodes
from peewit_clients.place import with_work
from peewit_clients.pool import BackendError, UnreachableError
from peewit_clients.practice import Practice
from peewit_clients.practice_state import SLOT, Item, PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_clients.serve import Server, ServeSettings
from peewit_clients.user import User
from peewit_clients.user_state import Standing
from peewit_federation import cbor
from peewit_federation.appointment.journal import Header, decode_page, encode_page, encode_read
from peewit_federation.appointment.mailbox import give_leave
from peewit_federation.errors import RefusedError, UnknownError
from peewit_federation.keys import key_id
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


async def booked(surgery: Surgery, view: RegistryView, practice: Practice) -> User:
    """Somebody whom the practice has confirmed the first free slot."""
    user = await asked(surgery, view, "First")
    await offer_next(surgery, practice)
    await accept(user)
    await practice.confirm()
    return user


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
        practice.state.calendar |= {slot(number).name: slot(number) for number in (2, 3)}
        practice.keep((SLOT, slot(2).name), (SLOT, slot(3).name))
        backup = deepcopy(disk)
        await practice.journal.flush()
        await Appointments(practice).withdraw([slot(2).name], "")
        again = backup.device(view)
        again.state.calendar[slot(4).name] = slot(4)
        again.keep((SLOT, slot(4).name))
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


def cut_off(practice: Practice, gone: set[str]) -> None:
    """Have a device not reach some nodes, as long as they are in `gone`."""
    real = practice.journal.nodes.call

    async def call(backend, what, body):  # type: ignore[no-untyped-def]
        if backend.name in gone:
            raise BackendError("cut off")
        return await real(backend, what, body)

    practice.journal.nodes.call = call  # type: ignore[method-assign]


def keepers_of(surgery: Surgery, practice: Practice) -> list[str]:
    names = {node.state.operator.origin_hash: name for name, node in surgery.federation.nodes.items()}
    return [names[origin] for origin in practice.state.journal.origins]


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
