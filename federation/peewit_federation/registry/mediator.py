"""The fold of one mediator's logs (design 4.2): a state that grows, and may be begun anew.

Rules kept here: what restricts (revocations, suspensions) counts as soon as it is seen; what permits
counts from heads that are believed; entries behind a close or a quota count for nothing. Each log has two
cursors, `seen` and `believed`; `read` takes entries from where a cursor stands, so that nothing is
folded twice. When what counts shrinks (a close, a root withdrawn), the caller folds a fresh state and
puts it in the place of the old.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from peewit_federation.registry.subjects import Standing, Subject
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import SUSPENDED, Catchment, Grant, Provider, Revocation

Change = Callable[[set[bytes], bytes], None]
Key = tuple[int, bytes]
"A subject within a mediator: kind and subject."


@dataclass
class Cursor:
    """How far a log was read for restrictions (`seen`) and for grants (`believed`), in entries."""

    seen: int = 0
    believed: int = 0


@dataclass(frozen=True)
class LogState:
    """How far a log may be read: what is held and authentic, and what a quorum has cosigned."""

    held: int
    believed: int

    def limited(self, limit: int | None) -> LogState:
        """The same, cut at `limit` entries."""
        return self if limit is None else LogState(min(self.held, limit), min(self.believed, limit))


@dataclass
class MediatorFold:
    """What one mediator's logs say."""

    cursors: dict[bytes, Cursor] = field(default_factory=dict)
    "By origin hash."
    subjects: dict[Key, Subject] = field(default_factory=dict)
    providers_in: dict[bytes, set[bytes]] = field(default_factory=dict)
    "By catchment area: subjects of providers whose standing grant names it."
    catchments_at: dict[str, set[bytes]] = field(default_factory=dict)
    "By postcode: catchment areas whose standing grant names it."
    changed: set[Key] = field(default_factory=set)
    "Subjects that changed since the caller last took them."
    revealed: list[tuple[Key, bytes, bytes, int]] = field(default_factory=list)
    "Revocations in the order of sight: (subject, id, origin, index)."
    _digest: bytes | None = field(default=None, repr=False, compare=False)

    def wanted(self, origin: bytes, state: LogState) -> tuple[int, int] | None:
        """The entries [start, end) of a log to read next, or None if nothing is missing."""
        cursor = self.cursors.get(origin, Cursor())
        starts = [cursor.seen] if cursor.seen < state.held else []
        if cursor.believed < state.believed:
            starts.append(cursor.believed)
        return (min(starts), state.held if cursor.seen < state.held else state.believed) if starts else None

    def read(self, origin: bytes, start: int, entries: Sequence[bytes], state: LogState) -> None:
        """Fold `entries`, which stand in the log from `start` on, as far as `state` lets them count."""
        cursor = self.cursors.setdefault(origin, Cursor())
        if start > max(cursor.seen, cursor.believed):
            raise ValueError("entries beyond the cursors")
        for index, entry in enumerate(entries, start):
            restrict = cursor.seen <= index < state.held
            permit = cursor.believed <= index < state.believed
            if restrict or permit:
                self._entry(origin, index, entry, restrict, permit)
        end = start + len(entries)
        if start <= cursor.seen:
            cursor.seen = max(cursor.seen, min(end, state.held))
        if start <= cursor.believed:
            cursor.believed = max(cursor.believed, min(end, state.believed))

    def revoke(self, origin: bytes, index: int, entry: bytes, revocation: Revocation) -> None:
        """Join a revocation that came by itself, from another branch of a forked log."""
        self._revocation(origin, index, entry, revocation)

    def _entry(self, origin: bytes, index: int, entry: bytes, restrict: bool, permit: bool) -> None:
        statement = read_entry(entry, MEDIATOR_KINDS)
        if isinstance(statement, Revocation):
            if restrict:
                self._revocation(origin, index, entry, statement)
        elif isinstance(statement, Grant) and (restrict if statement.status == SUSPENDED else permit):
            key = statement.KIND, statement.subject
            standing = Standing.of(statement, sha256(entry).digest(), origin, index)
            self.put(key, self.subjects.get(key, Subject()).with_grant(standing))

    def _revocation(self, origin: bytes, index: int, entry: bytes, revocation: Revocation) -> None:
        key = revocation.subject_kind, revocation.subject
        digest = sha256(entry).digest()
        before = self.subjects.get(key, Subject())
        after = before.with_revocation(digest)
        if after is not before:
            self.revealed.append((key, digest, origin, index))
            self.put(key, after)

    def put(self, key: Key, subject: Subject) -> None:
        """Set what is known of a subject, and the indexes over it."""
        before = self.subjects.get(key)
        if subject is before:
            return
        old = before.standing if before else None
        new = subject.standing
        if new is not old:
            self._index(key, old, set.discard)
            self._index(key, new, set.add)
        self.subjects[key] = subject
        self.changed.add(key)
        self._digest = None

    def _index(self, key: Key, standing: Standing | None, change: Change) -> None:
        if standing is None:
            return
        if key[0] == Provider.KIND:
            for area in standing.areas:
                change(self.providers_in.setdefault(area, set()), key[1])
        elif key[0] == Catchment.KIND:
            for postcode in standing.postcodes:
                change(self.catchments_at.setdefault(postcode, set()), key[1])

    def digest(self) -> bytes:
        """SHA-256 over all subjects in order; equal states have equal digests. Kept until something changes."""
        if self._digest is not None:
            return self._digest
        whole = sha256()
        for (kind, subject), state in sorted(self.subjects.items()):
            standing = state.standing.digest if state.standing else bytes(32)
            whole.update(bytes([kind, len(subject)]) + subject + standing)
            whole.update(len(state.revocations).to_bytes(4, "big") + b"".join(sorted(state.revocations)))
        self._digest = whole.digest()
        return self._digest
