"""A practice's journal at nodes: sealed things by tag, numbered, written by one device at a time (design 4.6).

    claim      [term, device, [[origin hash, …], …], known, seal]                              ->  header
    write      [term, device, at, head, next, next head, drop, part, last, [[tag, sealed or empty], …]]
                                                                                               ->  header
    read       [after tag, bytes at most]                          ->  [header, [[tag, sealed], …]] in order of tags
    header     [term, device, written, number, head, [[origin hash, …], …], known, seal]

    [3, h'64..', 7, h'a1..', 8, h'b2..', false, 0, true, [[h'00..', h'']]]
    8a 03 50 64… 07 58 20 a1… 08 58 20 b2… f4 00 f5 81 82 50 00… 40

Three nodes keep it, which claim and header name first (its *keepers*); what two of them have counts. When operators
leave, the next claim names others, and behind them those who kept it before: two of each three have to agree, until a
claim comes that names the new ones alone and *knows* of a term in which two of them took a write. A node with keepers
of a later term than that, whom a claim does not name, refuses it.

A device *claims* a term above all others before it writes: a node that has let it writes nothing of older terms any
more. A write goes from one number to the next, so that a device which does not know what was written last (it was put
back from a backup, or another one was at work) is refused, and reads first. As in Raft, what was written in the highest
term, and there with the highest number, is what counts. A write that does not fit into one request comes in parts,
which count together, with the `last`. With `drop` it is all that there is, in the place of what a node had that was
left behind.

Rules kept here: syntax and bounds, and which claim follows which. What is sealed, also the seal by which a practice
knows the keepers that it named, and how devices agree, is left to practices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peewit_federation import cbor
from peewit_federation.errors import MalformedError

NODES: Final = 3
KEEPERS_MAX: Final = 8
"Those who keep it, and moves that were begun and that nothing was written after."
SEAL_BYTES: Final = 16
DEVICE_BYTES: Final = 16
TAG_BYTES: Final = 16
HEAD_BYTES: Final = 32
ROWS_MAX: Final = 2_000
PARTS_MAX: Final = 10_000
ROW_BYTES_MAX: Final = 72 * 1024
WRITE_BYTES_MAX: Final = 112 * 1024
READ_BYTES_MAX: Final = 1 << 20
NUMBER_MAX: Final = 1 << 53
Rows = tuple[tuple[bytes, bytes], ...]
"(tag, sealed); nothing sealed: it goes."
Keepers = tuple[tuple[bytes, ...], ...]
"Origin hashes of the operators whose nodes keep a journal, and then of those who kept it before."


@dataclass(frozen=True)
class Header:
    """How far a node's copy of a journal is, and whom it lets write."""

    term: int = 0
    device: bytes = bytes(DEVICE_BYTES)
    written: int = 0
    "The term of the last write."
    number: int = 0
    "Of the last write."
    head: bytes = b""
    keepers: Keepers = ()
    "As the claim of this term named them."
    known: int = 0
    "As that claim said: in this term a write was taken by enough of those who kept it then."
    seal: bytes = b""
    "Of the practice, over term, device, keepers and `known`."

    def value(self) -> list[object]:
        """As it stands in answers."""
        numbers = [self.term, self.device, self.written, self.number, self.head]
        return [*numbers, [list(origins) for origins in self.keepers], self.known, self.seal]

    @classmethod
    def of(cls, value: object) -> Header:
        """Raises `MalformedError`."""
        match value:
            case [
                int(term), bytes(device), int(written), int(number), bytes(head), list(keepers), int(known),
                bytes(seal),
            ]:  # fmt: skip
                sizes = len(device) == DEVICE_BYTES and len(head) in (0, HEAD_BYTES) and len(seal) in (0, SEAL_BYTES)
                if sizes and all(0 <= n < NUMBER_MAX for n in (term, written, number, known)):
                    return cls(term, device, written, number, head, _keepers(keepers), known, seal)
        raise MalformedError("a journal's header is [term, device, written, number, head, keepers, known, seal]")


