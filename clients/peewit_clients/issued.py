"""Keys of a practice that sign passports, and what it signed: as they are kept on its device.

Rules kept here: what each is made of, and how it is written down (CBOR). Who may sign, and when, is `issuing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from peewit_federation import cbor
from peewit_federation.draw.hashes import Person
from peewit_federation.keys import key_id
from peewit_federation.passports.issue import Dose
from peewit_federation.passports.revocation import passport_id
from peewit_federation.passports.values import product

ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"Of P-256."


@dataclass(frozen=True)
class IssuerKey:
    """A key of this practice that signs passports."""

    private: ec.EllipticCurvePrivateKey
    made_s: int

    @property
    def public(self) -> bytes:
        """SubjectPublicKeyInfo, DER: names no practice."""
        return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def subject(self) -> bytes:
        """What names it in the registry."""
        return key_id(self.public)

    def encode(self) -> bytes:
        scalar = self.private.private_numbers().private_value.to_bytes(32, "big")
        return cbor.encode([scalar, self.made_s])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        scalar, made_s = cbor.decode(data)
        return cls(ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1()), made_s)


@dataclass(frozen=True)
class Issued:
    """What a practice keeps of a passport, to sign it again: whose, what, and where its holder can be written to."""

    uvci: str
    person: Person
    dose: Dose
    issued_s: int
    expires_s: int
    signer: bytes
    "Subject of the key that signed it last."
    request: bytes
    address: tuple[bytes, tuple[bytes, ...], bytes, bytes]
    "Mailbox, its nodes, leave to write, reply key."
    revoked: bool = False
    "Whether this practice asked for that."
    machine: str = ""
    "The name in the machine-readable line of the holder's document, if its letters have no table."

    @property
    def id(self) -> bytes:
        return passport_id(self.uvci)

    def encode(self) -> bytes:
        person, dose, (mailbox, nodes, leave, reply_key) = self.person, self.dose, self.address
        return cbor.encode([
            self.uvci, [person.family_name, person.given_name, person.born.isoformat()],
            [dose.product.code, dose.number, dose.series, dose.day.isoformat()], self.issued_s, self.expires_s,
            self.signer, self.request, [mailbox, list(nodes), leave, reply_key], self.revoked, self.machine,
        ])  # fmt: skip

    @classmethod
    def decode(cls, data: bytes) -> Self:
        uvci, person, dose, issued_s, expires_s, signer, request, address, revoked, machine = cbor.decode(data)
        family, given, born = person
        code, number, series, day = dose
        mailbox, nodes, leave, reply_key = address
        return cls(
            uvci, Person(family, given, date.fromisoformat(born)),
            Dose(product(code), number, series, date.fromisoformat(day)), issued_s, expires_s, signer, request,
            (mailbox, tuple(nodes), leave, reply_key), revoked, machine,
        )  # fmt: skip
