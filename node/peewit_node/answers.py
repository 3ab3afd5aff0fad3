"""Answers to clients' questions, each entry with its proof (design 5; `peewit_federation.api`).

Rules kept here: an answer contains what this node believes at the time of asking, proven by heads with a
quorum; what restricts (revocations) by any signed head. The client trusts none of it without checking, and
learns from views, not from here, whether something is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from peewit_federation.api import Answer
from peewit_federation.errors import MalformedError
from peewit_federation.log.proofs import inclusion_proof
from peewit_federation.places import Places
from peewit_federation.registry.find import Finder, Found
from peewit_federation.registry.fold import MAIN, Registry
from peewit_federation.statements.carried import statement_id
from peewit_federation.statements.mediator import Catchment, Issuer, Provider
from peewit_node.engine import Engine, Row
from peewit_node.logs import Logs
from peewit_node.stored_log import Log

ITEMS_MAX: Final = 2_000
KINDS: Final = {"catchment": Catchment.KIND, "provider": Provider.KIND, "issuer": Issuer.KIND}


class Answers:
    """Looks things up in the registry and proves them from the logs."""

    def __init__(
        self, engine: Engine, logs: Logs, registry: Registry, places: Places | None, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._logs = logs
        self._registry = registry
        self._places = places
        self._clock = clock
        self._finder = Finder(registry)

    async def catchments(self, postcode: str | None, service: str | None, within_km: float | None) -> Answer:
        """Catchment areas: all, or those that serve a postcode (or one within a distance of it)."""
        now_s = int(self._clock())
        if within_km is None or postcode is None:
            return await self._prove(self._finder.catchments(now_s, postcode, service))
        if self._places is None:
            raise MalformedError("this node has no map; fetch the whole list and search in it")
        found: dict[tuple[bytes, bytes], Found] = {}
        for near in self._places.within(postcode, within_km):
            for item in self._finder.catchments(now_s, near, service):
                found.setdefault((item.mediator, item.subject), item)
        return await self._prove(found.values())

    async def providers(self, mediator: bytes, area: bytes, service: str | None) -> Answer:
        """Providers of a catchment area."""
        return await self._prove(self._finder.providers(mediator, area, int(self._clock()), service))

    async def subject(self, kind: str, subject: bytes) -> Answer:
        """The standing grant of a subject, and its revocations, whatever they come to."""
        found = self._finder.everywhere(KINDS[kind], subject, int(self._clock()))
        grants = await self._prove(found)
        digests = sorted({digest for item in found for digest in item.revocations})
        rows = [
            (mediator, origin, place, digest)
            for digest in digests
            for mediator, origin, place in await self._engine.fetch(
                "SELECT mediator, origin, place FROM revocations WHERE digest = ?", digest
            )
        ]
        return _joined(grants, await self._prove_rows(rows))

    async def revocations(self, after: int) -> Answer:
        """Revocations that this node saw after a cursor, oldest first."""
        query = (
            "SELECT number, mediator, origin, place, digest FROM revocations WHERE number > ? ORDER BY number LIMIT ?"
        )
        rows = await self._engine.fetch(query, after, ITEMS_MAX)
        answer = await self._prove_rows([tuple(row[1:]) for row in rows])
        cursor = rows[-1][0] if rows else after
        return Answer(answer.heads, answer.devices, answer.items, cursor)

    async def _prove(self, found: Iterable[Found]) -> Answer:
        wanted: dict[tuple[bytes, bytes], list[int]] = {}
        for item in found:
            if item.standing is not None:
                wanted.setdefault((item.mediator, item.standing.origin), []).append(item.standing.index)
        answer = _Builder()
        for (mediator, origin), places in wanted.items():
            tree = self._tree(mediator, origin)
            statement = self._device(mediator, origin)
            if tree is None or statement is None:
                continue
            log, vouching, size = tree
            number = answer.head(vouching, statement)
            for place in places:
                if place < size and len(answer.items) < ITEMS_MAX:
                    (entry,) = await self._logs.entries(log, place, place + 1)
                    answer.items.append((number, place, entry, await self._path(log, place, size)))
        return answer.done()

    def _tree(self, mediator: bytes, origin: bytes) -> tuple[Log, bytes, int] | None:
        """The log, what vouches for it, and up to which size: a quorum's head, or the close that was settled."""
        cut = self._registry.cuts.get(mediator, {}).get(origin)
        log = self._logs.get(origin, cut.branch if cut else MAIN)
        if log is None:
            return None
        close = self._registry.close_of(mediator, origin) if cut and cut.settled else None
        if close is not None:
            return log, self._registry.vouched.close_bytes[close], close.size
        return (log, log.quorum.encode(), log.quorum.size) if log.quorum else None

    async def _prove_rows(self, rows: Sequence[Row]) -> Answer:
        answer = _Builder()
        numbers: dict[tuple[bytes, bytes], int] = {}
        for mediator, origin, place, digest in rows:
            log, statement = self._logs.get(origin), self._device(mediator, origin)
            if log is None or log.head is None or statement is None or place >= log.head.size:
                continue
            (entry,) = await self._logs.entries(log, place, place + 1)
            if statement_id(entry) != digest:
                # It stood on another branch of a forked log; operators' logs carry it with its proof.
                continue
            if (mediator, origin) not in numbers:
                numbers[mediator, origin] = answer.head(log.head.encode(), statement)
            path = await self._path(log, place, log.head.size)
            answer.items.append((numbers[mediator, origin], place, entry, path))
        return answer.done()

    async def _path(self, log: Log, place: int, size: int) -> tuple[bytes, ...]:
        return tuple(await self._logs.prove(log, size, lambda source: inclusion_proof(place, size, source)))

    def _device(self, mediator: bytes, origin: bytes) -> bytes | None:
        """The statement by which a standing root of this mediator vouches for the log."""
        roots = self._registry.standing_roots(mediator)
        for device, data in self._registry.vouched.device_statements(origin):
            if device.mediator == mediator and device.root in roots:
                return data
        return None


class _Builder:
    """An answer that is being made."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.devices: list[bytes] = []
        self.items: list[tuple[int, int, bytes, tuple[bytes, ...]]] = []

    def head(self, vouching: bytes, device: bytes) -> int:
        """Add a tree; its number."""
        self.heads.append(vouching)
        self.devices.append(device)
        return len(self.heads) - 1

    def done(self) -> Answer:
        return Answer(tuple(self.heads), tuple(self.devices), tuple(self.items))


def _joined(first: Answer, second: Answer) -> Answer:
    shift = len(first.heads)
    moved = tuple((head + shift, index, entry, path) for head, index, entry, path in second.items)
    return Answer(first.heads + second.heads, first.devices + second.devices, first.items + moved)
