"""Mailboxes at a real node: who may write, what is kept, and what an attacker gets."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peewit_clients.backend import UnreachableError
from peewit_clients.letters import Letters, NobodyThereError
from peewit_clients.pool import BackendPool
from peewit_federation import cbor
from peewit_federation.appointment.envelope import Envelope
from peewit_federation.appointment.mailbox import (
    MESSAGE_BYTES_MAX,
    MESSAGES_MAX,
    UNREAD_MAX,
    Put,
    Terms,
    check_leave,
    give_leave,
    read_messages,
)
from peewit_federation.errors import ForgeryError, RefusedError
from peewit_federation.keys import SigningKey, key_id, sha256
from peewit_node.node import DATABASE
from tests.federation_kit import NAMES, Federation, TestMediator, catchment, provider, seed
from tests.federation_kit_http import Device, admit, post

OWNER, WRITER = SigningKey(seed("owner")), SigningKey(seed("writer"))
ADDRESS = key_id(OWNER.public)
PATH = f"/v1/mailboxes/{ADDRESS.hex()}"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Federation]:
    federation = Federation.make(tmp_path)
    await federation.start("north")
    yield federation
    await federation.stop()


class Caller:
    """Signs requests to a node, right or wrong."""

    def __init__(self, federation: Federation, name: str = "north") -> None:
        self.url = federation.url(name)
        self.node = federation.nodes[name].state.operator.origin_hash
        self.count = 0

    def signed(self, key: SigningKey, path: str, body: bytes, /, **changes: object) -> bytes:
        self.count += 1
        nonce = seed("nonce", self.count)[:16]
        fields = {"method": "POST", "path": path, "node": self.node, "time_ms": int(time.time() * 1000), "nonce": nonce}
        return Envelope(**{**fields, "key": key.public, "body": body, **changes}).sign(key)  # type: ignore[arg-type]

    async def __call__(
        self, key: SigningKey, path: str, body: bytes, expected: int = 200, /, **changes: object
    ) -> bytes:
        status, answer = await post(self.url + path, self.signed(key, path, body, **changes))
        assert status == expected, answer
        return answer


def leave(writer: SigningKey = WRITER, owner: SigningKey = OWNER, for_s: float = 1000) -> bytes:
    return give_leave(owner, key_id(writer.public), int(time.time() + for_s))


async def opened(call: Caller, *, practices: bool = False) -> None:
    await call(OWNER, PATH, Terms(int(time.time()) + 10_000, practices).encode())


async def test_a_message_is_there_once_however_often_it_is_sent_until_its_owner_deletes_it(node: Federation) -> None:
    call = Caller(node)
    await opened(call)
    for _ in range(3):
        await call(WRITER, PATH + "/messages", Put(leave(), b"hello").encode())
    await call(WRITER, PATH + "/messages", Put(leave(), b"again").encode())
    await node.stop("north")
    await node.start("north")
    found = read_messages(await call(OWNER, PATH + "/read", b""))
    assert found == [b"hello", b"again"]
    for _ in range(2):
        await call(OWNER, PATH + "/delete", cbor.encode([sha256(b"hello"), bytes(32)]))
    assert read_messages(await call(OWNER, PATH + "/read", b"")) == found[1:]


async def test_strangers_neither_write_nor_read_nor_delete(node: Federation) -> None:
    call, stranger = Caller(node), SigningKey(seed("stranger"))
    await opened(call)
    for wrong, status in (
        (b"", 403), (leave(WRITER), 422), (leave(stranger, owner=stranger), 422), (leave(stranger, for_s=-1), 403),
        (b"\x80", 400),
    ):  # fmt: skip
        await call(stranger, PATH + "/messages", Put(wrong, b"spam").encode(), status)
    for action in ("/read", "/delete", ""):
        await call(stranger, PATH + action, b"\x80", 403)
    await call(WRITER, f"/v1/mailboxes/{key_id(WRITER.public).hex()}/messages", Put(leave(), b"x").encode(), 404)
    assert read_messages(await call(OWNER, PATH + "/read", b"")) == []


def test_a_leave_that_was_seen_before_counts_for_its_writer_its_mailbox_and_its_time_only() -> None:
    until_s, stranger = 2_000_000_000, SigningKey(seed("stranger"))
    given = give_leave(OWNER, key_id(WRITER.public), until_s)
    for _ in range(2):
        check_leave(given, OWNER.public, key_id(WRITER.public), until_s - 1)
        with pytest.raises(RefusedError):
            check_leave(given, OWNER.public, key_id(WRITER.public), until_s)
        for owner, writer in ((OWNER, stranger), (stranger, WRITER)):
            with pytest.raises(ForgeryError):
                check_leave(given, owner.public, key_id(writer.public), until_s - 1)


async def test_a_message_that_begins_like_what_stands_around_it_is_stored_as_it_is(node: Federation) -> None:
    call, around = Caller(node), (PATH + "/messages").encode()
    await opened(call)
    messages = [around, around[:70] + b", and more", leave(), leave() + b"."]
    for message in messages:
        await call(WRITER, PATH + "/messages", Put(leave(), message).encode())
    assert read_messages(await call(OWNER, PATH + "/read", b"")) == messages


async def test_one_writer_cannot_fill_a_mailbox_and_many_only_to_its_limit(node: Federation) -> None:
    call = Caller(node)
    await opened(call)
    statuses = []
    for number in range(3):
        writer = SigningKey(seed("writer", number))
        for copy in range(UNREAD_MAX[1] + 1):
            put = Put(leave(writer), b"%d %d" % (number, copy)).encode()
            body = call.signed(writer, PATH + "/messages", put)
            statuses.append((await post(call.url + PATH + "/messages", body))[0])
    assert statuses[:34] == ([200] * 16 + [429]) * 2
    assert statuses.count(200) == MESSAGES_MAX
    many = [
        call.signed(
            SigningKey(seed("late", n)),
            PATH + "/messages",
            Put(leave(SigningKey(seed("late", n))), b"late%d" % n).encode(),
        )
        for n in range(16)
    ]
    found = read_messages(await call(OWNER, PATH + "/read", b""))
    await call(OWNER, PATH + "/delete", cbor.encode([sha256(message) for message in found[:3]]))
    answers = await asyncio.gather(*(post(call.url + PATH + "/messages", body) for body in many))
    assert sorted(status for status, _ in answers) == [200] * 3 + [429] * 13, "also when sixteen come at once"
    await call(WRITER, PATH + "/messages", Put(leave(), bytes(MESSAGE_BYTES_MAX + 1)).encode(), 400)


async def test_a_signed_request_counts_once_for_one_method_path_node_and_time(node: Federation) -> None:
    call = Caller(node)
    await opened(call)
    again = call.signed(OWNER, PATH + "/read", b"")
    assert (await post(call.url + PATH + "/read", again))[0] == 200
    status, answer = await post(call.url + PATH + "/read", again)
    assert (status, b"opened before" in answer) == (403, True)
    now_ms = int(time.time() * 1000)
    for status, changes in (
        (422, {"method": "DELETE"}), (422, {"path": PATH + "/delete"}), (422, {"node": bytes(32)}),
        (403, {"time_ms": now_ms + 200_000}), (403, {"time_ms": now_ms - 200_000}), (422, {"key": WRITER.public}),
        (400, {"nonce": b"short"}),
    ):  # fmt: skip
        answer = await call(OWNER, PATH + "/read", b"", status, **changes)
    assert (await post(call.url + PATH + "/read", b"\x84"))[0] == 400


async def test_what_was_signed_before_a_node_started_is_refused_for_it_may_have_been_seen(node: Federation) -> None:
    call = Caller(node)
    await opened(call)
    recorded = call.signed(OWNER, PATH + "/delete", cbor.encode([bytes(32)]))
    await node.stop("north")
    await node.start("north")
    status, answer = await post(call.url + PATH + "/delete", recorded)
    assert (status, b"has started since" in answer) == (403, True)


async def test_practices_write_if_the_owner_lets_them_and_only_while_they_are_admitted(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    await federation.start()
    try:
        mediator = TestMediator("m")
        await admit(federation, mediator)
        clinic = SigningKey(seed("clinic-a"))
        area = catchment("mitte", "10115")
        grant = provider("clinic-a", area)
        device = Device.of(mediator)
        device.entries += [area.encode(), grant.encode()]
        assert (await device.publish(federation.url("north")))[0] == 200
        await federation.agree()
        call = Caller(federation)
        await opened(call, practices=True)
        assert grant.subject == key_id(clinic.public), "the kit's practice has this key"
        await call(clinic, PATH + "/messages", Put(b"", b"an offer").encode())
        await call(clinic, PATH + "/messages", Put(b"", b"it is over").encode())
        for _ in range(2):
            await call(clinic, PATH + "/messages", Put(b"", b"another offer").encode())
        await call(WRITER, PATH + "/messages", Put(b"", b"spam").encode(), 403)
        suspended = provider("clinic-a", area, version=2, status=1)
        device.entries.append(suspended.encode())
        assert (await device.publish(federation.url("north"), 2))[0] == 200
        await federation.agree()
        await call(clinic, PATH + "/messages", Put(b"", b"another").encode(), 403)
        assert read_messages(await call(OWNER, PATH + "/read", b"")) == [b"it is over", b"another offer"]
    finally:
        await federation.stop()


async def test_a_mediator_that_vouches_for_many_practices_fills_nobodys_mailbox(tmp_path: Path) -> None:
    """Sixteen that do not exist would keep everybody else's offers out."""
    federation = Federation.make(tmp_path)
    await federation.start()
    try:
        for name, postcode, practices in (("far", "20095", 20), ("near", "10115", 1)):
            mediator = TestMediator(name)
            await admit(federation, mediator, postcode[0])
            device, area = Device.of(mediator), catchment(name, postcode)
            device.entries += [area.encode(), *(provider(f"{name} {n}", area).encode() for n in range(practices))]
            assert (await device.publish(federation.url("north")))[0] == 200
        await federation.agree()
        call, near = Caller(federation), SigningKey(seed("near 0"))
        await opened(call, practices=True)
        for number in range(16):
            for copy in range(2):
                ghost = SigningKey(seed(f"far {number}"))
                await call(ghost, PATH + "/messages", Put(b"", b"%d %d" % (number, copy)).encode())
        for word in (b"an offer", b"another"):
            await call(near, PATH + "/messages", Put(b"", word).encode())
        found = read_messages(await call(OWNER, PATH + "/read", b""))
        assert (len(found), found[-2:]) == (MESSAGES_MAX, [b"an offer", b"another"])
        await call(SigningKey(seed("far 19")), PATH + "/messages", Put(b"", b"one more").encode(), 429)
    finally:
        await federation.stop()


