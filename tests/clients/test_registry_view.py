"""What a client believes of the registry, and how fresh it is."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_federation.errors import OperatorError
from peewit_federation.log.checkpoint import Head, log_key
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.mediator import Provider, Revocation
from tests.clients.office import charter_of
from tests.federation_kit import Federation, TestMediator, catchment, provider, seed
from tests.federation_kit_http import start_with_area


async def test_a_client_sees_what_the_nodes_see_and_how_fresh_it_is(federation: Federation) -> None:
    mediator, _ = await start_with_area(federation)
    digest = await federation.agree()
    await asyncio.sleep(0.8)
    async with BackendPool(charter_of(federation)) as pool:
        view = RegistryView(charter_of(federation), pool)
        await view.refresh([mediator.id])
        found = view.finder.look(mediator.id, Provider.KIND, provider("p0").subject, int(time.time()))
        assert found.verdict is Verdict.ACTIVE
        assert view.registry.digest() == digest
        freshness = view.freshness[mediator.id]
        assert freshness.may_book
        assert freshness.as_of_s is not None
        assert view.complaints == {}
        areas = await view.catchments()
        assert [(area.area, owner) for area, owner in areas] == [(catchment("area").area, mediator.id)]
        again = RegistryView(charter_of(federation), pool)
        again.follower.load(view.follower.encode())
        assert again.follower.copies.keys() == view.follower.copies.keys()


async def test_a_node_that_withholds_a_revocation_is_found_out(federation: Federation) -> None:
    """East serves what it had before the revocation; one honest node is enough to know."""
    mediator, device = await start_with_area(federation)
    subject = provider("p0").subject
    await federation.stop("east")
    device.entries.append(Revocation(Provider.KIND, subject, 1, bytes(16)).encode())
    status, body = await device.publish(federation.url("north"), 3)
    assert status == 200, body
    await federation.agree()
    charter = charter_of(federation)
    await federation.stop()
    await federation.start("east")
    async with BackendPool(charter, only=("east",)) as pool:
        alone = RegistryView(charter, pool)
        await alone.refresh([mediator.id])
        assert alone.finder.look(mediator.id, Provider.KIND, subject, int(time.time())).verdict is Verdict.ACTIVE
        assert alone.freshness[mediator.id].age_s is None, "one node alone is nobody's quorum"
        assert not alone.freshness[mediator.id].may_book
    await federation.start("north", "west", "south")
    async with BackendPool(charter, only=("east", "north")) as pool:
        view = RegistryView(charter, pool)
        await view.refresh([mediator.id])
        assert view.finder.look(mediator.id, Provider.KIND, subject, int(time.time())).verdict is Verdict.REVOKED


async def test_a_node_that_rolls_back_its_views_is_named(federation: Federation) -> None:
    from peewit_clients.freshness import Seen, ViewBook
    from peewit_federation.gossip.views import Line, View

    charter = charter_of(federation)
    book = ViewBook(charter)

    def seen(time_s: int, size: int) -> Seen:
        line = Line(b"", seed("log"), size, seed("root", size))
        return Seen("west", View(bytes(8), time_s, time_s, 1, seed(time_s)), {b"": (line,)})

    book.add(seen(100, 9), 200)
    book.add(seen(101, 5), 200)
    assert "rolled log" in book.complaints["west"][0]
    book.add(seen(10_000, 9), 200)
    assert "future" in book.complaints["west"][1]


async def test_a_client_whose_clock_is_a_day_off_is_told_so(federation: Federation) -> None:
    charter = charter_of(federation)
    async with BackendPool(charter) as pool:
        with pytest.raises(OperatorError, match="clock is 86[0-9]+ s behind"):
            await RegistryView(charter, pool, clock=lambda: time.time() - 86_400).refresh()
        ahead = RegistryView(charter, pool, clock=lambda: time.time() + 2 * 86_400)
        mediator = TestMediator("nobody")
        await ahead.refresh([mediator.id])
        assert not ahead.freshness[mediator.id].may_book, "everything looks two days old"


async def test_two_callers_who_refresh_one_view_at_once_do_not_spoil_its_copies(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    mediator, device = await start_with_area(federation)
    async with BackendPool(charter_of(federation), only=("north",)) as pool:
        view = RegistryView(charter_of(federation), pool)
        await view.refresh([mediator.id])
        (north,) = pool.backends
        (copy,) = (c for c in view.follower.copies.values() if c.key == log_key(device.key.public))
        heads = []
        for number in range(2):
            device.entries.append(Revocation(Provider.KIND, seed(number), 1, bytes(16)).encode())
            assert (await device.publish(federation.url("north"), copy.size + number))[0] == 200
            (found,) = await view.follower.heads_at([copy], north)
            assert isinstance(found, list)
            heads.append(found[-1])
        waiting, real = list(heads), view.follower._fetch

        async def one_head(*_: object) -> list[list[Head]]:
            return [[waiting.pop(0)]]

        async def slow_for_the_first(*args: Any) -> Any:
            await asyncio.sleep(0.3 if args[2] == heads[0].checkpoint else 0)
            return await real(*args)

        with monkeypatch.context() as patched:
            patched.setattr(view.follower, "heads_at", one_head)
            patched.setattr(view.follower, "_fetch", slow_for_the_first)
            await asyncio.gather(view.follower.update([copy], [north]), view.follower.update([copy], [north]))
        assert copy.head is not None
        assert (copy.head.size, copy.size) == (heads[1].size, heads[1].size)
        await view.refresh([mediator.id])
        assert copy.entries == device.entries
        assert "north" not in view.complaints, "it served what it announced"