@dataclass(frozen=True)
class Claim:
    """A device wants to be the one that writes."""

    term: int
    device: bytes
    keepers: Keepers
    known: int
    "A term in which a write was taken by enough: whom claims up to it named has no say beside `keepers`."
    seal: bytes

    def encode(self) -> bytes:
        keepers = [list(origins) for origins in self.keepers]
        return cbor.encode([self.term, self.device, keepers, self.known, self.seal])

    def follows(self, held: Header) -> bool:
        """Whether it knows everybody who has a say by what a node holds."""
        return held.term <= self.known or set(held.keepers) <= set(self.keepers)

    @classmethod
    def decode(cls, data: bytes) -> Claim:
        """Raises `MalformedError`."""
        match cbor.decode(data, size_bytes_max=2048):
            case [int(term), bytes(device), list(keepers), int(known), bytes(seal)]:
                sizes = len(device) == DEVICE_BYTES and len(seal) == SEAL_BYTES and keepers
                if sizes and 0 <= known < term < NUMBER_MAX:
                    return cls(term, device, _keepers(keepers), known, seal)
        raise MalformedError("a claim to a journal is [term, device, [[origin hash, …], …], known, seal]")


@dataclass(frozen=True)
class Change:
    """A write."""

    term: int
    device: bytes
    at: int
    head: bytes
    next: int
    next_head: bytes
    rows: Rows
    drop: bool = False
    "Whether all that the node had goes first."
    part: int = 0
    "How many parts were brought before."
    last: bool = True

    def encode(self) -> bytes:
        rows = [list(row) for row in self.rows]
        numbers = [self.term, self.device, self.at, self.head, self.next, self.next_head]
        return cbor.encode([*numbers, self.drop, self.part, self.last, rows])

    @classmethod
    def decode(cls, data: bytes) -> Change:
        """Raises `MalformedError` or `LimitError`."""
        match cbor.decode(data, size_bytes_max=WRITE_BYTES_MAX):
            case [
                int(term), bytes(device), int(at), bytes(head), int(number), bytes(next_head), bool(drop), int(part),
                bool(last), list(rows),
            ]:  # fmt: skip
                numbers = 0 < term < NUMBER_MAX and 0 <= at < NUMBER_MAX and 0 < number < NUMBER_MAX
                sizes = len(device) == DEVICE_BYTES and len(head) in (0, HEAD_BYTES) and len(next_head) == HEAD_BYTES
                if numbers and sizes and len(rows) <= ROWS_MAX and 0 <= part < PARTS_MAX and (drop or number > at):
                    return cls(term, device, at, head, number, next_head, _rows(rows), drop, part, last)
        raise MalformedError(
            "a journal is written with [term, device, at, head, next, next head, drop, part, last, rows]"
        )


def encode_read(after: bytes, bytes_max: int) -> bytes:
    """Ask for what comes after a tag (empty: from the beginning); 0 bytes: the header alone."""
    return cbor.encode([after, bytes_max])


def decode_read(data: bytes) -> tuple[bytes, int]:
    """Raises `MalformedError`."""
    match cbor.decode(data, size_bytes_max=64):
        case [bytes(after), int(bytes_max)] if len(after) in (0, TAG_BYTES) and 0 <= bytes_max <= READ_BYTES_MAX:
            return after, bytes_max
    raise MalformedError(f"a journal is read with [after tag, at most {READ_BYTES_MAX} bytes]")


def encode_page(header: Header, rows: Rows) -> bytes:
    """What a node answers to `read`."""
    return cbor.encode([header.value(), [list(row) for row in rows]])


def decode_page(data: bytes) -> tuple[Header, Rows]:
    """Raises `MalformedError` or `LimitError`."""
    match cbor.decode(data, size_bytes_max=READ_BYTES_MAX + ROW_BYTES_MAX + (64 << 10)):
        case [header, list(rows)]:
            return Header.of(header), _rows(rows)
    raise MalformedError("a page of a journal is [header, rows]")


def _keepers(values: list[object]) -> Keepers:
    found = tuple(map(_origins, values))
    if len(found) > KEEPERS_MAX or len(set(found)) != len(found):
        raise MalformedError(f"at most {KEEPERS_MAX} different lists of operators keep a journal, or kept it before")
    return found


def _origins(values: object) -> tuple[bytes, ...]:
    if isinstance(values, list):
        found = tuple(value for value in values if isinstance(value, bytes) and len(value) == 32)
        if 0 < len(found) == len(values) <= NODES and len(set(found)) == len(found):
            return found
    raise MalformedError(f"one to {NODES} different operators keep a journal, named by 32 bytes each")


def _rows(values: list[object]) -> Rows:
    found = []
    for value in values:
        match value:
            case [bytes(tag), bytes(sealed)] if len(tag) == TAG_BYTES and len(sealed) <= ROW_BYTES_MAX:
                found.append((tag, sealed))
            case _:
                raise MalformedError(f"a row of a journal is [tag, at most {ROW_BYTES_MAX} bytes]")
    if len({tag for tag, _ in found}) != len(found):
        raise MalformedError("a journal's write names a tag twice")
    return tuple(found)
