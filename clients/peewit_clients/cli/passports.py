"""`peewit mediator passports`: vouching for practices' issuer keys, and revoking."""

from __future__ import annotations

import base64
import time

import click
from rich.markup import escape
from rich.table import Table

from peewit_clients.cli.common import emit, plain, read_charter
from peewit_clients.cli.publishing import Work, act_on, publishing, require_open, show_progress, with_device
from peewit_clients.cli.speaking import show_table
from peewit_clients.desk import Desk
from peewit_clients.device_log import Progress
from peewit_clients.mediator import Mediator
from peewit_clients.plans import Plan, Planner
from peewit_clients.vouching import Asked, authority_certificate, revoke_keys, revoke_passport, vouch, words
from peewit_clients.words import Said, said, verdict_line
from peewit_federation.errors import UnknownError
from peewit_federation.passports.messages import CERTIFY
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.mediator import Issuer

DAYS = 400


@click.group()
def passports() -> None:
    """Who may sign vaccination passports, and which of them do not count any more."""


@passports.command(name="list")
@publishing
def list_(work: Work) -> None:
    """What practices ask for, and the keys that this device vouched for."""

    async def look(role: Mediator) -> None:
        await role.prepare()
        desk = Desk(role)
        await desk.applications()
        now_s, keys = int(role.clock()), role.state.names(Issuer.KIND)
        standing = {subject: role.view.finder.look(role.identity.id, Issuer.KIND, subject, now_s) for subject in keys}
        if work.as_json:
            asked = [{"number": one.number, "what": str(words(role, one)), "time": one.ask.time} for one in desk.asked]
            held = [
                {"key": subject.hex(), "name": keys[subject], "verdict": found.verdict.value}
                for subject, found in standing.items()
            ]
            emit({"asked": asked, "keys": held})
            return
        table = Table(
            work.say("column_number"), work.say("column_what"), work.say("column_asked"), title=work.say("office_ask")
        )
        for one in desk.asked:
            when = time.strftime("%Y-%m-%d", time.localtime(one.ask.time))
            table.add_row(one.number, escape(plain(words(role, one).text(work.language))), when)
        show_table(table if desk.asked else work.say("office_nobody_asks"))
        shown = Table(
            work.say("column_key"),
            work.say("column_practice"),
            work.say("column_state"),
            work.say("column_until"),
            title=work.say("office_keys"),
        )
        for subject, found in standing.items():
            until = time.strftime("%Y-%m-%d", time.localtime(found.standing.not_after)) if found.standing else ""
            colour = "green" if found.verdict is Verdict.ACTIVE else "red"
            verdict = f"[{colour}]{work.say(verdict_line(found.verdict))}[/]"
            shown.add_row(subject.hex()[:16] + "…", escape(plain(keys[subject])), verdict, until)
        if standing:
            show_table(shown)

    with_device(work.folder, work.device, read_charter(work.charter_path), work.nodes, look)


@passports.command()
@click.argument("numbers", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that wait.")
@click.option("--days", type=click.IntRange(31, 800), default=DAYS, show_default=True, help="Passports count so long.")
@click.option("--country", default="", help="DE: also give keys an X.509 certificate of your own authority.")
@publishing
def approve(numbers: tuple[str, ...], everything: bool, days: int, country: str, work: Work) -> None:
    """Do as practices ask: vouch for a key, or revoke a passport."""
    if country and not (len(country) == 2 and country.isascii() and country.isupper()):
        raise click.UsageError("--country: two capitals, such as DE")
    if not numbers and not everything:
        raise click.UsageError("name what to approve (see `peewit mediator passports list`), or say --all")

    async def act(role: Mediator) -> Progress | None:
        planner = await role.prepare()
        require_open(role)
        desk = Desk(role)
        await desk.applications()
        chosen = _chosen(desk.asked, numbers, everything=everything)
        if not chosen:
            click.echo(work.say("office_nobody_asks"), err=work.as_json)
            return None
        left_out: dict[Asked, str] = {}
        plan = vouch(role, planner, chosen, days, country, left_out if everything else None)
        for line in left_out.values():
            click.echo(work.say("office_left_out", why=plain(line)), err=True)
        if not work.proposes(plan):
            return None
        vouched = [one.wish for one in chosen if one.ask.what == CERTIFY and one not in left_out]
        both = await desk.require_two(vouched)
        if len(both) < len(vouched):
            click.echo(work.say("office_second_person", count=len(vouched) - len(both)), err=work.as_json)
            chosen = [one for one in chosen if one.wish in both or one.ask.what != CERTIFY]
            if not chosen:
                return None
            plan = vouch(role, planner, chosen, days, country, left_out if everything else None)
        progress = await role.publish(plan, wait_s=work.wait_s)
        await desk.drop_yes(both)
        for one in chosen:
            if one not in left_out:
                role.state.note_down(int(role.clock()), "passports", one.number, str(words(role, one)))
                await desk.drop(*one.digests)
        return progress

    progress = with_device(work.folder, work.device, read_charter(work.charter_path), work.nodes, act)
    if progress is not None:
        show_progress(progress, work)


@passports.command()
@click.argument("numbers", nargs=-1, required=True)
@click.option("--reason", default="", help="For your own trail; tell the practice yourself.")
@publishing
def reject(numbers: tuple[str, ...], reason: str, work: Work) -> None:
    """Do not do as a practice asks: its letter is deleted, and the key or passport stays as it is."""

    async def act(role: Mediator) -> list[Said]:
        await role.prepare()
        desk = Desk(role)
        await desk.applications()
        chosen = _chosen(desk.asked, numbers, everything=False)
        told = [words(role, one) for one in chosen]
        if not work.dry_run:
            for one in chosen:
                detail = reason or str(words(role, one))
                role.state.note_down(int(role.clock()), "passports rejected", one.number, detail)
                await desk.drop(*one.digests)
        return told

    told = with_device(work.folder, work.device, read_charter(work.charter_path), work.nodes, act)
    if work.as_json:
        emit({"rejected": list(map(str, told))})
        return
    for wish in told:
        click.echo(plain(work.say("office_would_not_do" if work.dry_run else "office_not_done", what=wish)))


@passports.command()
@publishing
def authority(work: Work) -> None:
    """Print the certificate of your authority (PEM), for those who make national lists."""

    async def look(role: Mediator) -> str:
        await role.prepare()
        body = base64.encodebytes(authority_certificate(role)).decode()
        return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----"

    click.echo(with_device(work.folder, work.device, read_charter(work.charter_path), work.nodes, look))


@passports.command()
@click.argument("passport")
@publishing
def revoke(passport: str, work: Work) -> None:
    """Revoke one PASSPORT, by its identifier (URN:UVCI:…) or id; for its holder, or because it is wrong."""

    def plan(planner: Planner, _: Mediator) -> Plan:
        return revoke_passport(planner, passport)

    act_on(plan, work)


@passports.command(name="revoke-keys")
@click.argument("name")
@publishing
def revoke_keys_(name: str, work: Work) -> None:
    """Revoke all issuer keys of the practice NAME: every passport that they signed is refused."""

    def plan(planner: Planner, role: Mediator) -> Plan:
        return revoke_keys(role, planner, name)

    act_on(plan, work)


def _chosen(found: list[Asked], numbers: tuple[str, ...], *, everything: bool) -> list[Asked]:
    known = {one.number: one for one in found}
    for number in numbers:
        if number not in known:
            raise UnknownError(said("error_nobody_asks", number=number))
    return found if everything else [known[number] for number in numbers]
