"""Whether a passport that somebody shows is valid: three answers, never two.

    valid         genuine, not revoked, and what the rules ask for: compare the name with an identity document
    not valid     signature, revoked, expired, not yet, rule
    cannot tell   unreadable, unknown issuer, lists or rules too old, or shown without whose it is: what to do stands
                  in `words`

Rules kept here: nothing that is not verified is shown; a passport that is not valid shows no name and no dose; what
counts against a passport counts also when our lists are old, what counts for it only while they are fresh. Every
signer with the passport's key id is tried; a revoked one counts for nothing, whatever time it claims.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from functools import partial
from typing import Final

from peewit_federation.errors import MalformedError, SenderError
from peewit_federation.passports import dcc, hc1, pw1
from peewit_federation.passports.dcc import read_date
from peewit_federation.passports.revocation import passport_id
from peewit_federation.passports.rules import Rules, against_kind
from peewit_federation.passports.signed import Signed
from peewit_federation.passports.signer import Signer
from peewit_federation.passports.trust import Trust

LIMIT_S: Final = 24 * 3600
"Lists that are older tell nothing good."
DAY_S: Final = 24 * 3600
UNIX_DAY: Final = date(1970, 1, 1).toordinal()
SKEW_S: Final = 120
"So far an honest issuer's clock may be ahead of ours."


class Outcome(Enum):
    """The three answers."""

    VALID = "valid"
    NOT_VALID = "not valid"
    CANNOT_TELL = "cannot tell"


class Reason(Enum):
    """Why not."""

    NONE = ""
    SIGNATURE = "signature"
    REVOKED = "revoked"
    EXPIRED = "expired"
    NOT_YET = "not yet"
    RULE = "rule"
    UNREADABLE = "unreadable"
    UNKNOWN_ISSUER = "unknown issuer"
    STALE = "lists too old"
    NO_RULES = "rules not valid now"
    TOO_LITTLE = "too little shown"


COMPARE: Final = "Compare with an identity document."
KINDS: Final = {"v": "A vaccination.", "t": "A test.", "r": "A recovery."}
SEVERITY: Final = (Reason.REVOKED, Reason.EXPIRED, Reason.NOT_YET, Reason.SIGNATURE, Reason.STALE)
"Of several signers, the first of these is told."


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier is told."""

    outcome: Outcome
    reason: Reason = Reason.NONE
    words: str = ""
    "What to say or do."
    name: str = field(default="", repr=False)
    "Of a valid passport, or of one whose holder showed too little of it."
    born: str = field(default="", repr=False)
    shown: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    "What else the holder chose to show (PW1)."


@dataclass(frozen=True, slots=True)
class _Shown:
    """What both formats come to."""

    kind: str
    issued_s: float
    expires_s: float
    ids: tuple[bytes, ...]
    name: str
    born: str
    entry: dict[str, object]
    shown: tuple[tuple[str, str], ...] = ()
    shown_only: bool = False
    "Whether the holder chose what to show."


