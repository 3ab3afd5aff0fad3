"""Practices' journals at this node: `/v1/journals/…` (`peewit_federation.appointment.journal`).

POST /v1/journals/<key id>/claim    a device becomes the one that writes
POST /v1/journals/<key id>/write    from one number to the next
POST /v1/journals/<key id>/read     the header, and a page of rows

Rules kept here: a journal belongs to the key of a practice that some mediator has vouched for, also if it does not any
more; only the device that has the highest term writes, and only onto what it says was written last; the same write
again is harmless; a write is durable before it is acknowledged, whole or not at all. A journal is bounded, and ends a
hundred days after its last write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from peewit_federation import cbor
from peewit_federation.api import CONTENT_TYPE
from peewit_federation.appointment.envelope import Envelope
from peewit_federation.appointment.journal import ROWS_MAX, TAG_BYTES, Change, Claim, Header, decode_read, encode_page
from peewit_federation.errors import ConflictError, MalformedError, QuotaError, RefusedError
from peewit_node.appointment.door import SignedDoor
from peewit_node.engine import Engine, Write, WriteConflictError
from peewit_node.node_state import NodeState
from peewit_node.routes_log import parse_hash

LIFETIME_S: Final = 100 * 86_400
ROW_COST_BYTES: Final = 200
CLAIM: Final = (
    "INSERT INTO journals VALUES (?, ?, ?, 0, 0, ?, ?, ?, ?, 0, ?, ?, 0, 0) ON CONFLICT (practice) DO UPDATE SET "
    "term = excluded.term, device = excluded.device, keepers = excluded.keepers, known = excluded.known, "
    "seal = excluded.seal, until = excluded.until, begun = excluded.begun, parts = 0, parts_size = 0 "
    "WHERE excluded.term > journals.term AND journals.term = ? AND journals.written = ?"
)
HELD: Final = (
    "SELECT term, device, written, number, head, keepers, known, seal, size, begun, parts, parts_size "
    "FROM journals WHERE practice = ?"
)  # fmt: skip
# Whatever else was written meanwhile, these do not happen then.
PART: Final = (
    "UPDATE journals SET begun = ?, parts = ?, parts_size = ?, until = ? "
    "WHERE practice = ? AND term = ? AND device = ? AND written = ? AND number = ? AND head = ? AND size = ? "
    "AND begun = ? AND parts = ? AND parts_size = ?"
)
STEP: Final = (
    "UPDATE journals SET written = ?, number = ?, head = ?, size = ?, until = ?, begun = ?, parts = 0, parts_size = 0 "
    "WHERE practice = ? AND term = ? AND device = ? AND written = ? AND number = ? AND head = ? AND size = ? "
    "AND begun = ? AND parts = ? AND parts_size = ?"
)
DROP: Final = "DELETE FROM journal_rows WHERE practice = ?"
DROP_PARTS: Final = "DELETE FROM journal_parts WHERE practice = ?"
PUT: Final = "INSERT INTO journal_rows VALUES (?, ?, ?) ON CONFLICT (practice, tag) DO UPDATE SET body = excluded.body"
PUT_PART: Final = "INSERT INTO journal_parts VALUES (?, ?, ?)"
GONE: Final = "DELETE FROM journal_rows WHERE practice = ? AND tag = ?"
TAKE_PARTS: Final = (
    "INSERT INTO journal_rows SELECT practice, tag, body FROM journal_parts WHERE practice = ? AND length(body) > 0 "
    "ON CONFLICT (practice, tag) DO UPDATE SET body = excluded.body"
)
TAKE_GONE: Final = (
    "DELETE FROM journal_rows WHERE practice = ? AND tag IN "
    "(SELECT tag FROM journal_parts WHERE practice = ? AND length(body) = 0)"
)
REPLACED: Final = (
    "SELECT coalesce(sum(length(body) + ?), 0) FROM journal_rows WHERE practice = ? "
    "AND tag IN (SELECT tag FROM journal_parts WHERE practice = ?)"
)
PAGE_ROWS: Final = 50
"Read at a time; a page may have more."


@dataclass(frozen=True)
class Held:
    """What a node has of a journal."""

    header: Header = Header()
    size: int = 0
    begun: bytes = b""
    parts: int = 0
    parts_size: int = 0

    def row(self, practice: bytes) -> tuple[object, ...]:
        """As `PART` and `STEP` ask for it."""
        header = self.header
        standing = header.term, header.device, header.written, header.number, header.head
        return (practice, *standing, self.size, self.begun, self.parts, self.parts_size)


class Journals:
    """Keeps journals, and answers the devices of practices."""

    def __init__(self, state: NodeState, engine: Engine, door: SignedDoor) -> None:
        self._state = state
        self._engine = engine
        self._door = door

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/journals/{practice}/claim", self.claim),
            web.post("/v1/journals/{practice}/write", self.write),
            web.post("/v1/journals/{practice}/read", self.read),
        ]

    async def claim(self, request: web.Request) -> web.Response:
        practice, envelope = await self._by_practice(request)
        claim = Claim.decode(envelope.body)
        held = (await self._held(practice)).header
        if (held.term, held.device) == (claim.term, claim.device):
            return await self._answer(practice)  # said again
        if not claim.follows(held):
            raise ConflictError("others keep this journal than the claim knows of; read it first", held.term)
        keepers, until = cbor.encode([list(origins) for origins in claim.keepers]), int(self._state.now()) + LIFETIME_S
        row = (
            practice,
            claim.term,
            claim.device,
            b"",
            keepers,
            claim.known,
            claim.seal,
            until,
            b"",
            held.term,
            held.written,
        )
        try:
            await self._engine.write(Write(CLAIM, row, 1), Write(DROP_PARTS, (practice,)))
        except WriteConflictError:
            held = (await self._held(practice)).header
            raise ConflictError(f"this journal is in term {held.term}; read it first", held.term) from None
        return await self._answer(practice)

    async def write(self, request: web.Request) -> web.Response:
        practice, envelope = await self._by_practice(request)
        change = Change.decode(envelope.body)
        held = await self._held(practice)
        header = held.header
        if (header.term, header.device) != (change.term, change.device):
            raise ConflictError(f"this journal is in term {header.term}, of another device", header.term)
        if (header.number, header.head, header.written) == (change.next, change.next_head, change.term):
            return await self._answer(practice)  # said again
        if (header.number, header.head) != (change.at, change.head):
            raise ConflictError(f"the last write of this journal here is number {header.number}", header.term)
        there = held.parts if held.begun == change.next_head else 0
        if change.part < there and not change.last:
            return await self._answer(practice)  # likewise
        if change.part != there:
            raise ConflictError(f"{there} parts of this write are here, not {change.part}", header.term)
        try:
            await self._engine.write(*await self._writes(practice, held, change))
        except WriteConflictError:
            raise ConflictError("something else was written first; read it", header.term) from None
        return await self._answer(practice)

    async def _writes(self, practice: bytes, held: Held, change: Change) -> list[Write]:
        """What is to be done for a write, or for a part of it. Raises `QuotaError`."""
        brought = sum(len(body) + ROW_COST_BYTES for _, body in change.rows)
        parts_size = held.parts_size if change.part else 0
        until = int(self._state.now()) + LIFETIME_S
        if not change.last:
            self._bound(parts_size + brought)
            begun = change.next_head, change.part + 1, parts_size + brought, until
            return [
                Write(PART, (*begun, *held.row(practice)), 1),
                *([] if change.part else [Write(DROP_PARTS, (practice,))]),
                *(Write(PUT_PART, (practice, *row)) for row in change.rows),
            ]  # fmt: skip
        if change.part:
            # Each tag once in a write, or what it replaces would be counted twice.
            for tag, _ in change.rows:
                if await self._engine.look("SELECT 1 FROM journal_parts WHERE practice = ? AND tag = ?", practice, tag):
                    raise MalformedError("a journal's write names a tag in two of its parts")
        size = 0 if change.drop else held.size - await self._replaced(practice, change)
        size += parts_size + sum(len(body) + ROW_COST_BYTES for _, body in change.rows if body)
        self._bound(size)
        step = change.term, change.next, change.next_head, size, until, b""
        return [
            Write(STEP, (*step, *held.row(practice)), 1),
            *([Write(DROP, (practice,), large=True)] if change.drop else []),
            *([Write(TAKE_PARTS, (practice,), large=True)] if change.part else []),
            *([Write(TAKE_GONE, (practice, practice))] if change.part else []),
            *(Write(PUT, (practice, *row)) if row[1] else Write(GONE, (practice, row[0])) for row in change.rows),
            Write(DROP_PARTS, (practice,)),
        ]  # fmt: skip

    def _bound(self, size: int) -> None:
        limit = self._state.config.limits.journal_bytes
        if size > limit:
            raise QuotaError(f"this node keeps at most {limit} bytes of a journal; delete what is over")

    async def _replaced(self, practice: bytes, change: Change) -> int:
        """How many bytes the rows have that a write replaces."""
        query = "SELECT length(body) FROM journal_rows WHERE practice = ? AND tag = ?"
        found = [await self._engine.look(query, practice, tag) for tag, _ in change.rows]
        size: int = sum(row[0][0] + ROW_COST_BYTES for row in found if row)
        if change.part:
            size += (await self._engine.fetch(REPLACED, ROW_COST_BYTES, practice, practice))[0][0]
        return size

    async def read(self, request: web.Request) -> web.Response:
        practice, envelope = await self._by_practice(request)
        after, bytes_max = decode_read(envelope.body)
        rows: list[tuple[bytes, bytes]] = []
        query = "SELECT tag, body FROM journal_rows WHERE practice = ? AND tag > ? ORDER BY tag LIMIT ?"
        size, full = 0, bytes_max == 0
        while not full:
            found = await self._engine.fetch(query, practice, rows[-1][0] if rows else after, PAGE_ROWS)
            for tag, body in found:
                size += len(body) + TAG_BYTES + 8
                full = full or (bool(rows) and size > bytes_max) or len(rows) >= ROWS_MAX
                if not full:
                    rows.append((tag, body))
            full = full or len(found) < PAGE_ROWS
        # After the rows: whoever reads several pages sees by it that nothing was written between.
        return _cbor(encode_page((await self._held(practice)).header, tuple(rows)))

    async def expire(self, now_s: float) -> None:
        """Delete what nobody has written to for a long time."""
        rows = "DELETE FROM journal_rows WHERE practice IN (SELECT practice FROM journals WHERE until <= ?)"
        parts = rows.replace("journal_rows", "journal_parts")
        await self._engine.write(
            Write(rows, (int(now_s),), large=True),
            Write(parts, (int(now_s),)),
            Write("DELETE FROM journals WHERE until <= ?", (int(now_s),)),
        )

    async def _by_practice(self, request: web.Request) -> tuple[bytes, Envelope]:
        practice = parse_hash(request.match_info["practice"])
        envelope = await self._door.open(request)
        if envelope.signer != practice:
            raise RefusedError("only a practice itself reads and writes its journal")
        if not self._door.known(practice):
            raise RefusedError("no mediator has vouched for this practice; it needs no journal yet")
        return practice, envelope

    async def _held(self, practice: bytes) -> Held:
        rows = await self._engine.look(HELD, practice)
        if not rows:
            return Held()
        *numbers, keepers, known, seal, size, begun, parts, parts_size = rows[0]
        return Held(Header.of([*numbers, cbor.decode(keepers), known, seal]), size, begun, parts, parts_size)

    async def _answer(self, practice: bytes) -> web.Response:
        return _cbor(cbor.encode((await self._held(practice)).header.value()))


def _cbor(data: bytes) -> web.Response:
    return web.Response(body=data, content_type=CONTENT_TYPE)
