"""What operators' logs say of admission and of the draw (design 4.5): kinds 4, 5 and 7.

    token key   this node blind-signs requests of a round and group with this key
    draw key    this member of a committee holds this key of a round, for one set of members
    count       so many blind signatures were given under a key

Kinds without personal data, as all are. What they come to is decided by `draw.rounds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from peewit_federation.statements.codec import GROUP, Bytes, Statement, Uint, labelled

ROUND_MAX: Final = (1 << 31) - 1
PLACES_MAX: Final = 126


@dataclass(frozen=True)
class TokenKey(Statement):
    """A key for admissions of one round and group."""

    KIND: ClassVar[int] = 4

    round: int = labelled(2, Uint(ROUND_MAX))
    modulus: bytes = labelled(3, Bytes(256, 512))
    "RSA, big-endian; the exponent is 65,537 (`draw.blind_rsa`)."
    group: str = labelled(4, GROUP, "")
    "Empty: everybody."


@dataclass(frozen=True)
class DrawKey(Statement):
    """A VRF key of a round, for one set of members, which the author of this log holds."""

    KIND: ClassVar[int] = 5

    round: int = labelled(2, Uint(ROUND_MAX))
    committee: bytes = labelled(3, Bytes(32))
    "Its digest (`draw.schedule`)."
    place: int = labelled(4, Uint(PLACES_MAX - 1))
    "The number of the set whose members do not hold it (`draw.tickets`)."
    public: bytes = labelled(5, Bytes(32))


@dataclass(frozen=True)
class TokenCount(Statement):
    """How often a token key was used so far."""

    KIND: ClassVar[int] = 7

    round: int = labelled(2, Uint(ROUND_MAX))
    signatures: int = labelled(3, Uint())
    group: str = labelled(4, GROUP, "")


DrawStatement = TokenKey | DrawKey | TokenCount
