"""What nodes tell each other, and what they find out when they meet (design 4.3)."""

from __future__ import annotations

import asyncio

import pytest

from peewit_federation import cbor
from peewit_federation.errors import ForgeryError
from peewit_federation.gossip.feed import HeadItem, Item, ViewItem
from peewit_federation.gossip.views import OPERATORS, Range, open_view
from peewit_federation.keys import SigningKey
from peewit_node.node import Node
from peewit_node.peers import Peer
from tests.federation_kit import Federation, catchment, encode_all, provider, seed
from tests.federation_kit_http import Device, get, quorums, start_with_area, until


async def test_views_come_with_ranges_that_leave_nothing_out(federation: Federation) -> None:
    mediator, device = await start_with_area(federation)
    await until(lambda: quorums(federation))
    await asyncio.sleep(0.6)
    status, body = await get(f"{federation.url('east')}/v1/views?mediator={mediator.id.hex()}")
    assert status == 200
    policy = federation.nodes["east"].state.charter.policy
    names = set()
    for data, (operators, mine) in cbor.decode(body):
        name, view = open_view(data, policy)
        names.add(name)
        assert len(Range.of(operators, view.size).open(OPERATORS, view)) == 4
        found = Range.of(mine, view.size).open(mediator.id, view)
        assert [(line.origin, line.size) for line in found] == [(device.origin, 3)]
        with pytest.raises(ForgeryError):
            Range.of([operators[0], operators[1][:-1], *operators[2:]], view.size).open(OPERATORS, view)
    assert names == set(federation.names)


async def test_a_view_dated_in_the_future_is_not_taken_over(federation: Federation) -> None:
    north = federation.nodes["north"]
    honest = north.state.clock
    north.state.clock = lambda: honest() + 86_400
    north.views._clock = north.state.clock
    north.gossip._clock = north.state.clock
    await asyncio.sleep(1)
    for name in ("west", "south", "east"):
        held = federation.nodes[name].views.newest.get("north")
        assert held is None or held.view.time_s < honest() + 121


async def test_who_comes_back_with_everything_is_told_of_no_log(federation: Federation) -> None:
    """Its feed is new and its cursors are gone, but marks show that only views differ."""
    mediator, _ = await start_with_area(federation)
    for number in range(14):
        device = Device(mediator, SigningKey(seed("desk", number)), encode_all(catchment(f"area-{number}", "10115")))
        status, body = await device.publish(federation.url("north"))
        assert status == 200, body
    await federation.agree()
    await until(lambda: quorums(federation))
    told: list[Item] = []

    def listen(node: Node) -> None:
        real = node.intake.take_all

        async def take_all(items: tuple[Item, ...], peer: Peer, *, pushed: bool) -> None:
            if "west" in (peer.name, node.state.operator.name):  # the others may still be talking of what was before
                told.extend(items)
            await real(items, peer, pushed=pushed)

        node.intake.take_all = take_all  # type: ignore[method-assign]

    await federation.stop("west")
    for name in ("north", "south", "east"):
        listen(federation.nodes[name])
    told.clear()
    await federation.start("west")
    listen(federation.nodes["west"])
    peers = federation.nodes["west"].peers.all.values()
    await until(lambda: all(peer.delivered is not None and peer.exchanges > 3 for peer in peers))
    assert any(isinstance(item, ViewItem) for item in told)
    assert [item for item in told if isinstance(item, HeadItem)] == []


async def test_what_got_lost_between_two_nodes_is_found_although_neither_has_news(federation: Federation) -> None:
    """A node lost an item (its disk was full, say), and everybody believes that it has it."""
    _, device = await start_with_area(federation)
    await until(lambda: quorums(federation))
    await federation.stop("east")
    device.entries.append(provider("late", catchment("area", "10115")).encode())
    west = federation.nodes["west"]
    real = west.intake.take_all

    async def lose(*_: object, **__: object) -> None:
        await asyncio.sleep(0)

    west.intake.take_all = lose  # type: ignore[method-assign]
    status, body = await device.publish(federation.url("north"), 3)
    assert status == 200, body
    await asyncio.sleep(1.0)
    log = west.logs.get(device.origin)
    assert log is not None
    assert log.size == 3
    west.intake.take_all = real  # type: ignore[method-assign]
    await until(lambda: log.size == 4)
