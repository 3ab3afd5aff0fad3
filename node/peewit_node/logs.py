"""All logs that this node holds: their entries and tiles in the database, their heads in memory.

Rules kept here: what is acknowledged, cosigned or announced is durable first; a head is stored in the
transaction that completes its entries; a head is cosigned once, and no head of a forked log is. One task
at a time changes a log (`Log.lock`). Whether a head may be believed to be the log's was checked before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from peewit_federation.log.checkpoint import Checkpoint, Cosignature, Head, log_key, open_head, origin_hash
from peewit_federation.log.follow import Bundle
from peewit_federation.log.merkle import CompactRange, leaf_hash
from peewit_federation.log.note import VerifierKey
from peewit_federation.log.policy import Policy
from peewit_federation.log.proofs import range_at
from peewit_federation.log.tiles import ENTRIES, HEIGHT, WIDTH
from peewit_federation.registry.fold import MAIN
from peewit_node.edge import PUT_TAIL, Edge
from peewit_node.engine import Engine, Write
from peewit_node.stored_log import Log, LogReader

INSERT: Final = "INSERT INTO logs VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, 0)"
UPDATE: Final = "UPDATE logs SET size = ?, frontier = ?, head = ?, quorum = ?, pending = ? WHERE id = ? AND size = ?"
EMPTY: Final = b""


class Logs(LogReader):
    """The node's logs by origin hash and branch."""

    def __init__(
        self,
        engine: Engine,
        policy: Callable[[], Policy],
        cosign: Callable[[Checkpoint], tuple[str, Cosignature] | None],
        announce: Callable[[Log, bool], None],
    ) -> None:
        super().__init__(engine)
        self._policy = policy
        self._cosign = cosign
        # Called with a log that changed, and whether that is news which cannot wait.
        self._announce = announce
        self._by_name: dict[tuple[bytes, bytes], Log] = {}
        self._next_id = 1
        self._making = asyncio.Lock()

    async def load(self) -> None:
        """Read all logs' states from the database."""
        rows = await self._engine.fetch(
            "SELECT id, origin, branch, log_key, size, frontier, head, quorum, pending, forked FROM logs"
        )
        witnesses = self._policy().witness_keys
        for id_, origin, branch, public, size, frontier, head, quorum, pending, forked in rows:
            key = log_key(public)

            def opened(note: bytes, key: VerifierKey = key) -> Head | None:
                return open_head(note, key, witnesses) if note else None

            heads = opened(head), opened(quorum), opened(pending)
            log = Log(id_, origin, branch, key, None, CompactRange.decode(size, frontier), *heads, bool(forked))
            log.quorum = self._newer(log.quorum, log.head) if log.head else log.quorum
            self._by_name[origin, branch] = log
            self._next_id = max(self._next_id, id_ + 1)

    async def recount(self) -> None:
        """The policy changed: lines of those who are witnesses no more go, and what is left may be a quorum now.

        If we have become a witness, what we hold is cosigned: who never asks again should not lack us.
        """
        keys = self._policy().witness_keys

        def kept(head: Head | None) -> Head | None:
            if head is None:
                return None
            lines = [(n, c) for n, c in head.cosignatures if (key := keys.get(n)) and c.signature.is_by(key)]
            return Head(head.checkpoint, head.log_signature, tuple(lines))

        for log in self.all():
            async with log.lock:
                head, quorum = kept(log.head), kept(log.quorum)
                mine = self._cosign(head.checkpoint) if head and not log.forked else None
                if head and mine and mine[0] not in head.witnesses:
                    head = head.with_cosignature(*mine)
                quorum = self._newer(quorum, head) if head else quorum
                if (head, quorum) != (log.head, log.quorum):
                    await self._store(log, await self.edge(log), head, quorum, log.pending)
                    self._announce(log, True)

    def get(self, origin: bytes, branch: bytes = MAIN) -> Log | None:
        """A log by its origin hash."""
        return self._by_name.get((origin, branch))

    def all(self, branch: bytes | None = MAIN) -> list[Log]:
        """All main logs, in the order in which they came; with `branch=None` the closed branches too."""
        return [log for log in self._by_name.values() if branch is None or log.branch == branch]

    async def ensure(self, key: VerifierKey, branch: bytes = MAIN) -> Log:
        """The log of a key, made empty if it is new."""
        name = origin_hash(key.name), branch
        async with self._making:
            log = self._by_name.get(name)
            if log is None:
                log = Log(self._next_id, *name, key, None, CompactRange())
                self._next_id += 1
                await self._engine.write(Write(INSERT, (log.id, *name, key.public.raw, EMPTY, EMPTY, EMPTY, EMPTY)))
                self._by_name[name] = log
        return log

    # Growing; the caller holds `log.lock`

    async def extend(
        self,
        log: Log,
        bundles: Iterable[Bundle] = (),
        entries: Sequence[bytes] = (),
        *,
        head: Head | None = None,
        pending: Head | None = None,
    ) -> None:
        """Append bundles or entries; with `head`, they complete it and it is cosigned and announced."""
        edge = (await self.edge(log)).copy()
        for bundle in bundles:
            edge.append_bundle(bundle)
        edge.append(entries, [leaf_hash(entry) for entry in entries])
        if head is not None:
            await self.adopt(log, edge, head, pending)
        else:
            await self._store(log, edge, log.head, log.quorum, pending)

    async def adopt(self, log: Log, edge: Edge, head: Head, pending: Head | None = None) -> None:
        """Store an edge that was grown from the log's own, with the head that covers it."""
        head = self._signed(log, head)
        await self._store(log, edge, head, self._newer(log.quorum, head), pending)
        self._announce(log, True)

    async def learn(self, log: Log, head: Head) -> bool:
        """Take over cosignatures of a head whose entries are held. True if they said anything new."""
        if log.head is None or head.size > log.stored:
            return False
        merged, quorum = log.head, log.quorum
        if head.checkpoint == log.head.checkpoint:
            merged = log.head.merged(head)
            quorum = self._newer(quorum, merged)
        elif self._policy().satisfied(head.witnesses):
            quorum = self._newer(quorum, head)
        if merged == log.head and quorum == log.quorum:
            return False
        complete = quorum is not None and (log.quorum is None or quorum.size > log.quorum.size)
        if complete:
            await self._store(log, await self.edge(log), merged, quorum, log.pending)
        else:
            # What others cosigned is not worth a commit before it makes a quorum: they tell it again after a crash.
            log.head, log.quorum = merged, quorum
        if complete or quorum is None or quorum.size < merged.size:
            # Cosignatures that do not make a quorum yet may make one together with those that others have.
            self._announce(log, complete)
        return True

    async def evidence(self) -> list[bytes]:
        """The evidence behind all logs that were marked."""
        return [row[0] for row in await self._engine.fetch("SELECT body FROM facts WHERE name LIKE 'fork-%'")]

    async def truncate(self, log: Log, size: int) -> None:
        """Forget entries from `size` on that were stored but never covered by an adopted head."""
        assert size >= log.size, "entries under a head are never forgotten"
        tail = await self.entries(log, size // WIDTH * WIDTH, size) if size % WIDTH else []
        tree = CompactRange()
        if size:
            tree = await self.prove(log, size, lambda source: range_at(size, source))
        drops = [Write("DELETE FROM tails WHERE log = ?", (log.id,))]
        drops += [
            Write("DELETE FROM tiles WHERE log = ? AND level = ? AND place >= ?", (log.id, level, kept), large=True)
            for level, kept in [(ENTRIES, size // WIDTH), (0, size // WIDTH)]
        ]
        for level in range(1, 8):
            kept = ((size >> (HEIGHT * level)) + WIDTH - 1) // WIDTH
            drops.append(Write("DELETE FROM tiles WHERE log = ? AND level = ? AND place >= ?", (log.id, level, kept)))
        drops += [Write(PUT_TAIL, (log.id, size - len(tail) + i, entry)) for i, entry in enumerate(tail)]
        notes = (h.encode() if h else EMPTY for h in (log.head, log.quorum))
        update = Write(UPDATE, (size, tree.encode(), *notes, EMPTY, log.id, log.stored), 1)
        await self._engine.write(*drops, update)
        log.edge, log.range, log.pending = None, tree, None

    async def mark_forked(self, log: Log, evidence: bytes) -> None:
        """There is evidence: no head of this log is cosigned or taken over any more."""
        if not log.forked:
            await self._engine.write(
                Write("UPDATE logs SET forked = 1 WHERE id = ?", (log.id,), 1),
                Write("INSERT INTO facts VALUES (?, ?) ON CONFLICT DO NOTHING", (f"fork-{log.origin.hex()}", evidence)),
            )
            log.forked = True
            self._announce(log, True)

    def _signed(self, log: Log, head: Head) -> Head:
        if log.head is not None and log.head.checkpoint == head.checkpoint:
            head = head.merged(log.head)
        if log.forked or log.branch != MAIN:
            return head
        mine = self._cosign(head.checkpoint)
        return head.with_cosignature(*mine) if mine and mine[0] not in head.witnesses else head

    def _newer(self, held: Head | None, head: Head) -> Head | None:
        if not self._policy().satisfied(head.witnesses):
            return held
        if held is not None and held.checkpoint == head.checkpoint:
            return held.merged(head)
        return head if held is None or head.size > held.size else held

    async def _store(self, log: Log, edge: Edge, head: Head | None, quorum: Head | None, pending: Head | None) -> None:
        notes = (h.encode() if h else EMPTY for h in (head, quorum, pending))
        update = Write(UPDATE, (edge.size, edge.range.encode(), *notes, log.id, log.stored), 1)
        await self._engine.write(*edge.take_writes(), update)
        log.edge, log.range = edge, edge.range
        log.head, log.quorum, log.pending = head, quorum, pending
