"""Base45 (RFC 9285): two bytes become three characters that a QR code stores in alphanumeric mode.

    b"ietf!"   <->   "QED8WEX0"

Rules kept here: exactly the strings that encoding makes are decoded: no other character, no lonely one at the end, no
triplet beyond FFFF ("GGW") and no pair beyond FF.
"""

from __future__ import annotations

import sys
from array import array
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
    thirds = zip(values[0:whole:3], values[1:whole:3], values[2:whole:3], strict=True)
    try:
        words = array("H", [low + 45 * middle + 2025 * high for low, middle, high in thirds])
        last = bytes([values[whole] + 45 * values[whole + 1]]) if whole < len(values) else b""
    except (OverflowError, ValueError):
        raise MalformedError("base45 with characters that stand for more than their bytes can hold") from None
    if sys.byteorder == "little":
        words.byteswap()
    return words.tobytes() + last
