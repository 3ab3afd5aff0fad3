"""The database of a node: its name, its age, its room, and who shares a commit."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from pathlib import Path

import pytest

from peewit_node.engine import StorageError, StorageFullError, Write, WriteConflictError
from peewit_node.migrate import drop_copies, migrate, migrations
from peewit_node.setup import init_node
from peewit_node.sqlite import SqliteEngine, SqliteFile


@pytest.mark.parametrize("name", ["n#1", "n?mode=memory", "n%20x", "n ä"])
async def test_a_folder_may_have_any_name_and_two_are_two(tmp_path: Path, name: str) -> None:
    for number, folder in enumerate((tmp_path / name, tmp_path / (name + "2"))):
        init_node(
            folder,
            "north",
            "https://north.example",
            "127.0.0.1:1",
            (),
            "c.toml",
            tuple(map(bytes, [[number] * 32] * 3)),
        )
        assert (folder / "node.sqlite").is_file()
        assert folder.stat().st_mode & 0o077 == 0
        SqliteFile(folder / "node.sqlite").close()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, name + "2"])


def test_a_newer_database_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    SqliteFile(path).close()
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO migrations VALUES (99)")
    database.close()
    with pytest.raises(StorageError, match="newer program"):
        SqliteFile(path)


def test_a_migration_backs_up_before_it_and_one_that_fails_leaves_the_old_version(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    SqliteFile(path).close()
    database = sqlite3.connect(path, isolation_level=None)
    number = migrations()[-1][0] + 1
    steps = [*migrations(), (number, "CREATE TABLE more (x INTEGER); INSERT INTO more VALUES (1); NONSENSE")]
    with pytest.raises(StorageError, match="was undone"):
        migrate(database, path, steps)
    tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
    assert "more" not in tables
    assert (tmp_path / f"node.sqlite.before-{number:04d}").exists()
    better = "CREATE TABLE more (x INTEGER); -- fine\nINSERT INTO more VALUES (1)"
    migrate(database, path, [*migrations(), (number, better)])
    assert database.execute("SELECT x FROM more").fetchall() == [(1,)]
    database.close()


def test_a_database_of_an_older_program_is_brought_up_and_kept_beside(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    old = sqlite3.connect(path, isolation_level=None)
    migrate(old, path, migrations()[:1])
    old.execute("INSERT INTO facts VALUES ('kept', x'01')")
    old.close()
    file = SqliteFile(path)
    assert file.fetch("SELECT body FROM facts", ()) == [(b"\x01",)]
    assert file.fetch("SELECT count(*) FROM codes", ()) == [(0,)]
    file.close()
    with sqlite3.connect(tmp_path / "node.sqlite.before-0002") as before:
        assert before.execute("SELECT max(number) FROM migrations").fetchone() == (1,)
        assert before.execute("SELECT body FROM facts").fetchone() == (b"\x01",)
    before.close()
    drop_copies(path, time.time())
    assert (tmp_path / "node.sqlite.before-0002").exists()
    drop_copies(path, time.time() + 8 * 86_400)
    assert list(tmp_path.glob("*.before-*")) == [], "what the node deleted is not kept for ever beside it"


async def test_writers_share_commits_and_a_conflict_undoes_only_its_own(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "x.sqlite")
    put = "INSERT INTO facts VALUES (?, ?)"

    async def one(number: int) -> str:
        try:
            guard = Write(
                "UPDATE facts SET body = body WHERE name = ?", (f"{number - 1}",), rows=1 if number % 3 == 2 else None
            )
            await engine.write(Write(put, (str(number), b"")), guard)
        except WriteConflictError:
            return "conflict"
        return "stored"

    await engine.write(Write(put, ("-1", b"")))
    outcomes = await asyncio.gather(*(one(n) for n in range(200)), one(5), one(7))
    rows = {row[0] for row in await engine.fetch("SELECT name FROM facts")}
    assert outcomes[200:] == ["conflict", "conflict"], "the same name twice"
    assert rows == {"-1", *(str(n) for n in range(200) if outcomes[n] == "stored")}
    assert not engine.broken.is_set()
    await engine.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of limited size needs root")
async def test_a_full_disk_sheds_writes_reads_go_on_and_it_recovers(tmp_path: Path) -> None:
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        engine = SqliteEngine(small / "x.sqlite")
        put = "INSERT INTO facts VALUES (?, ?)"
        stored = 0
        with pytest.raises(StorageFullError):
            for number in range(1000):
                await engine.write(Write(put, (str(number), bytes(20_000))))
                stored += 1
        assert len(await engine.fetch("SELECT name FROM facts")) == stored > 3
        assert not engine.broken.is_set()
        await engine.close()
        subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        engine = SqliteEngine(small / "x.sqlite")
        await engine.write(Write(put, ("again", b"")))
        assert len(await engine.fetch("SELECT name FROM facts")) == stored + 1
        await engine.close()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)
