"""A device's log as it lies on its disk: what anybody may read of the device's folder, without its key or passphrase.

Rules kept here: reading only; what a device keeps to itself, and writing, is `device_state`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final, Self

from peewit_federation.errors import OperatorError, SenderError
from peewit_federation.log.checkpoint import Head, log_key, open_head
from peewit_federation.statements.carried import Device, open_carried

DATABASE: Final = "device.sqlite"


class DeviceFile:
    """The part of a device's file that is its log."""

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        self.folder = folder
        self._database = database

    @classmethod
    def look(cls, folder: Path) -> Self:
        """Open a file to read it, also while its device works. Raises `OperatorError`."""
        try:
            return cls(folder, sqlite3.connect((folder / DATABASE).absolute().as_uri() + "?mode=ro", uri=True))
        except sqlite3.Error as error:
            raise OperatorError(f"{folder / DATABASE}: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others open it."""
        self._database.close()

    def fact(self, name: str) -> bytes:
        """What is kept under a name. Raises `OperatorError`."""
        try:
            rows = self._database.execute("SELECT body FROM facts WHERE name = ?", (name,)).fetchall()
        except sqlite3.Error as error:
            raise OperatorError(f"{self.folder / DATABASE} is damaged: {error}") from None
        if not rows:
            raise OperatorError(f"{self.folder / DATABASE} is damaged: {name} is missing")
        body: bytes = rows[0][0]
        return body

    @property
    def device(self) -> bytes:
        """The carried device statement."""
        return self.fact("device")

    @property
    def log(self) -> bytes:
        """The public key of its log, 32 bytes. Raises `OperatorError`."""
        try:
            device = open_carried(self.device)
        except SenderError as error:
            raise OperatorError(f"{self.folder / DATABASE} is damaged: {error}") from None
        if not isinstance(device, Device):
            raise OperatorError(f"{self.folder / DATABASE} is damaged: it has no device statement")
        return device.log_key

    @property
    def size(self) -> int:
        """Entries in the log."""
        (size,) = self._database.execute("SELECT count(*) FROM entries").fetchone()
        return int(size)

    def entries(self, start: int = 0, end: int | None = None) -> list[bytes]:
        """Entries of the log."""
        last = (1 << 62) if end is None else end
        query = "SELECT entry FROM entries WHERE place >= ? AND place < ? ORDER BY place"
        return [row[0] for row in self._database.execute(query, (start, last))]

    def head(self) -> Head | None:
        """The newest head that this device signed, or took over from nodes."""
        rows = self._database.execute("SELECT note FROM heads ORDER BY size DESC LIMIT 1").fetchall()
        return open_head(rows[0][0], log_key(self.log), {}) if rows else None

    def head_after(self, size: int) -> Head | None:
        """The smallest stored head that is larger than `size`."""
        query = "SELECT note FROM heads WHERE size > ? ORDER BY size LIMIT 1"
        rows = self._database.execute(query, (size,)).fetchall()
        return open_head(rows[0][0], log_key(self.log), {}) if rows else None
