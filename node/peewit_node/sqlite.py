"""The embedded engine: SQLite in WAL mode, one connection that writes, one that only reads.

Rules kept here: `synchronous=FULL`, because only that keeps acknowledged rows over a power loss; only the
writing connection checkpoints (a reader that does can corrupt files under SQLite before 3.51.3); writers
that wait share one commit; a second process is refused. A failed fsync is fatal, for the rows may or may
not be there. `SqliteFile` does the work without threads; `SqliteEngine` moves it off the event loop.
"""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import structlog

from peewit_node.engine import Row, StorageError, StorageFullError, Write, WriteConflictError
from peewit_node.migrate import migrate

COMMIT_WRITES_MAX: Final = 4000
GATHER_TURNS: Final = 4
"Of the loop, before a commit: each wakes a thread and waits for the disk, so it should be of many."
INLINE_BYTES_MAX: Final = 256 * 1024
T = TypeVar("T")
logger = structlog.get_logger("peewit.storage")


class SqliteFile:
    """A database file with its lock, its writing connection and its reading one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.parent.is_dir():
            raise StorageError(f"{path.parent}: no such directory; make it with `peewit node init`")
        self._lock = _take_lock(path)
        try:
            self._writer = self._open_writer()
            self._reader = self._connect("ro")
            self._looker = self._connect("ro")
        except BaseException:
            self._lock.close()
            raise

    def _open_writer(self) -> sqlite3.Connection:
        writer = self._connect("rwc")
        try:
            writer.execute("PRAGMA journal_mode=WAL")
            writer.execute("PRAGMA synchronous=FULL")
            writer.execute("PRAGMA wal_autocheckpoint=4000")
            writer.execute("PRAGMA secure_delete=ON")
            migrate(writer, self.path)
        except sqlite3.Error as error:
            writer.close()
            raise StorageError(f"{self.path}: {error}") from error
        except StorageError:
            writer.close()
            raise
        return writer

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"  # a name may have signs that mean something in one
        try:
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA busy_timeout=5000")
        except sqlite3.Error as error:
            raise StorageError(f"cannot open the database: {error}") from error
        return connection

    def fetch(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        """The rows of a query, from the reading connection. Raises `StorageError`."""
        try:
            return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise StorageError(f"the database: {error}") from error

    def size_bytes(self) -> int:
        """Pages that are in use. Raises `StorageError`."""
        about = ("page_count", "freelist_count", "page_size")
        pages, free, size = (int(self.look(f"PRAGMA {what}", ())[0][0]) for what in about)
        return (pages - free) * size

    def look(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        """The same from a connection of its own, which nobody else keeps busy."""
        try:
            return self._looker.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise StorageError(f"the database: {error}") from error

    def write(self, batch: Sequence[Sequence[Write]]) -> list[Exception | None]:
        """Do several lists in one transaction, which stays open: what became of each. Raises `StorageError`."""
        return self._guarded(lambda: self._together(batch) or self._one_by_one(batch))

    def commit(self) -> None:
        """Make what was written durable. Raises `StorageError` if it is not."""
        self._guarded(lambda: self._writer.execute("COMMIT"))

    def scrub(self) -> None:
        """Move what was committed from the log to the file, where deleted bytes are overwritten, and empty the log."""
        self._guarded(lambda: self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())

    def write_and_commit(self, batch: Sequence[Sequence[Write]]) -> list[Exception | None]:
        """Both."""
        outcomes = self.write(batch)
        self.commit()
        return outcomes

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            full = isinstance(error, sqlite3.OperationalError) and "full" in str(error)
            raise (StorageFullError if full else StorageError)(f"the database: {error}") from error

    def _together(self, batch: Sequence[Sequence[Write]]) -> list[Exception | None] | None:
        """Write all lists; None, with nothing written, if one of them conflicts (which is rare)."""
        self._writer.execute("BEGIN IMMEDIATE")
        for writes in batch:
            if self._one(writes):
                self._writer.execute("ROLLBACK")
                return None
        return [None] * len(batch)

    def _one_by_one(self, batch: Sequence[Sequence[Write]]) -> list[Exception | None]:
        """Write the lists that do not conflict, and say which did."""
        outcomes: list[Exception | None] = []
        self._writer.execute("BEGIN IMMEDIATE")
        for writes in batch:
            self._writer.execute("SAVEPOINT one")
            conflict = self._one(writes)
            if conflict:
                self._writer.execute("ROLLBACK TO one")
            self._writer.execute("RELEASE one")
            outcomes.append(conflict)
        return outcomes

    def _one(self, writes: Sequence[Write]) -> WriteConflictError | None:
        try:
            for (sql, rows), group in groupby(writes, key=lambda write: (write.sql, write.rows)):
                if rows is None:
                    self._writer.executemany(sql, [write.parameters for write in group])
                elif any(self._writer.execute(sql, write.parameters).rowcount != rows for write in group):
                    return WriteConflictError("something else was written first")
        except (sqlite3.IntegrityError, OverflowError) as error:
            return WriteConflictError(f"it does not fit what is stored: {error}")
        return None

    def close(self) -> None:
        self._looker.close()
        self._reader.close()
        self._writer.close()
        self._lock.close()


def _take_lock(path: Path) -> IO[bytes]:
    lock = path.with_name(path.name + ".lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StorageError(f"another process already uses {path}; only one node may run on a database") from None
    return lock


class SqliteEngine:
    """`SqliteFile` on two threads, one for writing and one for reading."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path)
        self._writing = ThreadPoolExecutor(1, "peewit-write")
        self._reading = ThreadPoolExecutor(1, "peewit-read")
        self._waiting: list[tuple[Sequence[Write], asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None
        self._broken: StorageError | None = None
        self._scrub = False
        self.broken = asyncio.Event()
        "Set once the database can no longer be relied on."

    async def fetch(self, sql: str, *parameters: Any) -> list[Row]:
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._file.fetch, sql, parameters)

    async def look(self, sql: str, *parameters: Any) -> list[Row]:
        # Going to another thread and back costs ten times what it takes.
        return self._file.look(sql, parameters)

    async def size_bytes(self) -> int:
        return self._file.size_bytes()

    async def write(self, *writes: Write) -> None:
        if self._broken:
            raise self._broken
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((writes, done))
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit_all())
        await done

    async def scrub(self) -> None:
        self._scrub = True
        await self.write()

    async def _commit_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            for _ in range(GATHER_TURNS):
                await asyncio.sleep(0)  # whoever is about to write shares this commit
            batch, self._waiting = self._take(self._waiting)
            lists = [writes for writes, _ in batch]
            try:
                outcomes = await self._durably(loop, lists)
                if self._scrub:
                    self._scrub = False
                    await loop.run_in_executor(self._writing, self._file.scrub)
            except Exception as reason:
                error = reason if isinstance(reason, StorageError) else StorageError(f"the database: {reason!r}")
                if not isinstance(error, StorageFullError):
                    logger.critical("the database failed; the node must be restarted", reason=str(error))
                    self._broken = error
                    self.broken.set()
                outcomes = [error] * len(batch)
            for (_, done), outcome in zip(batch, outcomes, strict=True):
                if done.cancelled():
                    continue
                if outcome is None:
                    done.set_result(None)
                else:
                    done.set_exception(outcome)

    async def _durably(self, loop: asyncio.AbstractEventLoop, lists: list[Sequence[Write]]) -> list[Exception | None]:
        """Write and commit. What is large goes to the thread whole; of what is small only the commit does.

        A statement takes microseconds, but a thread that is done with one waits for the interpreter's lock, behind
        an event loop that is busy, for milliseconds. The commit, which waits for the disk, is worth that.
        """
        if sum(map(_size_bytes, lists)) > INLINE_BYTES_MAX:
            return await loop.run_in_executor(self._writing, self._file.write_and_commit, lists)
        outcomes = self._file.write(lists)
        await loop.run_in_executor(self._writing, self._file.commit)
        return outcomes

    @staticmethod
    def _take(waiting: list[Any]) -> tuple[list[Any], list[Any]]:
        count = end = 0
        for writes, _ in waiting:
            end += 1
            count += len(writes)
            if count >= COMMIT_WRITES_MAX:
                break
        return waiting[:end], waiting[end:]

    async def close(self) -> None:
        if self._committer is not None:
            await self._committer
        self._writing.shutdown()
        self._reading.shutdown()
        self._file.close()


def _size_bytes(writes: Sequence[Write]) -> int:
    size = 0
    for write in writes:
        if write.large:
            return INLINE_BYTES_MAX + 1
        for value in write.parameters:
            if type(value) is bytes:
                size += len(value)
    return size
