"""Saying things in somebody's language: what the commands of people and of practices share."""

from __future__ import annotations

from dataclasses import dataclass

import click
from rich.console import Console

from peewit_clients.words import LANGUAGES, Words, usual_language, words_in
from peewit_federation.registry.subjects import Verdict

language_option = click.option(
    "--language", type=click.Choice(LANGUAGES), default=usual_language, help="Otherwise that of the system."
)


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


def verdict_line(verdict: Verdict) -> str:
    """The line that says how somebody stands in the registry."""
    return f"verdict_{verdict.name.lower()}"
