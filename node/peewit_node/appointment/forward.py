"""The nodes of a queue tell each other what changes in it (design 4.6).

    POST /federation/v1/queue    an envelope, signed with the teller's log key, over
    [[signed request, state, secret of the claim, holder, free at, misses], …]

Rules kept here: everything that changes here goes to the other nodes of its area, in order, again and again until
they have it, also after a restart; a request is checked there as if its user had brought it, a claim by its secret.
What says nothing new changes nothing, so telling ends. A node is told only of areas whose queue it holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final

import structlog
from aiohttp import web

from peewit_federation import cbor
from peewit_federation.api import CONTENT_TYPE
from peewit_federation.appointment.envelope import NONCE_BYTES, Envelope
from peewit_federation.appointment.request import Request
from peewit_federation.cose import Sign1
from peewit_federation.errors import MalformedError, RefusedError, SenderError, UnknownError
from peewit_node.appointment.areas import Areas
from peewit_node.appointment.door import SignedDoor
from peewit_node.appointment.queue import Queues, Told
from peewit_node.engine import Engine, StorageError, Write
from peewit_node.node_state import NodeState
from peewit_node.peers import Peer, PeerError, Peers

PATH: Final = "/federation/v1/queue"
ROWS_MAX: Final = 50
BYTES_AIM: Final = 64 * 1024
PAUSE_S: Final = 1.0
PAUSE_S_MAX: Final = 60.0
PATIENCE: Final = 6
"So often a node that cannot use something is told it again, before others wait for it no longer."
PUT_CURSOR: Final = "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body"
logger = structlog.get_logger("peewit.queue")


class Forwarder:
    """Tells other nodes, and listens to them."""

    def __init__(
        self, state: NodeState, engine: Engine, queues: Queues, areas: Areas, peers: Peers, door: SignedDoor,
        clock: Callable[[], float], random: Random,
    ) -> None:  # fmt: skip
        self._state = state
        self._engine = engine
        self._queues = queues
        self._areas = areas
        self._peers = peers
        self._door = door
        self._clock = clock
        self._random = random
        self._cursors: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._unused: dict[str, int] = {}
        "How often a node said that it cannot use something yet."
        self._due_s: dict[str, float] = {}

    def routes(self) -> list[web.RouteDef]:
        return [web.post(PATH, self.listen)]

    # Telling

    async def run(self) -> None:
        """Tell for ever."""
        for name, body in await self._engine.fetch("SELECT name, body FROM facts WHERE name LIKE 'queue-%'"):
            self._cursors[name.removeprefix("queue-")] = int.from_bytes(body, "big")
        while True:
            await self._queues.changed.wait()
            self._queues.changed.clear()
            now_s = self._clock()
            await asyncio.gather(*(
                self._tell(peer) for name, peer in self._peers.all.items() if self._due_s.get(name, 0.0) <= now_s
            ))  # fmt: skip
            if self._failures:
                await asyncio.sleep(PAUSE_S)
                self._queues.changed.set()

    async def _tell(self, peer: Peer) -> None:
        name = peer.name
        try:
            while (upto := await self._tell_some(peer)) is not None:
                self._cursors[name] = upto
                await self._engine.write(Write(PUT_CURSOR, (f"queue-{name}", upto.to_bytes(8, "big"))))
            self._failures.pop(name, None)
        except (PeerError, SenderError, StorageError) as error:
            failures = self._failures[name] = self._failures.get(name, 0) + 1
            self._due_s[name] = self._clock() + min(PAUSE_S_MAX, PAUSE_S * 2.0 ** min(failures - 1, 10))
            logger.info("a node of a queue could not be told", peer=name, reason=str(error))

    async def _tell_some(self, peer: Peer) -> int | None:
        """Tell what comes next; up to which change the peer then has everything, or None if there was nothing."""
        rows = await self._queues.after(self._cursors.get(peer.name, 0), ROWS_MAX)
        told: list[list[object]] = []
        upto, size = None, 0
        for change, row in rows:
            concerns = await self._concerns(peer, row)
            if concerns and told and size + len(row.body) > BYTES_AIM:
                break
            upto = change
            if concerns:
                told.append(list(row.fields()))
                size += len(row.body)
        if told:
            body = cbor.encode(told)
            now_ms = int(self._state.now() * 1000)
            nonce, key = self._random.randbytes(NONCE_BYTES), self._state.log_key
            envelope = Envelope("POST", PATH, peer.operator.origin_hash, now_ms, nonce, key.public, body)
            unused = cbor.decode(await self._peers.post(peer, PATH, envelope.sign(key), 1024))
            tries = self._unused[peer.name] = self._unused.get(peer.name, 0) + 1 if unused else 0
            if 0 < tries < PATIENCE:
                raise PeerError(f"{peer.name} cannot use {unused} changes yet")
            self._unused[peer.name] = 0
        return upto

    async def _concerns(self, peer: Peer, row: Told) -> bool:
        request = Request.decode(Sign1.parse(row.body).payload)  # it was verified when it came
        return peer.operator.origin_hash in await self._areas.holders(request)

    # Listening

    async def listen(self, request: web.Request) -> web.Response:
        """Another node of a queue tells what changed."""
        envelope = await self._door.open(request)
        operators = (peer.operator for peer in self._peers.all.values())
        teller = next((o.origin_hash for o in operators if o.log.public.raw == envelope.key), None)
        if teller is None:
            raise RefusedError("only nodes of the charter tell what changes in a queue")
        rows = cbor.decode(envelope.body)
        if not isinstance(rows, list) or len(rows) > ROWS_MAX:
            raise MalformedError(f"a list of at most {ROWS_MAX} changes is due")
        unused = 0
        for row in map(_row, rows):
            try:
                await self._queues.merge(row, teller)
            except (UnknownError, RefusedError) as error:
                # Perhaps this node does not know the area or the round yet; the teller tries again for a while.
                logger.info("a change of a queue could not be used yet", reason=str(error))
                unused += 1
            except SenderError as error:
                logger.info("a change of a queue is refused", reason=str(error))
        return web.Response(body=cbor.encode(unused), content_type=CONTENT_TYPE)


def _row(value: object) -> Told:
    match value:
        case [bytes(body), int(state), bytes(secret), bytes(holder), int(free_at), int(misses)]:
            if 0 <= state <= 3 and {len(secret), len(holder)} <= {0, 32} and 0 <= free_at < 1 << 53:
                if 0 <= misses < 1 << 31:
                    return Told(body, state, secret, holder, free_at, misses)
    raise MalformedError("a change is [request, state, secret, holder, free at, misses]")
