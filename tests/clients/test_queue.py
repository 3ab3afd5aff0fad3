"""The queue of a catchment area at a real node: order, leases, offers, claims, and what is counted."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from peewit_clients.appointments import Appointments
from peewit_clients.place import with_work
from peewit_clients.user_state import Standing
from peewit_federation import cbor
from peewit_federation.appointment.queue_api import (
    CLAIMED,
    PARKED,
    ROUNDS_MAX,
    WAITING,
    Draw,
    encode_claim,
    encode_offered,
)
from peewit_federation.appointment.request import area_name, claim_link, open_request
from peewit_federation.appointment.spoken import (
    SAID,
    decode_claimed,
    decode_standing,
    shown_claim,
    shown_version,
)
from peewit_federation.draw.schedule import Schedule
from peewit_federation.errors import RefusedError
from peewit_federation.keys import SigningKey, key_id
from peewit_node.appointment import queue
from peewit_node.engine import Write
from peewit_node.sqlite import SqliteFile
from tests.clients.surgery import GROUPS, QUEUE_NODES, Surgery, said_offered, slot, states
from tests.federation_kit import seed
from tests.federation_kit_http import get, post
from tests.node.test_mailboxes import Caller

SOON_S = 3600


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
            states, shown = decode_standing(answer)
            assert (status, list(states.values())) == (200, [1])
            assert shown is not None
            assert shown_version(shown[1], request).version == 3, "it is shown what it was overtaken by"
        assert await practice.draw(surgery.place, 5) == []
        for name in QUEUE_NODES:
            url = surgery.federation.url(name)
            assert (await post(f"{url}/v1/requests", replace(request, version=4).sign(user.state.key)))[0] == 200
        assert len(await practice.draw(surgery.place, 5)) == 1, "it comes back in its old place"


async def test_sixteen_draws_at_once_give_each_request_to_one_practice(surgery: Surgery) -> None:
    async with surgery.view() as view:
        for number in range(5):
            await surgery.user(view, f"Person {number}").ask(with_work)
        practices = [surgery.practice(view, name) for name in ("clinic-a", "clinic-b")] * 8
        call = Caller(surgery.federation)
        bodies = [
            call.signed(practice.state.key, "/v1/queue/draw", Draw(surgery.place, 2).encode()) for practice in practices
        ]
        answers = await asyncio.gather(*(post(call.url + "/v1/queue/draw", body) for body in bodies))
        drawn: list[set[bytes]] = [set(), set()]
        for number, (_, answer) in enumerate(answers):
            drawn[number % 2] |= {open_request(data).name for data in cbor.decode(answer)}
        assert not drawn[0] & drawn[1]
        assert len(drawn[0] | drawn[1]) >= 4, "and a practice that asks again gets what it has"


async def test_sixteen_claims_at_once_end_a_request_for_one_practice(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        request = await user.ask(with_work)
        call, keys = Caller(surgery.federation), [SigningKey(seed(name)) for name in ("clinic-a", "clinic-b")]
        wrong = encode_claim(surgery.place, request.name, seed("guess"))
        await call(keys[0], "/v1/queue/claim", wrong, 403)
        body = encode_claim(surgery.place, request.name, claim_link(user.state.claim, 0))
        claims = [call.signed(keys[number % 2], "/v1/queue/claim", body) for number in range(16)]
        answers = await asyncio.gather(*(post(call.url + "/v1/queue/claim", claim) for claim in claims))
        assert {status for status, _ in answers} == {200}
        shown = [decode_claimed(answer) for _, answer in answers]
        won, lost = sorted((set(shown[::2]), set(shown[1::2])), key=lambda one: None not in one)
        winner = 0 if None in shown[::2] else 1
        assert won == {None}
        ((kind, proof),) = [one for one in lost if one is not None]
        assert kind == SAID
        assert shown_claim(proof, request).practice == key_id(keys[winner].public), "who was too late is shown by whom"
        _, answer = await post(f"{call.url}/v1/requests", replace(request, version=2).sign(user.state.key))
        states, instead = decode_standing(answer)
        assert (list(states.values()), instead) == ([CLAIMED], (SAID, proof))


async def test_only_practices_of_the_area_draw_and_only_from_nodes_that_hold_its_queue(surgery: Surgery) -> None:
    call, stranger = Caller(surgery.federation), SigningKey(seed("stranger"))
    body = Draw(surgery.place, 2).encode()
    await call(stranger, "/v1/queue/draw", body, 403)
    clinic = SigningKey(seed("clinic-a"))
    await call(clinic, "/v1/queue/draw", Draw(replace(surgery.place, area=bytes(16)), 2).encode(), 404)
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
            assert len(await queues.draw(area, key_id(key.public), 5)) == 1, "an answer may be lost"
            assert await queues.draw(area, seed("another practice"), 5) == []
            with pytest.raises(RefusedError, match="may be answered for"):
                await queues.offered(said_offered(surgery, request.name, key_id(key.public), now + 1000 * turn + 5))
            await queues.offered(said_offered(surgery, request.name, key_id(key.public), now + 1000 * turn + 700))
            assert await queues.draw(area, key_id(key.public), 5) == [], "it waits for an answer"
            if turn == 1:
                await queues.offered(said_offered(surgery, request.name, seed("another practice"), 0))
                assert await queues.draw(area, seed("another practice"), 5) == [], "who did not offer cannot end it"
        clock.clock = lambda: real() + 9000
        assert await queues.draw(area, key_id(key.public), 5) == []
        assert await user.states() == {area: PARKED}, "who asks is told"
        await user.renew()
        assert await user.states() == {area: WAITING}
        assert len(await queues.draw(area, key_id(key.public), 5)) == 1
        brought = user.state.request
        assert brought is not None
        assert brought == replace(request, version=2, wishes=brought.wishes)
        assert brought.wishes != request.wishes, "they are sealed to the keys that there are now"


async def test_a_request_that_no_node_keeps_any_more_gets_no_name_sent_and_who_is_booked_stays(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests wait for twelve rounds; appointments on them may lie behind that."""
    async with surgery.view() as view:
        practice, early, late = surgery.practice(view), surgery.user(view), surgery.user(view, "Max")
        for number, user in enumerate((early, late)):
            await user.ask(with_work)
            (drawn,) = await practice.draw(surgery.place, 1)
            await practice.offer(surgery.place, drawn, [slot(number)], int(time.time()) + SOON_S)
            (found,) = await user.offers()
            await user.accept(found, slot(number).name)
            if user is early:
                assert len(await practice.confirm()) == 1
        for name in QUEUE_NODES:
            await surgery.federation.nodes[name].engine.write(Write("DELETE FROM requests", ()))
        real = Schedule.round_at
        monkeypatch.setattr(Schedule, "round_at", lambda schedule, now_s: real(schedule, now_s) + ROUNDS_MAX + 1)
        assert await practice.confirm() == []
        assert await late.check() is Standing.DECLINED
        assert list(practice.state.booked) == [slot(0).name], "of whom is declined nothing is kept"
        assert await Appointments(practice).recheck() == []
        assert practice.complaints == []
        assert await early.check() is Standing.BOOKED
        late.state.chosen = None
        assert late.ended
        with pytest.raises(RefusedError, match="this request has ended"):
            await late.accept(found, slot(1).name)


