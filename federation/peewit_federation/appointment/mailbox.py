"""Mailboxes: where sealed messages wait for whoever holds a key (design 4.6).

    address      SHA-256 of the mailbox's Ed25519 public key
    terms        [until, whether admitted practices may write]               signed in an envelope by the mailbox's key
                 [until, whether admitted practices may write, work]         of a node that is more than half full
    leave        COSE_Sign1 by the mailbox's key, purpose "peewit leave v1": [address, key id of a writer, until]
    put          [leave or empty, message]                                   signed by the writer
    read         []            ->  [message, …]                              signed by the mailbox's key
    delete       [SHA-256 of a message, …]                                   likewise

Rules kept here: syntax and bounds; a writer is who has the owner's leave. Opening one costs nothing until a node is
half full, and then work, more and more of it: a flood cannot take the last places. How full a mailbox may be is kept
by nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from peewit_federation import cbor
from peewit_federation.cose import Sign1, sign1
from peewit_federation.errors import ForgeryError, MalformedError, RefusedError
from peewit_federation.keys import PublicKey, SigningKey, key_id, sha256

LEAVE: Final = "peewit leave v1"
MESSAGE_BYTES_MAX: Final = 64 * 1024
MESSAGES_MAX: Final = 32
UNREAD_MAX: Final = (2, 16)
"Messages of one writer in a mailbox: the last ones of a practice that nobody asked, and of who has its owner's leave."
TIGHT_BYTES: Final = ((0.9, 20 * 1024), (0.5, 64 * 1024))
"How much one mailbox holds at a node that has used more than such a share of its room."
LIFETIME_S_MAX: Final = 400 * 86_400
LEAVE_BYTES_MAX: Final = 512
LEAVES_REMEMBERED_MAX: Final = 4096
WORK_BYTES: Final = 8
WORK_BITS: Final = (14, 22)
"Of a node that is half full, and of one that is nearly full: a moment, and some seconds."


@dataclass(frozen=True)
class Terms:
    """What the owner of a mailbox asks for."""

    until_s: int
    practices: bool
    "Whether practices that are admitted may write."
    work: bytes = b""
    "8 bytes; none while opening costs nothing."

    def encode(self) -> bytes:
        return cbor.encode([self.until_s, self.practices, *([self.work] if self.work else [])])

    @classmethod
    def decode(cls, data: bytes) -> Terms:
        """Raises `MalformedError`."""
        match cbor.decode(data, size_bytes_max=64):
            case [int(until_s), bool(practices)] if 0 <= until_s < 1 << 53:
                return cls(until_s, practices)
            case [int(until_s), bool(practices), bytes(work)] if 0 <= until_s < 1 << 53 and len(work) == WORK_BYTES:
                return cls(until_s, practices, work)
        raise MalformedError("terms are [until, whether practices may write], and perhaps work")


@dataclass(frozen=True)
class Put:
    """A message for somebody's mailbox."""

    leave: bytes
    message: bytes

    def encode(self) -> bytes:
        return cbor.encode([self.leave, self.message])

    @classmethod
    def decode(cls, data: bytes) -> Put:
        """Raises `MalformedError` or `LimitError`."""
        match cbor.decode(data, size_bytes_max=MESSAGE_BYTES_MAX + LEAVE_BYTES_MAX + 64):
            case [bytes(leave), bytes(message)]:
                if len(leave) <= LEAVE_BYTES_MAX and 0 < len(message) <= MESSAGE_BYTES_MAX:
                    return cls(leave, message)
        raise MalformedError(f"a message for a mailbox is [leave, 1 to {MESSAGE_BYTES_MAX} bytes]")


def bits_due(count: int, count_max: int) -> int:
    """How many leading zero bits the work for one more mailbox has at a node that holds so many."""
    low, high = WORK_BITS
    over = 2 * count - count_max
    return 0 if over <= 0 else min(high, low + (high - low) * over // max(1, count_max))


def bytes_due(used_bytes: int, used_bytes_max: int) -> int:
    """How much one mailbox may hold at a node that has used so much of its room."""
    for share, size_bytes in TIGHT_BYTES:
        if used_bytes > share * used_bytes_max:
            return size_bytes
    return MESSAGES_MAX * MESSAGE_BYTES_MAX


def bits_done(node: bytes, address: bytes, work: bytes) -> int:
    """Leading zero bits of the work for a mailbox at the node of an operator (its origin hash)."""
    digest = sha256(b"peewit mailbox v1", node, address, work)
    return 256 - int.from_bytes(digest, "big").bit_length()


def decode_bits(data: bytes) -> int:
    """What a node asks for now. Raises `MalformedError`."""
    match cbor.decode(data, size_bytes_max=8):
        case int(bits) if 0 <= bits <= WORK_BITS[1]:
            return bits
    raise MalformedError(f"the work for a mailbox is 0 to {WORK_BITS[1]} bits")


def give_leave(owner: SigningKey, writer: bytes, until_s: int) -> bytes:
    """Leave to write into the mailbox of `owner`, for the key with this id."""
    return sign1(cbor.encode([key_id(owner.public), writer, until_s]), LEAVE, owner).encode()


def check_leave(leave: bytes, owner: bytes, writer: bytes, now_s: float) -> None:
    """Raise unless the mailbox with the public key `owner` lets `writer` (a key id) write now."""
    allowed, until_s = _given(leave, owner)
    if allowed != writer:
        raise ForgeryError("a leave for another mailbox or writer")
    if now_s >= until_s:
        raise RefusedError("the leave to write into this mailbox has ended")


@lru_cache(LEAVES_REMEMBERED_MAX)
def _given(leave: bytes, owner: bytes) -> tuple[bytes, int]:
    """To whom, and until when; a writer shows the same one with every message."""
    signed = Sign1.parse(leave, size_bytes_max=LEAVE_BYTES_MAX)
    signed.refuse_countersignature(LEAVE)
    signed.verify(LEAVE, PublicKey(owner))
    match cbor.decode(signed.payload):
        case [bytes(address), bytes(writer), int(until_s)] if address == key_id(owner):
            return writer, until_s
        case [bytes(), bytes(), int()]:
            raise ForgeryError("a leave for another mailbox or writer")
    raise MalformedError("a leave is [address, writer, until]")


def read_messages(data: bytes) -> list[bytes]:
    """What a node answers to `read`. Raises `MalformedError` or `LimitError`."""
    match cbor.decode(data, size_bytes_max=MESSAGES_MAX * (MESSAGE_BYTES_MAX + 64)):
        case list(items) if len(items) <= MESSAGES_MAX and all(isinstance(item, bytes) for item in items):
            return items
    raise MalformedError("a mailbox is a list of messages")


def read_digests(data: bytes) -> list[bytes]:
    """What is to be deleted. Raises `MalformedError` or `LimitError`."""
    match cbor.decode(data, size_bytes_max=2048):
        case list(items) if all(isinstance(item, bytes) and len(item) == 32 for item in items):
            return items
    raise MalformedError("SHA-256 hashes of the messages to delete")
