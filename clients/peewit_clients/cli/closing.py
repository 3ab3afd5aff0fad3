"""`peewit mediator log` and `peewit mediator close`: what a device wrote, and where it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from rich.markup import escape
from rich.table import Column, Table

from peewit_clients.cli.common import (
    NOT_YET,
    charter_option,
    dry_run_option,
    emit,
    json_option,
    node_option,
    plain,
    read_charter,
    with_pool,
)
from peewit_clients.cli.passphrases import passphrase_for
from peewit_clients.cli.publishing import folder_option, proposes, root_option, wait_option
from peewit_clients.cli.speaking import Speaker, language_option, show_table
from peewit_clients.closes import (
    bring_branch,
    close_device,
    device_here,
    hand_in,
    origin_of_device,
    statement_effective,
)
from peewit_clients.device_file import DATABASE, DeviceFile
from peewit_clients.device_state import KEY, DeviceState
from peewit_clients.identity import Identity, root_key
from peewit_clients.log_words import WORDS, Line, read_lines, undone
from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_clients.secret_file import is_sealed
from peewit_clients.words import Said, in_words, said, words_in
from peewit_federation.errors import OperatorError

SHOWN_MAX: Final = 20
"Of what a close takes back, before it is only counted."


@click.command()
@click.argument("name")
@folder_option
@charter_option
@node_option
@language_option
@json_option
def log(
    name: str, folder: Path, charter_path: Path, nodes: tuple[str, ...], language: str, as_json: bool
) -> None:  # fmt: skip
    """What a device wrote (NAME, or its log's origin hash), entry by entry, with its position.

    Entries that only this device's folder has, or only nodes, are marked: whoever else signs with its key wrote the
    others.
    """
    charter = read_charter(charter_path)
    identity, origin = Identity.load(folder), origin_of_device(folder, name)
    here = _entries_here(folder, name)

    async def work(pool: BackendPool) -> list[bytes]:
        view = RegistryView(charter, pool)
        await view.refresh([identity.id])
        copy = view.follower.copies.get(origin)
        return list(copy.entries) if copy else []

    there = with_pool(charter, nodes, work)
    rows = _marked(here, there, _names(folder))
    if as_json:
        emit(
            [
                {
                    "entry": line.place,
                    "what": str(line.what),
                    "kind": str(line.kind),
                    "subject": line.subject.hex(),
                    "name": line.name,
                    "begins": line.begins_s,
                    "where": str(where) if where else "everywhere",
                }
                for line, where in rows
            ]
        )
        return
    say = words_in(language)
    table = Table(
        say("column_entry"),
        say("column_what"),
        say("column_whom"),
        Column(say("column_named"), overflow="fold"),
        say("column_begins"),
        "",
    )
    for line, where in rows:
        begins = time.strftime("%Y-%m-%d %H:%M", time.gmtime(line.begins_s)) if line.begins_s else ""
        what, kind, there_only = (in_words(part, language) for part in (line.what, line.kind, where))
        table.add_row(str(line.place), what, kind, escape(plain(line.name or line.subject.hex())), begins, there_only)
    show_table(table)
    click.echo(say("office_log_hint"), err=True)


@click.command()
@click.argument("name")
@click.option("--at", "size", type=click.IntRange(0), help="Keep so many entries: those before this position.")
@folder_option
@root_option
@charter_option
@node_option
@wait_option
@dry_run_option
@language_option
@json_option
def close(
    name: str,
    size: int | None,
    folder: Path,
    root_path: Path | None,
    charter_path: Path,
    nodes: tuple[str, ...],
    wait_s: float,
    dry_run: bool,
    language: str,
    as_json: bool,
) -> None:
    """End a lost, stolen, retired or forked device's log (NAME, or the log's origin hash) at a position.

    What the device wrote from there on counts for nothing, revocations included; `peewit mediator log NAME` shows the
    positions. Without --at all that this device's folder holds is kept; without the folder --at is needed. Needs the
    root key.
    """
    charter = read_charter(charter_path)
    origin = origin_of_device(folder, name)
    entries = _entries_here(folder, name)
    if entries is None and size is None:
        raise OperatorError(
            f"the folder of this device is not here, so what a thief wrote cannot be told from what it wrote itself: "
            f"look at `peewit mediator log {name}`, and say with --at how many entries are to be kept"
        )
    path = root_path or folder / "root.key"
    identity, root = Identity.load(folder), root_key(path, passphrase_for(path, said("of_root")))
    if root.public != identity.root:
        raise OperatorError(f"{path} is not the root key of the mediator in {folder}")
    names, speaker = _names(folder), Speaker(language, as_json)

    async def work(pool: BackendPool) -> None:
        view = RegistryView(charter, pool)
        await view.refresh([identity.id])
        statement, made = await close_device(view, identity, root, origin, entries=entries, size=size)
        held = view.follower.copies.get(origin)
        lines = read_lines(held.entries if held else [], names)
        if not proposes(speaker, _consequences(name, made.size, lines), 1, dry_run=dry_run):
            return
        taken, _ = await hand_in(pool, statement)
        if entries is not None:
            with DeviceFile.look(device_here(folder, name) or folder) as device:
                await bring_branch(pool, device, made, taken)
        end = time.monotonic() + wait_s
        count, needed = 0, charter.policy.needed()
        while count < needed and time.monotonic() < end:
            await view.refresh([identity.id])
            count = statement_effective(view, statement)
            await asyncio.sleep(0.2)
        if as_json:
            emit({"closed_at": made.size, "stored_at": taken, "cosignatures": count, "needed": needed})
        else:
            speaker.tell("office_effective" if count >= needed else "office_not_yet", count=count, needed=needed)
        if count < needed:
            raise SystemExit(NOT_YET)

    with_pool(charter, nodes, work)


def _marked(here: list[bytes] | None, there: list[bytes], names: dict[bytes, str]) -> list[tuple[Line, Said | str]]:
    """All entries, and who alone has them if not everybody."""
    if here is None:
        return [(line, "") for line in read_lines(there, names)]
    only_here, only_there = said("only_here"), said("only_there")
    pairs = zip(here, there, strict=False)
    shared = next((place for place, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(here), len(there)))
    mine: list[tuple[Line, Said | str]] = [
        (line, "" if line.place < shared else only_here) for line in read_lines(here, names)
    ]
    return mine + [(line, only_there) for line in read_lines(there, names)[shared:]]


def _consequences(name: str, size: int, lines: Sequence[Line]) -> list[Said]:
    gone = undone(lines, size)
    more = [said("entries_more", count=len(gone) - SHOWN_MAX)] if len(gone) > SHOWN_MAX else []
    first = said("office_closes", name=name, size=size, count=max(0, len(lines) - size))
    return [first, *gone[:SHOWN_MAX], *more]


def _entries_here(folder: Path, name: str) -> list[bytes] | None:
    """What this device's folder holds; None if it is not here."""
    path = device_here(folder, name)
    if path is None:
        return None
    with DeviceFile.look(path) as device:
        return device.entries()


def _names(folder: Path) -> dict[bytes, str]:
    """What the devices of this folder call practices, areas and keys, as far as no passphrase is needed for it."""
    found: dict[bytes, str] = {}
    for path in sorted((folder / "devices").glob(f"*/{DATABASE}")):
        if not is_sealed(path.with_name(KEY)):
            with DeviceState(path.parent) as state:
                for kind in WORDS:
                    found |= state.names(kind)
    return found
