"""What a mediator does about passports: it vouches for issuer keys of its practices, and revokes.

    asked = [one for one in desk.asked if …]
    plan = vouch(desk.role, planner, asked, days=400)

Rules kept here: only a practice that stands may have a key; the entry in the log names the key and no practice, and
which practice it is stays on the mediator's device; a passport is revoked by its identifier alone, which says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from peewit_clients.certificates import AUTHORITY_DAYS, certify, make_authority, read_certificate
from peewit_clients.mediator import Mediator
from peewit_clients.plans import DAY_S, Plan, Planner
from peewit_clients.words import Said, said
from peewit_federation import cbor
from peewit_federation.errors import RefusedError, SenderError, UnknownError
from peewit_federation.keys import key_id, sha256
from peewit_federation.passports.issue import SIGNS_S, check_character
from peewit_federation.passports.messages import CERTIFY, PassportAsk, consented, proved
from peewit_federation.passports.revocation import ID_BYTES, PASSPORT_KIND, passport_id
from peewit_federation.passports.signer import has_signed, load_key
from peewit_federation.registry.subjects import Subject, Verdict
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import ACTIVE, Issuer, Provider, Revocation

ES256_NUMBER = 7
REPLACED, LOST = 5, 1
NAMED_LETTERS = 8
AUTHORITY = "authority for certificates"


@dataclass(frozen=True)
class Asked:
    """A practice's wish that waits for a decision."""

    digests: tuple[bytes, ...]
    "Of all letters that ask for it."
    ask: PassportAsk

    @property
    def wish(self) -> bytes:
        """What is wished, however often and wherever it was asked: a hash."""
        return sha256(cbor.encode([self.practice, self.ask.what, self.ask.subject, self.ask.certificate]))

    @property
    def number(self) -> str:
        """What people call it."""
        return self.wish.hex()[:10]

    @property
    def practice(self) -> bytes:
        """Subject of the practice's grant."""
        return key_id(self.ask.signing_key)


def words(role: Mediator, one: Asked) -> Said:
    """What is asked, for people."""
    name = role.state.names(Provider.KIND).get(one.practice, one.practice.hex()[:16] + "…")
    if one.ask.what == CERTIFY:
        line = "office_asks_certified" if one.ask.certificate else "office_asks_key"
        return said(line, name=name, key=key_id(one.ask.subject).hex()[:8])
    return said("office_asks_revocation", name=name, passport=one.ask.subject.hex())


def vouch(
    role: Mediator, planner: Planner, asked: Sequence[Asked], days: int, country: str = "",
    left_out: dict[Asked, str] | None = None,
) -> Plan:  # fmt: skip
    """What is to be signed to do as these practices ask. Raises `RefusedError`, or tells in `left_out` whom not.

    With a country, keys that bring no certificate get one of this mediator's own authority.
    """
    plan, now_s = Plan(), int(role.clock())
    names = role.state.names(Provider.KIND)
    admissions = role.view.registry.admissions.get(role.identity.id)
    if admissions is None or not admissions.widely_standing(role.view.charter.constitution):
        plan.consequences.append(said("office_too_few"))
    authority = _authority(role, plan, country, now_s) if country else None
    for one in asked:
        try:
            looked = role.view.finder.look(role.identity.id, Provider.KIND, one.practice, now_s)
            if looked.verdict is not Verdict.ACTIVE:
                raise RefusedError(f"{one.number}: this practice is {looked.verdict.value}, so it gets nothing signed")
            grant = _grant(role, planner, one, now_s, days) if one.ask.what == CERTIFY else None
        except (RefusedError, SenderError) as error:
            if left_out is None:
                raise
            left_out[one] = str(error)
            continue
        name = names.get(one.practice, one.practice.hex()[:16])
        if grant is not None:
            if authority and not grant.certificate:
                grant = replace(grant, certificate=certify(*authority, one.ask.subject, now_s, days))
            plan.statements.append(grant.encode())
            plan.names.append((Issuer.KIND, f"{name} {one.number}", key_id(one.ask.subject), one.practice))
            plan.consequences.append(said("office_may_sign", name=name, days=days))
        else:
            plan.statements.append(_revocation(planner, one.ask.subject, REPLACED).encode())
            plan.consequences.append(said("office_passport_asked", passport=one.ask.subject.hex(), name=name))
    return plan


def _authority(role: Mediator, plan: Plan, country: str, now_s: int) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
    """This mediator's authority for certificates; made, and published with the plan, if there is none yet."""
    subject = role.state.subject(Issuer.KIND, AUTHORITY)
    scalar = role.state.secret(Issuer.KIND, subject) if subject else None
    if subject and scalar:
        found = role.view.finder.look(role.identity.id, Issuer.KIND, subject, now_s)
        entry = read_entry(role.view.standing_entry(found) or b"", MEDIATOR_KINDS)
        if isinstance(entry, Issuer) and found.verdict not in (Verdict.REVOKED, Verdict.EXPIRED):
            return entry.certificate, ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
    scalar = role.random_bytes(31)
    key = ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    certificate = make_authority(key, country, role.identity.id.hex()[:16], now_s)
    end_s = now_s + AUTHORITY_DAYS * DAY_S
    plan.statements.append(Issuer(1, ACTIVE, now_s, end_s, (), ES256_NUMBER, public, certificate).encode())
    plan.names.append((Issuer.KIND, AUTHORITY, key_id(public), scalar))
    plan.consequences.append(said("office_authority"))
    return certificate, key


