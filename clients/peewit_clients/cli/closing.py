"""`peewit mediator log` and `peewit mediator close`: what a device wrote, and where it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Column, Table

from peewit_clients.cli.common import (
    NOT_YET,
    charter_option,
    dry_run_option,
    emit,
    json_option,
    node_option,
    read_charter,
    with_pool,
)
from peewit_clients.cli.passphrases import passphrase_for
from peewit_clients.cli.publishing import folder_option, root_option, wait_option
from peewit_clients.closes import bring_branch, close_device, hand_in, origin_of_device, statement_effective
from peewit_clients.device_file import DATABASE, DeviceFile
from peewit_clients.device_state import KEY, DeviceState
from peewit_clients.identity import Identity, root_key
from peewit_clients.log_words import WORDS, Line, read_lines, undone
from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_clients.secret_file import is_sealed
from peewit_federation.errors import OperatorError

SHOWN_MAX: Final = 20
"Of what a close takes back, before it is only counted."


@click.command()
@click.argument("name")
@folder_option
@charter_option
@node_option
@json_option
def log(name: str, folder: Path, charter_path: Path, nodes: tuple[str, ...], as_json: bool) -> None:
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
                    "what": line.what,
                    "kind": line.kind,
                    "subject": line.subject.hex(),
                    "name": line.name,
                    "begins": line.begins_s,
                    "where": where or "everywhere",
                }
                for line, where in rows
            ]
        )
        return
    table = Table("entry", "what", "of whom", Column("name or subject", overflow="fold"), "says it begins", "")
    for line, where in rows:
        begins = time.strftime("%Y-%m-%d %H:%M", time.gmtime(line.begins_s)) if line.begins_s else ""
        table.add_row(str(line.place), line.what, line.kind, line.name or line.subject.hex(), begins, where)
    Console().print(table)
    click.echo("close --at N keeps the entries before N; what is from N on counts for nothing.", err=True)


@click.command()
@click.argument("name")
@click.option("--at", "size", type=click.IntRange(0), help="Keep so many entries: those before this position.")
@folder_option
@root_option
@charter_option
@node_option
@wait_option
@dry_run_option
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
    identity, root = Identity.load(folder), root_key(path, passphrase_for(path, "of the root key"))
    if root.public != identity.root:
        raise OperatorError(f"{path} is not the root key of the mediator in {folder}")
    names = _names(folder)

    async def work(pool: BackendPool) -> None:
        view = RegistryView(charter, pool)
        await view.refresh([identity.id])
        statement, made = await close_device(view, identity, root, origin, entries=entries, size=size)
        held = view.follower.copies.get(origin)
        lines = read_lines(held.entries if held else [], names)
        consequences = _consequences(name, made.size, lines)
        if dry_run and as_json:
            emit({"dry_run": True, "consequences": consequences})
            return
        for line in consequences:
            click.echo(line, err=not dry_run)
        if dry_run:
            click.echo("Nothing was signed or sent (--dry-run).", err=True)
            return
        taken, _ = await hand_in(pool, statement)
        if entries is not None:
            with DeviceFile.look(folder / "devices" / name) as device:
                await bring_branch(pool, device, made, taken)
        end = time.monotonic() + wait_s
        count, needed = 0, charter.policy.needed()
        while count < needed and time.monotonic() < end:
            await view.refresh([identity.id])
            count = statement_effective(view, statement)
            await asyncio.sleep(0.2)
        if as_json:
            emit({"closed_at": made.size, "stored_at": taken, "cosignatures": count, "needed": needed})
        elif count >= needed:
            click.echo(f"effective: {count} nodes have cosigned it")
        else:
            click.echo(f"not yet effective: {count} of {needed} nodes")
        if count < needed:
            raise SystemExit(NOT_YET)

    with_pool(charter, nodes, work)


def _marked(here: list[bytes] | None, there: list[bytes], names: dict[bytes, str]) -> list[tuple[Line, str]]:
    """All entries, and who alone has them if not everybody."""
    if here is None:
        return [(line, "") for line in read_lines(there, names)]
    pairs = zip(here, there, strict=False)
    shared = next((place for place, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(here), len(there)))
    mine = [(line, "" if line.place < shared else "only here") for line in read_lines(here, names)]
    return mine + [(line, "only at nodes") for line in read_lines(there, names)[shared:]]


def _consequences(name: str, size: int, lines: Sequence[Line]) -> list[str]:
    gone = undone(lines, size)
    more = [f"… and {len(gone) - SHOWN_MAX} more"] if len(gone) > SHOWN_MAX else []
    count = max(0, len(lines) - size)
    first = f"closes {name} at {size} entries; {count} entries that nodes have now will count for nothing"
    return [first, *gone[:SHOWN_MAX], *more]


def _entries_here(folder: Path, name: str) -> list[bytes] | None:
    """What this device's folder holds; None if it is not here."""
    path = folder / "devices" / name
    if not path.is_dir():
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
