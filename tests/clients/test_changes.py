"""What happens to an appointment after it was made: words, moves, a practice that is suspended or loses power."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from peewit_clients.appointments import Appointments
from peewit_clients.drawer import Drawer
from peewit_clients.place import with_work
from peewit_clients.practice import Practice
from peewit_clients.practice_state import BOOKING, FACTS, PracticeState
from peewit_clients.user_state import Standing, UserState
from peewit_federation.appointment.notes import WORDS
from peewit_federation.errors import OperatorError, RefusedError
from peewit_federation.registry.subjects import Verdict
from tests.clients.surgery import Surgery, booked, offered, put_on_offer, slot

SOON_S = 3600


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
