"""Deterministic CBOR (RFC 8949 section 4.2.1), bounded before it is parsed.

Rules kept here: exactly one encoding of a value is accepted (shortest heads, definite lengths,
keys strictly ascending by their encoded bytes); maps are keyed by unsigned integers or by text,
never both; there are no tags, floats, undefined or other simple values; nothing follows the value.
`scan` proves all of it in one pass over the bytes before any object is made, so that neither a deep
nest, nor a million empty lists, nor colliding bignum keys ever reach the decoder.

What a value *means* is left to `statements`, `cose` and `gossip`.

    {0: 5, 1: 1, 2: h'0102'}   ->   a3 00 05 01 01 02 42 01 02
"""

from __future__ import annotations

from typing import Any, Final

import cbor2

from peewit_federation.errors import LimitError, MalformedError

TYPE_NAMES: Final = ("unsigned", "negative", "bytes", "text", "array", "map", "tag", "simple")

DEPTH_MAX: Final = 16
ITEMS_PER_CONTAINER_MAX: Final = 10_000
ITEMS_MAX: Final = 50_000


def encode(value: object) -> bytes:
    """The one encoding of `value`. Raises `MalformedError` for what the profile excludes."""
    data: bytes = cbor2.dumps(value, canonical=True)
    scan(data)
    return data


def decode(data: bytes, *, size_bytes_max: int = 1 << 20) -> Any:
    """The value that `data` encodes.

    Raises `LimitError` beyond a bound and `MalformedError` for anything but the one encoding.
    """
    if len(data) > size_bytes_max:
        raise LimitError(f"CBOR of {len(data)} bytes; at most {size_bytes_max} are accepted")
    scan(data)
    try:
        return cbor2.loads(data, max_depth=DEPTH_MAX + 1)
    except (cbor2.CBORDecodeError, UnicodeDecodeError) as error:
        raise MalformedError("CBOR text that is not UTF-8") from error


def scan(data: bytes) -> None:
    """Refuse `data` unless it is one value in deterministic encoding within the bounds."""
    try:
        end = _Scanner(data).value(0, 0)
    except IndexError:
        raise MalformedError("CBOR ends in the middle of a value") from None
    if end != len(data):
        raise MalformedError(f"{len(data) - end} bytes follow the CBOR value")


class _Scanner:
    """One pass over the bytes; `value(position, depth)` returns the position behind the value."""

    __slots__ = ("data", "items")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.items = 0

    def value(self, at: int, depth: int) -> int:
        data = self.data
        self.items += 1
        if self.items > ITEMS_MAX:
            raise LimitError(f"CBOR with more than {ITEMS_MAX} items")
        first = data[at]
        major, info = first >> 5, first & 31
        if major == 7:
            if info not in (20, 21, 22):
                raise MalformedError(f"CBOR float or simple value at byte {at}")
            return at + 1
        argument, at = self._argument(at, info)
        if major < 2:
            return at
        if major < 4:
            if argument > len(data) - at:
                raise MalformedError("CBOR ends in the middle of a string")
            return at + argument
        if major == 6:
            raise MalformedError(f"CBOR tag {argument}; tags are not used here")
        if depth >= DEPTH_MAX:
            raise LimitError(f"CBOR nested deeper than {DEPTH_MAX}")
        if argument > ITEMS_PER_CONTAINER_MAX:
            raise LimitError(f"CBOR {TYPE_NAMES[major]} with {argument} items; at most {ITEMS_PER_CONTAINER_MAX}")
        if major == 4:
            for _ in range(argument):
                at = self.value(at, depth + 1)
            return at
        return self._map(at, argument, depth)

    def _map(self, at: int, pairs: int, depth: int) -> int:
        data = self.data
        previous = b""
        kind = data[at] >> 5 if pairs else 0
        if kind not in (0, 3):
            raise MalformedError(f"CBOR map key of type {TYPE_NAMES[kind]} at byte {at}")
        for _ in range(pairs):
            if data[at] >> 5 != kind:
                raise MalformedError(f"CBOR map with keys of different types at byte {at}")
            end = self.value(at, depth + 1)
            key = data[at:end]
            if key <= previous:
                fault = "twice" if key == previous else "out of order"
                raise MalformedError(f"CBOR map key {fault} at byte {at}")
            previous = key
            at = self.value(end, depth + 1)
        return at

    def _argument(self, at: int, info: int) -> tuple[int, int]:
        if info < 24:
            return info, at + 1
        if info > 27:
            raise MalformedError(f"CBOR of indefinite length or reserved form at byte {at}")
        width = 1 << (info - 24)
        end = at + 1 + width
        if end > len(self.data):
            raise IndexError
        argument = int.from_bytes(self.data[at + 1 : end], "big")
        if argument < (24 if width == 1 else 1 << (4 * width)):
            raise MalformedError(f"CBOR head longer than needed at byte {at}")
        return argument, end
