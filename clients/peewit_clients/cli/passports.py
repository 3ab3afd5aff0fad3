"""`peewit mediator passports`: vouching for practices' issuer keys, and revoking."""

from __future__ import annotations

import base64
import time

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from peewit_clients.cli.common import emit, plain, read_charter, show_progress
from peewit_clients.cli.desk import FIRST_YES
from peewit_clients.cli.publishing import Work, act_on, publishing, require_open, with_device
from peewit_clients.desk import Desk
from peewit_clients.device_log import Progress
from peewit_clients.mediator import Mediator
from peewit_clients.plans import Plan, Planner
from peewit_clients.vouching import Asked, authority_certificate, revoke_keys, revoke_passport, vouch, words
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
            emit({
                "asked": [{"number": one.number, "what": words(role, one), "time": one.ask.time} for one in desk.asked],
                "keys": [
                    {"key": subject.hex(), "name": keys[subject], "verdict": found.verdict.value}
                    for subject, found in standing.items()
                ],
            })  # fmt: skip
            return
        table = Table("number", "what", "asked", title="Practices ask")
        for one in desk.asked:
            when = time.strftime("%Y-%m-%d", time.localtime(one.ask.time))
            table.add_row(one.number, escape(plain(words(role, one))), when)
        Console().print(table if desk.asked else "No practice asks for anything.")
        shown = Table("key", "practice", "verdict", "until", title="Issuer keys")
        for subject, found in standing.items():
            until = time.strftime("%Y-%m-%d", time.localtime(found.standing.not_after)) if found.standing else ""
            colour = "green" if found.verdict is Verdict.ACTIVE else "red"
            shown.add_row(subject.hex()[:16] + "…", escape(keys[subject]), f"[{colour}]{found.verdict.value}[/]", until)
        if standing:
            Console().print(shown)

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
            click.echo("Nobody asks for anything.", err=work.as_json)
            return None
        left_out: dict[Asked, str] = {}
        plan = vouch(role, planner, chosen, days, country, left_out if everything else None)
        for line in left_out.values():
            click.echo(f"left out: {plain(line)}", err=True)
        for line in plan.consequences:
            click.echo(plain(line), err=work.as_json)
        if work.dry_run:
            click.echo("Nothing was signed or sent (--dry-run).", err=True)
            return None
        vouched = [one.wish for one in chosen if one.ask.what == CERTIFY and one not in left_out]
        both = await desk.require_two(vouched)
        if len(both) < len(vouched):
            click.echo(FIRST_YES.format(count=len(vouched) - len(both)), err=work.as_json)
            chosen = [one for one in chosen if one.wish in both or one.ask.what != CERTIFY]
            if not chosen:
                return None
            plan = vouch(role, planner, chosen, days, country, left_out if everything else None)
        progress = await role.publish(plan, wait_s=work.wait_s)
        await desk.drop_yes(both)
        for one in chosen:
            if one not in left_out:
                role.state.note_down(int(role.clock()), "passports", one.number, words(role, one))
                await desk.drop(*one.digests)
        return progress

    progress = with_device(work.folder, work.device, read_charter(work.charter_path), work.nodes, act)
    if progress is not None:
        show_progress(progress, as_json=work.as_json)


@passports.command()
@click.argument("numbers", nargs=-1, required=True)
@click.option("--reason", default="", help="For your own trail; tell the practice yourself.")
@publishing
def reject(numbers: tuple[str, ...], reason: str, work: Work) -> None:
    """Do not do as a practice asks: its letter is deleted, and the key or passport stays as it is."""

    async def act(role: Mediator) -> list[str]:
        await role.prepare()
        desk = Desk(role)
        await desk.applications()
        chosen = _chosen(desk.asked, numbers, everything=False)
        told = [words(role, one) for one in chosen]
        if not work.dry_run:
            for one in chosen:
                role.state.note_down(int(role.clock()), "passports rejected", one.number, reason or words(role, one))
                await desk.drop(*one.digests)
        return told

    told = with_device(work.folder, work.device, read_charter(work.charter_path), work.nodes, act)
    if work.as_json:
        emit({"rejected": told})
        return
    for line in told:
        click.echo(plain(f"{'would reject' if work.dry_run else 'rejected'}: {line}"))


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
            raise UnknownError(f"nobody asks for {number!r}; see `peewit mediator passports list`")
    return found if everything else [known[number] for number in numbers]
