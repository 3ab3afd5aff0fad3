"""`peewit mediator`: what a health district publishes."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from peewit_clients.cli.closing import close, log
from peewit_clients.cli.common import (
    charter_option,
    complain,
    dry_run_option,
    emit,
    json_option,
    node_option,
    plain,
    read_charter,
    with_pool,
)
from peewit_clients.cli.desk import applications, approve, keys, reject, trail
from peewit_clients.cli.grants import catchments, provider
from peewit_clients.cli.passphrases import new_passphrase, passphrase_for
from peewit_clients.cli.passports import passports
from peewit_clients.cli.practice_codes import practice_codes
from peewit_clients.cli.publishing import (
    Work,
    act_on,
    device_option,
    folder_option,
    open_state,
    proposes,
    publishing,
    root_option,
    with_device,
)
from peewit_clients.cli.speaking import Speaker, language_option, show_table
from peewit_clients.closes import hand_in
from peewit_clients.device_file import DATABASE
from peewit_clients.identity import Identity, add_device, init_mediator, root_key
from peewit_clients.keepers import keepers
from peewit_clients.log_words import kind_word
from peewit_clients.mediator import Mediator
from peewit_clients.plans import Plan
from peewit_clients.words import in_words, said, verdict_line, words_in
from peewit_federation.errors import PeewitError
from peewit_federation.log.checkpoint import origin_hash, origin_of
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.mediator import Catchment, Provider

EXPIRY_WARNING_S: Final = 60 * 86_400


@click.group()
def mediator() -> None:
    """Vouch for practices, define catchment areas, suspend and revoke.

    \b
    1. peewit mediator init               makes the offline root; give its id and root key to operators
    2. peewit mediator device frontdesk   makes a device that may publish
    3. peewit mediator catchments import areas.csv
    4. peewit mediator applications       practices that want to be admitted: approve or reject them
       (or admit known ones from a table: peewit mediator provider admit practices.csv)
    5. peewit mediator keys               every week: new keys for requests, to all practices
    6. peewit mediator passports list     who may sign vaccination passports
    """


for command in (
    log,
    close,
    practice_codes,
    catchments,
    provider,
    applications,
    approve,
    reject,
    keys,
    trail,
    passports,
):
    mediator.add_command(command)


@mediator.command()
@folder_option
@click.option("--no-passphrase", is_flag=True, help="Keep the root key bare, on a medium that is itself locked away.")
@click.option("--two-persons", is_flag=True, help="It takes two devices to admit a practice, or vouch for its key.")
@dry_run_option
@language_option
@json_option
def init(
    folder: Path, no_passphrase: bool, two_persons: bool, dry_run: bool, language: str, as_json: bool
) -> None:  # fmt: skip
    """Make a mediator: a root key that is kept offline."""
    speaker = Speaker(language, as_json)
    if dry_run:
        proposes(speaker, [said("office_would_init", folder=folder)], 0, dry_run=True)
        return
    passphrase = None if no_passphrase else new_passphrase(said("for_root"), empty_ok=False)
    identity = init_mediator(folder, os.urandom(32), passphrase, two_persons=two_persons)
    if as_json:
        emit({"id": identity.id.hex(), "root": identity.root.hex()})
        return
    click.echo(speaker.say("office_made", mediator=identity.id.hex(), root=identity.root.hex()))
    click.echo(speaker.say("office_made_hint", folder=folder), err=True)


@mediator.command(name="two-persons")
@click.argument("state", type=click.Choice(["on", "off"]))
@folder_option
@language_option
@json_option
def two_persons_(state: str, folder: Path, language: str, as_json: bool) -> None:
    """Whether it takes two devices to admit a practice, or to vouch for its key. Say it on each machine.

    It is a rule of your office, kept by this program: whoever takes over a device can break it, and the log shows
    which device signed. Suspending and revoking take one.
    """
    replace(Identity.load(folder), two_persons=state == "on").save(folder)
    if as_json:
        emit({"two_persons": state == "on"})
        return
    Speaker(language, as_json).tell("office_two" if state == "on" else "office_one", folder=folder)


@mediator.command()
@click.argument("name")
@folder_option
@root_option
@charter_option
@node_option
@click.option("--publish/--no-publish", default=True, help="Hand the statement to nodes at once.")
@click.option("--no-passphrase", is_flag=True, help="Keep the device's key bare, for a machine that works by itself.")
@dry_run_option
@language_option
@json_option
def device(
    name: str,
    folder: Path,
    root_path: Path | None,
    charter_path: Path,
    nodes: tuple[str, ...],
    publish: bool,
    no_passphrase: bool,
    dry_run: bool,
    language: str,
    as_json: bool,
) -> None:
    """Make a device that may publish, vouched for by the root."""
    speaker = Speaker(language, as_json)
    if dry_run:
        proposes(speaker, [said("office_would_device", folder=folder, name=name)], 0, dry_run=True)
        return
    path = root_path or folder / "root.key"
    charter = read_charter(charter_path) if publish else None
    made = folder / "devices" / name
    if not (made / DATABASE).exists():
        root = root_key(path, passphrase_for(path, said("of_root")))
        own = None if no_passphrase else new_passphrase(said("for_named_device", name=name))
        add_device(folder, name, root, (os.urandom(32), os.urandom(32)), own)
    with open_state(made) as state:
        origin = origin_hash(origin_of(state.key.public)).hex()
        statement = state.device
    speaker.tell("office_device", name=name, log=origin)
    taken: list[str] = []
    if charter is not None:
        try:
            taken, _ = with_pool(charter, nodes, lambda pool: hand_in(pool, statement))
        except PeewitError:
            click.echo(speaker.say("office_device_unknown"), err=True)
            raise
        speaker.tell("office_vouched", nodes=", ".join(taken))
    if as_json:
        emit({"device": name, "log": origin, "vouched_for_at": taken})


@mediator.command()
@publishing
def publish(work: Work) -> None:
    """Send again what is stored on the device, for example after a crash or a partition."""
    act_on(lambda _planner, _role: Plan(), work)


@mediator.command()
@folder_option
@device_option
@charter_option
@node_option
@language_option
@json_option
def status(
    folder: Path, device: str, charter_path: Path, nodes: tuple[str, ...], language: str, as_json: bool
) -> None:  # fmt: skip
    """Show what the federation holds of this mediator, and whether edits of this device were overtaken."""
    charter, say = read_charter(charter_path), words_in(language)

    async def work(role: Mediator) -> None:
        await role.prepare()
        view, mine = role.view, role.identity.id
        now_s = int(role.clock())
        cuts = view.registry.cuts.get(mine, {})
        names = role.state.names(Provider.KIND) | role.state.names(Catchment.KIND)
        found = [
            view.finder.look(mine, kind, subject, now_s)
            for kind, subject in sorted(view.registry.folds[mine].subjects if mine in view.registry.folds else ())
        ]
        lost, queues = role.lost(), keepers(view, mine)
        if as_json:
            emit(
                {
                    "mediator": mine.hex(),
                    "freshness": str(view.freshness[mine].words()),
                    "devices": [o.hex() for o in cuts],
                    "subjects": [
                        {
                            "kind": f.kind,
                            "subject": f.subject.hex(),
                            "name": names.get(f.subject),
                            "verdict": f.verdict.value,
                            "until": f.standing.not_after if f.standing else None,
                        }
                        for f in found
                    ],
                    "queues": [{"area": q.area.hex(), "nodes": list(q.nodes), "gone": q.gone} for q in queues],
                    "lost": [{"kind": e.kind, "subject": e.subject.hex(), "version": e.version} for e in lost],
                }
            )
            return
        console = Console()
        fresh = view.freshness[mine].words().text(language)
        console.print(say("office_status", mediator=mine.hex(), fresh=fresh))
        table = Table(
            Column(say("column_log"), overflow="fold"),
            say("column_entries"),
            say("column_believed"),
            say("column_closed"),
            say("column_here"),
        )
        for origin in cuts:
            copy = view.follower.copies.get(origin)
            here = say("yes") if origin == role.log.origin else ""
            close = view.registry.close_of(mine, origin)
            size, believed = (copy.size, copy.believed) if copy else (0, 0)
            closed = str(close.size) if close else ""
            table.add_row(origin.hex(), str(size), str(believed), closed, here)
        show_table(table, 1, 2, 3)
        table = Table(
            say("column_kind"),
            say("column_name"),
            Column(say("column_subject"), overflow="fold"),
            say("column_state"),
            say("column_until"),
        )
        ending = 0
        for item in found:
            until_s = item.standing.not_after if item.standing else 0
            until = time.strftime("%Y-%m-%d", time.gmtime(until_s)) if until_s else ""
            ending += item.verdict is Verdict.ACTIVE and until_s < now_s + EXPIRY_WARNING_S
            kind = in_words(kind_word(item.kind), language)
            verdict = say(verdict_line(item.verdict))
            table.add_row(kind, escape(plain(names.get(item.subject, ""))), item.subject.hex(), verdict, until)
        show_table(table, 4)
        if ending:
            console.print(say("office_ending", count=ending), style="yellow")
        for queue in queues:
            name, left = names.get(queue.area, queue.area.hex()[:16]), ", ".join(queue.nodes)
            if queue.gone:
                line = say("office_node_gone", name=name, gone=queue.gone, left=left or say("queue_nobody"))
                console.print(line, style="yellow", markup=False)
            elif len(queue.nodes) < min(2, len(charter.operators)):
                console.print(say("office_thin", name=name, left=left), style="yellow", markup=False)
        for edit in lost:
            name = names.get(edit.subject, edit.subject.hex()[:16])
            line = say("office_lost", name=name, version=edit.version, log=edit.winner.hex()[:16])
            console.print(line, style="yellow", markup=False)
        complain(view)

    with_device(folder, device, charter, nodes, work)
