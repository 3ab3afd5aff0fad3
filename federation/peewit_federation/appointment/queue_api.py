"""What people and practices ask of a queue, and what anybody may know of it. Practices ask in envelopes that they sign.

    request                                 ->  [[[area's name, state, offers not answered], …], shown]
    draw       [mediator, area, count,      ->  [signed request, …]     `passed` over: nothing that is free suits them;
                [[H, version], …], anew]                                `anew`: give those who were, again
    offered    [mediator, area, H, until]   ->  []       until 0: the offer is over, others may draw it now
    claim      [mediator, area, H, secret]  ->  shown
    waiting                                            ->  [[rank of the group, round, how many], …]

A request waits (0), is withdrawn (1), claimed (2), or parked (3) after offers that were not answered: then nobody
draws it until a later version comes. It waits for twelve rounds after its own. A node that cannot do as it is told has
to show why (`spoken`): `shown` is empty if nothing stands in the way.

Rules kept here: syntax and bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from peewit_federation import cbor
from peewit_federation.appointment.request import VERSION_MAX
from peewit_federation.errors import MalformedError


@dataclass(frozen=True)
class Place:
    """A catchment area: its mediator (32 bytes) and its number (16 bytes)."""

    mediator: bytes
    area: bytes


WAITING, WITHDRAWN, CLAIMED, PARKED = range(4)
ROUNDS_MAX: Final = 12
"So many rounds a request waits."
PASSED_MAX: Final = 250
"Named in one draw."


def rank_of(groups: Sequence[str], group: str) -> int:
    """The place of a group among those of an area; who is in none of them comes last."""
    return groups.index(group) if group in groups else len(groups)


def encode_states(found: Iterable[tuple[bytes, int, int]]) -> list[object]:
    """How a request stands in the areas of a node: (area's name, state, offers that were not answered)."""
    return [list(one) for one in found]


def read_states(rows: object) -> dict[bytes, int]:
    """States by area. Raises `MalformedError`."""
    found = {}
    for row in rows if isinstance(rows, list) else [None]:
        match row:
            case [bytes(area), int(state), int(_)] if len(area) == 32 and WAITING <= state <= PARKED:
                found[area] = state
            case _:
                raise MalformedError("how a request stands is [[area's name, state, offers not answered], …]")
    return found


@dataclass(frozen=True)
class Draw:
    """The next requests that a practice asks for."""

    place: Place
    count: int
    passed: tuple[tuple[bytes, int], ...] = ()
    """Requests whom nothing suits that is free, and their versions: others may have them, and this practice gets others
    for a while. Who has said something new since is not among them."""
    anew: bool = False
    "Whether those who were passed over before are given again."

    def encode(self) -> bytes:
        return cbor.encode(
            [self.place.mediator, self.place.area, self.count, [list(one) for one in self.passed], self.anew]
        )

    @classmethod
    def decode(cls, data: bytes) -> Draw:
        """Raises `MalformedError` or `LimitError`."""
        match cbor.decode(data, size_bytes_max=256 + 40 * PASSED_MAX):
            case [bytes(mediator), bytes(area), int(count), list(passed), bool(anew)] if (
                0 < count < 1 << 31 and len(passed) <= PASSED_MAX
            ):
                return cls(_place(mediator, area), count, tuple(map(_passed, passed)), anew)
        raise MalformedError("a draw is [mediator, area, count, [[H passed over, version], …], whether it begins anew]")


def _passed(item: object) -> tuple[bytes, int]:
    match item:
        case [bytes(name), int(version)] if 0 <= version <= VERSION_MAX:
            return _hash(name), version
    raise MalformedError("who is passed over is named by [H, version]")


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
