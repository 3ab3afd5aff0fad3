"""Words that are not heard, not taken, or heard too late, and devices that were put back."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import pytest

from peewit_clients.appointments import Appointments
from peewit_clients.backend import UnreachableError
from peewit_clients.offers import Found
from peewit_clients.place import with_work
from peewit_clients.recovery import Recovery
from peewit_clients.user import User
from peewit_clients.user_state import Standing, UserState
from peewit_federation.appointment.notes import CANCEL
from peewit_federation.errors import MalformedError, RefusedError
from peewit_federation.keys import SigningKey, key_id
from peewit_node.engine import Write
from tests.clients.surgery import QUEUE_NODES, Surgery, accepted, booked, slot

DAY_S = 86_400


async def test_nodes_that_lost_a_mailbox_open_it_again_and_letters_come(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user = await booked(surgery, view, practice)
        (booking,) = practice.state.booked.values()
        for node in surgery.federation.nodes.values():
            await node.mailboxes.expire(time.time() + 500 * DAY_S)
        chosen = user.state.chosen
        assert chosen is not None
        mine = key_id(SigningKey(chosen.mail_seed).public)
        with pytest.raises(UnreachableError):
            await practice.letters.put(mine, chosen.boxes, practice.state.key, booking.accept.leave, b"lost")
        assert await user.check() is Standing.BOOKED
        await Appointments(practice).cancel([booking], "the doctor is ill")
        assert await user.check() is Standing.CANCELLED


async def test_an_appointment_that_was_moved_far_ahead_can_still_be_cancelled_on_both_sides(surgery: Surgery) -> None:
    """Mailboxes and leaves end some days after the time that was offered."""
    now = [time.time()]
    async with surgery.view() as view:
        view.clock = lambda: now[0]
        practice = surgery.practice(view)
        user = await booked(surgery, view, practice)
        acts, (booking,) = Appointments(practice), practice.state.booked.values()
        late = replace(slot(2), begins_s=slot(1).begins_s + 200 * DAY_S)
        practice.state.calendar[late.name] = late
        assert user.state.chosen is not None
        before = user.state.chosen.ends_s
        await acts.move([(booking, late)], "")
        assert await acts.read() == []
        assert booking.offered.ends_s > late.begins_s
        await user.check()
        chosen = user.state.chosen
        assert chosen is not None
        assert chosen.begins_s == late.begins_s
        await user.check()  # knows of the time now, and sees to its own mailbox
        assert chosen.ends_s > late.begins_s > before
        assert await acts.read() == []
        again = User(view, UserState.decode(user.state.encode()), os.urandom, lambda _: None)
        assert (chosen.leave, booking.accept.leave) != (b"", b"")
        await again.cancel("I am well again")
        assert [note.what for _, note in await acts.read()] == [CANCEL]
        rows = [
            (until,)
            for node in surgery.federation.nodes.values()
            for (until,) in await node.engine.fetch("SELECT until FROM mailboxes WHERE until > ?", late.begins_s)
        ]
        assert len(rows) >= 4, "two for each side"


async def test_a_device_put_back_from_before_the_confirmation_is_told_again(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice, user = surgery.practice(view), surgery.user(view)
        await user.ask(with_work)
        (drawn,) = await practice.draw(surgery.place, 1)
        practice.state.calendar |= {slot(number).name: slot(number) for number in (1, 2)}
        await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + 3600)
        (found,) = await user.offers()
        await user.accept(found, slot(1).name)
        copy = UserState.decode(user.state.encode())
        acts, (booking,) = Appointments(practice), await practice.confirm()
        await acts.move([(booking, slot(2))], "")
        assert await user.check() is Standing.BOOKED
        await user.tidy()
        old = User(view, copy, os.urandom, lambda _: None)
        assert await old.check() is Standing.SENT, "what the other device read is nowhere any more"
        await old.again()
        assert await acts.read() == []
        assert await old.check() is Standing.BOOKED
        assert copy.chosen is not None
        assert copy.chosen.begins_s == slot(2).begins_s
        assert practice.complaints == []


async def test_what_was_read_is_deleted_only_when_it_is_safe(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user = await booked(surgery, view, practice)
        chosen = user.state.chosen
        assert chosen is not None
        assert len(await user.letters.read(SigningKey(chosen.mail_seed), chosen.boxes)) == 1
        await user.tidy()
        assert await user.letters.read(SigningKey(chosen.mail_seed), chosen.boxes) == []


async def test_a_word_that_nobody_took_was_not_said(surgery: Surgery, monkeypatch: pytest.MonkeyPatch) -> None:
    async with surgery.view() as view:
        user = await booked(surgery, view, surgery.practice(view))
        chosen = user.state.chosen
        assert chosen is not None
        for text in ("x" * 1001, "a bell \a"):
            with pytest.raises(MalformedError, match="at most 1000 letters"):
                await user.note(text)

        async def nobody(*_: object) -> None:
            raise UnreachableError("no node took the message")

        monkeypatch.setattr(user.letters.__class__, "put", nobody)
        with pytest.raises(UnreachableError):
            await user.note("I use a wheelchair")
        assert chosen.words == []


async def test_two_weeks_of_unread_words_do_not_keep_a_cancelled_appointment_from_its_holder(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user = await booked(surgery, view, practice)
        acts, (booking,) = Appointments(practice), practice.state.booked.values()
        for number in range(5):
            await acts.note(booking, f"word {number}")
        await acts.cancel([booking], "the doctor is ill")
        assert practice.state.unsent == 0
        assert await user.check() is Standing.CANCELLED


async def test_who_cancelled_before_the_practice_decided_is_not_booked(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice, user = surgery.practice(view), surgery.user(view)
        await accepted(surgery, user, practice)
        assert await practice.confirm(lambda _: None) == []
        await user.cancel("I am well again")
        assert await practice.confirm() == []
        assert (practice.state.booked, practice.complaints) == ({}, [])


async def test_an_offer_that_reached_nobody_counts_as_no_offer(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        practice, user = surgery.practice(view), surgery.user(view)
        await user.ask(with_work)
        (drawn,) = await practice.draw(surgery.place, 1)
        practice.state.calendar[slot(1).name] = slot(1)

        async def nobody(*_: object) -> None:
            raise UnreachableError("no node took the message")

        with monkeypatch.context() as patch:
            patch.setattr(practice.letters.__class__, "put", nobody)
            await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + 3600)
        rows = await surgery.federation.nodes[QUEUE_NODES[0]].engine.fetch("SELECT offers, misses FROM requests")
        assert rows == [(0, 0)]
        await practice.confirm()
        rows = await surgery.federation.nodes[QUEUE_NODES[0]].engine.fetch("SELECT offers, misses FROM requests")
        assert rows == [(1, 1)]


async def test_who_withdraws_after_a_practice_was_silent_is_not_booked_when_it_comes_back(surgery: Surgery) -> None:
    now = [time.time()]
    async with surgery.view() as view:
        view.clock = lambda: now[0]
        practice, user = surgery.practice(view), surgery.user(view)
        await accepted(surgery, user, practice)
        now[0] += 3700
        await user.withdraw()
        now[0] -= 3700
        assert await practice.confirm() == []
        assert (practice.state.booked, user.state.withdrawn) == ({}, True)
        request = user.state.request
        assert request is not None
        assert request.opened == 1, "what was accepted ends nothing any more"
        await user.withdraw()
        await user.reopen()
        request = user.state.request
        assert request is not None
        assert (request.opened, user.state.chosen) == (1, None), "saying it again uses nothing up"


async def test_nodes_that_do_not_have_a_request_yet_are_no_reason_to_decline(surgery: Surgery) -> None:
    """They were named for its area just now, and the others have not told them."""
    async with surgery.view() as view:
        practice, user = surgery.practice(view), surgery.user(view)
        await accepted(surgery, user, practice)
        for node in surgery.federation.nodes.values():
            await node.engine.write(Write("DELETE FROM requests", ()))
        assert await practice.confirm() == []
        assert "do not have it (yet)" in practice.complaints[-1]
        await user.states()  # brings it again
        practice.complaints.clear()
        assert len(await practice.confirm()) == 1


async def test_a_node_that_shows_an_accept_for_ever_does_not_have_it_confirmed_for_ever(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.time()]
    async with surgery.view() as view:
        view.clock = lambda: now[0]
        practice = surgery.practice(view)
        user = await booked(surgery, view, practice)
        practice.letters.clock = time.time  # nodes live on
        acts, (booking,), chosen = Appointments(practice), practice.state.booked.values(), user.state.chosen
        assert chosen is not None
        real = practice.letters.read

        async def shown(key: SigningKey, *rest: Any) -> list[bytes]:
            return [chosen.message] if key.seed == booking.offered.mail_seed else await real(key, *rest)

        monkeypatch.setattr(practice.letters, "read", shown)
        for _ in range(20):
            await acts.read()
        assert booking.confirmed == 1, "once now, and then more and more seldom"
        for hours in (1, 2, 3, 4):
            now[0] += 3600 * hours
            await acts.read()
        assert booking.confirmed == 3


async def test_a_move_that_comes_after_a_later_word_counts(surgery: Surgery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters of one practice may lie at two nodes, of which one was away."""
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user = await booked(surgery, view, practice)
        acts, (booking,) = Appointments(practice), practice.state.booked.values()
        practice.state.calendar[slot(2).name] = slot(2)
        await acts.move([(booking, slot(2))], "")
        await acts.note(booking, "bring your papers")
        real = user.letters.read

        async def last_only(*arguments: Any) -> list[bytes]:
            return (await real(*arguments))[-1:]

        with monkeypatch.context() as patch:
            patch.setattr(user.letters, "read", last_only)
            await user.check()
        chosen = user.state.chosen
        assert chosen is not None
        assert (chosen.begins_s, [text for *_, text in chosen.words]) == (slot(1).begins_s, ["bring your papers"])
        await user.check()
        assert chosen.begins_s == slot(2).begins_s


