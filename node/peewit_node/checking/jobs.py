"""What can be checked without a node: pure work on bytes, which any process does as well as another.

    job       [name, argument, …]              plain values, as CBOR has them
    answer    [0, value]                       what it found
              [1, kind of error, sentence]     whose fault it is, and what was wrong
              [2, "", sentence]                a mistake of ours

Rules kept here: a job needs neither keys of ours nor what is stored, and keeps nothing. What it found still has to be
held against what the node knows: whether it was seen before, and who its signer is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from peewit_federation.api import Append
from peewit_federation.appointment.envelope import Envelope, open_envelope
from peewit_federation.appointment.mailbox import Put, check_leave
from peewit_federation.draw.tickets import Ticket
from peewit_federation.errors import (
    ForgeryError,
    LimitError,
    MalformedError,
    QuotaError,
    RefusedError,
    SenderError,
    UnknownError,
)
from peewit_federation.log.checkpoint import Checkpoint, Head, log_key, open_head
from peewit_federation.log.note import Signature
from peewit_federation.log.tiles import split_bundle

T = TypeVar("T")
FOUND, REFUSED, MISTAKE = 0, 1, 2
FIND_BYTES: Final = 64
KINDS: Final[dict[str, type[SenderError]]] = {
    kind.__name__: kind for kind in (MalformedError, LimitError, ForgeryError, UnknownError, RefusedError, QuotaError)
}


@dataclass(frozen=True)
class Job(Generic[T]):
    """Work, and how the node reads what it found."""

    name: str
    work: Callable[..., Any]
    "Plain values in and out. Raises `SenderError`s."
    read: Callable[..., T]
    "From what was found and the arguments, which nobody sends back."


class MistakeError(Exception):
    """A job ended in an error that it should not have."""


def answer(name: str, arguments: list[Any]) -> list[Any]:
    """Do a job, whatever becomes of it."""
    try:
        return [FOUND, JOBS[name].work(*arguments)]
    except SenderError as error:
        kinds = (kind.__name__ for kind in type(error).__mro__ if kind.__name__ in KINDS)
        return [REFUSED, next(kinds, RefusedError.__name__), str(error)]
    except Exception as error:
        return [MISTAKE, "", repr(error)]


def found(job: Job[T], said: list[Any], *arguments: Any) -> T:
    """What an answer says. Raises the `SenderError` that it is, or `MistakeError`."""
    if said[0] == FOUND:
        return job.read(said[1], *arguments)
    _, kind, sentence = said
    raise KINDS[kind](sentence) if said[0] == REFUSED else MistakeError(f"{job.name}: {sentence}")


# The jobs


def _within(data: bytes, part: bytes) -> list[int]:
    """Where a part that was parsed out of `data` begins and ends."""
    start = data.index(part[:FIND_BYTES])  # searching for thousands of bytes costs ten times as much
    if not data.startswith(part, start):
        start = data.index(part)
    return [start, start + len(part)]


def _fields(envelope: Envelope) -> list[Any]:
    return [envelope.method, envelope.path, envelope.node, envelope.time_ms, envelope.nonce, envelope.key]


def _envelope(data: bytes) -> list[Any]:
    envelope = open_envelope(data)
    return [*_fields(envelope), *_within(data, envelope.body)]


def _read_envelope(fields: list[Any], data: bytes) -> Envelope:
    method, path, node, time_ms, nonce, key, start, end = fields
    return Envelope(method, path, node, time_ms, nonce, key, data[start:end])


def _put(data: bytes, owner: bytes, now_s: int) -> list[Any]:
    envelope = open_envelope(data)
    put = Put.decode(envelope.body)
    if put.leave:
        check_leave(put.leave, owner, envelope.signer, now_s)
    return [*_fields(envelope), bool(put.leave), *_within(data, put.message)]


@dataclass(frozen=True)
class CheckedPut:
    """A message for a mailbox, signed, and with the owner's leave if it claims to have it."""

    envelope: Envelope
    "Without its body."
    leave: bool
    message: bytes


def _read_put(fields: list[Any], data: bytes, *_: object) -> CheckedPut:
    method, path, node, time_ms, nonce, key, leave, start, end = fields
    return CheckedPut(Envelope(method, path, node, time_ms, nonce, key, b""), leave, data[start:end])


def _append(data: bytes, public: bytes) -> list[Any]:
    append, key = Append.decode(data), log_key(public)
    head = open_head(append.note, key, {})
    others = b"" if head.encode() == append.note else append.note
    signed = head.size, head.root, head.log_signature.raw
    return [append.old_size, *_within(data, append.bundle), *signed, others]


@dataclass(frozen=True)
class CheckedAppend:
    """Entries, and the head that its log signed."""

    old_size: int
    entries: list[bytes]
    head: Head
    "Without cosignatures."
    note: bytes
    "The checkpoint as it came, if it has lines of others than its log."


def _read_append(fields: list[Any], data: bytes, public: bytes) -> CheckedAppend:
    old_size, start, end, size, root, signature, others = fields
    key = log_key(public)
    head = Head(Checkpoint(key.name, size, root), Signature(key.name, key.key_id, signature))
    return CheckedAppend(old_size, split_bundle(data[start:end]), head, others)


def _priority(ticket: bytes, request: bytes, publics: list[bytes]) -> bytes:
    return Ticket.decode(ticket).priority(request, publics)


ENVELOPE: Final = Job("envelope", _envelope, _read_envelope)
"Of a signed request: (data)."
PUT: Final = Job("put", _put, _read_put)
"Of a message for a mailbox: (data, the mailbox's public key, POSIX seconds)."
APPEND: Final = Job("append", _append, _read_append)
"To a log: (data, the log's public key)."
PRIORITY: Final = Job("priority", _priority, lambda priority, *_: bytes(priority))
"That a ticket proves: (ticket, request hash, public keys of its round)."
JOBS: Final[dict[str, Job[Any]]] = {job.name: job for job in (ENVELOPE, PUT, APPEND, PRIORITY)}
