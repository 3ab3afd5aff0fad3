"""Ed25519 keys (RFC 8032) for logs, cosignatures and statements; identifiers made from keys.

One key serves one purpose: the formats that are signed with it separate their messages, and
`charter` refuses a key that stands in two places. Randomness is handed in: `SigningKey(seed)`.
HPKE keys (X-Wing) are only carried here, as 1,216 bytes; `sealed` uses them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import nacl.exceptions
import nacl.signing

PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
XWING_PUBLIC_BYTES: Final = 1216


class SigningKey:
    """An Ed25519 private key, made from its 32-byte seed."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        self._key = nacl.signing.SigningKey(seed)
        self.public: bytes = bytes(self._key.verify_key)

    @property
    def seed(self) -> bytes:
        """The 32 bytes to keep secret."""
        return bytes(self._key)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over `message`."""
        return self._key.sign(message).signature

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()[:16]}…)"


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key of 32 bytes."""

    raw: bytes

    @cached_property
    def _key(self) -> nacl.signing.VerifyKey:
        return nacl.signing.VerifyKey(self.raw)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` (64 bytes) is this key's over `message`. Never raises."""
        if len(self.raw) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
            return False
        try:
            self._key.verify(message, signature)
        except (nacl.exceptions.BadSignatureError, nacl.exceptions.CryptoError, ValueError):
            return False
        return True


def sha256(*parts: bytes) -> bytes:
    """SHA-256 over the concatenation of `parts`."""
    return hashlib.sha256(b"".join(parts)).digest()


def key_id(public: bytes) -> bytes:
    """A mediator's id, a provider's subject: the SHA-256 of a public key, 32 bytes."""
    return hashlib.sha256(public).digest()
