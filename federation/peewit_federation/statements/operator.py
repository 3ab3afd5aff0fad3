"""What an operator's log carries (design 4.1): one log per node, written by the node itself.

Kinds 4, 5 and 7, for admission and the draw, are in `draw`; 6 is free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from peewit_federation.keys import XWING_PUBLIC_BYTES
from peewit_federation.statements.codec import (
    NODE_URL,
    POSTCODE_PREFIX,
    SERVICE,
    Bytes,
    Many,
    Record,
    Statement,
    Uint,
    labelled,
)

Quotas = tuple[int, int, int]
QUOTAS_DEFAULT: Final[Quotas] = (16, 1_000_000, 1_000)


@dataclass(frozen=True)
class Node(Statement):
    """Where an operator's node is reached and what it understands."""

    KIND: ClassVar[int] = 1

    url: str = labelled(2, NODE_URL)
    witness_key: bytes = labelled(3, Bytes(32))
    "Ed25519, of its cosignatures and views."
    versions: tuple[int, ...] = labelled(4, Many(Uint(1000), 16))
    "Protocol versions that it speaks."
    encryption_key: bytes = labelled(5, Bytes(0, XWING_PUBLIC_BYTES), b"")
    "To which other nodes seal what they hand over."
    oblivious_key: bytes = labelled(6, Bytes(0, 32), b"")
    "X25519: to which clients seal requests that come through another node; the same for everybody, as it stands here."


@dataclass(frozen=True)
class Admission(Statement):
    """`admit-mediator`: this operator vouches for a mediator within a scope."""

    KIND: ClassVar[int] = 2

    mediator: bytes = labelled(2, Bytes(32))
    "SHA-256 of its first root key."
    roots: tuple[bytes, ...] = labelled(3, Many(Bytes(32), 4))
    postcodes: tuple[str, ...] = labelled(4, Many(POSTCODE_PREFIX, 1000))
    "Prefixes; within their union."
    services: tuple[str, ...] = labelled(5, Many(SERVICE, 100), ())
    "None means every service."
    quotas: Quotas = labelled(6, Record((Uint(1000), Uint(10_000_000), Uint(1 << 20))), QUOTAS_DEFAULT)
    "Devices, entries per device log, carried statements."


@dataclass(frozen=True)
class Withdrawal(Statement):
    """`withdraw-mediator`: this operator vouches no longer. Needs no quorum."""

    KIND: ClassVar[int] = 3

    mediator: bytes = labelled(2, Bytes(32))


@dataclass(frozen=True)
class CharterNotice(Statement):
    """This operator uses a charter."""

    KIND: ClassVar[int] = 8

    number: int = labelled(2, Uint(1 << 32))
    digest: bytes = labelled(3, Bytes(32))
    "SHA-256 of the charter's text without signatures."


@dataclass(frozen=True)
class Carried(Statement):
    """A statement of someone who has no log. It counts by itself, wherever it is carried."""

    KIND: ClassVar[int] = 9

    statement: bytes = labelled(2, Bytes(1, 65_000))
