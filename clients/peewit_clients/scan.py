"""Finding the code in what somebody holds before us: a text, an image, a PDF, or a folder of camera frames.

    for name, texts in scan(path):
        …                              no text: no code was found; two: show one at a time

Rules kept here: pictures are bounded before they are unpacked; of dim, small or skewed ones several renderings are
tried, the plain one first; frames of one folder are one showing. Nothing is kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import zxingcpp
from PIL import Image, ImageFilter, ImageOps

from peewit_federation.errors import LimitError, MalformedError, OperatorError, SenderError

FILE_BYTES_MAX: Final = 32 << 20
PIXELS_MAX: Final = 60_000_000
SIDE_PIXELS_MAX: Final = 20_000
PAGES_MAX: Final = 20
FRAMES_MAX: Final = 2_000
SMALL_PIXELS: Final = 900
PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
FORMATS: Final = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
PREFIXES: Final = ("HC1:", "PW1:")


def scan(path: Path) -> Iterator[tuple[str, list[str]]]:
    """What each thing to be verified holds: (its name, different codes). Raises `OperatorError` or `SenderError`."""
    if path.is_dir():
        yield str(path), _frames(path)
    elif path.suffix.lower() in PICTURES:
        yield str(path), read_picture(_open(path))
    elif path.suffix.lower() == ".pdf":
        yield str(path), _pdf(path)
    elif path.suffix.lower() == ".svg":
        raise MalformedError(f"{path}: an SVG is for printing, and is not read; show it, or save it as .png")
    else:
        for number, line in enumerate(_lines(path), start=1):
            yield f"{path}:{number}", [line]


def read_picture(image: Image.Image, *, plainly: bool = False) -> list[str]:
    """The texts of the QR codes in a picture, each once; `plainly`, without trying hard."""
    others: dict[str, None] = {}
    for shown in islice(_renderings(image), 1 if plainly else None):
        found = zxingcpp.read_barcodes(shown, formats=FORMATS)
        texts = list(dict.fromkeys(code.text for code in found if code.text))
        if any(text.startswith(PREFIXES) for text in texts):
            return _passports(texts)
        others |= dict.fromkeys(texts)  # a poster beside it, which is easier to read
    return list(others)


def _renderings(image: Image.Image) -> Iterator[Image.Image]:
    grey = image.convert("L")
    yield grey
    even = ImageOps.autocontrast(grey, cutoff=2)
    yield even
    for factor in (2, 3) if max(grey.size) <= SMALL_PIXELS else (2,) if max(grey.size) <= 2 * SMALL_PIXELS else ():
        yield even.resize((grey.width * factor, grey.height * factor), Image.Resampling.LANCZOS)
    yield even.filter(ImageFilter.UnsharpMask(radius=3, percent=250))
    yield even.filter(ImageFilter.MedianFilter(3))
    # Uneven light: each point against the mean of its neighbourhood.
    mean = even.filter(ImageFilter.BoxBlur(max(8, min(grey.size) // 20)))
    lifted = Image.eval(mean, lambda value: max(0, value - 12))
    yield Image.composite(Image.new("L", grey.size, 255), Image.new("L", grey.size, 0), _brighter(even, lifted))
    if max(grey.size) > SMALL_PIXELS:
        yield even.resize((max(1, grey.width // 2), max(1, grey.height // 2)), Image.Resampling.LANCZOS)


def _brighter(one: Image.Image, other: Image.Image) -> Image.Image:
    from PIL import ImageChops

    return ImageChops.subtract(one, other).point(lambda value: 255 if value else 0)


def _open(path: Path) -> Image.Image:
    _check_size(path)
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            image = Image.open(file)
            if image.width * image.height > PIXELS_MAX:
                raise LimitError(f"{path}: {image.width} x {image.height} pixels; at most {PIXELS_MAX:,} are read")
            image.load()
            return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError, MemoryError) as error:
        raise MalformedError(f"{path}: not a picture that can be read ({type(error).__name__})") from None


def _pdf(path: Path) -> list[str]:
    import pypdfium2

    _check_size(path)
    texts: dict[str, None] = {}
    try:
        with pypdfium2.PdfDocument(path) as document:
            for number in range(min(len(document), PAGES_MAX)):
                page = document[number]
                width, height = page.get_size()
                longest = max(1.0, width, height)
                scale = min(3.0, SIDE_PIXELS_MAX / longest, (PIXELS_MAX / max(1.0, width * height)) ** 0.5)
                texts.update(dict.fromkeys(read_picture(page.render(scale=scale).to_pil())))
    except (pypdfium2.PdfiumError, ValueError) as error:
        raise MalformedError(f"{path}: not a PDF that can be read ({error})") from None
    return _passports(texts)


def _frames(folder: Path) -> list[str]:
    try:
        frames = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    except OSError as error:
        raise OperatorError(f"{folder}: {error.strerror}") from None
    if not frames:
        raise MalformedError(f"{folder}: no pictures in it")
    texts: dict[str, None] = {}
    for path in frames[:FRAMES_MAX]:
        try:
            # Once one frame was read, the others only matter if they show somebody else's.
            texts.update(dict.fromkeys(read_picture(_open(path), plainly=bool(texts))))
        except SenderError:
            continue  # a frame that was cut off, or is none
    return _passports(texts)


def _passports(texts: Iterable[str]) -> list[str]:
    """Those of passports; if there are none, whatever codes there are."""
    found = list(texts)
    return [text for text in found if text.startswith(PREFIXES)] or found


def _lines(path: Path) -> list[str]:
    _check_size(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise MalformedError(f"{path}: neither a picture, nor a PDF, nor a text") from None
    return [line.strip("\r\n\t") for line in text.splitlines() if line.strip()]


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None
    if size > FILE_BYTES_MAX:
        raise LimitError(f"{path}: {size} bytes; at most {FILE_BYTES_MAX} are read")
