"""What a client believes of the registry, and how fresh it is."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_federation import cbor
from peewit_federation.api import Answer
from peewit_federation.errors import MalformedError, OperatorError
from peewit_federation.log.checkpoint import Head, log_key
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.mediator import Provider, Revocation
from peewit_node.answers import ITEMS_MAX
from tests.clients.office import charter_of
from tests.federation_kit import Federation, TestMediator, catchment, provider, seed
from tests.federation_kit_http import Device, get, start_with_area
from tests.node.test_liars import Liar


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


async def test_a_rollback_between_two_runs_is_noticed(federation: Federation) -> None:
    """What a node's views told is kept with the copies of logs."""
    charter = charter_of(federation)
    async with BackendPool(charter) as pool:
        before, after = RegistryView(charter, pool), RegistryView(charter, pool)
        before.book.sizes = {"north.127.0.0.1/witness": {seed("log"): 9}}
        after.load(before.encode())
        assert after.book.sizes == before.book.sizes
        for wrong in (b"", b"\x80", cbor.encode([1, [], []])):
            with pytest.raises(MalformedError):
                after.load(wrong)


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


def greedy_and_modest() -> list[TestMediator]:
    """Two mediators in the order in which their areas are listed."""
    return sorted((TestMediator("mitte"), TestMediator("pankow")), key=lambda one: one.id)


async def publish_areas(federation: Federation, mediator: TestMediator, count: int) -> set[tuple[bytes, bytes]]:
    areas = [catchment(f"{mediator.name} {number}", "10115") for number in range(count)]
    device = Device.of(mediator)
    device.entries = [area.encode() for area in areas]
    for start in range(0, count, 1_000):
        status, body = await device.publish(federation.url("north"), start, device.entries[: start + 1_000])
        assert status == 200, body
    return {(mediator.id, area.area) for area in areas}


async def listed(federation: Federation) -> tuple[set[tuple[bytes, bytes]], dict[str, list[str]]]:
    async with BackendPool(charter_of(federation)) as pool:
        view = RegistryView(charter_of(federation), pool)
        await view.refresh()
        return {(mediator, area.area) for area, mediator in await view.catchments()}, view.complaints


async def test_a_mediator_with_thousands_of_areas_hides_none_of_the_others(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path, ("north",), quorum=1)
    await federation.start()
    greedy, modest = greedy_and_modest()
    for mediator in (greedy, modest):
        await federation.nodes["north"].own.append(mediator.admission("1").encode())
    await federation.agree()
    expected = await publish_areas(federation, greedy, ITEMS_MAX + 3) | await publish_areas(federation, modest, 1)
    await federation.agree()
    found, complaints = await listed(federation)
    assert (found, complaints) == (expected, {})
    await federation.stop()


async def test_of_a_mediator_that_fills_page_after_page_the_first_areas_are_read_and_then_the_next_mediator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peewit_node.answers.ITEMS_MAX", 3)
    monkeypatch.setattr("peewit_clients.registry_view.AREAS_MAX", 5)
    federation = Federation.make(tmp_path, ("north",), quorum=1)
    await federation.start()
    greedy, modest = greedy_and_modest()
    for mediator in (greedy, modest):
        await federation.nodes["north"].own.append(mediator.admission("1").encode())
    await federation.agree()
    many, few = await publish_areas(federation, greedy, 20), await publish_areas(federation, modest, 4)
    await federation.agree()
    found, _ = await listed(federation)
    assert found == few | set(sorted(many)[:6]), "two pages of the first, then on behind it"
    url, after = federation.url("north") + "/v1/catchments?postcode=10115", ""
    pages = []
    while True:
        status, body = await get(url + after)
        assert status == 200, body
        pages.append(Answer.decode(body))
        if not pages[-1].cursor:
            break
        after = f"&after={pages[-1].cursor.hex()}"
    assert [len(page.items) for page in pages] == [3] * 8
    await federation.stop()


async def test_a_node_whose_list_never_ends_is_named_and_another_is_asked(federation: Federation) -> None:
    mediator, _ = await start_with_area(federation)
    await federation.agree()
    asked = 0

    async def endless(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(body=Answer((), (), (), asked.to_bytes(48, "big")).encode())

    await federation.stop("east")
    liar = Liar(federation, "east")
    await liar.start()
    liar.answers = {"/v1/catchments": endless}
    async with BackendPool(charter_of(federation), only=("east", "north")) as pool:
        view = RegistryView(charter_of(federation), pool)
        await view.refresh([mediator.id])
        assert [area.area for area, _ in await view.catchments()] == [catchment("area").area]
        assert view.complaints["east"] == ["/v1/catchments: a list without end"]
    assert asked < 60
    await liar.stop()
