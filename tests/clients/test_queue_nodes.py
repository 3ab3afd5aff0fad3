"""The nodes of a queue: what they tell each other, and what one that lies about it can do to nobody."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace

import pytest

from peewit_clients.place import with_work
from peewit_clients.user import User
from peewit_clients.user_state import UserState
from peewit_federation import cbor
from peewit_federation.appointment.queue_api import (
    CLAIMED,
    ROUNDS_MAX,
    WAITING,
    Draw,
    Place,
    encode_claim,
    encode_offered,
)
from peewit_federation.appointment.request import area_name, claim_link
from peewit_federation.appointment.spoken import (
    VERSION,
    Shown,
    decode_claimed,
    shown_claim,
)
from peewit_federation.cose import sign1
from peewit_federation.errors import UnknownError
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.statements.mediator import Catchment
from peewit_node.appointment.forward import PATH
from peewit_node.peers import Peer
from tests.clients.surgery import GROUPS, QUEUE_NODES, Surgery, slot, states, until_async
from tests.federation_kit import seed
from tests.federation_kit_http import post
from tests.node.test_mailboxes import Caller

SOON_S = 3600


async def test_what_one_node_of_a_queue_takes_the_other_learns_also_after_it_was_down(surgery: Surgery) -> None:
    one, other = QUEUE_NODES
    area = area_name(surgery.place.mediator, surgery.place.area)
    async with surgery.view() as view:
        await surgery.federation.stop(other)
        user, practice = surgery.user(view), surgery.practice(view)
        request = await user.ask(with_work)
        await surgery.federation.start(other)
        areas = surgery.federation.nodes[other].areas
        await until_async(lambda: areas.waiting(area))
        await surgery.federation.stop(one)
        (drawn,) = await practice.draw(surgery.place, 5)
        assert drawn.request == request
        await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + SOON_S)
        (found,) = await user.offers()
        await user.accept(found, slot(1).name)
        assert len(await practice.confirm()) == 1
        await surgery.federation.start(one)

        async def claimed() -> bool:
            return await states(surgery, one) == [CLAIMED]

        await until_async(claimed)
        body = encode_claim(surgery.place, request.name, claim_link(user.state.claim, 0))
        answer = await Caller(surgery.federation, one)(SigningKey(seed("clinic-b")), "/v1/queue/claim", body)
        shown = decode_claimed(answer)
        assert shown is not None
        assert shown_claim(shown[1], request).practice == key_id(practice.state.key.public)


async def test_an_offer_that_one_node_was_told_is_known_at_the_other(surgery: Surgery) -> None:
    one, other = QUEUE_NODES
    async with surgery.view() as view:
        request = await surgery.user(view).ask(with_work)
        clinic, call = SigningKey(seed("clinic-a")), Caller(surgery.federation, one)
        assert len(cbor.decode(await call(clinic, "/v1/queue/draw", Draw(surgery.place, 5).encode()))) == 1
        until_s = int(time.time()) + SOON_S
        await call(clinic, "/v1/queue/offered", encode_offered(surgery.place, request.name, until_s))
        engine = surgery.federation.nodes[other].engine

        async def known(free_at: int, misses: int) -> bool:
            return await engine.fetch("SELECT free_at, misses FROM requests") == [(free_at, misses)]

        await until_async(lambda: known(until_s, 1))
        await call(clinic, "/v1/queue/offered", encode_offered(surgery.place, request.name, 0))
        another = Caller(surgery.federation, other)

        async def free() -> bool:
            body = another.signed(SigningKey(seed("clinic-b")), "/v1/queue/draw", Draw(surgery.place, 5).encode())
            return len(cbor.decode((await post(another.url + "/v1/queue/draw", body))[1])) == 1

        await until_async(free)
        assert await engine.fetch("SELECT misses FROM requests") == [(0,)], "that it is over is told, too"


async def test_a_node_of_a_queue_cannot_hold_back_park_or_end_anybodys_request(surgery: Surgery) -> None:
    """Only what a practice has signed counts, and only once."""
    async with surgery.view() as view:
        user = surgery.user(view)
        request = await user.ask(with_work)
        body, clinic, stranger = (
            request.sign(user.state.key),
            SigningKey(seed("clinic-a")),
            SigningKey(seed("stranger")),
        )
        epoch, call, west = bytes(16), Caller(surgery.federation), surgery.federation.nodes["west"].state.log_key
        at_west = Caller(surgery.federation, "west")
        area = area_name(surgery.place.mediator, surgery.place.area)
        now_s = int(time.time())

        def offer(at: Caller, key: SigningKey, until_s: int, place: Place = surgery.place) -> bytes:
            return at.signed(key, "/v1/queue/offered", encode_offered(place, request.name, until_s))

        def claim(at: Caller, key: SigningKey, secret: bytes) -> bytes:
            return at.signed(key, "/v1/queue/claim", encode_claim(surgery.place, request.name, secret))

        async def tell(*proofs: bytes, key: SigningKey = west) -> int:
            told = cbor.encode([epoch, [[body, proof] for proof in proofs]])
            answer = cbor.decode(await call(key, "/federation/v1/queue", told))
            assert isinstance(answer, list)
            return int(answer[1])

        at_south = Caller(surgery.federation, "south")
        assert await tell(offer(at_south, clinic, now_s + SOON_S)) == 0, "of no use: south counts no leases"
        lies = [
            offer(at_west, stranger, now_s + SOON_S),
            offer(at_west, clinic, now_s + 5 * 86_400),
            offer(at_west, clinic, now_s + 60),
            offer(at_west, clinic, now_s + SOON_S, replace(surgery.place, area=bytes(16))),
            claim(at_west, clinic, seed("guess")),
            claim(at_west, stranger, claim_link(user.state.claim, 0)),
        ]
        assert await tell(*lies) == len(lies)
        assert await tell(b"no envelope", at_west.signed(clinic, "/v1/queue/draw", b"x")) == 0, "never of use"
        assert await user.states() == {area: WAITING}
        rows = await surgery.federation.nodes["north"].engine.fetch("SELECT free_at, misses FROM requests")
        assert rows == [(0, 0)]
        one = offer(at_west, clinic, now_s + SOON_S)
        assert await tell(one, one, one) == 0
        over = offer(at_west, clinic, 0)
        assert await tell(over, one, one) == 0
        rows = await surgery.federation.nodes["north"].engine.fetch("SELECT misses, state FROM requests")
        assert rows == [(0, WAITING)], "the same again, and what is older than what was said last, changes nothing"


async def test_only_nodes_of_the_charter_tell_what_changes_and_what_they_say_is_checked(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        request = await user.ask(with_work)
        call, stranger = Caller(surgery.federation), SigningKey(seed("stranger"))
        body, epoch = request.sign(user.state.key), bytes(16)
        told = cbor.encode([epoch, [[body, b""]]])
        await call(stranger, "/federation/v1/queue", told, 403)
        south = surgery.federation.nodes["south"].state.log_key
        answer = cbor.decode(await call(south, "/federation/v1/queue", told))
        assert isinstance(answer, list)
        assert answer[1] == 0, "who held the queue before tells as well; it is checked as if the user had brought it"
        for wrong in (b"\xf6", cbor.encode([epoch, [[body]]]), cbor.encode([[body, b""]]), cbor.encode([b"x", []])):
            await call(south, "/federation/v1/queue", wrong, 400)


async def test_a_node_that_lost_its_database_gets_its_queue_back(surgery: Surgery) -> None:
    one, other = QUEUE_NODES
    async with surgery.view() as view:
        for number in range(3):
            await surgery.user(view, f"Person {number}").ask(with_work)

        async def there() -> bool:
            return len(await states(surgery, other)) == 3

        await until_async(there)
        await surgery.federation.stop(other)
        for path in (surgery.federation.folder / other).glob("node.sqlite*"):
            path.unlink()
        await surgery.federation.start(other)
        await until_async(there)
        await surgery.federation.stop(one)
        assert len(await surgery.practice(view).draw(surgery.place, 5)) == 3


async def test_a_node_that_says_ever_anew_that_it_lost_everything_is_told_it_seldom(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        await surgery.user(view).ask(with_work)
        north, west = (surgery.federation.nodes[name] for name in QUEUE_NODES)
        asked = []
        real = north.peers.post

        async def post_and_forget(peer: Peer, path: str, body: bytes, size_bytes_max: int) -> bytes:
            if path == PATH:
                asked.append(peer.name)
                west.told.epoch = os.urandom(16)
            return await real(peer, path, body, size_bytes_max)

        monkeypatch.setattr(north.peers, "post", post_and_forget)
        await surgery.user(view, "Max").ask(with_work)
        await asyncio.sleep(3)
        assert 0 < sum(name == "west" for name in asked) < 12


async def test_what_a_node_could_not_use_is_told_again_though_nothing_changes(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peewit_node.appointment.forward.AGAIN_S", 0.5)
    monkeypatch.setattr("peewit_node.appointment.forward.PAUSE_S", 0.01)
    north, west = (surgery.federation.nodes[name] for name in QUEUE_NODES)
    real, refusals = west.queues.hear, []

    async def not_yet(*told: object) -> None:
        refusals.append(told)
        raise UnknownError("that area is not known here yet")

    monkeypatch.setattr(west.queues, "hear", not_yet)
    monkeypatch.setattr(west.queues, "take", not_yet)
    async with surgery.view("north", "south", "east") as view:
        await surgery.user(view).ask(with_work)

        async def skipped() -> bool:
            return bool(north.told.of("west").skipped)

        await until_async(skipped)
        monkeypatch.undo()
        assert west.queues.hear == real

        async def there() -> bool:
            return len(await states(surgery, "west")) == 1

        await until_async(there, 10.0)
    assert len(refusals) >= 6


async def test_a_node_that_hands_out_what_is_over_keeps_nobody_from_being_drawn(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        users = [surgery.user(view, f"Person {number}", GROUPS[0]) for number in range(3)]
        practice = surgery.practice(view)
        over = []
        for number, user in enumerate(users):
            request = await user.ask(with_work)
            over.append(request.sign(user.state.key))
            (drawn,) = await practice.draw(surgery.place, 1)
            await practice.offer(surgery.place, drawn, [slot(number)], int(time.time()) + SOON_S)
            (found,) = await user.offers()
            await user.accept(found, slot(number).name)
            assert len(await practice.confirm()) == 1
        last = surgery.user(view, "Last")
        waits = await last.ask(with_work)

        async def only_what_is_over(*_: object) -> list[bytes]:
            return over

        monkeypatch.setattr(surgery.federation.nodes[QUEUE_NODES[0]].queues, "draw", only_what_is_over)
        drawn_now = await surgery.practice(view, "clinic-b").draw(surgery.place, 1)
        assert [one.request.name for one in drawn_now] == [waits.name]
        schedule = view.charter.schedule
        assert schedule is not None
        late = surgery.practice(view, "clinic-b")
        late_s = time.time() + (ROUNDS_MAX + 1) * schedule.round_s
        monkeypatch.setattr(view, "clock", lambda: late_s)
        monkeypatch.setattr(late.drawing._letters, "clock", time.time)
        assert await late.draw(surgery.place, 1) == [], "nor who has waited for too long"
        assert any("which has ended" in said for said in late.complaints)


async def test_a_node_that_withholds_people_cannot_put_a_friend_first(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        users = [surgery.user(view, f"Person {number}") for number in range(6)]
        for user in users:
            await user.ask(with_work)
        due = sorted(users, key=lambda user: user.place.priority if user.place else b"")
        friend = due[-1].state.request
        assert friend is not None
        body = friend.sign(due[-1].state.key)

        async def only_the_friend(*_: object) -> list[bytes]:
            return [body]

        monkeypatch.setattr(surgery.federation.nodes[QUEUE_NODES[0]].queues, "draw", only_the_friend)
        drawn = await surgery.practice(view).draw(surgery.place, 2)
        assert [one.request.name for one in drawn] == [
            user.state.request and user.state.request.name for user in due[:2]
        ]


async def test_a_device_that_was_put_back_from_a_copy_withdraws_what_it_said_later(surgery: Surgery) -> None:
    """A node that has a later version shows it, and the withdrawal comes after that."""
    async with surgery.view() as view:
        user = surgery.user(view)
        await user.ask(with_work)
        copy = user.state.encode()
        for hours in ((9, 12), (9, 11)):
            await user.change(("flu",), ((), (hours,), 0, (), "80-89"))
        restored = User(view, UserState.decode(copy), os.urandom, lambda _: None)
        await restored.withdraw()
        assert restored.state.withdrawn
        assert await surgery.practice(view).draw(surgery.place, 5) == []
        looking = User(view, UserState.decode(copy), os.urandom, lambda _: None)
        await looking.states()
        assert looking.state.withdrawn, "who only looks takes over what was said"


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
            return sum(row.count for row in await surgery.federation.nodes["west"].areas.waiting(area)) == 3

        await until_async(arrived)


async def test_a_node_that_shows_what_it_was_just_told_confuses_nobody(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        await user.ask(with_work)

        async def mirror(data: bytes) -> tuple[list[object], Shown]:
            return [], (VERSION, data)

        monkeypatch.setattr(surgery.federation.nodes["west"].queues, "take", mirror)
        await user.change(("flu",), ((), ((9, 12),), 0, (), "80-89"))
        assert user.state.request is not None
        assert user.state.request.version == 2
        await user.withdraw()
        assert user.state.withdrawn
        assert await surgery.practice(view).draw(surgery.place, 5) == []


async def test_a_node_that_is_named_for_an_area_anew_is_told_its_queue_also_by_who_held_it_before(
    surgery: Surgery,
) -> None:
    async with surgery.view() as view:
        await surgery.user(view, "Erika").ask(with_work)

        async def of_both() -> bool:
            return all([await states(surgery, name) == [WAITING] for name in QUEUE_NODES])

        await until_async(of_both)
        nodes = surgery.federation.nodes
        for name in QUEUE_NODES:
            await nodes[name].forwarder.rewind()  # as things stand, nobody is named anew
        others = tuple(nodes[name].state.operator.origin_hash for name in nodes if name not in QUEUE_NODES)
        area = replace(await area_of(surgery), version=2, nodes=others)
        surgery.device.entries.append(area.encode())
        before = len(surgery.device.entries) - 1
        assert (await surgery.device.publish(surgery.federation.url("north"), before))[0] == 200
        await surgery.federation.agree()
        late = surgery.user(view, "Max")  # who asks before anybody looked does not hide who asked before
        view.pool.only = QUEUE_NODES
        await view.refresh([surgery.mediator.id])
        await late.ask(with_work)
        for name in QUEUE_NODES:
            await nodes[name].forwarder.rewind()

        async def of_the_others() -> bool:
            return all([await states(surgery, name) == [WAITING] * 2 for name in nodes if name not in QUEUE_NODES])

        await until_async(of_the_others)


async def area_of(surgery: Surgery) -> Catchment:
    found = await surgery.federation.nodes["north"].queues._areas.catchment(surgery.place.mediator, surgery.place.area)
    assert found is not None
    return found


async def test_who_asked_is_told_on_though_the_practice_that_offered_last_may_not_act_any_more(
    surgery: Surgery,
) -> None:
    other = QUEUE_NODES[1]
    async with surgery.view() as view:
        user, practice = surgery.user(view), surgery.practice(view)
        await user.ask(with_work)
        (drawn,) = await practice.draw(surgery.place, 1)
        await practice.offer(surgery.place, drawn, [slot(1)], int(time.time()) + SOON_S)

        async def offered() -> bool:
            rows = await surgery.federation.nodes[other].engine.fetch("SELECT holder FROM requests")
            return bool(rows) and rows[0][0] != b""

        await until_async(offered)
        surgery.device.entries.append(surgery.grant("clinic-a", version=2, status=1).encode())
        before = len(surgery.device.entries) - 1
        assert (await surgery.device.publish(surgery.federation.url("north"), before))[0] == 200
        await surgery.federation.agree()
        await surgery.federation.stop(other)
        for path in (surgery.federation.folder / other).glob("node.sqlite*"):
            path.unlink()
        await surgery.federation.start(other)

        async def there() -> bool:
            rows = await surgery.federation.nodes[other].engine.fetch("SELECT state, holder FROM requests")
            return rows == [(WAITING, b"")]

        await until_async(there)
