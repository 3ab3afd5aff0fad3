"""Blind RSA signatures (RFC 9474), variant RSABSSA-SHA384-PSS-Deterministic.

A user blinds a message, a node signs without seeing it, and the finished signature is plain RSASSA-PSS
(RFC 8017, SHA-384, MGF1 with SHA-384, salt of 48 bytes). The deterministic variant signs the message as it is; so
messages must have entropy enough by themselves, as request hashes do.

    blinded message, blind signature, signature    as long as the modulus: 256 bytes for 2048 bits

Rules kept here: a private operation hides its base behind a random factor, its powers take constant time
(`gmpy2.powmod_sec`; the factor protects the rest), and its result is checked before it leaves, because one faulty
result would give a factor of the modulus away. Randomness is handed in, and **fresh for every signer and every
attempt**: whoever makes a bad key and learns a salt from a signature of another signer could tell whose message it
blindly signed. Who may have a signature is decided by admission checks, not here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

import gmpy2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from peewit_federation.errors import ForgeryError, MalformedError

EXPONENT: Final = 65_537
MODULUS_BITS: Final = (2048, 3072, 4096)
SALT_BYTES: Final = 48
HASH_BYTES: Final = 48


@dataclass(frozen=True)
class Blinded:
    """A message on its way to a signer: what is sent, and what the user keeps to finish the answer."""

    data: bytes
    inverse: int = field(repr=False)


@dataclass(frozen=True)
class TokenPublicKey:
    """A signer's public key: the modulus; the exponent is 65,537."""

    modulus: int

    def __post_init__(self) -> None:
        if self.modulus.bit_length() not in MODULUS_BITS or self.modulus % 2 == 0:
            raise MalformedError("a modulus of another length than 2048, 3072 or 4096 bits")

    @property
    def size_bytes(self) -> int:
        """Length of the modulus, and of everything that is made with it."""
        return self.modulus.bit_length() // 8

    def encode(self) -> bytes:
        """The modulus, big-endian."""
        return self.modulus.to_bytes(self.size_bytes, "big")

    @classmethod
    def decode(cls, data: bytes) -> TokenPublicKey:
        """Raises `MalformedError`."""
        if len(data) * 8 not in MODULUS_BITS:
            raise MalformedError(f"a modulus of {len(data)} bytes")
        return cls(int.from_bytes(data, "big"))

    def blind(self, message: bytes, salt: bytes, factor: bytes) -> Blinded:
        """Blind a message (section 4.2). `salt` is 48 fresh random bytes, `factor` at least as many as the modulus has.

        Raises `MalformedError` if randomness is short, or if the message or factor shares a factor with the modulus.
        """
        encoded = int.from_bytes(_pss_encode(message, self.modulus.bit_length() - 1, salt), "big")
        blinding = self.factor(factor)
        if gmpy2.gcd(encoded, self.modulus) != 1:
            raise MalformedError("a message that shares a factor with the modulus")
        blinded = encoded * gmpy2.powmod(blinding, EXPONENT, self.modulus) % self.modulus
        return Blinded(self._bytes(int(blinded)), int(gmpy2.invert(blinding, self.modulus)))

    def finalize(self, message: bytes, blind_signature: bytes, blinded: Blinded) -> bytes:
        """The signature behind a blind signature (section 4.4). Raises `ForgeryError` if it does not verify."""
        if len(blind_signature) != self.size_bytes:
            raise ForgeryError("a blind signature of another length than its key's")
        found = int.from_bytes(blind_signature, "big") * blinded.inverse % self.modulus
        signature = self._bytes(found)
        if not self.verifies(message, signature):
            raise ForgeryError("the signer answered with something else than a signature")
        return signature

    def number(self, blinded: bytes) -> int:
        """A blinded message as a number. Raises `MalformedError` if it is none below the modulus."""
        found = int.from_bytes(blinded, "big")
        if len(blinded) != self.size_bytes or not 0 < found < self.modulus:
            raise MalformedError("a blinded message that is no number below the modulus")
        return found

    def factor(self, randomness: bytes) -> int:
        """A factor to hide a number with. Raises `MalformedError` for randomness that hides nothing."""
        found = int.from_bytes(randomness, "big") % self.modulus
        if len(randomness) < self.size_bytes or gmpy2.gcd(found, self.modulus) != 1:
            raise MalformedError("randomness that is shorter than the modulus, or shares a factor with it")
        return found

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether a finished signature is this key's over `message`. Never raises."""
        if len(signature) != self.size_bytes:
            return False
        key = RSAPublicNumbers(EXPONENT, self.modulus).public_key()
        try:
            key.verify(signature, message, PSS(MGF1(hashes.SHA384()), SALT_BYTES), hashes.SHA384())
        except InvalidSignature:
            return False
        return True

    def _bytes(self, number: int) -> bytes:
        return number.to_bytes(self.size_bytes, "big")


