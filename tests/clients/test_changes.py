"""What happens to an appointment after it was made, between real clients over real nodes."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from peewit_clients.appointments import Appointments
from peewit_clients.backend import UnreachableError
from peewit_clients.conversation import PASSPORTS_EACH
from peewit_clients.drawer import Drawer
from peewit_clients.offers import Offers
from peewit_clients.office import Office
from peewit_clients.place import with_work
from peewit_clients.practice import Practice
from peewit_clients.practice_state import BOOKING, FACTS, PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_clients.serve import Server, ServeSettings
from peewit_clients.user import User
from peewit_clients.user_state import Standing, UserState
from peewit_federation import cbor
from peewit_federation.appointment.notes import CANCEL, WORDS
from peewit_federation.appointment.queue_api import encode_claim
from peewit_federation.appointment.request import OPENINGS, claim_link
from peewit_federation.appointment.spoken import CLAIM_PATH, SAID, VERSION, Shown
from peewit_federation.errors import OperatorError, RefusedError
from peewit_federation.keys import SigningKey
from peewit_federation.passports import base45, hc1
from peewit_federation.passports.messages import Delivery, delivery_context, sign_delivery
from peewit_federation.registry.subjects import Verdict
from peewit_federation.sealed import seal
from tests.clients.surgery import QUEUE_NODES, Surgery, slot
from tests.federation_kit import seed
from tests.node.test_mailboxes import Caller

SOON_S = 3600


@pytest.fixture
async def surgery(tmp_path: Path) -> AsyncIterator[Surgery]:
    found = await Surgery.open(tmp_path)
    yield found
    await found.federation.stop()


async def booked(surgery: Surgery, view: RegistryView, practice: Practice, number: int = 1, name: str = "E") -> User:
    user = surgery.user(view, name)
    await user.ask(with_work)
    await offered(surgery, user, practice, number)
    return user


async def put_on_offer(surgery: Surgery, practice: Practice, number: int, for_s: int = SOON_S) -> None:
    """Draw whoever is next, and offer one slot."""
    (drawn,) = await practice.draw(surgery.place, 1)
    practice.state.calendar[slot(number).name] = slot(number)
    await practice.offer(surgery.place, drawn, [slot(number)], int(time.time()) + for_s)


async def offered(surgery: Surgery, user: User, practice: Practice, number: int) -> None:
    """Draw, offer one slot, accept, confirm."""
    await put_on_offer(surgery, practice, number)
    found = [item for item in await user.offers() if item.offer.slots[0][0] == slot(number).name]
    await user.accept(found[0], slot(number).name)
    assert len(await practice.confirm()) == 1
    assert await user.check() is Standing.BOOKED


async def test_both_sides_say_something_and_it_is_read_once(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user, acts = await booked(surgery, view, practice), Appointments(practice)
        (booking,) = practice.state.booked.values()
        await acts.note(booking, "please bring your papers")
        await user.check()
        await user.check()
        assert user.state.chosen is not None
        assert [(theirs, text) for _, theirs, text in user.state.chosen.words] == [(True, "please bring your papers")]
        await user.note("I use a wheelchair")
        assert [(found.what, found.text) for _, found in await acts.read()] == [(WORDS, "I use a wheelchair")]
        assert await acts.read() == []
        assert [text for *_, text in booking.words] == ["please bring your papers", "I use a wheelchair"]


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


async def test_a_practice_that_has_no_mailbox_any_more_keeps_nobody_in_an_appointment(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user = await booked(surgery, view, practice)
        for node in surgery.federation.nodes.values():
            await node.mailboxes.expire(time.time() + 1e9)
        assert not await user.cancel("")
        await user.reopen()
        assert user.state.request is not None
        assert user.state.request.opened == 1


async def test_what_lies_too_far_ahead_is_neither_offered_nor_moved_to(surgery: Surgery) -> None:
    """Nobody could say for years that nobody comes."""
    year = 365 * 86_400
    async with surgery.view() as view:
        practice, user = surgery.practice(view), surgery.user(view)
        await user.ask(with_work)
        await put_on_offer(surgery, practice, 1, 2 * year)
        assert await user.offers() == []
        assert "error_offer_far" in str(user.dropped)
        practice.state.offered.clear()
        await offered(surgery, user, practice, 2)
        (booking,) = practice.state.booked.values()
        far = replace(slot(3), begins_s=int(time.time()) + 3 * year)
        practice.state.calendar[far.name] = far
        await Appointments(practice).move([(booking, far)], "")
        assert await user.check() is Standing.BOOKED
        assert user.state.chosen is not None
        assert user.state.chosen.begins_s == slot(2).begins_s


async def test_a_practice_delivers_no_more_passports_than_there_is_room_for_and_none_for_other_appointments(
    surgery: Surgery,
) -> None:
    """It would drive out what others have issued, or end recovery copies."""
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user = await booked(surgery, view, practice)
        (booking,) = practice.state.booked.values()
        paper = ("PW1:" + base45.encode(cbor.encode([b"x" * 10, [], b""]))).encode()
        earlier = Delivery(bytes(32), b"genuine passport", hc1.pack(b"the real one").encode(), paper, 4_000_000_000)
        user.state.passports.append(earlier.encode())
        assert user.state.request is not None
        context = delivery_context(booking.accept.mailbox, booking.accept.reply_key)
        for number in range(14):
            request = user.state.request.name if number % 2 else seed("another request")
            junk = replace(earlier, request=request, passport=seed("passport", number)[:16])
            message = seal(booking.accept.reply_key, sign_delivery(junk, practice.state.key), context)
            place = booking.accept.mailbox, booking.accept.mailbox_nodes, practice.state.key, booking.accept.leave
            await practice.letters.put(*place, message)
        await user.check()
        assert user.state.passports[0] == earlier.encode()
        assert len(user.state.passports) == 1 + PASSPORTS_EACH


async def test_who_looks_while_a_node_with_the_mailbox_is_silent_is_told_that_more_may_lie_there(
    surgery: Surgery,
) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        await user.ask(with_work)
        assert user.state.request is not None
        origin = user.state.request.mailbox_nodes[0]
        (name,) = (o.name for o in view.charter.operators if o.origin_hash == origin)
        assert (await user.offers(), user.dropped) == ([], [])
        await surgery.federation.stop(name)
        assert await user.offers() == []
        assert list(map(str, user.dropped)) == [f"what may lie at {name}, which does not answer now"]


async def test_a_word_that_ends_an_offer_is_kept_as_long_as_the_offer_cannot_be_judged(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be shown as good as soon as the registry is fresh again, and a name would go to nobody."""
    async with surgery.view() as view:
        practice, user = surgery.practice(view), surgery.user(view)
        await user.ask(with_work)
        await put_on_offer(surgery, practice, 1)
        await Appointments(practice).withdraw([slot(1).name], "ill")

        def too_old(*_: object) -> None:
            raise RefusedError("too old")

        with monkeypatch.context() as patched:
            patched.setattr(Offers, "require_acting", too_old)
            assert await user.offers() == []
        assert await user.offers() == []


