"""Paper and screens as people hold them before a camera: small, dim, creased, skewed, blurred, with other codes beside."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from peewit_clients import scan as module
from peewit_clients.paper import qr, write_page, write_picture
from peewit_clients.scan import read_picture, scan
from peewit_federation.errors import LimitError, MalformedError, OperatorError
from peewit_federation.passports import pw1
from tests.passports.kit import passport
from tests.passports.vectors import FOLDER, vectors

TEXTS = {"hc1": passport().hc1, "pw1": passport().pw1}


def code(text: str, pixels: int = 600) -> Image.Image:
    """As it stands on paper: dark on white, with its quiet zone."""
    held = io.BytesIO()
    qr(text).save(held, kind="png", scale=8, border=4)
    return Image.open(held).convert("L").resize((pixels, pixels), Image.Resampling.LANCZOS)


def on_a_desk(image: Image.Image) -> Image.Image:
    desk = Image.new("L", (int(image.width * 1.8), int(image.height * 1.8)), 150)
    desk.paste(image, (int(image.width * 0.4), int(image.height * 0.4)))
    return desk


def noise(image: Image.Image, sigma: float) -> Image.Image:
    grain = Image.effect_noise(image.size, sigma)
    return Image.blend(image, grain, 0.2)


def dim(image: Image.Image) -> Image.Image:
    return noise(ImageEnhance.Brightness(ImageEnhance.Contrast(image).enhance(0.35)).enhance(0.35), 20)


def shadow(image: Image.Image) -> Image.Image:
    """A hand over one half, and light that falls off."""
    ramp = Image.linear_gradient("L").rotate(90).resize(image.size)
    return Image.composite(image, ImageEnhance.Brightness(image).enhance(0.3), ramp)


def creased(image: Image.Image) -> Image.Image:
    """Folded twice: a bright line each way, where the ink has come off, and a dark one beside it."""
    paper, random = image.copy(), Random("creases")
    draw = ImageDraw.Draw(paper)
    for at in (image.width // 2, image.width // 3):
        lean = random.randrange(-6, 6)
        draw.line([(at, 0), (at + lean, image.height)], fill=235, width=max(3, image.width // 150))
        draw.line([(at + 4, 0), (at + lean + 4, image.height)], fill=120, width=1)
    draw.line(
        [(0, image.height // 2), (image.width, image.height // 2 + 5)], fill=235, width=max(3, image.width // 150)
    )
    return paper


def skewed(image: Image.Image) -> Image.Image:
    """Photographed from the side."""
    desk = on_a_desk(image)
    w, h = desk.size
    corners = (0, 0, w * 0.06, h, w * 0.97, h * 0.9, w, h * 0.1)
    return desk.transform(desk.size, Image.Transform.QUAD, corners, Image.Resampling.BICUBIC)


def stained(image: Image.Image) -> Image.Image:
    paper = image.copy()
    x, y, r = image.width * 0.62, image.height * 0.6, image.width * 0.06
    ImageDraw.Draw(paper).ellipse([x - r, y - r, x + r, y + r], fill=90)
    return paper


def as_photograph(image: Image.Image) -> Image.Image:
    held = io.BytesIO()
    tilted = on_a_desk(image).rotate(17, expand=True, fillcolor=150, resample=Image.Resampling.BICUBIC)
    tilted.filter(ImageFilter.GaussianBlur(1.2)).save(held, "JPEG", quality=35)
    return Image.open(held)


def small(image: Image.Image) -> Image.Image:
    """PW1 has to be readable at 300 x 300 pixels."""
    return image.resize((300, 300), Image.Resampling.LANCZOS)


def colours(image: Image.Image) -> Image.Image:
    return Image.merge("RGBA", (image, image, Image.eval(image, lambda v: v // 2), Image.new("L", image.size, 255)))


WAYS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda image: image, "dim": dim, "shadow": shadow, "creased": creased, "skewed": skewed,
    "stained": stained, "photograph": as_photograph, "small": small, "upside down": lambda image: image.rotate(180),
    "dark mode": lambda image: Image.eval(image, lambda v: 255 - v), "coloured": colours,
    "creased and dim": lambda image: dim(creased(image)), "skewed and blurred": lambda image: skewed(image).filter(
        ImageFilter.GaussianBlur(1.5)),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", TEXTS)
def test_a_code_is_read_as_people_hold_it(form: str, way: str) -> None:
    assert read_picture(WAYS[way](code(TEXTS[form]))) == [TEXTS[form]]


def test_what_is_destroyed_is_not_guessed() -> None:
    ruined = code(TEXTS["hc1"])
    ImageDraw.Draw(ruined).rectangle([150, 0, 400, 600], fill=128)
    assert read_picture(ruined) == []
    assert read_picture(Image.new("L", (50, 50))) == []
    assert read_picture(Image.effect_noise((400, 400), 80)) == []


def test_two_passports_in_one_picture_are_two_and_other_codes_beside_one_do_not_matter() -> None:
    table = Image.new("L", (1400, 700), 255)
    table.paste(code(TEXTS["hc1"]), (20, 20))
    table.paste(code(TEXTS["pw1"]), (720, 20))
    assert sorted(read_picture(table)) == sorted(TEXTS.values())
    table.paste(code("https://example.org/menu"), (720, 20))
    assert read_picture(table) == [TEXTS["hc1"]]


def test_files_of_all_kinds_are_read_and_frames_of_one_showing_are_one(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", TEXTS["hc1"])
    write_picture(tmp_path / "a.svg", TEXTS["hc1"])
    write_page(tmp_path / "a.pdf", TEXTS["hc1"], "Impfpass", [("Name", "Müller 王")], "Hinweis", "de")
    code(TEXTS["hc1"]).save(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text(f"{TEXTS['hc1']}\n\n{TEXTS['pw1']}\n")
    for name in ("a.png", "a.pdf", "a.jpg"):
        assert [texts for _, texts in scan(tmp_path / name)] == [[TEXTS["hc1"]]]
        assert (tmp_path / name).stat().st_mode & 0o077 == 0 or name == "a.jpg"
    assert [texts for _, texts in scan(tmp_path / "a.txt")] == [[TEXTS["hc1"]], [TEXTS["pw1"]]]
    frames = tmp_path / "frames"
    frames.mkdir()
    code(TEXTS["pw1"]).filter(ImageFilter.GaussianBlur(20)).save(frames / "1.png")
    (frames / "2.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    code(TEXTS["pw1"]).save(frames / "3.png")
    assert [texts for _, texts in scan(frames)] == [[TEXTS["pw1"]]]
    code(TEXTS["hc1"]).save(frames / "4.png")
    assert [sorted(texts) for _, texts in scan(frames)] == [sorted(TEXTS.values())], "two people's are two"
    Image.new("L", (2000, 1)).save(tmp_path / "thin.png")
    assert [texts for _, texts in scan(tmp_path / "thin.png")] == [[]]
    with pytest.raises(OperatorError, match=r"ends in \.png or \.svg"):
        write_picture(tmp_path / "a.gif", "x")


def test_the_page_is_one_tagged_page_with_its_language_and_one_code(tmp_path: Path) -> None:
    import pypdfium2

    lines = [("geboren", "1940-08-12"), ("Name", "Анна Ивáнова")]
    write_page(tmp_path / "a.pdf", TEXTS["hc1"], "Impfpass", lines, "Hinweis", "de")
    data = (tmp_path / "a.pdf").read_bytes()
    assert b"/StructTreeRoot" in data
    assert {kind: data.count(b"/S " + kind) for kind in (b"/H1", b"/P", b"/Figure")} == {
        b"/H1": 1,
        b"/P": 3,
        b"/Figure": 1,
    }
    assert b"/Lang (de)" in data or b"(de)" in data
    with pypdfium2.PdfDocument(data) as document:
        assert len(document) == 1
        shown = document[0].get_textpage().get_text_range()
        assert "1940-08-12" in shown
        assert "Anna Ivanova" in shown, "a name that the font lacks stands as machines read it"


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.png", b""), ("a.jpg", b"\xff\xd8\xff\xe0" + bytes(50)), ("a.pdf", b"%PDF-1.7 nonsense"), ("a.gif", b"GIF89a"),
     ("a.bin", b"\xff\xfe\x00")],
)  # fmt: skip
def test_what_is_no_picture_is_refused_in_a_sentence(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(MalformedError, match=r"a\.\w+: (not a|neither)"):
        list(scan(tmp_path / name))


def test_a_picture_or_file_that_is_too_large_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = math.isqrt(module.PIXELS_MAX) + 1000
    Image.new("1", (side, side)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    with pytest.raises(LimitError, match="pixels"):
        list(scan(tmp_path / "bomb.png"))
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 10)
    (tmp_path / "long.txt").write_text("x" * 11)
    with pytest.raises(LimitError, match="bytes"):
        list(scan(tmp_path / "long.txt"))
    with pytest.raises(OperatorError):
        list(scan(tmp_path / "nothing.png"))


def test_codes_are_no_larger_than_those_of_the_official_vaccinations() -> None:
    official = [
        qr(vector.fields["PREFIX"]).version
        for vector in vectors() if "v" in (vector.fields.get("JSON") or {}) and "PREFIX" in vector.fields
    ]  # fmt: skip
    if not official:
        pytest.skip(f"no official vectors in {FOLDER.name}")
    usual = sorted(official)[len(official) // 2]
    assert int(qr(TEXTS["hc1"]).version) <= int(usual)
    assert int(qr(pw1.unpack(TEXTS["pw1"]).pack()).version) <= int(usual) + 2
