"""Who holds a queue up: people whom a practice cannot serve, who do not look, or whose mailbox is nowhere."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from peewit_clients import drawing, serve
from peewit_clients.asking import Asking
from peewit_clients.backend import UnreachableError
from peewit_clients.drawing import Drawn, _Kept
from peewit_clients.facilities import Facilities
from peewit_clients.office import Office
from peewit_clients.passing import AGAIN_S, TELL_S, PassedOver
from peewit_clients.place import with_work
from peewit_clients.practice import Practice
from peewit_clients.registry_view import RegistryView
from peewit_clients.serve import Server, ServeSettings
from peewit_clients.unanswered import IN_VAIN_MAX, REMEMBERED_MAX, Unanswered
from peewit_clients.user import User
from peewit_federation.appointment.queue_api import PARKED, Draw, Place
from peewit_federation.appointment.request import VERSION_MAX, Request, Wishes, area_name, open_request
from peewit_federation.keys import XWING_PUBLIC_BYTES, key_id
from peewit_federation.sealed import xwing_public
from peewit_node.appointment import queue
from peewit_node.appointment.passes import ALL_MAX, PASS_S, PASSES_MAX, Passes
from peewit_node.engine import Write
from tests.clients.surgery import GROUPS, QUEUE_NODES, Surgery, slot, states
from tests.federation_kit import catchment, seed

SECOND = 1_000_000.0
AREA = seed("mediator"), seed("area")


def serving(surgery: Surgery, view: RegistryView, slots: Sequence[int], name: str = "clinic-a") -> Server:
    practice = surgery.practice(view, name)
    practice.state.places.append(surgery.place)
    practice.state.calendar |= {slot(n).name: slot(n) for n in slots}
    return Server(practice, Office(view, practice.state, os.urandom), ServeSettings(slots_per_offer=1))


async def refuse_letters(surgery: Surgery) -> None:
    """All mailboxes take none from practices any more."""
    for node in surgery.federation.nodes.values():
        await node.engine.write(Write("UPDATE mailboxes SET practices = 0"))
        node.mailboxes._known.clear()


def another_day(user: User, day: int) -> User:
    wishes = user.state.wishes
    user.state.wishes = (((day, day),), *wishes[1:])
    return user


async def test_however_many_come_first_whom_a_practice_cannot_serve_whoever_it_can_is_offered(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A practice leases only so many; it gives them back, and other practices draw them at once."""
    monkeypatch.setattr(queue, "LEASES_MAX", 4)
    monkeypatch.setattr(queue, "DRAW_MAX", 2)
    day = int(time.time()) // 86_400
    async with surgery.view() as view:
        for number in range(9):
            await another_day(surgery.user(view, f"Early {number}", GROUPS[0]), day + 40).ask(with_work)
        anybody = surgery.user(view, "Anybody")
        await anybody.ask(with_work)
        server = serving(surgery, view, [0, 1])
        turn = await server.turn()
        assert (turn.offers, turn.waiting) == (1, 9)
        assert len(await anybody.offers()) == 1
        other = surgery.practice(view, "clinic-b")
        assert len(await other.draw(surgery.place, 2)) == 2, "nobody else waits for those to become free"
        assert (await server.turn()).offers == 0
        # A time for one of them becomes free: whoever comes first gets it.
        late = replace(slot(7), begins_s=(day + 40) * 86_400 + 12 * 3600)
        server.practice.state.calendar[late.name] = late
        assert (await server.turn()).offers == 1
        assert (await server.turn()).waiting >= 6


async def test_who_wishes_something_else_is_looked_at_at_once(surgery: Surgery) -> None:
    day = int(time.time()) // 86_400
    async with surgery.view() as view:
        user = another_day(surgery.user(view), day + 40)
        await user.ask(with_work)
        server = serving(surgery, view, [0, 1])
        assert (await server.turn()).offers == 0
        assert (await server.turn()).waiting == 1
        await user.change(("flu",), another_day(user, day + 1).state.wishes)
        assert (await server.turn()).offers == 1


