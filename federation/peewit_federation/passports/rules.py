"""Rules by which a verifier judges a genuine passport: signed data with a validity, not code.

    Sign1(purpose "peewit passport rules v1") over
    {0: 80, 1: 1, 2: from, 3: to, 4: doses, 5: days from, 6: days to, 7: days boosted}

    doses 0: as many as the passport's own series has      days 0 for no end

Rules kept here: no date that is missing or unreadable fulfils a rule; a rule outside its validity judges nothing.
A test or recovery certificate fulfils the rules only if they say so (`recovery_days`, `test_hours`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Final

from peewit_federation.cose import Sign1, sign1
from peewit_federation.errors import UnknownError
from peewit_federation.keys import PublicKey, SigningKey, key_id
from peewit_federation.passports.dcc import read_date
from peewit_federation.statements.codec import Statement, Uint, labelled

PURPOSE: Final = "peewit passport rules v1"
DAYS_MAX: Final = 36_500


@dataclass(frozen=True)
class Rules(Statement):
    """What counts as vaccinated. Times are POSIX seconds; the rules hold while begins <= now < ends."""

    KIND: ClassVar[int] = 80

    begins: int = labelled(2, Uint())
    ends: int = labelled(3, Uint())
    doses: int = labelled(4, Uint(99))
    "So many doses are needed; 0: as many as the passport's own series has."
    days_from: int = labelled(5, Uint(DAYS_MAX))
    "Days since the last dose, at least."
    days_to: int = labelled(6, Uint(DAYS_MAX))
    "And at most; 0 for no end."
    booster_days_to: int = labelled(7, Uint(DAYS_MAX), 0)
    "The same for a dose beyond the series; 0 for no end."
    recovery_days: int = labelled(8, Uint(DAYS_MAX), 0)
    "A recovery counts for so many days after the first positive test; 0: never."
    test_hours: int = labelled(9, Uint(1000), 0)
    "A negative test counts for so many hours; 0: never."

    def holds(self, now_s: float) -> bool:
        """Whether these are the rules now."""
        return self.begins <= now_s < self.ends

    def vaccinated(self, doses: int, series: int, day: object, now_s: float) -> str:
        """Why a vaccination does not fulfil the rules, or nothing. `day` is a date in ISO 8601."""
        given = read_date(day)
        if given is None:
            return "the day of the dose cannot be read"
        days = (datetime.fromtimestamp(now_s, UTC).date() - given).days
        if days < -1:  # it may be tomorrow already where the dose was given
            return "the dose is dated in the future"
        if doses < (self.doses or series):
            return "too few doses"
        boosted = doses > series
        if not boosted and days < self.days_from:
            return "the last dose was too short a time ago"
        end = self.booster_days_to if boosted else self.days_to
        if end and days > end:
            return "the last dose was too long ago"
        return ""

    def recovered(self, day: object, now_s: float) -> str:
        """Why a recovery does not fulfil the rules, or nothing."""
        positive = read_date(day)
        days = (datetime.fromtimestamp(now_s, UTC).date() - positive).days if positive else -1
        if not self.recovery_days or not 0 <= days <= self.recovery_days:
            return "a recovery does not count, or not any more"
        return ""

    def tested(self, taken: object, result: object, now_s: float) -> str:
        """Why a test does not fulfil the rules, or nothing. `taken` is a time in ISO 8601."""
        try:
            moment = datetime.fromisoformat(str(taken))
            age_s = now_s - (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            age_s = -1
        if result != NOT_DETECTED or not self.test_hours or not 0 <= age_s <= 3600 * self.test_hours:
            return "a test does not count, was positive, or is too old"
        return ""


def against_kind(kind: str, entry: Mapping[str, object], now_s: float) -> str:
    """What no rules are needed to refuse: a test that was not negative, a recovery outside its own dates."""
    today = datetime.fromtimestamp(now_s, UTC).date()
    match kind:
        case "t" if entry.get("tr") != NOT_DETECTED:
            return "it certifies a test that was not negative"
        case "r":
            begins, ends = read_date(entry.get("df")), read_date(entry.get("du"))
            # It may be a day earlier or later elsewhere.
            if begins is None or ends is None or (begins - today).days > 1 or (today - ends).days > 1:
                return "it is a recovery for other dates than today"
    return ""


NOT_DETECTED: Final = "260415000"
"SNOMED CT, of a test's result."


def sign_rules(rules: Rules, key: SigningKey) -> bytes:
    """Rules as they are handed to verifiers."""
    return sign1(rules.encode(), PURPOSE, key).encode()


def open_rules(data: bytes, trusted: frozenset[bytes]) -> Rules:
    """Rules that one of these Ed25519 keys signed. Raises `SenderError`."""
    envelope = Sign1.parse(data, size_bytes_max=4096)
    for key in trusted:
        if key_id(key) == envelope.kid:
            envelope.verify(PURPOSE, PublicKey(key))
            envelope.refuse_countersignature(PURPOSE)
            return Rules.decode(envelope.payload)
    raise UnknownError("rules that nobody signed whom this verifier trusts")