async def test_words_on_offers_that_are_not_there_any_more_leave_a_mailbox(surgery: Surgery) -> None:
    """Two of them, and the practice could never write again."""
    async with surgery.view() as view:
        practice, user = surgery.practice(view), surgery.user(view)
        await user.ask(with_work)
        request = user.state.request
        assert request is not None
        for number in (1, 2, 3):
            await put_on_offer(surgery, practice, number)
            await Appointments(practice).withdraw([slot(number).name], "ill")
        assert await user.offers() == []
        assert await user.letters.read(user.state.mail_key, request.mailbox_nodes) == []


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


async def test_holders_are_moved_and_who_cannot_come_cancels(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user, acts = await booked(surgery, view, practice), Appointments(practice)
        (booking,) = practice.state.booked.values()
        practice.state.calendar[slot(7).name] = slot(7)
        before = booking.slot.begins_s
        await acts.move([(booking, slot(7))], "the morning is cancelled")
        assert await user.check() is Standing.BOOKED
        assert user.state.chosen is not None
        assert user.state.chosen.begins_s == slot(7).begins_s
        assert UserState.decode(user.state.encode()).chosen == user.state.chosen
        assert user.state.chosen.moved_from_s == before, "so that who wrote it down sees it"
        assert list(practice.state.calendar) == list(practice.state.booked) == [slot(7).name]
        with pytest.raises(RefusedError, match="promised or booked"):
            await acts.move([(booking, slot(7))], "")
        await user.cancel("too late for me")
        assert len(await acts.read()) == 1
        assert not practice.state.booked


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


async def test_a_holder_is_told_when_the_practice_is_suspended(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user = await booked(surgery, view, practice)
        assert user.practice_verdict() is Verdict.ACTIVE
        surgery.device.entries.append(surgery.grant("clinic-a", version=2, status=1).encode())
        assert (await surgery.device.publish(surgery.federation.url("north"), 3))[0] == 200
        await surgery.federation.agree()
        await view.refresh([surgery.mediator.id])
        assert user.practice_verdict() is Verdict.SUSPENDED
        await user.reopen()
        assert user.state.chosen is None, "whoever does not want to wait asks again in the old place"


async def test_x13_a_practice_whose_power_goes_at_any_step_goes_on_from_its_disk(
    surgery: Surgery, tmp_path: Path
) -> None:
    """One appointment on both sides, whichever request of the practice's device is the last."""

    class CutError(Exception):
        pass

    path = tmp_path / "clinic" / "drawer"
    async with surgery.view() as mine, surgery.view() as theirs:
        first = surgery.practice(theirs)
        first.state.calendar = {slot(number).name: slot(number) for number in range(3)}
        with Drawer.make(path, "open sesame") as drawer:
            drawer.write(first.state.changed((FACTS, b""), *((1, name) for name in first.state.calendar)))
        user = surgery.user(mine)
        await user.ask(with_work)
        for cut in range(1, 60):
            with Drawer(path, "open sesame") as drawer:
                state = PracticeState.load(drawer.read())
                assert state is not None
                practice = Practice(theirs, state, os.urandom, drawer.write)
                left, real = [cut], theirs.pool.post

                async def post(backend, path, body, left=left, real=real):  # type: ignore[no-untyped-def]
                    left[0] -= 1
                    if left[0] <= 0:
                        raise CutError
                    return await real(backend, path, body)

                theirs.pool.post = post  # type: ignore[method-assign]
                try:
                    await practice.confirm()
                    for drawn in await practice.draw(surgery.place, 1):
                        free = state.free(time.time())[:1]
                        await practice.offer(surgery.place, drawn, free, int(time.time()) + SOON_S)
                except CutError:
                    pass
                finally:
                    theirs.pool.post = real  # type: ignore[method-assign]
            if user.state.chosen is None:
                for found in (await user.offers())[:1]:
                    await user.accept(found, found.offer.slots[0][0])
            elif await user.check() is Standing.BOOKED:
                break
        assert user.state.chosen is not None
        assert user.state.chosen.state is Standing.BOOKED
        with Drawer(path, "open sesame") as drawer:
            kept = PracticeState.load(drawer.read())
        assert kept is not None
        (booking,) = kept.booked.values()
        assert (booking.slot.begins_s, booking.person) == (user.state.chosen.begins_s, user.state.person)
        stored = b"".join(file.read_bytes() for file in path.parent.iterdir())
        assert b"Muster" not in stored, "encrypted at rest"
        with Drawer(path, "open sesame") as drawer:
            drawer.write([(BOOKING, booking.slot.name, None)])
            assert all(kind != BOOKING for kind, *_ in drawer.read())
            with pytest.raises(OperatorError, match="in use by another command"):
                Drawer(path, "open sesame")


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


async def test_a_month_after_an_appointment_its_practice_has_forgotten_who_came(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        await booked(surgery, view, practice)
        acts, begins_s = Appointments(practice), slot(1).begins_s
        monkeypatch.setattr(view, "clock", lambda: begins_s + 29 * 86_400.0)
        assert await acts.forget() == 0
        monkeypatch.setattr(view, "clock", lambda: begins_s + 31 * 86_400.0)
        assert await acts.forget() == 1
        assert not practice.state.booked
        assert not practice.state.calendar


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


async def test_offers_that_are_over_make_room_in_the_mailbox(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user, practice = surgery.user(view), surgery.practice(view)
        request = await user.ask(with_work)
        (drawn,) = await practice.draw(surgery.place, 1)
        for number in range(4):
            practice.state.calendar[slot(number).name] = slot(number)
            await practice.offer(surgery.place, drawn, [slot(number)], int(time.time()) + SOON_S)
            assert len(await user.offers()) == 1, number
            await Appointments(practice).withdraw([slot(number).name], "no")
            assert await user.offers() == []
        assert not practice.state.letters, "every letter found room"
        assert request.mailbox_nodes


async def test_a_holder_who_never_stops_talking_fills_no_store(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user, acts = await booked(surgery, view, practice), Appointments(practice)
        (booking,) = practice.state.booked.values()
        booking.words += [(0, True, "x" * 1000)] * 100
        await user.note("and another thing")
        await acts.read()
        assert len(booking.words) == 17, "16 KiB of what was said"
        assert booking.words[-1][2] == "and another thing"
