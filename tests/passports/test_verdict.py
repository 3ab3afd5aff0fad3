"""What a verifier says of what it is shown: the mistakes that others made, each as an attack."""

from __future__ import annotations

import zlib
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from peewit_federation.errors import ForgeryError, MalformedError, UnknownError
from peewit_federation.keys import SigningKey
from peewit_federation.passports import base45, hc1, pw1
from peewit_federation.passports import signer as signers
from peewit_federation.passports.issue import RENEWAL_S, Dose, issue
from peewit_federation.passports.revocation import RevokedList
from peewit_federation.passports.rules import Rules, open_rules, sign_rules
from peewit_federation.passports.signed import ES256, PS256, Signed, sign
from peewit_federation.passports.trust import Trust
from peewit_federation.passports.values import product
from peewit_federation.passports.verdict import Outcome, Reason, verify
from tests.federation_kit import seed
from tests.passports.kit import (
    DOSE,
    ERIKA,
    MEDIATOR,
    NOW,
    ORDER,
    issuer,
    passport,
    private,
    randomness,
    signer,
    trust,
)

OLD = 366 * 86_400


def said(text: str, lists: Trust | None = None, now_s: float = NOW, **more: object) -> tuple[Outcome, Reason]:
    found = verify(text, lists or trust(), now_s, **more)  # type: ignore[arg-type]
    if found.outcome is not Outcome.VALID and found.reason is not Reason.TOO_LITTLE:
        assert (found.name, found.born, found.shown) == ("", "", ()), "what is not valid shows nothing"
        assert found.words
    return found.outcome, found.reason


VALID = Outcome.VALID, Reason.NONE
REVOKED = Outcome.NOT_VALID, Reason.REVOKED
STALE = Outcome.CANNOT_TELL, Reason.STALE
FORGED = Outcome.NOT_VALID, Reason.SIGNATURE
UNREADABLE = Outcome.CANNOT_TELL, Reason.UNREADABLE
UNKNOWN = Outcome.CANNOT_TELL, Reason.UNKNOWN_ISSUER


def parts(text: str) -> list[object]:
    tag = cbor2.loads(hc1.unpack(text))
    return list(tag.value)


def remade(*parts: object) -> str:
    return hc1.pack(cbor2.dumps(cbor2.CBORTag(18, list(parts))))


def test_a_passport_that_was_just_issued_is_valid_in_both_forms_and_shows_whose_it_is() -> None:
    for text in (passport().hc1, passport().pw1):
        found = verify(text, trust(), NOW)
        assert (found.outcome, found.name, found.born) == (Outcome.VALID, "Erika Musterfrau-Weiß", "1940-08-12")
        assert "identity document" in found.words


# What others got wrong (X1-X16 of VaxMe, and those of national apps)


def test_x2_a_single_passport_is_matched_against_the_list_by_an_identifier_that_is_signed() -> None:
    mine, other = passport(), passport(replace(ERIKA, given_name="Emma"))
    lists = trust(revoked=(mine.id,))
    for text in (mine.hc1, mine.pw1):
        assert said(text, lists) == REVOKED
    assert said(other.hc1, lists) == VALID


def test_x3_nobody_can_date_a_passport_anew() -> None:
    protected, unprotected, payload, signature = parts(passport().hc1)
    claims = cbor2.loads(payload)  # type: ignore[arg-type]
    claims[4] += 86_400
    assert said(remade(protected, unprotected, cbor2.dumps(claims), signature)) == FORGED


def test_x4_x5_a_revoked_issuer_ends_all_its_passports_and_a_revoked_passport_only_itself() -> None:
    lists = trust(signer(revoked=True), signer("clinic-b"))
    assert said(passport().hc1, lists) == REVOKED
    assert said(passport(by="clinic-b").hc1, lists) == VALID


def test_a_revoked_issuer_cannot_sign_with_an_older_time() -> None:
    thief = issue(ERIKA, DOSE, issuer(), NOW - 80_000, randomness())
    assert said(thief.hc1) == VALID
    assert said(thief.hc1, trust(signer(revoked=True))) == REVOKED


def test_a_mediator_cannot_revoke_what_another_ones_issuers_signed() -> None:
    mine = passport()
    assert said(mine.hc1, trust(signer(mediator=seed("district-nord")), revoked=(mine.id,))) == VALID


