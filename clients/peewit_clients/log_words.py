"""A mediator's log in words: what stands where, and what becomes undone when the log is closed before it.

Rules kept here: entries that are no statement of a mediator are named as such, never left out, so that positions are
those of the log. Names are known only to devices; without one a subject stands in hexadecimal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from peewit_clients.words import Said, said
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import REASONS, SUSPENDED, Catchment, Grant, Issuer, Provider, Revocation

WORDS: Final = {Catchment.KIND: "kind_area", Provider.KIND: "kind_practice", Issuer.KIND: "kind_signing_key"}
Key = tuple[int, bytes]


@dataclass(frozen=True)
class Line:
    """One entry."""

    place: int
    what: Said
    "For example: admits, suspends, revokes (key lost or stolen)."
    kind: str | Said
    "Of whom: practice, catchment area, signing key; a number if we know no word, empty if it counts for nothing."
    subject: bytes
    name: str
    begins_s: int = 0
    "As the entry says; nothing proves it. 0 if it says nothing."

    @property
    def who(self) -> str:
        """The name, or the subject if there is none."""
        return self.name or self.subject.hex()[:16]


def read_lines(entries: Sequence[bytes], names: Mapping[bytes, str]) -> list[Line]:
    """All entries of a log, from its first."""
    held: dict[Key, Grant] = {}
    lines = []
    for place, entry in enumerate(entries):
        statement = read_entry(entry, MEDIATOR_KINDS)
        if isinstance(statement, Grant):
            key = statement.KIND, statement.subject
            name = names.get(statement.subject, "")
            lines.append(
                Line(place, _what(held.get(key), statement), kind_word(key[0]), key[1], name, statement.not_before)
            )
            held[key] = statement
        elif isinstance(statement, Revocation):
            subject, what = statement.subject, said("entry_revokes", reason=reason_word(statement.reason))
            lines.append(Line(place, what, kind_word(statement.subject_kind), subject, names.get(subject, "")))
        else:
            lines.append(Line(place, said("entry_nothing"), "", b"", ""))
    return lines


def undone(lines: Sequence[Line], size: int) -> list[Said]:
    """What closing at `size` takes back, in words."""
    return [
        said("entry_undone", place=line.place, what=line.what, kind=line.kind, who=line.who)
        for line in lines[size:]
        if line.subject
    ]


def kind_word(kind: int) -> Said | str:
    """Of what an entry speaks; a number if we know no word."""
    return said(WORDS[kind]) if kind in WORDS else str(kind)


def reason_word(reason: int) -> Said | str:
    """Why something was revoked; a number if we know no word."""
    return said(f"reason_{reason}") if reason in REASONS else str(reason)


def _what(before: Grant | None, grant: Grant) -> Said:
    if grant.status == SUSPENDED:
        return said("entry_suspends")
    if before is None:
        return said("entry_opens" if isinstance(grant, Catchment) else "entry_admits")
    return said("entry_lifts" if before.status == SUSPENDED else "entry_changes")
