"""An answer that is being made: entries of any logs, each with its proof.

Rules kept here: a log's head is named once and all its entries are proven against that one, however long making the
answer takes; grants by a head with a quorum or by the close that was settled, restrictions by any signed head. What
cannot be proven is left out. How much goes into an answer is left to `answers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peewit_federation.api import Answer
from peewit_federation.registry.find import Found
from peewit_federation.registry.fold import MAIN, Registry
from peewit_federation.statements.carried import statement_id
from peewit_node.engine import Row
from peewit_node.logs import Logs
from peewit_node.stored_log import Log

Name = tuple[bytes, bytes]
"A mediator and the origin of a log."


@dataclass(frozen=True)
class _Tree:
    number: int
    "Of the head in the answer."
    log: Log
    size: int


class Proving:
    """Collects entries and what proves them."""

    def __init__(self, registry: Registry, logs: Logs) -> None:
        self._registry = registry
        self._logs = logs
        self._heads: list[bytes] = []
        self._devices: list[bytes] = []
        self._items: list[tuple[int, int, bytes, tuple[bytes, ...]]] = []
        self._grants: dict[Name, _Tree | None] = {}
        self._newest: dict[Name, _Tree | None] = {}
        self.size_bytes = 0
        "Of the entries so far."

    def done(self, cursor: bytes = b"") -> Answer:
        """The answer."""
        return Answer(tuple(self._heads), tuple(self._devices), tuple(self._items), cursor)

    async def grants(self, found: Sequence[Found]) -> None:
        """Add the standing grants of what was found."""
        wanted: dict[Name, list[int]] = {}
        for item in found:
            if item.standing is not None:
                wanted.setdefault((item.mediator, item.standing.origin), []).append(item.standing.index)
        for name, places in wanted.items():
            if name not in self._grants:
                self._grants[name] = self._tree(*name)
            await self._add(self._grants[name], dict.fromkeys(places))

    async def revocations(self, rows: Sequence[Row]) -> None:
        """Add revocations: rows of (mediator, origin, place, digest)."""
        wanted: dict[Name, dict[int, bytes | None]] = {}
        for mediator, origin, place, digest in rows:
            wanted.setdefault((mediator, origin), {})[place] = digest
        for name, digests in wanted.items():
            if name not in self._newest:
                log = self._logs.get(name[1])
                self._newest[name] = self._head(*name, log, log.head.encode(), log.size) if log and log.head else None
            await self._add(self._newest[name], digests)

    async def _add(self, tree: _Tree | None, digests: dict[int, bytes | None]) -> None:
        if tree is None:
            return
        places = [place for place in digests if place < tree.size]
        for place, entry, path in await self._logs.shown(tree.log, places, tree.size):
            # What does not match stood on another branch of a forked log; operators' logs carry it with its proof.
            if digests[place] in (None, statement_id(entry)):
                self._items.append((tree.number, place, entry, path))
                self.size_bytes += len(entry)

    def _tree(self, mediator: bytes, origin: bytes) -> _Tree | None:
        """The log, what vouches for it, and up to which size: a quorum's head, or the close that was settled."""
        cut = self._registry.cuts.get(mediator, {}).get(origin)
        log = self._logs.get(origin, cut.branch if cut else MAIN)
        if log is None:
            return None
        close = self._registry.close_of(mediator, origin) if cut and cut.settled else None
        if close is not None:
            return self._head(mediator, origin, log, self._registry.vouched.close_bytes[close], close.size)
        return self._head(mediator, origin, log, log.quorum.encode(), log.quorum.size) if log.quorum else None

    def _head(self, mediator: bytes, origin: bytes, log: Log, vouching: bytes, size: int) -> _Tree | None:
        device = self._device(mediator, origin)
        if device is None:
            return None
        self._heads.append(vouching)
        self._devices.append(device)
        return _Tree(len(self._heads) - 1, log, size)

    def _device(self, mediator: bytes, origin: bytes) -> bytes | None:
        """The statement by which a standing root of this mediator vouches for the log."""
        roots = self._registry.standing_roots(mediator)
        for device, data in self._registry.vouched.device_statements(origin):
            if device.mediator == mediator and device.root in roots:
                return data
        return None
