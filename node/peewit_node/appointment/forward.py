"""The nodes of a queue tell each other what changes in it (design 4.6).

    POST /federation/v1/queue    an envelope, signed with the teller's log key, over
    [epoch, [[signed request, what its practice said last], …]]    ->    [epoch, how many it cannot use yet]

Rules kept here: everything that changes here goes to the other nodes of its area, in order, again and again until
they have it, also after a restart (`told`), each by itself; what they cannot use is told again later and holds up
nothing else. A request is checked there as if its user had brought it, and what a practice said by its signature: a
teller's own word changes nothing (`listening`). What says nothing new changes nothing, so telling ends. A node is told
only of areas whose queue it holds, and of one that it is named for anew from the beginning, also by who held it before.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from random import Random
from typing import Final

import structlog

from peewit_federation import cbor
from peewit_federation.appointment.envelope import NONCE_BYTES, Envelope
from peewit_federation.appointment.request import Request, area_name
from peewit_federation.cose import Sign1
from peewit_federation.errors import MalformedError, SenderError
from peewit_node.appointment.areas import Areas
from peewit_node.appointment.queue import Queues
from peewit_node.appointment.told import AGAIN_S, AGAIN_S_MAX, EPOCH_BYTES, Known, Ledger, Skipped
from peewit_node.engine import StorageError
from peewit_node.node_state import NodeState
from peewit_node.peers import Peer, PeerError, Peers

PATH: Final = "/federation/v1/queue"
ROWS_MAX: Final = 50
BYTES_AIM: Final = 64 * 1024
PAUSE_S: Final = 1.0
PAUSE_S_MAX: Final = 60.0
HOMES_S: Final = 30.0
"Between two looks at who holds the queues."
REWIND_S: Final = 300.0
"Between two times that one node is told areas anew."
PATIENCE: Final = 6
"So often a node that cannot use something is told it again, before others wait for it no longer."
logger = structlog.get_logger("peewit.queue")


class Forwarder:
    """Tells other nodes."""

    def __init__(
        self, state: NodeState, queues: Queues, areas: Areas, peers: Peers, ledger: Ledger,
        clock: Callable[[], float], random: Random,
    ) -> None:  # fmt: skip
        self._state = state
        self._queues = queues
        self._areas = areas
        self._peers = peers
        self._ledger = ledger
        self._clock = clock
        self._random = random
        self._failures: dict[str, int] = {}
        self._unused: dict[str, int] = {}
        "How often a node said that it cannot use something yet."
        self._due_s: dict[str, float] = {}
        self._telling: set[str] = set()
        self._again: set[str] = set()
        "Whom something is to be told that came while we told it something."
        self._waiting: set[str] = set()
        "For whom a timer runs."
        self._old: set[bytes] | None = None
        "Areas in which people had asked when this began."
        self._first: dict[bytes, int] = {}
        "Of other areas: the first change."
        self._rewound_s: dict[str, float] = {}
        "When a node was last told an area anew."

    async def run(self) -> None:
        """Tell for ever, each node by itself: one that is slow or lies keeps nobody else waiting."""
        while True:
            await self._queues.changed.wait()
            self._queues.changed.clear()
            now_s, there = self._clock(), self._peers.all
            for gone in self._ledger.retain(there):
                self._failures.pop(gone, None)
                self._due_s.pop(gone, None)
            for name, peer in there.items():
                if name in self._telling:
                    self._again.add(name)
                elif self._due_s.get(name, 0.0) <= now_s:
                    self._telling.add(name)
                    self._state.spawn(self._tell_one(peer))

    async def look(self) -> None:
        """Look for ever for nodes that are named for areas anew."""
        while True:
            await asyncio.sleep(HOMES_S)
            try:
                await self.rewind()
            except (SenderError, StorageError) as error:
                logger.info("could not look who holds the queues", reason=str(error))

    async def rewind(self) -> None:
        """Begin anew to tell nodes of areas that they hold and were not told of."""
        names = {peer.operator.origin_hash: name for name, peer in self._peers.all.items()}
        places = sorted({place for request in await self._queues.areas() for place in request.areas})
        if self._old is None:
            self._old = {area_name(*place) for place in places}
        lacking: dict[str, dict[bytes, int]] = {}
        for place in places:
            catchment, area = await self._areas.catchment(*place), area_name(*place)
            first = 1 if area in self._old else self._first.get(area, 1)
            for name in (names[origin] for origin in (catchment.nodes if catchment else ()) if origin in names):
                if area not in (self._ledger.of(name).homes or ()):
                    lacking.setdefault(name, {})[area] = first
        for name in names.values():
            await self._rewind(name, lacking.get(name, {}))

    async def _rewind(self, name: str, lacking: dict[bytes, int]) -> None:
        """Tell a node areas that it lacks (and where each begins), if that is not too soon."""
        known, now_s = self._ledger.of(name), self._clock()
        # Of whom nothing was written down, it is believed this once that they know what they hold.
        first = min(lacking.values(), default=0) if known.homes is not None else 0
        if lacking and name in self._telling:
            return  # the cursor moves just now
        if 0 < first <= known.cursor:
            if now_s < self._rewound_s.get(name, -math.inf) + REWIND_S:
                return  # the next time: a mediator may name and unname it as often as it likes
            self._rewound_s[name] = now_s
            logger.info("a node holds a queue anew, and is told it", peer=name)
            known.cursor = first - 1
            self._queues.changed.set()
        if lacking or known.homes is None:
            known.homes = (known.homes or set()) | lacking.keys()
            await self._ledger.keep(name)

    async def _tell_one(self, peer: Peer) -> None:
        name = peer.name
        try:
            await self._tell(peer)
        finally:
            self._telling.discard(name)
        if name in self._again:
            self._again.discard(name)
            self._queues.changed.set()  # for what came meanwhile
        if self._next_s(name) is not None and name not in self._waiting:
            self._waiting.add(name)
            self._state.spawn(self._later(name))

    def _next_s(self, name: str) -> float | None:
        """When a node is to be told something though nothing changes; None if there is nothing."""
        if name in self._failures:
            return self._due_s[name]
        skipped = self._ledger.of(name).skipped
        return max(self._due_s.get(name, 0.0), skipped[0].due_s) if skipped else None

    async def _later(self, name: str) -> None:
        try:
            while (due_s := self._next_s(name)) is not None and due_s > self._clock():  # noqa: ASYNC110  it may move
                await asyncio.sleep(due_s - self._clock())
        finally:
            self._waiting.discard(name)
        self._queues.changed.set()

    async def _tell(self, peer: Peer) -> None:
        name = peer.name
        try:
            if not self._ledger.of(name).met:
                await self._post(peer, [])  # also with nothing to tell: which database has who?
            while await self._tell_some(peer, self._ledger.of(name)):
                await self._ledger.keep(name)
            known = self._ledger.of(name)  # what is new comes first, whatever becomes of what was left
            while known.skipped and known.skipped[0].due_s <= self._clock():
                await self._tell_again(peer, known)
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
            concerns = await self._concerns(peer, change, body)
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
            self._failures.pop(peer.name, None)  # the next is not what this one was
        if known.cursor == before:  # it was not rewound meanwhile
            known.cursor = upto
        return upto > before

    async def _tell_again(self, peer: Peer, known: Known) -> None:
        """What could not be used, as far as it has not changed since."""
        skipped = known.skipped[0]
        rows = await self._queues.after(skipped.after, ROWS_MAX)
        due = [row for row in rows if row[0] <= skipped.upto]
        told = [[body, proof] for change, body, proof in due if await self._concerns(peer, change, body)]
        unused, part, size = 0, list[list[bytes]](), 0
        for row in told:
            if part and size + sum(map(len, row)) > BYTES_AIM:
                unused += await self._post(peer, part)
                part, size = [], 0
            part.append(row)
            size += sum(map(len, row))
        unused += await self._post(peer, part) if part else 0
        known.skipped.remove(skipped)
        if unused:
            wait_s = min(2 * skipped.wait_s, AGAIN_S_MAX)
            known.skip(Skipped(self._clock() + wait_s, skipped.after, skipped.upto, wait_s))

    async def _post(self, peer: Peer, told: list[list[bytes]]) -> int:
        """Tell something; how much of it cannot be used yet."""
        now_ms = int(self._state.now() * 1000)
        nonce, key = self._random.randbytes(NONCE_BYTES), self._state.log_key
        body = cbor.encode([self._ledger.epoch, told])
        envelope = Envelope("POST", PATH, peer.operator.origin_hash, now_ms, nonce, key.public, body)
        answer = await self._peers.post(peer, PATH, envelope.sign(key), 1024)
        match cbor.decode(answer, size_bytes_max=1024):
            case [bytes(epoch), int(unused)] if len(epoch) == EPOCH_BYTES and unused >= 0:
                if not await self._ledger.meet(peer.name, epoch):
                    raise PeerError(f"{peer.name} says once more that it has another database")
                self._ledger.of(peer.name).met = True
                return unused
        raise MalformedError("the answer to what was told of a queue is [epoch, how many cannot be used]")

    async def _concerns(self, peer: Peer, change: int, body: bytes) -> bool:
        request = Request.decode(Sign1.parse(body).payload)  # it was verified when it came
        known, concerns = self._ledger.of(peer.name), False
        for place in request.areas:
            catchment = await self._areas.catchment(*place)
            holds = catchment is not None and peer.operator.origin_hash in catchment.nodes
            concerns = concerns or holds
            if known.homes is not None and catchment is not None and not holds:
                known.homes.discard(area_name(*place))  # `rewind` alone says that it was told all
            if self._old is not None and area_name(*place) not in self._old:
                self._first.setdefault(area_name(*place), change)
        return concerns
