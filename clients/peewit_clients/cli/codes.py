"""`peewit codes`: signup codes for the draw."""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from peewit_clients import codes as made
from peewit_clients.admin_door import knock
from peewit_clients.cli.common import charter_option, emit, json_option, read_charter, read_text
from peewit_clients.cli.operator import data_option
from peewit_clients.code_letters import write_letters
from peewit_clients.words import LANGUAGES, usual_language, words_in
from peewit_federation import cbor
from peewit_federation.errors import MalformedError


@click.group()
def codes() -> None:
    """Single-use codes that admit a person to the draw.

    \b
    1. peewit codes new --group over80 --count 5000 --pdf letters        print letters-0001.pdf, …
    2. send codes-north.csv to operator north, and so on
    3. peewit codes load codes-north.csv --data north                    at each node
    """


@codes.command()
@click.option("--count", type=click.IntRange(1, made.COUNT_MAX), required=True, help="How many.")
@click.option("--group", default="", help="The group that they admit to, for example over80; everybody if left out.")
@click.option("--node", "nodes", multiple=True, help="Spread over these nodes; over all if left out.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="For the files (that of --pdf).")
@click.option("--pdf", type=click.Path(path_type=Path, file_okay=False), help="Also write letters to print, to here.")
@click.option("--language", type=click.Choice(LANGUAGES), default=usual_language, help="Of the letters.")
@charter_option
@json_option
def new(
    count: int, group: str, nodes: tuple[str, ...], folder: Path | None, pdf: Path | None, language: str,
    charter_path: Path, as_json: bool,
) -> None:  # fmt: skip
    """Make codes: one file for the letters, and one for each node at which they are valid."""
    into = folder or pdf
    if into is None:
        raise click.UsageError("say with --folder where the files go, or with --pdf to write letters too")
    charter = read_charter(charter_path)
    paths = made.make(charter, count, group, into, os.urandom, nodes)
    printed = _print(charter.name, pdf, paths[0], group, language, quiet=as_json) if pdf else []
    if as_json:
        emit({"codes": count, "group": group, "files": [str(path) for path in (*paths, *printed)]})
        return
    letters, *others = paths
    if printed:
        click.echo(f"{count} codes for {group or 'everybody'} as letters in {pdf}: print, post, and delete them, and")
        click.echo(f"{letters} too.")
    else:
        click.echo(f"{count} codes for {group or 'everybody'} in {letters}: print them on letters, then delete it.")
    click.echo("For the operators, who load them with `peewit codes load`:")
    for path in others:
        click.echo(f"  {path}")


def _print(federation: str, folder: Path, table: Path, group: str, language: str, *, quiet: bool) -> list[Path]:
    values = [line.partition(",")[0] for line in table.read_text().splitlines()[1:]]
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("writing letters", total=len(values))
        return write_letters(
            folder, values, group, federation, words_in(language), lambda pages: progress.advance(task, pages)
        )


@codes.command()
@click.argument("file", type=click.Path(path_type=Path))
@data_option
@json_option
def load(file: Path, data: Path, as_json: bool) -> None:
    """Make codes valid at your running node. Loading them again changes nothing."""
    try:
        origin, found = made.read(read_text(file))
    except MalformedError as error:
        raise MalformedError(f"{file}: {error}") from None
    fresh = 0
    for start in range(0, len(found), made.LINES_AT_ONCE):
        part = found[start : start + made.LINES_AT_ONCE]
        fresh += knock(data, "/admin/codes", cbor.encode([origin, [[code, group] for code, group in part]]))
    if as_json:
        emit({"codes": len(found), "new": fresh})
    else:
        click.echo(f"{fresh} new codes are valid at this node ({len(found)} in the file)")
