"""COSE_Sign1 with Ed25519 (RFC 9052, RFC 8032), and the abbreviated countersignature of RFC 9338.

    [ << {1: -8, 4: key id} >>, {12: countersignature}?, payload, signature ]     untagged

Rules kept here: protected header first and exactly {alg: EdDSA, kid}; the only unprotected header
is a countersignature (label 12); `purpose` goes into external_aad, so that a statement of one kind can
never pass for one of another. Whether the signer may say what it says is left to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peewit_federation import cbor
from peewit_federation.errors import ForgeryError, MalformedError
from peewit_federation.keys import SIGNATURE_BYTES, PublicKey, SigningKey, key_id

ALG: Final = 1
EDDSA: Final = -8
KID: Final = 4
COUNTERSIGNATURE0_V2: Final = 12
KID_BYTES: Final = 32
PROTECTED: Final = bytes.fromhex("a20127045820")
"{alg: EdDSA, kid: the 32 bytes that follow}"
SIGNATURE1: Final = b"\x84\x6aSignature1"


@dataclass(frozen=True)
class Sign1:
    """A parsed COSE_Sign1. Parsing verifies nothing."""

    kid: bytes
    payload: bytes
    signature: bytes
    countersignature: bytes = b""

    @property
    def _protected(self) -> bytes:
        if len(self.kid) == KID_BYTES:
            return PROTECTED + self.kid
        return cbor.encode({ALG: EDDSA, KID: self.kid})

    def encode(self) -> bytes:
        unprotected = {COUNTERSIGNATURE0_V2: self.countersignature} if self.countersignature else {}
        return cbor.encode([self._protected, unprotected, self.payload, self.signature])

    @classmethod
    def parse(cls, data: bytes, *, size_bytes_max: int = 1 << 20) -> Sign1:
        """Parse the deterministic form. Raises `MalformedError` or `LimitError`."""
        match cbor.decode(data, size_bytes_max=size_bytes_max):
            case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]:
                pass
            case _:
                raise MalformedError("not a COSE_Sign1: an array of protected, unprotected, payload and signature")
        if len(protected) == len(PROTECTED) + KID_BYTES and protected.startswith(PROTECTED):
            kid = protected[len(PROTECTED) :]
        else:
            header = cbor.decode(protected)
            if not isinstance(header, dict) or set(header) != {ALG, KID} or header[ALG] != EDDSA:
                raise MalformedError("a protected header other than {alg: EdDSA, kid}")
            kid = header[KID]
        countersigned = COUNTERSIGNATURE0_V2 in unprotected
        countersignature = unprotected.pop(COUNTERSIGNATURE0_V2, b"")
        if not isinstance(kid, bytes) or unprotected or not isinstance(countersignature, bytes):
            raise MalformedError("a COSE_Sign1 with headers that are not used here")
        if countersigned and len(countersignature) != SIGNATURE_BYTES:
            raise MalformedError("a countersignature that is not 64 bytes long")
        return cls(kid, payload, signature, countersignature)

    def verify(self, purpose: str, key: PublicKey) -> None:
        """Raise `ForgeryError` unless `key` signed the payload for `purpose`."""
        if self.kid != key_id(key.raw):
            raise ForgeryError(f"a {purpose} that names another key than the one expected")
        if not key.verifies(self._signed(purpose), self.signature):
            raise ForgeryError(f"the signature of a {purpose} does not verify")

    def refuse_countersignature(self, purpose: str) -> None:
        """Raise `MalformedError` if there is one: it would make two statements of one."""
        if self.countersignature:
            raise MalformedError(f"a {purpose} with a countersignature, which it does not have")

    def verify_countersignature(self, purpose: str, key: PublicKey) -> None:
        """Raise `ForgeryError` unless `key` countersigned."""
        if not key.verifies(self._countersigned(purpose), self.countersignature):
            raise ForgeryError(f"the countersignature of a {purpose} does not verify")

    def countersigned(self, purpose: str, key: SigningKey) -> Sign1:
        """This with a countersignature (Countersignature0 version 2) by `key`."""
        return Sign1(self.kid, self.payload, self.signature, key.sign(self._countersigned(purpose)))

    def _signed(self, purpose: str) -> bytes:
        # The same bytes as encoding the array, of which all but the sizes is known.
        parts = self._protected, purpose.encode(), self.payload
        return SIGNATURE1 + b"".join([cbor.bytes_head(len(part)) + part for part in parts])

    def _countersigned(self, purpose: str) -> bytes:
        context = "CounterSignature0V2"
        return cbor.encode([context, self._protected, purpose.encode(), self.payload, [self.signature]])


def sign1(payload: bytes, purpose: str, key: SigningKey) -> Sign1:
    """Sign `payload` for `purpose`."""
    unsigned = Sign1(key_id(key.public), payload, b"")
    return Sign1(unsigned.kid, payload, key.sign(unsigned._signed(purpose)))
