"""The committee's keys, as far as this node is a member: made, fetched, handed over, kept for their round.

Rules kept here (design 4.5): a member says in its log which key it holds for a set, once it holds it durably. The first
member outside a set makes its key; another does when it could get none that others hold, after an hour for each member
before it. A private part leaves a node only sealed to a member that may hold it, and is taken only if it belongs to the
public part that was asked for. When a round is over its private parts are deleted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
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
from peewit_federation.statements.draw import DrawKey
from peewit_node.engine import Engine, Write
from peewit_node.machine import Machine
from peewit_node.node_state import NodeState
from peewit_node.peers import PeerError, Peers

PATIENCE_S_MAX: Final = 3600.0
SEALED_BYTES_MAX: Final = 8192
PUT: Final = "INSERT INTO draw_keys VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
Place = tuple[int, bytes, int]
"Round, committee, number of the set."
logger = structlog.get_logger("peewit.draw")


class DrawKeys:
    """Makes, fetches, hands over and forgets them."""

    def __init__(
        self,
        state: NodeState,
        engine: Engine,
        registry: Registry,
        peers: Peers,
        machine: Machine,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self._state = state
        self._engine = engine
        self._registry = registry
        self._peers = peers
        self._machine = machine
        self._clock = clock
        self._random = random
        self._held: dict[Place, dict[bytes, VrfKey]] = {}
        "By public part."
        self._lacking: dict[Place, float] = {}
        "Since when we have none."

    async def load(self) -> None:
        """Read the keys that are stored."""
        for number, committee, place, public, seed in await self._engine.fetch("SELECT * FROM draw_keys"):
            self._held.setdefault((number, committee, place), {})[public] = VrfKey(seed)

    @property
    def _me(self) -> str:
        return self._state.operator.name

    async def prepare(self, schedule: Schedule, number: int) -> list[bytes]:
        """Get or make what we lack of a round; what our log is to say of it."""
        seats = schedule.seats_of(number)
        if self._me not in seats.committee.members:
            return []
        places = seats.committee.held_by(self._me)
        await asyncio.gather(*(self._fetch(seats, number, place) for place in places))
        said = []
        for place in places:
            if any(name == self._me for name, _ in self._registry.rounds.held(seats, number, place)):
                continue
            name = number, seats.digest, place
            if not self._held.get(name):
                if not self._is_our_turn(schedule, number, place):
                    continue
                await self._keep(name, VrfKey(self._random.randbytes(32)))
            said.append(DrawKey(number, seats.digest, place, self._chosen(seats, number, place)).encode())
        return said

    def _is_our_turn(self, schedule: Schedule, number: int, place: int) -> bool:
        seats, now_s = schedule.seats_of(number), self._state.now()
        since_s = self._lacking.setdefault((number, seats.digest, place), self._clock())
        patience_s = min(PATIENCE_S_MAX, schedule.round_s / 4) * seats.committee.holders(place).index(self._me)
        due_s = schedule.begins_s(number) - AHEAD * schedule.round_s + patience_s
        return now_s >= due_s and self._clock() >= since_s + patience_s

    async def _keep(self, place: Place, key: VrfKey) -> None:
        await self._engine.write(Write(PUT, (*place, key.public, key.secret)))
        self._held.setdefault(place, {})[key.public] = key

    def _ranked(self, seats: Seats, number: int, place: int) -> list[bytes]:
        """Keys that members say they hold: first what most say, then in the order of the committee."""
        publics = [public for _, public in self._registry.rounds.held(seats, number, place)]
        told = Counter(publics)
        return sorted(dict.fromkeys(publics), key=lambda public: -told[public])

    def _chosen(self, seats: Seats, number: int, place: int) -> bytes:
        """The key that our log is to name: of those that we hold the one that most name."""
        held = self._held[number, seats.digest, place]
        return next((public for public in self._ranked(seats, number, place) if public in held), next(iter(held)))

    async def _fetch(self, seats: Seats, number: int, place: int) -> None:
        """Get the private parts of keys that others hold, from whoever holds them."""
        told = [item for item in self._registry.rounds.held(seats, number, place) if item[0] in self._peers.all]
        for public in self._ranked(seats, number, place):
            if public in self._held.get((number, seats.digest, place), {}):
                continue
            for name in (name for name, known in told if known == public):
                path = (
                    f"/federation/v1/draw-keys/{number}/{place}/{public.hex()}/{self._state.operator.origin_hash.hex()}"
                )
                try:
                    sealed = await self._peers.get(self._peers.all[name], path, SEALED_BYTES_MAX)
                    await self._take(seats, number, place, sealed, public)
                    break
                except (PeerError, SenderError) as error:
                    logger.info("a peer could not hand over a key", peer=name, reason=str(error))

    async def _take(self, seats: Seats, number: int, place: int, sealed: bytes, public: bytes) -> None:
        context = _context(seats, number, place, self._state.encryption_public)
        key = VrfKey(open_sealed(self._state.encryption_seed, sealed, context))
        if key.public != public:
            raise ForgeryError(f"what was handed over as key {place} of round {number} is another key")
        if any(public in keys for other, keys in self._held.items() if other != (number, seats.digest, place)):
            raise ForgeryError(f"key {place} of round {number} is used elsewhere, where others hold it")
        await self._keep((number, seats.digest, place), key)

    def hand_over(self, schedule: Schedule, number: int, place: int, public: bytes, asker: bytes) -> bytes:
        """The private part of a key, sealed to a member that may hold it. Raises `SenderError`s."""
        seats = schedule.seats_of(number)
        if not 0 <= place < len(seats.committee.sets) or asker not in map(seats.origin, seats.committee.holders(place)):
            raise RefusedError(f"that operator is not to hold key {place} of round {number}")
        node = self._registry.nodes.get(asker)
        if node is None or not node.encryption_key:
            raise UnknownError("that operator's log names no key to seal to")
        key = self._held.get((number, seats.digest, place), {}).get(public)
        if key is None:
            raise UnknownError(f"this node does not have that key {place} of round {number}")
        context = _context(seats, number, place, node.encryption_key)
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


def _context(seats: Seats, number: int, place: int, public: bytes) -> Context:
    return Context("draw key", seats.digest, key_id(public), cbor.encode([number, place]))
