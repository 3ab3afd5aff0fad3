"""What ends while somebody waits: an area, a group, a round, a token, one of many steps."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from peewit_clients.backend import BackendError, UnreachableError
from peewit_clients.office import Office
from peewit_clients.place import Admitter, with_work
from peewit_clients.practice import Practice
from peewit_clients.serve import Server, ServeSettings
from peewit_clients.user import User
from peewit_clients.user_state import UserState
from peewit_federation.appointment.notes import CANCEL
from peewit_federation.appointment.queue_api import WAITING, WITHDRAWN
from peewit_federation.appointment.request import area_name
from peewit_federation.draw.api import CODE, TokenAsk
from peewit_federation.errors import RefusedError, UnknownError
from tests.clients.surgery import GROUPS, QUEUE_NODES, Surgery, booked, slot, states, with_second_area
from tests.federation_kit import seed
from tests.federation_kit_http import post

DAY_S = 86_400


async def test_an_area_that_lapses_does_not_stop_a_person_whose_other_area_goes_on(surgery: Surgery) -> None:
    second = await with_second_area(surgery)
    mitte = area_name(surgery.place.mediator, surgery.place.area)
    async with surgery.view() as view:
        user = surgery.user(view)
        user.state.areas = (*user.state.areas, (surgery.place.mediator, second))
        await user.ask(with_work)
        await with_second_area(surgery, status=1, version=2)
        await view.refresh([surgery.mediator.id])
        with pytest.raises(UnknownError, match="suspended"):
            user.catchment(surgery.place.mediator, second)
        assert (await user.states())[mitte] == WAITING
        before = user.state.request
        await user.change(("flu",), ((), (), 1, (), "80-89"))
        after = user.state.request
        assert before is not None
        assert after is not None
        assert (before.wishes[0] != after.wishes[0], before.wishes[1] == after.wishes[1]) == (True, True)
        (drawn,) = await surgery.practice(view).draw(surgery.place, 1)
        assert drawn.wishes.step_free == 1
        with pytest.raises(UnknownError, match="no area of this request offers measles; they offer: flu"):
            await user.change(("measles",), ((), (), 1, (), "80-89"))
        await user.withdraw()
        assert set(await states(surgery, QUEUE_NODES[0])) == {WITHDRAWN}


async def test_a_group_that_an_area_does_not_have_is_refused_before_a_code_is_spent(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spent(*_: object) -> None:
        raise AssertionError("a node was asked to admit")

    monkeypatch.setattr(Admitter, "get", spent)
    async with surgery.view() as view:
        with pytest.raises(RefusedError, match=r"10115 \(flu\) has no group 'nurses' \(over80\)"):
            await surgery.user(view, group="nurses").ask(with_work)


async def test_an_area_that_drops_a_group_stops_nobody_in_another(surgery: Surgery) -> None:
    second = await with_second_area(surgery)
    async with surgery.view() as view:
        user = surgery.user(view, group=GROUPS[0])
        user.state.areas = (*user.state.areas, (surgery.place.mediator, second))
        await user.ask(with_work)
        await with_second_area(surgery, version=2, groups=())
        await view.refresh([surgery.mediator.id])
        await user.change(("flu",), ((), (), 1, (), "80-89"))
        (drawn,) = await surgery.practice(view).draw(surgery.place, 1)
        assert drawn.wishes.step_free == 1
        other = surgery.user(view, "Max", GROUPS[0])
        other.state.areas = user.state.areas
        with pytest.raises(RefusedError, match="has no group"):
            await other.ask(with_work)
        await user.withdraw()
        assert set(await states(surgery, QUEUE_NODES[0])) == {WITHDRAWN}


async def test_a_clock_that_is_wrong_spends_no_code(surgery: Surgery, monkeypatch: pytest.MonkeyPatch) -> None:
    async def spent(*_: object) -> None:
        raise AssertionError("a node was asked to admit")

    monkeypatch.setattr(Admitter, "get", spent)
    async with surgery.view() as view:
        for wrong_s in (200, -200):
            view.clock = lambda wrong_s=wrong_s: time.time() + wrong_s  # type: ignore[misc]
            with pytest.raises((UnreachableError, RefusedError), match="another time|clock"):
                await surgery.user(view).ask(with_work)


async def test_a_node_without_keys_calls_no_code_good(surgery: Surgery) -> None:
    """One that was put back from a backup has none for a while: the code would be spent elsewhere for nothing."""
    north = surgery.federation.nodes["north"]
    schedule = north.state.charter.schedule
    assert schedule is not None
    number = schedule.round_at(time.time())
    ask = TokenAsk(number, GROUPS[0], b"", CODE, bytes(32))
    url = surgery.federation.url("north") + "/v1/tokens/look"
    assert (await post(url, ask.encode()))[0] == 200
    north.token_keys._held.clear()
    status, answer = await post(url, ask.encode())
    assert (status, b"has no key" in answer) == (403, True)


async def test_one_step_of_a_turn_that_fails_keeps_no_other_from_its_work(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        user = await booked(surgery, view, practice)
        await user.cancel("I am well again")

        async def unreadable(_: object) -> str:
            raise UnreachableError("no node of the mailbox answered")

        monkeypatch.setattr(Office, "receive", unreadable)
        practice.state.places = [surgery.place]
        office = Office(view, practice.state, os.urandom)
        turn = await Server(practice, office, ServeSettings()).turn()
        assert [note.what for _, note in turn.notes] == [CANCEL]
        assert practice.complaints == ["no node of the mailbox answered"]


async def test_one_person_to_whom_nothing_can_be_offered_keeps_nobody_behind_from_an_offer(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        for name in ("Erika", "Max"):
            await surgery.user(view, name).ask(with_work)
        practice.state.places = [surgery.place]
        far = replace(slot(3), begins_s=int(time.time()) + 399 * DAY_S)
        practice.state.calendar = {one.name: one for one in (far, slot(4))}
        real, failed = Practice.offer, list[int]()

        async def offer(self: Practice, *arguments: object) -> None:
            if not failed:
                failed.append(1)
                raise UnreachableError("no node opened a mailbox")
            await real(self, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(Practice, "offer", offer)
        server = Server(practice, Office(view, practice.state, os.urandom), ServeSettings(slots_per_offer=1))
        turn = await server.turn()
        assert turn.offers == 1
        assert (await server.turn()).offers == 1, "also of a time that is more than a year ahead"


async def test_tokens_are_kept_until_they_were_drawn(surgery: Surgery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose power goes between the two would have spent its code for nothing."""
    async with surgery.view() as view:
        user = surgery.user(view)

        async def cut_short(*_: object) -> None:
            raise BackendError("the power went")

        with monkeypatch.context() as patch:
            patch.setattr(Admitter, "draw", cut_short)
            with pytest.raises(BackendError):
                await user.ask(with_work)
        again = User(view, UserState.decode(user.state.encode()), os.urandom, lambda _: None)
        assert len(again.state.tokens) == 2

        async def admitting(*_: object) -> None:
            raise AssertionError("a node was asked to admit again")

        monkeypatch.setattr(Admitter, "_ask", admitting)
        await again.ask(with_work)
        assert again.state.request is not None
        assert again.state.tokens == {}


async def test_tokens_of_the_round_before_are_drawn_while_its_grace_lasts(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        schedule = view.charter.schedule
        assert schedule is not None
        number = view.registry.rounds.open_round(schedule, view.clock())
        assert number is not None
        admitter = Admitter(view, os.urandom)
        await admitter.tokens(seed("H"), number, "", with_work)
        monkeypatch.setattr(view.registry.rounds.__class__, "open_round", lambda *_: number + 1)
        place = await Admitter(view, os.urandom, found=admitter.found).get(seed("H"), "", with_work)
        assert place.round == number


async def test_an_appointment_that_is_long_over_and_a_practice_that_never_answered_hold_nobody(
    surgery: Surgery,
) -> None:
    now = [time.time()]
    async with surgery.view() as view:
        view.clock = lambda: now[0]
        user = await booked(surgery, view, surgery.practice(view))
        with pytest.raises(RefusedError, match="stands"):
            await user.withdraw()
        now[0] += 3 * DAY_S
        await user.withdraw()
        assert user.state.withdrawn