def verify(text: str, trust: Trust, now_s: float, rules: Rules | None = None, limit_s: float = LIMIT_S) -> Verdict:
    """Judge what a scanner read. Never raises for what is shown to it."""
    try:
        passport = pw1.unpack(text) if text.lstrip().startswith(pw1.PREFIX) else None
        signed = Signed.parse(passport.signed if passport else hc1.unpack(text))
    except SenderError as error:
        return _unreadable(error)
    candidates = trust.signers.get(signed.kid, ())
    if not candidates:
        return Verdict(
            Outcome.CANNOT_TELL, Reason.UNKNOWN_ISSUER,
            "No list here knows who signed this. Refresh the lists; if it stays unknown, ask for another proof.",
        )  # fmt: skip
    signers = [signer for signer in candidates if _signed_by(signed, signer)]
    if not signers:
        return Verdict(Outcome.NOT_VALID, Reason.SIGNATURE, "It was changed, or not signed by whom it names.")
    if all(signer.revoked or signer.suspended for signer in signers):
        return Verdict(Outcome.NOT_VALID, Reason.REVOKED, "Its signer's key was revoked. The practice can renew it.")
    try:
        shown = _read_pw1(passport, signed) if passport else _read_hc1(signed)
        _require_dose_before(shown)
    except SenderError as error:
        words = f"Its signature is genuine, but it does not say what it should ({error}). Ask for another proof."
        return Verdict(Outcome.CANNOT_TELL, Reason.UNREADABLE, words)
    if any(trust.revoked.has(signer.mediator, one) for signer in signers for one in shown.ids):
        return Verdict(Outcome.NOT_VALID, Reason.REVOKED, "It was revoked. Its holder can ask the practice why.")
    # A key may have moved from one mediator to another: one that vouches for it now is enough.
    against = [_by_signer(shown, signer, trust, now_s, limit_s) for signer in signers]
    if None not in against:
        return min((found for found in against if found), key=lambda found: SEVERITY.index(found.reason))
    return _judge(shown, rules, now_s)


def _unreadable(error: SenderError) -> Verdict:
    return Verdict(
        Outcome.CANNOT_TELL, Reason.UNREADABLE,
        f"It is no passport, or was cut off ({error}). Show the passport's code, whole.",
    )  # fmt: skip


def _signed_by(signed: Signed, signer: Signer) -> bool:
    try:
        return signed.verifies(signer.key)
    except SenderError:
        return False


def _read_hc1(signed: Signed) -> _Shown:
    claims = dcc.read_claims(signed.payload)
    certificate = dcc.read_certificate(claims.content, claims.issued_s)
    names = certificate.name
    given, family = names.get("gn") or names.get("gnt", ""), names.get("fn") or names.get("fnt", "")
    if "fn" not in names and family == names.get("gnt", ""):
        family = ""  # a person with one name, which the schema wants in `fnt` too
    name = f"{given} {family}".strip()
    if not name.isascii() and any("LATIN" not in unicodedata.name(c, "") for c in name if c.isalpha()):
        name += f" ({names.get('gnt', '')} {names.get('fnt', '')})".replace("<", " ").replace("( ", "(")
    entry = max(certificate.entries, key=lambda entry: entry["dn"] if certificate.kind == "v" else 0)
    return _Shown(
        certificate.kind, claims.issued_s, claims.expires_s, tuple(map(passport_id, certificate.ids)),
        name, certificate.born, dict(entry),
    )  # fmt: skip


