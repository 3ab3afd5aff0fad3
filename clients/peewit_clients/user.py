"""A person who wants an appointment, as their own client sees it (design 4.6). No server knows who that is.

    user = User(view, person, group, randomness)
    await user.ask([(mediator, area)], prove, ["flu"])
    for found in await user.offers(): …
    await user.accept(found.offer, slot)
    await user.confirmation()

Rules kept here: the name leaves this device once, sealed to the practice that was chosen, after its grant, its
signature, its commitment and the freshness of the registry were checked; what is wrong with an offer is said in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from peewit_clients.letters import Letters, Randomness
from peewit_clients.place import Admitter, Place, Prove
from peewit_clients.pool import BackendError, UnreachableError
from peewit_clients.registry_view import MEANING, RegistryView
from peewit_federation.appointment.mailbox import give_leave
from peewit_federation.appointment.messages import (
    Accept,
    Confirm,
    Offer,
    accept_context,
    confirm_context,
    offer_context,
    open_message,
    read_practice_data,
    verify_message,
)
from peewit_federation.appointment.request import Request, Wishes, area_name, wishes_context
from peewit_federation.draw.hashes import NONCE_BYTES, Person, data_hash, request_hash
from peewit_federation.errors import ForgeryError, RefusedError, SenderError, UnknownError
from peewit_federation.keys import SigningKey, key_id, sha256
from peewit_federation.registry.subjects import Verdict
from peewit_federation.sealed import open_sealed, seal, xwing_public
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Catchment, Provider

MAILBOX_S: Final = 100 * 86_400
MAILBOX_NODES: Final = 2
Area = tuple[bytes, bytes]
"Mediator and area."


@dataclass(frozen=True)
class Found:
    """An offer that may be accepted, with the practice behind it."""

    offer: Offer
    practice: Provider
    data: dict[str, str]


@dataclass
class User:
    """One person's request."""

    view: RegistryView
    person: Person = field(repr=False)
    group: str
    randomness: Randomness
    dropped: list[str] = field(default_factory=list)
    "Why offers were not shown."

    def __post_init__(self) -> None:
        new = self.randomness
        self.nonce = new(NONCE_BYTES)
        self.key, self.mail_key, self.writer = (SigningKey(new(32)) for _ in range(3))
        self.reply_seed, self.claim = new(32), new(32)
        self.letters = Letters(self.view.pool, self.view.clock, new)
        self.place: Place | None = None
        self.request: Request | None = None
        self.accepted: tuple[Found, bytes, SigningKey, tuple[bytes, ...], bytes] | None = None
        "The offer, the slot, and the mailbox and seed for the answer."

    async def ask(self, areas: Sequence[Area], prove: Prove, services: Sequence[str]) -> Request:
        """Get a place in the queue, and put the request into it."""
        now_s = self.view.clock()
        data = data_hash(self.person, self.nonce)
        catchments = [self._catchment(*area) for area in areas]
        name = request_hash([area_name(*area) for area in areas], key_id(self.key.public), data)
        self.place = await Admitter(self.view, self.randomness).get(name, self.group, prove)
        until_s = int(now_s + MAILBOX_S)
        boxes = await self.letters.open_mailbox(self.mail_key, MAILBOX_NODES, until_s, practices=True)
        wishes = Wishes(
            xwing_public(self.reply_seed), key_id(self.writer.public), tuple(sorted(services))
        ).encode()  # fmt: skip
        sealed = tuple(
            self._seal(area_name(*area), catchment, wishes, now_s)
            for area, catchment in zip(areas, catchments, strict=True)
        )
        self.request = Request(
            tuple(areas), data, self.key.public, self.place.round, self.place.tokens, self.place.ticket.encode(), 1,
            sha256(self.claim), key_id(self.mail_key.public), boxes, sealed, self.group,
        )  # fmt: skip
        await self._upload(self.request, [origin for catchment in catchments for origin in catchment.nodes])
        return self.request

    def _catchment(self, mediator: bytes, area: bytes) -> Catchment:
        found = self.view.finder.look(mediator, Catchment.KIND, area, int(self.view.clock()))
        statement = read_entry(self.view.standing_entry(found) or b"", MEDIATOR_KINDS)
        if found.verdict is not Verdict.ACTIVE or not isinstance(statement, Catchment) or not statement.keys:
            raise UnknownError(f"this catchment area is {found.verdict.value}, or has no key for requests yet")
        return statement

    @staticmethod
    def _seal(area: bytes, catchment: Catchment, wishes: bytes, now_s: float) -> bytes:
        key = max((begins, key) for begins, key in catchment.keys if begins <= now_s)[1]
        return seal(key, wishes, wishes_context(area, key, catchment.salt))

    async def _upload(self, request: Request, origins: Sequence[bytes]) -> None:
        body, taken, refusals = request.sign(self.key), 0, []
        for backend in self.letters.nodes(tuple(dict.fromkeys(origins))):
            try:
                await self.view.pool.post(backend, "/v1/requests", body)
                taken += 1
            except BackendError as error:
                refusals.append(f"{backend.name}: {error}")
        if not taken:
            raise UnreachableError("no node of these areas took the request: " + "; ".join(refusals))

    async def offers(self) -> list[Found]:
        """Offers that may be accepted now. Why others may not is in `dropped`."""
        request = self._asked()
        messages = await self.letters.read(self.mail_key, request.mailbox_nodes)
        await self.view.refresh([mediator for mediator, _ in request.areas])
        found = []
        for message in messages:
            try:
                found.append(self._check(request, message))
            except SenderError as error:
                self.dropped.append(str(error))
        return found

    def _check(self, request: Request, message: bytes) -> Found:
        context = offer_context(request.mailbox, xwing_public(self.reply_seed))
        offer, signed = open_message(open_sealed(self.reply_seed, message, context), Offer)
        if offer.request != request.name or offer.mediator not in {mediator for mediator, _ in request.areas}:
            raise ForgeryError("an offer for another request, or by a practice of another mediator")
        now_s = self.view.clock()
        found = self.view.finder.look(offer.mediator, Provider.KIND, signed.kid, int(now_s))
        practice = read_entry(self.view.standing_entry(found) or b"", MEDIATOR_KINDS)
        if found.verdict is not Verdict.ACTIVE or not isinstance(practice, Provider):
            raise RefusedError(f"an offer of a practice that is {found.verdict.value}: {MEANING[found.verdict]}")
        verify_message(signed, Offer, practice.signing_key)
        if not any(area in practice.areas for mediator, area in request.areas if mediator == offer.mediator):
            raise RefusedError("an offer of a practice of another catchment area")
        fresh = self.view.freshness.get(offer.mediator)
        if fresh is None or not fresh.may_book:
            raise RefusedError("what is known of this practice is too old to send it a name; try again")
        if now_s >= offer.until:
            raise RefusedError("an offer that has ended")
        return Found(offer, practice, read_practice_data(offer.data, offer.salt, practice.commitment))

    async def accept(self, found: Found, slot: bytes) -> None:
        """Choose a slot, and tell this one practice who will come."""
        request, offer = self._asked(), found.offer
        if slot not in [known for known, *_ in offer.slots]:
            raise UnknownError("that slot was not offered")
        mail_key, seed = SigningKey(self.randomness(32)), self.randomness(32)
        until_s = int(self.view.clock() + MAILBOX_S)
        boxes = await self.letters.open_mailbox(mail_key, MAILBOX_NODES, until_s, practices=False)
        leave = give_leave(mail_key, found.practice.subject, until_s)
        accept = Accept(
            request.name, slot, self.person.family_name, self.person.given_name, self.person.born.isoformat(),
            self.nonce, self.claim, xwing_public(seed), key_id(mail_key.public), boxes, leave,
        )  # fmt: skip
        message = seal(offer.reply_key, accept.encode(), accept_context(offer.mailbox, offer.reply_key))
        self.accepted = found, slot, mail_key, boxes, seed
        await self.letters.put(offer.mailbox, offer.mailbox_nodes, self.writer, offer.leave, message)

    async def confirmation(self) -> Confirm | None:
        """What the chosen practice answered, if it did."""
        if self.accepted is None:
            raise UnknownError("no offer was accepted yet")
        found, slot, mail_key, boxes, seed = self.accepted
        context = confirm_context(key_id(mail_key.public), xwing_public(seed))
        for message in await self.letters.read(mail_key, boxes):
            try:
                confirm, signed = open_message(open_sealed(seed, message, context), Confirm)
                verify_message(signed, Confirm, found.practice.signing_key)
            except SenderError as error:
                self.dropped.append(str(error))
                continue
            if (confirm.request, confirm.slot) == (self._asked().name, slot):
                return confirm
        return None

    def _asked(self) -> Request:
        if self.request is None:
            raise UnknownError("nothing was asked for yet")
        return self.request
