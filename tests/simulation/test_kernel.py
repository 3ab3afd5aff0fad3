"""The simulated kernel behaves as a real one does: unmodified aiohttp on it, with cuts, crashes and slow readers."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from peewit_simulation.kernel.host import Host
from peewit_simulation.kernel.network import Network
from peewit_simulation.kernel.world import World

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BIG = 3_000_000


class Pair:
    """A server `b` and a client `a`."""

    def __init__(self, folder: Path) -> None:
        self.world = World(1)
        self.network = Network(self.world)
        self.a = Host(self.world, self.network, "a", "127.9.0.1", folder)
        self.b = Host(self.world, self.network, "b", "127.9.0.2", folder)
        self.served = 0
        self.a.boot()
        self.serve()

    def serve(self) -> None:
        self.b.boot()
        self.b.spawn(self._serve())
        self.world.run(self.world.now_s + 1)

    async def _serve(self) -> None:
        async def echo(request: web.Request) -> web.Response:
            self.served += 1
            return web.Response(body=await request.read())

        async def slowly(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for number in range(10):
                await response.write(b"%d" % number)
                await asyncio.sleep(1)
            return response

        app = web.Application(client_max_size=1 << 30)
        app.add_routes([web.post("/echo", echo), web.get("/slowly", slowly)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self.b.address, 80).start()

    async def ask(self, body: bytes = b"hello", path: str = "/echo", total_s: float = 30.0) -> bytes:
        timeout = aiohttp.ClientTimeout(total=total_s)
        async with aiohttp.ClientSession(connector=self.a.connector(), timeout=timeout) as session:
            method = "POST" if path == "/echo" else "GET"
            async with session.request(
                method, f"http://{self.b.address}{path}", data=io.BytesIO(body) if body else None
            ) as response:
                return await response.read()

    def run(self, work: Any, within_s: float = 2000.0) -> Any:
        task = self.a.spawn(work)
        self.world.run(self.world.now_s + within_s, task.done)
        assert task.done()
        return task.result()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.a.crash()
    made.b.crash()


def test_a_request_takes_its_round_trips_and_no_more(pair: Pair) -> None:
    start_s = pair.world.now_s
    assert pair.run(pair.ask()) == b"hello"
    assert 0.03 < pair.world.now_s - start_s < 0.3


def test_large_bodies_arrive_whole_also_when_every_third_segment_is_lost(pair: Pair) -> None:
    body = pair.world.stream("body").randbytes(BIG)
    assert pair.run(pair.ask(body)) == body
    pair.network.shape([("a", "b"), ("b", "a")], loss=0.3)
    start_s = pair.world.now_s
    assert pair.run(pair.ask(body, total_s=1000)) == body
    assert pair.world.now_s - start_s > 5, "lost segments come late"


def test_a_port_where_nobody_listens_refuses_at_once(pair: Pair) -> None:
    pair.b.crash()
    start_s = pair.world.now_s
    with pytest.raises(aiohttp.ClientConnectorError):
        pair.run(pair.ask())
    assert pair.world.now_s - start_s < 0.2


@pytest.mark.parametrize("cut", [[("a", "b")], [("b", "a")], [("a", "b"), ("b", "a")]])
def test_a_black_hole_is_only_noticed_by_a_timeout_whichever_way_it_is_cut(pair: Pair, cut: list[Any]) -> None:
    pair.network.cut(cut)
    start_s = pair.world.now_s
    with pytest.raises(TimeoutError):
        pair.run(pair.ask(total_s=10))
    assert pair.world.now_s - start_s >= 10


def test_a_cut_that_heals_in_time_delays_and_loses_nothing(pair: Pair) -> None:
    pair.world.after(0.05, lambda: pair.network.cut([("a", "b"), ("b", "a")]))
    pair.world.after(4.0, pair.network.mend)
    body = bytes(BIG)
    start_s = pair.world.now_s
    assert pair.run(pair.ask(body, total_s=100)) == body
    assert pair.world.now_s - start_s > 4


def test_what_is_held_arrives_in_order_when_it_is_released(pair: Pair) -> None:
    pair.world.after(0.05, lambda: pair.network.hold([("a", "b")]))
    pair.world.after(9.0, pair.network.release)
    body = pair.world.stream("body").randbytes(BIG)
    assert pair.run(pair.ask(body, total_s=100)) == body


def test_a_killed_server_is_noticed_at_once_and_one_without_power_is_not(pair: Pair) -> None:
    pair.world.after(2.0, pair.b.crash)
    start_s = pair.world.now_s
    with pytest.raises(aiohttp.ClientPayloadError):
        pair.run(pair.ask(b"", "/slowly"))
    assert pair.world.now_s - start_s < 3
    pair.serve()
    pair.world.after(2.0, lambda: pair.b.crash(power=True))
    start_s = pair.world.now_s
    with pytest.raises(TimeoutError):
        pair.run(pair.ask(b"", "/slowly", total_s=20))
    assert pair.world.now_s - start_s >= 20


def test_a_server_that_is_back_after_a_power_loss_resets_old_connections(pair: Pair) -> None:
    async def twice() -> list[str]:
        found = []
        async with aiohttp.ClientSession(connector=pair.a.connector()) as session:
            for _ in range(2):
                try:
                    async with session.post(f"http://{pair.b.address}/echo", data=b"x") as response:
                        found.append(str(response.status))
                except aiohttp.ClientError as error:
                    found.append(type(error).__name__)
                await asyncio.sleep(10)
        return found

    pair.world.after(2.0, lambda: pair.b.crash(power=True))
    pair.world.after(4.0, pair.b.boot)
    assert pair.run(twice()) == ["200", "ClientOSError"]


def test_a_reader_that_does_not_read_stops_the_writer(pair: Pair) -> None:
    sent = 0

    async def flood() -> None:
        nonlocal sent
        loop = asyncio.get_running_loop()
        _, writer = await asyncio.open_connection(sock=await connected(loop))
        while True:
            writer.write(bytes(64 * 1024))
            sent += 64 * 1024
            await writer.drain()

    async def connected(loop: asyncio.AbstractEventLoop) -> Any:
        from peewit_simulation.kernel.sockets import SimSocket

        sock: Any = SimSocket(pair.a)
        await loop.sock_connect(sock, (pair.b.address, 81))
        return sock

    async def never_read() -> None:
        async def accept(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            _writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(10_000)

        await asyncio.start_server(accept, pair.b.address, 81)

    pair.b.spawn(never_read())
    pair.a.spawn(flood())
    pair.world.run(pair.world.now_s + 60)
    assert 256 * 1024 <= sent < 2_000_000


def test_nothing_of_a_crashed_life_runs_not_even_finally(pair: Pair) -> None:
    ran = []

    async def work() -> None:
        try:
            await asyncio.sleep(5)
            ran.append("woke")
        finally:
            ran.append("finally")

    pair.a.spawn(work())
    pair.world.run(pair.world.now_s + 1)
    pair.a.crash()
    pair.world.run(pair.world.now_s + 100)
    assert ran == []


def test_a_paused_host_answers_late_and_a_wrong_clock_is_wrong(pair: Pair) -> None:
    pair.b.pause()
    pair.world.after(7.0, pair.b.resume)
    start_s = pair.world.now_s
    assert pair.run(pair.ask()) == b"hello"
    assert pair.world.now_s - start_s >= 7
    pair.b.skew_s, pair.b.drift = -30.0, 0.001
    assert pair.b.wall() == pytest.approx(pair.a.wall() - 30 + 0.001 * pair.world.now_s)


def test_timers_of_a_drifting_clock_come_at_their_own_time(pair: Pair) -> None:
    pair.a.drift = 0.1
    start_s = pair.world.now_s
    pair.run(asyncio.sleep(11))
    assert pair.world.now_s - start_s == pytest.approx(10)
