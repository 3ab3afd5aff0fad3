"""Which passports were revoked, as mediators' logs say it and as a verifier's device keeps it.

    id          first 16 bytes of SHA-256 over the unique certificate identifier (UVCI), which is random and the same
                in all forms of one passport
    entry       a `revocation` with subject kind 20 and the id as its subject
    list        count (4 bytes) || the first 48 bits of SHA-256(mediator || id) of each, ascending, as gaps in
                Golomb-Rice code: unary quotient, then `rest` bits; 10,000 take some 45 kB, and a false alarm has the
                chance 10,000 / 2^48

Rules kept here: a mediator revokes only what its own issuers signed; a revocation holds whatever its time or that of
the passport; a changed signature (r, n-s) is no other passport, for signatures are not part of the id; a list has one
encoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from peewit_federation.errors import LimitError, MalformedError

PASSPORT_KIND: Final = 20
ID_BYTES: Final = 16
KEPT_BITS: Final = 48
COUNT_MAX: Final = 5_000_000


def passport_id(uvci: str) -> bytes:
    """What names a passport in a revocation. A checksum behind `#` does not count, for some issuers leave it out."""
    return hashlib.sha256(uvci.partition("#")[0].encode()).digest()[:ID_BYTES]


@dataclass(frozen=True)
class RevokedList:
    """A set of revoked passports: asking takes the same time however many there are."""

    prefixes: frozenset[int]

    @classmethod
    def of(cls, revoked: Iterable[tuple[bytes, bytes]]) -> RevokedList:
        """From (mediator, passport id)."""
        return cls(frozenset(_prefix(*one) for one in revoked))

    def has(self, mediator: bytes, passport: bytes) -> bool:
        """Whether a mediator revoked a passport that one of its issuers signed."""
        return _prefix(mediator, passport) in self.prefixes

    def __or__(self, other: RevokedList) -> RevokedList:
        """The union: whoever says that a passport is revoked is heard."""
        return RevokedList(self.prefixes | other.prefixes)

    def encode(self) -> bytes:
        """The list in bytes."""
        values = sorted(self.prefixes)
        rest, bits, previous = _rest_bits(len(values)), [], -1
        for value in values:
            quotient, remainder = divmod(value - previous - 1, 1 << rest)
            bits.append("1" * quotient + "0" + format(remainder, f"0{rest}b"))
            previous = value
        text = "".join(bits)
        text += "0" * (-len(text) % 8)
        body = int(text, 2).to_bytes(len(text) // 8, "big") if text else b""
        return len(values).to_bytes(4, "big") + body

    @classmethod
    def decode(cls, data: bytes) -> RevokedList:
        """Raises `MalformedError` or `LimitError`."""
        count = int.from_bytes(data[:4], "big")
        if len(data) < 4:
            raise MalformedError("a list of revoked passports that is cut off")
        if count > COUNT_MAX:
            raise LimitError(f"a list of more than {COUNT_MAX} revoked passports")
        text = format(int.from_bytes(data[4:], "big"), f"0{8 * (len(data) - 4)}b") if len(data) > 4 else ""
        rest, at, previous, values = _rest_bits(count), 0, -1, []
        for _ in range(count):
            end = text.find("0", at)
            if end < 0 or end + 1 + rest > len(text):
                raise MalformedError("a list of revoked passports that is cut off")
            previous += 1 + ((end - at) << rest) + int(text[end + 1 : end + 1 + rest], 2)
            values.append(previous)
            at = end + 1 + rest
        if (values and previous >> KEPT_BITS) or len(text) - at >= 8 or "1" in text[at:]:
            raise MalformedError("a list of revoked passports with something behind its end")
        return cls(frozenset(values))


def _prefix(mediator: bytes, passport: bytes) -> int:
    return int.from_bytes(hashlib.sha256(mediator + passport).digest()[: KEPT_BITS // 8], "big")


def _rest_bits(count: int) -> int:
    """Of the remainder in Golomb-Rice code: the usual gap is about 2 to this."""
    return max(1, KEPT_BITS - max(count, 1).bit_length())