async def test_who_never_looks_is_parked_by_one_practice_alone_and_holds_no_times_any_more(surgery: Surgery) -> None:
    """The third offer takes the place of the first in a mailbox that nobody reads."""
    ahead = [0.0]
    for node in surgery.federation.nodes.values():
        node.state.clock = lambda: time.time() + ahead[0]
    async with surgery.view() as view:
        now = view.clock
        view.clock = lambda: now() + ahead[0]
        await surgery.user(view).ask(with_work)
        server = serving(surgery, view, [])
        server.settings = replace(server.settings, answer_s=12 * 3600)
        late = [replace(slot(n), begins_s=int(time.time()) + 20 * 86_400 + 600 * n) for n in range(6)]
        server.practice.state.calendar |= {one.name: one for one in late}
        for turn in range(4):
            assert (await server.turn()).offers == (turn < 3)
            ahead[0] += 13 * 3600
        assert await states(surgery, "north") == [PARKED]
        assert len(server._free()) == 6


async def test_who_names_a_mailbox_that_is_not_there_holds_times_no_longer_than_who_does_not_answer(
    surgery: Surgery,
) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        nowhere = tuple(surgery.federation.nodes[name].state.operator.origin_hash for name in ("south", "east"))

        async def unopened(*_: object, **__: object) -> tuple[bytes, ...]:
            return nowhere

        user.letters.open_mailbox = unopened  # type: ignore[method-assign]
        await user.ask(with_work)
        assert (await serving(surgery, view, [0]).turn()).offers == 1
        for name in QUEUE_NODES:
            rows = await surgery.federation.nodes[name].engine.fetch("SELECT misses, free_at > 0 FROM requests")
            assert rows == [(1, 1)], "no other practice draws it before the offer has ended"


async def test_a_mediator_that_puts_another_group_first_changes_the_order_of_who_waits_already(
    surgery: Surgery,
) -> None:
    """Those of the group that was first, and everybody, would else stand side by side."""
    async with surgery.view() as view:
        for name, group in (("Anybody", ""), ("Old", GROUPS[0])):
            await surgery.user(view, name, group).ask(with_work)
        practice = surgery.practice(view)
        assert len(await practice.draw(surgery.place, 1)) == 1
        nodes = tuple(surgery.federation.nodes[name].state.operator.origin_hash for name in QUEUE_NODES)
        area = replace(
            catchment("mitte", "10115"), keys=((0, xwing_public(seed("area key"))),), nodes=nodes,
            groups=("staff", *GROUPS), version=2,
        )  # fmt: skip
        surgery.device.entries.append(area.encode())
        assert (await surgery.device.publish(surgery.federation.url("north"), len(surgery.device.entries) - 1))[
            0
        ] == 200
        await surgery.federation.agree()
        await practice.draw(surgery.place, 1)
        for name in QUEUE_NODES:
            rows = await surgery.federation.nodes[name].engine.fetch("SELECT rank FROM requests ORDER BY rank")
            assert rows == [(1,), (2,)]
        await surgery.federation.nodes["north"].queues.expire()
        assert len(await surgery.federation.nodes["north"].engine.fetch("SELECT * FROM area_groups")) == 1


