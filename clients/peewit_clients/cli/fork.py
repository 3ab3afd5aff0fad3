"""`peewit fork`: evidence that a log signed two histories. Anyone can check it, without trusting anyone."""

from __future__ import annotations

from pathlib import Path

import click

from peewit_clients.cli.common import DISHONEST, emit, json_option
from peewit_federation.errors import ForgeryError, MalformedError, OperatorError
from peewit_federation.statements.carried import Evidence, open_carried


@click.group()
def fork() -> None:
    """Look at fork evidence."""


@fork.command()
@click.argument("evidence", type=click.Path(path_type=Path))
@json_option
def show(evidence: Path, as_json: bool) -> None:
    """Check an evidence file (from a node: /v1/evidence/LOG) and say what it proves. Exit code 7 if it does."""
    try:
        data = evidence.read_bytes()
    except OSError as error:
        raise OperatorError(f"{evidence}: {error.strerror}") from None
    try:
        found = open_carried(data)
        if not isinstance(found, Evidence):
            raise MalformedError("this is a statement, but not evidence of a fork")
        a, b = found.verify()
    except ForgeryError as error:
        # Not 7: who made this file is dishonest, and it says nothing about the log.
        raise MalformedError(f"this file proves nothing: {error}") from None
    if as_json:
        emit({"origin": a.origin, "sizes": [a.size, b.size], "roots": [a.root.hex(), b.root.hex()], "proven": True})
    else:
        click.echo(
            f"log      {a.origin}\n"
            f"head A   {a.size} entries, root {a.root.hex()}\n"
            f"head B   {b.size} entries, root {b.root.hex()}"
        )
        click.echo(f"At {a.size} entries, the history of head B has the root {found.other_root.hex()}.")
        click.echo("Both heads are signed by the log's key, and no log contains both: the log forked.")
    raise SystemExit(DISHONEST)
