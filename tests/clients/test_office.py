"""Between practices and their mediator: what others could forge or fill."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest

from peewit_clients.desk import Desk
from peewit_clients.letters import Letters
from peewit_clients.office import KEYS_KEPT, Office, letter_nodes, post_letter, work
from peewit_clients.practice_state import FACTS, PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_federation import cbor
from peewit_federation.appointment.applications import (
    Decision,
    Posted,
    decision_context,
    letter_context,
    read_application,
    sign_for,
)
from peewit_federation.appointment.envelope import Envelope
from peewit_federation.appointment.request import area_name
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.sealed import OVERHEAD_BYTES, SIZE_CLASSES, open_sealed, seal, xwing_public
from tests.clients.surgery import Surgery
from tests.federation_kit import NAMES, seed
from tests.federation_kit_http import post

FIELDS = {"name": "clinic-c", "postcode": "10115"}


async def applied(surgery: Surgery, view: RegistryView) -> tuple[Office, PracticeState]:
    state = PracticeState(surgery.mediator.id, seed("clinic-c"), seed("clinic-c", "encryption"))
    office = Office(view, state, os.urandom)
    await office.apply(FIELDS, [surgery.place], ["flu"])
    return office, state


async def decide(
    surgery: Surgery, view: RegistryView, state: PracticeState, signer: SigningKey, writer: SigningKey, no: str = ""
) -> None:
    """Send a decision to a practice, signed by somebody and written by somebody."""
    practice, public = key_id(state.key.public), xwing_public(state.encryption_seed)
    yes = Decision(practice, 1, "", b"\xa0", bytes(32), ((surgery.place.area, seed("key")),))
    plain = sign_for(Decision(practice, 0, no) if no else yes, signer)
    message = seal(public, plain, decision_context(practice, public))
    letters = Letters(view.pool, time.time, os.urandom)
    origins = letter_nodes(view, surgery.mediator.id, [surgery.place.area])
    await letters.put(practice, origins, writer, b"", message)


async def test_a_decision_by_somebody_else_counts_for_nothing(surgery: Surgery) -> None:
    async with surgery.view() as view:
        office, state = await applied(surgery, view)
        # Another practice may write into the mailbox, but not decide.
        await decide(surgery, view, state, SigningKey(seed("clinic-a")), SigningKey(seed("clinic-a")))
        assert await office.receive() == ""
        assert not state.data
        assert not state.area_seeds
        assert any("does not speak for" in line for lines in view.pool.complaints.values() for line in lines)
        await decide(surgery, view, state, surgery.device.key, surgery.device.key, "no licence")
        assert await office.receive() == "no licence"
        kept = PracticeState.load((kind, name, body) for kind, name, body in state.changed((FACTS, b"")) if body)
        assert kept is not None
        assert kept.rejected == "no licence", "it is told also the second time"
        await decide(surgery, view, state, surgery.device.key, surgery.device.key)
        assert await office.receive() == "admitted"
        assert state.rejected == ""
        assert state.data


async def test_a_letter_that_comes_late_takes_no_newer_key_away(surgery: Surgery) -> None:
    """With as many keys as are kept, one letter older than the last took the place of the key of this week."""
    async with surgery.view() as view:
        office, state = await applied(surgery, view)
        name, practice = area_name(state.mediator, surgery.place.area), key_id(state.key.public)

        def told(newest: int, count: int = KEYS_KEPT) -> list[bytes]:
            keys = tuple((surgery.place.area, seed("week", newest - n)) for n in range(count))
            office._learn(Decision(practice, 1, "", b"", b"", keys))
            return state.area_seeds[name]

        weeks = [seed("week", 40 - n) for n in range(KEYS_KEPT)]
        assert told(38)[0] == seed("week", 38)
        assert told(40) == weeks
        assert told(39) == weeks
        assert told(40, 1) == weeks
        office._learn(Decision(practice, 1, "", b"", b"", ((surgery.place.area, seed("area key")),)))
        for newest in (500, 600):
            assert told(newest)[0] == seed("area key"), "the mediator's log says that it is the one of now"


async def test_an_application_is_sealed_to_the_device_and_read_by_nobody_else(surgery: Surgery) -> None:
    async with surgery.view() as view:
        _, state = await applied(surgery, view)
        rows = []
        for node in surgery.federation.nodes.values():
            rows += await node.engine.fetch("SELECT body FROM letters")
        assert len(rows) == 2, "two nodes hold it"
        ((_, sealed),) = Posted.decode(rows[0][0]).copies
        device = next(iter(surgery.federation.nodes.values())).keeper.registry.vouched.device(surgery.device.origin)
        assert device is not None
        context = letter_context(surgery.mediator.id, device.encryption_key)
        plain = open_sealed(seed("device encryption"), sealed, context)
        assert read_application(plain).signing_key == state.key.public
        assert all(b"clinic-c" not in body for (body,) in rows)


async def test_letters_cost_work_and_a_letterbox_is_bounded_and_only_its_mediator_reads(surgery: Surgery) -> None:
    node, mediator = surgery.federation.nodes["north"], surgery.mediator.id
    url = f"{surgery.federation.url('north')}/v1/letterboxes/{mediator.hex()}"
    copies = tuple((seed("key", n), bytes(OVERHEAD_BYTES + SIZE_CLASSES[0])) for n in range(1))
    status, answer = await post(url, Posted(copies).encode())
    assert (status, b"costs work" in answer) == (403, True)
    done = work(Posted(copies), mediator)
    node.state.config.limits.letters = 1
    for _ in range(2):
        assert (await post(url, done.encode()))[0] == 200, "the same again is no second one"
    other = work(Posted(((seed("other"), copies[0][1]),)), mediator)
    status, answer = await post(url, other.encode())
    assert (status, b"letterbox is full" in answer) == (429, True)
    nobody = f"{surgery.federation.url('north')}/v1/letterboxes/{bytes(32).hex()}"
    assert (await post(nobody, done.encode()))[0] == 404

    async def asked(key: SigningKey, what: str, body: bytes, expected: int) -> bytes:
        path = f"/v1/letterboxes/{mediator.hex()}/{what}"
        origin, now_ms = node.state.operator.origin_hash, int(time.time() * 1000)
        envelope = Envelope("POST", path, origin, now_ms, os.urandom(16), key.public, body)
        status, answer = await post(surgery.federation.url("north") + path, envelope.sign(key))
        assert status == expected, answer
        return answer

    for stranger in ("stranger", "clinic-a"):
        await asked(SigningKey(seed(stranger)), "read", b"", 403)
        await asked(SigningKey(seed(stranger)), "delete", cbor.encode([done.digest]), 403)
    assert cbor.decode(await asked(surgery.device.key, "read", b"", 200)) == [done.encode()]
    await asked(surgery.device.key, "delete", cbor.encode([done.digest]), 200)
    assert cbor.decode(await asked(surgery.device.key, "read", b"", 200)) == []
    assert (await post(url, done.encode()))[0] == 200
    await node.letterboxes.expire(time.time() + 31 * 86_400)
    assert await node.engine.fetch("SELECT count(*) FROM letters") == [(0,)]


async def test_letters_that_nobody_can_open_hide_nothing_that_lies_behind_them(
    surgery: Surgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peewit_federation.appointment.applications.WORK_BITS", 0)
    for module in ("peewit_node.appointment.letterboxes", "peewit_clients.desk"):
        monkeypatch.setattr(f"{module}.LETTERS_MAX", 2)
    mediator, there = surgery.mediator.id, []
    for number in range(5):
        junk = Posted(((seed("nobody", number), bytes(OVERHEAD_BYTES + SIZE_CLASSES[0])),), bytes(8))
        there.append(junk.digest)
        assert (await post(f"{surgery.federation.url('north')}/v1/letterboxes/{mediator.hex()}", junk.encode()))[
            0
        ] == 200
    async with surgery.view() as view:
        role = SimpleNamespace(
            pool=view.pool, clock=time.time, random_bytes=os.urandom, state=SimpleNamespace(key=surgery.device.key),
            identity=SimpleNamespace(id=mediator),
        )  # fmt: skip
        desk = Desk(role)  # type: ignore[arg-type]
        north = next(backend for backend in view.pool.backends if backend.name == "north")
        assert sorted(letter.digest for letter in await desk._letters_at(north)) == sorted(there)
        assert desk.complaints == []


async def test_with_no_node_a_letter_is_not_lost_silently(surgery: Surgery) -> None:
    async with surgery.view() as view:
        await surgery.federation.stop(*NAMES)
        with pytest.raises(Exception, match="no node took the letter"):
            await post_letter(view, surgery.mediator.id, b"hello")
