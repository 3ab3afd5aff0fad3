"""Checkpoints (C2SP tlog-checkpoint) and `cosignature/v1` (C2SP tlog-cosignature).

    peewit/0d2f…e1            the origin: whose log
    20852163                  the size, in entries
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=   the root hash

    — peewit/0d2f…e1 Az3grlgtzPICa5…
    — north.example/witness jWbPPwAAAABkGFDL…

Rules kept here: the only canonical form; a head counts when its log signed it; a cosignature covers
the time at which it was given. Which cosignatures suffice is left to `policy`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from peewit_federation.errors import ForgeryError, LimitError, MalformedError
from peewit_federation.keys import PublicKey, SigningKey
from peewit_federation.log.note import (
    COSIGNATURE_V1,
    ED25519,
    Note,
    Signature,
    VerifierKey,
    b64decode,
    b64encode,
    sign,
)

SIZE_MAX: Final = (1 << 63) - 1
ORIGIN_PREFIX: Final = "peewit/"


def origin_of(public: bytes) -> str:
    """The origin of the log that `public` signs: nobody can squat a name."""
    return ORIGIN_PREFIX + hashlib.sha256(public).hexdigest()


@lru_cache(4096)
def origin_hash(origin: str) -> bytes:
    """What names a log in URLs (C2SP tlog-mirror): SHA-256 of the origin line."""
    return hashlib.sha256(origin.encode()).digest()


@lru_cache(4096)
def log_key(public: bytes) -> VerifierKey:
    """The verifier key of a Peewit log."""
    return VerifierKey(origin_of(public), ED25519, PublicKey(public))


@lru_cache(256)
def witness_key(name: str, public: bytes) -> VerifierKey:
    """The verifier key of a node's cosignatures."""
    return VerifierKey(name, COSIGNATURE_V1, PublicKey(public))


@dataclass(frozen=True)
class Checkpoint:
    """A log's state: all of its entries are determined by size and root."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @cached_property
    def text(self) -> str:
        """The note text that is signed."""
        lines = [self.origin, str(self.size), b64encode(self.root), *self.extensions]
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Parse a note text. Raises `MalformedError` for any but the canonical form."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() or not all(lines):
            raise MalformedError("a checkpoint is at least three lines that are not empty")
        size, root = parse_size(lines[1]), b64decode(lines[2], "the root hash")
        if len(root) != 32:
            raise MalformedError(f"a root hash of {len(root)} bytes; SHA-256 has 32")
        return cls(lines[0], size, root, tuple(lines[3:]))


def parse_size(text: str) -> int:
    """A tree size in ASCII decimal without leading zeros, below 2^63."""
    if not text.isascii() or not text.isdigit() or len(text) > 19 or (text[0] == "0" and text != "0"):
        raise MalformedError("a tree size is a decimal number without leading zeros")
    size = int(text)
    if size > SIZE_MAX:
        raise LimitError("a tree size of 2^63 or more")
    return size


@dataclass(frozen=True)
class Cosignature:
    """A witness held a checkpoint's tree at `time_s` (POSIX seconds)."""

    time_s: int
    signature: Signature


