"""Taking in statements of those who have no log (design 4.1, Carried statements).

Rules kept here: a statement is carried once, in the operator's log; devices and closes only for a root that
stands; per mediator and kind there are quotas, and what is carried is never displaced: 8 ever smaller closes
per log and root, one evidence and 1,000 fork revocations per log, devices as the operators grant. So a
flood of one kind cannot block another, and none can block a close.
"""

from __future__ import annotations

import asyncio
from typing import Final

from peewit_federation.errors import QuotaError, RefusedError, UnknownError
from peewit_federation.registry.fold import Registry
from peewit_federation.registry.vouched import FORK_REVOCATIONS_MAX
from peewit_federation.statements.carried import (
    CarriedStatement,
    Close,
    Device,
    Evidence,
    ForkRevocation,
    open_carried,
    statement_id,
)
from peewit_federation.statements.operator import Carried
from peewit_node.own_log import OwnLog

CLOSES_MAX: Final = 8


class Carrier:
    """Checks statements and appends them to the operator's log."""

    def __init__(self, registry: Registry, own: OwnLog) -> None:
        self._registry = registry
        self._own = own
        self._underway: dict[bytes, asyncio.Future[int]] = {}
        self._turns: dict[tuple[type, bytes], tuple[asyncio.Lock, int]] = {}
        "By what quotas count: who comes at the same time comes one after another; and how many have come."

    async def accept(self, data: bytes) -> bool:
        """Carry a statement; False if it is carried already. Raises `SenderError`s."""
        key = statement_id(data)
        if key in self._registry.vouched.known:
            return False
        if key in self._underway:
            await asyncio.shield(self._underway[key])
            return False
        statement = open_carried(data)
        about = type(statement), statement.mediator if isinstance(statement, Device) else statement.origin_hash
        turn, count = self._turns.get(about, (asyncio.Lock(), 0))
        self._turns[about] = turn, count + 1
        try:
            async with turn:
                return await self._carry(key, data, statement)
        finally:
            turn, count = self._turns.pop(about)
            if count > 1:
                self._turns[about] = turn, count - 1

    async def _carry(self, key: bytes, data: bytes, statement: CarriedStatement) -> bool:
        if key in self._registry.vouched.known:
            return False
        match statement:
            case Device():
                self._check_device(statement)
            case Close():
                self._check_close(statement)
            case Evidence() | ForkRevocation():
                self._check_fork(statement)
        durable = asyncio.ensure_future(self._own.append(Carried(data).encode()))
        self._underway[key] = durable
        try:
            await asyncio.shield(durable)
        finally:
            del self._underway[key]
        self._registry.carry(data)
        return True

    def _check_root(self, mediator: bytes, root: bytes) -> None:
        if root not in self._registry.standing_roots(mediator):
            raise RefusedError(
                "no operator admits this root key for this mediator; ask an operator for `peewit operator admit`"
            )

    def _check_device(self, device: Device) -> None:
        self._check_root(device.mediator, device.root)
        granted = self._registry.admissions[device.mediator].quotas(self._registry.constitution)[0]
        known = self._registry.vouched.devices.get(device.mediator, {})
        if device.origin_hash not in known and len(known) >= granted:
            raise QuotaError(f"the mediator has {len(known)} devices, and operators grant {granted}")
        if len(self._registry.vouched.devices.get(device.mediator, {}).get(device.origin_hash, {})) >= CLOSES_MAX:
            raise QuotaError(f"there are {CLOSES_MAX} statements of this device already")

    def _check_close(self, close: Close) -> None:
        self._check_root(close.mediator, close.root)
        if close.origin_hash not in self._registry.vouched.devices.get(close.mediator, {}):
            raise UnknownError("the mediator that closes has no device with this log")
        held = self._registry.vouched.closes.get((close.mediator, close.origin_hash), {}).get(close.root)
        if held is not None and (held.size, held.root_hash) <= (close.size, close.root_hash):
            raise RefusedError(f"the log is already closed at {held.size}; only a smaller close can follow")
        name = close.mediator, close.origin_hash, close.root
        said = sum((c.mediator, c.origin_hash, c.root) == name for c in self._registry.vouched.close_bytes)
        if said >= CLOSES_MAX:
            raise QuotaError(f"this log was closed {CLOSES_MAX} times already")
        limit = self._registry.admissions[close.mediator].quotas(self._registry.constitution)[1]
        if close.size > limit:
            raise RefusedError(f"a close at {close.size} entries; this mediator's logs end at {limit}")

    def _check_fork(self, statement: Evidence | ForkRevocation) -> None:
        vouched = self._registry.vouched
        if self._registry.mirrors(statement.origin_hash) is None:
            raise UnknownError("the log is not one of a mediator that counts")
        if isinstance(statement, Evidence):
            if statement.origin_hash in vouched.evidence:
                raise RefusedError("there is evidence against this log already")
            return
        if statement.origin_hash not in vouched.evidence:
            raise RefusedError("there is no evidence that this log forked; hand it in first")
        if len(vouched.fork_revocations.get(statement.origin_hash, {})) >= FORK_REVOCATIONS_MAX:
            raise QuotaError(f"{FORK_REVOCATIONS_MAX} revocations of this log's branches are carried already")
