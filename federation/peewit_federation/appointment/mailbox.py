"""Mailboxes: where sealed messages wait for whoever holds a key (design 4.6).

    address      SHA-256 of the mailbox's Ed25519 public key
    terms        [until, whether admitted practices may write]               signed in an envelope by the mailbox's key
    leave        COSE_Sign1 by the mailbox's key, purpose "peewit leave v1": [address, key id of a writer, until]
    put          [leave or empty, message]                                   signed by the writer
    read         []            ->  [message, …]                              signed by the mailbox's key
    delete       [SHA-256 of a message, …]                                   likewise

Rules kept here: syntax and bounds; a writer is who has the owner's leave. How full a mailbox may be is kept by nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peewit_federation import cbor
from peewit_federation.cose import Sign1, sign1
from peewit_federation.errors import ForgeryError, MalformedError, RefusedError
from peewit_federation.keys import PublicKey, SigningKey, key_id

LEAVE: Final = "peewit leave v1"
MESSAGE_BYTES_MAX: Final = 64 * 1024
MESSAGES_MAX: Final = 32
UNREAD_PER_WRITER_MAX: Final = 2
LIFETIME_S_MAX: Final = 400 * 86_400
LEAVE_BYTES_MAX: Final = 512


@dataclass(frozen=True)
class Terms:
    """What the owner of a mailbox asks for."""

    until_s: int
    practices: bool
    "Whether practices that are admitted may write."

    def encode(self) -> bytes:
        return cbor.encode([self.until_s, self.practices])

    @classmethod
    def decode(cls, data: bytes) -> Terms:
        """Raises `MalformedError`."""
        match cbor.decode(data, size_bytes_max=64):
            case [int(until_s), bool(practices)] if 0 <= until_s < 1 << 53:
                return cls(until_s, practices)
        raise MalformedError("terms are [until, whether practices may write]")


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


def give_leave(owner: SigningKey, writer: bytes, until_s: int) -> bytes:
    """Leave to write into the mailbox of `owner`, for the key with this id."""
    return sign1(cbor.encode([key_id(owner.public), writer, until_s]), LEAVE, owner).encode()


def check_leave(leave: bytes, owner: bytes, writer: bytes, now_s: float) -> None:
    """Raise unless the mailbox with the public key `owner` lets `writer` (a key id) write now."""
    signed = Sign1.parse(leave, size_bytes_max=LEAVE_BYTES_MAX)
    signed.refuse_countersignature(LEAVE)
    signed.verify(LEAVE, PublicKey(owner))
    match cbor.decode(signed.payload):
        case [bytes(address), bytes(allowed), int(until_s)]:
            if address != key_id(owner) or allowed != writer:
                raise ForgeryError("a leave for another mailbox or writer")
            if now_s >= until_s:
                raise RefusedError("the leave to write into this mailbox has ended")
            return
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
