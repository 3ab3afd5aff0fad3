"""Appointments and offers that end: by either side, too late, or while the other side decides."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from peewit_clients.appointments import Appointments
from peewit_clients.backend import UnreachableError
from peewit_clients.office import Office
from peewit_clients.place import with_work
from peewit_clients.serve import Server, ServeSettings
from peewit_clients.user_state import Standing
from peewit_federation.appointment.notes import CANCEL
from peewit_federation.appointment.queue_api import encode_claim
from peewit_federation.appointment.request import OPENINGS, claim_link
from peewit_federation.appointment.spoken import CLAIM_PATH, SAID, VERSION, Shown
from peewit_federation.errors import RefusedError
from peewit_federation.keys import SigningKey
from tests.clients.surgery import QUEUE_NODES, Surgery, booked, offered, put_on_offer, slot
from tests.federation_kit import seed
from tests.node.test_mailboxes import Caller

SOON_S = 3600


async def test_a_slot_that_is_given_back_is_free_for_the_next_in_line(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user, acts = await booked(surgery, view, practice), Appointments(practice)
        assert practice.state.free(time.time()) == []
        await user.cancel("I am well again")
        ((_, note),) = await acts.read()
        assert (note.what, note.text) == (CANCEL, "I am well again")
        assert practice.state.free(time.time()) == [slot(1)]
        assert await user.check() is Standing.CANCELLED
        other = surgery.user(view, "Next in line")
        await other.ask(with_work)
        await offered(surgery, other, practice, 1)


async def test_whom_a_practice_cancels_keeps_the_place_and_is_booked_elsewhere(surgery: Surgery) -> None:
    """So often a place may be opened again; what the first practice was shown counts no more."""
    async with surgery.view() as view:
        practice, other = surgery.practice(view), surgery.practice(view, "clinic-b")
        user = await booked(surgery, view, practice)
        place = user.state.request and user.state.request.ticket
        (first,) = practice.state.booked.values()
        await Appointments(practice).cancel([first], "the doctor is ill")
        assert slot(1).name not in practice.state.calendar
        assert await user.check() is Standing.CANCELLED
        for number in range(2, OPENINGS + 1):
            await user.reopen()
            await offered(surgery, user, other, number)
            assert user.state.request is not None
            assert user.state.request.ticket == place
            booking = other.state.booked[slot(number).name]
            assert not await practice.queues.claim(first.offered.request, first.offered.place, first.accept.claim)
            await Appointments(other).cancel([booking], "")
            assert await user.check() is Standing.CANCELLED
        with pytest.raises(RefusedError, match="opened again 5 times"):
            await user.reopen()


async def test_who_cancels_before_the_practice_looked_accepts_what_it_offers_next(surgery: Surgery) -> None:
    """Also an offer that was made before the request was opened again: its later secret is good for it."""
    async with surgery.view() as view:
        practice, user = surgery.practice(view), surgery.user(view)
        await user.ask(with_work)
        (drawn,) = await practice.draw(surgery.place, 1)
        practice.state.calendar |= {slot(number).name: slot(number) for number in (1, 2)}
        await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + SOON_S)
        await user.accept((await user.offers())[0], slot(1).name)
        assert await user.cancel("not then")
        assert await practice.confirm() == []
        (drawn,) = await practice.draw(surgery.place, 1)
        await practice.offer(surgery.place, drawn, [slot(2)], int(time.time()) + SOON_S)
        await user.reopen()
        await user.accept((await user.offers())[0], slot(2).name)
        (booking,) = await practice.confirm()
        assert await user.check() is Standing.BOOKED
        assert booking.offered.request.opened == 1
        assert await Appointments(practice).recheck() == []
        assert await practice.draw(surgery.place, 1) == []


async def test_who_cancelled_before_the_practice_looked_loses_no_opening(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice, user = surgery.practice(view), surgery.user(view)
        await user.ask(with_work)
        await put_on_offer(surgery, practice, 1)
        await user.accept((await user.offers())[0], slot(1).name)
        await user.cancel("")
        assert await practice.confirm() == []
        assert await user.check() is Standing.DECLINED, "the practice has seen it, and claimed nothing"
        await user.reopen()
        assert user.state.request is not None
        assert user.state.request.opened == 0


async def test_a_practice_learns_that_a_booking_was_opened_again_and_frees_the_slot(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user, acts = await booked(surgery, view, practice), Appointments(practice)
        assert await acts.recheck() == []
        with pytest.raises(RefusedError, match="cancel it first"):
            await user.reopen()
        assert user.state.chosen is not None
        user.state.chosen.state = Standing.CANCELLED  # as if its cancellation never arrived
        await user.reopen()
        (ended,) = await acts.recheck()
        assert ended.slot == slot(1)
        assert practice.state.free(time.time()) == [slot(1)]


async def test_a_booking_that_was_opened_again_is_open_at_every_node_of_its_queue(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user = await booked(surgery, view, practice)
        await Appointments(practice).cancel(list(practice.state.booked.values()), "")
        assert await user.check() is Standing.CANCELLED
        await surgery.federation.stop(QUEUE_NODES[0])
        await user.reopen()
        await offered(surgery, user, surgery.practice(view, "clinic-b"), 2)


async def test_an_offer_that_was_withdrawn_gets_no_name(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user, practice = surgery.user(view), surgery.practice(view)
        await user.ask(with_work)
        await put_on_offer(surgery, practice, 1)
        (found,) = await user.offers()
        await Appointments(practice).withdraw([slot(1).name], "the fridge is broken")
        with pytest.raises(RefusedError, match="the fridge is broken"):
            await user.accept(found, slot(1).name)
        assert user.state.chosen is None, "no name left the device"
        assert not practice.state.offered


async def test_who_withdraws_is_drawn_by_nobody_and_comes_back_in_the_old_place(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user, practice = surgery.user(view), surgery.practice(view)
        await user.ask(with_work)
        await user.withdraw()
        assert await practice.draw(surgery.place, 1) == []
        await user.reopen()
        await offered(surgery, user, practice, 1)
        with pytest.raises(RefusedError, match="cancel it first"):
            await user.withdraw()
        await user.cancel()
        await user.withdraw()
        await user.reopen()
        await offered(surgery, user, surgery.practice(view, "clinic-b"), 2)


async def test_offers_that_end_before_the_notice_keep_their_slots(surgery: Surgery) -> None:
    """A slot that is promised for an hour is not free because nobody is offered what begins within two."""
    async with surgery.view() as view:
        practice = surgery.practice(view)
        practice.state.calendar = {slot(1).name: slot(1)}
        practice.state.places = [surgery.place]
        for name in ("one", "two"):
            await surgery.user(view, name).ask(with_work)
        server = Server(practice, Office(view, practice.state, os.urandom), ServeSettings(1, SOON_S, 2 * SOON_S))
        await practice.draw(surgery.place, 2)
        await Office(view, practice.state, os.urandom).open()
        turns = [await server.turn() for _ in range(2)]
        assert [turn.offers for turn in turns] == [1, 0]
        assert not practice.complaints


async def test_who_accepts_as_the_practice_takes_the_time_back_is_told_and_free_to_choose_another(
    surgery: Surgery,
) -> None:
    async with surgery.view() as view:
        user, practice = surgery.user(view), surgery.practice(view)
        await user.ask(with_work)
        practice.state.calendar = {slot(1).name: slot(1)}
        (drawn,) = await practice.draw(surgery.place, 1)
        await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + SOON_S)
        (found,) = await user.offers()
        await user.accept(found, slot(1).name)
        await Appointments(practice).withdraw([slot(1).name], "the doctor is ill")
        assert await practice.confirm() == []
        assert await user.check() is Standing.DECLINED
        assert user.state.request is not None
        kept = await user.letters.read(user.state.mail_key, user.state.request.mailbox_nodes)
        await user.tidy()
        left = await user.letters.read(user.state.mail_key, user.state.request.mailbox_nodes)
        assert (len(kept), len(left)) == (1, 0), "the practice's word is kept until a recovery copy has it"
        chosen = user.state.chosen
        assert chosen is not None
        assert [text for _, _, text in chosen.words] == ["the doctor is ill"]
        await offered(surgery, user, surgery.practice(view, "clinic-b"), 2)
        assert user.state.request is not None
        assert user.state.request.opened == 0, "at no cost"


async def test_whose_answer_could_not_be_read_is_offered_a_time_again_once_the_request_was_opened_again(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The practice keeps the offer for a week, for the accept may still be found; it is worth nothing any more."""
    async with surgery.view() as view:
        user, practice = surgery.user(view), surgery.practice(view)
        await user.ask(with_work)
        (drawn,) = await practice.draw(surgery.place, 1)
        await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + SOON_S)
        (found,) = await user.offers()
        await user.accept(found, slot(1).name)

        async def unreadable(*_: object) -> list[bytes]:
            raise UnreachableError("no node of the mailbox answered")

        with monkeypatch.context() as patch:
            patch.setattr(practice.letters, "read", unreadable)
            late = time.time() + 2 * SOON_S
            patch.setattr(view, "clock", lambda: late)
            assert await practice.confirm() == []
            assert await practice.draw(surgery.place, 1) == []
            await user.reopen()
            patch.setattr(practice.drawing._letters, "clock", time.time)
            assert [one.request.opened for one in await practice.draw(surgery.place, 1)] == [1]


