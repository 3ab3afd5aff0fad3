"""A request through another node, over real nodes: what each of the two sees, and what neither lets through."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from peewit_clients.backend import Backend, BackendError
from peewit_clients.place import with_work
from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_federation import cbor
from peewit_federation.oblivious.bhttp import Request, Response, pad
from peewit_federation.oblivious.encapsulation import seal_request
from peewit_node import oblivious
from peewit_node.http_server import read_body
from tests.clients.surgery import QUEUE_NODES, Surgery
from tests.federation_kit import NAMES, Federation, seed
from tests.federation_kit_http import post, until


@dataclass
class Seen:
    """What nodes were asked."""

    requests: list[tuple[str, str]] = field(default_factory=list)
    "(path, what says who asks)"
    carried: list[bytes] = field(default_factory=list)

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real, read = web.Application._handle, read_body

        async def handle(application: web.Application, request: web.Request) -> web.StreamResponse:
            self.requests.append((request.path, request.headers.get("User-Agent", "")))
            return await real(application, request)

        async def read_and_remember(request: web.Request, size_bytes_max: int, timeout_s: float) -> bytes:
            body = await read(request, size_bytes_max, timeout_s)
            self.carried.append(body)
            return body

        monkeypatch.setattr(web.Application, "_handle", handle)
        monkeypatch.setattr(oblivious, "read_body", read_and_remember)


async def test_a_person_asks_for_everything_through_other_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen()
    seen.watch(monkeypatch)
    surgery = await Surgery.open(tmp_path)
    async with surgery.view() as view:
        view.go_through_others(seed("guard"))
        seen.requests.clear()
        user = surgery.user(view)
        request = await user.ask(with_work)
        assert await user.offers() == []
        await view.refresh([surgery.mediator.id])
    by_device = [path for path, agent in seen.requests if agent == "peewit"]
    assert by_device
    assert all(path.startswith("/v1/relay/") for path in by_device), "no node is asked by the device itself"
    inside = {path.split("/")[2] for path, agent in seen.requests if agent == "peewit-gateway"}
    assert {"tokens", "draw", "requests", "mailboxes", "admission", "views"} <= inside
    for secret in (request.name, request.mailbox, request.data, request.sign(user.state.key)):
        assert not any(secret in body for body in seen.carried), "what a relay carries it cannot read"
    await surgery.federation.stop()


async def test_a_carrier_that_swallows_answers_keeps_nobody_from_theirs(surgery: Surgery) -> None:
    """What it handed over counts as seen: the same through another carrier would be refused, every time."""
    async with surgery.view() as view:
        view.go_through_others(seed("guard"))
        user = surgery.user(view)
        await user.ask(with_work)
        transport, swallows = view.pool.transport, list[str]()
        direct = transport.direct

        async def greedy(backend: Backend, method: str, path: str, *rest: Any) -> bytes:
            answer = await direct(backend, method, path, *rest)
            if path.startswith("/v1/relay/"):
                swallows.append(backend.name)
                if backend.name == swallows[0]:
                    raise BackendError("bad gateway", 502)
            return answer

        transport.direct = greedy  # type: ignore[method-assign, assignment]
        for _ in range(3):
            assert await user.offers() == []
            assert user.letters.silent == []
        assert swallows.count(swallows[0]) > 1


async def test_no_node_carries_what_a_person_asks_and_sees_h_too(surgery: Surgery) -> None:
    """It would see by its clock whose `H` it is."""
    for number in range(6):
        async with surgery.view() as view:
            carried: set[str] = set()
            read: set[str] = set()
            transport = view.pool.transport
            direct, through = transport.direct, transport.through

            async def noted(backend: Backend, *arguments: Any, real: Any = direct, seen: set[str] = carried) -> bytes:
                seen.add(backend.name)
                return await real(backend, *arguments)  # type: ignore[no-any-return]

            async def sent(
                backend: Backend, key: bytes, made: Callable[[], Request], *rest: Any, real: Any = through,
                seen: set[str] = read,
            ) -> bytes:  # fmt: skip
                if made().path in ("/v1/requests", "/v1/draw"):
                    seen.add(backend.name)
                return await real(backend, key, made, *rest)  # type: ignore[no-any-return]

            view.go_through_others(seed("guard", number))
            transport.direct, transport.through = noted, sent  # type: ignore[method-assign, assignment]
            user = surgery.user(view, f"Person {number}")
            request = await user.ask(with_work)
            await user.states()
            assert await user.offers() == []
        assert read == set(QUEUE_NODES)
        assert carried == set(NAMES) - set(QUEUE_NODES)
        assert {view.pool.charter.operator(n).origin_hash for n in QUEUE_NODES} == set(request.mailbox_nodes)


async def test_it_works_with_a_node_dead_and_says_when_nobody_carries(surgery: Surgery) -> None:
    async with surgery.view() as view:
        view.go_through_others(seed("guard"))
        await surgery.federation.stop(NAMES[3])
        await surgery.user(view).ask(with_work)
        backend = next(b for b in view.pool.backends if b.name == NAMES[0])
        with pytest.raises(BackendError) as found:
            await view.pool.post(backend, "/v1/draw", b"no cbor")
        assert found.value.status == 400, "an error of the target is that of the target"
        await surgery.federation.stop(NAMES[1], NAMES[2])
        with pytest.raises(BackendError, match="not reached through another node"):
            await view.pool.fetch(backend, "/v1/admission")


async def test_a_relay_that_failed_is_not_the_first_again_until_it_answered(surgery: Surgery) -> None:
    """One that swallows requests would cost every further one a timeout, whenever its circuit closes."""
    async with surgery.view() as view:
        view.go_through_others(b"guard")
        pool = view.pool
        asked: list[str] = []
        real = pool.transport.direct

        async def direct(backend, *arguments):  # type: ignore[no-untyped-def]
            asked.append(backend.name)
            return await real(backend, *arguments)

        pool.transport.direct = direct  # type: ignore[method-assign]
        target = pool.backends[0]
        path = f"/v1/views?mediator={surgery.mediator.id.hex()}"
        await pool.fetch(target, path)
        (guard,) = (backend for backend in pool.backends if backend.name == asked[0])
        await pool.fetch(target, path)
        assert asked == [guard.name] * 2, "as long as it can, one sees who asks"
        guard.failures = 1
        await pool.fetch(target, path)
        assert asked[-1] != guard.name
        await pool.fetch(guard, path)  # it answers
        await pool.fetch(target, path)
        assert (guard.failures, asked[-1]) == (0, guard.name)


async def test_a_relay_does_not_wait_for_a_node_that_it_knows_to_be_down(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = federation.nodes["east"].state.operator.origin_hash.hex()
    peer = federation.nodes["north"].peers.all["east"]
    carry = f"{federation.url('north')}/v1/relay/{origin}"
    asked: list[str] = []
    real = federation.nodes["north"].peers.post

    async def post_and_note(*args: object) -> bytes:
        asked.append(str(args[1]))
        return await real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(federation.nodes["north"].peers, "post", post_and_note)
    async with asyncio.timeout(30):
        while peer.missed:  # it may have asked before east had started
            await asyncio.sleep(0.02)
    await post(carry, b"no request")
    assert asked.count("/v1/gateway") == 1
    await federation.stop("east")
    async with asyncio.timeout(30):
        while peer.missed < oblivious.MISSED_MAX:
            await asyncio.sleep(0.02)
    assert (await post(carry, b"no request"))[0] == 502
    assert asked.count("/v1/gateway") == 1
    await federation.start("east")
    async with asyncio.timeout(30):
        while peer.missed:
            await asyncio.sleep(0.02)
    await post(carry, b"no request")
    assert asked.count("/v1/gateway") == 2, "and carries again as soon as it is back"


async def test_a_relay_carries_only_to_nodes_of_the_charter_and_a_gateway_answers_only_clients(
    federation: Federation,
) -> None:
    url, target = federation.url("north"), federation.nodes["west"]
    origin = target.state.operator.origin_hash.hex()
    # Who was not up yet when the first node started is down for it until gossip hears of it.
    await until(lambda: not federation.nodes["north"].peers.all["west"].missed)

    async def through(request: Request, expected: int) -> Response | None:
        sealed, asking = seal_request(target.gateway_key.public, pad(request.encode()), os.urandom(32))
        status, answer = await post(f"{url}/v1/relay/{origin}", sealed)
        assert status == expected, answer
        return Response.decode(asking.open(answer)) if status == 200 else None

    found = await through(Request("GET", "/v1/views"), 200)
    assert found is not None
    assert found.status == 200
    missing = await through(Request("GET", "/v1/provider/zz"), 200)
    assert missing is not None
    assert missing.status in (400, 404)
    for method, path in (
        ("DELETE", "/v1/views"), ("GET", "/metrics"), ("GET", "/status.json"), ("POST", "/federation/v1/exchange"),
        ("POST", f"/v1/relay/{origin}"), ("POST", "/v1/gateway"), ("GET", "/v1/../metrics"), ("GET", "http://x/v1/"),
        ("GET", "/v1/a b"), ("GET", "@127.0.0.1/v1/"), ("GET", "/v1/%2e%2e/metrics"), ("POST", f"/v1/%72elay/{origin}"),
    ):  # fmt: skip
        await through(Request(method, path), 502)
    status, _ = await post(f"{url}/v1/relay/{bytes(32).hex()}", b"")
    assert status == 404
    own = federation.nodes["north"].state.operator.origin_hash.hex()
    status, _ = await post(f"{url}/v1/relay/{own}", b"")
    assert status == 404, "a node is no relay to itself: it would see both ends"
    for body in (b"", b"garbage", bytes(100), bytes(300_000)):
        status, answer = await post(f"{federation.url('west')}/v1/gateway", body)
        assert status in (400, 413, 422), answer
    async with aiohttp.ClientSession() as session, session.get(f"{federation.url('west')}/v1/ohttp-keys") as response:
        assert response.content_type == "application/ohttp-keys"
        assert (await response.read())[2:] == target.gateway_key.configuration()


async def test_without_a_key_in_the_log_nothing_is_posted(federation: Federation) -> None:
    charter = federation.nodes["north"].state.charter
    async with BackendPool(charter) as pool:
        view = RegistryView(charter, pool)
        view.go_through_others(seed("guard"))
        with pytest.raises(BackendError, match="names no key"):
            await pool.post(pool.backends[0], "/v1/requests", cbor.encode([]))
        veil = pool.transport.veil
        assert veil is not None
        async with asyncio.timeout(30):
            while not all(veil(backend) for backend in pool.backends):
                await view.refresh([])
        # Who leaves its key out, so that everybody asks it directly, is not asked at all.
        silent = pool.backends[1]
        pool.transport.veil = lambda backend: b"" if backend is silent else veil(backend)
        with pytest.raises(BackendError, match="names no key"):
            await pool.fetch(silent, "/v1/heads")
        pool.transport.veil = veil
        with pytest.raises(BackendError) as found:
            await pool.post(pool.backends[0], "/v1/requests", cbor.encode([]))
        assert found.value.status == 400
