"""What clients and nodes say to each other: appending to a log, and answers that prove themselves.

    append   [old size, bundle, checkpoint note, device statement or empty]
    receipt  the checkpoint note with the node's cosignature
    heads    [[newest checkpoint, newest with a quorum], …]: of each log that was asked for, empty if there is none
    answer   {0: [checkpoints or closes], 1: [device statements], 2: [[head, index, entry, [path]]], 3: cursor}

The cursor is where to go on (`after=<hexadecimal>`), opaque to who asks; a list that is complete has none.

Rules kept here: syntax and bounds; an answer is opened only as a whole, every entry by a proof against a
head that the policy's quorum cosigned (or, for what restricts, any head of the log), or against the close by
which a mediator's root vouches for a log's prefix. Whether that root stands is left to `registry`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from peewit_federation import cbor
from peewit_federation.errors import ForgeryError, MalformedError
from peewit_federation.log.checkpoint import Head, log_key, open_head
from peewit_federation.log.merkle import leaf_hash, verify_inclusion
from peewit_federation.log.policy import Policy
from peewit_federation.statements.carried import Close, Device, open_carried

APPEND_BYTES_MAX: Final = 8 << 20
STATEMENT_BYTES_MAX: Final = 64 * 1024
ANSWER_BYTES_MAX: Final = 16 << 20
CURSOR_BYTES_MAX: Final = 64
HEADS_MAX: Final = 32
"Of so many logs at once."
CONTENT_TYPE: Final = "application/cbor"


def open_heads(data: bytes, count: int) -> list[tuple[bytes, bytes]]:
    """Of `count` logs, two notes each, unverified. Raises `MalformedError`."""
    pairs = cbor.decode(data, size_bytes_max=ANSWER_BYTES_MAX)
    if not isinstance(pairs, list) or len(pairs) != count:
        raise MalformedError(f"not the heads of {count} logs")
    found = []
    for pair in pairs:
        match pair:
            case [bytes(newest), bytes(quorum)]:
                found.append((newest, quorum))
            case _:
                raise MalformedError("not a pair of heads")
    return found


@dataclass(frozen=True)
class Append:
    """A log's owner brings entries (as an entry bundle) and the checkpoint that covers them."""

    old_size: int
    bundle: bytes
    note: bytes
    device: bytes = b""
    "The carried device statement, for a node that may not know the log yet."

    def encode(self) -> bytes:
        return cbor.encode([self.old_size, self.bundle, self.note, self.device])

    @classmethod
    def decode(cls, data: bytes) -> Append:
        """Raises `MalformedError` or `LimitError`."""
        match cbor.decode(data, size_bytes_max=APPEND_BYTES_MAX):
            case [int(old_size), bytes(bundle), bytes(note), bytes(device)] if old_size >= 0:
                return cls(old_size, bundle, note, device)
        raise MalformedError("an append is [old size, bundle, checkpoint, device statement]")


@dataclass(frozen=True)
class Proven:
    """An entry shown away from its log."""

    head: Head | Close
    device: Device
    index: int
    entry: bytes


@dataclass(frozen=True)
class Answer:
    """Entries with what proves them. `items` are (number of the head, index, entry, path)."""

    heads: tuple[bytes, ...]
    devices: tuple[bytes, ...]
    items: tuple[tuple[int, int, bytes, tuple[bytes, ...]], ...]
    cursor: bytes = b""

    def encode(self) -> bytes:
        items = [[head, index, entry, list(path)] for head, index, entry, path in self.items]
        return cbor.encode({0: list(self.heads), 1: list(self.devices), 2: items, 3: self.cursor})

    @classmethod
    def decode(cls, data: bytes) -> Answer:
        """Raises `MalformedError` or `LimitError`."""
        match cbor.decode(data, size_bytes_max=ANSWER_BYTES_MAX):
            case {0: list(heads), 1: list(devices), 2: list(items), 3: bytes(cursor)} if len(heads) == len(devices):
                if len(cursor) > CURSOR_BYTES_MAX:
                    raise MalformedError(f"a cursor of more than {CURSOR_BYTES_MAX} bytes")
                return cls(_all_bytes(heads), _all_bytes(devices), tuple(map(_item, items)), cursor)
        raise MalformedError("not an answer with proofs")

    def open(self, policy: Policy, *, quorum: bool = True) -> list[Proven]:
        """Verify everything. Raises `ForgeryError` if anything does not hold."""
        opened = []
        for note, statement in zip(self.heads, self.devices, strict=True):
            device = open_carried(statement)
            if not isinstance(device, Device):
                raise ForgeryError("an answer whose head has no device statement")
            opened.append((_open_tree(note, device, policy, quorum), device))
        found = []
        for number, index, entry, path in self.items:
            if not 0 <= number < len(opened):
                raise MalformedError("an answer that refers to a head it does not have")
            head, device = opened[number]
            root = head.root_hash if isinstance(head, Close) else head.root
            verify_inclusion(leaf_hash(entry), index, head.size, root, path)
            found.append(Proven(head, device, index, entry))
        return found


def _open_tree(data: bytes, device: Device, policy: Policy, quorum: bool) -> Head | Close:
    if data[:1] == b"\x84":
        close = open_carried(data)
        if not isinstance(close, Close) or (close.mediator, close.origin_hash) != (device.mediator, device.origin_hash):
            raise ForgeryError("an answer with a close that is not of the device beside it")
        return close
    head = open_head(data, log_key(device.log_key), policy.witness_keys)
    if quorum and not policy.satisfied(head.witnesses):
        raise ForgeryError(f"an answer whose head has {len(head.witnesses)} cosignatures, which is no quorum")
    return head


def _all_bytes(values: Iterable[object]) -> tuple[bytes, ...]:
    found = tuple(value for value in values if isinstance(value, bytes))
    if len(found) != len(list(values)):
        raise MalformedError("an answer with something else than bytes")
    return found


def _item(value: object) -> tuple[int, int, bytes, tuple[bytes, ...]]:
    match value:
        case [int(head), int(index), bytes(entry), list(path)] if index >= 0:
            return head, index, entry, _all_bytes(path)
    raise MalformedError("not an item of an answer")
