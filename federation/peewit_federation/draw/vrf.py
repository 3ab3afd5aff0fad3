"""A verifiable random function: RFC 9381, ECVRF-EDWARDS25519-SHA512-TAI.

    secret key  32 bytes        public key  32 bytes, a point
    proof       80 bytes: a point, a challenge of 16 bytes, a scalar of 32
    output      64 bytes, a function of the key and the input alone

Rules kept here: a proof is accepted if the RFC accepts it and its point lies in the prime-order subgroup; the
library refuses to multiply others, and no honest holder makes one. Points are public; the secret scalar meets only
the library's constant-time operations.
"""

from __future__ import annotations

import hashlib
from typing import Final

import nacl.exceptions
from nacl import bindings as sodium

from peewit_federation.errors import ForgeryError, MalformedError

SUITE: Final = b"\x03"
POINT_BYTES: Final = 32
CHALLENGE_BYTES: Final = 16
PROOF_BYTES: Final = 80
FIELD: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
IDENTITY: Final = (1).to_bytes(32, "little")
FAILED: Final = (nacl.exceptions.CryptoError, RuntimeError, ValueError)


class VrfKey:
    """A secret key, with its public key."""

    __slots__ = ("_nonce_key", "_scalar", "public", "secret")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != POINT_BYTES:
            raise MalformedError(f"a secret key of {len(secret)} bytes; it has 32")
        self.secret = secret
        expanded = hashlib.sha512(secret).digest()
        clamped = int.from_bytes(expanded[:32], "little") & ((1 << 254) - 8) | (1 << 254)
        self._scalar = sodium.crypto_core_ed25519_scalar_reduce(clamped.to_bytes(64, "little"))
        self._nonce_key = expanded[32:]
        self.public: bytes = sodium.crypto_scalarmult_ed25519_base_noclamp(self._scalar)

    def __repr__(self) -> str:
        return f"VrfKey(public={self.public.hex()[:16]}…)"

    def prove(self, data: bytes) -> bytes:
        """The proof for an input (section 5.1)."""
        point = _to_curve(self.public, data)
        gamma = sodium.crypto_scalarmult_ed25519_noclamp(self._scalar, point)
        nonce = sodium.crypto_core_ed25519_scalar_reduce(hashlib.sha512(self._nonce_key + point).digest())
        challenge = _challenge(
            self.public,
            point,
            gamma,
            sodium.crypto_scalarmult_ed25519_base_noclamp(nonce),
            sodium.crypto_scalarmult_ed25519_noclamp(nonce, point),
        )
        product = sodium.crypto_core_ed25519_scalar_mul(challenge + bytes(16), self._scalar)
        scalar: bytes = sodium.crypto_core_ed25519_scalar_add(nonce, product)
        return bytes(gamma) + challenge + scalar


def verify(public: bytes, data: bytes, proof: bytes) -> bytes:
    """The output behind a proof (section 5.3). Raises `ForgeryError` if it is not this key's for `data`."""
    if not isinstance(proof, bytes) or len(proof) != PROOF_BYTES or len(public) != POINT_BYTES:
        raise ForgeryError("a proof or public key of another length")
    gamma, challenge, scalar = proof[:32], proof[32:48], proof[48:]
    if int.from_bytes(scalar, "little") >= ORDER:
        raise ForgeryError("a proof whose scalar is not reduced")
    if not (sodium.crypto_core_ed25519_is_valid_point(public) and sodium.crypto_core_ed25519_is_valid_point(gamma)):
        raise ForgeryError("a proof or public key that is no point of the prime-order subgroup")
    try:
        point = _to_curve(public, data)
        wide = challenge + bytes(16)
        times = sodium.crypto_scalarmult_ed25519_noclamp
        u = sodium.crypto_core_ed25519_sub(sodium.crypto_scalarmult_ed25519_base_noclamp(scalar), times(wide, public))
        v = sodium.crypto_core_ed25519_sub(times(scalar, point), times(wide, gamma))
    except FAILED:
        raise ForgeryError("a proof that does not verify") from None
    if _challenge(public, point, gamma, u, v) != challenge:
        raise ForgeryError("a proof that does not verify")
    return output(proof)


def output(proof: bytes) -> bytes:
    """The 64 bytes that a proof stands for (section 5.2); only of a proof that was verified."""
    return hashlib.sha512(SUITE + b"\x03" + _times_cofactor(proof[:32]) + b"\x00").digest()


def _to_curve(public: bytes, data: bytes) -> bytes:
    """Try and increment (section 5.4.1.1): the first hash that is a point, times the cofactor."""
    for counter in range(256):
        digest = hashlib.sha512(SUITE + b"\x01" + public + data + bytes([counter]) + b"\x00").digest()[:32]
        if int.from_bytes(digest, "little") & ((1 << 255) - 1) >= FIELD:
            continue
        try:
            point = _times_cofactor(digest)
        except FAILED:
            continue
        if point != IDENTITY:
            return point
    raise MalformedError("an input that leads to no point; the chance is 2^-256")


def _times_cofactor(point: bytes) -> bytes:
    """Eight times a point, also of one outside the prime-order subgroup, which multiplication refuses."""
    for _ in range(3):
        point = sodium.crypto_core_ed25519_add(point, point)
    return point


def _challenge(*points: bytes) -> bytes:
    """Section 5.4.3."""
    return hashlib.sha512(SUITE + b"\x02" + b"".join(points) + b"\x00").digest()[:CHALLENGE_BYTES]
