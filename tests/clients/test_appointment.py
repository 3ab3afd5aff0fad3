"""An appointment from the request to the confirmation, between real clients over real nodes."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from random import Random

import pytest

from peewit_clients.appointments import Appointments
from peewit_clients.backend import BackendError, UnreachableError
from peewit_clients.place import with_code, with_work
from peewit_clients.user import User
from peewit_clients.user_state import Standing, UserState
from peewit_clients.vault import Vault
from peewit_federation.appointment.messages import practice_data
from peewit_federation.appointment.queue_api import CLAIMED, Place
from peewit_federation.appointment.request import Request, area_name
from peewit_federation.draw.hashes import Person
from peewit_federation.errors import RefusedError
from peewit_federation.keys import key_id, sha256
from peewit_federation.sealed import xwing_public
from peewit_node.config import Admission as AdmissionSettings
from peewit_node.node import DATABASE
from tests.clients.surgery import GROUPS, QUEUE_NODES, Surgery, slot
from tests.federation_kit import NAMES, catchment, seed
from tests.node.test_draw import codes

SOON_S = 3600
ERIKA = Person("Muster", "Erika", date(1940, 8, 12))


async def test_a_person_gets_an_appointment_and_both_sides_hold_it(surgery: Surgery) -> None:
    async with surgery.view() as mine, surgery.view() as theirs:
        user, practice = surgery.user(mine), surgery.practice(theirs)
        await user.ask(with_work)
        assert await user.offers() == []
        (drawn,) = await practice.draw(surgery.place, 5)
        assert drawn.wishes.services == ("flu",)
        await practice.offer(surgery.place, drawn, [slot(1), slot(2)], int(time.time()) + SOON_S)
        (found,) = await user.offers()
        assert found.data["street"] == "Example Street 1"
        await user.accept(found, slot(2).name)
        (booking,) = await practice.confirm()
        assert await user.check() is Standing.BOOKED
        chosen = user.state.chosen
        assert chosen is not None
        assert (chosen.slot, chosen.begins_s) == (slot(2).name, booking.slot.begins_s)
        assert booking.person == user.state.person
        assert await practice.draw(surgery.place, 5) == [], "a booked request is in no queue any more"
        assert await practice.confirm() == []


async def test_who_is_declined_or_loses_an_offer_is_in_the_line_again_at_once(surgery: Surgery) -> None:
    """Nobody waits for the end of an offer that is over already, and nothing is owed to it."""
    async with surgery.view() as mine, surgery.view() as theirs:
        user, one, two = surgery.user(mine), surgery.practice(theirs), surgery.practice(theirs, "clinic-b")
        request = await user.ask(with_work)
        until_s = int(time.time()) + SOON_S
        for turn in range(4):
            (drawn,) = await one.draw(surgery.place, 5)
            await one.offer(surgery.place, drawn, [slot(1)], until_s)
            assert await two.draw(surgery.place, 5) == []
            (found,) = await user.offers()
            if turn % 2:
                await Appointments(one).withdraw([slot(1).name], "the fridge is broken")
            else:
                await user.accept(found, slot(1).name)
                assert await one.confirm(lambda _: None) == []
                assert [asking.accept.request for asking in one.asking] == [request.name]
                assert await one.confirm(lambda _: False) == []
                assert await user.check() is Standing.DECLINED
                with pytest.raises(RefusedError, match="cannot be accepted any more"):
                    await user.accept(found, slot(1).name)
            assert await user.offers() == []
        (drawn,) = await two.draw(surgery.place, 5)
        await two.offer(surgery.place, drawn, [slot(2)], until_s)
        (found,) = await user.offers()
        await user.accept(found, slot(2).name)
        assert len(await two.confirm()) == 1
        assert await user.check() is Standing.BOOKED


async def test_the_same_with_a_node_of_the_queue_dead_from_the_draw_on(surgery: Surgery) -> None:
    async with surgery.view() as mine, surgery.view() as theirs:
        user, practice = surgery.user(mine), surgery.practice(theirs)
        await user.ask(with_work)
        await surgery.federation.stop(QUEUE_NODES[0])
        (drawn,) = await practice.draw(surgery.place, 5)
        await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + SOON_S)
        (found,) = await user.offers()
        await user.accept(found, slot(1).name)
        (booking,) = await practice.confirm()
        assert await user.check() is Standing.BOOKED
        assert booking.slot.name == slot(1).name


async def test_no_node_stores_a_name_and_only_the_nodes_of_an_area_hold_its_requests(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user, practice = surgery.user(view, "Friederike"), surgery.practice(view)
        request = await user.ask(with_work)
        (drawn,) = await practice.draw(surgery.place, 1)
        await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + SOON_S)
        await user.accept((await user.offers())[0], slot(1).name)
        await practice.confirm()
    await surgery.federation.stop()
    for name in NAMES:
        folder = surgery.federation.folder / name
        stored = b"".join(path.read_bytes() for path in folder.iterdir() if path.name.startswith(DATABASE))
        for secret in (b"Friederike", b"Muster", b"Example Street", user.state.nonce, slot(1).name):
            assert secret not in stored, (name, secret)
        with closing(sqlite3.connect(folder / DATABASE)) as database:
            held = database.execute("SELECT count(*) FROM requests WHERE request = ?", (request.name,)).fetchone()[0]
        assert held == (name in QUEUE_NODES), name


async def test_offers_that_should_not_be_accepted_are_dropped_and_say_why(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user, practice = surgery.user(view), surgery.practice(view)
        await user.ask(with_work)
        (drawn,) = await practice.draw(surgery.place, 1)
        until_s = int(time.time()) + SOON_S
        practice.state.data = practice_data({"name": "clinic-a", "street": "Somewhere else 7"})
        await practice.offer(surgery.place, drawn, [slot(1)], until_s)
        assert await user.offers() == []
        assert "did not commit to" in str(user.dropped[-1])
        evil = surgery.practice(view, "clinic-b")
        await evil.offer(surgery.place, drawn, [slot(2)], until_s)
        (found,) = await user.offers()
        surgery.device.entries.append(surgery.grant("clinic-b", version=2, status=1).encode())
        assert (await surgery.device.publish(surgery.federation.url("north"), 3))[0] == 200
        await surgery.federation.agree()
        with pytest.raises(RefusedError, match="suspended"):
            await user.accept(found, slot(2).name)
        assert await user.offers() == []
        assert "suspended" in str(user.dropped[-1])
        assert found.practice.subject == key_id(evil.state.key.public)


async def test_an_accept_of_somebody_else_is_refused_and_nothing_is_kept_of_it(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user, practice = surgery.user(view), surgery.practice(view)
        await user.ask(with_work)
        (drawn,) = await practice.draw(surgery.place, 1)
        await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + SOON_S)
        (found,) = await user.offers()
        user.state.person = replace(user.state.person, given_name="Buyer")
        await user.accept(found, slot(1).name)
        assert await practice.confirm() == []
        assert "somebody else than who asked" in practice.complaints[-1]
        assert not practice.state.booked


async def test_two_people_are_never_promised_one_slot(surgery: Surgery) -> None:
    async with surgery.view() as view:
        users = [surgery.user(view, name) for name in ("Erika", "Max")]
        for user in users:
            await user.ask(with_work)
        practice = surgery.practice(view)
        first, second = await practice.draw(surgery.place, 2)
        await practice.offer(surgery.place, first, [slot(1)], int(time.time()) + SOON_S)
        with pytest.raises(RefusedError, match="promised or booked"):
            await practice.offer(surgery.place, second, [slot(1)], int(time.time()) + SOON_S)


async def test_a_request_that_another_practice_claimed_first_is_declined_by_the_second(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user, one, two = surgery.user(view), surgery.practice(view), surgery.practice(view, "clinic-b")
        await user.ask(with_work)
        (drawn,) = await one.draw(surgery.place, 1)
        until_s = int(time.time()) + SOON_S
        await one.offer(surgery.place, drawn, [slot(1)], until_s)
        await two.offer(surgery.place, drawn, [slot(9, "clinic-b")], until_s)
        found = {item.practice.subject: item for item in await user.offers()}
        await user.accept(found[key_id(one.state.key.public)], slot(1).name)
        assert len(await one.confirm()) == 1
        with pytest.raises(RefusedError, match="another offer was accepted"):
            await user.accept(found[key_id(two.state.key.public)], slot(9, "clinic-b").name)
        user.state.chosen = None  # a client that cheats
        await user.accept(found[key_id(two.state.key.public)], slot(9, "clinic-b").name)
        assert await two.confirm() == []
        assert await user.check() is Standing.DECLINED


class CutError(Exception):
    """The power goes."""


async def test_a_client_that_is_cut_short_at_any_step_goes_on_from_its_disk(surgery: Surgery, tmp_path: Path) -> None:
    """One code, one place, one booking, whatever step of the user's client is cut short."""
    for name in NAMES:
        surgery.federation.nodes[name].admission._settings = AdmissionSettings(kind="codes", groups=GROUPS)
    random, vault = Random(7), Vault.make(tmp_path / "me" / "request", "open sesame")
    (code,) = await codes(surgery.federation, 1)
    vault.write(
        UserState.new(ERIKA, "", ((surgery.place.mediator, surgery.place.area),), ("flu",), os.urandom).encode()
    )
    vault.close()
    practice_slots, names, cuts = iter(range(100)), set(), 0
    async with surgery.view() as theirs:
        practice = surgery.practice(theirs)
        for _ in range(60):
            async with surgery.view() as mine:
                with Vault(vault.path, "open sesame") as opened_again:
                    user = User(mine, _loaded(opened_again), os.urandom, partial(_keep, opened_again))
                    left = [random.randrange(1, 16)]
                    real = mine.pool.post

                    async def post_or_cut(backend, path, body, real=real, left=left):  # type: ignore[no-untyped-def]
                        left[0] -= 1
                        if left[0] == 0:
                            raise CutError
                        answer = await real(backend, path, body)
                        if left[0] == 1 and random.random() < 0.5:
                            raise CutError  # it was done, but the client never learns
                        return answer

                    mine.pool.post = post_or_cut  # type: ignore[method-assign]
                    try:
                        names.add((await user.ask(with_code(code))).name)
                        if user.state.chosen is None:
                            offers = await user.offers()
                            if offers:
                                await user.accept(offers[0], offers[0].offer.slots[0][0])
                        else:
                            await user.again()
                            if await user.check() is not Standing.SENT:
                                break
                    except CutError:
                        cuts += 1
            for drawn in await practice.draw(surgery.place, 5):
                number = next(practice_slots)
                await practice.offer(surgery.place, drawn, [slot(number)], int(time.time()) + SOON_S)
            await practice.confirm()
    assert cuts > 3
    assert len(names) == 1, "one code was worth one place"
    assert len(practice.state.booked) == 1
    assert b"Erika" not in b"".join(path.read_bytes() for path in (tmp_path / "me").iterdir()), "encrypted at rest"