def test_x9_only_what_the_holder_shows_is_seen_and_nothing_can_be_added() -> None:
    mine = pw1.unpack(passport().pw1)
    only = mine.showing({pw1.DOSES, pw1.DAY})
    found = verify(only.pack(), trust(), NOW)
    assert (found.outcome, found.name, found.born) == (Outcome.CANNOT_TELL, "", ""), "whose is it?"
    assert dict(found.shown) == {"doses": "2/2", "day": "2026-11-01"}
    assert b"Erika" not in base45.decode(only.pack().removeprefix("PW1:"))
    forged = replace(only, disclosures=(*only.disclosures, (bytes(16), 2, "Max")))
    assert said(forged.pack()) == UNREADABLE
    with pytest.raises(MalformedError, match="shows only"):
        only.showing({pw1.BORN})


def test_x10_a_copy_without_the_name_of_its_holder_is_not_valid() -> None:
    mine = pw1.unpack(passport().pw1)
    assert said(mine.showing({pw1.FAMILY, pw1.BORN}).pack()) == VALID
    assert verify(passport().hc1, trust(), NOW).words.startswith("Compare with an identity document")
    for some in (set(), {pw1.GIVEN, pw1.BORN}, {pw1.FAMILY, pw1.DOSES}):
        assert said(mine.showing(some).pack()) == (Outcome.CANNOT_TELL, Reason.TOO_LITTLE)


def test_x9_two_passports_do_not_show_the_same_digest_for_the_same_name() -> None:
    first, second = (cbor2.loads(Signed.parse(pw1.unpack(one.pw1).signed).payload)[5] for one in (
        issue(ERIKA, DOSE, issuer(), NOW, randomness("a")), issue(ERIKA, DOSE, issuer(), NOW, randomness("b")),
    ))  # fmt: skip
    assert not set(first) & set(second)


def test_x11_old_lists_are_told_apart_from_clean_ones() -> None:
    lists = trust(as_of_s=NOW - 25 * 3600)
    assert said(passport().hc1, lists) == (Outcome.CANNOT_TELL, Reason.STALE)
    assert said(passport().hc1, lists, limit_s=26 * 3600) == VALID
    assert said(passport().hc1, trust(as_of_s=NOW + 3600)) == (Outcome.CANNOT_TELL, Reason.STALE)
    # What old lists know against a passport still counts.
    mine = passport()
    assert said(mine.hc1, trust(revoked=(mine.id,), as_of_s=NOW - OLD)) == REVOKED


def test_a_forged_signature_under_the_right_key_id_is_refused() -> None:
    protected, unprotected, payload, signature = parts(passport().hc1)
    assert isinstance(signature, bytes)
    assert said(remade(protected, unprotected, payload, signature[:-1] + bytes([signature[-1] ^ 1]))) == FORGED
    assert said(remade(protected, unprotected, payload, bytes(64))) == FORGED, "r = s = 0"
    assert said(remade(protected, unprotected, payload, b"")) == FORGED
    assert said(remade(protected, unprotected, payload, signature + b"\0")) == FORGED


def test_the_right_key_id_with_another_key_is_refused_and_an_unknown_key_id_is_unknown() -> None:
    text = passport(by="thief").hc1
    assert said(text) == UNKNOWN
    _, unprotected, payload, signature = parts(text)
    stolen = cbor2.dumps({1: ES256, 4: signer().kid})
    assert said(remade(stolen, unprotected, payload, signature)) == FORGED
    assert said(hc1.pack(sign(payload, signer().kid, private("thief")))) == FORGED  # type: ignore[arg-type]


def test_every_signer_with_the_key_id_is_tried() -> None:
    twin = replace(signer("clinic-b"), kid=signer().kid)
    for order in ((signer(), twin), (twin, signer())):
        assert said(passport().hc1, trust(*order)) == VALID


