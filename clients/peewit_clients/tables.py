"""The CSV files of a mediator: catchment areas and providers.

    name,postcodes,services,groups,nodes,days
    mitte,10115 10117 10119,flu measles,over80 staff all,north west,400

    name,areas,services,signing_key,encryption_key,days,…
    practice-1,mitte,flu,<64 hex digits>,<base64>,400,…        further columns are practice data

Rules kept here: a file is read whole before anything is done with it; the first bad line is named with its
number and what is wrong in it. Names and practice data stay on the device; the log gets a commitment. What a
spreadsheet does to postcodes (01067 becomes 1067) is noticed.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from nacl.bindings import crypto_core_ed25519_is_valid_point

from peewit_federation.errors import MalformedError, PeewitError
from peewit_federation.log.note import b64decode
from peewit_federation.statements.codec import GROUP, POSTCODE, SERVICE, Text

DAYS_MAX: Final = 400
SHORT: Final = 4
"Digits of a postcode in some countries; others have one more."
TABLE_BYTES_MAX: Final = 64 << 20
T = TypeVar("T")


@dataclass(frozen=True)
class CatchmentRow:
    """One catchment area as the mediator writes it down."""

    name: str
    postcodes: tuple[str, ...]
    services: tuple[str, ...]
    groups: tuple[str, ...]
    nodes: tuple[str, ...]
    days: int
    line: int = 0


@dataclass(frozen=True)
class ProviderRow:
    """One practice as the mediator writes it down."""

    name: str
    areas: tuple[str, ...]
    services: tuple[str, ...]
    signing_key: bytes
    encryption_key: bytes
    days: int
    data: dict[str, str]
    "Practice data: goes to the commitment only."
    line: int = 0


def read_catchments(text: str) -> list[CatchmentRow]:
    """Raises `MalformedError` naming the line."""
    columns = ("name", "postcodes", "services", "groups", "nodes", "days")
    rows = _unique(_read(text, columns, _catchment), lambda row: ("name", row.name))
    long = any(len(postcode) > SHORT for row in rows for postcode in row.postcodes)
    for row in rows if long else []:
        for postcode in row.postcodes:
            if len(postcode) == SHORT:
                raise MalformedError(
                    f"line {row.line}: postcodes: {postcode} has four digits and others have five; did a spreadsheet "
                    f"take away a zero?"
                )
    return rows


def read_providers(text: str) -> list[ProviderRow]:
    """Raises `MalformedError` naming the line."""
    columns = ("name", "areas", "services", "signing_key", "encryption_key", "days")
    rows = _unique(_read(text, columns, _provider), lambda row: ("name", row.name))
    return _unique(((row.line, row) for row in rows), lambda row: ("signing_key", row.signing_key.hex()))


def _read(text: str, columns: tuple[str, ...], make: Callable[[dict[str, str], int], T]) -> Iterator[tuple[int, T]]:
    if len(text) > TABLE_BYTES_MAX:
        raise MalformedError(f"a table of more than {TABLE_BYTES_MAX} bytes")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        names = list(reader.fieldnames or ())
    except csv.Error as error:
        raise MalformedError(f"line 1: {error}") from None
    missing = [column for column in columns if column not in names]
    if missing and ";" in text.split("\n", 1)[0]:
        raise MalformedError("line 1: columns are separated by commas, not semicolons")
    if missing:
        raise MalformedError(f"line 1: the column {missing[0]!r} is missing; needed are {','.join(columns)}")
    if len(set(names)) < len(names):
        raise MalformedError("line 1: two columns have the same name")
    empty = True
    try:
        for row in reader:
            empty = False
            if None in row or None in row.values():
                raise MalformedError(f"line {reader.line_num}: not as many columns as in line 1")
            try:
                yield reader.line_num, make(row, reader.line_num)
            except PeewitError as error:
                raise MalformedError(f"line {reader.line_num}: {error}") from None
    except csv.Error as error:
        raise MalformedError(f"after line {reader.line_num}: {error}") from None
    if empty:
        raise MalformedError("the table has no rows: nothing but the names of its columns")


def _unique(rows: Iterable[tuple[int, T]], key: Callable[[T], tuple[str, str]]) -> list[T]:
    seen: dict[str, int] = {}
    found = []
    for line, row in rows:
        column, value = key(row)
        if value in seen:
            raise MalformedError(f"line {line}: the {column} {value!r} stands in line {seen[value]} already")
        seen[value] = line
        found.append(row)
    return found


def _catchment(row: dict[str, str], line: int) -> CatchmentRow:
    postcodes = _words(row, "postcodes", POSTCODE)
    if not postcodes:
        raise MalformedError("postcodes: at least one is due")
    services = _words(row, "services", SERVICE)
    if not services:
        raise MalformedError("services: at least one is due")
    nodes = tuple(row["nodes"].split())
    if not nodes:
        raise MalformedError("nodes: at least one operator's name is due")
    if len(set(nodes)) < len(nodes):
        raise MalformedError("nodes: one is named twice")
    groups = tuple(row["groups"].split())
    for group in groups:
        _check(GROUP, group, "groups")
    if len(set(groups)) < len(groups):
        raise MalformedError("groups: one is named twice")
    return CatchmentRow(_name(row), postcodes, services, groups, nodes, _days(row), line)


def _provider(row: dict[str, str], line: int) -> ProviderRow:
    areas = tuple(row["areas"].split())
    if not areas:
        raise MalformedError("areas: at least one catchment area's name is due")
    if not re.fullmatch(r"[0-9a-f]{64}", row["signing_key"]):
        raise MalformedError("signing_key: 64 lower-case hexadecimal digits are due")
    encryption_key = b64decode(row["encryption_key"], "encryption_key")
    known = {"name", "areas", "services", "signing_key", "encryption_key", "days"}
    data = {key: value for key, value in row.items() if key not in known}
    signing_key = bytes.fromhex(row["signing_key"])
    if not crypto_core_ed25519_is_valid_point(signing_key):
        raise MalformedError("signing_key: not an Ed25519 public key, so nothing could be signed with it")
    services = _words(row, "services", SERVICE)
    return ProviderRow(_name(row), areas, services, signing_key, encryption_key, _days(row), data, line)


def _name(row: dict[str, str]) -> str:
    if not row["name"].strip():
        raise MalformedError("name: must not be empty")
    return row["name"].strip()


def _days(row: dict[str, str]) -> int:
    text = row["days"]
    if not re.fullmatch(r"[1-9][0-9]{0,2}", text, re.ASCII) or int(text) > DAYS_MAX:
        raise MalformedError(f"days: a number from 1 to {DAYS_MAX} is due, not {text[:20]!r}")
    return int(text)


def _words(row: dict[str, str], column: str, kind: Text) -> tuple[str, ...]:
    words = row[column].split()
    for word in words:
        _check(kind, word, column)
    return tuple(sorted(set(words)))


def _check(kind: Text, word: str, column: str) -> None:
    try:
        kind.check(word)
    except MalformedError:
        raise MalformedError(f"{column}: {word[:20]!r} is not a {kind.name}") from None
