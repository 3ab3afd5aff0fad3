"""Passphrases: asked for in a terminal, taken from PEEWIT_PASSPHRASE anywhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

from peewit_clients.cli.speaking import asked_language
from peewit_clients.secret_file import is_sealed
from peewit_clients.words import Said, said, words_in
from peewit_federation.errors import OperatorError

VARIABLE: Final = "PEEWIT_PASSPHRASE"


def passphrase_for(path: Path, what: Said) -> str | None:
    """That of a secret's file (`what`: of the root key, of this request); None if it needs none.

    Raises `OperatorError` where nobody can be asked.
    """
    if not is_sealed(path):
        return None
    return os.environ.get(VARIABLE) or _ask(said("passphrase", what=what))


def new_passphrase(what: Said, *, empty_ok: bool = True) -> str | None:
    """A passphrase for something new; None if it is left empty. Raises `OperatorError` where nobody can be asked."""
    given = os.environ.get(VARIABLE)
    if given is not None and (given or empty_ok):
        return given or None
    line = "passphrase_new_or_none" if empty_ok else "passphrase_new"
    found = _ask(said(line, what=what), confirm=True, empty_ok=empty_ok)
    return found or None


def _ask(text: Said, *, confirm: bool = False, empty_ok: bool = False) -> str:
    if not sys.stdin.isatty():
        raise OperatorError(said("error_nobody_to_ask", variable=VARIABLE))
    again = words_in(asked_language())("passphrase_again")
    default = "" if empty_ok else None
    found: str = click.prompt(
        text.text(asked_language()),
        default=default,
        show_default=False,
        hide_input=True,
        confirmation_prompt=again if confirm else False,
        err=True,
    )
    return found