def test_an_algorithm_that_the_signature_does_not_cover_counts_for_nothing() -> None:
    _, _, payload, _ = parts(passport().hc1)
    bare = Signed(b"", ES256, signer().kid, payload, b"")  # type: ignore[arg-type]
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    r, s = decode_dss_signature(private().sign(bare.to_be_signed, ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert said(remade(b"", {1: ES256, 4: signer().kid}, payload, signature)) == FORGED


def test_a_key_id_in_the_unprotected_header_does_not_overrule_the_protected_one() -> None:
    _, _, payload, signature = parts(passport().hc1)
    protected = parts(passport().hc1)[0]
    assert said(remade(protected, {4: b"otherkid"}, payload, signature)) == VALID


def test_a_changed_signature_is_the_same_passport_and_stays_revoked() -> None:
    mine = passport()
    protected, unprotected, payload, signature = parts(mine.hc1)
    assert isinstance(signature, bytes)
    s = int.from_bytes(signature[32:], "big")
    twin = remade(protected, unprotected, payload, signature[:32] + (ORDER - s).to_bytes(32, "big"))
    assert twin != mine.hc1
    assert said(twin) == VALID
    assert said(twin, trust(revoked=(mine.id,))) == REVOKED


@pytest.mark.parametrize(
    ("now_s", "expected"),
    [
        (NOW + 365 * 86_400 - 1, VALID),
        (NOW + 365 * 86_400, VALID),
        (NOW + 365 * 86_400 + 1, (Outcome.NOT_VALID, Reason.EXPIRED)),
        (NOW - 60, VALID),
        (NOW - 180, (Outcome.NOT_VALID, Reason.NOT_YET)),
    ],
)
def test_time_of_issue_and_expiry_are_checked(now_s: int, expected: tuple[Outcome, Reason]) -> None:
    for text in (passport().hc1, passport().pw1):
        assert said(text, trust(as_of_s=now_s), now_s) == expected


def test_an_expired_signer_a_future_one_and_a_passport_from_outside_its_time_are_refused() -> None:
    text = passport().hc1
    assert said(text, trust(signer(not_after_s=NOW - 1))) == (Outcome.NOT_VALID, Reason.EXPIRED)
    assert said(text, trust(signer(not_before_s=NOW + 3600))) == (Outcome.NOT_VALID, Reason.NOT_YET)
    later = NOW + 86_400
    assert said(text, trust(signer(not_before_s=later), as_of_s=later + 200), later + 200) == FORGED


def test_a_signer_for_tests_does_not_certify_a_vaccination() -> None:
    assert said(passport().hc1, trust(signer(uses=frozenset("t")))) == FORGED
    assert said(passport().hc1, trust(signer(uses=frozenset("tv")))) == VALID


def certificate(uses: tuple[str, ...], days: int = 30) -> tuple[bytes, rsa.RSAPrivateKey]:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "XX")])
    begins = datetime.fromtimestamp(NOW, UTC) - timedelta(days=1)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 7, begins, begins + timedelta(days=days)
    ).add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(use) for use in uses]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER), key


@pytest.mark.parametrize(
    ("uses", "expected"),
    [
        (("1.3.6.1.4.1.1847.2021.1.2",), VALID),
        (("1.3.6.1.4.1.0.1847.2021.1.2",), VALID),
        (("1.3.6.1.4.1.1847.2021.1.1",), FORGED),
        (("1.3.6.1.4.1.0.1847.2021.1.3",), FORGED),
        (("1.3.6.1.5.5.7.3.1",), VALID),
    ],
)
def test_rsa_signers_and_both_sets_of_key_usages_are_known(
    uses: tuple[str, ...], expected: tuple[Outcome, Reason]
) -> None:
    der, key = certificate(uses)
    who = signers.read_signer(der)
    payload = parts(passport().hc1)[2]
    protected = cbor2.dumps({1: PS256, 4: who.kid})
    bare = Signed(protected, PS256, who.kid, payload, b"")  # type: ignore[arg-type]
    signature = key.sign(bare.to_be_signed, PSS(MGF1(hashes.SHA256()), 32), hashes.SHA256())
    assert said(remade(protected, {}, payload, signature), trust(who)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "HC1:", "HC2:ABC", "https://example.org/HC1:", "HC1:GGW", "PW1:", "PW1:ABC", "SHC:/5676", "x" * 100_000,
        "HC1:" + base45.encode(zlib.compress(bytes(10 << 20))), "HC1:" + base45.encode(zlib.compress(b"\xd2\x84@")),
        "PW1:" + base45.encode(bytes.fromhex("834080f6")), "PW1:" + base45.encode(b"\x81" * 500),
    ],
)  # fmt: skip
def test_what_is_no_passport_cannot_be_told_and_crashes_nothing(text: str) -> None:
    assert said(text) == UNREADABLE


@given(st.text(max_size=60), st.sampled_from(["HC1:", "PW1:", ""]))
def test_nothing_that_is_shown_raises(text: str, prefix: str) -> None:
    assert verify(prefix + text, trust(), NOW).outcome is not Outcome.VALID


