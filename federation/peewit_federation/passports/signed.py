"""COSE_Sign1 (RFC 9052) with ES256 and PS256 (RFC 9053, RFC 8230), as passports have it.

    18([ << {1: -7, 4: key id} >>, {}, payload, signature ])       tag 18 may be missing, or stand in tag 61 (CWT)

Rules kept here: the algorithm counts only where the signature covers it, in the protected header; a key id may stand in
either header, the protected one first. A key signs with one algorithm only: P-256 with ES256, RSA from 2048 bits with
PS256. Whose key it is, and whether it may sign this, is left to `trust`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from peewit_federation.errors import MalformedError, RefusedError
from peewit_federation.passports import loose_cbor
from peewit_federation.passports.hc1 import COSE_BYTES_MAX

ALG: Final = 1
CRIT: Final = 2
KID: Final = 4
ES256: Final = -7
PS256: Final = -37
KID_BYTES: Final = 8
RSA_BITS: Final = (2048, 4096)
SCALAR_BYTES: Final = 32
TAGS: Final = (bytes.fromhex("d9d9f7"), bytes.fromhex("d83d"), bytes.fromhex("d2"))
"Self-described CBOR, CWT, COSE_Sign1: each once, in this order."

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class Signed:
    """A parsed COSE_Sign1. Parsing verifies nothing."""

    protected: bytes
    algorithm: int | None
    "Of the protected header; None if it has none, and then nothing verifies."
    kid: bytes
    "Of the protected header, or else of the other one; empty if there is none."
    payload: bytes
    signature: bytes

    @classmethod
    def parse(cls, data: bytes) -> Signed:
        """Parse. Raises `MalformedError` or `LimitError`."""
        for tag in TAGS:
            data = data.removeprefix(tag)
        match loose_cbor.decode(data, COSE_BYTES_MAX):
            case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]:
                algorithm, named = _header(protected)
            case _:
                raise MalformedError("not a COSE_Sign1: an array of protected, unprotected, payload and signature")
        kid = named or unprotected.get(KID) or b""
        if not isinstance(kid, bytes):
            raise MalformedError("a key id that is not bytes")
        return cls(protected, algorithm, kid, payload, signature)

    @property
    def to_be_signed(self) -> bytes:
        """RFC 9052, section 4.4, without external data."""
        return cbor2.dumps(["Signature1", self.protected, b"", self.payload])

    def verifies(self, key: PublicKey) -> bool:
        """Whether `key` signed this. Never raises."""
        try:
            if self.algorithm == ES256 and isinstance(key, ec.EllipticCurvePublicKey):
                if key.curve.name != "secp256r1" or len(self.signature) != 2 * SCALAR_BYTES:
                    return False
                r, s = (int.from_bytes(part, "big") for part in (self.signature[:32], self.signature[32:]))
                key.verify(encode_dss_signature(r, s), self.to_be_signed, ec.ECDSA(SHA256()))
                return True
            if self.algorithm == PS256 and isinstance(key, rsa.RSAPublicKey):
                if not RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
                    return False
                key.verify(self.signature, self.to_be_signed, PSS(MGF1(SHA256()), SHA256.digest_size), SHA256())
                return True
        except (InvalidSignature, ValueError):
            return False
        return False


@lru_cache(1024)
def _header(protected: bytes) -> tuple[int | None, object]:
    """Algorithm and key id of a protected header: the same bytes for all passports of one key."""
    header = loose_cbor.decode(protected, COSE_BYTES_MAX) if protected else {}
    if not isinstance(header, dict):
        raise MalformedError("a protected header that is no map")
    if CRIT in header:
        # RFC 9052, section 3.1: who does not know what is critical refuses the whole.
        raise MalformedError("a protected header with something critical, of which passports have nothing")
    algorithm = header.get(ALG)
    return algorithm if type(algorithm) is int else None, header.get(KID)


def sign(payload: bytes, kid: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A COSE_Sign1 with ES256, tagged, both headers protected. Raises `RefusedError` for another curve."""
    if key.curve.name != "secp256r1":
        raise RefusedError("passports are signed with keys on P-256")
    protected = cbor2.dumps({ALG: ES256, KID: kid})
    bare = Signed(protected, ES256, kid, payload, b"")
    r, s = decode_dss_signature(key.sign(bare.to_be_signed, ec.ECDSA(SHA256())))
    signature = r.to_bytes(SCALAR_BYTES, "big") + s.to_bytes(SCALAR_BYTES, "big")
    return cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))
