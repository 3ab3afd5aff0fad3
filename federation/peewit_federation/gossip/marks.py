"""Marks: sixteen bytes for what a node has of a subject, so that two nodes find out where they differ.

Two nodes that have not spoken for a while mostly have the same already, from others. So they compare one root over
all marks, and if it differs the marks themselves, before anything larger travels: 16 bytes for each log and view.

    mark    first 16 bytes of SHA-256(kind, length-prefixed parts of the state)
    marks   all marks in ascending order, joined
    root    first 16 bytes of SHA-256(marks)

Rules kept here: equal states have equal marks, whoever has them; what differs between nodes for ever without meaning
anything (a cosignature more than the quorum needs) must not be part of a state. Sixteen bytes, because who signs a
log chooses its states: two that collide would be taken for one another.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from peewit_federation.errors import MalformedError
from peewit_federation.keys import sha256

MARK_BYTES: Final = 16
MARKS_MAX: Final = 20_000
"Twice as many as a view has lines."


def mark_of(*state: bytes) -> bytes:
    """The mark of a state, given in parts."""
    return sha256(*(len(part).to_bytes(4, "big") + part for part in state))[:MARK_BYTES]


def split_marks(data: bytes, count_max: int = MARKS_MAX) -> list[bytes]:
    """Joined marks one by one. Raises `MalformedError`."""
    if len(data) % MARK_BYTES or len(data) > count_max * MARK_BYTES:
        raise MalformedError(f"not at most {count_max} marks of {MARK_BYTES} bytes")
    return [data[at : at + MARK_BYTES] for at in range(0, len(data), MARK_BYTES)]


class Marks:
    """The marks of all that a node has."""

    def __init__(self) -> None:
        self._states: dict[Hashable, tuple[bytes, ...]] = {}
        "That are newer than their marks: what changes often is hashed when somebody asks."
        self._of: dict[Hashable, bytes] = {}
        self._subjects: dict[bytes, Hashable] = {}
        self._joined = b""
        self._root: bytes | None = None

    def put(self, subject: Hashable, *state: bytes) -> bool:
        """A subject has this state, given in parts; whether that is new."""
        held = self._states.get(subject)
        if held == state or (held is None and subject in self._of and self._of[subject] == mark_of(*state)):
            return False
        self._states[subject] = state
        return True

    def drop(self, subject: Hashable) -> None:
        """A subject counts no more."""
        self._states.pop(subject, None)
        self._subjects.pop(self._of.pop(subject, b""), None)
        self._root = None

    def __contains__(self, subject: Hashable) -> bool:
        return subject in self._of or subject in self._states

    def _settle(self) -> None:
        states, self._states = self._states, {}
        for subject, state in states.items():
            self.drop(subject)
            self._of[subject] = mark = mark_of(*state)
            self._subjects[mark] = subject

    @property
    def root(self) -> bytes:
        """Over all marks: equal at two nodes that have the same."""
        self._settle()
        if self._root is None:
            joined = b"".join(sorted(self._of.values()))
            self._root, self._joined = sha256(joined)[:MARK_BYTES], joined[: MARKS_MAX * MARK_BYTES]
        return self._root

    @property
    def joined(self) -> bytes:
        """The marks as they travel, the first `MARKS_MAX` of them."""
        assert self.root
        return self._joined

    def compare(self, theirs: bytes) -> tuple[list[Hashable], list[bytes]]:
        """Our subjects of which they lack our state, and their marks that we lack. Raises `MalformedError`."""
        self._settle()
        marks = split_marks(theirs)
        known = set(marks)
        surplus = [subject for subject, mark in self._of.items() if mark not in known]
        return surplus, [mark for mark in marks if mark not in self._subjects]

    def find(self, marks: Sequence[bytes]) -> list[Hashable]:
        """The subjects with these marks, in this order; those that have changed since are left out."""
        self._settle()
        return [self._subjects[mark] for mark in marks if mark in self._subjects]