async def test_one_lying_node_neither_ends_a_booking_nor_turns_anybody_away(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user, acts = await booked(surgery, view, practice), Appointments(practice)
        liar = surgery.federation.nodes[QUEUE_NODES[1]]

        shown: list[Shown] = []

        async def refuse(*_: object) -> Shown:
            return shown[-1]

        monkeypatch.setattr(liar.queues, "claim", refuse)
        request = user.state.request
        assert request is not None
        envelope = Caller(surgery.federation).signed
        secret = claim_link(user.state.claim, 0)
        claimed = encode_claim(surgery.place, request.name, secret)
        guessed = encode_claim(surgery.place, request.name, seed("guess"))
        stranger, another = SigningKey(seed("stranger")), SigningKey(seed("clinic-b"))
        lies: list[Shown] = [
            (SAID, b"no envelope"),
            (SAID, envelope(stranger, CLAIM_PATH, claimed)),
            (SAID, envelope(another, CLAIM_PATH, guessed)),
            (VERSION, request.sign(user.state.key)),
            (VERSION, replace(request, opened=1).sign(stranger)),
        ]
        for lie in lies:
            shown.append(lie)
            assert await acts.recheck() == [], "the other node of the queue knows better"
            assert any("a claim" in said for said in view.complaints["west"])
            view.pool.complaints.clear()
        other = surgery.user(view, "Next")
        await other.ask(with_work)
        (drawn,) = await practice.draw(surgery.place, 1)
        await practice.offer(surgery.place, drawn, [slot(5)], int(time.time()) + SOON_S)
        (found,) = await other.offers()
        await other.accept(found, slot(5).name)
        assert len(await practice.confirm()) == 1
        assert await other.check() is Standing.BOOKED
        assert other.state.request is not None
        assert other.state.request.opened == 0, "nor costs a reopening"


async def test_whoever_fits_is_served_though_others_come_first(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People whom no free time suits, and requests that nobody can answer, hold nobody up."""
    async with surgery.view() as view:
        for number in range(6):
            picky = surgery.user(view, f"Picky {number}", "over80")
            picky.state.services = ("measles",)
            await picky.ask(with_work)
        broken = surgery.user(view, "Broken", "over80")
        with monkeypatch.context() as patch:
            patch.setattr("peewit_clients.asking.xwing_public", lambda _: b"\xff" * 1216)
            await broken.ask(with_work)
        last = surgery.user(view, "Last")
        await last.ask(with_work)
        practice = surgery.practice(view)
        practice.state.calendar = {slot(1).name: slot(1)}
        practice.state.places = [surgery.place]
        office = Office(view, practice.state, os.urandom)
        await office.open()
        server = Server(practice, office, ServeSettings(1, SOON_S))
        turns = [await server.turn() for _ in range(2)]
        assert sum(turn.offers for turn in turns) == 1
        assert len(await last.offers()) == 1
