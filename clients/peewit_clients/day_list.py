"""The day list of a practice, to print: who comes when, with the code that each shows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from peewit_clients.bookings import Booking
from peewit_clients.checkin import check_in_code
from peewit_clients.latin import latin
from peewit_federation.errors import OperatorError

COLUMNS = ("time", "min", "service", "name", "born", "code")
WIDTHS = (16, 12, 30, 70, 25, 27)


def rows(bookings: Sequence[Booking]) -> list[tuple[str, ...]]:
    """One row for each booking, in the order of time."""
    found: list[tuple[str, ...]] = []
    for booking in sorted(bookings, key=lambda booking: (booking.slot.begins_s, booking.slot.name)):
        at, person = time.localtime(booking.slot.begins_s), booking.person
        found.append((
            time.strftime("%H:%M", at), str(booking.slot.minutes), booking.slot.service,
            f"{person.family_name}, {person.given_name}", person.born.isoformat(), check_in_code(booking.accept.nonce),
        ))  # fmt: skip
    return found


def write_pdf(path: Path, title: str, heads: Sequence[str], bookings: Sequence[Booking], language: str) -> None:
    """One or more pages A4. Raises `OperatorError`."""
    from fpdf import FPDF  # half a second, for one command only

    page = FPDF(format="A4")
    page.set_title(title)
    page.set_lang(language)
    page.add_page()
    page.set_font("helvetica", style="B", size=14)
    page.cell(text=latin(title), new_x="LMARGIN", new_y="NEXT")
    page.set_font("helvetica", size=10)
    with page.table(col_widths=WIDTHS, text_align="LEFT") as table:
        for values in (heads, *rows(bookings)):
            row = table.row()
            for value in values:
                row.cell(latin(value))
    try:
        path.touch(mode=0o600)
        page.output(str(path))
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None
