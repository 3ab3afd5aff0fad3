"""A practice, as its own client sees it (design 4.6): it draws, offers, and confirms.

    for request in await practice.draw(place, 5):
        await practice.offer(request, [slot], until_s)
    for booking in await practice.confirm():
        …

Rules kept here: requests are taken in the order of group, round and priority, which is computed from their tickets, not
taken from nodes; a slot is promised to one request at a time; whoever accepts is checked against `H` and claimed at
the nodes before the slot is theirs; of whoever is declined nothing is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from peewit_clients.letters import Letters, Randomness
from peewit_clients.pool import BackendError, UnreachableError
from peewit_clients.registry_view import RegistryView
from peewit_federation import cbor
from peewit_federation.appointment.mailbox import give_leave
from peewit_federation.appointment.messages import (
    CONFIRMED,
    DECLINED,
    Accept,
    Confirm,
    Offer,
    accept_context,
    confirm_context,
    offer_context,
    sign_message,
)
from peewit_federation.appointment.queue_api import Place, encode_claim, encode_draw, encode_offered
from peewit_federation.appointment.request import Request, Wishes, area_name, open_request, wishes_context
from peewit_federation.draw.hashes import Person, data_hash
from peewit_federation.draw.tickets import Ticket
from peewit_federation.errors import ForgeryError, MalformedError, PeewitError, RefusedError, SenderError, UnknownError
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.sealed import open_sealed, seal, xwing_public
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Catchment

MAILBOX_NODES: Final = 2
LEASE_S: Final = 300.0
GRACE_S: Final = 60.0
"So much later than it ends an offer's accept may still be found in its mailbox."
KEPT_S: Final = 7 * 86_400
"So much longer than an offer its mailbox stays open."


@dataclass(frozen=True)
class Slot:
    """A time in the calendar for one person."""

    name: bytes
    begins_s: int
    minutes: int
    service: str


@dataclass(frozen=True)
class Drawn:
    """A request that is ours for some minutes."""

    request: Request
    wishes: Wishes
    order: tuple[int, int, bytes]
    "Rank of the group, round, priority."


@dataclass
class Offered:
    """An offer that is out."""

    drawn: Drawn
    place: Place
    slots: dict[bytes, Slot]
    until_s: int
    seed: bytes = field(repr=False)
    mail_key: SigningKey
    boxes: tuple[bytes, ...]


@dataclass(frozen=True)
class Booking:
    """A slot and who will come."""

    slot: Slot
    person: Person = field(repr=False)
    request: bytes


@dataclass
class Practice:
    """One practice's device."""

    view: RegistryView
    mediator: bytes
    key: SigningKey
    data: bytes
    salt: bytes
    area_seeds: dict[bytes, list[bytes]]
    "By name of the area: seeds of its keys, from its mediator."
    randomness: Randomness
    offered: dict[bytes, Offered] = field(default_factory=dict)
    "By `H`."
    booked: dict[bytes, Booking] = field(default_factory=dict)
    "By slot."
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.letters = Letters(self.view.pool, self.view.clock, self.randomness)
        self._one = asyncio.Lock()
        "One offer or round of confirmations at a time: slots are promised and booked between awaits."
        self._surplus: dict[Place, tuple[float, list[Drawn]]] = {}
        "By area: requests that were leased to us beyond what was asked for, and until when."

    def _catchment(self, place: Place) -> Catchment:
        found = self.view.finder.look(place.mediator, Catchment.KIND, place.area, int(self.view.clock()))
        statement = read_entry(self.view.standing_entry(found) or b"", MEDIATOR_KINDS)
        if not isinstance(statement, Catchment):
            raise UnknownError("that catchment area is not known; refresh the view")
        return statement

    async def draw(self, place: Place, count: int) -> list[Drawn]:
        """The next requests of an area, from all of its nodes, in their proven order. Raises `UnreachableError`."""
        await self.view.refresh([self.mediator])  # requests of rounds that we do not know would be lost on us
        catchment, now_s = self._catchment(place), self.view.clock()
        self._drop_ended(now_s)
        until_s, kept = self._surplus.pop(place, (0.0, []))
        found = {drawn.request.name: drawn for drawn in kept if until_s > now_s}
        errors = []
        backends = self.letters.nodes(catchment.nodes)
        for backend in backends:
            if len(found) >= count:
                break
            try:
                body = encode_draw(place, count - len(found))
                data = await self.letters.call(backend, self.key, "/v1/queue/draw", body)
                answer = cbor.decode(data, size_bytes_max=16 << 20)
            except BackendError as error:
                errors.append(f"{backend.name}: {error}")
                continue
            for item in answer if isinstance(answer, list) else []:
                try:
                    drawn = self._read(place, catchment, item)
                except SenderError as error:
                    self.complaints.append(f"a request at {backend.name}: {error}")
                    continue
                held = found.get(drawn.request.name)
                if held is None or held.request.version < drawn.request.version:
                    found[drawn.request.name] = drawn
        if len(errors) == len(backends):
            raise UnreachableError("no node of this area answered: " + "; ".join(errors))
        ours = {*self.offered, *(booking.request for booking in self.booked.values())}
        ordered = sorted((d for name, d in found.items() if name not in ours), key=lambda drawn: drawn.order)
        self._surplus[place] = now_s + LEASE_S / 2, ordered[count:]
        return ordered[:count]

    def _drop_ended(self, now_s: float) -> None:
        """Forget offers that nobody can accept any more."""
        booked = {booking.request for booking in self.booked.values()}  # and perhaps not told so yet
        self.offered = {
            name: offer for name, offer in self.offered.items() if offer.until_s + GRACE_S > now_s or name in booked
        }

    def _read(self, place: Place, catchment: Catchment, data: object) -> Drawn:
        if not isinstance(data, bytes):
            raise MalformedError("a drawn request is bytes")
        request = open_request(data)
        rounds, schedule = self.view.registry.rounds, self.view.charter.schedule
        if schedule is None or (place.mediator, place.area) not in request.areas or not request.wishes:
            raise ForgeryError("a request for another catchment area, or withdrawn")
        seats = schedule.seats_of(request.round)
        publics = rounds.keys(seats, request.round)
        if publics is None:
            raise RefusedError(f"a request of round {request.round}, which is not known here")
        voters = {operator.origin_hash for operator in self.view.charter.operators if operator.votes}
        rounds.require_tokens(request.name, request.round, request.group, request.tokens, seats, voters)
        priority = Ticket.decode(request.ticket).priority(request.name, publics)
        groups = catchment.groups
        rank = groups.index(request.group) if request.group in groups else len(groups)
        return Drawn(request, self._wishes(place, catchment, request), (rank, request.round, priority))

    def _wishes(self, place: Place, catchment: Catchment, request: Request) -> Wishes:
        name = area_name(place.mediator, place.area)
        sealed = request.wishes[request.areas.index((place.mediator, place.area))]
        for seed in self.area_seeds.get(name, []):
            try:
                return Wishes.decode(
                    open_sealed(seed, sealed, wishes_context(name, xwing_public(seed), catchment.salt))
                )
            except ForgeryError:
                continue
        raise ForgeryError("wishes that are sealed to no key of this area that we have")

    async def offer(self, place: Place, drawn: Drawn, slots: Sequence[Slot], until_s: int) -> None:
        """Promise slots to a request for a while. Raises `RefusedError` for a slot that is not free."""
        async with self._one:
            now_s = self.view.clock()
            for slot in slots:
                promised = any(slot.name in offer.slots and offer.until_s > now_s for offer in self.offered.values())
                if promised or slot.name in self.booked:
                    raise RefusedError("that slot is promised or booked already")
            seed, mail_key = self.randomness(32), SigningKey(self.randomness(32))
            boxes = await self.letters.open_mailbox(mail_key, MAILBOX_NODES, until_s + KEPT_S, practices=False)
            request = drawn.request
            offer = Offer(
                request.name, self.mediator, tuple((s.name, s.begins_s, s.minutes, s.service) for s in slots), until_s,
                self.data, self.salt, xwing_public(seed), key_id(mail_key.public), boxes,
                give_leave(mail_key, drawn.wishes.writer, until_s),
            )  # fmt: skip
            context = offer_context(request.mailbox, drawn.wishes.reply_key)
            message = seal(drawn.wishes.reply_key, sign_message(offer, self.key), context)
            # Kept before it is sent: who accepts must find us.
            promised_slots = {slot.name: slot for slot in slots}
            self.offered[request.name] = Offered(drawn, place, promised_slots, until_s, seed, mail_key, boxes)
            await self.letters.put(request.mailbox, request.mailbox_nodes, self.key, b"", message)
            await self._tell(place, "/v1/queue/offered", encode_offered(place, request.name, until_s))

    async def _tell(self, place: Place, path: str, body: bytes) -> list[BackendError]:
        """Say something to all nodes of an area; what those answered that refused."""
        refusals = []
        for backend in self.letters.nodes(self._catchment(place).nodes):
            try:
                await self.letters.call(backend, self.key, path, body)
            except BackendError as error:
                refusals.append(error)
        return refusals

    async def confirm(self) -> list[Booking]:
        """Look for accepts; check, claim and confirm them, or decline. The bookings that were made now.

        What cannot be done now, because nodes do not answer, is done when this is called again.
        """
        made = []
        async with self._one:
            self._drop_ended(self.view.clock())
            for name, offered in list(self.offered.items()):
                try:
                    booking = await self._confirm_one(offered)
                except PeewitError as error:
                    self.complaints.append(str(error))
                    continue
                if booking is not None:
                    del self.offered[name]
                    made += [booking] if isinstance(booking, Booking) else []
        return made

    async def _confirm_one(self, offered: Offered) -> Booking | bool | None:
        """The booking of an offer; False if its accept was declined, None if there is none yet."""
        context = accept_context(key_id(offered.mail_key.public), xwing_public(offered.seed))
        for message in await self.letters.read(offered.mail_key, offered.boxes):
            try:
                accept = Accept.decode(open_sealed(offered.seed, message, context))
                self._check(offered, accept)
            except SenderError as error:
                self.complaints.append(str(error))
                continue
            booking = await self._book(offered, accept)
            await self._answer(accept, booking)
            return booking or False
        return None

    @staticmethod
    def _check(offered: Offered, accept: Accept) -> None:
        """Raise `ForgeryError` for an accept by somebody else than who asked."""
        request = offered.drawn.request
        if accept.request != request.name or accept.slot not in offered.slots:
            raise ForgeryError("an accept of another request or slot than was offered")
        if data_hash(accept.person, accept.nonce) != request.data or not request.claimed_by(accept.claim):
            raise ForgeryError("an accept by somebody else than who asked: name, birth date or secret do not fit")

    async def _book(self, offered: Offered, accept: Accept) -> Booking | None:
        """The booking, if the slot is free and the claim ours; None if it is to be declined.

        Raises `UnreachableError` if no node that decides can be asked now.
        """
        request, slot = offered.drawn.request, offered.slots[accept.slot]
        held = self.booked.get(slot.name)
        if held is not None:
            return held if held.request == request.name else None
        body = encode_claim(offered.place, request.name, accept.claim)
        await self.view.refresh(sorted({mediator for mediator, _ in request.areas}))
        agreed = 0
        for number, area in enumerate(request.areas):
            nodes = self.letters.nodes(self._catchment(Place(*area)).nodes)
            refusals = await self._tell(Place(*area), "/v1/queue/claim", body)
            if any(error.status == 409 for error in refusals):
                return None
            agreed += len(nodes) - len(refusals)
            if number == 0 and not agreed:
                # The nodes of the first area decide: without them two practices might both be told yes.
                raise UnreachableError(
                    "no node that decides on this request answered: " + "; ".join(map(str, refusals))
                )
        self.booked[slot.name] = Booking(slot, accept.person, request.name)
        return self.booked[slot.name]

    async def _answer(self, accept: Accept, booking: Booking | None) -> None:
        state = CONFIRMED if booking else DECLINED
        times = (booking.slot.begins_s, booking.slot.minutes) if booking else (0, 0)
        confirm = sign_message(Confirm(accept.request, accept.slot, state, *times), self.key)
        context = confirm_context(accept.mailbox, accept.reply_key)
        message = seal(accept.reply_key, confirm, context)
        await self.letters.put(accept.mailbox, accept.mailbox_nodes, self.key, accept.leave, message)
