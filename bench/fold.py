"""Folding: a registry of 1,000,000 entries from scratch, one more entry, and a restart."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.federation_kit import FAST, Federation, TestMediator, seed

from bench.kit import middle
from peewit_federation.log.checkpoint import Checkpoint, log_key, origin_hash, sign_checkpoint
from peewit_federation.log.merkle import leaf_hash
from peewit_federation.registry.admission import Constitution
from peewit_federation.registry.fold import Registry
from peewit_federation.statements.mediator import Issuer

STEP = 10_000


def issuer(number: int) -> bytes:
    return Issuer(1, 0, 0, 4_000_000_000, (), 7, number.to_bytes(8, "big") * 16).encode()


def pure(total: int) -> tuple[float, float]:
    """Seconds from scratch, and for one more entry."""
    operators = [seed("operator", n) for n in range(2)]
    registry = Registry(Constitution(2, dict.fromkeys(operators, ("1",))))
    mediator = TestMediator("big")
    for operator in operators:
        registry.grow(operator, 1, 1)
        word = replace(mediator.admission("1"), quotas=(16, 2 * total, 1000))
        registry.read(registry.wanted()[0], 0, [word.encode()])
    registry.carry(mediator.device())
    origin = origin_hash(log_key(mediator.log.public).name)
    spent = 0.0
    for start in range(0, total, STEP):
        entries = [issuer(n) for n in range(start, start + STEP)]
        registry.grow(origin, start + STEP, start + STEP)
        begin = time.perf_counter()
        (want,) = registry.wanted()
        registry.read(want, start, entries)
        spent += time.perf_counter() - begin
    single = []
    for number in range(total, total + 300):
        entry = issuer(number)
        begin = time.perf_counter()
        registry.grow(origin, number + 1, number + 1)
        (want,) = registry.wanted()
        registry.read(want, number, [entry])
        single.append(time.perf_counter() - begin)
    return spent, middle(single)


async def restart(total: int) -> tuple[float, float]:
    """Seconds that a node takes to fold and store a log, and to load it again."""
    with tempfile.TemporaryDirectory() as name:
        federation = Federation.make(Path(name), ("north",), quorum=1, gossip=FAST)
        await federation.start()
        node = federation.nodes["north"]
        mediator = TestMediator("big")
        await node.own.append(mediator.admission("1").encode())
        await federation.agree()
        await node.carrier.accept(mediator.device())
        log = await node.logs.ensure(log_key(mediator.log.public))
        entries = [issuer(n) for n in range(total)]
        tree = log.range.copy()
        tree.extend(map(leaf_hash, entries))
        head = sign_checkpoint(Checkpoint(log.key.name, total, tree.root()), mediator.log)
        begin = time.perf_counter()
        async with log.lock:
            await node.logs.extend(log, entries=entries, head=head)
        while not node.keeper.idle.is_set() or len(node.keeper.registry.folds[mediator.id].subjects) < total:
            await asyncio.sleep(0.01)
        folded = time.perf_counter() - begin
        digest = node.keeper.registry.digest()
        await federation.stop()
        begin = time.perf_counter()
        await federation.start()
        loaded = time.perf_counter() - begin
        assert federation.nodes["north"].keeper.registry.digest() == digest
        await federation.stop()
        return folded, loaded


def run(total: int = 1_000_000) -> list[tuple[str, str, str]]:
    scratch, single = pure(total)
    folded, loaded = asyncio.run(restart(100_000))
    return [
        (
            f"one entry on {total:,}, against folding all",
            f"1/{scratch / single:,.0f} ({1e6 * single:.0f} µs, {scratch:.0f} s)",
            "< 1/10,000",
        ),
        (
            "restart with 100,000 subjects, against folding and storing them",
            f"{loaded:.1f} s, {folded:.1f} s",
            "not from scratch",
        ),
    ]
