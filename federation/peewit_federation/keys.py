"""Ed25519 keys (RFC 8032) for logs, cosignatures and statements; identifiers made from keys.

One key serves one purpose: the formats that are signed with it separate their messages, and
`charter_file` refuses a key that stands in two places. Randomness is handed in: `SigningKey(seed)`.
HPKE keys (X-Wing) are only carried here, as 1,216 bytes; `sealed` uses them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import nacl.bindings
import nacl.exceptions

PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
XWING_PUBLIC_BYTES: Final = 1216
REMEMBERED_MAX: Final = 4096
"So many verified signatures are remembered, of messages that are not longer than"
REMEMBERED_BYTES_MAX: Final = 1024


class SigningKey:
    """An Ed25519 private key, made from its 32-byte seed."""

    __slots__ = ("_secret", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        "The 32 bytes to keep secret."
        self.public: bytes
        self.public, self._secret = nacl.bindings.crypto_sign_seed_keypair(seed)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over `message`."""
        return nacl.bindings.crypto_sign(message, self._secret)[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()[:16]}…)"


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key of 32 bytes."""

    raw: bytes

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` (64 bytes) is this key's over `message`. Never raises."""
        if len(self.raw) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
            return False
        if len(message) > REMEMBERED_BYTES_MAX:
            return _verifies(self.raw, message, signature)
        return _remembered(self.raw, message, signature)


def _verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        nacl.bindings.crypto_sign_open(signature + message, public)
    except (nacl.exceptions.BadSignatureError, nacl.exceptions.CryptoError, ValueError):
        return False
    return True


_remembered: Final = lru_cache(REMEMBERED_MAX)(_verifies)
"Heads and views come from several sides, each time with the same lines."


def sha256(*parts: bytes) -> bytes:
    """SHA-256 over the concatenation of `parts`."""
    return hashlib.sha256(b"".join(parts)).digest()


def key_id(public: bytes) -> bytes:
    """A mediator's id, a provider's subject: the SHA-256 of a public key, 32 bytes."""
    return hashlib.sha256(public).digest()