@given(st.integers(0, 545), st.sampled_from(base45.ALPHABET))
def test_one_changed_character_of_a_passport_is_never_valid_for_something_else(at: int, character: str) -> None:
    for text in (passport().hc1, passport().pw1):
        changed = text[:at] + character + text[at + 1 :]
        found = verify(changed, trust(), NOW)
        assert found == verify(text, trust(), NOW) if changed == text else found.outcome is not Outcome.VALID


# Rules


def rules(**changes: int) -> Rules:
    fields = {"begins": NOW - 86_400, "ends": NOW + 86_400, "doses": 0, "days_from": 14, "days_to": 270}
    return Rules(**{**fields, **changes})


def dosed(number: int, series: int, days: int) -> str:
    day = date.fromtimestamp(NOW) - timedelta(days=days)
    return passport(dose=Dose(product("Spikevax"), number, series, day)).hc1


@pytest.mark.parametrize(
    ("number", "series", "days", "changes", "fine"),
    [
        (2, 2, 13, {}, False), (2, 2, 14, {}, True), (2, 2, 270, {}, True), (2, 2, 271, {}, False),
        (1, 2, 100, {}, False), (1, 1, 100, {}, True), (1, 1, 100, {"doses": 2}, False),
        (3, 2, 1, {}, True), (3, 2, 500, {}, True), (3, 2, 500, {"booster_days_to": 400}, False),
    ],
)  # fmt: skip
def test_rules_say_what_counts(number: int, series: int, days: int, changes: dict[str, int], fine: bool) -> None:
    expected = VALID if fine else (Outcome.NOT_VALID, Reason.RULE)
    assert said(dosed(number, series, days), rules=rules(**changes)) == expected


@pytest.mark.parametrize("changes", [{"ends": NOW}, {"begins": NOW + 1}])
def test_rules_that_are_not_those_of_now_judge_nothing(changes: dict[str, int]) -> None:
    assert said(passport().hc1, rules=rules(**changes)) == (Outcome.CANNOT_TELL, Reason.NO_RULES)


def test_rules_need_what_they_judge_to_be_shown() -> None:
    only = pw1.unpack(passport().pw1).showing({pw1.FAMILY, pw1.BORN}).pack()
    assert said(only) == VALID
    assert said(only, rules=rules()) == (Outcome.CANNOT_TELL, Reason.TOO_LITTLE)
    more = pw1.unpack(passport().pw1).showing({pw1.FAMILY, pw1.BORN, pw1.DOSES, pw1.DAY}).pack()
    assert said(more, rules=rules(begins=NOW - 10)) == said(passport().hc1, rules=rules(begins=NOW - 10))


def test_rules_count_only_from_whom_the_verifier_trusts() -> None:
    key = SigningKey(seed("ministry"))
    data = sign_rules(rules(), key)
    assert open_rules(data, frozenset([key.public])) == rules()
    with pytest.raises(UnknownError):
        open_rules(data, frozenset([SigningKey(seed("somebody")).public]))
    with pytest.raises((ForgeryError, MalformedError)):
        open_rules(data[:-1] + bytes([data[-1] ^ 1]), frozenset([key.public]))


def test_a_recovery_or_test_counts_only_if_rules_say_so() -> None:
    made = rules(recovery_days=180, test_hours=48)
    assert made.recovered("2026-10-01", NOW) == ""
    assert rules().recovered("2026-10-01", NOW)
    assert made.recovered("2026-01-01", NOW)
    assert made.recovered("never", NOW)
    assert made.tested("2026-11-21T12:00:00+00:00", "260415000", NOW) == ""
    assert made.tested("2026-11-21T12:00:00", "260415000", NOW) == ""
    for taken, result in (("2026-11-21T12:00:00Z", "260373001"), ("2026-11-01T12:00:00Z", "260415000"), ("x", "260415000"),
                          ("2027-01-01T00:00:00Z", "260415000")):  # fmt: skip
        assert made.tested(taken, result, NOW)


# Whom a verifier trusts


def test_trust_is_kept_and_read_again() -> None:
    mine, known = passport(), [signer(), signer(revoked=True), signer("clinic-b"), signer("clinic-c", suspended=True)]
    both = Trust.of({MEDIATOR: NOW - 100}, known, trust(revoked=(mine.id,)).revoked, [b"k" * 32])
    assert Trust.decode(both.encode()) == both
    assert said(mine.hc1, both, NOW) == REVOKED, "whoever says revoked is enough"
    assert said(passport(by="clinic-b").hc1, both) == VALID
    for wrong in (b"", b"peewit trust v1\n", both.encode()[:-1], both.encode() + b"\0", b"x" + both.encode()):
        with pytest.raises(MalformedError):
            Trust.decode(wrong)


