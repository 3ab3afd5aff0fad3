"""Saying things in somebody's language: what the commands of people and of practices share."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from peewit_clients.words import LANGUAGES, Words, usual_language, words_in

WIDE: Final = 200
"Of what no terminal shows: nothing is folded for whoever reads it with a program."


def show_table(table: Table | str, *whole: int) -> None:
    """Print a table (or what there is instead), without leaving anything out; columns numbered in `whole` unbroken."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    for number, column in enumerate(table.columns if isinstance(table, Table) else ()):
        column.overflow, column.no_wrap = "fold", column.no_wrap or number in whole
    console.print(table)


language_option = click.option(
    "--language", type=click.Choice(LANGUAGES), default=usual_language, help="Otherwise that of the system."
)


def asked_language() -> str:
    """The language that the whole command line asks for: of errors, and of what is asked before a command begins."""
    for place, word in enumerate(sys.argv):
        given = word.removeprefix("--language=") if word.startswith("--language=") else ""
        given = sys.argv[place + 1] if word == "--language" and place + 1 < len(sys.argv) else given
        if given in LANGUAGES:
            return given
    return usual_language()


@dataclass(frozen=True)
class Speaker:
    """To whom, and how."""

    language: str
    as_json: bool

    @property
    def say(self) -> Words:
        """A line of the catalogue, with values put in."""
        return words_in(self.language)

    def tell(self, line: str, *, err: bool = False, **values: object) -> None:
        """One line for a person; programs get none."""
        if not self.as_json:
            Console(stderr=err, highlight=False, soft_wrap=True).print(self.say(line, **values), markup=False)
