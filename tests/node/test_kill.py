"""Real processes that are killed with `kill -9`: what was acknowledged is there, what was begun goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import aiohttp

from peewit_federation.log.checkpoint import log_key
from peewit_node.migrate import migrate, migrations
from peewit_node.sqlite import SqliteFile
from tests.federation_kit import FAST, Federation, TestMediator, catchment, encode_all, provider, seed
from tests.federation_kit_http import Device, get, until


async def test_nothing_acknowledged_is_lost_when_a_node_is_killed_in_the_middle_of_appends(tmp_path: Path) -> None:
    """A real process, killed while it appends; what it acknowledged is there when it starts again."""
    names = ("north",)
    federation = Federation.make(tmp_path, names, quorum=1)
    mediator = TestMediator("mitte")
    await federation.start()
    await federation.nodes["north"].own.append(mediator.admission("1").encode())
    await until(lambda: mediator.id in federation.nodes["north"].keeper.registry.admissions)
    await federation.stop()
    device = Device.of(mediator)
    area = catchment("area", "10115")
    device.entries = encode_all(area, *(provider(f"p{n}", area) for n in range(400)))
    acknowledged = 0
    for attempt in range(3):
        process = await start_process(tmp_path / "north" / "node.toml", federation.configs["north"].listen)
        await until_ready(federation.url("north"))
        killer = asyncio.create_task(kill_soon(process, 0.15 * (attempt + 1)))
        try:
            while acknowledged < len(device.entries):
                status, _ = await device.publish(
                    federation.url("north"), acknowledged, device.entries[: acknowledged + 1]
                )
                assert status == 200
                acknowledged += 1
        except (OSError, aiohttp.ClientError):
            pass  # killed; what was not acknowledged is sent again
        await killer
    assert acknowledged > 3
    await federation.start()
    log = federation.nodes["north"].logs.get(device.origin)
    assert log is not None
    assert log.size >= acknowledged
    found = [
        e
        for start in range(0, log.size, 256)
        for e in await federation.nodes["north"].logs.entries(log, start, log.size)
    ]
    assert found[:acknowledged] == device.entries[:acknowledged]
    assert log.range.root() == device.head(device.entries[: log.size]).root
    await federation.agree()
    await federation.stop()


async def start_process(config: Path, listen: str) -> asyncio.subprocess.Process:
    text = config.read_text().replace('"127.0.0.1:8100"', f'"{listen}"')
    config.write_text(text + f"interval_s = {FAST.interval_s}\n" if "[limits]" not in text else text)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "peewit_clients.cli", "node", "run", str(config),
        stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "PEEWIT_NODE_LISTEN": listen},
    )  # fmt: skip


async def until_ready(url: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                if (await get(url + "/readyz"))[0] == 200:
                    return
            except OSError:
                pass
            except Exception as error:
                assert type(error).__name__.startswith(("Client", "Server"))
            await asyncio.sleep(0.05)


async def kill_soon(process: asyncio.subprocess.Process, delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    await process.wait()


async def test_a_node_that_is_killed_again_and_again_while_it_mirrors_ends_with_the_whole_log(tmp_path: Path) -> None:
    """100,000 entries are stored piece by piece; each start goes on behind the last piece that was stored."""
    federation = Federation.make(tmp_path, ("north", "west"), quorum=2)
    mediator = TestMediator("mitte")
    await federation.start()
    admission = replace(mediator.admission("1"), quotas=(16, 200_000, 1000))
    for node in federation.nodes.values():
        await node.own.append(admission.encode())
    await federation.agree()
    await federation.stop("west")
    north = federation.nodes["north"]
    device = Device.of(mediator)
    device.entries = [seed("filler", n) for n in range(100_000)]
    await north.carrier.accept(mediator.device())
    log = await north.logs.ensure(log_key(device.key.public))
    async with log.lock:
        await north.logs.extend(log, entries=device.entries, head=device.head())
    database = tmp_path / "west" / "node.sqlite"
    seen = [0]
    while seen[-1] < len(device.entries):
        process = await start_process(tmp_path / "west" / "node.toml", federation.configs["west"].listen)
        async with asyncio.timeout(60):
            while stored(database, device.origin) <= seen[-1]:
                await asyncio.sleep(0.005)
        await kill_soon(process, 0)
        seen.append(stored(database, device.origin))
    assert len(seen) > 3, "it was killed in the middle, more than once"
    await federation.start("west")
    west = federation.nodes["west"]
    await until(lambda: (found := west.logs.get(device.origin)) and found.size == len(device.entries), 60)
    found = west.logs.get(device.origin)
    assert found is not None
    assert found.range.root() == device.head().root
    for start in range(0, found.size, 256):
        assert await west.logs.entries(found, start, start + 256) == device.entries[start : start + 256]
    await federation.stop()


def stored(database: Path, origin: bytes) -> int:
    """How many entries of a log a node's file has."""
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            row = connection.execute("SELECT size FROM logs WHERE origin = ?", (origin,)).fetchone()
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()
    return int(row[0]) if row else 0


OPENS = """
import sys
from pathlib import Path
from peewit_node.sqlite import SqliteFile
print("begins", flush=True)
SqliteFile(Path(sys.argv[1])).close()
"""


def test_a_program_that_is_killed_while_it_brings_an_old_database_up_loses_none_of_it(tmp_path: Path) -> None:
    """At whatever moment: the copy before a migration, its rows, or its end."""
    path, rows = tmp_path / "node.sqlite", 20_000
    old = sqlite3.connect(path, isolation_level=None)
    migrate(old, path, migrations()[:-1])
    old.execute("BEGIN")
    old.executemany(
        "INSERT INTO messages VALUES (?, x'01', x'02', ?, ?)",
        ((number, number.to_bytes(32, "big"), bytes(400)) for number in range(rows)),
    )
    old.execute("COMMIT")
    old.close()
    killed, delay_s, ended = 0, 0.0, False
    while not ended:
        with subprocess.Popen([sys.executable, "-c", OPENS, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begins\n"
            time.sleep(delay_s)
            process.kill()
            ended = process.wait() == 0
        killed += not ended
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT count(*) FROM messages").fetchone() == (rows,)
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        delay_s += 0.01 + delay_s / 4
    assert killed
    file = SqliteFile(path)
    assert file.fetch("SELECT max(number) FROM migrations", ()) == [(migrations()[-1][0],)]
    assert file.fetch("SELECT count(*), sum(number) FROM messages", ()) == [(rows, rows * (rows - 1) // 2)]
    file.close()
