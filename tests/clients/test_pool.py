"""The pool of nodes: failing over, hedging, asking several."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from aiohttp import web

from peewit_clients.backend import BackendError, UnreachableError
from peewit_clients.pool import BackendPool
from peewit_federation.errors import ForgeryError
from tests.clients.office import charter_of
from tests.federation_kit import Federation
from tests.node.test_liars import Liar


async def hanging(federation: Federation, name: str) -> Liar:
    """In the place of a node, something that takes requests and never answers."""
    await federation.stop(name)
    liar = Liar(federation, name)
    await liar.start()

    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(20)
        return web.Response()

    liar.answers = {"/": hang}
    return liar


async def test_a_dead_node_costs_nothing_and_a_hanging_one_only_the_hedge_delay(federation: Federation) -> None:
    liar = await hanging(federation, "east")
    async with BackendPool(charter_of(federation)) as pool:
        for backend in pool.backends:
            backend.latency_s = 0.001 if backend.name == "east" else 0.05
        start = time.monotonic()
        reply = await pool.get("/healthz", bytes)
        assert reply.backend.name != "east"
        assert time.monotonic() - start < 15, "the hanging node was waited for"
    await liar.stop()


async def test_when_several_are_asked_a_hanging_one_is_replaced_and_left_out_for_longer_than_it_cost(
    federation: Federation,
) -> None:
    liar = await hanging(federation, "east")
    async with BackendPool(charter_of(federation), timeout_s=1.0) as pool:
        east = next(backend for backend in pool.backends if backend.name == "east")
        for backend in pool.backends:
            backend.latency_s = 0.001 if backend is east else 0.05
        replies = await pool.get_several("/healthz", bytes, 3)
        assert sorted(reply.backend.name for reply in replies) == ["north", "south", "west"]
        assert east.failures == 0, "it was given up before its time was over"
        before_s = pool.clock()
        with pytest.raises(BackendError, match="no answer within"):
            await pool.fetch(east, "/healthz")
        assert pool.broken(east)
        assert east.open_until_s - pool.clock() > 2 * (pool.clock() - before_s), "asked again sooner than it cost"
    await liar.stop()


async def test_a_node_that_fails_the_check_is_named_and_another_is_asked(federation: Federation) -> None:
    async with BackendPool(charter_of(federation)) as pool:
        first = pool.order()[0].name
        seen: list[int] = []

        def check(data: bytes) -> bytes:
            seen.append(1)
            if len(seen) == 1:
                raise ForgeryError("it does not hold")
            return data

        for backend in pool.backends:
            backend.latency_s = 10 if backend.name != first else 0.01
        reply = await pool.get("/healthz", check)
        assert reply.value == b"ok\n"
        assert list(pool.complaints) == [first]
        assert pool.order()[-1].name == first, "its circuit is open"


async def test_when_no_node_can_be_used_the_error_says_what_each_did(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    from peewit_federation.charter_file import parse_charter

    charter = parse_charter((tmp_path / "charter.toml").read_bytes())
    async with BackendPool(charter) as pool:
        with pytest.raises(UnreachableError) as caught:
            await pool.get("/healthz", bytes)
    for name in federation.names:
        assert f"{name}: " in str(caught.value)


async def test_several_nodes_are_asked_at_once_and_failing_ones_replaced(federation: Federation) -> None:
    await federation.stop("north")
    async with BackendPool(charter_of(federation)) as pool:
        replies = await pool.get_several("/healthz", bytes, 3)
        assert len({reply.backend.name for reply in replies}) == 3
