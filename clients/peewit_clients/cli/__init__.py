"""The command line: `peewit GROUP COMMAND`. Groups are found as entry points, so that the node brings its own.

Exit codes: 0 done; 1 an error of this program; 2 wrong use of the command; 3 refused: the input, or what a
node said of it; 4 a configuration or file of yours; 5 no node could be reached; 6 done, but not yet
effective; 7 somebody lied or forked: look at what was printed.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Any

import click

from peewit_clients.cli.common import report
from peewit_federation.errors import PeewitError

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
        try:
            return super().invoke(context)
        except PeewitError as error:
            raise SystemExit(report(error, as_json=as_json)) from None
        except Exception as error:
            if type(error).__name__ in ("StorageError", "StorageFullError"):
                raise SystemExit(report(error, as_json=as_json)) from None
            raise


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
