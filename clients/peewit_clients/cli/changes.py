"""`peewit provider day|note|move|cancel`: appointments that are made."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click
from rich.markup import escape
from rich.table import Table

from peewit_clients.appointments import Appointments
from peewit_clients.bookings import Booking
from peewit_clients.calendar import Slot, read_day
from peewit_clients.checkin import check_in_code
from peewit_clients.cli.clinic import Clinic, clinical, local_day, local_time, of_day, opened, with_practice
from peewit_clients.cli.common import dry_run_option, emit, plain
from peewit_clients.cli.speaking import show_table
from peewit_clients.day_list import COLUMNS, rows, write_pdf
from peewit_clients.office import Office
from peewit_clients.practice import Practice
from peewit_clients.words import said
from peewit_federation.errors import MalformedError, RefusedError, UnknownError

HEADS: Final = ("column_time", "column_minutes", "column_service", "column_name", "column_born", "column_code")


@click.command()
@click.argument("date", required=False)
@click.option("--pdf", type=click.Path(path_type=Path, dir_okay=False), help="A list to print.")
@clinical
def day(date: str | None, pdf: Path | None, clinic: Clinic) -> None:
    """Who comes on a day (2026-12-01; today if left out), with the codes that they show."""
    at = date or local_day(time.time())
    read_day(at)
    with opened(clinic) as (_, state):
        found = of_day(list(state.booked.values()), at, "")
    if pdf is not None:
        heads = [clinic.say(head) for head in HEADS]
        write_pdf(pdf, clinic.say("clinic_day", day=at), heads, found, clinic.language)
        clinic.tell("clinic_exported", count=len(found), file=pdf)
    if clinic.as_json:
        emit([dict(zip(COLUMNS, row, strict=True)) for row in rows(found)])
        return
    table = Table(*map(clinic.say, HEADS), title=clinic.say("clinic_day", day=at))
    for row in rows(found):
        table.add_row(*map(escape, row))
    show_table(table if found else clinic.say("clinic_nobody", day=at), 0, 4, 5)
    for booking in found:
        for at_s, theirs, text in booking.words:
            if theirs:
                clinic.tell(
                    "clinic_said", who=plain(booking.person.family_name), when=local_time(at_s), text=plain(text)
                )
            else:
                clinic.tell("said_you", when=local_time(at_s), text=plain(text))


@click.command()
@click.argument("code")
@click.argument("text")
@clinical
def note(code: str, text: str, clinic: Clinic) -> None:
    """Say something to a holder (CODE: as in the day list)."""

    async def act(practice: Practice, _: Office) -> None:
        if not text.strip():
            raise MalformedError(said("error_no_word_holder"))
        held = {check_in_code(booking.accept.nonce): booking for booking in practice.state.booked.values()}
        booking = held.get(code.upper())
        if booking is None:
            raise UnknownError(said("error_nobody", code=code))
        await Appointments(practice).note(booking, text)
        _tell_unsent(clinic, practice, [booking])

    with_practice(clinic, act)
    if clinic.as_json:
        emit({"said": text})
    clinic.tell("clinic_sent")


def _tell_unsent(clinic: Clinic, practice: Practice, told: list[Booking]) -> None:
    """Whoever is to be told something, and was not yet, counts on what was said before."""
    waiting = {letter.address for letter in practice.state.letters.values() if not letter.once}
    late = [booking for booking in told if booking.accept.mailbox in waiting]
    if late:
        names = ", ".join(f"{plain(b.person.family_name)} ({check_in_code(b.accept.nonce)})" for b in late)
        clinic.tell("clinic_unsent", err=True, count=len(late), names=names)


keep_open_option = click.option("--keep-open", is_flag=True, help="Offer the times of that day to others.")


@click.command()
@click.option("--day", "date", required=True, help="2026-12-01")
@click.option("--service", default="", help="Only this one.")
@click.option("--text", default="", help="A word to the holders.")
@keep_open_option
@dry_run_option
@clinical
def cancel(date: str, service: str, text: str, keep_open: bool, dry_run: bool, clinic: Clinic) -> None:
    """Take all appointments of a day back. Their holders are told and keep their places in the queue.

    The day's times are taken out, too, unless you keep them open.
    """
    read_day(date)

    async def act(practice: Practice, _: Office) -> int:
        found = _found(practice, date, service, keep_open=keep_open)
        if not dry_run:
            await Appointments(practice).cancel(found, text, keep_open=keep_open)
            if not keep_open:
                await _close(practice, date, service, text)
            _tell_unsent(clinic, practice, found)
        return len(found)

    count = with_practice(clinic, act)
    if clinic.as_json:
        emit({"cancelled": 0 if dry_run else count, "dry_run": dry_run})
    if dry_run:
        clinic.tell("clinic_would_cancel", count=count, day=date)
    else:
        clinic.tell("clinic_cancelled", count=count, day=date)


@click.command()
@click.option("--day", "date", required=True, help="2026-12-01")
@click.option("--to", "target", required=True, help="2026-12-02, where your calendar has free times")
@click.option("--service", default="", help="Only this one.")
@click.option("--text", default="", help="A word to the holders.")
@keep_open_option
@dry_run_option
@clinical
def move(date: str, target: str, service: str, text: str, keep_open: bool, dry_run: bool, clinic: Clinic) -> None:
    """Give all holders of a day times on another day. Whoever cannot come cancels, and keeps the place.

    The day's times are taken out, too, unless you keep them open.
    """
    if read_day(date) == read_day(target):
        raise MalformedError(said("error_same_day", day=target))

    async def act(practice: Practice, _: Office) -> list[tuple[Booking, Slot]]:
        found = _found(practice, date, service, keep_open=keep_open)
        free = sorted(
            (slot for slot in practice.state.free(practice.view.clock()) if local_day(slot.begins_s) == target),
            key=lambda slot: (slot.begins_s, slot.name),
        )
        moves = []
        for booking in found:
            slot = next((slot for slot in free if slot.service == booking.slot.service), None)
            if slot is None:
                raise RefusedError(said("error_too_few_times", day=target, count=len(found), date=date))
            free.remove(slot)
            moves.append((booking, slot))
        shown = [(booking.slot.begins_s, slot.begins_s) for booking, slot in moves]
        if not dry_run:
            await Appointments(practice).move(moves, text, keep_open=keep_open)
            if not keep_open:
                await _close(practice, date, service, text)
            _tell_unsent(clinic, practice, found)
        if not clinic.as_json:
            for old_s, new_s in shown:
                click.echo(f"{local_time(old_s)} -> {local_time(new_s)}")
        return moves

    moves = with_practice(clinic, act)
    if clinic.as_json:
        emit({"moved": 0 if dry_run else len(moves), "dry_run": dry_run})
    if dry_run:
        clinic.tell("clinic_dry", err=True)


async def _close(practice: Practice, date: str, service: str, text: str) -> None:
    """Nobody is to come on this day: what is free or offered goes."""
    await Appointments(practice).withdraw(_times(practice, date, service), text)


def _times(practice: Practice, date: str, service: str) -> list[bytes]:
    times = [slot for slot in practice.state.calendar.values() if local_day(slot.begins_s) == date]
    return [slot.name for slot in times if service in ("", slot.service)]


def _found(practice: Practice, date: str, service: str, *, keep_open: bool) -> list[Booking]:
    """Who comes on a day; perhaps nobody, if there are times to be taken out."""
    found = of_day(list(practice.state.booked.values()), date, service)
    if not found and (keep_open or not _times(practice, date, service)):
        raise UnknownError(said("error_nobody_comes", date=date))
    return found
