"""Statements of those who have no log: what operator logs carry for them (design 4.1).

    device           a mediator's root vouches for a device's log; the log's key countersigns
    close            a mediator's root ends a log at a position
    evidence         two heads of one log that exclude each other; proves itself
    fork-revocation  a revocation from one branch of a forked log, with its proof

Rules kept here: the signatures and proofs inside; each binds only the mediator or log that it names.
Whether the root is one that operators vouch for is left to `registry`; quotas to the node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from peewit_federation import cbor
from peewit_federation.cose import Sign1, sign1
from peewit_federation.errors import ForgeryError, MalformedError, SenderError
from peewit_federation.keys import XWING_PUBLIC_BYTES, PublicKey, SigningKey, sha256
from peewit_federation.log.checkpoint import Checkpoint, Head, log_key, open_head, origin_hash, origin_of
from peewit_federation.log.merkle import verify_consistency
from peewit_federation.log.proof_file import LogProof
from peewit_federation.statements.codec import Bytes, Many, Statement, Uint, labelled
from peewit_federation.statements.mediator import Revocation

DEVICE_PURPOSE: Final = "peewit device v1"
CLOSE_PURPOSE: Final = "peewit close v1"


@dataclass(frozen=True)
class Device(Statement):
    """A mediator's publishing key and the key to which applications are sealed."""

    KIND: ClassVar[int] = 32

    mediator: bytes = labelled(2, Bytes(32))
    root: bytes = labelled(3, Bytes(32))
    "The root key that signs this statement."
    log_key: bytes = labelled(4, Bytes(32))
    encryption_key: bytes = labelled(5, Bytes(XWING_PUBLIC_BYTES))

    @property
    def origin_hash(self) -> bytes:
        """What names its log."""
        return origin_hash(origin_of(self.log_key))


@dataclass(frozen=True)
class Close(Statement):
    """Entries of a log from `size` on count for nothing; the prefix has `root_hash`."""

    KIND: ClassVar[int] = 33

    mediator: bytes = labelled(2, Bytes(32))
    root: bytes = labelled(3, Bytes(32))
    "The root key that signs this statement."
    origin_hash: bytes = labelled(4, Bytes(32))
    size: int = labelled(5, Uint())
    root_hash: bytes = labelled(6, Bytes(32))


@dataclass(frozen=True)
class Evidence(Statement):
    """Heads A (size n) and B (size m >= n) of one log; at size n, B's tree has `other_root`, not A's."""

    KIND: ClassVar[int] = 34

    log_key: bytes = labelled(2, Bytes(32))
    head_a: bytes = labelled(3, Bytes(1, 16_384))
    head_b: bytes = labelled(4, Bytes(1, 16_384))
    other_root: bytes = labelled(5, Bytes(32))
    path: tuple[bytes, ...] = labelled(6, Many(Bytes(32), 63, ordered=True))
    "RFC 6962 consistency proof from (n, other_root) to B."

    @property
    def origin_hash(self) -> bytes:
        """Which log forked."""
        return origin_hash(origin_of(self.log_key))

    def verify(self) -> tuple[Head, Head]:
        """The two heads, if they prove a fork. Raises `ForgeryError` otherwise."""
        key = log_key(self.log_key)
        a, b = open_head(self.head_a, key, {}), open_head(self.head_b, key, {})
        if a.root == self.other_root:
            raise ForgeryError("evidence whose heads do not exclude each other")
        verify_consistency(a.size, self.other_root, b.size, b.root, self.path)
        return a, b


@dataclass(frozen=True)
class ForkRevocation(Statement):
    """A revocation in one branch of a log, as a tlog-proof with the entry as its extra data."""

    KIND: ClassVar[int] = 35

    log_key: bytes = labelled(2, Bytes(32))
    proof: bytes = labelled(3, Bytes(1, 32_768))

    @property
    def origin_hash(self) -> bytes:
        """Whose log it stands in."""
        return origin_hash(origin_of(self.log_key))

    def verify(self) -> tuple[int, bytes, Revocation]:
        """Index, entry and revocation, if its log signed a head that contains it."""
        proof = LogProof.parse(self.proof)
        if proof.extra is None:
            raise MalformedError("a fork-revocation without its entry")
        head = open_head(proof.checkpoint_note, log_key(self.log_key), {})
        proof.verify(proof.extra, head.checkpoint)
        return proof.index, proof.extra, Revocation.decode(proof.extra)


CarriedStatement = Device | Close | Evidence | ForkRevocation


def sign_device(device: Device, root: SigningKey, log: SigningKey) -> bytes:
    """The carried bytes: signed by the root, countersigned by the device's log key."""
    return sign1(device.encode(), DEVICE_PURPOSE, root).countersigned(DEVICE_PURPOSE, log).encode()


def sign_close(close: Close, root: SigningKey) -> bytes:
    """The carried bytes: signed by the root."""
    return sign1(close.encode(), CLOSE_PURPOSE, root).encode()


def open_carried(data: bytes) -> CarriedStatement:
    """Parse and verify a carried statement of any kind. Raises `SenderError`s."""
    if not data:
        raise MalformedError("an empty statement")
    if data[0] >> 5 == 4:
        return _open_signed(Sign1.parse(data, size_bytes_max=65_000))
    fields = cbor.decode(data, size_bytes_max=65_000)
    match fields.get(0) if isinstance(fields, dict) else None:
        case Evidence.KIND:
            evidence = Evidence.decode(data)
            evidence.verify()
            return evidence
        case ForkRevocation.KIND:
            revocation = ForkRevocation.decode(data)
            revocation.verify()
            return revocation
    raise MalformedError("a carried statement of unknown kind")


def peek_device(data: bytes) -> Device | None:
    """What a device statement claims, before its signatures are checked; None if it is not one."""
    try:
        return Device.decode(Sign1.parse(data, size_bytes_max=65_000).payload)
    except SenderError:
        return None


def _open_signed(envelope: Sign1) -> Device | Close:
    fields = cbor.decode(envelope.payload)
    match fields.get(0) if isinstance(fields, dict) else None:
        case Device.KIND:
            device = Device.decode(envelope.payload)
            envelope.verify(DEVICE_PURPOSE, PublicKey(device.root))
            envelope.verify_countersignature(DEVICE_PURPOSE, PublicKey(device.log_key))
            return device
        case Close.KIND:
            close = Close.decode(envelope.payload)
            envelope.verify(CLOSE_PURPOSE, PublicKey(close.root))
            envelope.refuse_countersignature(CLOSE_PURPOSE)
            return close
    raise MalformedError("a signed statement of unknown kind")


def evidence_of(key: bytes, a: Head, b: Head, other_root: bytes, path: list[bytes]) -> Evidence:
    """Compose evidence; the heads keep only their log's signature."""

    def bare(head: Head) -> bytes:
        return Head(Checkpoint(head.origin, head.size, head.root), head.log_signature).encode()

    return Evidence(key, bare(a), bare(b), other_root, tuple(path))


def statement_id(data: bytes) -> bytes:
    """SHA-256 of a statement's bytes: the id of an entry, of a revocation, of a carried statement."""
    return sha256(data)
