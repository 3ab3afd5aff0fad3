"""Base45 (RFC 9285): two bytes become three characters that a QR code stores in alphanumeric mode.

    b"ietf!"   <->   "QED8WEX0"

Rules kept here: exactly the strings that encoding makes are decoded: no other character, no lonely one at the end, no
triplet beyond FFFF ("GGW") and no pair beyond FF.
"""

from __future__ import annotations

from typing import Final

from peewit_federation.errors import MalformedError

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_NONE: Final = 45
_TO_VALUES: Final = bytes(ALPHABET.find(chr(code)) if chr(code) in ALPHABET else _NONE for code in range(256))


def encode(data: bytes) -> str:
    """The text of some bytes."""
    found: list[str] = []
    for at in range(0, len(data) - 1, 2):
        rest, low = divmod(data[at] << 8 | data[at + 1], 45)
        high, middle = divmod(rest, 45)
        found.append(ALPHABET[low] + ALPHABET[middle] + ALPHABET[high])
    if len(data) % 2:
        high, low = divmod(data[-1], 45)
        found.append(ALPHABET[low] + ALPHABET[high])
    return "".join(found)


def decode(text: str) -> bytes:
    """The bytes behind a text. Raises `MalformedError`."""
    if len(text) % 3 == 1:
        raise MalformedError(f"base45 of {len(text)} characters, of which the last stands alone")
    values = text.encode("latin-1", "replace").translate(_TO_VALUES)
    if (at := values.find(_NONE)) >= 0 or len(values) != len(text):
        raise MalformedError(f"a character at place {at + 1} that base45 does not have")
    whole = len(values) // 3 * 3
    words, rest = _words(values[:whole]), values[whole:]
    if rest and (last := rest[0] + 45 * rest[1]) > 0xFF:
        raise MalformedError("base45 that ends with more than a byte can hold")
    return words + bytes([last]) if rest else words


def _words(values: bytes) -> bytes:
    """All triplets at once: each digit stands in a lane of four bytes of one large number."""
    count = len(values) // 3
    lanes = 0
    for power in range(3):
        digits = bytearray(4 * count)
        digits[3::4] = values[power::3]
        lanes += 45**power * int.from_bytes(digits, "big")
    spread = lanes.to_bytes(4 * count, "big")
    if spread[1::4] != bytes(count):
        raise MalformedError("base45 with three characters that stand for more than two bytes can hold")
    found = bytearray(2 * count)
    found[0::2], found[1::2] = spread[2::4], spread[3::4]
    return bytes(found)
