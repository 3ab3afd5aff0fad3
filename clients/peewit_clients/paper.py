"""A passport to show: QR code as PNG, SVG or in the terminal, and a page to print and fold.

Rules kept here: codes have error correction Q (25 %) and a quiet zone of four modules, as the EU specification has it;
the page carries one code, so that a camera that sees it sees one; all of it is tagged, the code with its meaning as its
text, so that a screen reader can read it; files are readable by their owner only.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import segno

from peewit_clients.latin import latin
from peewit_federation.errors import OperatorError

CODE_MM: Final = 70
MARGIN_MM: Final = 20


def qr(text: str) -> segno.QRCode:
    """The code of a passport."""
    return segno.make_qr(text, error="q", boost_error=False)


def show_in_terminal(text: str) -> None:
    """Print the code. A screen has no creases: less correction, so that it is smaller."""
    segno.make_qr(text, error="l", boost_error=False).terminal(compact=True)


def write_picture(path: Path, text: str) -> None:
    """A PNG or an SVG, by the name's end. Raises `OperatorError`."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise OperatorError(f"{path}: a picture ends in .png or .svg")
    held = io.BytesIO()
    qr(text).save(held, kind=kind, scale=8, border=4)
    _write(path, held.getvalue())


def write_page(path: Path, text: str, title: str, lines: Sequence[tuple[str, str]], hint: str, language: str) -> None:
    """One page A4: the code above the fold line, what it says below. Raises `OperatorError`."""
    from fpdf import FPDF  # half a second, for one command only

    class Page(FPDF):
        @contextmanager
        def tagged(self, kind: str) -> Iterator[None]:
            """What is printed within is a structure element (ISO 32000-1, section 14.8.4)."""
            number = self.struct_builder.next_mcid_for_page(self.page)
            self._add_marked_content(struct_type=kind, mcid=number)
            self._out(f"{kind} <</MCID {number}>> BDC")
            yield
            self._out("EMC")

    pdf = Page(format="A4")
    pdf.set_title(title)
    pdf.set_lang(language)
    pdf.set_margin(MARGIN_MM)
    pdf.add_page()
    pdf.set_font("helvetica", style="B", size=18)
    pdf.start_section(latin(title))
    with pdf.tagged("/H1"):
        pdf.cell(text=latin(title), new_x="LMARGIN", new_y="NEXT")
    picture = io.BytesIO()
    qr(text).save(picture, kind="png", scale=8, border=4)
    picture.seek(0)
    said = ", ".join(f"{name}: {value}" for name, value in lines)
    pdf.image(picture, x=(pdf.w - CODE_MM) / 2, y=50, w=CODE_MM, alt_text=f"{title}. {said}", title=title)
    pdf.set_draw_color(160)
    pdf.set_dash_pattern(dash=2, gap=2)
    pdf.line(0, pdf.h / 2, pdf.w, pdf.h / 2)
    pdf.set_dash_pattern()
    pdf.set_y(pdf.h / 2 + 12)
    for name, value in lines:
        with pdf.tagged("/P"):
            pdf.set_font("helvetica", size=11)
            pdf.cell(50, 8, text=latin(name))
            pdf.set_font("helvetica", style="B", size=13)
            pdf.cell(0, 8, text=latin(value), new_x="LMARGIN", new_y="NEXT")
    pdf.ln(8)
    pdf.set_font("helvetica", size=10)
    with pdf.tagged("/P"):
        pdf.multi_cell(0, text=latin(hint), new_x="LMARGIN", new_y="NEXT")
    _write(path, bytes(pdf.output()))


def _write(path: Path, data: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # it may have been there
            file.write(data)
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None
