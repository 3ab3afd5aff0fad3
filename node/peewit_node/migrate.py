"""Bringing a database to this program's version: numbered SQL files, each in one transaction.

Rules kept here: before a migration the file is copied beside itself (`NAME.before-0002`); a migration that
is cut short leaves the old version; a database that is newer than the program is refused.
"""

from __future__ import annotations

import sqlite3
from importlib.resources import files
from pathlib import Path
from typing import Final

from peewit_node.engine import StorageError

COPIES_S: Final = 7 * 86_400


def migrations() -> list[tuple[int, str]]:
    """All of them, in order: number and SQL."""
    found = [entry for entry in files("peewit_node").joinpath("schema").iterdir() if entry.name.endswith(".sql")]
    return sorted((int(entry.name[:4]), entry.read_text(encoding="utf-8")) for entry in found)


def migrate(database: sqlite3.Connection, path: Path, steps: list[tuple[int, str]] | None = None) -> None:
    """Run what is missing."""
    steps = migrations() if steps is None else steps
    database.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY)")
    (version,) = database.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchone()
    newest, before = steps[-1][0], version
    if version > newest:
        raise StorageError(
            f"{path} was written by a newer program (version {version}; this one knows {newest}). "
            f"Install that program, or restore {path.name}.before-{newest + 1:04d}"
        )
    for number, sql in steps:
        if number > version:
            if before:
                _copy(database, path.with_name(f"{path.name}.before-{number:04d}"))
            _run(database, number, sql)


def drop_copies(path: Path, now_s: float) -> None:
    """Delete copies from before a migration that are older than a week: what was deleted since is in them."""
    for copy in path.parent.glob(f"{path.name}.before-*"):
        if copy.stat().st_mtime < now_s - COPIES_S:
            copy.unlink()


def _run(database: sqlite3.Connection, number: int, sql: str) -> None:
    lines = (line.split("--", 1)[0] for line in sql.splitlines())
    database.execute("BEGIN IMMEDIATE")
    try:
        for statement in "\n".join(lines).split(";"):
            if statement.strip():
                database.execute(statement)
        database.execute("INSERT INTO migrations VALUES (?)", (number,))
        database.execute("COMMIT")
    except sqlite3.Error as error:
        database.execute("ROLLBACK")
        raise StorageError(f"migration {number} failed and was undone: {error}") from error


def _copy(database: sqlite3.Connection, path: Path) -> None:
    path.unlink(missing_ok=True)  # of a migration that was cut short
    database.execute("VACUUM INTO ?", (str(path),))
