"""`peewit provider calendar`: times that a practice offers."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click
from rich.table import Table

from peewit_clients.appointments import Appointments
from peewit_clients.calendar import Series, export_ics, read_day, read_time, read_weekdays
from peewit_clients.cli.clinic import Clinic, clinical, local_day, opened, with_practice
from peewit_clients.cli.common import emit
from peewit_clients.cli.speaking import show_table
from peewit_clients.office import Office
from peewit_clients.practice import Practice
from peewit_clients.practice_state import SLOT, PracticeState
from peewit_clients.words import said
from peewit_federation.errors import MalformedError, OperatorError, UnknownError
from peewit_federation.statements.codec import SERVICE


@click.group()
def calendar() -> None:
    """Times that you offer: single ones, series, exceptions."""


@calendar.command()
@click.option("--service", required=True, help="For example flu.")
@click.option("--day", "first", required=True, help="The first day: 2026-12-01.")
@click.option("--until", "last", default="", help="The last day of a series; one day only if left out.")
@click.option("--from", "begins", required=True, help="09:00")
@click.option("--to", "ends", required=True, help="12:00")
@click.option("--minutes", type=click.IntRange(1, 1440), required=True, help="For one person.")
@click.option("--weekdays", default="mon,tue,wed,thu,fri,sat,sun", show_default=True, help="Of a series.")
@click.option("--except", "exceptions", multiple=True, help="Not on this day.")
@click.option("--capacity", type=click.IntRange(1, 100), default=1, show_default=True, help="People at a time.")
@clinical
def add(
    service: str, first: str, last: str, begins: str, ends: str, minutes: int, weekdays: str,
    exceptions: tuple[str, ...], capacity: int, clinic: Clinic,
) -> None:  # fmt: skip
    """Add times.

    \b
    peewit provider calendar add --service flu --day 2026-12-01 --until 2026-12-31 --weekdays mon,tue,thu \\
        --from 09:00 --to 12:00 --minutes 10 --except 2026-12-24 --capacity 2
    """
    SERVICE.check(service)
    days = frozenset(map(read_day, exceptions))
    series = Series(
        read_day(first), read_day(last or first), read_time(begins), read_time(ends), minutes, service,
        read_weekdays(weekdays), days, capacity,
    )  # fmt: skip
    slots = [slot for slot in series.slots(None, os.urandom) if slot.begins_s > time.time()]
    if not slots:
        raise MalformedError(said("error_passed", day=first))
    with opened(clinic) as (drawer, state):
        if state.services and service not in state.services:
            raise MalformedError(said("error_service", services=", ".join(state.services), service=service))
        taken = {(slot.begins_s, slot.minutes, slot.service) for slot in state.calendar.values()}
        doubled = sum((slot.begins_s, slot.minutes, slot.service) in taken for slot in slots)
        for slot in slots:
            state.calendar[slot.name] = slot
        drawer.write(state.changed(*((SLOT, slot.name) for slot in slots)))
    if clinic.as_json:
        emit({"added": len(slots)})
        return
    clinic.tell("clinic_added", count=len(slots))
    if doubled:
        clinic.tell("clinic_doubled", count=doubled, err=True)


@calendar.command()
@click.option("--day", default="", help="Only this day.")
@clinical
def show(day: str, clinic: Clinic) -> None:
    """Days with free, offered and booked times."""
    with opened(clinic) as (_, state):
        counts = _counts(state, day)
    if clinic.as_json:
        emit([{"day": d, "free": c[0], "offered": c[1], "booked": c[2]} for d, c in sorted(counts.items())])
        return
    table = Table(*map(clinic.say, ("column_day", "column_free", "column_offered", "column_booked")))
    for name, count in sorted(counts.items()):
        table.add_row(name, *map(str, count))
    show_table(table if counts else clinic.say("clinic_no_times"))


def _counts(state: PracticeState, day: str) -> dict[str, list[int]]:
    now_s = time.time()
    free = {slot.name for slot in state.free(now_s)}
    counts: dict[str, list[int]] = {}
    for name, slot in {**state.calendar, **{n: b.slot for n, b in state.booked.items()}}.items():
        at = local_day(slot.begins_s)
        if not day or at == day:
            count = counts.setdefault(at, [0, 0, 0])
            count[2 if name in state.booked else 0 if name in free else 1] += 1
    return counts


@calendar.command()
@click.option("--day", required=True, help="2026-12-24")
@click.option("--service", default="", help="Only this one.")
@click.option("--text", default="", help="A word to those whose offers are withdrawn.")
@clinical
def remove(day: str, service: str, text: str, clinic: Clinic) -> None:
    """Take times out that nobody has booked; offers of them are withdrawn. For booked ones see `cancel` and `move`."""
    read_day(day)

    async def act(practice: Practice, _: Office) -> int:
        names = [
            slot.name for slot in practice.state.calendar.values()
            if local_day(slot.begins_s) == day and service in ("", slot.service)
        ]  # fmt: skip
        if not names:
            raise UnknownError(said("error_no_time", day=day))
        await Appointments(practice).withdraw(names, text)
        return len(names)

    count = with_practice(clinic, act)
    if clinic.as_json:
        emit({"removed": count})
    clinic.tell("clinic_gone", count=count)


@calendar.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@clinical
def export(file: Path, clinic: Clinic) -> None:
    """Write booked times for another calendar (.ics), without names."""
    with opened(clinic) as (_, state):
        text = export_ics([(b.slot, b.slot.service) for b in state.booked.values()], time.time())
    try:
        file.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise OperatorError(f"{file}: {error.strerror}") from None
    clinic.tell("clinic_exported", count=len(state.booked), file=file)
