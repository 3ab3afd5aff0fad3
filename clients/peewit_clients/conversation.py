"""What a person and the practice that was chosen say to each other, from the accept to the last note.

Rules kept here: the name leaves this device once, sealed to this practice, after its offer was checked again; what it
says is signed by it, about this request and slot, and counts in its order. When operators leave at whose nodes its
letters wait, others keep the mailbox, and the practice is told.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from peewit_clients.backend import UnreachableError
from peewit_clients.letters import BOXES_MAX, MAILBOX_NODES, NobodyThereError, readable
from peewit_clients.offers import AHEAD_S_MAX, Found, Offers
from peewit_clients.user_side import MAILBOX_S, UserSide
from peewit_clients.user_state import DAY_S, Chosen, Standing
from peewit_clients.words import said, told
from peewit_federation.appointment.mailbox import LIFETIME_S_MAX, Terms, give_leave
from peewit_federation.appointment.messages import (
    DECLINED,
    Accept,
    Confirm,
    accept_context,
    confirm_context,
    open_message,
    verify_message,
)
from peewit_federation.appointment.notes import (
    CANCEL,
    ELSEWHERE,
    MOVE,
    WORDS,
    Note,
    lane,
    note_context,
    read_practice_note,
)
from peewit_federation.appointment.request import claim_link
from peewit_federation.errors import ForgeryError, RefusedError, SenderError, UnknownError
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.passports.messages import Delivery, delivery_context, read_delivery, with_delivery
from peewit_federation.sealed import open_sealed, seal, xwing_public

WORDS_KEPT: Final = 20
WORDS_BYTES: Final = 8 * 1024
PASSPORTS_KEPT: Final = 20
PASSPORTS_EACH: Final = 6
"Of one appointment, so that no practice drives out what others have issued."
PASSPORT_BYTES_MAX: Final = 6 * 1024
"So that the newest ones have room in a recovery copy, whatever a practice delivers."
AFTER_S: Final = 7 * 86_400
"After the last slot of an offer, in which a practice may still write."


class Conversation:
    """With the practice that was chosen."""

    def __init__(self, side: UserSide, offers: Offers) -> None:
        self._side = side
        self._offers = offers

    async def accept(self, found: Found, slot: bytes) -> None:
        """Choose a slot, and tell this one practice who will come. May be repeated.

        Raises `RefusedError` if another was chosen that has not declined, or if the practice may not act any more.
        """
        offer = found.offer
        if slot not in [known for known, *_ in offer.slots]:
            raise UnknownError(said("error_not_offered"))
        chosen = self._side.state.chosen
        if chosen is not None and chosen.state is Standing.CANCELLED:
            raise RefusedError(said("error_cancelled"))
        if chosen is not None and chosen.offer == offer and chosen.state is Standing.DECLINED:
            raise RefusedError(said("error_offer_declined"))
        if chosen is not None and (chosen.offer, chosen.slot) != (offer, slot):
            if await self.check() is not Standing.DECLINED:
                raise RefusedError(said("error_other_accepted"))
            self._side.state.done.append(chosen.offer.mailbox)
            chosen = None
        if chosen is None:
            if offer not in [item.offer for item in await self._offers.collect()]:
                raise RefusedError(said("error_offer_gone", why="; ".join(map(str, self._offers.dropped))))
            self._offers.require_acting(offer, found.practice.subject)
            chosen = Chosen(
                offer, found.practice, slot, self._side.randomness(32), self._side.randomness(32), found.data
            )
            self._side.state.chosen = chosen
            self._side.save()
        await self._send(chosen)

    async def again(self) -> None:
        """Send the accept again, for whoever does not know whether it was sent. Harmless if it was."""
        chosen = self._side.state.chosen
        if chosen is None:
            raise UnknownError(said("error_none_accepted"))
        self._offers.require_acting(chosen.offer, chosen.practice.subject)
        await self._send(chosen)

    async def _send(self, chosen: Chosen) -> None:
        mail_key = SigningKey(chosen.mail_seed)
        if not chosen.message:
            until_s = chosen.ends_s = self._until_s(chosen)
            chosen.boxes = await self._side.letters.open_mailbox(
                mail_key, MAILBOX_NODES, until_s, practices=False, near=self._side.ends()
            )
            chosen.message = self._sealed(chosen, mail_key, until_s)
            self._side.save()
        await self._put(chosen, chosen.message)

    async def _put(self, chosen: Chosen, message: bytes) -> None:
        offer, writer = chosen.offer, self._side.state.writer
        await self._side.letters.put(offer.mailbox, chosen.origins, writer, chosen.leave or offer.leave, message)

    def _until_s(self, chosen: Chosen) -> int:
        """So long the practice may write."""
        now_s = self._side.view.clock()
        return int(min(max(now_s + MAILBOX_S, self._last_s(chosen)), now_s + LIFETIME_S_MAX - 60))

    @staticmethod
    def _last_s(chosen: Chosen) -> int:
        """So long it may have to say something, also of an appointment that was moved."""
        return max(chosen.begins_s, *(begins for _, begins, _, _ in chosen.offer.slots)) + AFTER_S

    def _sealed(self, chosen: Chosen, mail_key: SigningKey, until_s: int) -> bytes:
        request, offer, person = self._side.asked(), chosen.offer, self._side.state.person
        accept = Accept(
            request.name, chosen.slot, person.family_name, person.given_name, person.born.isoformat(),
            self._side.state.nonce, claim_link(self._side.state.claim, request.opened), xwing_public(chosen.reply_seed),
            key_id(mail_key.public), chosen.boxes,
            give_leave(mail_key, chosen.practice.subject, until_s),
        )  # fmt: skip
        return seal(offer.reply_key, accept.encode(), accept_context(offer.mailbox, offer.reply_key))

    async def check(self) -> Standing:
        """Read what the chosen practice has said, and how the appointment stands. Its words are kept in the state."""
        chosen = self._side.state.chosen
        if chosen is None:
            raise UnknownError(said("error_none_accepted"))
        mail_key = SigningKey(chosen.mail_seed)
        address, public = key_id(mail_key.public), xwing_public(chosen.reply_seed)
        if not chosen.boxes:
            return chosen.state  # nothing was sent yet: no mailbox could be opened for the answer
        await self._mend(chosen, mail_key)
        if self.cut_off:
            return chosen.state
        messages = await self._side.letters.read(mail_key, chosen.boxes, Terms(chosen.ends_s, practices=False))
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
                        self._offers.dropped.append(told(error))
        for note in sorted(notes, key=lambda note: note.number):
            self._noted(chosen, note)
        if messages:
            self._side.save()
            self._side.over.append((mail_key, chosen.boxes, messages))
        if chosen.state is Standing.SENT:
            # Its offer may have been taken back meanwhile, which is said where offers go.
            dropped = list(self._offers.dropped)
            with suppress(UnreachableError):
                await self._offers.collect()
            self._offers.dropped[:0] = dropped
        return chosen.state

    @property
    def cut_off(self) -> bool:
        """Whether all operators have left at whose nodes letters of the practice wait."""
        chosen = self._side.state.chosen
        return chosen is not None and bool(chosen.boxes) and not self._side.letters.stay(chosen.boxes)

    async def _mend(self, chosen: Chosen, mail_key: SigningKey) -> None:
        """Have the mailbox at two nodes, for long enough, and tell the practice; what fails now is done later."""
        side, letters = self._side, self._side.letters
        stay, until_s = letters.stay(chosen.boxes), self._until_s(chosen)
        enough = stay >= MAILBOX_NODES and min(self._last_s(chosen), until_s) <= chosen.ends_s + DAY_S
        if enough or chosen.state not in (Standing.SENT, Standing.BOOKED):
            return
        with suppress(UnreachableError):
            boxes = chosen.boxes
            if stay:
                await letters.open_mailbox_at(mail_key, boxes, until_s, practices=False)
            if stay < MAILBOX_NODES:
                lacking, near = MAILBOX_NODES - stay, side.ends()
                more = await letters.open_mailbox(mail_key, lacking, until_s, practices=False, besides=boxes, near=near)
                boxes = (*more, *boxes)[:BOXES_MAX]
            leave = give_leave(mail_key, chosen.practice.subject, until_s)
            await self._put(chosen, self._note(chosen, ELSEWHERE, "", boxes, leave))
            chosen.boxes, chosen.ends_s = boxes, until_s
            side.save()

    def _delivered(self, chosen: Chosen, message: bytes, address: bytes, public: bytes) -> bool:
        """Whether it is a passport; it is kept, in the place of what it renews or replaces."""
        try:
            plain = open_sealed(chosen.reply_seed, message, delivery_context(address, public))
            delivery = read_delivery(plain, chosen.practice.signing_key)
        except SenderError:
            return False
        if delivery.request != self._side.asked().name or len(delivery.encode()) > PASSPORT_BYTES_MAX:
            return False
        state = self._side.state
        held = [(one, Delivery.decode(one).request) for one in with_delivery(state.passports, delivery)]
        mine = [one for one, request in held if request == delivery.request][-PASSPORTS_EACH:]
        kept = [one for one, request in held if request != delivery.request or one in mine]
        state.passports = kept[-PASSPORTS_KEPT:]
        return True

    def _confirmed(self, chosen: Chosen, plain: bytes) -> None:
        confirm, signed = open_message(plain, Confirm)
        verify_message(signed, Confirm, chosen.practice.signing_key)
        begins_s, minutes = next((b, m) for slot, b, m, _ in chosen.offer.slots if slot == chosen.slot)
        if (confirm.request, confirm.slot) != (self._side.asked().name, chosen.slot):
            raise ForgeryError("a confirmation of another request or slot than was accepted")
        if chosen.state is Standing.CANCELLED and not chosen.begins_s and confirm.state == DECLINED:
            chosen.state = Standing.DECLINED  # cancelled before it looked: it has claimed nothing
        if chosen.state is not Standing.SENT:
            return
        if confirm.state == DECLINED:
            chosen.state = Standing.DECLINED
        elif (confirm.begins, confirm.minutes) == (begins_s, minutes):
            chosen.state, chosen.begins_s, chosen.minutes = Standing.BOOKED, begins_s, minutes
        else:
            raise ForgeryError("a confirmation of another time than was accepted")

    def _noted(self, chosen: Chosen, note: Note) -> None:
        about = (note.request, note.slot) == (self._side.asked().name, chosen.slot)
        if not about or note.number <= chosen.seen[lane(note.what)]:
            return
        chosen.seen[lane(note.what)] = note.number
        if note.text:
            self._heard(chosen, note.text, theirs=True)
        far = note.begins > self._side.view.clock() + AHEAD_S_MAX
        if note.what == CANCEL:
            chosen.state = Standing.CANCELLED
        elif note.what == MOVE and far:
            self._offers.dropped.append(said("error_offer_far"))
        elif note.what == MOVE and chosen.state in (Standing.SENT, Standing.BOOKED):
            if chosen.begins_s != note.begins:
                chosen.moved_from_s = chosen.begins_s
            chosen.state, chosen.begins_s, chosen.minutes = Standing.BOOKED, note.begins, note.minutes
        elif note.what == ELSEWHERE:
            chosen.elsewhere, chosen.leave = note.boxes, note.leave or chosen.leave

    def _heard(self, chosen: Chosen, text: str, *, theirs: bool) -> None:
        """Keep what was said, and of what was said before as much as has room in a recovery copy."""
        chosen.words.append((int(self._side.view.clock()), theirs, text))
        del chosen.words[:-WORDS_KEPT]
        while sum(len(words.encode()) for _, _, words in chosen.words) > WORDS_BYTES and len(chosen.words) > 1:
            del chosen.words[0]

    async def note(self, text: str) -> None:
        """Say something to the practice."""
        await self._say(WORDS, text)

    async def cancel(self, text: str = "") -> bool:
        """Give the appointment back; whether the practice was told. May be repeated.

        A practice that has no mailbox any more keeps nobody in an appointment.
        """
        told = True
        try:
            await self._say(CANCEL, text)
        except NobodyThereError:
            told = False
        chosen = self._side.state.chosen
        assert chosen is not None
        chosen.state = Standing.CANCELLED
        self._side.save()
        return told

    async def _say(self, what: int, text: str) -> Chosen:
        chosen = self._side.state.chosen
        if chosen is None or chosen.state not in (Standing.SENT, Standing.BOOKED):
            raise UnknownError(said("error_no_appointment"))
        await self._put(chosen, self._note(chosen, what, readable(text)))
        if text:
            self._heard(chosen, text, theirs=False)  # what nobody took was not said
            self._side.save()
        return chosen

    def _note(self, chosen: Chosen, what: int, text: str, boxes: tuple[bytes, ...] = (), leave: bytes = b"") -> bytes:
        """A sealed note, whose number is kept before it is sent."""
        offer, state = chosen.offer, self._side.state
        chosen.sent = max(chosen.sent + 1, int(self._side.view.clock()))
        self._side.save()
        note = Note(
            self._side.asked().name, chosen.slot, chosen.sent, what, text, state.nonce, boxes=boxes, leave=leave
        )
        return seal(offer.reply_key, note.encode(), note_context(offer.mailbox, offer.reply_key))
