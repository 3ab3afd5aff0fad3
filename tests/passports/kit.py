"""What tests of passports need: an issuer, a person, a dose, and whom a verifier trusts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from random import Random

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from peewit_federation.draw.hashes import Person
from peewit_federation.keys import key_id
from peewit_federation.passports.issue import Dose, Issuer, Passport, issue
from peewit_federation.passports.revocation import RevokedList
from peewit_federation.passports.signer import Signer
from peewit_federation.passports.trust import Trust
from peewit_federation.passports.values import product
from tests.federation_kit import seed

NOW = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp())
MEDIATOR = seed("district-mitte")
ERIKA = Person("Musterfrau-Weiß", "Erika", date(1940, 8, 12))
DOSE = Dose(product("Comirnaty"), 2, 2, date(2026, 11, 1))
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def randomness(name: str = "") -> Callable[[int], bytes]:
    return Random(name).randbytes


def private(name: str = "clinic-a") -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(seed(name), "big") % (ORDER - 1) + 1, ec.SECP256R1())


def spki(name: str = "clinic-a") -> bytes:
    return private(name).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def issuer(name: str = "clinic-a") -> Issuer:
    return Issuer(private(name), key_id(spki(name))[:8], NOW + 400 * 86_400, "DE", "Musterland")


def signer(name: str = "clinic-a", **changes: object) -> Signer:
    fields: dict[str, object] = {
        "kid": key_id(spki(name))[:8], "public_key": spki(name), "not_before_s": NOW - 86_400,
        "not_after_s": NOW + 400 * 86_400, "mediator": MEDIATOR,
    }  # fmt: skip
    return Signer(**{**fields, **changes})  # type: ignore[arg-type]


def trust(*signers: Signer, revoked: tuple[bytes, ...] = (), as_of_s: int = NOW) -> Trust:
    known = signers or (signer(),)
    return Trust.of({one.mediator: as_of_s for one in known}, known, RevokedList.of((MEDIATOR, one) for one in revoked))


def passport(person: Person = ERIKA, dose: Dose = DOSE, by: str = "clinic-a", now_s: int = NOW) -> Passport:
    return issue(person, dose, issuer(by), now_s, randomness(f"{person.given_name} {by}"))