def _keep(vault: Vault, state: UserState) -> None:
    vault.write(state.encode())


def _loaded(vault: Vault) -> UserState:
    data = vault.read()
    assert data is not None
    return UserState.decode(data)


@pytest.mark.parametrize("others", [NAMES[2:], NAMES[:2]])
async def test_a_request_for_two_areas_is_booked_once_and_then_in_no_queue(
    surgery: Surgery, others: tuple[str, ...]
) -> None:
    other = replace(catchment("wedding", "10115"), keys=((0, xwing_public(seed("area key"))),), groups=GROUPS)
    nodes = tuple(surgery.federation.nodes[name].state.operator.origin_hash for name in others)
    grant = replace(surgery.grant("clinic-b"), version=2, areas=(other.area,))
    surgery.device.entries += [replace(other, nodes=nodes).encode(), grant.encode()]
    assert (await surgery.device.publish(surgery.federation.url("north"), 3))[0] == 200
    await surgery.federation.agree()
    places = surgery.place, Place(surgery.mediator.id, other.area)
    seeds = {area_name(place.mediator, place.area): [seed("area key")] for place in places}
    async with surgery.view() as view:
        user, one, two = surgery.user(view), surgery.practice(view), surgery.practice(view, "clinic-b")
        one.state.area_seeds = two.state.area_seeds = seeds
        user.state.areas = tuple((place.mediator, place.area) for place in places)
        request = await user.ask(with_work)
        until_s = int(time.time()) + SOON_S
        (drawn,) = await one.draw(places[0], 5)
        await one.offer(places[0], drawn, [slot(1)], until_s)
        await view.refresh([surgery.mediator.id])
        # Drawn in one area, it is not drawn in the other; but somebody may cheat.
        known = two.drawing._read(places[1], two.catchment(places[1]), request.sign(user.state.key), {})
        assert known is not None
        await two.offer(places[1], known, [slot(2)], until_s)
        found = {item.practice.subject: item for item in await user.offers()}
        for practice, number in ((two, 2), (one, 1)):
            user.state.chosen = None  # a client that cheats
            await user.accept(found[key_id(practice.state.key.public)], slot(number).name)
        assert len(await two.confirm()) == 1
        assert await one.confirm() == []
        for name in (*QUEUE_NODES, *others):
            rows = await surgery.federation.nodes[name].engine.fetch(
                "SELECT state FROM requests WHERE request = ?", request.name
            )
            assert set(rows) == {(CLAIMED,)}, name


