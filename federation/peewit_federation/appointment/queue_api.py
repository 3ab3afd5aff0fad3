"""What practices ask of a queue, in envelopes that they sign, and what anybody may know of it.

    draw       [mediator, area, count]                 ->  [signed request, …]
    offered    [mediator, area, H, until]              ->  []
    claim      [mediator, area, H, secret]             ->  []
    waiting                                            ->  [[rank of the group, round, how many], …]

Rules kept here: syntax and bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

from peewit_federation import cbor
from peewit_federation.errors import MalformedError


@dataclass(frozen=True)
class Place:
    """A catchment area: its mediator (32 bytes) and its number (16 bytes)."""

    mediator: bytes
    area: bytes


def encode_draw(place: Place, count: int) -> bytes:
    """Ask for the next requests."""
    return cbor.encode([place.mediator, place.area, count])


def decode_draw(data: bytes) -> tuple[Place, int]:
    """Raises `MalformedError`."""
    match cbor.decode(data, size_bytes_max=256):
        case [bytes(mediator), bytes(area), int(count)] if 0 < count < 1 << 31:
            return _place(mediator, area), count
    raise MalformedError("a draw is [mediator, area, count]")


def encode_offered(place: Place, request: bytes, until_s: int) -> bytes:
    """Say that an offer was made."""
    return cbor.encode([place.mediator, place.area, request, until_s])


def decode_offered(data: bytes) -> tuple[Place, bytes, int]:
    """Raises `MalformedError`."""
    match cbor.decode(data, size_bytes_max=256):
        case [bytes(mediator), bytes(area), bytes(request), int(until_s)] if 0 <= until_s < 1 << 53:
            return _place(mediator, area), _hash(request), until_s
    raise MalformedError("an offer is told as [mediator, area, H, until]")


def encode_claim(place: Place, request: bytes, secret: bytes) -> bytes:
    """Claim a request."""
    return cbor.encode([place.mediator, place.area, request, secret])


def decode_claim(data: bytes) -> tuple[Place, bytes, bytes]:
    """Raises `MalformedError`."""
    match cbor.decode(data, size_bytes_max=256):
        case [bytes(mediator), bytes(area), bytes(request), bytes(secret)]:
            return _place(mediator, area), _hash(request), _hash(secret)
    raise MalformedError("a claim is [mediator, area, H, secret]")


def _place(mediator: bytes, area: bytes) -> Place:
    if (len(mediator), len(area)) != (32, 16):
        raise MalformedError("a catchment area is 32 bytes of its mediator and 16 of its own")
    return Place(mediator, area)


def _hash(value: bytes) -> bytes:
    if len(value) != 32:
        raise MalformedError("a hash or secret has 32 bytes")
    return value
