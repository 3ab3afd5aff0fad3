"""Certificates of those who sign passports (X.509, RFC 5280; eHealth network, volume 5, "Document Signer").

    key id       the first 8 bytes of SHA-256 over the certificate (DER)
    key usage    1.3.6.1.4.1.1847.2021.1.1 test, .2 vaccination, .3 recovery; older ones 1.3.6.1.4.1.0.1847.2021.1.x

Rules kept here: a certificate that names uses signs only these; one that names none signs all. What other extensions
say is not read, for some in the wild are malformed. Who vouches for a certificate is left to `trust`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from peewit_federation.errors import LimitError, MalformedError
from peewit_federation.passports.signed import KID_BYTES, PublicKey

CERTIFICATE_BYTES_MAX: Final = 16 * 1024
MEDIATOR_BYTES: Final = 32
EXTENDED_KEY_USAGE: Final = bytes.fromhex("551d25")
BASIC_CONSTRAINTS: Final = bytes.fromhex("551d13")
KEY_USAGE: Final = bytes.fromhex("551d0f")
"The object identifiers 2.5.29.37, 2.5.29.19 and 2.5.29.15 in DER."
DIGITAL_SIGNATURE: Final = 0x80
USES: Final = {
    bytes.fromhex(f"2b06010401{between}8e378f6501{number:02x}"): use
    for between in ("", "00")
    for number, use in ((1, "t"), (2, "v"), (3, "r"))
}
"By object identifier (DER content): for which kind of entry."


@dataclass(frozen=True)
class Signer:
    """Who may sign passports: a key, for a while, for some kinds. Times are POSIX seconds, inclusive."""

    kid: bytes
    public_key: bytes
    "SubjectPublicKeyInfo, DER."
    not_before_s: int
    not_after_s: int
    uses: frozenset[str] = frozenset()
    "Of `v`, `t`, `r`; empty: all."
    country: str = ""
    certificate: bytes = field(default=b"", repr=False)
    "DER; empty if only a log vouches for the key."
    mediator: bytes = b""
    "Whose log vouches for it, 32 bytes; shorter: the name of a list that was imported."
    revoked: bool = False
    suspended: bool = False
    "For now: it may be lifted."
    authority: bool = False
    "Whether its certificate says that it is one of an authority, as the log of a mediator may hold one."
    signs_until_s: int = 0
    "Passports that are dated later do not count; 0: as long as the signer."
    signs: bool = True
    "Whether its certificate lets the key sign anything but certificates (RFC 5280, section 4.2.1.3)."

    @property
    def imported(self) -> bool:
        """Whether no mediator vouches for it, but a list that the verifier's owner brought."""
        return len(self.mediator) < MEDIATOR_BYTES

    def signed_in_time(self, issued_s: float, skew_s: float) -> bool:
        """Whether a passport is dated within the time in which this signer signs."""
        return self.not_before_s - skew_s <= issued_s <= min(self.not_after_s, self.signs_until_s or self.not_after_s)

    @property
    def key(self) -> PublicKey:
        """Raises `MalformedError` for a key that signs no passports."""
        return load_key(self.public_key)

    def may_sign(self, kind: str) -> bool:
        """Whether entries of a kind (`v`, `t`, `r`) are among its uses."""
        return not self.uses or kind in self.uses


def read_signer(der: bytes) -> Signer:
    """A signer from its certificate. Raises `MalformedError` or `LimitError`."""
    if len(der) > CERTIFICATE_BYTES_MAX:
        raise LimitError(f"a certificate of {len(der)} bytes; at most {CERTIFICATE_BYTES_MAX} are read")
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        times = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        country = certificate.subject.get_attributes_for_oid(x509.NameOID.COUNTRY_NAME)
        extensions = _extensions(certificate.tbs_certificate_bytes)
        uses, authority, signs = _uses(extensions), _is_authority(extensions), _may_sign(extensions)
    except (ValueError, TypeError, IndexError, OverflowError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise MalformedError(f"a certificate that cannot be read ({type(error).__name__})") from None
    begins_s, ends_s = (int(moment.timestamp()) for moment in times)
    name = str(country[0].value)[:2] if country else ""
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    load_key(spki)
    return Signer(key_id(der), spki, begins_s, ends_s, uses, name, der, authority=authority, signs=signs)


def has_signed(spki: bytes, signature: bytes, data: bytes) -> bool:
    """Whether a key on P-256 made an ECDSA signature (SHA-256, DER). Raises `MalformedError` for another key."""
    key = load_key(spki)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise MalformedError("a key that is not on P-256")
    try:
        key.verify(signature, data, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


@lru_cache(1024)
def load_key(spki: bytes) -> PublicKey:
    """A public key from its DER. Raises `MalformedError` for one that signs no passports."""
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedError("bytes that are no public key") from None
    if isinstance(key, rsa.RSAPublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1")
    ):
        return key
    raise MalformedError("a key that signs no passports: P-256 or RSA is due")


def key_id(der: bytes) -> bytes:
    """The 8 bytes by which passports name a certificate."""
    return hashlib.sha256(der).digest()[:KID_BYTES]


def _extensions(tbs: bytes) -> dict[bytes, bytes]:
    """Values by object identifier. From the bytes: one malformed extension keeps the library from reading any."""
    found: dict[bytes, bytes] = {}
    ((_, body),) = _parts(tbs)
    for tag, part in _parts(body):
        if tag == 0xA3:  # [3] extensions
            ((_, extensions),) = _parts(part)
            for _, extension in _parts(extensions):
                parts = list(_parts(extension))
                found[parts[0][1]] = parts[-1][1]
    return found


def _uses(extensions: dict[bytes, bytes]) -> frozenset[str]:
    if EXTENDED_KEY_USAGE not in extensions:
        return frozenset()
    ((_, purposes),) = _parts(extensions[EXTENDED_KEY_USAGE])
    return frozenset(USES[oid] for kind, oid in _parts(purposes) if kind == 0x06 and oid in USES)


def _is_authority(extensions: dict[bytes, bytes]) -> bool:
    """Basic constraints with cA true (RFC 5280, section 4.2.1.9)."""
    ((_, constraints),) = _parts(extensions.get(BASIC_CONSTRAINTS, b"\x30\x00"))
    return any(kind == 0x01 and value == b"\xff" for kind, value in _parts(constraints))


def _may_sign(extensions: dict[bytes, bytes]) -> bool:
    """Key usage with digitalSignature, or none (RFC 5280, section 4.2.1.3)."""
    if KEY_USAGE not in extensions:
        return True
    ((_, bits),) = _parts(extensions[KEY_USAGE])
    return bool(bits[1] & DIGITAL_SIGNATURE)


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each DER value in `data`. Raises `ValueError`."""
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            width = size & 0x7F
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        if at + size > len(data):
            raise ValueError("DER that is cut off")
        yield tag, data[at : at + size]
        at += size
