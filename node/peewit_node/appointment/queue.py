"""The queues of the catchment areas that this node holds (design 4.6).

Rules kept here: a request is checked in full, its tokens and ticket too, before it is stored, and stored before it is
acknowledged; there is one for each `H`, and a later version by its own key replaces it. Practices draw in the order of
group, round and priority, and what one has drawn no other gets while its lease lasts. A claim is final: the first
practice that shows the secret has the request, whoever comes later, until its own key opens it again (`opened`). What
this node cannot read (wishes) it hands on.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from peewit_federation.appointment.queue_api import CLAIMED, ROUNDS_MAX, WAITING, WITHDRAWN
from peewit_federation.appointment.request import Request, area_name, open_request
from peewit_federation.cose import Sign1
from peewit_federation.errors import ConflictError, RefusedError, UnknownError
from peewit_federation.registry.fold import Registry
from peewit_node.appointment.areas import Areas, rank_of
from peewit_node.appointment.queue_sql import (
    CLAIM,
    DRAW,
    LEASE,
    LEASED,
    OFFERED,
    PUT,
    RELEASE,
    TAKE_OVER,
)
from peewit_node.checking.jobs import PRIORITY
from peewit_node.engine import Engine, Write, WriteConflictError
from peewit_node.node_state import NodeState

LEASE_S: Final = 300
ANSWER_S: Final = (600, 3 * 86_400)
"How long an offer may be answered, at least and at most."
MISSES_MAX: Final = 3
DRAW_MAX: Final = 50
LEASES_MAX: Final = 200
"Of one practice in one area."


@dataclass(frozen=True)
class Told:
    """What one node tells another of a request."""

    body: bytes
    state: int
    secret: bytes
    holder: bytes
    free_at: int
    misses: int

    def fields(self) -> tuple[bytes, int, bytes, bytes, int, int]:
        """In the order in which they travel."""
        return self.body, self.state, self.secret, self.holder, self.free_at, self.misses


class Queues:
    """Requests, and who has drawn them."""

    def __init__(self, state: NodeState, engine: Engine, registry: Registry, areas: Areas) -> None:
        self._state = state
        self._engine = engine
        self._registry = registry
        self._areas = areas
        self.changed = asyncio.Event()
        "Set whenever something changed that other nodes should know."
        self.changed.set()
        self._leasing: set[tuple[bytes, bytes]] = set()
        "Requests (by area) whose lease is being written."

    async def take(self, data: bytes) -> list[tuple[bytes, int, int]]:
        """Store a signed request in the queues of its areas that are ours; how it stands. Raises `SenderError`s."""
        request = open_request(data)
        ours = [(area_name(*area), found) for area in request.areas if (found := await self._areas.ours(*area))]
        if not ours:
            raise UnknownError("this node holds the queue of none of this request's areas")
        query = "SELECT area, state, misses FROM requests WHERE request = ? AND body = ?"
        held = await self._engine.look(query, request.name, data)
        if {area for area, _, _ in held} >= {area for area, _ in ours}:
            return held  # who asks again costs no proofs
        ranks = [rank_of(found, request.group) for _, found in ours]
        priority = await self._priority(request)
        state = WAITING if request.wishes else WITHDRAWN
        writes = []
        for (area, _), rank in zip(ours, ranks, strict=True):
            row = area, request.name, rank, request.round, priority, request.version, data, state, request.opened
            writes.append(Write(PUT, row))
        await self._write(*writes)
        query = "SELECT version, body, state, misses, area FROM requests WHERE request = ?"
        rows = await self._engine.look(query, request.name)
        for version, body, state, _, area in rows:
            if area == ours[0][0] and body != data:
                done = ", and it is claimed" if state == CLAIMED else ""
                raise ConflictError(f"this node has version {version} of this request{done}")
        return [(area, state, misses) for _, _, state, misses, area in rows]

    async def _priority(self, request: Request) -> bytes:
        schedule, rounds = self._state.charter.schedule, self._registry.rounds
        if schedule is None:
            raise UnknownError("the charter of this federation has no draw")
        if schedule.round_at(self._state.now()) - request.round > ROUNDS_MAX:
            raise RefusedError(f"a request waits for {ROUNDS_MAX} rounds; this one is of round {request.round}")
        seats = schedule.seats_of(request.round)
        publics = rounds.keys(seats, request.round)
        if publics is None:
            raise RefusedError(f"round {request.round} was never opened, as far as this node knows")
        voters = {operator.origin_hash for operator in self._state.charter.operators if operator.votes}
        rounds.require_tokens(request.name, request.round, request.group, request.tokens, seats, voters)
        return await self._state.machine.check(PRIORITY, request.ticket, request.name, list(publics))

    async def draw(self, area: bytes, practice: bytes, count: int) -> list[bytes]:
        """The next requests in order, leased to a practice for five minutes, with those that it has leased already:
        an answer that was lost costs nobody a place.
        """
        now = int(self._state.now())
        ((leases,),) = await self._engine.look(LEASED, area, practice, now)
        limit = min(count, DRAW_MAX + leases) + len(self._leasing)
        rows = await self._engine.look(DRAW, now, area, now, practice, limit)
        # Nothing is awaited from here until they are ours, so that nobody else takes the same ones.
        free = [row for row in rows if row[2] or (area, row[0]) not in self._leasing][: min(count, DRAW_MAX + leases)]
        fresh = [request for request, _, ours in free if not ours][: min(DRAW_MAX, LEASES_MAX - leases)]
        taking = {(area, request) for request in fresh}
        self._leasing |= taking
        try:
            await self._write(*(Write(LEASE, (now + LEASE_S, practice, area, request, now), 1) for request in fresh))
        except WriteConflictError:
            return []  # one of them was withdrawn just now; the practice asks again
        finally:
            self._leasing -= taking
        return [body for request, body, ours in free if ours or request in fresh]

    async def offered(self, area: bytes, request: bytes, practice: bytes, until_s: int) -> None:
        """A practice has made an offer: nobody else draws the request before it may be answered; or it is over (0)."""
        now = int(self._state.now())
        if until_s == 0:
            # It was declined, or taken back: whoever asked answered, or had nothing to answer.
            with suppress(WriteConflictError):
                await self._write(Write(RELEASE, (now, area, request, practice, now), 1))
            return
        if not now + ANSWER_S[0] <= until_s <= now + ANSWER_S[1]:
            raise RefusedError(
                f"an offer may be answered for {ANSWER_S[0] // 60} minutes to {ANSWER_S[1] // 86_400} days"
            )
        row = until_s, MISSES_MAX - 1, area, request, practice, now
        try:
            await self._write(Write(OFFERED, row, 1))
        except WriteConflictError:
            raise ConflictError("this practice has no lease of that request, or it has ended") from None

    async def claim(self, place: tuple[bytes, bytes], request: bytes, practice: bytes, secret: bytes) -> None:
        """End a request, in all of its areas: its user has chosen this practice of one of them (`place`).

        The first claim is final. Raises `SenderError`s.
        """
        rows = await self._engine.look("SELECT body, state, holder, area FROM requests WHERE request = ?", request)
        if not rows:
            raise UnknownError("there is no such request at this node")
        opened = Request.decode(Sign1.parse(rows[0][0]).payload)  # it was verified when it came
        if any(replace(opened, opened=before).claimed_by(secret) for before in range(opened.opened)):
            raise ConflictError("this request was opened again since: that claim counts no more")
        if place not in opened.areas or not opened.claimed_by(secret):
            raise RefusedError("not the secret of this request's claim, or not one of its areas")
        if any(state == CLAIMED and holder != practice for _, state, holder, _ in rows):
            raise ConflictError("another practice has claimed this request")
        # Also what was withdrawn here: who shows the secret was chosen later.
        await self._write(*(Write(CLAIM, (secret, practice, area, request, opened.opened)) for *_, area in rows))
        rows = await self._engine.look("SELECT holder FROM requests WHERE request = ? AND state = 2", request)
        if {holder for (holder,) in rows} != {practice}:
            raise ConflictError("another practice has claimed this request")

    # With the other nodes of a queue

    async def after(self, change: int, count: int) -> list[tuple[int, Told]]:
        """What changed after a change, in order."""
        query = (
            "SELECT change, body, state, secret, holder, free_at, misses FROM requests WHERE change > ? "
            "ORDER BY change LIMIT ?"
        )
        return [(row[0], Told(*row[1:])) for row in await self._engine.fetch(query, change, count)]

    async def merge(self, told: Told, teller: bytes) -> None:
        """Take over what another node of the queue knows of a request. Raises `SenderError`s."""
        request = open_request(told.body)
        if teller not in await self._areas.holders(request):
            raise RefusedError("a change told by a node that does not hold this queue")
        if any([await self._areas.ours(*place) for place in request.areas]):
            with suppress(ConflictError):
                await self.take(told.body)
        if told.state == CLAIMED:
            if await self._opened(request.name) > request.opened:
                return  # it was opened again since
            await self.claim(request.areas[0], request.name, told.holder, told.secret)
        elif told.state != WITHDRAWN:
            for place in request.areas:
                await self._take_over(area_name(*place), request, told)

    async def _opened(self, request: bytes) -> int:
        query = "SELECT coalesce(max(opened), 0) FROM requests WHERE request = ?"
        ((opened,),) = await self._engine.look(query, request)
        return int(opened)

    async def _take_over(self, area: bytes, request: Request, told: Told) -> None:
        """Another node's lease or offer: it may hold a request back no longer than it could here."""
        now = int(self._state.now())
        query = "SELECT misses FROM requests WHERE area = ? AND request = ?"
        rows = await self._engine.look(query, area, request.name)
        if not rows:
            return
        misses = min(told.misses, rows[0][0] + 1)
        free_at = min(told.free_at, now + (ANSWER_S[1] if misses > rows[0][0] else LEASE_S))
        row = free_at, free_at, told.holder, free_at, misses, misses, MISSES_MAX
        guard = area, request.name, request.version, free_at, misses
        known = (
            "SELECT 1 FROM requests WHERE area = ? AND request = ? AND version = ? AND state IN (0, 3) "
            "AND (free_at < ? OR misses < ?)"
        )
        if await self._engine.look(known, *guard):
            await self._write(Write(TAKE_OVER, (*row, *guard)))

    async def expire(self) -> None:
        """Delete requests that have waited too long, and what ended with their rounds."""
        schedule = self._state.charter.schedule
        if schedule is not None:
            oldest = schedule.round_at(self._state.now()) - ROUNDS_MAX
            # The last change stays, so that numbers only grow.
            drop = "DELETE FROM requests WHERE round < ? AND change < (SELECT max(change) FROM requests)"
            await self._engine.write(Write(drop, (oldest,)))

    async def _write(self, *writes: Write) -> None:
        await self._engine.write(*writes)
        self.changed.set()
