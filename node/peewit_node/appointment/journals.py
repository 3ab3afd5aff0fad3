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

from typing import Final

from aiohttp import web

from peewit_federation import cbor
from peewit_federation.api import CONTENT_TYPE
from peewit_federation.appointment.envelope import Envelope
from peewit_federation.appointment.journal import Change, Claim, Header, Rows, decode_read, encode_page
from peewit_federation.errors import ConflictError, QuotaError, RefusedError
from peewit_node.appointment.door import SignedDoor
from peewit_node.engine import Engine, Write, WriteConflictError
from peewit_node.node_state import NodeState
from peewit_node.routes_log import parse_hash

LIFETIME_S: Final = 100 * 86_400
ROW_COST_BYTES: Final = 64
CLAIM: Final = (
    "INSERT INTO journals VALUES (?, ?, ?, 0, 0, ?, ?, 0, ?) ON CONFLICT (practice) DO UPDATE SET "
    "term = excluded.term, device = excluded.device, origins = excluded.origins, until = excluded.until "
    "WHERE excluded.term > journals.term"
)
STEP: Final = (
    "UPDATE journals SET written = ?, number = ?, head = ?, size = ?, until = ? "
    "WHERE practice = ? AND term = ? AND device = ? AND head = ? AND number = ?"
)
DROP: Final = "DELETE FROM journal_rows WHERE practice = ?"
PUT: Final = "INSERT INTO journal_rows VALUES (?, ?, ?) ON CONFLICT (practice, tag) DO UPDATE SET body = excluded.body"
GONE: Final = "DELETE FROM journal_rows WHERE practice = ? AND tag = ?"
PAGE_ROWS: Final = 2_000


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
        origins, until = cbor.encode(list(claim.origins)), int(self._state.now()) + LIFETIME_S
        try:
            await self._engine.write(Write(CLAIM, (practice, claim.term, claim.device, b"", origins, until), 1))
        except WriteConflictError:
            held, _ = await self._header(practice)
            if (held.term, held.device) != (claim.term, claim.device):
                raise ConflictError(f"this journal is in term {held.term}; read it first", held.term) from None
        return await self._answer(practice)

    async def write(self, request: web.Request) -> web.Response:
        practice, envelope = await self._by_practice(request)
        change = Change.decode(envelope.body)
        held, size = await self._header(practice)
        if (held.term, held.device) != (change.term, change.device):
            raise ConflictError(f"this journal is in term {held.term}, of another device", held.term)
        if (held.number, held.head, held.written) == (change.next, change.next_head, change.term):
            return await self._answer(practice)  # said again
        if not change.drop and (held.number, held.head) != (change.at, change.head):
            raise ConflictError(f"the last write of this journal here is number {held.number}", held.term)
        size = 0 if change.drop else size - await self._size(practice, change.rows)
        size += sum(len(body) + ROW_COST_BYTES for _, body in change.rows if body)
        if size > self._state.config.limits.journal_bytes:
            raise QuotaError(f"this node keeps at most {self._state.config.limits.journal_bytes} bytes of a journal")
        until = int(self._state.now()) + LIFETIME_S
        step = (
            change.term, change.next, change.next_head, size, until,
            practice, change.term, change.device, held.head, held.number,
        )  # fmt: skip
        writes = [Write(STEP, step, 1)]
        if change.drop:
            writes.append(Write(DROP, (practice,)))
        writes += [Write(PUT, (practice, *row)) if row[1] else Write(GONE, (practice, row[0])) for row in change.rows]
        try:
            await self._engine.write(*writes)
        except WriteConflictError:
            raise ConflictError("something else was written first; read it", held.term) from None
        return await self._answer(practice)

    async def read(self, request: web.Request) -> web.Response:
        practice, envelope = await self._by_practice(request)
        after, bytes_max = decode_read(envelope.body)
        rows: list[tuple[bytes, bytes]] = []
        if bytes_max:
            query = "SELECT tag, body FROM journal_rows WHERE practice = ? AND tag > ? ORDER BY tag LIMIT ?"
            size = 0
            for tag, body in await self._engine.fetch(query, practice, after, PAGE_ROWS):
                size += len(body) + ROW_COST_BYTES
                if rows and size > bytes_max:
                    break
                rows.append((tag, body))
        # After the rows: whoever reads several pages sees by it that nothing was written between.
        header, _ = await self._header(practice)
        return _cbor(encode_page(header, tuple(rows)))

    async def expire(self, now_s: float) -> None:
        """Delete what nobody has written to for a long time."""
        rows = "DELETE FROM journal_rows WHERE practice IN (SELECT practice FROM journals WHERE until <= ?)"
        await self._engine.write(
            Write(rows, (int(now_s),)),
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

    async def _header(self, practice: bytes) -> tuple[Header, int]:
        """And how many bytes its rows have."""
        query = "SELECT term, device, written, number, head, origins, size FROM journals WHERE practice = ?"
        rows = await self._engine.look(query, practice)
        if not rows:
            return Header(), 0
        term, device, written, number, head, origins, size = rows[0]
        return Header(term, device, written, number, head, tuple(cbor.decode(origins))), size

    async def _size(self, practice: bytes, rows: Rows) -> int:
        """Of what these rows replace."""
        query = "SELECT length(body) FROM journal_rows WHERE practice = ? AND tag = ?"
        found = [await self._engine.look(query, practice, tag) for tag, _ in rows]
        return sum(row[0][0] + ROW_COST_BYTES for row in found if row)

    async def _answer(self, practice: bytes) -> web.Response:
        header, _ = await self._header(practice)
        return _cbor(cbor.encode(header.value()))


def _cbor(data: bytes) -> web.Response:
    return web.Response(body=data, content_type=CONTENT_TYPE)
