"""X.509 certificates for issuer keys, so that verifiers outside the federation can put them on their lists.

    request      a PKCS #10 certificate request (RFC 2986), for a national authority that signs it
    certificate  by that authority, or by a mediator's own: it names the country and a number, never a practice

Rules kept here: a certificate for an issuer is for vaccinations only (the eHealth network's key usage) and is no
authority itself; one that comes from outside must hold the very key that it was asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from peewit_federation.errors import MalformedError, RefusedError
from peewit_federation.passports.issue import SIGNS_S
from peewit_federation.passports.signer import key_id, load_key, read_signer

VACCINATION: Final = ObjectIdentifier("1.3.6.1.4.1.1847.2021.1.2")
AUTHORITY_DAYS: Final = 5 * 365
DAY_S: Final = 86_400
LATE_S: Final = 600
"So far an authority's clock may be ahead of ours."
NO_USE: Final = {
    "digital_signature": False, "content_commitment": False, "key_encipherment": False, "data_encipherment": False,
    "key_agreement": False, "key_cert_sign": False, "crl_sign": False, "encipher_only": False, "decipher_only": False,
}  # fmt: skip


def make_request(key: ec.EllipticCurvePrivateKey, country: str) -> bytes:
    """A certificate request, PEM. Its name is the beginning of the key's hash."""
    name = _name(country, key_id(_spki(key.public_key())).hex())
    request = x509.CertificateSigningRequestBuilder(subject_name=name).add_extension(
        x509.ExtendedKeyUsage([VACCINATION]), critical=False
    )
    return request.sign(key, SHA256()).public_bytes(Encoding.PEM)


def make_authority(key: ec.EllipticCurvePrivateKey, country: str, number: str, now_s: int) -> bytes:
    """A mediator's own certificate as an authority, DER; signed by itself."""
    name = _name(country, number)
    builder = _builder(name, name, key.public_key(), now_s, AUTHORITY_DAYS)
    use = x509.KeyUsage(**{**NO_USE, "key_cert_sign": True, "crl_sign": True})
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(use, critical=True).sign(key, SHA256()).public_bytes(Encoding.DER)


def certify(authority: bytes, key: ec.EllipticCurvePrivateKey, public: bytes, now_s: int, days: int) -> bytes:
    """A certificate for an issuer's public key (DER), by the authority whose certificate and key these are."""
    above = x509.load_der_x509_certificate(authority)
    (country,) = above.subject.get_attributes_for_oid(NameOID.COUNTRY_NAME)
    loaded = load_key(public)
    if not isinstance(loaded, ec.EllipticCurvePublicKey):
        raise RefusedError("certificates are for keys on P-256")
    name = _name(str(country.value), key_id(public).hex())
    builder = _builder(above.subject, name, loaded, now_s, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    use = x509.KeyUsage(**{**NO_USE, "digital_signature": True})
    builder = builder.add_extension(use, critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([VACCINATION]), critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def read_certificate(data: bytes, public: bytes, now_s: float) -> bytes:
    """A certificate from outside (PEM or DER) for this public key, as DER. Raises `MalformedError`."""
    try:
        pem = b"-----BEGIN" in data
        found = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
        der = found.public_bytes(Encoding.DER)
    except ValueError:
        raise MalformedError("not a certificate: PEM or DER is due") from None
    signer = read_signer(der)
    if signer.public_key != public:
        raise MalformedError("a certificate of another key than the one that waits for it")
    if signer.authority or not signer.may_sign("v"):
        raise MalformedError("a certificate that does not certify vaccinations")
    if not signer.not_before_s - LATE_S <= now_s <= signer.not_after_s - SIGNS_S:
        raise MalformedError("a certificate that is not valid yet, or ends before a key does: within a month")
    return der


def _builder(
    issuer: x509.Name, subject: x509.Name, public: ec.EllipticCurvePublicKey, now_s: int, days: int
) -> x509.CertificateBuilder:
    begins, ends = (datetime.fromtimestamp(at_s, UTC) for at_s in (now_s, now_s + days * DAY_S))
    return x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number(), begins, ends)


def _name(country: str, number: str) -> x509.Name:
    return x509.Name([
        x509.NameAttribute(NameOID.COUNTRY_NAME, country), x509.NameAttribute(NameOID.COMMON_NAME, f"peewit {number}"),
    ])  # fmt: skip


def _spki(public: ec.EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import PublicFormat

    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
