"""The operator's own log: what this node says under its operator's key.

Rules kept here: one task writes it; entries that wait share one head; after a head the next is not signed
before a quorum has cosigned it or ten seconds have passed; whoever appends is answered when the entries are
durable. Before the first head of a life the log must be as long as anyone has ever seen it (`restored`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import Checkpoint, log_key, sign_checkpoint
from peewit_federation.log.merkle import leaf_hash
from peewit_federation.statements.kinds import OPERATOR_KINDS, check_entry
from peewit_node.logs import Logs
from peewit_node.stored_log import Log

RETRY_S = 0.1


class OwnLog:
    """Appends to the operator's log."""

    def __init__(self, logs: Logs, key: SigningKey, pause_s: float, promise: Callable[[int], None]) -> None:
        """`promise` is told, outside the database, how long the log is about to be: a backup does not know."""
        self._logs = logs
        self._promise = promise
        self._key = key
        self._pause_s = pause_s
        self._waiting: list[tuple[Sequence[bytes], asyncio.Future[int]]] = []
        self._wake = asyncio.Event()
        self.quorum = asyncio.Event()
        "Set whenever a quorum of this log completes."
        self.confirmed = asyncio.Event()
        "Set when this log is known to be as long as anyone has ever seen it."
        self.log: Log

    async def open(self) -> None:
        """Make or find the log."""
        self.log = await self._logs.ensure(log_key(self._key.public))

    async def append(self, *entries: bytes) -> int:
        """Append entries; the index of the first, once they are durable."""
        for entry in entries:
            check_entry(entry, OPERATOR_KINDS)
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, done))
        self._wake.set()
        return await done

    async def run(self) -> None:
        """Write for ever."""
        await self.confirmed.wait()
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            if batch:
                await self._write(batch)
                await self._wait_for_quorum()

    async def _write(self, batch: list[tuple[Sequence[bytes], asyncio.Future[int]]]) -> None:
        while self.log.stored != self.log.size:  # noqa: ASYNC110
            # Somebody showed us a longer version of our own log; it is being fetched.
            await asyncio.sleep(RETRY_S)
        async with self.log.lock:
            if self.log.stored != self.log.size:
                self._waiting.extend(batch)
                self._wake.set()
                return
            entries = [entry for part, _ in batch for entry in part]
            tree, at = self.log.range.copy(), self.log.stored
            tree.extend(map(leaf_hash, entries))
            head = sign_checkpoint(Checkpoint(self.log.key.name, tree.size, tree.root()), self._key)
            try:
                self._promise(tree.size)
                await self._logs.extend(self.log, entries=entries, head=head)
            except Exception as error:
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                return
        for part, done in batch:
            if not done.done():
                done.set_result(at)
            at += len(part)

    async def _wait_for_quorum(self) -> None:
        try:
            async with asyncio.timeout(self._pause_s):
                while self.log.quorum is None or self.log.quorum.size < self.log.size:
                    self.quorum.clear()
                    await self.quorum.wait()
        except TimeoutError:
            return
