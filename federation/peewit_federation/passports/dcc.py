"""What an EU Digital COVID Certificate says: the "DCC" schema, versions 1.0.0 to 1.3.3, inside CWT claims (RFC 8392).

    claims    {1: issuer (country), 6: issued at, 4: expires at, -260: {1: DCC}}      times in POSIX seconds
    DCC       {"ver": "1.3.0", "nam": {"fn": …, "fnt": …, "gn": …, "gnt": …}, "dob": "1940-08-12",
               "v": [{"tg": …, "vp": …, "mp": …, "ma": …, "dn": 2, "sd": 2, "dt": "2021-05-29", "co", "is", "ci"}]}

Rules kept here: the newest schema of version 1, which allows what older ones did (shorter texts, whole birth dates),
but for the time that versions before 1.1.0 let stand behind a birth date. It is read as
JSON Schema 2020-12 reads it: patterns that are not anchored match anywhere, `format` asserts nothing, other members are
allowed. A certificate certifies one kind of thing, which all versions say and only the later schemas enforce; before
1.3.0 it may do so several times. Value sets are left to `values`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Final, TypeGuard

from peewit_federation.errors import MalformedError
from peewit_federation.passports import loose_cbor
from peewit_federation.passports.hc1 import COSE_BYTES_MAX

ISSUER, EXPIRES, ISSUED, HCERT = 1, 4, 6, -260
_VERSION: Final = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}", re.ASCII)
_BORN: Final = re.compile(r"(19|20)\d\d(-\d\d){0,2}", re.ASCII)
_BORN_TIMED: Final = re.compile(r"(19|20)\d\d-\d\d-\d\dT", re.ASCII)
_CAPITALS: Final = re.compile(r"[A-Z<]*", re.ASCII)
_COUNTRY: Final = re.compile(r"[A-Z]{1,10}", re.ASCII)
KINDS: Final = {"v": "vaccination", "t": "test", "r": "recovery"}
TIME_MAX_S: Final = 1 << 40
YEAR_9999_S: Final = 253_000_000_000
TEXT_MAX: Final = 80
Version = tuple[int, int, int]
Check = Callable[[object], bool]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate whose form holds; whether it is genuine is another question."""

    version: Version
    name: Mapping[str, str]
    "fn, fnt, gn, gnt, as far as they are given."
    born: str
    "A date, a month, a year, or nothing."
    kind: str
    "`v`, `t` or `r`."
    entries: tuple[Mapping[str, Any], ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """The unique certificate identifiers (UVCI) of its entries."""
        return tuple(entry["ci"] for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims around a certificate, whose content is not yet checked."""

    issuer: str
    issued_s: float
    expires_s: float
    content: object


def read_claims(payload: bytes) -> Claims:
    """The claims in a COSE payload. Raises `MalformedError` or `LimitError`."""
    fields = loose_cbor.decode(payload, COSE_BYTES_MAX)
    if not isinstance(fields, dict):
        raise MalformedError("claims that are no map")
    issuer, issued_s, expires_s = fields.get(ISSUER, ""), fields.get(ISSUED), fields.get(EXPIRES)
    if not isinstance(issuer, str) or not _is_time(issued_s) or not _is_time(expires_s):
        raise MalformedError("claims without the time of issue and of expiry")
    health = fields.get(HCERT)
    if not isinstance(health, dict) or 1 not in health:
        raise MalformedError("claims without a health certificate (-260, 1)")
    return Claims(issuer, issued_s, expires_s, health[1])


def _is_time(value: object) -> TypeGuard[float]:
    return type(value) in (int, float) and 0 <= value <= TIME_MAX_S  # type: ignore[operator]


def read_certificate(content: object, issued_s: float) -> Certificate:
    """Check the form of a certificate, issued at `issued_s`. Raises `MalformedError` naming the member that is wrong.

    Nobody was born after it was issued: the specification asks for checks of contents too (hcert, 6.3)
    """
    if not isinstance(content, dict):
        raise MalformedError("a certificate that is no map")
    named = content.get("ver")
    if not isinstance(named, str):
        raise MalformedError("ver: three numbers are due, such as 1.3.0")
    version = _version(named)
    name = content.get("nam")
    if not isinstance(name, dict):
        raise MalformedError("nam: a map is due")
    _members(name, _NAME, "nam")
    if "fnt" not in name and "gnt" not in name:
        raise MalformedError("nam: a transliterated name (fnt or gnt) is missing")
    born = content.get("dob")
    if not isinstance(born, str) or not (not born or _BORN.fullmatch(born) or _timed(born, version)):
        raise MalformedError("dob: a date of birth is due")
    born = born[:10]
    if born > datetime.fromtimestamp(min(issued_s + 86_400, YEAR_9999_S), UTC).date().isoformat():
        raise MalformedError("dob: a birth after the certificate was issued")
    kinds = [kind for kind in KINDS if content.get(kind) is not None]
    if len(kinds) != 1:
        raise MalformedError(f"a certificate of {len(kinds)} kinds of thing; it certifies one (v, t or r)")
    (kind,) = kinds
    entries = content[kind]
    if not isinstance(entries, list) or not entries or (version >= (1, 3, 0) and len(entries) > 1):
        raise MalformedError(f"{kind}: a list with one entry is due")
    for entry in entries:
        if not isinstance(entry, dict):
            raise MalformedError(f"{kind}: a map is due")
        required, members = _ENTRIES[kind]
        if not entry.keys() >= required:
            missing = ", ".join(sorted(required - entry.keys()))
            raise MalformedError(f"{kind}: {missing} missing")
        _members(entry, members, kind)
    return Certificate(version, {key: name[key] for key in _NAME if key in name}, born, kind, tuple(entries))


def _timed(born: str, version: Version) -> bool:
    """The first schemas had a pattern for the beginning only."""
    return version < (1, 1, 0) and _BORN_TIMED.match(born) is not None


@lru_cache(256)
def _version(named: str) -> Version:
    if not _VERSION.fullmatch(named):
        raise MalformedError("ver: three numbers are due, such as 1.3.0")
    major, minor, patch = (int(part) for part in named.split("."))
    if major != 1:
        raise MalformedError(f"ver: certificates of version {named} are not known here")
    return major, minor, patch


def _members(fields: Mapping[Any, object], checks: Mapping[str, Check], where: str) -> None:
    for member, check in checks.items():
        value = fields.get(member, checks)  # which is nothing that was decoded
        if value is not checks and not check(value):
            raise MalformedError(f"{where}: {member} is not as the schema has it")


def _text(value: object) -> bool:
    return isinstance(value, str)


def _short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_MAX


def _capitals(value: object) -> bool:
    return _short(value) and _CAPITALS.fullmatch(str(value)) is not None


def _country(value: object) -> bool:
    return isinstance(value, str) and _COUNTRY.search(value) is not None


def _dose(value: object) -> bool:
    # JSON Schema's integers include 2.0.
    return (type(value) is int or (type(value) is float and value.is_integer())) and value >= 1


_NAME: Final[dict[str, Check]] = {"fn": _short, "fnt": _capitals, "gn": _short, "gnt": _capitals}
_COMMON: Final[dict[str, Check]] = {"tg": _text, "co": _country, "is": _short, "ci": _short}
_VACCINATION: Final[dict[str, Check]] = _COMMON | {
    "vp": _text, "mp": _text, "ma": _text, "dn": _dose, "sd": _dose, "dt": _text,
}  # fmt: skip
_TEST: Final[dict[str, Check]] = _COMMON | {
    "tt": _text, "nm": _short, "ma": _text, "sc": _text, "tr": _text, "tc": _short,
}  # fmt: skip
_RECOVERY: Final[dict[str, Check]] = _COMMON | {"fr": _text, "df": _text, "du": _text}
_ENTRIES: Final[dict[str, tuple[frozenset[str], dict[str, Check]]]] = {
    "v": (frozenset(_VACCINATION), _VACCINATION),
    "t": (frozenset(("tg", "co", "is", "ci", "tt", "sc", "tr")), _TEST),
    "r": (frozenset(_RECOVERY), _RECOVERY),
}


def read_date(text: object) -> date | None:
    """The day in a member such as `dt`, also of those that add a time; None if it is none."""
    try:
        return date.fromisoformat(str(text)[:10])
    except ValueError:
        return None
