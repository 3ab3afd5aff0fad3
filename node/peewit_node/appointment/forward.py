"""The nodes of a queue tell each other what changes in it (design 4.6).

    POST /federation/v1/queue    an envelope, signed with the teller's log key, over
    [epoch, [[signed request, what its practice said last], …]]    ->    [epoch, how many it cannot use yet]

Rules kept here: everything that changes here goes to the other nodes of its area, in order, again and again until
they have it, also after a restart; what they cannot use is told again later and holds up nothing else. A node that
lost its database has another epoch (16 random bytes), and is told everything. A request is checked there as if its user
had brought it, and what a practice said by its signature: a teller's own word changes nothing. What says nothing new
changes nothing, so telling ends. A node is told only of areas whose queue it holds.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final

import structlog
from aiohttp import web

from peewit_federation import cbor
from peewit_federation.api import CONTENT_TYPE
from peewit_federation.appointment.envelope import NONCE_BYTES, Envelope
from peewit_federation.appointment.request import Request, open_request
from peewit_federation.appointment.spoken import read_spoken
from peewit_federation.cose import Sign1
from peewit_federation.errors import MalformedError, RefusedError, SenderError, UnknownError
from peewit_node.appointment.areas import Areas
from peewit_node.appointment.door import SignedDoor
from peewit_node.appointment.queue import Queues
from peewit_node.checking.jobs import ENVELOPE
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
AGAIN_S: Final = 600.0
AGAIN_S_MAX: Final = 86_400.0
"What could not be used is told again after so long, and then more and more seldom."
EPOCH: Final = "queue epoch"
EPOCH_BYTES: Final = 16
EPOCH_S: Final = 60.0
"A node that says ever anew that it lost everything is believed so seldom."
PUT_FACT: Final = "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body"
logger = structlog.get_logger("peewit.queue")


@dataclass(frozen=True)
class Skipped:
    """Changes after one, up to another, that a node could not use."""

    due_s: float
    after: int
    upto: int
    wait_s: float = AGAIN_S


@dataclass
class Known:
    """What is known of another node."""

    epoch: bytes = b""
    "Which database it has."
    cursor: int = 0
    "The last change that it was told."
    skipped: list[Skipped] = field(default_factory=list)
    met: bool = False
    "Whether it was told anything since our start."
    begun_s: float = -math.inf
    "When we began to tell it everything."

    def skip(self, skipped: Skipped) -> None:
        """Remember what is to be told again, the next first."""
        self.skipped = sorted([*self.skipped, skipped], key=lambda one: one.due_s)


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
        self._epoch = random.randbytes(EPOCH_BYTES)
        self._known: dict[str, Known] = {}
        self._failures: dict[str, int] = {}
        self._unused: dict[str, int] = {}
        "How often a node said that it cannot use something yet."
        self._due_s: dict[str, float] = {}
        self._telling: set[str] = set()
        self._again: set[str] = set()
        "Whom something is to be told that came while we told it something."

    def routes(self) -> list[web.RouteDef]:
        return [web.post(PATH, self.listen)]

    async def load(self, *, fresh: bool) -> None:
        """Which database this is (`fresh`: one that was put back, so another), and what others were told. First."""
        for name, body in await self._engine.fetch("SELECT name, body FROM facts WHERE name LIKE 'queue-%'"):
            self._known[name.removeprefix("queue-")] = Known(body[8:], int.from_bytes(body[:8], "big"))
        rows = await self._engine.fetch("SELECT body FROM facts WHERE name = ?", EPOCH)
        if rows and not fresh:
            self._epoch = rows[0][0]
            return
        await self._engine.write(Write(PUT_FACT, (EPOCH, self._epoch)))

    # Telling

    async def run(self) -> None:
        """Tell for ever, each node by itself: one that is slow or lies keeps nobody else waiting."""
        while True:
            await self._wait()
            self._queues.changed.clear()
            now_s, there = self._clock(), self._peers.all
            for gone in [name for name in self._known if name not in there]:
                del self._known[gone]
                self._failures.pop(gone, None)
                self._due_s.pop(gone, None)
            for name, peer in there.items():
                if name in self._telling:
                    self._again.add(name)
                elif self._due_s.get(name, 0.0) <= now_s:
                    self._telling.add(name)
                    self._state.spawn(self._tell_one(peer))

    async def _wait(self) -> None:
        """Until something changed, or is to be told again."""
        waiting = [name for name in self._peers.all if name in self._known and name not in self._telling]
        due = [self._due_s[name] for name in waiting if name in self._failures]
        due += [
            max(self._due_s.get(name, 0.0), self._known[name].skipped[0].due_s)
            for name in waiting
            if name not in self._failures and self._known[name].skipped
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(due) - self._clock()) if due else None):
                await self._queues.changed.wait()

    async def _tell_one(self, peer: Peer) -> None:
        try:
            await self._tell(peer)
        finally:
            self._telling.discard(peer.name)
            if peer.name in self._again or peer.name in self._failures:
                self._again.discard(peer.name)
                self._queues.changed.set()  # what came meanwhile; or when it is to be tried again

    async def _tell(self, peer: Peer) -> None:
        name = peer.name
        try:
            known = self._known.setdefault(name, Known())
            if not known.met:
                await self._post(peer, [])  # also with nothing to tell: which database has who?
            while known.skipped and known.skipped[0].due_s <= self._clock():
                await self._tell_again(peer, known)
            while await self._tell_some(peer, self._known[name]):
                await self._keep(name)
            self._failures.pop(name, None)
        except (PeerError, SenderError, StorageError) as error:
            failures = self._failures[name] = self._failures.get(name, 0) + 1
            self._due_s[name] = self._clock() + min(PAUSE_S_MAX, PAUSE_S * 2.0 ** min(failures - 1, 10))
            logger.info("a node of a queue could not be told", peer=name, reason=str(error))

    async def _tell_some(self, peer: Peer, known: Known) -> bool:
        """Tell what comes next, and remember that it was told; False if there was nothing."""
        told: list[list[bytes]] = []
        before, upto, size = known.cursor, known.cursor, 0
        for change, body, proof in await self._queues.after(before, ROWS_MAX):
            concerns = await self._concerns(peer, body)
            if concerns and told and size + len(body) + len(proof) > BYTES_AIM:
                break
            upto = change
            if concerns:
                told.append([body, proof])
                size += len(body) + len(proof)
        unused = await self._post(peer, told) if told else 0
        tries = self._unused[peer.name] = self._unused.get(peer.name, 0) + 1 if unused else 0
        if 0 < tries < PATIENCE:
            raise PeerError(f"{peer.name} cannot use {unused} changes yet")
        self._unused[peer.name] = 0
        if unused:
            known.skip(Skipped(self._clock() + AGAIN_S, before, upto))
        known.cursor = upto
        return upto > before

    async def _tell_again(self, peer: Peer, known: Known) -> None:
        """What could not be used, as far as it has not changed since."""
        skipped = known.skipped[0]
        rows = await self._queues.after(skipped.after, ROWS_MAX)
        due = [(body, proof) for change, body, proof in rows if change <= skipped.upto]
        told = [[body, proof] for body, proof in due if await self._concerns(peer, body)]
        unused = await self._post(peer, told) if told else 0
        known.skipped.remove(skipped)
        if unused:
            wait_s = min(2 * skipped.wait_s, AGAIN_S_MAX)
            known.skip(Skipped(self._clock() + wait_s, skipped.after, skipped.upto, wait_s))

    async def _post(self, peer: Peer, told: list[list[bytes]]) -> int:
        """Tell something; how much of it cannot be used yet."""
        now_ms = int(self._state.now() * 1000)
        nonce, key = self._random.randbytes(NONCE_BYTES), self._state.log_key
        body = cbor.encode([self._epoch, told])
        envelope = Envelope("POST", PATH, peer.operator.origin_hash, now_ms, nonce, key.public, body)
        answer = await self._peers.post(peer, PATH, envelope.sign(key), 1024)
        match cbor.decode(answer, size_bytes_max=1024):
            case [bytes(epoch), int(unused)] if len(epoch) == EPOCH_BYTES and unused >= 0:
                if not await self._meet(peer.name, epoch):
                    raise PeerError(f"{peer.name} says once more that it has another database")
                self._known[peer.name].met = True
                return unused
        raise MalformedError("the answer to what was told of a queue is [epoch, how many cannot be used]")

    async def _meet(self, name: str, epoch: bytes) -> bool:
        """A node says which database it has: one that we did not know is told everything. False if it is too soon."""
        known, now_s = self._known.setdefault(name, Known()), self._clock()
        if known.epoch == epoch:
            return True
        self._queues.changed.set()
        if now_s < known.begun_s + EPOCH_S:
            known.met = False  # it is asked again
            return False
        self._known[name] = Known(epoch, met=known.met, begun_s=now_s if known.epoch else -math.inf)
        await self._keep(name)
        return True

    async def _keep(self, name: str) -> None:
        known = self._known[name]
        cursor = min((known.cursor, *(skipped.after for skipped in known.skipped)))
        await self._engine.write(Write(PUT_FACT, (f"queue-{name}", cursor.to_bytes(8, "big") + known.epoch)))

    async def _concerns(self, peer: Peer, body: bytes) -> bool:
        request = Request.decode(Sign1.parse(body).payload)  # it was verified when it came
        return peer.operator.origin_hash in await self._areas.holders(request)

    # Listening

    async def listen(self, request: web.Request) -> web.Response:
        """Another node of a queue tells what changed."""
        envelope = await self._door.open(request)
        teller = next((p for p in self._peers.all.values() if p.operator.log.public.raw == envelope.key), None)
        if teller is None:
            raise RefusedError("only nodes of the charter tell what changes in a queue")
        epoch, rows = _told(cbor.decode(envelope.body))
        await self._meet(teller.name, epoch)
        unused = 0
        for body, proof in rows:
            try:
                await self._hear(body, proof, teller.operator.origin_hash)
            except (UnknownError, RefusedError) as error:
                # Perhaps this node does not know the area, the round or the practice yet; it is told again.
                logger.info("a change of a queue could not be used yet", reason=str(error))
                unused += 1
            except SenderError as error:
                logger.info("a change of a queue is refused", reason=str(error))
        return web.Response(body=cbor.encode([self._epoch, unused]), content_type=CONTENT_TYPE)

    async def _hear(self, body: bytes, proof: bytes, teller: bytes) -> None:
        request, said = open_request(body), None
        if proof:
            said = read_spoken(await self._state.machine.check(ENVELOPE, proof), proof)
            self._door.require_practice(said.place, said.practice)
        await self._queues.hear(request, body, said, teller)


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
