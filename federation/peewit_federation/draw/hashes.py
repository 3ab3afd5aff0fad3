"""What is admitted and drawn: hashes over a person's data and over a request, which show neither.

    D = SHA-256("peewit data hash v1" || nonce || CBOR [family name, given name, birth date])      names in NFC
    H = SHA-256("peewit request v1" || CBOR [areas] || key id || claim || D)

The nonce, 32 random bytes, is the user's booking secret: without it nobody can try names until one fits.

Rules kept here: names have one hash however they were encoded: composed or not, with more spaces than needed. Whoever
makes a hash again uses the names that the user's client sends along, for case and apostrophes are not folded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from peewit_federation import cbor
from peewit_federation.errors import LimitError, MalformedError
from peewit_federation.keys import sha256

NONCE_BYTES: Final = 32
NAME_BYTES_MAX: Final = 320
AREAS_MAX: Final = 3
NEVER: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"Unicode categories of control and format characters, surrogates, private and unassigned ones, and line ends."


@dataclass(frozen=True)
class Person:
    """Who shall be vaccinated, as in the identity document."""

    family_name: str = field(repr=False)
    given_name: str = field(repr=False)
    born: date = field(repr=False)

    def __post_init__(self) -> None:
        if type(self.born) is not date:
            raise MalformedError("a birth date is a day, without a time")
        for what in ("family_name", "given_name"):
            object.__setattr__(self, what, _normal(getattr(self, what), what.replace("_", " ")))
        if not self.family_name and not self.given_name:
            raise MalformedError("a person without a name")


def _normal(name: str, what: str) -> str:
    """NFC, with single spaces. Raises `MalformedError` for what is no name."""
    if len(name) > 4 * NAME_BYTES_MAX:
        raise LimitError(f"a {what} of {len(name)} letters; {NAME_BYTES_MAX} bytes are read")
    if any(unicodedata.category(character) in NEVER for character in name):
        raise MalformedError(f"a {what} with characters that nobody sees")
    name = re.sub("[ \u00a0\u2000-\u200a\u202f\u3000]+", " ", unicodedata.normalize("NFC", name)).strip(" ")
    if len(name.encode()) > NAME_BYTES_MAX:
        raise MalformedError(f"a {what} of more than {NAME_BYTES_MAX} bytes")
    return name


def data_hash(person: Person, nonce: bytes) -> bytes:
    """D, 32 bytes. Raises `MalformedError` for a nonce that is not 32 bytes."""
    if len(nonce) != NONCE_BYTES:
        raise MalformedError(f"a nonce of {len(nonce)} bytes; it has {NONCE_BYTES}")
    names = [person.family_name, person.given_name]
    return sha256(b"peewit data hash v1", nonce, cbor.encode([*names, person.born.isoformat()]))


def request_hash(areas: Sequence[bytes], key: bytes, claim: bytes, data: bytes) -> bytes:
    """H, 32 bytes, for one to three catchment areas in order of preference.

    Without the id of the request's key, whoever sees a request could make another one of its tokens and ticket; without
    the hash of the claim's secret, its user could show two nodes two claims. Raises `MalformedError`.
    """
    if not 1 <= len(areas) <= AREAS_MAX or len(set(areas)) != len(areas) or any(len(area) != 32 for area in areas):
        raise MalformedError("a request is for one to three different catchment areas")
    if {len(key), len(claim), len(data)} != {32}:
        raise MalformedError("a key id, a claim and a data hash have 32 bytes each")
    return sha256(b"peewit request v1", cbor.encode(list(areas)), key, claim, data)
