"""Operators leave, or lose what they had, after an appointment was made: both sides still hear of each other."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from peewit_clients.appointments import Appointments
from peewit_clients.backend import UnreachableError
from peewit_clients.letters import Letters
from peewit_clients.pool import BackendPool
from peewit_clients.practice import Practice
from peewit_clients.registry_view import RegistryView
from peewit_clients.user import User
from peewit_clients.user_state import Chosen, Standing, UserState
from peewit_federation.appointment.notes import CANCEL
from peewit_federation.keys import SigningKey
from tests.clients.surgery import Surgery, booked


@asynccontextmanager
async def after_leaving(surgery: Surgery, origins: Sequence[bytes]) -> AsyncIterator[RegistryView]:
    """What a client sees whose charter does not have these operators any more."""
    charter = next(iter(surgery.federation.nodes.values())).state.charter
    stay = tuple(operator for operator in charter.operators if operator.origin_hash not in origins)
    async with BackendPool(replace(charter, operators=stay)) as pool:
        view = RegistryView(charter, pool)
        await view.refresh([surgery.mediator.id])
        yield view


def chosen_of(user: User) -> Chosen:
    assert user.state.chosen is not None
    return user.state.chosen


async def booked_at(
    surgery: Surgery, view: RegistryView, practice: Practice, theirs: int, monkeypatch: pytest.MonkeyPatch
) -> User:
    """A booking: its person's mailboxes are at the first two nodes, its practice's at two from number `theirs` on."""
    origins, real = [backend.operator.origin_hash for backend in view.pool.backends], Letters.open_mailbox

    async def there(letters: Letters, key: SigningKey, count: int, until_s: int, **rest: Any) -> tuple[bytes, ...]:
        first = theirs if letters is practice.letters else 0
        besides = [origin for origin in origins if origin not in origins[first : first + 2]]
        return await real(letters, key, count, until_s, **{**rest, "besides": besides})

    with monkeypatch.context() as patch:
        patch.setattr(Letters, "open_mailbox", there)
        user = await booked(surgery, view, practice)
    (booking,) = practice.state.booked.values()
    assert set(chosen_of(user).boxes) == set(origins[:2])
    assert set(booking.offered.boxes) == set(origins[theirs : theirs + 2])
    return user


async def test_a_holder_whose_letters_have_no_node_left_gets_others_and_hears_of_the_cancelled_appointment(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user = await booked_at(surgery, view, practice, 2, monkeypatch)
        gone = chosen_of(user).boxes
        async with after_leaving(surgery, gone[:1]) as later:  # one after the other: they may keep the journal as well
            practice = Practice(later, practice.state, os.urandom)
            await practice.ready()
        async with after_leaving(surgery, gone) as later:
            practice = Practice(later, practice.state, os.urandom)
            await practice.ready()
            acts = Appointments(practice)
            (booking,) = practice.state.booked.values()
            await acts.note(booking, "written when nobody kept letters")
            assert practice.state.unsent == 1
            user = User(later, UserState.decode(user.state.encode()), os.urandom, lambda _: None)
            assert user.cut_off
            assert await user.check() is Standing.BOOKED
            assert not user.cut_off
            assert await acts.read() == [], "where letters go is nothing that a person has to read"
            assert practice.state.unsent == 0
            await acts.cancel([booking], "the doctor is ill")
            assert await user.check() is Standing.CANCELLED
            words = [text for *_, text in chosen_of(user).words]
            assert words == ["written when nobody kept letters", "the doctor is ill"]


async def test_a_practice_whose_letters_have_no_node_left_gets_others_and_hears_of_the_cancelled_appointment(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user = await booked_at(surgery, view, practice, 2, monkeypatch)
        (booking,) = practice.state.booked.values()
        first, second = booking.offered.boxes
        async with after_leaving(surgery, [first]) as later:  # as above
            practice = Practice(later, practice.state, os.urandom)
            await practice.ready()
            assert await Appointments(practice).read() == []
        async with after_leaving(surgery, [first, second]) as later:
            practice = Practice(later, practice.state, os.urandom)
            user = User(later, user.state, os.urandom, lambda _: None)
            with pytest.raises(UnreachableError):
                await user.note("whom do I tell?")
            await practice.ready()
            acts = Appointments(practice)
            assert await acts.read() == []
            assert practice.complaints == []
            assert await user.check() is Standing.BOOKED
            user = User(later, UserState.decode(user.state.encode()), os.urandom, lambda _: None)
            await user.cancel("I am well again")
            assert [(note.what, note.text) for _, note in await acts.read()] == [(CANCEL, "I am well again")]
            assert not practice.state.booked


async def test_who_is_cut_off_from_both_sides_is_told_so(surgery: Surgery, monkeypatch: pytest.MonkeyPatch) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user = await booked_at(surgery, view, practice, 0, monkeypatch)
        async with after_leaving(surgery, chosen_of(user).boxes) as later:
            user = User(later, user.state, os.urandom, lambda _: None)
            assert await user.check() is Standing.BOOKED
            assert user.cut_off


async def test_a_letter_comes_to_the_second_node_when_that_is_there_again(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node that took it first may be lost before anybody reads it."""
    monkeypatch.setattr("peewit_clients.outbox.AGAIN_S", 0.0)
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user, acts = await booked(surgery, view, practice), Appointments(practice)
        chosen = chosen_of(user)
        operators = view.pool.charter.operators
        name = next(operator.name for operator in operators if operator.origin_hash == chosen.boxes[1])
        await surgery.federation.stop(name)
        (booking,) = practice.state.booked.values()
        await acts.note(booking, "bring your papers")
        (letter,) = practice.state.letters.values()
        assert (letter.once, practice.state.unsent) == (True, 0)
        await surgery.federation.start(name)
        await view.pool.reconnect()
        assert await practice.deliver() == 0
        assert not practice.state.letters
        chosen.boxes = chosen.boxes[1:]
        chosen.state = Standing.DECLINED  # reads only
        await user.check()
        assert [(theirs, text) for _, theirs, text in chosen.words] == [(True, "bring your papers")]
