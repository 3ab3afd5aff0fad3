"""`peewit mediator applications|approve|reject|keys|trail`: deciding on practices, and giving them keys."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from peewit_clients.areas import label
from peewit_clients.cli.common import emit, json_option, plain, read_charter
from peewit_clients.cli.publishing import (
    Work,
    device_option,
    folder_option,
    open_device,
    proposes,
    publishing,
    require_open,
    show_progress,
    with_device,
)
from peewit_clients.cli.speaking import language_option, show_table
from peewit_clients.desk import Desk, Filed
from peewit_clients.device_log import Progress
from peewit_clients.mediator import Mediator
from peewit_clients.practice_codes import PracticeCodes
from peewit_clients.words import Words, said, words_in
from peewit_federation.errors import RefusedError, UnknownError
from peewit_federation.statements.mediator import Catchment, Provider

DAYS = 365
TRAIL = {
    "admitted": "trail_admitted",
    "rejected": "trail_rejected",
    "first yes": "trail_first_yes",
    "passports": "trail_passports",
    "passports rejected": "trail_passports_rejected",
}
"What devices write down, and the lines for it."


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
        good = codes.good((one.application.code, one.subject) for one in found) if codes else [False] * len(found)
        if work.as_json:
            emit([
                {
                    "number": one.number, "data": one.data, "areas": areas[one.number], "code": one.application.code,
                    "services": list(one.application.services), "time": one.application.time,
                    "first_yes": one.digest in desk.yes,
                    "code_holds": is_good if codes else None,
                }
                for one, is_good in zip(found, good, strict=True)
            ])  # fmt: skip
            return
        table = Table(
            work.say("column_number"),
            work.say("column_says"),
            work.say("column_areas"),
            work.say("column_services"),
            work.say("column_code"),
            work.say("column_asked"),
        )
        first_yes = work.say("office_first_yes")
        for one, is_good in zip(found, good, strict=True):
            says = "\n".join(f"{key}: {value}" for key, value in one.data.items())
            when = time.strftime("%Y-%m-%d", time.localtime(one.application.time))
            services = ", ".join(one.application.services)
            table.add_row(
                one.number,
                escape(plain(says, "\n")),
                ", ".join(areas[one.number]),
                services,
                _of_code(codes, one, work.say, is_good=is_good),
                f"{when}\n{first_yes}" if one.digest in desk.yes else when,
            )
        show_table(table if found else work.say("office_no_application"), 0, 5)
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
        if not chosen:
            click.echo(work.say("office_nothing_waits"), err=True)
            return None
        if everything and not readmit:
            for one in [one for one in chosen if planner.revoked(Provider.KIND, one.subject)]:
                click.echo(work.say("office_left_revoked", number=one.number), err=True)
                chosen.remove(one)
        codes = PracticeCodes.load(work.folder)
        good = codes.good((one.application.code, one.subject) for one in chosen) if codes else [True] * len(chosen)
        for one in [one for one, is_good in zip(chosen, good, strict=True) if not is_good]:
            if without_code:
                continue
            if not everything:
                raise RefusedError(said("error_no_good_code", number=one.number))
            click.echo(work.say("office_left_codeless", number=one.number), err=True)
            chosen.remove(one)
        plan = desk.approve(planner, chosen, days, readmit=readmit)
        if not work.proposes(plan):
            return None
        both = await desk.require_two([one.digest for one in chosen])
        if len(both) < len(chosen):
            click.echo(work.say("office_second_person", count=len(chosen) - len(both)), err=work.as_json)
            chosen = [one for one in chosen if one.digest in both]
            plan = desk.approve(planner, chosen, days, readmit=readmit)
            if not chosen:
                return None
        if codes:
            for one in chosen:  # before they are admitted: cut short, a code is still this practice's
                codes.spend(one.application.code, one.subject)
        progress = await role.publish(plan, wait_s=work.wait_s)
        await role.prepare()
        for line in await desk.tell(chosen):
            click.echo(work.say("office_untold_admitted", who=plain(line)), err=True)
        await desk.drop_yes(both)
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
            proposes(work, [said("office_would_reject", name=name, reason=reason)], 0, dry_run=True)
            return
        await desk.reject(filed, reason)
        if work.as_json:
            emit({"rejected": filed.number})
        else:
            click.echo(work.say("office_was_told", name=plain(name)))

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
        if not work.proposes(plan):
            return None
        progress = await role.publish(plan, wait_s=work.wait_s)
        await role.prepare()
        for line in await desk.deliver():
            click.echo(work.say("office_untold", who=plain(line)), err=True)
        return progress

    _finish(with_device(work.folder, work.device, read_charter(work.charter_path), work.nodes, act), work)


@click.command()
@folder_option
@device_option
@language_option
@json_option
def trail(folder: Path, device: str, language: str, as_json: bool) -> None:
    """What was decided at this device, when."""
    with open_device(folder, device) as state:
        rows = state.trail()
    if as_json:
        emit([{"time": at_s, "what": what, "application": name, "detail": detail} for at_s, what, name, detail in rows])
        return
    say = words_in(language)
    table = Table(say("column_time"), say("column_what"), say("column_number"), "")
    for at_s, what, name, detail in rows:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))
        table.add_row(when, say(TRAIL[what]) if what in TRAIL else what, name, escape(plain(detail)))
    show_table(table if rows else say("office_no_trail"), 2)


def _of_code(codes: PracticeCodes | None, one: Filed, say: Words, *, is_good: bool) -> str:
    """The code of an application, and what is to be thought of it."""
    code = escape(plain(one.application.code))
    if codes is None:
        return code
    if is_good:
        return code + "\n" + say("office_good_code")
    return code + "\n[red]" + say("office_bad_code") + "[/]"


def _chosen(found: list[Filed], numbers: tuple[str, ...], *, everything: bool) -> list[Filed]:
    if everything:
        return found
    known = {one.number: one for one in found}
    for number in numbers:
        if number not in known:
            raise UnknownError(said("error_no_application", number=number))
    return [known[number] for number in numbers]


def _finish(progress: Progress | None, work: Work) -> None:
    if progress is not None:
        show_progress(progress, work)
