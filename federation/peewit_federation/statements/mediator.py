"""What the log of a mediator's device carries (design 4.1): grants, and revocations.

A grant speaks for its subject with a version; the highest counts, then the more restrictive, then the
smaller hash. It lists under `after` the revocations that it outlives. No kind has a field for a name, an
address, a telephone number or free text: a test walks them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from peewit_federation.keys import XWING_PUBLIC_BYTES, key_id
from peewit_federation.statements.codec import (
    GROUP,
    POSTCODE,
    SERVICE,
    Bytes,
    Many,
    Record,
    Statement,
    Uint,
    labelled,
)

ACTIVE: Final = 0
SUSPENDED: Final = 1
VERSION_MAX: Final = (1 << 31) - 1
AFTER_MAX: Final = 64

REASONS: Final = {
    0: "unspecified",
    1: "key lost or stolen",
    2: "left the programme",
    3: "admitted in error",
    4: "breach of duty",
    5: "replaced",
}


@dataclass(frozen=True)
class Grant(Statement):
    """What all grants have in common. Times are POSIX seconds; valid while not_before <= now < not_after."""

    version: int = labelled(2, Uint(VERSION_MAX))
    status: int = labelled(3, Uint(SUSPENDED))
    "0 active, 1 suspended."
    not_before: int = labelled(4, Uint())
    not_after: int = labelled(5, Uint())
    after: tuple[bytes, ...] = labelled(6, Many(Bytes(32), AFTER_MAX))
    "Revocations (SHA-256 of their entries) that this grant outlives, ascending."

    @property
    def subject(self) -> bytes:
        """What it speaks for, unique within its mediator and kind."""
        raise TypeError(f"{type(self).__name__} has no subject")


@dataclass(frozen=True)
class Catchment(Grant):
    """A catchment area: who may ask for what, and where its queue is held."""

    KIND: ClassVar[int] = 16

    area: bytes = labelled(8, Bytes(16))
    salt: bytes = labelled(9, Bytes(16))
    keys: tuple[tuple[int, bytes], ...] = labelled(
        10, Many(Record((Uint(), Bytes(XWING_PUBLIC_BYTES))), 2, ordered=True)
    )
    "X-Wing public keys with the time from which each is used: the present and the next."
    postcodes: tuple[str, ...] = labelled(11, Many(POSTCODE, 2000))
    services: tuple[str, ...] = labelled(12, Many(SERVICE, 100))
    nodes: tuple[bytes, ...] = labelled(13, Many(Bytes(32), 8, ordered=True))
    "Origin hashes of the operators whose nodes hold its queue, first ones first."
    groups: tuple[str, ...] = labelled(14, Many(GROUP, 32, ordered=True), ())
    "In the order in which they are served; none means one group."

    @property
    def subject(self) -> bytes:
        return self.area


@dataclass(frozen=True)
class Provider(Grant):
    """A practice, by its keys and a commitment to its data; never by its name."""

    KIND: ClassVar[int] = 17

    signing_key: bytes = labelled(8, Bytes(32))
    encryption_key: bytes = labelled(9, Bytes(XWING_PUBLIC_BYTES))
    areas: tuple[bytes, ...] = labelled(10, Many(Bytes(16), 64))
    services: tuple[str, ...] = labelled(11, Many(SERVICE, 100))
    commitment: bytes = labelled(12, Bytes(32))
    "SHA-256 over 32 random bytes and the practice data."

    @property
    def subject(self) -> bytes:
        return key_id(self.signing_key)


@dataclass(frozen=True)
class Issuer(Grant):
    """A key that signs passports for a while. It names no practice."""

    KIND: ClassVar[int] = 18

    algorithm: int = labelled(8, Uint(64))
    "The COSE algorithm number, negated: 7 for ES256, 37 for PS256, 8 for EdDSA."
    public_key: bytes = labelled(9, Bytes(32, 600))
    "SubjectPublicKeyInfo (DER), or 32 bytes for EdDSA."
    certificate: bytes = labelled(10, Bytes(0, 4096), b"")
    "X.509 (DER) of the key, for verifiers outside; one of an authority signs no passports, but such certificates."
    consent: bytes = labelled(11, Bytes(0, 80), b"")
    "ECDSA with SHA-256 (DER) by the key, over this mediator: without it nobody's passports are judged by this entry."
    signs_until: int = labelled(12, Uint(), 0)
    "Passports that are dated later do not count; 0: as long as the grant. A key signs for a month, and counts a year."

    @property
    def subject(self) -> bytes:
        return key_id(self.public_key)


@dataclass(frozen=True)
class Revocation(Statement):
    """Ends all grants of a subject of the same mediator that do not list it under `after`."""

    KIND: ClassVar[int] = 19

    subject_kind: int = labelled(2, Uint(255))
    subject: bytes = labelled(3, Bytes(1, 32))
    reason: int = labelled(4, Uint(255))
    nonce: bytes = labelled(5, Bytes(16))
    "Makes two revocations of one subject two."