class TokenKey:
    """A signer's private key, made from its two primes."""

    __slots__ = ("_d_p", "_d_q", "_p", "_q", "_q_inverse", "public")

    def __init__(self, p: int, q: int) -> None:
        """Raises `MalformedError` for numbers that are no primes of such a key."""
        self.public = TokenPublicKey(p * q)
        self._p, self._q = gmpy2.mpz(p), gmpy2.mpz(q)
        if p == q or not (gmpy2.is_prime(self._p) and gmpy2.is_prime(self._q)):
            raise MalformedError("a token key is made from two different primes")
        try:
            self._d_p = gmpy2.invert(EXPONENT, self._p - 1)
            self._d_q = gmpy2.invert(EXPONENT, self._q - 1)
        except ZeroDivisionError:
            raise MalformedError("primes for which the exponent has no inverse") from None
        self._q_inverse = gmpy2.invert(self._q, self._p)

    def __repr__(self) -> str:
        return f"TokenKey({self.public.size_bytes * 8} bits)"

    def primes(self) -> tuple[bytes, bytes]:
        """What it is made from, to be kept: both big-endian."""
        size_bytes = self.public.size_bytes
        return int(self._p).to_bytes(size_bytes, "big"), int(self._q).to_bytes(size_bytes, "big")

    def blind_sign(self, blinded: bytes, factor: bytes) -> bytes:
        """Sign a blinded message (section 4.3). `factor` is fresh randomness, at least as long as the modulus.

        Raises `MalformedError` if the message is no number below the modulus.
        """
        modulus, number = self.public.modulus, self.public.number(blinded)
        base = self.public.factor(factor)
        hidden = number * gmpy2.powmod(base, EXPONENT, modulus) % modulus
        signed = self._private(hidden) * gmpy2.invert(base, modulus) % modulus
        if gmpy2.powmod(signed, EXPONENT, modulus) != number:
            raise RuntimeError("a private operation went wrong; its result was kept back")
        return int(signed).to_bytes(self.public.size_bytes, "big")

    def _private(self, number: gmpy2.mpz) -> gmpy2.mpz:
        """`number` to the private exponent, by the Chinese remainder theorem."""
        at_p = gmpy2.powmod_sec(number % self._p, self._d_p, self._p)
        at_q = gmpy2.powmod_sec(number % self._q, self._d_q, self._q)
        return at_q + self._q * ((at_p - at_q) * self._q_inverse % self._p)


def _pss_encode(message: bytes, bits: int, salt: bytes) -> bytes:
    """EMSA-PSS-ENCODE (RFC 8017, section 9.1.1), with SHA-384 and a given salt."""
    if len(salt) != SALT_BYTES:
        raise MalformedError(f"a salt of {len(salt)} bytes; it has {SALT_BYTES}")
    size = (bits + 7) // 8
    digest = hashlib.sha384(bytes(8) + hashlib.sha384(message).digest() + salt).digest()
    block = bytes(size - SALT_BYTES - HASH_BYTES - 2) + b"\x01" + salt
    masked = int.from_bytes(block, "big") ^ int.from_bytes(_mgf1(digest, len(block)), "big")
    masked &= (1 << (len(block) * 8 - (size * 8 - bits))) - 1
    return masked.to_bytes(len(block), "big") + digest + b"\xbc"


def _mgf1(seed: bytes, size: int) -> bytes:
    """RFC 8017, appendix B.2.1, with SHA-384."""
    blocks = (hashlib.sha384(seed + number.to_bytes(4, "big")).digest() for number in range(-(-size // HASH_BYTES)))
    return b"".join(blocks)[:size]
