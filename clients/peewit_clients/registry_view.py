"""A client's view of the registry: what may be believed, how fresh it is, and who misbehaved.

    async with BackendPool(charter) as pool:
        view = RegistryView(charter, pool)
        await view.refresh([mediator])
        view.finder.look(mediator, Provider.KIND, subject, now_s).verdict
        view.freshness[mediator].words()

Rules kept here: the operators' logs and those of the mediators that interest are followed whole, so that no
revocation can be left out without a view telling of it; grants count from a quorum, what restricts counts
as soon as one node has it; nodes that withhold, roll back or serve garbage are named in `complaints`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from peewit_clients.backend import Backend, BackendError, UnreachableError
from peewit_clients.follower import Copy, Follower
from peewit_clients.freshness import Freshness, Seen, ViewBook, open_views
from peewit_clients.pool import BackendPool
from peewit_clients.words import said
from peewit_federation import cbor
from peewit_federation.api import Answer, Proven
from peewit_federation.charter import Charter
from peewit_federation.errors import ForgeryError, MalformedError
from peewit_federation.gossip.views import OPERATORS, Line
from peewit_federation.log.checkpoint import log_key
from peewit_federation.log.merkle import HASH_BYTES
from peewit_federation.registry.find import Finder, Found
from peewit_federation.registry.fold import MAIN, Registry
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.carried import Close, Evidence, open_carried
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Catchment

READ: Final = 2
"How many nodes are asked for their views (design section 8)."
MEDIATORS_AT_ONCE: Final = 32
OPERATOR_ENTRIES_MAX: Final = 1_000_000
AREAS_MAX: Final = 10_000
AREAS_BYTES_MAX: Final = 8 << 20
"Of one mediator about; whoever has more does not keep others' from being found."
PAGES_MIN: Final = 16
PAGES_EACH: Final = 8
"What a mediator can fill until it is stepped over."
BEHIND: Final = b"\xff" * 16
"Behind all areas of a mediator."

MEANING: Final = {verdict: said(f"meaning_{verdict.name.lower()}") for verdict in Verdict}
"What a verdict on a practice means for who has, or wants, an appointment there."


class RegistryView:
    """The registry as one client knows it."""

    def __init__(self, charter: Charter, pool: BackendPool, clock: Callable[[], float] = time.time) -> None:
        self.charter = charter
        self.pool = pool
        self.clock = clock
        self.registry = Registry(charter.constitution)
        self.finder = Finder(self.registry)
        self.follower = Follower(charter, pool)
        self.book = ViewBook(charter)
        self.freshness: dict[bytes, Freshness] = {}
        self._refreshed_s: dict[bytes, float] = {}

    @property
    def complaints(self) -> dict[str, list[str]]:
        """By node: what it was caught at."""
        found = {name: list(what) for name, what in self.pool.complaints.items()}
        for name, what in self.book.complaints.items():
            found[name] = [*found.get(name, []), *what]
        return found

    async def refresh(self, mediators: Sequence[bytes] = (), *, read: int = READ, recent_s: float = 0.0) -> None:
        """Bring the operators' logs and those of `mediators` up to date, and judge how fresh they are.

        Does nothing if that was begun less than `recent_s` ago. Raises `UnreachableError` if no node answers.
        """
        begun_s = self.pool.clock()
        if mediators and all(begun_s - self._refreshed_s.get(one, -math.inf) < recent_s for one in mediators):
            return
        asked: list[Backend] = []
        for start in range(0, max(1, len(mediators)), MEDIATORS_AT_ONCE):
            part = mediators[start : start + MEDIATORS_AT_ONCE]
            asked = await self._views(part, read)
        logs = [(o.log, o.origin_hash) for o in self.charter.operators]
        logs += [(retired.log, retired.origin_hash) for retired in self.charter.retired]
        copies = [self.follower.copy(log, origin) for log, origin in logs]
        for copy in copies:
            copy.limit = OPERATOR_ENTRIES_MAX
        await self._update(copies, [OPERATORS], asked)
        await self._fold(())
        copies = [
            self.follower.copy(log_key(device.log_key), origin)
            for mediator in mediators
            for origin in self.registry.cuts.get(mediator, {})
            if (device := self.registry.vouched.device(origin)) is not None
        ]
        for copy in copies:
            copy.limit = self.registry.mirrors(copy.origin) or 0
        await self._update(copies, mediators, asked)
        for mediator in mediators:
            await self._forks(mediator)
        await self._fold(mediators)
        await self._settle(mediators)
        held = {c.origin: (c.size, c.head.root) for c in self.follower.copies.values() if c.head}
        forked = list(self.registry.vouched.evidence)
        for mediator in mediators:
            limits = {retired.origin_hash: retired.size for retired in self.charter.retired}
            for origin, cut in self.registry.cuts.get(mediator, {}).items():
                limits[origin] = cut.limit
                if cut.settled:
                    held[origin] = max(held.get(origin, (0, b"")), (cut.limit, b""))
            self.freshness[mediator] = self.book.freshness(mediator, held, forked, limits, self.clock())
            self._refreshed_s[mediator] = begun_s

    async def _views(self, mediators: Sequence[bytes], read: int) -> list[Backend]:
        query = "&".join(f"mediator={mediator.hex()}" for mediator in mediators)

        def check(data: bytes) -> list[Seen]:
            return open_views(data, self.charter, mediators)

        replies = await self.pool.get_several(f"/v1/views?{query}", check, read)
        if not replies:
            # Ask once more, so that the error says what each node did.
            replies = [await self.pool.get(f"/v1/views?{query}", check)]
        self.book.require_clock([seen for reply in replies for seen in reply.value], self.clock())
        for reply in replies:
            for seen in reply.value:
                self.book.add(seen, self.clock())
        for mediator in mediators:
            for name, what in self.book.behind(mediator).items():
                self.pool.complain(name, what)
        return [reply.backend for reply in replies]

    async def _update(self, copies: Sequence[Copy], mediators: Sequence[bytes], asked: list[Backend]) -> None:
        """From the nodes that were asked for their views; from the others what those views have beyond that."""
        if not copies:
            return
        await self.follower.update(copies, asked)
        told: dict[bytes, int] = {}
        for line in self._lines(mediators):
            if not line.forked:
                told[line.origin] = max(line.size, told.get(line.origin, 0))
        missed = [c for c in copies if c.origin not in self.follower.evidence and told.get(c.origin, 0) > c.size]
        if missed:
            await self.follower.update(missed, [b for b in self.pool.order() if b not in asked])

    def _lines(self, mediators: Sequence[bytes]) -> Iterator[Line]:
        """What all nodes' views say of these mediators' logs."""
        return (line for one in mediators for lines in self.book.lines(one).values() for line in lines)

    async def _forks(self, mediator: bytes) -> None:
        for origin in self.registry.cuts.get(mediator, {}):
            evidence = self.follower.evidence.get(origin)
            told = any(line.forked and line.origin == origin for line in self._lines([mediator]))
            if evidence is None and told and origin not in self.registry.vouched.evidence:
                evidence = await self.evidence(origin)
            if evidence is not None:
                self.registry.carry(evidence.encode())

    async def evidence(self, origin: bytes) -> Evidence | None:
        """Evidence against a log, from any node; None if no node has any."""

        def check(data: bytes) -> Evidence:
            found = open_carried(data)
            if not isinstance(found, Evidence) or found.origin_hash != origin:
                raise ForgeryError("not evidence against this log")
            return found

        try:
            return (await self.pool.get(f"/v1/evidence/{origin.hex()}", check, missing_ok=True)).value
        except BackendError:
            return None

    async def _fold(self, mediators: Iterable[bytes]) -> None:
        for copy in self.follower.copies.values():
            self.registry.grow(copy.origin, copy.size, min(copy.believed, copy.size))
        for (origin, root), entries in self.follower.branches.items():
            self.registry.grow(origin, len(entries), len(entries), root)
        interest = frozenset(mediators)
        while wants := self.registry.wanted(interest):
            for want in wants:
                entries = (
                    self.follower.copies[want.origin].entries
                    if want.branch == MAIN
                    else self.follower.branches[want.origin, want.branch]
                )
                generation = self.registry.generation
                self.registry.read(want, want.start, entries[want.start : want.end])
                if self.registry.generation != generation:
                    break

    async def _settle(self, mediators: Sequence[bytes]) -> None:
        for mediator, origin, close in self.registry.unsettled():
            copy = self.follower.copies.get(origin)
            if mediator not in mediators or copy is None or close.size > (self.registry.mirrors(origin) or 0):
                continue
            entries = await self.follower.branch(copy, close.size, close.root_hash)
            if entries is not None:
                branch = close.root_hash if (origin, close.root_hash) in self.follower.branches else MAIN
                if branch != MAIN:
                    self.registry.grow(origin, len(entries), len(entries), branch)
                self.registry.settle(mediator, origin, close, branch)
        await self._fold(mediators)

    def go_through_others(self, guard: bytes) -> None:
        """From now on ask each node through another one, as soon as its key is known from its operator's log.

        `guard`: any secret of whoever asks; it decides which nodes carry, the same ones every time.
        """

        def key(backend: Backend) -> bytes:
            node = self.registry.nodes.get(backend.operator.origin_hash)
            return node.oblivious_key if node else b""

        self.pool.transport.veil, self.pool.transport.guard = key, guard

    # Between two runs

    def encode(self) -> bytes:
        """Copies of logs, and how long each node's views said that logs are, to be kept in a file."""
        sizes = [[name, [list(one) for one in held.items()]] for name, held in self.book.sizes.items()]
        return cbor.encode([2, self.follower.encode(), sizes])

    def load(self, data: bytes) -> None:
        """Take over what `encode` kept; logs are verified again. Raises `SenderError`."""
        match cbor.decode(data, size_bytes_max=1 << 30):
            case [2, bytes(logs), list(sizes)]:
                self.follower.load(logs)
                self.book.sizes = {name: {origin: int(size) for origin, size in held} for name, held in sizes}
            case _:
                raise MalformedError("not a cache of this version")

    # Questions

    async def catchments(self) -> list[tuple[Catchment, bytes]]:
        """The whole list of catchment areas, of several nodes together, each proven, with its mediator.

        Call `refresh` before, so that it is known which mediators count.
        """
        replies = await self.pool.several(self._every_area, READ)
        if not replies:
            replies = [await self.pool.first(self._every_area)]
        found: dict[tuple[bytes, bytes], Catchment] = {}
        for proven in (proven for reply in replies for proven in reply.value):
            if isinstance(proven.head, Close) and not self._stands(proven.head):
                continue
            statement = read_entry(proven.entry, MEDIATOR_KINDS)
            if isinstance(statement, Catchment):
                key = proven.device.mediator, statement.area
                if key not in found or found[key].version < statement.version:
                    found[key] = statement
        return [(statement, mediator) for (mediator, _), statement in sorted(found.items())]

    async def _every_area(self, backend: Backend) -> list[Proven]:
        """One node's whole list, page by page; of a mediator that fills page after page, the first areas."""
        found: list[Proven] = []
        path = "/v1/catchments"
        for _ in range(PAGES_MIN + PAGES_EACH * len(self.registry.admissions)):
            cursor, page = await self.pool.read(backend, path, self._checked_page)
            found += [one for one in page if one.device.root in self.registry.standing_roots(one.device.mediator)]
            if not cursor:
                return found
            mediator = cursor[:HASH_BYTES]
            sizes = [len(one.entry) for one in found if one.device.mediator == mediator]
            if len(sizes) >= AREAS_MAX or sum(sizes) >= AREAS_BYTES_MAX:
                cursor = mediator + BEHIND
            path = f"/v1/catchments?after={cursor.hex()}"
        self.pool.complain(backend.name, "/v1/catchments: a list without end")
        raise BackendError("a list without end")

    async def subject(self, kind: str, subject: bytes) -> list[Proven]:
        """What a node shows of a subject: proven entries, to find out whose it is."""
        return (await self.pool.get(f"/v1/subjects/{kind}/{subject.hex()}", self._checked_answer)).value

    def _stands(self, close: Close) -> bool:
        return close.root in self.registry.standing_roots(close.mediator)

    def _checked_answer(self, data: bytes) -> list[Proven]:
        return self._checked_page(data)[1]

    def _checked_page(self, data: bytes) -> tuple[bytes, list[Proven]]:
        answer = Answer.decode(data)
        return answer.cursor, answer.open(self.charter.policy, quorum=False)

    def standing_entry(self, found: Found) -> bytes | None:
        """The entry behind what was found, from our own copies."""
        standing = found.standing
        if standing is None:
            return None
        cut = self.registry.cuts[found.mediator].get(standing.origin)
        if cut is not None and cut.branch != MAIN:
            return self.follower.branches[standing.origin, cut.branch][standing.index]
        return self.follower.copies[standing.origin].entries[standing.index]


__all__ = ["MEANING", "RegistryView", "UnreachableError"]
