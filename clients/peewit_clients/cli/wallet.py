"""`peewit user passport` and `peewit wallet`: holding a passport, and showing of it what one wants to."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import segno

from peewit_clients.backend import UnreachableError
from peewit_clients.cli.common import emit, plain, read_charter, with_pool
from peewit_clients.cli.passphrases import new_passphrase
from peewit_clients.cli.person import Me, passphrase, personal, read_person, with_user
from peewit_clients.letters import Letters
from peewit_clients.paper import show_in_terminal, write_page, write_picture
from peewit_clients.pool import BackendPool
from peewit_clients.recovery import write_code
from peewit_clients.registry_view import RegistryView
from peewit_clients.user import User
from peewit_clients.user_state import UserState
from peewit_clients.vault import Vault, key_path
from peewit_clients.walk_in import Wallet, WalletState
from peewit_clients.words import Words, said
from peewit_federation.errors import MalformedError, OperatorError, UnknownError
from peewit_federation.passports import dcc, hc1, pw1
from peewit_federation.passports.messages import Delivery
from peewit_federation.passports.revocation import PASSPORT_KIND
from peewit_federation.passports.signed import Signed
from peewit_federation.passports.values import product_name

T = TypeVar("T")


def showing(command: Callable[..., None]) -> Callable[..., None]:
    """The options of how a passport is shown, handed over as one `how`."""

    @wraps(command)
    def run(**options: Any) -> None:
        command(how=How(**{field.name: options.pop(field.name) for field in fields(How)}), **options)

    for option in (
        click.option("--text", "as_text", is_flag=True, help="Print the text of the code."),
        click.option("--pdf", type=click.Path(path_type=Path, dir_okay=False), help="A page to print and fold."),
        click.option(
            "--picture", type=click.Path(path_type=Path, dir_okay=False), help="A .png or .svg with the code."
        ),
        click.option(
            "--form",
            type=click.Choice(["hc1", "pw1"]),
            default=None,
            help="EU certificate (if left out), or one that shows a choice.",
        ),
        click.option(
            "--show", "claims", multiple=True, type=click.Choice(list(pw1.CLAIMS.values())), help="Only this (PW1)."
        ),
        click.option("--number", type=int, default=0, help="Which one, if there are several; the newest if left out."),
    ):
        run = option(run)
    return run


@dataclass(frozen=True)
class How:
    """How a passport is to be shown."""

    number: int
    claims: tuple[str, ...]
    form: str | None
    picture: Path | None
    pdf: Path | None
    as_text: bool


@click.command()
@showing
@personal
def passport(how: How, me: Me) -> None:
    """Your vaccination passport, to show, to print, or to keep as a picture.

    \b
    peewit user passport                      the EU certificate, as a code in the terminal
    peewit user passport --pdf passport.pdf   to print and fold
    peewit user passport --show family_name --show born --show doses      only these (PW1)
    """

    async def look(user: User) -> list[Delivery]:
        if user.state.chosen is not None:
            await user.check()
        found = [Delivery.decode(one) for one in user.state.passports]
        _warn(user.view, found, how, me)
        return found

    try:
        found = with_user(me, look)
    except UnreachableError:
        click.echo(me.say("passport_offline"), err=True)
        with Vault(me.path, passphrase(me.path)) as vault:
            found = [Delivery.decode(one) for one in UserState.decode(vault.read() or b"").passports]
    _show(found, how, me)


@click.group()
def wallet() -> None:
    """A passport without an appointment: ask at any practice that signs passports.

    \b
    1. peewit wallet request --family … --given … --born …    shows a code for the practice
    2. peewit wallet show                                     after the vaccination
    """


def _warn(view: RegistryView, found: list[Delivery], how: How, me: Me) -> None:
    """Say which passports (of those that are to be shown) were revoked."""
    for number, one in enumerate(found, start=1):
        looked = view.finder.everywhere(PASSPORT_KIND, one.passport, int(view.clock()))
        if how.number in (0, number) and any(item.revocations for item in looked):
            click.echo(me.say("passport_revoked", number=number), err=True)


@wallet.command()
@click.option("--family", default="", help="Family name, as in the identity document.")
@click.option("--given", default="", help="Given names.")
@click.option("--born", required=True, help="Birth date: 1940-08-12.")
@click.option("--correct", is_flag=True, help="The name or birth date in this wallet was wrong.")
@personal
def request(family: str, given: str, born: str, correct: bool, me: Me) -> None:
    """Make a sealed request with your name and birth date, and show the code that opens it at the practice."""
    person, path = read_person(family, given, born), _path(me)
    fresh = not key_path(path).exists()
    with Vault.make(path, new_passphrase(said("for_device"))) if fresh else Vault(path, passphrase(path)) as vault:
        data = vault.read()
        state = WalletState.decode(data) if data else WalletState.new(person, os.urandom)
        if state.person != person:
            if not correct:
                raise OperatorError(
                    f"{path} is a wallet with another name or birth date: say --correct if that was a mistake, or "
                    "choose another wallet with --person"
                )
            state.person = person
        vault.write(state.encode())

        async def ask(mine: Wallet, _: RegistryView) -> None:
            await mine.ask()

        _with_wallet(me, vault, state, ask)
    code = write_code(state.secret)
    if me.as_json:
        emit({"code": code})
        return
    me.tell("wallet_code")
    click.echo(f"\n    {code}\n")
    segno.make_qr(code, error="m").terminal(compact=True)


@wallet.command()
@showing
@personal
def show(how: How, me: Me) -> None:
    """Fetch and show your passport, as `peewit user passport` does."""
    path = _path(me)
    if not key_path(path).exists():
        raise OperatorError(said("error_no_wallet", path=path))
    with Vault(path, passphrase(path)) as vault:
        data = vault.read()
        if data is None:
            raise OperatorError(f"{path} is empty; begin with `peewit wallet request`")

        async def fetch(mine: Wallet, view: RegistryView) -> list[Delivery]:
            found = await mine.fetch()
            await view.refresh(sorted({one.mediator for one in found if one.mediator}))
            _warn(view, found, how, me)
            return found

        state = WalletState.decode(data)
        try:
            found = _with_wallet(me, vault, state, fetch)
        except UnreachableError:
            click.echo(me.say("passport_offline"), err=True)
            found = [Delivery.decode(one) for one in state.passports]
    _show(found, how, me)


def _path(me: Me) -> Path:
    return me.folder / f"{me.path.stem if me.person else 'me'}.wallet"


def _with_wallet(me: Me, vault: Vault, state: WalletState, work: Callable[[Wallet, RegistryView], Awaitable[T]]) -> T:
    charter = read_charter(me.charter_path)

    async def run(pool: BackendPool) -> T:
        view = RegistryView(charter, pool)
        view.go_through_others(state.secret)
        await view.refresh([])
        letters = Letters(pool, view.clock, os.urandom)
        return await work(Wallet(letters, state, lambda state: vault.write(state.encode())), view)

    return with_pool(charter, me.nodes, run)


def _show(found: list[Delivery], how: How, me: Me) -> None:
    if not found:
        raise UnknownError(said("passport_none"))
    if not 0 <= how.number <= len(found):
        raise MalformedError(said("error_number", count=len(found)))
    if how.claims and how.form == "hc1":
        raise MalformedError("an EU certificate shows everything; leave --form out to show a choice (PW1)")
    if how.claims and not {pw1.FAMILY, pw1.BORN} <= set(how.claims):
        click.echo(me.say("passport_too_little"), err=True)
    chosen = found[how.number - 1]
    whole = pw1.unpack(chosen.pw1.decode())
    shown = whole.showing(how.claims or pw1.CLAIMS.values()) if how.claims or how.form == "pw1" else None
    text = shown.pack() if shown else chosen.hc1.decode()
    lines = passport_lines(me.say, shown or whole, "" if shown else text)
    until = time.strftime("%Y-%m-%d", time.localtime(chosen.expires))
    lines.append((me.say("passport_until"), until))
    if how.picture is not None:
        write_picture(how.picture, text)
    if how.pdf is not None:
        write_page(how.pdf, text, me.say("passport_title"), lines, me.say("passport_hint"), me.language)
    for path in (how.picture, how.pdf):
        if path is not None:
            me.tell("passport_wrote", path=path)
    if me.as_json:
        emit({"passports": len(found), "passport": chosen.passport.hex(), "expires": chosen.expires, "text": text})
    elif how.as_text:
        click.echo(text)
    elif how.picture is None and how.pdf is None:
        click.echo(me.say("passport_title"))
        for name, value in lines:
            click.echo(plain(f"  {name}: {value}"))
        show_in_terminal(text)
        me.tell("passport_hint")


def passport_lines(say: Words, shown: pw1.Presented, whole: str) -> list[tuple[str, str]]:
    """What a passport says, for people; of an EU certificate (`whole`) also the name as machines read it."""
    found = []
    if whole:
        content = dcc.read_claims(Signed.parse(hc1.unpack(whole)).payload).content
        name = content["nam"] if isinstance(content, dict) else {}
        found.append((say("claim_machine"), f"{name.get('fnt', '')}<<{name.get('gnt', '')}"))
    for _, claim, value in shown.disclosures:
        name = pw1.CLAIMS.get(claim, "")
        if name == pw1.VACCINE:
            value = product_name(str(value))
        if name == pw1.DOSES and isinstance(value, list):
            value = "/".join(map(str, value))
        found.append((say(f"claim_{name}"), str(value)))
    return found