@dataclass(frozen=True)
class Head:
    """A checkpoint, its log's signature, and cosignatures, all verified when it was opened."""

    checkpoint: Checkpoint
    log_signature: Signature
    cosignatures: tuple[tuple[str, Cosignature], ...] = ()
    "By witness key name, sorted; one per witness."

    @property
    def origin(self) -> str:
        return self.checkpoint.origin

    @property
    def size(self) -> int:
        return self.checkpoint.size

    @property
    def root(self) -> bytes:
        return self.checkpoint.root

    @cached_property
    def witnesses(self) -> frozenset[str]:
        """The key names of the witnesses that cosigned."""
        return frozenset(name for name, _ in self.cosignatures)

    def note(self) -> Note:
        """The checkpoint as a signed note: the log's line, then the cosignatures."""
        lines = (self.log_signature, *(c.signature for _, c in self.cosignatures))
        return Note(self.checkpoint.text, lines)

    def encode(self) -> bytes:
        """The bytes that are served as `checkpoint`."""
        return self._encoded

    @cached_property
    def _encoded(self) -> bytes:
        return self.note().encode()

    def with_cosignature(self, name: str, cosignature: Cosignature) -> Head:
        """This head with one more; of two by one witness the earlier stays."""
        return self.with_cosignatures([(name, cosignature)])

    def with_cosignatures(self, more: Iterable[tuple[str, Cosignature]]) -> Head:
        """This head with more of them; of two by one witness the earlier stays."""
        held = dict(self.cosignatures)
        for name, cosignature in more:
            if name not in held or cosignature.time_s < held[name].time_s:
                held[name] = cosignature
        found = tuple(sorted(held.items()))
        return self if found == self.cosignatures else Head(self.checkpoint, self.log_signature, found)

    def merged(self, other: Head) -> Head:
        """This head with the cosignatures of `other`, a head of the same checkpoint."""
        return self.with_cosignatures(other.cosignatures)


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> Head:
    """A log's owner signs. The caller must have made sure that it extends all it ever signed."""
    if checkpoint.origin != origin_of(key.public):
        raise ForgeryError("a checkpoint of another log than the key's")
    return Head(checkpoint, sign(checkpoint.text, checkpoint.origin, key))


def cosign(checkpoint: Checkpoint, name: str, key: SigningKey, time_s: int) -> Cosignature:
    """A `cosignature/v1` of a witness at `time_s`."""
    verifier = witness_key(name, key.public)
    raw = time_s.to_bytes(8, "big") + key.sign(_cosigned(checkpoint, time_s))
    return Cosignature(time_s, Signature(name, verifier.key_id, raw))


def _cosigned(checkpoint: Checkpoint, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{checkpoint.text}".encode()


def open_cosignature(checkpoint: Checkpoint, signature: Signature, key: VerifierKey) -> Cosignature:
    """Verify a cosignature line of a known witness. Raises `ForgeryError`."""
    time_s = int.from_bytes(signature.raw[:8], "big")
    message = _cosigned(checkpoint, time_s)
    if len(signature.raw) != 72 or time_s > SIZE_MAX or not key.public.verifies(message, signature.raw[8:]):
        raise ForgeryError(f"the cosignature of {key.name} does not verify")
    return Cosignature(time_s, signature)


def open_head(data: bytes, log: VerifierKey, witnesses: dict[str, VerifierKey], held: Head | None = None) -> Head:
    """Verify a checkpoint by its log's key and by the known `witnesses` (by key name).

    Lines of unknown keys are dropped. What stands in `held`, which was verified before, is not verified again:
    a head is met many times while its cosignatures gather. Raises `MalformedError` or `ForgeryError`.
    """
    note = Note.parse(data)
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != log.name:
        raise ForgeryError("a checkpoint of another log's origin")
    if checkpoint.extensions and log.name.startswith(ORIGIN_PREFIX):
        raise MalformedError("a checkpoint of a Peewit log with extension lines")
    same = held is not None and held.checkpoint == checkpoint
    verified = {c.signature: c for _, c in held.cosignatures} if same and held else {}
    own = [s for s in note.signatures if s.is_by(log)]
    if not own:
        raise ForgeryError("a checkpoint that its log did not sign")
    for line in own:
        if not (same and held and line == held.log_signature) and not log.public.verifies(note.text.encode(), line.raw):
            raise ForgeryError("the log's signature does not verify")
    found = []
    for signature in note.signatures:
        key = witnesses.get(signature.name)
        if key is not None and signature.is_by(key):
            found.append((key.name, verified.get(signature) or open_cosignature(checkpoint, signature, key)))
    return Head(checkpoint, own[0]).with_cosignatures(found)