async def test_a_practice_that_could_not_answer_confirms_when_it_can(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user, practice = surgery.user(view), surgery.practice(view)
        await user.ask(with_work)
        (drawn,) = await practice.draw(surgery.place, 1)
        await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + SOON_S)
        await user.accept((await user.offers())[0], slot(1).name)
        real = practice.letters.put

        async def fail(*_: object) -> list[str]:
            raise UnreachableError("the mailbox's nodes are down")

        practice.letters.put = fail  # type: ignore[method-assign, assignment]
        assert len(await practice.confirm()) == 1
        assert await user.check() is Standing.SENT
        practice.letters.put = real  # type: ignore[method-assign]
        assert await practice.confirm() == []
        assert await user.check() is Standing.BOOKED
        assert not practice.state.letters


async def test_who_accepted_while_no_node_would_open_a_mailbox_sends_it_when_one_does(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as mine, surgery.view() as theirs:
        user, practice = surgery.user(mine), surgery.practice(theirs)
        await user.ask(with_work)
        (drawn,) = await practice.draw(surgery.place, 5)
        await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + SOON_S)
        (found,) = await user.offers()

        async def fails(*_: object, **__: object) -> tuple[bytes, ...]:
            raise UnreachableError("no node opened a mailbox")

        with monkeypatch.context() as patch:
            patch.setattr(user.letters, "open_mailbox", fails)
            with pytest.raises(UnreachableError):
                await user.accept(found, slot(1).name)
            assert await user.check() is Standing.SENT, "it is chosen, and nothing was sent"
        await user.again()
        assert [booking.slot.name for booking in await practice.confirm()] == [slot(1).name]
        assert await user.check() is Standing.BOOKED