async def test_all_devices_of_a_mediator_are_one_writer(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    await federation.start()
    try:
        mediator = TestMediator("near")
        await admit(federation, mediator, "1")
        devices = [Device(mediator, SigningKey(seed("device", number))) for number in range(3)]
        for device in devices:
            await federation.nodes["north"].carrier.accept(mediator.device(device.key))
        await federation.agree()
        call = Caller(federation)
        await opened(call, practices=True)
        for number, device in enumerate(devices):
            await call(device.key, PATH + "/messages", Put(b"", b"%d" % number).encode())
        assert read_messages(await call(OWNER, PATH + "/read", b"")) == [b"1", b"2"]
    finally:
        await federation.stop()


async def test_nobody_is_said_to_be_gone_by_nodes_that_were_not_asked(tmp_path: Path) -> None:
    """Who asks some nodes only, or has an old charter, cancels nothing behind a practice's back."""
    federation = Federation.make(tmp_path, NAMES[:2], quorum=2)
    await federation.start()
    charter = federation.nodes["north"].state.charter
    origins = [operator.origin_hash for operator in charter.operators]
    try:
        for only, where, kind in (
            ((), origins, NobodyThereError), (("north",), origins, UnreachableError),
            ((), [origins[0], bytes(32)], UnreachableError), ((), [bytes(32)], UnreachableError),
        ):  # fmt: skip
            async with BackendPool(charter, only=only) as pool:
                with pytest.raises(UnreachableError) as found:
                    await Letters(pool, time.time, os.urandom).put(bytes(32), where, OWNER, b"", b"x")
                assert type(found.value) is kind
    finally:
        await federation.stop()


async def test_a_mailbox_ends_and_what_was_in_it_is_gone(node: Federation) -> None:
    call = Caller(node)
    until_s = int(time.time()) + 2
    await call(OWNER, PATH, Terms(until_s, False).encode())
    await call(WRITER, PATH + "/messages", Put(leave(), b"hello").encode())
    for wrong in (int(time.time()) - 1, int(time.time()) + 500 * 86_400):
        await call(OWNER, PATH, Terms(wrong, False).encode(), 403)
    mailboxes = node.nodes["north"].mailboxes
    await mailboxes.expire(until_s + 1)
    rows = await node.nodes["north"].engine.fetch("SELECT count(*) FROM messages")
    assert rows == [(0,)]
    await call(OWNER, PATH + "/read", b"", 404)


async def test_what_has_ended_is_in_no_file_of_a_running_node(node: Federation) -> None:
    """Rows that a database forgets stay in its pages and in its log until they are overwritten."""
    call, north = Caller(node), node.nodes["north"]
    secret, until_s = seed("secret") * 150, int(time.time()) + 2
    await call(OWNER, PATH, Terms(until_s, False).encode())
    await call(WRITER, PATH + "/messages", Put(leave(), secret).encode())
    files = [north.state.config.data / (DATABASE + end) for end in ("", "-wal")]

    def found() -> list[str]:
        return [file.name for file in files if file.exists() and seed("secret") in file.read_bytes()]

    await north.engine.scrub()
    assert found() == [DATABASE], "it was moved into the file"
    await north.mailboxes.expire(until_s + 1)
    await north.engine.scrub()
    assert found() == []


async def test_a_node_keeps_no_more_mailboxes_than_it_should_and_the_last_ones_cost_work(
    node: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Caller(node)
    mailboxes = node.nodes["north"].mailboxes
    mailboxes._mailboxes_max = 16

    async def nothing() -> None:
        """What is counted here stays."""

    monkeypatch.setattr(mailboxes, "load", nothing)
    keys = [SigningKey(seed("box", number)) for number in range(4)]
    until_s = int(time.time()) + 100
    path = f"/v1/mailboxes/{key_id(keys[0].public).hex()}"
    async with BackendPool(node.nodes["north"].state.charter, only=("north",)) as pool:
        letters = Letters(pool, time.time, os.urandom)
        mailboxes._count = 8
        assert mailboxes.bits == 0
        await call(keys[0], path, Terms(until_s, False).encode())
        assert mailboxes.bits == 15, "the fuller it is, the more work"
        await call(keys[1], f"/v1/mailboxes/{key_id(keys[1].public).hex()}", Terms(until_s, False).encode(), 429)
        await letters.open_mailbox(keys[1], 1, until_s, practices=False)
        assert mailboxes._count == 10
        await call(keys[0], path, Terms(until_s + 100, True).encode())
        mailboxes._count = 16
        monkeypatch.setattr("peewit_clients.letters.bits_done", lambda *_: 256)
        with pytest.raises(UnreachableError, match="as many mailboxes as it can"):
            await letters.open_mailbox(keys[2], 1, until_s, practices=False)


async def test_a_node_that_is_full_takes_no_more_messages(node: Federation) -> None:
    call = Caller(node)
    await opened(call)
    mailboxes = node.nodes["north"].mailboxes
    await mailboxes.load()
    mailboxes._database_bytes_max = mailboxes._size_bytes + 1500
    await call(WRITER, PATH + "/messages", Put(leave(), bytes(1000)).encode())
    await call(WRITER, PATH + "/messages", Put(leave(), b"1" * 1000).encode(), 429)


async def test_the_fuller_a_node_the_less_one_mailbox_holds_so_that_who_opens_many_cannot_take_all_the_room(
    node: Federation,
) -> None:
    call = Caller(node)
    await opened(call)
    mailboxes = node.nodes["north"].mailboxes
    await mailboxes.load()
    for share, size_bytes in ((0.6, 64 * 1024), (0.95, 20 * 1024)):
        mailboxes._database_bytes_max = 1 << 30
        mailboxes._size_bytes = int(share * mailboxes._database_bytes_max)
        await call(OWNER, PATH + "/delete", cbor.encode([sha256(m) for m in await mailboxes.read(ADDRESS)]))
        await call(WRITER, PATH + "/messages", Put(leave(), bytes(size_bytes - 10)).encode())
        await call(WRITER, PATH + "/messages", Put(leave(), b"a word more").encode(), 429)
        await call(WRITER, PATH + "/messages", Put(leave(), b"a word").encode())


async def test_a_mailbox_that_is_opened_while_old_ones_are_deleted_is_counted(
    node: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailboxes, now_s = node.nodes["north"].mailboxes, time.time()
    await mailboxes.open(seed("old"), Terms(int(now_s) + 1, False), now_s)
    real = mailboxes._engine.fetch

    async def counted_too_early(query: str, *values: object) -> object:
        rows = await real(query, *values)
        if "count(*) FROM mailboxes" in query:
            await mailboxes.open(seed("new"), Terms(int(now_s) + 100, False), now_s)
        return rows

    monkeypatch.setattr(mailboxes._engine, "fetch", counted_too_early)
    await mailboxes.expire(now_s + 2)
    assert mailboxes._count == 1


async def test_a_mailbox_whose_row_is_being_written_is_counted(
    node: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailboxes, now_s = node.nodes["north"].mailboxes, time.time()
    real, begun, go_on = mailboxes._engine.write, asyncio.Event(), asyncio.Event()

    async def slow(*writes: object) -> None:
        begun.set()
        await go_on.wait()
        await real(*writes)  # type: ignore[arg-type]

    monkeypatch.setattr(mailboxes._engine, "write", slow)
    opening = asyncio.create_task(mailboxes.open(seed("new"), Terms(int(now_s) + 100, False), now_s))
    await begun.wait()
    await mailboxes.load()
    go_on.set()
    await opening
    assert mailboxes._count == 1
