"""Certificates for issuer keys: by a national authority, or by a mediator's own."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from peewit_clients.certificates import certify, make_authority, make_request, read_certificate
from peewit_federation.errors import LimitError, MalformedError
from peewit_federation.passports.issue import issue
from peewit_federation.passports.signer import key_id, read_signer
from peewit_federation.passports.trust import Trust, import_certificates
from peewit_federation.passports.verdict import Outcome, verify
from tests.passports.kit import DOSE, ERIKA, NOW, issuer, private, randomness, spki, trust

AUTHORITY = private("authority")


def authority() -> bytes:
    return make_authority(AUTHORITY, "DE", "1234", NOW)


def test_a_request_names_no_practice_and_holds_the_key_that_waits() -> None:
    request = x509.load_pem_x509_csr(make_request(private(), "DE"))
    assert request.is_signature_valid
    assert [name.rfc4514_string() for name in request.subject.rdns] == ["C=DE", f"CN=peewit {key_id(spki()).hex()}"]
    assert isinstance(request.public_key(), ec.EllipticCurvePublicKey)


def test_a_certificate_is_for_vaccinations_no_authority_and_signed_by_its_own() -> None:
    der = certify(authority(), AUTHORITY, spki(), NOW, 400)
    made, above = x509.load_der_x509_certificate(der), x509.load_der_x509_certificate(authority())
    made.verify_directly_issued_by(above)
    signer = read_signer(der)
    assert (signer.public_key, signer.uses, signer.country, signer.authority) == (spki(), frozenset("v"), "DE", False)
    assert read_signer(authority()).authority
    assert made.not_valid_after_utc == datetime.fromtimestamp(NOW + 400 * 86_400, UTC)
    assert read_certificate(der, spki(), NOW) == der
    assert read_certificate(made.public_bytes(Encoding.PEM), spki(), NOW) == der


def test_certificates_of_other_keys_authorities_or_other_uses_are_refused() -> None:
    for data in (b"", b"-----BEGIN CERTIFICATE-----", certify(authority(), AUTHORITY, spki("clinic-b"), NOW, 400)):
        with pytest.raises(MalformedError):
            read_certificate(data, spki(), NOW)
    own = make_authority(private(), "DE", "1", NOW)
    with pytest.raises(MalformedError, match="does not certify"):
        read_certificate(own, spki(), NOW)


def test_a_verifier_outside_that_imports_the_certificate_reads_our_passports() -> None:
    der = certify(authority(), AUTHORITY, spki(), NOW - 10, 400)
    made = issue(ERIKA, DOSE, replace(issuer(), kid=key_id(der)), NOW, randomness())
    signers, refused = import_certificates([der, b"nonsense"])
    assert len(refused) == 1
    outside = Trust.of({b"": NOW}, signers, trust().revoked)
    assert verify(made.hc1, outside, NOW).outcome is Outcome.VALID
    assert verify(made.hc1, trust(), NOW).outcome is Outcome.CANNOT_TELL, "without the certificate its id says nothing"


@pytest.mark.parametrize("at", range(0, 400, 7))
def test_a_certificate_with_a_changed_byte_is_read_or_refused_and_crashes_nothing(at: int) -> None:
    der = bytearray(certify(authority(), AUTHORITY, spki(), NOW, 400))
    der[at % len(der)] ^= 0x55
    with suppress(MalformedError, LimitError):
        read_signer(bytes(der))


def test_a_certificate_of_a_version_that_there_is_not_is_refused() -> None:
    der = certify(authority(), AUTHORITY, spki(), NOW, 400)
    at = der.index(bytes.fromhex("a003020102")) + 4
    with pytest.raises(MalformedError):
        read_signer(der[:at] + b"\x2a" + der[at + 1 :])