def _read_pw1(passport: pw1.Presented, signed: Signed) -> _Shown:
    opened = pw1.read(passport, signed)
    shown = tuple(
        (name, "/".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
        for name, value in opened.shown.items()
    )
    name = f"{opened.shown.get(pw1.GIVEN, '')} {opened.shown.get(pw1.FAMILY, '')}".strip()
    entry = {"dn": opened.doses, "sd": opened.series, "dt": opened.shown.get(pw1.DAY)}
    return _Shown(
        "v",
        opened.issued_s,
        opened.expires_s,
        (opened.id,),
        name,
        str(opened.shown.get(pw1.BORN, "")),
        entry,
        shown,
        shown_only=True,
    )


def _require_dose_before(shown: _Shown) -> None:
    """Raise `MalformedError` if a dose is dated after the passport: who signs with a stolen key dates it back."""
    day = read_date(shown.entry.get("dt")) if shown.kind == "v" else None
    if day is not None and (day.toordinal() - UNIX_DAY) * DAY_S > shown.issued_s + DAY_S:
        raise MalformedError("a dose on a day after it was issued")


def _by_signer(shown: _Shown, signer: Signer, trust: Trust, now_s: float, limit_s: float) -> Verdict | None:
    """What is against a passport, if this is who signed it."""
    bad = partial(Verdict, Outcome.NOT_VALID)
    if signer.revoked or signer.suspended:
        return bad(Reason.REVOKED, "Its signer's key was revoked. The practice can renew it.")
    if not signer.may_sign(shown.kind):
        return bad(Reason.SIGNATURE, "Who signed it may not certify this kind of thing.")
    match time_fault(max(shown.issued_s, signer.not_before_s), min(shown.expires_s, signer.not_after_s), now_s):
        case Reason.EXPIRED:
            return bad(Reason.EXPIRED, "It has expired. The practice that signed it can renew it without a visit.")
        case Reason.NOT_YET:
            return bad(Reason.NOT_YET, "It is dated in the future. Check this device's clock.")
    if not signer.signed_in_time(shown.issued_s, SKEW_S):
        return bad(Reason.SIGNATURE, "It is dated outside its signer's time.")
    age_s = now_s - trust.as_of.get(signer.mediator, 0)
    if age_s < -SKEW_S:
        words = "The lists of what was revoked are newer than this device's time. Set its clock."
        return Verdict(Outcome.CANNOT_TELL, Reason.STALE, words)
    if age_s > limit_s:
        words = "The lists of what was revoked are too old. Refresh them: `peewit trust refresh`."
        if signer.imported:
            words = "The list that has its signer is too old. Bring a new one: `peewit trust import`."
        return Verdict(Outcome.CANNOT_TELL, Reason.STALE, words)
    return None


def time_fault(begins_s: float, ends_s: float, now_s: float) -> Reason:
    """Whether it is too late or too early. The second in which it ends still counts (hcert specification, 3.3.5)."""
    if now_s > ends_s:
        return Reason.EXPIRED
    return Reason.NOT_YET if now_s < begins_s - SKEW_S else Reason.NONE


def _judge(shown: _Shown, rules: Rules | None, now_s: float) -> Verdict:
    if why := against_kind(shown.kind, shown.entry, now_s):
        return Verdict(Outcome.NOT_VALID, Reason.RULE, f"Genuine, but {why}.")
    if rules is not None and not rules.holds(now_s):
        return Verdict(Outcome.CANNOT_TELL, Reason.NO_RULES, "The rules here are not those of now. Refresh them.")
    if rules is not None and shown.shown_only and not {pw1.DOSES, pw1.DAY} <= {claim for claim, _ in shown.shown}:
        words = "Genuine, but the rules need the doses and their day, which were not shown. Ask to show them too."
        return Verdict(Outcome.CANNOT_TELL, Reason.TOO_LITTLE, words)
    if rules is not None and (why := _against(shown, rules, now_s)):
        return Verdict(Outcome.NOT_VALID, Reason.RULE, f"Genuine, but it does not fulfil the rules: {why}.")
    whose = shown.name and shown.born
    if shown.shown_only and not {pw1.FAMILY, pw1.BORN} <= {claim for claim, _ in shown.shown}:
        words = "Genuine, but its holder did not show family name and birth date: whose it is you cannot tell. Ask."
        return Verdict(Outcome.CANNOT_TELL, Reason.TOO_LITTLE, words, shown.name, shown.born, shown.shown)
    words = COMPARE if whose else "Genuine, but it has no name or no birth date: take care whose it is."
    if rules is None:
        words += f" {KINDS[shown.kind]} No rules were applied: whether it is enough is for you to say."
    return Verdict(Outcome.VALID, Reason.NONE, words, shown.name, shown.born, shown.shown)


def _against(shown: _Shown, rules: Rules, now_s: float) -> str:
    entry = shown.entry
    match shown.kind, entry.get("dn"), entry.get("sd"):
        case "v", int() | float() as doses, int() | float() as series:
            return rules.vaccinated(int(doses), int(series), entry.get("dt"), now_s)
        case "r", _, _:
            return rules.recovered(entry.get("fr"), now_s)
        case "t", _, _:
            return rules.tested(entry.get("sc"), entry.get("tr"), now_s)
    return "the doses were not shown"
