"""Static reads against a bare aiohttp handler, and durable appends against bare POSTs."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.federation_kit import Federation, TestMediator, catchment, provider, seed
from tests.federation_kit_http import Device

from bench.kit import Blaster, bare_server, get_request, middle, node_process, post_request
from peewit_federation.api import Append
from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import Checkpoint, log_key, sign_checkpoint
from peewit_federation.log.merkle import CompactRange, leaf_hash
from peewit_federation.log.tiles import encode_bundle
from peewit_node.config import Gossip

LOGS = 64
APPENDS = 40
ROUNDS = 5
READS = 400


async def prepare(federation: Federation, mediator: TestMediator, devices: list[Device]) -> None:
    """A node with an admitted mediator whose devices all have a log of one entry."""
    await federation.start()
    node = federation.nodes["north"]
    from dataclasses import replace

    await node.own.append(replace(mediator.admission("1"), quotas=(1000, 1_000_000, 1000)).encode())
    await federation.agree()
    for device in devices:
        await node.carrier.accept(mediator.device(device.key))
    await federation.agree(60)
    for device in devices:
        log = await node.logs.ensure(log_key(device.key.public))
        async with log.lock:
            await node.logs.extend(log, entries=device.entries, head=device.head())
    await federation.stop()


def appends_of(device: Device, rounds: int) -> list[list[bytes]]:
    """Requests that append one entry after another, `APPENDS` for each round."""
    tree = CompactRange()
    tree.extend(map(leaf_hash, device.entries))
    name, path = log_key(device.key.public).name, f"/v1/log/{device.origin.hex()}/append"
    area = catchment("area", "10115")
    found = []
    for number in range(rounds):
        requests = []
        for step in range(APPENDS):
            entry = provider(f"{number}-{step}", area).encode()[:0] or revocation(number, step)
            tree.append(leaf_hash(entry))
            head = sign_checkpoint(Checkpoint(name, tree.size, tree.root()), device.key)
            body = Append(tree.size - 1, encode_bundle([entry]), head.encode()).encode()
            requests.append(post_request(path, body))
        found.append(requests)
    return found


def revocation(number: int, step: int) -> bytes:
    from peewit_federation.statements.mediator import Revocation

    return Revocation(17, seed(number, step), 1, seed("nonce", number, step)[:16]).encode()


def split(requests: list[list[bytes]], size: int) -> list[list[list[bytes]]]:
    """`requests[connection]` in batches of `size`."""
    count = len(requests[0])
    return [[part[at : at + size] for part in requests] for at in range(0, count, size)]


def run() -> list[tuple[str, str, str]]:
    with tempfile.TemporaryDirectory() as name:
        federation = Federation.make(Path(name), ("north",), quorum=1, gossip=Gossip())
        mediator = TestMediator("busy")
        area = catchment("area", "10115")
        devices = [Device(mediator, SigningKey(seed("device", n)), [area.encode()]) for n in range(LOGS)]
        asyncio.run(prepare(federation, mediator, devices))
        prepared = [appends_of(device, ROUNDS) for device in devices]
        port = federation.configs["north"].address[1]
        note_bytes = len(devices[0].head().encode()) + 130
        tile = f"/log/{devices[0].origin.hex()}/tile/0/000.p/1"
        with (
            node_process(Path(name) / "north" / "node.toml", federation.configs["north"].listen),
            bare_server(note_bytes) as bare,
            bare_server(32) as small,
        ):
            reads, appends = [], []
            rates: dict[str, list[float]] = {"node read": [], "bare read": [], "append": [], "post": []}
            for number in range(ROUNDS):
                gets = split([[get_request(tile)] * READS] * 8, 20)
                speed = {}
                for what, at in (("node read", port), ("bare read", small)):
                    blaster = Blaster(at, 8)
                    blaster.run(split([[get_request(tile)] * 20] * 8, 20))
                    speed[what] = 8 * READS / blaster.run(gets)
                    blaster.close()
                # The owner of a log waits for its receipt before it appends again.
                posts = split([prepared[n][number] for n in range(LOGS)], 1)
                for what, at in (("append", port), ("post", bare)):
                    blaster = Blaster(at, LOGS)
                    speed[what] = LOGS * APPENDS / blaster.run(posts)
                    blaster.close()
                reads.append(speed["node read"] / speed["bare read"])
                appends.append(speed["append"] / speed["post"])
                for what, value in speed.items():
                    rates[what].append(value)
    fast = {what: f"{middle(values):,.0f}/s" for what, values in rates.items()}
    return [
        (
            "cached static reads against a bare handler",
            f"{100 * middle(reads):.0f} % ({fast['node read']}, {fast['bare read']})",
            "≥ 70 %",
        ),
        (
            f"durable appends to {LOGS} logs against bare POSTs",
            f"{100 * middle(appends):.0f} % ({fast['append']}, {fast['post']})",
            "≥ 25 %",
        ),
    ]
