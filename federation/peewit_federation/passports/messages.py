"""What practices say about passports: to their mediator, and to whom they vaccinated.

    ask         kind 73, COSE_Sign1 by the practice, "peewit passport ask v1"; sealed to every device of its mediator
    delivery    kind 74, COSE_Sign1 by the practice, "peewit passport v1"; sealed to the reply key of whoever was
                vaccinated, context "passport"

Rules kept here: syntax and bounds. An ask names a key or a passport by its bytes, and says nothing of a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from peewit_federation.cose import Sign1, sign1
from peewit_federation.errors import MalformedError
from peewit_federation.keys import PublicKey, SigningKey, key_id
from peewit_federation.passports import hc1, pw1
from peewit_federation.passports.hc1 import TEXT_MAX
from peewit_federation.sealed import Context
from peewit_federation.statements.codec import Bytes, Statement, Uint, labelled

ASK: Final = "peewit passport ask v1"
DELIVERY: Final = "peewit passport v1"
CERTIFY, REVOKE = range(2)


@dataclass(frozen=True)
class PassportAsk(Statement):
    """A practice asks its mediator to vouch for an issuer key, or to revoke a passport."""

    KIND: ClassVar[int] = 73

    mediator: bytes = labelled(2, Bytes(32))
    signing_key: bytes = labelled(3, Bytes(32))
    "Of the practice."
    what: int = labelled(4, Uint(REVOKE))
    "0: vouch for a key; 1: revoke a passport."
    subject: bytes = labelled(5, Bytes(16, 600))
    "The key (SubjectPublicKeyInfo), or the id of the passport."
    time: int = labelled(6, Uint())
    certificate: bytes = labelled(7, Bytes(0, 4096), b"")
    "Of the key, if an authority outside the federation made one."
    proof: bytes = labelled(8, Bytes(0, 80), b"")
    "Of a key, that the practice has it: ECDSA with SHA-256 (DER) by it over `proved`."
    consent: bytes = labelled(9, Bytes(0, 80), b"")
    "Of a key, that it may stand in this mediator's log: the same over `consented`. The log shows it."


@dataclass(frozen=True)
class Delivery(Statement):
    """A passport for its holder, in both forms."""

    KIND: ClassVar[int] = 74

    request: bytes = labelled(2, Bytes(32))
    "H of the appointment."
    passport: bytes = labelled(3, Bytes(16))
    "Its id."
    hc1: bytes = labelled(4, Bytes(1, TEXT_MAX))
    pw1: bytes = labelled(5, Bytes(1, TEXT_MAX))
    expires: int = labelled(6, Uint())
    replaces: bytes = labelled(7, Bytes(0, 16), b"")
    "A passport that was wrong, and is revoked."
    mediator: bytes = labelled(8, Bytes(0, 32), b"")
    "In whose log its revocation would stand, so that its holder can look."


def proved(mediator: bytes, practice: bytes) -> bytes:
    """What an issuer key signs to show that this practice has it: nobody gets another one's key vouched for."""
    return b"peewit issuer key v1" + mediator + practice


def consented(mediator: bytes) -> bytes:
    """What an issuer key signs so that all may see that its owner wants this mediator to speak, and judge, for it."""
    return b"peewit issuer consent v1" + mediator


def sign_ask(ask: PassportAsk, key: SigningKey) -> bytes:
    """A practice's ask."""
    return sign1(ask.encode(), ASK, key).encode()


def read_ask(data: bytes) -> PassportAsk:
    """Parse and verify. Raises `MalformedError`, `LimitError` or `ForgeryError`."""
    signed = Sign1.parse(data)
    signed.refuse_countersignature(ASK)
    ask = PassportAsk.decode(signed.payload)
    signed.verify(ASK, PublicKey(ask.signing_key))
    return ask


def sign_delivery(delivery: Delivery, key: SigningKey) -> bytes:
    """A passport on its way."""
    return sign1(delivery.encode(), DELIVERY, key).encode()


def read_delivery(data: bytes, key: bytes) -> Delivery:
    """A passport that the practice with this public key sends. Raises `MalformedError` or `ForgeryError`."""
    signed = Sign1.parse(data)
    signed.refuse_countersignature(DELIVERY)
    signed.verify(DELIVERY, PublicKey(key))
    return _readable(Delivery.decode(signed.payload))


def _readable(delivery: Delivery) -> Delivery:
    """Both forms can be shown, or it is refused on arrival. Raises `MalformedError` or `LimitError`."""
    try:
        hc1.unpack(delivery.hc1.decode("ascii"))
        pw1.unpack(delivery.pw1.decode("ascii"))
    except UnicodeDecodeError:
        raise MalformedError("a passport that is no text") from None
    return delivery


def with_delivery(held: Sequence[bytes], fresh: Delivery) -> list[bytes]:
    """What a wallet holds with one more: a renewal or correction takes the place of what came for the same request."""
    ended = {fresh.passport, fresh.replaces}
    known = [(one, Delivery.decode(one)) for one in held]
    kept = [one for one, had in known if (had.request, had.passport in ended) != (fresh.request, True)]
    return [*kept, fresh.encode()]


def open_delivery(data: bytes) -> Delivery:
    """A passport whose sender is not known by key, but by having been shown where to write. Raises `MalformedError`."""
    return _readable(Delivery.decode(Sign1.parse(data).payload))


def delivery_context(mailbox: bytes, reply_key: bytes) -> Context:
    """What a passport is sealed for."""
    return Context("passport", mailbox, key_id(reply_key))
