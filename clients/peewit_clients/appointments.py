"""What a practice does with appointments that are made: notes, cancelling, moving (design 4.6).

    acts = Appointments(practice)
    await acts.cancel(booking, "the doctor is ill")
    await acts.move(booking, slot)
    for booking, note in await acts.read():
        …

Rules kept here: a change and the letter that says so are kept in one step, and the letter is sent until its holder's
mailbox has it. A slot that is cancelled by its holder is free again; one that the practice cancels is taken out of the
calendar. A holder who was cancelled keeps the place: only their own client can open the request again. When operators
leave at whose nodes a holder writes, others keep the mailbox, and the holder is told; and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from peewit_clients.backend import UnreachableError
from peewit_clients.bookings import Booking
from peewit_clients.calendar import Slot
from peewit_clients.journal_state import Name
from peewit_clients.letters import BOXES_MAX, MAILBOX_NODES, readable
from peewit_clients.practice import KEPT_S, Practice
from peewit_clients.practice_state import BOOKING, DAY_S, LETTER, OFFER, SLOT, TAKEN_OUT
from peewit_clients.words import said
from peewit_federation.appointment.mailbox import LIFETIME_S_MAX, Terms, give_leave
from peewit_federation.appointment.messages import Accept, accept_context
from peewit_federation.appointment.notes import (
    CANCEL,
    ELSEWHERE,
    MOVE,
    WITHDRAW,
    WORDS,
    Note,
    lane,
    note_context,
    read_user_note,
    sign_note,
)
from peewit_federation.errors import PeewitError, RefusedError, SenderError
from peewit_federation.keys import key_id
from peewit_federation.sealed import open_sealed, seal, xwing_public

CONFIRM_S: Final = 3600
CONFIRMS_MAX: Final = 6
"So often an appointment is confirmed again."
WORDS_KEPT: Final = 50
"Of one appointment, on both sides."
WORDS_BYTES: Final = 16 * 1024
PAST_S: Final = 86_400
KEPT_AFTER_S: Final = 30 * 86_400
"So long after an appointment its practice still knows who came."


class Appointments:
    """The bookings of one practice."""

    def __init__(self, practice: Practice) -> None:
        self._practice = practice
        self._state = practice.state

    async def note(self, booking: Booking, text: str) -> None:
        """Say something to a holder. Raises `MalformedError` for what cannot be said."""
        readable(text)
        async with self._practice.one:
            self._heard(booking, text, theirs=False)
            letter = self._letter(booking, WORDS, text)
            self._practice.keep((BOOKING, booking.slot.name), letter)
            await self._practice.deliver()

    async def cancel(self, bookings: Iterable[Booking], text: str, *, keep_open: bool = False) -> None:
        """Take appointments back, and their slots out of the calendar unless they stay open for others.

        Their holders keep their places.
        """
        readable(text)
        async with self._practice.one:
            changed = []
            for booking in bookings:
                name = booking.slot.name
                self._state.booked.pop(name, None)
                gone = [] if keep_open else self._state.take_out(name)
                changed += [(BOOKING, name), *gone, self._letter(booking, CANCEL, text)]
            self._practice.keep(*changed)
            await self._practice.deliver()

    async def move(self, moves: Iterable[tuple[Booking, Slot]], text: str, *, keep_open: bool = False) -> None:
        """Give holders other slots at once, and take the old ones out of the calendar unless they stay open for others.

        Raises `RefusedError`. Whoever cannot come then cancels, and keeps the place.
        """
        readable(text)
        async with self._practice.one:
            changed, planned = [], list(moves)
            free = {slot.name for slot in self._state.free(self._practice.view.clock())}
            if len({slot.name for _, slot in planned} & free) < len(planned):
                raise RefusedError(said("error_nobody_moved"))
            for booking, slot in planned:
                old = booking.slot.name
                gone = [] if keep_open else self._state.take_out(old)
                changed += [(BOOKING, old), *gone, self._letter(booking, MOVE, text, slot)]
                self._state.booked.pop(old, None)
                booking.slot = slot
                self._state.booked[slot.name] = booking
                changed.append((BOOKING, slot.name))
            self._practice.keep(*changed)
            await self._practice.deliver()

    async def withdraw(self, slots: Iterable[bytes], text: str) -> None:
        """Take slots out of the calendar that nobody has booked; offers of them are withdrawn."""
        readable(text)
        async with self._practice.one:
            gone = set(slots) - set(self._state.booked)
            changed = [change for name in gone for change in self._state.take_out(name)]
            over = []
            for request, offer in list(self._state.offered.items()):
                if gone & set(offer.slots):
                    del self._state.offered[request]
                    unsent = offer.letter in self._state.letters
                    if unsent:  # perhaps at one node already: who reads it there reads that it is over, too
                        del self._state.letters[offer.letter]
                        changed.append((LETTER, offer.letter))
                    slot = next(iter(gone & set(offer.slots)))
                    note = sign_note(Note(request, slot, 1, WITHDRAW, text), self._state.key)
                    address, boxes = offer.request.mailbox, offer.request.mailbox_nodes
                    message = seal(offer.reply_key, note, note_context(address, offer.reply_key))
                    letter = self._practice.post(address, boxes, b"", message, offer.until_s)
                    changed += [(OFFER, request), letter]
                    over.append((offer.place, request))
            self._practice.keep(*changed)
            await self._practice.deliver()
            await self._practice.queues.release(over)

    def _letter(
        self,
        booking: Booking,
        what: int,
        text: str,
        slot: Slot | None = None,
        boxes: tuple[bytes, ...] = (),
        leave: bytes = b"",
    ) -> tuple[int, bytes]:
        accept = booking.accept
        booking.sent = max(booking.sent + 1, int(self._practice.view.clock()))
        times = (slot.begins_s, slot.minutes, slot.service) if slot else (0, 0, "moved")
        note = Note(accept.request, accept.slot, booking.sent, what, text, b"", *times, boxes, leave)
        context = note_context(accept.mailbox, accept.reply_key)
        message = seal(accept.reply_key, sign_note(note, self._state.key), context)
        until_s = (slot or booking.slot).begins_s + KEPT_S
        return self._practice.post(accept.mailbox, accept.mailbox_nodes, accept.leave, message, until_s)

    async def read(self) -> list[tuple[Booking, Note]]:
        """Look for what holders say. A cancellation frees the slot."""
        found = []
        async with self._practice.one:
            for name, booking in list(self._state.booked.items()):
                if self._is_past(booking):
                    continue
                with suppress(UnreachableError):  # the next time, then
                    await self._mend(name, booking)
                try:
                    found += [(booking, note) for note in await self._read(name, booking)]
                except PeewitError as error:
                    self._practice.complaints.append(str(error))
            await self._practice.deliver()
        return found

    async def _mend(self, name: bytes, booking: Booking) -> None:
        """Have the mailbox of an appointment at two nodes, and for long enough, and tell its holder.

        Operators may have left, and the appointment may have been moved. Raises `UnreachableError`.
        """
        offered, letters = booking.offered, self._practice.letters
        stay, key, now_s = letters.stay(offered.boxes), offered.mail_key, int(self._practice.view.clock())
        until_s = min(booking.slot.begins_s + KEPT_S, now_s + LIFETIME_S_MAX - 60)
        if stay >= MAILBOX_NODES and until_s <= offered.ends_s + DAY_S:
            return
        boxes, until_s = offered.boxes, max(until_s, offered.ends_s)
        if stay:
            await letters.open_mailbox_at(key, boxes, until_s, practices=False)
        if stay < MAILBOX_NODES:
            more = await letters.open_mailbox(key, MAILBOX_NODES - stay, until_s, practices=False, besides=boxes)
            boxes = (*more, *boxes)[:BOXES_MAX]
        offered.boxes, offered.ends_s = boxes, until_s
        leave = give_leave(key, offered.writer, until_s) if offered.writer else b""
        self._practice.keep((BOOKING, name), self._letter(booking, ELSEWHERE, "", boxes=boxes, leave=leave))

    def _follow(self, booking: Booking, note: Note) -> list[Name]:
        """Write to a holder elsewhere from now on, with letters that have not left yet; what to keep."""
        boxes, leave = note.boxes, note.leave or booking.accept.leave
        booking.accept = replace(booking.accept, mailbox_nodes=boxes, leave=leave)
        changed = []
        for name, letter in self._state.letters.items():
            if letter.address == booking.accept.mailbox:
                self._state.letters[name] = replace(letter, origins=boxes, leave=leave, once=False)
                changed.append((LETTER, name))
        return changed

    async def _read(self, name: bytes, booking: Booking) -> list[Note]:
        offered = booking.offered
        mail_key = offered.mail_key
        context = note_context(key_id(mail_key.public), xwing_public(offered.seed))
        terms = Terms(offered.ends_s, practices=False)
        messages = await self._practice.letters.read(mail_key, offered.boxes, terms)
        notes: list[Note] = []
        changed: list[Name] = []
        later: list[bytes] = []
        "Accepts that are answered another time."
        for message in messages:
            try:
                plain = open_sealed(offered.seed, message, context)
                note = read_user_note(plain, booking.request, booking.accept.nonce)
            except SenderError as error:
                if self._is_accept(booking, message):
                    again = None if self._practice.is_dealt_with(message) else self._say_again(booking)
                    changed += again or []
                    later += [message] if again is None else []
                else:
                    self._practice.complaints.append(f"a note that is none: {error}")
                continue
            if note.number > booking.seen[lane(note.what)] and note.what in (WORDS, CANCEL, ELSEWHERE):
                notes.append(note)
        for note in sorted(notes, key=lambda note: note.number):
            booking.seen[lane(note.what)] = note.number
            if note.what == ELSEWHERE:
                changed += self._follow(booking, note)
                continue
            self._heard(booking, note.text, theirs=True)
            if note.what == CANCEL:
                del self._state.booked[name]
                break
        read = [message for message in messages if message not in later]
        if read:
            self._practice.keep((BOOKING, name), *changed)
            self._practice.deal_with(mail_key, offered.boxes, read)
        return [note for note in notes if note.what != ELSEWHERE]

    @staticmethod
    def _is_accept(booking: Booking, message: bytes) -> bool:
        """Whether it is what was booked: by a device that was put back from a copy, and does not know that."""
        offered, sent = booking.offered, booking.accept
        context = accept_context(key_id(offered.mail_key.public), xwing_public(offered.seed))
        try:
            accept = Accept.decode(open_sealed(offered.seed, message, context))
        except SenderError:
            return False
        return (accept.request, accept.slot, accept.nonce) == (sent.request, sent.slot, sent.nonce)

    def _say_again(self, booking: Booking) -> list[Name] | None:
        """Confirm an appointment again, and that it was moved, if it was; what to keep. None: not now.

        More and more seldom, and not while it was not told yet: a node may show the same accept for ever.
        """
        now_s = int(self._practice.view.clock())
        due_s = booking.confirmed_s + CONFIRM_S * 2**booking.confirmed if booking.confirmed else 0
        told = all(letter.once for letter in self._state.letters.values() if letter.address == booking.accept.mailbox)
        if booking.confirmed >= CONFIRMS_MAX:
            return []
        if now_s < due_s or not told:
            return None
        booking.confirmed_s, booking.confirmed = now_s, booking.confirmed + 1
        said: list[Name] = [self._practice.confirm_again(booking)]
        if booking.slot.name != booking.accept.slot:
            said.append(self._letter(booking, MOVE, "", booking.slot))
        return said

    def _heard(self, booking: Booking, text: str, *, theirs: bool) -> None:
        """Keep what was said, and of what was said before as much as has room in one entry of the journal."""
        booking.words.append((int(self._practice.view.clock()), theirs, text))
        del booking.words[:-WORDS_KEPT]
        while sum(len(said.encode()) for _, _, said in booking.words) > WORDS_BYTES and len(booking.words) > 1:
            del booking.words[0]

    def _is_past(self, booking: Booking) -> bool:
        return booking.slot.begins_s + PAST_S < self._practice.view.clock()

    async def forget(self) -> int:
        """Delete what is long over: who came, and when; how many."""
        async with self._practice.one:
            before_s = self._practice.view.clock() - KEPT_AFTER_S
            booked = [name for name, booking in self._state.booked.items() if booking.slot.begins_s < before_s]
            past = [name for name, slot in self._state.calendar.items() if slot.begins_s < before_s]
            for name in booked:
                del self._state.booked[name]
            for name in past:
                del self._state.calendar[name]
            days = [day for day in self._state.taken_out if (int.from_bytes(day, "big") + 1) * DAY_S < before_s]
            for day in days:
                del self._state.taken_out[day]
            kinds = (BOOKING, booked), (SLOT, past), (TAKEN_OUT, days)
            if any(names for _, names in kinds):
                self._practice.keep(*((kind, name) for kind, names in kinds for name in names))
        return len(booked)

    async def recheck(self) -> list[Booking]:
        """Show the claims of all bookings again; those that do not count any more, whose slots are free now.

        A holder may open a claimed request again (say, because a practice did not answer), which ends the booking.
        """
        ended = []
        async with self._practice.one:
            for name, booking in list(self._state.booked.items()):
                try:
                    request, place = booking.offered.request, booking.offered.place
                    if self._is_past(booking) or await self._practice.queues.claim(
                        request, place, booking.accept.claim, held=True
                    ):
                        continue
                except PeewitError as error:
                    self._practice.complaints.append(str(error))
                    continue
                del self._state.booked[name]
                letter = self._letter(booking, CANCEL, "")  # for a holder who did not ask for it
                self._practice.keep((BOOKING, name), letter)
                ended.append(booking)
            await self._practice.deliver()
        return ended
