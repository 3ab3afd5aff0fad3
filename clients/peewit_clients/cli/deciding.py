"""`peewit provider asking|confirm|decline`: a person decides who of those that accepted is booked.

Rules kept here: what is not decided stays sealed at the nodes; nothing of it is written down here. Whoever is declined
keeps the place in the queue, and is forgotten at once.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import click
from rich.markup import escape
from rich.table import Table

from peewit_clients.bookings import Booking
from peewit_clients.checkin import check_in_code
from peewit_clients.cli.changes import HEADS
from peewit_clients.cli.clinic import Clinic, clinical, local_time, with_practice
from peewit_clients.cli.common import emit, plain
from peewit_clients.cli.speaking import show_table
from peewit_clients.office import Office
from peewit_clients.practice import Asking, Decide, Practice
from peewit_clients.serve import nobody_yet
from peewit_clients.words import said
from peewit_federation.appointment.messages import Accept
from peewit_federation.errors import MalformedError, UnknownError

COLUMNS: Final = ("time", "minutes", "service", "name", "birth date", "code", "decide until")


@click.command()
@clinical
def asking(clinic: Clinic) -> None:
    """Who accepted a time and waits for your decision, if you run with --by-hand."""

    async def look(practice: Practice, _: Office) -> list[Asking]:
        await practice.confirm(nobody_yet)
        return sorted(practice.asking, key=lambda one: one.slot.begins_s)

    found = [_row(one) for one in with_practice(clinic, look)]
    if clinic.as_json:
        emit([dict(zip(COLUMNS, row, strict=True)) for row in found])
        return
    table = Table(*map(clinic.say, (*HEADS, "column_decide")), title=clinic.say("clinic_asking_title"))
    for row in found:
        table.add_row(*map(escape, row))
    show_table(table if found else clinic.say("clinic_nobody_asks"), 0, 4, 5, 6)


def _row(one: Asking) -> tuple[str, ...]:
    accept, slot = one.accept, one.slot
    name = plain(f"{accept.family_name}, {accept.given_name}")
    code, until = check_in_code(accept.nonce), local_time(one.until_s)
    return local_time(slot.begins_s), str(slot.minutes), slot.service, name, plain(accept.born), code, until


@click.command()
@click.argument("codes", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="Whoever waits.")
@clinical
def confirm(codes: tuple[str, ...], everyone: bool, clinic: Clinic) -> None:
    """Book those who wait for your decision, by their codes. They are told."""
    wanted = _wanted(codes, everyone=everyone)

    def decide(accept: Accept) -> bool | None:
        return True if everyone or check_in_code(accept.nonce) in wanted else None

    made = _decide(clinic, wanted, decide)
    if clinic.as_json:
        emit({"booked": [check_in_code(booking.accept.nonce) for booking in made]})
        return
    for booking in made:
        when, name = local_time(booking.slot.begins_s), plain(booking.person.family_name)
        clinic.tell("clinic_booked_name", when=when, name=name)
    if not made:
        clinic.tell("clinic_nobody_booked")


@click.command()
@click.argument("codes", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="Whoever waits.")
@clinical
def decline(codes: tuple[str, ...], everyone: bool, clinic: Clinic) -> None:
    """Decline those who wait for your decision, by their codes. They keep their places, and can choose other offers."""
    wanted = _wanted(codes, everyone=everyone)

    def decide(accept: Accept) -> bool | None:
        return False if everyone or check_in_code(accept.nonce) in wanted else None

    _decide(clinic, wanted, decide)
    if clinic.as_json:
        emit({"declined": sorted(wanted)})
    clinic.tell("clinic_told")


def _wanted(codes: Collection[str], *, everyone: bool) -> set[str]:
    if bool(codes) == everyone:
        raise MalformedError(said("error_which_codes"))
    return {code.upper() for code in codes}


def _decide(clinic: Clinic, wanted: set[str], decide: Decide) -> list[Booking]:
    """Act on a decision. Raises `UnknownError` for a code that nobody has who waits; then nothing is done."""

    async def act(practice: Practice, _: Office) -> list[Booking]:
        await practice.confirm(nobody_yet)
        unknown = wanted - {check_in_code(one.accept.nonce) for one in practice.asking}
        if unknown:
            raise UnknownError(said("error_nobody_waits", code=min(unknown)))
        return await practice.confirm(decide)

    return with_practice(clinic, act)
