"""Practices' journals at a real node: who may write, in which order, and what an attacker gets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from peewit_federation import cbor
from peewit_federation.appointment.journal import (
    ROW_BYTES_MAX,
    ROWS_MAX,
    Change,
    Claim,
    Header,
    Rows,
    decode_page,
    encode_read,
)
from peewit_federation.errors import SenderError
from peewit_federation.keys import SigningKey, key_id
from peewit_node.appointment.journals import LIFETIME_S
from tests.federation_kit import Federation, TestMediator, catchment, provider, seed
from tests.federation_kit_http import Device, admit
from tests.node.test_mailboxes import Caller

PRACTICE = SigningKey(seed("clinic-a"))
PATH = f"/v1/journals/{key_id(PRACTICE.public).hex()}"
ONE, TWO = seed("device one")[:16], seed("device two")[:16]
ORIGINS = (seed("origin"),)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Federation]:
    federation = Federation.make(tmp_path, ("north",), quorum=1)
    await federation.start()
    mediator, area = TestMediator("m"), catchment("mitte", "10115")
    await admit(federation, mediator)
    device = Device.of(mediator)
    device.entries += [area.encode(), provider("clinic-a", area).encode(), provider("clinic-b", area).encode()]
    assert (await device.publish(federation.url("north")))[0] == 200
    await federation.agree()
    yield federation
    await federation.stop()


def tag(number: int) -> bytes:
    return seed("tag", number)[:16]


def head(number: int) -> bytes:
    return seed("head", number) if number else b""


def claim(term: int, device: bytes, *keepers: tuple[bytes, ...], known: int = 0) -> Claim:
    return Claim(term, device, keepers or (ORIGINS,), known, seed("seal", term)[:16])


def change(at: int, *rows: tuple[int, bytes], term: int = 1, device: bytes = ONE) -> Change:
    body: Rows = tuple((tag(number), sealed) for number, sealed in rows)
    return Change(term, device, at, head(at), at + 1, head(at + 1), body)


async def read(call: Caller, after: bytes = b"", bytes_max: int = 1 << 20) -> tuple[Header, dict[bytes, bytes]]:
    header, rows = decode_page(await call(PRACTICE, PATH + "/read", encode_read(after, bytes_max)))
    return header, dict(rows)


async def test_a_write_goes_from_one_number_to_the_next_and_the_same_again_is_harmless(node: Federation) -> None:
    call = Caller(node)
    await call(PRACTICE, PATH + "/claim", claim(1, ONE).encode())
    first, second = change(0, (1, b"one"), (2, b"two")), change(1, (1, b""), (3, b"three"))
    for body in (first, first, second, second):
        await call(PRACTICE, PATH + "/write", body.encode())
    await call(PRACTICE, PATH + "/write", first.encode(), 409)
    await call(PRACTICE, PATH + "/write", replace(second, next_head=seed("other")).encode(), 409)
    await call(PRACTICE, PATH + "/write", change(5, (9, b"later")).encode(), 409)
    await node.stop("north")
    await node.start("north")
    header, rows = await read(Caller(node))
    assert (header.number, header.head, header.written) == (2, head(2), 1)
    assert rows == {tag(2): b"two", tag(3): b"three"}, "what went is gone"


async def test_a_device_that_lost_its_term_writes_nothing_any_more(node: Federation) -> None:
    call = Caller(node)
    await call(PRACTICE, PATH + "/claim", claim(1, ONE).encode())
    await call(PRACTICE, PATH + "/write", change(0, (1, b"one")).encode())
    answer = await call(PRACTICE, PATH + "/claim", claim(2, TWO).encode())
    assert Header.of(cbor.decode(answer)).number == 1, "who takes over learns how far it is"
    await call(PRACTICE, PATH + "/write", change(1, (2, b"late")).encode(), 409)
    for stale in (claim(1, ONE), claim(2, ONE)):
        await call(PRACTICE, PATH + "/claim", stale.encode(), 409)
    await call(PRACTICE, PATH + "/claim", claim(2, TWO).encode())
    await call(PRACTICE, PATH + "/write", change(1, (3, b"three"), term=2, device=TWO).encode())
    assert (await read(call))[1] == {tag(1): b"one", tag(3): b"three"}


async def test_a_node_that_was_left_behind_begins_anew_and_counts_when_it_is_whole(node: Federation) -> None:
    call = Caller(node)
    await call(PRACTICE, PATH + "/claim", claim(1, ONE).encode())
    await call(PRACTICE, PATH + "/write", change(0, (1, b"old"), (2, b"old")).encode())
    parts = [
        Change(1, ONE, 1, head(1), 40, head(40), ((tag(2 + number), b"new"),), True, number, number == 2)
        for number in range(3)
    ]
    await call(PRACTICE, PATH + "/write", parts[1].encode(), 409)
    for part in (parts[0], parts[0], parts[1]):
        await call(PRACTICE, PATH + "/write", part.encode())
    header, rows = await read(call)
    assert (header.number, set(rows)) == (1, {tag(1), tag(2)}), "until it is whole, what was there counts"
    await call(PRACTICE, PATH + "/write", replace(parts[2], part=1).encode(), 409)
    await call(PRACTICE, PATH + "/write", replace(parts[2], head=head(9)).encode(), 409)
    for _ in range(2):
        await call(PRACTICE, PATH + "/write", parts[2].encode())
    header, rows = await read(call)
    assert (header.number, rows) == (40, {tag(number): b"new" for number in (2, 3, 4)})
    # Parts of one write, then another one: what was begun is forgotten. Without `drop`, rows are replaced or go.
    begun = Change(1, ONE, 40, head(40), 41, seed("given up"), ((tag(8), b"x"),), False, 0, False)
    await call(PRACTICE, PATH + "/write", begun.encode())
    small = replace(begun, next_head=head(41), rows=((tag(2), b""), (tag(9), b"x")))
    await call(PRACTICE, PATH + "/write", small.encode())
    await call(PRACTICE, PATH + "/write", replace(small, rows=((tag(3), b"y"),), part=1, last=True).encode())
    header, rows = await read(call)
    assert (header.number, rows) == (41, {tag(3): b"y", tag(4): b"new", tag(9): b"x"})
    # A tag in two parts would be counted twice when it is replaced.
    twice = replace(begun, at=41, head=head(41), next=42, next_head=head(42))
    await call(PRACTICE, PATH + "/write", twice.encode())
    await call(PRACTICE, PATH + "/write", replace(twice, part=1).encode(), 409)
    await call(PRACTICE, PATH + "/write", replace(twice, part=1, last=True).encode(), 400)


async def test_strangers_and_practices_that_nobody_vouches_for_get_nothing(node: Federation) -> None:
    call, stranger, other = Caller(node), SigningKey(seed("stranger")), SigningKey(seed("clinic-b"))
    asked, mine = claim(1, ONE).encode(), f"/v1/journals/{key_id(stranger.public).hex()}"
    for action, body in (("/claim", asked), ("/write", change(0).encode()), ("/read", encode_read(b"", 0))):
        await call(other, PATH + action, body, 403)
        await call(stranger, mine + action, body, 403)
    await call(PRACTICE, PATH + "/write", change(0).encode(), 409)
    assert (await read(call))[0] == Header(), "of what was refused nothing is kept"


async def test_a_journal_is_bounded_read_in_pages_and_ends(node: Federation) -> None:
    call, running = Caller(node), node.nodes["north"]
    await call(PRACTICE, PATH + "/claim", claim(1, ONE).encode())
    await call(PRACTICE, PATH + "/write", change(0, *((n, bytes(1000)) for n in range(20))).encode())
    found: dict[bytes, bytes] = {}
    while page := (await read(call, max(found, default=b""), 5000))[1]:
        assert len(page) <= 5
        found |= page
    assert set(found) == {tag(n) for n in range(20)}
    assert (await read(call, bytes_max=0))[1] == {}
    limits = running.state.config.limits
    limits.journal_bytes = 24_500
    await call(PRACTICE, PATH + "/write", change(1, (20, bytes(1000))).encode(), 429)
    await call(PRACTICE, PATH + "/write", change(1, (20, bytes(1000)), (0, b"")).encode())
    assert (await read(call, bytes_max=0))[0].number == 2, "what goes makes room"
    await running.journals.expire(running.state.now() + LIFETIME_S - 10)
    assert (await read(call))[0].number == 2
    await running.journals.expire(running.state.now() + LIFETIME_S + 10)
    header, rows = await read(call)
    assert (header, rows) == (Header(), {})


GOOD = [1, ONE, 0, b"", 1, head(1), False, 0, True, [[tag(1), b"x"]]]


@pytest.mark.parametrize(
    "value",
    [
        [], GOOD[:-1], [0, *GOOD[1:]], [1, b"short", *GOOD[2:]], [*GOOD[:2], -1, *GOOD[3:]],
        [*GOOD[:2], 2, b"", 2, *GOOD[5:]], [*GOOD[:3], b"odd", *GOOD[4:]], [*GOOD[:5], b"", *GOOD[6:]],
        [*GOOD[:7], -1, *GOOD[8:]], [*GOOD[:7], 10_000, *GOOD[8:]], [*GOOD[:9], [[b"short", b"x"]]],
        [*GOOD[:9], [[tag(1), b"x"], [tag(1), b"y"]]], [*GOOD[:9], [[tag(1), bytes(ROW_BYTES_MAX + 1)]]],
        [*GOOD[:9], [[tag(n), b""] for n in range(ROWS_MAX + 1)]], [1 << 60, *GOOD[1:]], [*GOOD[:9], [tag(1)]],
    ],
)  # fmt: skip
def test_writes_that_are_not_well_formed_are_refused(value: object) -> None:
    assert Change.decode(cbor.encode(GOOD)).encode() == cbor.encode(GOOD)
    with pytest.raises(SenderError):
        Change.decode(cbor.encode(value))


@pytest.mark.parametrize(
    "value", [[], [0, ONE, [seed("a")]], [1, ONE, []], [1, ONE, [seed("a")] * 2], [1, ONE, [b"x"]], [1, b"", [seed("a")]],
              [1, ONE, [seed("o", n) for n in range(4)]]],
)  # fmt: skip
def test_claims_that_are_not_well_formed_are_refused(value: object) -> None:
    with pytest.raises(SenderError):
        Claim.decode(cbor.encode(value))


async def test_a_claim_that_does_not_know_who_keeps_the_journal_is_refused(node: Federation) -> None:
    """Two devices with different charters would each go on from other nodes."""
    call, others, third = Caller(node), (seed("other"),), (seed("third"),)
    await call(PRACTICE, PATH + "/claim", claim(1, ONE).encode())
    await call(PRACTICE, PATH + "/write", change(0, (1, b"one")).encode())
    await call(PRACTICE, PATH + "/claim", claim(2, TWO, others).encode(), 409)
    await call(PRACTICE, PATH + "/claim", claim(2, TWO, others, ORIGINS).encode())
    # A write at one node settles nothing; a claim that knows of a term that enough nodes wrote in does.
    await call(PRACTICE, PATH + "/write", change(1, (2, b"two"), term=2, device=TWO).encode())
    await call(PRACTICE, PATH + "/claim", claim(3, ONE, others).encode(), 409)
    await call(PRACTICE, PATH + "/claim", claim(3, ONE, third, others, known=1).encode(), 409)
    await call(PRACTICE, PATH + "/claim", claim(4, TWO, others, known=2).encode())
    assert (await read(call))[0].keepers == (others,)
    await call(PRACTICE, PATH + "/claim", claim(5, ONE, third, ORIGINS, known=3).encode(), 409)
    await call(PRACTICE, PATH + "/claim", claim(5, ONE, others).encode())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1, ONE, [], 0, bytes(16)], "claim to a journal"),
        ([1, ONE, [[]], 0, bytes(16)], "different operators"),
        ([1, ONE, [[bytes(32)]], 1, bytes(16)], "claim to a journal"),
        ([1, ONE, [[bytes(32)]], 0, b""], "claim to a journal"),
        ([1, ONE, [[bytes(31)]], 0, bytes(16)], "different operators"),
        ([1, ONE, [[bytes(32), bytes(32)]], 0, bytes(16)], "different operators"),
        ([1, ONE, [[bytes(32)], [bytes(32)]], 0, bytes(16)], "different lists"),
        ([1, ONE, [[bytes([n]) * 32] for n in range(9)], 0, bytes(16)], "different lists"),
        ([1, ONE, [bytes(32)], 0, bytes(16)], "different operators"),
    ],
)
def test_claims_that_name_no_keepers_or_too_many_are_refused(value: list[object], reason: str) -> None:
    with pytest.raises(SenderError, match=reason):
        Claim.decode(cbor.encode(value))