async def test_an_offer_is_counted_once_however_often_it_is_told(surgery: Surgery) -> None:
    async with surgery.view() as view:
        request = await surgery.user(view).ask(with_work)
        clinic, call = SigningKey(seed("clinic-a")), Caller(surgery.federation)
        await call(clinic, "/v1/queue/draw", Draw(surgery.place, 5).encode())
        told = encode_offered(surgery.place, request.name, int(time.time()) + SOON_S)
        for _ in range(4):
            await call(clinic, "/v1/queue/offered", told)
        rows = await surgery.federation.nodes["north"].engine.fetch("SELECT misses, state FROM requests")
        assert rows == [(1, WAITING)]


async def test_numbers_of_changes_grow_though_everything_was_deleted(surgery: Surgery) -> None:
    """Other nodes remember up to which they were told."""
    async with surgery.view() as view:
        queues, node = surgery.federation.nodes["north"].queues, surgery.federation.nodes["north"]
        await surgery.user(view).ask(with_work)
        ((last, _, _),) = await queues.after(0, 10)
        real = node.state.clock
        schedule = view.charter.schedule
        assert schedule is not None
        late_s = (ROUNDS_MAX + 2) * schedule.round_s
        node.state.clock = lambda: real() + late_s
        await queues.expire()
        assert await states(surgery, "north") == [], "not one stays"
        node.state.clock = real
        await surgery.user(view, "Max").ask(with_work)
        assert [change for change, _, _ in await queues.after(last, 10)] == [last + 1]


@pytest.mark.parametrize("name", ["DRAW", "LEASED", "LEASE", "OFFERED", "CLAIM", "TAKE_OVER"])
async def test_no_question_to_a_queue_reads_all_that_wait(tmp_path: Path, name: str) -> None:
    SqliteFile(tmp_path / "node.sqlite").close()
    sql = getattr(queue, name)
    with closing(sqlite3.connect(tmp_path / "node.sqlite")) as database:
        steps = database.execute("EXPLAIN QUERY PLAN " + sql, (0,) * sql.count("?")).fetchall()
    assert steps
    read = [step[3] for step in steps if "SCAN" in step[3] and step[3] not in ("SCAN CONSTANT ROW", "SCAN next_change")]
    assert not read, steps
    assert not any("requests_in_order" in step[3] for step in steps) or name == "DRAW", steps
