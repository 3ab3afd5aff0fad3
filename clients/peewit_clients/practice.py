"""A practice, as its own client sees it (design 4.6): it draws, offers, and confirms.

    practice = Practice(view, PracticeState.new(mediator, os.urandom), os.urandom, save)
    for drawn in await practice.draw(place, 5):
        await practice.offer(place, drawn, [slot], until_s)
    for booking in await practice.confirm():
        …

Rules kept here: a slot is promised to one request at a time; whoever accepts is checked against `H` and claimed at the
nodes before the slot is theirs; of whoever is declined nothing is kept. What is decided and the letter that says so are
kept in one step (`practice_state`), so that every step can be taken again. In which order requests come is `drawing`,
what the nodes of the queues are told `queue_side`, when letters leave `outbox`; changes are `appointments`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Final

from peewit_clients.bookings import Booking, Offered
from peewit_clients.calendar import Slot
from peewit_clients.drawing import Drawing, Drawn
from peewit_clients.journal import Journal
from peewit_clients.journal_state import Name
from peewit_clients.letters import MAILBOX_NODES, Letters, Randomness
from peewit_clients.outbox import Outbox
from peewit_clients.practice_state import BOOKING, OFFER, Item, PracticeState
from peewit_clients.queue_side import QueueSide
from peewit_clients.registry_view import RegistryView
from peewit_clients.unanswered import Unanswered
from peewit_clients.words import said
from peewit_federation.appointment.mailbox import LIFETIME_S_MAX, Terms, give_leave
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
from peewit_federation.appointment.notes import CANCEL, note_context, read_user_note
from peewit_federation.appointment.queue_api import Place
from peewit_federation.appointment.request import OPENINGS, Request
from peewit_federation.draw.hashes import data_hash
from peewit_federation.errors import ForgeryError, PeewitError, RefusedError, SenderError
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.registry.subjects import Verdict
from peewit_federation.sealed import open_sealed, seal, xwing_public
from peewit_federation.statements.mediator import Catchment, Provider

GRACE_S: Final = 60.0
"So much later than it ends an offer's accept may still be found in its mailbox."
SILENT_S: Final = 1800.0
"The same, while a node of that mailbox does not answer: the accept may lie there alone."
KEPT_S: Final = 7 * 86_400
"So much longer than an offer its mailbox stays open."
Decide = Callable[[Accept], bool | None]
"Whether somebody who accepted is to be booked; None: not decided yet."


@dataclass(frozen=True)
class Asking:
    """Somebody who accepted an offer, and has no answer yet."""

    accept: Accept = field(repr=False)
    slot: Slot
    until_s: int
    "Later the request may be drawn by others, or opened again."


def everybody(_: Accept) -> bool:
    """Confirm whoever accepts."""
    return True


class Practice:
    """One practice's device."""

    def __init__(
        self,
        view: RegistryView,
        state: PracticeState,
        randomness: Randomness,
        save: Callable[[Sequence[Item]], None] = lambda _: None,
    ) -> None:
        self.view = view
        self.state = state
        self.letters = Letters(view.pool, view.clock, randomness)
        self.journal = Journal(self.letters, state, randomness, save)
        self.complaints: list[str] = []
        self.asking: list[Asking] = []
        "Who accepted and was left undecided when answers were read last."
        self._over: list[tuple[Place, bytes]] = []
        "Offers that were declined just now, by area and `H`."
        self.one = asyncio.Lock()
        "One offer or round of answers at a time: slots are promised and booked between awaits."
        self.randomness = randomness
        self.drawing = Drawing(view, state, self.letters, self.complaints)
        self._outbox = Outbox(state, self.letters, self.journal, save, self.complaints, view.clock)
        there = self._outbox.nobody_there
        self.unanswered = Unanswered()
        self.queues = QueueSide(view, state, self.letters, self.catchment, self.keep, there, self.unanswered)

    @property
    def late(self) -> bool:
        """Whether something was decided that could not be told at once: its holder may have asked again meanwhile."""
        return self._outbox.late

    def caught_up(self) -> None:
        """What was late has been told."""
        self._outbox.late = False

    def keep(self, *names: Name) -> None:
        """Make durable what is now the case of these things; all together."""
        self._outbox.keep(*names)

    def post(
        self, address: bytes, origins: tuple[bytes, ...], leave: bytes, message: bytes, until_s: int
    ) -> tuple[int, bytes]:
        """Put a sealed message among those to be sent; what to `keep`."""
        return self._outbox.post(address, origins, leave, message, until_s)

    def deal_with(self, mail_key: SigningKey, boxes: tuple[bytes, ...], messages: list[bytes]) -> None:
        """Have messages deleted once what they led to, which is kept, is in the journal too."""
        self._outbox.deal_with(mail_key, boxes, messages)

    def is_dealt_with(self, message: bytes) -> bool:
        """Whether a message waits for the journal before it is deleted: it is nothing new."""
        return self._outbox.is_dealt_with(message)

    async def deliver(self) -> int:
        """Send what is still to be sent; how many letters no node has taken yet. Raises `BehindError`."""
        return await self._outbox.deliver()

    async def ready(self) -> None:
        """Take over what another device decided, or this one before it was put back from a backup."""
        async with self.one:
            await self._outbox.ready()

    async def mend(self) -> None:
        """Bring nodes up to date that missed what was written to the journal."""
        async with self.one:
            await self.journal.mend()

    @property
    def verdict(self) -> Verdict:
        """How this practice stands in the registry now."""
        mine = key_id(self.state.key.public)
        return self.view.finder.look(self.state.mediator, Provider.KIND, mine, int(self.view.clock())).verdict

    def catchment(self, place: Place) -> Catchment:
        """An area as its mediator describes it. Raises `UnknownError`."""
        return self.drawing.catchment(place)

    @property
    def places(self) -> list[Place]:
        """The areas to which it is admitted now, those that it applied for last first."""
        mine = key_id(self.state.key.public)
        found = self.view.finder.look(self.state.mediator, Provider.KIND, mine, int(self.view.clock()))
        granted = [Place(self.state.mediator, area) for area in found.standing.areas] if found.standing else []
        asked = [place for place in self.state.places if place in granted]
        return asked + [place for place in granted if place not in asked]

    async def draw(
        self, place: Place, count: int, passed: tuple[tuple[bytes, int], ...] = (), *, anew: bool = False,
        known: Mapping[bytes, int] | None = None,
    ) -> list[Drawn]:  # fmt: skip
        """The next requests of an area, but not whom was `passed` over, in order. Raises `UnreachableError`."""
        return await self.drawing.draw(place, count, passed, anew=anew, known=known)

    def _drop_ended(self, now_s: float, unread: Set[bytes]) -> None:
        """Forget offers that nobody can accept any more; of those `unread` an accept may still lie somewhere."""
        ended = [
            name
            for name, offer in self.state.offered.items()
            if offer.until_s + (KEPT_S if name in unread else GRACE_S) <= now_s
        ]
        for name in ended:
            offer = self.state.offered.pop(name)
            if name not in unread:
                self.unanswered.add(offer.request, heard=offer.told)
        if ended:
            self.keep(*((OFFER, name) for name in ended))

    # Offering

    async def offer(self, place: Place, drawn: Drawn, slots: Sequence[Slot], until_s: int) -> None:
        """Promise slots to a request for a while. Raises `RefusedError` for a slot that is not free."""
        async with self.one:
            now_s, state = self.view.clock(), self.state
            for slot in slots:
                promised = any(slot.name in offer.slots and offer.until_s > now_s for offer in state.offered.values())
                if promised or slot.name in state.booked:
                    raise RefusedError(said("error_slot_taken"))
            seed, mail_key = self.randomness(32), SigningKey(self.randomness(32))
            request = drawn.request
            context = offer_context(request.mailbox, drawn.wishes.reply_key)
            seal(drawn.wishes.reply_key, b"", context)  # who asks may have sent anything
            last_s = min(max(until_s, *(slot.begins_s for slot in slots)) + KEPT_S, int(now_s) + LIFETIME_S_MAX - 60)
            boxes = await self.letters.open_mailbox(mail_key, MAILBOX_NODES, last_s, practices=False)
            offer = Offer(
                request.name, state.mediator, tuple((s.name, s.begins_s, s.minutes, s.service) for s in slots), until_s,
                state.data, state.salt, xwing_public(seed), key_id(mail_key.public), boxes,
                give_leave(mail_key, drawn.wishes.writer, last_s),
            )  # fmt: skip
            message = seal(drawn.wishes.reply_key, sign_message(offer, state.key), context)
            promised_slots = {slot.name: slot for slot in slots}
            state.offered[request.name] = Offered(
                replace(request, wishes=()),
                drawn.wishes.reply_key,
                place,
                promised_slots,
                until_s,
                seed,
                mail_key.seed,
                boxes,
                writer=drawn.wishes.writer,
                ends_s=last_s,
            )
            # Kept before it is sent: who accepts must find us.
            post = self.post(request.mailbox, request.mailbox_nodes, b"", message, until_s)
            state.offered[request.name].letter = post[1]
            self.keep((OFFER, request.name), post)
            await self.deliver()
            await self.queues.tell_offers()

    # Confirming

    async def confirm(self, decide: Decide = everybody) -> list[Booking]:
        """Look for accepts; check, claim and confirm them, or decline. The bookings that were made now.

        What cannot be done now, because nodes do not answer, is done when this is called again. Who is left undecided
        is in `asking`, and stays in the mailbox only.
        """
        made, unread, now_s = [], set(), self.view.clock()
        async with self.one:
            self.asking.clear()
            for name, offered in list(self.state.offered.items()):
                try:
                    booking = await self._confirm_one(name, offered, decide)
                except PeewitError as error:
                    self.complaints.append(str(error))
                    unread.add(name)
                    continue
                if booking is not None:
                    made.append(booking)
                elif self.letters.silent and now_s <= offered.until_s + SILENT_S:
                    unread.add(name)
            unread |= {one.accept.request for one in self.asking}
            self._drop_ended(self.view.clock(), unread)
            await self.deliver()
            await self.queues.tell_offers()
            await self.queues.release(self._over)
            self._over.clear()
        return made

    async def _confirm_one(self, name: bytes, offered: Offered, decide: Decide) -> Booking | None:
        """The booking of an offer, if its accept was found now and is good."""
        mail_key = offered.mail_key
        context = accept_context(key_id(mail_key.public), xwing_public(offered.seed))
        messages = await self.letters.read(mail_key, offered.boxes, Terms(offered.ends_s, practices=False))
        for message in messages:
            try:
                accept = Accept.decode(open_sealed(offered.seed, message, context))
                offered.request = self._check(offered, accept)
            except SenderError as error:
                if not self._note(offered, message):  # which is read once there is a booking
                    self.complaints.append(str(error))
                continue
            over = any(self._cancels(offered, accept, other) for other in messages)
            slot, decided = offered.slots[accept.slot], False if over else decide(accept)
            if decided is None:
                self.asking.append(Asking(accept, slot, offered.until_s))
                return None
            booking = await self._book(offered, accept, slot) if decided else None
            try:
                answer = self._answer(accept, booking)
            except SenderError:  # a reply key that is none: nobody can be told, so nothing is made
                if booking:
                    del self.state.booked[slot.name]
                raise
            del self.state.offered[name]
            if booking is None:
                self._over.append((offered.place, name))
            # Booked or forgotten, and what is to be said of it: in one step.
            self.keep((OFFER, name), (BOOKING, slot.name), answer)
            self.deal_with(mail_key, offered.boxes, [message])
            return booking
        return None

    @staticmethod
    def _note(offered: Offered, message: bytes) -> bytes:
        """A note by who accepted, or nothing."""
        context = note_context(key_id(offered.mail_key.public), xwing_public(offered.seed))
        try:
            return open_sealed(offered.seed, message, context)
        except SenderError:
            return b""

    def _cancels(self, offered: Offered, accept: Accept, message: bytes) -> bool:
        """Whether who accepted has cancelled meanwhile."""
        try:
            return read_user_note(self._note(offered, message), accept.request, accept.nonce).what == CANCEL
        except SenderError:
            return False

    @staticmethod
    def _check(offered: Offered, accept: Accept) -> Request:
        """The request as it was accepted. Raises `ForgeryError` for an accept by somebody else than who asked.

        Its own key may have opened it again since it was drawn, and accept this offer all the same.
        """
        request = offered.request
        if accept.request != request.name or accept.slot not in offered.slots:
            raise ForgeryError("an accept of another request or slot than was offered")
        since = (replace(request, opened=opened) for opened in range(request.opened, OPENINGS))
        accepted = next((one for one in since if one.claimed_by(accept.claim)), None)
        if data_hash(accept.person, accept.nonce) != request.data or accepted is None:
            raise ForgeryError("an accept by somebody else than who asked: name, birth date or secret do not fit")
        return accepted

    async def _book(self, offered: Offered, accept: Accept, slot: Slot) -> Booking | None:
        """The booking, if the slot is free and the claim ours; None if it is to be declined.

        Raises `UnreachableError` if no node that decides can be asked now.
        """
        if slot.name in self.state.booked or not await self.queues.claim(offered.request, offered.place, accept.claim):
            return None
        booking = self.state.booked[slot.name] = Booking(slot, accept, offered)
        return booking

    def confirm_again(self, booking: Booking) -> tuple[int, bytes]:
        """For a holder whose device was put back from a copy; what to `keep`."""
        return self._answer(booking.accept, booking)

    def _answer(self, accept: Accept, booking: Booking | None) -> tuple[int, bytes]:
        state = CONFIRMED if booking else DECLINED
        chosen = booking.offered.slots[accept.slot] if booking else None
        times = (chosen.begins_s, chosen.minutes) if chosen else (0, 0)
        confirm = sign_message(Confirm(accept.request, accept.slot, state, *times), self.state.key)
        context = confirm_context(accept.mailbox, accept.reply_key)
        message = seal(accept.reply_key, confirm, context)
        until_s = int(self.view.clock() + KEPT_S)
        return self.post(accept.mailbox, accept.mailbox_nodes, accept.leave, message, until_s)