def test_a_passport_may_name_the_certificate_or_the_bare_key() -> None:
    der, _ = certificate(())
    who = replace(signer(), kid=signers.key_id(der))
    assert said(passport().hc1, trust(who)) == VALID


def test_the_holder_may_renew_while_the_old_one_is_still_good() -> None:
    first = passport()
    later = first.expires_s - RENEWAL_S
    second = issue(ERIKA, DOSE, replace(issuer(), not_after_s=later + OLD), later, randomness("again"), first.uvci)
    lists = trust(signer(not_after_s=later + OLD), as_of_s=later)
    assert said(first.hc1, lists, later) == VALID
    assert said(second.hc1, lists, later) == VALID
    assert second.id == first.id, "what was revoked stays revoked when it is printed again"


def test_what_any_mediator_revokes_to_which_a_key_agreed_is_revoked() -> None:
    mine, other = passport(), seed("district-nord")
    times = {MEDIATOR: NOW, other: NOW}
    moved = [signer(not_after_s=NOW - 10), signer(mediator=other)]
    assert said(mine.hc1, Trust.of(times, moved, RevokedList.of([]))) == VALID, "a key may move"
    assert said(mine.hc1, Trust.of(times, moved, RevokedList.of([(MEDIATOR, mine.id)]))) == REVOKED
    for ended in (signer(revoked=True), signer(suspended=True)):
        assert said(mine.hc1, Trust.of(times, [ended, signer(mediator=other)], RevokedList.of([]))) == REVOKED


def test_importing_a_national_list_brings_nothing_back_that_a_mediator_ended() -> None:
    mine, clean = passport(), RevokedList.of([])
    for known_signers, revoked, as_of_s, expected in (
        ([signer()], RevokedList.of([(MEDIATOR, mine.id)]), NOW, REVOKED),
        ([signer(revoked=True)], clean, NOW, REVOKED),
        ([signer(suspended=True)], clean, NOW, REVOKED),
        ([signer()], clean, NOW - 30 * 86_400, STALE),
    ):
        known = Trust.of({MEDIATOR: as_of_s}, known_signers, revoked)
        assert said(mine.hc1, known) == expected
        imported = known.with_list("national", [signer(mediator=b"")], NOW)
        assert said(mine.hc1, imported) == expected
        assert said(mine.hc1, Trust.decode(imported.encode())) == expected


def test_a_signer_that_a_newer_list_leaves_out_is_trusted_no_more_and_no_list_makes_another_one_fresh() -> None:
    a, b = (replace(signer(name), mediator=b"") for name in ("clinic-a", "clinic-b"))
    first = trust(signer("clinic-c")).with_list("north", [a, b], NOW)
    assert said(passport().hc1, first) == VALID
    newer = first.with_list("north", [b], NOW)
    assert said(passport().hc1, newer)[0] is Outcome.CANNOT_TELL
    assert said(passport(by="clinic-c").hc1, newer) == VALID
    old = trust().with_list("north", [replace(signer("clinic-b"), mediator=b"")], NOW - 30 * 86_400)
    beside = old.with_list("south", [replace(signer("clinic-c"), mediator=b"")], NOW)
    assert said(passport(by="clinic-b").hc1, beside) == STALE
    assert said(passport(by="clinic-c").hc1, beside.without_list("south"))[0] is Outcome.CANNOT_TELL


def test_a_suspension_is_no_end() -> None:
    text, suspended = passport().hc1, trust(signer(suspended=True))
    assert said(text, suspended) == REVOKED
    again = Trust.decode(suspended.encode())
    assert [(one.revoked, one.suspended) for one in again.all()] == [(False, True)]
    assert said(text, trust(signer())) == VALID


def test_numbers_that_are_none_in_a_test_certificate_crash_nothing() -> None:
    entry = {"tg": "1", "tt": "1", "sc": "x", "tr": "260415000", "tc": "x", "co": "DE", "is": "x", "ci": "x"}
    content = {"ver": "1.2.0", "nam": {"fnt": "A"}, "dob": "", "t": [{**entry, "dn": "x"}, entry]}
    claims = {4: NOW + 100, 6: NOW, -260: {1: content}}
    assert said(hc1.pack(sign(cbor2.dumps(claims), signer().kid, private()))) == VALID
