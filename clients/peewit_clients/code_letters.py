"""Letters with signup codes, to print and post: one page A4 each, without a name or address.

    letters-0001.pdf, letters-0002.pdf, …      up to 500 pages each, in the order of codes.csv

Rules kept here: the window of an envelope shows no part of a code, so the upper third stays empty for an address that
somebody else prints; files are readable by their owner only and never written over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from peewit_clients.words import Words
from peewit_federation.errors import OperatorError

if TYPE_CHECKING:
    from fpdf import FPDF

PAGES_MAX: Final = 500
MARGIN_MM: Final = 25
ADDRESS_MM: Final = 105
"Free at the top, down to the lower edge of an address window (DIN 5008, form B)."
SQUARE_MM: Final = 40


def write_letters(
    folder: Path, codes: Sequence[str], group: str, federation: str, say: Words, done: Callable[[int], object]
) -> list[Path]:
    """Write all letters; `done` hears after each file how many it has. Raises `OperatorError`."""
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(codes), PAGES_MAX):
            part = codes[start : start + PAGES_MAX]
            path = folder / f"letters-{start // PAGES_MAX + 1:04}.pdf"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_pages(part, group, federation, say))
            paths.append(path)
            done(len(part))
    except FileExistsError as error:
        raise OperatorError(f"{error.filename} exists already; letters are never written over") from None
    except OSError as error:
        raise OperatorError(f"{folder}: {error.strerror}") from None
    return paths


def _pages(codes: Sequence[str], group: str, federation: str, say: Words) -> bytes:
    from fpdf import FPDF  # half a second, for one command only

    pdf = FPDF(format="A4")
    pdf.set_title(say("letter_title"))
    pdf.set_margin(MARGIN_MM)
    whose = say("letter_group", group=group) if group else say("letter_everybody")
    title = _Text(pdf, say("letter_title"), 16, "B")
    body = _Text(pdf, say("letter_body", federation=federation, whose=whose), 11)
    how = _Text(pdf, say("letter_how", group=f" --group {group}" if group else ""), 11)
    care = _Text(pdf, say("letter_care"), 9)
    for code in codes:
        pdf.add_page()
        pdf.set_y(ADDRESS_MM)
        title.write()
        body.write()
        at_y = pdf.get_y() + 6
        _square(pdf, code, MARGIN_MM, at_y)
        pdf.set_xy(MARGIN_MM + SQUARE_MM + 10, at_y + 12)
        pdf.set_font("courier", style="B", size=15)
        pdf.cell(text=code)
        pdf.set_y(at_y + SQUARE_MM + 6)
        how.write()
        care.write()
    return bytes(pdf.output())


class _Text:
    """A paragraph that stands on every page: broken into lines once, which is most of the work."""

    def __init__(self, pdf: FPDF, text: str, size: int, style: str = "") -> None:
        from fpdf.enums import MethodReturnValue

        self._pdf, self._size, self._style = pdf, size, style
        ruler = type(pdf)(format="A4")
        ruler.add_page()
        ruler.set_font("helvetica", style=style, size=size)
        shown = text.encode("latin-1", "replace").decode("latin-1")
        width = pdf.w - 2 * MARGIN_MM
        lines = ruler.multi_cell(width, text=shown, align="L", dry_run=True, output=MethodReturnValue.LINES)
        self._lines = cast("list[str]", lines)

    def write(self) -> None:
        self._pdf.set_font("helvetica", style=self._style, size=self._size)
        for line in self._lines:
            self._pdf.cell(text=line or " ", new_x="LMARGIN", new_y="NEXT")
        self._pdf.ln(4)


def _square(pdf: FPDF, code: str, x: float, y: float) -> None:
    """The code as a QR code, in squares of ink: sharp at any resolution, and no image is stored."""
    import segno

    rows = [bytes(row) for row in segno.make_qr(code, error="q").matrix]
    step = SQUARE_MM / len(rows)
    for row, modules in enumerate(rows):
        start = 0
        while (dark := modules.find(1, start)) >= 0:
            start = next((at for at in range(dark, len(modules)) if not modules[at]), len(modules))
            pdf.rect(x + dark * step, y + row * step, (start - dark) * step, step, style="F")
