"""What is admitted and drawn: hashes over a person's data and over a request, which show neither.

    D = SHA-256("peewit data hash v1" || nonce || CBOR [family name, given name, birth date])      names in NFC
    H = SHA-256("peewit request v1" || CBOR [areas] || D)

The nonce, 32 random bytes, is the user's booking secret: without it nobody can try names until one fits.

Rules kept here: one person, nonce and list of areas has one hash, however its names were typed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from peewit_federation import cbor
from peewit_federation.errors import MalformedError
from peewit_federation.keys import sha256

NONCE_BYTES: Final = 32
NAME_BYTES_MAX: Final = 320
AREAS_MAX: Final = 3


@dataclass(frozen=True)
class Person:
    """Who shall be vaccinated, as in the identity document."""

    family_name: str
    given_name: str
    born: date

    def __post_init__(self) -> None:
        for what, name in (("family", self.family_name), ("given", self.given_name)):
            if len(name.encode()) > NAME_BYTES_MAX:
                raise MalformedError(f"a {what} name of more than {NAME_BYTES_MAX} bytes")
            if any(unicodedata.category(character) == "Cc" for character in name):
                raise MalformedError(f"a {what} name with a control character")
        if not self.family_name.strip() and not self.given_name.strip():
            raise MalformedError("a person without a name")


def data_hash(person: Person, nonce: bytes) -> bytes:
    """D, 32 bytes. Raises `MalformedError` for a nonce that is not 32 bytes."""
    if len(nonce) != NONCE_BYTES:
        raise MalformedError(f"a nonce of {len(nonce)} bytes; it has {NONCE_BYTES}")
    names = [" ".join(unicodedata.normalize("NFC", n).split()) for n in (person.family_name, person.given_name)]
    return sha256(b"peewit data hash v1", nonce, cbor.encode([*names, person.born.isoformat()]))


def request_hash(areas: Sequence[bytes], data: bytes) -> bytes:
    """H, 32 bytes, for one to three catchment areas in order of preference. Raises `MalformedError`."""
    if not 1 <= len(areas) <= AREAS_MAX or len(set(areas)) != len(areas) or any(len(area) != 32 for area in areas):
        raise MalformedError("a request is for one to three different catchment areas")
    if len(data) != 32:
        raise MalformedError("a data hash has 32 bytes")
    return sha256(b"peewit request v1", cbor.encode(list(areas)), data)
