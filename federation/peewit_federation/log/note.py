"""Signed notes and verifier keys (C2SP signed-note).

    This is an example message.

    — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=

Rules kept here: the syntax of notes, signature lines and vkeys, in their only canonical form;
signatures of unknown keys are ignored, a false one of a known key refuses the whole note. What the
text means is left to `checkpoint` and `charter`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from peewit_federation.errors import ForgeryError, LimitError, MalformedError
from peewit_federation.keys import PUBLIC_BYTES, PublicKey, SigningKey

NOTE_BYTES_MAX: Final = 64 * 1024
REMEMBERED_BYTES_MAX: Final = 4096
SIGNATURES_MAX: Final = 64  # readers of C2SP accept at least 16; we write at most 17
BAD_IN_NAME: Final = re.compile(r"[\s+\x00-\x1f\x7f]")
CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
ED25519: Final = 0x01
COSIGNATURE_V1: Final = 0x04


def b64encode(data: bytes) -> str:
    """Standard base64 (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def b64decode(text: str, what: str) -> bytes:
    """The bytes behind canonical standard base64; `what` names the field in the error."""
    try:
        data = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise MalformedError(f"{what} is not base64") from None
    if b64encode(data) != text:
        raise MalformedError(f"{what} is not canonical base64")
    return data


def check_name(name: str) -> str:
    """A key name: not empty, no Unicode space, no plus sign, no control character."""
    if not name or BAD_IN_NAME.search(name):
        raise MalformedError("a key name is empty or contains a space, a plus sign or a control character")
    return name


@dataclass(frozen=True)
class VerifierKey:
    """A vkey: `example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k`."""

    name: str
    algorithm: int
    "0x01 for Ed25519 notes, 0x04 for `cosignature/v1`."
    public: PublicKey

    @cached_property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256(name, newline, algorithm, key)."""
        material = self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public.raw
        return hashlib.sha256(material).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{b64encode(bytes([self.algorithm]) + self.public.raw)}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Parse the only canonical form. Raises `MalformedError`."""
        parts = text.split("+", 2)
        if len(parts) != 3 or len(text) > 1024:
            raise MalformedError("a verifier key is NAME+HEX+BASE64")
        material = b64decode(parts[2], "the key of a verifier key")
        if len(material) != 1 + PUBLIC_BYTES or material[0] not in (ED25519, COSIGNATURE_V1):
            raise MalformedError("a verifier key of another algorithm than Ed25519 (0x01) or cosignature/v1 (0x04)")
        key = cls(check_name(parts[0]), material[0], PublicKey(material[1:]))
        if key.key_id.hex() != parts[1]:
            raise MalformedError(f"the id of verifier key {parts[0]!r} does not match its key")
        return key


@dataclass(frozen=True)
class Signature:
    """One signature line: who (name and key id) and the bytes behind the key id."""

    name: str
    key_id: bytes
    raw: bytes

    def __str__(self) -> str:
        return f"— {self.name} {b64encode(self.key_id + self.raw)}\n"

    def is_by(self, key: VerifierKey) -> bool:
        """Whether name and id are those of `key`; says nothing about validity."""
        return self.key_id == key.key_id and self.name == key.name

    @classmethod
    def parse(cls, line: str) -> Signature:
        """Parse a line without its newline."""
        parts = line.split(" ")
        if len(parts) != 3 or parts[0] != "—":
            raise MalformedError("a signature line is an em dash, a key name and base64")
        raw = b64decode(parts[2], "a signature")
        if len(raw) < 5:
            raise MalformedError("a signature of fewer than five bytes")
        return cls(check_name(parts[1]), raw[:4], raw[4:])


@dataclass(frozen=True)
class Note:
    """A text that ends in a newline, and signatures over it. Parsing verifies none of them."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join(map(str, self.signatures))

    def encode(self) -> bytes:
        """The bytes of the note."""
        return str(self).encode()

    @staticmethod
    def parse(data: bytes) -> Note:
        """Parse a note with at least one signature line."""
        return _parse(data) if len(data) <= REMEMBERED_BYTES_MAX else _parse.__wrapped__(data)

    def verify(self, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
        """The keys among `keys` (type 0x01) that signed. Raises `ForgeryError` on a false signature."""
        good = []
        for key in keys:
            for signature in self.signatures:
                if signature.is_by(key):
                    if not key.public.verifies(self.text.encode(), signature.raw):
                        raise ForgeryError(f"the signature of {key.name} does not verify")
                    good.append(key)
                    break
        return good


@lru_cache(256)
def _parse(data: bytes) -> Note:
    """A checkpoint is met many times: when it comes from several peers, and when it is judged after its entries."""
    text, lines = split_signatures(decode_text(data))
    if not lines:
        raise MalformedError("a signed note without a signature line")
    return Note(text, tuple(map(Signature.parse, lines)))


def decode_text(data: bytes) -> str:
    """Bounded UTF-8 without control characters other than newline."""
    if len(data) > NOTE_BYTES_MAX:
        raise LimitError(f"a note of {len(data)} bytes; at most {NOTE_BYTES_MAX} are accepted")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise MalformedError("a note that is not UTF-8") from None
    if CONTROL.search(text):
        raise MalformedError("a note with a control character")
    return text


def split_signatures(note: str) -> tuple[str, list[str]]:
    """Split at the last empty line: the text with its newline, and the signature lines."""
    head, separator, tail = note.rpartition("\n\n")
    if not separator or not note.endswith("\n"):
        raise MalformedError("a note is a text, an empty line and signature lines, each ending in a newline")
    lines = tail[:-1].split("\n") if tail else []
    if len(lines) > SIGNATURES_MAX:
        raise LimitError(f"a note with {len(lines)} signatures; at most {SIGNATURES_MAX} are accepted")
    return head + "\n", lines


def sign(text: str, name: str, key: SigningKey) -> Signature:
    """An Ed25519 note signature (type 0x01) over `text`."""
    verifier = VerifierKey(name, ED25519, PublicKey(key.public))
    return Signature(name, verifier.key_id, key.sign(text.encode()))
