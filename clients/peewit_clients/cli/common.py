"""What all commands share: the charter, the pool, printing, and errors as sentences with exit codes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from rich.console import Console
from rich.markup import escape

from peewit_clients.backend import BackendError, UnreachableError
from peewit_clients.cli.speaking import asked_language
from peewit_clients.device_log import ForkedDeviceError
from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_clients.words import in_words, said, told, words_in
from peewit_federation.charter import Charter
from peewit_federation.charter_file import parse_charter
from peewit_federation.errors import AuthorError, ForgeryError, NotRunningError, OperatorError, SenderError

T = TypeVar("T")
REFUSED: Final = 3
CONFIGURATION: Final = 4
UNREACHABLE: Final = 5
NOT_YET: Final = 6
DISHONEST: Final = 7

EXIT_CODES: Final[list[tuple[type[Exception], int]]] = [
    (UnreachableError, UNREACHABLE),
    (NotRunningError, UNREACHABLE),
    (ForkedDeviceError, DISHONEST),
    (AuthorError, DISHONEST),
    (ForgeryError, DISHONEST),
    (BackendError, REFUSED),
    (SenderError, REFUSED),
    (OperatorError, CONFIGURATION),
]

charter_option = click.option(
    "--charter",
    "charter_path",
    type=click.Path(path_type=Path),
    default="charter.toml",
    show_default=True,
    envvar="PEEWIT_CHARTER",
    help="The federation's charter.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")
node_option = click.option("--node", "nodes", multiple=True, help="Use only this node (by its operator's name).")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only show what would happen.")


def read_charter(path: Path) -> Charter:
    """Raises `OperatorError` naming the file."""
    try:
        return parse_charter(path.read_bytes())
    except OSError as error:
        raise OperatorError(said("error_charter", path=path, why=error.strerror)) from None
    except OperatorError as error:
        raise OperatorError(f"{path}: {error}") from None


def read_text(path: Path) -> str:
    """A file of text. Raises `OperatorError`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8; save it as CSV UTF-8"
        raise OperatorError(f"{path}: {reason}") from None


def report(error: Exception, *, as_json: bool) -> int:
    """Print an error on standard error, for people or for programs; its exit code."""
    code = next((code for kind, code in EXIT_CODES if isinstance(error, kind)), CONFIGURATION)
    if as_json:
        kind = type(error).__name__.removesuffix("Error").lower()
        click.echo(json.dumps({"error": str(error), "kind": kind, "exit_code": code}), err=True)
    else:
        language = asked_language()
        what = _escape(in_words(told(error), language))
        word = words_in(language)("error")
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]{word}[/] {what}")
    return code


def _escape(text: str) -> str:
    """Text of others, without markup and control characters."""
    return escape(plain(text))


def plain(text: str, but: str = "") -> str:
    """Text of others, without control characters (but for some)."""
    return "".join(c if c.isprintable() or c in but else "?" for c in text)


def with_pool(charter: Charter, nodes: tuple[str, ...], work: Callable[[BackendPool], Awaitable[T]]) -> T:
    """Run `work` with a pool of the charter's nodes."""
    names = [operator.name for operator in charter.operators]
    for name in nodes:
        if name not in names:
            raise OperatorError(said("error_no_operator", name=name, names=", ".join(names)))

    async def run() -> T:
        async with BackendPool(charter, only=nodes) as pool:
            return await work(pool)

    return asyncio.run(run())


def complain(view: RegistryView) -> None:
    """Name the nodes that misbehaved, on standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for name, what in sorted(view.complaints.items()):
        for each in what:
            console.print(f"[yellow]node {name}:[/] {_escape(each)}")


def emit(value: Any) -> None:
    """Print JSON."""
    json.dump(value, sys.stdout)
    sys.stdout.write("\n")
