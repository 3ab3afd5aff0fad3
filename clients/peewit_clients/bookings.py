"""What a practice promised and booked: offers that are out, bookings, and sealed letters on their way.

Rules kept here: what each is made of, and how it is written down (CBOR, in the order of the fields).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peewit_clients.calendar import Slot
from peewit_federation.appointment.messages import Accept
from peewit_federation.appointment.queue_api import Place
from peewit_federation.appointment.request import Request
from peewit_federation.draw.hashes import Person
from peewit_federation.keys import SigningKey


@dataclass(frozen=True)
class Letter:
    """A sealed message on its way."""

    address: bytes
    origins: tuple[bytes, ...]
    leave: bytes
    message: bytes = field(repr=False)
    until_s: int
    "Later it need not be sent any more."
    once: bool = False
    "Whether a node of the mailbox has it."


@dataclass
class Offered:
    """An offer that is out."""

    request: Request
    reply_key: bytes
    "Of the wishes: to which the offer was sealed."
    place: Place
    slots: dict[bytes, Slot]
    until_s: int
    seed: bytes = field(repr=False)
    "To which accepts and notes are sealed."
    mail_seed: bytes = field(repr=False)
    boxes: tuple[bytes, ...]
    told: bool = False
    "Whether the nodes of the queue know of it."
    writer: bytes = b""
    "Key id of who may write into its mailbox."
    ends_s: int = 0
    "When the mailbox ends."
    letter: bytes = b""
    "SHA-256 of the letter with it."

    @property
    def mail_key(self) -> SigningKey:
        """Of the mailbox to which accepts and notes come."""
        return SigningKey(self.mail_seed)


@dataclass
class Booking:
    """A slot and who will come."""

    slot: Slot
    accept: Accept = field(repr=False)
    offered: Offered = field(repr=False)
    sent: int = 0
    "Number of the last note to its holder."
    seen: list[int] = field(default_factory=lambda: [0, 0, 0])
    "Numbers of the last notes of its holder, by lane."
    words: list[tuple[int, bool, str]] = field(default_factory=list)
    "(time, whether the holder said it, what)"
    confirmed_s: int = 0
    "When it was confirmed again, to a device that was put back from a copy."
    confirmed: int = 0
    "How often."

    @property
    def person(self) -> Person:
        """Who will come."""
        return self.accept.person

    @property
    def request(self) -> bytes:
        """H."""
        return self.accept.request


def slot_fields(slot: Slot) -> list[object]:
    return [slot.name, slot.begins_s, slot.minutes, slot.service]


def offered_fields(offer: Offered) -> list[object]:
    return [
        offer.request.encode(), offer.reply_key, offer.place.mediator, offer.place.area,
        [slot_fields(slot) for slot in offer.slots.values()],
        offer.until_s, offer.seed, offer.mail_seed, list(offer.boxes), offer.told,
        offer.writer, offer.ends_s, offer.letter,
    ]  # fmt: skip


def read_offered(
    request: bytes, reply_key: bytes, mediator: bytes, area: bytes, slots: list[Any], until_s: int, seed: bytes,
    mail_seed: bytes, boxes: list[bytes], told: bool, writer: bytes = b"", ends_s: int = 0, letter: bytes = b"",
) -> Offered:  # fmt: skip
    return Offered(
        Request.decode(request), reply_key, Place(mediator, area), {slot[0]: Slot(*slot) for slot in slots}, until_s,
        seed, mail_seed, tuple(boxes), told, writer, ends_s, letter,
    )  # fmt: skip


def booking_fields(b: Booking) -> list[object]:
    return [
        slot_fields(b.slot),
        b.accept.encode(),
        offered_fields(b.offered),
        b.sent,
        b.seen,
        [list(w) for w in b.words],
        b.confirmed_s,
        b.confirmed,
    ]


def read_booking(
    slot: list[Any], accept: bytes, offered: list[Any], sent: int, seen: int | list[int], words: list[Any],
    confirmed_s: int = 0, confirmed: int = 0,
) -> Booking:  # fmt: skip
    said = [(at_s, theirs, text) for at_s, theirs, text in words]
    lanes = [seen] * 3 if isinstance(seen, int) else seen
    offer = read_offered(*offered)
    return Booking(Slot(*slot), Accept.decode(accept), offer, sent, lanes, said, confirmed_s, confirmed)
