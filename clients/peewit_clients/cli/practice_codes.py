"""`peewit mediator codes`: codes without which no practice is admitted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from peewit_clients.cli.common import emit, json_option, read_text
from peewit_clients.cli.publishing import folder_option
from peewit_clients.cli.speaking import language_option
from peewit_clients.practice_codes import FILE, PracticeCodes
from peewit_clients.words import words_in
from peewit_federation.errors import MalformedError


@click.group(name="codes")
def practice_codes() -> None:
    """Signup codes for practices: from the first one on, nobody is admitted without.

    \b
    peewit mediator codes new --count 20 > codes.txt       send each practice one, by post
    peewit mediator codes load mediator/practice-codes.json    on the other machines of your office
    peewit mediator codes off                              ask for none any more
    """


@practice_codes.command()
@click.option("--count", type=click.IntRange(1, 10_000), required=True, help="How many.")
@folder_option
@json_option
def new(count: int, folder: Path, as_json: bool) -> None:
    """Make codes, one line each. They are shown once: the folder keeps hashes only."""
    made = (PracticeCodes.load(folder) or PracticeCodes(folder, {})).make(count, os.urandom)
    if as_json:
        emit({"codes": made})
        return
    for code in made:
        click.echo(code)


@practice_codes.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@folder_option
@language_option
@json_option
def load(path: Path, folder: Path, language: str, as_json: bool) -> None:
    """Take over hashes of codes that were made on another machine (its practice-codes.json)."""
    try:
        hashes = [str(name) for name in dict(json.loads(read_text(path)))]
        good = all(len(bytes.fromhex(name)) == 32 for name in hashes)
    except (ValueError, TypeError):
        good = False
    if not good:
        raise MalformedError(f"{path} is no {FILE} of `peewit mediator codes new`")
    count = (PracticeCodes.load(folder) or PracticeCodes(folder, {})).take_over(hashes)
    if as_json:
        emit({"taken_over": count})
    else:
        click.echo(words_in(language)("office_codes_taken", count=count))


@practice_codes.command()
@folder_option
@language_option
def off(folder: Path, language: str) -> None:
    """Ask practices for no code any more; what was made is forgotten."""
    (folder / FILE).unlink(missing_ok=True)
    click.echo(words_in(language)("office_codes_off"))
