"""The committee's keys, as far as this node is a member: made, handed over, kept for their round.

Rules kept here (design 4.5): the first member outside a set makes its key and logs the public part; another does after
an hour for each that stands before it. A private part leaves a node only sealed to a member that may hold it, and is
taken only if it belongs to a logged public part. Who has all of its keys logs a receipt, once for each round. When a
round is over its private parts are deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final

import structlog

from peewit_federation import cbor
from peewit_federation.draw.schedule import AHEAD, Schedule, Seats
from peewit_federation.draw.vrf import VrfKey
from peewit_federation.errors import ForgeryError, RefusedError, SenderError, UnknownError
from peewit_federation.keys import key_id
from peewit_federation.registry.fold import Registry
from peewit_federation.sealed import Context, open_sealed
from peewit_federation.statements.draw import DrawKey, DrawReceipt
from peewit_node.engine import Engine, Write
from peewit_node.machine import Machine
from peewit_node.node_state import NodeState
from peewit_node.own_log import OwnLog
from peewit_node.peers import Peer, PeerError, Peers

PATIENCE_S_MAX: Final = 3600.0
SEALED_BYTES_MAX: Final = 8192
PUT: Final = "INSERT INTO draw_keys VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
Place = tuple[int, bytes, int]
"Round, committee, number of the set."
logger = structlog.get_logger("peewit.draw")


class DrawKeys:
    """Makes, fetches, hands over and forgets them."""

    def __init__(
        self, state: NodeState, engine: Engine, own: OwnLog, registry: Registry, peers: Peers, machine: Machine,
        clock: Callable[[], float], random: Random,
    ) -> None:  # fmt: skip
        self._state = state
        self._engine = engine
        self._own = own
        self._registry = registry
        self._peers = peers
        self._machine = machine
        self._clock = clock
        self._random = random
        self._held: dict[Place, dict[bytes, VrfKey]] = {}
        "By public part."
        self._lacking: dict[Place, float] = {}
        "Since when nobody has logged a key."
        self._receipted: set[tuple[int, bytes]] = set()

    async def load(self) -> None:
        """Read the keys that are stored."""
        for number, committee, place, public, seed in await self._engine.fetch("SELECT * FROM draw_keys"):
            self._held.setdefault((number, committee, place), {})[public] = VrfKey(seed)

    @property
    def _me(self) -> str:
        return self._state.operator.name

    async def prepare(self, schedule: Schedule, number: int) -> None:
        """Make and fetch what we lack of a round, and say when we have it all."""
        seats = schedule.seats_of(number)
        if self._me not in seats.committee.members or (number, seats.digest) in self._receipted:
            return
        places = seats.committee.held_by(self._me)
        for place in places:
            if not self._registry.rounds.draw_key(seats, number, place) and self._is_our_turn(schedule, number, place):
                await self._make(seats, number, place)
        await asyncio.gather(*(self._fetch(seats, number, place) for place in places))
        publics = [self._chosen(seats, number, place) for place in range(len(seats.committee.sets))]
        if all(publics):
            self._receipted.add((number, seats.digest))
            if self._registry.rounds.receipt(seats, number, self._me) is None:
                chosen = tuple(public for public in publics if public)
                await self._own.append(DrawReceipt(number, seats.digest, chosen).encode())

    def _is_our_turn(self, schedule: Schedule, number: int, place: int) -> bool:
        seats, now_s = schedule.seats_of(number), self._state.now()
        since_s = self._lacking.setdefault((number, seats.digest, place), self._clock())
        patience_s = min(PATIENCE_S_MAX, schedule.round_s / 4) * seats.committee.holders(place).index(self._me)
        due_s = schedule.begins_s(number) - AHEAD * schedule.round_s + patience_s
        return now_s >= due_s and self._clock() >= since_s + patience_s

    async def _make(self, seats: Seats, number: int, place: int) -> None:
        held = self._held.get((number, seats.digest, place))
        key = next(iter(held.values())) if held else VrfKey(self._random.randbytes(32))
        if not held:
            await self._keep((number, seats.digest, place), key)
        del self._lacking[number, seats.digest, place]
        await self._own.append(DrawKey(number, seats.digest, place, key.public).encode())

    async def _keep(self, place: Place, key: VrfKey) -> None:
        await self._engine.write(Write(PUT, (*place, key.public, key.secret)))
        self._held.setdefault(place, {})[key.public] = key

    def _chosen(self, seats: Seats, number: int, place: int) -> bytes | None:
        """The key of a place that we would say counts: the first that was logged and that we hold, if we should."""
        held = self._held.get((number, seats.digest, place), {})
        ours = place in seats.committee.held_by(self._me)
        logged = self._registry.rounds.draw_key(seats, number, place)
        return next((public for _, public in logged if public in held or not ours), None)

    async def _fetch(self, seats: Seats, number: int, place: int) -> None:
        """Get the private part of a logged key from whoever has it."""
        logged = self._registry.rounds.draw_key(seats, number, place)
        if not logged or self._chosen(seats, number, place):
            return
        makers = [name for name, _ in logged]
        others = [name for name in seats.committee.holders(place) if name not in makers]
        path = f"/federation/v1/draw-keys/{number}/{place}/{self._state.operator.origin_hash.hex()}"
        publics = {public for _, public in logged}
        for peer in (self._peers.all[name] for name in (*makers, *others) if name in self._peers.all):
            try:
                sealed = await self._peers.get(peer, path, SEALED_BYTES_MAX)
                await self._take(seats, number, place, sealed, publics)
            except PeerError as error:
                logger.debug("a peer could not hand over a key", peer=peer.name, reason=str(error))
                continue
            except SenderError as error:
                _complain(peer, error)
                continue
            return

    async def _take(self, seats: Seats, number: int, place: int, sealed: bytes, publics: set[bytes]) -> None:
        context = self._context(seats, number, place, self._state.encryption_public)
        key = VrfKey(open_sealed(self._state.encryption_seed, sealed, context))
        if key.public not in publics:
            raise ForgeryError(f"what was handed over as key {place} of round {number} is not the logged one")
        await self._keep((number, seats.digest, place), key)

    @staticmethod
    def _context(seats: Seats, number: int, place: int, public: bytes) -> Context:
        return Context("draw key", seats.digest, key_id(public), cbor.encode([number, place]))

    def hand_over(self, schedule: Schedule, number: int, place: int, asker: bytes) -> bytes:
        """The private part of a key, sealed to a member that may hold it. Raises `SenderError`s."""
        seats = schedule.seats_of(number)
        if not 0 <= place < len(seats.committee.sets) or asker not in map(seats.origin, seats.committee.holders(place)):
            raise RefusedError(f"that operator is not to hold key {place} of round {number}")
        node = self._registry.nodes.get(asker)
        if node is None or not node.encryption_key:
            raise UnknownError("that operator's log names no key to seal to")
        public = self._chosen(seats, number, place)
        key = self._held.get((number, seats.digest, place), {}).get(public or b"")
        if key is None:
            raise UnknownError(f"this node has no key {place} of round {number}")
        context = self._context(seats, number, place, node.encryption_key)
        return self._machine.seal(node.encryption_key, key.secret, context)

    def prove(self, seats: Seats, number: int, publics: tuple[bytes, ...], request: bytes) -> list[tuple[int, bytes]]:
        """Our proofs for a request, by place."""
        found = []
        for place, public in enumerate(publics):
            key = self._held.get((number, seats.digest, place), {}).get(public)
            if key is not None:
                found.append((place, key.prove(request)))
        return found

    async def finish(self, before: int) -> None:
        """Delete the keys of rounds before one."""
        if any(place[0] < before for place in self._held):
            await self._engine.write(Write("DELETE FROM draw_keys WHERE round < ?", (before,)))
        self._held = {place: keys for place, keys in self._held.items() if place[0] >= before}
        self._lacking = {place: at_s for place, at_s in self._lacking.items() if place[0] >= before}
        self._receipted = {place for place in self._receipted if place[0] >= before}


def _complain(peer: Peer, error: SenderError) -> None:
    peer.caught(f"a draw key: {error}")
