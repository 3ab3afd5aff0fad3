"""What lies in mailboxes and in stores: bounded, kept until it can be judged, and gone in the end."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from peewit_clients.appointments import Appointments
from peewit_clients.backend import Backend, BackendError
from peewit_clients.conversation import PASSPORTS_EACH
from peewit_clients.letters import Letters
from peewit_clients.offers import Offers
from peewit_clients.place import with_work
from peewit_clients.practice import GRACE_S, SILENT_S
from peewit_clients.walk_in import Wallet, WalletState, read_walk_in
from peewit_federation import cbor
from peewit_federation.draw.hashes import Person
from peewit_federation.errors import RefusedError
from peewit_federation.keys import SigningKey, key_id
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


async def test_what_a_node_makes_up_does_not_take_a_walk_in_request_back(surgery: Surgery) -> None:
    async with surgery.view() as view:
        state = WalletState.new(Person("Muster", "Erika", date(1940, 8, 12)), os.urandom)
        letters = Letters(view.pool, time.time, os.urandom)
        wallet = Wallet(letters, state, lambda _: None)
        await wallet.ask()
        clinic = surgery.practice(view).state.key
        await letters.put(key_id(SigningKey(state.mail_seed).public), state.boxes, clinic, b"", b"made up")
        assert await wallet.fetch() == []
        assert (await read_walk_in(letters, state.secret)).person == state.person


@pytest.mark.parametrize("returns", [True, False])
async def test_an_accept_that_lies_at_a_silent_node_alone_is_found_when_the_node_is_back(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch, *, returns: bool
) -> None:
    ahead = [0.0]
    for node in surgery.federation.nodes.values():
        node.state.clock = lambda: time.time() + ahead[0]
    async with surgery.view() as view:
        now = view.clock
        view.clock = lambda: now() + ahead[0]
        user, practice = surgery.user(view), surgery.practice(view)
        await user.ask(with_work)
        await put_on_offer(surgery, practice, 1)
        (offered,) = practice.state.offered.values()
        names = {o.origin_hash: o.name for o in view.charter.operators}
        alone = names[offered.boxes[0]]
        (found,) = await user.offers()
        real = user.letters.nodes

        def nodes(origins: Sequence[bytes]) -> list[Backend]:
            return [b for b in real(origins) if b.name == alone or tuple(origins) != offered.boxes]

        monkeypatch.setattr(user.letters, "nodes", nodes)
        await user.accept(found, slot(1).name)
        mine, deaf = practice.letters.call, True

        async def call(backend: Backend, *rest: Any) -> bytes:
            if deaf and backend.name == alone:
                raise BackendError("no answer")
            return await mine(backend, *rest)

        monkeypatch.setattr(practice.letters, "call", call)
        ahead[0] = SOON_S + GRACE_S + 1
        assert await practice.confirm() == []
        assert list(practice.state.offered) == [found.offer.request]
        if returns:
            deaf = False
            (booking,) = await practice.confirm()
            assert booking.request == found.offer.request
        else:
            ahead[0] += SILENT_S
            assert await practice.confirm() == []
            assert not practice.state.offered, "nor is anybody held for ever"
