"""Names as a machine reads them: ICAO Doc 9303, part 3, section 6, as the DCC's `fnt` and `gnt` have them.

    Müller-Weiß, Zoë Ana   ->   MUELLER<WEISS, ZOE<ANA

Rules kept here: letters of the Latin and Cyrillic scripts by the tables of section 6 A and B (where these give a
choice, the one that German, Danish and Swedish documents use: AE, OE, UE, AA); hyphens and spaces become one filler;
apostrophes, commas and full stops go; what is longer than the schema allows is cut at its end, as documents cut it.
A letter of another script is refused, for who transliterates it is the authority that issued the document: copy what
stands in its machine-readable lines.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from peewit_federation.errors import MalformedError

LENGTH_MAX: Final = 80
FILLER: Final = "<"

_LATIN: Final = {
    "Ä": "AE", "Æ": "AE", "Å": "AA", "Ö": "OE", "Ø": "OE", "Œ": "OE", "Ü": "UE", "ß": "SS", "ẞ": "SS", "Þ": "TH",
    "Ð": "D", "Đ": "D", "Ħ": "H", "ı": "I", "Ĳ": "IJ", "ĸ": "Q", "Ł": "L", "Ŋ": "N", "Ŧ": "T", "Ə": "E", "Ŀ": "L",
}  # fmt: skip
_CYRILLIC: Final = {
    "А": "A", "Б": "B", "В": "V", "Г": "G", "Д": "D", "Е": "E", "Ё": "E", "Ж": "ZH", "З": "Z", "И": "I", "Й": "I",
    "І": "I", "К": "K", "Л": "L", "М": "M", "Н": "N", "О": "O", "П": "P", "Р": "R", "С": "S", "Т": "T", "У": "U",
    "Ф": "F", "Х": "KH", "Ц": "TS", "Ч": "CH", "Ш": "SH", "Щ": "SHCH", "Ъ": "IE", "Ы": "Y", "Ь": "", "Э": "E",
    "Ю": "IU", "Я": "IA", "Ґ": "G", "Є": "IE", "Ї": "I", "Ў": "U", "Ђ": "D", "Ѕ": "DZ", "Ј": "J", "Љ": "LJ", "Њ": "NJ",
    "Ќ": "K", "Џ": "DZ", "Ѓ": "G", "Ћ": "C",
}  # fmt: skip
_LETTERS: Final = _LATIN | _CYRILLIC
_GAPS: Final = frozenset(" -‐‑‒–/<\u00a0")
_DROPPED: Final = frozenset("'’‘ʼ`´.,;:·")


def transliterate(name: str) -> str:
    """A name in capitals and fillers, at most 80. Raises `MalformedError` naming a letter that has no entry."""
    found: list[str] = []
    for character in unicodedata.normalize("NFC", name):
        if character in _DROPPED:
            continue
        found.append(FILLER if character in _GAPS else _letter(character))
    text = re.sub(f"{FILLER}+", FILLER, "".join(found)).strip(FILLER)
    return text[:LENGTH_MAX].rstrip(FILLER)


def read_machine(line: str) -> tuple[str, str]:
    """Family and given names as they stand in a document's machine-readable line, `SALAMA<<ALI<HASSAN`.

    Raises `MalformedError`.
    """
    family, _, given = line.strip().upper().rstrip(FILLER).partition(FILLER * 2)
    if not re.fullmatch(r"[A-Z]+(<[A-Z]+)*", family) or not re.fullmatch(r"([A-Z]+(<[A-Z]+)*)?", given):
        raise MalformedError("a machine-readable name is FAMILY<<GIVEN<NAMES, in the letters A to Z")
    return family[:LENGTH_MAX].rstrip(FILLER), given[:LENGTH_MAX].rstrip(FILLER)


def _letter(character: str) -> str:
    capital = character if character in _LETTERS else character.upper()
    if capital in _LETTERS:
        return _LETTERS[capital]
    # The base of a letter with accents (É, Ş, Ž), or a ligature taken apart.
    base = "".join(
        part for part in unicodedata.normalize("NFKD", capital) if unicodedata.category(part) not in ("Mn", "Lm")
    )
    if base and all("A" <= part <= "Z" for part in base):
        return base
    raise MalformedError(
        f"U+{ord(character):04X} in a name has no transliteration here; copy the name from the machine-readable lines "
        "of the identity document"
    )


def shorten(name: str) -> str:
    """A name as it is shown, of at most 80 characters; what is longer is cut at its end."""
    return unicodedata.normalize("NFC", name)[:LENGTH_MAX].rstrip()
