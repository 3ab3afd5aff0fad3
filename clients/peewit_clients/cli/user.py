"""`peewit user`: a person's appointment, without an account and without a name at any node."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from datetime import date
from typing import Final, TypeVar

import click

from peewit_clients.areas import read_postcode
from peewit_clients.calendar import read_day
from peewit_clients.cli.appointment import COMMANDS
from peewit_clients.cli.common import emit, plain, read_charter, with_pool
from peewit_clients.cli.finding import choose, find
from peewit_clients.cli.passphrases import new_passphrase
from peewit_clients.cli.person import Me, passphrase, personal, read_person, run_user, with_user
from peewit_clients.cli.wallet import passport
from peewit_clients.letters import Letters
from peewit_clients.place import Prove, with_code, with_work
from peewit_clients.pool import BackendPool
from peewit_clients.recovery import Recovery, read_code, write_code
from peewit_clients.registry_view import RegistryView
from peewit_clients.user import User
from peewit_clients.user_state import Extra, UserState
from peewit_clients.vault import Vault, key_path
from peewit_clients.words import said
from peewit_federation.errors import MalformedError, OperatorError, RefusedError

EPOCH: Final = date(1970, 1, 1)
T = TypeVar("T")


@click.group()
def user() -> None:
    """Ask for an appointment, choose an offer, and show it at the practice.

    \b
    1. peewit user find 10115                     which areas serve a postcode
    2. peewit user request --postcode 10115 …     a place in the queue
    3. peewit user status                         how many come before you
    4. peewit user offers, peewit user accept 1
    5. peewit user show                           on the day
    6. peewit user passport                       after the vaccination
    """


for command in (find, *COMMANDS, passport):
    user.add_command(command)


@user.command()
@click.option("--family", "family_name", required=True, help="Family name, as in the identity document.")
@click.option("--given", "given_name", required=True, help="Given names.")
@click.option("--born", required=True, help="Birth date: 1940-08-12.")
@click.option("--postcode", required=True, help="Where you live.")
@click.option("--service", "services", multiple=True, required=True, help="What you need, for example flu.")
@click.option(
    "--area",
    "areas",
    multiple=True,
    help="Number or short name, as `find` shows them, the preferred first; by default the first that has practices.",
)
@click.option("--group", default="", help="The group that you belong to, for example over80.")
@click.option("--code", default="", help="Your signup code, if you were sent one.")
@click.option("--days", multiple=True, help="Days that suit you: 2026-12-01..2026-12-10.")
@click.option("--hours", multiple=True, help="Hours that suit you: 9-12.")
@click.option("--step-free", is_flag=True, help="You need a way in without steps.")
@click.option("--speak", "languages", multiple=True, help="Languages that you speak: de.")
@click.option("--anew", is_flag=True, help="Give the old request up, and begin behind those who wait now.")
@personal
def request(
    family_name: str, given_name: str, born: str, postcode: str, services: tuple[str, ...], areas: tuple[str, ...],
    group: str, code: str, days: tuple[str, ...], hours: tuple[str, ...], step_free: bool, languages: tuple[str, ...],
    anew: bool, me: Me,
) -> None:  # fmt: skip
    """Get a place in the queue. May be said again after a failure: it goes on where it stopped.

    Your name stays on this device until you accept an offer, and then goes to that one practice only.
    """
    read_postcode(postcode)
    person = read_person(family_name, given_name, born)
    extra: Extra = (
        tuple(_span(text) for text in days), tuple(_hours(text) for text in hours), int(step_free), languages,
        _age_group(person.born),
    )  # fmt: skip
    prove = with_code(code) if code else with_work
    path = me.path
    fresh = not key_path(path).exists()
    with Vault.make(path, new_passphrase(said("for_device"))) if fresh else Vault(path, passphrase(path)) as vault:
        data = vault.read()
        if data is None:
            state = UserState.new(
                person, group, choose(me, postcode, services, areas, group), services, os.urandom, extra
            )
            vault.write(state.encode())
        else:
            state = UserState.decode(data)
            if state.person != person:
                raise OperatorError(said("error_somebody_else", path=path))
            if anew and state.request is not None:
                chosen = choose(me, postcode, services, areas, group)
                new = UserState.new(person, group, chosen, services, os.urandom, extra)
                _tell_place(me, _ask_anew(me, vault, state, new, prove))
                return
            if state.request is None:
                # Nothing was brought yet: what is said now counts. Areas stay if a node may have admitted us for them.
                state.group, state.services, state.wishes = group, services, extra
                if not state.asked:
                    state.areas = choose(me, postcode, services, areas, group)
            elif state.withdrawn:
                raise RefusedError(said("error_withdrawn"))
            elif state.chosen is not None:
                raise RefusedError(said("error_chosen"))

        async def ask(user: User) -> None:
            if user.ended:
                raise RefusedError(said("error_over"))
            await user.ask(prove)

        run_user(me, vault, state, ask)
        _tell_place(me, state)


def _ask_anew(me: Me, vault: Vault, old: UserState, new: UserState, prove: Prove) -> UserState:
    """Get a new place first, and then give the old one up; what is under way is kept with the old one."""
    if old.chosen is not None and old.chosen.stands(time.time()):
        raise RefusedError(said("error_stands"))
    if old.anew:
        begun = UserState.decode(old.anew)
        if begun.asked or begun.request is not None:
            new = begun  # a node may have admitted it already

    def keep(state: UserState) -> None:
        old.anew = state.encode()
        vault.write(old.encode())

    async def ask(user: User) -> None:
        await user.ask(prove)

    async def leave(user: User) -> None:
        if not user.ended and not old.withdrawn:
            await user.withdraw()

    run_user(me, vault, new, ask, keep)
    run_user(me, vault, old, leave)
    new.passports = list(old.passports)
    vault.write(new.encode())
    return new


def _tell_place(me: Me, state: UserState) -> None:
    assert state.request is not None
    code_text = write_code(state.recovery)
    if me.as_json:
        emit({"round": state.request.round, "group": state.group, "recovery_code": code_text})
        return
    me.tell("request_asked", round=state.request.round, group=state.group or me.say("everybody"))
    me.tell("rule")
    me.tell("request_recovery")
    click.echo(f"\n    {code_text}\n")
    me.tell("request_recovery_hint")


@user.command()
@click.option("--service", "services", multiple=True, help="What you need, instead of what you said before.")
@click.option("--days", multiple=True, help="Days that suit you: 2026-12-01..2026-12-10; `any`: all of them.")
@click.option("--hours", multiple=True, help="Hours that suit you: 9-12; `any`: all of them.")
@click.option("--step-free/--steps", default=None, help="Whether you need a way in without steps.")
@click.option("--speak", "languages", multiple=True, help="Languages that you speak: de; `any`: none in particular.")
@personal
def change(
    services: tuple[str, ...], days: tuple[str, ...], hours: tuple[str, ...], step_free: bool | None,
    languages: tuple[str, ...], me: Me,
) -> None:  # fmt: skip
    """Change what you wish, in the same place in the queue. What you do not name stays."""

    async def work(user: User) -> None:
        state = user.state
        old_days, old_hours, old_steps, old_languages, age = state.wishes
        wishes: Extra = (
            _changed(old_days, days, _span), _changed(old_hours, hours, _hours),
            old_steps if step_free is None else int(step_free), _changed(old_languages, languages, str), age,
        )  # fmt: skip
        await user.change(services or state.services, wishes)
        if me.as_json:
            emit({"services": list(state.services), "version": state.request.version if state.request else 0})
        me.tell("change_done")

    with_user(me, work)


def _changed(old: tuple[T, ...], said: tuple[str, ...], read: Callable[[str], T]) -> tuple[T, ...]:
    if said == ("any",):
        return ()
    return tuple(map(read, said)) or old


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition("..")
    days = read_day(first), read_day(last or first)
    if days[1] < days[0]:
        raise MalformedError(said("error_days", text=text))
    if days[1] < date.today():
        raise MalformedError(said("error_past_days", text=text))
    return (days[0] - EPOCH).days, (days[1] - EPOCH).days


def _hours(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,2})-([0-9]{1,2})", text, re.ASCII)
    first, last = map(int, found.groups()) if found else (0, 0)
    if not first < last <= 24:
        raise MalformedError(said("error_hours", text=text))
    return first, last


def _age_group(born: date) -> str:
    """Ten years wide, so that a birth date cannot be told from it."""
    years = max(0, (date.today() - born).days // 365) // 10 * 10
    return f"{years}-{years + 9}"


@user.command()
@personal
def recovery(me: Me) -> None:
    """Show the recovery code again."""
    with Vault(me.path, passphrase(me.path)) as vault:
        data = vault.read()
    if data is None:
        raise OperatorError(said("error_empty_request", path=me.path))
    code_text = write_code(UserState.decode(data).recovery)
    if me.as_json:
        emit({"recovery_code": code_text})
        return
    click.echo(code_text)
    me.tell("request_recovery_hint", err=True)


@user.command()
@click.argument("code")
@personal
def restore(code: str, me: Me) -> None:
    """Bring a request back on an empty device, from its recovery code.

    Go on with one device only: what the practice says is read by whichever looks first.
    """
    secret, charter, path = read_code(code), read_charter(me.charter_path), me.path
    if key_path(path).exists():
        raise OperatorError(said("error_exists", path=path))

    async def load(pool: BackendPool) -> tuple[UserState, tuple[str, ...]]:
        view = RegistryView(charter, pool)
        view.go_through_others(secret)
        await view.refresh([])
        letters = Letters(pool, view.clock, os.urandom)
        copy = await Recovery(letters, secret).load()
        state = UserState.decode(copy.state)
        state.saved, state.copies_at = copy.number, copy.origins
        return state, copy.silent

    state, silent = with_pool(charter, me.nodes, load)
    with Vault.make(path, new_passphrase(said("for_device"))) as vault:
        vault.write(state.encode())
    name = f"{state.person.given_name} {state.person.family_name}"
    if me.as_json:
        emit({"restored": path.stem, "not_asked": list(silent)})
        return
    me.tell("restore_done", name=name)
    if silent:
        me.tell("restore_silent", why=plain("; ".join(silent)), err=True)
