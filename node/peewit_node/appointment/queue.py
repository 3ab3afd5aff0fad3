"""The queues of the catchment areas that this node holds (design 4.6).

Rules kept here: a request is checked in full, its tokens and ticket too, before it is stored, and stored before it is
acknowledged; there is one for each `H`, and a later version by its own key replaces it. Practices draw in the order of
group, round and priority, and what one has drawn here no other gets here while its lease lasts, or until it passes it
over (`passes`). A claim is final: the first practice that shows the secret has the request, whoever comes later, until
its own key opens it again (`opened`). Other nodes' words count as far as a practice has signed them (`spoken`). What
this node cannot read it hands on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from peewit_federation.appointment.envelope import SKEW_S
from peewit_federation.appointment.queue_api import CLAIMED, ROUNDS_MAX, WAITING, WITHDRAWN
from peewit_federation.appointment.request import Request, area_name, open_request
from peewit_federation.appointment.spoken import SAID, VERSION, SaidClaimed, SaidOffered, Shown
from peewit_federation.cose import Sign1
from peewit_federation.errors import ConflictError, RefusedError, UnknownError
from peewit_federation.registry.fold import Registry
from peewit_node.appointment.areas import Areas
from peewit_node.appointment.passes import Passes
from peewit_node.appointment.queue_sql import (
    AREAS,
    BODY,
    CLAIM,
    DRAW,
    FLOOR,
    LEASE,
    LEASED,
    LET_GO,
    OFFERED,
    PUT,
    RELEASE,
    STANDS,
    TAKE_OVER,
)
from peewit_node.appointment.ranking import Ranking, ranks
from peewit_node.checking.jobs import PRIORITY
from peewit_node.engine import Engine, Write, WriteConflictError
from peewit_node.node_state import NodeState

LEASE_S: Final = 300
ANSWER_S: Final = (600, 3 * 86_400)
"How long an offer may be answered, at least and at most."
MISSES_MAX: Final = 3
DRAW_MAX: Final = 50
LEASES_MAX: Final = 50
"Of one practice in one area: whom it cannot serve it passes over, and whom it can it offers something."


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
        self.ranking = Ranking(engine)
        self._passes = Passes()
        self._leasing: set[tuple[bytes, bytes]] = set()
        "Requests (by area) whose lease is being written."

    async def take(self, data: bytes) -> tuple[list[tuple[bytes, int, int]], Shown | None]:
        """Store a signed request in the queues of its areas that are ours.

        How it stands, and what this node has instead: a later version, or a claim. Raises `SenderError`s.
        """
        request = open_request(data)
        areas = {area_name(*area): await self._areas.ours(*area) for area in request.areas}
        # Also of areas that may not be asked any more: who withdraws is withdrawn there, too.
        query = "SELECT area, rank FROM requests WHERE request = ?"
        stored: dict[bytes, int] = dict(await self._engine.look(query, request.name))
        ours = [area for area, found in areas.items() if found or area in stored]
        if not ours:
            raise UnknownError("this node holds the queue of none of this request's areas")
        ranked = ranks({area: areas[area] for area in ours}, stored, request.group)
        query = "SELECT area, state, misses, proof FROM requests WHERE request = ? AND body = ?"
        held = await self._engine.look(query, request.name, data)
        if {area for area, *_ in held} >= set(ranked):  # who asks again costs no proofs
            claims = [proof for _, state, _, proof in held if state == CLAIMED]
            return [row[:3] for row in held], _proven(claims[0]) if claims else None
        priority = await self._priority(request)
        # What the mediator says now: what was stored until now may have been ranked anew meanwhile.
        now = {area_name(*area): await self._areas.ours(*area) for area in request.areas}
        ranked = ranks({area: now[area] for area in ranked}, stored, request.group)
        state = WAITING if request.wishes else WITHDRAWN
        writes = []
        for area, rank in ranked.items():
            row = area, request.name, rank, request.round, priority, request.version, data, state, request.opened
            writes.append(Write(PUT, row))
        await self._write(*writes)
        if request.version > 0:
            self._passes.changed(ranked, request.name)
        query = "SELECT body, state, misses, area, proof FROM requests WHERE request = ?"
        rows = await self._engine.look(query, request.name)
        states = [(area, state, misses) for _, state, misses, area, _ in rows]
        for body, state, _, area, proof in rows:
            if area == next(iter(ranked)) and body != data:
                opened = Request.decode(Sign1.parse(body).payload).opened
                if state == CLAIMED and opened == request.opened:
                    return states, _proven(proof)
                return states, (VERSION, body)
        return states, None

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
        rounds.require_tokens(
            request.name, request.round, request.group, request.tokens, seats, self._state.charter.admitters
        )
        return await self._state.machine.check(PRIORITY, request.ticket, request.name, list(publics))

    async def draw(self, area: bytes, practice: bytes, count: int) -> list[bytes]:
        """The next requests in order, leased to a practice for five minutes, with those that it has leased already:
        an answer that was lost costs nobody a place.
        """
        now = int(self._state.now())
        ((leases,),) = await self._engine.look(LEASED, area, practice, now)
        limit = min(count, DRAW_MAX + leases) + len(self._leasing)
        passed = self.passed(area, practice)
        rows = await self._engine.look(DRAW, now, area, now, practice, limit + len(passed))
        # Nothing is awaited from here until they are ours, so that nobody else takes the same ones.
        free = [row for row in rows if row[0] not in passed and (row[1] or (area, row[0]) not in self._leasing)]
        free = free[: min(count, DRAW_MAX + leases)]
        fresh = [request for request, ours in free if not ours][: min(DRAW_MAX, LEASES_MAX - leases)]
        taking = {(area, request) for request in fresh}
        self._leasing |= taking
        try:
            await self._write(*(Write(LEASE, (now + LEASE_S, practice, area, request, now), 1) for request in fresh))
        except WriteConflictError:
            return []  # one of them was withdrawn just now; the practice asks again
        finally:
            self._leasing -= taking
        ours = [request for request, mine in free if mine or request in fresh]
        return [body for request in ours for (body,) in await self._engine.look(BODY, area, request)]

    def passed(self, area: bytes, practice: bytes) -> Collection[bytes]:
        """Whom a practice passes over now."""
        return self._passes.of(area, practice, int(self._state.now()))

    async def pass_over(
        self, area: bytes, practice: bytes, requests: Sequence[tuple[bytes, int]], *, anew: bool
    ) -> None:
        """Nothing that a practice has free suits these: others may draw them now, and it draws others for a while.

        It may have had an older version from another node: who has said something new is not passed over.
        """
        now = int(self._state.now())
        if anew:
            self._passes.forget(area, practice)
        query, names = "SELECT version FROM requests WHERE area = ? AND request = ? AND version > ?", list[bytes]()
        for request, version in requests:
            if not await self._engine.look(query, area, request, version):
                names.append(request)
        if names:
            self._passes.add(area, practice, names, now)
            await self._engine.write(*(Write(LET_GO, (area, request, practice, now)) for request in names))

    async def offered(self, said: SaidOffered) -> None:
        """A practice has made an offer: nobody else draws the request before it may be answered; or it is over (0)."""
        now, area = int(self._state.now()), area_name(said.place.mediator, said.place.area)
        if said.until_s == 0:
            await self._release(area, said)
            return
        if not now + ANSWER_S[0] <= said.until_s <= now + ANSWER_S[1]:
            raise RefusedError(
                f"an offer may be answered for {ANSWER_S[0] // 60} minutes to {ANSWER_S[1] // 86_400} days"
            )
        row = said.until_s, MISSES_MAX - 1, said.proof, said.time_ms, area, said.request, said.practice, now
        try:
            await self._write(Write(OFFERED, row, 1))
        except WriteConflictError:
            # Told again, or by another node before: it is one offer.
            if not await self._engine.look(STANDS, area, said.request, said.practice, said.until_s):
                raise ConflictError("this practice has no lease of that request, or it has ended") from None

    async def _release(self, area: bytes, said: SaidOffered) -> None:
        """An offer was declined, or taken back: whoever asked answered, or had nothing to answer."""
        now = int(self._state.now())
        row = now, said.proof, said.time_ms, area, said.request, said.practice, now, said.time_ms
        with suppress(WriteConflictError):
            await self._write(Write(RELEASE, row, 1))

    async def claim(self, said: SaidClaimed) -> Shown | None:
        """End a request, in all of its areas: its user has chosen this practice of one of them.

        The first claim is final: of whoever comes later it is shown, or that its own key opened the request again.
        Raises `SenderError`s.
        """
        query = "SELECT body, state, holder, area FROM requests WHERE request = ?"
        rows = await self._engine.look(query, said.request)
        if not rows:
            raise UnknownError("there is no such request at this node")
        opened = Request.decode(Sign1.parse(rows[0][0]).payload)  # it was verified when it came
        if any(replace(opened, opened=before).claimed_by(said.secret) for before in range(opened.opened)):
            return VERSION, rows[0][0]
        if not said.ends(opened):
            raise RefusedError("not the secret of this request's claim, or not one of its areas")
        if not any(state == CLAIMED and holder != said.practice for _, state, holder, _ in rows):
            # Also what was withdrawn here: who shows the secret was chosen later.
            row = said.proof, said.practice
            await self._write(*(Write(CLAIM, (*row, area, said.request, opened.opened)) for *_, area in rows))
        query = "SELECT holder, proof FROM requests WHERE request = ? AND state = 2"
        rows = await self._engine.look(query, said.request)
        if not rows:
            raise ConflictError("this request changed just now; ask again")
        others = [proof for holder, proof in rows if holder != said.practice]
        return _proven(others[0]) if others else None

    # With the other nodes of a queue

    async def after(self, change: int, count: int) -> list[tuple[int, bytes, bytes]]:
        """What changed after a change, in order: (change, signed request, what its practice said last)."""
        query = "SELECT change, body, proof FROM requests WHERE change > ? ORDER BY change LIMIT ?"
        return await self._engine.fetch(query, change, count)

    async def areas(self) -> list[Request]:
        """One request of each area in which anybody has asked."""
        return [Request.decode(Sign1.parse(body).payload) for (body,) in await self._engine.fetch(AREAS)]

    async def hear(self, request: Request, body: bytes) -> None:
        """Take over a request. Raises `SenderError`s.

        Who held the queue before tells as well: nodes that are named for an area anew have it from nobody else.
        """
        if not any([await self._areas.ours(*place) for place in request.areas]):
            raise UnknownError("this node does not hold the queue of any of these areas (yet)")
        await self.take(body)

    async def hear_said(self, request: Request, said: SaidOffered | SaidClaimed) -> None:
        """Take over what a practice that was admitted said of a request: an offer to a node of its queues, a claim to
        any. Raises `SenderError`s.
        """
        at_home = (said.place.mediator, said.place.area) in request.areas
        if said.request != request.name or not at_home:
            raise RefusedError("what a practice said of another request, or for an area that it is not for")
        if isinstance(said, SaidClaimed):
            if not await self._opened_since(request):
                await self.claim(said)
            return
        if said.node not in await self._areas.holders(request):
            return  # told to a node that holds nothing, which counts no leases: it would hold people back without end
        for place in request.areas:
            await self._hear_offer(area_name(*place), said)

    async def _opened_since(self, request: Request) -> bool:
        query = "SELECT coalesce(max(opened), 0) FROM requests WHERE request = ?"
        ((opened,),) = await self._engine.look(query, request.name)
        return int(opened) > request.opened

    async def _hear_offer(self, area: bytes, said: SaidOffered) -> None:
        """An offer that was told to another node holds a request back as it would if it had been told here."""
        if said.until_s == 0:
            await self._release(area, said)
            return
        at_s, now_s = said.time_ms // 1000, self._state.now()
        if at_s > now_s + SKEW_S or not ANSWER_S[0] - SKEW_S <= said.until_s - at_s <= ANSWER_S[1] + SKEW_S:
            raise RefusedError("an offer of another time, or for another time than offers may be answered")
        if said.until_s <= now_s:
            return  # it is over: whoever was not told in time counts no miss
        guard = area, said.request, said.until_s, said.time_ms
        known = (
            "SELECT 1 FROM requests WHERE area = ? AND request = ? AND state IN (0, 3) AND free_at < ? AND said_at < ?"
        )
        if await self._engine.look(known, *guard):
            row = at_s, at_s, MISSES_MAX, said.until_s, said.practice, said.proof, said.time_ms
            await self._write(Write(TAKE_OVER, (*row, *guard)))

    async def expire(self) -> None:
        """Delete requests that have waited too long, and what ended with their rounds."""
        schedule = self._state.charter.schedule
        if schedule is not None:
            oldest = schedule.round_at(self._state.now()) - ROUNDS_MAX
            over = Write("DELETE FROM requests WHERE round < ?", (oldest,))
            await self._engine.write(Write(FLOOR), over)
            await self.ranking.expire()

    async def _write(self, *writes: Write) -> None:
        await self._engine.write(*writes)
        self.changed.set()


def _proven(proof: bytes) -> Shown:
    """What shows a claim. Raises `ConflictError` if it was made before there were proofs."""
    if not proof:
        raise ConflictError("another practice has claimed this request, which cannot be shown")
    return SAID, proof
