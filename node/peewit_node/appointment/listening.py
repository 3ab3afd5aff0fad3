"""What other nodes of a queue tell this one: `POST /federation/v1/queue` (`forward` says what it looks like).

Rules kept here: only nodes of the charter tell; a request is taken in as if its user had brought it, and what a
practice said counts by its signature: an offer if it may act now, a claim if it was ever admitted. What cannot be used
yet is counted, so that it is told again.
"""

from __future__ import annotations

import structlog
from aiohttp import web

from peewit_federation import cbor
from peewit_federation.api import CONTENT_TYPE
from peewit_federation.appointment.request import open_request
from peewit_federation.appointment.spoken import SaidOffered, read_spoken
from peewit_federation.errors import MalformedError, RefusedError, SenderError, UnknownError
from peewit_node.appointment.door import SignedDoor
from peewit_node.appointment.forward import PATH, ROWS_MAX
from peewit_node.appointment.queue import Queues
from peewit_node.appointment.told import EPOCH_BYTES, Ledger
from peewit_node.checking.jobs import ENVELOPE
from peewit_node.node_state import NodeState
from peewit_node.peers import Peers

logger = structlog.get_logger("peewit.queue")


class QueueListener:
    """Takes in what others tell."""

    def __init__(self, state: NodeState, queues: Queues, peers: Peers, door: SignedDoor, ledger: Ledger) -> None:
        self._state = state
        self._queues = queues
        self._peers = peers
        self._door = door
        self._ledger = ledger

    def routes(self) -> list[web.RouteDef]:
        return [web.post(PATH, self.listen)]

    async def listen(self, request: web.Request) -> web.Response:
        """Another node of a queue tells what changed."""
        envelope = await self._door.open(request)
        teller = next((p for p in self._peers.all.values() if p.operator.log.public.raw == envelope.key), None)
        if teller is None:
            raise RefusedError("only nodes of the charter tell what changes in a queue")
        epoch, rows = _told(cbor.decode(envelope.body))
        if self._ledger.of(teller.name).epoch != epoch:
            await self._ledger.meet(teller.name, epoch)
            self._queues.changed.set()
        unused = 0
        for body, proof in rows:
            try:
                await self._hear(body, proof)
            except (UnknownError, RefusedError) as error:
                # Perhaps this node does not know the area, the round or the practice yet; it is told again.
                logger.info("a change of a queue could not be used yet", reason=str(error))
                unused += 1
            except SenderError as error:
                logger.info("a change of a queue is refused", reason=str(error))
        return web.Response(body=cbor.encode([self._ledger.epoch, unused]), content_type=CONTENT_TYPE)

    async def _hear(self, body: bytes, proof: bytes) -> None:
        request = open_request(body)
        # Whoever asked is taken in, whatever became of a practice that said something of it.
        await self._queues.hear(request, body)
        if not proof:
            return
        said = read_spoken(await self._state.machine.check(ENVELOPE, proof), proof)
        if not self._door.known(said.practice):
            raise UnknownError("said by a practice that is not known here (yet)")
        if isinstance(said, SaidOffered):
            if not self._door.practices(said.practice):
                return  # an offer of who may not act any more holds nobody back
            self._door.require_practice(said.place, said.practice)
        await self._queues.hear_said(request, said)


def _told(value: object) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    match value:
        case [bytes(epoch), list(rows)] if len(epoch) == EPOCH_BYTES and len(rows) <= ROWS_MAX:
            return epoch, [_row(row) for row in rows]
    raise MalformedError(f"what is told of a queue is [epoch, at most {ROWS_MAX} changes]")


def _row(value: object) -> tuple[bytes, bytes]:
    match value:
        case [bytes(body), bytes(proof)]:
            return body, proof
    raise MalformedError("a change is [signed request, what its practice said last]")
