"""Mirroring 1,000,000 entries of 150 bytes over loopback: fetched, verified, stored durably."""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from pathlib import Path

import nacl.signing
from tests.federation_kit import Federation, TestMediator

from bench.kit import middle, node_process
from peewit_federation.log.checkpoint import Checkpoint, cosign, log_key, open_head, origin_hash, sign_checkpoint
from peewit_federation.log.merkle import CompactRange, leaf_hash, perfect_root
from peewit_federation.log.tiles import HEIGHT, WIDTH, Tile, split_bundle
from peewit_node.config import Gossip
from peewit_node.logs import Logs
from peewit_node.mirror import Mirror
from peewit_node.peers import Peers
from peewit_node.sqlite import SqliteEngine

ENTRY_BYTES = 150


def entries_of(bundle: int, count: int) -> list[bytes]:
    first = bundle * WIDTH
    return [(first + n).to_bytes(8, "big") * 18 + bytes(ENTRY_BYTES - 144) for n in range(count)]


def hash_tree(total: int) -> tuple[float, CompactRange]:
    """Merely hashing: leaves, bundles, tree; making the entries is not counted."""
    tree, spent = CompactRange(), 0.0
    for bundle in range((total + WIDTH - 1) // WIDTH):
        entries = entries_of(bundle, min(WIDTH, total - bundle * WIDTH))
        start = time.perf_counter()
        leaves = [leaf_hash(entry) for entry in entries]
        if len(leaves) == WIDTH:
            tree.append_subtree(HEIGHT, perfect_root(leaves))
        else:
            tree.extend(leaves)
        spent += time.perf_counter() - start
    return spent, tree


async def fill(federation: Federation, mediator: TestMediator, total: int) -> None:
    """Put the log into the source node's database, as its own code does."""
    await federation.start("north")
    node = federation.nodes["north"]
    await node.own.append(mediator.admission("1").encode())
    await federation.agree()
    await node.carrier.accept(mediator.device())
    log = await node.logs.ensure(log_key(mediator.log.public))
    for start in range(0, total, 50 * WIDTH):
        part = [e for b in range(start // WIDTH, min(start // WIDTH + 50, -(-total // WIDTH)))
                for e in entries_of(b, min(WIDTH, total - b * WIDTH))]  # fmt: skip
        head = None
        if start + len(part) == total:
            tree = log.range.copy()
            tree.extend(map(leaf_hash, part))
            head = sign_checkpoint(Checkpoint(log.key.name, total, tree.root()), mediator.log)
        async with log.lock:
            await node.logs.extend(log, entries=part, head=head)
    await federation.stop()


async def mirror_once(federation: Federation, mediator: TestMediator, folder: Path, total: int) -> tuple[float, bytes]:
    """Mirror into an empty database; the seconds it took, and the root."""
    from peewit_node.charters import load_charter

    charter = load_charter(federation.configs["north"].charter)
    engine = SqliteEngine(folder / "mirror.sqlite")
    key = log_key(mediator.log.public)
    witness = charter.operators[0].witness
    signer = TestMediator("witness").log

    async def fork(*_: object) -> None:
        raise AssertionError("no fork here")

    logs = Logs(
        engine,
        lambda: charter.policy,
        lambda c: (witness.name, cosign(c, witness.name, signer, 1)),
        lambda _log, _whole: None,
    )
    peers = Peers(list(charter.operators), Gossip(), loopback=True, connector=None)
    mirror = Mirror(logs, peers, fork)
    log = await logs.ensure(key)
    (peer,) = peers.all.values()
    note = await peers.get(peer, f"/log/{origin_hash(key.name).hex()}/checkpoint", 65536)
    start = time.perf_counter()
    assert await mirror.reach(log, open_head(note, key, {}), peer, blame=True)
    spent = time.perf_counter() - start
    assert log.size == total
    assert await engine.fetch("SELECT size FROM logs") == [(total,)]
    root = log.range.root()
    bundle = await logs.tile(log, Tile(-1, 3))
    assert bundle is not None
    assert split_bundle(bundle) == entries_of(3, WIDTH)
    await peers.close()
    await engine.close()
    (folder / "mirror.sqlite").unlink()
    return spent, root


def signatures_per_s() -> float:
    key = nacl.signing.SigningKey(bytes(32))
    message = bytes(ENTRY_BYTES)
    signature = key.sign(message).signature
    start = time.perf_counter()
    for _ in range(3000):
        key.verify_key.verify(message, signature)
    return 3000 / (time.perf_counter() - start)


def run(total: int = 1_000_000, rounds: int = 3) -> list[tuple[str, str, str]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        federation = Federation.make(folder, ("north",), quorum=1, gossip=Gossip())
        mediator = TestMediator("mirrored")
        asyncio.run(fill(federation, mediator, total))
        hashing, mirroring, signing = [], [], []
        with node_process(folder / "north" / "node.toml", federation.configs["north"].listen):
            for _ in range(rounds):
                spent, tree = hash_tree(total)
                hashing.append(total / spent)
                spent, root = asyncio.run(mirror_once(federation, mediator, folder, total))
                assert root == tree.root()
                mirroring.append(total / spent)
                signing.append(signatures_per_s())
    ratio = middle([m / h for m, h in zip(mirroring, hashing, strict=True)])
    against = middle([m / s for m, s in zip(mirroring, signing, strict=True)])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = f"{middle(mirroring):,.0f} entries/s; hashing alone {middle(hashing):,.0f}/s"
    return [
        (f"mirroring {total:,} entries against hashing them", f"{100 * ratio:.0f} % ({rate})", "≥ 30 %"),
        (
            "mirroring against one Ed25519 check per entry",
            f"{against:.1f} times ({middle(signing):,.0f} checks/s)",
            "≥ 10",
        ),
        ("memory while mirroring", f"{memory:.0f} MB", "< 300 MB"),
    ]
