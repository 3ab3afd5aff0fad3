"""What a practice and a holder say to each other about an appointment that is made (design 4.6).

    practice -> user    sealed to the accept's reply key, context "note"; COSE_Sign1, purpose "peewit note v1"
    user -> practice    sealed to the offer's reply key, context "note"; shows the booking secret instead of a signature

Rules kept here: syntax and bounds. A cancellation needs no answer; a move counts at once, and whoever cannot come at
the new time cancels. Numbers grow with every note of one side about one appointment, so that none counts twice; words,
changes, and where letters go are counted each by itself (`lane`), so that one that comes late is not lost for another.
Who says that letters go elsewhere, or for longer, has opened the same mailbox there before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from peewit_federation.appointment.mailbox import LEAVE_BYTES_MAX
from peewit_federation.appointment.messages import TIME
from peewit_federation.cose import Sign1, sign1
from peewit_federation.draw.hashes import NONCE_BYTES
from peewit_federation.errors import ForgeryError
from peewit_federation.keys import PublicKey, SigningKey, key_id
from peewit_federation.sealed import Context
from peewit_federation.statements.codec import SERVICE, Bytes, Many, Statement, Text, Uint, labelled

PURPOSE: Final = "peewit note v1"
WORDS, CANCEL, MOVE, WITHDRAW, ELSEWHERE = range(5)
TEXT: Final = Text("note", r"[^\x00-\x09\x0b-\x1f\x7f]{0,1000}")


def lane(what: int) -> int:
    """Notes count in their order within one of three: words, what becomes of the appointment, where letters go."""
    return {WORDS: 0, ELSEWHERE: 2}.get(what, 1)


@dataclass(frozen=True)
class Note(Statement):
    """One thing said about one appointment."""

    KIND: ClassVar[int] = 69

    request: bytes = labelled(2, Bytes(32))
    slot: bytes = labelled(3, Bytes(16))
    "The slot that it is about, as it was booked."
    number: int = labelled(4, Uint())
    "At least the time in seconds, so that a device that was put back from a copy does not repeat one."
    what: int = labelled(5, Uint(ELSEWHERE))
    """0 words, 1 the appointment is cancelled, 2 it is moved, 3 an offer is withdrawn before anybody accepted it, 4 the
    mailbox of who says this is at these nodes from now on, or for longer."""
    text: str = labelled(6, TEXT, "")
    secret: bytes = labelled(7, Bytes(0, NONCE_BYTES), b"")
    "The booking secret, from users."
    begins: int = labelled(8, TIME, 0)
    minutes: int = labelled(9, Uint(1440), 0)
    service: str = labelled(10, SERVICE, "moved")
    "Of the new time, for a move."
    boxes: tuple[bytes, ...] = labelled(11, Many(Bytes(32), 4, ordered=True), ())
    "Operators at whose nodes the mailbox is, for `ELSEWHERE`."
    leave: bytes = labelled(12, Bytes(0, LEAVE_BYTES_MAX), b"")
    "To write into it until it ends, for `ELSEWHERE`."


def note_context(mailbox: bytes, reply_key: bytes) -> Context:
    """What a note is sealed for."""
    return Context("note", mailbox, key_id(reply_key))


def sign_note(note: Note, key: SigningKey) -> bytes:
    """A practice's note."""
    return sign1(note.encode(), PURPOSE, key).encode()


def read_practice_note(data: bytes, key: bytes) -> Note:
    """A note that the practice with this public key signed. Raises `MalformedError` or `ForgeryError`."""
    signed = Sign1.parse(data)
    signed.refuse_countersignature(PURPOSE)
    signed.verify(PURPOSE, PublicKey(key))
    return Note.decode(signed.payload)


def read_user_note(data: bytes, request: bytes, secret: bytes) -> Note:
    """A note by who knows the booking secret. Raises `MalformedError` or `ForgeryError`."""
    note = Note.decode(data)
    if (note.request, note.secret) != (request, secret):
        raise ForgeryError("a note by somebody who does not know this appointment's secret")
    return note
