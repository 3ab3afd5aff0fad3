"""Letterboxes of mediators: `/v1/letterboxes/…`, where anybody leaves a letter and their devices fetch it.

POST /v1/letterboxes/<mediator>            a letter, with the work that it costs
POST /v1/letterboxes/<mediator>/read       [letter, …], behind one that is named; signed by a device of the mediator
POST /v1/letterboxes/<mediator>/delete     [SHA-256 of a letter's copies, …]; likewise

Rules kept here: only mediators that count have one; a letter is stored before it is acknowledged, and once; a
letterbox is bounded, and what nobody fetched in thirty days is deleted. Letters are read page by page: what a device
cannot open hides nothing that lies behind it.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peewit_federation import cbor
from peewit_federation.api import CONTENT_TYPE
from peewit_federation.appointment.applications import LETTER_BYTES_MAX, LETTERS_MAX, Posted
from peewit_federation.appointment.envelope import Envelope
from peewit_federation.appointment.mailbox import read_digests
from peewit_federation.errors import QuotaError, RefusedError, UnknownError
from peewit_federation.registry.fold import Registry
from peewit_node.appointment.door import SignedDoor
from peewit_node.engine import Engine, Write, WriteConflictError
from peewit_node.http_server import read_body
from peewit_node.node_state import NodeState
from peewit_node.routes_log import parse_hash

LIFETIME_S: Final = 30 * 86_400
READ: Final = (
    "SELECT body FROM letters WHERE mediator = ? AND (until, digest) > "
    "(coalesce((SELECT until FROM letters WHERE mediator = ? AND digest = ?), 0), ?) ORDER BY until, digest LIMIT ?"
)
PUT: Final = (
    "INSERT INTO letters SELECT ?, ?, ?, ? WHERE (SELECT count(*) FROM letters WHERE mediator = ?) < ? "
    "AND NOT EXISTS (SELECT 1 FROM letters WHERE mediator = ? AND digest = ?)"
)


class Letterboxes:
    """Keeps letters, and answers who brings and fetches them."""

    def __init__(self, state: NodeState, engine: Engine, registry: Registry, door: SignedDoor) -> None:
        self._state = state
        self._engine = engine
        self._registry = registry
        self._door = door

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/letterboxes/{mediator}", self.put),
            web.post("/v1/letterboxes/{mediator}/read", self.read),
            web.post("/v1/letterboxes/{mediator}/delete", self.delete),
        ]

    async def put(self, request: web.Request) -> web.Response:
        mediator = parse_hash(request.match_info["mediator"])
        if not self._registry.standing_roots(mediator):
            raise UnknownError("there is no such mediator here")
        data = await read_body(request, LETTER_BYTES_MAX, self._state.config.limits.request_timeout_s)
        letter = Posted.decode(data)
        letter.require_work(mediator)
        until = int(self._state.now()) + LIFETIME_S
        limit = self._state.config.limits.letters
        row = mediator, letter.digest, data, until, mediator, limit, mediator, letter.digest
        try:
            await self._engine.write(Write(PUT, row, 1))
        except WriteConflictError:
            known = "SELECT 1 FROM letters WHERE mediator = ? AND digest = ?"
            if not await self._engine.fetch(known, mediator, letter.digest):
                raise QuotaError("this mediator's letterbox is full; try another node, or tell the mediator") from None
        return _cbor([])

    async def read(self, request: web.Request) -> web.Response:
        mediator, envelope = await self._by_device(request)
        digests = read_digests(envelope.body) if envelope.body else []
        after = digests[0] if digests else b""
        rows = await self._engine.fetch(READ, mediator, mediator, after, after, LETTERS_MAX)
        return _cbor([row[0] for row in rows])

    async def delete(self, request: web.Request) -> web.Response:
        mediator, envelope = await self._by_device(request)
        drop = "DELETE FROM letters WHERE mediator = ? AND digest = ?"
        digests = read_digests(envelope.body)
        await self._engine.write(*(Write(drop, (mediator, digest)) for digest in digests))
        return _cbor([])

    async def expire(self, now_s: float) -> None:
        """Delete what has lain too long."""
        await self._engine.write(Write("DELETE FROM letters WHERE until <= ?", (int(now_s),)))

    async def _by_device(self, request: web.Request) -> tuple[bytes, Envelope]:
        mediator = parse_hash(request.match_info["mediator"])
        envelope = await self._door.open(request)
        if mediator not in self._door.mediators(envelope.key):
            raise RefusedError("only a device of the mediator fetches its letters")
        return mediator, envelope


def _cbor(value: object) -> web.Response:
    return web.Response(body=cbor.encode(value), content_type=CONTENT_TYPE)
