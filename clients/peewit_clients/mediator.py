"""A mediator's device at work: it catches up, plans, publishes, and hears whether another device was faster.

Rules kept here: what is published was planned from the newest registry that can be reached, shown, stored and
only then sent; every command may be repeated after a crash; when two devices collide, the one that lost is told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from peewit_clients.device_log import USED_ELSEWHERE, DeviceLog, ForkedDeviceError, Progress
from peewit_clients.device_state import DeviceState
from peewit_clients.follower import Copy
from peewit_clients.identity import Identity
from peewit_clients.plans import Knowledge, Plan, Planner
from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_federation.charter import Charter
from peewit_federation.errors import UnknownError
from peewit_federation.keys import sha256
from peewit_federation.log.checkpoint import log_key
from peewit_federation.registry.mediator import LogState, MediatorFold
from peewit_federation.registry.subjects import Subject
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Grant, Provider


@dataclass(frozen=True)
class Lost:
    """An edit of this device that another device's edit has overtaken."""

    kind: int
    subject: bytes
    version: int
    winner: bytes
    "Origin hash of the log whose grant stands."


class Mediator:
    """One device at work."""

    def __init__(
        self,
        folder: Path,
        device: DeviceState,
        charter: Charter,
        pool: BackendPool,
        *,
        clock: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.identity = Identity.load(folder)
        self.state = device
        self.charter = charter
        self.pool = pool
        self.clock = clock
        self.random_bytes = random_bytes
        self.log = DeviceLog(device, charter, pool, pool.clock)
        self.view = RegistryView(charter, pool, clock)

    async def prepare(self) -> Planner:
        """Catch up with the federation, as far as it can be reached, and be ready to plan.

        Raises `ForkedDeviceError` if anybody has evidence that somebody else signs with this device's key.
        """
        try:
            await self.log.catch_up()
        except ForkedDeviceError:
            await self._refresh()
            if self.closed_at() is None:
                raise
        await self._refresh()
        if self.view.registry.forked(self.log.origin) is not None and self.closed_at() is None:
            raise ForkedDeviceError(USED_ELSEWHERE)
        fold = self._fold()

        def standing(kind: int, subject: bytes) -> Grant | None:
            return self._grant(fold, kind, subject)

        knowledge = Knowledge(self._in_scope, standing, self.state.subject, self.state.secrets)
        return Planner(self.charter, fold, int(self.clock()), self.random_bytes, knowledge)

    def _in_scope(self, postcodes: Sequence[str], services: Sequence[str]) -> bool:
        registry = self.view.registry
        admissions = registry.admissions.get(self.identity.id)
        roots = registry.standing_roots(self.identity.id)
        return admissions is not None and admissions.covers(roots, postcodes, services, registry.constitution)

    async def _refresh(self) -> None:
        head = self.state.head()
        if head is not None:
            copy = Copy(log_key(self.state.key.public), self.log.origin, self.state.entries(), head)
            held = self.view.follower.copies.get(self.log.origin)
            if held is None or held.size < copy.size:
                copy.quorum = held.quorum if held else None
                self.view.follower.copies[self.log.origin] = copy
        await self.view.refresh([self.identity.id])

    def _fold(self) -> MediatorFold:
        """What the registry says of us, with our own entries counted whether or not a quorum has them yet."""
        fold = self.view.registry.folds.get(self.identity.id, MediatorFold())
        mine = MediatorFold(subjects=dict(fold.subjects))
        mine.read(self.log.origin, 0, self.state.entries(), LogState(self.state.size, self.state.size))
        return mine

    async def publish(self, plan: Plan, *, wait_s: float = 0.0) -> Progress:
        """Sign, store and send a plan."""
        if plan.statements:
            await self.log.commit(plan.statements, plan.names)
        return await self.log.publish(wait_s=wait_s)

    # What can be said

    def provider(self, name: str) -> tuple[bytes, Grant]:
        """Subject and standing grant behind a name or a subject in hexadecimal."""
        subject = self.state.subject(Provider.KIND, name)
        if subject is None and len(name) == 64:
            try:
                subject = bytes.fromhex(name)
            except ValueError:
                subject = None
        fold = self._fold()
        found = fold.subjects.get((Provider.KIND, subject), Subject()) if subject else Subject()
        if subject is None or found.standing is None:
            raise UnknownError(f"this mediator has no practice {name!r}; see `peewit mediator status`")
        grant = self._grant(fold, Provider.KIND, subject)
        if grant is None:
            raise UnknownError(f"the entry of practice {name!r} cannot be had at the moment; try again")
        return subject, grant

    def _grant(self, fold: MediatorFold, kind: int, subject: bytes) -> Grant | None:
        """The grant that stands, if there is one and its entry can be had."""
        standing = fold.subjects.get((kind, subject), Subject()).standing
        if standing is None:
            return None
        if standing.origin == self.log.origin:
            entry: bytes | None = self.state.entries(standing.index, standing.index + 1)[0]
        else:
            entry = self.view.standing_entry(self.view.finder.look(self.identity.id, kind, subject, int(self.clock())))
        grant = read_entry(entry or b"", MEDIATOR_KINDS)
        return grant if isinstance(grant, Grant) and grant.subject == subject else None

    def closed_at(self) -> int | None:
        """At how many entries the root closed this device's log, if it did."""
        close = self.view.registry.close_of(self.identity.id, self.log.origin)
        return close.size if close else None

    def lost(self) -> list[Lost]:
        """Our own edits that did not win against those of another device."""
        fold = self.view.registry.folds.get(self.identity.id, MediatorFold())
        latest: dict[tuple[int, bytes], tuple[int, bytes]] = {}
        for entry in self.state.entries():
            statement = read_entry(entry, MEDIATOR_KINDS)
            if isinstance(statement, Grant):
                latest[statement.KIND, statement.subject] = statement.version, sha256(entry)
        found = []
        for key, (version, digest) in latest.items():
            standing = fold.subjects.get(key, Subject()).standing
            if standing is not None and standing.digest != digest and standing.origin != self.log.origin:
                # Written without knowledge of each other: an edit that knew ours would be one above it.
                if standing.version == version:
                    found.append(Lost(*key, version, standing.origin))
        return found
