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
NARROW: Final = 8
"Less for a column than this, and nobody reads it."


def show_table(table: Table | str, *whole: int) -> None:
    """Print a table (or what there is instead), without leaving anything out; columns numbered in `whole` unbroken."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    elif isinstance(table, Table) and console.width < NARROW * len(table.columns):
        _show_rows(console, table)
        return
    for number, column in enumerate(table.columns if isinstance(table, Table) else ()):
        column.overflow, column.no_wrap = "fold", column.no_wrap or number in whole
    console.print(table)


def _show_rows(console: Console, table: Table) -> None:
    """Each row as lines, where columns would be a few letters wide."""
    if table.title:
        console.print(table.title, style="bold")
    heads = [column.header for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        console.print()
        for head, cell in zip(heads, row, strict=True):
            if cell:
                console.print(f"[bold]{head}[/] {cell}" if head else cell, highlight=False)


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
