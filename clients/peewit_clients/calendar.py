"""A practice's calendar: slots of one person each, made one by one or in series, and written down for other programs.

Rules kept here: a slot is for one person; a capacity of three is three slots at one time. Times of a series are those
of the wall clock in the practice's time zone, also on the days when clocks change. Nothing here knows who comes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from peewit_clients.words import said
from peewit_federation.appointment.request import Wishes
from peewit_federation.errors import MalformedError, RefusedError

SLOT_BYTES: Final = 16
YEARS: Final = (1000, 2200)
SLOTS_MAX: Final = 20_000
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Slot:
    """A time in the calendar for one person."""

    name: bytes
    begins_s: int
    minutes: int
    service: str


@dataclass(frozen=True)
class Series:
    """Slots of equal length, one after the other, on some days."""

    first: date
    last: date
    begins: time
    ends: time
    minutes: int
    service: str
    weekdays: frozenset[int] = frozenset(range(7))
    "0 is Monday."
    exceptions: frozenset[date] = frozenset()
    capacity: int = 1

    def slots(self, zone: tzinfo | None, randomness: Callable[[int], bytes]) -> list[Slot]:
        """All of them, in order. Raises `MalformedError` or `RefusedError`."""
        if self.last < self.first or self.ends <= self.begins:
            raise MalformedError(said("error_series"))
        if not 1 <= self.minutes <= 1440 or not 1 <= self.capacity <= 100:
            raise MalformedError(said("error_minutes"))
        found: list[Slot] = []
        for number in range((self.last - self.first).days + 1):
            day = self.first + timedelta(number)
            if day.weekday() not in self.weekdays or day in self.exceptions:
                continue
            at, end = datetime.combine(day, self.begins), datetime.combine(day, self.ends)
            while at + timedelta(minutes=self.minutes) <= end:
                begins_s = int(at.replace(tzinfo=zone).timestamp()) if zone else int(at.timestamp())
                names = (randomness(SLOT_BYTES) for _ in range(self.capacity))
                found += [Slot(name, begins_s, self.minutes, self.service) for name in names]
                if len(found) > SLOTS_MAX:
                    raise RefusedError(said("error_slots", count=SLOTS_MAX))
                at += timedelta(minutes=self.minutes)
        if not found:
            raise MalformedError(said("error_no_slot"))
        return found


def read_day(text: str) -> date:
    """`2026-12-24`, of a year that people and computers can reckon with. Raises `MalformedError`."""
    try:
        found = date.fromisoformat(text) if len(text) == len("2026-12-24") else None
    except ValueError:
        found = None
    if found is None or not YEARS[0] <= found.year <= YEARS[1]:
        raise MalformedError(said("error_day", text=text))
    return found


def read_time(text: str) -> time:
    """`09:30`. Raises `MalformedError`."""
    if re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text, re.ASCII):
        return time.fromisoformat(text)
    raise MalformedError(said("error_time", text=text))


def read_weekdays(text: str) -> frozenset[int]:
    """`mon,wed,fri`. Raises `MalformedError`."""
    words = [word.strip().lower() for word in text.split(",")]
    unknown = [word for word in words if word not in WEEKDAYS]
    if unknown:
        raise MalformedError(said("error_weekday", text=unknown[0], days=", ".join(WEEKDAYS)))
    return frozenset(WEEKDAYS.index(word) for word in words)


def fitting(slots: Iterable[Slot], wishes: Wishes, zone: tzinfo | None, count: int) -> list[Slot]:
    """The first slots that fit somebody's wishes, at different times, in the order of time."""
    found: dict[int, Slot] = {}
    for slot in sorted(slots, key=lambda slot: (slot.begins_s, slot.name)):
        if slot.begins_s not in found and _fits(slot, wishes, zone):
            found[slot.begins_s] = slot
        if len(found) == count:
            break
    return list(found.values())


def _fits(slot: Slot, wishes: Wishes, zone: tzinfo | None) -> bool:
    at = datetime.fromtimestamp(slot.begins_s, zone)
    day, hour = (at.date() - date(1970, 1, 1)).days, at.hour
    return (
        slot.service in wishes.services
        and (not wishes.days or any(first <= day <= last for first, last in wishes.days))
        and (not wishes.hours or any(begins <= hour < ends for begins, ends in wishes.hours))
    )


def export_ics(slots: Sequence[tuple[Slot, str]], now_s: float) -> str:
    """Slots with what is to be read of each, for other calendars (RFC 5545)."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//peewit//calendar//EN"]
    for slot, summary in slots:
        lines += [
            "BEGIN:VEVENT", f"UID:{slot.name.hex()}@peewit", f"DTSTAMP:{_stamp(now_s)}",
            f"DTSTART:{_stamp(slot.begins_s)}", f"DTEND:{_stamp(slot.begins_s + 60 * slot.minutes)}",
            f"SUMMARY:{_escaped(summary)}", "END:VEVENT",
        ]  # fmt: skip
    return "".join(_folded(line) + "\r\n" for line in [*lines, "END:VCALENDAR"])


def _stamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y%m%dT%H%M%SZ")


def _escaped(text: str) -> str:
    return re.sub(r"([\\;,])", r"\\\1", text).replace("\n", "\\n")


def _folded(line: str) -> str:
    """Lines of at most 75 octets, continued after a space (RFC 5545, 3.1)."""
    parts, part = [], ""
    for character in line:
        if len((part + character).encode()) > 74:
            parts.append(part)
            part = ""
        part += character
    return "\r\n ".join([*parts, part])