def test_whom_a_practice_passed_over_is_given_again_after_a_while_and_memory_is_bounded() -> None:
    passes, area, clinic = Passes(), b"area", b"clinic"
    passes.add(area, clinic, [seed(1), seed(2)], SECOND)
    passes.add(area, b"another", [seed(1)], SECOND)
    assert set(passes.of(area, clinic, SECOND + PASS_S - 1)) == {seed(1), seed(2)}
    passes.changed([area], seed(1))
    assert set(passes.of(area, clinic, SECOND)) == {seed(2)}
    assert not passes.of(area, b"another", SECOND)
    assert not passes.of(area, clinic, SECOND + PASS_S)
    passes.add(area, clinic, [seed(n) for n in range(PASSES_MAX)], SECOND)
    assert len(passes.of(area, clinic, SECOND)) == PASSES_MAX
    passes.add(area, clinic, [b"one more"], SECOND)
    assert not passes.of(area, clinic, SECOND), "it begins anew"
    assert passes._count == 0
    passes.add(area, clinic, [seed(1)], SECOND)
    for number in range(ALL_MAX // PASSES_MAX + 1):
        passes.add(seed("area", number), b"mallory", [seed(n) for n in range(PASSES_MAX)], SECOND)
    assert passes._count == ALL_MAX - PASSES_MAX + 1
    assert passes.of(area, clinic, SECOND), "who fills the memory loses it, and nobody else"


def test_a_practice_begins_anew_when_something_changes_that_suits_whom_it_passed_over() -> None:
    over, facilities, keys = PassedOver(), Facilities(), [seed("key")]
    wishes = Wishes(xwing_public(seed("reply")), seed("writer"), ("flu",), days=((0, 0),))
    first_day = replace(slot(2), begins_s=12 * 3600)
    assert over.take(SECOND) == ((), True), "nodes may remember what was free before"
    over.look_again([first_day], facilities, keys, None, SECOND)
    over.take(SECOND)
    over.add(seed(1), 1, wishes, SECOND)
    over.add(seed(2), 1, None, SECOND)
    over.left([])
    assert over.take(SECOND) == (((seed(1), 1), (seed(2), 1)), False)
    over.look_again([slot(1)], facilities, keys, None, SECOND)
    assert over.take(SECOND) == ((), False), "that time suits nobody"
    over.look_again([slot(1), first_day], facilities, keys, None, SECOND)
    assert (len(over), *over.take(SECOND)) == (0, (), True), "it was promised in between, and is free again"
    for offering, now_keys in ((Facilities(step_free=True), keys), (Facilities(step_free=True), [seed("new key")])):
        over.add(seed(3), 1, None, SECOND)
        over.look_again([slot(1)], offering, now_keys, None, SECOND)
        assert over.take(SECOND) == ((), True), "another way in, or a key more"


def test_what_nodes_were_not_told_at_once_they_are_not_told_any_more() -> None:
    """Its lease has ended, and whoever it was may have said something else."""
    over = PassedOver()
    over.look_again([], Facilities(), [], None, SECOND)
    over.take(SECOND)
    over.add(seed(1), 1, None, SECOND)
    over.add(seed(2), 1, None, SECOND + TELL_S)
    assert over.take(SECOND + TELL_S + 1) == (((seed(2), 1),), False)
    assert len(over) == 1
    over.add(seed(3), 1, None, SECOND + TELL_S)
    over.look_again([], Facilities(), [], None, SECOND + TELL_S + AGAIN_S)
    assert over.take(SECOND + TELL_S + AGAIN_S) == ((), False)


async def test_a_node_that_hands_out_what_is_no_request_ends_no_practice(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        await surgery.user(view).ask(with_work)

        async def rubbish(*_: object) -> list[object]:
            return [[1], 5, b"no request", {"a": b""}]

        monkeypatch.setattr(surgery.federation.nodes["north"].queues, "draw", rubbish)
        server = serving(surgery, view, [0])
        assert (await server.turn()).offers == 1
        assert server.practice.complaints


async def test_requests_that_are_good_for_nothing_keep_nobody_behind_from_an_offer(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wishes that say nothing, or a reply key that is none: fifty of them were as many as a practice leases."""
    monkeypatch.setattr(queue, "LEASES_MAX", 3)
    async with surgery.view() as view:
        real = Asking._sealed
        for number in range(4):
            user = surgery.user(view, f"Mallory {number}", GROUPS[0])
            wishes = Wishes(bytes(XWING_PUBLIC_BYTES), seed("writer"), ("flu",)).encode() if number % 2 else b"\x80"
            area = user.state.areas[0]
            sealed = user._asking._seal(area_name(*area), user.catchment(*area), wishes, view.clock())
            monkeypatch.setattr(Asking, "_sealed", lambda *_, sealed=sealed: (sealed,))
            await user.ask(with_work)
        monkeypatch.setattr(Asking, "_sealed", real)
        anybody = surgery.user(view, "Anybody")
        await anybody.ask(with_work)
        server = serving(surgery, view, [0])
        assert (await server.turn()).offers == 1
        assert len(await anybody.offers()) == 1


async def test_a_draw_that_nobody_hears_begins_anew_the_next_time(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nodes would go on passing over somebody whom a time suits that has become free."""
    day = int(time.time()) // 86_400
    async with surgery.view() as view:
        first = another_day(surgery.user(view, "First", GROUPS[0]), day + 40)
        for user in (first, surgery.user(view, "Second")):
            await user.ask(with_work)
        server = serving(surgery, view, [0])
        assert (await server.turn()).offers == 1, "the second"
        fits = replace(slot(7), begins_s=(day + 40) * 86_400 + 12 * 3600)
        server.practice.state.calendar[fits.name] = fits
        real = server.practice.drawing._ask_all

        async def nobody(*_: object) -> list[object]:
            return []

        monkeypatch.setattr(server.practice.drawing, "_ask_all", nobody)
        assert (await server.turn()).offers == 0
        monkeypatch.setattr(server.practice.drawing, "_ask_all", real)
        assert (await server.turn()).offers == 1
        assert len(await first.offers()) == 1


async def test_a_time_so_far_ahead_that_nobody_is_shown_it_is_offered_to_nobody(surgery: Surgery) -> None:
    """Whoever does not answer is parked: not for what was never seen."""
    async with surgery.view() as view:
        await surgery.user(view).ask(with_work)
        server = serving(surgery, view, [])
        far = replace(slot(1), begins_s=int(time.time()) + 401 * 86_400)
        server.practice.state.calendar[far.name] = far
        assert (await server.turn()).offers == 0


async def test_only_who_leased_a_request_gives_it_back(surgery: Surgery) -> None:
    async with surgery.view() as view:
        await surgery.user(view).ask(with_work)
        queues = surgery.federation.nodes["north"].queues
        area = area_name(surgery.place.mediator, surgery.place.area)
        clinic, other = key_id(surgery.practice(view).state.key.public), seed("another practice")
        (body,) = await queues.draw(area, clinic, 1)
        name = open_request(body).name
        await queues.pass_over(area, other, [(name, 1)], anew=False)
        assert await queues.draw(area, other, 1) == []
        await queues.pass_over(area, other, [], anew=True)
        assert await queues.draw(area, other, 1) == [], "it is leased still"
        await queues.pass_over(area, clinic, [(name, 0)], anew=False)
        assert await queues.draw(area, clinic, 1) == [body], "what was passed over was an older version"
        await queues.pass_over(area, clinic, [(name, 1)], anew=False)
        assert await queues.draw(area, clinic, 1) == []
        assert await queues.draw(area, other, 1) == [body]
    with pytest.raises(Exception, match="passed over"):
        Draw.decode(replace(Draw(surgery.place, 1), passed=((bytes(32), 1),) * 251).encode())


async def test_a_node_that_hands_out_whom_a_practice_passed_over_hides_nobody_behind_them(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One node of an area that does not listen could stop every practice there for whoever comes later."""
    monkeypatch.setattr(serve, "DRAW_MAX", 2)
    day = int(time.time()) // 86_400
    deaf = surgery.federation.nodes[QUEUE_NODES[1]].queues
    monkeypatch.setattr(deaf, "passed", lambda *_: ())
    async with surgery.view() as view:
        for number in range(5):
            await another_day(surgery.user(view, f"Early {number}", GROUPS[0]), day + 40).ask(with_work)
        anybody = surgery.user(view, "Anybody")
        await anybody.ask(with_work)
        server = serving(surgery, view, [0, 1])
        assert (await server.turn()).offers == 1
        assert len(await anybody.offers()) == 1


async def test_an_old_version_that_one_node_hands_out_hides_no_later_one(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A withdrawal that was taken back, or wishes that were changed: signed, useless, and easy to come by."""
    async with surgery.view() as view:
        anybody = surgery.user(view, "Anybody")
        await anybody.ask(with_work)
        await anybody.withdraw()
        liar = surgery.federation.nodes[QUEUE_NODES[1]]
        rows = await liar.engine.fetch("SELECT body FROM requests")

        async def old(*_: object) -> list[bytes]:
            return [body for (body,) in rows]

        monkeypatch.setattr(liar.queues, "draw", old)
        server = serving(surgery, view, [0])
        assert (await server.turn()).offers == 0
        await anybody.reopen()
        assert (await server.turn()).offers == 1
        assert len(await anybody.offers()) == 1


@pytest.mark.parametrize("version", [0, VERSION_MAX])
async def test_requests_with_any_version_are_looked_at_and_passed_over_like_others(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """One at the head could otherwise stop a practice for all behind it."""
    async with surgery.view() as view:
        real = Request.sign
        monkeypatch.setattr(Request, "sign", lambda one, key: real(replace(one, version=version), key))
        day = int(time.time()) // 86_400
        await another_day(surgery.user(view, "First", GROUPS[0]), day + 40).ask(with_work)
        anybody = surgery.user(view, "Anybody")
        await anybody.ask(with_work)
        monkeypatch.setattr(Request, "sign", real)
        server = serving(surgery, view, [0])
        turn = await server.turn()
        assert (turn.offers, turn.waiting) == (1, 1)
        assert not server.practice.complaints
        assert len(await anybody.offers()) == 1


async def test_offers_that_do_not_arrive_hide_nobody_behind_them(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LEASES_MAX", 3)
    monkeypatch.setattr(serve, "DRAW_MAX", 3)
    monkeypatch.setattr(drawing, "UNTOLD_MAX", 2)
    async with surgery.view() as view:
        for number in range(4):
            await surgery.user(view, f"Deaf {number}", GROUPS[0]).ask(with_work)
        await refuse_letters(surgery)
        anybody = surgery.user(view, "Anybody")
        await anybody.ask(with_work)
        server = serving(surgery, view, range(9))
        for _ in range(3):
            await server.turn()
        assert len(await anybody.offers()) == 1


async def test_who_has_an_offer_that_nodes_do_not_know_keeps_nobody_behind_from_one(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Undecided over a weekend, or with a mailbox that does not answer, few people stopped a practice."""
    monkeypatch.setattr(serve, "DRAW_MAX", 1)
    async with surgery.view() as view:
        first, second = (surgery.user(view, name, group) for name, group in (("First", GROUPS[0]), ("Second", "")))
        for user in (first, second):
            await user.ask(with_work)
        server = serving(surgery, view, [0])
        assert (await server.turn()).offers == 1
        assert len(await first.offers()) == 1
        for name in QUEUE_NODES:
            await surgery.federation.nodes[name].engine.write(Write("UPDATE requests SET free_at = 0"))
        server.practice.state.calendar[slot(1).name] = slot(1)
        assert (await server.turn()).offers == 1
        assert len(await second.offers()) == 1


async def test_an_area_that_cannot_be_drawn_from_stops_no_other(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        anybody = surgery.user(view, "Anybody")
        await anybody.ask(with_work)
        server, drawn = serving(surgery, view, [0]), []
        real = server.practice.draw

        async def draw(place: Place, *more: Any, **other: Any) -> list[Drawn]:
            drawn.append(place.area)
            if place != surgery.place:
                raise UnreachableError("no node of this area answered")
            return await real(place, *more, **other)

        server.practice.draw = draw  # type: ignore[method-assign]
        areas = [Place(surgery.mediator.id, seed("lapsed")), surgery.place]
        monkeypatch.setattr(Practice, "places", areas)
        assert (await server.turn()).offers == 1
        assert drawn == [areas[0].area, areas[1].area]
        assert "no node of this area answered" in server.practice.complaints[-1]


async def test_a_practice_serves_the_areas_that_it_is_admitted_to_whatever_it_applies_for(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = surgery.practice(view)
        practice.state.places = [Place(surgery.mediator.id, seed("another area"))]
        assert practice.places == [surgery.place]


async def test_what_becomes_free_while_a_practice_draws_is_for_whoever_is_first_then(surgery: Surgery) -> None:
    day = int(time.time()) // 86_400
    async with surgery.view() as view:
        first = another_day(surgery.user(view, "First", GROUPS[0]), day + 40)
        await first.ask(with_work)
        await surgery.user(view, "Second").ask(with_work)
        server = serving(surgery, view, [0])
        fits = replace(slot(7), begins_s=(day + 40) * 86_400 + 12 * 3600)
        real = server.practice.draw

        async def draw(*args: Any, **more: Any) -> list[Drawn]:
            found = await real(*args, **more)
            server.practice.state.calendar[fits.name] = fits
            return found

        server.practice.draw = draw  # type: ignore[method-assign]
        assert (await server.turn()).offers == 1, "to the second, who was drawn too"
        assert (await first.offers()) == []
        assert (await server.turn()).offers == 1
        assert [item.offer.slots[0][0] for item in await first.offers()] == [fits.name]


def test_whom_no_offer_reaches_is_counted_after_twice_and_left_alone_after_six_times() -> None:
    """Else a mailbox that refuses every letter would hold times of every practice for ever."""
    request = Request((AREA,), seed("data"), seed("key"), 1, (), b"", 1, seed("claim"), seed("box"), (), ())
    unanswered = Unanswered()
    told = []
    for _ in range(IN_VAIN_MAX):
        assert not unanswered.in_vain(request)
        told.append(unanswered.counts(request))
        unanswered.add(request, heard=False)
    assert told == [False, False, True, True, True, True]
    assert unanswered.in_vain(request)
    again = replace(request, version=2)
    assert not unanswered.in_vain(again), "it has said something since"
    unanswered.add(again, heard=False)
    assert not unanswered.counts(again)
    for _ in range(5):
        unanswered.add(replace(request, version=3), heard=True)
    assert not unanswered.counts(replace(request, version=3)), "two were heard: that a letter is lost now is no miss"
    for number in range(REMEMBERED_MAX):
        unanswered.add(replace(request, key=seed(number)), heard=False)
    assert not unanswered.in_vain(request), "memory is bounded"


async def test_who_refuses_every_letter_is_parked_and_holds_times_no_longer(surgery: Surgery) -> None:
    ahead = [0.0]
    for node in surgery.federation.nodes.values():
        node.state.clock = lambda: time.time() + ahead[0]
    async with surgery.view() as view:
        now = view.clock
        view.clock = lambda: now() + ahead[0]
        user = surgery.user(view)
        await user.ask(with_work)
        await refuse_letters(surgery)
        server = serving(surgery, view, [])
        server.settings = replace(server.settings, answer_s=12 * 3600)
        late = [replace(slot(n), begins_s=int(time.time()) + 20 * 86_400 + 600 * n) for n in range(6)]
        server.practice.state.calendar |= {one.name: one for one in late}
        for turn in range(6):
            assert (await server.turn()).offers == (turn < 5), turn
            ahead[0] += 13 * 3600
        assert await states(surgery, "north") == [PARKED]


async def test_who_was_leased_beyond_what_was_asked_for_is_kept_no_longer_than_the_lease(surgery: Surgery) -> None:
    ahead = [0.0]
    async with surgery.view() as view:
        now = view.clock
        view.clock = lambda: now() + ahead[0]
        for name in ("First", "Second"):
            await surgery.user(view, name).ask(with_work)
        practice = surgery.practice(view)
        _, second = await practice.draw(surgery.place, 2)
        practice.drawing._surplus[surgery.place] = [_Kept(view.clock() + 10, second, {"north"})]
        await practice.draw(surgery.place, 1)
        assert [kept.drawn for kept in practice.drawing._surplus[surgery.place]] == [second]
        ahead[0] = 11
        await practice.draw(surgery.place, 1)
        assert practice.drawing._surplus[surgery.place] == [], "others may have drawn it"
