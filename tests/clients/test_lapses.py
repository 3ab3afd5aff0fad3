"""What ends while somebody waits or has an appointment: an area, a mailbox, a leave, a round, a practice's right to act."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peewit_clients.appointments import Appointments
from peewit_clients.backend import BackendError, UnreachableError
from peewit_clients.offers import Found
from peewit_clients.office import Office
from peewit_clients.place import Admitter, with_work
from peewit_clients.practice import Practice
from peewit_clients.recovery import Recovery
from peewit_clients.serve import Server, ServeSettings
from peewit_clients.user import User
from peewit_clients.user_state import Standing, UserState
from peewit_federation.appointment.notes import CANCEL
from peewit_federation.appointment.queue_api import WAITING, WITHDRAWN
from peewit_federation.appointment.request import area_name
from peewit_federation.draw.api import CODE, TokenAsk
from peewit_federation.errors import MalformedError, RefusedError, UnknownError
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.sealed import xwing_public
from peewit_node.engine import Write
from tests.clients.surgery import GROUPS, QUEUE_NODES, Surgery, slot, states
from tests.clients.test_changes import booked
from tests.federation_kit import catchment, seed
from tests.federation_kit_http import post

DAY_S = 86_400


@pytest.fixture
async def surgery(tmp_path: Path) -> AsyncIterator[Surgery]:
    found = await Surgery.open(tmp_path)
    yield found
    await found.federation.stop()


async def accepted(surgery: Surgery, user: User, practice: Practice) -> None:
    """Ask, be drawn and offered one time, and accept it."""
    await user.ask(with_work)
    (drawn,) = await practice.draw(surgery.place, 1)
    practice.state.calendar[slot(1).name] = slot(1)
    await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + 3600)
    (found,) = await user.offers()
    await user.accept(found, slot(1).name)


async def with_second_area(
    surgery: Surgery, status: int = 0, version: int = 1, groups: tuple[str, ...] = GROUPS
) -> bytes:
    """Another area of the mediator, held by the same nodes, as its mediator describes it next."""
    nodes = tuple(surgery.federation.nodes[name].state.operator.origin_hash for name in QUEUE_NODES)
    area = replace(
        catchment("wedding", "13347"), keys=((0, xwing_public(seed("area key"))),), nodes=nodes, groups=groups,
        status=status, version=version,
    )  # fmt: skip
    surgery.device.entries.append(area.encode())
    before = len(surgery.device.entries) - 1
    assert (await surgery.device.publish(surgery.federation.url("north"), before))[0] == 200
    await surgery.federation.agree()
    return area.area


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
