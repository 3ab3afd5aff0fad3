"""Real nodes over real sockets."""

from __future__ import annotations

import aiohttp

from peewit_federation.api import Append
from peewit_federation.log.checkpoint import Checkpoint, log_key, sign_checkpoint
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.log.tiles import encode_bundle
from tests.federation_kit import Federation, TestMediator, catchment, encode_all, provider


async def append(url, mediator, entries, old=0, log=None, device=b""):
    log = log or mediator.log
    key = log_key(log.public)
    head = sign_checkpoint(Checkpoint(key.name, len(entries), root_of(map(leaf_hash, entries))), log)
    from peewit_federation.log.checkpoint import origin_hash

    body = Append(old, encode_bundle(entries[old:]), head.encode(), device).encode()
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/v1/log/{origin_hash(key.name).hex()}/append", data=body) as response:
            return response.status, await response.read()


async def test_four_nodes_agree_on_a_mediator_that_was_published_at_one(federation: Federation) -> None:
    mediator = TestMediator("mitte")
    for name in ("north", "west"):
        await federation.nodes[name].own.append(mediator.admission("1", "2").encode())
    await federation.agree()
    area = catchment("a", "10115")
    entries = encode_all(area, provider("p", area))
    status, body = await append(federation.url("south"), mediator, entries, device=mediator.device())
    assert status == 200, body
    digest = await federation.agree()
    print(digest.hex())
    import asyncio

    for _ in range(100):
        logs = [n.logs.get(x.origin) for n in federation.nodes.values() for x in n.logs.all()]
        if all(l.quorum and l.quorum.size == l.size for l in logs):
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError(
            [
                (n.state.operator.name, l.origin.hex()[:8], l.size, l.head and l.head.witnesses)
                for n in federation.nodes.values()
                for l in n.logs.all()
            ]
        )
    await federation.agree()
    assert len(federation.nodes["east"].keeper.registry.folds[mediator.id].subjects) == 2
    assert all(not p.lies and not p.last_error for n in federation.nodes.values() for p in n.peers.all.values()), [
        (p.lies, p.last_error) for n in federation.nodes.values() for p in n.peers.all.values()
    ]
