"""What all commands of `peewit provider` share: the practice's folder, its passphrase, and errors on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from peewit_clients.bookings import Booking
from peewit_clients.cli.common import charter_option, json_option, node_option, plain, read_charter, with_pool
from peewit_clients.cli.passphrases import passphrase_for
from peewit_clients.cli.speaking import Speaker, language_option
from peewit_clients.drawer import Drawer
from peewit_clients.locks import InUseError
from peewit_clients.office import Office
from peewit_clients.pool import BackendPool
from peewit_clients.practice import Practice
from peewit_clients.practice_state import PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_clients.vault import key_path
from peewit_clients.words import said
from peewit_federation.errors import OperatorError

T = TypeVar("T")
FILE = "practice"
WAIT_S = 60.0
"For a turn of `peewit provider run`, or another command."


@dataclass(frozen=True)
class Clinic(Speaker):
    """What every command is told."""

    folder: Path
    charter_path: Path
    nodes: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Where everything is kept."""
        return self.folder / FILE


def clinical(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command, handed over as one `clinic`."""

    @wraps(command)
    def run(**options: Any) -> None:
        command(clinic=Clinic(**{field.name: options.pop(field.name) for field in fields(Clinic)}), **options)

    folder = click.option(
        "--folder",
        type=click.Path(path_type=Path, file_okay=False),
        default="peewit-practice",
        show_default=True,
        envvar="PEEWIT_PRACTICE",
        help="The practice's folder, encrypted.",
    )
    for option in (json_option, language_option, node_option, charter_option, folder):
        run = option(run)
    return run


@contextmanager
def opened(clinic: Clinic) -> Iterator[tuple[Drawer, PracticeState]]:
    """The practice's store, and what is in it. Raises `OperatorError`."""
    path = clinic.path
    if not key_path(path).exists():
        raise OperatorError(said("error_no_practice", folder=clinic.folder))
    passphrase = passphrase_for(key_path(path), said("of_practice"))
    try:
        opening = Drawer(path, passphrase)
    except InUseError:
        clinic.tell("clinic_waiting", err=True)
        opening = Drawer(path, passphrase, WAIT_S)
    with opening as drawer:
        state = PracticeState.load(drawer.read())
        if state is None:
            raise OperatorError(said("error_empty_practice", path=path))
        yield drawer, state


def with_practice(clinic: Clinic, work: Callable[[Practice, Office], Awaitable[T]]) -> T:
    """Do something with the practice's device, over the nodes."""
    charter = read_charter(clinic.charter_path)
    with opened(clinic) as (drawer, state):

        async def run(pool: BackendPool) -> T:
            view = RegistryView(charter, pool)
            await view.refresh([state.mediator])
            practice = Practice(view, state, os.urandom, drawer.write)
            if state.data:
                await practice.ready()
            found = await work(practice, Office(view, state, os.urandom, drawer.write, practice.deal_with))
            complain(practice)
            return found

        return with_pool(charter, clinic.nodes, run)


def complain(practice: Practice) -> None:
    """Say what went wrong, each thing once."""
    for line in dict.fromkeys(practice.complaints):
        click.echo(plain(line), err=True)
    practice.complaints.clear()


def of_day(bookings: list[Booking], day: str | None, service: str) -> list[Booking]:
    """Those on a day (any, if none is named), of a service (any)."""
    return sorted(
        (b for b in bookings if (not day or local_day(b.slot.begins_s) == day) and service in ("", b.slot.service)),
        key=lambda b: (b.slot.begins_s, b.slot.name),
    )


def local_day(at_s: float) -> str:
    """The day of a time, here."""
    return time.strftime("%Y-%m-%d", time.localtime(at_s))


def local_time(at_s: float) -> str:
    """A time, here."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))
