"""How far a practice's journal is, as its device knows it (`journal`).

[term, written, number, head, settled, [origin hash, …], head of a write that was begun, whether all is to be
 written, names that are to be written: kind (1 byte), size (1 byte), name, …]                          CBOR
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from peewit_federation import cbor

Name = tuple[int, bytes]


@dataclass
class JournalState:
    """How far the practice's journal is, as this device knows it."""

    term: int = 0
    "The highest that it had; 0: it has not written yet."
    written: int = 0
    "The term of the last write that counts."
    number: int = 0
    "And its number and head."
    head: bytes = b""
    settled: int = 0
    "The last term in which enough nodes took a write of this device,"
    origins: tuple[bytes, ...] = ()
    "and the operators who kept the journal then."
    begun: bytes = b""
    "The head of a write that may count."
    whole: bool = True
    "Whether everything is to be written, not only what is pending."
    pending: dict[Name, None] = field(default_factory=dict)
    "What changed and is not in it yet."
    flying: dict[Name, None] = field(default_factory=dict)
    "What is in the write that was begun."

    def encode(self) -> bytes:
        names = b"".join(bytes([kind, len(name)]) + name for kind, name in {**self.flying, **self.pending})
        numbers = [self.term, self.written, self.number, self.head, self.settled]
        return cbor.encode([*numbers, list(self.origins), self.begun, self.whole, names])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        term, written, number, head, settled, origins, begun, whole, names = cbor.decode(data)
        found, at = cls(term, written, number, head, settled, tuple(origins), begun, whole), 0
        while at < len(names):
            end = at + 2 + names[at + 1]
            found.pending[names[at], names[at + 2 : end]] = None
            at = end
        return found
