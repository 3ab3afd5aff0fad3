"""Making a passport of a dose: an EU certificate (HC1) and one with selective disclosure (PW1), under one identifier.

    identifier    URN:UVCI:01:DE:<26 random letters and digits>#<check character>
    expires       of its own, at most a year after issue, and never after its signer's time

Source: eHealth network, volume 2 (UVCI, annex 2: Luhn modulo N). Rules kept here: identifier and issuer name no
practice and no person; the lot of a vaccine has no place in either format; what is written passes the checks of what
is read.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Final

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from peewit_federation.draw.hashes import Person
from peewit_federation.errors import MalformedError
from peewit_federation.passports import hc1, pw1
from peewit_federation.passports.dcc import EXPIRES, HCERT, ISSUED, ISSUER, read_certificate
from peewit_federation.passports.names import read_machine, shorten, transliterate
from peewit_federation.passports.revocation import passport_id
from peewit_federation.passports.signed import KID_BYTES, sign
from peewit_federation.passports.values import COVID_19, Product

SCHEMA: Final = "1.3.0"
LIFETIME_S: Final = 365 * 86_400
SIGNS_S: Final = 30 * 86_400
"So long a key signs, from when its mediator vouched for it."
RENEWAL_S: Final = 28 * 86_400
"So long before it expires a passport may be renewed."
DOSES_MAX: Final = 9
UVCI_RANDOM_BYTES: Final = 16
_CHECKED: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/:"


@dataclass(frozen=True)
class Dose:
    """What was given: dose number `number` of a series of `series`; a booster has a number beyond its series."""

    product: Product
    number: int
    series: int
    day: date

    def __post_init__(self) -> None:
        if not (1 <= self.number <= DOSES_MAX and 1 <= self.series <= DOSES_MAX):
            raise MalformedError(f"doses are counted from 1 to {DOSES_MAX}, such as 2/2, or 3/2 for a booster")


@dataclass(frozen=True)
class Issuer:
    """Who signs."""

    key: ec.EllipticCurvePrivateKey
    kid: bytes
    not_after_s: int
    country: str
    "Two letters, ISO 3166."
    name: str
    "Of the authority, not of the practice; at most 80 characters."


@dataclass(frozen=True)
class Passport:
    """Both forms of one passport."""

    uvci: str
    hc1: str
    pw1: str
    expires_s: int

    @property
    def id(self) -> bytes:
        """What names it in a revocation."""
        return passport_id(self.uvci)


def new_uvci(country: str, randomness: Callable[[int], bytes]) -> str:
    """A unique certificate identifier that says nothing."""
    opaque = base64.b32encode(randomness(UVCI_RANDOM_BYTES)).decode().rstrip("=")
    text = f"URN:UVCI:01:{country}:{opaque}"
    return f"{text}#{check_character(text)}"


def check_character(text: str) -> str:
    """Luhn modulo N (ISO/IEC 7812-1) over the letters, digits, `/` and `:`."""
    size, total, factor = len(_CHECKED), 0, 2
    for character in reversed(text):
        value = factor * _CHECKED.index(character)
        total += value // size + value % size
        factor = 3 - factor
    return _CHECKED[-total % size]


def issue(
    person: Person, dose: Dose, issuer: Issuer, now_s: int, randomness: Callable[[int], bytes], uvci: str = "",
    machine: str = "",
) -> Passport:  # fmt: skip
    """Sign a passport in both forms. `uvci` is given when one is printed again or renewed.

    `machine` is the name in the document's machine-readable line, if its letters have no table here.

    Raises `MalformedError` for what a passport cannot say.
    """
    expires_s = min(now_s + LIFETIME_S, issuer.not_after_s)
    if expires_s <= now_s:
        raise MalformedError("the issuer key of this practice has expired; ask the mediator for a new one")
    if not (person.born <= dose.day and dose.day.toordinal() * 86_400 <= _ordinal_s(now_s) + 86_400):
        raise MalformedError(f"a dose on {dose.day.isoformat()}, before birth or in the future")
    uvci = uvci or new_uvci(issuer.country, randomness)
    content = _content(person, dose, issuer, uvci, machine)
    read_certificate(content, now_s)
    claims = {ISSUER: issuer.country, EXPIRES: expires_s, ISSUED: now_s, HCERT: {1: content}}
    signed = sign(cbor2.dumps(claims), issuer.kid, issuer.key)
    shown = {
        pw1.FAMILY: shorten(person.family_name), pw1.GIVEN: shorten(person.given_name),
        pw1.BORN: person.born.isoformat(), pw1.VACCINE: dose.product.code, pw1.DOSES: [dose.number, dose.series],
        pw1.DAY: dose.day.isoformat(),
    }  # fmt: skip
    times = now_s, expires_s
    presented = pw1.issue(passport_id(uvci), shown, times, issuer.kid, issuer.key, randomness)
    return Passport(uvci, hc1.pack(signed), presented.pack(), expires_s)


def _content(person: Person, dose: Dose, issuer: Issuer, uvci: str, machine: str) -> dict[str, object]:
    names = {}
    read = [part for part in read_machine(machine) if part] if machine else []
    for shown, name in (("fn", person.family_name), ("gn", person.given_name)):
        if name:
            names[shown] = shorten(name)
            names[shown + "t"] = read.pop(0) if read else transliterate(name)
    if read:
        raise MalformedError("the machine-readable name has more parts than the name")
    # The schema wants `fnt`; a person with one name has it there (ICAO Doc 9303, part 3, 4.6).
    names.setdefault("fnt", names.get("gnt", ""))
    if len(issuer.kid) != KID_BYTES:
        raise MalformedError("a key id has 8 bytes")
    vaccine = dose.product
    return {
        "ver": SCHEMA, "nam": names, "dob": person.born.isoformat(),
        "v": [{
            "tg": COVID_19, "vp": vaccine.kind, "mp": vaccine.code, "ma": vaccine.maker, "dn": dose.number,
            "sd": dose.series, "dt": dose.day.isoformat(), "co": issuer.country, "is": issuer.name, "ci": uvci,
        }],
    }  # fmt: skip


def _ordinal_s(now_s: int) -> int:
    return now_s + date(1970, 1, 1).toordinal() * 86_400
