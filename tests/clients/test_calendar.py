"""A practice's calendar: series, exceptions, wishes, and what other calendars read."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest

from peewit_clients.calendar import Series, Slot, export_ics, fitting, read_day, read_time, read_weekdays
from peewit_clients.facilities import Facilities, fields
from peewit_federation.appointment.request import Wishes
from peewit_federation.errors import MalformedError, PeewitError, RefusedError
from tests.federation_kit import seed

BERLIN = ZoneInfo("Europe/Berlin")
WEEK = Series(date(2026, 12, 21), date(2026, 12, 27), time(9), time(10), 20, "flu")


def names() -> object:
    found = iter(range(100_000))
    return lambda size: next(found).to_bytes(size, "big")


def wishes(**changes: object) -> Wishes:
    return Wishes(bytes(1216), bytes(32), ("flu",), **changes)  # type: ignore[arg-type]


def test_a_series_has_its_days_times_capacity_and_exceptions() -> None:
    series = Series(
        WEEK.first, WEEK.last, WEEK.begins, WEEK.ends, 20, "flu", read_weekdays("mon, thu,fri"),
        frozenset({date(2026, 12, 24)}), 2,
    )  # fmt: skip
    slots = series.slots(BERLIN, names())  # type: ignore[arg-type]
    assert len({slot.name for slot in slots}) == len(slots) == 2 * 3 * 2
    times = [datetime.fromtimestamp(slot.begins_s, BERLIN).strftime("%d %H:%M") for slot in slots[::2]]
    assert times == ["21 09:00", "21 09:20", "21 09:40", "25 09:00", "25 09:20", "25 09:40"]


def test_a_series_keeps_the_time_of_the_wall_clock_when_clocks_change() -> None:
    series = Series(date(2026, 10, 24), date(2026, 10, 26), time(9), time(9, 30), 30, "flu")
    slots = series.slots(BERLIN, names())  # type: ignore[arg-type]
    assert [datetime.fromtimestamp(slot.begins_s, UTC).hour for slot in slots] == [7, 8, 8]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"last": date(2026, 12, 20)}, "ends after it begins"),
        ({"ends": time(9)}, "ends after it begins"),
        ({"minutes": 0}, "1 to 1440 minutes"),
        ({"capacity": 101}, "1 to 100 people"),
        ({"minutes": 61}, "no slot fits"),
        ({"last": date(2030, 12, 20), "minutes": 1, "capacity": 100}, "make the series shorter"),
    ],
)
def test_a_series_that_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    from dataclasses import replace

    with pytest.raises((MalformedError, RefusedError), match=message):
        replace(WEEK, **changes).slots(BERLIN, names())  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["2026-13-01", "tomorrow", "", "2026-02-30", "1.12.2026"])
def test_what_is_no_day_or_time_is_refused(text: str) -> None:
    for read in (read_day, read_time, read_weekdays):
        with pytest.raises(PeewitError, match="write"):
            read(text)


def test_wishes_of_days_hours_and_services_are_met_in_the_order_of_time() -> None:
    slots = WEEK.slots(BERLIN, names())  # type: ignore[arg-type]
    day = (date(2026, 12, 23) - date(1970, 1, 1)).days
    assert [slot.begins_s for slot in fitting(slots, wishes(), BERLIN, 2)] == [s.begins_s for s in slots[:2]]
    assert fitting(slots, wishes(days=((day, day),)), BERLIN, 1) == [slots[6]]
    assert fitting(slots, wishes(hours=((10, 12),)), BERLIN, 1) == []
    assert len(fitting(slots, wishes(hours=((8, 10),)), BERLIN, 99)) == 21
    assert fitting([Slot(b"", 0, 10, "measles")], wishes(), BERLIN, 1) == []
    doubled = [*slots[:1], Slot(seed("other"), slots[0].begins_s, 20, "flu")]
    assert len(fitting(doubled, wishes(), BERLIN, 2)) == 1, "two at one time are no choice"


def test_who_needs_a_way_in_without_steps_or_a_language_is_offered_only_what_has_them() -> None:
    plain_place, good = (
        Facilities.of({"name": "clinic-a"}),
        Facilities.of(fields(step_free=True, languages=("de", "tr"))),
    )
    assert plain_place.suit(wishes())
    assert not plain_place.suit(wishes(step_free=1))
    assert good.suit(wishes(step_free=1))
    assert good.suit(wishes(languages=("en", "tr")))
    assert not good.suit(wishes(languages=("en",)))
    assert good.suit(wishes()), "who names no language is asked for none"
    assert plain_place.suit(wishes(languages=("en",))), "who states none may speak it"
    with pytest.raises(MalformedError):
        fields(step_free=False, languages=("Deutsch",))


def test_other_calendars_read_it() -> None:
    slot = Slot(bytes(15) + b"x", 1_798_000_000, 10, "flu")
    text = export_ics([(slot, "vaccination; with, commas\nand lines, " + "ü" * 80)], 1_797_000_000)
    lines = text.split("\r\n")
    assert lines[0] == "BEGIN:VCALENDAR"
    assert "DTSTART:20261223T042640Z" in lines
    assert "DTEND:20261223T043640Z" in lines
    assert all(len(line.encode()) <= 75 for line in lines)
    unfolded = text.replace("\r\n ", "")
    assert "SUMMARY:vaccination\\; with\\, commas\\nand lines\\, " + "ü" * 80 in unfolded
