"""A request for an appointment: what the nodes of its areas may see, and what is sealed for practices (design 4.6).

    signed request   COSE_Sign1 by the request's own key, purpose "peewit request v1", over a `Request`
    wishes           sealed to the key of each area, context "request", salted with the area

Rules kept here: `H` binds areas, key, claim and data, so that whoever sees a request cannot make another of its
tokens and ticket; a later version by the same key replaces an earlier one; a version without wishes withdraws it.
A claim ends it; its own key opens it again, at most five times, for the hash of the claim is the end of a chain of six:
the first practice is shown the third link from the end, whoever comes after a reopening the one before.
Nothing here says who somebody is: wishes have an age group, no name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

from peewit_federation.cose import Sign1, sign1
from peewit_federation.draw.hashes import AREAS_MAX, request_hash
from peewit_federation.draw.tickets import KEYS_MAX
from peewit_federation.draw.vrf import PROOF_BYTES
from peewit_federation.errors import MalformedError
from peewit_federation.keys import XWING_PUBLIC_BYTES, PublicKey, SigningKey, key_id, sha256
from peewit_federation.sealed import OVERHEAD_BYTES, SIZE_CLASSES, Context
from peewit_federation.statements.codec import GROUP, SERVICE, Bytes, Many, Record, Statement, Text, Uint, labelled
from peewit_federation.statements.draw import ROUND_MAX

PURPOSE: Final = "peewit request v1"
REQUEST_BYTES_MAX: Final = 40 * 1024
SEALED_BYTES: Final = OVERHEAD_BYTES + SIZE_CLASSES[0]
LANGUAGE: Final = Text("language", r"[a-z]{2,3}")
VERSION_MAX: Final = 1 << 31
OPENINGS: Final = 6
"So often a practice may claim it: once, and after each of five reopenings."
AGE_GROUP: Final = Text("age group", r"[0-9]{1,3}-[0-9]{1,3}")


def area_name(mediator: bytes, area: bytes) -> bytes:
    """What names a catchment area among all mediators', 32 bytes."""
    return sha256(b"peewit area v1", mediator, area)


@dataclass(frozen=True)
class Wishes(Statement):
    """What a practice must know to make an offer."""

    KIND: ClassVar[int] = 65

    reply_key: bytes = labelled(2, Bytes(XWING_PUBLIC_BYTES))
    "To which offers are sealed."
    writer: bytes = labelled(3, Bytes(32))
    "Id of the key with which an accept will be written."
    services: tuple[str, ...] = labelled(4, Many(SERVICE, 16))
    days: tuple[tuple[int, int], ...] = labelled(5, Many(Record((Uint(1 << 20), Uint(1 << 20))), 32), ())
    "First and last day, as days since 1970; none: any day."
    hours: tuple[tuple[int, int], ...] = labelled(6, Many(Record((Uint(24), Uint(24))), 8), ())
    "From and to, in hours of the day; none: any time."
    step_free: int = labelled(7, Uint(1), 0)
    languages: tuple[str, ...] = labelled(8, Many(LANGUAGE, 8, ordered=True), ())
    age_group: str = labelled(9, AGE_GROUP, "0-120")


@dataclass(frozen=True)
class Request(Statement):
    """A request, as nodes keep it."""

    KIND: ClassVar[int] = 64
    BYTES_MAX: ClassVar[int] = REQUEST_BYTES_MAX

    areas: tuple[tuple[bytes, bytes], ...] = labelled(2, Many(Record((Bytes(32), Bytes(16))), AREAS_MAX, ordered=True))
    "(mediator, area), the preferred first."
    data: bytes = labelled(3, Bytes(32))
    "D."
    key: bytes = labelled(4, Bytes(32))
    "Ed25519; it signs all versions."
    round: int = labelled(5, Uint(ROUND_MAX))
    tokens: tuple[tuple[bytes, bytes], ...] = labelled(6, Many(Record((Bytes(32), Bytes(256, 512))), 9, ordered=True))
    ticket: bytes = labelled(7, Bytes(PROOF_BYTES, PROOF_BYTES * KEYS_MAX))
    version: int = labelled(8, Uint(VERSION_MAX))
    claim: bytes = labelled(9, Bytes(32))
    "SHA-256, six times over, of the secret of the claim (`claim_link`)."
    mailbox: bytes = labelled(10, Bytes(32))
    "The address to which offers go."
    mailbox_nodes: tuple[bytes, ...] = labelled(11, Many(Bytes(32), 4, ordered=True))
    wishes: tuple[bytes, ...] = labelled(12, Many(Bytes(SEALED_BYTES), AREAS_MAX, ordered=True), ())
    "Sealed for each area in turn; none: withdrawn."
    group: str = labelled(13, GROUP, "")
    opened: int = labelled(14, Uint(OPENINGS - 1), 0)
    "How often it was opened again after a claim."

    @cached_property
    def name(self) -> bytes:
        """H."""
        return request_hash([area_name(*area) for area in self.areas], key_id(self.key), self.claim, self.data)

    def sign(self, key: SigningKey) -> bytes:
        """The signed bytes. `key` is that of the request."""
        if self.wishes and len(self.wishes) != len(self.areas):
            raise MalformedError("a request has wishes for each of its areas, or is withdrawn")
        return sign1(self.encode(), PURPOSE, key).encode()

    def claimed_by(self, secret: bytes) -> bool:
        """Whether this is the link of its claim that counts now."""
        return _hashed(secret, self.opened + 1) == self.claim


def claim_link(secret: bytes, opened: int) -> bytes:
    """What the user shows to the practice it chose, after so many reopenings.

    Link 0 is what the first practice gets; nobody finds link 1 from it.
    """
    return _hashed(secret, OPENINGS - 1 - opened)


def claim_hash(secret: bytes) -> bytes:
    """What a request says of its claim's secret."""
    return _hashed(secret, OPENINGS)


def _hashed(value: bytes, times: int) -> bytes:
    for _ in range(times):
        value = sha256(value)
    return value


def wishes_context(area: bytes, key: bytes, salt: bytes) -> Context:
    """What wishes are sealed for: an area's name, its public key, and its salt."""
    return Context("request", area, key_id(key), salt)


def open_request(data: bytes) -> Request:
    """Parse and verify the signature. Raises `MalformedError`, `LimitError` or `ForgeryError`."""
    signed = Sign1.parse(data, size_bytes_max=REQUEST_BYTES_MAX + 512)
    signed.refuse_countersignature(PURPOSE)
    request = Request.decode(signed.payload)
    signed.verify(PURPOSE, PublicKey(request.key))
    if not request.areas or (request.wishes and len(request.wishes) != len(request.areas)):
        raise MalformedError("a request has one to three areas, and wishes for each of them or none")
    return request
