"""Sealing to a public key: HPKE (RFC 9180), KEM MLKEM768-X25519 ("X-Wing", draft-connolly-cfrg-xwing-kem),
HKDF-SHA256, ChaCha20-Poly1305.

A private key is its 32-byte seed; SHAKE-256 expands it to the 64-byte seed of ML-KEM-768 and the 32-byte
X25519 key. A public key is the 1,184 bytes of ML-KEM-768 followed by the 32 bytes of X25519. A sealed message is

    encapsulated key (1,120 bytes) || ciphertext of the padded plaintext || tag (16 bytes)
    padded plaintext    length (4 bytes) || plaintext || zeros, up to 4, 16 or 60 KiB in all

Rules kept here: a message opens only in the context that it was sealed for, because the context goes into HPKE's
`info`; its length tells nothing but its size class; padding is checked, so that a message has one plaintext form.
The randomness of sealing is the library's own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from peewit_federation import cbor
from peewit_federation.errors import ForgeryError, LimitError, MalformedError

SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
SEED_BYTES: Final = 32
PUBLIC_BYTES: Final = 1216
LATTICE_BYTES: Final = 1184
OVERHEAD_BYTES: Final = 1120 + 16
SIZE_CLASSES: Final = (4 * 1024, 16 * 1024, 60 * 1024)
PLAINTEXT_BYTES_MAX: Final = SIZE_CLASSES[-1] - 4


@dataclass(frozen=True)
class Context:
    """What a message is sealed for: it opens nowhere else."""

    kind: str
    "The kind of message, for example `offer`."
    mailbox: bytes = b""
    key_id: bytes = b""
    "Of the recipient's key."
    salt: bytes = b""
    "Of the catchment area, if there is one."

    def info(self) -> bytes:
        """For HPKE."""
        return cbor.encode(["peewit sealed v1", self.kind, self.mailbox, self.key_id, self.salt])


def xwing_public(seed: bytes) -> bytes:
    """The 1,216-byte public key of a 32-byte seed."""
    lattice, curve = _parts(seed)
    return lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()


def _parts(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    if len(seed) != SEED_BYTES:
        raise MalformedError(f"the seed of a sealing key has {SEED_BYTES} bytes, not {len(seed)}")
    expanded = hashlib.shake_256(seed).digest(96)
    return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])


def seal(public: bytes, plaintext: bytes, context: Context) -> bytes:
    """Seal for the holder of a public key.

    Raises `MalformedError` for bytes that are no public key, `LimitError` for more than `PLAINTEXT_BYTES_MAX`.
    """
    if len(public) != PUBLIC_BYTES:
        raise MalformedError(f"a public key for sealing has {PUBLIC_BYTES} bytes, not {len(public)}")
    padded, info = _pad(plaintext), context.info()
    try:
        lattice = MLKEM768PublicKey.from_public_bytes(public[:LATTICE_BYTES])
        key = MLKEM768X25519PublicKey(lattice, X25519PublicKey.from_public_bytes(public[LATTICE_BYTES:]))
        return SUITE.encrypt(padded, key, info=info)
    except ValueError:
        raise MalformedError("bytes that are no public key for sealing") from None


def open_sealed(seed: bytes, sealed: bytes, context: Context) -> bytes:
    """The plaintext. Raises `MalformedError`, or `ForgeryError` if it was not sealed for us and this."""
    if len(sealed) - OVERHEAD_BYTES not in SIZE_CLASSES:
        raise MalformedError(f"a sealed message of {len(sealed)} bytes is of no size class")
    try:
        padded = SUITE.decrypt(sealed, MLKEM768X25519PrivateKey(*_parts(seed)), info=context.info())
    except (InvalidTag, ValueError):
        raise ForgeryError(f"not sealed for this key as a message of the kind {context.kind!r}") from None
    return _unpad(padded)


def _pad(plaintext: bytes) -> bytes:
    for size in SIZE_CLASSES:
        if len(plaintext) + 4 <= size:
            return (len(plaintext).to_bytes(4, "big") + plaintext).ljust(size, b"\0")
    raise LimitError(f"{len(plaintext)} bytes to be sealed; at most {PLAINTEXT_BYTES_MAX} fit")


def _unpad(padded: bytes) -> bytes:
    size = int.from_bytes(padded[:4], "big")
    plaintext = padded[4 : 4 + size]
    if len(plaintext) != size or _pad(plaintext) != padded:
        raise MalformedError("a sealed message that is not padded as it should be")
    return plaintext
