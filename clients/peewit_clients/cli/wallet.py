"""`peewit user passport`: holding a passport, and showing of it what one wants to."""

from __future__ import annotations

import time
from pathlib import Path

import click

from peewit_clients.cli.common import emit, plain
from peewit_clients.cli.person import Me, personal, with_user
from peewit_clients.paper import show_in_terminal, write_page, write_picture
from peewit_clients.user import User
from peewit_federation.errors import MalformedError, UnknownError
from peewit_federation.passports import pw1
from peewit_federation.passports.messages import Delivery
from peewit_federation.passports.values import product_name


@click.command()
@click.option("--number", type=int, default=0, help="Which one, if there are several; the newest if left out.")
@click.option("--show", "claims", multiple=True, type=click.Choice(list(pw1.CLAIMS.values())), help="Only this (PW1).")
@click.option("--form", type=click.Choice(["hc1", "pw1"]), default="hc1", help="EU certificate, or selective.")
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="A .png or .svg with the code.")
@click.option("--pdf", type=click.Path(path_type=Path, dir_okay=False), help="A page to print and fold.")
@click.option("--text", "as_text", is_flag=True, help="Print the text of the code.")
@personal
def passport(
    number: int, claims: tuple[str, ...], form: str, picture: Path | None, pdf: Path | None, as_text: bool, me: Me
) -> None:
    """Your vaccination passport, to show, to print, or to keep as a picture.

    \b
    peewit user passport                              the EU certificate, as a code in the terminal
    peewit user passport --pdf passport.pdf           to print and fold
    peewit user passport --show born --show doses     only your birth date and the doses (PW1)
    """

    async def look(user: User) -> list[Delivery]:
        if user.state.chosen is not None:
            await user.check()
        return [Delivery.decode(one) for one in user.state.passports]

    found = with_user(me, look)
    if not found:
        raise UnknownError(me.say("passport_none"))
    if not 0 <= number <= len(found):
        raise MalformedError(f"--number: from 1 to {len(found)}")
    chosen = found[number - 1]
    whole = pw1.unpack(chosen.pw1.decode())
    shown = whole.showing(claims or pw1.CLAIMS.values()) if claims or form == "pw1" else None
    text = shown.pack() if shown else chosen.hc1.decode()
    lines = _lines(me, shown or whole)
    until = time.strftime("%Y-%m-%d", time.localtime(chosen.expires))
    lines.append((me.say("passport_until"), until))
    if picture is not None:
        write_picture(picture, text)
    if pdf is not None:
        write_page(pdf, text, me.say("passport_title"), lines, me.say("passport_hint"), me.language)
    if me.as_json:
        emit({"passports": len(found), "passport": chosen.passport.hex(), "expires": chosen.expires, "text": text})
    elif as_text:
        click.echo(text)
    elif picture is None and pdf is None:
        click.echo(me.say("passport_title"))
        for name, value in lines:
            click.echo(plain(f"  {name}: {value}"))
        show_in_terminal(text)
        me.tell("passport_hint")


def _lines(me: Me, shown: pw1.Presented) -> list[tuple[str, str]]:
    found = []
    for _, claim, value in shown.disclosures:
        name = pw1.CLAIMS.get(claim, "")
        if name == pw1.VACCINE:
            value = product_name(str(value))
        if name == pw1.DOSES and isinstance(value, list):
            value = "/".join(map(str, value))
        found.append((me.say(f"claim_{name}"), str(value)))
    return found
