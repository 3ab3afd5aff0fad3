"""`peewit mediator applications|approve|reject|keys|trail`: deciding on practices, and giving them keys."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from peewit_clients.areas import label
from peewit_clients.cli.common import emit, plain, read_charter, show_progress
from peewit_clients.cli.publishing import (
    Work,
    device_option,
    folder_option,
    open_device,
    publishing,
    require_open,
    with_device,
)
from peewit_clients.desk import Desk, Filed
from peewit_clients.device_log import Progress
from peewit_clients.mediator import Mediator
from peewit_clients.plans import Plan
from peewit_clients.practice_codes import PracticeCodes
from peewit_federation.errors import RefusedError, UnknownError
from peewit_federation.statements.mediator import Catchment, Provider

DAYS = 365
FIRST_YES = "{count} of them wait for a second person now: nothing is signed before another device says approve, too."


@click.command()
@publishing
def applications(work: Work) -> None:
    """Practices that want to be admitted: look each up before you approve it."""

    async def look(role: Mediator) -> None:
        planner, codes = await role.prepare(), PracticeCodes.load(work.folder)
        desk = Desk(role)
        found = await desk.applications()
        names = role.state.names(Catchment.KIND)

        def named(area: bytes) -> str:
            """As this device calls it, or, if another made it, what it is."""
            held = planner.knowledge.standing(Catchment.KIND, area)
            return names.get(area) or (label(held) if isinstance(held, Catchment) else area.hex()[:8])

        areas = {one.number: list(map(named, one.application.areas)) for one in found}
        if work.as_json:
            emit([
                {
                    "number": one.number, "data": one.data, "areas": areas[one.number], "code": one.application.code,
                    "services": list(one.application.services), "time": one.application.time,
                    "first_yes": one.digest in desk.yes,
                    "code_holds": codes.holds(one.application.code, one.subject) if codes else None,
                }
                for one in found
            ])  # fmt: skip
            return
        table = Table("number", "what it says of itself", "areas", "services", "code", "asked")
        for one in found:
            said = "\n".join(f"{key}: {value}" for key, value in one.data.items())
            when = time.strftime("%Y-%m-%d", time.localtime(one.application.time))
            services = ", ".join(one.application.services)
            table.add_row(
                one.number,
                escape(plain(said, "\n")),
                ", ".join(areas[one.number]),
                services,
                _of_code(codes, one),
                f"{when}\na first yes" if one.digest in desk.yes else when,
            )
        Console().print(table if found else "No application waits.")
        for line in desk.complaints:
            click.echo(plain(line), err=True)

    with_device(work.folder, work.device, read_charter(work.charter_path), work.nodes, look)


@click.command()
@click.argument("numbers", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that wait.")
@click.option("--days", type=click.IntRange(1, 400), default=DAYS, show_default=True, help="For how long.")
@click.option("--readmit", is_flag=True, help="Also practices that were revoked; --all leaves them out otherwise.")
@click.option("--without-code", is_flag=True, help="Also practices without a good code, if your office sends codes.")
@publishing
def approve(
    numbers: tuple[str, ...], everything: bool, days: int, readmit: bool, without_code: bool, work: Work
) -> None:  # fmt: skip
    """Admit the practices behind these applications, and send them what they need."""
    if not numbers and not everything:
        raise click.UsageError("name applications (see `peewit mediator applications`), or say --all")

    async def act(role: Mediator) -> Progress | None:
        planner = await role.prepare()
        require_open(role)
        desk = Desk(role)
        chosen = _chosen(await desk.applications(), numbers, everything=everything)
        if everything and not readmit:
            for one in [one for one in chosen if planner.revoked(Provider.KIND, one.subject)]:
                click.echo(plain(f"left out: {one.number} was revoked; --readmit admits it again"), err=True)
                chosen.remove(one)
        codes = PracticeCodes.load(work.folder)
        for one in [one for one in chosen if codes and not codes.holds(one.application.code, one.subject)]:
            if without_code:
                continue
            if not everything:
                raise RefusedError(f"{one.number} has no good code: look into it, and admit it with --without-code")
            click.echo(f"left out: {one.number} has no good code; --without-code admits it all the same", err=True)
            chosen.remove(one)
        plan = desk.approve(planner, chosen, days, readmit=readmit)
        if not _show(plan, work):
            return None
        both = await desk.require_two([one.digest for one in chosen])
        if len(both) < len(chosen):
            click.echo(FIRST_YES.format(count=len(chosen) - len(both)), err=work.as_json)
            chosen = [one for one in chosen if one.digest in both]
            plan = desk.approve(planner, chosen, days, readmit=readmit)
            if not chosen:
                return None
        progress = await role.publish(plan, wait_s=work.wait_s)
        await role.prepare()
        for line in await desk.tell(chosen):
            click.echo(f"could not be told yet, say `peewit mediator keys` later: {line}", err=True)
        await desk.drop_yes(both)
        if codes:
            for one in chosen:
                codes.spend(one.application.code, one.subject)
        return progress

    _finish(with_device(work.folder, work.device, read_charter(work.charter_path), work.nodes, act), work)


@click.command()
@click.argument("number")
@click.option("--reason", required=True, help="For the practice, in a sentence.")
@publishing
def reject(number: str, reason: str, work: Work) -> None:
    """Tell a practice why it is not admitted."""

    async def act(role: Mediator) -> None:
        await role.prepare()
        desk = Desk(role)
        (filed,) = _chosen(await desk.applications(), (number,), everything=False)
        name = filed.data.get("name", number)
        if work.dry_run:
            click.echo(f"would tell {plain(name)}: {reason}\nNothing was sent (--dry-run).")
            return
        await desk.reject(filed, reason)
        if work.as_json:
            emit({"rejected": filed.number})
        else:
            click.echo(f"{plain(name)} was told.")

    with_device(work.folder, work.device, read_charter(work.charter_path), work.nodes, act)


@click.command()
@publishing
def keys(work: Work) -> None:
    """Announce next week's keys for requests, and send every practice those of its areas.

    Say it once a week (or by a timer). A practice that was revoked gets none: within a week it can read no new request.
    """

    async def act(role: Mediator) -> Progress | None:
        planner = await role.prepare()
        require_open(role)
        desk = Desk(role)
        await desk.applications()  # with what other devices share
        plan = desk.rotate(planner)
        if not _show(plan, work):
            return None
        progress = await role.publish(plan, wait_s=work.wait_s)
        await role.prepare()
        for line in await desk.deliver():
            click.echo(f"could not be told yet: {line}", err=True)
        return progress

    _finish(with_device(work.folder, work.device, read_charter(work.charter_path), work.nodes, act), work)


@click.command()
@folder_option
@device_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def trail(folder: Path, device: str, as_json: bool) -> None:
    """What was decided at this device, when."""
    with open_device(folder, device) as state:
        rows = state.trail()
    if as_json:
        emit([{"time": at_s, "what": what, "application": name, "detail": detail} for at_s, what, name, detail in rows])
        return
    table = Table("time", "what", "application", "")
    for at_s, what, name, detail in rows:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))
        table.add_row(when, what, name, escape(plain(detail)))
    Console().print(table if rows else "Nothing was decided here yet.")


def _of_code(codes: PracticeCodes | None, one: Filed) -> str:
    """The code of an application, and what is to be thought of it."""
    code = escape(plain(one.application.code))
    if codes is None:
        return code
    return f"{code}\ngood" if codes.holds(one.application.code, one.subject) else f"{code}\n[red]not good[/]"


def _chosen(found: list[Filed], numbers: tuple[str, ...], *, everything: bool) -> list[Filed]:
    if everything:
        return found
    known = {one.number: one for one in found}
    for number in numbers:
        if number not in known:
            raise UnknownError(f"no application {number!r} waits; see `peewit mediator applications`")
    return [known[number] for number in numbers]


def _show(plan: Plan, work: Work) -> bool:
    """Show consequences; whether to go on."""
    if work.dry_run and work.as_json:
        emit({"dry_run": True, "consequences": plan.consequences, "statements": len(plan.statements)})
        return False
    for line in plan.consequences:
        click.echo(plain(line), err=work.as_json)
    if work.dry_run:
        click.echo("Nothing was signed or sent (--dry-run).", err=True)
    return not work.dry_run


def _finish(progress: Progress | None, work: Work) -> None:
    if progress is not None:
        show_progress(progress, as_json=work.as_json)
