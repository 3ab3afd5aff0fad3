"""The command line: `peewit GROUP COMMAND`. Groups are found as entry points, so that the node brings its own.

Exit codes: 0 done; 1 an error of this program; 2 wrong use of the command; 3 refused: the input, or what a
node said of it; 4 a configuration or file of yours; 5 no node could be reached; 6 done, but not yet
effective; 7 somebody lied or forked: look at what was printed.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib.metadata import entry_points
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import click

from peewit_clients.cli.common import report
from peewit_clients.words import said
from peewit_federation.errors import OperatorError, PeewitError

GROUP = "peewit.commands"


class Groups(click.Group):
    """Loads a group of commands when it is used."""

    def list_commands(self, _: click.Context) -> list[str]:
        return sorted(entry.name for entry in entry_points(group=GROUP))

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        for entry in entry_points(group=GROUP, name=name):
            command: click.Command = entry.load()
            return command
        return None

    def invoke(self, context: click.Context) -> Any:
        as_json = "--json" in sys.argv
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal that knows few letters still shows the others
        try:
            return self._invoke(context)
        except PeewitError as error:
            raise SystemExit(report(error, as_json=as_json)) from None
        except Exception as error:
            if type(error).__name__ in ("StorageError", "StorageFullError"):
                raise SystemExit(report(error, as_json=as_json)) from None
            raise

    def _invoke(self, context: click.Context) -> Any:
        """Run the command, and see that what it printed has left."""
        if sys.stdout is None:
            raise OperatorError(said("error_no_output", why="closed"))
        try:
            found = super().invoke(context)
            sys.stdout.flush()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EIO) or error.filename is not None:
                raise
            sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for the rest
            raise OperatorError(said("error_no_output", why=error.strerror)) from None
        return found


@click.command(
    cls=Groups,
    epilog="Exit codes: 0 done, 1 program error, 2 usage, 3 refused, 4 configuration, "
    "5 nobody reached, 6 not yet effective, 7 a lie or a fork was found.",
)
@click.version_option(package_name="peewit")
def main() -> None:
    """Peewit: federated, end-to-end encrypted mediation of scarce medical appointments.

    \b
    People and practices  peewit user, peewit provider, peewit wallet
    Operators of nodes    peewit node, peewit operator, peewit charter
    Mediators             peewit mediator, peewit codes
    Anybody               peewit verify, peewit trust, peewit registry, peewit log, peewit fork
    Trying it out         peewit simulate, peewit hunt
    """
