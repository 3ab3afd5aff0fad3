"""PW1: a passport whose holder chooses what to show. Salted digests are signed; what belongs to them is handed along.

    PW1:…            "PW1:", then base45 of CBOR [COSE_Sign1, [[salt, claim, value], …], proof]
    payload          {0: 82, 1: 1, 2: id (16), 3: issued, 4: expires, 5: [digests (16), ascending], 6: holder's key}
    digest           first 16 bytes of SHA-256("peewit claim v1" || CBOR [salt (16), claim, value])

    claims           1 family name, 2 given name, 3 birth date, 4 vaccine (code), 5 [dose, of series], 6 day of the dose

After RFC 9901 (SD-JWT) and SD-CWT, as far as one scan of paper has room. `proof` stays empty and the holder's key may
be missing: they are the place of a holder's answer to a verifier's challenge. Rules kept here: what is shown must be
signed, each claim once; a verifier sees how many claims there are, and of those that are not shown nothing else. One
passport shown twice can be recognised by its signature: what is not shown is hidden, not that it is the same passport.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from peewit_federation import cbor
from peewit_federation.errors import ForgeryError, LimitError, MalformedError
from peewit_federation.passports import base45
from peewit_federation.passports.signed import Signed, sign

PREFIX: Final = "PW1:"
TEXT_MAX: Final = 4_296
KIND, FORMAT = 82, 1
SALT_BYTES = DIGEST_BYTES = ID_BYTES = 16
FAMILY, GIVEN, BORN, VACCINE, DOSES, DAY = "family_name", "given_name", "born", "vaccine", "doses", "day"
CLAIMS: Final = {1: FAMILY, 2: GIVEN, 3: BORN, 4: VACCINE, 5: DOSES, 6: DAY}
_NUMBERS: Final = {name: number for number, name in CLAIMS.items()}
CLAIMS_MAX: Final = 32
Disclosure = tuple[bytes, int, object]
"(salt, claim, value)"


@dataclass(frozen=True, slots=True)
class Presented:
    """What a code holds: what is signed, and what of it is shown. Nothing is verified yet."""

    signed: bytes
    disclosures: tuple[Disclosure, ...]

    def pack(self) -> str:
        """The text for a QR code."""
        return PREFIX + base45.encode(cbor.encode([self.signed, [list(one) for one in self.disclosures], b""]))

    def showing(self, claims: Collection[str]) -> Presented:
        """The same passport with only some claims. Raises `MalformedError` for a claim that it does not have."""
        known = {CLAIMS.get(number, "") for _, number, _ in self.disclosures}
        if not set(claims) <= known:
            raise MalformedError(f"this passport shows only: {', '.join(sorted(known))}")
        return Presented(self.signed, tuple(one for one in self.disclosures if CLAIMS.get(one[1]) in claims))


@dataclass(frozen=True, slots=True)
class Opened:
    """What was signed and shown. Times in POSIX seconds."""

    id: bytes
    issued_s: int
    expires_s: int
    shown: Mapping[str, Any]

    @property
    def doses(self) -> int | None:
        """Number of the dose, if it is shown."""
        return self.shown[DOSES][0] if DOSES in self.shown else None

    @property
    def series(self) -> int | None:
        """Of how many, if it is shown."""
        return self.shown[DOSES][1] if DOSES in self.shown else None


def issue(
    passport: bytes, claims: Mapping[str, object], times_s: tuple[int, int], kid: bytes,
    key: ec.EllipticCurvePrivateKey, randomness: Callable[[int], bytes],
) -> Presented:  # fmt: skip
    """A passport that shows everything; its holder takes away from that. `passport` is its id, of 16 bytes."""
    disclosures = tuple(
        (randomness(SALT_BYTES), number, claims[name]) for number, name in CLAIMS.items() if name in claims
    )
    digests = sorted(_digest(one) for one in disclosures)
    payload = cbor.encode({0: KIND, 1: FORMAT, 2: passport, 3: times_s[0], 4: times_s[1], 5: digests})
    return Presented(sign(payload, kid, key), disclosures)


def unpack(text: str) -> Presented:
    """What stands in a code. Raises `MalformedError` or `LimitError`."""
    text = text.lstrip().rstrip("\r\n\t")
    if len(text) > TEXT_MAX:
        raise LimitError(f"a text of {len(text)} characters; a QR code holds {TEXT_MAX}")
    match cbor.decode(base45.decode(text.removeprefix(PREFIX))):
        case [bytes(signed), list(disclosures), b""] if len(disclosures) <= CLAIMS_MAX:
            return Presented(signed, tuple(map(_disclosure, disclosures)))
    raise MalformedError("not a PW1 passport: [signed, [disclosures], empty] is due")


def read(presented: Presented, signed: Signed) -> Opened:
    """What is signed and shown; verify the signature before. Raises `MalformedError` or `ForgeryError`."""
    match cbor.decode(signed.payload):
        case {
            0: 82, 1: 1, 2: bytes(passport), 3: int(issued_s), 4: int(expires_s), 5: list(digests)
        } if len(passport) == ID_BYTES and len(digests) <= CLAIMS_MAX:  # fmt: skip
            pass
        case _:
            raise MalformedError("not what a PW1 passport signs")
    if not all(isinstance(one, bytes) for one in digests) or digests != sorted(set(digests)):
        raise MalformedError("digests that are not ascending, or repeated")
    shown: dict[str, Any] = {}
    for one in presented.disclosures:
        if _digest(one) not in digests:
            raise ForgeryError("something is shown that was not signed")
        name = CLAIMS.get(one[1], f"claim {one[1]}")
        if name in shown:
            raise MalformedError(f"{name} is shown twice")
        shown[name] = one[2]
    return Opened(passport, issued_s, expires_s, shown)


def _digest(one: Disclosure) -> bytes:
    return hashlib.sha256(b"peewit claim v1" + cbor.encode(list(one))).digest()[:DIGEST_BYTES]


def _disclosure(value: object) -> Disclosure:
    match value:
        case [bytes(salt), int(number), shown] if len(salt) == SALT_BYTES and _fits(number, shown):
            return salt, number, shown
    raise MalformedError("what is shown is [salt, claim, value]")


def _fits(number: int, value: object) -> bool:
    if number == _NUMBERS[DOSES]:
        return (
            isinstance(value, Sequence) and len(value) == 2 and all(type(one) is int and 0 < one < 100 for one in value)
        )
    return number > 0 and isinstance(value, str) and len(value) <= 320
