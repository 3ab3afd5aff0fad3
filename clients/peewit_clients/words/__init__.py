"""What people read, in their language: `en.toml` and `de.toml`, one line for each thing that is said.

Rules kept here: both catalogues say the same things with the same values in braces (a test compares them); what is
missing is an error of ours, never an empty line.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Final

from peewit_federation.registry.subjects import Verdict

LANGUAGES: Final = ("en", "de")
Words = Callable[..., str]
"Gives a line by its name, with values put in."


def usual_language() -> str:
    """The language of the environment, if we speak it."""
    asked = os.environ.get("PEEWIT_LANGUAGE") or os.environ.get("LC_ALL") or os.environ.get("LANG") or ""
    return asked[:2].lower() if asked[:2].lower() in LANGUAGES else LANGUAGES[0]


@cache
def catalogue(language: str) -> dict[str, str]:
    """All lines of a language."""
    return tomllib.loads(files(__package__).joinpath(f"{language}.toml").read_text(encoding="utf-8"))


def words_in(language: str) -> Words:
    """What says things in a language."""
    lines = catalogue(language)
    return lambda line, **values: lines[line].format(**{name: _read(value, language) for name, value in values.items()})


def _read(value: object, language: str) -> object:
    if isinstance(value, Said):
        return value.text(language)
    return "; ".join(in_words(part, language) for part in value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Said:
    """A line with its values, before anybody knows in which language it will be read; as `str`, in the first one."""

    line: str
    values: Mapping[str, object] = field(default_factory=dict)
    "A value that is `Said` itself is put in in the same language, and so is a list of them."

    def text(self, language: str) -> str:
        """In a language."""
        return words_in(language)(self.line, **self.values)

    def __str__(self) -> str:
        return self.text(LANGUAGES[0])


def said(line: str, **values: object) -> Said:
    """A line of the catalogue, for whoever will read it."""
    return Said(line, values)


def told(error: Exception) -> Said | str:
    """What an error says: a line, if it was raised with one."""
    return error.args[0] if error.args and isinstance(error.args[0], Said) else str(error)


def in_words(text: Said | str, language: str) -> str:
    """In a language, if it can be."""
    return text.text(language) if isinstance(text, Said) else text


def verdict_line(verdict: Verdict) -> str:
    """The line that says how somebody stands in the registry."""
    return f"verdict_{verdict.name.lower()}"
