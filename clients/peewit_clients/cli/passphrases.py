"""Passphrases: asked for in a terminal, taken from PEEWIT_PASSPHRASE anywhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

from peewit_clients.secret_file import is_sealed
from peewit_federation.errors import OperatorError

VARIABLE: Final = "PEEWIT_PASSPHRASE"


def passphrase_for(path: Path, what: str) -> str | None:
    """That of a secret's file (`what`: of the root key, of this request); None if it needs none.

    Raises `OperatorError` where nobody can be asked.
    """
    if not is_sealed(path):
        return None
    return os.environ.get(VARIABLE) or _ask(f"Passphrase {what}")


def new_passphrase(what: str, *, empty_ok: bool = True) -> str | None:
    """A passphrase for something new; None if it is left empty. Raises `OperatorError` where nobody can be asked."""
    given = os.environ.get(VARIABLE)
    if given is not None and (given or empty_ok):
        return given or None
    hint = " (empty: none, if nobody else uses this machine)" if empty_ok else ""
    found = _ask(f"A passphrase {what}{hint}", confirm=True, empty_ok=empty_ok)
    return found or None


def _ask(text: str, *, confirm: bool = False, empty_ok: bool = False) -> str:
    if not sys.stdin.isatty():
        raise OperatorError(f"a passphrase is needed, and nobody can be asked: set {VARIABLE}, or use a terminal")
    default = "" if empty_ok else None
    found: str = click.prompt(
        text, default=default, show_default=False, hide_input=True, confirmation_prompt=confirm, err=True
    )
    return found
