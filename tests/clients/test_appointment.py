"""An appointment from the request to the confirmation, between real clients over real nodes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from random import Random

import pytest

from peewit_clients.place import with_code, with_work
from peewit_clients.pool import BackendError, UnreachableError
from peewit_clients.user import User
from peewit_clients.user_state import UserState
from peewit_clients.vault import Vault
from peewit_federation import cbor
from peewit_federation.appointment.messages import CONFIRMED, DECLINED, practice_data
from peewit_federation.appointment.queue_api import Place, encode_claim, encode_draw, encode_offered
from peewit_federation.appointment.request import area_name, open_request
from peewit_federation.cose import sign1
from peewit_federation.draw.hashes import Person
from peewit_federation.errors import RefusedError
from peewit_federation.keys import SigningKey, key_id, sha256
from peewit_federation.sealed import xwing_public
from peewit_node.appointment.queue import CLAIMED, Queues
from peewit_node.config import Admission as AdmissionSettings
from peewit_node.node import DATABASE
from tests.clients.surgery import GROUPS, QUEUE_NODES, Surgery, slot
from tests.federation_kit import NAMES, catchment, seed
from tests.federation_kit_http import get, post
from tests.node.test_draw import codes
from tests.node.test_mailboxes import Caller

SOON_S = 3600
ERIKA = Person("Muster", "Erika", date(1940, 8, 12))


@pytest.fixture
async def surgery(tmp_path: Path) -> AsyncIterator[Surgery]:
    found = await Surgery.open(tmp_path)
    yield found
    await found.federation.stop()


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
        confirm = await user.confirmation()
        assert confirm is not None
        assert (confirm.state, confirm.slot, confirm.begins) == (CONFIRMED, slot(2).name, booking.slot.begins_s)
        assert booking.person == user.state.person
        assert await practice.draw(surgery.place, 5) == [], "a booked request is in no queue any more"
        assert await practice.confirm() == []


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
        confirm = await user.confirmation()
        assert confirm is not None
        assert confirm.state == CONFIRMED
        assert booking.slot.name == slot(1).name


async def test_practices_draw_in_the_order_of_group_round_and_priority(surgery: Surgery) -> None:
    async with surgery.view() as view:
        users = [surgery.user(view, f"Person {n}", GROUPS[0] if n % 3 == 0 else "") for n in range(9)]
        for user in users:
            await user.ask(with_work)
        practice = surgery.practice(view)
        drawn = [*await practice.draw(surgery.place, 4)]
        assert len(drawn) == 4
        due = sorted(users, key=lambda user: (user.state.group == "", user.place and user.place.priority))
        assert [d.request.name for d in drawn] == [user.state.request and user.state.request.name for user in due[:4]]
        others = await surgery.practice(view, "clinic-b").draw(surgery.place, 9)
        assert [d.request.name for d in others] == [user.state.request and user.state.request.name for user in due[4:]]
        area = area_name(surgery.place.mediator, surgery.place.area).hex()
        status, answer = await get(f"{surgery.federation.url('north')}/v1/queue/{area}")
        assert status == 200
        assert [row[2] for row in cbor.decode(answer)] == [3, 6], "anybody may know how many wait"


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


async def test_a_thief_of_a_request_cannot_put_another_in_its_place(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        request = await user.ask(with_work)
        url, thief = surgery.federation.url("west"), SigningKey(seed("thief"))
        stolen = replace(request, key=thief.public, version=9, mailbox=seed("box of the thief"))
        status, answer = await post(f"{url}/v1/requests", stolen.sign(thief))
        assert (status, b"operators admitted this request" in answer) == (422, True)
        for changed in (
            replace(request, version=2, group="over80"), replace(request, version=2, round=request.round - 1),
            replace(request, version=2, data=seed("other D")), replace(request, version=2, ticket=bytes(80)),
            replace(request, version=2, areas=((surgery.mediator.id, bytes(16)),)),
        ):  # fmt: skip
            status, answer = await post(f"{url}/v1/requests", changed.sign(user.state.key))
            assert status in (403, 404, 422), answer
        status, _ = await post(f"{url}/v1/requests", request.sign(user.state.key))
        assert status == 200, "the same again is harmless"


async def test_a_later_version_replaces_and_withdraws_and_an_earlier_one_is_refused(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user, practice = surgery.user(view), surgery.practice(view)
        request = await user.ask(with_work)
        for name in QUEUE_NODES:
            url = surgery.federation.url(name)
            assert (await post(f"{url}/v1/requests", replace(request, version=3, wishes=()).sign(user.state.key)))[
                0
            ] == 200
            status, answer = await post(f"{url}/v1/requests", request.sign(user.state.key))
            assert (status, b"version 3" in answer) == (409, True)
        assert await practice.draw(surgery.place, 5) == []
        for name in QUEUE_NODES:
            url = surgery.federation.url(name)
            assert (await post(f"{url}/v1/requests", replace(request, version=4).sign(user.state.key)))[0] == 200
        assert len(await practice.draw(surgery.place, 5)) == 1, "it comes back in its old place"


async def test_sixteen_practices_at_once_draw_each_request_once(surgery: Surgery) -> None:
    async with surgery.view() as view:
        for number in range(5):
            await surgery.user(view, f"Person {number}").ask(with_work)
        practices = [surgery.practice(view, name) for name in ("clinic-a", "clinic-b")] * 8
        call = Caller(surgery.federation)
        bodies = [call.signed(practice.key, "/v1/queue/draw", encode_draw(surgery.place, 2)) for practice in practices]
        answers = await asyncio.gather(*(post(call.url + "/v1/queue/draw", body) for body in bodies))
        drawn = [open_request(data).name for _, answer in answers for data in cbor.decode(answer)]
        assert len(drawn) == len(set(drawn)) == 5


async def test_sixteen_claims_at_once_end_a_request_for_one_practice(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        request = await user.ask(with_work)
        call, keys = Caller(surgery.federation), [SigningKey(seed(name)) for name in ("clinic-a", "clinic-b")]
        wrong = encode_claim(surgery.place, request.name, seed("guess"))
        await call(keys[0], "/v1/queue/claim", wrong, 403)
        body = encode_claim(surgery.place, request.name, user.state.claim)
        claims = [call.signed(keys[number % 2], "/v1/queue/claim", body) for number in range(16)]
        answers = await asyncio.gather(*(post(call.url + "/v1/queue/claim", claim) for claim in claims))
        statuses = [status for status, _ in answers]
        assert sorted((set(statuses[::2]), set(statuses[1::2])), key=min) == [{200}, {409}]
        status, answer = await post(f"{call.url}/v1/requests", replace(request, version=2).sign(user.state.key))
        assert (status, b"it is claimed" in answer) == (409, True)


async def test_only_practices_of_the_area_draw_and_only_from_nodes_that_hold_its_queue(surgery: Surgery) -> None:
    call, stranger = Caller(surgery.federation), SigningKey(seed("stranger"))
    body = encode_draw(surgery.place, 2)
    await call(stranger, "/v1/queue/draw", body, 403)
    clinic = SigningKey(seed("clinic-a"))
    await call(clinic, "/v1/queue/draw", encode_draw(replace(surgery.place, area=bytes(16)), 2), 404)
    await Caller(surgery.federation, "south")(clinic, "/v1/queue/draw", body, 404)
    await call(clinic, "/v1/queue/offered", encode_offered(surgery.place, bytes(32), int(time.time()) + 3600), 409)
    await call(clinic, "/v1/queue/claim", encode_claim(surgery.place, bytes(32), bytes(32)), 404)
    surgery.device.entries.append(surgery.grant("clinic-a", version=2, status=1).encode())
    assert (await surgery.device.publish(surgery.federation.url("north"), 3))[0] == 200
    await surgery.federation.agree()
    await call(clinic, "/v1/queue/draw", body, 403)


async def test_who_does_not_answer_three_offers_is_parked_and_never_loses_the_place(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user, key = surgery.user(view), SigningKey(seed("clinic-a"))
        request = await user.ask(with_work)
        queues = surgery.federation.nodes["north"].queues
        area, now = area_name(surgery.place.mediator, surgery.place.area), int(time.time())
        clock = surgery.federation.nodes["north"].state
        real = clock.clock
        for turn in range(3):
            clock.clock = lambda turn=turn: real() + 1000 * turn  # type: ignore[misc]
            assert len(await queues.draw(area, key_id(key.public), 5)) == 1, turn
            assert await queues.draw(area, key_id(key.public), 5) == []
            with pytest.raises(RefusedError, match="may be answered for"):
                await queues.offered(area, request.name, key_id(key.public), now + 1000 * turn + 5)
            await queues.offered(area, request.name, key_id(key.public), now + 1000 * turn + 700)
        clock.clock = lambda: real() + 9000
        assert await queues.draw(area, key_id(key.public), 5) == []
        await queues.take(replace(request, version=2).sign(user.state.key))
        assert len(await queues.draw(area, key_id(key.public), 5)) == 1


async def test_offers_that_should_not_be_accepted_are_dropped_and_say_why(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user, practice = surgery.user(view), surgery.practice(view)
        await user.ask(with_work)
        (drawn,) = await practice.draw(surgery.place, 1)
        until_s = int(time.time()) + SOON_S
        practice.data = practice_data({"name": "clinic-a", "street": "Somewhere else 7"})
        await practice.offer(surgery.place, drawn, [slot(1)], until_s)
        assert await user.offers() == []
        assert "did not commit to" in user.dropped[-1]
        evil = surgery.practice(view, "clinic-b")
        await evil.offer(surgery.place, drawn, [slot(2)], until_s)
        (found,) = await user.offers()
        surgery.device.entries.append(surgery.grant("clinic-b", version=2, status=1).encode())
        assert (await surgery.device.publish(surgery.federation.url("north"), 3))[0] == 200
        await surgery.federation.agree()
        with pytest.raises(RefusedError, match="suspended"):
            await user.accept(found, slot(2).name)
        assert await user.offers() == []
        assert "suspended" in user.dropped[-1]
        assert found.practice.subject == key_id(evil.key.public)


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
        assert not practice.booked


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
        await user.accept(found[key_id(one.key.public)], slot(1).name)
        assert len(await one.confirm()) == 1
        with pytest.raises(RefusedError, match="another offer was accepted"):
            await user.accept(found[key_id(two.key.public)], slot(9, "clinic-b").name)
        user.state.chosen = None  # a client that cheats
        await user.accept(found[key_id(two.key.public)], slot(9, "clinic-b").name)
        assert await two.confirm() == []
        confirm = await user.confirmation()
        assert confirm is not None
        assert confirm.state == DECLINED


async def test_what_one_node_of_a_queue_takes_the_other_learns_also_after_it_was_down(surgery: Surgery) -> None:
    one, other = QUEUE_NODES
    area = area_name(surgery.place.mediator, surgery.place.area)
    async with surgery.view() as view:
        await surgery.federation.stop(other)
        user, practice = surgery.user(view), surgery.practice(view)
        request = await user.ask(with_work)
        await surgery.federation.start(other)
        queues = surgery.federation.nodes[other].queues
        await until_async(lambda: queues.waiting(area))
        await surgery.federation.stop(one)
        (drawn,) = await practice.draw(surgery.place, 5)
        assert drawn.request == request
        await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + SOON_S)
        (found,) = await user.offers()
        await user.accept(found, slot(1).name)
        assert len(await practice.confirm()) == 1
        await surgery.federation.start(one)
        back = surgery.federation.nodes[one].queues
        await until_async(lambda: _claimed(back))
        body = encode_claim(surgery.place, request.name, user.state.claim)
        await Caller(surgery.federation, one)(SigningKey(seed("clinic-b")), "/v1/queue/claim", body, 409)


async def _claimed(queues: Queues) -> bool:
    return any(told.state == CLAIMED for _, told in await queues.after(0, 10))


async def until_async(holds: Callable[[], Awaitable[object]], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await holds():
            await asyncio.sleep(0.05)


async def test_a_lease_at_one_node_is_known_at_the_other(surgery: Surgery) -> None:
    async with surgery.view() as view:
        await surgery.user(view).ask(with_work)
        area = area_name(surgery.place.mediator, surgery.place.area)
        one, other = (surgery.federation.nodes[name].queues for name in QUEUE_NODES)
        assert len(await one.draw(area, key_id(b"clinic-a"), 5)) == 1

        async def leased() -> bool:
            return any(told.free_at > time.time() for _, told in await other.after(0, 10))

        await until_async(leased)
        assert await other.draw(area, key_id(b"clinic-b"), 5) == []


async def test_only_nodes_of_the_charter_tell_what_changes_and_what_they_say_is_checked(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        request = await user.ask(with_work)
        call, stranger = Caller(surgery.federation), SigningKey(seed("stranger"))
        body, clinic = request.sign(user.state.key), key_id(SigningKey(seed("clinic-a")).public)
        lie = cbor.encode([[body, CLAIMED, seed("guess"), clinic, 0, 0]])
        await call(stranger, "/federation/v1/queue", lie, 403)
        south = surgery.federation.nodes["south"].state.log_key
        assert await call(south, "/federation/v1/queue", lie) == cbor.encode(1)
        for wrong in (b"\xf6", cbor.encode([[body]]), cbor.encode([[body, 9, b"", b"", 0, 0]])):
            await call(south, "/federation/v1/queue", wrong, 400)
        assert not await _claimed(surgery.federation.nodes["north"].queues)


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
                    left = [random.randrange(1, 9)]
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
                            if await user.confirmation():
                                break
                    except CutError:
                        cuts += 1
            for drawn in await practice.draw(surgery.place, 5):
                number = next(practice_slots)
                await practice.offer(surgery.place, drawn, [slot(number)], int(time.time()) + SOON_S)
            await practice.confirm()
    assert cuts > 3
    assert len(names) == 1, "one code was worth one place"
    assert len(practice.booked) == 1
    assert b"Erika" not in b"".join(path.read_bytes() for path in (tmp_path / "me").iterdir()), "encrypted at rest"


def _keep(vault: Vault, state: UserState) -> None:
    vault.write(state.encode())


def _loaded(vault: Vault) -> UserState:
    data = vault.read()
    assert data is not None
    return UserState.decode(data)


async def test_a_request_for_two_areas_is_booked_once_and_then_in_no_queue(surgery: Surgery) -> None:
    other = replace(catchment("wedding", "10115"), keys=((0, xwing_public(seed("area key"))),), groups=GROUPS)
    nodes = tuple(surgery.federation.nodes[name].state.operator.origin_hash for name in NAMES[2:])
    grant = replace(surgery.grant("clinic-b"), version=2, areas=(other.area,))
    surgery.device.entries += [replace(other, nodes=nodes).encode(), grant.encode()]
    assert (await surgery.device.publish(surgery.federation.url("north"), 3))[0] == 200
    await surgery.federation.agree()
    places = surgery.place, Place(surgery.mediator.id, other.area)
    seeds = {area_name(place.mediator, place.area): [seed("area key")] for place in places}
    async with surgery.view() as view:
        user, one, two = surgery.user(view), surgery.practice(view), surgery.practice(view, "clinic-b")
        one.area_seeds = two.area_seeds = seeds
        user.state.areas = tuple((place.mediator, place.area) for place in places)
        request = await user.ask(with_work)
        until_s = int(time.time()) + SOON_S
        (drawn,) = await one.draw(places[0], 5)
        await one.offer(places[0], drawn, [slot(1)], until_s)
        await view.refresh([surgery.mediator.id])
        # Drawn in one area, it is not drawn in the other; but somebody may cheat.
        known = two._read(places[1], two._catchment(places[1]), request.sign(user.state.key))
        await two.offer(places[1], known, [slot(2)], until_s)
        found = {item.practice.subject: item for item in await user.offers()}
        for practice, number in ((two, 2), (one, 1)):
            user.state.chosen = None  # a client that cheats
            await user.accept(found[key_id(practice.key.public)], slot(number).name)
        assert len(await two.confirm()) == 1
        assert await one.confirm() == []
        for name in NAMES:
            rows = await surgery.federation.nodes[name].engine.fetch(
                "SELECT state FROM requests WHERE request = ?", request.name
            )
            assert rows == [(CLAIMED,)], name


async def test_a_practice_that_could_not_answer_confirms_when_it_can(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user, practice = surgery.user(view), surgery.practice(view)
        await user.ask(with_work)
        (drawn,) = await practice.draw(surgery.place, 1)
        await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + SOON_S)
        await user.accept((await user.offers())[0], slot(1).name)
        real = practice._answer

        async def fail(*_: object) -> None:
            raise UnreachableError("the mailbox's nodes are down")

        practice._answer = fail  # type: ignore[method-assign, assignment]
        assert await practice.confirm() == []
        practice._answer = real  # type: ignore[method-assign]
        assert len(await practice.confirm()) == 1
        confirm = await user.confirmation()
        assert confirm is not None
        assert confirm.state == CONFIRMED


async def test_a_huge_request_does_not_stop_the_nodes_of_a_queue_from_telling_each_other(surgery: Surgery) -> None:
    async with surgery.view() as view:
        users = [surgery.user(view, f"Person {number}") for number in range(3)]
        url = surgery.federation.url("north")
        await surgery.federation.stop("west")
        for user in users:
            request = await user.ask(with_work)
            fields = cbor.decode(request.encode())
            padded = cbor.encode({**fields, 99: bytes(20_000), 7: fields[7]})
            signed = sign1(padded, "peewit request v1", user.state.key).encode()
            changed = replace(request, version=2).encode()
            later = cbor.encode({**cbor.decode(changed), 99: bytes(20_000)})
            assert (await post(f"{url}/v1/requests", signed))[0] in (200, 409)
            assert (await post(f"{url}/v1/requests", sign1(later, "peewit request v1", user.state.key).encode()))[
                0
            ] == 200
            status, _ = await post(f"{url}/v1/requests", sign1(padded + bytes(50_000), "x", user.state.key).encode())
            assert status == 413
        await surgery.federation.start("west")
        area = area_name(surgery.place.mediator, surgery.place.area)

        async def arrived() -> bool:
            return sum(row.count for row in await surgery.federation.nodes["west"].queues.waiting(area)) == 3

        await until_async(arrived)


async def test_with_all_nodes_of_the_queue_gone_a_user_and_a_practice_are_told(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user, practice = surgery.user(view), surgery.practice(view)
        await surgery.federation.stop(*QUEUE_NODES)
        with pytest.raises((UnreachableError, RefusedError, BackendError)):
            await user.ask(with_work)
        with pytest.raises(UnreachableError, match="no node of this area answered"):
            await practice.draw(surgery.place, 1)
    assert sha256(user.state.claim) != bytes(32)