def authority_certificate(role: Mediator) -> bytes:
    """The certificate of this mediator's authority, DER. Raises `UnknownError` if it has none."""
    subject = role.state.subject(Issuer.KIND, AUTHORITY)
    found = role.view.finder.look(role.identity.id, Issuer.KIND, subject or b"", int(role.clock()))
    entry = read_entry(role.view.standing_entry(found) or b"", MEDIATOR_KINDS)
    if not isinstance(entry, Issuer):
        raise UnknownError("this device has no authority; `passports approve --country DE` makes one")
    return entry.certificate


def _grant(role: Mediator, planner: Planner, one: Asked, now_s: int, days: int) -> Issuer:
    key = load_key(one.ask.subject)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise RefusedError(f"{one.number}: a key that is not on P-256")
    ask, mediator = one.ask, one.ask.mediator
    if not (
        has_signed(ask.subject, ask.proof, proved(mediator, ask.signing_key))
        and has_signed(ask.subject, ask.consent, consented(mediator))
    ):
        raise RefusedError(f"{one.number}: a practice that does not show that it has the key")
    certificate, mine = one.ask.certificate, role.state.secrets(Issuer.KIND, key_id(one.ask.subject))
    if any(practice != one.practice for practice in mine):
        raise RefusedError(f"{one.number}: a key that another practice has asked for")
    if certificate:
        read_certificate(certificate, one.ask.subject, now_s)
    found = role.view.finder.look(role.identity.id, Issuer.KIND, key_id(one.ask.subject), now_s)
    standing = read_entry(role.view.standing_entry(found) or b"", MEDIATOR_KINDS)
    times, until_s = (now_s, now_s + days * DAY_S), now_s + SIGNS_S
    if isinstance(standing, Issuer):
        # What it has signed so far stays in its time, and its month does not begin anew.
        times, until_s = (standing.not_before, max(times[1], standing.not_after)), standing.signs_until
    if isinstance(standing, Issuer) and standing.certificate:
        if certificate not in (b"", standing.certificate):
            raise RefusedError(f"{one.number}: a key keeps its certificate; the practice has to make a new key")
        certificate = standing.certificate
    grant = Issuer(1, ACTIVE, *times, (), ES256_NUMBER, ask.subject, certificate, ask.consent, until_s)
    if planner.fold.subjects.get((Issuer.KIND, grant.subject), Subject()).revocations:
        raise RefusedError(f"{one.number}: a key that was revoked; the practice has to make a new one")
    return planner.next_version(grant)


def _revocation(planner: Planner, passport: bytes, reason: int) -> Revocation:
    return Revocation(PASSPORT_KIND, passport, reason, planner.random_bytes(16))


def revoke_passport(planner: Planner, name: str) -> Plan:
    """Revoke one passport, by its identifier (URN:UVCI:…) or its id in hexadecimal. Raises `UnknownError`."""
    text = name.strip()
    try:
        if text.upper().startswith("URN:UVCI:"):
            text, _, check = text.upper().partition("#")
            if check != check_character(text):
                raise UnknownError("a letter of that identifier, or what follows #, is wrong; compare it")
            passport = passport_id(text)
        else:
            passport = bytes.fromhex(text)
    except ValueError:
        passport = b""
    if len(passport) != ID_BYTES:
        raise UnknownError("give the identifier of the passport (URN:UVCI:…), or its id of 32 hexadecimal digits")
    words = said("office_passport", passport=passport.hex())
    return Plan([_revocation(planner, passport, REPLACED).encode()], [], [words])


def stop_signing(role: Mediator, planner: Planner, practice: bytes) -> Plan:
    """Let a practice's keys sign no more, from now on; what they signed counts on."""
    plan, now_s = Plan(), int(role.clock())
    for subject in role.state.names(Issuer.KIND):
        if practice not in role.state.secrets(Issuer.KIND, subject):
            continue
        found = role.view.finder.look(role.identity.id, Issuer.KIND, subject, now_s)
        standing = read_entry(role.view.standing_entry(found) or b"", MEDIATOR_KINDS)
        if isinstance(standing, Issuer) and found.verdict is Verdict.ACTIVE and standing.signs_until > now_s:
            plan.statements.append(planner.next_version(replace(standing, signs_until=now_s)).encode())
    if plan.statements:
        plan.consequences.append(said("office_stops_signing"))
    return plan


def revoke_keys(role: Mediator, planner: Planner, name: str, reason: int = LOST) -> Plan:
    """Revoke all issuer keys of a practice that this device vouched for (or one, in hexadecimal)."""
    practice = role.state.subject(Provider.KIND, name)
    plan, known, short = Plan(), role.state.names(Issuer.KIND), name.rstrip("….")
    for subject, label in known.items():
        named = label == name or (len(short) >= NAMED_LETTERS and subject.hex().startswith(short))
        if named or (practice is not None and practice in role.state.secrets(Issuer.KIND, subject)):
            plan.statements += planner.revoke(label, Issuer.KIND, subject, reason).statements
            short_key, of = subject.hex()[:16], label.rpartition(" ")[0]
            plan.consequences.append(said("office_key_revoked", key=short_key, name=of))
    if not plan.statements:
        raise UnknownError(f"this device vouched for no issuer key of {name!r}; see `peewit mediator passports list`")
    return plan
