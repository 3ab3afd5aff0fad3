"""What people read, in their language: `en.toml` and `de.toml`, one line for each thing that is said.

Rules kept here: both catalogues say the same things with the same values in braces (a test compares them); what is
missing is an error of ours, never an empty line.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Final

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
    return lambda line, **values: lines[line].format(**values)
