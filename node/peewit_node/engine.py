"""The seam to the database: a few calls that every engine has, and nothing more.

Rules kept here: a write is a list of statements that happen together or not at all; when `write` returns,
they are durable; many writers share one commit. A statement may say how many rows it must touch; if it
touches others, the whole list is undone and `WriteConflictError` is raised. SQL is written once, with `?` for
parameters, in the dialect that SQLite and PostgreSQL share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Write:
    """One statement and its parameters."""

    sql: str
    parameters: tuple[Any, ...] = ()
    rows: int | None = None
    "How many rows it must touch."
    large: bool = False
    "Whether it may touch very many."


class StorageError(Exception):
    """The database cannot be used: its disk, its version, or another process that holds it."""


class StorageFullError(StorageError):
    """There is no room left; reading goes on."""


class WriteConflictError(Exception):
    """Something else was written first; nothing of this write happened."""


class Engine(Protocol):
    """A database."""

    async def fetch(self, sql: str, *parameters: Any) -> list[Row]:
        """The rows of a query."""
        ...

    async def look(self, sql: str, *parameters: Any) -> list[Row]:
        """The rows of a query that an index answers in microseconds: a few rows, found by their key."""
        ...

    async def write(self, *writes: Write) -> None:
        """Do all of it durably, or nothing."""
        ...

    async def size_bytes(self) -> int:
        """About how much is kept."""
        ...

    async def scrub(self) -> None:
        """Have what was deleted gone from the files, too."""
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the database."""
        ...
