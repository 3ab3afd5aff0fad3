"""What all commands of `peewit user` share: whose request it is, where it is kept, and in which language we speak."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from datetime import date
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from peewit_clients.backend import BackendError, UnreachableError
from peewit_clients.calendar import read_day
from peewit_clients.cli.common import charter_option, json_option, node_option, plain, read_charter, with_pool
from peewit_clients.cli.passphrases import passphrase_for
from peewit_clients.cli.speaking import Speaker, language_option
from peewit_clients.letters import Letters
from peewit_clients.pool import BackendPool
from peewit_clients.recovery import OtherDeviceError, Recovery
from peewit_clients.registry_view import RegistryView
from peewit_clients.user import User
from peewit_clients.user_state import UserState
from peewit_clients.vault import Vault, key_path
from peewit_clients.words import in_words, said, told
from peewit_federation.draw.hashes import Person
from peewit_federation.errors import MalformedError, OperatorError, SenderError

T = TypeVar("T")
Keep = Callable[[UserState], None]
"Makes a state durable."
PERSON: Final = r"[a-z0-9][a-z0-9-]{0,31}"


@dataclass(frozen=True)
class Me(Speaker):
    """What every command is told."""

    folder: Path
    person: str
    charter_path: Path
    nodes: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Where the request is kept. Raises `MalformedError` or `OperatorError`."""
        name = self.person
        if not name:
            known = sorted(path.stem for path in self.folder.glob("*.request"))
            if len(known) > 1:
                raise OperatorError(said("error_persons", folder=self.folder, names=", ".join(known)))
            name = known[0] if known else "me"
        if not re.fullmatch(PERSON, name, re.ASCII):
            raise MalformedError(said("error_person_name", name=name))
        return self.folder / f"{name}.request"


def personal(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command, handed over as one `me`."""

    @wraps(command)
    def run(**options: Any) -> None:
        me = Me(**{field.name: options.pop(field.name) for field in fields(Me)})
        if len(set(me.nodes)) == 1:
            raise OperatorError(said("error_one_node"))
        command(me=me, **options)

    folder = click.option(
        "--folder",
        type=click.Path(path_type=Path, file_okay=False),
        default="peewit-user",
        show_default=True,
        envvar="PEEWIT_USER",
        help="Where requests are kept, encrypted.",
    )
    person = click.option("--person", default="", help="Whose request, if there are several: any short name.")
    for option in (json_option, language_option, node_option, charter_option, person, folder):
        run = option(run)
    return run


def read_person(family: str, given: str, born: str) -> Person:
    """Who is meant. Raises `MalformedError` for what no document says, before somebody waits for a visit with it."""
    day = read_day(born)
    if not date(1900, 1, 1) <= day <= date.today():
        raise MalformedError(said("error_born", day=born))
    if any(character.isdigit() for character in family + given):
        raise MalformedError(said("error_digits"))
    if not family.strip() and not given.strip():
        raise MalformedError(said("error_no_name"))
    return Person(family, given, day)


def passphrase(path: Path) -> str | None:
    """Ask for the passphrase of a request, if it has one."""
    if not key_path(path).exists():
        raise OperatorError(said("error_no_request", path=path))
    return passphrase_for(key_path(path), said("of_request"))


def with_user(me: Me, work: Callable[[User], Awaitable[T]], *, offline: bool = False) -> T:
    """Open the request, do something, and keep what comes of it, here and as a recovery copy.

    `offline`: what is known here is worth something if no node can be reached (`user.late` says why).
    """
    path = me.path
    with Vault(path, passphrase(path)) as vault:
        data = vault.read()
        if data is None:
            raise OperatorError(said("error_empty_request", path=path))
        return run_user(me, vault, UserState.decode(data), work, offline=offline)


def run_user(
    me: Me, vault: Vault, state: UserState, work: Callable[[User], Awaitable[T]], keep: Keep | None = None, *,
    offline: bool = False,
) -> T:  # fmt: skip
    """Do something with an open request, which is kept in the vault, or where `keep` puts it."""
    charter, keep_it = read_charter(me.charter_path), keep or (lambda state: vault.write(state.encode()))

    async def run(pool: BackendPool) -> T:
        view = RegistryView(charter, pool)
        view.go_through_others(state.recovery)
        user = User(view, state, os.urandom, keep_it)
        # First who is whose operator, which everybody asks; then what concerns us, through others.
        try:
            await view.refresh([])
            await view.refresh([mediator for mediator, _ in state.areas])
        except UnreachableError as error:
            if not offline:
                raise
            user.late = error
            return await work(user)
        try:
            return await work(user)
        finally:
            due = Recovery(user.letters, state.recovery).is_due(state.copied_s, state.copies_at)
            if state.request is not None and (due or state.content != state.copied):
                await _back_up(me, keep_it, user.letters, state)
            if state.content == state.copied:
                await user.tidy()

    return with_pool(charter, me.nodes, run)


async def _back_up(me: Me, keep: Keep, letters: Letters, state: UserState) -> None:
    state.saved += 1
    keep(state)
    content = state.content
    try:
        state.copies_at = await Recovery(letters, state.recovery).save(state.saved, state.copies(), state.copies_at)
    except OtherDeviceError as error:
        state.saved -= 1  # or the next one would take the place of the other device's
        keep(state)
        me.tell("backup_other", err=True, why=plain(in_words(told(error), me.language)))
        return
    except (UnreachableError, BackendError, SenderError) as error:
        me.tell("backup_late", err=True, why=plain(in_words(told(error), me.language)))
        return
    state.copied, state.copied_s = content, int(letters.clock())
    keep(state)


def clock(at_s: float) -> str:
    """A time as people here write it."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))
