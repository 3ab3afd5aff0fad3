"""The node's database on a simulated disk: the real `SqliteFile` without threads, with a delay at every call.

Rules kept here: races that threads and disks cause can happen here too, because every call waits a while, before
and after its commit; a crash closes the file as the operating system would, so that what was not committed is
gone; nothing of a life that is over reaches the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from peewit_node.engine import Row, StorageFullError, Write
from peewit_node.sqlite import SqliteFile
from peewit_simulation.kernel.host import CrashedError, Host

SYNC_S: Final = 0.002
"Mean time of a commit."


class SimEngine:
    """An engine for one life of a node."""

    def __init__(self, host: Host, path: Path) -> None:
        self._host = host
        self._life = host.life
        self._file = SqliteFile(path)
        self._random = host.world.stream("disk", host.name, host.life)
        self._lock = asyncio.Lock()
        self._open = True
        self.full = False
        self.watchers: list[Callable[[Sequence[Write]], None]] = []
        "See what became durable."
        host.at_crash.append(self._shut)

    def _fence(self) -> None:
        if self._host.life != self._life or not self._host.alive:
            raise CrashedError("this life is over")

    async def fetch(self, sql: str, *parameters: Any) -> list[Row]:
        await asyncio.sleep(0)
        self._fence()
        return self._file.fetch(sql, parameters)

    async def look(self, sql: str, *parameters: Any) -> list[Row]:
        return await self.fetch(sql, *parameters)

    async def size_bytes(self) -> int:
        self._fence()
        return self._file.size_bytes()

    async def write(self, *writes: Write) -> None:
        async with self._lock:
            await asyncio.sleep(self._random.expovariate(2 / SYNC_S))
            self._fence()
            if self.full:
                raise StorageFullError("the database: the disk is full")
            self._commit(writes)
            await asyncio.sleep(self._random.expovariate(2 / SYNC_S))

    def _commit(self, writes: Sequence[Write]) -> None:
        (outcome,) = self._file.write_and_commit([writes])
        if outcome is not None:
            raise outcome
        for watch in self.watchers:
            watch(writes)

    async def scrub(self) -> None:
        async with self._lock:
            self._fence()
            self._file.scrub()

    async def close(self) -> None:
        self._shut()

    def _shut(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(sqlite3.Error):
                self._file.close()