async def test_with_all_nodes_of_the_queue_gone_a_user_and_a_practice_are_told(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user, practice = surgery.user(view), surgery.practice(view)
        await surgery.federation.stop(*QUEUE_NODES)
        with pytest.raises((UnreachableError, RefusedError, BackendError)):
            await user.ask(with_work)
        with pytest.raises(UnreachableError, match="no node of this area answered"):
            await practice.draw(surgery.place, 1)
    assert sha256(user.state.claim) != bytes(32)


async def with_one_mailbox(user: User, monkeypatch: pytest.MonkeyPatch) -> Request:
    """Ask while only one node can be reached for a mailbox."""
    with monkeypatch.context() as patch:
        patch.setattr("peewit_clients.asking.MAILBOX_NODES", 1)
        return await user.ask(with_work)


async def test_a_mailbox_that_lost_nodes_gets_others_and_practices_write_there(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One node was down when it was opened, and the operator of the other leaves: no offer would ever arrive."""
    async with surgery.view() as view:
        user = surgery.user(view)
        first = await with_one_mailbox(user, monkeypatch)
        (alone,) = first.mailbox_nodes
        assert await user.offers() == []
        mended = user.state.request
        assert mended is not None
        assert (len(mended.mailbox_nodes), mended.mailbox_nodes[1], mended.name) == (2, alone, first.name)
        assert mended.version > first.version
        assert await user.ask(with_work) == mended, "once it has two, it stays as it is"
        left = next(name for name, node in surgery.federation.nodes.items() if node.state.operator.origin_hash == alone)
        async with surgery.view(*(name for name in NAMES if name != left)) as without:
            practice = surgery.practice(without)
            (drawn,) = await practice.draw(surgery.place, 1)
            await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + SOON_S)
            assert drawn.request == mended
        (found,) = await user.offers()
        await user.accept(found, slot(1).name)
        assert user.state.request == mended


async def test_a_mailbox_is_not_mended_at_the_price_of_the_request(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        first = await with_one_mailbox(user, monkeypatch)

        async def fails(*_: object) -> bool:
            raise UnreachableError("no node of these areas took the request")

        with monkeypatch.context() as patch:
            patch.setattr(user._asking, "_upload", fails)
            assert await user.offers() == []
        kept = user.state.request
        assert kept is not None
        assert kept.mailbox_nodes == first.mailbox_nodes
        await user.offers()
        mended = user.state.request
        assert mended is not None
        assert mended.version > kept.version + 1, "a number that a node may have seen is not used for something else"
        assert len(mended.mailbox_nodes) == 2
