"""A disk that loses its power, under the real store: a file system for SQLite (through apsw) in memory.

Rules kept here: what was synced is there; of what was written since, each piece is there, or not, or torn at 512
bytes, and in any order. The power goes at a chosen operation. One connection both reads and writes, because
shared memory is not simulated.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import apsw

from peewit_node.sqlite import SqliteFile

SECTOR = 512
GRAVEYARD: list[apsw.Connection] = []
"Connections of lives that are over: collecting one would close it, and closing writes."


class PowerLossError(Exception):
    """The power is gone."""


class File:
    """One file: what is on the disk, and what programs see."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.seen = bytearray()
        self.unsynced: list[tuple[int, bytes | None]] = []


def put(target: bytearray, offset: int, data: bytes | None) -> None:
    """Write, or with None truncate to `offset`."""
    if data is None:
        del target[offset:]
        return
    if len(target) < offset:
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(data)] = data


class Disk(apsw.VFS):
    """All files. `dies_at` is the number of the operation at which the power goes."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.files: dict[str, File] = {}
        self.operations = 0
        self.dies_at = -1
        self.name = f"power-{seed}-{id(self)}"
        super().__init__(self.name, "unix")

    def tick(self) -> None:
        self.operations += 1
        if 0 < self.dies_at <= self.operations:
            raise PowerLossError

    def excepthook(self, *_: Any) -> None:  # type: ignore[override]
        """What happens after the power is gone is nobody's business."""

    def lose_power(self) -> None:
        """Leave on every file what happened to reach the disk."""
        for file in self.files.values():
            pieces = [piece for piece in file.unsynced if self.random.random() < 0.5]
            if self.random.random() < 0.5:
                self.random.shuffle(pieces)
            for offset, data in pieces:
                if data is not None and len(data) > SECTOR and self.random.random() < 0.3:
                    data = data[: self.random.randrange(len(data) // SECTOR + 1) * SECTOR]
                put(file.durable, offset, data)
            file.seen = bytearray(file.durable)
            file.unsynced = []
        self.dies_at = -1

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802
        path = name if isinstance(name, str) else name.filename() if name else f"temporary-{self.operations}"
        flags[1] = flags[0]
        return Handle(self, self.files.setdefault(path, File()))

    def xDelete(self, path: str, _sync: bool) -> None:  # noqa: N802
        self.tick()
        self.files.pop(path, None)

    def xAccess(self, path: str, _flags: int) -> bool:  # noqa: N802
        return path in self.files

    def xFullPathname(self, path: str) -> str:  # noqa: N802
        return path


class Handle:
    """An open file."""

    def __init__(self, disk: Disk, file: File) -> None:
        self.disk = disk
        self.file = file

    def excepthook(self, *_: Any) -> None:
        """As above."""

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        return bytes(self.file.seen[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self.disk.tick()
        put(self.file.seen, offset, bytes(data))
        self.file.unsynced.append((offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self.disk.tick()
        put(self.file.seen, size, None)
        self.file.unsynced.append((size, None))

    def xSync(self, _flags: int) -> None:  # noqa: N802
        self.disk.tick()
        for offset, data in self.file.unsynced:
            put(self.file.durable, offset, data)
        self.file.unsynced = []

    def xFileSize(self) -> int:  # noqa: N802
        return len(self.file.seen)

    def xLock(self, _level: int) -> None:  # noqa: N802
        pass

    def xUnlock(self, _level: int) -> None:  # noqa: N802
        pass

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return SECTOR

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return 0

    def xFileControl(self, _operation: int, _pointer: int) -> bool:  # noqa: N802
        return False

    def xClose(self) -> None:  # noqa: N802
        pass


class Connection:
    """An apsw connection that looks like one of `sqlite3`."""

    def __init__(self, path: str, disk: Disk, synchronous: str) -> None:
        self._inner = apsw.Connection(path, vfs=disk.name)
        GRAVEYARD.append(self._inner)
        self._synchronous = synchronous
        self._inner.execute("PRAGMA locking_mode=EXCLUSIVE")

    @property
    def in_transaction(self) -> bool:
        return self._inner.in_transaction

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        sql = sql.replace("synchronous=FULL", f"synchronous={self._synchronous}")
        try:
            return Rows(self._inner.execute(sql, tuple(parameters)).fetchall(), self._inner.changes())
        except apsw.ConstraintError as error:
            raise sqlite3.IntegrityError(str(error)) from error
        except (apsw.Error, PowerLossError) as error:
            raise sqlite3.OperationalError(repr(error)) from error

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            self.execute(sql, row)

    def close(self) -> None:
        pass  # the power is gone, or the whole disk is thrown away


class Rows:
    """What a statement gave."""

    def __init__(self, rows: list[Any], count: int) -> None:
        self._rows = rows
        self.rowcount = count

    def fetchall(self) -> list[Any]:
        return self._rows

    def fetchone(self) -> Any:
        return self._rows[0] if self._rows else None


class PoweredFile(SqliteFile):
    """The node's store on such a disk."""

    def __init__(self, path: Path, disk: Disk, synchronous: str) -> None:
        self._disk = disk
        self._synchronous = synchronous
        self._shared: Connection | None = None
        for name in [name for name in disk.files if ".before-" in name]:
            del disk.files[name]  # a migration unlinks it, in the file system of the machine
        super().__init__(path)

    def _connect(self, _mode: str) -> Any:
        if self._shared is None:
            self._shared = Connection(str(self.path), self._disk, self._synchronous)
        return self._shared
