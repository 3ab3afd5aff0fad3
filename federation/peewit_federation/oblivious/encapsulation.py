"""Requests that only their target can read, and answers that only who asked can (RFC 9458, section 4).

    key configuration       key id (1), KEM (2), public key (32), length (2), [KDF (2), AEAD (2)]
    encapsulated request    key id, KEM, KDF, AEAD (7 bytes), encapsulated key (32), sealed binary HTTP request
    encapsulated response   nonce, sealed binary HTTP response

KEM X25519 with HKDF-SHA256, KDF HKDF-SHA256, AEAD ChaCha20-Poly1305 (ours) or AES-128-GCM (read too).

Rules kept here: the answer is bound to the request. What is in them, who carries them, and where a target's key comes
from (its operator's log, so that it is the same for everybody) is left to others. Randomness is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import pyhpke
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKeyPair

from peewit_federation.errors import ForgeryError, MalformedError
from peewit_federation.keys import sha256

KEM: Final = 0x0020
KDF: Final = 0x0001
AES, CHACHA = 0x0001, 0x0003
KEY_BYTES: Final = 32
HEADER_BYTES: Final = 7
REQUEST_LABEL: Final = b"message/bhttp request"
RESPONSE_LABEL: Final = b"message/bhttp response"
AEAD_KEY_BYTES: Final = {AES: 16, CHACHA: 32}
NONCE_BYTES: Final = 12
SUITES: Final = {
    aead: CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, known)
    for aead, known in ((AES, AEADId.AES128_GCM), (CHACHA, AEADId.CHACHA20_POLY1305))
}


@dataclass(frozen=True)
class Answering:
    """What seals or opens the answer to one request."""

    aead: int
    encapsulated: bytes
    secret: bytes

    def seal(self, response: bytes, nonce: bytes) -> bytes:
        """The encapsulated response. `nonce`: `nonce_bytes` random bytes."""
        key, inner = self._keys(nonce)
        return nonce + key.encrypt(inner, response, None)

    def open(self, data: bytes) -> bytes:
        """The response. Raises `ForgeryError`."""
        key, inner = self._keys(data[: self.nonce_bytes])
        try:
            return key.decrypt(inner, data[self.nonce_bytes :], None)
        except (InvalidTag, ValueError):
            raise ForgeryError("an answer that was not sealed for this request") from None

    @property
    def nonce_bytes(self) -> int:
        """max(Nn, Nk) of the AEAD."""
        return max(AEAD_KEY_BYTES[self.aead], NONCE_BYTES)

    def _keys(self, nonce: bytes) -> tuple[AESGCM | ChaCha20Poly1305, bytes]:
        salt, size = self.encapsulated + nonce, AEAD_KEY_BYTES[self.aead]
        key = HKDF(hashes.SHA256(), size, salt, b"key").derive(self.secret)
        inner = HKDF(hashes.SHA256(), NONCE_BYTES, salt, b"nonce").derive(self.secret)
        return (AESGCM(key) if self.aead == AES else ChaCha20Poly1305(key)), inner


@dataclass(frozen=True)
class GatewayKey:
    """A target's private key."""

    seed: bytes
    key_id: int = 1

    @classmethod
    def of(cls, secret: bytes) -> GatewayKey:
        """The key that goes with a node's encryption key."""
        return cls(sha256(b"peewit oblivious key v1", secret))

    @cached_property
    def public(self) -> bytes:
        """32 bytes."""
        return X25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()

    def configuration(self) -> bytes:
        """As `application/ohttp-keys` lists it, without the length before it."""
        return bytes([self.key_id]) + _words(KEM) + self.public + _words(8, KDF, AES, KDF, CHACHA)

    def open(self, data: bytes) -> tuple[bytes, Answering]:
        """The request, and what seals its answer. Raises `MalformedError` or `ForgeryError`."""
        header, encapsulated = data[:HEADER_BYTES], data[HEADER_BYTES : HEADER_BYTES + KEY_BYTES]
        kem, kdf, aead = (int.from_bytes(header[at : at + 2], "big") for at in (1, 3, 5))
        if len(encapsulated) != KEY_BYTES or (kem, kdf) != (KEM, KDF) or aead not in SUITES:
            raise MalformedError("not an encapsulated request in a suite that is understood here")
        if header[0] != self.key_id:
            raise ForgeryError("sealed for another key of this node")
        suite = SUITES[aead]
        try:
            private = suite.kem.deserialize_private_key(self.seed)
            context = suite.create_recipient_context(encapsulated, private, _info(header))
            request = context.open(data[HEADER_BYTES + KEY_BYTES :])
        except (pyhpke.PyHPKEError, ValueError):
            raise ForgeryError("not sealed for this node") from None
        return request, _answering(context, aead, encapsulated)


def seal_request(
    public: bytes, request: bytes, ephemeral: bytes, *, key_id: int = 1, aead: int = CHACHA
) -> tuple[bytes, Answering]:
    """The encapsulated request for a target's public key, and what opens its answer. `ephemeral`: 32 random bytes.

    Raises `MalformedError` for bytes that are no public key.
    """
    suite, header = SUITES[aead], bytes([key_id]) + _words(KEM, KDF, aead)
    try:
        target = suite.kem.deserialize_public_key(public)
        own = X25519PrivateKey.from_private_bytes(ephemeral).public_key().public_bytes_raw()
        pair = KEMKeyPair(suite.kem.deserialize_private_key(ephemeral), suite.kem.deserialize_public_key(own))
        encapsulated, context = suite.create_sender_context(target, _info(header), eks=pair)
        sealed = context.seal(request)
    except (pyhpke.PyHPKEError, ValueError):
        raise MalformedError("a key that nothing can be sealed for") from None
    return header + encapsulated + sealed, _answering(context, aead, encapsulated)


def _answering(context: pyhpke.ContextInterface, aead: int, encapsulated: bytes) -> Answering:
    secret = context.export(RESPONSE_LABEL, max(AEAD_KEY_BYTES[aead], NONCE_BYTES))
    return Answering(aead, encapsulated, secret)


def _info(header: bytes) -> bytes:
    return REQUEST_LABEL + b"\0" + header


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)
