"""`peewit codes`: signup codes for the draw."""

from __future__ import annotations

import os
from pathlib import Path

import click

from peewit_clients import codes as made
from peewit_clients.admin_door import knock
from peewit_clients.cli.common import charter_option, emit, json_option, read_charter, read_text
from peewit_clients.cli.operator import data_option
from peewit_federation import cbor
from peewit_federation.errors import MalformedError


@click.group()
def codes() -> None:
    """Single-use codes that admit a person to the draw.

    \b
    1. peewit codes new --group over80 --count 5000 --folder letters     print codes.csv on letters
    2. send codes-north.csv to operator north, and so on
    3. peewit codes load codes-north.csv --data north                    at each node
    """


@codes.command()
@click.option("--count", type=click.IntRange(1, made.COUNT_MAX), required=True, help="How many.")
@click.option("--group", default="", help="The group that they admit to, for example over80; everybody if left out.")
@click.option("--node", "nodes", multiple=True, help="Spread over these nodes; over all if left out.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="For the files.")
@charter_option
@json_option
def new(count: int, group: str, nodes: tuple[str, ...], folder: Path, charter_path: Path, as_json: bool) -> None:
    """Make codes: one file for the letters, and one for each node at which they are valid."""
    paths = made.make(read_charter(charter_path), count, group, folder, os.urandom, nodes)
    if as_json:
        emit({"codes": count, "group": group, "files": [str(path) for path in paths]})
        return
    letters, *others = paths
    click.echo(f"{count} codes for {group or 'everybody'} in {letters}: print them on letters, then delete the file.")
    click.echo("For the operators, who load them with `peewit codes load`:")
    for path in others:
        click.echo(f"  {path}")


@codes.command()
@click.argument("file", type=click.Path(path_type=Path))
@data_option
@json_option
def load(file: Path, data: Path, as_json: bool) -> None:
    """Make codes valid at your running node. Loading them again changes nothing."""
    try:
        found = made.read(read_text(file))
    except MalformedError as error:
        raise MalformedError(f"{file}: {error}") from None
    fresh = 0
    for start in range(0, len(found), made.LINES_AT_ONCE):
        part = found[start : start + made.LINES_AT_ONCE]
        fresh += knock(data, "/admin/codes", cbor.encode([[code, group] for code, group in part]))
    if as_json:
        emit({"codes": len(found), "new": fresh})
    else:
        click.echo(f"{fresh} new codes are valid at this node ({len(found)} in the file)")
