"""A log's owner brings entries and a checkpoint (design 4.3): checked, stored, cosigned, in this order.

Rules kept here: nothing is accepted but what extends the stored log to the signed root; an append that
was accepted before is answered again, without harm; a head that contradicts a stored one is kept as
evidence before it is refused. Errors say which size the node has, so that the owner can go on from there.
"""

from __future__ import annotations

from peewit_federation.api import Append
from peewit_federation.errors import (
    ConflictError,
    ForgeryError,
    MalformedError,
    QuotaError,
    RefusedError,
    SenderError,
    UnknownError,
)
from peewit_federation.log.checkpoint import Head, log_key, open_head
from peewit_federation.log.follow import HistoryError
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.log.proofs import consistency_proof, leaf_source
from peewit_federation.registry.fold import Registry
from peewit_federation.statements.kinds import MEDIATOR_KINDS, check_entry
from peewit_node.carry import Carrier
from peewit_node.checking.jobs import APPEND
from peewit_node.forks import Forks
from peewit_node.logs import Logs
from peewit_node.node_state import NodeState
from peewit_node.stored_log import Log


class Appender:
    """Takes appends to devices' logs."""

    def __init__(self, state: NodeState, logs: Logs, registry: Registry, carrier: Carrier, forks: Forks) -> None:
        self._state = state
        self._logs = logs
        self._registry = registry
        self._carrier = carrier
        self._forks = forks

    async def accept(self, origin: bytes, data: bytes) -> bytes:
        """The receipt for an `Append`: the newest checkpoint with our cosignature. Raises `SenderError`s."""
        log, limit = await self._log(origin, data)
        append = await self._state.machine.check(APPEND, data, log.key.public.raw)
        head, entries = append.head, append.entries
        if append.note:
            head = open_head(append.note, log.key, self._state.charter.policy.witness_keys)
        if head.size > limit:
            raise QuotaError(f"a log of {head.size} entries; operators grant this mediator's devices {limit}")
        if head.size == 0 or append.old_size + len(entries) != head.size:
            raise MalformedError(f"{len(entries)} entries from {append.old_size} on do not make {head.size}")
        if log.forked and (close := self._forks.picked(log, head)):
            await self._forks.fill(log, close, append.old_size, entries)
            return head.encode()
        async with log.lock:
            if log.forked:
                raise ConflictError("this log has forked; its mediator must close it and use another", log.size)
            if head.size > log.size and head.size <= log.stored:
                # Its entries came by mirroring a longer head that is not complete yet.
                if await self._logs.root_at(log, head.size) != head.root:
                    raise ConflictError("this node is fetching another history of this log", log.size)
                await self._logs.extend(log, head=head, pending=log.pending)
            elif head.size > log.size:
                await self._extend(log, head, append.old_size, entries)
            elif await self._logs.root_at(log, head.size) == head.root:
                await self._logs.learn(log, head)
            else:
                await self._contradicts(log, head)
        assert log.head is not None
        return log.head.encode()

    async def _log(self, origin: bytes, data: bytes) -> tuple[Log, int]:
        """A log that somebody vouches for, if only in the append itself, and how many entries it may have."""
        if origin in self._registry.operators:
            raise RefusedError("only its own node appends to an operator's log")
        limit = self._registry.mirrors(origin)
        if limit is not None and (log := self._logs.get(origin)):
            return log, limit
        if limit is None and (device := Append.decode(data).device):
            await self._carrier.accept(device)
        statement = self._registry.vouched.device(origin)
        limit = self._registry.mirrors(origin)
        if statement is None or limit is None:
            raise UnknownError("no mediator that counts vouches for this log; send its device statement along")
        return await self._logs.ensure(log_key(statement.log_key)), limit

    async def _extend(self, log: Log, head: Head, old_size: int, entries: list[bytes]) -> None:
        if old_size > log.stored:
            raise ConflictError(f"entries from {old_size} on, but this node has {log.stored}", log.stored)
        fresh = entries[log.stored - old_size :] if log.stored >= old_size else entries
        for number, entry in enumerate(fresh, log.stored):
            try:
                _check(entry)
            except SenderError as error:
                raise MalformedError(f"entry {number}: {error}") from None
        edge = (await self._logs.edge(log)).copy()
        edge.append(fresh, [leaf_hash(entry) for entry in fresh])
        if edge.size != head.size or edge.range.root() != head.root:
            if old_size == 0:
                await self._other_history(log, head, entries)
            raise ForgeryError(
                f"the root of the checkpoint is not that of the entries, which this node has to {log.stored}"
            )
        await self._logs.adopt(log, edge, head)

    async def _other_history(self, log: Log, head: Head, entries: list[bytes]) -> None:
        leaves = [leaf_hash(entry) for entry in entries]
        if log.head is None or root_of(leaves) != head.root:
            return
        path = consistency_proof(log.size, head.size, leaf_source(leaves))
        self._state.spawn(self._forks.longer(log, head, HistoryError(log.size, root_of(leaves[: log.size]), path)))
        raise ConflictError("this checkpoint contradicts an earlier one of its log; the evidence is kept", log.size)

    async def _contradicts(self, log: Log, head: Head) -> None:
        # Not awaited: proving says it in our own log, which may wait for others, and the log is locked here.
        if head.size == log.size:
            self._state.spawn(self._forks.same_size(log, head))
        else:
            self._state.spawn(self._shorter(log, head))
        raise ConflictError("this checkpoint contradicts an earlier one of its log; the evidence is kept", log.size)

    async def _shorter(self, log: Log, head: Head) -> None:
        await self._forks.shorter(log, head)


def _check(entry: bytes) -> None:
    check_entry(entry, MEDIATOR_KINDS)
