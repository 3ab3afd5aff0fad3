"""`/v1/mailboxes/…`: opened, written, read and emptied with signed requests (`peewit_federation.appointment`).

POST /v1/mailboxes/<address>             opened, or its terms changed, by its owner
GET  /v1/mailboxes/work                  how many bits of work a new one costs now
POST /v1/mailboxes/<address>/messages    a message, by an admitted practice, a mediator, or who has the owner's leave
POST /v1/mailboxes/<address>/read        [message, …]
POST /v1/mailboxes/<address>/delete      [SHA-256 of a message, …]

Nothing here is logged: an address is nobody's business.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peewit_federation import cbor
from peewit_federation.api import CONTENT_TYPE
from peewit_federation.appointment.envelope import Envelope
from peewit_federation.appointment.mailbox import Terms, read_digests
from peewit_federation.errors import QuotaError, RefusedError
from peewit_node.appointment.door import SignedDoor
from peewit_node.appointment.mailboxes import FullError, Mailboxes
from peewit_node.checking.jobs import PUT
from peewit_node.node_state import NodeState
from peewit_node.routes_log import parse_hash


class MailRoutes:
    """Answers owners and writers."""

    def __init__(self, state: NodeState, door: SignedDoor, mailboxes: Mailboxes) -> None:
        self._state = state
        self._door = door
        self._mailboxes = mailboxes

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/mailboxes/work", self.work),
            web.post("/v1/mailboxes/{address}", self.open),
            web.post("/v1/mailboxes/{address}/messages", self.put),
            web.post("/v1/mailboxes/{address}/read", self.read),
            web.post("/v1/mailboxes/{address}/delete", self.delete),
        ]

    async def open(self, request: web.Request) -> web.Response:
        _, envelope = await self._by_owner(request)
        await self._mailboxes.open(envelope.key, Terms.decode(envelope.body), self._state.now())
        return _done()

    async def work(self, _: web.Request) -> web.Response:
        if self._mailboxes.full:
            raise QuotaError("this node keeps as many mailboxes as it can; use another")
        return web.Response(body=cbor.encode(self._mailboxes.bits), content_type=CONTENT_TYPE)

    async def put(self, request: web.Request) -> web.Response:
        address, now_s = parse_hash(request.match_info["address"]), self._state.now()
        body = await self._door.read(request)
        owner, terms = await self._mailboxes.terms(address, now_s)
        put = await self._state.machine.check(PUT, body, owner, int(now_s))
        writer = put.envelope.signer
        self._door.admit(request, put.envelope)
        if not put.leave:
            if not terms.practices or not (side := self._known(put.envelope)):
                raise RefusedError("only who has its owner's leave writes into this mailbox")
            if not self._door.practices(writer):
                writer = side  # all devices of a mediator are one writer
        try:
            await self._mailboxes.put(address, writer, put.message, leave=bool(put.leave))
        except FullError:
            if put.leave or not await self._mailboxes.make_room(address, writer, self._side):
                raise
            await self._mailboxes.put(address, writer, put.message, leave=False)
        return _done()

    async def read(self, request: web.Request) -> web.Response:
        address, _ = await self._by_owner(request)
        await self._mailboxes.terms(address, self._state.now())
        return web.Response(body=cbor.encode(await self._mailboxes.read(address)), content_type=CONTENT_TYPE)

    async def delete(self, request: web.Request) -> web.Response:
        address, envelope = await self._by_owner(request)
        await self._mailboxes.delete(address, read_digests(envelope.body))
        return _done()

    def _known(self, envelope: Envelope) -> bytes:
        """The mediator of its signer, an admitted practice or a device; nothing for others."""
        return self._side(envelope.signer) or next(iter(self._door.mediators(envelope.key)), b"")

    def _side(self, writer: bytes) -> bytes:
        """The mediator that vouches for a practice (its id), or that is a writer itself; nothing for who has leave."""
        found = self._door.practices(writer)
        return found[0].mediator if found else writer if self._door.is_mediator(writer) else b""

    async def _by_owner(self, request: web.Request) -> tuple[bytes, Envelope]:
        address = parse_hash(request.match_info["address"])
        envelope = await self._door.open(request)
        if envelope.signer != address:
            raise RefusedError("only its owner may do this with a mailbox")
        return address, envelope


NOTHING: Final = cbor.encode([])


def _done() -> web.Response:
    return web.Response(body=NOTHING, content_type=CONTENT_TYPE)
