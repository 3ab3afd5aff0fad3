"""`peewit user find`: which areas serve a postcode, how many practices they have, and how many people wait there.

Rules kept here: the list of all areas is the same for everybody and searched on this device; what is asked of the areas
that were found goes through other nodes, so that who is asked does not learn who asks.
"""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console
from rich.table import Column, Table

from peewit_clients.areas import Area, around, every_area, label, practices, read_areas, read_postcode, waiting
from peewit_clients.cli.common import emit, read_charter, with_pool
from peewit_clients.cli.nearby import near, places_option, within_option
from peewit_clients.cli.person import Me, personal
from peewit_clients.cli.speaking import show_table
from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_clients.words import said
from peewit_federation.draw.hashes import AREAS_MAX
from peewit_federation.errors import MalformedError, UnknownError


@click.command()
@click.argument("postcode")
@click.option("--service", "services", multiple=True, help="Only areas that offer this.")
@within_option
@places_option
@personal
def find(postcode: str, services: tuple[str, ...], within: str, places: Path | None, me: Me) -> None:
    """Catchment areas for a postcode, with their practices and queues.

    The whole list is fetched and searched here, the rest is asked through other nodes: nobody learns where you live.
    """
    read_postcode(postcode)
    reached = near(postcode, within, places)
    charter = read_charter(me.charter_path)

    async def look(pool: BackendPool) -> list[tuple[int, Area, int, int]]:
        view = RegistryView(charter, pool)
        # Numbers are those among all areas, whatever service is asked for.
        found = list(enumerate(around(await every_area(view), reached), start=1))
        if services:
            found = [(number, area) for number, area in found if set(services) & set(area.catchment.services)]
        await _ask_of(view, [area for _, area in found])
        return [
            (number, area, practices(view, area, services), sum((await waiting(view, area)).values()))
            for number, area in found
        ]

    with Console(stderr=True).status(me.say("find_working")):
        rows = with_pool(charter, me.nodes, look)
    if me.as_json:
        emit([_plain(*row) for row in rows])
        return
    if not rows:
        me.tell("areas_none", postcode=postcode)
        return
    say, names = me.say, {operator.origin_hash: operator.name for operator in charter.operators}
    columns: list[Column | str] = [say("column_number"), Column(say("column_area"), no_wrap=True), say("column_where")]
    columns += ["km"] if len(reached) > 1 else []
    columns += map(say, ("column_groups", "column_practices", "column_waiting", "column_nodes"))
    table = Table(*columns, title=say("areas_title", postcode=postcode))
    for number, area, count, people in rows:
        c = area.catchment
        groups, nodes = ", ".join((*c.groups, say("everybody"))), ", ".join(names.get(n, "?") for n in c.nodes)
        km = [f"{area.km:.1f}"] if len(reached) > 1 else []
        table.add_row(str(number), area.short, label(c), *km, groups, str(count), str(people), nodes)
    show_table(table, 0, 1)
    me.tell("areas_hint")


async def _ask_of(view: RegistryView, areas: list[Area]) -> None:
    """Learn of these areas' mediators, through other nodes."""
    view.go_through_others(os.urandom(32))
    await view.refresh(sorted({area.mediator for area in areas}))


def choose(
    me: Me, postcode: str, services: tuple[str, ...], words: tuple[str, ...], group: str
) -> tuple[tuple[bytes, bytes], ...]:
    """The areas of a request. Raises `UnknownError` or `MalformedError`."""
    if len(set(words)) != len(words) or len(words) > AREAS_MAX:
        raise MalformedError(said("error_areas", count=AREAS_MAX))
    charter = read_charter(me.charter_path)

    async def look(pool: BackendPool) -> tuple[list[Area], bool]:
        view = RegistryView(charter, pool)
        every = await every_area(view)
        found = around(every, {postcode: 0.0})
        if words:
            chosen = read_areas(words, found, every)
            lacking = [area for area in chosen if not set(services) & set(area.catchment.services)]
            if lacking:
                raise UnknownError(said("error_area_lacks", area=lacking[0].short, services=", ".join(services)))
            await _ask_of(view, chosen)
            return chosen, any(practices(view, area, services) for area in chosen)
        found = [area for area in found if set(services) & set(area.catchment.services)]
        if not found:
            raise UnknownError(said("error_no_area", postcode=postcode))
        found = [area for area in found if not group or group in area.catchment.groups] or found
        await _ask_of(view, found)
        best = min(found, key=lambda area: practices(view, area, services) == 0)
        return [best], practices(view, best, services) > 0

    chosen, offered = with_pool(charter, me.nodes, look)
    if not offered:
        me.tell("request_no_practice", err=True)
    return tuple((area.mediator, area.catchment.area) for area in chosen)


def _plain(number: int, area: Area, count: int, people: int) -> dict[str, object]:
    c = area.catchment
    return {
        "number": number, "short": area.short, "mediator": area.mediator.hex(), "area": c.area.hex(),
        "services": list(c.services), "groups": list(c.groups), "postcodes": list(c.postcodes),
        "km": round(area.km, 1), "practices": count, "waiting": people,
    }  # fmt: skip
