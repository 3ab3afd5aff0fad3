"""`peewit registry`: who may do what, checked by this device against the nodes' cosignatures."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click
from rich.table import Column, Table

from peewit_clients.cli.common import (
    UNREACHABLE,
    charter_option,
    complain,
    emit,
    json_option,
    node_option,
    read_charter,
    with_pool,
)
from peewit_clients.cli.nearby import near, places_option, within_option
from peewit_clients.cli.speaking import asked_language, show_table
from peewit_clients.freshness import Freshness
from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import MEANING, RegistryView
from peewit_federation.charter import Charter
from peewit_federation.errors import MalformedError, OperatorError, SenderError, UnknownError
from peewit_federation.registry.find import Found
from peewit_federation.registry.subjects import Verdict

cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=lambda: Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "peewit",
    help="Where copies of logs are kept between runs, so that rollbacks are noticed.",
)


@click.group()
def registry() -> None:
    """Search catchment areas and practices, and check whether a practice may act."""


@registry.command()
@click.option("--postcode", required=True, help="Where you live, for example 10115. It does not leave this device.")
@click.option("--service", default=None, help="For example flu.")
@within_option
@places_option
@charter_option
@node_option
@cache_option
@json_option
def find(
    postcode: str,
    service: str | None,
    within: str,
    places: Path | None,
    charter_path: Path,
    nodes: tuple[str, ...],
    cache: Path,
    as_json: bool,
) -> None:
    """Find catchment areas near a postcode, and how many practices they have.

    The whole list of areas is fetched and searched here, so that no node learns where you live.
    """
    if not re.fullmatch(r"[0-9]{4,5}", postcode, re.ASCII):
        raise MalformedError("--postcode: four or five digits")
    reached = near(postcode, within, places)
    charter = read_charter(charter_path)

    async def work(pool: BackendPool) -> list[tuple[float, Found, int, str]]:
        view = _open(charter, pool, cache)
        await view.refresh()
        mediators: dict[bytes, float] = {}
        for area, mediator in await view.catchments():
            distances = [reached[code] for code in area.postcodes if code in reached]
            if distances and (service is None or service in area.services):
                mediators[mediator] = min([*distances, mediators.get(mediator, 1e9)])
        await view.refresh(list(mediators))
        now_s = int(view.clock())
        rows = []
        for found in view.finder.catchments(now_s, None, service):
            if found.standing is None or found.mediator not in mediators:
                continue
            distances = [reached[code] for code in found.standing.postcodes if code in reached]
            if distances:
                count = len(list(view.finder.providers(found.mediator, found.subject, now_s, service)))
                rows.append((min(distances), found, count, str(view.freshness[found.mediator].words())))
        _keep(view, charter, cache)
        complain(view)
        return sorted(rows, key=lambda row: (row[0], row[1].subject))

    rows = with_pool(charter, nodes, work)
    if as_json:
        emit(
            [
                {
                    "area": found.subject.hex(),
                    "mediator": found.mediator.hex(),
                    "km": round(km, 1),
                    "services": found.standing.services if found.standing else [],
                    "providers": count,
                    "freshness": words,
                }
                for km, found, count, words in rows
            ]
        )
        return
    if not rows:
        hint = f" within {within}." if len(reached) > 1 else ". Try --within 20km."
        click.echo(f"No catchment area serves {postcode}{hint}")
        return
    table = Table("km", Column("catchment area", overflow="fold"), "postcodes", "services", "practices", "how fresh")
    for km, found, count, words in rows:
        standing = found.standing
        assert standing is not None
        codes = ", ".join(standing.postcodes[:3]) + (
            f" +{len(standing.postcodes) - 3}" if len(standing.postcodes) > 3 else ""
        )
        table.add_row(f"{km:.1f}", found.subject.hex(), codes, ", ".join(standing.services), str(count), words)
    show_table(table)


@registry.command()
@click.argument("subject")
@click.option("--kind", type=click.Choice(["provider", "catchment", "issuer"]), default="provider", show_default=True)
@charter_option
@node_option
@cache_option
@json_option
def show(subject: str, kind: str, charter_path: Path, nodes: tuple[str, ...], cache: Path, as_json: bool) -> None:
    """Show whether a practice (by the SHA-256 of its signing key) may act, and what that means for you."""
    try:
        wanted = bytes.fromhex(subject)
    except ValueError:
        raise MalformedError("the subject is a hexadecimal number") from None
    number = {"catchment": 16, "provider": 17, "issuer": 18}[kind]
    if len(wanted) != (16 if kind == "catchment" else 32):
        raise MalformedError(f"the subject of a {kind} has {32 if kind == 'catchment' else 64} hexadecimal digits")
    charter = read_charter(charter_path)

    async def work(pool: BackendPool) -> list[tuple[Found, Freshness]]:
        view = _open(charter, pool, cache)
        await view.refresh()
        found_at = {proven.device.mediator for proven in await view.subject(kind, wanted)}
        mediators = sorted(mediator for mediator in found_at if view.registry.standing_roots(mediator))
        await view.refresh(mediators)
        found = [view.finder.look(mediator, number, wanted, int(view.clock())) for mediator in mediators]
        _keep(view, charter, cache)
        complain(view)
        return [(item, view.freshness[item.mediator]) for item in found]

    rows = with_pool(charter, nodes, work)
    if as_json:
        emit(
            [
                {
                    "mediator": item.mediator.hex(),
                    "verdict": item.verdict.value,
                    "may_book": item.verdict is Verdict.ACTIVE and fresh.may_book,
                    "freshness": str(fresh.words()),
                    "revocations": len(item.revocations),
                }
                for item, fresh in rows
            ]
        )
    if not rows:
        raise UnknownError(f"no mediator says anything of {kind} {subject[:16]}…")
    if not as_json:
        for item, fresh in rows:
            click.echo(f"{item.verdict.value} (mediator {item.mediator.hex()[:16]}…, {fresh.words()})")
            if kind == "provider" and (fresh.may_book or item.verdict is not Verdict.ACTIVE):
                click.echo(MEANING[item.verdict].text(asked_language()))
    if any(item.verdict is Verdict.ACTIVE and not fresh.may_book for item, fresh in rows):
        click.echo(
            "It cannot be told now whether that still holds: too few nodes confirm it. Try again later.", err=True
        )
        raise SystemExit(UNREACHABLE)


def _open(charter: Charter, pool: BackendPool, cache: Path) -> RegistryView:
    view = RegistryView(charter, pool)
    path = _cache_file(charter, cache)
    if path.exists():
        try:
            view.load(path.read_bytes())
        except (SenderError, OSError, ValueError, TypeError) as error:
            raise OperatorError(f"{path}: {error}; remove it") from None
    return view


def _keep(view: RegistryView, charter: Charter, cache: Path) -> None:
    path = _cache_file(charter, cache)
    fresh = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh.write_bytes(view.encode())
        fresh.replace(path)
    except OSError as error:
        click.echo(f"warning: copies of logs cannot be kept in {cache}: {error.strerror}", err=True)


def _cache_file(charter: Charter, cache: Path) -> Path:
    return cache / f"{charter.digest.hex()[:16]}.logs"
