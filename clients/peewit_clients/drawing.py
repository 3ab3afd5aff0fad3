"""A practice draws: requests of an area from all of its nodes, merged, in their proven order (design 4.6).

Rules kept here: all nodes of the area are asked, so that none of them alone can leave somebody out or let somebody
come first; what only some of them give is shown to the others, who can prove that it is over; the order of group, round
and priority is computed from tickets, not taken from nodes; what was leased beyond what was asked for is given out
next; a node that fails is passed over if another answered. The node that the area names first is asked first, so that
practices that draw at once get different requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from peewit_clients.backend import Backend, BackendError, UnreachableError
from peewit_clients.letters import Letters
from peewit_clients.practice_state import PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_clients.together import together
from peewit_federation import cbor
from peewit_federation.appointment.queue_api import ROUNDS_MAX, Draw, Place, rank_of
from peewit_federation.appointment.request import Request, Wishes, area_name, open_request, wishes_context
from peewit_federation.appointment.spoken import SAID, decode_standing, shown_claim, shown_version
from peewit_federation.draw.tickets import Ticket
from peewit_federation.errors import ForgeryError, MalformedError, RefusedError, SenderError, UnknownError
from peewit_federation.sealed import open_sealed, xwing_public
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Catchment

RECENT_S: Final = 2.0
"A view this young is not brought up to date again within one turn."
LEASE_S: Final = 300.0
UNTOLD_MAX: Final = 10
"So many who have an offer that has not arrived yet stay leased to us; more would hide those behind."


@dataclass(frozen=True)
class Drawn:
    """A request that is ours for some minutes."""

    request: Request
    wishes: Wishes
    order: tuple[int, int, bytes]
    "Rank of the group, round, priority."
    body: bytes = field(default=b"", repr=False)
    "As its user signed it."


@dataclass
class Seen:
    """What nodes handed out in one draw, beside what came of it."""

    looked: set[object] = field(default_factory=set)
    "All that was judged, by name, or by its bytes if it has none."
    useless: dict[bytes, int] = field(default_factory=dict)
    "Versions of requests that are not good for us, whatever we learn in the next minutes."
    again: set[bytes] = field(default_factory=set)
    "Requests that were passed over, as they still are."
    ours: list[Drawn] = field(default_factory=list)
    "Those who have a time from us, or an offer of which nodes were told and that they do not wait for (any more)."


@dataclass(frozen=True)
class _Kept:
    """A request that was leased to us beyond what was asked for."""

    until_s: float
    drawn: Drawn
    gave: set[str]
    "Nodes that gave it."


class Drawing:
    """The queues of a practice's areas, as it sees them."""

    def __init__(self, view: RegistryView, state: PracticeState, letters: Letters, complaints: list[str]) -> None:
        self._view = view
        self._state = state
        self._letters = letters
        self._complaints = complaints
        self.seen = Seen()
        "In the last draw."
        self._surplus: dict[Place, list[_Kept]] = {}

    def catchment(self, place: Place) -> Catchment:
        """An area as its mediator describes it. Raises `UnknownError`."""
        found = self._view.finder.look(place.mediator, Catchment.KIND, place.area, int(self._view.clock()))
        statement = read_entry(self._view.standing_entry(found) or b"", MEDIATOR_KINDS)
        if not isinstance(statement, Catchment):
            raise UnknownError("that catchment area is not known; refresh the view")
        return statement

    async def draw(
        self, place: Place, count: int, passed: tuple[tuple[bytes, int], ...] = (), *, anew: bool = False,
        known: Mapping[bytes, int] | None = None,
    ) -> list[Drawn]:  # fmt: skip
        """The next requests of an area, from all of its nodes, in their proven order. Raises `UnreachableError`.

        `passed` are those drawn before whom nothing suits: others are given instead, until it begins `anew`. All whom
        it passes over are `known`, with their versions: a node that gives them all the same hides nobody behind them.
        """
        known = known or {}
        # Requests of rounds that we do not know would be lost on us.
        await self._view.refresh([self._state.mediator], recent_s=RECENT_S)
        catchment, now_s = self.catchment(place), self._view.clock()
        found = {
            kept.drawn.request.name: kept
            for kept in self._surplus.pop(place, [])
            if kept.until_s > now_s and kept.drawn.request.version > known.get(kept.drawn.request.name, -1)
        }
        seen = self.seen = Seen()
        draw = Draw(place, count, passed, anew)
        errors: list[str] = []
        answered: list[Backend] = []
        asked = self._letters.nodes(catchment.nodes)
        for backend, data in await self._ask_all(asked, draw, errors):
            answered.append(backend)
            for item in self._items(backend.name, data)[:count]:
                try:
                    drawn = self._read(place, catchment, item, known)
                except SenderError as error:
                    self._complaints.append(f"a request at {backend.name}: {error}")
                    self._note(item, error)
                    continue
                if drawn is None:
                    continue
                name = drawn.request.name
                held = found.get(name) or _Kept(now_s + LEASE_S / 2, drawn, set())
                held.gave.add(backend.name)
                newer = drawn if held.drawn.request.version < drawn.request.version else held.drawn
                found[name] = replace(held, drawn=newer)
        if not answered:
            raise UnreachableError("no node of this area answered: " + "; ".join(errors))
        booked = {booking.request for booking in self._state.booked.values()}
        ordered, untold = [], 0
        for kept in sorted(found.values(), key=lambda kept: kept.drawn.order):
            if kept.drawn.request.name in booked or self._is_offered(kept.drawn, now_s):
                seen.looked.add(kept.drawn.request.name)
                untold += self._is_untold(kept.drawn.request.name, now_s)
                if untold > UNTOLD_MAX or not self._is_untold(kept.drawn.request.name, now_s):
                    seen.ours.append(kept.drawn)
            else:
                ordered.append(kept)
        good: list[Drawn] = []
        while ordered and len(good) < count:
            next_ones, ordered = ordered[: count - len(good)], ordered[count - len(good) :]
            waits = await asyncio.gather(*(
                self._waits(kept.drawn, [b for b in answered if b.name not in kept.gave]) for kept in next_ones
            ))  # fmt: skip
            seen.looked |= {kept.drawn.request.name for kept in next_ones}
            good += [kept.drawn for kept, holds in zip(next_ones, waits, strict=True) if holds]
        self._surplus[place] = ordered
        return good

    def _note(self, item: object, error: SenderError) -> None:
        """What could not be used; by name, if it has one and we do not merely know too little yet."""
        data = item if isinstance(item, bytes) else b""
        self.seen.looked.add(data)
        if not isinstance(error, UnknownError):
            with suppress(SenderError):
                request = open_request(data)
                self.seen.useless[request.name] = request.version

    async def _ask_all(
        self, asked: list[Backend], draw: Draw, errors: list[str]
    ) -> list[tuple[Backend, bytes]]:  # fmt: skip
        """What the nodes of an area answered: the first that does, and then all others at once."""
        broken = self._view.pool.broken
        backends = [backend for backend in asked if not broken(backend)] or asked
        answers: list[tuple[Backend, bytes]] = []
        for number, backend in enumerate(backends):
            answers += await self._ask([backend], draw, errors)
            if answers:
                return answers + await self._ask(backends[number + 1 :], draw, errors)
        return await self._ask([backend for backend in asked if backend not in backends], draw, errors)

    async def _waits(self, drawn: Drawn, others: list[Backend]) -> bool:
        """Whether no node that did not give a request can show that it is over; it is brought to them.

        So a node that hands out what is over keeps nobody from being drawn, and none can say so of what is not.
        """
        calls = (self._view.pool.post(backend, "/v1/requests", drawn.body) for backend in others)
        results = await together(calls) if others else []
        for backend, result in zip(others, results, strict=True):
            if isinstance(result, BackendError):
                continue
            try:
                _, shown = decode_standing(result)
                if shown is not None and shown[0] == SAID:
                    shown_claim(shown[1], drawn.request)
                    return False
                if shown is not None and shown_version(shown[1], drawn.request).version > drawn.request.version:
                    return False
            except SenderError as error:
                self._view.pool.complain(backend.name, f"how a request stands: {error}")
        return True

    def _is_offered(self, drawn: Drawn, now_s: float) -> bool:
        """Whether an offer of ours stands; not one that has ended, if the request was opened again since."""
        offer = self._state.offered.get(drawn.request.name)
        return offer is not None and not (offer.until_s <= now_s and drawn.request.opened > offer.request.opened)

    def _is_untold(self, name: bytes, now_s: float) -> bool:
        """Whether an offer of ours stands that no node was told of yet: it counts only as long as they hold a lease."""
        offer = self._state.offered.get(name)
        return offer is not None and not offer.told and offer.until_s > now_s

    async def _ask(
        self, backends: list[Backend], draw: Draw, errors: list[str]
    ) -> list[tuple[Backend, bytes]]:  # fmt: skip
        """What nodes answered; of those that did not, why."""
        body = draw.encode()
        calls = (self._letters.call(backend, self._state.key, "/v1/queue/draw", body) for backend in backends)
        found = []
        for backend, result in zip(backends, await together(calls), strict=True):
            if isinstance(result, BackendError):
                errors.append(f"{backend.name}: {result}")
            else:
                found.append((backend, result))
        return found

    def _items(self, name: str, data: bytes) -> list[object]:
        try:
            answer = cbor.decode(data, size_bytes_max=16 << 20)
        except SenderError as error:
            self._complaints.append(f"{name}: {error}")
            return []
        return answer if isinstance(answer, list) else []

    def _read(self, place: Place, catchment: Catchment, data: object, known: Mapping[bytes, int]) -> Drawn | None:
        """What a node gave; nothing if it is passed over as it is. Raises `SenderError`s."""
        if not isinstance(data, bytes):
            raise MalformedError("a drawn request is bytes")
        request = open_request(data)
        if request.version <= known.get(request.name, -1):
            self.seen.looked.add(request.name)
            self.seen.again.add(request.name)
            return None
        rounds, schedule = self._view.registry.rounds, self._view.charter.schedule
        if schedule is None or (place.mediator, place.area) not in request.areas or not request.wishes:
            raise ForgeryError("a request for another catchment area, or withdrawn")
        if schedule.round_at(self._view.clock()) - request.round > ROUNDS_MAX:
            raise RefusedError(f"a request of round {request.round}, which has ended")
        seats = schedule.seats_of(request.round)
        publics = rounds.keys(seats, request.round)
        if publics is None:
            raise UnknownError(f"a request of round {request.round}, which is not known here")
        rounds.require_tokens(
            request.name, request.round, request.group, request.tokens, seats, self._view.charter.admitters
        )
        priority = Ticket.decode(request.ticket).priority(request.name, publics)
        order = rank_of(catchment.groups, request.group), request.round, priority
        return Drawn(request, self._wishes(place, catchment, request), order, data)

    def _wishes(self, place: Place, catchment: Catchment, request: Request) -> Wishes:
        name = area_name(place.mediator, place.area)
        sealed = request.wishes[request.areas.index((place.mediator, place.area))]
        for seed in self._state.area_seeds.get(name, []):
            try:
                return Wishes.decode(
                    open_sealed(seed, sealed, wishes_context(name, xwing_public(seed), catchment.salt))
                )
            except ForgeryError:
                continue
        raise ForgeryError("wishes that are sealed to no key of this area that we have")
