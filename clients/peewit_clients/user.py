"""A person who wants an appointment, as their own client sees it (design 4.6). No server knows who that is.

    user = User(view, UserState.new(person, group, areas, services, os.urandom), os.urandom, save)
    await user.ask(prove)
    for found in await user.offers(): …
    await user.accept(found, slot)
    await user.check()                 what the practice has said since
    await user.cancel("…")             and perhaps, to ask again in the old place, user.reopen()

Rules kept here: the name leaves this device once, sealed to the practice that was chosen, after its grant, its
signature, its commitment and the freshness of the registry were checked; what is wrong with an offer is said in words.
What a step needs is kept before it is sent (`save`), so that every step can be taken again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from peewit_clients.letters import Letters, Randomness
from peewit_clients.place import Admitter, Place, Prove
from peewit_clients.pool import BackendError, UnreachableError
from peewit_clients.registry_view import MEANING, RegistryView
from peewit_clients.together import together
from peewit_clients.user_state import Chosen, Standing, UserState
from peewit_federation.appointment.mailbox import LIFETIME_S_MAX, give_leave
from peewit_federation.appointment.messages import (
    DECLINED,
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
from peewit_federation.appointment.notes import (
    CANCEL,
    MOVE,
    WITHDRAW,
    WORDS,
    Note,
    note_context,
    read_practice_note,
)
from peewit_federation.appointment.request import (
    OPENINGS,
    Request,
    Wishes,
    area_name,
    claim_hash,
    claim_link,
    wishes_context,
)
from peewit_federation.draw.hashes import data_hash, request_hash
from peewit_federation.errors import ForgeryError, RefusedError, SenderError, UnknownError
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.passports.messages import delivery_context, read_delivery, with_delivery
from peewit_federation.registry.subjects import Verdict
from peewit_federation.sealed import Context, open_sealed, seal, xwing_public
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Catchment, Provider

WORDS_KEPT: Final = 20
PASSPORTS_KEPT: Final = 20
MAILBOX_S: Final = 100 * 86_400
AFTER_S: Final = 7 * 86_400
MAILBOX_NODES: Final = 2


@dataclass(frozen=True)
class Found:
    """An offer that may be accepted, with the practice behind it."""

    offer: Offer
    practice: Provider
    data: dict[str, str]


class OverError(RefusedError):
    """An offer that nobody can accept any more."""


class User:
    """One person's request."""

    def __init__(
        self, view: RegistryView, state: UserState, randomness: Randomness, save: Callable[[UserState], None]
    ) -> None:
        self.view = view
        self.state = state
        self.dropped: list[str] = []
        "Why offers were not shown."
        self.place: Place | None = None
        self.letters = Letters(view.pool, view.clock, randomness)
        self._randomness = randomness
        self._save = save

    async def ask(self, prove: Prove) -> Request:
        """Get a place in the queue, and put the request into it. May be repeated."""
        now_s, state = self.view.clock(), self.state
        catchments = [self.catchment(*area) for area in state.areas]
        if state.request is None:
            self._save(state)
            data = data_hash(state.person, state.nonce)
            name = request_hash(
                [area_name(*area) for area in state.areas], key_id(state.key.public), claim_hash(state.claim), data
            )
            admitter = Admitter(self.view, self._randomness, state.asked, lambda: self._save(state))
            place = self.place = await admitter.get(name, state.group, prove)
            until_s = int(now_s + MAILBOX_S)
            boxes = await self.letters.open_mailbox(state.mail_key, MAILBOX_NODES, until_s, practices=True)
            wishes = Wishes(
                xwing_public(state.reply_seed), key_id(state.writer.public), state.services, *state.wishes
            ).encode()
            sealed = tuple(
                self._seal(area_name(*area), catchment, wishes, now_s)
                for area, catchment in zip(state.areas, catchments, strict=True)
            )
            state.request = Request(
                state.areas, data, state.key.public, place.round, place.tokens, place.ticket.encode(), 1,
                claim_hash(state.claim), key_id(state.mail_key.public), boxes, sealed, state.group,
            )  # fmt: skip
            state.asked.clear()
            self._save(state)
        await self._upload(state.request, [origin for catchment in catchments for origin in catchment.nodes])
        return state.request

    def catchment(self, mediator: bytes, area: bytes) -> Catchment:
        """An area that may be asked now. Raises `UnknownError`."""
        found = self.view.finder.look(mediator, Catchment.KIND, area, int(self.view.clock()))
        statement = read_entry(self.view.standing_entry(found) or b"", MEDIATOR_KINDS)
        if found.verdict is not Verdict.ACTIVE or not isinstance(statement, Catchment) or not statement.keys:
            raise UnknownError(f"this catchment area is {found.verdict.value}, or has no key for requests yet")
        return statement

    @staticmethod
    def _seal(area: bytes, catchment: Catchment, wishes: bytes, now_s: float) -> bytes:
        _, key = max(((begins, key) for begins, key in catchment.keys if begins <= now_s), default=(0, b""))
        if not key:
            raise UnknownError("this catchment area has no key for requests yet")
        return seal(key, wishes, wishes_context(area, key, catchment.salt))

    async def _upload(self, request: Request, origins: Sequence[bytes]) -> bool:
        """Bring a request to nodes; whether one of them says that it is claimed."""
        shown = replace(request, wishes=()) if self.state.withdrawn else request
        body, taken, refusals, claimed = shown.sign(self.state.key), 0, [], False
        backends = self.letters.nodes(tuple(dict.fromkeys(origins)))
        results = await together(self.view.pool.post(backend, "/v1/requests", body) for backend in backends)
        for backend, result in zip(backends, results, strict=True):
            if isinstance(result, BackendError):
                refusals.append(f"{backend.name}: {result}")
                claimed = claimed or result.status == 409
            else:
                taken += 1
        if not taken and not claimed:
            raise UnreachableError("no node of these areas took the request: " + "; ".join(refusals))
        return claimed

    async def offers(self) -> list[Found]:
        """Offers that may be accepted now. Why others may not is in `dropped`."""
        request = self._asked()
        messages = await self.letters.read(self.state.mail_key, request.mailbox_nodes)
        await self.view.refresh([mediator for mediator, _ in request.areas])
        found: dict[bytes, Found] = {}
        notes: list[bytes] = []
        noted: list[bytes] = []
        gone: list[bytes] = []
        self.dropped.clear()
        for message in messages:
            try:
                found[message] = self._check(request, message)
            except OverError as error:
                self.dropped.append(str(error))
                gone.append(message)
            except SenderError as error:
                try:
                    notes.append(open_sealed(self.state.reply_seed, message, self._note_context(request)))
                    noted.append(message)
                except SenderError:
                    self.dropped.append(str(error))
                    if not self._opens(request, message):
                        gone.append(message)
        back = [message for message, item in found.items() if self._withdrawn(item, notes)]
        gone += [*back, *noted] if back else []
        if gone:
            # A practice may leave two letters: what is over makes room for the next.
            await self.letters.delete(self.state.mail_key, request.mailbox_nodes, gone)
        return [item for message, item in found.items() if message not in back]

    def _opens(self, request: Request, message: bytes) -> bool:
        """Whether it is an offer to us at all."""
        try:
            context = offer_context(request.mailbox, xwing_public(self.state.reply_seed))
            open_sealed(self.state.reply_seed, message, context)
        except SenderError:
            return False
        return True

    def _note_context(self, request: Request) -> Context:
        return note_context(request.mailbox, xwing_public(self.state.reply_seed))

    def _withdrawn(self, found: Found, notes: Sequence[bytes]) -> bool:
        """Whether the practice took its offer back: asked before a name is sent to it."""
        offered = {slot for slot, *_ in found.offer.slots}
        for data in notes:
            with suppress(SenderError):
                note = read_practice_note(data, found.practice.signing_key)
                if (note.what, note.request) == (WITHDRAW, found.offer.request) and note.slot in offered:
                    self.dropped.append(f"an offer that its practice took back: {note.text or 'no reason was given'}")
                    return True
        return False

    def _check(self, request: Request, message: bytes) -> Found:
        context = offer_context(request.mailbox, xwing_public(self.state.reply_seed))
        offer, signed = open_message(open_sealed(self.state.reply_seed, message, context), Offer)
        if offer.request != request.name or offer.mediator not in {mediator for mediator, _ in request.areas}:
            raise ForgeryError("an offer for another request, or by a practice of another mediator")
        if self.view.clock() >= offer.until or offer.mailbox in self.state.done:
            raise OverError("an offer that has ended, or was accepted before and came to nothing")
        practice = self._require_acting(offer, signed.kid)
        verify_message(signed, Offer, practice.signing_key)
        if not any(area in practice.areas for mediator, area in request.areas if mediator == offer.mediator):
            raise RefusedError("an offer of a practice of another catchment area")
        return Found(offer, practice, read_practice_data(offer.data, offer.salt, practice.commitment))

    def _require_acting(self, offer: Offer, subject: bytes) -> Provider:
        """The grant of a practice that may act now. Raises `RefusedError` saying what is wrong."""
        now_s = self.view.clock()
        found = self.view.finder.look(offer.mediator, Provider.KIND, subject, int(now_s))
        practice = read_entry(self.view.standing_entry(found) or b"", MEDIATOR_KINDS)
        if found.verdict is not Verdict.ACTIVE or not isinstance(practice, Provider):
            raise RefusedError(f"an offer of a practice that is {found.verdict.value}: {MEANING[found.verdict]}")
        fresh = self.view.freshness.get(offer.mediator)
        if fresh is None or not fresh.may_book:
            raise RefusedError("what is known of this practice is too old to send it a name; try again")
        if now_s >= offer.until:
            raise OverError("an offer that has ended")
        return practice

    async def renew(self) -> None:
        """Bring a later version: who did not answer offers is drawn again, in the old place. May be repeated."""
        await self._bring(self._asked())

    async def withdraw(self) -> None:
        """Take the request out of all queues, for whoever wants no appointment any more. May be repeated.

        Raises `RefusedError` while an appointment stands.
        """
        request, chosen = self._asked(), self.state.chosen
        if chosen is not None and chosen.state in (Standing.SENT, Standing.BOOKED):
            raise RefusedError("an appointment stands, or is being made; cancel it first")
        self.state.withdrawn = True
        if chosen is not None and chosen.state is Standing.CANCELLED:
            self._save(self.state)  # a practice has claimed it, so it is in no queue
        else:
            await self._bring(request)

    async def reopen(self) -> None:
        """Ask again after a booking ended, or a practice never answered, in the old place.

        Raises `RefusedError` while an appointment stands, and after the second time.
        """
        request, chosen = self._asked(), self.state.chosen
        silent = chosen is not None and chosen.state is Standing.SENT and self.view.clock() > chosen.offer.until
        if chosen is not None and not silent and chosen.state in (Standing.SENT, Standing.BOOKED):
            raise RefusedError("an appointment stands, or is being made; cancel it first")
        if chosen is not None and chosen.state is not Standing.DECLINED:
            if request.opened + 1 >= OPENINGS:
                raise RefusedError("this request was opened again twice; ask anew with another code")
            request = replace(request, opened=request.opened + 1)
        if chosen is not None:
            self.state.done.append(chosen.offer.mailbox)
        self.state.chosen = None
        self.state.withdrawn = False
        claimed = await self._bring(request)
        if claimed and request.opened + 1 < OPENINGS:
            # A practice that declined, or another, had claimed it at some node already.
            await self._bring(replace(self._asked(), opened=request.opened + 1))

    async def _bring(self, request: Request) -> bool:
        """Bring the next version; whether a node holds it for claimed."""
        self.state.request = replace(request, version=request.version + 1)
        self._save(self.state)
        catchments = [self.catchment(*area) for area in self.state.areas]
        return await self._upload(self.state.request, [o for catchment in catchments for o in catchment.nodes])

    async def accept(self, found: Found, slot: bytes) -> None:
        """Choose a slot, and tell this one practice who will come. May be repeated.

        Raises `RefusedError` if another was chosen that has not declined, or if the practice may not act any more.
        """
        offer = found.offer
        if slot not in [known for known, *_ in offer.slots]:
            raise UnknownError("that slot was not offered")
        chosen = self.state.chosen
        if chosen is not None and (chosen.offer, chosen.slot) != (offer, slot):
            if await self.check() is not Standing.DECLINED:
                raise RefusedError("another offer was accepted; only if its practice declines another can be chosen")
            self.state.done.append(chosen.offer.mailbox)
            chosen = None
        if chosen is None:
            if offer not in [item.offer for item in await self.offers()]:
                raise RefusedError("that offer cannot be accepted any more: " + "; ".join(self.dropped))
            self._require_acting(offer, found.practice.subject)
            chosen = Chosen(offer, found.practice, slot, self._randomness(32), self._randomness(32), found.data)
            self.state.chosen = chosen
            self._save(self.state)
        await self._send(chosen)

    async def again(self) -> None:
        """Send the accept again, for whoever does not know whether it was sent. Harmless if it was."""
        chosen = self.state.chosen
        if chosen is None:
            raise UnknownError("no offer was accepted yet")
        self._require_acting(chosen.offer, chosen.practice.subject)
        await self._send(chosen)

    async def _send(self, chosen: Chosen) -> None:
        offer = chosen.offer
        last_s = max(begins for _, begins, _, _ in offer.slots) + AFTER_S
        until_s = min(max(int(self.view.clock() + MAILBOX_S), last_s), int(self.view.clock() + LIFETIME_S_MAX - 60))
        mail_key = SigningKey(chosen.mail_seed)
        if not chosen.message:
            chosen.boxes = await self.letters.open_mailbox(mail_key, MAILBOX_NODES, until_s, practices=False)
            chosen.message = self._sealed(chosen, mail_key, until_s)
            self._save(self.state)
        origins, writer = offer.mailbox_nodes, self.state.writer
        await self.letters.put(offer.mailbox, origins, writer, offer.leave, chosen.message)

    def _sealed(self, chosen: Chosen, mail_key: SigningKey, until_s: int) -> bytes:
        request, offer, person = self._asked(), chosen.offer, self.state.person
        accept = Accept(
            request.name, chosen.slot, person.family_name, person.given_name, person.born.isoformat(),
            self.state.nonce, claim_link(self.state.claim, request.opened), xwing_public(chosen.reply_seed),
            key_id(mail_key.public), chosen.boxes,
            give_leave(mail_key, chosen.practice.subject, until_s),
        )  # fmt: skip
        return seal(offer.reply_key, accept.encode(), accept_context(offer.mailbox, offer.reply_key))

    async def check(self) -> Standing:
        """Read what the chosen practice has said, and how the appointment stands. Its words are kept in the state."""
        chosen = self.state.chosen
        if chosen is None:
            raise UnknownError("no offer was accepted yet")
        mail_key = SigningKey(chosen.mail_seed)
        address, public = key_id(mail_key.public), xwing_public(chosen.reply_seed)
        if not chosen.boxes:
            return chosen.state  # nothing was sent yet: no mailbox could be opened for the answer
        messages = await self.letters.read(mail_key, chosen.boxes)
        notes = []
        for message in messages:
            try:
                self._confirmed(chosen, open_sealed(chosen.reply_seed, message, confirm_context(address, public)))
            except SenderError as error:
                try:
                    plain = open_sealed(chosen.reply_seed, message, note_context(address, public))
                    notes.append(read_practice_note(plain, chosen.practice.signing_key))
                except SenderError:
                    if not self._delivered(chosen, message, address, public):
                        self.dropped.append(str(error))
        for note in sorted(notes, key=lambda note: note.number):
            self._noted(chosen, note)
        if messages:
            self._save(self.state)
            await self.letters.delete(mail_key, chosen.boxes, messages)
        return chosen.state

    def _delivered(self, chosen: Chosen, message: bytes, address: bytes, public: bytes) -> bool:
        """Whether it is a passport; it is kept, in the place of what it renews or replaces."""
        try:
            plain = open_sealed(chosen.reply_seed, message, delivery_context(address, public))
            delivery = read_delivery(plain, chosen.practice.signing_key)
        except SenderError:
            return False
        self.state.passports = with_delivery(self.state.passports, delivery)[-PASSPORTS_KEPT:]
        return True

    def _confirmed(self, chosen: Chosen, plain: bytes) -> None:
        confirm, signed = open_message(plain, Confirm)
        verify_message(signed, Confirm, chosen.practice.signing_key)
        begins_s, minutes = next((b, m) for slot, b, m, _ in chosen.offer.slots if slot == chosen.slot)
        if (confirm.request, confirm.slot) != (self._asked().name, chosen.slot):
            raise ForgeryError("a confirmation of another request or slot than was accepted")
        if chosen.state is not Standing.SENT:
            return
        if confirm.state == DECLINED:
            chosen.state = Standing.DECLINED
        elif (confirm.begins, confirm.minutes) == (begins_s, minutes):
            chosen.state, chosen.begins_s, chosen.minutes = Standing.BOOKED, begins_s, minutes
        else:
            raise ForgeryError("a confirmation of another time than was accepted")

    def _noted(self, chosen: Chosen, note: Note) -> None:
        if (note.request, note.slot) != (self._asked().name, chosen.slot) or note.number <= chosen.seen:
            return
        chosen.seen = note.number
        if note.text:
            chosen.words.append((int(self.view.clock()), True, note.text))
            del chosen.words[:-WORDS_KEPT]
        if note.what == CANCEL:
            chosen.state = Standing.CANCELLED
        elif note.what == MOVE and chosen.state in (Standing.SENT, Standing.BOOKED):
            chosen.state, chosen.begins_s, chosen.minutes = Standing.BOOKED, note.begins, note.minutes

    async def note(self, text: str) -> None:
        """Say something to the practice."""
        await self._say(WORDS, text)

    async def cancel(self, text: str = "") -> None:
        """Give the appointment back. May be repeated."""
        chosen = await self._say(CANCEL, text)
        chosen.state = Standing.CANCELLED
        self._save(self.state)

    async def _say(self, what: int, text: str) -> Chosen:
        chosen = self.state.chosen
        if chosen is None or chosen.state not in (Standing.SENT, Standing.BOOKED):
            raise UnknownError("there is no appointment")
        offer = chosen.offer
        chosen.sent = max(chosen.sent + 1, int(self.view.clock()))
        note = Note(self._asked().name, chosen.slot, chosen.sent, what, text, self.state.nonce)
        if text:
            chosen.words.append((int(self.view.clock()), False, text))
            del chosen.words[:-WORDS_KEPT]
        self._save(self.state)
        message = seal(offer.reply_key, note.encode(), note_context(offer.mailbox, offer.reply_key))
        await self.letters.put(offer.mailbox, offer.mailbox_nodes, self.state.writer, offer.leave, message)
        return chosen

    def practice_verdict(self) -> Verdict | None:
        """Whether the practice of the appointment may still act, as far as the registry says; None without one."""
        chosen = self.state.chosen
        if chosen is None:
            return None
        now_s = int(self.view.clock())
        return self.view.finder.look(chosen.offer.mediator, Provider.KIND, chosen.practice.subject, now_s).verdict

    def _asked(self) -> Request:
        if self.state.request is None:
            raise UnknownError("nothing was asked for yet")
        return self.state.request
