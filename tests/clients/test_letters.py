"""What lies in mailboxes and in stores: bounded, kept until it can be judged, and gone in the end."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from peewit_clients.appointments import Appointments
from peewit_clients.conversation import PASSPORTS_EACH
from peewit_clients.offers import Offers
from peewit_clients.place import with_work
from peewit_federation import cbor
from peewit_federation.errors import RefusedError
from peewit_federation.passports import base45, hc1
from peewit_federation.passports.messages import Delivery, delivery_context, sign_delivery
from peewit_federation.sealed import seal
from tests.clients.surgery import Surgery, booked, put_on_offer, slot
from tests.federation_kit import seed

SOON_S = 3600


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
