"""The power goes at any moment of any write: nothing that was acknowledged is lost, and nothing is half there."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from peewit_federation.log.checkpoint import log_key
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_node.engine import Row, StorageError, Write
from peewit_node.logs import Logs
from tests.node.power_loss import Disk, PoweredFile
from tests.node.test_storage import KEY, POLICY, head_of

RUNS = 300
WIDE = [b"entry %d " % n + bytes(200) for n in range(700)]


class Engine:
    """The store without threads."""

    def __init__(self, path: Path, disk: Disk, synchronous: str) -> None:
        self.file = PoweredFile(path, disk, synchronous)

    async def fetch(self, sql: str, *parameters: Any) -> list[Row]:
        return self.file.fetch(sql, parameters)

    async def look(self, sql: str, *parameters: Any) -> list[Row]:
        return self.file.fetch(sql, parameters)

    async def size_bytes(self) -> int:
        return self.file.size_bytes()

    async def scrub(self) -> None:
        self.file.scrub()

    async def write(self, *writes: Write) -> None:
        (outcome,) = self.file.write_and_commit([writes])
        if outcome is not None:
            raise outcome

    async def close(self) -> None:
        self.file.close()


async def grow(path: Path, disk: Disk, synchronous: str, random: Random, steps: int) -> int:
    """Append until the power goes, or `steps` times: how many entries were acknowledged."""
    acknowledged = 0
    try:
        engine = Engine(path, disk, synchronous)
    except StorageError:
        return -1  # it went before there was a store
    logs = Logs(engine, lambda: POLICY, lambda _: None, lambda _log, _whole: None)
    try:
        await logs.load()
        log = await logs.ensure(log_key(KEY.public))
        acknowledged = log.size
        for _ in range(steps):
            size = min(len(WIDE), log.size + random.choice((1, 1, 1, 5, 60, 300)))
            if size == log.size:
                break
            await logs.extend(log, entries=WIDE[log.size : size], head=head_of(WIDE[:size]))
            acknowledged = size
    except StorageError:
        pass
    finally:
        await engine.close()
    return acknowledged


async def after_power_loss(path: Path, seed: int, synchronous: str) -> tuple[int, int]:
    """One run: entries acknowledged, and entries that are there (-1 if the database is damaged)."""
    random = Random(seed)
    disk = Disk(seed)
    acknowledged = 0
    for _ in range(random.randrange(1, 4)):
        disk.dies_at = disk.operations + random.randrange(1, 340)
        acknowledged = max(acknowledged, await grow(path, disk, synchronous, random, 40))
        disk.lose_power()
    try:
        engine = Engine(path, disk, synchronous)
        (check,) = engine.file.fetch("PRAGMA integrity_check", ())
        logs = Logs(engine, lambda: POLICY, lambda _: None, lambda _log, _whole: None)
        await logs.load()
        log = await logs.ensure(log_key(KEY.public))
        assert check == ("ok",)
        found = [e for start in range(0, log.size, 256) for e in await logs.entries(log, start, log.size)]
        assert found == WIDE[: log.size]
        assert log.range.root() == root_of(map(leaf_hash, WIDE[: log.size]))
        if log.head is not None:
            assert log.head.root == log.range.root()
    except (StorageError, AssertionError):
        return acknowledged, -1
    await engine.close()
    return acknowledged, log.size


async def test_nothing_acknowledged_is_lost_when_the_power_goes_at_any_moment(tmp_path: Path) -> None:
    worked = 0
    for seed in range(RUNS):
        path = tmp_path / f"{seed}.sqlite"
        acknowledged, found = await after_power_loss(path, seed, "FULL")
        assert found >= acknowledged, f"run {seed}: {acknowledged} entries acknowledged, {found} there"
        worked += acknowledged > 0
    assert worked > RUNS / 2, "most runs acknowledge something before the power goes"


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
async def test_the_simulated_disk_does_lose_what_is_not_synced(tmp_path: Path, synchronous: str) -> None:
    """The control: with less syncing the same runs lose what was acknowledged."""
    outcomes = [await after_power_loss(tmp_path / f"{seed}.sqlite", seed, synchronous) for seed in range(60)]
    assert sum(found < acknowledged for acknowledged, found in outcomes) > 10, outcomes
