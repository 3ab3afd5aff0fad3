"""A mediator's log in words: what stands where, and what becomes undone when the log is closed before it.

Rules kept here: entries that are no statement of a mediator are named as such, never left out, so that positions are
those of the log. Names are known only to devices; without one a subject stands in hexadecimal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import REASONS, SUSPENDED, Catchment, Grant, Issuer, Provider, Revocation

WORDS: Final = {Catchment.KIND: "catchment area", Provider.KIND: "practice", Issuer.KIND: "signing key"}
Key = tuple[int, bytes]


@dataclass(frozen=True)
class Line:
    """One entry."""

    place: int
    what: str
    "For example: admits, suspends, revokes (key lost or stolen)."
    kind: str
    "Of whom: practice, catchment area, signing key."
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
                Line(place, _what(held.get(key), statement), WORDS[key[0]], key[1], name, statement.not_before)
            )
            held[key] = statement
        elif isinstance(statement, Revocation):
            subject, reason = statement.subject, REASONS.get(statement.reason, str(statement.reason))
            kind = WORDS.get(statement.subject_kind, str(statement.subject_kind))
            lines.append(Line(place, f"revokes ({reason})", kind, subject, names.get(subject, "")))
        else:
            lines.append(Line(place, "nothing that counts", "", b"", ""))
    return lines


def undone(lines: Sequence[Line], size: int) -> list[str]:
    """What closing at `size` takes back, in words."""
    return [
        f"entry {line.place} counts for nothing: {line.what} {line.kind} {line.who}"
        for line in lines[size:]
        if line.subject
    ]


def _what(before: Grant | None, grant: Grant) -> str:
    if grant.status == SUSPENDED:
        return "suspends"
    if before is None:
        return "opens" if isinstance(grant, Catchment) else "admits"
    return "lifts the suspension of" if before.status == SUSPENDED else "changes"
