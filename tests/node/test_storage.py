"""Stored logs, piece by piece: what is served is right at every size, across crashes and changes of mind."""

from __future__ import annotations

from pathlib import Path

import pytest

from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import Checkpoint, Head, cosign, log_key, sign_checkpoint, witness_key
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.log.policy import Policy, parse_policy
from peewit_federation.log.tiles import Tile
from peewit_node.engine import WriteConflictError
from peewit_node.logs import Logs
from peewit_node.sqlite import SqliteEngine
from peewit_node.stored_log import Log
from tests.federation.test_merkle import tiles_of
from tests.federation.test_policy import flat
from tests.federation_kit import seed

KEY = SigningKey(seed("log"))
POLICY = parse_policy(flat(1, 1))
ENTRIES = [b"entry %d" % n for n in range(1500)]


def head_of(entries: list[bytes]) -> Head:
    return sign_checkpoint(Checkpoint(log_key(KEY.public).name, len(entries), root_of(map(leaf_hash, entries))), KEY)


async def opened(path: Path) -> tuple[SqliteEngine, Logs]:
    engine = SqliteEngine(path)
    logs = Logs(engine, lambda: POLICY, lambda _: None, lambda _log, _whole: None)
    await logs.load()
    return engine, logs


async def check(logs: Logs, log: Log, entries: list[bytes]) -> None:
    """Everything that a tree of this size has, made the plain way, is what is served."""
    assert log.stored == len(entries)
    assert log.range.root() == root_of(map(leaf_hash, entries))
    for tile, body in tiles_of(entries).items():
        assert await logs.tile(log, tile) == body, tile.path
        if tile.width > 1:
            narrow = Tile(tile.level, tile.index, tile.width - 1)
            found = await logs.tile(log, narrow)
            assert found is not None
            assert body.startswith(found)
    assert await logs.tile(log, Tile(0, len(entries) // 256 + 1)) is None
    for size in (1, len(entries) // 2, len(entries)):
        assert await logs.root_at(log, size) == root_of(map(leaf_hash, entries[:size]))


@pytest.mark.parametrize("steps", [[1, 2, 255, 256, 257, 511, 512, 1500], [300, 301, 900], [256, 768, 1024, 1300]])
async def test_a_log_is_right_at_every_size_and_after_a_crash_between_any_two_pieces(
    tmp_path: Path, steps: list[int]
) -> None:
    path = tmp_path / "x.sqlite"
    for number, size in enumerate(steps):
        engine, logs = await opened(path)
        log = await logs.ensure(log_key(KEY.public))
        # Every other piece comes without a head, as while mirroring.
        head = head_of(ENTRIES[:size]) if number % 2 or size == steps[-1] else None
        await logs.extend(
            log, entries=ENTRIES[log.stored : size], head=head, pending=None if head else head_of(ENTRIES)
        )
        await check(logs, log, ENTRIES[:size])
        await engine.close()
    engine, logs = await opened(path)
    (log,) = logs.all()
    assert log.size == steps[-1]
    assert log.pending is None
    await check(logs, log, ENTRIES[: steps[-1]])
    await engine.close()


@pytest.mark.parametrize(("under_head", "beyond"), [(0, 300), (5, 700), (256, 257), (300, 1500), (513, 1024)])
async def test_what_was_mirrored_beyond_the_head_can_be_given_up(tmp_path: Path, under_head: int, beyond: int) -> None:
    engine, logs = await opened(tmp_path / "x.sqlite")
    log = await logs.ensure(log_key(KEY.public))
    if under_head:
        await logs.extend(log, entries=ENTRIES[:under_head], head=head_of(ENTRIES[:under_head]))
    await logs.extend(log, entries=ENTRIES[under_head:beyond], pending=head_of(ENTRIES))
    await logs.truncate(log, log.size)
    await check(logs, log, ENTRIES[:under_head]) if under_head else None
    other = ENTRIES[:under_head] + [b"other %d" % n for n in range(600)]
    await logs.extend(log, entries=other[under_head:], head=head_of(other))
    await check(logs, log, other)
    await engine.close()
    engine, logs = await opened(tmp_path / "x.sqlite")
    (log,) = logs.all()
    await check(logs, log, other)
    await engine.close()


async def test_a_stale_edge_cannot_be_written(tmp_path: Path) -> None:
    engine, logs = await opened(tmp_path / "x.sqlite")
    log = await logs.ensure(log_key(KEY.public))
    await logs.extend(log, entries=ENTRIES[:3], head=head_of(ENTRIES[:3]))
    stale = (await logs.edge(log)).copy()
    await logs.extend(log, entries=ENTRIES[3:5], head=head_of(ENTRIES[:5]))
    stale.append([b"x"], [leaf_hash(b"x")])
    before = log.range
    log.range = stale.range.copy()
    with pytest.raises(WriteConflictError):
        await logs.adopt(log, stale, head_of([*ENTRIES[:3], b"x"]))
    log.range, log.edge = before, None
    await check(logs, log, ENTRIES[:5])
    await engine.close()


async def test_a_new_policy_recounts_what_is_held_and_drops_the_lines_of_who_left(tmp_path: Path) -> None:
    """Two of four are no quorum; when one has left the federation, two of three are."""
    keys = [SigningKey(seed("witness", number)) for number in range(4)]

    def policy(count: int, quorum: int) -> Policy:
        names = [f"w{number}" for number in range(count)]
        lines = [
            f"witness {name} {witness_key(f'{name}.example/w', key.public)}"
            for name, key in zip(names, keys, strict=False)
        ]
        return parse_policy("\n".join([*lines, f"group all {quorum} {' '.join(names)}", "quorum all", ""]))

    def cosigned(head: Head, number: int) -> Head:
        name = f"w{number}.example/w"
        return head.with_cosignature(name, cosign(head.checkpoint, name, keys[number], 1_700_000_000))

    in_force = policy(4, 3)
    told: list[bool] = []
    engine = SqliteEngine(tmp_path / "x.sqlite")
    logs = Logs(engine, lambda: in_force, lambda _: None, lambda _log, whole: told.append(whole))
    log = await logs.ensure(log_key(KEY.public))
    head = cosigned(cosigned(head_of(ENTRIES[:3]), 0), 1)
    await logs.extend(log, entries=ENTRIES[:3], head=head)
    assert log.quorum is None
    in_force = policy(3, 2)
    told.clear()
    await logs.recount()
    assert log.quorum is not None
    assert told == [True]
    await logs.learn(log, cosigned(head, 2))
    in_force = policy(2, 2)
    await logs.recount()
    assert log.head is not None
    assert log.head.witnesses == {"w0.example/w", "w1.example/w"}
    await engine.close()
    engine = SqliteEngine(tmp_path / "x.sqlite")
    in_force = policy(4, 3)
    again = Logs(engine, lambda: in_force, lambda _: None, lambda _log, _whole: None)
    await again.load()
    (log,) = again.all()
    assert log.quorum is not None, "what was believed stays believed"
    await engine.close()
