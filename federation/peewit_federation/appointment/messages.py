"""What a practice and a user say to each other, sealed (design 4.6).

    offer     practice -> user's mailbox, sealed to the wishes' reply key, signed by the practice
    accept    user -> the offer's mailbox, sealed to the offer's reply key; the first to show who the user is
    confirm   practice -> the accept's mailbox, sealed to the accept's reply key, signed by the practice

A practice signs COSE_Sign1 with the key of its grant, purposes "peewit offer v1" and "peewit confirm v1".

Rules kept here: syntax and bounds; each message is sealed for its kind and mailbox, so that none passes for another; a
practice's data fits the commitment of its grant. Whether a practice may act, and a slot is free, is asked elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import ClassVar, Final, TypeVar

from peewit_federation import cbor
from peewit_federation.cose import Sign1, sign1
from peewit_federation.draw.hashes import NONCE_BYTES, Person
from peewit_federation.errors import ForgeryError, MalformedError
from peewit_federation.keys import XWING_PUBLIC_BYTES, PublicKey, SigningKey, key_id, sha256
from peewit_federation.sealed import Context
from peewit_federation.statements.codec import SERVICE, Bytes, Many, Record, Statement, Text, Uint, labelled

DATA_BYTES_MAX: Final = 2048
SLOTS_MAX: Final = 16
NAME: Final = Text("name", r"[^\x00-\x1f\x7f]{0,320}")
TIME: Final = Uint(1 << 40)
"POSIX seconds, of some thirty thousand years."
DAY: Final = Text("date", r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
CONFIRMED, DECLINED = 1, 0
T = TypeVar("T", bound=Statement)


@dataclass(frozen=True)
class Offer(Statement):
    """Slots that a practice holds for a request for a while."""

    KIND: ClassVar[int] = 66

    request: bytes = labelled(2, Bytes(32))
    mediator: bytes = labelled(3, Bytes(32))
    slots: tuple[tuple[bytes, int, int, str], ...] = labelled(
        4, Many(Record((Bytes(16), TIME, Uint(1440), SERVICE)), SLOTS_MAX, ordered=True)
    )
    "(id, POSIX time of the beginning, minutes, service)"
    until: int = labelled(5, TIME)
    "POSIX time until which it may be accepted."
    data: bytes = labelled(6, Bytes(0, DATA_BYTES_MAX))
    "Name, address and so on, as the mediator has verified them: CBOR map of texts."
    salt: bytes = labelled(7, Bytes(32))
    "Of the commitment to the data."
    reply_key: bytes = labelled(8, Bytes(XWING_PUBLIC_BYTES))
    mailbox: bytes = labelled(9, Bytes(32))
    mailbox_nodes: tuple[bytes, ...] = labelled(10, Many(Bytes(32), 4, ordered=True))
    leave: bytes = labelled(11, Bytes(1, 512))
    "To write one accept into the mailbox, for the key that the wishes name."


@dataclass(frozen=True)
class Accept(Statement):
    """The user's choice, with who the user is."""

    KIND: ClassVar[int] = 67

    request: bytes = labelled(2, Bytes(32))
    slot: bytes = labelled(3, Bytes(16))
    family_name: str = labelled(4, NAME)
    given_name: str = labelled(5, NAME)
    born: str = labelled(6, DAY)
    nonce: bytes = labelled(7, Bytes(NONCE_BYTES))
    claim: bytes = labelled(8, Bytes(32))
    "The secret that ends the request."
    reply_key: bytes = labelled(9, Bytes(XWING_PUBLIC_BYTES))
    mailbox: bytes = labelled(10, Bytes(32))
    mailbox_nodes: tuple[bytes, ...] = labelled(11, Many(Bytes(32), 4, ordered=True))
    leave: bytes = labelled(12, Bytes(1, 512))
    "For the practice."

    @property
    def person(self) -> Person:
        """Raises `MalformedError` for what is no name or date."""
        try:
            born = date.fromisoformat(self.born)
        except ValueError:
            raise MalformedError("a birth date that no calendar has") from None
        return Person(self.family_name, self.given_name, born)


@dataclass(frozen=True)
class Confirm(Statement):
    """Whether the appointment is made."""

    KIND: ClassVar[int] = 68

    request: bytes = labelled(2, Bytes(32))
    slot: bytes = labelled(3, Bytes(16))
    state: int = labelled(4, Uint(1))
    begins: int = labelled(5, TIME, 0)
    minutes: int = labelled(6, Uint(1440), 0)


def offer_context(mailbox: bytes, reply_key: bytes) -> Context:
    """What an offer is sealed for."""
    return Context("offer", mailbox, key_id(reply_key))


def accept_context(mailbox: bytes, reply_key: bytes) -> Context:
    """What an accept is sealed for."""
    return Context("accept", mailbox, key_id(reply_key))


def confirm_context(mailbox: bytes, reply_key: bytes) -> Context:
    """What a confirmation is sealed for."""
    return Context("confirm", mailbox, key_id(reply_key))


def sign_message(message: Offer | Confirm, key: SigningKey) -> bytes:
    """A message with the practice's signature."""
    return sign1(message.encode(), _purpose(type(message)), key).encode()


def open_message(data: bytes, kind: type[T]) -> tuple[T, Sign1]:
    """A practice's message, and its signature, which is not verified before the practice's key is known.

    Raises `MalformedError`.
    """
    signed = Sign1.parse(data)
    signed.refuse_countersignature(_purpose(kind))
    return kind.decode(signed.payload), signed


def verify_message(signed: Sign1, kind: type[Statement], key: bytes) -> None:
    """Raise `ForgeryError` unless the practice with this public key signed the message."""
    signed.verify(_purpose(kind), PublicKey(key))


def commitment(salt: bytes, data: bytes) -> bytes:
    """What a grant says of a practice's data."""
    return sha256(salt, data)


def practice_data(fields: dict[str, str]) -> bytes:
    """A practice's data, as it is committed to. Raises `MalformedError` if it is too long."""
    data = cbor.encode(fields)
    if len(data) > DATA_BYTES_MAX:
        raise MalformedError(f"a practice's data of {len(data)} bytes; at most {DATA_BYTES_MAX}")
    return data


def read_practice_data(data: bytes, salt: bytes, committed: bytes) -> dict[str, str]:
    """The data behind a commitment. Raises `ForgeryError` if it is not, `MalformedError` if it is no map of texts."""
    if commitment(salt, data) != committed:
        raise ForgeryError("a practice's data that its mediator did not commit to")
    fields = cbor.decode(data, size_bytes_max=DATA_BYTES_MAX)
    if not isinstance(fields, dict) or not all(isinstance(x, str) for item in fields.items() for x in item):
        raise MalformedError("a practice's data is a map of texts")
    return fields


def _purpose(kind: type[Statement]) -> str:
    return f"peewit {kind.__name__.lower()} v1"