async def test_what_was_offered_before_an_appointment_was_cancelled_is_not_accepted_again(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user = await booked(surgery, view, practice)
        chosen = user.state.chosen
        assert chosen is not None
        found = Found(chosen.offer, chosen.practice, chosen.data)
        assert await user.offers() == [], "it is booked"
        await Appointments(practice).cancel(list(practice.state.booked.values()), "the doctor is ill")
        assert await user.check() is Standing.CANCELLED
        with pytest.raises(RefusedError, match="peewit user again"):
            await user.accept(found, chosen.slot)


async def test_a_device_hears_that_another_has_gone_on_when_it_looks(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user = await booked(surgery, view, surgery.practice(view))
        recovery = Recovery(user.letters, user.state.recovery)
        at = await recovery.save(1, user.state.copies())
        assert not await recovery.overtaken(1, at)
        await recovery.save(2, user.state.copies(), at)
        assert await recovery.overtaken(1, at)
        assert not await recovery.overtaken(1, ())


async def test_who_withdraws_without_having_read_the_confirmation_is_told_that_there_is_an_appointment(
    surgery: Surgery,
) -> None:
    now = [time.time()]
    async with surgery.view() as view:
        view.clock = lambda: now[0]
        practice, user = surgery.practice(view), surgery.user(view)
        user.letters.clock = practice.letters.clock = time.time
        await accepted(surgery, user, practice)
        assert len(await practice.confirm()) == 1
        now[0] += 3700
        with pytest.raises(RefusedError, match="stands"):
            await user.withdraw()
        assert user.state.chosen is not None
        assert (user.state.chosen.state, user.state.withdrawn) == (Standing.BOOKED, False)
