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


def bytes_head(size: int) -> bytes:
    """What stands before a byte string of so many bytes."""
    if size < 24:
        return bytes([0x40 | size])
    width = 1 if size < 1 << 8 else 2 if size < 1 << 16 else 4
    return bytes([0x58 | width >> 1]) + size.to_bytes(width, "big")


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
    """Refuse `data` unless it is one value in deterministic encoding within the bounds.

    One loop with a stack of open containers: for each, how many values are still due, the type of its keys
    (-1 for arrays), and its last key. It runs for every entry of every log, so it does not call functions.
    """
    stack: list[tuple[int, int, bytes]] = []
    due, keys, previous = 1, -1, b""
    at, items, end = 0, 0, len(data)
    while True:
        while not due:
            if not stack:
                if at != end:
                    raise MalformedError(f"{end - at} bytes follow the CBOR value")
                return
            due, keys, previous = stack.pop()
        due -= 1
        items += 1
        if items > ITEMS_MAX:
            raise LimitError(f"CBOR with more than {ITEMS_MAX} items")
        if at >= end:
            raise MalformedError("CBOR ends in the middle of a value")
        start, first = at, data[at]
        major, argument = first >> 5, first & 31
        at += 1
        if argument > 23 and major != 7:
            if argument > 27:
                raise MalformedError(f"CBOR of indefinite length or reserved form at byte {start}")
            width = 1 << (argument - 24)
            argument = int.from_bytes(data[at : at + width], "big")
            at += width
            if at > end:
                raise MalformedError("CBOR ends in the middle of a value")
            if argument < (24 if width == 1 else 1 << (4 * width)):
                raise MalformedError(f"CBOR head longer than needed at byte {start}")
        if major == 2 or major == 3:
            at += argument
            if at > end:
                raise MalformedError("CBOR ends in the middle of a string")
        elif major > 3:
            if major == 6:
                raise MalformedError(f"CBOR tag {argument}; tags are not used here")
            if major == 7 and argument not in (20, 21, 22):
                raise MalformedError(f"CBOR float or simple value at byte {start}")
        if keys >= 0 and due & 1:
            # Of a map, an odd number of values is still due after its keys.
            key = data[start:at]
            if major != keys:
                raise MalformedError(f"CBOR map key of type {TYPE_NAMES[major]} at byte {start}")
            if key <= previous:
                fault = "twice" if key == previous else "out of order"
                raise MalformedError(f"CBOR map key {fault} at byte {start}")
            previous = key
        if major == 4 or major == 5:
            if len(stack) >= DEPTH_MAX:
                raise LimitError(f"CBOR nested deeper than {DEPTH_MAX}")
            if argument > ITEMS_PER_CONTAINER_MAX:
                name = TYPE_NAMES[major]
                raise LimitError(f"CBOR {name} with {argument} items; at most {ITEMS_PER_CONTAINER_MAX}")
            stack.append((due, keys, previous))
            due, keys, previous = argument, -1, b""
            if major == 5:
                due *= 2
                keys = data[at] >> 5 if due and at < end else 0
                if keys not in (0, 3):
                    raise MalformedError(f"CBOR map key of type {TYPE_NAMES[keys]} at byte {at}")
