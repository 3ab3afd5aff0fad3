"""Peers that lie, hang and flood: named, and in nobody's way (design 9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from peewit_federation.gossip.feed import Answer, Ask, Cursor, HeadItem, ViewItem
from peewit_federation.keys import SigningKey
from peewit_federation.log.tiles import encode_bundle
from tests.federation.test_merkle import tiles_of
from tests.federation_kit import Federation, TestMediator, catchment, encode_all, provider, seed
from tests.federation_kit_http import Device, admit, quorums, until

METADATA = "/latest/meta-data"


class Liar:
    """A peer that answers whatever the test says, at the address of a node of the charter."""

    def __init__(self, federation: Federation, name: str) -> None:
        self.federation = federation
        self.name = name
        self.answers: dict[str, object] = {}
        self.asked: list[str] = []
        self.transports: dict[asyncio.Transport, None] = {}

    async def start(self) -> None:
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{path:.*}", self.handle)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        host, port = self.federation.configs[self.name].address
        await web.TCPSite(self.runner, host, port, reuse_address=True).start()

    async def stop(self) -> None:
        server = self.runner.server
        assert server is not None
        await self.runner.cleanup()
        await asyncio.sleep(0.05)
        await server.shutdown(0.1)  # those that were let in at the last moment
        for transport in self.transports:
            transport.abort()
        await asyncio.sleep(0.05)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        assert request.transport is not None
        self.transports[request.transport] = None
        for prefix, answer in self.answers.items():
            if request.path.startswith(prefix):
                if callable(answer):
                    found: web.StreamResponse = await answer(request)
                    return found
                assert isinstance(answer, bytes)
                return web.Response(body=answer)
        return web.Response(status=404)


@pytest.fixture
async def with_liar(federation: Federation) -> AsyncIterator[tuple[Federation, Liar]]:
    """Three honest nodes, and east is a liar."""
    await federation.stop("east")
    liar = Liar(federation, "east")
    await liar.start()
    yield federation, liar
    await liar.stop()


def lies_of(federation: Federation, name: str) -> list[str]:
    return [lie for node in federation.nodes.values() for lie in node.peers.all[name].lies]


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(bytes(65536))


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def redirect(request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": f"http://{request.host}{METADATA}"})


@pytest.mark.parametrize("answer", [b"garbage", b"\x84", endless, hang, redirect])
async def test_peers_that_send_garbage_hang_or_never_end_do_not_stop_the_others(
    with_liar: tuple[Federation, Liar], answer: object
) -> None:
    federation, liar = with_liar
    liar.answers = {"/federation/v1/exchange": answer}
    mediator = TestMediator("mitte")
    await admit(federation, mediator)
    device = Device.of(mediator)
    device.entries = encode_all(catchment("area", "10115"))
    status, _ = await device.publish(federation.url("north"))
    assert status == 200
    await until(lambda: quorums(federation))
    await federation.agree()
    assert METADATA not in liar.asked, "nobody goes where a peer sends them"
    if answer is not hang:
        await until(lambda: any(n.peers.all["east"].failures for n in federation.nodes.values()))
        assert any(n.peers.all["east"].last_error for n in federation.nodes.values())


async def test_a_liar_that_serves_another_logs_tiles_is_named_and_the_truth_is_fetched_elsewhere(
    with_liar: tuple[Federation, Liar],
) -> None:
    federation, liar = with_liar
    mediator = TestMediator("mitte")
    await admit(federation, mediator)
    device = Device.of(mediator)
    area = catchment("area", "10115")
    device.entries = encode_all(area, *(provider(f"p{n}", area) for n in range(600)))
    epoch = seed("epoch")[:8]
    note = device.head().encode()
    honest = {}
    for tile, body in tiles_of(device.entries).items():
        honest[f"/log/{device.origin.hex()}/{tile.path}"] = body
    lie = f"/log/{device.origin.hex()}/tile/entries/001"
    honest[lie] = encode_bundle([b"lie"] * 256)

    async def exchange(request: web.Request) -> web.StreamResponse:
        ask = Ask.decode(await request.read())
        items = () if ask.cursor.number else (HeadItem(note, (mediator.device(),)),)
        return web.Response(body=Answer(Cursor(epoch, 1), False, items).encode())

    liar.answers = {"/federation/v1/exchange": exchange, **honest}
    await until(lambda: any("tile/entries/001" in lie for lie in lies_of(federation, "east")))
    status, body = await device.publish(federation.url("north"))
    assert status == 200, body
    await until(lambda: all((log := n.logs.get(device.origin)) and log.size == 601 for n in federation.nodes.values()))


@pytest.mark.parametrize("kind", ["forged head", "forged cosignature", "forged view", "unknown log", "other origin"])
async def test_forged_news_is_refused_and_its_bearer_named(with_liar: tuple[Federation, Liar], kind: str) -> None:
    federation, liar = with_liar
    await federation.agree()
    log = federation.nodes["north"].own.log
    assert log.head is not None
    note = log.head.encode()
    item: object = HeadItem(note)
    if kind == "forged head":
        item = HeadItem(note.replace(b"\n%d\n" % log.size, b"\n%d\n" % (log.size + 5), 1))
    elif kind == "forged cosignature":
        lines = note.decode().split("\n")
        lines[5] = lines[5][:-8] + ("AAAAAA==" if not lines[5].endswith("AAAAAA==") else "BAAAAA==")
        item = HeadItem("\n".join(lines).encode())
    elif kind == "forged view":
        view = federation.nodes["north"].views.own(federation.nodes["north"].state.now())
        item = ViewItem(view.data[:-1] + bytes([view.data[-1] ^ 1]))
    elif kind == "unknown log":
        item = HeadItem(Device.of(TestMediator("nobody")).head([b"x"]).encode())
    elif kind == "other origin":
        stranger = Device(TestMediator("x"), SigningKey(seed("stranger")))
        item = HeadItem(note.split(b"\n\n")[0] + b"\n\n" + stranger.head([b"x"]).encode().split(b"\n\n")[1])
    before = {name: node.views.lines().root for name, node in federation.nodes.items()}

    async def exchange(_: web.Request) -> web.StreamResponse:
        return web.Response(body=Answer(Cursor(seed("e")[:8], 1), False, (item,)).encode())  # type: ignore[arg-type]

    liar.answers = {"/federation/v1/exchange": exchange}
    await until(lambda: liar.asked.count("/federation/v1/exchange") > 5)
    if kind != "unknown log":
        await until(lambda: bool(lies_of(federation, "east")))
    assert {name: node.views.lines().root for name, node in federation.nodes.items()} == before


async def test_false_marks_without_end_cost_their_sender_more_than_anybody(with_liar: tuple[Federation, Liar]) -> None:
    """A peer that claims to have ten thousand things that we lack, and never gives one, holds up nobody."""
    federation, liar = with_liar
    wants: list[int] = []

    async def exchange(request: web.Request) -> web.StreamResponse:
        ask = Ask.decode(await request.read())
        wants.append(len(ask.wants))
        marks = b"" if ask.wants else b"".join(seed("mark", number)[:16] for number in range(10_000))
        return web.Response(body=Answer(Cursor(seed("epoch")[:8], 1), False, (), marks).encode())

    liar.answers = {"/federation/v1/exchange": exchange}
    await until(lambda: wants.count(32) > 3)
    assert max(wants) == 32
    device = Device.of(TestMediator("mitte"))
    await admit(federation, device.mediator)
    area = catchment("area", "10115")
    device.entries = encode_all(area)
    status, body = await device.publish(federation.url("north"))
    assert status == 200, body
    await federation.agree()
    # A want that brings nothing ends the list: one ask for each comparison.
    assert wants.count(32) <= len(wants) - wants.count(32) + 3
    for node in federation.nodes.values():
        assert len(node.peers.all["east"].wanted) <= 10_000
