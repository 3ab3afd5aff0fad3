"""Keeps the registry in step with the logs, and its fold in the database.

Rules kept here: one task folds; what was folded is stored with the cursors that say so, in one
transaction, so that a restart goes on where it stopped; a fold whose basis has changed is made anew.
The operators' logs, which are short and decide the basis, are folded again at every start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import cbor2
import structlog

from peewit_federation import cbor
from peewit_federation.keys import sha256
from peewit_federation.log.tiles import WIDTH
from peewit_federation.registry.admission import Constitution
from peewit_federation.registry.fold import Registry, Want
from peewit_federation.registry.mediator import Cursor, Key, MediatorFold
from peewit_federation.registry.subjects import Standing, Subject
from peewit_node.engine import Engine, StorageError, Write
from peewit_node.logs import Logs
from peewit_node.stored_log import Log

PUT_SUBJECT: Final = (
    "INSERT INTO subjects VALUES (?, ?, ?, ?) "
    "ON CONFLICT (mediator, kind, subject) DO UPDATE SET state = excluded.state"
)
DROP_SUBJECT: Final = "DELETE FROM subjects WHERE mediator = ? AND kind = ? AND subject = ?"
PUT_FOLD: Final = (
    "INSERT INTO folds VALUES (?, ?, ?) "
    "ON CONFLICT (mediator) DO UPDATE SET basis = excluded.basis, cursors = excluded.cursors"
)
PUT_REVOCATION: Final = (
    "INSERT INTO revocations (mediator, digest, origin, place) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
BATCH_ENTRIES: Final = 20_000
RETRY_S: Final = 1.0
GATHER_S: Final = 0.05
TURN_ENTRIES: Final = 100
"So many entries are folded before others have a turn of the event loop: some milliseconds."
logger = structlog.get_logger("peewit.registry")


class Keeper:
    """The registry of this node."""

    def __init__(self, engine: Engine, logs: Logs, constitution: Constitution, changed: Callable[[], None]) -> None:
        self.registry = Registry(constitution)
        self._engine = engine
        self._logs = logs
        self._changed = changed
        self._wake = asyncio.Event()
        self._unshared = 0
        self.idle = asyncio.Event()
        "Set while everything that is held is folded."
        self.rounds = 0
        "How often something was folded: what was answered before may be out of date."
        self.loaded = asyncio.Event()
        "Set once everything that was held at the start is folded."

    def grew(self, log: Log) -> None:
        """A log grew or was believed further; fold it soon."""
        self._grow(log)
        self.idle.clear()
        self._wake.set()

    def _grow(self, log: Log) -> None:
        held = min(log.stored, log.size) if log.branch == b"" else log.stored
        believed = log.quorum.size if log.quorum else 0
        if log.branch:
            believed = held
        self.registry.grow(log.origin, held, believed, log.branch)

    def poke(self) -> None:
        """Something else than a log changed what counts."""
        self.idle.clear()
        self._wake.set()

    async def load(self) -> None:
        """Fold the operators' logs, and take the rest from the database as far as it still holds."""
        for log in self._logs.all(branch=None):
            self._grow(log)
        while wants := [want for want in self.registry.wanted(()) if want.mediator is None]:
            for want in wants:
                await self._read(want)
        for log in self._logs.all(branch=None):
            self._grow(log)
        for mediator, basis, cursors in await self._engine.fetch("SELECT mediator, basis, cursors FROM folds"):
            if basis != self._basis(mediator) or not await self._restore(mediator, cursors):
                # Rows of another basis must not come back with the next start.
                await self._engine.write(
                    Write("DELETE FROM subjects WHERE mediator = ?", (mediator,), large=True),
                    Write("DELETE FROM folds WHERE mediator = ?", (mediator,)),
                )
        self.poke()

    async def _restore(self, mediator: bytes, encoded: bytes) -> bool:
        cursors = {origin: Cursor(seen, believed) for origin, seen, believed in cbor.decode(encoded)}
        cuts = self.registry.cuts.get(mediator, {})
        if any(o not in cuts or max(c.seen, c.believed) > cuts[o].limit for o, c in cursors.items()):
            return False
        fold = self.registry.folds.setdefault(mediator, MediatorFold())
        query = "SELECT kind, subject, state FROM subjects WHERE mediator = ?"
        for kind, subject, state in await self._engine.fetch(query, mediator):
            fold.put((kind, subject), decode_subject(state))
        fold.cursors = cursors
        fold.changed = set()
        return True

    async def run(self) -> None:
        """Fold for ever."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)  # what comes meanwhile is folded and stored together
            self._wake.clear()
            try:
                await self.fold()
            except StorageError as error:
                logger.warning("the registry could not be stored; it is tried again", reason=str(error))
                await asyncio.sleep(RETRY_S)
                self._wake.set()
                continue
            self.rounds += 1
            self._changed()
            self.loaded.set()
            if not self._wake.is_set():
                self.idle.set()

    async def fold(self) -> None:
        """Read all that is wanted, and store what came of it."""
        while wants := self.registry.wanted():
            generation, count = self.registry.generation, 0
            for want in wants:
                count += await self._read(want)
                if self.registry.generation != generation or count >= BATCH_ENTRIES:
                    break
            await self._persist()
        await self._persist()

    async def _read(self, want: Want) -> int:
        log = self._logs.get(want.origin, want.branch)
        assert log is not None, "wanted entries of a log that is not held"
        at, end = want.start, min(want.end, want.start + BATCH_ENTRIES)
        generation = self.registry.generation
        while at < end and self.registry.generation == generation:
            entries = await self._logs.entries(log, at, min(end, (at // WIDTH + 1) * WIDTH))
            if self.registry.generation != generation:
                break
            self.registry.read(want, at, entries)
            at += len(entries)
            self._unshared += len(entries)
            if self._unshared >= TURN_ENTRIES:
                self._unshared = 0
                await asyncio.sleep(0)
        return at - want.start

    def _basis(self, mediator: bytes) -> bytes:
        cuts = sorted(self.registry.cuts.get(mediator, {}).items())
        revoked = self.registry.vouched.fork_revocations
        joined = [[cut.limit, sorted(revoked[origin])] for origin, cut in cuts if origin in revoked]
        return sha256(cbor.encode([[origin, cut.branch, cut.settled] for origin, cut in cuts]), cbor.encode(joined))

    async def _persist(self) -> None:
        writes: list[Write] = []
        taken: list[tuple[MediatorFold, set[Key], list[tuple[Key, bytes, bytes, int]]]] = []
        for mediator, fold in self.registry.folds.items():
            if (not fold.changed and not fold.revealed) or mediator in self.registry.rebuilding:
                continue
            changed, fold.changed = fold.changed, set()
            revealed, fold.revealed = fold.revealed, []
            taken.append((fold, changed, revealed))
            writes += [_subject_write(mediator, key, fold) for key in changed]
            writes += [Write(PUT_REVOCATION, (mediator, digest, origin, at)) for _, digest, origin, at in revealed]
            cursors = cbor.encode([[origin, c.seen, c.believed] for origin, c in sorted(fold.cursors.items())])
            writes.append(Write(PUT_FOLD, (mediator, self._basis(mediator), cursors)))
        if not writes:
            return
        try:
            await self._engine.write(*writes)
        except StorageError:
            for fold, changed, revealed in taken:
                fold.changed |= changed
                fold.revealed = revealed + fold.revealed
            raise


def _subject_write(mediator: bytes, key: Key, fold: MediatorFold) -> Write:
    subject = fold.subjects.get(key)
    if subject is None:
        return Write(DROP_SUBJECT, (mediator, *key))
    return Write(PUT_SUBJECT, (mediator, *key, encode_subject(subject)))


def encode_subject(subject: Subject) -> bytes:
    """A row of the table `subjects`."""
    standing = subject.standing
    fields: list[object] = [sorted(subject.revocations)]
    if standing is not None:
        fields += [
            *(standing.version, standing.status, standing.digest, standing.origin, standing.index),
            *(standing.not_before, standing.not_after, sorted(standing.after)),
            *(list(standing.areas), list(standing.services), list(standing.postcodes)),
        ]
    data: bytes = cbor2.dumps(fields)
    return data


def decode_subject(data: bytes) -> Subject:
    """The inverse of `encode_subject`."""
    revocations, *fields = cbor2.loads(data)
    if not fields:
        return Subject(None, frozenset(revocations))
    version, status, digest, origin, index, start, end, after, areas, services, postcodes = fields
    lists = tuple(areas), tuple(services), tuple(postcodes)
    standing = Standing(version, status, digest, origin, index, start, end, frozenset(after), *lists)
    return Subject(standing, frozenset(revocations))
